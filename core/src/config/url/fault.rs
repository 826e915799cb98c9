//! What is wrong with a URL, said without its password.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use super::{Kind, SCHEMES};
use crate::config::error::{Verdict, nearest, showable};
use crate::config::{ConfigError, Place, URL_EXAMPLE};

/// A URL, and what of it could be a password.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    /// The bytes that are never shown: everything between scheme and last `@`. A password with
    /// an unescaped delimiter in it is cut into wrong parts; all of them lie in here.
    secret: Range<usize>,
}

impl<'a> Source<'a> {
    /// `after_scheme` is the first byte that could belong to credentials.
    pub(super) fn new(text: &'a str, after_scheme: usize) -> Self {
        let secret = after_scheme..text.rfind('@').unwrap_or(after_scheme).max(after_scheme);
        Source { text, secret }
    }

    /// The piece at `range` is wrong. It is shown unless it could be part of a password.
    pub(super) fn fault(
        &self,
        verdict: Verdict,
        setting: impl Into<Cow<'static, str>>,
        range: Range<usize>,
    ) -> ConfigError {
        let mut error = ConfigError::new(verdict, setting)
            .with_found(&self.text[range.clone()])
            .at(self.place(range.clone()));
        if range.start < self.secret.end && self.secret.start < range.end {
            error.hide_found();
        }
        error
    }

    /// The same for a piece that might be a password whose `@` was forgotten.
    pub(super) fn doubtful_fault(
        &self,
        verdict: Verdict,
        setting: &'static str,
        range: Range<usize>,
    ) -> ConfigError {
        let mut error = self.fault(verdict, setting, range.clone());
        if !showable(&self.text[range]) {
            error.hide_found();
        }
        error
    }

    /// These bytes, counted in characters.
    pub(super) fn place(&self, range: Range<usize>) -> Place {
        let start = self.text[..range.start].chars().count();
        let end = start + self.text[range].chars().count();
        Place::Url { characters: start..end, variable: None }
    }
}

/// What would keep any URL from being read: nothing there, quotes, white space.
pub(super) fn check_text(text: &str) -> Result<(), ConfigError> {
    let source = Source::new(text, 0);
    if text.is_empty() {
        let error = source.fault(Verdict::Missing, "URL", 0..0);
        return Err(error.with_advice("expected a URL, found nothing"));
    }
    if text.starts_with(['"', '\'']) {
        let error = source.fault(Verdict::Invalid, "quotation mark", 0..1);
        return Err(error.with_advice("expected the URL without quotation marks around it"));
    }
    let Some((start, c)) = text.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control())
    else {
        return Ok(());
    };
    let error = source.fault(Verdict::Invalid, "character", start..start + c.len_utf8());
    let outside = text.trim().is_empty()
        || text.len() - text.trim_start().len() > start
        || text.trim_end().len() <= start;
    Err(if outside {
        error.with_advice("expected no white space around the URL")
    } else {
        error
            .with_advice("expected neither white space nor control characters; percent-encode them")
            .with_example("redis://:two%20words@localhost:6379")
    })
}

/// A URL without `://`.
pub(super) fn no_scheme(text: &str) -> ConfigError {
    let lower = text.to_ascii_lowercase();
    let address_end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let address = &text[..address_end];
    for (scheme, kind, _) in SCHEMES.iter().rev() {
        let Some(rest) = lower.strip_prefix(scheme) else { continue };
        let marks = rest.bytes().take_while(|byte| matches!(byte, b':' | b'/')).count();
        if (marks > 0 || rest.is_empty()) && !is_address(address) {
            return Source::new(text, scheme.len() + marks)
                .fault(Verdict::Invalid, "scheme", 0..scheme.len() + marks)
                .with_advice("expected :// after the scheme")
                .with_example(kind.example());
        }
    }
    let source = Source::new(text, 0);
    let mut error = source.fault(Verdict::Missing, "scheme", 0..address_end);
    if is_address(address) {
        return error
            .with_advice("expected a scheme before the address")
            .with_example(format!("redis://{address}"));
    }
    if !address.is_empty() {
        error.hide_found();
    }
    error.with_advice("expected a URL that begins with a scheme and ://")
}

/// A text before `://` that is no scheme of ours.
pub(super) fn unknown_scheme(text: &str, end: usize) -> ConfigError {
    let scheme = &text[..end];
    let lower = scheme.to_ascii_lowercase();
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() {
        let error = Source::new(text, 0).fault(Verdict::Missing, "scheme", 0..0);
        return error.with_advice("expected a scheme before ://");
    }
    if scheme.len() > 20 || !scheme.chars().all(is_scheme) {
        let mut error = Source::new(text, 0).fault(Verdict::Unknown, "scheme", 0..end);
        error.hide_found();
        return error.with_advice("expected a scheme such as redis, unix or memory before ://");
    }
    let error = Source::new(text, end).fault(Verdict::Unknown, "scheme", 0..end);
    let names = SCHEMES.iter().map(|(name, ..)| *name);
    match lower.as_str() {
        "http" | "https" => error.with_advice("expected a Redis URL: this is not an HTTP client"),
        "tcp" => error.with_advice("expected redis, which is over TCP"),
        "tls" | "ssl" | "redis+tls" | "redis+ssl" => error
            .with_advice("expected rediss, which is Redis over TLS")
            .with_example("rediss://localhost:6379"),
        _ => match nearest(&lower, names, 2) {
            Some(near) => {
                let kind = SCHEMES.iter().find(|(name, ..)| *name == near).map(|known| known.1);
                let example = kind.map_or(URL_EXAMPLE, Kind::example);
                error.with_advice(format!("did you mean {near}?")).with_example(example)
            }
            None => error.with_advice(
                "expected redis, valkey, unix or memory, \
                 or one of these with s for TLS, +unix, +cluster or +sentinel",
            ),
        },
    }
}

/// Whether this is surely an address and not, say, a password: `localhost`, a literal address,
/// or a name and a port.
pub(in crate::config) fn is_address(text: &str) -> bool {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    text == "localhost"
        || text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
        || text.rsplit_once(':').is_some_and(|(host, digits)| name(host) && port(digits))
}

//! From a URL to a configuration.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

use super::fault::{self, Source};
use super::{Kind, SCHEMES};
use crate::config::endpoint::{self, BadHost, PORT_DEFAULT, SENTINEL_PORT_DEFAULT};
use crate::config::error::{Verdict, nearest, showable};
use crate::config::parameters::{self, PARAMETERS};
use crate::config::{Config, ConfigError, Deployment, Endpoint, Place, Secret};

/// A URL that was read, and not yet validated.
pub(in crate::config) struct Parsed<'a> {
    pub(in crate::config) config: Config,
    source: Source<'a>,
    /// What the URL says outright, and where.
    parts: Vec<(&'static str, Range<usize>)>,
}

/// Reads a URL. What it says is checked one by one; see [`Parsed::validated`] for the rest.
pub(in crate::config) fn parse(text: &str) -> Result<Parsed<'_>, ConfigError> {
    fault::check_text(text)?;
    let Some(scheme_end) = text.find("://") else { return Err(fault::no_scheme(text)) };
    let scheme = text[..scheme_end].to_ascii_lowercase();
    let Some((_, kind, tls)) = SCHEMES.iter().find(|(name, ..)| *name == scheme) else {
        return Err(fault::unknown_scheme(text, scheme_end));
    };
    let mut config = Config::memory();
    config.tls = *tls;
    let parts = vec![("scheme", 0..scheme_end)];
    let source = Source::new(text, scheme_end + 3);
    let mut parser = Parser { parsed: Parsed { config, source, parts }, kind: *kind };
    parser.rest(scheme_end + 3)?;
    Ok(parser.parsed)
}

/// Reads addresses with commas between them, as the variable `name` has them.
pub(in crate::config) fn nodes(text: &str) -> Result<Vec<Endpoint>, ConfigError> {
    let parsed =
        Parsed { config: Config::memory(), source: Source::new(text, 0), parts: Vec::new() };
    Parser { parsed, kind: Kind::Cluster }.endpoints(0..text.len())
}

impl Parsed<'_> {
    /// Whether the URL says this outright: a part of it, or the name of a parameter.
    pub(in crate::config) fn says(&self, part: &str) -> bool {
        self.parts.iter().any(|(name, _)| *name == part)
    }

    /// The configuration, if it is valid; else the error with its place in the URL.
    pub(in crate::config) fn validated(self) -> Result<Config, ConfigError> {
        self.config.validate().map_err(|error| {
            let Place::Builder(name) = *error.place() else { return error };
            // Of two settings that contradict each other the URL may name only the second; the
            // example has both.
            let example = error.example().to_owned();
            let second = example.split(['?', '&', '=']).nth(3).unwrap_or_default();
            let names = match name {
                "database" => ["db", "db"],
                "deployment" | "tls" => ["scheme", "scheme"],
                "password" => ["password", "username"],
                _ => [name, second],
            };
            let mut found = names.iter().filter_map(|name| self.part(name));
            let Some(range) = found.next() else { return error };
            let place = self.source.place(range.clone());
            let mut error = match names[0] {
                "scheme" => error.with_found(&self.source.text[range]),
                _ => error,
            };
            if names[0] == "password" {
                error.hide_found();
            }
            error.at(place)
        })?;
        Ok(self.config)
    }

    fn part(&self, part: &str) -> Option<Range<usize>> {
        let known = self.parts.iter().find(|(name, _)| *name == part);
        known.map(|(_, range)| range.clone())
    }
}

struct Parser<'a> {
    parsed: Parsed<'a>,
    kind: Kind,
}

impl Parser<'_> {
    /// Everything behind `://`, which ends at `start`.
    fn rest(&mut self, start: usize) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        if let Some(hash) = text.find('#') {
            return Err(self
                .fault(Verdict::Invalid, "fragment", hash..hash + 1)
                .with_advice("there are no fragments here; a '#' in a password is written %23")
                .with_example("redis://:pass%23word@localhost:6379"));
        }
        let from = |start: usize, marks: &[char]| {
            text[start..].find(marks).map_or(text.len(), |found| start + found)
        };
        let authority = start..from(start, &['/', '?']);
        let path = authority.end..from(authority.end, &['?']);
        self.authority(authority.clone(), path.clone()).map_err(|error| {
            // A delimiter inside the password cuts the authority short; the `@` is further on.
            let cut = text[authority.end..].contains('@') && !text[authority.clone()].contains('@');
            if cut { self.unescaped(authority.end) } else { error }
        })?;
        self.path(path.clone())?;
        if path.end < text.len() {
            self.query(path.end + 1..text.len())?;
        }
        Ok(())
    }

    fn authority(
        &mut self,
        authority: Range<usize>,
        path: Range<usize>,
    ) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        let mut hosts = authority.clone();
        if let Some(at) = text[authority.clone()].rfind('@') {
            hosts.start = authority.start + at + 1;
            self.credentials(authority.start..authority.start + at)?;
        }
        match self.kind {
            Kind::Memory | Kind::Unix if !hosts.is_empty() => {
                let mut error = self.parsed.source.doubtful_fault(Verdict::Invalid, "host", hosts);
                if text[authority].contains(':') {
                    error.hide_found();
                }
                let advice = if self.kind == Kind::Memory {
                    "the embedded store has no host: expected nothing after memory://"
                } else {
                    "expected no host: the path of a socket begins with a third slash"
                };
                Err(error.with_advice(advice).with_example(self.kind.example()))
            }
            Kind::Memory | Kind::Unix => Ok(()),
            Kind::Standalone => {
                if let Some(comma) = text[hosts.clone()].find(',') {
                    let comma = hosts.start + comma;
                    return Err(self
                        .fault(Verdict::Invalid, "host", comma..comma + 1)
                        .with_advice("expected one address; several are a cluster or sentinels")
                        .with_example(Kind::Cluster.example()));
                }
                let endpoint = self.endpoint(hosts)?;
                self.parsed.config.deployment = Deployment::Standalone(endpoint);
                Ok(())
            }
            Kind::Cluster => {
                self.parsed.config.deployment = Deployment::Cluster(self.endpoints(hosts)?);
                Ok(())
            }
            Kind::Sentinel => {
                let sentinels = self.endpoints(hosts)?;
                let service = self.service(&path)?.into();
                self.parsed.config.deployment = Deployment::Sentinel { sentinels, service };
                Ok(())
            }
        }
    }

    fn credentials(&mut self, range: Range<usize>) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        let example = "redis://user:password@localhost:6379";
        if let Some(at) = text[range.clone()].find('@') {
            return Err(self.unescaped(range.start + at));
        }
        let colon = text[range.clone()].find(':').map_or(range.end, |colon| range.start + colon);
        let user = range.start..colon;
        let password = (colon + 1).min(range.end)..range.end;
        if range.is_empty() || (colon < range.end && password.is_empty()) {
            let advice = if range.is_empty() {
                "expected credentials before the @, or no @"
            } else {
                "expected a password between : and @; leave both out where there is none"
            };
            let error = self.fault(Verdict::Missing, "password", password);
            return Err(error.with_advice(advice).with_example(example));
        }
        if !user.is_empty() {
            self.parsed.config.username = Some(self.decoded("username", user.clone(), example)?);
            self.parsed.parts.push(("username", user));
        }
        if !password.is_empty() {
            let secret = self.decoded("password", password.clone(), example)?;
            self.parsed.config.password = Some(Secret::from(secret));
            self.parsed.parts.push(("password", password));
        }
        Ok(())
    }

    /// Addresses with commas between them.
    fn endpoints(&mut self, range: Range<usize>) -> Result<Vec<Endpoint>, ConfigError> {
        let text = self.parsed.source.text;
        let mut endpoints = Vec::new();
        let mut start = range.start;
        for node in text[range].split(',') {
            let node = start..start + node.len();
            start = node.end + 1;
            if node.is_empty() {
                return Err(self
                    .fault(Verdict::Missing, "node", node)
                    .with_advice("expected an address before and after each comma")
                    .with_example(self.kind.example()));
            }
            endpoints.push(self.endpoint(node)?);
        }
        Ok(endpoints)
    }

    /// `host`, `host:port`, `[address]` or `[address]:port`.
    fn endpoint(&mut self, range: Range<usize>) -> Result<Endpoint, ConfigError> {
        let text = &self.parsed.source.text[range.clone()];
        let at = |offset: usize| range.start + offset;
        let (host, colon) = if text.starts_with('[') {
            let Some(close) = text.find(']') else {
                return Err(self
                    .fault(Verdict::Invalid, "host", range.start..at(1))
                    .with_advice("expected a closing bracket after the IPv6 address")
                    .with_example("redis://[::1]:6379"));
            };
            (1..close, close + 1)
        } else {
            let colon = text.find(':').unwrap_or(text.len());
            (0..colon, colon)
        };
        let port = (colon + 1).min(text.len())..text.len();
        if colon < text.len() && !text[colon..].starts_with(':') {
            let next = text[colon..].chars().next().map_or(0, char::len_utf8);
            return Err(self
                .fault(Verdict::Invalid, "host", at(colon)..at(colon + next))
                .with_advice("expected a colon and a port after the closing bracket")
                .with_example("redis://[::1]:6379"));
        }
        if text[port.clone()].contains(':') {
            return Err(self.too_many_colons(range));
        }
        let name = self.host(at(host.start)..at(host.end), text.starts_with('['))?;
        self.parsed.parts.push(("host", at(host.start)..at(host.end)));
        let default = match self.kind {
            Kind::Sentinel => SENTINEL_PORT_DEFAULT,
            _ => PORT_DEFAULT,
        };
        if colon == text.len() {
            return Ok(Endpoint::tcp(name, default));
        }
        let digits = &text[port.clone()];
        let port = at(port.start)..at(port.end);
        match digits.parse::<u16>() {
            Ok(number) if number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.parsed.parts.push(("port", port));
                Ok(Endpoint::tcp(name, number))
            }
            _ => {
                let mut error = self.parsed.source.fault(Verdict::Invalid, "port", port);
                let advice = match digits.len() {
                    0 => "expected a number from 1 to 65535 after the colon, or no colon",
                    1..=5 => "expected a number from 1 to 65535",
                    _ => {
                        // Longer than any port: rather a password whose `@host` is missing.
                        error.hide_found();
                        "expected a number from 1 to 65535; a password is followed by @ and the host"
                    }
                };
                Err(error.with_advice(advice).with_example(self.kind.example()))
            }
        }
    }

    fn host(&self, range: Range<usize>, brackets: bool) -> Result<String, ConfigError> {
        let host = &self.parsed.source.text[range.clone()];
        if brackets {
            let example = "redis://[::1]:6379";
            let address = self.decoded("host", range.clone(), example)?;
            if endpoint::is_ipv6(&address) {
                return Ok(address);
            }
            let error = self.parsed.source.doubtful_fault(Verdict::Invalid, "host", range);
            let advice = "expected an IPv6 address between the brackets";
            return Err(error.with_advice(advice).with_example(example));
        }
        if host.is_empty() {
            let text = self.parsed.source.text;
            let advice = match text.as_bytes().get(range.start) {
                Some(b':') => "expected a name or an address before the port",
                Some(b'/') => "expected a name or an address before the path",
                Some(b'?') => "expected a name or an address before the parameters",
                _ if text[..range.start].ends_with('@') => {
                    "expected a name or an address after the @"
                }
                _ => "expected a name or an address after ://",
            };
            let error = self.fault(Verdict::Missing, "host", range);
            return Err(error.with_advice(advice).with_example(self.kind.example()));
        }
        endpoint::check_host(host).map_err(|BadHost { start, end, advice }| {
            let mut error =
                self.fault(Verdict::Invalid, "host", range.start + start..range.start + end);
            if end - start > 4 {
                error.hide_found();
            }
            error.with_advice(advice).with_example(self.kind.example())
        })?;
        Ok(host.to_owned())
    }

    /// More than one colon and no brackets: an IPv6 address, or credentials without their `@`.
    fn too_many_colons(&self, range: Range<usize>) -> ConfigError {
        let text = &self.parsed.source.text[range.clone()];
        let address = [Some(text), text.rsplit_once(':').map(|(address, _)| address)];
        let is_ipv6 = |text: &str| !text.contains('%') && endpoint::is_ipv6(text);
        if address.into_iter().flatten().any(is_ipv6) {
            return self
                .fault(Verdict::Invalid, "host", range)
                .with_advice("expected brackets around an IPv6 address")
                .with_example("redis://[::1]:6379");
        }
        let mut error = self.fault(Verdict::Invalid, "host", range);
        error.hide_found();
        error
            .with_advice("expected one colon, between host and port; a password is followed by @")
            .with_example("redis://user:password@localhost:6379")
    }

    fn path(&mut self, range: Range<usize>) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        let path = &text[range.clone()];
        if self.kind == Kind::Unix {
            let example = self.kind.example();
            // One slash too many, or an @ in the password, would make a part of the credentials
            // part of a path, which is shown.
            let credentials = self.parsed.says("username") || self.parsed.says("password");
            let colon = if credentials { Some(0) } else { path.find(':') };
            if colon.is_some_and(|colon| path[colon..].contains('@')) {
                let error = self.fault(Verdict::Invalid, "path", range);
                return Err(error
                    .with_advice("expected credentials before the path; in a path, @ is %40")
                    .with_example("unix://user:password@/run/redis.sock"));
            }
            let decoded = self.decoded("path", range.clone(), example)?;
            endpoint::check_path(decoded.as_ref()).map_err(|advice| {
                let verdict = if decoded.len() < 2 { Verdict::Missing } else { Verdict::Invalid };
                self.fault(verdict, "path", range).with_advice(advice).with_example(example)
            })?;
            self.parsed.config.deployment = Deployment::Standalone(Endpoint::unix(decoded));
            return Ok(());
        }
        if let (Some(_), Some(slash)) = (path.find('@'), path.find('/')) {
            return Err(self.unescaped(range.start + slash));
        }
        let mut database = (range.start + 1).min(range.end)..range.end;
        if self.kind == Kind::Sentinel {
            let slash = text[database.clone()].find('/');
            database.start = slash.map_or(range.end, |slash| database.start + slash + 1);
        }
        if database.is_empty() {
            return Ok(());
        }
        let error =
            self.parsed.source.doubtful_fault(Verdict::Invalid, "database", database.clone());
        match self.kind {
            Kind::Cluster => Err(error
                .with_advice("a cluster has no numbered databases: expected no path")
                .with_example(self.kind.example())),
            Kind::Memory => Err(error
                .with_advice("expected the number of the database as a parameter")
                .with_example("memory://?db=2")),
            _ => {
                let parameter = parameters::find("db").expect("`db` is in the table");
                let digits = &text[database.clone()];
                parameter.set(&mut self.parsed.config, digits).map_err(|advice| {
                    error.with_advice(advice).with_example(format!("{}/2", self.kind.example()))
                })?;
                self.parsed.parts.push(("db", database));
                Ok(())
            }
        }
    }

    /// The name of the master: the first segment of a sentinel's path.
    fn service(&self, path: &Range<usize>) -> Result<String, ConfigError> {
        let text = &self.parsed.source.text[path.clone()];
        let start = (path.start + 1).min(path.end);
        let length = text.get(1..).unwrap_or_default().split('/').next().map_or(0, str::len);
        let example = self.kind.example();
        if length == 0 {
            return Err(self
                .fault(Verdict::Missing, "service", start..start)
                .with_advice("expected the name under which the sentinels know the master")
                .with_example(example));
        }
        self.decoded("service", start..start + length, example)
    }

    fn query(&mut self, range: Range<usize>) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        if range.is_empty() {
            return Ok(());
        }
        let mut start = range.start;
        for pair in text[range].split('&') {
            let pair = start..start + pair.len();
            start = pair.end + 1;
            self.parameter(pair)?;
        }
        Ok(())
    }

    fn parameter(&mut self, pair: Range<usize>) -> Result<(), ConfigError> {
        let text = self.parsed.source.text;
        let equals = text[pair.clone()].find('=').map(|equals| pair.start + equals);
        let name_at = pair.start..equals.unwrap_or(pair.end);
        let name = &text[name_at.clone()];
        if name.is_empty() {
            return Err(self
                .fault(Verdict::Missing, "parameter", name_at)
                .with_advice("expected name=value before and after each &")
                .with_example("redis://localhost:6379?deadline=5s&protocol=resp2"));
        }
        let Some(parameter) = parameters::find(name) else {
            return Err(self.unknown_parameter(name_at));
        };
        let setting = format!("parameter \"{}\"", parameter.name);
        let example = self.parameter_example(parameter.name, parameter.example);
        let Some(equals) = equals.filter(|equals| equals + 1 < pair.end) else {
            return Err(self
                .fault(Verdict::Invalid, setting, pair)
                .with_advice("expected a value after it")
                .with_example(example));
        };
        let value_at = equals + 1..pair.end;
        if self.parsed.says(parameter.name) {
            let advice = match parameter.name {
                "db" => "expected it once: as the path or as a parameter",
                _ => "expected it once",
            };
            return Err(self
                .fault(Verdict::Duplicate, setting, pair)
                .with_advice(advice)
                .with_example(example));
        }
        if parameter.name == "db" && self.kind == Kind::Cluster {
            return Err(self
                .fault(Verdict::Invalid, setting, pair)
                .with_advice("a cluster has no numbered databases: leave it out")
                .with_example(self.kind.example()));
        }
        let value = self.decoded(setting.clone(), value_at.clone(), example.clone())?;
        parameter.set(&mut self.parsed.config, &value).map_err(|advice| {
            let error = self.parsed.source.fault(Verdict::Invalid, setting, value_at.clone());
            error.with_advice(advice).with_example(example)
        })?;
        self.parsed.parts.push((parameter.name, value_at));
        Ok(())
    }

    fn unknown_parameter(&self, name_at: Range<usize>) -> ConfigError {
        let name = &self.parsed.source.text[name_at.clone()];
        let error = self.fault(Verdict::Unknown, "parameter", name_at.clone());
        let lower = name.to_ascii_lowercase().replace('-', "_");
        let names = PARAMETERS.iter().map(|parameter| parameter.name);
        let near = match lower.as_str() {
            "password" | "pass" | "pw" | "username" | "user" => {
                return error
                    .with_advice("expected credentials before the host")
                    .with_example("redis://user:password@localhost:6379");
            }
            "tls" | "ssl" => {
                return error
                    .with_advice("expected the scheme to ask for TLS")
                    .with_example("rediss://localhost:6379");
            }
            "fallback" | "fallbacks" | "retry_schedule" => {
                return error
                    .with_advice("only code can set it, with the method of Config of that name")
                    .with_example("redis://localhost:6379?fail_fast=true");
            }
            "timeout" => Some("deadline"),
            "database" => Some("db"),
            "max_retries" => Some("failed_dials_max"),
            _ => nearest(&lower, names, if lower.len() > 8 { 3 } else { 2 }),
        };
        match near.and_then(parameters::find) {
            Some(near) => error
                .with_advice(format!("did you mean {}?", near.name))
                .with_example(self.parameter_example(near.name, near.example)),
            None => self
                .parsed
                .source
                .doubtful_fault(Verdict::Unknown, "parameter", name_at)
                .with_advice("expected a parameter that this client knows")
                .with_example(self.parameter_example("deadline", "5s")),
        }
    }

    fn parameter_example(&self, name: &str, value: &str) -> String {
        let kind = if name == "db" && self.kind == Kind::Cluster { Kind::Unix } else { self.kind };
        format!("{}?{name}={value}", kind.example())
    }

    /// The text at `range` with its percent-encoding undone.
    fn decoded(
        &self,
        setting: impl Into<Cow<'static, str>>,
        range: Range<usize>,
        example: impl Into<Cow<'static, str>>,
    ) -> Result<String, ConfigError> {
        let text = &self.parsed.source.text[range.clone()];
        for (percent, _) in text.match_indices('%') {
            let digits = text.as_bytes().get(percent + 1..percent + 3);
            if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                let length = text[percent..].chars().take(3).map(char::len_utf8).sum::<usize>();
                let start = range.start + percent;
                return Err(self
                    .fault(Verdict::Invalid, setting, start..start + length)
                    .with_advice("expected two hexadecimal digits after %; a % itself is %25")
                    .with_example(example));
            }
        }
        percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| {
            let mut error = self.fault(Verdict::Invalid, setting, range);
            if !showable(text) && !text.contains('%') {
                error.hide_found();
            }
            error.with_advice("expected UTF-8 after decoding; é is %C3%A9").with_example(example)
        })
    }

    /// A delimiter in the password that should have been written with its code.
    fn unescaped(&self, at: usize) -> ConfigError {
        let (code, c) = match self.parsed.source.text.as_bytes()[at] {
            b'@' => ("%40", '@'),
            b'?' => ("%3F", '?'),
            _ => ("%2F", '/'),
        };
        self.fault(Verdict::Invalid, "credentials", at..at + 1)
            .with_advice(format!(
                "expected the '{c}' in the password to be percent-encoded as {code}"
            ))
            .with_example(format!("redis://:pass{code}word@localhost:6379"))
    }

    fn fault(
        &self,
        verdict: Verdict,
        setting: impl Into<Cow<'static, str>>,
        range: Range<usize>,
    ) -> ConfigError {
        self.parsed.source.fault(verdict, setting, range)
    }
}

//! What is wrong with a configuration.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::ops::Range;

use super::secret::MASK;

/// A configuration that cannot be used: what is wrong, where, and how it would be right.
///
/// Its text is one line. It never shows a password, nor a piece of a URL that could hold one: such
/// a piece reads `***`, and the place still tells where it is.
///
/// ```
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::Config;
///
/// let error = Config::from_url("redis://localhost:63a79").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid port \"63a79\" at characters 18..23 of the URL: \
///      expected a number from 1 to 65535, for example redis://localhost:6379",
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    verdict: Verdict,
    setting: Cow<'static, str>,
    /// `None` where it could show a secret.
    found: Option<String>,
    place: Place,
    advice: Cow<'static, str>,
    example: Cow<'static, str>,
}

/// Where a configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In a URL.
    Url {
        /// The characters of the URL, counted from 0, the last one excluded. An empty range is
        /// where something is missing.
        characters: Range<usize>,
        /// The variable that the URL was taken from, if it was.
        variable: Option<&'static str>,
    },
    /// In the variable of this name.
    Variable(String),
    /// In what this method or field of [`Config`](super::Config) was given.
    Builder(&'static str),
}

/// In which way a setting is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Invalid,
    Missing,
    Unknown,
    Duplicate,
    Contradictory,
    Unsupported,
}

impl ConfigError {
    /// The setting or the part of the URL that is wrong: `port`, `parameter "deadline"`,
    /// `variable REDIS_DB`.
    #[must_use]
    pub fn setting(&self) -> &str {
        &self.0.setting
    }

    /// What was found there; `None` where showing it could show a password.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// Where it was found.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Something similar that is right: a URL, an assignment to a variable, or a value.
    #[must_use]
    pub fn example(&self) -> &str {
        &self.0.example
    }

    /// Whether the configuration is well-formed and asks for something that this version does not
    /// do yet.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.0.verdict == Verdict::Unsupported
    }

    /// Nothing found, expected or placed yet: see the methods below.
    pub(super) fn new(verdict: Verdict, setting: impl Into<Cow<'static, str>>) -> Self {
        ConfigError(Box::new(Inner {
            verdict,
            setting: setting.into(),
            found: None,
            place: Place::Builder("validate"),
            advice: Cow::Borrowed(""),
            example: Cow::Borrowed(super::URL_EXAMPLE),
        }))
    }

    pub(super) fn with_found(mut self, found: impl Into<String>) -> Self {
        self.0.found = Some(found.into());
        self
    }

    pub(super) fn hide_found(&mut self) {
        self.0.found = None;
    }

    pub(super) fn with_advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = advice.into();
        self
    }

    pub(super) fn with_example(mut self, example: impl Into<Cow<'static, str>>) -> Self {
        self.0.example = example.into();
        self
    }

    pub(super) fn at(mut self, place: Place) -> Self {
        self.0.place = place;
        self
    }

    pub(super) fn place_mut(&mut self) -> &mut Place {
        &mut self.0.place
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { verdict, setting, found, place, advice, example } = &*self.0;
        write!(f, "{verdict} {setting} ")?;
        match found {
            Some(found) => write!(f, "{found:?}")?,
            None => f.write_str(MASK)?,
        }
        write!(f, " {place}: {advice}, for example {example}")
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({self})")
    }
}

impl std::error::Error for ConfigError {}

impl From<Infallible> for ConfigError {
    /// Lets `impl TryInto<Config>` take a [`Config`](super::Config) itself.
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Url { characters: Range { start, end }, variable } => {
                match end.saturating_sub(*start) {
                    0 | 1 => write!(f, "at character {start} of "),
                    _ => write!(f, "at characters {start}..{end} of "),
                }?;
                f.write_str(variable.unwrap_or("the URL"))
            }
            Place::Variable(name) => write!(f, "in {name}"),
            Place::Builder(name) => write!(f, "in Config::{name}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Invalid => "invalid",
            Verdict::Missing => "missing",
            Verdict::Unknown => "unknown",
            Verdict::Duplicate => "duplicate",
            Verdict::Contradictory => "contradictory",
            Verdict::Unsupported => "unsupported",
        })
    }
}

/// Whether a piece of somebody's text may be shown where a password cannot be ruled out: five
/// characters at most (a port), or a word such as names are made of.
pub(super) fn showable(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    text.len() <= 5 || (text.len() <= 20 && text.chars().all(word))
}

/// The candidate that `text` was most likely meant to be, if any is near.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    distance_max: usize,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, replacements and swaps of neighbours lie between two words.
///
/// Quadratic, so words longer than any name here count as far away.
pub(super) fn distance(a: &str, b: &str) -> usize {
    const WORD_MAX: usize = 40;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > WORD_MAX || b.len() > WORD_MAX {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

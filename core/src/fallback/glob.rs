//! Glob patterns as KEYS, SCAN and PSUBSCRIBE read them, and as fallback rules do.
//!
//! `*` is any run of bytes, `?` any one byte, `[abc]`, `[a-z]` and `[^a]` one byte of a class,
//! and `\x` is `x` itself. The corner cases follow Redis' `stringmatchlen` (`src/util.c`):
//!
//! - A class that is never closed ends with the pattern: `[ab` is `[ab]`.
//! - A class closes at its first `]`, so `[]` matches nothing and `[^]` any one byte. The end of
//!   a range is taken whatever it is, so `[a-]` is a range up to `]` in a class that is not closed.
//! - The ends of a range may stand in either order. They are compared as signed bytes, because
//!   that is what `char` is where servers run.
//! - A backslash that ends the pattern stands for itself.
//! - The empty key matches the empty pattern and `*`, and no other pattern, not even `**`.
//!
//! Bytes are compared as they are: no case folding, no Unicode.

/// Whether all of `text` matches `pattern`.
///
/// Takes at most `pattern.len() * text.len()` steps: when a match fails, only the last `*` seen
/// is tried one byte further on, for what an earlier `*` could reach by taking more, the last one
/// reaches too.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut at, mut next) = (0, 0);
    // Behind the last star in the pattern, and the first byte of the text that it does not cover.
    let mut star: Option<(usize, usize)> = None;
    while next < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, next));
        } else if let Some(behind) = one(pattern, at, text[next]) {
            at = behind;
            next += 1;
        } else if let Some((behind, covered)) = star {
            at = behind;
            next = covered + 1;
            star = Some((behind, next));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// A pattern made ready to be matched many times.
///
/// Nearly all patterns in use are a literal prefix and a star; those are a comparison of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Glob(Box<[u8]>),
}

impl Pattern {
    /// Reads `pattern`. Every sequence of bytes is a pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let literal = |bytes: &[u8]| !bytes.iter().any(|byte| b"*?[\\".contains(byte));
        Pattern(match pattern {
            [prefix @ .., b'*'] if literal(prefix) => Kind::Prefix(prefix.into()),
            exact if literal(exact) => Kind::Exact(exact.into()),
            glob => Kind::Glob(glob.into()),
        })
    }

    /// Whether it is plain to see that this matches whatever the pattern `other` does: they are the
    /// same, or this is a literal prefix and a star, and `other` begins with that prefix.
    pub(crate) fn plainly_covers(&self, other: &[u8]) -> bool {
        match &self.0 {
            Kind::Prefix(prefix) => other.starts_with(prefix),
            Kind::Exact(same) | Kind::Glob(same) => other == &same[..],
        }
    }

    /// Whether all of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.0 {
            Kind::Exact(exact) => text == &exact[..],
            Kind::Prefix(prefix) => text.starts_with(prefix),
            Kind::Glob(glob) => matches(glob, text),
        }
    }

    /// Whether this is `*`, which every key matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(&self.0, Kind::Prefix(prefix) if prefix.is_empty())
    }
}

/// Matches one byte against the element of the pattern that starts at `at`, which is no star.
/// Returns where the next element starts, or `None` where the byte does not match.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Matches one byte against the class whose first byte behind the bracket is at `at`.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (from.cast_signed(), to.cast_signed());
                found |= (from.min(to)..=from.max(to)).contains(&byte.cast_signed());
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_the_server_matches_them() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", false),
            ("?", "", false),
            ("*", "anything", true),
            ("**", "a", true),
            ("a*", "a", true),
            ("a***", "a", true),
            ("*a", "aaa", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "hllo", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[b-a]llo", "hcllo", false),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"a\", r"a\", true),
            (r"a\", "a", false),
            (r"a\b", "ab", true),
            ("[ab", "a", true),
            ("[ab", "c", false),
            ("[", "[", false),
            ("[^", "x", true),
            ("[]", "]", false),
            ("[^]", "]", true),
            ("[]a]", "a]", false),
            ("[a-]", "_", true),
            ("[a-]", "b", false),
            ("[a-]x", "x", true),
            ("[a-", "-", true),
            (r"[\]]", "]", true),
            (r"[\", r"\", true),
            (r"[a\-z]", "-", true),
            (r"[a\-z]", "m", false),
            ("*[0-9]*x", "ab7cdx", true),
            ("*.*.*", "a.b", false),
            ("*.*.*", "a.b.c", true),
            ("cache:*", "cache:", true),
            ("cache:*", "cach", false),
        ];
        for &(pattern, text, expected) in table {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern:?} against {text:?}"
            );
        }
    }

    #[test]
    fn the_ends_of_a_range_are_signed_bytes() {
        assert!(matches(b"[\xF0-\x05]", b"\xFF"));
        assert!(!matches(b"[\xF0-\x05]", b"\x80"));
        assert!(!matches(b"[\x10-\xF0]", b"\x80"));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = [b"a*".repeat(200), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(5_000)));
    }

    /// What `matches` means, said in the plainest way: a star is tried at every length.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| model(rest, &text[taken..])),
            (_, [byte, tail @ ..]) => {
                one(pattern, 0, *byte).is_some_and(|behind| model(&pattern[behind..], tail))
            }
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn backtracking_to_the_last_star_finds_every_match(
            pattern in proptest::collection::vec(proptest::sample::select(b"ab*?[]^-\\".to_vec()), 0..10),
            text in proptest::collection::vec(proptest::sample::select(b"ab]-\\^".to_vec()), 1..10),
        ) {
            prop_assert_eq!(matches(&pattern, &text), model(&pattern, &text));
        }

        #[test]
        fn a_prepared_pattern_matches_the_same(
            pattern in proptest::collection::vec(proptest::sample::select(b"ab*?[\\".to_vec()), 0..5),
            text in proptest::collection::vec(proptest::sample::select(b"ab*".to_vec()), 0..6),
        ) {
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), matches(&pattern, &text));
        }
    }
}

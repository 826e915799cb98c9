//! Which keys may be answered without a server, and how.

use std::time::Duration;

use super::glob::Pattern;

/// How old a remembered value may be and still be served, unless said otherwise: 5 minutes.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(300);

/// What becomes of writes that were taken in memory when the server is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// They are forgotten.
    Discard,
    /// Each key they touched is deleted on the server, which also drops what others wrote to it
    /// meanwhile: right for caches.
    Invalidate,
}

/// What a key pattern does while its server is judged down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Requests wait for the server within their deadline.
    Wait,
    /// Requests fail at once with a typed error.
    Fail,
    /// Reads answer as if the key were absent; writes are dropped, and the key is deleted on the
    /// server when it is back.
    Miss,
    /// Reads and writes are answered from memory.
    Memory {
        /// What becomes of the writes.
        policy: Policy,
        /// How old a remembered value may be and still be served.
        max_age: Duration,
    },
}

impl Mode {
    /// The stricter of two modes: what a command does whose keys fall under both.
    ///
    /// Strictest is `Fail`, then `Wait`, `Miss`, `Memory`: the less of it is made up, the stricter.
    /// Of two `Memory` modes the result invalidates if either does, and serves nothing older than
    /// both allow.
    #[must_use]
    pub fn strictest(self, other: Mode) -> Mode {
        use Mode::{Fail, Memory, Miss, Wait};
        match (self, other) {
            (Fail, _) | (_, Fail) => Fail,
            (Wait, _) | (_, Wait) => Wait,
            (Miss, _) | (_, Miss) => Miss,
            (Memory { policy: a, max_age: first }, Memory { policy: b, max_age: second }) => {
                Memory { policy: a.strictest(b), max_age: first.min(second) }
            }
        }
    }
}

impl Mode {
    /// What it is called in one word: `wait`, `fail`, `miss`, or the policy of what is written in
    /// memory, such as `invalidate`. Stable, so that metrics can go by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Wait => "wait",
            Mode::Fail => "fail",
            Mode::Miss => "miss",
            Mode::Memory { policy: Policy::Discard, .. } => "discard",
            Mode::Memory { policy: Policy::Invalidate, .. } => "invalidate",
        }
    }
}

/// A mode in one byte, for each command on its way: what is left of it once the age limit has
/// been applied, which happens when a value is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Wait,
    Fail,
    Miss,
    Memory(Policy),
}

impl From<Mode> for Standing {
    #[inline]
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Wait => Standing::Wait,
            Mode::Fail => Standing::Fail,
            Mode::Miss => Standing::Miss,
            Mode::Memory { policy, .. } => Standing::Memory(policy),
        }
    }
}

impl Policy {
    fn strictest(self, other: Policy) -> Policy {
        match (self, other) {
            (Policy::Discard, Policy::Discard) => Policy::Discard,
            (Policy::Invalidate, _) | (_, Policy::Invalidate) => Policy::Invalidate,
        }
    }
}

/// A rule: the keys that match `pattern` behave as `mode` says while the server is down.
///
/// The pattern is a glob (see [`glob`](super::glob)) and is held against the final key, with any
/// prefix that the client puts before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub(crate) pattern: String,
    pub(crate) mode: Mode,
}

impl Fallback {
    /// Keys that match are read and written in memory; `policy` says what becomes of the writes.
    ///
    /// What is remembered of the server's values is served for [`MAX_AGE_DEFAULT`], unless
    /// [`max_age`](Fallback::max_age) says otherwise.
    pub fn memory(pattern: impl Into<String>, policy: Policy) -> Self {
        Self::new(pattern, Mode::Memory { policy, max_age: MAX_AGE_DEFAULT })
    }

    /// Keys that match wait for the server, each request within its deadline.
    pub fn wait(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Wait)
    }

    /// Requests for keys that match fail at once.
    pub fn fail(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Fail)
    }

    /// Keys that match read as absent; writes to them are dropped, and the keys are deleted on
    /// the server when it is back.
    pub fn miss(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Miss)
    }

    fn new(pattern: impl Into<String>, mode: Mode) -> Self {
        Fallback { pattern: pattern.into(), mode }
    }

    /// Sets how old a remembered value may be and still be served.
    ///
    /// Changes only a [`memory`](Fallback::memory) rule: the other modes serve nothing
    /// remembered, so there is no age to limit, and the call leaves them as they are.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        if let Mode::Memory { max_age, .. } = &mut self.mode {
            *max_age = age;
        }
        self
    }

    /// The glob that a key must match.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What the keys that match do while the server is down.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// A client's rules in the order they were declared, made ready for look-ups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<(Pattern, Mode)>,
    default: Mode,
}

impl Rules {
    /// Takes the rules in order of precedence; `default` is for keys that match none.
    #[must_use]
    pub fn new(rules: Vec<Fallback>, default: Mode) -> Self {
        let ready = |rule: Fallback| (Pattern::new(rule.pattern.as_bytes()), rule.mode);
        Rules { rules: rules.into_iter().map(ready).collect(), default }
    }

    /// The mode of the first rule that `key` matches, or the default.
    ///
    /// Takes time proportional to the number of rules; a rule that is a literal prefix and a star
    /// costs one comparison.
    #[must_use]
    pub fn mode_of(&self, key: &[u8]) -> Mode {
        self.rule_of(key).map_or(self.default, |index| self.rules[index].1)
    }

    /// Which rule `key` falls under, counted from 0 in the order of declaration; `None` where it
    /// matches none and the default holds.
    #[must_use]
    pub fn rule_of(&self, key: &[u8]) -> Option<usize> {
        self.rules.iter().position(|(pattern, _)| pattern.matches(key))
    }

    /// Which rule is for `*`, so that every key that gets so far falls under it.
    pub(crate) fn rule_of_all(&self) -> Option<usize> {
        self.rules.iter().position(|(pattern, _)| pattern.is_all())
    }

    /// The mode of a command that is about all keys at once, such as KEYS, SCAN and DBSIZE: the
    /// strictest of all that any key can fall under.
    #[must_use]
    pub fn mode_of_all(&self) -> Mode {
        // Behind a rule for `*` no rule is ever reached, nor is the default.
        let end = self.rules.iter().position(|(pattern, _)| pattern.is_all());
        let reached = end.map_or(&self.rules[..], |end| &self.rules[..end]);
        let last = end.map_or(self.default, |end| self.rules[end].1);
        reached.iter().fold(last, |mode, &(_, other)| mode.strictest(other))
    }

    /// The mode of keys that match no rule.
    #[must_use]
    pub fn default_mode(&self) -> Mode {
        self.default
    }

    /// How many rules there are, the default not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule, so that every key falls under the default.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Default for Rules {
    /// No rule: every key waits for the server.
    fn default() -> Self {
        Rules::new(Vec::new(), Mode::Wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_declared_wins() {
        let rules = Rules::new(
            vec![Fallback::fail("cache:secret:*"), Fallback::memory("cache:*", Policy::Discard)],
            Mode::Wait,
        );
        assert_eq!(rules.mode_of(b"cache:secret:1"), Mode::Fail);
        assert_eq!(
            rules.mode_of(b"cache:1"),
            Mode::Memory { policy: Policy::Discard, max_age: MAX_AGE_DEFAULT }
        );
        assert_eq!(rules.rule_of(b"cache:1"), Some(1));
    }

    #[test]
    fn a_key_under_no_rule_has_the_default() {
        let rules = Rules::new(vec![Fallback::miss("a?")], Mode::Fail);
        assert_eq!(rules.mode_of(b"a"), Mode::Fail);
        assert_eq!(rules.rule_of(b"a"), None);
        assert_eq!(rules.mode_of(b"ab"), Mode::Miss);
    }

    #[test]
    fn without_rules_every_key_waits() {
        assert!(Rules::default().is_empty());
        assert_eq!(Rules::default().mode_of(b"any"), Mode::Wait);
    }

    #[test]
    fn a_limit_of_age_changes_memory_rules_only() {
        let second = Duration::from_secs(1);
        let rule = Fallback::memory("*", Policy::Invalidate).max_age(second);
        assert_eq!(rule.mode(), Mode::Memory { policy: Policy::Invalidate, max_age: second });
        assert_eq!(Fallback::wait("*").max_age(second), Fallback::wait("*"));
    }

    #[test]
    fn a_command_about_all_keys_takes_the_strictest_mode_in_reach() {
        let memory = Fallback::memory("*", Policy::Discard);
        let reached = Rules::new(vec![Fallback::fail("wallet:*"), memory.clone()], Mode::Wait);
        assert_eq!(reached.mode_of_all(), Mode::Fail);
        let hidden = Rules::new(vec![memory.clone(), Fallback::fail("wallet:*")], Mode::Wait);
        assert_eq!(hidden.mode_of_all(), memory.mode());
        let partial = Rules::new(vec![Fallback::memory("a*", Policy::Discard)], Mode::Wait);
        assert_eq!(partial.mode_of_all(), Mode::Wait);
    }

    #[test]
    fn of_two_memory_modes_the_stricter_invalidates_and_remembers_less() {
        let long = Fallback::memory("a", Policy::Invalidate).mode();
        let short = Fallback::memory("b", Policy::Discard).max_age(Duration::from_secs(1)).mode();
        let both = Mode::Memory { policy: Policy::Invalidate, max_age: Duration::from_secs(1) };
        assert_eq!(long.strictest(short), both);
        assert_eq!(short.strictest(long), both);
    }
}

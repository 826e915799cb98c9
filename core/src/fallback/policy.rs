//! Which keys may be answered without a server, and how.
//!
//! What each [`Policy`] promises, key by key, once the server is judged down:
//!
//! | | `Discard` | `Invalidate` | `ReplayLastWins` | `MergeDelta` |
//! |---|---|---|---|---|
//! | SET, DEL and what else replaces a value | done | done | done | done |
//! | INCR, APPEND, LPUSH, SADD, HSET and their like, on a key that memory knows | done | done | done | done |
//! | the same on a key that memory has never seen | done, as if it were absent | as `Discard` | refused | done: it is added to whatever the server holds |
//! | LPOP, SETRANGE, LTRIM, RENAME and what else depends on the whole value | done | done | done on a key that memory knows | done only where the value was written in memory |
//! | GETDEL, GETSET, SET GET, which give a value away, on a key never seen | done, as if it were absent | as `Discard` | refused | refused |
//! | EXPIRE, SET XX, LPUSHX on a key never seen | refused | refused | refused | refused |
//! | SET NX, SETNX, MSETNX, RENAMENX | refused, unless [allowed](Fallback::allow_if_absent) | as `Discard` | as `Discard` | as `Discard` |
//! | when the server is back | forgotten | the key is deleted | the key's last state in memory is written, or the key deleted if that is none | the net effect is added |
//! | what others wrote to the key meanwhile | stays | is deleted | is overwritten | stays, and is added to |
//! | told that the server has other data than before | forgotten | the key is deleted | is written | is added where the key is still there |
//! | sent, and no answer came | – | sent again | sent again | never sent again: an event says that it may have been done |
//!
//! Of a key that memory has never seen it has only what was written since. So under `MergeDelta`, until
//! the server is back, INCR gives the sum of what was added, and SMEMBERS the members that were, both from
//! [`Source::Unknown`](crate::Source::Unknown): what looks for the whole value is to look at the source, or to
//! be kept from such keys.
//!
//! A session that begins while the server is down is a key never seen, and `ReplayLastWins` refuses to
//! add to it. Replaced as a whole it is the client's own: SET, or DEL and then HSET, in one transaction.
//!
//! A server that was restarted can't show that it has its data still, and counts as one with other data.
//! Under `MergeDelta` a key that is not there is passed over then, also one that was new in memory:
//! [`MergesSkipped`](crate::Event::MergesSkipped) says how many. One that SET had begun is written.
//!
//! "Knows" means: read or written whole while the server was there, and not too old to be served; or
//! written in memory. A value that was replaced or deleted in memory is the client's own from then
//! on, and whatever comes later to the same key is part of it: under `MergeDelta` the key is then
//! treated as under `ReplayLastWins`. A time to live that memory doesn't know is left as it is on the
//! server, so that a key which has expired there meanwhile is written without any; that of a single
//! field of a hash is written where memory knows it, and lost otherwise when
//! the hash is replaced.
//!
//! A command that writes several keys one by one (MSET, DEL, UNLINK) may mix policies, and each key is
//! recovered by its own. Any other is refused where its written keys are under several.
//!
//! Always refused, with a failure that says why: scripts that no function stands in for, SORT by keys of
//! which it has only a pattern (`BY weight:*`, `GET name:*`), streams and consumer groups, FLUSHALL and
//! FLUSHDB, what is about how a server keeps a key (DUMP, RESTORE, MOVE, OBJECT, MEMORY USAGE), and
//! whatever the embedded store does not know.

use std::time::Duration;

use super::glob::Pattern;

/// How old a remembered value may be and still be served, unless said otherwise: 5 minutes.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(300);

/// What becomes of writes that were taken in memory when the server is back.
///
/// The [module](self) has a table of what each one promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// They are forgotten.
    Discard,
    /// Each key they touched is deleted on the server, which also drops what others wrote to it
    /// meanwhile: right for caches.
    Invalidate,
    /// Each key they touched is given the value that it has in memory, with what is left of its time
    /// to live, or deleted where memory has none: whatever others wrote to it meanwhile is
    /// overwritten. For keys that only this client writes, such as a session.
    ReplayLastWins,
    /// Their net effect on each key is added to what the server holds: sums of counters, members
    /// added and removed, what was pushed or appended. For keys that several clients write.
    ///
    /// Where a value was replaced or deleted in memory it replaces the server's. A command without
    /// such an effect, such as LPOP, is refused unless the whole value was written in memory.
    MergeDelta,
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
    /// Reads are answered from remembered values, and fail where none is remembered: nothing is made
    /// up. Writes fail.
    StaleReads {
        /// How old a remembered value may be and still be served.
        max_age: Duration,
    },
    /// Reads and writes are answered from memory.
    Memory {
        /// What becomes of the writes.
        policy: Policy,
        /// How old a remembered value may be and still be served.
        max_age: Duration,
    },
}

impl Mode {
    /// How old a remembered value may be and still be served, where any is.
    pub(super) fn remembers_for(self) -> Option<Duration> {
        match self {
            Mode::StaleReads { max_age } | Mode::Memory { max_age, .. } => Some(max_age),
            Mode::Wait | Mode::Fail | Mode::Miss => None,
        }
    }

    /// Whether memory answers writes, be it by dropping them.
    pub(super) fn takes_writes(self) -> bool {
        matches!(self, Mode::Miss | Mode::Memory { .. })
    }

    /// What it is called in one word: `wait`, `fail`, `miss`, `stale`, or the policy of what is written
    /// in memory: `discard`, `invalidate`, `replay`, `merge`. Stable, so that metrics can go by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Wait => "wait",
            Mode::Fail => "fail",
            Mode::Miss => "miss",
            Mode::StaleReads { .. } => "stale",
            Mode::Memory { policy: Policy::Discard, .. } => "discard",
            Mode::Memory { policy: Policy::Invalidate, .. } => "invalidate",
            Mode::Memory { policy: Policy::ReplayLastWins, .. } => "replay",
            Mode::Memory { policy: Policy::MergeDelta, .. } => "merge",
        }
    }
}

/// A rule: the keys that match `pattern` behave as `mode` says while the server is down.
///
/// The pattern is a glob (see [`glob`](super::glob)) and is held against the final key, with any
/// prefix that the client puts before it.
///
/// A command with several keys is as careful as the most careful of them: it fails if one of them
/// fails, waits if one of them waits. One that waits and is late keeps the order: whatever is written
/// to its keys after it waits behind it, also where that could be done in memory.
///
/// A command about all keys (KEYS, SCAN, DBSIZE, RANDOMKEY, FLUSHALL) is as careful as the most careful
/// of all rules and of what holds for other keys, whatever its own pattern: it waits for the server
/// unless there is a rule for `*`. So does a command without any key, such as PING, INFO or TIME,
/// whatever the rules say.
///
/// The first rule that a key matches is the one that counts: declare `wallet:*` before `*`. Where another
/// rule stands behind one that takes all of its keys, [`validate`](crate::Config::validate) refuses both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub(crate) pattern: String,
    pub(crate) mode: Mode,
    if_absent: bool,
}

impl Fallback {
    /// Keys that match are read and written in memory; `policy` says what becomes of the writes.
    ///
    /// What is remembered of the server's values is served for [`MAX_AGE_DEFAULT`], unless
    /// [`max_age`](Fallback::max_age) says otherwise.
    pub fn memory(pattern: impl Into<String>, policy: Policy) -> Self {
        Self::new(pattern, Mode::Memory { policy, max_age: MAX_AGE_DEFAULT })
    }

    /// Keys that match are read as they were last known, for `max_age` after that; writes fail.
    ///
    /// Unlike [`memory`](Fallback::memory) it makes nothing up. A key of which no whole value is
    /// remembered (never read or written whole, larger than
    /// [`shadow_value_max`](crate::config::MemoryLimits::shadow_value_max), too old, or known to have
    /// been absent) fails with [`NotRemembered`](crate::failure::MemoryRefusal::NotRemembered) or
    /// [`TooOld`](crate::failure::MemoryRefusal::TooOld), and does not read as absent; so does a
    /// command of several keys if that is true of one of them. Commands about all keys, such as SCAN,
    /// fail: what is remembered is never all of them.
    pub fn stale_reads(pattern: impl Into<String>, max_age: Duration) -> Self {
        Self::new(pattern, Mode::StaleReads { max_age })
    }

    /// Keys that match wait for the server, each request within its deadline.
    pub fn wait(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Wait)
    }

    /// Requests for keys that match fail at once while the server is judged down, also when it can be reached
    /// again and has still to recover: the failure says so ([`Cause::Recovering`](crate::Cause::Recovering)).
    pub fn fail(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Fail)
    }

    /// Keys that match read as absent; writes to them are dropped, and the keys are deleted on
    /// the server when it is back.
    ///
    /// A write is answered as on a key that is absent: INCR with 1, EXPIRE with 0, LSET and RENAME with
    /// the error that there is no such key, in which case nothing was dropped and nothing is deleted.
    /// What is done only where nothing is (SET NX and its like) fails, for that is how locks are taken.
    pub fn miss(pattern: impl Into<String>) -> Self {
        Self::new(pattern, Mode::Miss)
    }

    fn new(pattern: impl Into<String>, mode: Mode) -> Self {
        Fallback { pattern: pattern.into(), mode, if_absent: false }
    }

    /// Sets how old a remembered value may be and still be served.
    ///
    /// Changes only a [`memory`](Fallback::memory) or [`stale_reads`](Fallback::stale_reads) rule:
    /// the other modes serve nothing remembered, so there is no age to limit, and the call leaves
    /// them as they are.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        if let Mode::Memory { max_age, .. } | Mode::StaleReads { max_age } = &mut self.mode {
            *max_age = age;
        }
        self
    }

    /// Lets SET with NX, SETNX, MSETNX and RENAMENX be done in memory too, where a key that memory
    /// has never seen counts as absent.
    ///
    /// Without this they fail while the server is down. With it each client answers for itself, so
    /// *every* client that asks is told that it was the first: two of them hold the same lock, two of
    /// them run the same job. Never allow it for keys that are locks; it is for keys where being
    /// first only saves work, such as filling a cache. What is written this way is recovered like
    /// any other write of the rule's policy. Changes nothing on other rules than
    /// [`memory`](Fallback::memory).
    #[must_use]
    pub fn allow_if_absent(mut self) -> Self {
        self.if_absent = matches!(self.mode, Mode::Memory { .. });
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
    rules: Vec<Rule>,
    default: Mode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    mode: Mode,
    if_absent: bool,
}

impl Rules {
    /// Takes the rules in order of precedence; `default` is for keys that match none.
    #[must_use]
    pub fn new(rules: Vec<Fallback>, default: Mode) -> Self {
        let ready = |rule: Fallback| Rule {
            pattern: Pattern::new(rule.pattern.as_bytes()),
            mode: rule.mode,
            if_absent: rule.if_absent,
        };
        Rules { rules: rules.into_iter().map(ready).collect(), default }
    }

    /// The mode of the first rule that `key` matches, or the default.
    ///
    /// Takes time proportional to the number of rules; a rule that is a literal prefix and a star
    /// costs one comparison.
    #[must_use]
    pub fn mode_of(&self, key: &[u8]) -> Mode {
        self.mode_at(self.rule_of(key))
    }

    /// The mode of the rule at this place, or the default.
    pub(super) fn mode_at(&self, rule: Option<usize>) -> Mode {
        rule.map_or(self.default, |index| self.rules[index].mode)
    }

    /// Which rule `key` falls under, counted from 0 in the order of declaration; `None` where it
    /// matches none and the default holds.
    #[must_use]
    pub fn rule_of(&self, key: &[u8]) -> Option<usize> {
        self.rules.iter().position(|rule| rule.pattern.matches(key))
    }

    /// Which rule is for `*`, so that every key that gets so far falls under it.
    pub(super) fn rule_of_all(&self) -> Option<usize> {
        self.rules.iter().position(|rule| rule.pattern.is_all())
    }

    /// The policy of `key`, where it is written in memory.
    pub(super) fn policy_of(&self, key: &[u8]) -> Option<Policy> {
        match self.mode_of(key) {
            Mode::Memory { policy, .. } => Some(policy),
            _ => None,
        }
    }

    /// Whether `key` may be written in memory on condition that it is absent.
    pub(super) fn allows_if_absent(&self, key: &[u8]) -> bool {
        self.rule_of(key).is_some_and(|index| self.rules[index].if_absent)
    }

    /// The modes that any key can fall under: of a command that is about all keys at once, such as
    /// KEYS, SCAN and DBSIZE, each of them must permit it.
    pub(super) fn modes_in_reach(&self) -> impl Iterator<Item = Mode> {
        // Behind a rule for `*` no rule is ever reached, nor is the default.
        let end = self.rules.iter().position(|rule| rule.pattern.is_all());
        let reached = end.map_or(&self.rules[..], |end| &self.rules[..=end]);
        let default = end.is_none().then_some(self.default);
        reached.iter().map(|rule| rule.mode).chain(default)
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
        assert_eq!(rules.policy_of(b"cache:1"), Some(Policy::Discard));
        assert_eq!(rules.policy_of(b"cache:secret:1"), None);
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
    fn a_limit_of_age_changes_only_rules_that_remember() {
        let second = Duration::from_secs(1);
        let rule = Fallback::memory("*", Policy::Invalidate).max_age(second);
        assert_eq!(rule.mode(), Mode::Memory { policy: Policy::Invalidate, max_age: second });
        let rule = Fallback::stale_reads("*", MAX_AGE_DEFAULT).max_age(second);
        assert_eq!(rule, Fallback::stale_reads("*", second));
        assert_eq!(Fallback::wait("*").max_age(second), Fallback::wait("*"));
    }

    #[test]
    fn only_who_may_write_in_memory_may_be_told_that_nobody_was_before() {
        let rules = Rules::new(
            vec![
                Fallback::memory("once:*", Policy::Invalidate).allow_if_absent(),
                Fallback::memory("lock:*", Policy::Invalidate),
                Fallback::miss("miss:*").allow_if_absent(),
            ],
            Mode::Wait,
        );
        assert!(rules.allows_if_absent(b"once:a"));
        for key in ["lock:a", "miss:a", "other"] {
            assert!(!rules.allows_if_absent(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn what_is_about_all_keys_is_about_the_rules_that_some_key_can_reach() {
        let memory = Fallback::memory("*", Policy::Discard);
        let modes = |rules: Vec<Fallback>| {
            Rules::new(rules, Mode::Wait).modes_in_reach().collect::<Vec<_>>()
        };
        let reached = modes(vec![Fallback::fail("wallet:*"), memory.clone()]);
        assert_eq!(reached, [Mode::Fail, memory.mode()]);
        assert_eq!(modes(vec![memory.clone(), Fallback::fail("wallet:*")]), [memory.mode()]);
        let partial = Fallback::memory("a*", Policy::Discard);
        assert_eq!(modes(vec![partial.clone()]), [partial.mode(), Mode::Wait]);
    }
}

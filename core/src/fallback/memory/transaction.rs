//! Transactions in memory: each command as if it were alone, and all of them or none.

use bytes::Bytes;

use super::{Claim, Memory, Mode, Standing, Store};
use crate::{
    Now,
    failure::MemoryRefusal,
    fallback::{
        Part, Stopped, Why,
        store::{self, Answer},
    },
    reply::ServerError,
    request::Effect,
    resp::{Reply, Value},
};

/// What memory held of some keys.
struct Savepoint {
    overlay: store::Savepoint,
    /// Those that nothing was written to.
    unwritten: Vec<Bytes>,
    /// Those that nothing was owed to.
    settled: Vec<Bytes>,
}

impl Memory {
    /// How a transaction behaves while the server is down, and whether its replies are of interest to
    /// the shadow: as the strictest of its commands would.
    pub(crate) fn mode_for_all(&self, parts: &[Part<'_>]) -> (Standing, bool) {
        if !self.degrades {
            return (Standing::Wait, false);
        }
        let (mut mode, mut noted) = (None, false);
        for part in parts {
            let (of_part, notes) = self.mode_of(part.spec, part.effect, part.args());
            mode = Some(mode.map_or(of_part, |mode: Mode| mode.strictest(of_part)));
            noted |= notes;
        }
        (mode.unwrap_or(self.rules.default_mode()).into(), noted)
    }

    /// Forgets what is known of the keys of one command, if it is a write.
    pub(crate) fn forget_part(&mut self, part: &Part<'_>, now: Now) {
        self.forget_words(part.spec, part.args(), now);
    }

    /// Answers all commands, or none of them. An error that a server would answer inside EXEC is an
    /// answer.
    pub(crate) fn answer_all(
        &mut self,
        parts: &[Part<'_>],
        standing: Standing,
        now: Now,
    ) -> Result<Vec<Reply>, Stopped> {
        for (at, part) in parts.iter().enumerate() {
            if let Some(Answer::Reply(Value::Error(text))) = Store::refusal(&part.words) {
                let why = match part.spec.is_unknown() {
                    // It may be a module's, and known to the server.
                    true => Why::Refused(MemoryRefusal::Unsupported),
                    false => Why::Error(ServerError::new(&text)),
                };
                return Err(Stopped { at, why });
            }
        }
        let before = self.savepoint(parts, now);
        let mut replies = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            match self.answer(part.spec, part.effect, standing, &part.words, now) {
                Ok(reply) => replies.push(reply),
                Err(refusal) => {
                    self.roll_back(before, now);
                    return Err(Stopped { at, why: Why::Refused(refusal) });
                }
            }
        }
        Ok(replies)
    }

    /// What answering these commands may change: their keys, and no others. What is written to every
    /// key at once is never answered from memory.
    fn savepoint(&self, parts: &[Part<'_>], now: Now) -> Savepoint {
        let keys = || parts.iter().flat_map(Part::keys);
        let those = |wanted: &dyn Fn(&[u8]) -> bool| {
            keys().filter(|key| wanted(key)).map(Bytes::copy_from_slice).collect()
        };
        Savepoint {
            overlay: self.overlay.savepoint(keys(), now),
            unwritten: those(&|key| !self.is_written(key)),
            settled: those(&|key| !self.journal.contains(key)),
        }
    }

    fn roll_back(&mut self, before: Savepoint, now: Now) {
        self.overlay.roll_back(before.overlay, now);
        for key in &before.unwritten {
            self.written.remove(key);
        }
        for key in &before.settled {
            self.journal.remove(key);
        }
    }

    /// Who serves a transaction while recovery settles one key after the other: see
    /// [`claim`](Memory::claim). It waits as a whole.
    pub(crate) fn claim_all(&mut self, parts: &[Part<'_>]) -> Claim {
        let keys = || parts.iter().flat_map(Part::keys);
        let concerns_all = parts.iter().any(|part| part.spec.concerns_all_keys());
        let any_held = keys().any(|key| self.held.contains(key));
        let any_owed = keys().any(|key| self.journal.contains(key));
        if !any_held && !any_owed && (!concerns_all || self.journal.len() == 0) {
            return Claim::Server;
        }
        let all_owed = keys().all(|key| self.journal.contains(key));
        let reads = parts.iter().all(|part| part.effect == Effect::Read);
        if reads && all_owed && !any_held && !concerns_all {
            return Claim::Memory;
        }
        self.held.extend(keys().map(Bytes::copy_from_slice));
        Claim::Held
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        commands::Spec,
        config::Config,
        fallback::{Fallback, Policy},
    };

    fn part<'a>(words: &[&'a str]) -> Part<'a> {
        let spec = Spec::find(words[0]).unwrap_or(Spec::unknown());
        let words = words.iter().map(|word| word.as_bytes()).collect();
        Part { spec, effect: spec.effect(), words }
    }

    type Dump = (Vec<(Bytes, Option<Bytes>)>, Vec<Bytes>, Vec<Bytes>);

    /// What memory holds, where it wrote and what it owes, in the order of keys.
    fn dump(memory: &Memory, now: Now) -> Dump {
        let value = |key: &Bytes| {
            (key.clone(), memory.overlay.peek(key, now).and_then(|view| view.string()))
        };
        let mut overlay: Vec<_> = memory.overlay.keys(now).map(value).collect();
        let mut written: Vec<_> = memory.written.iter().cloned().collect();
        overlay.sort_unstable();
        written.sort_unstable();
        (overlay, written, memory.journal_next(usize::MAX))
    }

    const COMMANDS: [&[&str]; 14] = [
        &["SET", "a", "1"],
        &["SET", "b", "2"],
        &["INCR", "a"],
        &["INCR", "seen"],
        &["APPEND", "seen", "0"],
        &["GET", "seen"],
        &["MGET", "a", "seen", "b"],
        &["DEL", "a", "c"],
        &["DEL", "seen"],
        &["RENAME", "seen", "c"],
        &["SETNX", "lock", "me"],
        &["PERSIST", "unseen"],
        &["INCR", "a", "b"],
        &["EVAL", "code", "1", "a"],
    ];

    proptest! {
        #[test]
        fn a_transaction_is_as_its_commands_one_by_one_or_as_if_it_had_never_been(
            blocks in proptest::collection::vec(
                proptest::collection::vec(0..COMMANDS.len(), 1..5),
                1..12,
            ),
            invalidates: bool,
            misses: bool,
        ) {
            let policy = if invalidates { Policy::Invalidate } else { Policy::Discard };
            let rule = if misses { Fallback::miss("*") } else { Fallback::memory("*", policy) };
            let config = Config::memory()
                .fallback(rule)
                .memory_entries_max(2)
                .journal_entries_max(3);
            let now = Now { instant: Instant::now(), unix: Duration::from_secs(1) };
            let mut memories = [Memory::new(&config, 1), Memory::new(&config, 1)];
            let set = part(&["SET", "seen", "7"]);
            for memory in &mut memories {
                let command = b"*3\r\n$3\r\nSET\r\n$4\r\nseen\r\n$1\r\n7\r\n";
                memory.observe(set.spec, command, &Reply::ok(), now);
            }
            let [whole, single] = &mut memories;
            for block in blocks {
                let parts: Vec<_> = block.iter().map(|at| part(COMMANDS[*at])).collect();
                let (standing, _) = whole.mode_for_all(&parts);
                match whole.answer_all(&parts, standing, now) {
                    Ok(replies) => for (part, reply) in parts.iter().zip(replies) {
                        let (spec, effect) = (part.spec, part.effect);
                        let answer = single.answer(spec, effect, standing, &part.words, now);
                        let answer = answer.expect("as in the transaction");
                        prop_assert_eq!(answer.view().to_value(), reply.view().to_value());
                        prop_assert_eq!(answer.source(), reply.source());
                    },
                    Err(stopped) => prop_assert!(stopped.at < parts.len()),
                }
                prop_assert_eq!(dump(whole, now), dump(single, now));
                prop_assert_eq!(whole.shadow_size(), single.shadow_size());
            }
        }
    }
}

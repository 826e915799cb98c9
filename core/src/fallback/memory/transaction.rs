//! Transactions in memory: each command as if it were alone, and all of them or none.

use bytes::Bytes;

use super::{Memory, Standing, Written, deeds, learn};
use crate::{
    Now,
    fallback::{Mode, Part, Stopped, Why, journal::Entry, shadow::Remembered, store},
    resp::Reply,
};

/// What memory held of some keys.
struct Savepoint {
    overlay: store::Savepoint,
    keys: Vec<Saved>,
}

struct Saved {
    key: Bytes,
    written: Option<Written>,
    owed: Option<Entry>,
    remembered: Option<Remembered>,
}

impl Memory {
    /// How a transaction behaves while the server is down, and whether it is to be kept; see
    /// [`mode_for`](Memory::mode_for). It takes the strictest mode of all its keys, those of its
    /// commands that only read among them.
    pub(crate) fn mode_for_all(&self, commands: &[Part<'_>]) -> (Standing, bool) {
        if !self.degrades {
            return (Standing::Wait, false);
        }
        let mut modes: Vec<Mode> = Vec::new();
        let (mut writes, mut tells, mut publishes) = (false, false, false);
        for one in commands {
            if one.spec.is_publish() {
                publishes = true;
                modes.extend(match self.publish {
                    Standing::Fail => Some(Mode::Fail),
                    Standing::Wait => Some(Mode::Wait),
                    _ => None,
                });
                continue;
            }
            modes.extend(self.modes_of(one));
            writes |= deeds::writes(one.spec, one.args());
            tells |= learn::tells_all(one.spec, one.args());
        }
        let remembers = modes.iter().any(|mode| mode.remembers_for().is_some());
        let standing = match Standing::of(modes.into_iter(), writes) {
            None => self.publish,
            // Recovery makes good what is done once more to the keys, but not that a message comes twice.
            Some(Standing::Memory(_)) if publishes => Standing::MemoryOfSeveral,
            Some(standing) => standing,
        };
        let unknown = commands.iter().any(|one| one.spec.is_unknown());
        let standing = match standing {
            // What only reads all keys has no place to keep, and of an unknown command's keys nothing
            // is known.
            Standing::Mixed if unknown || (!writes && commands.iter().any(is_vague)) => {
                Standing::Wait
            }
            other => other,
        };
        (standing, standing == Standing::Mixed || (remembers && (writes || tells)))
    }

    /// Whether these are messages, and commands of which all keys wait for the server: what memory was told or
    /// owes has nothing to do with them.
    pub(crate) fn has_no_say(&self, commands: &[Part<'_>]) -> bool {
        let waits = |one: &Part<'_>| self.modes_of(one).iter().all(|mode| *mode == Mode::Wait);
        commands.iter().all(|one| one.spec.is_publish() || waits(one))
    }

    /// The modes of all keys that a command may concern.
    fn modes_of(&self, one: &Part<'_>) -> Vec<Mode> {
        let mut modes: Vec<_> = if is_vague(one) {
            self.rules.modes_in_reach().collect()
        } else {
            one.keys().map(|key| self.rules.mode_of(key)).collect()
        };
        if modes.is_empty() {
            // Alone it would go by this as well.
            modes.push(self.rules.default_mode());
        }
        modes
    }

    /// Forgets what is known of the keys of one command, if it is a write.
    pub(crate) fn forget_part(&mut self, part: &Part<'_>, now: Now) {
        self.forget_words(part.spec, part.args(), now);
    }

    /// Answers all commands, or none of them. An error that a server would answer inside EXEC is an
    /// answer.
    ///
    /// What it takes beyond the commands themselves is a copy of what memory holds of the keys that
    /// they write.
    pub(crate) fn answer_all(
        &mut self,
        commands: &[Part<'_>],
        standing: Standing,
        now: Now,
    ) -> Result<Vec<Reply>, Stopped> {
        for (at, one) in commands.iter().enumerate() {
            // What a server would not queue. A command that nobody knows may be a module's.
            if let Some(error) = one.misuse().filter(|_| !one.spec.is_unknown()) {
                return Err(Stopped { at, why: Why::Error(error) });
            }
        }
        let before = self.savepoint(commands, now);
        let mut replies = Vec::with_capacity(commands.len());
        for (at, one) in commands.iter().enumerate() {
            match self.answer_untrimmed(one.spec, standing, &one.words, now) {
                Ok(reply) => replies.push(reply),
                Err(refusal) => {
                    self.roll_back(before, now);
                    return Err(Stopped { at, why: Why::Refused(refusal) });
                }
            }
        }
        self.trim(now);
        Ok(replies)
    }

    /// What answering these commands may change: what is known of the keys of writes. What is written
    /// to all keys at once is never answered from memory.
    fn savepoint(&self, commands: &[Part<'_>], now: Now) -> Savepoint {
        let writes = commands.iter().filter(|one| deeds::writes(one.spec, one.args()));
        let mut keys: Vec<&[u8]> = writes.flat_map(Part::keys).collect();
        keys.sort_unstable();
        keys.dedup();
        let saved = |key: &&[u8]| Saved {
            key: Bytes::copy_from_slice(key),
            written: self.written.get(*key).copied(),
            owed: self.journal.get(key).cloned(),
            remembered: self.shadow.save(key, now),
        };
        Savepoint {
            overlay: self.overlay.savepoint(keys.iter().copied(), now),
            keys: keys.iter().map(saved).collect(),
        }
    }

    fn roll_back(&mut self, before: Savepoint, now: Now) {
        self.overlay.roll_back(before.overlay, now);
        for Saved { key, written, owed, remembered } in before.keys {
            let now_written = match written {
                Some(written) => self.written.insert(key.clone(), written),
                None => self.written.remove(&key),
            };
            match (now_written, written) {
                (None, Some(_)) => self.written_bytes += key.len(),
                (Some(_), None) => self.written_bytes -= key.len(),
                _ => {}
            }
            match owed {
                Some(entry) => self.journal.owe(&key, entry),
                None => self.journal.remove(&key),
            }
            self.shadow.restore(&key, remembered, now);
        }
    }
}

/// Whether any key may be among those of a command.
fn is_vague(one: &Part<'_>) -> bool {
    let any_key = one.spec.concerns_all_keys() || one.spec.is_unknown();
    any_key || deeds::reads_others(one.spec, one.args())
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

    /// What memory holds, knows and owes, key by key.
    fn dump(memory: &mut Memory, now: Now) -> Vec<String> {
        memory.overlay.expire(now);
        let about = |key: &&str| {
            let key = key.as_bytes();
            let value = memory.overlay.peek(key, now);
            let value = value.map(|view| (view.string(), view.bytes(), view.expires_at()));
            let written = memory.written.get(key).map(|written| written.expiry);
            let owed = memory.journal.get(key).map(|entry| match entry {
                Entry::Merge(delta) => {
                    let commands = delta.commands(&Bytes::copy_from_slice(key), now.unix_millis());
                    format!(
                        "{:?}",
                        commands.iter().map(|one| one.words().concat()).collect::<Vec<_>>()
                    )
                }
                Entry::Delete => "delete".to_owned(),
                Entry::Replay => "replay".to_owned(),
            });
            let known = memory.shadow.look(key, now);
            format!("{key:?}: {value:?} {written:?} {owed:?} {known:?}")
        };
        let sizes = (memory.overlay_size(), memory.shadow_size(), memory.journal_size());
        KEYS.iter().map(about).chain([format!("{sizes:?}")]).collect()
    }

    const KEYS: [&str; 8] = ["a", "b", "c", "seen", "merged", "set", "lock", "unseen"];

    const COMMANDS: [&[&str]; 22] = [
        &["SET", "a", "1"],
        &["SET", "b", "2", "PX", "1000"],
        &["INCR", "a"],
        &["INCR", "seen"],
        &["APPEND", "seen", "0"],
        &["GET", "seen"],
        &["MGET", "a", "seen", "b"],
        &["DEL", "a", "c"],
        &["DEL", "seen"],
        &["RENAME", "seen", "c"],
        &["INCRBY", "merged", "5"],
        &["SADD", "set", "x", "y"],
        &["SREM", "set", "x"],
        &["EXPIRE", "merged", "100"],
        &["PERSIST", "seen"],
        &["APPEND", "set", "wrong type"],
        &["SETNX", "lock", "me"],
        &["PERSIST", "unseen"],
        &["COPY", "seen", "merged"],
        &["INCR", "a", "b"],
        &["EVAL", "code", "1", "a"],
        &["DBSIZE"],
    ];

    fn rules(choice: u8) -> Config {
        let policies =
            [Policy::Discard, Policy::Invalidate, Policy::ReplayLastWins, Policy::MergeDelta];
        let config = Config::memory().memory_entries_max(3).journal_entries_max(3);
        match choice {
            0..4 => config.fallback(Fallback::memory("*", policies[usize::from(choice)])),
            4 => config.fallback(Fallback::miss("*")),
            5 => config.fallback(Fallback::stale_reads("*", Duration::from_secs(60))),
            _ => config
                .fallback(Fallback::memory("merged", Policy::MergeDelta))
                .fallback(Fallback::memory("se*", Policy::ReplayLastWins))
                .fallback(Fallback::memory("*", Policy::Invalidate)),
        }
    }

    proptest! {
        #[test]
        fn a_transaction_is_as_its_commands_one_by_one_or_as_if_it_had_never_been(
            blocks in proptest::collection::vec(
                (proptest::collection::vec(0..COMMANDS.len(), 1..5), 0..1_500_u64),
                1..12,
            ),
            choice in 0..7_u8,
        ) {
            let config = rules(choice);
            let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1) };
            let mut memories = [Memory::new(&config, 1), Memory::new(&config, 1)];
            let set = part(&["SET", "seen", "7"]);
            for memory in &mut memories {
                let command = b"*3\r\n$3\r\nSET\r\n$4\r\nseen\r\n$1\r\n7\r\n";
                memory.observe(set.spec, command, &Reply::ok(), now);
            }
            let [whole, single] = &mut memories;
            for (block, millis) in blocks {
                now = now + Duration::from_millis(millis);
                let parts: Vec<_> = block.iter().map(|at| part(COMMANDS[*at])).collect();
                let (standing, _) = whole.mode_for_all(&parts);
                match whole.answer_all(&parts, standing, now) {
                    Ok(replies) => {
                        for (part, reply) in parts.iter().zip(replies) {
                            let words = &part.words;
                            let answer = single.answer_untrimmed(part.spec, standing, words, now);
                            let answer = answer.expect("as in the transaction");
                            prop_assert_eq!(answer.view().to_value(), reply.view().to_value());
                            prop_assert_eq!(answer.source(), reply.source());
                        }
                        // Clean values make room once, at the end.
                        single.trim(now);
                    }
                    Err(stopped) => prop_assert!(stopped.at < parts.len()),
                }
                prop_assert_eq!(dump(whole, now), dump(single, now));
            }
        }
    }
}

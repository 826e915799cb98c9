//! Several commands as one: all of them run, or none.

use std::fmt;

use bytes::Bytes;

use super::{Answer, Store, dispatch, entry::Entry};
use crate::{
    Now,
    failure::MemoryRefusal,
    fallback::{Part, Stopped, Why},
    reply::ServerError,
    request::Effect,
    resp::Value,
};

/// What stood at some keys, or at all of them.
pub(crate) struct Savepoint {
    entries: Vec<(Bytes, Option<Entry>)>,
    /// There were no others.
    all: bool,
}

/// Keys and values are left out: they are the caller's data.
impl fmt::Debug for Savepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Savepoint(of {} keys)", self.entries.len())
    }
}

impl Store {
    /// Runs commands one right after the other, or none of them where a server would not have queued
    /// one of them or this store can't run it. An error that a server gives inside EXEC is a reply.
    ///
    /// What it takes beyond the commands themselves is a copy of what stands at their keys.
    pub(crate) fn execute_all(
        &mut self,
        parts: &[Part<'_>],
        now: Now,
    ) -> Result<Vec<Value>, Stopped> {
        for (at, part) in parts.iter().enumerate() {
            match Store::refusal(&part.words) {
                None => {}
                Some(refusal) => return Err(Stopped { at, why: why(refusal) }),
            }
        }
        let everything =
            |part: &Part<'_>| part.spec.concerns_all_keys() && part.effect != Effect::Read;
        let before = if parts.iter().any(everything) {
            self.savepoint_of_all(now)
        } else {
            self.savepoint(parts.iter().flat_map(Part::keys), now)
        };
        let mut values = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            match self.execute(&part.words, now) {
                Answer::Reply(value) => values.push(value),
                refusal => {
                    self.roll_back(before, now);
                    return Err(Stopped { at, why: why(refusal) });
                }
            }
        }
        Ok(values)
    }

    /// What a server answers to a command that it does not even begin to run, and what becomes of one
    /// that this store does not support.
    pub(crate) fn refusal(words: &[&[u8]]) -> Option<Answer> {
        dispatch::prepare(words).err()
    }

    /// What stands at these keys, to [roll back](Store::roll_back) to. Takes a copy of it.
    pub(crate) fn savepoint<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        now: Now,
    ) -> Savepoint {
        let at = now.unix_millis();
        let entry = |key| (Bytes::copy_from_slice(key), self.keyspace.peek(key, at).cloned());
        Savepoint { entries: keys.map(entry).collect(), all: false }
    }

    fn savepoint_of_all(&self, now: Now) -> Savepoint {
        let keys = self.keyspace.keys(now.unix_millis()).map(|key| &key[..]);
        Savepoint { all: true, ..self.savepoint(keys, now) }
    }

    /// Whether what stands at the keys of a savepoint is what stood there.
    pub(crate) fn stands_as(&self, before: &Savepoint, now: Now) -> bool {
        let at = now.unix_millis();
        before.entries.iter().all(|(key, entry)| match (entry, self.keyspace.peek(key, at)) {
            (Some(before), Some(now)) => before.is_same(now),
            (before, now) => before.is_none() && now.is_none(),
        })
    }

    /// Has what stood at the keys of a savepoint stand there again. Nothing else may have been changed
    /// since; then there is room for it.
    pub(crate) fn roll_back(&mut self, before: Savepoint, now: Now) {
        if before.all {
            self.keyspace.clear();
        }
        for (key, entry) in before.entries {
            match entry {
                Some(entry) => self.keyspace.put_reserved(&key, entry),
                None => drop(self.keyspace.remove(&key, now.unix_millis())),
            }
        }
    }
}

fn why(refusal: Answer) -> Why {
    match refusal {
        Answer::Reply(Value::Error(text)) => Why::Error(ServerError::new(&text)),
        Answer::Full(Value::Error(text)) => Why::Full(ServerError::new(&text)),
        _ => Why::Refused(MemoryRefusal::Unsupported),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::{commands::Spec, fallback::Bounds};

    fn part<'a>(words: &[&'a str]) -> Part<'a> {
        let spec = Spec::find(words[0]).unwrap_or(Spec::unknown());
        let words = words.iter().map(|word| word.as_bytes()).collect();
        Part { spec, effect: spec.effect(), words }
    }

    /// All that the store holds, in the order of keys.
    fn dump(store: &Store, now: Now) -> Vec<(Bytes, Option<Bytes>, Option<u64>)> {
        let entry = |key: &Bytes| {
            let view = store.peek(key, now).expect("it is listed");
            (key.clone(), view.string(), view.expires_at())
        };
        let mut all: Vec<_> = store.keys(now).map(entry).collect();
        all.sort_unstable();
        all
    }

    const COMMANDS: [&[&str]; 15] = [
        &["SET", "a", "1"],
        &["SET", "b", "a longer value than the others"],
        &["SET", "c", "3", "PX", "4"],
        &["INCR", "a"],
        &["APPEND", "b", "more"],
        &["DEL", "a", "b"],
        &["RENAME", "a", "d"],
        &["COPY", "b", "e", "REPLACE"],
        &["PEXPIRE", "a", "3"],
        &["PERSIST", "a"],
        &["MSET", "d", "1", "e", "2"],
        &["GETDEL", "d"],
        &["FLUSHALL"],
        &["INCR", "a", "b"],
        &["EVAL", "code", "0"],
    ];

    proptest! {
        #[test]
        fn a_transaction_is_as_its_commands_one_by_one_or_as_if_it_had_never_been(
            blocks in proptest::collection::vec(
                (proptest::collection::vec(0..COMMANDS.len(), 1..6), 0..3_u64),
                1..20,
            ),
        ) {
            let bounds = Bounds { entries_max: 3, bytes_max: 620 };
            let (mut whole, mut single) = (Store::new(1, bounds), Store::new(1, bounds));
            let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1) };
            for (block, millis) in blocks {
                now.unix += Duration::from_millis(millis);
                let parts: Vec<_> = block.iter().map(|at| part(COMMANDS[*at])).collect();
                match whole.execute_all(&parts, now) {
                    Ok(values) => for (part, value) in parts.iter().zip(values) {
                        let answer = single.execute(&part.words, now);
                        prop_assert_eq!(answer, Answer::Reply(value));
                    },
                    Err(stopped) => prop_assert!(stopped.at < parts.len()),
                }
                prop_assert_eq!(dump(&whole, now), dump(&single, now));
                whole.expire(now);
                single.expire(now);
                prop_assert_eq!(whole.bytes(), single.bytes());
            }
        }
    }
}

//! The last known values of the server; the least recently used go first.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Answer, Bounds, Store, aged::Aged, store::Savepoint};
use crate::{Now, rng::Rng};

/// Copies of whole values, each with what is known of its expiry. How many there may be and how much
/// they may take its owner says, who shares a bound among several.
#[derive(Debug)]
pub(super) struct Shadow {
    /// Each value expires when the server's is known to.
    values: Store,
    /// What is known of each value, the least recently used first.
    known: Aged<Known>,
    value_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Until when it may be served. An unknown time to live never means "for ever".
    fresh_until: Instant,
    /// It is known when the value expires, or that it does not.
    expiry: bool,
}

/// What was remembered at one key.
pub(super) struct Remembered {
    value: Savepoint,
    known: Known,
}

/// A whole value as a command or reply has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whole<'a> {
    Text(&'a [u8]),
    /// Fields and values.
    Hash(Vec<(&'a [u8], &'a [u8])>),
    List(Vec<&'a [u8]>),
    Set(Vec<&'a [u8]>),
    /// Scores and members.
    SortedSet(Vec<(&'a [u8], &'a [u8])>),
}

/// What is known of when a value expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Unknown,
    /// What was known before holds still.
    Kept,
    /// In milliseconds since the Unix epoch; `None` is never.
    At(Option<u64>),
}

/// What can be said of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Its value may be served; whether it is known when that expires.
    Fresh {
        expiry: bool,
    },
    /// Its value was known, too long ago to be served.
    TooOld,
    Unknown,
}

impl Shadow {
    pub(super) fn new(rng: &mut Rng, value_max: usize) -> Self {
        let values = Store::new(rng.next(), Bounds::NONE);
        Shadow { values, known: Aged::new(rng.next()), value_max }
    }

    /// Remembers a value, copied. One that is too large is forgotten, as is an empty collection:
    /// there is no such thing on a server.
    pub(super) fn insert(
        &mut self,
        key: &[u8],
        value: &Whole<'_>,
        max_age: Duration,
        expiry: Expiry,
        now: Now,
    ) {
        let before = match expiry {
            Expiry::Kept if self.look(key, now) != Look::Unknown => {
                let known = self.known.get(key).is_some_and(|known| known.expiry);
                let at = self.values.peek(key, now).and_then(|entry| entry.expires_at());
                if known { Expiry::At(at) } else { Expiry::Unknown }
            }
            Expiry::Kept => Expiry::Unknown,
            other => other,
        };
        let (known, at) = match before {
            Expiry::At(at) => (true, at),
            Expiry::Unknown | Expiry::Kept => (false, None),
        };
        if value.bytes() > self.value_max || !self.put(key, value, at, now) {
            return self.remove(key, now);
        }
        self.known.insert(key, Known { fresh_until: now.after(max_age), expiry: known });
    }

    /// Gives whether it is there now: not so an empty collection.
    fn put(&mut self, key: &[u8], value: &Whole<'_>, at: Option<u64>, now: Now) -> bool {
        let name: &[u8] = match value {
            Whole::Text(text) => {
                let text = Bytes::copy_from_slice(text);
                return self.values.insert_string(key, text, at, now).is_ok();
            }
            Whole::Hash(_) => b"HSET",
            Whole::List(_) => b"RPUSH",
            Whole::Set(_) => b"SADD",
            Whole::SortedSet(_) => b"ZADD",
        };
        let mut words = vec![name, key];
        words.extend(value.words());
        self.values.remove(key, now);
        // Without any member the store refuses it, as a server does.
        let stored = self.values.execute(&words, now);
        if !matches!(stored, Answer::Reply(_)) || !self.values.contains(key, now) {
            return false;
        }
        self.values.set_expiry(key, at, now);
        true
    }

    /// Sets when a remembered value expires.
    pub(super) fn expire(&mut self, key: &[u8], at: Option<u64>, now: Now) {
        if let Some(known) = self.known.get_mut(key) {
            known.expiry = true;
            self.values.set_expiry(key, at, now);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8], now: Now) {
        self.values.remove(key, now);
        self.known.remove(key);
    }

    /// What is remembered at a key, too old or not, to be [restored](Shadow::restore).
    pub(super) fn save(&self, key: &[u8], now: Now) -> Option<Remembered> {
        let value = self.values.savepoint(std::iter::once(key), now);
        self.known.get(key).map(|known| Remembered { value, known: *known })
    }

    /// Has a key remembered as it was saved; as the most recently used, where it was forgotten since.
    pub(super) fn restore(&mut self, key: &[u8], saved: Option<Remembered>, now: Now) {
        let Some(Remembered { value, known }) = saved else { return self.remove(key, now) };
        self.values.roll_back(value, now);
        match self.known.get_mut(key) {
            Some(place) => *place = known,
            None => drop(self.known.insert(key, known)),
        }
    }

    pub(super) fn look(&self, key: &[u8], now: Now) -> Look {
        match self.known.get(key) {
            Some(_) if !self.values.contains(key, now) => Look::Unknown,
            Some(known) if known.fresh_until <= now.instant => Look::TooOld,
            Some(known) => Look::Fresh { expiry: known.expiry },
            None => Look::Unknown,
        }
    }

    /// Lends `store` what is remembered at `key`, which is fresh.
    pub(super) fn lend(&mut self, store: &mut Store, key: &[u8], now: Now) {
        store.borrow_from(&self.values, key, now);
        self.known.renew(key);
    }

    /// The keys whose values may be served, in an order that depends on the calls alone, each with
    /// its type.
    pub(super) fn fresh(&self, now: Now) -> impl Iterator<Item = (&Bytes, &'static str)> {
        self.known.keys().filter_map(move |key| {
            let fresh = matches!(self.look(key, now), Look::Fresh { .. });
            let entry = self.values.peek(key, now).filter(|_| fresh)?;
            Some((key, entry.type_name()))
        })
    }

    /// Forgets values, the least recently used first, until it is no larger than that.
    pub(super) fn shrink_to(&mut self, entries: usize, bytes: usize, now: Now) {
        let over = |shadow: &Shadow| shadow.known.len() > entries || shadow.values.bytes() > bytes;
        if over(self) {
            self.values.expire(now);
        }
        while over(self) {
            let Some(oldest) = self.known.keys().next().cloned() else { return };
            self.remove(&oldest, now);
        }
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.known.len(), self.values.bytes())
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.known.clear();
    }

    /// Forgets all but the keys for which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool, now: Now) {
        let gone: Vec<Bytes> = self.known.keys().filter(|key| !keep(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key, now));
    }
}

impl Whole<'_> {
    /// What is held against the largest value that is remembered.
    fn bytes(&self) -> usize {
        match self {
            Whole::Text(text) => text.len(),
            collection => collection.words().map(<[u8]>::len).sum(),
        }
    }

    /// The members of a collection, as the command that makes it has them.
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        let (pairs, items) = match self {
            Whole::Hash(pairs) | Whole::SortedSet(pairs) => (&pairs[..], &[][..]),
            Whole::List(items) | Whole::Set(items) => (&[][..], &items[..]),
            Whole::Text(_) => (&[][..], &[][..]),
        };
        pairs.iter().flat_map(|&(a, b)| [a, b]).chain(items.iter().copied())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const AGE: Duration = Duration::from_secs(10);

    fn shadow() -> (Shadow, Now) {
        let now = Now::new(Instant::now(), SystemTime::now());
        (Shadow::new(&mut Rng::new(1), 100), now)
    }

    fn insert(shadow: &mut Shadow, key: &str, text: &str, expiry: Expiry, now: Now) {
        shadow.insert(key.as_bytes(), &Whole::Text(text.as_bytes()), AGE, expiry, now);
    }

    #[test]
    fn a_value_is_served_until_it_is_too_old_whatever_the_wall_clock_says() {
        let (mut shadow, mut now) = shadow();
        insert(&mut shadow, "a", "1", Expiry::Unknown, now);
        now = now + AGE / 2;
        now.unix += Duration::from_secs(86_400);
        assert_eq!(shadow.look(b"a", now), Look::Fresh { expiry: false });
        now = now + AGE / 2;
        assert_eq!(shadow.look(b"a", now), Look::TooOld);
        insert(&mut shadow, "a", "2", Expiry::Unknown, now);
        assert_eq!(shadow.look(b"a", now), Look::Fresh { expiry: false });
    }

    #[test]
    fn a_value_is_gone_when_its_time_to_live_is_over() {
        let (mut shadow, mut now) = shadow();
        let at = now.unix_millis() + 1_000;
        insert(&mut shadow, "a", "1", Expiry::At(Some(at)), now);
        insert(&mut shadow, "a", "2", Expiry::Kept, now);
        insert(&mut shadow, "b", "1", Expiry::Kept, now);
        assert_eq!(shadow.look(b"a", now), Look::Fresh { expiry: true });
        assert_eq!(shadow.look(b"b", now), Look::Fresh { expiry: false });
        now = now + Duration::from_millis(1_001);
        assert_eq!(shadow.look(b"a", now), Look::Unknown);
        // What is written after it is gone has a life of its own.
        insert(&mut shadow, "a", "3", Expiry::Kept, now);
        assert_eq!(shadow.look(b"a", now), Look::Fresh { expiry: false });
        shadow.expire(b"b", Some(at), now);
        assert_eq!(shadow.look(b"b", now), Look::Unknown);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let (mut shadow, now) = shadow();
        for key in ["a", "b", "c"] {
            insert(&mut shadow, key, "1", Expiry::Unknown, now);
        }
        let mut store = Store::new(1, Bounds::NONE);
        shadow.lend(&mut store, b"a", now);
        shadow.shrink_to(2, usize::MAX, now);
        let keys: Vec<_> = shadow.fresh(now).map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, ["c", "a"]);
        shadow.shrink_to(2, shadow.size().1 - 1, now);
        assert_eq!(shadow.size().0, 1);
        shadow.shrink_to(0, 0, now);
        assert_eq!(shadow.size(), (0, 0));
    }

    #[test]
    fn a_value_that_is_too_large_takes_the_place_of_none() {
        let (mut shadow, now) = shadow();
        insert(&mut shadow, "a", "1", Expiry::Unknown, now);
        insert(&mut shadow, "a", &"x".repeat(101), Expiry::Unknown, now);
        assert_eq!((shadow.look(b"a", now), shadow.size()), (Look::Unknown, (0, 0)));
    }
}

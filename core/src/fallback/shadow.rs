//! The last known values of the server, bounded; the least recently used go first.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use hashbrown::HashMap;

use super::{Bounds, Store, keyed::Keyed};
use crate::{Now, rng::Rng};

#[derive(Debug)]
pub(crate) struct Shadow {
    /// Every entry expires: with its own time to live or when it is too old to be served, whichever
    /// comes first. An unknown time to live never means "for ever".
    values: Store,
    by_use: BTreeMap<u64, Bytes>,
    used: HashMap<Bytes, u64, Keyed>,
    uses: u64,
    value_max: usize,
}

impl Shadow {
    pub(crate) fn new(rng: &mut Rng, bounds: Bounds, value_max: usize) -> Self {
        Shadow {
            values: Store::new(rng.next(), bounds),
            by_use: BTreeMap::new(),
            used: HashMap::with_hasher(Keyed::new(rng.next())),
            uses: 0,
            value_max,
        }
    }

    /// Remembers a value, copied, for `max_age` or its time to live, whichever is shorter.
    pub(crate) fn insert(
        &mut self,
        key: &[u8],
        value: &[u8],
        max_age: Duration,
        ttl_millis: Option<u64>,
        now: Now,
    ) {
        if value.len() > self.value_max {
            return self.remove(key, now);
        }
        let age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        let span = ttl_millis.map_or(age, |ttl| ttl.min(age));
        let expires_at = Some(now.unix_millis().saturating_add(span));
        let value = Bytes::copy_from_slice(value);
        while self.values.insert_string(key, value.clone(), expires_at, now).is_err() {
            if !self.evict(now) {
                return;
            }
        }
        self.touch(key);
        // The store takes expired entries away by itself, so it may hold fewer than are listed here.
        while self.used.len() > self.values.bounds().entries_max {
            self.evict(now);
        }
    }

    fn evict(&mut self, now: Now) -> bool {
        let Some((_, oldest)) = self.by_use.pop_first() else { return false };
        self.used.remove(&oldest);
        self.values.remove(&oldest, now);
        true
    }

    fn touch(&mut self, key: &[u8]) {
        self.uses += 1;
        let key = match self.used.get(key).and_then(|last| self.by_use.remove(last)) {
            Some(key) => key,
            None => Bytes::copy_from_slice(key),
        };
        self.used.insert(key.clone(), self.uses);
        self.by_use.insert(self.uses, key);
    }

    pub(crate) fn remove(&mut self, key: &[u8], now: Now) {
        self.values.remove(key, now);
        if let Some(last) = self.used.remove(key) {
            self.by_use.remove(&last);
        }
    }

    pub(crate) fn contains(&self, key: &[u8], now: Now) -> bool {
        self.values.contains(key, now)
    }

    /// Lends `store` what is known at `key`. Gives whether anything is.
    pub(crate) fn lend(&mut self, store: &mut Store, key: &[u8], now: Now) -> bool {
        let known = store.borrow_from(&self.values, key, now);
        if known {
            self.touch(key);
        }
        known
    }

    pub(crate) fn keys(&self, now: Now) -> Vec<Bytes> {
        self.values.keys(now).cloned().collect()
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.values.len(), self.values.bytes())
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.by_use.clear();
        self.used.clear();
    }
}

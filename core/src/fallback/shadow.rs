//! The last known values of the server, bounded; the least recently used go first.

use std::time::Duration;

use bytes::Bytes;

use super::{Bounds, Store, aged::Aged};
use crate::{Now, rng::Rng};

#[derive(Debug)]
pub(crate) struct Shadow {
    /// Every entry expires: with its own time to live or when it is too old to be served, whichever
    /// comes first. An unknown time to live never means "for ever".
    values: Store,
    /// Their keys, the least recently used first.
    used: Aged<()>,
    value_max: usize,
}

impl Shadow {
    pub(crate) fn new(rng: &mut Rng, bounds: Bounds, value_max: usize) -> Self {
        Shadow { values: Store::new(rng.next(), bounds), used: Aged::new(rng.next()), value_max }
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
        self.used.insert(key, ());
        // The store takes expired entries away by itself, so it may hold fewer than are listed here.
        while self.used.len() > self.values.bounds().entries_max {
            self.evict(now);
        }
    }

    fn evict(&mut self, now: Now) -> bool {
        let oldest = self.used.keys().next().cloned();
        if let Some(key) = &oldest {
            self.remove(key, now);
        }
        oldest.is_some()
    }

    pub(crate) fn remove(&mut self, key: &[u8], now: Now) {
        self.values.remove(key, now);
        self.used.remove(key);
    }

    pub(crate) fn contains(&self, key: &[u8], now: Now) -> bool {
        self.values.contains(key, now)
    }

    /// Lends `store` what is known at `key`. Gives whether anything is.
    pub(crate) fn lend(&mut self, store: &mut Store, key: &[u8], now: Now) -> bool {
        let known = store.borrow_from(&self.values, key, now);
        if known {
            self.used.renew(key);
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
        self.used.clear();
    }
}

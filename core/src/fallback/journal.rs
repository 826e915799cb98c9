//! What recovery owes the server: one entry a key, the oldest first.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;

use super::keyed::Keyed;

#[derive(Debug)]
pub(crate) struct Journal {
    by_age: BTreeMap<u64, Bytes>,
    by_key: HashMap<Bytes, u64, Keyed>,
    added: u64,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Journal {
    pub(crate) fn new(seed: u64, entries_max: usize, bytes_max: usize) -> Self {
        Journal {
            by_age: BTreeMap::new(),
            by_key: HashMap::with_hasher(Keyed::new(seed)),
            added: 0,
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// Whether all of these keys can be added. A key that is in has its room already.
    pub(crate) fn has_room<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> bool {
        let (mut entries, mut bytes) = (self.len(), self.bytes);
        for key in keys.filter(|key| !self.contains(key)) {
            entries += 1;
            bytes += key.len();
        }
        entries <= self.entries_max && bytes <= self.bytes_max
    }

    pub(crate) fn add(&mut self, key: &[u8]) {
        if self.contains(key) {
            return;
        }
        let key = Bytes::copy_from_slice(key);
        self.bytes += key.len();
        self.added += 1;
        self.by_age.insert(self.added, key.clone());
        self.by_key.insert(key, self.added);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(age) = self.by_key.remove(key) {
            self.by_age.remove(&age);
            self.bytes -= key.len();
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    pub(crate) fn first(&self, count: usize) -> Vec<Bytes> {
        self.by_age.values().take(count).cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.by_age.clear();
        self.by_key.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_owed_once_and_the_oldest_comes_first() {
        let mut journal = Journal::new(1, 10, 100);
        for key in ["b", "a", "b", "c"] {
            journal.add(key.as_bytes());
        }
        assert_eq!(journal.first(2), ["b", "a"]);
        journal.remove(b"b");
        assert_eq!(journal.first(9), ["a", "c"]);
    }

    #[test]
    fn both_bounds_hold_and_a_known_key_needs_no_room() {
        let mut journal = Journal::new(1, 2, 5);
        journal.add(b"abc");
        assert!(journal.has_room([&b"de"[..]].into_iter()));
        assert!(!journal.has_room([&b"def"[..]].into_iter()));
        journal.add(b"d");
        assert!(!journal.has_room([&b"e"[..]].into_iter()));
        assert!(journal.has_room([&b"abc"[..]].into_iter()));
    }
}

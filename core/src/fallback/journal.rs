//! What recovery owes the server: one entry a key, the oldest first.

use bytes::Bytes;

use super::aged::Aged;

#[derive(Debug)]
pub(crate) struct Journal {
    keys: Aged<()>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Journal {
    pub(crate) fn new(seed: u64, entries_max: usize, bytes_max: usize) -> Self {
        Journal { keys: Aged::new(seed), bytes: 0, entries_max, bytes_max }
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
        if !self.contains(key) {
            self.bytes += key.len();
            self.keys.insert(key, ());
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if self.keys.remove(key).is_some() {
            self.bytes -= key.len();
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
    }

    pub(crate) fn first(&self, count: usize) -> Vec<Bytes> {
        self.keys.keys().take(count).cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
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

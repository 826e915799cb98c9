//! Things found by their key and told apart by their age: what the journal and the shadow are lists
//! of.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use hashbrown::HashMap;

use super::keyed::Keyed;

/// Values by key, in the order in which they came or were last used.
///
/// Every call takes logarithmic time at most, but for those that go through all of it.
pub(super) struct Aged<V> {
    by_age: BTreeMap<u64, Bytes>,
    by_key: HashMap<Bytes, (u64, V), Keyed>,
    /// The age of the youngest, as a count of all that ever came.
    count: u64,
}

impl<V> Aged<V> {
    /// The seed keys the hash of the keys.
    pub(super) fn new(seed: u64) -> Self {
        let by_key = HashMap::with_hasher(Keyed::new(seed));
        Aged { by_age: BTreeMap::new(), by_key, count: 0 }
    }

    /// Puts a value at `key`, as the youngest of all. Gives the one that it replaces.
    pub(super) fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        if let Some((age, old)) = self.by_key.get_mut(key) {
            self.count += 1;
            rejuvenate(&mut self.by_age, age, self.count);
            return Some(std::mem::replace(old, value));
        }
        let key = Bytes::copy_from_slice(key);
        self.count += 1;
        self.by_age.insert(self.count, key.clone());
        self.by_key.insert(key, (self.count, value));
        None
    }

    /// Makes what is at `key` the youngest of all.
    pub(super) fn renew(&mut self, key: &[u8]) {
        let Some((age, _)) = self.by_key.get_mut(key) else { return };
        self.count += 1;
        rejuvenate(&mut self.by_age, age, self.count);
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let (age, value) = self.by_key.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.by_key.get(key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.by_key.get_mut(key).map(|(_, value)| value)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    /// All keys, the oldest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.by_age.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn clear(&mut self) {
        self.by_age.clear();
        self.by_key.clear();
    }
}

fn rejuvenate(by_age: &mut BTreeMap<u64, Bytes>, age: &mut u64, youngest: u64) {
    let key = by_age.remove(age).expect("both lists hold the same keys");
    *age = youngest;
    by_age.insert(youngest, key);
}

impl<V> fmt::Debug for Aged<V> {
    /// A count only: keys and values can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aged").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(keys: &[&str]) -> Aged<usize> {
        let mut aged = Aged::new(1);
        for (at, key) in keys.iter().enumerate() {
            aged.insert(key.as_bytes(), at);
        }
        aged
    }

    fn keys(aged: &Aged<usize>) -> Vec<&[u8]> {
        aged.keys().map(|key| &key[..]).collect()
    }

    #[test]
    fn the_oldest_comes_first() {
        let mut aged = aged(&["b", "a", "c"]);
        assert_eq!(keys(&aged), [b"b", b"a", b"c"]);
        assert_eq!(aged.remove(b"b"), Some(0));
        assert_eq!(aged.remove(b"b"), None);
        assert_eq!((keys(&aged), aged.len()), (vec![&b"a"[..], b"c"], 2));
    }

    #[test]
    fn what_is_put_again_or_renewed_is_the_youngest() {
        let mut aged = aged(&["a", "b", "c"]);
        assert_eq!(aged.insert(b"a", 7), Some(0));
        assert_eq!(keys(&aged), [b"b", b"c", b"a"]);
        aged.renew(b"b");
        aged.renew(b"nobody");
        assert_eq!(keys(&aged), [b"c", b"a", b"b"]);
        assert_eq!((aged.get(b"a"), aged.contains(b"nobody")), (Some(&7), false));
    }

    #[test]
    fn changing_a_value_leaves_its_age() {
        let mut aged = aged(&["a", "b"]);
        *aged.get_mut(b"a").expect("it is there") = 9;
        assert_eq!((keys(&aged), aged.get(b"a")), (vec![&b"a"[..], b"b"], Some(&9)));
        aged.clear();
        assert_eq!((aged.len(), aged.keys().count()), (0, 0));
    }

    #[test]
    fn no_key_is_formatted() {
        assert_eq!(format!("{:?}", aged(&["secret"])), "Aged { len: 1, .. }");
    }
}

//! Keys that an older command waits to write: what comes later to them waits behind it.

use bytes::Bytes;
use hashbrown::HashMap;

use super::{deeds, keyed::Keyed};
use crate::commands::Spec;

/// How many commands wait to write each key. A command that waits is counted from when it first had
/// to wait until it has ended, or goes another way.
#[derive(Debug)]
pub(super) struct Engaged {
    keys: HashMap<Bytes, u32, Keyed>,
    /// How many of them are about every key there is.
    all: u32,
}

impl Engaged {
    pub(super) fn new(seed: u64) -> Self {
        Engaged { keys: HashMap::with_hasher(Keyed::new(seed)), all: 0 }
    }

    pub(super) fn add(&mut self, spec: &Spec, args: &[&[u8]]) {
        if spec.concerns_all_keys() {
            self.all += 1;
        }
        for key in spec.keys().of(args) {
            match self.keys.get_mut(key) {
                Some(count) => *count += 1,
                None => drop(self.keys.insert(Bytes::copy_from_slice(key), 1)),
            }
        }
    }

    /// Takes back one that was added with the same words.
    pub(super) fn remove(&mut self, spec: &Spec, args: &[&[u8]]) {
        if spec.concerns_all_keys() {
            self.all = self.all.saturating_sub(1);
        }
        for key in spec.keys().of(args) {
            let Some(count) = self.keys.get_mut(key) else { continue };
            *count -= 1;
            if *count == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// Whether something older waits to write what this command is about.
    pub(super) fn concerns(&self, spec: &Spec, args: &[&[u8]]) -> bool {
        let any_key = spec.concerns_all_keys() || deeds::reads_others(spec, args);
        self.all > 0
            || (any_key && !self.keys.is_empty())
            || spec.keys().of(args).any(|key| self.keys.contains_key(key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all == 0 && self.keys.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.all = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_free_when_the_last_that_waits_for_it_is_gone() {
        let mut engaged = Engaged::new(1);
        let (mset, get, keys) = (Spec::of("MSET"), Spec::of("GET"), Spec::of("KEYS"));
        let pairs: [&[u8]; 4] = [b"a", b"1", b"b", b"2"];
        engaged.add(mset, &pairs);
        engaged.add(mset, &pairs[..2]);
        assert!(engaged.concerns(get, &[b"a"]) && engaged.concerns(get, &[b"b"]));
        assert!(!engaged.concerns(get, &[b"1"]) && engaged.concerns(keys, &[b"*"]));
        engaged.remove(mset, &pairs);
        assert!(engaged.concerns(get, &[b"a"]) && !engaged.concerns(get, &[b"b"]));
        engaged.remove(mset, &pairs[..2]);
        assert!(!engaged.concerns(get, &[b"a"]) && !engaged.concerns(keys, &[b"*"]));
    }

    #[test]
    fn what_changes_every_key_concerns_every_key() {
        let mut engaged = Engaged::new(1);
        let (flush, get) = (Spec::of("FLUSHDB"), Spec::of("GET"));
        engaged.add(flush, &[]);
        assert!(engaged.concerns(get, &[b"a"]));
        engaged.remove(flush, &[]);
        assert!(!engaged.concerns(get, &[b"a"]));
    }
}

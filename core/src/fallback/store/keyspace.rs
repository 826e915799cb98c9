//! The entries: where they are, in which order, when they expire and what they take.
//!
//! Entries stand side by side in a vector; a hash table finds an entry's place by its key, and an
//! ordered set knows which expires next. All three hold the same keys at all times. Removing
//! moves the last entry into the gap, so picking one at random takes constant time, and the
//! order depends on the calls alone and not on the hash.

use std::collections::BTreeSet;
use std::hash::Hasher;

use bytes::Bytes;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::Bounds;
use super::entry::{Data, Entry};
use super::refusal::Refusal;
use crate::rng::Rng;

/// What an entry is charged with beside the bytes of its key and value: its place in the
/// vector, the hash table and the order of expiry, and the allocator's share.
pub const ENTRY_BYTES: usize = 160;

/// How many entries that are due are taken away with each command. It must be above one, so
/// that expired entries go faster than new ones can come; more would make single calls slow.
const EXPIRED_PER_CALL_MAX: usize = 16;

pub(super) struct Keyspace {
    slots: Vec<Slot>,
    /// Places in `slots`.
    index: HashTable<usize>,
    /// When, in milliseconds since the Unix epoch, and which key.
    expiries: BTreeSet<(u64, Bytes)>,
    hasher: SipHasher13,
    random: Rng,
    bytes: usize,
    bounds: Bounds,
}

struct Slot {
    hash: u64,
    key: Bytes,
    entry: Entry,
}

impl Keyspace {
    pub(super) fn new(seed: u64, bounds: Bounds) -> Self {
        let mut random = Rng::new(seed);
        let hasher = SipHasher13::new_with_keys(random.next(), random.next());
        Keyspace {
            slots: Vec::new(),
            index: HashTable::new(),
            expiries: BTreeSet::new(),
            hasher,
            random,
            bytes: 0,
            bounds,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The entry at `key`, unless it has expired by `at`, in milliseconds since the Unix epoch.
    pub(super) fn peek(&self, key: &[u8], at: u64) -> Option<&Entry> {
        let entry = &self.slots[self.find(key)?].entry;
        (!expired(entry, at)).then_some(entry)
    }

    /// The entry at `key`. One that has expired is taken away first.
    pub(super) fn get(&mut self, key: &[u8], at: u64) -> Option<&Entry> {
        let place = self.live(key, at)?;
        Some(&self.slots[place].entry)
    }

    /// Puts an entry at `key` in place of whatever is there, its expiry included.
    pub(super) fn put(&mut self, key: &[u8], entry: Entry, at: u64) -> Result<(), Refusal> {
        self.reserve(&[(key, entry.data.bytes())], at)?;
        self.put_reserved(key, entry);
        Ok(())
    }

    /// Makes sure that values of these sizes can be put at these keys; no key may come twice.
    /// Expired entries make room where there is none. Changes nothing otherwise.
    pub(super) fn reserve(&mut self, sizes: &[(&[u8], usize)], at: u64) -> Result<(), Refusal> {
        self.make_room(sizes, None, at)
    }

    /// Puts the entry at `from`, which must be there, at `to`, another key, in place of whatever
    /// is there.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8], at: u64) -> Result<(), Refusal> {
        let size = self.peek(from, at).map_or(0, |entry| entry.data.bytes());
        self.make_room(&[(to, size)], Some(from), at)?;
        if let Some(entry) = self.remove(from, at) {
            self.put_reserved(to, entry);
        }
        Ok(())
    }

    fn make_room(
        &mut self,
        sizes: &[(&[u8], usize)],
        leaving: Option<&[u8]>,
        at: u64,
    ) -> Result<(), Refusal> {
        if self.has_room(sizes, leaving) {
            return Ok(());
        }
        self.expire_all(at);
        if self.has_room(sizes, leaving) { Ok(()) } else { Err(Refusal::FULL) }
    }

    fn has_room(&self, sizes: &[(&[u8], usize)], leaving: Option<&[u8]>) -> bool {
        let (mut entries, mut bytes) = (self.len(), self.bytes);
        for &(key, size) in sizes {
            match self.find(key) {
                // In this order, so that the sum never passes through a negative number.
                Some(place) => bytes = bytes + size - self.slots[place].entry.data.bytes(),
                None => {
                    entries += 1;
                    bytes += cost(key, size);
                }
            }
        }
        if let Some(place) = leaving.and_then(|key| self.find(key)) {
            entries -= 1;
            bytes -= self.slots[place].cost();
        }
        // What takes no more than before always fits.
        (entries <= self.bounds.entries_max || entries <= self.len())
            && (bytes <= self.bounds.bytes_max || bytes <= self.bytes)
    }

    /// Puts an entry for which `reserve` has found room.
    pub(super) fn put_reserved(&mut self, key: &[u8], entry: Entry) {
        if let Some(place) = self.find(key) {
            self.expire_at(place, entry.expires_at);
            let slot = &mut self.slots[place];
            self.bytes = self.bytes + entry.data.bytes() - slot.entry.data.bytes();
            slot.entry.data = entry.data;
            return;
        }
        let (hash, place) = (self.hash(key), self.slots.len());
        let key = Bytes::copy_from_slice(key);
        self.bytes += cost(&key, entry.data.bytes());
        if let Some(when) = entry.expires_at {
            self.expiries.insert((when, key.clone()));
        }
        self.slots.push(Slot { hash, key, entry });
        self.index.insert_unique(hash, place, |&place| self.slots[place].hash);
    }

    /// Changes the value at `key` in place, which must be there, and leaves its expiry alone.
    /// `size` is the length that the value will have; where there is no room for it the value
    /// is not changed.
    pub(super) fn change<T>(
        &mut self,
        key: &[u8],
        size: usize,
        at: u64,
        change: impl FnOnce(&mut Data) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.reserve(&[(key, size)], at)?;
        let place = self.find(key).expect("a live entry outlasts the expiry of others");
        let data = &mut self.slots[place].entry.data;
        let before = data.bytes();
        let result = change(data);
        self.bytes = self.bytes + data.bytes() - before;
        debug_assert!(
            result.is_err() || data.bytes() == size,
            "the room reserved is the room used"
        );
        result
    }

    /// Sets when the entry at `key` expires. Returns whether there is one.
    pub(super) fn set_expiry(&mut self, key: &[u8], when: Option<u64>, at: u64) -> bool {
        let place = self.live(key, at);
        if let Some(place) = place {
            self.expire_at(place, when);
        }
        place.is_some()
    }

    /// Takes the entry at `key` away.
    pub(super) fn remove(&mut self, key: &[u8], at: u64) -> Option<Entry> {
        let place = self.live(key, at)?;
        Some(self.take(place))
    }

    /// All keys in order, those left out whose entries have expired.
    pub(super) fn keys(&self, at: u64) -> impl Iterator<Item = &Bytes> {
        self.slots.iter().filter(move |slot| !expired(&slot.entry, at)).map(|slot| &slot.key)
    }

    /// A key picked at random, each as likely as any other.
    pub(super) fn random_key(&mut self, at: u64) -> Option<Bytes> {
        self.expire_all(at);
        let place = self.random.below(self.slots.len())?;
        Some(self.slots[place].key.clone())
    }

    /// Takes away a few entries that have expired.
    pub(super) fn expire_some(&mut self, at: u64) {
        for _ in 0..EXPIRED_PER_CALL_MAX {
            if !self.expire_next(at) {
                break;
            }
        }
    }

    /// Takes away all entries that have expired.
    pub(super) fn expire_all(&mut self, at: u64) {
        while self.expire_next(at) {}
    }

    pub(super) fn clear(&mut self) {
        // Not `clear`, which would keep the room.
        self.slots = Vec::new();
        self.index = HashTable::new();
        self.expiries = BTreeSet::new();
        self.bytes = 0;
    }

    fn expire_next(&mut self, at: u64) -> bool {
        let due = self.expiries.first().filter(|(when, _)| *when < at);
        let place = due.and_then(|(_, key)| self.find(key));
        if let Some(place) = place {
            self.take(place);
        }
        place.is_some()
    }

    /// The place of the entry at `key`. One that has expired is taken away first.
    fn live(&mut self, key: &[u8], at: u64) -> Option<usize> {
        let place = self.find(key)?;
        if expired(&self.slots[place].entry, at) {
            self.take(place);
            return None;
        }
        Some(place)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.index.find(self.hash(key), |&place| self.slots[place].key == key).copied()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(key);
        hasher.finish()
    }

    fn expire_at(&mut self, place: usize, when: Option<u64>) {
        let Slot { key, entry, .. } = &mut self.slots[place];
        if entry.expires_at == when {
            return;
        }
        if let Some(before) = entry.expires_at {
            self.expiries.remove(&(before, key.clone()));
        }
        if let Some(when) = when {
            self.expiries.insert((when, key.clone()));
        }
        entry.expires_at = when;
    }

    fn take(&mut self, place: usize) -> Entry {
        if let Ok(found) = self.index.find_entry(self.slots[place].hash, |&at| at == place) {
            found.remove();
        }
        let slot = self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            // The last entry now stands in the gap; the table still knows it by its old place.
            let old = self.slots.len();
            if let Some(found) = self.index.find_mut(moved.hash, |&at| at == old) {
                *found = place;
            }
        }
        self.bytes -= slot.cost();
        if let Some(when) = slot.entry.expires_at {
            self.expiries.remove(&(when, slot.key));
        }
        slot.entry
    }
}

impl Slot {
    /// What the entry is charged with.
    fn cost(&self) -> usize {
        cost(&self.key, self.entry.data.bytes())
    }
}

/// Whether an entry is gone by `at`: at the very millisecond that it names it is still there.
fn expired(entry: &Entry, at: u64) -> bool {
    entry.expires_at.is_some_and(|when| when < at)
}

fn cost(key: &[u8], size: usize) -> usize {
    key.len() + size + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::entry::Text;
    use proptest::prelude::*;

    impl Keyspace {
        /// Whether the vector, the table, the order of expiry and the account agree.
        fn check(&self) {
            assert_eq!(self.index.len(), self.slots.len());
            for (place, slot) in self.slots.iter().enumerate() {
                assert_eq!(self.find(&slot.key), Some(place));
                if let Some(when) = slot.entry.expires_at {
                    assert!(self.expiries.contains(&(when, slot.key.clone())));
                }
            }
            let mortal = self.slots.iter().filter(|slot| slot.entry.expires_at.is_some());
            assert_eq!(self.expiries.len(), mortal.count());
            let costs = self.slots.iter().map(Slot::cost);
            assert_eq!(self.bytes, costs.sum::<usize>());
            assert!(self.bytes <= self.bounds.bytes_max && self.len() <= self.bounds.entries_max);
        }
    }

    fn entry(size: usize, expires_at: Option<u64>) -> Entry {
        Entry { data: Data::String(Text::Bytes(vec![b'x'; size].into())), expires_at }
    }

    #[test]
    fn what_an_entry_is_charged_covers_what_it_takes() {
        // A table is at most seven eighths full, and has a byte beside each place.
        let place = (size_of::<usize>() + 1).div_ceil(7) * 8;
        let order = size_of::<(u64, Bytes)>();
        assert!(size_of::<Slot>() + place + order <= ENTRY_BYTES);
    }

    #[test]
    fn picking_at_random_reaches_every_key_and_follows_the_seed() {
        let picks = |seed| {
            let mut keyspace = Keyspace::new(seed, Bounds::NONE);
            for key in [b"a", b"b", b"c"] {
                keyspace.put(key, entry(1, None), 0).unwrap();
            }
            (0..50).map(|_| keyspace.random_key(0).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(picks(7), picks(7));
        assert_ne!(picks(7), picks(8));
        assert_eq!(picks(7).into_iter().collect::<BTreeSet<_>>().len(), 3);
    }

    proptest! {
        #[test]
        fn its_parts_and_its_account_agree_after_any_calls(
            calls in proptest::collection::vec((0..7u8, 0..5u8, 0..40usize, 0..8u64, 0..9u64), 1..80),
        ) {
            let bounds = Bounds { entries_max: 4, bytes_max: 4 * ENTRY_BYTES + 60 };
            let mut keyspace = Keyspace::new(1, bounds);
            for (call, key, size, when, at) in calls {
                let key = &[key][..];
                let when = (when > 0).then_some(when);
                match call {
                    0 | 1 => {
                        let _: Result<(), Refusal> = keyspace.put(key, entry(size, when), at);
                    }
                    2 => drop(keyspace.remove(key, at)),
                    3 => drop(keyspace.set_expiry(key, when, at)),
                    4 if keyspace.get(key, at).is_some() => {
                        let _: Result<(), Refusal> = keyspace.change(key, size, at, |data| {
                            *data = entry(size, None).data;
                            Ok(())
                        });
                    }
                    5 if keyspace.get(key, at).is_some() => {
                        let _: Result<(), Refusal> = keyspace.rename(key, b"another key", at);
                    }
                    _ => keyspace.expire_some(at),
                }
                keyspace.check();
            }
        }
    }
}

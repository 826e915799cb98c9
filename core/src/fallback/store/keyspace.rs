//! The entries: where they are, in which order, when they expire and what they take.
//!
//! Entries stand side by side in an indexed map, and an ordered set knows where something expires
//! next: an entry, or a field of a hash. Both hold the same keys at all times. Removing moves the
//! last entry into the gap, so picking one at random takes constant time, and the order depends on
//! the calls alone and not on the hash.
//!
//! Every change goes through `update`, which keeps the account and the order of expiry and takes
//! away what has no members left. Whether there is room is asked before: a refused write changes
//! nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use indexmap::IndexMap;

use super::Bounds;
use super::entry::{Entry, Text};
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection};
use crate::failure::Bound;
use crate::fallback::keyed::Keyed;
use crate::rng::Rng;

/// What an entry is charged with beside the bytes of its key and value: its place in the
/// vector, the hash table and the order of expiry, and the allocator's share.
pub const ENTRY_BYTES: usize = 160;

/// How many entries and fields that are due are taken away with each command. It must be above
/// one, so that expired ones go faster than new ones can come; more would make single calls slow.
const EXPIRED_PER_CALL_MAX: usize = 16;

pub(super) struct Keyspace {
    entries: IndexMap<Bytes, Entry, Keyed>,
    /// When, in milliseconds since the Unix epoch, something expires, and at which key.
    expiries: BTreeSet<(u64, Bytes)>,
    random: Rng,
    bytes: usize,
    bounds: Bounds,
    /// What the last write lacked that there was no room for.
    lack: Bound,
}

/// What a change takes or gives back.
#[derive(Clone, Copy, Default)]
struct Room {
    entries: usize,
    bytes: usize,
}

impl Keyspace {
    pub(super) fn new(seed: u64, bounds: Bounds) -> Self {
        let mut random = Rng::new(seed);
        let hasher = Keyed::new(random.next());
        Keyspace {
            entries: IndexMap::with_hasher(hasher),
            expiries: BTreeSet::new(),
            random,
            bytes: 0,
            bounds,
            lack: Bound::MemoryEntries,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn lack(&self) -> Bound {
        self.lack
    }

    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    // ---- reading -------------------------------------------------------------------------------

    /// The entry at `key`, unless it has expired by `at`, in milliseconds since the Unix epoch. Of a
    /// hash it may show fields that have expired; `get` takes them away first.
    pub(super) fn peek(&self, key: &[u8], at: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| !entry.has_expired(at))
    }

    /// The entry at `key`. What has expired is taken away first: the entry, or fields of a hash.
    pub(super) fn get(&mut self, key: &[u8], at: u64) -> Option<&Entry> {
        let place = self.live(key, at)?;
        Some(&self.entries[place])
    }

    /// The collection at `key`, or WRONGTYPE. What has expired is taken away first.
    pub(super) fn read<C: Collection>(
        &mut self,
        key: &[u8],
        at: u64,
    ) -> Result<Option<&C>, Refusal> {
        self.get(key, at).map(|entry| C::of(&entry.data)).transpose()
    }

    /// As `read`, so that several can be looked at together: whatever has expired at `key` must have
    /// been taken away by `get` or `read` before.
    pub(super) fn peek_at<C: Collection>(
        &self,
        key: &[u8],
        at: u64,
    ) -> Result<Option<&C>, Refusal> {
        self.peek(key, at).map(|entry| C::of(&entry.data)).transpose()
    }

    /// The entry at a place below `len`, expired or not.
    pub(super) fn entry_at(&self, place: usize) -> Option<(&Bytes, &Entry)> {
        self.entries.get_index(place)
    }

    /// All keys in order, those left out whose entries have expired.
    pub(super) fn keys(&self, at: u64) -> impl Iterator<Item = &Bytes> {
        self.entries.iter().filter(move |(_, entry)| !entry.has_expired(at)).map(|(key, _)| key)
    }

    /// A key picked at random, each as likely as any other.
    pub(super) fn random_key(&mut self, at: u64) -> Option<Bytes> {
        self.expire_all(at);
        let place = self.random.below(self.len())?;
        self.entries.get_index(place).map(|(key, _)| key.clone())
    }

    /// Randomness for one command.
    pub(super) fn random(&mut self) -> Rng {
        Rng::new(self.random.next())
    }

    /// The hasher of this store, for collections that are made outside of it.
    pub(super) fn hasher(&self) -> Keyed {
        *self.entries.hasher()
    }

    // ---- writing whole values ------------------------------------------------------------------

    /// Puts an entry at `key` in place of whatever is there, its expiry included.
    pub(super) fn put(&mut self, key: &[u8], entry: Entry, at: u64) -> Result<(), Refusal> {
        // The key is looked up once where there is room, as there is nearly always.
        if let Some(place) = self.live(key, at) {
            let bytes = |entry: &Entry| Room { entries: 0, bytes: entry.data.bytes() };
            if self.lacks(bytes(&entry), bytes(&self.entries[place])).is_none() {
                self.update(place, |old| *old = entry);
                return Ok(());
            }
        }
        self.reserve(&[(key, entry.data.bytes())], at)?;
        self.put_reserved(key, entry);
        Ok(())
    }

    /// Puts a collection at `key` in place of whatever is there, its expiry included; an empty one
    /// takes away what is there.
    pub(super) fn store<C: Collection>(
        &mut self,
        key: &[u8],
        collection: C,
        at: u64,
    ) -> Result<(), Refusal> {
        if collection.len() == 0 {
            self.remove(key, at);
            return Ok(());
        }
        self.put(key, Entry { data: collection.into_data(), expires_at: None }, at)
    }

    /// Makes sure that values of these sizes can be put at these keys; no key may come twice.
    /// What has expired makes room where there is none. Changes nothing otherwise.
    pub(super) fn reserve(&mut self, sizes: &[(&[u8], usize)], at: u64) -> Result<(), Refusal> {
        let (mut more, mut less) = (Room::default(), Room::default());
        for &(key, size) in sizes {
            let (takes, gives) = self.replacing(key, size, at);
            more = more.and(takes);
            less = less.and(gives);
        }
        self.make_room(more, less, at)
    }

    /// Puts an entry for which `reserve` has found room.
    pub(super) fn put_reserved(&mut self, key: &[u8], entry: Entry) {
        match self.entries.get_index_of(key) {
            Some(place) => self.update(place, |old| *old = entry),
            None => drop(self.insert(key, entry)),
        }
    }

    /// Puts the entry at `from`, which must be there, at `to`, another key, in place of whatever
    /// is there.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8], at: u64) -> Result<(), Refusal> {
        let size = self.get(from, at).map_or(0, |entry| entry.data.bytes());
        let (more, less) = self.replacing(to, size, at);
        let leaving = Room { entries: 1, bytes: cost(from, size) };
        self.make_room(more, less.and(leaving), at)?;
        if let Some(entry) = self.remove(from, at) {
            self.put_reserved(to, entry);
        }
        Ok(())
    }

    /// Takes the entry at `key` away.
    pub(super) fn remove(&mut self, key: &[u8], at: u64) -> Option<Entry> {
        let place = self.live(key, at)?;
        Some(self.take(place))
    }

    pub(super) fn clear(&mut self) {
        // Not `clear`, which would keep the room.
        self.entries = IndexMap::with_hasher(self.hasher());
        self.expiries = BTreeSet::new();
        self.bytes = 0;
    }

    // ---- changing in place ---------------------------------------------------------------------

    /// Changes the collection at `key` in place, made empty first where there is nothing, and leaves
    /// its expiry alone. It grows by `growth` bytes at most; where there is no room for that, or
    /// something of another type is there, nothing is changed. Left empty, it is taken away.
    pub(super) fn change<C: Collection, T>(
        &mut self,
        key: &[u8],
        growth: usize,
        at: u64,
        change: impl FnOnce(&mut C) -> T,
    ) -> Result<T, Refusal> {
        let more = match self.live(key, at) {
            Some(place) => {
                C::of(&self.entries[place].data)?;
                Room { entries: 0, bytes: growth }
            }
            None => Room { entries: 1, bytes: cost(key, COLLECTION_BYTES).saturating_add(growth) },
        };
        self.make_room(more, Room::default(), at)?;
        Ok(self.change_reserved(key, growth, change))
    }

    /// Moves a member from the collection at `from` to the one at `to`, another key, which is made
    /// where there is nothing. `size` is what it is charged with in either. It must be at `from`;
    /// `take` takes it out, `give` puts it in.
    pub(super) fn transfer<C: Collection, T>(
        &mut self,
        (from, to): (&[u8], &[u8]),
        size: usize,
        at: u64,
        take: impl FnOnce(&mut C) -> T,
        give: impl FnOnce(&mut C, T),
    ) -> Result<(), Refusal> {
        let mut less = Room { entries: 0, bytes: size };
        if self.read::<C>(from, at)?.is_some_and(|collection| collection.len() == 1) {
            less = less.and(Room { entries: 1, bytes: cost(from, COLLECTION_BYTES) });
        }
        let mut more = Room { entries: 0, bytes: size };
        if self.read::<C>(to, at)?.is_none() {
            more = more.and(Room { entries: 1, bytes: cost(to, COLLECTION_BYTES) });
        }
        self.make_room(more, less, at)?;
        let member = self.change_reserved(from, 0, take);
        self.change_reserved(to, size, |collection| give(collection, member));
        Ok(())
    }

    /// Changes a collection for which there is room, made where there is nothing.
    fn change_reserved<C: Collection, T>(
        &mut self,
        key: &[u8],
        growth: usize,
        change: impl FnOnce(&mut C) -> T,
    ) -> T {
        let place = self.entries.get_index_of(key).unwrap_or_else(|| {
            let data = C::new(self.hasher()).into_data();
            self.insert(key, Entry { data, expires_at: None })
        });
        self.update(place, |entry| {
            let before = entry.data.bytes();
            let collection = C::of_mut(&mut entry.data).expect("its type was checked before");
            let result = change(collection);
            debug_assert!(entry.data.bytes() <= before + growth, "it took more than its room");
            result
        })
    }

    /// Changes the string at `key` in place, which must be there, and leaves its expiry alone.
    /// `size` is the length that it will have; where there is no room for it the string is not
    /// changed.
    pub(super) fn change_string<T>(
        &mut self,
        key: &[u8],
        size: usize,
        at: u64,
        change: impl FnOnce(&mut Text) -> T,
    ) -> Result<T, Refusal> {
        self.reserve(&[(key, size)], at)?;
        let place = self.live(key, at).ok_or(Refusal::NO_SUCH_KEY)?;
        self.update(place, |entry| {
            let result = change(entry.data.text_mut()?);
            debug_assert_eq!(entry.data.bytes(), size, "the room reserved is the room used");
            Ok(result)
        })
    }

    /// Sets when the entry at `key` expires. Returns whether there is one.
    pub(super) fn set_expiry(&mut self, key: &[u8], when: Option<u64>, at: u64) -> bool {
        let place = self.live(key, at);
        if let Some(place) = place {
            self.update(place, |entry| entry.expires_at = when);
        }
        place.is_some()
    }

    // ---- expiry --------------------------------------------------------------------------------

    /// Takes away a few entries and fields that have expired.
    pub(super) fn expire_some(&mut self, at: u64) {
        for _ in 0..EXPIRED_PER_CALL_MAX {
            if !self.expire_next(at) {
                break;
            }
        }
    }

    /// Takes away all entries and fields that have expired.
    pub(super) fn expire_all(&mut self, at: u64) {
        while self.expire_next(at) {}
    }

    /// Takes away the entry or the field that has been due for longest.
    fn expire_next(&mut self, at: u64) -> bool {
        let due = self.expiries.first().filter(|(when, _)| *when < at);
        let place = due.and_then(|(_, key)| self.entries.get_index_of(key));
        if let Some(place) = place {
            if self.entries[place].has_expired(at) {
                self.take(place);
            } else {
                self.update(place, |entry| entry.data.expire_members(at, 1));
            }
        }
        place.is_some()
    }

    /// The place of the entry at `key`. What has expired is taken away first.
    fn live(&mut self, key: &[u8], at: u64) -> Option<usize> {
        let place = self.entries.get_index_of(key)?;
        let entry = &self.entries[place];
        if entry.has_expired(at) {
            self.take(place);
            return None;
        }
        if entry.due().is_some_and(|when| when < at) {
            // Not all of it, as it has not expired: the entry stays where it is.
            self.update(place, |entry| entry.data.expire_members(at, usize::MAX));
        }
        Some(place)
    }

    // ---- the account ---------------------------------------------------------------------------

    /// What putting a value of this size at `key` takes and gives back.
    fn replacing(&mut self, key: &[u8], size: usize, at: u64) -> (Room, Room) {
        match self.live(key, at) {
            Some(place) => {
                let before = self.entries[place].data.bytes();
                (Room { entries: 0, bytes: size }, Room { entries: 0, bytes: before })
            }
            None => (Room { entries: 1, bytes: cost(key, size) }, Room::default()),
        }
    }

    /// Makes sure that a change fits. What has expired is taken away where it does not. The keys
    /// that the change concerns must have been looked at with the same `at`, so that nothing of them
    /// goes meanwhile.
    fn make_room(&mut self, more: Room, less: Room, at: u64) -> Result<(), Refusal> {
        if self.lacks(more, less).is_none() {
            return Ok(());
        }
        self.expire_all(at);
        match self.lacks(more, less) {
            None => Ok(()),
            Some(bound) => {
                self.lack = bound;
                Err(Refusal::FULL)
            }
        }
    }

    /// Which bound is in the way of a change, if any is.
    fn lacks(&self, more: Room, less: Room) -> Option<Bound> {
        // What takes no more than before always fits.
        let fits = |now: usize, more: usize, less: usize, max: usize| {
            more <= less || now.saturating_add(more - less) <= max
        };
        if !fits(self.len(), more.entries, less.entries, self.bounds.entries_max) {
            return Some(Bound::MemoryEntries);
        }
        let fits = fits(self.bytes, more.bytes, less.bytes, self.bounds.bytes_max);
        (!fits).then_some(Bound::MemoryBytes)
    }

    /// Puts an entry at a key where there is none. Returns its place.
    fn insert(&mut self, key: &[u8], entry: Entry) -> usize {
        let key = Bytes::copy_from_slice(key);
        self.bytes += cost(&key, entry.data.bytes());
        if let Some(when) = entry.due() {
            self.expiries.insert((when, key.clone()));
        }
        self.entries.insert_full(key, entry).0
    }

    /// Changes an entry, and takes it away where nothing is left of it.
    fn update<T>(&mut self, place: usize, change: impl FnOnce(&mut Entry) -> T) -> T {
        let (key, entry) = self.entries.get_index_mut(place).expect("a place comes from the map");
        let before = (entry.data.bytes(), entry.due());
        let result = change(entry);
        let after = (entry.data.bytes(), entry.due());
        self.bytes = self.bytes + after.0 - before.0;
        if before.1 != after.1 {
            if let Some(when) = before.1 {
                self.expiries.remove(&(when, key.clone()));
            }
            if let Some(when) = after.1 {
                self.expiries.insert((when, key.clone()));
            }
        }
        if entry.data.is_empty() {
            self.take(place);
        }
        result
    }

    fn take(&mut self, place: usize) -> Entry {
        let taken = self.entries.swap_remove_index(place);
        let (key, entry) = taken.expect("a place comes from the map");
        self.bytes -= cost(&key, entry.data.bytes());
        if let Some(when) = entry.due() {
            self.expiries.remove(&(when, key));
        }
        entry
    }
}

impl Room {
    fn and(self, other: Room) -> Room {
        Room {
            entries: self.entries + other.entries,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What an entry is charged with whose value takes `size`.
fn cost(key: &[u8], size: usize) -> usize {
    key.len().saturating_add(size).saturating_add(ENTRY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::entry::Data;
    use crate::fallback::store::types::INDEX_PLACE_BYTES;
    use proptest::prelude::*;

    impl Keyspace {
        /// Whether the map, the order of expiry and the accounts agree.
        pub(in super::super) fn check(&self) {
            let mut bytes = 0;
            let mut mortal = 0;
            for (key, entry) in &self.entries {
                match &entry.data {
                    Data::String(_) => {}
                    Data::Hash(hash) => hash.check(),
                    Data::List(list) => list.check(),
                    Data::Set(set) => set.check(),
                    Data::SortedSet(sorted_set) => sorted_set.check(),
                }
                assert!(!entry.data.is_empty(), "an empty collection stayed");
                bytes += cost(key, entry.data.bytes());
                if let Some(when) = entry.due() {
                    assert!(self.expiries.contains(&(when, key.clone())));
                    mortal += 1;
                }
            }
            assert_eq!(self.expiries.len(), mortal);
            assert_eq!(self.bytes, bytes);
            assert!(self.bytes <= self.bounds.bytes_max && self.len() <= self.bounds.entries_max);
        }
    }

    fn entry(size: usize, expires_at: Option<u64>) -> Entry {
        Entry { data: Data::String(Text::Bytes(vec![b'x'; size].into())), expires_at }
    }

    #[test]
    fn what_an_entry_is_charged_covers_what_it_takes() {
        let order = size_of::<(u64, Bytes)>();
        assert!(size_of::<(Bytes, Entry)>() + INDEX_PLACE_BYTES + order <= ENTRY_BYTES);
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
                        let _: Result<(), Refusal> = keyspace.change_string(key, size, at, |text| {
                            *text = Text::Bytes(vec![b'x'; size].into());
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

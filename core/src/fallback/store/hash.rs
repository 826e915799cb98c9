//! Hashes: fields with values, each of which may expire.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, PACKED_MEMBER_BYTES_MAX, collection};
use crate::fallback::keyed::Keyed;

/// What a field of a hash is charged with beside the bytes of its name and value: its place in the
/// vector, the hash table and the order of expiry, and the allocator's share.
pub const HASH_FIELD_BYTES: usize = 176;

/// Up to how many fields a server packs a hash into one list: Redis' default for
/// `hash-max-listpack-entries`.
const PACKED_FIELDS_MAX: usize = 512;

/// Fields stand side by side, and one that is removed leaves its place to the last, or, in a small
/// hash, all behind it move up: finding, setting, removing and picking at random take constant
/// time, and the order depends on the calls alone and not on the hash of the names.
#[derive(Clone)]
pub(super) struct Hash {
    fields: IndexMap<Bytes, Field, Keyed>,
    /// When, in milliseconds since the Unix epoch, and which field.
    deadlines: BTreeSet<(u64, Bytes)>,
    /// The bytes of all names and values.
    bytes: usize,
    /// Whether a server would keep it as a packed list.
    packed: bool,
}

/// The value of a field and how long it lives.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) value: Bytes,
    /// In milliseconds since the Unix epoch; `None` is as long as the hash.
    pub(super) expires_at: Option<u64>,
}

impl Hash {
    /// How much a hash grows at most when these fields are set, each named once; `None` is a hash
    /// that is yet to be made.
    pub(super) fn growth(hash: Option<&Hash>, fields: &[(&[u8], &[u8])]) -> usize {
        let (mut more, mut less) = (0, 0);
        for (name, value) in fields {
            more += value.len();
            match hash.and_then(|hash| hash.get(name)) {
                Some(before) => less += before.value.len(),
                None => more += name.len() + HASH_FIELD_BYTES,
            }
        }
        more.saturating_sub(less)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Field> {
        self.fields.get(name)
    }

    /// Sets a field, its expiry included.
    pub(super) fn insert(&mut self, name: &[u8], field: Field) {
        self.bytes += field.value.len();
        self.packed &= name.len().max(field.value.len()) <= PACKED_MEMBER_BYTES_MAX;
        if let Some(place) = self.fields.get_index_of(name) {
            self.set_expiry(name, field.expires_at);
            self.bytes -= self.fields[place].value.len();
            self.fields[place] = field;
            return;
        }
        let name = Bytes::copy_from_slice(name);
        self.bytes += name.len();
        self.deadlines.extend(field.expires_at.map(|when| (when, name.clone())));
        self.fields.insert(name, field);
        self.packed &= self.fields.len() <= PACKED_FIELDS_MAX;
    }

    /// Sets when a field that is there expires.
    pub(super) fn set_expiry(&mut self, name: &[u8], when: Option<u64>) {
        let Some((_, name, field)) = self.fields.get_full_mut(name) else { return };
        let before = std::mem::replace(&mut field.expires_at, when);
        if before == when {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(&(before, name.clone()));
        }
        self.deadlines.extend(when.map(|when| (when, name.clone())));
    }

    /// Takes a field away.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Field> {
        // A server keeps the order of a packed one, and people come to rely on it.
        let (name, field) = if self.packed {
            self.fields.shift_remove_entry(name)?
        } else {
            self.fields.swap_remove_entry(name)?
        };
        self.bytes -= name.len() + field.value.len();
        if let Some(when) = field.expires_at {
            self.deadlines.remove(&(when, name));
        }
        // Room goes back where three quarters are empty: what is held stays close to what is
        // counted.
        if self.len() < self.fields.capacity() / 4 {
            self.fields.shrink_to(self.len() * 2);
        }
        Some(field)
    }

    /// The field at a place below `len`.
    pub(super) fn at(&self, place: usize) -> Option<(&Bytes, &Field)> {
        self.fields.get_index(place)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Field)> {
        self.fields.iter()
    }

    /// When the next field expires, in milliseconds since the Unix epoch.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(when, _)| *when)
    }

    /// Whether all fields have expired by `at`.
    pub(super) fn has_expired(&self, at: u64) -> bool {
        self.deadlines.len() == self.fields.len()
            && self.deadlines.last().is_some_and(|(when, _)| *when < at)
    }

    /// Takes at most so many of the fields away that have expired by `at`.
    pub(super) fn expire(&mut self, at: u64, fields_max: usize) {
        for _ in 0..fields_max {
            let due = self.deadlines.first().filter(|(when, _)| *when < at);
            let Some((_, name)) = due.cloned() else { break };
            self.remove(&name);
        }
    }
}

impl Collection for Hash {
    collection!(Hash);

    fn new(hasher: Keyed) -> Self {
        Hash {
            fields: IndexMap::with_hasher(hasher),
            deadlines: BTreeSet::new(),
            bytes: 0,
            packed: true,
        }
    }

    fn len(&self) -> usize {
        self.fields.len()
    }

    fn is_packed(&self) -> bool {
        self.packed
    }

    fn bytes(&self) -> usize {
        COLLECTION_BYTES + self.bytes + self.len() * HASH_FIELD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::types::INDEX_PLACE_BYTES;

    impl Hash {
        /// Whether the fields, the order of expiry and the account agree.
        pub(in crate::fallback::store) fn check(&self) {
            let sizes = self.iter().map(|(name, field)| name.len() + field.value.len());
            assert_eq!(self.bytes, sizes.sum::<usize>());
            let mut mortal = 0;
            for (name, field) in self.iter() {
                if let Some(when) = field.expires_at {
                    assert!(self.deadlines.contains(&(when, name.clone())));
                    mortal += 1;
                }
            }
            assert_eq!(self.deadlines.len(), mortal);
        }
    }

    #[test]
    fn what_a_field_is_charged_covers_what_it_takes() {
        let order = size_of::<(u64, Bytes)>();
        assert!(size_of::<(Bytes, Field)>() + INDEX_PLACE_BYTES + order <= HASH_FIELD_BYTES);
    }

    #[test]
    fn room_goes_back_when_a_hash_shrinks() {
        let mut hash = Hash::new(Keyed::new(1));
        for number in 0..1_000_u16 {
            let field = Field { value: Bytes::new(), expires_at: None };
            hash.insert(&number.to_be_bytes(), field);
        }
        for number in 10..1_000_u16 {
            hash.remove(&number.to_be_bytes());
        }
        assert!(hash.fields.capacity() < 100);
        hash.check();
    }
}

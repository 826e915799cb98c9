//! Hashes: fields with values, each of which may expire.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What a field of a hash is charged with beside the bytes of its name and value: its place in the
/// vector, the hash table and the order of expiry, and the allocator's share.
pub const HASH_FIELD_BYTES: usize = 176;

/// Fields stand side by side, and one that is removed leaves its place to the last: finding,
/// setting, removing and picking at random take constant time, and the order depends on the calls
/// alone and not on the hash of the names.
#[derive(Clone)]
pub(super) struct Hash {
    fields: IndexMap<Bytes, Field, Keyed>,
    /// When, in milliseconds since the Unix epoch, and which field.
    deadlines: BTreeSet<(u64, Bytes)>,
    /// The bytes of all names and values.
    bytes: usize,
}

/// The value of a field and how long it lives.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) value: Bytes,
    /// In milliseconds since the Unix epoch; `None` is as long as the hash.
    pub(super) expires_at: Option<u64>,
}

impl Hash {
    /// What a field adds to the account of a hash that has it not yet.
    pub(super) fn cost(name: &[u8], value: &[u8]) -> usize {
        name.len() + value.len() + HASH_FIELD_BYTES
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Field> {
        self.fields.get(name)
    }

    /// Sets a field, its expiry included. Returns whether it is new.
    pub(super) fn insert(&mut self, name: &[u8], field: Field) -> bool {
        self.bytes += field.value.len();
        let expires_at = field.expires_at;
        let Some((place, name, old)) = self.fields.get_full_mut(name) else {
            let name = Bytes::copy_from_slice(name);
            self.bytes += name.len();
            self.deadlines.extend(expires_at.map(|when| (when, name.clone())));
            self.fields.insert(name, field);
            return true;
        };
        self.bytes -= old.value.len();
        if old.expires_at != expires_at {
            let name = name.clone();
            if let Some(when) = old.expires_at {
                self.deadlines.remove(&(when, name.clone()));
            }
            self.deadlines.extend(expires_at.map(|when| (when, name)));
        }
        self.fields[place] = field;
        false
    }

    /// Takes a field away.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Field> {
        let (name, field) = self.fields.swap_remove_entry(name)?;
        self.bytes -= name.len() + field.value.len();
        if let Some(when) = field.expires_at {
            self.deadlines.remove(&(when, name));
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
        Hash { fields: IndexMap::with_hasher(hasher), deadlines: BTreeSet::new(), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.fields.len()
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
}

//! Sets: each member once.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexSet;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What a member of a set is charged with beside its bytes: its place in the vector and the hash
/// table, and the allocator's share.
pub const SET_MEMBER_BYTES: usize = 80;

/// Members stand side by side, and one that is removed leaves its place to the last: finding,
/// adding, removing and picking at random take constant time, and the order depends on the calls
/// alone and not on the hash.
#[derive(Clone)]
pub(super) struct Set {
    members: IndexSet<Bytes, Keyed>,
    /// The bytes of all members.
    bytes: usize,
}

impl Set {
    /// What a member adds to the account of a set that has it not yet.
    pub(super) fn cost(member: &[u8]) -> usize {
        member.len() + SET_MEMBER_BYTES
    }

    pub(super) fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    /// Adds a member. Returns whether it is new.
    pub(super) fn insert(&mut self, member: Bytes) -> bool {
        let size = member.len();
        let new = self.members.insert(member);
        self.bytes += if new { size } else { 0 };
        new
    }

    /// Returns whether the member was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let found = self.members.swap_remove(member);
        self.bytes -= if found { member.len() } else { 0 };
        found
    }

    /// The member at a place below `len`.
    pub(super) fn at(&self, place: usize) -> Option<&Bytes> {
        self.members.get_index(place)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.members.iter()
    }
}

impl Collection for Set {
    collection!(Set);

    fn new(hasher: Keyed) -> Self {
        Set { members: IndexSet::with_hasher(hasher), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn bytes(&self) -> usize {
        COLLECTION_BYTES + self.bytes + self.len() * SET_MEMBER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::types::INDEX_PLACE_BYTES;

    impl Set {
        pub(in crate::fallback::store) fn check(&self) {
            assert_eq!(self.bytes, self.members.iter().map(Bytes::len).sum::<usize>());
        }
    }

    #[test]
    fn what_a_member_is_charged_covers_what_it_takes() {
        assert!(size_of::<Bytes>() + INDEX_PLACE_BYTES <= SET_MEMBER_BYTES);
    }
}

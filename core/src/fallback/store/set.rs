//! Sets: each member once.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexSet;

use super::argument;
use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What a member of a set is charged with beside its bytes: its place in the vector and the hash
/// table, and the allocator's share.
pub const SET_MEMBER_BYTES: usize = 80;

/// Up to how many members a server keeps an array of integers: Redis' default for
/// `set-max-intset-entries`.
const PACKED_MEMBERS_MAX: usize = 512;

/// Members stand side by side, and one that is removed leaves its place to the last: finding,
/// adding, removing and picking at random take constant time, and the order depends on the calls
/// alone and not on the hash.
#[derive(Clone)]
pub(super) struct Set {
    members: IndexSet<Bytes, Keyed>,
    /// The bytes of all members.
    bytes: usize,
    /// Whether a server would keep it as an array of integers.
    packed: bool,
}

impl Set {
    /// What a member adds to the account of a set that has it not yet.
    pub(super) fn cost(member: &[u8]) -> usize {
        member.len() + SET_MEMBER_BYTES
    }

    pub(super) fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    /// Adds a member; one that is there already stays.
    pub(super) fn insert(&mut self, member: Bytes) {
        let size = member.len();
        let integer = self.packed && argument::integer(&member).is_ok();
        if self.members.insert(member) {
            self.bytes += size;
            self.packed &= integer && self.members.len() <= PACKED_MEMBERS_MAX;
        }
    }

    /// Takes a member away.
    pub(super) fn remove(&mut self, member: &[u8]) -> Option<Bytes> {
        let place = self.members.get_index_of(member)?;
        self.remove_at(place)
    }

    /// Takes the member at a place below `len` away.
    pub(super) fn remove_at(&mut self, place: usize) -> Option<Bytes> {
        let member = self.members.swap_remove_index(place)?;
        self.bytes -= member.len();
        // Room goes back where three quarters are empty: what is held stays close to what is
        // counted.
        if self.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.len() * 2);
        }
        Some(member)
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
        Set { members: IndexSet::with_hasher(hasher), bytes: 0, packed: true }
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn is_packed(&self) -> bool {
        self.packed
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

    #[test]
    fn room_goes_back_when_a_set_shrinks() {
        let mut set = Set::new(Keyed::new(1));
        for number in 0..1_000_u16 {
            set.insert(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        while set.len() > 10 {
            set.remove_at(set.len() / 2);
        }
        assert!(set.members.capacity() < 100);
        set.check();
    }
}

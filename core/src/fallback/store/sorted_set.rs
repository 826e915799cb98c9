//! Sorted sets: each member once, in the order of its score.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What a member of a sorted set is charged with beside its bytes: its score, its place in the
/// hash table and in the order of scores, and the allocator's share.
pub const SORTED_SET_MEMBER_BYTES: usize = 144;

#[derive(Clone)]
pub(super) struct SortedSet {
    scores: IndexMap<Bytes, f64, Keyed>,
    /// The bytes of all members.
    bytes: usize,
}

impl Collection for SortedSet {
    collection!(SortedSet);

    fn new(hasher: Keyed) -> Self {
        SortedSet { scores: IndexMap::with_hasher(hasher), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.scores.len()
    }

    fn is_packed(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        COLLECTION_BYTES + self.bytes + self.len() * SORTED_SET_MEMBER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::types::INDEX_PLACE_BYTES;

    impl SortedSet {
        pub(in crate::fallback::store) fn check(&self) {
            assert_eq!(self.bytes, self.scores.keys().map(Bytes::len).sum::<usize>());
        }
    }

    #[test]
    fn what_a_member_is_charged_covers_what_it_takes() {
        let order = size_of::<(f64, Bytes)>();
        assert!(size_of::<(Bytes, f64)>() + INDEX_PLACE_BYTES + order <= SORTED_SET_MEMBER_BYTES);
    }
}

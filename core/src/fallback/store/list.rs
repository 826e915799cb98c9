//! Lists: items in order, at both ends in constant time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What an item of a list is charged with beside its bytes: its place, and the allocator's share.
pub const LIST_ITEM_BYTES: usize = 48;

#[derive(Clone)]
pub(super) struct List {
    items: VecDeque<Bytes>,
    /// The bytes of all items.
    bytes: usize,
}

#[allow(dead_code, reason = "the commands on lists come with another change")]
impl List {
    /// What an item adds to the account.
    pub(super) fn cost(item: &[u8]) -> usize {
        item.len() + LIST_ITEM_BYTES
    }

    pub(super) fn push_back(&mut self, item: Bytes) {
        self.bytes += item.len();
        self.items.push_back(item);
    }
}

impl Collection for List {
    collection!(List);

    fn new(_: Keyed) -> Self {
        List { items: VecDeque::new(), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    /// Redis 7.0 has one form of lists.
    fn is_packed(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        COLLECTION_BYTES + self.bytes + self.len() * LIST_ITEM_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl List {
        pub(in crate::fallback::store) fn check(&self) {
            assert_eq!(self.bytes, self.items.iter().map(Bytes::len).sum::<usize>());
        }
    }

    #[test]
    fn what_an_item_is_charged_covers_what_it_takes() {
        // The allocator keeps a word or two for each item.
        assert!(size_of::<Bytes>() + 16 <= LIST_ITEM_BYTES);
    }
}

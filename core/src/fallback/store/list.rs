//! Lists: items in order, at both ends in constant time.

use std::collections::{VecDeque, vec_deque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Data;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, collection};
use crate::fallback::keyed::Keyed;

/// What an item of a list is charged with beside its bytes: its place, and the allocator's share.
pub const LIST_ITEM_BYTES: usize = 48;

/// One of the two ends of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Tail,
}

#[derive(Clone)]
pub(super) struct List {
    items: VecDeque<Bytes>,
    /// The bytes of all items.
    bytes: usize,
}

impl List {
    /// What an item adds to the account.
    pub(super) fn cost(item: &[u8]) -> usize {
        item.len() + LIST_ITEM_BYTES
    }

    pub(super) fn push(&mut self, end: End, item: Bytes) {
        self.bytes += item.len();
        match end {
            End::Head => self.items.push_front(item),
            End::Tail => self.items.push_back(item),
        }
    }

    pub(super) fn pop(&mut self, end: End) -> Option<Bytes> {
        let item = match end {
            End::Head => self.items.pop_front(),
            End::Tail => self.items.pop_back(),
        }?;
        self.bytes -= item.len();
        self.give_back();
        Some(item)
    }

    /// The item at an end.
    pub(super) fn end(&self, end: End) -> Option<&Bytes> {
        match end {
            End::Head => self.items.front(),
            End::Tail => self.items.back(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Bytes> {
        self.items.get(index)
    }

    pub(super) fn iter(&self) -> vec_deque::Iter<'_, Bytes> {
        self.items.iter()
    }

    /// The items between two indexes, which must be within the list.
    pub(super) fn range(&self, range: Range<usize>) -> vec_deque::Iter<'_, Bytes> {
        self.items.range(range)
    }

    /// Puts an item in place of the one at `index`, if there is one.
    pub(super) fn replace(&mut self, index: usize, item: Bytes) {
        if let Some(old) = self.items.get_mut(index) {
            self.bytes = self.bytes + item.len() - old.len();
            *old = item;
        }
    }

    /// Puts an item before the one at `index`, or at the end where that is the length. Takes time
    /// for the shorter side.
    pub(super) fn insert(&mut self, index: usize, item: Bytes) {
        self.bytes += item.len();
        self.items.insert(index, item);
    }

    /// Removes the first so many items that are equal to `item`, seen from `end`. Returns how many
    /// there were.
    pub(super) fn remove(&mut self, item: &[u8], end: End, most: usize) -> usize {
        let equal = |other: &Bytes| other == item;
        let found = self.items.iter().filter(|other| equal(other)).count();
        let removed = found.min(most);
        let mut skipped = if end == End::Head { 0 } else { found - removed };
        let mut left = removed;
        self.items.retain(|other| {
            if !equal(other) || left == 0 {
                return true;
            }
            if skipped > 0 {
                skipped -= 1;
                return true;
            }
            left -= 1;
            false
        });
        self.bytes -= removed * item.len();
        self.give_back();
        removed
    }

    /// Keeps the items between two indexes, which must be within the list.
    pub(super) fn keep(&mut self, range: Range<usize>) {
        let gone = self.items.drain(range.end..).map(|item| item.len()).sum::<usize>();
        self.bytes -= gone;
        let gone = self.items.drain(..range.start).map(|item| item.len()).sum::<usize>();
        self.bytes -= gone;
        self.give_back();
    }

    /// Gives room back where three quarters are empty, so that what is held stays close to what is
    /// counted, and popping one by one takes amortised constant time.
    fn give_back(&mut self) {
        if self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
        }
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
    use proptest::prelude::*;

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

    #[test]
    fn room_goes_back_when_a_list_shrinks() {
        let mut list = List::new(Keyed::new(1));
        for _ in 0..1_000 {
            list.push(End::Tail, Bytes::from_static(b"item"));
        }
        while list.len() > 10 {
            list.pop(End::Head);
        }
        assert!(list.items.capacity() < 100);
        assert_eq!(list.bytes(), COLLECTION_BYTES + 10 * List::cost(b"item"));
    }

    proptest! {
        #[test]
        fn it_is_the_vector_that_the_same_calls_make(
            calls in proptest::collection::vec((0..7u8, 0..4u8, 0..20usize, any::<bool>()), 1..60),
        ) {
            let (mut list, mut model) = (List::new(Keyed::new(1)), Vec::<Vec<u8>>::new());
            for (call, item, index, head) in calls {
                let item = vec![b'x'; item.into()];
                let end = if head { End::Head } else { End::Tail };
                match call {
                    0 | 1 => {
                        list.push(end, Bytes::from(item.clone()));
                        model.insert(if head { 0 } else { model.len() }, item);
                    }
                    2 => {
                        let popped = list.pop(end);
                        let expected = if head && !model.is_empty() {
                            Some(model.remove(0))
                        } else {
                            model.pop()
                        };
                        assert_eq!(popped.as_deref(), expected.as_deref());
                    }
                    3 if index < model.len() => {
                        list.replace(index, Bytes::from(item.clone()));
                        model[index] = item;
                    }
                    4 => {
                        list.insert(index.min(model.len()), Bytes::from(item.clone()));
                        model.insert(index.min(model.len()), item);
                    }
                    5 => {
                        let most = index % 4;
                        let mut removed = 0;
                        while removed < most {
                            let equal = |other: &Vec<u8>| *other == item;
                            let place = if head {
                                model.iter().position(equal)
                            } else {
                                model.iter().rposition(equal)
                            };
                            let Some(place) = place else { break };
                            model.remove(place);
                            removed += 1;
                        }
                        assert_eq!(list.remove(&item, end, most), removed);
                    }
                    6 => {
                        let start = (index / 2).min(model.len());
                        let end = index.clamp(start, model.len());
                        list.keep(start..end);
                        model = model[start..end].to_vec();
                    }
                    _ => {}
                }
                list.check();
                assert!(list.iter().eq(model.iter()));
            }
        }
    }
}

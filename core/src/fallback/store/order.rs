//! An order of places that knows their ranks: the order statistics of sorted sets.
//!
//! A sorted set keeps its members side by side, as the key space keeps its entries, each at a
//! *place*. This is a sequence of these places, by rank, in which finding, inserting and removing
//! take logarithmic time. It compares nothing itself: whoever owns the members says where a place
//! belongs.
//!
//! It is a weight-balanced tree: a node knows how many nodes hang below it, which is both what a
//! rank is counted by and what the tree is balanced by. It needs neither parents nor randomness.
//! The node of a place stands at that place of a vector, so there is no allocation by node and
//! nothing to keep in step but the places themselves.

use std::ops::Range;

/// A sequence of the places `0..len`, each once.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The node of each place.
    nodes: Vec<Node>,
    root: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    left: usize,
    right: usize,
    /// How many nodes there are in the tree of which this is the root.
    size: usize,
}

/// What a place takes.
#[cfg(test)]
pub(super) const NODE_BYTES: usize = size_of::<Node>();

/// Where there is no node.
const NONE: usize = usize::MAX;

/// Neither subtree may weigh more than so many times the other, its weight being its size and one.
/// With this and [`SINGLE`] rotations restore the balance after every insertion and removal
/// (Hirai and Yamamoto, "Balancing weight-balanced trees", 2011).
const DELTA: usize = 3;
/// A single rotation is enough where the inner grandchild weighs less than so many times the
/// outer one.
const SINGLE: usize = 2;

impl Order {
    pub(super) fn new() -> Self {
        Order { nodes: Vec::new(), root: NONE }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The place at `rank`, which must be below the length.
    pub(super) fn place(&self, rank: usize) -> usize {
        self.path(rank).0
    }

    /// How many places come before the first of which `before` does not hold. It must hold of all
    /// up to some rank and of none from there on. Takes logarithmic time.
    pub(super) fn partition_point(&self, before: impl Fn(usize) -> bool) -> usize {
        let (mut rank, mut at) = (0, self.root);
        while at != NONE {
            let Node { left, right, .. } = self.nodes[at];
            if before(at) {
                rank += self.size(left) + 1;
                at = right;
            } else {
                at = left;
            }
        }
        rank
    }

    /// The places of these ranks, which must lie within the length, in order or backwards.
    pub(super) fn places(&self, ranks: Range<usize>, reverse: bool) -> Places<'_> {
        let mut places = Places { order: self, path: Vec::new(), left: ranks.len(), reverse };
        if !ranks.is_empty() {
            places.descend(if reverse { ranks.end - 1 } else { ranks.start });
        }
        places
    }

    /// Adds the next place, which is the length so far, at `rank`.
    pub(super) fn insert(&mut self, rank: usize) {
        let place = self.nodes.len();
        self.nodes.push(Node { left: NONE, right: NONE, size: 1 });
        self.root = self.inserted(self.root, rank, place);
    }

    /// Moves the place at `from` to the rank `to` of what is left without it.
    pub(super) fn shift(&mut self, from: usize, to: usize) {
        let (root, place) = self.removed(self.root, from);
        self.nodes[place] = Node { left: NONE, right: NONE, size: 1 };
        self.root = self.inserted(root, to, place);
    }

    /// Takes the place at `rank` out. The last place takes over its number, as what stands at the
    /// last place moves into the gap; `last` is the rank of the last place.
    pub(super) fn swap_remove(&mut self, rank: usize, last: usize) {
        // While both are there: what points to the last node.
        let (place, _) = self.path(rank);
        let end = self.nodes.len() - 1;
        debug_assert_eq!(self.place(last), end, "the last place is where its owner says");
        let (root, removed) = self.removed(self.root, rank);
        debug_assert_eq!(removed, place, "what stands at a rank is what is removed from it");
        self.root = root;
        if place != end {
            let (_, parent) = self.path(last - usize::from(rank < last));
            self.nodes[place] = self.nodes[end];
            match parent.map(|parent| &mut self.nodes[parent]) {
                None => self.root = place,
                Some(parent) if parent.left == end => parent.left = place,
                Some(parent) => parent.right = place,
            }
        }
        self.nodes.pop();
        // Room goes back where three quarters are empty.
        if self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }

    /// The place at `rank` and its parent.
    fn path(&self, mut rank: usize) -> (usize, Option<usize>) {
        let (mut at, mut parent) = (self.root, None);
        loop {
            let Node { left, right, .. } = self.nodes[at];
            let before = self.size(left);
            if rank == before {
                return (at, parent);
            }
            parent = Some(at);
            if rank < before {
                at = left;
            } else {
                rank -= before + 1;
                at = right;
            }
        }
    }

    fn size(&self, at: usize) -> usize {
        self.nodes.get(at).map_or(0, |node| node.size)
    }

    /// The root of the tree at `at` with `place` in it. As deep as the tree: about a hundred calls
    /// for as many members as memory can hold.
    fn inserted(&mut self, at: usize, rank: usize, place: usize) -> usize {
        if at == NONE {
            return place;
        }
        let Node { left, right, .. } = self.nodes[at];
        let before = self.size(left);
        if rank <= before {
            self.nodes[at].left = self.inserted(left, rank, place);
        } else {
            self.nodes[at].right = self.inserted(right, rank - before - 1, place);
        }
        self.balanced(at)
    }

    /// The root of the tree at `at` without the place at `rank`, and that place.
    fn removed(&mut self, at: usize, rank: usize) -> (usize, usize) {
        let Node { left, right, .. } = self.nodes[at];
        let before = self.size(left);
        let removed;
        if rank < before {
            (self.nodes[at].left, removed) = self.removed(left, rank);
        } else if rank > before {
            (self.nodes[at].right, removed) = self.removed(right, rank - before - 1);
        } else if left == NONE || right == NONE {
            return (if left == NONE { right } else { left }, at);
        } else {
            // The neighbour on the heavier side takes its place.
            let heir;
            if before > self.size(right) {
                let rest;
                (rest, heir) = self.removed(left, before - 1);
                self.nodes[heir].left = rest;
                self.nodes[heir].right = right;
            } else {
                let rest;
                (rest, heir) = self.removed(right, 0);
                self.nodes[heir].left = left;
                self.nodes[heir].right = rest;
            }
            return (self.balanced(heir), at);
        }
        (self.balanced(at), removed)
    }

    /// The root of the tree at `at`, of which one subtree has gained or lost a node.
    fn balanced(&mut self, at: usize) -> usize {
        let weight = |order: &Self, at| order.size(at) + 1;
        let Node { left, right, .. } = self.nodes[at];
        if weight(self, left) > DELTA * weight(self, right) {
            let Node { left: outer, right: inner, .. } = self.nodes[left];
            if weight(self, inner) >= SINGLE * weight(self, outer) {
                self.nodes[at].left = self.rotated_left(left);
            }
            self.rotated_right(at)
        } else if weight(self, right) > DELTA * weight(self, left) {
            let Node { left: inner, right: outer, .. } = self.nodes[right];
            if weight(self, inner) >= SINGLE * weight(self, outer) {
                self.nodes[at].right = self.rotated_right(right);
            }
            self.rotated_left(at)
        } else {
            self.recount(at);
            at
        }
    }

    /// Lifts the right child of `at` above it.
    fn rotated_left(&mut self, at: usize) -> usize {
        let up = self.nodes[at].right;
        self.nodes[at].right = self.nodes[up].left;
        self.nodes[up].left = at;
        self.recount(at);
        self.recount(up);
        up
    }

    /// Lifts the left child of `at` above it.
    fn rotated_right(&mut self, at: usize) -> usize {
        let up = self.nodes[at].left;
        self.nodes[at].left = self.nodes[up].right;
        self.nodes[up].right = at;
        self.recount(at);
        self.recount(up);
        up
    }

    fn recount(&mut self, at: usize) {
        let Node { left, right, .. } = self.nodes[at];
        self.nodes[at].size = self.size(left) + 1 + self.size(right);
    }
}

/// Places by rank, from [`Order::places`]. Takes constant time a place, but for the first.
pub(super) struct Places<'a> {
    order: &'a Order,
    /// The next node, and above it those whose turn comes after their subtree on this side.
    path: Vec<usize>,
    left: usize,
    reverse: bool,
}

impl Places<'_> {
    fn descend(&mut self, mut rank: usize) {
        let mut at = self.order.root;
        loop {
            let Node { left, right, .. } = self.order.nodes[at];
            let before = self.order.size(left);
            let ahead = if self.reverse { rank > before } else { rank < before };
            if rank == before || ahead {
                self.path.push(at);
            }
            if rank == before {
                break;
            }
            if rank < before {
                at = left;
            } else {
                rank -= before + 1;
                at = right;
            }
        }
    }
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.path.pop()?;
        let Node { left, right, .. } = self.order.nodes[place];
        let mut at = if self.reverse { left } else { right };
        while at != NONE {
            self.path.push(at);
            let Node { left, right, .. } = self.order.nodes[at];
            at = if self.reverse { right } else { left };
        }
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Places<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Order {
        /// Checks the sizes and the balance of the tree at `at`; returns how many nodes it has.
        fn check(&self, at: usize) -> usize {
            if at == NONE {
                return 0;
            }
            let Node { left, right, size } = self.nodes[at];
            let (before, behind) = (self.check(left), self.check(right));
            assert_eq!(size, before + 1 + behind);
            assert!(before < DELTA * (behind + 1) && behind < DELTA * (before + 1));
            size
        }

        /// Holds all that can be asked against the sequence as a vector.
        fn compare(&self, model: &[usize]) {
            assert_eq!((self.check(self.root), self.len()), (model.len(), model.len()));
            let ranks: Vec<_> = (0..model.len()).map(|rank| self.place(rank)).collect();
            assert_eq!(ranks, model);
            assert_eq!(self.places(0..model.len(), false).collect::<Vec<_>>(), model);
        }
    }

    proptest! {
        #[test]
        fn it_is_the_vector_that_the_same_calls_make(
            calls in proptest::collection::vec((0..5u8, 0..1_000usize, 0..1_000usize), 1..300),
        ) {
            let (mut order, mut model) = (Order::new(), Vec::new());
            for (call, a, b) in calls {
                let len = model.len();
                match call {
                    0..=2 => {
                        order.insert(a % (len + 1));
                        model.insert(a % (len + 1), len);
                    }
                    3 if len > 0 => {
                        order.shift(a % len, b % len);
                        let place = model.remove(a % len);
                        model.insert(b % len, place);
                    }
                    4 if len > 0 => {
                        let rank = a % len;
                        let last = model.iter().position(|&place| place == len - 1).unwrap();
                        order.swap_remove(rank, last);
                        let place = model[rank];
                        model[last] = place;
                        model.remove(rank);
                    }
                    _ => {}
                }
                order.compare(&model);
                let (a, b) = (a % (model.len() + 1), b % (model.len() + 1));
                let (start, end) = (a.min(b), a.max(b));
                let there: Vec<_> = order.places(start..end, false).collect();
                assert_eq!(there, model[start..end]);
                let mut back: Vec<_> = order.places(start..end, true).collect();
                back.reverse();
                assert_eq!(back, model[start..end]);
                let before: Vec<_> = model[..start].to_vec();
                assert_eq!(order.partition_point(|place| before.contains(&place)), start);
            }
        }
    }

    #[test]
    fn it_stays_shallow_however_it_grows_and_shrinks() {
        fn depth(order: &Order, at: usize) -> usize {
            let Some(node) = order.nodes.get(at) else { return 0 };
            1 + depth(order, node.left).max(depth(order, node.right))
        }
        let ways: [fn(usize) -> usize; 3] = [|_| 0, |len| len, |len| len / 2];
        for rank in ways {
            let mut order = Order::new();
            for len in 0..3_000 {
                order.insert(rank(len));
            }
            // A weight-balanced tree of 3,000 is at most log(3,000) to base 4/3 deep.
            assert!(depth(&order, order.root) <= 28);
            while order.len() > 100 {
                let last = order.places(0..order.len(), false);
                let end = order.len() - 1;
                // Only the position of the last place is searched in linear time, by the test.
                let last = last.enumerate().find(|&(_, place)| place == end).unwrap().0;
                let first = rank(end);
                order.swap_remove(first, last);
                if order.len().is_multiple_of(1_000) {
                    order.check(order.root);
                }
            }
            assert_eq!(order.check(order.root), 100);
            assert!(order.nodes.capacity() < 500, "room goes back");
        }
    }
}

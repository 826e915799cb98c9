//! Sorted sets: each member once, in the order of its score, and of its bytes where scores are
//! equal.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::entry::Data;
use super::order::Order;
use super::refusal::Refusal;
use super::types::{COLLECTION_BYTES, Collection, PACKED_MEMBER_BYTES_MAX, collection};
use crate::fallback::keyed::Keyed;

/// What a member of a sorted set is charged with beside its bytes: its score, its place in the
/// hash table and in the order of scores, and the allocator's share.
pub const SORTED_SET_MEMBER_BYTES: usize = 112;

/// Up to how many members a server packs a sorted set into one list: Redis' default for
/// `zset-max-listpack-entries`.
const PACKED_MEMBERS_MAX: usize = 128;

/// Members stand side by side with their scores, and one that is removed leaves its place to the
/// last: finding a score and picking at random take constant time, and nothing depends on the
/// hash. An order of these places knows the ranks: whatever concerns them takes logarithmic time.
#[derive(Clone)]
pub(super) struct SortedSet {
    /// No score is NaN.
    scores: IndexMap<Bytes, f64, Keyed>,
    order: Order,
    /// The bytes of all members.
    bytes: usize,
    /// Whether a server would keep it as a packed list.
    packed: bool,
}

impl SortedSet {
    /// An empty sorted set of which it is known beforehand that it will have at least so many
    /// members.
    pub(super) fn expecting(hasher: Keyed, members: usize) -> Self {
        SortedSet { packed: members <= PACKED_MEMBERS_MAX, ..SortedSet::new(hasher) }
    }

    /// A sorted set of members that are known beforehand, each once: a server packs it, if it does,
    /// when all are in it.
    pub(super) fn gathered(hasher: Keyed, members: &[(Bytes, f64)]) -> Self {
        let mut set = SortedSet::expecting(hasher, members.len());
        set.packed &= members.iter().all(|(member, _)| member.len() <= PACKED_MEMBER_BYTES_MAX);
        for (member, score) in members {
            set.insert(member, *score);
        }
        set
    }

    /// What a member adds to the account of a sorted set that has it not yet.
    pub(super) fn cost(member: &[u8]) -> usize {
        member.len() + SORTED_SET_MEMBER_BYTES
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// How many members come before this one.
    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        Some(self.rank_of(member, self.score(member)?))
    }

    /// Adds a member or gives it a new score, which is not NaN. Returns whether it is new.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> bool {
        let found = self.scores.get_full(member).map(|(place, _, &old)| (place, old));
        if found.is_none() {
            self.packed &=
                self.len() < PACKED_MEMBERS_MAX && member.len() <= PACKED_MEMBER_BYTES_MAX;
        }
        // A packed list keeps whole scores as integers, and their zero has no sign.
        let score = if self.packed && score == 0.0 { 0.0 } else { score };
        let Some((place, old)) = found else {
            let rank = self.rank_of(member, score);
            self.bytes += member.len();
            self.scores.insert(Bytes::copy_from_slice(member), score);
            self.order.insert(rank);
            return true;
        };
        if old != score {
            let (from, to) = (self.rank_of(member, old), self.rank_of(member, score));
            self.scores[place] = score;
            // Of the ranks behind it each is one less without it.
            self.order.shift(from, to - usize::from(from < to));
        }
        false
    }

    /// From now on a server would not keep it packed, for another reason than its size.
    pub(super) fn unpack(&mut self) {
        self.packed = false;
    }

    /// Returns whether the member was there.
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let rank = self.rank(member);
        rank.and_then(|rank| self.remove_rank(rank)).is_some()
    }

    /// Takes the member at `rank` away.
    pub(super) fn remove_rank(&mut self, rank: usize) -> Option<(Bytes, f64)> {
        let (last, &score) = self.scores.last()?;
        let last = self.rank_of(last, score);
        let place = (rank < self.len()).then(|| self.order.place(rank))?;
        self.order.swap_remove(rank, last);
        let (member, score) = self.scores.swap_remove_index(place)?;
        self.bytes -= member.len();
        // Room goes back where three quarters are empty: what is held stays close to what is
        // counted.
        if self.len() < self.scores.capacity() / 4 {
            self.scores.shrink_to(self.len() * 2);
        }
        Some((member, score))
    }

    /// Takes the members of these ranks away, which must be within the length.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        for rank in ranks.rev() {
            self.remove_rank(rank);
        }
    }

    /// The member at a place below `len`, in no order that matters.
    pub(super) fn at(&self, place: usize) -> Option<(&Bytes, f64)> {
        self.scores.get_index(place).map(|(member, &score)| (member, score))
    }

    /// The members of these ranks, which must be within the length, from the lowest or the highest.
    pub(super) fn ranks(
        &self,
        ranks: Range<usize>,
        reverse: bool,
    ) -> impl ExactSizeIterator<Item = (&Bytes, f64)> {
        self.order.places(ranks, reverse).map(|place| self.member(place))
    }

    /// How many members come before the first of which `before` does not hold. It must hold of all
    /// up to some rank and of none from there on.
    pub(super) fn partition_point(&self, before: impl Fn(&[u8], f64) -> bool) -> usize {
        self.order.partition_point(|place| {
            let (member, score) = self.member(place);
            before(member, score)
        })
    }

    /// The rank that a member with this score has or would have.
    fn rank_of(&self, member: &[u8], score: f64) -> usize {
        self.partition_point(|other, other_score| (other_score, other) < (score, member))
    }

    fn member(&self, place: usize) -> (&Bytes, f64) {
        self.at(place).expect("the order has the places of the members")
    }
}

impl Collection for SortedSet {
    collection!(SortedSet);

    fn new(hasher: Keyed) -> Self {
        let scores = IndexMap::with_hasher(hasher);
        SortedSet { scores, order: Order::new(), bytes: 0, packed: true }
    }

    fn len(&self) -> usize {
        self.scores.len()
    }

    fn is_packed(&self) -> bool {
        self.packed
    }

    fn bytes(&self) -> usize {
        COLLECTION_BYTES + self.bytes + self.len() * SORTED_SET_MEMBER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::store::order::NODE_BYTES;
    use crate::fallback::store::types::INDEX_PLACE_BYTES;
    use proptest::prelude::*;

    impl SortedSet {
        /// Whether the members, their order and the account agree.
        pub(in crate::fallback::store) fn check(&self) {
            assert_eq!(self.bytes, self.scores.keys().map(Bytes::len).sum::<usize>());
            assert_eq!(self.order.len(), self.len());
            let members: Vec<_> = self.ranks(0..self.len(), false).collect();
            assert!(self.len() <= PACKED_MEMBERS_MAX || !self.packed);
            assert!(members.is_sorted_by(|a, b| (a.1, a.0) < (b.1, b.0)));
            for (rank, (member, score)) in members.into_iter().enumerate() {
                assert_eq!((self.rank(member), self.score(member)), (Some(rank), Some(score)));
                assert!(member.len() <= PACKED_MEMBER_BYTES_MAX || !self.packed);
            }
        }
    }

    #[test]
    fn what_a_member_is_charged_covers_what_it_takes() {
        // The allocator keeps a word or two for each member.
        let place = size_of::<(Bytes, f64)>() + INDEX_PLACE_BYTES + NODE_BYTES;
        assert!(place + 16 <= SORTED_SET_MEMBER_BYTES);
    }

    #[test]
    fn only_a_zero_that_a_server_packs_loses_its_sign() {
        let mut set = SortedSet::new(Keyed::new(1));
        let sign = |set: &SortedSet, member: &[u8]| set.score(member).unwrap().is_sign_negative();
        set.insert(b"packed", -0.0);
        assert!(set.is_packed() && !sign(&set, b"packed"));
        let long = Bytes::from(vec![b'x'; PACKED_MEMBER_BYTES_MAX + 1]);
        set.insert(&long, -0.0);
        assert!(!set.is_packed() && sign(&set, &long) && !sign(&set, b"packed"));
        let members = [(Bytes::from_static(b"gathered"), -0.0), (long, 1.0)];
        assert!(sign(&SortedSet::gathered(Keyed::new(1), &members), b"gathered"));
        assert!(!sign(&SortedSet::gathered(Keyed::new(1), &members[..1]), b"gathered"));
    }

    #[test]
    fn room_goes_back_when_a_sorted_set_shrinks() {
        let mut set = SortedSet::new(Keyed::new(1));
        for number in 0..1_000_u16 {
            set.insert(&number.to_be_bytes(), number.into());
        }
        while set.len() > 10 {
            set.remove_rank(set.len() / 2);
        }
        assert!(set.scores.capacity() < 100);
        set.check();
    }

    proptest! {
        #[test]
        fn it_is_the_sorted_vector_that_the_same_calls_make(
            calls in proptest::collection::vec((0..4u8, 0..40u8, -4..4i8, 0..60usize), 1..200),
        ) {
            let mut set = SortedSet::new(Keyed::new(1));
            let mut model: Vec<(f64, Vec<u8>)> = Vec::new();
            for (call, name, score, rank) in calls {
                let member = vec![b'm'; 1 + usize::from(name) % 3].into_iter().chain([name]);
                let member: Vec<u8> = member.collect();
                let score = match score {
                    -4 => f64::NEG_INFINITY,
                    3 => f64::INFINITY,
                    score => f64::from(score) * 0.5,
                };
                match call {
                    0 | 1 => {
                        let before = model.len();
                        model.retain(|(_, other)| *other != member);
                        assert_eq!(set.insert(&member, score), model.len() == before);
                        model.push((score, member));
                        model.sort_by(|a, b| a.partial_cmp(b).unwrap());
                    }
                    2 => {
                        let before = model.len();
                        model.retain(|(_, other)| *other != member);
                        assert_eq!(set.remove(&member), model.len() < before);
                    }
                    _ => {
                        let removed = set.remove_rank(rank).map(|(member, score)| (score, member));
                        let expected = (rank < model.len()).then(|| model.remove(rank));
                        let removed = removed.map(|(score, member)| (score, member.to_vec()));
                        assert_eq!(removed, expected);
                    }
                }
                set.check();
                let members = set.ranks(0..set.len(), false);
                assert!(members.eq(model.iter().map(|(score, member)| {
                    (set.scores.get_key_value(&member[..]).unwrap().0, *score)
                })));
            }
        }
    }
}

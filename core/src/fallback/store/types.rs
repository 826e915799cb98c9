//! The types whose values have members: what the keyspace needs of each, and what they are charged.
//!
//! A type keeps its own account: every change keeps the sum of what its members take, so that the
//! keyspace asks in constant time. A test in each file holds the charge to what a member takes.

use super::entry::Data;
use super::refusal::Refusal;
use crate::fallback::keyed::Keyed;

/// What a hash, list, set or sorted set is charged with beside its members and
/// [`ENTRY_BYTES`](super::ENTRY_BYTES): the structure itself and the allocator's share.
pub const COLLECTION_BYTES: usize = 160;

/// Up to which length of each member a server packs a hash or a sorted set into one list: Redis'
/// default for `hash-max-listpack-value` and
/// `zset-max-listpack-value`.
pub(super) const PACKED_MEMBER_BYTES_MAX: usize = 64;

/// A value with members. An empty one never stays at a key.
pub(super) trait Collection: Clone {
    /// An empty one. The hasher is keyed from the store's seed, for types that hash their members.
    fn new(hasher: Keyed) -> Self;

    /// The collection of this type, or WRONGTYPE.
    fn of(data: &Data) -> Result<&Self, Refusal>;

    /// The collection of this type for changing it in place, or WRONGTYPE. Copies one that is
    /// shared with another key or another store.
    fn of_mut(data: &mut Data) -> Result<&mut Self, Refusal>;

    fn into_data(self) -> Data;

    /// The number of members.
    fn len(&self) -> usize;

    /// Whether a server would keep it packed: small, and never having been large. It shows in OBJECT
    /// ENCODING, and packed collections are scanned at once.
    fn is_packed(&self) -> bool;

    /// What it is charged with: [`COLLECTION_BYTES`], and for each member its bytes and the constant
    /// of the type. Takes constant time.
    fn bytes(&self) -> usize;
}

/// Writes what every type says about itself in the same words.
macro_rules! collection {
    ($type:ident) => {
        fn of(data: &Data) -> Result<&Self, Refusal> {
            if let Data::$type(it) = data { Ok(it) } else { Err(Refusal::WRONG_TYPE) }
        }

        fn of_mut(data: &mut Data) -> Result<&mut Self, Refusal> {
            if let Data::$type(it) = data {
                Ok(Arc::make_mut(it))
            } else {
                Err(Refusal::WRONG_TYPE)
            }
        }

        fn into_data(self) -> Data {
            Data::$type(Arc::new(self))
        }
    };
}
pub(super) use collection;

/// What a member's place in an indexed map takes beside the member: the hash that stands with it,
/// and a table that is at most seven eighths full and has a byte beside each place.
#[cfg(test)]
pub(super) const INDEX_PLACE_BYTES: usize =
    size_of::<usize>() + (size_of::<usize>() + 1).div_ceil(7) * 8;

#[cfg(test)]
mod tests {
    use super::super::{hash::Hash, list::List, set::Set, sorted_set::SortedSet};
    use super::*;

    #[test]
    fn what_a_collection_is_charged_covers_what_it_takes() {
        // Beside it stand the two counts of its `Arc` and what the allocator keeps.
        const BESIDE: usize = 2 * size_of::<usize>() + 16;
        let sizes =
            [size_of::<Hash>(), size_of::<List>(), size_of::<Set>(), size_of::<SortedSet>()];
        for size in sizes {
            assert!(size + BESIDE <= COLLECTION_BYTES, "{size}");
        }
    }
}

//! What stands at a key.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::hash::Hash;
use super::list::List;
use super::refusal::Refusal;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::types::Collection;

/// A value and how long it lives.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) data: Data,
    /// In milliseconds since the Unix epoch; `None` is for ever.
    pub(super) expires_at: Option<u64>,
}

impl Entry {
    /// When something of it expires next: itself or, in a hash, a field.
    pub(super) fn due(&self) -> Option<u64> {
        match (self.expires_at, self.data.next_deadline()) {
            (Some(own), Some(within)) => Some(own.min(within)),
            (own, within) => own.or(within),
        }
    }

    /// Whether it is gone by `at`: at the very millisecond that it names it is still there.
    pub(super) fn has_expired(&self, at: u64) -> bool {
        let hash_has = |data: &Data| matches!(data, Data::Hash(hash) if hash.has_expired(at));
        self.expires_at.is_some_and(|when| when < at) || hash_has(&self.data)
    }
}

/// A value of one of Redis' types.
///
/// What has members is shared until it is changed, so that COPY and lending to another store take
/// constant time.
#[derive(Clone)]
pub(super) enum Data {
    String(Text),
    Hash(Arc<Hash>),
    List(Arc<List>),
    Set(Arc<Set>),
    SortedSet(Arc<SortedSet>),
}

impl Data {
    /// The name that TYPE gives.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Data::String(_) => "string",
            Data::Hash(_) => "hash",
            Data::List(_) => "list",
            Data::Set(_) => "set",
            Data::SortedSet(_) => "zset",
        }
    }

    /// The bytes that the value is charged with. Takes constant time.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Data::String(text) => text.len(),
            Data::Hash(hash) => hash.bytes(),
            Data::List(list) => list.bytes(),
            Data::Set(set) => set.bytes(),
            Data::SortedSet(sorted_set) => sorted_set.bytes(),
        }
    }

    /// Whether it is to be taken away, as Redis takes away what has no members left.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Data::String(_) => false,
            Data::Hash(hash) => hash.len() == 0,
            Data::List(list) => list.len() == 0,
            Data::Set(set) => set.len() == 0,
            Data::SortedSet(sorted_set) => sorted_set.len() == 0,
        }
    }

    /// When the next member expires, in milliseconds since the Unix epoch.
    fn next_deadline(&self) -> Option<u64> {
        if let Data::Hash(hash) = self { hash.next_deadline() } else { None }
    }

    /// Takes at most so many members away that have expired by `at`.
    pub(super) fn expire_members(&mut self, at: u64, members_max: usize) {
        if let Data::Hash(hash) = self {
            Arc::make_mut(hash).expire(at, members_max);
        }
    }

    /// The string, or WRONGTYPE.
    pub(super) fn text(&self) -> Result<&Text, Refusal> {
        if let Data::String(text) = self { Ok(text) } else { Err(Refusal::WRONG_TYPE) }
    }

    /// The string for changing it in place, or WRONGTYPE.
    pub(super) fn text_mut(&mut self) -> Result<&mut Text, Refusal> {
        if let Data::String(text) = self { Ok(text) } else { Err(Refusal::WRONG_TYPE) }
    }
}

/// A string.
///
/// What was written as bytes stays bytes, so that reading it shares them; what a counter left
/// stays an integer, so that counting neither parses nor allocates.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Integer(i64),
    Bytes(Bytes),
}

impl Text {
    /// A copy of `bytes`.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Text::Bytes(Bytes::copy_from_slice(bytes))
    }

    /// The length as text, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Text::Integer(number) => {
                let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(*number < 0)
            }
            Text::Bytes(bytes) => bytes.len(),
        }
    }

    /// The text; bytes are shared, not copied.
    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Text::Integer(number) => Bytes::from(number.to_string()),
            Text::Bytes(bytes) => bytes.clone(),
        }
    }

    /// Takes the text out for changing it; `put_back` ends the loan. Copies only where others
    /// share the bytes, so that repeated appending takes amortised constant time.
    pub(super) fn take(&mut self, capacity: usize) -> BytesMut {
        let bytes = match self {
            Text::Integer(_) => self.to_bytes(),
            Text::Bytes(bytes) => std::mem::take(bytes),
        };
        bytes.try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(capacity.max(shared.len()));
            copy.extend_from_slice(&shared);
            copy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_charged_as_its_text() {
        for number in [0, 1, 9, 10, -1, -10, i64::MAX, i64::MIN] {
            assert_eq!(Text::Integer(number).len(), number.to_string().len(), "{number}");
        }
    }
}

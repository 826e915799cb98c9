//! Hash slots: which part of a cluster a key belongs to.
//!
//! A cluster divides all keys into [`SLOTS`] slots and its shards share these out among themselves.
//! Commands on several keys, and transactions, work only where all keys are in one slot; a *hash
//! tag* puts them there.
//!
//! ```
//! use unfazed_core::slot::slot;
//!
//! assert_eq!(slot(b"foo"), 12182);
//! assert_eq!(slot(b"{user:7}.name"), slot(b"{user:7}.visits"));
//! ```
//!
//! The rules are those of the
//! [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/),
//! "Key distribution model" and "Hash tags".

use crc16::{State, XMODEM};

/// How many slots there are, in every cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of `key`, below [`SLOTS`]. O(length of what is hashed).
///
/// Where the key has a hash tag, only that is hashed: what stands between the first `{` and the
/// first `}` after it, unless that is empty.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    State::<XMODEM>::calculate(hashed_part(key)) % SLOTS
}

fn hashed_part(key: &[u8]) -> &[u8] {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    };
    tag().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers answer: hex key, tab, slot; the first line is a comment.
    const VECTORS: &str = include_str!("../tests/data/slots.tsv");

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn keys_are_where_servers_say_they_are_and_every_slot_has_one() {
        let mut seen = vec![false; usize::from(SLOTS)];
        for line in VECTORS.lines().skip(1) {
            let (key, expected) = line.split_once('\t').expect("two columns");
            let expected: u16 = expected.parse().expect("a slot");
            assert_eq!(slot(&unhex(key)), expected, "key {key}");
            seen[usize::from(expected)] = true;
        }
        assert!(seen.into_iter().all(|seen| seen));
    }

    #[test]
    fn only_the_first_tag_counts_and_only_if_there_is_something_in_it() {
        assert_eq!(hashed_part(b"{user1000}.following"), b"user1000");
        assert_eq!(hashed_part(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hashed_part(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hashed_part(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hashed_part(b"}a{b}"), b"b");
        assert_eq!(hashed_part(b"foo{bar"), b"foo{bar");
        assert_eq!(hashed_part(b"foo}bar{"), b"foo}bar{");
        assert_eq!(hashed_part(b""), b"");
    }
}

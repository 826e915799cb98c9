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

/// A key that begins like this and lies in that slot. `start` has no braces in it.
///
/// Its last two bytes are found and not tried: the checksum of what comes before them, and theirs, add up to
/// that of the whole. A number before them is counted up until they are letters or digits, five times or so.
pub(crate) fn key_in(slot: u16, start: &[u8]) -> Option<Vec<u8>> {
    (0u16..u16::MAX).find_map(|number| {
        let mut key = [start, number.to_string().as_bytes(), b":"].concat();
        let before = State::<XMODEM>::calculate(&key);
        // Slots are checksums without their two highest bits.
        let sums = (0..=u16::MAX / SLOTS).map(|high| slot + high * SLOTS);
        let mut ends = sums.map(|sum| (before ^ before_two_bytes(sum)).to_be_bytes());
        key.extend(ends.find(|end| end.iter().all(u8::is_ascii_alphanumeric))?);
        Some(key)
    })
}

/// What has become this checksum after 16 bits of nothing.
fn before_two_bytes(sum: u16) -> u16 {
    (0..16).fold(sum, |sum, _| match sum & 1 {
        0 => sum >> 1,
        _ => ((sum ^ POLYNOMIAL) >> 1) | 0x8000,
    })
}

/// Of XMODEM, whose checksum begins with 0 and takes the highest bit first.
const POLYNOMIAL: u16 = 0x1021;

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
    fn a_key_can_be_made_for_every_slot() {
        for wanted in 0..SLOTS {
            let key = key_in(wanted, b"unfazed:").expect("there is one");
            assert_eq!(slot(&key), wanted);
            assert!(key.starts_with(b"unfazed:") && key.len() < 20, "{key:?}");
            assert!(key.iter().all(u8::is_ascii_graphic), "{key:?}");
        }
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

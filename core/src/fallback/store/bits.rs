//! Commands about the bits of strings. Bit 0 is the highest bit of the first byte.

use std::borrow::Cow;
use std::ops::Range;

use super::entry::{Data, Entry, Text};
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::strings::edit;
use super::{Outcome, STRING_BYTES_MAX, argument, count};
use crate::Now;
use crate::resp::Value;

pub(super) fn setbit(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let position = offset(args[2])?;
    let bit = argument::integer(args[3]).ok().and_then(truth).ok_or(Refusal::BIT)?;
    let (at, mask) = place(position);
    edit(keyspace, args[1], at + 1, now.unix_millis(), |bytes| {
        let before = bytes[at] & mask != 0;
        if bit {
            bytes[at] |= mask;
        } else {
            bytes[at] &= !mask;
        }
        Value::Integer(before.into())
    })
}

pub(super) fn getbit(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (at, mask) = place(offset(args[2])?);
    let Some(entry) = keyspace.get(args[1], now.unix_millis()) else {
        return Ok(Value::Integer(0));
    };
    let bytes = read(entry.data.text()?);
    let bit = bytes.get(at).is_some_and(|byte| byte & mask != 0);
    Ok(Value::Integer(bit.into()))
}

/// BITCOUNT: a key that is absent counts as 0 before the arguments are looked at.
pub(super) fn bitcount(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let Some(entry) = keyspace.get(args[1], now.unix_millis()) else {
        return Ok(Value::Integer(0));
    };
    let bytes = read(entry.data.text()?);
    let range = match args[2..] {
        [] => 0..bits_of(&bytes),
        [start, end] | [start, end, _] => {
            let (start, end) = (argument::integer(start)?, argument::integer(end)?);
            if start < 0 && end < 0 && start > end {
                return Ok(Value::Integer(0));
            }
            let unit = args.get(4).map_or(Ok(Unit::Byte), |unit| Unit::parse(unit))?;
            unit.range(start, end, &bytes)
        }
        _ => return Err(Refusal::SYNTAX),
    };
    Ok(integer(ones(&bytes, range)))
}

/// BITPOS: a key that is absent is all zeros, without end, before more arguments are looked at.
pub(super) fn bitpos(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    const NOWHERE: Value = Value::Integer(-1);
    let bit = truth(argument::integer(args[2])?).ok_or(Refusal::BIT_ARGUMENT)?;
    let Some(entry) = keyspace.get(args[1], now.unix_millis()) else {
        return Ok(if bit { NOWHERE } else { Value::Integer(0) });
    };
    let bytes = read(entry.data.text()?);
    let range = match args[3..] {
        [] => 0..bits_of(&bytes),
        [start] => Unit::Byte.range(argument::integer(start)?, -1, &bytes),
        [start, end] | [start, end, _] => {
            let start = argument::integer(start)?;
            let unit = args.get(5).map_or(Ok(Unit::Byte), |unit| Unit::parse(unit))?;
            unit.range(start, argument::integer(end)?, &bytes)
        }
        _ => return Err(Refusal::SYNTAX),
    };
    let open = args.len() < 5;
    Ok(match first(&bytes, range.clone(), bit) {
        Some(position) => integer(position),
        // Without an end the string counts as followed by zeros, unless nothing was looked at.
        None if open && !bit && !range.is_empty() => integer(range.end),
        None => NOWHERE,
    })
}

/// BITOP: shorter strings, and absent ones, count as followed by zeros.
pub(super) fn bitop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (target, sources, at) = (args[2], &args[3..], now.unix_millis());
    let operator = Operator::parse(args[1])?;
    if operator == Operator::Not && sources.len() != 1 {
        return Err(Refusal::BITOP_NOT);
    }
    let mut size = 0;
    for source in sources {
        let length = keyspace.get(source, at).map(|entry| Ok(entry.data.text()?.len()));
        size = size.max(length.transpose()?.unwrap_or(0));
    }
    if size == 0 {
        keyspace.remove(target, at);
        return Ok(Value::Integer(0));
    }
    // Room first: the bytes may be many.
    keyspace.reserve(&[(target, size)], at)?;
    let mut sources = sources.iter().map(|source| match keyspace.peek(source, at) {
        Some(entry) => Ok(read(entry.data.text()?)),
        None => Ok(Cow::Borrowed(&[][..])),
    });
    let mut result = sources.next().transpose()?.map_or(Vec::new(), Cow::into_owned);
    result.resize(size, 0);
    if operator == Operator::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for source in sources {
        operator.apply(&mut result, &source?);
    }
    let data = Data::String(Text::Bytes(result.into()));
    keyspace.put_reserved(target, Entry { data, expires_at: None });
    Ok(count(size))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Xor,
    Not,
}

impl Operator {
    fn parse(arg: &[u8]) -> Result<Self, Refusal> {
        [("AND", Self::And), ("OR", Self::Or), ("XOR", Self::Xor), ("NOT", Self::Not)]
            .into_iter()
            .find_map(|(name, operator)| argument::is(arg, name).then_some(operator))
            .ok_or(Refusal::SYNTAX)
    }

    /// `other` is at most as long as the result.
    fn apply(self, result: &mut [u8], other: &[u8]) {
        let (common, rest) = result.split_at_mut(other.len());
        let pairs = common.iter_mut().zip(other);
        match self {
            Operator::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Operator::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operator::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            // Has one source, which is the result already.
            Operator::Not => {}
        }
    }
}

/// What the indexes of a range count.
#[derive(Clone, Copy)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(arg: &[u8]) -> Result<Self, Refusal> {
        if argument::is(arg, "BIT") {
            Ok(Unit::Bit)
        } else if argument::is(arg, "BYTE") {
            Ok(Unit::Byte)
        } else {
            Err(Refusal::SYNTAX)
        }
    }

    /// The bits between two indexes, both included; negative ones count from the end.
    fn range(self, start: i64, end: i64, bytes: &[u8]) -> Range<u64> {
        let size = match self {
            Unit::Byte => 8,
            Unit::Bit => 1,
        };
        let total = bits_of(bytes) / size;
        let from_start = |index: i64| match u64::try_from(index) {
            Ok(index) => index,
            Err(_) => total.saturating_sub(index.unsigned_abs()),
        };
        let (start, end) = (from_start(start), from_start(end).saturating_add(1).min(total));
        if start < end { start * size..end * size } else { 0..0 }
    }
}

/// The position of a bit in an argument. All positions in a string of the greatest length will do.
pub(super) fn offset(text: &[u8]) -> Result<u64, Refusal> {
    let offset = argument::integer(text).ok().and_then(|offset| u64::try_from(offset).ok());
    offset.filter(|&offset| byte_of(offset) < STRING_BYTES_MAX).ok_or(Refusal::BIT_OFFSET)
}

/// The byte in which a bit stands. Only of positions within strings.
pub(super) fn byte_of(offset: u64) -> usize {
    usize::try_from(offset / 8).unwrap_or(usize::MAX)
}

/// The byte in which a bit stands, and which of its bits it is.
fn place(offset: u64) -> (usize, u8) {
    (byte_of(offset), 0x80 >> (offset % 8))
}

fn truth(number: i64) -> Option<bool> {
    match number {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The bytes of a string, copied only where it stands there as a number.
pub(super) fn read(text: &Text) -> Cow<'_, [u8]> {
    match text {
        Text::Bytes(bytes) => Cow::Borrowed(bytes),
        Text::Integer(number) => Cow::Owned(number.to_string().into_bytes()),
    }
}

fn bits_of(bytes: &[u8]) -> u64 {
    bytes.len() as u64 * 8
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// How many bits of a range within `bytes` are 1.
fn ones(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (head, tail) = edges(&range);
    let bytes = &bytes[byte_of(range.start)..=byte_of(range.end - 1)];
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words: u64 = words.iter().map(|word| weight(u64::from_ne_bytes(*word))).sum();
    let in_rest: u64 = rest.iter().map(|&byte| weight(byte.into())).sum();
    let cut = |byte: Option<&u8>, mask: u8| weight(byte.map_or(0, |byte| byte & !mask).into());
    in_words + in_rest - cut(bytes.first(), head) - cut(bytes.last(), tail)
}

fn weight(word: u64) -> u64 {
    word.count_ones().into()
}

/// Of the first and of the last byte of a range that is not empty, the bits that lie within it.
fn edges(range: &Range<u64>) -> (u8, u8) {
    (0xFF >> (range.start % 8), 0xFF << (7 - (range.end - 1) % 8))
}

/// The position of the first bit of a range within `bytes` that is as sought.
fn first(bytes: &[u8], range: Range<u64>, bit: bool) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    // Bytes that hold none of what is sought are all alike.
    let without = if bit { 0x00 } else { 0xFF };
    let sought = |byte: u8| byte ^ without;
    let start = byte_of(range.start);
    let bytes = &bytes[start..=byte_of(range.end - 1)];
    let (head, _) = edges(&range);
    let (at, byte) = match bytes {
        [byte, ..] if sought(*byte) & head != 0 => (0, sought(*byte) & head),
        _ => {
            let (words, _) = bytes[1..].as_chunks::<8>();
            let skipped = words.iter().take_while(|word| **word == [without; 8]).count() * 8 + 1;
            let mut rest = bytes[skipped..].iter().enumerate();
            let (at, byte) = rest.find(|&(_, &byte)| byte != without)?;
            (skipped + at, sought(*byte))
        }
    };
    let position = (start + at) as u64 * 8 + u64::from(byte.leading_zeros());
    range.contains(&position).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counting_and_finding_are_those_of_a_loop_over_the_bits(
            bytes in proptest::collection::vec(
                prop_oneof![3 => Just(0xFF_u8), 3 => Just(0), 1 => any::<u8>()], 1..40),
            a in 0..320_u64,
            b in 0..320_u64,
        ) {
            let end = bits_of(&bytes);
            let range = a.min(b).min(end)..a.max(b).min(end);
            let is = |position: u64| bytes[byte_of(position)] & place(position).1 != 0;
            let counted = range.clone().filter(|&position| is(position)).count() as u64;
            assert_eq!(ones(&bytes, range.clone()), counted);
            for bit in [false, true] {
                let found = range.clone().find(|&position| is(position) == bit);
                assert_eq!(first(&bytes, range.clone(), bit), found);
            }
        }
    }

    #[test]
    fn ranges_are_cut_to_the_string() {
        let table = [
            (0, -1, 0..48, 0..48),
            (0, 0, 0..8, 0..1),
            (-2, -1, 32..48, 46..48),
            (-100, -90, 0..8, 0..1),
            (2, 1, 0..0, 0..0),
            (5, 100, 40..48, 5..48),
            (100, 200, 0..0, 0..0),
            (i64::MIN, i64::MAX, 0..48, 0..48),
            (i64::MAX, i64::MIN, 0..0, 0..0),
        ];
        for (start, end, bytes, bits) in table {
            assert_eq!(Unit::Byte.range(start, end, b"string"), bytes, "{start} to {end}");
            assert_eq!(Unit::Bit.range(start, end, b"string"), bits, "{start} to {end}");
        }
        assert_eq!(Unit::Byte.range(0, -1, b""), 0..0);
    }
}

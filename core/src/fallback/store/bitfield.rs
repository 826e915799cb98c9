//! BITFIELD: integers of any width, anywhere in a string.

use super::bits::{self, byte_of};
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::strings::edit;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

pub(super) fn bitfield(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let operations = Operation::parse_all(&args[2..])?;
    let Some(size) = operations.iter().filter_map(Operation::reach).max() else {
        return fetch(keyspace, key, &operations, at);
    };
    edit(keyspace, key, size, at, |bytes| {
        let replies = operations.iter().map(|operation| operation.run(bytes));
        Value::Array(replies.collect())
    })
}

pub(super) fn bitfield_ro(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let operations = Operation::parse_all(&args[2..])?;
    if operations.iter().any(|operation| operation.reach().is_some()) {
        return Err(Refusal::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    fetch(keyspace, args[1], &operations, now.unix_millis())
}

/// Runs operations that only read.
fn fetch(keyspace: &mut Keyspace, key: &[u8], operations: &[Operation], at: u64) -> Outcome {
    let text = keyspace.get(key, at).map(|entry| entry.data.text()).transpose()?;
    let bytes = text.map(bits::read).unwrap_or_default();
    let values = operations.iter().map(|operation| operation.field.read(&bytes));
    Ok(Value::Array(values.map(Value::Integer).collect()))
}

/// One of the operations of a BITFIELD.
struct Operation {
    field: Field,
    verb: Verb,
    overflow: Overflow,
}

#[derive(Clone, Copy)]
enum Verb {
    Get,
    Set(i64),
    Add(i64),
}

/// What becomes of a number that its field has no room for.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Operation {
    fn parse_all(mut args: &[&[u8]]) -> Result<Vec<Self>, Refusal> {
        let mut overflow = Overflow::Wrap;
        let mut operations = Vec::new();
        loop {
            let (field, verb);
            (field, verb, args) = match *args {
                [] => return Ok(operations),
                [name, how, ref rest @ ..] if argument::is(name, "OVERFLOW") => {
                    overflow = Overflow::parse(how)?;
                    args = rest;
                    continue;
                }
                [name, kind, offset, ref rest @ ..] if argument::is(name, "GET") => {
                    (Field::parse(kind, offset)?, Verb::Get, rest)
                }
                [name, kind, offset, value, ref rest @ ..] if argument::is(name, "SET") => {
                    let field = Field::parse(kind, offset)?;
                    (field, Verb::Set(argument::integer(value)?), rest)
                }
                [name, kind, offset, by, ref rest @ ..] if argument::is(name, "INCRBY") => {
                    let field = Field::parse(kind, offset)?;
                    (field, Verb::Add(argument::integer(by)?), rest)
                }
                _ => return Err(Refusal::SYNTAX),
            };
            operations.push(Operation { field, verb, overflow });
        }
    }

    /// How long the string must be for this to write to it; `None` where it only reads.
    fn reach(&self) -> Option<usize> {
        let end = self.field.offset + u64::from(self.field.bits);
        (!matches!(self.verb, Verb::Get)).then(|| byte_of(end - 1) + 1)
    }

    fn run(&self, bytes: &mut [u8]) -> Value {
        let field = &self.field;
        let before = field.read(bytes);
        let (sum, reply_before) = match self.verb {
            Verb::Get => return Value::Integer(before),
            Verb::Set(value) => (field.sum(value, 0, self.overflow), true),
            Verb::Add(by) => (field.sum(before, by, self.overflow), false),
        };
        let Some(sum) = sum else {
            return Value::Null;
        };
        field.write(bytes, sum);
        Value::Integer(if reply_before { before } else { sum })
    }
}

impl Overflow {
    fn parse(arg: &[u8]) -> Result<Self, Refusal> {
        if argument::is(arg, "WRAP") {
            Ok(Overflow::Wrap)
        } else if argument::is(arg, "SAT") {
            Ok(Overflow::Saturate)
        } else if argument::is(arg, "FAIL") {
            Ok(Overflow::Fail)
        } else {
            Err(Refusal::new("ERR Invalid OVERFLOW type specified"))
        }
    }
}

/// Where a number stands, and how.
struct Field {
    signed: bool,
    /// From 1, to 64 where it is signed and to 63 where it is not, so that all fit an `i64`.
    bits: u32,
    offset: u64,
}

/// So many bytes hold any field, wherever it begins.
const FIELD_BYTES_MAX: usize = 9;

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Self, Refusal> {
        let (signed, bits) = match argument::until_nul(kind) {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return Err(Refusal::BITFIELD_TYPE),
        };
        let bits_max = if signed { 64 } else { 63 };
        let bits = argument::integer(bits).ok().and_then(|bits| u32::try_from(bits).ok());
        let bits = bits.filter(|bits| (1..=bits_max).contains(bits));
        let bits = bits.ok_or(Refusal::BITFIELD_TYPE)?;
        let offset = match offset.strip_prefix(b"#") {
            None => bits::offset(offset)?,
            Some(index) => {
                let index = argument::integer(index).map_err(|_| Refusal::BIT_OFFSET)?;
                // A product beyond 64 bits wraps around, as it does on a server.
                bits::offset(index.wrapping_mul(bits.into()).to_string().as_bytes())?
            }
        };
        Ok(Field { signed, bits, offset })
    }

    /// The number that stands there; behind the end of the string there are zeros.
    fn read(&self, bytes: &[u8]) -> i64 {
        let (window, shift) = self.window(bytes);
        let raw = (window >> shift) & self.mask();
        let unused = 128 - self.bits;
        let number =
            if self.signed { (raw << unused).cast_signed() >> unused } else { raw.cast_signed() };
        i64::try_from(number).expect("a field has at most 64 bits")
    }

    /// Puts the lowest bits of a number there; the string must be long enough.
    fn write(&self, bytes: &mut [u8], number: i64) {
        let (window, shift) = self.window(bytes);
        let raw = i128::from(number).cast_unsigned() & self.mask();
        let window = (window & !(self.mask() << shift)) | (raw << shift);
        let start = byte_of(self.offset);
        let image = window.to_be_bytes();
        let image = &image[image.len() - FIELD_BYTES_MAX..];
        bytes[start..].iter_mut().zip(image).for_each(|(byte, new)| *byte = *new);
    }

    /// The bytes that hold the field, the first of them the highest, and how far from the lowest
    /// bit it stands.
    fn window(&self, bytes: &[u8]) -> (u128, u32) {
        let rest = bytes.get(byte_of(self.offset)..).unwrap_or_default();
        let padded = rest.iter().copied().chain(std::iter::repeat(0)).take(FIELD_BYTES_MAX);
        let window = padded.fold(0, |window, byte| window << 8 | u128::from(byte));
        let before = u32::try_from(self.offset % 8).unwrap_or_default();
        (window, 8 * FIELD_BYTES_MAX as u32 - before - self.bits)
    }

    fn mask(&self) -> u128 {
        (1 << self.bits) - 1
    }

    /// The sum as the field can hold it, or `None` where it can't and is not to.
    fn sum(&self, number: i64, by: i64, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.signed {
            let max = (1_i128 << (self.bits - 1)) - 1;
            (-max - 1, max)
        } else {
            (0, (1_i128 << self.bits) - 1)
        };
        // Redis takes a negative number for an unsigned field as the large one with its bits.
        let number = if self.signed { number.into() } else { i128::from(number.cast_unsigned()) };
        let sum = number + i128::from(by);
        // What lies so far below a signed field that the distance to its maximum overflows 64
        // bits looks to Redis as if it lay above it.
        let wraps = self.signed && self.bits < 64 && max - number > i64::MAX.into();
        let limit = if sum > max || wraps {
            max
        } else if sum < min {
            min
        } else {
            return i64::try_from(sum).ok();
        };
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => i64::try_from(limit).ok(),
            Overflow::Wrap => {
                let unused = 128 - self.bits;
                let raw = sum << unused;
                let wrapped = if self.signed {
                    raw >> unused
                } else {
                    (raw.cast_unsigned() >> unused).cast_signed()
                };
                i64::try_from(wrapped).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(signed: bool, bits: u32, offset: u64) -> Field {
        Field { signed, bits, offset }
    }

    proptest! {
        #[test]
        fn a_field_holds_what_was_written_and_its_neighbours_stay(
            (signed, bits) in prop_oneof![(Just(true), 1..=64_u32), (Just(false), 1..=63_u32)],
            offset in 0..60_u64,
            bytes in proptest::collection::vec(any::<u8>(), 16),
            number in any::<i64>(),
        ) {
            let field = field(signed, bits, offset);
            let mut after = bytes.clone();
            let number = field.sum(number, 0, Overflow::Wrap).unwrap();
            field.write(&mut after, number);
            assert_eq!(field.read(&after), number);
            let within = offset..offset + u64::from(bits);
            for position in (0..128).filter(|position| !within.contains(position)) {
                let bit = |bytes: &[u8]| bytes[byte_of(position)] >> (7 - position % 8) & 1;
                assert_eq!(bit(&bytes), bit(&after), "bit {position}");
            }
            field.write(&mut after, field.read(&bytes));
            assert_eq!(after, bytes);
        }
    }

    #[test]
    fn what_does_not_fit_wraps_saturates_or_fails() {
        let byte = |signed| field(signed, 8, 0);
        let table = [
            (byte(true), 100, 100, -56, 127),
            (byte(true), -100, -100, 56, -128),
            (byte(false), 250, 10, 4, 255),
            (byte(false), 5, -10, 251, 0),
            (field(true, 64, 0), i64::MAX, 1, i64::MIN, i64::MAX),
            (field(true, 64, 0), i64::MIN, -1, i64::MAX, i64::MIN),
            (field(false, 63, 0), i64::MAX, i64::MAX, i64::MAX - 1, i64::MAX),
            (byte(false), -1, 0, 255, 255),
            (byte(true), -129, 0, 127, -128),
            (byte(true), i64::MIN, 0, 0, 127),
        ];
        for (field, number, by, wrapped, saturated) in table {
            let sum = |overflow| field.sum(number, by, overflow);
            assert_eq!(sum(Overflow::Wrap), Some(wrapped), "{number} and {by}");
            assert_eq!(sum(Overflow::Saturate), Some(saturated), "{number} and {by}");
            assert_eq!(sum(Overflow::Fail), None, "{number} and {by}");
        }
        assert_eq!(byte(true).sum(100, 27, Overflow::Fail), Some(127));
    }

    #[test]
    fn behind_the_end_of_the_string_there_are_zeros() {
        assert_eq!(field(false, 16, 4).read(b"\xFF"), 0xF000);
        assert_eq!(field(true, 64, 1 << 32).read(b"\xFF"), 0);
    }
}

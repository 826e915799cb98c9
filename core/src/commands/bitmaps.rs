//! Bits of strings: positions, combinations, numbers of any width.

use super::{Run, Spec};
use crate::{
    args::{Arg, ToArg, ToArgs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on the bits of a string. Single bits and counts of them are among
/// [`Strings`](super::Strings).
///
/// Bits are counted from the highest of the first byte. All of them answer with WRONGTYPE where the key
/// holds anything but a string.
pub trait Bitmaps: Run {
    /// How many bits are set from bit `start` to bit `end`, both counted in; negative positions count from
    /// the end. O(bytes). Since 7.0.
    fn bitcount_bits(&self, key: impl ToArg, start: i64, end: i64) -> Self::Pending<u64> {
        let bitcount = Request::of(const { Spec::of("BITCOUNT") });
        self.run(bitcount.key(&key).int(start).int(end).arg("BIT"))
    }

    /// The position of the first bit that is set (`true`) or clear. A clear one is found behind the end
    /// where there is no other. O(bytes). Since 2.8.7.
    fn bitpos(&self, key: impl ToArg, bit: bool) -> Self::Pending<BitPosition> {
        self.run(Request::of(const { Spec::of("BITPOS") }).key(&key).int(bit.into()))
    }

    /// The same in the bytes from `start` to `end`, both counted in, and not behind them; negative
    /// positions count from the end. The position is counted from the first bit of all. O(bytes).
    /// Since 2.8.7.
    fn bitpos_range(
        &self,
        key: impl ToArg,
        bit: bool,
        start: i64,
        end: i64,
    ) -> Self::Pending<BitPosition> {
        let bitpos = Request::of(const { Spec::of("BITPOS") }).key(&key).int(bit.into());
        self.run(bitpos.int(start).int(end))
    }

    /// The same from bit `start` to bit `end`, both counted in. O(bytes). Since 7.0.
    fn bitpos_bits(
        &self,
        key: impl ToArg,
        bit: bool,
        start: i64,
        end: i64,
    ) -> Self::Pending<BitPosition> {
        let bitpos = Request::of(const { Spec::of("BITPOS") }).key(&key).int(bit.into());
        self.run(bitpos.int(start).int(end).arg("BIT"))
    }

    /// Combines the strings at `keys` bit by bit, writes the result over whatever is at `to`, and gives its
    /// length in bytes. O(bytes). Since 2.6.
    fn bitop(
        &self,
        operation: BitOperation,
        to: impl ToArg,
        keys: impl ToArgs,
    ) -> Self::Pending<u64> {
        let bitop = Request::of(const { Spec::of("BITOP") });
        self.run(bitop.arg(operation.word()).key(&to).args(&keys))
    }

    /// Reads and writes numbers of any width anywhere in a string, and gives one number for each operation:
    /// what was read, what a write replaced, what an addition came to, `None` where it would overflow and
    /// was to fail. O(1) each. Since 3.2.
    fn bitfield(&self, key: impl ToArg, operations: BitField) -> Self::Pending<Vec<Option<i64>>> {
        self.run(Request::of(const { Spec::of("BITFIELD") }).key(&key).args(&operations.words))
    }

    /// The same, where all operations are reads; replicas answer it as well. O(1) each. Since 6.0.
    fn bitfield_ro(&self, key: impl ToArg, reads: BitField) -> Self::Pending<Vec<i64>> {
        self.run(Request::of(const { Spec::of("BITFIELD_RO") }).key(&key).args(&reads.words))
    }
}

impl<R: Run + ?Sized> Bitmaps for R {}

/// Where a bit was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitPosition {
    /// Here, counted from the first bit of all.
    At(u64),
    /// Nowhere.
    Nowhere,
}

impl FromReply for BitPosition {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match i64::from_view(view)? {
            -1 => Ok(BitPosition::Nowhere),
            position => match u64::try_from(position) {
                Ok(position) => Ok(BitPosition::At(position)),
                Err(_) => Err(DecodeError::unexpected("a position or -1", view)),
            },
        }
    }
}

/// How BITOP combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BitOperation {
    /// What is set in all.
    And,
    /// What is set in any.
    Or,
    /// What is set in an odd number of them.
    Xor,
    /// What is clear in the one that there is.
    Not,
    /// What is set in the first and in none of the others. Since Redis 8.2.
    Diff,
    /// What is set in any of the others and not in the first. Since Redis 8.2.
    Diff1,
    /// What is set in the first and in any of the others. Since Redis 8.2.
    AndOr,
    /// What is set in exactly one. Since Redis 8.2.
    One,
}

impl BitOperation {
    fn word(self) -> &'static str {
        match self {
            BitOperation::And => "AND",
            BitOperation::Or => "OR",
            BitOperation::Xor => "XOR",
            BitOperation::Not => "NOT",
            BitOperation::Diff => "DIFF",
            BitOperation::Diff1 => "DIFF1",
            BitOperation::AndOr => "ANDOR",
            BitOperation::One => "ONE",
        }
    }
}

/// What BITFIELD does, in order.
///
/// ```
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::prelude::*;
///
/// // The third of a row of 5-bit counters, which stops at 31.
/// let count = BitField::new()
///     .overflow(Overflow::Saturate)
///     .incrby(BitInt::unsigned(5), BitOffset::Item(2), 1);
/// # let _ = count;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it does nothing by itself"]
pub struct BitField {
    words: Vec<Arg<'static>>,
}

/// A whole number of so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitInt {
    sign: char,
    bits: u8,
}

impl BitInt {
    /// Of so many bits, up to 64, the highest being its sign.
    #[must_use]
    pub const fn signed(bits: u8) -> Self {
        BitInt { sign: 'i', bits }
    }

    /// Of so many bits, up to 63, without a sign.
    #[must_use]
    pub const fn unsigned(bits: u8) -> Self {
        BitInt { sign: 'u', bits }
    }

    fn word(self) -> Arg<'static> {
        Arg::from(format!("{}{}", self.sign, self.bits))
    }
}

/// Where a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOffset {
    /// From this bit on.
    Bit(u64),
    /// In this place of a row of numbers of its kind, counted from 0.
    Item(u64),
}

impl BitOffset {
    fn word(self) -> Arg<'static> {
        match self {
            BitOffset::Bit(bit) => Arg::from(bit.to_string()),
            BitOffset::Item(item) => Arg::from(format!("#{item}")),
        }
    }
}

/// What becomes of a number that its bits can't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It begins anew at the other end.
    Wrap,
    /// It stays at the end.
    Saturate,
    /// It is not written.
    Fail,
}

impl BitField {
    /// Nothing yet.
    pub fn new() -> Self {
        BitField::default()
    }

    /// Reads a number.
    pub fn get(self, of: BitInt, at: BitOffset) -> Self {
        self.and([Arg::from("GET"), of.word(), at.word()])
    }

    /// Writes a number.
    pub fn set(self, of: BitInt, at: BitOffset, value: i64) -> Self {
        self.and([Arg::from("SET"), of.word(), at.word(), Arg::integer(value)])
    }

    /// Adds to a number.
    pub fn incrby(self, of: BitInt, at: BitOffset, by: i64) -> Self {
        self.and([Arg::from("INCRBY"), of.word(), at.word(), Arg::integer(by)])
    }

    /// Says what becomes, from here on, of numbers that their bits can't hold; they wrap if nothing is
    /// said.
    pub fn overflow(self, overflow: Overflow) -> Self {
        let word = match overflow {
            Overflow::Wrap => "WRAP",
            Overflow::Saturate => "SAT",
            Overflow::Fail => "FAIL",
        };
        self.and([Arg::from("OVERFLOW"), Arg::from(word)])
    }

    fn and<const N: usize>(mut self, words: [Arg<'static>; N]) -> Self {
        self.words.extend(words);
        self
    }
}

//! The arithmetic of INCRBYFLOAT: 80-bit extended precision, as on servers on x86-64.
//!
//! Redis adds in C's `long double`, which there has a significand of 64 bits, and prints with
//! `%.17Lf`, trailing zeros cut. With `f64` the 11 missing bits would show: `10.6` would come
//! back as `10.59999999999999964`. So numbers are read, added and printed here as the hardware
//! and the C library do it: each step exact and rounded once, to nearest, ties to even. Servers
//! on other processors differ in the last digits. Not modelled: that numbers below 2^-16382
//! lose precision, which no seventeen digits show.

use std::cmp::Ordering;
use std::fmt;

/// A finite number: `significand * 2^exponent`, negated or not.
///
/// The significand's highest bit is set, unless the number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fallback) struct Extended {
    negative: bool,
    significand: u64,
    exponent: i32,
}

/// The highest bit of any finite number stands for less than 2 to this.
const MAGNITUDE_END: i32 = 16_384;
/// What is not above 2 to this reads as zero: half of the smallest number there is.
const MAGNITUDE_MIN: i32 = -16_446;
/// Redis refuses longer texts (`MAX_LONG_DOUBLE_CHARS` in `src/util.h`).
const TEXT_END: usize = 5 * 1024;

impl Extended {
    pub(in crate::fallback) const ZERO: Extended =
        Extended { negative: false, significand: 0, exponent: 0 };

    /// Reads what C's `strtold` reads, all of it, but for spaces, NaN, infinity and what is too
    /// large or too small to tell from infinity or zero.
    ///
    /// Redis reads an infinity and then refuses the sum. The two errors differ in their text, so
    /// see [`is_infinity`].
    pub(in crate::fallback) fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() >= TEXT_END {
            return None;
        }
        let (negative, rest) = sign(text);
        let number = match rest {
            [b'0', b'x' | b'X', hex @ ..] => Digits::parse(hex, 16)?,
            decimal => Digits::parse(decimal, 10)?,
        };
        Some(Extended { negative, ..number.round()? })
    }

    /// The sum, or `None` where it would be infinite.
    pub(in crate::fallback) fn add(self, other: Extended) -> Option<Extended> {
        // In 128 bits the larger one leaves two bits above it for the carry, and 62 below it.
        const BELOW: i32 = 62;
        if self.significand == 0 || other.significand == 0 {
            return Some(if self.significand == 0 { other } else { self });
        }
        let size = |number: &Extended| (number.exponent, number.significand);
        let (large, small) =
            if size(&self) >= size(&other) { (self, other) } else { (other, self) };
        let wide = |number: Extended| u128::from(number.significand) << BELOW;
        let distance = large.exponent.abs_diff(small.exponent);
        // What is shifted out leaves its trace in the lowest bit, enough to round by.
        let shifted = wide(small).checked_shr(distance).unwrap_or(0);
        let lost = shifted.checked_shl(distance) != Some(wide(small));
        let shifted = shifted | u128::from(lost);
        let sum = if large.negative == small.negative {
            wide(large) + shifted
        } else {
            wide(large) - shifted
        };
        if sum == 0 {
            return Some(Extended::ZERO);
        }
        let excess = 64 - sum.leading_zeros().cast_signed();
        let exponent = large.exponent - BELOW + excess;
        let (kept, exponent) = if excess <= 0 {
            (sum << excess.unsigned_abs(), exponent)
        } else {
            let rounded = shift_to_even(sum, excess.unsigned_abs());
            // Rounding up may have made it a power of two of 65 bits.
            if rounded >> 64 == 0 { (rounded, exponent) } else { (rounded >> 1, exponent + 1) }
        };
        let significand = u64::try_from(kept).expect("it was cut to 64 bits");
        (exponent + 64 <= MAGNITUDE_END).then_some(Extended {
            negative: large.negative,
            significand,
            exponent,
        })
    }
}

/// Whether `text` is an infinity as `strtold` reads it.
pub(super) fn is_infinity(text: &[u8]) -> bool {
    let (_, rest) = sign(text);
    rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity")
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

impl fmt::Display for Extended {
    /// As `%.17Lf` prints, without the zeros at the end of a fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PLACES: usize = 17;
        const SCALE: u128 = 10_u128.pow(17);
        let sign = if self.negative { "-" } else { "" };
        let Ok(places) = u32::try_from(-self.exponent) else {
            let mut whole = Natural::from(self.significand);
            whole.shift_left(self.exponent.unsigned_abs());
            return write!(f, "{sign}{whole}");
        };
        let scaled = shift_to_even(u128::from(self.significand) * SCALE, places);
        let (whole, fraction) = (scaled / SCALE, scaled % SCALE);
        match (whole, fraction) {
            (0, 0) => f.write_str("0"),
            (_, 0) => write!(f, "{sign}{whole}"),
            _ => {
                let fraction = format!("{fraction:0PLACES$}");
                write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
            }
        }
    }
}

/// Divides by 2 to `count` and rounds to nearest, ties to even.
fn shift_to_even(number: u128, count: u32) -> u128 {
    if count == 0 {
        return number;
    }
    let kept = number.checked_shr(count).unwrap_or(0);
    let rest = number - kept.checked_shl(count).unwrap_or(0);
    // Where this is not representable it is more than twice any rest.
    match 1_u128.checked_shl(count - 1).map(|half| rest.cmp(&half)) {
        Some(Ordering::Greater) => kept + 1,
        Some(Ordering::Equal) => kept + (kept & 1),
        Some(Ordering::Less) | None => kept,
    }
}

/// A number as it was written: `digits * base^-places * scale^exponent`, where scale is 10 for
/// decimal and 2 for hexadecimal numbers.
struct Digits {
    base: u8,
    /// Without zeros at the begin.
    digits: Vec<u8>,
    places: i32,
    exponent: i32,
}

impl Digits {
    fn parse(text: &[u8], base: u8) -> Option<Digits> {
        let mut number = Digits { base, digits: Vec::new(), places: 0, exponent: 0 };
        let (mut any, mut behind_point) = (false, false);
        for (index, &byte) in text.iter().enumerate() {
            let digit = char::from(byte).to_digit(base.into()).and_then(|d| u8::try_from(d).ok());
            match (digit, byte) {
                (Some(digit), _) => {
                    any = true;
                    number.places += i32::from(behind_point);
                    if digit != 0 || !number.digits.is_empty() {
                        number.digits.push(digit);
                    }
                }
                (None, b'.') if !behind_point => behind_point = true,
                (None, b'e' | b'E') if any && base == 10 => {
                    number.exponent = exponent(&text[index + 1..])?;
                    return Some(number);
                }
                (None, b'p' | b'P') if any && base == 16 => {
                    number.exponent = exponent(&text[index + 1..])?;
                    return Some(number);
                }
                _ => return None,
            }
        }
        any.then_some(number)
    }

    /// The nearest number with a significand of 64 bits; `None` where that is infinite, or zero
    /// though the digits are not.
    fn round(&self) -> Option<Extended> {
        if self.digits.is_empty() {
            return Some(Extended::ZERO);
        }
        let (mut numerator, mut denominator) = (Natural::from(0), Natural::from(1));
        let mut twos = 0;
        for &digit in &self.digits {
            numerator.multiply_add(self.base.into(), digit.into());
        }
        if self.base == 16 {
            twos = self.exponent - 4 * self.places;
        } else {
            let tens = self.exponent - self.places;
            // Beyond this no multiplication is needed to know that the number is out of range.
            let count = i32::try_from(self.digits.len()).ok()?;
            if !(-5_000..5_000).contains(&(tens + count)) {
                return None;
            }
            let scaled = if tens < 0 { &mut denominator } else { &mut numerator };
            for _ in 0..tens.unsigned_abs() {
                scaled.multiply_add(10, 0);
            }
        }
        divide(numerator, denominator, twos)
    }
}

/// Reads the digits behind an `e` or a `p`. What is too large for the sums that it goes into is
/// out of range either way.
fn exponent(text: &[u8]) -> Option<i32> {
    const LIMIT: i32 = 1_000_000;
    let (negative, digits) = sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut value = 0;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| i32::from(byte - b'0'))?;
        value = (value * 10 + digit).min(LIMIT);
    }
    Some(if negative { -value } else { value })
}

/// Rounds `numerator / denominator * 2^twos`.
fn divide(mut numerator: Natural, mut denominator: Natural, twos: i32) -> Option<Extended> {
    // Bring the quotient between 1 and 2, then take it bit by bit.
    let bits = |number: &Natural| i32::try_from(number.bits()).ok();
    let mut magnitude = bits(&numerator)? - bits(&denominator)?;
    let shifted = if magnitude > 0 { &mut denominator } else { &mut numerator };
    shifted.shift_left(magnitude.unsigned_abs());
    if numerator < denominator {
        numerator.shift_left(1);
        magnitude -= 1;
    }
    let mut significand = 0_u64;
    for _ in 0..64 {
        significand <<= 1;
        if numerator >= denominator {
            numerator.subtract(&denominator);
            significand |= 1;
        }
        numerator.shift_left(1);
    }
    // The rest has been doubled, so the denominator is one half.
    let up = match numerator.cmp(&denominator) {
        Ordering::Greater => true,
        Ordering::Equal => significand & 1 == 1,
        Ordering::Less => false,
    };
    let mut magnitude = magnitude + twos;
    if up {
        significand = significand.checked_add(1).unwrap_or_else(|| {
            magnitude += 1;
            1 << 63
        });
    }
    let finite = (MAGNITUDE_MIN..MAGNITUDE_END).contains(&magnitude);
    finite.then_some(Extended { negative: false, significand, exponent: magnitude - 63 })
}

/// A natural number of any size: 32-bit limbs, the lowest first, the highest not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(number: u64) -> Self {
        let mut natural = Natural(vec![low(number), low(number >> 32)]);
        natural.trim();
        natural
    }
}

impl Natural {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(low(carry));
        }
    }

    fn shift_left(&mut self, count: u32) {
        let (limbs, bits) = (count / 32, count % 32);
        self.multiply_add(1 << bits, 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, limbs as usize));
        }
    }

    /// `other` must not be larger.
    fn subtract(&mut self, other: &Natural) {
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (limb, other) in self.0.iter_mut().zip(others) {
            let (difference, first) = limb.overflowing_sub(other);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        self.trim();
    }

    /// Divides by a small number and returns the rest.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0;
        for limb in self.0.iter_mut().rev() {
            let part = rest << 32 | u64::from(*limb);
            *limb = low(part / u64::from(divisor));
            rest = part % u64::from(divisor);
        }
        self.trim();
        low(rest)
    }
}

/// The lower half.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let limbs = |number: &Self| number.0.len();
        limbs(self).cmp(&limbs(other)).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Natural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u32 = 1_000_000_000;
        let mut rest = self.clone();
        let mut chunks = Vec::new();
        while !rest.0.is_empty() {
            chunks.push(rest.divide(CHUNK));
        }
        write!(f, "{}", chunks.pop().unwrap_or(0))?;
        chunks.iter().rev().try_for_each(|chunk| write!(f, "{chunk:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let read = |text: &str| Extended::parse(text.as_bytes()).expect(text);
        read(a).add(read(b)).map_or("infinite".to_owned(), |sum| sum.to_string())
    }

    #[test]
    fn sums_print_as_the_server_prints_them() {
        let table = [
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("3.0", "-3.0", "0"),
            ("-1e-18", "0", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("0x10", "0x.8p1", "17"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "-1", "18446744073709551615"),
            ("1e4932", "1e4932", "infinite"),
            (".5", "5.", "5.5"),
            ("+1", "1", "2"),
            ("1e30", "1", "1000000000000000000024696061952"),
        ];
        for (a, b, expected) in table {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            assert_eq!(sum(b, a), expected, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let bad = [
            "",
            ".",
            "-",
            "e5",
            "1e",
            "1e+",
            "1 ",
            " 1",
            "1.2.3",
            "0x",
            "0xg",
            "nan",
            "inf",
            "1,5",
            "1e4933",
            "1e-4960",
            "1e99999999999",
            "--1",
            "1f",
            "1e5.0",
            "0x1e+1",
        ];
        for text in bad {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Extended::parse(&[b'1'; TEXT_END]), None);
    }
}

//! Scores as text: what C's `strtod` reads and `%.17g` prints.
//!
//! Rust reads and prints doubles correctly rounded, as the C library of servers does; what it lacks
//! is hexadecimal numbers and C's layout.

/// Reads a number as an argument: all of it, and neither NaN nor what is too large or too small to
/// tell from infinity or zero. `inf` and hexadecimal numbers are numbers.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    let (number, spelled_infinite) = read(text)?;
    let underflowed = number == 0.0 && has_digits(text);
    (number.is_finite() != spelled_infinite && !underflowed).then_some(number)
}

/// Reads the end of a range of scores, which Redis does less strictly: what is too large is
/// infinite, what is too small is zero, spaces may come first, and nothing at all is zero.
pub(super) fn parse_leniently(text: &[u8]) -> Option<f64> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let rest = text.iter().position(|byte| !space(byte)).map_or(&b""[..], |at| &text[at..]);
    if text.is_empty() { Some(0.0) } else { read(rest).map(|(number, _)| number) }
}

/// Prints a score as ZSCAN shows it: as `%.17g`, but where a server packs the sorted set in full if
/// it is a whole number.
pub(super) fn print(number: f64, packed: bool) -> String {
    // Half of the largest `i64`, up to which packed lists keep scores as integers.
    const WHOLE_MAX: f64 = (1_u64 << 62) as f64;
    /// As many significant digits make a double whole again.
    const DIGITS: i32 = 17;
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    if packed && number.abs() <= WHOLE_MAX && number.trunc() == number {
        // Not as a double, of which only the digits would be printed that tell it from others.
        return (number as i64).to_string();
    }
    // One digit, a point, sixteen digits, and the exponent to base ten.
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let places = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return without_zeros(&format!("{number:.places$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(digits), exponent.unsigned_abs())
}

/// Without the zeros at the end of a fraction.
fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Reads a number, all of it, and says whether it is spelled as infinity. NaN is none.
fn read(text: &[u8]) -> Option<(f64, bool)> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (number, spelled_infinite) = match rest {
        // Only one sign; `parse` would read another.
        [b'-' | b'+', ..] => return None,
        [b'0', b'x' | b'X', hex @ ..] => (hexadecimal(hex)?, false),
        decimal => {
            let number: f64 = std::str::from_utf8(decimal).ok()?.parse().ok()?;
            (number, decimal[0].is_ascii_alphabetic())
        }
    };
    let number = if negative { -number } else { number };
    (!number.is_nan()).then_some((number, spelled_infinite))
}

/// Whether a number has a digit that is not zero before its exponent.
fn has_digits(text: &[u8]) -> bool {
    let (hex, rest) = match text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text) {
        [b'0', b'x' | b'X', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let exponent = |byte: &&u8| matches!((hex, byte), (true, b'p' | b'P') | (false, b'e' | b'E'));
    rest.iter().take_while(|byte| !exponent(byte)).any(|byte| !matches!(byte, b'0' | b'.'))
}

/// Reads hexadecimal digits, with a point and an exponent to base two or without.
fn hexadecimal(text: &[u8]) -> Option<f64> {
    let at = text.iter().position(|byte| matches!(byte, b'p' | b'P'));
    let (digits, mut exponent) = match at {
        None => (text, 0),
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
    };
    let (mut significand, mut any, mut fraction) = (0_u128, false, false);
    for &byte in digits {
        if byte == b'.' && !fraction {
            fraction = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        any = true;
        exponent -= if fraction { 4 } else { 0 };
        if significand >> 120 == 0 {
            significand = significand << 4 | u128::from(digit);
        } else {
            // Too far down to matter, but for the side on which a tie is broken.
            significand |= u128::from(digit != 0);
            exponent += 4;
        }
    }
    any.then(|| scaled(significand, exponent))
}

/// Reads the digits behind a `p`. What is too large for the sums that it goes into is out of range
/// either way.
fn exponent(text: &[u8]) -> Option<i64> {
    const LIMIT: i64 = 1 << 40;
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value = (value * 10 + digit).min(LIMIT);
    }
    Some(if negative { -value } else { value })
}

/// The double nearest to `significand * 2^exponent`, ties to even.
fn scaled(significand: u128, exponent: i64) -> f64 {
    /// The lowest bit of the smallest double stands for 2 to this, the highest of the largest one
    /// for less than 2 to [`END`].
    const BOTTOM: i64 = -1_074;
    const END: i64 = 1_024;
    if significand == 0 {
        return 0.0;
    }
    let top = exponent + 127 - i64::from(significand.leading_zeros());
    if top >= END {
        return f64::INFINITY;
    }
    // The lowest bit that the double has room for, and how many there are below it.
    let lowest = (top - 52).max(BOTTOM);
    let below = lowest - exponent;
    let (kept, exponent) = match u32::try_from(below) {
        // All bits have room.
        Err(_) | Ok(0) => (significand, exponent),
        Ok(below) => {
            let kept = significand.checked_shr(below).unwrap_or(0);
            let half = 1_u128.checked_shl(below - 1).unwrap_or(0);
            let rest = significand & half.wrapping_mul(2).wrapping_sub(1);
            // Where half is not representable it is more than there is.
            let up = half != 0 && (rest > half || (rest == half && kept & 1 == 1));
            (kept + u128::from(up), lowest)
        }
    };
    // At most 53 bits or, where there were fewer, all: each step is exact. It takes two, as a single
    // factor may be beyond what a double holds.
    let step = |exponent: i64| f64::from_bits(((exponent + 1_023) as u64) << 52);
    let (first, second) = (exponent.clamp(-1_000, 1_000), exponent - exponent.clamp(-1_000, 1_000));
    kept as f64 * step(first) * step(second.clamp(-1_000, 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let table = [
            ("0", 0.0),
            ("-1.5", -1.5),
            ("+2", 2.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("4.9e-324", 5e-324),
            ("0x10", 16.0),
            ("-0X.8p1", -1.0),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7p0", 1.999_999_999_999_999_8),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000000000000000000000001p0", 1.000_000_000_000_000_2),
            ("0x123456789abcdef01234", 8.596_805_828_370_696e22),
            ("0x1p-1074", 5e-324),
            ("0x1.8p-1074", 1e-323),
            ("0x1.0000000000001p-1075", 5e-324),
            ("0x.0000000000000000000000000000000000000001p160", 1.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x0p99999999999999999999", 0.0),
            ("0x1000000000000000000000000000000000000000p-156", 1.0),
        ];
        for (text, number) in table {
            assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
            assert_eq!(parse_leniently(text.as_bytes()), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let bad = [
            "-", "+", ".", "e5", "1e", "1e+", "1 ", "1.2.3", "0x", "0x.", "0xg", "nan", "-nan",
            "NaN", "--1", "+-1", "1,5", "0x1p", "0x1p+", "infx", "1_000", "\u{661}",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(parse_leniently(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_range_is_read_less_strictly_than_a_score() {
        let table = [
            ("", 0.0),
            (" 1", 1.0),
            ("\t\n-2", -2.0),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("0x1p1024", f64::INFINITY),
            ("0x1.fffffffffffff8p1023", f64::INFINITY),
            ("1e-400", 0.0),
            ("0x1p-1075", 0.0),
            ("0x1p-99999", 0.0),
        ];
        for (text, number) in table {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(parse_leniently(text.as_bytes()), Some(number), "{text:?}");
        }
        assert_eq!(parse_leniently(b" "), None);
    }

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        let table = [
            (0.0, "0"),
            (3.0, "3"),
            (-12.5, "-12.5"),
            (0.1, "0.10000000000000001"),
            (1e17, "100000000000000000"),
            (12_345_678_901_234_567.0, "12345678901234568"),
            (522_236_311_470_978_368.0, "522236311470978368"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (1e300, "1.0000000000000001e+300"),
            (-2.5e100, "-2.4999999999999999e+100"),
            (1e20, "1e+20"),
            (9.223_372_036_854_775e18, "9.2233720368547748e+18"),
            (5e-324, "4.9406564584124654e-324"),
            (123.456, "123.456"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in table {
            assert_eq!(print(number, true), text);
        }
        assert_eq!(print(1e17, false), "1e+17");
        assert_eq!(print(-0.0, false), "-0");
        assert_eq!(print(3.0, false), "3");
    }
}

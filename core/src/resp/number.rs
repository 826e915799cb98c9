//! Numbers as RESP and the servers write them.

use std::fmt::{self, Write as _};

/// The longest number that [`Digits`] holds: an `i64` takes 20 bytes, an `f64` 24.
pub(crate) const DIGITS_MAX: usize = 30;

/// A number written out, without an allocation.
#[derive(Clone, Copy)]
pub(crate) struct Digits {
    len: u8,
    bytes: [u8; DIGITS_MAX],
}

impl Digits {
    pub(crate) fn signed(number: i64) -> Digits {
        Digits::write(number.unsigned_abs(), number < 0)
    }

    pub(crate) fn unsigned(number: u64) -> Digits {
        Digits::write(number, false)
    }

    /// The shortest form that reads back as the same number. Numbers that would take many zeros
    /// get an exponent, which every server reads; the rest is plain.
    pub(crate) fn double(number: f64) -> Digits {
        Digits::float(&number, number)
    }

    /// As [`double`](Self::double), but as short as the number's own precision allows.
    pub(crate) fn single(number: f32) -> Digits {
        Digits::float(&number, f64::from(number))
    }

    /// Writes `number`, of which `wide` is the value.
    fn float(number: &(impl fmt::Display + fmt::LowerExp), wide: f64) -> Digits {
        let mut digits = Digits { len: 0, bytes: [0; DIGITS_MAX] };
        let written = if wide.is_nan() {
            digits.write_str("nan")
        } else if wide.is_infinite() {
            digits.write_str(if wide < 0.0 { "-inf" } else { "inf" })
        } else if wide == 0.0 || (1e-5..1e17).contains(&wide.abs()) {
            write!(digits, "{number}")
        } else {
            write!(digits, "{number:e}")
        };
        debug_assert!(written.is_ok(), "no float is longer than {DIGITS_MAX} bytes");
        digits
    }

    #[inline]
    fn write(mut number: u64, negative: bool) -> Digits {
        // From the back of a buffer, since the last digit is the first one known.
        let mut back = [0u8; 20];
        let mut at = back.len();
        loop {
            at -= 1;
            back[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        if negative {
            // i64::MIN has 19 digits, so the sign is the twentieth byte.
            at -= 1;
            back[at] = b'-';
        }
        let written = &back[at..];
        let mut bytes = [0; DIGITS_MAX];
        bytes[..written.len()].copy_from_slice(written);
        Digits { len: written.len() as u8, bytes }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let room = self.bytes.get_mut(start..start + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

/// An integer of 64 bits: an optional sign and digits, nothing else.
#[inline]
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    if digits.len() > 18 {
        // Might not fit. All of what `str::parse` accepts is an integer to RESP, too.
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let mut number = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if negative { -number } else { number })
}

/// A floating-point number in any of the ways that servers have written them: fractions and
/// exponents, `inf`, `-inf`, and `nan`, `-nan`, `NAN`, `nan(…)` from before Redis 7.2.
pub(crate) fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (head, tail) = unsigned.split_at_checked(3)?;
    let tagged = tail.starts_with('(') && tail.ends_with(')');
    (head.eq_ignore_ascii_case("nan") && (tail.is_empty() || tagged)).then_some(f64::NAN)
}

/// Whether this is an integer of any size.
pub(crate) fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_and_read_over_the_whole_range() {
        for number in [0, 1, -1, 9, 10, 99, 12_345, i64::MAX, i64::MIN, i64::MIN + 1] {
            let digits = Digits::signed(number);
            assert_eq!(digits.as_bytes(), number.to_string().as_bytes());
            assert_eq!(parse_integer(digits.as_bytes()), Some(number));
        }
        assert_eq!(Digits::unsigned(u64::MAX).as_bytes(), b"18446744073709551615");
        assert_eq!(parse_integer(b"+7"), Some(7));
        for bad in [&b""[..], b"-", b"+", b"1a", b"--1", b" 1", b"9223372036854775808", b"1.0"] {
            assert_eq!(parse_integer(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn every_double_fits_and_reads_back() {
        let extremes = [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.1,
            1e16,
            123_456_789_012_345_678.0,
            1e17,
            1e300,
            -1.234_567_890_123_456_7e-5,
            -1.234_567_890_123_456_7e-6,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            -2.225_073_858_507_201e-308,
            5e-324,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        for number in extremes {
            let digits = Digits::double(number);
            let back = parse_double(digits.as_bytes()).unwrap();
            assert_eq!(back.to_bits(), number.to_bits(), "{}", digits.as_bytes().escape_ascii());
        }
        assert_eq!(Digits::double(3.0).as_bytes(), b"3");
        assert_eq!(Digits::double(f64::NEG_INFINITY).as_bytes(), b"-inf");
        assert_eq!(Digits::double(f64::NAN).as_bytes(), b"nan");
        assert_eq!(Digits::single(0.1).as_bytes(), b"0.1");
        assert_eq!(Digits::single(f32::MAX).as_bytes(), b"3.4028235e38");
    }

    #[test]
    fn every_way_to_write_a_nan_is_read() {
        for text in ["nan", "-nan", "NAN", "+NaN", "nan(0x123)", "-nan(ind)"] {
            assert!(parse_double(text.as_bytes()).unwrap().is_nan(), "{text}");
        }
        for text in ["", "na", "nan(", "nanx", "1e", "0x10", "1 ", "é12"] {
            assert!(parse_double(text.as_bytes()).is_none(), "{text}");
        }
    }
}

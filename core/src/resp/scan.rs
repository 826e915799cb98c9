//! One length, one line: the smallest things a frame is made of.

use super::error::Fault;

/// What a length header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes, elements or pairs.
    Count(usize),
    /// `-1`
    Null,
    /// `?`: it comes in parts.
    Streamed,
}

/// The most bytes between type and CR LF of a length; longer ones are malformed, however many
/// zeros they begin with.
const LENGTH_MAX: usize = 20;

/// Reads the usual length: up to nine digits and CR LF, all of it there. Gives the number and how
/// many bytes it took; `None` for whatever else, which [`length`] sorts out.
///
/// Lengths of one and two digits, nearly all there are, are told from one word; the others by a
/// plain loop, since a search for CR would cost more to start than the loop takes to end.
#[inline(always)]
pub(super) fn count(text: &[u8]) -> Option<(usize, usize)> {
    const CR_LF: u32 = 0x0a0d;

    let word = u32::from_le_bytes(*text.first_chunk()?);
    let first = (word & 0xff).wrapping_sub(u32::from(b'0'));
    let second = (word >> 8 & 0xff).wrapping_sub(u32::from(b'0'));
    if word >> 16 == CR_LF && first <= 9 && second <= 9 {
        return Some(((first * 10 + second) as usize, 4));
    }
    if word >> 8 & 0xffff == CR_LF && first <= 9 {
        return Some((first as usize, 3));
    }
    long_count(text)
}

/// Reads the header of a bulk string: its length, and how many bytes the header took; `None` as in
/// [`count`].
#[inline(always)]
pub(super) fn bulk(text: &[u8]) -> Option<(usize, usize)> {
    // `$`, two digits, CR LF: nearly all headers of values, told from one word.
    const SHAPE: u64 = u64::from_le_bytes(*b"$\0\0\r\n\0\0\0");
    const FIXED: u64 = u64::from_le_bytes([0xff, 0, 0, 0xff, 0xff, 0, 0, 0]);

    if let Some(word) = text.first_chunk() {
        let word = u64::from_le_bytes(*word);
        let tens = (word >> 8 & 0xff).wrapping_sub(u64::from(b'0'));
        let ones = (word >> 16 & 0xff).wrapping_sub(u64::from(b'0'));
        if word & FIXED == SHAPE && tens <= 9 && ones <= 9 {
            return Some(((tens * 10 + ones) as usize, 5));
        }
    }
    let Some((b'$', rest)) = text.split_first() else { return None };
    let (len, taken) = count(rest)?;
    Some((len, 1 + taken))
}

#[inline]
fn long_count(text: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0usize;
    for (index, byte) in text.iter().enumerate().take(10) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let whole = index > 0 && *byte == b'\r' && text.get(index + 1) == Some(&b'\n');
            return whole.then_some((number, index + 2));
        }
        number = number.wrapping_mul(10).wrapping_add(usize::from(digit));
    }
    None
}

/// Reads any length: the value and how many bytes it took, `None` while it is not whole.
///
/// # Errors
/// The fault and where it is, as soon as no further byte could make a length of this.
pub(super) fn length(text: &[u8]) -> Result<Option<(Length, usize)>, (Fault, usize)> {
    let (length, end) = match text {
        [] | [b'-'] => return Ok(None),
        [b'?', ..] => (Length::Streamed, 1),
        [b'-', b'1', ..] => (Length::Null, 2),
        _ => {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > LENGTH_MAX {
                return Err((Fault::Length, 0));
            }
            let number = text[..digits].iter().fold(0usize, |number, digit| {
                number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
            });
            (Length::Count(number), digits)
        }
    };
    match &text[end..] {
        [b'\r', b'\n', ..] => Ok(Some((length, end + 2))),
        [] | [b'\r'] => Ok(None),
        [b'\r', ..] => Err((Fault::Terminator, end)),
        _ => Err((Fault::Length, 0)),
    }
}

/// What [`line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The line ends before this offset, where CR LF stands.
    Ends(usize),
    /// No end yet; the search goes on from this offset.
    Open(usize),
    /// CR without LF, or LF without CR, at this offset.
    Broken(usize),
}

/// Looks for the end of a line, from `start` on.
#[inline]
pub(super) fn line(bytes: &[u8], start: usize) -> Line {
    let Some(found) =
        bytes.get(start..).and_then(|rest| rest.iter().position(|b| matches!(b, b'\r' | b'\n')))
    else {
        return Line::Open(bytes.len().max(start));
    };
    let end = start + found;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => Line::Ends(end),
        (b'\r', None) => Line::Open(end),
        _ => Line::Broken(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_and_the_thorough_way_agree() {
        for text in ["0\r\n\r\n", "1\r\na", "64\r\nabc", "123\r\n", "999999999\r\n", "007\r\n"] {
            let (number, taken) = count(text.as_bytes()).unwrap();
            assert_eq!(length(text.as_bytes()), Ok(Some((Length::Count(number), taken))));
        }
        for text in [
            "",
            "1\r\n",
            "\r\n12",
            "1",
            "1\r12",
            ":1\r\n",
            "1/\r\n",
            "1\r",
            "1\rx",
            "-1\r\n",
            "?\r\n",
            "1234567890\r\n",
            "1a",
        ] {
            assert_eq!(count(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_bad_length_is_an_error_as_soon_as_it_can_be_told() {
        for text in ["x", "-2", "-0", "--", "+1", "1x", "-1x", "?1", "\n", "\r", " 1"] {
            assert!(length(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(length(&[b'0'; 21]).is_err());
        assert_eq!(length(b"1\rx"), Err((Fault::Terminator, 1)));
        for text in ["", "-", "-1", "-1\r", "?", "?\r", "12345", "1\r"] {
            assert_eq!(length(text.as_bytes()), Ok(None), "{text:?}");
        }
        let huge = b"99999999999999999999\r\n";
        assert_eq!(length(huge), Ok(Some((Length::Count(usize::MAX), 22))));
    }

    #[test]
    fn a_search_for_a_line_goes_on_where_it_stopped() {
        assert_eq!(line(b"+OK\r\n", 1), Line::Ends(3));
        assert_eq!(line(b"+OK", 1), Line::Open(3));
        assert_eq!(line(b"+OK\r", 3), Line::Open(3));
        assert_eq!(line(b"+OK\rx", 3), Line::Broken(3));
        assert_eq!(line(b"+OK\n", 1), Line::Broken(3));
        assert_eq!(line(b"+", 1), Line::Open(1));
    }
}

//! Commands to bytes.
//!
//! A command goes out as an array of bulk strings, each with its length before it, and in no other
//! way: no inline commands, so nothing in an argument can ever become a command.
//!
//! ```
//! use unfazed_core::resp::encode;
//!
//! let mut out = Vec::new();
//! encode::array_header(&mut out, 2);
//! encode::bulk(&mut out, b"GET");
//! encode::bulk(&mut out, b"key\r\nFLUSHALL");
//! assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$13\r\nkey\r\nFLUSHALL\r\n");
//! ```

use super::number::Digits;

/// Appends the header of an array of `count` elements, which are to follow: `*3\r\n`.
#[inline]
pub fn array_header(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Appends `payload` as a bulk string: `$3\r\nGET\r\n`. Any bytes will do.
#[inline]
pub fn bulk(out: &mut Vec<u8>, payload: &[u8]) {
    // One reserve for all three parts. Usually there is room, so nothing exact is computed for it.
    let room = payload.len() + HEADER_MAX + 2;
    if out.capacity() - out.len() < room {
        out.reserve(room);
    }
    header(out, b'$', payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The longest header: a type, twenty digits, CR LF.
const HEADER_MAX: usize = 23;

/// Appends a whole command: its words (name, subcommand) and its arguments, each as a bulk string.
///
/// Puts the end of one string and the header of the next down together.
pub fn command<'w, A: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    words: impl Iterator<Item = &'w [u8]> + Clone,
    args: &[A],
) {
    let count = words.clone().count() + args.len();
    if count < 10 {
        out.extend_from_slice(&[b'*', b'0' + count as u8]);
    } else {
        array_header(out, count);
        out.truncate(out.len() - 2);
    }
    words.for_each(|word| next(out, word));
    args.iter().for_each(|arg| next(out, arg.as_ref()));
    out.extend_from_slice(b"\r\n");
}

/// Ends what stands before and appends a bulk string that is yet to be ended.
#[inline(always)]
fn next(out: &mut Vec<u8>, payload: &[u8]) {
    let length = payload.len();
    if length < 10 {
        out.extend_from_slice(&[b'\r', b'\n', b'$', b'0' + length as u8, b'\r', b'\n']);
    } else if length < 100 {
        let (tens, ones) = (b'0' + length as u8 / 10, b'0' + length as u8 % 10);
        out.extend_from_slice(&[b'\r', b'\n', b'$', tens, ones, b'\r', b'\n']);
    } else {
        out.extend_from_slice(b"\r\n");
        long_header(out, b'$', length);
    }
    out.extend_from_slice(payload);
}

/// How many bytes [`bulk`] appends for a payload of `len` bytes.
#[inline]
#[must_use]
pub const fn bulk_len(len: usize) -> usize {
    header_len(len) + len + 2
}

/// How many bytes [`array_header`] appends for an array of `count` elements.
#[inline]
#[must_use]
pub const fn header_len(count: usize) -> usize {
    let digits = if count < 10 {
        1
    } else if count < 100 {
        2
    } else {
        count.ilog10() as usize + 1
    };
    digits + 3
}

/// Appends a type, a length and CR LF. Most lengths have one digit or two, which are put together
/// here; to call a formatter for them would take longer than everything else.
#[inline(always)]
pub(super) fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    if length < 10 {
        out.extend_from_slice(&[kind, b'0' + length as u8, b'\r', b'\n']);
    } else if length < 100 {
        let tens = length as u8 / 10;
        let ones = length as u8 - 10 * tens;
        out.extend_from_slice(&[kind, b'0' + tens, b'0' + ones, b'\r', b'\n']);
    } else {
        long_header(out, kind, length);
    }
}

#[inline(never)]
fn long_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(Digits::unsigned(length as u64).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_number_of_digits_are_written_and_foretold() {
        for len in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 65_536, 1_000_000] {
            let mut out = Vec::new();
            let payload = vec![b'x'; len];
            bulk(&mut out, &payload);
            let expected = [format!("${len}\r\n").as_bytes(), &payload, b"\r\n"].concat();
            assert_eq!(out, expected);
            assert_eq!(bulk_len(len), expected.len());
            out.clear();
            array_header(&mut out, len);
            assert_eq!(out, format!("*{len}\r\n").as_bytes());
            assert_eq!(header_len(len), out.len());
        }
    }
}

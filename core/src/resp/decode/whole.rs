//! The common cases: short scalars and rows of short strings that have come whole. They are found with nothing
//! remembered, so none of what a frame in pieces needs is touched for them. Whatever is unusual or wrong about
//! one is left to the parser.

use bytes::{Buf, BytesMut};

use super::Decoder;
use crate::resp::{
    number,
    reply::{INLINE_MAX, Reply},
    scan::{self, Line},
    tape::Kind,
};

/// A push or an array of a few short bulk strings, where it stands in the buffer: what most messages
/// are.
pub(crate) struct Row<'b> {
    pub(crate) kind: Kind,
    items: [&'b [u8]; ROW_MAX],
    len: usize,
}

/// How many elements a row has at most.
const ROW_MAX: usize = 4;

/// The longest element of a row, in bytes. Longer ones are better shared than copied.
pub(crate) const ROW_ITEM_BYTES_MAX: usize = 4 * 1024;

impl<'b> Row<'b> {
    /// The elements.
    #[inline]
    pub(crate) fn items(&self) -> &[&'b [u8]] {
        &self.items[..self.len]
    }
}

impl Decoder {
    /// The common case, with nothing remembered: one of the usual scalars, all of it there and
    /// nothing wrong with it. Gives its kind, and where its payload begins and how long it is.
    /// Everything else is left to [`decode_any`](Self::decode_any).
    #[inline(always)]
    pub(super) fn find_scalar(&mut self, buffer: &[u8]) -> Option<(Kind, usize, usize)> {
        /// Longer lines are not worth a second search.
        const SHORT: usize = 40;

        let (first, rest) = buffer.split_first()?;
        let (kind, start, len) = match first {
            b'$' => {
                let (len, taken) = scan::count(rest)?;
                if len > self.limits.bulk_max || rest.get(taken + len..taken + len + 2)? != b"\r\n"
                {
                    return None;
                }
                (Kind::Bulk, 1 + taken, len)
            }
            b'+' | b':' => {
                let Line::Ends(len) = scan::line(&rest[..rest.len().min(SHORT)], 0) else {
                    return None;
                };
                if len > self.limits.line_max {
                    return None;
                }
                if *first == b':' {
                    number::parse_integer(&rest[..len])?;
                    (Kind::Integer, 1, len)
                } else {
                    (Kind::Simple, 1, len)
                }
            }
            _ => return None,
        };
        if start + len + 2 > self.limits.reply_max {
            return None;
        }
        #[cfg(test)]
        {
            self.work += start + len + 2;
        }
        Some((kind, start, len))
    }

    /// The other common case: a push, or an array where these are wanted, of three or four short bulk
    /// strings, all of it there and nothing wrong with it. Gives also where it ends.
    #[inline(always)]
    pub(super) fn find_row<'b>(&mut self, buffer: &'b [u8]) -> Option<(Row<'b>, usize)> {
        let (kind, len) = match buffer.first_chunk()? {
            [b'>', len @ b'3'..=b'4', b'\r', b'\n'] => (Kind::Push, len - b'0'),
            [b'*', len @ b'3'..=b'4', b'\r', b'\n'] if self.array_rows => (Kind::Array, len - b'0'),
            _ => return None,
        };
        let len = usize::from(len);
        if self.limits.elements_max < len || self.limits.depth_max == 0 {
            return None;
        }
        let mut items = [&buffer[..0]; ROW_MAX];
        let mut at = 4;
        for item in &mut items[..len] {
            let (size, taken) = scan::bulk(&buffer[at..])?;
            if size > ROW_ITEM_BYTES_MAX.min(self.limits.bulk_max) {
                return None;
            }
            let start = at + taken;
            at = start + size + 2;
            let (text, end) = buffer.get(start..at)?.split_at(size);
            if end != b"\r\n" {
                return None;
            }
            *item = text;
        }
        if at > self.limits.reply_max {
            return None;
        }
        #[cfg(test)]
        {
            self.work += at;
        }
        Some((Row { kind, items, len }, at))
    }
}

/// Takes a frame of `end` bytes that is one scalar.
#[inline(always)]
pub(super) fn take_scalar(
    buffer: &mut BytesMut,
    kind: Kind,
    start: usize,
    len: usize,
    end: usize,
) -> Reply {
    if len <= INLINE_MAX {
        let reply = copy_scalar(&buffer[start..], kind, len);
        buffer.advance(end);
        return reply;
    }
    take_slice(buffer, kind, start, len, end)
}

/// A scalar whose payload is the first `len` of `bytes`, [`INLINE_MAX`] at most.
#[inline(always)]
pub(super) fn copy_scalar(bytes: &[u8], kind: Kind, len: usize) -> Reply {
    // To copy always the same number of bytes takes fewer instructions than the right one.
    match bytes.first_chunk() {
        Some(chunk) => Reply::inline_prefix(kind, *chunk, len),
        None => Reply::inline(kind, &bytes[..len]),
    }
}

fn take_slice(buffer: &mut BytesMut, kind: Kind, start: usize, len: usize, end: usize) -> Reply {
    let mut payload = buffer.split_to(end).freeze();
    payload.advance(start);
    payload.truncate(len);
    Reply::slice(kind, payload)
}

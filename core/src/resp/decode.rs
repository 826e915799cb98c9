//! From bytes to frames: [`Decoder`]. `whole` finds the short frames that have come whole, which is most of them;
//! `parse` reads all others, in however many pieces they come.

mod parse;
mod whole;

use std::{fmt, mem, ops::ControlFlow};

use bytes::{Buf, Bytes, BytesMut};

use super::error::ProtocolError;
use super::limits::Limits;
use super::reply::{INLINE_MAX, Reply};
use super::tape::Token;
pub(crate) use whole::{ROW_ITEM_BYTES_MAX, Row};
use whole::{copy_scalar, take_scalar};

/// Takes whole frames off the front of a read buffer, each as a [`Reply`].
///
/// A frame that is not whole yet stays in the buffer, and the decoder remembers how far it got:
/// what was parsed is not parsed again when more bytes have come, so a reply costs time in
/// proportion to its size, in however many pieces it arrives. (A length header that was cut, or
/// stands before a string that was cut, is the one thing read again, and that is a few bytes.)
///
/// All of RESP2 and RESP3 is understood. Streamed strings and aggregates come out as if they had
/// been sent with a count. Attributes stay with the value that they stand before; at the top level
/// that is the next reply, which is not given out before both are there.
///
/// One decoder serves one connection, and always gets that connection's one buffer: between two
/// calls bytes may be appended to it, nothing else.
///
/// ```
/// use bytes::BytesMut;
/// use unfazed_core::resp::{Decoder, Limits};
///
/// let mut decoder = Decoder::new(Limits::default());
/// let mut buffer = BytesMut::from("+OK\r\n$5\r\nhel");
/// assert_eq!(decoder.decode(&mut buffer)?.unwrap().view().payload(), b"OK");
/// assert!(decoder.decode(&mut buffer)?.is_none());
/// buffer.extend_from_slice(b"lo\r\n");
/// assert_eq!(decoder.decode(&mut buffer)?.unwrap().view().payload(), b"hello");
/// # Ok::<(), unfazed_core::resp::ProtocolError>(())
/// ```
pub struct Decoder {
    limits: Limits,
    /// Whether a part of a frame has been looked at and everything below describes it.
    resuming: bool,
    /// So many bytes of the frame are parsed.
    at: usize,
    /// The line under way has been searched for its end up to here.
    searched: usize,
    /// The text under way is whole when the frame has this many bytes.
    needed: usize,
    /// The bytes of a large string that were missing last time.
    missing: usize,
    tape: Vec<Token>,
    /// The aggregates that are open, the innermost last.
    levels: Vec<Level>,
    /// Attributes have been read, and the value they belong to has not.
    attributed: bool,
    streamed: Streamed,
    failed: Option<ProtocolError>,
    /// Arrays may be given as rows.
    array_rows: bool,
    /// How many bytes were looked at: what "linear" is measured by.
    #[cfg(test)]
    work: usize,
}

/// Who takes what a decoder finds.
pub(crate) trait Sink {
    /// Takes a frame; says whether it wants more.
    fn reply(&mut self, reply: Reply) -> ControlFlow<()>;

    /// Takes a short row in place. `None` if it would rather have it as a reply.
    fn row(&mut self, row: &Row<'_>) -> Option<ControlFlow<()>>;
}

/// A function that takes everything as it is.
struct Each<F>(F);

impl<F: FnMut(Reply)> Sink for Each<F> {
    #[inline]
    fn reply(&mut self, reply: Reply) -> ControlFlow<()> {
        (self.0)(reply);
        ControlFlow::Continue(())
    }

    #[inline]
    fn row(&mut self, _: &Row<'_>) -> Option<ControlFlow<()>> {
        None
    }
}

/// An aggregate whose elements are being read.
#[derive(Clone, Copy)]
struct Level {
    /// Its token.
    token: usize,
    /// The elements to come; for a streamed aggregate, those that have come.
    elements: usize,
    streamed: bool,
}

/// The streamed strings of the frame under way.
///
/// Their chunks are joined here, and when the frame is whole this text is put behind it. Then a
/// token can point at it as at anything else.
#[derive(Default)]
struct Streamed {
    text: Vec<u8>,
    /// Where in `text` the string that is under way begins.
    open: Option<usize>,
    /// The tokens whose offset counts from the start of `text`.
    tokens: Vec<usize>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Decoder {
            limits: limits.clamped(),
            resuming: false,
            at: 0,
            searched: 0,
            needed: 0,
            missing: 0,
            tape: Vec::new(),
            levels: Vec::new(),
            attributed: false,
            streamed: Streamed::default(),
            failed: None,
            array_rows: false,
            #[cfg(test)]
            work: 0,
        }
    }

    /// Sets the limits from the next element on: [`Limits::HANDSHAKE`] before a server is known,
    /// its own after.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits.clamped();
    }

    /// How many bytes the string under way is known to lack after the last call, so that a reader
    /// can reserve exactly the rest of a large one; 0 if that is not known.
    ///
    /// This is what the server declared. It is at most [`Limits::bulk_max`] and two; reserve it
    /// only if that much may be had.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Takes one whole frame off the front of `buffer`; `None` if there is no whole one yet, in
    /// which case the buffer is untouched.
    ///
    /// A scalar of up to about 70 bytes is copied and leaves the buffer its own; anything longer
    /// shares the buffer's memory. Attributes, pushes and error replies are replies like others.
    ///
    /// # Errors
    /// What came is not RESP, or is beyond the limits. From then on every call gives the same
    /// error: the connection has lost its place.
    #[inline]
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
        if !self.resuming
            && let Some((kind, start, len)) = self.find_scalar(buffer)
        {
            return Ok(Some(take_scalar(buffer, kind, start, len, start + len + 2)));
        }
        self.decode_any(buffer)
    }

    /// Takes all whole frames off the front of `buffer` and gives them to `take`, in order.
    ///
    /// The same as [`decode`](Self::decode) until it gives `None`, in fewer instructions where
    /// many short replies have come at once.
    ///
    /// # Errors
    /// As `decode`. What came before the fault has been given to `take`.
    #[inline]
    pub fn decode_each(
        &mut self,
        buffer: &mut BytesMut,
        take: impl FnMut(Reply),
    ) -> Result<(), ProtocolError> {
        self.decode_into(buffer, &mut Each(take))
    }

    /// The same until `sink` says that it wants no more; the next frame is still in `buffer` then.
    #[inline]
    pub(crate) fn decode_into(
        &mut self,
        buffer: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> Result<(), ProtocolError> {
        loop {
            if !self.resuming {
                // The buffer is advanced once for all of them.
                let mut taken = 0;
                let mut flow = ControlFlow::Continue(());
                while flow.is_continue() {
                    let rest = &buffer[taken..];
                    if let Some((kind, start, len)) = self.find_scalar(rest)
                        && len <= INLINE_MAX
                    {
                        flow = sink.reply(copy_scalar(&rest[start..], kind, len));
                        taken += start + len + 2;
                    } else if let Some((row, end)) = self.find_row(rest)
                        && let Some(next) = sink.row(&row)
                    {
                        flow = next;
                        taken += end;
                    } else {
                        break;
                    }
                }
                buffer.advance(taken);
                if flow.is_break() {
                    return Ok(());
                }
            }
            match self.decode(buffer)? {
                Some(reply) => {
                    if sink.reply(reply).is_break() {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            }
        }
    }

    /// Whether arrays are to be given as rows, as pushes are: in RESP2 messages come as arrays.
    pub(crate) fn set_array_rows(&mut self, array_rows: bool) {
        self.array_rows = array_rows;
    }

    #[inline(never)]
    fn decode_any(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.missing = 0;
        if buffer.is_empty() {
            return Ok(None);
        }
        self.resuming = true;
        // The last byte is LF; the CR before it is looked at as soon as it is there.
        if buffer.len() + 1 < self.needed {
            self.missing = self.needed - buffer.len();
            return Ok(None);
        }
        match self.parse(buffer) {
            Ok(true) => Ok(Some(self.take(buffer))),
            Ok(false) => {
                self.missing = self.needed.saturating_sub(buffer.len());
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Takes the frame, which is whole, and gets ready for the next one.
    fn take(&mut self, buffer: &mut BytesMut) -> Reply {
        let end = mem::take(&mut self.at);
        self.resuming = false;
        self.searched = 0;
        self.needed = 0;
        if let [token] = self.tape[..]
            && !token.kind().is_aggregate()
            && self.streamed.tokens.is_empty()
        {
            self.tape.clear();
            return take_scalar(buffer, token.kind(), token.offset(), token.len(), end);
        }
        let frame = buffer.split_to(end).freeze();
        let mut tape = mem::take(&mut self.tape);
        let streamed = mem::take(&mut self.streamed);
        if streamed.tokens.is_empty() {
            return Reply::tree(frame, tape);
        }
        for index in streamed.tokens {
            let token = tape[index];
            tape[index] = Token::scalar(token.kind(), frame.len() + token.offset(), token.len());
        }
        let joined = [&frame[..], &streamed.text].concat();
        Reply::tree(Bytes::from(joined), tape)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", &self.limits)
            .field("parsed", &self.at)
            .field("missing", &self.missing)
            .field("depth", &self.levels.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `frame` in pieces of `size` bytes; gives how many bytes the decoder looked at.
    fn work_for(frame: &[u8], size: usize) -> usize {
        let mut decoder = Decoder::new(Limits::default());
        let mut buffer = BytesMut::new();
        let mut replies = 0;
        for piece in frame.chunks(size) {
            buffer.extend_from_slice(piece);
            while decoder.decode(&mut buffer).unwrap().is_some() {
                replies += 1;
            }
        }
        assert_eq!(replies, 1);
        decoder.work
    }

    #[test]
    fn a_reply_in_tiny_pieces_costs_time_in_proportion_to_its_size() {
        let mut flat = b"*20000\r\n".to_vec();
        let mut nested = Vec::new();
        for index in 0..20_000 {
            flat.extend_from_slice(format!("$3\r\nabc\r\n:{index}\r\n").as_bytes());
            if index % 2 == 1 {
                nested.extend_from_slice(b"*2\r\n%1\r\n+k\r\n,1.5\r\n~1\r\n#t\r\n");
            }
        }
        flat.truncate(flat.len() / 2);
        let flat = [b"*20000\r\n", &b"$3\r\nabc\r\n:12345\r\n".repeat(10_000)[..]].concat();
        let nested = [b"*10000\r\n", &nested[..]].concat();
        let line = [b"-ERR ", &b"x".repeat(60_000)[..], b"\r\n"].concat();
        let bulk = [b"$300000\r\n", &b"x".repeat(300_000)[..], b"\r\n"].concat();
        let deep = [&b"*1\r\n".repeat(128)[..], b":1\r\n"].concat();
        for frame in [&flat, &nested, &line, &bulk, &deep] {
            for size in [1, 2, 7, 100, frame.len()] {
                let work = work_for(frame, size);
                assert!(work <= 4 * frame.len(), "{work} for {} by {size}", frame.len());
            }
        }
    }

    #[test]
    fn a_count_that_is_only_declared_reserves_nothing() {
        for header in ["*16777216\r\n", "%8388608\r\n", "~16777216\r\n", ">16777216\r\n"] {
            let mut decoder = Decoder::new(Limits::default());
            let mut buffer = BytesMut::from(header);
            let before = buffer.capacity();
            assert!(decoder.decode(&mut buffer).unwrap().is_none());
            assert!(decoder.tape.capacity() <= 4);
            assert_eq!(buffer.capacity(), before);
        }
        let mut decoder = Decoder::new(Limits::default());
        let mut buffer = BytesMut::from("$536870912\r\n");
        let before = buffer.capacity();
        assert!(decoder.decode(&mut buffer).unwrap().is_none());
        assert_eq!(decoder.missing(), (512 << 20) + 2);
        assert_eq!(buffer.capacity(), before);
    }
}

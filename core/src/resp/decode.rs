//! From bytes to frames.

use std::{fmt, mem, ops::ControlFlow};

use bytes::{Buf, Bytes, BytesMut};

use super::error::{Fault, ProtocolError};
use super::limits::Limits;
use super::number;
use super::reply::{INLINE_MAX, Reply};
use super::scan::{self, Length, Line};
use super::tape::{Kind, Token};

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

/// Whether parsing can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// An element was read.
    Element,
    /// The frame is whole.
    Whole,
    /// There are too few bytes for the next element.
    Starved,
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

    /// The other common case: a push, or an array where these are wanted, of three or four short bulk
    /// strings, all of it there and nothing wrong with it. Gives also where it ends.
    #[inline(always)]
    fn find_row<'b>(&mut self, buffer: &'b [u8]) -> Option<(Row<'b>, usize)> {
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

    /// The common case, with nothing remembered: one of the usual scalars, all of it there and
    /// nothing wrong with it. Gives its kind, and where its payload begins and how long it is.
    /// Everything else is left to [`decode_any`](Self::decode_any).
    #[inline(always)]
    fn find_scalar(&mut self, buffer: &[u8]) -> Option<(Kind, usize, usize)> {
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

    /// Parses elements until the frame is whole, or the bytes are used up.
    fn parse(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        loop {
            match self.parse_element(bytes)? {
                Progress::Element => {}
                Progress::Whole => return Ok(true),
                Progress::Starved => return Ok(false),
            }
        }
    }

    #[inline(always)]
    fn parse_element(&mut self, bytes: &[u8]) -> Result<Progress, ProtocolError> {
        let Some(first) = bytes.get(self.at) else { return Ok(Progress::Starved) };
        if self.streamed.open.is_some() {
            return self.parse_chunk(bytes);
        }
        match first {
            b'$' => {
                if self.parse_bulks(bytes) {
                    return Ok(Progress::Element);
                }
                self.parse_bulk(bytes, Kind::Bulk)
            }
            b'+' => self.parse_line(bytes, Kind::Simple),
            b':' => self.parse_line(bytes, Kind::Integer),
            b'-' => self.parse_line(bytes, Kind::Error),
            b'_' => self.parse_line(bytes, Kind::Null),
            b'#' => self.parse_line(bytes, Kind::Boolean),
            b',' => self.parse_line(bytes, Kind::Double),
            b'(' => self.parse_line(bytes, Kind::BigNumber),
            b'!' => self.parse_bulk(bytes, Kind::BulkError),
            b'=' => self.parse_bulk(bytes, Kind::Verbatim),
            b'*' => self.parse_aggregate(bytes, Kind::Array),
            b'%' => self.parse_aggregate(bytes, Kind::Map),
            b'~' => self.parse_aggregate(bytes, Kind::Set),
            b'|' => self.parse_aggregate(bytes, Kind::Attributes),
            b'>' if self.levels.is_empty() => self.parse_aggregate(bytes, Kind::Push),
            b'.' => self.parse_end(bytes),
            b'>' | b';' => Err(self.fault(Fault::Misplaced, bytes)),
            _ => Err(self.fault(Fault::UnknownType, bytes)),
        }
    }

    /// Goes over the whole bulk strings that come next in an aggregate, all but its last element:
    /// what large replies are made of. Gives whether there were any; whatever is unusual is left to the
    /// others to judge.
    #[inline(always)]
    fn parse_bulks(&mut self, bytes: &[u8]) -> bool {
        let Some(level) = self.levels.last_mut() else { return false };
        if level.streamed || self.attributed || !self.streamed.text.is_empty() {
            return false;
        }
        // What is beyond the limit of a reply is not seen from here.
        let bytes = &bytes[..bytes.len().min(self.limits.reply_max)];
        let (mut at, mut left) = (self.at, level.elements);
        while left > 1
            && let rest = &bytes[at..]
            && let Some((len, taken)) = scan::bulk(rest)
            && len <= self.limits.bulk_max
            && let Some(b"\r\n") = rest.get(taken + len..taken + len + 2)
        {
            self.tape.push(Token::scalar(Kind::Bulk, at + taken, len));
            at += taken + len + 2;
            left -= 1;
            #[cfg(test)]
            {
                self.work += taken;
            }
        }
        let any = at > self.at;
        self.at = at;
        level.elements = left;
        any
    }

    #[inline(always)]
    fn parse_bulk(&mut self, bytes: &[u8], kind: Kind) -> Result<Progress, ProtocolError> {
        let Some((length, start)) = self.parse_length(bytes)? else {
            return Ok(Progress::Starved);
        };
        let len = match length {
            Length::Count(len) => len,
            Length::Null if kind == Kind::Bulk => {
                return self.scalar(bytes, Kind::Null, start, 0, start);
            }
            Length::Streamed if kind == Kind::Bulk => {
                self.streamed.open = Some(self.streamed.text.len());
                self.at = start;
                return Ok(Progress::Element);
            }
            Length::Null | Length::Streamed => return Err(self.fault(Fault::Length, bytes)),
        };
        let Some(end) = self.parse_text(bytes, start, len)? else {
            return Ok(Progress::Starved);
        };
        if kind == Kind::Verbatim && (len < 4 || bytes[start + 3] != b':') {
            return Err(self.fault(Fault::Verbatim, bytes));
        }
        self.scalar(bytes, kind, start, len, end)
    }

    /// Checks that `len` bytes from `start` on and CR LF behind them have come; gives where the
    /// next element begins, or `None` while they have not.
    #[inline(always)]
    fn parse_text(
        &mut self,
        bytes: &[u8],
        start: usize,
        len: usize,
    ) -> Result<Option<usize>, ProtocolError> {
        if len > self.limits.bulk_max {
            return Err(self.fault(Fault::BulkTooLong(self.limits.bulk_max), bytes));
        }
        let end = start + len + 2;
        match bytes.get(start + len..end) {
            Some(b"\r\n") => Ok(Some(end)),
            Some(_) => Err(ProtocolError::new(Fault::Terminator, bytes, start + len)),
            None => {
                if end + self.streamed.text.len() > self.limits.reply_max {
                    return Err(self.fault(Fault::ReplyTooLong(self.limits.reply_max), bytes));
                }
                if let Some(byte) = bytes.get(start + len)
                    && *byte != b'\r'
                {
                    return Err(ProtocolError::new(Fault::Terminator, bytes, start + len));
                }
                self.needed = end;
                Ok(None)
            }
        }
    }

    /// Reads the length after the type byte: its value, and where what it announces begins.
    #[inline(always)]
    fn parse_length(&mut self, bytes: &[u8]) -> Result<Option<(Length, usize)>, ProtocolError> {
        let start = self.at + 1;
        let text = &bytes[start..];
        if let Some((number, taken)) = scan::count(text) {
            #[cfg(test)]
            {
                self.work += taken;
            }
            return Ok(Some((Length::Count(number), start + taken)));
        }
        self.parse_length_slowly(bytes)
    }

    #[cold]
    fn parse_length_slowly(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(Length, usize)>, ProtocolError> {
        let start = self.at + 1;
        let text = &bytes[start..];
        #[cfg(test)]
        {
            self.work += text.len().min(22);
        }
        match scan::length(text) {
            Ok(Some((length, taken))) => Ok(Some((length, start + taken))),
            Ok(None) => Ok(None),
            Err((Fault::Length, _)) => Err(self.fault(Fault::Length, bytes)),
            Err((fault, offset)) => Err(ProtocolError::new(fault, bytes, start + offset)),
        }
    }

    fn parse_line(&mut self, bytes: &[u8], kind: Kind) -> Result<Progress, ProtocolError> {
        let start = self.at + 1;
        let from = self.searched.max(start);
        let line_max = self.limits.line_max;
        let window = &bytes[..bytes.len().min(start + line_max + 2)];
        let found = scan::line(window, from);
        #[cfg(test)]
        {
            let (Line::Ends(end) | Line::Open(end) | Line::Broken(end)) = found;
            self.work += end - from + 1;
        }
        let end = match found {
            Line::Ends(end) => end,
            Line::Open(end) | Line::Broken(end) if end - start > line_max => {
                return Err(self.fault(Fault::LineTooLong(line_max), bytes));
            }
            Line::Open(until) => {
                self.searched = until;
                return Ok(Progress::Starved);
            }
            Line::Broken(end) => return Err(ProtocolError::new(Fault::Terminator, bytes, end)),
        };
        self.searched = 0;
        let text = &bytes[start..end];
        let fault = match kind {
            Kind::Integer if number::parse_integer(text).is_none() => Fault::Integer,
            Kind::Null if !text.is_empty() => Fault::Null,
            Kind::Boolean if !matches!(text, b"t" | b"f") => Fault::Boolean,
            Kind::Double if number::parse_double(text).is_none() => Fault::Double,
            Kind::BigNumber if !number::is_big_number(text) => Fault::BigNumber,
            _ => return self.scalar(bytes, kind, start, end - start, end + 2),
        };
        Err(self.fault(fault, bytes))
    }

    fn parse_aggregate(&mut self, bytes: &[u8], kind: Kind) -> Result<Progress, ProtocolError> {
        let Some((length, next)) = self.parse_length(bytes)? else {
            return Ok(Progress::Starved);
        };
        let count = match length {
            Length::Count(count) => Some(count),
            Length::Null if kind == Kind::Array => {
                return self.scalar(bytes, Kind::Null, next, 0, next);
            }
            Length::Streamed if matches!(kind, Kind::Array | Kind::Set | Kind::Map) => None,
            Length::Null | Length::Streamed => return Err(self.fault(Fault::Length, bytes)),
        };
        let elements = count.unwrap_or(0).saturating_mul(if kind.is_paired() { 2 } else { 1 });
        if elements > self.limits.elements_max {
            return Err(self.fault(Fault::TooManyElements(self.limits.elements_max), bytes));
        }
        if self.levels.len() >= self.limits.depth_max {
            return Err(self.fault(Fault::TooDeep(self.limits.depth_max), bytes));
        }
        self.check_size(bytes, next)?;
        if self.levels.is_empty() {
            // Room for as many tokens as the bytes that have come could be, which is no promise
            // of the peer's: an element takes three bytes at least.
            self.tape.reserve(elements.min((bytes.len() - next) / 3) + 1);
        }
        self.at = next;
        let token = self.tape.len();
        self.tape.push(Token::aggregate(kind, elements, 1));
        self.attributed = false;
        if count == Some(0) {
            return Ok(self.finish_value(kind));
        }
        self.levels.push(Level { token, elements, streamed: count.is_none() });
        Ok(Progress::Element)
    }

    /// A chunk of the streamed string that is under way, or its end.
    #[cold]
    fn parse_chunk(&mut self, bytes: &[u8]) -> Result<Progress, ProtocolError> {
        if bytes[self.at] != b';' {
            return Err(self.fault(Fault::Misplaced, bytes));
        }
        let Some((length, start)) = self.parse_length(bytes)? else {
            return Ok(Progress::Starved);
        };
        let Length::Count(len) = length else {
            return Err(self.fault(Fault::Length, bytes));
        };
        let begin = self.streamed.open.unwrap_or_default();
        if len == 0 {
            self.streamed.open = None;
            self.streamed.tokens.push(self.tape.len());
            let len = self.streamed.text.len() - begin;
            return self.scalar(bytes, Kind::Bulk, begin, len, start);
        }
        if self.streamed.text.len() - begin + len.min(self.limits.bulk_max + 1)
            > self.limits.bulk_max
        {
            return Err(self.fault(Fault::BulkTooLong(self.limits.bulk_max), bytes));
        }
        let Some(end) = self.parse_text(bytes, start, len)? else {
            return Ok(Progress::Starved);
        };
        self.check_size(bytes, end + len)?;
        self.streamed.text.extend_from_slice(&bytes[start..start + len]);
        self.at = end;
        Ok(Progress::Element)
    }

    /// The `.` that ends a streamed aggregate.
    #[cold]
    fn parse_end(&mut self, bytes: &[u8]) -> Result<Progress, ProtocolError> {
        let Some(Level { token, elements, streamed: true }) = self.levels.last().copied() else {
            return Err(self.fault(Fault::Misplaced, bytes));
        };
        if self.attributed {
            return Err(self.fault(Fault::DanglingAttributes, bytes));
        }
        let next = self.at + 3;
        match &bytes[self.at + 1..bytes.len().min(next)] {
            b"\r\n" => {}
            b"" | b"\r" => return Ok(Progress::Starved),
            _ => return Err(ProtocolError::new(Fault::Terminator, bytes, self.at + 1)),
        }
        let kind = self.tape[token].kind();
        if kind.is_paired() && elements % 2 != 0 {
            return Err(self.fault(Fault::OddMap, bytes));
        }
        if elements > self.limits.elements_max {
            return Err(self.fault(Fault::TooManyElements(self.limits.elements_max), bytes));
        }
        self.check_size(bytes, next)?;
        self.levels.pop();
        self.tape[token] = Token::aggregate(kind, elements, self.tape.len() - token);
        self.at = next;
        Ok(self.finish_value(kind))
    }

    /// Books a scalar whose payload stands at `offset`, and which ends before `next`.
    #[inline(always)]
    fn scalar(
        &mut self,
        bytes: &[u8],
        kind: Kind,
        offset: usize,
        len: usize,
        next: usize,
    ) -> Result<Progress, ProtocolError> {
        self.check_size(bytes, next)?;
        self.tape.push(Token::scalar(kind, offset, len));
        self.at = next;
        Ok(self.finish_value(kind))
    }

    /// Counts a whole value where it belongs, and closes the aggregates that it completes.
    #[inline(always)]
    fn finish_value(&mut self, mut kind: Kind) -> Progress {
        loop {
            self.attributed = kind == Kind::Attributes;
            if self.attributed {
                return Progress::Element;
            }
            let Some(level) = self.levels.last_mut() else { return Progress::Whole };
            if level.streamed {
                level.elements += 1;
                return Progress::Element;
            }
            level.elements -= 1;
            if level.elements > 0 {
                return Progress::Element;
            }
            let token = level.token;
            self.levels.pop();
            let span = self.tape.len() - token;
            let opened = &mut self.tape[token];
            kind = opened.kind();
            *opened = Token::aggregate(kind, opened.elements(), span);
        }
    }

    /// Refuses a frame that goes on to `next` if that is beyond the limit.
    #[inline(always)]
    fn check_size(&self, bytes: &[u8], next: usize) -> Result<(), ProtocolError> {
        if next + self.streamed.text.len() > self.limits.reply_max {
            return Err(self.fault(Fault::ReplyTooLong(self.limits.reply_max), bytes));
        }
        Ok(())
    }

    /// A fault of the element under way.
    #[cold]
    fn fault(&self, fault: Fault, bytes: &[u8]) -> ProtocolError {
        ProtocolError::new(fault, bytes, self.at)
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

/// Takes a frame of `end` bytes that is one scalar.
#[inline(always)]
fn take_scalar(buffer: &mut BytesMut, kind: Kind, start: usize, len: usize, end: usize) -> Reply {
    if len <= INLINE_MAX {
        let reply = copy_scalar(&buffer[start..], kind, len);
        buffer.advance(end);
        return reply;
    }
    take_slice(buffer, kind, start, len, end)
}

/// A scalar whose payload is the first `len` of `bytes`, [`INLINE_MAX`] at most.
#[inline(always)]
fn copy_scalar(bytes: &[u8], kind: Kind, len: usize) -> Reply {
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

//! Elements, one after the other, from wherever the last call stopped: the decoder's position, its tape and its open
//! aggregates say where that is.

use super::{Decoder, Level};
use crate::resp::{
    error::{Fault, ProtocolError},
    number,
    scan::{self, Length, Line},
    tape::{Kind, Token},
};

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
    /// Parses elements until the frame is whole, or the bytes are used up.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
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
}

//! What goes wrong on the wire: a peer that breaks the protocol, and the errors a server answers.

use std::fmt;
use std::sync::Arc;

/// The peer sent what RESP does not allow, or more than the [`Limits`](super::Limits) do.
///
/// The connection it came from has lost its place and must be closed; there is nothing to
/// resynchronise on. The message holds at most eight of the peer's bytes, escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError {
    fault: Fault,
    offset: usize,
    found: [u8; EXCERPT_MAX],
    found_len: u8,
}

/// How many of the peer's bytes an error shows: enough to tell HTTP or TLS, too few for a secret.
const EXCERPT_MAX: usize = 8;

/// What was wrong about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No RESP type begins with this byte.
    UnknownType,
    /// A type that RESP has, but not here: a push inside a reply, the end or a chunk of something
    /// streamed that was never begun, anything but a chunk inside a streamed string.
    Misplaced,
    /// Attributes with no value after them.
    DanglingAttributes,
    /// A length or count that is neither digits nor a null that this type has.
    Length,
    /// CR LF should stand here.
    Terminator,
    /// Not an integer of 64 bits.
    Integer,
    /// Not a floating-point number.
    Double,
    /// Neither `t` nor `f`.
    Boolean,
    /// Not digits with an optional sign.
    BigNumber,
    /// A null with something in it.
    Null,
    /// A verbatim string that does not begin with three characters and a colon.
    Verbatim,
    /// A streamed map whose last key has no value.
    OddMap,
    /// A bulk string longer than [`Limits::bulk_max`](super::Limits::bulk_max), which is given.
    BulkTooLong(usize),
    /// A line longer than [`Limits::line_max`](super::Limits::line_max), which is given.
    LineTooLong(usize),
    /// More elements than [`Limits::elements_max`](super::Limits::elements_max), which is given.
    TooManyElements(usize),
    /// Deeper than [`Limits::depth_max`](super::Limits::depth_max), which is given.
    TooDeep(usize),
    /// A reply longer than [`Limits::reply_max`](super::Limits::reply_max), which is given.
    ReplyTooLong(usize),
}

impl ProtocolError {
    /// A fault at `offset` of the frame `bytes`.
    #[cold]
    pub(super) fn new(fault: Fault, bytes: &[u8], offset: usize) -> Self {
        let rest = bytes.get(offset..).unwrap_or_default();
        let len = rest.len().min(EXCERPT_MAX);
        let mut found = [0; EXCERPT_MAX];
        found[..len].copy_from_slice(&rest[..len]);
        ProtocolError { fault, offset, found, found_len: len as u8 }
    }

    /// What was wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Where the offending element or byte stands, counted from the first byte of its reply.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The first few bytes found there, at most eight.
    #[must_use]
    pub fn found(&self) -> &[u8] {
        &self.found[..usize::from(self.found_len)]
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found().escape_ascii();
        write!(f, "broken protocol at byte {} of a reply: ", self.offset)?;
        match self.fault {
            Fault::UnknownType => write!(f, "\"{found}\" begins with no RESP type"),
            Fault::Misplaced => write!(f, "\"{found}\" begins a type that cannot stand here"),
            Fault::DanglingAttributes => {
                write!(f, "attributes must be followed by a value, found \"{found}\"")
            }
            Fault::Length => write!(
                f,
                "\"{found}\" is no length: expected digits, or -1 for a null bulk string or array"
            ),
            Fault::Terminator => write!(f, "expected CR LF, found \"{found}\""),
            Fault::Integer => write!(f, "\"{found}\" is no integer of 64 bits"),
            Fault::Double => write!(f, "\"{found}\" is no floating-point number"),
            Fault::Boolean => write!(f, "a boolean is t or f, not \"{found}\""),
            Fault::BigNumber => write!(f, "\"{found}\" is no integer"),
            Fault::Null => write!(f, "a null is empty, found \"{found}\""),
            Fault::Verbatim => write!(
                f,
                "a verbatim string begins with three characters and a colon, not \"{found}\""
            ),
            Fault::OddMap => f.write_str("the last key of a streamed map has no value"),
            Fault::BulkTooLong(max) => {
                write!(f, "\"{found}\" announces a string of more than {max} bytes")
            }
            Fault::LineTooLong(max) => write!(f, "a line of more than {max} bytes"),
            Fault::TooManyElements(max) => {
                write!(f, "\"{found}\" announces more than {max} elements")
            }
            Fault::TooDeep(max) => write!(f, "more than {max} levels of nesting"),
            Fault::ReplyTooLong(max) => write!(f, "a reply of more than {max} bytes"),
        }
    }
}

impl fmt::Debug for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolError")
            .field("fault", &self.fault)
            .field("offset", &self.offset)
            .field("found", &format_args!("\"{}\"", self.found().escape_ascii()))
            .finish()
    }
}

impl std::error::Error for ProtocolError {}

/// An error that a server answered: `WRONGTYPE Operation against a key …`.
///
/// Cheap to clone. An error line need not be UTF-8; what is not is replaced by `U+FFFD`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerError {
    line: Arc<str>,
}

impl ServerError {
    /// Takes an error as it came, without the leading `-`: `b"ERR syntax error"`.
    #[must_use]
    pub fn new(line: &[u8]) -> Self {
        ServerError { line: Arc::from(String::from_utf8_lossy(line)) }
    }

    /// The first word, by which errors are told apart: `ERR`, `WRONGTYPE`, `MOVED`.
    #[must_use]
    pub fn code(&self) -> &str {
        self.split().0
    }

    /// What follows the code; empty if nothing does.
    #[must_use]
    pub fn message(&self) -> &str {
        self.split().1
    }

    /// Code and message, as the server wrote them.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    fn split(&self) -> (&str, &str) {
        self.line.split_once(' ').unwrap_or((&self.line, ""))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({:?})", self.line)
    }
}

impl std::error::Error for ServerError {}

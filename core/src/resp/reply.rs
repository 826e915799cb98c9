//! One reply, as the bytes it came in.

use std::fmt;

use bytes::Bytes;

use super::error::ServerError;
use super::limits::FIELD_MAX;
use super::number::Digits;
use super::tape::{Kind, Token};
use super::value::Value;
use super::view::View;

/// The longest payload that is copied into the reply. Up to there a copy costs less than keeping
/// count of who shares the read buffer; and it is what makes a reply 80 bytes.
pub(super) const INLINE_MAX: usize = 70;

/// One whole reply.
///
/// It is what the server sent, found to be well-formed and not yet turned into anything: short
/// scalars are held inline, longer ones and aggregates share the memory they were read into.
/// [`view`](Self::view) reads it in place; [`FromReply`](crate::reply::FromReply) makes Rust
/// values of it. However deep it nests, dropping it is one step.
#[derive(Clone)]
pub struct Reply {
    source: Source,
    kind: Kind,
    /// The number of the node of a cluster that gave it; 0 where there is no cluster.
    given_by: u32,
    data: Data,
}

#[derive(Clone)]
enum Data {
    /// A scalar's payload.
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    /// A scalar's payload.
    Slice(Bytes),
    /// An aggregate, or a value with attributes: its frame and where things stand in it.
    Tree { frame: Bytes, tape: Vec<Token> },
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The server.
    #[default]
    Server,
    /// Memory: what was written while the server was down, and nothing is missing.
    Overlay,
    /// Memory: the last value that the server was known to have.
    Shadow,
    /// Nobody: the server is down and memory does not know what the key holds there. So the answer is that of
    /// an absent key, or, under [`MergeDelta`](crate::Policy::MergeDelta), of what was added while the server
    /// was down, alone. Of several keys it is enough that this holds for one.
    Unknown,
    /// The embedded store of `memory://`, which is all there is.
    Store,
}

impl Reply {
    /// `+OK`.
    #[must_use]
    pub fn ok() -> Self {
        Reply::inline(Kind::Simple, b"OK")
    }

    /// A null.
    #[must_use]
    pub fn null() -> Self {
        Reply::inline(Kind::Null, b"")
    }

    /// An integer.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Reply::inline(Kind::Integer, Digits::signed(number).as_bytes())
    }

    /// A bulk string. A short one is copied, a longer one shared.
    #[must_use]
    pub fn bulk(payload: Bytes) -> Self {
        Reply::scalar(Kind::Bulk, payload)
    }

    /// A bulk string that shares nothing.
    #[inline]
    pub(crate) fn copied(payload: &[u8]) -> Self {
        if payload.len() <= INLINE_MAX {
            Reply::inline(Kind::Bulk, payload)
        } else {
            Reply::slice(Kind::Bulk, Bytes::copy_from_slice(payload))
        }
    }

    /// Reads the reply in place.
    #[inline]
    #[must_use]
    pub fn view(&self) -> View<'_> {
        match &self.data {
            Data::Inline { len, bytes } => {
                View::scalar(self.kind, &bytes[..usize::from(*len)], None)
            }
            Data::Slice(payload) => View::scalar(self.kind, payload, Some(payload)),
            Data::Tree { frame, tape } => View::root(frame, tape),
        }
    }

    /// The type of the reply; for one with attributes, the type of what they belong to.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this is a push, which answers no command.
    #[inline]
    #[must_use]
    pub fn is_push(&self) -> bool {
        self.kind == Kind::Push
    }

    /// Whether the whole reply is an error. An array that holds errors is not.
    #[inline]
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.kind.is_error()
    }

    /// The error, if the whole reply is one.
    #[inline]
    #[must_use]
    pub fn error(&self) -> Option<ServerError> {
        if self.is_error() { self.view().error() } else { None }
    }

    /// Where the answer came from; [`Source::Server`] unless said otherwise.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The same reply, said to come from `source`.
    #[must_use]
    pub fn with_source(self, source: Source) -> Self {
        Reply { source, ..self }
    }

    /// The number of the node of a cluster that gave it; 0 where nobody in particular has, or there is no
    /// cluster.
    pub(crate) fn giver(&self) -> u32 {
        self.given_by
    }

    /// The same reply, given by the node of this number.
    pub(crate) fn given_by(self, node: u32) -> Self {
        Reply { given_by: node, ..self }
    }

    /// A scalar whose payload is not longer than [`INLINE_MAX`].
    #[inline]
    pub(super) fn inline(kind: Kind, payload: &[u8]) -> Self {
        let mut bytes = [0; INLINE_MAX];
        bytes[..payload.len()].copy_from_slice(payload);
        Reply::inline_prefix(kind, bytes, payload.len())
    }

    /// A scalar whose payload is the first `len` of `bytes`. What comes after it is never shown.
    #[inline(always)]
    pub(super) fn inline_prefix(kind: Kind, bytes: [u8; INLINE_MAX], len: usize) -> Self {
        Reply {
            source: Source::Server,
            kind,
            given_by: 0,
            data: Data::Inline { len: len as u8, bytes },
        }
    }

    /// A scalar that shares its payload.
    #[inline]
    pub(super) fn slice(kind: Kind, payload: Bytes) -> Self {
        Reply { source: Source::Server, kind, given_by: 0, data: Data::Slice(payload) }
    }

    /// A value with everything inside it, and the attributes before it.
    pub(super) fn tree(frame: Bytes, tape: Vec<Token>) -> Self {
        let kind = View::root(&frame, &tape).kind();
        Reply { source: Source::Server, kind, given_by: 0, data: Data::Tree { frame, tape } }
    }

    /// A scalar; a long payload is shared with the `frame` that it is a part of.
    pub(super) fn from_parts(kind: Kind, payload: &[u8], frame: Option<&Bytes>) -> Self {
        match frame {
            Some(frame) if payload.len() > INLINE_MAX => {
                Reply::slice(kind, frame.slice_ref(payload))
            }
            _ => Reply::inline(kind, payload),
        }
    }

    fn scalar(kind: Kind, payload: Bytes) -> Self {
        if payload.len() <= INLINE_MAX {
            Reply::inline(kind, &payload)
        } else {
            Reply::slice(kind, payload)
        }
    }
}

impl From<Value> for Reply {
    /// The reply that a server would send for this value in RESP3.
    ///
    /// A value of 1 GiB or more cannot be a reply and becomes an error reply that says so.
    fn from(value: Value) -> Self {
        match value {
            Value::Simple(text) => Reply::scalar(Kind::Simple, text),
            Value::Error(text) => Reply::scalar(Kind::Error, text),
            Value::Integer(number) => Reply::integer(number),
            Value::Bulk(text) => Reply::scalar(Kind::Bulk, text),
            Value::Null => Reply::null(),
            Value::Boolean(truth) => Reply::inline(Kind::Boolean, if truth { b"t" } else { b"f" }),
            Value::Double(number) => Reply::inline(Kind::Double, Digits::double(number).as_bytes()),
            Value::BigNumber(digits) => Reply::scalar(Kind::BigNumber, digits),
            Value::BulkError(text) => Reply::scalar(Kind::BulkError, text),
            other => build(&other),
        }
    }
}

/// Lays a value out as a frame and its tape.
fn build(value: &Value) -> Reply {
    let mut builder = Builder { frame: Vec::new(), tape: Vec::new() };
    builder.value(value);
    if builder.frame.len() > FIELD_MAX || builder.tape.len() > FIELD_MAX {
        return Reply::inline(Kind::Error, b"ERR a reply of more than 1 GiB");
    }
    match builder.tape[..] {
        [token] if !token.kind().is_aggregate() => {
            Reply::scalar(token.kind(), Bytes::from(builder.frame))
        }
        _ => Reply::tree(Bytes::from(builder.frame), builder.tape),
    }
}

/// Payloads one behind the other, without the headers that nobody would read.
struct Builder {
    frame: Vec<u8>,
    tape: Vec<Token>,
}

impl Builder {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Simple(text) => self.scalar(Kind::Simple, text),
            Value::Error(text) => self.scalar(Kind::Error, text),
            Value::Integer(number) => {
                self.scalar(Kind::Integer, Digits::signed(*number).as_bytes());
            }
            Value::Bulk(text) => self.scalar(Kind::Bulk, text),
            Value::Null => self.scalar(Kind::Null, b""),
            Value::Boolean(truth) => self.scalar(Kind::Boolean, if *truth { b"t" } else { b"f" }),
            Value::Double(number) => self.scalar(Kind::Double, Digits::double(*number).as_bytes()),
            Value::BigNumber(digits) => self.scalar(Kind::BigNumber, digits),
            Value::BulkError(text) => self.scalar(Kind::BulkError, text),
            Value::Verbatim(format, text) => {
                let payload = [&format[..], b":", text].concat();
                self.scalar(Kind::Verbatim, &payload);
            }
            Value::Array(items) => self.items(Kind::Array, items),
            Value::Set(items) => self.items(Kind::Set, items),
            Value::Push(items) => self.items(Kind::Push, items),
            Value::Map(pairs) => self.pairs(Kind::Map, pairs),
            Value::Attributed(pairs, value) => {
                self.pairs(Kind::Attributes, pairs);
                self.value(value);
            }
        }
    }

    fn scalar(&mut self, kind: Kind, payload: &[u8]) {
        // A frame that is too long is refused at the end; until then its tokens only have to fit.
        let offset = self.frame.len().min(FIELD_MAX);
        self.tape.push(Token::scalar(kind, offset, payload.len().min(FIELD_MAX)));
        if offset < FIELD_MAX {
            self.frame.extend_from_slice(payload);
        }
    }

    fn items(&mut self, kind: Kind, items: &[Value]) {
        self.aggregate(kind, items.len(), |builder| {
            for item in items {
                builder.value(item);
            }
        });
    }

    fn pairs(&mut self, kind: Kind, pairs: &[(Value, Value)]) {
        self.aggregate(kind, 2 * pairs.len(), |builder| {
            for (key, value) in pairs {
                builder.value(key);
                builder.value(value);
            }
        });
    }

    fn aggregate(&mut self, kind: Kind, elements: usize, inside: impl FnOnce(&mut Self)) {
        let token = self.tape.len();
        self.tape.push(Token::aggregate(kind, 0, 1));
        inside(self);
        let span = (self.tape.len() - token).min(FIELD_MAX);
        self.tape[token] = Token::aggregate(kind, elements.min(FIELD_MAX), span);
    }
}

impl fmt::Debug for Reply {
    /// Contents are abbreviated, as in [`View`]'s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({:?}", self.view())?;
        if self.source != Source::Server {
            write!(f, ", from {:?}", self.source)?;
        }
        f.write_str(")")
    }
}

// Queues hold replies by the thousand, and threads pass them on.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Reply>();
    assert!(size_of::<Reply>() == 80);
};

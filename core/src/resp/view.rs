//! A reply, or a part of one, read in place.

use std::fmt;

use bytes::Bytes;

use super::error::ServerError;
use super::number;
use super::reply::Reply;
use super::tape::{Kind, Token};
use super::value::Value;

/// One value of a [`Reply`], where it stands: nothing is copied, and nothing inside an aggregate
/// is looked at before it is asked for.
///
/// A view is a handful of words and is passed by value. Going from one element to the next takes
/// the same short time whatever the element holds.
///
/// ```
/// use bytes::BytesMut;
/// use unfazed_core::resp::{Decoder, Kind, Limits};
///
/// let mut buffer = BytesMut::from("%2\r\n+name\r\n$3\r\nAda\r\n+born\r\n:1815\r\n");
/// let reply = Decoder::new(Limits::default()).decode(&mut buffer)?.unwrap();
/// let view = reply.view();
/// assert_eq!((view.kind(), view.len()), (Kind::Map, 2));
/// let (key, value) = view.pairs().nth(1).unwrap();
/// assert_eq!((key.payload(), value.integer()), (&b"born"[..], Some(1815)));
/// # Ok::<(), unfazed_core::resp::ProtocolError>(())
/// ```
#[derive(Clone, Copy)]
pub struct View<'a> {
    kind: Kind,
    /// Where in `tokens` the value's own token stands; before it are its attributes.
    own: u32,
    /// A scalar's payload as it came.
    raw: &'a [u8],
    /// The tokens of its attributes, of itself and of everything inside it; none for a scalar
    /// without attributes.
    tokens: &'a [Token],
    /// What `raw` is a part of, to share it. An inline reply has none.
    frame: Option<&'a Bytes>,
}

impl<'a> View<'a> {
    /// The type of the value.
    #[inline]
    #[must_use]
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// The payload of a scalar: text, or a number as it was written, without type, length or CR
    /// LF, and without the format of a verbatim string. Empty for null and for aggregates.
    #[inline]
    #[must_use]
    pub fn payload(self) -> &'a [u8] {
        if self.kind == Kind::Verbatim { &self.raw[VERBATIM_PREFIX..] } else { self.raw }
    }

    /// The payload as [`Bytes`]: it shares the memory of the reply, which lives on as long as any
    /// part of it, except where the reply was short enough to be held inline and is copied.
    #[inline]
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        match self.frame {
            Some(frame) => frame.slice_ref(self.payload()),
            None => Bytes::copy_from_slice(self.payload()),
        }
    }

    /// Whether this is a null.
    #[inline]
    #[must_use]
    pub fn is_null(self) -> bool {
        self.kind == Kind::Null
    }

    /// Whether this is an error, simple or bulk.
    #[inline]
    #[must_use]
    pub fn is_error(self) -> bool {
        self.kind.is_error()
    }

    /// The error, if this is one.
    #[must_use]
    pub fn error(self) -> Option<ServerError> {
        self.is_error().then(|| ServerError::new(self.payload()))
    }

    /// The number, if this is an integer.
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        if self.kind == Kind::Integer { number::parse_integer(self.raw) } else { None }
    }

    /// The number, if this is a double.
    #[must_use]
    pub fn double(self) -> Option<f64> {
        if self.kind == Kind::Double { number::parse_double(self.raw) } else { None }
    }

    /// The truth value, if this is a boolean.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        (self.kind == Kind::Boolean).then(|| self.raw == b"t")
    }

    /// The three characters that name the format of a verbatim string, such as `txt` and `mkd`.
    #[must_use]
    pub fn verbatim_format(self) -> Option<[u8; 3]> {
        if self.kind == Kind::Verbatim { self.raw.first_chunk().copied() } else { None }
    }

    /// The number of elements of an aggregate, for a map the number of pairs; 0 for a scalar.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        if self.kind.is_paired() { self.elements() / 2 } else { self.elements() }
    }

    /// Whether there are no elements inside; true for every scalar.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.elements() == 0
    }

    /// The elements, one after the other; for a map its keys and values in turn. None for a
    /// scalar.
    #[inline]
    #[must_use]
    pub fn items(self) -> Items<'a> {
        match self.frame {
            Some(frame) if self.kind.is_aggregate() => Items {
                frame,
                tokens: &self.tokens[self.own as usize + 1..],
                left: self.elements(),
            },
            _ => Items { frame: &NOTHING, tokens: &[], left: 0 },
        }
    }

    /// The elements two by two: the pairs of a map, and of the flat array that RESP2 has instead.
    /// A last element without a partner is left out.
    #[inline]
    #[must_use]
    pub fn pairs(self) -> Pairs<'a> {
        Pairs { items: self.items() }
    }

    /// The element at `index`; for a map, keys and values count one each. Takes time in proportion
    /// to `index`.
    #[must_use]
    pub fn get(self, index: usize) -> Option<View<'a>> {
        self.items().nth(index)
    }

    /// The attributes that stand right before this value, a map of kind [`Kind::Attributes`].
    /// Where there are several in a row, each has the one before it as its own attributes.
    #[must_use]
    pub fn attributes(self) -> Option<View<'a>> {
        let before = &self.tokens[..self.own as usize];
        let mut own = 0;
        while let Some(token) = before.get(own) {
            let next = own + token.span();
            if next >= before.len() {
                let kind = Kind::Attributes;
                return Some(View { kind, own: own as u32, raw: b"", tokens: before, ..self });
            }
            own = next;
        }
        None
    }

    /// The value and everything in it as a tree of its own, attributes included.
    #[must_use]
    pub fn to_value(self) -> Value {
        // Recursion goes as deep as the reply, which the decoder's limit bounds.
        let text = || Bytes::copy_from_slice(self.payload());
        let items = || self.items().map(View::to_value).collect();
        let pairs = |view: View<'_>| {
            view.pairs().map(|(key, value)| (key.to_value(), value.to_value())).collect()
        };
        let mut value = match self.kind {
            Kind::Simple => Value::Simple(text()),
            Kind::Error => Value::Error(text()),
            Kind::Integer => Value::Integer(self.integer().unwrap_or_default()),
            Kind::Bulk => Value::Bulk(text()),
            Kind::Null => Value::Null,
            Kind::Boolean => Value::Boolean(self.raw == b"t"),
            Kind::Double => Value::Double(self.double().unwrap_or_default()),
            Kind::BigNumber => Value::BigNumber(text()),
            Kind::BulkError => Value::BulkError(text()),
            Kind::Verbatim => Value::Verbatim(self.verbatim_format().unwrap_or_default(), text()),
            Kind::Array => Value::Array(items()),
            Kind::Set => Value::Set(items()),
            Kind::Push => Value::Push(items()),
            Kind::Map | Kind::Attributes => Value::Map(pairs(self)),
        };
        let mut next = self.attributes();
        while let Some(attributes) = next {
            value = Value::Attributed(pairs(attributes), Box::new(value));
            next = attributes.attributes();
        }
        value
    }

    /// The value as a reply of its own, which shares the memory of this one.
    #[must_use]
    pub fn to_reply(self) -> Reply {
        match self.frame {
            Some(frame) if self.kind.is_aggregate() || self.own > 0 => {
                Reply::tree(frame.clone(), self.tokens.to_vec())
            }
            _ => Reply::from_parts(self.kind, self.raw, self.frame),
        }
    }

    /// The number of elements; a pair counts as two.
    #[inline]
    pub(crate) fn elements(self) -> usize {
        match self.tokens.get(self.own as usize) {
            Some(token) if self.kind.is_aggregate() => token.elements(),
            _ => 0,
        }
    }

    /// A bulk string that is all of `text`.
    pub(crate) fn bulk(text: &'a Bytes) -> Self {
        View::scalar(Kind::Bulk, text, Some(text))
    }

    /// A scalar without attributes.
    #[inline(always)]
    pub(super) fn scalar(kind: Kind, raw: &'a [u8], frame: Option<&'a Bytes>) -> Self {
        View { kind, own: 0, raw, tokens: &[], frame }
    }

    /// The value that a whole tape describes.
    #[inline]
    pub(super) fn root(frame: &'a Bytes, tape: &'a [Token]) -> Self {
        View::first(frame, tape).0
    }

    /// The first value on `tape`, which must not be empty, and what comes after it.
    #[inline(always)]
    fn first(frame: &'a Bytes, tape: &'a [Token]) -> (Self, &'a [Token]) {
        let token = tape[0];
        if !token.is_aggregate() {
            let raw = &frame[token.offset()..token.offset() + token.len()];
            return (View::scalar(token.kind(), raw, Some(frame)), &tape[1..]);
        }
        View::first_aggregate(frame, tape)
    }

    /// As [`first`](Self::first), for an aggregate or a value with attributes.
    fn first_aggregate(frame: &'a Bytes, tape: &'a [Token]) -> (Self, &'a [Token]) {
        let mut own = 0;
        let mut token = tape[0];
        while token.kind() == Kind::Attributes {
            own += token.span();
            token = tape[own];
        }
        let kind = token.kind();
        let (tokens, rest) = tape.split_at(own + token.span());
        let raw: &[u8] = if kind.is_aggregate() {
            b""
        } else {
            &frame[token.offset()..token.offset() + token.len()]
        };
        (View { kind, own: own as u32, raw, tokens, frame: Some(frame) }, rest)
    }
}

/// The format of a verbatim string, and a colon.
const VERBATIM_PREFIX: usize = 4;

static NOTHING: Bytes = Bytes::new();

/// The elements of an aggregate, from [`View::items`].
#[derive(Clone)]
pub struct Items<'a> {
    frame: &'a Bytes,
    tokens: &'a [Token],
    left: usize,
}

impl Items<'_> {
    /// The payloads of all elements, which share the reply's memory, if all of them are bulk strings.
    pub(crate) fn shared_bulks(&self) -> Option<Vec<Bytes>> {
        // Were an element more than a scalar, its own token would not be a bulk string's.
        let tokens = self.tokens.get(..self.left)?;
        let all_bulk = tokens.iter().all(|token| token.kind() == Kind::Bulk);
        let share = |token: &Token| self.frame.slice(token.offset()..token.offset() + token.len());
        all_bulk.then(|| tokens.iter().map(share).collect())
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    /// Inlined, so that a view is never put together for one who asks for its payload alone.
    #[inline(always)]
    fn next(&mut self) -> Option<View<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (view, rest) = View::first(self.frame, self.tokens);
        self.tokens = rest;
        Some(view)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

impl fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({} left)", self.left)
    }
}

/// The pairs of a map or of a flat array, from [`View::pairs`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    items: Items<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (View<'a>, View<'a>);

    #[inline]
    fn next(&mut self) -> Option<(View<'a>, View<'a>)> {
        Some((self.items.next()?, self.items.next()?))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let pairs = self.items.left / 2;
        (pairs, Some(pairs))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

impl fmt::Debug for View<'_> {
    /// At most 32 bytes of a text, eight elements of an aggregate and four levels are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        abbreviate(*self, f, 4)
    }
}

fn abbreviate(view: View<'_>, f: &mut fmt::Formatter<'_>, levels: usize) -> fmt::Result {
    const TEXT_MAX: usize = 32;
    const ITEMS_MAX: usize = 8;

    write!(f, "{:?}", view.kind)?;
    if view.is_null() {
        return Ok(());
    }
    if !view.kind.is_aggregate() {
        let text = view.payload();
        let shown = &text[..text.len().min(TEXT_MAX)];
        write!(f, "(\"{}\"", shown.escape_ascii())?;
        if shown.len() < text.len() {
            write!(f, " and {} bytes more", text.len() - shown.len())?;
        }
        return f.write_str(")");
    }
    if levels == 0 {
        return write!(f, "[{} inside]", view.len());
    }
    f.write_str("[")?;
    for (index, item) in view.items().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if index == ITEMS_MAX {
            write!(f, "{} more", view.elements() - ITEMS_MAX)?;
            break;
        }
        abbreviate(item, f, levels - 1)?;
    }
    f.write_str("]")
}

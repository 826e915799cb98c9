//! The tape: what stands where in a frame, eight bytes a value.

use super::limits::FIELD_MAX;

/// The type of a RESP value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `+`: a simple string.
    Simple,
    /// `-`: a simple error.
    Error,
    /// `:`: an integer of 64 bits.
    Integer,
    /// `$`: a bulk string.
    Bulk,
    /// `_`, or RESP2's `$-1` and `*-1`.
    Null,
    /// `#`: true or false.
    Boolean,
    /// `,`: a floating-point number.
    Double,
    /// `(`: an integer of any size.
    BigNumber,
    /// `!`: an error that may hold any bytes.
    BulkError,
    /// `=`: a text and three characters that name its format.
    Verbatim,
    /// `*`
    Array,
    /// `%`
    Map,
    /// `~`
    Set,
    /// `>`: an array that answers no command.
    Push,
    /// `|`: attributes, a map that stands before the value it describes.
    Attributes,
}

impl Kind {
    /// Whether this is an array, a map, a set, a push or attributes.
    #[must_use]
    pub const fn is_aggregate(self) -> bool {
        self as u8 >= Kind::Array as u8
    }

    /// Whether this is one of the two errors.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Kind::Error | Kind::BulkError)
    }

    /// Whether the elements come in pairs of key and value.
    #[must_use]
    pub const fn is_paired(self) -> bool {
        matches!(self, Kind::Map | Kind::Attributes)
    }

    /// The kind's name with its article, as messages use it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Simple => "a simple string",
            Kind::Error => "an error",
            Kind::Integer => "an integer",
            Kind::Bulk => "a bulk string",
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Double => "a double",
            Kind::BigNumber => "a big number",
            Kind::BulkError => "a bulk error",
            Kind::Verbatim => "a verbatim string",
            Kind::Array => "an array",
            Kind::Map => "a map",
            Kind::Set => "a set",
            Kind::Push => "a push",
            Kind::Attributes => "attributes",
        }
    }
}

/// The kinds by their number. A token's four bits could say one more, which nothing writes.
const KINDS: [Kind; 16] = [
    Kind::Simple,
    Kind::Error,
    Kind::Integer,
    Kind::Bulk,
    Kind::Null,
    Kind::Boolean,
    Kind::Double,
    Kind::BigNumber,
    Kind::BulkError,
    Kind::Verbatim,
    Kind::Array,
    Kind::Map,
    Kind::Set,
    Kind::Push,
    Kind::Attributes,
    Kind::Attributes,
];

const FIELD_BITS: u32 = 30;

/// One value: four bits of [`Kind`] and two fields of 30 bits.
///
/// A scalar has the offset of its payload in the frame, and its length. An aggregate has the count
/// of its elements (two for a pair) and its span: how many tokens it takes with everything inside.
#[derive(Clone, Copy)]
pub(super) struct Token(u64);

impl Token {
    #[inline]
    pub(super) const fn scalar(kind: Kind, offset: usize, len: usize) -> Token {
        Token::new(kind, offset, len)
    }

    #[inline]
    pub(super) const fn aggregate(kind: Kind, elements: usize, span: usize) -> Token {
        Token::new(kind, elements, span)
    }

    #[inline]
    const fn new(kind: Kind, first: usize, second: usize) -> Token {
        debug_assert!(first <= FIELD_MAX && second <= FIELD_MAX);
        Token((kind as u64) << (2 * FIELD_BITS) | (first as u64) << FIELD_BITS | second as u64)
    }

    #[inline]
    pub(super) const fn kind(self) -> Kind {
        KINDS[(self.0 >> (2 * FIELD_BITS)) as usize]
    }

    /// A scalar's offset.
    #[inline]
    pub(super) const fn offset(self) -> usize {
        (self.0 >> FIELD_BITS) as usize & FIELD_MAX
    }

    /// A scalar's length.
    #[inline]
    pub(super) const fn len(self) -> usize {
        self.0 as usize & FIELD_MAX
    }

    /// An aggregate's count of elements.
    #[inline]
    pub(super) const fn elements(self) -> usize {
        self.offset()
    }

    /// How many tokens this value takes: one for a scalar.
    #[inline]
    pub(super) const fn span(self) -> usize {
        if self.is_aggregate() { self.len() } else { 1 }
    }

    /// As [`Kind::is_aggregate`], without going through the kind.
    #[inline]
    pub(super) const fn is_aggregate(self) -> bool {
        self.0 >> (2 * FIELD_BITS) >= Kind::Array as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_it_was_made_of() {
        for kind in &KINDS[..15] {
            let token = Token::new(*kind, FIELD_MAX, FIELD_MAX - 1);
            assert_eq!(token.kind(), *kind);
            assert_eq!(token.offset(), FIELD_MAX);
            assert_eq!(token.len(), FIELD_MAX - 1);
            assert_eq!(token.span(), if kind.is_aggregate() { FIELD_MAX - 1 } else { 1 });
        }
    }
}

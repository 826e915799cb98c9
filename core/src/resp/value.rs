//! A reply as an owned tree, for those who make replies: the embedded store, modelled servers, tests.
//!
//! What comes from a server is never turned into this; it stays bytes with views on them.

use bytes::Bytes;

/// One RESP value as an owned tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a simple string. It must contain neither CR nor LF.
    Simple(Bytes),
    /// `-`: a simple error. It must contain neither CR nor LF.
    Error(Bytes),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Bytes),
    /// `_`, or `$-1` in RESP2.
    Null,
    /// `#`; an integer 1 or 0 in RESP2.
    Boolean(bool),
    /// `,`; a bulk string in RESP2.
    Double(f64),
    /// `(`; a bulk string in RESP2.
    BigNumber(Bytes),
    /// `!`; a simple error in RESP2.
    BulkError(Bytes),
    /// `=`: three characters that name the format, and the text; a bulk string in RESP2.
    Verbatim([u8; 3], Bytes),
    /// `*`
    Array(Vec<Value>),
    /// `%`; a flat array in RESP2.
    Map(Vec<(Value, Value)>),
    /// `~`; an array in RESP2.
    Set(Vec<Value>),
    /// `>`; an array in RESP2.
    Push(Vec<Value>),
    /// `|`: attributes, and the value that they belong to; the value alone in RESP2.
    Attributed(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    /// `+OK`.
    pub const OK: Value = Value::Simple(Bytes::from_static(b"OK"));

    /// A simple error with this text.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Value {
        Value::Error(Bytes::from(text.into()))
    }
}

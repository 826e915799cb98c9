//! A reply as an owned tree, for those who make replies: the embedded store, modelled servers, tests.
//!
//! What comes from a server is never turned into this; it stays bytes with views on them.

use bytes::Bytes;

use super::number::Digits;
use super::view::View;
use super::{Protocol, encode};

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

    /// Appends the value as a server speaking `protocol` would send it.
    ///
    /// RESP2 has fewer types; what each becomes stands with the variants. Neither a simple string
    /// nor a simple error may hold CR or LF, and a bulk error becomes a simple one in RESP2: spaces
    /// stand in for them. A [`Push`](Value::Push) inside another value is written as it is, though
    /// no decoder takes it.
    pub fn encode(&self, out: &mut Vec<u8>, protocol: Protocol) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Value::Simple(text) => line(out, b'+', text),
            Value::Error(text) => line(out, b'-', text),
            Value::BulkError(text) if !resp3 => line(out, b'-', text),
            Value::Integer(number) => line(out, b':', Digits::signed(*number).as_bytes()),
            Value::Null => out.extend_from_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Value::Boolean(truth) => out.extend_from_slice(match (resp3, truth) {
                (true, true) => b"#t\r\n",
                (true, false) => b"#f\r\n",
                (false, true) => b":1\r\n",
                (false, false) => b":0\r\n",
            }),
            Value::Double(number) if resp3 => {
                line(out, b',', Digits::double(*number).as_bytes());
            }
            Value::Double(number) => encode::bulk(out, Digits::double(*number).as_bytes()),
            Value::BigNumber(digits) if resp3 => line(out, b'(', digits),
            Value::BigNumber(digits) => encode::bulk(out, digits),
            Value::BulkError(text) => {
                encode::header(out, b'!', text.len());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Value::Verbatim(format, text) if resp3 => {
                encode::header(out, b'=', text.len() + 4);
                out.extend_from_slice(format);
                out.push(b':');
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Value::Bulk(text) | Value::Verbatim(_, text) => encode::bulk(out, text),
            Value::Array(items) => encode_items(out, b'*', items, protocol),
            Value::Set(items) => {
                encode_items(out, if resp3 { b'~' } else { b'*' }, items, protocol);
            }
            Value::Push(items) => {
                encode_items(out, if resp3 { b'>' } else { b'*' }, items, protocol);
            }
            Value::Map(pairs) => encode_pairs(out, b'%', pairs, protocol),
            Value::Attributed(pairs, value) => {
                if resp3 {
                    encode_pairs(out, b'|', pairs, protocol);
                }
                value.encode(out, protocol);
            }
        }
    }
}

impl From<View<'_>> for Value {
    /// As [`View::to_value`].
    fn from(view: View<'_>) -> Value {
        view.to_value()
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

fn encode_items(out: &mut Vec<u8>, kind: u8, items: &[Value], protocol: Protocol) {
    encode::header(out, kind, items.len());
    for item in items {
        item.encode(out, protocol);
    }
}

fn encode_pairs(out: &mut Vec<u8>, kind: u8, pairs: &[(Value, Value)], protocol: Protocol) {
    if protocol == Protocol::Resp3 {
        encode::header(out, kind, pairs.len());
    } else {
        encode::array_header(out, 2 * pairs.len());
    }
    for (key, value) in pairs {
        key.encode(out, protocol);
        value.encode(out, protocol);
    }
}

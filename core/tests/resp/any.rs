//! Any value, and any bytes: what holds for all of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use unfazed_core::{
    reply::FromReply,
    resp::{Limits, Protocol, Reply, Value},
};

use super::{decode, feed, values};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(value in any_value()) {
        let mut frame = Vec::new();
        value.encode(&mut frame, Protocol::Resp3);
        let reply = decode(&frame);
        prop_assert_eq!(reply.view().to_value(), value.clone());
        prop_assert_eq!(Reply::from(value.clone()).view().to_value(), value.clone());

        frame.clear();
        value.encode(&mut frame, Protocol::Resp2);
        prop_assert_eq!(decode(&frame).view().to_value(), in_resp2(value));
    }

    #[test]
    fn no_bytes_panic_and_pieces_change_nothing(
        stream in prop_oneof![resp_like(), vec(any::<u8>(), 0..200)],
        sizes in vec(1usize..20, 1..10),
    ) {
        let limits = Limits { depth_max: 6, elements_max: 9, bulk_max: 40, line_max: 20, reply_max: 150 };
        let whole = feed(limits, [&stream[..]]);
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break }
            let (piece, tail) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = tail;
        }
        let cut = feed(limits, pieces);
        let printed = |replies: &[Reply]| format!("{:?}", values(replies));
        prop_assert_eq!(printed(&whole.0), printed(&cut.0));
        prop_assert_eq!(
            whole.1.map(|error| (error.fault(), error.offset())),
            cut.1.map(|error| (error.fault(), error.offset())),
        );
        for reply in &whole.0 {
            let _ = (Vec::<String>::from_reply(reply), BTreeMap::<Bytes, f64>::from_reply(reply));
            let _ = (bool::from_reply(reply), <(i64, Option<u16>)>::from_reply(reply));
            let _ = format!("{reply:?}");
        }
    }
}

/// Any value that RESP can say. A push can only stand at the top.
fn any_value() -> impl Strategy<Value = Value> {
    let text = || vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    let line = || {
        vec(any::<u8>().prop_map(|b| if matches!(b, b'\r' | b'\n') { b'.' } else { b }), 0..90)
            .prop_map(Bytes::from)
    };
    let scalar = prop_oneof![
        line().prop_map(Value::Simple),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        text().prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<f64>().prop_filter("equal to itself", |n| !n.is_nan()).prop_map(Value::Double),
        "[+-]?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(Bytes::from(digits))),
        text().prop_map(Value::BulkError),
        (any::<[u8; 3]>(), text()).prop_map(|(format, text)| Value::Verbatim(format, text)),
    ];
    let nested = scalar.prop_recursive(5, 60, 8, |inner| {
        let pairs = || vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::Array),
            vec(inner.clone(), 0..8).prop_map(Value::Set),
            pairs().prop_map(Value::Map),
            (pairs(), inner.clone())
                .prop_map(|(pairs, value)| Value::Attributed(pairs, Box::new(value))),
        ]
    });
    prop_oneof![
        4 => nested.clone(),
        1 => vec(nested, 0..5).prop_map(Value::Push),
    ]
}

/// What is left of a value in RESP2, as the variants of [`Value`] document it.
fn in_resp2(value: Value) -> Value {
    let flat = |pairs: Vec<(Value, Value)>| {
        pairs.into_iter().flat_map(|(key, value)| [in_resp2(key), in_resp2(value)]).collect()
    };
    match value {
        Value::Boolean(truth) => Value::Integer(truth.into()),
        Value::Double(_) | Value::BigNumber(_) => Value::Bulk(Reply::from(value).view().to_bytes()),
        Value::BulkError(text) => Value::Error(
            text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }).collect(),
        ),
        Value::Verbatim(_, text) => Value::Bulk(text),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            Value::Array(items.into_iter().map(in_resp2).collect())
        }
        Value::Map(pairs) => Value::Array(flat(pairs)),
        Value::Attributed(_, value) => in_resp2(*value),
        same => same,
    }
}

/// Bytes that look enough like RESP to get into every corner of the decoder.
fn resp_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        8 => proptest::sample::select(b"+-:$*_,#!=(%~|>;.".to_vec()).prop_map(|b| vec![b]),
        8 => Just(b"\r\n".to_vec()),
        4 => (0u8..12).prop_map(|n| n.to_string().into_bytes()),
        2 => Just(b"?".to_vec()),
        2 => Just(b"-1".to_vec()),
        1 => vec(any::<u8>(), 0..6),
        4 => proptest::sample::select(vec![
            b"+OK\r\n".to_vec(), b":1\r\n".to_vec(), b"$1\r\na\r\n".to_vec(),
            b"*2\r\n".to_vec(), b"%1\r\n".to_vec(), b"|1\r\n".to_vec(), b"*?\r\n".to_vec(),
            b"%?\r\n".to_vec(), b".\r\n".to_vec(), b"$?\r\n".to_vec(), b";1\r\nx\r\n".to_vec(),
            b";0\r\n".to_vec(),
        ]),
    ];
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

//! What the wire layer promises: the same frames in any pieces, every limit kept, RESP2 and RESP3
//! alike, and errors that say what was wrong.

mod any;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use unfazed_core::reply::{FromReply, Sourced};
use unfazed_core::resp::{
    Decoder, Fault, Kind, Limits, Protocol, ProtocolError, Reply, ServerError, Source, Value, View,
};

/// Everything a decoder gives when it is fed `pieces` one after the other.
fn feed<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Reply>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut replies = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer).unwrap_err(), error);
                    return (replies, Some(error));
                }
            }
        }
    }
    (replies, None)
}

fn values(replies: &[Reply]) -> Vec<Value> {
    replies.iter().map(|reply| reply.view().to_value()).collect()
}

/// The one reply that `frame` holds.
fn decode(frame: &[u8]) -> Reply {
    let (mut replies, error) = feed(Limits::default(), [frame]);
    assert_eq!(error, None, "{}", frame.escape_ascii());
    assert_eq!(replies.len(), 1, "{}", frame.escape_ascii());
    replies.remove(0)
}

fn fault(frame: &[u8]) -> Fault {
    let (_, error) = feed(Limits::default(), [frame]);
    error.unwrap_or_else(|| panic!("accepted: {}", frame.escape_ascii())).fault()
}

fn bulk(text: &str) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn simple(text: &str) -> Value {
    Value::Simple(Bytes::copy_from_slice(text.as_bytes()))
}

fn array(items: impl Into<Vec<Value>>) -> Value {
    Value::Array(items.into())
}

/// Frames and what they mean.
fn corpus() -> Vec<(&'static [u8], Value)> {
    let map = |key, value| vec![(simple(key), value)];
    vec![
        (b"+OK\r\n", Value::OK),
        (b"+\r\n", simple("")),
        (b"-ERR no\r\n", Value::error("ERR no")),
        (b"-ERR \xff\xfe\r\n", Value::Error(Bytes::from_static(b"ERR \xff\xfe"))),
        (b":0\r\n", Value::Integer(0)),
        (b":+17\r\n", Value::Integer(17)),
        (b":-9223372036854775808\r\n", Value::Integer(i64::MIN)),
        (b":9223372036854775807\r\n", Value::Integer(i64::MAX)),
        (b"$0\r\n\r\n", bulk("")),
        (b"$5\r\nhello\r\n", bulk("hello")),
        (b"$2\r\n\r\n\r\n", bulk("\r\n")),
        (b"$-1\r\n", Value::Null),
        (b"*-1\r\n", Value::Null),
        (b"_\r\n", Value::Null),
        (b"#t\r\n", Value::Boolean(true)),
        (b"#f\r\n", Value::Boolean(false)),
        (b",1.5\r\n", Value::Double(1.5)),
        (b",-1e-5\r\n", Value::Double(-1e-5)),
        (b",10\r\n", Value::Double(10.0)),
        (b",1.7E+308\r\n", Value::Double(1.7e308)),
        (b",inf\r\n", Value::Double(f64::INFINITY)),
        (b",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
        (
            b"(-3492890328409238509324850943850943825024385\r\n",
            Value::BigNumber(Bytes::from_static(b"-3492890328409238509324850943850943825024385")),
        ),
        (b"!8\r\nERR a\r\nb\r\n", Value::BulkError(Bytes::from_static(b"ERR a\r\nb"))),
        (b"=8\r\nmkd:text\r\n", Value::Verbatim(*b"mkd", Bytes::from_static(b"text"))),
        (b"=4\r\ntxt:\r\n", Value::Verbatim(*b"txt", Bytes::new())),
        (b"*0\r\n", array([])),
        (b"*2\r\n$1\r\na\r\n:1\r\n", array([bulk("a"), Value::Integer(1)])),
        (b"*1\r\n*1\r\n*0\r\n", array([array([array([])])])),
        (b"*3\r\n*0\r\n%0\r\n~0\r\n", array([array([]), Value::Map(vec![]), Value::Set(vec![])])),
        (b"*2\r\n-ERR in\r\n$-1\r\n", array([Value::error("ERR in"), Value::Null])),
        (b"%1\r\n+k\r\n*1\r\n+v\r\n", Value::Map(map("k", array([simple("v")])))),
        (b"~2\r\n:1\r\n:2\r\n", Value::Set(vec![Value::Integer(1), Value::Integer(2)])),
        (b">2\r\n+message\r\n$2\r\nhi\r\n", Value::Push(vec![simple("message"), bulk("hi")])),
        (
            b"|1\r\n+ttl\r\n:7\r\n$1\r\nv\r\n",
            Value::Attributed(map("ttl", Value::Integer(7)), Box::new(bulk("v"))),
        ),
        (b"|0\r\n+OK\r\n", Value::Attributed(vec![], Box::new(Value::OK))),
        (
            b"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n>1\r\n+x\r\n",
            Value::Attributed(
                map("a", Value::Integer(1)),
                Box::new(Value::Attributed(
                    map("b", Value::Integer(2)),
                    Box::new(Value::Push(vec![simple("x")])),
                )),
            ),
        ),
        (
            b"*2\r\n|1\r\n+a\r\n|1\r\n+deep\r\n:1\r\n:2\r\n:3\r\n|0\r\n*1\r\n:4\r\n",
            array([
                Value::Attributed(
                    map(
                        "a",
                        Value::Attributed(
                            map("deep", Value::Integer(1)),
                            Box::new(Value::Integer(2)),
                        ),
                    ),
                    Box::new(Value::Integer(3)),
                ),
                Value::Attributed(vec![], Box::new(array([Value::Integer(4)]))),
            ]),
        ),
        (b"$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", bulk("Hello")),
        (b"$?\r\n;0\r\n", bulk("")),
        (b"*?\r\n.\r\n", array([])),
        (b"*?\r\n:1\r\n*1\r\n:2\r\n.\r\n", array([Value::Integer(1), array([Value::Integer(2)])])),
        (b"~?\r\n+a\r\n.\r\n", Value::Set(vec![simple("a")])),
        (
            b"%?\r\n+k\r\n$?\r\n;1\r\nx\r\n;2\r\nyz\r\n;0\r\n.\r\n",
            Value::Map(map("k", bulk("xyz"))),
        ),
        (
            b"*3\r\n$?\r\n;2\r\nab\r\n;0\r\n*?\r\n~?\r\n.\r\n.\r\n$?\r\n;1\r\nc\r\n;0\r\n",
            array([bulk("ab"), array([Value::Set(vec![])]), bulk("c")]),
        ),
    ]
}

#[test]
fn every_type_of_the_protocol_is_understood() {
    for (frame, value) in corpus() {
        let reply = decode(frame);
        assert_eq!(reply.view().to_value(), value, "{}", frame.escape_ascii());
        assert_eq!(reply.view().to_reply().view().to_value(), value);
        assert_eq!(Reply::from(value.clone()).view().to_value(), value);
    }
}

#[test]
fn a_frame_cut_anywhere_is_the_same_frame() {
    let long_text = [b"$100\r\n", &[b'x'; 100][..], b"\r\n"].concat();
    let long_line = [b"-ERR ", &[b'x'; 100][..], b"\r\n"].concat();
    let mut frames: Vec<Vec<u8>> = corpus().into_iter().map(|(f, _)| f.to_vec()).collect();
    frames.extend([long_text, long_line]);
    for frame in &frames {
        // A second reply shows that the first took no byte too many or too few.
        let stream = [&frame[..], b":42\r\n"].concat();
        let whole = values(&feed(Limits::default(), [&stream[..]]).0);
        assert_eq!(whole.len(), 2);
        for cut in 0..=stream.len() {
            let (replies, error) = feed(Limits::default(), [&stream[..cut], &stream[cut..]]);
            assert_eq!((values(&replies), error), (whole.clone(), None));
        }
        let (replies, error) = feed(Limits::default(), stream.chunks(1));
        assert_eq!((values(&replies), error), (whole, None));
    }
}

#[test]
fn taking_frames_one_by_one_or_all_at_once_gives_the_same() {
    let mut stream: Vec<u8> = corpus().into_iter().flat_map(|(frame, _)| frame.to_vec()).collect();
    stream.extend_from_slice(&b"+OK\r\n:1\r\n$3\r\nabc\r\n".repeat(3));
    stream.extend_from_slice(&[b"$100\r\n", &[b'x'; 100][..], b"\r\n$2\r\nab\r\nbad"].concat());
    let (replies, error) = feed(Limits::default(), [&stream[..]]);
    for size in [1, 3, 10, 50, stream.len()] {
        let mut decoder = Decoder::new(Limits::default());
        let mut buffer = BytesMut::new();
        let mut taken = Vec::new();
        let mut end = Ok(());
        for piece in stream.chunks(size) {
            buffer.extend_from_slice(piece);
            end = end.and_then(|()| decoder.decode_each(&mut buffer, |reply| taken.push(reply)));
        }
        assert_eq!(values(&taken), values(&replies));
        assert_eq!(end.unwrap_err().fault(), error.unwrap().fault());
    }
}

#[test]
fn nothing_is_given_before_the_last_byte_has_come() {
    for (frame, _) in corpus() {
        for cut in 0..frame.len() {
            let (replies, error) = feed(Limits::default(), [&frame[..cut]]);
            assert!(replies.is_empty() && error.is_none(), "{}", frame[..cut].escape_ascii());
        }
    }
}

#[test]
fn every_nan_that_servers_have_sent_is_a_nan() {
    for text in ["nan", "-nan", "NAN", "nan(0x7ff)", "-nan(snan)"] {
        let reply = decode(format!(",{text}\r\n").as_bytes());
        assert!(reply.view().double().unwrap().is_nan(), "{text}");
    }
}

#[test]
fn what_is_not_resp_is_refused_at_once() {
    let deep = b"*1\r\n".repeat(100_000);
    let wide = [&b"*1000000\r\n"[..], &b"*1\r\n".repeat(1_000_000)].concat();
    let line = [b"+", &vec![b'x'; 65_537][..]].concat();
    let cases: &[(&[u8], Fault)] = &[
        (b"HTTP/1.1 400 Bad Request\r\n", Fault::UnknownType),
        (b"\x15\x03\x01\x00\x02", Fault::UnknownType),
        (b"\r\n", Fault::UnknownType),
        (b"?", Fault::UnknownType),
        (b"$-2\r\n", Fault::Length),
        (b"$-2", Fault::Length),
        (b"=-1\r\n", Fault::Length),
        (b"!-1\r\n", Fault::Length),
        (b"!-5\r\n", Fault::Length),
        (b"*-3\r\n", Fault::Length),
        (b"%-1\r\n", Fault::Length),
        (b"~-1\r\n", Fault::Length),
        (b">-1\r\n", Fault::Length),
        (b">?\r\n", Fault::Length),
        (b"|?\r\n", Fault::Length),
        (b"=?\r\n", Fault::Length),
        (b"$\r\n", Fault::Length),
        (b"$x", Fault::Length),
        (b"*1x", Fault::Length),
        (b"$ 1\r\n", Fault::Length),
        (b"$1\n", Fault::Length),
        (b"$000000000000000000001\r\n", Fault::Length),
        (b"$1\rx", Fault::Terminator),
        (b"$1\r\nab\r\n", Fault::Terminator),
        (b"$1\r\na\rx", Fault::Terminator),
        (b"!2\r\nab\n", Fault::Terminator),
        (b"+OK\n", Fault::Terminator),
        (b"+O\rK\r\n", Fault::Terminator),
        (b":1\n", Fault::Terminator),
        (b":\r\n", Fault::Integer),
        (b":1.5\r\n", Fault::Integer),
        (b":9223372036854775808\r\n", Fault::Integer),
        (b",\r\n", Fault::Double),
        (b",one\r\n", Fault::Double),
        (b"#\r\n", Fault::Boolean),
        (b"#true\r\n", Fault::Boolean),
        (b"(\r\n", Fault::BigNumber),
        (b"(1e5\r\n", Fault::BigNumber),
        (b"_x\r\n", Fault::Null),
        (b"=3\r\ntxt\r\n", Fault::Verbatim),
        (b"=5\r\ntextx\r\n", Fault::Verbatim),
        (b".\r\n", Fault::Misplaced),
        (b";1\r\n", Fault::Misplaced),
        (b"*1\r\n.\r\n", Fault::Misplaced),
        (b"*2\r\n>1\r\n", Fault::Misplaced),
        (b"$?\r\n:1\r\n", Fault::Misplaced),
        (b"$?\r\n;-1\r\n", Fault::Length),
        (b"*?\r\n.x", Fault::Terminator),
        (b"*?\r\n|0\r\n.\r\n", Fault::DanglingAttributes),
        (b"%?\r\n+k\r\n.\r\n", Fault::OddMap),
        (b"$536870913\r\n", Fault::BulkTooLong(512 << 20)),
        (b"$99999999999999999999\r\n", Fault::BulkTooLong(512 << 20)),
        (b"!536870913\r\n", Fault::BulkTooLong(512 << 20)),
        (b"$?\r\n;536870913\r\n", Fault::BulkTooLong(512 << 20)),
        (b"*16777217\r\n", Fault::TooManyElements(1 << 24)),
        (b"%8388609\r\n", Fault::TooManyElements(1 << 24)),
        (b"*9223372036854775807\r\n", Fault::TooManyElements(1 << 24)),
        (b"%18446744073709551615\r\n", Fault::TooManyElements(1 << 24)),
        (&deep, Fault::TooDeep(128)),
        (&wide, Fault::TooDeep(128)),
        (&line, Fault::LineTooLong(65_536)),
    ];
    for (bytes, expected) in cases {
        let shown = bytes[..bytes.len().min(30)].escape_ascii();
        assert_eq!(fault(bytes), *expected, "{shown}");
        // In pieces the fault is the same one, in the same place.
        let whole = feed(Limits::default(), [*bytes]).1.unwrap();
        let pieces = feed(Limits::default(), bytes.chunks(1)).1.unwrap();
        assert_eq!((whole.fault(), whole.offset()), (pieces.fault(), pieces.offset()), "{shown}");
    }
}

#[test]
fn what_is_exactly_at_a_limit_is_taken() {
    let limits =
        Limits { bulk_max: 100, depth_max: 3, elements_max: 4, line_max: 90, reply_max: 200 };
    let take = |frame: &[u8]| {
        let whole = feed(limits, [frame]);
        let pieces = feed(limits, frame.chunks(1));
        let faults = (whole.1.map(|e| e.fault()), pieces.1.map(|e| e.fault()));
        assert_eq!(faults.0, faults.1, "{}", frame.escape_ascii());
        faults.0
    };
    let text = |len: usize| [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    let line = |len: usize| [b"+", &vec![b'x'; len][..], b"\r\n"].concat();
    assert_eq!(take(&text(100)), None);
    assert_eq!(take(&text(101)), Some(Fault::BulkTooLong(100)));
    assert_eq!(take(&line(90)), None);
    assert_eq!(take(&line(91)), Some(Fault::LineTooLong(90)));
    assert_eq!(take(b"*1\r\n*1\r\n*1\r\n:1\r\n"), None);
    assert_eq!(take(b"*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"), Some(Fault::TooDeep(3)));
    assert_eq!(take(b"*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"), None);
    assert_eq!(take(b"*5\r\n"), Some(Fault::TooManyElements(4)));
    assert_eq!(take(b"%2\r\n:1\r\n:1\r\n:1\r\n:1\r\n"), None);
    assert_eq!(take(b"%3\r\n"), Some(Fault::TooManyElements(4)));
    let streamed = [b"*?\r\n", &b":1\r\n".repeat(5)[..], b".\r\n"].concat();
    assert_eq!(take(&streamed), Some(Fault::TooManyElements(4)));
    // 4 bytes of header, and two strings of 8 bytes more than their text.
    let two = |first, second| [b"*2\r\n", &text(first)[..], &text(second)].concat();
    assert_eq!(two(90, 92).len(), 200);
    assert_eq!(take(&two(90, 92)), None);
    assert_eq!(take(&two(90, 93)), Some(Fault::ReplyTooLong(200)));
    let chunk = [&b";30\r\n"[..], &[b'x'; 30], b"\r\n"].concat();
    let chunks = |count| [b"$?\r\n", &chunk.repeat(count)[..], b";0\r\n"].concat();
    assert_eq!(take(&chunks(2)), None);
    assert_eq!(take(&chunks(3)), Some(Fault::ReplyTooLong(200)));
}

#[test]
fn the_limits_of_a_handshake_give_way_to_the_normal_ones() {
    let mut decoder = Decoder::new(Limits::HANDSHAKE);
    let mut buffer = BytesMut::from("+OK\r\n$70000\r\n");
    assert!(decoder.decode(&mut buffer).unwrap().is_some());
    decoder.set_limits(Limits::default());
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    assert_eq!(decoder.missing(), 70_002);

    let (_, error) = feed(Limits::HANDSHAKE, [&b"$70000\r\n"[..]]);
    assert_eq!(error.unwrap().fault(), Fault::BulkTooLong(64 << 10));
}

#[test]
fn the_rest_of_a_large_string_is_known_to_the_byte() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::from("*2\r\n$1000\r\nabc");
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    assert_eq!(decoder.missing(), 999);
    buffer.extend_from_slice(&[b'x'; 997]);
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    assert_eq!(decoder.missing(), 2);
    buffer.extend_from_slice(b"\r\n:");
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    assert_eq!(decoder.missing(), 0);
}

#[test]
fn short_replies_leave_the_buffer_its_memory() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::with_capacity(1000);
    let mut kept = Vec::new();
    for _ in 0..1000 {
        buffer.extend_from_slice(b"$5\r\nhello\r\n+OK\r\n:1\r\n_\r\n");
        let start = buffer.as_ptr();
        for _ in 0..4 {
            kept.push(decoder.decode(&mut buffer).unwrap().unwrap());
        }
        assert!(buffer.is_empty());
        assert!(buffer.try_reclaim(1000));
        assert_eq!(buffer.capacity(), 1000);
        assert!(start >= buffer.as_ptr());
    }
}

#[test]
fn a_long_text_shares_the_memory_it_was_read_into() {
    let frame = [b"*1\r\n$100\r\n", &[b'x'; 100][..], b"\r\n"].concat();
    let mut buffer = BytesMut::from(&frame[..]);
    let range = buffer.as_ptr_range();
    let reply = Decoder::new(Limits::default()).decode(&mut buffer).unwrap().unwrap();
    let text = Vec::<Bytes>::from_reply(&reply).unwrap().remove(0);
    assert!(range.contains(&text.as_ptr()));
    let part = reply.view().get(0).unwrap().to_reply();
    assert!(range.contains(&part.view().payload().as_ptr()));
}

#[test]
fn attributes_belong_to_the_next_value_only() {
    let reply = decode(b"*2\r\n|1\r\n+ttl\r\n:7\r\n$1\r\na\r\n$1\r\nb\r\n");
    let view = reply.view();
    assert_eq!(view.len(), 2);
    assert!(view.attributes().is_none());
    let items: Vec<View<'_>> = view.items().collect();
    assert_eq!(items[0].payload(), b"a");
    let attributes = items[0].attributes().unwrap();
    assert_eq!((attributes.kind(), attributes.len()), (Kind::Attributes, 1));
    let (key, value) = attributes.pairs().next().unwrap();
    assert_eq!((key.payload(), value.integer()), (&b"ttl"[..], Some(7)));
    assert!(items[1].attributes().is_none());
    assert_eq!(Vec::<String>::from_reply(&reply).unwrap(), ["a", "b"]);

    let push = decode(b"|1\r\n+k\r\n+v\r\n>1\r\n+x\r\n");
    assert!(push.is_push() && push.view().attributes().is_some());
}

#[test]
fn a_reply_remembers_where_it_came_from() {
    let reply = Reply::integer(5).with_source(Source::Shadow);
    let sourced = Sourced::<i64>::from_reply(&reply).unwrap();
    assert_eq!(sourced, Sourced { value: 5, source: Source::Shadow });
    let inside = Option::<Sourced<i64>>::from_reply(&reply).unwrap().unwrap();
    assert_eq!(inside.source, Source::Shadow);
    let absent = Reply::null().with_source(Source::Unknown);
    let sourced = Sourced::<Option<i64>>::from_reply(&absent).unwrap();
    assert_eq!(sourced, Sourced { value: None, source: Source::Unknown });
    assert_eq!(decode(b"+OK\r\n").source(), Source::Server);
}

#[test]
fn a_printed_reply_is_short() {
    let many = Reply::from(array(vec![bulk(&"x".repeat(500)); 500]));
    let printed = format!("{many:?}");
    assert!(printed.len() < 1000, "{printed}");
    assert!(printed.contains("492 more") && printed.contains("468 bytes more"), "{printed}");
    let deep = (0..100).fold(Value::Null, |inner, _| array([inner]));
    assert!(format!("{:?}", Reply::from(deep)).len() < 100);
    assert_eq!(format!("{:?}", decode(b"$2\r\n\x00a\r\n")), r#"Reply(Bulk("\x00a"))"#);
}

#[test]
fn both_protocols_give_the_same_rust_values() {
    fn same<T: FromReply + PartialEq + std::fmt::Debug>(value: &Value, expected: &T) {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut frame = Vec::new();
            value.encode(&mut frame, protocol);
            let made = T::from_reply(&decode(&frame));
            assert_eq!(made.as_ref(), Ok(expected), "{}", frame.escape_ascii());
        }
        assert_eq!(T::from_reply(&Reply::from(value.clone())).as_ref(), Ok(expected));
    }
    let pairs = Value::Map(vec![(bulk("a"), Value::Integer(1)), (bulk("b"), Value::Integer(2))]);
    let nested =
        array([array([bulk("a"), Value::Integer(1)]), array([bulk("b"), Value::Integer(2)])]);
    let expected = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
    for value in [&pairs, &nested] {
        same(value, &expected);
        same(value, &expected.iter().cloned().collect::<BTreeMap<_, _>>());
        same(value, &expected.iter().cloned().collect::<hashbrown_map::Map>());
    }
    same(&pairs, &["a", "1", "b", "2"].map(str::to_owned).to_vec());
    same(
        &Value::Set(vec![bulk("x"), bulk("y")]),
        &BTreeSet::from(["x".to_owned(), "y".to_owned()]),
    );
    same(&Value::Set(vec![bulk("x")]), &vec!["x".to_owned()]);
    same(&Value::Boolean(true), &true);
    same(&Value::Boolean(false), &0i64);
    same(&Value::Boolean(true), &"1".to_owned());
    same(&Value::Boolean(true), &Bytes::from_static(b"1"));
    same(&Value::Double(1.5), &1.5f64);
    same(&Value::Double(1.5), &1.5f32);
    same(&Value::Double(3.0), &3i64);
    same(&Value::Double(1e300), &"1e300".to_owned());
    same(&Value::Double(f64::NEG_INFINITY), &f64::NEG_INFINITY);
    same(&Value::Integer(7), &7.0f64);
    same(&Value::Integer(7), &"7".to_owned());
    same(&bulk("7"), &7u16);
    same(&bulk("18446744073709551615"), &u64::MAX);
    same(
        &Value::BigNumber(Bytes::from_static(b"170141183460469231731687303715884105727")),
        &i128::MAX,
    );
    same(&Value::Verbatim(*b"txt", Bytes::from_static(b"hi")), &"hi".to_owned());
    same(&Value::Null, &None::<String>);
    same(&Value::Null, &());
    same(&Value::OK, &true);
    same(&Value::OK, &());
    same(&bulk("bytes"), &b"bytes".to_vec());
    same(&array([bulk("a"), Value::Integer(1), Value::Null]), &("a".to_owned(), 1u32, None::<i64>));
    same(&array([Value::Integer(1), Value::Integer(2)]), &[1i32, 2]);
    same(&array([]), &Vec::<(String, String)>::new());
    same(&Value::Map(vec![]), &BTreeMap::<String, String>::new());
    same(
        &array([Value::Integer(1), Value::error("ERR x y")]),
        &vec![Ok(1), Err(ServerError::new(b"ERR x y"))],
    );
    same(&Value::Attributed(vec![(bulk("k"), bulk("v"))], Box::new(Value::Integer(1))), &1i64);
    // XRANGE: identifiers and flat lists of fields.
    same(
        &array([array([bulk("1-0"), array([bulk("f"), bulk("v")])])]),
        &vec![("1-0".to_owned(), BTreeMap::from([("f".to_owned(), "v".to_owned())]))],
    );
}

mod hashbrown_map {
    pub(crate) type Map = hashbrown::HashMap<String, i32, std::hash::BuildHasherDefault<H>>;

    /// No hasher worth the name: all keys in one bucket.
    #[derive(Default)]
    pub(crate) struct H;

    impl std::hash::Hasher for H {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, _: &[u8]) {}
    }
}

#[test]
fn a_decode_error_says_what_was_expected_what_came_and_where() {
    fn check<T: FromReply>(value: Value, expected: &str) {
        let error = T::from_reply(&Reply::from(value)).err().expect(expected);
        assert_eq!(error.to_string(), expected);
    }
    let long = "abcdefghijklmnopqrstuvwxyz0123456789";
    check::<i64>(bulk("ten"), r#"expected an integer, got a bulk string "ten""#);
    check::<u16>(
        Value::Integer(70_000),
        r#"expected an unsigned integer of 16 bits, got an integer "70000""#,
    );
    check::<i64>(
        bulk(long),
        r#"expected an integer, got a bulk string "abcdefghijklmnopqrstuvwxyz012345" and 4 bytes more"#,
    );
    check::<String>(Value::Null, "expected a string, got null");
    check::<String>(
        Value::Bulk(Bytes::from_static(b"\xff\r")),
        r#"expected a string of UTF-8, got a bulk string "\xff\r""#,
    );
    check::<Bytes>(array([Value::Null]), "expected bytes, got an array of 1 element");
    check::<bool>(Value::Integer(2), r#"expected a boolean, got an integer "2""#);
    check::<bool>(Value::Null, "expected a boolean, got null");
    check::<f64>(simple("x"), r#"expected a number, got a simple string "x""#);
    check::<Vec<i64>>(Value::Integer(1), r#"expected an array, got an integer "1""#);
    check::<Vec<i64>>(Value::Null, "expected an array, got null");
    check::<(i64, i64)>(array([Value::Null]), "expected an array of 2, got an array of 1 element");
    check::<[i64; 2]>(array([]), "expected an array of 2, got an array of 0 elements");
    check::<BTreeMap<String, i64>>(
        array([bulk("a")]),
        "expected a map or an even number of elements, got an array of 1 element",
    );
    check::<Vec<(String, i64)>>(
        Value::Map(vec![(bulk("a"), Value::Integer(1)), (bulk("b"), simple("c"))]),
        r#"expected an integer at [1].1, got a simple string "c""#,
    );
    check::<Vec<(String, i64)>>(
        array([array([bulk("a"), Value::Integer(1)]), array([Value::Null, Value::Null])]),
        "expected a string at [1].0, got null",
    );
    check::<Vec<(String, Vec<i64>)>>(
        array([array([bulk("a"), array([Value::Integer(1), Value::Null])])]),
        "expected an integer at [0].1[1], got null",
    );
    check::<()>(Value::error("ERR no"), "the server answered an error: ERR no");
    check::<Vec<i64>>(
        array([Value::error("WRONGTYPE not a list")]),
        "the server answered an error at [0]: WRONGTYPE not a list",
    );
}

#[test]
fn an_error_is_told_apart_by_its_first_word() {
    let error = decode(b"-MOVED 3999 127.0.0.1:6381\r\n").error().unwrap();
    assert_eq!((error.code(), error.message()), ("MOVED", "3999 127.0.0.1:6381"));
    assert_eq!(error.to_string(), "MOVED 3999 127.0.0.1:6381");
    let error = decode(b"!3\r\nA\xffB\r\n").error().unwrap();
    assert_eq!((error.code(), error.message()), ("A\u{fffd}B", ""));
    assert!(decode(b"+OK\r\n").error().is_none());
}

#[test]
fn a_protocol_error_shows_few_bytes_and_escapes_them() {
    let (_, error) = feed(Limits::default(), [&b"*2\r\n:1\r\nHTTP/1.1 password\r\n"[..]]);
    let error = error.unwrap();
    assert_eq!(error.offset(), 8);
    assert_eq!(
        error.to_string(),
        r#"broken protocol at byte 8 of a reply: "HTTP/1.1" begins with no RESP type"#
    );
    let (_, error) = feed(Limits::default(), [&b"$1\r\na\x00\x01secret secret"[..]]);
    assert_eq!(
        error.unwrap().to_string(),
        r#"broken protocol at byte 5 of a reply: expected CR LF, found "\x00\x01secret""#
    );
}

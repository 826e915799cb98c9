//! The bytes of a server, recorded and played to every adapter: what comes of them is what comes of them
//! on the core alone, whatever pieces they arrive in and wherever they end.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Engine, Failure, FailureKind, Now, Request,
    commands::Run,
    engine::{Batch, ConnId, Input, Output},
    handle::Pipelines,
    resp::Value,
};
use unfazed_tests::{Dialogue, Manners, Peer, Server};

use crate::{
    adapters::{Adapter, scenarios},
    support::at,
};

scenarios! {
    recorded_bytes_come_to_the_same_as_on_the_core_alone,
    a_recording_that_ends_at_any_byte_comes_to_the_same_as_on_the_core_alone,
}

/// What is asked, in one pipeline: a reply of each kind.
const ASKED: [&[&str]; 10] = [
    &["GET", "missing"],
    &["SET", "text", "one"],
    &["GET", "text"],
    &["INCR", "number"],
    &["INCR", "text"],
    &["LPUSH", "list", "a", ""],
    &["LRANGE", "list", "0", "-1"],
    &["HSET", "hash", "field", "1.5"],
    &["HGETALL", "hash"],
    &["ZADD", "ranked", "INCR", "0.25", "member"],
];

/// What peers answer to that which are no servers, or no good ones.
const HOSTILE: [&[u8]; 12] = [
    b"_\r\n+OK\r\n$3\r\none\r\n:1\r\n-ERR no\r\n:2\r\n*0\r\n#t\r\n%0\r\n,0.25\r\n+EXTRA\r\n",
    b"_\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n+OK\r\n$3\r\none\r\n",
    b"|1\r\n+ttl\r\n:9\r\n_\r\n+OK\r\n$3\r\none\r\n:1\r\n-ERR no\r\n:2\r\n*0\r\n#t\r\n%0\r\n,inf\r\n",
    b"_\r\n+OK\r\n",
    b"_\r\n:2x\r\n+OK\r\n*0\r\n",
    b"$3\r\none!!:2\r\n+OK\r\n*0\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$3\r\none\r\n$-7\r\n",
    b"*99999999999999999999\r\n",
    b"%1\r\n+a\r\n,1.5\r\n(123456789012345678901234567890\r\n=7\r\ntxt:abc\r\n!9\r\nERR other\r\n",
    b"*1\r\n*1\r\n*1\r\n",
    b"",
];

fn recorded_bytes_come_to_the_same_as_on_the_core_alone<A: Adapter>() {
    let recorded = record();
    for trace in [&*recorded].into_iter().chain(HOSTILE) {
        let alone = on_the_core_alone(trace);
        for piece in [usize::MAX, 7, 1] {
            let what = trace.escape_ascii();
            assert_eq!(played::<A>(trace, piece), alone, "{what} in pieces of {piece}");
        }
    }
}

fn a_recording_that_ends_at_any_byte_comes_to_the_same_as_on_the_core_alone<A: Adapter>() {
    let recorded = record();
    for end in 0..recorded.len() {
        let cut = &recorded[..end];
        assert_eq!(played::<A>(cut, usize::MAX), on_the_core_alone(cut), "{}", cut.escape_ascii());
    }
}

/// Asks a server and gives what it answers, byte by byte.
fn record() -> Vec<u8> {
    const MARK: &[u8] = b"here it begins and ends";
    let server = Server::start();
    let mut asked = Vec::new();
    Request::new("HELLO").arg(&3).encode(&mut asked);
    Request::new("ECHO").arg(MARK).encode(&mut asked);
    ASKED.map(request).iter().for_each(|request| request.encode(&mut asked));
    Request::new("ECHO").arg(MARK).encode(&mut asked);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a server");
    stream.write_all(&asked).expect("it reads");
    let mut bytes = Vec::new();
    let marks = |bytes: &[u8]| -> Vec<usize> {
        let places = bytes.windows(MARK.len()).enumerate();
        places.filter(|(_, window)| *window == MARK).map(|(at, _)| at).collect()
    };
    while marks(&bytes).len() < 2 {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).expect("it answers");
        assert!(count > 0, "it closed: {}", bytes.escape_ascii());
        bytes.extend_from_slice(&some[..count]);
    }
    let [begin, end] = marks(&bytes)[..] else { panic!("an echo each") };
    let header = format!("${}\r\n", MARK.len());
    bytes[begin + MARK.len() + 2..end - header.len()].to_vec()
}

/// What comes of the pipeline on an adapter whose peer answers with these bytes and closes.
fn played<A: Adapter>(trace: &[u8], piece: usize) -> Vec<String> {
    let bytes = trace.to_vec();
    let peer = Peer::start(move |client: &mut Dialogue| {
        if client.number() > 0 || client.handshake(Manners::Resp3).is_none() {
            return;
        }
        // The handshake has given the first of them.
        if (1..ASKED.len()).all(|_| client.read_command().is_some()) {
            for piece in bytes.chunks(piece) {
                client.write(piece);
            }
        }
    });
    let config = at(peer.port()).attempts_max(1).client_info(false);
    let client = A::connect(config).expect("it shakes hands");
    let pending = client.pipeline_each(|p| ASKED.map(|words| p.run::<Value>(request(words))));
    A::block_on(A::gathered(pending)).iter().map(shown).collect()
}

/// The same without sockets, threads and time.
fn on_the_core_alone(trace: &[u8]) -> Vec<String> {
    let now = Now::new(Instant::now(), SystemTime::now());
    let config = at(6379).attempts_max(1).client_info(false);
    let mut engine = Engine::<()>::new(config, 1, now).expect("a sound configuration");
    engine.connect(None, now);
    let conn = asked_to_open(&mut engine);
    engine.handle_input(Input::Opened { conn }, now);
    write(&mut engine, conn, now);
    engine.received(conn, &mut BytesMut::from(&b"%0\r\n"[..]), now);
    let mut batch = Batch::new();
    for words in ASKED {
        batch.push(&request(words));
    }
    let (ticket, _) = engine.submit_batch(&batch, None, now).expect("there is room");
    write(&mut engine, conn, now);
    engine.received(conn, &mut BytesMut::from(trace), now);
    // Where the bytes have cost the connection already, this is the answer to that.
    engine.handle_input(Input::Closed { conn, cause: Cause::EndOfStream }, now);
    let outcomes = engine.take_batch(ticket).expect("everything has ended").spread();
    let outcomes = outcomes.expect("it is a pipeline").into_iter();
    outcomes.map(|outcome| shown(&outcome.map(|reply| reply.view().to_value()))).collect()
}

fn asked_to_open(engine: &mut Engine<()>) -> ConnId {
    loop {
        match engine.poll_output() {
            Output::Open { conn, .. } => return conn,
            Output::Wait(_) => panic!("it wants to connect"),
            _ => {}
        }
    }
}

fn write(engine: &mut Engine<()>, conn: ConnId, now: Now) {
    while let Some(chunk) = engine.take_output(conn) {
        let count = chunk.unwritten().len();
        engine.written(conn, chunk, count, now);
    }
}

fn request<'a>(words: &'a [&'a str]) -> Request<'a> {
    words[1..].iter().fold(Request::new(words[0]), Request::arg)
}

/// An outcome, without what is the peer's address, and without the bytes behind a fault, of which the more
/// is shown the more have come.
fn shown(outcome: &Result<Value, Failure>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(failure) => match failure.kind() {
            FailureKind::ConnectionLost(Cause::Protocol(fault)) => {
                format!("{:?}, {}", fault.fault(), failure.executed())
            }
            kind => format!("{kind:?}, {}", failure.executed()),
        },
    }
}

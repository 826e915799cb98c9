//! Recorded bytes, played to every adapter: what comes of them is what comes of them on the core alone,
//! whatever pieces they arrive in and wherever they end.

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Engine, Failure, FailureKind, Now, Request,
    commands::Run,
    engine::{Batch, ConnId, Input, Output},
    handle::Pipelines,
    resp::Value,
};
use unfazed_tests::{Dialogue, Manners, Peer};

use crate::{
    adapters::{Adapter, scenarios},
    support::at,
};

scenarios! {
    recorded_bytes_come_to_the_same_as_on_the_core_alone,
    a_recording_that_ends_at_any_byte_comes_to_the_same_as_on_the_core_alone,
}

/// What was asked, in one pipeline.
const ASKED: [&[&str]; 4] =
    [&["GET", "a"], &["INCR", "n"], &["SET", "b", "1"], &["LRANGE", "l", "0", "-1"]];

/// What peers answered to that, well or badly.
const TRACES: [&[u8]; 14] = [
    b"$3\r\none\r\n:2\r\n+OK\r\n*2\r\n$1\r\nx\r\n$-1\r\n",
    b"_\r\n:-1\r\n+OK\r\n*0\r\n",
    b"-WRONGTYPE not that kind\r\n-ERR value is not an integer\r\n+OK\r\n~1\r\n#t\r\n",
    b"$3\r\none\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n:2\r\n+OK\r\n*0\r\n",
    b"|1\r\n+ttl\r\n:9\r\n$3\r\none\r\n:2\r\n+OK\r\n*0\r\n",
    b"$3\r\none\r\n:2\r\n+OK\r\n*0\r\n+EXTRA\r\n",
    b"$3\r\none\r\n:2\r\n",
    b"$3\r\none\r\n:2x\r\n+OK\r\n*0\r\n",
    b"$3\r\none!!:2\r\n+OK\r\n*0\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$3\r\none\r\n$-7\r\n",
    b"*99999999999999999999\r\n",
    b"%1\r\n+a\r\n,1.5\r\n(123456789012345678901234567890\r\n=7\r\ntxt:abc\r\n!9\r\nERR other\r\n",
    b"",
];

fn recorded_bytes_come_to_the_same_as_on_the_core_alone<A: Adapter>() {
    for trace in TRACES {
        let alone = on_the_core_alone(trace);
        for piece in [usize::MAX, 7, 1] {
            assert_eq!(
                played::<A>(trace, piece),
                alone,
                "{} in pieces of {piece}",
                trace.escape_ascii()
            );
        }
    }
}

fn a_recording_that_ends_at_any_byte_comes_to_the_same_as_on_the_core_alone<A: Adapter>() {
    let trace = TRACES[0];
    for end in 0..trace.len() {
        let cut = &trace[..end];
        assert_eq!(played::<A>(cut, usize::MAX), on_the_core_alone(cut), "{}", cut.escape_ascii());
    }
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
    let [get, incr, set, lrange] = ASKED.map(request);
    let pending = client
        .pipeline_each(|p| (p.run::<Value>(get), p.run::<Value>(incr), p.run(set), p.run(lrange)));
    let (get, incr, set, lrange) = A::block_on(A::gathered(pending));
    [get, incr, set, lrange].into_iter().map(|outcome| shown(&outcome)).collect()
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
    ASKED.map(request).iter().for_each(|request| batch.push(request));
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

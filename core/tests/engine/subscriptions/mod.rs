//! Subscriptions against bytes: on the connection of requests, and on connections of their own.

mod own;
mod shared;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Engine, Executed, FailureKind, Now, Request,
    config::ProtocolChoice,
    engine::{ConnId, Input, Output, StreamId, Ticket},
    pubsub::{Incoming, Overflow, StreamOptions, TopicKind},
};

const HELLO: &str = "%1\r\n+server\r\n+redis\r\n";

/// One engine, its clock, and the server's side of its connections.
struct World {
    engine: Engine<u32>,
    now: Now,
    inboxes: BTreeMap<ConnId, BytesMut>,
    /// Asked to be opened, the latest last.
    opened: Vec<ConnId>,
    closed: Vec<ConnId>,
    /// On which reading may go on.
    resumed: Vec<ConnId>,
    timer: Option<Instant>,
}

impl World {
    fn new(config: Config) -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let engine = Engine::new(config, 7, now).expect("a sound configuration");
        World {
            engine,
            now,
            inboxes: BTreeMap::new(),
            opened: Vec::new(),
            closed: Vec::new(),
            resumed: Vec::new(),
            timer: None,
        }
    }

    fn plain() -> Config {
        Config::standalone("127.0.0.1", 6379).client_info(false).ping_interval(None)
    }

    fn resp2() -> Config {
        // With a PING interval at all, the handshake has a PING where it has nothing else.
        let rarely = Duration::from_secs(3_600);
        World::plain().protocol(ProtocolChoice::Resp2).ping_interval(rarely)
    }

    /// A client whose connection for requests is ready, and that connection.
    fn live(config: Config) -> (Self, ConnId) {
        let resp3 = config.protocol != ProtocolChoice::Resp2;
        let mut world = World::new(config);
        let ticket = world.engine.connect(None, world.now);
        let conn = world.open();
        world.say(conn, if resp3 { HELLO } else { "+PONG\r\n" });
        assert!(world.has_ended_well(ticket));
        (world, conn)
    }

    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Open { conn, .. } => self.opened.push(conn),
                Output::Close { conn, .. } => self.closed.push(conn),
                Output::Read { conn } => self.resumed.push(conn),
                Output::Wait(at) => {
                    self.timer = at;
                    return;
                }
                _ => {}
            }
        }
    }

    /// Opens the connection that was asked for last; gives what it says first.
    fn open(&mut self) -> ConnId {
        self.drain();
        let conn = self.opened.pop().expect("a connection is asked for");
        self.engine.handle_input(Input::Opened { conn }, self.now);
        self.drain();
        self.write(conn);
        conn
    }

    /// Opens a connection of its own for subscriptions, up to the end of its handshake.
    fn open_side(&mut self, hello: &str) -> ConnId {
        let conn = self.open();
        self.say(conn, hello);
        conn
    }

    /// What goes out, with spaces for everything that is not a word.
    fn write(&mut self, conn: ConnId) -> String {
        self.drain();
        let mut sent = Vec::new();
        while let Some(chunk) = self.engine.take_output(conn) {
            let bytes = chunk.unwritten().to_vec();
            sent.extend_from_slice(&bytes);
            self.engine.written(conn, chunk, bytes.len(), self.now);
        }
        let text = String::from_utf8(sent).expect("text");
        let is_header = |word: &str| {
            let number = word.strip_prefix(['*', '$']);
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        };
        let words = text.split("\r\n").filter(|word| !is_header(word));
        words.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    fn say(&mut self, conn: ConnId, bytes: &str) {
        let inbox = self.inboxes.entry(conn).or_default();
        inbox.extend_from_slice(bytes.as_bytes());
        self.engine.received(conn, inbox, self.now);
        self.drain();
    }

    fn lose(&mut self, conn: ConnId, cause: Cause) {
        self.inboxes.remove(&conn);
        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
        self.drain();
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = self.now + at.saturating_duration_since(self.now.instant);
            self.engine.handle_input(Input::Timeout, self.now);
            self.drain();
        }
        self.now = self.now + (end - self.now.instant);
    }

    fn stream(&mut self) -> StreamId {
        self.engine.open_stream(StreamOptions::default()).expect("there is room")
    }

    fn subscribe(&mut self, stream: StreamId, kind: TopicKind, names: &[&str]) -> Ticket {
        let ticket = self.engine.subscribe(stream, kind, names, None, None, self.now);
        self.drain();
        ticket.expect("there is room")
    }

    fn unsubscribe(&mut self, stream: StreamId, kind: TopicKind, names: &[&str]) -> Ticket {
        let ticket = self.engine.unsubscribe(stream, kind, names, None, self.now);
        self.drain();
        ticket.expect("it is open")
    }

    /// A stream that is subscribed to one channel.
    fn subscribed(&mut self, conn: ConnId, name: &str) -> StreamId {
        let stream = self.stream();
        let ticket = self.subscribe(stream, TopicKind::Channel, &[name]);
        self.write(conn);
        self.say(conn, &confirm("subscribe", name));
        assert!(self.has_ended_well(ticket));
        stream
    }

    fn has_ended_well(&mut self, ticket: Ticket) -> bool {
        matches!(self.engine.take_wait(ticket), Some(Ok(())))
    }

    /// Everything that there is to be read, as text.
    fn read(&mut self, stream: StreamId) -> Vec<String> {
        let mut items = VecDeque::new();
        let mut all = Vec::new();
        loop {
            let open = self.engine.take_incoming(stream, &mut items, self.now);
            if items.is_empty() {
                all.extend((!open).then(|| "end".to_owned()));
                self.drain();
                return all;
            }
            all.extend(items.drain(..).map(|item| match item {
                Incoming::Message(message) => {
                    let pattern = message.pattern().map(String::from_utf8_lossy);
                    let pattern = pattern.map_or(String::new(), |pattern| format!(" by {pattern}"));
                    let payload = message.payload.to_str().expect("text");
                    format!("{}{pattern}: {payload}", message.channel_name())
                }
                Incoming::Lost { cause } => format!("lost: {cause}"),
                Incoming::Restored => "restored".into(),
                Incoming::Dropped { count } => format!("dropped {count}"),
                other => format!("{other:?}"),
            }));
        }
    }

    fn counts(&self) -> (usize, usize, usize) {
        let status = self.engine.status();
        (status.streams, status.subscriptions, status.subscriptions_confirmed)
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn confirm(what: &str, name: &str) -> String {
    format!(">3\r\n{}{}:1\r\n", bulk(what), bulk(name))
}

fn message(channel: &str, payload: &str) -> String {
    format!(">3\r\n{}{}{}", bulk("message"), bulk(channel), bulk(payload))
}

/// As RESP2 says it.
fn array(push: &str) -> String {
    push.replace('>', "*")
}

fn lost(cause: &Cause) -> String {
    format!("lost: {cause}")
}

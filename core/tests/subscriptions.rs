//! Subscriptions against bytes: what the engine says and does, step by step.
#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

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

#[test]
fn a_subscription_goes_on_the_connection_of_requests_and_takes_nobodys_reply() {
    let (mut world, conn) = World::live(World::plain());
    let get = Request::new("GET").arg("k");
    let (before, _) = world.engine.submit(&get, None, world.now).expect("room");
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    let patterns = world.subscribe(stream, TopicKind::Pattern, &["*"]);
    let (after, _) = world.engine.submit(&get, None, world.now).expect("room");
    assert_eq!(world.write(conn), "GET k SUBSCRIBE a b PSUBSCRIBE * GET k");
    world.say(conn, &format!("+1\r\n{}", confirm("subscribe", "a")));
    assert!(world.engine.take(before).expect("answered").is_ok());
    assert!(world.engine.take_wait(ticket).is_none(), "half of it is confirmed");
    world.say(conn, &message("a", "early"));
    world.say(conn, &(confirm("subscribe", "b") + &confirm("psubscribe", "*") + "+2\r\n"));
    assert!(world.has_ended_well(ticket) && world.has_ended_well(patterns));
    assert!(world.engine.take(after).expect("answered").is_ok());
    let by_pattern = [bulk("pmessage"), bulk("*"), bulk("x"), bulk("2")].concat();
    world.say(conn, &(message("b", "1") + ">4\r\n" + &by_pattern));
    assert_eq!(world.read(stream), ["a: early", "b: 1", "x by *: 2"]);
    assert_eq!(world.counts(), (1, 3, 3));
}

#[test]
fn a_refused_subscription_is_one_error_and_takes_nobodys_reply_either() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["secret"]);
    let (get, _) =
        world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-NOPERM not for you\r\n+v\r\n");
    let failure = world.engine.take_wait(ticket).expect("it has ended").expect_err("refused");
    assert_eq!(
        failure.server_error().map(|error| error.code().to_owned()).as_deref(),
        Some("NOPERM")
    );
    assert_eq!((failure.executed(), failure.command()), (Executed::No, "SUBSCRIBE"));
    assert!(world.engine.take(get).expect("answered").is_ok());
    assert_eq!(world.counts(), (1, 0, 0), "nothing is wanted any longer");
    world.wait(Duration::from_secs(20));
    assert_eq!(world.write(conn), "");
}

#[test]
fn one_refused_channel_does_not_keep_the_others_from_coming_back() {
    let (mut world, conn) = World::live(World::plain());
    let (first, second) = (world.subscribed(conn, "a"), world.subscribed(conn, "b"));
    world.lose(conn, Cause::Reset);
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a b");
    world.say(conn, "-NOPERM not for you\r\n");
    assert_eq!(world.write(conn), "SUBSCRIBE a SUBSCRIBE b");
    world.say(conn, &(confirm("subscribe", "a") + "-NOPERM not for you\r\n"));
    assert_eq!(world.read(first), [lost(&Cause::Reset), "restored".into()]);
    let refused = "lost: subscription refused: NOPERM not for you".to_owned();
    assert_eq!(world.read(second), [lost(&Cause::Reset), refused]);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE b", "it is tried again, not at once and not in vain");
    world.say(conn, &confirm("subscribe", "b"));
    assert_eq!(world.read(second), ["restored"]);
}

#[test]
fn a_reply_where_a_confirmation_is_owed_is_out_of_step() {
    for bytes in ["+OK\r\n".to_owned(), confirm("subscribe", "x"), confirm("ssubscribe", "a")] {
        let (mut world, conn) = World::live(World::plain());
        let stream = world.stream();
        world.subscribe(stream, TopicKind::Channel, &["a"]);
        world.write(conn);
        world.say(conn, &bytes);
        assert_eq!(world.closed, [conn], "{bytes:?}");
    }
    // Half confirmed and then refused: nobody does that.
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    world.write(conn);
    world.say(conn, &(confirm("subscribe", "a") + "-ERR no\r\n"));
    assert_eq!(world.closed, [conn]);
}

#[test]
fn a_confirmation_of_what_was_not_even_sent_costs_the_connection() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.say(conn, &confirm("subscribe", "a"));
    assert_eq!(world.closed, [conn]);
}

#[test]
fn an_unsubscription_that_nobody_asked_for_is_legal_and_takes_no_reply() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let get = Request::new("GET").arg("k");
    let (ticket, _) = world.engine.submit(&get, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, &confirm("unsubscribe", "a"));
    world.say(conn, &confirm("sunsubscribe", "never heard of"));
    world.say(conn, &confirm("punsubscribe", "a"));
    world.say(conn, ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
    assert!(world.engine.take(ticket).is_none(), "no reply has come");
    world.say(conn, "+v\r\n");
    assert!(world.engine.take(ticket).expect("answered").is_ok());
    assert_eq!(world.read(stream), [lost(&Cause::Unsubscribed)]);
    world.say(conn, &message("a", "for nobody"));
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &(confirm("subscribe", "a") + &message("a", "back")));
    assert_eq!(world.read(stream), ["restored", "a: back"]);
    assert!(world.closed.is_empty());
}

#[test]
fn an_unasked_unsubscription_that_crosses_our_own_is_no_anomaly() {
    // Twice, or once and refused: the second is nobody's reply.
    for second in [confirm("unsubscribe", "a"), "-NOSUB not subscribed\r\n".to_owned()] {
        let (mut world, conn) = World::live(World::plain());
        let stream = world.subscribed(conn, "a");
        let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
        let get = Request::new("GET").arg("k");
        let (answer, _) = world.engine.submit(&get, None, world.now).expect("room");
        assert_eq!(world.write(conn), "UNSUBSCRIBE a GET k");
        world.say(conn, &confirm("unsubscribe", "a"));
        assert!(world.has_ended_well(ticket));
        world.say(conn, &second);
        assert!(world.engine.take(answer).is_none(), "{second:?}");
        world.say(conn, "+v\r\n");
        assert!(world.engine.take(answer).expect("answered").is_ok());
        assert!(world.closed.is_empty());
    }
}

#[test]
fn a_script_that_speaks_of_no_subscription_is_not_taken_for_the_server() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let eval = Request::new("EVAL").arg("code").arg("0");
    let (first, _) = world.engine.submit(&eval, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-NOSUB says the script\r\n");
    let failure = world.engine.take(first).expect("answered").expect_err("an error");
    assert!(matches!(failure.kind(), FailureKind::Server(_)));
    // Right after an unsubscription nobody can tell; then the connection goes, and no reply is wrong.
    world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    let (second, _) = world.engine.submit(&eval, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, &(confirm("unsubscribe", "a") + "-NOSUB says who\r\n"));
    assert_eq!(world.closed, [conn]);
    assert!(world.engine.take(second).is_none());
}

#[test]
fn an_unsubscription_that_is_refused_is_done() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    world.write(conn);
    world.say(conn, "-NOSUB not subscribed\r\n");
    assert!(world.has_ended_well(ticket));
    assert_eq!(world.counts(), (1, 0, 0));
}

#[test]
fn streams_on_one_channel_share_one_subscription_and_each_gets_every_message() {
    let (mut world, conn) = World::live(World::plain());
    let first = world.subscribed(conn, "a");
    let second = world.stream();
    let ticket = world.subscribe(second, TopicKind::Channel, &["a"]);
    assert!(world.has_ended_well(ticket), "it is confirmed already");
    assert_eq!(world.write(conn), "");
    world.say(conn, &message("a", "1"));
    world.engine.close_stream(first, world.now);
    assert_eq!(world.write(conn), "", "somebody wants it still");
    world.say(conn, &message("a", "2"));
    assert_eq!(world.read(second), ["a: 1", "a: 2"]);
    assert_eq!(world.read(first), ["end"]);
    world.engine.close_stream(second, world.now);
    assert_eq!(world.write(conn), "UNSUBSCRIBE a");
    world.say(conn, &(message("a", "late") + &confirm("unsubscribe", "a")));
    assert_eq!(world.counts(), (0, 0, 0));
}

#[test]
fn nothing_arrives_after_an_unsubscription_not_even_what_had_been_received() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.say(conn, &message("a", "unread"));
    let ticket = world.unsubscribe(stream, TopicKind::Channel, &["a", "never wanted"]);
    assert_eq!(world.write(conn), "UNSUBSCRIBE a");
    world.say(conn, &message("a", "on its way"));
    assert!(world.engine.take_wait(ticket).is_none());
    // Wanted again before the server has dropped it: what comes in between would be a gap unannounced.
    let again = world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.say(conn, &message("a", "between"));
    world.say(conn, &confirm("unsubscribe", "a"));
    assert!(world.has_ended_well(ticket));
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &(confirm("subscribe", "a") + &message("a", "anew")));
    assert!(world.has_ended_well(again));
    assert_eq!(world.read(stream), ["a: anew"]);
}

#[test]
fn a_stream_outlives_its_connection_and_tells_of_the_gap() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let other = world.subscribed(conn, "b");
    let more = world.subscribe(stream, TopicKind::Pattern, &["p*"]);
    world.write(conn);
    world.say(conn, &message("a", "before"));
    world.lose(conn, Cause::Reset);
    assert!(world.engine.take_wait(more).is_none(), "it waits for the next connection");
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a b PSUBSCRIBE p*");
    let confirmed = ["a", "b"].map(|name| confirm("subscribe", name)).concat();
    world.say(conn, &(confirmed + &message("a", "after")));
    assert_eq!(
        world.read(stream),
        ["a: before".into(), lost(&Cause::Reset), "restored".into(), "a: after".into()],
        "the pattern was never there to be lost",
    );
    world.say(conn, &confirm("psubscribe", "p*"));
    assert!(world.has_ended_well(more));
    assert_eq!(world.read(other), [lost(&Cause::Reset), "restored".into()]);
}

#[test]
fn ten_thousand_channels_come_back_in_slices_with_commands_in_between() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let names: Vec<String> = (0..10_000).map(|number| format!("channel:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.subscribe(stream, TopicKind::Channel, &names);
    let confirm_all = |world: &mut World, conn, mut left: usize| {
        let mut slices = 0;
        while left > 0 {
            let (get, _) =
                world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
            let sent = world.write(conn);
            let names: Vec<&str> =
                sent.split(' ').filter(|word| word.starts_with("channel:")).collect();
            assert!(!names.is_empty() && names.len() <= 1_000, "{}", names.len());
            left -= names.len();
            slices += 1;
            let pushes: String = names.iter().map(|name| confirm("subscribe", name)).collect();
            world.say(conn, &(pushes + "+v\r\n"));
            assert!(world.engine.take(get).expect("answered").is_ok());
        }
        slices
    };
    assert_eq!(confirm_all(&mut world, conn, 10_000), 10);
    assert_eq!(world.counts(), (1, 10_000, 10_000));
    world.lose(conn, Cause::EndOfStream);
    world.wait(Duration::from_millis(100));
    let conn = world.open_side(HELLO);
    assert_eq!(confirm_all(&mut world, conn, 10_000), 10);
    assert_eq!(world.read(stream), [lost(&Cause::EndOfStream), "restored".into()]);
}

#[test]
fn what_an_old_connection_still_says_reaches_nobody() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.wait(Duration::from_secs(2));
    // A replica: the connection is retired, and has a reply to give still.
    let set = Request::new("SET").arg("k").arg("v");
    let _ = world.engine.submit(&set, None, world.now).expect("room");
    let get = Request::new("GET").arg("k");
    let _ = world.engine.submit(&get, None, world.now).expect("room");
    world.write(conn);
    world.say(conn, "-READONLY a replica\r\n");
    let next = world.open_side(HELLO);
    assert!(world.write(next).contains("SUBSCRIBE a"));
    world.say(next, &(confirm("subscribe", "a") + &message("a", "1")));
    world.say(conn, &message("a", "1"));
    assert_eq!(world.read(stream), [lost(&Cause::NotMaster), "restored".into(), "a: 1".into()]);
}

#[test]
fn a_subscription_waits_for_the_server_within_its_deadline_and_leaves_nothing_behind() {
    let mut world = World::new(World::plain().deadline(Duration::from_secs(1)));
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.opened.pop().expect("it dials");
    world.lose(conn, Cause::Refused);
    world.wait(Duration::from_secs(1));
    let failure = world.engine.take_wait(ticket).expect("it is over").expect_err("too late");
    assert!(failure.is_timeout() && failure.executed() == Executed::No, "{failure}");
    assert_eq!(world.counts(), (1, 0, 0));
    world.engine.close_stream(stream, world.now);
    assert_eq!(world.counts(), (0, 0, 0));
    assert_eq!(world.engine.status().tickets, 0);
}

#[test]
fn given_up_it_takes_back_what_it_added_and_detached_it_goes_on() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    world.engine.cancel(ticket, world.now);
    assert_eq!(world.write(conn), "SUBSCRIBE b", "it was on its way");
    world.say(conn, &confirm("subscribe", "b"));
    assert_eq!(world.write(conn), "UNSUBSCRIBE b");
    world.say(conn, &confirm("unsubscribe", "b"));
    let ticket = world.subscribe(stream, TopicKind::Channel, &["c"]);
    world.engine.detach(ticket);
    assert_eq!(world.engine.status().tickets, 0);
    world.write(conn);
    world.say(conn, "-NOPERM not yet\r\n");
    assert_eq!(world.read(stream), ["lost: subscription refused: NOPERM not yet"]);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.write(conn), "SUBSCRIBE c");
    world.say(conn, &confirm("subscribe", "c"));
    assert_eq!(world.read(stream), ["restored"]);
    assert_eq!(world.counts(), (1, 2, 2));
}

#[test]
fn two_requests_for_one_topic_depend_on_nobody_but_the_server() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.stream();
    let first = world.subscribe(stream, TopicKind::Channel, &["a", "a"]);
    let second = world.subscribe(stream, TopicKind::Channel, &["a"]);
    world.engine.cancel(first, world.now);
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(second));
    assert_eq!(world.counts(), (1, 1, 1));
    let third = world.subscribe(stream, TopicKind::Channel, &["b"]);
    let fourth = world.subscribe(stream, TopicKind::Channel, &["b"]);
    world.write(conn);
    world.say(conn, "-NOPERM no\r\n");
    for ticket in [third, fourth] {
        assert!(world.engine.take_wait(ticket).expect("it has ended").is_err());
    }
    assert_eq!(world.counts(), (1, 1, 1));
}

#[test]
fn there_are_no_more_subscriptions_than_there_may_be() {
    let (mut world, _) = World::live(World::plain().subscriptions_max(3));
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a", "b"]);
    let names = ["c", "d"];
    let refused =
        world.engine.subscribe(stream, TopicKind::Channel, &names[..], None, None, world.now);
    let failure = refused.expect_err("that would be four");
    assert!(matches!(failure.kind(), FailureKind::SubscriptionsFull(_)), "{failure}");
    assert_eq!(world.counts().1, 2, "none of them was added");
    world.stream();
    world.stream();
    let failure = world.engine.open_stream(StreamOptions::default()).expect_err("the fourth");
    assert!(matches!(failure.kind(), FailureKind::SubscriptionsFull(_)), "{failure}");
}

#[test]
fn the_oldest_messages_go_when_nobody_reads_and_the_stream_says_how_many() {
    let (mut world, conn) = World::live(World::plain().subscription_messages_max(3));
    let stream = world.subscribed(conn, "a");
    for number in 0..10 {
        world.say(conn, &message("a", &number.to_string()));
    }
    let status = world.engine.status();
    assert_eq!((status.messages_waiting, status.messages_dropped), (3, 7));
    assert_eq!(world.read(stream), ["dropped 7", "a: 7", "a: 8", "a: 9"]);
    assert_eq!(world.engine.status().messages_waiting, 0);
}

#[test]
fn in_resp2_subscriptions_have_a_connection_of_their_own_for_as_long_as_there_are_any() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let patterns = world.subscribe(stream, TopicKind::Pattern, &["*"]);
    assert_eq!(world.write(main), "");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a PSUBSCRIBE *");
    world.say(side, &array(&(confirm("subscribe", "a") + &confirm("psubscribe", "*"))));
    assert!(world.has_ended_well(ticket) && world.has_ended_well(patterns));
    world.say(side, &array(&message("a", "1")));
    let by_pattern = [bulk("pmessage"), bulk("*"), bulk("a"), bulk("1")].concat();
    world.say(side, &format!("*4\r\n{by_pattern}"));
    assert_eq!(world.read(stream), ["a: 1", "a by *: 1"]);
    let gone = world.unsubscribe(stream, TopicKind::Channel, &["a"]);
    world.engine.close_stream(stream, world.now);
    assert_eq!(world.write(side), "UNSUBSCRIBE a PUNSUBSCRIBE *");
    assert!(world.closed.is_empty());
    world.say(side, &array(&(confirm("unsubscribe", "a") + &confirm("punsubscribe", "*"))));
    assert!(world.has_ended_well(gone));
    assert_eq!(world.closed, [side]);
    world.lose(side, Cause::Local);
    assert_eq!(world.engine.status().connections, 1);
    world.wait(Duration::from_secs(20));
    assert!(world.opened.is_empty());
}

#[test]
fn in_resp2_a_ping_between_messages_is_answered_by_an_array() {
    let config = World::resp2().ping_interval(Duration::from_secs(1));
    let (mut world, main) = World::live(config);
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    for _ in 0..3 {
        world.wait(Duration::from_secs(1));
        world.write(main);
        world.say(main, "+PONG\r\n");
        assert_eq!(world.write(side), "PING");
        world.say(side, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    }
    assert!(world.closed.is_empty() && world.read(stream).is_empty());
    world.wait(Duration::from_secs(1));
    world.write(main);
    world.say(main, "+PONG\r\n");
    world.write(side);
    world.wait(Duration::from_millis(2_100));
    assert!(world.closed.contains(&side), "its silence is noticed");
}

#[test]
fn a_connection_of_its_own_is_made_again_and_says_nothing_of_the_server() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let mut side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    for _ in 0..50 {
        world.wait(Duration::from_secs(1));
        world.lose(side, Cause::EndOfStream);
        assert_eq!(world.read(stream), [lost(&Cause::EndOfStream)]);
        // It lived for long, so the next one comes at once.
        side = world.open_side("+PONG\r\n");
        assert_eq!(world.write(side), "SUBSCRIBE a");
        world.say(side, &array(&confirm("subscribe", "a")));
        assert_eq!(world.read(stream), ["restored"]);
    }
    world.lose(side, Cause::Reset);
    assert!(world.opened.is_empty(), "one that had hardly begun is waited for");
    for _ in 0..50 {
        world.wait(Duration::from_secs(1));
        let side = world.opened.pop().expect("it never gives up");
        world.lose(side, Cause::Refused);
    }
    let status = world.engine.status();
    assert_eq!(status.health, unfazed_core::Health::Live);
    let (get, _) =
        world.engine.submit(&Request::new("GET").arg("k"), None, world.now).expect("room");
    world.write(main);
    world.say(main, "+v\r\n");
    assert!(world.engine.take(get).expect("answered").is_ok());
}

#[test]
fn a_connection_of_its_own_waits_while_the_server_is_away() {
    let (mut world, main) = World::live(World::resp2());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side("+PONG\r\n");
    world.write(side);
    world.say(side, &array(&confirm("subscribe", "a")));
    world.lose(main, Cause::Reset);
    world.lose(side, Cause::Reset);
    for _ in 0..20 {
        world.wait(Duration::from_secs(1));
        assert_eq!(world.opened.len(), 1, "one dial at a time, that for requests");
        let dialled = world.opened.pop().expect("just counted");
        world.lose(dialled, Cause::Refused);
    }
    world.wait(Duration::from_secs(1));
    world.open_side("+PONG\r\n");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &array(&confirm("subscribe", "a")));
    assert_eq!(world.read(stream), [lost(&Cause::Reset), "restored".into()]);
}

#[test]
fn shard_channels_have_a_connection_of_their_own_and_one_slot_a_command() {
    let (mut world, main) = World::live(World::plain());
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Shard, &["{x}1", "{y}1", "{x}2"]);
    assert_eq!(world.write(main), "");
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SSUBSCRIBE {x}1 SSUBSCRIBE {y}1 SSUBSCRIBE {x}2");
    let names = ["{x}1", "{y}1", "{x}2"];
    world.say(side, &names.map(|name| confirm("ssubscribe", name)).concat());
    assert!(world.has_ended_well(ticket));
    let sent = format!(">3\r\n{}{}{}", bulk("smessage"), bulk("{y}1"), bulk("hello"));
    world.say(side, &sent);
    assert_eq!(world.read(stream), ["{y}1: hello"]);
    world.wait(Duration::from_secs(1));
    world.lose(side, Cause::Reset);
    let side = world.open_side(HELLO);
    let sent = world.write(side);
    assert!(sent.contains("SSUBSCRIBE {x}1 {x}2"), "those of one slot go together: {sent}");
}

#[test]
fn a_slot_that_moves_is_told_and_its_channel_asked_for_again() {
    let (mut world, _) = World::live(World::plain());
    let stream = world.stream();
    world.subscribe(stream, TopicKind::Shard, &["a", "b"]);
    let side = world.open_side(HELLO);
    world.write(side);
    world.say(side, &["a", "b"].map(|name| confirm("ssubscribe", name)).concat());
    world.say(side, &confirm("sunsubscribe", "a"));
    assert_eq!(world.read(stream), [lost(&Cause::SlotMoved)]);
    let mut delays = Vec::new();
    for _ in 0..4 {
        let before = world.now.instant;
        while world.write(side).is_empty() {
            world.wait(Duration::from_millis(10));
        }
        delays.push(world.now.instant - before);
        world.say(side, "-MOVED 15495 127.0.0.1:7001\r\n");
    }
    assert!(delays.windows(2).all(|pair| pair[1] > pair[0]), "{delays:?}");
    while world.write(side).is_empty() {
        world.wait(Duration::from_millis(10));
    }
    let refused = "lost: subscription refused: MOVED 15495 127.0.0.1:7001";
    assert_eq!(world.read(stream), [refused], "told once");
    world.say(side, &confirm("ssubscribe", "a"));
    assert_eq!(world.read(stream), ["restored"]);
}

#[test]
fn a_slot_that_moves_while_its_channel_is_dropped_upsets_nothing() {
    for answer in [confirm("sunsubscribe", "a"), "-MOVED 15495 127.0.0.1:7001\r\n".to_owned()] {
        let (mut world, _) = World::live(World::plain());
        let stream = world.stream();
        world.subscribe(stream, TopicKind::Shard, &["a", "b"]);
        let side = world.open_side(HELLO);
        world.write(side);
        world.say(side, &["a", "b"].map(|name| confirm("ssubscribe", name)).concat());
        let ticket = world.unsubscribe(stream, TopicKind::Shard, &["a"]);
        assert_eq!(world.write(side), "SUNSUBSCRIBE a PING");
        world.say(side, &confirm("sunsubscribe", "a"));
        let again = world.subscribe(stream, TopicKind::Shard, &["c"]);
        world.say(side, &(answer + "+PONG\r\n"));
        assert!(world.has_ended_well(ticket));
        assert_eq!(world.write(side), "SSUBSCRIBE c");
        world.say(side, &confirm("ssubscribe", "c"));
        assert!(world.has_ended_well(again));
        assert!(world.closed.is_empty() && world.read(stream).is_empty());
    }
}

#[test]
fn one_that_stops_reading_has_its_own_connection_and_keeps_within_its_bound() {
    let (mut world, main) = World::live(World::plain());
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    options.messages_max = Some(4);
    let stream = world.engine.open_stream(options).expect("there is room");
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let other = world.subscribed(main, "a");
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(ticket));
    let many: String = (0..10).map(|number| message("a", &number.to_string())).collect();
    world.say(side, &many);
    world.say(main, &many);
    assert!(!world.engine.may_read(side) && world.engine.may_read(main));
    assert_eq!(world.engine.status().messages_waiting, 4 + 10);
    world.wait(Duration::from_secs(60));
    assert!(world.closed.is_empty(), "it is not silent, nobody listens");
    let mut all = Vec::new();
    while all.len() < 10 {
        all.extend(world.read(stream));
        if world.resumed.pop() == Some(side) {
            world.say(side, "");
        }
        assert!(world.engine.status().messages_waiting <= 4 + 10);
    }
    assert_eq!(all, (0..10).map(|number| format!("a: {number}")).collect::<Vec<_>>());
    assert_eq!(world.read(other).len(), 10);
    world.say(side, &many);
    world.engine.close_stream(stream, world.now);
    world.drain();
    assert_eq!(world.closed, [side], "nobody is there to read what it would still say");
    world.lose(side, Cause::Local);
    assert_eq!(world.engine.status().connections, 1);
}

#[test]
fn one_that_is_full_when_its_connection_goes_is_dialled_again_once_it_was_read() {
    let (mut world, _) = World::live(World::plain());
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    options.messages_max = Some(2);
    let stream = world.engine.open_stream(options).expect("there is room");
    world.subscribe(stream, TopicKind::Channel, &["a"]);
    let side = world.open_side(HELLO);
    world.write(side);
    world.say(side, &(confirm("subscribe", "a") + &message("a", "1") + &message("a", "2")));
    world.wait(Duration::from_secs(1));
    world.lose(side, Cause::EndOfStream);
    assert!(world.opened.is_empty());
    assert_eq!(world.read(stream), ["a: 1".into(), "a: 2".into(), lost(&Cause::EndOfStream)]);
    let side = world.open_side(HELLO);
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &confirm("subscribe", "a"));
    assert_eq!(world.read(stream), ["restored"]);
}

#[test]
fn a_closed_client_ends_its_streams_and_holds_nothing() {
    for protocol in [ProtocolChoice::Resp2, ProtocolChoice::Resp3] {
        let (mut world, main) = World::live(World::resp2().protocol(protocol));
        let stream = world.stream();
        let first = world.subscribe(stream, TopicKind::Channel, &["a"]);
        let second = world.subscribe(stream, TopicKind::Shard, &["s"]);
        world.drain();
        world.engine.shutdown(Duration::ZERO, world.now);
        world.drain();
        for ticket in [first, second] {
            let failure = world.engine.take_wait(ticket).expect("it has ended");
            let failure = failure.expect_err("nothing was confirmed");
            assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        }
        assert_eq!(world.read(stream), ["end"]);
        assert_eq!(world.counts(), (0, 0, 0));
        assert_eq!(world.engine.status().connections, 0);
        assert!(world.closed.contains(&main) && world.timer.is_none());
        assert!(world.engine.open_stream(StreamOptions::default()).is_err());
        world.engine.close_stream(stream, world.now);
    }
}

#[test]
fn a_runtime_that_is_dropped_ends_its_streams() {
    let (mut world, conn) = World::live(World::plain());
    let stream = world.subscribed(conn, "a");
    world.say(conn, &message("a", "1"));
    world.engine.abandon(world.now);
    assert_eq!(world.read(stream), ["a: 1", "end"]);
    let names = ["b"];
    let refused =
        world.engine.subscribe(stream, TopicKind::Channel, &names[..], None, None, world.now);
    assert!(matches!(refused.expect_err("it has ended").kind(), FailureKind::StreamEnded));
    // The next one begins anew.
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.open_side(HELLO);
    assert_eq!(world.write(conn), "SUBSCRIBE a");
    world.say(conn, &confirm("subscribe", "a"));
    assert!(world.has_ended_well(ticket));
}

#[test]
fn a_server_that_comes_back_with_another_protocol_takes_the_subscriptions_along() {
    let (mut world, conn) = World::live(World::resp2().protocol(ProtocolChoice::Auto));
    let stream = world.subscribed(conn, "a");
    world.lose(conn, Cause::Reset);
    world.wait(Duration::from_millis(100));
    let conn = world.open();
    world.say(conn, "-ERR unknown command 'HELLO'\r\n");
    world.write(conn);
    world.say(conn, "+PONG\r\n");
    assert_eq!(world.write(conn), "");
    let side = world.open_side("+PONG\r\n");
    assert_eq!(world.write(side), "SUBSCRIBE a");
    world.say(side, &array(&confirm("subscribe", "a")));
    assert_eq!(world.read(stream), [lost(&Cause::Reset), "restored".into()]);
}

#[test]
fn wrong_credentials_are_told_to_those_who_wait_for_topics() {
    let mut world = World::new(World::plain().password("wrong"));
    let stream = world.stream();
    let ticket = world.subscribe(stream, TopicKind::Channel, &["a"]);
    let conn = world.open();
    world.say(conn, "-WRONGPASS no\r\n");
    world.lose(conn, Cause::Local);
    let failure = world.engine.take_wait(ticket).expect("it has ended").expect_err("refused");
    assert!(matches!(failure.kind(), FailureKind::Server(_)), "{failure}");
}

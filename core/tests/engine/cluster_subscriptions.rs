//! Shard channels in a cluster of scripted nodes: which node is asked for them, and what follows when their
//! slots move.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Engine, Now,
    config::Endpoint,
    engine::{ConnId, Input, Output, StreamId, Target, Ticket},
    pubsub::{Incoming, Overflow, StreamOptions, TopicKind},
};

use crate::cluster::{bulk, moved, shards, take_command};

const A: u16 = 7001;
const B: u16 = 7002;
const C: u16 = 7003;

/// One channel each of A, B and C; and a second one of A's, in another slot.
const OF_A: &str = "hello";
const OF_B: &str = "name";
const OF_C: &str = "foo";
const ALSO_OF_A: &str = "bar";

/// A connection to a node, and what came on it and was not answered.
struct Peer {
    port: u16,
    sent: Vec<u8>,
    asked: VecDeque<Vec<String>>,
}

struct World {
    engine: Engine<u32>,
    now: Now,
    peers: BTreeMap<ConnId, Peer>,
    timer: Option<Instant>,
    /// What the nodes say of the cluster.
    map: String,
    /// These refuse connections.
    dead: Vec<u16>,
    /// How often the map was asked for.
    refreshes: usize,
}

impl World {
    fn live() -> Self {
        let config = Config::cluster([Endpoint::tcp("127.0.0.1", A)]);
        let now = Now::new(Instant::now(), SystemTime::now());
        let config = config.client_info(false).ping_interval(None);
        let engine = Engine::new(config, 7, now).expect("a sound configuration");
        let mut world = World {
            engine,
            now,
            peers: BTreeMap::new(),
            timer: None,
            map: shards(&[(A, 0, 5460), (B, 5461, 10_922), (C, 10_923, 16_383)]),
            dead: Vec::new(),
            refreshes: 0,
        };
        let ticket = world.engine.connect(None, world.now);
        world.drain();
        assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
        world
    }

    fn drain(&mut self) {
        for _ in 0..1_000 {
            match self.engine.poll_output() {
                Output::Open { conn, target: Target::Tcp(address), .. } => {
                    let port = address.port();
                    if self.dead.contains(&port) {
                        let cause = Cause::Refused;
                        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
                        continue;
                    }
                    let peer = Peer { port, sent: Vec::new(), asked: VecDeque::new() };
                    self.peers.insert(conn, peer);
                    self.engine.handle_input(Input::Opened { conn }, self.now);
                }
                Output::Close { conn, .. } => self.close(conn, Cause::Local),
                Output::Wait(at) => {
                    self.timer = at;
                    if self.exchange() {
                        continue;
                    }
                    if at.is_none_or(|at| at > self.now.instant) {
                        return;
                    }
                    self.engine.handle_input(Input::Timeout, self.now);
                }
                _ => {}
            }
        }
        panic!("it never comes to rest");
    }

    fn close(&mut self, conn: ConnId, cause: Cause) {
        self.peers.remove(&conn);
        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
    }

    /// Takes what was written, and has the nodes answer what is the client's own; gives whether anything
    /// was.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        for conn in self.peers.keys().copied().collect::<Vec<_>>() {
            while let Some(chunk) = self.engine.take_output(conn) {
                let bytes = chunk.unwritten().to_vec();
                self.engine.written(conn, chunk, bytes.len(), self.now);
                let peer = self.peers.get_mut(&conn).expect("it is open");
                peer.sent.extend_from_slice(&bytes);
                while let Some(words) = take_command(&mut peer.sent) {
                    peer.asked.push_back(words);
                }
            }
            while let Some(peer) = self.peers.get_mut(&conn)
                && let Some(first) = peer.asked.front()
            {
                let answer = match first[0].as_str() {
                    "HELLO" => "%0\r\n".to_owned(),
                    "PING" => "+PONG\r\n".to_owned(),
                    "CLUSTER" => {
                        self.refreshes += 1;
                        self.map.clone()
                    }
                    _ => break,
                };
                peer.asked.pop_front();
                any = true;
                self.receive(conn, &answer);
            }
        }
        any
    }

    fn receive(&mut self, conn: ConnId, bytes: &str) {
        self.engine.received(conn, &mut BytesMut::from(bytes.as_bytes()), self.now);
    }

    /// What a node was asked about channels, on one connection, which has to be a single one.
    #[track_caller]
    fn asked(&mut self, port: u16) -> Vec<String> {
        let with = self.peers.values().filter(|peer| peer.port == port && !peer.asked.is_empty());
        let mut asked: Vec<Vec<String>> =
            with.map(|peer| peer.asked.iter().map(|words| words.join(" ")).collect()).collect();
        assert!(asked.len() <= 1, "on several connections: {asked:?}");
        asked.pop().unwrap_or_default()
    }

    /// A node answers what it was asked first.
    #[track_caller]
    fn say(&mut self, port: u16, answer: &str) {
        let waits = |peer: &Peer| peer.port == port && !peer.asked.is_empty();
        let (conn, peer) =
            self.peers.iter_mut().find(|(_, peer)| waits(peer)).expect("it was asked something");
        let conn = *conn;
        peer.asked.pop_front();
        self.receive(conn, answer);
        self.drain();
    }

    /// A node adds what it was asked for.
    #[track_caller]
    fn confirm(&mut self, port: u16) {
        let asked = self.asked(port);
        let words: Vec<&str> = asked.first().expect("it was asked something").split(' ').collect();
        let action = words[0].to_lowercase();
        let pushes = words[1..].iter().map(|name| push(&action, name)).collect::<String>();
        self.say(port, &pushes);
    }

    /// The connection on which a node carries shard channels: the last that was made.
    #[track_caller]
    fn carrier(&self, port: u16) -> ConnId {
        let to = self.peers.iter().filter(|(_, peer)| peer.port == port);
        *to.map(|(conn, _)| conn).next_back().expect("it is connected")
    }

    fn connections(&self, port: u16) -> usize {
        self.peers.values().filter(|peer| peer.port == port).count()
    }

    fn subscribe(&mut self, names: &[&str]) -> (StreamId, Ticket) {
        let stream = self.engine.open_stream(StreamOptions::default()).expect("room");
        let ticket = self.add(stream, names);
        (stream, ticket)
    }

    fn add(&mut self, stream: StreamId, names: &[&str]) -> Ticket {
        let ticket = self.engine.subscribe(stream, TopicKind::Shard, names, None, None, self.now);
        self.drain();
        ticket.expect("room")
    }

    #[track_caller]
    fn incoming(&mut self, stream: StreamId) -> Vec<String> {
        let mut into = VecDeque::new();
        assert!(self.engine.take_incoming(stream, &mut into, self.now), "it goes on");
        self.drain();
        let text = |item: Incoming| match item {
            Incoming::Message(message) => {
                let payload = message.payload.to_str().expect("text").to_owned();
                format!("{} {payload}", message.channel_name())
            }
            Incoming::Lost { .. } => "lost".to_owned(),
            Incoming::Restored => "restored".to_owned(),
            other => panic!("{other:?}"),
        };
        into.into_iter().map(text).collect()
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

    /// `OF_C`'s slots are B's from now on, by the map.
    fn give_to_b(&mut self) {
        self.map = shards(&[(A, 0, 5460), (B, 5461, 16_383), (C, 1, 0)]);
    }

    fn ended(&mut self, ticket: Ticket) -> bool {
        self.engine.take_wait(ticket).is_some_and(|result| result.is_ok())
    }
}

fn push(action: &str, name: &str) -> String {
    format!(">3\r\n{}{}:1\r\n", bulk(action), bulk(name))
}

fn message(name: &str, payload: &str) -> String {
    format!(">3\r\n{}{}{}", bulk("smessage"), bulk(name), bulk(payload))
}

#[test]
fn each_node_is_asked_for_its_channels_one_command_for_each_slot() {
    let mut world = World::live();
    let (stream, ticket) = world.subscribe(&[OF_A, OF_B, OF_C, ALSO_OF_A, "{foo}2"]);
    assert_eq!(world.asked(A), ["SSUBSCRIBE hello", "SSUBSCRIBE bar"]);
    assert_eq!(world.asked(B), ["SSUBSCRIBE name"]);
    assert_eq!(world.asked(C), ["SSUBSCRIBE foo {foo}2"]);
    for port in [A, A, B] {
        world.confirm(port);
    }
    assert!(!world.ended(ticket));
    world.confirm(C);
    assert!(world.ended(ticket));
    assert_eq!([A, B, C].map(|port| world.connections(port)), [2, 2, 2]);
    for (port, name) in [(A, OF_A), (C, "{foo}2")] {
        let conn = world.carrier(port);
        world.receive(conn, &message(name, "x"));
    }
    assert_eq!(world.incoming(stream), ["hello x", "{foo}2 x"]);
    world.engine.close_stream(stream, world.now);
    world.drain();
    for port in [A, A, B, C] {
        world.confirm(port);
    }
    assert_eq!([A, B, C].map(|port| world.connections(port)), [1, 1, 1], "nothing is left behind");
    assert_eq!(world.engine.status().subscriptions, 0);
}

#[test]
fn channels_from_before_the_map_wait_for_it() {
    let mut world = World::live();
    let config = Config::cluster([Endpoint::tcp("127.0.0.1", A)]).client_info(false);
    world.engine = Engine::new(config, 7, world.now).expect("a sound configuration");
    world.peers.clear();
    let (_, ticket) = world.subscribe(&[OF_A, OF_C]);
    assert_eq!(world.asked(A), ["SSUBSCRIBE hello"]);
    world.confirm(A);
    world.confirm(C);
    assert!(world.ended(ticket));
}

#[test]
fn a_channel_that_is_taken_away_goes_to_its_new_node_and_the_gap_is_told_once() {
    let mut world = World::live();
    let (stream, _) = world.subscribe(&[OF_A, OF_C]);
    world.confirm(A);
    world.confirm(C);
    world.wait(Duration::from_secs(1));
    world.give_to_b();
    let conn = world.carrier(C);
    world.receive(conn, &push("sunsubscribe", OF_C));
    world.drain();
    assert_eq!(world.asked(B), ["SSUBSCRIBE foo"], "the map was asked for at once");
    world.receive(conn, &message(OF_C, "stale"));
    assert_eq!(world.incoming(stream), ["lost"]);
    world.confirm(B);
    assert_eq!(world.incoming(stream), ["restored"]);
    let conn = world.carrier(B);
    world.receive(conn, &message(OF_C, "y"));
    assert_eq!(world.incoming(stream), ["foo y"]);
}

#[test]
fn where_the_map_is_behind_moved_is_followed() {
    let mut world = World::live();
    let (_, ticket) = world.subscribe(&[OF_C]);
    world.say(C, &(moved(OF_C, B) + "\r\n"));
    assert_eq!(world.asked(B), ["SSUBSCRIBE foo"]);
    world.confirm(B);
    assert!(world.ended(ticket), "nobody had to know");
}

#[test]
fn nodes_that_send_each_other_a_channel_are_asked_at_the_pace_of_the_map() {
    let mut world = World::live();
    let (stream, ticket) = world.subscribe(&[OF_C]);
    let mut sent_on = 0;
    let until = world.now.instant + Duration::from_secs(2);
    while world.now.instant < until {
        for (port, other) in [(B, C), (C, B)] {
            if !world.asked(port).is_empty() {
                sent_on += 1;
                world.say(port, &(moved(OF_C, other) + "\r\n"));
            }
        }
        world.wait(Duration::from_millis(10));
    }
    assert!((4..60).contains(&sent_on), "{sent_on}");
    assert!(world.incoming(stream).is_empty());
    for port in [B, C] {
        if !world.asked(port).is_empty() {
            world.confirm(port);
        }
    }
    world.wait(Duration::from_secs(1));
    for port in [B, C] {
        if !world.asked(port).is_empty() {
            world.confirm(port);
        }
    }
    assert!(world.ended(ticket));
}

#[test]
fn the_map_alone_moves_channels_and_the_old_node_is_told() {
    let mut world = World::live();
    let (stream, _) = world.subscribe(&[OF_C]);
    world.confirm(C);
    world.map = shards(&[(A, 0, 5460), (C, 5461, 10_922), (B, 10_923, 16_383)]);
    let mut waited = 0;
    while world.asked(B).is_empty() {
        world.wait(Duration::from_millis(100));
        waited += 1;
        assert!(waited < 1_000, "the map is asked for now and then");
    }
    assert_eq!(world.incoming(stream), ["lost"]);
    assert_eq!(world.asked(C)[0], "SUNSUBSCRIBE foo");
    world.confirm(B);
    world.say(C, &(moved(OF_C, B) + "\r\n"));
    assert_eq!(world.incoming(stream), ["restored"]);
    assert_eq!(world.connections(C), 1, "it has nothing more to carry");
}

#[test]
fn a_node_that_dies_takes_its_channels_to_its_heir() {
    let mut world = World::live();
    let (stream, _) = world.subscribe(&[OF_A, OF_C]);
    world.confirm(A);
    world.confirm(C);
    let heir = 7004;
    world.dead.push(C);
    let lost: Vec<_> =
        world.peers.iter().filter(|(_, peer)| peer.port == C).map(|(conn, _)| *conn).collect();
    for conn in lost {
        world.close(conn, Cause::Reset);
    }
    world.drain();
    assert_eq!(world.incoming(stream), ["lost"]);
    world.map = shards(&[(A, 0, 5460), (B, 5461, 10_922), (heir, 10_923, 16_383)]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked(heir), ["SSUBSCRIBE foo"]);
    world.confirm(heir);
    assert_eq!(world.incoming(stream), ["restored"]);
}

#[test]
fn many_channels_that_are_still_awaited_move_as_well() {
    let mut world = World::live();
    let names: Vec<String> = (0..500).map(|at| format!("{{foo}}{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (stream, ticket) = world.subscribe(&names);
    world.give_to_b();
    let answer = moved(OF_C, B) + "\r\n";
    world.say(C, &answer);
    world.confirm(B);
    assert!(world.ended(ticket));
    let away = world.engine.unsubscribe(stream, TopicKind::Shard, &names[..], None, world.now);
    world.drain();
    world.confirm(B);
    assert!(world.ended(away.expect("it is open")));
    assert_eq!(world.engine.status().subscriptions, 0);
}

#[test]
fn a_stream_that_stops_reading_has_a_connection_to_each_node_of_its_own() {
    let mut world = World::live();
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    let stream = world.engine.open_stream(options).expect("room");
    let ticket = world.add(stream, &[OF_A, OF_C]);
    let (_, other) = world.subscribe(&[OF_C]);
    world.confirm(A);
    for port in [C, C] {
        let waits = world.peers.values().filter(|peer| peer.port == port && !peer.asked.is_empty());
        assert!(waits.count() >= 1);
        world.say(port, &push("ssubscribe", OF_C));
    }
    assert!(world.ended(ticket) && world.ended(other));
    assert_eq!([A, B, C].map(|port| world.connections(port)), [2, 1, 3]);
    world.engine.close_stream(stream, world.now);
    world.drain();
    assert_eq!([A, B, C].map(|port| world.connections(port)), [1, 1, 2]);
}

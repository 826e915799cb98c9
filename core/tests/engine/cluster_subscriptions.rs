//! Shard channels in a cluster of scripted nodes: which node is asked for them, and what follows when their
//! slots move.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use unfazed_core::{
    Config, Engine,
    config::Endpoint,
    engine::{ConnId, StreamId, Ticket},
    pubsub::{Incoming, Overflow, StreamOptions, TopicKind},
};

use super::nodes::{
    A, ALSO_OF_A, B, C, Link, OF_A, OF_B, OF_C, World, bulk, moved, shards, thirds,
};

pub(super) fn live() -> World {
    World::live(World::plain().ping_interval(None))
}

impl World {
    /// What a node was asked about channels, on one connection, which has to be a single one.
    #[track_caller]
    fn asked_of_channels(&self, port: u16) -> Vec<String> {
        let links = self.links(port).into_iter();
        let mut asked: Vec<_> = links.map(Link::asked).filter(|asked| !asked.is_empty()).collect();
        assert!(asked.len() <= 1, "on several connections: {asked:?}");
        asked.pop().unwrap_or_default()
    }

    /// A node answers what it was asked first about channels.
    #[track_caller]
    fn say_of_channels(&mut self, port: u16, answer: &str) {
        let link = self.links(port).into_iter().find(|link| !link.asked.is_empty());
        let conn = link.expect("it was asked something").conn;
        self.say_on(conn, answer);
    }

    /// A node adds what it was asked for.
    #[track_caller]
    fn confirm(&mut self, port: u16) {
        let asked = self.asked_of_channels(port);
        let words: Vec<&str> = asked.first().expect("it was asked something").split(' ').collect();
        let action = words[0].to_lowercase();
        let pushes = words[1..].iter().map(|name| push(&action, name)).collect::<String>();
        self.say_of_channels(port, pushes.trim_end());
    }

    /// The connection on which a node carries shard channels: the last that was made.
    #[track_caller]
    fn carrier(&self, port: u16) -> ConnId {
        self.links(port).last().expect("it is connected").conn
    }

    /// A stream for which nothing is subscribed to yet.
    pub(super) fn open_stream(&mut self, overflow: Overflow) -> StreamId {
        let mut options = StreamOptions::default();
        options.overflow = overflow;
        self.engine.open_stream(options).expect("room")
    }

    fn subscribe(&mut self, names: &[&str]) -> (StreamId, Ticket) {
        let stream = self.open_stream(Overflow::DropOldest);
        let ticket = self.add(stream, names);
        (stream, ticket)
    }

    fn add(&mut self, stream: StreamId, names: &[&str]) -> Ticket {
        let ticket = self.engine.subscribe(stream, TopicKind::Shard, names, None, None, self.now);
        self.drain();
        ticket.expect("room")
    }

    #[track_caller]
    pub(super) fn incoming(&mut self, stream: StreamId) -> Vec<String> {
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

    /// `OF_C`'s slots are B's from now on, by the map.
    fn give_to_b(&mut self) {
        self.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383), (C, 1, 0)]));
    }

    pub(super) fn ended(&mut self, ticket: Ticket) -> bool {
        self.engine.take_wait(ticket).is_some_and(|result| result.is_ok())
    }
}

pub(super) fn push(action: &str, name: &str) -> String {
    format!(">3\r\n{}{}:1\r\n", bulk(action), bulk(name))
}

fn message(name: &str, payload: &str) -> String {
    format!(">3\r\n{}{}{}", bulk("smessage"), bulk(name), bulk(payload))
}

#[test]
fn each_node_is_asked_for_its_channels_one_command_for_each_slot() {
    let mut world = live();
    let (stream, ticket) = world.subscribe(&[OF_A, OF_B, OF_C, ALSO_OF_A, "{foo}2"]);
    assert_eq!(world.asked_of_channels(A), ["SSUBSCRIBE hello", "SSUBSCRIBE bar"]);
    assert_eq!(world.asked_of_channels(B), ["SSUBSCRIBE name"]);
    assert_eq!(world.asked_of_channels(C), ["SSUBSCRIBE foo {foo}2"]);
    for port in [A, A, B] {
        world.confirm(port);
    }
    assert!(!world.ended(ticket));
    world.confirm(C);
    assert!(world.ended(ticket));
    assert_eq!([A, B, C].map(|port| world.links(port).len()), [2, 2, 2]);
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
    assert_eq!([A, B, C].map(|port| world.links(port).len()), [1, 1, 1], "nothing is left behind");
    assert_eq!(world.engine.status().subscriptions, 0);
}

#[test]
fn channels_from_before_the_map_wait_for_it() {
    let mut world = live();
    let config = Config::cluster([Endpoint::tcp("127.0.0.1", A)]).client_info(false);
    world.engine = Engine::new(config, 7, world.now).expect("a sound configuration");
    world.forget_links();
    let (_, ticket) = world.subscribe(&[OF_A, OF_C]);
    assert_eq!(world.asked_of_channels(A), ["SSUBSCRIBE hello"]);
    world.confirm(A);
    world.confirm(C);
    assert!(world.ended(ticket));
}

#[test]
fn a_channel_that_is_taken_away_goes_to_its_new_node_and_the_gap_is_told_once() {
    let mut world = live();
    let (stream, _) = world.subscribe(&[OF_A, OF_C]);
    world.confirm(A);
    world.confirm(C);
    world.wait(Duration::from_secs(1));
    world.give_to_b();
    let conn = world.carrier(C);
    world.receive(conn, &push("sunsubscribe", OF_C));
    world.drain();
    assert_eq!(world.asked_of_channels(B), ["SSUBSCRIBE foo"], "the map was asked for at once");
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
    let mut world = live();
    let (_, ticket) = world.subscribe(&[OF_C]);
    world.say_of_channels(C, &moved(OF_C, B));
    assert_eq!(world.asked_of_channels(B), ["SSUBSCRIBE foo"]);
    world.confirm(B);
    assert!(world.ended(ticket), "nobody had to know");
}

#[test]
fn nodes_that_send_each_other_a_channel_are_asked_at_the_pace_of_the_map() {
    let mut world = live();
    let (stream, ticket) = world.subscribe(&[OF_C]);
    let mut sent_on = 0;
    let until = world.now.instant + Duration::from_secs(2);
    while world.now.instant < until {
        for (port, other) in [(B, C), (C, B)] {
            if !world.asked_of_channels(port).is_empty() {
                sent_on += 1;
                world.say_of_channels(port, &moved(OF_C, other));
            }
        }
        world.wait(Duration::from_millis(10));
    }
    assert!((4..60).contains(&sent_on), "{sent_on}");
    assert!(world.incoming(stream).is_empty());
    for port in [B, C] {
        if !world.asked_of_channels(port).is_empty() {
            world.confirm(port);
        }
    }
    world.wait(Duration::from_secs(1));
    for port in [B, C] {
        if !world.asked_of_channels(port).is_empty() {
            world.confirm(port);
        }
    }
    assert!(world.ended(ticket));
}

#[test]
fn the_map_alone_moves_channels_and_the_old_node_is_told() {
    let mut world = live();
    let (stream, _) = world.subscribe(&[OF_C]);
    world.confirm(C);
    world.map_all(&shards(&[(A, 0, 5460), (C, 5461, 10_922), (B, 10_923, 16_383)]));
    let mut waited = 0;
    while world.asked_of_channels(B).is_empty() {
        world.wait(Duration::from_millis(100));
        waited += 1;
        assert!(waited < 1_000, "the map is asked for now and then");
    }
    assert_eq!(world.incoming(stream), ["lost"]);
    assert_eq!(world.asked_of_channels(C)[0], "SUNSUBSCRIBE foo");
    world.confirm(B);
    world.say_of_channels(C, &moved(OF_C, B));
    assert_eq!(world.incoming(stream), ["restored"]);
    assert_eq!(world.links(C).len(), 1, "it has nothing more to carry");
}

#[test]
fn a_node_that_dies_takes_its_channels_to_its_heir() {
    let mut world = live();
    let (stream, _) = world.subscribe(&[OF_A, OF_C]);
    world.confirm(A);
    world.confirm(C);
    let heir = 7004;
    world.kill(C, &thirds(A, B, heir));
    assert_eq!(world.incoming(stream), ["lost"]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked_of_channels(heir), ["SSUBSCRIBE foo"]);
    world.confirm(heir);
    assert_eq!(world.incoming(stream), ["restored"]);
}

#[test]
fn many_channels_that_are_still_awaited_move_as_well() {
    let mut world = live();
    let names: Vec<String> = (0..500).map(|at| format!("{{foo}}{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (stream, ticket) = world.subscribe(&names);
    world.give_to_b();
    let answer = moved(OF_C, B);
    world.say_of_channels(C, &answer);
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
    let mut world = live();
    let stream = world.open_stream(Overflow::StopReading);
    let ticket = world.add(stream, &[OF_A, OF_C]);
    let (_, other) = world.subscribe(&[OF_C]);
    world.confirm(A);
    for port in [C, C] {
        world.say_of_channels(port, push("ssubscribe", OF_C).trim_end());
    }
    assert!(world.ended(ticket) && world.ended(other));
    assert_eq!([A, B, C].map(|port| world.links(port).len()), [2, 1, 3]);
    world.engine.close_stream(stream, world.now);
    world.drain();
    assert_eq!([A, B, C].map(|port| world.links(port).len()), [1, 1, 2]);
}

#[test]
fn a_stream_that_is_full_stops_reading_from_all_nodes() {
    let mut world = live();
    let mut options = StreamOptions::default();
    options.overflow = Overflow::StopReading;
    options.messages_max = Some(2);
    let stream = world.engine.open_stream(options).expect("room");
    world.add(stream, &[OF_A, OF_C]);
    world.confirm(A);
    world.confirm(C);
    let (full, other) = (world.carrier(A), world.carrier(C));
    world.receive(full, &(message(OF_A, "1") + &message(OF_A, "2")));
    assert!(!world.engine.may_read(full) && !world.engine.may_read(other));
    let mut unread = BytesMut::from(message(OF_C, "3").as_bytes());
    let size = unread.len();
    world.engine.received(other, &mut unread, world.now);
    assert_eq!(unread.len(), size, "it stays where it is");
    // Nor from a node that it comes to listen to meanwhile: it is not asked for anything.
    world.add(stream, &[OF_B]);
    assert!(world.asked_of_channels(B).is_empty());
    assert_eq!(world.incoming(stream), ["hello 1", "hello 2"]);
    assert_eq!(world.incoming(stream), Vec::<String>::new());
    assert!(world.engine.may_read(full) && world.engine.may_read(other));
    world.engine.received(other, &mut unread, world.now);
    assert_eq!(world.incoming(stream), ["foo 3"]);
    world.confirm(B);
}

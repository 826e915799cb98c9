//! Channels in a cluster of scripted nodes: which node carries them, and what follows when it has no slots any more.

use std::time::Duration;

use unfazed_core::{
    engine::{ConnId, Input, Output, StreamId, Ticket},
    pubsub::{Overflow, TopicKind},
};

use super::{
    cluster_subscriptions::{live, push},
    nodes::{A, B, C, Link, OF_A, OF_B, World, bulk, moved, shards, thirds},
};

impl World {
    /// Wants a channel, on a connection of its own where the stream is one that stops reading.
    fn listen(&mut self, overflow: Overflow) -> (StreamId, Ticket) {
        let stream = self.open_stream(overflow);
        let ticket = self.want_news(stream);
        self.drain();
        (stream, ticket)
    }

    fn want_news(&mut self, stream: StreamId) -> Ticket {
        let names = &["news"];
        let ticket = self.engine.subscribe(stream, TopicKind::Channel, names, None, None, self.now);
        ticket.expect("room")
    }

    /// All that a node was asked about the channel, each with its connection.
    fn asked_of_news(&self, port: u16) -> Vec<(ConnId, String)> {
        let asked = |link: &Link| (link.conn, link.asked());
        let all = self.links(port).into_iter().map(asked);
        let one_by_one = |(conn, asked): (ConnId, Vec<String>)| {
            asked.into_iter().map(move |command| (conn, command))
        };
        all.flat_map(one_by_one).filter(|(_, command)| command.ends_with("news")).collect()
    }

    /// A node adds the channel wherever it was asked to.
    #[track_caller]
    fn confirm_news(&mut self, port: u16) {
        for (conn, command) in self.asked_of_news(port) {
            assert_eq!(command, "SUBSCRIBE news");
            self.say_on(conn, push("subscribe", "news").trim_end());
        }
    }

    /// A node that is sent to for a moment, so that it may be being given slots: it is not let go of.
    fn name(&mut self, port: u16) {
        let get = self.run(&format!("GET {OF_B}"));
        self.say(B, &moved(OF_B, port));
        self.say(port, "$1\r\nx");
        assert_eq!(self.value::<String>(get), "x");
    }
}

/// The slots of `A` are B's by this map.
fn without_a() -> String {
    shards(&[(B, 0, 10_922), (C, 10_923, 16_383)])
}

#[test]
fn channels_leave_a_node_without_slots_though_it_was_just_sent_to() {
    let mut world = live();
    let (shared, first) = world.listen(Overflow::DropOldest);
    let (apart, second) = world.listen(Overflow::StopReading);
    world.confirm_news(A);
    assert!(world.ended(first) && world.ended(second), "both are at A");
    world.wait(Duration::from_secs(1));
    world.map_all(&without_a());
    world.name(A);
    world.wait(Duration::from_secs(1));
    assert!(!world.events.iter().any(|event| event.contains("not needed")), "it may be needed");
    for stream in [shared, apart] {
        assert_eq!(world.incoming(stream), ["lost"]);
    }
    // It may have left the cluster, and hears nothing of what is published there.
    let left = world.asked_of_news(A);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].1, "UNSUBSCRIBE news");
    assert_eq!(world.links(A).len(), 1);
    world.confirm_news(B);
    for stream in [shared, apart] {
        assert_eq!(world.incoming(stream), ["restored"]);
    }
    // What is on its way still is for nobody, and the connection is as good as before.
    let message = format!(">3\r\n{}{}{}", bulk("message"), bulk("news"), bulk("stale"));
    world.receive(left[0].0, &message);
    world.say_on(left[0].0, push("unsubscribe", "news").trim_end());
    assert!(world.incoming(shared).is_empty());
    world.map_all(&thirds(A, B, C));
    world.wait(Duration::from_secs(90));
    let get = world.run(&format!("GET {OF_A}"));
    world.say(A, "$1\r\ny");
    assert_eq!(world.value::<String>(get), "y");
    assert_eq!(world.peer(A).dials, 2, "one of them for the stream of its own");
}

#[test]
fn what_a_node_says_to_a_channel_that_has_left_it_is_not_taken_for_the_next_answer() {
    let mut world = live();
    world.wait(Duration::from_secs(1));
    world.name(A);
    let (stream, ticket) = world.listen(Overflow::DropOldest);
    world.wait(Duration::from_millis(200));
    let (conn, _) = world.asked_of_news(A)[0].clone();
    world.kill(C, &shards(&[(A, 1, 0), (B, 0, 16_383)]));
    world.wait(Duration::from_millis(500));
    world.confirm_news(B);
    assert!(world.ended(ticket));
    // They come back to it before it has said anything.
    world.map_all(&shards(&[(A, 0, 16_383), (B, 1, 0)]));
    let get = world.run(&format!("GET {OF_B}"));
    world.say(B, &moved(OF_B, A));
    world.wait(Duration::from_millis(500));
    assert_eq!(world.incoming(stream), ["lost"]);
    let asked: Vec<_> = world.asked_of_news(A).into_iter().map(|(_, asked)| asked).collect();
    assert_eq!(asked, ["SUBSCRIBE news", "UNSUBSCRIBE news", "SUBSCRIBE news"]);
    world.say_on(conn, push("subscribe", "news").trim_end());
    world.say_on(conn, push("unsubscribe", "news").trim_end());
    world.say_on(conn, "$1\r\nx");
    assert_eq!(world.value::<String>(get), "x");
    assert!(world.incoming(stream).is_empty(), "it is not subscribed to any more");
    world.say_on(conn, push("subscribe", "news").trim_end());
    assert_eq!(world.incoming(stream), ["restored"]);
}

#[test]
fn a_connection_that_is_being_made_to_a_node_that_leaves_carries_no_channels() {
    let mut world = live();
    let stream = world.open_stream(Overflow::StopReading);
    let ticket = world.want_news(stream);
    let late = loop {
        match world.engine.poll_output() {
            Output::Open { conn, .. } => break conn,
            Output::Wait(_) => panic!("it is dialled"),
            _ => {}
        }
    };
    // Nobody is there who could carry them, but the node that has just given its slots away.
    for port in [B, C] {
        world.kill(port, &without_a());
    }
    world.wait(Duration::from_secs(1));
    assert!(world.events.iter().any(|event| event.contains("7001 is not needed")));
    world.engine.handle_input(Input::Opened { conn: late }, world.now);
    assert!(world.engine.take_output(late).is_none(), "it leads to a node that has left");
    world.peer(B).refuses = false;
    world.wait(Duration::from_secs(2));
    world.confirm_news(B);
    assert!(world.ended(ticket));
}

//! What operators see of a cluster of which a part is down, or changes hands.

use std::{collections::VecDeque, time::Duration};

use unfazed_core::{
    Cause, Config, Executed,
    engine::{AnsweredBy, Health},
    fallback::{Fallback, Policy},
    pubsub::{Incoming, StreamOptions, TopicKind},
};

use super::nodes::{A, B, C, OF_C, World, moved, thirds};

fn degrading() -> Config {
    World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate))
}

/// Changes of how the cluster stands as a whole.
fn whole(events: &[String]) -> Vec<&str> {
    let all = events.iter().map(String::as_str);
    all.filter(|event| event.contains(" -> ") && !event.starts_with("127.")).collect()
}

#[test]
fn who_answers_is_told_of_each_shard() {
    let mut world = World::live(degrading());
    world.wait(Duration::from_secs(1));
    world.kill(C, &thirds(A, B, C));
    let status = world.engine.status();
    let [cache, others] = &status.patterns[..] else { panic!("one rule, and the rest") };
    let at = |of: unfazed_core::engine::Answering| (of.server, of.memory, of.nobody);
    assert_eq!((cache.answered_by, at(cache.shards)), (Some(AnsweredBy::Memory), (2, 1, 0)));
    assert_eq!((others.answered_by, at(others.shards)), (None, (2, 0, 1)));
    let shown = status.to_string();
    for part in [
        "degraded for",
        "(connection refused), 2 of 3 shards live",
        "127.0.0.1:7003: degraded, 5461 slots (connection refused)",
        "now: server at 2 shards, memory at 1",
        "now: server at 2 shards, nobody at 1",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let well = World::live(degrading()).engine.status().to_string();
    assert!(well.contains("now: server") && !well.contains("shards"), "{well}");
}

#[test]
fn the_shards_of_a_closed_client_are_closed() {
    let mut world = World::live(degrading());
    world.wait(Duration::from_secs(1));
    world.kill(C, &thirds(A, B, C));
    world.engine.shutdown(Duration::ZERO, world.now);
    let status = world.engine.status();
    let closed = (Health::Closed, world.now.instant, None);
    assert_eq!((status.health, status.since, status.cause.clone()), closed);
    assert_eq!(status.shards.len(), 3);
    for shard in &status.shards {
        assert_eq!((shard.health, shard.since, shard.cause.clone()), closed);
    }
    let shown = status.to_string();
    assert!(shown.contains(": closed for 0 ms\n"), "{shown}");
}

#[test]
fn the_cause_of_the_whole_is_that_of_the_shard_that_stands_worst_now() {
    let mut world = World::live(degrading());
    world.wait(Duration::from_secs(1));
    world.kill(C, &thirds(A, B, C));
    world.engine.force(None, world.now);
    world.lose(B, Cause::Reset);
    let status = world.engine.status();
    assert_eq!((status.health, status.cause), (Health::Degraded, Some(Cause::Refused)));
    assert_eq!(whole(&world.events).last(), Some(&"suspect -> degraded: connection refused"));
}

#[test]
fn a_node_that_takes_over_does_not_show_what_was_wrong_with_its_predecessor() {
    let mut world = World::live(degrading());
    world.wait(Duration::from_secs(1));
    world.kill(C, &thirds(A, B, 7004));
    let mut steps = 0..100;
    let heir = loop {
        let shards = world.engine.status().shards;
        let heir = shards.into_iter().find(|shard| &*shard.node == "127.0.0.1:7004");
        match heir.filter(|heir| heir.cause.is_some()) {
            Some(heir) => break heir,
            None => steps.next().expect("it takes over within 2 s"),
        };
        world.wait(Duration::from_millis(20));
    };
    let status = world.engine.status();
    assert_ne!(heir.health, Health::Live, "what memory did with its keys is still to be settled");
    assert_eq!(heir.cause, Some(Cause::TookOver));
    assert_eq!(status.cause, Some(Cause::TookOver));
    // Not well in between: the new master counts only together with what it takes over.
    let told = whole(&world.events);
    assert!(!told.iter().any(|change| change.starts_with("degraded -> live")), "{told:?}");
}

#[test]
fn what_is_published_goes_to_one_node_that_is_well() {
    let mut world = World::live(degrading());
    let publish = |world: &mut World| {
        (0..6).for_each(|_| {
            world.run("PUBLISH news x");
        });
    };
    publish(&mut world);
    let asked = [A, B, C].map(|port| world.asked(port).len());
    let at = asked.iter().position(|count| *count == 6).expect("all of them at one node");
    assert_eq!(asked.iter().sum::<usize>(), 6);
    let first = [A, B, C][at];
    world.kill(first, &thirds(A, B, C));
    world.wait(Duration::from_secs(1));
    publish(&mut world);
    let others: Vec<_> = [A, B, C].into_iter().filter(|port| *port != first).collect();
    let asked: Vec<_> = others.iter().map(|port| world.asked(*port).len()).collect();
    assert!(asked.iter().any(|count| *count >= 6) && asked.contains(&0), "{asked:?}");
}

/// A planned failover: the new master is another node, and nothing is wrong.
#[test]
fn a_master_that_changes_in_good_order_is_no_sign_of_illness() {
    for redirects in [true, false] {
        let mut world = World::live(World::plain());
        world.wait(Duration::from_secs(1));
        world.events.clear();
        world.map_all(&thirds(A, B, 7004));
        if redirects {
            world.run("GET foo");
            world.say(C, &moved(OF_C, 7004));
            world.say(7004, "$1\r\nx");
        }
        world.wait(Duration::from_secs(120));
        assert!(!world.links(7004).is_empty(), "{:?}", world.events);
        assert!(world.links(C).is_empty(), "{:?}", world.events);
        assert_eq!(whole(&world.events), Vec::<&str>::new());
        // One that can't be reached is another matter.
        world.peer(7005).refuses = true;
        world.map_all(&thirds(A, B, 7005));
        world.wait(Duration::from_secs(120));
        assert_eq!(whole(&world.events), ["live -> degraded: connection refused"]);
    }
}

#[test]
fn a_ping_of_all_masters_fails_where_one_is_gone_and_names_it() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(1));
    world.kill(C, &thirds(A, B, C));
    let ping = world.run("PING");
    world.wait(Duration::from_secs(6));
    let failure = world.failure(ping);
    assert_eq!(failure.node(), Some("127.0.0.1:7003"));
    assert_eq!((failure.executed(), failure.cause()), (Executed::No, Some(&Cause::Refused)));
}

#[test]
fn messages_that_are_missed_because_a_node_left_are_not_missed_for_no_reason() {
    let mut world = World::live(World::plain());
    let stream = world.engine.open_stream(StreamOptions::default()).expect("open");
    let names = &["news"];
    let ticket = world.engine.subscribe(stream, TopicKind::Channel, names, None, None, world.now);
    let ticket = ticket.expect("room");
    world.drain();
    let at = [A, B, C].into_iter().find(|port| !world.asked(*port).is_empty());
    let at = at.expect("one of them is asked");
    let conn = world.links(at)[0].conn;
    world.say_on(conn, ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1");
    assert!(world.engine.take_wait(ticket).expect("confirmed").is_ok());
    let others: Vec<u16> = [A, B, C, 7004].into_iter().filter(|port| *port != at).collect();
    world.map_all(&thirds(others[0], others[1], others[2]));
    world.wait(Duration::from_secs(120));
    let mut told = VecDeque::new();
    assert!(world.engine.take_incoming(stream, &mut told, world.now), "it goes on");
    let lost: Incoming = Incoming::Lost { cause: Cause::NodeRemoved };
    assert_eq!(format!("{:?}", told[0]), format!("{lost:?}"));
}

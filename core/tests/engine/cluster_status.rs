//! What operators see of a cluster of which a part is down, or changes hands.

use std::time::Duration;

use unfazed_core::{
    Cause, Config,
    engine::{AnsweredBy, Health},
    fallback::{Fallback, Policy},
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

//! Scripted nodes of a cluster that are down or serve nothing: the others go on, and memory answers for them.

use std::time::Duration;

use unfazed_core::{
    Cause, FailureKind,
    engine::Health,
    fallback::{Fallback, Policy},
    reply::FromReply,
    resp::Source,
    slot::slot,
};

use super::nodes::{A, B, C, OF_A, OF_C, World, moved, shards};

#[test]
fn one_shard_that_is_down_holds_up_nobody_else_and_its_successor_takes_over() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(1));
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    let waits = world.run("GET foo");
    let other = world.run("GET hello");
    world.say(A, "$1\r\nx");
    assert_eq!(world.value::<String>(other), "x");
    let healths: Vec<_> = world.engine.status().shards.iter().map(|shard| shard.health).collect();
    assert_eq!(healths, [Health::Live, Health::Live, Health::Degraded]);
    assert!(
        world.events.iter().any(|event| event.starts_with("127.0.0.1:7003: suspect -> degraded"))
    );
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (7004, 10_923, 16_383)]));
    world.wait(Duration::from_millis(600));
    assert_eq!(world.asked(7004), ["GET foo"]);
    world.say(7004, "$1\r\ny");
    assert_eq!(world.value::<String>(waits), "y");
    assert_eq!(world.engine.health(), Health::Live);
}

#[test]
fn keys_of_a_shard_that_is_down_are_answered_from_memory_and_paid_to_its_successor() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    let set = world.run("SET foo 1");
    world.value::<()>(set);
    let live = world.run("SET hello 1");
    assert_eq!(world.asked(A), ["SET hello 1"], "its shard is well");
    world.say(A, "+OK");
    world.value::<()>(live);
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (7004, 10_923, 16_383)]));
    for _ in 0..60 {
        world.wait(Duration::from_millis(50));
        if world.asked(7004) == ["DEL foo"] {
            world.say(7004, ":1");
        }
    }
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let status = world.engine.status();
    assert_eq!((status.journal_entries, status.overlay_entries), (0, 0));
    let get = world.run("GET foo");
    world.say(7004, "_");
    assert_eq!(world.value::<Option<String>>(get), None);
}

#[test]
fn what_was_written_in_memory_is_forgotten_where_a_node_that_is_well_takes_over() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Discard));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    let set = world.run("SET foo 1");
    world.value::<()>(set);
    assert_eq!(world.engine.status().overlay_entries, 1);
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.wait(Duration::from_secs(2));
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.engine.status().overlay_entries, 0, "nothing is owed, and B answers for it");
    let get = world.run("GET foo");
    world.say(B, "_");
    assert_eq!(world.value::<Option<String>>(get), None);
}

#[test]
fn who_is_given_a_slot_by_a_redirect_goes_on_with_its_outage() {
    let config = World::plain().fallback(Fallback::memory("foo", Policy::Invalidate));
    let mut world = World::live(config);
    // A node that has no slots yet.
    let map = shards(&[(A, 0, 5460), (B, 5461, 10_922), (C, 10_923, 16_383), (7004, 1, 0)]);
    world.map_all(&map);
    world.wait(Duration::from_secs(61));
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    let set = world.run("SET foo 1");
    world.value::<()>(set);
    (world.peer(C).refuses, world.peer(C).is_down) = (false, true);
    world.wait(Duration::from_secs(1));
    world.run("GET {foo}bar");
    let of_c = slot(OF_C.as_bytes());
    let (before, after) = ((C, 10_923, of_c - 1), (C, of_c + 1, 16_383));
    let moves = (7004, of_c, of_c);
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), before, moves, after]));
    world.say(C, &moved(OF_C, 7004));
    assert_eq!(world.asked(7004)[0], "GET {foo}bar", "it may not degrade, so it does not wait");
    let set = world.run("SET foo 2");
    let sets = world.asked(7004).contains(&"SET foo 2".to_owned());
    assert!(!sets, "the deletion that is owed would come after it");
    world.value::<()>(set);
    world.say(7004, "_");
    for _ in 0..60 {
        world.wait(Duration::from_millis(50));
        if world.asked(7004) == ["DEL foo"] {
            world.say(7004, ":1");
        }
    }
    assert_eq!(world.engine.status().journal_entries, 0);
    world.run("GET foo");
    assert_eq!(world.asked(7004), ["GET foo"]);
}

#[test]
fn all_keys_are_those_of_servers_and_those_that_memory_knows_of_a_shard_that_is_down() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    for (port, key) in [(A, OF_A), (C, OF_C)] {
        let set = world.run(&format!("SET {key} 1"));
        world.say(port, "+OK");
        world.value::<()>(set);
    }
    world.peer(C).refuses = true;
    world.lose(C, Cause::Reset);
    let set = world.run("SET {foo}2 1");
    world.value::<()>(set);
    let keys = world.run("KEYS *");
    world.say(A, "*2\r\n$5\r\nhello\r\n$5\r\nother");
    world.say(B, "*0");
    let reply = world.engine.take(keys).expect("ended").expect("no failure");
    assert_eq!(reply.source(), Source::Unknown);
    let mut keys = Vec::<String>::from_reply(&reply).expect("text");
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["foo", "hello", "other", "{foo}2"],
        "what memory knows of A's keys does not count"
    );
    let size = world.run("DBSIZE");
    world.say(A, ":20");
    world.say(B, ":300");
    assert_eq!(world.value::<u32>(size), 322);
    let wiped = world.run("FLUSHALL");
    world.say(A, "+OK");
    world.say(B, "+OK");
    let failure = world.failure(wiped);
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
    // And all of it, where none is there.
    for port in [A, B] {
        world.peer(port).refuses = true;
        world.lose(port, Cause::Reset);
    }
    let size = world.run("DBSIZE");
    assert_eq!(
        world.value::<u32>(size),
        1,
        "what was known went with FLUSHALL, what was written stays"
    );
}

#[test]
fn all_keys_are_not_those_of_some_slots_without_a_word() {
    let mut world = World::live(World::plain());
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922)]));
    world.wait(Duration::from_secs(80));
    let size = world.run("DBSIZE");
    world.say(A, ":1");
    world.say(B, ":1");
    world.wait(Duration::from_secs(1));
    let failure = world.failure(size);
    assert!(matches!(failure.kind(), FailureKind::Uncovered(10_923)), "{failure}");
}

#[test]
fn other_data_on_one_node_cost_what_is_remembered_of_its_slots_only() {
    let config = World::plain().fallback(Fallback::memory("*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_secs(1));
    for (port, key) in [(A, OF_A), (C, OF_C)] {
        let set = world.run(&format!("SET {key} 1"));
        world.say(port, "+OK");
        world.value::<()>(set);
    }
    let remembered = |world: &World| world.engine.status().shadow_entries;
    assert_eq!(remembered(&world), 2);
    world.peer(C).names = Some("another process".to_owned());
    world.lose(C, Cause::Reset);
    world.wait(Duration::from_secs(5));
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(remembered(&world), 1, "{:?}", world.events);
    for port in [A, C] {
        world.peer(port).refuses = true;
        world.lose(port, Cause::Reset);
    }
    let get = world.run("GET hello");
    assert_eq!(world.value::<String>(get), "1");
}

#[test]
fn what_was_refused_goes_as_soon_as_its_node_serves_again() {
    const DOWN: &str = "-CLUSTERDOWN The cluster is down";
    let mut world = World::live(World::plain().deadline(Duration::from_secs(60)));
    world.peer(C).is_down = true;
    let tickets = [1, 2, 3].map(|value| world.run(&format!("SET foo {value}")));
    // By then the next attempt of each may be seconds away.
    for _ in 0..400 {
        world.wait(Duration::from_millis(10));
        let refused = world.asked(C).len();
        (0..refused).for_each(|_| world.say(C, DOWN));
    }
    let mut waited = Duration::ZERO;
    world.peer(C).is_down = false;
    while world.asked(C).len() < tickets.len() {
        world.wait(Duration::from_millis(10));
        waited += Duration::from_millis(10);
        assert!(waited < Duration::from_millis(350), "{:?}", world.asked(C));
    }
    tickets.iter().for_each(|_| world.say(C, "+OK"));
    tickets.into_iter().for_each(|ticket| world.value::<()>(ticket));
    let asked = world.own_probes;
    world.wait(Duration::from_secs(10));
    assert_eq!(world.own_probes, asked, "it is asked no longer than anybody waits");
    assert!((10..=20).contains(&asked), "{asked} questions in four seconds");
}

#[test]
fn a_node_whose_cluster_stays_down_is_judged_down_and_for_a_moment_it_is_not() {
    let fallback = Fallback::memory("hello*", Policy::Invalidate);
    let mut world = World::live(World::plain().fallback(fallback));
    let down =
        |world: &mut World, is_down| [A, B, C].map(|port| world.peer(port).is_down = is_down);
    let run = |world: &mut World, span: Duration| {
        let end = world.now.instant + span;
        while world.now.instant < end {
            world.wait(Duration::from_millis(10));
            while !world.asked(A).is_empty() && world.peer(A).is_down {
                world.say(A, "-CLUSTERDOWN The cluster is down");
            }
        }
    };
    down(&mut world, true);
    let set = world.run("SET hello 1");
    run(&mut world, Duration::from_millis(1_500));
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    down(&mut world, false);
    run(&mut world, Duration::from_millis(400));
    world.say(A, "+OK");
    world.value::<()>(set);

    down(&mut world, true);
    let set = world.run("SET hello 2");
    run(&mut world, Duration::from_millis(3_000));
    world.value::<()>(set);
    assert_eq!(world.engine.health(), Health::Degraded, "{:?}", world.events);
    assert_eq!(world.engine.status().journal_entries, 1);
    down(&mut world, false);
    while world.asked(A).is_empty() {
        run(&mut world, Duration::from_millis(10));
        assert_ne!(world.engine.health(), Health::Live, "it is owed something");
    }
    assert_eq!(world.asked(A), ["DEL hello"]);
    world.say(A, ":1");
    run(&mut world, Duration::from_millis(1_000));
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    assert_eq!(world.engine.status().journal_entries, 0);
}

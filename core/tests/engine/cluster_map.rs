//! The map of a cluster of scripted nodes: who is asked for it and when, and what it says.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind,
    config::{AddressMap, ClusterMap, Endpoint},
    engine::Health,
};

use super::nodes::{A, B, C, World, bulk, moved, shards, thirds};

#[test]
fn the_last_who_is_asked_for_the_map_may_be_lost_and_not_be_in_it() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(1));
    world.peer(A).map = shards(&[(A, 0, 5460), (B, 5461, 16_383)]);
    // These two never answer.
    (world.peer(B).map, world.peer(C).map) = (String::new(), String::new());
    let get = world.run("GET foo");
    world.say(C, "-CLUSTERDOWN Hash slot not served");
    world.lose(B, Cause::Reset);
    world.lose(C, Cause::Reset);
    world.wait(Duration::from_secs(1));
    assert!(world.events.iter().any(|event| event.contains("127.0.0.1:7003 is not needed")));
    world.say(B, "$1\r\nx");
    assert_eq!(world.value::<String>(get), "x");
}

#[test]
fn how_the_cluster_stands_is_told_without_a_gap_when_its_map_comes() {
    let seeds = [A, C].map(|port| Endpoint::tcp("127.0.0.1", port));
    let mut world = World::new(Config::cluster(seeds).client_info(false));
    world.peer(C).refuses = true;
    world.engine.connect(None, world.now);
    world.drain();
    world.wait(Duration::from_secs(1));
    world.peer(C).refuses = false;
    world.wait(Duration::from_secs(2));
    // Of a node it is told with its name before it.
    let whole =
        world.events.iter().filter(|event| !event.contains(": ") || event.starts_with("conn"));
    let told = whole.filter_map(|event| event.split(": ").next()?.split_once(" -> "));
    let mut before = "connecting".to_owned();
    for (from, to) in told.filter(|(from, _)| !from.contains('.')) {
        assert_eq!(from, before, "{:?}", world.events);
        before = to.to_owned();
    }
    assert_eq!(before, "live", "{:?}", world.events);
}

#[test]
fn a_slot_that_nobody_serves_is_an_error_after_one_refresh() {
    let mut world = World::live(World::plain());
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922)]));
    let first = world.run("GET foo");
    world.say(C, "-CLUSTERDOWN Hash slot not served");
    world.wait(Duration::from_secs(1));
    // It may have gone to C once more, before the map was there.
    while !world.asked(C).is_empty() {
        world.say(C, "-CLUSTERDOWN Hash slot not served");
        world.wait(Duration::from_secs(1));
    }
    let failure = world.failure(first);
    assert!(matches!(failure.kind(), FailureKind::Uncovered(12_182)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn what_most_nodes_say_holds() {
    let mut world = World::live(World::plain());
    let truth = shards(&[(A, 0, 5460), (B, 5461, 16_383)]);
    world.peer(A).map = truth.clone();
    world.peer(B).map = truth;
    world.wait(Duration::from_secs(80));
    let status = world.engine.status();
    assert_eq!(status.shards.len(), 2, "{status}");
}

#[test]
fn refreshes_are_one_at_a_time_and_not_right_after_one_another() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(1));
    // A node that hangs, and that everybody is redirected by.
    world.peer(A).map = String::new();
    let before = world.now.instant;
    let mut asked = 0;
    for _ in 0..50 {
        let ticket = world.run("GET foo");
        world.say(C, &moved("foo", C));
        world.engine.cancel(ticket, world.now);
        world.wait(Duration::from_millis(10));
        asked = asked.max(world.events.len());
    }
    let dials = world.peer(C).dials;
    assert!(world.now.instant - before < Duration::from_secs(2));
    assert!(dials < 10, "{dials} dials in half a second");
}

#[test]
fn every_address_goes_through_the_map() {
    let map = AddressMap::new()
        .function(|host, port| (host == "127.0.0.1").then(|| ("127.0.0.9".to_owned(), port)));
    let mut world = World::new(World::plain().address_map(map));
    let ticket = world.run("GET foo");
    let learned = &world.hosts[1..];
    assert!(learned.iter().all(|host| host.ip().to_string() == "127.0.0.9"), "{learned:?}");
    world.say(C, &moved("foo", B));
    assert_eq!(world.asked(B), ["GET foo"]);
    world.say(B, "_");
    assert_eq!(world.value::<Option<String>>(ticket), None);
}

#[test]
fn cluster_slots_is_asked_where_it_is_chosen_or_nothing_else_is_known() {
    let node = |port: u16| format!("*3\r\n{}:{port}\r\n{}", bulk(""), bulk("id"));
    let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n{}", node(A));
    let mut world = World::new(World::plain().cluster_map(ClusterMap::Slots));
    world.map_all(&slots);
    world.run("GET foo");
    assert_eq!(world.asked(A), ["GET foo"], "no host is the one that was asked");

    let mut world = World::new(World::plain());
    world.map_all("-ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP.\r\n");
    let ticket = world.run("GET foo");
    world.map_all(&slots);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked(A), ["GET foo"]);
    world.say(A, "_");
    assert_eq!(world.value::<Option<String>>(ticket), None);
}

#[test]
fn a_server_that_is_no_cluster_is_an_error() {
    let mut world = World::new(World::plain());
    world.map_all("-ERR This instance has cluster support disabled\r\n");
    let ticket = world.engine.connect(None, world.now);
    world.drain();
    let failure = world.engine.take_wait(ticket).expect("judged").expect_err("no cluster");
    assert!(failure.to_string().contains("cluster support disabled"), "{failure}");
    assert!(matches!(failure.cause(), Some(Cause::NoCluster(_))), "{failure}");
    assert!(failure.to_string().contains("its URL begins with redis://"), "{failure}");
    assert!(world.events.iter().any(|event| event.contains("redis://")), "{:?}", world.events);
    let ticket = world.run("GET foo");
    world.wait(Duration::from_secs(1));
    let failure = world.failure(ticket);
    assert_eq!(failure.executed(), Executed::No);
    assert!(failure.to_string().contains("its URL begins with redis://"), "{failure}");
}

#[test]
fn who_is_signed_out_where_the_map_is_asked_for_signs_in_again() {
    let mut world = World::live(World::plain());
    let dials = [A, B, C].map(|port| world.peer(port).dials);
    world.map_all("-NOAUTH Authentication required.\r\n");
    world.wait(Duration::from_secs(70));
    for (port, before) in [A, B, C].into_iter().zip(dials) {
        assert!(world.peer(port).dials > before, "{port} would never be asked again with success");
    }
    world.map_all(&thirds(A, B, C));
    world.wait(Duration::from_secs(2));
    assert_eq!(world.engine.health(), Health::Live);
}

//! One slot's commands keep their order across redirects, whatever connections they are on.

use std::time::Duration;

use unfazed_core::{
    Cause, Request,
    engine::{Batch, ConnId},
    slot::slot,
};

use super::nodes::{A, B, C, OF_C, World, ask, moved, shards};

/// A key in another slot of C.
const ALSO_OF_C: &str = "foo1";

/// C has been asked something about both slots, and then says of the first that it is not its own under
/// this connection: it is to be dialled anew, and the old connection owes an answer.
fn with_an_old_connection(refused: bool) -> (World, ConnId) {
    assert!(slot(ALSO_OF_C.as_bytes()) >= 10_923 && slot(ALSO_OF_C.as_bytes()) != slot(b"foo"));
    let mut world = World::live(World::plain());
    let old = world.links(C)[0].conn;
    world.run(&format!("GET {ALSO_OF_C}"));
    world.run("APPEND foo 1");
    if refused {
        world.peer(C).refuses = true;
    }
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (C, 10_923, 16_383)]));
    world.say_on(old, &moved(ALSO_OF_C, C));
    (world, old)
}

#[test]
fn what_waits_for_a_dead_node_is_not_overtaken_when_its_slot_moves() {
    let (mut world, old) = with_an_old_connection(true);
    world.run("APPEND foo 2");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say_on(old, &moved(OF_C, B));
    world.run("APPEND foo 3");
    let asked = world.asked(B);
    let asked: Vec<_> = asked.iter().filter(|command| command.starts_with("APPEND")).collect();
    assert_eq!(asked, ["APPEND foo 1", "APPEND foo 2", "APPEND foo 3"]);
}

#[test]
fn what_is_owed_on_an_older_connection_goes_first() {
    let (mut world, old) = with_an_old_connection(false);
    world.wait(Duration::from_secs(1));
    world.run("APPEND foo 2");
    let new = world.links(C)[1].conn;
    assert_ne!(new, old);
    // The new connection has first been given what was redirected from the old one.
    world.say_on(new, "$-1");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say_on(new, &moved(OF_C, B));
    world.run("APPEND foo 3");
    assert!(world.asked(B).is_empty(), "the first may still be carried out by C");
    world.say_on(old, &moved(OF_C, B));
    assert_eq!(world.asked(B), ["APPEND foo 1", "APPEND foo 2", "APPEND foo 3"]);
}

/// C has been asked something, and a new map gives its slots to B before it has answered.
fn with_a_former_owner(command: &str) -> (World, ConnId) {
    let mut world = World::live(World::plain());
    let former = world.links(C)[0].conn;
    world.run(command);
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.run("GET hello");
    world.say(A, "-CLUSTERDOWN The cluster is down");
    world.wait(Duration::from_millis(300));
    assert!(world.events.iter().any(|event| event.contains("7003 is not needed")), "the new map");
    (world, former)
}

#[test]
fn what_a_former_owner_owes_is_not_overtaken_after_a_new_map() {
    let (mut world, former) = with_a_former_owner("APPEND foo 1");
    world.run("APPEND foo 2");
    world.run("GET name");
    assert_eq!(world.asked(B), ["GET name"], "the first may still be carried out by C");
    world.say_on(former, &moved(OF_C, B));
    assert_eq!(world.asked(B), ["GET name", "APPEND foo 1", "APPEND foo 2"]);
}

#[test]
fn what_a_former_owner_loses_goes_again_before_what_is_newer() {
    let (mut world, former) = with_a_former_owner("SET foo 1");
    world.run("SET foo 2");
    world.close(former, Cause::Reset);
    assert_eq!(world.asked(B), ["SET foo 1", "SET foo 2"]);
}

#[test]
fn what_is_owed_is_not_overtaken_after_a_redirect_of_what_waits_on_its_own() {
    let mut world = World::live(World::plain());
    world.run("APPEND foo 1");
    world.run("BLPOP foo 1");
    world.say_own(C, &moved(OF_C, B));
    world.run("APPEND foo 2");
    assert!(world.asked(B).is_empty(), "the first may still be carried out by C");
    world.say(C, &moved(OF_C, B));
    assert_eq!(world.asked(B), ["APPEND foo 1", "APPEND foo 2"]);
}

#[test]
fn what_was_to_be_asked_elsewhere_goes_to_a_new_owner_with_what_comes_after_it() {
    let mut world = World::live(World::plain());
    world.run("APPEND foo 1");
    world.run(&format!("GET {ALSO_OF_C}"));
    world.run("APPEND foo 2");
    world.say(C, &ask(OF_C, B));
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (A, 10_923, 16_383)]));
    world.say(C, &moved(ALSO_OF_C, A));
    world.wait(Duration::from_secs(1));
    // While C owed something, the slot was given to A.
    world.run("APPEND foo 3");
    world.say(C, &moved(OF_C, A));
    let asked = world.asked(A);
    let asked: Vec<_> = asked.iter().filter(|command| command.starts_with("APPEND")).collect();
    assert_eq!(asked, ["APPEND foo 1", "APPEND foo 2", "APPEND foo 3"]);
}

#[test]
fn what_was_refused_for_now_and_goes_again_is_not_taken_for_answered_in_its_order() {
    let mut world = World::live(World::plain());
    let of_c = slot(OF_C.as_bytes());
    let mut batch = Batch::new();
    for command in ["CLUSTER NODES", "SCAN 0", "CLUSTER NODES"] {
        batch.push(&Request::new(command));
    }
    let batch = batch.beside(of_c);
    let place = world.engine.place_of(&batch);
    let before = world.engine.connection_at(place);
    for refuses in [false, true] {
        let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
        world.drain();
        if refuses {
            // What it says of itself before and after is told at once, and the page comes later.
            world.say(C, "-BUSY Redis is busy running a script.");
            world.wait(Duration::from_secs(1));
        }
        world.say(C, "*2\r\n$1\r\n0\r\n*0");
        assert_eq!(world.engine.connection_at(place), before, "it is the same one");
        let outcomes = world.engine.take_batch(ticket).expect("ended");
        assert_eq!(outcomes.strayed(), refuses);
    }
}

#[test]
fn what_is_asked_of_a_node_that_was_named_meanwhile_overtakes_nothing() {
    const D: u16 = 7004;
    let mut world = World::live(World::plain());
    world.run("APPEND foo 1");
    world.run("APPEND foo 2");
    // The first is sent to a node that no map has named yet, and the second after one has.
    world.map_all(&shards(&[
        (A, 0, 5460),
        (B, 5461, 8000),
        (D, 8001, 10_922),
        (C, 10_923, 16_383),
    ]));
    world.say(C, &ask(OF_C, D));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked(C), ["APPEND foo 2"], "the new map is there, and this one is owed");
    world.say(C, &ask(OF_C, D));
    while let Some(command) = world.asked(C).first() {
        assert!(command.starts_with("APPEND"), "{command}");
        world.say(C, &ask(OF_C, D));
        world.wait(Duration::from_millis(10));
    }
    let asked = world.asked(D);
    let asked: Vec<_> = asked.iter().filter(|command| command.starts_with("APPEND")).collect();
    assert_eq!(asked, ["APPEND foo 1", "APPEND foo 2"]);
}

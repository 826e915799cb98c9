//! Scripts and libraries in a cluster: which node is given which, and whose word a redirect is.

use std::time::Duration;

use unfazed_core::{
    Executed, FailureKind, Options, Request, Script,
    engine::{Batch, Ticket},
};

use super::{
    cluster_leases::popped,
    nodes::{A, B, C, OF_C, World, moved, shards},
};

const SOURCE: &str = "return 7";
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.";

fn call(world: &mut World, script: &Script) -> Ticket {
    let call = Request::script(script).int(1).key("foo");
    let (ticket, _) = world.engine.submit(&call, None, world.now).expect("room");
    world.drain();
    ticket
}

fn name(commands: &[String]) -> Vec<&str> {
    commands.iter().map(|command| command.split(' ').next().expect("a name")).collect()
}

#[test]
fn the_next_master_is_given_the_source_it_lacks() {
    let mut world = World::live(World::plain());
    let script = Script::new(SOURCE);
    let first = call(&mut world, &script);
    assert_eq!(name(&world.asked(C)), ["EVALSHA"]);
    world.say(C, NOSCRIPT);
    assert_eq!(name(&world.asked(C)), ["EVAL"]);
    world.say(C, ":7");
    assert_eq!(world.value::<i64>(first), 7);
    world.kill(C, &shards(&[(A, 0, 5460), (B, 5461, 10_922), (7004, 10_923, 16_383)]));
    world.wait(Duration::from_secs(1));
    let second = call(&mut world, &script);
    assert_eq!(name(&world.asked(7004)), ["EVALSHA"]);
    world.say(7004, NOSCRIPT);
    assert_eq!(name(&world.asked(7004)), ["EVAL"]);
    world.say(7004, ":7");
    assert_eq!(world.value::<i64>(second), 7);
}

#[test]
fn a_call_that_is_redirected_is_given_its_source_where_it_arrives() {
    let mut world = World::live(World::plain());
    let ticket = call(&mut world, &Script::new(SOURCE));
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say(C, &moved(OF_C, B));
    world.wait(Duration::from_millis(500));
    assert_eq!(name(&world.asked(B)), ["EVAL"], "nobody knows whether B has it");
    world.say(B, ":7");
    assert_eq!(world.value::<i64>(ticket), 7);
}

#[test]
fn scripts_and_libraries_are_loaded_at_all_masters() {
    for command in ["SCRIPT LOAD x", "FUNCTION LOAD x", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
        let mut world = World::live(World::plain());
        let ticket = world.run(command);
        for port in [A, B, C] {
            assert_eq!(world.asked(port), [command]);
            world.say(port, "$1\r\nx");
        }
        assert_eq!(world.value::<String>(ticket), "x");
    }
}

/// A server would refuse it too, but its words could be the script's.
#[test]
fn a_script_with_keys_in_several_slots_is_refused_and_was_not_executed() {
    let mut world = World::live(World::plain());
    for command in ["EVAL x 2 foo hello", "EVALSHA x 2 foo hello", "FCALL_RO f 2 foo hello"] {
        let ticket = world.run(command);
        let failure = world.engine.take(ticket).expect("ended").expect_err("two slots");
        assert!(matches!(failure.kind(), FailureKind::Misuse(_)), "{failure}");
        assert!(failure.to_string().contains("hash tag"), "{failure}");
        assert_eq!((failure.executed(), failure.attempts()), (Executed::No, 0));
    }
    let ticket = world.run("EVAL x 2 {foo}1 {foo}2");
    assert_eq!(world.asked(C), ["EVAL x 2 {foo}1 {foo}2"]);
    world.say(C, ":1");
    assert_eq!(world.value::<i64>(ticket), 1);
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn a_redirect_of_a_scripts_own_making_is_its_error_also_among_what_waits() {
    for (map, moves) in [(10_923, false), (16_384, true)] {
        let mut world = World::live(World::plain());
        let mut pipeline = Batch::new();
        pipeline.push(&Request::new("EVAL x 1 foo"));
        pipeline.push(&Request::new("BLPOP foo 1"));
        let (ticket, _) = world.engine.submit_batch(&pipeline, None, world.now).expect("one slot");
        world.drain();
        let own = world.links(C)[1].conn;
        if moves {
            world.map_all(&shards(&[(A, 0, 5460), (B, 5461, map - 1)]));
        }
        world.say_on(own, &moved(OF_C, B));
        world.say_on(own, &if moves { moved(OF_C, B) } else { popped("foo", "x") });
        world.wait(Duration::from_millis(500));
        if moves {
            assert_eq!(world.asked_own(B), ["EVAL x 1 foo", "BLPOP foo 1"]);
            world.say_own(B, ":7");
            world.say_own(B, &popped("foo", "x"));
        }
        let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("each");
        match &outcomes[0] {
            Ok(_) => assert!(moves),
            Err(failure) => {
                assert!(!moves);
                assert_eq!(failure.server_error().expect("its words").code(), "MOVED");
                assert_eq!(failure.executed(), Executed::Maybe);
            }
        }
        assert!(outcomes[1].is_ok());
    }
}

#[test]
fn a_redirect_that_may_be_a_scripts_own_words_leaves_it_open_whether_it_ran_also_among_what_waits()
{
    let mut world = World::live(World::plain());
    // Nobody says any more how the slots are served.
    world.map_all("");
    let mut pipeline = Batch::new();
    let limited = Options { deadline: Some(Duration::from_millis(500)), ..Options::default() };
    pipeline.push(&Request::new("EVAL x 1 foo").options(limited));
    pipeline.push(&Request::new("BLPOP foo 1").options(limited));
    let (ticket, _) = world.engine.submit_batch(&pipeline, None, world.now).expect("one slot");
    world.drain();
    let own = world.links(C)[1].conn;
    world.say_on(own, &moved(OF_C, B));
    world.wait(Duration::from_secs(1));
    let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("each");
    let failure = outcomes[0].as_ref().expect_err("nobody has answered");
    assert!(matches!(failure.kind(), FailureKind::DeadlinePassed(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
}

//! Connections of one's own that are given back before all that was asked on them is answered.

use super::{doubts::world_with_a_lease, *};
use unfazed_core::config::Forced;

#[test]
fn what_was_asked_on_a_connection_that_is_being_closed_ends_though_it_was_given_back() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    let request = Request::new("GET a");
    let (ticket, _) = world.engine.submit_on(lease, &request, None, world.now).expect("room");
    let shared = world.conn.replace(own);
    world.drain();
    assert!(world.write().contains("GET"));
    world.conn = shared;
    world.engine.force(Some(Forced::Isolated), world.now);
    world.engine.give_back(lease, world.now);
    world.drain();
    let failure = world.engine.take(ticket).expect("it has ended").expect_err("unanswered");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn what_stands_in_line_for_room_goes_out_though_its_connection_was_given_back() {
    let (mut world, own, lease) = world_with_a_lease(|config| config.queue.requests_max = 1);
    let before = world.run(&Request::new("GET b"));
    let request = Request::new("GET a");
    let (ticket, _) = world.engine.submit_on(lease, &request, None, world.now).expect("a line");
    world.engine.give_back(lease, world.now);
    world.drain();
    world.write();
    world.say("$1\r\nb\r\n");
    assert_eq!(world.value::<String>(before), "b");
    world.conn = Some(own);
    assert!(world.write().contains("GET"));
    world.say("$1\r\na\r\n");
    assert_eq!(world.value::<String>(ticket), "a");
}

#[test]
fn what_is_refused_on_a_connection_of_ones_own_goes_no_other_way_though_it_was_given_back() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    world.run_on(lease, own, "GET a", "$1\r\na\r\n");
    let request = Request::new("GET a");
    let (ticket, _) = world.engine.submit_on(lease, &request, None, world.now).expect("room");
    let shared = world.conn.replace(own);
    world.drain();
    assert!(world.write().contains("GET"));
    world.engine.give_back(lease, world.now);
    // The server is judged down for it, and memory has an answer.
    world.say("-LOADING soon\r\n");
    world.conn = shared;
    world.drain();
    assert_eq!(world.engine.health(), Health::Degraded);
    let failure = world.engine.take(ticket).expect("it has ended").expect_err("refused");
    assert!(matches!(failure.kind(), FailureKind::Server(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn a_pop_that_is_given_up_on_a_connection_of_ones_own_is_told_of() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    for (command, told) in [("GET a", 0), ("BLPOP a 5", 1)] {
        let request = Request::new(command);
        let (ticket, _) = world.engine.submit_on(lease, &request, None, world.now).expect("room");
        let shared = world.conn.replace(own);
        world.drain();
        world.write();
        world.conn = shared;
        world.engine.cancel(ticket, world.now);
        world.drain();
        let given_up = world.events.iter().filter(|event| event.contains("given up"));
        assert_eq!(given_up.count(), told, "{command}");
    }
}

#[test]
fn a_connection_whose_exec_was_never_written_is_not_as_good_as_new() {
    let (mut world, own, lease) = world_with_a_lease(|_| {});
    let submit = |world: &mut World, batch: &Batch| {
        let (ticket, _) =
            world.engine.submit_batch_on(lease, batch, None, world.now).expect("room");
        world.drain();
        ticket
    };
    let mut watch = Batch::new();
    watch.push(&Request::new("WATCH a"));
    submit(&mut world, &watch);
    world.conn = Some(own);
    world.write();
    world.say("+OK\r\n");
    let mut set = Batch::new();
    set.push(&Request::new("SET a 1"));
    let exec = submit(&mut world, &set.into_transaction());
    world.engine.cancel(exec, world.now);
    world.engine.give_back(lease, world.now);
    world.drain();
    assert_eq!(world.engine.status().leases, 0, "it is closed, for it still watches");
}

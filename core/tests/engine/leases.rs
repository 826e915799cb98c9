//! Connections of their own to a single server: what is written on them, and what becomes of them.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind, Fallback, Options, Request,
    config::Forced,
    engine::{Health, Input, Lease, Output, Ticket},
    failure::{Bound, Stage},
    fallback::Policy,
};

use super::{
    cluster_leases::{batch, popped, refused},
    nodes::{A, World, bulk},
};

fn plain() -> Config {
    Config::standalone("127.0.0.1", A).client_info(false)
}

fn encoded(commands: &[&str]) -> String {
    let word = |word: &str| format!("${}\r\n{word}\r\n", word.len());
    let command = |command: &&str| {
        let words: Vec<_> = command.split(' ').map(word).collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    commands.iter().map(command).collect()
}

fn is_lost(failure: &unfazed_core::Failure) -> bool {
    matches!(failure.kind(), FailureKind::ConnectionLost(_))
}

#[test]
fn a_wait_is_sent_in_slices_until_its_time_is_over() {
    let mut world = World::live(plain());
    let ticket = world.run("BLPOP a 5");
    for wait in [2, 2, 1] {
        assert!(world.engine.take(ticket).is_none(), "its time is not over");
        world.wait(Duration::from_secs(wait));
        world.say_own(A, "*-1");
    }
    let slices = encoded(&["BLPOP a 2", "BLPOP a 2", "BLPOP a 1"]);
    assert_eq!(world.own(A).wrote, slices);
    assert_eq!(world.value::<Option<(String, String)>>(ticket), None);
    // In milliseconds, and elsewhere among the arguments.
    world.run("XREAD COUNT 2 BLOCK 2500 STREAMS s 0-0");
    world.wait(Duration::from_secs(2));
    world.say_own(A, "*-1");
    let reads = ["XREAD COUNT 2 BLOCK 2000 STREAMS s 0-0", "XREAD COUNT 2 BLOCK 500 STREAMS s 0-0"];
    assert_eq!(world.own(A).wrote, slices + &encoded(&reads));
}

#[test]
fn a_nil_that_comes_early_was_somebodys_wish() {
    let mut world = World::live(plain());
    let ticket = world.run("BLPOP a 0");
    world.wait(Duration::from_millis(1_700));
    world.say_own(A, "*-1");
    assert_eq!(world.value::<Option<(String, String)>>(ticket), None);
}

#[test]
fn the_newest_entry_is_what_it_was_when_the_wait_began() {
    let mut world = World::live(plain());
    let ticket = world.run("XREAD BLOCK 0 STREAMS s t $ 5-0");
    assert_eq!(world.own(A).wrote, encoded(&["XINFO STREAM s"]));
    world.say_own(A, &format!("%1\r\n{}{}", bulk("last-generated-id"), bulk("7-1").trim_end()));
    assert_eq!(world.asked_own(A), ["XREAD BLOCK 2000 STREAMS s t 7-1 5-0"]);
    // It is the same on another connection.
    let conn = world.own(A).conn;
    world.close(conn, Cause::Reset);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked_own(A), ["XREAD BLOCK 2000 STREAMS s t 7-1 5-0"]);
    assert!(world.engine.take(ticket).is_none());
    // Who may not ask for it waits in one piece.
    let mut world = World::live(plain());
    world.run("XREAD BLOCK 0 STREAMS s $");
    world.say_own(A, "-NOPERM this user has no permissions to run the 'xinfo|stream' command");
    assert_eq!(world.asked_own(A), ["XREAD BLOCK 0 STREAMS s $"]);
    world.wait(Duration::from_secs(60));
    assert_eq!(world.asked_own(A), ["XREAD BLOCK 0 STREAMS s $"]);
}

#[test]
fn a_limit_of_the_callers_own_leaves_time_for_the_servers_answer() {
    let mut world = World::live(plain());
    let options = Options { deadline: Some(Duration::from_secs(1)), ..Options::default() };
    let request = Request::new("BLPOP a 60").options(options);
    let (ticket, _) = world.engine.submit(&request, None, world.now).expect("room");
    world.drain();
    assert_eq!(world.own(A).wrote, encoded(&["BLPOP a 0.750"]));
    world.wait(Duration::from_millis(750));
    world.say_own(A, "*-1");
    assert!(world.engine.take(ticket).is_none(), "it ends no sooner than its limit");
    world.wait(Duration::from_millis(250));
    let failure = world.failure(ticket);
    assert!(matches!(failure.kind(), FailureKind::DeadlinePassed(Stage::Reply)), "{failure}");
    assert_eq!(failure.executed(), Executed::No);
}

#[test]
fn a_server_that_dies_while_it_is_waited_at_is_noticed_within_a_slice() {
    let mut world = World::live(plain());
    let pop = world.run("BLPOP a 0");
    world.wait(Duration::from_millis(4_100));
    let failure = world.failure(pop);
    assert!(is_lost(&failure) && failure.cause() == Some(&Cause::Silent), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe, "it may have popped");
}

#[test]
fn a_lost_connection_ends_a_pop_and_not_a_read() {
    let mut world = World::live(plain());
    for (command, goes_on) in [("BRPOP a 0", false), ("XREAD BLOCK 0 STREAMS s 0", true)] {
        let ticket = world.run(command);
        let conn = world.own(A).conn;
        world.close(conn, Cause::Reset);
        world.wait(Duration::from_millis(200));
        if goes_on {
            assert!(world.engine.take(ticket).is_none());
            assert_eq!(world.asked_own(A), ["XREAD BLOCK 2000 STREAMS s 0"]);
        } else {
            assert_eq!(world.failure(ticket).executed(), Executed::Maybe);
        }
    }
}

#[test]
fn what_is_given_up_costs_its_connection_and_is_told_if_it_may_have_popped() {
    for (command, told) in [("BLPOP a 0", true), ("XREAD BLOCK 0 STREAMS s 0", false)] {
        let mut world = World::live(plain());
        let ticket = world.run(command);
        world.events.clear();
        world.engine.cancel(ticket, world.now);
        world.drain();
        assert_eq!(world.links(A).len(), 1, "{command}");
        let name = command.split(' ').next().expect("a name");
        assert_eq!(world.events.iter().any(|event| event.contains(name)), told, "{command}");
        assert_eq!(world.engine.status().queued_requests, 0);
    }
}

#[test]
fn what_is_given_up_while_its_connection_is_being_closed_may_have_popped_as_well() {
    let mut world = World::live(plain());
    world.closes_slowly = true;
    let ticket = world.run("BLPOP a 0");
    let conn = world.own(A).conn;
    world.wait(Duration::from_secs(8));
    assert!(world.engine.is_pending(ticket), "its connection is not closed yet");
    world.engine.cancel(ticket, world.now);
    world.drain();
    assert!(world.events.iter().any(|event| event.contains("BLPOP")), "{:?}", world.events);
    world.close(conn, Cause::Local);
    assert!(world.events.iter().any(|event| event.contains("silent")), "{:?}", world.events);
}

#[test]
fn what_is_given_up_and_goes_out_later_may_pop_as_well() {
    let mut world = World::live(plain());
    let lease = world.lease();
    world.run_on(lease, "GET a");
    let pop = Request::new("BLPOP a 0");
    let (ticket, _) = world.engine.submit_on(lease, &pop, None, world.now).expect("room");
    world.engine.cancel(ticket, world.now);
    world.drain();
    assert_eq!(world.own(A).wrote, encoded(&["GET a", "BLPOP a 0"]));
    assert!(world.events.iter().any(|event| event.contains("BLPOP")), "{:?}", world.events);
}

#[test]
fn connections_are_used_again_the_last_one_first_and_closed_when_nobody_does() {
    let mut world = World::live(plain());
    let tickets = ["BLPOP a 0", "BLPOP b 0"].map(|command| world.run(command));
    let conns: Vec<_> = world.links(A).iter().map(|link| link.conn).collect();
    for (conn, key) in [(conns[1], "a"), (conns[2], "b")] {
        world.say_on(conn, &popped(key, "x"));
        world.wait(Duration::from_millis(10));
    }
    for ticket in tickets {
        world.value::<(String, String)>(ticket);
    }
    assert_eq!((world.engine.status().leases, world.engine.status().leases_idle), (2, 2));
    world.run("BLPOP c 0");
    let own = world.links(A).split_off(1);
    let busy: Vec<_> = own.iter().filter(|peer| !peer.asked.is_empty()).collect();
    assert_eq!((busy.len(), busy[0].conn), (1, conns[2]));
    world.wait(Duration::from_secs(1));
    world.say_on(conns[2], &popped("c", "x"));
    world.wait(Duration::from_secs(11));
    assert_eq!(world.links(A).len(), 1);
    assert_eq!(world.engine.status().leases, 0);
}

#[test]
fn those_in_line_get_a_connection_in_order_or_are_told_the_bound() {
    let mut world = World::live(plain().leases_max(1));
    let tickets: Vec<_> = (0..3).map(|at| world.run(&format!("BLPOP k{at} 0"))).collect();
    assert_eq!(world.engine.status().leases_waited_for, 2);
    assert_eq!(world.events.iter().filter(|event| event.contains("leases_max")).count(), 1);
    world.say_own(A, &popped("k0", "x"));
    assert_eq!(world.asked_own(A), ["BLPOP k1 2"]);
    for _ in 0..3 {
        world.wait(Duration::from_millis(1_900));
        world.say_own(A, "*-1");
    }
    let failure = world.failure(tickets[2]);
    let bound = FailureKind::DeadlinePassed(Stage::Lease(Bound::Leases)).to_string();
    assert_eq!(failure.kind().to_string(), bound);
    assert!(world.engine.take(tickets[1]).is_none());
}

#[test]
fn a_connection_is_passed_on_though_memory_has_the_last_word_of_its_pipeline() {
    let cache = Fallback::memory("cache:*", Policy::Invalidate);
    let mut world = World::live(plain().fallback(cache).leases_max(1));
    world.engine.force(Some(Forced::Memory), world.now);
    world.drain();
    // What goes on in memory waits behind what goes to the server.
    let both = world.run("MSET cache:a 1 wallet:a 1");
    let pipeline = world.batch(&["INCR cache:a", "BLPOP wallet:b 0"]).expect("room");
    world.run("BLPOP wallet:c 0");
    world.say_own(A, &popped("wallet:b", "x"));
    assert!(world.asked_own(A).is_empty(), "half of the pipeline is still open");
    world.say(A, "+OK");
    assert_eq!(world.value::<String>(both), "OK");
    assert!(world.engine.take_batch(pipeline).is_some());
    assert_eq!(world.asked_own(A), ["BLPOP wallet:c 2"]);
}

#[test]
fn connections_that_end_at_once_are_not_dialled_in_a_circle() {
    let mut world = World::live(plain());
    world.run("XREAD BLOCK 0 STREAMS s 0");
    let mut dials = 0;
    for _ in 0..100 {
        if let Some(conn) = world.links(A).get(1).map(|link| link.conn) {
            dials += 1;
            world.close(conn, Cause::Reset);
        }
        world.wait(Duration::from_millis(10));
    }
    assert!((2..=12).contains(&dials), "{dials} within a second");
}

#[test]
fn a_connection_that_is_not_signed_in_says_nothing_of_the_others() {
    let mut world = World::live(plain());
    let shared = world.links(A)[0].conn;
    let ticket = world.run("BLPOP k 0");
    let own = world.own(A).conn;
    world.say_own(A, "-NOAUTH Authentication required.");
    assert_eq!((world.engine.health(), world.links(A)[0].conn), (Health::Live, shared));
    // It signs in anew, on another one.
    world.wait(Duration::from_millis(100));
    assert!(world.own(A).conn != own);
    world.say_own(A, &popped("k", "x"));
    assert_eq!(world.value::<[String; 2]>(ticket), ["k", "x"]);
}

#[test]
fn a_pipeline_that_waits_goes_out_in_one_piece_and_is_pinned_to_its_connection() {
    let commands = ["SET a 1", "WAIT 1 50"];
    let mut world = World::live(plain());
    let ticket = world.batch(&commands).expect("room");
    assert_eq!(world.own(A).wrote, encoded(&commands));
    world.say_own(A, "+OK");
    world.say_own(A, ":1");
    assert_eq!(world.values::<String>(ticket), ["OK", "1"]);
    // On another connection WAIT would be about nothing.
    let ticket = world.batch(&commands).expect("room");
    world.say_own(A, "+OK");
    let conn = world.own(A).conn;
    world.close(conn, Cause::Reset);
    let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("a pipeline");
    assert!(outcomes[0].is_ok());
    assert!(is_lost(outcomes[1].as_ref().expect_err("it got no answer")));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.links(A).len(), 1, "nothing is sent again");
    world.refusal(None, "WAIT 1 50");
}

#[test]
fn a_connection_of_ones_own_is_used_again_only_if_nothing_was_said_that_stays() {
    let cases: [(&[&str], bool); 8] = [
        (&["GET a"], true),
        (&["WATCH a", "UNWATCH"], true),
        (&["WATCH a", "MULTI", "GET a", "EXEC"], true),
        (&["MULTI", "DISCARD"], true),
        (&["WATCH a"], false),
        (&["MULTI"], false),
        (&["SELECT 1"], false),
        (&["MODULE.COMMAND"], false),
    ];
    for (commands, clean) in cases {
        let mut world = World::live(plain());
        let lease = world.lease();
        for command in commands {
            let ticket = world.run_on(lease, command);
            world.say_own(A, "+OK");
            world.value::<String>(ticket);
        }
        assert_eq!(world.own(A).wrote, encoded(commands));
        world.engine.give_back(lease, world.now);
        world.drain();
        assert_eq!(world.links(A).len() == 2, clean, "{commands:?}");
    }
}

#[test]
fn a_connection_that_is_given_back_is_waited_for_until_all_is_answered() {
    let mut world = World::live(plain());
    let lease = world.lease();
    let ticket = world.run_on(lease, "INCR a");
    world.engine.give_back(lease, world.now);
    world.drain();
    assert_eq!(world.engine.status().leases_idle, 0);
    world.say_own(A, ":1");
    assert_eq!(world.value::<i64>(ticket), 1);
    assert_eq!(world.engine.status().leases_idle, 1);
}

#[test]
fn a_connection_that_was_given_back_is_nobodys_once_what_stood_in_line_has_failed() {
    let mut world = World::live(plain().queue_requests_max(1));
    world.peer(A).refuses = true;
    world.lose(A, Cause::Reset);
    let lease = world.engine.lease(world.now).expect("room");
    let ask = |world: &mut World, command| {
        let request = Request::new(command);
        world.engine.submit_on(lease, &request, None, world.now).expect("room").0
    };
    let asked = [ask(&mut world, "GET a"), ask(&mut world, "GET b")];
    assert_eq!(world.engine.status().waiting_requests, 1);
    world.engine.give_back(lease, world.now);
    world.engine.force(Some(Forced::Isolated), world.now);
    world.drain();
    for ticket in asked {
        assert!(matches!(world.failure(ticket).kind(), FailureKind::Isolated));
    }
    assert_eq!(world.engine.status().leases, 0);
}

#[test]
fn what_fails_as_soon_as_there_is_room_leaves_nothing_to_be_done_at_once() {
    let fails = Fallback::fail("fail:*");
    let mut world = World::live(plain().queue_requests_max(1).fallback(fails));
    world.peer(A).refuses = true;
    world.lose(A, Cause::Reset);
    let lease = world.engine.lease(world.now).expect("room");
    let limited = Options { deadline: Some(Duration::from_secs(1)), ..Options::default() };
    let first = Request::new("GET a").options(limited);
    let _ = world.engine.submit(&first, None, world.now).expect("room");
    let second = Request::new("GET fail:b");
    let (second, _) = world.engine.submit_on(lease, &second, None, world.now).expect("room");
    world.wait(Duration::from_millis(900));
    assert_eq!(world.engine.status().waiting_requests, 1);
    world.now = world.now + Duration::from_millis(100);
    world.engine.handle_input(Input::Timeout, world.now);
    assert!(matches!(world.failure(second).kind(), FailureKind::Down(_)));
    let due = loop {
        if let Output::Wait(at) = world.engine.poll_output() {
            break at;
        }
    };
    assert!(due.is_none_or(|at| at > world.now.instant));
}

#[test]
fn a_message_goes_out_on_a_connection_of_ones_own_that_has_outlived_the_shared_one() {
    let cached = Fallback::memory("cache:*", Policy::Invalidate);
    let mut world = World::live(plain().fallback(cached));
    let lease = world.engine.lease(world.now).expect("room");
    world.run_on(lease, "WATCH a");
    let conn = world.own(A).conn;
    world.say_on(conn, "+OK");
    world.wait(Duration::from_millis(600));
    world.peer(A).refuses = true;
    world.lose(A, Cause::Reset);
    assert_eq!(world.engine.health(), Health::Degraded);
    let message = world.run_on(lease, "PUBLISH news hello");
    world.say_on(conn, ":1");
    assert_eq!(world.value::<u32>(message), 1);
    // What memory may hold something of is not the server's yet, and without a connection nothing is.
    let cached = world.run_on(lease, "GET cache:a");
    assert!(matches!(world.failure(cached).kind(), FailureKind::Down(_)));
    let fresh = world.engine.lease(world.now).expect("room");
    let message = world.run_on(fresh, "PUBLISH news hello");
    assert!(matches!(world.failure(message).kind(), FailureKind::Down(_)));
}

fn lost_in_the_middle(world: &mut World, lease: Lease) -> [Ticket; 2] {
    let tickets = ["WATCH a", "GET a"].map(|command| world.run_on(lease, command));
    let conn = world.own(A).conn;
    world.say_on(conn, "+OK");
    world.close(conn, Cause::Reset);
    tickets
}

#[test]
fn what_is_lost_with_a_connection_of_ones_own_is_never_sent_again() {
    let mut world = World::live(plain());
    let lease = world.lease();
    let [watch, get] = lost_in_the_middle(&mut world, lease);
    world.value::<String>(watch);
    assert!(is_lost(&world.failure(get)), "not even a read");
    let next = world.engine.submit_on(lease, &Request::new("GET a"), None, world.now);
    let failure = refused(next.expect_err("it is of no use"));
    assert!(is_lost(&failure) && failure.executed() == Executed::No);
    let whole = batch(&["SET a 1"]).into_transaction();
    let next = world.engine.submit_batch_on(lease, &whole, None, world.now);
    assert!(is_lost(&refused(next.expect_err("what was watched is not any more"))));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.links(A).len(), 1);
}

#[test]
fn nothing_of_the_clients_own_is_said_between_multi_and_exec() {
    let mut config = plain();
    config.response_timeout = Duration::from_millis(500);
    let mut world = World::live(config);
    let lease = world.lease();
    let multi = world.run_on(lease, "MULTI");
    world.say_own(A, "+OK");
    world.value::<String>(multi);
    world.wait(Duration::from_secs(120));
    world.run_on(lease, "EXEC");
    assert_eq!(world.own(A).wrote, encoded(&["MULTI", "EXEC"]));
    assert_eq!(world.asked_own(A), ["EXEC"], "no PING is before it");
}

#[test]
fn what_would_change_how_a_connection_is_read_is_refused_even_on_ones_own() {
    let mut world = World::live(plain());
    let lease = world.lease();
    for command in ["SUBSCRIBE a", "MONITOR", "HELLO 2", "CLIENT REPLY OFF", "QUIT", "RESET"] {
        world.refusal(Some(lease), command);
    }
    assert_eq!(world.links(A).len(), 1, "nobody was dialled for it");
}

//! A cluster of scripted nodes: who is asked, in which order, and what follows from what they say.

use std::time::Duration;

use unfazed_core::{
    Cause, Config, Executed, FailureKind, Options, Request,
    config::Endpoint,
    engine::{Batch, Health},
    reply::FromReply,
};

use super::nodes::{A, ALSO_OF_A, B, C, OF_A, OF_B, OF_C, World, ask, bulk, moved, shards};

#[test]
fn each_request_goes_to_the_node_of_its_slot() {
    let mut world = World::live(World::plain());
    let tickets = [OF_A, OF_B, OF_C].map(|key| world.run(&format!("GET {key}")));
    for (port, ticket) in [A, B, C].into_iter().zip(tickets) {
        assert_eq!(world.asked(port).len(), 1);
        world.say(port, &format!(":{port}"));
        assert_eq!(world.value::<u16>(ticket), port);
    }
    assert_eq!(world.engine.status().shards.len(), 3);
    assert_eq!(world.engine.status().queued_requests, 0);
}

#[test]
fn requests_from_before_the_map_wait_for_it() {
    let mut world = World::new(World::plain());
    let (ticket, _) = world.engine.submit(&Request::new("GET foo"), None, world.now).expect("room");
    world.drain();
    assert_eq!(world.asked(C), ["GET foo"]);
    world.say(C, "$1\r\nx");
    assert_eq!(world.value::<String>(ticket), "x");
}

#[test]
fn a_dead_seed_hinders_nobody_and_without_any_connect_says_why() {
    let seeds = [Endpoint::tcp("127.0.0.1", 7009), Endpoint::tcp("127.0.0.1", A)];
    let mut world = World::new(Config::cluster(seeds).client_info(false));
    world.peer(7009).refuses = true;
    let ticket = world.engine.connect(None, world.now);
    world.drain();
    assert!(world.engine.take_wait(ticket).expect("connected").is_ok());

    let mut world = World::new(World::plain());
    world.peer(A).refuses = true;
    let ticket = world.engine.connect(None, world.now);
    world.drain();
    let failure = world.engine.take_wait(ticket).expect("judged").expect_err("nobody is there");
    assert!(matches!(failure.kind(), FailureKind::Down(Cause::Refused)), "{failure}");
}

#[test]
fn a_pipeline_across_slots_keeps_results_and_order() {
    let mut world = World::live(World::plain());
    let mut batch = Batch::new();
    for command in ["SET hello 1", "GET foo", "GET name", "INCR hello"] {
        batch.push(&Request::new(command));
    }
    let (ticket, _) = world.engine.submit_batch(&batch, None, world.now).expect("room");
    world.drain();
    assert_eq!(world.asked(A), ["SET hello 1", "INCR hello"]);
    world.say(C, "$1\r\nc");
    world.say(B, "-WRONGTYPE no");
    world.say(A, "+OK");
    world.say(A, ":2");
    let outcomes = world.engine.take_batch(ticket).expect("ended").spread().expect("a pipeline");
    let texts: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|reply| String::from_reply(&reply).expect("text")))
        .map(|outcome| outcome.map_err(|failure| failure.executed()))
        .collect();
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(texts, [ok("OK"), ok("c"), Err(Executed::Yes), ok("2")]);
}

#[test]
fn a_transaction_goes_to_one_slot_or_nowhere() {
    let mut world = World::live(World::plain());
    let batch = |commands: &[&str]| {
        let mut batch = Batch::new();
        commands.iter().for_each(|command| _ = batch.push(&Request::new(command)));
        batch.into_transaction()
    };
    assert!(world.engine.submit_batch(&batch(&["GET foo", "GET hello"]), None, world.now).is_err());
    let one = batch(&["SET {foo}1 1", "INCR {foo}1"]);
    let (ticket, _) = world.engine.submit_batch(&one, None, world.now).expect("room");
    world.drain();
    assert_eq!(world.asked(C), ["MULTI", "SET {foo}1 1", "INCR {foo}1", "EXEC"]);
    // The slot has moved: nothing ran, and the whole goes again.
    world.say(C, "+OK");
    world.say(C, &moved("foo", B));
    world.say(C, &moved("foo", B));
    world.say(C, "-EXECABORT Transaction discarded because of previous errors.");
    assert_eq!(world.asked(B), ["MULTI", "SET {foo}1 1", "INCR {foo}1", "EXEC"]);
    for answer in ["+OK", "+QUEUED", "+QUEUED", "*2\r\n+OK\r\n:2"] {
        world.say(B, answer);
    }
    assert_eq!(world.engine.take_batch(ticket).expect("ended").spread().expect("ran").len(), 2);
}

#[test]
fn moved_is_followed_and_newer_requests_of_the_slot_stay_behind() {
    let mut world = World::live(World::plain());
    let first = world.run("INCR foo");
    let second = world.run("INCR foo");
    world.say(C, &moved("foo", B));
    let third = world.run("INCR foo");
    assert!(world.asked(B).is_empty(), "the second may still be carried out by C");
    world.say(C, &moved("foo", B));
    assert_eq!(world.asked(B).len(), 3);
    for (ticket, number) in [first, second, third].into_iter().zip(1..) {
        world.say(B, &format!(":{number}"));
        assert_eq!(world.value::<i64>(ticket), number);
    }
    let fourth = world.run("INCR foo");
    assert_eq!(world.asked(B), ["INCR foo"]);
    world.say(B, ":4");
    assert_eq!(world.value::<i64>(fourth), 4);
}

#[test]
fn what_waits_for_a_third_node_is_not_overtaken_when_its_slot_moves() {
    let mut world = World::live(World::plain());
    world.peer(C).refuses = true;
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.lose(C, Cause::Reset);
    world.wait(Duration::from_millis(300));
    world.run("APPEND foo 1");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (C, 10_923, 16_383)]));
    world.run("GET hello");
    world.say(A, "-CLUSTERDOWN The cluster is down");
    world.wait(Duration::from_millis(300));
    world.run("APPEND foo 2");
    assert_eq!(world.asked(B), ["APPEND foo 1"]);
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (A, 10_923, 16_383)]));
    world.say(B, &moved(OF_C, A));
    world.run("APPEND foo 3");
    world.wait(Duration::from_millis(300));
    let appended: Vec<_> =
        world.asked(A).into_iter().filter(|asked| asked.contains("foo")).collect();
    assert_eq!(appended, ["APPEND foo 1", "APPEND foo 2", "APPEND foo 3"]);
}

#[test]
fn ask_sends_asking_and_the_command_in_one_piece_and_changes_no_map() {
    let mut world = World::live(World::plain());
    let ticket = world.run("GET foo");
    let link = world.unplug(B);
    let conn = link.conn;
    world.say(C, &ask("foo", B));
    let chunk = world.engine.take_output(conn).expect("something to write");
    assert_eq!(chunk.unwritten(), b"*1\r\n$6\r\nASKING\r\n*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n");
    let count = chunk.unwritten().len();
    world.engine.written(conn, chunk, count, world.now);
    world.plug(link);
    world.receive(conn, "+OK\r\n$1\r\nx\r\n");
    assert_eq!(world.value::<String>(ticket), "x");
    world.run("GET foo");
    assert_eq!(world.asked(C), ["GET foo"], "the slot is C's still");
}

#[test]
fn what_is_taken_back_leaves_no_asking_behind() {
    let mut world = World::live(World::plain());
    let options = Options { deadline: Some(Duration::from_millis(50)), ..Options::default() };
    let request = Request::new("GET foo").options(options);
    let (ticket, _) = world.engine.submit(&request, None, world.now).expect("room");
    world.drain();
    // Its writer does not come.
    let conn = world.unplug(B).conn;
    world.say(C, &ask("foo", B));
    world.run("GET name");
    world.wait(Duration::from_millis(50));
    let failure = world.failure(ticket);
    assert_eq!(failure.executed(), Executed::No, "{failure}");
    let chunk = world.engine.take_output(conn).expect("something to write");
    assert_eq!(chunk.unwritten(), b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n");
}

#[test]
fn a_redirect_to_a_node_that_the_map_does_not_name_waits_for_the_map() {
    let mut world = World::live(World::plain().password("secret"));
    let ticket = world.run("GET foo");
    let dialled = world.hosts.len();
    world.say(C, &moved("foo", 7066));
    world.wait(Duration::from_secs(1));
    assert!(world.hosts[dialled..].iter().all(|host| host.port() != 7066), "no credentials there");
    assert!(world.engine.is_pending(ticket));
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 10_922), (7004, 10_923, 16_383)]));
    // It has gone back to C meanwhile, as the map said.
    while !world.asked(C).is_empty() {
        world.say(C, &moved("foo", 7066));
        world.wait(Duration::from_millis(500));
    }
    assert_eq!(world.asked(7004), ["GET foo"]);
    world.say(7004, "$1\r\nx");
    assert_eq!(world.value::<String>(ticket), "x");
    assert!(world.events.iter().any(|event| event.contains("127.0.0.1:7003 is not needed")));
}

#[test]
fn nodes_that_redirect_in_a_circle_are_followed_so_often_and_no_more() {
    let mut world = World::live(World::plain().redirects_max(5));
    let ticket = world.run("GET foo");
    let (mut at, mut asked) = (C, 0);
    let begin = world.now.instant;
    while world.engine.is_pending(ticket) {
        if world.asked(at).is_empty() {
            world.wait(Duration::from_millis(1));
            continue;
        }
        asked += 1;
        let next = if at == C { B } else { C };
        world.say(at, &moved("foo", next));
        at = next;
        if let Some(outcome) = world.engine.take(ticket) {
            let failure = outcome.expect_err("a circle");
            assert_eq!(failure.executed(), Executed::No);
            break;
        }
        assert!(asked < 20, "it goes round and round");
    }
    assert_eq!(asked, 6);
    // The first goes at once, the others wait 2, 4, 8 and 16 ms.
    assert!(world.now.instant - begin >= Duration::from_millis(30));
}

#[test]
fn moved_to_itself_reconnects_first() {
    let mut world = World::live(World::plain());
    let ticket = world.run("GET foo");
    let dials = world.peer(C).dials;
    world.say(C, &moved("foo", C));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.peer(C).dials, dials + 1);
    assert_eq!(world.asked(C), ["GET foo"]);
    world.say(C, "$1\r\nx");
    assert_eq!(world.value::<String>(ticket), "x");
}

#[test]
fn a_scripts_redirect_is_believed_when_the_map_says_the_same() {
    let mut world = World::live(World::plain());
    let ticket = world.run("EVAL script 1 foo");
    world.say(C, &moved("foo", B));
    world.wait(Duration::from_secs(1));
    let failure = world.failure(ticket);
    assert_eq!((failure.executed(), world.asked(B).len()), (Executed::Maybe, 0));

    let ticket = world.run("EVAL script 1 foo");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say(C, &moved("foo", B));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.asked(B), ["EVAL script 1 foo"]);
    world.say(B, ":1");
    assert_eq!(world.value::<i64>(ticket), 1);
}

/// The slot has moved, but not to where the script said: it ran, and would run a second time.

#[test]
fn a_script_that_names_another_node_than_the_map_does_is_not_sent_there() {
    let mut world = World::live(World::plain());
    let ticket = world.run("EVAL script 1 foo");
    world.map_all(&shards(&[(A, 0, 5460), (B, 5461, 16_383)]));
    world.say(C, &moved(OF_C, A));
    world.wait(Duration::from_secs(1));
    assert!(world.asked(B).is_empty() && world.asked(A).is_empty());
    assert_eq!(world.failure(ticket).executed(), Executed::Maybe);
}

#[test]
fn a_scripts_redirect_that_nothing_confirms_in_time_may_be_its_own_words() {
    let mut world = World::live(World::plain().deadline(Duration::from_millis(20)));
    let ticket = world.run("EVAL script 1 foo");
    world.say(C, &moved(OF_C, B));
    world.wait(Duration::from_millis(30));
    let failure = world.failure(ticket);
    assert!(matches!(failure.kind(), FailureKind::DeadlinePassed(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn commands_on_several_slots_are_split_and_joined_in_order() {
    let mut world = World::live(World::plain());
    let ticket = world.run("MGET foo hello name bar");
    assert_eq!(world.asked(A), ["MGET hello", "MGET bar"]);
    world.say(C, "*1\r\n$1\r\n1");
    world.say(B, "*1\r\n_");
    world.say(A, "*1\r\n$1\r\n2");
    assert!(world.engine.take(ticket).is_none());
    world.say(A, "*1\r\n$1\r\n4");
    let expected = [Some("1".to_owned()), Some("2".into()), None, Some("4".into())];
    assert_eq!(world.value::<Vec<Option<String>>>(ticket), expected);

    let ticket = world.run("MSET foo 1 hello 2");
    assert_eq!(
        (world.asked(A), world.asked(C)),
        (vec!["MSET hello 2".into()], vec!["MSET foo 1".into()])
    );
    world.say(A, "+OK");
    world.say(C, "-OOM no");
    let failure = world.failure(ticket);
    assert_eq!(failure.executed(), Executed::Maybe, "one half of it was");
    assert_eq!(failure.node(), Some("127.0.0.1:7003"));
    assert_eq!((world.engine.status().queued_requests, world.engine.status().tickets), (0, 0));
}

#[test]
fn a_split_command_that_is_given_up_leaves_nothing_behind() {
    let mut world = World::live(World::plain());
    let ticket = world.run("DEL foo hello");
    world.engine.cancel(ticket, world.now);
    world.say(A, ":1");
    world.say(C, ":1");
    assert_eq!((world.engine.status().queued_requests, world.engine.status().tickets), (0, 0));
    let ticket = world.run("DEL foo hello");
    world.say(A, ":1");
    world.wait(Duration::from_secs(10));
    let failure = world.failure(ticket);
    assert_eq!(failure.executed(), Executed::Maybe);
}

#[test]
fn what_concerns_all_nodes_is_asked_of_all_and_joined() {
    let mut world = World::live(World::plain());
    let ticket = world.run("DBSIZE");
    for port in [A, B, C] {
        assert_eq!(world.asked(port), ["DBSIZE"]);
        world.say(port, ":10");
    }
    assert_eq!(world.value::<i64>(ticket), 30);
    let ticket = world.run("KEYS *");
    for (port, key) in [(A, OF_A), (B, OF_B), (C, OF_C)] {
        world.say(port, &format!("*1\r\n{}", bulk(key).trim_end()));
    }
    assert_eq!(world.value::<Vec<String>>(ticket), [OF_A, OF_B, OF_C]);
    let ticket = world.run("FLUSHALL");
    for port in [A, B] {
        world.say(port, "+OK");
    }
    world.say(C, "-NOPERM no");
    assert_eq!(world.failure(ticket).node(), Some("127.0.0.1:7003"));
}

#[test]
fn after_shutdown_nothing_is_left() {
    let mut world = World::live(World::plain());
    let tickets = ["MGET foo hello", "DBSIZE", "GET foo"].map(|command| world.run(command));
    world.say(C, &moved("foo", B));
    world.engine.shutdown(Duration::ZERO, world.now);
    world.drain();
    for ticket in tickets {
        assert!(matches!(world.failure(ticket).kind(), FailureKind::ClientClosed));
    }
    let status = world.engine.status();
    assert_eq!((status.queued_requests, status.queued_bytes, status.tickets), (0, 0, 0));
    assert_eq!((status.health, status.connections), (Health::Closed, 0));
}

#[test]
fn a_write_that_is_lost_with_an_older_connection_does_not_come_after_newer_ones() {
    let mut world = World::live(World::plain());
    world.wait(Duration::from_secs(2));
    let old = world.links(A)[0].conn;
    let first = world.run(&format!("GET {OF_A}"));
    let older = world.run(&format!("SET {OF_A} older"));
    let read = world.run(&format!("GET {ALSO_OF_A}"));
    world.receive(old, "-NOAUTH Authentication required.\r\n");
    world.wait(Duration::from_secs(1));
    let new = world.links(A)[1].conn;
    let newer = world.run(&format!("SET {OF_A} newer"));
    world.say_on(new, "$1\r\n1");
    assert_eq!(world.value::<String>(first), "1");
    world.say_on(new, "+OK");
    world.value::<()>(newer);
    world.close(old, Cause::Reset);
    let failure = world.failure(older);
    assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
    assert_eq!(world.asked(A), [format!("GET {ALSO_OF_A}")], "it would undo what is newer");
    world.say(A, "$1\r\nx");
    assert_eq!(world.value::<String>(read), "x");
}

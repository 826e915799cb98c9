//! Transactions without a server: on `memory://`, during an outage, and while it ends.

use super::*;

// ---- without a server ------------------------------------------------------------------------------

#[test]
fn on_memory_it_runs_as_on_a_server() {
    let mut world = World::new(Config::memory());
    let ticket = world.transact(&["SET a 1", "INCR a", "GET a", "INCR word", "PING"]);
    let word = |text: &'static str| Value::Bulk(text.into());
    assert_eq!(
        world.values(ticket),
        [Value::OK, integer(2), word("2"), integer(1), Value::Simple("PONG".into())]
    );
    let ticket = world.transact(&["SET word w", "INCR word", "SET a 7"]);
    let outcomes = world.outcomes(ticket).expect("carried out");
    let error = outcomes[1].as_ref().expect_err("no number");
    assert_eq!((error.command(), error.executed()), ("INCR", Executed::Yes));
    assert!(outcomes.iter().flatten().all(|reply| reply.source() == Source::Store));
    let get = world.run(&Request::new("GET a"));
    assert_eq!(world.value::<i64>(get), 7, "what came after the error was done");
}

#[test]
fn on_memory_too_all_of_it_runs_or_nothing() {
    let mut world = World::new(Config::memory().memory_entries_max(3));
    let first = world.transact(&["SET a 1", "SET b 1"]);
    assert_eq!(world.values(first).len(), 2);
    let cases: [(&[&str], usize, &str); 4] = [
        (&["INCR a", "GET", "INCR b"], 1, "wrong number of arguments"),
        (&["INCR a", "INCR b", "NOSUCH a"], 2, "unknown command"),
        (&["DEL a", "EVAL code 0"], 1, "runs no scripts"),
        // There is room for the first of the two, and none for the second.
        (&["INCR a", "SET c 1", "SET d 1", "DEL b"], 2, "OOM"),
    ];
    for (commands, item, reason) in cases {
        let ticket = world.transact(commands);
        let failure = world.failed(ticket);
        let (at, name, told) = aborted(&failure);
        assert_eq!(at, Some(item), "{failure}");
        assert!(commands[item].starts_with(&name.expect("named")), "{failure}");
        assert!(told.contains(reason), "{failure}");
        assert_eq!(failure.executed(), Executed::No);
        let all = world.run(&Request::new("MGET a b c d"));
        assert_eq!(world.value::<Vec<Option<i64>>>(all), [Some(1), Some(1), None, None]);
        assert_eq!(world.engine.status().overlay_entries, 2);
    }
    let flushed = world.transact(&["FLUSHALL", "SET x 1", "SET y 1", "SET z 1", "SET full 1"]);
    assert_eq!(aborted(&world.failed(flushed)).0, Some(4));
    let all = world.run(&Request::new("MGET a b x"));
    assert_eq!(world.value::<Vec<Option<i64>>>(all), [Some(1), Some(1), None]);
}

#[test]
fn on_memory_messages_are_part_of_it_or_stay_unsent_with_it() {
    let mut world = World::new(Config::memory());
    let stream = world.engine.open_stream(StreamOptions::default()).expect("room");
    let topics = world.engine.subscribe(stream, TopicKind::Channel, "news", None, None, world.now);
    world.drain();
    assert!(matches!(world.engine.take_wait(topics.expect("room")), Some(Ok(()))));
    let refused: [(&[&str], usize, &str); 5] = [
        (&["PUBLISH news lost", "INCR a", "INCR a b"], 2, "wrong number of arguments for 'incr'"),
        (&["INCR a", "PUBLISH news", "INCR a b"], 1, "wrong number of arguments for 'publish'"),
        (&["INCR a b", "PUBLISH news"], 0, "wrong number of arguments for 'incr'"),
        (&["PUBLISH news lost", "INCR a", "PUBSUB NUMPAT x"], 2, "for 'pubsub|numpat'"),
        (&["PUBLISH news lost", "EVAL code 0"], 1, "runs no scripts"),
    ];
    for (commands, item, reason) in refused {
        let ticket = world.transact(commands);
        let (at, _, told) = aborted(&world.failed(ticket));
        assert_eq!(at, Some(item), "{told}");
        assert!(told.contains(reason), "{told}");
    }
    let ticket = world.transact(&["INCR a", "PUBLISH news hello", "INCR a", "PUBSUB NUMSUB news"]);
    let counts = Value::Array(vec![Value::Bulk("news".into()), integer(1)]);
    assert_eq!(world.values(ticket), [integer(1), integer(1), integer(2), counts]);
    let mut incoming = VecDeque::new();
    world.engine.take_incoming(stream, &mut incoming, world.now);
    let [Incoming::Message(message)] = incoming.make_contiguous() else { panic!("{incoming:?}") };
    assert_eq!(message.payload.to_str().expect("text"), "hello");
}

#[test]
fn on_memory_it_is_told_when_there_is_no_room() {
    let mut world = World::new(Config::memory().memory_entries_max(1));
    world.run_now::<()>(&Request::new("SET a 1"));
    let full = |world: &World| world.events.iter().filter(|told| told.contains("reached")).count();
    for _ in 0..2 {
        let ticket = world.transact(&["SET b 1"]);
        assert!(aborted(&world.failed(ticket)).2.contains("OOM"));
        world.drain();
        assert_eq!(full(&world), 1, "once: {:?}", world.events);
    }
}

#[test]
fn while_the_server_is_down_it_takes_the_strictest_mode_of_its_keys() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .fallback(Fallback::miss("miss:*"))
        .fallback(Fallback::fail("fail:*"));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);

    let memory = world.transact(&["SET cache:a 1", "INCR cache:a"]);
    let outcomes = world.outcomes(memory).expect("in memory");
    assert!(outcomes.iter().flatten().all(|reply| reply.source() == Source::Overlay));
    assert_eq!(outcomes.len(), 2);
    assert_eq!(world.engine.status().journal_entries, 1);

    let miss = world.transact(&["GET cache:a", "SET miss:a 1", "GET miss:a"]);
    let outcomes = world.outcomes(miss).expect("a miss");
    let values: Vec<_> = outcomes.iter().flatten().map(|reply| reply.view().to_value()).collect();
    assert_eq!(values, [Value::Null, Value::OK, Value::Null], "all of it is a miss");
    assert_eq!(world.engine.status().journal_entries, 2);

    let fail = world.transact(&["GET cache:a", "GET fail:a"]);
    let failure = world.failed(fail);
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
    // Something is owed to one of its keys, so it waits until that is paid.
    let waits = world.transact(&["SET cache:a 2", "INCR wallet:a"]);
    let free = world.transact(&["SET cache:b 2", "INCR wallet:b"]);
    world.wait(Duration::from_millis(100));
    world.open();
    let sent = recover_with_transactions(&mut world, 60);
    assert_eq!(world.engine.health(), Health::Live, "{:?}", world.events);
    let at = |text: &str| sent.find(text).unwrap_or_else(|| panic!("{text} in {sent}"));
    let deleted = at("$3\r\nDEL\r\n$7\r\ncache:a\r\n");
    assert!(at(&wire(&["SET cache:b 2", "INCR wallet:b"])) < deleted);
    assert!(at(&wire(&["SET cache:a 2", "INCR wallet:a"])) > deleted);
    assert_eq!((world.values(free).len(), world.values(waits).len()), (2, 2));
}

#[test]
fn in_memory_all_of_it_is_done_or_nothing() {
    let config = World::plain()
        .fallback(Fallback::memory("cache:*", Policy::Invalidate))
        .memory_entries_max(3)
        .journal_entries_max(3);
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    world.run_now::<()>(&Request::new("SET cache:a 1"));
    let cases: [(&[&str], usize, &str); 6] = [
        (&["INCR cache:a", "SETNX cache:lock me"], 1, "not safe in memory"),
        (&["INCR cache:a", "EXPIRE cache:unseen 10"], 1, "only the server knows"),
        (&["INCR cache:a", "EVAL code 1 cache:a"], 1, "on the server only"),
        (&["INCR cache:a", "INCR cache:a cache:b"], 1, "wrong number of arguments"),
        (&["INCR cache:a", "DEL cache:a", "SET cache:b 1", "LOLWUT cache:c"], 3, "can't answer"),
        (
            &["DEL cache:a", "SET cache:b 1", "SET cache:c 1", "SET cache:d 1"],
            3,
            "journal_entries_max is reached",
        ),
    ];
    for (commands, item, reason) in cases {
        let mut batch = Batch::new();
        for command in commands {
            // Those that memory can't do concern keys that may degrade, as far as anybody can tell.
            batch.push(&Request::new(command));
        }
        let ticket = world.submit(&batch.into_transaction());
        let Some(outcomes) = world.engine.take_batch(ticket) else {
            // A command without keys does not degrade, and has the others wait.
            assert!(commands[item].starts_with("LOLWUT"), "{commands:?}");
            world.engine.cancel(ticket, world.now);
            continue;
        };
        let failure = outcomes.spread().expect_err("it can't all be done");
        let (at, _, told) = aborted(&failure);
        assert_eq!(at, Some(item), "{failure}");
        assert!(told.contains(reason), "{failure}");
        assert_eq!(failure.executed(), Executed::No, "{failure}");
        assert_eq!(world.run_now::<i64>(&Request::new("GET cache:a")), 1, "{failure}");
        let status = world.engine.status();
        assert_eq!((status.overlay_entries, status.journal_entries), (1, 1), "{failure}");
        assert_eq!(world.run_now::<Option<i64>>(&Request::new("GET cache:b")), None);
    }
    let status = world.engine.status();
    assert_eq!((status.queued_requests, status.queued_bytes), (0, 0));
}

#[test]
fn messages_go_by_what_is_to_become_of_messages() {
    let config = |choice| {
        let cached = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
        cached.publish_while_down(choice)
    };
    let block = ["INCR cache:a", "PUBLISH news hello", "GET cache:a"];
    for choice in [Publish::Fail, Publish::Wait, Publish::Local] {
        let mut world = World::live(config(choice));
        world.wait(Duration::from_millis(600));
        world.answer_pings();
        let written = world.transact(&block);
        world.write();
        world.lose(Cause::Reset);
        // The message may be on its way to others, and is not sent a second time.
        assert_eq!(world.failed(written).executed(), Executed::Maybe, "{choice:?}");
        world.lose(Cause::Refused);
        let ticket = world.transact(&block);
        match choice {
            Publish::Fail => {
                let failure = world.failed(ticket);
                assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
            }
            Publish::Local => {
                let outcomes = world.outcomes(ticket).expect("in memory");
                let replies: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
                assert!(replies.iter().all(|reply| reply.source() != Source::Server));
                let values: Vec<_> = replies.iter().map(|reply| reply.view().to_value()).collect();
                assert_eq!(values, [integer(1), integer(0), Value::Bulk("1".into())]);
                let refused = world.transact(&["PUBLISH news lost", "SETNX cache:lock me"]);
                assert_eq!(aborted(&world.failed(refused)).0, Some(1));
                let alone = world.transact(&["PUBLISH news hello"]);
                assert_eq!(world.values(alone), [integer(0)]);
                let reads = world.transact(&["PUBLISH news hello", "GET strict:a"]);
                assert!(world.engine.take_batch(reads).is_none(), "this key is the server's");
            }
            _ => assert!(world.engine.take_batch(ticket).is_none(), "it waits"),
        }
    }
}

#[test]
fn what_is_remembered_is_lent_to_it_and_not_lost_with_it() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    let ticket = world.transact(&["SET cache:a 5", "GET cache:b"]);
    world.write();
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n7\r\n");
    assert_eq!(world.values(ticket).len(), 2);
    assert_eq!(world.engine.status().shadow_entries, 2, "the shadow learns from it");
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    let refused = world.transact(&["INCR cache:a", "SETNX cache:lock me"]);
    assert_eq!(aborted(&world.failed(refused)).0, Some(1));
    assert_eq!(world.run_now::<i64>(&Request::new("GET cache:a")), 5, "as it was");
    let status = world.engine.status();
    assert_eq!((status.overlay_entries, status.journal_entries), (0, 0));
    let ticket = world.transact(&["INCR cache:a", "GET cache:a", "DEL cache:a"]);
    let values = world.values(ticket);
    assert_eq!(values, [integer(6), Value::Bulk("6".into()), integer(1)]);
}

#[test]
fn what_waited_for_the_server_goes_to_memory_as_a_whole_when_it_is_judged() {
    let config = World::plain().fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    let written = world.transact(&["INCR cache:a", "INCR cache:b"]);
    world.write();
    let unwritten = world.transact(&["INCR cache:a"]);
    world.lose(Cause::Reset);
    assert!(world.engine.take_batch(written).is_none(), "one lost connection degrades nothing");
    world.lose(Cause::Refused);
    assert_eq!(world.values(written), [integer(1), integer(1)], "invalidated on recovery");
    assert_eq!(world.values(unwritten), [integer(2)]);
    assert_eq!(world.engine.status().journal_entries, 2);
}

#[test]
fn during_recovery_it_waits_as_a_whole_behind_keys_that_are_not_settled() {
    let mut world = degraded(Policy::Invalidate);
    world.run_now::<()>(&Request::new("SET cache:a 1"));
    world.wait(Duration::from_millis(100));
    world.open();
    while world.engine.health() != Health::Recovering {
        recover(&mut world, 1);
    }
    // Until what is owed to `cache:a` is paid, nothing answers DEL.
    let sent = loop {
        let sent = world.write();
        if sent.contains("cache:a") {
            break sent;
        }
        world.wait(Duration::from_millis(10));
    };
    assert!(!sent.contains("MULTI"), "{sent}");
    let reads = world.transact(&["GET cache:a", "STRLEN cache:a"]);
    assert_eq!(world.values(reads).len(), 2, "memory has the last word on what is owed");
    let held = world.transact(&["INCR cache:b", "INCR cache:a"]);
    let behind = world.run(&Request::new("INCR cache:b"));
    let free = world.transact(&["INCR cache:c"]);
    assert_eq!(world.write(), wire(&["INCR cache:c"]), "nothing is owed to this one");
    world.say(":1\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert_eq!(world.values(free), [integer(1)]);
    let sent = world.write();
    let incr = "*2\r\n$4\r\nINCR\r\n$7\r\ncache:b\r\n";
    assert_eq!(sent, wire(&["INCR cache:b", "INCR cache:a"]) + incr);
    world.say("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n:2\r\n");
    assert_eq!(world.values(held), [integer(1), integer(1)]);
    assert_eq!(world.value::<i64>(behind), 2);
}

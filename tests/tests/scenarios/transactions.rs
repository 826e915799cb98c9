//! Transactions: all of their commands run, with nothing in between, or none does.

use std::time::Duration;

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::{Transactions, Views},
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Close, Fault, Proxy, Raw, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, in_cluster, join_all, scenarios, spawn},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, failure, quick, until_health},
};

scenarios! {
    a_transaction_gives_all_values,
    a_command_that_the_server_does_not_queue_discards_all_of_them,
    an_error_inside_a_transaction_is_its_commands_own,
    nothing_gets_in_between_the_commands_of_a_transaction,
    a_transaction_whose_reply_is_cut_at_any_byte_ran_whole_or_not_at_all,
    a_transaction_that_is_cut_at_any_byte_of_its_own_runs_once_or_is_maybe,
    a_transaction_whose_server_is_killed_after_any_byte_ran_whole_or_not_at_all,
    a_transaction_of_reads_whose_reply_is_cut_goes_again,
    a_transaction_goes_to_memory_and_back_as_a_whole,
    what_can_not_be_in_a_transaction_is_refused_before_it_is_sent,
    a_transaction_in_memory_is_as_one_on_a_server,
}

in_cluster! {
    a_transaction_gives_all_values,
    a_command_that_the_server_does_not_queue_discards_all_of_them,
    an_error_inside_a_transaction_is_its_commands_own,
    nothing_gets_in_between_the_commands_of_a_transaction,
}

fn aborted(failure: &Failure) -> (Option<usize>, Option<&str>) {
    match failure.kind() {
        FailureKind::Aborted(abort) => (abort.item(), abort.command()),
        _ => panic!("{failure}"),
    }
}

fn a_transaction_gives_all_values<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let long = "x".repeat(300);
        let ((), visits, text, all, fields) = A::wait_all(client.transaction(|t| {
            t.hset("{t}h", [("one", 1), ("two", 2)]);
            (
                t.set("{t}text", &long),
                t.incr("{t}visits"),
                t.get::<String>("{t}text"),
                t.mget::<Vec<Option<String>>>(["{t}text", "{t}none"]),
                t.hgetall::<Vec<(String, i64)>>("{t}h"),
            )
        }))
        .expect("nothing is wrong with it");
        assert_eq!((visits, text.as_ref(), all), (1, Some(&long), vec![text.clone(), None]));
        assert_eq!(fields, [("one".to_owned(), 1), ("two".to_owned(), 2)]);
        let many: Vec<i64> = A::wait_all(
            client.transaction(|t| (0..5_000).map(|_| t.incr("n")).collect::<Vec<_>>()),
        )
        .expect("plain INCRs");
        assert!(many.into_iter().eq(1..=5_000));
        let none: Vec<i64> =
            A::wait_all(client.transaction(|t| Vec::from_iter((0..0).map(|_| t.incr("n")))))
                .expect("nothing to go wrong");
        assert!(none.is_empty());
        let view = client.within(LIMIT);
        let told: Sourced<Option<i64>> =
            A::wait_all(view.transaction(|t| t.sourced().get("n"))).expect("a plain GET");
        assert_eq!((told.value, told.source), (Some(5_000), Source::Server));
    }
}

fn a_command_that_the_server_does_not_queue_discards_all_of_them<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    // In a cluster it is to stand where the key is.
    witness.int(&["EXISTS", "{n}n"]);
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let arity = failure(A::wait_all(client.transaction(|t| {
            (t.incr("n"), t.command("INCR").arg("n").arg("m").run::<i64>(), t.incr("n"))
        })));
        assert_eq!(aborted(&arity), (Some(1), Some("INCR")), "{arity}");
        assert_eq!((arity.command(), arity.executed()), ("transaction", Executed::No));
        assert!(arity.to_string().contains("wrong number of arguments"), "{arity}");
        let unknown =
            failure(A::wait_all(client.transaction(|t| {
                (t.incr("n"), t.incr("n"), t.command("NOSUCHTHING").run::<()>())
            })));
        assert_eq!(aborted(&unknown), (Some(2), Some("NOSUCHTHING")), "{unknown}");
        assert!(
            unknown.server_error().expect("the server's").message().contains("unknown command")
        );
        let (incr, wrong) =
            A::wait_all(client.transaction_each(|t| (t.incr("n"), t.command("INCR").run::<i64>())));
        let (incr, wrong) = (failure(incr), failure(wrong));
        assert_eq!((incr.command(), aborted(&incr)), ("INCR", (Some(1), Some("INCR"))));
        assert_eq!((incr.executed(), wrong.executed()), (Executed::No, Executed::No));
        assert_eq!(witness.get("n"), None, "none of them ran");
        // OOM comes with the command, or with EXEC, as the server likes.
        witness.ok(&["CONFIG", "SET", "maxmemory", "1"]);
        let full =
            failure(A::wait_all(client.transaction(|t| (t.set("{n}big", 1), t.get::<i64>("n")))));
        assert_eq!(full.server_error().expect("the server's").code(), "OOM", "{full}");
        assert_eq!(full.executed(), Executed::No, "{full}");
        witness.ok(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(
            A::wait_all(client.transaction(|t| t.get::<i64>("n"))).expect("it goes on"),
            None
        );
    }
}

fn an_error_inside_a_transaction_is_its_commands_own<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let (word, wrong, visits) =
            A::wait_all(client.transaction_each(|t| {
                (t.set("word", "w"), t.incr("word"), t.incr("{word}visits"))
            }));
        word.expect("a plain SET");
        assert_eq!(visits.expect("what follows an error runs all the same"), 1);
        let wrong = failure(wrong);
        assert_eq!((wrong.command(), wrong.executed()), ("INCR", Executed::Yes), "{wrong}");
        let first = failure(A::wait_all(client.transaction(|t| {
            (t.hget::<i64>("word", "field"), t.incr("word"), t.incr("{word}visits"))
        })));
        assert_eq!((first.command(), first.executed()), ("HGET", Executed::Yes), "{first}");
        assert_eq!(first.server_error().expect("the server's").code(), "WRONGTYPE");
        assert_eq!(A::wait(client.get("{word}visits")).expect("a plain GET"), Some(2));
    }
}

fn nothing_gets_in_between_the_commands_of_a_transaction<A: Adapter>() {
    const TASKS: usize = 64;
    const ROUNDS: i64 = 60;
    const SUM: i64 = 1_000;
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        A::wait(client.mset([("a", SUM), ("{a}b", 0), ("plain", 0)])).expect("a plain MSET");
        let moved = join_all::<A, _, _>((0..TASKS).map(|task| {
            let client = client.clone();
            async move {
                let mut moved = 0;
                for round in 0..ROUNDS {
                    let cents = (task as i64 * 7 + round) % 13 - 6;
                    let (a, b) = A::gathered(
                        client.transaction(|t| (t.decrby("a", cents), t.incrby("{a}b", cents))),
                    )
                    .await
                    .expect("nothing is wrong with it");
                    assert_eq!(a + b, SUM, "as the transaction itself sees it");
                    moved += cents;
                    A::done(client.incr("plain")).await.expect("a plain INCR");
                    let (a, b) = A::gathered(
                        client.transaction(|t| (t.get::<i64>("a"), t.get::<i64>("{a}b"))),
                    )
                    .await
                    .expect("plain GETs");
                    assert_eq!(a.zip(b).map(|(a, b)| a + b), Some(SUM));
                }
                moved
            }
        }));
        let moved: i64 = moved.into_iter().sum();
        let all: Vec<i64> = A::wait(client.mget(["a", "{a}b", "plain"])).expect("a plain MGET");
        assert_eq!(all, [SUM - moved, moved, TASKS as i64 * ROUNDS]);
        assert_eq!(A::status(&client).connections, server.nodes(), "they share it");
    }
}

/// A client that dials again quickly, for those who lose many connections.
fn hasty(port: u16) -> Config {
    at(port).dial_backoff_base(Duration::from_millis(1)).dial_backoff_max(Duration::from_millis(5))
}

/// What the server answers to two INCRs in a transaction, while both count below 10 or above.
fn reply_length(count: i64) -> u64 {
    let number = format!(":{}\r\n", count + 1).len() as u64;
    "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n".len() as u64 + 2 * number
}

/// Both counters, which only transactions count up.
fn both(witness: &mut Raw) -> i64 {
    let count = |text: Option<String>| text.map_or(0, |text| text.parse().expect("a number"));
    let (a, b): (i64, i64) = (count(witness.get("a")), count(witness.get("b")));
    assert_eq!(a, b, "never half");
    a
}

/// Runs two INCRs in a transaction, in another task.
fn count_both<A: Adapter>(
    client: &A::Client,
) -> crate::adapters::Task<Result<(i64, i64), Failure>> {
    let client = client.clone();
    spawn::<A, _>(
        async move { A::gathered(client.transaction(|t| (t.incr("a"), t.incr("b")))).await },
    )
}

fn a_transaction_whose_reply_is_cut_at_any_byte_ran_whole_or_not_at_all<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(hasty(proxy.port())).expect("there is a server");
    let mut witness = Raw::connect(server.port());
    for how in [Close::Fin, Close::Reset] {
        for after in 0.. {
            A::wait(client.ping()).expect("a connection");
            let before = both(&mut witness);
            if after > reply_length(before) {
                break;
            }
            let (seen, opened) = (proxy.requests_seen(b"EXEC"), proxy.connections());
            proxy.set(Fault::Cut { way: Way::Replies, after, how });
            let task = count_both::<A>(&client);
            eventually("the cut", LIMIT, || {
                (proxy.requests_seen(b"EXEC") > seen
                    && (proxy.open_connections() == 0 || proxy.connections() > opened))
                    .then_some(())
            });
            proxy.set(Fault::None);
            let outcome = task.join();
            assert_eq!(both(&mut witness), before + 1, "it arrived, and went once");
            match outcome {
                Ok(counts) => assert_eq!(counts, (before + 1, before + 1), "cut after {after}"),
                Err(lost) => {
                    assert_eq!(lost.executed(), Executed::Maybe, "cut after {after}: {lost}");
                    assert_eq!(lost.command(), "transaction");
                    assert!(after < reply_length(before), "{lost}");
                }
            }
        }
    }
}

fn a_transaction_that_is_cut_at_any_byte_of_its_own_runs_once_or_is_maybe<A: Adapter>() {
    const LENGTH: u64 = (15 + 2 * 21 + 14) as u64;
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(hasty(proxy.port())).expect("there is a server");
    let mut witness = Raw::connect(server.port());
    let mut maybe = 0;
    for after in 0..LENGTH {
        A::wait(client.ping()).expect("a connection");
        let before = both(&mut witness);
        proxy.set(Fault::Cut { way: Way::Requests, after, how: Close::Reset });
        let outcome = A::wait_all(client.transaction(|t| (t.incr("a"), t.incr("b"))));
        proxy.set(Fault::None);
        let now = both(&mut witness);
        match outcome {
            Ok(counts) => assert_eq!((counts, now), ((now, now), before + 1), "cut after {after}"),
            Err(lost) => {
                // The kernel took it all, so the client can't know.
                assert_eq!(lost.executed(), Executed::Maybe, "cut after {after}: {lost}");
                assert_eq!(now, before, "EXEC never arrived whole: cut after {after}");
                maybe += 1;
            }
        }
    }
    assert!(maybe > 0, "the proxy cuts what the kernel had taken");
}

fn a_transaction_whose_server_is_killed_after_any_byte_ran_whole_or_not_at_all<A: Adapter>() {
    let mut server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(hasty(proxy.port()).deadline(LIMIT)).expect("there is a server");
    for after in 0.. {
        A::wait(client.ping()).expect("a connection");
        let before = both(&mut Raw::connect(server.port()));
        if after > reply_length(before) {
            break;
        }
        let (seen, opened) = (proxy.requests_seen(b"MULTI"), proxy.connections());
        proxy.set(Fault::Cut { way: Way::Replies, after, how: Close::Reset });
        let task = count_both::<A>(&client);
        // For some it is killed in the middle, for some when so much of the reply is out.
        if after % 2 == 0 {
            eventually("the cut", LIMIT, || {
                (proxy.requests_seen(b"MULTI") > seen
                    && (proxy.open_connections() == 0 || proxy.connections() > opened))
                    .then_some(())
            });
        }
        server.kill();
        proxy.set(Fault::None);
        server.restart();
        let outcome = task.join();
        let now = both(&mut Raw::connect(server.port()));
        match outcome {
            Ok(counts) => assert_eq!((counts, now), ((now, now), before + 1), "cut after {after}"),
            Err(lost) => {
                assert_eq!(lost.executed(), Executed::Maybe, "cut after {after}: {lost}");
                assert!((before..=before + 1).contains(&now), "cut after {after}");
            }
        }
    }
}

fn a_transaction_of_reads_whose_reply_is_cut_goes_again<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(hasty(proxy.port())).expect("there is a server");
    Raw::connect(server.port()).ok(&["MSET", "a", "1", "b", "2"]);
    for (after, writes) in [(0, false), (20, true), (30, false)] {
        A::wait(client.ping()).expect("a connection");
        let (seen, opened) = (proxy.requests_seen(b"EXEC"), proxy.connections());
        proxy.set(Fault::Cut { way: Way::Replies, after, how: Close::Reset });
        let task = {
            let client = client.clone();
            spawn::<A, _>(async move {
                A::gathered(client.transaction(|t| {
                    if writes {
                        t.set("c", 3);
                    }
                    (t.get::<i64>("a"), t.get::<i64>("b"))
                }))
                .await
            })
        };
        eventually("the cut", LIMIT, || {
            (proxy.requests_seen(b"EXEC") > seen
                && (proxy.open_connections() == 0 || proxy.connections() > opened))
                .then_some(())
        });
        proxy.set(Fault::None);
        assert_eq!(task.join().expect("it goes again"), (Some(1), Some(2)));
        assert!(proxy.requests_seen(b"EXEC") >= seen + 2);
    }
}

fn a_transaction_goes_to_memory_and_back_as_a_whole<A: Adapter>() {
    for protocol in PROTOCOLS {
        let mut server = TestServer::start();
        let config = quick(server.port())
            .protocol(protocol)
            .fallback(Fallback::memory("cache:*", Policy::Invalidate));
        let client = A::connect(config.deadline(LIMIT)).expect("there is a server");
        let ((), ()) =
            A::wait_all(client.transaction(|t| (t.set("cache:a", 1), t.set("cache:b", 2))))
                .expect("plain SETs");
        // The next dial is at once only where the last connection was no fresh one.
        std::thread::sleep(Duration::from_millis(600));
        server.kill();
        let (a, b): (Sourced<i64>, Sourced<Option<i64>>) = A::wait_all(
            client.transaction(|t| (t.sourced().incr("cache:a"), t.sourced().get("cache:b"))),
        )
        .expect("in memory");
        assert_eq!((a.value, b.value), (2, Some(2)), "the shadow knew both");
        assert_eq!((a.source, b.source), (Source::Shadow, Source::Shadow));
        let refused =
            failure(A::wait_all(client.transaction(|t| {
                (t.incr("cache:a"), t.incr("cache:b"), t.setnx("cache:lock", "me"))
            })));
        assert_eq!(aborted(&refused), (Some(2), Some("SETNX")), "{refused}");
        assert_eq!(refused.executed(), Executed::No);
        let (a, b) =
            A::wait_all(client.transaction(|t| (t.get::<i64>("cache:a"), t.get::<i64>("cache:b"))))
                .expect("in memory");
        assert_eq!((a, b), (Some(2), Some(2)), "nothing of it was done");
        let waits = {
            let client = client.clone();
            spawn::<A, _>(async move {
                A::gathered(client.transaction(|t| (t.incr("cache:a"), t.incr("wallet")))).await
            })
        };
        eventually("its place in the queue", LIMIT, || {
            (A::status(&client).queued_requests == 1).then_some(())
        });
        server.restart();
        let counts = waits.join().expect("one key may not degrade, so all of it waits");
        // What was written in memory is deleted first, for it came first.
        assert_eq!(counts, (1, 1));
        until_health::<A>(&client, Health::Live);
        let mut witness = Raw::connect(server.port());
        assert_eq!(witness.get("cache:a").as_deref(), Some("1"));
        assert_eq!(witness.get("cache:b").as_deref(), Some("2"), "only read in memory");
        assert_eq!(witness.get("wallet").as_deref(), Some("1"));
    }
}

fn what_can_not_be_in_a_transaction_is_refused_before_it_is_sent<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(at(proxy.port())).expect("there is a server");
    for command in ["SELECT", "MULTI", "BLPOP", "SUBSCRIBE", "WATCH"] {
        let refused = failure(A::wait_all(client.transaction(|t| {
            t.incr("n");
            t.command(command).arg("1").run::<()>()
        })));
        assert!(matches!(refused.kind(), FailureKind::Misuse(_)), "{refused}");
        assert_eq!((refused.command(), refused.executed()), (command, Executed::No));
    }
    let raw = failure(A::wait(client.command("MULTI").run::<()>()));
    assert!(matches!(raw.kind(), FailureKind::Misuse(_)), "{raw}");
    A::wait(client.ping()).expect("a connection");
    assert_eq!((proxy.requests_seen(b"MULTI"), proxy.requests_seen(b"INCR")), (0, 0));
}

fn a_transaction_in_memory_is_as_one_on_a_server<A: Adapter>() {
    let server = TestServer::start();
    let mut told = Vec::new();
    for config in [at(server.port()), Config::memory()] {
        let client = A::connect(config).expect("a server, or nothing to connect to");
        let values = A::wait_all(client.transaction(|t| {
            (t.set("a", "1"), t.incr("a"), t.append("a", "0"), t.get::<i64>("a"), t.ping())
        }))
        .expect("nothing is wrong with it");
        let (set, wrong, number) = A::wait_all(
            client.transaction_each(|t| (t.set("word", "w"), t.incr("word"), t.incr("n"))),
        );
        let wrong = failure(wrong);
        let arity = failure(A::wait_all(
            client.transaction(|t| (t.incr("n"), t.command("GET").run::<()>())),
        ));
        let unknown = failure(A::wait_all(
            client.transaction(|t| (t.command("NOSUCHTHING").arg("x").run::<()>(), t.incr("n"))),
        ));
        let errors = [&wrong, &arity, &unknown].map(|failure| {
            let error = failure.server_error().expect("a server's").to_string();
            (failure.executed(), failure.command().to_owned(), error)
        });
        let n: Option<i64> = A::wait(client.get("n")).expect("a plain GET");
        told.push((values, set.is_ok(), number.expect("it ran"), errors, n));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].4, Some(1), "what was discarded counted nothing");
}

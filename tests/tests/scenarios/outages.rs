//! The server goes away, and comes back: what is answered meanwhile, and what is there afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Cause, Config, Failure,
    commands::prelude::*,
    engine::{Event, Health, Lineage},
    failure::{Executed, FailureKind, MemoryRefusal, Never},
    fallback::{Fallback, Policy},
    handle::Views,
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Close, Fault, Proxy, Raw, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{Changes, LIMIT, SILENCE, SLACK, at, failure, get, quick, timed, until_health},
};

scenarios! {
    reads_survive_a_server_that_was_killed,
    a_stopped_server_is_found_out_and_does_nothing_twice,
    a_server_that_is_absent_at_the_start_is_waited_for_in_each_way,
    a_server_that_comes_and_goes_costs_no_acknowledged_write,
    a_server_that_comes_back_empty_is_believed,
    a_server_that_comes_back_with_other_data_is_believed,
    killed_connections_degrade_nothing_on_a_healthy_server,
    what_was_deleted_stays_deleted,
    keys_that_may_not_degrade_are_back_soon,
    keys_that_may_not_degrade_wait_and_keep_their_order,
    fail_fails_at_once_and_works_again,
    fail_fast_fails_at_once_where_no_rule_matches,
    miss_answers_nothing_and_invalidates,
    discard_forgets_what_was_written_meanwhile,
    invalidate_deletes_what_was_written_meanwhile,
    memory_refuses_what_it_cannot_know,
    a_full_memory_refuses_and_says_so_once,
    a_silent_network_is_found_out_without_any_request,
}

fn cached(config: Config) -> Config {
    config.fallback(Fallback::memory("cache:*", Policy::Invalidate))
}

fn source_of(outcome: Result<Sourced<Option<String>>, Failure>) -> (Option<String>, Source) {
    let sourced = outcome.expect("answered from somewhere");
    (sourced.value, sourced.source)
}

fn told(value: &str, source: Source) -> (Option<String>, Source) {
    (Some(value.to_owned()), source)
}

fn reads_survive_a_server_that_was_killed<A: Adapter>() {
    const KEYS: usize = 200;
    let mut server = TestServer::start();
    let client = A::connect(cached(quick(server.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    let mut witness = Raw::connect(server.port());
    for at in 0..KEYS {
        let key = format!("cache:{at}");
        if at % 2 == 0 {
            A::wait(client.set(&key, at)).expect("a plain SET");
        } else {
            witness.ok(&["SET", &key, &at.to_string()]);
            assert_eq!(A::wait(client.get(&key)).expect("a plain GET"), Some(at));
        }
    }
    // The next dial is at once only where the last connection was no fresh one.
    thread::sleep(Duration::from_millis(600));
    server.kill();
    let (first, after) = timed(|| source_of(get::<A>(&client, "cache:0")));
    println!("first answer from memory after {after:?}");
    assert_eq!(first, told("0", Source::Shadow));
    assert!(after < SLACK, "{after:?}");
    let (mut right, mut missed) = (0, 0);
    for at in 0..KEYS {
        match source_of(get::<A>(&client, &format!("cache:{at}"))) {
            (Some(value), source) => {
                assert_eq!((value, source), (at.to_string(), Source::Shadow));
                right += 1;
            }
            (None, source) => {
                assert_eq!(source, Source::Unknown);
                missed += 1;
            }
        }
    }
    println!("{right} right, {missed} missed");
    assert!(right * 100 >= KEYS * 99, "{right} of {KEYS}, {missed} missed");
    let never_seen = source_of(get::<A>(&client, "cache:never"));
    assert_eq!(never_seen, (None, Source::Unknown));
    assert_eq!(A::status(&client).health, Health::Degraded);
    changes.expect(1, 0);

    server.restart();
    until_health::<A>(&client, Health::Live);
    let after = source_of(get::<A>(&client, "cache:1"));
    assert_eq!(after, told("1", Source::Server));
    changes.expect(1, 1);
}

fn a_stopped_server_is_found_out_and_does_nothing_twice<A: Adapter>() {
    let server = TestServer::start();
    let config = cached(quick(server.port())).deadline(Duration::from_secs(10));
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    A::wait(client.set("cache:k", "v")).expect("a plain SET");
    server.stop();
    let incr = client.clone();
    let incr = spawn::<A, _>(async move { A::done(incr.incr("wallet:n")).await });
    let (answer, after) = timed(|| source_of(get::<A>(&client, "cache:k")));
    println!("first answer from memory after {after:?}");
    assert_eq!(answer, told("v", Source::Shadow));
    assert!(after < 2 * SILENCE + SLACK, "{after:?}");
    let lost = failure(incr.join());
    assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
    let waiting = client.clone();
    let waiting = spawn::<A, _>(async move { A::done(waiting.incr("wallet:n")).await });
    server.cont();
    let counted = waiting.join().expect("it waited for the server");
    until_health::<A>(&client, Health::Live);
    let counter: i64 =
        Raw::connect(server.port()).get("wallet:n").expect("set").parse().expect("n");
    assert_eq!(counter, counted);
    assert!((1..=2).contains(&counter), "one counts, and the lost one at most once: {counter}");
    changes.expect(1, 1);
}

fn a_server_that_is_absent_at_the_start_is_waited_for_in_each_way<A: Adapter>() {
    let mut server = TestServer::start();
    let port = server.port();
    server.kill();
    let refused = failure(A::connect(quick(port)));
    assert!(matches!(refused.kind(), FailureKind::Down(Cause::Refused)), "{refused}");
    assert_eq!((refused.executed(), refused.command()), (Executed::No, "connect"));

    let degraded = A::connect(cached(quick(port))).expect("it starts degraded");
    assert_eq!(A::status(&degraded).health, Health::Degraded);
    A::wait(degraded.set("cache:k", "v")).expect("in memory");
    assert_eq!(source_of(get::<A>(&degraded, "cache:k")), told("v", Source::Overlay));

    let lazy = A::lazy(quick(port).deadline(LIMIT)).expect("a good config");
    let waiting = {
        let lazy = lazy.clone();
        spawn::<A, _>(async move { A::done(lazy.incr("n")).await })
    };
    eventually("the request to wait", LIMIT, || {
        (A::status(&lazy).queued_requests == 1).then_some(())
    });
    server.restart();
    assert_eq!(waiting.join().expect("the server appeared"), 1);
    until_health::<A>(&degraded, Health::Live);
    assert_eq!(source_of(get::<A>(&degraded, "cache:k")), (None, Source::Server));
}

fn a_server_that_comes_and_goes_costs_no_acknowledged_write<A: Adapter>() {
    let mut server = TestServer::start();
    // More than it takes to judge a server that accepts and does not answer yet.
    let config = cached(quick(server.port())).deadline(SILENCE + SLACK);
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (client, stop) = (client.clone(), stop.clone());
        spawn::<A, _>(async move {
            let (mut acknowledged, mut maybe) = (0_i64, 0_i64);
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                match A::done(client.incr("wallet:n")).await {
                    Ok(count) => {
                        assert!(count > last, "{last} -> {count}");
                        last = count;
                        acknowledged += 1;
                    }
                    Err(lost) if lost.executed() == Executed::Maybe => maybe += 1,
                    Err(lost) => assert_eq!(lost.executed(), Executed::No, "{lost}"),
                }
                A::done(client.set("cache:last", last)).await.expect("somewhere");
                let read: Option<i64> = A::done(client.get("cache:last")).await.expect("somewhere");
                // None: it was written in memory, and recovery has deleted it since.
                assert!(read.is_none_or(|read| read == last), "{last}, not {read:?}");
            }
            (acknowledged, maybe)
        })
    };
    for round in 0..4 {
        thread::sleep(Duration::from_millis(200));
        server.kill();
        thread::sleep(Duration::from_millis(if round % 2 == 0 { 50 } else { 300 }));
        server.restart();
    }
    until_health::<A>(&client, Health::Live);
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, maybe) = load.join();
    until_health::<A>(&client, Health::Live);
    let counter: i64 = A::wait(client.get("wallet:n")).expect("it is back").unwrap_or(0);
    println!("{acknowledged} acknowledged, {maybe} maybe, {counter} counted");
    assert!(acknowledged > 0);
    assert!((acknowledged..=acknowledged + maybe).contains(&counter));
    let trips =
        |(from, to): &(Health, Health)| *to == Health::Degraded && *from != Health::Recovering;
    let trips = changes.health().iter().filter(|change| trips(change)).count();
    changes.expect(trips, trips);
}

fn a_server_that_comes_back_empty_is_believed<A: Adapter>() {
    let mut server = TestServer::start();
    let client = A::connect(cached(quick(server.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    A::wait(client.set("cache:k", "old")).expect("a plain SET");
    A::wait(client.set("cache:other", "old")).expect("a plain SET");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:k")), told("old", Source::Shadow));
    server.restart_empty();
    until_health::<A>(&client, Health::Live);
    assert_eq!(source_of(get::<A>(&client, "cache:k")), (None, Source::Server));
    changes
        .expect_some(1, |event| matches!(event, Event::DataSet { lineage: Lineage::Unknown, .. }));
    server.kill();
    // What was remembered of the first server must not come back with the second outage.
    assert_eq!(source_of(get::<A>(&client, "cache:other")), (None, Source::Unknown));
}

fn a_server_that_comes_back_with_other_data_is_believed<A: Adapter>() {
    let (first, second) = (TestServer::start(), TestServer::start());
    let proxy = Proxy::start(first.port());
    Raw::connect(second.port()).ok(&["MSET", "cache:k", "new", "cache:late", "new"]);
    let client = A::connect(cached(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    A::wait(client.mset([("cache:k", "old"), ("cache:late", "old")])).expect("a plain MSET");
    proxy.set(Fault::Refuse);
    proxy.close_all(Close::Fin);
    assert_eq!(source_of(get::<A>(&client, "cache:k")), told("old", Source::Shadow));
    proxy.set_target(second.port());
    proxy.set(Fault::None);
    // Until it is live again old values may be told, but only as what they are.
    let answer = eventually("the new server's answer", LIMIT, || {
        let (value, source) = source_of(get::<A>(&client, "cache:k"));
        assert!(source == Source::Server || value.as_deref() != Some("new"));
        (source == Source::Server).then_some(value)
    });
    assert_eq!(answer.as_deref(), Some("new"));
    until_health::<A>(&client, Health::Live);
    changes
        .expect_some(1, |event| matches!(event, Event::DataSet { lineage: Lineage::Unknown, .. }));
    proxy.set(Fault::Refuse);
    proxy.close_all(Close::Fin);
    assert_eq!(source_of(get::<A>(&client, "cache:late")), (None, Source::Unknown));
    assert_eq!(source_of(get::<A>(&client, "cache:k")), told("new", Source::Shadow));
}

fn killed_connections_degrade_nothing_on_a_healthy_server<A: Adapter>() {
    const TASKS: usize = 16;
    let server = TestServer::start();
    let config = at(server.port()).fallback(Fallback::memory("*", Policy::Invalidate));
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..TASKS)
        .map(|at| {
            let (client, stop) = (client.clone(), stop.clone());
            spawn::<A, _>(async move {
                let key = format!("key:{at}");
                let mut rounds = 0_usize;
                while !stop.load(Ordering::Relaxed) {
                    let set = client.sourced().set(&key, rounds);
                    assert_eq!(A::done(set).await.expect("it may go again").source, Source::Server);
                    let get = client.sourced().get(&key);
                    let got = A::done(get).await.expect("it may go again");
                    assert_eq!((got.value, got.source), (Some(rounds), Source::Server));
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let mut killer = Raw::connect(server.port());
    let mut killed = 0;
    for round in 0..14 {
        // Some of them before the new connection has proved itself.
        thread::sleep(Duration::from_millis(if round % 7 == 6 { 700 } else { 100 }));
        killed += killer.int(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    stop.store(true, Ordering::Relaxed);
    let rounds: usize = load.into_iter().map(|task| task.join()).sum();
    println!("{killed} connections killed, {rounds} rounds");
    assert!(killed >= 5 && rounds > 100, "{killed} connections killed, {rounds} rounds");
    let status = A::status(&client);
    assert_eq!(status.answers_overlay + status.answers_shadow + status.answers_unknown, 0);
    let health = changes.health();
    let degraded = [Health::Degraded, Health::Recovering];
    assert!(health.iter().all(|(_, to)| !degraded.contains(to)), "{health:?}");
}

fn what_was_deleted_stays_deleted<A: Adapter>() {
    let mut server = TestServer::start();
    let client = A::connect(cached(quick(server.port()))).expect("there is a server");
    for key in ["cache:before", "cache:during", "cache:again"] {
        A::wait(client.set(key, "v")).expect("a plain SET");
        assert_eq!(source_of(get::<A>(&client, key)), told("v", Source::Server));
    }
    assert_eq!(A::wait(client.del("cache:before")).expect("a plain DEL"), 1);
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:before")).0, None);
    let deleted = A::wait(client.del(["cache:during", "cache:again"])).expect("in memory");
    assert_eq!(deleted, 2, "as far as memory knows");
    assert_eq!(source_of(get::<A>(&client, "cache:during")), (None, Source::Overlay));
    A::wait(client.set("cache:again", "w")).expect("in memory");
    A::wait(client.unlink("cache:again")).expect("in memory");
    server.restart();
    until_health::<A>(&client, Health::Live);
    let mut witness = Raw::connect(server.port());
    for key in ["cache:before", "cache:during", "cache:again"] {
        assert_eq!(source_of(get::<A>(&client, key)), (None, Source::Server), "{key}");
        assert_eq!(witness.get(key), None, "{key}");
    }
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:during")).0, None, "nor in the next outage");
}

fn keys_that_may_not_degrade_are_back_soon<A: Adapter>() {
    let mut server = TestServer::start();
    // Everything as it is by default: this is what users get.
    let client = A::connect(cached(at(server.port()))).expect("there is a server");
    A::wait(client.set("wallet:k", "v")).expect("a plain SET");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:none")), (None, Source::Unknown));
    let briefly = client.within(Duration::from_millis(500));
    let waited = failure(A::wait(briefly.get::<String>("wallet:k")));
    assert!(waited.is_timeout(), "{waited}");
    assert_eq!(waited.executed(), Executed::No, "{waited}");
    thread::sleep(Duration::from_secs(1));
    server.restart();
    let usable = Instant::now();
    let value: Option<String> = A::wait(client.get("wallet:k")).expect("it waits until it is back");
    println!("wallet:* was back {:?} after the server", usable.elapsed());
    assert_eq!(value.as_deref(), Some("v"));
    assert!(usable.elapsed() < SLACK, "{:?}", usable.elapsed());
    until_health::<A>(&client, Health::Live);
    println!("cache:* was back {:?} after the server", usable.elapsed());
}

fn keys_that_may_not_degrade_wait_and_keep_their_order<A: Adapter>() {
    // It has nothing to load, for which it would refuse commands at first; those are sent again each in its own
    // time.
    let mut server = TestServer::with_args(&["--appendonly", "no"]);
    let client = A::connect(cached(quick(server.port())).deadline(LIMIT)).expect("a server");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:none")), (None, Source::Unknown));
    let waiting: Vec<_> = (0..20)
        .map(|at| {
            let behind = client.clone();
            let append = spawn::<A, _>(async move {
                A::done(behind.append("wallet:log", format!("{at},"))).await
            });
            eventually("its place in the queue", LIMIT, || {
                (A::status(&client).queued_requests == at + 1).then_some(())
            });
            append
        })
        .collect();
    server.restart();
    for append in waiting {
        append.join().expect("it waited for the server");
    }
    let all: String = (0..20).map(|at| format!("{at},")).collect();
    assert_eq!(Raw::connect(server.port()).get("wallet:log"), Some(all));
}

fn fail_fails_at_once_and_works_again<A: Adapter>() {
    let mut server = TestServer::start();
    let config = quick(server.port()).fallback(Fallback::fail("strict:*")).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    A::wait(client.set("strict:k", "v")).expect("a plain SET");
    server.kill();
    for round in 0..3 {
        let (outcome, took) = timed(|| A::wait(client.get::<String>("strict:k")));
        let down = failure(outcome);
        assert!(matches!(down.kind(), FailureKind::Down(_)), "{down}");
        assert_eq!(down.command(), "GET");
        assert!(took < SLACK, "round {round}: {took:?}");
    }
    let down = failure(A::wait(client.set("strict:k", "w")));
    assert_eq!(down.executed(), Executed::No, "{down}");
    server.restart();
    until_health::<A>(&client, Health::Live);
    assert_eq!(source_of(get::<A>(&client, "strict:k")), told("v", Source::Server));
}

fn fail_fast_fails_at_once_where_no_rule_matches<A: Adapter>() {
    let mut server = TestServer::start();
    let config = cached(quick(server.port())).fail_fast(true).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    A::wait(client.set("cache:k", "v")).expect("a plain SET");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:k")), told("v", Source::Shadow));
    let (outcome, took) = timed(|| A::wait(client.incr("n")));
    let down = failure(outcome);
    assert!(matches!(down.kind(), FailureKind::Down(_)), "{down}");
    assert_eq!(down.executed(), Executed::No, "{down}");
    assert!(took < SLACK, "{took:?}");
}

fn miss_answers_nothing_and_invalidates<A: Adapter>() {
    let mut server = TestServer::start();
    let config = quick(server.port()).fallback(Fallback::miss("page:*"));
    let client = A::connect(config).expect("there is a server");
    for key in ["page:1", "page:2"] {
        A::wait(client.set(key, "old")).expect("a plain SET");
    }
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "page:1")), (None, Source::Unknown));
    A::wait(client.set("page:1", "new")).expect("it is dropped");
    assert_eq!(source_of(get::<A>(&client, "page:1")), (None, Source::Unknown));
    assert_eq!(A::status(&client).journal_entries, 1);
    server.restart();
    until_health::<A>(&client, Health::Live);
    assert_eq!(source_of(get::<A>(&client, "page:1")), (None, Source::Server));
    assert_eq!(source_of(get::<A>(&client, "page:2")), told("old", Source::Server));
    assert_eq!(A::status(&client).journal_entries, 0);
}

fn discard_forgets_what_was_written_meanwhile<A: Adapter>() {
    let mut server = TestServer::start();
    let rule = Fallback::memory("hits:*", Policy::Discard);
    let client = A::connect(quick(server.port()).fallback(rule)).expect("there is a server");
    A::wait(client.set("hits:k", "5")).expect("a plain SET");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "hits:k")), told("5", Source::Shadow));
    assert_eq!(A::wait(client.incr("hits:k")).expect("in memory"), 6);
    assert_eq!(A::wait(client.incr("hits:new")).expect("in memory"), 1);
    assert_eq!(source_of(get::<A>(&client, "hits:k")), told("6", Source::Overlay));
    assert_eq!(A::wait(client.del("hits:new")).expect("in memory"), 1);
    assert_eq!(A::status(&client).journal_entries, 0);
    server.restart();
    until_health::<A>(&client, Health::Live);
    assert_eq!(source_of(get::<A>(&client, "hits:k")), told("5", Source::Server));
    assert_eq!(source_of(get::<A>(&client, "hits:new")), (None, Source::Server));
    assert_eq!(A::status(&client).overlay_entries, 0);
}

fn invalidate_deletes_what_was_written_meanwhile<A: Adapter>() {
    const KEYS: usize = 300;
    let mut server = TestServer::start();
    let client = A::connect(cached(quick(server.port()))).expect("there is a server");
    let mut witness = Raw::connect(server.port());
    for at in 0..KEYS {
        witness.ok(&["SET", &format!("cache:{at}"), "old"]);
    }
    server.kill();
    for at in 0..KEYS {
        let key = format!("cache:{at}");
        A::wait(client.set_ex(&key, "new", Duration::from_secs(60))).expect("in memory");
        assert_eq!(source_of(get::<A>(&client, &key)), told("new", Source::Overlay));
    }
    assert_eq!(A::wait(client.append("cache:0", "er")).expect("in memory"), 5);
    let many: Vec<String> = A::wait(client.mget(["cache:0", "cache:1"])).expect("in memory");
    assert_eq!(many, ["newer", "new"]);
    let status = A::status(&client);
    assert_eq!((status.overlay_entries, status.journal_entries), (KEYS, KEYS));
    server.restart();
    until_health::<A>(&client, Health::Live);
    let mut witness = Raw::connect(server.port());
    assert_eq!(witness.int(&["DBSIZE"]), 0);
    let status = A::status(&client);
    assert_eq!((status.overlay_entries, status.journal_entries), (0, 0));
    assert_eq!(source_of(get::<A>(&client, "cache:0")), (None, Source::Server));
}

fn memory_refuses_what_it_cannot_know<A: Adapter>() {
    let mut server = TestServer::start();
    let rule = Fallback::memory("*", Policy::Invalidate);
    let client = A::connect(quick(server.port()).fallback(rule)).expect("there is a server");
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "k")), (None, Source::Unknown));
    let refusal = |failure: Failure| match failure.kind() {
        FailureKind::Memory(refusal) => {
            assert_eq!(failure.executed(), Executed::No, "{failure}");
            refusal.clone()
        }
        _ => panic!("{failure}"),
    };
    let minute = Duration::from_secs(60);
    let lock = failure(A::wait(client.setnx("lock", "mine")));
    assert_eq!(refusal(lock), MemoryRefusal::Unsafe);
    let lock = failure(A::wait(client.set_with("lock", 1, SetOptions::new().nx().ex(minute))));
    assert_eq!(refusal(lock), MemoryRefusal::Unsafe);
    let unseen = failure(A::wait(client.expire("unseen", minute)));
    assert_eq!(refusal(unseen), MemoryRefusal::Unseen);
    let script = failure(A::wait(client.eval::<i64>("return 1", "k", ())));
    assert_eq!(refusal(script), MemoryRefusal::Never(Never::Script));
    let flush = failure(A::wait(client.flushall()));
    assert_eq!(refusal(flush), MemoryRefusal::Never(Never::EveryKey));
    // What is refused leaves nothing behind.
    assert_eq!(A::status(&client).journal_entries, 0);
    let text = A::wait(client.set("k", "word")).and_then(|()| A::wait(client.incr("k")));
    assert_eq!(failure(text).executed(), Executed::Yes, "run, and in error, as on a server");
}

fn a_full_memory_refuses_and_says_so_once<A: Adapter>() {
    let mut server = TestServer::start();
    let config = cached(quick(server.port())).memory_entries_max(10);
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    server.kill();
    assert_eq!(source_of(get::<A>(&client, "cache:none")), (None, Source::Unknown));
    let outcomes: Vec<_> =
        (0..20).map(|at| A::wait(client.set(format!("cache:{at}"), at))).collect();
    assert!(outcomes[..10].iter().all(Result::is_ok), "{outcomes:?}");
    for refused in outcomes.into_iter().skip(10) {
        let refused = failure(refused);
        assert!(matches!(refused.kind(), FailureKind::Memory(MemoryRefusal::Full(_))), "{refused}");
    }
    assert_eq!(source_of(get::<A>(&client, "cache:9")), told("9", Source::Overlay));
    changes.expect_some(1, |event| matches!(event, Event::Full { .. }));
}

fn a_silent_network_is_found_out_without_any_request<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(cached(quick(proxy.port()))).expect("there is a server");
    A::wait(client.set("cache:k", "v")).expect("a plain SET");
    proxy.set(Fault::Swallow(unfazed_tests::Way::Both));
    // Silence, a PING that gets no answer, a dial that gets none either.
    until_health::<A>(&client, Health::Degraded);
    let (answer, took) = timed(|| source_of(get::<A>(&client, "cache:k")));
    assert_eq!(answer, told("v", Source::Shadow));
    assert!(took < SLACK, "{took:?}");
    proxy.set(Fault::None);
    until_health::<A>(&client, Health::Live);
    assert_eq!(source_of(get::<A>(&client, "cache:k")), told("v", Source::Server));
}

//! Commands that wait at the server, on connections of their own.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Config, Event,
    commands::prelude::*,
    engine::Health,
    failure::{Bound, Executed, FailureKind, MemoryRefusal, Never, Stage},
    fallback::{Fallback, Policy},
    handle::{Pipelines, Views},
};
use unfazed_tests::{Fault, Proxy, Raw, RawReply, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, Async, in_cluster, scenarios, spawn},
    site::Site,
    support::{
        LIMIT, PROTOCOLS, SILENCE, assert_lost_maybe, at, cut, failure, others_on, quick, refusal,
        timed, until_health,
    },
};

scenarios! {
    a_command_that_waits_gets_what_comes,
    those_that_wait_hold_up_nobody,
    a_wait_that_is_over_gives_nothing,
    a_wait_for_ever_goes_on_in_slices_and_finds_a_dead_server,
    what_is_new_in_a_stream_is_seen_across_slices_and_connections,
    who_finds_every_connection_in_use_is_told_the_bound,
    a_connection_is_used_again_and_closed_when_nobody_has_used_it_for_long,
    a_pop_across_a_restart_ends_as_maybe_and_the_next_one_gets_its_element,
    a_limit_of_the_callers_own_ends_a_wait_before_the_server_does,
    a_pipeline_with_a_command_that_waits_keeps_its_order_on_one_connection,
    what_waits_never_degrades,
    somebody_who_is_unblocked_is_told,
    what_waits_without_a_server_gets_what_comes,
    ; async
    a_pop_that_is_given_up_loses_nothing_untold,
}

in_cluster! {
    a_command_that_waits_gets_what_comes,
    those_that_wait_hold_up_nobody,
    a_wait_that_is_over_gives_nothing,
    a_limit_of_the_callers_own_ends_a_wait_before_the_server_does,
    a_pipeline_with_a_command_that_waits_keeps_its_order_on_one_connection,
}

type Popped = Option<(String, String)>;

/// How many clients wait at the server.
fn blocked(witness: &mut Raw) -> usize {
    let RawReply::Bulk(info) = witness.cmd(&["INFO", "clients"]) else { panic!("no INFO") };
    let info = String::from_utf8(info).expect("it is text");
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.expect("it says so").trim().parse().expect("a number")
}

#[track_caller]
fn until_blocked(witness: &mut Raw, count: usize) {
    eventually("as many clients to wait", LIMIT, || (blocked(witness) == count).then_some(()));
}

fn a_command_that_waits_gets_what_comes<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    // In a cluster it is to stand where the key is.
    witness.int(&["EXISTS", "a"]);
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let waiting = client.clone();
        let task = spawn::<A, _>(async move {
            A::done(waiting.blpop::<String, String>(["a", "{a}b"], LIMIT)).await
        });
        until_blocked(&mut witness, 1);
        witness.int(&["RPUSH", "{a}b", "1"]);
        let popped = task.join().expect("it came");
        assert_eq!(popped, Some(("{a}b".into(), "1".into())));

        // What is there already is given at once.
        witness.int(&["RPUSH", "a", "1", "2", "3", "4", "5", "6"]);
        witness.int(&["ZADD", "{a}z", "1", "one", "2", "two", "3", "three"]);
        let right: Popped = A::wait(client.brpop("a", LIMIT)).expect("there is one");
        assert_eq!(right, Some(("a".into(), "6".into())));
        let moved = client.blmove::<i64>("a", "{a}c", Side::Left, Side::Right, None);
        assert_eq!(A::wait(moved).expect("there is one"), Some(1));
        assert_eq!(A::wait(client.brpoplpush::<i64>("a", "{a}c", LIMIT)).expect("one"), Some(5));
        let many = client.blmpop::<String, i64>(["{a}none", "a"], Side::Left, 2, LIMIT);
        assert_eq!(A::wait(many).expect("there are"), Some(("a".into(), vec![2, 3])));
        let min = A::wait(client.bzpopmin::<String, String>("{a}z", LIMIT)).expect("there is one");
        assert_eq!(min, Some(("{a}z".into(), "one".into(), 1.0)));
        let max = A::wait(client.bzpopmax::<String, String>("{a}z", LIMIT)).expect("there is one");
        assert_eq!(max, Some(("{a}z".into(), "three".into(), 3.0)));
        let last = client.bzmpop::<String, String>("{a}z", ScoreEnd::Lowest, 5, LIMIT);
        let last = A::wait(last).expect("there is one").expect("it is there");
        assert_eq!(last.0, "{a}z");
        // Of another type.
        A::wait(client.set("text", "t")).expect("a plain SET");
        let wrong = failure(A::wait(client.blpop::<String, String>("text", LIMIT)));
        assert_eq!(
            wrong.server_error().map(|error| error.code().to_owned()).as_deref(),
            Some("WRONGTYPE")
        );
        A::wait(client.flushall()).expect("a plain FLUSHALL");
    }
}

fn those_that_wait_hold_up_nobody<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    // In a cluster it is to stand where the key is.
    witness.int(&["EXISTS", "q"]);
    let client = A::connect(server.config()).expect("there is a server");
    let tasks: Vec<_> = (0..20)
        .map(|at| {
            let client = client.clone();
            spawn::<A, _>(async move {
                A::done(client.blpop::<String, u32>(format!("{{q}}{at}"), None)).await
            })
        })
        .collect();
    until_blocked(&mut witness, 20);
    for _ in 0..100 {
        let (_, took) = timed(|| A::wait(client.incr("{q}n")).expect("a plain INCR"));
        assert!(took < LIMIT);
    }
    for at in 0..20 {
        witness.int(&["RPUSH", &format!("{{q}}{at}"), &at.to_string()]);
    }
    for (at, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().expect("it came").expect("one").1, at as u32);
    }
    assert_eq!(witness.get("{q}n").as_deref(), Some("100"));
}

fn a_wait_that_is_over_gives_nothing<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        // A slice is as long as the server may be silent.
        let config = server.config().protocol(protocol).response_timeout(SILENCE);
        let client = A::connect(config).expect("there is a server");
        let wait = 2 * SILENCE + SILENCE / 2;
        let (nothing, took) = timed(|| A::wait(client.blpop::<String, String>("none", wait)));
        assert_eq!(nothing.expect("no failure"), None);
        assert!(took >= wait, "{took:?}");
        let (nothing, took) = timed(|| A::wait(client.bzpopmin::<String, String>("none", SILENCE)));
        assert_eq!(nothing.expect("no failure"), None);
        assert!(took >= SILENCE, "{took:?}");
        let streams = ("stream", ReadFrom::New);
        let read = client.xread_blocking::<Vec<String>>(streams, ReadOptions::new(), SILENCE);
        assert!(A::wait(read).expect("no failure").is_empty());
    }
}

fn a_wait_for_ever_goes_on_in_slices_and_finds_a_dead_server<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port()).deadline(Duration::from_secs(2));
    let client = A::connect(config).expect("there is a server");
    let waiting = client.clone();
    let task =
        spawn::<A, _>(async move { A::done(waiting.blpop::<String, String>("q", None)).await });
    // It outlives both its slices and the client's deadline.
    eventually("some slices", LIMIT, || (proxy.requests_seen(b"BLPOP") > 4).then_some(()));
    witness.int(&["RPUSH", "q", "1"]);
    assert_eq!(task.join().expect("it came"), Some(("q".into(), "1".into())));

    let waiting = client.clone();
    let task =
        spawn::<A, _>(async move { A::done(waiting.blpop::<String, String>("q", None)).await });
    until_blocked(&mut witness, 1);
    let begin = Instant::now();
    proxy.set(Fault::Stall(Way::Replies));
    let lost = task.join();
    assert!(begin.elapsed() < LIMIT, "a dead server is noticed");
    assert_lost_maybe(lost);
}

fn what_is_new_in_a_stream_is_seen_across_slices_and_connections<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let proxy = Proxy::start(server.port());
        let config = quick(proxy.port()).protocol(protocol).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        witness.cmd(&["XADD", "s", "*", "n", "old"]);
        let waiting = client.clone();
        let task = spawn::<A, _>(async move {
            let streams = [("s", ReadFrom::New), ("t", ReadFrom::New)];
            A::done(waiting.xread_blocking::<Vec<(String, String)>>(
                streams,
                ReadOptions::new(),
                None,
            ))
            .await
        });
        eventually("some slices", LIMIT, || (proxy.requests_seen(b"XREAD") > 2).then_some(()));
        // What is added while the client is away is not passed over.
        proxy.set(Fault::Refuse);
        proxy.reset_all();
        witness.cmd(&["XADD", "s", "*", "n", "new"]);
        proxy.set(Fault::None);
        let read = task.join().expect("it came");
        assert_eq!(read.len(), 1);
        let fields: Vec<_> = read[0].entries.iter().map(|entry| entry.fields.clone()).collect();
        assert_eq!(fields, [[("n".to_owned(), "new".to_owned())]]);
    }
}

fn who_finds_every_connection_in_use_is_told_the_bound<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let config = at(server.port()).leases_max(3).deadline(Duration::from_millis(400));
    let client = A::connect(config).expect("there is a server");
    let mut events = A::events(&client);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            spawn::<A, _>(async move { A::done(client.blpop::<String, u32>("q", None)).await })
        })
        .collect();
    until_blocked(&mut witness, 3);
    let full = failure(A::wait(client.blpop::<String, u32>("q", None)));
    assert!(
        matches!(full.kind(), FailureKind::DeadlinePassed(Stage::Lease(Bound::Leases))),
        "{full}"
    );
    assert_eq!(full.executed(), Executed::No);
    assert!(full.to_string().contains("leases_max"), "{full}");
    let status = A::status(&client);
    assert_eq!((status.leases, status.leases_idle, status.leases_waited_for), (3, 0, 0));
    let told = events();
    let told = told.iter().filter(|event| matches!(event, Event::Full { bound: Bound::Leases }));
    assert_eq!(told.count(), 1);
    assert_eq!(others_on(&mut witness), 4, "the shared one and three more");

    // Who waits for one gets the first that is free.
    let next = client.clone();
    let next =
        spawn::<A, _>(
            async move { A::done(next.within(LIMIT).blpop::<String, u32>("q", None)).await },
        );
    eventually("it to stand in line", LIMIT, || {
        (A::status(&client).leases_waited_for == 1).then_some(())
    });
    witness.int(&["RPUSH", "q", "1", "2", "3", "4"]);
    let all = waiting.into_iter().chain([next]).map(|task| task.join().expect("it came"));
    let all: BTreeSet<_> = all.map(|popped| popped.expect("one").1).collect();
    assert_eq!(all, BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(others_on(&mut witness), 4);
}

fn a_connection_is_used_again_and_closed_when_nobody_has_used_it_for_long<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let config = at(server.port()).lease_idle_after(Duration::from_millis(500));
    let client = A::connect(config).expect("there is a server");
    let made = |witness: &mut Raw| {
        let RawReply::Bulk(info) = witness.cmd(&["INFO", "stats"]) else { panic!("no INFO") };
        let info = String::from_utf8(info).expect("it is text");
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.expect("it says so").trim().parse::<u64>().expect("a number")
    };
    let before = made(&mut witness);
    for number in 0..50 {
        witness.int(&["RPUSH", "q", &number.to_string()]);
        let popped = A::wait(client.blpop::<String, u32>("q", LIMIT)).expect("there is one");
        assert_eq!(popped, Some(("q".into(), number)));
    }
    assert_eq!(made(&mut witness) - before, 1, "one connection for all of them");
    eventually("it to be closed", LIMIT, || (others_on(&mut witness) == 1).then_some(()));
    assert_eq!(A::status(&client).leases, 0);
}

fn a_pop_across_a_restart_ends_as_maybe_and_the_next_one_gets_its_element<A: Adapter>() {
    let mut server = TestServer::start();
    for protocol in PROTOCOLS {
        let config = quick(server.port()).protocol(protocol).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        let mut witness = Raw::connect(server.port());
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                spawn::<A, _>(async move { A::done(client.blpop::<String, u32>("q", None)).await })
            })
            .collect();
        until_blocked(&mut witness, 8);
        server.kill();
        tasks.into_iter().for_each(|task| assert_lost_maybe(task.join()));
        // One that is made while the server is away waits for it.
        let early = client.clone();
        let early =
            spawn::<A, _>(async move { A::done(early.blpop::<String, u32>("q", None)).await });
        server.restart();
        let mut witness = Raw::connect(server.port());
        until_blocked(&mut witness, 1);
        witness.int(&["RPUSH", "q", "7"]);
        assert_eq!(early.join().expect("it came"), Some(("q".into(), 7)));
        assert_eq!(A::status(&client).tickets, 0);
    }
}

fn a_limit_of_the_callers_own_ends_a_wait_before_the_server_does<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    // In a cluster it is to stand where the key is.
    witness.int(&["EXISTS", "q"]);
    let client = A::connect(server.config()).expect("there is a server");
    for wait in [None, Some(LIMIT)] {
        let limit = Duration::from_millis(500);
        let view = client.within(limit);
        let (late, took) = timed(|| A::wait(view.blpop::<String, u32>("q", wait)));
        let late = failure(late);
        assert!(late.is_timeout(), "{late}");
        // The server was told to stop waiting in time, so it is certain that nothing was taken.
        assert_eq!(late.executed(), Executed::No, "{late}");
        assert!(took < LIMIT);
        assert_eq!(blocked(&mut witness), 0);
    }
    witness.int(&["RPUSH", "q", "1"]);
    let there: Option<(String, u32)> =
        A::wait(client.within(LIMIT).blpop("q", None)).expect("there is one");
    assert_eq!(there, Some(("q".into(), 1)));
}

fn a_pipeline_with_a_command_that_waits_keeps_its_order_on_one_connection<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config()).expect("there is a server");
    let (before, pushed, popped, after, replicas): (i64, u64, Option<(String, u32)>, i64, u64) =
        A::wait_all(client.pipeline(|p| {
            (
                p.incr("{q}n"),
                p.rpush("q", 5),
                p.blpop("q", LIMIT),
                p.incr("{q}n"),
                p.wait(0, Duration::from_millis(100)),
            )
        }))
        .expect("nothing is wrong with it");
    assert_eq!((before, pushed, popped, after, replicas), (1, 1, Some(("q".into(), 5)), 2, 0));
    // Alone its answer would be about nothing.
    let misuse = failure(A::wait(client.wait(0, LIMIT)));
    assert!(matches!(misuse.kind(), FailureKind::Misuse(_)), "{misuse}");
}

fn what_waits_never_degrades<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port())
        .deadline(Duration::from_millis(300))
        .fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = A::connect(config).expect("there is a server");
    A::wait(client.rpush("cache:q", 1)).expect("a plain RPUSH");
    cut::<A>(&proxy, &client);
    let never = refusal(A::wait(client.blpop::<String, u32>("cache:q", LIMIT)));
    assert_eq!(never, MemoryRefusal::Never(Never::Blocking));
    let late = failure(A::wait(client.blpop::<String, u32>("q", LIMIT)));
    assert!(late.is_timeout(), "{late}");
    assert_eq!(late.executed(), Executed::No, "{late}");
    proxy.set(Fault::None);
    until_health::<A>(&client, Health::Live);
    let there = A::wait(client.within(LIMIT).blpop::<String, u32>("cache:q", LIMIT));
    assert_eq!(there.expect("there is one"), Some(("cache:q".into(), 1)));
}

fn somebody_who_is_unblocked_is_told<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let client = A::connect(at(server.port())).expect("there is a server");
    for how in ["ERROR", "TIMEOUT"] {
        let waiting = client.clone();
        let task =
            spawn::<A, _>(async move { A::done(waiting.blpop::<String, u32>("q", None)).await });
        until_blocked(&mut witness, 1);
        let RawReply::Bulk(list) = witness.cmd(&["CLIENT", "LIST"]) else { panic!("no list") };
        let list = String::from_utf8(list).expect("it is text");
        let line = list.lines().find(|line| line.contains("cmd=blpop")).expect("it waits");
        let id = line.split(' ').next().and_then(|word| word.strip_prefix("id=")).expect("an id");
        assert_eq!(witness.int(&["CLIENT", "UNBLOCK", id, how]), 1);
        match task.join() {
            Ok(nothing) => assert_eq!((how, nothing), ("TIMEOUT", None)),
            Err(told) => {
                let code = told.server_error().map(|error| error.code().to_owned());
                assert_eq!((how, code.as_deref()), ("ERROR", Some("UNBLOCKED")));
                assert_eq!(told.executed(), Executed::No, "{told}");
            }
        }
    }
}

fn what_waits_without_a_server_gets_what_comes<A: Adapter>() {
    let store = unfazed_tokio::Store::new();
    let config = Config::from(&store);
    let (one, other) = (A::connect(config.clone()), A::connect(config));
    let (one, other) = (one.expect("no server to miss"), other.expect("no server to miss"));
    for pusher in [&one, &other] {
        let waiting = one.clone();
        let task =
            spawn::<A, _>(
                async move { A::done(waiting.blpop::<String, u32>(["a", "q"], None)).await },
            );
        eventually("it to wait", LIMIT, || (A::status(&one).tickets == 1).then_some(()));
        A::wait(pusher.rpush("q", 7)).expect("a plain RPUSH");
        assert_eq!(task.join().expect("it came"), Some(("q".into(), 7)));
    }
    let wait = Duration::from_millis(50);
    let (nothing, took) = timed(|| A::wait(one.blpop::<String, u32>("q", wait)));
    assert_eq!(nothing.expect("no failure"), None);
    assert!(took >= wait);
    let late = failure(A::wait(one.within(wait).bzpopmin::<String, u32>("q", None)));
    assert!(late.is_timeout(), "{late}");
    A::wait(one.zadd("z", [("low", 1), ("high", 2)])).expect("a plain ZADD");
    let min = A::wait(one.bzpopmin::<String, String>("z", None)).expect("there is one");
    assert_eq!(min, Some(("z".into(), "low".into(), 1.0)));
    let wrong = failure(A::wait(one.blpop::<String, u32>("z", None)));
    assert_eq!(
        wrong.server_error().map(|error| error.code().to_owned()).as_deref(),
        Some("WRONGTYPE")
    );
    let (pushed, popped): (u64, Option<(String, u32)>) =
        A::wait_all(one.pipeline(|p| (p.rpush("q", 1), p.blpop("q", wait)))).expect("plain ones");
    assert_eq!((pushed, popped), (1, Some(("q".into(), 1))));
    assert_eq!(A::status(&one).tickets, 0);
}

/// Elements are pushed while those who wait for them give up at any moment. Each element is still there,
/// or was given to somebody, or an event says that somebody may have taken one and was not there any more.
fn a_pop_that_is_given_up_loses_nothing_untold<A: Async>() {
    const ELEMENTS: u64 = 3_000;
    let server = TestServer::start();
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        let mut events = A::events(&client);
        let over = Arc::new(AtomicBool::new(false));
        let port = server.port();
        let heard_all = Arc::new(AtomicBool::new(false));
        let told = Arc::new(AtomicU64::new(0));
        let listener = {
            let (heard_all, told) = (heard_all.clone(), told.clone());
            thread::spawn(move || {
                while !heard_all.load(Ordering::SeqCst) {
                    let of =
                        |event: &&Event| matches!(event, Event::GivenUp { command: "BLPOP", .. });
                    let some = events().iter().filter(of).count();
                    told.fetch_add(some as u64, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let pusher = thread::spawn(move || {
            let mut witness = Raw::connect(port);
            for number in 0..ELEMENTS {
                witness.int(&["RPUSH", "q", &number.to_string()]);
                if number % 8 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
        let tasks = (0..16_u64).map(|task| {
            let (client, over) = (client.clone(), over.clone());
            thread::spawn(move || A::enter(|| pop_and_give_up::<A>(&client, &over, task)))
        });
        let tasks: Vec<_> = tasks.collect();
        pusher.join().expect("it pushes");
        over.store(true, Ordering::SeqCst);
        let got: Vec<u64> =
            tasks.into_iter().flat_map(|task| task.join().expect("no panic")).collect();
        let there: BTreeSet<u64> = got.iter().copied().collect();
        assert_eq!(there.len(), got.len(), "none was given twice");
        let mut witness = Raw::connect(server.port());
        eventually("those who gave up to be gone", LIMIT, || {
            (blocked(&mut witness) == 0).then_some(())
        });
        let left = witness.int(&["LLEN", "q"]) as u64;
        let lost = ELEMENTS - left - there.len() as u64;
        // An event comes a moment after what it tells of.
        let told = eventually(&format!("{lost} that are lost to be told of"), LIMIT, || {
            Some(told.load(Ordering::SeqCst)).filter(|told| lost <= *told)
        });
        heard_all.store(true, Ordering::SeqCst);
        listener.join().expect("it listens");
        assert!(!there.is_empty() && told > 0, "both happen: {} given, {told} told", there.len());
        // The last to be given up may still be on its way.
        eventually("nothing to be left", LIMIT, || {
            let status = A::status(&client);
            let left = (status.tickets, status.queued_requests, status.leases_waited_for);
            (left == (0, 0, 0)).then_some(())
        });
    }
}

fn pop_and_give_up<A: Async>(client: &A::Client, over: &AtomicBool, seed: u64) -> Vec<u64> {
    let (mut got, mut chance) = (Vec::new(), seed);
    while !over.load(Ordering::SeqCst) {
        let mut pending = client.blpop::<String, u64>("q", None);
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..chance >> 61 {
            if let Some(popped) = A::poll_once(&mut pending) {
                got.push(popped.expect("no failure").expect("for ever").1);
                break;
            }
            thread::sleep(Duration::from_micros(chance >> 33 & 255));
        }
    }
    got
}

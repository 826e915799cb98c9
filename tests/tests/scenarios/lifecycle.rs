//! From the first request to the last: limits of time and room, giving up, closing.

use std::time::{Duration, Instant};

use unfazed_core::{
    Failure,
    commands::prelude::*,
    engine::{Event, Health},
    failure::{Executed, FailureKind, Stage},
    handle::{Pipelines, Views},
};
use unfazed_tests::{Fault, Manners, Peer, Proxy, Raw, Server as TestServer, Way, eventually};

use crate::{
    adapters::{Adapter, Async, Task, scenarios, spawn},
    support::{Changes, LIMIT, SLACK, at, failure, others_on, quick, timed, until_health},
};

scenarios! {
    closing_ends_everything,
    closing_lets_what_was_sent_finish,
    closing_twice_or_unused_is_fine,
    a_dropped_client_leaves_its_server,
    a_deadline_is_kept_against_a_silent_peer,
    a_deadline_covers_waiting_for_a_server,
    a_full_queue_is_waited_for_or_refused,
    a_queue_full_of_bytes_is_full,
    a_place_in_line_is_kept_until_there_is_room,
    commands_that_change_the_connection_are_refused_with_advice,
    a_slow_command_has_more_time_than_others,
    a_client_is_idle_and_stays_connected;
    async
    the_last_handle_takes_every_request_with_it,
    a_request_given_up_costs_its_neighbours_nothing,
    a_request_given_up_before_it_was_sent_is_not_executed,
    a_detached_request_is_executed_all_the_same,
    requests_given_up_at_random_leave_nothing_behind,
}

const SHORT: Duration = Duration::from_millis(300);

/// A peer that shakes hands and then says nothing.
fn silent() -> Peer {
    Peer::start(|client| {
        client.handshake(Manners::Resp3);
        client.hold();
    })
}

/// Sends this many INCRs, each from a caller of its own, and waits until all are under way.
fn incrs<A: Adapter>(client: &A::Client, count: usize) -> Vec<Task<Result<i64, Failure>>> {
    let before = A::status(client).queued_requests;
    let sent = (0..count).map(|_| {
        let client = client.clone();
        spawn::<A, _>(async move { A::done(client.incr("n")).await })
    });
    let sent: Vec<_> = sent.collect();
    eventually("all to be under way", LIMIT, || {
        (A::status(client).queued_requests == before + count).then_some(())
    });
    sent
}

fn closing_ends_everything<A: Adapter>() {
    let peer = silent();
    let client = A::connect(quick(peer.port()).deadline(LIMIT * 3)).expect("it shakes hands");
    let mut changes = Changes::of::<A>(&client);
    let pending = incrs::<A>(&client, 20);
    let ((), took) = timed(|| A::close(&client));
    assert!(took < SLACK, "{took:?}");
    for incr in pending {
        let closed = failure(incr.join());
        let lost =
            matches!(closed.kind(), FailureKind::ClientClosed | FailureKind::ConnectionLost(_));
        assert!(lost, "{closed}");
        assert_eq!(closed.executed(), Executed::Maybe, "{closed}");
    }
    let refused = failure(A::wait(client.incr("n")));
    assert!(matches!(refused.kind(), FailureKind::ClientClosed), "{refused}");
    assert_eq!(refused.executed(), Executed::No, "{refused}");
    let refused = failure(A::wait_all(client.pipeline(|p| p.incr("n"))));
    assert!(matches!(refused.kind(), FailureKind::ClientClosed), "{refused}");
    changes.expect_some(1, |event| matches!(event, Event::End));
    assert_eq!(changes.health().last().expect("it was closed").1, Health::Closed);
    let status = A::status(&client);
    assert_eq!((status.health, status.connections), (Health::Closed, 0));
    assert_eq!((status.queued_requests, status.queued_bytes, status.tickets), (0, 0, 0));
}

fn closing_lets_what_was_sent_finish<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(at(proxy.port())).expect("there is a server");
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let sent = incrs::<A>(&client, 50);
    A::close(&client);
    let mut counts: Vec<i64> =
        sent.into_iter().map(|incr| incr.join().expect("it was sent")).collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=50));
    let mut witness = Raw::connect(server.port());
    eventually("the connection to be gone", LIMIT, || (others_on(&mut witness) == 0).then_some(()));
}

fn closing_twice_or_unused_is_fine<A: Adapter>() {
    let client = A::lazy(at(1)).expect("a good config");
    A::close(&client);
    A::close(&client.clone());
    assert_eq!(A::status(&client).health, Health::Closed);
    drop(A::lazy(at(1)).expect("a good config"));
}

fn a_dropped_client_leaves_its_server<A: Adapter>() {
    let server = TestServer::start();
    let client = A::connect(at(server.port())).expect("there is a server");
    let clone = client.clone();
    A::wait(client.incr("n")).expect("a plain INCR");
    drop(client);
    assert_eq!(A::wait(clone.incr("n")).expect("its clone lives"), 2);
    let mut witness = Raw::connect(server.port());
    assert_eq!(others_on(&mut witness), 1);
    drop(clone);
    eventually("the connection to be gone", LIMIT, || (others_on(&mut witness) == 0).then_some(()));
}

fn a_deadline_is_kept_against_a_silent_peer<A: Adapter>() {
    let peer = silent();
    let client = A::connect(at(peer.port()).response_timeout(LIMIT)).expect("it shakes hands");
    let (outcome, took) = timed(|| A::wait(client.within(SHORT).incr("n")));
    let late = failure(outcome);
    assert!(matches!(late.kind(), FailureKind::DeadlinePassed(Stage::Reply)), "{late}");
    assert_eq!((late.executed(), late.command()), (Executed::Maybe, "INCR"), "{late}");
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    let (outcomes, took) = timed(|| {
        A::wait_all(client.within(SHORT).pipeline_each(|p| (p.incr("n"), p.get::<i64>("n"))))
    });
    assert!(failure(outcomes.0).is_timeout() && failure(outcomes.1).is_timeout());
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
}

fn a_deadline_covers_waiting_for_a_server<A: Adapter>() {
    let port = unfazed_tests::free_port();
    let client = A::lazy(at(port).deadline(SHORT)).expect("a good config");
    let (outcome, took) = timed(|| A::wait(client.incr("n")));
    let late = failure(outcome);
    assert!(matches!(late.kind(), FailureKind::DeadlinePassed(Stage::Connection)), "{late}");
    assert_eq!(late.executed(), Executed::No, "{late}");
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
}

fn a_full_queue_is_waited_for_or_refused<A: Adapter>() {
    const PLACES: usize = 8;
    let peer = silent();
    let config = at(peer.port()).queue_requests_max(PLACES).response_timeout(LIMIT).deadline(LIMIT);
    let client = A::connect(config).expect("it shakes hands");
    let mut changes = Changes::of::<A>(&client);
    let under_way = incrs::<A>(&client, PLACES);
    let (outcome, took) = timed(|| A::wait(client.try_now().incr("n")));
    let refused = failure(outcome);
    assert!(matches!(refused.kind(), FailureKind::QueueFull), "{refused}");
    assert_eq!(refused.executed(), Executed::No, "{refused}");
    assert!(took < SLACK, "{took:?}");
    let (outcome, took) = timed(|| A::wait(client.within(SHORT).incr("n")));
    let late = failure(outcome);
    assert!(matches!(late.kind(), FailureKind::DeadlinePassed(Stage::Room)), "{late}");
    assert_eq!(late.executed(), Executed::No, "{late}");
    assert!(took >= SHORT && took < SHORT + SLACK, "{took:?}");
    let batch = failure(A::wait_all(client.try_now().pipeline(|p| p.incr("n"))));
    assert!(matches!(batch.kind(), FailureKind::QueueFull), "{batch}");
    changes.expect_some(1, |event| matches!(event, Event::Full { .. }));
    // It would have time to answer, which it never does.
    drop(peer);
    A::close(&client);
    for incr in under_way {
        failure(incr.join());
    }
}

fn a_queue_full_of_bytes_is_full<A: Adapter>() {
    let peer = Peer::start(|client| {
        client.handshake(Manners::Resp3);
        client.freeze();
    });
    let config = at(peer.port()).queue_bytes_max(1 << 20).response_timeout(LIMIT).deadline(LIMIT);
    let client = A::connect(config).expect("it shakes hands");
    let value = "x".repeat(600 << 10);
    let under_way: Vec<_> = (0..2)
        .map(|at| {
            let (client, value) = (client.clone(), value.clone());
            spawn::<A, _>(async move { A::done(client.set(at, value)).await })
        })
        .collect();
    eventually("both to be under way", LIMIT, || {
        (A::status(&client).queued_requests == 2).then_some(())
    });
    let refused = failure(A::wait(client.try_now().incr("n")));
    assert!(matches!(refused.kind(), FailureKind::QueueFull), "{refused}");
    drop(peer);
    A::close(&client);
    for set in under_way {
        failure(set.join());
    }
}

fn a_place_in_line_is_kept_until_there_is_room<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let config = at(proxy.port()).queue_requests_max(2).response_timeout(LIMIT).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    proxy.set(Fault::Stall(Way::Both));
    let mut sent = Vec::new();
    for at in 0..20 {
        let behind = client.clone();
        sent.push(spawn::<A, _>(
            async move { A::done(behind.append("log", format!("{at},"))).await },
        ));
        eventually("its place", LIMIT, || {
            (A::status(&client).queued_requests == at + 1).then_some(())
        });
    }
    assert_eq!(A::status(&client).waiting_requests, 18);
    proxy.set(Fault::None);
    for append in sent {
        append.join().expect("there is room in the end");
    }
    let all: String = (0..20).map(|at| format!("{at},")).collect();
    assert_eq!(Raw::connect(server.port()).get("log"), Some(all), "first come, first served");
}

fn commands_that_change_the_connection_are_refused_with_advice<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(at(proxy.port())).expect("there is a server");
    let refused = |name: &str, args: &[&str]| {
        let word = name.split(' ').next().expect("a name");
        // The handshake has commands of this name as well.
        let seen = proxy.requests_seen(word.as_bytes());
        let command = client.command(name).args(args);
        let refused = failure(A::wait(command.run::<()>()));
        let FailureKind::Misuse(advice) = refused.kind() else { panic!("{name}: {refused}") };
        assert!(advice.len() > 20, "{name}: {advice}");
        assert_eq!(refused.executed(), Executed::No, "{refused}");
        assert_eq!(proxy.requests_seen(word.as_bytes()), seen, "{name} was sent");
    };
    for (name, args) in [
        ("SELECT", &["1"][..]),
        ("select", &["1"]),
        ("MULTI", &[]),
        ("WATCH", &["k"]),
        ("SUBSCRIBE", &["channel"]),
        ("PSUBSCRIBE", &["*"]),
        ("MONITOR", &[]),
        ("RESET", &[]),
        ("QUIT", &[]),
        ("AUTH", &["password"]),
        ("CLIENT REPLY", &["OFF"]),
        ("CLIENT TRACKING", &["ON"]),
        ("ASKING", &[]),
        ("READONLY", &[]),
        ("PSYNC", &["?", "-1"]),
        ("WAIT", &["1", "0"]),
    ] {
        refused(name, args);
    }
    // The connection is as it was.
    assert_eq!(A::wait(client.incr("n")).expect("a plain INCR"), 1);
    assert_eq!(proxy.connections(), 1);
}

fn a_slow_command_has_more_time_than_others<A: Adapter>() {
    let server = TestServer::start();
    let config = quick(server.port()).deadline(LIMIT);
    let client = A::connect(config).expect("there is a server");
    let code = "local t = redis.call('TIME'); \
        local till = t[1] * 1000000 + t[2] + 1500000; \
        repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till; return 7";
    // Three times the time within which others must be answered.
    let slow = A::wait(client.eval::<i64>(code, (), ()));
    assert_eq!(slow.expect("it was waited for"), 7);
}

fn a_client_is_idle_and_stays_connected<A: Adapter>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(quick(proxy.port())).expect("there is a server");
    A::wait(client.incr("n")).expect("a plain INCR");
    // It asks by itself whether the server is there.
    eventually("some PINGs", LIMIT, || (proxy.requests_seen(b"PING") >= 3).then_some(()));
    assert_eq!(A::wait(client.incr("n")).expect("a plain INCR"), 2);
    assert_eq!(proxy.connections(), 1);
    assert_eq!(A::status(&client).health, Health::Live);
}

fn the_last_handle_takes_every_request_with_it<A: Async>() {
    let peer = silent();
    let client = A::connect(at(peer.port()).deadline(LIMIT * 3)).expect("it shakes hands");
    let sent: Vec<_> = (0..10).map(|_| client.incr("n")).collect();
    let refused = client.within(LIMIT * 3).get::<String>("k");
    drop(client);
    let start = Instant::now();
    for incr in sent {
        failure(A::wait(incr));
    }
    failure(A::wait(refused));
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

fn a_request_given_up_costs_its_neighbours_nothing<A: Async>() {
    let server = TestServer::start();
    let proxy = Proxy::start(server.port());
    let client = A::connect(at(proxy.port())).expect("there is a server");
    A::wait(client.mset((0..100).map(|at| (at, at)).collect::<Vec<_>>())).expect("a plain MSET");
    proxy.set(Fault::Delay(Duration::from_millis(50)));
    for round in 0..4 {
        let mut kept = Vec::new();
        for at in 0..100 {
            let mut get = client.get::<u32>(at);
            if at % 4 == round {
                // Some were looked at, some not.
                let _ = (at % 8 < 4).then(|| A::poll_once(&mut get));
                drop(get);
            } else {
                kept.push((at, get));
            }
        }
        for (at, get) in kept {
            assert_eq!(A::wait(get).expect("a plain GET"), Some(at));
        }
    }
    assert_eq!(proxy.connections(), 1);
    eventually("nothing to be left", LIMIT, || {
        let status = A::status(&client);
        (status.queued_requests == 0 && status.tickets == 0).then_some(())
    });
}

fn a_request_given_up_before_it_was_sent_is_not_executed<A: Async>() {
    let mut server = TestServer::start();
    let client = A::connect(quick(server.port()).deadline(LIMIT)).expect("there is a server");
    server.kill();
    eventually("the client to notice", LIMIT, || {
        (A::status(&client).health != Health::Live).then_some(())
    });
    let mut given_up: Vec<_> = (0..10).map(|_| client.incr("n")).collect();
    let kept = client.incr("n");
    assert!(given_up.iter_mut().all(|incr| A::poll_once(incr).is_none()));
    drop(given_up);
    server.restart();
    assert_eq!(A::wait(kept).expect("it waited for the server"), 1);
    until_health::<A>(&client, Health::Live);
    assert_eq!(Raw::connect(server.port()).get("n").as_deref(), Some("1"));
}

fn a_detached_request_is_executed_all_the_same<A: Async>() {
    let mut server = TestServer::start();
    let client = A::connect(quick(server.port()).deadline(LIMIT)).expect("there is a server");
    A::detach(client.incr("n"));
    let mut witness = Raw::connect(server.port());
    eventually("the first", LIMIT, || (witness.get("n").as_deref() == Some("1")).then_some(()));
    server.kill();
    eventually("the client to notice", LIMIT, || {
        (A::status(&client).health != Health::Live).then_some(())
    });
    A::detach(client.incr("n"));
    server.restart();
    let mut witness = Raw::connect(server.port());
    eventually("the second", LIMIT, || (witness.get("n").as_deref() == Some("2")).then_some(()));
    eventually("nothing to be left", LIMIT, || {
        let status = A::status(&client);
        (status.queued_requests == 0 && status.tickets == 0).then_some(())
    });
}

fn requests_given_up_at_random_leave_nothing_behind<A: Async>() {
    const COUNT: u64 = 10_000;
    let server = TestServer::start();
    let client = A::connect(at(server.port())).expect("there is a server");
    let mut random = 88_172_645_463_325_252_u64;
    let mut kept = Vec::new();
    for at in 0..COUNT {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut echo = client.echo::<u64>(at);
        let looked = if random & 1 == 0 { A::poll_once(&mut echo) } else { None };
        match looked {
            Some(result) => assert_eq!(result.expect("an ECHO"), at),
            None if random & 2 == 0 => drop(echo),
            None => kept.push((at, echo)),
        }
    }
    for (at, echo) in kept {
        assert_eq!(A::wait(echo).expect("an ECHO"), at);
    }
    eventually("nothing to be left", LIMIT, || {
        let status = A::status(&client);
        (status.queued_requests == 0 && status.queued_bytes == 0 && status.tickets == 0)
            .then_some(())
    });
    assert_eq!(A::status(&client).connections, 1);
}

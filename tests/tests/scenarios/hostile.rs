//! Peers that say what no server should: each costs its connection, and nothing else.

use std::{
    fs,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Cause, Config,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::Views,
    resp::Source,
};
use unfazed_tests::{Dialogue, Manners, Peer, Raw, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, join_all, scenarios},
    support::{
        LIMIT, SILENCE, SLACK, assert_lost_maybe, at, failure, get, quick, timed, until_health,
    },
    values::MUCH_MEMORY,
};

scenarios! {
    a_reply_too_many_costs_the_connection_and_is_nobodys_answer,
    pushes_between_all_frames_disturb_nobody,
    endless_pushes_hold_up_nobody_and_take_no_memory,
    what_is_not_the_protocol_costs_the_connection,
    absurd_lengths_take_no_memory,
    deep_nesting_costs_the_connection,
    a_reply_in_tiny_pieces_is_one_reply,
    a_peer_that_never_answers_is_given_up_in_time,
    a_peer_that_stops_answering_is_given_up_in_time,
    a_peer_that_speaks_only_resp2_is_spoken_to_in_resp2,
    a_peer_that_hangs_up_on_hello_is_spoken_to_in_resp2,
    a_peer_that_refuses_resp3_by_name_is_spoken_to_in_resp2,
    a_peer_that_forgets_who_we_are_is_told_once_more,
    a_peer_that_will_not_know_us_is_not_asked_for_ever,
    a_loading_server_is_waited_for,
    a_loading_server_is_down_for_those_who_may_degrade,
    a_server_with_too_many_clients_is_asked_again,
    a_server_that_became_a_replica_is_left_for_its_successor,
    a_replica_is_not_taken_for_recovered,
    a_busy_server_is_asked_again,
    an_error_that_a_script_forges_is_its_own,
}

/// The client of a peer whose first connection is bad and whose others are good.
fn dial<A: Adapter>(peer: &Peer) -> A::Client {
    // Silence is not to be what ends a connection here.
    let config = at(peer.port())
        .dial_backoff_base(Duration::from_millis(5))
        .response_timeout(2 * LIMIT)
        .deadline(LIMIT);
    A::connect(config).expect("it shakes hands")
}

/// Answers as a good server would whose every value is `good`, and whose counters are at 1.
fn be_good(client: &mut Dialogue) {
    client.serve(Manners::Resp3, good);
}

fn good(command: &[Vec<u8>]) -> Option<Vec<u8>> {
    match command[0].as_slice() {
        b"GET" => Some(b"$4\r\ngood\r\n".to_vec()),
        b"INCR" => Some(b":1\r\n".to_vec()),
        b"SET" => Some(b"+OK\r\n".to_vec()),
        _ => None,
    }
}

/// A peer that answers the first command of its first connection with this, and then waits.
fn bad_once(answer: &'static [u8]) -> Peer {
    Peer::start(move |client| {
        if client.number() > 0 {
            return be_good(client);
        }
        client.handshake(Manners::Resp3);
        client.write(answer);
        client.hold();
    })
}

fn good_value<A: Adapter>(client: &A::Client) {
    let value: Option<String> = A::wait(client.get("k")).expect("it may go again");
    assert_eq!(value.as_deref(), Some("good"));
}

fn a_reply_too_many_costs_the_connection_and_is_nobodys_answer<A: Adapter>() {
    let peer = bad_once(b"$5\r\nfirst\r\n$6\r\nsecond\r\n");
    let client = dial::<A>(&peer);
    let first: Option<String> = A::wait(client.get("k")).expect("it was answered");
    assert_eq!(first.as_deref(), Some("first"));
    for _ in 0..3 {
        good_value::<A>(&client);
    }
    assert_eq!(peer.connections(), 2);
}

fn pushes_between_all_frames_disturb_nobody<A: Adapter>() {
    const PUSH: &[u8] = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n";
    let peer = Peer::start(|client| {
        client.write(PUSH);
        client.write(PUSH);
        let first = client.handshake(Manners::Resp3);
        let mut next = first;
        while let Some(command) = next {
            let answer = good(&command).unwrap_or_else(|| b"+PONG\r\n".to_vec());
            client.write(&[PUSH, &answer, PUSH].concat());
            next = client.read_command();
        }
    });
    let client = dial::<A>(&peer);
    for _ in 0..50 {
        good_value::<A>(&client);
        assert_eq!(A::wait(client.incr("n")).expect("an answer"), 1);
    }
    assert_eq!(peer.connections(), 1);
}

fn endless_pushes_hold_up_nobody_and_take_no_memory<A: Adapter>() {
    let _alone = MUCH_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let peer = Peer::start(|client| {
        let Some(_) = client.handshake(Manners::Resp3) else { return };
        let push = [b">2\r\n+message\r\n$1000\r\n", &[b'x'; 1000][..], b"\r\n"].concat();
        let many = push.repeat(1_000);
        // About 100 MB, and an answer only after them.
        for _ in 0..100 {
            client.write(&many);
        }
        client.write(b"$4\r\ngood\r\n");
        while client.write(&push) {}
    });
    let client = A::connect(at(peer.port()).deadline(LIMIT)).expect("it shakes hands");
    let before = memory();
    good_value::<A>(&client);
    let grown = memory().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes more");
    assert_eq!(peer.connections(), 1);
    // The silent rest of what was asked ends in time, however much else is said.
    let limit = Duration::from_millis(300);
    let (outcome, took) = timed(|| A::wait(client.within(limit).get::<String>("k")));
    assert!(failure(outcome).is_timeout());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// How many bytes of data this process has.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kilobytes: usize =
        line.split_whitespace().next().expect("a number").parse().expect("a number");
    kilobytes << 10
}

fn what_is_not_the_protocol_costs_the_connection<A: Adapter>() {
    let answers: [&[u8]; 12] = [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"$-2\r\n",
        b"*-5\r\n",
        b"%-1\r\n",
        b"$12x\r\n",
        b"$\r\n",
        b":twelve\r\n",
        b"$4\r\ngoodXX",
        b"#y\r\n",
        b"_x\r\n",
        b"\r\n\r\n",
    ];
    for answer in answers {
        let told = answer.escape_ascii();
        let peer = bad_once(answer);
        let client = dial::<A>(&peer);
        good_value::<A>(&client);
        assert_eq!(peer.connections(), 2, "after {told}");

        let peer = bad_once(answer);
        let client = dial::<A>(&peer);
        let lost = A::wait(client.incr("n"));
        let fault = matches!(&lost, Err(lost) if matches!(
            lost.kind(),
            FailureKind::ConnectionLost(Cause::Protocol(_))
        ));
        assert!(fault, "{lost:?} after {told}");
        assert_lost_maybe(lost);
        assert_eq!(A::wait(client.incr("n")).expect("the next connection"), 1, "after {told}");
    }
}

fn absurd_lengths_take_no_memory<A: Adapter>() {
    const PEERS: usize = 10;
    let _alone = MUCH_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let answers: [&[u8]; 5] = [
        b"$536870912\r\nx",
        b"*16777216\r\n:1\r\n",
        b"%8388608\r\n+k\r\n",
        b"$99999999999999999999\r\n",
        b"*4294967296\r\n",
    ];
    let before = memory();
    for answer in answers {
        let asked: Vec<_> = (0..PEERS)
            .map(|_| {
                let peer = bad_once(answer);
                let config = quick(peer.port());
                let client = A::connect(config).expect("it shakes hands");
                (peer, client)
            })
            .collect();
        let clients: Vec<_> = asked.iter().map(|(_, client)| client.clone()).collect();
        join_all::<A, _, _>(clients.into_iter().map(|client| async move {
            let value: Option<String> = A::done(client.get("k")).await.expect("it goes again");
            assert_eq!(value.as_deref(), Some("good"));
        }));
        let grown = memory().saturating_sub(before);
        assert!(grown < 200 << 20, "{grown} bytes more after {}", answer.escape_ascii());
    }
}

fn deep_nesting_costs_the_connection<A: Adapter>() {
    for prefix in [&b"*1\r\n"[..], b"|1\r\n+k\r\n", b"%1\r\n"] {
        let peer = Peer::start(move |client| {
            if client.number() > 0 {
                return be_good(client);
            }
            client.handshake(Manners::Resp3);
            client.write(&prefix.repeat(100_000));
            client.hold();
        });
        let client = dial::<A>(&peer);
        good_value::<A>(&client);
        assert_eq!(peer.connections(), 2);
    }
}

fn a_reply_in_tiny_pieces_is_one_reply<A: Adapter>() {
    let peer = Peer::start(|client| {
        while let Some(command) = client.read_command() {
            let greeting = b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n".to_vec();
            let answer = match command[0].as_slice() {
                b"HELLO" => greeting,
                b"GET" => b"$4\r\ngood\r\n".to_vec(),
                _ => b"+OK\r\n".to_vec(),
            };
            client.write_slowly(&answer, 1, Duration::from_millis(1));
        }
    });
    let client = dial::<A>(&peer);
    for _ in 0..5 {
        good_value::<A>(&client);
    }
    assert_eq!(peer.connections(), 1);
}

fn a_peer_that_never_answers_is_given_up_in_time<A: Adapter>() {
    let peer = Peer::start(Dialogue::hold);
    let (outcome, took) = timed(|| A::connect(quick(peer.port())));
    let unreached = failure(outcome);
    assert_eq!(unreached.executed(), Executed::No, "{unreached}");
    assert!(took < Duration::from_secs(4), "{took:?}");

    let rule = Fallback::memory("cache:*", Policy::Invalidate);
    let client = A::connect(quick(peer.port()).fallback(rule)).expect("it starts degraded");
    let answer = get::<A>(&client, "cache:k").expect("from memory");
    assert_eq!((answer.value, answer.source), (None, Source::Unknown));

    let lazy = A::lazy(quick(peer.port())).expect("a good config");
    let limit = Duration::from_millis(400);
    let (outcome, took) = timed(|| A::wait(lazy.within(limit).incr("n")));
    let late = failure(outcome);
    assert!(late.is_timeout() && late.executed() == Executed::No, "{late}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

fn a_peer_that_stops_answering_is_given_up_in_time<A: Adapter>() {
    let peer = bad_once(b"");
    let client = A::connect(quick(peer.port())).expect("it shakes hands");
    let (outcome, took) = timed(|| A::wait(client.incr("n")));
    let lost = failure(outcome);
    assert!(matches!(lost.kind(), FailureKind::ConnectionLost(Cause::Silent)), "{lost}");
    assert_eq!(lost.executed(), Executed::Maybe, "{lost}");
    assert!(took >= SILENCE && took < SILENCE + SLACK, "{took:?}");
    good_value::<A>(&client);
    assert_eq!(peer.connections(), 2);
}

fn a_peer_that_speaks_only_resp2_is_spoken_to_in_resp2<A: Adapter>() {
    let peer = Peer::start(|client| client.serve(Manners::Resp2Only, good));
    let config = at(peer.port()).client_name("name").database(2).password("secret");
    let client = A::connect(config.clone()).expect("it is spoken to in RESP2");
    good_value::<A>(&client);
    assert_eq!(peer.connections(), 1, "the same connection did");
    let refused = failure(A::connect(config.protocol(ProtocolChoice::Resp3)));
    assert_eq!(refused.executed(), Executed::No, "{refused}");
}

fn a_peer_that_hangs_up_on_hello_is_spoken_to_in_resp2<A: Adapter>() {
    let hellos = Arc::new(AtomicUsize::new(0));
    let seen = hellos.clone();
    let peer = Peer::start(move |client| {
        let Some(first) = client.read_command() else { return };
        if first[0] == b"HELLO" {
            seen.fetch_add(1, Ordering::SeqCst);
            return;
        }
        client.write(b"+OK\r\n");
        client.serve(Manners::Resp2Only, |command| match command[0].as_slice() {
            b"QUIT" => None,
            _ => good(command),
        });
    });
    let client = A::connect(at(peer.port()).database(1)).expect("at the second attempt");
    good_value::<A>(&client);
    assert_eq!((peer.connections(), hellos.load(Ordering::SeqCst)), (2, 1));
}

fn a_peer_that_refuses_resp3_by_name_is_spoken_to_in_resp2<A: Adapter>() {
    let peer = Peer::start(|client| {
        client.serve(Manners::Resp3, |command| match command[0].as_slice() {
            b"HELLO" => Some(b"-NOPROTO unsupported protocol version\r\n".to_vec()),
            _ => good(command),
        });
    });
    let client = dial::<A>(&peer);
    good_value::<A>(&client);
    assert_eq!(peer.connections(), 1);
}

fn a_peer_that_forgets_who_we_are_is_told_once_more<A: Adapter>() {
    let peer = Peer::start(|client| {
        if client.number() > 0 {
            return be_good(client);
        }
        client.serve(Manners::Resp3, |command| {
            matches!(command[0].as_slice(), b"GET" | b"INCR")
                .then(|| b"-NOAUTH Authentication required.\r\n".to_vec())
        });
    });
    let client = A::connect(at(peer.port()).password("secret")).expect("it shakes hands");
    // A connection that is refused as soon as it is made is not replaced at once.
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(A::wait(client.incr("n")).expect("not executed, so it may go again"), 1);
    good_value::<A>(&client);
    assert_eq!(peer.connections(), 2, "one new handshake");
}

fn a_peer_that_will_not_know_us_is_not_asked_for_ever<A: Adapter>() {
    let peer = Peer::start(|client| {
        client.serve(Manners::Resp3, |command| {
            matches!(command[0].as_slice(), b"GET")
                .then(|| b"-NOAUTH Authentication required.\r\n".to_vec())
        });
    });
    let client = A::connect(at(peer.port()).password("secret")).expect("it shakes hands");
    thread::sleep(Duration::from_millis(1_100));
    let refused = failure(A::wait(client.get::<String>("k")));
    assert_eq!(refused.server_error().expect("the server's").code(), "NOAUTH");
    assert_eq!((refused.executed(), refused.attempts()), (Executed::No, 2), "{refused}");
    assert_eq!(peer.connections(), 2, "one new handshake");
}

/// A peer that answers its first commands with this error, and then as a good one.
fn refusing(times: usize, error: &'static [u8]) -> Peer {
    let left = AtomicUsize::new(times);
    Peer::start(move |client| {
        client.serve(Manners::Resp3, |command| {
            good(command)?;
            let refuse = |left: usize| left.checked_sub(1);
            match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse) {
                Ok(_) => Some(error.to_vec()),
                Err(_) => good(command),
            }
        });
    })
}

fn a_loading_server_is_waited_for<A: Adapter>() {
    let peer = refusing(3, b"-LOADING Redis is loading the dataset in memory\r\n");
    let client = A::connect(at(peer.port()).deadline(LIMIT)).expect("it shakes hands");
    assert_eq!(A::wait(client.incr("n")).expect("it was not executed before"), 1);
    assert_eq!(peer.connections(), 1);

    let peer = refusing(usize::MAX, b"-LOADING Redis is loading the dataset in memory\r\n");
    let client = A::connect(at(peer.port())).expect("it shakes hands");
    let limit = Duration::from_millis(700);
    let late = failure(A::wait(client.within(limit).incr("n")));
    assert_eq!(late.executed(), Executed::No, "{late}");
}

fn a_loading_server_is_down_for_those_who_may_degrade<A: Adapter>() {
    let peer = refusing(2, b"-LOADING Redis is loading the dataset in memory\r\n");
    let rule = Fallback::memory("cache:*", Policy::Invalidate);
    let client = A::connect(quick(peer.port()).fallback(rule)).expect("it shakes hands");
    let answer = get::<A>(&client, "cache:k").expect("from memory");
    assert_eq!((answer.value, answer.source), (None, Source::Unknown));
    assert_eq!(A::wait(client.incr("wallet:n")).expect("it waits"), 1);
}

fn a_server_with_too_many_clients_is_asked_again<A: Adapter>() {
    let server = TestServer::with_args(&["--maxclients", "2"]);
    let others = [Raw::connect(server.port()), Raw::connect(server.port())];
    let refused = failure(A::connect(at(server.port())));
    // What it says may be lost with the connection, which it closes without reading.
    let told = refused.to_string();
    assert!(told.contains("max number of clients") || told.contains("connection"), "{told}");
    let client = A::lazy(at(server.port()).deadline(LIMIT)).expect("a good config");
    let waiting = client.clone();
    let waiting = crate::adapters::spawn::<A, _>(async move { A::done(waiting.incr("n")).await });
    eventually("a refused attempt", LIMIT, || {
        A::status(&client).cause.is_some_and(|cause| !matches!(cause, Cause::Local)).then_some(())
    });
    drop(others);
    assert_eq!(waiting.join().expect("there is room"), 1);
}

fn a_server_that_became_a_replica_is_left_for_its_successor<A: Adapter>() {
    let peer = Peer::start(|client| {
        if client.number() > 0 {
            return be_good(client);
        }
        client.serve(Manners::Resp3, |command| {
            (command[0] == b"INCR")
                .then(|| b"-READONLY You can't write against a read only replica.\r\n".to_vec())
        });
    });
    let client = dial::<A>(&peer);
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(A::wait(client.incr("n")).expect("not executed, so it may go again"), 1);
    assert_eq!(peer.connections(), 2);
}

fn a_replica_is_not_taken_for_recovered<A: Adapter>() {
    let mut server = TestServer::start();
    let rule = Fallback::memory("cache:*", Policy::Invalidate);
    let client = A::connect(quick(server.port()).fallback(rule)).expect("there is a server");
    A::wait(client.set("cache:k", "v")).expect("a plain SET");
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    A::wait(client.set("cache:k", "w")).expect("in memory");
    let peer = Peer::start_on(server.port(), |client| {
        client.serve(Manners::Resp3, |command| match command[0].as_slice() {
            b"ROLE" => {
                Some(b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:1\r\n".into())
            }
            b"DEL" => Some(b"-READONLY You can't write against a read only replica.\r\n".into()),
            _ => good(command),
        });
    });
    eventually("a connection", LIMIT, || (peer.connections() > 0).then_some(()));
    thread::sleep(Duration::from_millis(800));
    let answer = get::<A>(&client, "cache:k").expect("from memory");
    assert_eq!((answer.value.as_deref(), answer.source), (Some("w"), Source::Overlay));
    assert_eq!(A::status(&client).health, Health::Degraded);
    drop(peer);
    server.restart();
    until_health::<A>(&client, Health::Live);
    assert_eq!(Raw::connect(server.port()).get("cache:k"), None);
}

fn a_busy_server_is_asked_again<A: Adapter>() {
    for error in [
        &b"-BUSY Redis is busy running a script.\r\n"[..],
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
    ] {
        let peer = refusing(2, error);
        let client = A::connect(at(peer.port()).deadline(LIMIT)).expect("it shakes hands");
        assert_eq!(A::wait(client.incr("n")).expect("it was not executed before"), 1);
    }
    for error in [
        &b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"[..],
        b"-MISCONF Redis is configured to save RDB snapshots\r\n",
        b"-NOPERM this user has no permissions to run the 'incr' command\r\n",
    ] {
        let peer = refusing(1, error);
        let client = A::connect(at(peer.port())).expect("it shakes hands");
        let refused = failure(A::wait(client.incr("n")));
        assert_eq!((refused.executed(), refused.attempts()), (Executed::No, 1), "{refused}");
    }
}

fn an_error_that_a_script_forges_is_its_own<A: Adapter>() {
    let server = TestServer::start();
    let elsewhere = Peer::start(Dialogue::hold);
    let client = A::connect(config_of(&server)).expect("there is a server");
    let moved = format!("MOVED 1 127.0.0.1:{}", elsewhere.port());
    for forged in [&*moved, "READONLY no", "LOADING no", "NOAUTH no", "BUSY no"] {
        let code = format!("redis.call('INCR', KEYS[1]) return redis.error_reply('{forged}')");
        let failed = failure(A::wait(client.eval::<i64>(&code, "n", ())));
        assert_eq!((failed.executed(), failed.attempts()), (Executed::Maybe, 1), "{failed}");
    }
    assert_eq!(Raw::connect(server.port()).get("n").as_deref(), Some("5"));
    assert_eq!(A::status(&client).health, Health::Live);
    assert_eq!(elsewhere.connections(), 0);
}

fn config_of(server: &TestServer) -> Config {
    at(server.port()).fallback(Fallback::memory("*", Policy::Invalidate))
}

//! What is published comes as it is, to whom it is for, while a subscription is there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Cause,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::Health,
    failure::Executed,
    handle::{Subscribe, Views},
    pubsub::{Incoming, TopicKind},
};
use unfazed_tests::{Raw, Server as TestServer, eventually};

use super::{
    KINDS, QUIET, lost, message, nothing_comes, publish, subscribe, subscriptions,
    until_connections, until_none_are_left, until_restored,
};
use crate::{
    adapters::{Adapter, in_cluster, join_all, scenarios, spawn},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, failure, quick, timed, until_health},
};

scenarios! {
    what_is_published_comes_once_and_in_order,
    payloads_of_any_size_come_as_they_are,
    many_streams_share_subscriptions_and_requests_go_on,
    a_subscription_is_there_when_subscribing_returns,
    nothing_comes_after_an_unsubscription,
    subscriptions_in_resp2_have_a_connection_while_there_are_any,
    a_channel_that_is_not_permitted_is_refused,
    a_server_that_is_away_is_waited_for_within_the_deadline,
}

in_cluster! {
    payloads_of_any_size_come_as_they_are,
}

fn what_is_published_comes_once_and_in_order<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let mut channels = subscribe::<A>(&client, &["a", "b"]);
        let mut patterns = A::listen(client.psubscribe(["a*", "*"])).expect("a server");
        let mut shards = A::listen(client.ssubscribe(["a", "b"])).expect("a server");
        assert_eq!(subscriptions(&mut witness), (2, 2, 2));
        for number in 0..200 {
            let channel = ["a", "b"][number % 2];
            let reached = publish(&mut witness, channel, &number.to_string());
            assert_eq!(reached, if channel == "a" { 3 } else { 2 });
            assert_eq!(witness.int(&["SPUBLISH", channel, &format!("s{number}")]), 1);
        }
        for number in 0..200 {
            let channel = ["a", "b"][number % 2].to_owned();
            let expected = (channel.clone(), number.to_string());
            assert_eq!(message::<A>(&mut channels), expected);
            assert_eq!(message::<A>(&mut patterns), expected);
            if channel == "a" {
                assert_eq!(message::<A>(&mut patterns), expected, "both patterns match");
            }
            assert_eq!(message::<A>(&mut shards), (channel, format!("s{number}")));
        }
        for stream in [&mut channels, &mut patterns, &mut shards] {
            nothing_comes::<A>(stream);
        }
        let status = A::status(&client);
        assert_eq!((status.streams, status.subscriptions), (3, 6));
        drop((channels, patterns, shards));
        until_none_are_left(&mut witness);
        assert_eq!(A::status(&client).subscriptions, 0);
    }
}

fn payloads_of_any_size_come_as_they_are<A: Adapter>() {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let mut stream = A::listen(client.psubscribe("size:*")).expect("a server");
        for size in [0, 1, 70, 71, 4_096, 4_097, 70_000, 3 << 20] {
            let payload: Vec<u8> = (0..size).map(|at: usize| (at * 7 % 251) as u8).collect();
            let reached = A::wait(client.publish(format!("size:{size}"), &payload));
            let reached = reached.expect("a plain PUBLISH");
            // A node of a cluster counts its own subscribers only.
            assert!(reached == 1 || server.nodes() > 1, "{reached}");
            let Ok(Some(Incoming::Message(message))) = A::read(&mut stream, LIMIT) else {
                panic!("no message of {size} bytes");
            };
            assert_eq!(message.channel_name(), format!("size:{size}"));
            assert_eq!(message.pattern(), Some(&b"size:*"[..]));
            assert!(*message.payload == *payload && message.payload.to_bytes() == payload);
        }
        A::wait(client.publish("size:typed", 17)).expect("a plain PUBLISH");
        let Ok(Some(Incoming::Message(message))) = A::read(&mut stream, LIMIT) else {
            panic!("no message");
        };
        assert_eq!(message.decode::<u32>().expect("a number").payload, 17);
        server.until_passed_on();
    }
}

fn many_streams_share_subscriptions_and_requests_go_on<A: Adapter>() {
    const ROUNDS: usize = 50;
    let streams = A::MANY.min(200);
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        let readers: Vec<_> = (0..streams)
            .map(|reader| {
                let channel = format!("c{}", reader % 10);
                let stream = subscribe::<A>(&client, &[&channel, "all"]);
                spawn::<A, _>(async move {
                    let mut stream = stream;
                    let mut seen = BTreeMap::<String, usize>::new();
                    while seen.values().sum::<usize>() < 2 * ROUNDS {
                        match A::next(&mut stream, LIMIT).await {
                            Ok(Some(Incoming::Message(message))) => {
                                let channel = message.channel_name().into_owned();
                                let number: usize = message.decode().expect("a number").payload;
                                let expected = seen.entry(channel).or_default();
                                assert_eq!(number, *expected, "in order and each once");
                                *expected += 1;
                            }
                            other => panic!("not a message: {other:?}"),
                        }
                    }
                    seen.len()
                })
            })
            .collect();
        assert_eq!(subscriptions(&mut witness), (11, 0, 0), "each channel once");
        // From the same client, between its other requests.
        for number in 0..ROUNDS {
            let tasks = (0..10).map(|channel| {
                let client = client.clone();
                async move {
                    let key = format!("k{channel}");
                    A::done(client.set(&key, number)).await.expect("a plain SET");
                    let reached = client.publish(format!("c{channel}"), number);
                    assert_eq!(A::done(reached).await.expect("a plain PUBLISH"), 1);
                    assert_eq!(A::done(client.get(&key)).await.expect("a GET"), Some(number));
                }
            });
            join_all::<A, _, _>(tasks);
            A::wait(client.publish("all", number)).expect("a plain PUBLISH");
        }
        assert!(readers.into_iter().all(|reader| reader.join() == 2));
        until_none_are_left(&mut witness);
        let status = A::status(&client);
        assert_eq!((status.streams, status.messages_waiting, status.messages_dropped), (0, 0, 0));
    }
}

fn a_subscription_is_there_when_subscribing_returns<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        for round in 0..20 {
            let channel = format!("c{round}");
            let mut stream = subscribe::<A>(&client, &[&channel]);
            assert_eq!(publish(&mut witness, &channel, "at once"), 1);
            assert_eq!(message::<A>(&mut stream).1, "at once");
            let more = [format!("d{round}"), channel];
            A::block_on(A::add(&mut stream, TopicKind::Channel, &more)).expect("a server");
            assert_eq!(publish(&mut witness, &more[0], "as well"), 1);
            assert_eq!(message::<A>(&mut stream).1, "as well");
        }
    }
}

fn nothing_comes_after_an_unsubscription<A: Adapter>() {
    let server = TestServer::start();
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        let stop = Arc::new(AtomicBool::new(false));
        let flood = {
            let (stop, port) = (stop.clone(), server.port());
            thread::spawn(move || {
                let mut raw = Raw::connect(port);
                while !stop.load(Ordering::Relaxed) {
                    raw.cmd(&["PUBLISH", "a", "x"]);
                    raw.cmd(&["PUBLISH", "b", "y"]);
                    raw.cmd(&["SPUBLISH", "a", "z"]);
                }
            })
        };
        let mut stream = subscribe::<A>(&client, &["b"]);
        for kind in KINDS {
            let names = ["a".to_owned()];
            for _ in 0..10 {
                A::block_on(A::add(&mut stream, kind, &names)).expect("there is a server");
                let of_kind = |item| match item {
                    Ok(Some(Incoming::Message(message))) => message.kind() == kind,
                    other => panic!("not a message: {other:?}"),
                };
                let start = Instant::now();
                while kind != TopicKind::Channel && !of_kind(A::read(&mut stream, LIMIT)) {
                    assert!(start.elapsed() < LIMIT, "its messages come");
                }
                A::block_on(A::take_away(&mut stream, kind, &names)).expect("a server");
                for _ in 0..20 {
                    let Ok(Some(Incoming::Message(message))) = A::read(&mut stream, LIMIT) else {
                        panic!("the other channel goes on");
                    };
                    assert_eq!(message.channel(), b"b");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("it does not panic");
    }
}

fn subscriptions_in_resp2_have_a_connection_while_there_are_any<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for (protocol, own) in [(ProtocolChoice::Resp3, 0), (ProtocolChoice::Resp2, 1)] {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        for _ in 0..3 {
            let first = subscribe::<A>(&client, &["a"]);
            let second = A::listen(client.psubscribe("b*")).expect("there is a server");
            until_connections(&mut witness, 1 + own);
            let shard = A::listen(client.ssubscribe("s")).expect("there is a server");
            until_connections(&mut witness, 2 + own);
            drop(first);
            drop(shard);
            until_connections(&mut witness, 1 + own);
            drop(second);
            until_connections(&mut witness, 1);
        }
        drop(client);
        until_connections(&mut witness, 0);
    }
}

fn a_channel_that_is_not_permitted_is_refused<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    witness.ok(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "+@all",
        "~*",
        "resetchannels",
        "&open:*",
    ]);
    for protocol in PROTOCOLS {
        let config = quick(server.port()).protocol(protocol).username("app").password("secret");
        let client = A::connect(config).expect("there is a server");
        let refused = failure(A::listen(client.subscribe(["open:a", "closed"])));
        let error = refused.server_error().expect("the server says so");
        assert_eq!((error.code(), refused.executed()), ("NOPERM", Executed::No), "{refused}");
        until_none_are_left(&mut witness);
        let mut stream = subscribe::<A>(&client, &["open:a", "open:b"]);
        let added = A::block_on(A::add(&mut stream, TopicKind::Channel, &["closed".to_owned()]));
        assert!(failure(added).server_error().is_some());
        publish(&mut witness, "open:a", "still there");
        assert_eq!(message::<A>(&mut stream).1, "still there");
        // Permission is taken away, and comes back: the other channel does not suffer from it.
        witness.ok(&["ACL", "SETUSER", "app", "resetchannels", "&open:b"]);
        lost::<A>(&mut stream);
        match A::read(&mut stream, LIMIT) {
            Ok(Some(Incoming::Lost { cause: Cause::SubscriptionRefused(error) })) => {
                assert_eq!(error.code(), "NOPERM");
            }
            other => panic!("no word of the refusal: {other:?}"),
        }
        eventually("the other to be back", LIMIT, || {
            (publish(&mut witness, "open:b", "b") == 1).then_some(())
        });
        assert_eq!(message::<A>(&mut stream).1, "b");
        witness.ok(&["ACL", "SETUSER", "app", "&open:*"]);
        until_restored::<A>(&mut stream);
        publish(&mut witness, "open:a", "back");
        assert_eq!(message::<A>(&mut stream).1, "back");
    }
}

fn a_server_that_is_away_is_waited_for_within_the_deadline<A: Adapter>() {
    let mut server = TestServer::start();
    for protocol in PROTOCOLS {
        let config = quick(server.port()).protocol(protocol).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        server.kill();
        let short = Duration::from_millis(300);
        let (late, took) = timed(|| A::listen(client.within(short).subscribe("a")));
        assert!(late.is_err_and(|late| late.is_timeout()) && took >= short, "{took:?}");
        assert_eq!(A::status(&client).subscriptions, 0);
        let waiting = {
            let client = client.clone();
            spawn::<A, _>(async move { A::subscribed(client.subscribe("a")).await })
        };
        thread::sleep(QUIET);
        server.restart();
        let mut stream = waiting.join().expect("it waited for the server");
        let mut witness = Raw::connect(server.port());
        publish(&mut witness, "a", "here");
        assert_eq!(message::<A>(&mut stream).1, "here");
        until_health::<A>(&client, Health::Live);
    }
}

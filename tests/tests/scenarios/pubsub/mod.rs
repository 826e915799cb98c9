//! Subscriptions on real servers: what is published comes, once and in order, or its loss is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Cause, Config,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::Health,
    failure::{Executed, FailureKind},
    handle::{Subscribe, Views},
    pubsub::{Incoming, TopicKind},
};
use unfazed_smol::Store;
use unfazed_tests::{Cluster, Layout, Raw, RawReply, Server as TestServer, eventually, slot_tag};

use crate::{
    adapters::{Adapter, Async, Ended, in_cluster, join_all, scenarios, spawn},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, failure, others_on, quick, timed, until_health},
};

scenarios! {
    what_is_published_comes_once_and_in_order,
    payloads_of_any_size_come_as_they_are,
    many_streams_share_subscriptions_and_requests_go_on,
    a_subscription_is_there_when_subscribing_returns,
    nothing_comes_after_an_unsubscription,
    subscriptions_in_resp2_have_a_connection_while_there_are_any,
    ten_thousand_channels_come_back_and_the_gap_is_told,
    a_connection_that_is_killed_again_and_again_loses_nothing_without_a_word,
    a_slow_reader_that_drops_keeps_its_bound_and_counts,
    a_slow_reader_that_stops_reading_meets_the_servers_limit,
    a_burst_beyond_the_servers_limit_is_told_and_the_bound_is_kept,
    a_slot_that_moves_disturbs_no_request,
    a_slot_that_moves_to_another_node_disturbs_no_request,
    a_channel_that_is_not_permitted_is_refused,
    a_server_that_is_away_is_waited_for_within_the_deadline,
    closing_ends_every_stream,
    a_stream_keeps_its_client_open,
    in_memory_the_streams_of_one_client_hear_it,
    in_memory_the_clients_of_one_store_hear_each_other_in_one_order;
    async
    subscriptions_given_up_at_random_leave_nothing_behind,
    a_stream_ends_with_its_runtime,
}

in_cluster! {
    payloads_of_any_size_come_as_they_are,
    a_slow_reader_that_drops_keeps_its_bound_and_counts,
    closing_ends_every_stream,
}

const KINDS: [TopicKind; 3] = [TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard];

/// As long as nothing has to come.
const QUIET: Duration = Duration::from_millis(300);

fn subscribe<A: Adapter>(client: &A::Client, names: &[&str]) -> A::Stream {
    A::listen(client.subscribe(names)).expect("there is a server")
}

/// The next message, as channel and payload.
#[track_caller]
fn message<A: Adapter>(stream: &mut A::Stream) -> (String, String) {
    match A::read(stream, LIMIT) {
        Ok(Some(Incoming::Message(message))) => {
            let payload = message.payload.to_str().expect("text").to_owned();
            (message.channel_name().into_owned(), payload)
        }
        other => panic!("not a message: {other:?}"),
    }
}

#[track_caller]
fn nothing_comes<A: Adapter>(stream: &mut A::Stream) {
    let next = A::read(stream, QUIET);
    assert!(matches!(next, Ok(None)), "{next:?}");
}

#[track_caller]
fn lost<A: Adapter>(stream: &mut A::Stream) -> Cause {
    match A::read(stream, LIMIT) {
        Ok(Some(Incoming::Lost { cause })) => cause,
        other => panic!("no loss: {other:?}"),
    }
}

/// Reads up to the news that all is well again. Gives how many messages came before it.
#[track_caller]
fn until_restored<A: Adapter>(stream: &mut A::Stream) {
    loop {
        match A::read(stream, LIMIT) {
            Ok(Some(Incoming::Restored)) => return,
            Ok(Some(Incoming::Lost { .. })) => {}
            other => panic!("not restored: {other:?}"),
        }
    }
}

fn publish(witness: &mut Raw, channel: &str, payload: &str) -> i64 {
    witness.int(&["PUBLISH", channel, payload])
}

/// How many subscriptions the server has: to channels, patterns, shard channels.
fn subscriptions(witness: &mut Raw) -> (usize, i64, usize) {
    let count = |reply| match reply {
        RawReply::Array(items) => items.len(),
        other => panic!("no list: {other:?}"),
    };
    let channels = count(witness.cmd(&["PUBSUB", "CHANNELS"]));
    let patterns = witness.int(&["PUBSUB", "NUMPAT"]);
    (channels, patterns, count(witness.cmd(&["PUBSUB", "SHARDCHANNELS"])))
}

#[track_caller]
fn until_none_are_left(witness: &mut Raw) {
    eventually("no subscription to be left", LIMIT, || {
        (subscriptions(witness) == (0, 0, 0)).then_some(())
    });
}

#[track_caller]
fn until_connections(witness: &mut Raw, count: usize) {
    eventually(&format!("{count} connections"), LIMIT, || {
        (others_on(witness) == count).then_some(())
    });
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

fn ten_thousand_channels_come_back_and_the_gap_is_told<A: Adapter>() {
    const COUNT: usize = 10_000;
    let names: Vec<String> = (0..COUNT).map(|number| format!("channel:{number}")).collect();
    for protocol in PROTOCOLS {
        let mut server = TestServer::start();
        let config = quick(server.port()).protocol(protocol).deadline(LIMIT);
        let client = A::connect(config).expect("there is a server");
        let mut stream = A::listen(client.subscribe(&names)).expect("there is a server");
        let mut patterns = A::listen(client.psubscribe("channel:77*")).expect("a server");
        let mut witness = Raw::connect(server.port());
        assert_eq!(subscriptions(&mut witness), (COUNT, 1, 0));
        publish(&mut witness, "channel:7777", "before");
        assert_eq!(message::<A>(&mut stream).1, "before");
        assert_eq!(message::<A>(&mut patterns).1, "before");
        server.kill();
        lost::<A>(&mut stream);
        lost::<A>(&mut patterns);
        server.restart();
        // Requests are served while ten thousand channels are on their way.
        A::wait(client.incr("n")).expect("a plain INCR");
        until_restored::<A>(&mut stream);
        until_restored::<A>(&mut patterns);
        let mut witness = Raw::connect(server.port());
        assert_eq!(subscriptions(&mut witness), (COUNT, 1, 0), "restored means restored");
        for number in [0, 999, 1_000, 7_777, 9_999] {
            let channel = format!("channel:{number}");
            let reached = publish(&mut witness, &channel, "after");
            assert_eq!(reached, if number == 7_777 { 2 } else { 1 });
            assert_eq!(message::<A>(&mut stream), (channel, "after".into()));
        }
        assert_eq!(message::<A>(&mut patterns).1, "after");
        nothing_comes::<A>(&mut stream);
        drop((stream, patterns));
        until_none_are_left(&mut witness);
    }
}

fn a_connection_that_is_killed_again_and_again_loses_nothing_without_a_word<A: Adapter>() {
    const KILLS: usize = 10;
    let server = TestServer::start();
    for protocol in PROTOCOLS {
        let client = A::connect(quick(server.port()).protocol(protocol)).expect("a server");
        let mut stream = subscribe::<A>(&client, &["n"]);
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let publisher = {
            let (stop, sent, port) = (stop.clone(), sent.clone(), server.port());
            thread::spawn(move || {
                let mut raw = Raw::connect(port);
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    publish(&mut raw, "n", &number.to_string());
                    thread::sleep(Duration::from_micros(200));
                }
            })
        };
        let killer = {
            let (stop, port) = (stop.clone(), server.port());
            thread::spawn(move || {
                let mut raw = Raw::connect(port);
                for _ in 0..KILLS {
                    thread::sleep(Duration::from_millis(100));
                    for kind in ["pubsub", "normal"] {
                        raw.cmd(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
                        // The publisher was among them.
                    }
                }
                stop.store(true, Ordering::Relaxed);
            })
        };
        let (mut next, mut gap, mut gaps) = (0, false, 0);
        loop {
            match A::read(&mut stream, QUIET) {
                Ok(Some(Incoming::Message(message))) => {
                    let number: usize = message.decode().expect("a number").payload;
                    assert!(number == next || (gap && number > next), "{number} after {next}");
                    (next, gap) = (number + 1, false);
                }
                Ok(Some(Incoming::Lost { .. })) => {
                    gaps += 1;
                    gap = true;
                }
                Ok(Some(Incoming::Restored)) => gap = true,
                Ok(None) if stop.load(Ordering::Relaxed) => break,
                Ok(None) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        killer.join().expect("it does not panic");
        // It was killed with the others, as like as not.
        drop(publisher.join());
        assert!(gaps > 0, "some were noticed");
        let status = A::status(&client);
        assert_eq!((status.health, status.messages_dropped), (Health::Live, 0));
    }
}

fn a_slow_reader_that_drops_keeps_its_bound_and_counts<A: Adapter>() {
    const BOUND: usize = 100;
    const SENT: usize = 20_000;
    let server = Site::start();
    let mut witness = server.raw();
    for protocol in PROTOCOLS {
        let config = server.config().protocol(protocol).subscription_messages_max(BOUND);
        let client = A::connect(config).expect("there is a server");
        let mut stream = subscribe::<A>(&client, &["n"]);
        let code = format!("for n = 1, {SENT} do redis.call('PUBLISH', 'n', n) end");
        witness.cmd(&["EVAL", &code, "0"]);
        eventually("all to have come", LIMIT, || {
            let status = A::status(&client);
            assert!(status.messages_waiting <= BOUND, "{status:?}");
            (status.messages_dropped as usize == SENT - BOUND).then_some(())
        });
        match A::read(&mut stream, LIMIT) {
            Ok(Some(Incoming::Dropped { count })) => assert_eq!(count as usize, SENT - BOUND),
            other => panic!("nothing was dropped: {other:?}"),
        }
        for number in SENT - BOUND + 1..=SENT {
            assert_eq!(message::<A>(&mut stream).1, number.to_string());
        }
        nothing_comes::<A>(&mut stream);
    }
}

fn a_slow_reader_that_stops_reading_meets_the_servers_limit<A: Adapter>() {
    const BOUND: usize = 1_000;
    const SENT: usize = 40_000;
    let limit = "client-output-buffer-limit";
    let server = TestServer::with_args(&[&format!("--{limit}"), "pubsub 2mb 0 0"]);
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let client = A::connect(quick(server.port()).protocol(protocol)).expect("a server");
        let slow = client.subscriber().messages_max(BOUND).stop_reading().subscribe("n");
        let mut slow = A::listen(slow).expect("there is a server");
        let mut quick = A::listen(client.subscriber().messages_max(BOUND).subscribe("n"))
            .expect("there is a server");
        let before = others_on(&mut witness);
        let code = "for n = ARGV[1], ARGV[1] + 99 do \
            redis.call('PUBLISH', 'n', n .. string.rep('.', 1000)) end";
        for first in (1..SENT).step_by(100) {
            witness.cmd(&["EVAL", code, "0", &first.to_string()]);
            // No faster than the other one can read, or that would be cut off as well.
            eventually("the other one to have read them", LIMIT, || {
                let status = A::status(&client);
                let noted = 2 * BOUND + 1;
                assert!(status.messages_waiting <= noted, "{status:?}");
                (status.messages_dropped as usize + BOUND >= first + 99).then_some(())
            });
        }
        eventually("the server to give it up", LIMIT, || {
            (others_on(&mut witness) < before).then_some(())
        });
        // Silence on a connection that nobody reads is no fault of the server's.
        thread::sleep(2 * crate::support::SILENCE);
        let mut next = 1;
        let cause = loop {
            match A::read(&mut slow, LIMIT) {
                Ok(Some(Incoming::Message(message))) => {
                    let text = message.payload.to_str().expect("text");
                    let number: usize = text.trim_end_matches('.').parse().expect("a number");
                    assert_eq!(number, next, "nothing is left out before the end");
                    next += 1;
                }
                Ok(Some(Incoming::Lost { cause })) => break cause,
                other => panic!("unexpected: {other:?}"),
            }
        };
        assert!(next > BOUND && next < SENT, "{next}");
        assert!(matches!(cause, Cause::EndOfStream | Cause::Reset), "{cause}");
        until_restored::<A>(&mut slow);
        publish(&mut witness, "n", "again");
        assert_eq!(message::<A>(&mut slow).1, "again");
        // The other one has lost the oldest, and was never cut off.
        let mut dropped = 0;
        loop {
            match A::read(&mut quick, LIMIT) {
                Ok(Some(Incoming::Dropped { count })) => dropped += count,
                Ok(Some(Incoming::Message(message))) if *message.payload == *b"again" => break,
                Ok(Some(Incoming::Message(_))) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert!(dropped > 0);
        assert_eq!(A::status(&client).health, Health::Live);
    }
}

fn a_burst_beyond_the_servers_limit_is_told_and_the_bound_is_kept<A: Adapter>() {
    const BOUND: usize = 1_000;
    const BURST: usize = 20_000;
    let limit = "--client-output-buffer-limit";
    let server = TestServer::with_args(&[limit, "pubsub 2mb 0 0"]);
    let mut witness = Raw::connect(server.port());
    // More at once than the server is willing to hold for anybody, however fast he reads.
    let code =
        format!("for n = 1, {BURST} do redis.call('PUBLISH', 'n', string.rep('.', 1000)) end");
    for protocol in PROTOCOLS {
        for stops in [false, true] {
            let client = A::connect(quick(server.port()).protocol(protocol)).expect("a server");
            let wish = client.subscriber().messages_max(BOUND);
            let wish = if stops { wish.stop_reading() } else { wish };
            let mut stream = A::listen(wish.subscribe("n")).expect("there is a server");
            for _ in 0..3 {
                witness.cmd(&["EVAL", &code, "0"]);
                // Nobody reads, and requests go on, though they may have lost their connection.
                for _ in 0..50 {
                    A::wait(client.get::<String>("none")).expect("a GET goes again");
                    let waiting = A::status(&client).messages_waiting;
                    assert!(waiting <= 2 * BOUND, "{waiting} messages wait");
                }
                let cause = loop {
                    match A::read(&mut stream, LIMIT) {
                        Ok(Some(Incoming::Lost { cause })) => break cause,
                        Ok(Some(Incoming::Message(_) | Incoming::Dropped { .. })) => {}
                        other => panic!("no word of the loss: {other:?}"),
                    }
                };
                assert!(matches!(cause, Cause::EndOfStream | Cause::Reset), "{cause}");
                until_restored::<A>(&mut stream);
                assert_eq!(publish(&mut witness, "n", "after"), 1);
                assert_eq!(message::<A>(&mut stream).1, "after");
            }
            assert_eq!(A::status(&client).health, Health::Live);
        }
    }
}

fn a_slot_that_moves_disturbs_no_request<A: Adapter>() {
    const MOVES: usize = 20;
    let server = TestServer::cluster_node(&["--cluster-require-full-coverage", "no"]);
    let mut witness = Raw::connect(server.port());
    witness.ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually("the slots to be served", LIMIT, || {
        (witness.cmd(&["SET", "{get}", "v"]) == RawReply::Simple("OK".into())).then_some(())
    });
    let slot = witness.int(&["CLUSTER", "KEYSLOT", "{moves}"]).to_string();
    for protocol in PROTOCOLS {
        let client = A::connect(quick(server.port()).protocol(protocol)).expect("a server");
        let mut stream = A::listen(client.ssubscribe(["{moves}1", "{moves}2", "{stays}"]))
            .expect("there is a server");
        let mut channel = subscribe::<A>(&client, &["c"]);
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..8)
            .map(|reader| {
                let (client, stop) = (client.clone(), stop.clone());
                spawn::<A, _>(async move {
                    let mut count = 0usize;
                    while !stop.load(Ordering::Relaxed) {
                        let text = format!("{reader}:{count}");
                        let echo: String = A::done(client.echo(&text)).await.expect("a plain ECHO");
                        assert_eq!(echo, text, "its own reply");
                        let value: Option<String> =
                            A::done(client.get("{get}")).await.expect("a plain GET");
                        assert_eq!(value.as_deref(), Some("v"));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..MOVES {
            witness.ok(&["CLUSTER", "DELSLOTS", &slot]);
            assert_eq!(lost::<A>(&mut stream), Cause::SlotMoved);
            witness.ok(&["CLUSTER", "ADDSLOTS", &slot]);
            until_restored::<A>(&mut stream);
            for name in ["{moves}1", "{moves}2", "{stays}"] {
                assert_eq!(witness.int(&["SPUBLISH", name, "back"]), 1);
                assert_eq!(message::<A>(&mut stream), (name.to_owned(), "back".into()));
            }
            // Once more, crossing with what the client itself gives up and wants again.
            let names = ["{moves}1".to_owned(), "{moves}2".to_owned()];
            let mover = {
                let (slot, port) = (slot.clone(), server.port());
                thread::spawn(move || {
                    let mut raw = Raw::connect(port);
                    raw.ok(&["CLUSTER", "DELSLOTS", &slot]);
                    raw.ok(&["CLUSTER", "ADDSLOTS", &slot]);
                })
            };
            A::block_on(A::take_away(&mut stream, TopicKind::Shard, &names)).expect("done");
            mover.join().expect("it does not panic");
            A::block_on(A::add(&mut stream, TopicKind::Shard, &names)).expect("a server");
            publish(&mut witness, "c", "c");
            assert_eq!(message::<A>(&mut channel).1, "c");
            while let Ok(Some(other)) = A::read(&mut stream, Duration::from_millis(1)) {
                let note = matches!(other, Incoming::Lost { .. } | Incoming::Restored);
                assert!(note, "{other:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join() > 0);
        }
        assert_eq!(A::status(&client).health, Health::Live);
    }
}

fn a_slot_that_moves_to_another_node_disturbs_no_request<A: Adapter>() {
    const MOVES: usize = 5;
    let cluster = Cluster::with(Layout { masters: 2, replicas: 0, ..Layout::default() });
    let [moves, stays] = [100, 200].map(slot_tag);
    let mut witness = cluster.raw(0);
    let keys: Vec<_> = (0..8).map(|reader| format!("{stays}:{reader}")).collect();
    keys.iter().for_each(|key| witness.ok(&["SET", key, key]));
    for protocol in PROTOCOLS {
        // As if that one node were all there is.
        let client = A::connect(quick(cluster.port(0)).protocol(protocol)).expect("a server");
        let mut moving = A::listen(client.ssubscribe([format!("{moves}1"), format!("{moves}2")]))
            .expect("its slot is here");
        let mut staying = A::listen(client.ssubscribe(&stays)).expect("its slot is here");
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = keys
            .iter()
            .map(|key| {
                let (client, stop, key) = (client.clone(), stop.clone(), key.clone());
                spawn::<A, _>(async move {
                    let mut count = 0usize;
                    while !stop.load(Ordering::Relaxed) {
                        let text = format!("{key}:{count}");
                        let echo: String = A::done(client.echo(&text)).await.expect("a plain ECHO");
                        assert_eq!(echo, text, "its own reply");
                        let value: Option<String> =
                            A::done(client.get(&key)).await.expect("a plain GET");
                        assert_eq!(value.as_ref(), Some(&key), "its own key's value");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..MOVES {
            cluster.move_slot(100, 1);
            assert_eq!(lost::<A>(&mut moving), Cause::SlotMoved);
            assert_eq!(witness.int(&["SPUBLISH", &stays, "still"]), 1);
            assert_eq!(message::<A>(&mut staying), (stays.clone(), "still".into()));
            cluster.move_slot(100, 0);
            until_restored::<A>(&mut moving);
            for name in [format!("{moves}1"), format!("{moves}2")] {
                assert_eq!(witness.int(&["SPUBLISH", &name, "back"]), 1);
                assert_eq!(message::<A>(&mut moving), (name, "back".into()));
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join() > 0));
        nothing_comes::<A>(&mut staying);
        assert_eq!(A::status(&client).health, Health::Live);
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

fn closing_ends_every_stream<A: Adapter>() {
    let server = Site::start();
    let mut witness = server.raw();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        let mut read = subscribe::<A>(&client, &["a"]);
        let mut awaited = A::listen(client.ssubscribe("s")).expect("there is a server");
        publish(&mut witness, "a", "unread");
        eventually("it to have come", LIMIT, || {
            (A::status(&client).messages_waiting == 1).then_some(())
        });
        let waiting = spawn::<A, _>(async move {
            let next = A::next(&mut awaited, LIMIT).await;
            (next.err(), A::next(&mut awaited, LIMIT).await.err())
        });
        A::close(&client);
        assert_eq!(waiting.join(), (Some(Ended), Some(Ended)));
        assert_eq!(message::<A>(&mut read).1, "unread");
        assert!(matches!(A::read(&mut read, LIMIT), Err(Ended)));
        let refused = A::listen(client.subscribe("b")).err().expect("it is closed");
        assert!(matches!(refused.kind(), FailureKind::ClientClosed), "{refused}");
        let status = A::status(&client);
        assert_eq!((status.streams, status.subscriptions, status.connections), (0, 0, 0));
        drop(read);
        assert_eq!(A::status(&client).tickets, 0);
        until_none_are_left(&mut witness);
    }
}

fn a_stream_keeps_its_client_open<A: Adapter>() {
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    let mut stream = {
        let client = A::connect(at(server.port())).expect("there is a server");
        subscribe::<A>(&client, &["a"])
    };
    publish(&mut witness, "a", "still there");
    assert_eq!(message::<A>(&mut stream).1, "still there");
    drop(stream);
    eventually("the client to go", LIMIT, || (others_on(&mut witness) == 0).then_some(()));
}

fn in_memory_the_streams_of_one_client_hear_it<A: Adapter>() {
    let client = A::connect(Config::memory()).expect("there is no server to be away");
    let mut stream = subscribe::<A>(&client, &["a", "b"]);
    let mut patterns = A::listen(client.psubscribe("a*")).expect("it is at once there");
    let mut shards = A::listen(client.ssubscribe("a")).expect("it is at once there");
    assert_eq!(A::wait(client.publish("a", "1")).expect("a PUBLISH"), 2);
    assert_eq!(A::wait(client.publish("b", "2")).expect("a PUBLISH"), 1);
    assert_eq!(A::wait(client.publish("c", "3")).expect("a PUBLISH"), 0);
    assert_eq!(A::wait(client.spublish("a", "4")).expect("a SPUBLISH"), 1);
    assert_eq!(message::<A>(&mut stream), ("a".into(), "1".into()));
    assert_eq!(message::<A>(&mut stream), ("b".into(), "2".into()));
    assert_eq!(message::<A>(&mut patterns), ("a".into(), "1".into()));
    assert_eq!(message::<A>(&mut shards), ("a".into(), "4".into()));
    let channels: Vec<String> = A::wait(client.pubsub_channels()).expect("a plain question");
    assert_eq!(channels, ["a", "b"]);
    let channels = client.pubsub_channels_matching::<Vec<String>>("[b-z]");
    assert_eq!(A::wait(channels).expect("a plain question"), ["b"]);
    let counts = client.pubsub_numsub::<Vec<(String, u64)>>(["a", "x"]);
    let expected = [("a".to_owned(), 1), ("x".to_owned(), 0)];
    assert_eq!(A::wait(counts).expect("a plain question"), expected);
    assert_eq!(A::wait(client.pubsub_numpat()).expect("a plain question"), 1);
    let shard_channels: Vec<String> = A::wait(client.pubsub_shardchannels()).expect("a question");
    assert_eq!(shard_channels, ["a"]);
    A::block_on(A::take_away(&mut stream, TopicKind::Channel, &["a".to_owned()])).expect("done");
    assert_eq!(A::wait(client.publish("a", "5")).expect("a PUBLISH"), 1);
    nothing_comes::<A>(&mut stream);
    drop(patterns);
    assert_eq!(A::wait(client.pubsub_numpat()).expect("a plain question"), 0);
    let refused = A::listen(client.subscriber().stop_reading().subscribe("a"));
    let refused = refused.err().expect("there is nothing to stop");
    assert!(matches!(refused.kind(), FailureKind::Misuse(_)), "{refused}");
}

fn in_memory_the_clients_of_one_store_hear_each_other_in_one_order<A: Adapter>() {
    const ROUNDS: usize = 200;
    let store = Store::new();
    let connect = || A::connect(Config::in_store(&store)).expect("nothing to be away");
    let clients: Vec<A::Client> = (0..4).map(|_| connect()).collect();
    let readers: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut stream = A::listen(client.psubscribe("c*")).expect("it is at once there");
            spawn::<A, _>(async move {
                let mut heard = Vec::new();
                while heard.len() < 4 * ROUNDS {
                    match A::next(&mut stream, LIMIT).await {
                        Ok(Some(Incoming::Message(message))) => {
                            heard.push(message.payload.to_str().expect("text").to_owned());
                        }
                        other => panic!("not a message: {other:?}"),
                    }
                }
                heard
            })
        })
        .collect();
    join_all::<A, _, _>((0..4).map(|number| {
        let client = clients[number].clone();
        async move {
            for round in 0..ROUNDS {
                let reached = client.publish(format!("c{number}"), format!("{number}:{round}"));
                assert_eq!(A::done(reached).await.expect("a PUBLISH"), 4);
            }
        }
    }));
    let heard: Vec<Vec<String>> = readers.into_iter().map(|reader| reader.join()).collect();
    assert!(heard.iter().all(|other| *other == heard[0]), "all in the same order");
    assert_eq!(heard[0].iter().collect::<BTreeSet<_>>().len(), 4 * ROUNDS, "each once");
    // Whoever waits on another client's stream is woken, by the store as well.
    let mut stream = subscribe::<A>(&clients[0], &["late"]);
    let waiting = spawn::<A, _>(async move {
        match A::next(&mut stream, LIMIT).await {
            Ok(Some(Incoming::Message(message))) => message.payload.to_bytes(),
            other => panic!("not a message: {other:?}"),
        }
    });
    thread::sleep(QUIET);
    store.execute(&["PUBLISH", "late", "here"]);
    assert_eq!(waiting.join(), "here");
    eventually("nobody to want anything any more", LIMIT, || {
        let counts = clients[1].pubsub_numsub::<Vec<(String, u64)>>(["late"]);
        (A::wait(counts).expect("a question")[0].1 == 0).then_some(())
    });
}

fn subscriptions_given_up_at_random_leave_nothing_behind<A: Async>() {
    const COUNT: u64 = 10_000;
    let server = TestServer::start();
    let mut witness = Raw::connect(server.port());
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        let mut random = 88_172_645_463_325_252_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut waiting = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..COUNT {
            let name = format!("c{}", draw(50));
            let mut subscribing = match KINDS[draw(3) as usize] {
                TopicKind::Channel => client.subscribe([&name, "all"]),
                TopicKind::Pattern => client.psubscribe([&name]),
                TopicKind::Shard => client.ssubscribe([&name]),
            };
            match draw(4) {
                0 => drop(subscribing),
                1 => match A::poll_subscribed(&mut subscribing) {
                    Some(stream) => streams.push(stream.expect("there is a server")),
                    None if draw(2) == 0 => drop(subscribing),
                    None => waiting.push(subscribing),
                },
                _ => waiting.push(subscribing),
            }
            if waiting.len() > 100 {
                let at = draw(waiting.len() as u64) as usize;
                drop(waiting.swap_remove(at));
            }
            if draw(20) == 0 && !waiting.is_empty() {
                streams.push(A::listen(waiting.remove(0)).expect("there is a server"));
            }
            if streams.len() > 20 {
                let at = draw(streams.len() as u64) as usize;
                drop(streams.swap_remove(at));
            }
            if draw(10) == 0 {
                A::wait(client.publish(&name, "x")).expect("a plain PUBLISH");
            }
        }
        // Those that are left hear what they asked for.
        let mut all = subscribe::<A>(&client, &["all"]);
        A::wait(client.publish("all", "!")).expect("a plain PUBLISH");
        assert_eq!(message::<A>(&mut all).1, "!");
        drop((waiting, streams, all));
        until_none_are_left(&mut witness);
        eventually("nothing to be left", LIMIT, || {
            let status = A::status(&client);
            let left = status.streams + status.subscriptions + status.tickets;
            (left + status.messages_waiting == 0 && status.connections == 1).then_some(())
        });
    }
}

fn a_stream_ends_with_its_runtime<A: Async>() {
    let server = TestServer::start();
    let client = A::lazy(at(server.port())).expect("a good config");
    let mut stream = A::enter_anew(|| subscribe::<A>(&client, &["a"]));
    // On smol all worlds have one executor, which goes on.
    let mut witness = Raw::connect(server.port());
    if publish(&mut witness, "a", "x") == 1 {
        assert_eq!(message::<A>(&mut stream).1, "x");
        return;
    }
    assert!(matches!(A::read(&mut stream, LIMIT), Err(Ended)));
    let mut stream = subscribe::<A>(&client, &["a"]);
    eventually("the new one", LIMIT, || (publish(&mut witness, "a", "y") == 1).then_some(()));
    assert_eq!(message::<A>(&mut stream).1, "y");
}

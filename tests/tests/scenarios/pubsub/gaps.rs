//! Connections that end and slots that move: what is missed is told, and subscriptions come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Cause,
    commands::prelude::*,
    engine::Health,
    handle::Subscribe,
    pubsub::{Incoming, TopicKind},
};
use unfazed_tests::{Cluster, Layout, Raw, RawReply, Server as TestServer, eventually, slot_tag};

use super::{
    QUIET, lost, message, nothing_comes, publish, subscribe, subscriptions, until_none_are_left,
    until_restored,
};
use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{LIMIT, PROTOCOLS, quick},
};

scenarios! {
    ten_thousand_channels_come_back_and_the_gap_is_told,
    a_connection_that_is_killed_again_and_again_loses_nothing_without_a_word,
    a_slot_that_moves_disturbs_no_request,
    a_slot_that_moves_to_another_node_disturbs_no_request,
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

//! Streams on `memory://`.

use std::{collections::BTreeSet, thread};

use unfazed_core::{
    Config,
    commands::prelude::*,
    failure::FailureKind,
    handle::Subscribe,
    pubsub::{Incoming, TopicKind},
};
use unfazed_smol::Store;
use unfazed_tests::eventually;

use super::{QUIET, message, nothing_comes, subscribe};
use crate::{
    adapters::{Adapter, join_all, scenarios, spawn},
    support::LIMIT,
};

scenarios! {
    in_memory_the_streams_of_one_client_hear_it,
    in_memory_the_clients_of_one_store_hear_each_other_in_one_order,
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

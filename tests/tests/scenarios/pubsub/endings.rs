//! How streams end, and that nothing is left of them.

use unfazed_core::{
    commands::prelude::*, failure::FailureKind, handle::Subscribe, pubsub::TopicKind,
};
use unfazed_tests::{Raw, Server as TestServer, eventually};

use super::{KINDS, message, publish, subscribe, until_none_are_left};
use crate::{
    adapters::{Adapter, Async, Ended, in_cluster, scenarios, spawn},
    site::Site,
    support::{LIMIT, PROTOCOLS, at, others_on},
};

scenarios! {
    closing_ends_every_stream,
    a_stream_keeps_its_client_open;
    async
    subscriptions_given_up_at_random_leave_nothing_behind,
    a_stream_ends_with_its_runtime,
}

in_cluster! {
    closing_ends_every_stream,
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
        let end = A::read(&mut read, LIMIT);
        assert!(matches!(end, Err(Ended)), "{end:?}");
        let refused = A::listen(client.subscribe("b")).err().expect("it is closed");
        assert!(matches!(refused.kind(), FailureKind::ClientClosed), "{refused}");
        let status = A::status(&client);
        assert_eq!((status.streams, status.subscriptions, status.connections), (0, 0, 0));
        drop(read);
        assert_eq!(A::status(&client).tickets, 0);
        until_none_are_left(&mut witness);
        server.until_passed_on();
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

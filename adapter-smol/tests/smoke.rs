//! That the adapter carries the core: the scenarios proper are in the package `unfazed-tests`.

use std::{future::Future, time::Duration};

use smol::{Timer, future};
use unfazed_smol::{Client, Config, core::FailureKind, prelude::*};
use unfazed_tests::{Dialogue, Peer, Raw, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Ends with what `work` gives, or panics when that takes too long.
fn run<T>(work: impl Future<Output = T>) -> T {
    smol::block_on(soon(work))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(SOON).await;
        panic!("it does not end");
    };
    future::or(work, late).await
}

#[test]
fn values_go_out_and_come_back() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.url()).await.expect("there is a server");
        client.set("greeting", "hello").await.expect("a plain SET");
        let greeting: Option<String> = client.get("greeting").await.expect("a plain GET");
        assert_eq!(greeting.as_deref(), Some("hello"));
        assert_eq!(client.get::<String>("nobody").await.expect("a plain GET"), None);
        assert_eq!(client.incr("visits").await.expect("a plain INCR"), 1);
        let failure = client.incr("greeting").await.expect_err("it is no number");
        assert_eq!(failure.executed(), Executed::Yes, "{failure}");
    });
}

#[test]
fn a_host_name_is_looked_up() {
    let server = Server::start();
    let client = Client::lazy(Config::standalone("localhost", server.port())).expect("a config");
    assert_eq!(run(client.incr("visits")).expect("a plain INCR"), 1);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_as_good() {
    let server = Server::start();
    let client = Client::lazy(server.unix_url()).expect("a good URL");
    assert_eq!(run(client.incr("visits")).expect("a plain INCR"), 1);
}

#[test]
fn a_thousand_tasks_share_one_client() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.url()).await.expect("there is a server");
        let tasks: Vec<_> = (0..1_000)
            .map(|at| {
                let client = client.clone();
                smol::spawn(async move {
                    let key = format!("key:{at}");
                    for round in 0..20 {
                        client.set(&key, at * round).await.expect("a plain SET");
                        assert_eq!(client.get(&key).await.expect("a plain GET"), Some(at * round));
                        client.incr("sum").await.expect("a plain INCR");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert_eq!(client.get::<u32>("sum").await.expect("a plain GET"), Some(20_000));
    });
}

#[test]
fn large_values_both_ways_do_not_lock_up() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.url()).await.expect("there is a server");
        let value = "x".repeat(10 << 20);
        let all: Vec<_> =
            (0..8).map(|at| (client.set(at, &value), client.get::<String>(at))).collect();
        for (set, get) in all {
            set.await.expect("a plain SET");
            let got = get.await.expect("a plain GET");
            assert!(got.as_deref() == Some(&*value), "what comes back is what went out");
        }
    });
}

#[test]
fn closing_ends_everything() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.url()).await.expect("there is a server");
        let mut events = client.events();
        let sent = client.incr("visits");
        client.close().await;
        assert_eq!(sent.await.expect("what was sent may finish"), 1);
        let failure = client.incr("visits").await.expect_err("it is closed");
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
        while events.next().await.is_some() {}
    });
    let mut witness = Raw::connect(server.port());
    eventually("the witness is alone", SOON, || {
        let list = format!("{:?}", witness.cmd(&["CLIENT", "LIST"]));
        (list.matches(" addr=").count() == 1).then_some(())
    });
}

#[test]
fn dropping_the_last_handle_ends_what_is_pending() {
    let silent = Peer::start(Dialogue::hold);
    let client = Client::lazy(Config::standalone("127.0.0.1", silent.port())).expect("a config");
    let pending = client.incr("visits");
    drop(client);
    let failure = run(pending).expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
}

#[test]
fn a_dropped_request_costs_its_neighbours_nothing() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.url()).await.expect("there is a server");
        for round in 0..1_000 {
            let mut dropped = client.incr("dropped");
            let kept = client.incr("kept");
            let _ = future::poll_once(&mut dropped).await;
            drop(dropped);
            assert_eq!(kept.await.expect("a plain INCR"), round + 1);
        }
        assert_eq!(client.status().tickets, 0, "no ticket is left behind");
    });
}

//! That the adapter carries the core: the scenarios proper are in the package `unfazed-tests`.

use std::{sync::OnceLock, time::Duration};

use tokio::{runtime::Runtime, time::timeout};
use unfazed_tests::{Dialogue, Peer, Raw, Server, eventually};
use unfazed_tokio::{Client, Config, core::FailureKind, prelude::*};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn values_go_out_and_come_back() {
    let server = Server::start();
    let client = Client::connect(server.url()).await.expect("there is a server");
    client.set("greeting", "hello").await.expect("a plain SET");
    let greeting: Option<String> = client.get("greeting").await.expect("a plain GET");
    assert_eq!(greeting.as_deref(), Some("hello"));
    assert_eq!(client.get::<String>("nobody").await.expect("a plain GET"), None);
    assert_eq!(client.incr("visits").await.expect("a plain INCR"), 1);
    let failure = client.incr("greeting").await.expect_err("it is no number");
    assert_eq!(failure.command(), "INCR");
    let failure = client.get::<i64>("greeting").await.expect_err("it is no number");
    assert!(matches!(failure.kind(), FailureKind::Decode(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::Yes);
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_as_good() {
    let server = Server::start();
    let client = Client::connect(server.unix_url()).await.expect("there is a server");
    assert_eq!(client.incr("visits").await.expect("a plain INCR"), 1);
}

#[tokio::test]
async fn no_server_is_needed_for_memory() {
    let client = Client::connect("memory://").await.expect("nothing to connect to");
    client.set("greeting", "hello").await.expect("a plain SET");
    let greeting: Option<String> = client.get("greeting").await.expect("a plain GET");
    assert_eq!(greeting.as_deref(), Some("hello"));
    client.close().await;
    let failure = client.incr("visits").await.expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_share_one_client() {
    let server = Server::start();
    let client = Client::connect(server.url()).await.expect("there is a server");
    let tasks: Vec<_> = (0..1_000)
        .map(|at| {
            let client = client.clone();
            tokio::spawn(async move {
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
        timeout(SOON, task).await.expect("it ends").expect("it does not panic");
    }
    assert_eq!(client.get::<u32>("sum").await.expect("a plain GET"), Some(20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_both_ways_do_not_lock_up() {
    let server = Server::start();
    let client = Client::connect(server.url()).await.expect("there is a server");
    let value = "x".repeat(10 << 20);
    let all: Vec<_> = (0..8).map(|at| (client.set(at, &value), client.get::<String>(at))).collect();
    for (set, get) in all {
        timeout(SOON, set).await.expect("it ends").expect("a plain SET");
        let got = timeout(SOON, get).await.expect("it ends").expect("a plain GET");
        assert!(got.as_deref() == Some(&*value), "what comes back is what went out");
    }
}

#[test]
fn dropping_the_runtime_ends_what_is_pending() {
    let silent = Peer::start(Dialogue::hold);
    let client = Client::lazy(Config::standalone("127.0.0.1", silent.port()).deadline(SOON * 6))
        .expect("a good configuration");
    let runtime = Runtime::new().expect("a runtime");
    let pending = {
        let _inside = runtime.enter();
        client.incr("visits")
    };
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    drop(runtime);
    let other = Runtime::new().expect("a runtime");
    let failure = other
        .block_on(async { timeout(SOON, pending).await })
        .expect("it ends")
        .expect_err("nobody drives it");
    assert!(matches!(failure.kind(), FailureKind::RuntimeDropped), "{failure}");
}

#[test]
fn one_static_client_serves_several_runtimes_one_after_another() {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let server = Server::start();
    let client = CLIENT.get_or_init(|| Client::lazy(server.url()).expect("a good URL"));
    for round in 1..=3 {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let visits = timeout(SOON, client.incr("visits")).await.expect("it ends");
            assert_eq!(visits.expect("a plain INCR"), round);
        });
    }
    let failure = futures_end(client.incr("visits"));
    assert!(matches!(failure.kind(), FailureKind::NoRuntime(_)), "{failure}");
}

/// The failure of a request that ends without any runtime.
fn futures_end<T: std::fmt::Debug>(request: impl Future<Output = Result<T, Failure>>) -> Failure {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(request).poll(&mut cx) {
        std::task::Poll::Ready(result) => result.expect_err("there is no runtime"),
        std::task::Poll::Pending => panic!("it waits for nobody"),
    }
}

#[tokio::test]
async fn closing_ends_everything() {
    let server = Server::start();
    let client = Client::connect(server.url()).await.expect("there is a server");
    let mut events = client.events();
    let sent = client.incr("visits");
    timeout(SOON, client.close()).await.expect("it ends");
    assert_eq!(sent.await.expect("what was sent may finish"), 1);
    let failure = client.incr("visits").await.expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    while timeout(SOON, events.next()).await.expect("events end").is_some() {}
    let mut witness = Raw::connect(server.port());
    eventually("the witness is alone", SOON, || {
        let list = format!("{:?}", witness.cmd(&["CLIENT", "LIST"]));
        (list.matches(" addr=").count() == 1).then_some(())
    });
}

#[tokio::test]
async fn dropping_the_last_handle_ends_what_is_pending() {
    let silent = Peer::start(Dialogue::hold);
    let client = Client::lazy(Config::standalone("127.0.0.1", silent.port())).expect("a config");
    let pending = client.incr("visits");
    drop(client);
    let failure = timeout(SOON, pending).await.expect("it ends").expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
}

#[tokio::test]
async fn a_dropped_request_costs_its_neighbours_nothing() {
    let server = Server::start();
    let client = Client::connect(server.url()).await.expect("there is a server");
    for round in 0..1_000 {
        let dropped = client.incr("dropped");
        client.incr("detached").detach();
        let mut kept = std::pin::pin!(client.incr("kept"));
        if round % 2 == 0 {
            drop(dropped);
        } else {
            let mut dropped = std::pin::pin!(dropped);
            let _ = timeout(Duration::ZERO, dropped.as_mut()).await;
        }
        assert_eq!(kept.as_mut().await.expect("a plain INCR"), round + 1);
    }
    assert_eq!(client.get::<u32>("detached").await.expect("a plain GET"), Some(1_000));
    assert_eq!(client.status().tickets, 0, "no ticket is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_room_in_turn() {
    let server = Server::start();
    let config = Config::from_url(&server.url()).expect("a good URL").queue_requests_max(3);
    let client = Client::connect(config).await.expect("there is a server");
    let pending: Vec<_> = (0..500).map(|_| client.incr("visits")).collect();
    let mut dropped = Vec::new();
    for (at, pending) in pending.into_iter().enumerate() {
        if at % 10 == 9 {
            dropped.push(pending);
            continue;
        }
        timeout(SOON, pending).await.expect("it ends").expect("a plain INCR");
        dropped.clear();
    }
    assert_eq!(timeout(SOON, client.incr("other")).await.expect("it ends").expect("an INCR"), 1);
}

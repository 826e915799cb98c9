//! Who leads, who follows and who is called when nobody leads, with threads in many orders: one
//! order after the other, drawn from a seed, switched wherever a thread takes a lock, parks or waits
//! for a socket. An order in which somebody is never woken ends as a deadlock or in endless polling,
//! and the checker prints how to repeat it.
//!
//! `RUSTFLAGS='--cfg interleavings' cargo test -p unfazed-blocking --test interleavings`
#![cfg(interleavings)]

#[path = "../../core/tests/interleavings/common.rs"]
mod common;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use common::{answer, join, next_command};
use shuttle::{sync::atomic::AtomicBool, thread};
use unfazed_blocking::{Client, Config, FailureKind, core::config::ProtocolChoice, prelude::*};

/// How many orders of each scenario are tried, of each kind: fewer than in the core's, since each has real
/// sockets.
const ORDERS: usize = 300;

fn in_many_orders(scenario: fn()) {
    common::in_many_orders(ORDERS, scenario);
}

/// A server on a thread of the checker, behind a Unix socket.
struct Server {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("unfazed-{}-{}", process::id(), COUNT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).expect("a path of its own");
        listener.set_nonblocking(true).expect("a socket");
        let stopped = Arc::new(AtomicBool::new(false));
        let told = stopped.clone();
        let thread = thread::spawn(move || {
            let mut links = Vec::new();
            while !told.load(SeqCst) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket");
                    links.push((stream, Vec::new()));
                }
                links.retain_mut(|(stream, bytes)| serve(stream, bytes));
                thread::yield_now();
            }
        });
        Server { path, stopped, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        let config = Config::unix(&self.path);
        let config = config.protocol(ProtocolChoice::Resp2).client_info(false);
        Client::lazy(config).expect("a good configuration")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the server panics at nothing");
        }
    }
}

/// Answers what has come. Gives whether the connection goes on.
fn serve(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> bool {
    let mut some = [0; 4096];
    match stream.read(&mut some) {
        Ok(0) => return false,
        Ok(count) => bytes.extend_from_slice(&some[..count]),
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    }
    let mut replies = Vec::new();
    while let Some(words) = next_command(bytes) {
        replies.extend(answer(&words));
    }
    stream.write_all(&replies).is_ok()
}

fn get(client: &Client, key: &str) -> Result<String, Failure> {
    client.get::<String>(key).map(|value| value.expect("the server has every key"))
}

#[test]
fn the_lead_goes_from_hand_to_hand_and_everyone_gets_their_own_reply() {
    in_many_orders(|| {
        let server = Server::start();
        let client = server.client();
        let callers = ["a", "b", "c"].map(|key| {
            let client = client.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    assert_eq!(get(&client, key).expect("it is answered"), key);
                }
            })
        });
        join(callers);
    });
}

#[test]
fn the_last_to_wait_is_called_by_one_who_needs_no_lead_any_more() {
    in_many_orders(|| {
        let server = Server::start();
        let client = server.client();
        assert_eq!(get(&client, "first").expect("it is answered"), "first");
        let callers = ["a", "b", "c"].map(|key| {
            let client = client.clone();
            thread::spawn(move || assert_eq!(get(&client, key).expect("it is answered"), key))
        });
        join(callers);
    });
}

#[test]
fn what_nobody_waits_for_is_brought_home() {
    in_many_orders(|| {
        let server = Server::start();
        let client = server.client();
        client.detached().set("key", "value").expect("there is room for it");
        let other = client.clone();
        let caller = thread::spawn(move || {
            assert_eq!(get(&other, "a").expect("it is answered"), "a");
        });
        while client.status().tickets > 0 {
            thread::yield_now();
        }
        join([caller]);
    });
}

#[test]
fn closing_ends_whoever_waits_and_whoever_leads() {
    in_many_orders(|| {
        let server = Server::start();
        let client = server.client();
        let callers = ["a", "b"].map(|key| {
            let client = client.clone();
            thread::spawn(move || match get(&client, key) {
                Ok(value) => assert_eq!(value, key),
                Err(failure) => assert!(matches!(failure.kind(), FailureKind::ClientClosed)),
            })
        });
        client.close();
        join(callers);
        let status = client.status();
        assert_eq!((status.tickets, status.queued_requests, status.connections), (0, 0, 0));
    });
}

#[test]
fn a_reader_of_events_leads_nobody_astray() {
    in_many_orders(|| {
        let server = Server::start();
        let client = server.client();
        let mut events = client.events();
        let listener = thread::spawn(move || while events.next().is_some() {});
        let caller = client.clone();
        let caller = thread::spawn(move || {
            assert_eq!(get(&caller, "a").expect("it is answered"), "a");
        });
        join([caller]);
        client.close();
        join([listener]);
    });
}

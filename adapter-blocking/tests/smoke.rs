//! That the adapter carries the core: the scenarios proper are in the package `unfazed-tests`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_blocking::{
    Client, Config,
    core::{
        FailureKind, Options, Request,
        commands::Run,
        engine::{Batch, Event, Health},
        fallback::{Fallback, Policy},
    },
    prelude::*,
};
use unfazed_tests::{
    Dialogue, Fault, Manners, Peer, Proxy, Raw, RawReply, Server, Way, eventually,
};

const SOON: Duration = Duration::from_secs(10);

/// Runs `act` on a thread of its own and gives what came of it. A test that hangs fails here.
#[track_caller]
fn within<T: Send + 'static>(limit: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        // Nobody listens if the limit has passed.
        let _ = done.send(act());
    });
    match result.recv_timeout(limit) {
        Ok(result) => {
            thread.join().expect("it has sent its result");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it would have sent its result"),
        },
    }
}

fn connect(server: &Server) -> Client {
    Client::connect(server.url()).expect("there is a server")
}

/// How many clients the server has.
fn clients(witness: &mut Raw) -> usize {
    match witness.cmd(&["CLIENT", "LIST"]) {
        RawReply::Bulk(list) => list.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).count(),
        other => panic!("CLIENT LIST answers with text, not {other:?}"),
    }
}

#[test]
fn values_go_out_and_come_back() {
    let server = Server::start();
    for url in [server.url(), server.unix_url(), format!("redis://localhost:{}", server.port())] {
        within(SOON, move || {
            let client = Client::connect(url).expect("there is a server");
            client.set("greeting", "hello").expect("a plain SET");
            let greeting: Option<String> = client.get("greeting").expect("a plain GET");
            assert_eq!(greeting.as_deref(), Some("hello"));
            assert_eq!(client.get::<String>("nobody").expect("a plain GET"), None);
            assert_eq!(client.incr("visits").expect("a plain INCR"), 1);
            assert_eq!(client.del("visits").expect("a plain DEL"), 1);
            let failure = client.incr("greeting").expect_err("it is no number");
            assert_eq!(failure.command(), "INCR");
            let failure = client.get::<i64>("greeting").expect_err("it is no number");
            assert!(matches!(failure.kind(), FailureKind::Decode(_)), "{failure}");
            assert_eq!(client.status().tickets, 0, "no ticket is left behind");
        });
    }
}

#[test]
fn pipelines_and_views_work_as_everywhere() {
    let server = Server::start();
    let client = connect(&server);
    let (set, visits): ((), i64) =
        client.pipeline(|p| (p.set("name", "Ada"), p.incr("visits"))).expect("plain commands");
    assert_eq!((set, visits), ((), 1));
    let (name, visits) = client.pipeline_each(|p| (p.incr("name"), p.incr("visits")));
    assert!(name.is_err(), "it is no number");
    assert_eq!(visits.expect("a plain INCR"), 2);
    let name: Option<String> = client.within(SOON).get("name").expect("a plain GET");
    assert_eq!(name.as_deref(), Some("Ada"));
    client.detached().within(SOON).incr("visits").expect("it is accepted");
    assert_eq!(client.get("visits").expect("a plain GET"), Some(3));
}

#[test]
fn no_server_is_needed_for_memory() {
    let client = Client::connect("memory://").expect("nothing to connect to");
    client.set("greeting", "hello").expect("a plain SET");
    assert_eq!(client.get("greeting").expect("a plain GET"), Some("hello".to_owned()));
    client.close();
    let failure = client.incr("visits").expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
}

#[test]
fn wrong_configuration_and_an_absent_server_are_told() {
    let failure = Client::connect("http://localhost").expect_err("no such scheme");
    assert!(matches!(failure.kind(), FailureKind::Config(_)), "{failure}");
    let failure = Client::connect("redis://127.0.0.1:1").expect_err("nobody listens");
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
    let failure = Client::connect("redis://nowhere.invalid").expect_err("no such name");
    assert!(matches!(failure.kind(), FailureKind::Down(_)), "{failure}");
}

#[test]
fn many_threads_share_one_client() {
    const THREADS: u64 = 64;
    const ROUNDS: u64 = 1_000;
    let server = Server::start();
    let client = connect(&server);
    within(SOON * 6, move || {
        thread::scope(|scope| {
            for at in 0..THREADS {
                let client = &client;
                scope.spawn(move || {
                    let key = format!("key:{at}");
                    for round in 0..ROUNDS / 4 {
                        client.set(&key, at * round).expect("a plain SET");
                        let got: Option<u64> = client.get(&key).expect("a plain GET");
                        assert_eq!(got, Some(at * round), "each gets its own");
                        assert!(client.append(&key, "x").expect("a plain APPEND") > 1);
                        client.incr("sum").expect("a plain INCR");
                    }
                });
            }
        });
        assert_eq!(client.get("sum").expect("a plain GET"), Some(THREADS * ROUNDS / 4));
        assert_eq!(client.status().tickets, 0, "no ticket is left behind");
    });
}

#[test]
fn leadership_survives_any_coming_and_going() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let client = Client::connect(proxy.url()).expect("there is a server");
    within(SOON * 6, move || {
        let ended = AtomicU64::new(0);
        thread::scope(|scope| {
            for at in 0..12_u64 {
                let (client, ended) = (&client, &ended);
                scope.spawn(move || {
                    for round in 0..400_u64 {
                        match (at + round) % 4 {
                            // Ends at its deadline, often while it leads.
                            0 => {
                                let options = Options {
                                    deadline: Some(Duration::from_micros(100 * (round % 5))),
                                    ..Options::default()
                                };
                                let request = Request::new("GET").arg("absent").options(options);
                                let _ = client.run::<Option<String>>(request);
                            }
                            1 => client.detached().incr("detached").expect("it is accepted"),
                            _ => drop(client.incr("kept").expect("a plain INCR")),
                        }
                        if round % 16 == at {
                            thread::sleep(Duration::from_millis(1));
                        }
                        ended.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!(ended.load(SeqCst), 12 * 400);
        assert_eq!(client.get("kept").expect("a plain GET"), Some(12 * 200));
        assert_eq!(client.get("detached").expect("a plain GET"), Some(12 * 100));
        let mut status = client.status();
        eventually("no ticket is left behind", SOON, || {
            status = client.status();
            (status.tickets == 0 && status.queued_requests == 0).then_some(())
        });
    });
}

#[test]
fn large_values_go_both_ways() {
    let server = Server::start();
    let client = connect(&server);
    within(SOON * 3, move || {
        let value: Vec<u8> = (0..64_u32 << 20).map(|at| (at % 251) as u8).collect();
        client.set("large", &value).expect("a plain SET");
        let got: Option<Vec<u8>> = client.get("large").expect("a plain GET");
        assert!(got.as_ref() == Some(&value), "what comes back is what went out");
    });
}

#[test]
fn a_large_pipeline_passes_small_buffers() {
    let server = Server::start();
    let proxy = Proxy::with_buffers(server.port(), 4096);
    let client = Client::connect(proxy.url()).expect("there is a server");
    let batch = |value: &[u8]| {
        let mut batch = Batch::new();
        for at in 0..10 {
            batch.push(&Request::new("SET").arg(&at).arg(value));
            batch.push(&Request::new("GET").arg(&at));
        }
        batch
    };
    within(SOON * 3, move || {
        let value = vec![b'v'; 1 << 20];
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let outcomes = client.submit_batch(&batch(&value)).expect("it is accepted");
                    assert_eq!(outcomes.len(), 20);
                    for outcome in outcomes {
                        outcome.expect("plain commands");
                    }
                });
            }
        });
        let got: Option<Vec<u8>> = client.get("9").expect("a plain GET");
        assert!(got.as_ref() == Some(&value), "what comes back is what went out");
    });
}

#[test]
fn a_killed_server_is_an_error_and_a_restarted_one_is_found() {
    let mut server = Server::start();
    let config = Config::from_url(&server.url()).expect("a good URL").fail_fast(true);
    let client = Client::connect(config).expect("there is a server");
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, stop, failures) = (client.clone(), stop.clone(), failures.clone());
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    if client.incr("visits").is_err() {
                        failures.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    server.kill();
    eventually("requests fail", SOON, || (failures.load(SeqCst) > 100).then_some(()));
    server.restart();
    eventually("requests are answered again", SOON, || client.incr("visits").ok());
    stop.store(true, SeqCst);
    within(SOON, || workers.into_iter().for_each(|worker| worker.join().expect("no panic")));
    assert_eq!(client.status().health, Health::Live);
}

#[test]
fn with_a_fallback_a_killed_server_costs_no_answer() {
    let mut server = Server::start();
    let config = Config::from_url(&server.url())
        .expect("a good URL")
        .fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = Client::connect(config).expect("there is a server");
    client.set("cache:1", "value").expect("a plain SET");
    let mut events = client.events();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, stop) = (client.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    let value: Option<String> = client.get("cache:1").expect("it may degrade");
                    assert_eq!(value.as_deref(), Some("value"), "server or shadow");
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    server.kill();
    eventually("memory answers", SOON, || (client.status().answers_shadow > 100).then_some(()));
    stop.store(true, SeqCst);
    within(SOON, || workers.into_iter().for_each(|worker| worker.join().expect("no panic")));
    // Nobody waits for anything now: the keeper has to find the server.
    server.restart();
    eventually("the client is live", SOON, || {
        (client.status().health == Health::Live).then_some(())
    });
    let told: Vec<_> = events.within(Duration::from_millis(100)).collect();
    let healths = told.iter().filter_map(|event| match event {
        Event::HealthChanged { to, .. } => Some(*to),
        _ => None,
    });
    assert!(healths.into_iter().any(|to| to == Health::Degraded), "{told:?}");
}

#[test]
fn closing_ends_everything() {
    let server = Server::start();
    let client = connect(&server);
    let mut events = client.events();
    client.detached().incr("visits").expect("it is accepted");
    let closing = client.clone();
    within(SOON, move || closing.close());
    assert_eq!(Raw::connect(server.port()).get("visits").as_deref(), Some("1"));
    let failure = client.incr("visits").expect_err("it is closed");
    assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    within(SOON, move || while events.next().is_some() {});
    let mut witness = Raw::connect(server.port());
    eventually("the witness is alone", SOON, || (clients(&mut witness) == 1).then_some(()));
}

#[test]
fn closing_ends_what_waits() {
    let silent = Peer::start(|dialogue| {
        let _ = dialogue.handshake(Manners::Resp3);
        dialogue.hold();
    });
    let client = Client::connect(silent.url()).expect("there is a server");
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.incr("visits").expect_err("nobody answers"))
        })
        .collect();
    eventually("they wait", SOON, || (client.status().queued_requests == 4).then_some(()));
    let closing = client.clone();
    within(SOON, move || closing.close_within(Duration::from_millis(20)));
    for thread in waiting {
        let failure = within(SOON, move || thread.join().expect("no panic"));
        assert!(matches!(failure.kind(), FailureKind::ClientClosed), "{failure}");
    }
}

#[test]
fn dropping_the_last_handle_closes_its_connections() {
    let server = Server::start();
    let mut witness = Raw::connect(server.port());
    let client = connect(&server);
    let other = client.clone();
    let mut events = client.events();
    drop(client);
    other.set("still", "there").expect("a clone keeps it open");
    assert_eq!(clients(&mut witness), 2);
    drop(other);
    eventually("the witness is alone", SOON, || (clients(&mut witness) == 1).then_some(()));
    within(SOON, move || while events.next().is_some() {});
    // Nor does a client hang that is dropped with a request on its way, or before it was used.
    let client = Client::lazy(Config::standalone("127.0.0.1", 1)).expect("a good configuration");
    client.detached().incr("visits").expect("it is accepted");
    drop(client);
    drop(Client::lazy(server.url()).expect("a good URL"));
}

#[test]
fn a_dropped_client_leaves_no_thread_and_no_descriptor() {
    let server = Server::start();
    for _ in 0..200 {
        let client = connect(&server);
        client.set("key", "value").expect("a plain SET");
    }
    // Other tests have some of both, at the same time.
    let count = |folder| std::fs::read_dir(folder).expect("this is Linux").count();
    eventually("threads end", SOON, || (count("/proc/self/task") < 190).then_some(()));
    eventually("descriptors are closed", SOON, || (count("/proc/self/fd") < 190).then_some(()));
}

#[test]
fn a_silent_connection_is_found_while_the_client_is_idle() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let config = Config::from_url(&proxy.url())
        .expect("a good URL")
        .response_timeout(Duration::from_millis(300));
    let client = Client::connect(config).expect("there is a server");
    client.set("key", "value").expect("a plain SET");
    let before = proxy.connections();
    proxy.set(Fault::Swallow(Way::Both));
    let start = Instant::now();
    eventually("the connection is given up", SOON, || {
        (client.status().health != Health::Live).then_some(())
    });
    // Twice its time limit, and what a machine that does much else may add; kernels take minutes.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    proxy.set(Fault::None);
    eventually("another one is made", SOON, || {
        (client.status().health == Health::Live && proxy.connections() > before).then_some(())
    });
    assert_eq!(client.get("key").expect("a plain GET"), Some("value".to_owned()));
}

#[test]
fn a_lone_caller_gives_up_at_its_deadline() {
    let silent = Peer::start(Dialogue::hold);
    let config = Config::standalone("127.0.0.1", silent.port());
    let client = Client::lazy(config.deadline(Duration::from_millis(150))).expect("a config");
    let start = Instant::now();
    let failure = within(SOON, move || client.incr("visits").expect_err("nobody answers"));
    assert!(failure.is_timeout(), "{failure}");
    // Long before the deadline that requests have by default.
    assert!((100..4_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[test]
fn requests_wait_for_room_or_are_refused() {
    let server = Server::start();
    let config = Config::from_url(&server.url()).expect("a good URL").queue_requests_max(3);
    let client = Client::connect(config).expect("there is a server");
    within(SOON * 3, move || {
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        client.incr("visits").expect("it waits for room");
                        client.detached().incr("detached").expect("it waits for room");
                    }
                });
            }
        });
        assert_eq!(client.get("visits").expect("a plain GET"), Some(16 * 200));
        assert_eq!(client.get("detached").expect("a plain GET"), Some(16 * 200));
    });
    let silent = Peer::start(Dialogue::hold);
    let config = Config::standalone("127.0.0.1", silent.port()).queue_requests_max(1);
    let client = Client::lazy(config).expect("a good configuration");
    client.detached().incr("visits").expect("there is room for one");
    let options = Options { refuse_when_full: true, ..Options::default() };
    let failure = client
        .run::<i64>(Request::new("INCR").arg("visits").options(options))
        .expect_err("there is no room for two");
    assert!(matches!(failure.kind(), FailureKind::QueueFull), "{failure}");
}

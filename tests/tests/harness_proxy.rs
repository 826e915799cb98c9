//! Each fault of the proxy does what it says, seen from a plain client and a real server.

use std::io;
use std::io::ErrorKind::{self, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
use std::time::{Duration, Instant};

use unfazed_tests::{Close, Fault, Manners, Peer, Proxy, Raw, RawReply, Server, Way, eventually};

const LIMIT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(150);

/// A server, a proxy to it, a client through the proxy, and a witness around it.
struct World {
    server: Server,
    proxy: Proxy,
    client: Raw,
    witness: Raw,
}

fn world() -> World {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let client = Raw::connect(proxy.port());
    let witness = Raw::connect(server.port());
    World { server, proxy, client, witness }
}

#[track_caller]
fn failure(client: &mut Raw, args: &[&str]) -> ErrorKind {
    client.try_cmd(args).expect_err("no reply is expected").kind()
}

/// What a new client reads first. A reset may be there before it even knows it is connected.
fn greeting(proxy: &Proxy) -> io::Result<RawReply> {
    Raw::try_connect(proxy.port(), LIMIT)?.try_read()
}

fn wait_for_open(proxy: &Proxy, count: usize) {
    eventually("the number of open connections", LIMIT, || {
        (proxy.open_connections() == count).then_some(())
    });
}

/// Waits until the server knows that all other connections have ended.
fn wait_until_alone(witness: &mut Raw) {
    eventually("the server to notice", LIMIT, || {
        let RawReply::Bulk(list) = witness.cmd(&["CLIENT", "LIST"]) else { panic!("no list") };
        (list.iter().filter(|&&byte| byte == b'\n').count() == 1).then_some(())
    });
}

#[test]
fn without_a_fault_everything_passes_and_is_recorded() {
    let World { proxy, mut client, server, .. } = world();
    client.ok(&["SET", "k", "v"]);
    let mut second = Raw::connect(proxy.port());
    assert_eq!(second.get("k").as_deref(), Some("v"));

    assert_eq!((proxy.connections(), proxy.open_connections()), (2, 2));
    assert_eq!(proxy.requests_seen(b"SET"), 1);
    assert_eq!(proxy.requests_seen(b"DEL"), 0);
    let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec();
    assert_eq!(proxy.requests()[1], get);
    assert_eq!(proxy.replies(), [b"+OK\r\n".to_vec(), b"$1\r\nv\r\n".to_vec()]);
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port()));

    drop(second);
    wait_for_open(&proxy, 1);
    drop((client, server));
}

#[test]
fn large_values_pass_both_ways() {
    let server = Server::start();
    let value = "x".repeat(10 << 20);
    for proxy in [Proxy::start(server.port()), Proxy::with_buffers(server.port(), 4096)] {
        let mut client = Raw::try_connect(proxy.port(), LIMIT).unwrap();
        client.ok(&["SET", "big", &value]);
        assert!(client.get("big").unwrap() == value);
    }
}

#[test]
fn a_delay_is_felt_both_ways_and_keeps_the_order() {
    let World { server: _server, proxy, mut client, .. } = world();
    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let start = Instant::now();
    for _ in 0..100 {
        client.try_send(&["INCR", "n"]).unwrap();
    }
    for value in 1..=100 {
        assert_eq!(client.try_read().unwrap(), RawReply::Int(value));
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_trickle_lets_a_little_through_at_a_time() {
    let World { server: _server, proxy, mut client, .. } = world();
    let every = Duration::from_millis(10);
    proxy.set(Fault::Trickle { way: Way::Replies, piece: 1, every });
    let start = Instant::now();
    assert_eq!(client.cmd(&["PING"]), RawReply::Simple("PONG".into()));
    // Seven bytes, six waits between them.
    assert!(start.elapsed() >= every * 6, "{:?}", start.elapsed());
}

#[test]
fn stalled_requests_arrive_once_the_stall_ends() {
    let World { server: _server, proxy, mut client, mut witness, .. } = world();
    proxy.set(Fault::Stall(Way::Requests));
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["INCR", "n"]), TimedOut);
    assert_eq!(witness.get("n"), None);

    proxy.set(Fault::None);
    client.set_limit(LIMIT);
    assert_eq!(client.try_read().unwrap(), RawReply::Int(1));
}

#[test]
fn stalled_replies_are_of_commands_that_were_executed() {
    let World { server: _server, proxy, mut client, mut witness, .. } = world();
    proxy.set(Fault::Stall(Way::Replies));
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["INCR", "n"]), TimedOut);
    assert_eq!(witness.get("n").as_deref(), Some("1"));

    proxy.set(Fault::None);
    client.set_limit(LIMIT);
    assert_eq!(client.try_read().unwrap(), RawReply::Int(1));
}

#[test]
fn a_stall_blocks_the_writer() {
    let server = Server::start();
    let proxy = Proxy::with_buffers(server.port(), 4096);
    let mut client = Raw::try_connect(proxy.port(), SOON).unwrap();
    proxy.set(Fault::Stall(Way::Both));
    let error = client.try_send_bytes(&vec![b'x'; 32 << 20]).unwrap_err();
    assert_eq!(error.kind(), TimedOut);
}

#[test]
fn swallowed_replies_are_of_commands_that_were_executed() {
    let World { server: _server, proxy, mut client, mut witness, .. } = world();
    proxy.set(Fault::Swallow(Way::Replies));
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["INCR", "n"]), TimedOut);
    assert_eq!(witness.get("n").as_deref(), Some("1"));
    assert_eq!(proxy.replies(), [b":1\r\n"]);
}

#[test]
fn swallowed_requests_are_never_executed() {
    let World { server: _server, proxy, mut client, mut witness, .. } = world();
    proxy.set(Fault::Swallow(Way::Requests));
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["INCR", "n"]), TimedOut);
    assert_eq!(witness.get("n"), None);
    assert_eq!(proxy.requests_seen(b"INCR"), 1);
    drop(client);
    wait_until_alone(&mut witness);
}

#[test]
fn a_connection_that_lost_bytes_stays_broken_and_an_idle_one_recovers() {
    let World { server: _server, proxy, mut client, .. } = world();
    let mut idle = Raw::connect(proxy.port());
    wait_for_open(&proxy, 2);
    proxy.set(Fault::Swallow(Way::Replies));
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["ECHO", "lost"]), TimedOut);

    proxy.set(Fault::None);
    assert_eq!(idle.cmd(&["PING"]), RawReply::Simple("PONG".into()));
    // Otherwise this would be taken for the reply that was lost.
    assert_eq!(failure(&mut client, &["ECHO", "late"]), TimedOut);
}

#[test]
fn a_swallowed_end_is_not_seen() {
    let World { mut server, proxy, mut client, .. } = world();
    proxy.set(Fault::Swallow(Way::Both));
    server.kill();
    client.set_limit(SOON);
    assert_eq!(failure(&mut client, &["PING"]), TimedOut);
    assert_eq!(proxy.open_connections(), 1);
    drop(client);
    wait_for_open(&proxy, 0);
}

#[test]
fn replies_can_be_cut_at_every_byte() {
    let World { server: _server, proxy, mut witness, .. } = world();
    for (how, kind) in [(Close::Fin, UnexpectedEof), (Close::Reset, ConnectionReset)] {
        for after in 0..=5 {
            let mut client = Raw::connect(proxy.port());
            client.ok(&["SET", "k", "before"]);
            proxy.set(Fault::Cut { way: Way::Replies, after, how });
            let value = format!("{how:?}{after}");
            let reply = client.try_cmd(&["SET", "k", &value]);
            if after < 5 {
                assert_eq!(reply.unwrap_err().kind(), kind, "{how:?} after {after}");
            } else {
                assert_eq!(reply.unwrap(), RawReply::Simple("OK".into()));
                assert_eq!(client.try_read().unwrap_err().kind(), kind);
            }
            assert_eq!(witness.get("k").unwrap(), value, "it was executed");
            proxy.set(Fault::None);
        }
    }
}

#[test]
fn requests_can_be_cut_at_every_byte() {
    let World { server: _server, proxy, mut witness, .. } = world();
    let length = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".len() as u64;
    for (how, kind) in [(Close::Fin, UnexpectedEof), (Close::Reset, ConnectionReset)] {
        for after in 0..=length {
            witness.cmd(&["DEL", "n"]);
            proxy.set(Fault::Cut { way: Way::Requests, after, how });
            let mut client = Raw::connect(proxy.port());
            assert_eq!(failure(&mut client, &["INCR", "n"]), kind, "{how:?} after {after}");
            if after == length {
                eventually("the execution", LIMIT, || witness.get("n"));
            } else {
                assert_eq!(witness.get("n"), None, "{how:?} after {after}");
            }
        }
    }
}

#[test]
fn a_cut_counts_from_when_it_was_set() {
    let World { server: _server, proxy, mut client, mut witness } = world();
    for way in [Way::Requests, Way::Replies] {
        client.ok(&["SET", "k", "a value longer than what may pass later"]);
        proxy.set(Fault::Cut { way, after: 30, how: Close::Reset });
        assert_eq!(client.cmd(&["PING"]), RawReply::Simple("PONG".into()), "{way:?}");
        assert_eq!(failure(&mut client, &["GET", "k"]), ConnectionReset, "{way:?}");
        proxy.set(Fault::None);
        client = Raw::connect(proxy.port());
    }
    assert!(witness.get("k").is_some());
}

#[test]
fn a_cut_counts_each_connection_alone() {
    let World { server: _server, proxy, .. } = world();
    proxy.set(Fault::Cut { way: Way::Replies, after: 10, how: Close::Reset });
    for _ in 0..3 {
        let mut client = Raw::connect(proxy.port());
        client.ok(&["SET", "k", "v"]);
        client.ok(&["SET", "k", "v"]);
        assert_eq!(failure(&mut client, &["PING"]), ConnectionReset);
    }
}

#[test]
fn refused_means_refused_until_it_is_lifted() {
    let World { server: _server, proxy, mut client, .. } = world();
    proxy.set(Fault::Refuse);
    for _ in 0..3 {
        assert_eq!(Raw::try_connect(proxy.port(), LIMIT).unwrap_err().kind(), ConnectionRefused);
    }
    assert_eq!(client.cmd(&["PING"]), RawReply::Simple("PONG".into()), "open ones go on");
    for _ in 0..20 {
        proxy.set(Fault::None);
        assert!(Raw::answers(proxy.port(), LIMIT));
        proxy.set(Fault::Refuse);
    }
}

#[test]
fn new_connections_can_be_reset() {
    let World { server: _server, proxy, mut client, .. } = world();
    client.ok(&["SET", "k", "v"]);
    proxy.set(Fault::ResetNew);
    assert_eq!(greeting(&proxy).unwrap_err().kind(), ConnectionReset);
    assert_eq!(proxy.connections(), 1);
    client.ok(&["SET", "k", "v"]);
}

#[test]
fn all_connections_can_be_dropped_at_once() {
    let World { server: _server, proxy, mut witness, .. } = world();
    for (how, kind) in [(Close::Fin, UnexpectedEof), (Close::Reset, ConnectionReset)] {
        let mut clients: Vec<_> = (0..20).map(|_| Raw::connect(proxy.port())).collect();
        proxy.close_all(how);
        assert_eq!(proxy.open_connections(), 0);
        for client in &mut clients {
            assert_eq!(client.try_read().unwrap_err().kind(), kind);
        }
        wait_until_alone(&mut witness);
    }
    let mut client = Raw::connect(proxy.port());
    assert_eq!(client.cmd(&["PING"]), RawReply::Simple("PONG".into()), "new ones are welcome");
    proxy.reset_all();
    assert_eq!(client.try_read().unwrap_err().kind(), ConnectionReset);
}

#[test]
fn the_servers_end_is_passed_on() {
    let peer = Peer::start(|client| {
        client.read_command();
        client.end(if client.number() == 0 { Close::Fin } else { Close::Reset });
    });
    let proxy = Proxy::start(peer.port());
    for kind in [UnexpectedEof, ConnectionReset] {
        assert_eq!(failure(&mut Raw::connect(proxy.port()), &["PING"]), kind);
    }
}

#[test]
fn an_absent_server_is_a_reset_and_another_can_take_its_place() {
    let World { mut server, proxy, mut client, .. } = world();
    server.kill();
    assert!(client.try_cmd(&["PING"]).is_err());
    assert_eq!(greeting(&proxy).unwrap_err().kind(), ConnectionReset);

    let other = Peer::start(|client| client.serve(Manners::Resp3, |_| None));
    proxy.set_target(other.port());
    assert!(Raw::answers(proxy.port(), LIMIT));
}

#[test]
fn a_proxy_with_nothing_to_do_does_not_spin() {
    type Scene = fn(&mut Server, &Proxy, Raw) -> Option<Raw>;
    let scenes: [(&str, Scene); 6] = [
        ("idle", |_, _, client| Some(client)),
        ("the client left in a stall", |_, proxy, client| {
            proxy.set(Fault::Stall(Way::Both));
            drop(client);
            None
        }),
        ("the server left in a stall", |server, proxy, client| {
            proxy.set(Fault::Stall(Way::Both));
            server.kill();
            Some(client)
        }),
        ("the server left unseen", |server, proxy, client| {
            proxy.set(Fault::Swallow(Way::Both));
            server.kill();
            Some(client)
        }),
        ("the client ignores the end", |_, proxy, client| {
            proxy.close_all(Close::Fin);
            Some(client)
        }),
        ("requests pile up before a stopped server", |server, proxy, mut client| {
            server.stop();
            client.set_limit(SOON);
            client.try_send_bytes(&vec![b'x'; 32 << 20]).expect_err("no room for so much");
            proxy.set(Fault::Delay(LIMIT));
            Some(client)
        }),
    ];
    for (name, scene) in scenes {
        let World { mut server, proxy, mut client, .. } = world();
        client.ok(&["SET", "k", "v"]);
        let _client = scene(&mut server, &proxy, client);
        std::thread::sleep(SOON);
        let before = processor_time(&proxy);
        std::thread::sleep(SOON * 2);
        let used = processor_time(&proxy) - before;
        assert!(used < SOON / 5, "{name}: {used:?} of processor time in {:?}", SOON * 2);
    }
}

/// The processor time that a proxy's thread has used. Linux only, as long as the tests are.
fn processor_time(proxy: &Proxy) -> Duration {
    let name = format!("proxy {}\n", proxy.port());
    for task in std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap) {
        // A task of another test may end while this one looks.
        if std::fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found == name) {
            let times = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            let nanos = times.split(' ').next().unwrap().parse().unwrap();
            return Duration::from_nanos(nanos);
        }
    }
    panic!("no thread called {name}");
}

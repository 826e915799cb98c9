//! The harness starts, hurts and removes real servers.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use unfazed_tests::{Raw, RawReply, Server, eventually};

const LIMIT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(200);

/// Whether there is such a process. Linux only, as long as the tests are.
fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_server_answers_on_its_port_and_its_socket() {
    let server = Server::start();
    let mut tcp = Raw::connect(server.port());
    tcp.ok(&["SET", "k", "v"]);
    let mut unix = Raw::try_connect_unix(&server.socket(), LIMIT).unwrap();
    assert_eq!(unix.get("k").as_deref(), Some("v"));
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(server.unix_url(), format!("unix://{}", server.socket().display()));
    assert!(server.log().contains("Ready to accept connections"), "{}", server.log());
}

#[test]
fn servers_do_not_share_anything() {
    let (one, two) = (Server::start(), Server::start());
    Raw::connect(one.port()).ok(&["SET", "k", "one"]);
    assert_eq!(Raw::connect(two.port()).get("k"), None);
}

#[test]
fn arguments_reach_the_server() {
    let server = Server::with_args(&["--requirepass", "secret", "--cluster-enabled", "yes"]);
    let mut raw = Raw::connect(server.port());
    let refused = raw.cmd(&["PING"]);
    assert!(matches!(&refused, RawReply::Error(text) if text.starts_with("NOAUTH")), "{refused:?}");
    raw.ok(&["AUTH", "secret"]);
    assert!(matches!(raw.cmd(&["CLUSTER", "MYID"]), RawReply::Bulk(id) if id.len() == 40));
}

#[test]
#[should_panic(expected = "no-such-option")]
fn a_server_that_does_not_start_shows_its_log() {
    Server::with_args(&["--no-such-option", "1"]);
}

#[test]
fn a_killed_server_is_gone_and_keeps_acknowledged_writes() {
    let mut server = Server::start();
    let (port, pid) = (server.port(), server.pid().unwrap());
    let mut raw = Raw::connect(port);
    for value in 1..=1000 {
        assert_eq!(raw.int(&["INCR", "count"]), value);
    }
    server.kill();
    assert_eq!(server.pid(), None);
    assert!(!is_alive(pid));
    assert!(raw.try_cmd(&["PING"]).is_err());
    assert!(!Raw::answers(port, SOON));

    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(Raw::connect(port).get("count").as_deref(), Some("1000"));
}

#[test]
fn a_server_can_come_back_empty() {
    let mut server = Server::start();
    Raw::connect(server.port()).ok(&["SET", "k", "v"]);
    server.restart_empty();
    assert_eq!(Raw::connect(server.port()).get("k"), None);
}

#[test]
fn a_stopped_server_accepts_and_does_not_answer() {
    let server = Server::start();
    for _ in 0..3 {
        server.stop();
        let mut raw = Raw::try_connect(server.port(), SOON).unwrap();
        assert_eq!(raw.try_cmd(&["PING"]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        server.cont();
        raw.set_limit(LIMIT);
        assert_eq!(raw.try_read().unwrap(), RawReply::Simple("PONG".into()));
    }
}

#[test]
fn a_stopped_server_can_be_killed_and_shut_down() {
    let mut server = Server::start();
    for end in [Server::kill, Server::shutdown] {
        let pid = server.pid().unwrap();
        server.stop();
        end(&mut server);
        assert!(!is_alive(pid));
        server.restart();
    }
    assert!(server.log().contains("ready to exit, bye bye"), "{}", server.log());
}

#[test]
fn a_server_can_flap() {
    let mut server = Server::start();
    for _ in 0..10 {
        server.restart();
        assert!(Raw::answers(server.port(), LIMIT));
    }
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = Server::start();
    let (pid, folder) = (server.pid().unwrap(), server.folder().to_owned());
    assert!(is_alive(pid) && folder.exists());
    server.stop();
    drop(server);
    assert!(!is_alive(pid) && !folder.exists());
}

#[test]
fn many_servers_can_start_at_once() {
    let threads: Vec<_> = (0..6).map(|_| thread::spawn(Server::start)).collect();
    let servers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(servers.iter().all(|server| Raw::answers(server.port(), LIMIT)));
}

/// This test runs itself a second time, as the process that is killed.
#[test]
fn a_server_dies_with_its_test_process() {
    const NAME: &str = "a_server_dies_with_its_test_process";
    const ROLE: &str = "UNFAZED_TEST_HOLDS_A_SERVER";
    if env::var_os(ROLE).is_some() {
        let server = Server::start();
        println!("\nholding {} {}", server.pid().unwrap(), server.folder().display());
        thread::sleep(LIMIT * 3);
        return;
    }
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("holding ")).unwrap();
    let mut words = line.split(' ').skip(1);
    let pid: u32 = words.next().unwrap().parse().unwrap();
    let folder = words.next().unwrap();
    assert!(is_alive(pid) && Path::new(folder).exists());

    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the server and its folder to go", LIMIT, || {
        (!is_alive(pid) && !Path::new(folder).exists()).then_some(())
    });
}

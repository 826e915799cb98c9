//! The server is back with other data than it had: what it has is believed, and nothing of before is
//! brought back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Cause,
    commands::prelude::*,
    config::Forced,
    engine::{Event, Health, Lineage},
    handle::Views,
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Fault, Proxy, Raw, RawReply, Server as TestServer, eventually};

use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{Changes, LIMIT, check_get, cut, every_policy, get, mend, quick, until_health},
};

scenarios! {
    an_empty_server_gets_what_was_written_and_nothing_of_before,
    another_server_at_the_same_address_is_never_said_to_hold_what_the_first_held,
    a_server_that_was_a_replica_of_another_meanwhile_has_other_data,
    a_server_whose_data_are_replaced_while_it_is_probed_has_other_data,
    a_promoted_replica_goes_on_with_what_was_there,
}

/// How many keys of each kind there are.
const COUNT: usize = 50;

/// What the first server holds, for each policy: keys that are written in memory later, and keys that
/// are only read.
fn fill(witness: &mut Raw, value: &str) {
    for prefix in ["discard:", "cache:", "session:", "count:"] {
        for at in 0..COUNT {
            witness.ok(&["SET", &format!("{prefix}{at}"), value]);
            witness.ok(&["SET", &format!("{prefix}read:{at}"), value]);
        }
    }
}

fn read_all<A: Adapter>(client: &A::Client, value: &str) {
    for prefix in ["discard:", "cache:", "session:", "count:"] {
        for at in 0..COUNT {
            for key in [format!("{prefix}{at}"), format!("{prefix}read:{at}")] {
                let read: Option<String> = A::wait(client.get(&key)).expect("a plain GET");
                assert_eq!(read.as_deref(), Some(value), "{key}");
            }
        }
    }
}

fn write_in_memory<A: Adapter>(client: &A::Client) {
    for at in 0..COUNT {
        A::wait(client.set(format!("discard:{at}"), "ours")).expect("in memory");
        A::wait(client.set(format!("cache:{at}"), "ours")).expect("in memory");
        A::wait(client.set(format!("session:{at}"), "ours")).expect("in memory");
        A::wait(client.incrby(format!("count:{at}"), 7)).expect("in memory");
    }
}

fn skipped(changes: &mut Changes) -> Vec<u64> {
    let of = |event: &Event| match event {
        Event::MergesSkipped { entries, .. } => Some(*entries),
        _ => None,
    };
    changes.events().iter().filter_map(of).collect()
}

fn lineages(changes: &mut Changes) -> Vec<Lineage> {
    let of = |event: &Event| match event {
        Event::DataSet { lineage, .. } => Some(*lineage),
        _ => None,
    };
    changes.events().iter().filter_map(of).collect()
}

fn an_empty_server_gets_what_was_written_and_nothing_of_before<A: Adapter>() {
    let mut server = TestServer::start();
    fill(&mut Raw::connect(server.port()), "5");
    let client = A::connect(every_policy(quick(server.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    read_all::<A>(&client, "5");
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    write_in_memory::<A>(&client);
    server.restart_empty();
    until_health::<A>(&client, Health::Live);
    let mut witness = Raw::connect(server.port());
    assert_eq!(witness.int(&["DBSIZE"]), COUNT as i64, "the sessions and nothing else");
    for at in 0..COUNT {
        let key = format!("session:{at}");
        assert_eq!(witness.get(&key).as_deref(), Some("ours"), "{key}");
    }
    changes.expect(1, 1);
    assert_eq!(lineages(&mut changes), [Lineage::Unknown]);
    assert_eq!(skipped(&mut changes), [COUNT as u64], "told once");
    assert_eq!(A::status(&client).journal_entries, 0);

    // Nor in another outage.
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    for prefix in ["discard:", "cache:", "session:", "count:"] {
        for at in 0..COUNT {
            for key in [format!("{prefix}{at}"), format!("{prefix}read:{at}")] {
                check_get::<A>(&client, &key, None, Source::Unknown);
            }
        }
    }
}

fn another_server_at_the_same_address_is_never_said_to_hold_what_the_first_held<A: Adapter>() {
    let (first, second) = (TestServer::start(), TestServer::start());
    fill(&mut Raw::connect(first.port()), "5");
    let mut witness = Raw::connect(second.port());
    fill(&mut witness, "100");
    for at in 0..COUNT / 2 {
        witness.int(&["DEL", &format!("count:{at}"), &format!("count:read:{at}")]);
    }
    let proxy = Proxy::start(first.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    read_all::<A>(&client, "5");
    cut::<A>(&proxy, &client);
    write_in_memory::<A>(&client);

    let over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (client, over) = (client.clone(), over.clone());
        spawn::<A, _>(async move {
            let mut from_server = 0;
            while !over.load(Ordering::Relaxed) {
                for at in 0..COUNT {
                    for prefix in ["discard:", "cache:", "session:", "count:"] {
                        let read = client.sourced().get::<String>(format!("{prefix}read:{at}"));
                        let read: Sourced<Option<String>> = A::done(read).await.expect("answered");
                        if read.source == Source::Server {
                            from_server += 1;
                            assert_ne!(read.value.as_deref(), Some("5"), "{prefix}read:{at}");
                        }
                        let read = client.sourced().get::<String>(format!("{prefix}{at}"));
                        let read: Sourced<Option<String>> = A::done(read).await.expect("answered");
                        // Neither alone nor with what was added to it.
                        let old = matches!(read.value.as_deref(), Some("5" | "12"));
                        assert!(!(old && read.source == Source::Server), "{prefix}{at}");
                    }
                }
            }
            from_server
        })
    };
    proxy.set_target(second.port());
    mend::<A>(&proxy, &client);
    thread::sleep(Duration::from_millis(20));
    over.store(true, Ordering::Relaxed);
    assert!(reader.join() > 0);

    for at in 0..COUNT {
        let gone = at < COUNT / 2;
        let mut check = |key: String, there: Option<&str>| {
            assert_eq!(witness.get(&key).as_deref(), there, "{key}");
        };
        check(format!("discard:{at}"), Some("100"));
        check(format!("cache:{at}"), None);
        check(format!("session:{at}"), Some("ours"));
        check(format!("count:{at}"), if gone { None } else { Some("107") });
        check(format!("cache:read:{at}"), Some("100"));
        check(format!("count:read:{at}"), if gone { None } else { Some("100") });
    }
    changes.expect(1, 1);
    assert_eq!(lineages(&mut changes), [Lineage::Unknown]);
    assert_eq!(skipped(&mut changes), [COUNT as u64 / 2]);
}

/// A server that gives its data to a replica without waiting for more of them.
fn at_once() -> TestServer {
    TestServer::with_args(&["--repl-diskless-sync-delay", "0"])
}

/// A server and one that it will be made a replica of, which has other data; the keys that the
/// client knows of the first.
fn with_another() -> (TestServer, TestServer) {
    let (server, another) = (TestServer::start(), at_once());
    let mut witness = Raw::connect(server.port());
    for key in ["cache:k", "cache:late", "session:k", "session:late"] {
        witness.ok(&["SET", key, "old"]);
    }
    witness.ok(&["MSET", "count:gone", "5", "count:there", "5"]);
    Raw::connect(another.port()).ok(&["MSET", "cache:k", "theirs", "count:there", "100"]);
    (server, another)
}

fn know_and_write<A: Adapter>(client: &A::Client, proxy: &Proxy) {
    let known = ["cache:k", "cache:late", "session:k", "session:late", "count:gone", "count:there"];
    for key in known {
        assert!(get::<A>(client, key).expect("a plain GET").value.is_some(), "{key}");
    }
    cut::<A>(proxy, client);
    A::wait(client.set("cache:k", "ours")).expect("in memory");
    A::wait(client.set("session:k", "ours")).expect("in memory");
    A::wait(client.incrby("count:gone", 7)).expect("in memory");
    A::wait(client.incrby("count:there", 7)).expect("in memory");
}

/// Makes the server a replica of the other, and waits until it has its data.
fn follow(witness: &mut Raw, another: &TestServer) {
    witness.ok(&["REPLICAOF", "127.0.0.1", &another.port().to_string()]);
    eventually("the other's data", LIMIT, || {
        let reply = witness.cmd(&["GET", "cache:k"]);
        (reply == RawReply::Bulk(b"theirs".to_vec())).then_some(())
    });
}

#[track_caller]
fn check_other_data<A: Adapter>(
    client: &A::Client,
    proxy: &Proxy,
    witness: &mut Raw,
    changes: &mut Changes,
) {
    assert_eq!(witness.get("cache:k"), None);
    assert_eq!(witness.get("session:k").as_deref(), Some("ours"));
    assert_eq!(witness.get("count:there").as_deref(), Some("107"));
    assert_eq!(witness.get("count:gone"), None, "nothing is added to what is gone");
    assert_eq!(skipped(changes), [1]);
    assert_eq!(lineages(changes), [Lineage::Unknown]);
    cut::<A>(proxy, client);
    for key in ["cache:late", "session:late"] {
        check_get::<A>(client, key, None, Source::Unknown);
    }
}

fn a_server_that_was_a_replica_of_another_meanwhile_has_other_data<A: Adapter>() {
    let (server, another) = with_another();
    let mut witness = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    know_and_write::<A>(&client, &proxy);
    follow(&mut witness, &another);
    let probes = proxy.requests_seen(b"ROLE");
    proxy.set(Fault::None);
    eventually("three probes to fail", LIMIT, || {
        for (key, there) in [("cache:k", "ours"), ("session:k", "ours"), ("count:there", "12")] {
            check_get::<A>(&client, key, Some(there), Source::Overlay);
        }
        (proxy.requests_seen(b"ROLE") >= probes + 3).then_some(())
    });
    let status = A::status(&client);
    assert_eq!((status.health, status.journal_entries), (Health::Degraded, 4));
    witness.ok(&["REPLICAOF", "NO", "ONE"]);
    until_health::<A>(&client, Health::Live);
    changes.expect(1, 1);
    check_other_data::<A>(&client, &proxy, &mut witness, &mut changes);
}

fn a_server_whose_data_are_replaced_while_it_is_probed_has_other_data<A: Adapter>() {
    let (server, another) = with_another();
    let mut witness = Raw::connect(server.port());
    let proxy = Proxy::start(server.port());
    // After the first probe nothing is asked until the test says so: one that met a replica would leave
    // the connection, as would a PING that a busy machine answers late.
    let config = quick(proxy.port()).probe_interval(LIMIT).probe_interval_max(LIMIT);
    let config = every_policy(config.response_timeout(LIMIT));
    let client = A::connect(config).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    know_and_write::<A>(&client, &proxy);
    // It is what it was and can't be used yet; all that follows happens under one connection.
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    proxy.set(Fault::None);
    eventually("a probe to fail", LIMIT, || {
        matches!(A::status(&client).cause, Some(Cause::NotReady(_))).then_some(())
    });
    let connections = proxy.connections();
    follow(&mut witness, &another);
    witness.ok(&["REPLICAOF", "NO", "ONE"]);
    witness.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    // To let go of a client is to have it probe at once.
    A::force(&client, Some(Forced::Memory));
    A::force(&client, None);
    until_health::<A>(&client, Health::Live);
    assert_eq!(proxy.connections(), connections);
    changes.expect(1, 1);
    check_other_data::<A>(&client, &proxy, &mut witness, &mut changes);
}

fn a_promoted_replica_goes_on_with_what_was_there<A: Adapter>() {
    let (mut master, replica) = (at_once(), TestServer::start());
    let mut witness = Raw::connect(replica.port());
    witness.ok(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    // A server that was started after the client last saw the first might have taken up an old
    // history. Uptime is told in whole seconds.
    eventually("the replica to be old enough", LIMIT, || {
        let RawReply::Bulk(info) = witness.cmd(&["INFO", "server"]) else { panic!("no text") };
        let info = String::from_utf8(info).expect("a text");
        let seconds = info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"));
        let seconds: u64 = seconds.expect("it says so").trim().parse().expect("a number");
        (seconds >= 3).then_some(())
    });
    let proxy = Proxy::start(master.port());
    let client = A::connect(every_policy(quick(proxy.port()))).expect("there is a server");
    let mut changes = Changes::of::<A>(&client);
    A::wait(client.mset([("cache:k", "old"), ("cache:late", "old"), ("session:k", "old")]))
        .expect("a plain MSET");
    A::wait(client.incrby("count:k", 5)).expect("a plain INCRBY");
    eventually("all to be replicated", LIMIT, || {
        (witness.get("count:k").as_deref() == Some("5")).then_some(())
    });
    proxy.set(Fault::Refuse);
    master.kill();
    until_health::<A>(&client, Health::Degraded);
    A::wait(client.set("cache:k", "ours")).expect("in memory");
    A::wait(client.set("session:k", "ours")).expect("in memory");
    A::wait(client.incrby("count:k", 7)).expect("in memory");
    A::wait(client.incrby("count:new", 7)).expect("in memory");
    proxy.set_target(replica.port());
    proxy.set(Fault::None);
    // As long as it is a replica it is not used.
    eventually("a probe to fail", LIMIT, || (proxy.requests_seen(b"ROLE") > 0).then_some(()));
    witness.ok(&["REPLICAOF", "NO", "ONE"]);
    until_health::<A>(&client, Health::Live);
    changes.expect(1, 1);
    assert_eq!(lineages(&mut changes), [Lineage::Continued]);
    assert_eq!(witness.get("cache:k"), None);
    assert_eq!(witness.get("session:k").as_deref(), Some("ours"));
    assert_eq!(witness.get("count:k").as_deref(), Some("12"));
    assert_eq!(witness.get("count:new").as_deref(), Some("7"));
    assert_eq!(skipped(&mut changes), []);
    // What was remembered of the first is as true of the second.
    cut::<A>(&proxy, &client);
    check_get::<A>(&client, "cache:late", Some("old"), Source::Shadow);
}

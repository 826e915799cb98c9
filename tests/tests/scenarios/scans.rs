//! Scans: what stays comes up, whatever happens meanwhile, or there is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Config, FailureKind, Fallback, Policy,
    commands::prelude::*,
    config::ProtocolChoice,
    dialogue::Scans,
    engine::{Event, Health},
    failure::Executed,
    handle::Views,
};
use unfazed_tests::{Proxy, Raw, Server as TestServer};

use crate::{
    adapters::{Adapter, in_cluster, scenarios},
    site::Site,
    support::{Changes, PROTOCOLS, SILENCE, at, failure, quick, until_health},
};

scenarios! {
    everything_there_is_comes_up_over_both_protocols,
    a_scan_finds_all_keys_that_stay_while_others_write,
    a_scan_goes_on_where_it_was_when_only_its_connection_was_lost,
    a_scan_misses_no_key_when_the_server_is_restarted_in_the_middle,
    a_scan_needs_no_permission_to_ask_who_the_server_is,
    a_scan_fails_where_no_server_comes_back,
    what_was_begun_on_the_server_does_not_end_in_memory,
    an_embedded_store_is_scanned_as_a_server_is,
    an_error_ends_a_scan_and_is_told_once,
    a_scan_that_is_left_alone_costs_no_connection,
    each_page_has_the_time_limit_of_its_view,
}

in_cluster! {
    an_error_ends_a_scan_and_is_told_once,
}

/// Writes keys `name:0` to `name:<count - 1>`.
fn fill(port: u16, name: &str, count: usize) -> BTreeSet<String> {
    let mut raw = Raw::connect(port);
    let keys: Vec<_> = (0..count).map(|at| format!("{name}:{at}")).collect();
    for some in keys.chunks(5_000) {
        let words = some.iter().flat_map(|key| [&**key, "1"]);
        raw.ok(&std::iter::once("MSET").chain(words).collect::<Vec<_>>());
    }
    keys.into_iter().collect()
}

fn everything_there_is_comes_up_over_both_protocols<A: Adapter>() {
    let server = TestServer::start();
    let mut raw = Raw::connect(server.port());
    let keys = fill(server.port(), "key", 500);
    for at in 0..300 {
        let (member, number) = (format!("m{at}"), at.to_string());
        raw.int(&["HSET", "hash", &member, &number]);
        raw.int(&["SADD", "set", &member]);
        raw.int(&["ZADD", "sorted", &format!("{at}.5"), &member]);
    }
    for protocol in PROTOCOLS {
        let client = A::connect(at(server.port()).protocol(protocol)).expect("there is a server");
        let found = A::all(client.scan::<String>()).expect("no error");
        assert_eq!(found.len(), 503, "and nothing twice where nothing changes");
        let found = A::all(client.scan_match::<String>("key:*")).expect("no error");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
        let some = ScanOptions::new().pattern("s*").kind("zset").count(1_000);
        assert_eq!(A::all(client.scan_with::<String>(some)).expect("no error"), ["sorted"]);

        let fields: BTreeMap<String, u32> =
            A::all(client.hscan("hash")).expect("no error").into_iter().collect();
        assert_eq!(fields, (0..300).map(|at| (format!("m{at}"), at)).collect());
        let some = ScanOptions::new().pattern("m29?").count(7);
        assert_eq!(
            A::all(client.hscan_with::<String, u32>("hash", some)).expect("no error").len(),
            10
        );
        let members = A::all(client.sscan::<String>("set")).expect("no error");
        assert_eq!(members.into_iter().collect::<BTreeSet<_>>(), fields.keys().cloned().collect());
        let some = ScanOptions::new().pattern("m1");
        assert_eq!(A::all(client.sscan_with::<String>("set", some)).expect("no error"), ["m1"]);
        let scores = A::all(client.zscan::<String>("sorted")).expect("no error");
        assert_eq!(scores.len(), 300);
        assert!(scores.iter().all(|(member, score)| f64::from(fields[member]) + 0.5 == *score));
        let some = A::all(client.zscan_with::<String>("sorted", some)).expect("no error");
        assert_eq!(some, [("m1".to_owned(), 1.5)]);
        assert!(A::all(client.hscan::<String, String>("none")).expect("no error").is_empty());
    }
}

fn a_scan_finds_all_keys_that_stay_while_others_write<A: Adapter>() {
    let server = TestServer::start();
    let stay = fill(server.port(), "stay", 100_000);
    let port = server.port();
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let done = done.clone();
        thread::spawn(move || {
            // Enough of them that the server's table grows and shrinks under the scan.
            let mut raw = Raw::connect(port);
            while !done.load(Ordering::Relaxed) {
                fill(port, "come", 60_000);
                for at in 0..60 {
                    let keys: Vec<_> =
                        (0..1_000).map(|key| format!("come:{}", at * 1_000 + key)).collect();
                    let words = std::iter::once("UNLINK").chain(keys.iter().map(String::as_str));
                    raw.int(&words.collect::<Vec<_>>());
                }
            }
        })
    };
    let client = A::connect(at(port)).expect("there is a server");
    let found = A::all(client.scan_with::<String>(ScanOptions::new().count(500)));
    done.store(true, Ordering::Relaxed);
    writer.join().expect("it does not panic");
    let found: BTreeSet<_> = found.expect("no error").into_iter().collect();
    assert_eq!(stay.difference(&found).count(), 0);
}

fn a_scan_goes_on_where_it_was_when_only_its_connection_was_lost<A: Adapter>() {
    let server = TestServer::start();
    let keys = fill(server.port(), "key", 20_000);
    let proxy = Proxy::start(server.port());
    let client = A::connect(quick(proxy.port())).expect("there is a server");
    let mut scan = client.scan_with::<String>(ScanOptions::new().count(100));
    let mut found = Vec::new();
    while let Some(key) = A::next_item(&mut scan) {
        found.push(key.expect("no error"));
        if found.len().is_multiple_of(4_000) {
            proxy.reset_all();
        }
    }
    assert_eq!(found.len(), keys.len(), "it never began anew");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    assert!(proxy.connections() >= 4, "{}", proxy.connections());
}

fn a_scan_misses_no_key_when_the_server_is_restarted_in_the_middle<A: Adapter>() {
    let mut server = TestServer::start();
    let keys = fill(server.port(), "key", 20_000);
    let client = A::connect(quick(server.port())).expect("there is a server");
    let mut scan = client.scan_with::<String>(ScanOptions::new().count(100));
    let mut found = BTreeSet::new();
    let mut restarts = 0;
    while let Some(key) = A::next_item(&mut scan) {
        found.insert(key.expect("no error"));
        // By its order of keys, which is another one each time, half of them are still to come.
        if restarts < 2 && found.len() >= 10_000 * (restarts + 1) - 1_000 {
            restarts += 1;
            server.restart();
        }
    }
    assert_eq!(restarts, 2);
    assert_eq!(found, keys);
}

fn a_scan_needs_no_permission_to_ask_who_the_server_is<A: Adapter>() {
    let server = TestServer::start();
    let keys = fill(server.port(), "key", 2_000);
    let mut raw = Raw::connect(server.port());
    raw.ok(&["ACL", "SETUSER", "scanner", "on", ">open", "~*", "+@all", "-info"]);
    let proxy = Proxy::start(server.port());
    let config = quick(proxy.port()).username("scanner").password("open");
    let client = A::connect(config).expect("there is a server");
    let mut scan = client.scan::<String>();
    let mut found = Vec::new();
    while let Some(key) = A::next_item(&mut scan) {
        found.push(key.expect("no error"));
        if found.len() == 1_000 {
            proxy.reset_all();
        }
    }
    assert!(found.len() > 2_000, "nobody can tell, so it begins anew");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
}

fn a_scan_fails_where_no_server_comes_back<A: Adapter>() {
    let mut server = TestServer::start();
    fill(server.port(), "key", 2_000);
    let client = A::connect(quick(server.port()).deadline(SILENCE)).expect("there is a server");
    let mut scan = client.scan::<String>();
    A::next_item(&mut scan).expect("there are some").expect("no error");
    server.kill();
    let last = std::iter::from_fn(|| A::next_item(&mut scan)).last();
    let failure = failure(last.expect("it does not just end"));
    assert!(failure.is_timeout(), "{failure}");
    assert_eq!(failure.command(), "SCAN");
    assert!(A::next_item(&mut scan).is_none());
}

fn what_was_begun_on_the_server_does_not_end_in_memory<A: Adapter>() {
    let mut server = TestServer::start();
    fill(server.port(), "key", 2_000);
    let config = quick(server.port()).fallback(Fallback::memory("*", Policy::Discard));
    let client = A::connect(config).expect("there is a server");
    let mut scan = client.scan::<String>();
    A::next_item(&mut scan).expect("there are some").expect("no error");
    server.kill();
    until_health::<A>(&client, Health::Degraded);
    let last = std::iter::from_fn(|| A::next_item(&mut scan)).last();
    let failure = failure(last.expect("it does not just end"));
    assert!(matches!(failure.kind(), FailureKind::Memory(_)), "{failure}");
}

fn an_embedded_store_is_scanned_as_a_server_is<A: Adapter>() {
    let client = A::connect(Config::memory()).expect("it needs no server");
    for at in 0..500 {
        A::wait(client.set(format!("key:{at}"), at)).expect("a plain SET");
    }
    A::wait(client.hset("hash", [("f", 1), ("g", 2)])).expect("a plain HSET");
    let all = A::all(client.scan_with::<String>(ScanOptions::new().count(7))).expect("no error");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 501);
    let some = A::all(client.scan_match::<String>("key:1?")).expect("no error");
    assert_eq!(some.len(), 10);
    let fields: BTreeMap<String, u32> =
        A::all(client.hscan("hash")).expect("no error").into_iter().collect();
    assert_eq!(fields.len(), 2);
}

fn an_error_ends_a_scan_and_is_told_once<A: Adapter>() {
    let server = Site::start();
    let client = A::connect(server.config().protocol(ProtocolChoice::Resp3)).expect("a server");
    A::wait(client.set("word", "no hash")).expect("a plain SET");
    let mut scan = client.hscan::<String, String>("word");
    let failed = failure(A::next_item(&mut scan).expect("an error is no end"));
    assert_eq!(failed.server_error().expect("the server's").code(), "WRONGTYPE");
    assert_eq!((failed.command(), failed.executed()), ("HSCAN", Executed::Yes));
    assert!(failed.node().is_some());
    assert!(A::next_item(&mut scan).is_none());
    A::wait(client.set(&b"\xff"[..], 1)).expect("a plain SET");
    let failed = failure(A::all(client.scan::<String>()));
    assert!(matches!(failed.kind(), FailureKind::Decode(_)), "{failed}");
    assert_eq!(A::all(client.scan::<Vec<u8>>()).expect("any bytes will do").len(), 2);
}

fn a_scan_that_is_left_alone_costs_no_connection<A: Adapter>() {
    let server = TestServer::start();
    fill(server.port(), "key", 2_000);
    let client = A::lazy(quick(server.port())).expect("a good configuration");
    let mut changes = Changes::of::<A>(&client);
    let mut scan = client.scan_with::<String>(ScanOptions::new().count(500));
    A::next_item(&mut scan).expect("there are some").expect("no error");
    // The page after this one was asked for, and nobody waits for it.
    thread::sleep(3 * SILENCE);
    assert_eq!(std::iter::from_fn(|| A::next_item(&mut scan)).count(), 1_999);
    let lost = changes.events().iter().filter(|event| matches!(event, Event::Error { .. }));
    assert_eq!(lost.count(), 0);
}

fn each_page_has_the_time_limit_of_its_view<A: Adapter>() {
    let server = TestServer::start();
    fill(server.port(), "key", 100);
    let client = A::connect(at(server.port())).expect("there is a server");
    let limit = Duration::from_secs(10);
    assert_eq!(A::all((&client).within(limit).scan::<String>()).expect("no error").len(), 100);
    server.stop();
    let failure = failure(A::all((&client).within(Duration::from_millis(50)).scan::<String>()));
    assert!(failure.is_timeout(), "{failure}");
    server.cont();
}

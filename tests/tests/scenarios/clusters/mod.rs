//! One client of a real cluster: used like one server, while slots and masters change under it.

mod load;
mod many;
mod under_load;

use std::time::Duration;

use unfazed_core::{
    Config,
    commands::prelude::*,
    config::{AddressMap, ClusterMap},
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::{Pipelines, Transactions, Views},
    resp::Source,
};
use unfazed_tests::{Announce, Cluster, Layout, eventually, key_slot};

use crate::{
    adapters::{Adapter, scenarios},
    support::{LIMIT, PROTOCOLS, failure, until_health},
};

scenarios! {
    a_cluster_is_used_like_one_server,
    unreachable_addresses_lead_through_the_map,
    a_shard_and_a_whole_cluster_are_down_and_back,
}

fn config(cluster: &Cluster) -> Config {
    Config::from_url(&cluster.url()).expect("a cluster's URL")
}

fn a_cluster_is_used_like_one_server<A: Adapter>() {
    let cluster = Cluster::with(Layout { replicas: 0, ..Layout::default() });
    for protocol in PROTOCOLS {
        for map in [ClusterMap::Shards, ClusterMap::Slots] {
            let config = config(&cluster).protocol(protocol).cluster_map(map);
            let client = A::connect(config).expect("there is a cluster");
            use_like_one_server::<A>(&client);
        }
    }
}

fn use_like_one_server<A: Adapter>(client: &A::Client) {
    A::wait(client.flushall()).expect("all masters are there");
    let keys: Vec<String> = (0..300).map(|at| format!("key:{at}")).collect();
    for (at, key) in keys.iter().enumerate() {
        A::wait(client.set(key, at)).expect("a plain SET");
        let read: Option<usize> = A::wait(client.get(key)).expect("a plain GET");
        assert_eq!(read, Some(at));
    }
    assert_eq!(A::wait(client.dbsize()).expect("a plain DBSIZE"), 300);
    let mut found: Vec<String> = A::wait(client.keys("key:*")).expect("a plain KEYS");
    found.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    let all: Vec<Option<usize>> = A::wait(client.mget(keys.as_slice())).expect("a plain MGET");
    assert_eq!(all, (0..300).map(Some).collect::<Vec<_>>());
    A::wait(client.mset([("a", 1), ("b", 2), ("c", 3)])).expect("a plain MSET");
    let counted: Vec<i64> =
        A::wait_all(client.pipeline(|p| keys.iter().map(|key| p.incr(key)).collect::<Vec<_>>()))
            .expect("a pipeline over all nodes");
    assert_eq!(counted, (1..=300).collect::<Vec<i64>>());
    assert_eq!(A::wait(client.exists_count(keys.as_slice())).expect("a plain EXISTS"), 300);
    assert_eq!(A::wait(client.del(keys.as_slice())).expect("a plain DEL"), 300);
    let (first, second): (i64, i64) =
        A::wait_all(client.transaction(|t| (t.incr("{user:7}.a"), t.incr("{user:7}.b"))))
            .expect("one slot");
    assert_eq!((first, second), (1, 1));
    let across = failure(A::wait_all(client.transaction(|t| (t.incr("a"), t.incr("b")))));
    assert!(matches!(across.kind(), FailureKind::Misuse(_)), "{across}");
    assert_eq!(across.executed(), Executed::No);
    A::wait(client.ping()).expect("all nodes are there");
}

fn unreachable_addresses_lead_through_the_map<A: Adapter>() {
    let layout = Layout { replicas: 0, announce: Announce::Hostnames, ..Layout::default() };
    let mut cluster = Cluster::with(layout);
    let map = AddressMap::new()
        .function(|host, port| host.ends_with(".invalid").then(|| ("127.0.0.1".to_owned(), port)));
    let client = A::connect(config(&cluster).address_map(map)).expect("it leads to this machine");
    for at in 0..100 {
        A::wait(client.set(format!("key:{at}"), at)).expect("a plain SET");
    }
    let moved = key_slot(b"key:7");
    let other = (cluster.owner(moved) + 1) % 3;
    cluster.move_slot(moved, other);
    let read: Option<usize> = A::wait(client.get("key:7")).expect("MOVED goes through it as well");
    assert_eq!(read, Some(7));
    cluster.kill_all();
}

fn a_shard_and_a_whole_cluster_are_down_and_back<A: Adapter>() {
    let layout = Layout { replicas: 0, full_coverage: false, ..Layout::default() };
    let mut cluster = Cluster::with(layout);
    let config = config(&cluster)
        .fallback(Fallback::memory("cache:*", Policy::ReplayLastWins))
        .dial_backoff_max(Duration::from_millis(100))
        .probe_interval(Duration::from_millis(100))
        .probe_gap(Duration::from_millis(20))
        .barrier_max(Duration::from_millis(50));
    let client = A::connect(config).expect("there is a cluster");
    let keys: Vec<String> = (0..60).map(|at| format!("cache:{at}")).collect();
    // What may have been executed when its shard died is told, and neither merged nor replayed.
    let source =
        |key: &str, value: usize| Some(A::wait(client.sourced().set(key, value)).ok()?.source);
    for key in &keys {
        assert_eq!(source(key, 0), Some(Source::Server));
    }
    cluster.kill(0);
    until_health::<A>(&client, Health::Degraded);
    let owned: Vec<bool> = {
        let first = 16_384 / 3;
        keys.iter().map(|key| key_slot(key.as_bytes()) <= first).collect()
    };
    for (key, owned) in keys.iter().zip(&owned) {
        let expected = if *owned { Source::Overlay } else { Source::Server };
        assert_eq!(source(key, 1), Some(expected), "{key}");
    }
    cluster.kill_all();
    for key in &keys {
        eventually(key, LIMIT, || (source(key, 2) == Some(Source::Overlay)).then_some(()));
    }
    cluster.restart_all();
    until_health::<A>(&client, Health::Live);
    for key in &keys {
        let read: Option<usize> = A::wait(client.within(LIMIT).get(key)).expect("back");
        assert_eq!(read, Some(2), "{key}");
    }
    assert_eq!(A::status(&client).journal_entries, 0);
}

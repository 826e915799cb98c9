//! One client of a real cluster: used like one server, while slots and masters change under it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    config::{AddressMap, ClusterMap},
    engine::Health,
    failure::{Executed, FailureKind},
    fallback::{Fallback, Policy},
    handle::{Pipelines, Transactions, Views},
    resp::Source,
};
use unfazed_tests::{Announce, Cluster, Failover, Layout, eventually, key_slot};

use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{LIMIT, PROTOCOLS, failure, until_health},
};

scenarios! {
    a_cluster_is_used_like_one_server,
    slots_that_move_and_a_planned_failover_cost_no_error,
    a_killed_master_costs_its_own_keys_an_outage_and_nobody_a_wrong_reply,
    unreachable_addresses_lead_through_the_map,
    a_shard_and_a_whole_cluster_are_down_and_back,
}

/// How many tasks count at the same time.
const TASKS: usize = 64;

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

/// Counts on keys of all slots until it is told to stop; each increment is checked against the last.
async fn count<A: Adapter>(
    client: A::Client,
    key: String,
    stop: Arc<AtomicBool>,
) -> (i64, i64, Vec<Failure>) {
    let (mut last, mut maybe, mut failures) = (0, 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match A::done(client.incr(&key)).await {
            Ok(count) => {
                assert!(count > last && count <= last + 1 + maybe, "{key}: {count} after {last}");
                maybe -= count - last - 1;
                last = count;
            }
            Err(lost) => {
                maybe += i64::from(lost.executed() != Executed::No);
                failures.push(lost);
            }
        }
    }
    (last, maybe, failures)
}

fn slots_that_move_and_a_planned_failover_cost_no_error<A: Adapter>() {
    let mut cluster = Cluster::start();
    // A master that is about to step down answers no write until its replica has caught up, for 5 s at most.
    let config = config(&cluster).response_timeout(Duration::from_secs(8)).deadline(LIMIT);
    let client = A::connect(config).expect("there is a cluster");
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = (0..TASKS)
        .map(|at| spawn::<A, _>(count::<A>(client.clone(), format!("count:{at}"), stop.clone())));
    let tasks: Vec<_> = tasks.collect();
    let slots = cluster.slots(0);
    cluster.move_slots(&slots[..400], 1);
    cluster.move_slots(&slots[..400], 0);
    let replica = cluster.replicas(1)[0];
    cluster.failover(replica, Failover::Planned);
    let busy = key_slot(b"count:0");
    let (owner, other) = (cluster.owner(busy), cluster.owner((busy + 8192) % 16_384));
    if owner != other {
        cluster.move_slot(busy, other);
    }
    thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    for (at, task) in tasks.into_iter().enumerate() {
        let (last, maybe, failures) = task.join();
        assert!(failures.is_empty(), "{failures:?}");
        let stored: Option<i64> = A::wait(client.get(format!("count:{at}"))).expect("a plain GET");
        assert_eq!((stored, maybe), (Some(last), 0));
        assert!(last > 0);
    }
}

fn a_killed_master_costs_its_own_keys_an_outage_and_nobody_a_wrong_reply<A: Adapter>() {
    let mut cluster = Cluster::start();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let hit = cluster.owner(key_slot(b"probed"));
    let prober = cluster.prober("probed");
    let of_hit = |key: &String| cluster.owner(key_slot(key.as_bytes())) == hit;
    let (dead, well): (Vec<_>, Vec<_>) = (0..300).map(|at| format!("count:{at}")).partition(of_hit);
    let stop = Arc::new(AtomicBool::new(false));
    let run = |key: &String| spawn::<A, _>(count::<A>(client.clone(), key.clone(), stop.clone()));
    let well: Vec<_> = well.iter().take(TASKS / 2).map(run).collect();
    let dead: Vec<_> = dead.iter().take(TASKS / 2).map(run).collect();
    thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    cluster.kill(hit);
    let after = killed + Duration::from_millis(100);
    let writable = eventually("another master", LIMIT, || prober.first_after(after));
    let back = loop {
        if A::wait(client.within(LIMIT).set("probed", "x")).is_ok() {
            break Instant::now();
        }
    };
    let late = back.saturating_duration_since(writable);
    println!("writable again after {:?}, back {late:?} later", writable - killed);
    assert!(late < Duration::from_secs(3), "{late:?}");
    stop.store(true, Ordering::Relaxed);
    for task in well {
        let (last, maybe, failures) = task.join();
        assert!(failures.is_empty() && maybe == 0 && last > 0, "{failures:?}");
    }
    for task in dead {
        let (_, _, failures) = task.join();
        for lost in failures {
            assert!(lost.executed() == Executed::Maybe || lost.is_timeout(), "{lost}");
        }
    }
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

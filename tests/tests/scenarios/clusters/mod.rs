//! One client of a real cluster: used like one server, while slots and masters change under it.

mod load;
mod many;
mod outages;
mod under_load;

use unfazed_core::{
    Config,
    commands::prelude::*,
    config::{AddressMap, ClusterMap, Endpoint},
    failure::{Executed, FailureKind},
    handle::{OptimisticTransactions, Pipelines, Slot, Transactions},
};
use unfazed_tests::{Announce, Cluster, Failover, Layout, RawReply, key_slot};

use crate::{
    adapters::{Adapter, scenarios},
    support::{LIMIT, PROTOCOLS, failure},
};

scenarios! {
    a_cluster_is_used_like_one_server,
    unreachable_names_lead_through_the_map,
    unreachable_addresses_lead_through_the_map,
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
            name_who_answered::<A>(&client, &cluster);
        }
    }
}

/// What can't be read names the node that gave it.
fn name_who_answered<A: Adapter>(client: &A::Client, cluster: &Cluster) {
    for key in ["hello", "name", "foo"] {
        let node = format!("127.0.0.1:{}", cluster.port(cluster.owner(key_slot(key.as_bytes()))));
        A::wait(client.set(key, "a text")).expect("a plain SET");
        let alone = failure(A::wait(client.get::<i64>(key)));
        let piped = failure(A::wait_all(client.pipeline(|p| p.get::<i64>(key))));
        let whole = failure(A::wait_all(client.transaction(|t| t.get::<i64>(key))));
        let decided = failure(A::block_on(A::settled(client.optimistic(
            key,
            move |read| read.get::<i64>(key),
            |_, _| None::<Slot<()>>,
        ))));
        for told in [alone, piped, whole, decided] {
            assert!(matches!(told.kind(), FailureKind::Decode(_)), "{told}");
            assert_eq!((told.command(), told.node()), ("GET", Some(&*node)), "{told}");
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

/// A client that knows one node, and is told of the others by names or addresses that lead nowhere without
/// the map.
fn lead_through<A: Adapter>(cluster: &mut Cluster, map: AddressMap, slots: ClusterMap) {
    let config = Config::cluster([Endpoint::tcp("127.0.0.1", cluster.port(0))])
        .address_map(map)
        .cluster_map(slots)
        .connect_timeout(LIMIT)
        .deadline(LIMIT);
    let client = A::connect(config).expect("it leads here");
    let keys: Vec<String> = (0..100).map(|at| format!("key:{at}")).collect();
    let write = |value: usize| {
        for key in &keys {
            A::wait(client.set(key, value)).expect("a plain SET");
        }
    };
    let read = || {
        let values = A::wait(client.mget::<Vec<Option<usize>>>(keys.as_slice()));
        values.expect("a plain MGET")
    };
    write(0);

    // ASK, and the MOVED that ends it.
    let [here, there] = ["{tag}here", "{tag}there"];
    let slot = key_slot(here.as_bytes());
    let other = (cluster.owner(slot) + 1) % 3;
    A::wait(client.set(here, 1)).expect("a plain SET");
    cluster.begin_move(slot, other);
    while cluster.move_keys(slot, other, 1) > 0 {}
    let asked: Option<usize> = A::wait(client.get(here)).expect("ASK goes through it");
    A::wait(client.set(there, 2)).expect("also for what is new");
    cluster.end_move(slot, other);
    let moved: Option<usize> = A::wait(client.get(there)).expect("MOVED goes through it");
    assert_eq!((asked, moved), (Some(1), Some(2)));

    // A master that nobody has heard of before.
    let replica = cluster.replicas(1)[0];
    cluster.failover(replica, Failover::Planned);
    write(1);
    assert_eq!(read(), vec![Some(1); keys.len()]);
    cluster.kill(2);
    write(2);
    assert_eq!(read(), vec![Some(2); keys.len()]);
}

fn unreachable_names_lead_through_the_map<A: Adapter>() {
    let mut cluster = Cluster::with(Layout { announce: Announce::Hostnames, ..Layout::default() });
    let map = AddressMap::new()
        .function(|host, port| host.ends_with(".invalid").then(|| ("127.0.0.1".to_owned(), port)));
    lead_through::<A>(&mut cluster, map, ClusterMap::Shards);
}

fn unreachable_addresses_lead_through_the_map<A: Adapter>() {
    let mut cluster = Cluster::with(Layout { announce: Announce::Addresses, ..Layout::default() });
    // The nodes need these to reach each other; a client that used one would be seen there.
    let map = (0..cluster.len()).fold(AddressMap::new(), |map, node| {
        let (host, port) = (format!("127.77.0.{}", node + 1), cluster.port(node));
        map.entry(host, port, "127.0.0.1", port)
    });
    lead_through::<A>(&mut cluster, map, ClusterMap::Slots);
    for node in [0, 1, 3, 4, 5] {
        let clients = match cluster.raw(node).cmd(&["CLIENT", "LIST", "TYPE", "NORMAL"]) {
            RawReply::Bulk(list) => String::from_utf8(list).expect("a text"),
            other => panic!("{other:?}"),
        };
        assert!(!clients.contains("laddr=127.77"), "{clients}");
    }
}

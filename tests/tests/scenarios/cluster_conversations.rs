//! Scans and subscriptions in a real cluster, while slots and masters change under them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use unfazed_core::{
    Config, Request,
    commands::{Run, prelude::*},
    dialogue::Scans,
    failure::FailureKind,
    handle::{Pipelines, Subscribe, Views},
    pubsub::Incoming,
};
use unfazed_tests::{Cluster, Layout, Raw, RawReply, eventually, key_slot};

use crate::{
    adapters::{Adapter, scenarios, spawn},
    support::{LIMIT, PROTOCOLS, failure},
};

scenarios! {
    a_scan_finds_all_keys_while_slots_move_under_it,
    a_scan_goes_through_a_failover,
    what_lies_in_one_key_is_scanned_at_the_node_of_its_slot,
    a_thousand_shard_channels_follow_their_slots_and_gaps_are_told,
    plain_channels_move_when_their_node_dies,
}

fn config(cluster: &Cluster) -> Config {
    Config::from_url(&cluster.url()).expect("a cluster's URL").deadline(LIMIT)
}

/// Three masters without replicas.
fn masters() -> Cluster {
    Cluster::with(Layout { replicas: 0, ..Layout::default() })
}

/// Writes keys `key:0` to `key:<count - 1>`.
fn fill<A: Adapter>(client: &A::Client, count: usize) -> BTreeSet<String> {
    let keys: Vec<_> = (0..count).map(|at| format!("key:{at}")).collect();
    for some in keys.chunks(1_000) {
        A::wait_all(client.pipeline(|p| some.iter().map(|key| p.set(key, 1)).collect::<Vec<_>>()))
            .expect("all masters are there");
    }
    keys.into_iter().collect()
}

fn a_scan_finds_all_keys_while_slots_move_under_it<A: Adapter>() {
    let cluster = masters();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let keys = fill::<A>(&client, 6_000);
    let found: Vec<String> = A::all(client.scan()).expect("no error");
    assert_eq!(found.len(), keys.len(), "and nothing twice where nothing changes");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    let tagged: Vec<String> = A::all(client.scan_match("key:1*")).expect("no error");
    assert_eq!(tagged.len(), keys.iter().filter(|key| key.starts_with("key:1")).count());
    let none: Vec<String> =
        A::all(client.scan_with(ScanOptions::new().kind("set"))).expect("no error");
    assert!(none.is_empty());
    let raw = failure(A::wait::<()>(client.run(Request::new("SCAN").arg(&"0"))));
    assert!(matches!(raw.kind(), FailureKind::Misuse(_)), "{raw}");

    // From a node whose turn is still to come to one that has had it.
    let mut scan = client.scan_with::<String>(ScanOptions::new().count(100));
    let mut found = BTreeSet::new();
    while found.len() < 3_000 {
        found.insert(A::next_item(&mut scan).expect("there is more").expect("no error"));
    }
    let late = cluster.slots(2);
    cluster.move_slots(&late[late.len() - 500..], 0);
    found.extend(A::all::<_>(scan).expect("no error"));
    assert_eq!(keys.difference(&found).count(), 0);

    // And all the while.
    let (over, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let slots = cluster.slots(1);
            while !over.load(Ordering::Relaxed) {
                let turn = turns.fetch_add(1, Ordering::Relaxed);
                cluster.move_slots(&slots[..150], (turn + 2) % 3);
                // All nodes are to hear of it before the next.
                thread::sleep(Duration::from_millis(400));
            }
        });
        let mut result = Ok(0);
        while result == Ok(0) && turns.load(Ordering::Relaxed) < 5 {
            let found = A::all(client.scan_with::<String>(ScanOptions::new().count(20)));
            let found = found.map(|found| found.into_iter().collect::<BTreeSet<_>>());
            let missed = found.map(|found| keys.difference(&found).count());
            result = missed.map_err(|failure| failure.to_string());
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(result, Ok(0), "so many are missed");
    });
}

fn a_scan_goes_through_a_failover<A: Adapter>() {
    let mut cluster = Cluster::start();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let keys = fill::<A>(&client, 3_000);
    for master in 0..3 {
        Raw::connect(cluster.port(master)).int(&["WAIT", "1", "10000"]);
    }
    let mut scan = client.within(LIMIT).scan_with::<String>(ScanOptions::new().count(50));
    let mut found = BTreeSet::new();
    // One in the middle of whose part it is, and one that has had none.
    for (more, master) in [(500, 0), (1_200, 2)] {
        while found.len() < more {
            found.insert(A::next_item(&mut scan).expect("there is more").expect("no error"));
        }
        cluster.kill(master);
    }
    found.extend(A::all::<_>(scan).expect("no error"));
    assert_eq!(keys.difference(&found).count(), 0);
}

fn what_lies_in_one_key_is_scanned_at_the_node_of_its_slot<A: Adapter>() {
    let cluster = masters();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let members: BTreeSet<usize> = (0..5_000).collect();
    let all: Vec<usize> = members.iter().copied().collect();
    for some in all.chunks(1_000) {
        A::wait(client.sadd("set", some)).expect("its master is there");
    }
    let owner = cluster.owner(key_slot(b"set"));
    let mut scan = client.sscan_with::<usize>("set", ScanOptions::new().count(100));
    let mut found = Vec::new();
    while let Some(member) = A::next_item(&mut scan) {
        found.push(member.expect("no error"));
        if found.len().is_multiple_of(1_000) {
            // The connections to all other nodes are lost.
            for node in (0..3).filter(|node| *node != owner) {
                Raw::connect(cluster.port(node)).cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            for at in 0..30 {
                A::wait(client.exists(format!("elsewhere:{at}"))).expect("they are there again");
            }
        }
    }
    assert_eq!(found.len(), members.len(), "it never began anew");

    let mut scan = client.sscan_with::<usize>("set", ScanOptions::new().count(100));
    let mut found = BTreeSet::new();
    while found.len() < 2_000 {
        found.insert(A::next_item(&mut scan).expect("there is more").expect("no error"));
    }
    let slot = key_slot(b"set");
    let heir = (owner + 1) % 3;
    cluster.begin_move(slot, heir);
    while cluster.move_keys(slot, heir, 10) > 0 {}
    thread::scope(|scope| {
        scope.spawn(|| {
            // Meanwhile its old node sends whoever asks on to the new one, which has an order of its own.
            thread::sleep(Duration::from_millis(300));
            cluster.end_move(slot, heir);
        });
        found.extend(A::all::<_>(scan).expect("no error"));
    });
    assert_eq!(found, members);
}

/// How many shard channels these nodes have, all together.
fn shard_channels(cluster: &Cluster, nodes: &[usize]) -> usize {
    let count =
        |node: &usize| match Raw::connect(cluster.port(*node)).cmd(&["PUBSUB", "SHARDCHANNELS"]) {
            RawReply::Array(items) => items.len(),
            other => panic!("no list: {other:?}"),
        };
    nodes.iter().map(count).sum()
}

/// How long one look at a stream takes at most, of which messages come all the time.
const READ_MAX: Duration = Duration::from_secs(1);

/// What a reader of numbered messages has heard.
#[derive(Default)]
struct Heard {
    /// The last number of each channel, and how many gaps were over when it came.
    last: BTreeMap<String, (u64, u32)>,
    messages: usize,
    gaps: u32,
    /// In the middle of one.
    lost: bool,
    /// What was missed without a word.
    missed: Vec<String>,
}

impl Heard {
    /// Reads until nothing more comes within `quiet`, or somebody has published for so long.
    fn read<A: Adapter>(&mut self, stream: &mut A::Stream, quiet: Duration) {
        let until = Instant::now() + READ_MAX;
        while Instant::now() < until {
            match A::read(stream, quiet).expect("it is open") {
                None => return,
                Some(Incoming::Lost { .. }) => {
                    assert!(!std::mem::replace(&mut self.lost, true), "told twice");
                    self.gaps += 1;
                }
                Some(Incoming::Restored) => {
                    assert!(std::mem::replace(&mut self.lost, false), "nothing was lost");
                }
                Some(Incoming::Message(message)) => {
                    let channel = message.channel_name().into_owned();
                    let number = message.payload.to_str().expect("text").parse().expect("a number");
                    self.messages += 1;
                    // What is missing in the middle of a gap is told by that one.
                    let now = (number, self.gaps - u32::from(self.lost));
                    let (last, gaps) = self.last.insert(channel.clone(), now).unwrap_or((0, 0));
                    assert!(number > last, "{channel}: {number} after {last}");
                    if number != last + 1 && gaps == self.gaps {
                        self.missed.push(format!("{channel}: {number} after {last}"));
                    }
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// Reads until the message of this number has come on each of the thousand channels.
    fn until_all_have<A: Adapter>(&mut self, stream: &mut A::Stream, number: u64) {
        eventually(&format!("message {number} on all channels"), LIMIT, || {
            self.read::<A>(stream, Duration::from_millis(20));
            let count = self.last.values().filter(|last| last.0 == number).count();
            (count == 1_000).then_some(())
        });
    }

    /// Reads until all is well again and these nodes have all of so many channels.
    fn settle<A: Adapter>(
        &mut self,
        stream: &mut A::Stream,
        count: usize,
        cluster: &Cluster,
        nodes: &[usize],
    ) {
        eventually("all channels to be carried", LIMIT, || {
            self.read::<A>(stream, Duration::from_millis(50));
            (!self.lost && shard_channels(cluster, nodes) == count).then_some(())
        });
    }
}

/// Publishes a number to each channel, one more than the last.
fn publish_all<A: Adapter>(client: &A::Client, channels: &[String], number: u64) -> u64 {
    let reached: Vec<u64> =
        A::wait_all(client.pipeline(|p| {
            channels.iter().map(|name| p.spublish(name, number)).collect::<Vec<_>>()
        }))
        .expect("all masters are there");
    reached.iter().sum()
}

/// Publishes to these channels, one after the other, until it is told to stop; from number 2 on. Gives the
/// last.
async fn publish_on<A: Adapter>(
    client: A::Client,
    channels: Vec<String>,
    over: Arc<AtomicBool>,
) -> u64 {
    let mut number = 1;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        for name in &channels {
            A::done(client.spublish(name, number)).await.expect("all masters are there");
        }
    }
    number
}

fn a_thousand_shard_channels_follow_their_slots_and_gaps_are_told<A: Adapter>() {
    let mut cluster = Cluster::start();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let channels: Vec<String> = (0..1_000).map(|at| format!("channel:{at}")).collect();
    let mut stream = A::listen(client.ssubscribe(channels.as_slice())).expect("they are served");
    let mut heard = Heard::default();
    assert_eq!(shard_channels(&cluster, &[0, 1, 2]), 1_000);
    assert_eq!(publish_all::<A>(&client, &channels, 1), 1_000);
    heard.until_all_have::<A>(&mut stream, 1);
    assert_eq!((heard.messages, heard.gaps), (1_000, 0));

    // While slots move, somebody publishes all the time.
    let publisher = A::connect(config(&cluster)).expect("there is a cluster");
    let over = Arc::new(AtomicBool::new(false));
    let publishing =
        spawn::<A, _>(publish_on::<A>(publisher, channels[..50].to_vec(), over.clone()));
    for (from, to) in [(0, 1), (2, 0)] {
        let slots = cluster.slots(from);
        for some in slots[..600].chunks(200) {
            cluster.move_slots(some, to);
            heard.read::<A>(&mut stream, Duration::from_millis(10));
        }
    }
    heard.settle::<A>(&mut stream, 1_000, &cluster, &[0, 1, 2]);
    over.store(true, Ordering::Relaxed);
    let last = publishing.join();
    assert!(heard.gaps > 0);
    assert_eq!(publish_all::<A>(&client, &channels, last + 1), 1_000, "each has one subscriber");
    heard.until_all_have::<A>(&mut stream, last + 1);

    // And a master dies.
    cluster.kill(1);
    let heir = eventually("another master", LIMIT, || (3..6).find(|node| cluster.is_master(*node)));
    heard.settle::<A>(&mut stream, 1_000, &cluster, &[0, 2, heir]);
    assert_eq!(publish_all::<A>(&client, &channels, last + 2), 1_000);
    heard.until_all_have::<A>(&mut stream, last + 2);
    assert!(heard.missed.is_empty(), "{:?}", heard.missed);
    assert!(!heard.lost);

    drop(stream);
    eventually("no channel to be left", LIMIT, || {
        (shard_channels(&cluster, &[0, 2, heir]) == 0).then_some(())
    });
}

fn plain_channels_move_when_their_node_dies<A: Adapter>() {
    let layout = Layout { replicas: 0, full_coverage: false, ..Layout::default() };
    let mut cluster = Cluster::with(layout);
    for protocol in PROTOCOLS {
        let client = A::connect(config(&cluster).protocol(protocol)).expect("there is a cluster");
        let mut shared = A::listen(client.subscribe(["news"])).expect("any node takes it");
        let own = client.subscriber().stop_reading().subscribe(["news"]);
        let mut own = A::listen(own).expect("any node takes it");
        let hears = |cluster: &Cluster, node: usize| {
            let reply = Raw::connect(cluster.port(node)).cmd(&["PUBSUB", "NUMSUB", "news"]);
            !matches!(reply, RawReply::Array(items) if matches!(items[1], RawReply::Int(0)))
        };
        let deaths: Vec<usize> = (0..3).filter(|node| hears(&cluster, *node)).collect();
        assert!(!deaths.is_empty() && deaths.len() < 3, "{deaths:?}");
        for node in &deaths {
            cluster.kill(*node);
        }
        for stream in [&mut shared, &mut own] {
            for expected in ["Lost", "Restored"] {
                let next = A::read(stream, LIMIT).expect("it is open").expect("something comes");
                assert!(format!("{next:?}").starts_with(expected), "{next:?}");
            }
        }
        let alive = (0..3).find(|node| !deaths.contains(node)).expect("one is left");
        Raw::connect(cluster.port(alive)).int(&["PUBLISH", "news", "all is well"]);
        for stream in [&mut shared, &mut own] {
            let next = A::read(stream, LIMIT).expect("it is open").expect("something comes");
            let Incoming::Message(message) = next else { panic!("{next:?}") };
            assert_eq!(message.payload.to_str().expect("text"), "all is well");
        }
        drop((shared, own, client));
        cluster.restart_all();
        cluster.until_agreed();
    }
}

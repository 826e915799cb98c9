//! Many clients lose the same node, and don't fall upon those that are left.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use smol::Timer;
use unfazed_core::{commands::prelude::*, config::ProtocolChoice, engine::Health, handle::Views};
use unfazed_tests::{Cluster, RawReply, eventually, key_slot};

use super::config;
use crate::{
    adapters::{Adapter, Task, scenarios, spawn},
    support::LIMIT,
};

scenarios! {
    a_hundred_clients_dial_and_ask_no_more_than_they_may,
}

const CLIENTS: usize = 100;

/// What each client waits for between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a client may ask for the map on average, while it comes every 100 to 400 ms and at least 80 ms
/// are between two; and how many nodes it asks.
const REFRESH_GAP: Duration = Duration::from_millis(160);
const ASKED: u32 = 3;

/// The most that the time between two dials of one node doubles up to, its jitter taken off; and how many
/// come before it is reached, from 50 ms on.
const DIAL_GAP: Duration = Duration::from_millis(400);
const FIRST_DIALS: u32 = 5;

/// Stands where a node was, accepts whoever comes, counts and resets him.
struct Grave {
    dials: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Grave {
    fn at(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nobody is there");
        listener.set_nonblocking(true).expect("a socket of our own");
        let (dials, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (dials, done) = (dials.clone(), done.clone());
            move || {
                while !done.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok(_) => _ = dials.fetch_add(1, Ordering::Relaxed),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            thread::sleep(Duration::from_millis(2));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        Grave { dials, done, thread: Some(thread) }
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What nodes count: connections that they have accepted, and how often they were asked for the map.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: u64,
    refreshes: u64,
}

impl Counts {
    /// Of these nodes together.
    fn of(cluster: &Cluster, nodes: &[usize]) -> Self {
        let mut counts = Counts::default();
        for node in nodes {
            let info = match cluster.raw(*node).cmd(&["INFO", "everything"]) {
                RawReply::Bulk(info) => String::from_utf8(info).expect("a text"),
                other => panic!("{other:?}"),
            };
            let number = |name: &str| -> Option<u64> {
                let (_, rest) = info.split_once(name)?;
                let digits = rest.split(|sign: char| !sign.is_ascii_digit()).next()?;
                digits.parse().ok()
            };
            counts.connections += number("total_connections_received:").expect("it counts them");
            counts.refreshes += number("cmdstat_cluster|shards:calls=").unwrap_or(0);
        }
        counts
    }
}

/// Writes now and then, and gives how many writes failed.
async fn write<A: Adapter>(client: A::Client, number: usize, stop: Arc<AtomicBool>) -> usize {
    let mut failures = 0;
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("key:{}", number * 7 + round);
        // A failover may take as long as a machine that does much else makes it.
        let set = client.within(LIMIT).set(key, round);
        failures += usize::from(A::done(set).await.is_err());
        Timer::after(PAUSE).await;
    }
    failures
}

fn a_hundred_clients_dial_and_ask_no_more_than_they_may<A: Adapter>() {
    let mut cluster = Cluster::start();
    // One that may speak either protocol takes a connection that ends at HELLO for a proxy that does not
    // know it, and tries the other at once: two connections for each dial.
    // And nobody is to take those for silent who have little of the machine.
    let config = || config(&cluster).protocol(ProtocolChoice::Resp3).response_timeout(LIMIT);
    let clients: Vec<A::Client> =
        (0..CLIENTS).map(|_| A::connect(config()).expect("there is a cluster")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| spawn::<A, _>(write::<A>(client.clone(), number, stop.clone())))
        .collect();
    let hit = cluster.owner(key_slot(b"probed"));
    let left: Vec<_> = (0..cluster.len()).filter(|node| *node != hit).collect();
    // Connections that are made only now are not for the death of anybody.
    let masters: Vec<_> = (0..cluster.len()).filter(|node| cluster.is_master(*node)).collect();
    for client in &clients {
        eventually("a client to be connected to each master", LIMIT, || {
            let shards = A::status(client).shards;
            let live = shards.iter().filter(|shard| shard.health == Health::Live);
            (live.count() == masters.len()).then_some(())
        });
    }

    let before = Counts::of(&cluster, &left);
    let killed = Instant::now();
    cluster.kill(hit);
    let grave = Grave::at(cluster.port(hit));
    for client in &clients {
        eventually("a client to be back", LIMIT, || {
            A::wait(client.within(LIMIT).set("probed", "x")).ok()
        });
    }
    let back = killed.elapsed();
    // A map that has changed is no end of it: nobody goes on dialling the dead.
    thread::sleep(Duration::from_secs(1));
    let dials_then = grave.dials.load(Ordering::Relaxed);
    thread::sleep(Duration::from_secs(1));
    let lasted = killed.elapsed();
    let after = Counts::of(&cluster, &left);
    let dials = grave.dials.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    let failed: usize = tasks.into_iter().map(Task::join).sum();

    let refreshes = after.refreshes - before.refreshes;
    let connections = after.connections - before.connections;
    println!(
        "{CLIENTS} clients back after {back:.1?}: {dials} dials of the dead node, {connections} \
         connections to others, {refreshes} times asked for the map in {lasted:.1?}; {failed} failed"
    );
    assert_eq!(failed, 0, "a plain SET goes again");
    let clients = CLIENTS as u64;
    // A machine that does much else may have cost another master its place.
    let heirs = left.iter().filter(|node| cluster.is_master(**node) && !masters.contains(node));
    // Those that asked here are among them.
    let (others, ours) = (clients * heirs.count() as u64, left.len() as u64);
    assert!(connections <= others + ours, "{connections} connections");
    let dials_max = clients * u64::from(FIRST_DIALS + periods(back, DIAL_GAP));
    assert!(dials as u64 <= dials_max, "{dials} dials, {dials_max} allowed");
    assert_eq!(dials, dials_then, "the dead node is forgotten");
    let refreshes_max = clients * u64::from(ASKED * (1 + periods(lasted, REFRESH_GAP)));
    assert!(refreshes <= refreshes_max, "{refreshes} refreshes, {refreshes_max} allowed");
}

fn periods(span: Duration, gap: Duration) -> u32 {
    span.div_duration_f64(gap).ceil() as u32
}

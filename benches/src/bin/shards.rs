//! What the other shards of a cluster do while one of them is gone.
//!
//! ```text
//! cargo run --release -p unfazed-benches --bin shards -- [--rounds N] [--seconds S] [FILTER…]
//! ```
//!
//! A cluster of three masters with a replica each, which serves what it can (`cluster-require-full-coverage
//! no`). 64 tasks read and write keys of two shards, and eight more a key of the third, which they wait for
//! 100 ms at most. In each round that is timed with all shards, then with the third's master and replica killed
//! (connections are refused) or stopped (nothing answers), then they are back. What is shown is the median of
//! the rounds, in requests of the two shards per second, and what is left of it. `FILTER`s are parts of the
//! clients' names.

use std::{
    env,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use unfazed_core::{
    Config,
    commands::prelude::*,
    handle::{Handle, Views},
};
use unfazed_tests::{Cluster, Layout, key_slot};

const TASKS: usize = 64;
const WAITING: usize = 8;
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the nodes and the client have for noticing what happened before it is timed.
const SETTLE: Duration = Duration::from_secs(4);

/// What the tasks share.
#[derive(Clone, Default)]
struct Shared {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What runs jobs beside this thread.
struct Runner {
    name: &'static str,
    client: Handle,
    spawn: Box<dyn Fn(Job)>,
    /// Drives the client, and goes last.
    _runtime: Option<Runtime>,
}

fn main() {
    let (mut rounds, mut seconds, mut filters) = (5, 1.0, Vec::new());
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => rounds = value().parse().expect("a number of rounds"),
            "--seconds" => seconds = value().parse().expect("a number of seconds"),
            _ => filters.push(arg),
        }
    }
    let span = Duration::from_secs_f64(seconds);
    let mut cluster = Cluster::with(Layout { full_coverage: false, ..Layout::default() });
    let config = Config::from_url(&cluster.url()).expect("a cluster's URL");
    println!("{:<10}{:>10}{:>14}{:>14}{:>8}", "client", "one is", "before", "while", "left");
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part));
    for runner in runners(&config).iter().filter(|runner| wanted(runner.name)) {
        for stopped in [false, true] {
            let (mut before, mut during) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let gone = owners(&cluster);
                before.push(rate(runner, &gone, span));
                for node in gone.nodes {
                    if stopped { cluster.stop(node) } else { cluster.kill(node) }
                }
                thread::sleep(SETTLE);
                during.push(rate(runner, &gone, span));
                for node in gone.nodes {
                    if stopped { cluster.cont(node) } else { cluster.restart(node) }
                }
                cluster.until_agreed();
                thread::sleep(SETTLE / 2);
            }
            let (before, during) = (median(before), median(during));
            let what = if stopped { "stopped" } else { "killed" };
            let left = during / before;
            println!("{:<10}{what:>10}{before:>14.0}{during:>14.0}{left:>8.2}", runner.name);
        }
    }
}

/// The shard that is to go.
#[derive(Clone, Copy)]
struct Gone {
    nodes: [usize; 2],
    slots: (u16, u16),
}

fn owners(cluster: &Cluster) -> Gone {
    let master = cluster.owner(0);
    let replica = cluster.replicas(master)[0];
    let slots = cluster.slots(master);
    Gone { nodes: [replica, master], slots: (slots[0], slots[slots.len() - 1]) }
}

/// Requests of the other shards per second.
fn rate(runner: &Runner, gone: &Gone, span: Duration) -> f64 {
    let shared = Shared::default();
    let is_gone = |key: &String| (gone.slots.0..=gone.slots.1).contains(&key_slot(key.as_bytes()));
    let keys = || (0..).map(|number| format!("key:{number}"));
    for key in keys().filter(|key| !is_gone(key)).take(TASKS) {
        let (client, shared) = (runner.client.clone(), shared.clone());
        (runner.spawn)(Box::pin(async move {
            while !shared.stop.load(Ordering::Relaxed) {
                client.set(&key, "value").await.expect("its shard is there");
                client.get::<String>(&key).await.expect("its shard is there");
                shared.done.fetch_add(2, Ordering::Relaxed);
            }
        }));
    }
    for key in keys().filter(is_gone).take(WAITING) {
        let (client, shared) = (runner.client.clone(), shared.clone());
        (runner.spawn)(Box::pin(async move {
            while !shared.stop.load(Ordering::Relaxed) {
                _ = client.within(PATIENCE).get::<String>(&key).await;
            }
        }));
    }
    thread::sleep(span / 5);
    let (start, before) = (Instant::now(), shared.done.load(Ordering::Relaxed));
    thread::sleep(span);
    let done = shared.done.load(Ordering::Relaxed) - before;
    let rate = done as f64 / start.elapsed().as_secs_f64();
    shared.stop.store(true, Ordering::Relaxed);
    thread::sleep(2 * PATIENCE);
    rate
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Both async clients. The blocking one drives the same engine by a thread of its own.
fn runners(config: &Config) -> Vec<Runner> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = runtime.block_on(unfazed_tokio::Client::connect(config)).expect("a client");
    let handle = runtime.handle().clone();
    let tokio = Runner {
        name: "tokio",
        client: client.handle().clone(),
        spawn: Box::new(move |job| drop(handle.spawn(job))),
        _runtime: Some(runtime),
    };
    let client = smol::block_on(unfazed_smol::Client::connect(config)).expect("a client");
    let smol = Runner {
        name: "smol",
        client: client.handle().clone(),
        spawn: Box::new(|job| smol::spawn(job).detach()),
        _runtime: None,
    };
    vec![tokio, smol]
}

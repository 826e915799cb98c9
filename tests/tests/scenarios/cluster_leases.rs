//! What has a connection of its own in a real cluster: it goes to the node of its slot, and on with it.

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
    Cause, Config, Failure, Script,
    commands::prelude::*,
    dialogue::{Acks, Consumer, Consumers},
    failure::{Executed, FailureKind},
    handle::{OptimisticTransactions, Pipelines, Transactions},
};
use unfazed_tests::{Cluster, Failover, Layout, Raw, RawReply, eventually, key_slot};

use crate::{
    adapters::{Adapter, Talk, scenarios, spawn},
    support::{LIMIT, failure},
};

scenarios! {
    who_waits_goes_where_his_slot_goes,
    a_dead_master_ends_what_may_have_popped_and_readers_go_on,
    a_connection_of_ones_own_is_for_one_slot_and_lost_with_it,
    optimistic_counters_lose_no_update_while_slots_and_masters_change,
    a_consumer_and_scripts_go_on_after_a_failover,
}

type Popped = Option<(String, String)>;

fn config(cluster: &Cluster) -> Config {
    Config::from_url(&cluster.url()).expect("a cluster's URL").deadline(LIMIT)
}

/// How many clients wait at a node.
fn blocked(node: &mut Raw) -> usize {
    let RawReply::Bulk(info) = node.cmd(&["INFO", "clients"]) else { panic!("no INFO") };
    let info = String::from_utf8(info).expect("it is text");
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.expect("it says so").trim().parse().expect("a number")
}

#[track_caller]
fn until_blocked(cluster: &Cluster, node: usize, count: usize) {
    let mut raw = cluster.raw(node);
    eventually("so many clients to wait", LIMIT, || (blocked(&mut raw) == count).then_some(()));
}

fn pop<A: Adapter>(client: &A::Client) -> impl FnOnce() -> Result<Popped, Failure> + use<A> {
    let waiting = client.clone();
    let task = spawn::<A, _>(async move { A::done(waiting.blpop("{q}1", LIMIT)).await });
    move || task.join()
}

fn who_waits_goes_where_his_slot_goes<A: Adapter>() {
    let cluster = Cluster::with(Layout { replicas: 0, ..Layout::default() });
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let slot = key_slot(b"{q}1");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let moved = |popped: Result<Popped, Failure>, element: &str| {
        let popped = popped.expect("it came").expect("in time");
        assert_eq!(popped, ("{q}1".to_owned(), element.to_owned()));
    };

    // It waits at the node whose slot is given away, which tells it so.
    let popped = pop::<A>(&client);
    until_blocked(&cluster, from, 1);
    cluster.move_slot(slot, to);
    until_blocked(&cluster, to, 1);
    cluster.raw(to).int(&["RPUSH", "{q}1", "moved"]);
    moved(popped(), "moved");

    // Its slot is being moved back: what is not there yet is waited for at the node that will have it.
    cluster.begin_move(slot, from);
    let popped = pop::<A>(&client);
    until_blocked(&cluster, from, 1);
    assert_eq!(A::wait(client.rpush("{q}1", "asked")).expect("a plain RPUSH"), 1);
    moved(popped(), "asked");
    cluster.end_move(slot, from);

    // A pipeline with a command that waits goes to one slot or nowhere.
    let (length, popped, acked): (u64, Popped, u64) = A::wait_all(client.pipeline(|p| {
        (p.rpush("{q}1", "own"), p.blpop("{q}1", LIMIT), p.wait(0, Duration::from_millis(100)))
    }))
    .expect("one slot");
    assert_eq!((length, acked), (1, 0));
    assert_eq!(popped, Some(("{q}1".to_owned(), "own".to_owned())));
    let across: Result<Popped, _> = A::wait(client.blpop(["a", "b"], LIMIT));
    let across = failure(across);
    assert!(matches!(across.kind(), FailureKind::Misuse(_)), "{across}");
    assert_eq!(across.executed(), Executed::No);
}

fn a_dead_master_ends_what_may_have_popped_and_readers_go_on<A: Adapter>() {
    let mut cluster = Cluster::start();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let owner = cluster.owner(key_slot(b"{q}1"));
    let popped = pop::<A>(&client);
    let reading = client.clone();
    let read = spawn::<A, _>(async move {
        let new = [("{q}s", ReadFrom::New)];
        let read = reading.xread_blocking::<Vec<(String, u32)>>(new, ReadOptions::new(), None);
        A::done(read).await
    });
    until_blocked(&cluster, owner, 2);
    cluster.kill(owner);
    let lost = failure(popped());
    assert!(matches!(lost.kind(), FailureKind::ConnectionLost(_)), "{lost}");
    assert_eq!(lost.executed(), Executed::Maybe, "nobody knows whether it has popped");
    // Both wait at the next master.
    let popped = pop::<A>(&client);
    let next = eventually("another master that is waited at", LIMIT, || {
        let mut masters = (3..6).filter(|node| cluster.is_master(*node));
        masters.find(|node| blocked(&mut cluster.raw(*node)) == 2)
    });
    cluster.raw(next).int(&["RPUSH", "{q}1", "x"]);
    cluster.raw(next).cmd(&["XADD", "{q}s", "*", "n", "7"]);
    assert_eq!(popped().expect("it came"), Some(("{q}1".to_owned(), "x".to_owned())));
    let read = read.join().expect("it came");
    assert_eq!(read[0].entries[0].fields, [("n".to_owned(), 7)]);
}

fn a_connection_of_ones_own_is_for_one_slot_and_lost_with_it<A: Adapter>() {
    let cluster = Cluster::with(Layout { replicas: 0, ..Layout::default() });
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    // The same as with a single server, for keys with a common tag.
    let own = A::dedicated(&client);
    A::wait_there(own.ping()).expect("any node");
    for (meddles, written) in [(false, true), (true, false)] {
        A::wait_there(own.watch(["{u}n", "{u}m"])).expect("a plain WATCH");
        let n = A::wait_there(own.get::<i64>("{u}n")).expect("a plain GET").unwrap_or(0);
        if meddles {
            A::wait(client.incr("{u}m")).expect("a plain INCR");
        }
        let done = A::wait_all_there(own.transaction(|t| t.set("{u}n", n + 10)));
        assert_eq!(done.is_ok(), written, "{done:?}");
    }
    let other = failure(A::wait_there(own.get::<i64>("{v}n")));
    assert!(matches!(other.kind(), FailureKind::Misuse(_)), "{other}");
    assert!(other.to_string().contains("hash tag"), "{other}");

    drop(own);

    // MULTI names no key, so it is said for which it is.
    let own = A::dedicated(&client);
    let unbound = failure(A::wait_there(own.multi()));
    assert!(unbound.to_string().contains("dedicated_for"), "{unbound}");
    drop(own);
    let own = A::dedicated_for(&client, "{u}n");
    A::wait_there(own.multi()).expect("a plain MULTI");
    let queued: String = A::wait_there(own.command("INCR").arg("{u}n").run()).expect("queued");
    assert_eq!(queued, "QUEUED");
    let all: Option<(i64,)> = A::wait_there(own.exec()).expect("a plain EXEC");
    assert_eq!(all, Some((11,)));

    // Its slot moves while a key is watched.
    A::wait_there(own.watch("{u}n")).expect("a plain WATCH");
    let slot = key_slot(b"{u}n");
    cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
    let lost = failure(A::wait_all_there(own.transaction(|t| t.set("{u}n", 0))));
    assert!(matches!(lost.kind(), FailureKind::ConnectionLost(Cause::SlotMoved)), "{lost}");
    assert_eq!(lost.executed(), Executed::No);
    assert_eq!(A::lost(&own), Some(Cause::SlotMoved));
    drop(own);
    let own = A::dedicated(&client);
    A::wait_there(own.watch("{u}n")).expect("at the right node");
    assert_eq!(A::wait_there(own.get::<i64>("{u}n")).expect("a plain GET"), Some(11));
    drop(own);
    eventually("nothing to be left of them", LIMIT, || {
        let status = A::status(&client);
        (status.leases == status.leases_idle && status.tickets == 0).then_some(())
    });
}

/// Increments a counter until it is told to stop; gives how often it did, and how often it may have.
async fn increment<A: Adapter>(
    client: A::Client,
    key: String,
    stop: Arc<AtomicBool>,
) -> (i64, i64, Vec<Failure>) {
    let (mut done, mut maybe, mut failures) = (0, 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let read = key.clone();
        let written = key.clone();
        let increment = client.optimistic_up_to(
            1_000,
            &key,
            move |p| p.get::<i64>(&read),
            move |n, p| Some(p.set(&written, n.unwrap_or(0) + 1)),
        );
        match A::settled(increment).await {
            Ok(ended) => {
                ended.expect("it always writes");
                done += 1;
            }
            Err(lost) => {
                maybe += i64::from(lost.executed() != Executed::No);
                failures.push(lost);
            }
        }
    }
    (done, maybe, failures)
}

fn optimistic_counters_lose_no_update_while_slots_and_masters_change<A: Adapter>() {
    const KEYS: usize = 3;
    const EACH: usize = 3;
    let mut cluster = Cluster::start();
    // A master that is about to step down answers no write until its replica has caught up, for 5 s at most.
    let config = config(&cluster).response_timeout(Duration::from_secs(8));
    let client = A::connect(config).expect("there is a cluster");
    let stop = Arc::new(AtomicBool::new(false));
    let keys: Vec<String> = (0..KEYS).map(|at| format!("count:{at}")).collect();
    let tasks: Vec<_> = (0..KEYS * EACH)
        .map(|at| {
            let (client, key) = (client.clone(), keys[at % KEYS].clone());
            (at % KEYS, spawn::<A, _>(increment::<A>(client, key, stop.clone())))
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let slot = key_slot(keys[0].as_bytes());
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    cluster.move_slot(slot, to);
    cluster.move_slot(slot, from);
    let replica = cluster.replicas(cluster.owner(key_slot(keys[1].as_bytes())))[0];
    cluster.failover(replica, Failover::Planned);
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let mut sums = [(0, 0); KEYS];
    for (key, task) in tasks {
        let (done, maybe, failures) = task.join();
        assert!(failures.iter().all(|lost| lost.executed() != Executed::Yes), "{failures:?}");
        assert!(
            failures.len() as i64 == maybe,
            "what was not written is tried again: {failures:?}"
        );
        assert!(done > 0);
        sums[key] = (sums[key].0 + done, sums[key].1 + maybe);
    }
    for (key, (done, maybe)) in keys.iter().zip(sums) {
        let stored = A::wait(client.get::<i64>(key)).expect("a plain GET").expect("it was counted");
        assert!((done..=done + maybe).contains(&stored), "{key}: {stored} of {done} and {maybe}");
    }
}

fn a_consumer_and_scripts_go_on_after_a_failover<A: Adapter>() {
    type Fields = BTreeMap<String, u64>;
    let mut cluster = Cluster::start();
    let client = A::connect(config(&cluster)).expect("there is a cluster");
    let owner = cluster.owner(key_slot(b"{s}"));
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    let library = "#!lua name=counts\n\
        redis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)";
    A::wait(client.function_load(library)).expect("all masters have it");
    let call = |count: i64| {
        let run = A::wait(client.script(&script).key("{s}n").run::<i64>());
        assert_eq!(run.expect("it is sent with its source where need be"), count);
        let call = client.fcall::<i64>("count", "{s}m", ());
        assert_eq!(A::wait(call).expect("its library is everywhere"), count);
    };
    call(1);
    let mut raw = cluster.raw(owner);
    let add = |raw: &mut Raw, number: u64| {
        let reply = raw.cmd(&["XADD", "{s}", "*", "number", &number.to_string()]);
        assert!(matches!(reply, RawReply::Bulk(_)), "{reply:?}");
    };
    (0..20).for_each(|number| add(&mut raw, number));
    let consumer = client.consumer("g", "me").stream("{s}").create(GroupStart::Beginning);
    let mut consumer: Talk<A, Consumer<Fields>> = consumer.count(5).run();
    let mut seen = BTreeSet::new();
    let mut take = |until: u64| {
        while seen.len() < until as usize {
            let next = A::next_item(&mut consumer).expect("it goes on").expect("no failure");
            seen.insert(next.fields["number"]);
            // An answer that is lost costs no entry, which is why each may come more than once.
            A::wait(client.ack(&next)).expect("a plain XACK");
        }
        assert!(seen.iter().copied().eq(0..until));
    };
    take(12);
    // The replica has all of it when the master dies.
    raw.int(&["INCRBY", "{s}x", "0"]);
    assert_eq!(raw.int(&["WAIT", "1", "10000"]), 1);
    cluster.kill(owner);
    let next = eventually("another master", LIMIT, || {
        (3..6).filter(|node| cluster.is_master(*node)).find(|node| {
            let reply = cluster.raw(*node).cmd(&["XLEN", "{s}"]);
            matches!(reply, RawReply::Int(_))
        })
    });
    let mut raw = cluster.raw(next);
    (20..30).for_each(|number| add(&mut raw, number));
    take(30);
    // It has never seen the script, and has the functions from its master.
    call(2);
}

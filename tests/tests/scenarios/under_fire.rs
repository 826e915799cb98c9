//! Many tasks write and read through several outages, and each of them knows what it may be told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    engine::{Event, Health},
    failure::{Executed, FailureKind},
    fallback::Fallback,
    handle::Views,
    reply::Sourced,
    resp::Source,
};
use unfazed_tests::{Close, Fault, Proxy, Raw, Server as TestServer};

use crate::{
    adapters::{Adapter, Task, scenarios, spawn},
    support::{Changes, LIMIT, every_policy, quick, until_health},
};

scenarios! {
    nobody_is_told_anything_older_than_what_he_wrote,
    a_server_that_flaps_loses_nothing_and_brings_nothing_back,
}

const TASKS: usize = 64;

/// How long a task waits for what may not degrade: what paces it while the server is down.
const PATIENCE: Duration = Duration::from_millis(40);

/// Keys of one task under one policy: the numbers that it writes only grow.
#[derive(Debug, Default)]
struct Numbers {
    /// The last that was said to be written, wherever.
    acknowledged: u64,
    /// The last that the server said was written.
    on_server: u64,
    /// The last that was tried, and may be anywhere.
    tried: u64,
}

/// Increments of one counter.
#[derive(Debug, Default)]
struct Counter {
    acknowledged: i64,
    maybe: i64,
    /// What the server said last.
    last: i64,
}

/// All that one task did.
#[derive(Debug, Default)]
struct Deeds {
    session: Numbers,
    cache: Numbers,
    discard: Numbers,
    count: Counter,
    wallet: Counter,
    stale: u64,
    rounds: u64,
    from_memory: u64,
}

impl Numbers {
    async fn write<A: Adapter>(&mut self, client: &A::Client, key: &str) {
        self.tried += 1;
        match A::done(client.sourced().set(key, self.tried)).await {
            Ok(set) => {
                self.acknowledged = self.tried;
                if set.source == Source::Server {
                    self.on_server = self.tried;
                }
            }
            Err(lost) => check_lost(&lost),
        }
    }

    /// Whether the key may hold this number now, on the server or in memory.
    #[track_caller]
    fn check(&self, key: &str, read: &Sourced<Option<u64>>, floor: u64) {
        if let Some(value) = read.value {
            let Numbers { tried, .. } = self;
            assert!((floor..=*tried).contains(&value), "{key} is {read:?}, of {self:?}");
        }
    }
}

impl Counter {
    fn note(&mut self, outcome: Result<Sourced<i64>, Failure>) {
        match outcome {
            Ok(count) => {
                self.acknowledged += 1;
                if count.source == Source::Server {
                    assert!(count.value > self.last, "{} after {}", count.value, self.last);
                    self.last = count.value;
                }
            }
            Err(lost) if lost.executed() == Executed::Maybe => self.maybe += 1,
            Err(lost) => check_lost(&lost),
        }
    }
}

/// A command ends without success only because nobody can tell, or because it waited for too long.
#[track_caller]
fn check_lost(lost: &Failure) {
    let waited = matches!(lost.kind(), FailureKind::DeadlinePassed(_));
    let unknown = lost.executed() == Executed::Maybe;
    assert!(waited || unknown, "{lost}");
}

async fn read<A: Adapter>(client: &A::Client, key: &str) -> Option<Sourced<Option<u64>>> {
    match A::done(client.sourced().get(key)).await {
        Ok(read) => Some(read),
        // A read of what only the server may say waits too, and one that went out may be late.
        Err(lost) => {
            let refused = matches!(lost.kind(), FailureKind::Memory(_));
            assert!(refused || lost.is_timeout(), "{key}: {lost}");
            None
        }
    }
}

async fn run<A: Adapter>(client: A::Client, at: usize, stop: Arc<AtomicBool>) -> Deeds {
    let mut deeds = Deeds::default();
    let key = |prefix: &str| format!("{prefix}{at}");
    let [session, cache, discard, count, wallet, stale] =
        ["session:", "cache:", "discard:", "count:", "wallet:", "stale:"].map(key);
    while !stop.load(Ordering::Relaxed) {
        deeds.rounds += 1;
        deeds.session.write::<A>(&client, &session).await;
        if let Some(read) = read::<A>(&client, &session).await {
            deeds.session.check(&session, &read, deeds.session.acknowledged);
            // Once it is there it is never gone, on the server.
            let gone = read.value.is_none() && read.source == Source::Server;
            assert!(!gone || deeds.session.acknowledged == 0, "{session} is gone: {deeds:?}");
            deeds.from_memory += u64::from(read.source != Source::Server);
        }
        deeds.cache.write::<A>(&client, &cache).await;
        if let Some(read) = read::<A>(&client, &cache).await {
            deeds.cache.check(&cache, &read, deeds.cache.acknowledged);
        }
        deeds.discard.write::<A>(&client, &discard).await;
        if let Some(read) = read::<A>(&client, &discard).await {
            let mine = read.source == Source::Overlay;
            let Numbers { acknowledged, on_server, .. } = deeds.discard;
            deeds.discard.check(&discard, &read, if mine { acknowledged } else { on_server });
        }
        deeds.count.note(A::done(client.sourced().incr(&count)).await);
        if let Some(read) = read::<A>(&client, &stale).await {
            // Somebody else writes it, on the server: what is remembered is what was seen last.
            let value = read.value.unwrap_or(0);
            assert!(value >= deeds.stale, "{stale}: {read:?} after {}", deeds.stale);
            deeds.stale = value;
        }
        deeds.wallet.note(A::done(client.within(PATIENCE).sourced().incr(&wallet)).await);
    }
    deeds
}

/// A server, what lies before it, a client of it, and tasks at work.
struct Fire<A: Adapter> {
    server: TestServer,
    proxy: Proxy,
    client: A::Client,
    changes: Changes,
    tasks: Vec<Task<Deeds>>,
    stop: Arc<AtomicBool>,
}

impl<A: Adapter> Fire<A> {
    fn start() -> Self {
        let server = TestServer::start();
        let mut witness = Raw::connect(server.port());
        for at in 0..TASKS {
            witness.ok(&["MSET", &format!("count:{at}"), "0", &format!("stale:{at}"), "1"]);
        }
        let proxy = Proxy::start(server.port());
        let config: Config =
            every_policy(quick(proxy.port())).fallback(Fallback::stale_reads("stale:*", LIMIT));
        let client = A::connect(config).expect("there is a server");
        let changes = Changes::of::<A>(&client);
        let stop = Arc::new(AtomicBool::new(false));
        let task = |at| spawn::<A, _>(run::<A>(client.clone(), at, stop.clone()));
        let tasks = (0..TASKS).map(task).collect();
        Fire { server, proxy, client, changes, tasks, stop }
    }

    /// Lets somebody else write what the tasks read.
    fn publish(&self) {
        let mut witness = Raw::connect(self.server.port());
        for at in 0..TASKS {
            witness.int(&["INCR", &format!("stale:{at}")]);
        }
    }

    fn break_off(&self, how: Close) {
        self.proxy.set(Fault::Refuse);
        self.proxy.close_all(how);
    }

    /// Ends the tasks, and checks every key of each.
    fn end(mut self) {
        until_health::<A>(&self.client, Health::Live);
        // Some rounds on a server that is there.
        thread::sleep(Duration::from_millis(50));
        self.stop.store(true, Ordering::Relaxed);
        let deeds: Vec<Deeds> = self.tasks.into_iter().map(Task::join).collect();
        until_health::<A>(&self.client, Health::Live);
        let trips =
            |(from, to): &(Health, Health)| *to == Health::Degraded && *from != Health::Recovering;
        let trips = self.changes.health().iter().filter(|change| trips(change)).count();
        self.changes.expect(trips, trips);
        let told = |event: &Event| match event {
            Event::MergesUnanswered { entries, .. } => *entries,
            Event::MergesSkipped { .. } | Event::ReplayRefused { .. } => panic!("{event}"),
            _ => 0,
        };
        let uncertain: u64 = self.changes.events().iter().map(told).sum();

        let mut witness = Raw::connect(self.server.port());
        let mut number = |key: &str| witness.get(key).map(|text| text.parse().expect("a number"));
        let mut short = 0;
        for (at, deeds) in deeds.iter().enumerate() {
            let mut check = |prefix: &str, numbers: &Numbers, floor: u64| {
                let key = format!("{prefix}{at}");
                let value = number(&key);
                numbers.check(&key, &Sourced { value, source: Source::Server }, floor);
                value.is_some()
            };
            let there = check("session:", &deeds.session, deeds.session.acknowledged);
            assert!(there, "session:{at}, of {deeds:?}");
            check("cache:", &deeds.cache, deeds.cache.acknowledged);
            check("discard:", &deeds.discard, deeds.discard.on_server);
            for (prefix, counter) in [("count:", &deeds.count), ("wallet:", &deeds.wallet)] {
                let sum = number(&format!("{prefix}{at}")).unwrap_or(0) as i64;
                let most = counter.acknowledged + counter.maybe;
                assert!(sum <= most, "{prefix}{at} is {sum}, of {counter:?}");
                let less = sum < counter.acknowledged;
                assert!(!less || prefix == "count:", "{prefix}{at} is {sum}, of {counter:?}");
                short += u64::from(less);
            }
        }
        let rounds: u64 = deeds.iter().map(|deeds| deeds.rounds).sum();
        let from_memory: u64 = deeds.iter().map(|deeds| deeds.from_memory).sum();
        println!(
            "{rounds} rounds, {from_memory} reads from memory, {trips} trips; {short} counters \
             short of an uncertain merge, {uncertain} uncertain"
        );
        assert!(short <= uncertain, "{short} counters are short, {uncertain} uncertain");
        assert!(rounds > TASKS as u64 && from_memory > 0, "{rounds} rounds, {from_memory}");
        let status = A::status(&self.client);
        assert_eq!((status.journal_entries, status.overlay_entries), (0, 0));
        assert_eq!((status.queued_requests, status.tickets), (0, 0));
    }
}

fn nobody_is_told_anything_older_than_what_he_wrote<A: Adapter>() {
    let mut fire = Fire::<A>::start();
    let outage = Duration::from_millis(250);
    thread::sleep(outage);
    fire.publish();
    fire.server.kill();
    thread::sleep(outage);
    fire.server.restart();
    until_health::<A>(&fire.client, Health::Live);

    fire.publish();
    thread::sleep(outage);
    fire.server.stop();
    until_health::<A>(&fire.client, Health::Degraded);
    thread::sleep(outage);
    fire.server.cont();
    until_health::<A>(&fire.client, Health::Live);

    thread::sleep(outage);
    fire.break_off(Close::Reset);
    fire.publish();
    thread::sleep(outage);
    fire.proxy.set(Fault::None);
    fire.end();
}

fn a_server_that_flaps_loses_nothing_and_brings_nothing_back<A: Adapter>() {
    const FLAPS: usize = 15;
    let span = Duration::from_millis(200);
    let fire = Fire::<A>::start();
    for flap in 0..FLAPS {
        thread::sleep(span);
        fire.break_off(if flap % 2 == 0 { Close::Fin } else { Close::Reset });
        fire.publish();
        thread::sleep(span);
        fire.proxy.set(Fault::None);
    }
    fire.end();
}

//! A load on a cluster that checks all it is told: 64 tasks, each with keys of its own in one shard.
//!
//! Values carry their key and a number that only grows, so that an answer which is another's, or older than
//! what was acknowledged, is found out. So is an increment that ran twice without its caller knowing.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use smol::Timer;
use unfazed_core::{
    Failure,
    commands::prelude::*,
    failure::Executed,
    handle::{Pipelines, Transactions},
};
use unfazed_tests::{Cluster, Gap, Prober, Raw, key_slot};

use crate::{
    adapters::{Adapter, Task, spawn},
    support::SLACK,
};

/// How many tasks work at the same time.
const TASKS: usize = 64;

/// How many of these ask all shards, and so wait for all of them. The others need no shard but their own.
const TRAVELLERS: usize = 8;

/// What a task waits for between two rounds, so that the machine has time for the servers too.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a request takes at most, which is the default of clients.
const DEADLINE: Duration = Duration::from_secs(5);

/// A shorter time without a write is no outage.
const GAP_MIN: Duration = Duration::from_millis(150);

/// How much later than anybody could write a client may be back, where the machine has time for it.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(1);

/// How often that is tried on a machine that does much else.
const ROUNDS: usize = 3;

/// Tasks at work on a cluster, with a prober for each of its shards.
pub(super) struct Load {
    masters: Vec<usize>,
    probers: Vec<Prober>,
    stop: Arc<AtomicBool>,
    /// For each shard, whether it may forget what it has acknowledged: replication is asynchronous.
    forgets: Arc<Vec<AtomicBool>>,
    tasks: Vec<Task<Tale>>,
    started: Instant,
}

/// What one task did and was told.
#[derive(Debug)]
struct Tale {
    shard: usize,
    keys: Keys,
    /// The number in the last value that was acknowledged, or read since.
    written: u64,
    /// The number in the last value that was sent.
    tried: u64,
    /// What the counter was last.
    counted: i64,
    /// How many increments since may have been executed.
    maybe: i64,
    /// How many acknowledged writes the servers have lost.
    lost: u64,
    requests: u64,
    /// When requests about its own keys ended well.
    successes: Vec<Instant>,
    /// What went wrong with which shard.
    failures: Vec<(usize, Instant, Failure)>,
    slowest: Duration,
}

/// The keys of a task, all in one slot.
#[derive(Clone, Debug)]
struct Keys {
    shard: usize,
    value: String,
    counter: String,
}

struct Worker<A: Adapter> {
    client: A::Client,
    tale: Tale,
    /// Those of another task of each shard, where it asks all of them.
    others: Vec<Keys>,
    stop: Arc<AtomicBool>,
    forgets: Arc<Vec<AtomicBool>>,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Report {
    tales: Vec<Tale>,
    /// For each shard, how much later than its prober each task was back.
    pub(super) late: Vec<Vec<Duration>>,
    /// For each shard, how long nobody could write.
    pub(super) gaps: Vec<Vec<Duration>>,
}

/// Tries until the client was back in time, since what else the machine does may keep it from that. What is
/// wrong at any time is wrong.
pub(super) fn until_in_time(mut round: impl FnMut() -> Report) {
    for number in 1..=ROUNDS {
        let report = round();
        let late = report.late.iter().flatten().max().copied().unwrap_or_default();
        if late <= BACK_WITHIN {
            return;
        }
        assert!(number < ROUNDS, "back {late:?} after others, at best");
    }
}

impl Load {
    /// Tasks on the cluster's masters, which are the shards here, by their present numbers.
    pub(super) fn start<A: Adapter>(cluster: &Cluster, client: &A::Client) -> Self {
        let masters: Vec<_> = (0..cluster.len()).filter(|node| cluster.is_master(*node)).collect();
        let mut places: Vec<Vec<Keys>> = vec![Vec::new(); masters.len()];
        let slots: Vec<Vec<u16>> = masters.iter().map(|node| cluster.slots(*node)).collect();
        let each = TASKS.div_ceil(masters.len());
        for number in 0.. {
            let slot = key_slot(number.to_string().as_bytes());
            let owns = |slots: &Vec<u16>| slots.binary_search(&slot).is_ok();
            let shard = slots.iter().position(owns).expect("all slots are served");
            if places[shard].len() < each {
                places[shard].push(Keys::new(number, shard));
            }
            if places.iter().all(|keys| keys.len() == each) {
                break;
            }
        }
        let probe = |keys: &Vec<Keys>| cluster.prober(&format!("{}:probe", keys[0].value));
        let probers = places.iter().map(probe).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let forgets: Arc<Vec<_>> =
            Arc::new(masters.iter().map(|_| AtomicBool::new(false)).collect());
        let task = |number: usize| {
            let (shard, at) = (number % masters.len(), number / masters.len());
            let travels = number >= TASKS - TRAVELLERS;
            let others = places.iter().filter(|_| travels).map(|keys| keys[0].clone());
            let worker = Worker::<A> {
                client: client.clone(),
                tale: Tale::new(places[shard][at].clone()),
                others: others.collect(),
                stop: stop.clone(),
                forgets: forgets.clone(),
            };
            spawn::<A, _>(worker.run())
        };
        let tasks = (0..TASKS).map(task).collect();
        Load { probers, stop, forgets, tasks, started: Instant::now(), masters }
    }

    /// From now on what this shard has acknowledged may be gone.
    pub(super) fn may_forget(&self, shard: usize) {
        self.forgets[shard].store(true, Ordering::Relaxed);
    }

    /// When somebody could write to this shard after a moment.
    pub(super) fn writable_after(&self, shard: usize, moment: Instant) -> Option<Instant> {
        self.probers[shard].first_after(moment)
    }

    /// Ends the tasks, looks at what the servers hold, and prints the figures.
    pub(super) fn end(self, name: &str, cluster: &Cluster) -> Report {
        let ended = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let tales: Vec<Tale> = self.tasks.into_iter().map(Task::join).collect();
        let lasted = self.started.elapsed();
        for tale in &tales {
            let owner = cluster.owner(key_slot(tale.keys.value.as_bytes()));
            let forgets = self.forgets[tale.shard].load(Ordering::Relaxed);
            tale.check_on(&mut cluster.raw(owner), forgets);
        }
        let shards: Range<usize> = 0..self.masters.len();
        let gaps: Vec<Vec<_>> = self.probers.iter().map(|prober| prober.gaps(GAP_MIN)).collect();
        let late = |shard: usize| {
            // Those who ask other shards as well wait for these.
            let of = tales[..TASKS - TRAVELLERS].iter().filter(move |tale| tale.shard == shard);
            let gaps = &gaps[shard];
            of.flat_map(|tale| gaps.iter().map(|gap| tale.late(gap.to, ended))).collect::<Vec<_>>()
        };
        let report = Report {
            late: shards.map(late).collect(),
            gaps: gaps.iter().map(|gaps| gaps.iter().map(Gap::length).collect()).collect(),
            tales,
        };
        report.print(name, lasted);
        report
    }
}

impl Keys {
    fn new(number: u32, shard: usize) -> Self {
        Keys { shard, value: format!("{{{number}}}value"), counter: format!("{{{number}}}count") }
    }
}

impl Tale {
    fn new(keys: Keys) -> Self {
        Tale {
            shard: keys.shard,
            keys,
            written: 0,
            tried: 0,
            counted: 0,
            maybe: 0,
            lost: 0,
            requests: 0,
            successes: Vec::new(),
            failures: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    /// The counter is there now.
    #[track_caller]
    fn counted(&mut self, count: i64, forgets: bool) {
        let most = self.counted + 1 + self.maybe;
        assert!(
            count <= most,
            "{}: {count} after {}, of {self:?}",
            self.keys.counter,
            self.counted
        );
        if count <= self.counted {
            assert!(forgets, "{}: {count} after {}", self.keys.counter, self.counted);
            self.lost += (self.counted + 1 - count) as u64;
        } else {
            self.maybe -= count - self.counted - 1;
        }
        self.counted = count;
    }

    /// This value was read.
    #[track_caller]
    fn read(&mut self, value: Option<&str>, forgets: bool) {
        let number = value.map_or(0, |value| number_of(&self.keys.value, value));
        assert!(number <= self.tried, "{value:?} is from the future of {self:?}");
        if number < self.written {
            assert!(forgets, "{value:?} is older than {}, of {}", self.written, self.keys.value);
            self.lost += self.written - number;
        }
        self.written = number;
    }

    fn next_value(&mut self) -> String {
        self.tried += 1;
        format!("{}={}", self.keys.value, self.tried)
    }

    /// What the server holds when all is over.
    #[track_caller]
    fn check_on(&self, server: &mut Raw, forgets: bool) {
        let count: i64 =
            server.get(&self.keys.counter).map_or(0, |text| text.parse().expect("a number"));
        let range = self.counted..=self.counted + self.maybe;
        assert!(
            range.contains(&count) || (forgets && count <= *range.end()),
            "{count}, of {self:?}"
        );
        let value = server.get(&self.keys.value);
        let number = value.map_or(0, |value| number_of(&self.keys.value, &value));
        let range = self.written..=self.tried;
        assert!(
            range.contains(&number) || (forgets && number <= self.tried),
            "{number}, of {self:?}"
        );
        assert!(self.counted > 0 && self.written > 0, "nothing happened: {self:?}");
    }

    /// How much later than this moment it was before a request ended well; at least until `end` if none did.
    fn late(&self, moment: Instant, end: Instant) -> Duration {
        let back = self.successes.iter().find(|success| **success >= moment);
        back.unwrap_or(&end).saturating_duration_since(moment)
    }
}

/// The number in a value of this key; whatever else is read there is another's.
#[track_caller]
fn number_of(key: &str, value: &str) -> u64 {
    let number = value.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{value} is not a value of {key}"))
}

impl<A: Adapter> Worker<A> {
    async fn run(mut self) -> Tale {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            round += 1;
            self.count().await;
            self.write().await;
            self.read().await;
            match round % 6 {
                1 => self.run_pipeline().await,
                3 => self.run_transaction().await,
                5 if !self.others.is_empty() => self.read_everywhere().await,
                _ => {}
            }
            Timer::after(PAUSE).await;
        }
        self.tale
    }

    async fn count(&mut self) {
        let began = Instant::now();
        let outcome = A::done(self.client.incr(&self.tale.keys.counter)).await;
        self.note_count(began, outcome);
    }

    async fn write(&mut self) {
        let value = self.tale.next_value();
        let began = Instant::now();
        let outcome = A::done(self.client.set(&self.tale.keys.value, &value)).await;
        if self.note(began, self.tale.shard, outcome).is_some() {
            self.tale.written = self.tale.tried;
        }
    }

    async fn read(&mut self) {
        let began = Instant::now();
        let outcome = A::done(self.client.get::<String>(&self.tale.keys.value)).await;
        if let Some(value) = self.note(began, self.tale.shard, outcome) {
            self.tale.read(value.as_deref(), self.forgets());
        }
    }

    /// Its own counter and value, and where it asks all shards, what is another's there.
    async fn run_pipeline(&mut self) {
        let began = Instant::now();
        let (keys, value) = (self.tale.keys.clone(), self.tale.next_value());
        let (count, set, read, others) = A::gathered(self.client.pipeline_each(|p| {
            let (count, set) = (p.incr(&keys.counter), p.set(&keys.value, &value));
            let read = p.get::<String>(&keys.value);
            let others = self.others.iter().map(|other| p.get::<String>(&other.value));
            (count, set, read, others.collect::<Vec<_>>())
        }))
        .await;
        self.note_count(began, count);
        // A node that refuses the one for now may answer the other, which was sent right behind it.
        if let Some(read) = self.note(began, keys.shard, read) {
            self.tale.read(read.as_deref(), self.forgets());
        }
        if self.note(began, keys.shard, set).is_some() {
            self.tale.written = self.tale.tried;
        }
        for (other, read) in self.others.clone().into_iter().zip(others) {
            if let Some(Some(read)) = self.note(began, other.shard, read) {
                number_of(&other.value, &read);
            }
        }
    }

    /// All of it or nothing.
    async fn run_transaction(&mut self) {
        let began = Instant::now();
        let (keys, value) = (self.tale.keys.clone(), self.tale.next_value());
        let outcome = A::gathered(self.client.transaction(|t| {
            let set = t.set(&keys.value, &value);
            (set, t.get::<String>(&keys.value), t.incr(&keys.counter))
        }))
        .await;
        match outcome {
            Ok(((), read, count)) => {
                assert_eq!(read.as_ref(), Some(&value), "it is its own");
                self.tale.written = self.tale.tried;
                self.note_count(began, Ok(count));
            }
            Err(lost) => self.note_count(began, Err(lost)),
        }
    }

    /// One command with keys of all shards.
    async fn read_everywhere(&mut self) {
        let began = Instant::now();
        let keys: Vec<_> = self.others.iter().map(|keys| keys.value.as_str()).collect();
        match A::done(self.client.mget::<Vec<Option<String>>>(keys)).await {
            Ok(values) => {
                assert_eq!(values.len(), self.others.len());
                for (keys, value) in self.others.iter().zip(values) {
                    value.map(|value| number_of(&keys.value, &value));
                }
                self.tale.requests += 1;
            }
            // Some shard's fault, and it is not told which.
            Err(lost) => {
                self.note(began, usize::MAX, Err::<(), _>(lost));
            }
        }
    }

    fn note_count(&mut self, began: Instant, outcome: Result<i64, Failure>) {
        if let Err(lost) = &outcome {
            self.tale.maybe += i64::from(lost.executed() != Executed::No);
        }
        if let Some(count) = self.note(began, self.tale.shard, outcome) {
            let forgets = self.forgets();
            self.tale.counted(count, forgets);
        }
    }

    fn note<T>(&mut self, began: Instant, shard: usize, outcome: Result<T, Failure>) -> Option<T> {
        let now = Instant::now();
        let took = now - began;
        self.tale.requests += 1;
        self.tale.slowest = self.tale.slowest.max(took);
        assert!(took < DEADLINE + SLACK, "it took {took:?}");
        match outcome {
            Ok(value) => {
                if shard == self.tale.shard {
                    self.tale.successes.push(now);
                }
                Some(value)
            }
            Err(lost) => {
                assert_ne!(lost.executed(), Executed::Yes, "{lost}");
                self.tale.failures.push((shard, now, lost));
                None
            }
        }
    }

    fn forgets(&self) -> bool {
        self.forgets[self.tale.shard].load(Ordering::Relaxed)
    }
}

impl Report {
    /// Nobody was told of anything but what belongs to these shards.
    #[track_caller]
    pub(super) fn check_only_hit(&self, hit: &[usize]) {
        for (shard, _, lost) in self.tales.iter().flat_map(|tale| &tale.failures) {
            let several = *shard == usize::MAX && !hit.is_empty();
            assert!(hit.contains(shard) || several, "shard {shard}: {lost}");
        }
    }

    fn print(&self, name: &str, lasted: Duration) {
        let tales = &self.tales;
        let requests: u64 = tales.iter().map(|tale| tale.requests).sum();
        let failures: Vec<_> = tales.iter().flat_map(|tale| &tale.failures).collect();
        let maybe = failures.iter().filter(|(.., lost)| lost.executed() == Executed::Maybe).count();
        let lost: u64 = tales.iter().map(|tale| tale.lost).sum();
        let slowest = tales.iter().map(|tale| tale.slowest).max().unwrap_or_default();
        println!(
            "{name}: {requests} requests of {TASKS} tasks in {lasted:.1?}, {} failed ({maybe} maybe), \
             the slowest took {slowest:.0?}; servers lost {lost} acknowledged writes",
            failures.len()
        );
        for (shard, (gaps, late)) in self.gaps.iter().zip(&self.late).enumerate() {
            if !gaps.is_empty() {
                let mut late = late.clone();
                late.sort_unstable();
                let (median, most) = (late[late.len() / 2], late[late.len() - 1]);
                println!(
                    "  shard {shard}: nobody could write for {gaps:.0?}, tasks back {median:.0?} later in \
                     the median, {most:.0?} at most"
                );
            }
        }
        let mut kinds: Vec<String> = failures.iter().map(|(_, _, lost)| lost.to_string()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.iter().take(5).for_each(|kind| println!("  {kind}"));
    }
}

//! Everything that is counted, and the latencies of the last second.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use unfazed_tokio::prelude::*;

use crate::oracle::Verdict;

/// Counts since the start. All tasks share one.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Answers to reads and writes of `cache:*`, by who gave them.
    server: AtomicU64,
    overlay: AtomicU64,
    shadow: AtomicU64,
    unknown: AtomicU64,
    increments: AtomicU64,
    failed_reads: AtomicU64,
    failed_writes: AtomicU64,
    /// Reads of known keys that were answered without the server: right, and all of them.
    right_without_server: AtomicU64,
    known_without_server: AtomicU64,
    missed_in_memory: AtomicU64,
    missed_on_server: AtomicU64,
    longest_read_micros: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Wrong>,
    latencies: Latencies,
    restarting: AtomicBool,
    first_increment: OnceLock<Instant>,
}

#[derive(Debug, Default)]
struct Wrong {
    count: u64,
    first: Vec<String>,
}

/// What the meter shows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) server: u64,
    pub(crate) overlay: u64,
    pub(crate) shadow: u64,
    pub(crate) unknown: u64,
    pub(crate) increments: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) failed_reads: u64,
    pub(crate) failed_writes: u64,
    pub(crate) right_without_server: u64,
    pub(crate) known_without_server: u64,
    pub(crate) missed_in_memory: u64,
    pub(crate) missed_on_server: u64,
    pub(crate) longest_read: Duration,
    pub(crate) wrong: u64,
    pub(crate) wrong_examples: Vec<String>,
}

/// Wrong answers that are kept in full, to be shown.
const EXAMPLES_MAX: usize = 5;

impl Meter {
    pub(crate) fn new() -> Self {
        let zero = AtomicU64::default;
        Meter {
            server: zero(),
            overlay: zero(),
            shadow: zero(),
            unknown: zero(),
            increments: zero(),
            failed_reads: zero(),
            failed_writes: zero(),
            right_without_server: zero(),
            known_without_server: zero(),
            missed_in_memory: zero(),
            missed_on_server: zero(),
            longest_read_micros: zero(),
            failures: Mutex::default(),
            wrong: Mutex::default(),
            latencies: Latencies::new(),
            restarting: AtomicBool::new(false),
            first_increment: OnceLock::new(),
        }
    }

    /// Counts the end of a read of `cache:*` that began at `begun`; gives the answer, if there is one.
    pub(crate) fn cache_read<T>(
        &self,
        begun: Instant,
        answer: Result<Sourced<T>, Failure>,
    ) -> Option<Sourced<T>> {
        let took = begun.elapsed();
        self.longest_read_micros.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        self.latencies.note(took);
        match answer {
            Ok(answer) => {
                self.answered(answer.source);
                Some(answer)
            }
            Err(failure) => {
                add_one(&self.failed_reads);
                self.failed(&failure);
                None
            }
        }
    }

    /// Counts the end of a write to `cache:*`; gives whether it was executed.
    pub(crate) fn cache_write<T>(
        &self,
        begun: Instant,
        outcome: Result<Sourced<T>, Failure>,
    ) -> Executed {
        self.latencies.note(begun.elapsed());
        match outcome {
            Ok(done) => {
                self.answered(done.source);
                Executed::Yes
            }
            Err(failure) => {
                add_one(&self.failed_writes);
                self.failed(&failure);
                // The server's error to a SET or DEL would leave in doubt what it has done.
                if failure.executed() == Executed::No { Executed::No } else { Executed::Maybe }
            }
        }
    }

    fn answered(&self, source: Source) {
        add_one(match source {
            Source::Overlay => &self.overlay,
            Source::Shadow => &self.shadow,
            Source::Unknown => &self.unknown,
            _ => &self.server,
        });
    }

    /// An acknowledged increment of a wallet.
    pub(crate) fn increment(&self) {
        add_one(&self.increments);
        if self.restarting.load(Ordering::Relaxed) {
            self.first_increment.get_or_init(Instant::now);
        }
    }

    /// The server is about to be started again.
    pub(crate) fn restarting(&self) {
        self.restarting.store(true, Ordering::Relaxed);
    }

    /// When the first increment was acknowledged after that.
    pub(crate) fn first_increment(&self) -> Option<Instant> {
        self.first_increment.get().copied()
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        let what = match failure.kind() {
            FailureKind::ConnectionLost(_) => "connection lost".to_owned(),
            FailureKind::DeadlinePassed(_) => "deadline passed".to_owned(),
            FailureKind::Server(error) => error.code().to_owned(),
            other => other.to_string(),
        };
        let kind = format!("{} {what}, {}", failure.command(), failure.executed());
        *lock(&self.failures).entry(kind).or_default() += 1;
    }

    /// An answer that memory gave, about a key whose value this client knows.
    pub(crate) fn judged_without_server(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Absent => return,
            Verdict::Right => add_one(&self.right_without_server),
            Verdict::Missed | Verdict::Wrong(_) => {}
        }
        add_one(&self.known_without_server);
    }

    pub(crate) fn missed(&self, source: Source) {
        let by_server = source == Source::Server;
        add_one(if by_server { &self.missed_on_server } else { &self.missed_in_memory });
    }

    pub(crate) fn wrong(&self, why: String) {
        let mut wrong = lock(&self.wrong);
        wrong.count += 1;
        if wrong.first.len() < EXAMPLES_MAX {
            wrong.first.push(why);
        }
    }

    pub(crate) fn read(&self) -> Reading {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let wrong = lock(&self.wrong);
        Reading {
            server: count(&self.server),
            overlay: count(&self.overlay),
            shadow: count(&self.shadow),
            unknown: count(&self.unknown),
            increments: count(&self.increments),
            failures: lock(&self.failures).clone(),
            failed_reads: count(&self.failed_reads),
            failed_writes: count(&self.failed_writes),
            right_without_server: count(&self.right_without_server),
            known_without_server: count(&self.known_without_server),
            missed_in_memory: count(&self.missed_in_memory),
            missed_on_server: count(&self.missed_on_server),
            longest_read: Duration::from_micros(count(&self.longest_read_micros)),
            wrong: wrong.count,
            wrong_examples: wrong.first.clone(),
        }
    }

    /// What 99 of 100 operations on `cache:*` did not exceed since this was last asked.
    pub(crate) fn p99(&self) -> Duration {
        self.latencies.take_p99()
    }
}

impl Reading {
    /// All that ended, well or not.
    pub(crate) fn operations(&self) -> u64 {
        let cache = self.server + self.overlay + self.shadow + self.unknown;
        cache + self.increments + self.failures.values().sum::<u64>()
    }
}

/// Counts latencies in buckets, eight to each doubling: good to an eighth.
#[derive(Debug)]
struct Latencies(Vec<AtomicU64>);

const BUCKETS_PER_DOUBLING: u64 = 8;

/// From one nanosecond to ten minutes.
const DOUBLINGS: u64 = 40;

impl Latencies {
    fn new() -> Self {
        Latencies((0..BUCKETS_PER_DOUBLING * DOUBLINGS).map(|_| AtomicU64::new(0)).collect())
    }

    fn note(&self, took: Duration) {
        let nanos = (took.as_nanos() as u64).max(BUCKETS_PER_DOUBLING);
        let doublings = u64::from(nanos.ilog2());
        let eighth = (nanos >> (doublings - 3)) - BUCKETS_PER_DOUBLING;
        let bucket = doublings * BUCKETS_PER_DOUBLING + eighth;
        add_one(&self.0[(bucket as usize).min(self.0.len() - 1)]);
    }

    fn take_p99(&self) -> Duration {
        let counts: Vec<_> = self.0.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        let most = counts.iter().sum::<u64>() * 99 / 100;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen > most
        });
        bucket.map_or(Duration::ZERO, |bucket| {
            let (doublings, eighth) =
                (bucket as u64 / BUCKETS_PER_DOUBLING, bucket as u64 % BUCKETS_PER_DOUBLING);
            Duration::from_nanos((BUCKETS_PER_DOUBLING + eighth + 1) << doublings >> 3)
        })
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_to_an_eighth() {
        let latencies = Latencies::new();
        for _ in 0..98 {
            latencies.note(Duration::from_micros(10));
        }
        latencies.note(Duration::from_millis(3));
        latencies.note(Duration::from_millis(3));
        let p99 = latencies.take_p99();
        let limits = Duration::from_micros(3000)..Duration::from_micros(3500);
        assert!(limits.contains(&p99), "{p99:?}");
        assert_eq!(latencies.take_p99(), Duration::ZERO, "it was taken");
    }
}

//! Many worlds, on all cores, and what came of them in sum.

use std::{
    any::Any,
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    entropy::Entropy,
    invariants,
    mutants::Mutant,
    oracle::Violation,
    setup::Setup,
    shrink::shrink,
    world::{self, Story},
};

/// Which seeds are told, and how.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Which.
    pub seeds: Range<u64>,
    /// On so many threads.
    pub threads: usize,
    /// With a deliberate fault.
    pub mutant: Option<Mutant>,
    /// Goes on after something was found.
    pub all: bool,
    /// Passes over the seeds of other worlds than clusters.
    pub clusters: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Bag {
    /// How many worlds were lived through.
    pub worlds: u64,
    /// All their stories in one.
    pub sum: Story,
    /// What went wrong, by seed.
    pub found: BTreeMap<u64, Found>,
}

/// How far a hunt has come.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So many seeds have been told.
    Seeds(u64),
    /// What has gone wrong with this seed.
    Found(u64, &'a Found),
}

/// How a world went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A promise was broken, or, told apart in it, nothing got on any more.
    Broken(Violation),
    /// The engine panicked, with these words.
    Panic(String),
}

impl Found {
    /// The number of the invariant; a panic breaks [`NO_PANIC`].
    #[must_use]
    pub fn invariant(&self) -> u8 {
        match self {
            Found::Broken(violation) => violation.invariant,
            Found::Panic(_) => NO_PANIC,
        }
    }

    /// Whether it is the same thing in another story: words and times may differ.
    #[must_use]
    pub fn is_like(&self, other: &Found) -> bool {
        let of = |found: &Found| match found {
            Found::Broken(violation) => (violation.invariant, violation.liveness, false),
            Found::Panic(_) => (NO_PANIC, false, true),
        };
        of(self) == of(other)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Broken(violation) => violation.fmt(f),
            Found::Panic(words) => {
                write!(f, "invariant {NO_PANIC} ({}): {words}", invariants::name(NO_PANIC))
            }
        }
    }
}

/// The invariant that no input makes the engine panic.
pub const NO_PANIC: u8 = 19;

impl Hunt {
    /// All of `seeds`, on all cores, until something is found.
    #[must_use]
    pub fn new(seeds: Range<u64>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Hunt { seeds, threads, mutant: None, all: false, clusters: false }
    }

    /// Lives through all worlds. `progress` hears now and then how many there were, and at once of what goes
    /// wrong.
    #[must_use]
    pub fn run(&self, progress: impl Fn(Progress<'_>) + Sync) -> Bag {
        let (next, stop) = (AtomicU64::new(self.seeds.start), AtomicBool::new(false));
        let bag = Mutex::new(Bag::default());
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    let mut own = Bag::default();
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            break;
                        }
                        if seed % PROGRESS_SEEDS == PROGRESS_SEEDS - 1 {
                            progress(Progress::Seeds(seed + 1 - self.seeds.start));
                        }
                        if self.clusters && !is_cluster(seed) {
                            continue;
                        }
                        own.worlds += 1;
                        match tell(Entropy::from_seed(seed), self.mutant, false) {
                            Ok(story) => own.sum.add(&story),
                            Err(found) => {
                                progress(Progress::Found(seed, &found));
                                own.found.insert(seed, found);
                                stop.fetch_or(!self.all, Ordering::Relaxed);
                            }
                        }
                    }
                    bag.lock().expect("nobody panics with it").add(own);
                });
            }
        });
        bag.into_inner().expect("nobody panics with it")
    }
}

/// Whether the world of a seed is a cluster.
#[must_use]
pub fn is_cluster(seed: u64) -> bool {
    Setup::draw(&mut Entropy::from_seed(seed)).cluster.is_some()
}

/// After so many seeds progress is told.
const PROGRESS_SEEDS: u64 = 500;

impl Bag {
    fn add(&mut self, other: Bag) {
        self.worlds += other.worlds;
        self.sum.add(&other.sum);
        self.found.extend(other.found);
    }
}

impl Story {
    /// Adds another story to this one.
    pub fn add(&mut self, other: &Story) {
        self.simulated += other.simulated;
        self.commands += other.commands;
        self.tally.add(&other.tally);
        for (what, count) in &other.counters {
            *self.counters.entry(what).or_default() += count;
        }
        for (branch, count) in &other.branches {
            *self.branches.entry(branch).or_default() += count;
        }
    }

    /// The faults that came, by kind.
    pub fn faults(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self.counters.iter();
        named.filter_map(|(name, count)| Some((name.strip_prefix("fault: ")?, *count)))
    }

    /// The branches that were never taken.
    #[must_use]
    pub fn unreached(&self) -> Vec<&'static str> {
        self.branches.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect()
    }

    /// How long it took in hours of the world's own time.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.simulated.as_secs_f64() / Duration::from_secs(3_600).as_secs_f64()
    }
}

/// Tells one story, and keeps a panic from going any further.
///
/// # Errors
///
/// What went wrong.
pub fn tell(entropy: Entropy, mutant: Option<Mutant>, print: bool) -> Result<Story, Found> {
    let told = catch_unwind(AssertUnwindSafe(|| world::run_with(entropy, mutant, print)));
    match told {
        Ok(result) => result.map_err(Found::Broken),
        Err(payload) => Err(Found::Panic(words_of(payload.as_ref()))),
    }
}

/// The shortest bytes that go wrong as this seed does, as far as so many tellings find them; `None` if it
/// does not.
#[must_use]
pub fn shrink_seed(seed: u64, mutant: Option<Mutant>, tellings: u32) -> Option<(Vec<u8>, Found)> {
    let (entropy, tape) = Entropy::from_seed(seed).recorded();
    let found = tell(entropy, mutant, false).err()?;
    let bytes = tape.borrow().clone();
    let mut last = found.clone();
    let shortest = shrink(&bytes, tellings, |bytes| {
        let told = tell(Entropy::from_bytes(bytes), mutant, false);
        told.is_err_and(|other| {
            let like = other.is_like(&found);
            if like {
                last = other;
            }
            like
        })
    });
    Some((shortest, last))
}

fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
}

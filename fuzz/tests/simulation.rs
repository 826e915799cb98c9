//! Worlds by the thousand, and the faults that prove the oracle.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use unfazed_fuzz::{
    entropy::Entropy,
    hunt::{Hunt, is_cluster, shrink_seed, tell},
    invariants::INVARIANTS,
    mutants::Mutant,
    world,
};

/// How many worlds are lived through.
const SEEDS: u64 = 5_000;

/// How many seeds a deliberate fault is given to be found.
const MUTANT_SEEDS: u64 = 1_000;

/// The name of threads whose panics are expected.
const QUIET: &str = "quiet";

#[test]
fn every_promise_holds_in_five_thousand_worlds_and_every_rare_branch_is_reached() {
    let bag = Hunt::new(0..SEEDS).run(|_| {});
    assert!(bag.found.is_empty(), "{:#?}", bag.found);
    assert_eq!(bag.worlds, SEEDS);
    let unreached = bag.sum.unreached();
    assert!(unreached.is_empty(), "never reached: {unreached:#?}");
    assert!(!bag.sum.branches.is_empty(), "the engine counts its rare branches");
}

#[test]
fn every_invariant_has_a_deliberate_fault_that_breaks_it() {
    let all = Mutant::ALL.iter().chain(Mutant::IN_CLUSTERS);
    let broken: BTreeSet<u8> = all.map(|(_, number)| *number).collect();
    let numbers = 1..=u8::try_from(INVARIANTS.len()).expect("they are few");
    let without: Vec<_> = numbers.filter(|number| !broken.contains(number)).collect();
    assert!(without.is_empty(), "nothing breaks {without:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..25 {
        let tell = || world::run(seed, None, false).map(|story| story.trace);
        assert_eq!(tell(), tell(), "seed {seed}");
    }
    assert_ne!(
        world::run(1, None, false).map(|story| story.trace),
        world::run(2, None, false).map(|story| story.trace),
    );
}

#[test]
fn a_finite_slice_of_bytes_drives_a_world_too() {
    for length in [0, 1, 100, 1_000] {
        let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 131 % 251) as u8).collect();
        let story = world::run_with(Entropy::from_bytes(&bytes), None, false);
        assert!(story.is_ok(), "{length} bytes: {story:?}");
    }
}

#[test]
fn what_a_seed_has_drawn_tells_the_same_story_as_bytes() {
    for seed in 0..10 {
        let (entropy, tape) = Entropy::from_seed(seed).recorded();
        let seeded = world::run_with(entropy, None, false).map(|story| story.trace);
        let entropy = Entropy::from_bytes(&tape.borrow());
        assert_eq!(seeded, world::run_with(entropy, None, false).map(|story| story.trace));
    }
}

#[test]
fn a_story_that_breaks_a_promise_is_made_shorter() {
    let mutant = Some(Mutant::SkipByte);
    let fails = |seed: &u64| tell(Entropy::from_seed(*seed), mutant, false).is_err();
    let seed = (0..MUTANT_SEEDS).find(fails).expect("it is found");
    let (entropy, tape) = Entropy::from_seed(seed).recorded();
    let long = tell(entropy, mutant, false).expect_err("it was found here");
    let (bytes, short) = shrink_seed(seed, mutant, 100).expect("it was found here");
    assert!(short.is_like(&long), "{short} and {long}");
    let before = tape.borrow().len();
    assert!(bytes.len() < before, "{} of {before} bytes are left", bytes.len());
    let again = tell(Entropy::from_bytes(&bytes), mutant, false).expect_err("it still is");
    assert_eq!(again, short);
}

/// The first seed in which the named check has found the fault.
fn finds(mutant: Mutant, invariant: u8) -> Option<u64> {
    let in_clusters = Mutant::IN_CLUSTERS.iter().any(|(of_clusters, _)| *of_clusters == mutant);
    (0..MUTANT_SEEDS).filter(|seed| !in_clusters || is_cluster(*seed)).find(|seed| {
        tell(Entropy::from_seed(*seed), Some(mutant), false)
            .is_err_and(|found| found.invariant() == invariant)
    })
}

#[test]
fn every_deliberate_fault_is_found_by_the_check_that_is_named_for_it() {
    // The one that makes the engine panic would fill the output with its backtraces.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(QUIET) {
            told(panic);
        }
    }));
    // Those of clusters take longest, so they come first.
    let all: Vec<_> = Mutant::IN_CLUSTERS.iter().chain(Mutant::ALL).collect();
    let next = AtomicUsize::new(0);
    let search = || {
        let mut found = Vec::new();
        while let Some(&&(mutant, invariant)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((mutant, finds(mutant, invariant)));
        }
        found
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<_> = thread::scope(|scope| {
        let quiet = || thread::Builder::new().name(QUIET.to_owned());
        let searches: Vec<_> = (0..threads)
            .map(|_| quiet().spawn_scoped(scope, search).expect("there is room for a thread"))
            .collect();
        searches.into_iter().flat_map(|search| search.join().expect("it does not panic")).collect()
    });
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).collect();
    println!("{found:?}");
    assert!(missed.is_empty(), "not found: {missed:?}");
}

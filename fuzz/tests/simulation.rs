//! Worlds by the hundred, and the faults that prove the oracle.

use std::panic::{AssertUnwindSafe, catch_unwind};

use unfazed_fuzz::{entropy::Entropy, mutants::Mutant, world};

/// How many seeds a deliberate fault is given to be found.
const MUTANT_SEEDS: u64 = 1_000;

#[test]
fn every_promise_holds_in_five_hundred_worlds() {
    for seed in 0..500 {
        if let Err(violation) = world::run(seed, None, false) {
            panic!("seed {seed}: {violation}");
        }
    }
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

/// The seeds from `from` on until the named check has found the fault.
fn finds(mutant: Mutant, invariant: u8) -> Option<u64> {
    (0..MUTANT_SEEDS).find(|seed| {
        match catch_unwind(AssertUnwindSafe(|| world::run(*seed, Some(mutant), false))) {
            Ok(Ok(_)) => false,
            Ok(Err(violation)) => violation.invariant == invariant,
            Err(_) => invariant == 0,
        }
    })
}

#[test]
fn every_deliberate_fault_is_found_by_the_check_that_is_named_for_it() {
    // The one that makes the engine panic would fill the output with its backtraces.
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> =
        Mutant::ALL.iter().map(|&(one, number)| (one, finds(one, number))).collect();
    drop(std::panic::take_hook());
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).collect();
    println!("{found:?}");
    assert!(missed.is_empty(), "not found: {missed:?}");
}

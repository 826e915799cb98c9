//! Runs many worlds, or tells the story of one.
//!
//! ```text
//! simulate --seeds 0..10000          runs them, prints what happened in sum
//! simulate --seeds 0..10000 --all    goes on after a broken promise, and lists them
//! simulate --seed 7 --trace          prints what happened in one
//! ```
//!
//! The exit code is 0 where every promise held, 1 where one was broken, 2 where something did not
//! finish after healing, 3 where the engine panicked, 64 for a wrong command line.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use unfazed_fuzz::world::{Story, run};

const BROKEN: u8 = 1;
const STUCK: u8 = 2;
const PANICKED: u8 = 3;
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let Some((seeds, all, trace)) = arguments() else {
        eprintln!("usage: simulate (--seed N | --seeds A..B) [--all] [--trace]");
        return ExitCode::from(USAGE);
    };
    let begun = Instant::now();
    let mut sum = Story::default();
    let (mut worlds, mut worst) = (0u64, None);
    let mut failures: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in seeds {
        worlds += 1;
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, None, trace)));
        let (code, what) = match result {
            Ok(Ok(story)) => {
                add(&mut sum, &story);
                continue;
            }
            Ok(Err(violation)) => {
                println!("seed {seed}: {violation}");
                let code = if violation.liveness { STUCK } else { BROKEN };
                (code, format!("invariant {}", violation.invariant))
            }
            Err(_) => {
                println!("seed {seed}: panicked");
                (PANICKED, "panic".to_owned())
            }
        };
        failures.entry(what).or_default().push(seed);
        worst = worst.max(Some(code));
        if !all {
            break;
        }
    }
    report(&sum, worlds, begun.elapsed(), &failures);
    ExitCode::from(worst.unwrap_or(0))
}

fn arguments() -> Option<(Range<u64>, bool, bool)> {
    let (mut seeds, mut all, mut trace) = (None, false, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => {
                let seed: u64 = words.next()?.parse().ok()?;
                seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let range = words.next()?;
                let (from, to) = range.split_once("..")?;
                seeds = Some(from.parse().ok()?..to.parse().ok()?);
            }
            "--all" => all = true,
            "--trace" => trace = true,
            _ => return None,
        }
    }
    Some((seeds?, all, trace))
}

fn add(sum: &mut Story, story: &Story) {
    sum.simulated += story.simulated;
    sum.commands += story.commands;
    let (into, from) = (&mut sum.tally, &story.tally);
    into.ok += from.ok;
    into.no += from.no;
    into.maybe += from.maybe;
    into.yes += from.yes;
    for (into, from) in into.sources.iter_mut().zip(from.sources) {
        *into += from;
    }
    for (what, count) in &story.counters {
        *sum.counters.entry(what).or_default() += count;
    }
}

fn report(sum: &Story, worlds: u64, took: Duration, failures: &BTreeMap<String, Vec<u64>>) {
    let Story { tally, .. } = sum;
    println!("seeds                  {worlds} in {:.1} s", took.as_secs_f64());
    println!("simulated              {:.0} s", sum.simulated.as_secs_f64());
    println!("commands               {}", sum.commands);
    println!("ok                     {}", tally.ok);
    println!("failed: no             {}", tally.no);
    println!("failed: maybe          {}", tally.maybe);
    println!("failed: yes            {}", tally.yes);
    let [server, overlay, shadow, unknown] = tally.sources;
    println!(
        "answered by            server {server}, overlay {overlay}, shadow {shadow}, unknown {unknown}"
    );
    for (what, count) in &sum.counters {
        println!("  {what:<48} {count}");
    }
    for (what, seeds) in failures {
        let first = &seeds[..seeds.len().min(12)];
        println!("BROKEN {what}: {} seeds, {first:?}", seeds.len());
    }
}

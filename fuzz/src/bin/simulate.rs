//! Runs many worlds, or tells the story of one.
//!
//! ```text
//! simulate --seeds 0..10000          runs them, prints what happened in sum
//! simulate --seeds 0..10000 --all    goes on after a broken promise, and lists them
//! simulate --seed 7 --trace          prints what happened in one
//! simulate --bytes 0aff03 --trace    the same for a story that was made shorter
//! ```
//!
//! The first story that breaks a promise is made shorter, and printed as bytes that tell it again.
//! `--threads N` runs on so many threads instead of all cores, `--mutant NAME` with a deliberate fault,
//! `--clusters` only those worlds that are clusters.
//!
//! The exit code is 0 where every promise held, 1 where one was broken, 2 where something did not
//! finish after healing, 3 where the engine panicked, 64 for a wrong command line.

use std::{collections::BTreeMap, ops::Range, process::ExitCode, time::Instant};

use unfazed_fuzz::{
    entropy::Entropy,
    hunt::{Bag, Found, Hunt, Progress, shrink_seed, tell},
    mutants::Mutant,
    world::Story,
};

const BROKEN: u8 = 1;
const STUCK: u8 = 2;
const PANICKED: u8 = 3;
const USAGE: u8 = 64;

/// How often a story is told anew to make it shorter.
const TELLINGS: u32 = 1_000;

fn main() -> ExitCode {
    let Some(wanted) = Wanted::from_arguments() else {
        eprintln!(
            "usage: simulate (--seed N | --seeds A..B | --bytes HEX) [--all] [--trace] [--threads N] \
             [--mutant NAME] [--clusters]"
        );
        return ExitCode::from(USAGE);
    };
    let begun = Instant::now();
    let bag = match &wanted.what {
        What::Seeds(seeds) if wanted.trace => {
            one(seeds.start, Entropy::from_seed(seeds.start), &wanted)
        }
        What::Bytes(bytes) => one(0, Entropy::from_bytes(bytes), &wanted),
        What::Seeds(seeds) => {
            let mut hunt = Hunt::new(seeds.clone());
            (hunt.all, hunt.mutant, hunt.clusters) = (wanted.all, wanted.mutant, wanted.clusters);
            hunt.threads = wanted.threads.unwrap_or(hunt.threads);
            hunt.run(|progress| match progress {
                Progress::Seeds(count) => {
                    eprintln!("{count} seeds, {:.0} s", begun.elapsed().as_secs_f64());
                }
                Progress::Found(seed, found) => eprintln!("seed {seed}: {found}"),
            })
        }
    };
    report(&bag, begun.elapsed().as_secs_f64());
    let shorter = matches!(wanted.what, What::Seeds(_)) && !wanted.trace;
    if let Some((seed, _)) = bag.found.first_key_value().filter(|_| shorter) {
        tell_shorter(*seed, wanted.mutant);
    }
    ExitCode::from(bag.found.values().map(code_of).max().unwrap_or(0))
}

fn code_of(found: &Found) -> u8 {
    match found {
        Found::Broken(violation) if violation.liveness => STUCK,
        Found::Broken(_) => BROKEN,
        Found::Panic(_) => PANICKED,
    }
}

/// One story, told as it happens where that is asked for.
fn one(seed: u64, entropy: Entropy, wanted: &Wanted) -> Bag {
    let mut bag = Bag { worlds: 1, ..Bag::default() };
    match tell(entropy, wanted.mutant, wanted.trace) {
        Ok(story) => bag.sum = story,
        Err(found) => drop(bag.found.insert(seed, found)),
    }
    bag
}

fn tell_shorter(seed: u64, mutant: Option<Mutant>) {
    eprintln!("seed {seed} is told anew, ever shorter");
    // The one story is told many times, and its backtraces say the same.
    std::panic::set_hook(Box::new(|_| {}));
    let Some((bytes, found)) = shrink_seed(seed, mutant, TELLINGS) else { return };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mutant = mutant.map(|mutant| format!(" --mutant {mutant:?}")).unwrap_or_default();
    println!("seed {seed} in {} bytes: {found}", bytes.len());
    println!("  simulate --trace{mutant} --bytes {hex}");
}

// ---- what is wanted ----------------------------------------------------------------------------

struct Wanted {
    what: What,
    all: bool,
    trace: bool,
    threads: Option<usize>,
    mutant: Option<Mutant>,
    clusters: bool,
}

enum What {
    Seeds(Range<u64>),
    Bytes(Vec<u8>),
}

impl Wanted {
    fn from_arguments() -> Option<Self> {
        let (mut what, mut all, mut trace) = (None, false, false);
        let (mut threads, mut mutant, mut clusters) = (None, None, false);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seed" => {
                    let seed: u64 = words.next()?.parse().ok()?;
                    what = Some(What::Seeds(seed..seed + 1));
                }
                "--seeds" => {
                    let range = words.next()?;
                    let (from, to) = range.split_once("..")?;
                    what = Some(What::Seeds(from.parse().ok()?..to.parse().ok()?));
                }
                "--bytes" => what = Some(What::Bytes(from_hex(&words.next()?)?)),
                "--all" => all = true,
                "--trace" => trace = true,
                "--clusters" => clusters = true,
                "--threads" => threads = Some(words.next()?.parse().ok()?),
                "--mutant" => {
                    let name = words.next()?;
                    let all = Mutant::ALL.iter().chain(Mutant::IN_CLUSTERS);
                    let mut known = all.map(|(mutant, _)| *mutant);
                    mutant = Some(known.find(|mutant| format!("{mutant:?}") == name)?);
                }
                _ => return None,
            }
        }
        Some(Wanted { what: what?, all, trace, threads, mutant, clusters })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

// ---- what there is to say ----------------------------------------------------------------------

fn report(bag: &Bag, seconds: f64) {
    let Bag { worlds, sum, found } = bag;
    let Story { tally, .. } = sum;
    println!("seeds                  {worlds} in {seconds:.1} s");
    println!("simulated              {:.2} hours", sum.hours());
    println!("requests               {}", sum.commands);
    println!("ok                     {}", tally.ok);
    println!("failed: no             {}", tally.no);
    println!("failed: maybe          {}", tally.maybe);
    println!("failed: yes            {}", tally.yes);
    let [server, overlay, shadow, unknown] = tally.sources;
    println!(
        "answered by            server {server}, overlay {overlay}, shadow {shadow}, unknown {unknown}"
    );
    let line = |(what, count): (&str, u64)| println!("  {what:<66} {count}");
    println!("faults");
    sum.faults().for_each(line);
    println!("branches that are rarely taken");
    sum.branches.iter().for_each(|(what, count)| line((what, *count)));
    println!("and");
    let others = sum.counters.iter().filter(|(what, _)| !what.starts_with("fault: "));
    others.for_each(|(what, count)| line((what, *count)));
    let mut by_number: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    for (seed, found) in found {
        println!("seed {seed}: {found}");
        by_number.entry(found.invariant()).or_default().push(*seed);
    }
    for (number, seeds) in &by_number {
        let first = &seeds[..seeds.len().min(12)];
        println!("BROKEN invariant {number}: {} seeds, {first:?}", seeds.len());
    }
    if found.is_empty() {
        println!("no promise was broken");
    }
}

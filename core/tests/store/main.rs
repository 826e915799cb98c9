//! Holds the embedded store to a real server: the same commands to both, the same replies and
//! the same key space after them.
//!
//! Needs a `redis-server` of version 7.0 on the path, which is what the store imitates, and fails
//! without. With `UNFAZED_TEST_SERVER` another server can be named, to see what differs there.
//! Each test starts a server of its own.
//!
//! **Commands.** Each has a row in the tables of `generate`, which makes it well formed, on keys
//! that mostly hold the right type, and spoils it about one time in four. A command that the
//! store supports and that has no row fails the test, and so does the other way round. They come
//! in sequences, which follow from a seed and their number; each begins on an empty store and ends
//! with a comparison of all keys, their types, encodings, values and expiry. What may differ
//! stands in `tolerated`. A failing sequence is shortened and printed.
//!
//! **Time.** The store is told the time; for a batch of commands it is the one read before the
//! server gets them, from the clock that the server reads too. So whatever counts from now differs
//! by as long as the batch took at most, which is measured, and that much is tolerated when TTL,
//! PTTL, EXPIRETIME or PEXPIRETIME give it. Moments that a command names must come back exactly:
//! they all lie in the years 2100 to 2134, where no span leads to. Spans are picked so widely that
//! GT and LT meet no two that are close. In one of twenty sequences entries expire: their ends are
//! set some milliseconds ahead, all of it is over before both go on (if the machine was too slow,
//! the sequence is run again, with longer spans), and what follows meets them expired on both sides.
//!
//! **Longer runs.** `UNFAZED_STORE_COMMANDS=10000000` runs at least so many commands, best in
//! release, and `UNFAZED_STORE_SEED=7` other ones. A report names the seed and the number of the
//! sequence; `UNFAZED_STORE_FIRST=1234` begins with that one.
#![expect(clippy::disallowed_methods, reason = "a real server has a real clock and a real socket")]

mod collections;
mod compare;
mod generate;
mod pair;
mod random;
mod report;
mod server;
mod tolerated;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use unfazed_core::fallback::store::{Answer, Bounds, Store};
use unfazed_core::resp::Value;

use generate::{FIELDS, TABLES, Tables, UNKNOWN, fixed_keys, sequence};
use pair::{Pair, now};
use random::{Random, args};
use report::{Report, Shown};
use server::Server;

/// The seed that `./check` runs with.
const SEED: u64 = 0x5EED;
/// How many commands there are at least, unless more are asked for.
const COMMANDS_MIN: usize = 200_000;
const RUNS_PER_COMMAND_MIN: usize = 500;
/// Of the runs of each command, at least one in so many is an error.
const ERRORS_ONE_IN: usize = 5;
/// After so many differences there is enough to look into.
const REPORTS_MAX: usize = 12;

#[test]
fn replies_errors_and_expiry_are_those_of_a_server() {
    let (commands, seed) = (setting("UNFAZED_STORE_COMMANDS"), setting("UNFAZED_STORE_SEED"));
    let first = setting("UNFAZED_STORE_FIRST").unwrap_or(0);
    let commands =
        commands.map_or(COMMANDS_MIN, |number| usize::try_from(number).expect("64 bits"));
    assert!(
        commands >= COMMANDS_MIN,
        "UNFAZED_STORE_COMMANDS is {commands}, but no run is shorter than {COMMANDS_MIN}"
    );
    let seed = seed.unwrap_or(SEED);
    let mut pair = Pair::start();
    let tables = tables(&mut pair);
    let mut reports: Vec<Report> = Vec::new();
    let mut number = first;
    while total(&pair) < commands && reports.len() < REPORTS_MAX {
        let steps = sequence(&tables, seed, number);
        if let Err(difference) = pair.run_in_time(&steps) {
            let name = &difference.command[0];
            if !reports.iter().any(|report| report.difference.command[0].eq_ignore_ascii_case(name))
            {
                reports.push(Report::shortened(&mut pair, seed, number, steps, difference));
            }
        }
        number += 1;
    }
    let (poor, shown) = distribution(&pair, &tables);
    // Past the capturing of tests: the numbers are a part of what a check tells.
    let version = pair.server.version();
    writeln!(
        io::stdout(),
        "store and redis {version}, seed {seed}, sequences {first}..{number}: {shown}"
    )
    .expect("somebody who listens");
    let shown: Vec<_> = reports.iter().map(|report| format!("\n{report}\n")).collect();
    assert!(reports.is_empty(), "the store differs from the server:\n{}", shown.concat());
    assert!(poor.is_empty(), "too few runs or errors: {poor:?}");
    let known = tables.0.iter().flatten().map(|row| row.name).collect();
    let needless = pair.needless(&known);
    assert!(needless.is_empty(), "differences are tolerated that are none: {needless:?}");
}

/// The rows of commands that both the store and the server know. There is one for each command of
/// the store and none for any other; what a server of version 7.0 does not know is left out.
fn tables(pair: &mut Pair) -> Tables {
    let theirs = pair.server.commands();
    let known = |name: &str| theirs.iter().any(|other| other.eq_ignore_ascii_case(name));
    let names: BTreeSet<_> = TABLES.iter().copied().flatten().map(|row| row.name).collect();
    let supported: BTreeSet<_> = Store::commands().map(str::to_uppercase).collect();
    let missing: Vec<_> = supported.iter().filter(|name| !names.contains(&***name)).collect();
    assert!(missing.is_empty(), "the store supports commands that have no row: {missing:?}");
    let absent: Vec<_> = names.iter().filter(|name| !supported.contains(**name)).collect();
    assert!(absent.is_empty(), "there are rows of commands that the store lacks: {absent:?}");
    let strange: Vec<_> = names.iter().filter(|name| !known(name)).collect();
    let newer = |name: &&&str| FIELDS.iter().any(|row| row.name == **name);
    assert!(
        strange.iter().all(newer),
        "there are rows of commands that no server has: {strange:?}"
    );
    let tables = TABLES.iter().map(|table| table.iter().filter(|row| known(row.name)).collect());
    Tables(tables.collect())
}

/// How often each command ran and failed, as a table, and which did not often enough.
fn distribution(pair: &Pair, tables: &Tables) -> (Vec<&'static str>, String) {
    let mut names: Vec<_> = tables.0.iter().flatten().map(|row| row.name).collect();
    names.push(UNKNOWN);
    names.sort_unstable();
    let (mut poor, mut shown) = (Vec::new(), String::new());
    let errors: usize = pair.tally.values().map(|count| count.errors).sum();
    shown.push_str(&format!("{} commands, {errors} of them errors\n", total(pair)));
    for (place, name) in names.iter().enumerate() {
        let count = pair.tally.get(name).copied().unwrap_or_default();
        let percent = 100 * count.errors / count.runs.max(1);
        let end = if place % 4 == 3 { "\n" } else { "" };
        shown.push_str(&format!("{name:>18} {:>7} {percent:>3} %{end}", count.runs));
        if count.runs < RUNS_PER_COMMAND_MIN || count.errors * ERRORS_ONE_IN < count.runs {
            poor.push(*name);
        }
    }
    (poor, shown)
}

fn total(pair: &Pair) -> usize {
    pair.tally.values().map(|count| count.runs).sum()
}

/// A number from the environment, if it is set.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    let number = text.to_str().and_then(|text| text.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{name} must be a whole number, and is {text:?}")))
}

/// What the share of errors rests on.
#[test]
fn spoiled_commands_are_refused_by_a_server_and_others_are_not_mostly() {
    const RUNS: usize = 100;
    let mut server = Server::start();
    let mut random = Random::new(SEED);
    let theirs = server.commands();
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for row in TABLES.iter().copied().flatten() {
        if !theirs.iter().any(|name| name.eq_ignore_ascii_case(row.name)) {
            continue;
        }
        server.ask(&args(&["FLUSHALL"]));
        server.exchange(&fixed_keys());
        for _ in 0..RUNS {
            let command = row.spoiled(&mut random);
            if !matches!(server.ask(&command), Value::Error(_)) {
                accepted.push(Shown(&command).to_string());
            }
        }
        let mut errors = BTreeMap::new();
        for _ in 0..RUNS {
            let command = row.well_formed(&mut random);
            // There is hardly anything yet.
            if let Value::Error(text) = server.ask(&command)
                && text != b"ERR no such key"[..]
            {
                *errors.entry(text).or_insert(0) += 1;
            }
        }
        if errors.values().sum::<usize>() > RUNS / 4 {
            refused.push(format!("{}: {errors:?}", row.name));
        }
    }
    assert!(accepted.is_empty(), "spoiled, and accepted:\n{}", accepted.join("\n"));
    assert!(refused.is_empty(), "well formed, and refused:\n{}", refused.join("\n"));
}

#[test]
fn long_double_sums_are_those_of_a_server_to_the_last_digit() {
    let mut pair = Pair::start();
    let mut random = Random::new(SEED);
    for _ in 0..5_000 {
        pair.both(vec![b"SET".to_vec(), b"k".to_vec(), random.float()]);
        pair.both(vec![b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
        pair.both(vec![b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
    }
}

#[test]
fn patterns_match_the_keys_that_a_server_matches() {
    let mut pair = Pair::start();
    let mut random = Random::new(SEED);
    pair.both(args(&["SET", "", "v"]));
    for _ in 0..150 {
        let key = random.bytes(b"ab]-\\^\x80\xFF", 1..5);
        pair.both(vec![b"SET".to_vec(), key, b"v".to_vec()]);
    }
    for _ in 0..5_000 {
        let pattern = random.bytes(b"ab*?[]^-\\\x80\xFF", 0..8);
        pair.both(vec![b"KEYS".to_vec(), pattern]);
    }
}

#[test]
fn the_tables_of_commands_are_the_servers() {
    let mut pair = Pair::start();
    for name in pair.server.commands() {
        let mut store = Store::new(1, Bounds::NONE);
        let unknown = match store.execute(&[name.as_bytes()], now()) {
            Answer::Reply(Value::Error(text)) => text.starts_with(b"ERR unknown command"),
            _ => false,
        };
        assert!(!unknown || !pair.server.is_7_0(), "{name:?} is a command of Redis");
        if Store::supports(name.as_bytes()) {
            pair.both(args(&[&name]));
            pair.both(vec![name.as_bytes().to_vec(); 20]);
        }
    }
}

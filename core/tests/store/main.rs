//! Holds the embedded store to a real server: the same commands to both, the same replies and
//! the same key space after them.
//!
//! Needs a `redis-server` of version 7.0 on the path, and fails without; each test starts one of
//! its own. The sequences are random and repeatable: they follow from `SEED`.
#![expect(clippy::disallowed_methods, reason = "a real server has a real clock and a real socket")]

mod random;
mod server;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use unfazed_core::Now;
use unfazed_core::fallback::store::{Answer, Bounds, Store};
use unfazed_core::resp::Value;

use random::Random;
use server::Server;

const SEED: u64 = 0x5EED;
const SEQUENCES: usize = 1_500;
const COMMANDS_PER_SEQUENCE: usize = 40;
const RUNS_PER_COMMAND_MIN: usize = 500;

/// How the replies of one command are held against each other, where not for equality.
enum Tolerance {
    /// Arrays may differ in order.
    Order,
    /// Numbers may differ by so much.
    Within(i64),
    /// Both give a key that exists, or none.
    AnyKey,
    /// Both give an array of two bulk strings.
    Shape,
    /// Ours is how many keys KEYS finds on the server.
    Living,
}

/// All differences that are tolerated, each with its reason.
const TOLERATED: &[(&str, Tolerance, &str)] = &[
    ("KEYS", Tolerance::Order, "a server promises no order"),
    ("DBSIZE", Tolerance::Living, "a server counts expired entries until it meets them"),
    ("RANDOMKEY", Tolerance::AnyKey, "it is random"),
    ("TIME", Tolerance::Shape, "the clock is read twice"),
    ("TTL", Tolerance::Within(1), "the clocks may be read on two sides of half a second"),
    ("PTTL", Tolerance::Within(2_000), "the clock is read twice, on a busy machine"),
    ("EXPIRETIME", Tolerance::Within(2), "relative times are added to two readings of the clock"),
    ("PEXPIRETIME", Tolerance::Within(2_000), "relative times are added to two readings"),
];

#[test]
fn replies_and_key_space_are_those_of_a_server() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for sequence in 0..SEQUENCES {
        pair.run(&args(&["FLUSHALL"]));
        for _ in 0..COMMANDS_PER_SEQUENCE {
            let command = random.command();
            let failed = matches!(pair.run(&command), Value::Error(_));
            let name = String::from_utf8_lossy(&command[0]).to_uppercase();
            let name = if Store::supports(&command[0]) { name } else { "(unknown)".to_owned() };
            let count = counts.entry(name).or_default();
            count.0 += 1;
            count.1 += usize::from(failed);
        }
        pair.compare_key_space(&format!("after sequence {sequence}"));
    }
    let (total, failed) = counts.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    println!("{total} commands, {failed} of them errors, as runs/errors:");
    for (name, (runs, errors)) in &counts {
        println!("{name:>12} {runs}/{errors}");
        assert!(*runs >= RUNS_PER_COMMAND_MIN, "{name} ran {runs} times only");
    }
    assert!(failed * 5 >= total, "at least a fifth must be errors: {failed} of {total}");
}

#[test]
fn entries_expire_as_on_a_server() {
    let mut pair = Pair::start();
    pair.run(&args(&["SET", "px", "v", "PX", "500"]));
    pair.run(&args(&["PSETEX", "psetex", "500", "v"]));
    pair.run(&args(&["SET", "stays", "v", "PX", "100000"]));
    pair.run(&args(&["MSET", "pexpire", "v", "other", "v"]));
    pair.run(&args(&["PEXPIRE", "pexpire", "500"]));
    pair.run(&args(&["SET", "past", "v", "PXAT", "1"]));
    pair.compare_key_space("before");
    std::thread::sleep(Duration::from_millis(700));
    for key in ["px", "psetex", "pexpire", "past", "stays"] {
        pair.run(&args(&["GET", key]));
        pair.run(&args(&["PTTL", key]));
    }
    pair.run(&args(&["INCR", "px"]));
    pair.run(&args(&["SET", "psetex", "w", "NX"]));
    pair.compare_key_space("after");
    pair.run(&args(&["DBSIZE"]));
}

#[test]
fn long_double_sums_are_those_of_a_server_to_the_last_digit() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    for _ in 0..5_000 {
        pair.run(&[b"SET".to_vec(), b"k".to_vec(), random.float()]);
        pair.run(&[b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
        pair.run(&[b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
    }
}

#[test]
fn patterns_match_the_keys_that_a_server_matches() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    pair.run(&args(&["SET", "", "v"]));
    for _ in 0..150 {
        let key = random.bytes(b"ab]-\\^\x80\xFF", 1..5);
        pair.run(&[b"SET".to_vec(), key, b"v".to_vec()]);
    }
    for _ in 0..5_000 {
        let pattern = random.bytes(b"ab*?[]^-\\\x80\xFF", 0..8);
        pair.run(&[b"KEYS".to_vec(), pattern]);
    }
}

#[test]
fn the_tables_of_commands_are_the_servers() {
    let mut pair = Pair::start();
    let Value::Array(names) = pair.server.ask(&args(&["COMMAND", "LIST"])) else {
        panic!("COMMAND LIST gives an array");
    };
    for name in names {
        let Value::Bulk(name) = name else { panic!("a name is a bulk string: {name:?}") };
        if name.contains(&b'|') {
            continue;
        }
        let mut store = Store::new(1, Bounds::NONE);
        let unknown = match store.execute(&[&name], now()) {
            Answer::Reply(Value::Error(text)) => text.starts_with(b"ERR unknown command"),
            _ => false,
        };
        assert!(!unknown, "{name:?} is a command of Redis");
        if Store::supports(&name) {
            pair.run(&[name.to_vec()]);
            pair.run(&vec![name.to_vec(); 20]);
        }
    }
}

/// A server and a store that see the same commands.
struct Pair {
    server: Server,
    store: Store,
    /// The last commands, to be shown when the two differ.
    log: Vec<String>,
}

impl Pair {
    fn start() -> Self {
        let bounds = Bounds { entries_max: 10_000, bytes_max: 100 << 20 };
        Pair { server: Server::start(), store: Store::new(SEED, bounds), log: Vec::new() }
    }

    /// Runs a command on both and holds the replies against each other. Returns the server's.
    fn run(&mut self, command: &[Vec<u8>]) -> Value {
        if command[0].eq_ignore_ascii_case(b"FLUSHALL") {
            self.log.clear();
        }
        let shown: Vec<_> = command.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        self.log.push(shown.join(" | "));
        let borrowed: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let now = now();
        let theirs = self.server.ask(command);
        let ours = match self.store.execute(&borrowed, now) {
            Answer::Reply(value) => value,
            other => panic!("{shown:?}: {other:?}"),
        };
        if !self.same(command, &ours, &theirs) {
            let log = &self.log[self.log.len().saturating_sub(COMMANDS_PER_SEQUENCE)..];
            panic!("{}\nours:   {ours:?}\ntheirs: {theirs:?}", log.join("\n"));
        }
        theirs
    }

    fn same(&mut self, command: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
        if ours == theirs {
            return true;
        }
        let name = command[0].to_ascii_uppercase();
        let tolerated = TOLERATED.iter().find(|(tolerated, ..)| tolerated.as_bytes() == name);
        match (tolerated.map(|(_, tolerance, _)| tolerance), ours, theirs) {
            (Some(Tolerance::Order), Value::Array(a), Value::Array(b)) => sorted(a) == sorted(b),
            (Some(Tolerance::Within(most)), Value::Integer(a), Value::Integer(b)) => {
                // Negative numbers are no times but say that there is none.
                *a >= 0 && *b >= 0 && a.abs_diff(*b) <= most.unsigned_abs()
            }
            (Some(Tolerance::AnyKey), Value::Bulk(a), Value::Bulk(_)) => {
                self.server.ask(&[b"EXISTS".to_vec(), a.to_vec()]) == Value::Integer(1)
            }
            (Some(Tolerance::Living), Value::Integer(a), Value::Integer(_)) => {
                let living = self.server.ask(&args(&["KEYS", "*"]));
                matches!(living, Value::Array(keys) if i64::try_from(keys.len()) == Ok(*a))
            }
            (Some(Tolerance::Shape), Value::Array(a), Value::Array(b)) => {
                a.len() == 2 && b.len() == 2 && a.iter().all(|v| matches!(v, Value::Bulk(_)))
            }
            _ => false,
        }
    }

    /// All keys with their types, values and expiry.
    fn compare_key_space(&mut self, when: &str) {
        self.log.push(format!("({when})"));
        let Value::Array(keys) = self.run(&args(&["KEYS", "*"])) else {
            panic!("KEYS gives an array");
        };
        for key in keys {
            let Value::Bulk(key) = key else { panic!("a key is a bulk string: {key:?}") };
            for command in ["TYPE", "GET", "PEXPIRETIME", "PTTL"] {
                self.run(&[command.into(), key.to_vec()]);
            }
        }
        self.run(&args(&["DBSIZE"]));
    }
}

fn sorted(values: &[Value]) -> Vec<String> {
    let mut shown: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    shown.sort();
    shown
}

fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

fn args(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

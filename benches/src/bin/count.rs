//! Counts instructions and allocations per operation, in user space, client side only.
//!
//! ```text
//! cargo run --release -p unfazed-benches --bin count [FILTER…]
//! ```
//!
//! Each workload runs twice under valgrind with different lengths; what is shown is the difference
//! of the two counts over the difference of the lengths, so that start-up, connecting and warming up
//! cancel out. Instructions are callgrind's, allocations (and reallocations) are memcheck's.
//! Everything runs on one thread of tokio's current-thread runtime, with 64 tasks for GET and SET
//! and one for the rest; the server is outside valgrind.

use std::{
    env,
    hint::black_box,
    process::{Command, Stdio},
};

use bytes::{Bytes, BytesMut};
use unfazed_benches::{
    Encoder, VALUE_BYTES, Work, aggregate_of_bulks, deep_map, fill, get_replies, key, value,
};
use unfazed_core::{
    Config,
    commands::Strings,
    fallback::{Fallback, Policy},
    reply::FromReply,
    resp::{Decoder, Limits, Reply},
};
use unfazed_tests::Server;
use unfazed_tokio::Client;

/// What is counted: a name, how many items one operation has, how many tasks, and the two lengths.
struct Case {
    name: String,
    units: usize,
    tasks: usize,
    lengths: (usize, usize),
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    // Under valgrind, from below: `run NAME TASKS COUNT PORT`.
    if let [verb, name, tasks, count, port] = &args[..]
        && verb == "run"
    {
        let number = |text: &String| text.parse().expect("a number");
        return run(name, number(tasks), number(count), port.parse().expect("a port"));
    }
    let server = Server::start();
    fill(server.port());
    println!("{:<24} {:>14} {:>14}", "per item", "instructions", "allocations");
    for case in cases() {
        if !args.is_empty() && !args.iter().any(|filter| case.name.contains(filter.as_str())) {
            continue;
        }
        let instructions = case.difference(server.port(), "callgrind", "Collected : ");
        let allocations = case.difference(server.port(), "memcheck", "total heap usage: ");
        println!("{:<24} {instructions:>14.1} {allocations:>14.3}", case.name);
    }
}

fn cases() -> Vec<Case> {
    let offline = [
        ("decode-get-views", 1_000, (20, 120)),
        ("decode-get-owned", 1_000, (20, 120)),
        ("decode-array", 100_000, (2, 6)),
        ("decode-array-bytes", 100_000, (2, 6)),
        ("decode-array-strings", 100_000, (2, 6)),
        ("decode-deep-map", deep_map(1_000, 8).1, (4, 24)),
        ("encode-set", 1_000, (20, 120)),
        ("encode-mset", 100, (20, 120)),
    ];
    let offline = offline.map(|(name, units, lengths)| Case {
        name: name.to_owned(),
        units,
        tasks: 1,
        lengths,
    });
    let online = Work::ALL.into_iter().filter(|work| work.units() <= 1_000).map(|work| {
        let (tasks, lengths) = match work {
            Work::GetSet => (64, (64_000, 192_000)),
            Work::Get1M => (1, (20, 120)),
            Work::Messages => (1, (20_000, 120_000)),
            _ => (1, (200, 1_200)),
        };
        Case { name: work.name(), units: work.units(), tasks, lengths }
    });
    let shadow = Case {
        name: format!("{}{SHADOW}", Work::GetSet.name()),
        units: Work::GetSet.units(),
        tasks: 64,
        lengths: (64_000, 192_000),
    };
    offline.into_iter().chain(online).chain([shadow]).collect()
}

/// What the name of a workload ends with whose client remembers every value for an outage.
const SHADOW: &str = "-shadow";

impl Case {
    fn difference(&self, port: u16, tool: &str, label: &str) -> f64 {
        let (short, long) = self.lengths;
        let fewer = self.valgrind(port, tool, label, short);
        let more = self.valgrind(port, tool, label, long);
        (more - fewer) / ((long - short) * self.units) as f64
    }

    /// Runs this program under valgrind; gives the number after `label` in what valgrind says.
    fn valgrind(&self, port: u16, tool: &str, label: &str, count: usize) -> f64 {
        let mut command = Command::new("valgrind");
        command.arg(format!("--tool={tool}"));
        match (tool, env::var_os("COUNT_PROFILE")) {
            ("callgrind", Some(file)) => {
                let mut option = std::ffi::OsString::from("--callgrind-out-file=");
                option.push(file);
                command.arg(option);
            }
            ("callgrind", None) => drop(command.arg("--callgrind-out-file=/dev/null")),
            _ => drop(command.arg("--undef-value-errors=no")),
        }
        command.arg(env::current_exe().expect("this program"));
        command.args(["run", &self.name, &self.tasks.to_string(), &count.to_string()]);
        let output = command.arg(port.to_string()).stdin(Stdio::null()).output();
        let output = output.expect("valgrind is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        let number = said.lines().find_map(|line| line.split_once(label)).map(|(_, rest)| {
            rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',')
        });
        let number = number.and_then(|digits| digits.collect::<String>().parse().ok());
        number.unwrap_or_else(|| panic!("valgrind on {}:\n{said}", self.name))
    }
}

/// Runs a workload `count` times.
fn run(name: &str, tasks: usize, count: usize, port: u16) {
    let plain = Config::standalone("127.0.0.1", port);
    let shadowing = name.strip_suffix(SHADOW);
    let config = match shadowing {
        Some(_) => plain.fallback(Fallback::memory("*", Policy::Invalidate)),
        None => plain,
    };
    match Work::find(shadowing.unwrap_or(name)) {
        Some(work) => run_online(work, tasks, count, &config),
        None => run_offline(name, count),
    }
}

fn run_online(work: Work, tasks: usize, count: usize, config: &Config) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::connect(config).await;
        let client = client.expect("a client").handle().clone();
        let spawn = |task| tokio::spawn(work.run(client.clone(), task, count / tasks));
        let tasks: Vec<_> = (0..tasks).map(spawn).collect();
        for task in tasks {
            task.await.expect("no panic").expect("no failure");
        }
    });
}

fn run_offline(name: &str, count: usize) {
    match name {
        "decode-get-views" => decode(&get_replies(1_000), count, |reply| {
            black_box(reply.view().payload().len());
        }),
        "decode-get-owned" => decode(&get_replies(1_000), count, |reply| {
            black_box(Bytes::from_reply(reply).expect("bytes"));
        }),
        "decode-array" => decode(&aggregate_of_bulks(100_000), count, |reply| {
            black_box(reply.view().items().map(|item| item.payload().len()).sum::<usize>());
        }),
        "decode-array-bytes" => decode(&aggregate_of_bulks(100_000), count, |reply| {
            black_box(Vec::<Bytes>::from_reply(reply).expect("bytes"));
        }),
        "decode-array-strings" => decode(&aggregate_of_bulks(100_000), count, |reply| {
            black_box(Vec::<String>::from_reply(reply).expect("text"));
        }),
        "decode-deep-map" => decode(&deep_map(1_000, 8).0, count, |reply| {
            black_box(reply.view().len());
        }),
        "encode-set" => {
            let (key, value) = (key(0), value(VALUE_BYTES));
            encode(count, |encoder| {
                for _ in 0..1_000 {
                    encoder.set(&key, &value);
                }
            });
        }
        "encode-mset" => {
            let pairs: Vec<_> = (0..100).map(|index| (key(index), value(VALUE_BYTES))).collect();
            encode(count, |encoder| encoder.mset(&pairs));
        }
        other => panic!("no workload is called {other}"),
    }
}

fn decode(frames: &[u8], count: usize, mut look: impl FnMut(&Reply)) {
    let mut decoder = Decoder::new(Limits::default());
    for _ in 0..count {
        let mut buffer = BytesMut::from(frames);
        decoder.decode_each(&mut buffer, |reply| look(&reply)).expect("well-formed");
        assert!(buffer.is_empty(), "everything was taken");
    }
}

fn encode(count: usize, make: impl Fn(&Encoder)) {
    let encoder = Encoder::default();
    encoder.0.borrow_mut().reserve(1 << 20);
    for _ in 0..count {
        encoder.0.borrow_mut().clear();
        make(&encoder);
        black_box(&encoder);
    }
}

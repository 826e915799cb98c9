//! Times whole clients on a real server, beside the bare loop.
//!
//! ```text
//! cargo run --release -p unfazed-benches --bin e2e -- [--pin] [--rounds N] [--seconds S] \
//!     [--port PORT] [--clients raw,tokio-1,…] [FILTER…]
//! ```
//!
//! For each workload and number of tasks, all clients take their turns, round after round, so that
//! whatever else the machine does hits them alike; what is shown is the median of the rounds, in
//! units (commands of a pipeline, requests of everything else) per second, and its ratio to the bare
//! loop's. The number of requests is the same for all: what the bare loop does in `--seconds`.
//!
//! - `--pin` puts the server on core 0 and this program on core 1, with `taskset`. The clients on
//!   several threads mean nothing then and are left out.
//! - `--port` uses a server that runs already. **All its data is deleted.** Otherwise one is started.
//! - `FILTER`s are parts of the workloads' names.

use std::{
    env,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use unfazed_benches::{RawLoop, Work, fill};
use unfazed_core::{
    Config,
    fallback::{Fallback, Policy},
    handle::Handle,
};
use unfazed_tests::Server;

struct Args {
    pin: bool,
    rounds: usize,
    seconds: f64,
    port: Option<u16>,
    clients: Option<Vec<String>>,
    filters: Vec<String>,
}

/// Something that does the work.
trait Subject {
    fn name(&self) -> &'static str;

    /// Does `count` requests with so many tasks.
    fn run(&mut self, work: Work, tasks: usize, count: usize);

    /// Whether it does such work at all.
    fn takes(&self, _work: Work, _tasks: usize) -> bool {
        true
    }
}

struct OnTokio {
    name: &'static str,
    runtime: Runtime,
    client: Handle,
}

struct OnSmol {
    client: Handle,
}

/// The blocking client, shared by as many threads as there are tasks.
struct OnThreads {
    client: unfazed_blocking::Client,
}

fn main() {
    let args = Args::parse();
    let server = args.port.is_none().then(Server::start);
    let port = args.port.unwrap_or_else(|| server.as_ref().map_or(0, Server::port));
    if args.pin {
        let server =
            server.as_ref().and_then(Server::pid).expect("--pin needs a server of its own");
        pin(server, "0");
        pin(process::id(), "1");
    }
    fill(port);
    let mut subjects = subjects(port, &args);
    print!("{:<22}{:>6}", "per second", "tasks");
    subjects.iter().for_each(|subject| print!("{:>16}", subject.name()));
    println!();
    for work in Work::ALL.into_iter().filter(|work| args.wants(&work.name())) {
        for tasks in work.tasks() {
            compare(&mut subjects, work, *tasks, &args);
        }
    }
}

/// Prints one line.
fn compare(subjects: &mut [Box<dyn Subject>], work: Work, tasks: usize, args: &Args) {
    // The bare loop says how much is done in the time. A first try that is too short says how much
    // to try.
    let mut count = 4 * tasks;
    let mut spent = time(subjects[0].as_mut(), work, tasks, count);
    while spent < Duration::from_secs_f64(args.seconds / 2.0) {
        let factor = args.seconds / spent.as_secs_f64().max(1e-6);
        count = (count as f64 * factor.clamp(1.5, 100.0)) as usize / tasks * tasks;
        spent = time(subjects[0].as_mut(), work, tasks, count);
    }
    let mut rounds = vec![Vec::new(); subjects.len()];
    for _ in 0..args.rounds {
        for (subject, times) in subjects.iter_mut().zip(&mut rounds) {
            if !subject.takes(work, tasks) {
                continue;
            }
            times.push(time(subject.as_mut(), work, tasks, count));
        }
    }
    let units = if work == Work::Pipeline { work.units() } else { 1 };
    let rates: Vec<f64> = rounds
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            let median = times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64);
            (count * units) as f64 / median
        })
        .collect();
    print!("{:<22}{tasks:>6}", work.name());
    for rate in &rates {
        print!("{:>16}", format!("{:.0} {:.2}", rate, rate / rates[0]));
    }
    println!();
}

fn time(subject: &mut dyn Subject, work: Work, tasks: usize, count: usize) -> Duration {
    let start = Instant::now();
    subject.run(work, tasks, count);
    start.elapsed()
}

fn subjects(port: u16, args: &Args) -> Vec<Box<dyn Subject>> {
    let config = Config::from_url(&format!("redis://127.0.0.1:{port}")).expect("a URL");
    let raw = RawLoop::connect(port).expect("the server is there");
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(raw)];
    subjects.push(Box::new(OnTokio::new("tokio-1", Builder::new_current_thread(), &config)));
    if !args.pin {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2);
        subjects.push(Box::new(OnTokio::new("tokio-2", builder, &config)));
    }
    // What it costs to remember every value for an outage.
    let shadowing = config.clone().fallback(Fallback::memory("*", Policy::Invalidate));
    subjects.push(Box::new(OnTokio::new("shadow-1", Builder::new_current_thread(), &shadowing)));
    let client = smol::block_on(unfazed_smol::Client::connect(&config)).expect("a client");
    subjects.push(Box::new(OnSmol { client: client.handle().clone() }));
    let client = unfazed_blocking::Client::connect(&config).expect("a client");
    subjects.push(Box::new(OnThreads { client }));
    if let Some(clients) = &args.clients {
        let wanted = |name| name == "raw" || clients.iter().any(|client| client == name);
        subjects.retain(|subject| wanted(subject.name()));
    }
    subjects
}

/// Puts all threads of a process on one core.
fn pin(process: u32, core: &str) {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", core, &process.to_string()]);
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "taskset failed");
}

impl Subject for RawLoop {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn run(&mut self, work: Work, tasks: usize, count: usize) {
        match work {
            Work::Messages => self.listen(count),
            _ => RawLoop::run(self, &work.raw(), tasks, count),
        }
        .expect("the server answers");
    }
}

impl OnTokio {
    fn new(name: &'static str, mut builder: Builder, config: &Config) -> Self {
        let runtime = builder.enable_all().build().expect("a runtime");
        let client = runtime.block_on(unfazed_tokio::Client::connect(config)).expect("a client");
        OnTokio { name, runtime, client: client.handle().clone() }
    }
}

impl Subject for OnTokio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, work: Work, tasks: usize, count: usize) {
        self.runtime.block_on(async {
            let spawn = |task| tokio::spawn(work.run(self.client.clone(), task, count / tasks));
            let tasks: Vec<_> = (0..tasks).map(spawn).collect();
            for task in tasks {
                task.await.expect("no panic").expect("no failure");
            }
        });
    }
}

impl Subject for OnSmol {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn run(&mut self, work: Work, tasks: usize, count: usize) {
        let spawn = |task| smol::spawn(work.run(self.client.clone(), task, count / tasks));
        let tasks: Vec<_> = (0..tasks).map(spawn).collect();
        smol::block_on(async {
            for task in tasks {
                task.await.expect("no failure");
            }
        });
    }
}

impl Subject for OnThreads {
    fn name(&self) -> &'static str {
        "blocking"
    }

    fn takes(&self, work: Work, tasks: usize) -> bool {
        matches!(work, Work::GetSet | Work::Pipeline | Work::Messages) && tasks <= 64
    }

    fn run(&mut self, work: Work, tasks: usize, count: usize) {
        let client = &self.client;
        thread::scope(|scope| {
            for task in 0..tasks {
                scope.spawn(move || {
                    work.run_blocking(client, task, count / tasks).expect("no failure");
                });
            }
        });
    }
}

impl Args {
    fn parse() -> Args {
        let mut parsed = Args {
            pin: false,
            rounds: 5,
            seconds: 0.5,
            port: None,
            clients: None,
            filters: Vec::new(),
        };
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--pin" => parsed.pin = true,
                "--rounds" => parsed.rounds = value().parse().expect("a number of rounds"),
                "--seconds" => parsed.seconds = value().parse().expect("a number of seconds"),
                "--port" => parsed.port = Some(value().parse().expect("a port")),
                "--clients" => {
                    parsed.clients = Some(value().split(',').map(str::to_owned).collect());
                }
                _ => parsed.filters.push(arg),
            }
        }
        parsed
    }

    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

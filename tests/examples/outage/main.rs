//! A server is killed under load, stays away, comes back; and what its clients notice of it.
//!
//! ```text
//! cargo run --release --example outage [-- --seconds-up N --seconds-down N]
//! ```
//!
//! It needs a `redis-server` on the `PATH`, and starts one of its own. One client serves two
//! workloads: a cache that may be answered from memory while the server is down, and a ledger that
//! may not. Every answer is held against what its reader knows ([`oracle`]), every increment against
//! what the server holds in the end ([`ledger`]). The exit status says whether all promises were kept.

mod cache;
mod ledger;
mod meter;
mod oracle;
mod report;
mod screen;

use std::{
    env,
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use unfazed_tests::{Raw, Server};
use unfazed_tokio::{Client, prelude::*};

use ledger::Wallet;
use meter::Meter;
use report::Report;
use screen::Screen;

const CACHE_TASKS: u64 = 32;
const LEDGER_TASKS: usize = 8;
const WALLETS: usize = 4;

/// How long what was begun may take to end; longer than any request's deadline.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks whether the server is back.
const PROBE_PAUSE: Duration = Duration::from_millis(1);

/// How long one such look may take.
const PROBE_LIMIT: Duration = Duration::from_millis(100);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = match Options::from_args(env::args().skip(1)) {
        Ok(options) => options,
        Err(advice) => {
            eprintln!("{advice}");
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = Runtime::new()?;
    if !Server::is_installed() {
        println!("NOT SHOWN: no redis-server");
        runtime.block_on(greet_memory())?;
        return Ok(if env::var_os("CI").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let report = outage(&runtime, &options)?;
    Ok(if report.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The application runs in tasks of `runtime`; this thread is the operator on a bad day.
fn outage(runtime: &Runtime, options: &Options) -> Result<Report, Failure> {
    let mut server = Server::start();
    let config =
        Config::from_url(&server.url())?.fallback(Fallback::memory("cache:*", Policy::Invalidate));
    let client = runtime.block_on(Client::connect(config))?;
    runtime.block_on(client.set(cache::PROBE_KEY, "here"))?;

    introduce();

    let start = Instant::now();
    let meter = Arc::new(Meter::new());
    let mut screen = Screen::new(client.clone(), meter.clone(), start);
    let watcher = runtime.spawn(screen::watch(client.events(), start));
    let load = Load::start(runtime, &client, &meter);
    screen.show(options.seconds_up);

    screen.say("kill -9: the server is gone");
    load.killed.store(true, Ordering::Relaxed);
    let killed_at = Instant::now();
    server.kill();
    screen.show(options.seconds_down);

    screen.say("the server is started again");
    meter.restarting();
    let pong = first_pong(server.port());
    server.restart();
    screen.show(options.seconds_up);

    let (wallets, degraded_at) = load.stop(runtime);
    let audit = ledger::audit(&wallets, &mut Raw::connect(server.port()));
    runtime.block_on(client.close());
    // The watcher ends with the events, and those with the client.
    let live_at = runtime.block_on(watcher).ok().flatten().filter(|at| *at > killed_at);
    let pong_at = pong.join().expect("the prober does not panic");
    let since_pong = |at: Instant| at.saturating_duration_since(pong_at);
    Ok(Report {
        reading: meter.read(),
        audit,
        to_degraded: degraded_at.map(|at| at - killed_at),
        to_increment: meter.first_increment().map(since_pong),
        to_live: live_at.map(since_pong),
    })
}

fn introduce() {
    println!(
        "\
One client, two workloads, and a redis-server that is killed while they run.
  cache:*   {CACHE_TASKS} tasks, 90 % reads; may be answered from memory while the server is away
  wallet:*  {LEDGER_TASKS} tasks that count; may not: an increment waits, or fails and says what became of it
Answers to cache:* come from the server, from the overlay (written while it is away), from the shadow
(what it was last known to hold), or from nobody (it is away and the key was never seen)."
    );
}

/// Both workloads.
struct Load {
    tasks: JoinSet<()>,
    wallets: Vec<Arc<Wallet>>,
    probe: JoinHandle<Option<Instant>>,
    killed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(runtime: &Runtime, client: &Client, meter: &Arc<Meter>) -> Self {
        let (killed, stop) = (Arc::default(), Arc::default());
        let probe = cache::Probe { killed: Arc::clone(&killed), stop: Arc::clone(&stop) };
        let probe = runtime.spawn(probe.run(client.clone(), meter.clone()));
        let mut tasks = JoinSet::new();
        for number in 0..CACHE_TASKS {
            let task = cache::Task::new(client.clone(), meter.clone(), number);
            tasks.spawn_on(task.run(Arc::clone(&stop)), runtime.handle());
        }
        let wallets: Vec<_> = (0..WALLETS).map(|number| Arc::new(Wallet::new(number))).collect();
        for number in 0..LEDGER_TASKS {
            let wallet = wallets[number % WALLETS].clone();
            let count = wallet.count(client.clone(), meter.clone(), Arc::clone(&stop));
            tasks.spawn_on(count, runtime.handle());
        }
        Load { tasks, wallets, probe, killed, stop }
    }

    /// Lets everything that was begun end. Gives the wallets, and when the probe had its first answer
    /// from memory.
    fn stop(self, runtime: &Runtime) -> (Vec<Arc<Wallet>>, Option<Instant>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = async { (self.tasks.join_all().await, self.probe.await) };
        let ended = runtime.block_on(async { timeout(END_LIMIT, ended).await });
        let (_, degraded_at) = ended.expect("every request ends at its deadline");
        (self.wallets, degraded_at.expect("the probe does not panic"))
    }
}

/// Asks on connections of its own, from now on, until somebody answers; gives when that was.
fn first_pong(port: u16) -> thread::JoinHandle<Instant> {
    thread::spawn(move || {
        while !Raw::answers(port, PROBE_LIMIT) {
            thread::sleep(PROBE_PAUSE);
        }
        Instant::now()
    })
}

/// Where there is no server, the embedded store can be shown all the same.
async fn greet_memory() -> Result<(), Failure> {
    let client = Client::connect("memory://").await?;
    client.set("greeting", "hello").await?;
    for key in ["greeting", "nobody"] {
        let Sourced { value, source } = client.sourced().get::<String>(key).await?;
        println!("memory:// GET {key}: {value:?}, source {source:?}");
    }
    let visits = client.incr("visits").await?;
    println!("memory:// INCR visits: {visits}");
    client.close().await;
    Ok(())
}

/// What the command line says.
struct Options {
    seconds_up: u64,
    seconds_down: u64,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options { seconds_up: 5, seconds_down: 5 };
        while let Some(name) = args.next() {
            let option = match name.as_str() {
                "--seconds-up" => &mut options.seconds_up,
                "--seconds-down" => &mut options.seconds_down,
                _ => return Err(format!("{name}: there is no such option\n{USAGE}")),
            };
            let value = args.next().unwrap_or_default();
            *option = match value.parse() {
                Ok(seconds @ 1..=3600) => seconds,
                _ => {
                    return Err(format!(
                        "{name} needs whole seconds, 1 to 3600, not {value:?}\n{USAGE}"
                    ));
                }
            };
        }
        Ok(options)
    }
}

const USAGE: &str = "\
usage: cargo run --release --example outage [-- OPTIONS]
  --seconds-up N    how long the server runs before it is killed, and again afterwards (default 5)
  --seconds-down N  how long it is away (default 5)";

//! The engine against bytes: what it says and does, step by step.
#![expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]

mod cluster;
mod cluster_channels;
mod cluster_claims;
mod cluster_leases;
mod cluster_map;
mod cluster_outages;
mod cluster_scripts;
mod cluster_status;
mod cluster_subscriptions;
mod connections;
mod degraded;
mod doubts;
mod events;
mod force;
mod given_back;
mod leases;
mod nodes;
mod outages;
mod publish;
mod redirects;
mod refusals;
mod requests;
mod scripts;
mod status;
mod subscriptions;
mod transactions;
mod unready;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use unfazed_core::{
    Cause, Config, Engine, Executed, FailureKind, Now, Options, Request,
    config::MaybeRetry,
    engine::{Batch, ConnId, Flush, Health, Input, Output, Ticket},
    failure::MemoryRefusal,
    fallback::{Fallback, NativeRun, Policy},
    reply::FromReply,
};

/// One engine, its clock, and the server's side of its one connection.
struct World {
    engine: Engine<u32>,
    now: Now,
    inbox: BytesMut,
    conn: Option<ConnId>,
    closing: Vec<ConnId>,
    /// What the client wrote and the test has not looked at.
    sent: Vec<u8>,
    events: Vec<String>,
    /// Native scripts that are to be run.
    runs: Vec<NativeRun>,
    /// They are run when the test says so.
    holds_runs: bool,
    timer: Option<Instant>,
}

impl World {
    fn new(config: Config) -> Self {
        let now = Now::new(Instant::now(), SystemTime::now());
        let engine = Engine::new(config, 7, now).expect("a sound configuration");
        World {
            engine,
            now,
            inbox: BytesMut::new(),
            conn: None,
            closing: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            runs: Vec::new(),
            holds_runs: false,
            timer: None,
        }
    }

    fn plain() -> Config {
        Config::standalone("127.0.0.1", 6379).client_info(false)
    }

    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Open { conn, .. } => self.conn = Some(conn),
                Output::Close { conn, .. } => self.closing.push(conn),
                Output::Event(event) => self.events.push(event.to_string()),
                Output::Run(run) => self.runs.push(run),
                Output::Wait(at) => {
                    self.timer = at;
                    break;
                }
                _ => {}
            }
        }
        for conn in std::mem::take(&mut self.closing) {
            self.engine.handle_input(Input::Closed { conn, cause: Cause::Local }, self.now);
            self.drain();
        }
        if !self.holds_runs {
            self.run_scripts();
        }
    }

    fn run_scripts(&mut self) {
        while let Some(run) = self.runs.pop() {
            self.engine.handle_input(Input::Ran(run.run()), self.now);
            self.drain();
        }
    }

    fn open(&mut self) {
        self.drain();
        let conn = self.conn.expect("a connection is asked for");
        self.engine.handle_input(Input::Opened { conn }, self.now);
        self.drain();
    }

    /// Writes what there is to write, all of it.
    fn write(&mut self) -> String {
        let conn = self.conn.expect("a connection");
        while let Some(chunk) = self.engine.take_output(conn) {
            let bytes = chunk.unwritten().to_vec();
            self.sent.extend_from_slice(&bytes);
            self.engine.written(conn, chunk, bytes.len(), self.now);
        }
        String::from_utf8(std::mem::take(&mut self.sent)).expect("text")
    }

    fn say(&mut self, bytes: &str) {
        let conn = self.conn.expect("a connection");
        self.inbox.extend_from_slice(bytes.as_bytes());
        self.engine.received(conn, &mut self.inbox, self.now);
        self.drain();
    }

    fn lose(&mut self, cause: Cause) {
        let conn = self.conn.take().expect("a connection");
        self.inbox.clear();
        self.engine.handle_input(Input::Closed { conn, cause }, self.now);
        self.drain();
    }

    fn live(config: Config) -> Self {
        let mut world = World::new(config);
        let ticket = world.engine.connect(None, world.now);
        world.open();
        world.write();
        world.say("%1\r\n+server\r\n+redis\r\n");
        assert!(world.engine.take_wait(ticket).expect("connected").is_ok());
        world.answer_lineage("one");
        world
    }

    fn answer_lineage(&mut self, run: &str) {
        if self.write().contains("INFO") {
            self.say(&format!("+run_id:{run}\r\n"));
            self.say(&format!("+master_replid:{run}\r\n"));
        }
    }

    fn run(&mut self, request: &Request<'_>) -> Ticket {
        let (ticket, _) = self.engine.submit(request, None, self.now).expect("room");
        self.drain();
        ticket
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = self.now + at.saturating_duration_since(self.now.instant);
            self.engine.handle_input(Input::Timeout, self.now);
            self.drain();
        }
        self.now = self.now + (end - self.now.instant);
    }

    fn value<T: FromReply>(&mut self, ticket: Ticket) -> T {
        let reply = self.engine.take(ticket).expect("ended").expect("no failure");
        T::from_reply(&reply).expect("the type asked for")
    }

    fn answer_pings(&mut self) {
        let pings = self.write().matches("PING").count();
        (0..pings).for_each(|_| self.say("+PONG\r\n"));
    }

    fn run_now<T: FromReply>(&mut self, request: &Request<'_>) -> T {
        let ticket = self.run(request);
        self.value(ticket)
    }
}

/// Answers whatever the client asks on its own while it recovers, for `rounds` of 50 ms.
fn recover(world: &mut World, rounds: usize) -> String {
    let mut all = String::new();
    for _ in 0..rounds {
        let sent = world.write();
        for word in sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])) {
            match word {
                "PING" => world.say("+PONG\r\n"),
                "ROLE" => world.say("*1\r\n+master\r\n"),
                "INFO" => world.say("+run_id:x\r\n"),
                "DEL" => world.say(":1\r\n"),
                "HELLO" => world.say("%0\r\n"),
                _ => {}
            }
        }
        all.push_str(&sent);
        world.wait(Duration::from_millis(50));
    }
    all
}

fn degraded(policy: Policy) -> World {
    let config = World::plain().fallback(Fallback::memory("cache:*", policy));
    let mut world = World::live(config);
    world.wait(Duration::from_millis(600));
    world.answer_pings();
    world.lose(Cause::Reset);
    world.lose(Cause::Refused);
    assert_eq!(world.engine.health(), Health::Degraded);
    world
}

//! The clock, the queue of what happens next, and the hands that drive the engine as an adapter does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Arguments,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use unfazed_core::{
    Cause, Engine, Now,
    config::Forced,
    engine::{ConnId, Event, Health, Input, Lineage, Linger, Lookup, Output, Target, Ticket},
    failure::Bound,
    fallback::NativeRun,
};

use crate::{
    chaos::Undo,
    entropy::Entropy,
    listeners::{Change, Listener},
    mutants::Mutant,
    network::{Link, Stage},
    oracle::{Oracle, Tally, Violation},
    server::{Server, When},
    setup::{Ending, SECRET, Setup},
    workload::Asked,
};

/// What a world that held its promises has to tell.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// A hash of all that happened, and when.
    pub trace: u64,
    /// How long it took in the world's own time.
    pub simulated: Duration,
    /// How many commands were submitted.
    pub commands: u64,
    /// What came of them.
    pub tally: Tally,
    /// Faults, and the branches that are rarely taken, by name.
    pub counters: BTreeMap<&'static str, u64>,
}

/// Runs the world of a seed to its end.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run(seed: u64, mutant: Option<Mutant>, print: bool) -> Result<Story, Violation> {
    run_with(Entropy::from_seed(seed), mutant, print)
}

/// Runs the world that follows from `entropy` to its end.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run_with(entropy: Entropy, mutant: Option<Mutant>, print: bool) -> Result<Story, Violation> {
    World::new(entropy, mutant, print).live()
}

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Action {
    Timer,
    Spurious,
    Resolve(Lookup),
    Dialled(u64, Result<(), Cause>),
    Up(u64),
    Down(u64),
    Resume(u64),
    Write(u64),
    Written(u64),
    End(u64),
    Caller(u64),
    Listener(u64),
    Hear(u64),
    Publish,
    Cancel(u64),
    Chaos,
    Undo(Undo),
    Operator,
    Ran(NativeRun),
    Heal,
    Close,
    Check,
}

pub(crate) struct World {
    pub(crate) entropy: Entropy,
    pub(crate) engine: Engine<u64>,
    pub(crate) setup: Setup,
    pub(crate) mutant: Option<Mutant>,
    start: Instant,
    pub(crate) now: Duration,
    /// How far the client's wall clock is off, in milliseconds.
    pub(crate) skew: i64,
    pub(crate) seq: u64,
    queue: BTreeMap<(Duration, u64), Action>,
    queued: u64,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) gone: Vec<ConnId>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) server: Server,
    pub(crate) oracle: Oracle,
    /// What waits for its end, by waker.
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) detached: Vec<Ticket>,
    pub(crate) ended: Vec<Ticket>,
    pub(crate) cancelled: BTreeSet<u64>,
    pub(crate) listeners: BTreeMap<u64, Listener>,
    /// Requests for topics under way, by waker.
    pub(crate) changes: BTreeMap<u64, Change>,
    /// The last messages were published.
    published_last: bool,
    /// The runtime is gone.
    pub(crate) abandoned: bool,
    /// Some stream has stopped reading: what its connection has to say may be seen late.
    pub(crate) stops_reading: bool,
    pub(crate) ids: u64,
    pub(crate) wakers: u64,
    pub(crate) armed: Option<Duration>,
    timer_at: Option<Duration>,
    spins: (Duration, u32),
    pub(crate) healed: bool,
    pub(crate) over: bool,
    pub(crate) closing_since: Option<Duration>,
    done: bool,
    pub(crate) pushes: (u64, u64),
    pub(crate) counters: BTreeMap<&'static str, u64>,
    hash: u64,
    print: bool,
}

/// How late the driver is at most, and some.
const LATE_MAX: Duration = Duration::from_millis(50);

/// Within which everything must have finished after healing.
const PROGRESS: Duration = Duration::from_secs(15);

impl World {
    fn new(mut entropy: Entropy, mutant: Option<Mutant>, print: bool) -> Self {
        let setup = Setup::draw(&mut entropy);
        let start = Instant::now();
        let unix = Duration::from_millis(EPOCH_MILLIS);
        let now = Now { instant: start, unix };
        let seed = entropy.draw();
        let engine = Engine::new(setup.config.clone(), seed, now).expect("a sound configuration");
        let password = setup.config.password.as_ref().map(|_| SECRET.to_owned());
        let mut server = Server::default();
        (server.up, server.password) = (entropy.chance(85), password);
        server.resp2 = entropy.chance(10);
        server.hangs_up_at_hello = entropy.chance(5);
        server.refuses_unsubscribe = entropy.chance(30);
        server.tampering.execute_twice = mutant == Some(Mutant::ExecuteTwice);
        server.tampering.lie = mutant == Some(Mutant::LieAboutWrite);
        server.tampering.keep_deleted = mutant == Some(Mutant::KeepDeleted);
        server.tampering.half_exec = mutant == Some(Mutant::HalfExec);
        server.tampering.swap = mutant == Some(Mutant::SwapReplies);
        server.tampering.lose_replays = mutant == Some(Mutant::LoseReplays);
        server.tampering.lose_merges = mutant == Some(Mutant::LoseMerges);
        server.tampering.merge_twice = mutant == Some(Mutant::MergeTwice);
        let mut oracle = Oracle::default();
        oracle.policy = setup.policy;
        oracle.secret = Some(SECRET.to_owned());
        oracle.forge_no = mutant == Some(Mutant::ForgeNo);
        let mut world = World {
            entropy,
            engine,
            mutant,
            start,
            now: Duration::ZERO,
            skew: 0,
            seq: 0,
            queue: BTreeMap::new(),
            queued: 0,
            links: BTreeMap::new(),
            gone: Vec::new(),
            lookups: Vec::new(),
            server,
            oracle,
            asked: BTreeMap::new(),
            detached: Vec::new(),
            ended: Vec::new(),
            cancelled: BTreeSet::new(),
            listeners: BTreeMap::new(),
            changes: BTreeMap::new(),
            published_last: false,
            abandoned: false,
            stops_reading: false,
            ids: 0,
            wakers: 0,
            armed: None,
            timer_at: None,
            spins: (Duration::ZERO, 0),
            healed: false,
            over: false,
            closing_since: None,
            done: false,
            pushes: (0, 0),
            counters: BTreeMap::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            print,
            setup,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let text = format!("{:?}", self.setup.config);
        self.oracle.formatted(&text);
        self.trace(format_args!("{text}"));
        if self.setup.config.protocol == unfazed_core::config::ProtocolChoice::Resp3 {
            // A client that insists on RESP3 never gets along with these.
            (self.server.resp2, self.server.hangs_up_at_hello) = (false, false);
        }
        if !self.server.up {
            let delay = self.entropy.millis(10, 1_500);
            self.at(delay, Action::Undo(Undo::Start { keeps: true, other: false, loading: false }));
        }
        if self.entropy.chance(70) {
            self.connect();
        }
        for caller in 0..self.setup.callers {
            let delay = self.entropy.micros(0, 20_000);
            self.at(delay, Action::Caller(caller));
        }
        for listener in 0..self.setup.listeners {
            let delay = self.entropy.micros(0, 20_000);
            self.at(delay, Action::Listener(listener));
        }
        if self.setup.listeners > 0 {
            self.at(Duration::ZERO, Action::Publish);
        }
        self.at(Duration::ZERO, Action::Chaos);
        self.oracle.on_forced(self.setup.config.forced, self.seq);
        if self.setup.operator_millis.is_some() {
            self.at(Duration::ZERO, Action::Operator);
        }
        self.at(self.setup.heal_at, Action::Heal);
        if let Some(close_at) = self.setup.close_at {
            self.at(close_at, Action::Close);
        }
        self.settle();
    }

    fn live(mut self) -> Result<Story, Violation> {
        while !self.done && self.oracle.violation.is_none() {
            let Some((key, action)) = self.queue.pop_first() else { break };
            self.now = key.0;
            self.seq += 1;
            self.oracle.now = self.now;
            if let Some(seen) = self.step(action) {
                self.trace(format_args!("{seen}"));
            }
            self.settle();
        }
        if let Some(violation) = self.oracle.violation {
            return Err(violation);
        }
        let mut counters = self.counters;
        counters.insert("answers from memory held against writes", self.oracle.weighed);
        let (states, sums) = self.oracle.settled;
        counters.insert("keys held against their last state", states);
        counters.insert("keys held against what was added", sums);
        counters.insert("HELLO refused: RESP2", self.server.hello_refused);
        counters.insert("server: subscribed", self.server.subscribed.0);
        counters.insert("server: refused to subscribe or unsubscribe", self.server.subscribed.1);
        counters.insert("refused for now: LOADING, READONLY and the like", self.server.refused);
        counters.insert("a write carried out again after no answer", self.server.repeated);
        Ok(Story {
            trace: self.hash,
            simulated: self.now,
            commands: self.ids,
            tally: self.oracle.tally,
            counters,
        })
    }

    fn step(&mut self, action: Action) -> Option<&'static str> {
        match action {
            Action::Timer => {
                if self.timer_at.is_none_or(|at| at > self.now) {
                    return None;
                }
                self.timer_at = None;
                self.on_timer();
            }
            Action::Spurious => {
                self.input(Input::Timeout);
                return Some("a spurious wake-up");
            }
            Action::Resolve(lookup) => self.resolve(lookup),
            Action::Dialled(link, result) => self.dialled(link, result),
            Action::Up(link) => self.up(link),
            Action::Down(link) => self.down(link),
            Action::Resume(link) => self.resume(link),
            Action::Write(link) => self.write(link),
            Action::Written(link) => self.written(link),
            Action::End(link) => self.end(link),
            Action::Caller(caller) => self.caller(caller),
            Action::Listener(at) => self.listener(at),
            Action::Hear(at) => self.slow_reader(at),
            Action::Publish => self.publish(),
            Action::Cancel(waker) => self.give_up(waker),
            Action::Chaos => self.chaos(),
            Action::Undo(undo) => self.undo(undo),
            Action::Operator => self.operator(),
            Action::Ran(run) => drop(self.input(Input::Ran(run.run()))),
            Action::Heal => {
                self.heal();
                return Some("healed");
            }
            Action::Close => self.close(),
            Action::Check => self.check_progress(),
        }
        None
    }

    // ---- time ----------------------------------------------------------------------------------

    pub(crate) fn at(&mut self, delay: Duration, action: Action) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), action);
    }

    pub(crate) fn clock(&self) -> Now {
        let unix = EPOCH_MILLIS.saturating_add_signed(self.skew);
        Now { instant: self.start + self.now, unix: Duration::from_millis(unix) + self.now }
    }

    pub(crate) fn when(&self) -> When {
        When { unix: EPOCH_MILLIS + self.now.as_millis() as u64, seq: self.seq }
    }

    /// Counts something of interest.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    pub(crate) fn trace(&mut self, line: Arguments<'_>) {
        let text = format!("{:>12.3} ms  {line}", self.now.as_secs_f64() * 1_000.0);
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.print {
            println!("{text}");
        }
    }

    fn on_timer(&mut self) {
        self.spins = match self.spins {
            (at, count) if at == self.now => (at, count + 1),
            _ => (self.now, 0),
        };
        if self.spins.1 > 50 {
            self.oracle.fail(13, "the timer is due again and again in one instant");
        }
        let came_out = self.input(Input::Timeout);
        if !came_out && self.armed.is_some_and(|armed| armed <= self.now) {
            let what = format!("nothing came out, and the timer is due at {:?} still", self.armed);
            self.oracle.fail(13, what);
        }
    }

    // ---- the engine's control plane ------------------------------------------------------------

    /// Hands an input in and drains. Gives whether anything came out.
    pub(crate) fn input(&mut self, input: Input<'_>) -> bool {
        self.trace(format_args!("-> {input:?}"));
        self.engine.handle_input(input, self.clock());
        let mut came_out = self.drain();
        came_out |= self.wake();
        let late = self.asked.values().find(|asked| asked.deadline <= self.now);
        if let Some(asked) = late {
            let what = format!("{:?} is past its deadline {:?}", asked.commands, asked.deadline);
            self.oracle.fail(12, what);
        }
        came_out
    }

    pub(crate) fn drain(&mut self) -> bool {
        let mut came_out = false;
        loop {
            let output = self.engine.poll_output();
            if let Output::Wait(at) = output {
                let armed = at.map(|at| at.saturating_duration_since(self.start));
                self.armed = armed;
                if self.mutant == Some(Mutant::Hurry) {
                    self.armed = Some(self.now);
                }
                self.arm();
                return came_out;
            }
            came_out = true;
            let text = format!("{output:?}");
            self.oracle.formatted(&text);
            self.trace(format_args!("<- {text}"));
            self.obey(output);
        }
    }

    fn arm(&mut self) {
        let Some(armed) = self.armed.filter(|_| self.mutant != Some(Mutant::IgnoreTimer)) else {
            return;
        };
        let late = Duration::from_micros(self.entropy.below(self.setup.late_micros + 1));
        // An instant is given in nanoseconds, and being early would be a fault of its own.
        let at = armed.max(self.now) + late;
        if self.timer_at.is_none_or(|timer_at| at < timer_at || timer_at < armed) {
            self.timer_at = Some(at);
            self.at(at - self.now, Action::Timer);
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Resolve { lookup, .. } => {
                self.oracle.on_socket("a look-up");
                self.lookups.push(lookup);
                let slow = !self.healed && self.entropy.chance(10);
                let delay = if slow {
                    self.entropy.millis(200, 4_000)
                } else {
                    self.entropy.micros(50, 5_000)
                };
                if !self.healed && self.entropy.chance(5) {
                    return self.count("fault: look-up hangs");
                }
                self.at(delay, Action::Resolve(lookup));
            }
            Output::Open { conn, target, .. } => self.open(conn, &target),
            Output::Close { conn, linger } => self.close_asked(conn, linger),
            Output::Flush { conn } => self.flush(conn),
            Output::Read { conn } => {
                if let Some(id) = self.link_of(conn) {
                    self.at(Duration::ZERO, Action::Resume(id));
                }
            }
            Output::Push(_) => {
                self.pushes.1 += u64::from(self.mutant != Some(Mutant::LosePush));
            }
            Output::Event(event) => self.on_event(&event),
            Output::Run(run) => {
                self.count("native scripts run");
                let delay = self.entropy.pick(&[0, 0, 100, 20_000]);
                let delay = self.entropy.micros(0, delay);
                self.at(delay, Action::Ran(run));
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: &Event) {
        self.oracle.formatted(&event.to_string());
        self.trace(format_args!("   {event}"));
        match event {
            Event::HealthChanged { from, to, cause } => {
                self.oracle.on_health(*from, *to, self.seq);
                match (from, to, cause) {
                    (_, Health::Degraded, Some(Cause::Refused)) if *from != Health::Recovering => {
                        self.count("trip: refused");
                    }
                    (_, Health::Degraded, Some(Cause::Silent)) => self.count("trip: silence"),
                    (_, Health::Degraded, Some(Cause::NotReady(_)))
                        if *from != Health::Recovering =>
                    {
                        self.count("trip: not ready");
                    }
                    (Health::Recovering, Health::Degraded, _) => self.count("recovery failed"),
                    (Health::Recovering, Health::Live, _) => self.count("recovered"),
                    (Health::Suspect, Health::Live, _) => self.count("suspect and live again"),
                    (_, Health::Degraded, _) => self.count("trip: otherwise"),
                    _ => {}
                }
            }
            Event::Forced { to, .. } => {
                self.oracle.on_forced_told(*to);
                self.count(match to {
                    None => "event: no longer forced",
                    Some(Forced::Redis) => "event: forced to redis",
                    Some(Forced::Memory) => "event: forced to memory",
                    Some(_) => "event: forced to isolation",
                });
            }
            Event::DataSet { lineage: Lineage::Unknown, .. } => {
                self.count("event: data set unknown");
            }
            Event::DataSet { .. } => self.count("event: the same data set"),
            Event::ReplayRefused { .. } => {
                self.oracle.gave_up = true;
                self.count("event: what was owed was refused");
            }
            Event::MergesSkipped { .. } => {
                self.oracle.gave_up = true;
                self.count("event: merges skipped");
            }
            Event::MergesUnanswered { .. } => {
                self.oracle.gave_up = true;
                self.count("event: merges unanswered");
            }
            Event::TooOld { .. } => self.count("event: too old"),
            Event::StillDown { .. } => self.count("event: still down"),
            Event::Full { bound: Bound::QueueRequests | Bound::QueueBytes } => {
                self.count("event: queue full");
            }
            Event::Full { bound: Bound::JournalEntries | Bound::JournalBytes } => {
                self.count("event: journal full");
            }
            Event::Full { .. } => self.count("event: memory full"),
            _ => {}
        }
    }

    fn resolve(&mut self, lookup: Lookup) {
        let address = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 6379);
        if !self.healed && self.entropy.chance(10) {
            self.count("fault: look-up fails");
            let cause = Cause::NameNotFound("no such host".into());
            self.input(Input::Resolved { lookup, addresses: Err(cause) });
            return;
        }
        let mut addresses = vec![address(1)];
        if self.entropy.chance(40) {
            // One that refuses, or one that nobody answers at.
            addresses.insert(0, address(self.entropy.between(2, 3) as u8));
            self.count("a name with a dead address");
        }
        self.input(Input::Resolved { lookup, addresses: Ok(&addresses) });
    }

    /// Where a target leads: to the server, to nobody, or into the void.
    pub(crate) fn is_at(target: &Target, last: u8) -> bool {
        matches!(target, Target::Tcp(address) if matches!(address.ip(), IpAddr::V4(ip) if ip.octets()[3] == last))
    }

    fn close_asked(&mut self, conn: ConnId, linger: Linger) {
        let Some(id) = self.link_of(conn) else { return };
        let link = self.links.get_mut(&id).expect("just found");
        if self.mutant == Some(Mutant::IgnoreClose) && link.poisoned.is_some() {
            return;
        }
        if matches!(link.stage, Stage::Dialling | Stage::Open) {
            if linger == Linger::Reset {
                let kept = self.entropy.below(link.up.len() as u64 + 1) as usize;
                link.up.truncate(kept);
            }
            link.stage = Stage::Ending(Cause::Local);
            let delay = self.entropy.pick(&[0, 0, 300, 30_000]);
            let delay = self.entropy.micros(0, delay);
            self.at(delay, Action::End(id));
        }
    }

    // ---- after every step ----------------------------------------------------------------------

    pub(crate) fn settle(&mut self) {
        if self.engine.has_output() {
            self.drain();
        }
        self.wake();
        if self.engine.has_output() {
            self.drain();
            self.wake();
        }
        self.check();
    }

    fn check(&mut self) {
        let status = self.engine.status();
        let limits = &self.setup.config;
        self.detached.retain(|ticket| self.engine.is_pending(*ticket));
        let expected = self.asked.len() + self.detached.len();
        let mut broken: Option<(u8, String)> = None;
        let mut demand = |number, holds: bool, what: &str| {
            if !holds && broken.is_none() {
                broken = Some((number, format!("{what}: {status:?}, {expected} tickets expected")));
            }
        };
        demand(14, status.tickets == expected, "tickets");
        let queued = status.queued_requests - status.waiting_requests;
        demand(14, queued < limits.queue.requests_max + BATCH_MAX, "queued requests");
        let queued = status.queued_bytes - status.waiting_bytes;
        demand(14, queued < limits.queue.bytes_max + BATCH_BYTES_MAX, "queued bytes");
        let (waiting, own) = self.stream_bounds();
        let ending = |link: &&Link| matches!(link.stage, Stage::Ending(_));
        let ending = self.links.values().filter(ending).count();
        let sides = if self.setup.listeners > 0 { 2 * (2 + own) + ending } else { 0 };
        demand(14, status.connections <= 3 + sides + status.leases, "connections");
        demand(14, status.leases <= self.setup.config.leases.leases_max, "leases");
        demand(14, status.messages_waiting <= waiting, "messages");
        demand(14, status.streams <= self.listeners.len(), "streams");
        let memory = &limits.memory;
        demand(14, status.journal_entries <= memory.journal_entries_max, "journal");
        let entries = status.overlay_entries + status.shadow_entries;
        demand(14, entries <= memory.entries_max, "overlay and shadow");
        let first = self.asked.values().map(|asked| asked.deadline).min();
        demand(
            13,
            first.is_none_or(|first| self.armed.is_some_and(|armed| armed <= first)),
            "something is pending, and no timer is set for its deadline",
        );
        demand(
            12,
            first.is_none_or(|first| self.now <= first + LATE_MAX),
            "something is pending long after its deadline",
        );
        if self.closing_since.is_some() && self.engine.health() == Health::Closed {
            demand(14, status.queued_requests == 0 && status.connections == 0, "after closing");
            demand(14, status.journal_entries == 0, "journal after closing");
            demand(14, status.streams + status.subscriptions == 0, "streams after closing");
            demand(14, status.overlay_entries + status.shadow_entries == 0, "memory after closing");
            demand(14, self.armed.is_none(), "a timer after closing");
        }
        if let Some((number, what)) = broken {
            self.oracle.formatted(&what);
            self.oracle.fail(number, what);
        }
        if self.mutant == Some(Mutant::LeakSecret) && self.seq == 100 {
            let text = self.setup.config.to_url_with_secrets();
            self.oracle.formatted(&text);
        }
        if self.seq.is_multiple_of(256) {
            self.oracle.check_ledger(&self.server);
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn heal(&mut self) {
        self.healed = true;
        self.undo(Undo::Everything);
        self.force(None);
        for link in self.links.values_mut() {
            // What was lost on its way is not made good by healing: such a connection is half-open.
            link.silent |= link.up_cut == Some(0);
            (link.up_cut, link.down_cut) = (None, None);
        }
        self.find_half_open();
        let over = self.setup.over_at - self.setup.heal_at;
        self.at(over, Action::Check);
    }

    fn check_progress(&mut self) {
        self.over = true;
        self.oracle.check_ledger(&self.server);
        let status = self.engine.status();
        let closing = self.closing_since.is_some();
        let goal = if closing { Health::Closed } else { Health::Live };
        let quiet = self.asked.is_empty() && self.detached.is_empty() && status.health == goal;
        let topics = if closing { None } else { self.unsettled_topics() };
        if quiet && status.queued_requests == 0 && topics.is_none() {
            if self.setup.listeners == 0 || closing {
                return self.finish();
            }
            // Everybody must hear what is published now.
            if !std::mem::replace(&mut self.published_last, true) {
                self.publish_last();
            } else if self.unheard().is_none() {
                return self.finish();
            }
        }
        if self.now > self.setup.over_at + PROGRESS {
            if let Some(what) = topics.or_else(|| self.unheard()).filter(|_| quiet) {
                return self.oracle.fail(11, what);
            }
            return self.oracle.stuck(format!("not finished: {:?}, {status:?}", self.asked));
        }
        self.at(Duration::from_millis(50), Action::Check);
    }

    fn finish(&mut self) {
        if self.closing_since.is_some() {
            self.check_ended();
            self.done = true;
            return;
        }
        let status = self.engine.status();
        if status.queued_bytes + status.journal_entries + status.overlay_entries > 0 {
            self.oracle.fail(14, format!("something is left: {status:?}"));
        }
        self.oracle.check_settled(&self.server, self.when().unix);
        match self.setup.ending {
            Ending::Nothing => self.done = true,
            Ending::Shutdown => {
                for caller in 0..self.setup.callers {
                    self.ask(caller);
                }
                self.close();
                self.at(Duration::from_millis(50), Action::Check);
            }
            Ending::Abandon => {
                for caller in 0..self.setup.callers {
                    self.ask(caller);
                }
                self.abandoned = true;
                self.engine.abandon(self.clock());
                self.links.clear();
                self.settle();
                self.check_ended();
                if !self.asked.is_empty() || self.engine.status().queued_requests > 0 {
                    let what = format!("pending after its runtime is gone: {:?}", self.asked);
                    self.oracle.fail(1, what);
                }
                self.count("abandoned");
                self.done = true;
            }
        }
    }

    fn close(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        let grace = self.entropy.millis(0, 500);
        self.trace(format_args!("closing, {grace:?}"));
        self.count("closed");
        self.closing_since = Some(self.now);
        self.engine.shutdown(grace, self.clock());
    }
}

/// The most commands in one pipeline, and the most bytes that they take.
const BATCH_MAX: usize = 6;
const BATCH_BYTES_MAX: usize = 2_048;

const EPOCH_MILLIS: u64 = 1_700_000_000_000;

//! The clock, the queue of what happens next, and the hands that drive the engine as an adapter does.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Arguments,
    time::{Duration, Instant},
};

use unfazed_core::{
    Cause, Engine, Now,
    engine::{ConnId, Input, Lease, Lookup, Ticket},
    fallback::NativeRun,
};

use crate::{
    chaos::Undo,
    cluster::{Cluster, changes::Turn},
    consumers::Eaten,
    dialogues::Talk,
    entropy::Entropy,
    holders::Holders,
    listeners::{Change, Listener},
    mutants::Mutant,
    network::{Link, Weather},
    oracle::{Oracle, Tally, Violation},
    server::{Origin, Server, When},
    setup::{SECRET, Setup},
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
    /// Faults, and what else is of interest, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// The branches of the engine that are rarely taken, all of them, and how often each was.
    pub branches: BTreeMap<&'static str, u64>,
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
    Talker,
    Holder,
    Hold(u64),
    Optimist,
    Meddler,
    Eater(u64),
    Adder,
    Ack(String),
    Listener(u64),
    Hear(u64),
    Publish,
    Popper,
    Pusher,
    /// The server of this number looks at the clock.
    Look(usize),
    Learn(u64),
    Cancel(u64),
    Chaos,
    /// The end of a fault, and at which server it was.
    Undo(usize, Undo),
    Cluster(Turn),
    Operator,
    Ran(NativeRun),
    Heal,
    Close,
    Check,
}

impl Action {
    /// Whether it is the client's process that does it.
    fn is_clients(&self) -> bool {
        !matches!(
            self,
            Action::Up(_)
                | Action::Publish
                | Action::Undo(..)
                | Action::Cluster(_)
                | Action::Look(_)
                | Action::Learn(_)
        )
    }
}

pub(crate) struct World {
    pub(crate) entropy: Entropy,
    pub(crate) engine: Engine<u64>,
    pub(crate) setup: Setup,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) start: Instant,
    pub(crate) now: Duration,
    /// How far the client's wall clock is off, in milliseconds.
    pub(crate) skew: i64,
    pub(crate) seq: u64,
    queue: BTreeMap<(Duration, u64), Action>,
    queued: u64,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) gone: Vec<ConnId>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) weather: Weather,
    /// The client's process gets no turn until then.
    pub(crate) frozen_until: Duration,
    /// Those who hold connections.
    pub(crate) holders: Holders,
    /// How many optimistic transactions there were.
    pub(crate) optimists: u64,
    /// The most bytes that one of them had to write, without what they are framed with.
    pub(crate) decided_bytes_max: usize,
    /// The most parts of commands that were asked at once since the queue had room.
    pub(crate) parts_queued: usize,
    pub(crate) eaten: Eaten,
    /// What a dialogue had that was given up just now.
    pub(crate) left: Option<Lease>,
    /// How many dialogues there were.
    pub(crate) talked: u64,
    /// Dialogues under way, by number.
    pub(crate) talks: BTreeMap<u64, Talk>,
    /// The server; in a cluster the node at which something happens.
    pub(crate) server: Server,
    /// The other nodes, where it is a cluster.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) oracle: Oracle,
    /// What waits for its end, by waker.
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) detached: Vec<Ticket>,
    pub(crate) ended: Vec<Ticket>,
    pub(crate) cancelled: BTreeSet<u64>,
    pub(crate) listeners: BTreeMap<u64, Listener>,
    /// Requests for topics under way, by waker.
    pub(crate) changes: BTreeMap<u64, Change>,
    /// How often was told that something was given up which may have been carried out.
    pub(crate) given_up: u64,
    /// The last messages were published.
    pub(crate) published_last: bool,
    /// The runtime is gone.
    pub(crate) abandoned: bool,
    /// Some stream has stopped reading: what its connection has to say may be seen late.
    pub(crate) stops_reading: bool,
    pub(crate) ids: u64,
    pub(crate) wakers: u64,
    pub(crate) armed: Option<Duration>,
    pub(crate) timer_at: Option<Duration>,
    spins: (Duration, u32),
    pub(crate) healed: bool,
    pub(crate) over: bool,
    pub(crate) closing_since: Option<Duration>,
    pub(crate) done: bool,
    /// When connections were asked for within the last second.
    pub(crate) dials: VecDeque<Duration>,
    pub(crate) pushes: (u64, u64),
    pub(crate) counters: BTreeMap<&'static str, u64>,
    hash: u64,
    print: bool,
}

impl World {
    fn new(mut entropy: Entropy, mutant: Option<Mutant>, print: bool) -> Self {
        let setup = Setup::draw(&mut entropy);
        let start = Instant::now();
        let unix = Duration::from_millis(EPOCH_MILLIS);
        let now = Now { instant: start, unix };
        let seed = entropy.draw();
        let engine = Engine::new(setup.config.clone(), seed, now).expect("a sound configuration");
        let password = setup.config.password.as_ref().map(|_| SECRET.to_owned());
        let mut server = Server::new();
        (server.up, server.password) = (entropy.chance(85), password);
        server.database = u64::from(setup.config.database);
        // A client that insists on RESP3 never gets along with these.
        let insists = setup.config.protocol == unfazed_core::config::ProtocolChoice::Resp3;
        server.resp2 = entropy.chance(10) && !insists;
        server.hangs_up_at_hello = entropy.chance(5) && !insists;
        server.refuses_unsubscribe = entropy.chance(30);
        server.tells = print;
        server.tampering.execute_twice = mutant == Some(Mutant::ExecuteTwice);
        server.tampering.lie = mutant == Some(Mutant::LieAboutWrite);
        server.tampering.keep_deleted = mutant == Some(Mutant::KeepDeleted);
        server.tampering.half_exec = mutant == Some(Mutant::HalfExec);
        server.tampering.swap = mutant == Some(Mutant::SwapReplies);
        server.tampering.lose_replays = mutant == Some(Mutant::LoseReplays);
        server.tampering.lose_pops = mutant == Some(Mutant::LosePops);
        server.tampering.ignore_watch = mutant == Some(Mutant::IgnoreWatch);
        server.tampering.lose_entries = mutant == Some(Mutant::LoseEntries);
        server.tampering.lose_merges = mutant == Some(Mutant::LoseMerges);
        server.tampering.merge_twice = mutant == Some(Mutant::MergeTwice);
        let mut cluster = None;
        if let Some(plan) = &setup.cluster {
            let mut built = plan.build(|| server.twin());
            if plan.spared.is_some() {
                built.all_up();
            }
            server = built.take_first();
            cluster = Some(built);
        }
        let mut oracle = Oracle::default();
        oracle.in_cluster = cluster.is_some();
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
            weather: Weather::default(),
            frozen_until: Duration::ZERO,
            holders: Holders::default(),
            optimists: 0,
            decided_bytes_max: 0,
            parts_queued: 0,
            eaten: Eaten::default(),
            left: None,
            talked: 0,
            talks: BTreeMap::new(),
            server,
            cluster,
            oracle,
            asked: BTreeMap::new(),
            detached: Vec::new(),
            ended: Vec::new(),
            cancelled: BTreeSet::new(),
            listeners: BTreeMap::new(),
            changes: BTreeMap::new(),
            given_up: 0,
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
            dials: VecDeque::new(),
            pushes: (0, 0),
            counters: BTreeMap::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            print,
            setup,
        };
        if let Some(Mutant::Engine(sabotage)) = mutant {
            world.engine.sabotage(sabotage);
        }
        world.begin();
        world
    }

    fn begin(&mut self) {
        let text = format!("{:?}", self.setup.config);
        self.oracle.formatted(&text);
        self.trace(format_args!("{text}"));
        for node in 0..self.servers() {
            if !self.server_at(node).up {
                self.turn_to(node);
                let delay = self.entropy.millis(10, 1_500);
                self.undo_after(delay, Undo::Start { origin: Origin::Disk, loading: false });
            }
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
        if self.setup.talks {
            self.at(Duration::from_millis(1), Action::Talker);
        }
        if self.setup.holders {
            self.at(Duration::from_millis(1), Action::Holder);
        }
        if self.setup.optimists {
            self.at(Duration::from_millis(1), Action::Optimist);
            self.at(Duration::from_millis(2), Action::Optimist);
            self.at(Duration::from_millis(3), Action::Meddler);
        }
        for name in 0..self.setup.eaters {
            self.at(Duration::from_millis(1 + name), Action::Eater(name));
            self.at(Duration::from_millis(2), Action::Adder);
        }
        if self.setup.listeners > 0 {
            self.nothing_published();
            self.at(Duration::ZERO, Action::Publish);
        }
        for _ in 0..self.setup.poppers {
            let delay = self.entropy.micros(0, 20_000);
            self.at(delay, Action::Popper);
            let delay = self.entropy.micros(0, 20_000);
            self.at(delay, Action::Pusher);
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
            if self.now < self.frozen_until && action.is_clients() {
                self.at(self.frozen_until - self.now, action);
                continue;
            }
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
        counters.insert("commands of clusters held against their order", self.oracle.ordered);
        if let Some(cluster) = &self.cluster {
            let members = (0..cluster.truth.ports.len()).filter_map(|node| {
                let server =
                    if node == cluster.here() { &self.server } else { cluster.other(node) };
                server.member.as_ref()
            });
            let names = ["nodes said MOVED", "nodes said ASK", "nodes said TRYAGAIN of a slot"];
            for member in members {
                for (name, count) in names.iter().zip(member.redirected) {
                    *counters.entry(name).or_default() += count;
                }
                *counters.entry("nodes were asked for the map").or_default() += member.asked;
            }
            counters.insert("worlds that are clusters", 1);
        }
        counters.insert("pops held against what their callers know", self.oracle.popped_held);
        counters.insert("texts held against what was added", self.oracle.added_held);
        counters.insert("transactions that met a watched key", self.server.conflicts);
        counters.insert("connections used by another after their holder", self.server.reused);
        counters.insert("NOSCRIPT", self.server.scripts_unknown);
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
            branches: self.engine.rare_branches().collect(),
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
            Action::Talker => self.talker(),
            Action::Holder => self.holder(),
            Action::Hold(number) => self.hold(number),
            Action::Optimist => self.optimist(),
            Action::Meddler => self.meddler(),
            Action::Eater(name) => self.eater(name),
            Action::Adder => self.adder(),
            Action::Ack(id) => self.ack(&id),
            Action::Listener(at) => self.listener(at),
            Action::Hear(at) => self.slow_reader(at),
            Action::Publish => self.publish(),
            Action::Popper => self.popper(),
            Action::Pusher => self.pusher(),
            Action::Look(node) => {
                self.turn_to(node);
                self.look();
            }
            Action::Learn(link) => self.learn(link),
            Action::Cancel(waker) => self.give_up(waker),
            Action::Chaos => self.chaos(),
            Action::Undo(node, undo) => {
                self.turn_to(node);
                self.undo(undo);
            }
            Action::Cluster(turn) => self.turn(turn),
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

    /// What a server was asked and has answered, for whoever reads the story; it follows from the rest.
    pub(crate) fn tell(&self, link: u64, told: &[String]) {
        for line in told {
            let now = self.now.as_secs_f64() * 1_000.0;
            println!("{now:>12.3} ms  #{} on {link}, {}: {line}", self.here(), self.seq);
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
}

const EPOCH_MILLIS: u64 = 1_700_000_000_000;

//! Where a request goes next: the one place that decides.
//!
//! The engine is a state machine without I/O. An adapter feeds it inputs and bytes, and carries out
//! its outputs. Its methods come in kinds:
//!
//! - **callers**: [`submit`](Engine::submit), [`submit_batch`](Engine::submit_batch),
//!   [`connect`](Engine::connect), [`sleep`](Engine::sleep) give a [`Ticket`];
//!   [`take`](Engine::take) and its like give what came of it; [`cancel`](Engine::cancel) and
//!   [`detach`](Engine::detach) give it up;
//! - **operators**: [`status`](Engine::status), [`force`](Engine::force);
//! - **control plane**: [`handle_input`](Engine::handle_input) and
//!   [`poll_output`](Engine::poll_output), to be drained until [`Output::Wait`];
//! - **data plane**: [`received`](Engine::received), [`take_output`](Engine::take_output),
//!   [`written`](Engine::written);
//! - after any of these, [`take_ready`](Engine::take_ready) gives whom to wake, once the lock is
//!   released, and [`has_output`](Engine::has_output) whether the control plane is to be drained.
//!
//! ```text
//!                     submit                                   take
//!                       │                                        ▲
//!   in line ◀── full? ──┤                                        │ ends, exactly once
//!                       ▼                                        │
//!        ┌────── where now? (admission) ──────┬───────────┐      │
//!        ▼              ▼                     ▼           ▼      │
//!     backlog ───▶ a connection's log      memory       fails ───┤
//!   (no connection)     │ reply ──────────────┴──────────────────┤
//!        ▲              ├ refused for now ──▶ delayed ──▶ admission
//!        └── lost: not executed, or may be repeated              │
//!                       └ lost: may have been executed ──────────┘
//! ```
//!
//! `submit` takes requests in and places them, `in_memory` answers what no server does, `flow` carries
//! the rest on (`loss` where a connection ends, `deadlines` as time passes, `closing` at the very end),
//! `transaction` does all that for those that are to run as one (`block` is what one is made of),
//! `sources` sends scripts that a server lacks, `scripts` has functions run that stand in for them;
//! `nodes` is what is known of each server, `dial` makes connections, `health` judges, `force` lets an
//! operator overrule it, `recovery` pays what is owed after an outage; `trial` is for the simulation;
//! `status` is what operators see.
//!
//! `leases` has connections for those who can't share one: commands that wait at the server, and whoever
//! takes one with [`lease`](Engine::lease), uses it with [`submit_on`](Engine::submit_on), and gives it back
//! with [`give_back`](Engine::give_back).
//!
//! Subscriptions go beside all that: `subscriptions` keeps their books, `carriers` has what carries them,
//! `notices` brings them and connections together, `side` makes connections of their own where they need
//! one, `local` does without any: among the clients of one store, or within one client while its server is
//! down. Their callers' part: [`open_stream`](Engine::open_stream), [`subscribe`](Engine::subscribe),
//! [`unsubscribe`](Engine::unsubscribe), [`take_incoming`](Engine::take_incoming),
//! [`close_stream`](Engine::close_stream).

mod batch;
mod block;
mod carriers;
mod classify;
mod closing;
mod cluster;
mod deadlines;
mod dial;
mod flow;
mod force;
mod gather;
mod health;
mod heritage;
mod in_memory;
mod leases;
mod local;
mod loss;
mod nodes;
mod notices;
mod outcomes;
mod output;
mod place;
mod recovery;
mod redirect;
mod scripts;
mod side;
mod sources;
mod status;
mod submit;
mod subscriptions;
mod tickets;
mod transaction;
mod trial;
mod unready;
mod uses;
mod waits;

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use batch::Batch;
pub(crate) use carriers::FeedId;
use closing::Closing;
pub use cluster::Place;
pub(crate) use cluster::Slot;
pub use heritage::Lineage;
pub(crate) use leases::SeatId;
pub(crate) use nodes::NodeId;
pub use notices::OWN_CONNECTIONS_MAX;
pub use outcomes::Outcomes;
pub use output::{
    ConnId, Event, Flush, Health, Input, Lease, Linger, Lookup, Output, Rejected, SocketOptions,
    StreamId, Target, Ticket,
};
pub use status::{AnsweredBy, Answering, Counts, DataSet, PatternStatus, ShardStatus, Status};
pub use submit::{LINE_BYTES_FACTOR, LINE_MAX};

#[cfg(feature = "simulation")]
pub use trial::Sabotage;

use crate::{
    Failure, Now,
    config::{Config, Deployment, Forced},
    connection::{Connection, Op, State},
    failure::{Bound, Cause, Executed, FailureKind},
    fallback::{Membership, Memory, Nudge, SharedStore},
    resp::Reply,
    rng::Rng,
    slab::Slab,
};
use block::Blocks;
use cluster::Cluster;
use health::Phase;
use leases::Leases;
use nodes::{Node, Nodes};
use status::Tally;
use subscriptions::Subscriptions;
use tickets::Tickets;
use trial::Trial;

/// The client's state machine. `W` is whatever wakes a waiting caller.
pub struct Engine<W> {
    config: Config,
    /// What the caller's own schedule says of each attempt; empty where there is none.
    delays: Vec<Duration>,
    rng: Rng,
    now: Now,
    tickets: Tickets<W>,
    /// What the transactions are made of that have not ended.
    blocks: Blocks,
    ready: Vec<W>,
    connections: Slab<Connection>,
    nodes: Nodes,
    /// Which of them serves what, where that is not one alone.
    cluster: Option<Box<Cluster>>,
    /// Since when the cluster stands as it does as a whole, and why.
    whole_since: Instant,
    /// How it stands, as was told last.
    whole: Health,
    /// How many connections have become ready for requests so far.
    made: u64,
    /// How many names were looked up so far.
    lookups: u64,
    /// Answers in the server's stead, where some key pattern may degrade.
    memory: Memory,
    /// `memory://`: answers everything; there is no server.
    store: Option<SharedStore>,
    /// This client's place among the subscribers of its store, while it wants something.
    membership: Option<Membership>,
    /// How others tell it that there is something to hear.
    nudge: Option<Nudge>,
    /// Refused by the server for now; goes again at its time. The number keeps the order of equals.
    delayed: BTreeMap<(Instant, u64), Parked>,
    delayed_count: u64,
    /// Waits behind a key that recovery has not settled.
    held: VecDeque<Parked>,
    /// What native scripts are to answer, and what waits for them.
    scripts: scripts::Scripts,
    /// Cancelled since the queues were last cleared of what nobody waits for.
    cancelled: usize,
    /// Requests that wait for room in the queue, in order, each with all its commands.
    line: VecDeque<Vec<Parked>>,
    in_line: Queued,
    /// Everything that was accepted and has not ended, those in line among it.
    queued: Queued,
    pubsub: Subscriptions<W>,
    leases: Leases,
    outputs: VecDeque<Output>,
    pushes: usize,
    /// What the last `Output::Wait` said: the adapter will be back by then.
    armed: Option<Instant>,
    /// Something happened since the control plane was last drained.
    stirred: bool,
    /// Who answered what.
    tally: Tally,
    /// Operators know that the queue is full.
    full_told: bool,
    told: Told,
    /// Something for which others waited has ended.
    unheld: bool,
    /// What an operator wants, whatever health says, and since when.
    forced: Option<Forced>,
    forced_since: Option<Instant>,
    /// Somebody has asked for something, so somebody drives the engine.
    begun: bool,
    closing: Closing,
    scratch: Vec<u8>,
    trial: Trial,
}

/// What operators know of memory since the server went down.
#[derive(Clone, Debug, Default)]
struct Told {
    /// These bounds are reached; how much there was when they were last told so.
    full: Vec<(Bound, usize)>,
    /// What is remembered is too old to be served.
    too_old: bool,
}

/// A command that is not on any connection.
#[derive(Debug)]
struct Parked {
    op: Op,
    bytes: Vec<u8>,
    /// Why it is not where it was, for the error that its end may need.
    cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    requests: usize,
    bytes: usize,
}

impl Queued {
    fn add(&mut self, op: &Op) {
        self.requests += 1;
        self.bytes += op.cost as usize;
    }

    fn subtract(&mut self, op: &Op) {
        self.requests -= 1;
        self.bytes -= op.cost as usize;
    }
}

/// Attempts are counted up to the one before this.
const ATTEMPTS_COUNTED: u32 = u8::MAX as u32 + 1;

/// The most that is reserved because a peer declared that so much will follow.
const RESERVE_MAX: usize = 4 * 1024 * 1024;

/// How many unread pushes are kept; older ones are dropped.
const PUSHES_MAX: usize = 1_024;

impl<W> Engine<W> {
    /// Makes an engine for `config`. It does nothing until it is asked to
    /// [`connect`](Engine::connect) or something is submitted.
    ///
    /// All randomness (jitter, the keys of hashers) is drawn from `seed`: the same seed and the same
    /// inputs give the same outputs.
    ///
    /// # Errors
    ///
    /// When the configuration contradicts itself or asks for what this version can't do.
    pub fn new(config: Config, seed: u64, now: Now) -> Result<Self, crate::config::ConfigError> {
        config.validate()?;
        let mut rng = Rng::new(seed);
        // Asked beforehand: later it would be foreign code in the middle of a reply, under a lock.
        let retries = 1..config.retry.attempts_max.min(ATTEMPTS_COUNTED);
        let delays = match &config.retry.schedule {
            Some(schedule) => retries.map(|attempts| schedule.delay(attempts)).collect(),
            None => Vec::new(),
        };
        let memory = Memory::new(&config, rng.next());
        let tally = Tally::new(&config, memory.degrades());
        let store = match &config.deployment {
            Deployment::Memory => Some(SharedStore::private(rng.next(), (&config.memory).into())),
            Deployment::Store(store) => Some(store.clone()),
            _ => None,
        };
        let label: Arc<str> = match &config.deployment {
            Deployment::Standalone(endpoint) => endpoint.to_string().into(),
            Deployment::Cluster(seeds) => {
                let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
                format!("cluster of {}", seeds.join(",")).into()
            }
            _ => "memory".into(),
        };
        let endpoint = match &config.deployment {
            Deployment::Standalone(endpoint) => Some(endpoint.clone()),
            _ => None,
        };
        let mut home = Node::new(label, endpoint, &config.breaker, now.instant);
        if store.is_some() {
            home.phase = Phase::Live;
        }
        let nodes = Nodes::new(home);
        let cluster = match &config.deployment {
            Deployment::Cluster(seeds) => {
                Some(Box::new(Cluster::new(seeds, config.cluster_map, nodes.home())))
            }
            _ => None,
        };
        let forced = config.forced;
        let mut engine = Engine {
            delays,
            now,
            tickets: Tickets::new(),
            blocks: Blocks::default(),
            ready: Vec::new(),
            connections: Slab::new(),
            pubsub: Subscriptions::new(rng.next(), nodes.home()),
            nodes,
            cluster,
            whole_since: now.instant,
            whole: Health::Connecting,
            made: 0,
            lookups: 0,
            memory,
            store,
            membership: None,
            nudge: None,
            delayed: BTreeMap::new(),
            delayed_count: 0,
            held: VecDeque::new(),
            scripts: scripts::Scripts::default(),
            cancelled: 0,
            line: VecDeque::new(),
            in_line: Queued::default(),
            queued: Queued::default(),
            leases: Leases::new(),
            outputs: VecDeque::new(),
            pushes: 0,
            armed: None,
            stirred: false,
            tally,
            full_told: false,
            told: Told::default(),
            unheld: false,
            forced: None,
            forced_since: None,
            begun: false,
            closing: Closing::Open,
            scratch: Vec::new(),
            trial: Trial::default(),
            rng,
            config,
        };
        engine.force(forced, now);
        Ok(engine)
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    // ---- control plane -------------------------------------------------------------------------

    /// Takes in what happened. Never fails: what a peer does wrong becomes an output.
    pub fn handle_input(&mut self, input: Input<'_>, now: Now) {
        self.note_time(now);
        self.stirred = true;
        match input {
            // What there is to hear is heard with whatever else there is to do for streams.
            Input::Timeout | Input::Nudged => {}
            Input::Resolved { lookup, addresses } => self.on_resolved(lookup, addresses),
            Input::Opened { conn } => self.on_opened(conn),
            Input::Closed { conn, cause } => self.on_closed(conn, cause),
            Input::Ran(done) => self.on_ran(done),
        }
        self.run_timers();
        self.admit();
        self.run_feeds();
        self.conclude();
    }

    /// The next thing to do; to be called until it gives [`Output::Wait`].
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            self.pushes -= usize::from(matches!(output, Output::Push(_)));
            return output;
        }
        self.stirred = false;
        self.armed = self.next_timer();
        Output::Wait(self.armed)
    }

    /// Whether the control plane is to be drained, because there is something to do or because the
    /// instant to wait for has come nearer.
    pub fn has_output(&self) -> bool {
        self.stirred || !self.outputs.is_empty()
    }

    /// Whether [`take_ready`](Engine::take_ready) would give anybody.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves the wakers of those whose ticket has ended into `into`; to be woken after unlocking.
    pub fn take_ready(&mut self, into: &mut Vec<W>) {
        into.append(&mut self.ready);
    }

    // ---- data plane ----------------------------------------------------------------------------

    /// Takes the whole frames off the front of `bytes`; what is left is the beginning of another.
    pub fn received(&mut self, conn: ConnId, bytes: &mut bytes::BytesMut, now: Now) {
        self.note_time(now);
        self.on_received(conn, bytes);
        self.admit();
        if self.pubsub.has_news() {
            self.run_feeds();
        }
        self.conclude();
    }

    /// What follows from whatever has happened: the last step of that.
    fn conclude(&mut self) {
        if self.leases.stirred {
            self.run_leases(self.now.instant);
        }
        if self.closing != Closing::Open {
            // The last answer that was waited for may have come.
            self.run_closing(self.now.instant);
        }
    }

    /// How many more bytes a large reply is known to need: what to reserve before the next read.
    ///
    /// At most 4 MiB, whatever the peer declared: memory grows with what was received.
    pub fn missing(&self, conn: ConnId) -> usize {
        self.connections.get(conn.0).map_or(0, Connection::missing).min(RESERVE_MAX)
    }

    /// The next bytes to write on `conn`. They are written without any lock held, and handed back
    /// through [`written`](Engine::written); there is never more than one chunk of a connection out.
    pub fn take_output(&mut self, conn: ConnId) -> Option<crate::connection::Chunk> {
        let connection = self.connections.get_mut(conn.0)?;
        if matches!(connection.state, State::Opening | State::Closing { .. }) {
            return None;
        }
        connection.log.take()
    }

    /// Takes a chunk back, of which the kernel accepted `count` bytes.
    ///
    /// # Panics
    ///
    /// When the chunk was not handed out for this connection.
    pub fn written(
        &mut self,
        conn: ConnId,
        chunk: crate::connection::Chunk,
        count: usize,
        now: Now,
    ) {
        self.note_time(now);
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.written(chunk, count, now.instant);
            if !connection.refused.is_empty() {
                self.delay_refused(conn);
                self.settle_detours();
            }
        }
    }

    /// How many bytes wait to be written on `conn`, not counting a chunk that is out.
    pub fn unwritten(&self, conn: ConnId) -> usize {
        let connection = self.connections.get(conn.0);
        connection
            .map_or(0, |found| if found.log.is_out() { 0 } else { found.log.unwritten() as usize })
    }

    /// Whether some peer is expected to do something: to accept a connection, to shake hands, to
    /// reply. While it is not, nothing is lost by who looks at the sockets only when a timer is due.
    pub fn awaits_peer(&self) -> bool {
        self.connections
            .iter()
            .any(|(_, connection)| !connection.is_ready() || !connection.owes_nothing())
    }

    /// Whether messages may come at any moment: something is subscribed to.
    pub fn listens(&self) -> bool {
        self.pubsub.listens()
    }

    // ---- callers -------------------------------------------------------------------------------

    /// Sets who is to be woken when the ticket has ended. Gives back who was to be before, to be
    /// dropped once the lock is released: dropping a waker may run foreign code.
    pub fn set_waiter(&mut self, ticket: Ticket, waiter: W) -> Option<W> {
        self.tickets.set_waiter(ticket, waiter)
    }

    /// Takes back who is to be woken, before a ticket is given up: to be dropped once the lock is
    /// released.
    pub fn take_waiter(&mut self, ticket: Ticket) -> Option<W> {
        self.tickets.take_waiter(ticket)
    }

    /// What came of a request, once it has ended; frees the ticket.
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Reply, Failure>> {
        self.tickets.take_one(ticket)
    }

    /// What came of a pipeline or a transaction, once it has ended; frees the ticket.
    pub fn take_batch(&mut self, ticket: Ticket) -> Option<Outcomes> {
        self.tickets.take_many(ticket)
    }

    /// What came of a wait for a connection, or of a sleep, once it has ended; frees the ticket.
    pub fn take_wait(&mut self, ticket: Ticket) -> Option<Result<(), Failure>> {
        self.tickets.take_wait(ticket)
    }

    /// How many connections have become ready for requests so far. While the number stays the same,
    /// it is one and the same connection that answers.
    pub fn connections_made(&self) -> u64 {
        self.made
    }

    /// Whether a ticket is neither ended nor given up.
    pub fn is_pending(&self, ticket: Ticket) -> bool {
        self.tickets.is_live(ticket)
    }

    /// Whether the wall clock matters: only to what memory keeps, because it expires there.
    #[inline]
    pub(crate) fn uses_wall_clock(&self) -> bool {
        self.store.is_some() || self.memory.degrades()
    }

    // ---- inside --------------------------------------------------------------------------------

    fn note_time(&mut self, now: Now) {
        // Several threads read the clock before they take the lock; time never goes back here.
        if now.instant > self.now.instant {
            self.now.instant = now.instant;
        }
        self.now.unix = now.unix;
    }

    /// Tells operators something. Where too much waits to be told, the oldest is dropped: the last
    /// word, such as [`Event::End`], is the one that counts.
    fn event(&mut self, event: Event) {
        let is_event = |output: &Output| matches!(output, Output::Event(_));
        let waiting = self.outputs.iter().filter(|output| is_event(output)).count();
        if waiting >= self.config.queue.events_max {
            let oldest = self.outputs.iter().position(is_event).expect("at least one may wait");
            self.outputs.remove(oldest);
        }
        self.outputs.push_back(Output::Event(event));
    }

    #[inline]
    fn wake(&mut self, waiter: Option<W>) {
        self.ready.extend(waiter);
        if self.tickets.has_parts() {
            self.join_parts();
        }
    }

    /// Ends one command of a request: the only place where that happens. What may be a transaction goes
    /// through [`fail`](Engine::fail).
    #[inline]
    fn end(&mut self, op: &Op, outcome: Result<Reply, Failure>) {
        debug_assert!(self.blocks.of(op).is_none(), "transactions have their own ways to end");
        if op.engaged {
            self.release(op);
        }
        self.queued.subtract(op);
        let waiter = self.tickets.end(op.ticket, op.item, outcome);
        self.wake(waiter);
    }

    /// Ends one command of a request, or a transaction, with a failure.
    fn fail(&mut self, op: &Op, failure: Failure) {
        if op.spec.is_transaction() {
            return self.end_whole(op, Outcomes::failed(failure));
        }
        self.end(op, Err(failure));
    }

    fn failure(&self, op: &Op, kind: FailureKind, executed: Executed) -> Failure {
        let unknown = self.tickets.name_of(op.ticket, op.item);
        let name: Cow<'static, str> = match unknown.filter(|_| !op.spec.is_transaction()) {
            Some(name) => name.to_owned().into(),
            None => op.spec.name().into(),
        };
        Failure::new(kind, executed, name).at(Some(self.label_of(op))).after(u32::from(op.attempts))
    }
}

/// How it is doing. What it holds is left out: keys, values and passwords are among it.
impl<W> fmt::Debug for Engine<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("status", &status)
            .finish_non_exhaustive()
    }
}

//! What must hold, by its number in the list of invariants; [`crate::invariants`] has their names.
//!
//! | number | what is checked here or in `world` |
//! |---|---|
//! | 1 | each ticket ends exactly once, a cancelled one never; a refused request leaves no trace |
//! | 2 | an answer is one that the server gave to these very words while the request was under way; a scan that ends well has missed nothing |
//! | 3 | garbage, or a reply too many, costs the connection at once |
//! | 4 | every push comes out, in order, and takes no reply's place (2) |
//! | 5 | the server only ever sees whole commands |
//! | 6 | `Ok` was carried out; *no* never was; *maybe* was handed to a writer; no repetition unasked; what a command that waits has popped its caller was given, or somebody was told *maybe* |
//! | 7 | what was acknowledged in memory is not followed by anything older |
//! | 6, 7 | in the end: what was to be added was added once; the last state in memory is on the server |
//! | 9 | what was added by who had read is not lost, nor there twice; a lost connection is not gone on with |
//! | 10 | nobody meets on a connection what another has left there: a WATCH, a MULTI, a database |
//! | 6, 13 | once all is well each entry of a stream was given to a consumer, and none acknowledged that was not |
//! | 9 | between MULTI and EXEC stands one transaction or what one key is owed, all of it; all or none of it is carried out, and nothing of it elsewhere; one source answers it |
//! | 12, 13 | deadlines; a timer while anything is pending; no busy loop; progress after healing |
//! | 14 | bounds at every step, zero at the end |
//! | 15 | whole frames are taken as soon as they are there, blocked writes or not |
//! | 16 | stale inputs change nothing |
//! | 17 | one attempt to connect at a time, and so many within a second |
//! | 18 | sources: what may not degrade comes from the server |
//! | 19 | no panic (`hunt` sees to it) |
//! | 20 | the same bytes in other pieces, the same seed again |
//! | 21 | no secret in anything that is formatted |
//! | 22 | what an operator forces: no answer from memory, none from the server, no socket at all |

mod added;
mod held;
mod pops;
mod reads;
mod settled;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use unfazed_core::{
    Effect, Executed, Failure, FailureKind,
    config::{Forced, MaybeRetry},
    engine::Health,
    fallback::Policy,
    resp::{Reply, Source, Value},
};

use added::Addition;
use pops::Pop;
use reads::Reading;
use settled::{Sum, part_of};

use crate::{
    cluster::judge::Placed,
    invariants,
    server::{Block, Server, holder_in, is_write, roams},
    workload::{Asked, Command, Shape},
};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number in the list of invariants.
    pub invariant: u8,
    /// Found only because something did not finish after healing.
    pub liveness: bool,
    /// What was seen.
    pub what: String,
    /// When, since the start.
    pub at: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, what, at, .. } = self;
        let name = invariants::name(*invariant);
        write!(f, "invariant {invariant} ({name}) at {at:?}: {what}")
    }
}

/// What came of one command, for counting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answered.
    pub ok: u64,
    /// Failed and not executed.
    pub no: u64,
    /// Failed and maybe executed.
    pub maybe: u64,
    /// Failed and executed.
    pub yes: u64,
    /// By source: server, overlay, shadow, unknown.
    pub sources: [u64; 4],
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.ok += other.ok;
        self.no += other.no;
        self.maybe += other.maybe;
        self.yes += other.yes;
        for (count, more) in self.sources.iter_mut().zip(other.sources) {
            *count += more;
        }
    }
}

/// One write to one key.
#[derive(Clone, Debug)]
struct WriteFact {
    id: Option<u64>,
    line: String,
    submitted: u64,
    ended: Option<u64>,
    /// When it was acknowledged, and by whom.
    acked: Option<(u64, Source)>,
    /// When it was acknowledged at the earliest: an item of a pipeline ends before the pipeline, and a part
    /// before the whole.
    acked_from: u64,
    /// It is not known in which stretch it was acknowledged.
    vague: bool,
    /// It sets the value, not only when it expires.
    sets: bool,
    /// Acknowledged as a miss: dropped.
    dropped: bool,
    failed_no: bool,
    /// In which era (between two returns to the server), and in which stretch of degraded mode.
    era: u64,
    stretch: u64,
    plain_set: bool,
    /// Nobody knows whether it was carried out.
    maybe: bool,
    /// It is a part of a command, and what answered the whole may not have answered it.
    part: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct LineFact {
    ok_from_server: u32,
    never: bool,
    most: Option<u32>,
}

/// The judge.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What came of commands.
    pub tally: Tally,
    /// Each command line that was handed to a writer.
    pub offered: BTreeSet<String>,
    /// The client's policy for `cache:*`, if there is any.
    pub policy: Option<Policy>,
    /// The clock.
    pub now: Duration,
    /// Takes *maybe* for *no*: a deliberate fault.
    pub forge_no: bool,
    /// What must never be formatted.
    pub secret: Option<String>,
    health: Option<Health>,
    /// What an operator wants, since when, and what the client said of it.
    forced: Option<Forced>,
    forced_since: u64,
    forced_told: Option<Forced>,
    era: u64,
    stretch: u64,
    writes: BTreeMap<String, Vec<WriteFact>>,
    lines: BTreeMap<String, LineFact>,
    /// The lines of each transaction, and those that only transactions have.
    wholes: BTreeSet<Vec<String>>,
    in_wholes: BTreeSet<String>,
    /// In which era and stretch each request was submitted, by waker.
    begun: BTreeMap<u64, (u64, u64)>,
    /// How many answers from memory were held against the writes before them.
    pub weighed: u64,
    /// The client has said that it gave up some of what it owed.
    pub gave_up: bool,
    /// When the client became live.
    live: Vec<u64>,
    /// What is to be added, by key: what was acknowledged, and what may have been carried out. Of a
    /// counter sums, of a set or queue members.
    sums: BTreeMap<String, Sum>,
    /// The pops that wait, by line, and how many that have popped something were held against what their
    /// callers know.
    pops: BTreeMap<String, Pop>,
    /// See `pops`.
    pub popped_held: u64,
    /// What must keep its place in a cluster, and how many of it did so far.
    pub(crate) placed: Vec<Placed>,
    /// See `placed`.
    pub ordered: u64,
    /// Keys of which the servers have lost writes that they had acknowledged, and when.
    pub(crate) lost: BTreeMap<String, u64>,
    /// A master went on for a while after another had taken over, so that what is read there is old.
    pub(crate) two_masters: bool,
    /// When keys last went back to where they had been before they went elsewhere.
    pub(crate) moved_back: u64,
    /// The world is a cluster.
    pub in_cluster: bool,
    /// Optimistic transactions, by the number of whoever made them, and how many were held against what
    /// stands on the server.
    additions: BTreeMap<u64, Addition>,
    /// See `additions`.
    pub added_held: u64,
    /// How many keys were held against their last state in memory, and against what was added.
    pub settled: (u64, u64),
}

impl Oracle {
    /// Notes that a promise was broken; the first one counts.
    pub fn fail(&mut self, invariant: u8, what: impl Into<String>) {
        let at = self.now;
        let violation = Violation { invariant, liveness: false, what: what.into(), at };
        self.violation.get_or_insert(violation);
    }

    /// Notes a lack of progress.
    pub fn stuck(&mut self, what: impl Into<String>) {
        let at = self.now;
        let violation = Violation { invariant: 13, liveness: true, what: what.into(), at };
        self.violation.get_or_insert(violation);
    }

    /// Something was formatted.
    pub fn formatted(&mut self, text: &str) {
        if self.secret.as_ref().is_some_and(|secret| text.contains(secret)) {
            self.fail(21, format!("a secret in {text:?}"));
        }
    }

    /// The client's standing changed.
    pub fn on_health(&mut self, from: Health, to: Health, seq: u64) {
        let known = self.health.unwrap_or(Health::Connecting);
        if known != from || from == to {
            self.fail(16, format!("health goes from {from} to {to}, and was {known}"));
        }
        self.health = Some(to);
        match (from, to) {
            (_, Health::Live) => {
                self.live.push(seq);
                self.era += 1;
                self.stretch += 1;
            }
            (Health::Recovering, _) => self.stretch += 1,
            _ => {}
        }
    }

    /// An operator wants something else of the client from here on.
    pub fn on_forced(&mut self, forced: Option<Forced>, seq: u64) {
        if forced == self.forced {
            return;
        }
        if forced == Some(Forced::Redis) {
            // Memory goes on only with what the server is owed.
            self.stretch += 1;
        }
        (self.forced, self.forced_since) = (forced, seq);
    }

    /// The client says that something else is forced upon it now.
    pub fn on_forced_told(&mut self, to: Option<Forced>) {
        if self.forced_told == to {
            self.fail(22, format!("{to:?} is told twice"));
        }
        self.forced_told = to;
    }

    /// The client wants something of the network.
    pub fn on_socket(&mut self, what: &str) {
        if self.forced == Some(Forced::Isolated) {
            self.fail(22, format!("{what} of an isolated client"));
        }
    }

    /// Whether a request obeys its operator in who answered it. The items of a pipeline may have been
    /// answered before the pipeline ended, and what was on its way to the server may come back from it.
    fn check_forced(&mut self, asked: &Asked, command: &Command, source: Source) {
        let since = asked.submitted > self.forced_since;
        let from_server = source == Source::Server;
        let obeys = match self.forced {
            Some(Forced::Redis) => from_server || !(since || asked.shape == Shape::One),
            Some(Forced::Memory) => !(from_server && since && asked.degrades(command).0),
            Some(Forced::Isolated) => !(from_server && since),
            _ => true,
        };
        // Where nothing may degrade, there is no memory to be forced to.
        let moot = self.forced == Some(Forced::Memory) && self.policy.is_none();
        if !obeys && !moot {
            let what = format!("{} from {source:?}, forced: {:?}", command.line(), self.forced);
            self.fail(22, what);
        }
    }

    /// A request was accepted.
    pub fn on_submitted(&mut self, asked: &Asked, default_retry: MaybeRetry) {
        let retry = asked.options.maybe_retry.unwrap_or(default_retry);
        self.begun.insert(asked.waker, (self.era, self.stretch));
        let whole = asked.shape == Shape::Whole;
        if whole {
            self.wholes.insert(asked.lines());
        }
        let once = |command: &Command| match retry {
            MaybeRetry::Never => true,
            MaybeRetry::Repeatable => command.effect() > Effect::Repeatable,
            MaybeRetry::Idempotent => command.effect() > Effect::IdempotentWrite,
            _ => false,
        };
        let whole_once = whole && asked.commands.iter().any(once);
        if self.in_cluster {
            self.on_placed(asked);
        }
        for command in &asked.commands {
            let line = command.line();
            self.add_open(command, 1);
            self.on_pop(command, retry == MaybeRetry::Always);
            if retry == MaybeRetry::Always {
                self.add_again(command);
            }
            // What is replayed may go out twice and by itself, and a sum may look like one of its parts.
            let replayed = |key: &String| key.starts_with("last") || key.starts_with("sum");
            let counted = command.id.is_some() && !command.keys.iter().any(replayed);
            if whole && counted {
                self.in_wholes.insert(line.clone());
            }
            if counted && (once(command) || whole_once) {
                for line in self.own_lines(command) {
                    if !self.is_owed_too(&line) {
                        self.lines.entry(line).or_default().most = Some(1);
                    }
                }
            }
            if !is_write(command.name()) {
                continue;
            }
            for key in &command.keys {
                let line = self.line_at(command, key);
                self.writes.entry(key.clone()).or_default().push(WriteFact {
                    id: command.id,
                    line,
                    submitted: asked.submitted,
                    ended: None,
                    acked: None,
                    acked_from: u64::MAX,
                    vague: false,
                    sets: command.name() != "PEXPIRE",
                    dropped: false,
                    failed_no: false,
                    era: self.era,
                    stretch: self.stretch,
                    plain_set: matches!(command.name(), "SET" | "MSET")
                        && !command.words.iter().any(|word| word == "PX"),
                    maybe: false,
                    part: self.in_cluster && command.is_in_parts(),
                });
            }
        }
    }

    /// The server has come to an EXEC.
    pub fn on_block(&mut self, block: &Block) {
        let Block { lines, executed } = block;
        // What recovery owes to a key of many members it pays in one piece.
        let key = |line: &String| line.split(' ').nth(1).map(str::to_owned);
        // Whoever holds a connection queues by hand what he likes, but nobody queues there with him.
        let holder = |line: &String| holder_in(line.split(' '));
        let of_one_key = lines.iter().all(|line| key(line) == key(&lines[0]));
        let first = lines.iter().find_map(holder);
        let of_one_holder = first.is_some_and(|first| {
            let others = lines.iter().filter(|line| line.contains(' '));
            !roams(first) && others.map(holder).all(|other| other == Some(first))
        });
        if !(self.wholes.contains(lines) || of_one_key || of_one_holder) {
            self.fail(9, format!("{lines:?} stood between MULTI and EXEC, and is no transaction"));
        } else if *executed != 0 && *executed != lines.len() {
            self.fail(9, format!("{executed} of {lines:?} were carried out"));
        }
    }

    /// A transaction ended.
    pub fn on_whole(&mut self, asked: &Asked, outcomes: &[Result<Reply, Failure>]) {
        let lines = asked.lines();
        let mut sources = outcomes.iter().flatten().map(|reply| reply.source() == Source::Server);
        let first = sources.next();
        if first.is_some_and(|first| sources.any(|other| other != first)) {
            self.fail(9, format!("{lines:?} was answered by the server and from memory"));
        }
        let not = |outcome: &Result<Reply, Failure>| match outcome {
            Ok(_) => false,
            Err(failure) => failure.executed() == Executed::No,
        };
        if outcomes.iter().any(not) && !outcomes.iter().all(not) {
            self.fail(9, format!("of {lines:?} some was carried out: {outcomes:?}"));
        }
    }

    /// A command of a request ended.
    pub fn on_ended(
        &mut self,
        asked: &Asked,
        command: &Command,
        outcome: &Result<Reply, Failure>,
        seq: u64,
        server: &Server,
    ) {
        match outcome {
            Ok(reply) => {
                self.on_popped(command, Ok(&reply.view().to_value()));
                self.on_ok(asked, command, reply, seq, server);
            }
            Err(failure) => self.on_failure(asked, command, failure, seq, server),
        }
    }

    fn on_ok(
        &mut self,
        asked: &Asked,
        command: &Command,
        reply: &Reply,
        seq: u64,
        server: &Server,
    ) {
        let line = command.line();
        let (source, value) = (reply.source(), reply.view().to_value());
        self.tally.ok += 1;
        self.check_forced(asked, command, source);
        self.add_open(command, -1);
        self.add_acked(command);
        let (degrades, misses) = asked.degrades(command);
        let misses = misses && self.policy.is_some();
        let many = asked.shape == Shape::Many;
        let begun = self.begun.get(&asked.waker).copied().unwrap_or_default();
        let vague = many && begun != (self.era, self.stretch);
        self.note_ended(command, asked.submitted, seq, |fact| {
            fact.acked = Some((seq, source));
            fact.acked_from = if many || fact.part { asked.submitted } else { seq };
            fact.vague = vague;
            fact.dropped = misses && source != Source::Server;
        });
        if self.in_cluster && command.is_in_parts() {
            self.tally.sources[0] += u64::from(source == Source::Server);
            self.check_joined(asked, command, reply, seq, server);
            return self.check_parts_done(command, server);
        }
        if source == Source::Server {
            self.tally.sources[0] += 1;
            let known = server.ledger.get(&line);
            let mut given = known.into_iter().flat_map(|known| &known.answers).peekable();
            let in_time = |at: u64| at >= asked.submitted && at <= seq;
            if !given.clone().any(|(at, _)| in_time(*at)) {
                let number = if given.peek().is_none() || degrades { 18 } else { 2 };
                return self.fail(number, format!("{line}: {value:?} is not the server's answer"));
            }
            // RESP2 knows neither sets nor maps.
            let same = |answer: &Value| match (answer, &value) {
                (Value::Set(members), Value::Array(items)) => members == items,
                (Value::Map(pairs), Value::Array(items)) => {
                    let flat = pairs.iter().flat_map(|(key, value)| [key, value]);
                    flat.eq(items)
                }
                (answer, value) => answer == value,
            };
            if !given.any(|(at, answer)| in_time(*at) && same(answer)) {
                return self.fail(2, format!("{line}: the server never answered {value:?}"));
            }
            let executed = known.map_or(0, |known| known.executed);
            let fact = self.lines.entry(line.clone()).or_default();
            fact.ok_from_server += 1;
            // What is added is counted at the end.
            if executed < fact.ok_from_server && part_of(command).is_none() {
                let what = format!("{line}: Ok, and carried out {executed} times");
                return self.fail(6, what);
            }
        } else {
            let place = match source {
                Source::Overlay | Source::Store => 1,
                Source::Shadow => 2,
                _ => 3,
            };
            self.tally.sources[place] += 1;
            if !degrades || self.policy.is_none() {
                return self.fail(18, format!("{line} must not be answered from memory"));
            }
            if misses && source != Source::Unknown {
                return self.fail(18, format!("{line} is a miss, and comes from {source:?}"));
            }
            // Among others it is held against what is known of it by itself.
            let only_read = command.keys.iter().all(|key| key.starts_with("old"));
            if only_read && source == Source::Unknown && !misses {
                return self.fail(18, format!("{line}: {value:?} is made up"));
            }
        }
        let read =
            Reading { submitted: asked.submitted, source, misses, degrades, era: begun.0, vague };
        match (command.name(), &value) {
            ("GET", value) => self.check_read(&command.keys[0], value, read, server),
            ("MGET", Value::Array(values)) => {
                for (key, value) in command.keys.iter().zip(values) {
                    self.check_read(key, value, read, server);
                }
            }
            _ => {}
        }
    }

    fn note_ended(
        &mut self,
        command: &Command,
        submitted: u64,
        seq: u64,
        mut change: impl FnMut(&mut WriteFact),
    ) {
        if !is_write(command.name()) {
            return;
        }
        let (era, stretch) = (self.era, self.stretch);
        for key in &command.keys {
            let line = self.line_at(command, key);
            let facts = self.writes.entry(key.clone()).or_default();
            let mine = |fact: &&mut WriteFact| {
                fact.line == line && fact.submitted == submitted && fact.ended.is_none()
            };
            if let Some(fact) = facts.iter_mut().find(mine) {
                fact.ended = Some(seq);
                (fact.era, fact.stretch) = (era, stretch);
                change(fact);
            }
        }
    }

    fn on_failure(
        &mut self,
        asked: &Asked,
        command: &Command,
        failure: &Failure,
        seq: u64,
        server: &Server,
    ) {
        let line = command.line();
        self.formatted(&format!("{failure} {failure:?}"));
        let claim = match failure.executed() {
            Executed::Maybe if self.forge_no => Executed::No,
            claim => claim,
        };
        self.on_popped(command, Err(failure));
        let no = claim == Executed::No;
        self.note_ended(command, asked.submitted, seq, |fact| {
            (fact.failed_no, fact.maybe) = (no, claim == Executed::Maybe);
        });
        if claim != Executed::Maybe {
            self.add_open(command, -1);
        }
        let lines = self.lines_of(command);
        let known: Vec<_> = lines.iter().filter_map(|line| server.ledger.get(line)).collect();
        let executed = known.iter().map(|known| known.executed).max().unwrap_or(0);
        let last = known.iter().map(|known| known.last).max().unwrap_or(0);
        match claim {
            Executed::No => {
                self.tally.no += 1;
                if command.id.is_some() && part_of(command).is_none() {
                    for line in self.own_lines(command) {
                        self.lines.entry(line.clone()).or_default().never = true;
                        if server
                            .ledger
                            .get(&line)
                            .is_some_and(|known| known.executed > known.empty)
                        {
                            return self.fail(6, format!("{line}: {failure}, and executed"));
                        }
                    }
                }
            }
            Executed::Maybe => {
                self.tally.maybe += 1;
                // A part of it may have been carried out in memory.
                let in_memory =
                    self.in_cluster && self.policy.is_some() && command.degrades_in_part();
                let in_memory = in_memory && command.is_in_parts();
                if !in_memory && !lines.iter().any(|line| self.offered.contains(line)) {
                    return self.fail(6, format!("{line}: {failure}, and never handed out"));
                }
            }
            Executed::Yes => {
                self.tally.yes += 1;
                let memory = asked.degrades(command).0 && self.policy.is_some();
                if !memory && (executed == 0 || last < asked.submitted) {
                    return self.fail(6, format!("{line}: {failure}, and not executed"));
                }
            }
        }
        if failure.is_timeout() && self.now < asked.deadline && !asked.moves() {
            self.fail(12, format!("{line}: {failure}, before its deadline {:?}", asked.deadline));
        }
        let whole = asked.shape == Shape::Whole && failure.command() == "transaction";
        let digest = command.by_digest && failure.command() == "EVALSHA";
        if failure.command() != command.name() && !digest && !whole {
            self.fail(2, format!("{line}: the failure is {:?}'s", failure.command()));
        }
        // A command that nobody knows may concern any key, those that fail among them.
        let fails =
            |command: &Command| command.line().contains("fail:") || command.name() == "NOSUCH";
        let fails = match asked.shape {
            Shape::Whole => asked.commands.iter().any(fails),
            _ => fails(command),
        };
        if matches!(failure.kind(), FailureKind::Isolated)
            && self.forced != Some(Forced::Isolated)
            && asked.shape == Shape::One
        {
            self.fail(22, format!("{line}: {failure}, and is not isolated"));
        }
        // The map may name nobody who could be asked.
        let for_nobody = self.in_cluster && command.fans_out();
        if matches!(failure.kind(), FailureKind::Down(_)) && !fails && !for_nobody {
            self.fail(18, format!("{line}: {failure}, and may wait"));
        }
    }

    /// The lines as which a command is carried out.
    fn lines_of(&self, command: &Command) -> Vec<String> {
        if self.in_cluster { command.lines_in_cluster() } else { vec![command.line()] }
    }

    /// Those among them that no other command has.
    fn own_lines(&self, command: &Command) -> Vec<String> {
        if self.in_cluster && command.fans_out() {
            // Each node carries it out.
            return Vec::new();
        }
        if self.in_cluster { command.own_lines_in_cluster() } else { vec![command.line()] }
    }

    /// Whether this is how a key is deleted whose write the server is owed: of a DEL that was split a part may
    /// be, and the part itself may have been carried out before memory took it over.
    fn is_owed_too(&self, line: &str) -> bool {
        let invalidates = self.policy == Some(Policy::Invalidate);
        let owed = |key: &str| key.starts_with("miss") || (invalidates && key.starts_with("cache"));
        let mut words = line.split(' ');
        let deletes = words.next() == Some("DEL") && words.next().is_some_and(owed);
        self.policy.is_some() && deletes && words.next().is_none()
    }

    /// The line as which a command is carried out for one of its keys.
    fn line_at(&self, command: &Command, key: &str) -> String {
        let mut lines = self.lines_of(command).into_iter();
        let found = lines.find(|line| line.split(' ').any(|word| word == key));
        found.unwrap_or_else(|| command.line())
    }

    /// A command of several parts has ended well: each was carried out.
    fn check_parts_done(&mut self, command: &Command, server: &Server) {
        for line in self.own_lines(command).into_iter().filter(|_| command.id.is_some()) {
            if command.degrades_in_part() && self.policy.is_some() {
                continue;
            }
            if server.ledger.get(&line).is_none_or(|known| known.executed == 0) {
                self.fail(6, format!("{line}: Ok, and never carried out"));
            }
        }
    }

    /// What can be said when all is over, and in between.
    pub fn check_ledger(&mut self, server: &Server, unix: u64) {
        // In a cluster it is not known where a text is before all is at rest.
        let in_cluster = self.in_cluster;
        self.check_additions(server, |key| (!in_cluster).then(|| server.peek(key, unix)));
        let mut broken = None;
        for (line, fact) in &self.lines {
            // A pop that found nothing may have been one of several.
            let executed = server
                .ledger
                .get(line)
                .map_or(0, |known| known.executed.saturating_sub(known.empty));
            if fact.never && executed > 0 {
                broken = Some(format!("{line}: not executed, and executed after all"));
            }
            if fact.most.is_some_and(|most| executed > most) {
                broken = Some(format!("{line}: executed {executed} times"));
            }
        }
        if let Some(what) = broken {
            self.fail(6, what);
        }
        self.check_pops(server);
        let alone = self.in_wholes.iter().find(|line| {
            server.ledger.get(*line).is_some_and(|known| known.executed != known.in_blocks)
        });
        if let Some(line) = alone {
            self.fail(9, format!("{line}: carried out outside of its transaction"));
        }
    }
}

//! What must hold, by its number in the list of invariants.
//!
//! | number | what is checked here or in `world` |
//! |---|---|
//! | 1 | each ticket ends exactly once, a cancelled one never; a refused request leaves no trace |
//! | 2 | an answer is one that the server gave to these very words while the request was under way |
//! | 3 | garbage, or a reply too many, costs the connection at once |
//! | 4 | every push comes out, in order, and takes no reply's place (2) |
//! | 5 | the server only ever sees whole commands |
//! | 6 | `Ok` was carried out; *no* never was; *maybe* was handed to a writer; no repetition unasked |
//! | 7 | what was acknowledged in memory is not followed by anything older |
//! | 12, 13 | deadlines; a timer while anything is pending; no busy loop; progress after healing |
//! | 14 | bounds at every step, zero at the end |
//! | 15 | whole frames are taken as soon as they are there, blocked writes or not |
//! | 16 | stale inputs change nothing |
//! | 18 | sources: what may not degrade comes from the server |
//! | 19 | no panic (told apart by whoever runs a world) |
//! | 20 | the same bytes in other pieces, the same seed again |
//! | 21 | no secret in anything that is formatted |

use std::{collections::BTreeMap, fmt, time::Duration};

use unfazed_core::{
    Effect, Executed, Failure, FailureKind,
    config::MaybeRetry,
    engine::Health,
    fallback::Policy,
    resp::{Reply, Source, Value},
};

use crate::{
    server::{Server, is_write},
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
        write!(f, "invariant {invariant} at {at:?}: {what}")
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

/// One write to one key.
#[derive(Clone, Debug)]
struct WriteFact {
    id: Option<u64>,
    line: String,
    submitted: u64,
    ended: Option<u64>,
    /// When it was acknowledged, and by whom.
    acked: Option<(u64, Source)>,
    /// When it was acknowledged at the earliest: an item of a pipeline ends before the pipeline.
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
    /// Its other keys may not degrade, so it goes to the server whatever stands in memory.
    mixed: bool,
}

/// What was asked by who reads, and who answered.
#[derive(Clone, Copy, Debug)]
struct Reading {
    submitted: u64,
    source: Source,
    misses: bool,
    degrades: bool,
    /// The era in which it was submitted.
    era: u64,
    /// It is not known in which stretch it was answered.
    vague: bool,
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
    /// How often each command line was handed to a writer.
    pub offered: BTreeMap<String, u32>,
    /// The client's policy for `cache:*`, if there is any.
    pub policy: Option<Policy>,
    /// The clock.
    pub now: Duration,
    /// Takes *maybe* for *no*: a deliberate fault.
    pub forge_no: bool,
    /// What must never be formatted.
    pub secret: Option<String>,
    health: Option<Health>,
    era: u64,
    stretch: u64,
    writes: BTreeMap<String, Vec<WriteFact>>,
    lines: BTreeMap<String, LineFact>,
    /// In which era and stretch each request was submitted, by waker.
    begun: BTreeMap<u64, (u64, u64)>,
    /// How many answers from memory were held against the writes before them.
    pub weighed: u64,
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
    pub fn on_health(&mut self, from: Health, to: Health) {
        let known = self.health.unwrap_or(Health::Connecting);
        if known != from || from == to {
            self.fail(16, format!("health goes from {from} to {to}, and was {known}"));
        }
        self.health = Some(to);
        match (from, to) {
            (_, Health::Live) => {
                self.era += 1;
                self.stretch += 1;
            }
            (Health::Recovering, _) => self.stretch += 1,
            _ => {}
        }
    }

    /// A request was accepted.
    pub fn on_submitted(&mut self, asked: &Asked, default_retry: MaybeRetry) {
        let retry = asked.options.maybe_retry.unwrap_or(default_retry);
        self.begun.insert(asked.waker, (self.era, self.stretch));
        for command in &asked.commands {
            let line = command.line();
            let once = match retry {
                MaybeRetry::Never => true,
                MaybeRetry::Repeatable => command.effect() > Effect::Repeatable,
                MaybeRetry::Idempotent => command.effect() > Effect::IdempotentWrite,
                _ => false,
            };
            if command.id.is_some() && once {
                self.lines.entry(line.clone()).or_default().most = Some(1);
            }
            if !is_write(command.name()) {
                continue;
            }
            for key in &command.keys {
                self.writes.entry(key.clone()).or_default().push(WriteFact {
                    id: command.id,
                    line: line.clone(),
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
                    mixed: !command.degrades().0,
                });
            }
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
            Ok(reply) => self.on_ok(asked, command, reply, seq, server),
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
        let (degrades, misses) = command.degrades();
        let misses = misses && self.policy.is_some();
        let many = asked.shape == Shape::Many;
        let begun = self.begun.get(&asked.waker).copied().unwrap_or_default();
        let vague = many && begun != (self.era, self.stretch);
        self.note_ended(command, asked.submitted, seq, |fact| {
            fact.acked = Some((seq, source));
            fact.acked_from = if many { asked.submitted } else { seq };
            fact.vague = vague;
            fact.dropped = misses && source != Source::Server;
        });
        if source == Source::Server {
            self.tally.sources[0] += 1;
            let known = server.ledger.get(&line);
            let mut given = known.into_iter().flat_map(|known| &known.answers).peekable();
            let in_time = |at: u64| at >= asked.submitted && at <= seq;
            if !given.clone().any(|(at, _)| in_time(*at)) {
                let number = if given.peek().is_none() || degrades { 18 } else { 2 };
                return self.fail(number, format!("{line}: {value:?} is not the server's answer"));
            }
            if !given.any(|(at, answer)| in_time(*at) && *answer == value) {
                return self.fail(2, format!("{line}: the server never answered {value:?}"));
            }
            let executed = known.map_or(0, |known| known.executed);
            let fact = self.lines.entry(line.clone()).or_default();
            fact.ok_from_server += 1;
            if executed < fact.ok_from_server {
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
        let (era, stretch, line) = (self.era, self.stretch, command.line());
        for key in &command.keys {
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

    /// Holds what was read against all that was written.
    fn check_read(&mut self, key: &str, value: &Value, read: Reading, server: &Server) {
        let Reading { submitted, source, misses, degrades, era, vague } = read;
        let from_memory = source != Source::Server;
        if misses && from_memory {
            if *value != Value::Null {
                self.fail(18, format!("{key} is a miss, and reads {value:?}"));
            }
            return;
        }
        if key.ends_with(":list") || key.contains(":n:") || self.policy.is_none() {
            return;
        }
        if !key.starts_with("cache") && !key.starts_with("miss") {
            return;
        }
        self.weighed += u64::from(from_memory);
        let facts = self.writes.get(key).map_or(&[][..], Vec::as_slice);
        let text = match value {
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Null => {
                if from_memory && let Some(lost) = self.lost_in_memory(facts, submitted) {
                    self.fail(7, format!("{key} reads nothing, and {lost:?} was acknowledged"));
                }
                return;
            }
            other => return self.fail(2, format!("{key} reads {other:?}")),
        };
        // When the value came to be: carried out by the server or acknowledged in memory, last of all.
        let mut born = 0;
        let mut last = None;
        for piece in text.split_terminator(';') {
            let Some((of, number)) = piece.split_once('=') else {
                return self.fail(2, format!("{key} reads {text:?}"));
            };
            if of != key {
                return self.fail(2, format!("{key} reads what belongs to {of}"));
            }
            if let Some(foreign) = number.strip_prefix('x') {
                (born, last) = (foreign.parse().unwrap_or(0), None);
                continue;
            }
            let id = number.parse().ok();
            let Some(fact) = facts.iter().find(|fact| fact.id.is_some() && fact.id == id) else {
                return self.fail(2, format!("{key} reads {text:?}, which nobody wrote"));
            };
            if fact.failed_no {
                return self.fail(6, format!("{key} reads {text:?}, which was not executed"));
            }
            let at_server = server.ledger.get(&fact.line).filter(|known| known.executed > 0);
            let in_memory = fact.acked.filter(|(_, source)| *source != Source::Server);
            if from_memory && at_server.is_none() && in_memory.is_some() && fact.era < era {
                return self.fail(7, format!("{key} reads {text:?}, forgotten by recovery"));
            }
            born = at_server.map_or(0, |known| known.last);
            born = born.max(fact.acked.map_or(0, |(at, _)| at));
            if fact.ended.is_none() {
                born = u64::MAX;
            }
            last = Some(fact.line.clone());
        }
        let newer = facts.iter().find(|newer| {
            let Some((acked, by)) = newer.acked else { return false };
            if acked > submitted || !newer.sets || last.as_ref() == Some(&newer.line) {
                return false;
            }
            let invalidates = self.policy == Some(Policy::Invalidate) || key.starts_with("miss");
            match (by, from_memory) {
                (Source::Server, true) => !newer.mixed && born < newer.submitted,
                (Source::Server, false) => false,
                // Recovery deletes the key after the write was acknowledged, and before the server is
                // asked about it again.
                (_, false) => degrades && invalidates && born < newer.acked_from,
                (_, true) if vague || newer.vague => false,
                (_, true) if newer.stretch == self.stretch => {
                    !newer.dropped && born < newer.submitted
                }
                // A write that was dropped as a miss shows only once its key has been deleted.
                (_, true) if newer.dropped => newer.era < era && born < newer.submitted,
                (_, true) => invalidates && born < newer.submitted,
            }
        });
        if let Some(newer) = newer {
            let what = format!(
                "{key} reads {text:?} from {source:?} (of {born}), older than {:?} (of {}, \
                 acknowledged {:?}, era {} of {})",
                newer.line, newer.submitted, newer.acked, newer.era, self.era
            );
            return self.fail(7, what);
        }
        if from_memory
            && let Some(last) = last
            && let Some(lost) = self.lost_in_memory(&self.writes[key], submitted)
            && last != lost
        {
            self.fail(7, format!("{key} reads {text:?}, and {lost:?} was acknowledged"));
        }
    }

    /// A plain SET that was acknowledged in memory, in this stretch of degraded mode, and that no other
    /// write came near: it must be what is read.
    fn lost_in_memory(&self, facts: &[WriteFact], submitted: u64) -> Option<String> {
        let last = facts.iter().max_by_key(|fact| fact.submitted)?;
        let (acked, source) = last.acked?;
        let alone = facts.iter().all(|fact| {
            std::ptr::eq(fact, last) || fact.ended.is_some_and(|ended| ended < last.submitted)
        });
        let stands = last.plain_set
            && !last.dropped
            && !last.vague
            && source != Source::Server
            && acked <= submitted
            && last.stretch == self.stretch
            && self.health == Some(Health::Degraded)
            && alone;
        stands.then(|| last.line.clone())
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
        let no = claim == Executed::No;
        self.note_ended(command, asked.submitted, seq, |fact| fact.failed_no = no);
        let (executed, last) =
            server.ledger.get(&line).map_or((0, 0), |known| (known.executed, known.last));
        match claim {
            Executed::No => {
                self.tally.no += 1;
                if command.id.is_some() {
                    self.lines.entry(line.clone()).or_default().never = true;
                    if executed > 0 {
                        return self.fail(6, format!("{line}: {failure}, and executed"));
                    }
                }
            }
            Executed::Maybe => {
                self.tally.maybe += 1;
                if !self.offered.contains_key(&line) {
                    return self.fail(6, format!("{line}: {failure}, and never handed out"));
                }
            }
            Executed::Yes => {
                self.tally.yes += 1;
                let memory = command.degrades().0 && self.policy.is_some();
                if !memory && (executed == 0 || last < asked.submitted) {
                    return self.fail(6, format!("{line}: {failure}, and not executed"));
                }
            }
        }
        if failure.is_timeout() && self.now < asked.deadline {
            self.fail(12, format!("{line}: {failure}, before its deadline {:?}", asked.deadline));
        }
        if failure.command() != command.name() {
            self.fail(2, format!("{line}: the failure is {:?}'s", failure.command()));
        }
        // A command that nobody knows may concern any key, those that fail among them.
        let fails = line.contains("fail:") || command.name() == "NOSUCH";
        if matches!(failure.kind(), FailureKind::Down(_)) && !fails {
            self.fail(18, format!("{line}: {failure}, and may wait"));
        }
    }

    /// What can be said when all is over, and in between.
    pub fn check_ledger(&mut self, server: &Server) {
        let mut broken = None;
        for (line, fact) in &self.lines {
            let executed = server.ledger.get(line).map_or(0, |known| known.executed);
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
    }
}

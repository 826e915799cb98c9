//! The way back: probes, a barrier, and what is owed to the server, key by key.
//!
//! ```text
//!   Waiting ──▶ Asking ◀──▶ Between ──enough in a row──▶ Barrier ──▶ Draining ◀──▶ Pause
//!      ▲           │ failed                                              │ failed     │ all paid
//!      └───────────┴─────────────────────────────────────────────────────┘            ▼
//!                                                                                    Live
//! ```
//!
//! Probes are our own and ride on a fresh connection; never on a user's command. The last question of
//! each is a DEL of a key that nobody has: a replica refuses it, so does a master that lacks
//! replicas, and it changes nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ConnId, DataSet, Engine, Event, Phase};
use crate::{
    Cause,
    connection::{Own, Question},
    resp::Reply,
};

#[derive(Debug)]
pub(super) enum Stage {
    /// Until then, and until there is a connection.
    Waiting(Instant),
    /// A probe is out; so many of its answers are owed, so many probes before it went well.
    Asking {
        owed: u8,
        failed: Option<Cause>,
        passed: u32,
    },
    Between {
        passed: u32,
        until: Instant,
    },
    /// So that many clients do not return in one instant.
    Barrier(Instant),
    /// So many deletions are on their way.
    Draining {
        owed: usize,
    },
    Pause(Instant),
}

impl Stage {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Stage::Waiting(until)
            | Stage::Between { until, .. }
            | Stage::Barrier(until)
            | Stage::Pause(until) => Some(*until),
            Stage::Asking { .. } | Stage::Draining { .. } => None,
        }
    }
}

/// What tells one data set from another.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    known: Option<Ids>,
    /// What the server said so far on this connection.
    heard: Ids,
    /// How many of the two answers are owed.
    owed: u8,
    /// It is not the one that values are remembered of.
    changed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    run: Option<Vec<u8>>,
    replication: Option<Vec<u8>>,
}

impl Lineage {
    /// What the server last said of its data.
    pub(super) fn data_set(&self) -> Option<DataSet> {
        let text = |id: &Option<Vec<u8>>| Some(String::from_utf8_lossy(id.as_ref()?).into_owned());
        let Ids { run, replication } = self.known.as_ref()?;
        Some(DataSet { run_id: text(run), replication_id: text(replication) })
    }
}

/// A key that nobody has; deleting it changes nothing.
const PROBE_KEY: &[u8] = b"unfazed:probe:absent";

/// Deletions sent in one piece, and the pause before the next: at most 25,600 keys a second, a fraction
/// of what a server deletes, so that one that has just come up has the rest for its other clients.
const DRAIN_BATCH: usize = 256;
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

impl<W> Engine<W> {
    pub(super) fn enter_stage(&mut self, stage: Stage, cause: Option<Cause>) {
        let Phase::Down { alarm, .. } = self.node.phase else { return };
        self.enter(Phase::Down { stage, alarm }, cause);
    }

    pub(super) fn next_probe(&mut self) -> Instant {
        let jitter = self.config.breaker.probe_jitter_percent;
        self.now.instant + self.rng.around(self.node.probe_interval, jitter)
    }

    /// Takes the next step if its time has come. There is a connection.
    pub(super) fn run_recovery(&mut self, now: Instant) {
        let Phase::Down { stage, .. } = &self.node.phase else { return };
        if stage.due().is_none_or(|due| now < due) {
            return;
        }
        match *stage {
            Stage::Waiting(_) => self.probe(0),
            Stage::Between { passed, .. } => self.probe(passed),
            Stage::Barrier(_) => {
                self.drop_what_was_remembered();
                self.memory.hand_back(self.now);
                self.scripts.stale();
                self.drain();
            }
            Stage::Pause(_) => self.drain(),
            Stage::Asking { .. } | Stage::Draining { .. } => {}
        }
    }

    fn probe(&mut self, passed: u32) {
        let Some(conn) = self.node.conn else { return };
        self.ask(conn, Own::Probe(Question::Ping), &[b"PING"]);
        self.ask(conn, Own::Probe(Question::Role), &[b"ROLE"]);
        self.ask(conn, Own::Probe(Question::Del), &[b"DEL", PROBE_KEY]);
        self.enter_stage(Stage::Asking { owed: 3, failed: None, passed }, None);
    }

    pub(super) fn ask(&mut self, conn: ConnId, own: Own, words: &[&[u8]]) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        connection.ask(own, words, self.now.instant);
        self.outputs.push_back(super::Output::Flush { conn });
    }

    pub(super) fn on_own_reply(&mut self, conn: ConnId, own: Own, reply: &Reply) {
        self.stirred = true;
        // What an older connection still says of probes is of no interest.
        if self.node.conn != Some(conn) {
            return;
        }
        match own {
            Own::Ping => {}
            Own::Lineage => self.on_lineage(reply),
            Own::Probe(question) => self.on_probe(question, reply),
            Own::Invalidate(key) => self.on_invalidated(&key, reply),
        }
    }

    fn on_probe(&mut self, question: Question, reply: &Reply) {
        let Phase::Down { stage: Stage::Asking { owed, failed, passed }, .. } =
            &mut self.node.phase
        else {
            return;
        };
        *owed -= 1;
        if let Err(cause) = judge(question, reply) {
            failed.get_or_insert(cause);
        }
        if *owed > 0 {
            return;
        }
        let (failed, passed) = (failed.take(), *passed + 1);
        let now = self.now.instant;
        let next =
            if failed.is_some() || (self.is_held_down() && passed >= self.config.breaker.probes) {
                Stage::Waiting(self.next_probe())
            } else if passed < self.config.breaker.probes {
                Stage::Between { passed, until: now + self.config.breaker.probe_gap }
            } else {
                Stage::Barrier(now + self.rng.percent_of(self.config.breaker.barrier_max, 0, 100))
            };
        self.enter_stage(next, failed);
    }

    fn drain(&mut self) {
        let Some(conn) = self.node.conn else { return };
        let keys = self.memory.journal_next(DRAIN_BATCH);
        if keys.is_empty() {
            return self.recovered();
        }
        let owed = keys.len();
        for key in keys {
            self.ask(conn, Own::Invalidate(key.clone()), &[b"DEL", &key]);
        }
        self.enter_stage(Stage::Draining { owed }, None);
    }

    fn on_invalidated(&mut self, key: &Bytes, reply: &Reply) {
        let Phase::Down { stage: Stage::Draining { owed }, .. } = &mut self.node.phase else {
            return;
        };
        *owed -= 1;
        let done = *owed == 0;
        if let Some(error) = reply.error() {
            let next = self.next_probe();
            self.enter_stage(Stage::Waiting(next), Some(Cause::NotReady(error)));
            return self.place_held();
        }
        self.memory.settled(key, self.now);
        self.scripts.stale();
        if done && self.is_held_down() {
            let next = self.next_probe();
            self.enter_stage(Stage::Waiting(next), self.forced.map(Cause::Forced));
            self.place_held();
        } else if done {
            let until = self.now.instant + DRAIN_PAUSE;
            self.enter_stage(Stage::Pause(until), None);
            self.place_held();
            if self.memory.journal_len() == 0 {
                self.recovered();
            }
        }
    }

    fn recovered(&mut self) {
        self.memory_full_told = None;
        self.node.recovered_at = Some(self.now.instant);
        self.enter(Phase::Live, None);
        self.place_held();
    }

    /// Places what waited behind keys; what still has to wait is held again, in the same order.
    pub(super) fn place_held(&mut self) {
        self.memory.release_held();
        for parked in std::mem::take(&mut self.held) {
            self.place(parked);
        }
        self.announce();
    }

    // ---- which data set ------------------------------------------------------------------------

    pub(super) fn ask_lineage(&mut self, conn: ConnId) {
        self.node.lineage.heard = Ids::default();
        self.node.lineage.owed = 2;
        self.ask(conn, Own::Lineage, &[b"INFO", b"server"]);
        self.ask(conn, Own::Lineage, &[b"INFO", b"replication"]);
    }

    fn on_lineage(&mut self, reply: &Reply) {
        let lineage = &mut self.node.lineage;
        let text = reply.view().payload();
        let field = |name: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n');
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            Some(value.trim_ascii_end().to_vec())
        };
        if !reply.is_error() {
            lineage.heard.run = field(b"run_id:").or(lineage.heard.run.take());
            lineage.heard.replication =
                field(b"master_replid:").or(lineage.heard.replication.take());
        }
        lineage.owed -= 1;
        if lineage.owed > 0 {
            return;
        }
        let heard = std::mem::take(&mut lineage.heard);
        let known = lineage.known.replace(heard.clone());
        // What nobody can tell counts as changed.
        let same = |a: &Option<Vec<u8>>, b: &Option<Vec<u8>>| a.is_some() && a == b;
        if let Some(known) = known
            && !same(&known.run, &heard.run)
            && !same(&known.replication, &heard.replication)
        {
            self.node.lineage.changed = true;
        }
        if !self.node.phase.is_down() {
            self.drop_what_was_remembered();
        }
    }

    /// Forgets the values of another data set. While the server is down they are all there is, so they
    /// are served until it is trusted: it may fall again before.
    fn drop_what_was_remembered(&mut self) {
        if std::mem::take(&mut self.node.lineage.changed) {
            self.memory.drop_shadow();
            self.scripts.stale();
            self.event(Event::DataSetChanged { node: self.node.label.clone() });
        }
    }
}

/// Whether an answer to a probe speaks for a server that can be used.
fn judge(question: Question, reply: &Reply) -> Result<(), Cause> {
    if let Some(error) = reply.error() {
        return match (question, error.code()) {
            // Not being permitted to ask says nothing, nor does a server that can't save.
            // And ROLE is younger than some servers.
            (_, "NOPERM" | "MISCONF") | (Question::Role, "ERR") => Ok(()),
            _ => Err(Cause::NotReady(error)),
        };
    }
    let is_replica = question == Question::Role
        && reply.view().items().next().is_some_and(|role| role.payload() == b"slave");
    if is_replica { Err(Cause::NotMaster) } else { Ok(()) }
}

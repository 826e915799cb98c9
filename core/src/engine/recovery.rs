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
//!
//! What is owed goes out in order, a piece at a time. The first answer that says that the server can't
//! serve now ends the attempt, and what was not paid stays owed; what was refused goes last the next
//! time, so that nothing waits behind it which the server would take. An answer that would be the same
//! the next time ends that one key's debt, and operators are told. `heritage` says whether the data
//! are those that were written to.
//!
//! In a cluster a slot may be on its way to another node, key by key. ASK is followed, with ASKING and what is
//! owed in one piece; it is still the node with the slot that pays, and is told apart from the one that is
//! asked: by the map, not by the connection. Everything else that redirects waits for the map, and so do the
//! debts of that key alone.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    ConnId, Engine, Event, NodeId, Phase,
    classify::{Class, classify},
    redirect::redirect_delay,
    trial::{Rare, Sabotage},
};
use crate::{
    Cause,
    commands::Spec,
    config::Endpoint,
    connection::{Own, Question},
    failure::Executed,
    fallback::{Answered, Command, Refused, Step},
    reply::ServerError,
    resp::Reply,
    slot::{key_in, slot},
    topology::RedirectKind,
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
    /// What is owed to some keys is on its way.
    Draining,
    Pause(Instant),
}

impl Stage {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Stage::Waiting(until)
            | Stage::Between { until, .. }
            | Stage::Barrier(until)
            | Stage::Pause(until) => Some(*until),
            Stage::Asking { .. } | Stage::Draining => None,
        }
    }
}

/// What is told of an attempt to pay once it is over.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Which command was refused for ever with which error, and how often. Errors differ in little but
    /// their first word; those that go beyond `REFUSALS_MAX` kinds count for the last kind.
    refused: Vec<(&'static str, ServerError, u64)>,
    /// How many keys were no longer there to be added to.
    skipped: u64,
    /// How many merges went out and were not answered.
    unanswered: u64,
}

/// How many kinds of refusals are told apart: with more, something is wrong with all of them.
const REFUSALS_MAX: usize = 8;

/// A key that nobody has; deleting it changes nothing.
const PROBE_KEY: &[u8] = b"unfazed:probe:absent";

/// How many keys are settled in one piece, and the pause before the next: at most 25,600 keys a second,
/// a fraction of what a server deletes, so that one that has just come up has the rest for its other
/// clients.
const DRAIN_BATCH: usize = 256;
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// How much goes out in one piece, unless a single key takes more: at most 100 MiB a second.
const DRAIN_BYTES: usize = 1 << 20;

impl<W> Engine<W> {
    pub(super) fn enter_stage(&mut self, node: NodeId, stage: Stage, cause: Option<Cause>) {
        let Phase::Down { alarm, .. } = self.nodes[node].phase else { return };
        self.enter(node, Phase::Down { stage, alarm }, cause);
    }

    pub(super) fn next_probe(&mut self, node: NodeId) -> Instant {
        let jitter = self.config.breaker.probe_jitter_percent;
        self.now.instant + self.rng.around(self.nodes[node].probe_interval, jitter)
    }

    /// Takes the next step if its time has come. There is a connection.
    pub(super) fn run_recovery(&mut self, node: NodeId, now: Instant) {
        let Phase::Down { stage, .. } = &self.nodes[node].phase else { return };
        if stage.due().is_none_or(|due| now < due) {
            return;
        }
        match *stage {
            Stage::Waiting(_) => self.probe(node, 0),
            Stage::Between { passed, .. } => self.probe(node, passed),
            Stage::Barrier(_) => {
                self.trust_data_set(node);
                self.hand_back(node);
                self.drain(node);
            }
            Stage::Pause(_) => self.drain(node),
            Stage::Asking { .. } | Stage::Draining => {}
        }
    }

    // ---- probes --------------------------------------------------------------------------------

    fn probe(&mut self, node: NodeId, passed: u32) {
        let Some(conn) = self.nodes[node].conn else { return };
        // Its data may have been replaced while it could not be used, under the same connection. What
        // it says comes before the answers that may end the outage.
        let may_be_last = passed + 1 >= self.config.breaker.probes;
        if may_be_last && self.memory.degrades() && !self.nodes[node].heritage.is_asked() {
            self.ask_lineage(conn);
        }
        self.ask(conn, Own::Probe(Question::Ping), &[b"PING"]);
        self.ask(conn, Own::Probe(Question::Role), &[b"ROLE"]);
        let mut owed = 2;
        if let Some(key) = self.probe_key(node) {
            self.ask(conn, Own::Probe(Question::Del), &[b"DEL", &key]);
            owed += 1;
        }
        self.enter_stage(node, Stage::Asking { owed, failed: None, passed }, None);
    }

    /// A key that nobody has, in a slot that the node serves; none where it serves none. Each time in another
    /// slot: one of them may be open for a move, and then says nothing of the node.
    pub(super) fn probe_key(&mut self, node: NodeId) -> Option<Vec<u8>> {
        let Some(cluster) = &self.cluster else { return Some(PROBE_KEY.to_vec()) };
        let nth = self.rng.below(cluster.slots_of(node))?;
        key_in(cluster.slot_of(node, nth)?, &[PROBE_KEY, b":"].concat())
    }

    pub(super) fn ask(&mut self, conn: ConnId, own: Own, words: &[&[u8]]) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        connection.ask(own, words, self.now.instant);
        self.outputs.push_back(super::Output::Flush { conn });
    }

    pub(super) fn on_own_reply(&mut self, conn: ConnId, own: Own, reply: &Reply) {
        self.stirred = true;
        match own {
            // Whatever became of the connection since: this is what came of that key.
            Own::Inquire(key) => self.on_inquired(conn, &key, reply),
            Own::Settle(key, _) => self.on_settle_reply(conn, &key, reply),
            Own::StreamEnd => self.on_stream_end(conn, reply),
            Own::Topology => self.on_topology(conn, reply),
            Own::Unready => {
                if let Some(node) = self.node_of(conn) {
                    self.on_unready_reply(node, Some(reply));
                }
            }
            // If it was refused, what came right behind it will be as well.
            Own::Asking => {}
            // What an older connection still says of probes is of no interest.
            _ if self.served_by(conn).is_none() => {}
            Own::Ping => {}
            Own::Lineage => self.on_lineage(conn, reply),
            Own::Probe(question) => self.on_probe(conn, question, reply),
        }
    }

    fn on_probe(&mut self, conn: ConnId, question: Question, reply: &Reply) {
        let Some(node) = self.node_of(conn) else { return };
        let mut elsewhere = None;
        let Phase::Down { stage: Stage::Asking { owed, failed, passed }, .. } =
            &mut self.nodes[node].phase
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
        let next = if let Some(cause) = &failed {
            self.trial.reached(Rare::ProbeFailed);
            // On this connection it would be the same the next time, on another one perhaps not: the
            // name may lead to another server by now, and a new handshake gives the password anew.
            elsewhere = leads_astray(cause).then(|| cause.clone());
            Stage::Waiting(self.next_probe(node))
        } else if passed < self.config.breaker.probes {
            Stage::Between { passed, until: now + self.config.breaker.probe_gap }
        } else if self.is_held_down() {
            self.reached(Rare::HeldDown);
            Stage::Waiting(self.next_probe(node))
        } else {
            Stage::Barrier(now + self.rng.percent_of(self.config.breaker.barrier_max, 0, 100))
        };
        self.enter_stage(node, next, failed);
        if let Some(cause) = elsewhere {
            self.reached(Rare::LedAstray);
            self.retire(conn, cause);
        }
    }

    // ---- what is owed --------------------------------------------------------------------------

    /// Sends the next piece of what is owed.
    fn drain(&mut self, node: NodeId) {
        let Some(conn) = self.nodes[node].conn else { return };
        let mut bytes = 0;
        for key in self.next_owed(node, DRAIN_BATCH) {
            let unknown = self.nodes[node].heritage.is_unknown();
            let step = self.memory.begin(&key, unknown, self.now);
            bytes += self.take_step(conn, &key, step);
            if bytes >= DRAIN_BYTES {
                break;
            }
        }
        if self.is_paying(node) {
            self.enter_stage(node, Stage::Draining, None);
        } else if self.is_in_debt(node) {
            self.enter_stage(node, Stage::Pause(self.next_piece(node)), None);
            self.place_held();
        } else {
            self.recovered(node);
        }
    }

    /// Sends what is to be sent for one key, whole and with nothing between; gives how much that is.
    fn take_step(&mut self, conn: ConnId, key: &Bytes, step: Step) -> usize {
        let goes_out = matches!(step, Step::Ask(_) | Step::Pay(_));
        if goes_out && self.node_of(conn) != Some(self.payer_of(key)) {
            // It holds for the whole of a transaction.
            self.ask(conn, Own::Asking, &[b"ASKING"]);
        }
        match step {
            Step::Ask(question) => {
                self.ask(conn, Own::Inquire(key.clone()), &question.words());
                question.bytes()
            }
            Step::Pay(_) if self.trial.is(Sabotage::ForgetDebts) => {
                self.memory.settled(key, self.now);
                0
            }
            Step::Pay(commands) => {
                let last = commands.len() - 1;
                for (at, command) in commands.iter().enumerate() {
                    self.ask(conn, Own::Settle(key.clone(), at == last), &command.words());
                }
                commands.iter().map(Command::bytes).sum()
            }
            Step::Nothing => {
                self.memory.settled(key, self.now);
                0
            }
            Step::Skip => {
                self.reached(Rare::MergeSkipped);
                let payer = self.payer_of(key);
                self.nodes[payer].account.skipped += 1;
                self.memory.settled(key, self.now);
                0
            }
        }
    }

    // ---- whose debts ---------------------------------------------------------------------------

    /// The node that is to pay what a key is owed, whichever is asked for it.
    fn payer_of(&self, key: &[u8]) -> NodeId {
        match &self.cluster {
            None => self.nodes.home(),
            Some(cluster) => cluster.owner(slot(key)),
        }
    }

    /// The next keys that are owed something and that this node serves.
    fn next_owed(&self, node: NodeId, count: usize) -> Vec<Bytes> {
        match self.cluster {
            None => self.memory.next_owed(count, |_| true),
            Some(_) => self.memory.next_owed(count, |key| self.serves(node, key)),
        }
    }

    /// Whether something is on its way for a key that this node serves.
    fn is_paying(&self, node: NodeId) -> bool {
        self.memory.sending() > 0
            && (self.cluster.is_none() || self.memory.sends_any(|key| self.serves(node, key)))
    }

    /// Whether a key is owed something that this node serves.
    fn is_in_debt(&self, node: NodeId) -> bool {
        self.memory.journal_len() > 0
            && (self.cluster.is_none() || self.memory.owes_any(|key| self.serves(node, key)))
    }

    /// The node answers again for every key that nothing is owed to.
    pub(super) fn hand_back(&mut self, node: NodeId) {
        let Engine { memory, cluster, now, .. } = self;
        match cluster {
            None => memory.hand_back(*now, |_| true),
            Some(cluster) => memory.hand_back(*now, |key| cluster.owner(slot(key)) == node),
        }
    }

    /// A key may have been paid by the node that has served its slot before: the one that serves it now
    /// may have waited for that.
    fn end_other_pieces(&mut self, node: NodeId) {
        if self.cluster.is_none() {
            return;
        }
        for other in self.nodes.ids() {
            let drains =
                matches!(self.nodes[other].phase, Phase::Down { stage: Stage::Draining, .. });
            if other != node && drains && !self.is_paying(other) {
                self.enter_stage(other, Stage::Pause(self.next_piece(other)), None);
            }
        }
    }

    fn on_inquired(&mut self, conn: ConnId, key: &Bytes, reply: &Reply) {
        if let Answered::Refused(refused) = self.memory.answered(key, reply) {
            return self.on_refused(conn, key, refused);
        }
        let payer = self.payer_of(key);
        self.memory.put_back(key);
        // On a connection that is given up nothing more is begun.
        if self.served_by(conn).is_some() && self.is_draining(payer) {
            let step = self.memory.go_on(key, reply, self.now);
            self.take_step(conn, key, step);
        } else {
            self.reached(Rare::AnswerTooLate);
        }
        self.end_piece(payer);
    }

    fn on_settle_reply(&mut self, conn: ConnId, key: &Bytes, reply: &Reply) {
        match self.memory.answered(key, reply) {
            Answered::Partly => {}
            Answered::Paid => {
                let payer = self.payer_of(key);
                self.nodes[payer].debts_redirected = 0;
                self.memory.settled(key, self.now);
                self.end_piece(payer);
            }
            Answered::Refused(refused) => self.on_refused(conn, key, refused),
        }
    }

    fn on_refused(&mut self, conn: ConnId, key: &Bytes, refused: Refused) {
        let Refused { command, error, for_good } = refused;
        let payer = self.payer_of(key);
        if !for_good && self.is_redirect(&error) {
            return self.on_debt_redirected(conn, key, &error);
        }
        let fate = if for_good { Fate::Forever } else { fate_of(command, &error) };
        match fate {
            Fate::Maybe if self.memory.unanswered(key) => {
                self.reached(Rare::MaybePaid);
                self.nodes[payer].account.unanswered += 1;
                self.memory.settled(key, self.now);
                self.end_piece(payer);
            }
            // What another node than its own says concerns that key alone.
            Fate::NotNow | Fate::Maybe if self.node_of(conn) != Some(payer) => {
                self.pay_later(key);
            }
            // What may be sent again is; but who answered so once may do so for long.
            Fate::NotNow | Fate::Maybe => {
                self.reached(Rare::NotNow);
                self.memory.put_last(key);
                self.stop_drain(payer, Cause::NotReady(error));
            }
            Fate::Forever => {
                self.reached(Rare::NeverPaid);
                self.nodes[payer].account.refuse(command, error);
                self.memory.settled(key, self.now);
                self.end_piece(payer);
            }
        }
    }

    /// What a key is owed is to go to another node.
    fn on_debt_redirected(&mut self, conn: ConnId, key: &Bytes, error: &ServerError) {
        let payer = self.payer_of(key);
        let redirect = self.read_redirect(conn, error);
        let asks = redirect.filter(|redirect| redirect.kind == RedirectKind::Ask);
        let to = asks.and_then(|redirect| redirect.to);
        let named = |to: &Endpoint| self.cluster.as_ref().is_some_and(|cluster| cluster.names(to));
        let first = self.node_of(conn) == Some(payer) && self.is_draining(payer);
        let Some(to) = to.filter(|to| first && named(to)) else {
            self.want_refresh();
            return self.pay_later(key);
        };
        let target = self.node_at(&to);
        self.nodes[target].named_at = Some(self.now.instant);
        self.ensure_dial(target);
        let Some(conn) = self.nodes[target].conn.filter(|_| target != payer) else {
            return self.pay_later(key);
        };
        self.reached(Rare::DebtAsked);
        // What was asked before was asked of a node that does not have the key any more.
        self.memory.put_back(key);
        let unknown = self.nodes[payer].heritage.is_unknown();
        let step = self.memory.begin(key, unknown, self.now);
        self.take_step(conn, key, step);
        self.end_piece(payer);
    }

    /// Leaves what a key is owed for later, after all others.
    fn pay_later(&mut self, key: &Bytes) {
        let payer = self.payer_of(key);
        self.reached(Rare::DebtRedirected);
        self.memory.put_last(key);
        let times = &mut self.nodes[payer].debts_redirected;
        *times = times.saturating_add(1);
        self.end_piece(payer);
    }

    /// When the next piece may follow: where they are sent to and fro, no sooner than any command would.
    fn next_piece(&self, node: NodeId) -> Instant {
        let redirected = redirect_delay(self.nodes[node].debts_redirected);
        self.now.instant + DRAIN_PAUSE.max(redirected)
    }

    /// Goes on once nothing is on its way any more.
    fn end_piece(&mut self, node: NodeId) {
        self.end_other_pieces(node);
        if self.is_paying(node) {
            return;
        }
        if !matches!(self.nodes[node].phase, Phase::Down { stage: Stage::Draining, .. }) {
            self.tell_account(node);
            return self.place_held();
        }
        if !self.is_in_debt(node) {
            return self.recovered(node);
        }
        self.enter_stage(node, Stage::Pause(self.next_piece(node)), None);
        self.place_held();
    }

    /// Goes on where the last that was on its way was on a connection that is gone, and another one has
    /// taken over.
    pub(super) fn end_lost_piece(&mut self, node: NodeId) {
        if matches!(self.nodes[node].phase, Phase::Down { stage: Stage::Draining, .. }) {
            self.end_piece(node);
        }
    }

    /// The server can't serve now: back to memory, and to probes.
    pub(super) fn stop_drain(&mut self, node: NodeId, cause: Cause) {
        self.end_other_pieces(node);
        if self.is_draining(node) {
            let next = self.next_probe(node);
            self.enter_stage(node, Stage::Waiting(next), Some(cause));
        }
        if !self.is_paying(node) {
            self.tell_account(node);
        }
        self.place_held();
    }

    pub(super) fn is_draining(&self, node: NodeId) -> bool {
        self.nodes[node].phase.is_draining()
    }

    fn recovered(&mut self, node: NodeId) {
        self.tell_account(node);
        self.told = super::Told::default();
        self.nodes[node].recovered_at = Some(self.now.instant);
        self.nodes[node].heritage.settle();
        self.nodes[node].debts_redirected = 0;
        if self.cluster.is_some() {
            // Slots may have come to it since it began, and a debt in them may have been given up elsewhere.
            self.hand_back(node);
        }
        self.enter(node, Phase::Live, None);
        self.place_held();
    }

    /// What was on its way for a key when its connection was lost; `whole` where the peer may have
    /// got all of it.
    pub(super) fn lost_own(&mut self, node: NodeId, own: &Own, whole: bool) {
        // The slot may be another node's by now, and then it is that one's account.
        let mut payer = node;
        match own {
            Own::Settle(key, true) if whole && self.memory.unanswered(key) => {
                self.reached(Rare::DebtUnanswered);
                payer = self.payer_of(key);
                self.nodes[payer].account.unanswered += 1;
                // Another connection has taken over, on which the server answers for it already.
                if self.settles(payer) && self.nodes[payer].conn.is_some() {
                    self.memory.settled(key, self.now);
                }
            }
            Own::Settle(_, true) if whole => {}
            Own::Settle(key, true) | Own::Inquire(key) => {
                self.trial.reached(Rare::DebtPutBack);
                self.memory.put_back(key);
            }
            Own::Topology => return self.topology_lost(node),
            Own::Unready => return self.on_unready_reply(node, None),
            _ => return,
        }
        self.unheld = true;
        // It may have been another node's to pay.
        self.end_other_pieces(node);
        for of in [node, payer] {
            if !self.is_paying(of) {
                self.tell_account(of);
            }
        }
    }

    /// Tells operators what came of an attempt to pay, beside that it succeeded.
    pub(super) fn tell_account(&mut self, node: NodeId) {
        let account = std::mem::take(&mut self.nodes[node].account);
        let label = self.nodes[node].label.clone();
        let node = || label.clone();
        let mut events = Vec::new();
        for (command, error, entries) in account.refused {
            events.push(Event::ReplayRefused { node: node(), command, error, entries });
        }
        if account.skipped > 0 {
            events.push(Event::MergesSkipped { node: node(), entries: account.skipped });
        }
        if account.unanswered > 0 {
            events.push(Event::MergesUnanswered { node: node(), entries: account.unanswered });
        }
        for event in events {
            self.stirred = true;
            self.event(event);
        }
    }

    /// Places what waited behind keys; what still has to wait is held again, in the same order.
    pub(super) fn place_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        held.iter().for_each(|parked| self.unhold(parked));
        self.unheld = false;
        for parked in held {
            self.place(parked);
        }
        self.announce();
    }
}

impl Account {
    fn refuse(&mut self, command: &'static str, error: ServerError) {
        // Keys and values that a server quotes are nobody's business.
        let error = match error.line().split_once(", with args") {
            Some((start, _)) => ServerError::new(start.as_bytes()),
            None => error,
        };
        let same = |(of, known, _): &&mut (&'static str, ServerError, u64)| {
            *of == command && known.code() == error.code()
        };
        if let Some((.., count)) = self.refused.iter_mut().find(same) {
            *count += 1;
        } else if self.refused.len() < REFUSALS_MAX {
            self.refused.push((command, error, 1));
        } else if let Some((.., count)) = self.refused.last_mut() {
            *count += 1;
        }
    }
}

/// What follows from an error in answer to what was owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The server can't serve now.
    NotNow,
    /// It may have been carried out.
    Maybe,
    /// It would be the same the next time.
    Forever,
}

fn fate_of(command: &str, error: &ServerError) -> Fate {
    let spec = Spec::find(command).unwrap_or_else(Spec::unknown);
    match classify(spec, error) {
        Class::Later | Class::NotReady | Class::WrongNode | Class::Unauthenticated => Fate::NotNow,
        Class::Told(_) if matches!(error.code(), "OOM" | "MISCONF") => Fate::NotNow,
        Class::Told(Executed::Maybe) => Fate::Maybe,
        Class::Told(_) => Fate::Forever,
    }
}

/// Whether an answer to a probe speaks for a server that can be used.
fn judge(question: Question, reply: &Reply) -> Result<(), Cause> {
    if let Some(error) = reply.error() {
        return match (question, error.code()) {
            // Not being permitted to ask says nothing, nor does a server that can't save.
            // And ROLE is younger than some servers, and with ASK one says that the slot is its own still.
            (_, "NOPERM" | "MISCONF") | (Question::Role, "ERR") | (Question::Del, "ASK") => Ok(()),
            _ => Err(Cause::NotReady(error)),
        };
    }
    let is_replica = question == Question::Role
        && reply.view().items().next().is_some_and(|role| role.payload() == b"slave");
    if is_replica { Err(Cause::NotMaster) } else { Ok(()) }
}

/// Whether it is this connection that is of no use, whatever becomes of the server.
fn leads_astray(cause: &Cause) -> bool {
    match cause {
        Cause::NotMaster => true,
        Cause::NotReady(error) => matches!(error.code(), "READONLY" | "NOAUTH"),
        _ => false,
    }
}

//! Requests go on: replies come in, and what was refused for now goes again.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    Closing, ConnId, Engine, NodeId, Output, PUSHES_MAX, Parked,
    block::Block,
    classify::{Class, classify, classify_repeatable},
    trial::{Rare, Sabotage},
};
use crate::{
    config::Backoff,
    connection::{Connection, Op, Owed, Owner, Role, State, refused_unasked},
    failure::{Cause, Executed},
    fallback::Standing,
    reply::ServerError,
    request::Effect,
    resp::{Kind, Reply, Row, Sink},
};

/// The first delay after an answer that says the server or slot is not ready.
pub(super) const NOT_READY_BASE: Duration = Duration::from_millis(100);

/// How long a connection must have been in use before a refused write or question retires it, so that a
/// replica is not dialled anew for each of them.
const RETIRE_AFTER: Duration = Duration::from_secs(1);

/// What comes in on a connection, on its way to the engine.
struct Frames<'e, W> {
    engine: &'e mut Engine<W>,
    conn: ConnId,
}

impl<W> Sink for Frames<'_, W> {
    #[inline]
    fn reply(&mut self, reply: Reply) -> ControlFlow<()> {
        self.engine.on_frame(self.conn, reply)
    }

    #[inline]
    fn row(&mut self, row: &Row<'_>) -> Option<ControlFlow<()>> {
        self.engine.on_row(self.conn, row)
    }
}

impl<W> Engine<W> {
    pub(super) fn on_received(&mut self, conn: ConnId, bytes: &mut BytesMut) {
        let now = self.now.instant;
        let hears = |found: &&mut Connection| !found.is_deaf();
        let Some(connection) = self.connections.get_mut(conn.0).filter(hears) else {
            return bytes.clear();
        };
        connection.note_inbound(now);
        if connection.paused {
            return;
        }
        let mut decoder = connection.lend_decoder();
        let decoded = decoder.decode_into(bytes, &mut Frames { engine: self, conn });
        if let Err(fault) = decoded
            && !self.trial.is(Sabotage::PassOverFaults)
        {
            self.reached(Rare::Fault);
            self.kill(conn, Cause::Protocol(fault));
        }
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.return_decoder(decoder);
            if connection.is_deaf() {
                bytes.clear();
            }
            connection.release();
            // One that owes nothing any more is sent a PING, maybe before anything else is due.
            if connection.owes_nothing()
                && let Some((due, _)) = connection.due(&self.config)
                && self.armed.is_none_or(|armed| due < armed)
            {
                self.stirred = true;
            }
            if connection.retiring && connection.owes_nothing() {
                self.kill(conn, Cause::Local);
            } else if let Role::Leased(_) = connection.role
                && connection.owes_nothing()
                && let Some(lease) = self.lease_on(conn)
            {
                self.lease_at_rest(lease);
            }
        }
        if self.closing != Closing::Open {
            self.stirred = true;
        }
    }

    #[inline]
    fn on_frame(&mut self, conn: ConnId, reply: Reply) -> ControlFlow<()> {
        let go_on = ControlFlow::Continue(());
        let Some(connection) = self.connections.get_mut(conn.0) else { return go_on };
        if connection.is_deaf() {
            return go_on;
        }
        if matches!(reply.kind(), Kind::Push | Kind::Array) && connection.may_notify(reply.kind()) {
            return self.on_notice(conn, reply);
        }
        self.on_answer(conn, reply);
        go_on
    }

    #[inline]
    pub(super) fn on_answer(&mut self, conn: ConnId, mut reply: Reply) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        if connection.has_unsubscribed_last() && reply.is_error() {
            return self.on_late_error(conn, reply);
        }
        let Some((owed, start)) = connection.answered() else {
            return self.on_early(conn, &reply);
        };
        if self.cluster.is_some() {
            reply = reply.given_by(self.nodes[connection.node].number);
        }
        match owed.owner {
            Owner::Request(op) => {
                let node = connection.node;
                self.nodes[node].window.answer();
                self.on_reply(conn, op, reply, start, owed.end);
            }
            Owner::Transaction(op) => self.on_transaction_reply(conn, op, reply, start, owed.end),
            Owner::Blocked(op) => self.on_blocked_reply(conn, *op, reply, start, owed.end),
            Owner::Handshake => self.on_handshake_reply(conn, &reply),
            Owner::Own(own) => self.on_own_reply(conn, own, &reply),
            Owner::Change(change) => self.on_change_reply(conn, &change, &reply),
        }
    }

    /// A reply to what was not written to its end: to nothing that was asked, but in a transaction, of
    /// which each command is answered by itself.
    #[cold]
    fn on_early(&mut self, conn: ConnId, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        match connection.answered_early(|op| self.blocks.of(op).map_or(0, Block::due)) {
            Some((Owed { owner: Owner::Transaction(op), end }, start)) => {
                self.reached(Rare::Early);
                self.on_transaction_reply(conn, op, reply.clone(), start, end);
            }
            _ => self.on_unasked(conn, reply),
        }
    }

    fn on_unasked(&mut self, conn: ConnId, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        match reply.error() {
            Some(error) if matches!(connection.state, State::Handshaking(_)) => {
                self.trial.reached(Rare::RefusedAtOnce);
                self.refused(conn, refused_unasked(error));
            }
            _ => {
                self.reached(Rare::Unasked);
                self.kill(conn, Cause::UnexpectedReply);
            }
        }
    }

    pub(super) fn on_push(&mut self, push: Reply) {
        if self.pushes == PUSHES_MAX {
            let oldest = self.outputs.iter().position(|output| matches!(output, Output::Push(_)));
            self.outputs.remove(oldest.expect("they are counted"));
            self.pushes -= 1;
        }
        self.pushes += 1;
        self.outputs.push_back(Output::Push(push));
    }

    #[inline]
    fn on_reply(&mut self, conn: ConnId, op: Op, reply: Reply, start: u64, end: u64) {
        if self.trial.is(Sabotage::LosePlace) && !self.tickets.wants(op.ticket) {
            self.give_up(&op);
            return self.on_answer(conn, reply);
        }
        if let Some(error) = reply.error() {
            return self.on_error_reply(conn, op, error, start, end);
        }
        if op.standing != Standing::Wait || op.note.is_some() {
            self.on_degradable_reply(conn, &op, &reply);
        }
        self.tally.server += 1;
        self.end(&op, Ok(reply));
    }

    /// A reply that is counted for its pattern, or that memory is to learn from. Apart from the usual
    /// case, where nothing may degrade.
    #[inline(never)]
    pub(super) fn on_degradable_reply(&mut self, conn: ConnId, op: &Op, reply: &Reply) {
        if let Some(note) = &op.note {
            if op.engaged {
                self.overtake(op, note);
            }
            if self.served_by(conn).is_none() {
                // An older connection may tell what the newer one has overtaken.
                self.trial.reached(Rare::OlderConnection);
                if note.is_empty() {
                    self.forget_queued_on(conn);
                } else {
                    self.memory.forget(op.spec, Some(note), self.now);
                }
                self.on_write_elsewhere(conn, op);
            } else if op.overtaken {
                self.trial.reached(Rare::Overtaken);
                self.memory.forget(op.spec, Some(note), self.now);
            } else {
                self.memory.observe(op.spec, note, reply, self.now);
            }
        }
        if op.standing != Standing::Wait {
            self.tally.by_rule(op.rule, op.effect, reply);
        }
    }

    /// The node of a connection has answered something.
    pub(super) fn count_answer(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn.0) {
            self.nodes[connection.node].window.answer();
        }
    }

    #[cold]
    pub(super) fn on_error_reply(
        &mut self,
        conn: ConnId,
        op: Op,
        error: ServerError,
        start: u64,
        end: u64,
    ) {
        if op.note.as_ref().is_some_and(|note| note.is_empty()) {
            self.forget_queued_on(conn);
        }
        let classify = if op.may_repeat() { classify_repeatable } else { classify };
        let class = classify(op.spec, &error);
        self.on_refusal(conn, op, error, class, start, end);
    }

    /// The server has answered with an error of this class.
    pub(super) fn on_refusal(
        &mut self,
        conn: ConnId,
        mut op: Op,
        error: ServerError,
        class: Class,
        start: u64,
        end: u64,
    ) {
        let Some(node) = self.node_of(conn) else { return };
        if self.is_redirect(&error) {
            return self.on_redirect(conn, op, error, class, start, end);
        }
        let mut executed = Executed::No;
        // What was said on its connection before is part of what it means. Asked first, since a lease that was
        // given back may end with what follows.
        let pinned = self.is_pinned(&op);
        if matches!(class, Class::Later | Class::NotReady) {
            self.note_unready(node, &error);
        }
        let lacks_source = self.lacks_source(&op, &error);
        match class {
            Class::Told(told) => {
                executed = told;
                if op.effect != Effect::Read && !lacks_source {
                    self.taint(&op);
                } else if let Some(note) = op.note.as_deref().filter(|_| told == Executed::Yes) {
                    self.memory.unlearn(op.spec, note, self.now);
                }
            }
            Class::Later => {
                self.suspect_map(&error);
                // Whose word it is nobody knows, in the case of a script.
                op.maybe |= op.spec.is_script();
            }
            Class::NotReady => {
                self.want_refresh();
                if self.memory.degrades() {
                    self.reached(Rare::NotReadyTrips);
                    self.trip(node, Cause::NotReady(error.clone()));
                }
            }
            Class::WrongNode => {
                self.want_refresh();
                if self.has_served_for_long(node) {
                    self.retire(conn, Cause::NotMaster);
                    if self.retire_leased(conn)
                        && let Some(main) = self.nodes[node].conn
                    {
                        self.retire(main, Cause::NotMaster);
                        // It is not the one that this came in on, and it may be that nothing ever does again.
                        self.end_retired(main);
                    }
                }
            }
            Class::Unauthenticated => {
                if std::mem::replace(&mut op.rehandshaken, true) {
                    return self.end_with_error(&op, error, Executed::No);
                }
                self.reached(Rare::HandshakeAnew);
                // Each connection is signed in for itself: of the others nothing was said.
                self.retire(conn, Cause::Handshake(error.clone()));
                self.retire_leased(conn);
            }
        }
        let may_go = !matches!(class, Class::Told(_))
            && u32::from(op.attempts) < self.config.retry.attempts_max;
        let again = (may_go || lacks_source) && self.tickets.wants(op.ticket) && !pinned;
        if !again {
            return self.end_with_error(&op, error, executed);
        }
        let base = match class {
            Class::Later | Class::NotReady => NOT_READY_BASE.max(self.config.retry.backoff.base),
            _ => self.config.retry.backoff.base,
        };
        if !lacks_source && self.settles(node) && self.may_degrade(op.standing) {
            // What may be done without the server is, also where it was to be trusted again.
            self.stop_drain(node, Cause::NotReady(error.clone()));
        }
        let at_once = lacks_source || self.is_degraded(node, op.standing);
        let delay = if at_once { Duration::ZERO } else { self.retry_delay(&op, base) };
        let connection = self.connections.get_mut(conn.0).expect("it has just answered");
        match connection.log.copy(start, end) {
            Some(bytes) => {
                let bytes = bytes.to_vec();
                let parked = self.parked_again(op, bytes, error);
                self.delay(parked, delay);
            }
            // A caller writes at this moment and has the bytes; it brings them back in an instant.
            None => {
                connection.refused.push((op, start, end, error, delay));
                self.reached(Rare::RefusedWhileWriting);
            }
        }
    }

    /// Whether the present connection to a node has been in use for so long that another one may be better.
    pub(super) fn has_served_for_long(&self, node: NodeId) -> bool {
        let ready_at = self.nodes[node].ready_at;
        let used = ready_at.map(|at| self.now.instant.saturating_duration_since(at));
        used.is_some_and(|span| span >= RETIRE_AFTER)
    }

    /// Delays what was refused while its bytes were with the writer.
    pub(super) fn delay_refused(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        for (op, start, end, error, delay) in std::mem::take(&mut connection.refused) {
            let Some(connection) = self.connections.get(conn.0) else { return };
            let bytes = connection.log.copy(start, end).unwrap_or_default().to_vec();
            if self.is_redirect(&error) {
                self.detour(conn, op, bytes, error);
                continue;
            }
            let parked = self.parked_again(op, bytes, error);
            self.delay(parked, delay);
        }
        self.stirred = true;
    }

    pub(super) fn end_with_error(&mut self, op: &Op, error: ServerError, executed: Executed) {
        let executed =
            if op.maybe && executed == Executed::No { Executed::Maybe } else { executed };
        self.tally.server += 1;
        let cause = self.misjudged(&error);
        let failure = self.failure(op, self.refusal_kind(op, error), executed).because(cause);
        self.fail(op, failure);
    }

    /// Where a server that is said to stand alone answers as only a node of a cluster does, that is why.
    pub(super) fn misjudged(&self, error: &ServerError) -> Option<Cause> {
        let of_cluster = matches!(error.code(), "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN");
        (self.cluster.is_none() && of_cluster).then_some(Cause::NodeOfCluster)
    }

    pub(super) fn retry_delay(&mut self, op: &Op, base: Duration) -> Duration {
        let sent = u32::from(op.attempts);
        // The schedule was asked for so many attempts; the last delay stands for all after it.
        if let Some(last) = self.delays.last() {
            return *self.delays.get(usize::from(op.attempts) - 1).unwrap_or(last);
        }
        let backoff = Backoff { base, ..self.config.retry.backoff };
        self.rng.percent_of(backoff.delay(sent.saturating_sub(1)), 0, 100)
    }

    pub(super) fn delay(&mut self, parked: Parked, delay: Duration) {
        self.stirred = true;
        let mut at = self.now.after(delay);
        // The others of its pipeline are answered without it, and it may go to another node by then.
        self.tickets.note_strayed(parked.op.ticket);
        match self.tickets.get_mut(parked.op.ticket) {
            // Items of one pipeline keep their order.
            Some(slot) => {
                at = slot.retry_at.map_or(at, |last| last.max(at));
                slot.retry_at = Some(at);
            }
            None => return self.give_up(&parked.op),
        }
        self.delayed_count += 1;
        self.delayed.insert((at, self.delayed_count), parked);
    }

    pub(super) fn run_delayed(&mut self, now: Instant) {
        let mut any = false;
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let parked = entry.remove();
            any = true;
            self.place(parked);
        }
        if any {
            self.announce();
        }
    }

    /// Has what was placed on the nodes' connections written.
    pub(super) fn announce(&mut self) {
        for conn in self.nodes.iter().filter_map(|(_, node)| node.conn) {
            if self.connections.get(conn.0).is_some_and(|found| found.log.unwritten() > 0) {
                self.outputs.push_back(Output::Flush { conn });
            }
        }
    }

    pub(super) fn place_backlog(&mut self, node: NodeId) {
        for parked in std::mem::take(&mut self.nodes[node].backlog) {
            self.place(parked);
        }
        self.announce();
    }
}

//! A command is put where it can be served now: onto a connection, into memory, or into a queue.

use super::{
    ConnId, Engine, Flush, NodeId, Parked,
    trial::{Rare, Sabotage},
};
use crate::{
    config::Forced,
    connection::Op,
    failure::{Cause, FailureKind},
    fallback::{Claim, NativeDone, Standing},
    request::Effect,
    topology::Redirect,
};

impl<W> Engine<W> {
    /// Any way but straight onto the connection.
    pub(super) fn submit_indirectly(&mut self, op: Op, bytes: &[u8]) -> Flush {
        self.stirred = true;
        if self.store.is_some() && !self.scripts.is_out() && !op.spec.is_script() {
            if self.waits_in_store(&op) {
                self.wait_in_store(Parked { op, bytes: bytes.to_vec(), cause: None });
                return Flush::Nothing;
            }
            self.answer_from_store(&op, bytes);
            return Flush::Nothing;
        }
        let node = self.route(&op);
        if node == self.nodes.home() {
            self.ensure_map();
        }
        self.ensure_dial(node);
        let conn = self.nodes[node].conn;
        let before = conn.map(|conn| (conn, self.unwritten_before(conn)));
        self.place(Parked { op, bytes: bytes.to_vec(), cause: None });
        match before {
            Some((conn, before)) if self.unwritten_before(conn) > before => {
                self.flush(conn, before)
            }
            _ => Flush::Nothing,
        }
    }

    fn unwritten_before(&self, conn: ConnId) -> u64 {
        self.connections.get(conn.0).map_or(0, |connection| connection.log.unwritten())
    }

    /// Puts a command where it can be served now: onto the connection, into memory, or into a queue.
    pub(super) fn place(&mut self, parked: Parked) {
        self.place_with(parked, None);
    }

    /// The same, with what a native script has done for the command, if memory is to answer it.
    pub(super) fn place_with(&mut self, parked: Parked, ran: Option<NativeDone>) {
        if !self.tickets.wants(parked.op.ticket) {
            return self.give_up(&parked.op);
        }
        if self.store.is_some() {
            return self.place_in_store(parked, ran);
        }
        let lease = self.tickets.of_lease(parked.op.ticket).map(|of| of.lease);
        if let Some(lease) = lease.filter(|lease| self.leases.is_pinned(*lease)) {
            return self.place_pinned(lease, parked);
        }
        let parked = match &self.cluster {
            None => parked,
            // It has a way of its own.
            Some(_) if lease.is_some() => parked,
            Some(_) => match self.split(parked).and_then(|whole| self.wait_behind_detour(whole)) {
                Some(parked) => parked,
                None => return,
            },
        };
        let node = self.route(&parked.op);
        let standing = parked.op.standing;
        let only_the_server = standing.waits() || standing == Standing::Fail;
        if self.is_isolated() && only_the_server {
            return self.end_without_answer(&parked.op, FailureKind::Isolated);
        }
        // What others wait for went to the server before, and goes there again.
        let answers_anything = self.trial.is(Sabotage::AnswerAnything);
        if (standing == Standing::Wait && !answers_anything)
            || !self.nodes[node].phase.is_down()
            || parked.op.engaged
            || (self.nodes[node].conn.is_some() && self.may_be_told(&parked))
        {
            return self.place_on_server(node, parked);
        }
        let settles = self.settles(node);
        if standing == Standing::Fail && !settles {
            let connected = self.nodes[node].conn.is_some();
            let refusal = parked.cause.filter(|cause| connected && is_refusal(cause));
            let kind = FailureKind::Down(refusal.unwrap_or_else(|| self.down_cause(node)));
            return self.end_without_answer(&parked.op, kind);
        }
        if self.is_clearing(node) {
            return self.nodes[node].backlog.push_back(parked);
        }
        if standing == Standing::Mixed && self.scripts.is_out() {
            return self.scripts.wait(parked);
        }
        let insists = self.forced == Some(Forced::Redis);
        let by_server = insists || settles;
        if !by_server && standing != Standing::Mixed && self.memory.is_quiet() {
            return self.place_in_memory(parked, ran);
        }
        let commands = self.blocks.commands(&parked.op, &parked.bytes);
        match self.memory.claim(&commands, standing, by_server) {
            Claim::Memory if insists => self.hold(parked),
            Claim::Memory => self.place_in_memory(parked, ran),
            Claim::Server if standing == Standing::Mixed => self.place_mixed(node, parked),
            Claim::Server => self.place_on_server(node, parked),
            // It is older than what memory owes to its keys, and would come after it.
            Claim::Held if standing == Standing::Mixed && parked.op.attempts > 0 => {
                self.reached(Rare::OlderThanDebt);
                let cause = parked.cause.unwrap_or_else(|| self.down_cause(node));
                self.end_without_answer(&parked.op, FailureKind::ConnectionLost(cause));
            }
            Claim::Held => self.hold(parked),
        }
    }

    /// Whether a server that is judged down is told of this as soon as it can be told anything: it is a
    /// message, or a transaction of messages and of what waits for the server anyway. Memory holds nothing of
    /// either, so there is nothing that recovery would have to settle before. Where the server has refused it
    /// for now, it goes the way that it goes without a server: there is no waiting for its turn.
    pub(super) fn may_be_told(&self, parked: &Parked) -> bool {
        let op = &parked.op;
        (op.spec.is_publish() || op.spec.is_transaction())
            && !self.is_held_down()
            && !parked.cause.as_ref().is_some_and(is_refusal)
            && self.memory.has_no_say(&self.blocks.commands(op, &parked.bytes))
    }

    /// Puts a command where only the server can serve it, while others of its keys are served from
    /// memory: they are not written there before it has ended.
    fn place_mixed(&mut self, node: NodeId, mut parked: Parked) {
        if parked.op.effect != Effect::Read {
            self.reached(Rare::HeldMixed);
            parked.op.engaged = true;
            self.memory.engage(&self.blocks.commands(&parked.op, &parked.bytes));
        }
        self.place_on_server(node, parked);
    }

    /// Lets a command wait behind older ones, and what comes later to its keys behind it.
    fn hold(&mut self, parked: Parked) {
        self.reached(Rare::Held);
        self.memory.engage(&self.blocks.commands(&parked.op, &parked.bytes));
        self.held.push_back(parked);
    }

    /// Nobody has to wait for what was held any more: it is about to go another way.
    pub(super) fn unhold(&mut self, parked: &Parked) {
        self.memory.disengage(&self.blocks.commands(&parked.op, &parked.bytes));
        self.unheld = true;
    }

    pub(super) fn place_on_server(&mut self, node: NodeId, parked: Parked) {
        if let Some(of) = self.tickets.of_lease(parked.op.ticket) {
            return self.place_on_lease(of.lease, parked);
        }
        let waits_for_all = self.trial.is(Sabotage::WaitForAll)
            && self.nodes.iter().any(|(_, node)| node.endpoint.is_some() && node.conn.is_none());
        let Some(conn) = self.nodes[node].conn.filter(|_| !waits_for_all) else {
            return self.nodes[node].backlog.push_back(parked);
        };
        let Parked { mut op, mut bytes, cause } = parked;
        if op.maybe && !op.may_repeat() && !self.trial.is(Sabotage::RepeatWrites) {
            return self.end_maybe(&op, cause);
        }
        if op.spec.is_script() {
            self.bring_source(node, &mut op, &mut bytes);
        }
        op.attempts = op.attempts.saturating_add(1);
        let now = self.now.instant;
        let connection = self.connections.get_mut(conn.0).expect("the node's connection");
        match self.blocks.of_mut(&op) {
            None => connection.send(op, now, |out, _| out.extend_from_slice(&bytes)),
            Some(block) => {
                block.begin();
                connection.send_transaction(op, now, |out| out.extend_from_slice(&bytes));
            }
        }
    }

    /// Ends a command that may have been executed and is not to be repeated.
    pub(super) fn end_maybe(&mut self, op: &Op, cause: Option<Cause>) {
        self.reached(Rare::EndsMaybe);
        self.end_without_answer(op, FailureKind::ConnectionLost(cause.unwrap_or(Cause::Local)));
    }

    /// Drops a command that nobody waits for any more.
    pub(super) fn give_up(&mut self, op: &Op) {
        if op.maybe {
            self.taint(op);
        }
        if op.engaged {
            self.release(op);
        }
        self.blocks.drop_of(op);
        self.queued.subtract(op);
    }

    /// Nobody has to wait for a command any more.
    #[cold]
    pub(super) fn release(&mut self, op: &Op) {
        if let Some(note) = &op.note {
            self.memory.disengage(&self.blocks.commands(op, note));
        }
        self.unheld = true;
    }
}

/// Whether this is a server that has refused a command for now, and has not sent it elsewhere.
fn is_refusal(cause: &Cause) -> bool {
    matches!(cause, Cause::NotReady(error) if !Redirect::is_one(error))
}

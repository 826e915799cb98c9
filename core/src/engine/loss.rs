//! Connections end, and what was on them goes on or ends as well.

use std::time::Duration;

use super::{
    Closing, ConnId, Engine, Event, Linger, NodeId, Output, Parked,
    transaction::forget,
    trial::{Rare, Sabotage},
};
use crate::{
    config::{Forced, MaybeRetry},
    connection::{Op, Owner, Role, State},
    failure::{Cause, Executed, Failure, FailureKind},
    fallback::{Policy, Standing},
    request::Effect,
};

impl<W> Engine<W> {
    /// Takes a connection out of use; what it owes is settled when the adapter has closed it.
    pub(super) fn kill(&mut self, conn: ConnId, cause: Cause) {
        let Some(connection) = self.connections.get(conn.0) else { return };
        if matches!(connection.state, State::Closing { .. }) {
            return;
        }
        let linger = if connection.owes_nothing() { Linger::Deliver } else { Linger::Reset };
        let (role, node, silent) = (connection.role, connection.node, cause == Cause::Silent);
        self.carry_no_more(conn, &cause);
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.close(cause);
        }
        match role {
            Role::Main => self.nodes[node].dial.closing(conn),
            Role::Own(feed) => {
                if let Some(side) = self.side_mut(feed) {
                    side.dial.closing(conn);
                }
            }
            Role::Leased(seat) => self.seat_closing(seat, conn),
        }
        if role == Role::Main && silent {
            self.silence_seats(node);
        }
        if self.nodes[node].conn == Some(conn) {
            self.nodes[node].conn = None;
        }
        self.stirred = true;
        self.outputs.push_back(Output::Close { conn, linger });
    }

    /// Lets a connection finish what it owes, and dials another for what is to come.
    pub(super) fn retire(&mut self, conn: ConnId, cause: Cause) {
        let Some(node) = self.served_by(conn) else { return };
        let connection = self.connections.get_mut(conn.0).expect("the node's connection");
        (connection.retiring, connection.replaced) = (true, true);
        self.trial.reached(Rare::Retired);
        self.nodes[node].conn = None;
        self.carry_no_more(conn, &cause);
        self.stirred = true;
        self.on_lost(node, cause);
    }

    /// Closes a connection that was to finish what it owed, if it owes nothing.
    pub(super) fn end_retired(&mut self, conn: ConnId) {
        let connection = self.connections.get(conn.0);
        if connection.is_some_and(|found| found.retiring && found.owes_nothing()) {
            self.kill(conn, Cause::Local);
        }
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, cause: Cause) {
        let Some(connection) = self.connections.get(conn.0) else {
            let current = self.nodes[self.nodes.home()]
                .conn
                .filter(|_| self.trial.is(Sabotage::TrustTheDead));
            return current.into_iter().for_each(|conn| self.kill(conn, cause.clone()));
        };
        let mut cause = connection.closing_cause().cloned().unwrap_or(cause);
        let node = connection.node;
        let dialled = match connection.role {
            Role::Main => self.nodes[node].dial.is(conn),
            Role::Own(feed) => self.side_mut(feed).is_some_and(|side| side.dial.is(conn)),
            Role::Leased(seat) => self.is_seats_dial(seat, conn),
        };
        if !dialled && cause == Cause::ConnectTimeout {
            // On one that was made long ago this is the kernel giving up on an unreachable peer.
            cause = Cause::Silent;
        }
        self.carry_no_more(conn, &cause);
        let Some(connection) = self.connections.remove(conn.0) else { return };
        match connection.role {
            Role::Main if dialled => return self.dial_lost(node, connection.awaits_hello(), cause),
            Role::Main => {}
            Role::Own(feed) if dialled => return self.side_dial_lost(feed, cause),
            Role::Own(_) => return,
            Role::Leased(seat) if dialled => return self.seat_dial_lost(seat, cause),
            Role::Leased(seat) => return self.on_seat_lost(seat, connection, &cause),
        }
        let (was_ready, retiring) = (connection.was_ready(), connection.retiring);
        let replaced = connection.replaced;
        if self.nodes[node].conn == Some(conn) {
            self.nodes[node].conn = None;
        }
        let mut back = Vec::new();
        for (owner, bytes, whole) in connection.into_owed() {
            match owner {
                Owner::Own(own) => self.lost_own(node, &own, whole),
                Owner::Handshake | Owner::Change(_) => {}
                owner => {
                    let op = owner.into_op().expect("all others have one");
                    back.extend(self.lost(node, op, bytes, whole, replaced, &cause));
                }
            }
        }
        // What was refused before them in the same pipeline goes first.
        let follows = |engine: &mut Self, parked: &Parked| {
            let slot = engine.tickets.get_mut(parked.op.ticket);
            slot.and_then(|slot| slot.retry_at).is_some_and(|at| at > engine.now.instant)
        };
        let mut first = Vec::new();
        for parked in self.go_behind_detours(back) {
            if follows(self, &parked) {
                self.delay(parked, Duration::ZERO);
            } else {
                first.push(parked);
            }
        }
        // They are older than anything in the backlog, and go before it.
        for parked in first.into_iter().rev() {
            self.nodes[node].backlog.push_front(parked);
        }
        let needed = !retiring && !self.nodes[node].gone;
        if was_ready && needed && self.closing == Closing::Open {
            if !matches!(cause, Cause::Forced(_)) {
                let node = self.nodes[node].label.clone();
                self.event(Event::Error { node, cause: cause.clone() });
            }
            self.on_lost(node, cause);
        }
        if self.nodes[node].conn.is_some() {
            self.end_lost_piece(node);
        }
        if self.nodes[node].conn.is_some() || self.nodes[node].phase.is_down() {
            self.place_backlog(node);
        }
        if self.nodes[node].gone {
            self.place_backlog(node);
            self.sweep_nodes();
        }
    }

    /// A command on a lost connection: gives it back if it may go again. What is newer does not
    /// wait for one that was `replaced`.
    pub(super) fn lost(
        &mut self,
        node: NodeId,
        mut op: Op,
        bytes: Vec<u8>,
        whole: bool,
        replaced: bool,
        cause: &Cause,
    ) -> Option<Parked> {
        op.maybe |= whole;
        if !self.tickets.wants(op.ticket) {
            self.give_up(&op);
            return None;
        }
        if let Some(block) = self.blocks.of(&op).filter(|_| op.maybe) {
            let repeats = block.may_repeat(&bytes);
            op.maybe_retry = if repeats { MaybeRetry::Always } else { MaybeRetry::Never };
        }
        // What memory may take over at the trip is kept until the server is judged.
        let taken_over = match op.standing {
            Standing::Memory(Policy::Invalidate) => true,
            Standing::Memory(_) | Standing::MemoryOfSeveral | Standing::Miss => {
                op.effect == Effect::Read
            }
            Standing::StaleReads => op.effect == Effect::Read,
            Standing::Wait | Standing::Mixed | Standing::Fail => false,
        };
        // Memory or a newer connection went on without it, and holds what was written since.
        let in_memory = self.forced == Some(Forced::Memory) && self.is_degraded(node, op.standing);
        let overtaken = (in_memory || replaced) && op.effect != Effect::Read;
        let repeats = op.may_repeat() || self.trial.is(Sabotage::RepeatWrites);
        let kept = (!op.maybe || repeats || taken_over) && !overtaken;
        if kept && u32::from(op.attempts) < self.config.retry.attempts_max {
            self.reached(Rare::SentAgain);
            return Some(Parked { op, bytes, cause: Some(cause.clone()) });
        }
        self.end_without_answer(&op, FailureKind::ConnectionLost(cause.clone()));
        None
    }

    /// Ends what was on a connection without any retry.
    pub(super) fn settle_lost(&mut self, conn: ConnId, kind: &FailureKind) {
        let Some(connection) = self.connections.remove(conn.0) else { return };
        let node = connection.node;
        for (owner, _, whole) in connection.into_owed() {
            match owner {
                Owner::Own(own) => self.lost_own(node, &own, whole),
                Owner::Handshake | Owner::Change(_) => {}
                owner => {
                    let mut op = owner.into_op().expect("all others have one");
                    op.maybe |= whole;
                    self.end_without_answer(&op, kind.clone());
                }
            }
        }
    }

    /// Ends what is on no connection.
    pub(super) fn end_parked(&mut self, kind: &FailureKind) {
        let mut parked = Vec::new();
        for (_, node) in self.nodes.iter_mut() {
            parked.extend(std::mem::take(&mut node.backlog));
        }
        parked.extend(std::mem::take(&mut self.delayed).into_values());
        let mut held = std::mem::take(&mut self.held);
        held.iter().for_each(|parked| self.unhold(parked));
        parked.extend(held.drain(..));
        if let Some(cluster) = &mut self.cluster {
            parked.extend(cluster.detours.take(|_| true));
        }
        parked.extend(self.scripts.take(|_| true));
        parked.extend(self.take_leased());
        self.scripts.abandon();
        parked.extend(std::mem::take(&mut self.line).into_iter().flatten());
        self.in_line = super::Queued::default();
        for parked in parked {
            self.end_without_answer(&parked.op, kind.clone());
        }
        for ticket in self.tickets.waits() {
            let failure = Failure::new(kind.clone(), Executed::No, "connect");
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
        }
        for ticket in self.tickets.sleeps() {
            let failure = Failure::new(kind.clone(), Executed::No, "sleep");
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
        }
    }

    /// The server has done, or may have done, what others waited for.
    #[cold]
    pub(super) fn overtake(&mut self, op: &Op, note: &[u8]) {
        self.memory.overtaken(&self.blocks.commands(op, note), self.now);
    }

    /// Another connection than the one that requests share has told of a write. What is on its way on that
    /// one may have been answered before it, and is heard after it.
    #[cold]
    pub(super) fn on_write_elsewhere(&mut self, conn: ConnId, op: &Op) {
        let node = self.connections.get(conn.0).map(|connection| connection.node);
        let shared = node.and_then(|node| self.nodes[node].conn);
        let shared = shared.and_then(|shared| self.connections.get_mut(shared.0));
        if let Some(shared) = shared.filter(|_| op.effect != Effect::Read) {
            shared.overtake();
        }
    }

    /// Nobody knows whether a write was carried out, so nobody knows what its keys hold now.
    pub(super) fn taint(&mut self, op: &Op) {
        if let Some(note) = op.note.as_deref().filter(|_| op.engaged) {
            self.overtake(op, note);
        }
        forget(&mut self.memory, &self.blocks, op, self.now);
    }

    /// Memory takes over while writes are on their way to a server that may answer them yet: what it
    /// remembers of their keys is from before them, and must neither be served nor replayed after them.
    pub(super) fn distrust_unanswered(&mut self) {
        if self.is_isolated() {
            // Nothing will be answered: each ends, or goes to memory.
            return;
        }
        for (_, connection) in self.connections.iter().filter(|(_, found)| !found.is_closing()) {
            let ops = connection.owed().filter_map(|owed| owed.owner.op());
            for op in ops.filter(|op| op.effect != Effect::Read) {
                self.trial.reached(Rare::Distrusted);
                forget(&mut self.memory, &self.blocks, op, self.now);
            }
        }
    }

    /// Ends a command to which no server has the last word. Where it may have been executed, nobody
    /// knows what its keys hold now.
    pub(super) fn end_without_answer(&mut self, op: &Op, kind: FailureKind) {
        self.end_because(op, kind, None);
    }

    /// The same, with what kept the server from answering, where the kind does not say so itself.
    pub(super) fn end_because(&mut self, op: &Op, kind: FailureKind, cause: Option<Cause>) {
        if op.maybe {
            self.taint(op);
        }
        if self.tickets.of_lease(op.ticket).is_some() {
            // Its lease may have waited for nothing else.
            (self.leases.stirred, self.stirred) = (true, true);
        }
        let failure = self.failure(op, kind, op.executed_so_far()).because(cause);
        self.fail(op, failure);
    }
}

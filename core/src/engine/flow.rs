//! Requests go on: replies come in, connections are lost, delays and deadlines pass.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    Closing, ConnId, Engine, Event, Health, Linger, NodeId, Output, PUSHES_MAX, Parked,
    block::Block,
    classify::{Class, classify, classify_repeatable},
    transaction::forget,
    trial::{Rare, Sabotage},
};
use crate::{
    config::{Backoff, Forced, MaybeRetry},
    connection::{Connection, Due, Op, Owed, Owner, Role, State, refused_unasked},
    failure::{Cause, Executed, Failure, FailureKind, Stage},
    fallback::{Policy, Standing},
    reply::ServerError,
    request::Effect,
    resp::{Kind, Reply, Row, Sink},
};

/// The first delay after an answer that says the server or slot is not ready.
pub(super) const NOT_READY_BASE: Duration = Duration::from_millis(100);

/// How long a connection must have been in use before a refused write retires it, so that a replica
/// is not dialled anew for each write.
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
                self.settle_lease(lease);
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
    pub(super) fn on_answer(&mut self, conn: ConnId, reply: Reply) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        if connection.has_unsubscribed_last() && reply.is_error() {
            return self.on_late_error(conn, reply);
        }
        let Some((owed, start)) = connection.answered() else {
            return self.on_early(conn, &reply);
        };
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
            if self.served_by(conn).is_some() {
                self.memory.observe(op.spec, note, reply, self.now);
            } else {
                // An older connection may tell what the newer one has overtaken.
                self.trial.reached(Rare::OlderConnection);
                self.memory.forget(op.spec, Some(note), self.now);
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
                let ready_at = self.nodes[node].ready_at;
                let used = ready_at.map(|at| self.now.instant.saturating_duration_since(at));
                if used.is_some_and(|span| span >= RETIRE_AFTER) {
                    self.retire(conn, Cause::NotMaster);
                    self.retire_leased(conn, Cause::NotMaster);
                }
            }
            Class::Unauthenticated => {
                if std::mem::replace(&mut op.rehandshaken, true) {
                    return self.end_with_error(&op, error, Executed::No);
                }
                self.reached(Rare::HandshakeAnew);
                self.retire(conn, Cause::Handshake(error.clone()));
                self.retire_leased(conn, Cause::Handshake(error.clone()));
            }
        }
        let may_go = !matches!(class, Class::Told(_))
            && u32::from(op.attempts) < self.config.retry.attempts_max;
        // What was said on its connection before is part of what it means.
        let pinned = self.is_pinned(&op);
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
        let failure = self.failure(op, self.refusal_kind(op, error), executed);
        self.fail(op, failure);
    }

    fn retry_delay(&mut self, op: &Op, base: Duration) -> Duration {
        let sent = u32::from(op.attempts);
        // The schedule was asked for so many attempts; the last delay stands for all after it.
        if let Some(last) = self.delays.last() {
            return *self.delays.get(usize::from(op.attempts) - 1).unwrap_or(last);
        }
        let backoff = Backoff { base, ..self.config.retry.backoff };
        self.rng.percent_of(backoff.delay(sent.saturating_sub(1)), 0, 100)
    }

    fn delay(&mut self, parked: Parked, delay: Duration) {
        self.stirred = true;
        let mut at = self.now.after(delay);
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

    // ---- connections end -----------------------------------------------------------------------

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
        connection.retiring = true;
        self.trial.reached(Rare::Retired);
        self.nodes[node].conn = None;
        self.carry_no_more(conn, &cause);
        self.stirred = true;
        self.on_lost(node, cause);
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
                    back.extend(self.lost(node, op, bytes, whole, &cause));
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

    /// A command on a lost connection: gives it back if it may go again.
    pub(super) fn lost(
        &mut self,
        node: NodeId,
        mut op: Op,
        bytes: Vec<u8>,
        whole: bool,
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
        // Memory went on without it, and may hold what was written since.
        let overtaken = self.forced == Some(Forced::Memory)
            && self.is_degraded(node, op.standing)
            && op.effect != Effect::Read;
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
    fn end_because(&mut self, op: &Op, kind: FailureKind, cause: Option<Cause>) {
        if op.maybe {
            self.taint(op);
        }
        let failure = self.failure(op, kind, op.executed_so_far()).because(cause);
        self.fail(op, failure);
    }

    // ---- time passes ---------------------------------------------------------------------------

    pub(super) fn run_connections(&mut self, now: Instant) {
        let due: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| {
                let (at, due) = connection.due(&self.config)?;
                (at <= now).then_some((ConnId(id), due, now - at))
            })
            .collect();
        for (conn, due, late) in due {
            match due {
                Due::Ping => self.ask(conn, crate::connection::Own::Ping, &[b"PING"]),
                // This process stood still, and may not have looked at what has come meanwhile.
                Due::Silent if late > self.config.response_timeout / 2 => {
                    let connection = self.connections.get_mut(conn.0).expect("it is due");
                    connection.grant_more_time(now);
                    self.reached(Rare::MoreTime);
                }
                Due::Silent => {
                    self.reached(Rare::NoticeOfSilence);
                    self.kill(conn, Cause::Silent);
                }
            }
        }
    }

    pub(super) fn run_deadlines(&mut self, now: Instant) {
        if self.trial.is(Sabotage::ForgetDeadlines) || !self.tickets.expire(now) {
            return;
        }
        self.expire_sent();
        self.expire_parked();
        for ticket in self.tickets.expired_waits() {
            let result = self.connect_result();
            let waiter = self.tickets.end_wait(ticket, result);
            self.wake(waiter);
        }
        for ticket in self.tickets.due_sleeps() {
            let waiter = self.tickets.end_wait(ticket, Ok(()));
            self.wake(waiter);
        }
        self.expire_topics();
    }

    /// Ends what is on a connection and has expired. What the writer has not seen is taken back, so
    /// that it is certain not to run; the rest keeps its place in the queue, and what it counts for:
    /// its reply may still come.
    fn expire_sent(&mut self) {
        let mut withdrawn = Vec::new();
        let tickets = &self.tickets;
        for (_, connection) in self.connections.iter_mut().filter(|(_, found)| found.is_ready()) {
            withdrawn.extend(connection.withdraw(|op| tickets.is_expired(op.ticket)));
        }
        for op in withdrawn {
            self.reached(Rare::TakenBack);
            self.soil(&op);
            self.end_without_answer(&op, FailureKind::DeadlinePassed(Stage::Connection));
        }
        let mut expired = Vec::new();
        for (_, connection) in self.connections.iter() {
            for owed in connection.owed() {
                let op = owed.owner.op().filter(|op| self.tickets.is_expired(op.ticket));
                let Some(op) = op else { continue };
                let maybe = op.maybe || !connection.is_unsent(owed.end);
                let executed = if maybe { Executed::Maybe } else { Executed::No };
                let kind = FailureKind::DeadlinePassed(Stage::Reply);
                expired.push((op.ticket, op.item, self.failure(op, kind, executed)));
                if maybe {
                    forget(&mut self.memory, &self.blocks, op, self.now);
                }
            }
            for (op, ..) in &connection.refused {
                if self.tickets.is_expired(op.ticket) {
                    let kind = FailureKind::DeadlinePassed(Stage::Retry);
                    let failure = self.failure(op, kind, op.executed_so_far());
                    expired.push((op.ticket, op.item, failure));
                }
            }
        }
        for (ticket, item, failure) in expired {
            self.reached(Rare::ExpiredUnanswered);
            let waiter = self.tickets.end(ticket, item, Err(failure));
            self.wake(waiter);
        }
    }

    fn expire_parked(&mut self) {
        let tickets = &self.tickets;
        let expired = |parked: &Parked| tickets.is_expired(parked.op.ticket);
        let mut ended: Vec<(Parked, Stage)> = Vec::new();
        for (_, node) in self.nodes.iter_mut() {
            if node.backlog.iter().any(expired) {
                let (gone, kept): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut node.backlog).into_iter().partition(expired);
                node.backlog = kept.into();
                ended.extend(gone.into_iter().map(|parked| (parked, Stage::Connection)));
            }
        }
        if self.held.iter().any(expired) {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.held).into_iter().partition(expired);
            self.held = kept.into();
            for parked in &gone {
                self.memory.disengage(&self.blocks.commands(&parked.op, &parked.bytes));
                self.unheld = true;
                self.trial.reached(Rare::ExpiredHeld);
            }
            ended.extend(gone.into_iter().map(|parked| (parked, Stage::Connection)));
        }
        if self.delayed.values().any(expired) {
            for (at, parked) in std::mem::take(&mut self.delayed) {
                if expired(&parked) {
                    self.trial.reached(Rare::ExpiredDelayed);
                    ended.push((parked, Stage::Retry));
                } else {
                    self.delayed.insert(at, parked);
                }
            }
        }
        if let Some(cluster) = &mut self.cluster {
            let gone = cluster.detours.take(expired);
            ended.extend(gone.into_iter().map(|parked| (parked, Stage::Retry)));
        }
        let of_scripts = self.scripts.take(expired);
        ended.extend(of_scripts.into_iter().map(|parked| (parked, Stage::Script)));
        let in_line = |request: &Vec<Parked>| expired(&request[0]);
        if self.line.iter().any(in_line) {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.line).into_iter().partition(in_line);
            self.line = kept.into();
            for parked in gone.into_iter().flatten() {
                self.in_line.subtract(&parked.op);
                self.trial.reached(Rare::ExpiredInLine);
                ended.push((parked, Stage::Room));
            }
        }
        ended.extend(self.take_expired_of_leases());
        for (Parked { op, cause, .. }, stage) in ended {
            let cause = cause.or_else(|| self.nodes[self.route(&op)].cause.clone());
            self.end_because(&op, FailureKind::DeadlinePassed(stage), cause);
        }
    }

    pub(super) fn run_closing(&mut self, now: Instant) {
        let Closing::Draining(until) = self.closing else { return };
        // Without a connection nothing more can be sent or answered, since nothing is dialled any more.
        let carries = |connection: &Connection| !matches!(connection.role, Role::Own(_));
        let connected = self.connections.iter().any(|(_, connection)| carries(connection));
        let hopeless = !connected && self.scripts.len() == 0;
        if now < until && self.queued.requests > 0 && !hopeless {
            return;
        }
        let from = self.health();
        self.forget_refresh();
        self.closing = Closing::Closed;
        let connections: Vec<_> = self.connections.iter().map(|(id, _)| ConnId(id)).collect();
        for conn in connections {
            // Ended here and not when the adapter has closed them: after this nothing is pending.
            let linger = match self.connections.get(conn.0) {
                Some(connection) if !connection.owes_nothing() => {
                    self.trial.reached(Rare::ClosedInTime);
                    Linger::Reset
                }
                _ => Linger::Deliver,
            };
            self.settle_lost(conn, &FailureKind::ClientClosed);
            self.outputs.push_back(Output::Close { conn, linger });
        }
        for (_, node) in self.nodes.iter_mut() {
            node.conn = None;
            node.dial = super::dial::Dial::Idle;
        }
        self.end_parked(&FailureKind::ClientClosed);
        self.end_streams(FailureKind::ClientClosed);
        self.forget_leases(&Cause::Local);
        debug_assert!(self.blocks.is_empty(), "every transaction has ended");
        self.memory.clear();
        self.event(Event::HealthChanged { from, to: Health::Closed, cause: None });
        self.event(Event::End);
    }
}

//! Requests come in: checked, counted, and given to `place`, or straight to a connection.

use std::time::Instant;

use super::{
    Batch, Closing, ConnId, Engine, Flush, Lease, Parked, Rejected, Slot, Ticket,
    gather::without_memory,
    tickets::{OfLease, Work},
    trial::{Rare, Sabotage},
};
use crate::{
    Now,
    commands::Spec,
    config::{Config, MaybeRetry},
    connection::Op,
    failure::{Bound, Executed},
    fallback::Standing,
    request::{Effect, Options, Request, split_arguments},
};

/// Where a new request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    InLine,
}

/// What has gathered on a connection when the caller that adds to it is asked to write by itself:
/// one big batch would be lock-step with the server, this refills by halves.
const FLUSH_NOW_BYTES: u64 = 8 * 1024;

/// The most commands that may stand in line for room. Each belongs to a caller that waits for it, so
/// the callers are its bound in practice; this one is for those that nobody waits for.
pub const LINE_MAX: usize = 1 << 20;

/// How many times the queue's bound of bytes may stand in line for room.
pub const LINE_BYTES_FACTOR: usize = 16;

impl<W> Engine<W> {
    /// Accepts a request: it is encoded at once, and ends exactly once, at its deadline at the
    /// latest. Where the queue is full it waits in line for room, within its deadline.
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] when there is no room in the queue and it asked not to wait for any, or the
    /// line is as long as it may be. The request leaves no trace.
    pub fn submit(
        &mut self,
        request: &Request<'_>,
        waiter: Option<W>,
        now: Now,
    ) -> Result<(Ticket, Flush), Rejected> {
        self.note_time(now);
        let spec = request.spec();
        if self.check_use(spec, request.command(), 0)? {
            return self.submit_leased(None, request, waiter);
        }
        let options = request.asked();
        let room = self.find_room(options)?;
        let deadline = self.now.after(options.deadline.unwrap_or(self.config.deadline));
        let names = match request.unknown_name() {
            Some(name) => vec![(0, name.into())],
            None => Vec::new(),
        };
        let ticket = self.tickets.insert(Work::One(None), waiter, deadline, names);
        if let Some(script) = request.called() {
            self.tickets.note_scripts(ticket, vec![(0, script.clone())]);
        }
        let effect = request.declared_effect();
        let arguments = request.arguments();
        let (standing, noted) = self.memory.mode_for(spec, effect, arguments);
        let mut op = Op::new(&self.config, ticket, 0, spec, effect, options, standing);
        op.slot = self.slot_for(spec, arguments);
        if standing != Standing::Wait {
            op.rule = self.memory.rule_for(spec, arguments);
        }
        self.queued.requests += 1;
        let conn = match room {
            Room::Now => self.direct(op.slot, standing),
            Room::InLine => None,
        };
        let Some(conn) = conn else {
            return Ok((ticket, self.submit_aside(op, request, noted, room)));
        };
        let connection = self.connections.get_mut(conn.0).expect("the node's connection");
        let before = connection.log.unwritten();
        op.attempts = 1;
        let queued = &mut self.queued.bytes;
        connection.send(op, self.now.instant, |out, op| {
            let start = out.len();
            request.encode(out);
            let bytes = &out[start..];
            op.note = noted.then(|| bytes.into());
            op.cost = cost_of(bytes);
            *queued += op.cost as usize;
        });
        Ok((ticket, self.flush(conn, before)))
    }

    /// A request that can't go straight into a connection's log is encoded beside it.
    #[cold]
    fn submit_aside(
        &mut self,
        mut op: Op,
        request: &Request<'_>,
        noted: bool,
        room: Room,
    ) -> Flush {
        let mut bytes = std::mem::take(&mut self.scratch);
        request.encode(&mut bytes);
        op.note = noted.then(|| bytes.as_slice().into());
        op.cost = cost_of(&bytes);
        self.queued.bytes += op.cost as usize;
        let flush = match room {
            Room::Now => self.submit_indirectly(op, &bytes),
            Room::InLine => {
                self.stand_in_line(vec![Parked { op, bytes: bytes.clone(), cause: None }])
            }
        };
        self.scratch = emptied(bytes);
        flush
    }

    /// Accepts a pipeline or a transaction. The commands of a pipeline go out in order, each ends on its
    /// own, the ticket ends with the last of them. Those of a transaction go out in one piece between
    /// MULTI and EXEC, and end as one; it counts as one request.
    ///
    /// # Errors
    ///
    /// As for [`submit`](Engine::submit); it is accepted or refused as a whole.
    pub fn submit_batch(
        &mut self,
        batch: &Batch,
        waiter: Option<W>,
        now: Now,
    ) -> Result<(Ticket, Flush), Rejected> {
        self.note_time(now);
        if batch.is_transaction {
            return self.submit_transaction(batch, waiter, None);
        }
        self.submit_pipeline(batch, waiter, None)
    }

    /// Accepts a pipeline, maybe on a lease. Where one of its commands waits at the server, all of it goes
    /// out on a connection of its own.
    pub(super) fn submit_pipeline(
        &mut self,
        batch: &Batch,
        waiter: Option<W>,
        lease: Option<Lease>,
    ) -> Result<(Ticket, Flush), Rejected> {
        let mut waits = None;
        for (at, item) in batch.items.iter().enumerate() {
            let by_node = batch.beside.is_some() && item.spec.concerns_all_keys();
            let free = lease.is_some() || (by_node && self.closing == Closing::Open);
            if free || self.check_use(item.spec, batch.name_of(at), at)? {
                waits = waits.or(item.spec.is_blocking().then(|| item.spec.name()));
            }
        }
        let alone = lease.is_some() || waits.is_some();
        let slot = if alone { self.slot_of_pipeline(lease, batch)? } else { Slot::NONE };
        let room = self.find_room(batch.options)?;
        if batch.doubts_map {
            self.want_refresh();
        }
        let whole = if batch.scripts.is_empty() {
            None
        } else {
            self.bring_sources(self.nodes.home(), batch)
        };
        let batch = whole.as_ref().unwrap_or(batch);
        let mut span = batch.options.deadline.unwrap_or(self.config.deadline);
        let count = batch.items.len();
        // One command alone has its deadline moved while it waits.
        if waits.is_some() && batch.options.deadline.is_none() && (count > 1 || lease.is_some()) {
            span = span.saturating_add(Self::waits_in(batch));
        }
        let deadline = self.now.after(span);
        let work = Work::many(count);
        let ticket = self.tickets.insert(work, waiter, deadline, batch.names.clone());
        let lease = match lease {
            None if alone => Some(self.lease_of_pipeline(ticket, batch, slot)),
            Some(lease) => {
                self.bind(lease, slot);
                Some(lease)
            }
            None => None,
        };
        if let Some(lease) = lease {
            let limited = batch.options.deadline.is_some();
            self.tickets.note_lease(ticket, OfLease { lease, waits, limited });
        }
        if !batch.scripts.is_empty() {
            self.tickets.note_scripts(ticket, batch.scripts.clone());
        }
        self.queued.requests += count;
        let costs = (0..count).map(|at| cost_of(batch.bytes_of(at)) as usize);
        self.queued.bytes += costs.sum::<usize>();
        // Where no key may degrade, all of it goes into the log in one piece.
        let whole =
            room == Room::Now && !self.memory.degrades() && !alone && self.cluster.is_none();
        if let Some(conn) = self.direct(Slot::NONE, Standing::Wait).filter(|_| whole) {
            let now = self.now.instant;
            let ops = batch.items.iter().enumerate().map(|(at, item)| {
                let mut op = Op::new(
                    &self.config,
                    ticket,
                    at as u32,
                    item.spec,
                    item.effect,
                    batch.options_of(item),
                    Standing::Wait,
                );
                op.attempts = 1;
                op.cost = cost_of(batch.bytes_of(at));
                (op, item.end)
            });
            let connection = self.connections.get_mut(conn.0).expect("the node's connection");
            let before = connection.log.unwritten();
            connection.send_batch(ops, &batch.bytes, now);
            return Ok((ticket, self.flush(conn, before)));
        }
        let mut flush = Flush::Nothing;
        let mut in_line = Vec::new();
        for (at, item) in batch.items.iter().enumerate() {
            let bytes = batch.bytes_of(at);
            let args = split_arguments(item.spec, bytes);
            let (mut standing, noted) = self.memory.mode_for(item.spec, item.effect, &args);
            let beside = self.place_beside(batch, item.spec, &args);
            if beside.is_some() && item.spec.concerns_all_keys() {
                standing = without_memory(standing);
            }
            let options = batch.options_of(item);
            let mut op =
                Op::new(&self.config, ticket, at as u32, item.spec, item.effect, options, standing);
            op.cost = cost_of(bytes);
            op.slot = match beside {
                Some(slot) => slot,
                None if alone => slot,
                None => self.slot_for(item.spec, &args),
            };
            if standing != Standing::Wait {
                op.rule = self.memory.rule_for(item.spec, &args);
            }
            op.note = noted.then(|| bytes.into());
            if room == Room::InLine {
                in_line.push(Parked { op, bytes: bytes.to_vec(), cause: None });
                continue;
            }
            let next = self.submit_indirectly(op, bytes);
            if next != Flush::Nothing {
                flush = next;
            }
        }
        if self.cluster.is_some() {
            // They may have gone to several.
            self.announce();
        }
        if !in_line.is_empty() {
            flush = self.stand_in_line(in_line);
        }
        if let Some(lease) = lease {
            self.settle_lease(lease);
        }
        Ok((ticket, flush))
    }

    /// Gives a ticket up. A request that still waits for a connection or for room is withdrawn; one
    /// that was encoded for a connection keeps its place there, and its reply is thrown away when it
    /// comes.
    pub fn cancel(&mut self, ticket: Ticket, now: Now) {
        self.note_time(now);
        if let Some(stream) = self.tickets.stream_of(ticket) {
            self.tickets.remove(ticket);
            self.pubsub.forget_leave(ticket);
            self.pubsub.fail_join(stream, ticket, None);
            return self.run_feeds();
        }
        let Some(slot) = self.tickets.remove(ticket) else { return };
        if let Some(command) = slot.brought() {
            self.tell_of_giving_up(self.nodes.home(), command);
        }
        if let Some(lease) = slot.lease() {
            self.cancel_on_lease(lease, ticket);
        }
        self.cancel_parts(ticket);
        // A client that is being closed may have waited for this one only.
        self.stirred |= self.closing != Closing::Open;
        self.cancelled += slot.left();
        if !self.memory.is_quiet() {
            // Others may wait for one of those.
            self.drop_cancelled();
        }
        self.admit();
    }

    /// Gives a ticket up, but not its request, which is carried out all the same: fire and forget.
    pub fn detach(&mut self, ticket: Ticket) {
        if let Some(stream) = self.tickets.stream_of(ticket) {
            // It has no deadline any longer.
            self.pubsub.forget_leave(ticket);
            self.pubsub.detach_join(stream, ticket);
            self.tickets.remove(ticket);
        }
        self.tickets.detach(ticket);
    }

    // ---- inside --------------------------------------------------------------------------------

    pub(super) fn find_room(&mut self, options: Options) -> Result<Room, Rejected> {
        // Nobody overtakes those who stand in line.
        if self.line.is_empty() && self.has_room() {
            self.full_told = false;
            return Ok(Room::Now);
        }
        if !std::mem::replace(&mut self.full_told, true) {
            let requests = self.queued.requests - self.in_line.requests;
            let by_count = requests >= self.config.queue.requests_max;
            self.tell_full(if by_count { Bound::QueueRequests } else { Bound::QueueBytes });
        }
        let bytes_max = self.config.queue.bytes_max.saturating_mul(LINE_BYTES_FACTOR);
        let line_is_full = self.in_line.requests >= LINE_MAX || self.in_line.bytes >= bytes_max;
        if options.refuse_when_full || line_is_full {
            if self.trial.is(Sabotage::KeepRefused) {
                let work = Work::Wait(None);
                self.tickets.insert(work, None, self.now.instant, Vec::new());
            }
            return Err(Rejected::Full);
        }
        Ok(Room::InLine)
    }

    fn has_room(&self) -> bool {
        self.queued.requests - self.in_line.requests < self.config.queue.requests_max
            && self.queued.bytes - self.in_line.bytes < self.config.queue.bytes_max
    }

    pub(super) fn stand_in_line(&mut self, request: Vec<Parked>) -> Flush {
        self.stirred = true;
        self.ensure_dials();
        for parked in &request {
            self.in_line.add(&parked.op);
        }
        self.line.push_back(request);
        Flush::Nothing
    }

    /// Lets in those who stand in line, as far as there is room. The last step of whatever may have
    /// made room: in the middle of one, the order of what is being placed would suffer.
    pub(super) fn admit(&mut self) {
        // Clearing costs one look at each parked command, so it is done when at least half of them can be
        // stale.
        if self.cancelled > 0 && 2 * self.cancelled > self.parked() {
            self.drop_cancelled();
        }
        if self.unheld {
            self.place_held();
        }
        self.settle_detours();
        while !self.line.is_empty() && self.has_room() {
            let request = self.line.pop_front().expect("the line is not empty");
            for parked in &request {
                self.in_line.subtract(&parked.op);
            }
            for parked in request {
                self.place(parked);
            }
            self.announce();
        }
    }

    fn drop_cancelled(&mut self) {
        if std::mem::take(&mut self.cancelled) > 0 {
            self.reached(Rare::Swept);
            self.drop_unwanted();
        }
    }

    /// Commands that are on no connection.
    fn parked(&self) -> usize {
        let backlogs: usize = self.nodes.iter().map(|(_, node)| node.backlog.len()).sum();
        let waiting = backlogs + self.delayed.len() + self.held.len();
        let detours = self.cluster.as_ref().map_or(0, |cluster| cluster.detours.len());
        waiting + detours + self.scripts.len() + self.line.len() + self.leases.parked()
    }

    pub(super) fn tell_full(&mut self, bound: Bound) {
        self.stirred = true;
        self.event(super::Event::Full { bound });
    }

    /// The connection that takes a new request of this rule at once, in the common case.
    #[inline]
    pub(super) fn direct(&self, slot: u16, standing: Standing) -> Option<ConnId> {
        let node = &self.nodes[self.direct_to(slot)?];
        let conn = node.conn?;
        let served = node.phase.is_live() || standing == Standing::Wait;
        served.then_some(conn)
    }

    pub(super) fn flush(&mut self, conn: ConnId, before: u64) -> Flush {
        let connection = self.connections.get(conn.0).expect("just sent on it");
        let due = self.now.instant + self.config.response_timeout;
        let nearer = |at: Instant| self.armed.is_none_or(|armed| at < armed);
        if nearer(due) || self.tickets.earliest().is_some_and(nearer) {
            self.stirred = true;
        }
        match connection.log.unwritten() {
            unwritten if unwritten >= FLUSH_NOW_BYTES && before < FLUSH_NOW_BYTES => {
                Flush::Now(conn)
            }
            _ if before == 0 => Flush::AfterOthers(conn),
            _ => Flush::Nothing,
        }
    }

    fn drop_unwanted(&mut self) {
        let tickets = &self.tickets;
        let unwanted = |parked: &Parked| !tickets.wants(parked.op.ticket);
        let mut dropped = Vec::new();
        for (_, node) in self.nodes.iter_mut() {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut node.backlog).into_iter().partition(unwanted);
            node.backlog = kept.into();
            dropped.extend(gone);
        }
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(unwanted);
        self.held = kept.into();
        for parked in &gone {
            self.memory.disengage(&self.blocks.commands(&parked.op, &parked.bytes));
            self.unheld = true;
        }
        dropped.extend(gone);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.delayed).into_iter().partition(|(_, parked)| unwanted(parked));
        dropped.extend(gone.into_iter().map(|(_, parked)| parked));
        self.delayed = kept.into_iter().collect();
        let tickets = &self.tickets;
        if let Some(cluster) = &mut self.cluster {
            dropped.extend(cluster.detours.take(|parked| !tickets.wants(parked.op.ticket)));
        }
        dropped.extend(self.scripts.take(|parked| !tickets.wants(parked.op.ticket)));
        for parked in dropped {
            self.give_up(&parked.op);
        }
        for request in std::mem::take(&mut self.line) {
            if self.tickets.wants(request[0].op.ticket) {
                self.line.push_back(request);
                continue;
            }
            for parked in request {
                self.in_line.subtract(&parked.op);
                self.give_up(&parked.op);
            }
        }
    }
}

/// A scratch buffer that grew beyond this for one large command is given up.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The buffer for the next command.
fn emptied(mut scratch: Vec<u8>) -> Vec<u8> {
    scratch.clear();
    if scratch.capacity() <= SCRATCH_BYTES_MAX { scratch } else { Vec::new() }
}

/// What a command counts for: its length, as far as that can be written down. A longer one than that
/// no server takes; but what was added when it came must be what is subtracted when it ends.
#[inline]
pub(super) fn cost_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Op {
    /// One that was not sent yet.
    pub(super) fn new(
        config: &Config,
        ticket: Ticket,
        item: u32,
        spec: &'static Spec,
        effect: Effect,
        options: Options,
        standing: Standing,
    ) -> Op {
        Op {
            ticket,
            item,
            spec,
            effect,
            maybe_retry: options.maybe_retry.unwrap_or(config.retry.maybe),
            slot: Slot::NONE,
            redirects: 0,
            attempts: 0,
            maybe: false,
            rehandshaken: false,
            standing,
            rule: 0,
            engaged: false,
            overtaken: false,
            note: None,
            cost: 0,
        }
    }

    /// What can be said of a command that ends without an answer.
    pub(super) fn executed_so_far(&self) -> Executed {
        if self.maybe { Executed::Maybe } else { Executed::No }
    }

    /// Whether it may be sent again although it may have been executed.
    pub(super) fn may_repeat(&self) -> bool {
        permits(self.maybe_retry, self.effect)
    }
}

/// Whether a command of this effect may be sent again although it may have been executed.
pub(super) fn permits(choice: MaybeRetry, effect: Effect) -> bool {
    match choice {
        MaybeRetry::Never => false,
        MaybeRetry::Repeatable => effect <= Effect::Repeatable,
        MaybeRetry::Idempotent => effect <= Effect::IdempotentWrite,
        MaybeRetry::Always => true,
    }
}

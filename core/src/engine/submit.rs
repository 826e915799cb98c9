//! Requests come in: checked, counted, and put where they can be served now.

use std::time::Instant;

use super::{
    Batch, Closing, ConnId, Engine, Flush, Lease, NodeId, Parked, Rejected, Slot, Ticket,
    gather::without_memory,
    in_memory::lacks,
    tickets::{OfLease, Work},
    trial::{Rare, Sabotage},
};
use crate::{
    Failure, Now,
    commands::Spec,
    config::{Config, Forced, MaybeRetry},
    connection::Op,
    failure::{Bound, Cause, Executed, FailureKind},
    fallback::{Claim, NativeDone, Standing},
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

const SHARED_CONNECTION: &str = "this command changes the state of its connection, which callers \
    share: use it on one of your own (`dedicated`); database, name and credentials for all of them belong \
    in the client's configuration";
const SUBSCRIBES: &str = "messages would come on a connection that callers share, and to nobody in \
    particular: `subscribe`, `psubscribe` and `ssubscribe` give a stream of them";
const NOT_HERE: &str = "this command gives its connection another purpose, of which this client knows \
    nothing: send it on a socket of your own";
const DROP_IT: &str =
    "the connection is the client's: `close` ends it, and it is made anew by itself";
const ROUTES: &str = "where a request goes, and what has to be said to that node before, the client \
    decides by itself; on a connection of your own (`dedicated`) you may say it";
const TRANSACTS: &str = "between MULTI and EXEC on the shared connection, commands of other callers \
    would get into the transaction: use `transaction`, which sends all of it in one piece";
const WATCHES: &str = "a watched key would hold for all who share the connection: use `optimistic`, which \
    watches, reads, decides and writes on one of its own, or `dedicated`";
const WAITS: &str = "this command waits for what its own connection wrote, so alone on a shared one its \
    answer would be about nothing: use it in a pipeline, after the writes it is to wait for, or on a \
    connection of your own (`dedicated`)";
const SCANS: &str = "a cursor of SCAN belongs to one node of the cluster: `scan` goes through all of them, also while \
    slots move from one to another";

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
        self.cancelled += 1;
        // Clearing costs one look at each parked request, so it is done when at least half of them
        // can be stale, or others may wait for this one.
        if 2 * self.cancelled > self.parked() || !self.memory.is_quiet() {
            self.cancelled = 0;
            self.reached(Rare::Swept);
            self.drop_unwanted();
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

    pub(super) fn check_open(&self, command: &str) -> Result<(), Rejected> {
        match self.closing {
            Closing::Open => Ok(()),
            Closing::Draining(_) | Closing::Closed => Err(Rejected::Failed(Failure::new(
                FailureKind::ClientClosed,
                Executed::No,
                command.to_owned(),
            ))),
        }
    }

    /// Whether a command may be used by those who share a connection, and if so, whether it needs one of
    /// its own. It is the `at`-th of its pipeline.
    #[inline]
    fn check_use(&self, spec: &Spec, command: &str, at: usize) -> Result<bool, Rejected> {
        let plain = !spec.is_session() && !spec.is_blocking();
        if self.closing == Closing::Open && plain && self.cluster.is_none() {
            return Ok(false);
        }
        self.check_use_of(spec, command, at)
    }

    #[cold]
    fn check_use_of(&self, spec: &Spec, command: &str, at: usize) -> Result<bool, Rejected> {
        self.check_open(command)?;
        if self.trial.is(Sabotage::LetAnythingThrough) {
            return Ok(false);
        }
        let advice = match spec.name() {
            "SCAN" if self.cluster.is_some() => SCANS,
            "MULTI" | "EXEC" | "DISCARD" => TRANSACTS,
            "WATCH" | "UNWATCH" => WATCHES,
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE"
            | "SUNSUBSCRIBE" => SUBSCRIBES,
            "MONITOR" | "SYNC" | "PSYNC" | "REPLCONF" | "CLIENT REPLY" | "SCRIPT DEBUG"
            | "CLUSTER SYNCSLOTS" => NOT_HERE,
            "QUIT" | "RESET" => DROP_IT,
            "ASKING" | "READONLY" | "READWRITE" => ROUTES,
            _ if spec.is_about_own_writes() => match at {
                0 => WAITS,
                _ => return Ok(true),
            },
            _ if spec.is_session() && self.store.is_some() => lacks(spec),
            _ if spec.is_session() => SHARED_CONNECTION,
            _ => return Ok(spec.is_blocking()),
        };
        let kind = FailureKind::Misuse(advice);
        Err(Rejected::Failed(Failure::new(kind, Executed::No, command.to_owned())))
    }

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
        {
            return self.place_on_server(node, parked);
        }
        let settles = self.settles(node);
        if standing == Standing::Fail && !settles {
            let kind = FailureKind::Down(self.down_cause(node));
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

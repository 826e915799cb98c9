//! Requests come in: checked, counted, and put where they can be served now.

use std::time::{Duration, Instant};

use super::{Batch, Closing, ConnId, Engine, Flush, Parked, Rejected, Ticket, tickets::Work};
use crate::{
    Failure, Now,
    commands::Spec,
    config::{Config, MaybeRetry},
    connection::Op,
    failure::{Cause, Executed, FailureKind, MEMORY, MemoryRefusal, Stage},
    fallback::{Answer, Claim, JOURNAL, Policy, Standing},
    request::{Effect, Options, Request, split_arguments, split_command},
    resp::{Reply, Source},
};

/// Where a new request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
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
    share; database, name and credentials belong in the client's configuration, `subscribe` gives a \
    stream of messages, and this version has no transactions";
const BLOCKS: &str = "this command waits at the server and would hold up everybody on the shared \
    connection; this version has no connections of their own for such commands";

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
        self.check_use(spec, request.command())?;
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
        let (standing, noted) = self.memory.mode_for(spec, effect, request.arguments());
        let mut op = Op::new(&self.config, ticket, 0, spec, effect, options, standing);
        self.queued.requests += 1;
        if let Some(conn) = self.direct(standing).filter(|_| room == Room::Now) {
            let connection = self.connections.get_mut(conn.0).expect("the node's connection");
            let before = connection.log.unwritten();
            if noted {
                let mut bytes = Vec::new();
                request.encode(&mut bytes);
                op.note = Some(bytes.into());
            }
            op.attempts = 1;
            let cost = &mut self.queued.bytes;
            connection.send(op, self.now.instant, |out, op| {
                let start = out.len();
                request.encode(out);
                op.cost = cost_of(&out[start..]);
                *cost += op.cost as usize;
            });
            return Ok((ticket, self.flush(conn, before)));
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        request.encode(&mut bytes);
        op.cost = cost_of(&bytes);
        self.queued.bytes += op.cost as usize;
        if noted {
            op.note = Some(bytes.as_slice().into());
        }
        let flush = match room {
            Room::Now => self.submit_indirectly(op, &bytes),
            Room::InLine => {
                self.stand_in_line(vec![Parked { op, bytes: bytes.clone(), cause: None }])
            }
        };
        bytes.clear();
        if bytes.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = bytes;
        }
        Ok((ticket, flush))
    }

    /// Accepts a pipeline: its commands go out in order, each ends on its own, the ticket ends with
    /// the last of them.
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
        for (at, item) in batch.items.iter().enumerate() {
            self.check_use(item.spec, batch.name_of(at))?;
        }
        let room = self.find_room(batch.options)?;
        let whole = if batch.scripts.is_empty() { None } else { self.bring_sources(batch) };
        let batch = whole.as_ref().unwrap_or(batch);
        let deadline = self.now.after(batch.options.deadline.unwrap_or(self.config.deadline));
        let count = batch.items.len();
        let work = Work::Many { outcomes: vec![const { None }; count], left: count };
        let ticket = self.tickets.insert(work, waiter, deadline, batch.names.clone());
        if !batch.scripts.is_empty() {
            self.tickets.note_scripts(ticket, batch.scripts.clone());
        }
        self.queued.requests += count;
        let costs = (0..count).map(|at| cost_of(batch.bytes_of(at)) as usize);
        self.queued.bytes += costs.sum::<usize>();
        // Where no key may degrade, all of it goes into the log in one piece.
        let whole = room == Room::Now && !self.memory.degrades();
        if let Some(conn) = self.direct(Standing::Wait).filter(|_| whole) {
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
            let (standing, noted) = self.memory.mode_for(item.spec, item.effect, &args);
            let options = batch.options_of(item);
            let mut op =
                Op::new(&self.config, ticket, at as u32, item.spec, item.effect, options, standing);
            op.cost = cost_of(bytes);
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
        if !in_line.is_empty() {
            flush = self.stand_in_line(in_line);
        }
        Ok((ticket, flush))
    }

    /// Begins to connect, if nobody has; the ticket ends when the first connection is ready, or was
    /// judged.
    ///
    /// It ends well once the server can be used, and also when the server can't be reached but some
    /// key pattern may be answered without it. It ends with a failure when the server can't be
    /// reached and nothing may degrade, and whenever the credentials or the configuration are wrong.
    pub fn connect(&mut self, waiter: Option<W>, now: Now) -> Ticket {
        self.note_time(now);
        let deadline = self.now.instant + self.config.connect_timeout;
        let work = Work::Wait(None);
        let ticket = self.tickets.insert(work, waiter, deadline, vec![(0, "connect".into())]);
        self.stirred = true;
        if let Err(Rejected::Failed(failure)) = self.check_open("connect") {
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
            return ticket;
        }
        self.ensure_dial();
        if self.store.is_some() || self.node.phase.was_judged() {
            self.end_connect_waits();
        }
        ticket
    }

    /// Waits for `span`: the ticket ends well with the first drain after it. If the client is closed or
    /// what drives it is dropped before, it ends with that failure.
    pub fn sleep(&mut self, span: Duration, waiter: Option<W>, now: Now) -> Ticket {
        self.note_time(now);
        let until = self.now.after(span);
        let ticket = self.tickets.insert(Work::Sleep(None), waiter, until, Vec::new());
        self.stirred = true;
        if let Err(Rejected::Failed(failure)) = self.check_open("sleep") {
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
        }
        ticket
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
        if self.tickets.remove(ticket).is_none() {
            return;
        }
        // A client that is being closed may have waited for this one only.
        self.stirred |= self.closing != Closing::Open;
        self.cancelled += 1;
        // Clearing costs one look at each parked request, so it is done when at least half of them
        // can be stale, or others may wait for this one.
        if 2 * self.cancelled > self.parked() || !self.memory.is_quiet() {
            self.cancelled = 0;
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

    fn check_open(&self, command: &str) -> Result<(), Rejected> {
        match self.closing {
            Closing::Open => Ok(()),
            Closing::Draining(_) | Closing::Closed => Err(Rejected::Failed(Failure::new(
                FailureKind::ClientClosed,
                Executed::No,
                command.to_owned(),
            ))),
        }
    }

    #[inline]
    fn check_use(&self, spec: &Spec, command: &str) -> Result<(), Rejected> {
        if self.closing == Closing::Open && !spec.is_session() && !spec.is_blocking() {
            return Ok(());
        }
        self.check_use_of(spec, command)
    }

    #[cold]
    fn check_use_of(&self, spec: &Spec, command: &str) -> Result<(), Rejected> {
        self.check_open(command)?;
        let advice = match () {
            () if spec.is_session() => SHARED_CONNECTION,
            () if spec.is_blocking() => BLOCKS,
            () => return Ok(()),
        };
        if self.store.is_some() {
            return Ok(());
        }
        let kind = FailureKind::Misuse(advice);
        Err(Rejected::Failed(Failure::new(kind, Executed::No, command.to_owned())))
    }

    fn find_room(&mut self, options: Options) -> Result<Room, Rejected> {
        // Nobody overtakes those who stand in line.
        if self.line.is_empty() && self.has_room() {
            self.full_told = false;
            return Ok(Room::Now);
        }
        if !std::mem::replace(&mut self.full_told, true) {
            self.tell_full("the queue");
        }
        let bytes_max = self.config.queue.bytes_max.saturating_mul(LINE_BYTES_FACTOR);
        let line_is_full = self.in_line.requests >= LINE_MAX || self.in_line.bytes >= bytes_max;
        if options.refuse_when_full || line_is_full {
            return Err(Rejected::Full);
        }
        Ok(Room::InLine)
    }

    fn has_room(&self) -> bool {
        self.queued.requests - self.in_line.requests < self.config.queue.requests_max
            && self.queued.bytes - self.in_line.bytes < self.config.queue.bytes_max
    }

    fn stand_in_line(&mut self, request: Vec<Parked>) -> Flush {
        self.stirred = true;
        self.ensure_dial();
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
        self.backlog.len() + self.delayed.len() + self.held.len() + self.line.len()
    }

    /// Tells that memory is full, once until there is room again.
    fn tell_memory_full(&mut self, what: &'static str) {
        let (told, size) = if what == JOURNAL {
            (&mut self.told.journal_full, self.memory.journal_size())
        } else {
            (&mut self.told.overlay_full, self.memory.overlay_size())
        };
        if told.replace(size).is_none() {
            self.tell_full(what);
        }
    }

    pub(super) fn tell_full(&mut self, what: &'static str) {
        self.stirred = true;
        self.event(super::Event::Full { what });
    }

    /// The connection that takes a new request of this rule at once, in the common case.
    fn direct(&self, standing: Standing) -> Option<ConnId> {
        let conn = self.node.conn?;
        let served = self.node.phase.is_live() || standing == Standing::Wait;
        served.then_some(conn)
    }

    fn flush(&mut self, conn: ConnId, before: u64) -> Flush {
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
    fn submit_indirectly(&mut self, op: Op, bytes: &[u8]) -> Flush {
        self.stirred = true;
        if self.store.is_some() {
            self.answer_from_store(&op, bytes);
            return Flush::Nothing;
        }
        self.ensure_dial();
        let before = self.node.conn.map(|conn| (conn, self.unwritten_before(conn)));
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
        if !self.tickets.wants(parked.op.ticket) {
            return self.give_up(&parked.op);
        }
        let standing = parked.op.standing;
        // What others wait for went to the server before, and goes there again.
        if standing == Standing::Wait || !self.node.phase.is_down() || parked.op.engaged {
            return self.place_on_server(parked);
        }
        if standing == Standing::Fail {
            let kind = FailureKind::Down(self.down_cause());
            return self.end_without_answer(&parked.op, kind);
        }
        let draining = self.node.phase.is_draining();
        if !draining && standing != Standing::Mixed && self.memory.is_quiet() {
            return self.place_in_memory(parked);
        }
        let args = parked.arguments();
        match self.memory.claim(parked.op.spec, standing, &args, draining) {
            Claim::Memory => self.place_in_memory(parked),
            Claim::Server if standing == Standing::Mixed => self.place_mixed(parked),
            Claim::Server => self.place_on_server(parked),
            // It is older than what memory owes to its keys, and would come after it.
            Claim::Held if standing == Standing::Mixed && parked.op.attempts > 0 => {
                let cause = parked.cause.unwrap_or_else(|| self.down_cause());
                self.end_without_answer(&parked.op, FailureKind::ConnectionLost(cause));
            }
            Claim::Held => self.hold(parked),
        }
    }

    /// Puts a command where only the server can serve it, while others of its keys are served from
    /// memory: they are not written there before it has ended.
    fn place_mixed(&mut self, mut parked: Parked) {
        if parked.op.effect != Effect::Read {
            parked.op.engaged = true;
            self.memory.engage(parked.op.spec, &parked.arguments());
        }
        self.place_on_server(parked);
    }

    /// Lets a command wait behind older ones, and what comes later to its keys behind it.
    fn hold(&mut self, parked: Parked) {
        self.memory.engage(parked.op.spec, &parked.arguments());
        self.held.push_back(parked);
    }

    fn place_on_server(&mut self, parked: Parked) {
        let Some(conn) = self.node.conn else {
            return self.backlog.push_back(parked);
        };
        let Parked { mut op, mut bytes, cause } = parked;
        if op.maybe && !op.may_repeat() {
            return self.end_maybe(&op, cause);
        }
        if op.spec.is_script() {
            self.bring_source(&mut op, &mut bytes);
        }
        op.attempts = op.attempts.saturating_add(1);
        let now = self.now.instant;
        let connection = self.connections.get_mut(conn.0).expect("the node's connection");
        connection.send(op, now, |out, _| out.extend_from_slice(&bytes));
    }

    fn place_in_memory(&mut self, parked: Parked) {
        let Parked { op, bytes, cause } = parked;
        let invalidates = matches!(op.standing, Standing::Memory(Policy::Invalidate));
        if op.maybe && op.effect != Effect::Read && !invalidates {
            return self.end_maybe(&op, cause);
        }
        let args = split_command(&bytes);
        match self.memory.answer(op.spec, op.standing, &args, self.now) {
            Ok(reply) => {
                let (overlay, journal) = (self.memory.overlay_size(), self.memory.journal_size());
                let still = |told: Option<(usize, usize)>, size: (usize, usize)| {
                    told.filter(|told| size.0 >= told.0 && size.1 >= told.1)
                };
                self.told.overlay_full = still(self.told.overlay_full, overlay);
                self.told.journal_full = still(self.told.journal_full, journal);
                self.end_from_memory(&op, reply);
            }
            Err(refusal) => {
                if let MemoryRefusal::Full(what) = refusal {
                    self.tell_memory_full(what);
                }
                self.end_without_answer(&op, FailureKind::Memory(refusal));
            }
        }
        if self.memory.take_met_too_old() && !std::mem::replace(&mut self.told.too_old, true) {
            self.stirred = true;
            self.event(super::Event::TooOld { node: self.node.label.clone() });
        }
    }

    fn answer_from_store(&mut self, op: &Op, bytes: &[u8]) {
        let args = split_command(bytes);
        if let Some(value) = self.answer_about_channels(op.spec, &args) {
            return self.end_from_memory(op, Reply::from(value).with_source(Source::Store));
        }
        let store = self.store.as_mut().expect("only asked where there is one");
        match store.execute(&args, self.now) {
            Answer::Reply(value) => {
                self.end_from_memory(op, Reply::from(value).with_source(Source::Store));
            }
            Answer::Full(value) => self.end_from_memory(op, Reply::from(value)),
            Answer::Unsupported => {
                let kind = FailureKind::Memory(MemoryRefusal::Unsupported);
                let failure = self.failure(op, kind, Executed::No);
                self.end(op, Err(failure));
            }
        }
    }

    fn end_from_memory(&mut self, op: &Op, reply: Reply) {
        match reply.view().error() {
            Some(error) => {
                let executed = match super::classify::classify(op.spec, &error) {
                    super::classify::Class::Told(executed) => executed,
                    _ => Executed::No,
                };
                let failure = self.failure(op, FailureKind::Server(error), executed);
                self.end(op, Err(failure.at(Some(MEMORY.into()))));
            }
            None => {
                self.count_answer(reply.source());
                self.end(op, Ok(reply));
            }
        }
    }

    /// Ends a command that may have been executed and is not to be repeated.
    pub(super) fn end_maybe(&mut self, op: &Op, cause: Option<Cause>) {
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
        self.queued.subtract(op);
    }

    /// Nobody has to wait for a command any more.
    #[cold]
    pub(super) fn release(&mut self, op: &Op) {
        if let Some(note) = &op.note {
            self.memory.disengage(op.spec, &split_arguments(op.spec, note));
        }
        self.unheld = true;
    }

    fn drop_unwanted(&mut self) {
        let tickets = &self.tickets;
        let unwanted = |parked: &Parked| !tickets.wants(parked.op.ticket);
        let (mut dropped, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.backlog).into_iter().partition(unwanted);
        self.backlog = kept.into();
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(unwanted);
        self.held = kept.into();
        for parked in &gone {
            self.memory.disengage(parked.op.spec, &parked.arguments());
            self.unheld = true;
        }
        dropped.extend(gone);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.delayed).into_iter().partition(|(_, parked)| unwanted(parked));
        dropped.extend(gone.into_iter().map(|(_, parked)| parked));
        self.delayed = kept.into_iter().collect();
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

    pub(super) fn end_connect_waits(&mut self) {
        for ticket in self.tickets.waits() {
            let result = self.connect_result();
            let waiter = self.tickets.end_wait(ticket, result);
            self.wake(waiter);
        }
    }

    /// What `connect` says now that the server was judged, or its time limit has passed.
    pub(super) fn connect_result(&self) -> Result<(), Failure> {
        if let Some(cause) = &self.node.rejected {
            let kind = match cause {
                Cause::Handshake(error) => FailureKind::Server(error.clone()),
                other => FailureKind::Down(other.clone()),
            };
            return Err(self.connect_failure(kind));
        }
        if self.node.phase.is_live() || self.memory.degrades() {
            return Ok(());
        }
        let kind = match &self.node.cause {
            Some(cause) => FailureKind::Down(cause.clone()),
            None => FailureKind::DeadlinePassed(Stage::Connection),
        };
        Err(self.connect_failure(kind))
    }

    fn connect_failure(&self, kind: FailureKind) -> Failure {
        Failure::new(kind, Executed::No, "connect").at(Some(self.node.label.clone()))
    }
}

/// A scratch buffer that grew beyond this for one large command is given up.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// What a command counts for: its length, as far as that can be written down. A longer one than that
/// no server takes; but what was added when it came must be what is subtracted when it ends.
fn cost_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Op {
    /// One that was not sent yet.
    fn new(
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
            attempts: 0,
            maybe: false,
            rehandshaken: false,
            standing,
            engaged: false,
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
        match self.maybe_retry {
            MaybeRetry::Never => false,
            MaybeRetry::Repeatable => self.effect <= Effect::Repeatable,
            MaybeRetry::Idempotent => self.effect <= Effect::IdempotentWrite,
            MaybeRetry::Always => true,
        }
    }
}

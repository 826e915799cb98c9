//! Leases from their holders' side: taken, used, given back.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::tickets::{OfLease, Work},
    Blocked, Engine, Held, Lease,
};
use crate::{
    Failure, Now, Request,
    commands::Spec,
    connection::Op,
    engine::{
        Batch, ConnId, Flush, Parked, Rejected, Slot, Ticket,
        submit::{Room, cost_of},
    },
    failure::{Bound, Cause, Executed, FailureKind},
    fallback::{Savepoint, Standing},
    request::split_arguments,
    slot::slot,
};

/// What somebody has done with the connection that he holds.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that a connection can be in")]
pub(super) struct Session {
    /// He has given it back, and is waited for no longer than what he asked is.
    pub(super) released: bool,
    /// Something was sent on it.
    pub(super) used: bool,
    /// Something was sent on it that has a key, so that its node is the one for that.
    pub(super) keyed: bool,
    /// It is between MULTI and EXEC.
    pub(super) multi: bool,
    watching: bool,
    /// What was sent since MULTI of which memory is to hear once EXEC was answered.
    queued: Noted,
    /// The same of each EXEC that was sent and not answered.
    executing: VecDeque<Noted>,
    /// It is not as a new one would be, and nobody knows how to make it so.
    soiled: bool,
    /// It was lost, and with it all that was said on it.
    pub(super) lost: Option<Cause>,
    /// What `memory://` has noted of the keys that are watched.
    pub(super) watched: Vec<Savepoint>,
}

/// Commands from which memory learns.
type Noted = Vec<(&'static Spec, Box<[u8]>)>;

const ANOTHER_READING: &str = "this command changes what comes back on its connection, so that no \
    reply could be told from another; `subscribe` gives a stream of messages, and the protocol is part \
    of the configuration";
const DROP_IT: &str = "drop the connection instead: it is closed, or made as new for the next one";

impl Session {
    /// Takes note of a command that is sent. What EXEC carries out changes what memory remembers when that
    /// is answered, so its reply must be seen.
    pub(super) fn note(&mut self, op: &mut Op) {
        if !self.multi {
            return self.note_kind(op.spec);
        }
        self.queued.extend(op.note.take().map(|note| (op.spec, note)));
        self.note_kind(op.spec);
        if !self.multi && !self.queued.is_empty() {
            self.executing.push_back(std::mem::take(&mut self.queued));
            op.note = Some(Box::default());
        }
    }

    fn note_kind(&mut self, spec: &Spec) {
        match spec.name() {
            "MULTI" => self.multi = true,
            "WATCH" => self.watching = true,
            "EXEC" | "DISCARD" if self.multi => (self.multi, self.watching) = (false, false),
            "EXEC" | "DISCARD" => {}
            "UNWATCH" => self.watching &= self.multi,
            _ if spec.is_transaction() => {
                self.soiled |= self.multi;
                self.watching = false;
            }
            _ => {
                let session = spec.is_session() && !spec.is_blocking();
                self.soiled |= session || spec.is_unknown() || spec.is_container();
            }
        }
    }

    /// Something that was noted was not sent after all.
    pub(super) fn soil(&mut self) {
        self.soiled = true;
    }

    /// Whether a connection on which this was said is as good as new.
    pub(super) fn is_clean(&self) -> bool {
        !self.multi && !self.watching && !self.soiled
    }
}

impl<W> Engine<W> {
    /// An answer that memory is to hear of came on a connection that may be somebody's own: what a
    /// transaction by hand has queued there is written now.
    pub(in super::super) fn forget_queued_on(&mut self, conn: ConnId) {
        let held = self.lease_on(conn).and_then(|lease| self.leases.get_mut(lease));
        let Some(Held::ByUser(session)) = held.map(|leased| &mut leased.held) else { return };
        for (spec, note) in session.executing.iter().flatten() {
            self.memory.forget(spec, Some(note), self.now);
        }
        session.executing.pop_front();
    }

    /// The same, of a connection that is lost: nobody knows what was written.
    pub(super) fn forget_all_queued(&mut self, lease: Lease) {
        let held = self.leases.get_mut(lease).map(|leased| &mut leased.held);
        let Some(Held::ByUser(session)) = held else { return };
        for (spec, note) in std::mem::take(&mut session.executing).iter().flatten() {
            self.memory.forget(spec, Some(note), self.now);
        }
        session.queued.clear();
    }

    /// Takes a lease: a connection of one's own, until it is given back with [`give_back`](Engine::give_back).
    /// At once; what is submitted on it waits for the connection within its own deadline.
    ///
    /// When that connection is lost, so is the lease: everything on it fails, executed *no* where nothing
    /// was sent, and goes to no other connection.
    ///
    /// In a cluster it is for the slot of the first key that is named on it, and leads to the node that
    /// serves that. It is lost as well when the slot moves.
    ///
    /// # Errors
    ///
    /// When the client is closed, or as many wait for one as requests may be queued.
    pub fn lease(&mut self, now: Now) -> Result<Lease, Failure> {
        self.lease_at(Slot::NONE, now)
    }

    /// The same, for the slot of this key; of a single server there is only one.
    ///
    /// # Errors
    ///
    /// As for [`lease`](Engine::lease).
    pub fn lease_for(&mut self, key: &[u8], now: Now) -> Result<Lease, Failure> {
        self.lease_at(if self.cluster.is_some() { slot(key) } else { Slot::NONE }, now)
    }

    fn lease_at(&mut self, slot: u16, now: Now) -> Result<Lease, Failure> {
        self.note_time(now);
        if let Err(Rejected::Failed(failure)) = self.check_open("lease") {
            return Err(failure);
        }
        if self.leases.leases.len() >= self.config.queue.requests_max {
            self.tell_full(Bound::QueueRequests);
            return Err(Failure::new(FailureKind::QueueFull, Executed::No, "lease"));
        }
        Ok(self.leases.claim(slot, Held::ByUser(Box::default())))
    }

    /// Gives a lease back. What was asked on it and is still waited for is answered; then the connection
    /// goes to the next one if it is as good as new, and is closed if not.
    pub fn give_back(&mut self, lease: Lease, now: Now) {
        self.note_time(now);
        let Some(leased) = self.leases.get_mut(lease) else { return };
        if let Held::ByUser(session) = &mut leased.held {
            session.released = true;
        }
        self.stirred = true;
        self.settle_lease(lease);
    }

    /// Why the connection of a lease was lost, if it was: the lease is of no use any more.
    pub fn lost_lease(&self, lease: Lease) -> Option<Cause> {
        let Some(leased) = self.leases.get(lease) else { return Some(Cause::Local) };
        match &leased.held {
            Held::ByUser(session) => session.lost.clone(),
            Held::ByRequest { .. } => None,
        }
    }

    /// Accepts a request that goes out on the connection of a lease, in the order in which it is submitted
    /// there.
    ///
    /// # Errors
    ///
    /// As for [`submit`](Engine::submit); and when the connection was lost.
    pub fn submit_on(
        &mut self,
        lease: Lease,
        request: &Request<'_>,
        waiter: Option<W>,
        now: Now,
    ) -> Result<(Ticket, Flush), Rejected> {
        self.note_time(now);
        self.check_lease(lease, request.command())?;
        self.check_held(request.spec(), request.command())?;
        self.submit_leased(Some(lease), request, waiter)
    }

    /// Accepts a pipeline or a transaction, likewise.
    ///
    /// # Errors
    ///
    /// As for [`submit_on`](Engine::submit_on).
    pub fn submit_batch_on(
        &mut self,
        lease: Lease,
        batch: &Batch,
        waiter: Option<W>,
        now: Now,
    ) -> Result<(Ticket, Flush), Rejected> {
        self.note_time(now);
        self.check_lease(lease, batch.what())?;
        if batch.is_transaction {
            return self.submit_transaction(batch, waiter, Some(lease));
        }
        for (at, item) in batch.items.iter().enumerate() {
            self.check_held(item.spec, batch.name_of(at))?;
        }
        self.submit_pipeline(batch, waiter, Some(lease))
    }

    fn check_lease(&self, lease: Lease, command: &str) -> Result<(), Rejected> {
        self.check_open(command)?;
        match self.lost_lease(lease) {
            None => Ok(()),
            Some(cause) => {
                let kind = FailureKind::ConnectionLost(cause);
                let failure = Failure::new(kind, Executed::No, command.to_owned());
                let leased = self.leases.get(lease);
                let node = leased.map_or(self.nodes.home(), |leased| self.node_for(lease, leased));
                Err(Rejected::Failed(failure.at(Some(self.nodes[node].label.clone()))))
            }
        }
    }

    /// What not even a connection of one's own can be used for.
    fn check_held(&self, spec: &Spec, command: &str) -> Result<(), Rejected> {
        self.check_open(command)?;
        let advice = match spec.name() {
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE"
            | "SUNSUBSCRIBE" | "MONITOR" | "SYNC" | "PSYNC" | "REPLCONF" | "CLIENT REPLY"
            | "HELLO" | "SCRIPT DEBUG" | "CLUSTER SYNCSLOTS" => ANOTHER_READING,
            "QUIT" | "RESET" => DROP_IT,
            _ => return Ok(()),
        };
        Err(Rejected::Failed(Self::misuse_of(advice, command)))
    }

    /// Accepts one request that has a connection of its own: of `lease`, or of one that is made for it.
    pub(in super::super) fn submit_leased(
        &mut self,
        lease: Option<Lease>,
        request: &Request<'_>,
        waiter: Option<W>,
    ) -> Result<(Ticket, Flush), Rejected> {
        let (spec, options) = (request.spec(), request.asked());
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let slot = self.slot_of_leased(lease, spec, &bytes, request.command())?;
        let room = self.find_room(options)?;
        let grace = options.deadline.unwrap_or(self.config.deadline);
        let names = match request.unknown_name() {
            Some(name) => vec![(0, name.into())],
            None => Vec::new(),
        };
        let deadline = match lease {
            // It waits there whatever else does.
            Some(_) if options.deadline.is_none() => {
                self.now.after(grace.saturating_add(super::blocked::wait_of(spec, &bytes)))
            }
            _ => self.now.after(grace),
        };
        let ticket = self.tickets.insert(Work::One(None), waiter, deadline, names);
        if let Some(script) = request.called() {
            self.tickets.note_scripts(ticket, vec![(0, script.clone())]);
        }
        let effect = request.declared_effect();
        let args = split_arguments(spec, &bytes);
        let (standing, noted) = self.memory.mode_for(spec, effect, &args);
        let mut op = Op::new(&self.config, ticket, 0, spec, effect, options, standing);
        if standing != Standing::Wait {
            op.rule = self.memory.rule_for(spec, &args);
        }
        op.slot = slot;
        op.cost = cost_of(&bytes);
        op.note = noted.then(|| bytes.as_slice().into());
        self.queued.add(&op);
        let limit = options.deadline.map(|_| deadline);
        if let Some(lease) = lease {
            self.bind(lease, slot);
        }
        let lease = lease.unwrap_or_else(|| {
            let blocked = Blocked::read(spec, &bytes, limit, grace).map(Box::new);
            self.leases.claim(slot, Held::ByRequest { ticket, blocked, pinned: false })
        });
        let waits = spec.is_blocking().then(|| spec.name());
        let limited = options.deadline.is_some();
        self.tickets.note_lease(ticket, OfLease { lease, waits, limited });
        let flush = match room {
            Room::Now => self.submit_indirectly(op, &bytes),
            Room::InLine => self.stand_in_line(vec![Parked { op, bytes, cause: None }]),
        };
        self.settle_lease(lease);
        Ok((ticket, flush))
    }

    /// A lease for a pipeline that holds commands which wait. One that is about its own writes goes to no
    /// other connection when the first one is lost.
    pub(in super::super) fn lease_of_pipeline(
        &mut self,
        ticket: Ticket,
        batch: &Batch,
        slot: u16,
    ) -> Lease {
        let blocked = match &batch.items[..] {
            [item] => {
                let grace = batch.options.deadline.unwrap_or(self.config.deadline);
                let limit = batch.options.deadline.map(|limit| self.now.after(limit));
                Blocked::read(item.spec, &batch.bytes, limit, grace).map(Box::new)
            }
            _ => None,
        };
        let pinned = batch.items.iter().any(|item| item.spec.is_about_own_writes());
        self.leases.claim(slot, Held::ByRequest { ticket, blocked, pinned })
    }

    /// How much longer a pipeline takes because of the commands in it that wait.
    pub(in super::super) fn waits_in(batch: &Batch) -> Duration {
        let waits = batch.items.iter().enumerate();
        let waits = waits.map(|(at, item)| super::blocked::wait_of(item.spec, batch.bytes_of(at)));
        waits.fold(Duration::ZERO, Duration::saturating_add)
    }
}

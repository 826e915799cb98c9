//! Leases: connections of their own for requests that can't share one.
//!
//! ```text
//!   a command that waits ─┐            ┌─ seat: dialled, or an idle one ─▶ used ─▶ clean: idle, for others
//!   a pipeline with one   ├─▶ lease ───┤                                    └────▶ else: closed
//!   `lease`, until given ─┘  (claim)   └─ line, where there are `leases_max` seats
//!    back
//! ```
//!
//! A *seat* is a connection, or the attempt to make one; there are `leases_max` of them at most. A *lease*
//! is somebody's right to one: it has a seat, or stands in line for one, and keeps its requests until
//! the connection is ready. It belongs to one request and ends with it, or to somebody who
//! [gives it back](Engine::give_back).
//!
//! Seats are dialled as [`side`](super::side) does it: while the connection for requests is ready, so that
//! a node that is down is dialled once; and what happens to them speaks neither for nor against the
//! server.
//!
//! In a cluster a lease is for one slot, and its seat leads to the node that serves it; each node has
//! `leases_max` seats of its own, so that who waits for one is held up by nobody who waits for another.
//!
//! This file places what leases are for, and ends them; [`line`](mod@self::line) hands seats out, and [`seats`]
//! makes their connections. [`blocked`] is a command that waits, [`own`] what leases are to those who hold
//! one, and [`embedded`] what they are where there is no server. [`slots`] refuses what no cluster could
//! carry out, and [`moves`] follows slots from node to node.

mod blocked;
mod embedded;
mod line;
mod moves;
mod own;
mod seats;
mod slots;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

pub(crate) use seats::SeatId;

use super::{
    ConnId, Engine, Event, Lease, NodeId, Output, Parked, Ticket,
    trial::{Rare, Sabotage},
};
use crate::{
    connection::{Connection, Op, Owed, Own, Owner, Role},
    failure::{Bound, Cause, FailureKind, Stage},
    fallback::Savepoint,
    request::Effect,
    slab::Slab,
    slot::SLOTS,
};
use blocked::Blocked;
use embedded::Waiting;
use moves::Away;
use own::Session;
use seats::{Hasty, Seat};

#[derive(Debug)]
pub(super) struct Leases {
    seats: Slab<Seat>,
    leases: Slab<Leased>,
    /// Those who wait for a seat, in order.
    line: VecDeque<Lease>,
    /// Operators know that all seats are taken.
    full_told: bool,
    /// Something has changed for those who have no connection yet.
    pub(super) stirred: bool,
    /// Where connections were lost that had hardly begun.
    hasty: BTreeMap<NodeId, Hasty>,
    /// What waits on `memory://`, in order.
    waiting_in_store: VecDeque<Waiting>,
    /// When it was last tried.
    looked_at: Option<Instant>,
}

/// What somebody is entitled to.
#[derive(Debug)]
struct Leased {
    /// The slot that it is for; in a cluster its seat leads to the node that serves that.
    slot: u16,
    seat: Option<SeatId>,
    /// The node that is being given its slot, and takes its commands only after ASKING.
    asks: Option<NodeId>,
    /// It was redirected and has not gone on yet.
    away: Option<Away>,
    held: Held,
    /// Its requests that are on no connection, in order.
    backlog: VecDeque<Parked>,
}

/// Whose it is.
#[derive(Debug)]
enum Held {
    /// One request's, with which it ends.
    ByRequest {
        ticket: Ticket,
        /// It is one command that waits, and may be sent in slices.
        blocked: Option<Box<Blocked>>,
        /// Its commands are about one another's connection, so they go to no other.
        pinned: bool,
    },
    /// Somebody's, until he gives it back.
    ByUser(Box<Session>),
}

impl Leases {
    pub(super) fn new() -> Self {
        Leases {
            seats: Slab::new(),
            leases: Slab::new(),
            line: VecDeque::new(),
            full_told: false,
            stirred: false,
            hasty: BTreeMap::new(),
            waiting_in_store: VecDeque::new(),
            looked_at: None,
        }
    }

    /// How many connections there are, those on their way counted in.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// How many of them nobody uses.
    pub(super) fn idle(&self) -> usize {
        self.seats.iter().filter(|(_, seat)| seat.is_free()).count()
    }

    /// How many wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// How many commands are on no connection.
    pub(super) fn parked(&self) -> usize {
        self.leases.iter().map(|(_, leased)| leased.backlog.len()).sum()
    }

    fn claim(&mut self, slot: u16, held: Held) -> Lease {
        let (seat, asks, away, backlog) = (None, None, None, VecDeque::new());
        Lease(self.leases.insert(Leased { slot, seat, asks, away, held, backlog }))
    }

    fn get(&self, lease: Lease) -> Option<&Leased> {
        self.leases.get(lease.0)
    }

    fn get_mut(&mut self, lease: Lease) -> Option<&mut Leased> {
        self.leases.get_mut(lease.0)
    }

    /// Whether what is sent on it goes to no other connection.
    pub(super) fn is_pinned(&self, lease: Lease) -> bool {
        match self.get(lease).map(|leased| &leased.held) {
            Some(Held::ByRequest { pinned, .. }) => *pinned,
            Some(Held::ByUser(_)) => true,
            None => false,
        }
    }

    /// Whether a seat leads to a node.
    pub(super) fn lead_to(&self, node: NodeId) -> bool {
        self.seats.iter().any(|(_, seat)| seat.node == node)
    }

    /// The connection that it has, if that is ready.
    fn conn_of(&self, lease: Lease) -> Option<ConnId> {
        self.seats.get(self.get(lease)?.seat?.0)?.conn
    }

    /// All leases, in the order of their places.
    fn all(&self) -> Vec<Lease> {
        self.leases.iter().map(|(id, _)| Lease(id)).collect()
    }
}

impl<W> Engine<W> {
    /// Puts a command of a lease on its connection, or lets it wait for that.
    pub(super) fn place_on_lease(&mut self, lease: Lease, parked: Parked) {
        if parked.op.maybe && !parked.op.may_repeat() {
            return self.end_maybe(&parked.op, parked.cause);
        }
        let lost = match self.leases.get(lease).map(|leased| &leased.held) {
            Some(Held::ByUser(session)) => session.lost.clone(),
            Some(Held::ByRequest { .. }) => None,
            None => Some(Cause::Local),
        };
        if let Some(cause) = lost {
            return self.end_without_answer(&parked.op, FailureKind::ConnectionLost(cause));
        }
        let leased = self.leases.get_mut(lease).expect("it was found above");
        let (ticket, again) = (parked.op.ticket, parked.op.attempts > 0);
        leased.backlog.push_back(parked);
        if again {
            self.grant_time_to_connect(lease, ticket);
        }
        self.serve(lease);
    }

    /// Puts a command that goes to one connection and no other where it can be served; it fails where
    /// memory might answer others of its keys.
    pub(super) fn place_pinned(&mut self, lease: Lease, parked: Parked) {
        if self.is_isolated() {
            return self.end_without_answer(&parked.op, FailureKind::Isolated);
        }
        let node = self.route(&parked.op);
        let told = self.leases.conn_of(lease).is_some() && self.may_be_told(&parked);
        if !parked.op.standing.waits() && self.nodes[node].phase.is_down() && !told {
            let kind = FailureKind::Down(self.down_cause(node));
            return self.end_without_answer(&parked.op, kind);
        }
        self.place_on_lease(lease, parked);
    }

    /// Sends what waits in a lease, if it has a connection or can have one now.
    fn serve(&mut self, lease: Lease) {
        if !self.is_in_place(lease) {
            return;
        }
        let Some(leased) = self.leases.get(lease) else { return };
        if leased.seat.is_none() && !self.find_seat(lease) {
            return;
        }
        let Some(conn) = self.leases.conn_of(lease) else { return self.dial_seats() };
        let Some(leased) = self.leases.get_mut(lease) else { return };
        let backlog = std::mem::take(&mut leased.backlog);
        if backlog.is_empty() {
            return;
        }
        for parked in backlog {
            self.send_on_lease(lease, conn, parked);
        }
        self.outputs.push_back(Output::Flush { conn });
        self.stirred = true;
    }

    fn send_on_lease(&mut self, lease: Lease, conn: ConnId, parked: Parked) {
        let Parked { mut op, mut bytes, .. } = parked;
        if !self.tickets.wants(op.ticket) {
            return self.give_up(&op);
        }
        let now = self.now.instant;
        let Some(leased) = self.leases.get_mut(lease) else { return self.give_up(&op) };
        match &mut leased.held {
            Held::ByRequest { blocked: Some(_), .. } => {
                return self.send_blocked(lease, conn, op);
            }
            Held::ByRequest { .. } => {}
            Held::ByUser(session) => {
                session.used = true;
                session.keyed |= op.slot < SLOTS;
                session.note(&mut op);
            }
        }
        let (mute, asks) = (leased.held.in_transaction(), leased.asks.is_some());
        if let Some(node) = self.node_of(conn).filter(|_| op.spec.is_script()) {
            self.bring_source(node, &mut op, &mut bytes);
        }
        if asks {
            self.ask(conn, Own::Asking, &[b"ASKING"]);
        }
        op.attempts = op.attempts.saturating_add(1);
        let wait = blocked::wait_of(op.spec, &bytes);
        let connection = self.connections.get_mut(conn.0).expect("a seat's connection");
        connection.wait_for(wait);
        connection.mute = mute;
        match self.blocks.of_mut(&op) {
            // Its answer is looked at once more: it may be about what was redirected.
            None if op.spec.is_about_own_writes() => connection.send_blocked(op, now, &bytes),
            None => connection.send(op, now, |out, _| out.extend_from_slice(&bytes)),
            Some(block) => {
                block.begin();
                connection.send_transaction(op, now, |out| out.extend_from_slice(&bytes));
            }
        }
    }

    // ---- leases end ----------------------------------------------------------------------------

    /// Ends a lease if nothing more is to come of it, and passes its seat on.
    pub(super) fn settle_lease(&mut self, lease: Lease) {
        let Some(leased) = self.leases.get(lease) else { return };
        let over = match &leased.held {
            Held::ByRequest { ticket, .. } => !self.tickets.is_open(*ticket),
            Held::ByUser(session) => session.released && !self.is_awaited(lease, leased),
        };
        if over {
            self.end_lease(lease);
        }
    }

    /// Nothing is owed on the connection of a lease any more.
    pub(super) fn lease_at_rest(&mut self, lease: Lease) {
        self.settle_lease(lease);
        // What is to go elsewhere has waited for that.
        self.leases.stirred |= self.may_move(lease);
    }

    /// Whether somebody waits for something that was asked on a lease: it may still stand in line for room,
    /// or be on a connection that is being closed.
    fn is_awaited(&self, lease: Lease, leased: &Leased) -> bool {
        let is_own =
            |op: &&Op| self.tickets.of_lease(op.ticket).is_some_and(|of| of.lease == lease);
        let in_line = self.line.iter().flatten().map(|parked| &parked.op).filter(is_own);
        let parked = leased.backlog.iter().map(|parked| &parked.op);
        let connections = self.connections_of(leased);
        let owed = connections.flat_map(Connection::owed).filter_map(|owed| owed.owner.op());
        in_line.chain(parked).chain(owed).any(|op| self.tickets.is_open(op.ticket))
    }

    /// Ends a lease, whatever it is about: its connection goes back if nothing is left on it, and is
    /// closed otherwise.
    fn end_lease(&mut self, lease: Lease) {
        self.forget_all_queued(lease);
        let Some(mut leased) = self.leases.leases.remove(lease.0) else { return };
        self.leases.line.retain(|other| *other != lease);
        for parked in leased.take_parked(|_| true) {
            self.give_up(&parked.op);
        }
        if let Some(seat) = leased.seat {
            let clean = leased.held.is_clean();
            if !clean {
                self.reached(Rare::SeatSoiled);
            }
            self.vacate(seat, clean || self.trial.is(Sabotage::LeaveTraces));
        }
    }

    /// A ticket of a lease was given up.
    pub(super) fn cancel_on_lease(&mut self, lease: Lease, ticket: Ticket) {
        let Some(leased) = self.leases.get_mut(lease) else { return };
        let gone = leased.take_parked(|parked| parked.op.ticket == ticket);
        match leased.held {
            Held::ByRequest { .. } => self.tell_given_up(lease, |_| true),
            // Its connection goes on with what else was asked on it.
            Held::ByUser(_) => {
                self.tell_given_up(lease, |op| op.ticket == ticket && op.spec.is_blocking());
            }
        }
        self.run_waits_in_store();
        for parked in gone {
            self.give_up(&parked.op);
        }
        self.settle_lease(lease);
    }

    /// Tells of the commands of a lease that may be executed though nobody will hear of it.
    fn tell_given_up(&mut self, lease: Lease, which: impl Fn(&Op) -> bool) {
        let Some(leased) = self.leases.get(lease) else { return };
        // A connection that somebody holds goes on, and what is not written yet will be.
        let goes_on = matches!(leased.held, Held::ByUser(_));
        let mut given_up = Vec::new();
        for connection in self.connections_of(leased) {
            let may_run = |owed: &&Owed| match goes_on {
                true => !connection.is_unsent(owed.end),
                false => connection.may_have_left(owed.end),
            };
            let ops = connection.owed().filter(may_run).filter_map(|owed| owed.owner.op());
            let writes = ops.filter(|op| op.effect != Effect::Read && which(op));
            given_up.extend(writes.map(|op| (connection.node, op.spec.name())));
        }
        for (node, command) in given_up {
            self.tell_of_giving_up(node, command);
        }
    }

    /// The connection of a lease, also while it is being closed.
    fn connections_of(&self, leased: &Leased) -> impl Iterator<Item = &Connection> {
        let seat = leased.seat;
        let connections = self.connections.iter().map(|(_, connection)| connection);
        connections.filter(move |found| matches!(found.role, Role::Leased(of) if Some(of) == seat))
    }

    #[cold]
    pub(super) fn tell_of_giving_up(&mut self, node: NodeId, command: &'static str) {
        if self.trial.is(Sabotage::GiveUpSilently) {
            return;
        }
        self.reached(Rare::ToldOfGivingUp);
        self.stirred = true;
        let node = self.nodes[node].label.clone();
        self.event(Event::GivenUp { node, command });
    }

    /// What was waiting in leases without a connection, to be placed anew because the server's standing
    /// has changed.
    pub(super) fn place_leased_anew(&mut self) {
        for lease in self.leases.all() {
            let Some(leased) = self.leases.get_mut(lease) else { continue };
            for parked in leased.take_parked(|_| true) {
                self.place(parked);
            }
            self.settle_lease(lease);
        }
    }

    /// Takes from leases what has expired before it had a connection, each with what it waited for.
    pub(super) fn take_expired_of_leases(&mut self) -> Vec<(Parked, Stage)> {
        let mut ended = self.take_expired_of_store();
        for lease in self.leases.all() {
            let Some(leased) = self.leases.get(lease) else { continue };
            let tickets = &self.tickets;
            let expired = |parked: &Parked| tickets.is_expired(parked.op.ticket);
            if !leased.backlog.iter().any(expired) {
                continue;
            }
            let stage = match leased.seat {
                _ if leased.away.is_some() => Stage::Retry,
                Some(_) if leased.held.is_late() => Stage::Reply,
                Some(_) => Stage::Connection,
                None if self.is_nobody(self.node_for(lease, leased)) => Stage::Connection,
                None => Stage::Lease(Bound::Leases),
            };
            let Some(leased) = self.leases.leases.get_mut(lease.0) else { continue };
            ended.extend(leased.take_parked(expired).into_iter().map(|parked| (parked, stage)));
        }
        ended
    }

    /// Takes everything that waits in leases.
    pub(super) fn take_leased(&mut self) -> Vec<Parked> {
        let mut taken: Vec<_> = self.take_waits_of_store().collect();
        for (_, leased) in self.leases.leases.iter_mut() {
            taken.extend(leased.take_parked(|_| true));
        }
        taken
    }

    /// Every connection is gone: what leases were about is over, and those who hold one are told when they
    /// next use it.
    pub(super) fn forget_leases(&mut self, cause: &Cause) {
        self.leases.seats = Slab::new();
        self.leases.line.clear();
        self.leases.hasty.clear();
        for lease in self.leases.all() {
            let Some(leased) = self.leases.get_mut(lease) else { continue };
            let connected = leased.seat.take().is_some();
            (leased.asks, leased.away) = (None, None);
            match &mut leased.held {
                Held::ByUser(session) if !session.released => {
                    if connected && session.used {
                        session.lost.get_or_insert(cause.clone());
                    }
                }
                _ => _ = self.leases.leases.remove(lease.0),
            }
        }
    }

    /// A connection was lost on which a lease may have had something.
    fn lost_on_lease(
        &mut self,
        lease: Lease,
        node: NodeId,
        owed: impl Iterator<Item = (Owner, Vec<u8>, bool)>,
        cause: &Cause,
    ) {
        let pinned = self.leases.is_pinned(lease);
        self.forget_all_queued(lease);
        if let Some(leased) = self.leases.get_mut(lease) {
            (leased.seat, leased.asks) = (None, None);
            if let Held::ByUser(session) = &mut leased.held
                && !self.trial.is(Sabotage::GoOnElsewhere)
            {
                self.trial.reached(Rare::HeldLost);
                session.lost.get_or_insert(cause.clone());
            }
        }
        let mut back = Vec::new();
        for (owner, bytes, whole) in owed {
            let Some(mut op) = owner.into_op() else { continue };
            if pinned {
                op.maybe |= whole;
                self.end_pinned(&op, cause);
            } else {
                back.extend(self.lost(node, op, bytes, whole, false, cause));
            }
        }
        let parked = match self.leases.get_mut(lease) {
            Some(leased) if pinned => leased.take_parked(|_| true),
            _ => Vec::new(),
        };
        for parked in &parked {
            self.end_pinned(&parked.op, cause);
        }
        for parked in back {
            self.place(parked);
        }
        self.settle_lease(lease);
    }

    /// Whether a command goes to one connection and no other.
    pub(super) fn is_pinned(&self, op: &Op) -> bool {
        self.tickets.of_lease(op.ticket).is_some_and(|of| self.leases.is_pinned(of.lease))
    }

    /// A command was taken back that its lease counts as sent: nobody knows any more in what state the
    /// connection is.
    pub(super) fn soil(&mut self, op: &Op) {
        let Some(of) = self.tickets.of_lease(op.ticket) else { return };
        let held = self.leases.get_mut(of.lease).map(|leased| &mut leased.held);
        if let Some(Held::ByUser(session)) = held {
            session.soil();
        }
    }

    /// A leased connection that takes nothing more; gives whether it is one.
    pub(super) fn retire_leased(&mut self, conn: ConnId) -> bool {
        let connection = self.connections.get_mut(conn.0);
        let leased = connection.filter(|found| matches!(found.role, Role::Leased(_)));
        leased.map(|connection| connection.retiring = true).is_some()
    }

    /// When time alone changes something for leases.
    pub(super) fn leases_due(&self) -> Option<Instant> {
        if self.leases.stirred {
            return Some(self.now.instant);
        }
        let due = self.seats_due().into_iter().chain(self.store_due());
        due.chain(self.away_due()).min()
    }

    /// Ends a command that goes to no other connection than the one that was lost.
    pub(super) fn end_pinned(&mut self, op: &Op, cause: &Cause) {
        if !self.tickets.wants(op.ticket) {
            return self.give_up(op);
        }
        self.reached(Rare::PinnedEnds);
        self.end_without_answer(op, FailureKind::ConnectionLost(cause.clone()));
    }
}

impl Leased {
    /// Takes those out that are on no connection and for which `gone` holds.
    fn take_parked(&mut self, gone: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let (mut gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.backlog).into_iter().partition(gone);
        self.backlog = kept.into();
        for parked in &mut gone {
            parked.op.maybe |= self.away.as_ref().is_some_and(|away| away.is_doubted(parked));
        }
        gone
    }
}

impl Held {
    /// Whether the next one may use the connection as if it were new.
    fn is_clean(&self) -> bool {
        match self {
            Held::ByRequest { .. } => true,
            Held::ByUser(session) => session.is_clean(),
        }
    }

    /// Whether it may go on at another node once nothing is owed at this one.
    fn may_change_seats(&self) -> bool {
        match self {
            Held::ByRequest { .. } => true,
            Held::ByUser(session) => !session.keyed && session.is_clean(),
        }
    }

    /// Whether its command has waited for as long as its caller's limit lets it.
    fn is_late(&self) -> bool {
        matches!(self, Held::ByRequest { blocked: Some(blocked), .. } if blocked.is_late)
    }

    /// Whether what is sent now is only queued at the server.
    fn in_transaction(&self) -> bool {
        match self {
            Held::ByRequest { .. } => false,
            Held::ByUser(session) => session.multi,
        }
    }

    /// What `memory://` has noted of the keys that are watched.
    fn watched(&mut self) -> Option<&mut Vec<Savepoint>> {
        match self {
            Held::ByRequest { .. } => None,
            Held::ByUser(session) => Some(&mut session.watched),
        }
    }
}

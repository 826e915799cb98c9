//! The connections of leases: made, lost, and closed when nobody has used them for long.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use super::super::{
    Closing, ConnId, Engine, Lease, Lookup, NodeId, Target,
    dial::{Dial, LATE_LOOKUP, STABLE_AFTER},
    trial::Rare,
};
use crate::{
    connection::{Connection, Role},
    failure::Cause,
    slab::Id,
};

/// One seat. A stale id is inert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatId(pub(super) Id);

/// A connection of a lease, or the attempt to make one.
#[derive(Debug)]
pub(super) struct Seat {
    /// Where its connection leads.
    pub(super) node: NodeId,
    pub(super) dial: Dial,
    failed_dials: u32,
    /// The connection, once it is ready and until it is lost.
    pub(super) conn: Option<ConnId>,
    ready_at: Option<Instant>,
    /// Who has it.
    pub(super) lease: Option<Lease>,
    /// Since when nobody has it, if nobody does.
    pub(super) idle_since: Instant,
    /// It is being closed, and gone once that is done.
    closing: bool,
}

/// Connections to one node that ended as soon as they were ready.
#[derive(Debug, Default)]
pub(super) struct Hasty {
    /// How many did in a row.
    ends: u32,
    /// No other is dialled before this, because of that.
    until: Option<Instant>,
}

impl Seat {
    pub(super) fn new(node: NodeId, now: Instant) -> Self {
        Seat {
            node,
            dial: Dial::Idle,
            failed_dials: 0,
            conn: None,
            ready_at: None,
            lease: None,
            idle_since: now,
            closing: false,
        }
    }

    /// Whether its connection is still to be made. On one that is being closed something may have been said,
    /// which is lost with it.
    pub(super) fn is_unused(&self) -> bool {
        self.conn.is_none() && !self.closing
    }

    /// Whether somebody may take it.
    pub(super) fn is_free(&self) -> bool {
        self.lease.is_none() && !self.closing
    }
}

impl<W> Engine<W> {
    /// Begins to dial for the seats that somebody waits for.
    pub(super) fn dial_seats(&mut self) {
        let may = self.closing == Closing::Open && !self.is_isolated();
        if !may {
            return;
        }
        let waiting = |seat: &Seat| {
            seat.lease.is_some()
                && seat.conn.is_none()
                && !seat.closing
                && matches!(seat.dial, Dial::Idle)
                && self.nodes[seat.node].conn.is_some()
                && self.leases.hasty.get(&seat.node).is_none_or(|hasty| hasty.until.is_none())
        };
        let seats = self.leases.seats.iter().filter(|(_, seat)| waiting(seat));
        let seats = seats.map(|(id, seat)| (SeatId(id), seat.node));
        for (seat, node) in seats.collect::<Vec<_>>() {
            let dial = self.begin_dial(node, Role::Leased(seat));
            self.set_seat_dial(seat, dial);
        }
        self.stirred = true;
    }

    fn set_seat_dial(&mut self, seat: SeatId, dial: Dial) {
        if let Some(seat) = self.leases.seats.get_mut(seat.0) {
            seat.dial = dial;
        }
    }

    /// The seat that waits for this look-up, and until when.
    pub(in super::super) fn seat_awaiting(&self, lookup: Lookup) -> Option<(SeatId, Instant)> {
        let mut found = self.leases.seats.iter();
        found.find_map(|(id, seat)| Some((SeatId(id), seat.dial.awaits(lookup)?)))
    }

    pub(in super::super) fn on_seat_resolved(
        &mut self,
        seat: SeatId,
        addresses: Result<VecDeque<SocketAddr>, Cause>,
        until: Instant,
    ) {
        let Some(node) = self.leases.seats.get(seat.0).map(|seat| seat.node) else { return };
        match addresses {
            Ok(mut addresses) => match addresses.pop_front() {
                Some(first) => {
                    let role = Role::Leased(seat);
                    let dial = self.open(node, role, Target::Tcp(first), addresses, until);
                    self.set_seat_dial(seat, dial);
                }
                None => self.seat_failed(seat, Cause::NameNotFound("it has no address".into())),
            },
            Err(cause) => self.seat_failed(seat, cause),
        }
    }

    /// It has its handshake behind it.
    pub(in super::super) fn on_seat_ready(&mut self, conn: ConnId, seat: SeatId) {
        let now = self.now.instant;
        let Some(found) = self.leases.seats.get_mut(seat.0) else {
            return self.kill(conn, Cause::Local);
        };
        found.dial = Dial::Idle;
        found.conn = Some(conn);
        found.ready_at = Some(now);
        found.idle_since = now;
        match found.lease {
            Some(lease) => self.serve(lease),
            None => self.pass_seats_on(),
        }
        self.stirred = true;
    }

    /// Whether a connection is one that a seat is being made with.
    pub(in super::super) fn is_seats_dial(&self, seat: SeatId, conn: ConnId) -> bool {
        self.leases.seats.get(seat.0).is_some_and(|seat| seat.dial.is(conn))
    }

    /// Its connection is being closed.
    pub(in super::super) fn seat_closing(&mut self, seat: SeatId, conn: ConnId) {
        let Some(found) = self.leases.seats.get_mut(seat.0) else { return };
        found.dial.closing(conn);
        if found.conn == Some(conn) {
            found.conn = None;
            found.closing = true;
        }
    }

    /// It was not ready yet, and is gone.
    pub(in super::super) fn seat_dial_lost(&mut self, seat: SeatId, cause: Cause) {
        let Some(found) = self.leases.seats.get_mut(seat.0) else { return };
        let node = found.node;
        let Dial::Opening { mut rest, end, .. } = std::mem::take(&mut found.dial) else { return };
        if self.nodes[node].gone {
            self.pass_seats_on();
            return self.sweep_nodes();
        }
        // An operator's doing is no fault of the server's.
        if self.is_isolated() || matches!(cause, Cause::Forced(_)) {
            return self.dial_seats();
        }
        match rest.pop_front() {
            Some(next) if self.now.instant < end => {
                let dial = self.open(node, Role::Leased(seat), Target::Tcp(next), rest, end);
                self.set_seat_dial(seat, dial);
            }
            _ => self.seat_failed(seat, cause),
        }
    }

    fn seat_failed(&mut self, seat: SeatId, cause: Cause) {
        let Some(found) = self.leases.seats.get_mut(seat.0) else { return };
        found.failed_dials = found.failed_dials.saturating_add(1);
        let (node, failed) = (found.node, found.failed_dials);
        self.reached(Rare::SeatFailed);
        let until = self.now.instant + self.dial_delay(failed);
        self.set_seat_dial(seat, Dial::Waiting(until));
        self.tell_error(node, cause);
        self.stirred = true;
    }

    /// Its connection was ready and is gone. The seat goes with it: who still needs one gets another.
    pub(in super::super) fn on_seat_lost(
        &mut self,
        seat: SeatId,
        connection: Connection,
        cause: &Cause,
    ) {
        let Some(gone) = self.leases.seats.remove(seat.0) else { return };
        let now = self.now.instant;
        // One that ended as soon as it was ready would be dialled in a circle.
        let lived = gone.ready_at.map(|at| now.saturating_duration_since(at));
        if lived.is_some_and(|lived| lived >= STABLE_AFTER) {
            self.leases.hasty.remove(&gone.node);
        } else if *cause != Cause::Local {
            let ends = self.leases.hasty.get(&gone.node).map_or(0, |hasty| hasty.ends);
            let ends = ends.saturating_add(1);
            let until = Some(now + self.dial_delay(ends));
            self.leases.hasty.insert(gone.node, Hasty { ends, until });
        }
        if self.closing == Closing::Open && !matches!(cause, Cause::Forced(_) | Cause::Local) {
            self.tell_error(gone.node, cause.clone());
        }
        if let Some(lease) = gone.lease {
            self.lost_on_lease(lease, gone.node, connection.into_owed(), cause);
        } else {
            for (owner, _, whole) in connection.into_owed() {
                let Some(mut op) = owner.into_op() else { continue };
                op.maybe |= whole;
                self.end_pinned(&op, cause);
            }
        }
        self.pass_seats_on();
        self.stirred = true;
        if self.nodes[gone.node].gone {
            self.sweep_nodes();
        }
    }

    // ---- time passes ---------------------------------------------------------------------------

    /// When time alone changes something for a seat.
    pub(in super::super) fn seats_due(&self) -> Option<Instant> {
        let idle_after = self.config.leases.idle_after;
        let due = self.leases.seats.iter().filter_map(|(_, seat)| {
            let idle =
                (seat.is_free() && seat.conn.is_some()).then(|| seat.idle_since + idle_after);
            idle.into_iter().chain(seat.dial.due()).min()
        });
        due.chain(self.leases.hasty.values().filter_map(|hasty| hasty.until)).min()
    }

    pub(in super::super) fn run_leases(&mut self, now: Instant) {
        self.leases.stirred = false;
        for hasty in self.leases.hasty.values_mut() {
            hasty.until.take_if(|until| *until <= now);
        }
        self.run_waits_in_store();
        for lease in self.leases.all() {
            self.settle_lease(lease);
            if self.may_move(lease) {
                self.serve(lease);
            }
        }
        let seats: Vec<_> = self.leases.seats.iter().map(|(id, _)| SeatId(id)).collect();
        for id in seats {
            let Some(seat) = self.leases.seats.get_mut(id.0) else { continue };
            let unused = seat.is_free();
            match (&seat.dial, seat.conn) {
                (_, Some(conn))
                    if unused && seat.idle_since + self.config.leases.idle_after <= now =>
                {
                    self.reached(Rare::SeatIdle);
                    self.kill(conn, Cause::Local);
                }
                (Dial::Waiting(until), _) if *until <= now => seat.dial = Dial::Idle,
                (Dial::Resolving { until, .. }, _) if *until <= now => {
                    seat.dial = Dial::Idle;
                    let cause = Cause::NameNotFound(LATE_LOOKUP.into());
                    self.seat_failed(id, cause);
                }
                (Dial::Opening { conn, until: Some(until), .. }, _) if *until <= now => {
                    let conn = *conn;
                    self.kill(conn, Cause::ConnectTimeout);
                }
                _ => {}
            }
        }
        self.pass_seats_on();
        self.dial_seats();
    }

    /// Forgets the seats that nobody has and that have nothing.
    pub(super) fn drop_empty_seats(&mut self) {
        let empty = |seat: &Seat| {
            let opening = matches!(seat.dial, Dial::Opening { .. });
            seat.is_free() && seat.conn.is_none() && !opening
        };
        let seats = self.leases.seats.iter().filter(|(_, seat)| empty(seat));
        for id in seats.map(|(id, _)| id).collect::<Vec<_>>() {
            self.leases.seats.remove(id);
        }
    }

    /// The connection for requests was found silent. Those that wait at the same server for ever would
    /// never find out.
    pub(in super::super) fn silence_seats(&mut self, node: NodeId) {
        let patient =
            |conn: &ConnId| self.connections.get(conn.0).is_some_and(Connection::waits_for_ever);
        let seats = self.leases.seats.iter().filter(|(_, seat)| seat.node == node);
        let conns = seats.filter_map(|(_, seat)| seat.conn);
        for conn in conns.filter(patient).collect::<Vec<_>>() {
            self.kill(conn, Cause::Silent);
        }
    }

    /// The client is isolated: attempts that nobody has begun yet are given up.
    pub(in super::super) fn give_up_seats(&mut self, unopened: &[ConnId]) {
        for (_, seat) in self.leases.seats.iter_mut() {
            match &seat.dial {
                Dial::Opening { conn, .. } if !unopened.contains(conn) => {}
                _ => seat.dial = Dial::Idle,
            }
        }
        self.drop_empty_seats();
    }
}

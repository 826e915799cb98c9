//! Leases follow their slots from node to node.
//!
//! ```text
//!   a request's:   MOVED, ASK ──▶ away: what was redirected waits, in order
//!                                  └── nothing is owed any more, and where it leads is known ──▶ another seat
//!   somebody's:    MOVED, ASK ──▶ lost, since what was said on its connection is known at that node only
//! ```
//!
//! Nobody's order depends on what others do on their connections, so a lease waits for its own alone, and
//! the detours of the shared connections (see [`redirect`](super::super::redirect)) have nothing to do with
//! it.

use std::time::{Duration, Instant};

use super::{Engine, Held, Lease, Leased, NodeId, Parked, SeatId};
use crate::{
    commands::Spec,
    connection::Op,
    engine::{
        ConnId,
        redirect::{To, redirect_delay},
    },
    failure::{Cause, Executed, FailureKind},
    reply::ServerError,
    slot::SLOTS,
    topology::Redirect,
};

/// Where a redirect sends a lease.
#[derive(Debug)]
pub(super) struct Away {
    to: To,
    /// Not before.
    due: Instant,
}

impl Away {
    /// Whether nobody knows yet if it was the server that redirected a command, or a script that ran.
    pub(super) fn is_doubted(&self, parked: &Parked) -> bool {
        let said =
            |cause: &Cause| matches!(cause, Cause::NotReady(error) if Redirect::is_one(error));
        matches!(self.to, To::ThereAfter(..))
            && parked.op.spec.is_script()
            && parked.cause.as_ref().is_some_and(said)
    }
}

impl<W> Engine<W> {
    /// The node that a lease is to lead to: the one that serves its slot, or is being given it. Any one will
    /// do for a lease that has no slot.
    pub(super) fn node_for(&self, lease: Lease, leased: &Leased) -> NodeId {
        let Some(cluster) = &self.cluster else { return self.nodes.home() };
        let known = |node: &NodeId| self.nodes.contains(*node) && !self.nodes[*node].gone;
        if let Some(node) = leased.asks.filter(known) {
            return node;
        }
        if leased.slot < SLOTS {
            return cluster.owner(leased.slot);
        }
        self.any_primary(cluster, lease.0.index())
    }

    /// Whether there is nobody at a node to connect to: it stands for those that nobody serves.
    pub(super) fn is_nobody(&self, node: NodeId) -> bool {
        self.cluster.is_some() && node == self.nodes.home()
    }

    /// Whether what waits in a lease may have to go to another node than the one that it has waited for: it
    /// is neither in line, nor waits for an answer, nor for its caller's limit.
    pub(super) fn may_move(&self, lease: Lease) -> bool {
        let Some(leased) = self.leases.get(lease).filter(|_| self.cluster.is_some()) else {
            return false;
        };
        let conn = self.leases.conn_of(lease).and_then(|conn| self.connections.get(conn.0));
        !leased.backlog.is_empty()
            && (leased.seat.is_some() || leased.away.is_some())
            && !leased.held.is_late()
            && conn.is_none_or(|conn| conn.owes_nothing() && conn.refused.is_empty())
    }

    /// Whether what waits in a lease may go out on the seat that it has or gets next. Leaves a seat that
    /// leads elsewhere, as soon as nothing is owed there.
    pub(super) fn is_in_place(&mut self, lease: Lease) -> bool {
        if self.cluster.is_none() {
            return true;
        }
        let Some(leased) = self.leases.get(lease) else { return false };
        let seat = leased.seat.and_then(|seat| self.leases.seats.get(seat.0));
        if let Some(seat) = seat {
            let unused = seat.is_unused();
            // Where any node will do, the one that it has is as good as another.
            let better = leased.slot < SLOTS || (unused && self.nodes[seat.node].conn.is_none());
            let elsewhere = better && seat.node != self.node_for(lease, leased);
            let leaves = elsewhere && (unused || leased.held.may_change_seats());
            if leased.away.is_some() || leaves {
                let connection = seat.conn.and_then(|conn| self.connections.get(conn.0));
                let owes = connection
                    .is_some_and(|found| !found.owes_nothing() || !found.refused.is_empty());
                if owes {
                    return false;
                }
                self.leave_seat(lease);
            }
        }
        self.come_home(lease)
    }

    /// Whether a lease that was away knows where to go.
    fn come_home(&mut self, lease: Lease) -> bool {
        let Some(leased) = self.leases.get(lease) else { return false };
        let Some(away) = &leased.away else { return true };
        if away.due > self.now.instant || !self.is_known(&away.to) {
            return false;
        }
        let Some(leased) = self.leases.get_mut(lease) else { return false };
        let Some(away) = leased.away.take() else { return true };
        match away.to {
            To::Owner | To::OwnerAfter(_) => {}
            To::Ask(node) => leased.asks = Some(node),
            To::ThereAfter(_, to, error) => {
                let slot = leased.slot;
                if !self.is_served_at(slot, to.as_ref()) {
                    self.end_forged(lease, &error);
                }
            }
        }
        true
    }

    /// What a script said of a redirect was its own words, since the slot is not where it said.
    fn end_forged(&mut self, lease: Lease, error: &ServerError) {
        let Some(leased) = self.leases.get_mut(lease) else { return };
        let said = Some(Cause::NotReady(error.clone()));
        let forged = |parked: &Parked| parked.op.spec.is_script() && parked.cause == said;
        let (forged, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut leased.backlog).into_iter().partition(forged);
        leased.backlog = others.into();
        for parked in forged {
            self.taint(&parked.op);
            self.end_with_error(&parked.op, error.clone(), Executed::Maybe);
        }
    }

    fn leave_seat(&mut self, lease: Lease) {
        let Some(leased) = self.leases.get_mut(lease) else { return };
        let clean = leased.held.is_clean();
        if let Some(seat) = leased.seat.take() {
            self.vacate(seat, clean);
        }
    }

    // ---- redirects -----------------------------------------------------------------------------

    /// Whether a command that was redirected may be sent to another node, as far as its lease has a say in
    /// that: one that is about what was written before on its connection is only of use with all of that.
    pub(in super::super) fn lease_lets_go(&self, op: &Op) -> bool {
        let Some(of) = self.tickets.of_lease(op.ticket) else { return true };
        !self.leases.is_pinned(of.lease) || !self.tickets.has_begun(op.ticket)
    }

    /// A command of a lease was redirected; gives it back where it is nobody's.
    pub(in super::super) fn go_away(
        &mut self,
        lease: Lease,
        conn: ConnId,
        parked: Parked,
        error: &ServerError,
    ) {
        let Some(redirect) = self.read_redirect(conn, error) else {
            return self.end_with_error(&parked.op, error.clone(), Executed::No);
        };
        let Some(node) = self.node_of(conn) else { return self.give_up(&parked.op) };
        let to = self.follow(conn, node, &parked.op, redirect.slot, redirect, error);
        let due = self.now.instant + redirect_delay(parked.op.redirects);
        let ticket = parked.op.ticket;
        let Some(leased) = self.leases.get_mut(lease) else { return self.give_up(&parked.op) };
        leased.asks = None;
        leased.backlog.push_back(parked);
        let doubted = leased.away.take().map(|away| away.to);
        let to = match doubted {
            // What a script has said is believed no sooner for what others were told.
            Some(doubted @ To::ThereAfter(..)) => doubted,
            _ => to,
        };
        leased.away = Some(Away { to, due });
        self.grant_time_to_connect(lease, ticket);
        self.leases.stirred = true;
        self.stirred = true;
    }

    /// The slot that somebody's connection is for has moved. Whatever he has said on it stays behind, so
    /// that it is of no use any more, and closed once all is answered.
    pub(in super::super) fn lose_slot(
        &mut self,
        lease: Lease,
        conn: ConnId,
        op: &Op,
        error: &ServerError,
        executed: Executed,
    ) {
        if let (Some(node), Some(redirect)) = (self.node_of(conn), self.read_redirect(conn, error))
        {
            self.follow(conn, node, op, redirect.slot, redirect, error);
        }
        if let Some(Held::ByUser(session)) =
            self.leases.get_mut(lease).map(|leased| &mut leased.held)
        {
            session.lost.get_or_insert(Cause::SlotMoved);
        }
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.retiring = true;
        }
        let kind = FailureKind::ConnectionLost(Cause::SlotMoved);
        let executed = if op.maybe { Executed::Maybe } else { executed };
        let failure = self.failure(op, kind, executed);
        self.fail(op, failure);
    }

    /// The lease of a command, where somebody holds it.
    pub(in super::super) fn held_lease(&self, op: &Op) -> Option<Lease> {
        let of = self.tickets.of_lease(op.ticket)?;
        let leased = self.leases.get(of.lease)?;
        matches!(leased.held, Held::ByUser(_)).then_some(of.lease)
    }

    /// The redirect because of which an answer is about nothing: that of a command which waits for what was
    /// written before it, and is written elsewhere now.
    pub(super) fn left_behind(
        &self,
        lease: Lease,
        conn: ConnId,
        spec: &Spec,
    ) -> Option<ServerError> {
        let leased = self.leases.get(lease).filter(|_| spec.is_about_own_writes())?;
        let refused = self.connections.get(conn.0).into_iter().flat_map(|found| &found.refused);
        let said = refused.map(|(_, _, _, error, _)| error).find(|error| self.is_redirect(error));
        let parked = leased.away.as_ref().and_then(|_| leased.backlog.back());
        let moved = match parked.map(|parked| &parked.cause) {
            Some(Some(Cause::NotReady(error))) => Some(error),
            _ => None,
        };
        said.or(moved).cloned()
    }

    /// Sends a command after those before it that were redirected.
    pub(super) fn send_after(
        &mut self,
        conn: ConnId,
        mut op: Op,
        error: ServerError,
        start: u64,
        end: u64,
    ) {
        op.attempts = op.attempts.saturating_sub(1);
        let Some(connection) = self.connections.get_mut(conn.0) else { return self.give_up(&op) };
        let bytes = connection.log.copy(start, end).filter(|_| connection.refused.is_empty());
        match bytes.map(<[u8]>::to_vec) {
            Some(bytes) => self.detour(conn, op, bytes, error),
            None => connection.refused.push((op, start, end, error, Duration::ZERO)),
        }
    }

    /// When the next of those that are away may go on, for all that time has to say.
    pub(super) fn away_due(&self) -> Option<Instant> {
        let due = |leased: &Leased| Some(leased.away.as_ref()?.due);
        let dues = self.leases.leases.iter().filter_map(|(_, leased)| due(leased));
        dues.filter(|due| *due > self.now.instant).min()
    }

    // ---- the map -------------------------------------------------------------------------------

    /// The map was learned anew.
    pub(in super::super) fn leases_follow_map(&mut self) {
        let nodes = &self.nodes;
        self.leases.hasty.retain(|node, _| nodes.contains(*node) && !nodes[*node].gone);
        self.end_uncovered();
        self.close_seats_elsewhere();
        self.leases.stirred = true;
        self.stirred = true;
    }

    /// Ends what waits for a slot that nobody serves, as the map says.
    fn end_uncovered(&mut self) {
        for lease in self.leases.all() {
            let Some(leased) = self.leases.get(lease) else { continue };
            let slot = leased.slot;
            let nobodys = slot < SLOTS && self.is_nobody(self.node_for(lease, leased));
            if !nobodys || leased.seat.is_some() {
                continue;
            }
            let Some(leased) = self.leases.get_mut(lease) else { continue };
            leased.away = None;
            for parked in std::mem::take(&mut leased.backlog) {
                self.end_without_answer(&parked.op, FailureKind::Uncovered(slot));
            }
            self.settle_lease(lease);
        }
    }

    /// Closes what leads to nodes that serve nothing any more, where nobody uses it.
    fn close_seats_elsewhere(&mut self) {
        let seats: Vec<_> = self.leases.seats.iter().map(|(id, _)| SeatId(id)).collect();
        for id in seats {
            let Some(seat) = self.leases.seats.get(id.0) else { continue };
            if self.is_primary(seat.node) {
                continue;
            }
            let (gone, lease, conn) = (self.nodes[seat.node].gone, seat.lease, seat.conn);
            let unused = seat.is_unused();
            match (conn, lease) {
                (Some(conn), None) => self.kill(conn, Cause::Local),
                (None, Some(lease)) if gone && unused => {
                    if let Some(leased) = self.leases.get_mut(lease) {
                        leased.seat = None;
                    }
                    self.vacate(id, true);
                    self.serve(lease);
                }
                _ => {}
            }
            if gone
                && let Some(dialled) =
                    self.leases.seats.get(id.0).and_then(|seat| seat.dial.opening())
            {
                self.kill(dialled, Cause::Local);
            }
        }
        self.pass_seats_on();
    }

    /// Whether a node serves slots; that of a single server always does.
    pub(super) fn is_primary(&self, node: NodeId) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        !self.nodes[node].gone && cluster.primaries().contains(&node)
    }
}

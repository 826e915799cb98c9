//! Seats are handed out: to each node so many, and in order to those who wait for one.

use std::collections::BTreeSet;

use super::{Engine, Lease, NodeId, SeatId, seats::Seat};
use crate::{
    connection::Op,
    engine::{Event, trial::Rare},
    failure::{Bound, Cause},
};

impl<W> Engine<W> {
    /// Gives a lease a seat; where there is none it stands in line. An idle one with a connection is the
    /// best, the one that was used last.
    pub(super) fn find_seat(&mut self, lease: Lease) -> bool {
        if self.leases.line.contains(&lease) {
            return false;
        }
        let Some(leased) = self.leases.get(lease) else { return false };
        let node = self.node_for(lease, leased);
        if self.is_nobody(node) {
            // It waits for the map.
            self.leases.line.push_back(lease);
            return false;
        }
        let free = if self.is_waited_for(node) { None } else { self.free_seat(node) };
        let seat = match free {
            Some(seat) => {
                self.leases.full_told = false;
                seat
            }
            None => {
                self.reached(Rare::LineForSeats);
                self.leases.line.push_back(lease);
                if !std::mem::replace(&mut self.leases.full_told, true) {
                    self.stirred = true;
                    self.event(Event::Full { bound: Bound::Leases });
                }
                return false;
            }
        };
        self.take_seat(lease, seat);
        true
    }

    /// Whether somebody stands in line for a seat that leads to a node.
    fn is_waited_for(&self, node: NodeId) -> bool {
        self.leases.line.iter().any(|lease| {
            self.leases.get(*lease).is_some_and(|leased| self.node_for(*lease, leased) == node)
        })
    }

    /// A seat that leads to a node and that nobody has: the one that was used last, or a new one, as long
    /// as there are not as many as there may be.
    fn free_seat(&mut self, node: NodeId) -> Option<SeatId> {
        let free = |seat: &Seat| seat.is_free() && seat.node == node;
        let idle = self.leases.seats.iter().filter(|(_, seat)| free(seat));
        let best = idle.max_by_key(|(_, seat)| (seat.conn.is_some(), seat.idle_since));
        if let Some((id, _)) = best {
            let id = SeatId(id);
            self.reached(Rare::SeatAgain);
            return Some(id);
        }
        let there = self.leases.seats.iter().filter(|(_, seat)| seat.node == node).count();
        (there < self.config.leases.leases_max).then(|| {
            let seat = Seat::new(node, self.now.instant);
            SeatId(self.leases.seats.insert(seat))
        })
    }

    fn take_seat(&mut self, lease: Lease, seat: SeatId) {
        if let Some(place) = self.leases.seats.get_mut(seat.0) {
            place.lease = Some(lease);
        }
        if let Some(leased) = self.leases.get_mut(lease) {
            leased.seat = Some(seat);
        }
    }

    /// Takes a seat from whoever had it, for the next one if it is clean and nothing is left on it.
    pub(super) fn vacate(&mut self, seat: SeatId, clean: bool) {
        let Some(place) = self.leases.seats.get_mut(seat.0) else { return };
        place.lease = None;
        place.idle_since = self.now.instant;
        let (node, conn) = (place.node, place.conn);
        let clean = clean && self.is_primary(node);
        if let Some(connection) = conn.and_then(|conn| self.connections.get_mut(conn.0)) {
            // What the writer has not seen is certain not to run.
            let withdrawn = connection.withdraw(|_| true);
            // What it counts as sent, such as the EXEC that ends a WATCH, was not.
            let undone = |op: &Op| op.spec.is_transaction() || op.spec.is_session();
            let clean = clean && !withdrawn.iter().any(undone);
            let clean = clean && connection.owes_nothing() && connection.refused.is_empty();
            connection.wait_no_more();
            for op in withdrawn {
                self.give_up(&op);
            }
            if !clean {
                self.kill(conn.expect("it has one"), Cause::Local);
            }
        }
        self.pass_seats_on();
    }

    /// Gives seats that are free to those who stand in line.
    pub(super) fn pass_seats_on(&mut self) {
        self.give_to_those_in_line();
        self.drop_empty_seats();
    }

    fn give_to_those_in_line(&mut self) {
        let (mut at, mut full) = (0, BTreeSet::new());
        while let Some(lease) = self.leases.line.get(at).copied() {
            let node = self.leases.get(lease).map(|leased| self.node_for(lease, leased));
            let open = node.filter(|node| !full.contains(node) && !self.is_nobody(*node));
            match open.and_then(|node| self.free_seat(node)) {
                Some(seat) => {
                    self.leases.line.remove(at);
                    self.take_seat(lease, seat);
                    self.serve(lease);
                }
                None if self.cluster.is_none() => return,
                None => {
                    full.extend(node);
                    at += 1;
                }
            }
        }
        if self.leases.line.is_empty() {
            self.leases.full_told = false;
        }
    }
}

//! A client is closed, in good order or because what drove its sockets is gone.

use std::time::{Duration, Instant};

use super::{ConnId, Engine, Event, Health, Linger, Now, Output, dial::Dial, trial::Rare};
use crate::{
    connection::{Connection, Role},
    failure::{Cause, FailureKind},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Not at all.
    Open,
    /// No new requests; what was sent may finish until then.
    Draining(Instant),
    Closed,
}

impl<W> Engine<W> {
    /// Whether the client is closed: nothing is pending, and nothing new is accepted.
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Closed
    }

    /// Refuses new requests, lets what was sent finish within `grace`, then ends everything.
    pub fn shutdown(&mut self, grace: Duration, now: Now) {
        self.note_time(now);
        self.stirred = true;
        let until = self.now.after(grace);
        self.closing = match self.closing {
            Closing::Open => Closing::Draining(until),
            // Who asked for less has his way: the last handle is dropped while it closes at leisure.
            Closing::Draining(before) => Closing::Draining(before.min(until)),
            Closing::Closed => return,
        };
        self.run_timers();
    }

    /// Ends every request and forgets every connection, without waiting for the adapter to close
    /// them: what drove the sockets is gone. The next submit starts anew.
    pub fn abandon(&mut self, now: Now) {
        self.note_time(now);
        self.end_all(FailureKind::RuntimeDropped);
        self.outputs.clear();
        self.pushes = 0;
        self.armed = None;
        self.nodes.iter_mut().for_each(|(_, node)| node.failed_dials = 0);
        self.begun = false;
        if self.closing == Closing::Open {
            if self.store.is_none() {
                self.start_over();
            }
        } else {
            self.closing = Closing::Closed;
        }
    }

    /// When time alone changes something for a client that is being closed.
    pub(super) fn closing_due(&self) -> Option<Instant> {
        match self.closing {
            // What was waited for may have been given up.
            Closing::Draining(_) if self.queued.requests == 0 => Some(self.now.instant),
            Closing::Draining(until) => Some(until),
            Closing::Open | Closing::Closed => None,
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
        self.closing = Closing::Closed;
        for (conn, connection) in self.connections.iter() {
            let linger = if connection.owes_nothing() {
                Linger::Deliver
            } else {
                self.trial.reached(Rare::ClosedInTime);
                Linger::Reset
            };
            self.outputs.push_back(Output::Close { conn: ConnId(conn), linger });
        }
        // Now, and not when the adapter has closed them: after this nothing is pending.
        self.end_all(FailureKind::ClientClosed);
        for node in self.nodes.ids() {
            self.tell_account(node);
        }
        if self.memory.journal_len() > 0 {
            let entries = self.memory.journal_len() as u64;
            self.event(Event::WritesLost { entries });
        }
        self.memory.clear();
        self.event(Event::HealthChanged { from, to: Health::Closed, cause: None });
        self.event(Event::End);
    }

    /// Ends all that was asked for, and forgets every connection.
    fn end_all(&mut self, kind: FailureKind) {
        self.forget_refresh();
        let connections: Vec<_> = self.connections.iter().map(|(id, _)| ConnId(id)).collect();
        for conn in connections {
            self.settle_lost(conn, &kind);
        }
        for (_, node) in self.nodes.iter_mut() {
            (node.conn, node.dial) = (None, Dial::Idle);
        }
        self.end_parked(&kind);
        self.end_streams(kind);
        self.forget_leases(&Cause::Local);
        debug_assert!(self.blocks.is_empty(), "every transaction has ended");
    }
}

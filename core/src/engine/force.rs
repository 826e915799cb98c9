//! An operator's word goes before what health says.
//!
//! A forced client is in one of the ordinary phases, so that letting go of it is nothing special:
//! `Memory` and `Isolated` are the phase of a server that was judged down, kept from recovering;
//! `Redis` leaves the phases alone, and only what is placed while the server is down is placed
//! otherwise.

use super::{ConnId, Engine, Event, NodeId, Now, Output, Phase, dial::Dial, recovery::Stage};
use crate::{Cause, config::Forced, fallback::Standing};

impl<W> Engine<W> {
    /// Has the client serve its requests in this way, whatever its server does; with `None`, health
    /// decides again. See [`Forced`] for what each of them means.
    ///
    /// Legal at any time, and told in one event if it changes anything. Letting go of `Memory` or
    /// `Isolated` is the end of an outage like any other: probes, a barrier, and what is owed is
    /// paid. `memory://` has no server, so there it changes nothing.
    pub fn force(&mut self, forced: Option<Forced>, now: Now) {
        self.note_time(now);
        let nothing_to_force = self.store.is_some() || self.is_closed();
        if nothing_to_force || self.forced == forced {
            return;
        }
        let from = std::mem::replace(&mut self.forced, forced);
        self.forced_since = forced.map(|_| self.now.instant);
        self.stirred = true;
        self.event(Event::Forced { from, to: forced });
        match forced {
            Some(held @ (Forced::Memory | Forced::Isolated)) => {
                self.nodes.ids().into_iter().for_each(|node| self.hold_down(node, held));
                if self.memory.degrades() || self.is_isolated() {
                    self.end_connect_waits();
                }
            }
            Some(Forced::Redis) | None => {
                self.nodes.ids().into_iter().for_each(|node| self.let_go(node));
            }
        }
        match forced {
            Some(Forced::Isolated) => self.isolate(),
            // Where nobody has asked for anything yet, nobody need be there to dial.
            _ if self.begun => self.ensure_dials(),
            _ => {}
        }
        self.scripts.stale();
        // Connections of their own that subscriptions need may be made again, or no longer.
        self.pubsub.stirred = true;
        self.place_all_anew();
        self.run_phases(self.now.instant);
        self.admit();
        // Readers that miss messages now hear of it at once.
        self.run_feeds();
    }

    /// Places everything anew that is on no connection, in the order in which it came.
    fn place_all_anew(&mut self) {
        // What is held waits for what is owed to its keys; all else that concerns them came before.
        let held = std::mem::take(&mut self.held);
        held.iter().for_each(|parked| self.unhold(parked));
        self.place_waiting();
        for parked in held {
            self.place(parked);
        }
        self.announce();
    }

    /// What is forced upon the client, if anything is.
    pub fn forced(&self) -> Option<Forced> {
        self.forced
    }

    pub(super) fn is_isolated(&self) -> bool {
        self.forced == Some(Forced::Isolated)
    }

    /// Whether nothing may recover, because an operator wants the client degraded.
    pub(super) fn is_held_down(&self) -> bool {
        matches!(self.forced, Some(Forced::Memory | Forced::Isolated))
    }

    /// Whether commands of this standing are taken from the server now.
    pub(super) fn is_degraded(&self, node: NodeId, standing: Standing) -> bool {
        let down = self.nodes[node].phase.is_down() && !self.settles(node);
        down && self.may_degrade(standing)
    }

    /// Whether commands of this standing are taken from a server that is down.
    pub(super) fn may_degrade(&self, standing: Standing) -> bool {
        match standing {
            standing if standing.waits() => false,
            Standing::Fail => true,
            _ => self.forced != Some(Forced::Redis),
        }
    }

    /// Whether the server answers again but for keys that are owed something.
    pub(super) fn settles(&self, node: NodeId) -> bool {
        self.nodes[node].phase.is_draining() && !self.is_held_down()
    }

    /// Whether some key pattern may be answered from memory while the server is down.
    pub(super) fn may_answer(&self) -> bool {
        self.memory.degrades() && self.forced != Some(Forced::Redis)
    }

    /// Whether a connection is still being closed that an operator had closed. What was on it goes
    /// before all that came later, and what it is nobody knows yet.
    pub(super) fn is_clearing(&self, node: NodeId) -> bool {
        self.connections.iter().any(|(_, found)| {
            let forced = matches!(found.closing_cause(), Some(Cause::Forced(_)));
            forced && found.node == node && found.is_main() && found.was_ready()
        })
    }

    /// Takes the server for down, if it is not already; keeps recovery from going on.
    pub(super) fn hold_down(&mut self, node: NodeId, held: Forced) {
        let cause = Cause::Forced(held);
        match &self.nodes[node].phase {
            // What is on its way to keys is still answered, and they wait for it.
            Phase::Down {
                stage: Stage::Barrier(_) | Stage::Draining | Stage::Pause(_), ..
            } => {
                let next = self.next_probe(node);
                self.enter_stage(node, Stage::Waiting(next), Some(cause));
            }
            Phase::Down { .. } => {}
            Phase::Starting | Phase::Live | Phase::Suspect { .. } => {
                self.nodes[node].probe_interval = self.config.breaker.probe_interval;
                self.enter_down(node, self.now.instant, cause);
            }
        }
    }

    /// Leaves it to probes to end the outage that was forced, if one was.
    fn let_go(&mut self, node: NodeId) {
        let Phase::Down { stage, .. } = &mut self.nodes[node].phase else { return };
        if let Stage::Waiting(until) = stage {
            *until = self.now.instant;
        }
        if !self.memory.degrades() && self.nodes[node].conn.is_some() {
            self.enter(node, Phase::Live, None);
        }
        if self.forced == Some(Forced::Redis) {
            // The server answers for them from now on; what it is owed stays.
            self.hand_back(node);
        }
    }

    fn isolate(&mut self) {
        let mut unopened = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Resolve { .. } => false,
            Output::Open { conn, .. } => {
                unopened.push(*conn);
                false
            }
            _ => true,
        });
        for conn in &unopened {
            self.trial.reached(super::trial::Rare::NeverOpened);
            // Nobody has heard of it, and nobody will say that it is closed.
            self.connections.remove(conn.0);
        }
        let open: Vec<_> = self.connections.iter().map(|(id, _)| ConnId(id)).collect();
        for conn in open {
            self.kill(conn, Cause::Forced(Forced::Isolated));
        }
        for (_, node) in self.nodes.iter_mut() {
            give_up_dial(&mut node.dial, &unopened);
            node.failed_dials = 0;
        }
        self.give_up_seats(&unopened);
        for feed in self.pubsub.feeds() {
            if let Some(side) = self.side_mut(feed) {
                give_up_dial(&mut side.dial, &unopened);
            }
        }
    }
}

/// An attempt under way ends when its connection is closed, unless nobody has begun it.
fn give_up_dial(dial: &mut Dial, unopened: &[ConnId]) {
    match dial {
        Dial::Opening { conn, .. } if !unopened.contains(conn) => {}
        _ => *dial = Dial::Idle,
    }
}

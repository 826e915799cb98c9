//! A server that is there and serves nothing yet, because it loads its data or its cluster is down.
//!
//! Whom it refused waits longer each time, so as not to burden it, and would go on waiting for seconds after
//! it has come to itself. Therefore it is asked on the client's own account until it serves again: one small
//! question at a time, whatever the number of those that wait. Then all of them go at once.
//!
//! A cluster is down for a moment whenever a master is replaced. Where that lasts for as long as silence would
//! be borne, the node is judged down, so that what may be answered from memory is.

use std::time::{Duration, Instant};

use super::{Engine, NodeId};
use crate::{connection::Own, failure::Cause, reply::ServerError, resp::Reply};

/// Whether a node is asked, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unready {
    /// It has refused nobody since it last served.
    #[default]
    No,
    /// It is asked `at` then; it has refused since `since`.
    Until { at: Instant, since: Instant },
    /// It was asked and has not answered.
    Asked { since: Instant },
}

/// How often it is asked. A client is to be back within a second.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Many clients that were refused at once are not to ask in step.
const ASK_JITTER_PERCENT: u32 = 20;

impl Unready {
    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Unready::Until { at, .. } => Some(at),
            Unready::No | Unready::Asked { .. } => None,
        }
    }
}

impl<W> Engine<W> {
    /// A node has refused a command.
    pub(super) fn note_unready(&mut self, node: NodeId, error: &ServerError) {
        if is_unready(error) && self.nodes[node].unready == Unready::No {
            self.ask_later(node, self.now.instant);
        }
    }

    /// Asks those whose time has come, as long as anybody waits for them.
    pub(super) fn run_unready(&mut self, now: Instant) {
        let is_due = |node: &super::Node| node.unready.due().is_some_and(|at| at <= now);
        if !self.nodes.iter().any(|(_, node)| is_due(node)) {
            return;
        }
        for node in self.nodes.ids() {
            let Unready::Until { at, since } = self.nodes[node].unready else { continue };
            if at > now {
                continue;
            }
            if !self.delayed.values().any(|parked| self.waits_for(node, parked)) {
                self.nodes[node].unready = Unready::No;
                continue;
            }
            match (self.nodes[node].conn, self.probe_key(node)) {
                (Some(conn), Some(key)) => {
                    self.nodes[node].unready = Unready::Asked { since };
                    self.ask(conn, Own::Unready, &[b"DEL", &key]);
                }
                _ => self.ask_later(node, since),
            }
        }
    }

    /// It has answered, or will not any more.
    pub(super) fn on_unready_reply(&mut self, node: NodeId, reply: Option<&Reply>) {
        let Unready::Asked { since } = self.nodes[node].unready else { return };
        let refusal = match reply {
            Some(reply) => reply.error().filter(is_unready),
            None => return self.ask_later(node, since),
        };
        if let Some(error) = refusal {
            self.ask_later(node, since);
            let borne = self.now.instant < since + self.config.response_timeout;
            if !borne && self.memory.degrades() {
                self.trip(node, Cause::NotReady(error));
            }
            return;
        }
        self.nodes[node].unready = Unready::No;
        self.stirred = true;
        let mut released = Vec::new();
        for (at, parked) in std::mem::take(&mut self.delayed) {
            if self.waits_for(node, &parked) {
                released.push(parked);
            } else {
                self.delayed.insert(at, parked);
            }
        }
        for parked in released {
            self.place(parked);
        }
        self.announce();
    }

    fn ask_later(&mut self, node: NodeId, since: Instant) {
        let delay = self.rng.around(ASK_EVERY, ASK_JITTER_PERCENT);
        self.nodes[node].unready = Unready::Until { at: self.now.instant + delay, since };
        self.stirred = true;
    }

    /// Whether a command is delayed because this node was not ready.
    fn waits_for(&self, node: NodeId, parked: &super::Parked) -> bool {
        matches!(&parked.cause, Some(Cause::NotReady(error)) if is_unready(error))
            && self.route(&parked.op) == node
    }
}

/// Whether a node says that it serves no slot at all for now. Where it is one slot, the map is to blame.
fn is_unready(error: &ServerError) -> bool {
    match error.code() {
        "LOADING" | "MASTERDOWN" => true,
        "CLUSTERDOWN" => !error.message().contains("slot"),
        _ => false,
    }
}

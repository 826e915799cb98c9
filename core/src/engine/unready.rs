//! A node of a cluster that is there and serves nothing yet, because it loads its data or the cluster is down.
//!
//! Whom it refused waits longer each time, so as not to burden it, and would go on waiting for seconds after
//! it has come to itself. Therefore it is asked on the client's own account until it serves again: one small
//! question at a time, whatever the number of those that wait. Then all of them go at once.

use std::time::{Duration, Instant};

use super::{Engine, NodeId};
use crate::{connection::Own, failure::Cause, reply::ServerError, resp::Reply};

/// Whether a node is asked, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unready {
    /// It has refused nobody since it last served.
    #[default]
    No,
    /// It is asked then.
    Until(Instant),
    /// It was asked and has not answered.
    Asked,
}

/// How often it is asked. A client is to be back within a second.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Many clients that were refused at once are not to ask in step.
const ASK_JITTER_PERCENT: u32 = 20;

impl Unready {
    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Unready::Until(at) => Some(at),
            Unready::No | Unready::Asked => None,
        }
    }
}

impl<W> Engine<W> {
    /// A node has refused a command.
    pub(super) fn note_unready(&mut self, node: NodeId, error: &ServerError) {
        if self.cluster.is_some() && is_unready(error) && self.nodes[node].unready == Unready::No {
            self.ask_later(node);
        }
    }

    /// Asks those whose time has come, as long as anybody waits for them.
    pub(super) fn run_unready(&mut self, now: Instant) {
        if self.cluster.is_none() {
            return;
        }
        for node in self.nodes.ids() {
            if self.nodes[node].unready.due().is_none_or(|at| at > now) {
                continue;
            }
            if !self.delayed.values().any(|parked| self.waits_for(node, parked)) {
                self.nodes[node].unready = Unready::No;
                continue;
            }
            match (self.nodes[node].conn, self.probe_key(node)) {
                (Some(conn), Some(key)) => {
                    self.nodes[node].unready = Unready::Asked;
                    self.ask(conn, Own::Unready, &[b"DEL", &key]);
                }
                _ => self.ask_later(node),
            }
        }
    }

    /// It has answered, or will not any more.
    pub(super) fn on_unready_reply(&mut self, node: NodeId, reply: Option<&Reply>) {
        if self.nodes[node].unready != Unready::Asked {
            return;
        }
        let still = reply.is_none_or(|reply| reply.error().is_some_and(|error| is_unready(&error)));
        if still {
            return self.ask_later(node);
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

    fn ask_later(&mut self, node: NodeId) {
        let delay = self.rng.around(ASK_EVERY, ASK_JITTER_PERCENT);
        self.nodes[node].unready = Unready::Until(self.now.instant + delay);
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

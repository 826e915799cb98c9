//! What is published at one node is heard at the others, a little later and in its order; or never, where they
//! can't reach each other. Nobody is told of that, and no client can know it.

use unfazed_core::pubsub::TopicKind;

use super::changes::Turn;
use crate::world::{Action, World};

/// The longest that a message takes from one node to the others, in microseconds; and once all is well.
const BUS_MICROS_MAX: u64 = 30_000;
const BUS_MICROS_WELL: u64 = 1_000;

impl World {
    /// A node at which something can be published on a channel, if there is one.
    pub(crate) fn pick_publisher(&mut self, kind: TopicKind, channel: &str) -> Option<usize> {
        let able = |node: &usize| {
            let server = self.server_at(*node);
            server.up && !server.paused && server.hands_out(kind, channel)
        };
        let able: Vec<usize> = (0..self.servers()).filter(able).collect();
        if able.len() < 2 {
            return able.first().copied();
        }
        Some(able[self.entropy.below(able.len() as u64) as usize])
    }

    /// Something was published at a node: the others hear of it. Shard channels are nobody else's.
    pub(crate) fn spread_message(&mut self, from: usize, kind: TopicKind, channel: &'static str) {
        if self.cluster.is_none() || kind == TopicKind::Shard {
            return;
        }
        let most = if self.healed { BUS_MICROS_WELL } else { BUS_MICROS_MAX };
        let delay = self.entropy.micros(50, most);
        let cluster = self.cluster.as_mut().expect("it is one");
        let heard_at = cluster.heard_at.entry(from).or_default();
        *heard_at = (*heard_at).max(self.now + delay);
        let delay = *heard_at - self.now;
        self.at(delay, Action::Cluster(Turn::Hear { from, channel }));
    }

    /// The others hear of it, as far as they can.
    pub(super) fn hear_from(&mut self, from: usize, channel: &'static str) {
        for node in (0..self.servers()).filter(|node| *node != from) {
            let server = self.server_at(node);
            let hears =
                server.up && !server.paused && server.hands_out(TopicKind::Channel, channel);
            if !hears {
                continue;
            }
            if [from, node].iter().any(|end| self.is_cut_off(*end)) {
                self.count("nodes could not tell each other of a message");
                continue;
            }
            self.turn_to(node);
            self.hand_out(TopicKind::Channel, channel);
        }
    }

    /// Whether the network is such that nobody reaches this node. Where it is the client that nobody reaches,
    /// the nodes know nothing of it.
    fn is_cut_off(&self, node: usize) -> bool {
        let weather = self.weather;
        weather.only == Some(node) && (weather.cut_up || weather.cut_down)
    }

    /// Slots have left the node at hand: who listens there to their channels is told.
    pub(super) fn lose_channels(&mut self) {
        for (id, frame) in self.server.drop_channels() {
            self.count("a shard channel is taken away with its slot");
            self.send_to(id, &frame, 1);
        }
    }

    /// Whether those who are subscribed to a channel at this node hear all of it, when all is well.
    pub(crate) fn is_heard_at(&self, node: usize, kind: TopicKind, channel: &str) -> bool {
        match kind {
            TopicKind::Shard => self.is_served_by(node, channel),
            _ => self.server_at(node).hands_out(kind, channel),
        }
    }
}

//! The map changes: what follows for those who wait, for nodes that come and go, and for what is owed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::Cluster;
use crate::{
    config::{Endpoint, Forced},
    connection::Op,
    engine::{
        ConnId, Engine, Event, NodeId, Parked, Phase,
        carriers::Carrier,
        dial::Dial,
        nodes::{Node, Nodes},
        recovery::Stage,
        trial::{Rare, Sabotage},
    },
    failure::{Cause, FailureKind},
    slot::SLOTS,
    topology::Layout,
};

/// How long a node that a redirect has named is kept though the map has no slot for it: one that is being
/// given slots is named long before it has any.
const NAMED_FOR: Duration = Duration::from_secs(10);

impl<W> Engine<W> {
    /// The node at an address, from now on if not before.
    pub(in super::super) fn node_at(&mut self, endpoint: &Endpoint) -> NodeId {
        let known = self
            .nodes
            .iter()
            .find(|(_, node)| !node.gone && node.endpoint.as_ref() == Some(endpoint));
        if let Some((known, _)) = known {
            return known;
        }
        let label = endpoint.to_string().into();
        let node = Node::new(
            std::sync::Arc::clone(&label),
            Some(endpoint.clone()),
            &self.config.breaker,
            self.now.instant,
        );
        let id = self.nodes.insert(node);
        if let Some(held @ (Forced::Memory | Forced::Isolated)) = self.forced {
            self.hold_down(id, held);
        }
        self.event(Event::NodeAdded { node: label });
        id
    }

    /// A redirect says that a node serves a slot, and the map names that node.
    pub(in super::super) fn give_slot(&mut self, slot: u16, node: NodeId) {
        let Some(cluster) = &mut self.cluster else { return };
        let before = cluster.owner(slot);
        cluster.give(slot, node);
        if before != node {
            self.stay_behind_former(|moved| moved == slot);
            self.take_along(slot);
            // A connection of its own that is still being made may lead to the wrong node by now.
            self.leases.stirred = true;
        }
        if self.nodes.contains(before) && self.nodes[before].phase.is_down() {
            self.inherit(BTreeSet::from([node]));
        }
        self.tell_whole();
        self.pubsub.slots_moved();
        self.settle_debts();
    }

    pub(super) fn adopt(&mut self, layout: &Layout) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.refresh.adopted += 1;
        let news = cluster.layout.as_ref() != Some(layout);
        let changes = news || cluster.is_patched(layout, &self.nodes);
        if news {
            cluster.layout = Some(layout.clone());
        }
        let heirs = if changes { self.remap(layout) } else { BTreeSet::new() };
        self.inherit(heirs);
        self.judge_coverage();
        // Others count now, and they may stand otherwise.
        self.tell_whole();
        self.drop_nodes();
        for node in self.nodes.ids() {
            if !self.nodes[node].gone {
                self.ensure_dial(node);
            }
        }
        self.place_elsewhere();
        self.leases_follow_map();
        self.settle_debts();
        self.pubsub.slots_moved();
        self.channels_leave();
        self.pubsub_moves();
        self.end_connect_waits();
        self.announce();
    }

    /// Gives the nodes that serve slots now of one that is down.
    fn remap(&mut self, layout: &Layout) -> BTreeSet<NodeId> {
        let mut slots = vec![0u16; usize::from(SLOTS)];
        let mut owners = vec![NodeId::HOME];
        for shard in &layout.shards {
            let Some(master) = shard.master.as_ref().filter(|_| !shard.ranges.is_empty()) else {
                continue;
            };
            let node = self.node_at(master);
            let place = owners.len() as u16;
            owners.push(node);
            for (first, last) in &shard.ranges {
                slots[usize::from(*first)..=usize::from(*last)].fill(place);
            }
        }
        let mut heirs = BTreeSet::new();
        let mut moved = vec![false; usize::from(SLOTS)];
        let mut shares = vec![0; owners.len()];
        slots.iter().for_each(|place| shares[usize::from(*place)] += 1);
        let Some(cluster) = &mut self.cluster else { return heirs };
        cluster.shares = shares;
        let slots_before = std::mem::replace(&mut cluster.slots, slots.into());
        let owners_before = std::mem::replace(&mut cluster.owners, owners);
        for (slot, (now, before)) in cluster.slots.iter().zip(&slots_before).enumerate() {
            let heir = cluster.owners[usize::from(*now)];
            let before = owners_before[usize::from(*before)];
            moved[slot] = heir != before;
            if heir != before && self.nodes.contains(before) && self.nodes[before].phase.is_down() {
                heirs.insert(heir);
            }
        }
        self.stay_behind_former(|slot| moved[usize::from(slot)]);
        heirs
    }

    /// Who takes over from a node that is down goes on with its outage: what may degrade has been written in
    /// memory, and that comes first.
    fn inherit(&mut self, heirs: BTreeSet<NodeId>) {
        if !self.memory.degrades() || self.trial.is(Sabotage::ForgetHeirs) {
            return;
        }
        for heir in heirs {
            let begins = matches!(self.nodes[heir].phase, Phase::Starting | Phase::Suspect { .. });
            if heir != NodeId::HOME && begins {
                self.reached(Rare::Inherited);
                self.enter_down(heir, self.now.instant, Cause::TookOver);
            }
        }
    }

    /// Without a map nobody serves anything, and that is down once none of the seeds can be reached.
    pub(in super::super) fn trip_home(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let home = &self.nodes[NodeId::HOME];
        if cluster.is_mapped() || home.phase.is_down() {
            return;
        }
        let others = || self.nodes.iter().filter(|(id, node)| *id != NodeId::HOME && !node.gone);
        let cause = others().find_map(|(_, node)| node.cause.clone());
        if others().all(|(_, node)| node.phase.is_down()) {
            self.trip(NodeId::HOME, cause.unwrap_or(Cause::Uncovered));
        }
    }

    /// What nobody serves is down, once the map says that nobody does.
    fn judge_coverage(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let covered = !cluster.has_gaps();
        if covered && !matches!(self.nodes[NodeId::HOME].phase, Phase::Live) && !self.is_held_down()
        {
            self.enter(NodeId::HOME, Phase::Live, None);
        } else if !covered && !self.nodes[NodeId::HOME].phase.is_down() {
            self.enter_down(NodeId::HOME, self.now.instant, Cause::Uncovered);
        }
    }

    /// Lets go of the nodes that the map has no use for.
    fn drop_nodes(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let now = self.now.instant;
        let names = cluster.endpoints();
        let unused = |(id, node): (NodeId, &Node)| {
            let named = |at: Instant| now.saturating_duration_since(at) < NAMED_FOR;
            let busy = node.endpoint.as_ref().is_some_and(|endpoint| names.contains(endpoint))
                && (!node.backlog.is_empty() || self.owes(node.conn));
            let kept = id == NodeId::HOME
                || node.gone
                || cluster.owners.contains(&id)
                || node.named_at.is_some_and(named)
                || busy;
            (!kept).then_some(id)
        };
        let unused: Vec<_> = self.nodes.iter().filter_map(unused).collect();
        for id in unused {
            self.drop_node(id);
        }
        self.sweep_nodes();
    }

    fn owes(&self, conn: Option<ConnId>) -> bool {
        let connection = conn.and_then(|conn| self.connections.get(conn.0));
        connection.is_some_and(|connection| !connection.owes_nothing())
    }

    fn drop_node(&mut self, id: NodeId) {
        // Whatever it was to tell once it is through would never be told.
        self.tell_account(id);
        let node = &mut self.nodes[id];
        node.gone = true;
        // Nothing of it is waited for any more, so that time changes nothing.
        node.phase = Phase::Live;
        let label = node.label.clone();
        let conn = node.conn.take();
        if let Some(conn) = conn {
            self.carry_no_more(conn, &Cause::NodeRemoved);
            match self.connections.get_mut(conn.0) {
                Some(connection) if !connection.owes_nothing() => {
                    self.trial.reached(Rare::NodeLeaves);
                    connection.retiring = true;
                }
                _ => self.kill(conn, Cause::NodeRemoved),
            }
        }
        let dialled: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, found)| found.node == id && found.is_main() && !found.was_ready())
            .map(|(conn, _)| ConnId(conn))
            .collect();
        self.nodes[id].dial = Dial::Idle;
        dialled.into_iter().for_each(|conn| self.kill(conn, Cause::NodeRemoved));
        // Whoever listens there may hear nothing any more, and would not be told.
        for feed in self.pubsub.feeds() {
            let carrier = self.pubsub.get(feed).filter(|carrier| carrier.node == id);
            let Some(Carrier { conn: Some(conn), pinned, .. }) = carrier else { continue };
            let cause = if *pinned { Cause::SlotMoved } else { Cause::NodeRemoved };
            self.kill(*conn, cause);
        }
        self.event(Event::NodeRemoved { node: label });
    }

    /// Forgets nodes that are gone and to which nothing leads any more.
    pub(in super::super) fn sweep_nodes(&mut self) {
        if self.cluster.is_none() {
            return;
        }
        let led_to: BTreeSet<_> =
            self.connections.iter().map(|(_, connection)| connection.node).collect();
        for id in self.nodes.ids() {
            let node = &self.nodes[id];
            let carries = self.pubsub.leads_to(id) || self.leases.lead_to(id);
            if node.gone && !led_to.contains(&id) && node.backlog.is_empty() && !carries {
                self.nodes.remove(id);
            }
        }
    }

    /// Places anew what waits for a node that does not serve it any more, and ends what nobody does.
    fn place_elsewhere(&mut self) {
        let mut leaving = Vec::new();
        for node in self.nodes.ids() {
            let stays = |engine: &Self, parked: &Parked| {
                node != NodeId::HOME && engine.route(&parked.op) == node && !engine.nodes[node].gone
            };
            for parked in std::mem::take(&mut self.nodes[node].backlog) {
                if stays(self, &parked) {
                    self.nodes[node].backlog.push_back(parked);
                } else if node == NodeId::HOME && self.is_nobodys(&parked.op) {
                    self.reached(Rare::Uncovered);
                    let gap = self.cluster.as_ref().and_then(|cluster| cluster.first_gap());
                    let slot =
                        if parked.op.slot < SLOTS { parked.op.slot } else { gap.unwrap_or(0) };
                    self.end_without_answer(&parked.op, FailureKind::Uncovered(slot));
                } else {
                    leaving.push(parked);
                }
            }
        }
        if !leaving.is_empty() {
            leaving.sort_by_key(|parked| self.tickets.age_of(&parked.op));
            leaving.into_iter().for_each(|parked| self.place(parked));
            // It may wait again, behind what is newer.
            let tickets = &self.tickets;
            for (_, node) in self.nodes.iter_mut() {
                let backlog = node.backlog.make_contiguous();
                backlog.sort_by_key(|parked| tickets.age_of(&parked.op));
            }
        }
        self.sweep_nodes();
    }

    fn is_nobodys(&self, op: &Op) -> bool {
        let pinned = || self.tickets.pin_of(op.ticket) == Some(NodeId::HOME);
        (op.slot < SLOTS || pinned()) && self.route(op) == NodeId::HOME
    }

    /// A node that is well serves keys that were written in memory: where they are owed something it is paid
    /// before it answers for them, and what nothing is owed to is forgotten, as after any outage.
    fn settle_debts(&mut self) {
        let forgets = self.trial.is(Sabotage::ForgetHeirs);
        if !self.memory.holds_writes() || self.is_held_down() || forgets {
            return;
        }
        let Some(cluster) = &self.cluster else { return };
        let live = |id: &&NodeId| matches!(self.nodes[**id].phase, Phase::Live);
        let live: Vec<_> = cluster.primaries().iter().filter(live).copied().collect();
        for id in live {
            let owes = self.memory.owes_any(|key| self.serves(id, key));
            if owes {
                self.reached(Rare::DebtMoved);
                self.enter_down(id, self.now.instant, Cause::TookOver);
                let now = self.now.instant;
                self.enter_stage(id, Stage::Pause(now), None);
            } else {
                self.hand_back(id);
            }
        }
    }

    /// Channels and patterns leave a node that serves no slots any more, at once and also where the node itself
    /// is kept because a redirect has named it. It may not belong to the cluster any more: then it hears nothing of
    /// what is published at the others, and nobody would be told.
    fn channels_leave(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let primaries: Vec<_> = cluster.primaries().to_vec();
        let serves = |node: NodeId| node == NodeId::HOME || primaries.contains(&node);
        for feed in self.pubsub.feeds() {
            let leaves = |carrier: &&mut Carrier| !carrier.pinned && !serves(carrier.node);
            let Some(carrier) = self.pubsub.get_mut(feed).filter(leaves) else { continue };
            carrier.node = NodeId::HOME;
            self.trial.reached(Rare::ChannelsElsewhere);
            let conn = carrier.conn;
            match carrier.side.as_mut().map(std::mem::take) {
                Some(side) => self.drop_side(&side, conn),
                None => conn.into_iter().for_each(|conn| self.part(conn, feed)),
            }
            self.pubsub.lost(feed, &Cause::NodeRemoved);
        }
    }

    /// Channels and patterns can be subscribed to at any node: where the one that carries them is gone, and
    /// where none carries them yet, at one that is connected.
    pub(in super::super) fn pubsub_moves(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let primaries: Vec<_> = cluster.primaries().to_vec();
        let usable = |node: &NodeId| self.nodes.is_usable(*node);
        let Some(next) = primaries.into_iter().find(usable) else { return };
        let homeless: Vec<_> = self
            .pubsub
            .feeds()
            .into_iter()
            .filter(|feed| {
                self.pubsub.get(*feed).is_some_and(|carrier| {
                    let ready = usable(&carrier.node);
                    let free = !carrier.pinned && carrier.conn.is_none();
                    free && (!ready || self.pubsub.general() == *feed)
                })
            })
            .collect();
        for feed in homeless {
            let Some(carrier) = self.pubsub.get_mut(feed) else { continue };
            let node = if self.nodes.is_usable(carrier.node) { carrier.node } else { next };
            let before = std::mem::replace(&mut carrier.node, node);
            if before != node && before != NodeId::HOME {
                self.trial.reached(Rare::ChannelsElsewhere);
            }
            if before != node
                && let Some(side) = carrier.side.as_mut().map(std::mem::take)
            {
                // What may be on its way to the other node.
                self.drop_side(&side, None);
            }
            self.pubsub.stirred = true;
            if self.pubsub.general() == feed
                && let Some(conn) = self.nodes[node].conn
            {
                self.carry_on(conn);
            }
        }
    }
}

impl Cluster {
    /// Whether redirects have changed the map since a layout was adopted.
    fn is_patched(&self, layout: &Layout, nodes: &Nodes) -> bool {
        layout.shards.iter().any(|shard| {
            shard.ranges.iter().any(|(first, last)| {
                (*first..=*last).any(|slot| {
                    let owner = self.owner(slot);
                    !nodes.contains(owner) || nodes[owner].endpoint != shard.master
                })
            })
        })
    }
}

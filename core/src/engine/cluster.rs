//! A cluster: which node serves which slot, and how this is learned.
//!
//! ```text
//!   seeds ──▶ a node answers ──▶ map of slots ──▶ requests go to the nodes of their slots
//!                  ▲                                   │ MOVED, a lost node, a slot nobody serves,
//!                  └──────────── refresh ◀─────────────┘ a span of time
//! ```
//!
//! [`refresh`] asks for the map, [`change`] is what follows from a new one. `redirect` follows MOVED and ASK,
//! `gather` is for commands that concern several nodes.

mod change;
mod refresh;

use std::{collections::BTreeSet, time::Instant};

use self::refresh::Refresh;
use super::{
    Batch, Engine, Health, NodeId, batch::Item, gather::Gathers, redirect::Detours, trial::Sabotage,
};
use crate::{
    commands::{Routing, Spec},
    config::{ClusterMap, Endpoint},
    connection::Op,
    failure::Cause,
    request::split_arguments,
    slot::{SLOTS, slot},
    topology::{Layout, normal},
};

/// What an [`Op`] has in the place of its slot: a slot of a cluster, or one of these.
#[derive(Debug)]
pub(crate) struct Slot;

impl Slot {
    /// It has no key, so any node will do, unless it is for one in particular.
    pub(crate) const NONE: u16 = u16::MAX;
    /// It concerns several slots or several nodes, and is still to be split.
    pub(crate) const SEVERAL: u16 = u16::MAX - 1;
}

/// Where a batch is answered: by the node of one slot, or by any number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u16);

/// What is known of a cluster as a whole.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<Endpoint>,
    /// For each slot, which of the `owners` serves it.
    slots: Box<[u16]>,
    /// The nodes that serve slots. The first is home, for slots that nobody serves.
    owners: Vec<NodeId>,
    /// How many slots each of the `owners` serves: whoever asks how the client stands asks for it.
    shares: Vec<usize>,
    layout: Option<Layout>,
    /// CLUSTER SLOTS is asked, not CLUSTER SHARDS.
    by_slots: bool,
    /// All of it was live once.
    pub(super) was_live: bool,
    refresh: Refresh,
    pub(super) detours: Detours,
    pub(super) gathers: Gathers,
}

impl Cluster {
    pub(super) fn new(seeds: &[Endpoint], map: ClusterMap, home: NodeId) -> Self {
        let normalized = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp { host, port } => Endpoint::tcp(normal(host), *port),
            other => other.clone(),
        };
        Cluster {
            seeds: seeds.iter().map(normalized).collect(),
            slots: vec![0; usize::from(SLOTS)].into(),
            owners: vec![home],
            shares: vec![usize::from(SLOTS)],
            layout: None,
            by_slots: map == ClusterMap::Slots,
            was_live: false,
            refresh: Refresh::default(),
            detours: Detours::default(),
            gathers: Gathers::default(),
        }
    }

    /// The node that serves a slot; home where nobody does.
    pub(super) fn owner(&self, slot: u16) -> NodeId {
        self.owners[usize::from(self.slots[usize::from(slot)])]
    }

    /// The node that takes a new request for this slot at once. Not inlined, like all that a single server's
    /// requests have no use for.
    #[inline(never)]
    fn direct_to(&self, slot: u16) -> Option<NodeId> {
        let at_once = slot < SLOTS && !self.detours.concern(slot);
        at_once.then(|| self.owner(slot))
    }

    /// The nodes that serve slots, in the order in which the map has them.
    pub(super) fn primaries(&self) -> &[NodeId] {
        &self.owners[1..]
    }

    /// Whether nobody serves some slots.
    pub(super) fn has_gaps(&self) -> bool {
        self.first_gap().is_some()
    }

    /// The first slot that nobody serves.
    fn first_gap(&self) -> Option<u16> {
        self.slots.iter().position(|place| *place == 0).map(|slot| slot as u16)
    }

    /// Every node that the map names.
    pub(super) fn endpoints(&self) -> BTreeSet<Endpoint> {
        self.layout.iter().flat_map(Layout::endpoints).cloned().collect()
    }

    pub(super) fn is_mapped(&self) -> bool {
        self.layout.is_some()
    }

    /// Whether it is a node that credentials may be shown to.
    pub(super) fn names(&self, endpoint: &Endpoint) -> bool {
        self.layout.as_ref().is_some_and(|layout| layout.endpoints().contains(endpoint))
    }

    /// How many refreshes have ended with a map.
    pub(super) fn adopted(&self) -> u64 {
        self.refresh.adopted
    }

    /// How many slots a node serves.
    pub(super) fn slots_of(&self, node: NodeId) -> usize {
        let shares = self.owners.iter().zip(&self.shares);
        shares.filter(|(owner, _)| **owner == node).map(|(_, share)| share).sum()
    }

    /// One of the slots that a node serves, counted from 0.
    pub(super) fn slot_of(&self, node: NodeId, nth: usize) -> Option<u16> {
        let mut served = (0..SLOTS).filter(|slot| self.owner(*slot) == node);
        served.nth(nth)
    }

    /// A node serves a slot from now on.
    fn give(&mut self, slot: u16, node: NodeId) {
        let place = self.owners.iter().position(|owner| *owner == node).unwrap_or_else(|| {
            self.owners.push(node);
            self.shares.push(0);
            self.owners.len() - 1
        });
        let before = std::mem::replace(&mut self.slots[usize::from(slot)], place as u16);
        self.shares[usize::from(before)] -= 1;
        self.shares[place] += 1;
    }

    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let detours = self.detours.due().filter(|due| *due > now);
        let refresh = self.refresh.due.filter(|_| self.refresh.asked.is_empty());
        let hedge = self.refresh.hedge;
        refresh.into_iter().chain(self.refresh.until).chain(hedge).chain(detours).min()
    }
}

impl<W> Engine<W> {
    // ---- where to ------------------------------------------------------------------------------

    #[inline(never)]
    pub(super) fn route_in(&self, cluster: &Cluster, op: &Op) -> NodeId {
        if op.slot < SLOTS {
            return cluster.owner(op.slot);
        }
        if let Some(pinned) = self.tickets.pin_of(op.ticket) {
            return if self.nodes.contains(pinned) { pinned } else { NodeId::HOME };
        }
        // What is published at one node keeps its order.
        let turn = if op.spec.is_publish() { 0 } else { op.ticket.0.index() };
        self.any_primary(cluster, turn)
    }

    /// A node for what any node will do for: one that is well, or else one that is connected, by turns.
    pub(super) fn any_primary(&self, cluster: &Cluster, turn: usize) -> NodeId {
        let connected = |node: &NodeId| self.nodes[*node].conn.is_some();
        let well = |node: &NodeId| connected(node) && self.nodes[*node].phase.is_live();
        let nth = |usable: &dyn Fn(&NodeId) -> bool| {
            let nodes = || cluster.primaries().iter().copied().filter(usable);
            let turn = turn.checked_rem(nodes().count())?;
            nodes().nth(turn)
        };
        let any = || cluster.primaries().first().copied();
        nth(&well).or_else(|| nth(&connected)).or_else(any).unwrap_or(NodeId::HOME)
    }

    /// What stands in the place of a command's slot; `Slot::NONE` where there is no cluster.
    #[inline]
    pub(super) fn slot_for<A: AsRef<[u8]>>(&self, spec: &Spec, args: &[A]) -> u16 {
        match self.cluster {
            None => Slot::NONE,
            Some(_) => slot_in_cluster(spec, args),
        }
    }

    /// The slot by whose node a command of a batch goes that has no key of its own; `None` where it goes its
    /// own way.
    pub(super) fn place_beside<A: AsRef<[u8]>>(
        &self,
        batch: &Batch,
        spec: &Spec,
        args: &[A],
    ) -> Option<u16> {
        self.cluster.as_ref()?;
        let beside = batch.beside.filter(|slot| *slot < SLOTS)?;
        spec.keys().of(args).next().is_none().then_some(beside)
    }

    /// Who is to answer a batch: to be asked for its [connection](Engine::connection_at) before it is
    /// submitted and after it has ended.
    pub fn place_of(&self, batch: &Batch) -> Place {
        if self.cluster.is_none() {
            return Place(Slot::NONE);
        }
        let slot_of = |(at, item): (usize, &Item)| {
            let args = split_arguments(item.spec, batch.bytes_of(at));
            let beside = self.place_beside(batch, item.spec, &args);
            beside.unwrap_or_else(|| slot_in_cluster(item.spec, &args))
        };
        let mut slots = batch.items.iter().enumerate().map(slot_of);
        match slots.next() {
            Some(first) if first < SLOTS && slots.all(|slot| slot == first) => Place(first),
            _ => Place(Slot::SEVERAL),
        }
    }

    /// Which connection answers at a place now, by a number that no later one has; `None` where there is
    /// none. Where it is the same before a batch was submitted and after it has ended, all of it was
    /// answered there and in its order, but for what [went again](super::Outcomes::strayed). Of several nodes
    /// it is the latest connection to any.
    pub fn connection_at(&self, place: Place) -> Option<u64> {
        match &self.cluster {
            Some(cluster) if place.0 < SLOTS => {
                let node = &self.nodes[cluster.owner(place.0)];
                node.conn.map(|_| node.made)
            }
            _ => Some(self.made),
        }
    }

    /// The connection that takes a new request for this slot at once.
    #[inline]
    pub(super) fn direct_to(&self, slot: u16) -> Option<NodeId> {
        match &self.cluster {
            None => Some(NodeId::HOME),
            Some(_) if self.trial.is(Sabotage::WaitForAll) => None,
            Some(cluster) if self.trial.is(Sabotage::OvertakeRedirected) && slot < SLOTS => {
                Some(cluster.owner(slot))
            }
            Some(cluster) => cluster.direct_to(slot),
        }
    }

    /// Whether a key is served by this node.
    pub(super) fn serves(&self, node: NodeId, key: &[u8]) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.owner(slot(key)) == node)
    }

    // ---- how it stands -------------------------------------------------------------------------

    /// How the cluster stands as a whole: as the node that is worst.
    pub(super) fn health_of_all(&self, cluster: &Cluster) -> Health {
        self.health_within(cluster, self.worst(cluster))
    }

    /// How a node stands, for the cluster as a whole. One that has just been learned of, because a slot was
    /// moved or a replica became a master, is no sign that something is wrong: it counts once it is known how
    /// it stands, which takes no longer than a dial.
    fn health_within(&self, cluster: &Cluster, node: NodeId) -> Health {
        match self.nodes[node].phase.health() {
            Health::Connecting if cluster.was_live => Health::Live,
            health => health,
        }
    }

    /// The node that is worst.
    fn worst(&self, cluster: &Cluster) -> NodeId {
        let severity = |node: &NodeId| match self.health_within(cluster, *node) {
            Health::Live => 0,
            Health::Recovering => 1,
            Health::Suspect => 2,
            Health::Connecting => 3,
            _ => 4,
        };
        let primaries = cluster.primaries().iter().filter(|_| cluster.is_mapped()).copied();
        let known = primaries.filter(|id| self.nodes.contains(*id));
        known.chain([NodeId::HOME]).max_by_key(severity).unwrap_or(NodeId::HOME)
    }

    /// What is the matter with the client's server, or with the node that is worst.
    pub(super) fn cause_of_all(&self) -> Option<Cause> {
        let node = match &self.cluster {
            None => NodeId::HOME,
            Some(cluster) => self.worst(cluster),
        };
        let matters = !matches!(self.health(), Health::Live | Health::Closed);
        self.nodes[node].cause.clone().filter(|_| matters)
    }

    /// Whether it is known of every node how it stands.
    pub(super) fn all_judged(&self, cluster: &Cluster) -> bool {
        if self.nodes[NodeId::HOME].rejected.is_some() {
            return true;
        }
        if !cluster.is_mapped() {
            return self.was_judged(NodeId::HOME);
        }
        cluster.primaries().iter().all(|node| self.was_judged(*node))
    }
}

/// The slot of a command's keys, or what stands in its place. Of a command that nobody knows, modules'
/// among them, the first argument is taken for its key: so it is with nearly all, and with the others a
/// redirect will tell.
#[inline(never)]
fn slot_in_cluster<A: AsRef<[u8]>>(spec: &Spec, args: &[A]) -> u16 {
    if spec.is_unknown() {
        return args.first().map_or(Slot::NONE, |key| slot(key.as_ref()));
    }
    if matches!(spec.routing(), Routing::Fan(..)) {
        return Slot::SEVERAL;
    }
    let mut keys = spec.keys().of(args).map(slot);
    let Some(first) = keys.next() else { return Slot::NONE };
    // Any other command is refused by the server, and nothing of it has run then. Of a script's error nobody
    // knows whether it is the script's own, so that one isn't sent.
    let parts = matches!(spec.routing(), Routing::Split(_)) || spec.is_script();
    if parts && keys.any(|other| other != first) { Slot::SEVERAL } else { first }
}

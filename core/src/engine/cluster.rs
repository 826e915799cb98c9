//! A cluster: which node serves which slot, and how this is learned.
//!
//! ```text
//!   seeds ──▶ a node answers ──▶ map of slots ──▶ requests go to the nodes of their slots
//!                  ▲                                   │ MOVED, a lost node, a slot nobody serves,
//!                  └──────────── refresh ◀─────────────┘ a span of time
//! ```
//!
//! A refresh asks up to three nodes that are connected, at once; what most of them say holds, and of slots that
//! those leave out what anybody says. There is one refresh at a time, never two right after one another, and only
//! requests of slots that nobody serves wait for it. `redirect` follows MOVED and ASK, `gather` is for commands
//! that concern several nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Batch, Closing, ConnId, Engine, Event, Health, NodeId, Parked, Phase,
    batch::Item,
    carriers::Carrier,
    gather::Gathers,
    nodes::Node,
    recovery::Stage,
    redirect::Detours,
    trial::{Rare, Sabotage},
};
use crate::{
    commands::{Routing, Spec},
    config::{Backoff, ClusterMap, Endpoint, Forced},
    connection::{Op, Own},
    failure::{Cause, FailureKind},
    request::split_arguments,
    resp::Reply,
    slot::{SLOTS, slot},
    topology::{Asked, Layout, Said, Shard, normal, parse_shards, parse_slots, ranges_of},
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

#[derive(Debug, Default)]
struct Refresh {
    /// When the next one begins.
    due: Option<Instant>,
    /// When the last one ended.
    last: Option<Instant>,
    /// Who has still to answer.
    asked: Vec<NodeId>,
    answers: Vec<Said>,
    /// Others are asked then, if nobody has answered: those who were may be busy for long.
    hedge: Option<Instant>,
    /// Who serves slots that others left out, and was not asked: he comes first the next time.
    unheard: Vec<NodeId>,
    /// Until when those are waited for who have not answered, once one has.
    until: Option<Instant>,
    /// There was a reason to ask since the present one began.
    again: bool,
    /// How many in a row have left something to be desired.
    unwell: u32,
    /// How many have ended with a map.
    adopted: u64,
}

/// How many nodes are asked at once: two of three can outvote one.
const ASKED_MAX: usize = 3;

/// The least time between two refreshes.
const REFRESH_GAP: Duration = Duration::from_millis(100);

/// After one answer others are waited for no longer than this: they may hang.
const ANSWERS_GRACE: Duration = Duration::from_millis(100);

/// How often the map is asked for while all is well; changes are noticed by redirects before.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// How often while a node is down or a slot is nobody's. A client is to be back within a second.
const REFRESH_UNWELL: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_millis(400) };

/// Many clients that saw the same are not to ask in step.
const REFRESH_JITTER_PERCENT: u32 = 20;

/// How long a node that a redirect has named is kept though the map has no slot for it: one that is being
/// given slots is named long before it has any.
const NAMED_FOR: Duration = Duration::from_secs(10);

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
        self.any_primary(cluster, op.ticket.0.index())
    }

    /// A node for what any node will do for: one that can be used now, by turns.
    pub(super) fn any_primary(&self, cluster: &Cluster, turn: usize) -> NodeId {
        let ready = |node: &&NodeId| self.nodes[**node].conn.is_some();
        let count = cluster.primaries().iter().filter(ready).count();
        match count {
            0 => cluster.primaries().first().copied().unwrap_or(NodeId::HOME),
            _ => {
                let turn = turn % count;
                let mut found = cluster.primaries().iter().filter(ready).skip(turn);
                found.next().copied().unwrap_or(NodeId::HOME)
            }
        }
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
    /// answered there, but for what was [redirected](super::Outcomes::strayed). Of several nodes it is the
    /// latest connection to any.
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

    // ---- refresh -------------------------------------------------------------------------------

    /// Somebody has seen a sign that the map is not right any more.
    pub(super) fn want_refresh(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let refresh = &mut cluster.refresh;
        let hasty = self.trial.is(Sabotage::RefreshAtOnce);
        if hasty {
            (refresh.last, refresh.until, refresh.hedge) = (None, None, None);
            refresh.asked.clear();
        }
        if !refresh.asked.is_empty() {
            self.trial.reached(Rare::AskedAgain);
            refresh.again = true;
            return;
        }
        let now = self.now.instant;
        let gap = self.rng.around(REFRESH_GAP, REFRESH_JITTER_PERCENT);
        let at = refresh.last.map_or(now, |last| (last + gap).max(now));
        refresh.due = Some(refresh.due.map_or(at, |due| due.min(at)));
        self.stirred = true;
    }

    /// Sees to it that a map will come.
    pub(super) fn ensure_map(&mut self) {
        self.begun = true;
        let Some(cluster) = &self.cluster else { return };
        let wanted = cluster.refresh.due.is_none() && cluster.refresh.asked.is_empty();
        let open = self.closing == Closing::Open && !self.is_isolated();
        if open && wanted {
            self.want_refresh();
            self.run_cluster(self.now.instant);
        }
    }

    pub(super) fn run_cluster(&mut self, now: Instant) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.refresh.until.is_some_and(|until| until <= now) {
            self.finish_refresh();
        }
        let Some(cluster) = &self.cluster else { return };
        if cluster.refresh.hedge.is_some_and(|hedge| hedge <= now) {
            self.ask_others();
        }
        let Some(cluster) = &self.cluster else { return };
        let begins = self.begun && self.closing == Closing::Open && !self.is_isolated();
        if cluster.refresh.asked.is_empty() && cluster.refresh.due.is_some_and(|due| due <= now) {
            if begins {
                self.begin_refresh();
            } else if let Some(cluster) = &mut self.cluster {
                cluster.refresh.due = None;
            }
        }
        self.settle_detours();
    }

    fn begin_refresh(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let unheard = std::mem::take(&mut cluster.refresh.unheard);
        let asked = self.draw_asked(&unheard);
        if asked.is_empty() {
            return self.dial_seeds();
        }
        let Some(cluster) = &mut self.cluster else { return };
        cluster.refresh.due = None;
        cluster.refresh.again = false;
        cluster.refresh.answers.clear();
        self.ask_for_map(asked);
    }

    /// Some nodes that can be asked and were not: of these `first` before others.
    fn draw_asked(&mut self, first: &[NodeId]) -> Vec<NodeId> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let ready = self.nodes.iter().filter(|(id, node)| {
            node.conn.is_some() && !node.gone && !cluster.refresh.asked.contains(id)
        });
        let ready: Vec<_> = ready.map(|(id, _)| id).collect();
        let Some(from) = self.rng.below(ready.len()) else { return ready };
        let by_turns = ready.iter().cycle().skip(from).take(ready.len());
        let (mut asked, others): (Vec<_>, Vec<_>) =
            by_turns.copied().partition(|node| first.contains(node));
        asked.extend(others);
        asked.truncate(ASKED_MAX);
        asked
    }

    fn ask_for_map(&mut self, nodes: Vec<NodeId>) {
        let hedge = self.now.instant + self.rng.around(REFRESH_GAP, REFRESH_JITTER_PERCENT);
        let Some(cluster) = &mut self.cluster else { return };
        cluster.refresh.hedge = Some(hedge);
        cluster.refresh.asked.extend(&nodes);
        let what: &[u8] = if cluster.by_slots { b"SLOTS" } else { b"SHARDS" };
        for conn in nodes.into_iter().filter_map(|node| self.nodes[node].conn).collect::<Vec<_>>() {
            self.ask(conn, Own::Topology, &[b"CLUSTER", what]);
        }
    }

    /// Nobody who was asked has answered yet, and it may be long until somebody does: others are asked as
    /// well, no sooner than they would be for another refresh.
    fn ask_others(&mut self) {
        let others = self.draw_asked(&[]);
        let Some(cluster) = &self.cluster else { return };
        if others.is_empty() && !cluster.is_mapped() {
            for seed in cluster.seeds.clone() {
                let node = self.node_at(&seed);
                self.ensure_dial(node);
            }
        } else if !others.is_empty() {
            self.reached(Rare::OthersAsked);
        }
        self.ask_for_map(others);
    }

    /// Nobody is connected who could be asked: whoever may be there is dialled.
    fn dial_seeds(&mut self) {
        self.trial.reached(Rare::SeedsAnew);
        let Some(cluster) = &mut self.cluster else { return };
        let delay = REFRESH_UNWELL.delay(cluster.refresh.unwell);
        cluster.refresh.unwell = cluster.refresh.unwell.saturating_add(1);
        let delay = self.rng.around(delay, REFRESH_JITTER_PERCENT);
        cluster.refresh.due = Some(self.now.instant + delay);
        for seed in cluster.seeds.clone() {
            let node = self.node_at(&seed);
            self.ensure_dial(node);
        }
    }

    pub(super) fn on_topology(&mut self, conn: ConnId, reply: &Reply) {
        let Some(node) = self.node_of(conn) else { return };
        let Some(cluster) = &mut self.cluster else { return };
        let Some(at) = cluster.refresh.asked.iter().position(|asked| *asked == node) else {
            return;
        };
        cluster.refresh.asked.swap_remove(at);
        let Some(endpoint) = &self.nodes[node].endpoint else { return };
        let (map, tls) = (&self.config.address_map, self.config.tls);
        let asked = Asked { at: endpoint, map, tls };
        let answer = match reply.error() {
            Some(error) => Err(error),
            None if cluster.by_slots => Ok(parse_slots(reply.view(), &asked)),
            None => Ok(parse_shards(reply.view(), &asked)),
        };
        match answer {
            Ok(Ok(layout)) => {
                let refresh = &mut cluster.refresh;
                let seconded = refresh.answers.iter().any(|said| said.layout == layout);
                // Of a slot that both leave out another may know who has it.
                if seconded && layout.gaps().is_empty() {
                    refresh.asked.clear();
                }
                refresh.answers.push(Said { by: endpoint.clone(), layout });
                refresh.until.get_or_insert(self.now.instant + ANSWERS_GRACE);
                refresh.hedge = None;
            }
            Ok(Err(malformed)) => self.tell_error(node, Cause::Malformed(malformed.0)),
            Err(error) if !cluster.by_slots && is_unknown(error.message()) => {
                // Before Redis 7.0.
                self.trial.reached(Rare::OldCluster);
                cluster.by_slots = true;
                cluster.refresh.again = true;
            }
            Err(error) => {
                let lasting = error.message().contains("cluster support disabled");
                let cause = if lasting { Cause::NoCluster(error) } else { Cause::Handshake(error) };
                if lasting {
                    self.nodes[NodeId::HOME].rejected = Some(cause.clone());
                    self.refuse_waiting(NodeId::HOME, &cause);
                }
                if self.cluster.as_ref().is_some_and(|cluster| !cluster.is_mapped()) {
                    self.nodes[NodeId::HOME].cause = Some(cause.clone());
                    self.end_connect_waits();
                }
                self.tell_error(node, cause);
            }
        }
        if self.cluster.as_ref().is_some_and(|cluster| cluster.refresh.asked.is_empty()) {
            self.finish_refresh();
        }
    }

    /// Nobody is asked any more: what drives the client is gone, or it is being closed.
    pub(super) fn forget_refresh(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            let Refresh { last, adopted, .. } = cluster.refresh;
            cluster.refresh = Refresh { last, adopted, ..Refresh::default() };
        }
    }

    /// One that was asked will not answer any more.
    pub(super) fn topology_lost(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else { return };
        let before = cluster.refresh.asked.len();
        cluster.refresh.asked.retain(|asked| *asked != node);
        if before > 0 && cluster.refresh.asked.is_empty() {
            // Not here: its node may go with the map, and there may be more to settle of its connection.
            cluster.refresh.until = Some(self.now.instant);
            self.trial.reached(Rare::TopologyLost);
            self.stirred = true;
        }
    }

    fn finish_refresh(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let now = self.now.instant;
        let refresh = &mut cluster.refresh;
        if !refresh.asked.is_empty() {
            self.trial.reached(Rare::AnswerMissed);
        }
        refresh.asked.clear();
        (refresh.until, refresh.hedge) = (None, None);
        refresh.last = Some(now);
        let again = std::mem::take(&mut refresh.again);
        let answers = std::mem::take(&mut refresh.answers);
        if answers.windows(2).any(|pair| pair[0].layout != pair[1].layout) {
            self.trial.reached(Rare::Disagree);
        }
        let agreed = Layout::agreed(&answers, cluster.layout.as_ref());
        let agreed = agreed.map(|layout| self.keep_unheard(layout, &answers));
        let found = agreed.is_some();
        if let Some(layout) = agreed {
            self.adopt(&layout);
        }
        let all_live = |engine: &Self| {
            engine.nodes.iter().all(|(_, node)| node.gone || matches!(node.phase, Phase::Live))
        };
        let all_live = all_live(self);
        let Some(cluster) = &mut self.cluster else { return };
        let refresh = &mut cluster.refresh;
        let well = found && all_live && refresh.unheard.is_empty();
        refresh.unwell = if well { 0 } else { refresh.unwell.saturating_add(1) };
        let delay = match refresh.unwell {
            0 => REFRESH_EVERY,
            times => REFRESH_UNWELL.delay(times - 1),
        };
        refresh.due = Some(now + self.rng.around(delay, REFRESH_JITTER_PERCENT));
        if again {
            self.want_refresh();
        }
        self.stirred = true;
        self.leases.stirred = true;
        self.settle_detours();
    }

    /// Leaves slots of which nobody has said anything with him who serves them, as long as he can be asked
    /// and was not heard: a cluster that has just lost its master is silent of his slots for a moment, and
    /// whoever they have gone to is known from a redirect already.
    fn keep_unheard(&mut self, layout: Layout, answers: &[Said]) -> Layout {
        let Some(cluster) = &mut self.cluster else { return layout };
        let mut kept: BTreeMap<NodeId, Vec<u16>> = BTreeMap::new();
        for slot in layout.gaps() {
            let owner = cluster.owner(slot);
            if owner != NodeId::HOME && usable_now(&self.nodes, owner) {
                kept.entry(owner).or_default().push(slot);
            }
        }
        let mut said = Vec::new();
        for (owner, slots) in kept {
            let Some(endpoint) = &self.nodes[owner].endpoint else { continue };
            if answers.iter().any(|said| said.by == *endpoint) {
                continue;
            }
            self.trial.reached(Rare::Unheard);
            cluster.refresh.unheard.push(owner);
            let (master, ranges) = (Some(endpoint.clone()), ranges_of(slots));
            let shards = vec![Shard { master, replicas: Vec::new(), ranges }];
            said.push(Said { by: endpoint.clone(), layout: Layout { shards } });
        }
        layout.filled(&said, None)
    }

    // ---- the map -------------------------------------------------------------------------------

    /// The node at an address, from now on if not before.
    pub(super) fn node_at(&mut self, endpoint: &Endpoint) -> NodeId {
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
    pub(super) fn give_slot(&mut self, slot: u16, node: NodeId) {
        let whole = self.health();
        let Some(cluster) = &mut self.cluster else { return };
        let before = cluster.owner(slot);
        cluster.give(slot, node);
        if before != node {
            self.stay_behind_former(|moved| moved == slot);
        }
        self.tell_whole(whole);
        if self.nodes.contains(before) && self.nodes[before].phase.is_down() {
            self.inherit(BTreeSet::from([node]));
        }
        self.pubsub.slots_moved();
        self.settle_debts();
    }

    fn adopt(&mut self, layout: &Layout) {
        let whole = self.health();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.refresh.adopted += 1;
        let news = cluster.layout.as_ref() != Some(layout);
        let changes = news || cluster.is_patched(layout, &self.nodes);
        if news {
            cluster.layout = Some(layout.clone());
        }
        let heirs = if changes { self.remap(layout) } else { BTreeSet::new() };
        // Others count now, and they may stand otherwise.
        self.tell_whole(whole);
        self.inherit(heirs);
        self.judge_coverage();
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
    pub(super) fn trip_home(&mut self) {
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
        self.nodes[id].dial = super::dial::Dial::Idle;
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
    pub(super) fn sweep_nodes(&mut self) {
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

    /// Channels and patterns can be subscribed to at any node: where the one that carries them is gone, and
    /// where none carries them yet, at one that is connected.
    pub(super) fn pubsub_moves(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let primaries: Vec<_> = cluster.primaries().to_vec();
        let usable = |node: &NodeId| usable_now(&self.nodes, *node);
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
            let node = if usable_now(&self.nodes, carrier.node) { carrier.node } else { next };
            if std::mem::replace(&mut carrier.node, node) != node
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
        self.nodes[node].cause.clone().filter(|_| self.health() != Health::Live)
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

impl Cluster {
    /// Whether redirects have changed the map since a layout was adopted.
    fn is_patched(&self, layout: &Layout, nodes: &super::nodes::Nodes) -> bool {
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

fn usable_now(nodes: &super::nodes::Nodes, node: NodeId) -> bool {
    nodes.contains(node) && !nodes[node].gone && nodes[node].conn.is_some()
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

fn is_unknown(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("unknown subcommand") || message.contains("unknown command")
}

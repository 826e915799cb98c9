//! The map is asked for: of whom, how often, and whose word holds.
//!
//! A refresh asks up to three nodes that are connected, at once; what most of them say holds, and of slots that
//! those leave out what anybody says. There is one refresh at a time, never two right after one another, and only
//! requests of slots that nobody serves wait for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    config::Backoff,
    connection::Own,
    engine::{
        Closing, ConnId, Engine, NodeId, Phase,
        trial::{Rare, Sabotage},
    },
    failure::Cause,
    resp::Reply,
    topology::{Asked, Layout, Said, Shard, parse_shards, parse_slots, ranges_of},
};

/// How it stands with asking.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    /// When the next one begins.
    pub(super) due: Option<Instant>,
    /// When the last one ended.
    pub(super) last: Option<Instant>,
    /// Who has still to answer.
    pub(super) asked: Vec<NodeId>,
    pub(super) answers: Vec<Said>,
    /// Others are asked then, if nobody has answered: those who were may be busy for long.
    pub(super) hedge: Option<Instant>,
    /// Who serves slots that others left out, and was not asked: he comes first the next time.
    pub(super) unheard: Vec<NodeId>,
    /// Until when those are waited for who have not answered, once one has.
    pub(super) until: Option<Instant>,
    /// There was a reason to ask since the present one began.
    pub(super) again: bool,
    /// How many in a row have left something to be desired.
    pub(super) unwell: u32,
    /// How many have ended with a map.
    pub(super) adopted: u64,
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

impl<W> Engine<W> {
    /// Somebody has seen a sign that the map is not right any more.
    pub(in super::super) fn want_refresh(&mut self) {
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
    pub(in super::super) fn ensure_map(&mut self) {
        self.begun = true;
        let Some(cluster) = &self.cluster else { return };
        let wanted = cluster.refresh.due.is_none() && cluster.refresh.asked.is_empty();
        let open = self.closing == Closing::Open && !self.is_isolated();
        if open && wanted {
            self.want_refresh();
            self.run_cluster(self.now.instant);
        }
    }

    pub(in super::super) fn run_cluster(&mut self, now: Instant) {
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

    pub(in super::super) fn on_topology(&mut self, conn: ConnId, reply: &Reply) {
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
                let signed_out =
                    matches!(&cause, Cause::Handshake(error) if error.code() == "NOAUTH");
                self.tell_error(node, cause.clone());
                if signed_out && self.has_served_for_long(node) {
                    // Where nothing else is sent, nobody would ever sign in again.
                    self.reached(Rare::HandshakeAnew);
                    self.retire(conn, cause);
                }
            }
        }
        if self.cluster.as_ref().is_some_and(|cluster| cluster.refresh.asked.is_empty()) {
            self.finish_refresh();
        }
    }

    /// Nobody is asked any more: what drives the client is gone, or it is being closed.
    pub(in super::super) fn forget_refresh(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            let Refresh { last, adopted, .. } = cluster.refresh;
            cluster.refresh = Refresh { last, adopted, ..Refresh::default() };
        }
    }

    /// One that was asked will not answer any more.
    pub(in super::super) fn topology_lost(&mut self, node: NodeId) {
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
            if owner != NodeId::HOME && self.nodes.is_usable(owner) {
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
}

fn is_unknown(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("unknown subcommand") || message.contains("unknown command")
}

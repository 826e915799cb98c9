//! What goes wrong in a cluster as such.

use std::time::Duration;

use unfazed_core::slot::slot;

use super::{
    Trick,
    changes::{Knows, Moving, Takeover, Turn},
    map::Role,
    plan::NEXT_PORT,
    wishes::TAGS,
};
use crate::{
    network::Weather,
    world::{Action, World},
};

/// How many kinds of it there are.
const KINDS: u64 = 13;

impl World {
    /// The node at which something goes wrong next; nothing where all are spared.
    pub(crate) fn pick_victim(&mut self) -> Option<usize> {
        if self.cluster.is_none() {
            return Some(0);
        }
        let all: Vec<usize> = (0..self.servers()).filter(|node| !self.is_spared(*node)).collect();
        let at = self.entropy.below(all.len() as u64) as usize;
        all.get(at).copied()
    }

    /// Something happens to the cluster as such, if this world is for it. Gives whether it may have.
    pub(crate) fn cluster_fault(&mut self) -> bool {
        let Some(plan) = &self.setup.cluster else { return false };
        let (faults, percent) = (plan.faults, plan.faults_percent);
        if !self.entropy.chance(percent) {
            return false;
        }
        let kind = self.entropy.below(KINDS);
        if faults >> kind & 1 == 1 {
            self.trouble(kind);
        }
        true
    }

    fn trouble(&mut self, kind: u64) {
        let span = self.entropy.millis(5, 800);
        let Some(victim) = self.pick_victim() else { return };
        match kind {
            0 | 1 => self.begin_to_move_a_slot(),
            2 | 3 => self.begin_to_move_slots(span / 4),
            4 => self.hand_over(Takeover::Planned, span / 4),
            5 => self.hand_over(Takeover::Forced, Duration::ZERO),
            6 => self.trick(victim, span),
            7 => {
                self.count("fault: a node takes the cluster for down");
                self.turn_to(victim);
                self.server.member.as_mut().expect("a member").down = true;
                self.look_for_waiting();
                self.at(span, Action::Cluster(Turn::Calm(victim)));
            }
            8 => self.tear_gap(span),
            9 => self.move_node(victim),
            10 => self.come_and_go(),
            11 => self.kill_all(span),
            _ => {
                self.count("fault: one node can't be reached");
                let cut_up = self.entropy.chance(70);
                let cut_down = !cut_up || self.entropy.chance(50);
                self.weather =
                    Weather { cut_up, cut_down, only: Some(victim), ..Weather::default() };
                self.undo_after(span, crate::chaos::Undo::Weather);
            }
        }
    }

    /// Two masters that may exchange slots: the first has some.
    fn pair(&mut self, from: Option<usize>) -> Option<(usize, usize)> {
        let truth = self.truth();
        let free = |node: &usize| !self.is_spared(*node);
        let owners: Vec<usize> = truth.owners().into_iter().filter(free).collect();
        let masters: Vec<usize> = truth.masters().into_iter().filter(free).collect();
        let at = self.entropy.below(owners.len() as u64) as usize;
        let from = from.or_else(|| owners.get(at).copied())?;
        let to = masters[self.entropy.below(masters.len() as u64) as usize];
        self.may_exchange(from, to).then_some((from, to))
    }

    fn begin_to_move_a_slot(&mut self) {
        let tag = self.entropy.pick(&TAGS);
        let slot = slot(tag.as_bytes());
        let owner = self.truth().owner(slot).filter(|owner| !self.is_spared(*owner));
        let Some(owner) = owner.filter(|_| self.moving().is_none()) else { return };
        let Some((from, to)) = self.pair(Some(owner)) else { return };
        self.count("fault: a slot goes over key by key");
        self.begin_moving(Moving { slot, from, to });
    }

    fn begin_to_move_slots(&mut self, pause: Duration) {
        let Some((from, to)) = self.pair(None) else { return };
        let ranges = self.truth().ranges();
        let owned: Vec<_> = ranges.into_iter().filter(|(.., owner)| *owner == from).collect();
        let (first, last, _) = owned[self.entropy.below(owned.len() as u64) as usize];
        let moving = self.moving().is_some_and(|it| (first..=last).contains(&it.slot));
        if moving {
            return;
        }
        self.count("fault: slots go over at one stroke");
        self.turn_to(from);
        self.server.paused = true;
        self.at(pause, Action::Cluster(Turn::MoveSlots { first, last, from, to }));
    }

    fn hand_over(&mut self, how: Takeover, pause: Duration) {
        let masters = self.truth().masters();
        let able = |node: &usize| !self.is_spared(*node) && self.heir_of(*node).is_some();
        let able: Vec<usize> = masters.into_iter().filter(able).collect();
        let at = self.entropy.below(able.len() as u64) as usize;
        let Some(master) = able.get(at).copied() else { return };
        self.turn_to(master);
        self.server.paused |= how == Takeover::Planned;
        self.at(pause, Action::Cluster(Turn::FailOver { master, how }));
    }

    fn trick(&mut self, victim: usize, span: Duration) {
        let other = self.entropy.below(self.servers() as u64) as usize;
        let (what, trick) = match self.entropy.below(5) {
            0 => ("fault: MOVED to itself", Trick::ToItself),
            1 => ("fault: MOVED in circles", Trick::To(other)),
            2 => ("fault: MOVED nobody knows where", Trick::Nowhere),
            3 => ("fault: MOVED to where nobody is", Trick::Astray),
            _ => ("fault: a script says MOVED", Trick::Forged),
        };
        // Nobody is sent to the shard with which all is well to be sent on from there for ever.
        if trick == Trick::To(other) && (self.is_spared(other) || other == victim) {
            return;
        }
        self.count(what);
        if trick == Trick::Forged {
            // It is the script that is so, wherever it runs.
            for node in
                (0..self.servers()).filter(|node| !self.is_spared(*node)).collect::<Vec<_>>()
            {
                self.turn_to(node);
                self.server.member.as_mut().expect("a member").trick = Some(trick);
                self.at(span * 2, Action::Cluster(Turn::Calm(node)));
            }
            return;
        }
        self.turn_to(victim);
        self.server.member.as_mut().expect("a member").trick = Some(trick);
        if let Trick::To(other) = trick {
            self.turn_to(other);
            self.server.member.as_mut().expect("a member").trick = Some(Trick::To(victim));
            self.at(span, Action::Cluster(Turn::Calm(other)));
        }
        self.at(span, Action::Cluster(Turn::Calm(victim)));
    }

    /// Nobody serves some slots for a while.
    fn tear_gap(&mut self, span: Duration) {
        let Some((from, _)) = self.pair(None) else { return };
        let busy = self.cluster.as_ref().is_some_and(|cluster| cluster.gap.is_some());
        let ranges = self.truth().ranges();
        let owned: Vec<_> = ranges.into_iter().filter(|(.., owner)| *owner == from).collect();
        let (first, last, owner) = owned[self.entropy.below(owned.len() as u64) as usize];
        if busy || self.moving().is_some() {
            return;
        }
        self.count("fault: nobody serves some slots");
        self.cluster.as_mut().expect("it is one").gap = Some((first, last, owner));
        self.change(Knows::One(owner), |map| map.give(first, last, None));
        self.at(span, Action::Cluster(Turn::FillGap));
    }

    /// A node goes on at another address. One that every client begins with stays.
    fn move_node(&mut self, node: usize) {
        let next = self.truth().ports[node] + NEXT_PORT;
        if node == 0 || next >= 7_100 || !self.server_at(node).up {
            return;
        }
        self.count("fault: a node has another address");
        self.turn_to(node);
        self.cut_all(false);
        self.change(Knows::One(node), |map| map.ports[node] = next);
    }

    /// A master gives all its slots away, or one without slots leaves, or joins.
    fn come_and_go(&mut self) {
        let truth = self.truth();
        let idle = |node: &usize| {
            let serves = truth.owners().contains(node) || *node == 0 || self.is_spared(*node);
            let role = truth.roles[*node];
            !serves
                && matches!(role, Role::Master | Role::Stranger)
                && truth.replicas_of(*node).is_empty()
        };
        let idle = (0..self.servers()).find(idle);
        let gap = self.cluster.as_ref().is_some_and(|cluster| cluster.gap.is_some());
        match idle.filter(|_| !gap && self.moving().is_none() && self.entropy.chance(50)) {
            Some(node) if truth.roles[node] == Role::Master => {
                self.count("fault: a node leaves");
                self.change(Knows::One(node), |map| map.roles[node] = Role::Stranger);
            }
            Some(node) => {
                self.count("fault: a node joins");
                self.change(Knows::One(node), |map| map.roles[node] = Role::Master);
            }
            None => {
                let Some((from, to)) = self.pair(None) else { return };
                self.count("fault: a master gives all its slots away");
                self.at(Duration::ZERO, Action::Cluster(Turn::Empty { from, to }));
            }
        }
    }

    /// All nodes go down at once.
    fn kill_all(&mut self, span: Duration) {
        self.count("fault: all nodes are killed");
        for node in 0..self.servers() {
            if !self.is_spared(node) && self.server_at(node).up {
                self.turn_to(node);
                self.kill(span);
            }
        }
    }

    /// A master is dead: if it has a replica and does not come back in time, that takes over.
    pub(crate) fn mourn(&mut self, node: usize) {
        if self.cluster.is_none() || self.truth().roles[node] != Role::Master {
            return;
        }
        let delay = self.node_timeout();
        let how = Takeover::Elected;
        self.at(delay, Action::Cluster(Turn::FailOver { master: node, how }));
    }
}

//! Slots and masters change, and each node learns of it at its own time.

use std::{rc::Rc, time::Duration};

use unfazed_core::slot::slot;

use super::{
    Put,
    map::{Map, Role},
};
use crate::{
    mutants::Mutant,
    network::Link,
    server::{KEYS, Origin},
    world::{Action, World},
};

/// A slot that changes hands key by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) slot: u16,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Who knows of a change at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knows {
    All,
    One(usize),
    Both(usize, usize),
}

/// What happens in a cluster by itself, at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// A node hears how things are.
    Learn(usize),
    /// The next key of the slot that changes hands goes over.
    MoveKey,
    /// Slots go over at one stroke, after the pause of their master.
    MoveSlots { first: u16, last: u16, from: usize, to: usize },
    /// All that a master has goes to another.
    Empty { from: usize, to: usize },
    /// A master's replica takes over: because it is dead, because it was told to, or although nobody asked
    /// the master.
    FailOver { master: usize, how: Takeover },
    /// Slots that nobody serves have their master again.
    FillGap,
    /// A node's redirects are right again, and it takes the cluster for well.
    Calm(usize),
    /// The other nodes hear of what was published at one.
    Hear { from: usize, channel: &'static str },
}

/// How a replica takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// Its master is dead, if it still is.
    Elected,
    /// Its master has waited for it, and nothing is lost.
    Planned,
    /// Its master was not asked, and goes on until it learns of it.
    Forced,
}

impl World {
    pub(crate) fn truth(&self) -> Rc<Map> {
        let cluster = self.cluster.as_ref().expect("only asked in clusters");
        Rc::clone(&cluster.truth)
    }

    pub(crate) fn turn(&mut self, turn: Turn) {
        if self.cluster.is_none() {
            return;
        }
        self.trace(format_args!("cluster: {turn:?}"));
        match turn {
            Turn::Learn(node) => self.node_learns(node),
            Turn::MoveKey => self.move_key(),
            Turn::MoveSlots { first, last, from, to } => self.move_slots(first, last, from, to),
            Turn::Empty { from, to } => self.move_all(from, to),
            Turn::FailOver { master, how } => self.fail_over(master, how),
            Turn::FillGap => self.fill_gap(),
            Turn::Calm(node) => self.calm(node),
            Turn::Hear { from, channel } => self.hear_from(from, channel),
        }
    }

    /// The truth changes.
    pub(crate) fn change(&mut self, knows: Knows, change: impl FnOnce(&mut Map)) {
        let mut truth = (*self.truth()).clone();
        change(&mut truth);
        self.cluster.as_mut().expect("it is one").truth = Rc::new(truth);
        let plan = self.setup.cluster.as_ref().expect("it is one");
        let gossip = plan.gossip_millis;
        for node in 0..self.servers() {
            let at_once = match knows {
                Knows::All => true,
                Knows::One(one) => node == one,
                Knows::Both(one, other) => node == one || node == other,
            };
            if at_once || self.healed {
                self.node_learns(node);
            } else {
                let delay = self.entropy.millis(0, gossip);
                self.at(delay, Action::Cluster(Turn::Learn(node)));
            }
        }
    }

    /// A node hears how things are: a master that was overruled loses what it took since.
    pub(crate) fn node_learns(&mut self, node: usize) {
        let truth = self.truth();
        if !self.server_at(node).up {
            return;
        }
        self.turn_to(node);
        let member = self.server.member.as_mut().expect("it belongs to a cluster");
        let before = std::mem::replace(&mut member.map, Rc::clone(&truth));
        let was = before.roles[node];
        member.migrating.retain(|slot, _| truth.owner(*slot) == Some(node));
        member.importing.retain(|slot, _| truth.owner(*slot) != Some(node));
        self.lose_channels();
        let member = self.server.member.as_mut().expect("it belongs to a cluster");
        if let Role::Replica(master) = truth.roles[node]
            && was != truth.roles[node]
        {
            if was == Role::Master {
                let log = std::mem::take(&mut member.log);
                (member.migrating, member.importing) = Default::default();
                self.lose(&log, "writes to a master that was overruled");
                self.demote();
            }
            return self.follow(node, master);
        }
        self.look_for_waiting();
    }

    /// A replica has all that its master has.
    fn follow(&mut self, replica: usize, master: usize) {
        self.turn_to(replica);
        let mut server = std::mem::take(&mut self.server);
        {
            let from = self.server_at(master);
            server.copy_data(from);
            server.history = from.history;
        }
        self.server = server;
        self.turn_to(master);
        self.server.member.as_mut().expect("it belongs to a cluster").log.clear();
    }

    /// Writes are lost, and it is written down which.
    fn lose(&mut self, log: &[Put], what: &'static str) {
        if log.is_empty() {
            return;
        }
        self.count(what);
        let seq = self.seq;
        self.trace(format_args!("lost: {:?}", log.iter().map(|put| &put.key).collect::<Vec<_>>()));
        for put in log.iter().filter(|_| self.mutant != Some(Mutant::ForgetTail)) {
            self.oracle.lost.insert(put.key.clone(), seq);
        }
    }

    /// A node's process was started anew.
    pub(crate) fn restarted(&mut self, node: usize, origin: Origin) {
        if self.cluster.is_none() {
            return;
        }
        let truth = self.truth();
        match truth.roles[node] {
            Role::Master if origin == Origin::Empty => {
                for replica in truth.replicas_of(node) {
                    self.follow(replica, node);
                }
            }
            Role::Replica(master) if origin == Origin::Empty => self.follow(node, master),
            _ => {}
        }
        let delay = self.entropy.millis(0, 50);
        self.at(delay, Action::Cluster(Turn::Learn(node)));
        self.turn_to(node);
    }

    /// A replica that knows its master, follows it, and is up.
    pub(crate) fn heir_of(&self, master: usize) -> Option<usize> {
        let truth = self.truth();
        truth.replicas_of(master).into_iter().find(|replica| {
            let server = self.server_at(*replica);
            let sees = server.member.as_ref().map(|member| member.map.roles[*replica]);
            server.up && sees == Some(Role::Replica(master))
        })
    }

    fn fail_over(&mut self, master: usize, how: Takeover) {
        let dead = !self.server_at(master).up;
        self.turn_to(master);
        if how == Takeover::Planned {
            self.server.paused = false;
        }
        let heir = self.heir_of(master);
        let is_master = self.truth().roles[master] == Role::Master;
        let Some(heir) = heir.filter(|_| is_master && (how == Takeover::Elected) == dead) else {
            return self.wake_links(master);
        };
        self.abort_moving(master);
        self.turn_to(master);
        let log = std::mem::take(&mut self.server.member.as_mut().expect("a member").log);
        let behind = match how {
            Takeover::Planned => 0,
            _ => self.setup.cluster.as_ref().map_or(0, |plan| plan.lag_millis),
        };
        let until = self.when().unix.saturating_sub(behind);
        // What is always there has been replicated.
        let stays = |key: &str| KEYS.contains(&key);
        let (known, mut lost): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|put| behind == 0 || put.unix < until || stays(&put.key));
        // What has gone to another master before is there, and not lost here.
        let truth = self.truth();
        let elsewhere =
            |key: &str| truth.owner(slot(key.as_bytes())).is_some_and(|owner| owner != master);
        lost.retain(|put| !elsewhere(&put.key));
        self.count(match how {
            Takeover::Elected => "fault: failover after a death",
            Takeover::Planned => "fault: failover that was planned",
            Takeover::Forced => "fault: failover that was forced",
        });
        self.lose(&lost, "writes that had not been replicated");
        self.turn_to(heir);
        for put in known {
            self.server.put(&put.key, put.state);
        }
        // Nor does the heir keep it where it has not heard yet that it is gone: such a key would be back, as
        // old as it is, once its slot is.
        for key in self.server.keys() {
            if elsewhere(&key) {
                self.server.put(&key, None);
            }
        }
        self.server.promoted = true;
        self.oracle.two_masters |= !dead;
        let knows = match how {
            Takeover::Planned if self.entropy.chance(70) => Knows::Both(master, heir),
            _ => Knows::One(heir),
        };
        self.change(knows, |map| {
            map.give_all(master, heir);
            map.roles[heir] = Role::Master;
            map.roles[master] = Role::Replica(heir);
        });
        if let Some(gap) = self.cluster.as_mut().and_then(|cluster| cluster.gap.as_mut())
            && gap.2 == master
        {
            gap.2 = heir;
        }
        self.wake_links(master);
    }

    // ---- slots ---------------------------------------------------------------------------------

    /// Whether two masters can exchange slots now.
    pub(crate) fn may_exchange(&self, from: usize, to: usize) -> bool {
        let truth = self.truth();
        let masters = [from, to].iter().all(|node| {
            let server = self.server_at(*node);
            let sees = server.member.as_ref().map(|member| member.map.roles[*node]);
            server.up && truth.roles[*node] == Role::Master && sees == Some(Role::Master)
        });
        masters && from != to
    }

    /// Whoever has nodes exchange slots sees to it that both know how things are. One that has never heard that
    /// it gave a slot away would otherwise have it back, and go on giving it away for ever.
    fn inform(&mut self, from: usize, to: usize) {
        for node in [from, to] {
            self.node_learns(node);
        }
    }

    pub(crate) fn begin_moving(&mut self, moving: Moving) {
        let Moving { slot, from, to } = moving;
        self.inform(from, to);
        self.turn_to(to);
        self.server.member.as_mut().expect("a member").importing.insert(slot, from);
        self.turn_to(from);
        self.server.member.as_mut().expect("a member").migrating.insert(slot, to);
        self.cluster.as_mut().expect("it is one").moving = Some(moving);
        let delay = self.entropy.millis(0, 20);
        self.at(delay, Action::Cluster(Turn::MoveKey));
    }

    fn move_key(&mut self) {
        let Some(Moving { slot, from, to }) = self.moving() else { return };
        if !self.may_exchange(from, to) {
            return self.abort_moving(from);
        }
        if let Some(key) = self.keys_in(from, slot, slot).into_iter().next() {
            self.carry(&key, from, to);
            let delay = self.entropy.millis(0, 30);
            return self.at(delay, Action::Cluster(Turn::MoveKey));
        }
        self.cluster.as_mut().expect("it is one").moving = None;
        // The new owner is told first. The old one sends clients there with ASK until it knows.
        self.change(Knows::One(to), |map| map.hand_over(slot, slot, to));
        self.count("a slot has gone over key by key");
    }

    pub(crate) fn moving(&self) -> Option<Moving> {
        self.cluster.as_ref()?.moving
    }

    fn end_moving(&mut self) {
        let cluster = self.cluster.as_mut().expect("it is one");
        let Some(Moving { slot, from, to }) = cluster.moving.take() else { return };
        for node in [from, to] {
            self.turn_to(node);
            let member = self.server.member.as_mut().expect("a member");
            member.migrating.remove(&slot);
            member.importing.remove(&slot);
        }
    }

    /// A slot that was about to change hands does not, if this node is concerned: its keys go back.
    pub(crate) fn abort_moving(&mut self, node: usize) {
        let Some(Moving { slot, from, to }) = self.moving() else { return };
        if node != from && node != to {
            return;
        }
        self.count("a slot stays where it was after all");
        for key in self.keys_in(to, slot, slot) {
            self.carry(&key, to, from);
            self.oracle.moved_back = self.seq;
        }
        self.end_moving();
    }

    fn keys_in(&self, node: usize, first: u16, last: u16) -> Vec<String> {
        let all = self.server_at(node).keys().into_iter();
        let here = |key: &String| (first..=last).contains(&slot(key.as_bytes()));
        all.filter(here).collect()
    }

    /// One key goes from one master to another.
    fn carry(&mut self, key: &str, from: usize, to: usize) {
        let unix = self.when().unix;
        self.turn_to(from);
        let state = self.server.entry(key).cloned();
        self.server.put(key, None);
        self.server.log_put(Put { unix, key: key.to_owned(), state: None });
        self.turn_to(to);
        self.server.put(key, state.clone());
        self.server.log_put(Put { unix, key: key.to_owned(), state });
        self.serve_waiting();
    }

    fn move_slots(&mut self, first: u16, last: u16, from: usize, to: usize) {
        self.turn_to(from);
        self.server.paused = false;
        let truth = self.truth();
        let owned = (first..=last).all(|slot| truth.owner(slot) == Some(from));
        if owned && self.may_exchange(from, to) {
            // One of them may have begun to go elsewhere during the pause: it goes with the others.
            if self.moving().is_some_and(|it| (first..=last).contains(&it.slot)) {
                self.abort_moving(from);
            }
            self.inform(from, to);
            for key in self.keys_in(from, first, last) {
                self.carry(&key, from, to);
            }
            // Who gives slots away knows it. Who gets them may hear of it later than clients.
            let both = self.entropy.chance(50);
            let knows = if both { Knows::Both(from, to) } else { Knows::One(from) };
            self.count("slots have gone over at one stroke");
            self.change(knows, |map| map.hand_over(first, last, to));
        }
        self.wake_links(from);
    }

    fn move_all(&mut self, from: usize, to: usize) {
        if !self.may_exchange(from, to) || self.moving().is_some() {
            return;
        }
        let ranges = self.truth().ranges();
        for (first, last, _) in ranges.into_iter().filter(|(.., owner)| *owner == from) {
            self.move_slots(first, last, from, to);
        }
    }

    fn fill_gap(&mut self) {
        let cluster = self.cluster.as_mut().expect("it is one");
        let Some((first, last, owner)) = cluster.gap.take() else { return };
        self.change(Knows::All, |map| map.give(first, last, Some(owner)));
    }

    fn calm(&mut self, node: usize) {
        self.turn_to(node);
        let member = self.server.member.as_mut().expect("a member");
        (member.trick, member.down) = (None, false);
    }

    /// A server reads again what has come meanwhile.
    pub(crate) fn wake_links(&mut self, node: usize) {
        let waits = |link: &&mut Link| link.at == node && !link.up_due && !link.up.is_empty();
        let mut woken = Vec::new();
        for (id, link) in &mut self.links {
            if waits(&link) {
                link.up_due = true;
                woken.push(*id);
            }
        }
        for id in woken {
            let delay = self.entropy.micros(0, 1_000);
            self.at(delay, Action::Up(id));
        }
    }

    /// Everything is put right: nobody is down, and everybody knows the truth.
    pub(crate) fn heal_cluster(&mut self) {
        let Some(Moving { from, .. }) = self.moving() else { return self.all_know() };
        self.abort_moving(from);
        self.all_know();
    }

    fn all_know(&mut self) {
        if self.cluster.is_none() {
            return;
        }
        self.fill_gap();
        for node in 0..self.servers() {
            self.calm(node);
        }
        // Masters first: replicas take over what these have.
        for pass in [Role::Master, Role::Stranger] {
            for node in 0..self.servers() {
                let is_master = self.truth().roles[node] == Role::Master;
                if is_master == (pass == Role::Master) {
                    self.node_learns(node);
                }
            }
        }
    }

    /// Some time that passes before nodes take a master for dead.
    pub(crate) fn node_timeout(&mut self) -> Duration {
        self.entropy.millis(50, 1_500)
    }
}

//! MOVED and ASK: a command goes to another node, and what came after it for its slot does not overtake it.
//!
//! ```text
//!   from this node:   MOVED  MOVED  (a third is owed)           newer commands of the slot
//!                       │      │                                  │
//!   detour of the slot: [ bounced, in order ........... ] [ newer, in order ]
//!                       └── when nothing of the slot is owed any more, and where it leads is known:
//!                           all of it to the node that serves the slot now
//! ```
//!
//! A node may owe something of the slot on a connection that takes no more as well as on the one that does,
//! several nodes may redirect, and more of it may wait for connections to any of them. What comes together in
//! a detour goes on in the order in which it was submitted.
//!
//! A slot may also get another owner with nobody redirected, by a new map: where another node still owes
//! something of it, a detour begins as well, since that may be redirected yet, or lost and sent again.
//!
//! A redirect is believed where the map names the node that it leads to: no other is shown credentials.
//! Else, and always where a script gave it, which can answer with any text, a refresh has to say the same
//! first: of a script's, that the slot is just where it said.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    ConnId, Engine, NodeId, Parked,
    classify::Class,
    trial::{Rare, Sabotage},
};
use crate::{
    config::Endpoint,
    connection::{Op, Own},
    failure::{Cause, Executed},
    reply::ServerError,
    slot::SLOTS,
    topology::{Asked, Redirect, RedirectKind},
};

/// The first wait of a command that was redirected more than once: while a slot changes hands its nodes
/// may disagree for a moment.
const REDIRECT_BASE: Duration = Duration::from_millis(2);

/// What that wait doubles up to.
const REDIRECT_MAX: Duration = Duration::from_millis(256);

/// The slots of which commands were redirected and have not gone on yet.
#[derive(Debug, Default)]
pub(super) struct Detours(BTreeMap<u16, Detour>);

#[derive(Debug, Default)]
struct Detour {
    /// The nodes that redirected, or served the slot before, which may still owe others of it.
    from: BTreeSet<NodeId>,
    bounced: Vec<Bounced>,
    newer: Vec<Parked>,
}

#[derive(Debug)]
struct Bounced {
    parked: Parked,
    /// Who redirected it.
    by: NodeId,
    to: To,
    /// Not before.
    due: Instant,
}

/// Where a redirect leads.
#[derive(Debug)]
pub(super) enum To {
    /// Whoever serves the slot.
    Owner,
    /// Whoever serves it once more refreshes than these have ended.
    OwnerAfter(u64),
    /// The same, if that is where the redirect led: else it was a script's own words.
    ThereAfter(u64, Option<Endpoint>, ServerError),
    /// This node, after ASKING.
    Ask(NodeId),
}

/// How long a command waits that was redirected so many times.
pub(super) fn redirect_delay(times: u8) -> Duration {
    match times {
        0 | 1 => Duration::ZERO,
        times => (REDIRECT_BASE * 2u32.pow(u32::from(times - 2).min(10))).min(REDIRECT_MAX),
    }
}

impl Detours {
    #[inline]
    pub(super) fn concern(&self, slot: u16) -> bool {
        !self.0.is_empty() && self.0.contains_key(&slot)
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(|detour| detour.bounced.len() + detour.newer.len()).sum()
    }

    /// When the first of them can go on for all that time has to say.
    pub(super) fn due(&self) -> Option<Instant> {
        let latest = |detour: &Detour| detour.bounced.iter().map(|bounced| bounced.due).max();
        self.0.values().filter_map(latest).min()
    }

    /// Takes those out for which `gone` holds.
    pub(super) fn take(&mut self, gone: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let mut taken = Vec::new();
        for detour in self.0.values_mut() {
            for mut bounced in detour.bounced.extract_if(.., |bounced| gone(&bounced.parked)) {
                // Nobody knows yet whether it was the server that redirected, or a script that ran.
                bounced.parked.op.maybe |= matches!(bounced.to, To::ThereAfter(..));
                taken.push(bounced.parked);
            }
            taken.extend(detour.newer.extract_if(.., |parked| gone(parked)));
        }
        taken
    }
}

impl<W> Engine<W> {
    /// Whether a refusal redirects, and is to be followed.
    pub(super) fn is_redirect(&self, error: &ServerError) -> bool {
        self.cluster.is_some() && Redirect::is_one(error)
    }

    /// The server has redirected a command, or a script says so.
    pub(super) fn on_redirect(
        &mut self,
        conn: ConnId,
        mut op: Op,
        error: ServerError,
        class: Class,
        start: u64,
        end: u64,
    ) {
        let executed = match class {
            Class::Told(executed) => executed,
            _ => Executed::No,
        };
        if let Some(lease) = self.held_lease(&op) {
            return self.lose_slot(lease, conn, &op, &error, executed);
        }
        self.tickets.note_strayed(op.ticket);
        if !self.may_follow(conn, &mut op, &error) || !self.lease_lets_go(&op) {
            return self.end_with_error(&op, error, executed);
        }
        op.attempts = op.attempts.saturating_sub(1);
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        match connection.log.copy(start, end) {
            Some(bytes) => {
                let bytes = bytes.to_vec();
                self.detour(conn, op, bytes, error);
            }
            None => {
                connection.refused.push((op, start, end, error, Duration::ZERO));
                self.reached(Rare::MovedWhileWriting);
            }
        }
    }

    /// Whether a command may be redirected once more.
    pub(super) fn may_follow(&mut self, conn: ConnId, op: &mut Op, error: &ServerError) -> bool {
        op.redirects = op.redirects.saturating_add(1);
        let may_go = u32::from(op.redirects) <= self.config.retry.redirects_max;
        if !may_go {
            self.reached(Rare::MovedTooOften);
        }
        may_go && self.read_redirect(conn, error).is_some() && self.tickets.wants(op.ticket)
    }

    /// What a redirect says, in the eyes of the node that gave it.
    pub(super) fn read_redirect(&self, conn: ConnId, error: &ServerError) -> Option<Redirect> {
        let node = self.node_of(conn)?;
        let at = self.nodes[node].endpoint.as_ref()?;
        let (map, tls) = (&self.config.address_map, self.config.tls);
        Redirect::read(error, &Asked { at, map, tls })
    }

    /// Lets a command that was redirected go on, as soon as it may.
    pub(super) fn detour(&mut self, conn: ConnId, op: Op, bytes: Vec<u8>, error: ServerError) {
        if let Some(of) = self.tickets.of_lease(op.ticket) {
            let cause = Some(Cause::NotReady(error.clone()));
            return self.go_away(of.lease, conn, Parked { op, bytes, cause }, &error);
        }
        let (Some(node), Some(redirect)) = (self.node_of(conn), self.read_redirect(conn, &error))
        else {
            return self.end_with_error(&op, error, Executed::No);
        };
        let slot = if op.slot < SLOTS { op.slot } else { redirect.slot };
        let to = self.follow(conn, node, &op, slot, redirect, &error);
        if op.redirects > 1 {
            self.reached(Rare::MovedAgain);
        }
        let due = self.now.instant + redirect_delay(op.redirects);
        let parked = Parked { op, bytes, cause: Some(Cause::NotReady(error)) };
        let Some(detour) = self.detour_of(slot) else { return };
        detour.from.insert(node);
        detour.bounced.push(Bounced { parked, by: node, to, due });
        self.stirred = true;
    }

    /// The detour of a slot, which begins if there is none. Whatever others of the slot wait for, nobody may
    /// overtake them.
    fn detour_of(&mut self, slot: u16) -> Option<&mut Detour> {
        let cluster = self.cluster.as_mut()?;
        let begins = !cluster.detours.concern(slot);
        let detour = cluster.detours.0.entry(slot).or_default();
        if begins {
            for (_, node) in self.nodes.iter_mut() {
                let backlog = std::mem::take(&mut node.backlog);
                let of = |parked: &Parked| parked.op.slot == slot;
                let (waiting, others): (Vec<_>, Vec<_>) = backlog.into_iter().partition(of);
                node.backlog = others.into();
                detour.newer.extend(waiting);
            }
        }
        Some(detour)
    }

    /// Some slots have another owner than before. What other nodes still owe of them is older than all that
    /// comes now, and goes before it.
    pub(super) fn stay_behind_former(&mut self, moved: impl Fn(u16) -> bool) {
        let Some(cluster) = &self.cluster else { return };
        if self.trial.is(Sabotage::OvertakeRedirected) {
            return;
        }
        let mut owed = BTreeSet::new();
        for (_, connection) in self.connections.iter().filter(|(_, found)| found.is_main()) {
            let node = connection.node;
            let of = |slot: &u16| *slot < SLOTS && moved(*slot) && cluster.owner(*slot) != node;
            owed.extend(connection.slots_owed().filter(of).map(|slot| (slot, node)));
        }
        for (slot, node) in owed {
            self.reached(Rare::OwedByFormer);
            if let Some(detour) = self.detour_of(slot) {
                detour.from.insert(node);
            }
        }
    }

    /// A slot has another owner than before. What still waits for a connection to a former one goes on to
    /// that, before all that comes now.
    pub(super) fn take_along(&mut self, slot: u16) {
        let of = |parked: &Parked| parked.op.slot == slot;
        let waits = self.nodes.iter().any(|(_, node)| node.backlog.iter().any(of));
        if waits && !self.trial.is(Sabotage::OvertakeRedirected) {
            self.detour_of(slot);
            self.stirred = true;
        }
    }

    /// Takes in what a redirect says of the map; gives where it leads.
    pub(super) fn follow(
        &mut self,
        conn: ConnId,
        node: NodeId,
        op: &Op,
        slot: u16,
        redirect: Redirect,
        error: &ServerError,
    ) -> To {
        let Some(cluster) = &self.cluster else { return To::Owner };
        let adopted = cluster.adopted();
        let itself = redirect.to.is_some() && redirect.to == self.nodes[node].endpoint;
        let believes_scripts = self.trial.is(Sabotage::BelieveScripts);
        if op.spec.is_script() && !believes_scripts {
            self.want_refresh();
            let to = redirect.to.filter(|_| redirect.slot == slot && !itself);
            return To::ThereAfter(adopted, to, error.clone());
        }
        if itself {
            // It does not know itself under this connection: another one first, then the map.
            self.reached(Rare::MovedToItself);
            self.want_refresh();
            self.retire(conn, Cause::NotReady(error.clone()));
            return To::Owner;
        }
        let anywhere = self.trial.is(Sabotage::FollowAnywhere);
        let Some(to) = redirect.to.filter(|to| anywhere || cluster.names(to)) else {
            self.reached(Rare::MovedAstray);
            self.want_refresh();
            return To::OwnerAfter(adopted);
        };
        let target = self.node_at(&to);
        self.nodes[target].named_at = Some(self.now.instant);
        self.ensure_dial(target);
        match redirect.kind {
            RedirectKind::Ask => To::Ask(target),
            RedirectKind::Moved => {
                self.reached(Rare::Moved);
                self.give_slot(slot, target);
                self.want_refresh();
                To::Owner
            }
        }
    }

    /// Lets a command wait behind those of its slot that were redirected; gives it back where there are
    /// none.
    pub(super) fn wait_behind_detour(&mut self, parked: Parked) -> Option<Parked> {
        let Some(cluster) = &mut self.cluster else { return Some(parked) };
        let overtakes = self.trial.is(Sabotage::OvertakeRedirected);
        match cluster.detours.0.get_mut(&parked.op.slot).filter(|_| !overtakes) {
            Some(detour) => {
                self.trial.reached(Rare::BehindDetour);
                self.tickets.note_strayed(parked.op.ticket);
                detour.newer.push(parked);
                None
            }
            None => Some(parked),
        }
    }

    /// What was owed by a connection and is lost goes on with those of its slot that were redirected. Gives it
    /// back where there are none.
    fn lost_in_detour(&mut self, parked: Parked) -> Option<Parked> {
        let now = self.now.instant;
        let Some(cluster) = &mut self.cluster else { return Some(parked) };
        match cluster.detours.0.get_mut(&parked.op.slot) {
            Some(detour) => {
                self.trial.reached(Rare::LostInDetour);
                let (by, to) = (NodeId::HOME, To::Owner);
                detour.bounced.push(Bounced { parked, by, to, due: now });
                None
            }
            None => Some(parked),
        }
    }

    /// The same for all that was owed by one; gives back what belongs to no detour.
    pub(super) fn go_behind_detours(&mut self, back: Vec<Parked>) -> Vec<Parked> {
        if self.cluster.is_none() {
            return back;
        }
        back.into_iter().filter_map(|parked| self.lost_in_detour(parked)).collect()
    }

    /// An answer for which the map may be to blame.
    pub(super) fn suspect_map(&mut self, error: &ServerError) {
        if error.code() == "CLUSTERDOWN" {
            self.want_refresh();
        }
    }

    /// Lets those go on that can.
    pub(super) fn settle_detours(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.detours.0.is_empty() {
            return;
        }
        let slots: Vec<u16> = cluster.detours.0.keys().copied().collect();
        let mut any = false;
        for slot in slots {
            if !self.is_passable(slot) {
                continue;
            }
            let Some(cluster) = &mut self.cluster else { return };
            let Some(detour) = cluster.detours.0.remove(&slot) else { continue };
            any = true;
            let leads = |bounced: Bounced| {
                let to = if self.is_past(slot, &bounced) { To::Owner } else { bounced.to };
                (bounced.parked, to)
            };
            let bounced: Vec<_> = detour.bounced.into_iter().map(leads).collect();
            let newer = detour.newer.into_iter().map(|parked| (parked, To::Owner));
            let mut all: Vec<_> = bounced.into_iter().chain(newer).collect();
            all.sort_by_key(|(parked, _)| self.tickets.age_of(&parked.op));
            // Whether an older one goes to whoever has the slot, and may be sent on from there.
            let mut behind = false;
            for (parked, to) in all {
                let to = match to {
                    // It would overtake that one at the node that it was to ask.
                    To::Ask(_) if behind => To::Owner,
                    to => to,
                };
                behind |= self.go_on(slot, parked, to);
            }
        }
        if any {
            self.announce();
        }
    }

    fn is_passable(&self, slot: u16) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let Some(detour) = cluster.detours.0.get(&slot) else { return false };
        let now = self.now.instant;
        let ready = |bounced: &Bounced| {
            bounced.due <= now && (self.is_past(slot, bounced) || self.is_known(&bounced.to))
        };
        let mut shared = self.connections.iter().map(|(_, connection)| connection);
        let owed = shared.any(|connection| {
            connection.is_main()
                && detour.from.contains(&connection.node)
                && connection.owes_for(slot)
        });
        !owed && detour.bounced.iter().all(ready)
    }

    /// Whether a slot has another owner by now than the node that has said ASK. That node's word is past, and
    /// what comes later for the slot goes to its owner.
    fn is_past(&self, slot: u16, bounced: &Bounced) -> bool {
        let owner = self.cluster.as_ref().map(|cluster| cluster.owner(slot));
        matches!(bounced.to, To::Ask(_)) && owner != Some(bounced.by)
    }

    /// Whether it is known where a redirect leads, and it can be gone there or has to be gone elsewhere.
    pub(super) fn is_known(&self, to: &To) -> bool {
        match to {
            To::Owner => true,
            To::OwnerAfter(before) | To::ThereAfter(before, ..) => {
                self.cluster.as_ref().is_some_and(|cluster| cluster.adopted() > *before)
            }
            To::Ask(node) => {
                !self.nodes.contains(*node)
                    || self.nodes[*node].conn.is_some()
                    || self.nodes[*node].phase.is_down()
            }
        }
    }

    /// Whether the map has a slot at just this address.
    pub(super) fn is_served_at(&self, slot: u16, endpoint: Option<&Endpoint>) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        endpoint.is_some() && self.nodes[cluster.owner(slot)].endpoint.as_ref() == endpoint
    }

    /// Lets one go on; gives whether it goes to whoever serves the slot.
    fn go_on(&mut self, slot: u16, parked: Parked, to: To) -> bool {
        let wanted = self.tickets.wants(parked.op.ticket);
        match to {
            To::Owner | To::OwnerAfter(_) => {
                self.place(parked);
                wanted
            }
            To::ThereAfter(_, to, error) => {
                if self.is_served_at(slot, to.as_ref()) {
                    self.reached(Rare::ScriptMoved);
                    self.place(parked);
                    return wanted;
                }
                self.reached(Rare::ScriptMadeItUp);
                if wanted {
                    self.taint(&parked.op);
                    self.end_with_error(&parked.op, error, Executed::Maybe);
                } else {
                    self.give_up(&parked.op);
                }
                false
            }
            To::Ask(node) => {
                let conn = self.nodes.contains(node).then(|| self.nodes[node].conn).flatten();
                // Nothing may come between ASKING and what it is for, so that has to go out.
                let goes = wanted && (!parked.op.maybe || parked.op.may_repeat());
                match conn.filter(|_| goes) {
                    Some(conn) => {
                        self.reached(Rare::AskedFirst);
                        self.ask(conn, Own::Asking, &[b"ASKING"]);
                        if self.trial.is(Sabotage::AskApart) {
                            self.ask(conn, Own::Asking, &[b"PING"]);
                        }
                        self.place_on_server(node, parked);
                        false
                    }
                    None => {
                        self.reached(Rare::AskedInVain);
                        self.place(parked);
                        goes
                    }
                }
            }
        }
    }
}

//! What goes wrong, and how it is put right.

use std::time::Duration;

use unfazed_core::{Cause, config::Forced, engine::Input};

use crate::{
    mutants::Mutant,
    network::{Link, Stage, Weather},
    server::{Condition, Origin},
    setup::FORCED,
    workload::Asked,
    world::{Action, World},
};

/// How many kinds of faults there are to choose from; likely ones have several numbers.
const FAULTS: u64 = 29;

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    Start { origin: Origin, loading: bool },
    Resume,
    Loading,
    Readonly,
    Busy,
    Locked,
    Denied,
    Moved,
    Condition,
    Crowded,
    Weather,
    Stalled,
    Everything,
}

impl World {
    pub(crate) fn chaos(&mut self) {
        if self.healed {
            return;
        }
        if !self.cluster_fault() {
            let kind = self.entropy.below(FAULTS);
            // A world has only some of the faults, so that there is time between those it has.
            if self.setup.faults >> (1 + kind) & 1 == 1
                && let Some(victim) = self.pick_victim()
            {
                self.turn_to(victim);
                self.fault(kind);
            }
        }
        let delay = self.entropy.millis(1, 2 * self.setup.fault_millis);
        self.at(delay, Action::Chaos);
    }

    /// What is wrong at the server at hand is over after a while.
    pub(crate) fn undo_after(&mut self, span: Duration, undo: Undo) {
        let node = self.here();
        self.at(span, Action::Undo(node, undo));
    }

    fn fault(&mut self, kind: u64) {
        let span = self.entropy.millis(5, 1_500);
        match kind {
            0 if self.server.up => self.kill(span),
            1 if self.server.up => {
                self.count("fault: server paused");
                self.server.paused = true;
                self.undo_after(span * 2, Undo::Resume);
            }
            2 | 3 => self.cut(),
            4 => {
                if let Some(id) = self.any_open() {
                    self.count("fault: half-open");
                    self.links.get_mut(&id).expect("open").silent = true;
                }
            }
            5 => {
                self.count("fault: read-only");
                self.server.readonly = true;
                self.demote();
                self.undo_after(span, Undo::Readonly);
            }
            6 => {
                self.count("fault: loading");
                self.server.loading = true;
                self.undo_after(span, Undo::Loading);
            }
            7 => {
                self.count("fault: passing refusals");
                self.server.busy = true;
                self.undo_after(span, Undo::Busy);
            }
            8 => {
                self.count("fault: wall clock jumps");
                let most = self.entropy.pick(&[100, 10_000, 10_000_000]);
                self.skew = self.entropy.between(0, 2 * most) as i64 - most as i64;
            }
            9 | 10 => self.push(),
            11 => self.garbage(),
            12 => self.reply_too_many(),
            13 => self.stale(),
            14 => {
                self.count("fault: spurious wake-up");
                self.at(Duration::ZERO, Action::Spurious);
            }
            15 if self.server.password.is_some() => {
                self.count("fault: password refused");
                self.server.locked = true;
                self.undo_after(span / 2, Undo::Locked);
            }
            16 => {
                self.count("fault: a channel is not permitted");
                self.server.denied = Some(self.draw_channel());
                self.undo_after(span, Undo::Denied);
            }
            // In a cluster they really do.
            17 if self.cluster.is_none() => {
                self.count("fault: a slot moves");
                self.server.moved = Some(self.draw_shard_channel());
                self.take_topics_away(true);
                self.undo_after(span, Undo::Moved);
            }
            18 => self.take_topics_away(false),
            19 | 20 => {
                let condition = self.entropy.pick(&Condition::ALL);
                self.count(condition.name());
                self.server.condition = Some(condition);
                self.undo_after(span, Undo::Condition);
            }
            21 => {
                self.count("fault: too many clients");
                self.server.crowded = true;
                self.undo_after(span, Undo::Crowded);
            }
            22 if self.entropy.chance(30) && self.unblock() => {}
            22 => self.kill_client(),
            23 => self.cut_in_mid_frame(),
            24 => self.weather(span),
            25 => self.stall(span / 2),
            26 if self.setup.cluster.as_ref().is_none_or(|plan| plan.spared.is_none()) => {
                self.count("fault: the client stands still");
                self.frozen_until = self.now + span;
                // A command that waits may be sent as late as that, on a connection that it is given then.
                let held = &self.holders.asked;
                let given = |asked: &&mut Asked| asked.moves() && !held.contains_key(&asked.waker);
                self.asked.values_mut().filter(given).for_each(|asked| asked.deadline += span);
            }
            27 => {
                self.count("fault: scripts are flushed");
                self.server.knows_script = false;
            }
            28 => {
                self.count("fault: everybody is signed out");
                self.server.sign_out();
            }
            _ => {}
        }
    }

    /// CLIENT KILL: what was answered still arrives, and then the end.
    fn kill_client(&mut self) {
        let Some(id) = self.any_open().filter(|id| self.links[id].served) else { return };
        self.count("fault: CLIENT KILL");
        let link = self.links.get_mut(&id).expect("open");
        link.served = false;
        let left = link.down.len();
        link.down_cut = Some(link.down_cut.map_or(left, |cut| cut.min(left)));
        self.server.forget(id);
        self.read_down(id);
    }

    /// The connection ends at some byte of what is on its way to the client.
    fn cut_in_mid_frame(&mut self) {
        let on_its_way = |link: &&Link| {
            link.stage == Stage::Open
                && link.served
                && !link.silent
                && link.down.len() > 1
                && self.concerns(link)
        };
        let busy = self.links.iter().filter(|(_, link)| on_its_way(link));
        let Some(id) = busy.map(|(id, _)| *id).next() else { return };
        self.count("fault: cut in the middle of what is on its way");
        let link = self.links.get_mut(&id).expect("just found");
        let left = 1 + self.entropy.below(link.down.len() as u64 - 1) as usize;
        link.down_cut = Some(left);
        link.served = false;
        self.server.forget(id);
        self.read_down(id);
    }

    /// Something happens to the network as a whole, for a while.
    fn weather(&mut self, span: Duration) {
        // In a cluster it may be one node that is cut off.
        let spares = self.setup.cluster.as_ref().is_some_and(|plan| plan.spared.is_some());
        let one = self.cluster.is_some() && (spares || self.entropy.chance(50));
        let fair = Weather { only: one.then(|| self.here()), ..Weather::default() };
        let (what, weather) = match self.entropy.below(4) {
            0 => ("fault: nothing gets to the server", Weather { cut_up: true, ..fair }),
            1 => ("fault: nothing gets to the client", Weather { cut_down: true, ..fair }),
            2 => ("fault: nothing gets anywhere", Weather { cut_up: true, cut_down: true, ..fair }),
            _ => {
                let clogged_micros = self.entropy.between(5_000, 300_000);
                ("fault: the network is clogged", Weather { clogged_micros, ..fair })
            }
        };
        self.count(what);
        self.weather = weather;
        self.undo_after(span, Undo::Weather);
    }

    /// The kernel accepts nothing on any connection, and perhaps nothing comes in either.
    fn stall(&mut self, span: Duration) {
        let only = self.cluster.as_ref().map(|_| self.here());
        let concerned = |link: &&mut Link| only.is_none_or(|at| at == link.at);
        self.links.values_mut().filter(concerned).for_each(|link| link.stalled = true);
        if self.entropy.chance(40) {
            self.count("fault: both directions are full");
            self.weather = Weather { cut_down: true, only, ..Weather::default() };
            self.undo_after(span, Undo::Weather);
        } else {
            self.count("fault: writes stall");
        }
        self.undo_after(span, Undo::Stalled);
    }

    /// An operator changes what is forced upon the client.
    pub(crate) fn operator(&mut self) {
        let Some(span) = self.setup.operator_millis.filter(|_| !self.healed) else { return };
        let forced = self.entropy.pick(&FORCED);
        self.force(forced);
        if self.entropy.chance(20) {
            // Who changes his mind at once.
            let forced = self.entropy.pick(&FORCED);
            self.force(forced);
        }
        let delay = self.entropy.millis(1, 2 * span);
        self.at(delay, Action::Operator);
    }

    pub(crate) fn force(&mut self, forced: Option<Forced>) {
        // What has ended has ended under the order before this one; what was asked for last may not have
        // been done yet.
        if self.healed || self.entropy.chance(50) {
            self.settle();
        } else {
            self.wake();
        }
        self.trace(format_args!("forced: {forced:?}"));
        self.seq += 1;
        if !self.engine.is_closed() {
            self.oracle.on_forced(forced, self.seq);
        }
        if self.mutant != Some(Mutant::DisobeyOperator) {
            self.engine.force(forced, self.clock());
        }
        if self.entropy.chance(50) {
            self.settle();
        }
    }

    /// Some connection; the server at hand is the one that it leads to.
    fn any_open(&mut self) -> Option<u64> {
        let open = |link: &Link| link.stage == Stage::Open && !self.is_spared(link.at);
        let open: Vec<_> =
            self.links.iter().filter(|(_, link)| open(link)).map(|(id, _)| *id).collect();
        let at = self.entropy.below(open.len() as u64) as usize;
        let found = open.get(at).copied()?;
        self.turn_to_link(found);
        Some(found)
    }

    /// All connections of the server at hand are lost with it; so may be what is on its way.
    pub(crate) fn cut_all(&mut self, silently: bool) {
        let concerned = self.links.iter().filter(|(_, link)| self.concerns(link));
        let ids: Vec<_> = concerned.map(|(id, _)| *id).collect();
        for id in ids {
            let link = self.links.get_mut(&id).expect("listed");
            if !link.served {
                continue;
            }
            link.served = false;
            link.up.clear();
            let left = self.entropy.below(link.down.len() as u64 + 1) as usize;
            let link = self.links.get_mut(&id).expect("listed");
            link.down_cut = Some(left);
            if silently && self.entropy.chance(15) {
                self.links.get_mut(&id).expect("listed").silent = true;
            }
            self.server.forget(id);
            self.read_down(id);
        }
    }

    pub(crate) fn kill(&mut self, span: Duration) {
        self.count("fault: server killed");
        self.trace(format_args!("the server dies"));
        self.server.die();
        self.cut_all(true);
        let origins = [
            Origin::Disk,
            Origin::Disk,
            Origin::Replica,
            Origin::Empty,
            Origin::Empty,
            Origin::Other,
        ];
        // Who takes over for whom is another matter in a cluster.
        let in_cluster = [Origin::Disk, Origin::Disk, Origin::Empty];
        let origins = if self.cluster.is_some() { &in_cluster[..] } else { &origins };
        let origin = self.entropy.pick(origins);
        self.mourn(self.here());
        self.count(match origin {
            Origin::Disk => "fault: restart with all data",
            Origin::Replica => "fault: a replica takes over",
            Origin::Empty => "fault: restart without data",
            Origin::Other => "fault: restart with other data",
        });
        let loading = self.entropy.chance(40);
        self.undo_after(span, Undo::Start { origin, loading });
    }

    fn cut(&mut self) {
        let Some(id) = self.any_open() else { return };
        self.count("fault: connection reset");
        let conn = self.links[&id].conn;
        self.trace(format_args!("{conn:?} is reset"));
        let keeps_up = self.entropy.chance(50);
        let link = self.links.get_mut(&id).expect("open");
        if !keeps_up {
            link.up.clear();
            link.served = false;
            self.server.forget(id);
        }
        let reset = self.entropy.chance(50);
        self.ending(id, if reset { Cause::Reset } else { Cause::EndOfStream });
    }

    fn push(&mut self) {
        let Some(id) = self.any_open() else { return };
        let conn = self.links[&id].conn;
        if !self.server.speaks_resp3(id) || !self.engine.may_read(conn) {
            return;
        }
        let count = self.entropy.between(1, 4);
        for _ in 0..count {
            self.count("pushes");
            let frame = match (self.mutant, self.entropy.below(2)) {
                (Some(Mutant::PushAsReply), _) => &b"*2\r\n$4\r\npush\r\n:1\r\n"[..],
                (_, 0) => b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n",
                _ => b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
            };
            // A message that nobody wants comes out nowhere.
            let is_push = frame.starts_with(b">2");
            self.links.get_mut(&id).expect("open").send(frame, is_push);
        }
        self.read_down(id);
    }

    /// The server says what no client must accept.
    fn garbage(&mut self) {
        let Some(id) = self.any_open() else { return };
        let choices: [&[u8]; 5] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x00\x01\x02",
            b"$-7\r\n",
            b"*99999999999999999999\r\n",
            b"$abc\r\n",
        ];
        let garbage = self.entropy.pick(&choices);
        let link = self.links.get_mut(&id).expect("open");
        if link.poisoned.is_some() || !link.served {
            return;
        }
        link.send(garbage, false);
        link.poisoned = Some(link.sent);
        self.count("fault: garbage");
        self.read_down(id);
    }

    /// A reply comes for which nothing was asked. It can only be told from a reply that was asked for
    /// while nothing is owed.
    fn reply_too_many(&mut self) {
        let Some(id) = self.any_open() else { return };
        let link = self.links.get_mut(&id).expect("open");
        let idle = link.up.is_empty()
            && link.down.is_empty()
            && link.inbox.is_empty()
            && link.chunk.is_none()
            && link.partial.is_empty()
            && link.served
            && !link.silent
            && link.up_cut.is_none()
            && link.down_cut.is_none()
            && link.poisoned.is_none();
        if !idle || self.server.waits(id) {
            return;
        }
        self.count("fault: a reply too many");
        let frame = b"+EXTRA\r\n";
        let link = self.links.get_mut(&id).expect("open");
        link.sent += frame.len();
        link.read += frame.len();
        link.frames.push_back((link.sent, false));
        link.inbox.extend_from_slice(frame);
        link.seen.extend_from_slice(frame);
        link.poisoned = Some(link.sent);
        self.give(id);
    }

    /// What an older connection, look-up or ticket still says is inert.
    fn stale(&mut self) {
        // Early enough that time alone changes nothing.
        if self.armed.is_some_and(|armed| armed <= self.now) {
            return;
        }
        self.settle();
        let before = self.standing();
        let now = self.clock();
        let mut conn = self.gone.last().copied();
        if self.mutant == Some(Mutant::StaleIsCurrent) {
            conn = self.any_open().map(|id| self.links[&id].conn);
        }
        if let Some(conn) = conn {
            self.count("stale inputs");
            self.engine.handle_input(Input::Opened { conn }, now);
            let mut bytes = bytes::BytesMut::from(&b"+STALE\r\n"[..]);
            self.engine.received(conn, &mut bytes, now);
            if self.engine.take_output(conn).is_some() {
                self.oracle.fail(16, "a dead connection has something to write");
            }
            self.engine.handle_input(Input::Closed { conn, cause: Cause::Reset }, now);
        }
        // In a cluster several may be under way at once.
        if self.lookups.len() >= 2 && self.cluster.is_none() {
            let lookup = self.lookups[0];
            let addresses = Err(Cause::NameNotFound("stale".into()));
            self.engine.handle_input(Input::Resolved { lookup, addresses }, now);
        }
        if let Some(ticket) = self.ended.last().copied() {
            self.engine.set_waiter(ticket, 0);
            self.engine.cancel(ticket, now);
            self.engine.detach(ticket);
            if self.engine.take(ticket).is_some() || self.engine.take_batch(ticket).is_some() {
                self.oracle.fail(16, "a stale ticket gives something");
            }
        }
        let mut ready = Vec::new();
        self.engine.take_ready(&mut ready);
        let after = self.standing();
        let came_out = self.drain();
        if before != after || came_out || !ready.is_empty() {
            self.oracle.fail(16, format!("stale inputs changed {before} to {after}"));
        }
    }

    /// All that is to be seen of the engine, but for the time that has passed.
    fn standing(&self) -> String {
        let mut status = self.engine.status();
        status.lasting = Duration::ZERO;
        format!("{status:?}")
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        self.trace(format_args!("over: {undo:?}"));
        let all = undo == Undo::Everything;
        match undo {
            Undo::Start { origin, loading } if !self.server.up => {
                self.server.start(origin, self.when());
                self.restarted(self.here(), origin);
                if loading && !self.healed {
                    self.server.loading = true;
                    let span = self.entropy.millis(5, 500);
                    self.undo_after(span, Undo::Loading);
                }
            }
            Undo::Everything if !self.server.up => {
                self.server.start(Origin::Disk, self.when());
                self.restarted(self.here(), Origin::Disk);
            }
            _ => {}
        }
        if all || undo == Undo::Resume {
            self.server.paused = false;
            self.wake_links(self.here());
        }
        self.server.loading &= !(all || undo == Undo::Loading);
        self.server.readonly &= !(all || undo == Undo::Readonly);
        self.server.busy &= !(all || undo == Undo::Busy);
        self.server.locked &= !(all || undo == Undo::Locked);
        if all || undo == Undo::Denied {
            self.server.denied = None;
        }
        if all || undo == Undo::Moved {
            self.server.moved = None;
        }
        if all || undo == Undo::Condition {
            self.server.condition = None;
        }
        self.server.crowded &= !(all || undo == Undo::Crowded);
        if all || undo == Undo::Stalled {
            self.links.values_mut().for_each(|link| link.stalled = false);
            for link in self.links.values_mut().filter(|link| link.blocked && link.room() > 0) {
                link.blocked = false;
            }
            for conn in self.links.values().map(|link| link.conn).collect::<Vec<_>>() {
                self.flush(conn);
            }
        }
        if all || undo == Undo::Weather {
            self.weather = Weather::default();
            for id in self.links.keys().copied().collect::<Vec<_>>() {
                self.read_up(id);
                self.read_down(id);
            }
        }
    }
}

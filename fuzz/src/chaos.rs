//! What goes wrong, and how it is put right.

use std::time::Duration;

use unfazed_core::{Cause, config::Forced, engine::Input};

use crate::{
    mutants::Mutant,
    network::Stage,
    server::When,
    setup::FORCED,
    world::{Action, World},
};

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    Start { keeps: bool, other: bool, loading: bool },
    Resume,
    Loading,
    Readonly,
    Busy,
    Locked,
    Denied,
    Moved,
    Everything,
}

impl World {
    pub(crate) fn chaos(&mut self) {
        if self.healed {
            return;
        }
        let kind = self.entropy.below(19);
        // A world has only some of the faults, so that there is time between those it has.
        if self.setup.faults >> (1 + kind) & 1 == 1 {
            self.fault(kind);
        }
        let delay = self.entropy.millis(1, 2 * self.setup.fault_millis);
        self.at(delay, Action::Chaos);
    }

    fn fault(&mut self, kind: u64) {
        let span = self.entropy.millis(5, 1_500);
        match kind {
            0 if self.server.up => self.kill(span),
            1 if self.server.up => {
                self.count("fault: server paused");
                self.server.paused = true;
                self.at(span * 2, Action::Undo(Undo::Resume));
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
                self.at(span, Action::Undo(Undo::Readonly));
            }
            6 => {
                self.count("fault: loading");
                self.server.loading = true;
                self.at(span, Action::Undo(Undo::Loading));
            }
            7 => {
                self.count("fault: passing refusals");
                self.server.busy = true;
                self.at(span, Action::Undo(Undo::Busy));
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
                self.at(span / 2, Action::Undo(Undo::Locked));
            }
            16 => {
                self.count("fault: a channel is not permitted");
                self.server.denied = Some(self.draw_channel());
                self.at(span, Action::Undo(Undo::Denied));
            }
            17 => {
                self.count("fault: a slot moves");
                self.server.moved = Some(self.draw_shard_channel());
                self.take_topics_away(true);
                self.at(span, Action::Undo(Undo::Moved));
            }
            18 => self.take_topics_away(false),
            _ => {}
        }
    }

    /// An operator changes what is forced upon the client.
    pub(crate) fn operator(&mut self) {
        let Some(span) = self.setup.operator_millis.filter(|_| !self.healed) else { return };
        let forced = self.entropy.pick(&FORCED);
        self.force(forced);
        let delay = self.entropy.millis(1, 2 * span);
        self.at(delay, Action::Operator);
    }

    pub(crate) fn force(&mut self, forced: Option<Forced>) {
        self.settle();
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

    fn any_open(&mut self) -> Option<u64> {
        let open = self.links.iter().filter(|(_, link)| link.stage == Stage::Open);
        let open: Vec<_> = open.map(|(id, _)| *id).collect();
        let at = self.entropy.below(open.len() as u64) as usize;
        open.get(at).copied()
    }

    fn kill(&mut self, span: Duration) {
        self.count("fault: server killed");
        self.trace(format_args!("the server dies"));
        self.server.die();
        let ids: Vec<_> = self.links.keys().copied().collect();
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
            if self.entropy.chance(15) {
                self.links.get_mut(&id).expect("listed").silent = true;
            }
            self.read_down(id);
        }
        let keeps = self.entropy.chance(50);
        let other = self.entropy.chance(30);
        let loading = self.entropy.chance(40);
        self.at(span, Action::Undo(Undo::Start { keeps, other, loading }));
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
        if !idle {
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
        if self.lookups.len() >= 2 {
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
            Undo::Start { keeps, other, loading } if !self.server.up => {
                let when = When { ..self.when() };
                self.server.start(keeps, other, when);
                if loading && !self.healed {
                    self.server.loading = true;
                    let span = self.entropy.millis(5, 500);
                    self.at(span, Action::Undo(Undo::Loading));
                }
            }
            Undo::Everything if !self.server.up => self.server.start(true, false, self.when()),
            _ => {}
        }
        if all || undo == Undo::Resume {
            self.server.paused = false;
            let ids: Vec<_> = self.links.keys().copied().collect();
            for id in ids {
                let link = self.links.get_mut(&id).expect("listed");
                if !link.up_due && !link.up.is_empty() {
                    link.up_due = true;
                    let delay = self.entropy.micros(0, 1_000);
                    self.at(delay, Action::Up(id));
                }
            }
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
    }
}

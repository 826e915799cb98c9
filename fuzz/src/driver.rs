//! The data plane: sockets are dialled, bytes go up and down, connections end.

use unfazed_core::{
    Cause,
    engine::{ConnId, Input, Target},
};

use crate::{
    mutants::Mutant,
    network::{Link, Stage},
    server::{canonical, parse},
    workload::line_of,
    world::{Action, World},
};

impl World {
    /// The modelled connection behind an engine's one, while the engine still knows it.
    pub(crate) fn link_of(&self, conn: ConnId) -> Option<u64> {
        let mut known = self.links.iter();
        known.find(|(_, link)| link.conn == conn && link.stage != Stage::Gone).map(|(id, _)| *id)
    }

    pub(crate) fn open(&mut self, conn: ConnId, target: &Target) {
        self.oracle.on_socket("a dial");
        self.seq += 1;
        let id = self.seq;
        let mut link = Link::new(conn, &mut self.entropy);
        if let Target::Tcp(address) = target {
            link.port = address.port();
        }
        if self.healed {
            link.capacity = 60_000;
        } else if self.setup.faults & 1 == 1 {
            link.up_cut = self.entropy.chance(15).then(|| self.entropy.between(0, 700) as usize);
            link.down_cut = self.entropy.chance(15).then(|| self.entropy.between(0, 700) as usize);
        }
        self.links.insert(id, link);
        let quick = self.entropy.micros(100, 2_000);
        let Some(at) = self.leads_to(target) else {
            return self.at(quick, Action::Dialled(id, Err(Cause::Refused)));
        };
        self.turn_to(at);
        self.links.get_mut(&id).expect("just made").at = at;
        if self.is_spared(at) {
            let link = self.links.get_mut(&id).expect("just made");
            (link.capacity, link.up_cut, link.down_cut) = (60_000, None, None);
            return self.at(quick, Action::Dialled(id, Ok(())));
        }
        let several = self.cluster.is_some();
        if !several && Self::is_at(target, 2) {
            return self.at(quick, Action::Dialled(id, Err(Cause::Refused)));
        }
        if !several && Self::is_at(target, 3) {
            return;
        }
        let weather = self.weather_at(at);
        if weather.cut_up || weather.cut_down {
            return self.count("fault: dial never answered");
        }
        if self.server.up {
            match self.entropy.below(20) {
                1 if !self.healed => {
                    self.count("fault: dial never answered");
                    return;
                }
                2 if !self.healed => {
                    self.count("fault: dial slow");
                    let slow = self.entropy.millis(200, 3_000);
                    return self.at(slow, Action::Dialled(id, Ok(())));
                }
                3 if !self.healed => {
                    self.count("fault: dial refused");
                    return self.at(quick, Action::Dialled(id, Err(Cause::Refused)));
                }
                _ => {}
            }
            self.at(quick, Action::Dialled(id, Ok(())));
        } else if self.entropy.chance(80) {
            self.count("fault: dial refused");
            self.at(quick, Action::Dialled(id, Err(Cause::Refused)));
        } else {
            self.count("fault: dial never answered");
        }
    }

    pub(crate) fn dialled(&mut self, id: u64, result: Result<(), Cause>) {
        self.turn_to_link(id);
        let up = self.server.up && self.links.get(&id).is_some_and(|link| self.still_leads(link));
        let Some(link) = self.links.get_mut(&id).filter(|link| link.stage == Stage::Dialling)
        else {
            return;
        };
        match result {
            Ok(()) if up => {
                link.stage = Stage::Open;
                link.served = true;
                let conn = link.conn;
                if self.server.crowded {
                    link.served = false;
                    link.send(b"-ERR max number of clients reached\r\n", false);
                    link.down_cut = Some(link.down.len());
                } else {
                    self.server.accept(id);
                }
                if self.is_spared(self.here())
                    && let Some(cluster) = &mut self.cluster
                {
                    cluster.spared_since.get_or_insert(self.now);
                }
                self.input(Input::Opened { conn });
                self.read_down(id);
            }
            Ok(()) => self.ending(id, Cause::Refused),
            Err(cause) => self.ending(id, cause),
        }
    }

    /// The connection ends, as soon as the driver comes round to it.
    pub(crate) fn ending(&mut self, id: u64, cause: Cause) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if matches!(link.stage, Stage::Dialling | Stage::Open) {
            link.stage = Stage::Ending(cause);
            let delay = self.entropy.micros(0, 500);
            self.at(delay, Action::End(id));
        }
    }

    /// The driver closes: it hands the chunk back, and then says so.
    pub(crate) fn end(&mut self, id: u64) {
        self.turn_to_link(id);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Stage::Ending(cause) = link.stage.clone() else { return };
        if self.mutant == Some(Mutant::LoseClosed) {
            return;
        }
        let conn = link.conn;
        self.hand_back(id);
        let link = self.links.get_mut(&id).expect("still there");
        link.stage = Stage::Gone;
        let size = 1 + link.seen.len() % 7;
        let tampered = self.mutant == Some(Mutant::OtherPieces);
        if let Some(what) = link.differs_in_pieces(size, tampered) {
            self.oracle.fail(20, what);
        }
        if link.up.is_empty() || !link.served {
            if !(link.served && self.learns_late(id)) {
                self.links.remove(&id);
                self.server.forget(id);
            }
        } else {
            self.count("the server reads on after the client has gone");
        }
        self.gone.push(conn);
        self.input(Input::Closed { conn, cause });
    }

    // ---- up ------------------------------------------------------------------------------------

    pub(crate) fn flush(&mut self, conn: ConnId) {
        let Some(id) = self.link_of(conn) else { return };
        let link = self.links.get_mut(&id).expect("just found");
        if !link.write_due && link.chunk.is_none() && !link.blocked {
            link.write_due = true;
            let delay = self.entropy.micros(0, 200);
            self.at(delay, Action::Write(id));
        }
    }

    pub(crate) fn write(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.write_due = false;
        if link.stage != Stage::Open || link.chunk.is_some() {
            return;
        }
        let vanishes = link.silent || link.up_cut == Some(0);
        if link.room() == 0 && (link.stalled || !vanishes) {
            link.blocked = true;
            return self.count("a write is blocked");
        }
        let Some(chunk) = self.engine.take_output(link.conn) else { return };
        self.oracle.on_socket("a write");
        let bytes = chunk.unwritten();
        let mut seen = [&link.partial[..], bytes].concat();
        for line in take_commands(&mut seen) {
            self.oracle.offered.insert(line);
        }
        let mut count = bytes.len();
        if !link.silent && link.up_cut != Some(0) {
            count = count.min(link.room());
        }
        if self.setup.choppy && !self.healed {
            // Draws that are used up let everything through, or nothing would ever get on.
            count -= self.entropy.below(count as u64 + 1) as usize;
        }
        let mut accepted = bytes[..count].to_vec();
        if self.mutant == Some(Mutant::SkipByte) && count > 20 && self.entropy.chance(10) {
            accepted.remove(count / 2);
        }
        if self.mutant == Some(Mutant::SlipIn) {
            let multi = b"$5\r\nMULTI\r\n";
            if let Some(at) = accepted.windows(multi.len()).position(|bytes| bytes == multi) {
                let behind = at + multi.len();
                accepted.splice(behind..behind, *b"*1\r\n$4\r\nPING\r\n");
            }
        }
        link.accept(&accepted);
        link.chunk = Some((chunk, count));
        let delay = self.entropy.pick(&[0, 0, 0, 2_000]);
        let delay = self.entropy.micros(0, delay);
        self.at(delay, Action::Written(id));
        self.read_up(id);
    }

    pub(crate) fn written(&mut self, id: u64) {
        if self.links.get(&id).is_none_or(|link| link.stage != Stage::Open) {
            return;
        }
        self.hand_back(id);
        let link = self.links.get_mut(&id).expect("still there");
        let conn = link.conn;
        if self.engine.unwritten(conn) > 0 {
            self.flush(conn);
        }
    }

    fn hand_back(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some((chunk, mut count)) = link.chunk.take() else { return };
        link.partial.extend_from_slice(&chunk.unwritten()[..count]);
        let refreshes = take_commands(&mut link.partial)
            .iter()
            .filter(|line| line.starts_with("CLUSTER S"))
            .count();
        match self.mutant {
            Some(Mutant::OverWritten) => count = chunk.unwritten().len() + 1,
            // At the end of a connection, so that nothing is written twice.
            Some(Mutant::DenyWritten) if link.stage != Stage::Open => count = 0,
            _ => {}
        }
        let conn = link.conn;
        self.note_refresh(refreshes);
        self.engine.written(conn, chunk, count, self.clock());
    }

    pub(crate) fn read_up(&mut self, id: u64) {
        self.turn_to_link(id);
        if self.weather_at(self.here()).cut_up {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.up_due && !link.up.is_empty() && !link.silent {
            link.up_due = true;
            let delay = self.latency(id);
            self.at(delay, Action::Up(id));
        } else if link.up.is_empty() && link.up_cut == Some(0) && link.served {
            // Everything after this is lost; the client learns of it later, or never.
            link.served = false;
            self.server.forget(id);
            self.count("fault: cut on the way to the server");
            if self.entropy.chance(30) {
                self.links.get_mut(&id).expect("still there").silent = true;
            } else {
                let cause = self.entropy.chance(50);
                self.ending(id, if cause { Cause::Reset } else { Cause::EndOfStream });
            }
        }
    }

    fn latency(&mut self, id: u64) -> std::time::Duration {
        let at = self.links.get(&id).map_or(0, |link| link.at);
        let most = match self.weather_at(at).clogged_micros {
            0 if self.entropy.chance(2) && !self.healed => 40_000,
            0 => 400,
            micros => micros,
        };
        self.entropy.micros(20, most)
    }

    /// The server reads.
    pub(crate) fn up(&mut self, id: u64) {
        self.turn_to_link(id);
        let cut = self.weather_at(self.here()).cut_up;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up_due = false;
        if self.server.paused || cut || link.silent || link.up.is_empty() {
            return;
        }
        if !link.served {
            return link.up.clear();
        }
        let mut count = link.up.len();
        if self.setup.choppy && !self.healed {
            count -= self.entropy.below(count as u64) as usize;
        }
        let bytes: Vec<u8> = link.up.drain(..count).collect();
        self.serve(id, &bytes);
        self.answer_woken();
    }

    /// The wait of a command is over: what came behind it has its turn.
    pub(crate) fn carry_on(&mut self, id: u64) {
        if self.links.get(&id).is_some_and(|link| link.served) {
            self.serve(id, &[]);
        }
    }

    fn serve(&mut self, id: u64, bytes: &[u8]) {
        let mut when = self.when();
        let given_up = self.links[&id].stage != Stage::Open;
        let outgoing = self.server.receive(id, bytes, &mut when, given_up);
        self.tell(id, &outgoing.told);
        if let Some(what) = self.server.member.as_ref().and_then(|it| it.asked_apart.as_ref()) {
            self.oracle.fail(8, format!("{what} came between ASKING and what it was for"));
        }
        self.seq = when.seq;
        for (number, what) in std::mem::take(&mut self.server.trespasses) {
            self.oracle.fail(number, what);
        }
        for block in std::mem::take(&mut self.server.blocks) {
            self.oracle.on_block(&block);
            self.count(match block.executed {
                0 => "a transaction was discarded by the server",
                _ => "a transaction was carried out by the server",
            });
        }
        let link = self.links.get_mut(&id).expect("still there");
        for frame in outgoing.frames {
            link.send(&frame, false);
        }
        if let Some(fault) = outgoing.fault {
            self.oracle.fail(5, format!("the server cannot read {fault}"));
        }
        if outgoing.hang_up {
            link.served = false;
            let left = link.down.len();
            link.down_cut = Some(link.down_cut.map_or(left, |cut| cut.min(left)));
        }
        if link.stage == Stage::Gone {
            link.down.clear();
            if link.up.is_empty() {
                self.links.remove(&id);
                return self.server.forget(id);
            }
        } else if link.blocked && link.room() > 0 {
            link.blocked = false;
            let conn = link.conn;
            self.flush(conn);
        }
        self.read_up(id);
        self.read_down(id);
    }

    // ---- down ----------------------------------------------------------------------------------

    pub(crate) fn read_down(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let cut = self.weather_at(link.at).cut_down;
        if link.down_due || link.silent || link.stage != Stage::Open || cut {
            return;
        }
        if !self.engine.may_read(link.conn) {
            return self.count("reading is stopped");
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.down_cut == Some(0) {
            self.count("fault: cut on the way to the client");
            let reset = self.entropy.chance(50);
            return self.ending(id, if reset { Cause::Reset } else { Cause::EndOfStream });
        }
        if !link.down.is_empty() {
            link.down_due = true;
            let delay = self.latency(id);
            self.at(delay, Action::Down(id));
        }
    }

    /// The client reads.
    pub(crate) fn down(&mut self, id: u64) {
        let at = self.links.get(&id).map_or(0, |link| link.at);
        let cut = self.weather_at(at).cut_down;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.down_due = false;
        let cut = link.silent || cut;
        if link.stage != Stage::Open || cut || !self.engine.may_read(link.conn) {
            return;
        }
        let mut count = link.down.len();
        if let Some(cut) = link.down_cut {
            count = count.min(cut);
        }
        if self.setup.choppy && !self.healed && count > 0 {
            count -= self.entropy.below(count as u64) as usize;
        }
        if let Some(cut) = &mut link.down_cut {
            *cut -= count;
        }
        let bytes: Vec<u8> = link.down.drain(..count).collect();
        link.seen.extend_from_slice(&bytes);
        link.inbox.extend_from_slice(&bytes);
        link.read += count;
        self.give(id);
        self.read_down(id);
    }

    /// Reading may go on: what was read before comes first.
    pub(crate) fn resume(&mut self, id: u64) {
        let open = self.links.get(&id).is_some_and(|link| link.stage == Stage::Open);
        if open {
            self.count("reading goes on");
            self.give(id);
            self.read_down(id);
        }
    }

    /// Gives the engine what was read, and sees to it that whole frames are taken.
    pub(crate) fn give(&mut self, id: u64) {
        let now = self.clock();
        let Some(link) = self.links.get_mut(&id) else { return };
        let busy = link.blocked || link.chunk.is_some();
        let skipped = self.mutant == Some(Mutant::NoReadWhileBlocked) && busy;
        let conn = link.conn;
        if !skipped {
            self.engine.received(conn, &mut link.inbox, now);
        }
        let stopped = !self.engine.may_read(conn);
        let link = self.links.get_mut(&id).expect("just found");
        let (whole, pushes) = link.whole();
        let taken = link.read - link.inbox.len();
        link.taken = whole;
        self.settle();
        self.pushes.0 += pushes as u64;
        let Some(link) = self.links.get(&id) else { return };
        let open = link.stage == Stage::Open;
        let poisoned = link.poisoned.is_some_and(|end| link.read >= end);
        if open && poisoned && !stopped {
            self.oracle.fail(3, "what no server may say did not cost the connection");
        } else if open && taken != whole && link.poisoned.is_none() && !stopped {
            let number = if busy { 15 } else { 20 };
            let what = format!("{taken} bytes were taken, and whole frames end at {whole}");
            self.oracle.fail(number, what);
        } else if open && self.pushes.0 != self.pushes.1 && !self.stops_reading {
            self.oracle.fail(4, format!("pushes sent and seen: {:?}", self.pushes));
        }
        self.pushes.1 = self.pushes.0;
        if busy && taken > 0 {
            self.count("replies are read while bytes are with the writer");
        }
    }
}

/// Takes the whole commands off the front.
fn take_commands(bytes: &mut Vec<u8>) -> Vec<String> {
    let (mut lines, mut used) = (Vec::new(), 0);
    while let Ok(Some((words, length))) = parse(&bytes[used..]) {
        lines.push(line_of(&canonical(&words).unwrap_or(words)));
        used += length;
    }
    bytes.drain(..used);
    lines
}

//! The hands that carry out what the engine asks for, as an adapter does.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use unfazed_core::{
    Cause,
    config::Forced,
    engine::{ConnId, Event, Health, Input, Lineage, Linger, Lookup, Output, Target},
    failure::Bound,
};

use crate::{
    mutants::Mutant,
    network::Stage,
    workload::Asked,
    world::{Action, World},
};

/// The most dials within a second. The first wait is 40 ms, each dial tries at most two addresses.
const DIALS_MAX: usize = 50;

impl World {
    /// Hands an input in and drains. Gives whether anything came out.
    pub(crate) fn input(&mut self, input: Input<'_>) -> bool {
        self.trace(format_args!("-> {input:?}"));
        let before = self.seq;
        self.engine.handle_input(input, self.clock());
        let mut came_out = self.drain();
        came_out |= self.wake();
        // What was asked for since may be due at once.
        let late = |asked: &&Asked| asked.submitted <= before && asked.deadline <= self.now;
        let late = self.asked.values().find(late);
        if let Some(asked) = late {
            let what = format!("{:?} is past its deadline {:?}", asked.commands, asked.deadline);
            self.oracle.fail(12, what);
        }
        came_out
    }

    pub(crate) fn drain(&mut self) -> bool {
        let mut came_out = false;
        loop {
            let output = self.engine.poll_output();
            if let Output::Wait(at) = output {
                let armed = at.map(|at| at.saturating_duration_since(self.start));
                self.armed = armed;
                if self.mutant == Some(Mutant::Hurry) {
                    self.armed = Some(self.now);
                }
                self.arm();
                return came_out;
            }
            came_out = true;
            let text = format!("{output:?}");
            self.oracle.formatted(&text);
            self.trace(format_args!("<- {text}"));
            self.obey(output);
        }
    }

    pub(crate) fn arm(&mut self) {
        let Some(armed) = self.armed.filter(|_| self.mutant != Some(Mutant::IgnoreTimer)) else {
            return;
        };
        let late = Duration::from_micros(self.entropy.below(self.setup.late_micros + 1));
        // An instant is given in nanoseconds, and being early would be a fault of its own.
        let at = armed.max(self.now) + late;
        if self.timer_at.is_none_or(|timer_at| at < timer_at || timer_at < armed) {
            self.timer_at = Some(at);
            self.at(at - self.now, Action::Timer);
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Resolve { lookup, host, port } => {
                self.note_lookup(lookup, &host, port);
                self.oracle.on_socket("a look-up");
                self.lookups.push(lookup);
                let sound = self.looks_up_well(lookup);
                let slow = !sound && self.entropy.chance(10);
                let delay = if slow {
                    self.entropy.millis(200, 4_000)
                } else {
                    self.entropy.micros(50, 5_000)
                };
                if !sound && self.entropy.chance(5) {
                    return self.count("fault: look-up hangs");
                }
                self.at(delay, Action::Resolve(lookup));
            }
            Output::Open { conn, target, .. } => {
                self.open(conn, &target);
                if self.mutant == Some(Mutant::DialTwice) {
                    self.open(conn, &target);
                }
                if let (Some(_), Target::Tcp(address)) = (&self.cluster, &target) {
                    self.check_dial_in_cluster(address.port());
                } else {
                    self.check_dials();
                }
            }
            Output::Close { conn, linger } => self.close_asked(conn, linger),
            Output::Flush { conn } => self.flush(conn),
            Output::Read { conn } => {
                if let Some(id) = self.link_of(conn) {
                    self.at(Duration::ZERO, Action::Resume(id));
                }
            }
            Output::Push(_) => {
                self.pushes.1 += u64::from(self.mutant != Some(Mutant::LosePush));
            }
            Output::Event(event) => self.on_event(&event),
            Output::Run(run) => {
                self.count("native scripts run");
                let delay = self.entropy.pick(&[0, 0, 100, 20_000]);
                let delay = self.entropy.micros(0, delay);
                self.at(delay, Action::Ran(run));
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: &Event) {
        self.oracle.formatted(&event.to_string());
        self.trace(format_args!("   {event}"));
        match event {
            Event::HealthChanged { from, to, cause } => {
                self.oracle.on_health(*from, *to, self.seq);
                match (from, to, cause) {
                    (_, Health::Degraded, Some(Cause::Refused)) if *from != Health::Recovering => {
                        self.count("trip: refused");
                    }
                    (_, Health::Degraded, Some(Cause::Silent)) => self.count("trip: silence"),
                    (_, Health::Degraded, Some(Cause::NotReady(_)))
                        if *from != Health::Recovering =>
                    {
                        self.count("trip: not ready");
                    }
                    (Health::Recovering, Health::Degraded, _) => self.count("recovery failed"),
                    (Health::Recovering, Health::Live, _) => self.count("recovered"),
                    (Health::Suspect, Health::Live, _) => self.count("suspect and live again"),
                    (_, Health::Degraded, _) => self.count("trip: otherwise"),
                    _ => {}
                }
            }
            Event::Forced { to, .. } => {
                self.oracle.on_forced_told(*to);
                self.count(match to {
                    None => "event: no longer forced",
                    Some(Forced::Redis) => "event: forced to redis",
                    Some(Forced::Memory) => "event: forced to memory",
                    Some(_) => "event: forced to isolation",
                });
            }
            Event::DataSet { lineage: Lineage::Unknown, .. } => {
                self.count("event: data set unknown");
            }
            Event::DataSet { .. } => self.count("event: the same data set"),
            Event::ReplayRefused { .. } => {
                self.oracle.gave_up = true;
                self.count("event: what was owed was refused");
            }
            Event::MergesSkipped { .. } => {
                self.oracle.gave_up = true;
                self.count("event: merges skipped");
            }
            Event::MergesUnanswered { .. } => {
                self.oracle.gave_up = true;
                self.count("event: merges unanswered");
            }
            Event::WritesLost { .. } => {
                self.oracle.gave_up = true;
                self.count("event: closed with writes in memory");
            }
            Event::GivenUp { .. } => self.given_up += 1,
            Event::TooOld { .. } => self.count("event: too old"),
            Event::StillDown { .. } => self.count("event: still down"),
            Event::Full { bound: Bound::QueueRequests | Bound::QueueBytes } => {
                self.count("event: queue full");
            }
            Event::Full { bound: Bound::JournalEntries | Bound::JournalBytes } => {
                self.count("event: journal full");
            }
            Event::Full { .. } => self.count("event: memory full"),
            _ => {}
        }
    }

    /// Whether nothing goes wrong with a look-up: that of a node with which nothing ever does.
    fn looks_up_well(&self, lookup: Lookup) -> bool {
        let address = self.looked_up(lookup);
        let node = address.and_then(|address| self.leads_to(&Target::Tcp(address)));
        self.healed || node.is_some_and(|node| self.is_spared(node))
    }

    pub(crate) fn resolve(&mut self, lookup: Lookup) {
        let address = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 6379);
        let sound = self.looks_up_well(lookup);
        if !sound && self.entropy.chance(10) {
            self.count("fault: look-up fails");
            let cause = Cause::NameNotFound("no such host".into());
            self.input(Input::Resolved { lookup, addresses: Err(cause) });
            return;
        }
        if !sound && self.entropy.chance(5) {
            self.count("fault: a name without addresses");
            self.input(Input::Resolved { lookup, addresses: Ok(&[]) });
            return;
        }
        let mut addresses = vec![self.looked_up(lookup).unwrap_or_else(|| address(1))];
        if self.cluster.is_none() && self.entropy.chance(40) {
            // One that refuses, or one that nobody answers at; in either place, for the order flips.
            let place = self.entropy.below(2) as usize;
            addresses.insert(place, address(self.entropy.between(2, 3) as u8));
            self.count("fault: a name with a dead address");
        }
        self.input(Input::Resolved { lookup, addresses: Ok(&addresses) });
    }

    /// Where a target leads: to the server, to nobody, or into the void.
    pub(crate) fn is_at(target: &Target, last: u8) -> bool {
        matches!(target, Target::Tcp(address) if matches!(address.ip(), IpAddr::V4(ip) if ip.octets()[3] == last))
    }

    fn close_asked(&mut self, conn: ConnId, linger: Linger) {
        let Some(id) = self.link_of(conn) else { return };
        let link = self.links.get_mut(&id).expect("just found");
        if self.mutant == Some(Mutant::IgnoreClose) && link.poisoned.is_some() {
            return;
        }
        if matches!(link.stage, Stage::Dialling | Stage::Open) {
            if linger == Linger::Reset {
                let kept = self.entropy.below(link.up.len() as u64 + 1) as usize;
                link.up.truncate(kept);
            }
            link.stage = Stage::Ending(Cause::Local);
            let delay = self.entropy.pick(&[0, 0, 300, 30_000]);
            let delay = self.entropy.micros(0, delay);
            self.at(delay, Action::End(id));
        }
    }

    /// One attempt at a time, and not too many of them.
    fn check_dials(&mut self) {
        let dialling = self.links.values().filter(|link| link.stage == Stage::Dialling).count();
        // Connections that are lent out are made beside the one that is shared.
        let leases = self.engine.status().leases;
        if self.setup.listeners == 0 && dialling > 1 + leases {
            self.oracle.fail(17, format!("{dialling} connections are being made at once"));
        }
        let calm = leases == 0 && self.setup.listeners == 0 && self.setup.operator_millis.is_none();
        if !calm {
            // Theirs are among them.
            return self.dials.clear();
        }
        self.dials.push_back(self.now);
        let recent = self.now.saturating_sub(Duration::from_secs(1));
        self.dials.retain(|at| *at >= recent);
        if self.dials.len() > DIALS_MAX {
            self.oracle.fail(17, format!("{} dials within a second", self.dials.len()));
        }
    }
}

//! What is looked at after every step, and how a world ends: healed, with all that is pending finished.

use std::{collections::BTreeMap, time::Duration};

use unfazed_core::engine::Health;

use crate::{
    chaos::Undo,
    mutants::Mutant,
    network::{CAPACITY_WELL, Link, Stage},
    setup::Ending,
    world::{Action, World},
};

/// How late the driver is at most, and some.
const LATE_MAX: Duration = Duration::from_millis(50);

/// Within which everything must have finished after healing.
const PROGRESS: Duration = Duration::from_secs(15);

/// The most commands in one pipeline, and the most bytes that they take.
const BATCH_MAX: usize = 6;
const BATCH_BYTES_MAX: usize = 2_048;

/// The most bytes that MULTI, EXEC and the lengths of all words add to what a transaction is to write.
const FRAMES_BYTES_MAX: usize = 128;

/// The most bytes that a part of a command takes.
const PART_BYTES_MAX: usize = 512;

impl World {
    pub(crate) fn settle(&mut self) {
        if self.engine.has_output() {
            self.drain();
        }
        self.wake();
        if self.engine.has_output() {
            self.drain();
            self.wake();
        }
        self.check();
    }

    fn check(&mut self) {
        let status = self.engine.status();
        let limits = &self.setup.config;
        self.detached.retain(|ticket| self.engine.is_pending(*ticket));
        let expected = self.asked.len() + self.detached.len();
        let mut broken: Option<(u8, String)> = None;
        let mut demand = |number, holds: bool, what: &str| {
            if !holds && broken.is_none() {
                broken = Some((number, format!("{what}: {status:?}, {expected} tickets expected")));
            }
        };
        // The parts of a command have tickets of their own, which end with it.
        let parts = self.parts_max();
        let own = expected..=expected + parts;
        demand(14, own.contains(&status.tickets), "tickets");
        let queued = status.queued_requests - status.waiting_requests;
        let queued_bytes = status.queued_bytes - status.waiting_bytes;
        // What is owed for parts whose command has reached its deadline keeps its place.
        let has_room = queued < limits.queue.requests_max && queued_bytes < limits.queue.bytes_max;
        self.parts_queued = if has_room { parts } else { self.parts_queued.max(parts) };
        let parts = self.parts_queued;
        demand(14, queued < limits.queue.requests_max + BATCH_MAX + parts, "queued requests");
        // The texts that are added to are written as a whole, and they grow.
        let batch = BATCH_BYTES_MAX.max(self.decided_bytes_max + FRAMES_BYTES_MAX);
        let bytes = batch + parts * PART_BYTES_MAX;
        demand(14, queued_bytes < limits.queue.bytes_max + bytes, "queued bytes");
        let (waiting, own) = self.stream_bounds();
        let ending = |link: &&Link| matches!(link.stage, Stage::Ending(_));
        let ending = self.links.values().filter(ending).count();
        let sides = 2 * (2 + own) * self.servers() + ending;
        let sides = if self.setup.listeners > 0 { sides } else { 0 };
        let nodes = self.setup.cluster.as_ref().map_or(1, |plan| 2 * plan.roles.len());
        demand(14, status.connections <= 3 * nodes + sides + status.leases, "connections");
        // Each node has so many.
        demand(14, status.leases <= self.setup.config.leases.leases_max * nodes, "leases");
        demand(14, status.messages_waiting <= waiting, "messages");
        demand(14, status.streams <= self.listeners.len(), "streams");
        let memory = &limits.memory;
        demand(14, status.journal_entries <= memory.journal_entries_max, "journal");
        let entries = status.overlay_entries + status.shadow_entries;
        demand(14, entries <= memory.entries_max, "overlay and shadow");
        let first = self.asked.values().map(|asked| asked.deadline).min();
        demand(
            13,
            first.is_none_or(|first| self.armed.is_some_and(|armed| armed <= first)),
            "something is pending, and no timer is set for its deadline",
        );
        demand(
            12,
            first.is_none_or(|first| self.now <= first.max(self.frozen_until) + LATE_MAX),
            "something is pending long after its deadline",
        );
        if self.closing_since.is_some() && self.engine.health() == Health::Closed {
            demand(14, status.queued_requests == 0 && status.connections == 0, "after closing");
            demand(14, status.journal_entries == 0, "journal after closing");
            demand(14, status.streams + status.subscriptions == 0, "streams after closing");
            demand(14, status.overlay_entries + status.shadow_entries == 0, "memory after closing");
            demand(14, self.armed.is_none(), "a timer after closing");
        }
        if let Some((number, what)) = broken {
            self.oracle.formatted(&what);
            self.oracle.fail(number, what);
        }
        if self.mutant == Some(Mutant::LeakSecret) && self.seq == 100 {
            let text = self.setup.config.to_url_with_secrets();
            self.oracle.formatted(&text);
        }
        if self.seq.is_multiple_of(256) {
            self.oracle.check_ledger(&self.server, self.when().unix);
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.frozen_until = self.now;
        for node in 0..self.servers() {
            self.turn_to(node);
            self.undo(Undo::Everything);
        }
        self.heal_cluster();
        self.force(None);
        for link in self.links.values_mut() {
            // What was lost on its way is not made good by healing: such a connection is half-open.
            link.silent |= link.up_cut == Some(0);
            (link.up_cut, link.down_cut) = (None, None);
            link.capacity = link.capacity.max(CAPACITY_WELL);
        }
        self.find_half_open();
        let over = self.setup.over_at - self.setup.heal_at;
        self.at(over, Action::Check);
    }

    pub(crate) fn check_progress(&mut self) {
        self.over = true;
        self.oracle.check_ledger(&self.server, self.when().unix);
        let uneaten = if self.closing_since.is_some() { None } else { self.uneaten() };
        if self.now > self.setup.over_at + PROGRESS
            && let Some(what) = uneaten
        {
            return self.oracle.stuck(what);
        }
        let status = self.engine.status();
        let closing = self.closing_since.is_some();
        let goal = if closing { Health::Closed } else { Health::Live };
        let quiet = self.asked.is_empty() && self.detached.is_empty() && status.health == goal;
        let topics = if closing { None } else { self.unsettled_topics() };
        if quiet && status.queued_requests == 0 && topics.is_none() {
            if self.setup.listeners == 0 || closing {
                return self.finish();
            }
            // Everybody must hear what is published now.
            if !std::mem::replace(&mut self.published_last, true) {
                self.publish_last();
            } else if self.unheard().is_none() {
                return self.finish();
            }
        }
        if self.now > self.setup.over_at + PROGRESS {
            if let Some(what) = topics.or_else(|| self.unheard()).filter(|_| quiet) {
                return self.oracle.fail(11, what);
            }
            return self.oracle.stuck(format!("not finished: {:?}, {status:?}", self.asked));
        }
        self.at(Duration::from_millis(50), Action::Check);
    }

    fn finish(&mut self) {
        if self.closing_since.is_some() {
            self.oracle.check_order(&self.server);
            self.check_ended();
            self.done = true;
            return;
        }
        let status = self.engine.status();
        if status.queued_bytes + status.journal_entries + status.overlay_entries > 0 {
            self.oracle.fail(14, format!("something is left: {status:?}"));
        }
        self.oracle.check_order(&self.server);
        self.check_settled();
        match self.setup.ending {
            Ending::Nothing => self.done = true,
            Ending::Shutdown => {
                for caller in 0..self.setup.callers {
                    self.ask(caller);
                }
                self.close();
                self.at(Duration::from_millis(50), Action::Check);
            }
            Ending::Abandon => {
                for caller in 0..self.setup.callers {
                    self.ask(caller);
                }
                self.abandoned = true;
                self.engine.abandon(self.clock());
                self.links.clear();
                self.settle();
                self.check_ended();
                if !self.asked.is_empty() || self.engine.status().queued_requests > 0 {
                    let what = format!("pending after its runtime is gone: {:?}", self.asked);
                    self.oracle.fail(1, what);
                }
                self.count("abandoned");
                self.done = true;
            }
        }
    }

    /// What stands at each key, at whoever serves it, is what it should be.
    fn check_settled(&mut self) {
        let unix = self.when().unix;
        let mut held = BTreeMap::new();
        for node in 0..self.servers() {
            let server = self.server_at(node);
            for key in server.keys().into_iter().filter(|key| self.is_served_by(node, key)) {
                if let Some(data) = server.peek(&key, unix) {
                    held.insert(key, data.clone());
                }
            }
        }
        self.oracle.check_settled(&self.server, &held);
    }

    pub(crate) fn close(&mut self) {
        if self.closing_since.is_some() {
            return;
        }
        let grace = self.entropy.millis(0, 500);
        self.trace(format_args!("closing, {grace:?}"));
        self.count("closed");
        self.closing_since = Some(self.now);
        self.engine.shutdown(grace, self.clock());
    }
}

//! The server is judged: a circuit breaker that trips on evidence and is closed again by probes.
//!
//! ```text
//!   Starting ──ready──▶ Live ──lost, silent──▶ Suspect ──ready──▶ Live
//!       │                                         │
//!       └────────── first dial failed ──┬── dial refused, or not through in time,
//!                                       ▼   or too many faults
//!                                     Down ──probes, barrier, drain──▶ Live
//! ```

use std::time::{Duration, Instant};

use super::{ConnId, Engine, Event, Health, NodeId, recovery::Stage, trial::Rare};
use crate::{Cause, config::Breaker};

#[derive(Debug)]
pub(super) enum Phase {
    /// No connection was ever ready.
    Starting,
    Live,
    /// Judged down at `judge_at`, unless a connection is ready before.
    Suspect {
        judge_at: Instant,
    },
    Down {
        stage: Stage,
        alarm: Alarm,
    },
}

/// When operators are reminded that the server is still down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm {
    since: Instant,
    span: Duration,
}

impl Phase {
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Phase::Live)
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self, Phase::Down { .. })
    }

    /// What operators call it.
    pub(super) fn health(&self) -> Health {
        match self {
            Phase::Starting => Health::Connecting,
            Phase::Live => Health::Live,
            Phase::Suspect { .. } => Health::Suspect,
            Phase::Down { stage, .. } => match stage {
                Stage::Waiting(_) | Stage::Asking { .. } | Stage::Between { .. } => {
                    Health::Degraded
                }
                Stage::Barrier(_) | Stage::Draining | Stage::Pause(_) => Health::Recovering,
            },
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Phase::Down { stage: Stage::Draining | Stage::Pause(_), .. })
    }

    pub(super) fn due(&self, ready: bool) -> Option<Instant> {
        match self {
            Phase::Starting | Phase::Live => None,
            Phase::Suspect { judge_at } => Some(*judge_at),
            Phase::Down { stage, alarm } => {
                let stage = stage.due().filter(|_| ready);
                stage.into_iter().chain(Some(alarm.since + alarm.span)).min()
            }
        }
    }
}

/// Outcomes of late: one count of faults and one of answers for each slice of the window.
#[derive(Debug)]
pub(super) struct Window {
    slices: [(u32, u32); SLICES],
    at: usize,
    /// When the slice at `at` began.
    begun: Instant,
}

/// How finely the window of faults is counted.
const SLICES: usize = 10;

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Window { slices: [(0, 0); SLICES], at: 0, begun: now }
    }

    /// Counts an answer. In the slice of the last fault, for it has no time to look at the clock: when
    /// there was none for long, what was counted before is forgotten with the next.
    pub(super) fn answer(&mut self) {
        let count = &mut self.slices[self.at].1;
        *count = count.saturating_add(1);
    }

    /// Counts a fault.
    pub(super) fn fault(&mut self, config: &Breaker, now: Instant) {
        self.move_on(config, now);
        let count = &mut self.slices[self.at].0;
        *count = count.saturating_add(1);
    }

    fn move_on(&mut self, config: &Breaker, now: Instant) {
        let slice = config.fault_window / SLICES as u32;
        let passed = now.saturating_duration_since(self.begun);
        let steps = (passed.as_nanos() / slice.as_nanos().max(1)).min(SLICES as u128) as usize;
        for _ in 0..steps {
            self.at = (self.at + 1) % SLICES;
            self.slices[self.at] = (0, 0);
        }
        if steps > 0 {
            self.begun = now;
        }
    }

    /// Whether faults are too many among the outcomes of the `fault_window` before the last fault.
    pub(super) fn trips(&self, config: &Breaker) -> bool {
        let faults: u64 = self.slices.iter().map(|(faults, _)| u64::from(*faults)).sum();
        let answers: u64 = self.slices.iter().map(|(_, answers)| u64::from(*answers)).sum();
        let outcomes = faults + answers;
        outcomes >= u64::from(config.fault_outcomes_min)
            && faults * 100 >= outcomes * u64::from(config.fault_percent)
    }
}

impl<W> Engine<W> {
    /// How the client stands with its server.
    pub fn health(&self) -> Health {
        if self.is_closed() {
            return Health::Closed;
        }
        match &self.cluster {
            None => self.nodes[self.nodes.home()].phase.health(),
            Some(cluster) => self.health_of_all(cluster),
        }
    }

    /// Moves to another phase; one event where that changes how the client stands.
    pub(super) fn enter(&mut self, node: NodeId, phase: Phase, cause: Option<Cause>) {
        let from = self.nodes[node].phase.health();
        self.nodes[node].phase = phase;
        let to = self.nodes[node].phase.health();
        // What keeps it down may not be what brought it down.
        if cause.is_some() || (from != to && to == Health::Live) {
            self.nodes[node].cause.clone_from(&cause);
        }
        if from != to {
            if to == Health::Degraded {
                self.distrust_unanswered();
            }
            self.scripts.stale();
            self.nodes[node].phase_since = self.now.instant;
            self.stirred = true;
            if self.cluster.is_none() {
                return self.event(Event::HealthChanged { from, to, cause });
            }
            if node != self.nodes.home() {
                let node = self.nodes[node].label.clone();
                self.event(Event::NodeHealthChanged { node, from, to, cause: cause.clone() });
            }
            self.tell_whole();
        }
    }

    /// Tells how the cluster stands as a whole, where that has changed since it was told last.
    pub(super) fn tell_whole(&mut self) {
        let to = self.health();
        let from = std::mem::replace(&mut self.whole, to);
        if from != to {
            self.whole_since = self.now.instant;
            let cause = self.cause_of_all();
            if let Some(cluster) = &mut self.cluster {
                cluster.was_live |= to == Health::Live;
            }
            self.event(Event::HealthChanged { from, to, cause });
        }
    }

    /// Whether it is known how the server stands, as far as that matters to those who want to begin.
    pub(super) fn was_judged(&self, node: NodeId) -> bool {
        match &self.nodes[node].phase {
            Phase::Live => true,
            Phase::Starting | Phase::Suspect { .. } => false,
            // That an operator wants it so says nothing of the server.
            Phase::Down { .. } => {
                let forced = matches!(self.nodes[node].cause, Some(Cause::Forced(_)));
                !forced || self.may_answer() || self.is_isolated()
            }
        }
    }

    pub(super) fn start_over(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.was_live = false;
        }
        for (_, node) in self.nodes.iter_mut().filter(|(_, node)| !node.phase.is_down()) {
            node.phase = Phase::Starting;
            node.phase_since = self.now.instant;
        }
        self.whole = self.health();
    }

    /// A connection has its handshake behind it.
    pub(super) fn on_ready(&mut self, conn: ConnId) {
        let Some(node) = self.node_of(conn) else { return };
        self.nodes[node].dial = super::dial::Dial::Idle;
        self.nodes[node].conn = Some(conn);
        self.nodes[node].ready_at = Some(self.now.instant);
        self.made += 1;
        self.nodes[node].made = self.made;
        self.nodes[node].scripts_sent.clear();
        self.nodes[node].rejected = None;
        self.nodes[node].resp2_guessed = false;
        self.event(Event::Ready { node: self.nodes[node].label.clone() });
        if self.memory.degrades() {
            self.ask_lineage(conn);
        }
        // Where nothing degrades nobody needs to be protected from a hasty return.
        let hasty = !self.memory.degrades() && !self.is_held_down();
        match &mut self.nodes[node].phase {
            Phase::Starting | Phase::Suspect { .. } => self.enter(node, Phase::Live, None),
            Phase::Live => {}
            Phase::Down { .. } if hasty => self.enter(node, Phase::Live, None),
            Phase::Down { stage, .. } => {
                let until = match stage {
                    Stage::Waiting(until) => *until,
                    _ => self.now.instant,
                };
                // The connection that recovery was under way on may still be closing.
                self.enter_stage(node, Stage::Waiting(until), None);
                self.note_recovering(node);
                self.place_held();
            }
        }
        self.end_connect_waits();
        self.place_backlog(node);
        self.settle_detours();
        if self.cluster.as_ref().is_some_and(|cluster| !cluster.is_mapped()) {
            self.want_refresh();
            self.run_cluster(self.now.instant);
        }
        self.carry_on(conn);
        self.leases.stirred = true;
        self.run_phase(node, self.now.instant);
    }

    /// The connection that took requests is lost or takes no more.
    pub(super) fn on_lost(&mut self, node: NodeId, cause: Cause) {
        // An operator's doing is no fault of the server's.
        let fault = !matches!(cause, Cause::Forced(_));
        if fault {
            self.nodes[node].window.fault(&self.config.breaker, self.now.instant);
        }
        match &mut self.nodes[node].phase {
            Phase::Live => {
                let judge_at = self.now.instant + self.config.response_timeout;
                self.enter(node, Phase::Suspect { judge_at }, Some(cause.clone()));
            }
            Phase::Down { stage, .. } => {
                if let Stage::Waiting(until) = *stage {
                    self.enter_stage(node, Stage::Waiting(until), Some(cause.clone()));
                } else {
                    self.enter_stage(node, Stage::Waiting(self.now.instant), Some(cause.clone()));
                    self.place_held();
                }
            }
            Phase::Starting | Phase::Suspect { .. } => {}
        }
        if fault {
            self.want_refresh();
        }
        if fault && self.nodes[node].window.trips(&self.config.breaker) {
            self.reached(Rare::WindowTrips);
            self.trip(node, cause);
        }
        self.dial_anew(node);
    }

    /// Judges the server down: what may degrade is answered from memory from now on, what waits
    /// among it first, in the order in which it came.
    pub(super) fn trip(&mut self, node: NodeId, cause: Cause) {
        if self.nodes[node].phase.is_down() {
            return self.confirm_down(node, cause);
        }
        let now = self.now.instant;
        let config = &self.config.breaker;
        let again = self.nodes[node].recovered_at.is_some_and(|at| now - at < config.retrip_window);
        self.nodes[node].probe_interval = if again {
            self.trial.reached(Rare::DownAgainSoon);
            (self.nodes[node].probe_interval * 2).min(config.probe_interval_max)
        } else {
            config.probe_interval
        };
        let first_probe = if again { self.next_probe(node) } else { now };
        self.enter_down(node, first_probe, cause);
        self.end_connect_waits();
        if self.memory.degrades() {
            self.place_waiting();
        }
        self.run_phase(node, now);
        self.trip_home();
        self.want_refresh();
    }

    pub(super) fn enter_down(&mut self, node: NodeId, first_probe: Instant, cause: Cause) {
        let alarm = Alarm { since: self.now.instant, span: self.config.breaker.down_event_after };
        self.enter(node, Phase::Down { stage: Stage::Waiting(first_probe), alarm }, Some(cause));
    }

    /// The server is down, and was taken for it before. What keeps it down now is told from now on; if it
    /// was taken for it only because an operator wanted it so, it is known better now.
    fn confirm_down(&mut self, node: NodeId, cause: Cause) {
        let before = self.nodes[node].cause.replace(cause);
        if matches!(before, Some(Cause::Forced(_))) {
            self.reached(Rare::FoundDown);
            self.end_connect_waits();
        }
    }

    /// What kept the server from being reached does so no more; what is left is to recover.
    fn note_recovering(&mut self, node: NodeId) {
        let held = self.is_held_down();
        let cause = &mut self.nodes[node].cause;
        // That says more precisely why it has to.
        if !held && !matches!(cause, Some(Cause::TookOver)) {
            *cause = Some(Cause::Recovering);
        }
    }

    /// Places anew what waits for a connection or a retry, in the order in which it came.
    pub(super) fn place_waiting(&mut self) {
        let mut waiting = Vec::new();
        for (_, node) in self.nodes.iter_mut() {
            waiting.extend(std::mem::take(&mut node.backlog));
        }
        // The server refused these when what waits had not been sent or not been answered.
        let mut delayed: Vec<_> = std::mem::take(&mut self.delayed).into_iter().collect();
        delayed.sort_unstable_by_key(|((_, count), _)| *count);
        for (at, parked) in delayed {
            if self.is_degraded(self.route(&parked.op), parked.op.standing) || self.is_isolated() {
                self.place(parked);
            } else {
                self.delayed.insert(at, parked);
            }
        }
        for parked in waiting {
            self.place(parked);
        }
        self.announce();
        self.place_leased_anew();
    }

    /// What keeps the server down, for those who are told that it is.
    pub(super) fn down_cause(&self, node: NodeId) -> Cause {
        match self.forced {
            // There is a server, and it is not asked.
            Some(held) if self.is_held_down() && self.nodes[node].conn.is_some() => {
                Cause::Forced(held)
            }
            _ => self.nodes[node].cause.clone().unwrap_or(Cause::Local),
        }
    }

    pub(super) fn run_phases(&mut self, now: Instant) {
        for node in self.nodes.ids() {
            self.run_phase(node, now);
        }
    }

    pub(super) fn run_phase(&mut self, node: NodeId, now: Instant) {
        match &mut self.nodes[node].phase {
            Phase::Starting | Phase::Live => {}
            Phase::Suspect { judge_at } => {
                if *judge_at <= now && self.nodes[node].conn.is_none() {
                    let cause = self.down_cause(node);
                    self.trip(node, cause);
                }
            }
            Phase::Down { alarm, .. } => {
                if alarm.since + alarm.span <= now {
                    let span = now - alarm.since;
                    while alarm.since + alarm.span <= now {
                        alarm.span *= 2;
                    }
                    self.event(Event::StillDown { span });
                }
                if self.nodes[node].conn.is_some() {
                    self.run_recovery(node, now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
    fn the_first_fault_after_a_quiet_time_counts() {
        let config = Breaker { fault_outcomes_min: 1, ..Breaker::default() };
        let begin = Instant::now();
        let mut window = Window::new(begin);
        window.answer();
        window.fault(&config, begin + 2 * config.fault_window);
        assert!(window.trips(&config));
    }
}

//! Time passes: peers fall silent, requests reach their deadlines, and a client that closes its end.

use std::time::Instant;

use super::{
    ConnId, Engine, Parked,
    transaction::forget,
    trial::{Rare, Sabotage},
};
use crate::{
    connection::Due,
    failure::{Cause, Executed, FailureKind, Stage},
};

impl<W> Engine<W> {
    /// The earliest instant at which time alone changes something.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        if self.is_closed() || self.trial.is(Sabotage::ForgetTimers) {
            return None;
        }
        let connections = self
            .connections
            .iter()
            .filter_map(|(_, connection)| connection.due(&self.config).map(|(at, _)| at));
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        let unheld = self.unheld.then_some(self.now.instant);
        let carriers = self.pubsub.carriers.iter().filter_map(|(_, carrier)| {
            let dial = carrier.side.as_ref().and_then(|side| side.dial.due());
            dial.into_iter().chain(carrier.retry).min()
        });
        let nodes = self.nodes.iter().filter_map(|(_, node)| {
            let phase = node.phase.due(node.conn.is_some());
            node.dial.due().into_iter().chain(phase).chain(node.unready.due()).min()
        });
        let cluster = self.cluster.as_ref().and_then(|cluster| cluster.due(self.now.instant));
        connections
            .chain(carriers)
            .chain(self.leases_due())
            .chain(cluster)
            .chain(self.tickets.earliest())
            .chain(nodes)
            .chain(delayed)
            .chain(unheld)
            .chain(self.closing_due())
            .min()
    }

    /// Does what time has brought. Compares for itself: a timer that came early changes nothing.
    pub(super) fn run_timers(&mut self) {
        if self.is_closed() {
            return;
        }
        let now = self.now.instant;
        self.run_delayed(now);
        self.run_dials(now);
        self.run_cluster(now);
        self.run_unready(now);
        self.run_sides(now);
        self.run_retries(now);
        self.run_connections(now);
        self.run_phases(now);
        self.run_deadlines(now);
        self.run_leases(now);
        self.run_closing(now);
    }

    fn run_connections(&mut self, now: Instant) {
        let due: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| {
                let (at, due) = connection.due(&self.config)?;
                (at <= now).then_some((ConnId(id), due, now - at))
            })
            .collect();
        for (conn, due, late) in due {
            match due {
                Due::Ping => self.ask(conn, crate::connection::Own::Ping, &[b"PING"]),
                // This process stood still, and may not have looked at what has come meanwhile.
                Due::Silent if late > self.config.response_timeout / 2 => {
                    let connection = self.connections.get_mut(conn.0).expect("it is due");
                    connection.grant_more_time(now);
                    self.reached(Rare::MoreTime);
                }
                Due::Silent => {
                    self.reached(Rare::NoticeOfSilence);
                    self.kill(conn, Cause::Silent);
                }
            }
        }
    }

    fn run_deadlines(&mut self, now: Instant) {
        if self.trial.is(Sabotage::ForgetDeadlines) || !self.tickets.expire(now) {
            return;
        }
        self.expire_sent();
        self.expire_parked();
        for ticket in self.tickets.expired_waits() {
            let result = self.connect_result();
            let waiter = self.tickets.end_wait(ticket, result);
            self.wake(waiter);
        }
        for ticket in self.tickets.due_sleeps() {
            let waiter = self.tickets.end_wait(ticket, Ok(()));
            self.wake(waiter);
        }
        self.expire_topics();
    }

    /// Ends what is on a connection and has expired. What the writer has not seen is taken back, so
    /// that it is certain not to run; the rest keeps its place in the queue, and what it counts for:
    /// its reply may still come.
    fn expire_sent(&mut self) {
        let (mut withdrawn, mut retired) = (Vec::new(), Vec::new());
        let tickets = &self.tickets;
        for (conn, connection) in self.connections.iter_mut().filter(|(_, found)| found.is_ready())
        {
            withdrawn.extend(connection.withdraw(|op| tickets.is_expired(op.ticket)));
            retired.extend(connection.retiring.then_some(ConnId(conn)));
        }
        retired.into_iter().for_each(|conn| self.end_retired(conn));
        for op in withdrawn {
            self.reached(Rare::TakenBack);
            self.soil(&op);
            self.end_without_answer(&op, FailureKind::DeadlinePassed(Stage::Connection));
        }
        let mut expired = Vec::new();
        for (_, connection) in self.connections.iter() {
            for owed in connection.owed() {
                let op = owed.owner.op().filter(|op| self.tickets.is_expired(op.ticket));
                let Some(op) = op else { continue };
                let maybe = op.maybe || !connection.is_unsent(owed.end);
                let executed = if maybe { Executed::Maybe } else { Executed::No };
                let kind = FailureKind::DeadlinePassed(Stage::Reply);
                expired.push((op.ticket, op.item, self.failure(op, kind, executed)));
                if maybe {
                    forget(&mut self.memory, &self.blocks, op, self.now);
                }
            }
            for (op, ..) in &connection.refused {
                if self.tickets.is_expired(op.ticket) {
                    let kind = FailureKind::DeadlinePassed(Stage::Retry);
                    let failure = self.failure(op, kind, op.executed_so_far());
                    expired.push((op.ticket, op.item, failure));
                }
            }
        }
        for (ticket, item, failure) in expired {
            self.reached(Rare::ExpiredUnanswered);
            let waiter = self.tickets.end(ticket, item, Err(failure));
            self.wake(waiter);
        }
    }

    fn expire_parked(&mut self) {
        let tickets = &self.tickets;
        let expired = |parked: &Parked| tickets.is_expired(parked.op.ticket);
        let mut ended: Vec<(Parked, Stage)> = Vec::new();
        for (_, node) in self.nodes.iter_mut() {
            if node.backlog.iter().any(expired) {
                let (gone, kept): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut node.backlog).into_iter().partition(expired);
                node.backlog = kept.into();
                ended.extend(gone.into_iter().map(|parked| (parked, Stage::Connection)));
            }
        }
        if self.held.iter().any(expired) {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.held).into_iter().partition(expired);
            self.held = kept.into();
            for parked in &gone {
                self.memory.disengage(&self.blocks.commands(&parked.op, &parked.bytes));
                self.unheld = true;
                self.trial.reached(Rare::ExpiredHeld);
            }
            ended.extend(gone.into_iter().map(|parked| (parked, Stage::Connection)));
        }
        if self.delayed.values().any(expired) {
            for (at, parked) in std::mem::take(&mut self.delayed) {
                if expired(&parked) {
                    self.trial.reached(Rare::ExpiredDelayed);
                    ended.push((parked, Stage::Retry));
                } else {
                    self.delayed.insert(at, parked);
                }
            }
        }
        if let Some(cluster) = &mut self.cluster {
            let gone = cluster.detours.take(expired);
            ended.extend(gone.into_iter().map(|parked| (parked, Stage::Retry)));
        }
        let of_scripts = self.scripts.take(expired);
        ended.extend(of_scripts.into_iter().map(|parked| (parked, Stage::Script)));
        let in_line = |request: &Vec<Parked>| expired(&request[0]);
        if self.line.iter().any(in_line) {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.line).into_iter().partition(in_line);
            self.line = kept.into();
            for parked in gone.into_iter().flatten() {
                self.in_line.subtract(&parked.op);
                self.trial.reached(Rare::ExpiredInLine);
                ended.push((parked, Stage::Room));
            }
        }
        ended.extend(self.take_expired_of_leases());
        for (Parked { op, cause, .. }, stage) in ended {
            let cause = cause.or_else(|| self.obstacle(self.route(&op)));
            self.end_because(&op, FailureKind::DeadlinePassed(stage), cause);
        }
    }
}

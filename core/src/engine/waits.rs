//! Waiting for no command: until the server can be used, or until a span of time is over.

use std::time::Duration;

use super::{
    Engine, Node, NodeId, Rejected, Ticket,
    dial::{Dial, LATE_LOOKUP},
    tickets::Work,
};
use crate::{
    Failure, Now,
    failure::{Cause, Executed, FailureKind, Stage},
};

impl<W> Engine<W> {
    /// Begins to connect, if nobody has; the ticket ends when the first connection is ready, or was
    /// judged.
    ///
    /// It ends well once the server can be used, and also when the server can't be reached but some
    /// key pattern may be answered without it. It ends with a failure when the server can't be
    /// reached and nothing may degrade, and whenever the credentials or the configuration are wrong.
    pub fn connect(&mut self, waiter: Option<W>, now: Now) -> Ticket {
        self.note_time(now);
        let deadline = self.now.instant + self.config.connect_timeout;
        let work = Work::Wait(None);
        let ticket = self.tickets.insert(work, waiter, deadline, vec![(0, "connect".into())]);
        self.stirred = true;
        if let Err(Rejected::Failed(failure)) = self.check_open("connect") {
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
            return ticket;
        }
        self.ensure_dials();
        self.ensure_map();
        if self.store.is_some() || self.is_judged() {
            self.end_connect_waits();
        }
        ticket
    }

    /// Waits for `span`: the ticket ends well with the first drain after it. If the client is closed or
    /// what drives it is dropped before, it ends with that failure.
    pub fn sleep(&mut self, span: Duration, waiter: Option<W>, now: Now) -> Ticket {
        self.note_time(now);
        let until = self.now.after(span);
        let ticket = self.tickets.insert(Work::Sleep(None), waiter, until, Vec::new());
        self.stirred = true;
        if let Err(Rejected::Failed(failure)) = self.check_open("sleep") {
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
        }
        ticket
    }

    // ---- inside --------------------------------------------------------------------------------

    /// Whether it is known how the server stands, or every node of a cluster.
    fn is_judged(&self) -> bool {
        match &self.cluster {
            None => self.was_judged(self.nodes.home()),
            Some(cluster) => self.all_judged(cluster),
        }
    }

    pub(super) fn end_connect_waits(&mut self) {
        if self.cluster.is_some() && !self.is_judged() && !self.is_isolated() {
            return;
        }
        for ticket in self.tickets.waits() {
            let result = self.connect_result();
            let waiter = self.tickets.end_wait(ticket, result);
            self.wake(waiter);
        }
    }

    /// What `connect` says now that the server was judged, or its time limit has passed.
    pub(super) fn connect_result(&self) -> Result<(), Failure> {
        let node = self.spokesman();
        if let Some(cause) = &node.rejected {
            let (kind, cause) = match cause.refusal() {
                Some((error, added)) => (FailureKind::Server(error.clone()), added),
                None => (FailureKind::Down(cause.clone()), None),
            };
            return Err(self.connect_failure(kind).because(cause));
        }
        if node.conn.is_some() || node.phase.is_live() || self.may_answer() {
            return Ok(());
        }
        if self.is_isolated() {
            return Err(self.connect_failure(FailureKind::Isolated));
        }
        Err(match &node.cause {
            Some(cause) => self.connect_failure(FailureKind::Down(cause.clone())),
            None => {
                let failure = self.connect_failure(FailureKind::DeadlinePassed(Stage::Connection));
                failure.because(self.obstacle(self.nodes.home()))
            }
        })
    }

    /// What keeps requests for a node from being sent, as far as that is known.
    pub(super) fn obstacle(&self, node: NodeId) -> Option<Cause> {
        let of = |node: &Node| node.cause.clone().or_else(|| self.dial_cause(node));
        // Without a map any of the nodes could give it.
        let any = || self.nodes.iter().find_map(|(_, node)| of(node));
        of(&self.nodes[node]).or_else(|| any().filter(|_| node == self.nodes.home()))
    }

    /// What a node that is being connected to has not got through with so far.
    fn dial_cause(&self, node: &Node) -> Option<Cause> {
        match &node.dial {
            Dial::Idle | Dial::Waiting(_) => None,
            Dial::Resolving { .. } => Some(Cause::NameNotFound(LATE_LOOKUP.into())),
            Dial::Opening { conn, .. } => {
                let connection = self.connections.get(conn.0);
                let closing = connection.and_then(|connection| connection.closing_cause().cloned());
                Some(closing.unwrap_or(Cause::ConnectTimeout))
            }
        }
    }

    fn connect_failure(&self, kind: FailureKind) -> Failure {
        Failure::new(kind, Executed::No, "connect")
            .at(Some(self.nodes[self.nodes.home()].label.clone()))
    }
}

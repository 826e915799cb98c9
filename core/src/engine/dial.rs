//! Connections are made: one attempt at a time, over all addresses of a name, for ever.
//!
//! ```text
//!   Idle ──▶ Resolving ──▶ Opening (socket, then handshake) ──ready──▶ Idle
//!               │              │ next address
//!               ▼              ▼
//!            Waiting ◀──── failed
//!               └── after its delay ──▶ Resolving
//! ```

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    Closing, ConnId, Engine, Event, Lookup, Node, NodeId, Output, Phase, SocketOptions, Target,
    trial::{Rare, Sabotage},
};
use crate::{
    config::{Endpoint, ProtocolChoice},
    connection::{Connection, Progress, Rejection, Role, State},
    failure::{Cause, FailureKind},
    fallback::Standing,
    resp::Reply,
};

#[derive(Debug, Default)]
pub(super) enum Dial {
    #[default]
    Idle,
    /// Until its delay has passed.
    Waiting(Instant),
    Resolving {
        lookup: Lookup,
        until: Instant,
    },
    /// One address is tried until `until` (`None`: it is given up and being closed), the last of
    /// them until `end`.
    Opening {
        conn: ConnId,
        rest: VecDeque<SocketAddr>,
        until: Option<Instant>,
        end: Instant,
    },
}

/// A connection that lived for less than this counts as a failed dial: the next one waits.
pub(super) const STABLE_AFTER: Duration = Duration::from_millis(500);

pub(super) const LATE_LOOKUP: &str = "the look-up took too long";

/// Failed dials that were neither refused nor silent before the server is judged down, where the
/// configuration names no number.
const FAILED_DIALS_MAX_DEFAULT: u32 = 3;

impl Dial {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Dial::Idle => None,
            Dial::Waiting(until) | Dial::Resolving { until, .. } => Some(*until),
            Dial::Opening { until, .. } => *until,
        }
    }

    /// Notes that a connection is being closed, so that no time limit is left for it.
    pub(super) fn closing(&mut self, closing: ConnId) {
        if let Dial::Opening { conn, until, .. } = self
            && *conn == closing
        {
            *until = None;
        }
    }

    /// Until when it waits for this look-up, if it does.
    pub(super) fn awaits(&self, sought: Lookup) -> Option<Instant> {
        match self {
            Dial::Resolving { lookup, until } if *lookup == sought => Some(*until),
            _ => None,
        }
    }

    /// The connection that is being made, if one is.
    pub(super) fn opening(&self) -> Option<ConnId> {
        match self {
            Dial::Opening { conn, .. } => Some(*conn),
            Dial::Idle | Dial::Waiting(_) | Dial::Resolving { .. } => None,
        }
    }

    pub(super) fn is(&self, conn: ConnId) -> bool {
        matches!(self, Dial::Opening { conn: dialled, .. } if *dialled == conn)
    }
}

impl<W> Engine<W> {
    /// Begins to dial every node to which there is neither a connection nor an attempt at one.
    pub(super) fn ensure_dials(&mut self) {
        self.ensure_map();
        for node in self.nodes.ids() {
            self.ensure_dial(node);
        }
    }

    /// Begins to dial, if there is neither a connection nor an attempt at one.
    pub(super) fn ensure_dial(&mut self, node: NodeId) {
        self.begun = true;
        let open = self.closing == Closing::Open
            && self.store.is_none()
            && !self.is_isolated()
            && !self.nodes[node].gone;
        // What was on a connection that is being closed goes first, and what it is nobody knows yet.
        let closing = self.connections.iter().any(|(_, found)| {
            found.node == node && found.is_main() && found.was_ready() && !found.retiring
        });
        let dials = !matches!(self.nodes[node].dial, Dial::Idle);
        let idle = self.nodes[node].conn.is_none() && !dials;
        if open && !closing && (idle || (dials && self.trial.is(Sabotage::DialTwice))) {
            self.dial(node);
        }
    }

    fn dial(&mut self, node: NodeId) {
        self.nodes[node].dial = self.begin_dial(node, Role::Main);
    }

    /// Begins to make a connection; gives how far it is.
    pub(super) fn begin_dial(&mut self, node: NodeId, role: Role) -> Dial {
        let end = self.now.instant + self.config.connect_timeout;
        let Some(endpoint) = self.nodes[node].endpoint.clone() else { return Dial::Idle };
        match endpoint {
            Endpoint::Unix(path) => self.open(node, role, Target::Unix(path), VecDeque::new(), end),
            Endpoint::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => {
                    let target = Target::Tcp(SocketAddr::new(ip, port));
                    self.open(node, role, target, VecDeque::new(), end)
                }
                Err(_) => {
                    self.lookups += 1;
                    let lookup = Lookup(self.lookups);
                    self.outputs.push_back(Output::Resolve { lookup, host, port });
                    Dial::Resolving { lookup, until: end }
                }
            },
        }
    }

    pub(super) fn on_resolved(&mut self, lookup: Lookup, addresses: Result<&[SocketAddr], Cause>) {
        let addresses = addresses.map(|all| all.iter().copied().collect::<VecDeque<_>>());
        let feeds = self.pubsub.feeds().into_iter();
        let side = feeds.filter_map(|feed| {
            let until = self.side_mut(feed)?.dial.awaits(lookup)?;
            Some((feed, until))
        });
        if let Some((feed, until)) = side.collect::<Vec<_>>().pop() {
            return self.on_side_resolved(feed, addresses, until);
        }
        if let Some((seat, until)) = self.seat_awaiting(lookup) {
            return self.on_seat_resolved(seat, addresses, until);
        }
        let awaits = |(id, node): (NodeId, &Node)| Some((id, node.dial.awaits(lookup)?));
        let Some((node, until)) = self.nodes.iter().find_map(awaits) else { return };
        match addresses {
            Ok(mut addresses) => match addresses.pop_front() {
                Some(first) => {
                    let first = Target::Tcp(first);
                    self.nodes[node].dial = self.open(node, Role::Main, first, addresses, until);
                }
                None => {
                    self.reached(Rare::NoAddress);
                    let cause = Cause::NameNotFound("it has no address".into());
                    self.dial_failed(node, cause, false);
                }
            },
            Err(cause) => self.dial_failed(node, cause, false),
        }
    }

    /// Opens one address; those left share what remains of the time limit. Gives how far it is.
    pub(super) fn open(
        &mut self,
        node: NodeId,
        role: Role,
        target: Target,
        rest: VecDeque<SocketAddr>,
        end: Instant,
    ) -> Dial {
        let now = self.now.instant;
        let share = end.saturating_duration_since(now) / (rest.len() as u32 + 1);
        let connection = Connection::new(&self.config, role, node, now);
        let conn = ConnId(self.connections.insert(connection));
        let socket = SocketOptions {
            nodelay: self.config.tcp_nodelay,
            keepalive: self.config.tcp_keepalive,
        };
        self.outputs.push_back(Output::Open { conn, target, socket });
        Dial::Opening { conn, rest, until: Some(now + share), end }
    }

    pub(super) fn on_opened(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        if !matches!(connection.state, State::Opening) {
            return;
        }
        let node = &self.nodes[connection.node];
        let ready = connection.opened(&self.config, node.resp2_only, self.now.instant);
        if connection.is_main() {
            self.event(Event::Connect { node: node.label.clone() });
        }
        self.outputs.push_back(Output::Flush { conn });
        if ready {
            self.on_shaken_hands(conn);
        }
    }

    fn on_shaken_hands(&mut self, conn: ConnId) {
        match self.connections.get(conn.0).map(|connection| connection.role) {
            Some(Role::Main) => self.on_ready(conn),
            Some(Role::Own(feed)) => self.on_side_ready(conn, feed),
            Some(Role::Leased(seat)) => self.on_seat_ready(conn, seat),
            None => {}
        }
    }

    pub(super) fn on_handshake_reply(&mut self, conn: ConnId, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        let State::Handshaking(handshake) = &mut connection.state else { return };
        match handshake.on_reply(reply, &self.config) {
            Progress::Going => {}
            Progress::Done => {
                connection.become_ready();
                self.on_shaken_hands(conn);
            }
            Progress::Again(bytes) => {
                self.nodes[connection.node].resp2_only = true;
                connection.go_on(&bytes, self.now.instant);
                self.outputs.push_back(Output::Flush { conn });
            }
            Progress::Failed(rejection) => self.refused(conn, rejection),
        }
    }

    /// The server does not want this client.
    pub(super) fn refused(&mut self, conn: ConnId, rejection: Rejection) {
        let Rejection { cause, lasting } = rejection;
        let main = self.connections.get(conn.0).filter(|connection| connection.is_main());
        if let Some(connection) = main.filter(|_| lasting) {
            self.nodes[connection.node].rejected = Some(cause.clone());
        }
        self.kill(conn, cause);
    }

    /// The connection being dialled is gone before it was ready.
    pub(super) fn dial_lost(&mut self, node: NodeId, awaited_hello: bool, cause: Cause) {
        let dial = std::mem::replace(&mut self.nodes[node].dial, Dial::Idle);
        let Dial::Opening { rest, end, .. } = dial else { return };
        // An operator's doing is no fault of the server's.
        if self.is_isolated() || matches!(cause, Cause::Forced(_)) {
            return self.ensure_dial(node);
        }
        let mut rest = rest;
        let hung_up = matches!(cause, Cause::EndOfStream | Cause::Reset) && awaited_hello;
        if hung_up && self.config.protocol == ProtocolChoice::Auto && !self.nodes[node].resp2_only {
            // Some proxies end the stream at a command they do not know.
            self.reached(Rare::GuessedResp2);
            self.nodes[node].resp2_only = true;
            self.nodes[node].resp2_guessed = true;
            return self.dial(node);
        }
        let lasting = self.nodes[node].rejected.as_ref() == Some(&cause);
        if !lasting {
            self.nodes[node].rejected = None;
        }
        match rest.pop_front() {
            Some(next) if !lasting && self.now.instant < end => {
                self.reached(Rare::NextAddress);
                self.nodes[node].dial = self.open(node, Role::Main, Target::Tcp(next), rest, end);
            }
            _ => self.dial_failed(node, cause, lasting),
        }
    }

    pub(super) fn dial_failed(&mut self, node: NodeId, cause: Cause, lasting: bool) {
        self.nodes[node].failed_dials = self.nodes[node].failed_dials.saturating_add(1);
        if std::mem::take(&mut self.nodes[node].resp2_guessed) {
            self.reached(Rare::GuessTakenBack);
            self.nodes[node].resp2_only = false;
        }
        self.nodes[node].window.fault(&self.config.breaker, self.now.instant);
        self.event(Event::Error { node: self.nodes[node].label.clone(), cause: cause.clone() });
        self.dial_later(node);
        if lasting {
            self.reached(Rare::Rejected);
            self.refuse_waiting(node, &cause);
            if self.cluster.as_ref().is_some_and(|cluster| !cluster.is_mapped()) {
                self.refuse_waiting(self.nodes.home(), &cause);
            }
            self.refuse_topics(&cause);
        }
        let most = self.config.dial.failed_dials_max.unwrap_or(FAILED_DIALS_MAX_DEFAULT);
        // A server that was well may drop a connection in mid-handshake, so one such failure proves
        // nothing of it.
        let judged = matches!(cause, Cause::Refused | Cause::NotFound)
            || lasting
            || self.nodes[node].failed_dials >= most
            || matches!(self.nodes[node].phase, Phase::Starting);
        if judged {
            self.trip(node, cause);
        } else if matches!(self.nodes[node].phase, Phase::Suspect { .. }) {
            // Why it was lost is not why it can't be reached.
            self.nodes[node].cause = Some(cause);
        }
    }

    fn dial_later(&mut self, node: NodeId) {
        let delay = self.dial_delay(self.nodes[node].failed_dials);
        self.event(Event::Reconnecting { node: self.nodes[node].label.clone(), delay });
        self.nodes[node].dial = Dial::Waiting(self.now.instant + delay);
    }

    /// How long to wait after so many failed dials in a row.
    pub(super) fn dial_delay(&mut self, failed: u32) -> Duration {
        let jitter = self.config.dial.jitter_percent;
        self.rng.around(self.config.dial.backoff.delay(failed.saturating_sub(1)), jitter)
    }

    /// The connection that took requests is gone: the next one is dialled at once, unless this one
    /// had hardly begun.
    pub(super) fn dial_anew(&mut self, node: NodeId) {
        let open = self.closing == Closing::Open && !self.is_isolated() && !self.nodes[node].gone;
        if !open || !matches!(self.nodes[node].dial, Dial::Idle) {
            return;
        }
        let lived =
            self.nodes[node].ready_at.map(|at| self.now.instant.saturating_duration_since(at));
        if lived.is_some_and(|lived| lived >= STABLE_AFTER) {
            self.nodes[node].failed_dials = 0;
            self.dial(node);
        } else {
            self.reached(Rare::YoungConnectionLost);
            self.nodes[node].failed_dials = self.nodes[node].failed_dials.saturating_add(1);
            self.dial_later(node);
        }
    }

    /// Requests that would wait for a server which refuses this client are told at once.
    pub(super) fn refuse_waiting(&mut self, node: NodeId, cause: &Cause) {
        let waiting = std::mem::take(&mut self.nodes[node].backlog);
        for parked in waiting {
            if parked.op.standing != Standing::Wait {
                self.nodes[node].backlog.push_back(parked);
                continue;
            }
            let (kind, cause) = match cause.refusal() {
                Some((error, added)) => (FailureKind::Server(error.clone()), added),
                None => (FailureKind::ConnectionLost(cause.clone()), None),
            };
            self.end_because(&parked.op, kind, cause);
        }
    }

    pub(super) fn run_dials(&mut self, now: Instant) {
        for node in self.nodes.ids() {
            self.run_dial(node, now);
        }
    }

    fn run_dial(&mut self, node: NodeId, now: Instant) {
        match &self.nodes[node].dial {
            Dial::Waiting(until) if *until <= now => {
                self.nodes[node].dial = Dial::Idle;
                self.ensure_dial(node);
            }
            Dial::Resolving { until, .. } if *until <= now => {
                self.nodes[node].dial = Dial::Idle;
                self.reached(Rare::LateLookup);
                let cause = Cause::NameNotFound(LATE_LOOKUP.into());
                self.dial_failed(node, cause, false);
            }
            Dial::Opening { conn, until: Some(until), .. } if *until <= now => {
                let conn = *conn;
                self.reached(Rare::LateDial);
                self.kill(conn, Cause::ConnectTimeout);
            }
            _ => {}
        }
    }
}

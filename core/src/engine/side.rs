//! Connections of their own, beside the one for requests: the same node, with a small dial of each.
//!
//! They are made while the one for requests is ready, and wait for it where it is not: so a node that
//! is down is dialled once and not once for each. For the same reason nothing that happens to them
//! speaks for or against the server: that is judged by the connection for requests, which goes to the
//! same place, and a server may well close one and keep the other (its limits for subscribers, CLIENT
//! KILL TYPE pubsub).

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use super::{
    Closing, ConnId, Engine, FeedId, Linger, Output, Target,
    dial::{Dial, LATE_LOOKUP, STABLE_AFTER},
    trial::Rare,
};
use crate::{connection::Role, failure::Cause};

/// How one of them is made.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) dial: Dial,
    failed_dials: u32,
    /// When it became ready.
    ready_at: Option<Instant>,
}

impl<W> Engine<W> {
    /// Begins to dial, if there is neither a connection nor an attempt at one.
    pub(super) fn ensure_side(&mut self, feed: FeedId) {
        // While its reader has no room, nobody would read what it says.
        let Some(carrier) = self.pubsub.get(feed) else { return };
        let node = carrier.node;
        let may = self.closing == Closing::Open
            && !self.is_isolated()
            && self.nodes[node].conn.is_some()
            && self.pubsub.has_room(feed);
        let idle = carrier.side.as_ref().is_some_and(|side| matches!(side.dial, Dial::Idle));
        if may && idle && carrier.conn.is_none() {
            let dial = self.begin_dial(node, Role::Own(feed));
            self.set_side(feed, dial);
        }
    }

    fn set_side(&mut self, feed: FeedId, dial: Dial) {
        if let Some(side) = self.side_mut(feed) {
            side.dial = dial;
        }
    }

    pub(super) fn side_mut(&mut self, feed: FeedId) -> Option<&mut Side> {
        self.pubsub.get_mut(feed)?.side.as_mut()
    }

    /// The names that are being looked up have addresses now.
    pub(super) fn on_side_resolved(
        &mut self,
        feed: FeedId,
        addresses: Result<VecDeque<SocketAddr>, Cause>,
        until: Instant,
    ) {
        let Some(node) = self.pubsub.get(feed).map(|carrier| carrier.node) else { return };
        match addresses {
            Ok(mut addresses) => match addresses.pop_front() {
                Some(first) => {
                    let role = Role::Own(feed);
                    let dial = self.open(node, role, Target::Tcp(first), addresses, until);
                    self.set_side(feed, dial);
                }
                None => self.side_failed(feed, Cause::NameNotFound("it has no address".into())),
            },
            Err(cause) => self.side_failed(feed, cause),
        }
    }

    /// It has its handshake behind it.
    pub(super) fn on_side_ready(&mut self, conn: ConnId, feed: FeedId) {
        let now = self.now.instant;
        let carrier = self.pubsub.get_mut(feed);
        let Some(carrier) = carrier.filter(|carrier| carrier.side.is_some()) else {
            return self.kill(conn, Cause::Local);
        };
        carrier.conn = Some(conn);
        let side = carrier.side.get_or_insert_default();
        side.dial = Dial::Idle;
        side.ready_at = Some(now);
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.feed = Some(feed);
        }
        // Another of its stream's connections may have filled it meanwhile.
        if self.pubsub.is_full(feed) {
            self.pause(conn);
        }
        self.pubsub.stirred = true;
    }

    /// It was not ready yet, and is gone.
    pub(super) fn side_dial_lost(&mut self, feed: FeedId, cause: Cause) {
        let Some(node) = self.pubsub.get(feed).map(|carrier| carrier.node) else { return };
        let Some(side) = self.side_mut(feed) else { return };
        let Dial::Opening { mut rest, end, .. } = std::mem::take(&mut side.dial) else { return };
        // An operator's doing is no fault of the server's.
        if self.is_isolated() || matches!(cause, Cause::Forced(_)) {
            return;
        }
        match rest.pop_front() {
            Some(next) if self.now.instant < end => {
                self.reached(Rare::SideNextAddress);
                let dial = self.open(node, Role::Own(feed), Target::Tcp(next), rest, end);
                self.set_side(feed, dial);
            }
            _ => self.side_failed(feed, cause),
        }
    }

    fn side_failed(&mut self, feed: FeedId, cause: Cause) {
        self.reached(Rare::SideFailed);
        let Some(node) = self.pubsub.get(feed).map(|carrier| carrier.node) else { return };
        let Some(side) = self.side_mut(feed) else { return };
        side.failed_dials = side.failed_dials.saturating_add(1);
        let failed = side.failed_dials;
        let until = self.now.instant + self.dial_delay(failed);
        self.set_side(feed, Dial::Waiting(until));
        self.tell_error(node, cause);
        self.stirred = true;
    }

    /// It was ready, and is gone or about to go: another one is dialled at once, unless it had hardly
    /// begun.
    pub(super) fn side_lost(&mut self, feed: FeedId, cause: &Cause) {
        let now = self.now.instant;
        let forced = matches!(cause, Cause::Forced(_));
        let Some(node) = self.pubsub.get(feed).map(|carrier| carrier.node) else { return };
        let Some(side) = self.side_mut(feed) else { return };
        let lived = side.ready_at.take().map(|at| now.saturating_duration_since(at));
        if forced || lived.is_some_and(|lived| lived >= STABLE_AFTER) {
            side.failed_dials = 0;
        } else {
            side.failed_dials = side.failed_dials.saturating_add(1);
            let failed = side.failed_dials;
            let until = now + self.dial_delay(failed);
            self.set_side(feed, Dial::Waiting(until));
        }
        if self.closing == Closing::Open && !forced {
            self.tell_error(node, cause.clone());
        }
    }

    pub(super) fn run_sides(&mut self, now: Instant) {
        for feed in self.pubsub.feeds() {
            let Some(side) = self.side_mut(feed) else { continue };
            match &side.dial {
                Dial::Waiting(until) if *until <= now => {
                    side.dial = Dial::Idle;
                    self.pubsub.stirred = true;
                }
                Dial::Resolving { until, .. } if *until <= now => {
                    side.dial = Dial::Idle;
                    let cause = Cause::NameNotFound(LATE_LOOKUP.into());
                    self.side_failed(feed, cause);
                }
                Dial::Opening { conn, until: Some(until), .. } if *until <= now => {
                    let conn = *conn;
                    self.kill(conn, Cause::ConnectTimeout);
                }
                _ => {}
            }
        }
    }

    /// Nothing is wanted of it any more.
    pub(super) fn close_side(&mut self, feed: FeedId) {
        let Some(carrier) = self.pubsub.get_mut(feed) else { return };
        let Some(side) = carrier.side.as_mut() else { return };
        let side = std::mem::take(side);
        let conn = carrier.conn.take();
        self.drop_side(&side, conn);
    }

    /// Closes what a side has, be it ready or on its way.
    pub(super) fn drop_side(&mut self, side: &Side, conn: Option<ConnId>) {
        let dialled = match side.dial {
            Dial::Opening { conn, .. } => Some(conn),
            Dial::Idle | Dial::Waiting(_) | Dial::Resolving { .. } => None,
        };
        for conn in conn.into_iter().chain(dialled) {
            let Some(connection) = self.connections.get_mut(conn.0) else { continue };
            connection.feed = None;
            if !connection.is_closing() {
                connection.close(Cause::Local);
                self.outputs.push_back(Output::Close { conn, linger: Linger::Deliver });
            }
            self.stirred = true;
        }
    }
}

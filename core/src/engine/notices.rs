//! Where subscriptions meet connections: callers ask for topics, commands go out for them, and what
//! comes in finds its streams.
//!
//! In RESP3 a SUBSCRIBE has no reply but a push for each topic, or one error. So it has a place in the
//! queue of what the peer owes, which its pushes fill and no reply may pass: a reply that comes while
//! it stands first is its error, or the peer is out of step. An unsubscription that nobody asked for
//! takes no place.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    Closing, ConnId, Engine, Event, FeedId, NodeId, Output, StreamId, Ticket,
    flow::NOT_READY_BASE,
    subscriptions::End,
    tickets::Work,
    trial::{Rare, Sabotage},
};
use crate::{
    Failure, Now,
    args::ToArgs,
    config::Backoff,
    connection::{Change, LateRefusal, Role},
    failure::{Cause, Executed, FailureKind, Stage},
    pubsub::{Action, Delivery, Incoming, Notice, Overflow, StreamOptions, TopicKind},
    reply::ServerError,
    resp::{Protocol, Reply, Row},
    slot::slot,
    topology::RedirectKind,
};

/// The most streams of one client that have a connection of their own
/// ([`Overflow::StopReading`](crate::pubsub::Overflow::StopReading)). In a cluster each of them has another one
/// to each node that serves a shard channel which it wants.
pub const OWN_CONNECTIONS_MAX: usize = 64;

/// Delays before topics that the server refused are asked for again: long, because what refuses them
/// lasts (permissions, a slot that moved), and nobody but the stream itself waits.
const REFUSED: Backoff = Backoff { base: NOT_READY_BASE, max: Duration::from_secs(5) };

/// How much these delays differ from one client to the next.
const REFUSED_JITTER_PERCENT: u32 = 20;

const NEEDS_SERVER: &str = "there is no connection whose reading could be stopped without a server: let the oldest \
     messages be dropped instead";

impl<W> Engine<W> {
    // ---- callers -------------------------------------------------------------------------------

    /// Opens a stream of messages, of none so far. It lasts until it is closed, across any number of
    /// connections.
    ///
    /// # Errors
    ///
    /// When the client is closed, or there are as many streams as there may be.
    pub fn open_stream(&mut self, options: StreamOptions) -> Result<StreamId, Failure> {
        let refuse = |kind| Err(Failure::new(kind, Executed::No, "SUBSCRIBE"));
        if self.closing != Closing::Open {
            return refuse(FailureKind::ClientClosed);
        }
        if self.pubsub.streams() >= self.config.subscriptions.subscriptions_max {
            return refuse(FailureKind::SubscriptionsFull("streams of messages"));
        }
        if options.overflow == Overflow::StopReading {
            if self.store.is_some() {
                return refuse(FailureKind::Misuse(NEEDS_SERVER));
            }
            if self.pubsub.own_carriers() >= OWN_CONNECTIONS_MAX {
                return refuse(FailureKind::SubscriptionsFull("connections for streams"));
            }
        }
        Ok(self.pubsub.open(options, &self.config.subscriptions))
    }

    /// Adds topics to a stream. The ticket ends once the server has confirmed them all: from then on no
    /// message to them is missed without a word. It ends with a failure when the server refuses one of
    /// them or `deadline` passes (the client's own if `None`); then none of those that it added is
    /// wanted. Given up, it takes back what it added; [detached](Engine::detach), it leaves the stream
    /// to subscribe whenever that becomes possible.
    ///
    /// # Errors
    ///
    /// When the client is closed, or there are as many subscriptions as there may be.
    pub fn subscribe(
        &mut self,
        stream: StreamId,
        kind: TopicKind,
        names: &(impl ToArgs + ?Sized),
        deadline: Option<Duration>,
        waiter: Option<W>,
        now: Now,
    ) -> Result<Ticket, Failure> {
        self.note_time(now);
        let command = kind.command(Action::Subscribe);
        let refuse = |kind| Err(Failure::new(kind, Executed::No, command));
        if self.closing != Closing::Open {
            return refuse(FailureKind::ClientClosed);
        }
        if !self.pubsub.is_open(stream) {
            return refuse(FailureKind::StreamEnded);
        }
        let most = self.config.subscriptions.subscriptions_max;
        if self.pubsub.wanted() + names.arg_count() > most {
            return refuse(FailureKind::SubscriptionsFull("subscriptions"));
        }
        let deadline = self.now.after(deadline.unwrap_or(self.config.deadline));
        let work = Work::Topics { of: stream, result: None };
        let ticket = self.tickets.insert(work, waiter, deadline, vec![(0, command.into())]);
        self.pubsub.begin_join(stream, ticket);
        self.rehome();
        names.for_each_arg(&mut |name| {
            let node = self.node_of_channel(kind, name.as_bytes());
            self.pubsub.want(stream, kind, name.as_bytes(), node);
        });
        self.pubsub.close_join(stream);
        self.stirred = true;
        self.run_feeds();
        Ok(ticket)
    }

    /// Takes topics from a stream: it gives no message to them any more, not even one that had been
    /// received. The ticket ends once the server has dropped those that nobody else wants.
    ///
    /// # Errors
    ///
    /// When the client is closed or the stream has ended.
    pub fn unsubscribe(
        &mut self,
        stream: StreamId,
        kind: TopicKind,
        names: &(impl ToArgs + ?Sized),
        waiter: Option<W>,
        now: Now,
    ) -> Result<Ticket, Failure> {
        self.note_time(now);
        let command = kind.command(Action::Unsubscribe);
        if !self.pubsub.is_open(stream) {
            return Err(Failure::new(FailureKind::StreamEnded, Executed::No, command));
        }
        let deadline = self.now.after(self.config.deadline);
        let work = Work::Topics { of: stream, result: None };
        let ticket = self.tickets.insert(work, waiter, deadline, vec![(0, command.into())]);
        self.rehome();
        names.for_each_arg(&mut |name| {
            let node = self.node_of_channel(kind, name.as_bytes());
            self.pubsub.leave(stream, kind, name.as_bytes(), node, ticket);
        });
        self.pubsub.close_leave(ticket);
        self.stirred = true;
        self.run_feeds();
        Ok(ticket)
    }

    /// Hands out what comes next on a stream, up to a few hundred items; nothing if nothing is there.
    /// The reader has used up what it got before. Gives whether anything may follow.
    pub fn take_incoming(
        &mut self,
        stream: StreamId,
        into: &mut VecDeque<Incoming>,
        now: Now,
    ) -> bool {
        self.note_time(now);
        self.hear_others();
        let open = self.pubsub.take(stream, into);
        if self.pubsub.stirred {
            self.run_feeds();
        }
        open
    }

    /// Sets who is to be woken when something comes on a stream or it ends. Gives back who was to be
    /// before, to be dropped once the lock is released.
    pub fn set_stream_waiter(&mut self, stream: StreamId, waiter: W) -> Option<W> {
        self.pubsub.set_waiter(stream, waiter)
    }

    /// Takes back who is to be woken, before a stream is closed.
    pub fn take_stream_waiter(&mut self, stream: StreamId) -> Option<W> {
        self.pubsub.take_waiter(stream)
    }

    /// Closes a stream: what nobody else wants is unsubscribed from.
    pub fn close_stream(&mut self, stream: StreamId, now: Now) {
        self.note_time(now);
        let why = Failure::new(FailureKind::StreamEnded, Executed::No, "SUBSCRIBE");
        self.pubsub.close(stream, &why);
        self.run_feeds();
    }

    // ---- where to ------------------------------------------------------------------------------

    /// The node that serves a shard channel; of all others home, since any node does.
    fn node_of_channel(&self, kind: TopicKind, name: &[u8]) -> NodeId {
        match &self.cluster {
            Some(cluster) if kind == TopicKind::Shard => cluster.owner(slot(name)),
            _ => self.nodes.home(),
        }
    }

    /// Takes shard channels to the nodes that serve them now, where slots have moved.
    fn rehome(&mut self) {
        if let Some(cluster) = &self.cluster
            && self.pubsub.misplaced
            && !self.trial.is(Sabotage::LeaveChannels)
            && self.pubsub.rehome(|slot| cluster.owner(slot))
        {
            self.reached(Rare::ShardsMoved);
        }
    }

    /// A node sends those on who want shard channels, because it does not serve their slot, or can't now. That
    /// is believed once between two maps, so that nodes which disagree set no pace of their own.
    fn follow_channels(&mut self, conn: ConnId, error: &ServerError) {
        self.want_refresh();
        let Some(cluster) = &self.cluster else { return };
        let adopted = Some(cluster.adopted());
        let redirect = self.read_redirect(conn, error);
        let moved = redirect.filter(|redirect| redirect.kind == RedirectKind::Moved);
        let Some((slot, to)) = moved.and_then(|moved| Some((moved.slot, moved.to?))) else {
            return;
        };
        if self.pubsub.followed == adopted || !cluster.names(&to) {
            return;
        }
        let node = self.node_at(&to);
        if self.node_of(conn) != Some(node) {
            self.reached(Rare::ShardsRedirected);
            self.pubsub.followed = adopted;
            self.nodes[node].named_at = Some(self.now.instant);
            self.ensure_dial(node);
            self.give_slot(slot, node);
        }
    }

    // ---- connections ---------------------------------------------------------------------------

    /// Whether more is to be read from a connection; if not, [`Output::Read`] says when it is.
    pub fn may_read(&self, conn: ConnId) -> bool {
        self.connections.get(conn.0).is_none_or(|connection| !connection.paused)
    }

    /// Whether some reader should have its turn before more is read from anywhere. Said once.
    pub fn is_crowded(&mut self) -> bool {
        self.pubsub.take_crowded()
    }

    /// The connection for requests is ready: it carries channels and patterns as well if it speaks
    /// RESP3.
    pub(super) fn carry_on(&mut self, conn: ConnId) {
        if self.cluster.is_some() && !self.carries_channels(conn) {
            return;
        }
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        let general = self.pubsub.general();
        let pushes = connection.protocol == Protocol::Resp3;
        if pushes {
            connection.feed = Some(general);
        }
        self.pubsub.stirred = true;
        match self.pubsub.get_mut(general) {
            Some(carrier) if pushes => {
                let before = carrier.conn.replace(conn).filter(|before| *before != conn);
                if let Some(side) = carrier.side.take() {
                    // It spoke RESP2 before. What the other connection had is lost with it.
                    self.pubsub.lost(general, &Cause::Local);
                    self.drop_side(&side, before);
                    if let Some(carrier) = self.pubsub.get_mut(general) {
                        carrier.conn = Some(conn);
                    }
                }
            }
            Some(carrier) => _ = carrier.side.get_or_insert_default(),
            None => {}
        }
    }

    /// Whether channels and patterns are to ride on this connection: in a cluster one of its nodes is chosen
    /// for that.
    fn carries_channels(&mut self, conn: ConnId) -> bool {
        let Some(node) = self.node_of(conn) else { return false };
        let mapped =
            self.cluster.as_ref().is_some_and(|cluster| cluster.primaries().contains(&node));
        let general = self.pubsub.general();
        let Some(carrier) = self.pubsub.get_mut(general) else { return false };
        if mapped && (carrier.node == self.nodes.home() || carrier.conn.is_none()) {
            carrier.node = node;
        }
        mapped && carrier.node == node
    }

    /// A connection carries this no longer, and goes on with requests: the server is to drop what it has.
    pub(super) fn part(&mut self, conn: ConnId, feed: FeedId) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        let Some(carrier) = self.pubsub.get(feed) else { return };
        let partings = carrier.feed.partings();
        let any = !partings.is_empty();
        connection.feed = None;
        connection.part(partings, self.now.instant);
        self.outputs.extend(any.then_some(Output::Flush { conn }));
    }

    /// A connection carries nothing any longer.
    pub(super) fn carry_no_more(&mut self, conn: ConnId, cause: &Cause) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        if let Some(feed) = connection.feed.take() {
            self.pubsub.lost(feed, cause);
            self.side_lost(feed, cause);
        }
    }

    /// Takes the next step of every feed that has one.
    pub(super) fn run_feeds(&mut self) {
        if self.store.is_some() {
            self.settle_membership();
        } else if std::mem::take(&mut self.pubsub.stirred) {
            self.rehome();
            for feed in self.pubsub.feeds() {
                self.run_feed(feed);
            }
        }
        self.settle_streams();
    }

    fn run_feed(&mut self, feed: FeedId) {
        let Some(carrier) = self.pubsub.get_mut(feed) else { return };
        let node = carrier.node;
        if carrier.pinned && self.nodes[node].gone {
            // All that was wanted of it has been taken elsewhere.
            self.pubsub.lost(feed, &Cause::SlotMoved);
        }
        let Some(carrier) = self.pubsub.get_mut(feed) else { return };
        if carrier.feed.is_empty() {
            self.close_side(feed);
            self.pubsub.forget(feed);
            return self.sweep_nodes();
        }
        let Some(conn) = carrier.conn else {
            self.ensure_map();
            self.ensure_dial(node);
            self.pubsub_moves();
            return self.ensure_side(feed);
        };
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        let now = self.now.instant;
        let mut any = false;
        while let Some(step) = carrier.feed.next_step() {
            connection.change(step, now);
            any = true;
        }
        if any {
            self.outputs.push_back(Output::Flush { conn });
        }
        let connection = self.connections.get_mut(conn.0).expect("it was there a moment ago");
        if connection.paused && self.pubsub.has_room(feed) {
            connection.paused = false;
            connection.note_inbound(now);
            self.outputs.push_back(Output::Read { conn });
        }
    }

    /// Passes on what came of it all: requests that have ended, who is to be woken.
    #[inline]
    pub(super) fn settle_streams(&mut self) {
        if self.pubsub.has_news() {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        let (ended, full) = self.pubsub.take_news(&mut self.ready);
        for End(ticket, result) in ended {
            let label = || self.nodes[self.nodes.home()].label.clone();
            let result = result.map_err(|failure| failure.at(Some(label())));
            if self.tickets.stream_of(ticket).is_some() {
                let waiter = self.tickets.end_wait(ticket, result);
                self.wake(waiter);
            }
        }
        if let Some(bound) = full {
            self.tell_full(bound);
        }
    }

    // ---- what comes in -------------------------------------------------------------------------

    /// Takes a message where it stands in the read buffer: the quick way for nearly all of them. `None`
    /// if it is no message.
    #[inline]
    pub(super) fn on_row(&mut self, conn: ConnId, row: &Row<'_>) -> Option<ControlFlow<()>> {
        let delivery = Delivery::read(row.items())?;
        let connection = self.connections.get(conn.0)?;
        if connection.is_deaf() || !connection.may_notify(row.kind) {
            return None;
        }
        let feed = connection.feed;
        Some(self.on_message(conn, feed, delivery))
    }

    /// Takes a frame that may be about subscriptions; says whether more is to be taken from its
    /// connection.
    pub(super) fn on_notice(&mut self, conn: ConnId, frame: Reply) -> ControlFlow<()> {
        match Notice::read(frame.view()) {
            Some(Notice::Message(delivery)) => {
                let feed = self.connections.get(conn.0).and_then(|connection| connection.feed);
                return self.on_message(conn, feed, delivery);
            }
            Some(Notice::Changed { kind, action, name }) => {
                self.on_changed(conn, kind, action, name);
            }
            None if frame.is_push() => self.on_push(frame),
            None => self.on_answer(conn, frame),
        }
        ControlFlow::Continue(())
    }

    #[inline]
    fn on_message(
        &mut self,
        conn: ConnId,
        feed: Option<FeedId>,
        delivery: Delivery<'_>,
    ) -> ControlFlow<()> {
        // What an older connection still says is for nobody.
        let Some(feed) = feed else { return ControlFlow::Continue(()) };
        if self.pubsub.deliver(feed, delivery) {
            return ControlFlow::Continue(());
        }
        self.pause(conn);
        // A stream that has several connections takes nothing in on any of them.
        for other in self.pubsub.conns_with(feed) {
            self.pause(other);
        }
        ControlFlow::Break(())
    }

    /// Nothing more is read from a connection, until the stream that it is for has room again.
    pub(super) fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.paused = true;
        }
    }

    fn on_changed(&mut self, conn: ConnId, kind: TopicKind, action: Action, name: Option<&[u8]>) {
        let Some(connection) = self.connections.get_mut(conn.0) else { return };
        let Some(name) = name else { return };
        let feed = connection.feed;
        match (connection.confirm(kind, action, name), feed) {
            (Some((Some(topic), last)), Some(feed)) => {
                match action {
                    Action::Subscribe => self.pubsub.added(feed, topic),
                    Action::Unsubscribe => self.pubsub.dropped(feed, topic),
                }
                self.pubsub.stirred |= last;
            }
            (None, Some(feed)) if action == Action::Unsubscribe => {
                self.trial.reached(Rare::TakenAway);
                self.pubsub.taken_away(feed, kind, name);
                if kind == TopicKind::Shard {
                    self.want_refresh();
                }
                self.try_again_later(feed);
            }
            (None, _) if action == Action::Subscribe => self.kill(conn, Cause::UnexpectedReply),
            _ => {}
        }
    }

    /// A reply came while topics wait to be confirmed: the server has refused them, or is out of step.
    pub(super) fn on_change_reply(&mut self, conn: ConnId, change: &Change, reply: &Reply) {
        let error = reply.error().filter(|_| change.confirmed == 0);
        let Some(error) = error else { return self.kill(conn, Cause::UnexpectedReply) };
        let Some(connection) = self.connections.get(conn.0) else { return };
        let Some(feed) = connection.feed.filter(|_| !change.is_past) else { return };
        if error.code() == "NOAUTH" {
            // It was authenticated once; another handshake will show.
            let cause = Cause::Handshake(error);
            return match connection.role {
                Role::Main => self.retire(conn, cause),
                Role::Own(_) | Role::Leased(_) => self.kill(conn, cause),
            };
        }
        self.pubsub.stirred = true;
        let step = &change.step;
        let topics = step.topics.iter().map(|(topic, _)| *topic);
        if step.action == Action::Unsubscribe {
            // That it was not subscribed (NOSUB, MOVED) is as good. If it does not want to drop them, the
            // messages that still come are nobody's.
            return topics.for_each(|topic| self.pubsub.dropped(feed, topic));
        }
        let elsewhere = self.cluster.is_some() && step.kind == TopicKind::Shard;
        if elsewhere && may_be_elsewhere(&error) {
            self.follow_channels(conn, &error);
            topics.for_each(|topic| self.pubsub.postponed(feed, topic));
            self.reached(Rare::ShardsPostponed);
            return self.try_again_later(feed);
        }
        if step.topics.len() > 1 && matches!(error.code(), "NOPERM" | "CROSSSLOT") {
            return topics.for_each(|topic| self.pubsub.refused_among_others(feed, topic));
        }
        let misjudged = self.misjudged(&error);
        let (kind, cause) = (FailureKind::Server(error.clone()), Cause::SubscriptionRefused(error));
        let failure = Failure::new(kind, Executed::No, step.kind.command(step.action))
            .after(1)
            .because(misjudged);
        topics.for_each(|topic| self.pubsub.refused(feed, topic, &failure, &cause));
        self.try_again_later(feed);
    }

    /// An error that may be the answer to an unsubscription which was confirmed before it was answered.
    #[cold]
    pub(super) fn on_late_error(&mut self, conn: ConnId, reply: Reply) {
        let (Some(connection), Some(error)) = (self.connections.get_mut(conn.0), reply.error())
        else {
            return;
        };
        self.trial.reached(Rare::LateError);
        match connection.late_refusal(&error) {
            LateRefusal::Taken => {}
            LateRefusal::Doubtful => self.kill(conn, Cause::UnexpectedReply),
            LateRefusal::No => {
                connection.forget_unsubscribed();
                self.on_answer(conn, reply);
            }
        }
    }

    // ---- time passes ---------------------------------------------------------------------------

    fn try_again_later(&mut self, feed: FeedId) {
        let Some(carrier) = self.pubsub.get_mut(feed) else { return };
        if !carrier.feed.has_put_off() || carrier.retry.is_some() {
            return;
        }
        let delay = self.rng.around(REFUSED.delay(carrier.refusals), REFUSED_JITTER_PERCENT);
        carrier.refusals = carrier.refusals.saturating_add(1);
        carrier.retry = Some(self.now.instant + delay);
        self.stirred = true;
    }

    pub(super) fn run_retries(&mut self, now: Instant) {
        for feed in self.pubsub.feeds() {
            let Some(carrier) = self.pubsub.get_mut(feed) else { continue };
            if carrier.retry.is_some_and(|at| at <= now) {
                carrier.retry = None;
                carrier.feed.try_again();
                self.pubsub.stirred = true;
            }
        }
    }

    /// Ends what waits for topics and has expired.
    pub(super) fn expire_topics(&mut self) {
        for (ticket, stream) in self.tickets.expired_topics() {
            let node = &self.nodes[self.nodes.home()];
            let stage = if node.conn.is_some() { Stage::Reply } else { Stage::Connection };
            let name = self.tickets.name_of(ticket, 0).unwrap_or("SUBSCRIBE").to_owned();
            let failure = Failure::new(FailureKind::DeadlinePassed(stage), Executed::No, name)
                .because(node.cause.clone());
            self.pubsub.forget_leave(ticket);
            self.pubsub.fail_join(stream, ticket, None);
            let failure = failure.at(Some(self.nodes[self.nodes.home()].label.clone()));
            let waiter = self.tickets.end_wait(ticket, Err(failure));
            self.wake(waiter);
        }
        self.run_feeds();
    }

    /// Those who wait for topics to be confirmed are told that the server does not want this client.
    pub(super) fn refuse_topics(&mut self, cause: &Cause) {
        let (kind, cause) = match cause.refusal() {
            Some((error, added)) => (FailureKind::Server(error.clone()), added),
            None => (FailureKind::ConnectionLost(cause.clone()), None),
        };
        let failure = Failure::new(kind, Executed::No, "SUBSCRIBE").because(cause);
        self.pubsub.refuse_joins(&failure);
        self.settle_streams();
    }

    /// Ends every stream.
    pub(super) fn end_streams(&mut self, kind: FailureKind) {
        self.pubsub.end_all(&Failure::new(kind, Executed::No, "SUBSCRIBE"));
        self.membership = None;
        self.settle_streams();
    }

    /// Tells operators that something was lost that requests do not depend on.
    pub(super) fn tell_error(&mut self, node: NodeId, cause: Cause) {
        let node = self.nodes[node].label.clone();
        self.event(Event::Error { node, cause });
    }
}

/// Whether a node of a cluster can't take a shard channel because another one serves its slot, or because it
/// can't serve it yet.
fn may_be_elsewhere(error: &ServerError) -> bool {
    matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN")
}

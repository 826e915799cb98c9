//! Subscriptions: streams want topics, connections carry them.
//!
//! ```text
//!   streams            carriers                    connections
//!
//!   ┌────────┐ want ┌──────────────────────┐
//!   │ inbox  │─────▶│ general: channels,   │──▶ that of requests (RESP3), or one of its own (RESP2)
//!   │        │      │          patterns    │
//!   │        │◀─────│ shard channels       │──▶ one of its own
//!   └────────┘ each └──────────────────────┘
//!   ┌────────┐      ┌──────────────────────┐
//!   │ inbox  │◀────▶│ of this stream alone │──▶ one of its own, which is not read while the inbox is full
//!   └────────┘      └──────────────────────┘
//! ```
//!
//! A carrier is a feed and what it rides on; `carriers` has them. This module keeps the books: who wants what,
//! who waits for what. `hearing` is for what comes back and who is to be told of it; `notices` is where the
//! engine and its connections come in, and `side` makes connections of their own.
//!
//! In a cluster each node carries the shard channels whose slots it serves. When a slot has moved they are
//! taken to the carrier of its new node, with all who listen to them.

mod hearing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    ConnId, FeedId, NodeId, StreamId, Ticket,
    carriers::{Carrier, Carriers},
};
use crate::{
    Failure,
    config::SubscriptionLimits,
    failure::{Bound, Cause},
    pubsub::{Inbox, Incoming, Overflow, StreamOptions, TopicId, TopicKind, Unwanted},
    slab::Slab,
};

/// All streams of a client and all that carries them.
pub(super) struct Subscriptions<W> {
    streams: Slab<Stream<W>>,
    pub(super) carriers: Carriers,
    /// Pairs of a stream and a topic that it wants.
    wanted: usize,
    /// Those who wait for topics to be dropped, and for how many.
    leaving: BTreeMap<Ticket, usize>,
    /// Messages that were dropped because their stream was full.
    dropped: u64,
    /// What came of it, for the engine to pass on.
    ended: Vec<End>,
    woken: Vec<W>,
    full: Option<Bound>,
    /// Some stream should be read before more comes in.
    crowded: bool,
    /// Some carrier may have something to do.
    pub(super) stirred: bool,
    /// Slots have moved, so that shard channels may have to go elsewhere.
    pub(super) misplaced: bool,
    /// How many maps had come when a redirect was followed last.
    pub(super) followed: Option<u64>,
}

/// What became of a request for topics.
pub(super) struct End(pub(super) Ticket, pub(super) Result<(), Failure>);

/// How much there is of everything.
#[derive(Debug)]
pub(super) struct Size {
    pub(super) streams: usize,
    pub(super) wanted: usize,
    pub(super) confirmed: usize,
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    pub(super) dropped: u64,
}

/// What one reader gets.
struct Stream<W> {
    inbox: Inbox,
    waiter: Option<W>,
    topics: BTreeSet<Carried>,
    joins: Vec<Join>,
    /// How many of its topics it was told that it misses.
    missing: usize,
    /// Why, as it was last told.
    told: Option<Cause>,
    /// The carrier that it has for itself.
    own: Option<FeedId>,
    /// Operators know that it has no room.
    full_told: bool,
    /// Nothing will follow.
    ended: bool,
}

/// A topic, and by whom it is carried.
type Carried = (FeedId, TopicId);

/// A request for topics that are not confirmed yet.
struct Join {
    ticket: Ticket,
    left: usize,
    /// Those it waits for, and whether it is the one that added them to the stream.
    topics: Vec<(FeedId, TopicId, bool)>,
}

impl<W> Subscriptions<W> {
    pub(super) fn new(seed: u64, home: NodeId) -> Self {
        Subscriptions {
            streams: Slab::new(),
            carriers: Carriers::new(seed, home),
            wanted: 0,
            leaving: BTreeMap::new(),
            dropped: 0,
            ended: Vec::new(),
            woken: Vec::new(),
            full: None,
            crowded: false,
            stirred: false,
            misplaced: false,
            followed: None,
        }
    }

    // ---- streams -------------------------------------------------------------------------------

    pub(super) fn open(&mut self, options: StreamOptions, limits: &SubscriptionLimits) -> StreamId {
        let messages_max = options.messages_max.unwrap_or(limits.messages_max);
        let bytes_max = options.bytes_max.unwrap_or(limits.bytes_max);
        let stream = StreamId(self.streams.insert(Stream {
            inbox: Inbox::new(messages_max, bytes_max, options.overflow),
            waiter: None,
            topics: BTreeSet::new(),
            joins: Vec::new(),
            missing: 0,
            told: None,
            own: None,
            full_told: false,
            ended: false,
        }));
        if options.overflow == Overflow::StopReading {
            let own = self.carriers.open_for(stream);
            self.streams.get_mut(stream.0).expect("just opened").own = Some(own);
        }
        stream
    }

    /// Whether a stream was opened and neither closed nor ended.
    pub(super) fn is_open(&self, stream: StreamId) -> bool {
        self.streams.get(stream.0).is_some_and(|stream| !stream.ended)
    }

    pub(super) fn set_waiter(&mut self, stream: StreamId, waiter: W) -> Option<W> {
        match self.streams.get_mut(stream.0) {
            Some(stream) => stream.waiter.replace(waiter),
            None => Some(waiter),
        }
    }

    pub(super) fn take_waiter(&mut self, stream: StreamId) -> Option<W> {
        self.streams.get_mut(stream.0)?.waiter.take()
    }

    /// Hands out what comes next. Gives whether anything may follow.
    pub(super) fn take(&mut self, stream: StreamId, into: &mut VecDeque<Incoming>) -> bool {
        let Some(stream) = self.streams.get_mut(stream.0) else { return false };
        stream.inbox.hand_out(into);
        stream.full_told &= stream.inbox.is_crowded();
        // It may have stopped to be read from, or to be dialled.
        self.stirred |= stream.own.is_some();
        !stream.ended
    }

    /// Closes a stream: what it wanted is wanted no more.
    pub(super) fn close(&mut self, id: StreamId, why: &Failure) {
        let Some(mut stream) = self.streams.remove(id.0) else { return };
        for (feed, topic) in std::mem::take(&mut stream.topics) {
            self.unwant(id, feed, topic);
        }
        for join in stream.joins {
            self.ended.push(End(join.ticket, Err(why.clone())));
        }
        for own in self.carriers.of_stream(id) {
            let Some(carrier) = self.carriers.get_mut(own) else { continue };
            // Nobody is there to read what it would still say: the connection is closed at once.
            carrier.feed.lost(|_| ());
            let left = carrier.feed.take_left();
            self.has_left(left);
        }
        self.stirred = true;
    }

    /// Ends all streams, and forgets what they wanted.
    pub(super) fn end_all(&mut self, why: &Failure) {
        let streams: Vec<_> = self.streams.iter().map(|(id, _)| StreamId(id)).collect();
        for id in streams {
            let Some(stream) = self.streams.get_mut(id.0) else { continue };
            stream.ended = true;
            stream.missing = 0;
            stream.topics.clear();
            self.woken.extend(stream.waiter.take());
            for join in std::mem::take(&mut stream.joins) {
                self.ended.push(End(join.ticket, Err(why.clone())));
            }
            stream.own = None;
        }
        for ticket in std::mem::take(&mut self.leaving).into_keys() {
            self.ended.push(End(ticket, Ok(())));
        }
        self.carriers.clear();
        self.wanted = 0;
    }

    // ---- wanting -------------------------------------------------------------------------------

    /// Where a stream's topics of a kind are carried; shard channels by the node that serves them.
    fn place(&mut self, id: StreamId, kind: TopicKind, node: NodeId) -> FeedId {
        let own = self.streams.get(id.0).and_then(|stream| stream.own);
        match kind {
            TopicKind::Shard => self.carriers.for_shards(node, own.map(|own| (id, own))),
            TopicKind::Channel | TopicKind::Pattern => own.unwrap_or(self.carriers.general()),
        }
    }

    /// Begins a request for topics, which [`want`](Subscriptions::want) names one by one.
    pub(super) fn begin_join(&mut self, stream: StreamId, ticket: Ticket) {
        if let Some(stream) = self.streams.get_mut(stream.0) {
            stream.joins.push(Join { ticket, left: 0, topics: Vec::new() });
        }
    }

    /// Adds a topic to a stream, for the request that was begun last. `node` serves it, if it is a shard
    /// channel.
    pub(super) fn want(&mut self, id: StreamId, kind: TopicKind, name: &[u8], node: NodeId) {
        let feed = self.place(id, kind, node);
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        let Some(stream) = self.streams.get_mut(id.0) else { return };
        let Some(join) = stream.joins.last_mut() else { return };
        let (topic, added) = carrier.feed.want(kind, name, id);
        if added {
            self.wanted += 1;
            stream.topics.insert((feed, topic));
        }
        let Some(listener) = carrier.feed.listener(topic, id) else { return };
        let awaited = !listener.hears && !listener.joins.contains(&join.ticket);
        if awaited {
            listener.joins.push(join.ticket);
            join.left += 1;
        }
        if awaited || added {
            join.topics.push((feed, topic, added));
        }
        let left = carrier.feed.take_left();
        self.has_left(left);
    }

    /// Ends the request that was begun last, if there is nothing that it has to wait for.
    pub(super) fn close_join(&mut self, stream: StreamId) {
        self.stirred = true;
        let Some(stream) = self.streams.get_mut(stream.0) else { return };
        if let Some(join) = stream.joins.pop_if(|join| join.left == 0) {
            self.ended.push(End(join.ticket, Ok(())));
        }
    }

    /// Ends a request for topics; what it added and nobody else waits for is wanted no more.
    pub(super) fn fail_join(&mut self, id: StreamId, ticket: Ticket, failure: Option<Failure>) {
        let Some(join) = self.take_join(id, ticket) else { return };
        if let Some(failure) = failure {
            self.ended.push(End(ticket, Err(failure)));
        }
        for (feed, topic, added) in join.topics {
            let Some(carrier) = self.carriers.get_mut(feed) else { continue };
            let Some(listener) = carrier.feed.listener(topic, id) else { continue };
            listener.joins.retain(|other| *other != ticket);
            let heir = listener.joins.first().copied();
            match heir.and_then(|heir| self.join_of(id, heir)) {
                _ if !added => {}
                None => self.withdraw(id, feed, topic),
                Some(heir) => {
                    let same = |entry: &&mut (FeedId, TopicId, bool)| entry.1 == topic;
                    if let Some(entry) = heir.topics.iter_mut().find(same) {
                        entry.2 = true;
                    }
                }
            }
        }
    }

    /// Takes a topic from a stream after all, and what had come of it meanwhile.
    fn withdraw(&mut self, id: StreamId, feed: FeedId, topic: TopicId) {
        let wanted = self.get(feed).and_then(|carrier| carrier.feed.topic(topic)).cloned();
        self.unwant(id, feed, topic);
        if let (Some(stream), Some(wanted)) = (self.streams.get_mut(id.0), wanted) {
            stream.inbox.purge(&wanted);
        }
    }

    /// Nobody waits for a request any longer, and what it added is wanted all the same.
    pub(super) fn detach_join(&mut self, id: StreamId, ticket: Ticket) {
        let Some(join) = self.take_join(id, ticket) else { return };
        for (feed, topic, _) in join.topics {
            let carrier = self.carriers.get_mut(feed);
            if let Some(listener) = carrier.and_then(|carrier| carrier.feed.listener(topic, id)) {
                listener.joins.retain(|other| *other != ticket);
            }
        }
    }

    fn take_join(&mut self, stream: StreamId, ticket: Ticket) -> Option<Join> {
        let joins = &mut self.streams.get_mut(stream.0)?.joins;
        let at = joins.iter().position(|join| join.ticket == ticket)?;
        Some(joins.swap_remove(at))
    }

    fn join_of(&mut self, stream: StreamId, ticket: Ticket) -> Option<&mut Join> {
        let joins = &mut self.streams.get_mut(stream.0)?.joins;
        joins.iter_mut().find(|join| join.ticket == ticket)
    }

    /// Takes a topic from a stream, by its name; `ticket` waits until it is dropped.
    pub(super) fn leave(
        &mut self,
        id: StreamId,
        kind: TopicKind,
        name: &[u8],
        node: NodeId,
        ticket: Ticket,
    ) {
        let feed = self.place(id, kind, node);
        let Some(carrier) = self.carriers.get(feed) else { return };
        let Some(topic) = carrier.feed.find(kind, name) else { return };
        let Some(wanted) = carrier.feed.topic(topic).cloned() else { return };
        if self.unwant(id, feed, topic) == Some(Unwanted::Leaving)
            && let Some(carrier) = self.carriers.get_mut(feed)
        {
            *self.leaving.entry(ticket).or_default() += 1;
            carrier.feed.wait_until_dropped(topic, ticket);
        }
        if let Some(stream) = self.streams.get_mut(id.0) {
            stream.inbox.purge(&wanted);
        }
    }

    /// Ends the wait for topics to be dropped, if there is nothing to wait for.
    pub(super) fn close_leave(&mut self, ticket: Ticket) {
        self.stirred = true;
        if !self.leaving.contains_key(&ticket) {
            self.ended.push(End(ticket, Ok(())));
        }
    }

    /// Nobody waits for topics to be dropped any longer.
    pub(super) fn forget_leave(&mut self, ticket: Ticket) {
        self.leaving.remove(&ticket);
    }

    fn unwant(&mut self, id: StreamId, feed: FeedId, topic: TopicId) -> Option<Unwanted> {
        self.stirred = true;
        let carrier = self.carriers.get_mut(feed)?;
        let (listener, unwanted) = carrier.feed.unwant(topic, id)?;
        self.wanted -= 1;
        if let Some(stream) = self.streams.get_mut(id.0) {
            stream.topics.remove(&(feed, topic));
            if listener.misses {
                stream.has_back(&mut self.woken);
            }
            for ticket in listener.joins {
                self.ended.extend(stream.joined(ticket));
            }
        }
        Some(unwanted)
    }

    // ---- books ---------------------------------------------------------------------------------

    pub(super) fn feeds(&self) -> Vec<FeedId> {
        self.carriers.ids()
    }

    pub(super) fn general(&self) -> FeedId {
        self.carriers.general()
    }

    /// Whether a carrier is to be subscribed to this node.
    pub(super) fn leads_to(&self, node: NodeId) -> bool {
        self.carriers.lead_to(node)
    }

    pub(super) fn get(&self, feed: FeedId) -> Option<&Carrier> {
        self.carriers.get(feed)
    }

    pub(super) fn get_mut(&mut self, feed: FeedId) -> Option<&mut Carrier> {
        self.carriers.get_mut(feed)
    }

    /// Forgets a carrier that has nothing to carry, if it was for a stream that is closed or for what a node
    /// serves.
    pub(super) fn forget(&mut self, feed: FeedId) {
        let over = |carrier: &Carrier| {
            let closed = |stream: StreamId| self.streams.get(stream.0).is_none();
            carrier.pinned || carrier.only.is_some_and(closed)
        };
        if self.carriers.get(feed).is_some_and(over) {
            self.carriers.forget(feed);
        }
    }

    /// The connections of the stream that a carrier is for; in a cluster there may be several.
    pub(super) fn conns_with(&self, feed: FeedId) -> Vec<ConnId> {
        let only = self.get(feed).and_then(|carrier| carrier.only);
        let feeds = only.map(|stream| self.carriers.of_stream(stream)).unwrap_or_default();
        feeds.into_iter().filter_map(|feed| self.get(feed)?.conn).collect()
    }

    /// Whether the stream that a carrier is for has no room.
    pub(super) fn is_full(&self, feed: FeedId) -> bool {
        let stream = self.get(feed).and_then(|carrier| self.streams.get(carrier.only?.0));
        stream.is_some_and(|stream| stream.inbox.is_full())
    }

    /// Whether the stream that a carrier is for has room enough to go on.
    pub(super) fn has_room(&self, feed: FeedId) -> bool {
        let stream = self.get(feed).and_then(|carrier| self.streams.get(carrier.only?.0));
        stream.is_none_or(|stream| !stream.inbox.is_crowded())
    }

    /// Whether some stream has come to need its turn since this was last asked.
    pub(super) fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    pub(super) fn size(&self) -> Size {
        let mut size = Size {
            streams: self.streams.iter().filter(|(_, stream)| !stream.ended).count(),
            wanted: self.wanted,
            confirmed: self.carriers.iter().map(|(_, carrier)| carrier.feed.heard()).sum(),
            dropped: self.dropped,
            waiting: 0,
            waiting_bytes: 0,
        };
        for (_, stream) in self.streams.iter() {
            let (items, bytes) = stream.inbox.size();
            size.waiting += items;
            size.waiting_bytes += bytes;
        }
        size
    }

    /// Whether messages may come at any moment.
    pub(super) fn listens(&self) -> bool {
        let carriers = self.carriers.iter();
        carriers
            .filter(|(_, carrier)| carrier.conn.is_some())
            .any(|(id, carrier)| !carrier.feed.is_empty() && !self.is_full(id))
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many streams have a connection of their own.
    pub(super) fn own_carriers(&self) -> usize {
        self.carriers.streams()
    }

    /// Whether there is anything to be passed on.
    pub(super) fn has_news(&self) -> bool {
        self.stirred || self.full.is_some() || !self.ended.is_empty() || !self.woken.is_empty()
    }

    /// The requests that have ended, who is to be woken, and of what some stream has become full.
    pub(super) fn take_news(&mut self, woken: &mut Vec<W>) -> (Vec<End>, Option<Bound>) {
        woken.append(&mut self.woken);
        (std::mem::take(&mut self.ended), std::mem::take(&mut self.full))
    }
}

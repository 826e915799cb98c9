//! What connections say of topics, and what streams hear of it: messages, gaps, and that they are over. Without
//! a server, what would be said; and where slots move, who says it from then on.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Carried, End, Stream, Subscriptions};
use crate::{
    Failure,
    engine::{FeedId, NodeId, StreamId, Ticket},
    failure::Cause,
    fallback::glob,
    pubsub::{Action, Delivery, Message, Payload, Topic, TopicId, TopicKind},
    resp::View,
    slot::slot,
};

impl<W> Subscriptions<W> {
    // ---- what connections say ------------------------------------------------------------------

    /// Gives a message to those who want it. Gives whether the one stream that its connection is for
    /// has room for another.
    #[inline]
    pub(in crate::engine) fn deliver(&mut self, feed: FeedId, delivery: Delivery<'_>) -> bool {
        let Some(carrier) = self.carriers.get_mut(feed) else { return true };
        let Some(id) = carrier.feed.find_again(delivery.kind, delivery.name) else { return true };
        let Some(topic) = carrier.feed.topic(id) else { return true };
        let mut room = true;
        for listener in carrier.feed.listeners(id).iter().filter(|listener| listener.hears) {
            let Some(stream) = self.streams.get_mut(listener.stream.0) else { continue };
            self.woken.extend(stream.waiter.take());
            let payload = Payload::keep(delivery.payload);
            let dropped = stream.inbox.push(Message::new(topic.clone(), delivery.channel, payload));
            if dropped > 0 {
                self.dropped += dropped;
                if !std::mem::replace(&mut stream.full_told, true) {
                    self.full = Some(stream.inbox.lack());
                }
            }
            self.crowded |= stream.inbox.is_crowded();
            room &= !stream.inbox.is_full();
        }
        room
    }

    /// The server has added a topic.
    pub(in crate::engine) fn added(&mut self, feed: FeedId, topic: TopicId) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        let Subscriptions { streams, woken, ended, .. } = self;
        carrier.refusals = 0;
        carrier.feed.added(topic, |listener| {
            let Some(stream) = streams.get_mut(listener.stream.0) else { return };
            if listener.misses {
                stream.has_back(woken);
            }
            for ticket in std::mem::take(&mut listener.joins) {
                ended.extend(stream.joined(ticket));
            }
        });
    }

    /// The server has dropped a topic as it was asked to, or has not had it any more.
    pub(in crate::engine) fn dropped(&mut self, feed: FeedId, topic: TopicId) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        carrier.feed.dropped(topic);
        let left = carrier.feed.take_left();
        self.has_left(left);
    }

    /// Passes on to those whose wait for a topic to be dropped is over.
    pub(super) fn has_left(&mut self, left: Vec<Ticket>) {
        for ticket in left {
            let Some(count) = self.leaving.get_mut(&ticket) else { continue };
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(&ticket);
                self.ended.push(End(ticket, Ok(())));
            }
        }
    }

    /// The server has dropped a topic without having been asked to.
    pub(in crate::engine) fn taken_away(&mut self, feed: FeedId, kind: TopicKind, name: &[u8]) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        let Subscriptions { streams, woken, .. } = self;
        let cause = match kind {
            TopicKind::Shard => Cause::SlotMoved,
            TopicKind::Channel | TopicKind::Pattern => Cause::Unsubscribed,
        };
        carrier.feed.taken_away(kind, name, |listener| {
            if let Some(stream) = streams.get_mut(listener.stream.0) {
                stream.misses(&cause, woken);
            }
        });
        let left = carrier.feed.take_left();
        self.has_left(left);
        self.stirred = true;
    }

    /// The connection that carried a feed is gone.
    pub(in crate::engine) fn lost(&mut self, feed: FeedId, cause: &Cause) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        let Subscriptions { streams, woken, .. } = self;
        carrier.conn = None;
        carrier.retry = None;
        carrier.feed.lost(|listener| {
            if let Some(stream) = streams.get_mut(listener.stream.0) {
                stream.misses(cause, woken);
            }
        });
        let left = carrier.feed.take_left();
        self.has_left(left);
        self.stirred = true;
    }

    /// The server has refused a topic: those who waited for it fail, those who want it all the same are
    /// told.
    pub(in crate::engine) fn refused(
        &mut self,
        feed: FeedId,
        topic: TopicId,
        failure: &Failure,
        cause: &Cause,
    ) {
        let Some(carrier) = self.carriers.get(feed) else { return };
        let waiting: Vec<_> = carrier
            .feed
            .listeners(topic)
            .iter()
            .flat_map(|listener| listener.joins.iter().map(|ticket| (listener.stream, *ticket)))
            .collect();
        for (stream, ticket) in waiting {
            self.fail_join(stream, ticket, Some(failure.clone()));
        }
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        let Subscriptions { streams, woken, .. } = self;
        for listener in carrier.feed.listeners_mut(topic) {
            let Some(stream) = streams.get_mut(listener.stream.0) else { continue };
            if std::mem::replace(&mut listener.misses, true) {
                stream.tell(cause, woken);
            } else {
                stream.misses(cause, woken);
            }
        }
        carrier.feed.refused(topic);
        let left = carrier.feed.take_left();
        self.has_left(left);
    }

    /// The server can't add a topic now, and it may be another one's to do so: nobody is told, those who wait
    /// go on waiting.
    pub(in crate::engine) fn postponed(&mut self, feed: FeedId, topic: TopicId) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        carrier.feed.refused(topic);
        let left = carrier.feed.take_left();
        self.has_left(left);
    }

    /// The server has refused several topics at once, and it may be the fault of one of them.
    pub(in crate::engine) fn refused_among_others(&mut self, feed: FeedId, topic: TopicId) {
        let Some(carrier) = self.carriers.get_mut(feed) else { return };
        carrier.feed.refused_among_others(topic);
        let left = carrier.feed.take_left();
        self.has_left(left);
    }

    /// Fails all requests for topics that are not confirmed: the server does not want this client.
    pub(in crate::engine) fn refuse_joins(&mut self, failure: &Failure) {
        let joins = self.streams.iter().flat_map(|(id, stream)| {
            stream.joins.iter().map(move |join| (StreamId(id), join.ticket))
        });
        for (stream, ticket) in joins.collect::<Vec<_>>() {
            self.fail_join(stream, ticket, Some(failure.clone()));
        }
    }

    // ---- slots that move -----------------------------------------------------------------------

    /// Slots have moved, or may have.
    pub(in crate::engine) fn slots_moved(&mut self) {
        self.misplaced = true;
        self.stirred = true;
    }

    /// Takes shard channels to where they are served now; `owner` says by which node a slot is. Those who
    /// heard them are told of the gap, once. Gives whether any had to move.
    pub(in crate::engine) fn rehome(&mut self, owner: impl Fn(u16) -> NodeId) -> bool {
        self.misplaced = false;
        let mut moving: Vec<(u16, FeedId, TopicId, NodeId, Option<StreamId>)> = Vec::new();
        for (feed, carrier) in self.carriers.iter() {
            for (topic, channel) in carrier.feed.wanted_shards() {
                let slot = slot(&channel.name);
                let node = owner(slot);
                if !self.carriers.is_for(carrier, node) {
                    moving.push((slot, feed, topic, node, carrier.only));
                }
            }
        }
        if moving.is_empty() {
            return false;
        }
        // So that those of one slot share a command.
        moving.sort_by_key(|(slot, ..)| *slot);
        let mut renamed: BTreeMap<StreamId, BTreeMap<Carried, Carried>> = BTreeMap::new();
        for (_, from, topic, node, only) in moving {
            let own = only.and_then(|id| Some((id, self.streams.get(id.0)?.own?)));
            let to = self.carriers.for_shards(node, own);
            for stream in self.move_topic(from, topic, to) {
                renamed.entry(stream.0).or_default().insert((from, topic), (to, stream.1));
            }
        }
        for (id, renamed) in renamed {
            let Some(stream) = self.streams.get_mut(id.0) else { continue };
            for (old, new) in &renamed {
                stream.topics.remove(old);
                stream.topics.insert(*new);
            }
            for entry in stream.joins.iter_mut().flat_map(|join| &mut join.topics) {
                if let Some((feed, topic)) = renamed.get(&(entry.0, entry.1)) {
                    (entry.0, entry.1) = (*feed, *topic);
                }
            }
        }
        self.stirred = true;
        true
    }

    /// Takes a topic from one carrier to another. Gives the streams that want it, and how it is called
    /// there.
    fn move_topic(&mut self, from: FeedId, id: TopicId, to: FeedId) -> Vec<(StreamId, TopicId)> {
        let Subscriptions { streams, carriers, woken, ended, .. } = self;
        let Some(carrier) = carriers.get_mut(from) else { return Vec::new() };
        let Some(mut moved) = carrier.feed.move_out(id) else { return Vec::new() };
        for listener in moved.listeners.iter_mut().filter(|listener| listener.hears) {
            (listener.hears, listener.misses) = (false, true);
            if let Some(stream) = streams.get_mut(listener.stream.0) {
                stream.misses(&Cause::SlotMoved, woken);
            }
        }
        let who: Vec<StreamId> = moved.listeners.iter().map(|listener| listener.stream).collect();
        let Some(carrier) = carriers.get_mut(to) else { return Vec::new() };
        let topic = carrier.feed.move_in(moved, |listener| {
            let Some(stream) = streams.get_mut(listener.stream.0) else { return };
            if listener.misses {
                stream.has_back(woken);
            }
            for ticket in std::mem::take(&mut listener.joins) {
                ended.extend(stream.joined(ticket));
            }
        });
        let left = carrier.feed.take_left();
        self.has_left(left);
        who.into_iter().map(|stream| (stream, topic)).collect()
    }

    // ---- without a server ----------------------------------------------------------------------

    /// Does what a server would: whatever is wanted is there, whatever is not is gone. `change` is told of
    /// each.
    pub(in crate::engine) fn settle_locally(&mut self, mut change: impl FnMut(Action, &Topic)) {
        self.stirred = false;
        for feed in self.feeds() {
            while let Some(carrier) = self.carriers.get_mut(feed)
                && let Some(step) = carrier.feed.next_step()
            {
                for (topic, name) in step.topics {
                    change(step.action, &name);
                    match step.action {
                        Action::Subscribe => self.added(feed, topic),
                        Action::Unsubscribe => self.dropped(feed, topic),
                    }
                }
            }
        }
    }

    /// Gives a message to this client's own streams, as if it had been published to a server. Gives how
    /// many of the client's subscriptions it reached: one for the channel, one for each pattern.
    pub(in crate::engine) fn deliver_locally(
        &mut self,
        kind: TopicKind,
        channel: &[u8],
        payload: &Bytes,
    ) -> usize {
        let mut reached = 0;
        let payload = View::bulk(payload);
        for feed in self.feeds() {
            let Some(carrier) = self.carriers.get(feed) else { continue };
            let mut matching: Vec<Arc<Topic>> = Vec::new();
            if kind == TopicKind::Channel {
                let patterns = carrier.feed.wanted_of(TopicKind::Pattern);
                matching
                    .extend(patterns.filter(|topic| glob::matches(&topic.name, channel)).cloned());
                matching.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            }
            if carrier.feed.find(kind, channel).is_some_and(|topic| carrier.feed.is_wanted(topic)) {
                reached += 1;
                let delivery = Delivery { kind, name: channel, channel: None, payload };
                self.deliver(feed, delivery);
            }
            for pattern in matching {
                reached += 1;
                let (name, channel) = (&*pattern.name, Some(channel));
                let kind = TopicKind::Pattern;
                self.deliver(feed, Delivery { kind, name, channel, payload });
            }
        }
        reached
    }
}

impl<W> Stream<W> {
    /// It misses another of its topics.
    pub(super) fn misses(&mut self, cause: &Cause, woken: &mut Vec<W>) {
        self.missing += 1;
        if self.missing == 1 {
            self.told = None;
        }
        self.tell(cause, woken);
    }

    /// Says why it misses messages, where that is news.
    pub(super) fn tell(&mut self, cause: &Cause, woken: &mut Vec<W>) {
        let news = match &self.told {
            None => true,
            Some(told) => matches!(cause, Cause::SubscriptionRefused(_)) && told != cause,
        };
        if news {
            self.inbox.lost(cause.clone());
            self.told = Some(cause.clone());
            woken.extend(self.waiter.take());
        }
    }

    /// It misses one topic less.
    pub(super) fn has_back(&mut self, woken: &mut Vec<W>) {
        self.missing -= 1;
        if self.missing == 0 {
            self.told = None;
            self.inbox.restored();
            woken.extend(self.waiter.take());
        }
    }

    /// One of the topics that a request waits for is there. Gives the end of the request, if that was
    /// the last.
    pub(super) fn joined(&mut self, ticket: Ticket) -> Option<End> {
        let at = self.joins.iter().position(|join| join.ticket == ticket)?;
        self.joins[at].left -= 1;
        if self.joins[at].left > 0 {
            return None;
        }
        self.joins.swap_remove(at);
        Some(End(ticket, Ok(())))
    }
}

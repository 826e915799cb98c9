//! What one connection is to carry, what it carries, and the next step from this to that.
//!
//! ```text
//!              ┌──── wanted ────▶ Asked ──confirmed──▶ Heard
//!   Absent ◀───┤                    │                    │ nobody wants it any more
//!     ▲        └─◀─ refused ────────┘                    ▼
//!     └──────────────────── confirmed ──────────────── Dropping
//! ```
//!
//! A topic has at most one step under way. What is wanted meanwhile is looked at again when that step
//! is confirmed, so nothing here depends on when things cross. When the connection is lost everything
//! is absent, and whatever an older connection still says reaches nobody: topics are named by an index
//! and a generation.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{
    notice::Action,
    topic::{ByName, Topic, TopicKind},
};
use crate::{
    keyed::Keyed,
    slab::{Id, Slab},
    slot::slot,
};

/// One topic of one feed. A stale id is inert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicId(Id);

/// The topics of one connection. `S` names a stream that listens, `T` a request that waits.
#[derive(Debug)]
pub(crate) struct Feed<S, T> {
    topics: Slab<Entry<S, T>>,
    by_name: [HashMap<ByName, TopicId, Keyed>; 3],
    /// What may need a step, by kind; each topic stands there once at most.
    to_do: [VecDeque<TopicId>; 3],
    /// How many topics have a step under way.
    under_way: usize,
    /// Refused by the server for now.
    put_off: Vec<TopicId>,
    /// What the latest message was to.
    latest: Option<TopicId>,
    /// Those whose wait for a topic to be dropped is over.
    left: Vec<T>,
}

#[derive(Debug)]
struct Entry<S, T> {
    topic: Arc<Topic>,
    listeners: Vec<Listener<S, T>>,
    /// Who waits for the topic to be dropped.
    leaving: Vec<T>,
    standing: Standing,
    /// Stands in `to_do` or `put_off`.
    queued: bool,
    /// Was refused together with others, so it goes alone from now on.
    alone: bool,
}

/// A stream that wants a topic.
#[derive(Debug)]
pub(crate) struct Listener<S, T> {
    pub(crate) stream: S,
    /// The requests that wait for the topic to be confirmed to this stream.
    pub(crate) joins: Vec<T>,
    /// It is confirmed: the stream gets the topic's messages.
    pub(crate) hears: bool,
    /// The stream was told that it misses messages of this topic.
    pub(crate) misses: bool,
}

/// A topic on its way from one feed to another, with all who want it.
#[derive(Debug)]
pub(crate) struct Moved<S, T> {
    topic: Arc<Topic>,
    pub(crate) listeners: Vec<Listener<S, T>>,
}

/// How a topic stands with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Asked,
    Heard,
    Dropping,
}

/// A command that brings what the server has closer to what is wanted.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) kind: TopicKind,
    /// In the order in which the server will confirm them.
    pub(crate) topics: Vec<(TopicId, Arc<Topic>)>,
}

/// What came of a stream's not wanting a topic any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// Nothing more is to be waited for.
    Done,
    /// The server is to be told.
    Leaving,
}

/// How many topics may have a step under way, and so the most that one command has. A server takes about
/// a millisecond for them, which is as long as other commands wait behind them.
const SLICE_TOPICS: usize = 1_000;

/// The most bytes of names that one command has, beyond the first.
const SLICE_BYTES: usize = 64 * 1024;

impl<S: Copy + PartialEq, T> Feed<S, T> {
    /// A feed that carries nothing. `seed` keys its hashers.
    pub(crate) fn new(seed: u64) -> Self {
        let map = || HashMap::with_hasher(Keyed::new(seed));
        Feed {
            topics: Slab::new(),
            by_name: [map(), map(), map()],
            to_do: Default::default(),
            under_way: 0,
            put_off: Vec::new(),
            latest: None,
            left: Vec::new(),
        }
    }

    /// Whether nothing is wanted of it, and nothing is left to be dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.len() == 0
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.topics.len()
    }

    /// How many topics the server has confirmed and not been told to drop.
    pub(crate) fn heard(&self) -> usize {
        self.topics.iter().filter(|(_, entry)| entry.standing == Standing::Heard).count()
    }

    /// Adds a stream to those that want a topic, unless it is among them. Gives the topic, and whether
    /// the stream was added.
    pub(crate) fn want(&mut self, kind: TopicKind, name: &[u8], stream: S) -> (TopicId, bool) {
        let id = match self.find(kind, name) {
            Some(id) => id,
            None => self.add(Topic::new(kind, name)),
        };
        let entry = self.topics.get_mut(id.0).expect("found or added");
        if entry.listeners.iter().any(|listener| listener.stream == stream) {
            return (id, false);
        }
        // It is not going to be dropped any more.
        self.left.append(&mut entry.leaving);
        let hears = entry.standing == Standing::Heard;
        entry.listeners.push(Listener { stream, joins: Vec::new(), hears, misses: false });
        self.look_at(id);
        (id, true)
    }

    fn add(&mut self, topic: Arc<Topic>) -> TopicId {
        let id = TopicId(self.topics.insert(Entry {
            topic: topic.clone(),
            listeners: Vec::new(),
            leaving: Vec::new(),
            standing: Standing::Absent,
            queued: false,
            alone: false,
        }));
        self.by_name[topic.kind as usize].insert(ByName(topic), id);
        id
    }

    /// Takes a stream from those that want a topic. Gives what it was to the topic.
    pub(crate) fn unwant(&mut self, id: TopicId, stream: S) -> Option<(Listener<S, T>, Unwanted)> {
        let entry = self.topics.get_mut(id.0)?;
        let at = entry.listeners.iter().position(|listener| listener.stream == stream)?;
        let listener = entry.listeners.swap_remove(at);
        if !entry.listeners.is_empty() {
            return Some((listener, Unwanted::Done));
        }
        if entry.standing == Standing::Absent {
            self.remove(id);
            return Some((listener, Unwanted::Done));
        }
        self.look_at(id);
        Some((listener, Unwanted::Leaving))
    }

    /// Has somebody wait for a topic to be dropped that nobody wants.
    pub(crate) fn wait_until_dropped(&mut self, id: TopicId, who: T) {
        match self.topics.get_mut(id.0) {
            Some(entry) => entry.leaving.push(who),
            None => self.left.push(who),
        }
    }

    /// Those whose wait for a topic to be dropped is over: it is gone, or wanted again.
    pub(crate) fn take_left(&mut self) -> Vec<T> {
        std::mem::take(&mut self.left)
    }

    pub(crate) fn find(&self, kind: TopicKind, name: &[u8]) -> Option<TopicId> {
        self.by_name[kind as usize].get(name).copied()
    }

    /// The same for messages, many of which come to one topic in a row.
    #[inline]
    pub(crate) fn find_again(&mut self, kind: TopicKind, name: &[u8]) -> Option<TopicId> {
        let latest = self.latest.and_then(|id| Some((id, &self.topics.get(id.0)?.topic)));
        match latest {
            Some((id, topic)) if topic.kind == kind && *topic.name == *name => Some(id),
            _ => {
                self.latest = self.find(kind, name);
                self.latest
            }
        }
    }

    pub(crate) fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(id.0).map(|entry| &entry.topic)
    }

    /// Those who want a topic.
    #[inline]
    pub(crate) fn listeners(&self, id: TopicId) -> &[Listener<S, T>] {
        self.topics.get(id.0).map_or(&[], |entry| &entry.listeners)
    }

    pub(crate) fn listener(&mut self, id: TopicId, stream: S) -> Option<&mut Listener<S, T>> {
        let listeners = &mut self.topics.get_mut(id.0)?.listeners;
        listeners.iter_mut().find(|listener| listener.stream == stream)
    }

    pub(crate) fn listeners_mut(&mut self, id: TopicId) -> &mut [Listener<S, T>] {
        self.topics.get_mut(id.0).map_or(&mut [], |entry| &mut entry.listeners)
    }

    pub(crate) fn is_wanted(&self, id: TopicId) -> bool {
        self.topics.get(id.0).is_some_and(|entry| !entry.listeners.is_empty())
    }

    /// The topics of a kind that anybody wants, in the order of nothing at all: to be sorted.
    pub(crate) fn wanted_of(&self, kind: TopicKind) -> impl Iterator<Item = &Arc<Topic>> {
        let all = self.by_name[kind as usize].iter();
        all.filter(|(_, id)| self.is_wanted(**id)).map(|(name, _)| &name.0)
    }

    /// The shard channels that anybody wants, in the order of their ids.
    pub(crate) fn wanted_shards(&self) -> impl Iterator<Item = (TopicId, &Arc<Topic>)> {
        let wanted = self.topics.iter().filter(|(_, entry)| {
            entry.topic.kind == TopicKind::Shard && !entry.listeners.is_empty()
        });
        wanted.map(|(id, entry)| (TopicId(id), &entry.topic))
    }

    /// Takes a topic out, with all who want it: another connection is to carry it. What the server has of
    /// it here is dropped.
    pub(crate) fn move_out(&mut self, id: TopicId) -> Option<Moved<S, T>> {
        let entry = self.topics.get_mut(id.0)?;
        let (topic, listeners) = (entry.topic.clone(), std::mem::take(&mut entry.listeners));
        if entry.standing == Standing::Absent {
            self.remove(id);
        } else {
            self.look_at(id);
        }
        Some(Moved { topic, listeners })
    }

    /// Takes in a topic that another connection has carried, with all who want it and don't hear it. Those
    /// who hear it at once, because it is here already, are given to `each` as they were before.
    pub(crate) fn move_in(
        &mut self,
        Moved { topic, listeners }: Moved<S, T>,
        mut each: impl FnMut(&mut Listener<S, T>),
    ) -> TopicId {
        let id = match self.find(topic.kind, &topic.name) {
            Some(id) => id,
            None => self.add(topic),
        };
        let entry = self.topics.get_mut(id.0).expect("found or added");
        self.left.append(&mut entry.leaving);
        for mut listener in listeners {
            if entry.standing == Standing::Heard {
                each(&mut listener);
                (listener.hears, listener.misses) = (true, false);
            }
            entry.listeners.push(listener);
        }
        self.look_at(id);
        id
    }

    /// The next command to send; `None` while enough is under way or nothing is to be done.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        TopicKind::ALL.into_iter().find_map(|kind| self.next_step_of(kind))
    }

    fn next_step_of(&mut self, kind: TopicKind) -> Option<Step> {
        let mut step: Option<Step> = None;
        let mut bytes = 0;
        while self.under_way < SLICE_TOPICS
            && let Some(&id) = self.to_do[kind as usize].front()
        {
            let entry = self.topics.get_mut(id.0);
            let needed = entry.and_then(|entry| Some((entry.needed()?, entry)));
            let Some((action, entry)) = needed else {
                self.done_with_first(kind);
                continue;
            };
            let topic = &entry.topic;
            let goes_with = |step: &Step| {
                let first = &step.topics[0].1;
                step.action == action
                    && !entry.alone
                    && bytes + topic.name.len() <= SLICE_BYTES
                    // A command's shard channels lie in one slot.
                    && (kind != TopicKind::Shard || slot(&first.name) == slot(&topic.name))
            };
            if step.as_ref().is_some_and(|step| !goes_with(step)) {
                return step;
            }
            bytes += topic.name.len();
            entry.standing = match action {
                Action::Subscribe => Standing::Asked,
                Action::Unsubscribe => Standing::Dropping,
            };
            let (topic, alone) = (topic.clone(), entry.alone);
            self.under_way += 1;
            self.done_with_first(kind);
            let next = step.get_or_insert_with(|| Step { action, kind, topics: Vec::new() });
            next.topics.push((id, topic));
            if alone {
                return step;
            }
        }
        step
    }

    fn done_with_first(&mut self, kind: TopicKind) {
        if let Some(id) = self.to_do[kind as usize].pop_front()
            && let Some(entry) = self.topics.get_mut(id.0)
        {
            entry.queued = false;
        }
    }

    // ---- what comes back -----------------------------------------------------------------------

    /// The server has added a topic: those who want it hear it from now on. They are given to `each` as
    /// they were before.
    pub(crate) fn added(&mut self, id: TopicId, mut each: impl FnMut(&mut Listener<S, T>)) {
        let Some(entry) = self.topics.get_mut(id.0) else { return };
        if entry.standing != Standing::Asked {
            return;
        }
        self.under_way -= 1;
        entry.standing = Standing::Heard;
        entry.alone = false;
        for listener in &mut entry.listeners {
            each(listener);
            listener.joins = Vec::new();
            (listener.hears, listener.misses) = (true, false);
        }
        self.look_at(id);
    }

    /// The server has dropped a topic as it was asked to, or has not had it any more.
    pub(crate) fn dropped(&mut self, id: TopicId) {
        let Some(entry) = self.topics.get_mut(id.0) else { return };
        if entry.standing != Standing::Dropping {
            return;
        }
        self.under_way -= 1;
        entry.standing = Standing::Absent;
        if entry.listeners.is_empty() {
            self.remove(id);
        } else {
            self.look_at(id);
        }
    }

    /// The server has not added a topic. It is put off until [`try_again`](Feed::try_again).
    pub(crate) fn refused(&mut self, id: TopicId) {
        if self.is_absent_after_all(id) {
            self.put_off(id);
        }
    }

    /// The server has not added this topic, nor others with it, and it may be the fault of one of them:
    /// it is asked for at once, alone.
    pub(crate) fn refused_among_others(&mut self, id: TopicId) {
        if self.is_absent_after_all(id) {
            if let Some(entry) = self.topics.get_mut(id.0) {
                entry.alone = true;
            }
            self.look_at(id);
        }
    }

    /// Notes that a topic was not added. Gives whether it is still wanted.
    fn is_absent_after_all(&mut self, id: TopicId) -> bool {
        let Some(entry) = self.topics.get_mut(id.0) else { return false };
        if entry.standing != Standing::Asked {
            return false;
        }
        self.under_way -= 1;
        entry.standing = Standing::Absent;
        let wanted = !entry.listeners.is_empty();
        if !wanted {
            self.remove(id);
        }
        wanted
    }

    /// The server has dropped a topic without having been asked to. It is put off as if refused. Gives
    /// whether that changes anything; those who heard it are given to `each`.
    pub(crate) fn taken_away(
        &mut self,
        kind: TopicKind,
        name: &[u8],
        mut each: impl FnMut(&Listener<S, T>),
    ) {
        let Some(id) = self.find(kind, name) else { return };
        let Some(entry) = self.topics.get_mut(id.0) else { return };
        // What is under way will be answered after this, and then it is known how things stand.
        if entry.standing != Standing::Heard {
            return;
        }
        entry.standing = Standing::Absent;
        entry.lose(&mut each);
        if entry.listeners.is_empty() {
            self.remove(id);
        } else if !entry.queued {
            self.put_off(id);
        }
    }

    /// The connection is gone, and with it all that the server had. Those who heard anything are given
    /// to `each`.
    pub(crate) fn lost(&mut self, mut each: impl FnMut(&Listener<S, T>)) {
        self.under_way = 0;
        self.put_off.clear();
        self.to_do.iter_mut().for_each(VecDeque::clear);
        let mut unwanted = Vec::new();
        for (id, entry) in self.topics.iter_mut() {
            let id = TopicId(id);
            entry.standing = Standing::Absent;
            entry.queued = !entry.listeners.is_empty();
            entry.lose(&mut each);
            if entry.queued {
                self.to_do[entry.topic.kind as usize].push_back(id);
            } else {
                unwanted.push(id);
            }
        }
        for id in unwanted {
            self.remove(id);
        }
        // So that those of one slot share a command.
        let topics = &self.topics;
        let slot_of = |id: &TopicId| topics.get(id.0).map(|entry| slot(&entry.topic.name));
        self.to_do[TopicKind::Shard as usize].make_contiguous().sort_by_cached_key(slot_of);
    }

    /// Looks again at what was put off.
    pub(crate) fn try_again(&mut self) {
        for id in std::mem::take(&mut self.put_off) {
            if let Some(entry) = self.topics.get_mut(id.0) {
                entry.queued = false;
                self.look_at(id);
            }
        }
    }

    /// Whether anything was put off.
    pub(crate) fn has_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    // ---- inside --------------------------------------------------------------------------------

    fn look_at(&mut self, id: TopicId) {
        let Some(entry) = self.topics.get_mut(id.0) else { return };
        if !entry.queued && entry.needed().is_some() {
            entry.queued = true;
            self.to_do[entry.topic.kind as usize].push_back(id);
        }
    }

    fn put_off(&mut self, id: TopicId) {
        if let Some(entry) = self.topics.get_mut(id.0) {
            entry.queued = true;
            self.put_off.push(id);
        }
    }

    fn remove(&mut self, id: TopicId) {
        if let Some(mut entry) = self.topics.remove(id.0) {
            self.left.append(&mut entry.leaving);
            self.by_name[entry.topic.kind as usize].remove(&*entry.topic.name);
        }
    }
}

impl<S, T> Entry<S, T> {
    /// What brings it to where it is wanted; nothing while that is under way.
    fn needed(&self) -> Option<Action> {
        match self.standing {
            Standing::Absent if !self.listeners.is_empty() => Some(Action::Subscribe),
            Standing::Heard if self.listeners.is_empty() => Some(Action::Unsubscribe),
            _ => None,
        }
    }

    fn lose(&mut self, each: &mut impl FnMut(&Listener<S, T>)) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.hears) {
            each(listener);
            (listener.hears, listener.misses) = (false, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TopicKind::{Channel, Pattern, Shard};

    type Fed = Feed<u32, u32>;

    fn want(feed: &mut Fed, kind: TopicKind, name: &str, stream: u32) -> TopicId {
        feed.want(kind, name.as_bytes(), stream).0
    }

    /// The next command, and its topics.
    fn step(feed: &mut Fed) -> Option<(String, Vec<TopicId>)> {
        let step = feed.next_step()?;
        let names = step.topics.iter().map(|(_, topic)| String::from_utf8_lossy(&topic.name));
        let names: Vec<_> = names.collect();
        let text = format!("{} {}", step.kind.command(step.action), names.join(" "));
        Some((text, step.topics.iter().map(|(id, _)| *id).collect()))
    }

    fn text(feed: &mut Fed) -> Option<String> {
        step(feed).map(|(text, _)| text)
    }

    /// Confirms all there is to be confirmed.
    fn settle(feed: &mut Fed) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((text, ids)) = step(feed) {
            for id in ids {
                if text.contains("UNSUB") {
                    feed.dropped(id);
                } else {
                    feed.added(id, |_| ());
                }
            }
            all.push(text);
        }
        all
    }

    #[test]
    fn streams_on_one_channel_share_one_subscription() {
        let mut feed = Fed::new(1);
        let a = want(&mut feed, Channel, "a", 1);
        assert_eq!(want(&mut feed, Channel, "a", 2), a);
        assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
        assert_eq!(feed.want(Channel, b"a", 3), (a, true));
        assert_eq!(feed.want(Channel, b"a", 3), (a, false));
        assert!(feed.listener(a, 3).expect("it was added").hears, "nothing is to be waited for");
        for (stream, text) in [(1, None), (3, None), (2, Some("UNSUBSCRIBE a"))] {
            feed.unwant(a, stream);
            assert_eq!(settle(&mut feed).first().map(String::as_str), text);
        }
        assert!(feed.is_empty());
        assert_eq!(feed.find(Channel, b"a"), None);
    }

    #[test]
    fn kinds_do_not_mix_and_neither_do_slots() {
        let mut feed = Fed::new(1);
        for (kind, name) in [(Channel, "a"), (Pattern, "a"), (Shard, "a"), (Shard, "b")] {
            want(&mut feed, kind, name, 1);
        }
        want(&mut feed, Channel, "b", 1);
        want(&mut feed, Shard, "{b}2", 1);
        let all = settle(&mut feed);
        let expected = ["SUBSCRIBE a b", "PSUBSCRIBE a", "SSUBSCRIBE a", "SSUBSCRIBE b {b}2"];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_is_wanted_and_given_up_while_a_step_is_under_way_waits_for_its_end() {
        let mut feed = Fed::new(1);
        let a = want(&mut feed, Channel, "a", 1);
        assert_eq!(text(&mut feed).as_deref(), Some("SUBSCRIBE a"));
        assert_eq!(feed.unwant(a, 1).map(|(_, unwanted)| unwanted), Some(Unwanted::Leaving));
        assert_eq!(text(&mut feed), None);
        want(&mut feed, Channel, "a", 2);
        feed.unwant(a, 2);
        feed.added(a, |_| panic!("nobody waits for it"));
        assert_eq!(text(&mut feed).as_deref(), Some("UNSUBSCRIBE a"));
        want(&mut feed, Channel, "a", 3);
        assert_eq!(text(&mut feed), None);
        let hears = feed.listeners(a)[0].hears;
        assert!(!hears, "what is still on its way is not for the newcomer");
        feed.dropped(a);
        assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
    }

    #[test]
    fn who_waits_for_a_topic_to_be_dropped_waits_no_longer_than_that_can_happen() {
        let mut feed = Fed::new(1);
        let mut a = want(&mut feed, Channel, "a", 1);
        // Dropped.
        settle(&mut feed);
        feed.unwant(a, 1);
        feed.wait_until_dropped(a, 1);
        assert!(feed.take_left().is_empty());
        settle(&mut feed);
        assert_eq!(feed.take_left(), [1]);
        // Wanted again before it was.
        a = want(&mut feed, Channel, "a", 1);
        settle(&mut feed);
        feed.unwant(a, 1);
        feed.wait_until_dropped(a, 2);
        want(&mut feed, Channel, "a", 2);
        assert_eq!(feed.take_left(), [2]);
        // Taken away before it was asked for.
        feed.unwant(a, 2);
        feed.wait_until_dropped(a, 3);
        feed.taken_away(Channel, b"a", |_| ());
        assert_eq!(feed.take_left(), [3]);
        // Never added.
        a = want(&mut feed, Channel, "a", 1);
        step(&mut feed);
        feed.unwant(a, 1);
        feed.wait_until_dropped(a, 4);
        feed.refused(a);
        assert_eq!(feed.take_left(), [4]);
        // Lost.
        a = want(&mut feed, Channel, "a", 1);
        settle(&mut feed);
        feed.unwant(a, 1);
        feed.wait_until_dropped(a, 5);
        feed.lost(|_| ());
        assert_eq!(feed.take_left(), [5]);
        assert!(feed.is_empty());
    }

    #[test]
    fn many_topics_go_in_slices_one_after_the_other() {
        let mut feed = Fed::new(1);
        for number in 0..10_000 {
            want(&mut feed, Channel, &format!("channel:{number}"), 1);
        }
        let mut left = 10_000;
        while let Some((_, ids)) = step(&mut feed) {
            assert!(ids.len() <= SLICE_TOPICS);
            assert_eq!(text(&mut feed), None, "one slice at a time");
            left -= ids.len();
            ids.into_iter().for_each(|id| feed.added(id, |_| ()));
        }
        assert_eq!((left, feed.heard()), (0, 10_000));
        let long = "x".repeat(SLICE_BYTES);
        want(&mut feed, Pattern, "p", 1);
        want(&mut feed, Pattern, &long, 1);
        want(&mut feed, Pattern, "q", 1);
        assert_eq!(settle(&mut feed).len(), 3);
    }

    #[test]
    fn after_a_loss_what_is_wanted_is_asked_for_and_stale_confirmations_are_inert() {
        let mut feed = Fed::new(1);
        let a = want(&mut feed, Channel, "a", 1);
        let b = want(&mut feed, Channel, "b", 1);
        settle(&mut feed);
        let c = want(&mut feed, Channel, "c", 2);
        feed.unwant(b, 1);
        assert!(text(&mut feed).is_some());
        let mut lost = Vec::new();
        feed.lost(|listener| lost.push(listener.stream));
        assert_eq!(lost, [1], "nobody else had heard anything");
        feed.added(c, |_| panic!("a stale confirmation"));
        feed.dropped(b);
        assert_eq!(text(&mut feed).as_deref(), Some("SUBSCRIBE a c"));
        let mut restored = Vec::new();
        for id in [a, c] {
            feed.added(id, |listener| restored.push((listener.stream, listener.misses)));
        }
        assert_eq!(restored, [(1, true), (2, false)]);
        assert_eq!(feed.len(), 2);
    }

    #[test]
    fn a_refusal_of_many_is_tried_one_by_one_and_that_of_one_is_put_off() {
        let mut feed = Fed::new(1);
        for name in ["a", "b", "c"] {
            want(&mut feed, Channel, name, 1);
        }
        let (_, ids) = step(&mut feed).expect("there is something to do");
        ids.iter().for_each(|id| feed.refused_among_others(*id));
        for name in ["a", "b", "c"] {
            assert_eq!(text(&mut feed).as_deref(), Some(&*format!("SUBSCRIBE {name}")));
        }
        feed.refused(ids[0]);
        feed.added(ids[1], |_| ());
        feed.unwant(ids[2], 1);
        feed.refused(ids[2]);
        assert_eq!((text(&mut feed), feed.has_put_off(), feed.len()), (None, true, 2));
        feed.try_again();
        assert_eq!(settle(&mut feed), ["SUBSCRIBE a"]);
    }

    #[test]
    fn what_the_server_takes_away_unasked_is_put_off_and_told() {
        let mut feed = Fed::new(1);
        let a = want(&mut feed, Shard, "a", 1);
        settle(&mut feed);
        let mut told = 0;
        feed.taken_away(Shard, b"a", |_| told += 1);
        feed.taken_away(Shard, b"a", |_| told += 1);
        feed.taken_away(Channel, b"a", |_| told += 1);
        feed.taken_away(Shard, b"nobody's", |_| told += 1);
        assert_eq!((told, text(&mut feed), feed.has_put_off()), (1, None, true));
        // Crossing with our own: the answer to that is what counts.
        feed.try_again();
        settle(&mut feed);
        feed.unwant(a, 1);
        assert_eq!(text(&mut feed).as_deref(), Some("SUNSUBSCRIBE a"));
        feed.taken_away(Shard, b"a", |_| panic!("nobody listens"));
        feed.dropped(a);
        assert!(feed.is_empty());
    }

    #[test]
    fn a_topic_that_moves_to_another_feed_takes_its_listeners_along_and_is_dropped_here() {
        let (mut from, mut to) = (Fed::new(1), Fed::new(2));
        let a = want(&mut from, Shard, "a", 1);
        settle(&mut from);
        let b = want(&mut from, Shard, "b", 1);
        want(&mut from, Shard, "b", 2);
        for (id, count) in [(a, 1), (b, 2)] {
            let moved = from.move_out(id).expect("it is there");
            assert_eq!(moved.listeners.len(), count);
            to.move_in(moved, |_| panic!("nobody hears it here yet"));
        }
        assert_eq!(settle(&mut from), ["SUNSUBSCRIBE a"], "the other one was not asked for");
        assert!(from.is_empty());
        assert!(from.move_out(a).is_none());
        assert_eq!(settle(&mut to), ["SSUBSCRIBE a", "SSUBSCRIBE b"]);
        assert_eq!((to.heard(), to.len()), (2, 2));
        // Back before the other has dropped it.
        let again = to.find(Shard, b"a").expect("it is there");
        let moved = to.move_out(again).expect("it is there");
        let mut told = 0;
        to.move_in(moved, |_| told += 1);
        assert_eq!((told, settle(&mut to).len()), (1, 0));
    }
}

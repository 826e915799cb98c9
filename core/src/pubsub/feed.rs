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
//!
//! What is wanted, and the next step, is told here; `back` has what the server says to it.

mod back;
#[cfg(test)]
mod tests;

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
    /// How long their names are together.
    bytes: usize,
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

impl Step {
    fn new(action: Action, kind: TopicKind) -> Self {
        Step { action, kind, topics: Vec::new(), bytes: 0 }
    }

    /// Whether one more topic goes into the same command.
    fn takes(&self, action: Action, topic: &Topic) -> bool {
        // A command's shard channels lie in one slot.
        let in_slot = |(_, first): &(TopicId, Arc<Topic>)| slot(&first.name) == slot(&topic.name);
        self.action == action
            && self.kind == topic.kind
            && self.topics.len() < SLICE_TOPICS
            && self.bytes + topic.name.len() <= SLICE_BYTES
            && (self.kind != TopicKind::Shard || self.topics.first().is_none_or(in_slot))
    }

    fn push(&mut self, id: TopicId, topic: Arc<Topic>) {
        self.bytes += topic.name.len();
        self.topics.push((id, topic));
    }
}

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
        while self.under_way < SLICE_TOPICS
            && let Some(&id) = self.to_do[kind as usize].front()
        {
            let entry = self.topics.get_mut(id.0);
            let needed = entry.and_then(|entry| Some((entry.needed()?, entry)));
            let Some((action, entry)) = needed else {
                self.done_with_first(kind);
                continue;
            };
            if step.as_ref().is_some_and(|step| entry.alone || !step.takes(action, &entry.topic)) {
                return step;
            }
            entry.standing = match action {
                Action::Subscribe => Standing::Asked,
                Action::Unsubscribe => Standing::Dropping,
            };
            let (topic, alone) = (entry.topic.clone(), entry.alone);
            self.under_way += 1;
            self.done_with_first(kind);
            step.get_or_insert_with(|| Step::new(action, kind)).push(id, topic);
            if alone {
                return step;
            }
        }
        step
    }

    /// The commands that drop all that the server has or was asked for. They are for a connection that is to carry
    /// nothing any more and goes on otherwise: what is wanted is taken elsewhere once it is
    /// [`lost`](Feed::lost) here.
    pub(crate) fn partings(&self) -> Vec<Step> {
        const ACTION: Action = Action::Unsubscribe;
        let mut steps: Vec<Step> = Vec::new();
        let had = |entry: &Entry<S, T>| matches!(entry.standing, Standing::Asked | Standing::Heard);
        for kind in TopicKind::ALL {
            let of_kind = self.topics.iter().filter(|(_, entry)| entry.topic.kind == kind);
            for (id, entry) in of_kind.filter(|(_, entry)| had(entry)) {
                if !steps.last().is_some_and(|step| step.takes(ACTION, &entry.topic)) {
                    steps.push(Step::new(ACTION, kind));
                }
                let step = steps.last_mut().expect("there is one by now");
                step.push(TopicId(id), entry.topic.clone());
            }
        }
        steps
    }

    fn done_with_first(&mut self, kind: TopicKind) {
        if let Some(id) = self.to_do[kind as usize].pop_front()
            && let Some(entry) = self.topics.get_mut(id.0)
        {
            entry.queued = false;
        }
    }

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

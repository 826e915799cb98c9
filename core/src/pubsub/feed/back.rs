//! What comes back: the server has confirmed, refused or taken away, or the connection is gone.

use std::collections::VecDeque;

use super::{Feed, Listener, Standing, TopicId};
use crate::{pubsub::TopicKind, slot::slot};

impl<S: Copy + PartialEq, T> Feed<S, T> {
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
}

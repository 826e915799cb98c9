//! Topics are added on a connection and dropped, and the peer confirms each: the commands, and how what it says is
//! told from the answers to anything else.

use std::time::Instant;

use super::{Connection, Owed, Own, Owner, Role};
use crate::{
    pubsub::{Action, Step, TopicId, TopicKind},
    reply::ServerError,
    resp::{Kind, Protocol, encode},
};

/// Topics that are being added or dropped.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) step: Step,
    /// How many of its topics are confirmed.
    pub(crate) confirmed: usize,
    /// The connection has been parted from what it carried then: the answer is for nobody.
    pub(crate) is_past: bool,
}

/// What an error says that comes after an unsubscription was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LateRefusal {
    /// It has nothing to do with it.
    No,
    /// It is the answer to the unsubscription.
    Taken,
    /// It may be that or the answer to something else.
    Doubtful,
}

impl Connection {
    /// Appends a command that adds or drops topics, never a bare one, which would drop all.
    pub(crate) fn change(&mut self, step: Step, now: Instant) {
        let (kind, action) = (step.kind, step.action);
        let end = self.log.append(|out| {
            encode::array_header(out, 1 + step.topics.len());
            encode::bulk(out, kind.command(action).as_bytes());
            step.topics.iter().for_each(|(_, topic)| encode::bulk(out, &topic.name));
        });
        let change = Change { step, confirmed: 0, is_past: false };
        self.push(Owner::Change(Box::new(change)), end, now);
        if kind == TopicKind::Shard && action == Action::Unsubscribe {
            // The slot may have moved just before: then the server has said so by a push that looks like
            // the confirmation, and refuses. With this behind it, a refusal is nothing else's.
            self.ask(Own::Ping, &[b"PING"], now);
        }
    }

    /// Drops all that it carries with these commands. What was asked for before may be answered when it carries
    /// something again, and has nothing to do with that.
    pub(crate) fn part(&mut self, partings: Vec<Step>, now: Instant) {
        partings.into_iter().for_each(|step| self.change(step, now));
        for owed in &mut self.owed {
            if let Owner::Change(change) = &mut owed.owner {
                change.is_past = true;
            }
        }
    }

    /// The peer says that a topic was added or dropped. Gives which, unless that is past, and whether it was the
    /// last of its command, where that was asked for and is the next thing to be answered.
    pub(crate) fn confirm(
        &mut self,
        kind: TopicKind,
        action: Action,
        name: &[u8],
    ) -> Option<(Option<TopicId>, bool)> {
        let handed_out = self.log.handed_out();
        let Owed { owner: Owner::Change(change), end } = self.owed.front_mut()? else {
            return None;
        };
        let Change { step, confirmed, is_past } = &mut **change;
        let (id, topic) = &step.topics[*confirmed];
        let asked = step.kind == kind && step.action == action && *topic.name == *name;
        if !asked || *end > handed_out {
            return None;
        }
        let id = (!*is_past).then_some(*id);
        *confirmed += 1;
        let last = *confirmed == step.topics.len();
        if last {
            self.answered = *end;
            self.owed.pop_front();
            self.late += usize::from(action == Action::Unsubscribe);
        }
        Some((id, last))
    }

    /// Whether nothing was answered since an unsubscription was confirmed.
    #[inline]
    pub(crate) fn has_unsubscribed_last(&self) -> bool {
        self.late > 0
    }

    pub(crate) fn forget_unsubscribed(&mut self) {
        self.late = 0;
    }

    /// What an error means that comes right after an unsubscription was confirmed. The server may have
    /// dropped the topic by itself, told so, and then refuses what was on its way.
    pub(crate) fn late_refusal(&mut self, error: &ServerError) -> LateRefusal {
        let next = self.owed.front().map(|owed| &owed.owner);
        let found = match (error.code(), next) {
            // Scripts and modules can answer with any text.
            ("NOSUB", Some(Owner::Request(op))) if op.spec.is_script() || op.spec.is_unknown() => {
                LateRefusal::Doubtful
            }
            ("NOSUB", _)
            | (
                "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "CROSSSLOT",
                Some(Owner::Own(Own::Ping)),
            ) => LateRefusal::Taken,
            _ => LateRefusal::No,
        };
        self.late -= usize::from(found == LateRefusal::Taken);
        found
    }

    /// Whether a frame of this kind may be about subscriptions: a push, or in RESP2, on a connection of
    /// their own, an array.
    #[inline]
    pub(crate) fn may_notify(&self, kind: Kind) -> bool {
        kind == Kind::Push || self.has_array_notices()
    }

    pub(super) fn has_array_notices(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.is_ready() && matches!(self.role, Role::Own(_))
    }
}

//! Pub/sub without a server: among the clients of one store, or within this client alone.

use super::{Engine, Output};
use crate::{
    commands::Spec,
    failure::Cause,
    fallback::{Membership, Nudge, is_about_channels, misuse_of_channels},
    pubsub::TopicKind,
    resp::Value,
};
use bytes::Bytes;

impl<W> Engine<W> {
    /// Sets how this client is told that another client of its store has published what it wants to hear.
    /// Whoever publishes gives the nudge ([`Output::Nudge`]), with no lock held; it has to bring
    /// [`Input::Nudged`](super::Input::Nudged) here. Without one, messages of others are heard with whatever
    /// is asked of this client next. To be set before anything is subscribed to.
    pub fn set_nudge(&mut self, nudge: Nudge) {
        self.nudge = Some(nudge);
    }

    /// Answers a command about channels as a server would; `None` for all others. `words` is the whole
    /// command. While a server is down there is PUBLISH only, and that only as long as there is no connection
    /// on which the server could be told: see [`may_be_told`](Self::may_be_told).
    pub(super) fn answer_about_channels(&mut self, spec: &Spec, words: &[&[u8]]) -> Option<Value> {
        if !is_about_channels(spec) {
            return None;
        }
        if let Some(error) = misuse_of_channels(spec, words) {
            return Some(Value::error(error));
        }
        let args = words.get(spec.words()..).unwrap_or_default();
        if let Some(store) = &self.store {
            let asking = self.membership.as_ref();
            let (value, nudges) = store.answer_about_channels(spec.name(), args, asking);
            self.outputs.extend(nudges.into_iter().map(Output::Nudge));
            self.hear_others();
            return value;
        }
        match (spec.name(), args) {
            ("PUBLISH", [channel, message]) => self.publish(TopicKind::Channel, channel, message),
            ("SPUBLISH", [channel, message]) => self.publish(TopicKind::Shard, channel, message),
            _ => None,
        }
    }

    /// Gives a message to this client's own streams alone. The answer is how many of its subscriptions it
    /// reached: one for the channel, and one for each pattern that matches, which is what a server
    /// would say of one connection.
    fn publish(&mut self, kind: TopicKind, channel: &[u8], message: &[u8]) -> Option<Value> {
        let message = Bytes::copy_from_slice(message);
        let reached = self.pubsub.deliver_locally(kind, channel, &message);
        self.settle_streams();
        Some(Value::Integer(reached as i64))
    }

    /// Brings what the streams of this client want in line with what its store knows of it.
    pub(super) fn settle_membership(&mut self) {
        // What was published before is not for those who come now.
        self.hear_others();
        if self.pubsub.wanted() == 0 {
            self.pubsub.settle_locally(|_, _| ());
            self.membership = None;
            return;
        }
        let Some(store) = &self.store else { return };
        let join = || store.join(&self.config.subscriptions, self.nudge.clone());
        let membership = self.membership.get_or_insert_with(join);
        self.pubsub.settle_locally(|action, topic| membership.change(action, topic));
    }

    /// Gives the streams of this client what was published, by whichever client of its store.
    pub(super) fn hear_others(&mut self) {
        let Some(mail) = self.membership.as_ref().map(Membership::take_mail) else { return };
        if mail.lost {
            for feed in self.pubsub.feeds() {
                self.pubsub.lost(feed, &Cause::Local);
            }
            self.pubsub.settle_locally(|_, _| ());
        }
        for letter in mail.letters {
            self.pubsub.deliver_locally(letter.kind, &letter.channel, &letter.payload);
        }
        self.settle_streams();
    }
}

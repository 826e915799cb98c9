//! Pub/sub without a server: `memory://` has the commands that a server has for it.

use super::Engine;
use crate::{commands::Spec, fallback::glob, pubsub::TopicKind, resp::Value};
use bytes::Bytes;

impl<W> Engine<W> {
    /// Answers a command about channels as a server would whose only connection this client is; `None`
    /// for all others. `words` is the whole command.
    pub(super) fn answer_about_channels(&mut self, spec: &Spec, words: &[&[u8]]) -> Option<Value> {
        let args = words.get(spec.words()..).unwrap_or_default();
        let wrong_arity = || {
            let name = spec.name().to_ascii_lowercase().replace(' ', "|");
            Some(Value::error(format!("ERR wrong number of arguments for '{name}' command")))
        };
        match (spec.name(), args) {
            ("PUBLISH", [channel, message]) => self.publish(TopicKind::Channel, channel, message),
            ("SPUBLISH", [channel, message]) => self.publish(TopicKind::Shard, channel, message),
            ("PUBSUB CHANNELS", [] | [_]) => self.channels(TopicKind::Channel, args.first()),
            ("PUBSUB SHARDCHANNELS", [] | [_]) => self.channels(TopicKind::Shard, args.first()),
            ("PUBSUB NUMSUB", channels) => self.counts(TopicKind::Channel, channels),
            ("PUBSUB SHARDNUMSUB", channels) => self.counts(TopicKind::Shard, channels),
            ("PUBSUB NUMPAT", []) => {
                Some(Value::Integer(self.pubsub.wanted_of(TopicKind::Pattern).len() as i64))
            }
            (
                "PUBLISH"
                | "SPUBLISH"
                | "PUBSUB CHANNELS"
                | "PUBSUB SHARDCHANNELS"
                | "PUBSUB NUMPAT",
                _,
            ) => wrong_arity(),
            _ => None,
        }
    }

    fn publish(&mut self, kind: TopicKind, channel: &[u8], message: &[u8]) -> Option<Value> {
        let reached = self.pubsub.deliver_locally(kind, channel, message);
        self.settle_streams();
        Some(Value::Integer(reached as i64))
    }

    fn channels(&self, kind: TopicKind, pattern: Option<&&[u8]>) -> Option<Value> {
        let matches = |name: &&[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let names = self.pubsub.wanted_of(kind).into_iter().filter(matches);
        Some(Value::Array(names.map(|name| Value::Bulk(Bytes::copy_from_slice(name))).collect()))
    }

    fn counts(&self, kind: TopicKind, channels: &[&[u8]]) -> Option<Value> {
        let wanted = self.pubsub.wanted_of(kind);
        let count = |name: &&[u8]| {
            let name_out = Value::Bulk(Bytes::copy_from_slice(name));
            [name_out, Value::Integer(i64::from(wanted.contains(name)))]
        };
        Some(Value::Array(channels.iter().flat_map(count).collect()))
    }
}

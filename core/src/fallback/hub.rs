//! Pub/sub among the clients of one embedded store: who has subscribed to what, and what waits to be
//! heard.
//!
//! ```text
//!   PUBLISH by any client ──▶ hub ──▶ mail of each member that wants it ──▶ its streams
//!                              └─────▶ the nudges of the others, to be given once all locks are released
//! ```
//!
//! All members get messages in the order in which the hub took them, the publisher too.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::RangeInclusive,
    sync::Arc,
};

use bytes::Bytes;

use super::glob;
use crate::{commands::Spec, config::SubscriptionLimits, pubsub::TopicKind, resp::Value};

/// What a message costs besides its bytes: its place in a queue, with the handles of both parts.
const MESSAGE_BYTES: usize = 96;

/// Tells another client of the same store that there is mail for it. It is foreign code: it takes that
/// client's lock.
#[derive(Clone)]
pub struct Nudge(Arc<dyn Fn() + Send + Sync>);

/// A message on its way to a member.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) kind: TopicKind,
    pub(crate) channel: Bytes,
    pub(crate) payload: Bytes,
}

/// What a member has not heard yet.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) letters: VecDeque<Letter>,
    bytes: usize,
    /// There was no room for what stood before these.
    pub(crate) lost: bool,
}

/// Who hears whom.
#[derive(Default)]
pub(super) struct Hub {
    members: BTreeMap<u64, Member>,
    joined: u64,
}

/// One client.
pub(super) struct Member {
    topics: BTreeSet<(TopicKind, Bytes)>,
    mail: Mail,
    messages_max: usize,
    bytes_max: usize,
    nudge: Option<Nudge>,
}

impl Nudge {
    /// One that calls this.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Nudge(Arc::new(call))
    }

    /// Gives it.
    pub fn give(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Nudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nudge")
    }
}

impl Hub {
    /// Takes a client in, which wants nothing yet.
    pub(super) fn join(&mut self, limits: &SubscriptionLimits, nudge: Option<Nudge>) -> u64 {
        let id = self.joined;
        self.joined += 1;
        let SubscriptionLimits { messages_max, bytes_max, .. } = *limits;
        let (topics, mail) = (BTreeSet::new(), Mail::default());
        self.members.insert(id, Member { topics, mail, messages_max, bytes_max, nudge });
        id
    }

    /// Gives what was kept of a client, to be dropped once the lock is released: its nudge is foreign.
    #[must_use]
    pub(super) fn leave(&mut self, member: u64) -> Option<Member> {
        self.members.remove(&member)
    }

    /// A member wants a topic from now on, or no longer.
    pub(super) fn set(&mut self, member: u64, kind: TopicKind, name: &[u8], wanted: bool) {
        let Some(member) = self.members.get_mut(&member) else { return };
        let topic = (kind, Bytes::copy_from_slice(name));
        if wanted {
            member.topics.insert(topic);
        } else {
            member.topics.remove(&topic);
        }
    }

    pub(super) fn take_mail(&mut self, member: u64) -> Mail {
        let member = self.members.get_mut(&member);
        member.map(|member| std::mem::take(&mut member.mail)).unwrap_or_default()
    }

    /// Answers a command about channels, whose name is `name`; `None` for all others. Nudges are added for
    /// those members that have mail now, but not for `asking`, which looks by itself.
    ///
    /// PUBLISH takes time in proportion to the members and to the patterns that they want.
    pub(super) fn answer(
        &mut self,
        name: &str,
        args: &[&[u8]],
        asking: Option<u64>,
        nudges: &mut Vec<Nudge>,
    ) -> Option<Value> {
        let mut publish = |kind, channel: &[u8], payload: &[u8]| {
            let (channel, payload) =
                (Bytes::copy_from_slice(channel), Bytes::copy_from_slice(payload));
            self.publish(&Letter { kind, channel, payload }, asking, nudges)
        };
        Some(match (name, args) {
            ("PUBLISH", [channel, payload]) => publish(TopicKind::Channel, channel, payload),
            ("SPUBLISH", [channel, payload]) => publish(TopicKind::Shard, channel, payload),
            ("PUBSUB CHANNELS", _) => self.channels(TopicKind::Channel, args.first()),
            ("PUBSUB SHARDCHANNELS", _) => self.channels(TopicKind::Shard, args.first()),
            ("PUBSUB NUMSUB", channels) => self.counts(TopicKind::Channel, channels),
            ("PUBSUB SHARDNUMSUB", channels) => self.counts(TopicKind::Shard, channels),
            ("PUBSUB NUMPAT", _) => Value::Integer(self.all(TopicKind::Pattern).len() as i64),
            _ => return None,
        })
    }

    fn publish(&mut self, letter: &Letter, asking: Option<u64>, nudges: &mut Vec<Nudge>) -> Value {
        let mut reached = 0;
        for (id, member) in &mut self.members {
            let count = member.wants(letter);
            if count > 0 {
                reached += count;
                let was_told = member.mail.lost || !member.mail.letters.is_empty();
                member.put(letter.clone());
                if asking != Some(*id) && !was_told {
                    nudges.extend(member.nudge.clone());
                }
            }
        }
        Value::Integer(reached as i64)
    }

    fn channels(&self, kind: TopicKind, pattern: Option<&&[u8]>) -> Value {
        let matches = |name: &&Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        Value::Array(self.all(kind).into_iter().filter(matches).cloned().map(Value::Bulk).collect())
    }

    fn counts(&self, kind: TopicKind, channels: &[&[u8]]) -> Value {
        let count = |name: &&[u8]| {
            let topic = (kind, Bytes::copy_from_slice(name));
            let count = self.members.values().filter(|member| member.topics.contains(&topic));
            let count = Value::Integer(count.count() as i64);
            [Value::Bulk(topic.1), count]
        };
        Value::Array(channels.iter().flat_map(count).collect())
    }

    /// The topics of a kind that anybody wants, each once, in the order of their names.
    fn all(&self, kind: TopicKind) -> BTreeSet<&Bytes> {
        let topics = self.members.values().flat_map(|member| &member.topics);
        topics.filter(|topic| topic.0 == kind).map(|topic| &topic.1).collect()
    }
}

impl Member {
    /// How many of its subscriptions a message reaches: one for the channel, one for each pattern.
    fn wants(&self, letter: &Letter) -> usize {
        let itself = self.topics.contains(&(letter.kind, letter.channel.clone()));
        let patterns =
            if letter.kind == TopicKind::Channel { Some(TopicKind::Pattern) } else { None };
        let patterns = patterns.into_iter().flat_map(|kind| {
            let first = (kind, Bytes::new());
            self.topics.range(first..).take_while(move |topic| topic.0 == kind)
        });
        let matching = patterns.filter(|topic| glob::matches(&topic.1, &letter.channel));
        usize::from(itself) + matching.count()
    }

    /// Where there is no room nobody looks for a long time: all of it is dropped, and that is told.
    fn put(&mut self, letter: Letter) {
        let mail = &mut self.mail;
        let bytes = MESSAGE_BYTES + letter.channel.len() + letter.payload.len();
        mail.bytes += bytes;
        if mail.letters.len() >= self.messages_max || mail.bytes > self.bytes_max {
            *mail = Mail { lost: true, ..Mail::default() };
            return;
        }
        mail.letters.push_back(letter);
    }
}

/// Whether this command is about channels.
pub(crate) fn is_about_channels(spec: &Spec) -> bool {
    args_of_channels(spec).is_some()
}

/// What a server answers to a command about channels that has too few arguments, or too many.
pub(crate) fn misuse_of_channels(spec: &Spec, words: &[&[u8]]) -> Option<String> {
    let count = words.len().saturating_sub(spec.words());
    if args_of_channels(spec)?.contains(&count) {
        return None;
    }
    let name = spec.name().to_ascii_lowercase().replace(' ', "|");
    Some(format!("ERR wrong number of arguments for '{name}' command"))
}

/// How many arguments a command about channels may have after its name.
fn args_of_channels(spec: &Spec) -> Option<RangeInclusive<usize>> {
    match spec.name() {
        "PUBLISH" | "SPUBLISH" => Some(2..=2),
        "PUBSUB CHANNELS" | "PUBSUB SHARDCHANNELS" => Some(0..=1),
        "PUBSUB NUMSUB" | "PUBSUB SHARDNUMSUB" => Some(0..=usize::MAX),
        "PUBSUB NUMPAT" => Some(0..=0),
        _ => None,
    }
}

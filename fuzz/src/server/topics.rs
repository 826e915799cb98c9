//! The server's side of publish and subscribe.

use std::collections::{BTreeMap, BTreeSet};

use unfazed_core::{
    fallback::glob,
    pubsub::TopicKind,
    resp::{Protocol, Value},
    slot::slot,
};

use super::{Server, Session, bulk};

/// How many messages there were, by channel and node.
///
/// Each node numbers what it hands out, whoever has published it: that is what its subscribers can hold it to.
/// What the nodes of a cluster lose on their way to each other no client can know of, nor what two of them
/// hand out of one and the same message.
pub type Published = BTreeMap<(TopicKind, String, usize), u64>;

/// The channel of a message, the node that has handed it out, and its number there.
#[must_use]
pub fn told_apart(payload: &str) -> Option<(&str, usize, u64)> {
    let (channel, rest) = payload.split_once('@')?;
    let (node, number) = rest.split_once('=')?;
    Some((channel, node.parse().ok()?, number.parse().ok()?))
}

impl Server {
    /// Subscribes, unsubscribes, and answers what may be asked in between: one value for each topic.
    /// Nothing where it is another command; a fault where no client should send it.
    pub(super) fn topics_command(
        &mut self,
        session: &mut Session,
        words: &[String],
    ) -> Result<Option<Vec<Value>>, String> {
        let name = words[0].to_ascii_uppercase();
        let (kind, adds) = match name.as_str() {
            "SUBSCRIBE" => (TopicKind::Channel, true),
            "PSUBSCRIBE" => (TopicKind::Pattern, true),
            "SSUBSCRIBE" => (TopicKind::Shard, true),
            "UNSUBSCRIBE" => (TopicKind::Channel, false),
            "PUNSUBSCRIBE" => (TopicKind::Pattern, false),
            "SUNSUBSCRIBE" => (TopicKind::Shard, false),
            "PING" if !session.resp3 && !session.topics.is_empty() => {
                return Ok(Some(vec![Value::Array(vec![bulk("pong"), bulk("")])]));
            }
            _ if !session.resp3 && !session.topics.is_empty() => {
                return Err(format!("{name} where only subscriptions may be"));
            }
            _ => return Ok(None),
        };
        let names = &words[1..];
        if names.is_empty() {
            return Err(format!("a bare {name}"));
        }
        let slots: BTreeSet<u16> = names.iter().map(|name| slot(name.as_bytes())).collect();
        if kind == TopicKind::Shard && slots.len() > 1 {
            return Err(format!("{name} of several slots"));
        }
        if self.password.is_some() && !session.authenticated {
            return Ok(Some(vec![Value::error("NOAUTH Authentication required.")]));
        }
        self.note_asked_apart(session, words);
        let elsewhere = slots.first().filter(|_| kind == TopicKind::Shard);
        let elsewhere = elsewhere.and_then(|slot| self.channels_elsewhere(*slot, adds));
        let refusal = if kind == TopicKind::Shard && names.iter().any(|it| self.has_moved(it)) {
            Some("MOVED 1 10.0.0.9:6379".to_owned())
        } else if elsewhere.is_some() {
            elsewhere
        } else if adds && names.iter().any(|name| self.denied.as_ref() == Some(name)) {
            Some("NOPERM no permissions to access one of the channels".to_owned())
        } else if !adds && self.refuses_unsubscribe && session.topics.is_empty() {
            Some("NOSUB not subscribed".to_owned())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.subscribed.1 += 1;
            return Ok(Some(vec![Value::error(refusal)]));
        }
        let confirmed = names.iter().map(|name| {
            let topic = (kind, name.clone());
            if adds {
                session.topics.insert(topic);
            } else {
                session.topics.remove(&topic);
            }
            changed(kind, adds, name, session.topics.len())
        });
        let confirmed = confirmed.collect();
        self.subscribed.0 += u64::from(adds);
        Ok(Some(confirmed))
    }

    fn has_moved(&self, name: &str) -> bool {
        let moved = self.moved.as_ref();
        moved.is_some_and(|moved| slot(moved.as_bytes()) == slot(name.as_bytes()))
    }

    /// Hands out the next message on a channel: its number. Gives what goes to whom.
    pub fn hand_out(&mut self, kind: TopicKind, channel: &str) -> Vec<(u64, Vec<u8>)> {
        let node = self.here();
        let count = self.published.entry((kind, channel.to_owned(), node)).or_default();
        let payload = format!("{channel}@{node}={count}");
        *count += 1;
        let mut sent = Vec::new();
        for (link, session) in &self.sessions {
            for (of, name) in &session.topics {
                let words: Vec<&str> = match (of, kind) {
                    (TopicKind::Channel, TopicKind::Channel) if name == channel => {
                        vec!["message", channel, &payload]
                    }
                    (TopicKind::Shard, TopicKind::Shard) if name == channel => {
                        vec!["smessage", channel, &payload]
                    }
                    (TopicKind::Pattern, TopicKind::Channel)
                        if glob::matches(name.as_bytes(), channel.as_bytes()) =>
                    {
                        vec!["pmessage", name, channel, &payload]
                    }
                    _ => continue,
                };
                let value = Value::Push(words.into_iter().map(bulk).collect());
                sent.push((*link, session.frame(&value)));
            }
        }
        sent
    }

    /// Takes topics from whoever has them, without having been asked to. Gives what goes to whom.
    pub fn take_away(&mut self, which: impl Fn(TopicKind, &str) -> bool) -> Vec<(u64, Vec<u8>)> {
        let mut sent = Vec::new();
        for (link, session) in &mut self.sessions {
            let all = std::mem::take(&mut session.topics);
            let (gone, kept) = all.into_iter().partition(|(kind, name)| which(*kind, name));
            session.topics = kept;
            let gone: BTreeSet<(TopicKind, String)> = gone;
            for (kind, name) in gone {
                let value = changed(kind, false, &name, session.topics.len());
                sent.push((*link, session.frame(&value)));
            }
        }
        sent
    }

    /// Forgets a subscription and says nothing: a deliberate fault.
    pub fn forget_topic(&mut self) {
        for session in self.sessions.values_mut() {
            session.topics.pop_first();
        }
    }

    /// All that anybody is subscribed to on a connection that is `alive`, once for each connection.
    #[must_use]
    pub fn topics(&self, alive: impl Fn(u64) -> bool) -> Vec<(TopicKind, String)> {
        let sessions = self.sessions.iter().filter(|(link, _)| alive(**link));
        let mut all: Vec<_> = sessions.flat_map(|(_, session)| session.topics.clone()).collect();
        all.sort();
        all
    }

    /// Whether a connection is subscribed to anything.
    #[must_use]
    pub fn is_subscribed(&self, link: u64) -> bool {
        self.sessions.get(&link).is_some_and(|session| !session.topics.is_empty())
    }
}

impl Session {
    pub(super) fn frame(&self, value: &Value) -> Vec<u8> {
        let mut frame = Vec::new();
        value.encode(&mut frame, if self.resp3 { Protocol::Resp3 } else { Protocol::Resp2 });
        frame
    }
}

/// That a topic was added or dropped.
fn changed(kind: TopicKind, added: bool, name: &str, count: usize) -> Value {
    let word = match (kind, added) {
        (TopicKind::Channel, true) => "subscribe",
        (TopicKind::Pattern, true) => "psubscribe",
        (TopicKind::Shard, true) => "ssubscribe",
        (TopicKind::Channel, false) => "unsubscribe",
        (TopicKind::Pattern, false) => "punsubscribe",
        (TopicKind::Shard, false) => "sunsubscribe",
    };
    Value::Push(vec![bulk(word), bulk(name), Value::Integer(count as i64)])
}

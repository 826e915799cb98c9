//! What is owed is paid: each entry of the journal becomes commands, and its answers are read.
//!
//! ```text
//!   owed ──▶ asked about ──▶ sent ──all answered──▶ settled
//!     ▲          │             ├── refused for now ──┐
//!     └──────────┴─────────────┼─────────────────────┘
//!                              ├── refused for ever ──▶ given up
//!                              └── no answer: sent again, but a merge is given up
//! ```
//!
//! Where one key takes several commands they go out between MULTI and EXEC, in one piece.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Memory;
use crate::{
    Now,
    fallback::{
        Answer, Store,
        delta::{Command, Fate, PARTS_PER_COMMAND, command, expire, left, slices},
        journal::{Entry, Sending},
        store::EntryView,
    },
    resp::{Reply, ServerError, Value},
};

/// What is to be done next for one key.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Something has to be known first.
    Ask(Command),
    /// This pays what is owed.
    Pay(Vec<Command>),
    /// Nothing is owed any more.
    Nothing,
    /// It is not to be paid: the server has other data now, and the key is not there.
    Skip,
}

/// What an answer to one of the commands that pay comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Answered {
    /// More answers are to come.
    Partly,
    Paid,
    Refused(Refused),
}

/// A command that pays was refused, or failed.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) command: &'static str,
    pub(crate) error: ServerError,
    /// It was carried out before, in part or whole, and can't be sent again.
    pub(crate) for_good: bool,
}

impl Memory {
    /// The keys that are owed something and that nothing is on its way for, the oldest first.
    /// Only those for which `whose` holds.
    pub(crate) fn next_owed(&self, count: usize, whose: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        self.journal.next(count, whose)
    }

    /// Whether something is owed to a key for which `whose` holds.
    pub(crate) fn owes_any(&self, whose: impl Fn(&[u8]) -> bool) -> bool {
        self.journal.keys().any(|key| whose(key))
    }

    /// Whether something is on its way for a key for which `whose` holds.
    pub(crate) fn sends_any(&self, whose: impl Fn(&[u8]) -> bool) -> bool {
        self.journal.keys().any(|key| self.journal.is_sending(key) && whose(key))
    }

    /// For how many keys something is on its way.
    pub(crate) fn sending(&self) -> usize {
        self.journal.sending()
    }

    /// Begins to pay what a key is owed. `other_data` where the server may have other data than when
    /// the key was written in memory.
    pub(crate) fn begin(&mut self, key: &Bytes, other_data: bool, now: Now) -> Step {
        let question = match self.journal.get(key) {
            Some(Entry::Merge(delta)) if delta.fate(now.unix_millis()) == Fate::Due => {
                other_data.then_some("EXISTS")
            }
            Some(Entry::Replay) if self.overlay.contains(key, now) => {
                // What memory does not know stays as it is.
                let known = self.written.get(key).is_some_and(|written| written.expiry);
                (!known).then_some("PTTL")
            }
            _ => None,
        };
        match question {
            Some(name) => {
                let question = command(name, [key.clone()]);
                self.journal.send(key, Sending::of(std::slice::from_ref(&question)));
                Step::Ask(question)
            }
            None => self.pay(key, None, now),
        }
    }

    /// Goes on with the answer to the question.
    pub(crate) fn go_on(&mut self, key: &Bytes, reply: &Reply, now: Now) -> Step {
        let number = reply.view().integer().unwrap_or(-1);
        match self.journal.get(key) {
            Some(Entry::Merge(_)) if number < 1 => Step::Skip,
            Some(Entry::Replay) => {
                let until = u64::try_from(number).ok().map(|left| now.unix_millis() + left);
                self.pay(key, until, now)
            }
            _ => self.pay(key, None, now),
        }
    }

    /// `until` is when the key expires on the server, where memory does not know it.
    fn pay(&mut self, key: &Bytes, until: Option<u64>, now: Now) -> Step {
        let at = now.unix_millis();
        let deletion = || vec![command("DEL", [key.clone()])];
        let mut commands = match self.journal.get(key) {
            None => return Step::Nothing,
            Some(Entry::Delete) => deletion(),
            Some(Entry::Replay) => match self.overlay.peek(key, now) {
                Some(entry) => {
                    let until = entry.expires_at().or(until);
                    self.replay(key, until, now)
                }
                // A deleted key stays deleted, and what has expired brings back nothing older.
                None => deletion(),
            },
            Some(Entry::Merge(delta)) => match delta.fate(at) {
                Fate::Due => delta.commands(key, at),
                Fate::Expired => deletion(),
                Fate::Lapsed => Vec::new(),
            },
        };
        if commands.is_empty() {
            return Step::Nothing;
        }
        if commands.len() > 1 {
            commands.insert(0, command("MULTI", []));
            commands.push(command("EXEC", []));
        }
        self.journal.send(key, Sending::of(&commands));
        Step::Pay(commands)
    }

    /// The commands that give a key the value that stands in memory.
    fn replay(&mut self, key: &Bytes, until: Option<u64>, now: Now) -> Vec<Command> {
        let at = now.unix_millis();
        let text = self.overlay.peek(key, now).as_ref().and_then(EntryView::string);
        if let Some(text) = text {
            let mut args = vec![key.clone(), text];
            if let Some(until) = until {
                args.extend([Bytes::from_static(b"PX"), left(until, at)]);
            }
            return vec![command("SET", args)];
        }
        let mut commands = vec![command("DEL", [key.clone()])];
        let (name, parts) = members(&mut self.overlay, key, now);
        slices(&mut commands, name, key, &parts);
        if name == "HSET" {
            self.expire_fields(&mut commands, key, &parts, now);
        }
        commands.extend(until.map(|until| expire(key, until, at)));
        commands
    }

    /// The commands that let fields expire when they do in memory, those of one moment together: what
    /// is known of it, which is nothing of fields that memory has from the server.
    fn expire_fields(
        &mut self,
        commands: &mut Vec<Command>,
        key: &Bytes,
        fields: &[Vec<Bytes>],
        now: Now,
    ) {
        let names: Vec<&Bytes> = fields.iter().filter_map(|field| field.first()).collect();
        let count = names.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
        words.extend(names.iter().map(|name| &name[..]));
        let Answer::Reply(Value::Array(moments)) = self.overlay.execute(&words, now) else {
            return;
        };
        let mut by_moment: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        for (name, moment) in names.into_iter().zip(moments) {
            if let Value::Integer(moment) = moment
                && let Ok(moment) = u64::try_from(moment)
            {
                by_moment.entry(moment).or_default().push(name.clone());
            }
        }
        for (moment, names) in by_moment {
            for names in names.chunks(PARTS_PER_COMMAND) {
                let mut args = vec![key.clone(), left(moment, now.unix_millis())];
                args.push(Bytes::from_static(b"FIELDS"));
                args.push(Bytes::from(names.len().to_string()));
                args.extend_from_slice(names);
                commands.push(command("HPEXPIRE", args));
            }
        }
    }

    /// Reads an answer to one of the commands that pay.
    pub(crate) fn answered(&mut self, key: &[u8], reply: &Reply) -> Answered {
        let repeatable = self.journal.get(key).is_some_and(Entry::is_repeatable);
        let Some(sending) = self.journal.sending_mut(key) else { return Answered::Partly };
        let (at, last) = (sending.answered, sending.names.len() - 1);
        sending.answered += 1;
        let refused = |(at, error): (usize, ServerError), ran: bool, names: &[&'static str]| {
            let command = names.get(at).copied().unwrap_or("EXEC");
            Answered::Refused(Refused { command, error, for_good: ran && !repeatable })
        };
        if at < last {
            match reply.error() {
                // Without MULTI each command runs by itself, and says for itself what came of it.
                Some(_) if at == 0 => sending.bare = true,
                Some(error) => drop(sending.refused.get_or_insert((at, error))),
                // Otherwise it is only queued.
                None => sending.ran |= sending.bare,
            }
            return Answered::Partly;
        }
        let before = sending.refused.take();
        match (reply.error(), before) {
            (_, Some(before)) => refused(before, sending.ran, &sending.names),
            (Some(_), None) if sending.bare => Answered::Paid,
            (Some(error), None) => refused((at, reason(error)), false, &sending.names),
            (None, None) => {
                // What EXEC has carried out is not undone by an error in the middle.
                let failed =
                    reply.view().items().enumerate().find_map(|(at, answer)| {
                        Some((at + 1, answer.error()?)).filter(|_| last > 0)
                    });
                match failed {
                    Some(failed) => refused(failed, true, &sending.names),
                    None => Answered::Paid,
                }
            }
        }
    }

    /// What was owed to a key is paid, and the server answers for it again.
    pub(crate) fn settled(&mut self, key: &[u8], now: Now) {
        self.journal.remove(key);
        self.drop_key(key, now);
    }

    /// What was on its way for a key was refused for now: the next time it comes after all others.
    pub(crate) fn put_last(&mut self, key: &[u8]) {
        self.journal.put_last(key);
    }

    /// What is on its way for a key was not carried out, or may be sent again.
    pub(crate) fn put_back(&mut self, key: &[u8]) {
        self.journal.put_back(key);
    }

    /// Nobody knows whether what was on its way for a key was carried out. Gives whether it is given
    /// up for that, because it must not be carried out twice; otherwise it is owed still.
    ///
    /// Memory goes on with what it has, as long as there is nothing better.
    pub(crate) fn unanswered(&mut self, key: &[u8]) -> bool {
        let given_up = self.journal.get(key).is_some_and(|entry| !entry.is_repeatable());
        if given_up {
            self.journal.remove(key);
        } else {
            self.journal.put_back(key);
        }
        given_up
    }
}

/// Why EXEC carried nothing out: it wraps the reason of some servers in its own.
fn reason(error: ServerError) -> ServerError {
    const BECAUSE: &str = "because of: ";
    let text = error.to_string();
    match text.split_once(BECAUSE) {
        Some((_, reason)) if error.code() == "EXECABORT" => ServerError::new(reason.as_bytes()),
        _ => error,
    }
}

/// The command that makes a collection, and what stands in it.
fn members(store: &mut Store, key: &Bytes, now: Now) -> (&'static str, Vec<Vec<Bytes>>) {
    let name = store.peek(key, now).map_or("none", |entry| entry.type_name());
    let mut ask = |words: &[&[u8]]| match store.execute(words, now) {
        Answer::Reply(reply) => reply,
        Answer::Full(_) | Answer::Unsupported => Value::Null,
    };
    let (make, answer): (_, Value) = match name {
        "hash" => ("HSET", ask(&[b"HGETALL", key])),
        "list" => ("RPUSH", ask(&[b"LRANGE", key, b"0", b"-1"])),
        "set" => ("SADD", ask(&[b"SMEMBERS", key])),
        _ => ("ZADD", ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])),
    };
    let parts = match answer {
        Value::Map(pairs) => pairs.iter().map(|(a, b)| vec![text(a), text(b)]).collect(),
        Value::Array(items) | Value::Set(items) => items
            .iter()
            .map(|item| match item {
                // A member and its score.
                Value::Array(pair) => pair.iter().rev().map(text).collect(),
                item => vec![text(item)],
            })
            .collect(),
        _ => Vec::new(),
    };
    (make, parts)
}

fn text(value: &Value) -> Bytes {
    match value {
        Value::Bulk(text) => text.clone(),
        other => crate::fallback::delta::number_of(other),
    }
}

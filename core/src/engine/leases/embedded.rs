//! Leases without a server: on `memory://` commands wait, and keys are watched, in the embedded store.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    super::{Parked, in_memory::lacks},
    Engine, blocked,
};
use crate::{
    commands::Spec,
    connection::Op,
    failure::{Executed, FailureKind, MemoryRefusal, Stage},
    fallback::{Answer, Savepoint},
    request::split_command,
    resp::{Reply, Source, Value},
};

/// How often a store is looked at on which something waits: others may have added to it, who share it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A command that waits for something in the store, or behind one that does.
#[derive(Debug)]
pub(super) struct Waiting {
    parked: Parked,
    /// When it ends without anything, `Some(None)` for never; `None` if it has not begun.
    until: Option<Option<Instant>>,
}

impl<W> Engine<W> {
    /// Whether a command is to be answered by the store in its turn, because it waits or stands behind one
    /// of its pipeline that does.
    pub(in super::super) fn waits_in_store(&self, op: &Op) -> bool {
        let behind = |waiting: &Waiting| waiting.parked.op.ticket == op.ticket;
        op.spec.is_blocking() || self.leases.waiting_in_store.iter().any(behind)
    }

    /// Lets a command wait for what is not in the store yet.
    pub(in super::super) fn wait_in_store(&mut self, parked: Parked) {
        self.leases.waiting_in_store.push_back(Waiting { parked, until: None });
        self.run_waits_in_store();
    }

    /// When somebody is to look at the store again.
    pub(super) fn store_due(&self) -> Option<Instant> {
        let none = self.leases.waiting_in_store.is_empty();
        (!none).then(|| self.leases.looked_at.map_or(self.now.instant, |at| at + LOOK_EVERY))
    }

    /// Something may have been added.
    pub(in super::super) fn store_was_changed(&mut self) {
        if !self.leases.waiting_in_store.is_empty() {
            self.leases.stirred = true;
            self.stirred = true;
        }
    }

    /// Has everything that waits try again, in the order in which it came.
    pub(super) fn run_waits_in_store(&mut self) {
        if self.leases.waiting_in_store.is_empty() {
            return;
        }
        self.leases.looked_at = Some(self.now.instant);
        self.stirred = true;
        let mut behind = BTreeSet::new();
        for mut waiting in std::mem::take(&mut self.leases.waiting_in_store) {
            let ticket = waiting.parked.op.ticket;
            if !self.tickets.wants(ticket) {
                self.give_up(&waiting.parked.op);
            } else if behind.contains(&ticket) || !self.try_in_store(&mut waiting) {
                behind.insert(ticket);
                self.leases.waiting_in_store.push_back(waiting);
            }
        }
    }

    /// Whether a command has ended.
    fn try_in_store(&mut self, waiting: &mut Waiting) -> bool {
        let Parked { op, bytes, .. } = &waiting.parked;
        if !op.spec.is_blocking() {
            self.answer_from_store(op, bytes);
            return true;
        }
        let words = split_command(bytes);
        match self.take_from_store(op.spec, &words) {
            Found::Something(value) => {
                self.end_from_memory(op, Reply::from(value).with_source(Source::Store));
                return true;
            }
            Found::Unsupported => {
                let kind = FailureKind::Memory(MemoryRefusal::Embedded(lacks(op.spec)));
                let failure = self.failure(op, kind, Executed::No);
                self.end(op, Err(failure));
                return true;
            }
            Found::Nothing => {}
        }
        let now = self.now;
        let until = *waiting.until.get_or_insert_with(|| {
            let wait = blocked::wait_of(op.spec, bytes);
            (wait != Duration::MAX).then(|| now.after(wait))
        });
        if until.is_some_and(|until| until <= now.instant) {
            self.end_from_memory(op, Reply::from(Value::Null).with_source(Source::Store));
            return true;
        }
        self.extend_deadline(op.ticket, until);
        false
    }

    /// What the command would take if it did not wait.
    fn take_from_store(&self, spec: &Spec, words: &[&[u8]]) -> Found {
        let args = &words[1..];
        let error = |text: String| Found::Something(Value::error(text));
        let Some((at, millis)) = spec.wait_among(args).filter(|_| args.len() >= 2) else {
            let name = spec.name().to_ascii_lowercase();
            return error(format!("ERR wrong number of arguments for '{name}' command"));
        };
        if blocked::read_wait(args[at], millis).is_none() {
            return error("ERR timeout is not a float or out of range".into());
        }
        let of_each = |name: &[u8]| {
            let keys = &args[..args.len() - 1];
            let found = keys.iter().map(|key| (key, self.try_now(&[name, key])));
            let mut found = found.filter(|(_, found)| !matches!(found, Found::Nothing));
            match found.next() {
                None => Found::Nothing,
                Some((key, Found::Something(Value::Array(parts)))) => Found::Something(
                    Value::Array(std::iter::once(bulk(key)).chain(parts).collect()),
                ),
                Some((key, Found::Something(value))) if !matches!(value, Value::Error(_)) => {
                    Found::Something(Value::Array(vec![bulk(key), value]))
                }
                Some((_, other)) => other,
            }
        };
        let with = |name: &'static [u8], rest: &[&[u8]]| {
            let words: Vec<&[u8]> = std::iter::once(name).chain(rest.iter().copied()).collect();
            self.try_now(&words)
        };
        match spec.name() {
            "BLPOP" => of_each(b"LPOP"),
            "BRPOP" => of_each(b"RPOP"),
            "BZPOPMIN" => of_each(b"ZPOPMIN"),
            "BZPOPMAX" => of_each(b"ZPOPMAX"),
            "BLMOVE" => with(b"LMOVE", &args[..args.len() - 1]),
            "BRPOPLPUSH" => with(b"RPOPLPUSH", &args[..args.len() - 1]),
            "BLMPOP" => with(b"LMPOP", &args[1..]),
            "BZMPOP" => with(b"ZMPOP", &args[1..]),
            _ => Found::Unsupported,
        }
    }

    fn try_now(&self, words: &[&[u8]]) -> Found {
        let store = self.store.as_ref().expect("only asked where there is one");
        match store.execute_at(words, self.now) {
            Answer::Unsupported => Found::Unsupported,
            Answer::Reply(Value::Null) => Found::Nothing,
            Answer::Reply(Value::Array(parts)) if parts.is_empty() => Found::Nothing,
            Answer::Reply(value) | Answer::Full(value) => Found::Something(value),
        }
    }

    fn extend_deadline(&mut self, ticket: super::Ticket, until: Option<Instant>) {
        let limited = self.tickets.of_lease(ticket).is_some_and(|of| of.limited);
        if !limited {
            let grace = self.config.deadline;
            let deadline = until.and_then(|until| until.checked_add(grace));
            let deadline = deadline.unwrap_or_else(|| self.now.after(Duration::MAX));
            self.tickets.set_deadline(ticket, deadline);
        }
    }

    /// Ends what waits in the store and has expired.
    pub(super) fn take_expired_of_store(&mut self) -> Vec<(Parked, Stage)> {
        let tickets = &self.tickets;
        let expired = |waiting: &Waiting| tickets.is_expired(waiting.parked.op.ticket);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leases.waiting_in_store).into_iter().partition(expired);
        self.leases.waiting_in_store = kept.into();
        gone.into_iter().map(|waiting| (waiting.parked, Stage::Reply)).collect()
    }

    pub(super) fn take_waits_of_store(&mut self) -> impl Iterator<Item = Parked> + use<W> {
        std::mem::take(&mut self.leases.waiting_in_store).into_iter().map(|waiting| waiting.parked)
    }

    // ---- watched keys --------------------------------------------------------------------------

    /// Answers WATCH and UNWATCH of somebody who has a lease; `false` for all others.
    pub(in super::super) fn watch_in_store(&mut self, op: &Op, words: &[&[u8]]) -> bool {
        let (Some(store), Some(of)) = (&self.store, self.tickets.of_lease(op.ticket)) else {
            return false;
        };
        let Some(leased) = self.leases.get_mut(of.lease) else { return false };
        let Some(watched) = leased.held.watched() else { return false };
        match op.spec.name() {
            "WATCH" if words.len() > 1 => watched.push(store.savepoint_at(&words[1..], self.now)),
            "UNWATCH" => watched.clear(),
            _ => return false,
        }
        let done = Reply::from(Value::Simple("OK".into())).with_source(Source::Store);
        self.end_from_memory(op, done);
        true
    }

    /// What the lease of a transaction watches; nothing from then on.
    pub(in super::super) fn take_watched(&mut self, op: &Op) -> Vec<Savepoint> {
        let Some(of) = self.tickets.of_lease(op.ticket) else { return Vec::new() };
        let leased = self.leases.get_mut(of.lease);
        let watched = leased.and_then(|leased| leased.held.watched());
        watched.map(std::mem::take).unwrap_or_default()
    }
}

enum Found {
    Something(Value),
    Nothing,
    Unsupported,
}

fn bulk(bytes: &[u8]) -> Value {
    Value::Bulk(Bytes::copy_from_slice(bytes))
}

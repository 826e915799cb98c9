//! Consumers of a stream, and those who add to it. Once all is well each entry that is there was given to one of
//! them, and none was acknowledged that was given to nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use unfazed_core::{
    commands::GroupStart,
    dialogue::{Consumer, Consumers, Delivery},
};

use crate::{
    dialogues::{Machine, Who},
    mutants::Mutant,
    server::{GROUP, STREAM, written},
    workload::{Command, Shape, Wish},
    world::{Action, World},
};

/// What a consumer is given.
pub(crate) type Entry = Delivery<Vec<(String, String)>>;

/// One consumer under way.
#[derive(Debug)]
pub(crate) struct Eater {
    pub(crate) dialogue: Consumer<Vec<(String, String)>>,
    pub(crate) pause: Duration,
    name: u64,
}

/// What consumers were given, and what was taken out of their stream.
#[derive(Debug, Default)]
pub(crate) struct Eaten {
    given: BTreeMap<String, u64>,
    deleted: BTreeSet<String>,
    /// They are no longer needed.
    done: bool,
}

/// How many entries one world has.
const ENTRIES_MAX: usize = 60;

impl World {
    /// A consumer begins, or begins anew.
    pub(crate) fn eater(&mut self, name: u64) {
        if self.eaten.done || self.closing_since.is_some() {
            return;
        }
        let mine = |who: &Who| matches!(who, Who::Eater(eater) if eater.name == name);
        if !self.talks.values().any(|talk| mine(&talk.who)) {
            let pause = self.entropy.millis(20, 600);
            let (stalled, every) = (self.entropy.millis(50, 400), self.entropy.millis(20, 100));
            let consumer = Machine.consumer(GROUP, format!("c{name}")).stream(STREAM);
            let consumer = consumer.create(GroupStart::Beginning).recreate().pause(pause);
            let consumer = consumer.count(self.entropy.between(1, 4));
            let dialogue = consumer.reclaim_every(stalled, every).run();
            self.count("consumers");
            self.converse(Who::Eater(Eater { dialogue, pause, name }));
        }
        let delay = self.entropy.millis(10, 100);
        self.at(delay, Action::Eater(name));
    }

    /// Somebody adds an entry, or deletes one.
    pub(crate) fn adder(&mut self) {
        if self.over {
            return;
        }
        self.ids += 1;
        let id = self.ids;
        let delete = self.entropy.chance(10).then(|| {
            let count = self.server.added.len() as u64;
            let at = self.entropy.below(count) as usize;
            self.server.added.keys().nth(at).cloned()
        });
        let command = match delete.flatten() {
            Some(entry) => {
                let command = Command::of(&["XDEL", STREAM, &entry], &[STREAM], None);
                self.eaten.deleted.insert(entry);
                command
            }
            None if self.server.added.len() < ENTRIES_MAX => {
                let words = ["XADD", STREAM, "*", "v", &id.to_string()];
                Command::of(&words, &[STREAM], Some(id))
            }
            None => return,
        };
        let options = unfazed_core::Options::default();
        self.wish(&Wish { commands: vec![command], shape: Shape::One, options }, "adder");
        let delay = self.entropy.micros(1_000, 4 * self.setup.think_micros);
        self.at(delay, Action::Adder);
    }

    /// A consumer was given an entry. Gives whether it goes on.
    pub(crate) fn eat(&mut self, eater: &Eater, entry: &Entry) -> bool {
        let id = entry.id.to_string();
        self.trace(format_args!("   c{} is given {id}, {:?}", eater.name, entry.origin));
        let value = entry.fields.first().map(|(_, value)| value);
        let added = self.server.added.get(&id).zip(value);
        if !added.is_some_and(|(values, value)| values.contains(value)) {
            self.oracle.fail(2, format!("{id} holds {value:?}, and is another entry"));
        }
        self.count(match entry.origin {
            unfazed_core::dialogue::Origin::New => "entries: new",
            unfazed_core::dialogue::Origin::Pending => "entries: pending",
            unfazed_core::dialogue::Origin::Claimed => "entries: claimed",
        });
        let forgets = self.mutant == Some(Mutant::ForgetEntries) && self.entropy.chance(20);
        if !forgets {
            *self.eaten.given.entry(id.clone()).or_default() += 1;
        }
        if self.over || self.entropy.chance(80) {
            let delay = self.entropy.micros(0, 50_000);
            self.at(delay, Action::Ack(id));
        }
        // One that dies with what it was given, or before it has given all that came.
        self.over || !self.entropy.chance(3)
    }

    /// Somebody is done with an entry.
    pub(crate) fn ack(&mut self, id: &str) {
        if self.eaten.done || self.closing_since.is_some() {
            return;
        }
        let command = Command::of(&["XACK", STREAM, GROUP, id], &[STREAM], None);
        let options = unfazed_core::Options::default();
        self.wish(&Wish { commands: vec![command], shape: Shape::One, options }, "consumer");
    }

    /// What consumers have still to be given; nothing once they have it all and have ended.
    pub(crate) fn uneaten(&mut self) -> Option<String> {
        if self.setup.eaters == 0 || self.eaten.done {
            return None;
        }
        let (given, deleted) = (&self.eaten.given, &self.eaten.deleted);
        let known = |id: &&String| given.contains_key(*id) || deleted.contains(*id);
        let unknown = self.server.acknowledged.iter().find(|id| !known(id)).cloned();
        if let Some(id) = unknown {
            self.oracle.fail(6, format!("{id} was acknowledged, and given to nobody"));
        }
        let node = (0..self.servers()).find(|node| self.is_served_by(*node, STREAM));
        let stream = node.and_then(|node| self.server_at(node).stream());
        let entries = stream.map(|stream| stream.entries.keys());
        let ids = entries.into_iter().flatten().map(|id| written(*id));
        let missing: Vec<_> = ids.filter(|id| !self.eaten.given.contains_key(id)).collect();
        if !missing.is_empty() {
            return Some(format!("{missing:?} were given to nobody"));
        }
        self.end_eaters();
        None
    }

    fn end_eaters(&mut self) {
        self.eaten.done = true;
        self.count("streams that were read to their end");
        let eaters = self.talks.iter().filter(|(_, talk)| matches!(talk.who, Who::Eater(_)));
        for waker in eaters.filter_map(|(_, talk)| talk.waits_for()).collect::<Vec<_>>() {
            self.give_up(waker);
        }
    }
}

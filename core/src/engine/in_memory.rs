//! Requests that no server answers: while it is down, or because there is none.

use super::{Engine, Event, Parked, classify::Class, classify::classify};
use crate::{
    commands::Spec,
    connection::Op,
    failure::{Bound, Executed, FailureKind, MEMORY, MemoryRefusal},
    fallback::{Answer, NativeDone, Policy, Standing},
    request::{Effect, split_command},
    resp::{Reply, Source},
    slot::slot,
};

impl<W> Engine<W> {
    /// Answers a command from memory; `ran` is what a native script has done for it.
    pub(super) fn place_in_memory(&mut self, parked: Parked, ran: Option<NativeDone>) {
        let op = &parked.op;
        let invalidates = matches!(op.standing, Standing::Memory(Policy::Invalidate));
        if op.maybe && op.effect != Effect::Read && !invalidates {
            return self.end_maybe(op, parked.cause);
        }
        if let Some(ran) = ran {
            return self.end_script(parked, ran);
        }
        let Some(Parked { op, bytes, .. }) = self.begin_script(parked) else { return };
        if op.spec.is_transaction() {
            return self.run_in_memory(&op, &bytes);
        }
        let args = split_command(&bytes);
        if op.spec.is_publish()
            && let Some(value) = self.answer_about_channels(op.spec, &args)
        {
            // The message stays with this client.
            return self.end_from_memory(&op, Reply::from(value).with_source(Source::Overlay));
        }
        let shard = op.spec.concerns_all_keys().then(|| self.tickets.pin_of(op.ticket)).flatten();
        let answer = match (&self.cluster, shard) {
            // Of all keys that memory knows, those of one shard.
            (Some(cluster), Some(node)) => {
                let whose = |key: &[u8]| cluster.owner(slot(key)) == node;
                self.memory.answer_for(op.spec, op.standing, &args, self.now, whose)
            }
            _ => self.memory.answer(op.spec, op.standing, &args, self.now),
        };
        match answer {
            Ok(reply) => self.end_from_memory(&op, reply),
            Err(refusal) => self.refuse_in_memory(&op, refusal),
        }
        self.tell_of_memory();
    }

    /// Answers a command where there is no server; `ran` is what a native script has done for it.
    pub(super) fn place_in_store(&mut self, parked: Parked, ran: Option<NativeDone>) {
        if let Some(ran) = ran {
            self.end_script(parked, ran);
        } else if self.waits_in_store(&parked.op) {
            self.wait_in_store(parked);
        } else if let Some(Parked { op, bytes, .. }) = self.begin_script(parked) {
            self.answer_from_store(&op, &bytes);
        }
    }

    pub(super) fn answer_from_store(&mut self, op: &Op, bytes: &[u8]) {
        if op.spec.is_transaction() {
            self.run_in_store(op, bytes);
            return self.store_was_changed();
        }
        let args = split_command(bytes);
        if let Some(value) = self.answer_about_channels(op.spec, &args) {
            return self.end_from_memory(op, Reply::from(value).with_source(Source::Store));
        }
        if op.spec.is_session() && self.watch_in_store(op, &args) {
            return;
        }
        self.store_was_changed();
        let store = self.store.as_ref().expect("only asked where there is one");
        match store.execute_at(&args, self.now) {
            Answer::Reply(value) => {
                self.end_from_memory(op, Reply::from(value).with_source(Source::Store));
                self.tell_of_memory();
            }
            Answer::Full(value) => {
                let bound = store.lack();
                self.end_from_memory(op, Reply::from(value));
                self.tell_memory_full(bound);
            }
            Answer::Unsupported => {
                let kind = FailureKind::Memory(MemoryRefusal::Embedded(lacks(op.spec)));
                let failure = self.failure(op, kind, Executed::No);
                self.end(op, Err(failure));
            }
        }
    }

    pub(super) fn end_from_memory(&mut self, op: &Op, reply: Reply) {
        if self.tickets.of_lease(op.ticket).is_some() {
            // Its lease may have waited for nothing else.
            (self.leases.stirred, self.stirred) = (true, true);
        }
        match reply.view().error() {
            Some(error) => {
                let executed = match classify(op.spec, &error) {
                    Class::Told(executed) => executed,
                    _ => Executed::No,
                };
                let failure = self.failure(op, FailureKind::Server(error), executed);
                self.end(op, Err(failure.at(Some(MEMORY.into()))));
            }
            None => {
                self.tally.by_memory(op.rule, op.effect, &reply);
                self.end(op, Ok(reply));
            }
        }
    }

    /// Ends a command that memory can't answer.
    pub(super) fn refuse_in_memory(&mut self, op: &Op, refusal: MemoryRefusal) {
        self.memory_has_refused(op.rule, op.effect, &refusal);
        self.end_without_answer(op, FailureKind::Memory(refusal));
    }

    // ---- what operators are told ---------------------------------------------------------------

    /// Counts a refusal for the pattern and the kind of its command, and tells of a bound.
    pub(super) fn memory_has_refused(&mut self, rule: u8, effect: Effect, refusal: &MemoryRefusal) {
        if let MemoryRefusal::Full(bound) = refusal {
            self.tell_memory_full(*bound);
        }
        self.tally.refused(rule, effect);
    }

    /// Tells that memory is full, once until there is room again.
    pub(super) fn tell_memory_full(&mut self, bound: Bound) {
        let holds = self.holds(bound);
        match self.told.full.iter_mut().find(|(of, _)| *of == bound) {
            Some((_, told)) => *told = holds,
            None => {
                self.told.full.push((bound, holds));
                self.tell_full(bound);
            }
        }
    }

    /// How much there is of what a bound of memory bounds.
    fn holds(&self, bound: Bound) -> usize {
        let (entries, bytes) = match &self.store {
            Some(store) => store.size(),
            None => self.memory.overlay_size(),
        };
        match bound {
            Bound::MemoryEntries => entries,
            Bound::MemoryBytes => bytes,
            Bound::JournalEntries => self.memory.journal_size().0,
            Bound::JournalBytes => self.memory.journal_size().1,
            _ => 0,
        }
    }

    /// Takes note of how much memory holds after a command, and tells what there is to tell.
    pub(super) fn tell_of_memory(&mut self) {
        if !self.told.full.is_empty() {
            let mut told = std::mem::take(&mut self.told.full);
            told.retain(|(bound, held)| self.holds(*bound) >= *held);
            self.told.full = told;
        }
        if self.memory.take_met_too_old() && !std::mem::replace(&mut self.told.too_old, true) {
            self.stirred = true;
            let node = self.nodes[self.nodes.home()].label.clone();
            self.event(Event::TooOld { node });
        }
    }
}

const HAND_MADE: &str = "memory:// has no MULTI by hand: `transaction` runs all of its commands or none, also after \
    WATCH on a connection of your own, and `optimistic` decides what to write by what it has read";
const ONE_DATABASE: &str = "memory:// has one database: keep data apart by a prefix of its keys, or in a `Store` of \
    its own";
const NO_CONNECTION: &str =
    "memory:// has no connection that this command could change or tell of: leave it out";
const NO_LUA: &str =
    "memory:// runs no scripts, but for those that Config::native_script gives a function";
const NO_STREAMS: &str = "memory:// has no streams: a list (RPUSH, BLMOVE) can hand work on, a channel messages; for \
    streams and their groups use a server";
const NO_PLACES: &str = "memory:// has no places (GEOADD and its like): use a server";
const NO_HYPERLOGLOGS: &str =
    "memory:// has no HyperLogLogs: a set (SADD, SCARD) counts exactly, and else use a server";
const NOT_KNOWN: &str = "memory:// does not know this command: use a server";

/// What `memory://` says to a command that it can't answer.
pub(super) fn lacks(spec: &Spec) -> &'static str {
    let name = spec.name();
    match name {
        "MULTI" | "EXEC" | "DISCARD" => HAND_MADE,
        "SELECT" | "SWAPDB" | "MOVE" => ONE_DATABASE,
        _ if spec.is_script() || name.starts_with("SCRIPT") || name.starts_with("FUNCTION") => {
            NO_LUA
        }
        _ if spec.is_session() || name.starts_with("CLIENT") => NO_CONNECTION,
        _ if name.starts_with('X') => NO_STREAMS,
        _ if name.starts_with("GEO") => NO_PLACES,
        _ if name.starts_with("PF") => NO_HYPERLOGLOGS,
        _ => NOT_KNOWN,
    }
}

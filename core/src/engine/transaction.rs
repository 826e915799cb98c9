//! Transactions: MULTI, the commands and EXEC, sent, answered, lost and repeated as one thing.
//!
//! ```text
//!   MULTI ─▶ +OK      SET a 1 ─▶ +QUEUED      INCR b ─▶ +QUEUED      EXEC ─▶ *2 +OK :1
//!      │ refused                 │ refused                              │
//!      └───────── noted ─────────┴──────────▶ EXECABORT ────────────────┤ nil: a watched key changed
//!                                                                       ▼
//!                                          ended as a whole, or the whole block again
//! ```
//!
//! To the rest of the engine a transaction is one command, an [`Op`] of which a [`Block`] says what it
//! is made of. It has one place in its connection's queue, which it keeps until the last of its
//! replies has come, and one range of bytes, appended in one piece: so nothing of anyone else gets
//! between MULTI and EXEC, and it may have run only if the last byte of EXEC was taken.

use std::borrow::Cow;

use super::{
    Batch, ConnId, Engine, Flush, Lease, Outcomes, Parked, Rejected, Slot, Ticket,
    block::{Block, Blocks, EXEC, MULTI, Progress, Refused, executed_in, not_run, parts},
    classify::classify,
    in_memory::lacks,
    sources::self_contained,
    status::NO_PATTERN,
    submit::{Room, cost_of},
    tickets::{OfLease, Work},
    trial::Rare,
};
use crate::{
    Failure, Now,
    commands::Spec,
    connection::Op,
    failure::{Abort, Cause, Executed, FailureKind, MEMORY, MemoryRefusal},
    fallback::{Memory, Part, Standing, Stopped, Why, is_about_channels, misuse_of_channels},
    reply::ServerError,
    request::Effect,
    resp::{Kind, Reply, Source},
    slot::slot,
};

const SESSION: &str =
    "this command changes the state of its connection and can't be part of a transaction";
const BLOCKS: &str = "this command waits at the server, and nothing waits in a transaction";
const CROSS_SLOT: &str = "this command's key is in another slot of the cluster than those before it; all \
    keys of a transaction need a common hash tag, such as {user:7}";

impl<W> Engine<W> {
    /// Accepts a transaction, as [`submit_batch`](Engine::submit_batch) does a pipeline.
    pub(super) fn submit_transaction(
        &mut self,
        batch: &Batch,
        waiter: Option<W>,
        lease: Option<Lease>,
    ) -> Result<(Ticket, Flush), Rejected> {
        let whole = if batch.scripts.is_empty() { None } else { Some(self_contained(batch)) };
        let batch = whole.as_ref().unwrap_or(batch);
        for (at, item) in batch.items.iter().enumerate() {
            self.check_item(item.spec, batch.name_of(at))?;
        }
        let mut common = Slot::NONE;
        if self.cluster.is_some() {
            match one_slot(batch) {
                Ok(slot) => common = slot.unwrap_or(Slot::NONE),
                Err(at) => return Err(misuse(CROSS_SLOT, batch.name_of(at))),
            }
        }
        if let Some(lease) = lease {
            common = self.slot_of_transaction(lease, common)?;
        }
        let deadline = self.now.after(batch.options.deadline.unwrap_or(self.config.deadline));
        if batch.is_empty() {
            // There is nothing to be carried out, so nobody is asked.
            let work = Work::Whole(Some(Outcomes::each(Vec::new())));
            let ticket = self.tickets.insert(work, None, deadline, Vec::new());
            self.wake(waiter);
            return Ok((ticket, Flush::Nothing));
        }
        let room = self.find_room(batch.options)?;
        let work = Work::Whole(None);
        let ticket = self.tickets.insert(work, waiter, deadline, batch.names.clone());
        if let Some(lease) = lease {
            self.bind(lease, common);
            let limited = batch.options.deadline.is_some();
            self.tickets.note_lease(ticket, OfLease { lease, waits: None, limited });
        }
        let parts: Vec<_> =
            if self.memory.degrades() { parts(&batch.items, &batch.bytes) } else { Vec::new() };
        let (standing, noted) = self.memory.mode_for_all(&parts);
        let mut op = self.transaction(ticket, batch, &parts, standing);
        op.slot = common;
        let write = |out: &mut Vec<u8>| {
            out.reserve(MULTI.len() + batch.bytes.len() + EXEC.len());
            out.extend_from_slice(MULTI);
            out.extend_from_slice(&batch.bytes);
            out.extend_from_slice(EXEC);
        };
        if noted {
            let mut bytes = Vec::new();
            write(&mut bytes);
            op.note = Some(bytes.into());
        }
        let direct = room == Room::Now && lease.is_none();
        if let Some(conn) = self.direct(op.slot, standing).filter(|_| direct) {
            op.attempts = 1;
            let connection = self.connections.get_mut(conn.0).expect("the node's connection");
            let before = connection.log.unwritten();
            connection.send_transaction(op, self.now.instant, write);
            return Ok((ticket, self.flush(conn, before)));
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        let flush = match room {
            Room::Now => self.submit_indirectly(op, &bytes),
            Room::InLine => self.stand_in_line(vec![Parked { op, bytes, cause: None }]),
        };
        Ok((ticket, flush))
    }

    fn check_item(&self, spec: &Spec, command: &str) -> Result<(), Rejected> {
        self.check_open(command)?;
        match () {
            () if spec.is_session() => Err(misuse(SESSION, command)),
            () if spec.is_blocking() => Err(misuse(BLOCKS, command)),
            () => Ok(()),
        }
    }

    fn transaction(
        &mut self,
        ticket: Ticket,
        batch: &Batch,
        parts: &[Part<'_>],
        standing: Standing,
    ) -> Op {
        let slow = batch.items.iter().any(|item| item.spec.is_slow());
        let spec = if slow { Spec::slow_transaction() } else { Spec::transaction() };
        let effects = batch.items.iter().map(|item| item.effect);
        let effect = effects.max().unwrap_or(Effect::Read);
        let rules = parts.iter().map(|one| self.rule_of(one)).collect();
        let at = self.blocks.insert(Block::new(batch, &self.config).counted(rules));
        let mut op = Op::new(&self.config, ticket, at, spec, effect, batch.options, standing);
        op.cost = cost_of(&batch.bytes).saturating_add((MULTI.len() + EXEC.len()) as u32);
        self.queued.add(&op);
        op
    }

    /// Which pattern one of the commands counts for, as it would alone.
    fn rule_of(&self, one: &Part<'_>) -> u8 {
        let (standing, _) = self.memory.mode_for(one.spec, one.effect, one.args());
        if standing == Standing::Wait {
            return NO_PATTERN;
        }
        self.memory.rule_for(one.spec, one.args())
    }

    // ---- on the server -------------------------------------------------------------------------

    /// One of a transaction's replies.
    #[cold]
    pub(super) fn on_transaction_reply(
        &mut self,
        conn: ConnId,
        op: Box<Op>,
        reply: Reply,
        start: u64,
        end: u64,
    ) {
        let connection = self.connections.get_mut(conn.0).expect("it has just answered");
        let block = self.blocks.of_mut(&op).expect("a transaction has one");
        match block.on_reply(&reply) {
            Progress::Going => connection.owes_more(op, start, end),
            Progress::Done => {
                connection.transaction_ended(&op);
                self.count_answer(conn);
                self.on_exec(conn, *op, reply, start, end);
            }
            // No server answers like this, so nobody can tell what became of it.
            Progress::Broken => {
                connection.owes_more(op, start, end);
                self.kill(conn, Cause::UnexpectedReply);
            }
        }
    }

    fn on_exec(&mut self, conn: ConnId, mut op: Op, reply: Reply, start: u64, end: u64) {
        let block = self.blocks.of_mut(&op).expect("a transaction has one");
        match (&block.refused, reply.error()) {
            (Some((Refused::Multi, error)), _) if block.strayed => {
                let kind = FailureKind::Server(error.clone());
                self.taint(&op);
                let failure = self.failure(&op, kind, Executed::Maybe);
                self.fail(&op, failure);
            }
            (Some((Refused::Multi, error)), _) => {
                self.trial.reached(Rare::DiscardedByMulti);
                let (error, class) = (error.clone(), not_run(classify(op.spec, error)));
                self.on_refusal(conn, op, error, class, start, end);
            }
            (_, Some(error)) => {
                let (error, class) = block.refusal(op.spec, error);
                self.on_refusal(conn, op, error, class, start, end);
            }
            (_, None) if reply.kind() == Kind::Null => {
                self.tally.server += 1;
                let failure = self.failure(&op, FailureKind::Conflict, op.executed_so_far());
                self.fail(&op, failure);
            }
            (_, None) => {
                self.learn_from(conn, &op, &reply);
                if std::mem::take(&mut op.engaged) {
                    self.release(&op);
                }
                let block = self.blocks.of_mut(&op).expect("a transaction has one");
                for (at, view) in reply.view().items().enumerate() {
                    let (rule, effect) = block.counts_as(at);
                    if rule != NO_PATTERN && !view.is_error() {
                        self.tally.by_rule(rule, effect, &view.to_reply());
                    }
                }
                let items = std::mem::take(&mut block.items);
                self.tally.server += items.len() as u64;
                let node = self.label_at(conn);
                let outcomes = Outcomes::exec(reply, items, node, op.attempts);
                self.end_whole(&op, outcomes);
            }
        }
    }

    /// Lets memory see what was carried out.
    fn learn_from(&mut self, conn: ConnId, op: &Op, reply: &Reply) {
        let Some(note) = &op.note else { return };
        if op.engaged {
            self.overtake(op, note);
        }
        // An older connection may tell what the newer one has overtaken.
        let is_newest = self.served_by(conn).is_some() && !op.overtaken;
        let block = self.blocks.of(op).expect("a transaction has one");
        let mut start = MULTI.len();
        for (item, view) in block.items.iter().zip(reply.view().items()) {
            let end = MULTI.len() + item.end;
            let command = &note[std::mem::replace(&mut start, end)..end];
            if is_newest && !view.is_error() {
                self.memory.observe(item.spec, command, &view.to_reply(), self.now);
            } else {
                self.memory.forget(item.spec, Some(command), self.now);
            }
            if view.is_error() {
                self.memory.unlearn(item.spec, command, self.now);
            }
        }
        if self.served_by(conn).is_none() {
            self.on_write_elsewhere(conn, op);
        }
    }

    /// What a server's refusal is for whoever is told of it.
    pub(super) fn refusal_kind(&self, op: &Op, error: ServerError) -> FailureKind {
        let Some(block) = self.blocks.of(op) else { return FailureKind::Server(error) };
        let at = match block.refused {
            Some((Refused::Item(at), _)) => Some(at),
            _ => None,
        };
        self.aborted(op, at, FailureKind::Server(error))
    }

    fn aborted(&self, op: &Op, at: Option<usize>, reason: FailureKind) -> FailureKind {
        FailureKind::Aborted(Abort::new(at.map(|at| (at, self.item_of(op, at).1)), reason))
    }

    // ---- in memory -----------------------------------------------------------------------------

    /// Carries a transaction out in memory, in the server's stead.
    pub(super) fn run_in_memory(&mut self, op: &Op, bytes: &[u8]) {
        let block = self.blocks.of(op).expect("a transaction has one");
        let (parts, now) = (block.parts(bytes), self.now);
        let result = self.run_all(parts, Spec::is_publish, Source::Overlay, |engine, parts| {
            engine.memory.answer_all(parts, op.standing, now)
        });
        if let Err(Stopped { at, why: Why::Refused(refusal) }) = &result {
            let (rule, effect) = self.counts_as(op, *at);
            self.memory_has_refused(rule, effect, refusal);
        }
        self.end_in_memory(op, result);
    }

    /// Carries a transaction out on `memory://`.
    pub(super) fn run_in_store(&mut self, op: &Op, bytes: &[u8]) {
        let watched = self.take_watched(op);
        let block = self.blocks.of(op).expect("a transaction has one");
        let (parts, now) = (block.parts(bytes), self.now);
        let mut conflict = false;
        let result = self.run_all(parts, is_about_channels, Source::Store, |engine, parts| {
            let store = engine.store.as_ref().expect("only asked where there is one");
            let done = store.execute_all_at(parts, &watched, now);
            done.unwrap_or_else(|| {
                conflict = true;
                // Of any number of replies none is given.
                Ok(vec![Reply::null(); parts.len()])
            })
        });
        if conflict {
            let failure = self.failure(op, FailureKind::Conflict, Executed::No);
            return self.fail(op, failure.at(Some(MEMORY.into())));
        }
        if let (Err(Stopped { why: Why::Full(_), .. }), Some(store)) = (&result, &self.store) {
            self.tell_memory_full(store.lack());
        }
        self.end_in_memory(op, result);
    }

    /// Carries all commands out, or none: first by `run` what it knows, and then what is about channels,
    /// which nothing can keep from being carried out.
    fn run_all(
        &mut self,
        parts: Vec<Part<'_>>,
        about_channels: impl Fn(&Spec) -> bool,
        source: Source,
        run: impl FnOnce(&mut Self, &[Part<'_>]) -> Result<Vec<Reply>, Stopped>,
    ) -> Result<Vec<Reply>, Stopped> {
        if !parts.iter().any(|part| about_channels(part.spec)) {
            return run(self, &parts);
        }
        let count = parts.len();
        let parts = parts.into_iter().enumerate();
        let (channels, others): (Vec<_>, Vec<_>) =
            parts.partition(|(_, part)| about_channels(part.spec));
        let misuse = channels.iter().find_map(|(at, part)| {
            let error = misuse_of_channels(part.spec, &part.words)?;
            Some((*at, ServerError::new(error.as_bytes())))
        });
        if let Some((at, error)) = misuse {
            // The first of all that are misused is the one to be named.
            let before = others.iter().take_while(|(other, _)| *other < at);
            let mut misuses = before.filter_map(|(other, part)| Some((*other, part.misuse()?)));
            let (at, error) = misuses.next().unwrap_or((at, error));
            return Err(Stopped { at, why: Why::Error(error) });
        }
        let (places, others): (Vec<usize>, Vec<_>) = others.into_iter().unzip();
        let replies =
            run(self, &others).map_err(|Stopped { at, why }| Stopped { at: places[at], why })?;
        let (mut replies, mut channels) = (replies.into_iter(), channels.into_iter().peekable());
        let mut reply = |at| match channels.next_if(|(place, _)| *place == at) {
            Some((_, part)) => {
                let value = self.answer_about_channels(part.spec, &part.words);
                Reply::from(value.expect("it is about channels")).with_source(source)
            }
            None => replies.next().expect("there is one for each"),
        };
        Ok((0..count).map(&mut reply).collect())
    }

    fn end_in_memory(&mut self, op: &Op, result: Result<Vec<Reply>, Stopped>) {
        match result {
            Ok(replies) => {
                let replies = replies.into_iter().enumerate();
                let outcomes = replies.map(|(at, reply)| Some(self.item_ended(op, at, reply)));
                let outcomes = outcomes.collect();
                self.end_whole(op, Outcomes::each(outcomes));
            }
            Err(Stopped { at, why }) => {
                let reason = match why {
                    Why::Refused(MemoryRefusal::Unsupported) if self.store.is_some() => {
                        FailureKind::Memory(MemoryRefusal::Embedded(lacks(self.item_of(op, at).0)))
                    }
                    Why::Refused(refusal) => FailureKind::Memory(refusal),
                    Why::Error(error) | Why::Full(error) => FailureKind::Server(error),
                };
                let kind = self.aborted(op, Some(at), reason);
                self.end_without_answer(op, kind);
            }
        }
        self.tell_of_memory();
    }

    /// What came of one command in memory.
    fn item_ended(&mut self, op: &Op, at: usize, reply: Reply) -> Result<Reply, Failure> {
        if let Some(error) = reply.error() {
            let (spec, name) = self.item_of(op, at);
            let executed = executed_in(spec, &error);
            let failure = Failure::new(FailureKind::Server(error), executed, name);
            return Err(failure.at(Some(MEMORY.into())).after(op.attempts.into()));
        }
        let (rule, effect) = self.counts_as(op, at);
        self.tally.by_memory(rule, effect, &reply);
        Ok(reply)
    }

    fn counts_as(&self, op: &Op, at: usize) -> (u8, Effect) {
        self.blocks.of(op).expect("a transaction has one").counts_as(at)
    }

    /// One item's command, with its name as the caller has it.
    fn item_of(&self, op: &Op, at: usize) -> (&'static Spec, Cow<'static, str>) {
        let block = self.blocks.of(op).expect("a transaction has one");
        let spec = block.items[at].spec;
        let unknown = self.tickets.name_of(op.ticket, at as u32);
        (spec, unknown.map_or(spec.name().into(), |name| name.to_owned().into()))
    }

    pub(super) fn end_whole(&mut self, op: &Op, outcomes: Outcomes) {
        if op.engaged {
            self.release(op);
        }
        self.blocks.drop_of(op);
        self.queued.subtract(op);
        let waiter = self.tickets.end_whole(op.ticket, outcomes);
        self.wake(waiter);
    }
}

/// Has memory forget what it remembers of the keys that a command may have written.
pub(super) fn forget(memory: &mut Memory, blocks: &Blocks, op: &Op, now: Now) {
    match (blocks.of(op), &op.note) {
        (None, note) => memory.forget(op.spec, note.as_deref(), now),
        (Some(block), Some(note)) => {
            block.parts(note).iter().for_each(|part| memory.forget_part(part, now));
        }
        (Some(_), None) => {}
    }
}

/// The slot of all keys of a batch; `None` where it has none. Where there is no such slot, the item
/// that is to blame.
fn one_slot(batch: &Batch) -> Result<Option<u16>, usize> {
    let mut common = None;
    for (at, part) in parts(&batch.items, &batch.bytes).iter().enumerate() {
        for key in part.keys() {
            if *common.get_or_insert(slot(key)) != slot(key) {
                return Err(at);
            }
        }
    }
    Ok(common)
}

fn misuse(advice: &'static str, command: &str) -> Rejected {
    let kind = FailureKind::Misuse(advice);
    Rejected::Failed(Failure::new(kind, Executed::No, command.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn all_keys_of_a_transaction_are_in_one_slot_or_the_first_that_is_not_is_named() {
        let of = |commands: &[&str]| {
            let mut batch = Batch::new();
            for command in commands {
                batch.push(&Request::new(command));
            }
            one_slot(&batch)
        };
        assert_eq!(of(&["SET {u}:a 1", "MGET {u}:a {u}:b", "PING"]), Ok(Some(slot(b"u"))));
        assert_eq!(of(&["PING", "ECHO text"]), Ok(None));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["SET a 1", "PING", "SET b 1", "SET c 1"]), Err(2));
        assert_eq!(of(&["MSET {x}1 1 y 1"]), Err(0));
    }
}

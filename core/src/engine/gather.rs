//! Commands that concern several slots or several nodes: they are split, and what comes of the parts is
//! joined into one answer.
//!
//! Each part is a command of its own, with its own retries and redirects, under a ticket that nobody else
//! has. That is not atomic: one part may be carried out and another fail. Then the whole fails, and says
//! that it may have been executed.

use std::collections::BTreeMap;

use super::{
    Engine, NodeId, Parked, Slot, Ticket, submit::cost_of, tickets::Outcome, tickets::Work,
    trial::Rare,
};
use crate::{
    commands::{Fan, Join, Routing},
    connection::Op,
    failure::{Cause, Executed, Failure, FailureKind},
    fallback::Standing,
    request::{Effect, split_command},
    resp::{Reply, Source, Value, View, encode},
    slab::{Id, Slab},
    slot::slot,
};

const SCRIPT_ACROSS: &str = "the keys of a script are to be in one slot of the cluster, since it runs at one node: give \
    them a common hash tag, such as {user:7}";

/// One command that was split. A stale id is inert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GatherId(Id);

/// The commands that were split and have not ended.
#[derive(Debug)]
pub(super) struct Gathers(Slab<Gather>);

impl Default for Gathers {
    fn default() -> Self {
        Gathers(Slab::new())
    }
}

#[derive(Debug)]
struct Gather {
    /// Whose answer it is to be.
    ticket: Ticket,
    item: u32,
    effect: Effect,
    join: Join,
    parts: Vec<Part>,
    left: usize,
}

#[derive(Debug)]
struct Part {
    ticket: Ticket,
    node: std::sync::Arc<str>,
    /// Which of the whole command's keys it has, counted from 0.
    places: Vec<usize>,
    outcome: Option<Outcome>,
}

/// What a part is to be.
struct Piece {
    bytes: Vec<u8>,
    slot: u16,
    pinned: Option<NodeId>,
    /// Which of the whole command's keys it has.
    places: Vec<usize>,
}

impl Gathers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl<W> Engine<W> {
    /// Splits a command that concerns several slots or nodes, and places its parts; gives any other back,
    /// and waits for the map if there is none.
    pub(super) fn split(&mut self, parked: Parked) -> Option<Parked> {
        let Some(cluster) = &self.cluster else { return Some(parked) };
        if parked.op.slot != Slot::SEVERAL {
            return Some(parked);
        }
        if parked.op.spec.is_script() {
            self.end_without_answer(&parked.op, FailureKind::Misuse(SCRIPT_ACROSS));
            return None;
        }
        if !cluster.is_mapped() {
            // It can't be split before, and may fail at once where the cluster is down.
            return Some(parked);
        }
        let Parked { op, bytes, .. } = parked;
        match op.spec.routing() {
            Routing::Fan(fan, join) => self.fan_out(&op, &bytes, fan, join),
            Routing::Split(join) => self.split_by_slot(&op, &bytes, join),
            Routing::Keys => return Some(Parked { op, bytes, cause: None }),
        }
        None
    }

    fn fan_out(&mut self, op: &Op, bytes: &[u8], fan: Fan, join: Join) {
        let Some(cluster) = &self.cluster else { return };
        let mut nodes: Vec<NodeId> = cluster.primaries().to_vec();
        // What nobody serves is among all there is: it is missed, or memory knows of it.
        let has_gaps = cluster.has_gaps();
        if fan == Fan::AllNodes {
            for endpoint in cluster.endpoints() {
                let node = self.node_at(&endpoint);
                if !nodes.contains(&node) {
                    nodes.push(node);
                    self.ensure_dial(node);
                }
            }
        }
        let of_all = op.spec.concerns_all_keys() && join != Join::NotNull;
        if of_all && op.effect == Effect::Read && has_gaps {
            nodes.push(NodeId::HOME);
        }
        let piece = |node| {
            let bytes = bytes.to_vec();
            Piece { bytes, slot: Slot::NONE, pinned: Some(node), places: Vec::new() }
        };
        let parts = nodes.into_iter().map(piece).collect();
        self.place_parts(op, join, parts);
    }

    fn split_by_slot(&mut self, op: &Op, bytes: &[u8], join: Join) {
        let words = split_command(bytes);
        let (name, args) = words.split_at(op.spec.words());
        let step = op.spec.keys().step();
        let mut by_slot: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, key) in op.spec.keys().of(args).enumerate() {
            by_slot.entry(slot(key)).or_default().push(at);
        }
        let part = |(slot, places): (u16, Vec<usize>)| {
            let of_key = |at: &usize| args[at * step..].iter().take(step).copied();
            let rest: Vec<&[u8]> = places.iter().flat_map(of_key).collect();
            let mut bytes = Vec::new();
            encode::array_header(&mut bytes, name.len() + rest.len());
            name.iter().chain(&rest).for_each(|word| encode::bulk(&mut bytes, word));
            Piece { bytes, slot, pinned: None, places }
        };
        let parts = by_slot.into_iter().map(part).collect();
        self.place_parts(op, join, parts);
    }

    fn place_parts(&mut self, op: &Op, join: Join, parts: Vec<Piece>) {
        self.queued.subtract(op);
        let Some(deadline) = self.tickets.deadline_of(op.ticket) else { return };
        if parts.is_empty() {
            let failure =
                Failure::new(FailureKind::Down(Cause::Uncovered), Executed::No, op.spec.name());
            let waiter = self.tickets.end(op.ticket, op.item, Err(failure));
            return self.wake(waiter);
        }
        let Some(cluster) = &mut self.cluster else { return };
        let id = GatherId(cluster.gathers.0.insert(Gather {
            ticket: op.ticket,
            item: op.item,
            effect: op.effect,
            join,
            left: parts.len(),
            parts: Vec::new(),
        }));
        let age = self.tickets.age_of(op);
        let mut placed = Vec::new();
        for (at, piece) in parts.into_iter().enumerate() {
            let Piece { bytes, slot, pinned, places } = piece;
            let work = Work::Part { of: id, at: at as u32, pinned, age };
            let ticket = self.tickets.insert(work, None, deadline, Vec::new());
            let op = self.part_of(op, ticket, slot, &bytes);
            let node = self.label_of(&op);
            if let Some(gather) = self.gather_mut(id) {
                gather.parts.push(Part { ticket, node, places, outcome: None });
            }
            self.queued.add(&op);
            placed.push(Parked { op, bytes, cause: None });
        }
        for parked in placed {
            self.place(parked);
        }
        self.announce();
    }

    /// One of the commands that another is split into.
    fn part_of(&self, whole: &Op, ticket: Ticket, slot: u16, bytes: &[u8]) -> Op {
        let words = split_command(bytes);
        let args = words.get(whole.spec.words()..).unwrap_or_default();
        let (mut standing, noted) = self.memory.mode_for(whole.spec, whole.effect, args);
        if whole.spec.concerns_all_keys() && whole.effect != Effect::Read {
            // What memory would do to all keys can't be done to those of one shard.
            standing = without_memory(standing);
        }
        let rule =
            if standing == Standing::Wait { 0 } else { self.memory.rule_for(whole.spec, args) };
        Op {
            ticket,
            item: 0,
            spec: whole.spec,
            effect: whole.effect,
            maybe_retry: whole.maybe_retry,
            slot,
            redirects: 0,
            attempts: 0,
            maybe: false,
            rehandshaken: false,
            standing,
            rule,
            engaged: false,
            overtaken: false,
            note: noted.then(|| bytes.into()),
            cost: cost_of(bytes),
        }
    }

    fn gather_mut(&mut self, id: GatherId) -> Option<&mut Gather> {
        self.cluster.as_mut()?.gathers.0.get_mut(id.0)
    }

    /// Parts have ended: whatever they were the last of ends as well.
    #[cold]
    pub(super) fn join_parts(&mut self) {
        for (id, at, outcome) in self.tickets.take_parts() {
            let Some(gather) = self.gather_mut(id) else { continue };
            let Some(part) = gather.parts.get_mut(at as usize) else { continue };
            if part.outcome.replace(outcome).is_none() {
                gather.left -= 1;
            }
            if gather.left > 0 {
                continue;
            }
            let Some(cluster) = &mut self.cluster else { continue };
            let Some(gather) = cluster.gathers.0.remove(id.0) else { continue };
            let (ticket, item) = (gather.ticket, gather.item);
            let failed = |part: &Part| matches!(part.outcome, Some(Err(_)));
            if gather.parts.iter().any(failed) && !gather.parts.iter().all(failed) {
                self.trial.reached(Rare::PartFails);
            }
            let outcome = gather.joined();
            let waiter = self.tickets.end(ticket, item, outcome);
            self.wake(waiter);
        }
    }

    /// A request was given up: nobody waits for its parts any more.
    pub(super) fn cancel_parts(&mut self, ticket: Ticket) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.gathers.is_empty() {
            return;
        }
        let of = cluster.gathers.0.iter().filter(|(_, gather)| gather.ticket == ticket);
        let ids: Vec<_> = of.map(|(id, _)| id).collect();
        for id in ids {
            let Some(gather) = self.cluster.as_mut().and_then(|all| all.gathers.0.remove(id))
            else {
                continue;
            };
            self.trial.reached(Rare::PartsDropped);
            for part in gather.parts {
                self.cancelled += usize::from(self.tickets.remove(part.ticket).is_some());
            }
        }
    }
}

/// How a command behaves that memory has no answer to.
pub(super) fn without_memory(standing: Standing) -> Standing {
    if standing.waits() { standing } else { Standing::Fail }
}

impl Gather {
    fn joined(self) -> Outcome {
        let Gather { effect, join, parts, .. } = self;
        let any_ran = parts.iter().any(|part| match &part.outcome {
            Some(Err(failure)) => failure.executed() != Executed::No,
            _ => true,
        });
        let (mut replies, mut spared) = (Vec::new(), None);
        for part in parts {
            match part.outcome {
                Some(Ok(reply)) => replies.push((part.node, part.places, reply)),
                Some(Err(failure)) if join == Join::AnyOk => spared = Some(failure),
                Some(Err(failure)) if any_ran && effect != Effect::Read => {
                    return Err(failure.executed_at_most_in_part());
                }
                Some(Err(failure)) => return Err(failure),
                None => {}
            }
        }
        if let Some(failure) = spared.filter(|_| replies.is_empty()) {
            return Err(failure);
        }
        let source = replies.iter().map(|(.., reply)| reply.source());
        let mut source = source;
        let source = source.find(|source| *source != Source::Server);
        let joined = join.of(&replies);
        Ok(match source {
            Some(source) => joined.with_source(source),
            None => joined,
        })
    }
}

impl Join {
    /// One answer for all; `parts` are in the order of nodes or slots, each with the places of its keys.
    fn of(self, parts: &[(std::sync::Arc<str>, Vec<usize>, Reply)]) -> Reply {
        let replies = || parts.iter().map(|(.., reply)| reply);
        let first = || replies().next().cloned().unwrap_or_else(|| Reply::from(Value::Null));
        let integers = || replies().filter_map(|reply| reply.view().integer());
        match self {
            // With `AnyOk` those that are errors are left out before.
            Join::Same | Join::AnyOk => first(),
            Join::Sum => Value::Integer(integers().fold(0, i64::saturating_add)).into(),
            Join::Minimum => match integers().min() {
                Some(least) => Value::Integer(least).into(),
                None => first(),
            },
            Join::Concatenate => {
                let items = replies()
                    .flat_map(|reply| reply.view().items().map(View::to_value).collect::<Vec<_>>());
                Value::Array(items.collect()).into()
            }
            Join::InOrder => {
                let count = parts.iter().map(|(_, places, _)| places.len()).sum();
                let mut all = vec![Value::Null; count];
                for (_, places, reply) in parts {
                    for (place, item) in places.iter().zip(reply.view().items()) {
                        all[*place] = item.to_value();
                    }
                }
                Value::Array(all).into()
            }
            Join::AllTrue => {
                let rows: Vec<Vec<i64>> = replies()
                    .map(|reply| reply.view().items().filter_map(View::integer).collect())
                    .collect();
                let count = rows.iter().map(Vec::len).min().unwrap_or(0);
                let all = |at: usize| rows.iter().map(|row| row[at]).min().unwrap_or(0);
                Value::Array((0..count).map(|at| Value::Integer(all(at))).collect()).into()
            }
            Join::Texts => {
                let mut text = Vec::new();
                for (node, _, reply) in parts {
                    text.extend_from_slice(format!("# Node {node}\r\n").as_bytes());
                    text.extend_from_slice(reply.view().payload());
                    if !text.ends_with(b"\r\n") {
                        text.extend_from_slice(b"\r\n");
                    }
                }
                Value::Bulk(text.into()).into()
            }
            Join::NotNull => {
                replies().find(|reply| !reply.view().is_null()).cloned().unwrap_or_else(first)
            }
        }
    }
}

/// What the table says of one command's parts, for those who read it.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Spec;
    use std::sync::Arc;

    fn part(places: &[usize], value: Value) -> (Arc<str>, Vec<usize>, Reply) {
        ("a:1".into(), places.to_vec(), value.into())
    }

    fn numbers(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Integer(*number)).collect())
    }

    #[test]
    fn parts_are_joined_as_the_table_says() {
        let of = |join: Join, parts: Vec<_>| join.of(&parts).view().to_value();
        let two = |a, b| vec![part(&[0, 2], a), part(&[1], b)];
        let whole = two(numbers(&[1, 3]), numbers(&[2]));
        assert_eq!(of(Join::InOrder, whole.clone()), numbers(&[1, 2, 3]));
        assert_eq!(of(Join::Concatenate, whole), numbers(&[1, 3, 2]));
        let counts = two(Value::Integer(4), Value::Integer(3));
        assert_eq!(of(Join::Sum, counts.clone()), Value::Integer(7));
        assert_eq!(of(Join::Minimum, counts), Value::Integer(3));
        let known = two(numbers(&[1, 1, 0]), numbers(&[1, 0, 0]));
        assert_eq!(of(Join::AllTrue, known), numbers(&[1, 0, 0]));
        let some = two(Value::Null, Value::Integer(1));
        assert_eq!(of(Join::NotNull, some), Value::Integer(1));
        assert_eq!(of(Join::Same, two(Value::Integer(1), Value::Null)), Value::Integer(1));
    }

    #[test]
    fn what_is_split_by_slot_has_its_keys_at_the_same_distance() {
        for spec in Spec::all().filter(|spec| matches!(spec.routing(), Routing::Split(_))) {
            assert!(spec.keys().step() > 0, "{}", spec.name());
        }
    }
}

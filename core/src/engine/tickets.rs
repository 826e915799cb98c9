//! Who waits for what: one ticket for each submitted request, pipeline or wait.

use std::time::Instant;

use super::{Lease, NodeId, Outcomes, StreamId, Ticket, gather::GatherId, sources::Called};
use crate::{
    Failure,
    connection::Op,
    failure::Executed,
    resp::{Kind, Reply},
    script::Script,
    slab::Slab,
};

pub(crate) type Outcome = Result<Reply, Failure>;

#[derive(Debug)]
pub(crate) struct Tickets<W> {
    slots: Slab<Slot<W>>,
    /// No deadline is earlier than this. Kept as a lower bound, so that ending a request costs
    /// nothing; a scan makes it exact when it passes.
    earliest: Option<Instant>,
    /// Parts that have ended since they were last asked for.
    parts: Vec<(GatherId, u32, Outcome)>,
    /// How many there have been.
    count: u64,
}

/// A command's place in the order in which all were submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    ticket: u64,
    item: u32,
}

#[derive(Debug)]
pub(crate) struct Slot<W> {
    pub(crate) work: Work,
    waiter: Option<W>,
    deadline: Instant,
    /// Its place among all.
    number: u64,
    /// The names of commands that the table does not know, in the order of items; boxed, since few
    /// have any.
    names: Option<Box<Names>>,
    /// What to send where a server does not know a script; few call any.
    scripts: Option<Box<Called>>,
    /// The connection of its own that it has or waits for; few have one.
    lease: Option<Box<OfLease>>,
    /// Nobody waits; the slot is freed when it is done.
    detached: bool,
    /// The deadline has passed; its items are about to be ended.
    pub(crate) expired: bool,
    /// When the last of its delayed items goes again; a later one never goes before it.
    pub(crate) retry_at: Option<Instant>,
}

/// What a ticket has to do with a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfLease {
    pub(crate) lease: Lease,
    /// The command in it that waits at the server, if one does.
    pub(crate) waits: Option<&'static str>,
    /// Its caller has named a time limit for all of it.
    pub(crate) limited: bool,
}

pub(crate) type Names = Vec<(u32, Box<str>)>;

#[derive(Debug)]
pub(crate) enum Work {
    One(Option<Outcome>),
    Many {
        outcomes: Vec<Option<Outcome>>,
        left: usize,
        /// One of them was redirected to another node.
        strayed: bool,
    },
    /// A part of a command that was split, and the node that it is for, if it is for one in particular.
    Part {
        of: GatherId,
        at: u32,
        pinned: Option<NodeId>,
        /// That of the whole.
        age: Age,
    },
    /// A transaction, which ends as a whole.
    Whole(Option<Outcomes>),
    /// Waits for the first connection, or for its judgement: ends without a reply.
    Wait(Option<Result<(), Failure>>),
    /// Waits for its deadline, which is what it ends well with.
    Sleep(Option<Result<(), Failure>>),
    /// Waits for topics of a stream to be confirmed or dropped: ends without a reply.
    Topics {
        of: StreamId,
        result: Option<Result<(), Failure>>,
    },
}

impl Work {
    /// So many commands.
    pub(crate) fn many(count: usize) -> Self {
        Work::Many { outcomes: vec![const { None }; count], left: count, strayed: false }
    }
}

impl<W> Tickets<W> {
    pub(crate) fn new() -> Self {
        Tickets { slots: Slab::new(), earliest: None, parts: Vec::new(), count: 0 }
    }

    #[inline]
    pub(crate) fn insert(
        &mut self,
        work: Work,
        waiter: Option<W>,
        deadline: Instant,
        names: Names,
    ) -> Ticket {
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
        self.count += 1;
        Ticket(self.slots.insert(Slot {
            work,
            waiter,
            deadline,
            number: self.count,
            names: if names.is_empty() { None } else { Some(Box::new(names)) },
            scripts: None,
            lease: None,
            detached: false,
            expired: false,
            retry_at: None,
        }))
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Slot<W>> {
        self.slots.get_mut(ticket.0)
    }

    pub(crate) fn is_live(&self, ticket: Ticket) -> bool {
        self.slots.get(ticket.0).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// When a command was submitted, beside others. What nobody waits for any more is older than all.
    pub(super) fn age_of(&self, op: &Op) -> Age {
        match self.slots.get(op.ticket.0) {
            Some(Slot { work: Work::Part { age, .. }, .. }) => *age,
            Some(slot) => Age { ticket: slot.number, item: op.item },
            None => Age::default(),
        }
    }

    /// The node that a part of a command is for, where it is for one in particular.
    pub(super) fn pin_of(&self, ticket: Ticket) -> Option<NodeId> {
        match self.slots.get(ticket.0)?.work {
            Work::Part { pinned, .. } => pinned,
            _ => None,
        }
    }

    /// Whether parts of commands have ended.
    #[inline]
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Those that have, each with what it is a part of and its place there.
    pub(super) fn take_parts(&mut self) -> Vec<(GatherId, u32, Outcome)> {
        std::mem::take(&mut self.parts)
    }

    /// Whether one of a pipeline's commands was carried out.
    pub(super) fn has_begun(&self, ticket: Ticket) -> bool {
        match self.slots.get(ticket.0).map(|slot| &slot.work) {
            Some(Work::Many { outcomes, .. }) => {
                outcomes.iter().flatten().any(|outcome| match outcome {
                    Ok(_) => true,
                    Err(failure) => failure.executed() != Executed::No,
                })
            }
            _ => false,
        }
    }

    /// A command was redirected, or has to wait behind one that was.
    #[cold]
    pub(super) fn note_strayed(&mut self, ticket: Ticket) {
        if let Some(Slot { work: Work::Many { strayed, .. }, .. }) = self.slots.get_mut(ticket.0) {
            *strayed = true;
        }
    }

    pub(super) fn deadline_of(&self, ticket: Ticket) -> Option<Instant> {
        Some(self.slots.get(ticket.0)?.deadline)
    }

    /// Gives back the waiter that this one replaces.
    pub(crate) fn set_waiter(&mut self, ticket: Ticket, waiter: W) -> Option<W> {
        match self.slots.get_mut(ticket.0) {
            Some(slot) => slot.waiter.replace(waiter),
            None => Some(waiter),
        }
    }

    pub(crate) fn take_waiter(&mut self, ticket: Ticket) -> Option<W> {
        self.slots.get_mut(ticket.0)?.waiter.take()
    }

    /// Ends one item. Where that ends the ticket, gives whom to wake.
    #[inline]
    pub(crate) fn end(&mut self, ticket: Ticket, item: u32, outcome: Outcome) -> Option<W> {
        let slot = self.slots.get_mut(ticket.0)?;
        match &mut slot.work {
            // What expired has ended; its late reply changes nothing.
            Work::One(Some(_)) => return None,
            Work::One(place) => *place = Some(outcome),
            Work::Many { outcomes, left, .. } => {
                let place = &mut outcomes[item as usize];
                if place.is_some() {
                    return None;
                }
                *place = Some(outcome);
                *left -= 1;
                if *left > 0 {
                    return None;
                }
            }
            Work::Part { .. } => {
                self.end_part(ticket, outcome);
                return None;
            }
            Work::Whole(_) => return self.fail_whole(ticket, outcome),
            Work::Wait(_) | Work::Sleep(_) | Work::Topics { .. } => {
                unreachable!("a wait has no items")
            }
        }
        if slot.detached {
            self.slots.free(ticket.0);
            return None;
        }
        slot.waiter.take()
    }

    #[cold]
    fn end_part(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(Work::Part { of, at, .. }) = self.slots.get(ticket.0).map(|slot| &slot.work) {
            self.parts.push((*of, *at, outcome));
            self.slots.free(ticket.0);
        }
    }

    #[cold]
    fn fail_whole(&mut self, ticket: Ticket, outcome: Outcome) -> Option<W> {
        let failure = outcome.expect_err("a transaction ends well by `end_whole`");
        self.end_whole(ticket, Outcomes::failed(failure))
    }

    /// Ends a transaction. Gives whom to wake.
    pub(crate) fn end_whole(&mut self, ticket: Ticket, outcomes: Outcomes) -> Option<W> {
        let slot = self.slots.get_mut(ticket.0)?;
        match &mut slot.work {
            // What expired has ended; its late reply changes nothing.
            Work::Whole(Some(_)) => return None,
            Work::Whole(place) => *place = Some(outcomes.named(slot.names.take())),
            _ => unreachable!("only a transaction ends as a whole"),
        }
        if slot.detached {
            self.slots.free(ticket.0);
            return None;
        }
        slot.waiter.take()
    }

    /// Ends a wait, whatever it waits for.
    pub(crate) fn end_wait(&mut self, ticket: Ticket, result: Result<(), Failure>) -> Option<W> {
        let slot = self.slots.get_mut(ticket.0)?;
        let (Work::Wait(place) | Work::Sleep(place) | Work::Topics { result: place, .. }) =
            &mut slot.work
        else {
            unreachable!("only a wait ends without a reply");
        };
        *place = Some(result);
        if slot.detached {
            self.slots.free(ticket.0);
            return None;
        }
        slot.waiter.take()
    }

    pub(crate) fn take_one(&mut self, ticket: Ticket) -> Option<Outcome> {
        let Work::One(place) = &mut self.slots.get_mut(ticket.0)?.work else { return None };
        let outcome = place.take()?;
        self.slots.free(ticket.0);
        Some(outcome)
    }

    pub(crate) fn take_many(&mut self, ticket: Ticket) -> Option<Outcomes> {
        let outcomes = match &mut self.slots.get_mut(ticket.0)?.work {
            Work::Many { outcomes, left: 0, strayed } => {
                Outcomes::each(std::mem::take(outcomes)).with_strayed(*strayed)
            }
            Work::Whole(outcomes) => outcomes.take()?,
            _ => return None,
        };
        self.slots.free(ticket.0);
        Some(outcomes)
    }

    pub(crate) fn take_wait(&mut self, ticket: Ticket) -> Option<Result<(), Failure>> {
        let (Work::Wait(place) | Work::Sleep(place) | Work::Topics { result: place, .. }) =
            &mut self.slots.get_mut(ticket.0)?.work
        else {
            return None;
        };
        let result = place.take()?;
        self.slots.free(ticket.0);
        Some(result)
    }

    /// Takes a ticket away, whatever its state.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Slot<W>> {
        self.slots.remove(ticket.0)
    }

    /// Nobody waits any longer, but the request is still to be made good. Frees the ticket if it has
    /// ended.
    pub(crate) fn detach(&mut self, ticket: Ticket) {
        let Some(slot) = self.slots.get_mut(ticket.0) else { return };
        if slot.has_ended() {
            self.slots.remove(ticket.0);
        } else {
            slot.detached = true;
            slot.waiter = None;
        }
    }

    /// The lower bound of all deadlines.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Marks what has expired, and makes the lower bound exact. Gives whether anything has.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return false;
        }
        let mut any = false;
        let mut earliest = None;
        for (_, slot) in self.slots.iter_mut().filter(|(_, slot)| !slot.has_ended()) {
            if slot.deadline <= now {
                slot.expired = true;
                any = true;
            } else if earliest.is_none_or(|earliest| slot.deadline < earliest) {
                earliest = Some(slot.deadline);
            }
        }
        self.earliest = earliest;
        any
    }

    /// Sets another deadline.
    pub(crate) fn set_deadline(&mut self, ticket: Ticket, deadline: Instant) {
        let Some(slot) = self.slots.get_mut(ticket.0) else { return };
        slot.deadline = deadline;
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
    }

    /// Notes whose connection it goes out on, and which of its commands waits at the server.
    pub(crate) fn note_lease(&mut self, ticket: Ticket, of: OfLease) {
        if let Some(slot) = self.slots.get_mut(ticket.0) {
            slot.lease = Some(Box::new(of));
        }
    }

    /// What it has to do with a lease, if anything.
    pub(crate) fn of_lease(&self, ticket: Ticket) -> Option<OfLease> {
        self.slots.get(ticket.0)?.lease.as_deref().copied()
    }

    /// Whether it has neither ended nor expired nor been given up.
    pub(crate) fn is_open(&self, ticket: Ticket) -> bool {
        self.slots.get(ticket.0).is_some_and(|slot| !slot.expired && !slot.has_ended())
    }

    /// Whether somebody still wants what comes of it.
    #[inline]
    pub(crate) fn wants(&self, ticket: Ticket) -> bool {
        self.slots.get(ticket.0).is_some_and(|slot| !slot.expired)
    }

    pub(crate) fn is_expired(&self, ticket: Ticket) -> bool {
        self.slots.get(ticket.0).is_some_and(|slot| slot.expired)
    }

    /// The waits for a connection that have not ended.
    pub(crate) fn waits(&self) -> Vec<Ticket> {
        self.those(|slot| matches!(slot.work, Work::Wait(None)))
    }

    /// The waits for a connection that have expired and not ended.
    pub(crate) fn expired_waits(&self) -> Vec<Ticket> {
        self.those(|slot| matches!(slot.work, Work::Wait(None)) && slot.expired)
    }

    /// The sleeps that have not ended.
    pub(crate) fn sleeps(&self) -> Vec<Ticket> {
        self.those(|slot| matches!(slot.work, Work::Sleep(None)))
    }

    /// The sleeps whose time has come.
    pub(crate) fn due_sleeps(&self) -> Vec<Ticket> {
        self.those(|slot| matches!(slot.work, Work::Sleep(None)) && slot.expired)
    }

    fn those(&self, which: impl Fn(&Slot<W>) -> bool) -> Vec<Ticket> {
        let found = self.slots.iter().filter(|(_, slot)| which(slot));
        found.map(|(id, _)| Ticket(id)).collect()
    }

    /// Notes which scripts a request calls.
    pub(super) fn note_scripts(&mut self, ticket: Ticket, scripts: Called) {
        if let Some(slot) = self.slots.get_mut(ticket.0) {
            slot.scripts = Some(Box::new(scripts));
        }
    }

    /// The script that an item calls.
    pub(super) fn script_of(&self, ticket: Ticket, item: u32) -> Option<&Script> {
        let scripts = self.slots.get(ticket.0)?.scripts.as_deref()?;
        let found = scripts.binary_search_by_key(&item, |(of, _)| *of).ok()?;
        Some(&scripts[found].1)
    }

    /// The waits for topics that have expired and not ended, each with the stream.
    pub(crate) fn expired_topics(&self) -> Vec<(Ticket, StreamId)> {
        let open = self.slots.iter().filter_map(|(id, slot)| match slot.work {
            Work::Topics { of, result: None } if slot.expired => Some((Ticket(id), of)),
            _ => None,
        });
        open.collect()
    }

    /// The stream for whose topics this one still waits.
    pub(crate) fn stream_of(&self, ticket: Ticket) -> Option<StreamId> {
        match self.slots.get(ticket.0)?.work {
            Work::Topics { of, result: None } => Some(of),
            _ => None,
        }
    }

    /// The name of a command that the table does not know.
    pub(crate) fn name_of(&self, ticket: Ticket, item: u32) -> Option<&str> {
        let names = self.slots.get(ticket.0)?.names.as_deref()?;
        let found = names.binary_search_by_key(&item, |(of, _)| *of).ok()?;
        Some(&names[found].1)
    }
}

impl<W> Slot<W> {
    /// The command that has waited at the server and brought something that nobody has taken.
    pub(crate) fn brought(&self) -> Option<&'static str> {
        let waits = self.lease.as_deref()?.waits?;
        let something = |outcome: &Option<Outcome>| {
            outcome.as_ref().is_some_and(|outcome| {
                outcome.as_ref().is_ok_and(|reply| reply.kind() != Kind::Null)
            })
        };
        let brought = match &self.work {
            Work::One(outcome) => something(outcome),
            Work::Many { outcomes, .. } => outcomes.iter().any(something),
            _ => false,
        };
        brought.then_some(waits)
    }

    /// How many of its commands have not ended.
    pub(crate) fn left(&self) -> usize {
        match &self.work {
            Work::One(_) | Work::Whole(_) | Work::Part { .. } => usize::from(!self.has_ended()),
            Work::Many { left, .. } => *left,
            Work::Wait(_) | Work::Sleep(_) | Work::Topics { .. } => 0,
        }
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease.as_deref().map(|of| of.lease)
    }

    fn has_ended(&self) -> bool {
        match &self.work {
            Work::One(outcome) => outcome.is_some(),
            Work::Part { .. } => false,
            Work::Many { left, .. } => *left == 0,
            Work::Whole(outcomes) => outcomes.is_some(),
            Work::Wait(result) | Work::Sleep(result) | Work::Topics { result, .. } => {
                result.is_some()
            }
        }
    }
}

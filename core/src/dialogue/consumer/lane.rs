//! One stream of a consumer: what to ask of it next, and what follows from the answer.

use std::time::Instant;

use bytes::Bytes;

use super::{Delivery, Origin, Reclaim, Setup};
use crate::{
    Failure,
    commands::{Claimed, GroupRead, GroupStart, Spec, StreamEntry, StreamId, StreamRead},
    dialogue::decode,
    engine::Batch,
    failure::Executed,
    reply::FromReply,
    request::Request,
    resp::Reply,
};

/// One stream.
pub(super) struct Lane {
    pub(super) key: Bytes,
    stage: Stage,
    /// The last entry that was read, new or pending: what was lost comes after it.
    last: StreamId,
    /// Where the search for what stalled goes on; `None` while there is none.
    claiming: Option<StreamId>,
    /// When the next one begins.
    claim_at: Option<Instant>,
    /// Pending, but deleted from the stream: there is nothing left to be done about them.
    vanished: Vec<StreamId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The group is to be made, beginning there.
    Create(GroupStart),
    /// What is pending for this consumer is to be read, from `last` on.
    Pending,
    New,
}

/// What one command of a round asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Create,
    Forget,
    Claim,
    Pending,
    New,
}

/// What came of a command.
pub(super) enum Outcome<T> {
    /// So many entries, and whether there is more to be asked for at once.
    Entries(Vec<Delivery<T>>, bool),
    /// It did not work out, and will.
    Later(Failure),
    /// It never will. What came before it in the same reply is given all the same.
    Never(Vec<Delivery<T>>, Option<StreamId>, Failure),
}

impl Lane {
    pub(super) fn new(key: Bytes, setup: &Setup) -> Self {
        Lane {
            key,
            stage: setup.create.map_or(Stage::Pending, Stage::Create),
            last: StreamId::MIN,
            claiming: None,
            claim_at: None,
            vanished: Vec::new(),
        }
    }

    /// Adds what is to be asked of this stream to a round.
    pub(super) fn ask(
        &mut self,
        setup: &Setup,
        now: Instant,
        batch: &mut Batch,
        asked: &mut Vec<Ask>,
    ) {
        if !self.vanished.is_empty() {
            let xack = Request::of(const { Spec::of("XACK") }).key(&self.key).arg(&setup.group);
            batch.push(&xack.args(&self.vanished));
            asked.push(Ask::Forget);
        }
        match self.stage {
            Stage::Create(start) => {
                let create = Request::of(const { Spec::of("XGROUP CREATE") }).key(&self.key);
                batch.push(&create.arg(&setup.group).arg(&start).arg("MKSTREAM"));
                asked.push(Ask::Create);
            }
            Stage::Pending => {
                batch.push(&self.read(setup, &GroupRead::PendingAfter(self.last)));
                asked.push(Ask::Pending);
            }
            Stage::New => {
                if let Some(reclaim) = setup.reclaim {
                    self.claim(setup, reclaim, now, batch, asked);
                }
                batch.push(&self.read(setup, &GroupRead::New));
                asked.push(Ask::New);
            }
        }
    }

    fn read<'a>(&'a self, setup: &'a Setup, from: &'a GroupRead) -> Request<'a> {
        let read = Request::of(const { Spec::of("XREADGROUP") });
        let read = read.arg("GROUP").arg(&setup.group).arg(&setup.name);
        read.arg("COUNT").arg(&setup.count).arg("STREAMS").arg(&self.key).arg(from)
    }

    fn claim(
        &mut self,
        setup: &Setup,
        reclaim: Reclaim,
        now: Instant,
        batch: &mut Batch,
        asked: &mut Vec<Ask>,
    ) {
        if self.claiming.is_none() && self.claim_at.is_none_or(|at| at <= now) {
            self.claiming = Some(StreamId::MIN);
            self.claim_at = now.checked_add(reclaim.every);
        }
        let Some(from) = &self.claiming else { return };
        let claim = Request::of(const { Spec::of("XAUTOCLAIM") }).key(&self.key);
        let claim = claim.arg(&setup.group).arg(&setup.name).millis(reclaim.stalled);
        batch.push(&claim.arg(from).arg("COUNT").arg(&setup.count));
        asked.push(Ask::Claim);
    }

    /// Whether nothing is left to be done about it but to wait for new entries.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::New && self.claiming.is_none() && self.vanished.is_empty()
    }

    /// When this stream is to be looked at, though nothing is new.
    pub(super) fn due(&self) -> Option<Instant> {
        self.claim_at
    }

    /// Takes in what came of a command.
    pub(super) fn answered<T: FromReply>(
        &mut self,
        ask: Ask,
        outcome: Result<Reply, Failure>,
        setup: &Setup,
    ) -> Outcome<T> {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(failure) => return self.failed(ask, failure, setup),
        };
        match ask {
            Ask::Create => {
                self.stage = Stage::Pending;
                Outcome::Entries(Vec::new(), true)
            }
            Ask::Forget => {
                self.vanished.clear();
                Outcome::Entries(Vec::new(), false)
            }
            Ask::Claim => self.claimed(&reply, setup),
            Ask::Pending | Ask::New => self.read_through(ask, &reply, setup),
        }
    }

    fn claimed<T: FromReply>(&mut self, reply: &Reply, setup: &Setup) -> Outcome<T> {
        match decode::<Claimed<Reply>>(reply, "XAUTOCLAIM") {
            Ok(claimed) => {
                self.claiming = Some(claimed.next).filter(|next| *next != StreamId::MIN);
                let more = self.claiming.is_some();
                self.deliver(claimed.entries, Origin::Claimed, more, setup, "XAUTOCLAIM")
            }
            Err(failure) => Outcome::Never(Vec::new(), None, failure),
        }
    }

    fn read_through<T: FromReply>(&mut self, ask: Ask, reply: &Reply, setup: &Setup) -> Outcome<T> {
        let streams = match decode::<Vec<StreamRead<Reply>>>(reply, "XREADGROUP") {
            Ok(streams) => streams,
            Err(failure) => return Outcome::Never(Vec::new(), None, failure),
        };
        let entries = streams.into_iter().flat_map(|stream| stream.entries).collect();
        self.take(ask, entries, setup)
    }

    /// Takes in new entries that came while it waited at the server.
    pub(super) fn came<T: FromReply>(
        &mut self,
        entries: Vec<StreamEntry<Reply>>,
        setup: &Setup,
    ) -> Outcome<T> {
        self.take(Ask::New, entries, setup)
    }

    fn take<T: FromReply>(
        &mut self,
        ask: Ask,
        entries: Vec<StreamEntry<Reply>>,
        setup: &Setup,
    ) -> Outcome<T> {
        let more = match entries.last() {
            Some(last) => {
                self.last = last.id;
                true
            }
            // All that was pending is read: the new ones follow.
            None => std::mem::replace(&mut self.stage, Stage::New) == Stage::Pending,
        };
        let origin = if ask == Ask::New { Origin::New } else { Origin::Pending };
        self.deliver(entries, origin, more, setup, "XREADGROUP")
    }

    fn deliver<T: FromReply>(
        &mut self,
        entries: Vec<StreamEntry<Reply>>,
        origin: Origin,
        more: bool,
        setup: &Setup,
        command: &'static str,
    ) -> Outcome<T> {
        let mut deliveries = Vec::with_capacity(entries.len());
        for StreamEntry { id, fields } in entries {
            if fields.view().is_null() {
                self.vanished.push(id);
                continue;
            }
            match decode(&fields, command) {
                Ok(fields) => deliveries.push(Delivery {
                    stream: self.key.clone(),
                    group: setup.group.clone(),
                    id,
                    fields,
                    origin,
                }),
                Err(failure) => return Outcome::Never(deliveries, Some(id), failure),
            }
        }
        Outcome::Entries(deliveries, more)
    }

    fn failed<T>(&mut self, ask: Ask, failure: Failure, setup: &Setup) -> Outcome<T> {
        let code = failure.server_error().map(|error| error.code().to_owned());
        match code.as_deref() {
            Some("BUSYGROUP") if ask == Ask::Create => {
                self.stage = Stage::Pending;
                return Outcome::Entries(Vec::new(), true);
            }
            Some("NOGROUP") if setup.recreate => {
                // Nobody knows what was delivered; and of what was pending nothing is left.
                self.stage = Stage::Create(GroupStart::Beginning);
                self.last = StreamId::MIN;
                self.claiming = None;
                self.vanished.clear();
                return Outcome::Entries(Vec::new(), true);
            }
            _ => {}
        }
        if !passes(&failure) {
            return Outcome::Never(Vec::new(), None, failure);
        }
        if ask == Ask::New && failure.executed() != Executed::No {
            // What it read is pending now, and comes after all that was read before.
            self.stage = Stage::Pending;
        }
        Outcome::Later(failure)
    }
}

/// Whether a failure is of a kind that passes by itself: the server is away, or can't serve for now. Whom
/// an operator has unblocked goes on as well.
fn passes(failure: &Failure) -> bool {
    let unblocked = || failure.server_error().is_some_and(|error| error.code() == "UNBLOCKED");
    failure.is_unavailable() || unblocked()
}

//! Consuming streams as a member of a group.
//!
//! ```text
//!  each stream:  create the group ──▶ what is pending for us ──▶ new entries ◀─┐
//!                (if asked)             ▲                          │  ▲        │ BLOCK, where
//!                                       │ a read was lost with     │  └────────┘ there is nothing
//!                                       └─ its answer ─────────────┘
//!                                          and now and then: claim what stalled elsewhere
//! ```
//!
//! This file is what callers see; [`lane`] is one stream of a consumer, [`machine`] goes round them.

mod lane;
mod machine;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use bytes::Bytes;

pub use machine::Consumer;

use super::Converse;
use crate::{
    args::{ToArg, ToArgs},
    commands::{GroupStart, Run, Spec, StreamId},
    reply::FromReply,
    request::{Effect, Request},
};

/// How many entries of each stream are read at a time, unless said otherwise. They are this consumer's
/// from then on, so that a few are enough to keep it busy, and not so many that others have none.
const COUNT_DEFAULT: u64 = 32;

/// How long a consumer waits at the server where there is nothing to read, unless said otherwise. What
/// comes ends the wait, so this is only how often it looks up in between.
const PAUSE_DEFAULT: Duration = Duration::from_secs(10);

/// The longest pause where it can't wait at the server: four looks a second cost a server nothing, and
/// nobody waits long.
const POLL_PAUSE_MAX: Duration = Duration::from_millis(250);

/// How long an entry must have been pending elsewhere until it counts as stalled, unless said otherwise.
/// It is to be longer than the work on an entry takes, or two consumers will be at it.
const STALLED_DEFAULT: Duration = Duration::from_secs(300);

/// How often is looked for what stalled, unless said otherwise: a tenth of the time that it takes to stall.
const LOOKS_PER_STALL: u32 = 10;

/// The shortest wait there is, so that none of them is a busy loop.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Consumers of streams: dialogues that read as a member of a group, and go on through lost connections,
/// restarts and failovers.
///
/// ```
/// use std::collections::BTreeMap;
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn bill(client: &Client) -> Result<(), Failure> {
///     let mut orders = client
///         .consumer("billing", "worker-1")
///         .stream("orders")
///         .create(GroupStart::Beginning)
///         .run::<BTreeMap<String, String>>();
///     while let Some(order) = orders.next().await {
///         let order = order?;
///         println!("{}: {:?}", order.id, order.fields);
///         if let Err(failure) = client.ack(&order).await {
///             println!("{failure}; it may come again");
///         }
///     }
///     Ok(())
/// }
/// ```
///
/// # Delivery
///
/// Each entry is delivered to the group **at least once**: what was given and not [acknowledged](Acks)
/// is given again, to this consumer when it is started anew under the same name, and to whichever consumer
/// claims it after it has stalled. An entry whose delivery or acknowledgement was lost with a connection comes
/// twice; one that was on its way when it was being claimed comes when it has stalled again. So the work on
/// an entry is to bear repetition.
///
/// A consumer gives, for each stream, what is pending for its name first, then new entries, and now and
/// then what stalled with others. Of an entry that was deleted from its stream while it was pending nothing
/// is left to be given; it is acknowledged without a word.
///
/// The consumer waits out an outage; an acknowledgement, as any request, has a deadline, and fails when that
/// passes. To end for that, as `?` would, is to end with every longer outage.
///
/// # When it ends
///
/// A consumer goes on for as long as it is asked for entries. What comes and goes it waits out, asking again
/// after 50 ms, and up to 2 s later each time, for ever unless
/// [`give_up_after`](ConsumerBuilder::give_up_after) says otherwise: all that is
/// [unavailable](crate::Failure::is_unavailable), be it a lost connection, a time limit, a server that loads, a
/// replica for now, out of memory or unable to save (MISCONF), or a client that an operator has isolated. All
/// other failures end it: a key of another type, a user who may not (NOPERM), a group that is not there.
pub trait Consumers: Converse {
    /// Begins to describe a consumer called `name` of the group `group`. The name is to be one's own: two that
    /// share one get each other's pending entries when they start.
    fn consumer(&self, group: impl ToArg, name: impl ToArg) -> ConsumerBuilder<'_, Self> {
        let owned = |arg: &dyn ToArg| Bytes::copy_from_slice(arg.to_arg().as_bytes());
        ConsumerBuilder {
            on: self,
            streams: Vec::new(),
            setup: Setup {
                group: owned(&group),
                name: owned(&name),
                create: None,
                recreate: false,
                count: COUNT_DEFAULT,
                pause: PAUSE_DEFAULT,
                reclaim: Some(Reclaim {
                    stalled: STALLED_DEFAULT,
                    every: STALLED_DEFAULT / LOOKS_PER_STALL,
                }),
                give_up: None,
            },
        }
    }
}

impl<C: Converse + ?Sized> Consumers for C {}

/// A consumer of streams in the making. Nothing is sent before [`run`](Self::run), and then not before an
/// entry is asked for.
#[must_use = "nothing is sent before `run`"]
pub struct ConsumerBuilder<'c, C: ?Sized> {
    on: &'c C,
    streams: Vec<Bytes>,
    setup: Setup,
}

/// What a consumer was told.
struct Setup {
    group: Bytes,
    name: Bytes,
    create: Option<GroupStart>,
    recreate: bool,
    count: u64,
    pause: Duration,
    reclaim: Option<Reclaim>,
    give_up: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Reclaim {
    stalled: Duration,
    every: Duration,
}

impl<C: Converse + ?Sized> ConsumerBuilder<'_, C> {
    /// Adds a stream.
    pub fn stream(self, key: impl ToArg) -> Self {
        self.streams([key])
    }

    /// Adds any number of streams. Each is read by a command of its own, so that they may lie anywhere.
    #[expect(clippy::needless_pass_by_value, reason = "taken as every method takes arguments")]
    pub fn streams(mut self, keys: impl ToArgs) -> Self {
        keys.for_each_arg(&mut |key| self.streams.push(Bytes::copy_from_slice(key.as_bytes())));
        self
    }

    /// Makes the group where there is none, and an empty stream for it: the group begins at `start`.
    pub fn create(mut self, start: GroupStart) -> Self {
        self.setup.create = Some(start);
        self
    }

    /// Makes the group anew when it is lost while this consumer runs, as when a server comes back without
    /// its data. It begins with the first entry then, since nobody knows any more which were delivered.
    /// Without this, such a loss ends the consumer with NOGROUP.
    pub fn recreate(mut self) -> Self {
        self.setup.recreate = true;
        self
    }

    /// Reads up to so many entries of each stream at a time; 32 unless said otherwise. They are this
    /// consumer's from then on, and wait for their turn with it.
    pub fn count(mut self, count: u64) -> Self {
        self.setup.count = count.max(1);
        self
    }

    /// How long to wait where there is nothing to read; 10 s unless said otherwise. It waits at the server
    /// (BLOCK), for all of its streams at once, on one of the client's `leases_max` connections for such
    /// commands; what comes ends the wait. Where it can't, because all of them are in use or the streams
    /// lie in several slots of a cluster, it looks again after this time, and four times a second at least.
    pub fn pause(mut self, span: Duration) -> Self {
        self.setup.pause = span.max(SPAN_MIN);
        self
    }

    /// Claims entries that were delivered to any consumer of the group so long ago and are not acknowledged;
    /// 5 minutes unless said otherwise. It is to be longer than the work on an entry takes. Looks for them
    /// ten times in that span. Needs a server since 6.2.
    pub fn reclaim_after(self, stalled: Duration) -> Self {
        self.reclaim_every(stalled, stalled / LOOKS_PER_STALL)
    }

    /// The same, with how often is looked for them.
    pub fn reclaim_every(mut self, stalled: Duration, every: Duration) -> Self {
        self.setup.reclaim = Some(Reclaim { stalled, every: every.max(SPAN_MIN) });
        self
    }

    /// Leaves what stalled to others.
    pub fn never_reclaim(mut self) -> Self {
        self.setup.reclaim = None;
        self
    }

    /// Ends with the failure that it meets when nothing was answered for so long; never, unless said.
    pub fn give_up_after(mut self, span: Duration) -> Self {
        self.setup.give_up = Some(span);
        self
    }

    /// The consumer, giving its entries with their fields as a `T`.
    ///
    /// An entry whose fields are no `T` ends it, and comes again when it is started anew:
    /// [`Consumer::undecodable`] says which. Where fields may be anything, ask for a type that takes
    /// anything, such as `Vec<(Bytes, Bytes)>`.
    pub fn run<T: FromReply + Send + 'static>(self) -> C::Conversation<Consumer<T>> {
        self.on.converse(Consumer::new(self.setup, self.streams))
    }
}

/// Names and keys are left out: they are the caller's data.
impl<C: ?Sized> fmt::Debug for ConsumerBuilder<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}

/// An entry that a consumer was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// The stream's key.
    pub stream: Bytes,
    /// The group that it was delivered to.
    pub group: Bytes,
    /// The entry's id.
    pub id: StreamId,
    /// Its fields and their values.
    pub fields: T,
    /// How this consumer came by it.
    pub origin: Origin,
}

/// How a consumer came by an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It is new to the group.
    New,
    /// It was pending for this consumer's name: given before and not acknowledged, or on its way when a
    /// connection was lost.
    Pending,
    /// It had stalled with some consumer of the group, maybe with this one.
    Claimed,
}

/// Acknowledging what a consumer was given, on a client or in a pipeline.
///
/// ```
/// # use std::collections::BTreeMap;
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// # use unfazed_tokio::{Client, prelude::*};
/// async fn done(
///     client: &Client,
///     orders: &[Delivery<BTreeMap<String, String>>],
/// ) -> Result<(), Failure> {
///     client.pipeline(|p| orders.iter().map(|order| p.ack(order)).collect::<Vec<_>>()).await?;
///     Ok(())
/// }
/// ```
pub trait Acks: Run {
    /// Acknowledges an entry: it is pending no more. O(1). Since 5.0.
    ///
    /// To do so twice is to do so once, so it is sent again by itself where it may have been lost. If it fails
    /// all the same, the entry may come again.
    fn ack<T>(&self, delivery: &Delivery<T>) -> Self::Pending<()> {
        let Delivery { stream, group, id, .. } = delivery;
        let xack = Request::of(const { Spec::of("XACK") }).key(stream).arg(group).arg(id);
        // How many were pending is not told, so that the reply is the same the second time.
        self.run(xack.effect(Effect::Repeatable))
    }
}

impl<R: Run + ?Sized> Acks for R {}

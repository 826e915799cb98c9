//! A connection of one's own.

use std::{fmt, sync::Arc};

use super::{
    Conversation, Gather, Handle, Pending, PendingPipeline, PendingReplies, RunBatch, Settled,
    shared::Shared, slots::Giver,
};
use crate::{
    Failure,
    args::ToArg,
    commands::Run,
    dialogue::{Converse, Dialogue},
    engine::{Batch, Lease},
    failure::{Cause, FailureKind},
    reply::FromReply,
    request::Request,
};

/// A connection of one's own: for WATCH, SELECT and all else that nobody who shares a connection may do.
///
/// All commands, pipelines, transactions and dialogues run on it as on the client, in the order in which
/// they are made; what waits at the server holds up what comes after it here. It is one of `leases_max`
/// (64 unless configured otherwise; in a cluster to each node), and where all are in use, what is asked on it
/// waits for one within its deadline.
///
/// It is one connection and no other. **When it is lost, everything on it fails**, with
/// [`ConnectionLost`](crate::FailureKind::ConnectionLost), from then on, and nothing is sent again by itself: a
/// watched key, a database that was selected, an open MULTI are lost with it. Whoever wants to go on takes
/// another one. [`lost`](Self::lost) tells.
///
/// # In a cluster
///
/// It leads to one node and is for one slot: that of the first key that is named on it, or of the key that
/// [`dedicated_for`](Handle::dedicated_for) was given. Code that keeps to keys with one hash tag (`{user:7}`)
/// is the same for a server and a cluster. What could not work is refused before anything is sent,
/// [`Misuse`](crate::FailureKind::Misuse), whatever node serves the keys today:
///
/// - a key of another slot;
/// - MULTI, CLIENT SETNAME and all else that changes the connection, before any key was named: nobody would
///   know which node to say it to. `dedicated_for` is for that.
///
/// Commands without a key that change nothing (PING, TIME) go to any node until a key is named. What the client
/// would send to all nodes (KEYS, DBSIZE, FLUSHALL) goes to this one only.
///
/// When the slot moves to another node, the connection is lost to its holder, like any other: what is asked on
/// it then fails with [`ConnectionLost`](crate::FailureKind::ConnectionLost)`(`[`SlotMoved`](Cause::SlotMoved)`)`,
/// executed *no*, and the next one that is taken leads to the right node. While a slot is being moved that may
/// happen several times.
///
/// Dropping it gives it back. It is used for others then if nothing was said on it that would concern
/// them, and closed if not. It keeps no client open: when the last clone of that is dropped, it ends with
/// [`ClientClosed`](crate::FailureKind::ClientClosed).
///
/// What it does goes past memory: it never degrades, and a request on keys that may degrade fails at once
/// while the server is down.
///
/// In a free-form transaction (MULTI on its own) the server answers each command with `QUEUED`, and all of
/// them with EXEC. A method that gives a text gives just that; any other fails with
/// [`Queued`](crate::FailureKind::Queued), executed *maybe*, since it runs only with EXEC:
/// [`transaction`](super::Transactions::transaction) after WATCH has typed replies.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// /// Whether the bid was the highest; `None` where somebody else was faster.
/// async fn bid(client: &Client, cents: i64) -> Result<Option<bool>, Failure> {
///     let own = client.dedicated();
///     own.watch("bid").await?;
///     if own.get::<i64>("bid").await?.is_some_and(|highest| highest >= cents) {
///         return Ok(Some(false));
///     }
///     match own.transaction(|t| t.set("bid", cents)).await {
///         Ok(()) => Ok(Some(true)),
///         Err(failure) if matches!(failure.kind(), FailureKind::Conflict) => Ok(None),
///         Err(failure) => Err(failure),
///     }
/// }
/// ```
pub struct Dedicated {
    shared: Arc<Shared>,
    held: Result<Arc<HeldLease>, Failure>,
}

/// A lease, for as long as somebody has it.
pub(super) struct HeldLease {
    shared: Arc<Shared>,
    pub(super) lease: Lease,
}

impl HeldLease {
    pub(super) fn take(shared: &Arc<Shared>, key: Option<&[u8]>) -> Result<Arc<Self>, Failure> {
        let lease = shared.lease(key)?;
        Ok(Arc::new(HeldLease { shared: shared.clone(), lease }))
    }

    /// Why its connection was lost, if it was.
    pub(super) fn lost(&self) -> Option<Cause> {
        self.shared.lost_lease(self.lease)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.shared.give_back(self.lease);
    }
}

impl Dedicated {
    pub(super) fn new(shared: &Arc<Shared>, key: Option<&[u8]>) -> Self {
        Dedicated { shared: shared.clone(), held: HeldLease::take(shared, key) }
    }

    /// Why the connection was lost, if it was; nothing more can be done on it then.
    #[must_use]
    pub fn lost(&self) -> Option<Cause> {
        match &self.held {
            Ok(held) => held.lost(),
            Err(_) => None,
        }
    }

    /// The failure of whatever is asked in another process than the one whose connection this is. For
    /// adapters.
    #[doc(hidden)]
    #[must_use]
    pub fn of_another_process(&self, command: &str) -> Failure {
        self.shared.failure(FailureKind::ConnectionLost(Cause::Local), command)
    }

    /// Submits a pipeline or a transaction that was put together by hand. Gives the outcome of each
    /// command, in order.
    pub fn submit_batch(&self, batch: &Batch) -> PendingReplies {
        let lease = self.held.as_ref().map(|held| held.lease).map_err(Failure::clone);
        PendingReplies::on(&self.shared, lease, batch)
    }
}

impl Run for Dedicated {
    type Pending<T: Send + 'static> = Pending<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Pending<T> {
        let lease = self.held.as_ref().map(|held| held.lease).map_err(Failure::clone);
        Pending::on(&self.shared, lease, &request)
    }
}

impl RunBatch for Dedicated {
    type PendingBatch<G: Gather> = PendingPipeline<PendingReplies, G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        PendingPipeline::new(batch, gather, |batch| self.submit_batch(&batch))
            .given_by(Giver::Of(self.shared.clone()))
    }
}

impl Converse for Dedicated {
    type Conversation<D: Dialogue> = Conversation<D>;
    type Settled<D: Dialogue> = Settled<D>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Conversation<D> {
        Conversation::on(&self.shared, &self.held, dialogue)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Settled<D> {
        Settled::new(self.converse(dialogue))
    }
}

impl Handle {
    /// A connection of one's own, at once: what is asked on it waits until it is made.
    pub fn dedicated(&self) -> Dedicated {
        Dedicated::new(self.shared(), None)
    }

    /// The same, for what is to be done with this key and others that have its hash tag. Only a cluster
    /// makes a difference between the two: see [`Dedicated`].
    pub fn dedicated_for(&self, key: impl ToArg) -> Dedicated {
        Dedicated::new(self.shared(), Some(key.to_arg().as_bytes()))
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lease.fmt(f)
    }
}

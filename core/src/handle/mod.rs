//! The async client: locks and wakers around the engine, and no I/O but [`Wire::try_write`].
//!
//! All that the async adapters would otherwise both write stands here. An adapter brings a
//! [`Runtime`]: sockets, name look-ups, timers, tasks.
//!
//! ```text
//!  callers                    Shared (one lock)                     tasks of the runtime
//!
//!  Handle ──submit──▶ ┌──────────────────────────┐ ──outputs──▶ control ──spawns──▶ look-ups
//!  Pending ──take───▶ │ Engine · Driver table ·  │ ◀──inputs───    │
//!  Events  ◀──────────│ subscribers              │                 └──spawns──▶ connection (each)
//!                     └──────────────────────────┘ ◀──bytes── read, write ◀────────┘
//! ```
//!
//! - `shared` is the lock, `state` what stands under it; nothing in either depends on async, so a
//!   blocking client can stand on them as well;
//! - `pending` is a request from its caller's side, `subscription` a stream of messages from its
//!   reader's;
//! - `views`, `pipeline` and `transaction` stand on any client, async or not; `slots` is where the replies of a
//!   pipeline find their places;
//! - `control` carries out what the engine asks for, `connection` drives one socket;
//! - `conversation` runs a dialogue: several requests, one after the other; `optimistic` is one of them, with
//!   closures for what it does;
//! - `dedicated` is a connection of one's own;
//! - `events` hands out what operators want to know.
//!
//! Calls go from callers and tasks into `shared`, and from there into the engine. Whoever is to
//! be woken is woken after the lock is released, always.

mod connection;
mod control;
mod conversation;
mod dedicated;
mod events;
mod optimistic;
mod pending;
mod pipeline;
mod runtime;
mod shared;
mod slots;
mod state;
mod subscription;
#[cfg(test)]
mod tests;
mod transaction;
mod views;

use std::{convert::Infallible, fmt, future::poll_fn, sync::Arc, time::Duration};

pub use conversation::{Conversation, Settled};
pub use dedicated::Dedicated;
pub use events::Events;
pub use optimistic::{Closures, Deciding, OptimisticTransactions};
pub use pending::{Connected, Pending, PendingReplies};
pub use pipeline::{All, Each, Gather, PendingPipeline, Pipeline, Pipelines, RunBatch};
pub use runtime::{Runtime, Stream, Wire};
pub use shared::{Clocks, Driving, Shared, Start, WRITE_BYTES_MAX, Writer};
pub use slots::{Replies, Slot, Slots};
pub use state::{Drained, Handback, Job, Reading, State, Step, Wakes, Write};
pub use subscription::{Changing, Subscribe, Subscriber, Subscribing, Subscription, Wish};
pub use transaction::Transactions;
pub use views::{Asking, Sourcing, Views};

use crate::{
    Failure,
    commands::Run,
    config::{Config, Forced},
    engine::{Batch, Status},
    reply::FromReply,
    request::Request,
};

/// The async client, whichever runtime drives it.
///
/// Each async adapter's `Client` is a thin coat over this; code that is to work with all of them
/// takes a `&Handle`. Cloning is cheap, and all clones are one client. When the last clone is
/// dropped, every request that is still pending ends and the connections are closed.
///
/// The tasks that drive the client run on the runtime in whose context the first request was made.
/// When that runtime is dropped, all pending requests end with
/// [`FailureKind::RuntimeDropped`](crate::FailureKind::RuntimeDropped), and the next request starts
/// anew on its own runtime: one `static` client serves several runtimes, one after another.
///
/// A runtime that is neither dropped nor run, such as a single-threaded one between two calls of its
/// `block_on`, drives nothing: requests from elsewhere then wait beyond their deadlines. A client that
/// several runtimes share is to be first used on one that runs all the time.
#[derive(Clone)]
pub struct Handle {
    owner: Arc<Owner>,
}

/// What all clones of a handle share, and the tasks and pending requests do not: its drop is the
/// end of the client.
struct Owner {
    shared: Arc<Shared>,
}

impl Handle {
    /// Makes a client that `R` will drive. Nothing is connected or spawned before the first request,
    /// so this works outside a runtime.
    ///
    /// `seed` is where all of the client's randomness comes from.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong.
    pub fn new<R: Runtime>(config: Config, seed: u64) -> Result<Self, Failure> {
        let clocks = Clocks { now: R::now, instant: R::instant };
        let start = Box::new(control::start::<R>);
        Ok(Self::over(Shared::new(config, seed, clocks, start, Writer::Driver)?))
    }

    /// A handle to a client that is driven by something else than a [`Runtime`]. There is to be one
    /// for each `shared`: its last clone closes the client.
    #[must_use]
    pub fn over(shared: Arc<Shared>) -> Self {
        Handle { owner: Arc::new(Owner { shared }) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Waits until the client can answer: the server is reached, or is judged down where some key
    /// pattern may degrade. Ends within `connect_timeout`.
    pub fn connected(&self) -> Connected {
        Connected::new(&self.owner.shared)
    }

    /// Submits a pipeline or a transaction. Gives the outcome of each command, in order.
    pub fn submit_batch(&self, batch: &Batch) -> PendingReplies {
        PendingReplies::new(&self.owner.shared, batch)
    }

    /// How the client is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.owner.shared.status()
    }

    /// What happens from now on: connections made and lost, changes of health.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::subscribe(&self.owner.shared)
    }

    /// Has the client serve its requests in this way, whatever its server does; with `None`, health
    /// decides again. For operators: see [`Forced`] for what each of them means.
    ///
    /// Returns at once, needs no runtime, and is legal at any time. Each change is told in one event,
    /// and [`status`](Handle::status) shows what is in force.
    pub fn force(&self, forced: Option<Forced>) {
        self.owner.shared.force(forced);
    }

    /// The configuration that the client was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.owner.shared.config()
    }

    /// Closes the client, for all its clones: new requests are refused, what was sent may finish
    /// within `response_timeout`, everything else ends. Returns when it is done.
    ///
    /// Writes that were taken in memory while the server was down, and of which it has not been told yet, are
    /// lost; [`Event::WritesLost`](crate::Event::WritesLost) says how many keys they concern.
    pub async fn close(&self) {
        self.close_within(self.config().response_timeout).await;
    }

    /// [`close`](Handle::close) with a time limit of one's own.
    pub async fn close_within(&self, grace: Duration) {
        let shared = &self.owner.shared;
        shared.shutdown(grace);
        poll_fn(|cx| shared.poll_closed(cx)).await;
    }
}

impl Run for Handle {
    type Pending<T: Send + 'static> = Pending<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Pending<T> {
        Pending::new(&self.owner.shared, &request)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("config", self.config()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.shutdown(Duration::ZERO);
    }
}

/// So that `connect` takes a `Config` as well as what may fail to be one.
impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

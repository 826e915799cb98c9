//! Views: the same client, with something asked for each of its requests.

use std::time::Duration;

use super::pipeline::{Gather, RunBatch};
use crate::{
    commands::Run,
    config::MaybeRetry,
    dialogue::{Asked, Converse, Dialogue},
    engine::Batch,
    reply::{FromReply, Sourced},
    request::{Options, Request},
};

/// Views of whatever commands run on: they run on the view as well, and views can be had of views.
///
/// ```
/// use std::time::Duration;
/// use unfazed_core::{
///     commands::{Run, prelude::*},
///     handle::Views,
///     reply::Sourced,
/// };
///
/// /// The name, and whether the server gave it, or the memory that stands in for it.
/// fn name<R: Run>(client: &R) -> R::Pending<Sourced<Option<String>>> {
///     client.within(Duration::from_millis(5)).sourced().get("name")
/// }
/// ```
///
/// Where two views ask for the same thing, the one nearest to the call has its way:
/// `client.within(a).within(b).get("key")` ends within `b`, be that longer or shorter than `a`. So a
/// function can ask for what it needs, whatever view it was given.
///
/// A view of a reference is as cheap as the reference and lives as long; it can be copied and kept.
/// One that owns its client is made with [`Asking::new`] or [`Sourcing::new`]:
///
/// ```
/// use std::time::Duration;
/// use unfazed_core::{
///     Failure, Options,
///     commands::prelude::*,
///     handle::{Asking, Handle},
/// };
///
/// struct Cache {
///     client: Asking<Handle>,
/// }
///
/// impl Cache {
///     fn new(client: &Handle) -> Self {
///         let options = Options { deadline: Some(Duration::from_millis(5)), ..Options::default() };
///         Cache { client: Asking::new(client.clone(), options) }
///     }
///
///     async fn page(&self, path: &str) -> Result<Option<String>, Failure> {
///         self.client.get(path).await
///     }
/// }
/// ```
///
/// The methods take `self`, so that a view of a view needs no variable for the one in between; on a
/// client, which is not `Copy`, they borrow it.
pub trait Views: Run + Copy {
    /// Limits each request, or each pipeline as a whole, to `limit` instead of the client's
    /// `deadline`: queueing, connecting and retries included.
    fn within(self, limit: Duration) -> Asking<Self> {
        self.asking(Options { deadline: Some(limit), ..Options::default() })
    }

    /// Says what may be sent again when it may already have run, instead of the client's setting.
    fn retrying(self, choice: MaybeRetry) -> Asking<Self> {
        self.asking(Options { maybe_retry: Some(choice), ..Options::default() })
    }

    /// Fails at once with [`QueueFull`](crate::FailureKind::QueueFull) where there is no room for a
    /// request, instead of waiting for room.
    fn try_now(self) -> Asking<Self> {
        self.asking(Options { refuse_when_full: true, ..Options::default() })
    }

    /// Asks for all of `options` that are not left at their defaults.
    fn asking(self, options: Options) -> Asking<Self> {
        Asking::new(self, options)
    }

    /// Tells of each value who gave it: the server, or memory while the server was down. What comes
    /// back is [`Sourced`].
    ///
    /// In a pipeline this is asked inside: `client.pipeline(|p| p.sourced().get::<String>("key"))`.
    fn sourced(self) -> Sourcing<Self> {
        Sourcing::new(self)
    }
}

impl<R: Run + Copy> Views for R {}

/// A view that asks for something with each request; see [`Views`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a view does nothing by itself: run a command on it"]
pub struct Asking<R> {
    on: R,
    options: Options,
}

impl<R> Asking<R> {
    /// A view of `on` that asks for `options`; those left at their defaults are not asked for.
    pub fn new(on: R, options: Options) -> Self {
        Asking { on, options }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn inner(&self) -> &R {
        &self.on
    }
}

impl<R: Run> Run for Asking<R> {
    type Pending<T: Send + 'static> = R::Pending<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Self::Pending<T> {
        let asked = request.asked().or(self.options);
        self.on.run(request.options(asked))
    }
}

impl<R: RunBatch> RunBatch for Asking<R> {
    type PendingBatch<G: Gather> = R::PendingBatch<G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        let asked = batch.options.or(self.options);
        self.on.run_batch(batch.options(asked), gather)
    }
}

impl<R: Converse> Converse for Asking<R> {
    type Conversation<D: Dialogue> = R::Conversation<Asked<D>>;
    type Settled<D: Dialogue> = R::Settled<Asked<D>>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Self::Conversation<D> {
        self.on.converse(Asked::new(dialogue, self.options))
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Self::Settled<D> {
        self.on.settle(Asked::new(dialogue, self.options))
    }
}

/// A view that tells where each answer came from; see [`Views::sourced`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a view does nothing by itself: run a command on it"]
pub struct Sourcing<R> {
    on: R,
}

impl<R> Sourcing<R> {
    /// A view of `on` that tells where each answer came from.
    pub fn new(on: R) -> Self {
        Sourcing { on }
    }
}

impl<R: Run> Run for Sourcing<R> {
    type Pending<T: Send + 'static> = R::Pending<Sourced<T>>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Self::Pending<T> {
        self.on.run(request)
    }
}

#[cfg(test)]
mod tests;

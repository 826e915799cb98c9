//! Pipelines: commands recorded in a closure, sent in one piece, answered together.
//!
//! ```text
//!  pipeline(|p| slots) ──records──▶ Batch ──run_batch──▶ the client ──▶ Replies
//!                      ──returns──▶ slots ──(All, Each)────────────────▶ gather ──▶ values, results
//! ```
//!
//! A client brings [`RunBatch`], which takes a batch and what is to be made of its replies; the rest
//! is the same for all of them.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Handle,
    pending::PendingReplies,
    slots::{Giver, Replies, Slot, Slots, Token},
};
use crate::{
    Failure, commands::Run, engine::Batch, reply::FromReply, request::Request, resp::Reply,
};

/// Pipelines, on everything that can run one.
///
/// All commands of a pipeline go out together, in the order in which they were recorded, and no reply
/// is waited for in between. It is not a [transaction](super::Transactions): others' commands may
/// run between them, and each succeeds or fails by itself. One that the server refuses for now (LOADING,
/// CLUSTERDOWN) is sent again by itself, together with those behind it that were refused as well; one behind it
/// that was not has been carried out before it then.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn visit(client: &Client) -> Result<(), Failure> {
///     let (name, visits): (Option<String>, i64) =
///         client.pipeline(|p| (p.get("name"), p.incr("visits"))).await?;
///     println!("{name:?} was here {visits} times");
///     Ok(())
/// }
/// ```
///
/// The closure returns the slots of those commands whose replies are wanted, in any shape that is
/// [`Slots`]: a tuple, or a `Vec` where the number is not known before.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// # use unfazed_tokio::{Client, prelude::*};
/// # async fn example(client: &Client, keys: &[String]) -> Result<(), Failure> {
/// let values: Vec<Option<String>> =
///     client.pipeline(|p| keys.iter().map(|key| p.get(key)).collect::<Vec<_>>()).await?;
/// # Ok(())
/// # }
/// ```
pub trait Pipelines: RunBatch {
    /// Sends the commands that `fill` records. Gives all the values, or a failure where one of the
    /// commands has failed, the first one in order, even if its slot was not returned: no error is
    /// lost. What the others did is done; [`pipeline_each`](Self::pipeline_each) tells one from the
    /// other. So [`executed`](Failure::executed) speaks of that one command: where it says *no*, that one may be
    /// tried again, and the pipeline as a whole only if it bears repetition.
    ///
    /// A reply that is not what was asked for counts as a failure, after those of commands.
    fn pipeline<S: Slots>(&self, fill: impl FnOnce(&Pipeline) -> S) -> Self::PendingBatch<All<S>> {
        let (batch, slots) = Pipeline::record(fill);
        self.run_batch(batch, slots)
    }

    /// Sends the commands that `fill` records. Gives each command a result of its own; where the
    /// pipeline was not accepted at all, each has that failure.
    ///
    /// The failure of a command whose slot was not returned is not told.
    ///
    /// ```
    /// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
    /// # use unfazed_tokio::{Client, prelude::*};
    /// # async fn example(client: &Client) {
    /// let (name, visits) =
    ///     client.pipeline_each(|p| (p.get::<String>("name"), p.incr("visits"))).await;
    /// if let Err(failure) = visits {
    ///     println!("{failure}; the name is {name:?} all the same");
    /// }
    /// # }
    /// ```
    fn pipeline_each<S: Slots>(
        &self,
        fill: impl FnOnce(&Pipeline) -> S,
    ) -> Self::PendingBatch<Each<S>> {
        let (batch, slots) = Pipeline::record(fill);
        self.run_batch(batch, slots.each())
    }
}

impl<R: RunBatch + ?Sized> Pipelines for R {}

/// Whatever a whole pipeline can be run on: what a client brings so that it has [`Pipelines`].
///
/// Async clients give a [`PendingPipeline`], blocking ones what it ends with:
///
/// ```
/// # use std::sync::Arc;
/// use unfazed_core::{
///     Failure,
///     commands::Run,
///     engine::Batch,
///     handle::{Gather, Handle, PendingPipeline, PendingReplies, Replies, RunBatch},
///     resp::Reply,
/// };
/// # use unfazed_core::{Request, handle::Pending, reply::FromReply};
///
/// struct Async(Handle);
/// # impl Run for Async {
/// #     type Pending<T: Send + 'static> = Pending<T>;
/// #     fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Pending<T> {
/// #         self.0.run(request)
/// #     }
/// # }
///
/// impl RunBatch for Async {
///     type PendingBatch<G: Gather> = PendingPipeline<PendingReplies, G>;
///
///     fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
///         self.0.run_batch(batch, gather)
///     }
/// }
///
/// struct Blocking {
///     node: Arc<str>,
/// }
/// # impl Blocking {
/// #     fn wait_for(&self, batch: Batch) -> Result<Vec<Result<Reply, Failure>>, Failure> {
/// #         unimplemented!()
/// #     }
/// # }
/// # impl Run for Blocking {
/// #     type Pending<T: Send + 'static> = Result<T, Failure>;
/// #     fn run<T: FromReply + Send + 'static>(&self, _: Request<'_>) -> Result<T, Failure> {
/// #         unimplemented!()
/// #     }
/// # }
///
/// impl RunBatch for Blocking {
///     type PendingBatch<G: Gather> = G::Output;
///
///     fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> G::Output {
///         let replies = Replies::of(batch, |batch| self.wait_for(batch));
///         gather.gather(replies.at(self.node.clone()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` runs no pipelines",
    note = "to learn where the answers came from, ask inside: `client.pipeline(|p| p.sourced().get(..))`",
    note = "in a pipeline there is no other pipeline"
)]
pub trait RunBatch: Run {
    /// What running a pipeline gives, where `G` is what its replies become: a future for async
    /// clients, `G::Output` for the blocking one.
    type PendingBatch<G: Gather>;

    /// Submits `batch`; its replies will be given to `gather`.
    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G>;
}

impl<R: RunBatch + ?Sized> RunBatch for &R {
    type PendingBatch<G: Gather> = R::PendingBatch<G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        (**self).run_batch(batch, gather)
    }
}

/// Makes of a pipeline's replies what its caller wants: [`All`] or [`Each`].
pub trait Gather: Send + 'static {
    /// What they become.
    type Output;

    /// Turns the replies into it.
    fn gather(self, replies: Replies) -> Self::Output;
}

/// Gathers all the values, or the first failure.
#[derive(Debug)]
pub struct All<S> {
    slots: S,
    pipeline: Token,
}

/// Gathers each command's own result.
#[derive(Debug)]
pub struct Each<S> {
    slots: S,
    pipeline: Token,
}

impl<S> All<S> {
    /// The same slots, each with its own result.
    pub(super) fn each(self) -> Each<S> {
        Each { slots: self.slots, pipeline: self.pipeline }
    }
}

impl<S: Slots> Gather for All<S> {
    type Output = Result<S::Values, Failure>;

    fn gather(self, replies: Replies) -> Self::Output {
        self.slots.values(&replies.for_slots_of(self.pipeline).all_well()?)
    }
}

impl<S: Slots> Gather for Each<S> {
    type Output = S::Results;

    fn gather(self, replies: Replies) -> Self::Output {
        self.slots.results(&replies.for_slots_of(self.pipeline))
    }
}

/// Records the commands of a pipeline or a transaction; every command trait works on it.
///
/// A command gives a [`Slot`] and is not sent before the closure has returned.
///
/// What views ask for a single command counts as far as it can: its own choice of retries holds for
/// it alone; but a pipeline has one time limit, the shortest that any of its commands asks for, and
/// if one of them is not to wait for room, none does.
pub struct Pipeline {
    batch: RefCell<Batch>,
    token: Token,
}

impl Pipeline {
    pub(super) fn record<S: Slots>(fill: impl FnOnce(&Pipeline) -> S) -> (Batch, All<S>) {
        let (batch, slots) = Pipeline::record_maybe(|pipeline| Some(fill(pipeline)));
        (batch, slots.expect("there are some"))
    }

    /// The same, where there may be no slots in the end.
    pub(super) fn record_maybe<S: Slots>(
        fill: impl FnOnce(&Pipeline) -> Option<S>,
    ) -> (Batch, Option<All<S>>) {
        let pipeline = Pipeline { batch: RefCell::default(), token: Token::next() };
        let slots = fill(&pipeline);
        let all = slots.map(|slots| All { slots, pipeline: pipeline.token });
        (pipeline.batch.into_inner(), all)
    }
}

impl Run for Pipeline {
    type Pending<T: Send + 'static> = Slot<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Slot<T> {
        Slot::record(self.token, &mut self.batch.borrow_mut(), &request)
    }
}

/// The arguments are left out: one of them may be a password.
impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("len", &self.batch.borrow().len()).finish_non_exhaustive()
    }
}

/// A pipeline or a transaction that was submitted; ends with what `G` makes of the replies that `F`
/// ends with.
///
/// It was submitted when it was made. What is not sent yet when this is dropped is withdrawn;
/// [`detach`](Self::detach) says that nobody cares for the replies.
#[must_use = "a pipeline that is dropped may be withdrawn: `.await` it, or `.detach()` it"]
pub struct PendingPipeline<F, G> {
    /// `None` for a pipeline of no commands.
    replies: Option<F>,
    giver: Option<Giver>,
    /// `None` once it has ended.
    gather: Option<G>,
}

impl<F, G> PendingPipeline<F, G> {
    /// Has `submit` submit `batch`, whose replies are for `gather`. A pipeline of no commands ends
    /// well without it.
    pub fn new(batch: Batch, gather: G, submit: impl FnOnce(Batch) -> F) -> Self {
        let replies = if batch.is_empty() { None } else { Some(submit(batch)) };
        PendingPipeline { replies, giver: None, gather: Some(gather) }
    }

    /// Names the node that answers, for failures that only show when a reply is read.
    pub fn at(self, node: Arc<str>) -> Self {
        self.given_by(Giver::One(node))
    }

    /// Says who answers.
    pub(super) fn given_by(mut self, giver: Giver) -> Self {
        self.giver = Some(giver);
        self
    }
}

impl<F, S> PendingPipeline<F, All<S>> {
    /// Gives each command a result of its own, instead of all the values or the first failure; see
    /// [`pipeline_each`](Pipelines::pipeline_each).
    pub fn each(self) -> PendingPipeline<F, Each<S>> {
        let PendingPipeline { replies, giver, gather } = self;
        PendingPipeline { replies, giver, gather: gather.map(All::each) }
    }
}

impl<G> PendingPipeline<PendingReplies, G> {
    /// Lets the pipeline go on by itself: fire and forget.
    pub fn detach(self) {
        if let Some(replies) = self.replies {
            replies.detach();
        }
    }
}

impl<F, G> Future for PendingPipeline<F, G>
where
    F: Future<Output = Result<Vec<Result<Reply, Failure>>, Failure>> + Unpin,
    G: Gather,
{
    type Output = G::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<G::Output> {
        let this = self.get_mut();
        let outcomes = match &mut this.replies {
            None => Ok(Vec::new()),
            Some(replies) => match Pin::new(replies).poll(cx) {
                Poll::Ready(outcomes) => outcomes,
                Poll::Pending => return Poll::Pending,
            },
        };
        let gather = this.gather.take().expect("not polled after it has ended");
        let replies = Replies::new(outcomes);
        Poll::Ready(gather.gather(match this.giver.take() {
            Some(giver) => replies.given_by(giver),
            None => replies,
        }))
    }
}

/// What it gathers is never pinned.
impl<F: Unpin, G> Unpin for PendingPipeline<F, G> {}

impl<F, G> fmt::Debug for PendingPipeline<F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingPipeline").field("giver", &self.giver).finish_non_exhaustive()
    }
}

impl RunBatch for Handle {
    type PendingBatch<G: Gather> = PendingPipeline<PendingReplies, G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        PendingPipeline::new(batch, gather, |batch| self.submit_batch(&batch))
            .given_by(Giver::Of(self.owner.shared.clone()))
    }
}

#[cfg(test)]
mod tests;

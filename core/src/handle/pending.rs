//! A request from its caller's side: what waits for its outcome.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::shared::Shared;
use crate::{
    Failure,
    engine::{Batch, Engine, Lease, Outcomes, Rejected, Ticket},
    failure::FailureKind,
    reply::{DecodeError, FromReply},
    request::Request,
    resp::Reply,
};

/// A request that was submitted; ends with its reply as a `T`.
///
/// It was submitted when it was made, so the order of calls is the order of sending. If it is
/// dropped while it still waits for a connection or for room, it is withdrawn; once it was sent, its
/// reply is thrown away when it comes. [`detach`](Pending::detach) says that nobody cares for the
/// reply.
#[must_use = "a request that is dropped may be withdrawn: `.await` it, or `.detach()` it"]
pub struct Pending<T> {
    wait: Wait,
    command: Cow<'static, str>,
    decoded: PhantomData<fn() -> T>,
}

/// A pipeline that was submitted; ends with the outcome of each command, or with the reason why none
/// was accepted.
///
/// As with [`Pending`], what is not sent yet when this is dropped is withdrawn.
#[must_use = "a pipeline that is dropped may be withdrawn: `.await` it, or `.detach()` it"]
pub struct PendingReplies {
    wait: Wait,
}

/// Waits for a client to be ready for requests; see [`Handle::connected`](super::Handle::connected).
#[must_use = "it does nothing unless awaited"]
pub struct Connected(Until);

/// Waits for what ends without a reply.
pub(super) struct Until {
    shared: Arc<Shared>,
    ticket: Result<Ticket, Option<Failure>>,
}

/// What all of them wait for.
struct Wait {
    shared: Arc<Shared>,
    stage: Stage,
    polled: bool,
}

enum Stage {
    /// Submitted as a single request.
    One(Ticket),
    /// Submitted as a pipeline.
    Many(Ticket),
    /// Refused.
    Failed(Failure),
    /// Taken, or given up.
    Done,
}

impl<T> Pending<T> {
    pub(super) fn new(shared: &Arc<Shared>, request: &Request<'_>) -> Self {
        Self::submitted(shared, request, shared.submit(request))
    }

    /// On a lease, if there is one.
    pub(super) fn on(
        shared: &Arc<Shared>,
        lease: Result<Lease, Failure>,
        request: &Request<'_>,
    ) -> Self {
        let ticket = lease.map_err(Rejected::Failed);
        let ticket = ticket.and_then(|lease| shared.submit_on(lease, request));
        Self::submitted(shared, request, ticket)
    }

    fn submitted(
        shared: &Arc<Shared>,
        request: &Request<'_>,
        ticket: Result<Ticket, Rejected>,
    ) -> Self {
        let stage = match ticket {
            Ok(ticket) => Stage::One(ticket),
            Err(rejected) => refused(shared, rejected, request.command()),
        };
        let command = match request.unknown_name() {
            None => Cow::Borrowed(request.spec().name()),
            Some(name) => Cow::Owned(name.to_owned()),
        };
        Pending { wait: Wait::new(shared, stage), command, decoded: PhantomData }
    }

    /// Lets the request go on by itself: fire and forget.
    pub fn detach(mut self) {
        self.wait.detach();
    }
}

impl<T: FromReply> Future for Pending<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let reply = match this.wait.poll_one(cx) {
            Poll::Ready(Ok(reply)) => reply,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(T::from_reply(&reply).map_err(|error| this.undecodable(&reply, error)))
    }
}

impl<T> Pending<T> {
    #[cold]
    fn undecodable(&mut self, reply: &Reply, error: DecodeError) -> Failure {
        let command = mem::take(&mut self.command);
        Failure::undecodable(error, command, reply, Some(self.wait.shared.giver_of(reply)))
    }
}

impl PendingReplies {
    pub(super) fn new(shared: &Arc<Shared>, batch: &Batch) -> Self {
        Self::submitted(shared, batch, shared.submit_batch(batch))
    }

    /// On a lease, if there is one.
    pub(super) fn on(shared: &Arc<Shared>, lease: Result<Lease, Failure>, batch: &Batch) -> Self {
        let ticket = lease.map_err(Rejected::Failed);
        let ticket = ticket.and_then(|lease| shared.submit_batch_on(lease, batch));
        Self::submitted(shared, batch, ticket)
    }

    fn submitted(shared: &Arc<Shared>, batch: &Batch, ticket: Result<Ticket, Rejected>) -> Self {
        let stage = match ticket {
            Ok(ticket) => Stage::Many(ticket),
            Err(rejected) => refused(shared, rejected, batch.what()),
        };
        PendingReplies { wait: Wait::new(shared, stage) }
    }

    /// Lets the pipeline go on by itself; see [`Pending::detach`].
    pub fn detach(mut self) {
        self.wait.detach();
    }

    /// The same as when it is awaited, with whether any of it [went again](Outcomes::strayed).
    pub(super) fn poll_placed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(<Self as Future>::Output, bool)> {
        self.wait.poll_many(cx).map(|outcomes| match outcomes {
            Ok(outcomes) => {
                let strayed = outcomes.strayed();
                (outcomes.spread(), strayed)
            }
            Err(failure) => (Err(failure), false),
        })
    }
}

impl Future for PendingReplies {
    type Output = Result<Vec<Result<Reply, Failure>>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_placed(cx).map(|(outcomes, _)| outcomes)
    }
}

/// What is left of a request that was refused.
#[cold]
fn refused(shared: &Shared, rejected: Rejected, command: &str) -> Stage {
    Stage::Failed(match rejected {
        Rejected::Failed(failure) => failure,
        Rejected::Full => shared.failure(FailureKind::QueueFull, command),
    })
}

impl Wait {
    fn new(shared: &Arc<Shared>, stage: Stage) -> Self {
        Wait { shared: shared.clone(), stage, polled: false }
    }

    #[inline]
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        match self.stage {
            Stage::One(ticket) => self.poll(cx, ticket, Engine::take),
            _ => self.refusal(cx),
        }
    }

    fn poll_many(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcomes, Failure>> {
        match self.stage {
            Stage::Many(ticket) => self.poll(cx, ticket, Engine::take_batch).map(Ok),
            _ => self.refusal(cx),
        }
    }

    #[inline]
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        take: impl FnOnce(&mut Engine<Waker>, Ticket) -> Option<T>,
    ) -> Poll<T> {
        let first = !mem::replace(&mut self.polled, true);
        if first && is_others_turn() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut state = self.shared.lock();
        if let Some(outcome) = take(&mut state.engine, ticket) {
            drop(state);
            if first {
                count_at_once();
            }
            self.stage = Stage::Done;
            return Poll::Ready(outcome);
        }
        let old = state.engine.set_waiter(ticket, cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    #[cold]
    fn refusal<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        if !mem::replace(&mut self.polled, true) {
            if is_others_turn() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            count_at_once();
        }
        match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Failed(failure) => Poll::Ready(Err(failure)),
            _ => panic!("polled after it had ended"),
        }
    }

    fn detach(&mut self) {
        if let Stage::One(ticket) | Stage::Many(ticket) = self.stage {
            self.stage = Stage::Done;
            self.shared.detach(ticket);
        }
    }
}

/// After so many requests on one thread that had ended before anybody waited for them, the next one
/// has its task wait for a turn.
///
/// A task that asks memory in a loop would otherwise never let its thread go, and the driver that is
/// to find the server again may be in need of that thread. 128 answers take a tenth of a millisecond;
/// tokio gives its own resources as many.
const AT_ONCE_MAX: u32 = 128;

thread_local! {
    static AT_ONCE: Cell<u32> = const { Cell::new(0) };
}

/// Whether so many requests have ended at once on this thread that others must have their turn.
/// Begins to count anew if so.
fn is_others_turn() -> bool {
    let over = AT_ONCE.get() >= AT_ONCE_MAX;
    if over {
        AT_ONCE.set(0);
    }
    over
}

/// A request had ended before anybody waited for it.
fn count_at_once() {
    AT_ONCE.set(AT_ONCE.get() + 1);
}

impl Drop for Wait {
    fn drop(&mut self) {
        match &self.stage {
            Stage::One(ticket) | Stage::Many(ticket) => self.shared.cancel(*ticket),
            Stage::Failed(_) | Stage::Done => {}
        }
    }
}

impl Connected {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Connected(Until { shared: shared.clone(), ticket: shared.connect().map_err(Some) })
    }
}

impl Until {
    /// Until `span` has passed.
    pub(super) fn slept(shared: &Arc<Shared>, span: Duration) -> Self {
        Until { shared: shared.clone(), ticket: shared.sleep(span).map_err(Some) }
    }
}

impl Future for Connected {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(cx)
    }
}

impl Future for Until {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ticket = match &mut this.ticket {
            Ok(ticket) => *ticket,
            Err(failure) => {
                return Poll::Ready(Err(failure.take().expect("polled after it had ended")));
            }
        };
        let result = this.shared.poll_wait(ticket, cx);
        if result.is_ready() {
            this.ticket = Err(None);
        }
        result
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Ok(ticket) = self.ticket {
            self.shared.cancel(ticket);
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("command", &self.command).finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingReplies").finish_non_exhaustive()
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

//! A request from its caller's side: what waits for its outcome.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::shared::Shared;
use crate::{
    Failure,
    engine::{Batch, Rejected, Ticket},
    failure::{Executed, FailureKind},
    reply::FromReply,
    request::{Options, Request},
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
pub struct Connected {
    shared: Arc<Shared>,
    ticket: Result<Ticket, Option<Failure>>,
}

/// What all of them wait for.
struct Wait {
    shared: Arc<Shared>,
    stage: Stage,
}

enum Stage {
    /// Submitted as a single request.
    One(Ticket),
    /// Submitted as a pipeline.
    Many(Ticket),
    /// There was no room for it.
    Room(Box<Room>),
    /// Refused.
    Failed(Failure),
    /// Taken, or given up.
    Done,
}

/// What waits for room, with the wait's own ticket. A single request is kept as a pipeline of one.
struct Room {
    ticket: Ticket,
    batch: Batch,
    until: Instant,
    command: String,
}

impl<T> Pending<T> {
    pub(super) fn new(shared: &Arc<Shared>, request: &Request<'_>) -> Self {
        let stage = match shared.submit(request) {
            Ok(ticket) => Stage::One(ticket),
            Err(rejected) => refused(shared, rejected, request.command(), request.asked(), || {
                let mut batch = Batch::new().options(request.asked());
                batch.push(request);
                batch
            }),
        };
        let command = match request.unknown_name() {
            None => Cow::Borrowed(request.spec().name()),
            Some(name) => Cow::Owned(name.to_owned()),
        };
        Pending { wait: Wait { shared: shared.clone(), stage }, command, decoded: PhantomData }
    }

    /// Waits for room, where there was none; then the request may be [detached](Pending::detach) and
    /// is carried out all the same.
    ///
    /// # Errors
    ///
    /// When the request was refused, or there was no room within its deadline. That ends it.
    pub fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.wait.poll_accepted(cx)
    }

    /// Lets the request go on by itself: fire and forget. Where it still waits for room, it is
    /// withdrawn, because there is nowhere to leave it.
    pub fn detach(mut self) {
        self.wait.detach();
    }
}

impl<T: FromReply> Future for Pending<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Poll::Ready(outcome) = this.wait.poll_one(cx) else { return Poll::Pending };
        Poll::Ready(outcome.and_then(|reply| {
            T::from_reply(&reply).map_err(|error| {
                let command = mem::take(&mut this.command);
                Failure::new(FailureKind::Decode(error), Executed::Yes, command)
                    .at(Some(this.wait.shared.node().clone()))
            })
        }))
    }
}

impl PendingReplies {
    pub(super) fn new(shared: &Arc<Shared>, batch: Batch) -> Self {
        let stage = match shared.submit_batch(&batch) {
            Ok(ticket) => Stage::Many(ticket),
            Err(rejected) => {
                let asked = batch.options;
                refused(shared, rejected, "pipeline", asked, || batch)
            }
        };
        PendingReplies { wait: Wait { shared: shared.clone(), stage } }
    }

    /// Lets the pipeline go on by itself; see [`Pending::detach`].
    pub fn detach(mut self) {
        self.wait.detach();
    }
}

impl Future for PendingReplies {
    type Output = Result<Vec<Result<Reply, Failure>>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().wait.poll_many(cx)
    }
}

/// What is to be waited for after a request was refused.
#[cold]
fn refused(
    shared: &Arc<Shared>,
    rejected: Rejected,
    command: &str,
    asked: Options,
    batch: impl FnOnce() -> Batch,
) -> Stage {
    match rejected {
        Rejected::Failed(failure) => Stage::Failed(failure),
        Rejected::Full if asked.refuse_when_full => {
            Stage::Failed(shared.failure(FailureKind::QueueFull, command))
        }
        Rejected::Full => {
            let now = shared.now();
            let limit = asked.deadline.unwrap_or(shared.config().deadline);
            let waiting = shared
                .with(|state, _| state.engine.wait_for_room(command, asked.deadline, None, now));
            match waiting {
                Ok(ticket) => Stage::Room(Box::new(Room {
                    ticket,
                    batch: batch(),
                    until: now.instant + limit,
                    command: command.to_owned(),
                })),
                Err(Rejected::Failed(failure)) => Stage::Failed(failure),
                Err(Rejected::Full) => {
                    Stage::Failed(shared.failure(FailureKind::QueueFull, command))
                }
            }
        }
    }
}

impl Wait {
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        if let Stage::One(ticket) = self.stage {
            let mut state = self.shared.lock();
            if let Some(outcome) = state.engine.take(ticket) {
                drop(state);
                self.stage = Stage::Done;
                return Poll::Ready(outcome);
            }
            let old = state.engine.set_waiter(ticket, cx.waker().clone());
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        self.poll_many(cx)
            .map(|outcomes| outcomes?.pop().expect("a pipeline of one has one outcome"))
    }

    fn poll_many(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Result<Reply, Failure>>, Failure>> {
        match self.poll_accepted(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Ready(Ok(())) => {}
        }
        let Stage::Many(ticket) = self.stage else {
            unreachable!("a single request has no pipeline's outcome");
        };
        let mut state = self.shared.lock();
        if let Some(outcomes) = state.engine.take_batch(ticket) {
            drop(state);
            self.stage = Stage::Done;
            return Poll::Ready(Ok(outcomes));
        }
        let old = state.engine.set_waiter(ticket, cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            match &self.stage {
                Stage::One(_) | Stage::Many(_) => return Poll::Ready(Ok(())),
                Stage::Room(room) => {
                    let mut state = self.shared.lock();
                    let Some(granted) = state.engine.take_wait(room.ticket) else {
                        let old = state.engine.set_waiter(room.ticket, cx.waker().clone());
                        drop(state);
                        drop(old);
                        return Poll::Pending;
                    };
                    drop(state);
                    self.enter(granted);
                }
                Stage::Failed(_) => {
                    let Stage::Failed(failure) = mem::replace(&mut self.stage, Stage::Done) else {
                        unreachable!("it was matched");
                    };
                    return Poll::Ready(Err(failure));
                }
                Stage::Done => panic!("polled after it had ended"),
            }
        }
    }

    /// There is room, or there will be none.
    #[cold]
    fn enter(&mut self, granted: Result<(), Failure>) {
        let Stage::Room(room) = mem::replace(&mut self.stage, Stage::Done) else { return };
        self.stage = match granted {
            Err(failure) => Stage::Failed(failure),
            Ok(()) => {
                let Room { batch, until, command, .. } = *room;
                let left = until.saturating_duration_since(self.shared.now().instant);
                let options = Options { deadline: Some(left), ..batch.options };
                let batch = batch.options(options);
                let mut used = false;
                let submitted = self.shared.submit_with(&command, |engine, now| {
                    used = true;
                    engine.submit_batch_promised(&batch, None, now)
                });
                if !used {
                    self.shared.with(|state, _| state.engine.give_back_promise());
                }
                match submitted {
                    Ok(ticket) => Stage::Many(ticket),
                    Err(Rejected::Failed(failure)) => Stage::Failed(failure),
                    Err(Rejected::Full) => {
                        Stage::Failed(self.shared.failure(FailureKind::QueueFull, &command))
                    }
                }
            }
        };
    }

    fn detach(&mut self) {
        if let Stage::One(ticket) | Stage::Many(ticket) = self.stage {
            self.stage = Stage::Done;
            self.shared.detach(ticket);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        match &self.stage {
            Stage::One(ticket) | Stage::Many(ticket) => self.shared.cancel(*ticket),
            // If a place was promised meanwhile, it is given back by this.
            Stage::Room(room) => self.shared.cancel(room.ticket),
            Stage::Failed(_) | Stage::Done => {}
        }
    }
}

impl Connected {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Connected { shared: shared.clone(), ticket: shared.connect().map_err(Some) }
    }
}

impl Future for Connected {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ticket = match &mut this.ticket {
            Ok(ticket) => *ticket,
            Err(failure) => {
                return Poll::Ready(Err(failure.take().expect("polled after it had ended")));
            }
        };
        let mut state = this.shared.lock();
        if let Some(result) = state.engine.take_wait(ticket) {
            drop(state);
            this.ticket = Err(None);
            return Poll::Ready(result);
        }
        let old = state.engine.set_waiter(ticket, cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Connected {
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

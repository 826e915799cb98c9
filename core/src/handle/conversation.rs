//! A dialogue under way on an async client.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    Handle,
    dedicated::HeldLease,
    pending::{PendingReplies, Until},
    shared::Shared,
};
use crate::{
    Failure,
    dialogue::{Answer, Converse, Dialogue, Heard, Step},
    engine::{Batch, Place},
    failure::{Executed, FailureKind},
};

const SENDS_TWICE: &str = "a dialogue has one pipeline under way at a time: this one sends another \
    before the first is answered";
const WAITS_FOR_NOTHING: &str = "this dialogue waits for an answer and has sent nothing";

/// A dialogue under way: a scan, a consumer of a stream, or one of your own.
///
/// It gives the dialogue's items one after the other, and ends after the last of them or the first
/// failure. Nothing is sent before the first item is asked for. Dropping it withdraws what was not sent;
/// nothing is lost when the future of [`next`](Self::next) is dropped before it ends.
///
/// It lives no longer than the client: when the last clone is dropped or the client is closed, it ends
/// with [`ClientClosed`](FailureKind::ClientClosed).
///
/// It is no `Stream` of the `futures` crates, which this one does without; `futures::stream::poll_fn`
/// makes one of it: `poll_fn(move |cx| keys.poll_next(cx))`.
#[must_use = "nothing is sent before the first item is asked for"]
pub struct Conversation<D> {
    shared: Arc<Shared>,
    /// The connection of its own that it has, if it needs one.
    lease: Option<Arc<HeldLease>>,
    /// It is held on a connection of its caller's, and all of it.
    own: Option<Result<Arc<HeldLease>, Failure>>,
    dialogue: D,
    /// What was sent and not answered, and who was there to answer it when it was.
    out: Option<(PendingReplies, Witness)>,
    stage: Stage,
    sent: u64,
}

/// Who is to answer a pipeline.
#[derive(Clone, Copy)]
enum Witness {
    /// A connection of its own, which is never another one.
    Own,
    /// Whoever is there, and which connection that was.
    At(Place, Option<u64>),
}

/// What the next step waits for.
enum Stage {
    /// Nothing: this is what it will hear.
    Step(Heard),
    Answer,
    Sleep(Until),
    Over,
}

impl<D: Dialogue> Conversation<D> {
    fn new(shared: &Arc<Shared>, mut dialogue: D) -> Self {
        dialogue.begin(shared.config());
        Self::unbegun(shared, dialogue)
    }

    fn unbegun(shared: &Arc<Shared>, dialogue: D) -> Self {
        let shared = shared.clone();
        Conversation {
            shared,
            lease: None,
            own: None,
            dialogue,
            out: None,
            stage: Stage::Step(Heard::Nothing),
            sent: 0,
        }
    }

    /// On a connection of its caller's.
    pub(super) fn on(
        shared: &Arc<Shared>,
        own: &Result<Arc<HeldLease>, Failure>,
        dialogue: D,
    ) -> Self {
        Conversation { own: Some(own.clone()), ..Self::unbegun(shared, dialogue) }
    }

    /// The next item; `None` once the dialogue is over.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong on the way; the dialogue is over then.
    pub async fn next(&mut self) -> Option<Result<D::Item, Failure>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<D::Item, Failure>>> {
        loop {
            let heard = match ready!(self.poll_heard(cx)) {
                Ok(Some(heard)) => heard,
                Ok(None) => return Poll::Ready(None),
                Err(failure) => return Poll::Ready(Some(Err(self.end(failure)))),
            };
            let step = self.dialogue.step(heard, self.shared.now());
            self.stage = match step {
                Step::Send(_) if self.out.is_some() => {
                    return Poll::Ready(Some(Err(self.misuse(SENDS_TWICE))));
                }
                Step::Wait if self.out.is_none() => {
                    return Poll::Ready(Some(Err(self.misuse(WAITS_FOR_NOTHING))));
                }
                Step::Send(batch) => {
                    let witness = match &self.own {
                        Some(_) => Witness::Own,
                        None => {
                            let (place, connection) = self.shared.place_of(&batch);
                            Witness::At(place, connection)
                        }
                    };
                    self.out = Some((self.submit(&batch), witness));
                    self.sent += 1;
                    Stage::Step(Heard::Sent)
                }
                Step::Yield(item) => {
                    self.stage = Stage::Step(Heard::Nothing);
                    return Poll::Ready(Some(Ok(item)));
                }
                Step::Wait => Stage::Answer,
                Step::Sleep(span) => Stage::Sleep(Until::slept(&self.shared, span)),
                Step::Done(result) => {
                    self.end_quietly();
                    return Poll::Ready(result.err().map(|failure| Err(self.place(failure))));
                }
            };
        }
    }

    /// All items that are left, in whatever collects them.
    ///
    /// # Errors
    ///
    /// The first failure; what came before it is dropped.
    pub async fn collect<C: Default + Extend<D::Item>>(mut self) -> Result<C, Failure> {
        let mut all = C::default();
        while let Some(item) = self.next().await {
            all.extend([item?]);
        }
        Ok(all)
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The machine that decides what to say.
    #[must_use]
    pub fn dialogue(&self) -> &D {
        &self.dialogue
    }

    /// How many pipelines were sent so far; for those who drive by hand and have to see to it that
    /// what was sent is read.
    #[doc(hidden)]
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether an answer is owed.
    #[doc(hidden)]
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.out.is_some()
    }

    /// What the dialogue is to hear next; `None` if it is over.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Heard>, Failure>> {
        let heard = match &mut self.stage {
            Stage::Over => return Poll::Ready(Ok(None)),
            Stage::Step(heard) => mem::replace(heard, Heard::Nothing),
            Stage::Answer => Heard::Answer(ready!(self.poll_answer(cx))),
            Stage::Sleep(_) => {
                if self.out.is_some()
                    && let Poll::Ready(answer) = self.poll_answer(cx)
                {
                    Heard::Answer(answer)
                } else {
                    let Stage::Sleep(until) = &mut self.stage else { unreachable!("it sleeps") };
                    ready!(Pin::new(until).poll(cx))?;
                    Heard::Awake
                }
            }
        };
        Poll::Ready(Ok(Some(heard)))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        let (pending, witness) = self.out.as_mut().expect("it is only waited for where it is owed");
        let (outcomes, strayed) = ready!(pending.poll_placed(cx));
        // Before it was sent and after it has come there was the same one, and so all the while.
        let connection = match *witness {
            Witness::Own => Some(0),
            Witness::At(place, before) => {
                before.filter(|_| !strayed && before == self.shared.connection_at(place))
            }
        };
        self.out = None;
        self.lease.take_if(|held| held.lost().is_some());
        Poll::Ready(Answer::new(outcomes, connection))
    }

    fn submit(&mut self, batch: &Batch) -> PendingReplies {
        let held = match &self.own {
            Some(own) => own.clone(),
            None if !batch.is_leased => return PendingReplies::new(&self.shared, batch),
            None => match &self.lease {
                Some(held) => Ok(held.clone()),
                None => HeldLease::take(&self.shared, None),
            },
        };
        let lease = held.as_ref().map(|held| held.lease).map_err(Failure::clone);
        if self.own.is_none() {
            self.lease = held.ok();
        }
        PendingReplies::on(&self.shared, lease, batch)
    }

    /// Names the node, where a failure does not: a dialogue does not know it.
    fn place(&self, failure: Failure) -> Failure {
        if failure.node().is_some() {
            return failure;
        }
        let node = self.shared.node_numbered(failure.giver());
        failure.at(Some(node))
    }

    #[cold]
    fn misuse(&mut self, advice: &'static str) -> Failure {
        let kind = FailureKind::Misuse(advice);
        self.end(Failure::new(kind, Executed::No, self.dialogue.name()))
    }

    /// Ends with a failure that is the runner's, and not of any command.
    #[cold]
    fn end(&mut self, failure: Failure) -> Failure {
        self.end_quietly();
        failure.named(self.dialogue.name())
    }

    fn end_quietly(&mut self) {
        self.stage = Stage::Over;
        self.out = None;
        self.lease = None;
    }
}

/// The one item of a dialogue that has one, such as an
/// [optimistic transaction](super::OptimisticTransactions).
///
/// Nothing is sent before it is awaited. Dropping it withdraws what was not sent.
#[must_use = "nothing is sent before it is awaited"]
pub struct Settled<D>(Conversation<D>);

const NO_ITEM: &str = "this dialogue was to give one item and gave none";

impl<D: Dialogue> Settled<D> {
    pub(super) fn new(conversation: Conversation<D>) -> Self {
        Settled(conversation)
    }
}

impl<D: Dialogue> Future for Settled<D> {
    type Output = Result<D::Item, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let conversation = &mut self.get_mut().0;
        let item = ready!(conversation.poll_next(cx));
        let item = item.unwrap_or_else(|| Err(conversation.misuse(NO_ITEM)));
        // What it has of the client goes back at once.
        conversation.end_quietly();
        Poll::Ready(item)
    }
}

impl<D> Unpin for Settled<D> {}

impl<D: Dialogue> fmt::Debug for Settled<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settled").field(&self.0).finish()
    }
}

impl Converse for Handle {
    type Conversation<D: Dialogue> = Conversation<D>;
    type Settled<D: Dialogue> = Settled<D>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Conversation<D> {
        Conversation::new(&self.owner.shared, dialogue)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Settled<D> {
        Settled(self.converse(dialogue))
    }
}

/// What it holds is never pinned.
impl<D> Unpin for Conversation<D> {}

impl<D: Dialogue> fmt::Debug for Conversation<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("about", &self.dialogue.name())
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

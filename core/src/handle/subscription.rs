//! Subscriptions from their reader's side: streams of messages that outlive connections.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Handle, shared::Shared, views::Asking};
use crate::{
    Failure, Now,
    args::ToArgs,
    engine::{Engine, StreamId, Ticket},
    failure::FailureKind,
    pubsub::{Incoming, Overflow, Payload, StreamOptions, TopicKind},
    reply::FromReply,
};

/// Subscriptions, on everything that can make them.
///
/// What comes back is a [`Subscription`] (a future of one for async clients): a stream of messages that
/// outlives connections and says so. It is there once the server has confirmed all of the channels: a
/// message that is published after that is given, or its loss is told.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn listen(client: &Client) -> Result<(), Failure> {
///     let mut news = client.subscribe(["news", "weather"]).await?;
///     while let Some(incoming) = news.next().await {
///         match incoming {
///             Incoming::Message(message) => {
///                 println!("{}: {:?}", message.channel_name(), message.payload);
///             }
///             Incoming::Lost { cause } => println!("messages may be missed: {cause}"),
///             Incoming::Restored => println!("back; now read what was missed from elsewhere"),
///             Incoming::Dropped { count } => println!("too slow: {count} dropped"),
///             _ => {}
///         }
///     }
///     Ok(()) // the client was closed
/// }
/// ```
///
/// [`typed`](Subscription::typed) has payloads come as text, numbers or a type of yours:
/// `client.subscribe("rates").await?.typed::<f64>()`.
///
/// Streams of one client share its subscriptions: a hundred streams on one channel are one subscription
/// to the server. In RESP3 they ride on the connection for requests; in RESP2 they have one of their own
/// for all of them, and shard channels always do. It is there for as long as it is needed.
///
/// Where the server is away, making a stream waits within the client's deadline, or that of
/// [`within`](super::Views::within).
pub trait Subscribe {
    /// What subscribing gives: a future for async clients, a `Result` for the blocking one.
    type Subscribing;

    /// Opens a stream and subscribes it.
    fn open(&self, wish: Wish<'_>) -> Self::Subscribing;

    /// Subscribes to channels.
    fn subscribe(&self, channels: impl ToArgs) -> Self::Subscribing {
        self.open(Wish::new(TopicKind::Channel, &channels))
    }

    /// Subscribes to all channels whose names match one of these glob-style patterns. A message that
    /// several of them match, or a pattern and a channel, comes once for each.
    fn psubscribe(&self, patterns: impl ToArgs) -> Self::Subscribing {
        self.open(Wish::new(TopicKind::Pattern, &patterns))
    }

    /// Subscribes to shard channels, in a cluster each at the node that serves its slot. When the slot moves or
    /// that node fails, they are subscribed to at its successor: the stream says `Lost` and then `Restored`,
    /// once for all that it misses at that time. Since 7.0.
    fn ssubscribe(&self, channels: impl ToArgs) -> Self::Subscribing {
        self.open(Wish::new(TopicKind::Shard, &channels))
    }

    /// Subscribes with a buffer other than the client's:
    /// `client.subscriber().stop_reading().subscribe("news")`.
    fn subscriber(&self) -> Subscriber<&Self> {
        Subscriber { on: self, options: StreamOptions::default() }
    }
}

impl<S: Subscribe + ?Sized> Subscribe for &S {
    type Subscribing = S::Subscribing;

    fn open(&self, wish: Wish<'_>) -> Self::Subscribing {
        (**self).open(wish)
    }
}

impl<S: Subscribe> Subscribe for Asking<S> {
    type Subscribing = S::Subscribing;

    fn open(&self, wish: Wish<'_>) -> Self::Subscribing {
        let deadline = wish.deadline.or(self.options().deadline);
        self.inner().open(Wish { deadline, ..wish })
    }
}

/// A stream to be opened, and what it is to be subscribed to.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Wish<'a> {
    /// What the names stand for.
    pub kind: TopicKind,
    /// The names.
    pub names: &'a dyn ToArgs,
    /// What is asked for the stream.
    pub options: StreamOptions,
    /// The time limit for all of them to be confirmed; the client's `deadline` if `None`.
    pub deadline: Option<Duration>,
}

impl<'a> Wish<'a> {
    /// A stream of these, with the client's own settings.
    pub fn new(kind: TopicKind, names: &'a dyn ToArgs) -> Self {
        Wish { kind, names, options: StreamOptions::default(), deadline: None }
    }
}

impl fmt::Debug for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Wish");
        out.field("kind", &self.kind).field("names", &self.names.arg_count());
        out.field("options", &self.options).field("deadline", &self.deadline).finish()
    }
}

/// Subscribes with a buffer of one's own; see [`Subscribe::subscriber`].
#[derive(Clone, Copy, Debug)]
#[must_use = "it does nothing by itself: subscribe to something"]
pub struct Subscriber<S> {
    on: S,
    options: StreamOptions,
}

impl<S: Subscribe> Subscriber<S> {
    /// How many messages wait for the reader at most.
    pub fn messages_max(mut self, count: usize) -> Self {
        self.options.messages_max = Some(count);
        self
    }

    /// How many bytes these may have, names and payloads.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.options.bytes_max = Some(bytes);
        self
    }

    /// Gives the stream a connection of its own, which is not read while the buffer is full, instead of
    /// dropping the oldest messages; see [`Overflow::StopReading`].
    pub fn stop_reading(mut self) -> Self {
        self.options.overflow = Overflow::StopReading;
        self
    }
}

impl<S: Subscribe> Subscribe for Subscriber<S> {
    type Subscribing = S::Subscribing;

    fn open(&self, wish: Wish<'_>) -> Self::Subscribing {
        self.on.open(Wish { options: self.options, ..wish })
    }
}

/// A subscription in the making; ends once the server has confirmed all of it.
///
/// The request was made when this was. Dropped before it ends, it leaves nothing behind.
#[must_use = "a subscription that is dropped is given up: `.await` it"]
pub struct Subscribing {
    stage: Result<(Subscription, Changing), Option<Failure>>,
}

/// Topics that are being added to a stream or taken from it; ends once the server has confirmed all of
/// them.
///
/// The request was made when this was. Dropped before it ends, topics that it was to add are taken
/// back; [`detach`](Changing::detach) lets it go on.
#[must_use = "topics are taken back if this is dropped: `.await` it, or `.detach()` it"]
pub struct Changing {
    shared: Arc<Shared>,
    ticket: Result<Ticket, Option<Failure>>,
}

/// A stream of messages; see [`Subscribe`].
///
/// It holds what its reader has not taken, up to its bound; see [`StreamOptions`]. Dropping it
/// unsubscribes from what no other stream of the client wants. It keeps its client open: that is closed
/// when it is told to, or when the last of its handles and streams is dropped.
///
/// Messages come as [`Payload`], or as the type that [`typed`](Subscription::typed) names.
pub struct Subscription<T = Payload> {
    reader: Reader,
    decoded: PhantomData<fn() -> T>,
}

/// The part of a stream that does not care what its payloads are.
struct Reader {
    handle: Handle,
    stream: StreamId,
    /// Handed out by the engine and not yet given.
    taken: VecDeque<Incoming>,
    /// Given since the reader last had to wait.
    given: usize,
    ended: bool,
}

/// After so many items for which the reader did not have to wait, its task has to wait for a turn: one
/// that always finds another would keep its thread from everybody else. More than one read of the
/// connection's driver can bring, or those two alone on a thread would fall behind their server.
const AT_ONCE_MAX: usize = 16 * 1_024;

impl<T: FromReply> Subscription<T> {
    /// What comes next; `None` once the client was closed, or its runtime dropped, and all was read.
    ///
    /// Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> Option<Incoming<T>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Subscription::next) for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming<T>>> {
        self.reader.poll_next(cx).map(|item| item.map(Incoming::decode))
    }

    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Incoming<T>> {
        self.reader.try_next().map(Incoming::decode)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as with commands, callers need no `&`")]
impl<T> Subscription<T> {
    /// Adds channels. Ends once the server has confirmed all of them; if it refuses one, or the client's
    /// deadline passes, none of those that this added is wanted.
    pub fn subscribe(&self, channels: impl ToArgs) -> Changing {
        self.reader.add(TopicKind::Channel, &channels)
    }

    /// Adds patterns, likewise.
    pub fn psubscribe(&self, patterns: impl ToArgs) -> Changing {
        self.reader.add(TopicKind::Pattern, &patterns)
    }

    /// Adds shard channels, likewise.
    pub fn ssubscribe(&self, channels: impl ToArgs) -> Changing {
        self.reader.add(TopicKind::Shard, &channels)
    }

    /// Takes channels away: from now on no message of theirs is given, not even one that has come
    /// already. What this gives ends once the server has dropped those that no other stream wants, and
    /// need not be waited for.
    pub fn unsubscribe(&mut self, channels: impl ToArgs) -> Changing {
        self.reader.take_away(TopicKind::Channel, &channels)
    }

    /// Takes patterns away, likewise.
    pub fn punsubscribe(&mut self, patterns: impl ToArgs) -> Changing {
        self.reader.take_away(TopicKind::Pattern, &patterns)
    }

    /// Takes shard channels away, likewise.
    pub fn sunsubscribe(&mut self, channels: impl ToArgs) -> Changing {
        self.reader.take_away(TopicKind::Shard, &channels)
    }

    /// That nothing will come any more, as a failure: for clients whose readers are told of it as one.
    #[must_use]
    pub fn ended(&self) -> Failure {
        self.reader.handle.shared().failure(FailureKind::StreamEnded, "SUBSCRIBE")
    }

    /// The same stream, with payloads as `U`. What is no `U` comes as
    /// [`Undecodable`](Incoming::Undecodable), and the stream goes on.
    #[must_use]
    pub fn typed<U: FromReply>(self) -> Subscription<U> {
        Subscription { reader: self.reader, decoded: PhantomData }
    }
}

impl Handle {
    fn open_stream(&self, wish: Wish<'_>) -> Result<(Subscription, Changing), Failure> {
        let shared = self.shared();
        let stream = shared.subscribing(|engine, _| engine.open_stream(wish.options))?;
        let taken = VecDeque::new();
        let reader = Reader { handle: self.clone(), stream, taken, given: 0, ended: false };
        let changing = reader.add_within(wish.kind, wish.names, wish.deadline);
        Ok((Subscription { reader, decoded: PhantomData }, changing))
    }
}

impl Subscribe for Handle {
    type Subscribing = Subscribing;

    fn open(&self, wish: Wish<'_>) -> Subscribing {
        Subscribing { stage: self.open_stream(wish).map_err(Some) }
    }
}

impl Reader {
    fn add(&self, kind: TopicKind, names: &dyn ToArgs) -> Changing {
        self.add_within(kind, names, None)
    }

    fn add_within(
        &self,
        kind: TopicKind,
        names: &dyn ToArgs,
        deadline: Option<Duration>,
    ) -> Changing {
        self.change(|engine, now| engine.subscribe(self.stream, kind, names, deadline, None, now))
    }

    fn take_away(&mut self, kind: TopicKind, names: &dyn ToArgs) -> Changing {
        names.for_each_arg(&mut |name| {
            self.taken.retain(|item| match item {
                Incoming::Message(message) => !message.came_by(kind, name.as_bytes()),
                _ => true,
            });
        });
        self.change(|engine, now| engine.unsubscribe(self.stream, kind, names, None, now))
    }

    fn change(
        &self,
        act: impl FnOnce(&mut Engine<std::task::Waker>, Now) -> Result<Ticket, Failure>,
    ) -> Changing {
        let shared = self.handle.shared();
        Changing { shared: shared.clone(), ticket: shared.subscribing(act).map_err(Some) }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if self.given >= AT_ONCE_MAX {
            self.given = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(item) = self.taken.pop_front() {
            self.given += 1;
            return Poll::Ready(Some(item));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Reader { handle, stream, taken, ended, .. } = self;
        let shared = handle.shared();
        let now = shared.now();
        let old = shared.with(|state, _| {
            *ended = !state.engine.take_incoming(*stream, taken, now);
            if !taken.is_empty() || *ended {
                return None;
            }
            state.engine.set_stream_waiter(*stream, cx.waker().clone())
        });
        // Dropped, a waker may run foreign code.
        drop(old);
        match self.taken.pop_front() {
            Some(item) => {
                self.given += 1;
                Poll::Ready(Some(item))
            }
            None if self.ended => Poll::Ready(None),
            None => {
                self.given = 0;
                Poll::Pending
            }
        }
    }

    fn try_next(&mut self) -> Option<Incoming> {
        if self.taken.is_empty() && !self.ended {
            let Reader { handle, stream, taken, ended, .. } = self;
            let shared = handle.shared();
            let now = shared.now();
            shared.with(|state, _| *ended = !state.engine.take_incoming(*stream, taken, now));
        }
        self.taken.pop_front()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let shared = self.handle.shared();
        let now = shared.now();
        let waiter = shared.with(|state, _| {
            let waiter = state.engine.take_stream_waiter(self.stream);
            state.engine.close_stream(self.stream, now);
            waiter
        });
        drop(waiter);
    }
}

impl Changing {
    /// Lets it go on by itself. Topics that it is to add belong to the stream then: they are subscribed
    /// to whenever that becomes possible, however long it takes.
    pub fn detach(mut self) {
        if let Ok(ticket) = mem::replace(&mut self.ticket, Err(None)) {
            self.shared.detach(ticket);
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let ticket = match &mut self.ticket {
            Ok(ticket) => *ticket,
            Err(failure) => {
                return Poll::Ready(Err(failure.take().expect("polled after it had ended")));
            }
        };
        let result = self.shared.poll_wait(ticket, cx);
        if result.is_ready() {
            self.ticket = Err(None);
        }
        result
    }
}

impl Future for Changing {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_end(cx)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        if let Ok(ticket) = self.ticket {
            self.shared.cancel(ticket);
        }
    }
}

impl Future for Subscribing {
    type Output = Result<Subscription, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Ok((_, changing)) = &mut this.stage {
            match changing.poll_end(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => this.stage = Err(Some(failure)),
            }
        }
        match mem::replace(&mut this.stage, Err(None)) {
            Ok((subscription, _)) => Poll::Ready(Ok(subscription)),
            Err(failure) => Poll::Ready(Err(failure.expect("polled after it had ended"))),
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("stream", &self.reader.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscribing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribing").finish_non_exhaustive()
    }
}

impl fmt::Debug for Changing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changing").finish_non_exhaustive()
    }
}

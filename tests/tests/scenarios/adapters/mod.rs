//! The adapters under one trait: how to make a client, and how to wait.

mod on_blocking;
mod on_smol;
mod on_tokio;

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use unfazed_core::{
    Cause, Config, Failure,
    commands::Run,
    config::Forced,
    dialogue::{Converse, Dialogue},
    engine::{Event, Status},
    handle::{Gather, RunBatch, Subscribe},
    pubsub::{Incoming, TopicKind},
    reply::FromReply,
};

pub(crate) use on_blocking::OnBlocking;
pub(crate) use on_smol::OnSmol;
pub(crate) use on_tokio::OnTokio;

/// How long a scenario may take. Long: it ends one that would hang, and measures nothing.
const SCENARIO_LIMIT: Duration = Duration::from_secs(100);

/// How long a task may take.
const TASK_LIMIT: Duration = Duration::from_secs(60);

/// Gives the events that came since it was last asked.
pub(crate) type EventSource = Box<dyn FnMut() -> Vec<Event> + Send>;

/// What a scenario needs of an adapter, besides the commands.
pub(crate) trait Adapter: Sized + 'static {
    type Client: Run + RunBatch + Converse + Subscribe + Clone + fmt::Debug + Send + Sync + 'static;

    /// A connection of one's own.
    type Dedicated: Run + RunBatch + Converse + fmt::Debug + Send + Sync + 'static;

    /// A stream of messages.
    type Stream: Send + 'static;

    /// How many callers one client is shared by where there should be many.
    const MANY: usize;

    /// Runs this where clients of the adapter can be used.
    fn enter<T>(act: impl FnOnce() -> T) -> T;

    /// Runs this in a world of its own (a runtime, a thread), which is gone when it returns.
    fn enter_anew<T: Send>(act: impl FnOnce() -> T + Send) -> T;

    fn connect(config: Config) -> Result<Self::Client, Failure>;

    fn lazy(config: Config) -> Result<Self::Client, Failure>;

    /// Waits for a request.
    fn done<T: FromReply + Send + 'static>(
        pending: <Self::Client as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send;

    /// Waits for a pipeline.
    fn gathered<G: Gather>(
        pending: <Self::Client as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send;

    fn dedicated(client: &Self::Client) -> Self::Dedicated;

    /// The same, for a key.
    fn dedicated_for(client: &Self::Client, key: &str) -> Self::Dedicated;

    /// Why one was lost.
    fn lost(dedicated: &Self::Dedicated) -> Option<Cause>;

    /// Waits for a request on a connection of one's own.
    fn done_there<T: FromReply + Send + 'static>(
        pending: <Self::Dedicated as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send;

    /// Waits for a pipeline there.
    fn gathered_there<G: Gather>(
        pending: <Self::Dedicated as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send;

    /// Waits for the one item of a dialogue.
    fn settled<D: Dialogue>(
        pending: <Self::Client as Converse>::Settled<D>,
    ) -> impl Future<Output = Result<D::Item, Failure>> + Send;

    /// Waits for the next item of a dialogue.
    fn item<D: Dialogue>(
        conversation: &mut Talk<Self, D>,
    ) -> impl Future<Output = Option<Result<D::Item, Failure>>> + Send;

    /// Runs a future to its end on this thread.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// Runs a future beside this thread; see [`spawn`].
    fn start(task: impl Future<Output = ()> + Send + 'static);

    fn status(client: &Self::Client) -> Status;

    fn events(client: &Self::Client) -> EventSource;

    fn force(client: &Self::Client, forced: Option<Forced>);

    fn close(client: &Self::Client);

    /// Waits for a stream.
    fn subscribed(
        pending: <Self::Client as Subscribe>::Subscribing,
    ) -> impl Future<Output = Result<Self::Stream, Failure>> + Send;

    /// Waits for the next item of a stream; `None` if none came within `limit`.
    fn next(
        stream: &mut Self::Stream,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Incoming>, Ended>> + Send;

    /// Adds topics to a stream and waits until they are confirmed.
    fn add(
        stream: &mut Self::Stream,
        kind: TopicKind,
        names: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Takes topics from a stream and waits until they are gone.
    fn take_away(
        stream: &mut Self::Stream,
        kind: TopicKind,
        names: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits for a stream on this thread.
    fn listen(pending: <Self::Client as Subscribe>::Subscribing) -> Result<Self::Stream, Failure> {
        Self::block_on(Self::subscribed(pending))
    }

    /// Waits for the next item of a stream on this thread.
    fn read(stream: &mut Self::Stream, limit: Duration) -> Result<Option<Incoming>, Ended> {
        Self::block_on(Self::next(stream, limit))
    }

    /// Waits for a request on this thread.
    fn wait<T: FromReply + Send + 'static>(
        pending: <Self::Client as Run>::Pending<T>,
    ) -> Result<T, Failure> {
        Self::block_on(Self::done(pending))
    }

    /// Waits for a request on a connection of one's own, on this thread.
    fn wait_there<T: FromReply + Send + 'static>(
        pending: <Self::Dedicated as Run>::Pending<T>,
    ) -> Result<T, Failure> {
        Self::block_on(Self::done_there(pending))
    }

    /// Waits for a pipeline there, on this thread.
    fn wait_all_there<G: Gather>(
        pending: <Self::Dedicated as RunBatch>::PendingBatch<G>,
    ) -> G::Output
    where
        G::Output: Send,
    {
        Self::block_on(Self::gathered_there(pending))
    }

    /// Waits for the next item of a dialogue on this thread.
    fn next_item<D: Dialogue>(
        conversation: &mut Talk<Self, D>,
    ) -> Option<Result<D::Item, Failure>> {
        Self::block_on(Self::item(conversation))
    }

    /// All items of a dialogue, or its failure.
    fn all<D: Dialogue>(mut conversation: Talk<Self, D>) -> Result<Vec<D::Item>, Failure> {
        std::iter::from_fn(|| Self::next_item(&mut conversation)).collect()
    }

    /// Waits for a pipeline on this thread.
    fn wait_all<G: Gather>(pending: <Self::Client as RunBatch>::PendingBatch<G>) -> G::Output
    where
        G::Output: Send,
    {
        Self::block_on(Self::gathered(pending))
    }
}

/// A dialogue under way on an adapter.
pub(crate) type Talk<A, D> = <<A as Adapter>::Client as Converse>::Conversation<D>;

/// An adapter on which a request is under way while nobody waits for it, so that it can be given up.
pub(crate) trait Async: Adapter {
    /// Looks once whether a request has ended.
    fn poll_once<T: FromReply + Send + 'static>(
        pending: &mut <Self::Client as Run>::Pending<T>,
    ) -> Option<Result<T, Failure>>;

    /// Looks once whether a pipeline has ended.
    fn poll_pipeline<G: Gather>(
        pending: &mut <Self::Client as RunBatch>::PendingBatch<G>,
    ) -> Option<G::Output>;

    /// Looks once whether a dialogue has given its one item.
    fn poll_settled<D: Dialogue>(
        pending: &mut <Self::Client as Converse>::Settled<D>,
    ) -> Option<Result<D::Item, Failure>>;

    /// Looks once whether a stream is there.
    fn poll_subscribed(
        pending: &mut <Self::Client as Subscribe>::Subscribing,
    ) -> Option<Result<Self::Stream, Failure>>;

    /// Lets a request go on by itself.
    fn detach<T: FromReply + Send + 'static>(pending: <Self::Client as Run>::Pending<T>);
}

/// A stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// A task that runs beside its scenario. It is joined, or goes on by itself.
#[must_use = "a task that is not joined fails unseen"]
pub(crate) struct Task<T>(Receiver<T>);

/// Runs a future beside this thread: as a task, or on a thread of its own.
pub(crate) fn spawn<A: Adapter, T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    let (sender, receiver) = sync_channel(1);
    A::start(async move {
        // Nobody may be there any longer to hear it.
        _ = sender.send(task.await);
    });
    Task(receiver)
}

/// Runs these futures beside each other and gives what each came to, in order.
pub(crate) fn join_all<A: Adapter, T: Send + 'static, F>(
    tasks: impl IntoIterator<Item = F>,
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(spawn::<A, T>).collect();
    tasks.into_iter().map(Task::join).collect()
}

impl<T> Task<T> {
    #[track_caller]
    pub(crate) fn join(self) -> T {
        match self.0.recv_timeout(TASK_LIMIT) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("a task does not end"),
            Err(RecvTimeoutError::Disconnected) => panic!("a task has panicked"),
        }
    }
}

/// Runs a scenario on an adapter; one that hangs fails.
pub(crate) fn run<A: Adapter>(scenario: fn()) {
    let (sender, receiver): (SyncSender<thread::Result<()>>, _) = sync_channel(1);
    thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| A::enter(scenario)));
        _ = sender.send(result);
    });
    match receiver.recv_timeout(SCENARIO_LIMIT) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("the scenario hangs"),
    }
}

/// Makes a test of each scenario, which is a function with the adapter as its one type parameter,
/// for each adapter; those after `async` for those only on which requests can be given up.
macro_rules! scenarios {
    ($($scenario:ident),* $(,)? $(; async $($on_async:ident),* $(,)?)?) => {
        mod on_tokio {
            use crate::adapters::{OnTokio, run};
            $(#[test] fn $scenario() { run::<OnTokio>(super::$scenario::<OnTokio>); })*
            $($(#[test] fn $on_async() { run::<OnTokio>(super::$on_async::<OnTokio>); })*)?
        }
        mod on_smol {
            use crate::adapters::{OnSmol, run};
            $(#[test] fn $scenario() { run::<OnSmol>(super::$scenario::<OnSmol>); })*
            $($(#[test] fn $on_async() { run::<OnSmol>(super::$on_async::<OnSmol>); })*)?
        }
        mod on_blocking {
            use crate::adapters::{OnBlocking, run};
            $(#[test] fn $scenario() { run::<OnBlocking>(super::$scenario::<OnBlocking>); })*
        }
    };
}
pub(crate) use scenarios;

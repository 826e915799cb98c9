//! tokio: one runtime of two threads for all scenarios.

use std::{
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use smol::{Timer, future::FutureExt};

use tokio::runtime::{Builder, Handle, Runtime};
use unfazed_core::{
    Cause, Config, Failure,
    commands::Run,
    config::Forced,
    dialogue::Dialogue,
    engine::Status,
    handle::{Conversation, Gather, RunBatch},
    pubsub::{Incoming, TopicKind},
    reply::FromReply,
};
use unfazed_tokio::{Client, Dedicated, Settled, Subscribing, Subscription};

use super::{Adapter, Async, Ended, EventSource};

pub(crate) struct OnTokio;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(runtime);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

impl Adapter for OnTokio {
    type Client = Client;
    type Dedicated = Dedicated;
    type Stream = Subscription;

    const MANY: usize = 1_000;

    fn enter<T>(act: impl FnOnce() -> T) -> T {
        let _guard = RUNTIME.enter();
        act()
    }

    fn enter_anew<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        // A thread of its own, for a runtime can't be dropped in the context of another.
        thread::scope(|scope| {
            let act = scope.spawn(|| {
                let runtime = runtime();
                let _guard = runtime.enter();
                act()
            });
            act.join().expect("it does not panic")
        })
    }

    fn connect(config: Config) -> Result<Client, Failure> {
        Self::block_on(Client::connect(config))
    }

    fn lazy(config: Config) -> Result<Client, Failure> {
        Client::lazy(config)
    }

    fn done<T: FromReply + Send + 'static>(
        pending: <Client as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        pending
    }

    fn gathered<G: Gather>(
        pending: <Client as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send,
    {
        pending
    }

    fn dedicated(client: &Client) -> Dedicated {
        client.dedicated()
    }

    fn dedicated_for(client: &Client, key: &str) -> Dedicated {
        client.dedicated_for(key)
    }

    fn lost(dedicated: &Dedicated) -> Option<Cause> {
        dedicated.lost()
    }

    fn done_there<T: FromReply + Send + 'static>(
        pending: <Dedicated as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        pending
    }

    fn gathered_there<G: Gather>(
        pending: <Dedicated as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send,
    {
        pending
    }

    fn settled<D: Dialogue>(
        pending: Settled<D>,
    ) -> impl Future<Output = Result<D::Item, Failure>> + Send {
        pending
    }

    async fn item<D: Dialogue>(
        conversation: &mut Conversation<D>,
    ) -> Option<Result<D::Item, Failure>> {
        conversation.next().await
    }

    fn subscribed(
        pending: Subscribing,
    ) -> impl Future<Output = Result<Subscription, Failure>> + Send {
        pending
    }

    async fn next(stream: &mut Subscription, limit: Duration) -> Result<Option<Incoming>, Ended> {
        let next = async { stream.next().await.ok_or(Ended).map(Some) };
        let late = async {
            Timer::after(limit).await;
            Ok(None)
        };
        next.or(late).await
    }

    async fn add(
        stream: &mut Subscription,
        kind: TopicKind,
        names: &[String],
    ) -> Result<(), Failure> {
        match kind {
            TopicKind::Channel => stream.subscribe(names).await,
            TopicKind::Pattern => stream.psubscribe(names).await,
            TopicKind::Shard => stream.ssubscribe(names).await,
        }
    }

    async fn take_away(
        stream: &mut Subscription,
        kind: TopicKind,
        names: &[String],
    ) -> Result<(), Failure> {
        match kind {
            TopicKind::Channel => stream.unsubscribe(names).await,
            TopicKind::Pattern => stream.punsubscribe(names).await,
            TopicKind::Shard => stream.sunsubscribe(names).await,
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        Handle::current().block_on(future)
    }

    fn start(task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    fn status(client: &Client) -> Status {
        client.status()
    }

    fn events(client: &Client) -> EventSource {
        let mut events = client.events();
        Box::new(move || std::iter::from_fn(|| events.try_next()).collect())
    }

    fn force(client: &Client, forced: Option<Forced>) {
        client.force(forced);
    }

    fn close(client: &Client) {
        Self::block_on(client.close());
    }
}

impl Async for OnTokio {
    fn poll_once<T: FromReply + Send + 'static>(
        pending: &mut <Client as Run>::Pending<T>,
    ) -> Option<Result<T, Failure>> {
        match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn poll_pipeline<G: Gather>(
        pending: &mut <Client as RunBatch>::PendingBatch<G>,
    ) -> Option<G::Output> {
        match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn poll_settled<D: Dialogue>(pending: &mut Settled<D>) -> Option<Result<D::Item, Failure>> {
        match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    }

    fn poll_subscribed(pending: &mut Subscribing) -> Option<Result<Subscription, Failure>> {
        match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn detach<T: FromReply + Send + 'static>(pending: <Client as Run>::Pending<T>) {
        pending.detach();
    }
}

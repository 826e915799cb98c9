//! Blocking: a request has ended when its call returns, and what runs beside it is a thread.

use std::{
    future::{Future, ready},
    thread,
    time::Duration,
};

use unfazed_blocking::{Client, Conversation, Dedicated, Subscription};
use unfazed_core::{
    Cause, Config, Failure,
    commands::Run,
    config::Forced,
    dialogue::Dialogue,
    engine::Status,
    handle::{Gather, RunBatch},
    pubsub::{Incoming, TopicKind},
    reply::FromReply,
};

use super::{Adapter, Ended, EventSource};

pub(crate) struct OnBlocking;

impl Adapter for OnBlocking {
    type Client = Client;
    type Dedicated = Dedicated;
    type Stream = Subscription;

    /// Each of them is a thread.
    const MANY: usize = 64;

    fn enter<T>(act: impl FnOnce() -> T) -> T {
        act()
    }

    fn enter_anew<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(act).join().expect("it does not panic"))
    }

    fn connect(config: Config) -> Result<Client, Failure> {
        Client::connect(config)
    }

    fn lazy(config: Config) -> Result<Client, Failure> {
        Client::lazy(config)
    }

    fn done<T: FromReply + Send + 'static>(
        ended: <Client as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        ready(ended)
    }

    fn gathered<G: Gather>(
        ended: <Client as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send,
    {
        ready(ended)
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
        ended: <Dedicated as Run>::Pending<T>,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        ready(ended)
    }

    fn gathered_there<G: Gather>(
        ended: <Dedicated as RunBatch>::PendingBatch<G>,
    ) -> impl Future<Output = G::Output> + Send
    where
        G::Output: Send,
    {
        ready(ended)
    }

    fn settled<D: Dialogue>(
        ended: Result<D::Item, Failure>,
    ) -> impl Future<Output = Result<D::Item, Failure>> + Send {
        ready(ended)
    }

    fn item<D: Dialogue>(
        conversation: &mut Conversation<D>,
    ) -> impl Future<Output = Option<Result<D::Item, Failure>>> + Send {
        ready(conversation.next())
    }

    fn subscribed(
        ended: Result<Subscription, Failure>,
    ) -> impl Future<Output = Result<Subscription, Failure>> + Send {
        ready(ended)
    }

    fn next(
        stream: &mut Subscription,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Incoming>, Ended>> + Send {
        ready(stream.next_within(limit).map_err(|_| Ended))
    }

    fn add(
        stream: &mut Subscription,
        kind: TopicKind,
        names: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(match kind {
            TopicKind::Channel => stream.subscribe(names),
            TopicKind::Pattern => stream.psubscribe(names),
            TopicKind::Shard => stream.ssubscribe(names),
        })
    }

    fn take_away(
        stream: &mut Subscription,
        kind: TopicKind,
        names: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        ready(match kind {
            TopicKind::Channel => stream.unsubscribe(names),
            TopicKind::Pattern => stream.punsubscribe(names),
            TopicKind::Shard => stream.sunsubscribe(names),
        })
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }

    fn start(task: impl Future<Output = ()> + Send + 'static) {
        thread::spawn(move || smol::block_on(task));
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
        client.close();
    }
}

//! Blocking: a request has ended when its call returns, and what runs beside it is a thread.

use std::{
    future::{Future, ready},
    thread,
};

use unfazed_blocking::{Client, Conversation};
use unfazed_core::{
    Config, Failure,
    commands::Run,
    dialogue::Dialogue,
    engine::Status,
    handle::{Gather, RunBatch},
    reply::FromReply,
};

use super::{Adapter, EventSource};

pub(crate) struct OnBlocking;

impl Adapter for OnBlocking {
    type Client = Client;

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

    fn next<D: Dialogue>(conversation: &mut Conversation<D>) -> Option<Result<D::Item, Failure>> {
        conversation.next()
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

    fn close(client: &Client) {
        client.close();
    }
}

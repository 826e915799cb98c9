//! The client: core's handle under tokio's name.

use std::{env, time::Duration};

use unfazed_core::{
    Failure, Request,
    args::ToArg,
    commands::Run,
    config::{Config, Forced},
    dialogue::{Converse, Dialogue},
    engine::{Batch, Status},
    fallback::Ambient,
    handle::{
        Conversation, Dedicated, Events, Gather, Handle, Pending, RunBatch, Settled, Subscribe,
        Subscribing, Wish,
    },
    reply::FromReply,
};

use crate::tokio_runtime::{Process, Tokio};

/// A client, driven by tokio.
///
/// All clones are one client. When the last one is dropped, what is still pending ends and the
/// connections are closed.
///
/// Commands are methods of the traits in the [`prelude`](crate::prelude):
/// `use unfazed_tokio::prelude::*;` and `client.get("key")` is there.
#[derive(Clone, Debug)]
pub struct Client(Handle);

impl Client {
    /// Makes a client and waits until it can answer, up to the configuration's `connect_timeout`.
    ///
    /// Takes a URL, a [`Config`], or a [`Store`](crate::Store) to be a client of.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong, the server refuses the credentials, or it can't be reached;
    /// the latter not where some key pattern has a fallback: such a client starts degraded, and
    /// [`status`](Self::status) says why. A connection that is refused ends the wait at once.
    pub async fn connect<C>(config: C) -> Result<Self, Failure>
    where
        C: TryInto<Config>,
        Failure: From<C::Error>,
    {
        let client = Self::lazy(config)?;
        client.0.connected().await?;
        Ok(client)
    }

    /// [`connect`](Client::connect), with the configuration from the environment; see
    /// [`Config::from_vars`] for the variables.
    ///
    /// # Errors
    ///
    /// As for `connect`.
    pub async fn from_env() -> Result<Self, Failure> {
        Self::connect(Config::from_vars(env::vars_os())?).await
    }

    /// Makes a client that connects when it is first used. Works outside a runtime, for a `static`.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong.
    pub fn lazy<C>(config: C) -> Result<Self, Failure>
    where
        C: TryInto<Config>,
        Failure: From<C::Error>,
    {
        Ok(Client(Handle::new::<Tokio>(config.try_into()?, Process::seed())?))
    }

    /// Waits until the client can answer, as [`connect`](Client::connect) does: for one that was made
    /// [`lazy`](Client::lazy), so that its events could be subscribed to before anything happened.
    ///
    /// # Errors
    ///
    /// As for `connect`.
    pub async fn connected(&self) -> Result<(), Failure> {
        self.0.connected().await
    }

    /// Core's own handle, for code that works with every async adapter.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0
    }

    /// A connection of one's own, for WATCH, SELECT and all else that nobody who shares a connection may
    /// do; at once: what is asked on it waits until it is made.
    #[must_use]
    pub fn dedicated(&self) -> Dedicated {
        self.0.dedicated()
    }

    /// The same, for what is to be done with this key and others that have its hash tag: in a cluster it leads
    /// to the node that serves them. Without a cluster there is no difference.
    #[must_use]
    pub fn dedicated_for(&self, key: impl ToArg) -> Dedicated {
        self.0.dedicated_for(key)
    }

    /// How the client is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// What happens from now on: connections made and lost, changes of health.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events()
    }

    /// Has the client serve its requests in this way, whatever its server does; with `None`, health
    /// decides again. For operators: see [`Forced`].
    pub fn force(&self, forced: Option<Forced>) {
        self.0.force(forced);
    }

    /// The configuration that the client was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.0.config()
    }

    /// Closes the client, for all its clones: new requests are refused, what was sent may finish
    /// within `response_timeout`, everything else ends. Returns when it is done.
    ///
    /// Writes that were taken in memory while the server was down, and of which it has not been told yet, are
    /// lost; [`Event::WritesLost`](unfazed_core::Event::WritesLost) says how many keys they concern.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// [`close`](Client::close) with a time limit of one's own.
    pub async fn close_within(&self, grace: Duration) {
        self.0.close_within(grace).await;
    }
}

impl Run for Client {
    type Pending<T: Send + 'static> = Pending<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Pending<T> {
        self.0.run(request)
    }
}

impl Subscribe for Client {
    type Subscribing = Subscribing;

    fn open(&self, wish: Wish<'_>) -> Subscribing {
        self.0.open(wish)
    }
}

impl RunBatch for Client {
    type PendingBatch<G: Gather> = <Handle as RunBatch>::PendingBatch<G>;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> Self::PendingBatch<G> {
        self.0.run_batch(batch, gather)
    }
}

impl Converse for Client {
    type Conversation<D: Dialogue> = Conversation<D>;
    type Settled<D: Dialogue> = Settled<D>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Conversation<D> {
        self.0.converse(dialogue)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Settled<D> {
        self.0.settle(dialogue)
    }
}

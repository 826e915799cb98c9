//! What callers see.

use std::{
    env, fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    process,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use unfazed_core::{
    Failure, Now, Request,
    args::ToArgs,
    commands::Run,
    config::{Config, Forced},
    engine::{Batch, Event, Status},
    fallback::Ambient,
    handle::{self, Changing, Clocks, Gather, Handle, RunBatch, Shared, Subscribe, Wish, Writer},
    pubsub::{Incoming, Payload},
    reply::FromReply,
    resp::Reply,
};

use crate::{driver::Driver, poller};

/// The clocks and the randomness of this process.
pub enum Process {}

/// A client, driven by the threads that call it.
///
/// All clones are one client, and all threads may use it at once. When the last one is dropped, what
/// is still pending ends and the connections are closed.
///
/// Commands are methods of the traits in the [`prelude`](crate::prelude):
/// `use unfazed_blocking::prelude::*;` and `client.get("key")` is there.
///
/// After a `fork` the child begins anew, with connections of its own; those that it inherited it
/// leaves alone. What was known in memory of a server that is down stays with the parent.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    /// Where it was made; none for a client without connections, which survives a `fork` as it is.
    pid: Option<u32>,
    /// Always there, until it is dropped.
    handle: Option<Handle>,
    driver: Arc<Driver>,
    /// What a forked child uses instead.
    heir: OnceLock<Box<Inner>>,
}

/// A view of a [`Client`] that waits for no reply: see [`Client::detached`].
#[derive(Clone, Copy, Debug)]
pub struct Detached<'a>(&'a Client);

/// A stream of messages; see [`Subscribe`].
///
/// It holds what its reader has not taken, up to its bound. Dropping it unsubscribes from what no other
/// stream of the client wants. It keeps its client open. As an iterator it waits for each item, and ends
/// when the client is closed.
///
/// While nobody waits for anything, the client looks at its connections a hundred times a second for
/// as long as there is a subscription.
///
/// ```no_run
/// # use std::time::Duration;
/// use unfazed_blocking::{Client, prelude::*};
///
/// # fn example(client: &Client) -> Result<(), Failure> {
/// let mut news = client.subscribe("news")?;
/// while let Some(incoming) = news.next_within(Duration::from_secs(60))? {
///     if let Incoming::Message(message) = incoming {
///         println!("{:?}", message.payload);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscription<T = Payload> {
    /// Always there, until it is dropped.
    stream: Option<handle::Subscription<T>>,
    client: Client,
    /// Where it was made; none where there are no connections.
    pid: Option<u32>,
}

/// A subscription to a client's events, from the moment it was made.
///
/// It holds at most `events_max` events that nobody has read; see [`missed`](Events::missed). As an
/// iterator it waits for each event and ends when the client is closed. A loss on a connection that
/// nobody uses is seen when the client next has a look at it, within `response_timeout`.
pub struct Events {
    events: handle::Events,
    driver: Arc<Driver>,
}

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
    pub fn connect<C>(config: C) -> Result<Self, Failure>
    where
        C: TryInto<Config>,
        Failure: From<C::Error>,
    {
        let client = Self::lazy(config)?;
        client.0.wait(client.0.handle().connected())?;
        Ok(client)
    }

    /// Waits until the client can answer, as [`connect`](Client::connect) does: for one that was made
    /// [`lazy`](Client::lazy), so that its events could be subscribed to before anything happened.
    ///
    /// # Errors
    ///
    /// As for `connect`.
    pub fn connected(&self) -> Result<(), Failure> {
        let inner = self.here();
        inner.wait(inner.handle().connected())
    }

    /// [`connect`](Client::connect), with the configuration from the environment; see
    /// [`Config::from_vars`] for the variables.
    ///
    /// # Errors
    ///
    /// As for `connect`.
    pub fn from_env() -> Result<Self, Failure> {
        Self::connect(Config::from_vars(env::vars_os())?)
    }

    /// Makes a client that connects when it is first used.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong.
    pub fn lazy<C>(config: C) -> Result<Self, Failure>
    where
        C: TryInto<Config>,
        Failure: From<C::Error>,
    {
        Ok(Client(Arc::new(Inner::new(config.try_into()?)?)))
    }

    /// Sends a pipeline or a transaction that was put together by hand. Gives what came of each command,
    /// in order.
    ///
    /// # Errors
    ///
    /// When it was refused as a whole, and nothing of it was executed; or when a transaction came to
    /// nothing as a whole, and the failure says whether it may have been executed.
    pub fn submit_batch(&self, batch: &Batch) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let inner = self.here();
        inner.wait(inner.handle().submit_batch(batch))
    }

    /// A view of this client on which every command is fire-and-forget: it returns as soon as the
    /// request is accepted. Whatever comes of it then is not told.
    ///
    /// ```no_run
    /// # use unfazed_blocking::{Client, prelude::*};
    /// # fn example(client: &Client) -> Result<(), Failure> {
    /// client.detached().incr("visits")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn detached(&self) -> Detached<'_> {
        Detached(self)
    }

    /// How the client is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.here().handle().status()
    }

    /// What happens from now on: connections made and lost, changes of health.
    #[must_use]
    pub fn events(&self) -> Events {
        let Inner { driver, .. } = self.here();
        Events { events: self.here().handle().events(), driver: driver.clone() }
    }

    /// Has the client serve its requests in this way, whatever its server does; with `None`, health
    /// decides again. For operators: see [`Forced`].
    pub fn force(&self, forced: Option<Forced>) {
        self.here().handle().force(forced);
    }

    /// The configuration that the client was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.here().handle().config()
    }

    /// Closes the client, for all its clones: new requests are refused, what was sent may finish
    /// within `response_timeout`, everything else ends. Returns when it is done.
    ///
    /// Writes that were taken in memory while the server was down, and of which it has not been told yet, are
    /// lost; [`Event::WritesLost`](unfazed_core::Event::WritesLost) says how many keys they concern.
    pub fn close(&self) {
        let inner = self.here();
        inner.wait(inner.handle().close());
    }

    /// [`close`](Client::close) with a time limit of one's own.
    pub fn close_within(&self, grace: Duration) {
        let inner = self.here();
        inner.wait(inner.handle().close_within(grace));
    }

    /// What serves this process: whose handle it is, who drives it, and which process that is.
    pub(crate) fn parts(&self) -> (&Handle, &Arc<Driver>, Option<u32>) {
        let Inner { driver, pid, .. } = self.here();
        (self.here().handle(), driver, *pid)
    }

    fn here(&self) -> &Inner {
        self.0.here()
    }
}

impl Run for Client {
    type Pending<T: Send + 'static> = Result<T, Failure>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Result<T, Failure> {
        let inner = self.here();
        inner.wait(inner.handle().run(request))
    }
}

impl Run for Detached<'_> {
    /// Whether the request was accepted. Where the queue is full, it stands in line for room.
    type Pending<T: Send + 'static> = Result<(), Failure>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Result<(), Failure> {
        let inner = self.0.here();
        let mut pending = inner.handle().run::<T>(request);
        // Only what was refused, or answered from memory, has ended already.
        if let Poll::Ready(result) =
            Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()))
        {
            return result.map(drop);
        }
        pending.detach();
        // If nobody leads, somebody has to see to it that the reply is read.
        inner.driver.attend();
        Ok(())
    }
}

impl RunBatch for Client {
    type PendingBatch<G: Gather> = G::Output;

    fn run_batch<G: Gather>(&self, batch: Batch, gather: G) -> G::Output {
        let inner = self.here();
        inner.wait(inner.handle().run_batch(batch, gather))
    }
}

impl Subscribe for Client {
    type Subscribing = Result<Subscription, Failure>;

    fn open(&self, wish: Wish<'_>) -> Result<Subscription, Failure> {
        let inner = self.here();
        let stream = inner.wait(inner.handle().open(wish))?;
        Ok(Subscription { stream: Some(stream), client: self.clone(), pid: inner.pid })
    }
}

impl<T: FromReply> Subscription<T> {
    /// What comes next; `None` if nothing came within `limit`.
    ///
    /// # Errors
    ///
    /// Once the client was closed and all was read; nothing will come any more.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Incoming<T>>, Failure> {
        let limit = Instant::now().checked_add(limit);
        let driver = self.driver();
        let stream = self.stream.as_mut().expect("it is there until it is dropped");
        let Some(driver) = driver else { return Err(stream.ended()) };
        match driver.block_on(stream.next(), limit) {
            None => Ok(None),
            Some(Some(incoming)) => Ok(Some(incoming)),
            Some(None) => Err(stream.ended()),
        }
    }

    /// Iterates over what comes until nothing has come for `limit`, or the client was closed.
    pub fn within(&mut self, limit: Duration) -> impl Iterator<Item = Incoming<T>> {
        std::iter::from_fn(move || self.next_within(limit).ok().flatten())
    }

    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Incoming<T>> {
        self.driver()?;
        self.stream.as_mut()?.try_next()
    }
}

impl<T> Subscription<T> {
    /// Adds channels. Returns once the server has confirmed all of them.
    ///
    /// # Errors
    ///
    /// When the server refuses one of them or the client's deadline passes; then none of those that
    /// this added is wanted.
    pub fn subscribe(&self, channels: impl ToArgs) -> Result<(), Failure> {
        self.change(|stream| stream.subscribe(channels))
    }

    /// Adds patterns, likewise.
    ///
    /// # Errors
    ///
    /// As for `subscribe`.
    pub fn psubscribe(&self, patterns: impl ToArgs) -> Result<(), Failure> {
        self.change(|stream| stream.psubscribe(patterns))
    }

    /// Adds shard channels, likewise.
    ///
    /// # Errors
    ///
    /// As for `subscribe`.
    pub fn ssubscribe(&self, channels: impl ToArgs) -> Result<(), Failure> {
        self.change(|stream| stream.ssubscribe(channels))
    }

    /// Takes channels away: from now on no message of theirs is given, not even one that has come
    /// already. Returns once the server has dropped those that no other stream wants.
    ///
    /// # Errors
    ///
    /// When the client's deadline passes before that; the channels are taken away all the same.
    pub fn unsubscribe(&mut self, channels: impl ToArgs) -> Result<(), Failure> {
        self.change_mut(|stream| stream.unsubscribe(channels))
    }

    /// Takes patterns away, likewise.
    ///
    /// # Errors
    ///
    /// As for `unsubscribe`.
    pub fn punsubscribe(&mut self, patterns: impl ToArgs) -> Result<(), Failure> {
        self.change_mut(|stream| stream.punsubscribe(patterns))
    }

    /// Takes shard channels away, likewise.
    ///
    /// # Errors
    ///
    /// As for `unsubscribe`.
    pub fn sunsubscribe(&mut self, channels: impl ToArgs) -> Result<(), Failure> {
        self.change_mut(|stream| stream.sunsubscribe(channels))
    }

    /// The same stream, with payloads as `U`. What is no `U` comes as [`Incoming::Undecodable`], and the
    /// stream goes on.
    #[must_use]
    pub fn typed<U: FromReply>(mut self) -> Subscription<U> {
        let stream = self.stream.take().map(handle::Subscription::typed);
        Subscription { stream, client: self.client.clone(), pid: self.pid }
    }

    fn change(
        &self,
        act: impl FnOnce(&handle::Subscription<T>) -> Changing,
    ) -> Result<(), Failure> {
        let stream = self.stream.as_ref().expect("it is there until it is dropped");
        let Some(driver) = self.driver() else { return Err(stream.ended()) };
        driver.block_on(act(stream), None).expect("without a limit, it waits until the end")
    }

    fn change_mut(
        &mut self,
        act: impl FnOnce(&mut handle::Subscription<T>) -> Changing,
    ) -> Result<(), Failure> {
        let driver = self.driver();
        let stream = self.stream.as_mut().expect("it is there until it is dropped");
        let Some(driver) = driver else { return Err(stream.ended()) };
        driver.block_on(act(stream), None).expect("without a limit, it waits until the end")
    }

    /// Who drives it; nobody where this is a child, and the stream is its parent's.
    fn driver(&self) -> Option<Arc<Driver>> {
        let here = self.pid.is_none_or(|pid| pid == process::id());
        here.then(|| self.client.here().driver.clone())
    }
}

impl<T: FromReply> Iterator for Subscription<T> {
    type Item = Incoming<T>;

    fn next(&mut self) -> Option<Incoming<T>> {
        let driver = self.driver()?;
        let stream = self.stream.as_mut().expect("it is there until it is dropped");
        driver.block_on(stream.next(), None)?
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let driver = self.driver();
        let stream = self.stream.take();
        match driver {
            // Its locks may be held by threads that were not forked, and its sockets are in use.
            None => std::mem::forget(stream),
            Some(driver) => {
                drop(stream);
                // If nobody leads, somebody has to see to it that the server is told.
                driver.attend();
            }
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Inner {
    fn new(config: Config) -> Result<Self, Failure> {
        let embedded = config.deployment.is_embedded();
        let driver = Driver::new();
        let clocks = Clocks { now: poller::now, instant: Instant::now };
        let starting = driver.clone();
        let start = Box::new(move |driving| starting.start(driving));
        let shared = Shared::new(config, Process::seed(), clocks, start, Writer::Caller)?;
        Ok(Inner {
            pid: if embedded { None } else { Some(process::id()) },
            handle: Some(Handle::over(shared)),
            driver,
            heir: OnceLock::new(),
        })
    }

    /// What serves this process.
    fn here(&self) -> &Inner {
        if !self.is_foreign() {
            return self;
        }
        let heir = self.heir.get_or_init(|| {
            let config = self.handle().config().clone();
            Box::new(Inner::new(config).expect("the same configuration was accepted before"))
        });
        heir.here()
    }

    /// Whether this is a child, and the client is its parent's.
    fn is_foreign(&self) -> bool {
        self.pid.is_some_and(|pid| pid != process::id())
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("it is there until it is dropped")
    }

    fn wait<F: Future>(&self, future: F) -> F::Output {
        let ended = self.driver.block_on(future, None);
        ended.expect("without a limit, it waits until the end")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let handle = self.handle.take();
        if self.is_foreign() {
            // Its locks may be held by threads that were not forked, and its sockets are in use.
            std::mem::forget(handle);
        } else {
            drop(handle);
            self.driver.attend();
        }
    }
}

impl Ambient for Process {
    fn now() -> Now {
        poller::now()
    }

    fn seed() -> u64 {
        RandomState::new().hash_one(())
    }
}

impl Events {
    /// The next event; `None` if none came within `limit`, or the client was closed.
    pub fn next_within(&mut self, limit: Duration) -> Option<Event> {
        let limit = Instant::now().checked_add(limit);
        let Events { events, driver } = self;
        driver.sit_by(events.next(), limit)?
    }

    /// Iterates over events until none has come for `limit`, or the client was closed.
    pub fn within(&mut self, limit: Duration) -> impl Iterator<Item = Event> {
        std::iter::from_fn(move || self.next_within(limit))
    }

    /// The next event, if there is one that was not read.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_next()
    }

    /// How many events were dropped because nobody read them in time, since this was last asked.
    pub fn missed(&mut self) -> u64 {
        self.events.missed()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.driver.sit_by(self.events.next(), None)?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", self.config()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unfazed_core::prelude::*;
    use unfazed_tests::{Raw, RawReply, Server};

    fn ids(witness: &mut Raw) -> Vec<String> {
        let RawReply::Bulk(list) = witness.cmd(&["CLIENT", "LIST"]) else {
            panic!("CLIENT LIST answers with text");
        };
        let list = String::from_utf8(list).expect("it is text");
        list.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// No `fork` is made: that is unsafe in a process with threads. The client is made to believe
    /// that it was made by another process instead.
    #[test]
    fn a_forked_child_leaves_alone_what_it_inherited() {
        let server = Server::start();
        let mut witness = Raw::connect(server.port());
        let mut inner =
            Inner::new(Config::from_url(&server.url()).expect("a good URL")).expect("no fault");
        inner.wait(inner.handle().connected()).expect("there is a server");
        let before = ids(&mut witness);
        inner.pid = inner.pid.map(|pid| pid + 1);
        let client = Client(Arc::new(inner));
        assert_eq!(client.incr("visits").expect("a plain INCR"), 1);
        assert_eq!(client.incr("visits").expect("a plain INCR"), 2);
        let with_heir = ids(&mut witness);
        assert_eq!(with_heir.len(), before.len() + 1, "the child has one connection of its own");
        assert!(with_heir.starts_with(&before), "the inherited one is as it was");
        drop(client);
        unfazed_tests::eventually("only the child's is closed", Duration::from_secs(10), || {
            (ids(&mut witness) == before).then_some(())
        });
    }

    #[test]
    fn a_client_is_shared_by_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Client>();
    }
}

//! Dialogues: what takes several requests, one after the other, written once as a pure machine.
//!
//! ```text
//!            what happened: nothing, an answer, time            Dialogue
//!   runner ─────────────────────────────────────────────────▶  (a scan, a consumer, one of your own)
//!          ◀─────────────────────────────────────────────────
//!            what to do: send, yield, wait, sleep, done
//! ```
//!
//! A [`Dialogue`] decides what to say next and knows no runtime; whoever is [`Converse`] runs it: every
//! client, and views of one. What comes of it is a `Conversation`, which gives the dialogue's items one
//! after the other: with `next().await` on the async clients, as an iterator on the blocking one.
//! Nothing is sent before the first item is asked for, and dropping a conversation at any point is all it
//! takes to end it.
//!
//! - [`Scans`]: all keys, or all that a hash, set or sorted set holds
//! - [`Consumers`]: streams, read as a member of a group; [`Acks`] for what was read
//! - [`Optimistic`]: transactions that write by what they have read, and begin anew where somebody else
//!   was faster; [`OptimisticTransactions`](crate::handle::OptimisticTransactions) makes them
//!
//! A machine of your own, which waits until a key has a value:
//!
//! ```
//! use std::time::Duration;
//! use unfazed_core::{
//!     Failure, Now, Request,
//!     dialogue::{Converse, Dialogue, Heard, Step},
//!     engine::Batch,
//!     handle::Handle,
//!     reply::FromReply,
//! };
//!
//! struct Await(&'static str);
//!
//! impl Dialogue for Await {
//!     type Item = String;
//!
//!     fn name(&self) -> &'static str {
//!         "GET"
//!     }
//!
//!     fn step(&mut self, heard: Heard, _: Now) -> Step<String> {
//!         match heard {
//!             Heard::Nothing | Heard::Awake => {
//!                 let mut batch = Batch::new();
//!                 batch.push(&Request::new("GET").arg(self.0));
//!                 Step::Send(batch)
//!             }
//!             Heard::Sent => Step::Wait,
//!             Heard::Answer(answer) => match answer.decode::<Option<String>>("GET") {
//!                 Ok(Some(value)) => Step::Yield(value),
//!                 Ok(None) => Step::Sleep(Duration::from_millis(100)),
//!                 Err(failure) => Step::Done(Err(failure)),
//!             },
//!         }
//!     }
//! }
//!
//! async fn wait_for_config(client: &Handle) -> Result<Option<String>, Failure> {
//!     client.converse(Await("config")).next().await.transpose()
//! }
//! ```

mod consumer;
mod optimistic;
mod scan;
#[cfg(test)]
mod testing;

use std::time::Duration;

pub use consumer::{Acks, Consumer, ConsumerBuilder, Consumers, Delivery, Origin};
pub use optimistic::{ATTEMPTS_MAX_DEFAULT, Optimistic, Plan};
pub use scan::{Scan, Scans};

use crate::{
    Failure, Now,
    config::Config,
    engine::Batch,
    reply::FromReply,
    request::Options,
    resp::{Reply, Source},
};

/// A pure machine that says what to send next, what to give, and when to wait.
///
/// Its runner promises: the first step hears [`Heard::Nothing`]; each [`Step`] is carried out before the
/// next one is asked for; after [`Step::Done`] no other is. Steps are only asked for while somebody
/// waits for an item, so what is to happen without that belongs elsewhere.
pub trait Dialogue: Send + 'static {
    /// What it gives on its way.
    type Item: Send + 'static;

    /// What failures call it that are nobody's in particular: the command that it is about, such as
    /// `SCAN`.
    fn name(&self) -> &'static str;

    /// Hears, before the first step, how the client is configured that it is held on. On a connection of
    /// its caller's own it does not: there everything is one server's.
    fn begin(&mut self, config: &Config) {
        _ = config;
    }

    /// Takes in what happened, and says what to do next.
    fn step(&mut self, heard: Heard, now: Now) -> Step<Self::Item>;
}

/// What happened since the last step of a [`Dialogue`].
#[derive(Debug)]
pub enum Heard {
    /// Nothing: it begins, or the item that it gave was taken.
    Nothing,
    /// What it wanted to send is on its way.
    Sent,
    /// What it sent was answered, or has failed.
    Answer(Answer),
    /// It slept for as long as it wanted to.
    Awake,
}

/// What a [`Dialogue`] wants done.
#[derive(Debug)]
pub enum Step<T> {
    /// Send this pipeline. One at a time: until it is answered, there is no other.
    ///
    /// Those that are [leased](Batch::leased) all go out on one connection of the dialogue's own. When that
    /// is lost, what was sent on it fails, and the next one gets another connection.
    Send(Batch),
    /// Give this item. The next step comes when another one is asked for.
    Yield(T),
    /// Wait for the answer to what was sent.
    Wait,
    /// Wait for so long; or for the answer, if one is owed and comes first.
    Sleep(Duration),
    /// It is over: everything was given, or something failed.
    Done(Result<(), Failure>),
}

/// What came of a pipeline that a [`Dialogue`] sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The outcome of each command in order, or why none was accepted.
    pub outcomes: Result<Vec<Result<Reply, Failure>>, Failure>,
    /// Which connection answered, by a number that no later one has; `None` where it changed while the
    /// answer was on its way, so that nobody can tell. In a cluster it is that of the node which serves the
    /// slot of the commands; where they are for several slots, any change to any connection of the client's
    /// counts. `None` as well where one of them was redirected, or refused for now and sent again: then they
    /// were not carried out in their order.
    pub connection: Option<u64>,
}

impl Answer {
    /// An answer that came from the connection of this number.
    #[must_use]
    pub fn new(
        outcomes: Result<Vec<Result<Reply, Failure>>, Failure>,
        connection: Option<u64>,
    ) -> Self {
        Answer { outcomes, connection }
    }

    /// All replies in order.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn replies(self) -> Result<Vec<Reply>, Failure> {
        self.outcomes?.into_iter().collect()
    }

    /// The last reply, as a `T`. It is `command`'s.
    ///
    /// # Errors
    ///
    /// The first failure, and where the reply is nothing that a `T` can hold.
    pub fn decode<T: FromReply>(self, command: &'static str) -> Result<T, Failure> {
        match self.replies()?.last() {
            Some(reply) => decode(reply, command),
            None => decode(&Reply::null(), command),
        }
    }
}

/// A reply of `command` as a `T`.
fn decode<T: FromReply>(reply: &Reply, command: &'static str) -> Result<T, Failure> {
    T::from_reply(reply).map_err(|error| Failure::undecodable(error, command, reply, None))
}

/// Whether memory gave this, in the stead of a server that is down.
fn is_from_memory(source: Source) -> bool {
    !matches!(source, Source::Server | Source::Store)
}

/// Whatever a dialogue can be held on: clients, and views of them.
///
/// ```
/// use std::time::Duration;
/// # mod unfazed_tokio { pub use unfazed_core::{*, handle::Handle as Client}; }
/// use unfazed_tokio::{Client, prelude::*};
///
/// async fn all_keys(client: &Client) -> Result<Vec<String>, Failure> {
///     // The limit is for each request that the scan makes, not for all of it.
///     client.within(Duration::from_secs(1)).scan().collect().await
/// }
/// ```
pub trait Converse {
    /// A dialogue under way: it gives the items one by one, each as a `Result`, and ends after the last
    /// one or the first failure. It can be moved to another thread or task.
    type Conversation<D: Dialogue>: Send + 'static;

    /// The one item of a dialogue that has one: a future for async clients, a `Result` for the blocking
    /// one.
    type Settled<D: Dialogue>;

    /// Begins a dialogue. Nothing is sent before its first item is asked for.
    fn converse<D: Dialogue>(&self, dialogue: D) -> Self::Conversation<D>;

    /// Holds a dialogue that has one item, for that.
    fn settle<D: Dialogue>(&self, dialogue: D) -> Self::Settled<D>;
}

impl<C: Converse + ?Sized> Converse for &C {
    type Conversation<D: Dialogue> = C::Conversation<D>;
    type Settled<D: Dialogue> = C::Settled<D>;

    fn converse<D: Dialogue>(&self, dialogue: D) -> Self::Conversation<D> {
        (**self).converse(dialogue)
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> Self::Settled<D> {
        (**self).settle(dialogue)
    }
}

/// A dialogue that asks for something with each pipeline it sends: what becomes of one that is held on a
/// view.
#[derive(Debug)]
pub struct Asked<D> {
    dialogue: D,
    options: Options,
}

impl<D> Asked<D> {
    /// Has `dialogue` ask for `options`, wherever it asks for nothing itself.
    pub(crate) fn new(dialogue: D, options: Options) -> Self {
        Asked { dialogue, options }
    }

    /// The dialogue itself.
    #[must_use]
    pub fn inner(&self) -> &D {
        &self.dialogue
    }
}

impl<D: Dialogue> Dialogue for Asked<D> {
    type Item = D::Item;

    fn name(&self) -> &'static str {
        self.dialogue.name()
    }

    fn begin(&mut self, config: &Config) {
        self.dialogue.begin(config);
    }

    fn step(&mut self, heard: Heard, now: Now) -> Step<D::Item> {
        match self.dialogue.step(heard, now) {
            Step::Send(batch) => {
                let options = batch.options.or(self.options);
                Step::Send(batch.options(options))
            }
            other => other,
        }
    }
}

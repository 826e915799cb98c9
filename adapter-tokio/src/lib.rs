//! Unfazed on tokio: a Redis and Valkey client that keeps answering when the server does not.
//!
//! ```no_run
//! use unfazed_tokio::{Client, prelude::*};
//!
//! # async fn example() -> Result<(), Failure> {
//! let client = Client::connect("redis://localhost").await?;
//! client.set("greeting", "hello").await?;
//! let greeting: Option<String> = client.get("greeting").await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone, shared by reference, and talks to whatever its URL names; see
//! [`Config`] for all that can be said in one. The tasks that drive it
//! run on the runtime in whose context the first request is made; that runtime needs its I/O and time
//! drivers (`enable_all`).
//!
//! This crate is the socket, the name look-up and the timer; every decision is made in
//! [`unfazed_core`], which is the same for all runtimes.
//!
//! # Without a server
//!
//! `memory://` is the embedded store: a client of it needs no server, and answers as one does. A
//! [`Store`] is the same, shared by clients and by a test, which moves its clock:
//!
//! ```
//! use std::time::Duration;
//! use unfazed_tokio::{Client, Store, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Failure> {
//! let store = Store::new();
//! let client = Client::connect(&store).await?;
//! client.set_ex("session:7", "Ada", Duration::from_secs(60)).await?;
//!
//! store.advance(Duration::from_secs(61));
//! assert_eq!(client.get::<String>("session:7").await?, None);
//! assert!(store.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! | what | where |
//! |---|---|
//! | commands | methods of the traits in the [`prelude`], from [`Strings`](prelude::Strings) to [`Streams`](prelude::Streams); any other by its name: [`command`](prelude::Generic::command) |
//! | several commands at once | [`Pipelines`](prelude::Pipelines), [`Transactions`](prelude::Transactions) |
//! | limits, retries, and who answered | [`within`, `retrying`, `sourced`](prelude::Views) |
//! | scans, consumers of streams | [`Scans`](prelude::Scans), [`Consumers`](prelude::Consumers) |
//! | scripts | [`Script`] |
//! | messages | [`Subscribe`](prelude::Subscribe); [`publish`](prelude::PubSub::publish) |
//! | what goes on without a server | [`Fallback`], [`Policy`], and the table in [`core::fallback::policy`] |
//! | URLs, variables, every knob | [`core::config`], [`Config::from_vars`], [`Config`] |
//! | how the client is doing | [`Client::status`], [`Client::events`] |
//! | what went wrong | [`Failure`], [`Executed`], [`FailureKind`] |
//! | types of your own | [`ToArg`] into arguments, [`FromReply`] out of replies |
//!
//! A command can be run on a [`Client`], on a view of one, and in a pipeline or transaction. Whatever is
//! not at the root of this crate is in [`core`].
//!
//! # Features
//!
//! `tracing` makes a log line of each event, with the target `unfazed` and the event's name in the field
//! `event`: changes for the worse are warnings, those for the better are at level info, and each attempt
//! to connect is at level debug.

mod client;
mod stream;
mod tokio_runtime;

pub use client::Client;
pub use unfazed_core::{
    self as core, Bytes, Cause, Config, Effect, Event, Executed, Failure, FailureKind, Fallback,
    FromReply, Health, Options, Policy, Request, Script, Source, Sourced, Status, ToArg,
    config::{Forced, MaybeRetry},
    dialogue::Delivery,
    failure::MemoryRefusal,
    fallback::Bounds,
    handle::{
        Changing, Connected, Conversation, Dedicated, Events, Pending, PendingReplies, Settled,
        Subscribing, Subscription,
    },
    pubsub::{Incoming, Message, Payload},
    reply::{DecodeError, ServerError},
    resp::Value,
};

/// The embedded store, to be shared by clients and by tests: see [`unfazed_core::Store`].
pub type Store = unfazed_core::Store<tokio_runtime::Process>;

/// What most programs need: the commands as methods, and how they fail.
pub mod prelude {
    pub use crate::Store;
    pub use unfazed_core::prelude::*;
}

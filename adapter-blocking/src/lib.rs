//! Unfazed without a runtime: a Redis and Valkey client that keeps answering when the server does
//! not.
//!
//! ```no_run
//! use unfazed_blocking::{Client, prelude::*};
//!
//! # fn example() -> Result<(), Failure> {
//! let client = Client::connect("redis://localhost")?;
//! client.set("greeting", "hello")?;
//! let greeting: Option<String> = client.get("greeting")?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone, shared by reference between threads, and talks to whatever its URL
//! names; see [`Config`] for all that can be said in one.
//!
//! The calling threads do the I/O themselves, and one more thread looks after the connection while
//! nobody calls; there is no runtime inside. It looks at its timers' pace, so a connection that the server
//! closes between two calls may be found closed only by the next one: a write that went into it ends as
//! *maybe executed*. The async adapters watch all the time and notice at once.
//!
//! Every decision is made in [`unfazed_core`], which is the same for all runtimes.
//!
//! # Without a server
//!
//! `memory://` is the embedded store: a client of it needs no server, and answers as one does. A
//! [`Store`] is the same, shared by clients and by a test, which moves its clock:
//!
//! ```
//! use std::time::Duration;
//! use unfazed_blocking::{Client, Store, prelude::*};
//!
//! # fn main() -> Result<(), Failure> {
//! let store = Store::new();
//! let client = Client::connect(&store)?;
//! client.set_ex("session:7", "Ada", Duration::from_secs(60))?;
//!
//! store.advance(Duration::from_secs(61));
//! assert_eq!(client.get::<String>("session:7")?, None);
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

#[cfg(not(unix))]
compile_error!("unfazed-blocking waits for sockets with poll(2), which is found on Unix only");

// The calling threads do the work. Each writes its own request; of those that wait, one *leads*: it
// watches the sockets for all of them, and hands over when its own reply is there. One more thread
// sleeps in the background and leads only when nobody else does: to keep idle connections alive, to
// connect again, to bring home what was sent and not waited for.
//
//  caller ──submit, write──▶ Shared (core) ◀──received, closed── Poller (sockets) ◀── the leader
//    └── wait: lead or follow ──▶ Driver (whose turn is it?) ──────────┘
//
// - `client` is what callers see, `conversation` a dialogue as an iterator, `dedicated` a connection of
//   one's own, `driver` who leads and who waits, `poller` what a leader does, `socket` one socket, `sync` what threads meet at.
mod client;
mod conversation;
mod dedicated;
mod driver;
mod poller;
mod socket;
mod sync;

pub use client::{Client, Detached, Events, Subscription};
pub use conversation::Conversation;
pub use dedicated::Dedicated;
pub use unfazed_core::{
    self as core, Bytes, Cause, Config, Effect, Event, Executed, Failure, FailureKind, Fallback,
    FromReply, Health, Options, Policy, Request, Script, Source, Sourced, Status, ToArg,
    config::{Forced, MaybeRetry},
    dialogue::Delivery,
    failure::MemoryRefusal,
    fallback::Bounds,
    pubsub::{Incoming, Message, Payload},
    reply::{DecodeError, ServerError},
    resp::Value,
};

/// The embedded store, to be shared by clients and by tests: see [`unfazed_core::Store`].
pub type Store = unfazed_core::Store<client::Process>;

/// What most programs need: the commands as methods, and how they fail.
pub mod prelude {
    pub use crate::Store;
    pub use unfazed_core::prelude::*;
}

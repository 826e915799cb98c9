//! Unfazed on smol: a Redis and Valkey client that keeps answering when the server does not.
//!
//! ```no_run
//! use unfazed_smol::{Client, prelude::*};
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
//! run on smol's global executor.
//!
//! This crate is the socket, the name look-up and the timer; every decision is made in
//! [`unfazed_core`], which is the same for all runtimes.

mod client;
mod smol_runtime;
mod stream;

pub use client::Client;
pub use unfazed_core::{
    self as core, Cause, Config, Event, Executed, Failure, FailureKind, Fallback, FromReply,
    Health, Policy, Source, Sourced, Status, ToArg,
    handle::{
        Changing, Connected, Conversation, Events, Pending, PendingReplies, Subscribing,
        Subscription,
    },
    pubsub::{Incoming, Message, Payload},
};

/// What most programs need: the commands as methods, and how they fail.
pub mod prelude {
    pub use unfazed_core::prelude::*;
}

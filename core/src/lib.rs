//! The sans-IO core of Unfazed: a Redis and Valkey client that keeps an application answering when
//! the server does not.
//!
//! Bytes and time go in, bytes and events come out. The core opens no socket, starts no thread and
//! reads no clock; so the same code drives every runtime, and a test can run years of outages in
//! seconds and repeat any of them from its seed. Programs use an adapter (`unfazed-tokio`,
//! `unfazed-smol`, `unfazed-blocking`); this crate is for those who write one, and for those who want
//! to fuzz, simulate or embed the protocol.
//!
//! Examples that use a client are written for `unfazed-tokio`: on `unfazed-smol` only the name of the crate is
//! another, on `unfazed-blocking` there is no `.await` either.
//!
//! # From bytes to decisions
//!
//! | layer | module | what it knows |
//! |---|---|---|
//! | wire | [`resp`] | bytes and frames, resumable, every limit |
//! | values | [`reply`], [`args`] | frames to Rust types, Rust types to arguments |
//! | commands | [`commands`], [`Request`] | name, keys, what running it twice does |
//! | one socket | `connection` | one peer, and the queue of what it owes |
//! | the fleet | [`slot`], `topology` | which slot a key belongs to, who serves it |
//! | decisions | [`engine`] | where a request goes next: retry, health, deadlines |
//! | degraded mode | [`fallback`] | answers without a server, and the way back |
//! | dialogues | [`dialogue`] | what takes several requests: scans, consumers, machines of your own |
//! | the handle | [`handle`] | locks and wakers: what async adapters share |
//!
//! A layer names only the layers under it.
//!
//! # The contract
//!
//! Whoever drives an [`Engine`] promises:
//!
//! 1. After each call, drain [`poll_output`](Engine::poll_output) until it gives
//!    [`Output::Wait`](engine::Output::Wait), or at least when [`has_output`](Engine::has_output) says so;
//!    come back with [`Input::Timeout`](engine::Input::Timeout) when the instant it names has come.
//! 2. Write each chunk from [`take_output`](Engine::take_output) in order, and hand it back through
//!    [`written`](Engine::written) with the number of bytes the kernel accepted, exactly: whether a
//!    lost command was executed is judged by this number.
//! 3. Answer each [`Open`](engine::Output::Open) with exactly one
//!    [`Closed`](engine::Input::Closed), after the last `written` of that connection.
//! 4. Wake those in [`take_ready`](Engine::take_ready) after releasing whatever lock is held.
//!
//! In return, each accepted request ends exactly once, by its deadline at the latest, and each failure
//! says whether the command was executed.
//!
//! # Errors and bugs
//!
//! Whatever a peer, a network or a user does wrong is a value: an outcome, an event, an `Err`. A panic
//! is a bug of ours, or a driver that broke the contract.
//!
//! # One whole loop
//!
//! ```
//! use std::time::{Duration, Instant};
//! use bytes::BytesMut;
//! use unfazed_core::{Config, Engine, Now, Request, reply::FromReply};
//! use unfazed_core::engine::{Input, Output};
//!
//! // Whoever has a clock reads it; this loop has none and needs none.
//! # #[expect(clippy::disallowed_methods)]
//! let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1_700_000_000) };
//! let config = Config::standalone("127.0.0.1", 6379).client_info(false);
//! let mut engine: Engine<&str> = Engine::new(config, 42, now)?;
//!
//! let request = Request::new("GET").arg("greeting");
//! let (ticket, _flush) = engine.submit(&request, Some("the caller"), now).expect("there is room");
//!
//! // The control plane: do what it asks, until there is nothing more to do.
//! let conn = loop {
//!     match engine.poll_output() {
//!         Output::Open { conn, target, .. } => {
//!             println!("connecting to {target}");
//!             break conn;
//!         }
//!         Output::Wait(_) => unreachable!("a request waits for a connection"),
//!         _ => {}
//!     }
//! };
//! engine.handle_input(Input::Opened { conn }, now);
//! while !matches!(engine.poll_output(), Output::Wait(_)) {}
//!
//! // The data plane. The peer is a socket elsewhere; here it is two lines of text.
//! for answer in ["%1\r\n+server\r\n+redis\r\n", "$5\r\nhello\r\n"] {
//!     while let Some(chunk) = engine.take_output(conn) {
//!         let accepted = chunk.unwritten().len(); // by the kernel, elsewhere
//!         engine.written(conn, chunk, accepted, now);
//!     }
//!     now = now + Duration::from_millis(1);
//!     let mut received = BytesMut::from(answer);
//!     engine.received(conn, &mut received, now);
//!     assert!(received.is_empty(), "only whole frames came");
//! }
//!
//! let mut ready = Vec::new();
//! engine.take_ready(&mut ready);
//! assert_eq!(ready, ["the caller"]);
//! let reply = engine.take(ticket).expect("it has ended").expect("it went well");
//! assert_eq!(String::from_reply(&reply)?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod args;
pub mod commands;
pub mod config;
mod connection;
pub mod dialogue;
pub mod engine;
pub mod failure;
pub mod fallback;
pub mod handle;
mod keyed;
pub mod pubsub;
pub mod reply;
mod request;
pub mod resp;
mod rng;
mod script;
mod slab;
pub mod slot;
mod sync;
mod time;
mod topology;

pub use args::ToArg;
/// What replies share their memory as: the type of the crate `bytes`, version 1.
pub use bytes::Bytes;
pub use config::Config;
pub use connection::Chunk;
pub use engine::{Engine, Event, Health, Status};
pub use failure::{Cause, Executed, Failure, FailureKind};
pub use fallback::{Fallback, Policy, SharedStore as Store};
pub use reply::{FromReply, Source, Sourced};
pub use request::{Effect, Options, Request};
pub use script::Script;
pub use time::Now;

/// What most programs need: the commands as methods, views, pipelines and transactions, the
/// configuration, and how requests fail.
pub mod prelude {
    pub use crate::{
        args::ToArg,
        commands::{Run, prelude::*},
        config::{Config, Forced, MaybeRetry},
        dialogue::{Acks, Consumers, Converse, Delivery, Scans},
        engine::{Event, Health},
        failure::{Executed, Failure, FailureKind},
        fallback::{Fallback, Policy},
        handle::{OptimisticTransactions, Pipelines, Subscribe, Transactions, Views},
        pubsub::Incoming,
        reply::{FromReply, Source, Sourced},
        script::Script,
    };
}

//! The sans-IO core of Unfazed.

pub mod args;
pub mod commands;
pub mod config;
mod connection;
pub mod engine;
pub mod failure;
pub mod fallback;
pub mod handle;
pub mod reply;
mod request;
pub mod resp;
mod rng;
mod slab;
mod time;

pub use config::Config;
pub use connection::Chunk;
pub use engine::Engine;
pub use failure::{Cause, Executed, Failure, FailureKind};
pub use request::{Effect, Options, Request};
pub use time::Now;

/// What most programs need: the commands as methods, views and pipelines, and how they fail.
pub mod prelude {
    pub use crate::{
        commands::prelude::*,
        failure::{Executed, Failure},
        handle::{Pipelines, Views},
    };
}

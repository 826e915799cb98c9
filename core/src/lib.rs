//! The sans-IO core of Unfazed.

pub mod args;
pub mod commands;
pub mod config;
pub mod failure;
pub mod fallback;
pub mod reply;
mod request;
pub mod resp;
mod time;

pub use failure::{Cause, Executed, Failure, FailureKind};
pub use request::{Effect, Options, Request};
pub use time::Now;

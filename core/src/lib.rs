//! The sans-IO core of Unfazed.

pub mod args;
pub mod config;
pub mod fallback;
pub mod reply;
pub mod resp;
mod time;

pub use time::Now;

//! The commands: one definition of each, whoever runs it.
//!
//! [`table`] says what each command is (its keys, what running it twice does); the traits, one for a
//! group, give it a Rust signature. A trait's methods work on everything that is [`Run`]: clients of
//! every adapter, views of them, pipelines.

mod effects;
mod spec;
mod table;

pub use spec::{KeySpec, Spec};

use crate::{reply::FromReply, request::Request};

/// Whatever a command can be run on.
pub trait Run {
    /// What running gives: a future for async clients, a `Result` for the blocking one, a slot for
    /// pipelines.
    type Pending<T: Send + 'static>;

    /// Submits `request`; its reply will be turned into a `T`.
    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Self::Pending<T>;
}

impl<R: Run + ?Sized> Run for &R {
    type Pending<T: Send + 'static> = R::Pending<T>;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Self::Pending<T> {
        (**self).run(request)
    }
}

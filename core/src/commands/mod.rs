//! The commands: one definition of each, whoever runs it.
//!
//! A table says what each command is: which arguments are its keys, what running it twice does. The
//! traits, one for a group, give a command its Rust signature:
//!
//! - [`Strings`]: values, counters, bits
//! - [`Hashes`]: fields under a key
//! - [`Keys`]: deleting, expiring, renaming, finding keys of any type
//! - [`Scripting`]: scripts that run on the server
//! - [`Functions`]: code that is loaded into the server
//! - [`Server`]: the server itself
//! - [`Generic`]: any command at all, by its name
//!
//! Their methods work on everything that is [`Run`]: clients of every adapter, views of them,
//! pipelines. [`prelude`] has them all. A method builds a [`Request`] and hands it to [`Run::run`];
//! nothing here knows how requests travel.
//!
//! A method bears its command's name in lower case, as in the server's own manual (`incrby`,
//! `hgetall`; `script_load` for SCRIPT LOAD). A name with an underscore of its own is that of a
//! variant: `set_ex`, `set_with`. What comes back has a fixed type, except where it holds values of
//! yours: then it is the `T` that you ask for. Time spans are [`Duration`](std::time::Duration)s and
//! moments [`SystemTime`](std::time::SystemTime)s; they travel in milliseconds.
//!
//! ```
//! use unfazed_core::commands::{Run, prelude::*};
//!
//! fn count_visit<R: Run>(client: &R, page: &str) -> R::Pending<i64> {
//!     client.hincrby("visits", page, 1)
//! }
//! ```

mod effects;
mod functions;
mod generic;
mod hashes;
mod keys;
mod record;
mod scripting;
mod server;
mod spec;
mod strings;
mod table;
#[cfg(test)]
mod tests;

pub use functions::{
    EngineStats, ExistingLibraries, Function, FunctionStats, Functions, Library, RunningFunction,
};
pub use generic::{Command, Generic};
pub use hashes::Hashes;
pub use keys::{ExpireIf, ExpireTime, Expiry, Keys, ScanOptions, Ttl};
pub use scripting::{Call, Scripting};
pub use server::Server;
pub use spec::{KeySpec, Spec};
pub use strings::{SetOptions, Strings};

use crate::{reply::FromReply, request::Request};

/// All that it takes to call commands by their names: `use unfazed_core::commands::prelude::*`.
pub mod prelude {
    pub use super::{
        ExistingLibraries, ExpireIf, ExpireTime, Expiry, Functions, Generic, Hashes, Keys,
        ScanOptions, Scripting, Server, SetOptions, Strings, Ttl,
    };
}

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

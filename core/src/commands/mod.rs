//! The commands: one definition of each, whoever runs it.
//!
//! A table says what each command is: which arguments are its keys, what running it twice does. The
//! traits, one for a group, give a command its Rust signature:
//!
//! - [`Strings`]: values, counters, bits
//! - [`Bitmaps`]: more about bits
//! - [`Hashes`]: fields under a key; [`HashExpiry`]: fields that expire by themselves
//! - [`Lists`]: elements in an order
//! - [`Sets`]: members, each once
//! - [`SortedSets`]: members with scores
//! - [`Streams`]: entries, and groups of consumers
//! - [`Geo`]: places; [`HyperLogLogs`]: how many different things there were
//! - [`Keys`]: deleting, expiring, renaming, finding keys of any type
//! - [`Scripting`]: scripts that run on the server
//! - [`Functions`]: code that is loaded into the server
//! - [`PubSub`]: publishing, and what a server says of its subscribers
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
//! # mod unfazed_tokio { pub use unfazed_core as core; }
//! use unfazed_tokio::core::commands::{Run, prelude::*};
//!
//! fn count_visit<R: Run>(client: &R, page: &str) -> R::Pending<i64> {
//!     client.hincrby("visits", page, 1)
//! }
//! ```

mod bitmaps;
mod blocking;
mod effects;
mod functions;
mod generic;
mod geo;
mod hash_expiry;
mod hashes;
mod hyperloglogs;
mod keys;
mod lists;
mod pubsub;
mod record;
mod scripting;
mod server;
mod sessions;
mod sets;
mod sorted_sets;
mod spec;
mod streams;
mod strings;
mod table;
#[cfg(test)]
mod tests;

pub use bitmaps::{BitField, BitInt, BitOffset, BitOperation, BitPosition, Bitmaps, Overflow};
pub use blocking::Blocking;
pub use functions::{
    EngineStats, ExistingLibraries, Function, FunctionStats, Functions, Library, RunningFunction,
};
pub use generic::{Command, Generic};
pub use geo::{Area, FoundPlace, Geo, GeoAddOptions, GeoPoint, GeoSearch, GeoUnit};
pub use hash_expiry::{FieldExpiry, FieldPersisted, HSetExOptions, HashExpiry};
pub use hashes::Hashes;
pub use hyperloglogs::HyperLogLogs;
pub use keys::{ExpireIf, ExpireTime, Expiry, Keys, ScanOptions, Ttl};
pub use lists::{Inserted, Lists, LposOptions, Side};
pub use pubsub::PubSub;
pub use scripting::{Call, Scripting};
pub use server::Server;
pub use sessions::Sessions;
pub use sets::Sets;
pub use sorted_sets::{
    Aggregate, Combine, LexRange, ScoreEnd, Scored, SortedSets, ZAddOptions, ZRange,
};
pub(crate) use spec::{Fan, Join, Routing};
pub use spec::{KeySpec, Spec};
pub use streams::{
    ClaimOptions, Claimed, ClaimedIds, ConsumerDetails, ConsumerInfo, EntryDeletion, GroupDetails,
    GroupInfo, GroupOptions, GroupRead, GroupStart, ParseStreamIdError, PendingDelivery,
    PendingEntry, PendingFilter, PendingSummary, ReadFrom, ReadOptions, References, StreamDetails,
    StreamEntry, StreamId, StreamInfo, StreamRead, Streams, Trim, XAddOptions,
};
pub use strings::{SetOptions, Strings};

use crate::{reply::FromReply, request::Request};

/// All that it takes to call commands by their names: `use unfazed_core::commands::prelude::*`.
pub mod prelude {
    pub use super::{
        Aggregate, Area, BitField, BitInt, BitOffset, BitOperation, BitPosition, Bitmaps, Blocking,
        ClaimOptions, Combine, ExistingLibraries, ExpireIf, ExpireTime, Expiry, FieldExpiry,
        FieldPersisted, Functions, Generic, Geo, GeoAddOptions, GeoPoint, GeoSearch, GeoUnit,
        GroupOptions, GroupRead, GroupStart, HSetExOptions, HashExpiry, Hashes, HyperLogLogs,
        Inserted, Keys, Lists, LposOptions, Overflow, PendingFilter, PubSub, ReadFrom, ReadOptions,
        References, ScanOptions, ScoreEnd, Scripting, Server, Sessions, SetOptions, Sets, Side,
        SortedSets, StreamEntry, StreamId, Streams, Strings, Trim, Ttl, XAddOptions, ZAddOptions,
        ZRange,
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

//! Which keys may be answered without a server, and how.

use std::time::Duration;

/// How old a remembered value may be and still be served, unless said otherwise: 5 minutes.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(300);

/// What becomes of writes that were taken in memory when the server is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// They are forgotten.
    Discard,
    /// Each key they touched is deleted on the server, which also drops what others wrote to it
    /// meanwhile: right for caches.
    Invalidate,
}

/// What a key pattern does while its server is judged down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Requests wait for the server within their deadline.
    Wait,
    /// Requests fail at once with a typed error.
    Fail,
    /// Reads answer as if the key were absent; writes are dropped, and the key is deleted on the
    /// server when it is back.
    Miss,
    /// Reads and writes are answered from memory.
    Memory {
        /// What becomes of the writes.
        policy: Policy,
        /// How old a remembered value may be and still be served.
        max_age: Duration,
    },
}

/// A rule: the keys that match `pattern` behave as `mode` says while the server is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub(crate) pattern: String,
    pub(crate) mode: Mode,
}

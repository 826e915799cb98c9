//! The bounds: everything that could grow has one.

use std::time::Duration;

use crate::fallback::SharedStore as Store;

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;

/// What a reply may measure. A reply beyond a limit costs its connection, never the process. Of two
/// limits that apply the smaller one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplyLimits {
    /// The longest bulk string, in bytes; default 512 MiB, the server's own `proto-max-bulk-len`.
    pub bulk_max: usize,
    /// How deep aggregates may be nested; default 128, far more than any command gives.
    pub depth_max: usize,
    /// How many elements one aggregate may have; default 2²⁴.
    pub elements_max: usize,
    /// The longest line (simple string, error, number, header), in bytes; default 64 KiB.
    pub line_max: usize,
    /// The longest reply in all, in bytes; default 1 GiB − 1, which is also the most.
    pub reply_max: usize,
}

impl ReplyLimits {
    /// The most that `reply_max` can be.
    pub(super) const REPLY_MAX: usize = GIB - 1;
    /// The most that `elements_max` can be: the shortest element takes three bytes.
    pub(super) const ELEMENTS_MAX: usize = Self::REPLY_MAX / 3;
}

impl Default for ReplyLimits {
    fn default() -> Self {
        ReplyLimits {
            bulk_max: 512 * MIB,
            depth_max: 128,
            elements_max: 1 << 24,
            line_max: 64 * KIB,
            reply_max: Self::REPLY_MAX,
        }
    }
}

/// What may be kept in memory for the time without a server, and what `memory://` may hold.
///
/// Remembered values and what is written without a server share the first two bounds. Where there is
/// no room, remembered values go first, the least recently used before the others; what was written
/// is never dropped, so that then a write is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimits {
    /// How many values there may be; default 10,000. While degraded twice as many keys may have been
    /// written or deleted.
    pub entries_max: usize,
    /// How many bytes they may take, keys included; default 100 MiB.
    pub bytes_max: usize,
    /// The largest server value that is remembered for the time without a server, in bytes;
    /// default 64 KiB: larger ones cost more than they are likely to save.
    pub shadow_value_max: usize,
    /// How many keys may wait for recovery to write them to the server; default 10,000.
    pub journal_entries_max: usize,
    /// How many bytes those may take, with what is to be added to them; default 16 MiB.
    pub journal_bytes_max: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        MemoryLimits {
            entries_max: 10_000,
            bytes_max: 100 * MIB,
            shadow_value_max: 64 * KIB,
            journal_entries_max: 10_000,
            journal_bytes_max: 16 * MIB,
        }
    }
}

/// What subscriptions may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionLimits {
    /// How many streams of messages there may be, and how many channels and patterns they may want in
    /// all, one that several want counted for each; default 100,000. One more is an error.
    pub subscriptions_max: usize,
    /// How many messages may wait for the reader of one stream; default 65,536.
    pub messages_max: usize,
    /// How many bytes these may have, names and payloads; default 16 MiB.
    pub bytes_max: usize,
}

impl Default for SubscriptionLimits {
    fn default() -> Self {
        SubscriptionLimits { subscriptions_max: 100_000, messages_max: 65_536, bytes_max: 16 * MIB }
    }
}

/// The connections that requests get for themselves: commands that wait at the server, optimistic
/// transactions, and whoever asks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLimits {
    /// How many of them there may be, beside the one that everybody shares; default 64. In a cluster so many
    /// to each node, so that nobody waits for what another node's users hold. Who needs a further one waits
    /// for it within his deadline.
    pub leases_max: usize,
    /// How long one that nobody uses is kept; default 10 s.
    pub idle_after: Duration,
}

impl Default for LeaseLimits {
    fn default() -> Self {
        LeaseLimits { leases_max: 64, idle_after: Duration::from_secs(10) }
    }
}

/// What a store may hold, entries and bytes, as far as it can be said in a configuration: no more than
/// a size can be.
pub(super) fn of_store<A>(store: &Store<A>) -> (usize, usize) {
    let bounds = store.bounds();
    let size = |bound: usize| bound.min(isize::MAX as usize);
    (size(bounds.entries_max), size(bounds.bytes_max))
}

/// What may wait inside one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// How many requests may be under way or waiting; default 65,536. A further one waits for room
    /// within its deadline.
    pub requests_max: usize,
    /// How many bytes of encoded requests may be kept; default 64 MiB.
    pub bytes_max: usize,
    /// How many events may wait for whoever reads them; default 1,024. Then the oldest is dropped.
    pub events_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits { requests_max: 65_536, bytes_max: 64 * MIB, events_max: 1_024 }
    }
}

//! Time, handed in by whoever has a clock.

use std::time::{Duration, Instant, SystemTime};

/// So long that nobody sees its end, and every clock can hold it: about a hundred years.
const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// One reading of both clocks.
///
/// The core never reads a clock. Each call that needs the time takes a `Now`: `instant` for
/// time limits and delays, `unix` (the time since 1970-01-01 00:00 UTC) for what is said in
/// calendar time, such as EXPIREAT, TIME and the validity of certificates. The two may drift apart: the
/// wall clock jumps, the monotonic one does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock, as the time since the Unix epoch.
    pub unix: Duration,
}

impl Now {
    /// Makes a `Now` out of what the standard library's two clocks say.
    ///
    /// A wall clock that stands before 1970 reads as 1970.
    #[must_use]
    pub fn new(instant: Instant, wall: SystemTime) -> Self {
        let unix = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { instant, unix }
    }

    /// The instant `span` from now. A span is anything that a caller may have named, `Duration::MAX`
    /// for "no limit" among it, so one that no clock can hold counts as [`SPAN_MAX`].
    pub(crate) fn after(self, span: Duration) -> Instant {
        self.instant + span.min(SPAN_MAX)
    }

    /// The wall clock in whole milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }
}

impl std::ops::Add<Duration> for Now {
    type Output = Now;

    /// Both clocks, `span` later.
    fn add(self, span: Duration) -> Now {
        Now { instant: self.instant + span, unix: self.unix + span }
    }
}

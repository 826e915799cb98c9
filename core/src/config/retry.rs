//! How often, after which delay, and what is tried again: requests and dials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When and how often a request is sent again.
///
/// Everything stays within the request's deadline: what would begin after it is not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// How often a request is tried at most, the first time included; default 10, which the
    /// default backoff stretches over about the length of a fail-over. At most 65,535.
    pub attempts_max: u32,
    /// How many redirects (MOVED, ASK) one request follows at most; default 16, enough for a slot that
    /// changes hands under it several times.
    pub redirects_max: u32,
    /// The delay before a retry, with full jitter: anything from zero to this. Default 50 ms
    /// doubling up to 3 s.
    pub backoff: Backoff,
    /// The caller's own schedule in place of `backoff`; default none.
    pub schedule: Option<Schedule>,
    /// What is tried again by itself although it may already have run; default
    /// [`MaybeRetry::Repeatable`].
    pub maybe: MaybeRetry,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts_max: 10,
            redirects_max: 16,
            backoff: Backoff { base: Duration::from_millis(50), max: Duration::from_secs(3) },
            schedule: None,
            maybe: MaybeRetry::default(),
        }
    }
}

/// When a lost connection is dialled again.
///
/// Dialling never ends, whatever the count of failures: one dial per endpoint at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dial {
    /// The delay between two dials of one endpoint; default 50 ms doubling up to 500 ms, so that a
    /// server that is back is found within half a second.
    pub backoff: Backoff,
    /// How far a delay strays to either side, in percent; default 20, so that many clients that
    /// lost one server do not come back in step.
    pub jitter_percent: u32,
    /// How many failed dials in a row are the end of patience: with that many the breaker trips.
    /// Default none: the breaker's other rules decide. 0 and 1 both mean the first failed dial.
    pub failed_dials_max: Option<u32>,
}

impl Default for Dial {
    fn default() -> Self {
        Dial {
            backoff: Backoff { base: Duration::from_millis(50), max: Duration::from_millis(500) },
            jitter_percent: 20,
            failed_dials_max: None,
        }
    }
}

/// A delay that doubles with each failure up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` earlier failures, before jitter: `min(max, base · 2^failures)`.
    ///
    /// ```
    /// use std::time::Duration;
    /// # mod unfazed_tokio { pub use unfazed_core as core; }
    /// use unfazed_tokio::core::config::Backoff;
    ///
    /// let backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_secs(3) };
    /// assert_eq!(backoff.delay(0), Duration::from_millis(50));
    /// assert_eq!(backoff.delay(3), Duration::from_millis(400));
    /// assert_eq!(backoff.delay(1000), Duration::from_secs(3));
    /// assert_eq!(Backoff { base: Duration::ZERO, ..backoff }.delay(1000), Duration::ZERO);
    /// ```
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO;
        }
        let doubled = 1u32.checked_shl(failures).and_then(|times| self.base.checked_mul(times));
        doubled.map_or(self.max, |delay| delay.min(self.max))
    }
}

/// A retry schedule given by the caller: a pure function from the number of attempts already made
/// (1 after the first) to the delay before the next one, which no jitter is added to.
///
/// Two schedules are equal if they are clones of one another.
#[derive(Clone)]
pub struct Schedule(Arc<ScheduleFn>);

type ScheduleFn = dyn Fn(u32) -> Duration + Send + Sync;

impl Schedule {
    /// Wraps `delay`. It must give the same answer to the same number: a client asks it once for
    /// each number, when it is made.
    pub fn new(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Schedule(Arc::new(delay))
    }

    /// The delay before the next attempt, after `attempts` of them.
    #[must_use]
    pub fn delay(&self, attempts: u32) -> Duration {
        (self.0)(attempts)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule(..)")
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Schedule {}

/// Which commands are sent again by themselves although they *may* already have run: they left in
/// full and no answer came.
///
/// What certainly did not run may always be sent again, whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaybeRetry {
    /// None: such a request ends as *maybe executed*. Also closes the window in which a command
    /// written to a server that hangs runs later than its retry.
    Never,
    /// Reads, and writes whose second run leaves the same state *and* gives the same reply: plain
    /// SET, SETEX, MSET, HMSET. The default: a caller cannot tell the difference.
    #[default]
    Repeatable,
    /// Also writes whose second run leaves the same state and may give another reply: DEL, SADD,
    /// HSET, EXPIRE.
    Idempotent,
    /// Every command: INCR may count twice.
    Always,
}

impl MaybeRetry {
    /// Each choice, and the word for it in a URL.
    pub(super) const WORDS: &[(&str, MaybeRetry)] = &[
        ("never", MaybeRetry::Never),
        ("repeatable", MaybeRetry::Repeatable),
        ("idempotent", MaybeRetry::Idempotent),
        ("always", MaybeRetry::Always),
    ];
}

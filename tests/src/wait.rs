//! Waiting for what another thread or process does.

use std::thread;
use std::time::{Duration, Instant};

/// How long to sleep between two looks: short beside anything waited for, long beside a look.
const INTERVAL: Duration = Duration::from_millis(2);

/// Calls `probe` until it returns something, and returns that. `probe` is called at least once,
/// and once more after `limit` has passed.
///
/// # Panics
///
/// When `limit` passes first; the message says `what` was waited for, so write it as the end of
/// the sentence "waited for …".
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        // The clock is read first: a slow machine must not turn a late success into a failure.
        let late = start.elapsed() >= limit;
        if let Some(found) = probe() {
            return found;
        }
        assert!(!late, "waited {limit:?} in vain for {what}");
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_probe_finds() {
        let mut looks = 0;
        let found = eventually("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!((found, looks), ("here", 3));
    }

    #[test]
    fn looks_at_least_once() {
        assert_eq!(eventually("nothing", Duration::ZERO, || Some(1)), 1);
    }

    #[test]
    #[should_panic(expected = "waited 10ms in vain for the cows to come home")]
    fn says_what_it_waited_for() {
        eventually::<()>("the cows to come home", Duration::from_millis(10), || None);
    }
}

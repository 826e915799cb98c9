//! The one source of randomness: everything random is drawn from the engine's seed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). It jitters
/// delays and derives keys for hashers; nothing secret hangs on it.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or `None` where there is none.
    pub(crate) fn below(&mut self, end: usize) -> Option<usize> {
        let scaled = (u128::from(self.next()) * end as u128) >> 64;
        usize::try_from(scaled).ok().filter(|_| end > 0)
    }

    /// `span`, give or take so many per cent of it.
    pub(crate) fn around(&mut self, span: Duration, percent: u32) -> Duration {
        self.percent_of(span, 100_u32.saturating_sub(percent), 100 + percent)
    }

    /// A share of `span` between `low` and `high` per cent of it.
    pub(crate) fn percent_of(&mut self, span: Duration, low: u32, high: u32) -> Duration {
        let steps = 1_000 * u64::from(high - low) + 1;
        let milli_percent = 1_000 * u64::from(low) + self.next() % steps;
        let nanos = span.as_nanos() * u128::from(milli_percent) / 100_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

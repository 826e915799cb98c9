//! The one source of everything that is drawn by lot.

use std::time::Duration;

/// Either an endless stream that follows from a seed, or a finite slice of bytes: so that seeds, tests
/// of properties and fuzzers can all drive the same world.
#[derive(Clone, Debug)]
pub struct Entropy(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Seed(u64),
    Bytes { bytes: Vec<u8>, at: usize },
}

impl Entropy {
    /// Everything follows from `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        // Neighbouring seeds begin far apart.
        Entropy(Kind::Seed(mix(seed.wrapping_add(1))))
    }

    /// Everything follows from `bytes`; when they are used up, each draw gives its lowest value, which
    /// is always the quietest one: no fault, no delay.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Entropy(Kind::Bytes { bytes: bytes.to_vec(), at: 0 })
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        match &mut self.0 {
            Kind::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(*state)
            }
            Kind::Bytes { bytes, at } => {
                let mut word = [0; 8];
                for byte in &mut word {
                    *byte = bytes.get(*at).copied().unwrap_or(0);
                    *at += 1;
                }
                u64::from_le_bytes(word)
            }
        }
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        match &mut self.0 {
            _ if end <= 1 => 0,
            // One byte is enough for a small choice; a slice then lasts longer.
            Kind::Bytes { bytes, at } if end <= 256 => {
                let byte = bytes.get(*at).copied().unwrap_or(0);
                *at += 1;
                u64::from(byte) % end
            }
            _ => self.draw() % end,
        }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that happens `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        // The quietest value stands for "no".
        self.below(100) >= 100 - percent.min(100)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A span of `low` to `high` microseconds.
    pub fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low, high))
    }

    /// A span of `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        self.micros(low * 1_000, high * 1_000)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_used_up_bytes_draw_what_is_quietest() {
        let numbers = |seed| {
            let mut entropy = Entropy::from_seed(seed);
            (0..9).map(|_| entropy.draw()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(3), numbers(3));
        assert_ne!(numbers(3), numbers(4));
        let mut bytes = Entropy::from_bytes(&[7]);
        assert_eq!(bytes.below(5), 2);
        assert!(!bytes.chance(99));
        assert_eq!(bytes.between(4, 1_000_000), 4);
    }
}

//! The one source of everything that is drawn by lot.

use std::{cell::RefCell, rc::Rc, time::Duration};

/// Either an endless stream that follows from a seed, or a finite slice of bytes: so that seeds, tests
/// of properties and fuzzers can all drive the same world.
///
/// What a seed draws can be recorded as the bytes that would have drawn the same. A story that was told
/// from a seed can so be made shorter by leaving bytes out.
#[derive(Clone, Debug)]
pub struct Entropy {
    source: Source,
    tape: Option<Tape>,
}

/// The bytes of what was drawn so far; also after whoever drew it has panicked.
pub type Tape = Rc<RefCell<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Source {
    Seed(u64),
    Bytes { bytes: Vec<u8>, at: usize },
}

impl Entropy {
    /// Everything follows from `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        // Neighbouring seeds begin far apart.
        Entropy { source: Source::Seed(mix(seed.wrapping_add(1))), tape: None }
    }

    /// Everything follows from `bytes`; when they are used up, each draw gives its lowest value, which
    /// is always the quietest one: no fault, no delay.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Entropy { source: Source::Bytes { bytes: bytes.to_vec(), at: 0 }, tape: None }
    }

    /// The same, and what is drawn is recorded.
    #[must_use]
    pub fn recorded(self) -> (Self, Tape) {
        let tape = Tape::default();
        (Entropy { tape: Some(tape.clone()), ..self }, tape)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        let word = match &mut self.source {
            Source::Seed(_) => self.source.next(),
            Source::Bytes { bytes, at } => {
                let mut word = [0; 8];
                let left = bytes.get(*at..).unwrap_or_default();
                let count = left.len().min(word.len());
                word[..count].copy_from_slice(&left[..count]);
                *at += word.len();
                u64::from_le_bytes(word)
            }
        };
        if let Some(tape) = &self.tape {
            tape.borrow_mut().extend(word.to_le_bytes());
        }
        word
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        match end {
            0 | 1 => 0,
            // One byte is enough for a small choice; a slice then lasts longer.
            2..=256 => {
                let number = match &mut self.source {
                    Source::Seed(_) => self.source.next() % end,
                    Source::Bytes { bytes, at } => {
                        let byte = bytes.get(*at).copied().unwrap_or(0);
                        *at += 1;
                        u64::from(byte) % end
                    }
                };
                if let Some(tape) = &self.tape {
                    tape.borrow_mut().push(number as u8);
                }
                number
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

impl Source {
    /// The next number that follows from a seed.
    fn next(&mut self) -> u64 {
        let Source::Seed(state) = self else { return 0 };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(*state)
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

    #[test]
    fn what_a_seed_draws_can_be_drawn_again_from_the_bytes_that_were_recorded() {
        let story = |entropy: &mut Entropy| {
            (2..400).map(|end| (entropy.below(end), entropy.draw())).collect::<Vec<_>>()
        };
        let (mut seeded, tape) = Entropy::from_seed(3).recorded();
        let told = story(&mut seeded);
        assert_eq!(told, story(&mut Entropy::from_bytes(&tape.borrow())));
        assert_eq!(told, story(&mut Entropy::from_seed(3)));
    }
}

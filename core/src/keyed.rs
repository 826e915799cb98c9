//! Hashing of what users and servers name: keyed, so that nobody can choose collisions.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Makes hashers that are keyed from the engine's seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(u64);

impl Keyed {
    pub(crate) fn new(seed: u64) -> Self {
        Keyed(seed)
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, !self.0)
    }
}

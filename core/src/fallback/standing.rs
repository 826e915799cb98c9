//! How one command behaves while its server is judged down, in a byte.

use std::cmp::Ordering;

use super::{Mode, Policy};

/// What is left of the modes of a command's keys once it is known what the command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Fail,
    /// Remembered values are read, and nothing is written.
    StaleReads,
    Wait,
    /// It waits, and some of its keys may be written in memory: it keeps its place among what is
    /// written there.
    Mixed,
    Miss,
    /// All of its keys are under one policy.
    Memory(Policy),
    /// Its keys are under several policies.
    MemoryOfSeveral,
}

impl Standing {
    /// Whether only the server can answer.
    #[inline]
    pub(crate) fn waits(self) -> bool {
        matches!(self, Standing::Wait | Standing::Mixed)
    }

    /// The strictest of the modes of a command's keys: the less of an answer is made up, the
    /// stricter. Where nothing may be written in memory, a write fails. `None` where there are none.
    pub(super) fn of(modes: impl Iterator<Item = Mode>, writes: bool) -> Option<Standing> {
        let (mut strictest, mut in_memory) = (None, false);
        for mode in modes {
            in_memory |= mode.takes_writes();
            let one = Standing::from(mode);
            strictest = Some(strictest.map_or(one, |before: Standing| before.and(one, writes)));
        }
        strictest.map(|standing| match standing {
            Standing::Wait if in_memory => Standing::Mixed,
            other => other,
        })
    }

    fn and(self, other: Standing, writes: bool) -> Standing {
        match self.rank(writes).cmp(&other.rank(writes)) {
            Ordering::Less => self,
            Ordering::Greater => other,
            Ordering::Equal if self == other => self,
            Ordering::Equal => Standing::MemoryOfSeveral,
        }
    }

    fn rank(self, writes: bool) -> u8 {
        match self {
            Standing::Fail => 0,
            Standing::StaleReads if writes => 1,
            Standing::Wait | Standing::Mixed => 2,
            Standing::StaleReads => 3,
            Standing::Miss => 4,
            Standing::Memory(_) | Standing::MemoryOfSeveral => 5,
        }
    }
}

impl From<Mode> for Standing {
    #[inline]
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Wait => Standing::Wait,
            Mode::Fail => Standing::Fail,
            Mode::Miss => Standing::Miss,
            Mode::StaleReads { .. } => Standing::StaleReads,
            Mode::Memory { policy, .. } => Standing::Memory(policy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::Fallback;
    use std::time::Duration;

    #[test]
    fn a_command_is_as_strict_as_the_strictest_of_its_keys() {
        let wait = Fallback::wait("*").mode();
        let fail = Fallback::fail("*").mode();
        let miss = Fallback::miss("*").mode();
        let stale = Fallback::stale_reads("*", Duration::ZERO).mode();
        let invalidate = Fallback::memory("*", Policy::Invalidate).mode();
        let merge = Fallback::memory("*", Policy::MergeDelta).mode();
        let table = [
            // Modes, what a read does, what a write does.
            (vec![wait, fail], Standing::Fail, Standing::Fail),
            (vec![miss, wait], Standing::Mixed, Standing::Mixed),
            (vec![invalidate, wait, wait], Standing::Mixed, Standing::Mixed),
            (vec![wait, stale], Standing::Wait, Standing::StaleReads),
            (vec![wait, merge, stale], Standing::Mixed, Standing::StaleReads),
            (vec![stale, fail], Standing::Fail, Standing::Fail),
            (vec![stale, miss], Standing::StaleReads, Standing::StaleReads),
            (vec![invalidate, miss], Standing::Miss, Standing::Miss),
            (
                vec![merge, merge],
                Standing::Memory(Policy::MergeDelta),
                Standing::Memory(Policy::MergeDelta),
            ),
            (vec![merge, invalidate, merge], Standing::MemoryOfSeveral, Standing::MemoryOfSeveral),
        ];
        for (modes, read, write) in table {
            for modes in [modes.clone(), modes.into_iter().rev().collect()] {
                assert_eq!(Standing::of(modes.iter().copied(), false), Some(read), "{modes:?}");
                assert_eq!(Standing::of(modes.iter().copied(), true), Some(write), "{modes:?}");
            }
        }
        assert_eq!(Standing::of(std::iter::empty(), true), None);
    }
}

//! Who serves which slots of a cluster, as its nodes tell it.
//!
//! Pure: replies go in, a [`Layout`] comes out. `parse` reads CLUSTER SHARDS and CLUSTER SLOTS, `address`
//! what MOVED and ASK name; every address passes the client's [`AddressMap`](crate::config::AddressMap).
//! Whom to ask and when is decided in `engine/cluster`.

mod address;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub(crate) use address::{Redirect, RedirectKind, normal};
pub(crate) use parse::{Asked, parse_shards, parse_slots};

use crate::config::Endpoint;

/// One shard: who serves its slots, and who could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// `None` where nobody says how it is reached.
    pub(crate) master: Option<Endpoint>,
    pub(crate) replicas: Vec<Endpoint>,
    /// The first and the last slot of each range.
    pub(crate) ranges: Vec<(u16, u16)>,
}

/// All that a node says of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In the order of their first slots; those without any come last.
    pub(crate) shards: Vec<Shard>,
}

/// A reply that is not what it should be; the text says in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Layout {
    /// Puts shards in order, so that two nodes that say the same give equal layouts.
    fn new(mut shards: Vec<Shard>) -> Result<Self, Malformed> {
        for shard in &mut shards {
            shard.ranges.sort_unstable();
            shard.replicas.sort_unstable();
            shard.replicas.dedup();
        }
        let key = |shard: &Shard| {
            let first = shard.ranges.first().copied().unwrap_or((u16::MAX, u16::MAX));
            (first, shard.master.clone())
        };
        shards.sort_by_key(key);
        let mut ranges: Vec<_> = shards.iter().flat_map(|shard| shard.ranges.clone()).collect();
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(Malformed("a slot that belongs to two shards"));
        }
        Ok(Layout { shards })
    }

    /// Every node that it names.
    pub(crate) fn endpoints(&self) -> BTreeSet<&Endpoint> {
        self.shards.iter().flat_map(|shard| shard.master.iter().chain(&shard.replicas)).collect()
    }

    /// How many slots nobody serves.
    #[cfg(test)]
    pub(crate) fn uncovered(&self) -> usize {
        let covered = self.shards.iter().filter(|shard| shard.master.is_some());
        let ranges = covered.flat_map(|shard| &shard.ranges);
        let slots: usize = ranges.map(|(first, last)| usize::from(last - first) + 1).sum();
        usize::from(crate::slot::SLOTS) - slots
    }

    /// What most of several nodes say; where no answer is given more often than any other, the first of
    /// these that is not what was known, because somebody had a reason to ask.
    pub(crate) fn agreed(answers: &[Layout], known: Option<&Layout>) -> Option<Layout> {
        let votes = |layout: &Layout| answers.iter().filter(|other| *other == layout).count();
        let most = answers.iter().map(votes).max()?;
        let mut leading = answers.iter().filter(|layout| votes(layout) == most);
        let news = leading.clone().find(|layout| Some(*layout) != known);
        news.or_else(|| leading.next()).cloned()
    }
}

//! Who serves which slots of a cluster, as its nodes tell it.
//!
//! Pure: replies go in, a [`Layout`] comes out. `parse` reads CLUSTER SHARDS and CLUSTER SLOTS, `address`
//! what MOVED and ASK name; every address passes the client's [`AddressMap`](crate::config::AddressMap).
//! Whom to ask and when is decided in `engine/cluster`.

mod address;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use address::{Redirect, RedirectKind, normal};
pub(crate) use parse::{Asked, parse_shards, parse_slots};

use crate::{config::Endpoint, slot::SLOTS};

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

/// What one node says of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) by: Endpoint,
    pub(crate) layout: Layout,
}

/// A reply that is not what it should be; the text says in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Layout {
    /// Puts shards in order, so that two nodes that say the same give equal layouts.
    fn new(shards: Vec<Shard>) -> Result<Self, Malformed> {
        let layout = Layout { shards }.in_order();
        let mut ranges: Vec<_> =
            layout.shards.iter().flat_map(|shard| shard.ranges.clone()).collect();
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(Malformed("a slot that belongs to two shards"));
        }
        Ok(layout)
    }

    fn in_order(mut self) -> Self {
        for shard in &mut self.shards {
            shard.ranges.sort_unstable();
            shard.replicas.sort_unstable();
            shard.replicas.dedup();
        }
        let key = |shard: &Shard| {
            let first = shard.ranges.first().copied().unwrap_or((u16::MAX, u16::MAX));
            (first, shard.master.clone())
        };
        self.shards.sort_by_key(key);
        self
    }

    /// Every node that it names.
    pub(crate) fn endpoints(&self) -> BTreeSet<&Endpoint> {
        self.shards.iter().flat_map(|shard| shard.master.iter().chain(&shard.replicas)).collect()
    }

    /// The master of each slot, where there is one that can be reached.
    fn masters(&self) -> Vec<Option<&Endpoint>> {
        let mut masters = vec![None; usize::from(SLOTS)];
        for shard in &self.shards {
            for (first, last) in &shard.ranges {
                masters[usize::from(*first)..=usize::from(*last)].fill(shard.master.as_ref());
            }
        }
        masters
    }

    /// The slots of which it does not say who serves them.
    pub(crate) fn gaps(&self) -> Vec<u16> {
        let masters = self.masters();
        (0..SLOTS).filter(|slot| masters[usize::from(*slot)].is_none()).collect()
    }

    /// What most of several nodes say; where no answer is given more often than any other, the first of
    /// these that is not what was known, because somebody had a reason to ask. Slots that it leaves out are
    /// given to whom others name.
    pub(crate) fn agreed(answers: &[Said], known: Option<&Layout>) -> Option<Layout> {
        let votes =
            |said: &Said| answers.iter().filter(|other| other.layout == said.layout).count();
        let most = answers.iter().map(votes).max()?;
        let mut leading = answers.iter().filter(|said| votes(said) == most);
        let news = leading.clone().find(|said| Some(&said.layout) != known);
        let agreed = news.or_else(|| leading.next())?;
        Some(agreed.layout.clone().filled(answers, known))
    }

    /// Gives slots that it leaves out to whoever is said to serve them. Silence is no claim: a node may have
    /// heard that a master gave its slots up and not yet who has them, or not know how that one is reached.
    /// Of several that are named it is who says so himself, then whom most name, then who is news.
    pub(crate) fn filled(mut self, answers: &[Said], known: Option<&Layout>) -> Layout {
        let gaps = self.gaps();
        if gaps.is_empty() {
            return self;
        }
        let said: Vec<_> = answers.iter().map(|said| (&said.by, said.layout.masters())).collect();
        let known = known.map(Layout::masters);
        let mut claims: BTreeMap<&Endpoint, Vec<u16>> = BTreeMap::new();
        for slot in gaps {
            let at = usize::from(slot);
            let named = || said.iter().filter_map(|(by, masters)| Some((*by, masters[at]?)));
            let weight = |(by, master): &(&Endpoint, &Endpoint)| {
                let votes = named().filter(|(_, other)| other == master).count();
                let is_news = known.as_ref().is_none_or(|known| known[at] != Some(*master));
                (by == master, votes, is_news)
            };
            // Of equals the first.
            let (mut others, mut best) = (named(), None);
            for claim in others.by_ref() {
                if best.as_ref().is_none_or(|best| weight(&claim) > weight(best)) {
                    best = Some(claim);
                }
            }
            if let Some((_, master)) = best {
                claims.entry(master).or_default().push(slot);
            }
        }
        for (master, slots) in claims {
            for shard in self.shards.iter_mut().filter(|shard| shard.master.is_none()) {
                shard.ranges = without(&shard.ranges, &slots);
            }
            let is_its = |shard: &&mut Shard| shard.master.as_ref() == Some(master);
            match self.shards.iter_mut().find(is_its) {
                Some(shard) => shard.ranges.extend(ranges_of(slots)),
                None => {
                    let mut all = answers.iter().flat_map(|said| &said.layout.shards);
                    let theirs = all.find(|shard| shard.master.as_ref() == Some(master));
                    self.shards.push(Shard {
                        master: Some(master.clone()),
                        replicas: theirs.map(|shard| shard.replicas.clone()).unwrap_or_default(),
                        ranges: ranges_of(slots),
                    });
                }
            }
        }
        self.in_order()
    }
}

/// The ranges that these slots make up, which are in order.
pub(crate) fn ranges_of(slots: Vec<u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// What is left of ranges without some slots, which are in order.
fn without(ranges: &[(u16, u16)], slots: &[u16]) -> Vec<(u16, u16)> {
    let all = ranges.iter().flat_map(|(first, last)| *first..=*last);
    ranges_of(all.filter(|slot| slots.binary_search(slot).is_err()).collect())
}

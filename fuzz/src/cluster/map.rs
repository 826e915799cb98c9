//! Who serves which slots of a modelled cluster, as one of its nodes sees it.

use std::collections::BTreeMap;

use unfazed_core::slot::SLOTS;

/// What a node is, as one of them sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does not belong to the cluster.
    Stranger,
    /// It takes writes, if it has slots.
    Master,
    /// It follows the master of this number.
    Replica(usize),
}

/// Who serves what. Nodes are told apart by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Who serves the slots from each of these on, up to the next; nobody where there is none.
    ranges: BTreeMap<u16, Option<usize>>,
    /// What each node is.
    pub roles: Vec<Role>,
    /// At which port each node is reached.
    pub ports: Vec<u16>,
    /// How late each node has taken slots over: whoever did so last has the highest.
    pub epochs: Vec<u64>,
}

impl Map {
    /// One in which nobody serves anything.
    #[must_use]
    pub fn new(roles: Vec<Role>, ports: Vec<u16>) -> Self {
        let epochs = (0..roles.len() as u64).collect();
        Map { ranges: BTreeMap::from([(0, None)]), roles, ports, epochs }
    }

    /// The node that serves a slot.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        self.ranges.range(..=slot).next_back().and_then(|(_, owner)| *owner)
    }

    /// Slots from `first` to `last` are served by another node from now on.
    pub fn give(&mut self, first: u16, last: u16, to: Option<usize>) {
        let after = self.owner(last.saturating_add(1));
        self.ranges.retain(|from, _| !(first..=last).contains(from));
        self.ranges.insert(first, to);
        if last + 1 < SLOTS {
            self.ranges.entry(last + 1).or_insert(after);
        }
    }

    /// Slots from `first` to `last` are taken over by another node.
    pub fn hand_over(&mut self, first: u16, last: u16, to: usize) {
        self.give(first, last, Some(to));
        let others = self.epochs.iter().enumerate().filter(|(node, _)| *node != to);
        let highest = others.map(|(_, epoch)| *epoch).max().unwrap_or(0);
        if self.epochs[to] <= highest {
            self.epochs[to] = highest + 1;
        }
    }

    /// All that one node serves goes to another, which was elected for that.
    pub fn give_all(&mut self, from: usize, to: usize) {
        self.epochs[to] = self.epochs.iter().max().map_or(0, |highest| highest + 1);
        for owner in self.ranges.values_mut().filter(|owner| **owner == Some(from)) {
            *owner = Some(to);
        }
    }

    /// Each range of slots and who serves it, in order; neighbours of one owner in one piece.
    #[must_use]
    pub fn ranges(&self) -> Vec<(u16, u16, usize)> {
        let ends = self.ranges.keys().skip(1).map(|next| next - 1).chain([SLOTS - 1]);
        let mut all: Vec<(u16, u16, usize)> = Vec::new();
        for ((first, owner), last) in self.ranges.iter().zip(ends) {
            let Some(owner) = *owner else { continue };
            match all.last_mut() {
                Some((_, end, before)) if *before == owner && *end + 1 == *first => *end = last,
                _ => all.push((*first, last, owner)),
            }
        }
        all
    }

    /// Whether every slot is served by somebody.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.ranges.values().all(Option::is_some)
    }

    /// The masters that serve slots, in the order of their numbers.
    #[must_use]
    pub fn owners(&self) -> Vec<usize> {
        let mut owners: Vec<usize> = self.ranges.values().flatten().copied().collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Every master, those without slots included.
    #[must_use]
    pub fn masters(&self) -> Vec<usize> {
        let all = self.roles.iter().enumerate();
        all.filter(|(_, role)| **role == Role::Master).map(|(node, _)| node).collect()
    }

    /// Who follows a master.
    #[must_use]
    pub fn replicas_of(&self, master: usize) -> Vec<usize> {
        let all = self.roles.iter().enumerate();
        all.filter(|(_, role)| **role == Role::Replica(master)).map(|(node, _)| node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_given_away_and_joined_again() {
        let mut map = Map::new(vec![Role::Master; 2], vec![7000, 7001]);
        assert_eq!(map.ranges(), []);
        map.give(0, SLOTS - 1, Some(0));
        map.give(10, 20, Some(1));
        assert_eq!(map.ranges(), [(0, 9, 0), (10, 20, 1), (21, SLOTS - 1, 0)]);
        assert_eq!((map.owner(9), map.owner(20), map.owner(21)), (Some(0), Some(1), Some(0)));
        map.give(15, 15, None);
        assert!(!map.is_whole());
        map.give(10, 20, Some(0));
        assert_eq!(map.ranges(), [(0, SLOTS - 1, 0)]);
        assert!(map.is_whole());
        map.give_all(0, 1);
        assert_eq!(map.owners(), [1]);
        map.give(SLOTS - 1, SLOTS - 1, Some(0));
        assert_eq!(map.ranges(), [(0, SLOTS - 2, 1), (SLOTS - 1, SLOTS - 1, 0)]);
    }
}

//! Which slots of a cluster a scan of all keys has been through.
//!
//! ```text
//!   slots that are left ──▶ the node of the first ──▶ its keys, start to end ──▶ what it had at both ends
//!        ▲                                                                       is done with
//!        └───────── another round, after a pause ◀── what is left once all nodes were visited
//! ```
//!
//! Nodes are scanned one after the other, each in a *part* of its own. A slot may go from a node whose turn
//! is still to come to one that has had it, and take its keys along. So a slot is done with only where one
//! node had all of its keys from the beginning to the end of that node's part. That goes by what the node
//! says of itself in CLUSTER NODES, just before and just after: the client's own map may be a minute old.
//!
//! - A slot that had left and was back at the second look would deceive. But whoever takes a slot over raises
//!   its epoch above all others, unless it is that already; so a node that has a slot back has another epoch
//!   than before, and then nothing of the part counts.
//! - A slot that is being handed over, key by key, is still its old node's by that word. What was not seen
//!   there had left before that part ended. So the slot is done with once the node that takes it over has had
//!   a part after that one, and the old node says of itself, after both, that it has taken nothing over
//!   meanwhile. This is for moves that were begun and not finished.

use std::{collections::BTreeMap, time::Duration};

use crate::{config::Backoff, slot::SLOTS};

/// How many rounds a scan makes before it gives up. Each visits all nodes that have slots which are left.
///
/// The pauses between them add up to about 12 seconds, which is longer than a failover takes.
pub(super) const ROUNDS_MAX: u32 = 9;

/// The pause before each round but the first: time for slots to arrive, and for the client to ask who has
/// them now.
const PAUSE: Backoff =
    Backoff { base: Duration::from_millis(150), max: Duration::from_millis(2_500) };

/// What a scan of a cluster has still to do.
#[derive(Debug)]
pub(super) struct Coverage {
    left: Slots,
    /// Those of them whose nodes have not had their turn in this round.
    to_visit: Slots,
    rounds: u32,
    /// The slot for the sake of which the present node is scanned.
    target: u16,
    /// A slot by which that node is found.
    via: u16,
    /// What the node said of itself when its part began.
    began: Option<Claim>,
    /// How many slots the next node that has none of those that are left is skipped for: by the client's map
    /// it may have thousands, and the others are not to be looked for one by one.
    skip: u16,
    /// Slots that were seen on their way to another node.
    handed: BTreeMap<u16, Handed>,
}

/// A slot that was on its way when its node had come to the end of its part.
#[derive(Debug)]
struct Handed {
    giver: Box<str>,
    /// The giver's, at that time.
    epoch: Box<str>,
    heir: Heir,
    /// The heir has had a part since.
    inherited: bool,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    id: Box<str>,
    epoch: Box<str>,
    serves: Slots,
    /// Slots that it is handing over, and to whom.
    leaving: BTreeMap<u16, Heir>,
    /// Slots that it is taking over, and from whom.
    arriving: BTreeMap<u16, Box<str>>,
}

/// The node that takes over a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heir {
    id: Box<str>,
    /// A slot that it has, by which it is found; none where it has none yet.
    via: Option<u16>,
}

/// What a scan does once a part has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another part.
    Part,
    /// Another round, after this pause.
    Round(Duration),
    /// All slots are done with.
    Done,
    /// These many slots were left after the last round, this one among them.
    GiveUp(usize, u16),
}

impl Coverage {
    /// Of all slots, or of one alone.
    pub(super) fn new(only: Option<u16>) -> Self {
        let mut left = Slots::default();
        match only {
            Some(slot) => left.add(slot..=slot),
            None => left.add(0..=SLOTS - 1),
        }
        let first = left.first().unwrap_or(0);
        Coverage {
            to_visit: left.clone(),
            left,
            rounds: 0,
            target: first,
            via: first,
            began: None,
            skip: 1,
            handed: BTreeMap::new(),
        }
    }

    /// A slot of the node whose turn it is.
    pub(super) fn via(&self) -> u16 {
        self.via
    }

    /// Whether keys of this slot are still of interest.
    pub(super) fn wants(&self, slot: u16) -> bool {
        self.left.contains(slot)
    }

    /// A part has begun, and this is what its node says. Gives whether the part is worth anything.
    pub(super) fn begin(&mut self, claim: Claim) -> bool {
        self.to_visit.remove_all(&claim.serves);
        self.to_visit.remove(self.target);
        let returned: Vec<u16> = self
            .handed
            .iter()
            .filter(|(_, handed)| handed.inherited && handed.giver == claim.id)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in returned {
            let handed = self.handed.remove(&slot);
            if handed.is_some_and(|handed| handed.epoch == claim.epoch) {
                self.left.remove(slot);
            }
        }
        let inherits = |handed: &Handed| !handed.inherited && handed.heir.id == claim.id;
        let useful = claim.serves.meets(&self.left) || self.handed.values().any(inherits);
        if useful {
            self.skip = 1;
        } else {
            let beyond = self.target.saturating_add(self.skip).min(SLOTS);
            (self.target..beyond).for_each(|slot| self.to_visit.remove(slot));
            self.skip = self.skip.saturating_mul(2);
        }
        self.began = Some(claim);
        useful
    }

    /// The present part has come to its end, and this is what its node says now.
    pub(super) fn end(&mut self, claim: &Claim) -> Next {
        let Some(began) = self.began.take() else { return self.go_on() };
        if began.id != claim.id || began.epoch != claim.epoch {
            return self.go_on();
        }
        let left: Vec<u16> = self.left.iter().collect();
        for slot in left {
            let served = began.serves.contains(slot) && claim.serves.contains(slot);
            match (claim.leaving.get(&slot), began.leaving.get(&slot)) {
                (None, None) if served => {
                    self.left.remove(slot);
                    self.handed.remove(&slot);
                }
                (Some(heir), before)
                    if served && before.is_none_or(|before| before.id == heir.id) =>
                {
                    let (giver, epoch) = (claim.id.clone(), claim.epoch.clone());
                    let handed = Handed { giver, epoch, heir: heir.clone(), inherited: false };
                    self.handed.insert(slot, handed);
                }
                _ => {}
            }
            if let Some(handed) = self.handed.get_mut(&slot)
                && handed.heir.id == claim.id
                && began.arriving.get(&slot) == Some(&handed.giver)
                && claim.arriving.get(&slot) == Some(&handed.giver)
            {
                handed.inherited = true;
            }
        }
        self.go_on()
    }

    /// The present part came to nothing.
    pub(super) fn abandon(&mut self) -> Next {
        self.began = None;
        self.to_visit.remove(self.target);
        self.go_on()
    }

    fn go_on(&mut self) -> Next {
        if let Some(next) = self.left.first_of_both(&self.to_visit) {
            self.aim_at(next);
            return Next::Part;
        }
        let Some(first) = self.left.first() else { return Next::Done };
        self.rounds += 1;
        if self.rounds >= ROUNDS_MAX {
            return Next::GiveUp(self.left.len(), first);
        }
        self.to_visit = self.left.clone();
        self.skip = 1;
        self.aim_at(first);
        Next::Round(PAUSE.delay(self.rounds - 1))
    }

    fn aim_at(&mut self, slot: u16) {
        self.target = slot;
        let heir = self.handed.get(&slot).filter(|handed| !handed.inherited);
        self.via = heir.and_then(|handed| handed.heir.via).unwrap_or(slot);
    }
}

impl Claim {
    /// Reads what CLUSTER NODES says: a line for each node, one of which is marked as the one that speaks.
    /// Without that it claims nothing.
    pub(super) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
        let own = |row: &&Vec<&str>| {
            row.get(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
        };
        let mut claim = Claim::default();
        let Some(row) = rows.iter().find(own) else { return claim };
        let heir = |id: &str| {
            let row = rows.iter().find(|row| row.first() == Some(&id));
            let ranges = row.into_iter().flat_map(|row| row.iter().skip(SLOTS_FROM));
            let via = ranges.filter_map(|word| read_range(word)).map(|(first, _)| first).next();
            Heir { id: id.into(), via }
        };
        claim.id = row.first().copied().unwrap_or_default().into();
        claim.epoch = row.get(6).copied().unwrap_or_default().into();
        for word in row.iter().skip(SLOTS_FROM) {
            let moving = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
            match moving {
                None => {
                    if let Some((first, last)) = read_range(word) {
                        claim.serves.add(first..=last);
                    }
                }
                Some(moving) => {
                    if let Some((slot, to)) = moving.split_once("->-")
                        && let Some(slot) = read_slot(slot)
                    {
                        claim.leaving.insert(slot, heir(to));
                    }
                    if let Some((slot, from)) = moving.split_once("-<-")
                        && let Some(slot) = read_slot(slot)
                    {
                        claim.arriving.insert(slot, from.into());
                    }
                }
            }
        }
        claim
    }
}

/// Which word of a line of CLUSTER NODES is the first about slots, counted from 0.
const SLOTS_FROM: usize = 8;

fn read_slot(word: &str) -> Option<u16> {
    word.parse().ok().filter(|slot| *slot < SLOTS)
}

/// `7` or `7-12`.
fn read_range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((read_slot(first)?, read_slot(last)?)).filter(|(first, last)| first <= last)
}

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots, 2 KiB.
#[derive(Clone)]
struct Slots(Box<[u64; WORDS]>);

impl Default for Slots {
    fn default() -> Self {
        Slots(Box::new([0; WORDS]))
    }
}

impl Slots {
    fn add(&mut self, slots: std::ops::RangeInclusive<u16>) {
        for slot in slots {
            self.0[usize::from(slot / 64)] |= 1 << (slot % 64);
        }
    }

    fn remove(&mut self, slot: u16) {
        self.0[usize::from(slot / 64)] &= !(1 << (slot % 64));
    }

    fn remove_all(&mut self, others: &Slots) {
        self.0.iter_mut().zip(others.0.iter()).for_each(|(word, other)| *word &= !other);
    }

    fn contains(&self, slot: u16) -> bool {
        self.0[usize::from(slot / 64)] & (1 << (slot % 64)) != 0
    }

    fn meets(&self, others: &Slots) -> bool {
        self.first_of_both(others).is_some()
    }

    fn first(&self) -> Option<u16> {
        self.first_of_both(self)
    }

    fn first_of_both(&self, others: &Slots) -> Option<u16> {
        let mut words = self.0.iter().zip(others.0.iter()).map(|(word, other)| word & other);
        let at = words.position(|word| word != 0)? as u16;
        let word = self.0[usize::from(at)] & others.0[usize::from(at)];
        Some(at * 64 + word.trailing_zeros() as u16)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..SLOTS).filter(|slot| self.contains(*slot))
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} slots", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CLUSTER NODES says at the first of these nodes: each with its slots in its own words.
    fn nodes(epoch: u32, nodes: &[(&str, &str)]) -> Claim {
        let mut text = String::new();
        for (at, (id, slots)) in nodes.iter().enumerate() {
            let myself = if at == 0 { "myself," } else { "" };
            text.push_str(&format!(
                "{id} 127.0.0.1:{at}@1{at},host {myself}master - 0 0 {epoch} connected {slots}\n"
            ));
        }
        Claim::read(text.as_bytes())
    }

    fn part(coverage: &mut Coverage, began: &Claim, ended: &Claim) -> Next {
        assert!(coverage.begin(began.clone()));
        coverage.end(ended)
    }

    fn stable(id: &str, slots: &str) -> (Claim, Claim) {
        (nodes(1, &[(id, slots)]), nodes(1, &[(id, slots)]))
    }

    #[test]
    fn nodes_are_visited_one_after_the_other_until_all_slots_are_done_with() {
        let mut coverage = Coverage::new(None);
        assert_eq!(coverage.via(), 0);
        let (began, ended) = stable("a", "0-99 200");
        assert_eq!(part(&mut coverage, &began, &ended), Next::Part);
        assert_eq!(coverage.via(), 100);
        assert!(!coverage.wants(99) && coverage.wants(100) && !coverage.wants(200));
        let (began, ended) = stable("b", "100-199 201-16383");
        assert_eq!(part(&mut coverage, &began, &ended), Next::Done);
    }

    #[test]
    fn a_slot_that_moves_to_a_node_that_has_had_its_turn_is_visited_there_again() {
        let mut coverage = Coverage::new(None);
        let (began, ended) = stable("a", "0-8191");
        assert_eq!(part(&mut coverage, &began, &ended), Next::Part);
        let (began, _) = stable("b", "8192-16383");
        let ended = nodes(1, &[("b", "8193-16383")]);
        assert!(matches!(part(&mut coverage, &began, &ended), Next::Round(_)));
        assert_eq!(coverage.via(), 8192);
        let (began, ended) = stable("a", "0-8192");
        assert_eq!(part(&mut coverage, &began, &ended), Next::Done);
    }

    #[test]
    fn a_slot_that_came_back_within_a_part_counts_for_nothing() {
        let mut coverage = Coverage::new(None);
        let (began, _) = stable("a", "0-16383");
        let ended = nodes(2, &[("a", "0-16383")]);
        assert!(matches!(part(&mut coverage, &began, &ended), Next::Round(_)));
        assert!(coverage.wants(0));
    }

    #[test]
    fn a_slot_that_is_being_handed_over_takes_its_heir_as_well_and_in_that_order() {
        let mut coverage = Coverage::new(None);
        let heir = nodes(1, &[("b", "8192-16383 [7-<-a]"), ("a", "0-8191")]);
        let giver = nodes(1, &[("a", "0-8191 [7->-b]"), ("b", "8192-16383")]);
        assert_eq!(part(&mut coverage, &giver, &giver), Next::Part);
        assert!(coverage.wants(7) && !coverage.wants(8));
        assert!(matches!(part(&mut coverage, &heir, &heir), Next::Round(_)));
        assert_eq!(coverage.via(), 7, "the giver has the last word");
        assert!(!coverage.begin(giver.clone()), "there is nothing more to be scanned");
        assert_eq!(coverage.abandon(), Next::Done);

        // It has had the slot back meanwhile.
        let mut coverage = Coverage::new(Some(7));
        assert!(matches!(part(&mut coverage, &giver, &giver), Next::Round(_)));
        assert_eq!(coverage.via(), 8192, "the heir is found by what it has");
        assert!(matches!(part(&mut coverage, &heir, &heir), Next::Round(_)));
        let again = nodes(2, &[("a", "0-8191 [7->-b]"), ("b", "8192-16383")]);
        assert!(matches!(part(&mut coverage, &again, &again), Next::Round(_)));
        assert!(coverage.wants(7));

        // The heir first is no good.
        let mut coverage = Coverage::new(Some(7));
        assert!(!coverage.begin(heir.clone()));
        assert!(matches!(coverage.abandon(), Next::Round(_)));
        assert!(matches!(part(&mut coverage, &giver, &giver), Next::Round(_)));
        assert!(coverage.wants(7));
    }

    #[test]
    fn rounds_have_pauses_and_an_end() {
        let mut coverage = Coverage::new(Some(5));
        let mut waited = Duration::ZERO;
        let replica = || Claim::read(b"a 127.0.0.1:1@2 myself,slave b 0 0 1 connected\n");
        loop {
            assert!(!coverage.begin(replica()), "a node that has none of it is not scanned");
            match coverage.abandon() {
                Next::Round(pause) => waited += pause,
                Next::GiveUp(1, 5) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!((Duration::from_secs(8)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    }

    #[test]
    fn a_part_that_is_cut_short_costs_its_nodes_slots_a_round_and_no_others() {
        let mut coverage = Coverage::new(None);
        assert!(coverage.begin(nodes(1, &[("a", "0-8191")])));
        assert_eq!(coverage.abandon(), Next::Part);
        assert_eq!(coverage.via(), 8192);
        let (began, ended) = stable("b", "8192-16383");
        assert!(matches!(part(&mut coverage, &began, &ended), Next::Round(_)));
        let (began, ended) = stable("c", "0-8191");
        assert_eq!(part(&mut coverage, &began, &ended), Next::Done);
    }

    #[test]
    fn a_node_that_has_nothing_of_what_it_should_is_not_asked_for_each_slot() {
        let mut coverage = Coverage::new(None);
        let mut asked = 0;
        loop {
            asked += 1;
            assert!(!coverage.begin(nodes(1, &[("a", "")])));
            if coverage.abandon() != Next::Part {
                break;
            }
        }
        assert_eq!(asked, 15, "2^14 slots");
    }

    #[test]
    fn nonsense_claims_nothing() {
        for text in [
            "",
            "a b myself",
            "a b myself,master - 0 0 1 connected 9-7 x 16384 70000 [ [] [7 [x->-y] [7-<-] -",
        ] {
            let claim = Claim::read(text.as_bytes());
            assert_eq!(claim.serves.len(), 0, "{text}");
        }
        assert_eq!(Claim::read(b"a b master - 0 0 1 connected 0-9").serves.len(), 0);
    }
}

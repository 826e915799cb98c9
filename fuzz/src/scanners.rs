//! Those who scan what changes under them: whatever a scan comes to, if it ends well it has missed nothing that
//! stayed.

use std::collections::BTreeSet;

use unfazed_core::{
    Config, Now,
    dialogue::{Dialogue, Heard, Scan, Scans, Step},
};

use crate::{
    dialogues::{Item, Machine, Who, turned},
    server::{FIELDS_KEY, KEYS, MEMBERS_KEY, PASSING_MEMBER, members},
    workload::{Command, Shape, Wish},
    world::{Action, World},
};

/// One scan under way.
#[derive(Debug)]
pub(crate) struct Scanner {
    scan: Kind,
    seen: BTreeSet<String>,
    begun: u64,
}

#[derive(Debug)]
enum Kind {
    Members(Scan<String>),
    Fields(Scan<(String, String)>),
    Keys(Scan<String>),
}

/// How many scans are under way at most.
const SCANS_MAX: usize = 3;

impl Scanner {
    pub(crate) fn begin(&mut self, config: &Config) {
        match &mut self.scan {
            Kind::Members(scan) | Kind::Keys(scan) => scan.begin(config),
            Kind::Fields(scan) => scan.begin(config),
        }
    }

    pub(crate) fn step(&mut self, heard: Heard, now: Now) -> Step<Item> {
        match &mut self.scan {
            Kind::Members(scan) | Kind::Keys(scan) => turned(scan.step(heard, now), Item::Member),
            Kind::Fields(scan) => turned(scan.step(heard, now), |(field, _)| Item::Member(field)),
        }
    }

    fn restarts(&self) -> u32 {
        match &self.scan {
            Kind::Members(scan) | Kind::Keys(scan) => scan.restarts(),
            Kind::Fields(scan) => scan.restarts(),
        }
    }

    /// What must come up.
    fn stays(&self) -> BTreeSet<String> {
        match &self.scan {
            Kind::Keys(_) => KEYS.iter().map(|key| (*key).to_owned()).collect(),
            _ => members(),
        }
    }
}

impl World {
    /// Somebody begins to scan, or changes what others scan.
    pub(crate) fn talker(&mut self) {
        if self.over || self.closing_since.is_some() {
            return;
        }
        let scanners = self.talks.values().filter(|talk| matches!(talk.who, Who::Scanner(_)));
        if scanners.count() < SCANS_MAX {
            let scan = match self.entropy.below(3) {
                0 => Kind::Members(Machine.sscan(MEMBERS_KEY)),
                1 => Kind::Fields(Machine.hscan(FIELDS_KEY)),
                _ => Kind::Keys(Machine.scan()),
            };
            self.count("scans");
            let begun = self.seq;
            self.converse(Who::Scanner(Scanner { scan, seen: BTreeSet::new(), begun }));
        }
        self.change_what_is_scanned();
        let delay = self.entropy.millis(10, 250);
        self.at(delay, Action::Talker);
    }

    /// What passes comes and goes; the rest stays.
    fn change_what_is_scanned(&mut self) {
        let name = format!("{PASSING_MEMBER}{}", self.entropy.below(40));
        let words: &[&str] = match self.entropy.below(5) {
            0 => &["SADD", MEMBERS_KEY, &name],
            1 => &["SREM", MEMBERS_KEY, &name],
            2 => &["HSET", FIELDS_KEY, &name, "1"],
            3 => &["HDEL", FIELDS_KEY, &name],
            _ => return,
        };
        self.ids += 1;
        let command = Command::of(words, &[words[1]], None);
        let options = unfazed_core::Options::default();
        self.wish(&Wish { commands: vec![command], shape: Shape::One, options }, "changer");
    }

    pub(crate) fn scanned(&mut self, scanner: &mut Scanner, member: String) {
        let passes = matches!(scanner.scan, Kind::Keys(_)) || member.starts_with(PASSING_MEMBER);
        if !passes && !members().contains(&member) {
            self.oracle.fail(2, format!("a scan gives {member}, which is not there"));
        }
        scanner.seen.insert(member);
    }

    pub(crate) fn scan_over(&mut self, scanner: &Scanner, well: bool) {
        self.trace(format_args!("   a scan has seen {}, ended well: {well}", scanner.seen.len()));
        if scanner.restarts() > 0 {
            self.count("scans: begun anew");
        }
        if !well {
            return self.count("scans: failed");
        }
        self.count("scans: ended well");
        // A key that leaves its node and comes back is nowhere to be found in between, and nothing tells of it
        // to whoever asks the node before and after.
        let moved_back = self.oracle.moved_back >= scanner.begun && self.cluster.is_some();
        if moved_back && matches!(scanner.scan, Kind::Keys(_)) {
            return self.count("scans: keys have gone and come back");
        }
        let missed: Vec<_> = scanner.stays().difference(&scanner.seen).cloned().collect();
        if !missed.is_empty() {
            self.oracle.fail(2, format!("a scan has missed {missed:?}"));
        }
    }
}

//! Answers in the server's stead: what was last known, what was written since, and what is owed.
//!
//! | part | holds | lives |
//! |---|---|---|
//! | shadow | last known values of the server | while live; read while degraded |
//! | overlay | what was written in memory | from the trip until recovery |
//! | written | keys written or deleted in memory: they hide the shadow | as the overlay |
//! | journal | what recovery owes to keys | until it is paid |
//! | engaged | keys that an older command waits to write | while it waits |
//!
//! Shadow and overlay share one bound. What is clean makes room for what is dirty; what is dirty is
//! never dropped, so that a write for which there is no room is refused.
//!
//! `learn` fills the shadow, `answer` and `survey` take commands while degraded, `settle` pays what is
//! owed.

mod answer;
mod learn;
mod script;
mod settle;
mod survey;
mod transaction;

use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;

use super::{
    Bounds, Mode, Part, Policy, Rules, Standing, Store, deeds, engaged::Engaged, journal::Journal,
    keyed::Keyed, shadow::Shadow,
};
use crate::{
    Now,
    commands::Spec,
    config::{Config, Publish},
    request::Effect,
    rng::Rng,
};

pub(crate) use settle::{Answered, Refused, Step};

#[derive(Debug)]
pub(crate) struct Memory {
    rules: Rules,
    /// Some key may be answered otherwise than by waiting for the server.
    degrades: bool,
    /// What becomes of messages.
    publish: Standing,
    /// What shadow and overlay may hold together.
    bounds: Bounds,
    overlay: Store,
    /// Every key that was written in memory, also where the value is deleted or has expired since:
    /// what the shadow knows of it is older.
    written: HashMap<Bytes, Written, Keyed>,
    written_bytes: usize,
    /// When the written keys were last gone through for those that need not be known any more.
    swept_at: Option<Instant>,
    shadow: Shadow,
    /// Always empty: what a `Miss` is answered from.
    blank: Store,
    journal: Journal,
    engaged: Engaged,
    random: Rng,
    /// Something was asked for that is remembered and too old to be served.
    met_too_old: bool,
    /// Counts how often something was taken out by others than the commands that were answered.
    era: u64,
}

/// What is known of a key that was written in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// When it expires, or that it does not: not so where it was built on a value whose time to
    /// live nobody here knows.
    pub(super) expiry: bool,
    /// The same of its fields, if it is a hash: not so where some of them are the server's.
    pub(super) fields: bool,
    /// All of its value: not so where the server's was never seen, and is added to what is here.
    pub(super) whole: bool,
}

/// Who serves a command while the server is judged down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The server: nothing is owed to its keys.
    Server,
    /// Memory.
    Memory,
    /// Nobody yet: what is older comes first.
    Held,
}

/// How many keys may be remembered as written for each value that there may be: as many may have
/// been deleted as there are.
const WRITTEN_FACTOR: usize = 2;

impl Memory {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let default = if config.fail_fast { Mode::Fail } else { Mode::Wait };
        let modes = config.fallbacks.iter().map(|rule| rule.mode);
        let local = config.publish_while_down == Publish::Local;
        let degrades = local || modes.chain([default]).any(|mode| mode != Mode::Wait);
        let limits = &config.memory;
        let bounds = Bounds::from(limits);
        Memory {
            rules: Rules::new(config.fallbacks.clone(), default),
            degrades,
            publish: match config.publish_while_down {
                Publish::Fail => Standing::Fail,
                Publish::Wait => Standing::Wait,
                Publish::Local => Standing::Memory(Policy::Discard),
            },
            bounds,
            overlay: Store::new(rng.next(), bounds),
            written: HashMap::with_hasher(Keyed::new(rng.next())),
            written_bytes: 0,
            swept_at: None,
            shadow: Shadow::new(&mut rng, limits.shadow_value_max),
            blank: Store::new(rng.next(), bounds),
            journal: Journal::new(rng.next(), limits.journal_entries_max, limits.journal_bytes_max),
            engaged: Engaged::new(rng.next()),
            random: Rng::new(rng.next()),
            met_too_old: false,
            era: 0,
        }
    }

    /// Whether any key may be answered without the server, or fail at once.
    pub(crate) fn degrades(&self) -> bool {
        self.degrades
    }

    /// How a command behaves while the server is down, and whether it is to be kept, because its
    /// reply is of interest to the shadow or its keys to the order of writes. `args` are the
    /// arguments after the name.
    #[inline]
    pub(crate) fn mode_for<A: AsRef<[u8]>>(
        &self,
        spec: &Spec,
        effect: Effect,
        args: &[A],
    ) -> (Standing, bool) {
        if !self.degrades {
            return (Standing::Wait, false);
        }
        if spec.is_publish() {
            return (self.publish, false);
        }
        // A command that nobody knows may concern any key.
        if spec.concerns_all_keys() || spec.is_unknown() || deeds::reads_others(spec, args) {
            let writes = effect != Effect::Read && deeds::writes(spec, args);
            let standing = Standing::of(self.rules.modes_in_reach(), writes);
            let standing = match standing.unwrap_or(Standing::Wait) {
                // What only reads all keys has no place to keep, and of an unknown command's keys
                // nothing is known.
                Standing::Mixed if !writes || spec.is_unknown() => Standing::Wait,
                other => other,
            };
            return (standing, writes);
        }
        let writes = deeds::writes(spec, args);
        let mut remembers = false;
        let modes = spec.keys().of(args).map(|key| {
            let mode = self.rules.mode_of(key);
            remembers |= mode.remembers_for().is_some();
            mode
        });
        let standing = Standing::of(modes, writes);
        let standing = standing.unwrap_or(self.rules.default_mode().into());
        let noted =
            standing == Standing::Mixed || (remembers && (writes || learn::tells_all(spec, args)));
        (standing, noted)
    }

    /// Which pattern a command counts for, in the order of declaration: that of its first key. The last
    /// number is that of the default. What does not fit in a byte is counted for none, like messages,
    /// which have no key, and keys that wait, of which most commands never get here: half a count would
    /// be taken for all.
    pub(crate) fn rule_for<A: AsRef<[u8]>>(&self, spec: &Spec, args: &[A]) -> u8 {
        if spec.is_publish() {
            return u8::MAX;
        }
        let rule = match spec.keys().of(args).next() {
            Some(key) => self.rules.rule_of(key),
            None => self.rules.rule_of_all(),
        };
        match self.rules.mode_at(rule) {
            Mode::Wait => u8::MAX,
            _ => u8::try_from(rule.unwrap_or(self.rules.len())).unwrap_or(u8::MAX),
        }
    }

    // ---- who serves a command ------------------------------------------------------------------

    /// Whether no command has to wait for another, so that nobody has to [`claim`](Memory::claim)
    /// while nothing is drained.
    pub(crate) fn is_quiet(&self) -> bool {
        self.engaged.is_empty() && self.journal.sending() == 0
    }

    /// Who serves a command, or all those of a transaction, while the server is judged down;
    /// `draining` is while recovery settles one key after the other.
    pub(crate) fn claim(&self, commands: &[Part<'_>], standing: Standing, draining: bool) -> Claim {
        let keys = || commands.iter().flat_map(Part::keys);
        let concerns_all = commands
            .iter()
            .any(|one| one.spec.concerns_all_keys() || deeds::reads_others(one.spec, one.args()));
        let engaged = commands.iter().any(|one| self.engaged.concerns(one.spec, one.args()));
        let owed = keys().any(|key| self.journal.contains(key))
            || (concerns_all && self.journal.len() > 0);
        if standing == Standing::Mixed {
            return if engaged || owed { Claim::Held } else { Claim::Server };
        }
        let reads = !commands.iter().any(|one| deeds::writes(one.spec, one.args()));
        if !draining {
            let waits = engaged || keys().any(|key| self.journal.is_sending(key));
            return if waits && !reads { Claim::Held } else { Claim::Memory };
        }
        if !engaged && !owed {
            return Claim::Server;
        }
        let all_owed = standing != Standing::Fail
            && !concerns_all
            && keys().all(|key| self.journal.contains(key));
        if reads && all_owed && !engaged { Claim::Memory } else { Claim::Held }
    }

    /// From now on what comes later for the keys of these commands waits behind them.
    pub(crate) fn engage(&mut self, commands: &[Part<'_>]) {
        commands.iter().for_each(|one| self.engaged.add(one.spec, one.args()));
    }

    /// They have ended, or are about to go another way.
    pub(crate) fn disengage(&mut self, commands: &[Part<'_>]) {
        commands.iter().for_each(|one| self.engaged.remove(one.spec, one.args()));
    }

    // ---- what is known of a key ----------------------------------------------------------------

    fn is_written(&self, key: &[u8]) -> bool {
        self.written.contains_key(key)
    }

    fn drop_key(&mut self, key: &[u8], now: Now) {
        self.era += 1;
        self.overlay.remove(key, now);
        if self.written.remove(key).is_some() {
            self.written_bytes -= key.len();
        }
        self.shadow.remove(key, now);
    }

    /// Makes room for what is dirty at the expense of what is clean.
    fn trim(&mut self, now: Now) {
        let (entries, bytes) = self.overlay_size();
        let entries = self.bounds.entries_max.saturating_sub(entries);
        self.shadow.shrink_to(entries, self.bounds.bytes_max.saturating_sub(bytes), now);
    }

    /// The server answers again for every key that nothing is owed to: what was written to such keys
    /// in memory is dropped, so that another outage can't bring it back.
    /// Only the keys for which `whose` holds.
    pub(crate) fn hand_back(&mut self, now: Now, whose: impl Fn(&[u8]) -> bool) {
        // In the order of the keys: a map has none that is the same in every run.
        let mut written: Vec<_> = self.written.keys().cloned().collect();
        written.sort_unstable();
        for key in written {
            if !self.journal.contains(&key) && whose(&key) {
                self.drop_key(&key, now);
            }
        }
    }

    /// Whether anything that was written in memory is still there.
    pub(crate) fn holds_writes(&self) -> bool {
        !self.written.is_empty() || self.journal.len() > 0
    }

    /// Forgets the values that are remembered of the server, of keys for which `whose` holds.
    pub(crate) fn drop_shadow(&mut self, now: Now, whose: impl Fn(&[u8]) -> bool) {
        self.era += 1;
        self.shadow.retain(|key| !whose(key), now);
    }

    /// Forgets everything, what is owed to the server among it.
    pub(crate) fn clear(&mut self) {
        self.era += 1;
        self.overlay.clear();
        self.written.clear();
        self.written_bytes = 0;
        self.shadow.clear();
        self.journal.clear();
        self.engaged.clear();
    }

    // ---- sizes ---------------------------------------------------------------------------------

    /// Entries and bytes written in memory. A key counts once more for being known as written: that
    /// stays when its value is gone.
    pub(crate) fn overlay_size(&self) -> (usize, usize) {
        (self.overlay.len(), self.overlay.bytes() + self.written_bytes)
    }

    /// Entries and bytes remembered of the server.
    pub(crate) fn shadow_size(&self) -> (usize, usize) {
        self.shadow.size()
    }

    /// How many keys are owed something.
    pub(crate) fn journal_len(&self) -> usize {
        self.journal.len()
    }

    /// How many keys are owed something, and how many bytes that takes.
    pub(crate) fn journal_size(&self) -> (usize, usize) {
        (self.journal.len(), self.journal.bytes())
    }

    /// What was lent to a script is what stands here still, but for commands that were answered, as long
    /// as this number is the same.
    pub(crate) fn era(&self) -> u64 {
        self.era
    }

    /// Whether something was asked for since the last call that is remembered and too old to be
    /// served.
    pub(crate) fn take_met_too_old(&mut self) -> bool {
        std::mem::take(&mut self.met_too_old)
    }
}

#[cfg(test)]
mod tests;

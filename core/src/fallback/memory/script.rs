//! What a native script works on, and what becomes of what it wrote.

use bytes::Bytes;

use super::{Memory, Written};
use crate::{
    Now,
    commands::Spec,
    failure::MemoryRefusal,
    fallback::{
        Policy, Standing, journal::Entry, script::Declared, script::ScriptStore, shadow::Look,
    },
    request::Effect,
    resp::Source,
};

impl Memory {
    /// What memory knows of the keys that a script's caller declared, for the script to work on.
    pub(crate) fn lend_to_script(
        &mut self,
        spec: &Spec,
        standing: Standing,
        args: &[&[u8]],
        seed: u64,
        now: Now,
    ) -> Result<ScriptStore, MemoryRefusal> {
        let keys: Vec<&[u8]> = spec.keys().of(args).collect();
        let stale = standing == Standing::StaleReads;
        if stale {
            self.check_remembered(&keys, now)?;
        }
        let mut lent = ScriptStore::new(seed, self.bounds, now)
            .read_only(spec.effect() == Effect::Read)
            .stale(stale);
        let mut source = Source::Overlay;
        for key in keys {
            let (value, lives) = if standing == Standing::Miss {
                // Nothing is there, and that is no guess: so it is taken for all commands.
                source = Source::Unknown;
                (true, Written { expiry: true, fields: true, whole: true })
            } else if self.is_written(key) {
                lent.store_mut().borrow_from(&self.overlay, key, now);
                let (expiry, fields) = (self.knows_expiry(key, now), self.knows_fields(key));
                let whole = self.knows_all(key, now);
                if !whole {
                    source = Source::Unknown;
                }
                (true, Written { expiry, fields, whole })
            } else if let Look::Fresh { expiry } = self.shadow.look(key, now) {
                self.shadow.lend(lent.store_mut(), key, now);
                if source == Source::Overlay {
                    source = Source::Shadow;
                }
                (true, Written { expiry, fields: false, whole: true })
            } else {
                self.met_too_old |= self.shadow.look(key, now) == Look::TooOld;
                (false, Written { expiry: false, fields: false, whole: false })
            };
            if !value {
                source = Source::Unknown;
            }
            let policy = self.rules.policy_of(key);
            let (if_absent, is_ours) = (self.rules.allows_if_absent(key), self.is_ours(key));
            let wrote = false;
            lent.declare(key, Declared { value, lives, policy, if_absent, is_ours, wrote });
        }
        lent.set_source(source);
        Ok(lent)
    }

    /// Takes over what a script has written, all of it or nothing.
    pub(crate) fn take_from_script(
        &mut self,
        standing: Standing,
        from: &ScriptStore,
        now: Now,
    ) -> Result<(), MemoryRefusal> {
        let wrote: Vec<(&Bytes, Written)> = from.wrote().collect();
        let keys: Vec<&[u8]> = wrote.iter().map(|(key, _)| &key[..]).collect();
        if standing == Standing::Miss {
            return self.drop_as_absent(&keys);
        }
        let mut policies = keys.iter().map(|key| self.rules.policy_of(key));
        let first = policies.next();
        if first.is_some_and(|first| policies.any(|policy| policy != first)) {
            return Err(MemoryRefusal::Mixed);
        }
        if self.check_room(&keys, 0).is_err() {
            self.drop_forgotten(now);
        }
        self.check_room(&keys, 0)?;
        self.bound_overlay(&keys);
        let taken = self.overlay.take_over(from.store(), &keys, now);
        taken.map_err(MemoryRefusal::Full)?;
        for (key, known) in wrote {
            self.note_written(key, known, now);
            match self.rules.policy_of(key) {
                None | Some(Policy::Discard) => {}
                Some(Policy::Invalidate) => self.journal.owe(key, Entry::Delete),
                // What may be merged is the client's own, or it would have been refused.
                Some(Policy::ReplayLastWins | Policy::MergeDelta) => {
                    self.journal.owe(key, Entry::Replay);
                }
            }
        }
        self.trim(now);
        Ok(())
    }
}

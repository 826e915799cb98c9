//! One command is done in memory, or refused.

use std::time::Duration;

use bytes::Bytes;

use super::{Memory, WRITTEN_FACTOR, Written};
use crate::{
    Now,
    commands::Spec,
    failure::{Bound, MemoryRefusal},
    fallback::{
        Answer, Bounds, Policy, Standing, Store,
        deeds::{self, Deed, IfAbsent, Makes, Needs, On},
        delta::{Change, Delta, Fate, Misfit},
        journal::Entry,
        shadow::Look,
    },
    resp::{Reply, Source, Value},
};

/// What is about to be done, as far as it was checked.
struct Plan<'a> {
    /// What is to be added to the deltas of the keys that have one.
    change: Option<Change<'a>>,
}

/// Why a command is not done.
enum No {
    Refusal(MemoryRefusal),
    /// A server would not do it either, and would say so.
    Error(Value),
}

impl From<MemoryRefusal> for No {
    fn from(refusal: MemoryRefusal) -> Self {
        No::Refusal(refusal)
    }
}

impl Memory {
    /// Answers a command. `words` are its name and arguments.
    pub(crate) fn answer(
        &mut self,
        spec: &Spec,
        standing: Standing,
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, MemoryRefusal> {
        let mut result = self.answer_untrimmed(spec, standing, words, now);
        if matches!(result, Err(MemoryRefusal::Full(_))) && self.drop_forgotten(now) {
            result = self.answer_untrimmed(spec, standing, words, now);
        }
        self.trim(now);
        result
    }

    /// The same, and does not yet make room for what was written at the expense of what is clean.
    pub(super) fn answer_untrimmed(
        &mut self,
        spec: &Spec,
        standing: Standing,
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, MemoryRefusal> {
        if let Some(why) = deeds::never(spec) {
            return Err(MemoryRefusal::Never(why));
        }
        let args = &words[spec.words()..];
        let deed = Deed::of(spec, args).ok_or(MemoryRefusal::Unsupported)?;
        if spec.concerns_all_keys() {
            return self.survey(spec, standing, words, now, &|_| true);
        }
        if !Store::supports(words[0]) {
            return Err(MemoryRefusal::Unsupported);
        }
        let keys: Vec<&[u8]> = spec.keys().of(args).collect();
        if deeds::reads_others(spec, args) && standing != Standing::Miss {
            // Of the keys that it reads some are known at most, and nobody can tell which are not.
            let stale = standing == Standing::StaleReads;
            return Err(if stale { MemoryRefusal::NotRemembered } else { MemoryRefusal::Unseen });
        }
        match standing {
            Standing::Miss => self.answer_as_absent(&deed, &keys, words, now),
            Standing::StaleReads if !deed.only_reads() => Err(MemoryRefusal::ReadOnly),
            Standing::StaleReads => {
                self.check_remembered(&keys, now)?;
                self.read(&deed, &keys, words, now)
            }
            Standing::Memory(_) | Standing::MemoryOfSeveral if deed.only_reads() => {
                self.read(&deed, &keys, words, now)
            }
            Standing::Memory(_) | Standing::MemoryOfSeveral => {
                match self.write(&deed, &keys, args, words, now) {
                    Ok(reply) => Ok(reply),
                    Err(No::Error(error)) => Ok(Reply::from(error).with_source(Source::Overlay)),
                    Err(No::Refusal(refusal)) => Err(refusal),
                }
            }
            Standing::Wait | Standing::Mixed | Standing::Fail => {
                unreachable!("these are not answered from memory")
            }
        }
    }

    // ---- reads ---------------------------------------------------------------------------------

    fn read(
        &mut self,
        deed: &Deed,
        keys: &[&[u8]],
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, MemoryRefusal> {
        // When a remembered value expires is only sometimes known, and its fields never.
        let untold = |key: &[u8]| match deed.needs {
            Needs::Expiry => !self.knows_expiry(key, now),
            Needs::FieldExpiry => !self.knows_fields(key),
            Needs::Nothing | Needs::Value | Needs::Presence => false,
        };
        if keys.iter().any(|key| self.knows(key, now) && untold(key)) {
            return Err(MemoryRefusal::Unseen);
        }
        let (lent, source) = self.lend(keys, now);
        // What is only read goes back at once and needs no room.
        let result = match whole_scan(words) {
            Some(words) => executed(&mut self.overlay, &words, now),
            None => executed(&mut self.overlay, words, now),
        };
        for key in &lent {
            self.overlay.remove(key, now);
        }
        Ok(Reply::from(result?).with_source(source))
    }

    pub(super) fn check_remembered(
        &mut self,
        keys: &[&[u8]],
        now: Now,
    ) -> Result<(), MemoryRefusal> {
        for key in keys.iter().filter(|key| !self.is_written(key)) {
            match self.shadow.look(key, now) {
                Look::Fresh { .. } => {}
                Look::TooOld => {
                    self.met_too_old = true;
                    return Err(MemoryRefusal::TooOld);
                }
                Look::Unknown => return Err(MemoryRefusal::NotRemembered),
            }
        }
        Ok(())
    }

    /// Lends the overlay what the shadow knows of these keys. Gives what was lent, and how good the
    /// answer can be.
    fn lend(&mut self, keys: &[&[u8]], now: Now) -> (Vec<Bytes>, Source) {
        let mut lent: Vec<Bytes> = Vec::new();
        let mut source = Source::Overlay;
        for &key in keys {
            if lent.iter().any(|before| before == key) {
                continue;
            }
            if self.is_written(key) {
                if !self.knows_all(key, now) {
                    source = Source::Unknown;
                }
                continue;
            }
            match self.shadow.look(key, now) {
                Look::Fresh { .. } => {
                    self.shadow.lend(&mut self.overlay, key, now);
                    lent.push(Bytes::copy_from_slice(key));
                    if source == Source::Overlay {
                        source = Source::Shadow;
                    }
                }
                look => {
                    self.met_too_old |= look == Look::TooOld;
                    source = Source::Unknown;
                }
            }
        }
        (lent, source)
    }

    /// Whether memory can say what is at a key, be it nothing.
    fn knows(&self, key: &[u8], now: Now) -> bool {
        self.is_written(key) || matches!(self.shadow.look(key, now), Look::Fresh { .. })
    }

    /// Whether what memory has at a key is all there is, and not only what was added to it here.
    pub(super) fn knows_all(&self, key: &[u8], now: Now) -> bool {
        match self.written.get(key) {
            Some(written) => written.whole,
            None => matches!(self.shadow.look(key, now), Look::Fresh { .. }),
        }
    }

    pub(super) fn knows_expiry(&self, key: &[u8], now: Now) -> bool {
        match self.written.get(key) {
            Some(written) => written.expiry,
            None => self.shadow.look(key, now) == Look::Fresh { expiry: true },
        }
    }

    /// Whether memory can say when the fields of a hash expire.
    pub(super) fn knows_fields(&self, key: &[u8]) -> bool {
        self.written.get(key).is_some_and(|written| written.fields)
    }

    // ---- writes --------------------------------------------------------------------------------

    fn write(
        &mut self,
        deed: &Deed,
        keys: &[&[u8]],
        args: &[&[u8]],
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, No> {
        let written = deed.written(keys);
        self.renew_deltas(written, now);
        let plan = self.plan(deed, keys, args, now)?;
        // Before anything changes: what was known decides what is known afterwards.
        let lives: Vec<Written> =
            written.iter().map(|key| self.will_know(deed, keys, key, now)).collect();
        let (lent, source) = self.lend(keys, now);
        self.bound_overlay(written);
        let result = match self.overlay.overruns(now) {
            Some(bound) => Err(MemoryRefusal::Full(bound)),
            None => executed(&mut self.overlay, words, now),
        };
        let done = result.as_ref().is_ok_and(|value| deed.was_done(value));
        for key in &lent {
            if !done || !written.contains(&&key[..]) {
                self.overlay.remove(key, now);
            }
        }
        let value = result?;
        if done {
            for (key, known) in written.iter().zip(lives) {
                self.note_written(key, known, now);
                self.owe(deed, key, &plan, &value, now);
            }
        }
        // What is said of a plain write does not depend on what was there before.
        let plain = matches!(deed.makes, Makes::Whole) && deed.needs == Needs::Nothing;
        let source = if plain && value == Value::OK { Source::Overlay } else { source };
        Ok(Reply::from(value).with_source(source))
    }

    /// A delta that time has overtaken is no longer what its key is owed.
    fn renew_deltas(&mut self, keys: &[&[u8]], now: Now) {
        for key in keys {
            let Some(Entry::Merge(delta)) = self.journal.get(key) else { continue };
            match delta.fate(now.unix_millis()) {
                Fate::Due => {}
                // What comes now is added to nothing, which the client knows.
                Fate::Expired => {
                    self.journal.owe(key, Entry::Replay);
                    if let Some(written) = self.written.get_mut(*key) {
                        written.whole = true;
                    }
                }
                Fate::Lapsed => self.journal.remove(key),
            }
        }
    }

    /// Whether it may be done, and whether there is room for what it leaves behind.
    fn plan<'a>(
        &mut self,
        deed: &Deed,
        keys: &[&[u8]],
        args: &'a [&'a [u8]],
        now: Now,
    ) -> Result<Plan<'a>, No> {
        let written = deed.written(keys);
        self.check_policies(deed, written)?;
        self.check_absence(deed, keys, now)?;
        self.check_knowledge(deed, keys, now)?;
        let mut plan = Plan { change: None };
        let mut more = 0;
        for key in written {
            if self.rules.policy_of(key) != Some(Policy::MergeDelta) || self.is_ours(key) {
                continue;
            }
            match deed.makes {
                Makes::Nothing | Makes::Whole | Makes::Expiry => {}
                Makes::Derived => {
                    if !deed.worked_on(keys).iter().all(|key| self.is_ours(key)) {
                        return Err(MemoryRefusal::Unmergeable.into());
                    }
                }
                Makes::Change(change) => {
                    plan.change = change(args);
                    more = self.room_for(key, plan.change.as_ref())?;
                }
                Makes::Value => return Err(MemoryRefusal::Unmergeable.into()),
            }
        }
        self.check_room(written, more)?;
        Ok(plan)
    }

    /// Whether there is room for what these writes leave behind, beside their values; `more` is how much
    /// the journal takes for each.
    pub(super) fn check_room(&self, written: &[&[u8]], more: usize) -> Result<(), MemoryRefusal> {
        self.check_room_for_keys(written)?;
        let owed = |key: &&&[u8]| self.rules.policy_of(key) != Some(Policy::Discard);
        let owed = written.iter().filter(owed).map(|key| (*key, more));
        self.journal.lacks(owed).map_or(Ok(()), |bound| Err(MemoryRefusal::Full(bound)))
    }

    fn check_room_for_keys(&self, written: &[&[u8]]) -> Result<(), MemoryRefusal> {
        let new = written.iter().filter(|key| !self.is_written(key));
        let (count, bytes) = new.fold((0, 0), |(count, bytes), key| (count + 1, bytes + key.len()));
        let written_max = self.bounds.entries_max.saturating_mul(WRITTEN_FACTOR);
        let all_bytes = self.written_bytes + self.overlay.bytes() + bytes;
        if count > 0 && self.written.len() + count > written_max {
            return Err(MemoryRefusal::Full(Bound::MemoryEntries));
        }
        if count > 0 && all_bytes > self.bounds.bytes_max {
            return Err(MemoryRefusal::Full(Bound::MemoryBytes));
        }
        Ok(())
    }

    /// Forgets the keys that were written, hold nothing any more, and are owed nothing: all that is
    /// lost is that they are known to be absent. Gives whether there were any. Goes through all of them,
    /// so not each time that there is no room.
    pub(super) fn drop_forgotten(&mut self, now: Now) -> bool {
        if self.swept_at.is_some_and(|at| now.instant < at + SWEEP_INTERVAL) {
            return false;
        }
        self.swept_at = Some(now.instant);
        let (overlay, journal, count) = (&mut self.overlay, &self.journal, self.written.len());
        let mut bytes = 0;
        self.written.retain(|key, _| {
            let kept = journal.contains(key) || overlay.contains(key, now);
            if kept {
                bytes += key.len();
            } else {
                // It may have expired, and be there still.
                overlay.remove(key, now);
            }
            kept
        });
        self.written_bytes = bytes;
        let any = self.written.len() < count;
        self.era += u64::from(any);
        any
    }

    /// Whether what is written at once can be recovered at once.
    fn check_policies(&self, deed: &Deed, written: &[&[u8]]) -> Result<(), MemoryRefusal> {
        let mut policies = written.iter().map(|key| self.rules.policy_of(key));
        let first = policies.next();
        let several = first.is_some_and(|first| policies.any(|policy| policy != first));
        if several && deed.on != On::Each { Err(MemoryRefusal::Mixed) } else { Ok(()) }
    }

    fn check_absence(&self, deed: &Deed, keys: &[&[u8]], now: Now) -> Result<(), MemoryRefusal> {
        for key in deed.made_if_absent(keys) {
            let guess = deed.if_absent == IfAbsent::Lock || !self.knows(key, now);
            if guess && !self.rules.allows_if_absent(key) {
                return Err(MemoryRefusal::Unsafe);
            }
        }
        Ok(())
    }

    fn check_knowledge(
        &mut self,
        deed: &Deed,
        keys: &[&[u8]],
        now: Now,
    ) -> Result<(), MemoryRefusal> {
        let policies = || deed.written(keys).iter().filter_map(|key| self.rules.policy_of(key));
        // What is forgotten or deleted in the end may be made up for the time being.
        let passing = policies().all(|of| matches!(of, Policy::Discard | Policy::Invalidate));
        let merges = policies().all(|policy| policy == Policy::MergeDelta);
        let known = |key: &&[u8]| self.knows(key, now);
        let is_known = match deed.needs {
            Needs::Nothing => true,
            Needs::Value if passing => true,
            Needs::Value if merges && matches!(deed.makes, Makes::Change(_)) => true,
            Needs::Value => deed.worked_on(keys).iter().all(known),
            Needs::Presence => {
                // Whoever takes a value along takes its time to live along.
                let carries = matches!(deed.makes, Makes::Derived) && !passing;
                let first = keys.first();
                first.is_some_and(known)
                    && (!carries || first.is_some_and(|key| self.knows_expiry(key, now)))
            }
            Needs::Expiry => keys.first().is_some_and(|key| self.knows_expiry(key, now)),
            Needs::FieldExpiry => keys.first().is_some_and(|key| self.knows_fields(key)),
        };
        if is_known {
            return Ok(());
        }
        let too_old =
            |key: &&[u8]| !self.is_written(key) && self.shadow.look(key, now) == Look::TooOld;
        if !keys.iter().any(too_old) {
            return Err(MemoryRefusal::Unseen);
        }
        self.met_too_old = true;
        Err(MemoryRefusal::TooOld)
    }

    /// Whether the whole value at a key, or that there is none, is the client's own doing.
    pub(super) fn is_ours(&self, key: &[u8]) -> bool {
        matches!(self.journal.get(key), Some(Entry::Replay))
    }

    /// How much more a change takes in the journal.
    fn room_for(&self, key: &[u8], change: Option<&Change<'_>>) -> Result<usize, No> {
        // Where the arguments are none that the command takes, the store will say so.
        let Some(change) = change else { return Ok(0) };
        let fits = match self.journal.get(key) {
            Some(Entry::Merge(delta)) => delta.admits(change),
            _ => Delta::default().admits(change),
        };
        fits.map_err(|misfit| match misfit {
            Misfit::Overflow => No::Error(Value::error(OVERFLOW)),
            Misfit::Infinite => No::Error(Value::error(INFINITE)),
            Misfit::Other => No::Refusal(MemoryRefusal::Unmergeable),
        })
    }

    /// What will be known of a key once it is written.
    fn will_know(&self, deed: &Deed, keys: &[&[u8]], key: &[u8], now: Now) -> Written {
        let takes_along = matches!(deed.makes, Makes::Derived) && deed.needs == Needs::Presence;
        if takes_along && keys.last().is_some_and(|last| *last == key) {
            let from = keys.first();
            let expiry = from.is_some_and(|from| self.knows_expiry(from, now));
            return Written {
                expiry,
                fields: from.is_some_and(|from| self.knows_fields(from)),
                whole: from.is_some_and(|from| self.knows_all(from, now)),
            };
        }
        let passing = |policy| matches!(policy, Policy::Discard | Policy::Invalidate);
        // Nothing was there, as far as memory goes.
        let made_up = !self.knows(key, now) && self.rules.policy_of(key).is_some_and(passing);
        let replaces = matches!(deed.makes, Makes::Whole | Makes::Derived);
        let tells_expiry = !deed.keeps_expiry || matches!(deed.makes, Makes::Expiry);
        Written {
            expiry: made_up || tells_expiry || self.knows_expiry(key, now),
            fields: made_up || replaces || self.knows_fields(key),
            whole: made_up || replaces || self.knows_all(key, now),
        }
    }

    /// Leaves the overlay what all that is written does not take for its keys.
    pub(super) fn bound_overlay(&mut self, written: &[&[u8]]) {
        let new = written.iter().filter(|key| !self.is_written(key));
        let keys = self.written_bytes + new.map(|key| key.len()).sum::<usize>();
        let bytes_max = self.bounds.bytes_max.saturating_sub(keys);
        self.overlay.set_bounds(Bounds { bytes_max, ..self.bounds });
    }

    pub(super) fn note_written(&mut self, key: &[u8], known: Written, now: Now) {
        match self.written.get_mut(key) {
            Some(written) => *written = known,
            None => {
                self.written_bytes += key.len();
                self.written.insert(Bytes::copy_from_slice(key), known);
                self.shadow.remove(key, now);
            }
        }
    }

    /// Notes what recovery owes to a key that was written.
    fn owe(&mut self, deed: &Deed, key: &[u8], plan: &Plan<'_>, reply: &Value, now: Now) {
        match self.rules.policy_of(key) {
            None | Some(Policy::Discard) => {}
            Some(Policy::Invalidate) => self.journal.owe(key, Entry::Delete),
            Some(Policy::ReplayLastWins) => self.journal.owe(key, Entry::Replay),
            Some(Policy::MergeDelta) => self.owe_delta(deed, key, plan, reply, now),
        }
    }

    fn owe_delta(&mut self, deed: &Deed, key: &[u8], plan: &Plan<'_>, reply: &Value, now: Now) {
        if self.is_ours(key) {
            return;
        }
        let entry = self.overlay.peek(key, now);
        let (is_there, expires_at) = (entry.is_some(), entry.and_then(|entry| entry.expires_at()));
        match deed.makes {
            // A moment of expiry that has passed is a deletion.
            Makes::Expiry if is_there => self.journal.merge(key, |delta| delta.expire(expires_at)),
            Makes::Change(_) => {
                let Some(change) = &plan.change else { return };
                self.journal.merge(key, |delta| {
                    delta.take(change, reply);
                    delta.base_expires(expires_at);
                });
            }
            _ => self.journal.owe(key, Entry::Replay),
        }
    }

    // ---- misses --------------------------------------------------------------------------------

    /// Answers as if nothing were at any key, and drops what is written.
    fn answer_as_absent(
        &mut self,
        deed: &Deed,
        keys: &[&[u8]],
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, MemoryRefusal> {
        let written = deed.written(keys);
        if deed.if_absent == IfAbsent::Lock {
            return Err(MemoryRefusal::Unsafe);
        }
        self.check_dropped(written)?;
        let value = executed(&mut self.blank, words, now);
        self.blank.clear();
        let value = value?;
        if !matches!(value, Value::Error(_)) {
            self.owe_dropped(written);
        }
        Ok(Reply::from(value).with_source(Source::Unknown))
    }

    /// Drops writes to these keys, as if they had been done.
    pub(super) fn drop_as_absent(&mut self, written: &[&[u8]]) -> Result<(), MemoryRefusal> {
        self.check_dropped(written)?;
        self.owe_dropped(written);
        Ok(())
    }

    fn check_dropped(&self, written: &[&[u8]]) -> Result<(), MemoryRefusal> {
        let policy = |key: &&[u8]| self.rules.policy_of(key);
        // To drop what was promised to be kept is not to keep it.
        let keeps = |policy| matches!(policy, Policy::ReplayLastWins | Policy::MergeDelta);
        if written.iter().filter_map(policy).any(keeps) {
            return Err(MemoryRefusal::Mixed);
        }
        let owed = written.iter().filter(|key| policy(key) != Some(Policy::Discard));
        let lacks = self.journal.lacks(owed.map(|key| (*key, 0)));
        lacks.map_or(Ok(()), |bound| Err(MemoryRefusal::Full(bound)))
    }

    fn owe_dropped(&mut self, written: &[&[u8]]) {
        for key in written {
            if self.rules.policy_of(key) != Some(Policy::Discard) {
                self.journal.owe(key, Entry::Delete);
            }
        }
    }
}

/// How often at most all written keys are gone through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What a server says of a sum that is no 64-bit number, or none at all.
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const INFINITE: &str = "ERR increment would produce NaN or Infinity";

/// A scan over the members of a key gives all of them in one go, whatever cursor it is given: that is
/// an iteration like any other, also for one that was begun on the server.
fn whole_scan<'w>(words: &[&'w [u8]]) -> Option<Vec<&'w [u8]>> {
    let [name, key, cursor, options @ ..] = words else { return None };
    let scans: [&[u8]; 3] = [b"HSCAN", b"SSCAN", b"ZSCAN"];
    let is_cursor = cursor.iter().all(u8::is_ascii_digit) && !cursor.is_empty();
    if !is_cursor || !scans.iter().any(|scan| name.eq_ignore_ascii_case(scan)) {
        return None;
    }
    let mut whole: Vec<&[u8]> = vec![name, key, b"0"];
    whole.extend(options);
    // Of two counts the last one holds.
    whole.extend([&b"COUNT"[..], b"1000000000"]);
    Some(whole)
}

fn executed(store: &mut Store, words: &[&[u8]], now: Now) -> Result<Value, MemoryRefusal> {
    match store.execute(words, now) {
        Answer::Reply(value) => Ok(value),
        Answer::Full(_) => Err(MemoryRefusal::Full(store.lack())),
        Answer::Unsupported => Err(MemoryRefusal::Unsupported),
    }
}

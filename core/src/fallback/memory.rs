//! Answers in the server's stead: what was last known, what was written since, and what is owed.
//!
//! | part | holds | lives |
//! |---|---|---|
//! | shadow | last known values of the server | while live; read while degraded |
//! | overlay | what was written in memory | from the trip until recovery |
//! | written | keys written or deleted in memory: they hide the shadow | as the overlay |
//! | journal | keys that recovery owes a deletion | until it is acknowledged |

use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashSet;

use super::{
    Answer, Bounds, Mode, Policy, Rules, ScriptStore, Standing, Store, journal::Journal,
    keyed::Keyed, shadow::Shadow,
};
use crate::{
    Now,
    commands::{KeySpec, Spec},
    config::{Config, Publish},
    failure::MemoryRefusal,
    request::{Effect, split_arguments},
    resp::{Reply, Source, Value, View},
    rng::Rng,
};

#[derive(Debug)]
pub(crate) struct Memory {
    rules: Rules,
    /// Some key may be answered otherwise than by waiting for the server.
    degrades: bool,
    /// What becomes of messages.
    publish: Mode,
    overlay: Store,
    /// Every key that was written in memory, also where the value is deleted or has expired since:
    /// what the shadow knows of it is older.
    written: HashSet<Bytes, Keyed>,
    written_max: usize,
    shadow: Shadow,
    /// Always empty: what a `Miss` is answered from.
    blank: Store,
    journal: Journal,
    /// The keys of commands that wait for recovery to settle a key.
    held: HashSet<Bytes, Keyed>,
}

/// Who serves a command during recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The server: nothing is owed to its keys.
    Server,
    /// Memory: it reads what the server has not been told yet.
    Memory,
    /// Nobody yet.
    Held,
}

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
                Publish::Fail => Mode::Fail,
                Publish::Wait => Mode::Wait,
                Publish::Local => Mode::Memory { policy: Policy::Discard, max_age: Duration::ZERO },
            },
            overlay: Store::new(rng.next(), bounds),
            written: HashSet::with_hasher(Keyed::new(rng.next())),
            // As many deleted keys as there may be values.
            written_max: limits.entries_max.saturating_mul(2),
            shadow: Shadow::new(&mut rng, bounds, limits.shadow_value_max),
            blank: Store::new(rng.next(), bounds),
            journal: Journal::new(rng.next(), limits.journal_entries_max, limits.journal_bytes_max),
            held: HashSet::with_hasher(Keyed::new(rng.next())),
        }
    }

    /// Whether any key may be answered without the server, or fail at once.
    pub(crate) fn degrades(&self) -> bool {
        self.degrades
    }

    /// How a command behaves while the server is down, and whether its reply is of interest to the
    /// shadow. `args` are the arguments after the name.
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
        let (mode, noted) = self.mode_of(spec, effect, args);
        (mode.into(), noted)
    }

    /// Which pattern a command counts for, in the order of declaration: that of its first key. The last
    /// number is that of the default; what does not fit in a byte is counted for none.
    pub(crate) fn rule_for<A: AsRef<[u8]>>(&self, spec: &Spec, args: &[A]) -> u8 {
        let rule = match spec.keys().of(args).next() {
            _ if spec.is_publish() => None,
            Some(key) => self.rules.rule_of(key),
            None => self.rules.rule_of_all(),
        };
        u8::try_from(rule.unwrap_or(self.rules.len())).unwrap_or(u8::MAX)
    }

    fn mode_of<A: AsRef<[u8]>>(&self, spec: &Spec, effect: Effect, args: &[A]) -> (Mode, bool) {
        if spec.is_publish() {
            return (self.publish, false);
        }
        // A command that nobody knows may concern any key.
        if spec.concerns_all_keys() || spec.is_unknown() {
            return (self.rules.mode_of_all(), effect != Effect::Read);
        }
        let mut mode = None;
        let mut remembers = false;
        for key in spec.keys().of(args) {
            let of_key = self.rules.mode_of(key);
            remembers |= matches!(of_key, Mode::Memory { .. });
            mode = Some(mode.map_or(of_key, |mode: Mode| mode.strictest(of_key)));
        }
        let noted = remembers && (effect != Effect::Read || matches!(spec.name(), "GET" | "MGET"));
        (mode.unwrap_or(self.rules.default_mode()), noted)
    }

    // ---- while live ----------------------------------------------------------------------------

    /// Learns from a command that the server has carried out.
    pub(crate) fn observe(&mut self, spec: &Spec, command: &[u8], reply: &Reply, now: Now) {
        let args = split_arguments(spec, command);
        match (spec.name(), args.as_slice()) {
            ("GET", [key]) => self.learn(key, text(reply.view()), None, now),
            ("MGET", keys) => {
                for (key, value) in keys.iter().zip(reply.view().items()) {
                    self.learn(key, text(value), None, now);
                }
            }
            ("SET", [key, value, options @ ..]) => match ttl_of_set(options, now) {
                Some(ttl) => self.learn(key, Some(value), ttl, now),
                None => self.shadow.remove(key, now),
            },
            ("GETSET", [key, value]) => self.learn(key, Some(value), None, now),
            ("SETEX", [key, seconds, value]) => {
                self.learn(key, Some(value), millis(seconds, 1_000), now);
            }
            ("PSETEX", [key, span, value]) => self.learn(key, Some(value), millis(span, 1), now),
            ("MSET", pairs) => {
                for pair in pairs.chunks_exact(2) {
                    self.learn(pair[0], Some(pair[1]), None, now);
                }
            }
            (_, args) => self.forget_words(spec, args, now),
        }
    }

    /// Forgets what is known of the keys of a write whose effect nobody knows.
    pub(crate) fn forget(&mut self, spec: &Spec, command: Option<&[u8]>, now: Now) {
        let Some(command) = command else { return };
        self.forget_words(spec, &split_arguments(spec, command), now);
    }

    fn forget_words(&mut self, spec: &Spec, args: &[&[u8]], now: Now) {
        if spec.effect() == Effect::Read && !spec.is_script() {
            return;
        }
        if spec.concerns_all_keys() {
            return self.shadow.clear();
        }
        let keys = if spec.is_unknown() { KeySpec::All } else { spec.keys() };
        for key in keys.of(args) {
            self.shadow.remove(key, now);
        }
    }

    fn learn(&mut self, key: &[u8], value: Option<&[u8]>, ttl_millis: Option<u64>, now: Now) {
        let Mode::Memory { max_age, .. } = self.rules.mode_of(key) else { return };
        match value {
            Some(value) => self.shadow.insert(key, value, max_age, ttl_millis, now),
            None => self.shadow.remove(key, now),
        }
    }

    pub(crate) fn drop_shadow(&mut self) {
        self.shadow.clear();
    }

    // ---- while degraded ------------------------------------------------------------------------

    /// Answers a command. `words` are its name and arguments.
    pub(crate) fn answer(
        &mut self,
        spec: &Spec,
        effect: Effect,
        standing: Standing,
        words: &[&[u8]],
        now: Now,
    ) -> Result<Reply, MemoryRefusal> {
        let never = spec.is_unknown()
            || spec.is_script()
            || spec.is_session()
            || (spec.concerns_all_keys() && effect != Effect::Read);
        if never || !Store::supports(words[0]) {
            return Err(MemoryRefusal::Unsupported);
        }
        let args = &words[spec.words()..];
        // Whoever calls a write a read does not get around its rules.
        let reads = effect == Effect::Read && spec.effect() == Effect::Read;
        let invalidates = match standing {
            Standing::Miss => true,
            Standing::Memory(policy) => policy == Policy::Invalidate,
            Standing::Wait | Standing::Fail => unreachable!("these are not answered from memory"),
        };
        if !reads {
            self.check_write(spec, args, invalidates, now)?;
        }
        if standing == Standing::Miss {
            let value = executed(&mut self.blank, words, now)?;
            self.blank.clear();
            if !reads {
                self.owe(spec, args);
            }
            return Ok(Reply::from(value).with_source(Source::Unknown));
        }
        let (lent, source) = self.lend(spec, args, now)?;
        // What is only read goes back at once and needs no room.
        let result = if !reads && self.overlay.overruns(now) {
            Err(MemoryRefusal::Full("the overlay"))
        } else {
            executed(&mut self.overlay, words, now)
        };
        let changed = !reads && matches!(&result, Ok(value) if !matches!(value, Value::Error(_)));
        if changed {
            self.note_write(spec, args);
            if invalidates {
                self.owe(spec, args);
            }
        } else {
            for key in &lent {
                self.overlay.remove(key, now);
            }
        }
        // A plain write does not depend on what was there before.
        let source = if effect == Effect::Repeatable { Source::Overlay } else { source };
        Ok(Reply::from(result?).with_source(source))
    }

    // ---- native scripts ------------------------------------------------------------------------

    /// What a native script works on: what memory knows of the keys that its caller declared.
    pub(crate) fn lend_to_script(
        &mut self,
        spec: &Spec,
        standing: Standing,
        args: &[&[u8]],
        seed: u64,
        now: Now,
    ) -> Result<ScriptStore, MemoryRefusal> {
        let bounds = self.overlay.bounds();
        let reads_only = spec.effect() == Effect::Read;
        let mut lent = ScriptStore::new(spec.keys().of(args), reads_only, seed, bounds, now);
        for key in lent.declared() {
            if standing == Standing::Miss {
                lent.note_source(Source::Unknown);
            } else if self.is_written(&key) {
                lent.store_mut().borrow_from(&self.overlay, &key, now);
            } else if self.shadow.lend(lent.store_mut(), &key, now) {
                lent.note_lent(&key);
            } else {
                lent.note_source(Source::Unknown);
            }
        }
        Ok(lent)
    }

    /// Takes over what a native script has written, all of it or nothing.
    pub(crate) fn take_from_script(
        &mut self,
        standing: Standing,
        from: &ScriptStore,
        now: Now,
    ) -> Result<(), MemoryRefusal> {
        let wrote: Vec<&Bytes> = from.wrote().collect();
        let invalidates = matches!(standing, Standing::Miss | Standing::Memory(Policy::Invalidate));
        let new = wrote.iter().filter(|key| !self.is_written(key)).count();
        if new > 0 && self.written.len() + new > self.written_max {
            return Err(MemoryRefusal::Full("the overlay"));
        }
        if invalidates && !self.journal.has_room(wrote.iter().map(|key| &key[..])) {
            return Err(MemoryRefusal::Full("the journal"));
        }
        if standing != Standing::Miss {
            let taken = self.overlay.take_over(from.store(), &wrote, now);
            taken.map_err(|_| MemoryRefusal::Full("the overlay"))?;
            self.written.extend(wrote.iter().map(|key| Bytes::copy_from_slice(key)));
        }
        if invalidates {
            wrote.iter().for_each(|key| self.journal.add(key));
        }
        Ok(())
    }

    /// Lends the overlay what the shadow knows of the command's keys. Gives what was lent, and how
    /// good the answer can be.
    fn lend(
        &mut self,
        spec: &Spec,
        args: &[&[u8]],
        now: Now,
    ) -> Result<(Vec<Bytes>, Source), MemoryRefusal> {
        let keys: Vec<Bytes> = if spec.concerns_all_keys() {
            self.shadow.keys(now)
        } else {
            spec.keys().of(args).map(Bytes::copy_from_slice).collect()
        };
        let mut lent = Vec::new();
        let mut source = if spec.concerns_all_keys() { Source::Unknown } else { Source::Overlay };
        for key in keys {
            if self.is_written(&key) {
                continue;
            }
            if !self.shadow.lend(&mut self.overlay, &key, now) {
                source = Source::Unknown;
                continue;
            }
            // When a remembered value expires is the client's guess, not the server's word.
            if asks_for_ttl(spec) {
                self.overlay.remove(&key, now);
                return Err(MemoryRefusal::Unseen);
            }
            if source == Source::Overlay {
                source = Source::Shadow;
            }
            lent.push(key);
        }
        Ok((lent, source))
    }

    fn is_written(&self, key: &[u8]) -> bool {
        self.written.contains(key)
    }

    fn check_write(
        &self,
        spec: &Spec,
        args: &[&[u8]],
        invalidates: bool,
        now: Now,
    ) -> Result<(), MemoryRefusal> {
        let option = |name: &str| {
            spec.name() == "SET"
                && args.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()))
        };
        // This is how locks are taken, and two clients would both get theirs.
        if matches!(spec.name(), "SETNX" | "MSETNX" | "RENAMENX") || option("NX") {
            return Err(MemoryRefusal::Unsafe);
        }
        let needs_value = option("XX")
            || matches!(
                spec.name(),
                "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" | "PERSIST" | "RENAME" | "COPY"
            );
        let first = args.first().copied().unwrap_or_default();
        if needs_value && !self.is_written(first) && !self.shadow.contains(first, now) {
            return Err(MemoryRefusal::Unseen);
        }
        let new = spec.keys().of(args).filter(|key| !self.is_written(key)).count();
        if new > 0 && self.written.len() + new > self.written_max {
            return Err(MemoryRefusal::Full("the overlay"));
        }
        if invalidates && !self.journal.has_room(spec.keys().of(args)) {
            return Err(MemoryRefusal::Full("the journal"));
        }
        Ok(())
    }

    fn note_write(&mut self, spec: &Spec, args: &[&[u8]]) {
        for key in spec.keys().of(args) {
            if !self.written.contains(key) {
                self.written.insert(Bytes::copy_from_slice(key));
            }
        }
    }

    fn owe(&mut self, spec: &Spec, args: &[&[u8]]) {
        for key in spec.keys().of(args) {
            self.journal.add(key);
        }
    }

    // ---- recovery ------------------------------------------------------------------------------

    /// Who serves a command while recovery settles one key after the other. What has to wait is
    /// remembered: all that comes later for its keys waits behind it. `insists` is whoever takes no
    /// answer from memory.
    pub(crate) fn claim(
        &mut self,
        spec: &Spec,
        effect: Effect,
        args: &[&[u8]],
        insists: bool,
    ) -> Claim {
        if spec.concerns_all_keys() {
            return if self.journal.len() > 0 { Claim::Held } else { Claim::Server };
        }
        let keys = || spec.keys().of(args);
        let all_owed = keys().all(|key| self.journal.contains(key));
        let any_held = keys().any(|key| self.held.contains(key));
        if !any_held && !keys().any(|key| self.journal.contains(key)) {
            return Claim::Server;
        }
        if effect == Effect::Read && all_owed && !any_held && !insists {
            return Claim::Memory;
        }
        for key in keys() {
            self.held.insert(Bytes::copy_from_slice(key));
        }
        Claim::Held
    }

    /// What had to wait is about to be placed again.
    pub(crate) fn release_held(&mut self) {
        self.held.clear();
    }

    /// The keys that are owed a deletion, the oldest first.
    pub(crate) fn journal_next(&self, count: usize) -> Vec<Bytes> {
        self.journal.first(count)
    }

    /// The server answers again for every key that nothing is owed to: what was written to such keys
    /// in memory is dropped, so that another outage can't bring it back.
    pub(crate) fn hand_back(&mut self, now: Now) {
        // In the order of the keys: a set has none that is the same in every run.
        let mut written: Vec<_> = self.written.iter().cloned().collect();
        written.sort_unstable();
        for key in written {
            if !self.journal.contains(&key) {
                self.drop_key(&key, now);
            }
        }
    }

    /// The server has deleted this key, and answers for it again.
    pub(crate) fn settled(&mut self, key: &[u8], now: Now) {
        self.journal.remove(key);
        self.drop_key(key, now);
    }

    fn drop_key(&mut self, key: &[u8], now: Now) {
        self.overlay.remove(key, now);
        self.written.remove(key);
        self.shadow.remove(key, now);
    }

    /// Forgets everything, what is owed to the server among it.
    pub(crate) fn clear(&mut self) {
        self.overlay.clear();
        self.written.clear();
        self.shadow.clear();
        self.journal.clear();
    }

    // ---- sizes ---------------------------------------------------------------------------------

    /// Entries and bytes written in memory.
    pub(crate) fn overlay_size(&self) -> (usize, usize) {
        (self.overlay.len(), self.overlay.bytes())
    }

    /// Entries and bytes remembered of the server.
    pub(crate) fn shadow_size(&self) -> (usize, usize) {
        self.shadow.size()
    }

    pub(crate) fn journal_len(&self) -> usize {
        self.journal.len()
    }

    /// How many keys are owed something, and how many bytes that takes.
    pub(crate) fn journal_size(&self) -> (usize, usize) {
        (self.journal.len(), self.journal.bytes())
    }
}

fn executed(store: &mut Store, words: &[&[u8]], now: Now) -> Result<Value, MemoryRefusal> {
    match store.execute(words, now) {
        Answer::Reply(value) => Ok(value),
        Answer::Full(_) => Err(MemoryRefusal::Full("the overlay")),
        Answer::Unsupported => Err(MemoryRefusal::Unsupported),
    }
}

fn text(value: View<'_>) -> Option<&[u8]> {
    (!value.is_null() && !value.is_error()).then(|| value.payload())
}

fn asks_for_ttl(spec: &Spec) -> bool {
    matches!(spec.name(), "TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME")
}

/// The time to live that a SET gives, in milliseconds: `None` where it may not have set the value, or
/// keeps a time to live that nobody here knows.
fn ttl_of_set(options: &[&[u8]], now: Now) -> Option<Option<u64>> {
    let [option, value] = options else {
        return options.is_empty().then_some(None);
    };
    let at = |unit| Some(millis(value, unit)?.saturating_sub(now.unix_millis()));
    match option.to_ascii_uppercase().as_slice() {
        b"EX" => Some(millis(value, 1_000)),
        b"PX" => Some(millis(value, 1)),
        b"EXAT" => Some(at(1_000)),
        b"PXAT" => Some(at(1)),
        _ => None,
    }
}

fn millis(number: &[u8], unit: u64) -> Option<u64> {
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    number.checked_mul(unit)
}

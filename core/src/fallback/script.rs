//! Scripts as functions: what runs in a script's stead where there is no server to run it.
//!
//! A function of the user's must not run under a lock that it could ask for again, so it does not run
//! where requests are answered. It is handed a small store of its own, with what stands at the keys that
//! its caller declared; when it is done, the keys that it wrote are taken over, all of them or none.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Answer, Bounds, Policy, Store,
    deeds::{self, Deed, IfAbsent, Makes, Needs, On},
    memory::Written,
    store::Savepoint,
};
use crate::{
    Now,
    commands::Spec,
    failure::MemoryRefusal,
    request::Effect,
    resp::{Reply, Source, Value},
};

/// The SHA-1 of a script's source, by which servers know it.
pub(crate) type Sha1 = [u8; 20];

/// The functions that stand in for scripts.
///
/// Two are equal if they hold the same functions, which is told by who they are and not by what they do.
#[derive(Clone, Default)]
pub struct NativeScripts(BTreeMap<Sha1, Arc<Function>>);

type Function = dyn Fn(&mut ScriptStore, &[&[u8]], &[&[u8]]) -> Value + Send + Sync;

/// What a native script works on: an embedded store that holds what stands at the keys which the
/// script's caller declared, and nothing else.
pub struct ScriptStore {
    store: Store,
    declared: BTreeMap<Bytes, Declared>,
    source: Source,
    /// It is called by a command that may only read.
    reads_only: bool,
    /// Its keys may only be read while the server is down.
    stale: bool,
    /// Time stands still while a script runs.
    now: Now,
    refusal: Option<MemoryRefusal>,
    /// What was lent, where others may change it meanwhile.
    before: Option<Savepoint>,
}

/// What is known of a key, and what may be done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    /// What stands there, be it nothing.
    pub(super) value: bool,
    /// When it expires, and its fields, if it is a hash.
    pub(super) lives: Written,
    pub(super) policy: Option<Policy>,
    /// Something may be done to it on condition that it is absent.
    pub(super) if_absent: bool,
    /// The whole value is the client's own doing.
    pub(super) is_ours: bool,
    pub(super) wrote: bool,
}

/// One run of a native script, on its way to whoever may run foreign code.
pub struct NativeRun {
    id: u64,
    function: Arc<Function>,
    store: Box<ScriptStore>,
    keys: Vec<Bytes>,
    args: Vec<Bytes>,
}

/// What came of a [`NativeRun`].
pub struct NativeDone {
    pub(crate) id: u64,
    /// What the function gave back, or why that does not count.
    pub(crate) result: Result<Reply, MemoryRefusal>,
    pub(crate) store: Box<ScriptStore>,
}

impl NativeScripts {
    /// Adds one, in place of what was there for the same script.
    pub(crate) fn add(&mut self, script: &[u8], function: Arc<Function>) {
        self.0.insert(sha1_of(script), function);
    }

    /// The function that stands in for what a command runs, if any does. `args` are the arguments after
    /// the command's name.
    pub(crate) fn find(&self, spec: &Spec, args: &[&[u8]]) -> Option<&Arc<Function>> {
        if self.0.is_empty() {
            return None;
        }
        let script = args.first()?;
        let sha1 = match spec.name() {
            "EVAL" | "EVAL_RO" => digest(script),
            "EVALSHA" | "EVALSHA_RO" => from_hex(script)?,
            _ => return None,
        };
        self.0.get(&sha1)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for NativeScripts {
    fn eq(&self, other: &Self) -> bool {
        let same = |((a, first), (b, second)): (_, (_, &Arc<Function>))| {
            a == b && Arc::ptr_eq(first, second)
        };
        self.len() == other.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Eq for NativeScripts {}

/// The SHA-1s of the scripts.
impl fmt::Debug for NativeScripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |sha1: &Sha1| sha1.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        f.debug_set().entries(self.0.keys().map(hex)).finish()
    }
}

/// The error with which a server answers a call of a script whose keys can't be told from its arguments.
/// `args` are the arguments after the command's name.
pub(crate) fn misuse(spec: &Spec, args: &[&[u8]]) -> Option<Value> {
    let Some(count) = args.get(1) else {
        let name = spec.name().to_ascii_lowercase();
        return Some(Value::error(format!("ERR wrong number of arguments for '{name}' command")));
    };
    let count = std::str::from_utf8(count).ok().and_then(|text| text.parse::<i64>().ok());
    let most = i64::try_from(args.len() - 2).unwrap_or(i64::MAX);
    let advice = match count {
        None => "value is not an integer or out of range",
        Some(..0) => "Number of keys can't be negative",
        Some(count) if count > most => "Number of keys can't be greater than number of args",
        Some(_) => return None,
    };
    Some(Value::error(format!("ERR {advice}")))
}

/// The SHA-1 of a script, which is given by its source or by its SHA-1 in hexadecimal digits. No script
/// is forty such digits and nothing else.
fn sha1_of(script: &[u8]) -> Sha1 {
    from_hex(script).unwrap_or_else(|| digest(script))
}

fn digest(source: &[u8]) -> Sha1 {
    sha1_smol::Sha1::from(source).digest().bytes()
}

fn from_hex(text: &[u8]) -> Option<Sha1> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|&[high, low]| Some(16 * digit(high)? + digit(low)?)).collect();
    bytes?.try_into().ok()
}

impl Declared {
    /// Where there is no server to know more.
    pub(crate) const OWN: Declared = Declared {
        value: true,
        lives: Written { expiry: true, fields: true, whole: true },
        policy: None,
        if_absent: true,
        is_ours: true,
        wrote: false,
    };

    /// Whether what is written is forgotten or deleted in the end, so that it may be made up.
    fn is_passing(&self) -> bool {
        matches!(self.policy, None | Some(Policy::Discard | Policy::Invalidate))
    }
}

impl ScriptStore {
    /// An empty one, which may hold so much. Keys are to be declared, and what stands there to be put
    /// into the [`store`](ScriptStore::store_mut).
    pub(crate) fn new(seed: u64, bounds: Bounds, now: Now) -> Self {
        ScriptStore {
            store: Store::new(seed, bounds),
            declared: BTreeMap::new(),
            source: Source::Overlay,
            reads_only: false,
            stale: false,
            now,
            refusal: None,
            before: None,
        }
    }

    /// Runs one command, its name in any case, as `redis.pcall` does: errors are values.
    ///
    /// Time stands still while a script runs: nothing expires between two commands. What the script may
    /// not do has an error for an answer too, and nothing of the script counts then, whatever it gives
    /// back: to touch a key that its caller did not declare as one; to do what memory would refuse to
    /// do for any command, such as to change a value that only the server knows; or to run what the
    /// embedded store does not support.
    ///
    /// Takes what the command takes on a server.
    pub fn execute<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        match self.run(&words) {
            Ok(value) => value,
            Err(refusal) => {
                let error = Value::error(format!("ERR {refusal}"));
                self.refusal.get_or_insert(refusal);
                error
            }
        }
    }

    fn run(&mut self, words: &[&[u8]]) -> Result<Value, MemoryRefusal> {
        let spec = words.first().and_then(|name| Spec::find(std::str::from_utf8(name).ok()?));
        // What nobody knows has no keys that anybody knows, and the store has an error for it.
        let spec = spec.unwrap_or(Spec::unknown());
        let args = words.get(1..).unwrap_or_default();
        if spec.is_script() || spec.is_session() || spec.is_blocking() || spec.is_container() {
            return Err(MemoryRefusal::Unsupported);
        }
        if spec.concerns_all_keys() || deeds::reads_others(spec, args) {
            return Err(MemoryRefusal::Undeclared);
        }
        let keys: Vec<&[u8]> = spec.keys().of(args).collect();
        if keys.iter().any(|key| !self.declared.contains_key(*key)) {
            return Err(MemoryRefusal::Undeclared);
        }
        let deed = Deed::of(spec, args);
        if spec.effect() != Effect::Read && deed.is_none_or(|deed| !deed.only_reads()) {
            if self.reads_only {
                const READ_ONLY: &str =
                    "ERR Write commands are not allowed from read-only scripts.";
                return Ok(Value::error(READ_ONLY));
            }
            if self.stale {
                return Err(MemoryRefusal::ReadOnly);
            }
        }
        // A write that the table does not know has no keys that are known to be written.
        if let Some(deed) = &deed {
            self.check(deed, &keys)?;
        } else if !keys.is_empty() {
            return Err(MemoryRefusal::Unsupported);
        }
        let value = match self.store.execute(words, self.now) {
            Answer::Reply(value) => value,
            Answer::Full(_) => return Err(MemoryRefusal::Full(self.store.lack())),
            Answer::Unsupported => return Err(MemoryRefusal::Unsupported),
        };
        if let Some(deed) = deed.filter(|deed| deed.was_done(&value)) {
            self.note(&deed, &keys);
        }
        Ok(value)
    }

    /// Whether what a command does is no guess, or one that recovery makes good.
    fn check(&self, deed: &Deed, keys: &[&[u8]]) -> Result<(), MemoryRefusal> {
        let of = |key: &&[u8]| self.declared[*key];
        let written = || deed.written(keys).iter().map(of);
        let worked_on = || deed.worked_on(keys).iter().map(of);
        let first = keys.first().map(of);
        // What a script writes may depend on what it has read, so nothing of it can be added later.
        if written().any(|key| key.policy == Some(Policy::MergeDelta) && !key.is_ours) {
            return Err(MemoryRefusal::Unmergeable);
        }
        for key in deed.made_if_absent(keys).iter().map(of) {
            if (deed.if_absent == IfAbsent::Lock || !key.value) && !key.if_absent {
                return Err(MemoryRefusal::Unsafe);
            }
        }
        let is_known = match deed.needs {
            Needs::Nothing => true,
            Needs::Expiry if deed.only_reads() => {
                keys.iter().map(of).all(|key| key.lives.expiry || !key.value)
            }
            Needs::FieldExpiry if deed.only_reads() => {
                keys.iter().map(of).all(|key| key.lives.fields || !key.value)
            }
            Needs::Value if written().all(|key| key.is_passing()) => true,
            Needs::Value => worked_on().all(|key| key.value),
            Needs::Presence => first.is_some_and(|key| key.value),
            Needs::Expiry => first.is_some_and(|key| key.lives.expiry),
            Needs::FieldExpiry => first.is_some_and(|key| key.lives.fields),
        };
        if is_known { Ok(()) } else { Err(MemoryRefusal::Unseen) }
    }

    /// Notes what a write leaves behind at its keys.
    fn note(&mut self, deed: &Deed, keys: &[&[u8]]) {
        let source = keys.first().map(|key| self.declared[*key].lives);
        let takes_along = matches!(deed.makes, Makes::Derived) && deed.needs == Needs::Presence;
        for (at, key) in deed.written(keys).iter().enumerate() {
            let Some(key) = self.declared.get_mut(*key) else { continue };
            let last = deed.on == On::Last || at + 1 == keys.len();
            key.lives = if takes_along && last {
                source.unwrap_or(Declared::OWN.lives)
            } else {
                let made_up = !key.value && key.is_passing();
                let replaces = matches!(deed.makes, Makes::Whole | Makes::Derived);
                let tells_expiry = !deed.keeps_expiry || matches!(deed.makes, Makes::Expiry);
                Written {
                    expiry: made_up || tells_expiry || key.lives.expiry,
                    fields: made_up || replaces || key.lives.fields,
                    whole: made_up || replaces || key.lives.whole,
                }
            };
            // Where a value may be made up, it was; elsewhere it was known, or was replaced.
            (key.value, key.wrote) = (true, true);
        }
    }

    // ---- for who lends and takes over ----------------------------------------------------------

    /// It is called by a command that may only read.
    pub(crate) fn read_only(mut self, reads_only: bool) -> Self {
        self.reads_only = reads_only;
        self
    }

    /// Its keys may only be read while the server is down.
    pub(super) fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// What was lent, where others may change it meanwhile.
    pub(super) fn before(mut self, before: Savepoint) -> Self {
        self.before = Some(before);
        self
    }

    pub(super) fn was_lent(&self) -> Option<&Savepoint> {
        self.before.as_ref()
    }

    pub(crate) fn declare(&mut self, key: &[u8], declared: Declared) {
        self.declared.insert(Bytes::copy_from_slice(key), declared);
    }

    /// Where entries are put before the script runs.
    pub(crate) fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// How good an answer can be that is built on what stands here.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn set_source(&mut self, source: Source) {
        self.source = source;
    }

    /// The keys that were written, and what is known of when each expires.
    pub(super) fn wrote(&self) -> impl Iterator<Item = (&Bytes, Written)> {
        let wrote = self.declared.iter().filter(|(_, declared)| declared.wrote);
        wrote.map(|(key, declared)| (key, declared.lives))
    }
}

/// Counts only: keys and values can be secrets.
impl fmt::Debug for ScriptStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptStore")
            .field("store", &self.store)
            .field("declared", &self.declared.len())
            .finish_non_exhaustive()
    }
}

impl NativeRun {
    /// `words` are the whole command.
    pub(crate) fn new(
        id: u64,
        function: Arc<Function>,
        spec: &Spec,
        words: &[&[u8]],
        store: ScriptStore,
    ) -> Self {
        let args = &words[spec.words()..];
        let keys: Vec<_> = spec.keys().of(args).map(Bytes::copy_from_slice).collect();
        // The script, the number of keys, the keys.
        let rest = args.get(2 + keys.len()..).unwrap_or_default();
        let args = rest.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
        NativeRun { id, function, store: Box::new(store), keys, args }
    }

    /// Runs the function. Without any lock held: it is foreign code.
    #[must_use = "the engine waits for what came of it"]
    pub fn run(self) -> NativeDone {
        let NativeRun { id, function, mut store, keys, args } = self;
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        // What the function leaves behind when it panics is thrown away.
        let call = AssertUnwindSafe(|| Reply::from(function(&mut store, &keys, &args)));
        let result = catch_unwind(call).map_err(|_| MemoryRefusal::Panicked);
        let result = match store.refusal.take() {
            Some(refusal) if result.is_ok() => Err(refusal),
            _ => result,
        };
        NativeDone { id, result, store }
    }
}

impl fmt::Debug for NativeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeRun").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for NativeDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeDone").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "return redis.call('GET', KEYS[1])";

    #[test]
    fn a_script_is_known_by_its_source_and_by_its_sha1() {
        let function: Arc<Function> = Arc::new(|_, _, _| Value::Null);
        let sha1 = sha1_smol::Sha1::from(SOURCE).digest().to_string();
        let find = |scripts: &NativeScripts, name: &str, script: &str| {
            let spec = Spec::find(name).expect("in the table");
            scripts.find(spec, &[script.as_bytes(), b"0"]).is_some()
        };
        for script in [SOURCE, &sha1, &sha1.to_uppercase()] {
            let mut scripts = NativeScripts::default();
            scripts.add(script.as_bytes(), function.clone());
            assert!(find(&scripts, "EVAL", SOURCE) && find(&scripts, "EVAL_RO", SOURCE));
            assert!(find(&scripts, "EVALSHA", &sha1));
            assert!(find(&scripts, "EVALSHA_RO", &sha1.to_uppercase()));
            assert!(!find(&scripts, "EVAL", "return 1") && !find(&scripts, "EVALSHA", SOURCE));
            assert!(!find(&scripts, "FCALL", SOURCE));
        }
        // The figure that `redis-cli SCRIPT LOAD` gives.
        assert_eq!(
            from_hex(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
            Some(digest(b"return 1")),
        );
        assert_eq!(from_hex(b"e0e1"), None);
    }

    #[test]
    fn scripts_are_equal_where_they_are_the_same_functions() {
        let function: Arc<Function> = Arc::new(|_, _, _| Value::Null);
        let with = |function: &Arc<Function>| {
            let mut scripts = NativeScripts::default();
            scripts.add(SOURCE.as_bytes(), function.clone());
            scripts
        };
        let other: Arc<Function> = Arc::new(|_, _, _| Value::OK);
        assert_eq!(with(&function), with(&function));
        assert_ne!(with(&function), with(&other));
        assert_ne!(with(&function), NativeScripts::default());
    }
}

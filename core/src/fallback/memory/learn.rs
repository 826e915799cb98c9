//! What commands and their replies say of the server's values while it is there.

use super::Memory;
use crate::{
    Now,
    commands::{KeySpec, Spec},
    fallback::{
        Part, deeds,
        shadow::{Expiry, Whole},
    },
    request::split_arguments,
    resp::{Kind, Reply, View, number::Digits},
};

/// Whether the reply to a read tells the whole value of each of its keys.
pub(super) fn tells_all<A: AsRef<[u8]>>(spec: &Spec, args: &[A]) -> bool {
    let is = |at: usize, word: &[u8]| {
        args.get(at).is_some_and(|arg| arg.as_ref().eq_ignore_ascii_case(word))
    };
    let from_end_to_end = is(1, b"0") && is(2, b"-1");
    match spec.name() {
        "GET" | "MGET" | "HGETALL" | "SMEMBERS" => true,
        "GETEX" => args.len() == 1,
        "LRANGE" => from_end_to_end && args.len() == 3,
        "ZRANGE" => from_end_to_end && is(3, b"WITHSCORES") && args.len() == 4,
        _ => false,
    }
}

impl Memory {
    /// Learns from a command that the server has carried out.
    pub(crate) fn observe(&mut self, spec: &Spec, command: &[u8], reply: &Reply, now: Now) {
        let args = split_arguments(spec, command);
        let view = reply.view();
        let said_yes = view.integer() == Some(1);
        match (spec.name(), args.as_slice()) {
            ("GET", [key]) => self.learn_text(key, view, Expiry::Unknown, now),
            ("MGET", keys) => {
                for (key, value) in keys.iter().zip(view.items()) {
                    self.learn_text(key, value, Expiry::Unknown, now);
                }
            }
            ("GETEX", [key, options @ ..]) => {
                let expiry = Options::read(options, now).expiry.unwrap_or(Expiry::Unknown);
                self.learn_text(key, view, expiry, now);
            }
            ("HGETALL", [key]) => self.learn_members(key, pairs(view).map(Whole::Hash), now),
            ("SMEMBERS", [key]) => self.learn_members(key, items(view).map(Whole::Set), now),
            ("LRANGE", [key, ..]) => self.learn_members(key, items(view).map(Whole::List), now),
            ("ZRANGE", [key, ..]) => {
                let pairs = pairs(view);
                let turned = |(member, score)| (score, member);
                let pairs = pairs.map(|pairs| pairs.into_iter().map(turned).collect());
                self.learn_members(key, pairs.map(Whole::SortedSet), now);
            }
            ("SET", [key, value, options @ ..]) => self.learn_set(key, value, options, view, now),
            ("SETNX", [key, value]) if said_yes => self.learn(key, value, Expiry::At(None), now),
            // Where nothing was set, what was there before is there still.
            ("SETNX", _) => {}
            ("GETSET", [key, value]) => self.learn(key, value, Expiry::At(None), now),
            ("SETEX", [key, seconds, value]) => {
                self.learn(key, value, after(seconds, 1_000, now), now);
            }
            ("PSETEX", [key, span, value]) => self.learn(key, value, after(span, 1, now), now),
            ("MSET", pairs) => {
                for pair in pairs.chunks_exact(2) {
                    self.learn(pair[0], pair[1], Expiry::At(None), now);
                }
            }
            ("INCR" | "DECR" | "INCRBY" | "DECRBY", [key, ..]) => match view.integer() {
                Some(sum) => {
                    self.learn(key, Digits::signed(sum).as_bytes(), Expiry::Kept, now);
                }
                None => self.shadow.remove(key, now),
            },
            ("INCRBYFLOAT", [key, _]) => self.learn_text(key, view, Expiry::Kept, now),
            ("PERSIST", [key]) if said_yes => self.shadow.expire(key, None, now),
            ("EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT", [key, time]) if said_yes => {
                let expiry = match spec.name() {
                    "EXPIRE" => after(time, 1_000, now),
                    "PEXPIRE" => after(time, 1, now),
                    "EXPIREAT" => at(time, 1_000),
                    _ => at(time, 1),
                };
                match expiry {
                    Expiry::At(at) => self.shadow.expire(key, at, now),
                    Expiry::Unknown | Expiry::Kept => self.shadow.remove(key, now),
                }
            }
            (_, args) => self.forget_words(spec, args, now),
        }
        self.trim(now);
    }

    fn learn_set(
        &mut self,
        key: &[u8],
        value: &[u8],
        options: &[&[u8]],
        reply: View<'_>,
        now: Now,
    ) {
        let options = Options::read(options, now);
        if options.unknown {
            return self.shadow.remove(key, now);
        }
        // With GET the answer is what was there before, and a condition is about that.
        let done = match (options.if_absent, options.if_present, options.get) {
            (true, _, true) => reply.is_null(),
            (true, _, false) | (_, true, _) => !reply.is_null(),
            (false, false, _) => true,
        };
        if done {
            self.learn(key, value, options.expiry.unwrap_or(Expiry::At(None)), now);
        }
    }

    fn learn_text(&mut self, key: &[u8], value: View<'_>, expiry: Expiry, now: Now) {
        if value.is_null() || value.is_error() {
            self.shadow.remove(key, now);
        } else {
            self.learn(key, value.payload(), expiry, now);
        }
    }

    fn learn(&mut self, key: &[u8], text: &[u8], expiry: Expiry, now: Now) {
        let Some(max_age) = self.rules.mode_of(key).remembers_for() else { return };
        self.shadow.insert(key, &Whole::Text(text), max_age, expiry, now);
    }

    fn learn_members(&mut self, key: &[u8], value: Option<Whole<'_>>, now: Now) {
        let Some(max_age) = self.rules.mode_of(key).remembers_for() else { return };
        match value {
            Some(value) => self.shadow.insert(key, &value, max_age, Expiry::Unknown, now),
            None => self.shadow.remove(key, now),
        }
    }

    /// Forgets what is known of the keys of a write whose effect nobody knows.
    pub(crate) fn forget(&mut self, spec: &Spec, command: Option<&[u8]>, now: Now) {
        // What EXEC of a transaction by hand carries out is known elsewhere.
        let Some(command) = command.filter(|command| !command.is_empty()) else { return };
        self.forget_words(spec, &split_arguments(spec, command), now);
    }

    pub(super) fn forget_words(&mut self, spec: &Spec, args: &[&[u8]], now: Now) {
        if !deeds::writes(spec, args) && !spec.is_script() {
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

    /// The server has run a command and answered with an error: what it holds at the command's keys is
    /// not what is remembered, but of another type.
    pub(crate) fn unlearn(&mut self, spec: &Spec, command: &[u8], now: Now) {
        if command.is_empty() {
            return;
        }
        for key in spec.keys().of(&split_arguments(spec, command)) {
            self.shadow.remove(key, now);
        }
    }

    /// The server has done, or may have done, writes for which others waited: what memory holds of their
    /// keys is older.
    pub(crate) fn overtaken(&mut self, commands: &[Part<'_>], now: Now) {
        for one in commands.iter().filter(|one| deeds::writes(one.spec, one.args())) {
            if one.spec.concerns_all_keys() {
                self.shadow.clear();
                self.hand_back(now, |_| true);
            }
            for key in one.keys() {
                if !self.journal.contains(key) {
                    self.drop_key(key, now);
                }
            }
        }
    }
}

/// The members of a collection; `None` where there are none, which is as good as no collection.
fn items(view: View<'_>) -> Option<Vec<&[u8]>> {
    let items: Vec<_> = view.items().map(View::payload).collect();
    (!items.is_empty()).then_some(items)
}

/// Pairs, be they a map (RESP3), one list of all their parts (RESP2), or a list of lists (scores in
/// RESP3).
fn pairs<'a>(view: View<'a>) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    fn pair<'a>(item: View<'a>) -> Option<(&'a [u8], &'a [u8])> {
        let mut parts = item.items();
        Some((parts.next()?.payload(), parts.next()?.payload()))
    }
    let pairs: Vec<_> = if view.kind() == Kind::Map {
        view.pairs().map(|(a, b)| (a.payload(), b.payload())).collect()
    } else if view.items().next().is_some_and(|item| item.kind() == Kind::Array) {
        view.items().filter_map(pair).collect()
    } else {
        let parts = items(view)?;
        parts.as_chunks::<2>().0.iter().map(|&[a, b]| (a, b)).collect()
    };
    (!pairs.is_empty()).then_some(pairs)
}

/// The options of SET and GETEX, as far as they say what is there afterwards.
#[derive(Default)]
struct Options {
    expiry: Option<Expiry>,
    if_absent: bool,
    if_present: bool,
    get: bool,
    /// There is one that nobody here knows.
    unknown: bool,
}

impl Options {
    fn read(options: &[&[u8]], now: Now) -> Self {
        let mut read = Options::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut time = || options.next().copied().unwrap_or_default();
            match option.to_ascii_uppercase().as_slice() {
                b"EX" => read.expiry = Some(after(time(), 1_000, now)),
                b"PX" => read.expiry = Some(after(time(), 1, now)),
                b"EXAT" => read.expiry = Some(at(time(), 1_000)),
                b"PXAT" => read.expiry = Some(at(time(), 1)),
                b"KEEPTTL" => read.expiry = Some(Expiry::Kept),
                b"PERSIST" => read.expiry = Some(Expiry::At(None)),
                b"NX" => read.if_absent = true,
                b"XX" => read.if_present = true,
                b"GET" => read.get = true,
                _ => read.unknown = true,
            }
        }
        read
    }
}

fn after(span: &[u8], unit: i64, now: Now) -> Expiry {
    match at(span, unit) {
        Expiry::At(Some(span)) => Expiry::At(Some(now.unix_millis().saturating_add(span))),
        other => other,
    }
}

fn at(time: &[u8], unit: i64) -> Expiry {
    let number = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok());
    // What lies before the epoch has passed as well as the epoch has.
    let millis = number.map(|number| u64::try_from(number.saturating_mul(unit)).unwrap_or(0));
    millis.map_or(Expiry::Unknown, |millis| Expiry::At(Some(millis)))
}

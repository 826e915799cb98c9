//! A server and a store that see the same commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use unfazed_core::Now;
use unfazed_core::fallback::store::{Answer, Bounds, Store};
use unfazed_core::resp::Value;

use crate::compare::{self, Context, same};
use crate::generate::Step;
use crate::random::{Args, SHORTLY, SOON, args};
use crate::server::Server;
use crate::tolerated::{Rule, Servers, TOLERATED};

/// How many commands go to the server at once.
const BATCH_MAX: usize = 150;
/// How far off is at first what is to be over soon, in milliseconds: long enough for a batch on a
/// machine that does much else, short enough to be waited for some hundred times.
const SOON_MS: u64 = 60;
/// How often a sequence may be too slow for that; each time it is twice as long afterwards.
const SLOW_RUNS_MAX: u32 = 7;

/// The two, and what has been seen of them.
pub(crate) struct Pair {
    pub(crate) server: Server,
    store: Store,
    /// When the store runs a command: the same for a whole batch.
    pub(crate) now: Now,
    /// How long the longest batch of this sequence took, in milliseconds.
    slack: u64,
    /// When the first batch of this sequence began, in milliseconds since the Unix epoch.
    began: u64,
    /// How far off is what is soon, in milliseconds.
    soon: u64,
    /// How often each command ran, and how often to an error.
    pub(crate) tally: BTreeMap<&'static str, Count>,
    /// The tolerated differences that were needed: place in the list, and command.
    needed: BTreeSet<(usize, &'static str)>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) runs: usize,
    pub(crate) errors: usize,
}

/// Why a sequence ended early.
pub(crate) enum Stop {
    Differ(Difference),
    /// A difference was tolerated behind which the two may go on to differ.
    Apart,
    /// What was to be over soon was over before its time: the machine is busy.
    TooSlow,
}

/// Where the two were not of one mind.
pub(crate) struct Difference {
    /// Which step of the sequence.
    pub(crate) step: usize,
    pub(crate) command: Args,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// A command on its way to both.
pub(crate) struct Item {
    pub(crate) step: usize,
    /// What to count it under, if it is counted.
    pub(crate) name: Option<&'static str>,
    pub(crate) command: Args,
}

impl Pair {
    pub(crate) fn start() -> Self {
        Pair {
            server: Server::start(),
            store: store(),
            now: now(),
            slack: 0,
            began: 0,
            soon: SOON_MS,
            tally: BTreeMap::new(),
            needed: BTreeSet::new(),
        }
    }

    /// Runs a sequence on both, from an empty store on.
    fn run(&mut self, steps: &[Step]) -> Result<(), Stop> {
        self.server.ask(&args(&["FLUSHALL"]));
        self.store = store();
        self.slack = 0;
        self.began = now().unix_millis();
        let mut items = Vec::new();
        for (step, what) in steps.iter().enumerate() {
            match what {
                Step::Run(name, command) => {
                    items.push(Item { step, name: *name, command: command.clone() });
                    if items.len() >= BATCH_MAX {
                        self.batch(&mut items)?;
                    }
                }
                Step::Scan(name, command, writes) => {
                    self.batch(&mut items)?;
                    self.whole_scan(step, name, command, writes)?;
                }
                Step::Compare => {
                    self.batch(&mut items)?;
                    self.key_space(step)?;
                }
                Step::Expire => {
                    let ran = self.batch(&mut items);
                    self.expire()?;
                    ran?;
                }
            }
        }
        self.batch(&mut items)
    }

    /// Runs a sequence on both, again if it was too slow, until it was in time.
    pub(crate) fn run_in_time(&mut self, steps: &[Step]) -> Result<(), Difference> {
        for _ in 0..=SLOW_RUNS_MAX {
            match self.run(steps) {
                Ok(()) | Err(Stop::Apart) => return Ok(()),
                Err(Stop::Differ(difference)) => return Err(difference),
                Err(Stop::TooSlow) => self.soon *= 2,
            }
        }
        panic!("a batch of commands took {} ms; is the machine busy?", self.soon);
    }

    /// Runs one command on both, for tests of a single thing. Returns the server's reply.
    pub(crate) fn both(&mut self, command: Args) -> Value {
        let mut items = vec![Item { step: 0, name: None, command }];
        match self.exchange(&mut items) {
            Ok(mut replies) => replies.pop().expect("one command has one reply"),
            Err(Stop::Differ(difference)) => panic!("{difference}"),
            Err(Stop::Apart | Stop::TooSlow) => Value::Null,
        }
    }

    /// Waits until what is soon over is over, unless some of it may be over already.
    fn expire(&mut self) -> Result<(), Stop> {
        let last = now().unix_millis();
        if last >= self.began + self.soon {
            return Err(Stop::TooSlow);
        }
        // Both read the same clock, at a moment after this one.
        while now().unix_millis() <= last + self.soon + 1 || self.counts_expired_fields() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether a hash of the server still counts fields that it no longer shows: other than keys,
    /// they go when the server comes to it, not when a command meets them.
    fn counts_expired_fields(&mut self) -> bool {
        if self.server.is_7_0() {
            return false;
        }
        let keys: Vec<_> = self.keys().into_iter().map(|key| vec![key]).collect();
        let commands = keys.iter().flat_map(|key| {
            [[args(&["HLEN"]), key.clone()].concat(), [args(&["HGETALL"]), key.clone()].concat()]
        });
        let replies = self.server.exchange(&commands.collect::<Vec<_>>());
        let (pairs, _) = replies.as_chunks::<2>();
        pairs.iter().any(|[count, fields]| match fields {
            Value::Map(fields) => {
                fields.is_empty()
                    || *count != Value::Integer(i64::try_from(fields.len()).unwrap_or(0))
            }
            _ => false,
        })
    }

    /// The keys of the server.
    fn keys(&mut self) -> Args {
        match self.server.ask(&args(&["KEYS", "*"])) {
            Value::Array(keys) => keys.iter().map(|key| bulk(key).to_vec()).collect(),
            other => panic!("KEYS gives an array: {other:?}"),
        }
    }

    pub(crate) fn batch(&mut self, items: &mut Vec<Item>) -> Result<(), Stop> {
        self.exchange(items).map(drop)
    }

    /// Runs the commands on both and takes them away. Returns the server's replies.
    fn exchange(&mut self, items: &mut Vec<Item>) -> Result<Vec<Value>, Stop> {
        self.now = now();
        let began = self.now.unix_millis();
        let mut requests = Vec::new();
        for item in &mut *items {
            for arg in &mut item.command {
                match &arg[..] {
                    SOON => *arg = (self.began + self.soon).to_string().into(),
                    SHORTLY => *arg = self.soon.to_string().into(),
                    _ => {}
                }
            }
            requests.extend(prelude(&item.command));
            requests.push(item.command.clone());
            requests.extend(companion(&item.command));
        }
        let mut replies = self.server.exchange(&requests).into_iter();
        // One more, for either reading is cut to milliseconds.
        self.slack = self.slack.max(now().unix_millis().saturating_sub(began) + 1);
        let mut given = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            let _ignored = prelude(&item.command).and_then(|_| replies.next());
            let theirs = replies.next().expect("as many replies as commands");
            let beside = companion(&item.command).and_then(|_| replies.next());
            if let Some(name) = item.name {
                self.count(name, &theirs);
            }
            self.one(item.step, &item.command, &theirs, beside)?;
            given.push(theirs);
        }
        Ok(given)
    }

    pub(crate) fn count(&mut self, name: &'static str, theirs: &Value) {
        let count = self.tally.entry(name).or_default();
        count.runs += 1;
        count.errors += usize::from(matches!(theirs, Value::Error(_)));
    }

    /// Runs one command on the store and holds its reply against the server's. `beside` is the
    /// server's reply to the [`companion`].
    pub(crate) fn one(
        &mut self,
        step: usize,
        command: &Args,
        theirs: &Value,
        beside: Option<Value>,
    ) -> Result<(), Stop> {
        let failed = matches!(theirs, Value::Error(_));
        let content = match self.rule(command) {
            Some(Rule::Sample | Rule::Page) if !failed => self.content(command),
            _ => BTreeSet::new(),
        };
        let popping = command[0].eq_ignore_ascii_case(b"SPOP") && !failed;
        if popping {
            self.keep(&command[1]);
        }
        let answer = self.execute(command);
        let Answer::Reply(ours) = answer else {
            return Err(differ(step, command, format!("{answer:?}"), show(theirs)));
        };
        if !same(&ours, theirs) {
            let clock = self.rule(command) == Some(Rule::Clock);
            let millis = clock.then(|| self.say(&compare::in_millis(command), &[]));
            let context = Context { slack: self.slack, millis, content, keys: beside.clone() };
            match self.tolerated(command, &ours, theirs, &context) {
                None => {
                    let (ours, theirs) = show_both(&ours, theirs);
                    return Err(differ(step, command, ours, theirs));
                }
                Some(rule) if compare::sets_apart(rule, &ours, theirs) => return Err(Stop::Apart),
                Some(_) => {}
            }
        }
        if popping && let Err(why) = self.follow_pop(&command[1], &ours, theirs, beside) {
            return Err(differ(step, command, format!("{} ({why})", show(&ours)), show(theirs)));
        }
        Ok(())
    }

    fn concerns(&self, servers: Servers) -> bool {
        match servers {
            Servers::All => true,
            Servers::Old => self.server.is_7_0(),
            Servers::Newer => !self.server.is_7_0(),
        }
    }

    /// The first rule for a command on this server, if there is one.
    fn rule(&self, command: &Args) -> Option<Rule> {
        let name = command[0].to_ascii_uppercase();
        let entry = TOLERATED.iter().find(|entry| {
            self.concerns(entry.servers)
                && entry.commands.iter().any(|other| other.as_bytes() == name)
        });
        entry.map(|entry| entry.rule)
    }

    /// The rule that lets the difference pass, if there is one.
    fn tolerated(
        &mut self,
        command: &Args,
        ours: &Value,
        theirs: &Value,
        context: &Context,
    ) -> Option<Rule> {
        let name = command[0].to_ascii_uppercase();
        for (place, entry) in TOLERATED.iter().enumerate() {
            let here = self.concerns(entry.servers);
            let named = entry.commands.iter().find(|other| other.as_bytes() == name);
            if here
                && let Some(named) = named
                && compare::tolerates(entry.rule, command, ours, theirs, context)
            {
                self.needed.insert((place, named));
                return Some(entry.rule);
            }
        }
        None
    }

    /// The differences that the list tolerates on this server, in the commands of `known`, and
    /// that were not needed. Clocks are one for all commands of an entry: two readings of them are
    /// rarely in different seconds.
    pub(crate) fn needless(&self, known: &BTreeSet<&str>) -> Vec<String> {
        let mut needless = Vec::new();
        for (place, entry) in TOLERATED.iter().enumerate() {
            let here = entry.servers != Servers::Newer && self.concerns(entry.servers);
            let named: Vec<_> =
                entry.commands.iter().filter(|name| here && known.contains(**name)).collect();
            let needed = |name: &str| self.needed.iter().any(|need| *need == (place, name));
            if entry.rule == Rule::Clock && named.iter().any(|name| needed(name)) {
                continue;
            }
            let not = named.iter().filter(|name| !needed(name));
            needless.extend(not.map(|name| format!("{name}: {:?}", entry.rule)));
        }
        needless
    }

    /// Runs a command on the store alone.
    pub(crate) fn say(&mut self, words: &Args, more: &[&[u8]]) -> Value {
        let command: Args =
            words.iter().map(Vec::as_slice).chain(more.iter().copied()).map(Vec::from).collect();
        match self.execute(&command) {
            Answer::Reply(value) => value,
            other => Value::error(format!("{other:?}")),
        }
    }

    pub(crate) fn execute(&mut self, command: &Args) -> Answer {
        let borrowed: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        self.store.execute(&borrowed, self.now)
    }

    /// Holds all keys with their types, encodings, values and expiry against each other.
    fn key_space(&mut self, step: usize) -> Result<(), Stop> {
        let item = |words: &[&str], key: &[u8], more: &[&str]| {
            let mut command = args(words);
            command.push(key.to_vec());
            command.extend(args(more));
            Item { step, name: None, command }
        };
        let mut items =
            vec![item(&["KEYS"], b"*", &[]), Item { step, name: None, command: args(&["DBSIZE"]) }];
        let keys = match self.exchange(&mut items)?.swap_remove(0) {
            Value::Array(keys) => keys,
            other => panic!("KEYS gives an array: {other:?}"),
        };
        let mut items = Vec::new();
        for key in &keys {
            items.push(item(&["TYPE"], bulk(key), &[]));
            items.push(item(&["PEXPIRETIME"], bulk(key), &[]));
            items.push(item(&["OBJECT", "ENCODING"], bulk(key), &[]));
        }
        let replies = self.exchange(&mut items)?;
        let kinds = replies.iter().filter_map(|reply| match reply {
            Value::Simple(kind) => Some(kind),
            _ => None,
        });
        let mut items = Vec::new();
        for (key, kind) in keys.iter().zip(kinds) {
            let key = bulk(key);
            items.push(match &kind[..] {
                b"string" => item(&["GET"], key, &[]),
                b"hash" => item(&["HGETALL"], key, &[]),
                b"list" => item(&["LRANGE"], key, &["0", "-1"]),
                b"set" => item(&["SMEMBERS"], key, &[]),
                _ => item(&["ZRANGE"], key, &["0", "-1", "WITHSCORES"]),
            });
            if kind[..] == b"hash"[..]
                && !self.server.is_7_0()
                && let Value::Array(fields) = self.say(&args(&["HKEYS"]), &[key])
            {
                let count = fields.len().to_string();
                let mut told = item(&["HPEXPIRETIME"], key, &["FIELDS", &count]);
                told.command.extend(fields.iter().map(|field| bulk(field).to_vec()));
                items.push(told);
            }
        }
        self.batch(&mut items)
    }
}

pub(crate) fn differ(step: usize, command: &Args, ours: String, theirs: String) -> Stop {
    Stop::Differ(Difference { step, command: command.clone(), ours, theirs })
}

/// What the server is asked right before a command, for it to answer as it should.
fn prelude(command: &Args) -> Option<Args> {
    match command[0].to_ascii_uppercase().as_slice() {
        // SORT takes a number that another command could not read for one of its own: it looks at
        // `errno`, which it does not clear. ZINCRBY does, and then fails.
        b"SORT" | b"SORT_RO" => Some(args(&["ZINCRBY", "fixed:zset", "no number", "a"])),
        _ => None,
    }
}

/// What the server is asked right after a command, to judge its reply.
fn companion(command: &Args) -> Option<Args> {
    match command[0].to_ascii_uppercase().as_slice() {
        b"DBSIZE" => Some(args(&["KEYS", "*"])),
        b"SPOP" if command.len() > 1 => {
            Some([args(&["OBJECT", "ENCODING"]), vec![command[1].clone()]].concat())
        }
        _ => None,
    }
}

pub(crate) fn bulk(value: &Value) -> &[u8] {
    match value {
        Value::Bulk(bytes) => bytes,
        other => panic!("a bulk string: {other:?}"),
    }
}

/// The two values in short: of long ones with as many elements, the first that differs.
fn show_both(ours: &Value, theirs: &Value) -> (String, String) {
    const SHORT: usize = 20;
    let (Value::Array(a) | Value::Set(a), Value::Array(b) | Value::Set(b)) = (ours, theirs) else {
        return (show(ours), show(theirs));
    };
    let place = a.iter().zip(b).position(|(a, b)| !same(a, b));
    match place {
        Some(place) if a.len() == b.len() && a.len() > SHORT => {
            let one = |items: &[Value]| {
                format!("element {place} of {}: {}", items.len(), show(&items[place]))
            };
            (one(a), one(b))
        }
        _ => (show(ours), show(theirs)),
    }
}

/// A value in short.
pub(crate) fn show(value: &Value) -> String {
    const LENGTH_MAX: usize = 1_500;
    let mut shown = format!("{value:?}");
    if shown.len() > LENGTH_MAX {
        let length = shown.len();
        shown.truncate((0..=LENGTH_MAX).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0));
        shown.push_str(&format!("... ({length} bytes)"));
    }
    shown
}

fn store() -> Store {
    Store::new(0x5EED, Bounds { entries_max: 100_000, bytes_max: 1 << 30 })
}

pub(crate) fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

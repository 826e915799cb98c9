//! What the table of commands says of one command.

use super::table::TABLE;
use crate::{args::Arg, request::Effect};

/// What one command is, whoever runs it.
#[derive(Clone, Debug)]
pub struct Spec {
    name: &'static str,
    effect: Effect,
    considering: Option<fn(&[Arg<'_>]) -> Effect>,
    when_blocking: Option<&'static Spec>,
    keys: KeySpec,
    waits: Option<Waits>,
    routing: Routing,
    flags: u8,
}

/// Where a command that waits at the server says for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Its first argument, in seconds: BLMPOP.
    First,
    /// Its last argument, in seconds: BLPOP.
    Last,
    /// Its argument at this position, counted from 0, in milliseconds: WAIT.
    Millis(usize),
    /// What follows BLOCK, in milliseconds: XREAD.
    Block,
}

/// Which nodes of a cluster a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    /// The one that serves its keys; any one where it has none.
    Keys,
    /// The same, but its keys may be in several slots: then each slot gets a part of its own.
    Split(Join),
    /// Several nodes get the whole command.
    Fan(Fan, Join),
}

/// Which nodes a command is for that is for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fan {
    /// Those that serve slots.
    AllPrimaries,
    /// Their replicas as well.
    AllNodes,
}

/// What several answers are joined to. One failure makes the whole fail, but with `AnyOk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// They are all the same, and the first stands for them.
    Same,
    /// Added up.
    Sum,
    /// The least of them.
    Minimum,
    /// The elements of all, node after node.
    Concatenate,
    /// An element for each key, in the order in which the keys were given.
    InOrder,
    /// An element for each argument: true where it is true everywhere.
    AllTrue,
    /// Texts, each under a line that names its node.
    Texts,
    /// The first that is not null.
    NotNull,
    /// One that is no error is enough.
    AnyOk,
}

/// Which arguments of a command are keys. Positions count from 1, the first argument after the
/// command's name (and subcommand).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySpec {
    /// None, or nobody knows.
    None,
    /// The first argument.
    First,
    /// The first two arguments.
    FirstTwo,
    /// Every argument.
    All,
    /// Every argument but the last: BLPOP.
    AllButLast,
    /// Every argument from the second on: BITOP.
    SecondOn,
    /// The first of each pair of arguments.
    EveryOther,
    /// As many as the argument at this position says, right after it.
    Counted(u8),
    /// The first of each pair, of which there are as many as the argument at this position says, right
    /// after it: MSETEX.
    CountedPairs(u8),
    /// The first argument, then as many as the second one says: ZUNIONSTORE.
    CountedAfterFirst,
    /// The first argument, and what follows STORE or STOREDIST: SORT, GEORADIUS.
    FirstAndStore,
    /// The first half of what follows STREAMS: XREAD.
    Streams,
    /// The third argument or, where that is empty, all that follow KEYS: MIGRATE.
    Migrated,
}

const SLOW: u8 = 1;
const SCRIPT: u8 = 2;
const SESSION: u8 = 4;
const BLOCKING: u8 = 8;
const ALL_KEYS: u8 = 16;
const CONTAINER: u8 = 32;
const TWO_WORDS: u8 = 64;

impl Spec {
    pub(super) const fn new(name: &'static str, effect: Effect, keys: KeySpec) -> Self {
        let flags = if has_space(name.as_bytes()) { TWO_WORDS } else { 0 };
        let (waits, routing) = (None, Routing::Keys);
        Spec { name, effect, considering: None, when_blocking: None, keys, waits, routing, flags }
    }

    const fn with(self, flag: u8) -> Self {
        Spec { flags: self.flags | flag, ..self }
    }

    /// Its arguments change its effect: `rule` says how.
    pub(super) const fn considering(self, rule: fn(&[Arg<'_>]) -> Effect) -> Self {
        Spec { considering: Some(rule), ..self }
    }

    /// It may take long; the response time limit is extended while its reply is owed.
    pub(super) const fn slow(self) -> Self {
        self.with(SLOW)
    }

    /// It runs a script, which can answer with any text, an error of any kind among them.
    pub(super) const fn script(self) -> Self {
        self.with(SCRIPT | SLOW)
    }

    /// It changes or asks about the connection's state, so it can't run on one that is shared.
    pub(super) const fn session(self) -> Self {
        self.with(SESSION)
    }

    /// It waits at the server, so it can't run on a connection that is shared.
    pub(super) const fn blocking(self, waits: Waits) -> Self {
        Spec { waits: Some(waits), ..self.with(BLOCKING) }
    }

    /// It waits at the server where it has the option BLOCK, and is `other` then: XREAD.
    pub(super) const fn unless_told_to_block(self, other: &'static Spec) -> Self {
        Spec { when_blocking: Some(other), ..self }
    }

    /// In a cluster it is split by the slots of its keys.
    pub(super) const fn split(self, join: Join) -> Self {
        Spec { routing: Routing::Split(join), ..self }
    }

    /// In a cluster all nodes that serve slots get it.
    pub(super) const fn on_primaries(self, join: Join) -> Self {
        Spec { routing: Routing::Fan(Fan::AllPrimaries, join), ..self }
    }

    /// In a cluster all nodes get it.
    pub(super) const fn on_all_nodes(self, join: Join) -> Self {
        Spec { routing: Routing::Fan(Fan::AllNodes, join), ..self }
    }

    /// It concerns every key there is: KEYS, SCAN, DBSIZE, FLUSHDB.
    pub(super) const fn all_keys(self) -> Self {
        self.with(ALL_KEYS)
    }

    /// Its first argument may be a subcommand, with an entry of its own: CONFIG.
    pub(super) const fn container(self) -> Self {
        self.with(CONTAINER)
    }

    /// The table's entry called `name`; fails to compile where there is none.
    pub(crate) const fn of(name: &str) -> &'static Spec {
        let mut at = 0;
        while at < TABLE.len() {
            if same(TABLE[at].name.as_bytes(), name.as_bytes()) {
                return &TABLE[at];
            }
            at += 1;
        }
        panic!("no such command in the table")
    }

    /// Every entry of the table.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = &'static Spec> {
        TABLE.iter()
    }

    /// The table's entry called `name`, in any case.
    pub(crate) fn find(name: &str) -> Option<&'static Spec> {
        Spec::search(name.bytes())
    }

    /// The entry of this container's subcommand, in any case.
    pub(crate) fn subcommand(&self, word: &[u8]) -> Option<&'static Spec> {
        Spec::search(self.name.bytes().chain([b' ']).chain(word.iter().copied()))
    }

    fn search(name: impl Iterator<Item = u8> + Clone) -> Option<&'static Spec> {
        let name = name.map(|byte| byte.to_ascii_uppercase());
        let at = TABLE.binary_search_by(|spec| spec.name.bytes().cmp(name.clone()));
        at.ok().map(|at| &TABLE[at])
    }

    /// What is assumed of a command that the table does not know.
    pub(crate) fn unknown() -> &'static Spec {
        static UNKNOWN: Spec = Spec::new("", Effect::Write, KeySpec::None);
        &UNKNOWN
    }

    /// What a whole transaction is, between MULTI and EXEC.
    pub(crate) fn transaction() -> &'static Spec {
        static TRANSACTION: Spec = Spec::new("transaction", Effect::Write, KeySpec::None);
        &TRANSACTION
    }

    /// The same for one that holds a command which may take long.
    pub(crate) fn slow_transaction() -> &'static Spec {
        static SLOW: Spec = Spec::new("transaction", Effect::Write, KeySpec::None).slow();
        &SLOW
    }

    /// The name in capitals, with its subcommand after a space where it has one.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What running it twice does, if no argument changes that.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// What the command is with these arguments: itself, but for those that may block or not.
    pub(crate) fn with_args(&'static self, args: &[Arg<'_>]) -> &'static Spec {
        match self.when_blocking {
            Some(other) if stream_options(args).block.is_some() => other,
            _ => self,
        }
    }

    /// What running it twice with these arguments does.
    pub(crate) fn effect_of(&self, args: &[Arg<'_>]) -> Effect {
        self.considering.map_or(self.effect, |rule| rule(args))
    }

    /// Which arguments are keys.
    #[must_use]
    pub const fn keys(&self) -> KeySpec {
        self.keys
    }

    /// Which nodes of a cluster it is for.
    pub(crate) const fn routing(&self) -> Routing {
        self.routing
    }

    pub(crate) const fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether it writes without regard to what stood there: what it does and what it answers are the
    /// same whatever that was.
    pub(crate) fn is_blind_write(&self) -> bool {
        matches!(self.name, "SET" | "SETEX" | "PSETEX" | "MSET" | "HMSET")
    }

    pub(crate) fn is_transaction(&self) -> bool {
        self.name == Spec::transaction().name
    }

    pub(crate) const fn is_slow(&self) -> bool {
        self.flags & SLOW != 0
    }

    pub(crate) const fn is_script(&self) -> bool {
        self.flags & SCRIPT != 0
    }

    pub(crate) const fn is_session(&self) -> bool {
        self.flags & SESSION != 0
    }

    pub(crate) const fn is_blocking(&self) -> bool {
        self.flags & BLOCKING != 0
    }

    /// Whether it waits for what its own connection wrote: WAIT, WAITAOF.
    pub(crate) const fn is_about_own_writes(&self) -> bool {
        self.is_session() && self.is_blocking()
    }

    /// Which of `args`, the arguments after the name, says how long it waits at the server, and whether in
    /// milliseconds; `None` where it does not wait, or it is not there.
    pub(crate) fn wait_among<A: AsRef<[u8]>>(&self, args: &[A]) -> Option<(usize, bool)> {
        let (at, millis) = match self.waits? {
            Waits::First => (0, false),
            Waits::Last => (args.len().checked_sub(1)?, false),
            Waits::Millis(at) => (at, true),
            Waits::Block => (stream_options(args).block?, true),
        };
        (at < args.len()).then_some((at, millis))
    }

    /// Where the ids begin among the arguments of XREAD; there are as many as there are keys before.
    pub(crate) fn ids_among<A: AsRef<[u8]>>(&self, args: &[A]) -> Option<usize> {
        let from = stream_options(args).streams;
        (self.name == "XREAD").then_some(from + (args.len() - from) / 2)
    }

    /// Whether it publishes a message.
    pub(crate) fn is_publish(&self) -> bool {
        matches!(self.name, "PUBLISH" | "SPUBLISH")
    }

    pub(crate) const fn is_container(&self) -> bool {
        self.flags & CONTAINER != 0
    }

    pub(crate) const fn concerns_all_keys(&self) -> bool {
        self.flags & ALL_KEYS != 0
    }

    /// How many words the name has: two where it is a command's and its subcommand's.
    pub(crate) const fn words(&self) -> usize {
        if self.flags & TWO_WORDS != 0 { 2 } else { 1 }
    }
}

/// A name stands in the table once. One that blocks is the same command as the one that does not.
impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Spec {}

impl KeySpec {
    /// How many arguments there are to each key, where there is nothing but those.
    pub(crate) const fn step(self) -> usize {
        match self {
            KeySpec::All => 1,
            KeySpec::EveryOther => 2,
            _ => 0,
        }
    }

    /// The keys among `args`, the arguments after the name.
    pub(crate) fn of<A: AsRef<[u8]>>(self, args: &[A]) -> impl Iterator<Item = &[u8]> {
        let count_at = |at: usize| args.get(at).and_then(count).unwrap_or(0);
        let (single, from, to, step) = match self {
            KeySpec::None => (None, 0, 0, 1),
            KeySpec::First => (None, 0, 1, 1),
            KeySpec::FirstTwo => (None, 0, 2, 1),
            KeySpec::All => (None, 0, args.len(), 1),
            KeySpec::AllButLast => (None, 0, args.len().saturating_sub(1), 1),
            KeySpec::SecondOn => (None, 1, args.len(), 1),
            KeySpec::EveryOther => (None, 0, args.len(), 2),
            KeySpec::Counted(at) => {
                let at = usize::from(at);
                (None, at, at.saturating_add(count_at(at - 1)), 1)
            }
            KeySpec::CountedPairs(at) => {
                let at = usize::from(at);
                (None, at, at.saturating_add(count_at(at - 1).saturating_mul(2)), 2)
            }
            KeySpec::CountedAfterFirst => (args.first(), 2, count_at(1).saturating_add(2), 1),
            KeySpec::FirstAndStore => {
                // The last one counts: servers take it where there are two.
                let named = |arg| is(arg, "STORE") || is(arg, "STOREDIST");
                let store = args.iter().skip(1).rposition(named);
                let at = store.map_or(1, |at| at + 2);
                (args.first(), at, if store.is_some() { at + 1 } else { at }, 1)
            }
            KeySpec::Streams => {
                let from = stream_options(args).streams;
                (None, from, from + (args.len() - from) / 2, 1)
            }
            KeySpec::Migrated => match args.get(2) {
                Some(key) if key.as_ref().is_empty() => {
                    let from = args.iter().skip(3).position(|arg| is(arg, "KEYS"));
                    (None, from.map_or(args.len(), |at| at + 4), args.len(), 1)
                }
                key => (key, 0, 0, 1),
            },
        };
        let to = to.min(args.len());
        let range = &args[from.min(to)..to];
        single.into_iter().chain(range.iter().step_by(step)).map(AsRef::as_ref)
    }
}

fn count(arg: &impl AsRef<[u8]>) -> Option<usize> {
    std::str::from_utf8(arg.as_ref()).ok()?.parse().ok()
}

/// What XREAD and XREADGROUP say before they name their streams.
struct StreamOptions {
    /// Where the argument of BLOCK is, if there is one.
    block: Option<usize>,
    /// Where the streams begin, after STREAMS.
    streams: usize,
}

fn stream_options<A: AsRef<[u8]>>(args: &[A]) -> StreamOptions {
    let (mut block, mut at) = (None, 0);
    while let Some(option) = args.get(at) {
        at += 1;
        if is(option, "STREAMS") {
            return StreamOptions { block, streams: at };
        } else if is(option, "GROUP") {
            // A group and a consumer, whatever they are called.
            at += 2;
        } else if is(option, "BLOCK") {
            block = Some(at);
            at += 1;
        }
    }
    StreamOptions { block, streams: args.len() }
}

fn is(arg: &impl AsRef<[u8]>, name: &str) -> bool {
    arg.as_ref().eq_ignore_ascii_case(name.as_bytes())
}

const fn has_space(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if name[at] == b' ' {
            return true;
        }
        at += 1;
    }
    false
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_name_is_found_in_any_case_and_unknown_ones_are_not() {
        assert_eq!(Spec::find("get").map(Spec::name), Some("GET"));
        assert_eq!(Spec::find("Client SetInfo").map(Spec::name), Some("CLIENT SETINFO"));
        assert_eq!(Spec::find("GETT"), None);
        assert_eq!(Spec::find(""), None);
    }

    #[test]
    fn keys_are_found_among_the_arguments() {
        let keys = |keys: KeySpec, args: &[&str]| -> Vec<String> {
            keys.of(args).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
        };
        assert_eq!(keys(KeySpec::First, &["a", "b"]), ["a"]);
        assert_eq!(keys(KeySpec::FirstTwo, &["a"]), ["a"]);
        assert_eq!(keys(KeySpec::EveryOther, &["a", "1", "b", "2"]), ["a", "b"]);
        assert_eq!(keys(KeySpec::Counted(2), &["script", "2", "a", "b", "c"]), ["a", "b"]);
        assert_eq!(keys(KeySpec::Counted(2), &["script", "9", "a"]), ["a"]);
        assert!(keys(KeySpec::Counted(2), &["script"]).is_empty());
        assert_eq!(keys(KeySpec::CountedPairs(1), &["2", "a", "1", "b", "2", "NX"]), ["a", "b"]);
        assert_eq!(keys(KeySpec::CountedPairs(1), &["9", "a", "1", "b"]), ["a", "b"]);
        assert!(keys(KeySpec::CountedPairs(1), &["x", "a", "1"]).is_empty());
        assert_eq!(keys(KeySpec::AllButLast, &["a", "b", "0"]), ["a", "b"]);
        assert!(keys(KeySpec::AllButLast, &[]).is_empty());
        assert_eq!(keys(KeySpec::SecondOn, &["XOR", "a", "b"]), ["a", "b"]);
        assert_eq!(
            keys(KeySpec::CountedAfterFirst, &["d", "2", "a", "b", "WEIGHTS"]),
            ["d", "a", "b"]
        );
        assert_eq!(keys(KeySpec::FirstAndStore, &["a", "ALPHA"]), ["a"]);
        assert_eq!(keys(KeySpec::FirstAndStore, &["a", "ALPHA", "store", "b"]), ["a", "b"]);
        assert_eq!(keys(KeySpec::FirstAndStore, &["a", "STORE"]), ["a"]);
        assert_eq!(keys(KeySpec::FirstAndStore, &["store", "ALPHA"]), ["store"]);
        let streams = ["COUNT", "1", "streams", "a", "b", "0", "$"];
        assert_eq!(keys(KeySpec::Streams, &streams), ["a", "b"]);
        assert!(keys(KeySpec::Streams, &["COUNT", "1"]).is_empty());
        assert_eq!(keys(KeySpec::Streams, &["GROUP", "streams", "me", "STREAMS", "a", ">"]), ["a"]);
        assert_eq!(keys(KeySpec::Migrated, &["host", "6379", "a", "0", "9"]), ["a"]);
        let several = ["host", "6379", "", "0", "9", "REPLACE", "KEYS", "a", "b"];
        assert_eq!(keys(KeySpec::Migrated, &several), ["a", "b"]);
    }

    #[test]
    fn xread_waits_only_where_it_is_told_to() {
        let blocks = |command| Request::new(command).spec().is_blocking();
        assert!(blocks("BLPOP a 0"));
        assert!(blocks("XREAD COUNT 1 block 0 STREAMS a $"));
        assert!(blocks("XREADGROUP GROUP block me BLOCK 5 STREAMS a >"));
        assert!(!blocks("XREAD STREAMS BLOCK 0"));
        assert!(!blocks("XREADGROUP GROUP BLOCK BLOCK STREAMS a >"));
        assert!(!blocks("LPOP a"));
    }

    #[test]
    fn what_changes_a_connection_is_known() {
        for name in ["SELECT", "MULTI", "SUBSCRIBE", "CLIENT REPLY", "RESET", "READONLY"] {
            assert!(Spec::find(name).is_some_and(Spec::is_session), "{name}");
        }
        assert!(!Spec::of("CLIENT ID").is_session());
    }

    #[test]
    fn every_subcommand_has_its_container() {
        for spec in TABLE.iter().filter(|spec| spec.words() == 2) {
            let container = spec.name.split(' ').next().and_then(Spec::find);
            assert!(container.is_some_and(Spec::is_container), "{}", spec.name);
        }
    }
}

//! What each command has to know before it may be done in memory, and what it leaves behind there.
//!
//! This is the one place that knows commands by name in degraded mode. A write that stands in no
//! line of the table is not done in memory; a test holds the table to what the store supports.

use super::{
    delta::{Amount, Change, End, Kind},
    store::{Extended, integer},
};
use crate::{commands::Spec, failure::Never, request::Effect, resp::Value, resp::number};

/// What a command is to memory.
#[derive(Clone, Copy)]
pub(super) struct Deed {
    pub(super) needs: Needs,
    pub(super) if_absent: IfAbsent,
    pub(super) makes: Makes,
    pub(super) on: On,
    /// The expiry of what was there stays.
    pub(super) keeps_expiry: bool,
    undone: Undone,
}

/// What must be known of a key, so that doing something to it in memory is no guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it does the same whatever is there.
    Nothing,
    /// The value: it is changed, or given away.
    Value,
    /// Whether anything is there at all: where nothing is, nothing is done.
    Presence,
    /// When it expires.
    Expiry,
    /// When the fields of a hash expire, of which no command tells that reads all of them.
    FieldExpiry,
}

/// Whether it is done only where nothing is, so that the first of several clients is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// It is not.
    No,
    /// It is, of a member: that is no guess on a key that is known.
    Unseen,
    /// It is, and this is how locks are taken.
    Lock,
}

/// What it leaves at the keys that it writes.
#[derive(Clone, Copy)]
pub(super) enum Makes {
    /// What was there: it only reads.
    Nothing,
    /// A value that comes from its arguments alone, or none.
    Whole,
    /// A value that comes from what stands at its other keys.
    Derived,
    /// Another moment of expiry.
    Expiry,
    /// A change that can be made to any other value as well.
    Change(for<'a> fn(&'a [&'a [u8]]) -> Option<Change<'a>>),
    /// Something that follows from the value that was there and from no other.
    Value,
}

/// Which of its keys it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Each of them, as if it came once for each.
    Each,
    /// All of them at once.
    All,
    First,
    Last,
}

/// Which answer says that nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undone {
    Never,
    Zero,
    Null,
    NotNull,
}

impl Deed {
    /// What a command does, by the table; `None` for a write that the table does not know, or that goes
    /// to another database than the one that memory stands in for.
    pub(super) fn of(spec: &Spec, args: &[&[u8]]) -> Option<Deed> {
        if spec.name() == "COPY" && has(args, 2, &["DB"]) {
            return None;
        }
        let row = TABLE.binary_search_by(|(name, _)| (*name).cmp(spec.name()));
        match row.map(|at| &TABLE[at].1) {
            Ok(Always(deed)) => Some(*deed),
            Ok(Considering(rule)) => Some(rule(args)),
            Err(_) => (spec.effect() == Effect::Read && !spec.is_script()).then_some(READS),
        }
    }

    /// Whether it changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.makes, Makes::Nothing)
    }

    /// The keys that it writes.
    pub(super) fn written<'k>(&self, keys: &'k [&'k [u8]]) -> &'k [&'k [u8]] {
        match self.on {
            _ if self.only_reads() => &[],
            On::Each | On::All => keys,
            On::First => keys.get(..1).unwrap_or_default(),
            On::Last => keys.last().map_or(&[], std::slice::from_ref),
        }
    }

    /// The keys whose values it works on.
    pub(super) fn worked_on<'k>(&self, keys: &'k [&'k [u8]]) -> &'k [&'k [u8]] {
        match (self.makes, self.on) {
            (Makes::Derived, On::First) => keys.get(1..).unwrap_or_default(),
            (Makes::Derived, _) => &keys[..keys.len().saturating_sub(1)],
            _ => keys,
        }
    }

    /// The keys that must be absent, where any must.
    pub(super) fn made_if_absent<'k>(&self, keys: &'k [&'k [u8]]) -> &'k [&'k [u8]] {
        match (self.if_absent, self.makes) {
            (IfAbsent::No, _) => &[],
            (_, Makes::Derived) => keys.last().map_or(&[], std::slice::from_ref),
            _ => keys,
        }
    }

    /// Whether this answer says that something was done.
    pub(super) fn was_done(&self, reply: &Value) -> bool {
        match self.undone {
            _ if matches!(reply, Value::Error(_)) || self.only_reads() => false,
            Undone::Never => true,
            Undone::Zero => *reply != Value::Integer(0),
            Undone::Null => *reply != Value::Null,
            Undone::NotNull => *reply == Value::Null,
        }
    }

    const fn needing(self, needs: Needs) -> Deed {
        Deed { needs, ..self }
    }

    const fn if_absent(self, if_absent: IfAbsent) -> Deed {
        Deed { if_absent, ..self }
    }

    const fn on(self, on: On) -> Deed {
        Deed { on, ..self }
    }

    const fn unless(self, undone: Undone) -> Deed {
        Deed { undone, ..self }
    }
}

/// Whether a command changes something. Asked of each command, so commands of which that depends on
/// the arguments are told apart before any are looked at.
pub(super) fn writes<A: AsRef<[u8]>>(spec: &Spec, args: &[A]) -> bool {
    match spec.name() {
        _ if spec.effect() == Effect::Read => false,
        "GETEX" | "GEORADIUS" | "GEORADIUSBYMEMBER" | "SORT" | "TOUCH" => {
            let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
            !Deed::of(spec, &args).is_some_and(|deed| deed.only_reads())
        }
        _ => true,
    }
}

/// Whether a command reads keys that nobody can tell from its arguments: SORT can order by, and give,
/// what stands at keys of which it has only a pattern.
pub(super) fn reads_others<A: AsRef<[u8]>>(spec: &Spec, args: &[A]) -> bool {
    // Asked of each command, so the flag comes before the name.
    if !spec.is_slow() || !spec.name().starts_with("SORT") {
        return false;
    }
    let options = args.iter().skip(1).zip(args.iter().skip(2));
    // A pattern without a star is that of no key: `BY nosort`, `GET #`.
    options
        .map(|(option, of)| (option.as_ref(), of.as_ref()))
        .any(|(option, of)| is_one_of(option, &["BY", "GET"]) && of.contains(&b'*'))
}

/// Why a command is never done in memory, whatever the store can do; `None` where it may be.
///
/// Asked before anything else. What is to be done in memory all the same by somebody's choice (a
/// script with a native twin, a message that stays local) is to be answered before this is asked.
pub(super) fn never(spec: &Spec) -> Option<Never> {
    let name = spec.name();
    if spec.is_script() {
        return Some(Never::Script);
    }
    if spec.is_session() {
        return Some(Never::Session);
    }
    if spec.is_blocking() {
        return Some(Never::Blocking);
    }
    if spec.concerns_all_keys() && spec.effect() != Effect::Read {
        return Some(Never::EveryKey);
    }
    if name.starts_with('X') {
        return Some(Never::Stream);
    }
    match name {
        "PUBLISH" | "SPUBLISH" => Some(Never::Publish),
        "DUMP" | "RESTORE" | "MIGRATE" | "MOVE" | "DEBUG OBJECT" | "MEMORY USAGE"
        | "OBJECT ENCODING" | "OBJECT FREQ" | "OBJECT IDLETIME" | "OBJECT REFCOUNT" => {
            Some(Never::Administration)
        }
        _ => None,
    }
}

/// What most reads are.
const READS: Deed = Deed {
    needs: Needs::Nothing,
    if_absent: IfAbsent::No,
    makes: Makes::Nothing,
    on: On::Each,
    keeps_expiry: true,
    undone: Undone::Never,
};

/// It replaces the value of its key.
const REPLACES: Deed = Deed { makes: Makes::Whole, on: On::First, keeps_expiry: false, ..READS };

/// It replaces the value of its key and gives the old one away.
const SWAPS: Deed = REPLACES.needing(Needs::Value);

/// It works on the value of its key, and can do so only where that is known.
const WORKS: Deed =
    Deed { needs: Needs::Value, makes: Makes::Value, keeps_expiry: true, ..REPLACES };

/// It works on the values of all its keys at once.
const MOVES: Deed = WORKS.on(On::All);

/// It puts together at its first key what it finds at the others.
const STORES: Deed = Deed { makes: Makes::Derived, keeps_expiry: false, ..WORKS };

/// It changes when its key expires.
const EXPIRES: Deed =
    Deed { needs: Needs::Presence, makes: Makes::Expiry, undone: Undone::Zero, ..REPLACES };

/// It makes a change that can be made to any other value as well.
const fn changes(change: for<'a> fn(&'a [&'a [u8]]) -> Option<Change<'a>>) -> Deed {
    Deed { makes: Makes::Change(change), ..WORKS }
}

enum Row {
    Always(Deed),
    /// Its arguments change what it does.
    Considering(fn(&[&[u8]]) -> Deed),
}

use Row::{Always, Considering};

/// Sorted by name. Of the reads only those that are more than that.
static TABLE: &[(&str, Row)] = &[
    ("APPEND", Always(changes(|args| Some(Change::Append(args.get(1)?))))),
    ("BITFIELD", Always(WORKS)),
    ("BITOP", Always(STORES)),
    ("COPY", Considering(copy)),
    ("DECR", Always(changes(|_| Some(Change::Add(Amount::Whole(-1)))))),
    (
        "DECRBY",
        Always(changes(|args| whole(args, 1)?.checked_neg().map(Amount::Whole).map(Change::Add))),
    ),
    ("DEL", Always(REPLACES.on(On::Each))),
    ("EXPIRE", Considering(expire)),
    ("EXPIREAT", Considering(expire)),
    ("EXPIRETIME", Always(READS.needing(Needs::Expiry))),
    ("GEOADD", Considering(geoadd)),
    ("GEORADIUS", Considering(store)),
    ("GEORADIUSBYMEMBER", Considering(store)),
    ("GEOSEARCHSTORE", Always(STORES)),
    ("GETDEL", Always(SWAPS)),
    ("GETEX", Considering(getex)),
    ("GETSET", Always(SWAPS)),
    ("HDEL", Always(changes(|args| Some(Change::Remove(Kind::Hash, rest(args)?))))),
    ("HEXPIRE", Considering(hexpire)),
    ("HEXPIREAT", Considering(hexpire)),
    ("HEXPIRETIME", Always(READS.needing(Needs::FieldExpiry))),
    ("HGETDEL", Always(WORKS)),
    ("HGETEX", Always(WORKS)),
    ("HINCRBY", Always(changes(|args| add_to(Kind::Hash, args, Amount::Whole(whole(args, 2)?))))),
    ("HINCRBYFLOAT", Always(changes(|args| add_to(Kind::Hash, args, float(args, 2)?)))),
    ("HMSET", Always(changes(|args| pairs(Kind::Hash, rest(args)?)))),
    ("HPERSIST", Always(WORKS.needing(Needs::FieldExpiry))),
    ("HPEXPIRE", Considering(hexpire)),
    ("HPEXPIREAT", Considering(hexpire)),
    ("HPEXPIRETIME", Always(READS.needing(Needs::FieldExpiry))),
    ("HPTTL", Always(READS.needing(Needs::FieldExpiry))),
    ("HSET", Always(changes(|args| pairs(Kind::Hash, rest(args)?)))),
    ("HSETEX", Considering(hsetex)),
    (
        "HSETNX",
        Always(
            changes(|args| pairs(Kind::Hash, rest(args)?))
                .if_absent(IfAbsent::Unseen)
                .unless(Undone::Zero),
        ),
    ),
    ("HTTL", Always(READS.needing(Needs::FieldExpiry))),
    ("INCR", Always(changes(|_| Some(Change::Add(Amount::Whole(1)))))),
    ("INCRBY", Always(changes(|args| Some(Change::Add(Amount::Whole(whole(args, 1)?)))))),
    ("INCRBYFLOAT", Always(changes(|args| Some(Change::Add(float(args, 1)?))))),
    ("LINSERT", Always(WORKS.needing(Needs::Presence))),
    ("LMOVE", Always(MOVES)),
    ("LMPOP", Always(MOVES)),
    ("LPOP", Always(WORKS)),
    ("LPUSH", Always(changes(|args| Some(Change::Push(End::Left, rest(args)?))))),
    ("LPUSHX", Always(WORKS.needing(Needs::Presence).unless(Undone::Zero))),
    ("LREM", Always(WORKS)),
    ("LSET", Always(WORKS.needing(Needs::Presence))),
    ("LTRIM", Always(WORKS)),
    ("MSET", Always(REPLACES.on(On::Each))),
    ("MSETNX", Always(REPLACES.on(On::All).if_absent(IfAbsent::Lock).unless(Undone::Zero))),
    ("PERSIST", Always(EXPIRES.needing(Needs::Expiry))),
    ("PEXPIRE", Considering(expire)),
    ("PEXPIREAT", Considering(expire)),
    ("PEXPIRETIME", Always(READS.needing(Needs::Expiry))),
    ("PFADD", Always(WORKS)),
    ("PFMERGE", Always(WORKS)),
    ("PSETEX", Always(REPLACES)),
    ("PTTL", Always(READS.needing(Needs::Expiry))),
    ("RENAME", Always(RENAMES)),
    ("RENAMENX", Always(RENAMES.if_absent(IfAbsent::Lock).unless(Undone::Zero))),
    ("RPOP", Always(WORKS)),
    ("RPOPLPUSH", Always(MOVES)),
    ("RPUSH", Always(changes(|args| Some(Change::Push(End::Right, rest(args)?))))),
    ("RPUSHX", Always(WORKS.needing(Needs::Presence).unless(Undone::Zero))),
    ("SADD", Always(changes(|args| members(rest(args)?)))),
    ("SDIFFSTORE", Always(STORES)),
    ("SET", Considering(set)),
    ("SETBIT", Always(WORKS)),
    ("SETEX", Always(REPLACES)),
    ("SETNX", Always(REPLACES.if_absent(IfAbsent::Lock).unless(Undone::Zero))),
    ("SETRANGE", Always(WORKS)),
    ("SINTERSTORE", Always(STORES)),
    ("SMOVE", Always(MOVES)),
    ("SORT", Considering(store)),
    ("SPOP", Always(WORKS)),
    ("SREM", Always(changes(|args| Some(Change::Remove(Kind::Set, rest(args)?))))),
    ("SUNIONSTORE", Always(STORES)),
    ("TOUCH", Always(READS)),
    ("TTL", Always(READS.needing(Needs::Expiry))),
    ("UNLINK", Always(REPLACES.on(On::Each))),
    ("ZADD", Considering(zadd)),
    ("ZDIFFSTORE", Always(STORES)),
    ("ZINCRBY", Always(changes(|args| add_to_score(rest(args)?)))),
    ("ZINTERSTORE", Always(STORES)),
    ("ZMPOP", Always(MOVES)),
    ("ZPOPMAX", Always(WORKS)),
    ("ZPOPMIN", Always(WORKS)),
    ("ZRANGESTORE", Always(STORES)),
    ("ZREM", Always(changes(|args| Some(Change::Remove(Kind::SortedSet, rest(args)?))))),
    ("ZREMRANGEBYLEX", Always(WORKS)),
    ("ZREMRANGEBYRANK", Always(WORKS)),
    ("ZREMRANGEBYSCORE", Always(WORKS)),
    ("ZUNIONSTORE", Always(STORES)),
];

const RENAMES: Deed =
    Deed { needs: Needs::Presence, makes: Makes::Derived, on: On::All, ..REPLACES };

/// COPY: without REPLACE the destination must be absent, which is a guess where it was never seen.
fn copy(args: &[&[u8]]) -> Deed {
    let copies = RENAMES.on(On::Last).unless(Undone::Zero);
    if has(args, 2, &["REPLACE"]) { copies } else { copies.if_absent(IfAbsent::Unseen) }
}

/// EXPIRE and its like: with a condition it depends on when the key expires now.
fn expire(args: &[&[u8]]) -> Deed {
    if args.len() > 2 { EXPIRES.needing(Needs::Expiry) } else { EXPIRES }
}

/// GETEX: without options it is a GET.
fn getex(args: &[&[u8]]) -> Deed {
    if args.len() > 1 { EXPIRES.unless(Undone::Null) } else { READS }
}

/// SORT and GEORADIUS: they only read, unless they store what they find.
fn store(args: &[&[u8]]) -> Deed {
    if has(args, 1, &["STORE", "STOREDIST"]) { STORES.on(On::Last) } else { READS }
}

/// SET: a condition makes it depend on what is there; GET gives that away.
fn set(args: &[&[u8]]) -> Deed {
    let get = has(args, 2, &["GET"]);
    let base = if get { SWAPS } else { REPLACES };
    let base = Deed { keeps_expiry: has(args, 2, &["KEEPTTL"]), ..base };
    if has(args, 2, &["NX"]) {
        let undone = if get { Undone::NotNull } else { Undone::Null };
        base.if_absent(IfAbsent::Lock).unless(undone)
    } else if has(args, 2, &["XX"]) {
        base.needing(Needs::Presence).unless(Undone::Null)
    } else {
        base
    }
}

/// ZADD: the conditions NX and XX are each member's own; GT and LT depend on its score.
fn zadd(args: &[&[u8]]) -> Deed {
    let options = zadd_options(args);
    let has =
        |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()));
    if has("XX") {
        WORKS.needing(Needs::Presence)
    } else if has("NX") {
        WORKS.if_absent(IfAbsent::Unseen)
    } else if has("GT") || has("LT") {
        WORKS
    } else if has("INCR") {
        changes(|args| add_to_score(zadd_scores(args)))
    } else {
        changes(|args| {
            let (scores, []) = zadd_scores(args).as_chunks::<2>() else { return None };
            let parts = scores.iter().map(|&[score, member]| (member, score));
            Some(Change::Set(Kind::SortedSet, parts.collect()))
        })
    }
}

/// GEOADD: as ZADD, but that scores are not given as such.
fn geoadd(args: &[&[u8]]) -> Deed {
    if has(args, 1, &["XX"]) {
        WORKS.needing(Needs::Presence)
    } else if has(args, 1, &["NX"]) {
        WORKS.if_absent(IfAbsent::Unseen)
    } else {
        WORKS
    }
}

/// HEXPIRE and its like do nothing to a field that is not there; with a condition they depend on when
/// it expires now.
fn hexpire(args: &[&[u8]]) -> Deed {
    let conditional = args.get(2).is_some_and(|arg| is_one_of(arg, &["NX", "XX", "GT", "LT"]));
    WORKS.needing(if conditional { Needs::FieldExpiry } else { Needs::Presence })
}

/// HSETEX: the conditions FNX and FXX are each field's own.
fn hsetex(args: &[&[u8]]) -> Deed {
    // The options stand before the fields, and a field may be called FNX.
    let options: Vec<&[u8]> =
        args.iter().skip(1).take_while(|arg| !is_one_of(arg, &["FIELDS"])).copied().collect();
    if has(&options, 0, &["FXX"]) {
        WORKS.needing(Needs::Presence)
    } else if has(&options, 0, &["FNX"]) {
        WORKS.if_absent(IfAbsent::Unseen)
    } else {
        WORKS
    }
}

fn zadd_options<'a>(args: &'a [&'a [u8]]) -> &'a [&'a [u8]] {
    let rest = rest(args).unwrap_or_default();
    &rest[..rest.len() - zadd_scores(args).len()]
}

/// What follows the options of ZADD.
fn zadd_scores<'a>(args: &'a [&'a [u8]]) -> &'a [&'a [u8]] {
    const OPTIONS: [&str; 6] = ["NX", "XX", "GT", "LT", "CH", "INCR"];
    let rest = rest(args).unwrap_or_default();
    let options = rest.iter().take_while(|arg| is_one_of(arg, &OPTIONS)).count();
    &rest[options..]
}

/// An increment and its member. The store reads more numbers than are read here, in hexadecimal for
/// one: what is none here is made NaN, which no delta admits.
fn add_to_score<'a>(pair: &'a [&'a [u8]]) -> Option<Change<'a>> {
    let [increment, member] = pair else { return None };
    let amount = number::parse_double(increment).unwrap_or(f64::NAN);
    Some(Change::AddTo(Kind::SortedSet, member, Amount::Score(amount)))
}

fn add_to<'a>(kind: Kind, args: &'a [&'a [u8]], amount: Amount) -> Option<Change<'a>> {
    Some(Change::AddTo(kind, args.get(1)?, amount))
}

fn pairs<'a>(kind: Kind, args: &'a [&'a [u8]]) -> Option<Change<'a>> {
    let (pairs, []) = args.as_chunks::<2>() else { return None };
    Some(Change::Set(kind, pairs.iter().map(|&[name, value]| (name, value)).collect()))
}

fn members<'a>(args: &'a [&'a [u8]]) -> Option<Change<'a>> {
    Some(Change::Set(Kind::Set, args.iter().map(|&member| (member, &[][..])).collect()))
}

/// The arguments after the key.
fn rest<'a>(args: &'a [&'a [u8]]) -> Option<&'a [&'a [u8]]> {
    args.get(1..)
}

fn whole(args: &[&[u8]], at: usize) -> Option<i64> {
    integer(args.get(at)?)
}

fn float(args: &[&[u8]], at: usize) -> Option<Amount> {
    Extended::parse(args.get(at)?).map(Amount::Float)
}

fn has(args: &[&[u8]], from: usize, names: &[&str]) -> bool {
    args.iter().skip(from).any(|arg| is_one_of(arg, names))
}

fn is_one_of(arg: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| arg.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::Store;

    fn deed(command: &str) -> Deed {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let spec = Spec::find(command.split(' ').next().unwrap_or_default()).expect("a command");
        Deed::of(spec, &words[1..]).expect("it stands in the table")
    }

    #[test]
    fn the_table_is_sorted_and_names_commands() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, _) in TABLE {
            assert!(Spec::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_write_that_the_store_can_do_stands_in_the_table() {
        for spec in Spec::all() {
            // A container is nothing without its subcommand, which has a line of its own.
            let supported = Store::supports(spec.name().as_bytes()) && !spec.is_container();
            if supported && spec.effect() != Effect::Read && never(spec).is_none() {
                assert!(Deed::of(spec, &[]).is_some(), "{} is missing", spec.name());
            }
        }
    }

    #[test]
    fn a_command_that_changes_nothing_writes_nothing() {
        let keys: [&[u8]; 2] = [b"a", b"b"];
        for reads in ["GET a", "GETEX a", "TOUCH a b", "SORT a", "TTL a", "ZRANGE a 0 -1"] {
            assert!(deed(reads).only_reads(), "{reads}");
            assert!(deed(reads).written(&keys).is_empty(), "{reads}");
        }
        for (writes, written) in [
            ("GETEX a PERSIST", &keys[..1]),
            ("SORT a STORE b", &keys[1..]),
            ("COPY a b", &keys[1..]),
            ("RENAME a b", &keys[..]),
            ("SUNIONSTORE a b", &keys[..1]),
            ("DEL a b", &keys[..]),
        ] {
            assert_eq!(deed(writes).written(&keys), written, "{writes}");
        }
    }

    #[test]
    fn options_decide_what_has_to_be_known() {
        let table = [
            ("SET k v", Needs::Nothing, IfAbsent::No),
            ("SET k NX", Needs::Nothing, IfAbsent::No),
            ("SET k v EX 10 KEEPTTL", Needs::Nothing, IfAbsent::No),
            ("SET k v GET", Needs::Value, IfAbsent::No),
            ("SET k v EX 10 xx", Needs::Presence, IfAbsent::No),
            ("SET k v nx", Needs::Nothing, IfAbsent::Lock),
            ("SET k v NX GET", Needs::Value, IfAbsent::Lock),
            ("GETDEL k", Needs::Value, IfAbsent::No),
            ("EXPIRE k 1", Needs::Presence, IfAbsent::No),
            ("EXPIRE k 1 GT", Needs::Expiry, IfAbsent::No),
            ("PERSIST k", Needs::Expiry, IfAbsent::No),
            ("COPY a b", Needs::Presence, IfAbsent::Unseen),
            ("COPY a b REPLACE", Needs::Presence, IfAbsent::No),
            ("HSETNX k f v", Needs::Value, IfAbsent::Unseen),
            ("ZADD k 1 NX", Needs::Value, IfAbsent::No),
            ("ZADD k nx 1 m", Needs::Value, IfAbsent::Unseen),
            ("ZADD k XX CH 1 m", Needs::Presence, IfAbsent::No),
        ];
        for (command, needs, if_absent) in table {
            assert_eq!(
                (deed(command).needs, deed(command).if_absent),
                (needs, if_absent),
                "{command}"
            );
        }
    }

    #[test]
    fn only_what_goes_with_any_value_is_a_change() {
        for change in ["INCR k", "HSET k f v", "ZADD k CH 1 m", "ZADD k INCR 1 m", "LPUSH k v"] {
            assert!(matches!(deed(change).makes, Makes::Change(_)), "{change}");
        }
        for other in ["ZADD k GT 1 m", "LPOP k", "SETRANGE k 1 v", "LPUSHX k v", "SPOP k"] {
            assert!(matches!(deed(other).makes, Makes::Value), "{other}");
        }
    }

    #[test]
    fn the_answer_tells_whether_anything_was_done() {
        let null = Value::Null;
        let text = Value::Bulk("old".into());
        let table = [
            ("SET k v", &Value::OK, true),
            ("SET k v NX", &null, false),
            ("SET k v NX GET", &text, false),
            ("SET k v NX GET", &null, true),
            ("SET k v XX GET", &text, true),
            ("SETNX k v", &Value::Integer(0), false),
            ("EXPIRE k 1", &Value::Integer(0), false),
            ("DEL k", &Value::Integer(0), true),
            ("INCR k", &Value::error("ERR no number"), false),
            ("GET k", &text, false),
        ];
        for (command, reply, done) in table {
            assert_eq!(deed(command).was_done(reply), done, "{command} => {reply:?}");
        }
    }
}

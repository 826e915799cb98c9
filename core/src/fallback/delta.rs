//! The net effect of what was written to one key in memory, to be added to whatever the server holds
//! when it is back.
//!
//! | commands | what is kept | what is sent |
//! |---|---|---|
//! | INCR, DECR, INCRBY, DECRBY | their sum | `INCRBY` |
//! | INCRBYFLOAT, alone or with these | the sum, in 80 bits as on a server | `INCRBYFLOAT` |
//! | APPEND | what was appended, one behind the other | `APPEND` |
//! | LPUSH, RPUSH | what was pushed, for each end in order | `LPUSH`, `RPUSH` |
//! | HSET, HDEL, HINCRBY, HINCRBYFLOAT | for each field its last value, its removal, or a sum | `HSET`, `HINCRBY`, `HINCRBYFLOAT`, `HDEL` |
//! | SADD, SREM | for each member whether it is in | `SADD`, `SREM` |
//! | ZADD, ZINCRBY, ZREM | for each member its last score, its removal, or a sum | `ZADD`, `ZINCRBY`, `ZREM` |
//! | EXPIRE and its relatives, PERSIST, GETEX | the moment of expiry | `PEXPIRE` with what is left, `PERSIST` |
//!
//! What is added goes out before what is removed: a collection that loses its last member loses its
//! time to live as well.
//!
//! The order in which others write meanwhile does not matter to sums and members. Where it does
//! (APPEND, pushes, a field's last value) the delta comes last.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use super::store::Extended;
use crate::resp::{Value, number::Digits};

/// A command that recovery sends.
#[derive(Clone, PartialEq)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) args: Vec<Bytes>,
}

/// What a member of a delta is charged with beside its bytes: its place in the tree or list, two
/// handles, and the allocator's share.
const PART_BYTES: usize = 128;

/// The most members in one command, so that none of them holds the server up for long.
pub(super) const PARTS_PER_COMMAND: usize = 512;

/// The net effect on one key.
#[derive(Clone, Default)]
pub(super) struct Delta {
    what: What,
    /// When the key is to expire, in milliseconds since the Unix epoch, where that was said.
    expiry: Option<Expiry>,
    /// When the value that it was built on expires, as far as that is known.
    base_expires_at: Option<u64>,
    bytes: usize,
}

/// What was said of a key's expiry: `None` is never.
type Expiry = Option<u64>;

#[derive(Clone, Default)]
enum What {
    #[default]
    Nothing,
    Sum(Amount),
    Tail(Vec<u8>),
    Parts(Kind, BTreeMap<Bytes, Part>),
    Items {
        left: Vec<Bytes>,
        right: Vec<Bytes>,
    },
}

/// A type whose members can be changed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hash,
    Set,
    SortedSet,
}

/// What becomes of one member.
#[derive(Clone)]
enum Part {
    /// It is there, with this value or score; a set's member has none.
    Is(Bytes),
    Gone,
    Plus(Amount),
}

/// What is added to a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Whole(i64),
    Float(Extended),
    Score(f64),
}

/// One command's change.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Add(Amount),
    Append(&'a [u8]),
    /// Members and their values.
    Set(Kind, Vec<(&'a [u8], &'a [u8])>),
    Remove(Kind, &'a [&'a [u8]]),
    AddTo(Kind, &'a [u8], Amount),
    Push(End, &'a [&'a [u8]]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

/// Why a change can't become part of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The sum of all that is added is no 64-bit number.
    Overflow,
    /// It is no finite number.
    Infinite,
    /// It does not go together with what the delta holds.
    Other,
}

/// What time has made of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is to be sent.
    Due,
    /// What it was added to has expired, and with it what was added.
    Lapsed,
    /// It said itself when the key was to expire, and that has passed: the key is gone.
    Expired,
}

impl Delta {
    /// What it takes in the journal.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn fate(&self, at: u64) -> Fate {
        let passed = |when: Option<u64>| when.is_some_and(|when| when < at);
        match self.expiry {
            Some(when) if passed(when) => Fate::Expired,
            None if passed(self.base_expires_at) => Fate::Lapsed,
            _ => Fate::Due,
        }
    }

    /// Whether a change can become part of it, and how many bytes that takes at most.
    pub(super) fn admits(&self, change: &Change<'_>) -> Result<usize, Misfit> {
        if let Change::AddTo(_, _, Amount::Score(score)) = change
            && score.is_nan()
        {
            return Err(Misfit::Other);
        }
        match (&self.what, change) {
            (What::Sum(sum), Change::Add(amount)) => drop(sum.plus(*amount)?),
            (What::Nothing, _)
            | (What::Tail(_), Change::Append(_))
            | (What::Items { .. }, Change::Push(..)) => {}
            (What::Parts(kind, parts), Change::AddTo(of, name, amount)) if kind == of => {
                if let Some(Part::Plus(sum)) = parts.get(*name) {
                    sum.plus(*amount)?;
                }
            }
            (What::Parts(kind, _), Change::Set(of, _) | Change::Remove(of, _)) if kind == of => {}
            _ => return Err(Misfit::Other),
        }
        Ok(change.bytes())
    }

    /// Makes a change part of it, one that it admits. `reply` is what the command was answered.
    pub(super) fn take(&mut self, change: &Change<'_>, reply: &Value) {
        match *change {
            Change::Add(amount) => {
                let before = match self.what {
                    What::Sum(sum) => sum,
                    _ => Amount::Whole(0),
                };
                self.what = What::Sum(before.plus(amount).expect("it was admitted"));
            }
            Change::Append(tail) => {
                if !matches!(self.what, What::Tail(_)) {
                    self.what = What::Tail(Vec::new());
                }
                let What::Tail(all) = &mut self.what else { unreachable!("it was just made") };
                all.extend_from_slice(tail);
                self.bytes += tail.len();
            }
            Change::Push(end, pushed) => {
                if !matches!(self.what, What::Items { .. }) {
                    self.what = What::Items { left: Vec::new(), right: Vec::new() };
                }
                let What::Items { left, right } = &mut self.what else {
                    unreachable!("it was just made")
                };
                let items = if end == End::Left { left } else { right };
                items.extend(pushed.iter().map(|item| Bytes::copy_from_slice(item)));
                self.bytes += change.bytes();
            }
            Change::Set(kind, ref parts) => {
                for (name, value) in parts {
                    self.put(kind, name, Part::Is(Bytes::copy_from_slice(value)));
                }
            }
            Change::Remove(kind, names) => {
                names.iter().for_each(|name| self.put(kind, name, Part::Gone));
            }
            Change::AddTo(kind, name, amount) => {
                let before = match &self.what {
                    What::Parts(_, parts) => parts.get(name),
                    _ => None,
                };
                let part = match before {
                    None => Part::Plus(amount),
                    Some(Part::Plus(sum)) => Part::Plus(sum.plus(amount).expect("it was admitted")),
                    // It is known what was there, so it is known what is there now.
                    Some(Part::Is(_) | Part::Gone) => Part::Is(number_of(reply)),
                };
                self.put(kind, name, part);
            }
        }
    }

    fn put(&mut self, kind: Kind, name: &[u8], part: Part) {
        if !matches!(self.what, What::Parts(..)) {
            self.what = What::Parts(kind, BTreeMap::new());
        }
        let What::Parts(_, parts) = &mut self.what else { unreachable!("it was just made") };
        self.bytes += part.bytes();
        if let Some(old) = parts.get_mut(name) {
            self.bytes -= old.bytes();
            *old = part;
        } else {
            self.bytes += name.len() + PART_BYTES;
            parts.insert(Bytes::copy_from_slice(name), part);
        }
    }

    /// Notes when the key is to expire.
    pub(super) fn expire(&mut self, at: Option<u64>) {
        self.expiry = Some(at);
    }

    /// Notes when what it is added to expires.
    pub(super) fn base_expires(&mut self, at: Option<u64>) {
        self.base_expires_at = at;
    }

    /// The commands that bring it about at `at`, in milliseconds since the Unix epoch.
    pub(super) fn commands(&self, key: &Bytes, at: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        match &self.what {
            What::Nothing => {}
            What::Sum(sum) => commands.push(command(sum.name(None), [key.clone(), sum.text()])),
            What::Tail(tail) => {
                let tail = Bytes::copy_from_slice(tail);
                commands.push(command("APPEND", [key.clone(), tail]));
            }
            What::Items { left, right } => {
                for (name, items) in [("LPUSH", left), ("RPUSH", right)] {
                    let parts: Vec<_> = items.iter().map(|item| vec![item.clone()]).collect();
                    slices(&mut commands, name, key, &parts);
                }
            }
            What::Parts(kind, parts) => render(&mut commands, key, *kind, parts),
        }
        match self.expiry {
            Some(Some(when)) => commands.push(expire(key, when, at)),
            Some(None) => commands.push(command("PERSIST", [key.clone()])),
            None => {}
        }
        commands
    }
}

fn render(commands: &mut Vec<Command>, key: &Bytes, kind: Kind, parts: &BTreeMap<Bytes, Part>) {
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    for (name, part) in parts {
        match part {
            Part::Is(value) => set.push(match kind {
                Kind::Hash => vec![name.clone(), value.clone()],
                Kind::Set => vec![name.clone()],
                Kind::SortedSet => vec![value.clone(), name.clone()],
            }),
            Part::Gone => gone.push(vec![name.clone()]),
            Part::Plus(sum) => {
                let [key, name, amount] = [key.clone(), name.clone(), sum.text()];
                commands.push(match kind {
                    Kind::SortedSet => command(sum.name(Some(kind)), [key, amount, name]),
                    Kind::Hash | Kind::Set => command(sum.name(Some(kind)), [key, name, amount]),
                });
            }
        }
    }
    let (add, remove) = match kind {
        Kind::Hash => ("HSET", "HDEL"),
        Kind::Set => ("SADD", "SREM"),
        Kind::SortedSet => ("ZADD", "ZREM"),
    };
    slices(commands, add, key, &set);
    slices(commands, remove, key, &gone);
}

/// A command, or as many of it as it takes to hold all that it is about.
pub(super) fn slices(
    commands: &mut Vec<Command>,
    name: &'static str,
    key: &Bytes,
    parts: &[Vec<Bytes>],
) {
    for slice in parts.chunks(PARTS_PER_COMMAND) {
        let arguments = slice.iter().flatten().cloned();
        commands.push(command(name, std::iter::once(key.clone()).chain(arguments)));
    }
}

/// The command that lets a key expire at `when`, in milliseconds since the Unix epoch. It says how
/// long that is: the server's clock may be another one.
pub(super) fn expire(key: &Bytes, when: u64, at: u64) -> Command {
    command("PEXPIRE", [key.clone(), left(when, at)])
}

/// How many milliseconds are left, at least one.
pub(super) fn left(when: u64, at: u64) -> Bytes {
    Bytes::from(when.saturating_sub(at).clamp(1, LEFT_MAX).to_string())
}

/// The longest life that is asked for, 146 million years: a server refuses one that ends, by its own
/// clock, beyond what 64 bits count.
const LEFT_MAX: u64 = i64::MAX as u64 / 2;

pub(super) fn command(name: &'static str, args: impl IntoIterator<Item = Bytes>) -> Command {
    Command { name, args: args.into_iter().collect() }
}

impl Command {
    /// Its name and arguments.
    pub(crate) fn words(&self) -> Vec<&[u8]> {
        std::iter::once(self.name.as_bytes()).chain(self.args.iter().map(|arg| &arg[..])).collect()
    }

    /// What it takes on its way.
    pub(crate) fn bytes(&self) -> usize {
        self.args.iter().map(|arg| arg.len() + WORD_BYTES).sum()
    }
}

impl fmt::Debug for Command {
    /// Its name only: keys and values can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the header of an argument takes: a dollar sign, a length and two line ends.
const WORD_BYTES: usize = 16;

impl Change<'_> {
    /// What it takes at most.
    fn bytes(&self) -> usize {
        let all = |names: &[&[u8]]| names.iter().map(|name| name.len() + PART_BYTES).sum();
        match self {
            Change::Add(_) => 0,
            Change::Append(tail) => tail.len(),
            Change::Set(_, parts) => {
                let bytes = |(name, value): &(&[u8], &[u8])| name.len() + value.len() + PART_BYTES;
                parts.iter().map(bytes).sum()
            }
            Change::Remove(_, names) | Change::Push(_, names) => all(names),
            Change::AddTo(_, name, _) => name.len() + PART_BYTES + NUMBER_BYTES_MAX,
        }
    }
}

/// The longest number that a reply to HINCRBYFLOAT holds is far shorter in practice; this only
/// keeps the account from being beaten by much.
const NUMBER_BYTES_MAX: usize = 64;

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Part::Is(value) => value.len(),
            Part::Gone | Part::Plus(_) => 0,
        }
    }
}

impl Amount {
    fn plus(self, other: Amount) -> Result<Amount, Misfit> {
        match (self, other) {
            (Amount::Whole(a), Amount::Whole(b)) => {
                a.checked_add(b).map(Amount::Whole).ok_or(Misfit::Overflow)
            }
            (Amount::Score(a), Amount::Score(b)) => {
                let sum = Some(a + b).filter(|sum| !sum.is_nan());
                sum.map(Amount::Score).ok_or(Misfit::Infinite)
            }
            (Amount::Score(_), _) | (_, Amount::Score(_)) => Err(Misfit::Other),
            (a, b) => {
                let sum = a.extended().add(b.extended());
                sum.map(Amount::Float).ok_or(Misfit::Infinite)
            }
        }
    }

    /// A whole number has 64 bits at most, and so has the significand.
    fn extended(self) -> Extended {
        match self {
            Amount::Whole(number) => {
                Extended::parse(number.to_string().as_bytes()).expect("digits are a number")
            }
            Amount::Float(number) => number,
            Amount::Score(_) => Extended::ZERO,
        }
    }

    fn text(self) -> Bytes {
        match self {
            Amount::Whole(number) => Bytes::from(number.to_string()),
            Amount::Float(number) => Bytes::from(number.to_string()),
            Amount::Score(number) => Bytes::copy_from_slice(Digits::double(number).as_bytes()),
        }
    }

    /// The command that adds it to a member, or to a string.
    fn name(self, of: Option<Kind>) -> &'static str {
        match (self, of) {
            (_, Some(Kind::SortedSet)) => "ZINCRBY",
            (Amount::Whole(_), Some(_)) => "HINCRBY",
            (_, Some(_)) => "HINCRBYFLOAT",
            (Amount::Whole(_), None) => "INCRBY",
            (_, None) => "INCRBYFLOAT",
        }
    }
}

/// A number that a command answers, as text.
pub(super) fn number_of(reply: &Value) -> Bytes {
    match reply {
        Value::Integer(number) => Bytes::from(number.to_string()),
        Value::Double(number) => Bytes::copy_from_slice(Digits::double(*number).as_bytes()),
        Value::Bulk(text) => text.clone(),
        _ => Bytes::new(),
    }
}

impl fmt::Debug for Delta {
    /// Its size only: members and values can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delta").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes changes, as long as they are admitted, and gives what would be sent.
    fn sent(changes: &[(Change<'_>, Value)]) -> Result<String, Misfit> {
        let mut delta = Delta::default();
        for (change, reply) in changes {
            let most = delta.bytes() + delta.admits(change)?;
            delta.take(change, reply);
            assert!(delta.bytes() <= most, "{change:?} takes no more than it said");
        }
        Ok(lines(&delta.commands(&"k".into(), 0)))
    }

    fn lines(commands: &[Command]) -> String {
        let line = |command: &Command| String::from_utf8(command.words().join(&b' ')).unwrap();
        commands.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn add(number: i64) -> (Change<'static>, Value) {
        (Change::Add(Amount::Whole(number)), Value::Null)
    }

    fn float(text: &str) -> Amount {
        Amount::Float(Extended::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn counters_sum_up_and_a_fraction_makes_the_sum_one() {
        assert_eq!(sent(&[add(5), add(-7), add(1)]).unwrap(), "INCRBY k -1");
        assert_eq!(
            sent(&[add(1), add(-1)]).unwrap(),
            "INCRBY k 0",
            "it makes the key all the same"
        );
        let fraction = (Change::Add(float("0.1")), Value::Null);
        assert_eq!(sent(&[add(i64::MAX), fraction]).unwrap(), "INCRBYFLOAT k 9223372036854775807");
        let tenth = || (Change::Add(float("0.1")), Value::Null);
        assert_eq!(sent(&[tenth(), tenth(), tenth(), add(1)]).unwrap(), "INCRBYFLOAT k 1.3");
    }

    #[test]
    fn a_sum_that_no_server_could_hold_is_refused() {
        assert_eq!(sent(&[add(i64::MAX), add(1)]), Err(Misfit::Overflow));
        assert_eq!(sent(&[add(i64::MIN), add(-1)]), Err(Misfit::Overflow));
        let field = |number| (Change::AddTo(Kind::Hash, b"f", Amount::Whole(number)), Value::Null);
        assert_eq!(sent(&[field(i64::MAX), field(1)]), Err(Misfit::Overflow));
        let score =
            |number| (Change::AddTo(Kind::SortedSet, b"m", Amount::Score(number)), Value::Null);
        assert_eq!(sent(&[score(f64::INFINITY), score(f64::NEG_INFINITY)]), Err(Misfit::Infinite));
        assert_eq!(sent(&[score(f64::NAN)]), Err(Misfit::Other));
    }

    #[test]
    fn what_is_appended_and_pushed_keeps_its_order() {
        let append = |text| (Change::Append(text), Value::Null);
        assert_eq!(sent(&[append(b"ab"), append(b"c")]).unwrap(), "APPEND k abc");
        let push = |end, items| (Change::Push(end, items), Value::Null);
        let pushes = [
            push(End::Right, &[b"a" as &[u8], b"b"][..]),
            push(End::Left, &[b"c" as &[u8]][..]),
            push(End::Right, &[b"d" as &[u8]][..]),
            push(End::Left, &[b"e" as &[u8]][..]),
        ];
        assert_eq!(sent(&pushes).unwrap(), "LPUSH k c e; RPUSH k a b d");
    }

    #[test]
    fn of_each_member_the_last_word_counts_and_what_is_added_goes_first() {
        let set = |name, value| (Change::Set(Kind::Hash, vec![(name, value)]), Value::Null);
        let plus = |name, by, reply| {
            (Change::AddTo(Kind::Hash, name, Amount::Whole(by)), Value::Integer(reply))
        };
        let gone = |names| (Change::Remove(Kind::Hash, names), Value::Null);
        let changes = [
            gone(&[b"a" as &[u8], b"z"][..]),
            set(b"b", b"1"),
            set(b"b", b"2"),
            plus(b"n", 2, 2),
            plus(b"n", 3, 5),
            plus(b"b", 40, 42),
            plus(b"z", 7, 7),
        ];
        assert_eq!(sent(&changes).unwrap(), "HINCRBY k n 5; HSET k b 42 z 7; HDEL k a");
    }

    #[test]
    fn members_and_scores_have_their_own_commands() {
        let member = |name| (Change::Set(Kind::Set, vec![(name, &b""[..])]), Value::Null);
        let gone = |kind, names| (Change::Remove(kind, names), Value::Null);
        let set = [member(b"a"), member(b"b"), gone(Kind::Set, &[b"a" as &[u8]][..])];
        assert_eq!(sent(&set).unwrap(), "SADD k b; SREM k a");
        let score = |name, score| (Change::Set(Kind::SortedSet, vec![(name, score)]), Value::Null);
        let plus = |name, by, reply| {
            (Change::AddTo(Kind::SortedSet, name, Amount::Score(by)), Value::Double(reply))
        };
        let scores = [
            score(b"a", b"1.5"),
            plus(b"a", 1.0, 2.5),
            plus(b"b", 0.5, 0.5),
            plus(b"b", 1.0, 1.5),
            gone(Kind::SortedSet, &[b"c" as &[u8]][..]),
        ];
        assert_eq!(sent(&scores).unwrap(), "ZINCRBY k 1.5 b; ZADD k 2.5 a; ZREM k c");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let append = (Change::Append(b"1"), Value::Null);
        assert_eq!(sent(&[append, add(1)]), Err(Misfit::Other));
        let field = (Change::Set(Kind::Hash, vec![(b"f", b"v")]), Value::Null);
        let member = (Change::Remove(Kind::Set, &[b"f" as &[u8]][..]), Value::Null);
        assert_eq!(sent(&[field, member]), Err(Misfit::Other));
    }

    #[test]
    fn many_members_go_out_in_slices() {
        let names: Vec<String> = (0..PARTS_PER_COMMAND + 1).map(|at| format!("{at:04}")).collect();
        let pairs = names.iter().map(|name| (name.as_bytes(), &b""[..])).collect();
        let mut delta = Delta::default();
        delta.take(&Change::Set(Kind::Set, pairs), &Value::Null);
        let commands = delta.commands(&"k".into(), 0);
        let lengths: Vec<_> = commands.iter().map(|command| command.args.len() - 1).collect();
        assert_eq!(lengths, [PARTS_PER_COMMAND, 1]);
    }

    #[test]
    fn a_moment_of_expiry_is_sent_as_what_is_left_of_it() {
        let mut delta = Delta::default();
        delta.expire(Some(1_500));
        assert_eq!(lines(&delta.commands(&"k".into(), 1_000)), "PEXPIRE k 500");
        assert_eq!((delta.fate(1_500), delta.fate(1_501)), (Fate::Due, Fate::Expired));
        delta.expire(None);
        assert_eq!(lines(&delta.commands(&"k".into(), 9_999)), "PERSIST k");
        assert_eq!(delta.fate(9_999), Fate::Due);
    }

    #[test]
    fn what_was_added_to_something_that_has_expired_is_gone_with_it() {
        let mut delta = Delta::default();
        delta.take(&Change::Add(Amount::Whole(1)), &Value::Null);
        delta.base_expires(Some(1_000));
        assert_eq!((delta.fate(1_000), delta.fate(1_001)), (Fate::Due, Fate::Lapsed));
        delta.expire(None);
        assert_eq!(delta.fate(1_001), Fate::Due);
    }
}

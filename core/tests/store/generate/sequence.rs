//! Commands put together: a sequence starts on an empty store, fills it and then does anything.

use super::Row;
use super::zsets::score;
use crate::random::{Args, KINDS, Kind, Random, args};

/// The rows to choose from, by type; what a store or server does not know is left out.
pub(crate) struct Tables(pub(crate) Vec<Vec<&'static Row>>);

/// One thing that is done to both.
#[derive(Clone)]
pub(crate) enum Step {
    /// A command, and the name it is counted under: none for those that only make room for others.
    Run(Option<&'static str>, Args),
    /// A scan from its beginning to its end, with writes between its calls. The cursor stands
    /// first among the arguments, or behind the key.
    Scan(&'static str, Args, Vec<Args>),
    /// Waits until what is soon over is over.
    Expire,
    /// Holds all keys with their types, encodings, values and expiry against each other.
    Compare,
}

/// What a name is counted under that no command has.
pub(crate) const UNKNOWN: &str = "(unknown)";

/// One in so many sequences has entries that expire while it runs.
const EXPIRING_ONE_IN: usize = 20;
/// So many of a hundred commands are such that no server takes them: enough for a fifth of a
/// command's runs to be errors where it can hardly fail otherwise.
const SPOILED_PERCENT: usize = 27;
/// Before one in so many commands something is written that it may read: commands that take away,
/// store nothing or let things expire are so many that little would be left.
const FED_ONE_IN: usize = 3;
/// After so many commands all keys are compared, and at the end.
const COMPARED_EVERY: usize = 100;
/// One in so many commands is changed blindly.
const CHANGED_ONE_IN: usize = 40;
/// One in so many well-formed scans goes on to its end.
const WHOLE_SCAN_ONE_IN: usize = 4;

/// The sequence of this number: the same one for the same seed and tables.
pub(crate) fn sequence(tables: &Tables, seed: u64, number: u64) -> Vec<Step> {
    let mut random = Random::new(seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
    random.next();
    let mut maker = Maker { tables, random, steps: Vec::new() };
    for command in fixed_keys() {
        maker.write(command);
    }
    if maker.random.one_in(EXPIRING_ONE_IN) {
        maker.expiring();
    }
    maker.fill();
    maker.anything();
    maker.steps.push(Step::Compare);
    maker.flush();
    maker.run("DBSIZE");
    maker.steps
}

/// What makes the keys that commands name which are to meet the wrong type, or surely the right
/// one. No other command writes to them.
pub(crate) fn fixed_keys() -> Vec<Args> {
    vec![
        args(&["SET", Kind::String.fixed(), "text"]),
        args(&["HSET", Kind::Hash.fixed(), "a", "1", "b", "2"]),
        args(&["RPUSH", Kind::List.fixed(), "1", "2", "3"]),
        args(&["SADD", Kind::Set.fixed(), "a", "b", "1"]),
        args(&["ZADD", Kind::Zset.fixed(), "0", "a", "0", "b"]),
    ]
}

struct Maker<'a> {
    tables: &'a Tables,
    random: Random,
    steps: Vec<Step>,
}

impl Maker<'_> {
    fn row(&self, name: &str) -> Option<&'static Row> {
        self.tables.0.iter().flatten().find(|row| row.name == name).copied()
    }

    /// A well-formed command of this name, where it is known.
    fn run(&mut self, name: &str) {
        if let Some(row) = self.row(name) {
            let command = row.well_formed(&mut self.random);
            self.steps.push(Step::Run(None, command));
        }
    }

    /// This command, where it is known.
    fn write(&mut self, command: Args) {
        if self.row(std::str::from_utf8(&command[0]).unwrap_or_default()).is_some() {
            self.steps.push(Step::Run(None, command));
        }
    }

    /// Something at most of the keys.
    fn fill(&mut self) {
        for kind in KINDS {
            (0..self.random.below(5)).for_each(|_| self.feed(kind));
        }
    }

    /// Writes what others may read, to a key of this kind.
    fn feed(&mut self, kind: Kind) {
        let random = &mut self.random;
        let key = random.word(kind.keys());
        let command = match kind {
            Kind::String => vec![b"SET".to_vec(), key, random.value()],
            Kind::Hash => [vec![b"HSET".to_vec(), key], random.fields()].concat(),
            Kind::List => [vec![b"RPUSH".to_vec(), key], random.members()].concat(),
            Kind::Set => [vec![b"SADD".to_vec(), key], random.members()].concat(),
            Kind::Zset | Kind::Lex => {
                let mut command = vec![b"ZADD".to_vec(), key];
                for member in random.members() {
                    let score = if kind == Kind::Lex { b"0".to_vec() } else { score(random) };
                    command.extend([score, member]);
                }
                command
            }
        };
        self.write(command);
    }

    /// Entries and fields of which many expire, and the wait for it.
    fn expiring(&mut self) {
        #[rustfmt::skip]
        const NAMES: &[&str] = &[
            "SET", "PSETEX", "GETEX", "PEXPIRE", "PEXPIRE", "PEXPIREAT", "PEXPIREAT", "EXPIRE",
            "PERSIST", "RENAME", "COPY", "APPEND", "INCR", "HPEXPIRE", "HPEXPIREAT", "HPERSIST", "HSETEX",
            "HGETEX",
        ];
        self.fill();
        self.random.soon = true;
        for _ in 0..40 {
            let name = self.random.pick(NAMES);
            self.run(name);
        }
        self.random.soon = false;
        self.steps.push(Step::Expire);
    }

    /// Half of the commands are about one type, so that they meet each other's data; the others
    /// are about all.
    fn anything(&mut self) {
        let rows: Vec<_> = self.tables.0.iter().flatten().copied().collect();
        let name = self.random.pick(&rows).name;
        let table = self.tables.0.iter().find(|table| table.iter().any(|row| row.name == name));
        let about = table.unwrap_or(&rows).clone();
        let most = if self.random.one_in(12) { 400 } else { 120 };
        for number in 1..=40 + self.random.below(most) {
            if number.is_multiple_of(COMPARED_EVERY) {
                self.steps.push(Step::Compare);
            }
            let from = if self.random.one_in(2) { &about } else { &rows };
            let row = self.random.pick(from);
            // One that worked would end the sequence before its end, and errors alone say little.
            if row.name.starts_with("FLUSH") && !self.random.one_in(4) {
                continue;
            }
            if let Some(kind) = row.kind
                && self.random.one_in(FED_ONE_IN)
            {
                self.feed(kind);
            }
            self.one(row);
        }
    }

    fn one(&mut self, row: &'static Row) {
        if row.name.starts_with("FLUSH") || self.random.below(100) < SPOILED_PERCENT {
            let command = row.spoiled(&mut self.random);
            return self.push(row.name, command);
        }
        if row.name.ends_with("SCAN") && self.random.one_in(WHOLE_SCAN_ONE_IN) {
            return self.whole_scan(row);
        }
        let command = row.well_formed(&mut self.random);
        if self.random.one_in(CHANGED_ONE_IN) {
            return self.changed(row.name, command);
        }
        self.push(row.name, command);
    }

    /// What [`one`](Maker::one) leaves out.
    fn flush(&mut self) {
        let name = self.random.pick(&["FLUSHALL", "FLUSHDB"]);
        if let Some(row) = self.row(name) {
            let command = row.well_formed(&mut self.random);
            self.push(row.name, command);
        }
    }

    fn push(&mut self, name: &'static str, mut command: Args) {
        if self.random.one_in(3) {
            command[0].make_ascii_lowercase();
        }
        self.steps.push(Step::Run(Some(name), command));
    }

    fn changed(&mut self, name: &'static str, mut command: Args) {
        let at = self.random.below(command.len());
        match self.random.below(4) {
            0 => {
                command[0] = self.random.bytes(b"ZNo\r\n\0\xFF' ", 1..150);
                command[0].insert(0, b'Z');
                return self.push(UNKNOWN, command);
            }
            1 if at > 0 => drop(command.remove(at)),
            2 if at > 0 => command.insert(at, command[at].clone()),
            _ => command.push(b"more".to_vec()),
        }
        self.push(name, command);
    }

    fn whole_scan(&mut self, row: &'static Row) {
        let mut command = row.well_formed(&mut self.random);
        if row.name == "SCAN" {
            // More keys than there are, so that one call does not reach all of them.
            let names: Vec<_> = (0..20 + self.random.below(150)).map(|n| format!("n{n}")).collect();
            let pairs: Vec<_> = names.iter().flat_map(|name| [name.as_str(), "v"]).collect();
            self.write(args(&[&["MSET"], &pairs[..]].concat()));
            let writes = (0..8).map(|_| {
                let name = format!("n{}", self.random.below(300));
                match self.random.below(4) {
                    0 => args(&["DEL", &name]),
                    1 => args(&["RENAME", "n1", &name]),
                    _ => args(&["SET", &name, "v"]),
                }
            });
            let writes = writes.collect();
            self.steps.push(Step::Scan(row.name, command, writes));
            let all: Vec<_> = (0..300).map(|n| format!("n{n}")).collect();
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            self.write(args(&[&["UNLINK"], &all[..]].concat()));
            return;
        }
        let kind = row.kind.expect("a scan of one key");
        command[1] = self.random.word(kind.keys());
        let (add, rem) = match row.name {
            "HSCAN" => ("HSET", "HDEL"),
            "SSCAN" => ("SADD", "SREM"),
            _ => ("ZADD", "ZREM"),
        };
        let mut write = |name: &str| {
            let mut write = vec![name.as_bytes().to_vec(), command[1].clone()];
            for member in self.random.members() {
                match name {
                    "HSET" => write.extend([member, b"v".to_vec()]),
                    "ZADD" => write.extend([b"1".to_vec(), member]),
                    _ => write.push(member),
                }
            }
            write
        };
        let writes = (0..4).flat_map(|_| [write(add), write(rem)]).collect();
        self.steps.push(Step::Scan(row.name, command, writes));
    }
}

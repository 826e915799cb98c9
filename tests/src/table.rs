//! The table of degraded mode, `tests/data/degraded.txt`: what becomes of each class of command, in
//! each mode, at each moment of an outage. It says itself what its columns mean.

use std::fmt;

const TABLE: &str = include_str!("../data/degraded.txt");

/// A class of command, with an example.
#[derive(Clone, Debug)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// What makes the keys' values on the server, before anything else.
    pub prepare: Vec<String>,
    /// What the client does while the server is well, to see them.
    pub see: Vec<String>,
    /// The command in question.
    pub command: String,
}

/// What becomes of a class of command in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The class.
    pub class: String,
    /// The outcome of one that was sent before the server stopped, and not answered.
    pub at: String,
    /// The outcome of one that is sent while the server is judged down.
    pub during: String,
    /// What the server holds at the latter's keys once the client has recovered.
    pub left: String,
}

impl Class {
    /// All classes.
    #[must_use]
    pub fn all() -> Vec<Class> {
        let commands = |cell: &str| {
            let commands = cell.split(';').map(str::trim).filter(|command| !command.is_empty());
            commands.map(str::to_owned).collect()
        };
        let class = |[name, prepare, see, command]: [String; 4]| Class {
            name,
            prepare: commands(&prepare),
            see: commands(&see),
            command,
        };
        section("classes").map(class).collect()
    }

    /// A command's words, on keys that only this class has, and only at this moment.
    #[must_use]
    pub fn words(&self, command: &str, moment: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "k" | "j" | "k*" => self.prefix(moment) + word,
            "w" => format!("w:{}", self.prefix(moment)),
            _ => word.to_owned(),
        };
        command.split(' ').map(word).collect()
    }

    /// What these keys begin with. The rule in question is for `m:*`.
    #[must_use]
    pub fn prefix(&self, moment: &str) -> String {
        format!("m:{}:{moment}:", self.name.replace([' ', ':'], ""))
    }

    /// The keys that its commands name, at this moment.
    #[must_use]
    pub fn keys(&self, moment: &str) -> Vec<String> {
        let named = |key: &&str| {
            let mut commands = self.prepare.iter().chain([&self.command]);
            commands.any(|command| command.split(' ').any(|word| word == *key))
        };
        let keys = ["k", "j", "w"].into_iter().filter(named);
        keys.flat_map(|key| self.words(key, moment)).collect()
    }

    /// Whether it has more than the usual time before its server counts as silent.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.name.starts_with("slow: ")
    }
}

impl Row {
    /// The rows of this mode's section.
    #[must_use]
    pub fn all_of(mode: &str) -> Vec<Row> {
        section(mode).map(|[class, at, during, left]| Row { class, at, during, left }).collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { class, at, during, left } = self;
        writeln!(f, "{class:<17} | {at:<16} | {during:<16} | {left}")
    }
}

/// The command that shows what a key of this type holds.
#[must_use]
pub fn command_to_see<'k>(type_name: &str, key: &'k str) -> Vec<&'k str> {
    match type_name {
        "hash" => vec!["HGETALL", key],
        "list" => vec!["LRANGE", key, "0", "-1"],
        "set" => vec!["SMEMBERS", key],
        "zset" => vec!["ZRANGE", key, "0", "-1", "WITHSCORES"],
        "stream" => vec!["XLEN", key],
        _ => vec!["GET", key],
    }
}

/// What was seen, with the members of a set in order, for sets have none.
#[must_use]
pub fn in_order(type_name: &str, seen: &str) -> String {
    if type_name != "set" {
        return seen.to_owned();
    }
    let mut members: Vec<_> = seen.trim_matches(['[', ']']).split(' ').collect();
    members.sort_unstable();
    format!("[{}]", members.join(" "))
}

fn section(name: &str) -> impl Iterator<Item = [String; 4]> {
    let head = format!("[{name}]");
    let lines = TABLE.lines().skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.is_empty()).map(|line| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|_| panic!("not four cells: {line}"))
    })
}

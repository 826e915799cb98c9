//! Who uses which connection. Those who hold one carry their number in a key of each of their commands, so
//! that it shows when somebody meets what another one has left behind.

use std::collections::{BTreeMap, BTreeSet};

use super::{Server, Session};

/// Which database whoever holds a connection selects, if any: one that nobody else does.
#[must_use]
pub fn database_of(holder: u64) -> u64 {
    100 + holder
}

/// A key of whoever holds a connection; `class` is the pattern that it belongs to. All of them are in one slot
/// of a cluster, with what is watched.
#[must_use]
pub fn key_of(class: &str, holder: u64) -> String {
    format!("{class}:{{a}}:u:{holder}")
}

/// Whose a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Holder(u64),
    Another,
}

/// What was done on a connection.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    last: Option<User>,
    /// Those who are done with it.
    past: BTreeSet<u64>,
    pub(super) database: u64,
    watcher: Option<User>,
    /// The watched keys, and how often they had been written.
    pub(super) watched: BTreeMap<String, u64>,
}

impl Server {
    /// Looks whether a command may stand where it stands.
    pub(super) fn attribute(&mut self, link: u64, session: &mut Session, words: &[String]) {
        let Some(user) = user_of(words) else { return };
        let conduct = &mut session.conduct;
        let own = match user {
            User::Holder(number) => database_of(number),
            User::Another => self.database,
        };
        let mut wrong = Vec::new();
        if ![self.database, own].contains(&conduct.database) {
            wrong.push((10, format!("in database {}", conduct.database)));
        }
        if !conduct.watched.is_empty() && conduct.watcher != Some(user) {
            wrong.push((10, format!("watching for {:?}", conduct.watcher)));
        }
        if let Some(multi) = &mut session.multi {
            let first = *multi.by.get_or_insert(user);
            if first != user {
                wrong.push((10, format!("in a transaction of {first:?}")));
            }
        }
        if let Some(User::Holder(before)) = conduct.last.filter(|last| *last != user) {
            conduct.past.insert(before);
            self.reused += 1;
        }
        conduct.last = Some(user);
        if let User::Holder(number) = user {
            if conduct.past.contains(&number) {
                wrong.push((10, "after another has used the connection".into()));
            }
            if *self.held_on.entry(number).or_insert(link) != link && !roams(number) {
                wrong.push((9, "on another connection than before".into()));
            }
        }
        for (number, what) in wrong {
            self.trespasses.push((number, format!("{user:?}: {words:?} {what}")));
        }
    }

    /// A transaction of one who always watches must not be carried out where he has not.
    pub(super) fn check_watch(&mut self, conduct: &Conduct, by: Option<User>) {
        let Some(User::Holder(number)) = by else { return };
        if roams(number) && conduct.watched.is_empty() {
            let what = format!("{by:?}: EXEC where nothing is watched");
            self.trespasses.push((9, what));
        }
    }

    pub(super) fn watch(&mut self, session: &mut Session, words: &[String]) {
        session.conduct.watcher = user_of(words);
        for key in &words[1..] {
            let version = self.version_of(key);
            session.conduct.watched.insert(key.clone(), version);
        }
    }

    /// Whether a key that is watched was written since, or has expired.
    pub(super) fn is_dirty(&self, conduct: &Conduct) -> bool {
        let mut watched = conduct.watched.iter();
        watched.any(|(key, version)| self.version_of(key) != *version)
    }

    fn version_of(&self, key: &str) -> u64 {
        self.versions.get(key).copied().unwrap_or(0)
    }

    /// These keys are written.
    pub(super) fn touch(&mut self, name: &str, words: &[String]) {
        let keys: Vec<&String> = match name {
            "MSET" => words[1..].iter().step_by(2).collect(),
            "EVAL" => words[3..4].iter().collect(),
            "SET" | "INCR" | "INCRBY" | "APPEND" => words[1..2].iter().collect(),
            _ => words[1..].iter().collect(),
        };
        for key in keys {
            *self.versions.entry(key.clone()).or_default() += 1;
        }
    }
}

/// Whose a command is; nothing where anybody's may look like that.
fn user_of(words: &[String]) -> Option<User> {
    let neutral = [
        "HELLO", "AUTH", "CLIENT", "ROLE", "INFO", "MULTI", "EXEC", "DISCARD", "UNWATCH", "SELECT",
        "XINFO",
    ];
    let name = words[0].to_ascii_uppercase();
    if neutral.contains(&name.as_str()) || (name == "PING" && words.len() == 1) {
        return None;
    }
    let holder = holder_in(words.iter().map(String::as_str));
    Some(holder.map_or(User::Another, User::Holder))
}

/// The number of the holder whose key is among some words.
pub fn holder_in<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<u64> {
    words.find_map(|word| word.split_once(":u:")?.1.parse().ok())
}

/// Optimistic transactions begin anew on another connection: those have even numbers.
#[must_use]
pub fn roams(holder: u64) -> bool {
    holder.is_multiple_of(2)
}

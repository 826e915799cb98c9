//! Streams and their groups, as far as consumers need them.

use std::collections::BTreeMap;

use unfazed_core::resp::Value;

use super::{Data, Server, When, bulk};

/// The stream of this world, and the group that reads it.
pub const STREAM: &str = "wallet:{c}:stream";
/// See [`STREAM`].
pub const GROUP: &str = "g";

type Id = (u64, u64);

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The entries' one value each, by id.
    pub entries: BTreeMap<Id, String>,
    last: Id,
    groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    last: Id,
    /// Whose each is, and since when.
    pending: BTreeMap<Id, (String, u64)>,
}

/// An id as it is written.
#[must_use]
pub fn written(id: Id) -> String {
    format!("{}-{}", id.0, id.1)
}

fn read(word: &str) -> Id {
    let (millis, count) = word.split_once('-').unwrap_or((word, "0"));
    (millis.parse().unwrap_or(0), count.parse().unwrap_or(0))
}

fn entry(id: Id, value: Option<&String>) -> Value {
    let fields = value.map_or(Value::Null, |value| Value::Array(vec![bulk("v"), bulk(value)]));
    Value::Array(vec![bulk(&written(id)), fields])
}

/// The word behind another one.
fn behind<'a>(words: &'a [String], what: &str) -> Option<&'a String> {
    let at = words.iter().position(|word| word.eq_ignore_ascii_case(what))?;
    words.get(at + 1)
}

/// What XREADGROUP is asked for: each stream, and from where on.
fn asked(words: &[String]) -> Vec<(&String, &String)> {
    let at = words.iter().position(|word| word.eq_ignore_ascii_case("STREAMS"));
    let rest = at.map_or(&[][..], |at| &words[at + 1..]);
    let (keys, ids) = rest.split_at(rest.len() / 2);
    keys.iter().zip(ids).collect()
}

impl Server {
    /// The stream that is at the key of this world; nothing where there is none.
    #[must_use]
    pub fn stream(&self) -> Option<&Stream> {
        match self.data.get(STREAM.as_bytes()) {
            Some((Data::Stream(stream), _)) => Some(stream),
            _ => None,
        }
    }

    fn stream_at(&mut self, key: &str) -> Option<&mut Stream> {
        match self.data.get_mut(key.as_bytes()) {
            Some((Data::Stream(stream), _)) => Some(stream),
            _ => None,
        }
    }

    /// Whether there is something new for a member of a group, or nothing to wait for.
    pub(super) fn is_new(&self, words: &[String]) -> bool {
        let group = behind(words, "GROUP").map_or("", String::as_str);
        asked(words).iter().any(|(key, _)| match self.data.get(key.as_bytes()) {
            Some((Data::Stream(stream), _)) => match stream.groups.get(group) {
                Some(group) => stream.last > group.last && stream.newer(group.last).is_some(),
                None => true,
            },
            _ => true,
        })
    }

    /// One of the commands about streams; nothing where it is another.
    pub(super) fn stream_command(
        &mut self,
        name: &str,
        words: &[String],
        when: When,
    ) -> Option<Value> {
        let value = match name {
            "XADD" => self.xadd(&words[1], words.last()?, when),
            "XDEL" => {
                let ids = words[2..].iter().map(|word| read(word));
                let stream = self.stream_at(&words[1])?;
                let gone = ids.filter(|id| stream.entries.remove(id).is_some());
                Value::Integer(gone.count() as i64)
            }
            "XGROUP" => self.make_group(&words[2], &words[3]),
            "XREADGROUP" => self.read_group(words, when),
            "XACK" => self.acknowledge(words),
            "XAUTOCLAIM" => self.claim(words, when),
            _ => return None,
        };
        Some(value)
    }

    fn xadd(&mut self, key: &str, value: &str, when: When) -> Value {
        let empty = || (Data::Stream(Stream::default()), None);
        let (Data::Stream(stream), _) =
            self.data.entry(key.as_bytes().to_vec()).or_insert_with(empty)
        else {
            return Value::error("WRONGTYPE no stream");
        };
        let next = (when.unix, 0);
        let id = if next > stream.last { next } else { (stream.last.0, stream.last.1 + 1) };
        stream.last = id;
        stream.entries.insert(id, value.to_owned());
        self.added.entry(written(id)).or_default().insert(value.to_owned());
        bulk(&written(id))
    }

    fn make_group(&mut self, key: &str, group: &str) -> Value {
        let empty = || (Data::Stream(Stream::default()), None);
        let (Data::Stream(stream), _) =
            self.data.entry(key.as_bytes().to_vec()).or_insert_with(empty)
        else {
            return Value::error("WRONGTYPE no stream");
        };
        if stream.groups.contains_key(group) {
            return Value::error("BUSYGROUP Consumer Group name already exists");
        }
        stream.groups.insert(group.to_owned(), Group::default());
        Value::OK
    }

    fn read_group(&mut self, words: &[String], when: When) -> Value {
        let (group, me) = (words[2].clone(), words[3].clone());
        let count = behind(words, "COUNT").and_then(|word| word.parse().ok()).unwrap_or(usize::MAX);
        let loses = self.tampering.lose_entries;
        let mut found = Vec::new();
        for (key, from) in asked(words) {
            let group = self.stream_at(key).and_then(|stream| stream.take_group(&group));
            let Some((stream, group)) = group else { return Value::error(NO_GROUP) };
            let entries: Vec<Value> = if from == ">" {
                let new = stream.range(group.last, count);
                if let Some((last, _)) = new.last() {
                    group.last = *last;
                } else {
                    continue;
                }
                let kept = new.into_iter().filter(|(id, _)| !loses || id.0 % 4 != 0);
                let kept: Vec<_> = kept.collect();
                group.pending.extend(kept.iter().map(|(id, _)| (*id, (me.clone(), when.unix))));
                kept.into_iter().map(|(id, value)| entry(id, Some(&value))).collect()
            } else {
                let from = read(from);
                let mine = group.pending.iter_mut();
                let mine = mine.filter(|(id, (of, _))| **id > from && *of == me).take(count);
                mine.map(|(id, (_, since))| {
                    *since = when.unix;
                    entry(*id, stream.get(id))
                })
                .collect()
            };
            found.push((bulk(key), Value::Array(entries)));
        }
        if found.is_empty() { Value::Null } else { Value::Map(found) }
    }

    fn acknowledge(&mut self, words: &[String]) -> Value {
        let group = self.stream_at(&words[1]).and_then(|stream| stream.groups.get_mut(&words[2]));
        let Some(group) = group else { return Value::Integer(0) };
        let ids = words[3..].iter().filter(|id| group.pending.remove(&read(id)).is_some());
        let gone: Vec<_> = ids.cloned().collect();
        let count = gone.len() as i64;
        self.acknowledged.extend(gone);
        Value::Integer(count)
    }

    fn claim(&mut self, words: &[String], when: When) -> Value {
        let (me, stalled, from) = (&words[3], words[4].parse().unwrap_or(0), read(&words[5]));
        let count = behind(words, "COUNT").and_then(|word| word.parse().ok()).unwrap_or(100);
        let group = self.stream_at(&words[1]).and_then(|stream| stream.take_group(&words[2]));
        let Some((stream, group)) = group else { return Value::error(NO_GROUP) };
        let (mut claimed, mut deleted, mut next) = (Vec::new(), Vec::new(), (0, 0));
        for (id, (of, since)) in group.pending.iter_mut().filter(|(id, _)| **id >= from) {
            if claimed.len() == count {
                next = *id;
                break;
            }
            if when.unix.saturating_sub(*since) < stalled {
                continue;
            }
            match stream.get(id) {
                Some(value) => {
                    (*of, *since) = (me.clone(), when.unix);
                    claimed.push(entry(*id, Some(value)));
                }
                None => deleted.push(*id),
            }
        }
        deleted.iter().for_each(|id| drop(group.pending.remove(id)));
        let deleted = deleted.into_iter().map(|id| bulk(&written(id))).collect();
        Value::Array(vec![bulk(&written(next)), Value::Array(claimed), Value::Array(deleted)])
    }
}

/// The entries of a stream, apart from its groups.
struct Entries<'a>(&'a BTreeMap<Id, String>);

impl Entries<'_> {
    fn get(&self, id: &Id) -> Option<&String> {
        self.0.get(id)
    }

    fn range(&self, after: Id, count: usize) -> Vec<(Id, String)> {
        let newer = self.0.range((after.0, after.1 + 1)..).take(count);
        newer.map(|(id, value)| (*id, value.clone())).collect()
    }
}

impl Stream {
    fn newer(&self, after: Id) -> Option<Id> {
        self.entries.range((after.0, after.1 + 1)..).next().map(|(id, _)| *id)
    }

    fn take_group(&mut self, name: &str) -> Option<(Entries<'_>, &mut Group)> {
        let Stream { entries, groups, .. } = self;
        Some((Entries(entries), groups.get_mut(name)?))
    }
}

const NO_GROUP: &str = "NOGROUP No such key 'wallet:{c}:stream' or consumer group 'g'";

/// What XREADGROUP found, as it is told in RESP2.
pub(super) fn in_resp2(name: &str, value: Value) -> Value {
    match value {
        Value::Map(pairs) if name == "XREADGROUP" => {
            let pair = |(key, entries)| Value::Array(vec![key, entries]);
            Value::Array(pairs.into_iter().map(pair).collect())
        }
        other => other,
    }
}

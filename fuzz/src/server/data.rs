//! What the server keeps at its keys, and what commands do with it.

use std::collections::{BTreeMap, BTreeSet};

use unfazed_core::resp::Value;

use super::{Server, Stream, When, bulk};
use crate::cluster::Put;

/// A value at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A string.
    Text(Vec<u8>),
    /// A set.
    Set(BTreeSet<String>),
    /// A list.
    List(Vec<String>),
    /// A hash.
    Hash(BTreeMap<String, String>),
    /// A stream.
    Stream(Stream),
}

/// A set that is always there and never changes, for scans.
pub const MEMBERS_KEY: &str = "wallet:{a}:members";

/// A hash whose fields have the same names, likewise.
pub const FIELDS_KEY: &str = "wallet:{b}:fields";

/// Keys that are always there, in a cluster at whoever has their slot.
pub const KEYS: [&str; 8] = [
    MEMBERS_KEY,
    FIELDS_KEY,
    "stay:{c}:1",
    "stay:{d}:2",
    "stay:{e}:3",
    "stay:{f}:4",
    "stay:{a}:5",
    "stay:{b}:6",
];

/// How members and fields begin that come and go.
pub const PASSING_MEMBER: &str = "p";

/// What is in it.
#[must_use]
pub fn members() -> BTreeSet<String> {
    (0..MEMBERS).map(|at| format!("m{at}")).collect()
}

const MEMBERS: usize = 25;

/// How many members a page of a scan has.
const PAGE: usize = 4;

impl Server {
    /// What is at a key; nothing where it has expired.
    #[must_use]
    pub fn peek(&self, key: &str, unix: u64) -> Option<&Data> {
        let (data, expiry) = self.data.get(key.as_bytes())?;
        expiry.is_none_or(|at| at > unix).then_some(data)
    }

    /// What is at a key and when it expires.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Data, Option<u64>)> {
        self.data.get(key.as_bytes())
    }

    /// Puts something at a key, or takes away what is there.
    pub(crate) fn put(&mut self, key: &str, state: Option<(Data, Option<u64>)>) {
        *self.versions.entry(key.to_owned()).or_default() += 1;
        match state {
            Some(state) => drop(self.data.insert(key.into(), state)),
            None => drop(self.data.remove(key.as_bytes())),
        }
    }

    /// Every key there is.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.data.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// Takes over all that another server has.
    pub(crate) fn copy_data(&mut self, from: &Server) {
        self.data.clone_from(&from.data);
        self.versions.values_mut().for_each(|version| *version += 1);
    }

    fn flush(&mut self, when: When) {
        let keys = self.keys();
        self.lose_all();
        for key in keys {
            let state = self.entry(&key).cloned();
            self.log_put(Put { unix: when.unix, key, state });
        }
        self.wiped_at = Some(when.seq);
    }

    /// Nothing is left but what is always there, as it was in the beginning.
    pub(super) fn lose_all(&mut self) {
        self.data.retain(|key, _| KEYS.iter().any(|kept| kept.as_bytes() == key));
        self.data.iter_mut().for_each(|(key, kept)| *kept = (as_it_was(key), None));
    }

    /// What is always there, of the slots that are its own.
    pub(crate) fn keep_only(&mut self, own: impl Fn(&str) -> bool) {
        for key in KEYS.iter().filter(|key| !own(key)) {
            self.data.remove(key.as_bytes());
        }
    }

    pub(super) fn keep_members(&mut self) {
        let all =
            KEYS.iter().map(|key| (key.as_bytes().to_vec(), (as_it_was(key.as_bytes()), None)));
        self.data.extend(all);
    }

    pub(super) fn execute(&mut self, name: &str, words: &[String], when: When) -> Value {
        let key = || words[1].clone().into_bytes();
        self.expire(when);
        let wrong = Value::error(WRONG_TYPE);
        if words.get(1).is_some_and(|key| key.ends_with(":list")) {
            return wrong;
        }
        let lies = self.tampering.lie && is_write(name);
        match name {
            "PING" => words.get(1).map_or(Value::Simple("PONG".into()), |text| bulk(text)),
            "GET" => self.get(&words[1]),
            "MGET" => Value::Array(words[1..].iter().map(|key| self.get(key)).collect()),
            "EXISTS" => {
                let there = |key: &&String| self.data.contains_key(key.as_bytes());
                Value::Integer(words[1..].iter().filter(there).count() as i64)
            }
            "DBSIZE" => Value::Integer(self.data.len() as i64),
            "SMEMBERS" => match self.data.get(words[1].as_bytes()) {
                None => Value::Set(Vec::new()),
                Some((Data::Set(members), _)) => {
                    Value::Set(members.iter().map(|member| bulk(member)).collect())
                }
                Some(_) => wrong,
            },
            "LRANGE" => match self.data.get(words[1].as_bytes()) {
                None => Value::Array(Vec::new()),
                Some((Data::List(items), _)) => {
                    Value::Array(items.iter().map(|item| bulk(item)).collect())
                }
                Some(_) => wrong,
            },
            "HGETALL" => match self.data.get(words[1].as_bytes()) {
                None => Value::Map(Vec::new()),
                Some((Data::Hash(fields), _)) => {
                    let fields = fields.iter().map(|(field, value)| (bulk(field), bulk(value)));
                    Value::Map(fields.collect())
                }
                Some(_) => wrong,
            },
            "SSCAN" | "HSCAN" => self.scan_key(&words[1], words[2].parse().unwrap_or(0)),
            "SCAN" => self.scan(words[1].parse().unwrap_or(0)),
            _ if lies => Value::OK,
            "FLUSHALL" => {
                self.flush(when);
                Value::OK
            }
            _ if name.starts_with('X') => {
                self.stream_command(name, words, when).unwrap_or(Value::Integer(0))
            }
            "SET" => {
                let expiry = match words.get(3).map(String::as_str) {
                    Some("PX") => words[4].parse().ok().map(|span: u64| when.unix + span),
                    _ => None,
                };
                self.data.insert(key(), (Data::Text(words[2].clone().into_bytes()), expiry));
                Value::OK
            }
            "MSET" => {
                for pair in words[1..].chunks(2) {
                    let (key, value) = (pair[0].clone(), pair[1].clone());
                    self.data.insert(key.into_bytes(), (Data::Text(value.into_bytes()), None));
                }
                Value::OK
            }
            "DEL" => {
                let present =
                    words[1..].iter().filter(|key| self.data.contains_key(key.as_bytes()));
                let count = present.count();
                if !(self.tampering.keep_deleted && words.len() == 2) {
                    words[1..].iter().for_each(|key| drop(self.data.remove(key.as_bytes())));
                }
                Value::Integer(count as i64)
            }
            "INCR" | "INCRBY" => {
                let by = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(1);
                let empty = || (Data::Text(b"0".to_vec()), None);
                let (Data::Text(text), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                let before: i64 =
                    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                *text = (before + by).to_string().into_bytes();
                Value::Integer(before + by)
            }
            // The one script of this world does what APPEND does.
            "APPEND" | "EVAL" => {
                let [.., key, more] = words else { return wrong };
                let empty = || (Data::Text(Vec::new()), None);
                let entry = self.data.entry(key.clone().into_bytes()).or_insert_with(empty);
                let (Data::Text(text), _) = entry else { return wrong };
                text.extend_from_slice(more.as_bytes());
                Value::Integer(text.len() as i64)
            }
            "SADD" => {
                let empty = || (Data::Set(BTreeSet::new()), None);
                let (Data::Set(members), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                let before = members.len();
                members.extend(words[2..].iter().cloned());
                Value::Integer((members.len() - before) as i64)
            }
            // Where there is nothing for them, they have waited before, or are part of a transaction.
            "BLPOP" => {
                for key in &words[1..words.len() - 1] {
                    match self.data.get_mut(key.as_bytes()) {
                        Some((Data::List(items), _)) if !items.is_empty() => {
                            return Value::Array(vec![bulk(key), bulk(&items.remove(0))]);
                        }
                        Some((Data::List(_), _)) | None => {}
                        Some(_) => return wrong,
                    }
                }
                Value::Null
            }
            "BLMOVE" => match self.data.get_mut(words[1].as_bytes()) {
                Some((Data::List(items), _)) if !items.is_empty() => {
                    let item = items.remove(0);
                    let empty = || (Data::List(Vec::new()), None);
                    let to = self.data.entry(words[2].clone().into_bytes()).or_insert_with(empty);
                    let (Data::List(items), _) = to else { return wrong };
                    items.push(item.clone());
                    bulk(&item)
                }
                Some((Data::List(_), _)) | None => Value::Null,
                Some(_) => wrong,
            },
            "SREM" | "HDEL" => {
                let gone = match self.data.get_mut(words[1].as_bytes()) {
                    Some((Data::Set(members), _)) => members.remove(&words[2]),
                    Some((Data::Hash(fields), _)) => fields.remove(&words[2]).is_some(),
                    _ => false,
                };
                Value::Integer(gone.into())
            }
            "HSET" | "HINCRBY" => {
                let empty = || (Data::Hash(BTreeMap::new()), None);
                let (Data::Hash(fields), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                if name == "HINCRBY" {
                    let field = fields.entry(words[2].clone()).or_insert_with(|| "0".to_owned());
                    let number = |text: &String| text.parse::<i64>().unwrap_or(0);
                    let sum = number(field) + number(&words[3]);
                    *field = sum.to_string();
                    return Value::Integer(sum);
                }
                let pairs = words[2..].chunks_exact(2);
                let new = pairs.map(|pair| fields.insert(pair[0].clone(), pair[1].clone()));
                Value::Integer(new.filter(Option::is_none).count() as i64)
            }
            "RPUSH" => {
                let empty = || (Data::List(Vec::new()), None);
                let (Data::List(items), _) = self.data.entry(key()).or_insert_with(empty) else {
                    return wrong;
                };
                items.extend(words[2..].iter().cloned());
                Value::Integer(items.len() as i64)
            }
            "PEXPIRE" => match self.data.get_mut(words[1].as_bytes()) {
                Some(entry) => {
                    entry.1 = words[2].parse().ok().map(|span: u64| when.unix + span);
                    Value::Integer(1)
                }
                None => Value::Integer(0),
            },
            "PERSIST" => match self.data.get_mut(words[1].as_bytes()) {
                Some(entry) => Value::Integer(entry.1.take().is_some().into()),
                None => Value::Integer(0),
            },
            "PTTL" => match self.data.get(words[1].as_bytes()) {
                Some((_, Some(at))) => Value::Integer((at - when.unix) as i64),
                Some((_, None)) => Value::Integer(-1),
                None => Value::Integer(-2),
            },
            _ => unreachable!("refused before"),
        }
    }

    /// What has expired is gone; who watches it learns of that.
    pub(super) fn expire(&mut self, when: When) {
        let versions = &mut self.versions;
        self.data.retain(|key, (_, expiry)| {
            let kept = expiry.is_none_or(|at| at > when.unix);
            if !kept {
                *versions.entry(String::from_utf8_lossy(key).into_owned()).or_default() += 1;
            }
            kept
        });
    }

    fn get(&self, key: &str) -> Value {
        match self.data.get(key.as_bytes()) {
            None => Value::Null,
            Some((Data::Text(text), _)) => Value::Bulk(text.clone().into()),
            Some(_) => Value::error(WRONG_TYPE),
        }
    }

    /// One page of all keys.
    fn scan(&self, cursor: u64) -> Value {
        let keys = self.data.keys().map(|key| String::from_utf8_lossy(key).into_owned());
        let (next, page) = self.page(keys.map(|key| (key, None)), cursor);
        Value::Array(vec![bulk(&next.to_string()), Value::Array(page)])
    }

    /// One page of a set or a hash.
    fn scan_key(&self, key: &str, cursor: u64) -> Value {
        let (next, page) = match self.data.get(key.as_bytes()) {
            Some((Data::Set(members), _)) => {
                self.page(members.iter().map(|member| (member.clone(), None)), cursor)
            }
            Some((Data::Hash(fields), _)) => {
                let fields = fields.iter();
                self.page(fields.map(|(field, value)| (field.clone(), Some(value))), cursor)
            }
            _ => (0, Vec::new()),
        };
        Value::Array(vec![bulk(&next.to_string()), Value::Array(page)])
    }

    /// One page: the order, and with it what a cursor means, is this process's own. Gives the next cursor.
    fn page<'a>(
        &self,
        of: impl Iterator<Item = (String, Option<&'a String>)>,
        cursor: u64,
    ) -> (u64, Vec<Value>) {
        let place = |member: &String| {
            let begin = (self.run + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            member.bytes().fold(begin, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3).rotate_left(29)
            }) >> 8
        };
        let mut left: Vec<_> = of.map(|(name, value)| (place(&name), name, value)).collect();
        left.retain(|(at, ..)| *at > cursor);
        left.sort_unstable();
        let next = if left.len() > PAGE { left[PAGE - 1].0 } else { 0 };
        left.truncate(PAGE);
        let words = left.iter().flat_map(|(_, name, value)| {
            std::iter::once(bulk(name)).chain(value.map(|value| bulk(value)))
        });
        (next, words.collect())
    }
}

/// What is at one of the keys that are always there, in the beginning.
fn as_it_was(key: &[u8]) -> Data {
    if key == MEMBERS_KEY.as_bytes() {
        Data::Set(members())
    } else if key == FIELDS_KEY.as_bytes() {
        Data::Hash(members().into_iter().map(|name| (name, "1".to_owned())).collect())
    } else {
        Data::Text(b"1".to_vec())
    }
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Whether a command changes data.
#[must_use]
pub fn is_write(name: &str) -> bool {
    matches!(
        name,
        "SET"
            | "MSET"
            | "DEL"
            | "INCR"
            | "INCRBY"
            | "APPEND"
            | "EVAL"
            | "PEXPIRE"
            | "PERSIST"
            | "SADD"
            | "SREM"
            | "HDEL"
            | "RPUSH"
            | "HSET"
            | "HINCRBY"
            | "BLPOP"
            | "BLMOVE"
            | "FLUSHALL"
            | "XADD"
            | "XDEL"
            | "XGROUP"
            | "XREADGROUP"
            | "XACK"
            | "XAUTOCLAIM"
    )
}

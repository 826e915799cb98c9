//! A few commands on a map, too simple to be wrong: what the embedded store is held against.

use std::collections::BTreeMap;

use bytes::Bytes;
use unfazed_core::resp::Value;

use crate::entropy::Entropy;

/// Strings and when they expire, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub struct Model(BTreeMap<String, (String, Option<u64>)>);

const KEYS: [&str; 4] = ["a", "b", "c", ""];
const VALUES: [&str; 8] = ["", "x", "7", "-1", "9223372036854775807", "1.5", " 1", "abcdef"];
const NUMBERS: [&str; 7] =
    ["1", "0", "-3", "9223372036854775807", "-9223372036854775808", "x", "1500"];

impl Model {
    /// Draws a command that it knows.
    pub fn draw(entropy: &mut Entropy) -> Vec<String> {
        let key = entropy.pick(&KEYS);
        let other = entropy.pick(&KEYS);
        let value = entropy.pick(&VALUES);
        let number = entropy.pick(&NUMBERS);
        let span = entropy.between(1, 3_000).to_string();
        let words: &[&str] = match entropy.below(17) {
            0 => &["GET", key],
            1 => &["SET", key, value],
            2 => &["SET", key, value, "PX", &span],
            3 => &["SET", key, value, "NX"],
            4 => &["SET", key, value, "XX", "KEEPTTL"],
            5 => &["DEL", key, other],
            6 => &["EXISTS", key, other],
            7 => &["INCR", key],
            8 => &["INCRBY", key, number],
            9 => &["DECRBY", key, number],
            10 => &["APPEND", key, value],
            11 => &["STRLEN", key],
            12 => &["PEXPIRE", key, &span],
            13 => &["PTTL", key],
            14 => &["PERSIST", key],
            15 => &["GETDEL", key],
            _ => &["RENAME", key, other],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What a server answers to it.
    pub fn run(&mut self, words: &[String], unix: u64) -> Value {
        // In the millisecond in which it expires a key is still there.
        self.0.retain(|_, (_, expiry)| expiry.is_none_or(|at| at >= unix));
        let key = words[1].clone();
        let entry = self.0.get(&key).cloned();
        let text = entry.as_ref().map(|(text, _)| text.clone());
        let after = |span: &String| span.parse::<u64>().ok().map(|span| unix + span);
        match words[0].as_str() {
            "GET" => text.map_or(Value::Null, bulk),
            "SET" => {
                let expiry = match (words.get(3).map(String::as_str), entry) {
                    (Some("PX"), _) => after(&words[4]),
                    (Some("NX"), Some(_)) | (Some("XX"), None) => return Value::Null,
                    (Some("XX"), Some((_, expiry))) => expiry,
                    _ => None,
                };
                self.0.insert(key, (words[2].clone(), expiry));
                Value::OK
            }
            "DEL" => count(words[1..].iter().filter(|key| self.0.remove(*key).is_some()).count()),
            "EXISTS" => count(words[1..].iter().filter(|key| self.0.contains_key(*key)).count()),
            "INCR" => self.add(key, entry, Some(1)),
            "INCRBY" => self.add(key, entry, strict(&words[2])),
            "DECRBY" => {
                let by = strict(&words[2]);
                match by.map(i64::checked_neg) {
                    Some(None) => Value::error("ERR decrement would overflow"),
                    by => self.add(key, entry, by.flatten()),
                }
            }
            "APPEND" => {
                let (mut text, expiry) = entry.unwrap_or_default();
                text.push_str(&words[2]);
                let length = text.len();
                self.0.insert(key, (text, expiry));
                count(length)
            }
            "STRLEN" => count(text.map_or(0, |text| text.len())),
            "PEXPIRE" => match self.0.get_mut(&key) {
                Some((_, expiry)) => {
                    *expiry = after(&words[2]);
                    count(1)
                }
                None => count(0),
            },
            "PTTL" => match entry {
                Some((_, Some(at))) => Value::Integer((at - unix) as i64),
                Some((_, None)) => Value::Integer(-1),
                None => Value::Integer(-2),
            },
            "PERSIST" => {
                let expiry = self.0.get_mut(&key).and_then(|(_, expiry)| expiry.take());
                count(expiry.is_some().into())
            }
            "GETDEL" => self.0.remove(&key).map_or(Value::Null, |(text, _)| bulk(text)),
            "RENAME" => match self.0.remove(&key) {
                Some(entry) => {
                    self.0.insert(words[2].clone(), entry);
                    Value::OK
                }
                None => Value::error("ERR no such key"),
            },
            other => unreachable!("{other} is never drawn"),
        }
    }

    fn add(&mut self, key: String, entry: Option<(String, Option<u64>)>, by: Option<i64>) -> Value {
        let (text, expiry) = entry.unwrap_or_else(|| ("0".into(), None));
        let (Some(by), Some(before)) = (by, strict(&text)) else {
            return Value::error("ERR value is not an integer or out of range");
        };
        match before.checked_add(by) {
            Some(sum) => {
                self.0.insert(key, (sum.to_string(), expiry));
                Value::Integer(sum)
            }
            None => Value::error("ERR increment or decrement would overflow"),
        }
    }
}

/// A number as a server writes it, and in no other way.
fn strict(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn bulk(text: String) -> Value {
    Value::Bulk(Bytes::from(text))
}

fn count(number: usize) -> Value {
    Value::Integer(number as i64)
}

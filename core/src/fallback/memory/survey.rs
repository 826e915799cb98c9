//! Commands about every key there is, answered without putting shadow and overlay together: of the
//! values nothing is copied, and of the keys only what is asked for.

use bytes::Bytes;

use super::Memory;
use crate::{
    Now,
    commands::Spec,
    failure::MemoryRefusal,
    fallback::{Standing, deeds, glob},
    resp::{Reply, Source, Value},
};

impl Memory {
    /// Answers a command about all keys with those for which `whose` holds; see
    /// [`answer`](Memory::answer).
    pub(crate) fn answer_for(
        &mut self,
        spec: &Spec,
        standing: Standing,
        words: &[&[u8]],
        now: Now,
        whose: impl Fn(&[u8]) -> bool,
    ) -> Result<Reply, MemoryRefusal> {
        match deeds::never(spec) {
            Some(why) => Err(MemoryRefusal::Never(why)),
            None => self.survey(spec, standing, words, now, &whose),
        }
    }

    /// Answers KEYS, SCAN, DBSIZE or RANDOMKEY with what memory knows: never all of it. `whose` says of
    /// which keys.
    ///
    /// SCAN gives all that match in one go, whatever cursor it is given and however many are asked
    /// for: that is an iteration like any other, also for one that was begun on the server.
    pub(super) fn survey(
        &mut self,
        spec: &Spec,
        standing: Standing,
        words: &[&[u8]],
        now: Now,
        whose: &Whose<'_>,
    ) -> Result<Reply, MemoryRefusal> {
        if standing == Standing::StaleReads {
            return Err(MemoryRefusal::NotRemembered);
        }
        let nothing = standing == Standing::Miss;
        let value = match (spec.name(), &words[1..]) {
            ("DBSIZE", []) => {
                let count = if nothing { 0 } else { self.count(now, whose) };
                Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
            }
            ("RANDOMKEY", []) => self.any_key(nothing, now, whose).map_or(Value::Null, Value::Bulk),
            ("KEYS", [pattern]) => {
                let wanted = Wanted { pattern: Some(pattern), of_type: None };
                Value::Array(if nothing { Vec::new() } else { self.matching(&wanted, now, whose) })
            }
            ("SCAN", [cursor, options @ ..]) => match Wanted::parse(cursor, options) {
                Ok(wanted) => {
                    let keys =
                        if nothing { Vec::new() } else { self.matching(&wanted, now, whose) };
                    let done = Value::Bulk(Bytes::from_static(b"0"));
                    Value::Array(vec![done, Value::Array(keys)])
                }
                Err(error) => Value::error(error),
            },
            ("DBSIZE" | "RANDOMKEY" | "KEYS" | "SCAN", _) => {
                let name = spec.name().to_ascii_lowercase();
                Value::error(format!("ERR wrong number of arguments for '{name}' command"))
            }
            _ => return Err(MemoryRefusal::Unsupported),
        };
        Ok(Reply::from(value).with_source(Source::Unknown))
    }

    fn count(&mut self, now: Now, whose: &Whose<'_>) -> usize {
        self.overlay.expire(now);
        let written = self.overlay.keys(now).filter(|key| whose(key));
        written.count() + self.remembered(now).filter(|(key, _)| whose(key)).count()
    }

    fn any_key(&mut self, nothing: bool, now: Now, whose: &Whose<'_>) -> Option<Bytes> {
        let count = if nothing { 0 } else { self.count(now, whose) };
        let at = self.random.below(count)?;
        let remembered = self.remembered(now).map(|(key, _)| key);
        let all = self.overlay.keys(now).chain(remembered);
        all.filter(|key| whose(key)).nth(at).cloned()
    }

    fn matching(&self, wanted: &Wanted<'_>, now: Now, whose: &Whose<'_>) -> Vec<Value> {
        let written = self.overlay.keys(now).filter_map(|key| {
            let entry = self.overlay.peek(key, now)?;
            Some((key, entry.type_name()))
        });
        let keys = written
            .chain(self.remembered(now))
            .filter(|(key, name)| whose(key) && wanted.takes(key, name));
        keys.map(|(key, _)| Value::Bulk(key.clone())).collect()
    }

    /// What the shadow knows of keys that were not written in memory.
    fn remembered(&self, now: Now) -> impl Iterator<Item = (&Bytes, &'static str)> {
        self.shadow.fresh(now).filter(|(key, _)| !self.is_written(key))
    }
}

/// Of which keys an answer is to be.
type Whose<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// Which keys are asked for.
struct Wanted<'a> {
    pattern: Option<&'a [u8]>,
    of_type: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    /// Reads the arguments of SCAN, or gives the error that a server answers with.
    fn parse(cursor: &[u8], options: &[&'a [u8]]) -> Result<Self, &'static str> {
        const SYNTAX: &str = "ERR syntax error";
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        if number(cursor).is_none() {
            return Err("ERR invalid cursor");
        }
        let mut wanted = Wanted { pattern: None, of_type: None };
        let (options, []) = options.as_chunks::<2>() else { return Err(SYNTAX) };
        for &[name, value] in options {
            if name.eq_ignore_ascii_case(b"MATCH") {
                wanted.pattern = Some(value);
            } else if name.eq_ignore_ascii_case(b"TYPE") {
                wanted.of_type = Some(value);
            } else if name.eq_ignore_ascii_case(b"COUNT") {
                match number(value) {
                    None => return Err("ERR value is not an integer or out of range"),
                    Some(0) => return Err(SYNTAX),
                    Some(_) => {}
                }
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(wanted)
    }

    fn takes(&self, key: &[u8], type_name: &str) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && self.of_type.is_none_or(|name| name.eq_ignore_ascii_case(type_name.as_bytes()))
    }
}

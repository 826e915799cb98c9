//! Commands about strings.

use std::ops::Range;

use bytes::Bytes;

use super::entry::{Data, Entry, Text};
use super::expiry::Clock;
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, STRING_BYTES_MAX, argument, count};
use crate::Now;
use crate::resp::Value;

pub(super) fn get(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    read(keyspace, args[1], now.unix_millis())
}

pub(super) fn getdel(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let value = read(keyspace, args[1], at)?;
    keyspace.remove(args[1], at);
    Ok(value)
}

pub(super) fn getset(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let value = read(keyspace, args[1], at)?;
    keyspace.put(args[1], string(args[2], None), at)?;
    Ok(value)
}

pub(super) fn getex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let options = Options::parse(&args[2..], Dialect::GetEx)?;
    let value = read(keyspace, key, at)?;
    if value == Value::Null {
        // Before the time is looked at, which may be wrong.
        return Ok(value);
    }
    match options.expiry {
        Some((clock, text)) => {
            let when = clock.deadline(text, "getex", at)?;
            if clock.is_absolute() && when <= at {
                keyspace.remove(key, at);
            } else {
                keyspace.set_expiry(key, Some(when), at);
            }
        }
        None if options.persist => drop(keyspace.set_expiry(key, None, at)),
        None => {}
    }
    Ok(value)
}

/// MGET: what is no string is as good as absent.
pub(super) fn mget(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let values = args[1..].iter().map(|key| read(keyspace, key, at).unwrap_or(Value::Null));
    Ok(Value::Array(values.collect()))
}

pub(super) fn set(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let options = Options::parse(&args[3..], Dialect::Set)?;
    let deadline = options.expiry.map(|(clock, text)| clock.deadline(text, "set", at));
    let deadline = deadline.transpose()?;
    let before = if options.get { Some(read(keyspace, key, at)?) } else { None };
    let found = keyspace.get(key, at);
    if (options.if_absent && found.is_some()) || (options.if_present && found.is_none()) {
        return Ok(before.unwrap_or(Value::Null));
    }
    let kept = found.and_then(|entry| entry.expires_at).filter(|_| options.keep_expiry);
    keyspace.put(key, string(args[2], deadline.or(kept)), at)?;
    Ok(before.unwrap_or(Value::OK))
}

pub(super) fn setnx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    if keyspace.get(args[1], at).is_some() {
        return Ok(Value::Integer(0));
    }
    keyspace.put(args[1], string(args[2], None), at)?;
    Ok(Value::Integer(1))
}

pub(super) fn setex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let when = Clock::Seconds.deadline(args[2], "setex", at)?;
    keyspace.put(args[1], string(args[3], Some(when)), at)?;
    Ok(Value::OK)
}

pub(super) fn psetex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let when = Clock::Millis.deadline(args[2], "psetex", at)?;
    keyspace.put(args[1], string(args[3], Some(when)), at)?;
    Ok(Value::OK)
}

pub(super) fn mset(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let pairs = Pairs::parse(&args[1..], "mset")?;
    pairs.put(keyspace, now.unix_millis())?;
    Ok(Value::OK)
}

/// MSETNX: all or nothing.
pub(super) fn msetnx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let pairs = Pairs::parse(&args[1..], "msetnx")?;
    if pairs.0.iter().any(|(key, _)| keyspace.get(key, at).is_some()) {
        return Ok(Value::Integer(0));
    }
    pairs.put(keyspace, at)?;
    Ok(Value::Integer(1))
}

pub(super) fn strlen(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(count(length(keyspace, args[1], now.unix_millis())?.unwrap_or(0)))
}

pub(super) fn append(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, tail, at) = (args[1], args[2], now.unix_millis());
    let Some(before) = length(keyspace, key, at)? else {
        keyspace.put(key, string(tail, None), at)?;
        return Ok(count(tail.len()));
    };
    let after = sum_within_limit(before, tail.len())?;
    keyspace.change_string(key, after, at, |text| {
        let mut bytes = text.take(after);
        bytes.extend_from_slice(tail);
        *text = Text::Bytes(bytes.freeze());
        count(after)
    })
}

pub(super) fn setrange(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, patch, at) = (args[1], args[3], now.unix_millis());
    let offset = usize::try_from(argument::integer(args[2])?).map_err(|_| Refusal::OFFSET)?;
    let before = length(keyspace, key, at)?;
    if patch.is_empty() {
        return Ok(count(before.unwrap_or(0)));
    }
    let end = offset.saturating_add(patch.len());
    edit(keyspace, key, end, at, |bytes| {
        bytes[offset..end].copy_from_slice(patch);
        count(bytes.len())
    })
}

/// Changes the bytes of the string at `key` in place, made longer by zeros where there are fewer
/// than `size_min`, and leaves its expiry alone. Where there is no string there is one of zeros.
pub(super) fn edit<T>(
    keyspace: &mut Keyspace,
    key: &[u8],
    size_min: usize,
    at: u64,
    change: impl FnOnce(&mut [u8]) -> T,
) -> Result<T, Refusal> {
    let before = length(keyspace, key, at)?;
    let after = sum_within_limit(size_min.max(before.unwrap_or(0)), 0)?;
    if before.is_none() {
        // Room first: the bytes may be many.
        keyspace.reserve(&[(key, after)], at)?;
        let mut bytes = vec![0; after];
        let result = change(&mut bytes);
        let data = Data::String(Text::Bytes(bytes.into()));
        keyspace.put_reserved(key, Entry { data, expires_at: None });
        return Ok(result);
    }
    keyspace.change_string(key, after, at, |text| {
        let mut bytes = text.take(after);
        bytes.resize(after, 0);
        let result = change(&mut bytes);
        *text = Text::Bytes(bytes.freeze());
        result
    })
}

/// GETRANGE, and SUBSTR, its older name.
pub(super) fn getrange(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (start, end) = (argument::integer(args[2])?, argument::integer(args[3])?);
    let Value::Bulk(bytes) = read(keyspace, args[1], now.unix_millis())? else {
        return Ok(Value::Bulk(Bytes::new()));
    };
    Ok(Value::Bulk(bytes.slice(range(start, end, bytes.len()))))
}

/// What of a string of `length` bytes lies between two indexes, both included; negative ones
/// count from the end.
fn range(start: i64, end: i64, length: usize) -> Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    // A string is far shorter than `i64::MAX`; what lies before its begin is its begin.
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = |index: i64| {
        let index = if index < 0 { signed.saturating_add(index) } else { index };
        usize::try_from(index.max(0)).unwrap_or(usize::MAX)
    };
    let (start, end) = (from_start(start), from_start(end).saturating_add(1).min(length));
    if start < end { start..end } else { 0..0 }
}

/// The string at `key` as a reply, null where there is none.
fn read(keyspace: &mut Keyspace, key: &[u8], at: u64) -> Outcome {
    match keyspace.get(key, at) {
        Some(entry) => Ok(Value::Bulk(entry.data.text()?.to_bytes())),
        None => Ok(Value::Null),
    }
}

fn length(keyspace: &mut Keyspace, key: &[u8], at: u64) -> Result<Option<usize>, Refusal> {
    keyspace.get(key, at).map(|entry| Ok(entry.data.text()?.len())).transpose()
}

fn sum_within_limit(a: usize, b: usize) -> Result<usize, Refusal> {
    a.checked_add(b).filter(|&sum| sum <= STRING_BYTES_MAX).ok_or(Refusal::TOO_LONG)
}

fn string(value: &[u8], expires_at: Option<u64>) -> Entry {
    Entry { data: Data::String(Text::copied(value)), expires_at }
}

/// What MSET writes: each key once.
struct Pairs<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Pairs<'a> {
    fn parse(args: &[&'a [u8]], name: &str) -> Result<Self, Refusal> {
        let (pairs, []) = args.as_chunks::<2>() else {
            return Err(Refusal::arity(name));
        };
        Ok(Pairs(argument::last_of_each(pairs)))
    }

    fn put(&self, keyspace: &mut Keyspace, at: u64) -> Result<(), Refusal> {
        let sizes: Vec<_> = self.0.iter().map(|&(key, value)| (key, value.len())).collect();
        keyspace.reserve(&sizes, at)?;
        for (key, value) in &self.0 {
            keyspace.put_reserved(key, string(value, None));
        }
        Ok(())
    }
}

/// The options of SET and GETEX, which Redis reads with one function.
#[derive(Default)]
struct Options<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_expiry: bool,
    persist: bool,
    expiry: Option<(Clock, &'a [u8])>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Set,
    GetEx,
}

impl<'a> Options<'a> {
    fn parse(args: &[&'a [u8]], dialect: Dialect) -> Result<Self, Refusal> {
        let mut options = Options::default();
        let set = dialect == Dialect::Set;
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            if set && argument::is(arg, "NX") && !options.if_present {
                options.if_absent = true;
            } else if set && argument::is(arg, "XX") && !options.if_absent {
                options.if_present = true;
            } else if set && argument::is(arg, "GET") {
                options.get = true;
            } else if set && argument::is(arg, "KEEPTTL") && options.expiry.is_none() {
                options.keep_expiry = true;
            } else if !set && argument::is(arg, "PERSIST") && options.expiry.is_none() {
                options.persist = true;
            } else if let (Some(clock), Some(time)) = (options.clock(arg), args.next()) {
                options.expiry = Some((clock, time));
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    /// The clock that an option names, where it goes together with those before it: a time may
    /// follow another of the same clock and takes its place.
    fn clock(&self, arg: &[u8]) -> Option<Clock> {
        let clock = Clock::named(arg)?;
        let alone = !self.keep_expiry && !self.persist;
        let same = self.expiry.is_none_or(|(before, _)| before == clock);
        (alone && same).then_some(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_string() {
        let table = [
            (0, 3, 0..4),
            (-3, -1, 3..6),
            (0, -1, 0..6),
            (10, 100, 0..0),
            (3, 2, 0..0),
            (-1, -3, 0..0),
            (-100, 1, 0..2),
            (-100, -90, 0..1),
            (i64::MIN, i64::MAX, 0..6),
        ];
        for (start, end, expected) in table {
            assert_eq!(range(start, end, 6), expected, "{start} to {end}");
        }
        assert_eq!(range(0, -1, 0), 0..0);
    }
}

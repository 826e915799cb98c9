//! Fields of hashes that expire, as Redis 7.4 and 8.0 have them.
//!
//! A field knows the millisecond of its end on the wall clock, as an entry does. One that has expired
//! is taken away before any command looks at its hash, so no command but these knows of it. Setting
//! a field makes it last; counting keeps its expiry. A hash goes with its last field.

use bytes::Bytes;

use super::expiry::{Clock, Condition};
use super::hash::{Field, Hash};
use super::hashes::value;
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

// What the commands say of one field.
const NO_FIELD: Value = Value::Integer(-2);
const NO_EXPIRY: Value = Value::Integer(-1);
const CONDITION_FAILED: Value = Value::Integer(0);
const DONE: Value = Value::Integer(1);
const DELETED: Value = Value::Integer(2);

pub(super) fn hexpire(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::Seconds, "hexpire")
}

pub(super) fn hpexpire(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::Millis, "hpexpire")
}

pub(super) fn hexpireat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::UnixSeconds, "hexpireat")
}

pub(super) fn hpexpireat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::UnixMillis, "hpexpireat")
}

fn set_expiry(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    now: Now,
    clock: Clock,
    command: &str,
) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let is_there = keyspace.read::<Hash>(key, at)?.is_some();
    let when = moment(clock, args[2], command, at)?;
    let (condition, rest) = Condition::parse_one(&args[3..]);
    let error = "ERR Parameter `numFields` should be greater than 0";
    let names = names(rest, command, error)?;
    if !is_there {
        return Ok(of_each(names, |_| NO_FIELD));
    }
    keyspace.change(key, 0, at, |hash: &mut Hash| {
        of_each(names, |name| match hash.get(name).map(|field| field.expires_at) {
            None => NO_FIELD,
            Some(before) if !condition.holds(before, when) => CONDITION_FAILED,
            Some(_) if put_expiry(hash, name, when, at) => DONE,
            Some(_) => DELETED,
        })
    })
}

pub(super) fn httl(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    expiry(keyspace, args, now, "httl", |when, at| seconds(when.saturating_sub(at)))
}

pub(super) fn hpttl(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    expiry(keyspace, args, now, "hpttl", u64::saturating_sub)
}

pub(super) fn hexpiretime(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    expiry(keyspace, args, now, "hexpiretime", |when, _| seconds(when))
}

pub(super) fn hpexpiretime(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    expiry(keyspace, args, now, "hpexpiretime", |when, _| when)
}

fn expiry(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    now: Now,
    command: &str,
    tell: fn(u64, u64) -> u64,
) -> Outcome {
    let at = now.unix_millis();
    let hash = keyspace.read::<Hash>(args[1], at)?;
    let names = names(&args[2..], command, COUNT_ERROR)?;
    Ok(of_each(names, |name| match hash.and_then(|hash| hash.get(name)) {
        None => NO_FIELD,
        Some(Field { expires_at: None, .. }) => NO_EXPIRY,
        Some(Field { expires_at: Some(when), .. }) => {
            Value::Integer(i64::try_from(tell(*when, at)).unwrap_or(i64::MAX))
        }
    }))
}

/// Rounded up, other than TTL and EXPIRETIME, which round to the nearest.
fn seconds(millis: u64) -> u64 {
    millis.div_ceil(1000)
}

pub(super) fn hpersist(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let is_there = keyspace.read::<Hash>(key, at)?.is_some();
    let names = names(&args[2..], "hpersist", COUNT_ERROR)?;
    if !is_there {
        return Ok(of_each(names, |_| NO_FIELD));
    }
    keyspace.change(key, 0, at, |hash: &mut Hash| {
        of_each(names, |name| match hash.get(name).map(|field| field.expires_at) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(_)) => {
                hash.set_expiry(name, None);
                DONE
            }
        })
    })
}

pub(super) fn hgetdel(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let is_there = keyspace.read::<Hash>(key, at)?.is_some();
    let names = names(&args[2..], "hgetdel", COUNT_ERROR)?;
    if !is_there {
        return Ok(of_each(names, |_| Value::Null));
    }
    keyspace.change(key, 0, at, |hash: &mut Hash| {
        of_each(names, |name| hash.remove(name).map_or(Value::Null, |it| Value::Bulk(it.value)))
    })
}

pub(super) fn hgetex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let hash = keyspace.read::<Hash>(key, at)?;
    let (option, time) = (args[2], args[3]);
    let (expiry, rest) = match Clock::named(option) {
        Some(clock) => (Some(Some(moment(clock, time, "hgetex", at)?)), &args[4..]),
        None if argument::is(option, "PERSIST") => (Some(None), &args[3..]),
        None => (None, &args[2..]),
    };
    let names = names(rest, "hgetex", COUNT_ERROR)?;
    let Some(expiry) = expiry.filter(|_| hash.is_some()) else {
        return Ok(of_each(names, |name| value(hash, name)));
    };
    keyspace.change(key, 0, at, |hash: &mut Hash| {
        of_each(names, |name| {
            let value = value(Some(hash), name);
            if let Some(when) = expiry {
                put_expiry(hash, name, when, at);
            } else {
                hash.set_expiry(name, None);
            }
            value
        })
    })
}

pub(super) fn hsetex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let HSetEx { only_if, expiry, fields } = HSetEx::parse(&args[2..], at)?;
    let hash = keyspace.read::<Hash>(key, at)?;
    let is_there = |name: &[u8]| hash.is_some_and(|hash| hash.get(name).is_some());
    if only_if.is_some_and(|there| fields.iter().any(|[name, _]| is_there(name) != there)) {
        return Ok(Value::Integer(0));
    }
    let expires_at = match expiry {
        Some(Expiry::At(when)) if when <= at => {
            // What would be over at once is never set.
            if fields.iter().any(|[name, _]| is_there(name)) {
                let remove = |hash: &mut Hash| {
                    fields.iter().for_each(|[name, _]| drop(hash.remove(name)));
                };
                keyspace.change(key, 0, at, remove)?;
            }
            return Ok(Value::Integer(1));
        }
        Some(Expiry::At(when)) => Some(when),
        Some(Expiry::Keep) | None => None,
    };
    let growth = Hash::growth(hash, &argument::last_of_each(fields));
    keyspace.change(key, growth, at, |hash: &mut Hash| {
        for [name, value] in fields {
            let kept = hash.get(name).and_then(|field| field.expires_at);
            let kept = kept.filter(|_| expiry == Some(Expiry::Keep));
            let value = Bytes::copy_from_slice(value);
            hash.insert(name, Field { value, expires_at: expires_at.or(kept) });
        }
    })?;
    Ok(Value::Integer(1))
}

/// The arguments of HSETEX behind the key.
struct HSetEx<'a, 'b> {
    /// FXX: all fields must be there; FNX: none may be.
    only_if: Option<bool>,
    expiry: Option<Expiry>,
    fields: &'b [[&'a [u8]; 2]],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// In milliseconds since the Unix epoch.
    At(u64),
    Keep,
}

impl<'a, 'b> HSetEx<'a, 'b> {
    fn parse(mut args: &'b [&'a [u8]], at: u64) -> Result<Self, Refusal> {
        const FIELDS_MAX: i64 = i32::MAX as i64;
        let arity = || Refusal::arity("hsetex");
        let (mut only_if, mut expiry) = (None, None);
        loop {
            let (&option, rest) = args.split_first().ok_or_else(arity)?;
            args = rest;
            if argument::is(option, "FIELDS") {
                break;
            }
            let all = argument::is(option, "FXX");
            if all || argument::is(option, "FNX") {
                if only_if.is_some() {
                    let text = "ERR Only one of FXX or FNX arguments can be specified";
                    return Err(Refusal::new(text));
                }
                only_if = Some(all);
                continue;
            }
            let clock = Clock::named(option);
            if clock.is_none() && !argument::is(option, "KEEPTTL") {
                let mut text = b"ERR unknown argument: ".to_vec();
                text.extend_from_slice(argument::until_nul(option));
                return Err(Refusal::new(text));
            }
            if expiry.is_some() {
                return Err(Refusal::new(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            expiry = Some(match clock {
                None => Expiry::Keep,
                Some(clock) => {
                    let (time, rest) = args.split_first().ok_or_else(arity)?;
                    args = rest;
                    Expiry::At(moment(clock, time, "hsetex", at)?)
                }
            });
        }
        let [number, fields @ ..] = args else { return Err(arity()) };
        if fields.len() < 2 {
            return Err(arity());
        }
        let number = argument::within_or(number, 1..=FIELDS_MAX, "ERR invalid number of fields")?;
        match fields.as_chunks::<2>() {
            (fields, []) if usize::try_from(number) == Ok(fields.len()) => {
                Ok(HSetEx { only_if, expiry, fields })
            }
            _ => Err(arity()),
        }
    }
}

/// Sets when a field expires, or takes it away where that is not to come. Returns whether it stays.
fn put_expiry(hash: &mut Hash, name: &[u8], when: u64, at: u64) -> bool {
    if when > at {
        hash.set_expiry(name, Some(when));
    } else {
        hash.remove(name);
    }
    when > at
}

/// The millisecond since the Unix epoch that an argument names.
fn moment(clock: Clock, text: &[u8], command: &str, at: u64) -> Result<u64, Refusal> {
    /// A server keeps the ends of fields in 46 bits.
    const MOMENT_MAX: u64 = (1 << 46) - 1;
    let number = argument::integer(text)?;
    if number < 0 {
        return Err(Refusal::new("ERR invalid expire time, must be >= 0"));
    }
    let when = clock.resolve(number, at).and_then(|when| u64::try_from(when).ok());
    let when = when.filter(|when| *when <= MOMENT_MAX);
    when.ok_or_else(|| Refusal::invalid_expiry(command))
}

const COUNT_ERROR: &str = "ERR Number of fields must be a positive integer";

/// Reads `FIELDS`, a number and so many names, to the end. `error` is for a wrong number.
fn names<'a, 'b>(
    args: &'b [&'a [u8]],
    command: &str,
    error: &'static str,
) -> Result<&'b [&'a [u8]], Refusal> {
    let (_, args) =
        args.split_first().filter(|(word, _)| argument::is(word, "FIELDS")).ok_or_else(|| {
            Refusal::new("ERR Mandatory argument FIELDS is missing or not at the right position")
        })?;
    let (number, names) = args.split_first().ok_or_else(|| Refusal::arity(command))?;
    if argument::count_from(1, number, error)? != names.len() {
        let text = "ERR The `numfields` parameter must match the number of arguments";
        return Err(Refusal::new(text));
    }
    Ok(names)
}

/// An array of what is said of each field.
fn of_each(names: &[&[u8]], say: impl FnMut(&[u8]) -> Value) -> Value {
    Value::Array(names.iter().copied().map(say).collect())
}

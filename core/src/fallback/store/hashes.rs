//! Commands about the fields of hashes. `fields` has those that set when fields expire.

use bytes::Bytes;

use super::counters::float;
use super::extended::Extended;
use super::hash::{Field, Hash};
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::types::Collection;
use super::{Outcome, argument, count, picks};
use crate::Now;
use crate::resp::Value;

pub(super) fn hset(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_all(keyspace, args, now, "hset").map(count)
}

pub(super) fn hmset(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_all(keyspace, args, now, "hmset").map(|_| Value::OK)
}

/// Sets fields, which then don't expire. Returns how many are new.
fn set_all(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    now: Now,
    name: &str,
) -> Result<usize, Refusal> {
    let (key, at) = (args[1], now.unix_millis());
    let (pairs, []) = args[2..].as_chunks::<2>() else {
        return Err(Refusal::arity(name));
    };
    let hash = keyspace.read::<Hash>(key, at)?;
    let before = hash.map_or(0, Hash::len);
    let growth = Hash::growth(hash, &argument::last_of_each(pairs));
    keyspace.change(key, growth, at, |hash: &mut Hash| {
        for [name, value] in pairs {
            hash.insert(name, lasting(value));
        }
        hash.len() - before
    })
}

pub(super) fn hsetnx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, name, value, at) = (args[1], args[2], args[3], now.unix_millis());
    let hash = keyspace.read::<Hash>(key, at)?;
    if hash.is_some_and(|hash| hash.get(name).is_some()) {
        return Ok(Value::Integer(0));
    }
    let growth = Hash::growth(hash, &[(name, value)]);
    keyspace.change(key, growth, at, |hash: &mut Hash| hash.insert(name, lasting(value)))?;
    Ok(Value::Integer(1))
}

pub(super) fn hget(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    Ok(value(hash, args[2]))
}

pub(super) fn hmget(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    Ok(Value::Array(args[2..].iter().map(|name| value(hash, name)).collect()))
}

/// The value of a field as a reply, null where there is none.
pub(super) fn value(hash: Option<&Hash>, name: &[u8]) -> Value {
    let field = hash.and_then(|hash| hash.get(name));
    field.map_or(Value::Null, |field| Value::Bulk(field.value.clone()))
}

pub(super) fn hgetall(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    let pair = |(name, field): (&Bytes, &Field)| {
        (Value::Bulk(name.clone()), Value::Bulk(field.value.clone()))
    };
    Ok(Value::Map(hash.map_or(Vec::new(), |hash| hash.iter().map(pair).collect())))
}

pub(super) fn hkeys(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    each(keyspace, args[1], now, |name, _| name)
}

pub(super) fn hvals(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    each(keyspace, args[1], now, |_, value| value)
}

fn each(
    keyspace: &mut Keyspace,
    key: &[u8],
    now: Now,
    tell: for<'a> fn(&'a Bytes, &'a Bytes) -> &'a Bytes,
) -> Outcome {
    let hash = keyspace.read::<Hash>(key, now.unix_millis())?;
    let fields = hash.into_iter().flat_map(Hash::iter);
    let told = fields.map(|(name, field)| Value::Bulk(tell(name, &field.value).clone()));
    Ok(Value::Array(told.collect()))
}

pub(super) fn hdel(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, names, at) = (args[1], &args[2..], now.unix_millis());
    let hash = keyspace.read::<Hash>(key, at)?;
    if !hash.is_some_and(|hash| names.iter().any(|name| hash.get(name).is_some())) {
        return Ok(Value::Integer(0));
    }
    keyspace.change(key, 0, at, |hash: &mut Hash| {
        count(names.iter().filter(|name| hash.remove(name).is_some()).count())
    })
}

pub(super) fn hexists(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    Ok(Value::Integer(hash.is_some_and(|hash| hash.get(args[2]).is_some()).into()))
}

/// HLEN: without the fields that have expired, which a server may still count.
pub(super) fn hlen(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    Ok(count(hash.map_or(0, Hash::len)))
}

pub(super) fn hstrlen(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    let field = hash.and_then(|hash| hash.get(args[2]));
    Ok(count(field.map_or(0, |field| field.value.len())))
}

pub(super) fn hincrby(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, name, at) = (args[1], args[2], now.unix_millis());
    let by = argument::integer(args[3])?;
    let field = keyspace.read::<Hash>(key, at)?.and_then(|hash| hash.get(name));
    let before = match field {
        Some(field) => argument::integer(&field.value).map_err(|_| Refusal::HASH_NOT_INTEGER)?,
        None => 0,
    };
    let sum = before.checked_add(by).ok_or(Refusal::INCREMENT_OVERFLOW)?;
    put(keyspace, key, name, sum.to_string().into(), at)?;
    Ok(Value::Integer(sum))
}

/// HINCRBYFLOAT: exact to the last digit of what a server on x86-64 answers.
pub(super) fn hincrbyfloat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, name, at) = (args[1], args[2], now.unix_millis());
    let by = float(args[3])?.ok_or(Refusal::NAN_OR_INFINITE)?;
    let field = keyspace.read::<Hash>(key, at)?.and_then(|hash| hash.get(name));
    let before = match field {
        Some(field) => float(&field.value).map_err(|_| Refusal::HASH_NOT_FLOAT)?,
        None => Some(Extended::ZERO),
    };
    let sum = before.and_then(|before| before.add(by)).ok_or(Refusal::INCREMENT_INFINITE)?;
    let sum = Bytes::from(sum.to_string());
    put(keyspace, key, name, sum.clone(), at)?;
    Ok(Value::Bulk(sum))
}

/// Puts the new value of a field and leaves its expiry as it is.
fn put(
    keyspace: &mut Keyspace,
    key: &[u8],
    name: &[u8],
    value: Bytes,
    at: u64,
) -> Result<(), Refusal> {
    let hash = keyspace.read::<Hash>(key, at)?;
    let growth = Hash::growth(hash, &[(name, &value)]);
    let expires_at = hash.and_then(|hash| hash.get(name)?.expires_at);
    keyspace.change(key, growth, at, |hash: &mut Hash| {
        hash.insert(name, Field { value, expires_at });
    })
}

pub(super) fn hrandfield(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    // More pairs than this a server could not count.
    const PAIRS_MAX: i64 = i64::MAX / 2;
    let wanted = args.get(2).map(|number| argument::picks(number)).transpose()?;
    let with_values = match args[2..] {
        [] | [_] => false,
        [_, option] if argument::is(option, "WITHVALUES") => true,
        _ => return Err(Refusal::SYNTAX),
    };
    if with_values && wanted.is_some_and(|wanted| !(-PAIRS_MAX..=PAIRS_MAX).contains(&wanted)) {
        return Err(Refusal::OUT_OF_RANGE);
    }
    let mut random = keyspace.random();
    let hash = keyspace.read::<Hash>(args[1], now.unix_millis())?;
    let places = picks::places(&mut random, hash.map_or(0, Hash::len), wanted.unwrap_or(1))?;
    let mut picked = places.into_iter().filter_map(|place| hash?.at(place)).map(|(name, field)| {
        let name = Value::Bulk(name.clone());
        if with_values { Value::Array(vec![name, Value::Bulk(field.value.clone())]) } else { name }
    });
    Ok(match wanted {
        Some(_) => Value::Array(picked.collect()),
        None => picked.next().unwrap_or(Value::Null),
    })
}

/// A field that lives as long as its hash.
fn lasting(value: &[u8]) -> Field {
    Field { value: Bytes::copy_from_slice(value), expires_at: None }
}

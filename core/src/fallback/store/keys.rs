//! Commands about keys, whatever stands at them.

use bytes::Bytes;

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, argument, count};
use crate::Now;
use crate::fallback::glob;
use crate::resp::Value;

/// DEL and UNLINK.
pub(super) fn del(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    Ok(count(args[1..].iter().filter(|key| keyspace.remove(key, at).is_some()).count()))
}

/// EXISTS and TOUCH: there is no access time to touch. A key named twice counts twice.
pub(super) fn exists(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    Ok(count(args[1..].iter().filter(|key| keyspace.get(key, at).is_some()).count()))
}

pub(super) fn type_of(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let entry = keyspace.get(args[1], now.unix_millis());
    let name = entry.map_or("none", |entry| entry.data.type_name());
    Ok(Value::Simple(Bytes::from_static(name.as_bytes())))
}

/// KEYS: in the order of the entries, which no server promises anything about.
pub(super) fn keys(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let matching = keyspace.keys(now.unix_millis()).filter(|key| glob::matches(args[1], key));
    Ok(Value::Array(matching.cloned().map(Value::Bulk).collect()))
}

pub(super) fn randomkey(keyspace: &mut Keyspace, _: &[&[u8]], now: Now) -> Outcome {
    Ok(keyspace.random_key(now.unix_millis()).map_or(Value::Null, Value::Bulk))
}

pub(super) fn rename(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (from, to, at) = (args[1], args[2], now.unix_millis());
    if keyspace.get(from, at).is_none() {
        return Err(Refusal::NO_SUCH_KEY);
    }
    if from != to {
        keyspace.rename(from, to, at)?;
    }
    Ok(Value::OK)
}

pub(super) fn renamenx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (from, to, at) = (args[1], args[2], now.unix_millis());
    if keyspace.get(from, at).is_none() {
        return Err(Refusal::NO_SUCH_KEY);
    }
    // The key itself counts as a target that is there.
    if keyspace.get(to, at).is_some() {
        return Ok(Value::Integer(0));
    }
    keyspace.rename(from, to, at)?;
    Ok(Value::Integer(1))
}

pub(super) fn copy(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (from, to, at) = (args[1], args[2], now.unix_millis());
    let mut replace = false;
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        if argument::is(option, "REPLACE") {
            replace = true;
        } else if argument::is(option, "DB") && !options.as_slice().is_empty() {
            options.next().map_or(Ok(()), |index| argument::database(index))?;
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    if from == to {
        return Err(Refusal::SAME_OBJECT);
    }
    let Some(entry) = keyspace.get(from, at).cloned() else {
        return Ok(Value::Integer(0));
    };
    if !replace && keyspace.get(to, at).is_some() {
        return Ok(Value::Integer(0));
    }
    keyspace.put(to, entry, at)?;
    Ok(Value::Integer(1))
}

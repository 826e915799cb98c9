//! Strings that are numbers.

use bytes::Bytes;

use super::entry::{Data, Entry, Text};
use super::extended::{Extended, is_infinity};
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

pub(super) fn incr(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    add(keyspace, args[1], 1, now)
}

pub(super) fn decr(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    add(keyspace, args[1], -1, now)
}

pub(super) fn incrby(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    add(keyspace, args[1], argument::integer(args[2])?, now)
}

pub(super) fn decrby(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let by = argument::integer(args[2])?.checked_neg().ok_or(Refusal::DECREMENT_OVERFLOW)?;
    add(keyspace, args[1], by, now)
}

fn add(keyspace: &mut Keyspace, key: &[u8], by: i64, now: Now) -> Outcome {
    let before = match keyspace.get(key, now.unix_millis()) {
        None => 0,
        Some(entry) => match entry.data.text()? {
            Text::Integer(number) => *number,
            Text::Bytes(bytes) => argument::integer(bytes)?,
        },
    };
    let sum = before.checked_add(by).ok_or(Refusal::INCREMENT_OVERFLOW)?;
    put(keyspace, key, Text::Integer(sum), now)?;
    Ok(Value::Integer(sum))
}

/// INCRBYFLOAT: exact to the last digit of what a server on x86-64 answers.
pub(super) fn incrbyfloat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let before = match keyspace.get(args[1], now.unix_millis()) {
        None => Some(Extended::ZERO),
        Some(entry) => float(&entry.data.text()?.to_bytes())?,
    };
    let by = float(args[2])?;
    let sum = before.zip(by).and_then(|(before, by)| before.add(by));
    let text = sum.ok_or(Refusal::INCREMENT_INFINITE)?.to_string();
    let reply = Bytes::from(text);
    put(keyspace, args[1], Text::Bytes(reply.clone()), now)?;
    Ok(Value::Bulk(reply))
}

/// Reads a number, `None` for an infinite one, which no sum makes finite again.
pub(super) fn float(text: &[u8]) -> Result<Option<Extended>, Refusal> {
    match Extended::parse(text) {
        None if is_infinity(text) => Ok(None),
        number => number.map(Some).ok_or(Refusal::NOT_FLOAT),
    }
}

/// Puts a new value and leaves the expiry as it is.
fn put(keyspace: &mut Keyspace, key: &[u8], text: Text, now: Now) -> Result<(), Refusal> {
    let at = now.unix_millis();
    let expires_at = keyspace.get(key, at).and_then(|entry| entry.expires_at);
    keyspace.put(key, Entry { data: Data::String(text), expires_at }, at)
}

//! Commands about the store as a whole.

use bytes::Bytes;

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

pub(super) fn ping(_: &mut Keyspace, args: &[&[u8]], _: Now) -> Outcome {
    match args {
        [_] => Ok(Value::Simple(Bytes::from_static(b"PONG"))),
        [_, text] => Ok(Value::Bulk(Bytes::copy_from_slice(text))),
        _ => Err(Refusal::arity("ping")),
    }
}

pub(super) fn echo(_: &mut Keyspace, args: &[&[u8]], _: Now) -> Outcome {
    Ok(Value::Bulk(Bytes::copy_from_slice(args[1])))
}

pub(super) fn time(_: &mut Keyspace, _: &[&[u8]], now: Now) -> Outcome {
    let bulk = |number: String| Value::Bulk(Bytes::from(number));
    let (seconds, micros) = (now.unix.as_secs(), now.unix.subsec_micros());
    Ok(Value::Array(vec![bulk(seconds.to_string()), bulk(micros.to_string())]))
}

pub(super) fn select(_: &mut Keyspace, args: &[&[u8]], _: Now) -> Outcome {
    argument::database(args[1])?;
    Ok(Value::OK)
}

pub(super) fn dbsize(keyspace: &mut Keyspace, _: &[&[u8]], now: Now) -> Outcome {
    keyspace.expire_all(now.unix_millis());
    Ok(super::count(keyspace.len()))
}

/// FLUSHDB and FLUSHALL: there is one database. ASYNC is as good as SYNC, nobody can tell.
pub(super) fn flush(keyspace: &mut Keyspace, args: &[&[u8]], _: Now) -> Outcome {
    match args {
        [_] => {}
        [_, how] if argument::is(how, "SYNC") || argument::is(how, "ASYNC") => {}
        _ => return Err(Refusal::SYNTAX),
    }
    keyspace.clear();
    Ok(Value::OK)
}

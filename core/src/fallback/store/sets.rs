//! Commands about one set, and SMOVE.

use bytes::Bytes;

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::set::Set;
use super::types::Collection;
use super::{Outcome, argument, count, picks};
use crate::Now;
use crate::resp::Value;

pub(super) fn sadd(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, members, at) = (args[1], &args[2..], now.unix_millis());
    let set = keyspace.read::<Set>(key, at)?;
    let is_new = |member: &&[u8]| set.is_none_or(|set| !set.contains(member));
    let new = argument::distinct(members.iter().copied().filter(is_new));
    if new.is_empty() {
        return Ok(Value::Integer(0));
    }
    let growth = new.iter().map(|member| Set::cost(member)).sum();
    keyspace.change(key, growth, at, |set: &mut Set| {
        // In the order of the arguments, not in that of `new`.
        for member in members {
            if !set.contains(member) {
                set.insert(Bytes::copy_from_slice(member));
            }
        }
        count(new.len())
    })
}

pub(super) fn srem(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, members, at) = (args[1], &args[2..], now.unix_millis());
    let set = keyspace.read::<Set>(key, at)?;
    if !set.is_some_and(|set| members.iter().any(|member| set.contains(member))) {
        return Ok(Value::Integer(0));
    }
    keyspace.change(key, 0, at, |set: &mut Set| {
        count(members.iter().filter(|member| set.remove(member).is_some()).count())
    })
}

pub(super) fn smembers(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<Set>(args[1], now.unix_millis())?;
    Ok(Value::Set(set.map_or(Vec::new(), |set| set.iter().cloned().map(Value::Bulk).collect())))
}

pub(super) fn sismember(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<Set>(args[1], now.unix_millis())?;
    Ok(is_member(set, args[2]))
}

pub(super) fn smismember(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<Set>(args[1], now.unix_millis())?;
    Ok(Value::Array(args[2..].iter().map(|member| is_member(set, member)).collect()))
}

pub(super) fn scard(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<Set>(args[1], now.unix_millis())?;
    Ok(count(set.map_or(0, Set::len)))
}

pub(super) fn spop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let wanted = match args[2..] {
        [] => None,
        [number] => Some(argument::positive(number)?),
        _ => return Err(Refusal::SYNTAX),
    };
    let mut random = keyspace.random();
    let there = keyspace.read::<Set>(key, at)?.map_or(0, Set::len);
    let popped = if there == 0 || wanted == Some(0) {
        Vec::new()
    } else {
        keyspace.change(key, 0, at, |set: &mut Set| {
            let pop = |_| set.remove_at(random.below(set.len())?).map(Value::Bulk);
            (0..wanted.unwrap_or(1).min(there)).filter_map(pop).collect::<Vec<_>>()
        })?
    };
    Ok(match wanted {
        Some(_) => Value::Set(popped),
        None => popped.into_iter().next().unwrap_or(Value::Null),
    })
}

pub(super) fn srandmember(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let wanted = match args[2..] {
        [] => None,
        [number] => Some(argument::picks(number)?),
        _ => return Err(Refusal::SYNTAX),
    };
    let mut random = keyspace.random();
    let set = keyspace.read::<Set>(args[1], now.unix_millis())?;
    let places = picks::places(&mut random, set.map_or(0, Set::len), wanted.unwrap_or(1))?;
    let mut picked = places.into_iter().filter_map(|place| set?.at(place).cloned());
    Ok(match wanted {
        Some(_) => Value::Array(picked.map(Value::Bulk).collect()),
        None => picked.next().map_or(Value::Null, Value::Bulk),
    })
}

pub(super) fn smove(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (from, to, member, at) = (args[1], args[2], args[3], now.unix_millis());
    let Some(set) = keyspace.read::<Set>(from, at)? else {
        return Ok(Value::Integer(0));
    };
    let is_there = set.contains(member);
    let was_there = keyspace.read::<Set>(to, at)?.is_some_and(|set| set.contains(member));
    if is_there && was_there && from != to {
        keyspace.change(from, 0, at, |set: &mut Set| drop(set.remove(member)))?;
    } else if is_there && !was_there {
        let take = |set: &mut Set| set.remove(member);
        let give = |set: &mut Set, member: Option<Bytes>| {
            member.into_iter().for_each(|member| set.insert(member));
        };
        keyspace.transfer((from, to), Set::cost(member), at, take, give)?;
    }
    Ok(Value::Integer(is_there.into()))
}

fn is_member(set: Option<&Set>, member: &[u8]) -> Value {
    Value::Integer(set.is_some_and(|set| set.contains(member)).into())
}

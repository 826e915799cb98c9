//! Commands about several sets: what they share, what they are together, what one has more.

use bytes::Bytes;

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::set::Set;
use super::types::Collection;
use super::{Outcome, argument, count};
use crate::Now;
use crate::resp::Value;

pub(super) fn sinter(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    combine(keyspace, &args[1..], now.unix_millis(), intersection).map(|set| reply(&set))
}

pub(super) fn sunion(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    combine(keyspace, &args[1..], now.unix_millis(), union).map(|set| reply(&set))
}

pub(super) fn sdiff(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    combine(keyspace, &args[1..], now.unix_millis(), difference).map(|set| reply(&set))
}

pub(super) fn sinterstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), intersection)
}

pub(super) fn sunionstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), union)
}

pub(super) fn sdiffstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), difference)
}

pub(super) fn sintercard(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let keys = argument::count_from(1, args[1], "ERR numkeys should be greater than 0")?;
    let Some((keys, mut options)) = args[2..].split_at_checked(keys) else {
        return Err(Refusal::new("ERR Number of keys can't be greater than number of args"));
    };
    let mut limit = 0;
    while let [option, number, rest @ ..] = options {
        if !argument::is(option, "LIMIT") {
            break;
        }
        limit = argument::count_from(0, number, "ERR LIMIT can't be negative")?;
        options = rest;
    }
    if !options.is_empty() {
        return Err(Refusal::SYNTAX);
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    combine(keyspace, keys, now.unix_millis(), |sets, _| {
        count(shared_by_all(sets).take(limit).count())
    })
}

/// Writes what comes of sets to another key, or the last of them, in place of whatever is there.
fn store(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    at: u64,
    operation: fn(&[Option<&Set>], Set) -> Set,
) -> Outcome {
    let set = combine(keyspace, &args[2..], at, operation)?;
    let length = set.len();
    keyspace.store(args[1], set, at)?;
    Ok(count(length))
}

/// What comes of the sets at these keys; `None` is a key where there is nothing.
fn combine<T>(
    keyspace: &mut Keyspace,
    keys: &[&[u8]],
    at: u64,
    operation: impl FnOnce(&[Option<&Set>], Set) -> T,
) -> Result<T, Refusal> {
    for key in keys {
        // First for all, as what has expired goes: later they are looked at together.
        keyspace.read::<Set>(key, at)?;
    }
    let sets = keys.iter().map(|key| keyspace.peek_at(key, at));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    Ok(operation(&sets, Set::new(keyspace.hasher())))
}

fn intersection(sets: &[Option<&Set>], mut result: Set) -> Set {
    shared_by_all(sets).for_each(|member| result.insert(member.clone()));
    result
}

/// The members that all sets have. Takes time for the smallest set, times the number of sets.
fn shared_by_all<'a>(sets: &[Option<&'a Set>]) -> impl Iterator<Item = &'a Bytes> {
    // Where one is absent, nothing is shared.
    let mut sets = sets.iter().copied().collect::<Option<Vec<_>>>().unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    let mut sets = sets.into_iter();
    let smallest = sets.next();
    let others = sets.collect::<Vec<_>>();
    let shared = move |member: &&Bytes| others.iter().all(|set| set.contains(member));
    smallest.into_iter().flat_map(Set::iter).filter(shared)
}

fn union(sets: &[Option<&Set>], mut result: Set) -> Set {
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        if !result.contains(member) {
            result.insert(member.clone());
        }
    }
    result
}

/// The members of the first set that no other has. Takes time for the members of all sets at most.
fn difference(sets: &[Option<&Set>], mut result: Set) -> Set {
    let Some((Some(first), others)) = sets.split_first() else {
        return result;
    };
    let others = others.iter().flatten().collect::<Vec<_>>();
    let members = others.iter().map(|set| set.len()).sum::<usize>();
    // Which way to go is what a server goes by, too: the result may tell by how it would be kept.
    if first.len().saturating_mul(others.len() + 1) / 2 <= first.len().saturating_add(members) {
        for member in first.iter() {
            if !others.iter().any(|set| set.contains(member)) {
                result.insert(member.clone());
            }
        }
        return result;
    }
    // The first is large and the others are many and small.
    first.iter().for_each(|member| result.insert(member.clone()));
    for member in others.iter().flat_map(|set| set.iter()) {
        result.remove(member);
    }
    result
}

fn reply(set: &Set) -> Value {
    Value::Set(set.iter().cloned().map(Value::Bulk).collect())
}

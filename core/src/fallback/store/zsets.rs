//! Commands about the members of one sorted set.

use bytes::Bytes;

use super::keyspace::Keyspace;
use super::lists::{numbered_keys, pop_count};
use super::refusal::Refusal;
use super::sorted_set::SortedSet;
use super::types::Collection;
use super::{Outcome, argument, count, double, picks};
use crate::Now;
use crate::resp::Value;

pub(super) fn zadd(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    add(keyspace, args, now, Conditions::default())
}

/// ZINCRBY: a server reads it as ZADD with INCR, options included.
pub(super) fn zincrby(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    add(keyspace, args, now, Conditions { increment: true, ..Conditions::default() })
}

fn add(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, mut conditions: Conditions) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let pairs = conditions.parse(&args[2..])?;
    let pairs = pairs.iter().map(|&[score, member]| {
        double::parse(score).map(|score| (score, member)).ok_or(Refusal::NOT_FLOAT)
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let set = keyspace.read::<SortedSet>(key, at)?;
    if let ([(by, member)], true) = (&pairs[..], conditions.increment) {
        let before = set.and_then(|set| set.score(member));
        let score = conditions.sum(before, *by)?;
        if let Some(score) = score {
            put(keyspace, key, &[(score, member)], at, |set| {
                set.insert(member, score);
            })?;
        }
        return Ok(score.map_or(Value::Null, Value::Double));
    }
    if set.is_none() && conditions.if_present {
        return Ok(Value::Integer(0));
    }
    let counted: &[_] = if conditions.if_present { &[] } else { &pairs };
    put(keyspace, key, counted, at, |set| {
        let (mut added, mut changed) = (0, 0);
        for (score, member) in &pairs {
            let before = set.score(member);
            if conditions.hold(before, *score) {
                set.insert(member, *score);
                added += usize::from(before.is_none());
                changed += usize::from(before.is_some_and(|before| before != *score));
            }
        }
        count(if conditions.count_changed { added + changed } else { added })
    })
}

/// Changes the sorted set at `key`, made where there is nothing, if there is room for those members
/// of `pairs` that it has not yet.
fn put<T>(
    keyspace: &mut Keyspace,
    key: &[u8],
    pairs: &[(f64, &[u8])],
    at: u64,
    change: impl FnOnce(&mut SortedSet) -> T,
) -> Result<T, Refusal> {
    let set = keyspace.read::<SortedSet>(key, at)?;
    let members = pairs.iter().map(|&(_, member)| member);
    let is_new = |member: &&[u8]| set.is_none_or(|set| set.score(member).is_none());
    let new = argument::distinct(members.filter(is_new));
    let growth = new.iter().map(|member| SortedSet::cost(member)).sum();
    keyspace.change(key, growth, at, change)
}

/// The options of ZADD.
#[derive(Default)]
struct Conditions {
    if_absent: bool,
    if_present: bool,
    if_greater: bool,
    if_less: bool,
    count_changed: bool,
    increment: bool,
}

impl Conditions {
    /// Reads the options and returns the pairs of scores and members behind them.
    fn parse<'a, 'b>(&mut self, args: &'a [&'b [u8]]) -> Result<&'a [[&'b [u8]; 2]], Refusal> {
        let mut rest = args;
        while let [arg, behind @ ..] = rest {
            let option = [
                ("NX", &mut self.if_absent),
                ("XX", &mut self.if_present),
                ("GT", &mut self.if_greater),
                ("LT", &mut self.if_less),
                ("CH", &mut self.count_changed),
                ("INCR", &mut self.increment),
            ];
            let Some((_, set)) = option.into_iter().find(|(name, _)| argument::is(arg, name))
            else {
                break;
            };
            *set = true;
            rest = behind;
        }
        let (pairs, []) = rest.as_chunks::<2>() else {
            return Err(Refusal::SYNTAX);
        };
        if pairs.is_empty() {
            return Err(Refusal::SYNTAX);
        }
        if self.if_absent && self.if_present {
            return Err(Refusal::new("ERR XX and NX options at the same time are not compatible"));
        }
        let ordered = usize::from(self.if_greater) + usize::from(self.if_less);
        if ordered + usize::from(self.if_absent) > 1 {
            return Err(Refusal::new(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increment && pairs.len() > 1 {
            return Err(Refusal::new("ERR INCR option supports a single increment-element pair"));
        }
        Ok(pairs)
    }

    /// Whether a member with one score or none is to have another.
    fn hold(&self, before: Option<f64>, score: f64) -> bool {
        match before {
            None => !self.if_present,
            Some(_) if self.if_absent => false,
            Some(before) if self.if_greater => score > before,
            Some(before) if self.if_less => score < before,
            Some(_) => true,
        }
    }

    /// What a score comes to, or `None` where it stays as it is.
    fn sum(&self, before: Option<f64>, by: f64) -> Result<Option<f64>, Refusal> {
        let sum = match before {
            // Before the sum is looked at, which may be NaN.
            Some(_) if self.if_absent => return Ok(None),
            Some(before) => before + by,
            None => by,
        };
        if sum.is_nan() {
            return Err(Refusal::new("ERR resulting score is not a number (NaN)"));
        }
        Ok(self.hold(before, sum).then_some(sum))
    }
}

pub(super) fn zrem(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, members, at) = (args[1], &args[2..], now.unix_millis());
    let set = keyspace.read::<SortedSet>(key, at)?;
    if !set.is_some_and(|set| members.iter().any(|member| set.score(member).is_some())) {
        return Ok(Value::Integer(0));
    }
    keyspace.change(key, 0, at, |set: &mut SortedSet| {
        count(members.iter().filter(|member| set.remove(member)).count())
    })
}

pub(super) fn zcard(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    Ok(count(set.map_or(0, SortedSet::len)))
}

pub(super) fn zscore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    Ok(score(set, args[2]))
}

pub(super) fn zmscore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    Ok(Value::Array(args[2..].iter().map(|member| score(set, member)).collect()))
}

fn score(set: Option<&SortedSet>, member: &[u8]) -> Value {
    set.and_then(|set| set.score(member)).map_or(Value::Null, Value::Double)
}

pub(super) fn zrank(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    Ok(set.and_then(|set| set.rank(args[2])).map_or(Value::Null, count))
}

pub(super) fn zrevrank(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    let rank = set.and_then(|set| Some(set.len() - 1 - set.rank(args[2])?));
    Ok(rank.map_or(Value::Null, count))
}

pub(super) fn zpopmin(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    pop(keyspace, args, now, Extreme::Lowest)
}

pub(super) fn zpopmax(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    pop(keyspace, args, now, Extreme::Highest)
}

#[derive(Clone, Copy)]
enum Extreme {
    Lowest,
    Highest,
}

fn pop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, extreme: Extreme) -> Outcome {
    let most = match args[2..] {
        [] => None,
        [most] => Some(argument::positive(most)?),
        _ => return Err(Refusal::SYNTAX),
    };
    let (key, at) = (args[1], now.unix_millis());
    if keyspace.read::<SortedSet>(key, at)?.is_none() {
        return Ok(Value::Array(Vec::new()));
    }
    let popped = pop_some(keyspace, key, extreme, most.unwrap_or(1), at)?;
    if most.is_some() {
        return Ok(reply(popped.into_iter(), true));
    }
    // One member without a number is not wrapped in a pair of its own.
    let popped = popped.into_iter().next();
    Ok(popped.map_or(Value::Array(Vec::new()), |(member, score)| pair(member, score)))
}

/// ZMPOP: from the first sorted set that is there.
pub(super) fn zmpop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (keys, rest) = numbered_keys(&args[1..])?;
    let (extreme, options) = match rest {
        [end, options @ ..] if argument::is(end, "MIN") => (Extreme::Lowest, options),
        [end, options @ ..] if argument::is(end, "MAX") => (Extreme::Highest, options),
        _ => return Err(Refusal::SYNTAX),
    };
    let most = pop_count(options)?;
    let at = now.unix_millis();
    for key in keys {
        if keyspace.read::<SortedSet>(key, at)?.is_some() {
            let popped = pop_some(keyspace, key, extreme, most, at)?;
            let key = Value::Bulk(Bytes::copy_from_slice(key));
            return Ok(Value::Array(vec![key, reply(popped.into_iter(), true)]));
        }
    }
    Ok(Value::Null)
}

/// Pops so many members from the sorted set at `key`, which must be there, or all.
fn pop_some(
    keyspace: &mut Keyspace,
    key: &[u8],
    extreme: Extreme,
    most: usize,
    at: u64,
) -> Result<Vec<(Bytes, f64)>, Refusal> {
    if most == 0 {
        return Ok(Vec::new());
    }
    keyspace.change(key, 0, at, |set: &mut SortedSet| {
        let most = most.min(set.len());
        let pop = |_| match extreme {
            Extreme::Lowest => set.remove_rank(0),
            Extreme::Highest => set.remove_rank(set.len() - 1),
        };
        (0..most).filter_map(pop).collect()
    })
}

pub(super) fn zrandmember(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    // More pairs than this a server could not count.
    const PAIRS_MAX: i64 = i64::MAX / 2;
    let wanted = args.get(2).map(|number| argument::picks(number)).transpose()?;
    let with_scores = match args[2..] {
        [] | [_] => false,
        [_, option] if argument::is(option, "WITHSCORES") => true,
        _ => return Err(Refusal::SYNTAX),
    };
    if with_scores && wanted.is_some_and(|wanted| !(-PAIRS_MAX..=PAIRS_MAX).contains(&wanted)) {
        return Err(Refusal::OUT_OF_RANGE);
    }
    let mut random = keyspace.random();
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    let places = picks::places(&mut random, set.map_or(0, SortedSet::len), wanted.unwrap_or(1))?;
    let mut picked = places.into_iter().filter_map(|place| set?.at(place));
    Ok(match wanted {
        Some(_) => reply(picked.map(|(member, score)| (member.clone(), score)), with_scores),
        None => picked.next().map_or(Value::Null, |(member, _)| Value::Bulk(member.clone())),
    })
}

/// Members in this order, with their scores or without.
pub(super) fn reply(members: impl Iterator<Item = (Bytes, f64)>, with_scores: bool) -> Value {
    let member = |(member, score)| match with_scores {
        true => pair(member, score),
        false => Value::Bulk(member),
    };
    Value::Array(members.map(member).collect())
}

fn pair(member: Bytes, score: f64) -> Value {
    Value::Array(vec![Value::Bulk(member), Value::Double(score)])
}

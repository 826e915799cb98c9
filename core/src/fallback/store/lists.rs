//! Commands about lists.

use bytes::Bytes;

use super::argument::Args;
use super::keyspace::Keyspace;
use super::list::{End, List};
use super::refusal::Refusal;
use super::types::Collection;
use super::{Outcome, argument, count};
use crate::Now;
use crate::resp::Value;

pub(super) fn lpush(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    push(keyspace, args, now, End::Head)
}

pub(super) fn rpush(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    push(keyspace, args, now, End::Tail)
}

pub(super) fn lpushx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    push_to_existing(keyspace, args, now, End::Head)
}

pub(super) fn rpushx(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    push_to_existing(keyspace, args, now, End::Tail)
}

fn push_to_existing(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, end: End) -> Outcome {
    match keyspace.read::<List>(args[1], now.unix_millis())? {
        Some(_) => push(keyspace, args, now, end),
        None => Ok(Value::Integer(0)),
    }
}

fn push(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, end: End) -> Outcome {
    let items = &args[2..];
    let growth = items.iter().map(|item| List::cost(item)).sum();
    keyspace.change(args[1], growth, now.unix_millis(), |list: &mut List| {
        for item in items {
            list.push(end, Bytes::copy_from_slice(item));
        }
        count(list.len())
    })
}

pub(super) fn lpop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    pop(keyspace, args, now, End::Head, "lpop")
}

pub(super) fn rpop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    pop(keyspace, args, now, End::Tail, "rpop")
}

fn pop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, end: End, name: &str) -> Outcome {
    let most = match args[2..] {
        [] => None,
        [most] => Some(argument::positive(most)?),
        _ => return Err(Refusal::arity(name)),
    };
    let (key, at) = (args[1], now.unix_millis());
    if keyspace.read::<List>(key, at)?.is_none() {
        return Ok(Value::Null);
    }
    let mut popped = pop_some(keyspace, key, end, most.unwrap_or(1), at)?;
    Ok(match most {
        None => popped.pop().unwrap_or(Value::Null),
        Some(_) => Value::Array(popped),
    })
}

/// Pops so many items from the list at `key`, which must be there, or all.
fn pop_some(
    keyspace: &mut Keyspace,
    key: &[u8],
    end: End,
    most: usize,
    at: u64,
) -> Result<Vec<Value>, Refusal> {
    keyspace.change(key, 0, at, |list: &mut List| {
        let most = most.min(list.len());
        (0..most).filter_map(|_| list.pop(end).map(Value::Bulk)).collect()
    })
}

/// LMPOP: from the first list that is there.
pub(super) fn lmpop(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (keys, rest) = numbered_keys(&args[1..])?;
    let [end, options @ ..] = rest else {
        return Err(Refusal::SYNTAX);
    };
    let end = side(end)?;
    let most = pop_count(options)?;
    let at = now.unix_millis();
    for key in keys {
        if keyspace.read::<List>(key, at)?.is_some() {
            let popped = pop_some(keyspace, key, end, most, at)?;
            let key = Value::Bulk(Bytes::copy_from_slice(key));
            return Ok(Value::Array(vec![key, Value::Array(popped)]));
        }
    }
    Ok(Value::Null)
}

/// The keys of LMPOP or ZMPOP, behind their number, and the arguments behind them.
pub(super) fn numbered_keys<'a, 'b>(
    args: Args<'a, 'b>,
) -> Result<(Args<'a, 'b>, Args<'a, 'b>), Refusal> {
    let (number, rest) = args.split_first().ok_or(Refusal::SYNTAX)?;
    let number = argument::count_from(1, number, "ERR numkeys should be greater than 0")?;
    rest.split_at_checked(number).ok_or(Refusal::SYNTAX)
}

/// The only option of LMPOP and ZMPOP: how many to pop.
pub(super) fn pop_count(options: &[&[u8]]) -> Result<usize, Refusal> {
    match options {
        [] => Ok(1),
        // Redis looks at the number before it looks further.
        [name, most, rest @ ..] if argument::is(name, "COUNT") => {
            let most = argument::count_from(1, most, "ERR count should be greater than 0")?;
            if rest.is_empty() { Ok(most) } else { Err(Refusal::SYNTAX) }
        }
        _ => Err(Refusal::SYNTAX),
    }
}

fn side(arg: &[u8]) -> Result<End, Refusal> {
    if argument::is(arg, "LEFT") {
        Ok(End::Head)
    } else if argument::is(arg, "RIGHT") {
        Ok(End::Tail)
    } else {
        Err(Refusal::SYNTAX)
    }
}

pub(super) fn llen(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(count(keyspace.read::<List>(args[1], now.unix_millis())?.map_or(0, List::len)))
}

pub(super) fn lrange(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (start, end) = (argument::integer(args[2])?, argument::integer(args[3])?);
    let items = keyspace.read::<List>(args[1], now.unix_millis())?.map_or(Vec::new(), |list| {
        let range = argument::indexes(start, end, list.len());
        list.range(range).cloned().map(Value::Bulk).collect()
    });
    Ok(Value::Array(items))
}

/// LINDEX: a key that is absent is no item, whatever the index.
pub(super) fn lindex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let Some(list) = keyspace.read::<List>(args[1], now.unix_millis())? else {
        return Ok(Value::Null);
    };
    let item = index(args[2], list)?.and_then(|index| list.get(index));
    Ok(item.cloned().map_or(Value::Null, Value::Bulk))
}

/// Where an index leads, negative ones counted from the end; `None` outside of the list.
fn index(arg: &[u8], list: &List) -> Result<Option<usize>, Refusal> {
    let index = argument::integer(arg)?;
    let from_start = match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => {
            let from_end = usize::try_from(index.unsigned_abs()).ok();
            from_end.and_then(|from_end| list.len().checked_sub(from_end))
        }
    };
    Ok(from_start.filter(|&index| index < list.len()))
}

pub(super) fn lset(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, item, at) = (args[1], args[3], now.unix_millis());
    let list = keyspace.read::<List>(key, at)?.ok_or(Refusal::NO_SUCH_KEY)?;
    let index = index(args[2], list)?.ok_or(Refusal::new("ERR index out of range"))?;
    let before = list.get(index).map_or(0, Bytes::len);
    keyspace.change(key, item.len().saturating_sub(before), at, |list: &mut List| {
        list.replace(index, Bytes::copy_from_slice(item));
        Value::OK
    })
}

pub(super) fn linsert(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, pivot, item, at) = (args[1], args[3], args[4], now.unix_millis());
    let behind = if argument::is(args[2], "AFTER") {
        1
    } else if argument::is(args[2], "BEFORE") {
        0
    } else {
        return Err(Refusal::SYNTAX);
    };
    let Some(list) = keyspace.read::<List>(key, at)? else {
        return Ok(Value::Integer(0));
    };
    let Some(index) = list.iter().position(|other| other == pivot) else {
        return Ok(Value::Integer(-1));
    };
    keyspace.change(key, List::cost(item), at, |list: &mut List| {
        list.insert(index + behind, Bytes::copy_from_slice(item));
        count(list.len())
    })
}

/// LREM: a negative number counts from the tail, zero is all.
pub(super) fn lrem(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, item, at) = (args[1], args[3], now.unix_millis());
    let most = argument::integer(args[2])?;
    let end = if most < 0 { End::Tail } else { End::Head };
    let most = match usize::try_from(most.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(most) => most,
    };
    // Looked for first, so that a list that is shared is not copied for nothing.
    let found =
        keyspace.read::<List>(key, at)?.is_some_and(|list| list.iter().any(|other| other == item));
    if !found {
        return Ok(Value::Integer(0));
    }
    keyspace.change(key, 0, at, |list: &mut List| count(list.remove(item, end, most)))
}

pub(super) fn ltrim(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (start, end) = (argument::integer(args[2])?, argument::integer(args[3])?);
    let (key, at) = (args[1], now.unix_millis());
    let Some(list) = keyspace.read::<List>(key, at)? else {
        return Ok(Value::OK);
    };
    let kept = argument::indexes(start, end, list.len());
    if kept.len() < list.len() {
        keyspace.change(key, 0, at, |list: &mut List| list.keep(kept))?;
    }
    Ok(Value::OK)
}

pub(super) fn lmove(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (from, to) = (side(args[3])?, side(args[4])?);
    shift(keyspace, (args[1], from), (args[2], to), now.unix_millis())
}

pub(super) fn rpoplpush(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    shift(keyspace, (args[1], End::Tail), (args[2], End::Head), now.unix_millis())
}

/// Moves an item from one end of a list to an end of the same list or another.
fn shift(
    keyspace: &mut Keyspace,
    (source, from): (&[u8], End),
    (target, to): (&[u8], End),
    at: u64,
) -> Outcome {
    let item = keyspace.read::<List>(source, at)?.and_then(|list| list.end(from).cloned());
    let Some(item) = item else {
        return Ok(Value::Null);
    };
    if source == target {
        keyspace.change(source, 0, at, |list: &mut List| {
            if let Some(item) = list.pop(from) {
                list.push(to, item);
            }
        })?;
    } else {
        let take = |list: &mut List| list.pop(from);
        let give = |list: &mut List, item: Option<Bytes>| {
            item.into_iter().for_each(|item| list.push(to, item));
        };
        keyspace.transfer((source, target), List::cost(&item), at, take, give)?;
    }
    Ok(Value::Bulk(item))
}

pub(super) fn lpos(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (item, Search { mut rank, most, items_max }) = (args[2], Search::parse(&args[3..])?);
    let Some(list) = keyspace.read::<List>(args[1], now.unix_millis())? else {
        return Ok(most.map_or(Value::Null, |_| Value::Array(Vec::new())));
    };
    let backwards = rank < 0;
    if backwards {
        // The least number stays as it is and then counts as below any other, as on a server.
        rank = rank.wrapping_neg();
    }
    let steps = if items_max == 0 { list.len() } else { items_max.min(list.len()) };
    let indexes = (0..steps).map(|step| if backwards { list.len() - 1 - step } else { step });
    let matches = indexes.filter(|&index| list.get(index).is_some_and(|other| other == item));
    let skipped = usize::try_from(rank.max(1) - 1).unwrap_or(usize::MAX);
    let mut found = matches.skip(skipped).map(count);
    Ok(match most {
        None => found.next().unwrap_or(Value::Null),
        Some(0) => Value::Array(found.collect()),
        Some(_) if rank < 0 => Value::Array(found.collect()),
        Some(most) => Value::Array(found.take(most).collect()),
    })
}

/// The options of LPOS.
struct Search {
    /// Which match is the first to be given; negative ones count from the tail.
    rank: i64,
    /// How many matches are given as an array; zero is all. `None` is one, and not as an array.
    most: Option<usize>,
    /// How many items are looked at; zero is all.
    items_max: usize,
}

impl Search {
    fn parse(args: &[&[u8]]) -> Result<Self, Refusal> {
        let mut search = Search { rank: 1, most: None, items_max: 0 };
        let (pairs, rest) = args.as_chunks::<2>();
        for &[name, value] in pairs {
            if argument::is(name, "RANK") {
                search.rank = argument::integer(value)?;
                if search.rank == 0 {
                    return Err(Refusal::RANK_ZERO);
                }
            } else if argument::is(name, "COUNT") {
                let most = argument::count_from(0, value, "ERR COUNT can't be negative")?;
                search.most = Some(most);
            } else if argument::is(name, "MAXLEN") {
                search.items_max = argument::count_from(0, value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        if rest.is_empty() { Ok(search) } else { Err(Refusal::SYNTAX) }
    }
}

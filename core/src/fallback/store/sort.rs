//! SORT: the members of a list, a set or a sorted set by what they are, or by what other keys hold.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use super::entry::Data;
use super::keyspace::Keyspace;
use super::list::{End, List};
use super::refusal::Refusal;
use super::sorted_set::SortedSet;
use super::types::Collection;
use super::{Outcome, argument, count, double};
use crate::Now;
use crate::resp::Value;

pub(super) fn sort(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (options, at) = (Options::parse(&args[2..], true)?, now.unix_millis());
    let rows = rows(keyspace, args[1], &options, at)?;
    let Some(target) = options.target else {
        return Ok(reply(rows));
    };
    let mut list = List::new(keyspace.hasher());
    for value in rows {
        list.push(End::Tail, Bytes::copy_from_slice(&value.unwrap_or_default()));
    }
    let length = list.len();
    keyspace.store(target, list, at)?;
    Ok(count(length))
}

pub(super) fn sort_ro(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let options = Options::parse(&args[2..], false)?;
    rows(keyspace, args[1], &options, now.unix_millis()).map(reply)
}

fn reply(values: Vec<Option<Bytes>>) -> Value {
    Value::Array(values.into_iter().map(|value| value.map_or(Value::Null, Value::Bulk)).collect())
}

#[derive(Default)]
struct Options<'a> {
    /// Where the weight of a member is found.
    by: Option<&'a [u8]>,
    /// A pattern without an asterisk came: the members stay in their order, whatever else came.
    unsorted: bool,
    /// What is given for each member; where there is nothing it is the member.
    get: Vec<&'a [u8]>,
    /// How many members are passed over, and how many are given then; fewer than none is all.
    limit: Option<(i64, i64)>,
    alpha: bool,
    descending: bool,
    target: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(mut args: &[&'a [u8]], may_store: bool) -> Result<Self, Refusal> {
        let mut options = Options::default();
        while let [option, rest @ ..] = args {
            args = match rest {
                _ if argument::is(option, "ASC") => {
                    options.descending = false;
                    rest
                }
                _ if argument::is(option, "DESC") => {
                    options.descending = true;
                    rest
                }
                _ if argument::is(option, "ALPHA") => {
                    options.alpha = true;
                    rest
                }
                [skip, most, rest @ ..] if argument::is(option, "LIMIT") => {
                    options.limit = Some((argument::integer(skip)?, argument::integer(most)?));
                    rest
                }
                [target, rest @ ..] if may_store && argument::is(option, "STORE") => {
                    options.target = Some(target);
                    rest
                }
                [pattern, rest @ ..] if argument::is(option, "BY") => {
                    options.by = Some(pattern);
                    options.unsorted |= !argument::until_nul(pattern).contains(&b'*');
                    rest
                }
                [pattern, rest @ ..] if argument::is(option, "GET") => {
                    options.get.push(pattern);
                    rest
                }
                _ => return Err(Refusal::SYNTAX),
            };
        }
        Ok(options)
    }

    /// What is left of so many members.
    fn window(&self, length: usize) -> Range<usize> {
        let (skip, most) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(skip.max(0)).map_or(length, |skip| skip.min(length));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        start..start.saturating_add(most).min(length)
    }
}

/// The values that are asked for, in order; `None` is one that is not there.
fn rows(
    keyspace: &mut Keyspace,
    key: &[u8],
    options: &Options,
    at: u64,
) -> Result<Vec<Option<Bytes>>, Refusal> {
    let unsorted = options.unsorted;
    let (mut members, is_set) = members(keyspace, key, unsorted && options.descending, at)?;
    // A set has no order, and what is stored must not depend on how it is kept: it is sorted
    // though nobody asked for it.
    if unsorted && is_set && options.target.is_some() {
        members.sort_unstable();
        if options.descending {
            members.reverse();
        }
    } else if !unsorted {
        members = sorted(keyspace, members, options, at)?;
    }
    let window = options.window(members.len());
    if options.get.is_empty() {
        return Ok(members[window].iter().cloned().map(Some).collect());
    }
    let mut rows = Vec::with_capacity(window.len() * options.get.len());
    for member in &members[window] {
        rows.extend(options.get.iter().map(|pattern| look_up(keyspace, pattern, member, at)));
    }
    Ok(rows)
}

/// The members of what stands at `key`, in its own order or backwards, and whether it is a set,
/// which has no order to turn around.
fn members(
    keyspace: &mut Keyspace,
    key: &[u8],
    reverse: bool,
    at: u64,
) -> Result<(Vec<Bytes>, bool), Refusal> {
    if keyspace.read::<SortedSet>(key, at).is_ok_and(|set| set.is_some_and(SortedSet::is_packed)) {
        // A server unpacks what it sorts, and it stays so.
        keyspace.change(key, 0, at, SortedSet::unpack)?;
    }
    Ok(match keyspace.get(key, at).map(|entry| &entry.data) {
        None => (Vec::new(), false),
        Some(Data::List(list)) if reverse => (list.iter().rev().cloned().collect(), false),
        Some(Data::List(list)) => (list.iter().cloned().collect(), false),
        Some(Data::Set(set)) => (set.iter().cloned().collect(), true),
        Some(Data::SortedSet(set)) => {
            let members = set.ranks(0..set.len(), reverse);
            (members.map(|(member, _)| member.clone()).collect(), false)
        }
        Some(_) => return Err(Refusal::WRONG_TYPE),
    })
}

fn sorted(
    keyspace: &mut Keyspace,
    members: Vec<Bytes>,
    options: &Options,
    at: u64,
) -> Result<Vec<Bytes>, Refusal> {
    let mut weigh = |member: &Bytes| match options.by {
        Some(pattern) => look_up(keyspace, pattern, member, at),
        None => Some(member.clone()),
    };
    if options.alpha {
        // A server compares C strings, but whole ones where the order is kept.
        let whole = options.target.is_some();
        let text = |weight: Bytes| if whole { weight } else { until_nul(&weight) };
        let weighed = members.into_iter().map(|member| (weigh(&member).map(text), member));
        return Ok(ordered(weighed.collect(), options.descending, |(a, _), (b, _)| a.cmp(b)));
    }
    let number = |weight: Option<Bytes>| match weight {
        None => Some(0.0),
        Some(text) => number(&text),
    };
    let weighed = members.into_iter().map(|member| Some((number(weigh(&member))?, member)));
    let weighed = weighed.collect::<Option<Vec<_>>>();
    let error = Refusal::new("ERR One or more scores can't be converted into double");
    // No weight is NaN. Members of the same weight go by their bytes.
    Ok(ordered(weighed.ok_or(error)?, options.descending, |(a, a_member), (b, b_member)| {
        a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| a_member.cmp(b_member))
    }))
}

/// The members in the order of what stands before them.
fn ordered<W>(
    mut weighed: Vec<(W, Bytes)>,
    descending: bool,
    compare: impl Fn(&(W, Bytes), &(W, Bytes)) -> Ordering,
) -> Vec<Bytes> {
    weighed.sort_by(|a, b| if descending { compare(b, a) } else { compare(a, b) });
    weighed.into_iter().map(|(_, member)| member).collect()
}

fn until_nul(text: &Bytes) -> Bytes {
    text.slice_ref(argument::until_nul(text))
}

/// Reads a weight as C's `strtod` does: spaces may come first, nothing at all is zero, and what
/// stands behind a NUL byte does not count. What is too small to be kept exactly is none, unlike a
/// score.
fn number(text: &[u8]) -> Option<f64> {
    let text = argument::until_nul(text);
    let number = double::parse_leniently(text)?;
    let rest = text.trim_ascii_start();
    // What a score may not be for its size a weight may not be either.
    let kept = !number.is_subnormal() && double::parse(rest).is_some();
    (rest.is_empty() || kept).then_some(number)
}

/// What a pattern names for a member: `#` the member itself, another one the string at the key
/// that it makes of its first asterisk, or, with `->` behind that, a field of a hash.
fn look_up(keyspace: &mut Keyspace, pattern: &[u8], member: &Bytes, at: u64) -> Option<Bytes> {
    if pattern == b"#" {
        return Some(member.clone());
    }
    let text = argument::until_nul(pattern);
    let asterisk = text.iter().position(|&byte| byte == b'*')?;
    let arrow = text[asterisk + 1..].windows(2).position(|pair| pair == b"->");
    // An arrow to nothing is a part of the key.
    let arrow = arrow.map(|arrow| asterisk + 1 + arrow).filter(|&arrow| arrow + 2 < text.len());
    let (prefix, suffix) =
        (&pattern[..asterisk], &pattern[asterisk + 1..arrow.unwrap_or(pattern.len())]);
    let key = [prefix, member, suffix].concat();
    let data = &keyspace.get(&key, at)?.data;
    match (data, arrow) {
        (Data::String(text), None) => Some(text.to_bytes()),
        (Data::Hash(hash), Some(arrow)) => {
            hash.get(&pattern[arrow + 2..]).map(|field| field.value.clone())
        }
        _ => None,
    }
}

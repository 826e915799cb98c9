//! SCAN and its like: a little at a time, while the store changes between the calls.
//!
//! What is scanned stands side by side, and the scan goes downwards from the end: a cursor is the
//! number of places still to be looked at, below it. What is new comes behind all others. What is
//! removed leaves its place to the last one, which either was looked at before or still stands below
//! the cursor. So whatever is there from begin to end is given at least once; what comes, goes or
//! moves meanwhile may be given, twice even, or not. On a server it is no different.
//!
//! A key at which another value is put meanwhile is another value, whose members are elsewhere.

use std::ops::Range;

use bytes::Bytes;

use super::hash::Hash;
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::types::Collection;
use super::{Outcome, argument, double};
use crate::Now;
use crate::fallback::glob;
use crate::resp::Value;

pub(super) fn scan(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let cursor = Cursor::parse(args[1])?;
    let options = Options::parse(&args[2..], Dialect::Keys)?;
    let at = now.unix_millis();
    let (places, next) = cursor.window(options.count, keyspace.len());
    let found = places.rev().filter_map(|place| keyspace.entry_at(place)).filter(|(key, entry)| {
        !entry.has_expired(at)
            && options.matches(key)
            && options.type_name.is_none_or(|name| argument::is(name, entry.data.type_name()))
    });
    let found = found.map(|(key, _)| Value::Bulk(key.clone())).collect();
    Ok(reply(next, found))
}

pub(super) fn hscan(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let cursor = Cursor::parse(args[2])?;
    let Some(hash) = keyspace.read::<Hash>(args[1], now.unix_millis())? else {
        return Ok(reply(0, Vec::new()));
    };
    let options = Options::parse(&args[3..], Dialect::Fields)?;
    let (places, next) = cursor.window_of(hash, &options);
    let mut found = Vec::new();
    for (name, field) in places.rev().filter_map(|place| hash.at(place)) {
        if options.matches(name) {
            found.push(Value::Bulk(name.clone()));
            found.extend((!options.names_only).then(|| Value::Bulk(field.value.clone())));
        }
    }
    Ok(reply(next, found))
}

pub(super) fn sscan(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let cursor = Cursor::parse(args[2])?;
    let Some(set) = keyspace.read::<Set>(args[1], now.unix_millis())? else {
        return Ok(reply(0, Vec::new()));
    };
    let options = Options::parse(&args[3..], Dialect::Members)?;
    let (places, next) = cursor.window_of(set, &options);
    let members = places.rev().filter_map(|place| set.at(place));
    let found = members.filter(|member| options.matches(member)).cloned().map(Value::Bulk);
    Ok(reply(next, found.collect()))
}

pub(super) fn zscan(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let cursor = Cursor::parse(args[2])?;
    let Some(set) = keyspace.read::<SortedSet>(args[1], now.unix_millis())? else {
        return Ok(reply(0, Vec::new()));
    };
    let options = Options::parse(&args[3..], Dialect::Members)?;
    let (places, next) = cursor.window_of(set, &options);
    let mut found = Vec::new();
    let mut give = |member: &Bytes, score| {
        if options.matches(member) {
            let score = double::print(score, set.is_packed());
            found.extend([Value::Bulk(member.clone()), Value::Bulk(Bytes::from(score))]);
        }
    };
    if set.is_packed() {
        // A packed list is in the order of the scores, and so is what is given of it.
        set.ranks(places, false).for_each(|(member, score)| give(member, score));
    } else {
        let members = places.rev().filter_map(|place| set.at(place));
        members.for_each(|(member, score)| give(member, score));
    }
    Ok(reply(next, found))
}

/// What the next call is to be given, and what was found.
pub(super) fn reply(next: usize, found: Vec<Value>) -> Value {
    Value::Array(vec![Value::Bulk(Bytes::from(next.to_string())), Value::Array(found)])
}

/// How many places, from the first on, are still to be looked at; 0 is all of them, and the end.
#[derive(Clone, Copy)]
pub(super) struct Cursor(u64);

impl Cursor {
    /// Reads a cursor as C's `strtoul` does: signs are taken, and nothing at all is 0.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let text = argument::until_nul(text);
        let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
        let signed = digits.len() < text.len();
        if (digits.is_empty() && signed) || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::CURSOR);
        }
        let mut number = 0_u64;
        for digit in digits {
            let shifted = number.checked_mul(10).and_then(|n| n.checked_add((digit - b'0').into()));
            number = shifted.ok_or(Refusal::CURSOR)?;
        }
        Ok(Cursor(if text.starts_with(b"-") { number.wrapping_neg() } else { number }))
    }

    /// Which of so many places are to be looked at now, from the last to the first, and the next
    /// cursor.
    fn window(self, count: usize, length: usize) -> (Range<usize>, usize) {
        let end = match usize::try_from(self.0) {
            Ok(0) | Err(_) => length,
            Ok(cursor) => cursor.min(length),
        };
        let start = end.saturating_sub(count);
        (start..end, start)
    }

    /// As `window`, but that a small collection is given at once, whatever the cursor: so it is on
    /// a server, which packs small ones.
    pub(super) fn window_of<C: Collection>(
        self,
        collection: &C,
        options: &Options,
    ) -> (Range<usize>, usize) {
        if collection.is_packed() {
            return (0..collection.len(), 0);
        }
        self.window(options.count, collection.len())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SCAN
    Keys,
    /// HSCAN
    Fields,
    /// SSCAN, ZSCAN
    Members,
}

pub(super) struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    names_only: bool,
}

impl<'a> Options<'a> {
    pub(super) fn parse(args: &[&'a [u8]], dialect: Dialect) -> Result<Self, Refusal> {
        // As on a server.
        const COUNT_DEFAULT: usize = 10;
        let mut options =
            Options { count: COUNT_DEFAULT, pattern: None, type_name: None, names_only: false };
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            if dialect == Dialect::Fields && argument::is(arg, "NOVALUES") {
                options.names_only = true;
                continue;
            }
            let value = *args.next().ok_or(Refusal::SYNTAX)?;
            if argument::is(arg, "COUNT") {
                let count = argument::integer(value)?;
                options.count = usize::try_from(count).map_err(|_| Refusal::SYNTAX)?;
                if count == 0 {
                    return Err(Refusal::SYNTAX);
                }
            } else if argument::is(arg, "MATCH") {
                options.pattern = Some(value);
            } else if dialect == Dialect::Keys && argument::is(arg, "TYPE") {
                options.type_name = Some(value);
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_read_as_c_reads_it() {
        let good = [("", 0), ("0", 0), ("017", 17), ("+5", 5), ("-1", u64::MAX), ("7\0x", 7)];
        for (text, number) in good {
            assert_eq!(Cursor::parse(text.as_bytes()).map(|cursor| cursor.0), Ok(number));
        }
        for bad in ["+", "-", " 1", "1 ", "a", "1a", "--1", "18446744073709551616"] {
            assert!(Cursor::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    /// A change between two calls.
    #[derive(Clone, Debug)]
    enum Change {
        Insert(u16),
        Remove(u16),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let number = 0..300_u16;
        let change =
            prop_oneof![number.clone().prop_map(Change::Insert), number.prop_map(Change::Remove),];
        proptest::collection::vec(change, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_there_from_begin_to_end_is_given(
            first in proptest::collection::btree_set(0..300_u16, 0..200),
            between in proptest::collection::vec(changes(), 0..60),
            count in 1..30_usize,
        ) {
            let mut members: indexmap::IndexSet<u16, _> = indexmap::IndexSet::with_hasher(
                crate::fallback::keyed::Keyed::new(1),
            );
            members.extend(first.iter().copied());
            let (mut stayed, mut given) = (first, BTreeSet::new());
            let (mut cursor, mut between) = (Cursor(0), between.into_iter());
            loop {
                let (places, next) = cursor.window(count, members.len());
                given.extend(places.map(|place| members[place]));
                if next == 0 {
                    break;
                }
                cursor = Cursor(next as u64);
                for change in between.next().unwrap_or_default() {
                    match change {
                        Change::Insert(member) => drop(members.insert(member)),
                        Change::Remove(member) => {
                            members.swap_remove(&member);
                            stayed.remove(&member);
                        }
                    }
                }
            }
            prop_assert!(given.is_superset(&stayed));
        }
    }
}

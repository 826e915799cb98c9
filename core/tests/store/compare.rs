//! Replies held against each other.

use std::collections::BTreeSet;

use bytes::Bytes;
use unfazed_core::resp::Value;

use crate::random::{ABSOLUTE_MS, Args};
use crate::tolerated::Rule;

/// What the rules need to know beside the two replies.
#[derive(Default)]
pub(crate) struct Context {
    /// So many milliseconds have passed at most between the store's reading of the clock and
    /// the server's.
    pub(crate) slack: u64,
    /// The store's time in milliseconds, for [`Rule::Clock`].
    pub(crate) millis: Option<Value>,
    /// What was there before, for [`Rule::Sample`] and [`Rule::Page`].
    pub(crate) content: BTreeSet<Element>,
    /// What the server's KEYS gives after the command, for [`Rule::Living`].
    pub(crate) keys: Option<Value>,
}

/// Whether the two are equal. Doubles are by their bits: 0 and -0 are two.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let all =
        |a: &[Value], b: &[Value]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => all(a, b),
        (Value::Map(a), Value::Map(b)) => {
            let pair =
                |(a, b): (&(Value, Value), &(Value, Value))| same(&a.0, &b.0) && same(&a.1, &b.1);
            a.len() == b.len() && a.iter().zip(b).all(pair)
        }
        (a, b) => a == b,
    }
}

/// Whether the rule lets the difference pass.
pub(crate) fn tolerates(
    rule: Rule,
    command: &Args,
    ours: &Value,
    theirs: &Value,
    context: &Context,
) -> bool {
    match rule {
        Rule::Order => same(&sorted(ours), &sorted(theirs)),
        Rule::Ties => ties(command, ours, theirs),
        Rule::Sample => sample(command, ours, theirs, &context.content),
        Rule::Page => page(command, ours, theirs, &context.content),
        Rule::Clock => clock(command, ours, theirs, context),
        Rule::Time => match (microseconds(ours), microseconds(theirs)) {
            (Some(a), Some(b)) => a.abs_diff(b) <= 1_000 * context.slack,
            _ => false,
        },
        Rule::Encoding => {
            let one_of = |value: &Value, names: &[&str]| matches!(value, Value::Bulk(name) if names.iter().any(|other| name == other));
            let shared = (&Value::Integer(i32::MAX.into()), &Value::Integer(1));
            (ours, theirs) == shared
                || one_of(ours, &["int"]) && one_of(theirs, &["embstr", "raw"])
                || one_of(ours, &["embstr"]) && one_of(theirs, &["raw"])
        }
        Rule::Words => matches!(
            (ours, theirs),
            (Value::Bulk(_), Value::Bulk(_)) | (Value::Array(_), Value::Array(_))
        ),
        Rule::Scores => match (Page::read(command, ours), Page::read(command, theirs)) {
            (Some(ours), Some(theirs)) => {
                let found = |page: &Page| {
                    page.items.iter().map(|item| found(command, item)).collect::<BTreeSet<_>>()
                };
                found(&ours) == found(&theirs)
            }
            // To whom 0 and -0 are equal.
            _ => ours == theirs,
        },
        Rule::NegativeLimit => {
            command.windows(2).any(|pair| has(&pair[..1], "LIMIT") && pair[1].starts_with(b"-"))
        }
        Rule::Refusal => is_error(ours) || is_error(theirs),
        Rule::NoValues => is_error(theirs) && Page::read(command, ours).is_some(),
        Rule::LongIndex => {
            let index =
                command.get(2).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
            index.is_some_and(|index| i32::try_from(index).is_err())
        }
        Rule::Living => match (ours, &context.keys) {
            (Value::Integer(ours), Some(Value::Array(keys))) => {
                i64::try_from(keys.len()) == Ok(*ours)
            }
            _ => false,
        },
    }
}

/// Whether the two may hold different things after what the rule let pass.
pub(crate) fn sets_apart(rule: Rule, ours: &Value, theirs: &Value) -> bool {
    matches!(rule, Rule::LongIndex | Rule::NegativeLimit)
        || rule == Rule::Refusal && is_error(ours) != is_error(theirs)
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::Error(_))
}

/// The same elements in an order that follows from them.
pub(crate) fn sorted(value: &Value) -> Value {
    fn sort(items: &[Value]) -> Vec<Value> {
        let mut items = items.to_vec();
        items.sort_by_cached_key(|item| format!("{item:?}"));
        items
    }
    match value {
        Value::Array(items) => Value::Array(sort(items)),
        Value::Set(items) => Value::Set(sort(items)),
        Value::Map(pairs) => {
            let mut pairs = pairs.clone();
            pairs.sort_by_cached_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        other => other.clone(),
    }
}

fn ties(command: &Args, ours: &Value, theirs: &Value) -> bool {
    let (Value::Array(a), Value::Array(b)) = (ours, theirs) else { return false };
    let by = command.windows(2).find(|pair| has(&pair[..1], "BY"));
    let unsorted = by.is_some_and(|by| !by[1].contains(&b'*'));
    // Members themselves are the same to SORT if they are so up to their first NUL.
    let alike = |(a, b): (&Value, &Value)| match (a, b) {
        (Value::Bulk(a), Value::Bulk(b)) => {
            a.split(|byte| *byte == 0).next() == b.split(|byte| *byte == 0).next()
        }
        _ => false,
    };
    let open = has(command, "ALPHA")
        && (by.is_some() || has(command, "GET") || a.iter().zip(b).all(alike));
    let same_length = a.len() == b.len();
    let same_rows = || has(command, "LIMIT") || same(&sorted(ours), &sorted(theirs));
    same_length && (unsorted || open) && same_rows()
}

/// An element of a collection as it can be looked up: written out, a score as a number.
pub(crate) type Element = String;

/// The sign of a zero is left out.
pub(crate) fn element(value: &Value) -> Element {
    match value {
        Value::Double(score) => format!("{:?}", Value::Double(score + 0.0)),
        Value::Array(pair) => pair.iter().map(|part| element(part) + " ").collect(),
        other => format!("{other:?}"),
    }
}

fn sample(command: &Args, ours: &Value, theirs: &Value, content: &BTreeSet<Element>) -> bool {
    let there = |item: &Value| content.contains(&element(item));
    match (ours, theirs) {
        (Value::Bulk(_), Value::Bulk(_)) => there(ours) && there(theirs),
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => {
            let again = command.get(2).is_some_and(|count| count.starts_with(b"-"));
            let distinct = |items: &[Value]| {
                items.iter().map(element).collect::<BTreeSet<_>>().len() == items.len()
            };
            let good = |items: &[Value]| items.iter().all(there) && (again || distinct(items));
            a.len() == b.len() && good(a) && good(b)
        }
        _ => false,
    }
}

/// One reply of a scan.
pub(crate) struct Page {
    /// Where to go on, as digits.
    pub(crate) cursor: Bytes,
    /// What was found: keys, members, or pairs as arrays.
    pub(crate) items: Vec<Value>,
}

impl Page {
    /// Reads a reply, `None` if it is none of a scan.
    pub(crate) fn read(command: &Args, reply: &Value) -> Option<Page> {
        let Value::Array(parts) = reply else { return None };
        let [Value::Bulk(cursor), Value::Array(items)] = &parts[..] else { return None };
        if cursor.is_empty() || !cursor.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let items = if gives_pairs(command) {
            let (pairs, []) = items.as_chunks::<2>() else { return None };
            pairs.iter().map(|pair| Value::Array(pair.to_vec())).collect()
        } else {
            items.clone()
        };
        Some(Page { cursor: cursor.clone(), items })
    }
}

/// Whether one of the arguments is this option. What stands behind a NUL does not count.
fn has(command: &[Vec<u8>], option: &str) -> bool {
    command.iter().any(|arg| {
        let arg = arg.split(|byte| *byte == 0).next().unwrap_or_default();
        arg.eq_ignore_ascii_case(option.as_bytes())
    })
}

/// Whether a command gives two for each element: a field and its value, a member and its score.
pub(crate) fn gives_pairs(command: &Args) -> bool {
    match command[0].to_ascii_uppercase().as_slice() {
        b"HSCAN" => !has(command, "NOVALUES"),
        b"ZSCAN" => true,
        b"HRANDFIELD" => has(command, "WITHVALUES"),
        b"ZRANDMEMBER" => has(command, "WITHSCORES"),
        _ => false,
    }
}

/// An element as [`element`] writes it. ZSCAN gives scores as texts.
pub(crate) fn found(command: &Args, item: &Value) -> Element {
    match item {
        Value::Array(pair) if command[0].eq_ignore_ascii_case(b"ZSCAN") => {
            let score = match &pair[1] {
                Value::Bulk(text) => {
                    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
                }
                _ => None,
            };
            element(&Value::Array(vec![pair[0].clone(), score.map_or(Value::Null, Value::Double)]))
        }
        item => element(item),
    }
}

/// Where among the arguments of a scan the cursor stands.
pub(crate) fn cursor_place(command: &Args) -> usize {
    if command[0].eq_ignore_ascii_case(b"SCAN") { 1 } else { 2 }
}

fn page(command: &Args, ours: &Value, theirs: &Value, content: &BTreeSet<Element>) -> bool {
    let (Some(ours), Some(theirs)) = (Page::read(command, ours), Page::read(command, theirs))
    else {
        return false;
    };
    let there = |page: &Page| page.items.iter().all(|item| content.contains(&found(command, item)));
    let cursors = [&command[cursor_place(command)][..], &ours.cursor, &theirs.cursor];
    let whole = cursors.iter().all(|cursor| *cursor == b"0");
    there(&ours) && there(&theirs) && (!whole || same_set(&ours.items, &theirs.items))
}

/// Whether both hold the same elements, however often and in which order.
pub(crate) fn same_set(a: &[Value], b: &[Value]) -> bool {
    let set = |items: &[Value]| items.iter().map(element).collect::<BTreeSet<_>>();
    set(a) == set(b)
}

fn clock(command: &Args, ours: &Value, theirs: &Value, context: &Context) -> bool {
    let name = command[0].to_ascii_uppercase();
    let Some(millis) = &context.millis else { return false };
    let one = |ours: &Value, theirs: &Value, millis: &Value| {
        // Negative numbers are no times but say that there is none.
        let (&Value::Integer(a @ 0..), &Value::Integer(b @ 0..)) = (ours, theirs) else {
            return false;
        };
        let &Value::Integer(exact @ 0..) = millis else { return false };
        // Spans count from now, which is the clock's; moments may be a command's own.
        if name.ends_with(b"EXPIRETIME") && ABSOLUTE_MS.contains(&exact.unsigned_abs()) {
            return false;
        }
        let slack = i64::try_from(context.slack).unwrap_or(i64::MAX);
        if name.starts_with(b"P") || name.starts_with(b"HP") {
            return a.abs_diff(b) <= context.slack;
        }
        // Seconds are another number only where the milliseconds may be beyond an edge: for
        // fields they are rounded up, for keys to the nearest.
        let rounding = if name.starts_with(b"H") { 999 } else { 500 };
        let (low, high) = (exact - slack + rounding, exact + slack + rounding);
        (low / 1_000..=high / 1_000).contains(&a) && (low / 1_000..=high / 1_000).contains(&b)
    };
    match (ours, theirs, millis) {
        (Value::Array(a), Value::Array(b), Value::Array(millis)) => {
            let mut all = a.iter().zip(b).zip(millis);
            a.len() == b.len() && all.all(|((a, b), millis)| same(a, b) || one(a, b, millis))
        }
        _ => one(ours, theirs, millis),
    }
}

/// The command that gives in milliseconds what this one gives, in seconds or in milliseconds.
pub(crate) fn in_millis(command: &Args) -> Args {
    let mut command = command.clone();
    command[0].make_ascii_uppercase();
    let place = usize::from(command[0].starts_with(b"H"));
    if command[0].get(place) != Some(&b'P') {
        command[0].insert(place, b'P');
    }
    command
}

fn microseconds(time: &Value) -> Option<u64> {
    let Value::Array(parts) = time else { return None };
    let [Value::Bulk(seconds), Value::Bulk(micros)] = &parts[..] else { return None };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    Some(number(seconds)? * 1_000_000 + number(micros)?)
}

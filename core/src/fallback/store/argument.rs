//! Numbers and words as Redis reads them from arguments and values.

use std::ops::{Range, RangeInclusive};

use super::refusal::Refusal;

/// Some of the arguments of a command.
pub(super) type Args<'a, 'b> = &'a [&'b [u8]];

/// Reads a signed 64-bit integer written as Redis writes it: no plus sign, no leading zero, no
/// space, no `-0` (`string2ll` in `src/util.c`).
pub(super) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    // One sign and 19 digits.
    const LENGTH_MAX: usize = 20;
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        b"0" => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => text.len() <= LENGTH_MAX && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    std::str::from_utf8(text)
        .ok()
        .filter(|_| canonical)
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::NOT_INTEGER)
}

/// Reads an integer of a range, as Redis reads most counts.
pub(super) fn within(text: &[u8], range: RangeInclusive<i64>) -> Result<i64, Refusal> {
    let number = integer(text)?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (min, max) = (range.start(), range.end());
    Err(Refusal::new(format!("ERR value is out of range, value must between {min} and {max}")))
}

/// Reads an integer of a range where the command has one error for whatever is wrong with it.
pub(super) fn within_or(
    text: &[u8],
    range: RangeInclusive<i64>,
    error: &'static str,
) -> Result<i64, Refusal> {
    let number = integer(text).ok().filter(|number| range.contains(number));
    number.ok_or_else(|| Refusal::new(error))
}

/// Reads a number of things that is at least `min`, 0 or 1; no more than memory could hold counts
/// as the most.
pub(super) fn count_from(min: i64, text: &[u8], error: &'static str) -> Result<usize, Refusal> {
    let number = within_or(text, min..=i64::MAX, error)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Reads how many members are to be picked at random; of a negative number the same may come again.
pub(super) fn picks(text: &[u8]) -> Result<i64, Refusal> {
    within(text, -i64::MAX..=i64::MAX)
}

/// Each argument once, sorted: what a command takes is counted without what comes twice.
pub(super) fn distinct<'a>(args: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut args: Vec<_> = args.collect();
    args.sort_unstable();
    args.dedup();
    args
}

/// Each name once, sorted, with the value that counts: of a name that comes twice the last.
pub(super) fn last_of_each<'a>(pairs: &[[&'a [u8]; 2]]) -> Vec<(&'a [u8], &'a [u8])> {
    // The sort is stable, so in the reversed list the last is the first of its run.
    let mut pairs: Vec<_> = pairs.iter().rev().map(|&[name, value]| (name, value)).collect();
    pairs.sort_by_key(|&(name, _)| name);
    pairs.dedup_by_key(|&mut (name, _)| name);
    pairs
}

/// Reads a number of things, which must not be negative.
pub(super) fn positive(text: &[u8]) -> Result<usize, Refusal> {
    count_from(0, text, "ERR value is out of range, must be positive")
}

/// What lies between two indexes of a list or ranks of a sorted set, both included; negative ones
/// count from the end.
pub(super) fn indexes(start: i64, end: i64, length: usize) -> Range<usize> {
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { index.saturating_add(signed) } else { index };
    let start = usize::try_from(from_start(start).max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from(from_start(end).saturating_add(1)).unwrap_or(0).min(length);
    if start < end { start..end } else { 0..0 }
}

/// Reads the index of a database. There is one, 0.
pub(super) fn database(text: &[u8]) -> Result<(), Refusal> {
    let index = i32::try_from(integer(text)?).map_err(|_| {
        let (min, max) = (i32::MIN, i32::MAX);
        Refusal::new(format!("ERR value is out of range, value must between {min} and {max}"))
    })?;
    if index == 0 { Ok(()) } else { Err(Refusal::INDEX) }
}

/// Whether an argument is this option, in any case. Redis compares options as C strings, so what
/// stands behind a NUL byte does not count.
pub(super) fn is(argument: &[u8], option: &str) -> bool {
    until_nul(argument).eq_ignore_ascii_case(option.as_bytes())
}

/// The part of an argument that C sees as a string.
pub(super) fn until_nul(argument: &[u8]) -> &[u8] {
    argument.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_integer_as_redis_writes_it_is_one() {
        for good in ["0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer(good.as_bytes()).unwrap().to_string(), good);
        }
        let bad = [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "a",
            "--1",
            "1\0",
            "9223372036854775808",
            "-9223372036854775809",
            "100000000000000000000",
        ];
        for bad in bad {
            assert_eq!(integer(bad.as_bytes()), Err(Refusal::NOT_INTEGER), "{bad:?}");
        }
    }

    #[test]
    fn indexes_are_cut_to_the_length() {
        let table = [
            (0, -1, 0..6),
            (0, 0, 0..1),
            (-2, -1, 4..6),
            (-100, 1, 0..2),
            (-100, -90, 0..0),
            (2, 1, 0..0),
            (5, 100, 5..6),
            (6, 100, 0..0),
            (i64::MIN, i64::MAX, 0..6),
            (i64::MAX, i64::MAX, 0..0),
        ];
        for (start, end, expected) in table {
            assert_eq!(indexes(start, end, 6), expected, "{start} to {end}");
        }
        assert_eq!(indexes(0, -1, 0), 0..0);
    }

    #[test]
    fn an_option_ends_at_its_first_nul() {
        assert!(is(b"nX\0rest", "NX"));
        assert!(!is(b"NXX", "NX"));
    }
}

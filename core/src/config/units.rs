//! Durations, sizes, counts and flags as text. The error of each is what was expected instead.

use std::time::Duration;

use super::limits::{GIB, KIB, MIB};

/// The longest duration of any setting: added to any reading of a clock it cannot overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The units, largest first, in nanoseconds.
const DURATION_UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZE_UNITS: [(&str, usize); 4] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("", 1)];

/// Reads `500ms`, `5s`, `2m`: a whole number and its unit.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let (digits, unit) = split(text);
    if digits.is_empty() {
        return Err("expected a whole number and its unit");
    }
    if unit.is_empty() {
        return Err("expected a unit after the number: ns, us, ms, s, m or h");
    }
    let Some((_, scale)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("expected a whole number and one of the units ns, us, ms, s, m, h");
    };
    let nanos = digits.parse::<u128>().ok().and_then(|count| count.checked_mul(*scale));
    match nanos.and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err("expected at most 24h"),
    }
}

/// The shortest text that [`duration`] reads back.
pub(super) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let whole = |(_, scale): &&(&str, u128)| nanos.is_multiple_of(*scale);
    match DURATION_UNITS.iter().find(whole) {
        _ if nanos == 0 => String::from("0s"),
        Some((unit, scale)) => format!("{}{unit}", nanos / scale),
        None => format!("{nanos}ns"),
    }
}

/// Reads `64MiB`, `512KiB`, `1GiB`, or a number of bytes.
pub(super) fn size(text: &str) -> Result<usize, &'static str> {
    let (digits, unit) = split(text);
    if digits.is_empty() {
        return Err("expected a whole number, of bytes or with a unit");
    }
    let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("expected a number of bytes, or one of the units KiB, MiB, GiB");
    };
    let bytes = digits.parse::<usize>().ok().and_then(|count| count.checked_mul(*scale));
    bytes.ok_or("expected a number of bytes that fits into memory")
}

/// The shortest text that [`size`] reads back.
pub(super) fn show_size(bytes: usize) -> String {
    let whole = |(_, scale): &&(&str, usize)| bytes != 0 && bytes.is_multiple_of(*scale);
    match SIZE_UNITS.iter().find(whole) {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => bytes.to_string(),
    }
}

/// Reads a whole number without a sign; one too large for 64 bits reads as the largest.
pub(super) fn count(text: &str) -> Option<u64> {
    let (digits, rest) = split(text);
    match (digits.is_empty(), rest) {
        (false, "") => Some(digits.parse().unwrap_or(u64::MAX)),
        _ => None,
    }
}

/// Reads `true`, `yes`, `on`, `1` and their opposites, in any case.
pub(super) fn flag(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("expected true or false"),
    }
}

/// The digits at the start, and what follows them.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

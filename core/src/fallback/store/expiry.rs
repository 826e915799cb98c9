//! Commands about how long entries live.
//!
//! An entry knows the millisecond of its end on the wall clock; relative times are added to the
//! clock when the command runs.

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::{Outcome, argument};
use crate::Now;
use crate::resp::Value;

/// What a time in an argument counts, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Seconds from now: EX.
    Seconds,
    /// Milliseconds from now: PX.
    Millis,
    /// Seconds since the Unix epoch: EXAT.
    UnixSeconds,
    /// Milliseconds since the Unix epoch: PXAT.
    UnixMillis,
}

impl Clock {
    /// The millisecond since the Unix epoch that `text` names, before it or behind it; `name` is
    /// the command that an error names, in lower case.
    pub(super) fn moment(self, text: &[u8], name: &str, at: u64) -> Result<i64, Refusal> {
        self.resolve(argument::integer(text)?, at).ok_or_else(|| Refusal::invalid_expiry(name))
    }

    /// As `moment`, for the commands that accept no time that is not positive: SET, GETEX and
    /// their like, which unlike EXPIRE never mean to delete.
    pub(super) fn deadline(self, text: &[u8], name: &str, at: u64) -> Result<u64, Refusal> {
        let number = argument::integer(text)?;
        let when = if number > 0 { self.resolve(number, at) } else { None };
        when.and_then(|when| u64::try_from(when).ok()).ok_or_else(|| Refusal::invalid_expiry(name))
    }

    /// The millisecond that a number names, before the Unix epoch or behind it.
    pub(super) fn resolve(self, number: i64, at: u64) -> Option<i64> {
        let millis = match self {
            Clock::Seconds | Clock::UnixSeconds => number.checked_mul(1000)?,
            Clock::Millis | Clock::UnixMillis => number,
        };
        match self {
            Clock::Seconds | Clock::Millis => millis.checked_add_unsigned(at),
            Clock::UnixSeconds | Clock::UnixMillis => Some(millis),
        }
    }

    /// The clock that an option names: EX, PX, EXAT or PXAT.
    pub(super) fn named(option: &[u8]) -> Option<Self> {
        [
            ("EX", Clock::Seconds),
            ("PX", Clock::Millis),
            ("EXAT", Clock::UnixSeconds),
            ("PXAT", Clock::UnixMillis),
        ]
        .into_iter()
        .find_map(|(name, clock)| argument::is(option, name).then_some(clock))
    }

    /// Whether the argument names a moment and not a span.
    pub(super) fn is_absolute(self) -> bool {
        matches!(self, Clock::UnixSeconds | Clock::UnixMillis)
    }
}

pub(super) fn expire(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::Seconds, "expire")
}

pub(super) fn pexpire(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::Millis, "pexpire")
}

pub(super) fn expireat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::UnixSeconds, "expireat")
}

pub(super) fn pexpireat(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    set_expiry(keyspace, args, now, Clock::UnixMillis, "pexpireat")
}

fn set_expiry(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    now: Now,
    clock: Clock,
    name: &str,
) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let condition = Condition::parse(&args[3..])?;
    let when = clock.moment(args[2], name, at)?;
    let Some(entry) = keyspace.get(key, at) else {
        return Ok(Value::Integer(0));
    };
    if !condition.holds(entry.expires_at, when) {
        return Ok(Value::Integer(0));
    }
    match u64::try_from(when) {
        Ok(when) if when > at => drop(keyspace.set_expiry(key, Some(when), at)),
        // A moment that is not to come deletes at once.
        _ => drop(keyspace.remove(key, at)),
    }
    Ok(Value::Integer(1))
}

/// On what EXPIRE and its like depend. NX stands alone; XX goes with GT or LT.
#[derive(Default)]
pub(super) struct Condition {
    /// NX: there must be no expiry.
    none: bool,
    /// XX: there must be one.
    some: bool,
    /// GT: the new one must be later; none at all is later than any.
    later: bool,
    /// LT: the new one must be sooner.
    sooner: bool,
}

impl Condition {
    fn parse(options: &[&[u8]]) -> Result<Self, Refusal> {
        let mut condition = Condition::default();
        for option in options {
            if argument::is(option, "NX") {
                condition.none = true;
            } else if argument::is(option, "XX") {
                condition.some = true;
            } else if argument::is(option, "GT") {
                condition.later = true;
            } else if argument::is(option, "LT") {
                condition.sooner = true;
            } else {
                let mut text = b"ERR Unsupported option ".to_vec();
                text.extend_from_slice(argument::until_nul(option));
                return Err(Refusal::new(text));
            }
        }
        let Condition { none, some, later, sooner } = condition;
        if none && (some || later || sooner) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Refusal::new(text));
        }
        if later && sooner {
            let text = "ERR GT and LT options at the same time are not compatible";
            return Err(Refusal::new(text));
        }
        Ok(condition)
    }

    /// As HEXPIRE has it: one option or none, and other arguments behind it, which are returned.
    pub(super) fn parse_one<'a, 'b>(args: &'b [&'a [u8]]) -> (Self, &'b [&'a [u8]]) {
        match args.split_first() {
            Some((&option, rest)) => match Condition::parse(&[option]) {
                Ok(condition) => (condition, rest),
                Err(_) => (Condition::default(), args),
            },
            None => (Condition::default(), args),
        }
    }

    pub(super) fn holds(&self, before: Option<u64>, when: impl Into<i128>) -> bool {
        let (before, when) = (before.map(i128::from), when.into());
        !(self.none && before.is_some()
            || self.some && before.is_none()
            || self.later && before.is_none_or(|before| when <= before)
            || self.sooner && before.is_some_and(|before| when >= before))
    }
}

pub(super) fn persist(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let mortal = keyspace.get(key, at).is_some_and(|entry| entry.expires_at.is_some());
    if mortal {
        keyspace.set_expiry(key, None, at);
    }
    Ok(Value::Integer(mortal.into()))
}

pub(super) fn ttl(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(expiry(keyspace, args[1], now, |when, at| seconds(when.saturating_sub(at))))
}

pub(super) fn pttl(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(expiry(keyspace, args[1], now, u64::saturating_sub))
}

pub(super) fn expiretime(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(expiry(keyspace, args[1], now, |when, _| seconds(when)))
}

pub(super) fn pexpiretime(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Ok(expiry(keyspace, args[1], now, |when, _| when))
}

fn expiry(keyspace: &mut Keyspace, key: &[u8], now: Now, tell: fn(u64, u64) -> u64) -> Value {
    let at = now.unix_millis();
    Value::Integer(match keyspace.get(key, at).map(|entry| entry.expires_at) {
        None => -2,
        Some(None) => -1,
        Some(Some(when)) => i64::try_from(tell(when, at)).unwrap_or(i64::MAX),
    })
}

/// To the nearest second.
fn seconds(millis: u64) -> u64 {
    millis.saturating_add(500) / 1000
}

//! The one table of knobs: name, place in [`Config`], and what it may be.
//!
//! URLs, variables and `validate` go by it, so a range stands here once, and a knob that is in the
//! table can be read, written and checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::limits::ReplyLimits;
use super::units::{self, DURATION_MAX};
use super::{Config, Forced, MaybeRetry, PingInterval, ProtocolChoice, Publish};

/// One knob.
pub(super) struct Parameter {
    /// Its URL parameter and, but for `db`, its builder method.
    pub(super) name: &'static str,
    /// A value that is right.
    pub(super) example: &'static str,
    kind: Kind,
}

/// Where a knob is kept.
struct Field<T: 'static> {
    get: fn(&Config) -> &T,
    edit: fn(&mut Config) -> &mut T,
}

enum Kind {
    /// Longer than zero.
    Span(Field<Duration>),
    /// Zero is allowed.
    SpanOrZero(Field<Duration>),
    SpanOrOff(Field<Option<Duration>>),
    Ping(Field<PingInterval>),
    Size(Field<usize>, RangeInclusive<usize>),
    Entries(Field<usize>, RangeInclusive<usize>),
    Count(Field<u32>, RangeInclusive<u32>),
    CountOrOff(Field<Option<u32>>),
    Flag(Field<bool>),
    Protocol(Field<ProtocolChoice>),
    MaybeRetry(Field<MaybeRetry>),
    ClientName(Field<Option<String>>),
    ForcedOrOff(Field<Option<Forced>>),
    Publish(Field<Publish>),
}

macro_rules! field {
    ($($path:ident).+) => { Field { get: |c| &c.$($path).+, edit: |c| &mut c.$($path).+ } };
}

macro_rules! parameters {
    ($($name:literal, $example:literal, $kind:ident($($path:ident).+ $(, $range:expr)?);)*) => {
        &[$(Parameter {
            name: $name,
            example: $example,
            kind: Kind::$kind(field!($($path).+) $(, $range)?),
        }),*]
    };
}

/// As large as anything in memory can be.
const SIZES: RangeInclusive<usize> = 1..=isize::MAX as usize;
const PERCENT: RangeInclusive<u32> = 0..=100;

/// The word that switches a knob off.
const OFF: &str = "off";

/// Every knob, in the order in which a URL shows them.
pub(super) static PARAMETERS: &[Parameter] = parameters! {
    "db", "2", Count(database, 0..=i32::MAX as u32);
    "client_name", "billing", ClientName(client_name);
    "protocol", "resp2", Protocol(protocol);
    "client_info", "false", Flag(client_info);
    "ping_interval", "2s", Ping(ping_interval);
    "deadline", "5s", Span(deadline);
    "connect_timeout", "2s", Span(connect_timeout);
    "response_timeout", "2s", Span(response_timeout);
    "slow_response_timeout", "20s", Span(slow_response_timeout);
    "attempts_max", "10", Count(retry.attempts_max, 1..=u16::MAX as u32);
    "redirects_max", "16", Count(retry.redirects_max, 0..=u32::MAX);
    "retry_backoff_base", "50ms", SpanOrZero(retry.backoff.base);
    "retry_backoff_max", "3s", SpanOrZero(retry.backoff.max);
    "maybe_retry", "never", MaybeRetry(retry.maybe);
    "dial_backoff_base", "50ms", Span(dial.backoff.base);
    "dial_backoff_max", "500ms", Span(dial.backoff.max);
    "dial_jitter_percent", "20", Count(dial.jitter_percent, PERCENT);
    "failed_dials_max", "5", CountOrOff(dial.failed_dials_max);
    "probe_interval", "500ms", Span(breaker.probe_interval);
    "probe_interval_max", "30s", Span(breaker.probe_interval_max);
    "probe_jitter_percent", "20", Count(breaker.probe_jitter_percent, PERCENT);
    "probes", "3", Count(breaker.probes, 1..=1_000);
    "probe_gap", "100ms", SpanOrZero(breaker.probe_gap);
    "retrip_window", "60s", SpanOrZero(breaker.retrip_window);
    "fault_window", "10s", Span(breaker.fault_window);
    "fault_outcomes_min", "20", Count(breaker.fault_outcomes_min, 1..=u32::MAX);
    "fault_percent", "50", Count(breaker.fault_percent, 1..=100);
    "barrier_max", "500ms", SpanOrZero(breaker.barrier_max);
    "down_event_after", "5m", Span(breaker.down_event_after);
    "queue_requests_max", "65536", Entries(queue.requests_max, SIZES);
    "queue_bytes_max", "64MiB", Size(queue.bytes_max, SIZES);
    "events_max", "1024", Entries(queue.events_max, SIZES);
    "bulk_max", "64MiB", Size(replies.bulk_max, 1..=ReplyLimits::REPLY_MAX);
    "depth_max", "128", Entries(replies.depth_max, 1..=1_000_000);
    "elements_max", "100000", Entries(replies.elements_max, 1..=ReplyLimits::ELEMENTS_MAX);
    "line_max", "64KiB", Size(replies.line_max, 64..=ReplyLimits::REPLY_MAX);
    "reply_max", "512MiB", Size(replies.reply_max, 64..=ReplyLimits::REPLY_MAX);
    "memory_entries_max", "10000", Entries(memory.entries_max, SIZES);
    "memory_bytes_max", "100MiB", Size(memory.bytes_max, SIZES);
    "shadow_value_max", "64KiB", Size(memory.shadow_value_max, 0..=isize::MAX as usize);
    "journal_entries_max", "10000", Entries(memory.journal_entries_max, SIZES);
    "journal_bytes_max", "16MiB", Size(memory.journal_bytes_max, SIZES);
    "subscriptions_max", "100000", Entries(subscriptions.subscriptions_max, SIZES);
    "subscription_messages_max", "65536", Entries(subscriptions.messages_max, SIZES);
    "subscription_bytes_max", "16MiB", Size(subscriptions.bytes_max, SIZES);
    "leases_max", "64", Entries(leases.leases_max, SIZES);
    "lease_idle_after", "10s", Span(leases.idle_after);
    "fail_fast", "true", Flag(fail_fast);
    "publish_while_down", "local", Publish(publish_while_down);
    "forced", "isolated", ForcedOrOff(forced);
    "tcp_keepalive", "60s", SpanOrOff(tcp_keepalive);
    "tcp_nodelay", "false", Flag(tcp_nodelay);
};

/// The knob of this name.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

impl Parameter {
    /// The builder method that sets it.
    pub(super) fn method(&self) -> &'static str {
        if self.name == "db" { "database" } else { self.name }
    }

    /// Reads a value; the error is what was expected instead.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let off = text == OFF;
        match &self.kind {
            Kind::Span(field) | Kind::SpanOrZero(field) => {
                *(field.edit)(config) = units::duration(text)?;
            }
            Kind::SpanOrOff(field) => {
                *(field.edit)(config) = if off { None } else { Some(units::duration(text)?) };
            }
            Kind::Ping(field) => {
                let interval = if off { None } else { Some(units::duration(text)?) };
                *(field.edit)(config) = interval.into();
            }
            Kind::Size(field, _) => *(field.edit)(config) = units::size(text)?,
            Kind::Entries(field, range) => {
                let count = units::count(text).and_then(|count| usize::try_from(count).ok());
                *(field.edit)(config) = count.ok_or_else(|| number_advice(range))?;
            }
            Kind::Count(field, range) => {
                let count = units::count(text).and_then(|count| u32::try_from(count).ok());
                *(field.edit)(config) = count.ok_or_else(|| number_advice(range))?;
            }
            Kind::CountOrOff(field) => {
                let count = units::count(text).and_then(|count| u32::try_from(count).ok());
                let advice = || format!("expected a number up to {}, or off", u32::MAX);
                *(field.edit)(config) = if off { None } else { Some(count.ok_or_else(advice)?) };
            }
            Kind::Flag(field) => *(field.edit)(config) = units::flag(text)?,
            Kind::Protocol(field) => {
                *(field.edit)(config) = word(ProtocolChoice::WORDS, text)?;
            }
            Kind::MaybeRetry(field) => *(field.edit)(config) = word(MaybeRetry::WORDS, text)?,
            Kind::Publish(field) => *(field.edit)(config) = word(Publish::WORDS, text)?,
            Kind::ClientName(field) => *(field.edit)(config) = Some(text.to_owned()),
            Kind::ForcedOrOff(field) => {
                *(field.edit)(config) = match text {
                    OFF => None,
                    _ => Some(word(Forced::WORDS, text).map_err(|advice| advice + ", or off")?),
                };
            }
        }
        self.check(config)
    }

    /// Its value as [`Parameter::set`] reads it; empty where only the default has no text.
    pub(super) fn show(&self, config: &Config) -> String {
        let off = || OFF.to_owned();
        match &self.kind {
            Kind::Span(field) | Kind::SpanOrZero(field) => {
                units::show_duration(*(field.get)(config))
            }
            Kind::SpanOrOff(field) => (field.get)(config).map_or_else(off, units::show_duration),
            Kind::Ping(field) => match *(field.get)(config) {
                PingInterval::ResponseTimeout => String::new(),
                PingInterval::Every(interval) => units::show_duration(interval),
                PingInterval::Off => off(),
            },
            Kind::Size(field, _) => units::show_size(*(field.get)(config)),
            Kind::Entries(field, _) => (field.get)(config).to_string(),
            Kind::Count(field, _) => (field.get)(config).to_string(),
            Kind::CountOrOff(field) => {
                (field.get)(config).map_or_else(off, |count| count.to_string())
            }
            Kind::Flag(field) => (field.get)(config).to_string(),
            Kind::Protocol(field) => word_for(ProtocolChoice::WORDS, (field.get)(config)),
            Kind::MaybeRetry(field) => word_for(MaybeRetry::WORDS, (field.get)(config)),
            Kind::Publish(field) => word_for(Publish::WORDS, (field.get)(config)),
            Kind::ClientName(field) => (field.get)(config).clone().unwrap_or_default(),
            Kind::ForcedOrOff(field) => {
                (field.get)(config).map_or_else(off, |forced| word_for(Forced::WORDS, &forced))
            }
        }
    }

    /// Whether its value can be used; the error is what was expected instead.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let span = |duration: Duration| {
            let valid = !duration.is_zero() && duration <= DURATION_MAX;
            valid.then_some(()).ok_or("expected a duration longer than zero and up to 24h")
        };
        match &self.kind {
            Kind::Span(field) => span(*(field.get)(config))?,
            Kind::SpanOrZero(field) => {
                if *(field.get)(config) > DURATION_MAX {
                    return Err("expected a duration up to 24h".into());
                }
            }
            Kind::SpanOrOff(field) => (field.get)(config).map_or(Ok(()), span)?,
            Kind::Ping(field) => match *(field.get)(config) {
                PingInterval::Every(interval) => span(interval)?,
                PingInterval::ResponseTimeout | PingInterval::Off => {}
            },
            Kind::Size(field, range) => {
                let (least, most) = (units::show_size(*range.start()), *range.end());
                if !range.contains((field.get)(config)) {
                    return Err(format!("expected a size from {least} to {most} bytes"));
                }
            }
            Kind::Entries(field, range) => {
                if !range.contains((field.get)(config)) {
                    return Err(number_advice(range));
                }
            }
            Kind::Count(field, range) => {
                if !range.contains((field.get)(config)) {
                    return Err(number_advice(range));
                }
            }
            Kind::ClientName(field) => {
                let name = (field.get)(config).as_deref().unwrap_or("-");
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err("expected printable ASCII without spaces".into());
                }
            }
            Kind::CountOrOff(_)
            | Kind::Flag(_)
            | Kind::Protocol(_)
            | Kind::MaybeRetry(_)
            | Kind::Publish(_)
            | Kind::ForcedOrOff(_) => {}
        }
        Ok(())
    }
}

fn number_advice<T: std::fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("expected a number from {} to {}", range.start(), range.end())
}

fn word<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, String> {
    let known = words.iter().find(|(word, _)| *word == text);
    known.map(|(_, choice)| *choice).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("expected one of {}", all.join(", "))
    })
}

fn word_for<T: PartialEq>(words: &[(&str, T)], choice: &T) -> String {
    let known = words.iter().find(|(_, each)| each == choice);
    known.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

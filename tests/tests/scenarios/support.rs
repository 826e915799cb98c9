//! What scenarios have in common: short time limits, questions about sources, a look at events.

use std::time::{Duration, Instant};

use unfazed_core::{
    Config, Failure,
    commands::prelude::*,
    config::ProtocolChoice,
    engine::{Event, Health},
    failure::{Executed, FailureKind, MemoryRefusal},
    fallback::{Fallback, Policy},
    handle::Views,
    reply::Sourced,
    resp::{Source, Value},
};
use unfazed_tests::{Close, Fault, Proxy, Raw, RawReply, eventually};

use crate::adapters::{Adapter, EventSource};

/// How long what must happen may take on a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How much later than promised something may end on a machine that does much else. It is less than
/// the deadline that requests have by default, so that what was in time is told from what was not.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// A `response_timeout` that keeps a test short.
pub(crate) const SILENCE: Duration = Duration::from_millis(600);

pub(crate) const PROTOCOLS: [ProtocolChoice; 2] = [ProtocolChoice::Resp2, ProtocolChoice::Resp3];

/// A client's configuration for a port of this machine.
pub(crate) fn at(port: u16) -> Config {
    Config::standalone("127.0.0.1", port)
}

/// The same, with everything about outages shorter than by default.
pub(crate) fn quick(port: u16) -> Config {
    at(port)
        .response_timeout(SILENCE)
        .connect_timeout(Duration::from_secs(1))
        .dial_backoff_max(Duration::from_millis(100))
        .probe_interval(Duration::from_millis(100))
        .probe_interval_max(Duration::from_millis(400))
        .probe_gap(Duration::from_millis(20))
        .barrier_max(Duration::from_millis(50))
}

/// Each policy, with the prefix of the keys that are under it.
pub(crate) const POLICIES: [(&str, Policy); 4] = [
    ("discard:", Policy::Discard),
    ("cache:", Policy::Invalidate),
    ("session:", Policy::ReplayLastWins),
    ("count:", Policy::MergeDelta),
];

/// The same client, with keys under each policy.
pub(crate) fn every_policy(config: Config) -> Config {
    POLICIES.iter().fold(config, |config, (prefix, policy)| {
        config.fallback(Fallback::memory(format!("{prefix}*"), *policy))
    })
}

/// Cuts a client off from its server, which others can reach, until it is judged down.
#[track_caller]
pub(crate) fn cut<A: Adapter>(proxy: &Proxy, client: &A::Client) {
    proxy.set(Fault::Refuse);
    proxy.close_all(Close::Fin);
    until_health::<A>(client, Health::Degraded);
}

/// Heals the network and waits until the client is back.
#[track_caller]
pub(crate) fn mend<A: Adapter>(proxy: &Proxy, client: &A::Client) {
    proxy.set(Fault::None);
    until_health::<A>(client, Health::Live);
}

/// What is at a key, as one line: `-` for nothing, `text`, `[list items]`, `{set members}`,
/// `{field=value}`, `(member:score)`, and ` ttl` behind it where it expires, ` ?` where nobody
/// knows whether it does.
#[track_caller]
pub(crate) fn contents(
    mut send: impl FnMut(&[&str]) -> Result<Value, Failure>,
    key: &str,
) -> String {
    let time_to_live = send(&["PTTL", key]);
    let mut ask = |words: &[&str]| {
        let reply = send(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let mut flat = Vec::new();
        flatten(&reply, &mut flat);
        flat
    };
    let kind = ask(&["TYPE", key]).concat();
    let pairs = |items: Vec<String>, sign: &str| -> Vec<String> {
        items.chunks(2).map(|pair| pair.join(sign)).collect()
    };
    let sorted = |mut items: Vec<String>| {
        items.sort();
        items.join(" ")
    };
    let value = match kind.as_str() {
        "none" => return "-".to_owned(),
        "string" => ask(&["GET", key]).concat(),
        "list" => format!("[{}]", ask(&["LRANGE", key, "0", "-1"]).join(" ")),
        "set" => format!("{{{}}}", sorted(ask(&["SMEMBERS", key]))),
        "hash" => format!("{{{}}}", sorted(pairs(ask(&["HGETALL", key]), "="))),
        "zset" => {
            format!("({})", pairs(ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]), ":").join(" "))
        }
        other => panic!("{key} is a {other}"),
    };
    match time_to_live {
        Ok(Value::Integer(-1)) => value,
        Ok(Value::Integer(_)) => value + " ttl",
        Ok(other) => panic!("PTTL {key}: {other:?}"),
        Err(failure) => {
            let unknown = matches!(failure.kind(), FailureKind::Memory(MemoryRefusal::Unseen));
            assert!(unknown, "PTTL {key}: {failure}");
            value + " ?"
        }
    }
}

fn flatten(value: &Value, onto: &mut Vec<String>) {
    match value {
        Value::Simple(text) | Value::Bulk(text) => {
            onto.push(String::from_utf8_lossy(text).into_owned());
        }
        Value::Integer(number) => onto.push(number.to_string()),
        Value::Double(number) => onto.push(number.to_string()),
        Value::Null => {}
        Value::Array(items) | Value::Set(items) => {
            items.iter().for_each(|item| flatten(item, onto));
        }
        Value::Map(pairs) => {
            pairs.iter().flat_map(|(a, b)| [a, b]).for_each(|item| flatten(item, onto));
        }
        other => panic!("{other:?}"),
    }
}

/// What a server answered, as the client's own type.
#[track_caller]
pub(crate) fn raw_value(reply: RawReply) -> Value {
    match reply {
        RawReply::Simple(text) => Value::Simple(text.into()),
        RawReply::Error(text) => panic!("{text}"),
        RawReply::Int(number) => Value::Integer(number),
        RawReply::Bulk(text) => Value::Bulk(text.into()),
        RawReply::Null => Value::Null,
        RawReply::Array(items) => Value::Array(items.into_iter().map(raw_value).collect()),
    }
}

/// GET, with the source of the answer.
pub(crate) fn get<A: Adapter>(
    client: &A::Client,
    key: &str,
) -> Result<Sourced<Option<String>>, Failure> {
    A::wait(client.sourced().get(key))
}

/// Reads a key, and checks what is there and who said so.
#[track_caller]
pub(crate) fn check_get<A: Adapter>(
    client: &A::Client,
    key: &str,
    there: Option<&str>,
    by: Source,
) {
    let Sourced { value, source, .. } = get::<A>(client, key).expect("answered");
    assert_eq!((value.as_deref(), source), (there, by), "{key}");
}

/// Why memory did not do it.
#[track_caller]
pub(crate) fn refusal<T>(outcome: Result<T, Failure>) -> MemoryRefusal {
    let failure = failure(outcome);
    assert_eq!(failure.executed(), Executed::No, "{failure}");
    match failure.kind() {
        FailureKind::Memory(refusal) => refusal.clone(),
        _ => panic!("{failure}"),
    }
}

/// Waits until the client stands like this with its server.
#[track_caller]
pub(crate) fn until_health<A: Adapter>(client: &A::Client, health: Health) {
    eventually(&format!("the client to be {health}"), LIMIT, || {
        (A::status(client).health == health).then_some(())
    });
}

/// The failure of a request that must not succeed.
#[track_caller]
pub(crate) fn failure<T>(result: Result<T, Failure>) -> Failure {
    match result {
        Ok(_) => panic!("it must fail"),
        Err(failure) => failure,
    }
}

#[track_caller]
pub(crate) fn assert_lost_maybe<T>(result: Result<T, Failure>) {
    let failure = failure(result);
    assert!(matches!(failure.kind(), FailureKind::ConnectionLost(_)), "{failure}");
    assert_eq!(failure.executed(), Executed::Maybe, "{failure}");
}

/// Everything that happened so far to how the client stands, as pairs of before and after.
pub(crate) struct Changes {
    source: EventSource,
    all: Vec<Event>,
}

impl Changes {
    pub(crate) fn of<A: Adapter>(client: &A::Client) -> Self {
        Changes { source: A::events(client), all: Vec::new() }
    }

    /// All events so far.
    pub(crate) fn events(&mut self) -> &[Event] {
        self.all.extend((self.source)());
        &self.all
    }

    /// All changes of health so far; each begins where the one before it ended.
    #[track_caller]
    pub(crate) fn health(&mut self) -> Vec<(Health, Health)> {
        let changes = self.events().iter().filter_map(|event| match event {
            Event::HealthChanged { from, to, .. } => Some((*from, *to)),
            _ => None,
        });
        let changes: Vec<_> = changes.collect();
        for pair in changes.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "each change once, in order: {changes:?}");
        }
        assert!(changes.iter().all(|(from, to)| from != to), "{changes:?}");
        changes
    }

    /// How often the client was judged down, and how often it recovered.
    #[track_caller]
    fn trips_and_returns(&mut self) -> (usize, usize) {
        let changes = self.health();
        let count = |wanted: fn(&(Health, Health)) -> bool| {
            changes.iter().filter(|change| wanted(change)).count()
        };
        (
            count(|(from, to)| *to == Health::Degraded && *from != Health::Recovering),
            count(|(from, to)| *from == Health::Recovering && *to == Health::Live),
        )
    }

    /// Waits until the client says that it was judged down this often and recovered that often. It
    /// says so a moment after it acts so.
    #[track_caller]
    pub(crate) fn expect(&mut self, trips: usize, returns: usize) {
        eventually("as many changes of health", LIMIT, || {
            let (trips_now, returns_now) = self.trips_and_returns();
            let enough = trips_now >= trips && returns_now >= returns;
            assert!(trips_now <= trips && returns_now <= returns, "{:?}", self.all);
            enough.then_some(())
        });
    }

    /// Waits until there are as many events of this kind, and checks that there are not more.
    #[track_caller]
    pub(crate) fn expect_some(&mut self, count: usize, wanted: fn(&Event) -> bool) {
        eventually("as many such events", LIMIT, || {
            let found = self.events().iter().filter(|event| wanted(event)).count();
            assert!(found <= count, "{:?}", self.all);
            (found == count).then_some(())
        });
    }
}

/// How many connections a server has besides the one that asks.
pub(crate) fn others_on(witness: &mut Raw) -> usize {
    let RawReply::Bulk(list) = witness.cmd(&["CLIENT", "LIST"]) else { panic!("no list") };
    list.iter().filter(|&&byte| byte == b'\n').count() - 1
}

/// Runs this and says how long it took.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = act();
    (result, start.elapsed())
}

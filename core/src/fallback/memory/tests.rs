//! Whatever is asked of memory, by whomever, and whatever a server says: it keeps its bounds, and its
//! parts agree.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::{
    config::Config,
    fallback::{Fallback, script::NativeRun},
    resp::{Reply, Value},
};

const KEYS: [&str; 6] = ["a", "b", "merge:a", "replay:a", "miss:a", "stale:a"];

/// Commands of every kind, `K` and `J` for keys; some make no sense.
const COMMANDS: &[&str] = &[
    "GET K",
    "GETEX K PX 5",
    "MGET K J",
    "HGETALL K",
    "SMEMBERS K",
    "LRANGE K 0 -1",
    "ZRANGE K 0 -1 WITHSCORES",
    "SET K 1",
    "SET K x PX 700",
    "SET K x KEEPTTL",
    "SET K x XX GET",
    "SET K x NX GET",
    "SET K x EX 9223372036854775807",
    "SET K x PXAT 9223372036854775807",
    "SETNX K 1",
    "MSET K 1 J 2",
    "MSET K",
    "MSETNX K 1 J 2",
    "GETSET K 2",
    "GETDEL K",
    "INCR K",
    "DECRBY K -9223372036854775808",
    "INCRBY K 9223372036854775807",
    "INCRBYFLOAT K 0.5",
    "INCRBYFLOAT K 1e4932",
    "APPEND K xyz",
    "SETRANGE K 3 y",
    "SETRANGE K 536870911 y",
    "SETBIT K 7 1",
    "BITFIELD K INCRBY u8 0 255",
    "BITOP AND K J K",
    "DEL K J",
    "DEL K K",
    "UNLINK K",
    "EXPIRE K 1",
    "EXPIRE K -1",
    "PEXPIRE K 400 GT",
    "PEXPIREAT K 1",
    "PERSIST K",
    "TTL K",
    "EXPIRETIME K",
    "RENAME K J",
    "RENAME K K",
    "RENAMENX K J",
    "COPY K J",
    "COPY K J REPLACE",
    "HSET K f 1 g 2",
    "HSET K f",
    "HINCRBY K f 9223372036854775807",
    "HINCRBYFLOAT K f 0.1",
    "HDEL K f g",
    "HSETNX K f 9",
    "HEXPIRE K 1 FIELDS 1 f",
    "HTTL K FIELDS 1 f",
    "HGETDEL K FIELDS 1 f",
    "HPERSIST K FIELDS 1 f",
    "LPUSH K a b",
    "RPUSH K c",
    "LPUSHX K a",
    "LPOP K",
    "RPOP K 2",
    "LREM K 0 a",
    "LTRIM K 1 -1",
    "LINSERT K BEFORE a z",
    "LSET K 0 q",
    "LMOVE K J LEFT RIGHT",
    "RPOPLPUSH K K",
    "LMPOP 2 K J LEFT",
    "LMPOP 99 K LEFT",
    "SADD K a b",
    "SREM K a",
    "SPOP K",
    "SMOVE K J a",
    "SUNIONSTORE K J K",
    "SDIFFSTORE K J",
    "ZADD K 1 a",
    "ZADD K NX 1 a",
    "ZADD K GT CH 2 a",
    "ZADD K INCR inf a",
    "ZINCRBY K -inf a",
    "ZINCRBY K 5e-324 a",
    "ZREM K a",
    "ZPOPMIN K",
    "ZUNIONSTORE K 2 J K",
    "ZUNIONSTORE K 2 J",
    "ZRANGESTORE K J 0 -1",
    "SORT K",
    "SORT K BY w:* GET #",
    "SORT K ALPHA STORE J",
    "KEYS *",
    "SCAN 0",
    "DBSIZE",
    "RANDOMKEY",
    "FLUSHALL",
    "XADD K * f v",
    "EVAL x 1 K",
    "TOUCH K J",
    "OBJECT ENCODING K",
    "TYPE K",
    "EXISTS K J",
    "HSCAN K 7",
    "NOSUCH K",
    "BLPOP K 0",
    "SUBSTR K 0 1",
    "STRLEN K",
    "PFADD K a",
    "GEOADD K 1 1 a",
    "DUMP K",
];

fn answers() -> [Value; 12] {
    let bulk = |text: &'static str| Value::Bulk(text.into());
    [
        Value::OK,
        Value::Null,
        Value::Integer(1),
        Value::Integer(-2),
        Value::Integer(i64::MAX),
        bulk("remembered"),
        Value::error("WRONGTYPE no"),
        Value::error("LOADING yes"),
        Value::Array(vec![bulk("f"), bulk("1"), bulk("g")]),
        Value::Array(vec![Value::Array(vec![bulk("m"), Value::Double(f64::NAN)]); 2]),
        Value::Map(vec![(bulk("f"), Value::Map(Vec::new()))]),
        Value::Array(Vec::new()),
    ]
}

fn words<'a>(command: &'a str, key: &'a str, other: &'a str) -> Vec<&'a [u8]> {
    let word = |word: &'a str| match word {
        "K" => key.as_bytes(),
        "J" => other.as_bytes(),
        word => word.as_bytes(),
    };
    command.split(' ').map(word).collect()
}

fn part<'a>(words: &[&'a [u8]]) -> Part<'a> {
    let name = std::str::from_utf8(words[0]).expect("a name");
    let spec = Spec::find(name).unwrap_or(Spec::unknown());
    let spec = words.get(1).and_then(|word| spec.subcommand(word)).unwrap_or(spec);
    Part { spec, effect: spec.effect(), words: words.to_vec() }
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn config(entries: usize, bytes: usize, owed: usize, owed_bytes: usize) -> Config {
    let rules = [
        Fallback::memory("merge:*", Policy::MergeDelta),
        Fallback::memory("replay:*", Policy::ReplayLastWins).allow_if_absent(),
        Fallback::miss("miss:*"),
        Fallback::stale_reads("stale:*", Duration::ZERO),
        Fallback::memory("a", Policy::Discard).max_age(Duration::MAX),
        Fallback::memory("*", Policy::Invalidate),
    ];
    let config = rules.into_iter().fold(Config::memory(), Config::fallback);
    config
        .memory_entries_max(entries)
        .memory_bytes_max(bytes)
        .journal_entries_max(owed)
        .journal_bytes_max(owed_bytes)
}

/// Whether the accounts are true and the bounds are kept.
fn check(memory: &Memory, config: &Config) {
    let limits = &config.memory;
    assert_eq!(memory.written.keys().map(Bytes::len).sum::<usize>(), memory.written_bytes);
    assert!(memory.overlay.len() <= limits.entries_max, "{memory:?}");
    // What is not known as written is never handed back.
    assert!(memory.overlay.len() <= memory.written.len(), "{memory:?}");
    let (_, written) = memory.overlay_size();
    assert!(written <= limits.bytes_max, "{written} of {}", limits.bytes_max);
    assert!(memory.written.len() <= limits.entries_max * WRITTEN_FACTOR);
    let (entries, bytes) = memory.shadow_size();
    assert!(memory.overlay.len() + entries <= limits.entries_max, "{memory:?}");
    assert!(bytes + written <= limits.bytes_max);
    let (entries, bytes) = memory.journal_size();
    assert!(entries <= limits.journal_entries_max && bytes <= limits.journal_bytes_max);
    assert!(memory.blank.is_empty() && memory.journal.sending() <= entries);
}

proptest! {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
    fn it_keeps_its_bounds_whatever_it_is_asked(
        steps in proptest::collection::vec(
            (0..14_u8, 0..COMMANDS.len(), 0..KEYS.len(), 0..KEYS.len(), 0..12_usize, 0..1_500_u64),
            1..120,
        ),
        (entries, bytes, owed, owed_bytes) in (1..5_usize, 1..3_000_usize, 1..5_usize, 1..600_usize),
    ) {
        let config = config(entries, bytes, owed, owed_bytes);
        let mut memory = Memory::new(&config, 7);
        let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1_000) };
        for (step, command, key, other, answer, millis) in steps {
            let command = words(COMMANDS[command], KEYS[key], KEYS[other]);
            let one = part(&command);
            let reply = Reply::from(answers()[answer].clone());
            let (standing, _) = memory.mode_for(one.spec, one.effect, one.args());
            let key: Bytes = KEYS[key].into();
            match step {
                0 => {
                    now.instant += Duration::from_millis(millis);
                    now.unix += Duration::from_millis(millis);
                }
                // The wall clock is set, back or far ahead.
                1 if millis < 100 => now.unix = Duration::from_millis(millis),
                1 if millis > 1_400 => now.unix = Duration::from_secs(253_402_300_799),
                1 => now.unix = now.unix.saturating_sub(Duration::from_secs(millis)),
                2 | 3 if reply.is_error() => memory.unlearn(one.spec, &encoded(&command), now),
                2 | 3 => memory.observe(one.spec, &encoded(&command), &reply, now),
                4 => {
                    let commands = [part(&command), part(&[b"SET", &key, b"7"]), part(&[b"GET", &key])];
                    let (standing, _) = memory.mode_for_all(&commands);
                    if !standing.waits() && standing != Standing::Fail {
                        drop(memory.answer_all(&commands, standing, now));
                    }
                }
                5 => {
                    let other_data = millis > 700;
                    for key in memory.next_owed(2, |_| true) {
                        drop(memory.begin(&key, other_data, now));
                    }
                }
                6 => {
                    if let Some(sending) = memory.journal.sending_mut(&key)
                        && sending.names.len() == 1
                        && matches!(sending.names[0], "EXISTS" | "PTTL")
                    {
                        memory.put_back(&key);
                        drop(memory.go_on(&key, &reply, now));
                    }
                }
                7 => match memory.answered(&key, &reply) {
                    Answered::Partly => {}
                    Answered::Paid => memory.settled(&key, now),
                    Answered::Refused(_) if millis > 700 => memory.put_last(&key),
                    Answered::Refused(_) => drop(memory.unanswered(&key)),
                },
                8 if millis < 300 => memory.hand_back(now, |_| true),
                8 if millis > 1_400 => memory.drop_shadow(now, |_| true),
                9 if !standing.waits() && standing != Standing::Fail => {
                    let call = [&b"EVAL"[..], b"x", b"2", &key, KEYS[other].as_bytes()];
                    let call = part(&call);
                    let (standing, _) = memory.mode_for(call.spec, call.effect, call.args());
                    if standing.waits() {
                        continue;
                    }
                    if let Ok(lent) = memory.lend_to_script(call.spec, standing, call.args(), 1, now) {
                        let run: Vec<Vec<u8>> = command.iter().map(|word| word.to_vec()).collect();
                        let function = std::sync::Arc::new(
                            move |store: &mut crate::fallback::ScriptStore, _: &[&[u8]], _: &[&[u8]]| {
                                store.execute(&run)
                            },
                        );
                        let done = NativeRun::new(1, function, call.spec, &call.words, lent).run();
                        if done.result.is_ok() {
                            drop(memory.take_from_script(standing, &done.store, now));
                        }
                    }
                }
                _ if standing.waits() || standing == Standing::Fail => {}
                _ => drop(memory.answer(one.spec, standing, &command, now)),
            }
            check(&memory, &config);
        }
        memory.clear();
        prop_assert_eq!((memory.overlay_size(), memory.shadow_size(), memory.journal_size()),
            ((0, 0), (0, 0), (0, 0)));
    }
}

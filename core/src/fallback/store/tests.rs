//! What the store promises beyond single replies, which `core/tests/store` holds to a server.

mod collections;

use std::time::{Duration, Instant, SystemTime};

use super::list::{End, List};
use super::types::Collection;
use super::*;
use crate::fallback::keyed::Keyed;
use crate::resp::Value;

mod ordered;

/// A store and its clock.
struct World {
    store: Store,
    now: Now,
}

impl World {
    fn new() -> Self {
        Self::bounded(usize::MAX, usize::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from a number")]
    fn bounded(entries_max: usize, bytes_max: usize) -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000);
        let now = Now::new(Instant::now(), wall);
        World { store: Store::new(1, Bounds { entries_max, bytes_max }), now }
    }

    /// Runs a command whose arguments hold no spaces.
    fn run(&mut self, command: &str) -> Answer {
        let args: Vec<_> = command.split(' ').map(str::as_bytes).collect();
        self.store.execute(&args, self.now)
    }

    /// Runs a command and says its reply in short.
    fn say(&mut self, command: &str) -> String {
        match self.run(command) {
            Answer::Reply(value) => text(&value),
            Answer::Full(_) => "full".to_owned(),
            Answer::Unsupported => "unsupported".to_owned(),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    fn jump_back(&mut self, millis: u64) {
        self.now.unix -= Duration::from_millis(millis);
    }

    /// All that commands can tell apart.
    fn state(&mut self) -> Vec<(Bytes, String, Option<u64>)> {
        let mut keys: Vec<_> = self.store.keys(self.now).cloned().collect();
        keys.sort();
        let tell = |key: Bytes| {
            let entry = self.store.peek(&key, self.now).expect("a key that was just named");
            let (kind, expires_at) = (entry.type_name(), entry.expires_at());
            (key.clone(), self.contents(kind, &key), expires_at)
        };
        keys.into_iter().map(tell).collect()
    }

    fn contents(&mut self, kind: &str, key: &[u8]) -> String {
        let mut ask = |words: &[&[u8]]| match self.store.execute(words, self.now) {
            Answer::Reply(value) => value,
            other => panic!("{other:?}"),
        };
        let told = match kind {
            "string" => ask(&[b"GET", key]),
            "list" => ask(&[b"LRANGE", key, b"0", b"-1"]),
            "set" => ask(&[b"SMEMBERS", key]),
            "hash" => ask(&[b"HGETALL", key]),
            _ => ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        };
        let mut parts = vec![format!("{told:?}")];
        if let Value::Map(fields) = told {
            for (name, _) in fields {
                let Value::Bulk(name) = name else { panic!("a name is a bulk string") };
                let deadline = ask(&[b"HPEXPIRETIME", key, b"FIELDS", b"1", &name]);
                parts.push(format!("{name:?}: {deadline:?}"));
            }
        }
        parts.join(", ")
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Simple(bytes) | Value::Bulk(bytes) | Value::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Value::Integer(number) => number.to_string(),
        Value::Null => "null".to_owned(),
        Value::Array(values) | Value::Set(values) => {
            values.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn an_entry_is_there_at_its_last_millisecond_and_gone_after_it() {
    let mut world = World::new();
    world.say("SET k v PX 10");
    world.pass(10);
    assert_eq!(world.say("GET k"), "v");
    world.pass(1);
    assert_eq!(world.say("GET k"), "null");
}

#[test]
fn an_expired_entry_is_absent_to_every_command() {
    let commands = [
        ("GET k", "null"),
        ("EXISTS k", "0"),
        ("KEYS *", ""),
        ("DBSIZE", "0"),
        ("RANDOMKEY", "null"),
        ("TYPE k", "none"),
        ("TTL k", "-2"),
        ("PERSIST k", "0"),
        ("EXPIRE k 10", "0"),
        ("DEL k", "0"),
        ("STRLEN k", "0"),
        ("GETRANGE k 0 -1", ""),
        ("APPEND k x", "1"),
        ("INCR k", "1"),
        ("SETNX k x", "1"),
        ("SET k x XX", "null"),
        ("SET k x GET", "null"),
        ("SET k x KEEPTTL", "OK"),
        ("RENAME k other", "ERR no such key"),
        ("COPY k other", "0"),
        ("MGET k", "null"),
    ];
    for (command, expected) in commands {
        let mut world = World::new();
        // So many are due that no single command takes all of them away.
        for number in 0..100 {
            world.say(&format!("SET first{number} v PX 1"));
        }
        world.say("SET k v PX 5");
        world.pass(10);
        assert!(!world.store.contains(b"k", world.now));
        assert_eq!(world.store.keys(world.now).count(), 0);
        assert_eq!(world.say(command), expected, "{command}");
        let lives = world.store.peek(b"k", world.now).map(|entry| entry.expires_at());
        assert!(matches!(lives, None | Some(None)), "{command} kept the old expiry");
    }
}

#[test]
fn the_room_of_expired_entries_comes_back_without_anyone_asking_for_them() {
    let mut world = World::new();
    for number in 0..100 {
        world.say(&format!("SET k{number} v PX 1"));
    }
    world.pass(10);
    for _ in 0..7 {
        world.say("PING");
    }
    assert_eq!((world.store.len(), world.store.bytes()), (0, 0));
}

#[test]
fn a_clock_that_jumps_back_lengthens_lives_and_does_no_harm() {
    let mut world = World::new();
    world.say("SET k v PX 10");
    world.jump_back(1_000);
    assert_eq!(world.say("PTTL k"), "1010");
    world.jump_back(999_000);
    assert_eq!(world.now.unix_millis(), 0);
    assert_eq!(world.say("GET k"), "v");
    assert_eq!(world.say("TIME"), "0 0");
}

#[test]
fn a_write_beyond_the_bounds_is_refused_and_changes_nothing() {
    let mut world = World::bounded(3, 3 * ENTRY_BYTES + 14);
    for command in ["SET a aaa EX 100", "SET b 99", "SET c cc"] {
        assert_eq!(world.say(command), "OK");
    }
    let before = (world.state(), world.store.bytes());
    let refused = [
        "SET d d",
        "SET a aaaaaaaa",
        "SET a aaaaaaaa GET",
        "APPEND a aaaaaaaa",
        "SETRANGE a 7 x",
        "SETRANGE d 500000000 x",
        "MSET a 1 d 1",
        "MSETNX d 1 e 1",
        "INCR d",
        "INCRBY b 9000000000",
        "INCRBYFLOAT b 0.123456789",
        "GETSET a aaaaaaaa",
        "SETEX d 10 x",
        "SETNX d x",
        "COPY a d",
        "RENAME a longername",
        "RENAMENX a longername",
    ];
    for command in refused {
        assert_eq!(world.say(command), "full", "{command}");
        assert_eq!((world.state(), world.store.bytes()), before, "{command}");
    }
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(world.run("SET d d"), Answer::Full(Value::error(oom)));
    assert_eq!(world.store.insert_string(b"d", "x".into(), None, world.now), Err(Full));
    assert_eq!(world.say("SET a xyz"), "OK", "what takes no more still goes");
    assert_eq!(world.say("RENAME a d"), "OK");
    assert_eq!(world.say("MSET b 1 b 2"), "OK", "the last value of a key is what counts");
}

#[test]
fn expired_entries_make_room() {
    let mut world = World::bounded(100, usize::MAX);
    for number in 0..100 {
        world.say(&format!("SET k{number} v PX 1"));
    }
    world.pass(10);
    let pairs: String = (0..100).map(|number| format!(" new{number} v")).collect();
    assert_eq!(world.say(&format!("MSET{pairs}")), "OK");
    assert_eq!(world.store.len(), 100);
}

#[test]
fn a_string_may_not_grow_beyond_its_limit() {
    let mut world = World::new();
    let error = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(world.say("SETRANGE k 536870912 x"), error);
    assert_eq!(world.say("SETRANGE k 9223372036854775807 x"), error);
    assert!(world.store.is_empty());
}

#[test]
fn a_command_on_another_type_is_refused_and_changes_nothing() {
    let commands = [
        "GET k",
        "GETDEL k",
        "GETSET k v",
        "GETEX k PERSIST",
        "SET k v GET",
        "STRLEN k",
        "APPEND k v",
        "SETRANGE k 0 v",
        "GETRANGE k 0 1",
        "INCR k",
        "INCRBYFLOAT k 1",
    ];
    let mut world = World::new();
    let mut list = List::new(Keyed::new(1));
    list.push(End::Tail, "item".into());
    let entry = Entry { data: list.into_data(), expires_at: Some(2_000_000) };
    world.store.insert(b"k", entry, world.now).unwrap();
    for command in commands {
        assert!(world.say(command).starts_with("WRONGTYPE "), "{command}");
        assert_eq!(world.say("TYPE k"), "list");
        assert_eq!(world.say("PEXPIRETIME k"), "2000000");
    }
    assert_eq!(world.say("MGET k"), "null");
    assert_eq!(world.say("SET k v"), "OK");
    assert_eq!(world.say("TYPE k"), "string");
}

#[test]
fn a_command_of_redis_that_is_not_here_is_told_from_one_of_nobody() {
    let mut world = World::new();
    assert_eq!(world.run("xadd k * f v"), Answer::Unsupported);
    let error = "ERR unknown command 'NoSuch', with args beginning with: 'a' 'b' ";
    assert_eq!(world.say("NoSuch a b"), error);
    assert!(Store::supports(b"IncrByFloat"));
    assert!(!Store::supports(b"XADD") && !Store::supports(b""));
}

#[test]
fn an_entry_is_borrowed_with_its_expiry() {
    let (mut shadow, mut overlay) = (World::new(), World::new());
    shadow.store.insert_string(b"k", "v".into(), Some(1_000_050), shadow.now).unwrap();
    assert!(overlay.store.borrow_from(&shadow.store, b"k", overlay.now));
    assert!(!overlay.store.borrow_from(&shadow.store, b"other", overlay.now));
    assert_eq!(overlay.say("APPEND k w"), "2");
    assert_eq!(overlay.say("PTTL k"), "50");
    assert_eq!(shadow.say("GET k"), "v", "changing the copy leaves the original");
    assert!(shadow.store.remove(b"k", shadow.now) && !shadow.store.remove(b"k", shadow.now));
    overlay.pass(51);
    let mut late = World::new();
    late.now = overlay.now;
    assert!(!late.store.borrow_from(&overlay.store, b"k", late.now));
}

#[test]
fn an_entry_keeps_its_expiry_when_it_changes_key_or_value_in_place() {
    let mut world = World::new();
    world.say("SET a 1 PX 500");
    for command in ["INCR a", "APPEND a 1", "SETRANGE a 0 5", "INCRBYFLOAT a 0.5"] {
        world.say(command);
        assert_eq!(world.say("PTTL a"), "500", "{command}");
    }
    world.say("COPY a b");
    world.say("RENAME b c");
    assert_eq!(world.say("PTTL c"), "500");
    world.pass(501);
    assert_eq!(world.say("EXISTS a b c"), "0");
}

#[test]
fn the_same_seed_and_calls_give_the_same_order() {
    let order = |seed| {
        let mut world = World::new();
        world.store = Store::new(seed, Bounds::NONE);
        for number in 0..50 {
            world.say(&format!("SET k{number} v"));
        }
        world.say("DEL k7 k3");
        world.say("KEYS *")
    };
    assert_eq!(order(1), order(1));
    assert_eq!(order(1), order(2), "not even the seed shows");
}

#[test]
fn debug_shows_no_key_and_no_value() {
    let mut world = World::new();
    world.say("SET secretkey secretvalue");
    assert!(!format!("{:?}", world.store).contains("secret"));
}

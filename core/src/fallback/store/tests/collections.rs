//! Hashes and sets: bounds, account, expiry of fields, and scans while all of it changes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_write_to_a_collection_beyond_the_bounds_is_refused_and_changes_nothing() {
    // Room for what is there, and one byte more.
    let hash = COLLECTION_BYTES + 2 * HASH_FIELD_BYTES + 7;
    let set = COLLECTION_BYTES + 2 * SET_MEMBER_BYTES + 4;
    let other = COLLECTION_BYTES + SET_MEMBER_BYTES + 2;
    let bytes_max = 3 * (ENTRY_BYTES + 1) + hash + set + other + 1;
    let mut world = World::bounded(3, bytes_max);
    for command in ["HSET h f 1 g abcd", "SADD s aa bb", "SADD t cc", "HPEXPIRE h 999 FIELDS 1 f"] {
        assert_ne!(world.say(command), "full", "{command}");
    }
    assert_eq!(world.store.bytes(), bytes_max - 1);
    let before = world.state();
    let refused = [
        "HSET h new 1",
        "HSET h f 123",
        "HSET h f 1 g abcdefg",
        "HSET new f 1",
        "HMSET h f 123",
        "HSETNX h new 1",
        "HSETNX new f 1",
        "HINCRBY h f 1000",
        "HINCRBY h new 1",
        "HINCRBY new f 1",
        "HINCRBYFLOAT h f 0.25",
        "HINCRBYFLOAT h new 1",
        "HSETEX h FIELDS 1 f 123",
        "HSETEX h EX 100 FIELDS 1 new 1",
        "HSETEX h KEEPTTL FIELDS 2 f 12 g abcdef",
        "HSETEX new FIELDS 1 f 1",
        "SADD s cc",
        "SADD s aa cc",
        "SADD new aa",
        "SMOVE s new aa",
        "SMOVE s longerkey aa",
        "SUNIONSTORE t s t",
        "SUNIONSTORE new s",
        "SINTERSTORE new s s",
        "SDIFFSTORE new s t",
        "SDIFFSTORE t s",
        "COPY s new",
        "COPY s t REPLACE",
        "RENAME s longer",
        "RENAMENX h longer",
    ];
    for command in refused {
        assert_eq!(world.say(command), "full", "{command}");
        assert_eq!(world.state(), before, "{command}");
        assert_eq!(world.store.bytes(), bytes_max - 1, "{command}");
        world.store.keyspace.check();
    }
    let accepted = [
        ("HSET h g ab f 123", "0"),
        ("HSET h f 1 f 12 f 3", "0"),
        ("HINCRBY h f 90", "93"),
        ("SADD s aa bb aa", "0"),
        ("SMOVE t n cc", "1"),
        ("SMOVE n t cc", "1"),
        ("SMOVE t s cc", "1"),
        ("SMOVE s t cc", "1"),
        ("SMOVE s t aa", "1"),
        ("SINTERSTORE s s t", "0"),
        ("SREM t cc", "1"),
        ("SUNIONSTORE s t t t", "1"),
        ("RENAME s u", "OK"),
        ("SREM u aa", "1"),
        ("SADD u dd dd dd", "1"),
    ];
    for (command, expected) in accepted {
        assert_eq!(world.say(command), expected, "{command}");
        world.store.keyspace.check();
    }
}

#[test]
fn what_comes_twice_in_a_command_takes_room_once() {
    let member = ENTRY_BYTES + 1 + COLLECTION_BYTES + SET_MEMBER_BYTES + 3;
    let mut world = World::bounded(9, member);
    assert_eq!(world.say("SADD s abc abc abc"), "1");
    assert_eq!(world.store.bytes(), member);
    let field = ENTRY_BYTES + 1 + COLLECTION_BYTES + HASH_FIELD_BYTES + 3;
    let mut world = World::bounded(9, field);
    assert_eq!(world.say("HSET h f much-too-long f x f ab"), "1");
    assert_eq!(world.say("HSETEX h EX 10 FIELDS 2 f much-too-long f cd"), "1");
    assert_eq!(world.store.bytes(), field);
}

#[test]
fn expired_fields_make_room() {
    let bytes = ENTRY_BYTES + 1 + COLLECTION_BYTES + 2 * (HASH_FIELD_BYTES + 2);
    let mut world = World::bounded(1, bytes);
    assert_eq!(world.say("HSETEX h PX 10 FIELDS 2 a 1 b 2"), "1");
    assert_eq!(world.say("HSET h c 3"), "full");
    assert_eq!(world.say("SADD s x"), "full");
    world.pass(11);
    assert_eq!(world.say("SADD s x"), "1");
    assert_eq!(world.say("EXISTS h"), "0");
}

#[test]
fn the_room_of_expired_fields_comes_back_without_anyone_asking_for_them() {
    let mut world = World::new();
    world.say("HSET h stays 1");
    let bytes = world.store.bytes();
    for number in 0..100 {
        world.say(&format!("HSETEX h PX 1 FIELDS 1 f{number} v"));
        world.say(&format!("HSETEX h{number} PX 1 FIELDS 1 f v"));
    }
    world.pass(10);
    for _ in 0..13 {
        world.say("PING");
    }
    assert_eq!((world.store.len(), world.store.bytes()), (1, bytes));
    world.store.keyspace.check();
}

#[test]
fn a_hash_whose_last_field_has_expired_is_absent_to_every_command() {
    let commands = [
        ("EXISTS h", "0"),
        ("TYPE h", "none"),
        ("KEYS *", ""),
        ("SCAN 0 COUNT 100", "0 "),
        ("DBSIZE", "0"),
        ("RANDOMKEY", "null"),
        ("TTL h", "-2"),
        ("OBJECT ENCODING h", "null"),
        ("DEL h", "0"),
        ("RENAME h i", "ERR no such key"),
        ("COPY h i", "0"),
        ("GET h", "null"),
        ("INCR h", "1"),
        ("SADD h m", "1"),
        ("HGETALL h", ""),
        ("HLEN h", "0"),
        ("HSETNX h f v", "1"),
        ("PERSIST h", "0"),
    ];
    for (command, expected) in commands {
        let mut world = World::new();
        // So many are due that no single command takes all of them away.
        for number in 0..40 {
            world.say(&format!("HSETEX first{number} PX 1 FIELDS 1 f v"));
        }
        world.say("HSETEX h PX 5 FIELDS 2 f v g v");
        world.say("EXPIRE h 100");
        world.pass(10);
        assert!(!world.store.contains(b"h", world.now));
        assert_eq!(world.store.keys(world.now).count(), 0);
        assert_eq!(world.say(command), expected, "{command}");
        let lives = world.store.peek(b"h", world.now).map(|entry| entry.expires_at());
        assert!(matches!(lives, None | Some(None)), "{command} kept the old expiry");
        world.store.keyspace.check();
    }
}

#[test]
fn a_field_is_there_at_its_last_millisecond_and_gone_after_it() {
    let mut world = World::new();
    world.say("HSET h f 1 g 2");
    world.say("HPEXPIRE h 10 FIELDS 1 f");
    world.pass(10);
    assert_eq!(world.say("HMGET h f g"), "1 2");
    world.pass(1);
    assert_eq!(world.say("HMGET h f g"), "null 2");
}

#[test]
fn a_copy_shares_nothing_that_either_changes() {
    let mut world = World::new();
    world.say("HSETEX h PX 500 FIELDS 2 f 1 g 2");
    world.say("SADD s a b");
    world.say("COPY h i");
    world.say("COPY s t");
    world.say("HSET i f 9");
    world.say("HPERSIST i FIELDS 1 g");
    world.say("SREM t a");
    assert_eq!(world.say("HGETALL h"), "f=1 g=2");
    assert_eq!(world.say("HPTTL h FIELDS 1 g"), "500");
    assert_eq!(world.say("HGETALL i"), "f=9 g=2");
    assert_eq!(world.say("SMEMBERS s"), "a b");
    world.store.keyspace.check();

    let mut borrower = World::new();
    assert!(borrower.store.borrow_from(&world.store, b"h", borrower.now));
    assert_eq!(borrower.say("HINCRBY h f 1"), "2");
    assert_eq!(world.say("HGET h f"), "1");
    borrower.pass(501);
    assert_eq!(borrower.say("EXISTS h"), "0");
    borrower.store.keyspace.check();
}

#[test]
fn a_command_of_one_type_is_refused_on_another_and_changes_nothing() {
    let of_strings = ["GET", "STRLEN", "INCR", "GETDEL", "GETEX"];
    let of_sets = ["SCARD", "SMEMBERS", "SPOP", "SRANDMEMBER", "SINTER", "SUNION", "SDIFF"];
    let of_hashes = ["HLEN", "HGETALL", "HKEYS", "HVALS", "HRANDFIELD"];
    let longer = [
        ("h", "SADD h m"),
        ("h", "SREM h m"),
        ("h", "SISMEMBER h m"),
        ("h", "SMISMEMBER h m"),
        ("h", "SMOVE h s m"),
        ("h", "SMOVE s h m"),
        ("h", "SINTERCARD 2 none h"),
        ("h", "SINTERSTORE d none h"),
        ("h", "SUNIONSTORE d s h"),
        ("h", "SDIFFSTORE d none h"),
        ("h", "SSCAN h 0"),
        ("s", "HSET s f v"),
        ("s", "HMSET s f v"),
        ("s", "HSETNX s f v"),
        ("s", "HGET s f"),
        ("s", "HMGET s f"),
        ("s", "HDEL s f"),
        ("s", "HEXISTS s f"),
        ("s", "HSTRLEN s f"),
        ("s", "HINCRBY s f 1"),
        ("s", "HINCRBYFLOAT s f 1"),
        ("s", "HSCAN s 0"),
        ("s", "HEXPIRE s 1 FIELDS 1 f"),
        ("s", "HTTL s FIELDS 1 f"),
        ("s", "HPERSIST s FIELDS 1 f"),
        ("s", "HGETDEL s FIELDS 1 f"),
        ("s", "HGETEX s FIELDS 1 f"),
        ("s", "HSETEX s FIELDS 1 f v"),
        ("s", "APPEND s v"),
    ];
    let short = |names: &[&str], keys: &[&str]| -> Vec<(String, String)> {
        let each = |name: &&str| {
            keys.iter().map(|key| ((*key).to_owned(), format!("{name} {key}"))).collect::<Vec<_>>()
        };
        names.iter().flat_map(each).collect()
    };
    let mut commands = short(&of_strings, &["h", "s"]);
    commands.extend(short(&of_sets, &["h", "k"]));
    commands.extend(short(&of_hashes, &["s", "k"]));
    commands.extend(longer.map(|(key, command)| (key.to_owned(), command.to_owned())));
    let mut world = World::new();
    for command in ["HSET h f v", "SADD s m", "SET k v", "PEXPIRE h 500", "PEXPIRE s 500"] {
        world.say(command);
    }
    let before = world.state();
    for (key, command) in commands {
        assert!(world.say(&command).starts_with("WRONGTYPE "), "{command} at {key}");
        assert_eq!(world.state(), before, "{command}");
    }
}

#[test]
fn random_members_follow_the_seed() {
    let said = |seed| {
        let mut world = World::new();
        world.store = Store::new(seed, Bounds::NONE);
        let members: String = (0..50).map(|number| format!(" m{number}")).collect();
        world.say(&format!("SADD s{members}"));
        ["SRANDMEMBER s", "SRANDMEMBER s 9", "SPOP s", "SPOP s 7", "SRANDMEMBER s -20"]
            .map(|command| world.say(command))
    };
    assert_eq!(said(1), said(1));
    assert_ne!(said(1), said(2));
}

#[test]
fn popping_more_than_there_is_leaves_nothing() {
    let mut world = World::new();
    world.say("SADD s a b c");
    let mut popped: Vec<_> = world.say("SPOP s 10").split(' ').map(str::to_owned).collect();
    popped.sort();
    assert_eq!(popped, ["a", "b", "c"]);
    assert_eq!(world.say("EXISTS s"), "0");
    assert_eq!((world.store.len(), world.store.bytes()), (0, 0));
}

#[test]
fn what_would_fill_memory_with_repetitions_is_refused() {
    let mut world = World::new();
    world.say("SADD s a");
    world.say("HSET h f v");
    let error = "ERR value is out of range";
    assert_eq!(world.say("SRANDMEMBER s -9223372036854775807"), error);
    assert_eq!(world.say("HRANDFIELD h -4611686018427387903 WITHVALUES"), error);
    assert_eq!(world.say("SRANDMEMBER s -3"), "a a a");
}

#[test]
fn a_part_of_object_that_is_not_here_says_so() {
    let mut world = World::new();
    world.say("SET k v");
    assert_eq!(world.run("OBJECT IDLETIME k"), Answer::Unsupported);
}

/// A command out of few keys, members and times, so that they meet.
fn commands() -> impl Strategy<Value = String> {
    let key = || "[a-d]";
    let member = || "[1-4]|[mn]|longer-member";
    let time = || 0..40_u32;
    prop_oneof![
        (key(), member(), member()).prop_map(|(k, m, n)| format!("SADD {k} {m} {n}")),
        (key(), member(), member()).prop_map(|(k, m, n)| format!("SREM {k} {m} {n}")),
        (key(), key(), member()).prop_map(|(k, l, m)| format!("SMOVE {k} {l} {m}")),
        (key(), 0..3_u32).prop_map(|(k, n)| format!("SPOP {k} {n}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("SUNIONSTORE {k} {l} {m}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("SDIFFSTORE {k} {l} {m}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("SINTERSTORE {k} {l} {m}")),
        (key(), member(), member()).prop_map(|(k, f, v)| format!("HSET {k} {f} {v}")),
        (key(), member(), member()).prop_map(|(k, f, v)| format!("HSET {k} {f} 1 {v} 2")),
        (key(), member(), member()).prop_map(|(k, f, v)| format!("HSETNX {k} {f} {v}")),
        (key(), member()).prop_map(|(k, f)| format!("HDEL {k} {f}")),
        (key(), member()).prop_map(|(k, f)| format!("HINCRBY {k} {f} 999")),
        (key(), member()).prop_map(|(k, f)| format!("HINCRBYFLOAT {k} {f} 0.125")),
        (key(), time(), member()).prop_map(|(k, t, f)| format!("HPEXPIRE {k} {t} FIELDS 1 {f}")),
        (key(), member()).prop_map(|(k, f)| format!("HPERSIST {k} FIELDS 1 {f}")),
        (key(), member()).prop_map(|(k, f)| format!("HGETDEL {k} FIELDS 1 {f}")),
        (key(), time(), member()).prop_map(|(k, t, f)| format!("HGETEX {k} PX {t} FIELDS 1 {f}")),
        (key(), time(), member(), member())
            .prop_map(|(k, t, f, g)| format!("HSETEX {k} PX {t} FIELDS 2 {f} v {g} w")),
        (key(), member()).prop_map(|(k, f)| format!("HSETEX {k} KEEPTTL FIELDS 1 {f} longer")),
        (key(), time()).prop_map(|(k, t)| format!("PEXPIRE {k} {t}")),
        key().prop_map(|k| format!("PERSIST {k}")),
        (key(), key()).prop_map(|(k, l)| format!("RENAME {k} {l}")),
        (key(), key()).prop_map(|(k, l)| format!("COPY {k} {l} REPLACE")),
        (key(), member()).prop_map(|(k, v)| format!("SET {k} {v}")),
        (key(), key()).prop_map(|(k, l)| format!("DEL {k} {l}")),
    ]
}

proptest! {
    #[test]
    fn parts_and_accounts_agree_and_refusals_change_nothing_whatever_is_called(
        calls in proptest::collection::vec((commands(), 0..12_u64), 1..80),
    ) {
        let bytes_max = 3 * (ENTRY_BYTES + 1 + COLLECTION_BYTES) + 4 * HASH_FIELD_BYTES + 20;
        let mut world = World::bounded(3, bytes_max);
        for (command, millis) in calls {
            world.pass(millis);
            let before = world.state();
            let said = world.say(&command);
            world.store.keyspace.check();
            if ["full", "ERR", "WRONGTYPE"].iter().any(|refused| said.starts_with(refused)) {
                prop_assert_eq!(world.state(), before, "{}", command);
            }
        }
    }

}

proptest! {
    // Each case fills three collections and scans them to the end.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_scan_gives_what_stays_while_entries_and_fields_come_go_and_expire(
        count in 1..40_usize,
        changes in proptest::collection::vec((0..400_u32, 0..4_u8, 0..3_u64), 0..300),
    ) {
        let mut world = World::new();
        // Beyond what would be scanned at once.
        let mut stayed: BTreeSet<_> = (0..200_u32).collect();
        for number in &stayed {
            world.say(&format!("SET {number} v"));
            world.say(&format!("HSET h {number} v"));
            world.say(&format!("SADD s x{number}"));
        }
        let mut given = [const { BTreeSet::new() }; 3];
        let mut cursors = [const { Some(String::new()) }; 3];
        let mut changes = changes.into_iter();
        while cursors.iter().any(Option::is_some) {
            for (place, command) in ["SCAN", "HSCAN h", "SSCAN s"].into_iter().enumerate() {
                let Some(cursor) = &cursors[place] else { continue };
                let cursor = if cursor.is_empty() { "0" } else { cursor };
                let said = world.run(&format!("{command} {cursor} COUNT {count}"));
                let Answer::Reply(Value::Array(reply)) = said else { panic!("{said:?}") };
                let [Value::Bulk(next), Value::Array(found)] = &reply[..] else {
                    panic!("{reply:?}")
                };
                let numbers = found.iter().map(text);
                let numbers = numbers.map(|word| word.trim_start_matches('x').to_owned());
                given[place].extend(numbers.filter_map(|word| word.parse::<u32>().ok()));
                let next = String::from_utf8_lossy(next).into_owned();
                cursors[place] = Some(next).filter(|next| next != "0");
            }
            for (number, what, millis) in changes.by_ref().take(7) {
                world.pass(millis);
                let known = stayed.contains(&number);
                match what {
                    0 if !known => {
                        world.say(&format!("SET {number} v"));
                        world.say(&format!("HSET h {number} v"));
                        world.say(&format!("SADD s x{number}"));
                    }
                    1 => {
                        stayed.remove(&number);
                        world.say(&format!("DEL {number}"));
                        world.say(&format!("HDEL h {number}"));
                        world.say(&format!("SREM s x{number}"));
                    }
                    2 => {
                        stayed.remove(&number);
                        world.say(&format!("PEXPIRE {number} 2"));
                        world.say(&format!("HPEXPIRE h 2 FIELDS 1 {number}"));
                        world.say(&format!("SREM s x{number}"));
                    }
                    // In place, it stays where it is.
                    _ if known => {
                        world.say(&format!("SET {number} w"));
                        world.say(&format!("HSET h {number} longer"));
                        world.say(&format!("SADD s x{number}"));
                    }
                    _ => {}
                }
            }
        }
        for given in given {
            prop_assert!(given.is_superset(&stayed));
        }
        world.store.keyspace.check();
    }
}

//! Lists, sorted sets, SORT and bits: room, expiry, and what becomes of what is left empty.

use super::*;
use proptest::prelude::*;

/// What there is to change: with an expiry, as changes in place must keep it.
const SETUP: &[&str] = &[
    "RPUSH list a b c d",
    "RPUSH other x",
    "ZADD zset 1 a 2 b 3 c 4 d",
    "ZADD more 10 a 20 e",
    "SET string foobar",
    "PEXPIRE list 500",
    "PEXPIRE zset 500",
    "PEXPIRE string 500",
];

impl World {
    /// A world with the values of `SETUP`.
    fn set_up(mut self) -> World {
        SETUP.iter().for_each(|command| drop(self.say(command)));
        self.store.keyspace.check();
        self
    }

    /// A world with the values of `SETUP` and so much room for more.
    fn with_room(entries: usize, bytes: usize) -> World {
        let Store { keyspace } = World::new().set_up().store;
        World::bounded(keyspace.len() + entries, keyspace.bytes() + bytes).set_up()
    }

    fn full() -> World {
        World::with_room(0, 0)
    }
}

#[test]
fn a_write_that_finds_no_room_changes_nothing() {
    let refused = [
        "LPUSH list e",
        "RPUSH list e f",
        "LPUSHX list e",
        "RPUSHX other e",
        "RPUSH new a",
        "LSET list 0 longer",
        "LINSERT list BEFORE b x",
        "LMOVE list new LEFT LEFT",
        "RPOPLPUSH list new",
        "ZADD zset 5 e",
        "ZADD zset 9 a 5 e",
        "ZADD zset INCR 5 e",
        "ZINCRBY zset 5 e",
        "ZADD new 1 a",
        "ZUNIONSTORE more 2 zset more",
        "ZUNIONSTORE new 1 more",
        "ZINTERSTORE new 2 zset more",
        "ZDIFFSTORE more 1 zset",
        "ZRANGESTORE new zset 0 0",
        "ZRANGESTORE more zset 0 -1",
        "SORT list ALPHA STORE new",
        "SORT list ALPHA STORE other",
        "SETBIT string 48 0",
        "SETBIT new 0 1",
        "BITFIELD string SET u8 48 1",
        "BITFIELD string OVERFLOW FAIL INCRBY u2 400000 9",
        "BITFIELD new INCRBY u8 0 1",
        "BITOP NOT new string",
    ];
    for command in refused {
        let mut world = World::full();
        let before = (world.state(), world.store.bytes());
        assert_eq!(world.say(command), "full", "{command}");
        assert_eq!((world.state(), world.store.bytes()), before, "{command}");
        world.store.keyspace.check();
    }
}

#[test]
fn a_write_that_takes_no_more_room_is_never_refused() {
    let done = [
        "LSET list 0 e",
        "LMOVE list list LEFT RIGHT",
        "LMOVE list other LEFT RIGHT",
        "RPOPLPUSH other list",
        "LREM list 1 b",
        "LTRIM list 1 1",
        "LPOP list",
        "LMPOP 1 list RIGHT COUNT 9",
        "ZADD zset 9 a 8 a",
        "ZADD zset XX 9 a 8 nosuch 8 norsuch",
        "ZADD zset XX INCR 9 nosuch",
        "ZINCRBY zset 9 a",
        "ZREM zset a nosuch",
        "ZPOPMIN zset 2",
        "ZMPOP 1 zset MAX",
        "ZREMRANGEBYRANK zset 0 1",
        "ZREMRANGEBYSCORE zset 1 3",
        "ZREMRANGEBYLEX zset - +",
        "ZUNIONSTORE zset 1 more",
        "ZINTERSTORE more 2 zset more",
        "ZRANGESTORE more zset 0 1",
        "SORT more ALPHA LIMIT 1 1 STORE other",
        "SORT list ALPHA STORE list",
        "SETBIT string 47 1",
        "BITFIELD string SET u8 40 1 GET u8 4000",
        "BITOP AND string string",
    ];
    for command in done {
        let mut world = World::full();
        assert_ne!(world.say(command), "full", "{command}");
        assert!(!world.say(command).contains("ERR"), "{command}");
        world.store.keyspace.check();
    }
}

#[test]
fn a_member_named_twice_takes_room_once() {
    let mut world = World::with_room(0, 1 + SORTED_SET_MEMBER_BYTES);
    assert_eq!(world.say("ZADD zset 1 e 2 e 3 e"), "1");
    assert_eq!(world.say("ZADD zset 1 f"), "full");
    world.store.keyspace.check();
}

#[test]
fn a_change_in_place_keeps_the_expiry_and_a_new_value_drops_it() {
    let in_place = [
        ("list", "LPUSH list e"),
        ("list", "RPUSHX list e"),
        ("list", "LPOP list"),
        ("list", "LMPOP 1 list LEFT"),
        ("list", "LSET list 0 longer"),
        ("list", "LINSERT list AFTER b x"),
        ("list", "LREM list 0 a"),
        ("list", "LTRIM list 1 2"),
        ("list", "RPOPLPUSH list list"),
        ("list", "LMOVE other list LEFT LEFT"),
        ("zset", "ZADD zset 9 a 9 e"),
        ("zset", "ZINCRBY zset 1 a"),
        ("zset", "ZREM zset a"),
        ("zset", "ZPOPMAX zset"),
        ("zset", "ZMPOP 1 zset MIN"),
        ("zset", "ZREMRANGEBYRANK zset 0 0"),
        ("string", "SETBIT string 100 1"),
        ("string", "BITFIELD string SET u8 200 1"),
    ];
    for (key, command) in in_place {
        let mut world = World::new().set_up();
        world.say(command);
        assert_eq!(world.say(&format!("PTTL {key}")), "500", "{command}");
        world.pass(501);
        assert_eq!(world.say(&format!("EXISTS {key}")), "0", "{command}");
    }
    let anew = [
        ("zset", "ZUNIONSTORE zset 1 more"),
        ("list", "ZRANGESTORE list zset 0 -1"),
        ("zset", "SORT list ALPHA STORE zset"),
        ("string", "BITOP NOT string string"),
    ];
    for (key, command) in anew {
        let mut world = World::new().set_up();
        world.say(command);
        assert_eq!(world.say(&format!("PTTL {key}")), "-1", "{command}");
    }
}

#[test]
fn what_is_left_empty_goes_away() {
    let emptying = [
        "LPOP list 9",
        "RPOP list 4",
        "LTRIM list 5 1",
        "LMPOP 1 list LEFT COUNT 4",
        "ZREM zset a b c d",
        "ZPOPMIN zset 4",
        "ZMPOP 1 zset MAX COUNT 4",
        "ZREMRANGEBYRANK zset 0 -1",
        "ZREMRANGEBYSCORE zset -inf inf",
        "ZREMRANGEBYLEX zset - +",
        "LMOVE other list LEFT LEFT",
        "RPOPLPUSH other list",
        "LREM other 0 x",
        "ZDIFFSTORE zset 2 zset zset",
        "ZINTERSTORE string 2 zset nosuch",
        "ZRANGESTORE string zset 7 9",
        "SORT nosuch STORE zset",
        "SORT list ALPHA LIMIT 4 9 STORE list",
        "BITOP OR string nosuch",
    ];
    for command in emptying {
        let mut world = World::full();
        let before = world.store.len();
        world.say(command);
        assert_eq!(world.store.len(), before - 1, "{command}");
        world.store.keyspace.check();
    }
}

#[test]
fn commands_that_change_nothing_make_nothing() {
    let commands = [
        "LPUSHX new a",
        "LINSERT new BEFORE a b",
        "LREM new 0 a",
        "LTRIM new 0 1",
        "LSET new 0 a",
        "LPOP new 3",
        "RPOPLPUSH new other",
        "ZADD new XX 1 a",
        "ZADD new XX INCR 1 a",
        "ZADD new nan a",
        "ZREM new a",
        "ZPOPMIN new",
        "ZREMRANGEBYSCORE new 0 1",
        "ZUNIONSTORE new 1 nosuch",
        "BITFIELD new GET u8 100",
        "BITFIELD new OVERFLOW SAT",
        "GETBIT new 9",
        "BITOP AND new nosuch",
        "SETBIT new 4294967296 1",
        "BITFIELD new SET u64 0 1",
    ];
    for command in commands {
        let mut world = World::new();
        world.say("RPUSH other x");
        let before = world.state();
        world.say(command);
        assert_eq!(world.state(), before, "{command}");
    }
}

#[test]
fn a_bit_field_may_not_reach_beyond_the_longest_string() {
    // A server lets this one string grow eight bytes longer.
    let mut world = World::new();
    let error = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(world.say("BITFIELD k SET u8 4294967295 1"), error);
    assert_eq!(world.say("BITFIELD k GET u8 4294967295"), "0");
    assert!(world.store.is_empty());
}

#[test]
fn sorting_reads_weights_and_values_from_other_keys() {
    let mut world = World::new();
    for command in [
        "RPUSH ids 3 1 2",
        "MSET weight:1 30 weight:2 10 weight:3 20 soon v",
        "HSET user:1 name ann",
        "HSET user:2 name bob",
        "SET user:3 no-hash",
        "PEXPIRE weight:1 10",
    ] {
        world.say(command);
    }
    assert_eq!(world.say("SORT ids"), "1 2 3");
    assert_eq!(world.say("SORT ids BY weight:*"), "2 3 1");
    let names = "SORT ids BY weight:* GET # GET user:*->name GET nosuch:*";
    assert_eq!(world.say(names), "2 bob null 3 null null 1 ann null");
    assert_eq!(world.say("SORT ids BY user:*->name ALPHA DESC"), "2 1 3");
    assert_eq!(world.say("SORT ids DESC GET user:*->name STORE names"), "3");
    assert_eq!(world.say("LRANGE names 0 -1"), " bob ann");
    world.pass(11);
    assert_eq!(world.say("SORT ids BY weight:*"), "1 2 3", "a weight that expired is none");
    assert_eq!(world.say("SORT ids BY nosort LIMIT 1 1"), "1");
    assert_eq!(world.say("SORT_RO ids STORE names"), "ERR syntax error");
    world.say("RPUSH tiny 5e-324 1");
    let refused = "ERR One or more scores can't be converted into double";
    assert_eq!(world.say("SORT tiny"), refused);
    assert_eq!(world.say("SORT tiny ALPHA"), "1 5e-324");
}

#[test]
fn a_range_of_members_whose_scores_differ_is_what_a_server_finds_in_a_small_set() {
    let mut world = World::new();
    world.say("ZADD z 1 b 2 d 3 a 4 e 5 c");
    let table = [
        ("ZRANGEBYLEX z [b [d", "b d a"),
        ("ZREVRANGEBYLEX z [d [b", "c e"),
        ("ZREVRANGEBYLEX z [e [a", "c e a d b"),
        ("ZLEXCOUNT z [c [e", "4"),
        ("ZRANGEBYLEX z - [d LIMIT 3 9", ""),
        ("ZRANGEBYLEX z [d +", ""),
        ("ZREVRANGEBYLEX z [d (b LIMIT 1 5", "e"),
        ("ZREMRANGEBYLEX z [c [d", "2"),
        ("ZRANGE z 0 -1", "b e c"),
    ];
    for (command, expected) in table {
        assert_eq!(world.say(command), expected, "{command}");
    }
}

#[test]
fn a_range_of_members_is_found_in_small_sets_and_in_large_ones() {
    let mut world = World::new();
    for size in [100, 1_000] {
        for number in 0..size {
            world.say(&format!("ZADD z 0 m{number:04}"));
        }
        assert_eq!(world.say("ZLEXCOUNT z [m0050 (m0060"), "10", "of {size}");
        assert_eq!(world.say("ZRANGEBYLEX z (m0050 + LIMIT 1 2"), "m0052 m0053");
        assert_eq!(world.say("ZREVRANGEBYLEX z [m0050 - LIMIT 1 2"), "m0049 m0048");
        assert_eq!(world.say("ZRANGEBYLEX z [m0060 [m0050"), "");
        assert_eq!(world.say("ZREMRANGEBYLEX z [m0050 [m0059"), "10");
    }
}

#[test]
fn a_copy_is_untouched_by_what_is_done_to_the_original() {
    let mut world = World::new().set_up();
    for key in ["list", "zset", "string"] {
        world.say(&format!("COPY {key} copy:{key}"));
    }
    for command in
        ["LSET list 0 z", "LPOP list", "ZADD zset 9 a", "ZPOPMIN zset", "SETBIT string 0 1"]
    {
        world.say(command);
    }
    assert_eq!(world.say("LRANGE copy:list 0 -1"), "a b c d");
    assert_eq!(world.say("ZRANGE copy:zset 0 -1"), "a b c d");
    assert_eq!(world.say("GET copy:string"), "foobar");
}

#[test]
fn a_scan_gives_all_that_stays_while_the_set_grows_and_shrinks() {
    let mut world = World::new();
    for number in 0..500 {
        world.say(&format!("ZADD zset {} m{number}", number % 7));
    }
    let (mut cursor, mut given) = ("0".to_owned(), Vec::new());
    for round in 0.. {
        let Answer::Reply(Value::Array(reply)) = world.run(&format!("ZSCAN zset {cursor}")) else {
            panic!("ZSCAN gives an array");
        };
        let [next, members] = &reply[..] else { panic!("of two: {reply:?}") };
        given.extend(text(members).split(' ').map(str::to_owned));
        cursor = text(next);
        if cursor == "0" {
            break;
        }
        world.say(&format!("ZADD zset 3 new{round} 4 newer{round}"));
        world.say(&format!("ZREM zset m{}", 400 + round));
    }
    for number in (0..400).map(|number| format!("m{number}")) {
        assert!(given.contains(&number), "{number}");
    }
}

fn command() -> impl Strategy<Value = String> {
    let key = || prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    let item = || prop_oneof![Just("x"), Just("y"), Just("zz"), Just("longer-than-others")];
    let side = || prop_oneof![Just("LEFT"), Just("RIGHT")];
    let end = || prop_oneof![Just("MIN"), Just("MAX")];
    let score = || -3..4_i8;
    let index = || -4..5_i8;
    prop_oneof![
        (key(), item(), item()).prop_map(|(k, a, b)| format!("RPUSH {k} {a} {b}")),
        (key(), item()).prop_map(|(k, a)| format!("LPUSHX {k} {a}")),
        (key(), 0..4_u8).prop_map(|(k, n)| format!("LPOP {k} {n}")),
        (key(), side(), 1..3_u8).prop_map(|(k, s, n)| format!("LMPOP 1 {k} {s} COUNT {n}")),
        (key(), key(), side(), side()).prop_map(|(k, l, s, t)| format!("LMOVE {k} {l} {s} {t}")),
        (key(), index(), item()).prop_map(|(k, i, a)| format!("LSET {k} {i} {a}")),
        (key(), item(), item()).prop_map(|(k, a, b)| format!("LINSERT {k} AFTER {a} {b}")),
        (key(), index(), item()).prop_map(|(k, i, a)| format!("LREM {k} {i} {a}")),
        (key(), index(), index()).prop_map(|(k, i, j)| format!("LTRIM {k} {i} {j}")),
        (key(), score(), item(), item()).prop_map(|(k, s, a, b)| format!("ZADD {k} {s} {a} 1 {b}")),
        (key(), score(), item()).prop_map(|(k, s, a)| format!("ZINCRBY {k} {s} {a}")),
        (key(), item()).prop_map(|(k, a)| format!("ZREM {k} {a}")),
        (key(), 0..3_u8).prop_map(|(k, n)| format!("ZPOPMAX {k} {n}")),
        (key(), end()).prop_map(|(k, e)| format!("ZMPOP 1 {k} {e}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("ZUNIONSTORE {k} 2 {l} {m}")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("ZDIFFSTORE {k} 2 {l} {m}")),
        (key(), key(), index()).prop_map(|(k, l, i)| format!("ZRANGESTORE {k} {l} {i} -1")),
        (key(), score(), score()).prop_map(|(k, a, b)| format!("ZREMRANGEBYSCORE {k} {a} {b}")),
        (key(), key()).prop_map(|(k, l)| format!("SORT {k} ALPHA STORE {l}")),
        (key(), 0..400_u16).prop_map(|(k, n)| format!("SETBIT {k} {n} 1")),
        (key(), 0..400_u16).prop_map(|(k, n)| format!("BITFIELD {k} INCRBY i9 {n} 77")),
        (key(), key(), key()).prop_map(|(k, l, m)| format!("BITOP XOR {k} {l} {m}")),
        (key(), key()).prop_map(|(k, l)| format!("COPY {k} {l} REPLACE")),
        (key(), 1..9_u8).prop_map(|(k, n)| format!("PEXPIRE {k} {n}")),
        key().prop_map(|k| format!("DEL {k}")),
    ]
}

proptest! {
    #[test]
    fn the_account_agrees_and_the_bounds_hold_after_any_commands(
        commands in proptest::collection::vec((command(), 0..3_u8), 1..80),
    ) {
        // Room for about two of the four keys with a few members each.
        let mut world = World::bounded(3, 3 * (ENTRY_BYTES + COLLECTION_BYTES) + 600);
        for (command, millis) in commands {
            world.pass(millis.into());
            let before = world.state();
            let said = world.say(&command);
            world.store.keyspace.check();
            if said == "full" || said.contains("ERR") || said.starts_with("WRONGTYPE") {
                assert_eq!(world.state(), before, "{command}: {said}");
            }
        }
    }
}

//! Every command that has a method, against a real server, over both protocols: the same Rust values
//! whichever of them is spoken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use unfazed_core::{Effect, commands::prelude::*, failure::Executed};
use unfazed_tests::eventually;

use crate::{
    adapters::{Adapter, in_cluster, scenarios},
    site::Site,
    support::{LIMIT, PROTOCOLS, failure},
};

scenarios! {
    strings_read_and_write_values,
    strings_with_options_set_when_and_for_how_long,
    counters_count,
    ranges_and_bits_are_parts_of_a_value,
    hashes_hold_fields,
    hashes_are_walked_and_drawn_from,
    keys_of_any_type_are_deleted_renamed_copied,
    keys_expire_when_told,
    keys_are_found,
    a_dump_is_restored,
    scripts_run_on_the_server,
    functions_run_on_the_server,
    the_server_tells_of_itself,
    the_server_is_configured_and_flushed,
    any_command_goes_by_its_name,
}

in_cluster! {
    strings_read_and_write_values,
    strings_with_options_set_when_and_for_how_long,
    counters_count,
    ranges_and_bits_are_parts_of_a_value,
    hashes_hold_fields,
    hashes_are_walked_and_drawn_from,
    keys_of_any_type_are_deleted_renamed_copied,
    keys_expire_when_told,
    a_dump_is_restored,
    scripts_run_on_the_server,
    functions_run_on_the_server,
    the_server_tells_of_itself,
    the_server_is_configured_and_flushed,
    any_command_goes_by_its_name,
}

const MINUTE: Duration = Duration::from_secs(60);

/// Runs this over both protocols, on a server that is empty each time.
fn on_both<A: Adapter>(act: impl Fn(&A::Client)) {
    let server = Site::start();
    for protocol in PROTOCOLS {
        let client = A::connect(server.config().protocol(protocol)).expect("there is a server");
        A::wait(client.flushall()).expect("a plain FLUSHALL");
        act(&client);
    }
}

/// Waits for a request that must succeed.
macro_rules! ok {
    ($pending:expr) => {
        A::wait($pending).expect("it succeeds")
    };
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// The server's clock may be read a little earlier than ours.
fn is_about(left: Duration, whole: Duration) -> bool {
    left <= whole + Duration::from_secs(1) && left > whole / 2
}

fn strings_read_and_write_values<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.get::<String>("k")), None);
        ok!(client.set("k", "v"));
        assert_eq!(ok!(client.get::<String>("k")), text("v"));
        assert_eq!(ok!(client.getset::<String>("k", "w")), text("v"));
        assert_eq!(ok!(client.getset::<String>("new", 1)), None);
        assert_eq!(ok!(client.getdel::<String>("k")), text("w"));
        assert_eq!(ok!(client.getdel::<String>("k")), None);
        assert!(ok!(client.setnx("k", "first")));
        assert!(!ok!(client.setnx("k", "second")));
        ok!(client.mset([("a", "1"), ("b", "2")]));
        let all: Vec<Option<i64>> = ok!(client.mget(["a", "none", "b"]));
        assert_eq!(all, [Some(1), None, Some(2)]);
        assert!(!ok!(client.msetnx([("a", "9"), ("{a}c", "9")])));
        assert!(ok!(client.msetnx([("{a}c", "3"), ("{a}d", "4")])));
        assert_eq!(ok!(client.mget::<[i64; 2]>(["{a}c", "{a}d"])), [3, 4]);
        assert_eq!(ok!(client.append("k", "!")), 6);
        assert_eq!(ok!(client.strlen("k")), 6);
        assert_eq!(ok!(client.strlen("none")), 0);
    });
}

fn strings_with_options_set_when_and_for_how_long<A: Adapter>() {
    on_both::<A>(|client| {
        let left = |key| match ok!(client.ttl(key)) {
            Ttl::Left(left) => left,
            other => panic!("{other:?}"),
        };
        ok!(client.set_ex("k", "v", MINUTE));
        assert!(is_about(left("k"), MINUTE));
        assert_eq!(ok!(client.set_with("k", "w", SetOptions::new().nx())), None);
        assert_eq!(ok!(client.set_with("no", "w", SetOptions::new().xx())), None);
        assert_eq!(ok!(client.set_with("k", "w", SetOptions::new().xx().keep_ttl())), Some(()));
        assert!(is_about(left("k"), MINUTE));
        ok!(client.set_with("k", "x", SetOptions::new().ex(2 * MINUTE))).expect("no condition");
        assert!(is_about(left("k"), 2 * MINUTE));
        let moment = SystemTime::now() + 3 * MINUTE;
        ok!(client.set_with("k", "y", SetOptions::new().ex_at(moment))).expect("no condition");
        assert!(is_about(left("k"), 3 * MINUTE));
        assert_eq!(ok!(client.set_get::<String>("k", "z", SetOptions::new())), text("y"));
        assert_eq!(ok!(client.ttl("k")), Ttl::Forever);
        assert_eq!(ok!(client.set_get::<String>("no", 1, SetOptions::new().xx())), None);
        assert_eq!(ok!(client.getex::<String>("k", Expiry::In(MINUTE))), text("z"));
        assert!(is_about(left("k"), MINUTE));
        assert_eq!(ok!(client.getex::<String>("k", Expiry::Never)), text("z"));
        assert_eq!(ok!(client.ttl("k")), Ttl::Forever);
        assert_eq!(ok!(client.getex::<String>("k", Expiry::At(moment))), text("z"));
        assert!(is_about(left("k"), 3 * MINUTE));
        assert_eq!(ok!(client.getex::<String>("none", Expiry::Never)), None);
    });
}

fn counters_count<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.incr("n")), 1);
        assert_eq!(ok!(client.incrby("n", 41)), 42);
        assert_eq!(ok!(client.decr("n")), 41);
        assert_eq!(ok!(client.decrby("n", 50)), -9);
        assert_eq!(ok!(client.incrby("n", -i64::MAX + 9)), -i64::MAX);
        assert_eq!(ok!(client.incrbyfloat("f", 0.5)), 0.5);
        assert_eq!(ok!(client.incrbyfloat("f", -2.25)), -1.75);
        ok!(client.set("word", "no number"));
        let failure = failure(A::wait(client.incr("word")));
        assert_eq!(failure.executed(), Executed::Yes, "{failure}");
        assert_eq!(failure.server_error().expect("the server's").code(), "ERR");
        assert_eq!(failure.command(), "INCR");
    });
}

fn ranges_and_bits_are_parts_of_a_value<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.set("k", "Hello World"));
        assert_eq!(ok!(client.getrange::<String>("k", 0, 4)), "Hello");
        assert_eq!(ok!(client.getrange::<String>("k", -5, -1)), "World");
        assert_eq!(ok!(client.setrange("k", 6, "Redis")), 11);
        assert_eq!(ok!(client.get::<String>("k")), text("Hello Redis"));
        assert!(!ok!(client.setbit("bits", 7, true)));
        assert!(ok!(client.setbit("bits", 7, true)));
        assert!(ok!(client.getbit("bits", 7)));
        assert!(!ok!(client.getbit("bits", 6)));
        assert_eq!(ok!(client.bitcount("bits")), 1);
        ok!(client.set("k", "\u{1}\u{3}\u{7}"));
        assert_eq!(ok!(client.bitcount("k")), 6);
        assert_eq!(ok!(client.bitcount_range("k", 1, 1)), 2);
    });
}

fn hashes_hold_fields<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.hset("h", [("a", "1"), ("b", "2")])), 2);
        assert_eq!(ok!(client.hset("h", ("a", 3))), 0);
        assert_eq!(ok!(client.hget::<i64>("h", "a")), Some(3));
        assert_eq!(ok!(client.hget::<i64>("h", "none")), None);
        assert!(!ok!(client.hsetnx("h", "a", 4)));
        assert!(ok!(client.hsetnx("h", "c", 4)));
        let some: Vec<Option<i64>> = ok!(client.hmget("h", ["a", "none", "c"]));
        assert_eq!(some, [Some(3), None, Some(4)]);
        let all: BTreeMap<String, i64> = ok!(client.hgetall("h"));
        assert_eq!(all, BTreeMap::from([("a".into(), 3), ("b".into(), 2), ("c".into(), 4)]));
        let none: BTreeMap<String, i64> = ok!(client.hgetall("none"));
        assert!(none.is_empty());
        assert!(ok!(client.hexists("h", "a")));
        assert!(!ok!(client.hexists("h", "none")));
        assert_eq!(ok!(client.hlen("h")), 3);
        let keys: BTreeSet<String> = ok!(client.hkeys("h"));
        assert_eq!(keys, BTreeSet::from(["a".into(), "b".into(), "c".into()]));
        let values: BTreeSet<i64> = ok!(client.hvals("h"));
        assert_eq!(values, BTreeSet::from([2, 3, 4]));
        assert_eq!(ok!(client.hincrby("h", "a", 39)), 42);
        assert_eq!(ok!(client.hincrbyfloat("h", "a", 0.5)), 42.5);
        assert_eq!(ok!(client.hstrlen("h", "a")), 4);
        assert_eq!(ok!(client.hdel("h", ["a", "b", "none"])), 2);
        assert_eq!(ok!(client.hlen("h")), 1);
    });
}

fn hashes_are_walked_and_drawn_from<A: Adapter>() {
    on_both::<A>(|client| {
        let whole: BTreeMap<String, u32> = (0..600).map(|at| (format!("f{at}"), at)).collect();
        assert_eq!(ok!(client.hset("h", &whole)), 600);
        let field: Option<String> = ok!(client.hrandfield("h"));
        assert!(whole.contains_key(&field.expect("there are some")));
        assert_eq!(ok!(client.hrandfield::<String>("none")), None);
        let some: Vec<String> = ok!(client.hrandfield_count("h", 5));
        assert_eq!(some.iter().collect::<BTreeSet<_>>().len(), 5);
        let repeated: Vec<String> = ok!(client.hrandfield_count("h", -700));
        assert_eq!(repeated.len(), 700);
        let pairs: Vec<(String, u32)> = ok!(client.hrandfield_with_values("h", 4));
        assert_eq!(pairs.len(), 4);
        assert!(pairs.iter().all(|(field, value)| whole[field] == *value));
        let mut walked = BTreeMap::new();
        let mut cursor = 0;
        loop {
            let (next, page): (u64, Vec<(String, u32)>) =
                ok!(client.hscan_page("h", cursor, ScanOptions::new().count(50)));
            walked.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(walked, whole);
    });
}

fn keys_of_any_type_are_deleted_renamed_copied<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.mset([("a", 1), ("b", 2), ("c", 3), ("d", 4)]));
        assert_eq!(ok!(client.del(["a", "none"])), 1);
        assert_eq!(ok!(client.del("b")), 1);
        assert_eq!(ok!(client.unlink(["c"])), 1);
        assert!(ok!(client.exists("d")));
        assert!(!ok!(client.exists("a")));
        assert_eq!(ok!(client.exists_count(["d", "d", "a"])), 2);
        assert_eq!(ok!(client.touch(["d", "a"])), 1);
        assert_eq!(ok!(client.type_of("d")), "string");
        assert_eq!(ok!(client.type_of("none")), "none");
        ok!(client.rename("d", "{d}e"));
        let failure = failure(A::wait(client.rename("d", "{d}e")));
        assert_eq!(failure.executed(), Executed::Yes, "{failure}");
        ok!(client.set("{d}f", 1));
        assert!(!ok!(client.renamenx("{d}e", "{d}f")));
        assert!(ok!(client.renamenx("{d}e", "{d}g")));
        assert!(ok!(client.copy("{d}g", "{d}h")));
        assert!(!ok!(client.copy("{d}g", "{d}f")));
        assert!(ok!(client.copy_over("{d}g", "{d}f")));
        assert_eq!(ok!(client.mget::<Vec<i64>>(["{d}f", "{d}g", "{d}h"])), [4, 4, 4]);
        assert_eq!(ok!(client.object_encoding("{d}f")), text("int"));
        assert_eq!(ok!(client.object_encoding("none")), None);
    });
}

fn keys_expire_when_told<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.set("k", 1));
        assert_eq!(ok!(client.ttl("none")), Ttl::NoKey);
        assert_eq!(ok!(client.ttl("k")), Ttl::Forever);
        assert_eq!(ok!(client.expire_time("none")), ExpireTime::NoKey);
        assert_eq!(ok!(client.expire_time("k")), ExpireTime::Never);
        assert!(!ok!(client.expire("none", MINUTE)));
        assert!(ok!(client.expire("k", MINUTE)));
        assert!(!ok!(client.expire_if("k", MINUTE, ExpireIf::Nx)));
        assert!(ok!(client.expire_if("k", 2 * MINUTE, ExpireIf::Gt)));
        assert!(ok!(client.expire_if("k", MINUTE, ExpireIf::Lt)));
        assert!(ok!(client.expire_if("k", MINUTE, ExpireIf::Xx)));
        assert!(matches!(ok!(client.ttl("k")), Ttl::Left(left) if is_about(left, MINUTE)));
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_123);
        assert!(ok!(client.expire_at("k", moment)));
        assert_eq!(ok!(client.expire_time("k")), ExpireTime::At(moment));
        assert!(ok!(client.persist("k")));
        assert!(!ok!(client.persist("k")));
        assert!(ok!(client.expire("k", Duration::from_millis(20))));
        eventually("the key to expire", LIMIT, || (!ok!(client.exists("k"))).then_some(()));
    });
}

fn keys_are_found<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.randomkey::<String>()), None);
        let names: BTreeSet<String> = (0..300).map(|at| format!("key:{at}")).collect();
        ok!(client.mset(names.iter().map(|name| (name, 1)).collect::<BTreeMap<_, _>>()));
        ok!(client.hset("hash", ("f", 1)));
        assert!(ok!(client.randomkey::<String>()).is_some());
        let some: BTreeSet<String> = ok!(client.keys("key:29?"));
        assert_eq!(some.len(), 10);
        let walk = |options: ScanOptions<'_>| {
            let mut walked = BTreeSet::new();
            let mut cursor = 0;
            loop {
                let (next, page): (u64, Vec<String>) = ok!(client.scan_page(cursor, options));
                walked.extend(page);
                cursor = next;
                if cursor == 0 {
                    return walked;
                }
            }
        };
        assert_eq!(walk(ScanOptions::new().pattern("key:*").count(40)), names);
        assert_eq!(walk(ScanOptions::new().kind("hash")), BTreeSet::from(["hash".into()]));
    });
}

fn a_dump_is_restored<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.dump::<Vec<u8>>("none")), None);
        ok!(client.set("k", "\u{0}value\r\n"));
        let dump: Vec<u8> = ok!(client.dump("k")).expect("it is there");
        ok!(client.restore("copy", None, &dump));
        assert_eq!(ok!(client.get::<String>("copy")), text("\u{0}value\r\n"));
        assert_eq!(ok!(client.ttl("copy")), Ttl::Forever);
        let refused = failure(A::wait(client.restore("copy", None, &dump)));
        assert_eq!(refused.server_error().expect("the server's").code(), "BUSYKEY");
        assert_eq!(refused.executed(), Executed::Yes, "{refused}");
        ok!(client.restore_over("copy", Some(MINUTE), &dump));
        assert!(matches!(ok!(client.ttl("copy")), Ttl::Left(left) if is_about(left, MINUTE)));
    });
}

fn scripts_run_on_the_server<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.script_flush());
        let echo = "return {KEYS[1], ARGV[1]}";
        let pair: (String, String) = ok!(client.eval(echo, "k", "a"));
        assert_eq!(pair, ("k".into(), "a".into()));
        assert_eq!(ok!(client.eval::<i64>("return 7", (), ())), 7);
        assert_eq!(ok!(client.eval_ro::<i64>("return #ARGV", (), ["a", "b"])), 2);
        let sha = ok!(client.script_load("return redis.call('GET', KEYS[1])"));
        ok!(client.set("k", "v"));
        assert_eq!(ok!(client.evalsha::<String>(&sha, "k", ())), "v");
        assert_eq!(ok!(client.evalsha_ro::<String>(&sha, "k", ())), "v");
        let unknown = "0".repeat(40);
        assert_eq!(ok!(client.script_exists([&sha, &unknown])), [true, false]);
        let missing = failure(A::wait(client.evalsha::<i64>(&unknown, (), ())));
        assert_eq!(missing.server_error().expect("the server's").code(), "NOSCRIPT");
        assert_eq!(missing.executed(), Executed::No, "{missing}");
        let failed =
            failure(A::wait(client.eval::<i64>("return redis.error_reply('E x')", (), ())));
        assert_eq!(failed.executed(), Executed::Maybe, "{failed}");
    });
}

fn functions_run_on_the_server<A: Adapter>() {
    on_both::<A>(|client| {
        let code = "#!lua name=lib\n\
            redis.register_function('first', function(keys, args) return args[1] end)\n\
            redis.register_function{function_name='ro', \
            callback=function(keys, args) return #keys end, flags={'no-writes'}}";
        let name: String =
            ok!(client.command("FUNCTION").arg("LOAD").arg("REPLACE").arg(code).run());
        assert_eq!(name, "lib");
        assert_eq!(ok!(client.fcall::<String>("first", (), "a")), "a");
        assert_eq!(ok!(client.fcall_ro::<i64>("ro", ["x", "{x}y"], ())), 2);
    });
}

fn the_server_tells_of_itself<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.ping());
        assert_eq!(ok!(client.echo::<String>("hello")), "hello");
        let skew = match ok!(client.time()).duration_since(SystemTime::now()) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        assert!(skew < MINUTE, "{skew:?}");
        assert!(ok!(client.lastsave()) <= SystemTime::now() + MINUTE);
        assert_eq!(ok!(client.dbsize()), 0);
        assert!(ok!(client.info()).contains("redis_version"));
        let some = ok!(client.info_of(["server", "clients"]));
        assert!(some.contains("connected_clients") && !some.contains("# Memory"), "{some}");
        let id = ok!(client.client_id());
        assert!(id > 0);
        assert_eq!(ok!(client.client_getname()), None);
        assert!(ok!(client.client_list()).contains(&format!("id={id} ")));
        assert_eq!(ok!(client.client_kill(i64::MAX)), 0);
        assert!(ok!(client.command_count()) > 100);
    });
}

fn the_server_is_configured_and_flushed<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.config_set(("maxmemory-samples", 7)));
        let config: BTreeMap<String, String> = ok!(client.config_get("maxmemory-sample*"));
        assert_eq!(config, BTreeMap::from([("maxmemory-samples".into(), "7".into())]));
        ok!(client.config_set([("maxmemory-samples", "5"), ("hz", "20")]));
        let config: BTreeMap<String, u32> = ok!(client.config_get(["maxmemory-samples", "hz"]));
        assert_eq!(config, BTreeMap::from([("maxmemory-samples".into(), 5), ("hz".into(), 20)]));
        for round in 0..4 {
            ok!(client.set("k", round));
            assert_eq!(ok!(client.dbsize()), 1);
            match round {
                0 => ok!(client.flushdb()),
                1 => ok!(client.flushdb_async()),
                2 => ok!(client.flushall()),
                _ => ok!(client.flushall_async()),
            }
            assert_eq!(ok!(client.dbsize()), 0);
        }
    });
}

fn any_command_goes_by_its_name<A: Adapter>() {
    on_both::<A>(|client| {
        let pushed: u64 = ok!(client.command("rpush").arg("list").args(["a", "b"]).arg(3).run());
        assert_eq!(pushed, 3);
        let list: Vec<String> = ok!(client.command("LRANGE").arg("list").arg(0).arg(-1).run());
        assert_eq!(list, ["a", "b", "3"]);
        let encoding: String =
            ok!(client.command("OBJECT ENCODING").arg("list").effect(Effect::Read).run());
        assert!(!encoding.is_empty());
        let scores: Vec<(String, f64)> = {
            let added: u64 = ok!(client.command("ZADD").arg("z").arg(1.5).arg("m").run());
            assert_eq!(added, 1);
            ok!(client.command("ZRANGE").arg("z").args([0, -1]).arg("WITHSCORES").run())
        };
        assert_eq!(scores, [("m".to_owned(), 1.5)]);
        let missing = failure(A::wait(client.command("NOSUCHTHING").arg("x").run::<()>()));
        assert_eq!(missing.executed(), Executed::No, "{missing}");
        assert_eq!(missing.command(), "NOSUCHTHING");
        let arity = failure(A::wait(client.command("GET").run::<Option<String>>()));
        assert_eq!(arity.executed(), Executed::No, "{arity}");
        let kind = failure(A::wait(client.get::<String>("list")));
        assert_eq!(kind.server_error().expect("the server's").code(), "WRONGTYPE");
        assert_eq!(kind.executed(), Executed::Yes, "{kind}");
    });
}

//! What goes out on the wire for every method, and what is known of it.

mod types;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{Run, prelude::*};
use crate::{
    args::Arg,
    reply::FromReply,
    request::{Effect, Request},
    resp::{Reply, Value},
    script::Script,
};

/// Notes requests instead of sending them.
struct Recorder;

/// What would have gone out: the words, joined by spaces, and what is known of the request.
#[derive(Debug, PartialEq)]
struct Sent {
    words: String,
    command: String,
    effect: Effect,
    keys: Vec<String>,
    blocking: bool,
    session: bool,
}

impl Run for Recorder {
    type Pending<T: Send + 'static> = Sent;

    fn run<T: FromReply + Send + 'static>(&self, request: Request<'_>) -> Sent {
        let mut out = Vec::new();
        request.encode(&mut out);
        Sent {
            words: words(&out).join(" "),
            command: request.command().to_owned(),
            effect: request.declared_effect(),
            keys: request.keys().map(text).collect(),
            blocking: request.spec().is_blocking(),
            session: request.spec().is_session(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The bulk strings of an encoded request, strictly.
fn words(mut wire: &[u8]) -> Vec<String> {
    fn header(wire: &mut &[u8], kind: u8) -> usize {
        let end = wire.windows(2).position(|two| two == b"\r\n").expect("a line's end");
        let (line, rest) = wire.split_at(end);
        assert_eq!(line[0], kind);
        *wire = &rest[2..];
        text(&line[1..]).parse().expect("a length")
    }
    let count = header(&mut wire, b'*');
    let words = (0..count)
        .map(|_| {
            let len = header(&mut wire, b'$');
            let (word, rest) = wire.split_at(len);
            wire = rest.strip_prefix(b"\r\n").expect("the end of a bulk string");
            text(word)
        })
        .collect();
    assert!(wire.is_empty(), "nothing may follow");
    words
}

/// Every method with what it sends.
fn methods() -> Vec<(Sent, &'static str)> {
    [general_methods(), types::methods()].into_iter().flatten().collect()
}

/// Those that are not about one type of data, and those on strings and hashes.
#[rustfmt::skip]
fn general_methods() -> Vec<(Sent, &'static str)> {
    let c = &Recorder;
    let ms = Duration::from_millis(1500);
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_001);
    let set = SetOptions::new();
    let scan = ScanOptions::new();
    let script = Script::new("return 1");
    vec![
        // Strings
        (c.get::<String>("k"), "GET k"),
        (c.set("k", "v"), "SET k v"),
        (c.set_ex("k", "v", ms), "SET k v PX 1500"),
        (c.set_with("k", "v", set), "SET k v"),
        (c.set_with("k", "v", set.xx().nx().ex(ms)), "SET k v NX PX 1500"),
        (c.set_with("k", "v", set.nx().xx().ex_at(at)), "SET k v XX PXAT 86400001"),
        (c.set_with("k", "v", set.ex(ms).keep_ttl()), "SET k v KEEPTTL"),
        (c.set_get::<String>("k", "v", set), "SET k v GET"),
        (c.set_get::<String>("k", "v", set.nx().ex(ms)), "SET k v NX PX 1500 GET"),
        (c.setnx("k", "v"), "SETNX k v"),
        (c.getset::<String>("k", "v"), "GETSET k v"),
        (c.getdel::<String>("k"), "GETDEL k"),
        (c.getex::<String>("k", Expiry::In(ms)), "GETEX k PX 1500"),
        (c.getex::<String>("k", Expiry::At(at)), "GETEX k PXAT 86400001"),
        (c.getex::<String>("k", Expiry::Never), "GETEX k PERSIST"),
        (c.mget::<(Option<i64>, Option<String>)>(["a", "b"]), "MGET a b"),
        (c.mset([("a", 1), ("b", 2)]), "MSET a 1 b 2"),
        (c.mset(("a", "b")), "MSET a b"),
        (c.msetnx(BTreeMap::from([("a", 1)])), "MSETNX a 1"),
        (c.append("k", "v"), "APPEND k v"),
        (c.strlen("k"), "STRLEN k"),
        (c.getrange::<Bytes>("k", 0, -1), "GETRANGE k 0 -1"),
        (c.setrange("k", 7, "v"), "SETRANGE k 7 v"),
        (c.incr("k"), "INCR k"),
        (c.incrby("k", -2), "INCRBY k -2"),
        (c.incrbyfloat("k", 0.5), "INCRBYFLOAT k 0.5"),
        (c.decr("k"), "DECR k"),
        (c.decrby("k", 2), "DECRBY k 2"),
        (c.getbit("k", 7), "GETBIT k 7"),
        (c.setbit("k", 7, true), "SETBIT k 7 1"),
        (c.bitcount("k"), "BITCOUNT k"),
        (c.bitcount_range("k", 0, -1), "BITCOUNT k 0 -1"),
        // Hashes
        (c.hget::<String>("k", "f"), "HGET k f"),
        (c.hset("k", ("f", "v")), "HSET k f v"),
        (c.hset("k", [("f", 1), ("g", 2)]), "HSET k f 1 g 2"),
        (c.hsetnx("k", "f", "v"), "HSETNX k f v"),
        (c.hmget::<Vec<Option<String>>>("k", ["f", "g"]), "HMGET k f g"),
        (c.hgetall::<BTreeMap<String, String>>("k"), "HGETALL k"),
        (c.hdel("k", "f"), "HDEL k f"),
        (c.hdel("k", ["f", "g"]), "HDEL k f g"),
        (c.hexists("k", "f"), "HEXISTS k f"),
        (c.hlen("k"), "HLEN k"),
        (c.hkeys::<Vec<String>>("k"), "HKEYS k"),
        (c.hvals::<Vec<String>>("k"), "HVALS k"),
        (c.hincrby("k", "f", 2), "HINCRBY k f 2"),
        (c.hincrbyfloat("k", "f", 1.5), "HINCRBYFLOAT k f 1.5"),
        (c.hstrlen("k", "f"), "HSTRLEN k f"),
        (c.hrandfield::<String>("k"), "HRANDFIELD k"),
        (c.hrandfield_count::<Vec<String>>("k", -3), "HRANDFIELD k -3"),
        (c.hrandfield_with_values::<Vec<(String, i64)>>("k", 3), "HRANDFIELD k 3 WITHVALUES"),
        (c.hscan_page::<Vec<(String, i64)>>("k", 0, scan.pattern("f*")), "HSCAN k 0 MATCH f*"),
        // Keys
        (c.del("k"), "DEL k"),
        (c.del(["a", "b"]), "DEL a b"),
        (c.unlink(vec!["a".to_owned()]), "UNLINK a"),
        (c.exists("k"), "EXISTS k"),
        (c.exists_count(["a", "a"]), "EXISTS a a"),
        (c.touch("k"), "TOUCH k"),
        (c.expire("k", ms), "PEXPIRE k 1500"),
        (c.expire("k", Duration::from_nanos(1)), "PEXPIRE k 1"),
        (c.expire("k", Duration::MAX), "PEXPIRE k 9223372036854775807"),
        (c.expire_if("k", ms, ExpireIf::Gt), "PEXPIRE k 1500 GT"),
        (c.expire_at("k", at), "PEXPIREAT k 86400001"),
        (c.expire_at("k", SystemTime::UNIX_EPOCH - ms), "PEXPIREAT k 0"),
        (c.ttl("k"), "PTTL k"),
        (c.expire_time("k"), "PEXPIRETIME k"),
        (c.persist("k"), "PERSIST k"),
        (c.type_of("k"), "TYPE k"),
        (c.rename("a", "b"), "RENAME a b"),
        (c.renamenx("a", "b"), "RENAMENX a b"),
        (c.copy("a", "b"), "COPY a b"),
        (c.copy_over("a", "b"), "COPY a b REPLACE"),
        (c.randomkey::<String>(), "RANDOMKEY"),
        (c.keys::<Vec<String>>("a*"), "KEYS a*"),
        (c.scan_page::<Vec<Bytes>>(u64::MAX, scan.pattern(b"a*").count(9).kind("hash")),
            "SCAN 18446744073709551615 MATCH a* COUNT 9 TYPE hash"),
        (c.dump::<Bytes>("k"), "DUMP k"),
        (c.restore("k", None, "d"), "RESTORE k 0 d"),
        (c.restore("k", Some(Duration::ZERO), "d"), "RESTORE k 1 d"),
        (c.restore_over("k", Some(ms), "d"), "RESTORE k 1500 d REPLACE"),
        (c.object_encoding("k"), "OBJECT ENCODING k"),
        // Scripting
        (c.eval::<i64>("s", "k", [1, 2]), "EVAL s 1 k 1 2"),
        (c.eval::<i64>("s", (), ()), "EVAL s 0"),
        (c.eval_ro::<i64>("s", ["a", "b"], "x"), "EVAL_RO s 2 a b x"),
        (c.evalsha::<i64>("0f", "k", ()), "EVALSHA 0f 1 k"),
        (c.evalsha_ro::<i64>("0f", "k", ()), "EVALSHA_RO 0f 1 k"),
        (c.fcall::<i64>("f", "k", "x"), "FCALL f 1 k x"),
        (c.fcall_ro::<i64>("f", "k", "x"), "FCALL_RO f 1 k x"),
        (c.script_load("s"), "SCRIPT LOAD s"),
        (c.script_exists(["0f", "f0"]), "SCRIPT EXISTS 0f f0"),
        (c.script_flush(), "SCRIPT FLUSH"),
        (c.script_flush_async(), "SCRIPT FLUSH ASYNC"),
        (c.script_kill(), "SCRIPT KILL"),
        (c.script_show::<String>("0f"), "SCRIPT SHOW 0f"),
        (c.script(&script).key("k").args([1, 2]).run::<i64>(),
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 k 1 2"),
        (c.script(&script.clone().read_only()).arg("x").keys(["a", "b"]).run::<()>(),
            "EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 2 a b x"),
        // Functions
        (c.function_load("code"), "FUNCTION LOAD code"),
        (c.function_load_replace("code"), "FUNCTION LOAD REPLACE code"),
        (c.function_list(), "FUNCTION LIST"),
        (c.function_list_code("l*"), "FUNCTION LIST LIBRARYNAME l* WITHCODE"),
        (c.function_delete("lib"), "FUNCTION DELETE lib"),
        (c.function_flush(), "FUNCTION FLUSH"),
        (c.function_dump::<Bytes>(), "FUNCTION DUMP"),
        (c.function_restore("d", ExistingLibraries::Kept), "FUNCTION RESTORE d APPEND"),
        (c.function_restore("d", ExistingLibraries::Replaced), "FUNCTION RESTORE d REPLACE"),
        (c.function_restore("d", ExistingLibraries::Deleted), "FUNCTION RESTORE d FLUSH"),
        (c.function_stats(), "FUNCTION STATS"),
        (c.function_kill(), "FUNCTION KILL"),
        // Publishing
        (c.publish("c", "m"), "PUBLISH c m"),
        (c.spublish("c", "m"), "SPUBLISH c m"),
        (c.pubsub_channels::<Vec<String>>(), "PUBSUB CHANNELS"),
        (c.pubsub_channels_matching::<Vec<String>>("c*"), "PUBSUB CHANNELS c*"),
        (c.pubsub_numsub::<BTreeMap<String, u64>>(["a", "b"]), "PUBSUB NUMSUB a b"),
        (c.pubsub_numpat(), "PUBSUB NUMPAT"),
        (c.pubsub_shardchannels::<Vec<String>>(), "PUBSUB SHARDCHANNELS"),
        (c.pubsub_shardchannels_matching::<Vec<String>>("c*"), "PUBSUB SHARDCHANNELS c*"),
        (c.pubsub_shardnumsub::<Vec<(String, u64)>>("a"), "PUBSUB SHARDNUMSUB a"),
        // Server
        (c.ping(), "PING"),
        (c.echo::<String>("m"), "ECHO m"),
        (c.time(), "TIME"),
        (c.dbsize(), "DBSIZE"),
        (c.flushdb(), "FLUSHDB"),
        (c.flushdb_async(), "FLUSHDB ASYNC"),
        (c.flushall(), "FLUSHALL"),
        (c.flushall_async(), "FLUSHALL ASYNC"),
        (c.info(), "INFO"),
        (c.info_of("memory"), "INFO memory"),
        (c.lastsave(), "LASTSAVE"),
        (c.client_id(), "CLIENT ID"),
        (c.client_getname(), "CLIENT GETNAME"),
        (c.client_list(), "CLIENT LIST"),
        (c.client_kill(7), "CLIENT KILL ID 7"),
        (c.config_get::<BTreeMap<String, String>>("max*"), "CONFIG GET max*"),
        (c.config_set(("maxmemory", 0)), "CONFIG SET maxmemory 0"),
        (c.command_count(), "COMMAND COUNT"),
    ]
}

#[test]
fn every_method_sends_what_its_command_needs() {
    for (sent, words) in methods() {
        assert_eq!(sent.words, words);
    }
}

#[test]
fn the_same_command_built_by_name_is_known_as_well() {
    for (sent, words) in methods() {
        let mut list = words.split(' ');
        let name = list.next().unwrap_or_default();
        let rest: Vec<_> = list.collect();
        assert_eq!(Recorder.command(name).args(rest).run::<()>(), sent, "word by word");
        assert_eq!(Recorder.command(words).run::<()>(), sent, "in one text");
    }
}

#[test]
fn methods_are_for_references_and_generic_code_too() {
    fn generic<R: Run + ?Sized>(client: &R) -> R::Pending<Option<i64>> {
        client.get("k")
    }
    assert_eq!(generic(&Recorder).words, "GET k");
    assert_eq!(generic(&&Recorder).words, "GET k");
}

#[test]
fn a_command_of_ones_own_is_a_write_without_keys() {
    let sent = Recorder.command("Ft.Search").arg("index").arg(7).run::<()>();
    assert_eq!(sent.words, "Ft.Search index 7");
    assert_eq!(sent.command, "Ft.Search");
    assert_eq!((sent.effect, sent.keys.len()), (Effect::Write, 0));
    let read = Recorder.command("FT.SEARCH").arg("index").effect(Effect::Read).run::<()>();
    assert_eq!(read.effect, Effect::Read);
}

#[test]
fn what_changes_the_connection_is_known_however_it_is_spelt() {
    for name in ["SELECT 1", " select  1", "Client Reply OFF", "client\treply", "multi "] {
        assert!(Recorder.command(name).run::<()>().session, "{name:?}");
    }
    assert!(Recorder.command("CLIENT").arg("tracking").arg("ON").run::<()>().session);
    assert!(Recorder.command("XREAD BLOCK 0 STREAMS").args(["s", "$"]).run::<()>().blocking);
}

#[test]
fn a_command_without_a_name_is_still_one_that_the_server_answers() {
    let mut out = Vec::new();
    Request::new(" ").encode(&mut out);
    assert_eq!(out, b"*1\r\n$0\r\n\r\n");
}

#[test]
fn a_subcommand_the_client_does_not_know_is_an_argument() {
    let sent = Recorder.command("OBJECT NEW").arg("key").run::<()>();
    assert_eq!((&*sent.words, &*sent.command), ("OBJECT NEW key", "OBJECT"));
    assert_eq!(sent.effect, Effect::Write);
    assert_eq!(Recorder.command("COMMAND").run::<()>().effect, Effect::Read);
}

#[test]
fn arguments_of_any_number_and_content_go_out_as_they_are() {
    let args: Vec<_> = (0..100).collect();
    let sent = Recorder.command("DEL").args(args).run::<()>();
    assert_eq!((sent.words.len(), sent.keys.len()), (3 + 10 * 2 + 90 * 3, 100));
    let mut out = Vec::new();
    Request::new("SET").arg("k\r\n").arg(&b"\xff\0 "[..]).encode(&mut out);
    assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$3\r\n\xff\0 \r\n");
}

#[test]
fn an_argument_in_the_making_is_never_printed() {
    let command = Recorder.command("AUTH secret").arg("secret");
    assert!(!format!("{command:?}").contains("secret"));
}

#[test]
fn a_time_to_live_is_told_from_its_absence() {
    let ttl = |reply| Ttl::from_reply(&Reply::from(Value::Integer(reply))).ok();
    assert_eq!(ttl(-2), Some(Ttl::NoKey));
    assert_eq!(ttl(-1), Some(Ttl::Forever));
    assert_eq!(ttl(0), Some(Ttl::Left(Duration::ZERO)));
    assert_eq!(ttl(1500), Some(Ttl::Left(Duration::from_millis(1500))));
    assert_eq!(ttl(-3), None);

    let time = |reply| ExpireTime::from_reply(&Reply::from(Value::Integer(reply))).ok();
    assert_eq!(time(-2), Some(ExpireTime::NoKey));
    assert_eq!(time(-1), Some(ExpireTime::Never));
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(5);
    assert_eq!(time(5), Some(ExpireTime::At(at)));
}

#[test]
fn a_set_whose_condition_is_not_met_is_no_failure() {
    assert_eq!(Option::<()>::from_reply(&Reply::ok()), Ok(Some(())));
    assert_eq!(Option::<()>::from_reply(&Reply::null()), Ok(None));
}

#[test]
fn the_servers_clock_is_read_to_the_microsecond() {
    let time = |reply| SystemTime::from_reply(&Reply::from(reply)).ok();
    let text = |text| Value::Bulk(Bytes::from_static(text));
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(7_000_009);
    assert_eq!(time(Value::Array(vec![text(b"7"), text(b"9")])), Some(at));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    assert_eq!(time(Value::Integer(7)), Some(at));
    assert_eq!(time(Value::Integer(-7)), None);
    assert_eq!(time(Value::Array(vec![text(b"18446744073709551615"), text(b"9")])), None);
}

#[test]
fn a_request_made_by_hand_agrees_with_the_table() {
    let freq = Request::new("OBJECT").arg("freq").arg("k");
    assert_eq!(freq.command(), "OBJECT FREQ");
    assert_eq!(freq.arguments().iter().map(Arg::as_bytes).collect::<Vec<_>>(), [b"k"]);
    assert_eq!(freq.declared_effect(), Effect::Read);
}

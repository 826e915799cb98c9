//! Lists, sets, sorted sets, streams, and what else a key can hold.

use std::ops::Bound;

use super::*;
use crate::commands::{BitPosition, EntryDeletion, FoundPlace, PendingEntry, PendingSummary};

#[rustfmt::skip]
pub(super) fn methods() -> Vec<(Sent, &'static str)> {
    [lists_and_sets(), sorted_sets(), streams(), bits_fields_places()].into_iter().flatten().collect()
}

#[rustfmt::skip]
fn lists_and_sets() -> Vec<(Sent, &'static str)> {
    let c = &Recorder;
    let lpos = LposOptions::new();
    let scan = ScanOptions::new();
    vec![
        // Lists
        (c.lpush("k", "a"), "LPUSH k a"),
        (c.rpush("k", ["a", "b"]), "RPUSH k a b"),
        (c.lpushx("k", "a"), "LPUSHX k a"),
        (c.rpushx("k", "a"), "RPUSHX k a"),
        (c.lpop::<String>("k"), "LPOP k"),
        (c.lpop_count::<Vec<String>>("k", 2), "LPOP k 2"),
        (c.rpop::<String>("k"), "RPOP k"),
        (c.rpop_count::<Vec<String>>("k", 2), "RPOP k 2"),
        (c.lmpop::<String, String>(["a", "b"], Side::Left, 3), "LMPOP 2 a b LEFT COUNT 3"),
        (c.lmove::<String>("a", "b", Side::Left, Side::Right), "LMOVE a b LEFT RIGHT"),
        (c.rpoplpush::<String>("a", "b"), "RPOPLPUSH a b"),
        (c.llen("k"), "LLEN k"),
        (c.lrange::<Vec<String>>("k", 0, -1), "LRANGE k 0 -1"),
        (c.lindex::<String>("k", -1), "LINDEX k -1"),
        (c.lset("k", 0, "a"), "LSET k 0 a"),
        (c.linsert_before("k", "p", "a"), "LINSERT k BEFORE p a"),
        (c.linsert_after("k", "p", "a"), "LINSERT k AFTER p a"),
        (c.lrem("k", -2, "a"), "LREM k -2 a"),
        (c.lrem("k", 0, "a"), "LREM k 0 a"),
        (c.ltrim("k", 0, 99), "LTRIM k 0 99"),
        (c.lpos("k", "a"), "LPOS k a"),
        (c.lpos_with("k", "a", lpos.rank(-1).max_len(9)), "LPOS k a RANK -1 MAXLEN 9"),
        (c.lpos_count("k", "a", 0, lpos), "LPOS k a COUNT 0"),
        // Sets
        (c.sadd("k", ["a", "b"]), "SADD k a b"),
        (c.srem("k", "a"), "SREM k a"),
        (c.smove("a", "b", "m"), "SMOVE a b m"),
        (c.scard("k"), "SCARD k"),
        (c.sismember("k", "a"), "SISMEMBER k a"),
        (c.smismember("k", ["a", "b"]), "SMISMEMBER k a b"),
        (c.smembers::<Vec<String>>("k"), "SMEMBERS k"),
        (c.spop::<String>("k"), "SPOP k"),
        (c.spop_count::<Vec<String>>("k", 2), "SPOP k 2"),
        (c.srandmember::<String>("k"), "SRANDMEMBER k"),
        (c.srandmember_count::<Vec<String>>("k", -2), "SRANDMEMBER k -2"),
        (c.sinter::<Vec<String>>(["a", "b"]), "SINTER a b"),
        (c.sintercard(["a", "b"]), "SINTERCARD 2 a b"),
        (c.sintercard_limit("a", 5), "SINTERCARD 1 a LIMIT 5"),
        (c.sunion::<Vec<String>>(["a", "b"]), "SUNION a b"),
        (c.sdiff::<Vec<String>>(["a", "b"]), "SDIFF a b"),
        (c.sinterstore("d", ["a", "b"]), "SINTERSTORE d a b"),
        (c.sunionstore("d", "a"), "SUNIONSTORE d a"),
        (c.sdiffstore("d", "a"), "SDIFFSTORE d a"),
        (c.sscan_page::<Vec<String>>("k", 7, scan.count(5)), "SSCAN k 7 COUNT 5"),
        // HyperLogLogs
        (c.pfadd("k", ["a", "b"]), "PFADD k a b"),
        (c.pfcount(["a", "b"]), "PFCOUNT a b"),
        (c.pfmerge("d", ["a", "b"]), "PFMERGE d a b"),
    ]
}

#[rustfmt::skip]
fn sorted_sets() -> Vec<(Sent, &'static str)> {
    let c = &Recorder;
    let scan = ScanOptions::new();
    let add = ZAddOptions::new();
    let max = Combine::new().weights([1.0, 0.5]).aggregate(Aggregate::Max);
    vec![
        (c.zadd("k", ("m", 1.5)), "ZADD k 1.5 m"),
        (c.zadd("k", [("m", 1), ("n", 2)]), "ZADD k 1 m 2 n"),
        (c.zadd("k", BTreeMap::from([("m", 1)])), "ZADD k 1 m"),
        (c.zadd_with("k", ("m", 1), add.nx().changed()), "ZADD k NX CH 1 m"),
        (c.zadd_with("k", ("m", 1), add.nx().xx().lt().gt()), "ZADD k XX GT 1 m"),
        (c.zadd_incr("k", "m", 0.5, add.lt()), "ZADD k LT INCR 0.5 m"),
        (c.zincrby("k", "m", -2.0), "ZINCRBY k -2 m"),
        (c.zrem("k", ["m", "n"]), "ZREM k m n"),
        (c.zcard("k"), "ZCARD k"),
        (c.zcount("k", ..), "ZCOUNT k -inf +inf"),
        (c.zcount("k", 1.0..2.5), "ZCOUNT k 1 (2.5"),
        (c.zcount("k", (Bound::Excluded(1.0), Bound::Included(2.0))), "ZCOUNT k (1 2"),
        (c.zcount("k", f64::NEG_INFINITY..=f64::INFINITY), "ZCOUNT k -inf inf"),
        (c.zlexcount("k", ..), "ZLEXCOUNT k - +"),
        (c.zlexcount("k", "a".."c"), "ZLEXCOUNT k [a (c"),
        (c.zlexcount("k", ..="c".to_owned()), "ZLEXCOUNT k - [c"),
        (c.zlexcount("k", (Bound::Excluded(b"a"), Bound::Unbounded)), "ZLEXCOUNT k (a +"),
        (c.zscore("k", "m"), "ZSCORE k m"),
        (c.zmscore("k", ["m", "n"]), "ZMSCORE k m n"),
        (c.zrank("k", "m"), "ZRANK k m"),
        (c.zrevrank("k", "m"), "ZREVRANK k m"),
        (c.zrank_with_score("k", "m"), "ZRANK k m WITHSCORE"),
        (c.zrevrank_with_score("k", "m"), "ZREVRANK k m WITHSCORE"),
        (c.zrange::<Vec<String>>("k", 0, -1), "ZRANGE k 0 -1"),
        (c.zrange_with_scores::<String>("k", 0, -1), "ZRANGE k 0 -1 WITHSCORES"),
        (c.zrange_by::<Vec<String>>("k", ZRange::ranks(0, 9).rev()), "ZRANGE k 0 9 REV"),
        (c.zrange_by::<Vec<String>>("k", ZRange::scores(1.0..).limit(20, 10)),
            "ZRANGE k 1 +inf BYSCORE LIMIT 20 10"),
        (c.zrange_by_with_scores::<String>("k", ZRange::scores(1.0..5.0).rev()),
            "ZRANGE k (5 1 BYSCORE REV WITHSCORES"),
        (c.zrange_by::<Vec<String>>("k", ZRange::members("a".."c").rev().limit(0, 5)),
            "ZRANGE k (c [a BYLEX REV LIMIT 0 5"),
        (c.zrangestore("d", "s", ZRange::scores(..)), "ZRANGESTORE d s -inf +inf BYSCORE"),
        (c.zrevrange::<Vec<String>>("k", 0, 9), "ZREVRANGE k 0 9"),
        (c.zrangebyscore::<Vec<String>>("k", ..5.0), "ZRANGEBYSCORE k -inf (5"),
        (c.zrevrangebyscore::<Vec<String>>("k", ..5.0), "ZREVRANGEBYSCORE k (5 -inf"),
        (c.zrangebylex::<Vec<String>>("k", "a"..), "ZRANGEBYLEX k [a +"),
        (c.zrevrangebylex::<Vec<String>>("k", "a"..), "ZREVRANGEBYLEX k + [a"),
        (c.zremrangebyrank("k", 0, 1), "ZREMRANGEBYRANK k 0 1"),
        (c.zremrangebyscore("k", ..1.0), "ZREMRANGEBYSCORE k -inf (1"),
        (c.zremrangebylex("k", ..), "ZREMRANGEBYLEX k - +"),
        (c.zpopmin::<String>("k"), "ZPOPMIN k"),
        (c.zpopmin_count::<String>("k", 2), "ZPOPMIN k 2"),
        (c.zpopmax::<String>("k"), "ZPOPMAX k"),
        (c.zpopmax_count::<String>("k", 2), "ZPOPMAX k 2"),
        (c.zmpop::<String, String>(["a", "b"], ScoreEnd::Lowest, 1), "ZMPOP 2 a b MIN COUNT 1"),
        (c.zmpop::<String, String>("a", ScoreEnd::Highest, 3), "ZMPOP 1 a MAX COUNT 3"),
        (c.zrandmember::<String>("k"), "ZRANDMEMBER k"),
        (c.zrandmember_count::<Vec<String>>("k", -2), "ZRANDMEMBER k -2"),
        (c.zrandmember_with_scores::<String>("k", 2), "ZRANDMEMBER k 2 WITHSCORES"),
        (c.zunion::<Vec<String>>(["a", "b"]), "ZUNION 2 a b"),
        (c.zunion_with_scores::<String>(["a", "b"], max.clone()),
            "ZUNION 2 a b WEIGHTS 1 0.5 AGGREGATE MAX WITHSCORES"),
        (c.zunionstore("d", ["a", "b"], Combine::new()), "ZUNIONSTORE d 2 a b"),
        (c.zinter::<Vec<String>>(["a", "b"]), "ZINTER 2 a b"),
        (c.zinter_with_scores::<String>("a", Combine::new().aggregate(Aggregate::Min)),
            "ZINTER 1 a AGGREGATE MIN WITHSCORES"),
        (c.zinterstore("d", ["a", "b"], Combine::new().aggregate(Aggregate::Sum)),
            "ZINTERSTORE d 2 a b AGGREGATE SUM"),
        (c.zintercard(["a", "b"]), "ZINTERCARD 2 a b"),
        (c.zintercard_limit("a", 5), "ZINTERCARD 1 a LIMIT 5"),
        (c.zdiff::<Vec<String>>(["a", "b"]), "ZDIFF 2 a b"),
        (c.zdiff_with_scores::<String>(["a", "b"]), "ZDIFF 2 a b WITHSCORES"),
        (c.zdiffstore("d", ["a", "b"]), "ZDIFFSTORE d 2 a b"),
        (c.zscan_page::<String>("k", 7, scan.pattern("m*")), "ZSCAN k 7 MATCH m*"),
    ]
}

type Fields = Vec<(String, String)>;

#[rustfmt::skip]
fn streams() -> Vec<(Sent, &'static str)> {
    let c = &Recorder;
    let ms = Duration::from_millis(1500);
    let at = SystemTime::UNIX_EPOCH + ms;
    let id = StreamId::new(7, 1);
    let add = XAddOptions::new();
    let read = ReadOptions::new();
    let filter = PendingFilter::new();
    vec![
        (c.xadd("k", ("f", "v")), "XADD k * f v"),
        (c.xadd_with("k", ("f", 1), add.clone()), "XADD k * f 1"),
        (c.xadd_with("k", [("f", 1), ("g", 2)], add.clone().id(id).no_mkstream()),
            "XADD k NOMKSTREAM 7-1 f 1 g 2"),
        (c.xadd_with("k", ("f", 1), add.clone().millis(7).trim(Trim::max_len(9).about().limit(5))),
            "XADD k MAXLEN ~ 9 LIMIT 5 7-* f 1"),
        (c.xlen("k"), "XLEN k"),
        (c.xrange::<Fields>("k", ..), "XRANGE k - +"),
        (c.xrange::<Fields>("k", id..), "XRANGE k 7-1 +"),
        (c.xrange::<Fields>("k", (Bound::Excluded(id), Bound::Unbounded)), "XRANGE k (7-1 +"),
        (c.xrange_count::<Fields>("k", ..id, 5), "XRANGE k - (7-1 COUNT 5"),
        (c.xrevrange::<Fields>("k", id..), "XREVRANGE k + 7-1"),
        (c.xrevrange_count::<Fields>("k", .., 1), "XREVRANGE k + - COUNT 1"),
        (c.xread::<Fields>(("k", ReadFrom::After(id)), read), "XREAD STREAMS k 7-1"),
        (c.xread::<Fields>([("a", ReadFrom::New), ("b", ReadFrom::Last)], read.count(5)),
            "XREAD COUNT 5 STREAMS a b $ +"),
        (c.xreadgroup::<Fields>("g", "c", ("k", GroupRead::New), read),
            "XREADGROUP GROUP g c STREAMS k >"),
        (c.xreadgroup::<Fields>("g", "c", [("a", GroupRead::PendingAfter(id)), ("b", GroupRead::New)],
            read.count(5).no_ack()), "XREADGROUP GROUP g c COUNT 5 NOACK STREAMS a b 7-1 >"),
        (c.xack("k", "g", [id, StreamId::MIN]), "XACK k g 7-1 0-0"),
        (c.xdel("k", id), "XDEL k 7-1"),
        (c.xdelex("k", References::Acked, id), "XDELEX k ACKED IDS 1 7-1"),
        (c.xackdel("k", "g", References::Delete, [id, id]), "XACKDEL k g DELREF IDS 2 7-1 7-1"),
        (c.xtrim("k", Trim::max_len(9)), "XTRIM k MAXLEN = 9"),
        (c.xtrim("k", Trim::min_id(id).about().references(References::Keep)),
            "XTRIM k MINID ~ 7-1 KEEPREF"),
        (c.xsetid("k", id), "XSETID k 7-1"),
        (c.xsetid_with("k", id, 9, StreamId::MIN), "XSETID k 7-1 ENTRIESADDED 9 MAXDELETEDID 0-0"),
        (c.xgroup_create("k", "g", GroupStart::End, GroupOptions::new()), "XGROUP CREATE k g $"),
        (c.xgroup_create("k", "g", GroupStart::After(id), GroupOptions::new().mkstream().entries_read(3)),
            "XGROUP CREATE k g 7-1 MKSTREAM ENTRIESREAD 3"),
        (c.xgroup_setid("k", "g", GroupStart::Beginning), "XGROUP SETID k g 0"),
        (c.xgroup_destroy("k", "g"), "XGROUP DESTROY k g"),
        (c.xgroup_createconsumer("k", "g", "c"), "XGROUP CREATECONSUMER k g c"),
        (c.xgroup_delconsumer("k", "g", "c"), "XGROUP DELCONSUMER k g c"),
        (c.xpending("k", "g"), "XPENDING k g"),
        (c.xpending_range("k", "g", .., 10, filter), "XPENDING k g - + 10"),
        (c.xpending_range("k", "g", id.., 10, filter.min_idle(ms).consumer("c")),
            "XPENDING k g IDLE 1500 7-1 + 10 c"),
        (c.xclaim::<Fields>("k", "g", "c", ms, [id]), "XCLAIM k g c 1500 7-1"),
        (c.xclaim_with::<Fields>("k", "g", "c", ms, id, ClaimOptions::new().idle(ms).deliveries(2)),
            "XCLAIM k g c 1500 7-1 IDLE 1500 RETRYCOUNT 2"),
        (c.xclaim_with::<Fields>("k", "g", "c", ms, id, ClaimOptions::new().delivered_at(at).force()),
            "XCLAIM k g c 1500 7-1 TIME 1500 FORCE"),
        (c.xclaim_ids("k", "g", "c", ms, id), "XCLAIM k g c 1500 7-1 JUSTID"),
        (c.xautoclaim::<Fields>("k", "g", "c", ms, StreamId::MIN, 10),
            "XAUTOCLAIM k g c 1500 0-0 COUNT 10"),
        (c.xautoclaim_ids("k", "g", "c", ms, id, 10), "XAUTOCLAIM k g c 1500 7-1 COUNT 10 JUSTID"),
        (c.xinfo_stream::<Fields>("k"), "XINFO STREAM k"),
        (c.xinfo_stream_full::<Fields>("k", 5), "XINFO STREAM k FULL COUNT 5"),
        (c.xinfo_groups("k"), "XINFO GROUPS k"),
        (c.xinfo_consumers("k", "g"), "XINFO CONSUMERS k g"),
    ]
}

#[rustfmt::skip]
fn bits_fields_places() -> Vec<(Sent, &'static str)> {
    let c = &Recorder;
    let ms = Duration::from_millis(1500);
    let at = SystemTime::UNIX_EPOCH + ms;
    let palermo = GeoPoint::new(13.361389, 38.115556);
    let near = GeoSearch::around(palermo, Area::Radius(200.0), GeoUnit::Kilometres);
    let boxed = GeoSearch::around_member("p", Area::Box(1.5, 2.0), GeoUnit::Miles);
    vec![
        // Bits
        (c.bitcount_bits("k", 0, -1), "BITCOUNT k 0 -1 BIT"),
        (c.bitpos("k", true), "BITPOS k 1"),
        (c.bitpos_range("k", false, 1, -1), "BITPOS k 0 1 -1"),
        (c.bitpos_bits("k", true, 1, -1), "BITPOS k 1 1 -1 BIT"),
        (c.bitop(BitOperation::Xor, "d", ["a", "b"]), "BITOP XOR d a b"),
        (c.bitop(BitOperation::AndOr, "d", ["a", "b"]), "BITOP ANDOR d a b"),
        (c.bitfield("k", BitField::new()
            .get(BitInt::unsigned(8), BitOffset::Bit(4))
            .overflow(Overflow::Fail)
            .set(BitInt::signed(5), BitOffset::Item(2), -3)
            .incrby(BitInt::signed(64), BitOffset::Bit(0), 9)),
            "BITFIELD k GET u8 4 OVERFLOW FAIL SET i5 #2 -3 INCRBY i64 0 9"),
        (c.bitfield_ro("k", BitField::new().get(BitInt::unsigned(1), BitOffset::Bit(0))),
            "BITFIELD_RO k GET u1 0"),
        // Fields that expire
        (c.hexpire("k", ms, ["f", "g"]), "HPEXPIRE k 1500 FIELDS 2 f g"),
        (c.hexpire_if("k", ms, ExpireIf::Lt, "f"), "HPEXPIRE k 1500 LT FIELDS 1 f"),
        (c.hexpire_at("k", at, "f"), "HPEXPIREAT k 1500 FIELDS 1 f"),
        (c.httl("k", "f"), "HPTTL k FIELDS 1 f"),
        (c.hexpire_time("k", "f"), "HPEXPIRETIME k FIELDS 1 f"),
        (c.hpersist("k", ["f", "g"]), "HPERSIST k FIELDS 2 f g"),
        (c.hgetex::<Vec<Option<String>>>("k", Expiry::In(ms), "f"), "HGETEX k PX 1500 FIELDS 1 f"),
        (c.hgetex::<Vec<Option<String>>>("k", Expiry::Never, "f"), "HGETEX k PERSIST FIELDS 1 f"),
        (c.hgetdel::<Vec<Option<String>>>("k", ["f", "g"]), "HGETDEL k FIELDS 2 f g"),
        (c.hsetex("k", ("f", 1), HSetExOptions::new()), "HSETEX k FIELDS 1 f 1"),
        (c.hsetex("k", [("f", 1), ("g", 2)], HSetExOptions::new().fxx().fnx().ex(ms)),
            "HSETEX k FNX PX 1500 FIELDS 2 f 1 g 2"),
        (c.hsetex("k", ("f", 1), HSetExOptions::new().fxx().ex_at(at).keep_ttl()),
            "HSETEX k FXX KEEPTTL FIELDS 1 f 1"),
        // Places
        (c.geoadd("k", &[("p", palermo), ("q", palermo)]),
            "GEOADD k 13.361389 38.115556 p 13.361389 38.115556 q"),
        (c.geoadd_with("k", &[("p", palermo)], GeoAddOptions::new().nx().xx().changed()),
            "GEOADD k XX CH 13.361389 38.115556 p"),
        (c.geodist("k", "p", "q", GeoUnit::Feet), "GEODIST k p q ft"),
        (c.geohash("k", ["p", "q"]), "GEOHASH k p q"),
        (c.geopos("k", "p"), "GEOPOS k p"),
        (c.geosearch::<Vec<String>>("k", near.clone().nearest_first().count(5)),
            "GEOSEARCH k FROMLONLAT 13.361389 38.115556 BYRADIUS 200 km ASC COUNT 5"),
        (c.geosearch_places::<String>("k", boxed.clone().farthest_first()),
            "GEOSEARCH k FROMMEMBER p BYBOX 1.5 2 mi DESC WITHCOORD WITHDIST"),
        (c.geosearchstore("d", "k", boxed.any(3)),
            "GEOSEARCHSTORE d k FROMMEMBER p BYBOX 1.5 2 mi COUNT 3 ANY"),
        // What waits
        (c.blpop::<String, i64>(["a", "b"], ms), "BLPOP a b 1.500"),
        (c.brpop::<String, i64>("a", None), "BRPOP a 0"),
        (c.blmove::<i64>("a", "b", Side::Left, Side::Right, Duration::from_secs(2)),
            "BLMOVE a b LEFT RIGHT 2"),
        (c.brpoplpush::<i64>("a", "b", Duration::ZERO), "BRPOPLPUSH a b 0.001"),
        (c.blmpop::<String, i64>(["a", "b"], Side::Right, 3, ms), "BLMPOP 1.500 2 a b RIGHT COUNT 3"),
        (c.bzpopmin::<String, i64>("a", Duration::from_nanos(1)), "BZPOPMIN a 0.001"),
        (c.bzpopmax::<String, i64>(["a", "b"], Duration::MAX), "BZPOPMAX a b 2147483648"),
        (c.bzmpop::<String, i64>("a", ScoreEnd::Lowest, 2, None), "BZMPOP 0 1 a MIN COUNT 2"),
        (c.xread_blocking::<Fields>(("a", ReadFrom::New), ReadOptions::new().count(2), ms),
            "XREAD COUNT 2 BLOCK 1500 STREAMS a $"),
        (c.xreadgroup_blocking::<Fields>("g", "me", ("a", GroupRead::New), ReadOptions::new(), None),
            "XREADGROUP GROUP g me BLOCK 0 STREAMS a >"),
        (c.wait(2, ms), "WAIT 2 1500"),
        (c.waitaof(true, 1, None), "WAITAOF 1 1 0"),
        // What is said of a connection
        (c.watch(["a", "b"]), "WATCH a b"),
        (c.unwatch(), "UNWATCH"),
        (c.multi(), "MULTI"),
        (c.exec::<Vec<i64>>(), "EXEC"),
        (c.discard(), "DISCARD"),
        (c.select(3), "SELECT 3"),
        (c.auth("user", "password"), "AUTH user password"),
        (c.client_setname("me"), "CLIENT SETNAME me"),
        (c.readonly(), "READONLY"),
        (c.readwrite(), "READWRITE"),
    ]
}

fn text(text: &'static str) -> Value {
    Value::Bulk(text.into())
}

fn decode<T: FromReply>(value: Value) -> Option<T> {
    T::from_reply(&Reply::from(value)).ok()
}

#[test]
fn what_a_command_says_of_nothing_is_none_in_both_protocols() {
    assert_eq!(decode::<Option<(String, f64)>>(Value::Array(vec![])), Some(None));
    assert_eq!(decode::<Option<(String, f64)>>(Value::Null), Some(None));
    let pair = Value::Array(vec![text("m"), Value::Double(1.5)]);
    assert_eq!(decode::<Option<(String, f64)>>(pair), Some(Some(("m".to_owned(), 1.5))));
    let odd = Value::Array(vec![text("m")]);
    assert_eq!(decode::<Option<(String, f64)>>(odd), None);
    assert_eq!(decode::<Option<Vec<i64>>>(Value::Array(vec![])), Some(Some(vec![])));
    assert_eq!(decode::<Vec<crate::commands::StreamRead<Fields>>>(Value::Null), Some(vec![]));
}

#[test]
fn numbers_that_stand_for_words_are_read_as_such() {
    use crate::commands::{FieldExpiry, FieldPersisted};

    assert_eq!(decode(Value::Integer(-1)), Some(Inserted::NoPivot));
    assert_eq!(decode(Value::Integer(0)), Some(Inserted::NoKey));
    assert_eq!(decode(Value::Integer(3)), Some(Inserted::Done(3)));
    assert_eq!(decode::<Inserted>(Value::Integer(-2)), None);
    assert_eq!(decode(Value::Integer(-1)), Some(BitPosition::Nowhere));
    assert_eq!(decode(Value::Integer(0)), Some(BitPosition::At(0)));
    assert_eq!(decode::<BitPosition>(Value::Integer(-2)), None);
    assert_eq!(decode(Value::Integer(2)), Some(EntryDeletion::Kept));
    assert_eq!(decode::<EntryDeletion>(Value::Integer(0)), None);
    let all = [1, 0, 2, -2].map(Value::Integer).to_vec();
    let expected =
        [FieldExpiry::Set, FieldExpiry::NotMet, FieldExpiry::Deleted, FieldExpiry::NoField];
    assert_eq!(decode::<[FieldExpiry; 4]>(Value::Array(all)), Some(expected));
    let all = [1, -1, -2].map(Value::Integer).to_vec();
    let expected = [FieldPersisted::Done, FieldPersisted::Forever, FieldPersisted::NoField];
    assert_eq!(decode::<[FieldPersisted; 3]>(Value::Array(all)), Some(expected));
    assert_eq!(decode::<FieldPersisted>(Value::Integer(0)), None);
}

#[test]
fn streams_are_read_from_maps_and_from_arrays() {
    let entry =
        |id: &'static str| Value::Array(vec![text(id), Value::Array(vec![text("f"), text("v")])]);
    let entries = || Value::Array(vec![entry("1-0"), entry("1-1")]);
    let in_resp2 = Value::Array(vec![Value::Array(vec![text("s"), entries()])]);
    let in_resp3 = Value::Map(vec![(text("s"), entries())]);
    for reply in [in_resp2, in_resp3] {
        let streams: Vec<crate::commands::StreamRead<Fields>> = decode(reply).expect("streams");
        let [stream] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!((&stream.key[..], stream.entries.len()), (&b"s"[..], 2));
        assert_eq!(stream.entries[1].id, StreamId::new(1, 1));
        assert_eq!(stream.entries[1].fields, [("f".to_owned(), "v".to_owned())]);
    }
    // An entry that was deleted, and one of a server that says more of each.
    let deleted = Value::Array(vec![text("1-0"), Value::Null]);
    let more =
        Value::Array(vec![text("1-1"), Value::Array(vec![]), Value::Integer(5), Value::Integer(1)]);
    let entries = Value::Array(vec![deleted, Value::Null, more]);
    let entries: Vec<StreamEntry<Option<Fields>>> = decode(entries).expect("entries");
    assert_eq!(entries[0], StreamEntry::new(StreamId::new(1, 0), None));
    assert_eq!(entries[1], StreamEntry::new(StreamId::new(1, 1), Some(vec![])));
    assert_eq!(decode::<Vec<StreamEntry<Fields>>>(text("no")), None);
    assert_eq!(
        decode::<StreamEntry<Fields>>(Value::Array(vec![text("x-y"), Value::Array(vec![])])),
        None
    );
}

#[test]
fn what_is_pending_is_told_in_sum_and_one_by_one() {
    let nothing = Value::Array(vec![Value::Integer(0), Value::Null, Value::Null, Value::Null]);
    let nothing: PendingSummary = decode(nothing).expect("a summary");
    assert_eq!((nothing.count, nothing.lowest, nothing.consumers.len()), (0, None, 0));
    let consumer = Value::Array(vec![text("c"), text("2")]);
    let some = vec![Value::Integer(2), text("1-0"), text("2-0"), Value::Array(vec![consumer])];
    let some: PendingSummary = decode(Value::Array(some)).expect("a summary");
    assert_eq!((some.count, some.highest), (2, Some(StreamId::new(2, 0))));
    assert_eq!(some.consumers, [("c".to_owned(), 2)]);
    let entry = vec![text("1-0"), text("c"), Value::Integer(74), Value::Integer(1)];
    let entry: PendingEntry = decode(Value::Array(entry)).expect("an entry");
    assert_eq!((entry.idle, entry.deliveries), (Duration::from_millis(74), 1));
}

#[test]
fn a_place_comes_with_its_distance_and_where_it_is() {
    let at = Value::Array(vec![text("13.5"), Value::Double(38.0)]);
    let place: FoundPlace<String> =
        decode(Value::Array(vec![text("p"), text("0.1893"), at])).expect("a place");
    assert_eq!(
        (&*place.member, place.distance, place.at),
        ("p", 0.1893, GeoPoint::new(13.5, 38.0))
    );
}

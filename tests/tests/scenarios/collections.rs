//! Lists, sets, sorted sets, streams and what else a key can hold, against a real server, over both
//! protocols: the same Rust values whichever of them is spoken.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::{Duration, SystemTime},
};

use unfazed_core::{
    Failure, FromReply,
    commands::{Run, prelude::*},
    failure::Executed,
};

use crate::{
    adapters::{Adapter, in_cluster, scenarios},
    site::Site,
    support::{PROTOCOLS, failure},
};

scenarios! {
    lists_have_two_ends,
    lists_are_searched_and_cut,
    sets_hold_each_member_once,
    sets_are_put_together,
    sorted_sets_keep_scores,
    sorted_sets_are_read_by_rank_score_and_member,
    sorted_sets_are_put_together,
    bits_are_found_combined_and_counted_with,
    what_is_counted_is_about_right,
    places_are_found,
    fields_expire_where_the_server_knows_how,
    streams_grow_and_are_read,
    groups_share_what_a_stream_delivers,
    what_stalled_is_claimed,
    streams_tell_of_themselves,
}

in_cluster! {
    lists_have_two_ends,
    lists_are_searched_and_cut,
    sets_hold_each_member_once,
    sets_are_put_together,
    sorted_sets_keep_scores,
    sorted_sets_are_read_by_rank_score_and_member,
    sorted_sets_are_put_together,
    bits_are_found_combined_and_counted_with,
    what_is_counted_is_about_right,
    places_are_found,
    fields_expire_where_the_server_knows_how,
    streams_grow_and_are_read,
    groups_share_what_a_stream_delivers,
    what_stalled_is_claimed,
    streams_tell_of_themselves,
}

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

/// The failure of a request, which must be one that the server ran.
fn refused<A: Adapter, T: FromReply + Send + 'static>(
    pending: <A::Client as Run>::Pending<T>,
) -> Failure {
    let failure = failure(A::wait(pending));
    assert_eq!(failure.executed(), Executed::Yes, "{failure}");
    failure
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn scored(list: &[(&str, f64)]) -> Vec<(String, f64)> {
    list.iter().map(|&(member, score)| (member.to_owned(), score)).collect()
}

fn lists_have_two_ends<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.lpushx("l", "x")), 0);
        assert_eq!(ok!(client.rpush("l", ["c", "d"])), 2);
        assert_eq!(ok!(client.lpush("l", ["b", "a"])), 4);
        assert_eq!(ok!(client.rpushx("l", "e")), 5);
        assert_eq!(ok!(client.llen("l")), 5);
        assert_eq!(
            ok!(client.lrange::<Vec<String>>("l", 0, -1)),
            words(&["a", "b", "c", "d", "e"])
        );
        assert_eq!(ok!(client.lpop::<String>("l")), text("a"));
        assert_eq!(ok!(client.rpop::<String>("l")), text("e"));
        assert_eq!(ok!(client.lpop_count::<Vec<String>>("l", 2)), Some(words(&["b", "c"])));
        assert_eq!(ok!(client.rpop_count::<Vec<String>>("l", 9)), Some(words(&["d"])));
        assert_eq!(ok!(client.rpop_count::<Vec<String>>("l", 9)), None);
        assert_eq!(ok!(client.lpop::<String>("l")), None);
        assert_eq!(ok!(client.lmpop::<String, String>(["l", "{l}m"], Side::Left, 1)), None);
        ok!(client.rpush("{l}m", [1, 2, 3]));
        let some: Option<(String, Vec<i64>)> = ok!(client.lmpop(["l", "{l}m"], Side::Right, 2));
        assert_eq!(some, Some(("{l}m".into(), vec![3, 2])));
        ok!(client.rpush("{l}m", [2, 3]));
        assert_eq!(ok!(client.lmove::<i64>("{l}m", "{l}n", Side::Left, Side::Right)), Some(1));
        assert_eq!(ok!(client.rpoplpush::<i64>("{l}m", "{l}n")), Some(3));
        assert_eq!(ok!(client.lrange::<Vec<i64>>("{l}n", 0, -1)), [3, 1]);
        assert_eq!(ok!(client.rpoplpush::<i64>("{l}none", "{l}n")), None);
        ok!(client.set("word", 1));
        assert_eq!(refused::<A, _>(client.lpush("word", 1)).command(), "LPUSH");
    });
}

fn lists_are_searched_and_cut<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.rpush("l", ["a", "b", "a", "c", "a"]));
        assert_eq!(ok!(client.lindex::<String>("l", -2)), text("c"));
        assert_eq!(ok!(client.lindex::<String>("l", 9)), None);
        assert_eq!(ok!(client.lpos("l", "a")), Some(0));
        assert_eq!(ok!(client.lpos("l", "x")), None);
        assert_eq!(ok!(client.lpos_with("l", "a", LposOptions::new().rank(-1))), Some(4));
        assert_eq!(ok!(client.lpos_with("l", "c", LposOptions::new().max_len(2))), None);
        assert_eq!(ok!(client.lpos_count("l", "a", 0, LposOptions::new())), [0, 2, 4]);
        assert_eq!(ok!(client.lpos_count("l", "a", 1, LposOptions::new().rank(2))), [2]);
        assert!(ok!(client.lpos_count("none", "a", 0, LposOptions::new())).is_empty());
        assert_eq!(ok!(client.linsert_before("l", "b", "x")), Inserted::Done(6));
        assert_eq!(ok!(client.linsert_after("l", "b", "y")), Inserted::Done(7));
        assert_eq!(ok!(client.linsert_after("l", "no", "y")), Inserted::NoPivot);
        assert_eq!(ok!(client.linsert_after("none", "no", "y")), Inserted::NoKey);
        ok!(client.lset("l", 0, "z"));
        refused::<A, _>(client.lset("l", 99, "z"));
        assert_eq!(ok!(client.lrem("l", -1, "a")), 1);
        assert_eq!(ok!(client.lrem("l", 0, "a")), 1);
        assert_eq!(
            ok!(client.lrange::<Vec<String>>("l", 0, -1)),
            words(&["z", "x", "b", "y", "c"])
        );
        ok!(client.ltrim("l", 1, 2));
        assert_eq!(ok!(client.lrange::<Vec<String>>("l", 0, -1)), words(&["x", "b"]));
    });
}

fn sets_hold_each_member_once<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.sadd("s", ["a", "b", "a"])), 2);
        assert_eq!(ok!(client.sadd("s", "c")), 1);
        assert_eq!(ok!(client.scard("s")), 3);
        assert!(ok!(client.sismember("s", "a")));
        assert!(!ok!(client.sismember("s", "x")));
        assert_eq!(ok!(client.smismember("s", ["a", "x", "c"])), [true, false, true]);
        let all: BTreeSet<String> = ok!(client.smembers("s"));
        assert_eq!(all, BTreeSet::from(["a".into(), "b".into(), "c".into()]));
        assert!(all.contains(&ok!(client.srandmember::<String>("s")).expect("there are some")));
        assert_eq!(ok!(client.srandmember::<String>("none")), None);
        assert_eq!(ok!(client.srandmember_count::<BTreeSet<String>>("s", 9)), all);
        assert_eq!(ok!(client.srandmember_count::<Vec<String>>("s", -9)).len(), 9);
        assert!(ok!(client.smove("s", "{s}t", "a")));
        assert!(!ok!(client.smove("s", "{s}t", "a")));
        assert_eq!(ok!(client.srem("s", ["b", "x"])), 1);
        assert_eq!(ok!(client.spop::<String>("s")), text("c"));
        assert_eq!(ok!(client.spop::<String>("s")), None);
        assert_eq!(
            ok!(client.spop_count::<BTreeSet<String>>("{s}t", 5)),
            BTreeSet::from(["a".into()])
        );
        assert!(ok!(client.spop_count::<BTreeSet<String>>("{s}t", 5)).is_empty());
        ok!(client.sadd("many", (0..500).collect::<Vec<_>>()));
        let (mut cursor, mut found) = (0, BTreeSet::new());
        loop {
            let page: (u64, Vec<u32>) = ok!(client.sscan_page("many", cursor, ScanOptions::new()));
            found.extend(page.1);
            cursor = page.0;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(found, (0..500).collect());
    });
}

fn sets_are_put_together<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.sadd("a", [1, 2, 3]));
        ok!(client.sadd("{a}b", [2, 3, 4]));
        assert_eq!(ok!(client.sinter::<BTreeSet<i64>>(["a", "{a}b"])), BTreeSet::from([2, 3]));
        assert_eq!(
            ok!(client.sunion::<BTreeSet<i64>>(["a", "{a}b"])),
            BTreeSet::from([1, 2, 3, 4])
        );
        assert_eq!(ok!(client.sdiff::<Vec<i64>>(["a", "{a}b"])), [1]);
        assert_eq!(ok!(client.sintercard(["a", "{a}b"])), 2);
        assert_eq!(ok!(client.sintercard_limit(["a", "{a}b"], 1)), 1);
        assert_eq!(ok!(client.sinterstore("{a}d", ["a", "{a}b"])), 2);
        assert_eq!(ok!(client.sunionstore("{a}d", ["a", "{a}b"])), 4);
        assert_eq!(ok!(client.sdiffstore("{a}d", ["a", "{a}b"])), 1);
        assert_eq!(ok!(client.smembers::<Vec<i64>>("{a}d")), [1]);
    });
}

fn sorted_sets_keep_scores<A: Adapter>() {
    on_both::<A>(|client| {
        assert_eq!(ok!(client.zadd("z", [("a", 1.0), ("b", 2.5)])), 2);
        assert_eq!(ok!(client.zadd("z", ("c", f64::INFINITY))), 1);
        let some = ok!(client.zrange_with_scores::<String>("z", 0, -1));
        assert_eq!(some, scored(&[("a", 1.0), ("b", 2.5), ("c", f64::INFINITY)]));
        assert_eq!(ok!(client.zadd("{z}copy", &some)), 3, "what came back can go out again");
        let add = ZAddOptions::new();
        assert_eq!(ok!(client.zadd_with("z", [("a", 5), ("d", 4)], add.nx())), 1);
        assert_eq!(ok!(client.zadd_with("z", [("a", 0), ("e", 4)], add.xx().changed())), 1);
        assert_eq!(ok!(client.zadd_with("z", ("a", -1), add.gt().changed())), 0);
        assert_eq!(ok!(client.zadd_incr("z", "a", 1.5, add)), Some(1.5));
        assert_eq!(ok!(client.zadd_incr("z", "x", 1.5, add.xx())), None);
        assert_eq!(ok!(client.zincrby("z", "a", -0.25)), 1.25);
        assert_eq!(ok!(client.zscore("z", "a")), Some(1.25));
        assert_eq!(ok!(client.zscore("z", "x")), None);
        assert_eq!(ok!(client.zmscore("z", ["a", "x", "d"])), [Some(1.25), None, Some(4.0)]);
        assert_eq!(ok!(client.zcard("z")), 4);
        assert_eq!(ok!(client.zrank("z", "b")), Some(1));
        assert_eq!(ok!(client.zrevrank("z", "b")), Some(2));
        assert_eq!(ok!(client.zrank("z", "x")), None);
        assert_eq!(ok!(client.zrem("z", ["c", "x"])), 1);
        let some: Option<String> = ok!(client.zrandmember("z"));
        assert!(some.is_some());
        assert_eq!(ok!(client.zrandmember::<String>("none")), None);
        assert_eq!(ok!(client.zrandmember_count::<BTreeSet<String>>("z", 9)).len(), 3);
        assert_eq!(ok!(client.zrandmember_with_scores::<String>("z", -7)).len(), 7);
        assert_eq!(ok!(client.zpopmin::<String>("z")), Some(("a".into(), 1.25)));
        assert_eq!(ok!(client.zpopmax::<String>("z")), Some(("d".into(), 4.0)));
        assert_eq!(ok!(client.zpopmin::<String>("none")), None);
        assert_eq!(ok!(client.zpopmin_count::<String>("z", 5)), scored(&[("b", 2.5)]));
        assert!(ok!(client.zpopmax_count::<String>("z", 5)).is_empty());
        assert_eq!(ok!(client.zpopmax_count::<String>("{z}copy", 2)).len(), 2);
        let end = ScoreEnd::Highest;
        let some: Option<(String, Vec<(String, f64)>)> =
            ok!(client.zmpop(["z", "{z}copy"], end, 3));
        assert_eq!(some, Some(("{z}copy".into(), scored(&[("a", 1.0)]))));
        assert_eq!(ok!(client.zmpop::<String, String>("z", end, 3)), None);
    });
}

fn sorted_sets_are_read_by_rank_score_and_member<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.zadd("z", [("a", 1), ("b", 2), ("c", 3), ("d", 4)]));
        let by = |range| ok!(client.zrange_by::<Vec<String>>("z", range)).concat();
        assert_eq!(ok!(client.zrange::<Vec<String>>("z", 1, -2)).concat(), "bc");
        assert_eq!(by(ZRange::ranks(0, 1).rev()), "dc");
        assert_eq!(by(ZRange::scores(2.0..4.0)), "bc");
        assert_eq!(by(ZRange::scores(2.0..=4.0).rev()), "dcb");
        let open = (Bound::Excluded(1.0), Bound::Unbounded);
        assert_eq!(by(ZRange::scores(open).limit(1, 5)), "cd");
        assert_eq!(
            ok!(client.zrange_by_with_scores::<String>("z", ZRange::scores(..2.0))),
            scored(&[("a", 1.0)])
        );
        assert_eq!(ok!(client.zcount("z", 2.0..)), 3);
        assert_eq!(ok!(client.zrangestore("{z}d", "z", ZRange::ranks(0, 2))), 3);
        assert_eq!(ok!(client.zrevrange::<Vec<String>>("z", 0, 1)).concat(), "dc");
        assert_eq!(ok!(client.zrangebyscore::<Vec<String>>("z", ..=2.0)).concat(), "ab");
        assert_eq!(ok!(client.zrevrangebyscore::<Vec<String>>("z", 3.0..)).concat(), "dc");
        assert_eq!(ok!(client.zremrangebyscore("z", ..2.0)), 1);
        assert_eq!(ok!(client.zremrangebyrank("z", -1, -1)), 1);
        assert_eq!(ok!(client.zrange::<Vec<String>>("z", 0, -1)).concat(), "bc");

        ok!(client.zadd("lex", [("a", 0), ("b", 0), ("c", 0), ("d", 0)]));
        let by = |range| ok!(client.zrange_by::<Vec<String>>("lex", range)).concat();
        assert_eq!(by(ZRange::members("b".."d")), "bc");
        assert_eq!(by(ZRange::members(..).rev().limit(1, 2)), "cb");
        assert_eq!(ok!(client.zlexcount("lex", "b"..)), 3);
        assert_eq!(ok!(client.zrangebylex::<Vec<String>>("lex", ..="b")).concat(), "ab");
        assert_eq!(ok!(client.zrevrangebylex::<Vec<String>>("lex", ..="b")).concat(), "ba");
        assert_eq!(ok!(client.zremrangebylex("lex", "b".."d")), 2);
        let (mut cursor, mut found) = (0, Vec::new());
        loop {
            let (next, page) = ok!(client.zscan_page::<String>("{z}d", cursor, ScanOptions::new()));
            found.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        assert_eq!(found, scored(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]));
    });
}

fn sorted_sets_are_put_together<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.zadd("a", [("x", 1), ("y", 2)]));
        ok!(client.zadd("{a}b", [("y", 10), ("z", 20)]));
        let both = ["a", "{a}b"];
        let max = || Combine::new().weights([100.0, 0.5]).aggregate(Aggregate::Max);
        assert_eq!(ok!(client.zunion::<Vec<String>>(both)).concat(), "xyz");
        assert_eq!(
            ok!(client.zunion_with_scores::<String>(both, Combine::new())),
            scored(&[("x", 1.0), ("y", 12.0), ("z", 20.0)])
        );
        assert_eq!(
            ok!(client.zunion_with_scores::<String>(both, max())),
            scored(&[("z", 10.0), ("x", 100.0), ("y", 200.0)])
        );
        assert_eq!(ok!(client.zinter::<Vec<String>>(both)).concat(), "y");
        assert_eq!(ok!(client.zinter_with_scores::<String>(both, max())), scored(&[("y", 200.0)]));
        assert_eq!(ok!(client.zintercard(both)), 1);
        assert_eq!(ok!(client.zintercard_limit(both, 5)), 1);
        assert_eq!(ok!(client.zdiff::<Vec<String>>(both)).concat(), "x");
        assert_eq!(ok!(client.zdiff_with_scores::<String>(both)), scored(&[("x", 1.0)]));
        assert_eq!(ok!(client.zunionstore("{a}d", both, max())), 3);
        assert_eq!(ok!(client.zinterstore("{a}d", both, Combine::new())), 1);
        assert_eq!(ok!(client.zdiffstore("{a}d", both)), 1);
        assert_eq!(ok!(client.zscore("{a}d", "x")), Some(1.0));
    });
}

fn bits_are_found_combined_and_counted_with<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.set("k", &b"\x00\x0f\xff"[..]));
        assert_eq!(ok!(client.bitcount_bits("k", 10, 13)), 2);
        assert_eq!(ok!(client.bitpos("k", true)), BitPosition::At(12));
        assert_eq!(ok!(client.bitpos("none", true)), BitPosition::Nowhere);
        assert_eq!(ok!(client.bitpos_range("k", true, 2, -1)), BitPosition::At(16));
        assert_eq!(ok!(client.bitpos_range("k", false, 2, 2)), BitPosition::Nowhere);
        assert_eq!(ok!(client.bitpos_bits("k", true, 13, -1)), BitPosition::At(13));
        ok!(client.set("{k}mask", &b"\xff\xf0"[..]));
        assert_eq!(ok!(client.bitop(BitOperation::And, "{k}d", ["k", "{k}mask"])), 3);
        assert_eq!(ok!(client.get::<Vec<u8>>("{k}d")), Some(b"\x00\x00\x00".to_vec()));
        assert_eq!(ok!(client.bitop(BitOperation::Or, "{k}d", ["k", "{k}mask"])), 3);
        assert_eq!(ok!(client.bitop(BitOperation::Xor, "{k}d", ["k", "{k}mask"])), 3);
        assert_eq!(ok!(client.bitop(BitOperation::Not, "{k}d", "k")), 3);
        assert_eq!(ok!(client.get::<Vec<u8>>("{k}d")), Some(b"\xff\xf0\x00".to_vec()));
        let (u4, third) = (BitInt::unsigned(4), BitOffset::Item(2));
        let work = BitField::new()
            .set(u4, third, 14)
            .get(u4, third)
            .overflow(Overflow::Fail)
            .incrby(u4, third, 5)
            .overflow(Overflow::Saturate)
            .incrby(u4, third, 5)
            .overflow(Overflow::Wrap)
            .incrby(u4, third, 1)
            .incrby(BitInt::signed(4), BitOffset::Bit(0), -3);
        let numbers = [Some(0), Some(14), None, Some(15), Some(0), Some(-3)];
        assert_eq!(ok!(client.bitfield("f", work)), numbers);
        let reads = BitField::new().get(BitInt::signed(4), BitOffset::Item(0)).get(u4, third);
        assert_eq!(ok!(client.bitfield_ro("f", reads)), [-3, 0]);
    });
}

fn what_is_counted_is_about_right<A: Adapter>() {
    on_both::<A>(|client| {
        assert!(ok!(client.pfadd("a", (0..1_000).collect::<Vec<_>>())));
        assert!(!ok!(client.pfadd("a", 7)));
        ok!(client.pfadd("{a}b", (500..1_500).collect::<Vec<_>>()));
        let about = |count: u64, right: u64| count.abs_diff(right) < right / 20;
        assert!(about(ok!(client.pfcount("a")), 1_000));
        assert!(about(ok!(client.pfcount(["a", "{a}b"])), 1_500));
        ok!(client.pfmerge("{a}c", ["a", "{a}b"]));
        assert!(about(ok!(client.pfcount("{a}c")), 1_500));
    });
}

fn places_are_found<A: Adapter>() {
    on_both::<A>(|client| {
        let palermo = GeoPoint::new(13.361389, 38.115556);
        let catania = GeoPoint::new(15.087269, 37.502669);
        let key = "sicily";
        assert_eq!(ok!(client.geoadd(key, &[("Palermo", palermo), ("Catania", catania)])), 2);
        let moved = GeoAddOptions::new().xx().changed();
        assert_eq!(ok!(client.geoadd_with(key, &[("Palermo", palermo)], moved)), 0);
        let distance = ok!(client.geodist(key, "Palermo", "Catania", GeoUnit::Kilometres));
        assert!((distance.expect("both are there") - 166.2742).abs() < 0.01, "{distance:?}");
        assert_eq!(ok!(client.geodist(key, "Palermo", "x", GeoUnit::Metres)), None);
        let hashes = ok!(client.geohash(key, ["Palermo", "x"]));
        assert_eq!(hashes, [text("sqc8b49rny0"), None]);
        let points = ok!(client.geopos(key, ["x", "Catania"]));
        let found = points[1].expect("it is there");
        assert_eq!(points[0], None);
        assert!((found.longitude - catania.longitude).abs() < 1e-4);
        let middle = GeoPoint::new(15.0, 37.0);
        let near = GeoSearch::around(middle, Area::Radius(200.0), GeoUnit::Kilometres);
        let names: Vec<String> = ok!(client.geosearch(key, near.clone().nearest_first()));
        assert_eq!(names, ["Catania", "Palermo"]);
        assert_eq!(ok!(client.geosearch::<Vec<String>>(key, near.clone().any(1))).len(), 1);
        let places = ok!(client.geosearch_places::<String>(key, near.clone().farthest_first()));
        assert_eq!(places[0].member, "Palermo");
        assert!((places[0].distance - 190.4424).abs() < 0.01);
        assert!((places[0].at.latitude - palermo.latitude).abs() < 1e-4);
        let boxed = GeoSearch::around_member("Catania", Area::Box(10.0, 10.0), GeoUnit::Miles);
        assert_eq!(ok!(client.geosearchstore("{sicily}d", key, boxed.count(9))), 1);
        assert_eq!(ok!(client.zrange::<Vec<String>>("{sicily}d", 0, -1)), ["Catania"]);
    });
}

fn fields_expire_where_the_server_knows_how<A: Adapter>() {
    use unfazed_core::commands::{FieldExpiry, FieldPersisted};

    on_both::<A>(|client| {
        let minute = Duration::from_secs(60);
        ok!(client.hset("h", [("f", 1), ("g", 2)]));
        let set = match A::wait(client.hexpire("h", minute, ["f", "x"])) {
            Ok(set) => set,
            Err(unknown) => {
                // Before 7.4 there is no such command, and nothing happens.
                assert_eq!(unknown.executed(), Executed::No, "{unknown}");
                assert!(unknown.to_string().contains("unknown command"), "{unknown}");
                assert_eq!(ok!(client.hget::<i64>("h", "f")), Some(1));
                return;
            }
        };
        assert_eq!(set, [FieldExpiry::Set, FieldExpiry::NoField]);
        let nx = ok!(client.hexpire_if("h", minute, ExpireIf::Nx, ["f", "g"]));
        assert_eq!(nx, [FieldExpiry::NotMet, FieldExpiry::Set]);
        let left = ok!(client.httl("h", ["f", "x"]));
        assert!(matches!(left[0], Ttl::Left(left) if left <= minute), "{left:?}");
        assert_eq!(left[1], Ttl::NoKey);
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_123);
        assert_eq!(ok!(client.hexpire_at("h", moment, "f")), [FieldExpiry::Set]);
        assert_eq!(ok!(client.hexpire_time("h", "f")), [ExpireTime::At(moment)]);
        let persisted = ok!(client.hpersist("h", ["f", "x"]));
        assert_eq!(persisted, [FieldPersisted::Done, FieldPersisted::NoField]);
        assert_eq!(ok!(client.hexpire("h", Duration::ZERO, "g")), [FieldExpiry::Deleted]);
        assert_eq!(ok!(client.httl("h", "f")), [Ttl::Forever]);
        assert!(!ok!(client.hexists("h", "g")));
    });
}

type Fields = BTreeMap<String, String>;

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|&(field, value)| (field.to_owned(), value.to_owned())).collect()
}

fn streams_grow_and_are_read<A: Adapter>() {
    on_both::<A>(|client| {
        let add = XAddOptions::new;
        assert_eq!(ok!(client.xadd_with("s", ("a", 1), add().no_mkstream())), None);
        let first = ok!(client.xadd_with("s", [("a", 1), ("b", 2)], add().id(StreamId::new(5, 1))));
        assert_eq!(first, Some(StreamId::new(5, 1)));
        let second = ok!(client.xadd_with("s", ("a", 3), add().millis(5)));
        assert_eq!(second, Some(StreamId::new(5, 2)));
        let third = ok!(client.xadd("s", fields(&[("a", "4")])));
        assert!(third > StreamId::new(5, 2));
        refused::<A, _>(client.xadd_with("s", ("a", 1), add().id(StreamId::new(1, 1))));
        assert_eq!(ok!(client.xlen("s")), 3);

        let all = ok!(client.xrange::<Fields>("s", ..));
        assert_eq!(all[0].fields, fields(&[("a", "1"), ("b", "2")]));
        assert_eq!(
            all.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [StreamId::new(5, 1), StreamId::new(5, 2), third]
        );
        let after = (Bound::Excluded(StreamId::new(5, 1)), Bound::Unbounded);
        assert_eq!(ok!(client.xrange::<Fields>("s", after)), all[1..]);
        assert_eq!(ok!(client.xrange_count::<Fields>("s", .., 1)), all[..1]);
        let newest = ok!(client.xrevrange::<Fields>("s", ..=StreamId::new(5, 2)));
        assert_eq!(newest, [all[1].clone(), all[0].clone()]);
        assert_eq!(ok!(client.xrevrange_count::<Fields>("s", .., 1)), all[2..]);
        assert!(ok!(client.xrange::<Fields>("{s}none", ..)).is_empty());

        ok!(client.xadd("{s}t", ("x", "y")));
        let from_start = ReadFrom::After(StreamId::MIN);
        let read = ok!(client.xread::<Fields>(
            [
                ("s", ReadFrom::After(StreamId::new(5, 1))),
                ("{s}none", from_start),
                ("{s}t", from_start)
            ],
            ReadOptions::new().count(1),
        ));
        assert_eq!(read.len(), 2);
        assert_eq!((&read[0].key[..], &read[0].entries[..]), (&b"s"[..], &all[1..2]));
        assert_eq!(&read[1].key[..], b"{s}t");
        let nothing = ok!(client.xread::<Fields>(("s", ReadFrom::New), ReadOptions::new()));
        assert!(nothing.is_empty());

        assert_eq!(ok!(client.xdel("s", [StreamId::new(5, 1), StreamId::new(9, 9)])), 1);
        assert_eq!(ok!(client.xtrim("s", Trim::max_len(1))), 1);
        assert_eq!(ok!(client.xtrim("s", Trim::min_id(third))), 0);
        assert_eq!(ok!(client.xtrim("s", Trim::max_len(1).about().limit(10))), 0);
        let trimmed = add().trim(Trim::max_len(1));
        ok!(client.xadd_with("s", ("a", 5), trimmed)).expect("there is a stream");
        assert_eq!(ok!(client.xlen("s")), 1);
        ok!(client.xsetid("s", StreamId::MAX));
        refused::<A, _>(client.xadd("s", ("a", 6)));
        ok!(client.xsetid_with("{s}t", StreamId::MAX, 99, StreamId::new(1, 0)));
    });
}

fn groups_share_what_a_stream_delivers<A: Adapter>() {
    on_both::<A>(|client| {
        let group = |start, options| client.xgroup_create("s", "g", start, options);
        refused::<A, _>(group(GroupStart::End, GroupOptions::new()));
        ok!(group(GroupStart::End, GroupOptions::new().mkstream().entries_read(0)));
        let busy = refused::<A, _>(group(GroupStart::End, GroupOptions::new()));
        assert_eq!(busy.server_error().expect("the server's").code(), "BUSYGROUP");
        let ids: Vec<_> = (0..4).map(|at| ok!(client.xadd("s", ("at", at)))).collect();
        assert!(ok!(client.xgroup_createconsumer("s", "g", "one")));
        assert!(!ok!(client.xgroup_createconsumer("s", "g", "one")));

        let read = |consumer, from, options| {
            ok!(client.xreadgroup::<Fields>("g", consumer, ("s", from), options))
        };
        let taken = read("one", GroupRead::New, ReadOptions::new().count(2));
        assert_eq!(taken[0].entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..2]);
        let rest = read("two", GroupRead::New, ReadOptions::new());
        assert_eq!(rest[0].entries.len(), 2);
        assert!(read("two", GroupRead::New, ReadOptions::new()).is_empty());
        let pending = GroupRead::PendingAfter(StreamId::MIN);
        assert_eq!(read("one", pending, ReadOptions::new())[0].entries, taken[0].entries);
        assert!(read("three", pending, ReadOptions::new())[0].entries.is_empty());

        let sum = ok!(client.xpending("s", "g"));
        assert_eq!((sum.count, sum.lowest, sum.highest), (4, Some(ids[0]), Some(ids[3])));
        assert_eq!(sum.consumers, [("one".to_owned(), 2), ("two".to_owned(), 2)]);
        assert_eq!(ok!(client.xack("s", "g", &ids[..3])), 3);
        assert_eq!(ok!(client.xack("s", "g", ids[0])), 0);
        let filter = PendingFilter::new();
        let list = ok!(client.xpending_range("s", "g", .., 10, filter));
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].id, &*list[0].consumer, list[0].deliveries), (ids[3], "two", 1));
        let of_one = filter.consumer("one").min_idle(Duration::ZERO);
        assert!(ok!(client.xpending_range("s", "g", .., 10, of_one)).is_empty());

        // What is pending and no longer there has no fields.
        ok!(client.xdel("s", ids[3]));
        let gone = ok!(client.xreadgroup::<Option<Fields>>(
            "g",
            "two",
            ("s", pending),
            ReadOptions::new()
        ));
        assert_eq!((gone[0].entries[0].id, &gone[0].entries[0].fields), (ids[3], &None));

        ok!(client.xadd("s", ("at", 5)));
        let unacknowledged = ReadOptions::new().no_ack();
        assert_eq!(read("three", GroupRead::New, unacknowledged)[0].entries.len(), 1);
        assert_eq!(ok!(client.xpending("s", "g")).count, 1);
        ok!(client.xgroup_setid("s", "g", GroupStart::Beginning));
        assert_eq!(read("three", GroupRead::New, ReadOptions::new())[0].entries.len(), 4);
        assert_eq!(ok!(client.xgroup_delconsumer("s", "g", "three")), 4);
        assert!(ok!(client.xgroup_destroy("s", "g")));
        assert!(!ok!(client.xgroup_destroy("s", "g")));
        let none = failure(A::wait(client.xreadgroup::<Fields>(
            "g",
            "one",
            ("s", GroupRead::New),
            ReadOptions::new(),
        )));
        assert_eq!(none.server_error().expect("the server's").code(), "NOGROUP");
    });
}

fn what_stalled_is_claimed<A: Adapter>() {
    on_both::<A>(|client| {
        ok!(client.xgroup_create("s", "g", GroupStart::Beginning, GroupOptions::new().mkstream()));
        let ids: Vec<_> = (0..5).map(|at| ok!(client.xadd("s", ("at", at)))).collect();
        let new = ("s", GroupRead::New);
        ok!(client.xreadgroup::<Fields>("g", "one", new, ReadOptions::new()));
        let (now, hour) = (Duration::ZERO, Duration::from_secs(3_600));
        assert!(ok!(client.xclaim::<Fields>("s", "g", "two", hour, ids[0])).is_empty());
        let claimed = ok!(client.xclaim::<Fields>("s", "g", "two", now, [ids[0], ids[1]]));
        assert_eq!(claimed.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..2]);
        assert_eq!(claimed[1].fields, fields(&[("at", "1")]));
        assert_eq!(ok!(client.xclaim_ids("s", "g", "three", now, ids[2])), ids[2..3]);
        let options = ClaimOptions::new().idle(hour).deliveries(9);
        ok!(client.xclaim_with::<Fields>("s", "g", "three", now, ids[3], options));
        let filter = PendingFilter::new().consumer("three");
        let list = ok!(client.xpending_range("s", "g", .., 10, filter));
        assert_eq!((list[1].id, list[1].deliveries), (ids[3], 9));
        assert!(list[1].idle >= hour, "{list:?}");

        ok!(client.xdel("s", ids[4]));
        let first = ok!(client.xautoclaim::<Fields>("s", "g", "four", now, StreamId::MIN, 3));
        assert_eq!(first.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..3]);
        assert_eq!((first.next, first.deleted.len()), (ids[3], 0));
        let rest = ok!(client.xautoclaim::<Fields>("s", "g", "four", now, first.next, 3));
        assert_eq!((rest.next, rest.entries.len()), (StreamId::MIN, 1));
        assert_eq!(rest.deleted, ids[4..]);
        let again = ok!(client.xautoclaim_ids("s", "g", "five", now, StreamId::MIN, 100));
        assert_eq!((again.next, &again.ids[..]), (StreamId::MIN, &ids[..4]));
    });
}

fn streams_tell_of_themselves<A: Adapter>() {
    on_both::<A>(|client| {
        refused::<A, _>(client.xinfo_stream::<Fields>("none"));
        ok!(client.xgroup_create("s", "g", GroupStart::Beginning, GroupOptions::new().mkstream()));
        let empty = ok!(client.xinfo_stream::<Fields>("s"));
        assert_eq!((empty.length, empty.groups), (0, 1));
        assert_eq!((empty.first_entry, empty.last_entry), (None, None));
        let ids: Vec<_> = (0..3).map(|at| ok!(client.xadd("s", ("at", at)))).collect();
        let before = SystemTime::now() - Duration::from_secs(60);
        let one = ReadOptions::new().count(1);
        ok!(client.xreadgroup::<Fields>("g", "me", ("s", GroupRead::New), one));

        let stream = ok!(client.xinfo_stream::<Fields>("s"));
        assert_eq!((stream.length, stream.last_generated_id), (3, ids[2]));
        assert_eq!(stream.first_entry.expect("there is one").id, ids[0]);
        assert_eq!(stream.last_entry.expect("there is one").fields, fields(&[("at", "2")]));
        assert_eq!(stream.entries_added, Some(3));
        assert_eq!(stream.recorded_first_entry_id, Some(ids[0]));
        assert!(stream.radix_tree_nodes >= stream.radix_tree_keys);

        let groups = ok!(client.xinfo_groups("s"));
        let [group] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!((&*group.name, group.consumers, group.pending), ("g", 1, 1));
        assert_eq!((group.last_delivered_id, group.lag), (ids[0], Some(2)));
        let consumers = ok!(client.xinfo_consumers("s", "g"));
        let [consumer] = &consumers[..] else { panic!("{consumers:?}") };
        assert_eq!((&*consumer.name, consumer.pending), ("me", 1));
        assert!(consumer.idle < Duration::from_secs(60));

        let full = ok!(client.xinfo_stream_full::<Fields>("s", 2));
        assert_eq!((full.length, full.entries.len()), (3, 2));
        let group = &full.groups[0];
        assert_eq!((&*group.name, group.pending_count, group.lag), ("g", 1, Some(2)));
        let pending = &group.pending[0];
        assert_eq!((pending.id, pending.consumer.as_deref()), (ids[0], Some("me")));
        assert!(pending.delivered_at > before && pending.deliveries == 1);
        let consumer = &group.consumers[0];
        assert_eq!((&*consumer.name, consumer.pending_count), ("me", 1));
        assert!(consumer.seen_at > before);
        assert_eq!((consumer.pending[0].id, &consumer.pending[0].consumer), (ids[0], &None));
    });
}

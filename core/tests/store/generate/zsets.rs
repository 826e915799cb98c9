//! Commands about sorted sets.

use super::Edit::{Cut, Few, Insert, Keep, More, NoInteger, Put, Right, Tail, Wrong};
use super::hashes::{NO_CURSOR, SCAN_TAILS, push_scan};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More], &[Wrong(1)]];
const MEMBER: &[&[super::Edit]] = &[&[Few(3)], &[More], &[Wrong(1)]];
const MEMBERS: &[&[super::Edit]] = &[&[Few(3)], &[Wrong(1)]];
/// What is no score: ZADD and ZINCRBY read fewer numbers than the commands on ranges.
const NO_SCORE: &[&str] = &["nan", "abc", "", "1x", "1e400", "-1e400", "1e-400", "1,5", "(1"];
const NO_BOUND: &[&str] = &["nan", "abc", "((1", "1x", "[1", "(nan", "1,5"];
const NO_LEX: &[&str] = &["a", "", "--", "+a", "-a", "{a"];
const SCORES: &[&[super::Edit]] =
    &[&[Few(4)], &[More], &[Wrong(1)], &[Put(2, NO_BOUND)], &[Put(3, NO_BOUND)]];
const LEX: &[&[super::Edit]] =
    &[&[Few(4)], &[More], &[Wrong(1)], &[Put(2, NO_LEX)], &[Put(3, NO_LEX)]];
const RANGE: &[&[super::Edit]] =
    &[&[Few(4)], &[Wrong(1)], &[NoInteger(2)], &[NoInteger(3)], &[Tail(&["nonsense", "LIMIT"])]];
const POP: &[&[super::Edit]] =
    &[&[Few(2)], &[Wrong(1)], &[Keep(2), Tail(&["-1", "abc", "1.5", "1 more"])]];
const BY_SCORE: &[&[super::Edit]] = &[
    &[Few(4)],
    &[Wrong(1)],
    &[Put(2, NO_BOUND)],
    &[Put(3, NO_BOUND)],
    &[Tail(&["nonsense", "LIMIT 1", "LIMIT a 1", "LIMIT 1 b", "REV", "BYSCORE"])],
];
const BY_LEX: &[&[super::Edit]] = &[
    &[Few(4)],
    &[Wrong(1)],
    &[Put(2, NO_LEX)],
    &[Put(3, NO_LEX)],
    &[Tail(&["nonsense", "LIMIT 1", "LIMIT a 1", "LIMIT 1 b", "WITHSCORES", "BYLEX"])],
];
const NO_NUMKEYS: &[&str] = &["0", "-1", "abc", "9223372036854775807", "100"];
const COMBINE: &[&[super::Edit]] = &[
    &[Few(3)],
    &[Wrong(2)],
    &[Put(1, NO_NUMKEYS)],
    &[Tail(&["nonsense", "WEIGHTS", "WEIGHTS a", "AGGREGATE", "AGGREGATE AVG", "LIMIT 1"])],
];
const DIFF: &[&[super::Edit]] = &[
    &[Few(3)],
    &[Wrong(2)],
    &[Put(1, NO_NUMKEYS)],
    &[Tail(&["nonsense", "WEIGHTS 1", "AGGREGATE SUM"])],
];
const COMBINE_STORE: &[&[super::Edit]] = &[
    &[Few(4)],
    &[Wrong(3)],
    &[Put(2, NO_NUMKEYS)],
    &[Tail(&["nonsense", "WEIGHTS", "WEIGHTS a", "AGGREGATE", "AGGREGATE AVG", "WITHSCORES"])],
];
const ZMPOP_TAILS: &[&str] =
    &["nonsense", "COUNT", "COUNT 0", "COUNT -1", "COUNT abc", "COUNT 1 COUNT 1", "MIN"];

pub(super) const ROWS: &[Row] = &[
    row(
        "ZADD",
        add,
        &[
            &[Few(4)],
            &[Cut],
            &[Wrong(1)],
            &[Put(-2, NO_SCORE)],
            &[Insert(2, &["NX XX", "NX GT", "LT NX", "GT LT", "nonsense", "INCR GT 1 a LT"])],
            &[Keep(2), Tail(&["INCR 1 a 2 b", "NX", "CH 1", "INCR nan a"])],
        ],
    )
    .on(Kind::Zset),
    row("ZREM", members, MEMBERS).on(Kind::Zset),
    row("ZSCORE", member, MEMBER).on(Kind::Zset),
    row("ZMSCORE", members, MEMBERS).on(Kind::Zset),
    row("ZCARD", key, KEY).on(Kind::Zset),
    row("ZCOUNT", score_range, SCORES).on(Kind::Zset),
    row("ZLEXCOUNT", lex_range, LEX).on(Kind::Lex),
    row("ZINCRBY", incrby, &[&[Few(4)], &[More], &[Wrong(1)], &[Put(2, NO_SCORE)]]).on(Kind::Zset),
    row("ZRANK", member, MEMBER).on(Kind::Zset),
    row("ZREVRANK", member, MEMBER).on(Kind::Zset),
    row(
        "ZRANGE",
        zrange,
        &[
            &[Few(4)],
            &[Wrong(1)],
            &[Right(1), Keep(2), Tail(&["0 1.5", "a 1", "1 b", "x y BYSCORE", "0 nan BYSCORE"])],
            &[Right(1), Keep(2), Tail(&["a [b BYLEX", "[a b BYLEX", "[a [b BYLEX WITHSCORES"])],
            &[Tail(&["nonsense", "LIMIT 1", "LIMIT a 1"])],
            &[Right(1), Keep(2), Tail(&["0 1 LIMIT 1 2", "0 1 LIMIT 0 1 REV"])],
        ],
    )
    .on(Kind::Zset),
    row(
        "ZRANGESTORE",
        zrangestore,
        &[
            &[Few(5)],
            &[Wrong(2)],
            &[Right(2), Keep(3), Tail(&["0 1.5", "a 1", "1 b", "x y BYSCORE", "0 nan BYSCORE"])],
            &[Right(2), Keep(3), Tail(&["a [b BYLEX", "[a b BYLEX"])],
            &[Tail(&["nonsense", "LIMIT 1", "WITHSCORES"])],
        ],
    )
    .on(Kind::Zset),
    row("ZREVRANGE", range, RANGE).on(Kind::Zset),
    row("ZRANGEBYSCORE", by_score, BY_SCORE).on(Kind::Zset),
    row("ZREVRANGEBYSCORE", by_score, BY_SCORE).on(Kind::Zset),
    row("ZRANGEBYLEX", by_lex, BY_LEX).on(Kind::Lex),
    row("ZREVRANGEBYLEX", by_lex, BY_LEX).on(Kind::Lex),
    row(
        "ZREMRANGEBYRANK",
        rank_range,
        &[&[Few(4)], &[More], &[Wrong(1)], &[NoInteger(2)], &[NoInteger(3)]],
    )
    .on(Kind::Zset),
    row("ZREMRANGEBYSCORE", score_range, SCORES).on(Kind::Zset),
    row("ZREMRANGEBYLEX", lex_range, LEX).on(Kind::Lex),
    row("ZPOPMIN", pop, POP).on(Kind::Zset),
    row("ZPOPMAX", pop, POP).on(Kind::Zset),
    row("ZMPOP", zmpop, &[&[Few(4)], &[Put(1, NO_NUMKEYS)], &[Wrong(2)], &[Tail(ZMPOP_TAILS)]])
        .on(Kind::Zset),
    row(
        "ZRANDMEMBER",
        some,
        &[
            &[Few(2)],
            &[Wrong(1)],
            &[
                Keep(2),
                Tail(&["abc", "1.5", "-9223372036854775808", "1 nonsense", "1 WITHSCORES more"]),
            ],
        ],
    )
    .on(Kind::Zset),
    row(
        "ZSCAN",
        scan,
        &[&[Few(3)], &[Wrong(1)], &[Put(2, NO_CURSOR)], &[Right(1), Keep(3), Tail(SCAN_TAILS)]],
    )
    .on(Kind::Zset),
];

/// Those that read several keys, of which any may hold a plain set.
pub(super) const COMBINING: &[Row] = &[
    row("ZUNION", combine, COMBINE).on(Kind::Zset),
    row("ZINTER", combine, COMBINE).on(Kind::Zset),
    row("ZDIFF", combine, DIFF).on(Kind::Zset),
    row("ZUNIONSTORE", combine, COMBINE_STORE).on(Kind::Zset),
    row("ZINTERSTORE", combine, COMBINE_STORE).on(Kind::Zset),
    row(
        "ZDIFFSTORE",
        combine,
        &[
            &[Few(4)],
            &[Wrong(3)],
            &[Put(2, NO_NUMKEYS)],
            &[Tail(&["nonsense", "WEIGHTS 1", "WITHSCORES"])],
        ],
    )
    .on(Kind::Zset),
    row(
        "ZINTERCARD",
        intercard,
        &[
            &[Few(3)],
            &[Wrong(2)],
            &[Put(1, NO_NUMKEYS)],
            &[Tail(&["LIMIT", "LIMIT -1", "LIMIT abc", "nonsense", "WITHSCORES"])],
        ],
    )
    .on(Kind::Zset),
];

/// A key of a sorted set; now and then one whose members all have the score 0.
fn zset(random: &mut Random) -> Vec<u8> {
    if random.one_in(10) { random.word(Kind::Lex.keys()) } else { random.key(Kind::Zset) }
}

fn key(random: &mut Random, to: &mut Args) {
    to.push(zset(random));
}

fn member(random: &mut Random, to: &mut Args) {
    to.extend([zset(random), random.member()]);
}

fn members(random: &mut Random, to: &mut Args) {
    key(random, to);
    to.extend(random.members());
}

/// A score, many of which are the same, so that members decide about the order.
pub(super) fn score(random: &mut Random) -> Vec<u8> {
    const ODD: &[&str] = &[
        "inf",
        "-inf",
        "+Infinity",
        "-0",
        "0.1",
        "0.2",
        "0.30000000000000004",
        "1e300",
        "1.7976931348623157e308",
        "1e17",
        "9007199254740993",
        "0x1p3",
        "-1.5e-7",
        "3.0000000000000004",
        ".5",
        "+2",
        "123456789.123456789",
    ];
    match random.below(4) {
        0 => random.word(ODD),
        _ => random.within(-3, 12).to_string().into(),
    }
}

/// A key, and a score that may be given there.
fn key_and_score(random: &mut Random, to: &mut Args) -> bool {
    key(random, to);
    to[1].starts_with(b"x")
}

fn add(random: &mut Random, to: &mut Args) {
    let lex = key_and_score(random, to);
    let incr = random.one_in(8);
    let condition = random.pick(&["", "", "", "NX", "XX", "GT", "LT", "XX GT", "LT XX"]);
    for word in condition.split(' ').filter(|word| !word.is_empty()) {
        to.push(random.option(&[word]));
    }
    if random.one_in(4) {
        to.push(random.option(&["CH"]));
    }
    if incr {
        to.push(random.option(&["INCR"]));
    }
    let mut members = random.members();
    members.truncate(if incr { 1 } else { members.len() });
    for member in members {
        to.extend([if lex { b"0".to_vec() } else { score(random) }, member]);
    }
}

fn incrby(random: &mut Random, to: &mut Args) {
    let lex = key_and_score(random, to);
    to.extend([if lex { b"0".to_vec() } else { score(random) }, random.member()]);
}

/// An end of a range of scores.
fn bound(random: &mut Random) -> Vec<u8> {
    // C's way of reading numbers lets all of these pass.
    const ODD: &[&str] =
        &["-inf", "+inf", "inf", "(-inf", "(inf", "", "(", "(0x2", " 1", "1e400", "5e-324", "1\0x"];
    match random.below(6) {
        0 | 1 => random.word(ODD),
        2 => [b"(".to_vec(), score(random)].concat(),
        _ => score(random),
    }
}

/// An end of a range of members.
fn lex_bound(random: &mut Random) -> Vec<u8> {
    match random.below(5) {
        0 => random.word(&["-", "+"]),
        side => [[b"[".to_vec(), b"(".to_vec()][side % 2].clone(), random.member()].concat(),
    }
}

fn limit(random: &mut Random, to: &mut Args) {
    if random.one_in(3) {
        let offset = random.within(-1, 4).to_string().into();
        to.extend([random.option(&["LIMIT"]), offset, random.within(-2, 6).to_string().into()]);
    }
}

fn with_scores(random: &mut Random, to: &mut Args) {
    if random.one_in(2) {
        to.push(random.option(&["WITHSCORES"]));
    }
}

fn score_range(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::Zset), bound(random), bound(random)]);
}

fn lex_range(random: &mut Random, to: &mut Args) {
    to.extend([random.word(Kind::Lex.keys()), lex_bound(random), lex_bound(random)]);
}

fn rank_range(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::Zset), random.index(), random.index()]);
}

fn range(random: &mut Random, to: &mut Args) {
    to.extend([zset(random), random.index(), random.index()]);
    with_scores(random, to);
}

fn by_score(random: &mut Random, to: &mut Args) {
    to.extend([zset(random), bound(random), bound(random)]);
    with_scores(random, to);
    limit(random, to);
}

fn by_lex(random: &mut Random, to: &mut Args) {
    lex_range(random, to);
    limit(random, to);
}

/// Pushes source, ends and options of ZRANGE and ZRANGESTORE.
fn push_range(random: &mut Random, to: &mut Args) {
    match random.below(3) {
        0 => to.extend([zset(random), random.index(), random.index()]),
        1 => {
            to.extend([zset(random), bound(random), bound(random), random.option(&["BYSCORE"])]);
            limit(random, to);
        }
        _ => {
            lex_range(random, to);
            to.push(random.option(&["BYLEX"]));
            limit(random, to);
        }
    }
    if random.one_in(3) {
        to.push(random.option(&["REV"]));
    }
}

fn zrange(random: &mut Random, to: &mut Args) {
    push_range(random, to);
    if !to.iter().any(|arg| arg.to_ascii_uppercase().starts_with(b"BYLEX")) {
        with_scores(random, to);
    }
}

fn zrangestore(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Zset));
    push_range(random, to);
}

fn pop(random: &mut Random, to: &mut Args) {
    key(random, to);
    if random.one_in(2) {
        to.push(random.count());
    }
}

fn push_sources(random: &mut Random, to: &mut Args) -> usize {
    let count = 1 + random.below(3);
    to.push(count.to_string().into());
    for _ in 0..count {
        let set = random.one_in(4);
        to.push(if set { random.word(Kind::Set.keys()) } else { zset(random) });
    }
    count
}

fn zmpop(random: &mut Random, to: &mut Args) {
    let keys: Args = (0..=random.below(3)).map(|_| zset(random)).collect();
    to.push(keys.len().to_string().into());
    to.extend(keys);
    to.push(random.option(&["MIN", "MAX"]));
    if random.one_in(2) {
        to.extend([random.option(&["COUNT"]), random.within(1, 4).to_string().into()]);
    }
}

fn combine(random: &mut Random, to: &mut Args) {
    let (store, diff) = (to[0].ends_with(b"STORE"), to[0].starts_with(b"ZDIFF"));
    if store {
        to.push(random.key(Kind::Zset));
    }
    let count = push_sources(random, to);
    if !diff && random.one_in(3) {
        to.push(random.option(&["WEIGHTS"]));
        for _ in 0..count {
            to.push(random.word(&["0", "1", "2", "-1", "0.1", "inf", "-inf", "1e10"]));
        }
    }
    if !diff && random.one_in(3) {
        to.extend([random.option(&["AGGREGATE"]), random.option(&["SUM", "MIN", "MAX"])]);
    }
    if !store {
        with_scores(random, to);
    }
}

fn intercard(random: &mut Random, to: &mut Args) {
    push_sources(random, to);
    if random.one_in(2) {
        to.extend([random.option(&["LIMIT"]), random.count()]);
    }
}

fn some(random: &mut Random, to: &mut Args) {
    key(random, to);
    if !random.one_in(3) {
        to.push(random.within(-8, 8).to_string().into());
        if random.one_in(2) {
            to.push(random.option(&["WITHSCORES"]));
        }
    }
}

fn scan(random: &mut Random, to: &mut Args) {
    key(random, to);
    push_scan(random, to);
}

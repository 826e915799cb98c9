//! Commands about hashes.

use super::Edit::{Cut, Few, Keep, More, NoFloat, NoInteger, Put, Right, Tail, Wrong};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More], &[Wrong(1)]];
const FIELD: &[&[super::Edit]] = &[&[Few(3)], &[More], &[Wrong(1)]];
const FIELDS: &[&[super::Edit]] = &[&[Few(3)], &[Wrong(1)]];
const PAIRS: &[&[super::Edit]] = &[&[Few(4)], &[Cut], &[Wrong(1)]];

pub(super) const SCAN_TAILS: &[&str] = &[
    "COUNT",
    "COUNT 0",
    "COUNT -1",
    "COUNT abc",
    "MATCH",
    "nonsense",
    "nonsense 1",
    "COUNT 9223372036854775808",
];
/// What no C library reads as a cursor; a sign and the empty text it does read.
pub(super) const NO_CURSOR: &[&str] = &["abc", "1x", "1 ", "99999999999999999999999", "0.5"];

pub(super) const ROWS: &[Row] = &[
    row("HSET", pairs, PAIRS).on(Kind::Hash),
    row("HMSET", pairs, PAIRS).on(Kind::Hash),
    row("HSETNX", setnx, &[&[Few(4)], &[More], &[Wrong(1)]]).on(Kind::Hash),
    row("HGET", field, FIELD).on(Kind::Hash),
    row("HMGET", fields, FIELDS).on(Kind::Hash),
    row("HGETALL", key, KEY).on(Kind::Hash),
    row("HDEL", fields, FIELDS).on(Kind::Hash),
    row("HEXISTS", field, FIELD).on(Kind::Hash),
    row("HLEN", key, KEY).on(Kind::Hash),
    row("HKEYS", key, KEY).on(Kind::Hash),
    row("HVALS", key, KEY).on(Kind::Hash),
    row("HSTRLEN", field, FIELD).on(Kind::Hash),
    row("HINCRBY", add, &[&[Few(4)], &[More], &[Wrong(1)], &[NoInteger(3)]]).on(Kind::Hash),
    row(
        "HINCRBYFLOAT",
        add_float,
        &[
            &[Few(4)],
            &[More],
            &[Wrong(1)],
            &[NoFloat(3)],
            &[Put(3, &["inf", "-inf", "nan", "1e4933"])],
        ],
    )
    .on(Kind::Hash),
    row(
        "HRANDFIELD",
        some,
        &[
            &[Few(2)],
            &[Wrong(1)],
            &[
                Keep(2),
                Tail(&["abc", "1.5", "-9223372036854775808", "1 nonsense", "1 WITHVALUES more"]),
            ],
        ],
    )
    .on(Kind::Hash),
    row(
        "HSCAN",
        scan,
        &[&[Few(3)], &[Wrong(1)], &[Put(2, NO_CURSOR)], &[Right(1), Keep(3), Tail(SCAN_TAILS)]],
    )
    .on(Kind::Hash),
];

fn key(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
}

fn field(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::Hash), random.member()]);
}

fn fields(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
    to.extend(random.members());
}

fn pairs(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
    to.extend(random.fields());
}

fn setnx(random: &mut Random, to: &mut Args) {
    field(random, to);
    to.push(random.value());
}

fn add(random: &mut Random, to: &mut Args) {
    field(random, to);
    to.push(random.integer());
}

fn add_float(random: &mut Random, to: &mut Args) {
    field(random, to);
    to.push(random.float());
}

fn some(random: &mut Random, to: &mut Args) {
    key(random, to);
    if !random.one_in(3) {
        to.push(random.within(-8, 8).to_string().into());
        if random.one_in(2) {
            to.push(random.option(&["WITHVALUES"]));
        }
    }
}

fn scan(random: &mut Random, to: &mut Args) {
    key(random, to);
    push_scan(random, to);
    if random.one_in(8) {
        to.push(random.option(&["NOVALUES"]));
    }
}

/// A cursor, mostly that of a beginning, and options that all scans have.
pub(super) fn push_scan(random: &mut Random, to: &mut Args) {
    to.push(match random.below(12) {
        0 => random.word(&["7", "-1", "", "+3", " 1", "18446744073709551615"]),
        _ => b"0".to_vec(),
    });
    if random.one_in(2) {
        let pattern = random.word(&["*", "?", "[0-5]*", "m*", "*1*", "[^a]", "1", "nothing"]);
        to.extend([random.option(&["MATCH"]), pattern]);
    }
    if random.one_in(2) {
        to.extend([random.option(&["COUNT"]), random.word(&["1", "2", "10", "100", "10000"])]);
    }
}

//! Commands about strings and counters.

use super::Edit::{Few, Keep, More, NoFloat, NoInteger, Put, Tail, Wrong};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More], &[Wrong(1)]];
const KEY_VALUE: &[&[super::Edit]] = &[&[Few(3)], &[More], &[Wrong(1)]];
const RANGE: &[&[super::Edit]] =
    &[&[Few(4)], &[More], &[Wrong(1)], &[NoInteger(2)], &[NoInteger(3)]];
const LIFETIME: &[&[super::Edit]] = &[
    &[Few(4)],
    &[More],
    &[NoInteger(2)],
    &[Put(2, &["0", "-1", "9223372036854775807", "-9223372036854775808"])],
];
const PAIRS: &[&[super::Edit]] = &[&[Few(3)], &[More]];
const COUNTER: &[&[super::Edit]] = &[&[Few(3)], &[More], &[Wrong(1)], &[NoInteger(2)]];

/// What no SET takes, whatever options stand before.
const SET_TAILS: &[&str] = &[
    "nonsense",
    "EX",
    "px",
    "NX XX",
    "xx nx GET",
    "EX 0",
    "PX -1",
    "EX abc",
    "PXAT 1.5",
    "EX 9223372036854775807",
    "EXAT -5",
    "EX 100000 PX 100000",
    "KEEPTTL EX 100000",
    "PXAT 9000000000000 KEEPTTL",
    "PERSIST",
];

const GETEX_TAILS: &[&str] =
    &["nonsense", "EX", "EX 100000 PERSIST", "PERSIST EX 10", "NX", "GET", "KEEPTTL"];

pub(super) const ROWS: &[Row] = &[
    row("GET", key, KEY).on(Kind::String),
    row(
        "SET",
        set,
        &[
            &[Few(3)],
            &[Tail(SET_TAILS)],
            &[Tail(SET_TAILS)],
            &[Wrong(1), Keep(3), Tail(&["GET", "XX GET", "GET KEEPTTL", "EX 100000 GET"])],
        ],
    )
    .on(Kind::String),
    row("SETNX", key_value, &[&[Few(3)], &[More]]).on(Kind::String),
    row("SETEX", lifetime, LIFETIME).on(Kind::String),
    row("PSETEX", lifetime, LIFETIME).on(Kind::String),
    row("GETSET", key_value, KEY_VALUE).on(Kind::String),
    row("GETDEL", key, KEY).on(Kind::String),
    row("GETEX", getex, &[&[Few(2)], &[Wrong(1)], &[Tail(GETEX_TAILS)]]).on(Kind::String),
    row("MGET", mget, &[&[Few(2)]]).on(Kind::String),
    row("MSET", pairs, PAIRS).on(Kind::String),
    row("MSETNX", pairs, PAIRS).on(Kind::String),
    row("APPEND", key_value, KEY_VALUE).on(Kind::String),
    row("STRLEN", key, KEY).on(Kind::String),
    row("GETRANGE", range, RANGE).on(Kind::String),
    row("SUBSTR", range, RANGE).on(Kind::String),
    row(
        "SETRANGE",
        setrange,
        &[
            &[Few(4)],
            &[More],
            &[Wrong(1)],
            &[NoInteger(2)],
            &[Put(2, &["-1", "-9223372036854775808"])],
            &[Put(2, &["536870912", "9223372036854775807", "4294967296"]), Put(3, &["x"])],
        ],
    )
    .on(Kind::String),
    row("INCR", key, KEY).on(Kind::String),
    row("DECR", key, KEY).on(Kind::String),
    row("INCRBY", add, COUNTER).on(Kind::String),
    row(
        "DECRBY",
        add,
        &[&[Few(3)], &[More], &[Wrong(1)], &[NoInteger(2)], &[Put(2, &["-9223372036854775808"])]],
    )
    .on(Kind::String),
    row(
        "INCRBYFLOAT",
        add_float,
        &[&[Few(3)], &[More], &[Wrong(1)], &[NoFloat(2)], &[Put(2, &["inf", "-inf", "1e4933"])]],
    )
    .on(Kind::String),
];

fn key(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::String));
}

fn key_value(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), random.value()]);
}

fn set(random: &mut Random, to: &mut Args) {
    key_value(random, to);
    if random.one_in(5) {
        to.push(random.option(&["NX", "XX"]));
    }
    if random.one_in(6) {
        to.push(random.option(&["GET"]));
    }
    match random.below(6) {
        0 => to.push(random.option(&["KEEPTTL"])),
        1 | 2 => push_clock(random, to),
        _ => {}
    }
    if random.one_in(10) {
        // The same in another order; a time goes with its option.
        let first = to.get(3).is_some_and(|arg| arg.len() == 3 || arg.len() == 7);
        if first {
            to[3..].rotate_left(1);
        }
    }
}

fn getex(random: &mut Random, to: &mut Args) {
    key(random, to);
    match random.below(4) {
        0 => to.push(random.option(&["PERSIST"])),
        1 | 2 => push_clock(random, to),
        _ => {}
    }
}

/// An option that says when an entry expires, and the time.
pub(super) fn push_clock(random: &mut Random, to: &mut Args) {
    let options: &[&str] =
        if random.soon { &["PX", "PXAT"] } else { &["EX", "PX", "EXAT", "PXAT"] };
    let name = random.pick(options);
    to.push(random.option(&[name]));
    to.push(random.time(name.ends_with("AT"), name.starts_with('P')));
}

fn lifetime(random: &mut Random, to: &mut Args) {
    let millis = to[0] == b"PSETEX";
    to.extend([random.key(Kind::String), random.time(false, millis), random.value()]);
}

fn mget(random: &mut Random, to: &mut Args) {
    (0..=random.below(4)).for_each(|_| to.push(random.key(Kind::String)));
}

fn pairs(random: &mut Random, to: &mut Args) {
    (0..=random.below(3)).for_each(|_| key_value(random, to));
}

fn range(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), random.index(), random.index()]);
}

fn setrange(random: &mut Random, to: &mut Args) {
    let offset = match random.below(12) {
        0 => random.integer(),
        _ => random.below(30).to_string().into(),
    };
    to.extend([random.key(Kind::String), offset, random.value()]);
}

fn add(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), random.integer()]);
}

fn add_float(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), random.float()]);
}

//! Commands about lists.

use super::Edit::{Few, Keep, More, NoInteger, Put, Right, Tail, Wrong};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More], &[Wrong(1)]];
const PUSH: &[&[super::Edit]] = &[&[Few(3)], &[Wrong(1)]];
const POP: &[&[super::Edit]] = &[
    &[Few(2)],
    &[Wrong(1)],
    &[Keep(2), Tail(&["-1", "abc", "1.5", "1 more", "-9223372036854775808"])],
];
const RANGE: &[&[super::Edit]] =
    &[&[Few(4)], &[More], &[Wrong(1)], &[NoInteger(2)], &[NoInteger(3)]];

const LPOS_TAILS: &[&str] = &[
    "nonsense",
    "RANK",
    "RANK 0",
    "RANK abc",
    "COUNT -1",
    "COUNT abc",
    "MAXLEN -1",
    "MAXLEN 1.5",
    "nonsense 1",
];
const LMPOP_TAILS: &[&str] =
    &["nonsense", "COUNT", "COUNT 0", "COUNT -1", "COUNT abc", "COUNT 1 COUNT 1", "LEFT"];

pub(super) const ROWS: &[Row] = &[
    row("LPUSH", push, PUSH).on(Kind::List),
    row("RPUSH", push, PUSH).on(Kind::List),
    row("LPUSHX", push, PUSH).on(Kind::List),
    row("RPUSHX", push, PUSH).on(Kind::List),
    row("LPOP", pop, POP).on(Kind::List),
    row("RPOP", pop, POP).on(Kind::List),
    row("LLEN", key, KEY).on(Kind::List),
    row("LRANGE", range, RANGE).on(Kind::List),
    row("LTRIM", range, RANGE).on(Kind::List),
    row("LINDEX", index, &[&[Few(3)], &[More], &[Wrong(1)], &[Right(1), NoInteger(2)]])
        .on(Kind::List),
    row(
        "LSET",
        set,
        &[
            &[Few(4)],
            &[More],
            &[Wrong(1)],
            &[Right(1), NoInteger(2)],
            &[Right(1), Put(2, &["100", "-100"])],
        ],
    )
    .on(Kind::List),
    row("LINSERT", insert, &[&[Few(5)], &[More], &[Wrong(1)], &[Put(2, &["AMID", ""])]])
        .on(Kind::List),
    row("LREM", rem, &[&[Few(4)], &[More], &[Wrong(1)], &[NoInteger(2)]]).on(Kind::List),
    row(
        "LMOVE",
        lmove,
        &[
            &[Few(5)],
            &[More],
            &[Wrong(1)],
            &[Right(1), Wrong(2)],
            &[Put(3, &["UP", ""])],
            &[Put(4, &["DOWN", "LEFTMOST"])],
        ],
    )
    .on(Kind::List),
    row("RPOPLPUSH", two_keys, &[&[Few(3)], &[More], &[Wrong(1)], &[Right(1), Wrong(2)]])
        .on(Kind::List),
    row(
        "LMPOP",
        lmpop,
        &[
            &[Few(4)],
            &[Put(1, &["0", "-1", "abc", "9223372036854775807", "100"])],
            &[Wrong(2)],
            &[Tail(LMPOP_TAILS)],
        ],
    )
    .on(Kind::List),
    row("LPOS", pos, &[&[Few(3)], &[Wrong(1)], &[Tail(LPOS_TAILS)], &[Tail(LPOS_TAILS)]])
        .on(Kind::List),
];

fn key(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::List));
}

/// One of few values, so that a list holds the same ones several times.
fn element(random: &mut Random) -> Vec<u8> {
    match random.below(30) {
        0 => random.value(),
        1..=5 => random.member(),
        _ => random.within(-3, 6).to_string().into(),
    }
}

fn push(random: &mut Random, to: &mut Args) {
    key(random, to);
    (0..random.many()).for_each(|_| to.push(element(random)));
}

fn pop(random: &mut Random, to: &mut Args) {
    key(random, to);
    if random.one_in(2) {
        to.push(random.count());
    }
}

fn range(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.index(), random.index()]);
}

fn index(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.index()]);
}

fn set(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.within(-3, 3).to_string().into(), element(random)]);
}

fn insert(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.option(&["BEFORE", "AFTER"])]);
    to.extend([element(random), element(random)]);
}

fn rem(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.within(-3, 3).to_string().into(), element(random)]);
}

fn two_keys(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), random.key(Kind::List)]);
}

fn lmove(random: &mut Random, to: &mut Args) {
    two_keys(random, to);
    to.extend([random.option(&["LEFT", "RIGHT"]), random.option(&["LEFT", "RIGHT"])]);
}

fn lmpop(random: &mut Random, to: &mut Args) {
    let keys: Args = (0..=random.below(3)).map(|_| random.key(Kind::List)).collect();
    to.push(keys.len().to_string().into());
    to.extend(keys);
    to.push(random.option(&["LEFT", "RIGHT"]));
    if random.one_in(2) {
        to.extend([random.option(&["COUNT"]), random.within(1, 4).to_string().into()]);
    }
}

fn pos(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::List), element(random)]);
    if random.one_in(2) {
        let rank = random.pick(&[1, 2, 3, -1, -2, -3, 100, i64::MAX, i64::MIN]);
        to.extend([random.option(&["RANK"]), rank.to_string().into()]);
    }
    if random.one_in(2) {
        to.extend([random.option(&["COUNT"]), random.count()]);
    }
    if random.one_in(3) {
        to.extend([random.option(&["MAXLEN"]), random.count()]);
    }
}

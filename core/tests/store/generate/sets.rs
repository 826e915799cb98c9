//! Commands about sets.

use super::Edit::{Few, Keep, More, Put, Right, Tail, Wrong};
use super::hashes::{NO_CURSOR, SCAN_TAILS, push_scan};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More], &[Wrong(1)]];
const MEMBER: &[&[super::Edit]] = &[&[Few(3)], &[More], &[Wrong(1)]];
const MEMBERS: &[&[super::Edit]] = &[&[Few(3)], &[Wrong(1)]];
const KEYS: &[&[super::Edit]] = &[&[Few(2)], &[Wrong(1)], &[Wrong(-1)]];
const STORE: &[&[super::Edit]] = &[&[Few(3)], &[Wrong(2)], &[Wrong(-1)]];

pub(super) const ROWS: &[Row] = &[
    row("SADD", members, MEMBERS).on(Kind::Set),
    row("SREM", members, MEMBERS).on(Kind::Set),
    row("SMEMBERS", key, KEY).on(Kind::Set),
    row("SISMEMBER", member, MEMBER).on(Kind::Set),
    row("SMISMEMBER", members, MEMBERS).on(Kind::Set),
    row("SCARD", key, KEY).on(Kind::Set),
    row(
        "SPOP",
        pop,
        &[
            &[Few(2)],
            &[Wrong(1)],
            &[Keep(2), Tail(&["-1", "abc", "1.5", "1 more", "-9223372036854775808"])],
        ],
    )
    .on(Kind::Set),
    row(
        "SRANDMEMBER",
        some,
        &[
            &[Few(2)],
            &[Wrong(1)],
            &[Keep(2), Tail(&["abc", "1.5", "1 more", "-9223372036854775808"])],
        ],
    )
    .on(Kind::Set),
    row("SMOVE", smove, &[&[Few(4)], &[More], &[Wrong(1)], &[Right(1), Wrong(2)]]).on(Kind::Set),
    row("SINTER", keys, KEYS).on(Kind::Set),
    row("SUNION", keys, KEYS).on(Kind::Set),
    row("SDIFF", keys, KEYS).on(Kind::Set),
    row("SINTERSTORE", store, STORE).on(Kind::Set),
    row("SUNIONSTORE", store, STORE).on(Kind::Set),
    row("SDIFFSTORE", store, STORE).on(Kind::Set),
    row(
        "SINTERCARD",
        intercard,
        &[
            &[Few(3)],
            &[Wrong(2)],
            &[Put(1, &["0", "-1", "abc", "9223372036854775807", "100"])],
            &[Tail(&["LIMIT", "LIMIT -1", "LIMIT abc", "nonsense", "nonsense 1"])],
        ],
    )
    .on(Kind::Set),
    row(
        "SSCAN",
        scan,
        &[&[Few(3)], &[Wrong(1)], &[Put(2, NO_CURSOR)], &[Right(1), Keep(3), Tail(SCAN_TAILS)]],
    )
    .on(Kind::Set),
];

fn key(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Set));
}

fn member(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::Set), random.member()]);
}

fn members(random: &mut Random, to: &mut Args) {
    key(random, to);
    to.extend(random.members());
}

fn pop(random: &mut Random, to: &mut Args) {
    key(random, to);
    if random.one_in(2) {
        to.push(if random.one_in(10) { b"600".to_vec() } else { random.count() });
    }
}

fn some(random: &mut Random, to: &mut Args) {
    key(random, to);
    if !random.one_in(3) {
        to.push(random.within(-8, 8).to_string().into());
    }
}

fn smove(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::Set), random.key(Kind::Set), random.member()]);
}

fn keys(random: &mut Random, to: &mut Args) {
    (0..=random.below(3)).for_each(|_| to.push(random.key(Kind::Set)));
}

fn store(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Set));
    keys(random, to);
}

fn intercard(random: &mut Random, to: &mut Args) {
    let mut sources = Args::new();
    keys(random, &mut sources);
    to.push(sources.len().to_string().into());
    to.extend(sources);
    if random.one_in(2) {
        to.extend([random.option(&["LIMIT"]), random.count()]);
    }
}

fn scan(random: &mut Random, to: &mut Args) {
    key(random, to);
    push_scan(random, to);
}

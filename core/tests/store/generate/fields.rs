//! Commands about how long the fields of hashes live, which servers know since 7.4, and those
//! that came with 8.0.

use super::Edit::{Few, Insert, Keep, More, NoInteger, Put, Right, Tail, Wrong};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const EXPIRE: &[&[super::Edit]] = &[
    &[Few(6)],
    &[More],
    &[Wrong(1)],
    &[NoInteger(2)],
    &[Put(2, &["-1", "9223372036854775807", "-9223372036854775808"])],
    &[Insert(3, &["nonsense", "NX XX", "GT LT", "GT GT"])],
    &[Keep(3), Tail(&["FIELDS 0 a", "FIELDS -1 a", "FIELDS x a", "FIELDS 2 a", "FIELDS 1 a b"])],
];
const TELL: &[&[super::Edit]] = &[
    &[Few(5)],
    &[More],
    &[Wrong(1)],
    &[Put(2, &["FIELD", "nonsense", "1"])],
    &[Right(1), Keep(2), Tail(&["FIELDS 0 a", "FIELDS -1 a", "FIELDS x a", "FIELDS 2 a"])],
];

pub(super) const ROWS: &[Row] = &[
    row("HEXPIRE", expire, EXPIRE).on(Kind::Hash),
    row("HPEXPIRE", expire, EXPIRE).on(Kind::Hash),
    row("HEXPIREAT", expire, EXPIRE).on(Kind::Hash),
    row("HPEXPIREAT", expire, EXPIRE).on(Kind::Hash),
    row("HTTL", tell, TELL).on(Kind::Hash),
    row("HPTTL", tell, TELL).on(Kind::Hash),
    row("HEXPIRETIME", tell, TELL).on(Kind::Hash),
    row("HPEXPIRETIME", tell, TELL).on(Kind::Hash),
    row("HPERSIST", tell, TELL).on(Kind::Hash),
];

fn expire(random: &mut Random, to: &mut Args) {
    let (absolute, millis) = (to[0].ends_with(b"AT"), to[0].starts_with(b"HP"));
    // Longer than what fits in the 46 bits that a server has for it is refused.
    to.extend([random.key(Kind::Hash), random.time(absolute, millis)]);
    if !random.soon && random.one_in(3) {
        to.push(random.option(&["NX", "XX", "GT", "LT"]));
    }
    push_fields(random, to);
}

fn tell(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
    push_fields(random, to);
}

fn push_fields(random: &mut Random, to: &mut Args) {
    let fields: Args = (0..=random.below(3)).map(|_| random.member()).collect();
    to.extend([random.option(&["FIELDS"]), fields.len().to_string().into()]);
    to.extend(fields);
}

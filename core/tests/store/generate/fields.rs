//! Commands about how long the fields of hashes live, which servers know since 7.4, and those
//! that came with 8.0.

use super::Edit::{Few, Insert, Keep, More, NoInteger, Put, Right, Tail, Wrong};
use super::strings::push_clock;
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

pub(crate) const ROWS: &[Row] = &[
    row("HEXPIRE", expire, EXPIRE).on(Kind::Hash),
    row("HPEXPIRE", expire, EXPIRE).on(Kind::Hash),
    row("HEXPIREAT", expire, EXPIRE).on(Kind::Hash),
    row("HPEXPIREAT", expire, EXPIRE).on(Kind::Hash),
    row("HTTL", tell, TELL).on(Kind::Hash),
    row("HPTTL", tell, TELL).on(Kind::Hash),
    row("HEXPIRETIME", tell, TELL).on(Kind::Hash),
    row("HPEXPIRETIME", tell, TELL).on(Kind::Hash),
    row("HPERSIST", tell, TELL).on(Kind::Hash),
    row("HGETDEL", tell, TELL).on(Kind::Hash),
    row(
        "HGETEX",
        getex,
        &[
            &[Few(5)],
            &[Wrong(1)],
            &[
                Right(1),
                Keep(2),
                Tail(&[
                    "nonsense FIELDS 1 a",
                    "EX FIELDS 1 a",
                    "EX abc FIELDS 1 a",
                    "PX -1 FIELDS 1 a",
                    "EX 9223372036854775807 FIELDS 1 a",
                    "PERSIST FIELDS 2 a",
                    "PERSIST EX 100000 FIELDS 1 a",
                    "FIELDS 0 a",
                    "FIELDS x a",
                    "FIELDS 1 a b",
                ]),
            ],
        ],
    )
    .on(Kind::Hash),
    row(
        "HSETEX",
        setex,
        &[
            &[Few(6)],
            &[Wrong(1)],
            &[
                Right(1),
                Keep(2),
                Tail(&[
                    "nonsense FIELDS 1 a 1",
                    "EX FIELDS 1 a 1",
                    "EX abc FIELDS 1 a 1",
                    "PX -1 FIELDS 1 a 1",
                    "PXAT 9223372036854775807 FIELDS 1 a 1",
                    "FNX FXX FIELDS 1 a 1",
                    "KEEPTTL EX 100000 FIELDS 1 a 1",
                    "EX 100000 PX 100000 FIELDS 1 a 1",
                    "FIELDS 0 a 1",
                    "FIELDS x a 1",
                    "FIELDS 1 a 1 b 2",
                    "FIELDS 2 a 1 b",
                    "FIELDS 2 a 1",
                ]),
            ],
        ],
    )
    .on(Kind::Hash),
];

fn getex(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
    match random.below(4) {
        0 => to.push(random.option(&["PERSIST"])),
        1 | 2 => push_clock(random, to),
        _ => {}
    }
    push_fields(random, to);
}

fn setex(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::Hash));
    if random.one_in(4) {
        to.push(random.option(&["FNX", "FXX"]));
    }
    match random.below(4) {
        0 => to.push(random.option(&["KEEPTTL"])),
        1 | 2 => push_clock(random, to),
        _ => {}
    }
    let fields: Args = (0..=random.below(3)).map(|_| random.member()).collect();
    to.extend([random.option(&["FIELDS"]), fields.len().to_string().into()]);
    to.extend(fields.into_iter().flat_map(|field| [field, random.value()]));
}

fn expire(random: &mut Random, to: &mut Args) {
    let (absolute, millis) = (to[0].ends_with(b"AT"), to[0].starts_with(b"HP"));
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

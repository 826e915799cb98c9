//! Commands about the bits of strings.

use super::Edit::{Few, Keep, More, Put, Right, Tail, Wrong};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

/// What is no offset of a bit, or one beyond 512 MiB. What lies below that and is not small is
/// never asked for: a server would allocate it.
const NO_OFFSET: &[&str] =
    &["-1", "4294967296", "9223372036854775807", "9223372036854775808", "abc", "", "1.5", "#1"];

const FIELD_TAILS: &[&str] = &[
    "nonsense",
    "GET",
    "GET u8",
    "GET u64 0",
    "GET i65 0",
    "GET u0 0",
    "GET i-1 0",
    "GET x8 0",
    "GET 8 0",
    "GET u8 -1",
    "GET u8 #-1",
    "GET u8 abc",
    "GET u8 4294967296",
    "GET i64 #67108864",
    "GET u8x 0",
];
const FIELD_WRITE_TAILS: &[&str] = &[
    "SET u8 0",
    "SET u8 0 abc",
    "INCRBY u8 0 1.5",
    "INCRBY u8 0",
    "OVERFLOW NONE",
    "OVERFLOW",
    "SET u64 0 1",
];

pub(super) const ROWS: &[Row] = &[
    row(
        "SETBIT",
        setbit,
        &[
            &[Few(4)],
            &[More],
            &[Wrong(1)],
            &[Put(2, NO_OFFSET)],
            &[Put(3, &["2", "-1", "abc", "", "01"])],
        ],
    )
    .on(Kind::String),
    row("GETBIT", getbit, &[&[Few(3)], &[More], &[Wrong(1)], &[Put(2, NO_OFFSET)]])
        .on(Kind::String),
    row(
        "BITCOUNT",
        bitcount,
        &[
            &[Few(2)],
            &[Wrong(1)],
            &[Right(1), Keep(2), Tail(&["1", "a 1", "1 1.5", "1 2 NIBBLE", "1 2 BIT more"])],
        ],
    )
    .on(Kind::String),
    row(
        "BITPOS",
        bitpos,
        &[
            &[Few(3)],
            &[Wrong(1)],
            &[Put(2, &["2", "-1", "abc", ""])],
            &[Right(1), Keep(3), Tail(&["a", "1 b", "1 2 NIBBLE", "1 2 BIT more"])],
        ],
    )
    .on(Kind::String),
    row(
        "BITOP",
        bitop,
        &[&[Few(4)], &[Wrong(3)], &[Put(1, &["NAND", "nonsense", ""])], &[Put(1, &["NOT"]), More]],
    )
    .on(Kind::String),
    row(
        "BITFIELD",
        bitfield,
        &[
            &[Few(2)],
            &[Wrong(1), Tail(&["GET u8 0"])],
            &[Tail(FIELD_TAILS)],
            &[Tail(FIELD_WRITE_TAILS)],
        ],
    )
    .on(Kind::String),
    row(
        "BITFIELD_RO",
        bitfield_ro,
        &[
            &[Few(2)],
            &[Wrong(1), Tail(&["GET u8 0"])],
            &[Tail(FIELD_TAILS)],
            &[Tail(&["SET u8 0 1", "INCRBY u8 0 1"])],
        ],
    )
    .on(Kind::String),
];

fn offset(random: &mut Random) -> Vec<u8> {
    let end = if random.one_in(3) { 200 } else { 24 };
    random.below(end).to_string().into()
}

fn setbit(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), offset(random), random.word(&["0", "1"])]);
}

fn getbit(random: &mut Random, to: &mut Args) {
    let far = random.one_in(10);
    let at = if far { random.word(&["4294967295", "1000000000"]) } else { offset(random) };
    to.extend([random.key(Kind::String), at]);
}

fn unit(random: &mut Random, to: &mut Args) {
    if random.one_in(2) {
        to.push(random.option(&["BIT", "BYTE"]));
    }
}

fn bitcount(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::String));
    if !random.one_in(4) {
        to.extend([random.index(), random.index()]);
        unit(random, to);
    }
}

fn bitpos(random: &mut Random, to: &mut Args) {
    to.extend([random.key(Kind::String), random.word(&["0", "1"])]);
    if !random.one_in(4) {
        to.push(random.index());
        if !random.one_in(4) {
            to.push(random.index());
            unit(random, to);
        }
    }
}

fn bitop(random: &mut Random, to: &mut Args) {
    let operation = random.option(&["AND", "OR", "XOR", "NOT"]);
    let sources =
        if operation.to_ascii_uppercase().starts_with(b"NOT") { 0 } else { random.below(3) };
    to.extend([operation, random.key(Kind::String)]);
    (0..=sources).for_each(|_| to.push(random.key(Kind::String)));
}

fn bitfield(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::String));
    for _ in 0..random.below(5) {
        match random.below(4) {
            0 => field(random, to, "GET"),
            1 => to.extend([random.option(&["OVERFLOW"]), random.option(&["WRAP", "SAT", "FAIL"])]),
            place => {
                field(random, to, ["SET", "INCRBY"][place - 2]);
                to.push(random.integer());
            }
        }
    }
}

fn bitfield_ro(random: &mut Random, to: &mut Args) {
    to.push(random.key(Kind::String));
    (0..random.below(4)).for_each(|_| field(random, to, "GET"));
}

fn field(random: &mut Random, to: &mut Args, operation: &str) {
    let width = random.pick(&[1, 2, 3, 5, 7, 8, 9, 16, 31, 32, 33, 63, 64]);
    let sign = if width == 64 { "i" } else { random.pick(&["i", "u"]) };
    let at = if random.one_in(3) {
        format!("#{}", random.below(5))
    } else {
        random.below(90).to_string()
    };
    to.extend([random.option(&[operation]), format!("{sign}{width}").into(), at.into()]);
}

//! Commands about keys, whatever stands at them, and about the store as a whole.

use super::Edit::{Few, Keep, More, NoInteger, Put, Tail};
use super::hashes::{NO_CURSOR, SCAN_TAILS, push_scan};
use super::{Row, row};
use crate::random::{Args, Kind, Random};

const KEY: &[&[super::Edit]] = &[&[Few(2)], &[More]];
const EXPIRE: &[&[super::Edit]] = &[
    &[Few(3)],
    &[NoInteger(2)],
    &[Tail(&["nonsense", "NX XX", "NX GT", "LT NX", "GT LT", "XX GT LT"])],
];
const SORT: &[&[super::Edit]] = &[
    &[Few(2)],
    &[Put(1, &["fixed:string", "fixed:hash"])],
    &[Tail(&["nonsense", "BY", "GET", "LIMIT 1", "LIMIT a 1", "STORE"])],
];
const SORT_RO: &[&[super::Edit]] = &[
    &[Few(2)],
    &[Put(1, &["fixed:string", "fixed:hash"])],
    &[Tail(&["nonsense", "BY", "GET", "LIMIT 1", "LIMIT a 1", "STORE k1"])],
];
const FLUSH: &[&[super::Edit]] = &[&[Tail(&["nonsense", "SYNC more", "ASYNC SYNC"])]];

pub(super) const ROWS: &[Row] = &[
    row("DEL", keys, &[&[Few(2)]]),
    row("UNLINK", keys, &[&[Few(2)]]),
    row("EXISTS", keys, &[&[Few(2)]]),
    row("TOUCH", keys, &[&[Few(2)]]),
    row("TYPE", key, KEY),
    row("RENAME", rename, &[&[Few(3)], &[More], &[Put(1, &["absent"])]]),
    row("RENAMENX", rename, &[&[Few(3)], &[More], &[Put(1, &["absent"])]]),
    row(
        "COPY",
        copy,
        &[
            &[Few(3)],
            &[Tail(&["nonsense", "DB", "DB 1", "DB -1", "DB abc"])],
            &[Put(1, &["same"]), Put(2, &["same"])],
        ],
    ),
    row("KEYS", pattern, KEY),
    row(
        "SCAN",
        scan,
        &[
            &[Few(2)],
            &[Put(1, NO_CURSOR)],
            &[Keep(2), Tail(SCAN_TAILS)],
            &[Keep(2), Tail(&["TYPE"])],
        ],
    ),
    row("RANDOMKEY", nothing, &[&[More]]),
    row("DBSIZE", nothing, &[&[More]]),
    row("FLUSHDB", flush, FLUSH),
    row("FLUSHALL", flush, FLUSH),
    row("EXPIRE", expire, EXPIRE),
    row("PEXPIRE", expire, EXPIRE),
    row("EXPIREAT", expire, EXPIRE),
    row("PEXPIREAT", expire, EXPIRE),
    row("TTL", key, KEY),
    row("PTTL", key, KEY),
    row("EXPIRETIME", key, KEY),
    row("PEXPIRETIME", key, KEY),
    row("PERSIST", key, KEY),
    row(
        "OBJECT",
        object,
        &[
            &[Few(2)],
            &[More, More],
            &[Put(1, &["nonsense", "ENCODINGS"])],
            &[Keep(1), Tail(&["ENCODING", "refcount", "HELP more"])],
        ],
    ),
    row("SORT", sort, SORT),
    row("SORT_RO", sort, SORT_RO),
];

pub(super) const SERVER: &[Row] = &[
    row("PING", ping, &[&[More, More]]),
    row("ECHO", echo, &[&[Few(2)], &[More]]),
    row("TIME", nothing, &[&[More]]),
    row(
        "SELECT",
        select,
        &[
            &[Few(2)],
            &[More],
            &[NoInteger(1)],
            &[Put(1, &["1", "-1", "2147483647", "2147483648", "-2147483649"])],
        ],
    ),
];

fn nothing(_: &mut Random, _: &mut Args) {}

fn key(random: &mut Random, to: &mut Args) {
    to.push(random.every_key());
}

fn keys(random: &mut Random, to: &mut Args) {
    let more = if random.one_in(4) { 3 } else { 0 };
    (0..=more).for_each(|_| to.push(random.every_key()));
}

fn rename(random: &mut Random, to: &mut Args) {
    to.extend([random.every_key(), random.any_key()]);
}

fn copy(random: &mut Random, to: &mut Args) {
    rename(random, to);
    if random.one_in(2) {
        to.push(random.option(&["REPLACE"]));
    }
    if random.one_in(4) {
        to.extend([random.option(&["DB"]), b"0".to_vec()]);
    }
}

fn pattern(random: &mut Random, to: &mut Args) {
    to.push(random.word(&["*", "k*", "?1", "[st]?", "[^k]*", "**", "k[1-2]", "fixed:*", ""]));
}

fn scan(random: &mut Random, to: &mut Args) {
    push_scan(random, to);
    if random.one_in(3) {
        let kinds = ["string", "hash", "LIST", "set", "zset", "stream", "nonsense"];
        to.extend([random.option(&["TYPE"]), random.word(&kinds)]);
    }
}

fn flush(random: &mut Random, to: &mut Args) {
    if random.one_in(2) {
        to.push(random.option(&["ASYNC", "SYNC"]));
    }
}

fn expire(random: &mut Random, to: &mut Args) {
    let (absolute, millis) = (to[0].ends_with(b"AT"), to[0].starts_with(b"P"));
    to.extend([random.every_key(), random.time(absolute, millis)]);
    // Of two relative times that are over soon, the clock decides which one is the later.
    if !random.soon && random.one_in(2) {
        for option in random.pick(&["NX", "XX", "GT", "LT", "XX GT", "LT XX"]).split(' ') {
            to.push(random.option(&[option]));
        }
    }
}

fn object(random: &mut Random, to: &mut Args) {
    // Without what `option` puts behind a NUL: whether a server then finds a subcommand depends on
    // its hash.
    let subcommand = match random.below(12) {
        0 => ["HELP", "help"],
        1 => ["FREQ", "freq"],
        2 | 3 => ["REFCOUNT", "refCount"],
        _ => ["ENCODING", "encoding"],
    };
    to.push(random.word(&subcommand));
    if subcommand[0] != "HELP" {
        to.push(random.every_key());
    }
}

fn sort(random: &mut Random, to: &mut Args) {
    let kind = random.pick(&[Kind::List, Kind::List, Kind::Set, Kind::Zset, Kind::Lex]);
    to.push(random.key(kind));
    let by = random.one_in(4);
    if by {
        let pattern = random.word(&["s*", "h*->1", "nosort", "k*", "z1"]);
        to.extend([random.option(&["BY"]), pattern]);
    }
    if random.one_in(3) {
        let offset = random.within(-1, 4).to_string().into();
        to.extend([random.option(&["LIMIT"]), offset, random.within(-2, 6).to_string().into()]);
    }
    while random.one_in(3) {
        to.extend([random.option(&["GET"]), random.word(&["#", "s*", "h*->1", "h*->a", "l1"])]);
    }
    if random.one_in(3) {
        to.push(random.option(&["ASC", "DESC"]));
    }
    if !random.one_in(3) {
        to.push(random.option(&["ALPHA"]));
    }
    // Where weights are the same the order is open: what is stored would not be the same on both.
    if to[0] == b"SORT" && !by && random.one_in(4) {
        to.extend([random.option(&["STORE"]), random.key(Kind::List)]);
    }
}

fn ping(random: &mut Random, to: &mut Args) {
    if random.one_in(2) {
        to.push(random.value());
    }
}

fn echo(random: &mut Random, to: &mut Args) {
    to.push(random.value());
}

fn select(_: &mut Random, to: &mut Args) {
    to.push(b"0".to_vec());
}

//! What commands are made of: few keys and members, so that commands meet each other's data, and
//! numbers on both sides of every edge.

/// A command: its name and its arguments.
pub(crate) type Args = Vec<Vec<u8>>;

pub(crate) fn args(words: &[&str]) -> Args {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// What usually stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Hash,
    List,
    Set,
    Zset,
    /// A sorted set whose members all have the score 0. The commands about lexicographical ranges
    /// meet only these: for any other sorted set Redis leaves their replies open.
    Lex,
}

pub(crate) const KINDS: [Kind; 6] =
    [Kind::String, Kind::Hash, Kind::List, Kind::Set, Kind::Zset, Kind::Lex];

impl Kind {
    /// The keys that usually hold this.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::String => &["s1", "s2", "s3"],
            Kind::Hash => &["h1", "h2"],
            Kind::List => &["l1", "l2", "l3"],
            Kind::Set => &["t1", "t2", "t3"],
            Kind::Zset => &["z1", "z2", "z3"],
            Kind::Lex => &["x1", "x2"],
        }
    }

    /// A key that no generator writes to: what stands there is this as long as a sequence lasts.
    pub(crate) fn fixed(self) -> &'static str {
        match self {
            Kind::String => "fixed:string",
            Kind::Hash => "fixed:hash",
            Kind::List => "fixed:list",
            Kind::Set => "fixed:set",
            Kind::Zset | Kind::Lex => "fixed:zset",
        }
    }
}

/// Keys at which anything may stand.
const MIXED: &[&str] = &["k1", "k2", "k3", "k\u{e4}\0y\r\n", ""];

/// The argument that stands for a moment soon to come, in milliseconds since the Unix epoch. It
/// is filled in when the command runs, so that a sequence is the same whenever it runs.
pub(crate) const SOON: &[u8] = b"(soon)";
/// The argument that stands for a short span, in milliseconds.
pub(crate) const SHORTLY: &[u8] = b"(shortly)";

/// Random choices from a seed (SplitMix64).
pub(crate) struct Random {
    state: u64,
    /// Whether times of expiry may be over soon.
    pub(crate) soon: bool,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random { state: seed, soon: false }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % end
    }

    /// A number of a range that includes both ends.
    pub(crate) fn within(&mut self, first: i64, last: i64) -> i64 {
        let span = usize::try_from(last - first).expect("a range") + 1;
        first + i64::try_from(self.below(span)).expect("31 bits")
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn word(&mut self, from: &[&str]) -> Vec<u8> {
        self.pick(from).into()
    }

    /// An option, in any case.
    pub(crate) fn option(&mut self, from: &[&str]) -> Vec<u8> {
        let word = self.pick(from);
        match self.below(4) {
            0 => word.to_ascii_lowercase().into(),
            // What stands behind a NUL does not count.
            1 if self.one_in(20) => format!("{word}\0x").into(),
            _ => word.into(),
        }
    }

    /// So many bytes out of an alphabet.
    pub(crate) fn bytes(&mut self, alphabet: &[u8], lengths: std::ops::Range<usize>) -> Vec<u8> {
        let length = lengths.start + self.below(lengths.len());
        (0..length).map(|_| self.pick(alphabet)).collect()
    }

    /// A key for a command on values of this kind: mostly one that holds such a value.
    pub(crate) fn key(&mut self, kind: Kind) -> Vec<u8> {
        match self.below(20) {
            0..=15 => self.word(kind.keys()),
            16..=18 if kind != Kind::Lex => self.word(MIXED),
            _ => self.any_key(),
        }
    }

    /// A key at which anything may stand, but no sorted set for lexicographical ranges.
    pub(crate) fn any_key(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => self.word(MIXED),
            group => self.word(KINDS[group - 1].keys()),
        }
    }

    /// Any of the keys, for commands that put nothing there.
    pub(crate) fn every_key(&mut self) -> Vec<u8> {
        if self.one_in(7) { self.word(Kind::Lex.keys()) } else { self.any_key() }
    }

    /// How many elements a command carries: few mostly, and at times about as many as make the
    /// server keep the value in another way.
    pub(crate) fn many(&mut self) -> usize {
        match self.below(100) {
            0 => 505 + self.below(20),
            1 => 120 + self.below(20),
            2..=40 => 4 + self.below(6),
            _ => 1 + self.below(3),
        }
    }

    /// A member of a set or field of a hash.
    pub(crate) fn member(&mut self) -> Vec<u8> {
        const WORDS: &[&str] = &["a", "b", "c", "d", "ab", "Ab"];
        const ODD: &[&str] =
            &["", "\0\r\n'\"", "1.5", "01", "-0", "9223372036854775807", "-32769", "65536"];
        match self.below(30) {
            0..=11 => self.word(WORDS),
            12..=25 => self.below(8).to_string().into(),
            26 => vec![0xFF, 0x80],
            27 if self.one_in(4) => vec![b'L'; 65],
            _ => self.word(ODD),
        }
    }

    /// As many members as [`many`](Random::many) says. Where they are many, no two are the same,
    /// and for some commands all of them are integers, so that sets of these grow too.
    pub(crate) fn members(&mut self) -> Args {
        const MANY: usize = 10;
        let count = self.many();
        let (first, prefix) = (self.below(200), self.pick(&["m", ""]));
        let member = |random: &mut Random, place: usize| match count {
            ..MANY => random.member(),
            _ => format!("{prefix}{}", first + place).into(),
        };
        (0..count).map(|place| member(self, place)).collect()
    }

    /// Fields and their values, flat. Where they are many, no value is long, for a single one is
    /// enough to make the server keep the hash in another way.
    pub(crate) fn fields(&mut self) -> Args {
        const MANY: usize = 10;
        let fields = self.members();
        let many = fields.len() >= MANY;
        let pair = |field| [field, if many { self.count() } else { self.value() }];
        fields.into_iter().flat_map(pair).collect()
    }

    /// A value of a string, field or list.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => self.integer(),
            1 => self.float(),
            2 => self.bytes(b"ab\r\n\0\xFF", 0..12),
            // Around the lengths at which a server keeps strings in another way.
            3 if self.one_in(3) => self.bytes(b"v", 40..70),
            4 => self.member(),
            _ => self.below(1_000).to_string().into(),
        }
    }

    /// A position in something short, from either end.
    pub(crate) fn index(&mut self) -> Vec<u8> {
        if self.one_in(12) {
            return self.integer();
        }
        self.within(-12, 17).to_string().into()
    }

    /// A small number of things.
    pub(crate) fn count(&mut self) -> Vec<u8> {
        self.within(0, 6).to_string().into()
    }

    /// An integer on either side of an edge. None of them, taken as a length or an offset, makes
    /// a server allocate much: it is small or refused.
    pub(crate) fn integer(&mut self) -> Vec<u8> {
        const EDGES: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "-9223372036854775807",
            "9223372036854775806",
            "4611686018427387904",
            "9223372036854775",
            "-1",
            "0",
            "1",
        ];
        if self.one_in(3) {
            return self.word(EDGES);
        }
        self.within(-1_000, 1_000).to_string().into()
    }

    /// What is no integer, though often nearly one.
    pub(crate) fn no_integer(&mut self) -> Vec<u8> {
        self.word(&[
            "9223372036854775808",
            "-9223372036854775809",
            "100000000000000000000",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.5",
            "1e3",
            "0x1",
            "",
            "abc",
            "1\0",
            "-",
        ])
    }

    /// A time of expiry for an option or argument that counts seconds or milliseconds, from now
    /// or from the epoch. It is over for good or far from being so, but for `soon`. Absolute
    /// times lie in [`ABSOLUTE_MS`], relative ones lead to what is before it, and are picked so
    /// widely that GT and LT meet no two that are close.
    pub(crate) fn time(&mut self, absolute: bool, millis: bool) -> Vec<u8> {
        // Over, or so far that nothing can hold it.
        const EDGES: &[&str] =
            &["9223372036854775807", "-9223372036854775808", "9223372036854775", "-1", "0"];
        if self.soon && millis && self.one_in(2) {
            return if absolute { SOON.to_vec() } else { SHORTLY.to_vec() };
        }
        if self.one_in(12) {
            return self.word(EDGES);
        }
        if absolute && self.one_in(12) {
            return self.word(&["1", "1000", "1500000000"]);
        }
        if absolute && self.one_in(3) {
            // One of few, for GT and LT to tell from the same.
            let when = ABSOLUTE_MS.start + 500 * (self.next() % 3);
            return (if millis { when } else { when / 1_000 }).to_string().into();
        }
        let seconds = if absolute { ABSOLUTE_MS.start / 1_000 } else { 1_000 };
        let seconds = seconds + self.next() % (1 << 30);
        let time = if millis { seconds * 1_000 + self.next() % 1_000 } else { seconds };
        time.to_string().into()
    }

    /// A number as C reads it, on either side of an edge.
    pub(crate) fn float(&mut self) -> Vec<u8> {
        const EDGES: &[&str] = &[
            "inf",
            "-inf",
            "+Infinity",
            "5.",
            ".5",
            "-.5e1",
            "0x1p3",
            "0x.8",
            "1e5",
            "1e-5",
            "1E+18",
            "1e4932",
            "1.18973149535723176502e+4932",
            "1e-4932",
            "1e-4950",
            "+1.5",
            "-0",
            "0x1e+1",
            "18446744073709551615",
            "18446744073709551616",
            "36893488147419103233",
            "3.0e-17",
            "0.000000000000000005",
            "0.000000000000000015",
            "123456789012345678901234567890",
            "1e30",
            "-1e30",
            "1e19",
            "0e99999",
        ];
        if self.one_in(4) {
            return self.word(EDGES);
        }
        let sign = self.pick(&["", "", "-"]);
        let whole = self.bytes(b"0123456789", 1..20);
        let fraction = self.bytes(b"0123456789", 1..25);
        [sign.as_bytes(), &whole, b".", &fraction].concat()
    }

    /// What is no number, though often nearly one.
    pub(crate) fn no_float(&mut self) -> Vec<u8> {
        self.word(&[
            "nan",
            "",
            ".",
            "0x",
            "1e",
            "1e+",
            " 1",
            "1 ",
            "1,5",
            "--1",
            "1\0",
            "nan(1)",
            "1p3",
            "abc",
            "0.1e1000000000000",
        ])
    }
}

/// Where the times lie that commands name as absolute, in milliseconds since the Unix epoch: in
/// the years 2100 to 2134. What relative times lead to lies before.
pub(crate) const ABSOLUTE_MS: std::ops::Range<u64> =
    4_102_444_800_000..4_102_444_800_000 + 1_000 * (1 << 30) + 1_000;

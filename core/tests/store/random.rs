//! Random commands: mostly well formed, on few keys, with what goes wrong mixed in.

/// Random commands from a seed (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).expect("31 bits") % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// So many bytes out of an alphabet.
    pub(crate) fn bytes(&mut self, alphabet: &[u8], lengths: std::ops::Range<usize>) -> Vec<u8> {
        let length = lengths.start + self.below(lengths.len());
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    /// One command; about one in three goes wrong in some way.
    pub(crate) fn command(&mut self) -> Vec<Vec<u8>> {
        let mut command = self.well_formed();
        if self.one_in(8) {
            match self.below(5) {
                0 => drop(command.pop()),
                1 => command.push(b"more".to_vec()),
                2 => command.push(self.option()),
                3 if command.len() > 1 => {
                    let at = 1 + self.below(command.len() - 1);
                    command[at] = self.integer();
                }
                _ => command[0].extend_from_slice(b"ED"),
            }
        }
        if command.is_empty() {
            command.push(self.bytes(b"no\r\n\0\xFF'", 0..200));
        }
        if self.one_in(3) {
            command[0].make_ascii_lowercase();
        }
        command
    }

    fn well_formed(&mut self) -> Vec<Vec<u8>> {
        const NAMES: &[&str] = &[
            "PING",
            "ECHO",
            "TIME",
            "SELECT",
            "DBSIZE",
            "FLUSHDB",
            "FLUSHALL",
            "KEYS",
            "RANDOMKEY",
            "TYPE",
            "EXISTS",
            "DEL",
            "UNLINK",
            "TOUCH",
            "RENAME",
            "RENAMENX",
            "COPY",
            "EXPIRE",
            "PEXPIRE",
            "EXPIREAT",
            "PEXPIREAT",
            "TTL",
            "PTTL",
            "EXPIRETIME",
            "PEXPIRETIME",
            "PERSIST",
            "GET",
            "SET",
            "SETNX",
            "SETEX",
            "PSETEX",
            "GETSET",
            "GETDEL",
            "GETEX",
            "MGET",
            "MSET",
            "MSETNX",
            "APPEND",
            "STRLEN",
            "GETRANGE",
            "SUBSTR",
            "SETRANGE",
            "INCR",
            "DECR",
            "INCRBY",
            "DECRBY",
            "INCRBYFLOAT",
            "(unknown)",
        ];
        // Writers more often, so that there is something to read.
        const WRITERS: &[&str] = &["SET", "MSET", "SETEX", "INCRBY", "SET", "GETEX", "EXPIRE"];
        let name = if self.one_in(4) { self.pick(WRITERS) } else { self.pick(NAMES) };
        if name == "(unknown)" {
            let count = self.below(6);
            let name = self.bytes(b"Zno\r\n\0\xFF' ", 1..150);
            let args = (0..count).map(|_| self.bytes(b"ab\r\n\0'\xFF ", 0..70));
            return std::iter::once([b"Z".to_vec(), name].concat()).chain(args).collect();
        }
        let mut command = vec![name.as_bytes().to_vec()];
        match name {
            "PING" if self.one_in(2) => command.push(self.value()),
            "ECHO" => command.push(self.value()),
            "SELECT" => command.push(match self.below(3) {
                0 => self.integer(),
                _ => b"0".to_vec(),
            }),
            "FLUSHDB" | "FLUSHALL" if self.one_in(2) => {
                command.push(self.pick(&["ASYNC", "sync", "SYNC\0x", "never"]).into());
            }
            "KEYS" => command.push(self.pick(&["*", "k*", "?1", "k[1-2]", "[^k]*", "**"]).into()),
            "TYPE" | "TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME" | "PERSIST" | "GET"
            | "GETDEL" | "STRLEN" | "INCR" | "DECR" => command.push(self.key()),
            "EXISTS" | "DEL" | "UNLINK" | "TOUCH" | "MGET" => {
                (0..=self.below(3)).for_each(|_| command.push(self.key()));
            }
            "RENAME" | "RENAMENX" => command.extend([self.key(), self.key()]),
            "COPY" => {
                command.extend([self.key(), self.key()]);
                if self.one_in(2) {
                    command.push(b"replace".to_vec());
                }
                if self.one_in(4) {
                    command.push(b"DB".to_vec());
                    command.push(if self.one_in(2) { b"0".to_vec() } else { self.integer() });
                }
            }
            "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => {
                let time = self.time(name.ends_with("AT"), name.starts_with('P'));
                command.extend([self.key(), time]);
                while self.one_in(2) {
                    command.push(self.pick(&["NX", "xx", "GT", "LT", "gt", "what\r\n"]).into());
                }
            }
            "SET" => {
                command.extend([self.key(), self.value()]);
                self.options(&mut command);
            }
            "GETEX" => {
                command.push(self.key());
                self.options(&mut command);
            }
            "SETNX" | "GETSET" | "APPEND" => command.extend([self.key(), self.value()]),
            "SETEX" | "PSETEX" => {
                let time = self.time(false, name.starts_with('P'));
                command.extend([self.key(), time, self.value()]);
            }
            "MSET" | "MSETNX" => {
                for _ in 0..=self.below(3) {
                    command.extend([self.key(), self.value()]);
                }
            }
            "GETRANGE" | "SUBSTR" => {
                command.extend([self.key(), self.index(), self.index()]);
            }
            "SETRANGE" => command.extend([self.key(), self.index(), self.value()]),
            "INCRBY" | "DECRBY" => command.extend([self.key(), self.integer()]),
            "INCRBYFLOAT" => command.extend([self.key(), self.float()]),
            _ => {}
        }
        command
    }

    fn key(&mut self) -> Vec<u8> {
        self.pick(&["k1", "k2", "k3", "k4", "k\u{e4}\0y"]).into()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(5) {
            0 => self.integer(),
            1 => self.float(),
            2 => self.bytes(b"ab\r\n\0\xFF", 0..12),
            _ => self.below(1_000).to_string().into(),
        }
    }

    fn index(&mut self) -> Vec<u8> {
        if self.one_in(6) {
            return self.integer();
        }
        (i64::try_from(self.below(30)).expect("small") - 12).to_string().into()
    }

    /// An integer, or what is nearly one.
    fn integer(&mut self) -> Vec<u8> {
        const ODD: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-1",
            "0",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.5",
            "",
            "abc",
            "2147483648",
            "-2147483649",
            "1e3",
            "1\0",
            "-9223372036854775807",
            "100000000000000000000",
            "9223372036854775",
            "-",
        ];
        if self.one_in(2) {
            return self.pick(ODD).into();
        }
        (i64::try_from(self.below(2_000)).expect("small") - 1_000).to_string().into()
    }

    /// A time of expiry that is over for good or far from being so, so that a few milliseconds
    /// between the two do not show. Spans are picked so widely that GT and LT meet no tie.
    fn time(&mut self, absolute: bool, millis: bool) -> Vec<u8> {
        const YEAR_2100: usize = 4_102_444_800;
        if self.one_in(5) {
            return self.integer_but_no_near_time();
        }
        let seconds = if absolute { YEAR_2100 } else { 1_000 } + self.below(1 << 30);
        let time = if millis { seconds * 1_000 + self.below(1_000) } else { seconds };
        time.to_string().into()
    }

    /// As `integer`, without small positive numbers: as spans they could end during the test.
    fn integer_but_no_near_time(&mut self) -> Vec<u8> {
        loop {
            let text = self.integer();
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok());
            if number.is_none_or(|number| number <= 0 || number > 10_000_000) {
                return text;
            }
        }
    }

    fn option(&mut self) -> Vec<u8> {
        let options = ["NX", "xx", "Get", "KEEPTTL", "PERSIST", "EX", "XX\0y", "nonsense", "DB"];
        self.pick(&options).into()
    }

    fn options(&mut self, command: &mut Vec<Vec<u8>>) {
        let own: &[&str] = if command[0] == b"SET" {
            &["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT"]
        } else {
            &["PERSIST", "EX", "px", "EXAT", "pxat"]
        };
        while self.one_in(2) {
            let option = self.pick(own);
            command.push(option.into());
            if matches!(option.as_bytes()[0], b'E' | b'P' | b'p') && option != "PERSIST" {
                let upper = option.to_uppercase();
                let time = self.time(upper.ends_with("AT"), upper.starts_with('P'));
                command.push(time);
            }
        }
        if self.one_in(8) {
            command.push(self.option());
        }
    }

    /// A number as C reads it, or what is nearly one.
    pub(crate) fn float(&mut self) -> Vec<u8> {
        const ODD: &[&str] = &[
            "inf",
            "-inf",
            "+Infinity",
            "nan",
            "",
            ".",
            "5.",
            ".5",
            "-.5e1",
            "0x1p3",
            "0x.8",
            "0x",
            "1e5",
            "1e-5",
            "1E+18",
            "1e4932",
            "1.18973149535723176502e+4932",
            "1e4933",
            "1e-4932",
            "1e-4950",
            "1e-4960",
            "1e",
            "1e+",
            " 1",
            "1 ",
            "1,5",
            "--1",
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
            "0.1e1000000000000",
            "0e99999",
            "1\0",
            "nan(1)",
            "1p3",
        ];
        if self.one_in(4) {
            return self.pick(ODD).into();
        }
        let sign = self.pick(&["", "", "-"]);
        let whole = self.bytes(b"0123456789", 1..20);
        let fraction = self.bytes(b"0123456789", 1..25);
        [sign.as_bytes(), &whole, b".", &fraction].concat()
    }
}

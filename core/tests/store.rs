//! Holds the embedded store to a real server: the same commands to both, the same replies and
//! the same key space after them.
//!
//! Needs `redis-server` 7.0 or later in the 7.0 series on the path; each test starts one of its
//! own. The sequences are random and repeatable: they follow from the seed in `SEED`.
#![expect(clippy::disallowed_methods, reason = "a real server has a real clock and a real socket")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use unfazed_core::Now;
use unfazed_core::fallback::store::{Answer, Bounds, Store};
use unfazed_core::resp::Value;

const SEED: u64 = 0x5EED;
const SEQUENCES: usize = 1_500;
const COMMANDS_PER_SEQUENCE: usize = 40;
const RUNS_PER_COMMAND_MIN: usize = 500;

/// How the replies of one command are held against each other, where not for equality.
enum Tolerance {
    /// Arrays may differ in order.
    Order,
    /// Numbers may differ by so much.
    Within(i64),
    /// Both give a key that exists, or none.
    AnyKey,
    /// Both give an array of two bulk strings.
    Shape,
    /// Ours is how many keys KEYS finds on the server.
    Living,
}

/// All differences that are tolerated, each with its reason.
const TOLERATED: &[(&str, Tolerance, &str)] = &[
    ("KEYS", Tolerance::Order, "a server promises no order"),
    ("DBSIZE", Tolerance::Living, "a server counts expired entries until it meets them"),
    ("RANDOMKEY", Tolerance::AnyKey, "it is random"),
    ("TIME", Tolerance::Shape, "the clock is read twice"),
    ("TTL", Tolerance::Within(1), "the clocks may be read on two sides of half a second"),
    ("PTTL", Tolerance::Within(2_000), "the clock is read twice, on a busy machine"),
    ("EXPIRETIME", Tolerance::Within(2), "relative times are added to two readings of the clock"),
    ("PEXPIRETIME", Tolerance::Within(2_000), "relative times are added to two readings"),
];

#[test]
fn replies_and_key_space_are_those_of_a_server() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for sequence in 0..SEQUENCES {
        pair.run(&args(&["FLUSHALL"]));
        for _ in 0..COMMANDS_PER_SEQUENCE {
            let command = random.command();
            let failed = matches!(pair.run(&command), Value::Error(_));
            let name = String::from_utf8_lossy(&command[0]).to_uppercase();
            let name = if Store::supports(&command[0]) { name } else { "(unknown)".to_owned() };
            let count = counts.entry(name).or_default();
            count.0 += 1;
            count.1 += usize::from(failed);
        }
        pair.compare_key_space(&format!("after sequence {sequence}"));
    }
    let (total, failed) = counts.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    println!("{total} commands, {failed} of them errors, as runs/errors:");
    for (name, (runs, errors)) in &counts {
        println!("{name:>12} {runs}/{errors}");
        assert!(*runs >= RUNS_PER_COMMAND_MIN, "{name} ran {runs} times only");
    }
    assert!(failed * 5 >= total, "at least a fifth must be errors: {failed} of {total}");
}

#[test]
fn entries_expire_as_on_a_server() {
    let mut pair = Pair::start();
    pair.run(&args(&["SET", "px", "v", "PX", "30"]));
    pair.run(&args(&["PSETEX", "psetex", "30", "v"]));
    pair.run(&args(&["SET", "stays", "v", "PX", "100000"]));
    pair.run(&args(&["MSET", "pexpire", "v", "other", "v"]));
    pair.run(&args(&["PEXPIRE", "pexpire", "30"]));
    pair.run(&args(&["SET", "past", "v", "PXAT", "1"]));
    pair.compare_key_space("before");
    std::thread::sleep(Duration::from_millis(60));
    for key in ["px", "psetex", "pexpire", "past", "stays"] {
        pair.run(&args(&["GET", key]));
        pair.run(&args(&["PTTL", key]));
    }
    pair.run(&args(&["INCR", "px"]));
    pair.run(&args(&["SET", "psetex", "w", "NX"]));
    pair.compare_key_space("after");
    pair.run(&args(&["DBSIZE"]));
}

#[test]
fn long_double_sums_are_those_of_a_server_to_the_last_digit() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    for _ in 0..5_000 {
        pair.run(&[b"SET".to_vec(), b"k".to_vec(), random.float()]);
        pair.run(&[b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
        pair.run(&[b"INCRBYFLOAT".to_vec(), b"k".to_vec(), random.float()]);
    }
}

#[test]
fn patterns_match_the_keys_that_a_server_matches() {
    let mut pair = Pair::start();
    let mut random = Random(SEED);
    pair.run(&args(&["SET", "", "v"]));
    for _ in 0..150 {
        let key = random.bytes(b"ab]-\\^\x80\xFF", 1..5);
        pair.run(&[b"SET".to_vec(), key, b"v".to_vec()]);
    }
    for _ in 0..5_000 {
        let pattern = random.bytes(b"ab*?[]^-\\\x80\xFF", 0..8);
        pair.run(&[b"KEYS".to_vec(), pattern]);
    }
}

#[test]
fn the_tables_of_commands_are_the_servers() {
    let mut pair = Pair::start();
    let Value::Array(names) = pair.server.ask(&args(&["COMMAND", "LIST"])) else {
        panic!("COMMAND LIST gives an array");
    };
    for name in names {
        let Value::Bulk(name) = name else { panic!("a name is a bulk string: {name:?}") };
        if name.contains(&b'|') {
            continue;
        }
        let mut store = Store::new(1, Bounds::NONE);
        let unknown = match store.execute(&[&name], now()) {
            Answer::Reply(Value::Error(text)) => text.starts_with(b"ERR unknown command"),
            _ => false,
        };
        assert!(!unknown, "{name:?} is a command of Redis");
        if Store::supports(&name) {
            pair.run(&[name.to_vec()]);
            pair.run(&vec![name.to_vec(); 20]);
        }
    }
}

/// A server and a store that see the same commands.
struct Pair {
    server: Server,
    store: Store,
    /// The last commands, to be shown when the two differ.
    log: Vec<String>,
}

impl Pair {
    fn start() -> Self {
        let bounds = Bounds { entries_max: 10_000, bytes_max: 100 << 20 };
        Pair { server: Server::start(), store: Store::new(SEED, bounds), log: Vec::new() }
    }

    /// Runs a command on both and holds the replies against each other. Returns the server's.
    fn run(&mut self, command: &[Vec<u8>]) -> Value {
        if command[0].eq_ignore_ascii_case(b"FLUSHALL") {
            self.log.clear();
        }
        let shown: Vec<_> = command.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        self.log.push(shown.join(" | "));
        let borrowed: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let now = now();
        let theirs = self.server.ask(command);
        let ours = match self.store.execute(&borrowed, now) {
            Answer::Reply(value) => value,
            other => panic!("{shown:?}: {other:?}"),
        };
        if !self.same(command, &ours, &theirs) {
            let log = &self.log[self.log.len().saturating_sub(COMMANDS_PER_SEQUENCE)..];
            panic!("{}\nours:   {ours:?}\ntheirs: {theirs:?}", log.join("\n"));
        }
        theirs
    }

    fn same(&mut self, command: &[Vec<u8>], ours: &Value, theirs: &Value) -> bool {
        if ours == theirs {
            return true;
        }
        let name = command[0].to_ascii_uppercase();
        let tolerated = TOLERATED.iter().find(|(tolerated, ..)| tolerated.as_bytes() == name);
        match (tolerated.map(|(_, tolerance, _)| tolerance), ours, theirs) {
            (Some(Tolerance::Order), Value::Array(a), Value::Array(b)) => sorted(a) == sorted(b),
            (Some(Tolerance::Within(most)), Value::Integer(a), Value::Integer(b)) => {
                // Negative numbers are no times but say that there is none.
                *a >= 0 && *b >= 0 && a.abs_diff(*b) <= most.unsigned_abs()
            }
            (Some(Tolerance::AnyKey), Value::Bulk(a), Value::Bulk(_)) => {
                self.server.ask(&[b"EXISTS".to_vec(), a.to_vec()]) == Value::Integer(1)
            }
            (Some(Tolerance::Living), Value::Integer(a), Value::Integer(_)) => {
                let living = self.server.ask(&args(&["KEYS", "*"]));
                matches!(living, Value::Array(keys) if i64::try_from(keys.len()) == Ok(*a))
            }
            (Some(Tolerance::Shape), Value::Array(a), Value::Array(b)) => {
                a.len() == 2 && b.len() == 2 && a.iter().all(|v| matches!(v, Value::Bulk(_)))
            }
            _ => false,
        }
    }

    /// All keys with their types, values and expiry.
    fn compare_key_space(&mut self, when: &str) {
        self.log.push(format!("({when})"));
        let Value::Array(keys) = self.run(&args(&["KEYS", "*"])) else {
            panic!("KEYS gives an array");
        };
        for key in keys {
            let Value::Bulk(key) = key else { panic!("a key is a bulk string: {key:?}") };
            for command in ["TYPE", "GET", "PEXPIRETIME", "PTTL"] {
                self.run(&[command.into(), key.to_vec()]);
            }
        }
        self.run(&args(&["DBSIZE"]));
    }
}

fn sorted(values: &[Value]) -> Vec<String> {
    let mut shown: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    shown.sort();
    shown
}

fn now() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

fn args(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// A server process with one connection to it; both end with this.
struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
    directory: std::path::PathBuf,
}

impl Server {
    fn start() -> Self {
        // Another process may take the port in between; then the next one is tried.
        for _ in 0..10 {
            if let Some(server) = Self::try_start() {
                return server;
            }
        }
        panic!("redis-server did not come up in ten attempts");
    }

    fn try_start() -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        drop(listener);
        let directory = std::env::temp_dir().join(format!("unfazed-store-{port}"));
        std::fs::create_dir_all(&directory).expect("a directory for the server");
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            // The store has one database; so has this server.
            .args(["--save", "", "--appendonly", "no", "--databases", "1", "--dir"])
            .arg(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server 7.0 on the path");
        for _ in 0..200 {
            if child.try_wait().expect("the state of a child").is_some() {
                break;
            }
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).expect("an option of a socket");
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .expect("an option of a socket");
                let mut server = Server { child, stream: BufReader::new(stream), directory };
                server.check_version();
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ended = child.kill().and_then(|()| child.wait());
        None
    }

    fn check_version(&mut self) {
        let Value::Bulk(info) = self.ask(&args(&["INFO", "server"])) else {
            panic!("INFO gives a bulk string");
        };
        let info = String::from_utf8_lossy(&info);
        assert!(info.contains("redis_version:7.0."), "these tests need redis-server 7.0: {info}");
    }

    fn ask(&mut self, command: &[Vec<u8>]) -> Value {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for arg in command {
            request.extend(format!("${}\r\n", arg.len()).into_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("the server reads");
        self.reply()
    }

    fn reply(&mut self) -> Value {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("the server answers");
        let line = line.strip_suffix(b"\r\n").expect("a reply ends with its line");
        let (kind, text) = line.split_first().expect("a reply has a type");
        let number = || -> i64 { std::str::from_utf8(text).unwrap().parse().unwrap() };
        match kind {
            b'+' => Value::Simple(Bytes::copy_from_slice(text)),
            b'-' => Value::Error(Bytes::copy_from_slice(text)),
            b':' => Value::Integer(number()),
            b'$' => usize::try_from(number()).map_or(Value::Null, |length| self.bulk(length)),
            b'*' => usize::try_from(number()).map_or(Value::Null, |length| {
                Value::Array((0..length).map(|_| self.reply()).collect())
            }),
            _ => panic!("no reply of RESP2: {}", line.escape_ascii()),
        }
    }

    fn bulk(&mut self, length: usize) -> Value {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).expect("the server answers in full");
        bytes.truncate(length);
        Value::Bulk(bytes.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

/// Random commands from a seed (xorshift64*).
struct Random(u64);

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

    fn bytes(&mut self, alphabet: &[u8], lengths: std::ops::Range<usize>) -> Vec<u8> {
        let length = lengths.start + self.below(lengths.len());
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    /// One command; about one in three goes wrong in some way.
    fn command(&mut self) -> Vec<Vec<u8>> {
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
    fn float(&mut self) -> Vec<u8> {
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

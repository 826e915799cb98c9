//! A client so simple that it can be trusted to say what a server really holds.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::net::loopback;

/// How long connecting may take, and how long each reply, unless the caller says otherwise. Long:
/// it ends tests that would hang, and measures nothing.
const LIMIT: Duration = Duration::from_secs(10);

/// One blocking connection that speaks RESP2, with a parser of its own. It never reconnects.
#[derive(Debug)]
pub struct Raw {
    stream: Box<dyn Stream>,
    /// What was received and not yet parsed, from `parsed` on.
    input: Vec<u8>,
    parsed: usize,
    limit: Duration,
    /// Whether it goes where MOVED leads.
    follows: bool,
}

/// A RESP2 reply.
#[derive(Clone, PartialEq, Eq)]
pub enum RawReply {
    /// `+…`
    Simple(String),
    /// `-…`, code and text
    Error(String),
    /// `:…`
    Int(i64),
    /// `$…`
    Bulk(Vec<u8>),
    /// `$-1` or `*-1`
    Null,
    /// `*…`
    Array(Vec<RawReply>),
}

impl Raw {
    /// Connects to a port on this machine.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port, LIMIT)
            .unwrap_or_else(|error| panic!("cannot connect to port {port}: {error}"))
    }

    /// Connects to a port on this machine; `limit` holds for that and for each reply later.
    ///
    /// # Errors
    ///
    /// What the system says, `TimedOut` after `limit`.
    pub fn try_connect(port: u16, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&loopback(port), limit)?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream), limit))
    }

    /// Connects to a Unix socket; `limit` holds for each reply.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_connect_unix(path: &Path, limit: Duration) -> io::Result<Self> {
        Ok(Self::over(Box::new(UnixStream::connect(path)?), limit))
    }

    /// Whether a server on this port answers PING with PONG within `limit` (connecting and
    /// answering each): what a prober asks every few milliseconds.
    pub fn answers(port: u16, limit: Duration) -> bool {
        Self::try_connect(port, limit)
            .and_then(|mut raw| raw.try_cmd(&["PING"]))
            .is_ok_and(|reply| reply == RawReply::Simple("PONG".into()))
    }

    /// Changes how long each reply may take from now on.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The same, but where a command is redirected (MOVED) it goes on with another connection, to that port
    /// of this machine.
    #[must_use]
    pub fn following(mut self) -> Self {
        self.follows = true;
        self
    }

    /// Sends a command and returns its reply, an error reply too.
    ///
    /// # Panics
    ///
    /// When the connection fails or the reply takes too long.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> RawReply {
        self.try_cmd(args).unwrap_or_else(|error| panic!("{}: {error}", shown(args)))
    }

    /// Sends a command and returns its reply, an error reply too.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `UnexpectedEof` where the server closed, `InvalidData` for what is not RESP2,
    /// or what the system says. The connection is of no more use then: a late reply would be
    /// taken for that of the next command.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<RawReply> {
        self.try_send(args)?;
        let reply = self.try_read()?;
        match moved_to(&reply).filter(|_| self.follows) {
            Some(port) => {
                *self = Self::try_connect(port, self.limit)?.following();
                self.try_cmd(args)
            }
            None => Ok(reply),
        }
    }

    /// Sends a command that must not fail and returns its integer.
    ///
    /// # Panics
    ///
    /// Like [`Raw::cmd`], and when the reply is anything else.
    #[track_caller]
    pub fn int<A: AsRef<[u8]>>(&mut self, args: &[A]) -> i64 {
        match self.cmd(args) {
            RawReply::Int(value) => value,
            other => panic!("{}: {other:?} is not an integer", shown(args)),
        }
    }

    /// Sends a command and requires `+OK`.
    ///
    /// # Panics
    ///
    /// Like [`Raw::cmd`], and when the reply is anything else.
    #[track_caller]
    pub fn ok<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let reply = self.cmd(args);
        assert_eq!(reply, RawReply::Simple("OK".into()), "{}", shown(args));
    }

    /// The text at `key`, `None` where there is none. Values that are not text: use [`Raw::cmd`].
    ///
    /// # Panics
    ///
    /// Like [`Raw::cmd`], and when the reply is neither text nor null.
    #[track_caller]
    pub fn get(&mut self, key: &str) -> Option<String> {
        match self.cmd(&["GET", key]) {
            RawReply::Null => None,
            RawReply::Bulk(value) => Some(String::from_utf8(value).expect("a text")),
            other => panic!("GET {key}: {other:?}"),
        }
    }

    /// Sends a command and does not wait for its reply: pipelines, subscriptions.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.try_send_bytes(&bytes)
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.limit_write(self.limit)?;
        self.stream.write_all(bytes).map_err(plain_timeout)
    }

    /// Reads the next reply.
    ///
    /// # Errors
    ///
    /// Like [`Raw::try_cmd`].
    pub fn try_read(&mut self) -> io::Result<RawReply> {
        let deadline = Instant::now() + self.limit;
        self.reply(deadline)
    }

    fn over(stream: Box<dyn Stream>, limit: Duration) -> Self {
        Self { stream, input: Vec::new(), parsed: 0, limit, follows: false }
    }

    fn reply(&mut self, deadline: Instant) -> io::Result<RawReply> {
        let line = self.line(deadline)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| malformed(&line));
        Ok(match kind {
            "+" => RawReply::Simple(rest.into()),
            "-" => RawReply::Error(rest.into()),
            ":" => RawReply::Int(number()?),
            "$" | "*" if number()? == -1 => RawReply::Null,
            "$" => {
                let length = usize::try_from(number()?).map_err(|_| malformed(&line))?;
                let mut value = self.take(length + 2, deadline)?;
                if !value.ends_with(b"\r\n") {
                    return Err(malformed("a bulk string that does not end where it should"));
                }
                value.truncate(length);
                RawReply::Bulk(value)
            }
            "*" => {
                let count = usize::try_from(number()?).map_err(|_| malformed(&line))?;
                let items = (0..count).map(|_| self.reply(deadline));
                RawReply::Array(items.collect::<io::Result<_>>()?)
            }
            _ => return Err(malformed(&line)),
        })
    }

    /// A line without its end.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        let mut searched = 0;
        loop {
            let pending = &self.input[self.parsed..];
            if let Some(found) = pending[searched..].iter().position(|&byte| byte == b'\n') {
                let mut line = self.take(searched + found + 1, deadline)?;
                if !line.ends_with(b"\r\n") {
                    return Err(malformed("a line that ends in LF alone"));
                }
                line.truncate(line.len() - 2);
                return String::from_utf8(line).map_err(|_| malformed("a line that is not UTF-8"));
            }
            searched = pending.len();
            self.fill(deadline)?;
        }
    }

    fn take(&mut self, count: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.input.len() - self.parsed < count {
            self.fill(deadline)?;
        }
        let taken = self.input[self.parsed..self.parsed + count].to_vec();
        self.parsed += count;
        if self.parsed == self.input.len() {
            self.input.clear();
            self.parsed = 0;
        }
        Ok(taken)
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.limit_read(left)?;
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(plain_timeout(error)),
        }
    }
}

/// Short enough for a failure message: long values are cut.
impl fmt::Debug for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Int(value) => write!(f, ":{value}"),
            Self::Null => f.write_str("null"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Bulk(value) if value.len() <= 100 => write!(f, "\"{}\"", value.escape_ascii()),
            Self::Bulk(value) => {
                write!(f, "\"{}…\" ({} bytes)", value[..100].escape_ascii(), value.len())
            }
        }
    }
}

/// What TCP and Unix streams both do; the standard library has no trait for it.
trait Stream: Read + Write + Send + fmt::Debug {
    fn limit_read(&self, limit: Duration) -> io::Result<()>;
    fn limit_write(&self, limit: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn limit_write(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }
}

impl Stream for UnixStream {
    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn limit_write(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }
}

/// The port in `MOVED slot host:port`.
fn moved_to(reply: &RawReply) -> Option<u16> {
    let RawReply::Error(text) = reply else { return None };
    let address = text.strip_prefix("MOVED ")?.split(' ').nth(1)?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// A socket's time limit shows as `WouldBlock` on some systems.
fn plain_timeout(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not RESP2: {what}"))
}

fn shown<A: AsRef<[u8]>>(args: &[A]) -> String {
    let words = args.iter().map(|arg| {
        let arg = arg.as_ref();
        arg[..arg.len().min(40)].escape_ascii().to_string()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialogue, Peer};

    /// What a connection reads when the server sends these bytes, `piece` at a time, and closes.
    fn read(bytes: &'static [u8], piece: usize) -> io::Result<RawReply> {
        let peer = Peer::start(move |client| {
            client.write_slowly(bytes, piece, Duration::ZERO);
        });
        Raw::connect(peer.port()).try_read()
    }

    #[test]
    fn reads_every_type_however_it_is_cut() {
        let bytes =
            b"*7\r\n+OK\r\n-ERR no\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*-1\r\n*1\r\n$0\r\n\r\n";
        let all = RawReply::Array(vec![
            RawReply::Simple("OK".into()),
            RawReply::Error("ERR no".into()),
            RawReply::Int(-7),
            RawReply::Bulk(b"a\r\nb".to_vec()),
            RawReply::Null,
            RawReply::Null,
            RawReply::Array(vec![RawReply::Bulk(vec![])]),
        ]);
        assert_eq!(read(bytes, 1).unwrap(), all);
        assert_eq!(read(bytes, bytes.len()).unwrap(), all);
    }

    #[test]
    fn what_is_not_resp2_is_an_error() {
        for bytes in
            [&b"HTTP/1.1 400\r\n"[..], b"$1\r\nabc", b":x\r\n", b"$-2\r\n", b"+a\n", b"\r\n"]
        {
            let error = read(bytes, bytes.len()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_early_end_is_an_error() {
        let error = read(b"$5\r\nab", 6).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_limit_is_for_the_whole_reply() {
        // A byte each 5 ms: no single read is late.
        let peer = Peer::start(|client| {
            client.write_slowly(&[b'+'; 1000], 1, Duration::from_millis(5));
        });
        let start = Instant::now();
        let mut raw = Raw::try_connect(peer.port(), Duration::from_millis(100)).unwrap();
        assert_eq!(raw.try_read().unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }

    #[test]
    fn a_dead_port_does_not_answer() {
        assert!(!Raw::answers(crate::free_port(), Duration::from_secs(1)));
        let mute = Peer::start(Dialogue::hold);
        assert!(!Raw::answers(mute.port(), Duration::from_millis(50)));
        let wrong = Peer::start(|client| {
            client.write(b"-LOADING soon\r\n");
            client.hold();
        });
        assert!(!Raw::answers(wrong.port(), Duration::from_secs(1)));
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let shown = format!("{:?}", RawReply::Bulk(vec![b'x'; 5000]));
        assert!(shown.len() < 150 && shown.contains("5000 bytes"), "{shown}");
    }
}

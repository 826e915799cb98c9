//! A server that says what a test tells it to say.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::net::{Close, listen, listen_anywhere, loopback, reset};

/// How soon a script that waits notices that its peer is being dropped.
const TICK: Duration = Duration::from_millis(10);
/// What an accepted connection receives into: little, so that a client that is not read from soon
/// cannot write any more.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// A command as its arguments, the name first and as the client wrote it.
pub type Command = Vec<Vec<u8>>;

/// A scripted server on a port of 127.0.0.1: each connection is given to the script, on a thread
/// of its own, and closed when the script returns.
///
/// Dropping it refuses new connections, ends those that are open as soon as their scripts next
/// wait for something, and panics if a script has panicked.
///
/// ```
/// use unfazed_tests::{Manners, Peer, Raw, RawReply};
///
/// let peer = Peer::start(|client| {
///     client.serve(Manners::Resp2Only, |command| (command[0] == b"GET").then(|| b":7\r\n".to_vec()));
/// });
/// let mut raw = Raw::connect(peer.port());
/// assert_eq!(raw.cmd(&["SELECT", "3"]), RawReply::Simple("OK".into()));
/// assert_eq!(raw.cmd(&["GET", "k"]), RawReply::Int(7));
/// ```
#[derive(Debug)]
pub struct Peer {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

/// One connection, as its script sees it.
///
/// Methods that wait return early, as if the client had gone, once the peer is being dropped.
#[derive(Debug)]
pub struct Dialogue {
    /// `None` after the script closed it.
    stream: Option<TcpStream>,
    input: Vec<u8>,
    number: usize,
    shared: Arc<Shared>,
}

/// How a [`Dialogue`] answers the commands that set a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// As a server of version 7: HELLO is answered with a map, or, where it asks for 2, an array.
    Resp3,
    /// As a server or proxy of old: HELLO and CLIENT SETINFO are unknown.
    Resp2Only,
}

#[derive(Debug)]
struct Shared {
    dropped: AtomicBool,
    accepted: AtomicUsize,
}

impl Peer {
    /// Listens on a free port.
    pub fn start(script: impl Fn(&mut Dialogue) + Send + Sync + 'static) -> Self {
        let (port, listener) = listen_anywhere(Some(RECEIVE_BUFFER));
        Self::run(port, listener, script)
    }

    /// Listens on this port: where something else was before, or will be told to be.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    #[track_caller]
    pub fn start_on(port: u16, script: impl Fn(&mut Dialogue) + Send + Sync + 'static) -> Self {
        let listener = listen(port, Some(RECEIVE_BUFFER))
            .unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"));
        Self::run(port, listener, script)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    fn run(
        port: u16,
        listener: std::net::TcpListener,
        script: impl Fn(&mut Dialogue) + Send + Sync + 'static,
    ) -> Self {
        let shared =
            Arc::new(Shared { dropped: AtomicBool::new(false), accepted: AtomicUsize::new(0) });
        let script = Arc::new(script);
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut scripts = Vec::new();
                for stream in listener.incoming() {
                    if shared.dropped.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                    let (script, shared) = (Arc::clone(&script), Arc::clone(&shared));
                    scripts.push(thread::spawn(move || {
                        script(&mut Dialogue::new(stream, number, shared));
                    }));
                }
                scripts
            }
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; it does not matter if a client's connection did so first.
        _ = TcpStream::connect(loopback(self.port));
        let acceptor = self.acceptor.take().expect("dropped once");
        let scripts = acceptor.join().expect("the acceptor does not panic");
        let failed = scripts.into_iter().filter_map(|script| script.join().err()).count();
        if !thread::panicking() {
            assert_eq!(failed, 0, "scripts that panicked");
        }
    }
}

impl Dialogue {
    /// Which connection of this peer this is, from 0 on: a script may treat the first differently.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads the next command, an array of bulk strings, and waits for it as long as it takes.
    /// `None` when the client has gone, in whatever way.
    ///
    /// # Panics
    ///
    /// When the client sends anything but commands.
    pub fn read_command(&mut self) -> Option<Command> {
        loop {
            if let Some((command, length)) = parse(&self.input) {
                self.input.drain(..length);
                return Some(command);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Writes all these bytes; whether that worked. Waits while the client does not read.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(stream) = self.stream() else { return false };
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_tick(&error) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Writes `piece` bytes at a time and sleeps for `delay` after each; whether all went out.
    ///
    /// # Panics
    ///
    /// When `piece` is 0.
    pub fn write_slowly(&mut self, bytes: &[u8], piece: usize, delay: Duration) -> bool {
        bytes.chunks(piece).all(|piece| self.write(piece) && self.sleep(delay))
    }

    /// Sleeps, without reading; whether the time passed in full.
    pub fn sleep(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream().is_none() {
                return left.is_zero();
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// Keeps the connection open and says nothing more, reading on, until the client goes.
    pub fn hold(&mut self) {
        while self.fill() {
            self.input.clear();
        }
    }

    /// Keeps the connection open and does not even read, until the peer is dropped.
    pub fn freeze(&mut self) {
        while self.sleep(Duration::from_secs(1)) {}
    }

    /// Closes the connection in order, now; what the script writes after that goes nowhere.
    pub fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            finish(stream);
        }
    }

    /// Closes the connection by force, now: the client sees a reset.
    pub fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            reset(stream);
        }
    }

    /// Closes the connection in this way.
    pub fn end(&mut self, how: Close) {
        match how {
            Close::Fin => self.close(),
            Close::Reset => self.reset(),
        }
    }

    /// Answers what sets a connection up, and returns the first command that does not. `None`
    /// when the client has gone.
    pub fn handshake(&mut self, manners: Manners) -> Option<Command> {
        loop {
            let command = self.read_command()?;
            let Some(reply) = greet(&command, manners) else { return Some(command) };
            self.write(&reply);
        }
    }

    /// Answers commands until the client goes: with what `answer` returns; where that is `None`,
    /// as the handshake wants it; and what is left with an error.
    pub fn serve(
        &mut self,
        manners: Manners,
        mut answer: impl FnMut(&[Vec<u8>]) -> Option<Vec<u8>>,
    ) {
        while let Some(command) = self.read_command() {
            let reply = answer(&command).or_else(|| greet(&command, manners));
            self.write(&reply.unwrap_or_else(|| unknown(&command)));
        }
    }

    fn new(stream: TcpStream, number: usize, shared: Arc<Shared>) -> Self {
        stream.set_nodelay(true).expect("a fresh socket");
        stream.set_read_timeout(Some(TICK)).expect("a fresh socket");
        stream.set_write_timeout(Some(TICK)).expect("a fresh socket");
        Self { stream: Some(stream), input: Vec::new(), number, shared }
    }

    /// The stream while it may be used.
    fn stream(&mut self) -> Option<&mut TcpStream> {
        let dropped = self.shared.dropped.load(Ordering::SeqCst);
        self.stream.as_mut().filter(|_| !dropped)
    }

    /// Reads something; `false` when nothing more will come.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        while let Some(stream) = self.stream() {
            match stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(&piece[..count]);
                    return true;
                }
                Err(error) if is_tick(&error) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes in order. To close a socket that holds unread bytes is a reset, and that would take along
/// what is still on its way to the client, so they are read first; later ones deserve it.
fn finish(mut stream: TcpStream) {
    _ = stream.shutdown(std::net::Shutdown::Write);
    _ = stream.set_nonblocking(true);
    while stream.read(&mut [0; 16 * 1024]).is_ok_and(|count| count > 0) {}
}

/// Whether a read or write only met its time limit.
fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The first command in `input` and its length, `None` if it is not there in full.
fn parse(input: &[u8]) -> Option<(Command, usize)> {
    let mut at = 0;
    let count = header(input, &mut at, b'*')?;
    let mut command = Vec::new();
    for _ in 0..count {
        let length = header(input, &mut at, b'$')?;
        command.push(input.get(at..at + length)?.to_vec());
        let end = input.get(at + length..at + length + 2)?;
        assert_eq!(end, b"\r\n", "the end of argument {:?}", command.last());
        at += length + 2;
    }
    Some((command, at))
}

/// The number of a line that begins with `kind`; `at` moves behind the line.
fn header(input: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = &input[*at..];
    if let Some(&first) = rest.first() {
        assert_eq!(first.escape_ascii().to_string(), kind.escape_ascii().to_string(), "a command");
    }
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += length + 2;
    let number = std::str::from_utf8(&rest[1..length]).ok().and_then(|text| text.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{} is not a length", rest[..length].escape_ascii())))
}

/// The reply to a command that sets a connection up, `None` for any other.
fn greet(command: &[Vec<u8>], manners: Manners) -> Option<Vec<u8>> {
    let word = |index: usize| command.get(index).map(|word| word.to_ascii_uppercase());
    let name = word(0)?;
    let second = word(1);
    let reply: &[u8] = match (&*name, second.as_deref(), manners) {
        (b"PING", None, _) => b"+PONG\r\n",
        (b"HELLO", version, Manners::Resp3) => return Some(hello(version)),
        (b"CLIENT", Some(b"SETINFO"), Manners::Resp2Only) | (b"HELLO", _, Manners::Resp2Only) => {
            return Some(unknown(command));
        }
        (b"CLIENT", Some(b"ID"), _) => b":1\r\n",
        (b"AUTH" | b"SELECT" | b"READONLY" | b"CLIENT", ..) => b"+OK\r\n",
        _ => return None,
    };
    Some(reply.to_vec())
}

fn hello(version: Option<&[u8]>) -> Vec<u8> {
    let resp3 = version == Some(b"3");
    let (head, proto) = if resp3 { ("%7", 3) } else { ("*14", 2) };
    format!(
        "{head}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n\
         $5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
         $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    )
    .into_bytes()
}

fn unknown(command: &[Vec<u8>]) -> Vec<u8> {
    let name = command.first().map_or(String::new(), |name| name.escape_ascii().to_string());
    format!("-ERR unknown command '{name}'\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Raw, RawReply};

    const SOON: Duration = Duration::from_millis(100);

    fn words(command: &[Vec<u8>]) -> Vec<&[u8]> {
        command.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn a_command_is_read_however_it_is_cut() {
        let peer = Peer::start(|client| {
            while let Some(command) = client.read_command() {
                let ok = words(&command) == [&b"SET"[..], b"a\r\nb", b""];
                client.write(if ok { b"+OK\r\n" } else { b"-ERR\r\n" });
            }
        });
        let bytes = b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n";
        let mut raw = Raw::connect(peer.port());
        for cut in 0..bytes.len() {
            raw.try_send_bytes(&bytes[..cut]).unwrap();
            if cut % 8 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            raw.try_send_bytes(&bytes[cut..]).unwrap();
            assert_eq!(raw.try_read().unwrap(), RawReply::Simple("OK".into()), "cut at {cut}");
        }
    }

    #[test]
    fn the_handshake_ends_at_the_first_other_command() {
        let peer = Peer::start(|client| {
            let command = client.handshake(Manners::Resp2Only).unwrap();
            client.write(if words(&command) == [b"GET", &b"k"[..]] { b"+first\r\n" } else { b"-" });
            client.hold();
        });
        let mut raw = Raw::connect(peer.port());
        for refused in [&["HELLO", "3"][..], &["CLIENT", "SETINFO", "LIB-NAME", "x"]] {
            let RawReply::Error(text) = raw.cmd(refused) else { panic!("{refused:?}") };
            assert!(text.starts_with("ERR unknown command"), "{text}");
        }
        for accepted in [&["AUTH", "p"][..], &["SELECT", "1"], &["CLIENT", "SETNAME", "n"]] {
            raw.ok(accepted);
        }
        assert_eq!(raw.cmd(&["ping"]), RawReply::Simple("PONG".into()));
        assert_eq!(raw.cmd(&["GET", "k"]), RawReply::Simple("first".into()));
    }

    #[test]
    fn a_modern_peer_answers_hello_in_the_protocol_asked_for() {
        let peer = Peer::start(|client| client.serve(Manners::Resp3, |_| None));
        let mut raw = Raw::connect(peer.port());
        raw.ok(&["CLIENT", "SETINFO", "LIB-NAME", "x"]);
        let RawReply::Array(items) = raw.cmd(&["HELLO", "2"]) else { panic!("not an array") };
        assert_eq!(items[4..6], [RawReply::Bulk(b"proto".to_vec()), RawReply::Int(2)]);
        assert_eq!(items.len(), 14);
        assert!(matches!(raw.cmd(&["NO", "SUCH"]), RawReply::Error(_)));
        // The map is not RESP2, and no more than its head can be checked here.
        assert!(hello(Some(b"3")).starts_with(b"%7\r\n$6\r\nserver\r\n"));
        let error = raw.try_cmd(&["HELLO", "3"]).unwrap_err();
        assert!(error.to_string().contains("%7"), "{error}");
    }

    #[test]
    fn a_script_closes_in_order_or_by_force() {
        let peer = Peer::start(|client| {
            client.read_command();
            client.write(b"+");
            client.end(if client.number() == 0 { Close::Fin } else { Close::Reset });
        });
        for expected in [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset] {
            let error = Raw::connect(peer.port()).try_cmd(&["PING"]).unwrap_err();
            assert_eq!(error.kind(), expected);
        }
        assert_eq!(peer.connections(), 2);
    }

    #[test]
    fn unread_commands_do_not_cost_the_client_its_reply() {
        const LENGTH: usize = 1 << 20;
        let peer = Peer::start(|client| {
            client.read_command();
            // By now the second one is here, unread.
            client.sleep(SOON);
            client.write(format!("${LENGTH}\r\n{}\r\n", " ".repeat(LENGTH)).as_bytes());
        });
        let mut raw = Raw::connect(peer.port());
        raw.try_send(&["PING"]).unwrap();
        thread::sleep(SOON / 2);
        raw.try_send(&["PING"]).unwrap();
        // The script has returned before the client begins to read.
        thread::sleep(SOON * 2);
        assert_eq!(raw.try_read().unwrap(), RawReply::Bulk(vec![b' '; LENGTH]));
        assert_eq!(raw.try_read().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn slow_means_slow() {
        let peer = Peer::start(|client| {
            client.write_slowly(b"+1234\r\n", 2, Duration::from_millis(30));
        });
        let start = Instant::now();
        let reply = Raw::connect(peer.port()).try_read().unwrap();
        assert_eq!(reply, RawReply::Simple("1234".into()));
        assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
    }

    #[test]
    fn a_frozen_peer_lets_its_client_write_only_so_much() {
        let peer = Peer::start(Dialogue::freeze);
        let mut raw = Raw::try_connect(peer.port(), SOON).unwrap();
        let error = raw.try_send_bytes(&vec![0; 32 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn dropping_ends_scripts_that_wait() {
        let start = Instant::now();
        for script in [
            Dialogue::hold,
            Dialogue::freeze,
            |client: &mut Dialogue| {
                while client.write(&[0; 4096]) {}
            },
        ] {
            let peer = Peer::start(script);
            let mut raw = Raw::connect(peer.port());
            crate::eventually("the connection", SOON * 50, || {
                (peer.connections() == 1).then_some(())
            });
            drop(peer);
            assert!(raw.try_read().is_err());
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    #[should_panic(expected = "scripts that panicked")]
    fn a_script_that_panics_fails_the_test() {
        let peer = Peer::start(|client| {
            client.read_command();
        });
        let mut raw = Raw::connect(peer.port());
        raw.try_send_bytes(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(raw.try_read().is_err());
    }

    #[test]
    fn a_peer_can_take_over_a_port() {
        let old = Peer::start(Dialogue::hold);
        let port = old.port();
        let _open = Raw::connect(port);
        drop(old);
        let _new = Peer::start_on(port, |client| client.serve(Manners::Resp3, |_| None));
        assert!(Raw::answers(port, Duration::from_secs(5)));
    }
}

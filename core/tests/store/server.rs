//! A real server for one test, and the least of a client that can talk to it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use unfazed_core::resp::{Decoder, Limits, Value};

use crate::random::{Args, args};

/// The environment variable that names another server to test against; the scenarios know it too.
const PROGRAM: &str = "UNFAZED_TEST_SERVER";
/// How many ports to try before it must be something else that is wrong.
const ATTEMPTS: usize = 10;
/// How long a server may be silent. Long, for machines that do much else.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A server process with one connection to it, in RESP3; both end with this.
pub(crate) struct Server {
    child: Child,
    /// A shell that reads from a pipe which only this process holds. When this process dies, in
    /// whatever way, the read ends, and the shell kills the server and removes its folder.
    watchdog: Child,
    stream: TcpStream,
    decoder: Decoder,
    unread: BytesMut,
    directory: PathBuf,
    version: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        // Another process may take the port in between; then the next one is tried.
        for _ in 0..ATTEMPTS {
            if let Some(server) = Self::try_start() {
                return server;
            }
        }
        panic!("{:?} did not come up in {ATTEMPTS} attempts", program());
    }

    fn try_start() -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        drop(listener);
        let directory =
            std::env::temp_dir().join(format!("unfazed-store-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for the server");
        let mut child = Command::new(program())
            // SORT compares by the locale.
            .env("LC_ALL", "C")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            // The store has one database; so has this server.
            .args(["--save", "", "--appendonly", "no", "--databases", "1", "--dir"])
            .arg(&directory)
            // Ten times as often as it would, a server looks for fields that have expired.
            .args(["--hz", "100"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", program()));
        let script = r#"trap "" HUP INT TERM; read -r _; kill -9 "$1"; rm -rf "$2""#;
        let mut watchdog = Command::new("sh")
            .args(["-c", script, "watchdog", &child.id().to_string()])
            .arg(&directory)
            // Ten times as often as it would, a server looks for fields that have expired.
            .args(["--hz", "100"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        for _ in 0..400 {
            if child.try_wait().expect("the state of a child").is_some() {
                break;
            }
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).expect("an option of a socket");
                stream.set_read_timeout(Some(SILENCE_MAX)).expect("an option of a socket");
                let mut server = Server {
                    child,
                    watchdog,
                    stream,
                    decoder: Decoder::new(Limits::default()),
                    unread: BytesMut::new(),
                    directory,
                    version: String::new(),
                };
                server.ask(&args(&["HELLO", "3"]));
                server.version = server.read_version();
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        end(&mut watchdog);
        end(&mut child);
        None
    }

    /// The version that the server names: that of the Redis it is, or is like.
    fn read_version(&mut self) -> String {
        let info = match self.ask(&args(&["INFO", "server"])) {
            Value::Bulk(text) | Value::Verbatim(_, text) => String::from_utf8_lossy(&text).into(),
            other => panic!("INFO gives a text: {other:?}"),
        };
        let info: String = info;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let version = version.unwrap_or_else(|| panic!("INFO names no version: {info}")).to_owned();
        assert!(
            version.starts_with("7.0.") || std::env::var_os(PROGRAM).is_some(),
            "the store answers as Redis 7.0 does, and this redis-server is {version}: put one of \
             version 7.0 on the path, or name another in {PROGRAM} to meet the differences",
        );
        version
    }

    /// Whether this is the version that the store imitates.
    pub(crate) fn is_7_0(&self) -> bool {
        self.version.starts_with("7.0.")
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The names of the server's commands, in lower case, without subcommands.
    pub(crate) fn commands(&mut self) -> Vec<String> {
        let Value::Array(names) = self.ask(&args(&["COMMAND", "LIST"])) else {
            panic!("COMMAND LIST gives an array");
        };
        let name = |name| match name {
            Value::Bulk(name) | Value::Simple(name) => String::from_utf8_lossy(&name).into_owned(),
            other => panic!("a name is a string: {other:?}"),
        };
        names.into_iter().map(name).filter(|name| !name.contains('|')).collect()
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn ask(&mut self, command: &Args) -> Value {
        self.exchange(std::slice::from_ref(command)).pop().expect("one command has one reply")
    }

    /// Sends all commands at once and waits for their replies.
    pub(crate) fn exchange(&mut self, commands: &[Args]) -> Vec<Value> {
        let mut request = Vec::new();
        for command in commands {
            request.extend(format!("*{}\r\n", command.len()).into_bytes());
            for arg in command {
                request.extend(format!("${}\r\n", arg.len()).into_bytes());
                request.extend_from_slice(arg);
                request.extend_from_slice(b"\r\n");
            }
        }
        // A server keeps the replies of a client that does not read yet, so this cannot jam.
        self.stream.write_all(&request).expect("the server reads");
        let mut replies = Vec::with_capacity(commands.len());
        let mut chunk = vec![0; 64 << 10];
        while replies.len() < commands.len() {
            while let Some(reply) = self.decoder.decode(&mut self.unread).expect("RESP") {
                replies.push(Value::from(reply.view()));
            }
            if replies.len() < commands.len() {
                let count = self.stream.read(&mut chunk).expect("the server answers");
                assert!(count > 0, "the server closed the connection");
                self.unread.extend_from_slice(&chunk[..count]);
            }
        }
        assert!(replies.len() == commands.len() && self.unread.is_empty(), "a reply too many");
        replies
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watchdog first: it must not act on a process id that is somebody else's by then.
        end(&mut self.watchdog);
        end(&mut self.child);
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

fn end(child: &mut Child) {
    let _ended = child.kill().and_then(|()| child.wait());
}

fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| "redis-server".into())
}

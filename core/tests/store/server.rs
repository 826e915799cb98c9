//! A real server for one test, and the least of a client that can talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use unfazed_core::resp::Value;

use crate::args;

/// A server process with one connection to it; both end with this.
pub(crate) struct Server {
    child: Child,
    stream: BufReader<TcpStream>,
    directory: PathBuf,
}

impl Server {
    pub(crate) fn start() -> Self {
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

    /// Sends one command and waits for its reply.
    pub(crate) fn ask(&mut self, command: &[Vec<u8>]) -> Value {
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

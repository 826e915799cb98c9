//! Messages as fast as the server can send them, with next to nothing done by whoever asks for them.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread::{self, JoinHandle},
};

use crate::data::{VALUE_BYTES, command, value};

/// What is published on.
pub(crate) const CHANNEL: &str = "messages";

/// The server publishes so many messages for each request: it parses little beside sending them.
const CODE: &str = "for n = 1, ARGV[1] do redis.call('PUBLISH', KEYS[1], ARGV[2]) end";
const BATCH: usize = 1_000;

/// Has the server publish messages. When it is dropped, all were published.
pub(crate) struct Flood(Option<JoinHandle<io::Result<()>>>);

impl Flood {
    pub(crate) fn start(port: u16, count: usize) -> Self {
        Flood(Some(thread::spawn(move || flood(port, count))))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let thread = self.0.take().expect("it is joined once");
        thread.join().expect("no panic").expect("the server answers");
    }
}

fn flood(port: u16, count: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        // Two at a time: the server has the next one when it is done with the first.
        while sent < count && sent < answered + 2 * BATCH {
            let batch = BATCH.min(count - sent).to_string();
            let words = ["EVAL", CODE, "1", CHANNEL, &batch].map(str::as_bytes);
            stream.write_all(&command(&[&words[..], &[&value(VALUE_BYTES)]].concat()))?;
            sent += BATCH.min(count - sent);
        }
        let mut reply = [0; b"$-1\r\n".len()];
        stream.read_exact(&mut reply)?;
        answered += BATCH.min(count - answered);
    }
    Ok(())
}

/// Subscribes on a bare connection and counts the bytes of so many messages.
///
/// # Errors
///
/// What the system says.
pub(crate) fn listen(port: u16, count: usize, buffer: &mut [u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.write_all(&command(&[b"SUBSCRIBE", CHANNEL.as_bytes()]))?;
    let bulk = |len: usize| format!("${len}\r\n").len() + len + 2;
    let head = b"*3\r\n".len() + bulk(CHANNEL.len());
    let confirmation = head + bulk(b"subscribe".len()) + b":1\r\n".len();
    stream.read_exact(&mut buffer[..confirmation])?;
    let _flood = Flood::start(port, count);
    let mut left = count * (head + bulk(b"message".len()) + bulk(VALUE_BYTES));
    while left > 0 {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}

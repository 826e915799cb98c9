//! A network between a client and a server that fails on demand.
//!
//! [`Proxy`] is what a test holds; `relay` is the thread behind it that owns every socket; `link`
//! is one connection through it.

mod link;
mod relay;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::net::{Close, listen_anywhere};
use relay::{Order, Relay};

/// How many bytes are recorded each way, over all connections together.
const RECORD_MAX: usize = 16 << 20;

/// A TCP proxy on a port of 127.0.0.1, with one fault at a time, which can change while
/// connections are open. Dropping it closes them all.
///
/// What a client sees of the server's end is passed on: an end of stream as such, a reset as a
/// reset, a server that cannot be reached as with [`Fault::ResetNew`].
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: Sender<(Order, Sender<()>)>,
    /// A byte written here makes the relay look at its orders.
    wake: UnixStream,
    record: Arc<Mutex<Record>>,
    relay: Option<JoinHandle<()>>,
}

/// What goes wrong. It holds for connections that are open and for those to come, until the next
/// [`Proxy::set`]; what it has done to a connection stays done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Everything arrives in order and this much later, each way. Up to 1 MiB is on its way.
    Delay(Duration),
    /// At most `piece` bytes pass, then nothing for the time of `every`.
    Trickle {
        /// Whose bytes are slow.
        way: Way,
        /// How many bytes pass at a time; not 0.
        piece: usize,
        /// How long it takes until the next may pass.
        every: Duration,
    },
    /// Nothing is read and nothing is forwarded, so the sender's buffers fill and it blocks.
    /// Nothing is lost either: with the next fault the bytes flow on.
    Stall(Way),
    /// Everything is read and thrown away, an end of stream too. A connection that has lost bytes
    /// like this goes on losing them for good, as no network loses the middle of a stream; only
    /// connections which were idle meanwhile recover with the next fault.
    Swallow(Way),
    /// A connection ends when so many bytes have passed since the fault was set (or since the
    /// connection was opened, if that was later). With 0 it ends when the first byte comes, which
    /// is not forwarded. The client sees the end as told; the server sees an end of stream.
    Cut {
        /// Whose bytes are counted; with both, each way on its own.
        way: Way,
        /// How many bytes still pass.
        after: u64,
        /// What the client sees then.
        how: Close,
    },
    /// New connections are refused: nobody listens. Open connections go on.
    Refuse,
    /// New connections are accepted and reset at once, so that the client sees a reset while it
    /// connects or right after. Open connections go on.
    ResetNew,
}

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
    /// Both.
    Both,
}

impl Proxy {
    /// Starts a proxy to a port on this machine. Whether somebody listens there matters only when
    /// a client connects.
    pub fn start(target_port: u16) -> Self {
        Self::launch(target_port, None)
    }

    /// Like [`Proxy::start`], with socket buffers of so many bytes on the proxy's side of both
    /// connections: a stall is felt soon, and nothing large passes in one piece. The system may
    /// take more, and below 4 KiB it does.
    pub fn with_buffers(target_port: u16, size: usize) -> Self {
        Self::launch(target_port, Some(size))
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sets the fault. When this returns it is in force.
    ///
    /// # Panics
    ///
    /// When the port was given up with [`Fault::Refuse`] and somebody else has it now.
    #[track_caller]
    pub fn set(&self, fault: Fault) {
        self.order(Order::Set(fault));
    }

    /// Sends connections to come to another port.
    pub fn set_target(&self, target_port: u16) {
        self.order(Order::Target(target_port));
    }

    /// Ends all open connections with a reset, now. The server sees an end of stream.
    pub fn reset_all(&self) {
        self.close_all(Close::Reset);
    }

    /// Ends all open connections in this way, now. The server sees an end of stream.
    pub fn close_all(&self, how: Close) {
        self.order(Order::CloseAll(how));
    }

    /// How many connections were accepted so far; not those that were refused or reset at once.
    pub fn connections(&self) -> usize {
        self.record().requests.len()
    }

    /// How many connections are open on the client's side.
    pub fn open_connections(&self) -> usize {
        self.record().open
    }

    /// How often clients have written this text. Texts that overlap count once; a text in two
    /// connections, or in keys and values, counts as any other.
    ///
    /// # Panics
    ///
    /// When more than 16 MiB have passed, so that the record is not complete.
    #[track_caller]
    pub fn requests_seen(&self, text: &[u8]) -> usize {
        self.requests().iter().map(|bytes| count(bytes, text)).sum()
    }

    /// What each client has written, connection by connection in the order they were accepted.
    ///
    /// # Panics
    ///
    /// When more than 16 MiB have passed, so that the record is not complete.
    #[track_caller]
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let record = self.record();
        assert!(record.requests_left.is_some(), "too many requests to record");
        record.requests.clone()
    }

    /// What the server has written, connection by connection, whether forwarded or not.
    ///
    /// # Panics
    ///
    /// When more than 16 MiB have passed, so that the record is not complete.
    #[track_caller]
    pub fn replies(&self) -> Vec<Vec<u8>> {
        let record = self.record();
        assert!(record.replies_left.is_some(), "too many replies to record");
        record.replies.clone()
    }

    fn launch(target: u16, buffers: Option<usize>) -> Self {
        let (port, listener) = listen_anywhere(buffers);
        let (wake, woken) = UnixStream::pair().expect("a socket pair");
        let (orders, inbox) = channel();
        let record = Arc::new(Mutex::new(Record::default()));
        let relay = Relay::new(listener, target, buffers, (inbox, woken), Arc::clone(&record));
        let thread = thread::Builder::new().name(format!("proxy {port}"));
        let relay = thread.spawn(move || relay.run()).expect("a thread");
        Self { port, orders, wake, record, relay: Some(relay) }
    }

    #[track_caller]
    fn order(&self, order: Order) {
        let (done, is_done) = channel();
        self.orders.send((order, done)).expect("the proxy has failed");
        (&self.wake).write_all(&[0]).expect("the proxy has failed");
        is_done.recv().expect("the proxy has failed");
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("the proxy has failed")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        _ = self.wake.shutdown(std::net::Shutdown::Both);
        let ended = self.relay.take().expect("dropped once").join();
        if !thread::panicking() {
            ended.expect("the proxy has failed");
        }
    }
}

impl Way {
    fn covers(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// What has passed, connection by connection.
#[derive(Debug)]
struct Record {
    requests: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
    /// How many bytes there is room for; `None` once some did not fit.
    requests_left: Option<usize>,
    replies_left: Option<usize>,
    open: usize,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            replies: Vec::new(),
            requests_left: Some(RECORD_MAX),
            replies_left: Some(RECORD_MAX),
            open: 0,
        }
    }
}

impl Record {
    fn add(&mut self, way: Way, number: usize, bytes: &[u8]) {
        let (records, left) = match way {
            Way::Requests => (&mut self.requests, &mut self.requests_left),
            _ => (&mut self.replies, &mut self.replies_left),
        };
        *left = left.and_then(|left| left.checked_sub(bytes.len()));
        if left.is_some() {
            records[number].extend_from_slice(bytes);
        }
    }
}

fn count(mut bytes: &[u8], text: &[u8]) -> usize {
    let mut found = 0;
    while let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
        found += 1;
        bytes = &bytes[at + text.len()..];
    }
    found
}

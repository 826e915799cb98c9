//! One connection through the proxy.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::{Fault, Record, Way};
use crate::net::{Close, reset};

/// How much is read at once, and taken from a sender whose receiver does not keep up.
const PIECE: usize = 64 * 1024;
/// How much may be under way when it is delayed.
const DELAYED_MAX: usize = 1 << 20;

/// A client's connection and the one to the server that was made for it.
pub(super) struct Link {
    number: usize,
    /// `None` once it was closed; the server's side may still have to be read to its end.
    client: Option<TcpStream>,
    server: TcpStream,
    requests: Flow,
    replies: Flow,
}

/// One direction of a link.
struct Flow {
    way: Way,
    /// Read and not yet written, each piece with the time when it may go.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// How many bytes of the first piece were written.
    written: usize,
    /// How many bytes have passed since the fault was set.
    passed: u64,
    /// With [`Fault::Trickle`]: when something may pass again.
    next: Instant,
    /// The source will send nothing more.
    ended: bool,
    /// The end has been passed on, or must not be.
    closed: bool,
    /// Bytes were thrown away, so all that come after them must be too.
    lossy: bool,
}

/// What became of moving bytes along.
#[derive(PartialEq, Eq)]
enum Moved {
    Fine,
    /// The source was reset.
    Broken,
    /// As many bytes have passed as may.
    CutHere,
}

impl Link {
    pub(super) fn new(number: usize, client: TcpStream, server: TcpStream) -> Self {
        for stream in [&client, &server] {
            stream.set_nonblocking(true).expect("a fresh socket");
            stream.set_nodelay(true).expect("a fresh socket");
        }
        let (requests, replies) = (Flow::new(Way::Requests), Flow::new(Way::Replies));
        Self { number, client: Some(client), server, requests, replies }
    }

    /// Adds what this link waits for. A socket of which nothing is wanted is left out, since its
    /// errors would be reported again and again.
    pub(super) fn interests<'a>(&'a self, fault: Fault, now: Instant, fds: &mut Vec<PollFd<'a>>) {
        let mut add = |stream: &'a TcpStream, incoming: &Flow, outgoing: &Flow| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, incoming.wants_input(fault));
            flags.set(PollFlags::OUT, outgoing.wants_output(fault, now));
            if !flags.is_empty() {
                fds.push(PollFd::new(stream, flags));
            }
        };
        if let Some(client) = &self.client {
            add(client, &self.requests, &self.replies);
        }
        add(&self.server, &self.replies, &self.requests);
    }

    /// When something is to be done that no socket will tell of.
    pub(super) fn due(&self, fault: Fault, now: Instant) -> Option<Instant> {
        [&self.requests, &self.replies].into_iter().filter_map(|flow| flow.due(fault, now)).min()
    }

    /// Reads and writes what can be.
    pub(super) fn forward(&mut self, fault: Fault, record: &mut Record) {
        if let Some(client) = &self.client {
            let mut note = |bytes: &[u8]| record.add(Way::Requests, self.number, bytes);
            match self.requests.pump(client, Some(&self.server), fault, &mut note) {
                Moved::Fine => {}
                Moved::Broken => self.end(Close::Reset),
                Moved::CutHere => self.end(cut_of(fault)),
            }
        }
        let mut note = |bytes: &[u8]| record.add(Way::Replies, self.number, bytes);
        match self.replies.pump(&self.server, self.client.as_ref(), fault, &mut note) {
            Moved::Fine => {}
            // In a network that loses everything, a reset is lost too.
            Moved::Broken if self.replies.lossy => {}
            Moved::Broken => self.end(Close::Reset),
            Moved::CutHere => self.end(cut_of(fault)),
        }
        // A client that has gone needs no server, whatever became of its last bytes.
        if self.requests.ended && self.requests.lossy && !self.requests.closed {
            self.requests.closed = true;
            _ = self.server.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection: the client's side as told, the server's side in order. Both are read
    /// on until they end too, because closing a socket with unread bytes is a reset.
    pub(super) fn end(&mut self, how: Close) {
        for flow in [&mut self.requests, &mut self.replies] {
            flow.pieces.clear();
            flow.written = 0;
            flow.lossy = true;
            flow.closed = true;
        }
        _ = self.server.shutdown(Shutdown::Write);
        match how {
            Close::Fin => {
                _ = self.client.as_ref().map(|client| client.shutdown(Shutdown::Write));
            }
            Close::Reset => {
                self.requests.ended = true;
                _ = self.client.take().map(reset);
            }
        }
    }

    pub(super) fn restart_count(&mut self) {
        self.requests.passed = 0;
        self.replies.passed = 0;
    }

    /// Whether neither the client nor the proxy has ended the client's connection.
    pub(super) fn is_open(&self) -> bool {
        self.client.is_some() && !self.requests.ended && !self.replies.closed
    }

    pub(super) fn is_over(&self) -> bool {
        [&self.requests, &self.replies].iter().all(|flow| flow.ended && flow.pieces.is_empty())
    }
}

impl Flow {
    fn new(way: Way) -> Self {
        Self {
            way,
            pieces: VecDeque::new(),
            written: 0,
            passed: 0,
            next: Instant::now(),
            ended: false,
            closed: false,
            lossy: false,
        }
    }

    /// Reads from `source` and writes to `sink`, as far as both and the fault let it.
    fn pump(
        &mut self,
        source: &TcpStream,
        sink: Option<&TcpStream>,
        fault: Fault,
        note: &mut impl FnMut(&[u8]),
    ) -> Moved {
        let mut room = vec![0; PIECE];
        let mut moved = Moved::Fine;
        if self.wants_input(fault) {
            match (&*source).read(&mut room) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    note(&room[..count]);
                    self.push(&room[..count], fault);
                }
                Err(error) if not_now(&error) => {}
                Err(_) => {
                    self.ended = true;
                    moved = Moved::Broken;
                }
            }
        }
        let Some(sink) = sink else { return moved };
        while self.wants_output(fault, Instant::now()) {
            let limit = self.limit(fault);
            if limit == 0 {
                return Moved::CutHere;
            }
            let (_, piece) = self.pieces.front().expect("wants_output looked");
            let rest = &piece[self.written..];
            match (&*sink).write(&rest[..rest.len().min(limit)]) {
                Ok(count) => self.advance(count, fault),
                Err(error) if not_now(&error) => break,
                // The sink is gone. Its own direction will tell how; these bytes are lost.
                Err(_) => self.lose(),
            }
            if self.limit(fault) == 0 {
                return Moved::CutHere;
            }
        }
        if self.ended && self.pieces.is_empty() && !self.closed && !self.lossy {
            let swallowed = matches!(fault, Fault::Swallow(way) if way.covers(self.way));
            if swallowed {
                self.lose();
            } else if moved == Moved::Fine {
                self.closed = true;
                _ = sink.shutdown(Shutdown::Write);
            }
        }
        moved
    }

    fn push(&mut self, bytes: &[u8], fault: Fault) {
        let delay = match fault {
            Fault::Swallow(way) if way.covers(self.way) => return self.lose(),
            Fault::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        if !self.lossy {
            self.pieces.push_back((Instant::now() + delay, bytes.to_vec()));
        }
    }

    fn lose(&mut self) {
        self.lossy = true;
        self.pieces.clear();
        self.written = 0;
    }

    fn advance(&mut self, count: usize, fault: Fault) {
        self.passed += count as u64;
        self.written += count;
        if self.pieces.front().is_some_and(|(_, piece)| piece.len() == self.written) {
            self.pieces.pop_front();
            self.written = 0;
        }
        if let Fault::Trickle { way, every, .. } = fault
            && way.covers(self.way)
        {
            self.next = Instant::now() + every;
        }
    }

    /// How many bytes may be written at once.
    fn limit(&self, fault: Fault) -> usize {
        match fault {
            Fault::Trickle { way, piece, .. } if way.covers(self.way) => piece.max(1),
            Fault::Cut { way, after, .. } if way.covers(self.way) => {
                usize::try_from(after.saturating_sub(self.passed)).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    fn wants_input(&self, fault: Fault) -> bool {
        let waiting: usize = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        let max = if matches!(fault, Fault::Delay(_)) { DELAYED_MAX } else { PIECE };
        !self.ended && !self.is_stalled(fault) && waiting < max
    }

    fn wants_output(&self, fault: Fault, now: Instant) -> bool {
        self.time_of_next(fault).is_some_and(|time| time <= now)
    }

    fn due(&self, fault: Fault, now: Instant) -> Option<Instant> {
        self.time_of_next(fault).filter(|&time| time > now)
    }

    /// When the next byte may be written; `None` while there is none, or it may not.
    fn time_of_next(&self, fault: Fault) -> Option<Instant> {
        let &(time, _) = self.pieces.front()?;
        match fault {
            _ if self.is_stalled(fault) => None,
            Fault::Trickle { way, .. } if way.covers(self.way) => Some(time.max(self.next)),
            _ => Some(time),
        }
    }

    fn is_stalled(&self, fault: Fault) -> bool {
        // What is thrown away anyway may as well be read.
        matches!(fault, Fault::Stall(way) if way.covers(self.way)) && !self.closed
    }
}

fn cut_of(fault: Fault) -> Close {
    match fault {
        Fault::Cut { how, .. } => how,
        other => unreachable!("{other:?} counts no bytes"),
    }
}

fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

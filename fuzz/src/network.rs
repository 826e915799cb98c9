//! One modelled connection: bytes on their way in both directions, and where they end.

use std::collections::VecDeque;

use bytes::BytesMut;
use unfazed_core::{
    Cause, Chunk,
    engine::ConnId,
    resp::{Decoder, Limits},
};

use crate::entropy::Entropy;

/// How many bytes the kernel accepts at least once all is well. A narrower connection carries what is pending as
/// slowly as a byte in a fifth of a millisecond: a stream that is read entry by entry takes longer to its end than
/// anybody waits for it, although all goes on.
pub const CAPACITY_WELL: usize = 32;

/// What is wrong with the network as a whole, until it is healed. What is sent meanwhile is not lost: it
/// arrives later, as TCP has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing gets to the server.
    pub cut_up: bool,
    /// Nothing gets to the client.
    pub cut_down: bool,
    /// Everything takes up to so many microseconds.
    pub clogged_micros: u64,
    /// It is so on the way to this node only.
    pub only: Option<usize>,
}

/// How far a connection is, as its driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Being dialled.
    Dialling,
    /// Connected.
    Open,
    /// Ends as soon as its driver comes round to it.
    Ending(Cause),
    /// The engine was told that it has ended; the server may still read what is on its way.
    Gone,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// The engine's name for it.
    pub conn: ConnId,
    /// The number of the server it leads to.
    pub at: usize,
    /// The port that was dialled.
    pub port: u16,
    /// How far it is.
    pub stage: Stage,
    /// Accepted by the client's kernel and not yet read by the server.
    pub up: VecDeque<u8>,
    /// Sent by the server and not yet read by the client.
    pub down: VecDeque<u8>,
    /// Read by the client and not yet taken by the engine.
    pub inbox: BytesMut,
    /// With the writer, and how many of its bytes the kernel has accepted.
    pub chunk: Option<(Chunk, usize)>,
    /// How many bytes the kernel accepts before the server reads some.
    pub capacity: usize,
    /// The kernel accepts no more for now.
    pub blocked: bool,
    /// Accepted, and not yet a whole command.
    pub partial: Vec<u8>,
    /// An event is under way that reads at the server, reads at the client, or writes.
    pub up_due: bool,
    /// See `up_due`.
    pub down_due: bool,
    /// See `up_due`.
    pub write_due: bool,
    /// After so many more bytes to the server nothing arrives there any more.
    pub up_cut: Option<usize>,
    /// After so many more bytes to the client the connection ends.
    pub down_cut: Option<usize>,
    /// Nothing arrives on either side any more, and nobody is told.
    pub silent: bool,
    /// The kernel accepts nothing until this is over.
    pub stalled: bool,
    /// Whether the server still has its side.
    pub served: bool,
    /// Where frames end, as offsets in all that the server sent; those not yet passed.
    pub frames: VecDeque<(usize, bool)>,
    /// How many bytes the server sent, and the client read.
    pub sent: usize,
    /// See `sent`.
    pub read: usize,
    /// How many bytes the engine has taken.
    pub taken: usize,
    /// From this offset on, the server sends what no client must accept.
    pub poisoned: Option<usize>,
    /// All that the client read, for reading it again in other pieces.
    pub seen: Vec<u8>,
}

impl Link {
    /// A connection that is being dialled.
    #[must_use]
    pub fn new(conn: ConnId, entropy: &mut Entropy) -> Self {
        // The quietest is the roomiest: byte by byte a story takes a thousand times as many steps.
        let capacity = match entropy.below(4) {
            3 => 200 - entropy.below(200),
            _ => 60_000 - entropy.below(59_000),
        };
        Link {
            conn,
            at: 0,
            port: 0,
            stage: Stage::Dialling,
            up: VecDeque::new(),
            down: VecDeque::new(),
            inbox: BytesMut::new(),
            chunk: None,
            capacity: capacity as usize,
            blocked: false,
            partial: Vec::new(),
            up_due: false,
            down_due: false,
            write_due: false,
            up_cut: None,
            down_cut: None,
            silent: false,
            stalled: false,
            served: false,
            frames: VecDeque::new(),
            sent: 0,
            read: 0,
            taken: 0,
            poisoned: None,
            seen: Vec::new(),
        }
    }

    /// The server sends a frame.
    pub fn send(&mut self, frame: &[u8], is_push: bool) {
        self.down.extend(frame);
        self.sent += frame.len();
        self.frames.push_back((self.sent, is_push));
    }

    /// How many bytes the kernel would accept now.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.stalled { 0 } else { self.capacity.saturating_sub(self.up.len()) }
    }

    /// The kernel accepts bytes.
    pub fn accept(&mut self, bytes: &[u8]) {
        if self.silent {
            return;
        }
        match &mut self.up_cut {
            Some(left) => {
                let passing = bytes.len().min(*left);
                *left -= passing;
                self.up.extend(&bytes[..passing]);
            }
            None => self.up.extend(bytes),
        }
    }

    /// Where the last whole frame ends among what the client has read, and how many pushes there are
    /// up to there that were not counted before.
    pub fn whole(&mut self) -> (usize, usize) {
        let mut end = self.taken;
        let mut pushes = 0;
        while let Some(&(frame, is_push)) = self.frames.front().filter(|(end, _)| *end <= self.read)
        {
            end = frame;
            pushes += usize::from(is_push);
            self.frames.pop_front();
        }
        (end, pushes)
    }

    /// Reads what the client read once more, in one piece and in pieces of `size`. Gives what differs.
    #[must_use]
    pub fn differs_in_pieces(&self, size: usize, tampered: bool) -> Option<String> {
        let whole = decode(&self.seen, self.seen.len().max(1));
        let mut other = self.seen.clone();
        if let Some(byte) = other.last_mut().filter(|_| tampered) {
            *byte = b'?';
        }
        let pieces = decode(&other, size);
        (whole != pieces).then(|| format!("{whole:?} in one piece, {pieces:?} in pieces of {size}"))
    }
}

fn decode(bytes: &[u8], size: usize) -> Vec<String> {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::new();
    let mut out = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(reply)) => out.push(format!("{:?}", reply.view().to_value())),
                Ok(None) => break,
                Err(fault) => {
                    // What is shown of the bytes behind the fault depends on how many have come.
                    out.push(format!("{:?} at {}", fault.fault(), fault.offset()));
                    return out;
                }
            }
        }
    }
    out.push(format!("{} left", buffer.len()));
    out
}

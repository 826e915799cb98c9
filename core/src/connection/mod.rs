//! One socket to one peer: the handshake, and the queue of what the peer owes.
//!
//! ```text
//!   Opening ──opened──▶ Handshaking ──last reply──▶ Ready
//!      │                     │                        │
//!      └──────────┬──────────┴────────────┬───────────┘
//!                 ▼                       ▼
//!              Closing ──── closed ────▶ gone
//! ```
//!
//! A connection decides nothing but whether its peer keeps to the protocol; what a lost connection
//! means for the requests on it is the engine's to say. [`log`] holds the bytes on their way out,
//! [`handshake`] what is said first, [`topics`] what is subscribed to.

mod handshake;
mod log;
mod topics;

use std::{collections::VecDeque, time::Duration, time::Instant};

use bytes::Bytes;

pub use log::Chunk;

pub(crate) use handshake::{Handshake, Progress, Rejection, refused_unasked};
pub(crate) use log::Log;
pub(crate) use topics::{Change, LateRefusal};

use crate::{
    commands::Spec,
    config::{Config, MaybeRetry},
    engine::{FeedId, NodeId, SeatId, Ticket},
    failure::Cause,
    fallback::Standing,
    reply::ServerError,
    request::Effect,
    resp::{Decoder, Limits, Protocol, encode},
};

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) state: State,
    /// What it was made for.
    pub(crate) role: Role,
    /// Where it leads to.
    pub(crate) node: NodeId,
    /// What is spoken on it; known once it is ready.
    pub(crate) protocol: Protocol,
    /// The subscriptions that it carries.
    pub(crate) feed: Option<FeedId>,
    /// How many unsubscriptions were confirmed last of all. One that the server took for unasked may be
    /// refused after that: see [`late_refusal`](Connection::late_refusal).
    late: usize,
    /// Whoever reads what comes in can't take any more for now.
    pub(crate) paused: bool,
    pub(crate) log: Log,
    /// What the peer owes, in the order in which it will answer.
    owed: VecDeque<Owed>,
    /// The stream offset before which everything is answered.
    answered: u64,
    decoder: Decoder,
    limits: Limits,
    /// When the last byte came in.
    heard: Instant,
    /// Since when the peer could have answered what it owes.
    owes_since: Instant,
    slow_owed: usize,
    /// How long the peer may wait by itself before it answers, because it was told to.
    waits: Duration,
    /// Nothing of the client's own is to be asked on it: the answer would be part of a transaction's.
    pub(crate) mute: bool,
    /// Takes no new requests; is closed as soon as it owes nothing.
    pub(crate) retiring: bool,
    /// It retires, and what is newer goes by another one meanwhile.
    pub(crate) replaced: bool,
    /// Refused by the server for now, while its bytes were with the writer: the command, where it
    /// stands in the log, why, and the delay before it goes again.
    pub(crate) refused: Vec<(Op, u64, u64, ServerError, Duration)>,
}

#[derive(Debug)]
pub(crate) enum State {
    Opening,
    Handshaking(Handshake),
    Ready,
    /// The adapter was told to close it; what it owes is settled when the adapter has done so.
    Closing {
        cause: Cause,
        was_ready: bool,
    },
}

/// One entry of what the peer owes.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) owner: Owner,
    /// The stream offset after the command's last byte.
    pub(crate) end: u64,
}

#[derive(Debug)]
pub(crate) enum Owner {
    Request(Op),
    /// Owed until the last of its replies has come. Boxed, so that it makes no request larger.
    Transaction(Box<Op>),
    /// A command that waits at the server, alone on its connection.
    Blocked(Box<Op>),
    Handshake,
    Own(Own),
    /// Answered by a push for each topic, or by one error.
    Change(Box<Change>),
}

/// What a connection was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Requests; in RESP3 subscriptions as well.
    Main,
    /// The subscriptions of this feed alone.
    Own(FeedId),
    /// Whoever has this seat.
    Leased(SeatId),
}

impl Owner {
    /// What came from a caller.
    pub(crate) fn op(&self) -> Option<&Op> {
        match self {
            Owner::Request(op) => Some(op),
            Owner::Transaction(op) | Owner::Blocked(op) => Some(op),
            Owner::Handshake | Owner::Own(_) | Owner::Change(_) => None,
        }
    }

    /// The same.
    fn op_mut(&mut self) -> Option<&mut Op> {
        match self {
            Owner::Request(op) => Some(op),
            Owner::Transaction(op) | Owner::Blocked(op) => Some(op),
            Owner::Handshake | Owner::Own(_) | Owner::Change(_) => None,
        }
    }

    /// The same.
    pub(crate) fn into_op(self) -> Option<Op> {
        match self {
            Owner::Request(op) => Some(op),
            Owner::Transaction(op) | Owner::Blocked(op) => Some(*op),
            Owner::Handshake | Owner::Own(_) | Owner::Change(_) => None,
        }
    }
}

/// What the client asks on its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// Whether the peer is there.
    Ping,
    /// What the last id of a stream is.
    StreamEnd,
    /// One question of a probe.
    Probe(Question),
    /// INFO, for telling one data set from another.
    Lineage,
    /// Who serves which slots.
    Topology,
    /// Whether a node that has refused everything serves again.
    Unready,
    /// Permits the command right behind it in a slot that is being moved here.
    Asking,
    /// What recovery has to know of a key before it can pay what it owes to it.
    Inquire(Bytes),
    /// One of the commands that pay what recovery owes to a key; whether it is the last of them,
    /// without which none is carried out.
    Settle(Bytes, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Ping,
    Role,
    Del,
}

/// One command of a request on its way, or a whole transaction.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) ticket: Ticket,
    /// Which item of a pipeline; of a transaction, where the engine keeps what it is made of.
    pub(crate) item: u32,
    pub(crate) spec: &'static Spec,
    pub(crate) effect: Effect,
    pub(crate) maybe_retry: MaybeRetry,
    /// The slot of its keys, in a cluster: see [`Slot`](crate::engine::Slot).
    pub(crate) slot: u16,
    /// How often it was redirected.
    pub(crate) redirects: u8,
    /// How often it was sent.
    pub(crate) attempts: u16,
    /// It was written in full to a connection that was lost.
    pub(crate) maybe: bool,
    /// A new handshake was tried for it.
    pub(crate) rehandshaken: bool,
    /// What its keys do while the server is down.
    pub(crate) standing: Standing,
    /// Which pattern it counts for, in the order of declaration; of no meaning where it waits.
    pub(crate) rule: u8,
    /// Later writes to its keys wait until it has ended.
    pub(crate) engaged: bool,
    /// Another connection has told of a write since it was sent: nothing is to be learned from its reply.
    pub(crate) overtaken: bool,
    /// The whole command, where its reply must be seen by the shadow.
    pub(crate) note: Option<Box<[u8]>>,
    /// What it counts for against the bound of queued bytes.
    pub(crate) cost: u32,
}

impl Connection {
    pub(crate) fn new(config: &Config, role: Role, node: NodeId, now: Instant) -> Self {
        Connection {
            state: State::Opening,
            role,
            node,
            protocol: Protocol::Resp2,
            feed: None,
            late: 0,
            paused: false,
            log: Log::default(),
            owed: VecDeque::new(),
            answered: 0,
            decoder: Decoder::new(Limits::HANDSHAKE),
            limits: Limits::from(&config.replies),
            heard: now,
            owes_since: now,
            slow_owed: 0,
            waits: Duration::ZERO,
            mute: false,
            retiring: false,
            replaced: false,
            refused: Vec::new(),
        }
    }

    /// The socket is open: begins the handshake. Gives whether user commands may go out at once.
    pub(crate) fn opened(&mut self, config: &Config, resp2_only: bool, now: Instant) -> bool {
        let (handshake, bytes) = Handshake::begin(config, resp2_only);
        self.heard = now;
        if handshake.is_done() {
            self.become_ready();
            return true;
        }
        self.state = State::Handshaking(handshake);
        self.go_on(&bytes, now);
        false
    }

    /// Sends the next part of the handshake.
    pub(crate) fn go_on(&mut self, bytes: &[u8], now: Instant) {
        let State::Handshaking(handshake) = &self.state else { return };
        let owed = handshake.replies_owed();
        let end = self.log.append(|out| out.extend_from_slice(bytes));
        for _ in 0..owed {
            self.push(Owner::Handshake, end, now);
        }
    }

    pub(crate) fn become_ready(&mut self) {
        if let State::Handshaking(handshake) = &self.state {
            self.protocol = handshake.protocol();
        }
        self.state = State::Ready;
    }

    /// Whether it was made for requests.
    pub(crate) fn is_main(&self) -> bool {
        self.role == Role::Main
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether it was ready before it began to close.
    pub(crate) fn was_ready(&self) -> bool {
        matches!(self.state, State::Ready | State::Closing { was_ready: true, .. })
    }

    /// Whether what the peer says is of no interest.
    pub(crate) fn is_deaf(&self) -> bool {
        matches!(self.state, State::Opening | State::Closing { .. })
    }

    pub(crate) fn close(&mut self, cause: Cause) {
        let was_ready = self.is_ready();
        self.state = State::Closing { cause, was_ready };
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Why this client closes it.
    pub(crate) fn closing_cause(&self) -> Option<&Cause> {
        match &self.state {
            State::Closing { cause, .. } => Some(cause),
            _ => None,
        }
    }

    pub(crate) fn awaits_hello(&self) -> bool {
        matches!(&self.state, State::Handshaking(handshake) if handshake.awaits_hello())
    }

    /// Appends a command of a request and its place in the queue.
    #[inline]
    pub(crate) fn send(
        &mut self,
        mut op: Op,
        now: Instant,
        encode: impl FnOnce(&mut Vec<u8>, &mut Op),
    ) {
        let end = self.log.append(|out| encode(out, &mut op));
        self.slow_owed += usize::from(op.spec.is_slow());
        self.push(Owner::Request(op), end, now);
    }

    /// Appends a transaction, from MULTI to EXEC, and its one place in the queue.
    pub(crate) fn send_transaction(
        &mut self,
        op: Op,
        now: Instant,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let end = self.log.append(encode);
        self.slow_owed += usize::from(op.spec.is_slow());
        self.push(Owner::Transaction(Box::new(op)), end, now);
    }

    /// Appends a command that waits at the server, alone.
    pub(crate) fn send_blocked(&mut self, op: Op, now: Instant, bytes: &[u8]) {
        let end = self.log.append(|out| out.extend_from_slice(bytes));
        self.push(Owner::Blocked(Box::new(op)), end, now);
    }

    /// The peer is about to be sent what has it wait for so long; `Duration::MAX` is for ever.
    pub(crate) fn wait_for(&mut self, span: Duration) {
        if self.owed.is_empty() {
            self.waits = Duration::ZERO;
        }
        // Each reply is waited for from the one before it on, so only the longest wait counts.
        self.waits = self.waits.max(span);
    }

    /// The peer waits for nothing any more.
    pub(crate) fn wait_no_more(&mut self) {
        self.waits = Duration::ZERO;
    }

    /// Whether the peer owes something that may take for ever.
    pub(crate) fn waits_for_ever(&self) -> bool {
        self.waits == Duration::MAX && !self.owed.is_empty()
    }

    /// Appends the commands of a pipeline in one piece; each comes with where it ends in `bytes`.
    pub(crate) fn send_batch(
        &mut self,
        ops: impl Iterator<Item = (Op, usize)>,
        bytes: &[u8],
        now: Instant,
    ) {
        let start = self.log.append(|out| out.extend_from_slice(bytes)) - bytes.len() as u64;
        for (op, end) in ops {
            self.slow_owed += usize::from(op.spec.is_slow());
            self.push(Owner::Request(op), start + end as u64, now);
        }
    }

    /// Appends a command of the client's own.
    pub(crate) fn ask(&mut self, own: Own, words: &[&[u8]], now: Instant) {
        let end = self.log.append(|out| {
            encode::array_header(out, words.len());
            words.iter().for_each(|word| encode::bulk(out, word));
        });
        self.push(Owner::Own(own), end, now);
    }

    #[inline]
    fn push(&mut self, owner: Owner, end: u64, now: Instant) {
        if self.owed.is_empty() {
            self.owes_since = now;
        }
        self.owed.push_back(Owed { owner, end });
    }

    /// Notes that the peer was heard from. Called before [`answered`](Connection::answered), once for each piece received.
    pub(crate) fn note_inbound(&mut self, now: Instant) {
        self.heard = now;
        self.owes_since = now;
    }

    /// Begins the wait for what is owed anew.
    pub(crate) fn grant_more_time(&mut self, now: Instant) {
        self.owes_since = now;
    }

    /// Takes back what was written. A peer that accepts a long command piece by piece is not silent.
    pub(crate) fn written(&mut self, chunk: Chunk, count: usize, now: Instant) {
        let before = self.log.written();
        self.log.give_back(chunk, count);
        if count > 0 && self.owed.front().is_some_and(|head| head.end > before) {
            self.owes_since = now;
        }
    }

    /// Lends the decoder out for a run of replies, during which the connection itself is needed.
    pub(crate) fn lend_decoder(&mut self) -> Decoder {
        std::mem::replace(&mut self.decoder, Decoder::new(Limits::HANDSHAKE))
    }

    /// Takes the decoder back, and sets its limits if the handshake has ended meanwhile.
    pub(crate) fn return_decoder(&mut self, decoder: Decoder) {
        self.decoder = decoder;
        if self.is_ready() {
            self.decoder.set_limits(self.limits);
            self.decoder.set_array_rows(self.has_array_notices());
        }
    }

    /// What the next reply answers, and where that command began in the log; `None` if it answers
    /// nothing that was asked.
    #[inline]
    pub(crate) fn answered(&mut self) -> Option<(Owed, u64)> {
        // Nothing may be answered that was not even handed to the writer.
        if self.owed.front()?.end > self.log.handed_out() {
            return None;
        }
        let owed = self.owed.pop_front()?;
        self.late = 0;
        if let Owner::Request(op) = &owed.owner {
            self.slow_owed -= usize::from(op.spec.is_slow());
        }
        let start = std::mem::replace(&mut self.answered, owed.end);
        Some((owed, start))
    }

    /// The same for what is not written to its end: a transaction, if the command whose reply is due is.
    /// `due` says where in its bytes that one ends.
    pub(crate) fn answered_early(&mut self, due: impl FnOnce(&Op) -> u64) -> Option<(Owed, u64)> {
        let Owner::Transaction(op) = &self.owed.front()?.owner else { return None };
        if self.answered + due(op) > self.log.handed_out() {
            return None;
        }
        let owed = self.owed.pop_front()?;
        let start = std::mem::replace(&mut self.answered, owed.end);
        Some((owed, start))
    }

    /// Has a transaction that was [`answered`](Connection::answered) keep its place, because it is owed
    /// more replies; it began at `start`.
    pub(crate) fn owes_more(&mut self, op: Box<Op>, start: u64, end: u64) {
        self.answered = start;
        self.owed.push_front(Owed { owner: Owner::Transaction(op), end });
    }

    /// Notes that a transaction is owed nothing more.
    pub(crate) fn transaction_ended(&mut self, op: &Op) {
        self.slow_owed -= usize::from(op.spec.is_slow());
    }

    /// How many bytes of a large reply are known to be missing.
    pub(crate) fn missing(&self) -> usize {
        self.decoder.missing()
    }

    /// Gives up the bytes of what was answered.
    pub(crate) fn release(&mut self) {
        self.log.release(self.answered);
    }

    /// Whether an answer to a command of this slot of a cluster is owed, or was given and has still to be
    /// dealt with.
    pub(crate) fn owes_for(&self, slot: u16) -> bool {
        self.slots_owed().any(|owed| owed == slot)
    }

    /// What stands in the place of the slot of each such command.
    pub(crate) fn slots_owed(&self) -> impl Iterator<Item = u16> {
        let owed = self.owed.iter().filter_map(|owed| owed.owner.op());
        owed.chain(self.refused.iter().map(|(op, ..)| op)).map(|op| op.slot)
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.owed.is_empty()
    }

    /// Takes back the commands that nobody wants and of which the writer has seen nothing: they are
    /// certain not to be executed. On a connection that is being closed they are left to its end. ASKING goes
    /// with the command that it is for, or else would be taken for the next one's; where the writer has seen
    /// it, both stay.
    pub(crate) fn withdraw(&mut self, unwanted: impl Fn(&Op) -> bool) -> Vec<Op> {
        let handed_out = self.log.handed_out();
        let (mut start, mut cut) = (self.answered, 0);
        let (mut withdrawn, mut ranges) = (Vec::new(), Vec::new());
        // The range of the ASKING just before.
        let mut asking = None;
        for Owed { owner, end } in std::mem::take(&mut self.owed) {
            let asks = matches!(owner, Owner::Own(Own::Asking)).then_some((start, end));
            let asked = std::mem::replace(&mut asking, asks);
            let unseen = asked.map_or(start, |(start, _)| start) >= handed_out;
            if unseen && owner.op().is_some_and(&unwanted) {
                let op = owner.into_op().expect("it has one");
                if let Some((from, to)) = asked {
                    self.owed.pop_back();
                    ranges.push((from, to));
                    cut += to - from;
                }
                ranges.push((start, end));
                cut += end - start;
                self.slow_owed -= usize::from(op.spec.is_slow());
                withdrawn.push(op);
            } else {
                self.owed.push_back(Owed { owner, end: end - cut });
            }
            start = end;
        }
        self.log.withdraw(&ranges);
        withdrawn
    }

    /// Whether a command that ends at the stream offset `end` may have reached the peer.
    pub(crate) fn may_have_left(&self, end: u64) -> bool {
        end <= self.log.handed_out()
    }

    /// Whether a command that ends at the stream offset `end` is certain not to be executed.
    pub(crate) fn is_unsent(&self, end: u64) -> bool {
        matches!(self.state, State::Closing { .. }) && end > self.log.handed_out()
    }

    pub(crate) fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.owed.iter()
    }

    /// Nothing is to be learned from what is owed now.
    pub(crate) fn overtake(&mut self) {
        let ops = self.owed.iter_mut().filter_map(|owed| owed.owner.op_mut());
        ops.for_each(|op| op.overtaken = true);
    }

    /// The end of a connection: what was owed, in order, each with the command's bytes and whether
    /// the kernel had accepted them all, or may be doing so at this moment.
    pub(crate) fn into_owed(self) -> impl Iterator<Item = (Owner, Vec<u8>, bool)> {
        let Connection { log, owed, mut answered, refused, .. } = self;
        let refused = refused.into_iter().map(|(op, start, end, ..)| {
            let bytes = log.copy(start, end).unwrap_or_default().to_vec();
            (Owner::Request(op), bytes, false)
        });
        let refused: Vec<_> = refused.collect();
        refused.into_iter().chain(owed.into_iter().map(move |Owed { owner, end }| {
            let start = std::mem::replace(&mut answered, end);
            let bytes = match owner.op() {
                Some(_) => log.copy(start, end).unwrap_or_default().to_vec(),
                None => Vec::new(),
            };
            (owner, bytes, end <= log.handed_out())
        }))
    }

    /// When the peer will have been silent for too long, or should be asked whether it is there.
    pub(crate) fn due(&self, config: &Config) -> Option<(Instant, Due)> {
        if matches!(self.state, State::Opening | State::Closing { .. }) || self.paused {
            return None;
        }
        if self.owed.is_empty() {
            let interval = config.ping_every().filter(|_| self.is_ready() && !self.mute)?;
            return Some((self.heard + interval, Due::Ping));
        }
        let limit = self.response_limit(config).checked_add(self.waits)?;
        Some((self.owes_since.checked_add(limit)?, Due::Silent))
    }

    fn response_limit(&self, config: &Config) -> Duration {
        if self.slow_owed > 0 {
            config.response_timeout.max(config.slow_response_timeout)
        } else {
            config.response_timeout
        }
    }
}

/// What is due on a connection when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Ping,
    Silent,
}

//! One command that waits at the server: sent in slices, so that a server that is dead is noticed.
//!
//! ```text
//!   BLPOP a 60  ──▶ BLPOP a 2 ──nil──▶ BLPOP a 2 ──nil──▶ …  ──▶ an element, or nil when 60 s are over
//!   XREAD … $   ──▶ XINFO STREAM ──▶ XREAD … 7-0 ──nil──▶ …
//! ```
//!
//! A command that takes elements, or reads as a member of a group, means the same when it is sent again
//! after it has taken nothing. `$` of XREAD does not: what was added between two slices would be passed
//! over. So it is replaced by the id that it stands for, once.

use std::time::{Duration, Instant};

use super::{Engine, Held, Lease, Output, Parked, Ticket};
use crate::{
    Failure,
    commands::Spec,
    connection::{Op, Own, Role},
    engine::{ConnId, trial::Rare},
    failure::{Cause, Executed, FailureKind},
    reply::ServerError,
    request::{WAIT_MIN, seconds, split_command},
    resp::{Kind, Reply, encode},
};

/// A wait that was over so much earlier than it was to be was ended by somebody (CLIENT UNBLOCK).
const EARLY_PERCENT: u32 = 90;

/// Of a time limit that is set from outside so much is left for the server's answer, but no more than
/// `ANSWER_MAX`: a server that has nothing else to do looks ten times a second whose wait is over.
const ANSWER_SHARE: u32 = 2;
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// What a command that waits has still to wait for.
#[derive(Debug)]
pub(super) struct Blocked {
    words: Vec<Box<[u8]>>,
    /// Which word says how long it waits, and whether in milliseconds.
    at: usize,
    millis: bool,
    /// How long it is to wait in all; `None` for ever.
    wait: Option<Duration>,
    /// Until when that is, once it was sent.
    until: Option<Instant>,
    /// When all of it has to be over, where its caller has said so.
    limit: Option<Instant>,
    /// How much longer than it waits it may take.
    grace: Duration,
    ids: Ids,
    /// What is on its way.
    slice: Option<Slice>,
    /// Its caller's limit is too near for another one.
    pub(super) is_late: bool,
}

/// What becomes of `$`.
#[derive(Debug)]
enum Ids {
    /// There is none, or none any more.
    Known,
    /// These words are to be replaced, each after the key that many words before it; so many answers have
    /// come. Where one was a redirect, that is it.
    Asked { places: Vec<usize>, answers: usize, elsewhere: Option<ServerError> },
    /// Nobody may know, so the server waits in one piece.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    sent: Instant,
    span: Option<Duration>,
    /// The caller's limit leaves no time for another one.
    last: bool,
}

/// How long a command lets the server wait: zero where it does not, `Duration::MAX` for ever.
pub(super) fn wait_of(spec: &Spec, bytes: &[u8]) -> Duration {
    if !spec.is_blocking() {
        return Duration::ZERO;
    }
    let words = split_command(bytes);
    let read = || {
        let args = words.get(spec.words()..)?;
        let (at, millis) = spec.wait_among(args)?;
        read_wait(args[at], millis)
    };
    read().map_or(Duration::ZERO, |wait| wait.unwrap_or(Duration::MAX))
}

/// What a word says about waiting: for ever is `Some(None)`, nothing that a server takes is `None`.
pub(super) fn read_wait(word: &[u8], millis: bool) -> Option<Option<Duration>> {
    let text = std::str::from_utf8(word).ok()?;
    let span = if millis {
        Duration::from_millis(text.parse().ok()?)
    } else {
        Duration::try_from_secs_f64(text.parse().ok()?).ok()?
    };
    Some(Some(span).filter(|span| !span.is_zero()))
}

impl Blocked {
    /// Reads a command; `None` if it is none that can be sent in slices.
    pub(super) fn read(
        spec: &Spec,
        bytes: &[u8],
        limit: Option<Instant>,
        grace: Duration,
    ) -> Option<Self> {
        let words = split_command(bytes);
        let first = spec.words();
        let args = words.get(first..)?;
        let (at, millis) = spec.wait_among(args)?;
        let wait = read_wait(args[at], millis)?;
        let ids = spec.ids_among(args).map_or(0..0, |from| from..args.len());
        let places: Vec<_> = ids.filter(|at| args[*at] == b"$").map(|at| at + first).collect();
        let ids = if places.is_empty() {
            Ids::Known
        } else {
            Ids::Asked { places, answers: 0, elsewhere: None }
        };
        let words = words.iter().map(|word| Box::from(*word)).collect();
        let at = at + first;
        Some(Blocked {
            words,
            at,
            millis,
            wait,
            until: None,
            limit,
            grace,
            ids,
            slice: None,
            is_late: false,
        })
    }

    /// The keys whose streams' last ids are to be asked for.
    fn unknown(&self) -> Vec<Vec<u8>> {
        let Ids::Asked { places, .. } = &self.ids else { return Vec::new() };
        let keys = self.count_of_streams();
        places.iter().map(|at| self.words[at - keys].to_vec()).collect()
    }

    fn count_of_streams(&self) -> usize {
        let from = self.words.iter().position(|word| word.eq_ignore_ascii_case(b"STREAMS"));
        from.map_or(0, |at| (self.words.len() - at - 1) / 2)
    }

    /// Takes in the next answer about a stream's end, which may be a redirect.
    fn on_stream_end(&mut self, reply: &Reply, redirect: Option<ServerError>) -> Told {
        let Ids::Asked { places, answers, elsewhere } = &mut self.ids else { return Told::InPart };
        let id = match reply.error() {
            Some(error) if error.message().contains("no such key") => Some(&b"0-0"[..]),
            Some(_) => None,
            None => {
                let mut parts = reply.view().pairs();
                let found = parts.find(|(name, _)| name.payload() == b"last-generated-id");
                found.map(|(_, id)| id.payload())
            }
        };
        if let Some(id) = id {
            self.words[places[*answers]] = id.into();
        }
        *answers += 1;
        *elsewhere = elsewhere.take().or(redirect);
        if *answers < places.len() {
            return Told::InPart;
        }
        *answers = 0;
        if let Some(error) = elsewhere.take() {
            return Told::Elsewhere(error);
        }
        let known = places.iter().all(|at| &*self.words[*at] != b"$");
        self.ids = if known { Ids::Known } else { Ids::Unknown };
        Told::All
    }

    /// What is to be sent now, and how long the server will wait on it; `None` where no time is left.
    fn next_slice(&mut self, now: Instant, most: Duration) -> Option<(Vec<u8>, Option<Duration>)> {
        if self.until.is_none()
            && let Some(wait) = self.wait
        {
            self.until = now.checked_add(wait);
        }
        let left = self.until.map(|until| until.saturating_duration_since(now));
        let limit = self.limit.map(|limit| {
            let left = limit.saturating_duration_since(now);
            left.saturating_sub((left / ANSWER_SHARE).min(ANSWER_MAX))
        });
        if limit.is_some_and(|limit| limit < WAIT_MIN) {
            return None;
        }
        let whole = matches!(self.ids, Ids::Unknown);
        let most = Some(most).filter(|_| !whole);
        let span = left.into_iter().chain(limit).chain(most).min();
        let span = span.map(|span| span.max(WAIT_MIN));
        let last = limit.is_some_and(|limit| span.is_some_and(|span| span >= limit))
            && left.is_none_or(|left| limit.is_some_and(|limit| limit < left));
        self.slice = Some(Slice { sent: now, span, last });
        self.words[self.at] = match (span, self.millis) {
            (span, false) => seconds(span).into_bytes().into(),
            (None, true) => Box::from(&b"0"[..]),
            (Some(span), true) => {
                span.as_nanos().div_ceil(1_000_000).to_string().into_bytes().into()
            }
        };
        let mut bytes = Vec::new();
        encode::array_header(&mut bytes, self.words.len());
        self.words.iter().for_each(|word| encode::bulk(&mut bytes, word));
        Some((bytes, span))
    }

    /// What follows when it has waited and nothing came.
    fn on_nothing(&self, now: Instant) -> AfterNothing {
        let Some(Slice { sent, span, last }) = self.slice else { return AfterNothing::Over };
        let waited = now.saturating_duration_since(sent);
        if self.until.is_some_and(|until| until <= now) {
            return AfterNothing::Over;
        }
        if span.is_none_or(|span| waited < span * EARLY_PERCENT / 100) {
            return AfterNothing::Unblocked;
        }
        if last { AfterNothing::Late } else { AfterNothing::Again }
    }

    /// When its request ends at the latest, while it waits at the server.
    fn deadline(&self) -> Option<Instant> {
        self.limit.or_else(|| self.until?.checked_add(self.grace))
    }
}

/// What was told of the ends of streams.
enum Told {
    InPart,
    All,
    /// Another node has to be asked.
    Elsewhere(ServerError),
}

enum AfterNothing {
    /// Its time is over.
    Over,
    /// Somebody has ended its wait.
    Unblocked,
    /// The caller's limit is reached before.
    Late,
    Again,
}

impl<W> Engine<W> {
    /// Sends the next slice of a command that waits, or what has to be known before.
    pub(super) fn send_blocked(&mut self, lease: Lease, conn: ConnId, mut op: Op) {
        let now = self.now;
        let most = self.config.response_timeout;
        let Some(Held::ByRequest { blocked: Some(blocked), .. }) =
            self.leases.get_mut(lease).map(|leased| &mut leased.held)
        else {
            return self.give_up(&op);
        };
        let unknown = blocked.unknown();
        if !unknown.is_empty() {
            if let Ids::Asked { answers, .. } = &mut blocked.ids {
                *answers = 0;
            }
            let Some(leased) = self.leases.get_mut(lease) else { return self.give_up(&op) };
            leased.backlog.push_front(Parked { op, bytes: Vec::new(), cause: None });
            let asks = leased.asks.is_some();
            for key in unknown {
                if asks {
                    self.ask(conn, Own::Asking, &[b"ASKING"]);
                }
                self.ask(conn, Own::StreamEnd, &[b"XINFO", b"STREAM", &key]);
            }
            return;
        }
        let ticket = op.ticket;
        let Some((bytes, span)) = blocked.next_slice(now.instant, most) else {
            // No time is left for the server to wait and to answer.
            self.reached(Rare::NoTimeToWait);
            return self.let_it_be_late(lease, op);
        };
        // While it waits at the server, its caller waits as long as it was told to.
        let deadline = blocked.deadline().unwrap_or_else(|| now.after(Duration::MAX));
        op.attempts = op.attempts.saturating_add(1);
        if self.leases.get(lease).is_some_and(|leased| leased.asks.is_some()) {
            self.ask(conn, Own::Asking, &[b"ASKING"]);
        }
        let connection = self.connections.get_mut(conn.0).expect("a seat's connection");
        connection.wait_for(span.unwrap_or(Duration::MAX));
        connection.send_blocked(op, now.instant, &bytes);
        self.tickets.set_deadline(ticket, deadline);
        self.stirred = true;
    }

    /// The end of a stream was told, for a lease whose command needs it.
    pub(in super::super) fn on_stream_end(&mut self, conn: ConnId, reply: &Reply) {
        let Some(lease) = self.lease_on(conn) else { return };
        let redirect = reply.error().filter(|error| self.is_redirect(error));
        let Some(leased) = self.leases.get_mut(lease) else { return };
        let Held::ByRequest { blocked: Some(blocked), .. } = &mut leased.held else { return };
        match blocked.on_stream_end(reply, redirect) {
            Told::InPart => {}
            Told::All => self.serve(lease),
            Told::Elsewhere(error) => {
                let Some(Parked { mut op, bytes, .. }) = leased.backlog.pop_front() else { return };
                if !self.may_follow(conn, &mut op, &error) {
                    return self.end_with_error(&op, error, Executed::No);
                }
                let cause = Some(Cause::NotReady(error.clone()));
                self.go_away(lease, conn, Parked { op, bytes, cause }, &error);
            }
        }
    }

    /// A reply to a command that waits.
    #[cold]
    pub(in super::super) fn on_blocked_reply(
        &mut self,
        conn: ConnId,
        mut op: Op,
        reply: Reply,
        start: u64,
        end: u64,
    ) {
        let Some(lease) = self.lease_on(conn) else { return self.give_up(&op) };
        let alone = self
            .leases
            .get(lease)
            .is_some_and(|leased| matches!(leased.held, Held::ByRequest { blocked: Some(_), .. }));
        if let Some(connection) = self.connections.get_mut(conn.0).filter(|_| alone) {
            connection.wait_no_more();
        }
        if let Some(error) = self.left_behind(lease, conn, op.spec) {
            // What it is about goes to another node, and so does it.
            return self.send_after(conn, op, error, start, end);
        }
        if let Some(error) = reply.error() {
            self.on_error_reply(conn, op, error, start, end);
            return self.settle_lease(lease);
        }
        let now = self.now.instant;
        let after = match self.leases.get(lease).map(|leased| &leased.held) {
            Some(Held::ByRequest { blocked: Some(blocked), .. })
                if reply.kind() == Kind::Null && self.tickets.wants(op.ticket) =>
            {
                blocked.on_nothing(now)
            }
            _ => AfterNothing::Over,
        };
        match after {
            AfterNothing::Over => self.end_blocked(conn, &op, reply),
            AfterNothing::Unblocked => {
                self.reached(Rare::Unblocked);
                self.end_blocked(conn, &op, reply);
            }
            AfterNothing::Late => self.let_it_be_late(lease, op),
            AfterNothing::Again => {
                self.reached(Rare::NextSlice);
                // Each slice is an attempt of its own.
                op.attempts = op.attempts.saturating_sub(1);
                self.send_blocked(lease, conn, op);
                self.outputs.push_back(Output::Flush { conn });
            }
        }
        self.settle_lease(lease);
    }

    /// Nothing more can come of a command before its caller's limit, and it ends no sooner than that.
    fn let_it_be_late(&mut self, lease: Lease, op: Op) {
        if let Some(leased) = self.leases.get_mut(lease) {
            if let Held::ByRequest { blocked: Some(blocked), .. } = &mut leased.held {
                blocked.is_late = true;
            }
            leased.backlog.push_back(Parked { op, bytes: Vec::new(), cause: None });
        }
    }

    /// A command that waits has no connection, for the first time or again: it has as long to get one as
    /// any other has.
    pub(super) fn grant_time_to_connect(&mut self, lease: Lease, ticket: Ticket) {
        let now = self.now;
        let Some(Held::ByRequest { blocked: Some(blocked), .. }) =
            self.leases.get_mut(lease).map(|leased| &mut leased.held)
        else {
            return;
        };
        if blocked.limit.is_none() {
            let deadline = now.after(blocked.grace);
            self.tickets.set_deadline(ticket, deadline);
        }
    }

    fn end_blocked(&mut self, conn: ConnId, op: &Op, reply: Reply) {
        if op.note.is_some() {
            self.on_degradable_reply(conn, op, &reply);
        }
        self.tally.server += 1;
        self.end(op, Ok(reply));
    }

    /// The failure of a command that nobody may send, because it waits for what nobody wrote.
    pub(in super::super) fn misuse_of(advice: &'static str, command: &str) -> Failure {
        Failure::new(FailureKind::Misuse(advice), Executed::No, command.to_owned())
    }

    /// Whose a connection is.
    pub(in super::super) fn lease_on(&self, conn: ConnId) -> Option<Lease> {
        let Role::Leased(seat) = self.connections.get(conn.0)?.role else {
            return None;
        };
        self.leases.seats.get(seat.0)?.lease
    }
}

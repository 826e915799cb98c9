//! The consumer goes round its streams.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Delivery, POLL_PAUSE_MAX, SPAN_MIN, Setup,
    lane::{Ask, Lane, Outcome},
};
use crate::{
    Failure, FailureKind, Now,
    commands::{GroupRead, Spec, StreamId, StreamRead},
    dialogue::{Answer, Dialogue, Heard, Step, decode},
    engine::Batch,
    failure::{Executed, Stage},
    reply::FromReply,
    request::Request,
    resp::Reply,
};

/// The first wait after a failure that passes, doubled each time up to the second one. The engine waits for
/// a connection within each request's deadline, so this is only for what fails at once.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

const NO_STREAMS: &str = "a consumer reads streams: name one with `stream(key)`";

/// The dialogue of a consumer of streams; see [`Consumers`](super::Consumers).
pub struct Consumer<T> {
    setup: Setup,
    lanes: Vec<Lane>,
    /// Entries that came and were not given yet.
    ready: VecDeque<Delivery<T>>,
    /// What was asked of which stream, in the order of the commands.
    asked: Vec<(usize, Ask)>,
    /// What ends it once all that is ready was given.
    failure: Option<Failure>,
    undecodable: Option<(Bytes, StreamId)>,
    next: Next,
    /// It waits at the server, for all streams at once.
    blocks: bool,
    /// It can't wait at the server, and looks now and then.
    polls: bool,
    /// How often in a row a round has failed.
    failures: u32,
    /// When the last one went well, or the first began.
    well_at: Option<Instant>,
}

/// What follows when nothing is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Round,
    Pause,
    Retry,
}

impl<T> Consumer<T> {
    pub(super) fn new(setup: Setup, streams: Vec<Bytes>) -> Self {
        let lanes: Vec<_> = streams.into_iter().map(|key| Lane::new(key, &setup)).collect();
        let failure = lanes
            .is_empty()
            .then(|| Failure::new(FailureKind::Misuse(NO_STREAMS), Executed::No, "XREADGROUP"));
        Consumer {
            setup,
            lanes,
            ready: VecDeque::new(),
            asked: Vec::new(),
            failure,
            undecodable: None,
            next: Next::Round,
            blocks: false,
            polls: false,
            failures: 0,
            well_at: None,
        }
    }

    /// The entry that ended it because its fields are not what was asked for: its stream and id. It stays
    /// pending; to get past it, acknowledge it or read it by other means.
    #[must_use]
    pub fn undecodable(&self) -> Option<(&[u8], StreamId)> {
        self.undecodable.as_ref().map(|(stream, id)| (&**stream, *id))
    }
}

impl<T: FromReply + Send + 'static> Dialogue for Consumer<T> {
    type Item = Delivery<T>;

    fn name(&self) -> &'static str {
        "XREADGROUP"
    }

    fn step(&mut self, heard: Heard, now: Now) -> Step<Delivery<T>> {
        match heard {
            Heard::Sent => return Step::Wait,
            Heard::Awake => self.next = Next::Round,
            Heard::Answer(answer) if std::mem::take(&mut self.blocks) => {
                self.take_in_blocked(answer, now.instant);
            }
            Heard::Answer(answer) => self.take_in(answer, now.instant),
            Heard::Nothing => {}
        }
        if let Some(delivery) = self.ready.pop_front() {
            return Step::Yield(delivery);
        }
        if let Some(failure) = self.failure.take() {
            return Step::Done(Err(failure));
        }
        match self.next {
            Next::Round => self.round(now.instant),
            Next::Pause => self.pause(now.instant),
            Next::Retry => Step::Sleep(self.retry_delay()),
        }
    }
}

impl<T: FromReply> Consumer<T> {
    fn round(&mut self, now: Instant) -> Step<Delivery<T>> {
        self.well_at.get_or_insert(now);
        let mut batch = Batch::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let mut asks = Vec::new();
            lane.ask(&self.setup, now, &mut batch, &mut asks);
            self.asked.extend(asks.into_iter().map(|ask| (at, ask)));
        }
        Step::Send(batch)
    }

    fn take_in(&mut self, answer: Answer, now: Instant) {
        let asked = std::mem::take(&mut self.asked);
        let outcomes = match answer.outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) => asked.iter().map(|_| Err(failure.clone())).collect(),
        };
        let mut more = false;
        let mut passing = None;
        for ((at, ask), outcome) in asked.into_iter().zip(outcomes) {
            let lane = &mut self.lanes[at];
            match lane.answered(ask, outcome, &self.setup) {
                Outcome::Entries(deliveries, again) => {
                    self.ready.extend(deliveries);
                    more |= again;
                }
                Outcome::Later(failure) => passing = Some(failure),
                Outcome::Never(deliveries, id, failure) => {
                    self.ready.extend(deliveries);
                    if self.failure.is_none() {
                        self.undecodable = id.map(|id| (lane.key.clone(), id));
                        self.failure = Some(failure);
                    }
                }
            }
        }
        let Some(failure) = passing else {
            self.failures = 0;
            self.well_at = Some(now);
            self.next = if more { Next::Round } else { Next::Pause };
            return;
        };
        self.failures = self.failures.saturating_add(1);
        self.next = Next::Retry;
        let well_at = self.well_at.unwrap_or(now);
        let away = now.saturating_duration_since(well_at);
        if self.setup.give_up.is_some_and(|limit| away >= limit) {
            self.failure.get_or_insert(failure);
        }
    }

    /// Waits until there is something new, or something else is due: at the server, where it can.
    fn pause(&mut self, now: Instant) -> Step<Delivery<T>> {
        let due = self.lanes.iter().filter_map(Lane::due).min();
        let until_due = due.map(|due| due.saturating_duration_since(now));
        let span = until_due.map_or(self.setup.pause, |due| due.min(self.setup.pause));
        if self.polls || !self.lanes.iter().all(Lane::is_idle) {
            return Step::Sleep(span.min(POLL_PAUSE_MAX));
        }
        if span.is_zero() {
            return self.round(now);
        }
        self.blocks = true;
        let Setup { group, name, count, .. } = &self.setup;
        let read = Request::of(const { Spec::of("XREADGROUP") });
        let read = read.arg("GROUP").arg(group).arg(name).arg("COUNT").arg(count);
        let keys: Vec<_> = self.lanes.iter().map(|lane| &*lane.key).collect();
        let new = vec![GroupRead::New; keys.len()];
        let read = read.arg("BLOCK").millis(span.max(SPAN_MIN)).arg("STREAMS");
        let mut batch = Batch::new();
        batch.push(&read.args(&keys).args(&new));
        Step::Send(batch)
    }

    /// What came of waiting at the server.
    fn take_in_blocked(&mut self, answer: Answer, now: Instant) {
        let streams = match answer.outcomes.and_then(|mut outcomes| outcomes.remove(0)) {
            Ok(reply) => decode::<Vec<StreamRead<Reply>>>(&reply, "XREADGROUP"),
            Err(failure) if is_no_place_to_wait(&failure) => {
                self.polls = true;
                self.next = Next::Round;
                return;
            }
            Err(failure) => {
                // It was about all of them alike.
                self.asked = (0..self.lanes.len()).map(|at| (at, Ask::New)).collect();
                return self.take_in(Answer::new(Err(failure), None), now);
            }
        };
        let streams = match streams {
            Ok(streams) => streams,
            Err(failure) => {
                self.failure.get_or_insert(failure);
                return;
            }
        };
        (self.failures, self.well_at) = (0, Some(now));
        let due = self.lanes.iter().filter_map(Lane::due).any(|due| due <= now);
        self.next = if due || !streams.is_empty() { Next::Round } else { Next::Pause };
        for StreamRead { key, entries } in streams {
            let Some(lane) = self.lanes.iter_mut().find(|lane| *lane.key == *key) else { continue };
            match lane.came(entries, &self.setup) {
                Outcome::Entries(deliveries, _) => self.ready.extend(deliveries),
                Outcome::Later(_) => {}
                Outcome::Never(deliveries, id, failure) => {
                    self.ready.extend(deliveries);
                    if self.failure.is_none() {
                        self.undecodable = id.map(|id| (lane.key.clone(), id));
                        self.failure = Some(failure);
                    }
                }
            }
        }
    }

    fn retry_delay(&self) -> Duration {
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(RETRY_MAX)
    }
}

/// Whether it is the waiting that failed, and looking now and then would not.
fn is_no_place_to_wait(failure: &Failure) -> bool {
    match failure.kind() {
        // Its streams are in several slots of a cluster, of which no one node has all.
        FailureKind::DeadlinePassed(Stage::Lease(_)) | FailureKind::Misuse(_) => true,
        FailureKind::Server(error) => error.code() == "CROSSSLOT",
        _ => false,
    }
}

/// Names, keys and entries are left out: they are the caller's data.
impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("streams", &self.lanes.len())
            .field("ready", &self.ready.len())
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

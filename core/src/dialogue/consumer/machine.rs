//! The consumer goes round its streams.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Delivery, Setup,
    lane::{Ask, Lane, Outcome},
};
use crate::{
    Failure, FailureKind, Now,
    commands::StreamId,
    dialogue::{Answer, Dialogue, Heard, Step},
    engine::Batch,
    failure::Executed,
    reply::FromReply,
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
            Next::Pause => Step::Sleep(self.pause(now.instant)),
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

    /// Until there may be something new, or something else is due.
    fn pause(&self, now: Instant) -> Duration {
        let due = self.lanes.iter().filter_map(Lane::due).min();
        let until_due = due.map(|due| due.saturating_duration_since(now));
        until_due.map_or(self.setup.pause, |due| due.min(self.setup.pause))
    }

    fn retry_delay(&self) -> Duration {
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(RETRY_MAX)
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

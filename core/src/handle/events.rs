//! What operators want to know, handed to whoever subscribed.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use super::shared::Shared;
use crate::{
    engine::Event,
    sync::{Mutex, MutexGuard},
};

/// A subscription to a client's events, from the moment it was made.
///
/// It holds at most `events_max` events that nobody has read. When it is full the oldest is dropped
/// and counted: see [`missed`](Events::missed).
pub struct Events {
    subscriber: Arc<Subscriber>,
}

/// The place where a subscription's events gather. It has a lock of its own, so that reading them
/// holds up no request.
pub(super) struct Subscriber(Mutex<Queue>);

struct Queue {
    events: VecDeque<Event>,
    events_max: usize,
    missed: u64,
    ended: bool,
    waker: Option<Waker>,
}

impl Events {
    pub(super) fn subscribe(shared: &Shared) -> Self {
        let subscriber = Arc::new(Subscriber(Mutex::new(Queue {
            events: VecDeque::new(),
            events_max: shared.config().queue.events_max,
            missed: 0,
            ended: false,
            waker: None,
        })));
        shared.subscribe(&subscriber);
        Events { subscriber }
    }

    /// The next event; `None` once the client was closed and all were read.
    ///
    /// Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Events::next) for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = self.subscriber.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.ended => Poll::Ready(None),
            None => {
                let old = queue.waker.replace(cx.waker().clone());
                drop(queue);
                drop(old);
                Poll::Pending
            }
        }
    }

    /// The next event, if there is one that was not read.
    pub fn try_next(&mut self) -> Option<Event> {
        self.subscriber.lock().events.pop_front()
    }

    /// How many events were dropped because nobody read them in time, since this was last asked.
    pub fn missed(&mut self) -> u64 {
        mem::take(&mut self.subscriber.lock().missed)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = self.subscriber.lock().events.len();
        f.debug_struct("Events").field("unread", &unread).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Adds an event; gives whom to wake.
    pub(super) fn push(&self, event: &Event) -> Option<Waker> {
        let mut queue = self.lock();
        if queue.events.len() >= queue.events_max {
            queue.events.pop_front();
            queue.missed += 1;
        }
        queue.events.push_back(event.clone());
        queue.ended |= matches!(event, Event::End);
        queue.waker.take()
    }

    /// Nothing will follow; gives whom to wake.
    pub(super) fn end(&self) -> Option<Waker> {
        let mut queue = self.lock();
        queue.ended = true;
        queue.waker.take()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one place where log lines come from: one for each event, with its name as the field `event`.
#[cfg(feature = "tracing")]
pub(super) fn log(event: &Event) {
    use crate::engine::{Health, Lineage};

    let name = event.name();
    match event {
        Event::HealthChanged { to: Health::Suspect | Health::Degraded, .. }
        | Event::Forced { to: Some(_), .. }
        | Event::DataSet { lineage: Lineage::Unknown, .. }
        | Event::ReplayRefused { .. }
        | Event::MergesSkipped { .. }
        | Event::MergesUnanswered { .. }
        | Event::WritesLost { .. }
        | Event::TooOld { .. }
        | Event::StillDown { .. }
        | Event::GivenUp { .. }
        | Event::Full { .. } => tracing::warn!(target: "unfazed", event = name, "{event}"),
        Event::HealthChanged { .. } | Event::Forced { to: None, .. } | Event::DataSet { .. } => {
            tracing::info!(target: "unfazed", event = name, "{event}");
        }
        _ => tracing::debug!(target: "unfazed", event = name, "{event}"),
    }
}

/// Log lines are an optional feature.
#[cfg(not(feature = "tracing"))]
pub(super) fn log(_: &Event) {}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::fmt::{Debug, Write as _};

    use tracing::{
        Level, Metadata, Subscriber as Listener,
        field::{Field, Visit},
        span,
    };

    use super::*;
    use crate::{config::Forced, engine::Health, failure::Cause};

    /// Writes down each line, and wants no spans.
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {}={value:?}", field.name()).expect("a string takes all");
        }
    }

    impl Listener for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "unfazed"
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().expect("nobody panics with it").push(line.0);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn lines(events: &[Event]) -> Vec<String> {
        let lines = Arc::new(Lines::default());
        tracing::subscriber::with_default(lines.clone(), || events.iter().for_each(log));
        mem::take(&mut lines.0.lock().expect("nobody panics with it"))
    }

    #[test]
    fn a_change_of_mode_is_one_line_that_names_its_event_and_says_why() {
        let cause = Some(Cause::Refused);
        let trip = Event::HealthChanged { from: Health::Suspect, to: Health::Degraded, cause };
        let back = Event::HealthChanged { from: Health::Recovering, to: Health::Live, cause: None };
        let forced = Event::Forced { from: None, to: Some(Forced::Isolated) };
        let free = Event::Forced { from: Some(Forced::Isolated), to: None };
        assert_eq!(
            lines(&[trip, back, forced, free]),
            [
                "WARN message=suspect -> degraded: connection refused event=\"health\"",
                "INFO message=recovering -> live event=\"health\"",
                "WARN message=forced by an operator: isolated event=\"forced\"",
                "INFO message=no longer forced: isolated; health decides event=\"forced\"",
            ],
        );
    }

    #[test]
    fn attempts_to_connect_do_not_flood_a_log_at_its_usual_level() {
        let node: Arc<str> = "cache:6379".into();
        let events = [
            Event::Connect { node: node.clone() },
            Event::Ready { node: node.clone() },
            Event::Error { node: node.clone(), cause: Cause::Refused },
            Event::Reconnecting { node, delay: std::time::Duration::from_millis(50) },
        ];
        let lines = lines(&events);
        assert_eq!(lines.len(), events.len());
        let debug = Level::DEBUG.to_string();
        assert!(lines.iter().all(|line| line.starts_with(&debug)), "{lines:?}");
    }
}

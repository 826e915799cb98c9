//! A dialogue's counterpart in tests: it says what a server would, and looks at what comes out.

use std::time::{Duration, Instant};

use super::{Answer, Dialogue, Heard, Step};
use crate::{
    Failure, Now,
    failure::{Executed, FailureKind},
    reply::ServerError,
    request::split_command,
    resp::{Reply, Value},
};

/// Runs a dialogue step by step.
pub(super) struct Talk<D: Dialogue> {
    pub(super) dialogue: D,
    pub(super) now: Now,
    /// What was sent and not answered.
    out: bool,
    over: bool,
    next: Option<Heard>,
}

/// What a dialogue came to, as far as it went without the world.
#[derive(Debug)]
pub(super) enum Said<T> {
    /// It sent these commands, each with its words joined by spaces.
    Sent(Vec<String>),
    Item(T),
    Waits,
    Sleeps(Duration),
    Over,
    Failed(Failure),
}

impl<D: Dialogue> Talk<D> {
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
    pub(super) fn with(dialogue: D) -> Self {
        let now = Now { instant: Instant::now(), unix: Duration::from_secs(1_000_000_000) };
        Talk { dialogue, now, out: false, over: false, next: Some(Heard::Nothing) }
    }

    /// One step.
    pub(super) fn go_on(&mut self) -> Said<D::Item> {
        assert!(!self.over, "nothing is asked of a dialogue that is over");
        let heard = self.next.take().expect("it waits for something");
        match self.dialogue.step(heard, self.now) {
            Step::Send(batch) => {
                assert!(!self.out, "one pipeline at a time");
                self.out = true;
                self.next = Some(Heard::Sent);
                let words = |at| split_command(batch.bytes_of(at));
                let line = |words: Vec<&[u8]>| {
                    let words = words.into_iter().map(String::from_utf8_lossy);
                    words.collect::<Vec<_>>().join(" ")
                };
                Said::Sent((0..batch.len()).map(words).map(line).collect())
            }
            Step::Yield(item) => {
                self.next = Some(Heard::Nothing);
                Said::Item(item)
            }
            Step::Wait => {
                assert!(self.out, "there is nothing to wait for");
                Said::Waits
            }
            Step::Sleep(span) => Said::Sleeps(span),
            Step::Done(result) => {
                self.over = true;
                result.map_or_else(Said::Failed, |()| Said::Over)
            }
        }
    }

    /// What it sends next, on one line; it must send something.
    #[track_caller]
    pub(super) fn sent(&mut self) -> String {
        match self.go_on() {
            Said::Sent(commands) => commands.join("; "),
            other => panic!("it sends nothing: {}", other.kind()),
        }
    }

    /// The items that it gives until it waits, sleeps or is over; what it sends meanwhile is noted.
    #[track_caller]
    pub(super) fn items(&mut self) -> (Vec<D::Item>, Vec<String>, Said<D::Item>) {
        let (mut items, mut sent) = (Vec::new(), Vec::new());
        loop {
            match self.go_on() {
                Said::Item(item) => items.push(item),
                Said::Sent(commands) => sent.push(commands.join("; ")),
                last => return (items, sent, last),
            }
        }
    }

    /// Answers what was sent, from the connection of this number.
    pub(super) fn answer_from(
        &mut self,
        connection: Option<u64>,
        outcomes: impl IntoIterator<Item = Result<Reply, Failure>>,
    ) -> &mut Self {
        assert!(std::mem::replace(&mut self.out, false), "nothing was asked");
        let answer = Answer::new(Ok(outcomes.into_iter().collect()), connection);
        self.next = Some(Heard::Answer(answer));
        self
    }

    /// Answers what was sent, from the one connection that there is.
    pub(super) fn answer(&mut self, values: impl IntoIterator<Item = Value>) -> &mut Self {
        self.answer_from(Some(1), values.into_iter().map(|value| Ok(Reply::from(value))))
    }

    /// What was sent fails.
    pub(super) fn fail(&mut self, failure: Failure) -> &mut Self {
        assert!(std::mem::replace(&mut self.out, false), "nothing was asked");
        self.next = Some(Heard::Answer(Answer::new(Err(failure), Some(1))));
        self
    }

    /// Time passes, and what slept wakes up.
    pub(super) fn wake_after(&mut self, span: Duration) -> &mut Self {
        self.now = self.now + span;
        self.next = Some(Heard::Awake);
        self
    }
}

impl<T> Said<T> {
    pub(super) fn kind(&self) -> String {
        match self {
            Said::Sent(commands) => format!("sent {commands:?}"),
            Said::Item(_) => "an item".to_owned(),
            Said::Waits => "waits".to_owned(),
            Said::Sleeps(span) => format!("sleeps {span:?}"),
            Said::Over => "over".to_owned(),
            Said::Failed(failure) => failure.to_string(),
        }
    }

    #[track_caller]
    pub(super) fn failure(self) -> Failure {
        match self {
            Said::Failed(failure) => failure,
            other => panic!("it does not fail: {}", other.kind()),
        }
    }
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::Bulk(text.into().into())
}

pub(super) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

/// A server's error.
pub(super) fn refusal(line: &str) -> Failure {
    let error = ServerError::new(line.as_bytes());
    Failure::new(FailureKind::Server(error), Executed::No, "pipeline")
}

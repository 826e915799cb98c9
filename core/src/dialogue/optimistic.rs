//! Optimistic transactions: watch, read, decide, write; and again where somebody else was faster.
//!
//! ```text
//!   WATCH keys, reads ──▶ decide ──nothing──▶ UNWATCH ──▶ done
//!          ▲                 └──commands──▶ MULTI … EXEC ──▶ done
//!          └───────────── nil: a key was changed ┘
//! ```
//!
//! All of it runs on one leased connection, for watching is its matter: if it is lost before EXEC has left,
//! nothing was written, and all of it begins anew on another one. In a cluster a lease is for one slot, and
//! lost with it: so nothing that was watched at one node is written at another.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{Answer, Dialogue, Heard, Step};
use crate::{
    Failure, FailureKind, Now,
    args::ToArgs,
    commands::Spec,
    engine::Batch,
    failure::{self, Executed},
    request::Request,
    resp::Reply,
};

/// How often an optimistic transaction is tried, unless said otherwise. Of those that meet one succeeds
/// each time, so this bounds how many may be at it at once rather than how long they take.
pub const ATTEMPTS_MAX_DEFAULT: u32 = 64;

/// The most that is waited after an attempt that met another, doubled from the first on: a round trip to
/// a server in the same place.
const PAUSE_MIN: Duration = Duration::from_micros(500);
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// The same after an attempt that was kept from its end by the server: while another master is elected or a
/// slot is being moved. All the attempts together are to outlast an election, which takes seconds.
const ABSENT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// What its failures are called by, where they are not those of one of its commands.
const NAME: &str = "optimistic";

/// What an optimistic transaction does, of which all may be repeated.
pub trait Plan: Send + 'static {
    /// What comes of it.
    type Output: Send + 'static;

    /// The commands that read, before anything is decided.
    fn read(&mut self) -> Batch;

    /// Decides by what was read: gives the commands that write, or `None` where nothing is to be written.
    ///
    /// # Errors
    ///
    /// Ends it, with nothing written.
    fn decide(&mut self, read: Vec<Result<Reply, Failure>>) -> Result<Option<Batch>, Failure>;

    /// Makes the output of what was written; `None` where nothing was.
    ///
    /// # Errors
    ///
    /// Where the replies are not what was expected.
    fn finish(
        &mut self,
        written: Option<Vec<Result<Reply, Failure>>>,
    ) -> Result<Self::Output, Failure>;
}

/// The dialogue of an optimistic transaction. It has one item, its output.
pub struct Optimistic<P: Plan> {
    keys: Vec<Bytes>,
    plan: P,
    attempts_max: u32,
    attempts: u32,
    /// Where in its course it is.
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Begin,
    Read,
    Write,
    Unwatch,
    Over,
}

impl<P: Plan> Optimistic<P> {
    /// One that watches `keys` and is tried up to `attempts_max` times, at least once.
    pub fn new(keys: &(impl ToArgs + ?Sized), plan: P, attempts_max: u32) -> Self {
        let mut watched = Vec::new();
        keys.for_each_arg(&mut |key| watched.push(Bytes::copy_from_slice(key.as_bytes())));
        let attempts_max = attempts_max.max(1);
        Optimistic { keys: watched, plan, attempts_max, attempts: 0, at: At::Begin }
    }

    fn begin(&mut self) -> Step<P::Output> {
        self.attempts += 1;
        self.at = At::Read;
        let reads = self.plan.read();
        let mut batch = Batch::new();
        if !self.keys.is_empty() {
            batch.push(&Request::of(const { Spec::of("WATCH") }).args(&self.keys));
        }
        Step::Send(batch.followed_by(&reads).leased())
    }

    fn on_answer(&mut self, answer: Answer, now: Now) -> Step<P::Output> {
        match self.at {
            At::Read => match self.decide(answer) {
                Ok(Some(writes)) => {
                    self.at = At::Write;
                    Step::Send(writes.into_transaction().leased())
                }
                Ok(None) => {
                    self.at = At::Unwatch;
                    let mut batch = Batch::new();
                    batch.push(&Request::of(const { Spec::of("UNWATCH") }));
                    Step::Send(batch.leased())
                }
                Err(failure) => self.again(failure, now),
            },
            At::Write => match answer.outcomes {
                Ok(written) => self.finish(Some(written)),
                Err(failure) => self.again(failure, now),
            },
            // Whatever came of it: the connection is not used for others where it is still watching.
            At::Unwatch => self.finish(None),
            At::Begin | At::Over => Step::Done(Ok(())),
        }
    }

    fn decide(&mut self, answer: Answer) -> Result<Option<Batch>, Failure> {
        let mut outcomes = answer.outcomes?;
        if !self.keys.is_empty() {
            outcomes.remove(0)?;
        }
        // What never arrived says nothing of the keys.
        if let Some(Err(failure)) = outcomes.iter().find(|one| is_passing(one)) {
            return Err(failure.clone());
        }
        self.plan.decide(outcomes)
    }

    fn finish(&mut self, written: Option<Vec<Result<Reply, Failure>>>) -> Step<P::Output> {
        self.at = At::Over;
        match self.plan.finish(written) {
            Ok(output) => Step::Yield(output),
            Err(failure) => Step::Done(Err(self.told(failure))),
        }
    }

    /// Begins anew after a failure if that can help, and nothing was written.
    fn again(&mut self, failure: Failure, now: Now) -> Step<P::Output> {
        let written = failure.executed() != Executed::No && self.at == At::Write;
        let conflict = matches!(failure.kind(), FailureKind::Conflict);
        let passes = conflict || passes(&failure);
        if written || !passes || self.attempts >= self.attempts_max {
            self.at = At::Over;
            return Step::Done(Err(self.told(failure)));
        }
        self.at = At::Begin;
        let most = if conflict { PAUSE_MAX } else { ABSENT_PAUSE_MAX };
        let most = PAUSE_MIN.saturating_mul(1 << (self.attempts - 1).min(16)).min(most);
        // Those who met once are not to meet again; the clock's last digits are chance enough.
        let chance = now.unix.subsec_nanos() / 100 % 100;
        Step::Sleep(most * chance / 100)
    }
}

impl<P: Plan> Optimistic<P> {
    /// A failure, as it is told: of what its caller has called, unless it is about one of his commands; with
    /// the number of attempts of which anything was sent.
    fn told(&self, failure: Failure) -> Failure {
        let conflict = matches!(failure.kind(), FailureKind::Conflict);
        let sent = self.attempts - u32::from(failure.attempts() == 0 && !conflict);
        let of_one = matches!(
            failure.kind(),
            FailureKind::Server(_)
                | FailureKind::Decode(_)
                | FailureKind::Memory(_)
                | FailureKind::Misuse(_)
        );
        let own = matches!(failure.command(), "WATCH" | "UNWATCH" | "transaction");
        let failure = if of_one && !own { failure } else { failure.named(NAME) };
        failure.after(sent)
    }
}

impl<P: Plan> Dialogue for Optimistic<P> {
    type Item = P::Output;

    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, heard: Heard, now: Now) -> Step<P::Output> {
        match heard {
            Heard::Nothing if self.at == At::Over => Step::Done(Ok(())),
            Heard::Nothing | Heard::Awake => self.begin(),
            Heard::Sent => Step::Wait,
            Heard::Answer(answer) => self.on_answer(answer, now),
        }
    }
}

fn is_passing(outcome: &Result<Reply, Failure>) -> bool {
    outcome.as_ref().is_err_and(passes)
}

/// Whether a failure came of the connection, or of a server that can't serve for now.
fn passes(failure: &Failure) -> bool {
    match failure.kind() {
        FailureKind::ConnectionLost(_) => true,
        _ => failure.server_error().is_some_and(failure::passes),
    }
}

/// Keys are left out: they are the caller's data.
impl<P: Plan> fmt::Debug for Optimistic<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Optimistic")
            .field("keys", &self.keys.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

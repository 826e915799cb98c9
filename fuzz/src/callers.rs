//! The callers: they submit, wait, cancel, and take what came of it.

use std::time::Duration;

use unfazed_core::{
    Failure, FailureKind, Request,
    engine::{Flush, LINE_BYTES_FACTOR, LINE_MAX, Rejected, Status},
    failure::{Executed, MemoryRefusal},
    resp::{Reply, Source},
};

use crate::{
    mutants::Mutant,
    server::is_blocking,
    workload::{Asked, Command, Shape, Wish},
    world::{Action, World},
};

/// After so many commands the callers calm down to one in this span, so that no world takes long.
const BUSY_COMMANDS: u64 = 1_000;
const CALM_MICROS: u64 = 200_000;

impl World {
    /// A caller's turn.
    pub(crate) fn caller(&mut self, caller: u64) {
        if self.over {
            return;
        }
        self.ask(caller);
        // A burst now and then, so that queues fill up.
        let most = match self.entropy.below(10) {
            0 | 1 if self.ids < BUSY_COMMANDS => 50,
            _ if self.ids < BUSY_COMMANDS => self.setup.think_micros,
            _ => CALM_MICROS,
        };
        // Never nothing, or draws that are used up would stop the clock.
        let delay = self.entropy.micros(most / 10, most);
        self.at(delay, Action::Caller(caller));
    }

    pub(crate) fn connect(&mut self) {
        let waker = self.waker();
        let ticket = self.engine.connect(Some(waker), self.clock());
        let deadline = self.now + self.setup.config.connect_timeout;
        self.expect(Asked {
            waker,
            shape: Shape::Connect,
            commands: Vec::new(),
            options: unfazed_core::Options::default(),
            deadline,
            ticket,
            submitted: self.seq,
        });
    }

    fn sleep(&mut self) {
        let span = self.entropy.micros(1, 3_000_000);
        self.sleep_for(span);
    }

    /// Waits for time to pass; gives the waker.
    pub(crate) fn sleep_for(&mut self, span: Duration) -> u64 {
        let waker = self.waker();
        let ticket = self.engine.sleep(span, Some(waker), self.clock());
        self.expect(Asked {
            waker,
            shape: Shape::Sleep,
            commands: Vec::new(),
            options: unfazed_core::Options::default(),
            deadline: self.now + span,
            ticket,
            submitted: self.seq,
        });
        waker
    }

    pub(crate) fn waker(&mut self) -> u64 {
        self.wakers += 1;
        self.wakers
    }

    pub(crate) fn expect(&mut self, asked: Asked) {
        let Asked { waker, ticket, .. } = asked;
        let patient = self.over && matches!(asked.shape, Shape::Dialogue | Shape::Sleep);
        self.asked.insert(waker, asked);
        if !patient && self.entropy.chance(8) {
            let delay = self.entropy.micros(0, 300_000);
            self.at(delay, Action::Cancel(waker));
        } else if self.entropy.chance(3) {
            // Another waker in the first one's stead.
            self.engine.set_waiter(ticket, waker);
        }
    }

    /// Submits something.
    pub(crate) fn ask(&mut self, caller: u64) {
        if self.entropy.chance(1) {
            return self.misuse();
        }
        if self.entropy.chance(1) {
            return if self.entropy.chance(50) { self.connect() } else { self.sleep() };
        }
        let wish = Wish::draw(&mut self.entropy, &mut self.ids);
        let wish = self.spread(wish);
        self.wish(&wish, &format!("caller {caller}"));
    }

    /// Submits what somebody wishes for.
    pub(crate) fn wish(&mut self, wish: &Wish, who: &str) {
        let lines: Vec<_> = wish.commands.iter().map(Command::line).collect();
        self.trace(format_args!("{who}: {lines:?} {:?}", wish.options));
        let before = self.engine.status();
        let rejected = self.submit(wish);
        let after = self.engine.status();
        if after.waiting_requests > before.waiting_requests {
            self.count("stood in line for room");
        }
        let Some(rejected) = rejected else { return };
        let shape = |status: &Status| (status.queued_requests, status.queued_bytes, status.tickets);
        if shape(&before) != shape(&after) {
            self.oracle.fail(1, "a refused request left a trace");
        }
        match rejected {
            Rejected::Full => {
                let limits = &self.setup.config.queue;
                let full = before.waiting_requests > 0
                    || before.queued_requests >= limits.requests_max
                    || before.queued_bytes >= limits.bytes_max;
                let line_full = before.waiting_requests >= LINE_MAX
                    || before.waiting_bytes >= limits.bytes_max * LINE_BYTES_FACTOR;
                if !full || !(wish.options.refuse_when_full || line_full) {
                    self.oracle.fail(14, "refused for lack of room where there is room");
                }
                self.count("refused: full");
            }
            Rejected::Failed(failure) => self.refused(&failure),
            _ => {}
        }
    }

    fn refused(&mut self, failure: &Failure) {
        self.oracle.formatted(&format!("{failure} {failure:?}"));
        let closed = matches!(failure.kind(), FailureKind::ClientClosed);
        if !closed || self.closing_since.is_none() || failure.executed() != Executed::No {
            self.oracle.fail(1, format!("refused for no reason: {failure}"));
        }
        self.count("refused: closed");
    }

    /// A command that changes its connection is refused.
    fn misuse(&mut self) {
        if self.entropy.chance(20) {
            return self.misuse_of_leases();
        }
        let request = Request::new("SELECT").arg("3");
        match self.engine.submit(&request, Some(0), self.clock()) {
            Ok(_) => self.oracle.fail(10, "SELECT was let through"),
            Err(_) => self.count("refused: misuse"),
        }
    }

    fn submit(&mut self, wish: &Wish) -> Option<Rejected> {
        let waker = self.waker();
        let now = self.clock();
        let result = if wish.shape == Shape::One {
            let request = wish.commands[0].request().options(wish.options);
            self.engine.submit(&request, Some(waker), now)
        } else {
            self.engine.submit_batch(&wish.batch(), Some(waker), now)
        };
        let (ticket, flush) = match result {
            Ok(accepted) => accepted,
            Err(rejected) => return Some(rejected),
        };
        let deadline = wish.options.deadline.unwrap_or(self.setup.config.deadline);
        self.seq += 1;
        let mut asked = Asked {
            waker,
            shape: wish.shape,
            commands: wish.commands.clone(),
            options: wish.options,
            deadline: self.now + deadline,
            ticket,
            submitted: self.seq,
        };
        asked.deadline += self.longer_for_waits(&asked);
        self.oracle.on_submitted(&asked, self.setup.config.retry.maybe);
        self.expect(asked);
        self.flush_for(flush);
        None
    }

    /// How much later something may end because of what waits in it.
    fn longer_for_waits(&self, asked: &Asked) -> Duration {
        if asked.options.deadline.is_some() || asked.shape == Shape::Whole {
            return Duration::ZERO;
        }
        let wait = |command: &Command| {
            let word = command.words.last().filter(|_| is_blocking(command.name()));
            let seconds = word.and_then(|word| word.parse().ok()).unwrap_or(0.0);
            Duration::from_secs_f64(seconds)
        };
        let waits: Duration = asked.commands.iter().map(wait).sum();
        // Each time that it has no connection it has as long as any other to get one.
        let retry = &self.setup.config.retry;
        let redirects = if self.cluster.is_some() { retry.redirects_max } else { 0 };
        let grants = if asked.moves() { retry.attempts_max + 1 + redirects } else { 0 };
        waits + self.setup.config.deadline * grants
    }

    /// Does what a submit asks of its caller.
    pub(crate) fn flush_for(&mut self, flush: Flush) {
        match flush {
            Flush::Nothing => {}
            Flush::AfterOthers(conn) | Flush::Now(conn) => self.flush(conn),
        }
    }

    /// A caller loses interest.
    pub(crate) fn give_up(&mut self, waker: u64) {
        let Some(asked) = self.asked.remove(&waker) else { return };
        self.cancelled.insert(waker);
        let waits = [Shape::Connect, Shape::Sleep, Shape::Dialogue];
        let detachable = !waits.contains(&asked.shape);
        self.talk_given_up(waker);
        let detached = detachable && self.entropy.chance(50);
        let told_before = self.given_up;
        self.change_given_up(waker, detached);
        if detached {
            self.count("detached");
            self.engine.detach(asked.ticket);
            self.detached.push(asked.ticket);
        } else {
            self.count("cancelled");
            self.engine.cancel(asked.ticket, self.clock());
            if self.engine.is_pending(asked.ticket) || self.engine.take(asked.ticket).is_some() {
                self.oracle.fail(1, "a cancelled ticket is alive");
            }
        }
        if let Some(lease) = self.left.take() {
            self.engine.give_back(lease, self.clock());
        }
        self.holders.asked.remove(&waker);
        self.pop_given_up(&asked, detached, told_before);
    }

    // ---- what came of it -----------------------------------------------------------------------

    /// Takes what has ended. Gives whether anything has.
    pub(crate) fn wake(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut ready = Vec::new();
            self.engine.take_ready(&mut ready);
            if ready.is_empty() {
                return any;
            }
            any = true;
            for waker in ready {
                self.seq += 1;
                match self.mutant {
                    Some(Mutant::LoseWake) if self.entropy.chance(30) => continue,
                    Some(Mutant::LeakTicket) => {
                        self.asked.remove(&waker);
                        continue;
                    }
                    _ => self.woken(waker),
                }
                if self.mutant == Some(Mutant::EndTwice) {
                    self.woken(waker);
                }
            }
        }
    }

    fn woken(&mut self, waker: u64) {
        if self.reader_woken(waker) {
            return;
        }
        let Some(asked) = self.asked.remove(&waker) else {
            let what = if self.cancelled.contains(&waker) { "given up" } else { "not there" };
            return self.oracle.fail(1, format!("a wake-up for what is {what}"));
        };
        let ticket = asked.ticket;
        let outcomes = match asked.shape {
            Shape::One => self.engine.take(ticket).map(|outcome| vec![outcome]),
            Shape::Many => self.engine.take_batch(ticket).and_then(|found| found.spread().ok()),
            Shape::Whole => self.engine.take_batch(ticket).map(|found| {
                // What came to nothing did so for each of its commands.
                let count = asked.commands.len();
                found.spread().unwrap_or_else(|failure| vec![Err(failure); count])
            }),
            Shape::Connect => {
                let result = self.engine.take_wait(ticket);
                let Some(result) = result else {
                    return self.oracle.fail(1, "a wait was woken and has not ended");
                };
                return self.connected(&asked, result);
            }
            Shape::Dialogue => {
                let outcomes = self.engine.take_batch(ticket);
                return self.talk_answered(&asked, outcomes);
            }
            Shape::Sleep => {
                let Some(result) = self.engine.take_wait(ticket) else {
                    return self.oracle.fail(1, "a sleep was ended and has not");
                };
                return self.slept(&asked, result);
            }
            Shape::Topics => {
                let Some(result) = self.engine.take_wait(ticket) else {
                    return self
                        .oracle
                        .fail(1, "a request for topics was woken, and has not ended");
                };
                return self.changed(&asked, result);
            }
        };
        let Some(outcomes) = outcomes.filter(|found| found.len() == asked.commands.len()) else {
            return self.oracle.fail(1, format!("woken, and not ended: {:?}", asked.commands));
        };
        if self.engine.take(ticket).is_some() || self.engine.is_pending(ticket) {
            self.oracle.fail(1, "taken, and still there");
        }
        self.ended.push(ticket);
        if let Some(held) = self.holders.asked.remove(&waker) {
            return self.held_ended(&asked, &held, outcomes);
        }
        if asked.shape == Shape::Whole {
            self.oracle.on_whole(&asked, &outcomes);
        }
        for (command, mut outcome) in asked.commands.iter().zip(outcomes) {
            self.tamper(command, &mut outcome);
            let shown = match &outcome {
                Ok(reply) => format!("{reply:?}"),
                Err(failure) => failure.to_string(),
            };
            self.trace(format_args!("   {} => {shown}", command.line()));
            self.branches(&outcome);
            self.check_spared(&asked, command, outcome.as_ref().err());
            self.oracle.on_ended(&asked, command, &outcome, self.seq, &self.server);
        }
    }

    fn tamper(&mut self, command: &Command, outcome: &mut Result<Reply, Failure>) {
        let unknown = |failure: &Failure| {
            let refusal = FailureKind::Memory(MemoryRefusal::NotRemembered);
            command.name() == "GET" && failure.kind().to_string() == refusal.to_string()
        };
        if self.mutant == Some(Mutant::MakeUp) && outcome.as_ref().is_err_and(unknown) {
            *outcome = Ok(Reply::null().with_source(Source::Unknown));
        }
        if let (Some(Mutant::ForgeSource), Ok(reply)) = (self.mutant, &outcome) {
            *outcome = Ok(reply.clone().with_source(Source::Server));
        }
    }

    fn branches(&mut self, outcome: &Result<Reply, Failure>) {
        let Err(failure) = outcome else { return };
        let what = match failure.kind() {
            FailureKind::Server(_) => "failure: server's error",
            FailureKind::DeadlinePassed(_) => "failure: deadline",
            FailureKind::ConnectionLost(_) => "failure: connection lost",
            FailureKind::Down(_) => "failure: down",
            FailureKind::Isolated => "failure: isolated",
            FailureKind::Memory(_) => "failure: memory refuses",
            FailureKind::Aborted(abort) => match abort.reason() {
                FailureKind::Memory(_) => "failure: transaction discarded by memory",
                _ => "failure: transaction discarded by the server",
            },
            FailureKind::ClientClosed => "failure: client closed",
            _ => "failure: other",
        };
        self.count(what);
        if failure.attempts() > 1 {
            self.count("failed after having been sent again");
        }
    }

    fn slept(&mut self, asked: &Asked, result: Result<(), Failure>) {
        self.trace(format_args!("   sleep => {result:?}"));
        match result {
            Ok(()) if self.now < asked.deadline => {
                self.oracle.fail(12, format!("woken before {:?}", asked.deadline));
            }
            Ok(()) if self.talk_awake(asked.waker) => self.count("dialogues: slept"),
            Ok(()) => self.count("slept"),
            Err(failure) => {
                let ended = matches!(
                    failure.kind(),
                    FailureKind::ClientClosed | FailureKind::RuntimeDropped
                );
                if !ended || failure.executed() != Executed::No {
                    self.oracle.fail(1, format!("a sleep failed: {failure}"));
                }
                self.talk_given_up(asked.waker);
                self.left = None;
                self.count("sleep ended with the client");
            }
        }
    }

    fn connected(&mut self, asked: &Asked, result: Result<(), Failure>) {
        self.trace(format_args!("   connect => {result:?}"));
        let Err(failure) = result else { return };
        self.oracle.formatted(&format!("{failure} {failure:?}"));
        if failure.is_timeout() && self.now < asked.deadline {
            self.oracle.fail(12, format!("{failure}, before {:?}", asked.deadline));
        }
        if failure.executed() != Executed::No {
            self.oracle.fail(6, format!("{failure}"));
        }
        self.count("connect failed");
    }
}

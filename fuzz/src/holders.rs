//! Those who hold a connection of their own for a while: they watch, select, queue by hand, and give it back
//! in whatever state it is. Each has a number, which all of their commands carry.

use std::{collections::BTreeMap, time::Duration};

use unfazed_core::{
    Failure, FailureKind, Options, Request,
    engine::{Batch, Lease, Rejected},
    failure::Executed,
    resp::{Reply, Value},
};

use crate::{
    optimists::TEXTS,
    server::{database_of, key_of},
    workload::{Asked, Command, QUEUES, Shape},
    world::{Action, World},
};

/// How many hold a connection at most.
const HOLDS_MAX: usize = 3;

/// One who holds a connection.
#[derive(Debug)]
pub(crate) struct Hold {
    lease: Lease,
    /// How much he is still going to do.
    steps: u64,
    /// He has said MULTI, and nothing that ends it.
    queued: bool,
    /// The connection was lost, as he was told.
    lost: bool,
}

/// What a request was that somebody made on a connection that he holds.
#[derive(Clone, Debug)]
pub(crate) struct OnHold {
    /// It is EXEC of what was queued by hand.
    executes: bool,
}

/// Those who hold connections, and what they wait for.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    holds: BTreeMap<u64, Hold>,
    numbers: u64,
    pub(crate) asked: BTreeMap<u64, OnHold>,
}

impl Holders {
    /// A number that no other has: an odd one for who holds one connection and no other.
    pub(crate) fn number(&mut self, strict: bool) -> u64 {
        self.numbers += 1;
        2 * self.numbers + u64::from(strict)
    }
}

impl World {
    /// Somebody takes a connection.
    pub(crate) fn holder(&mut self) {
        if self.over {
            return;
        }
        if self.holders.holds.len() < HOLDS_MAX {
            let number = self.holders.number(true);
            match self.engine.lease_for(key_of("wallet", number).as_bytes(), self.clock()) {
                Ok(lease) => {
                    let steps = self.entropy.between(1, 9);
                    self.count("connections held");
                    self.trace(format_args!("holder {number} takes {lease:?}"));
                    let hold = Hold { lease, steps, queued: false, lost: false };
                    self.holders.holds.insert(number, hold);
                    self.hold(number);
                }
                Err(failure) => {
                    let full = matches!(failure.kind(), FailureKind::QueueFull);
                    if self.closing_since.is_none() && !full {
                        self.oracle.fail(1, format!("no connection of one's own: {failure}"));
                    }
                }
            }
        }
        let delay = self.entropy.micros(2_000, 6 * self.setup.think_micros);
        self.at(delay, Action::Holder);
    }

    /// He does something with it.
    pub(crate) fn hold(&mut self, number: u64) {
        let Some(hold) = self.holders.holds.get_mut(&number) else { return };
        if hold.steps == 0 || self.over || hold.lost || self.closing_since.is_some() {
            let lease = hold.lease;
            self.holders.holds.remove(&number);
            self.trace(format_args!("holder {number} gives {lease:?} back"));
            self.engine.give_back(lease, self.clock());
            if self.engine.lost_lease(lease).is_none() {
                self.count("given back with answers outstanding");
            }
            return;
        }
        hold.steps -= 1;
        self.do_something(number);
        let delay = self.entropy.pick(&[0, 500, 5_000, 40_000]);
        let delay = self.entropy.micros(0, delay);
        self.at(delay, Action::Hold(number));
    }

    fn do_something(&mut self, number: u64) {
        // Nobody's keys are of several patterns, so that what is queued by hand can be told from others'.
        let class = if number.is_multiple_of(3) { "cache" } else { "wallet" };
        let key = key_of(class, number);
        self.ids += 1;
        let id = self.ids;
        let value = format!("h{id}");
        let other = self.entropy.below(2);
        let watched = TEXTS[other as usize];
        let queued = self.holders.holds[&number].queued;
        let set = Command::of(&["SET", &key, &value], &[&key], Some(id));
        let (shape, commands) = match self.entropy.below(100) {
            0..20 if !queued => {
                let watch = Command::of(&["WATCH", &key_of("wallet", number), watched], &[], None);
                (Shape::One, vec![watch])
            }
            0..30 if !queued => (Shape::One, vec![Command::of(&["MULTI"], &[], None)]),
            0..30 => (Shape::One, vec![Command::of(&["EXEC"], &[], None)]),
            30..34 if queued => (Shape::One, vec![Command::of(&["DISCARD"], &[], None)]),
            // A cluster has one database.
            30..36 if !queued && self.cluster.is_none() => {
                let index = database_of(number).to_string();
                (Shape::One, vec![Command::of(&["SELECT", &index], &[], None)])
            }
            36..40 if !queued => (Shape::One, vec![Command::of(&["UNWATCH"], &[], None)]),
            40..52 if !queued => {
                let get = Command::of(&["GET", &key], &[&key], None);
                (Shape::Whole, vec![set, get])
            }
            52..60 => {
                let get = Command::of(&["GET", &key], &[&key], None);
                (Shape::Many, vec![get, set])
            }
            60..68 if !queued && self.setup.poppers_wait() => {
                let tag = format!("{}:{id}", key_of("wallet", number));
                let queue = self.entropy.pick(&QUEUES);
                let words = ["BLPOP", queue, &key_of("wallet", number), &tag, "0.05"];
                (Shape::One, vec![Command::of(&words, &[queue], Some(id))])
            }
            60..80 => (Shape::One, vec![Command::of(&["GET", &key], &[&key], None)]),
            _ => (Shape::One, vec![set]),
        };
        self.ask_on(number, shape, commands);
    }

    fn ask_on(&mut self, number: u64, shape: Shape, commands: Vec<Command>) {
        let deadline = self.entropy.chance(60).then(|| self.entropy.millis(20, 2_000));
        let options = Options { deadline, ..Options::default() };
        let hold = self.holders.holds.get_mut(&number).expect("he has one");
        let lease = hold.lease;
        let lines: Vec<_> = commands.iter().map(Command::line).collect();
        let executes = lines[0] == "EXEC";
        match lines[0].as_str() {
            "MULTI" => hold.queued = true,
            "EXEC" | "DISCARD" => hold.queued = false,
            _ => {}
        }
        let lost = self.engine.lost_lease(lease).is_some();
        let (waker, now) = (self.waker(), self.clock());
        self.trace(format_args!("holder {number}: {shape:?} {lines:?} {options:?}"));
        let result = if shape == Shape::One {
            let request = commands[0].request().options(options);
            self.engine.submit_on(lease, &request, Some(waker), now)
        } else {
            let mut batch = Batch::new();
            for command in &commands {
                batch.push(&command.request());
            }
            let batch = batch.options(options);
            let whole = shape == Shape::Whole;
            let batch = if whole { batch.into_transaction() } else { batch };
            self.engine.submit_batch_on(lease, &batch, Some(waker), now)
        };
        let (ticket, flush) = match result {
            Ok(_) if lost => {
                return self.oracle.fail(9, "a connection that was lost is used again");
            }
            Ok(accepted) => accepted,
            Err(rejected) => return self.not_on_hold(number, &rejected, lost),
        };
        self.seq += 1;
        let mut asked = Asked {
            waker,
            shape,
            commands,
            options,
            deadline: self.now + deadline.unwrap_or(self.setup.config.deadline),
            ticket,
            submitted: self.seq,
        };
        if deadline.is_none() && lines[0].starts_with("BLPOP") {
            asked.deadline += Duration::from_millis(50);
        }
        self.oracle.on_held(&asked);
        self.holders.asked.insert(waker, OnHold { executes });
        self.expect(asked);
        self.flush_for(flush);
    }

    fn not_on_hold(&mut self, number: u64, rejected: &Rejected, lost: bool) {
        let hold = self.holders.holds.get_mut(&number).expect("he has one");
        // What he says from now on would not mean what he thinks that it does.
        hold.lost = true;
        match rejected {
            Rejected::Failed(failure) => {
                self.oracle.formatted(&format!("{failure} {failure:?}"));
                let known = match failure.kind() {
                    FailureKind::ConnectionLost(_) => lost,
                    FailureKind::ClientClosed => self.closing_since.is_some(),
                    _ => false,
                };
                if !known || failure.executed() != Executed::No {
                    self.oracle.fail(1, format!("refused for no reason: {failure}"));
                }
                self.count("holders: the connection was lost");
            }
            _ => self.count("holders: refused for lack of room"),
        }
    }

    /// What somebody has asked on a connection that he holds has ended.
    pub(crate) fn held_ended(
        &mut self,
        asked: &Asked,
        held: &OnHold,
        outcomes: Vec<Result<Reply, Failure>>,
    ) {
        if asked.shape == Shape::Whole {
            self.oracle.on_whole(asked, &outcomes);
        }
        for (command, outcome) in asked.commands.iter().zip(outcomes) {
            let shown = match &outcome {
                Ok(reply) => format!("{reply:?}"),
                Err(failure) => failure.to_string(),
            };
            self.trace(format_args!("   {} => {shown}", command.line()));
            if let Err(failure) = &outcome
                && matches!(failure.kind(), FailureKind::Conflict)
            {
                self.count("holders: somebody else was faster");
            }
            if let (true, Ok(reply)) = (held.executes, &outcome) {
                self.executed_by_hand(&reply.view().to_value());
            }
            self.oracle.on_held_ended(asked, command, &outcome, self.seq, &self.server);
        }
    }

    fn executed_by_hand(&mut self, value: &Value) {
        match value {
            Value::Null => self.count("holders: somebody else was faster"),
            Value::Array(_) => self.count("holders: executed by hand"),
            other => self.oracle.fail(9, format!("EXEC answers {other:?}")),
        }
    }

    /// What nobody may say who shares a connection, and nobody at all.
    pub(crate) fn misuse_of_leases(&mut self) {
        let Ok(lease) = self.engine.lease(self.clock()) else { return };
        for words in [["SUBSCRIBE", "c0"], ["HELLO", "3"], ["CLIENT", "REPLY"]] {
            let request = Request::new(words[0]).arg(words[1]);
            if self.engine.submit_on(lease, &request, Some(0), self.clock()).is_ok() {
                self.oracle.fail(10, format!("{words:?} was let through"));
            }
        }
        self.engine.give_back(lease, self.clock());
    }
}

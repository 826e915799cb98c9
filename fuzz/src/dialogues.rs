//! Dialogues under way, run as an adapter runs them: scans, optimistic transactions, consumers of streams. What
//! they come to is for those who began them.

use unfazed_core::{
    Failure,
    dialogue::{Answer, Converse, Dialogue, Heard, Step},
    engine::{Batch, Lease, Outcomes, Place, Rejected},
};

use crate::{
    consumers::{Eater, Entry},
    mutants::Mutant,
    optimists::Optimist,
    scanners::Scanner,
    workload::{Asked, Shape},
    world::World,
};

/// One under way.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) who: Who,
    /// The connection of its own that it has, if it needs one.
    lease: Option<Lease>,
    /// What it waits for, who is to answer it, and on which connection that was to be when it was sent.
    out: Option<(u64, Place, Option<u64>)>,
    /// The waker of its sleep.
    asleep: Option<u64>,
}

/// Whose it is.
#[derive(Debug)]
pub(crate) enum Who {
    Scanner(Scanner),
    Optimist(Optimist),
    Eater(Eater),
}

/// What a dialogue gives.
#[derive(Debug)]
pub(crate) enum Item {
    Member(String),
    Written(Option<usize>),
    Entry(Entry),
}

/// Gives dialogues away instead of holding them.
pub(crate) struct Machine;

impl Converse for Machine {
    type Conversation<D: Dialogue> = D;
    type Settled<D: Dialogue> = D;

    fn converse<D: Dialogue>(&self, dialogue: D) -> D {
        dialogue
    }

    fn settle<D: Dialogue>(&self, dialogue: D) -> D {
        dialogue
    }
}

impl Who {
    fn step(&mut self, heard: Heard, now: unfazed_core::Now) -> Step<Item> {
        match self {
            Who::Scanner(scanner) => scanner.step(heard, now),
            Who::Optimist(one) => turned(one.dialogue.step(heard, now), Item::Written),
            Who::Eater(eater) => turned(eater.dialogue.step(heard, now), Item::Entry),
        }
    }

    /// Whether what it sends goes out on a connection of its own.
    fn is_leased(&self) -> bool {
        matches!(self, Who::Optimist(_))
    }
}

pub(crate) fn turned<T>(step: Step<T>, into: impl Fn(T) -> Item) -> Step<Item> {
    match step {
        Step::Send(batch) => Step::Send(batch),
        Step::Yield(item) => Step::Yield(into(item)),
        Step::Wait => Step::Wait,
        Step::Sleep(span) => Step::Sleep(span),
        Step::Done(result) => Step::Done(result),
    }
}

impl Talk {
    /// The waker of what it waits for.
    pub(crate) fn waits_for(&self) -> Option<u64> {
        self.asleep.or(self.out.map(|(waker, ..)| waker))
    }
}

impl World {
    /// Begins a dialogue.
    pub(crate) fn converse(&mut self, mut who: Who) {
        if let Who::Scanner(scanner) = &mut who {
            scanner.begin(&self.setup.config);
        }
        self.talked += 1;
        let at = self.talked;
        self.talks.insert(at, Talk { who, lease: None, out: None, asleep: None });
        self.step_talk(at, Heard::Nothing);
    }

    pub(crate) fn begin_optimist(&mut self, optimist: Optimist) {
        self.converse(Who::Optimist(optimist));
    }

    fn step_talk(&mut self, at: u64, heard: Heard) {
        let mut heard = heard;
        let now = self.clock();
        loop {
            let Some(mut talk) = self.talks.remove(&at) else { return };
            let step = talk.who.step(heard, now);
            if let Who::Optimist(optimist) = &talk.who {
                self.note_decided(optimist);
            }
            match &step {
                Step::Send(batch) => self.trace(format_args!("dialogue {at} sends {batch:?}")),
                Step::Sleep(span) => self.trace(format_args!("dialogue {at} sleeps {span:?}")),
                _ => {}
            }
            heard = match step {
                Step::Send(batch) => match self.send_for(&mut talk, &batch) {
                    Ok(()) => Heard::Sent,
                    Err(Some(failure)) => {
                        self.drop_if_lost(&mut talk);
                        // As if it had been sent and had failed at once.
                        talk.who.step(Heard::Sent, now);
                        Heard::Answer(Answer::new(Err(failure), None))
                    }
                    Err(None) => {
                        self.count("dialogues: refused");
                        return self.end_talk(&mut talk);
                    }
                },
                Step::Yield(item) => {
                    if !self.given(&mut talk.who, item) {
                        return self.end_talk(&mut talk);
                    }
                    Heard::Nothing
                }
                Step::Wait => {
                    self.talks.insert(at, talk);
                    return;
                }
                Step::Sleep(span) => {
                    talk.asleep = Some(self.sleep_for(span));
                    self.talks.insert(at, talk);
                    return;
                }
                Step::Done(result) => {
                    self.end_talk(&mut talk);
                    return self.talk_over(&talk.who, result);
                }
            };
            self.talks.insert(at, talk);
        }
    }

    /// Sends what a dialogue wants sent. Where that is refused, why; or nothing where there is no room.
    fn send_for(&mut self, talk: &mut Talk, batch: &Batch) -> Result<(), Option<Failure>> {
        let (waker, now) = (self.waker(), self.clock());
        let place = self.engine.place_of(batch);
        let before = self.engine.connection_at(place);
        let result = if talk.who.is_leased() {
            let lease = match talk.lease {
                Some(lease) => lease,
                None => self.engine.lease(now).map_err(Some)?,
            };
            talk.lease = Some(lease);
            self.engine.submit_batch_on(lease, batch, Some(waker), now)
        } else {
            self.engine.submit_batch(batch, Some(waker), now)
        };
        let (ticket, flush) = result.map_err(|rejected| match rejected {
            Rejected::Failed(failure) => Some(failure),
            _ => None,
        })?;
        talk.out = Some((waker, place, before));
        let mut deadline = self.now + self.setup.config.deadline;
        if let Who::Eater(eater) = &talk.who {
            // It may wait at the server, and has as long as any other to get a connection for that.
            deadline += eater.pause + self.setup.config.deadline * 12;
        }
        self.expect(Asked {
            waker,
            shape: Shape::Dialogue,
            commands: Vec::new(),
            options: unfazed_core::Options::default(),
            deadline,
            ticket,
            submitted: self.seq,
        });
        self.flush_for(flush);
        Ok(())
    }

    /// A connection that is lost is of no use to it any more.
    fn drop_if_lost(&mut self, talk: &mut Talk) {
        let lost = talk.lease.take_if(|lease| self.engine.lost_lease(*lease).is_some());
        if let Some(lease) = lost {
            self.engine.give_back(lease, self.clock());
        }
    }

    /// What it has of the client goes back.
    fn end_talk(&mut self, talk: &mut Talk) {
        if let Some(lease) = talk.lease.take() {
            self.engine.give_back(lease, self.clock());
        }
    }

    /// Takes an item; gives whether its taker wants more.
    fn given(&mut self, who: &mut Who, item: Item) -> bool {
        match (who, item) {
            (Who::Scanner(scanner), Item::Member(member)) => self.scanned(scanner, member),
            (Who::Optimist(optimist), Item::Written(written)) => {
                self.optimist_over(optimist, Ok(written));
                return false;
            }
            (Who::Eater(eater), Item::Entry(entry)) => return self.eat(eater, &entry),
            (who, item) => self.oracle.fail(2, format!("{who:?} gives {item:?}")),
        }
        true
    }

    fn talk_over(&mut self, who: &Who, result: Result<(), Failure>) {
        if let Err(failure) = &result {
            self.oracle.formatted(&format!("{failure} {failure:?}"));
        }
        match (who, result) {
            (Who::Scanner(scanner), result) => self.scan_over(scanner, result.is_ok()),
            (Who::Optimist(optimist), Err(failure)) => self.optimist_over(optimist, Err(&failure)),
            (Who::Eater(_), Err(failure)) => {
                self.trace(format_args!("   a consumer has ended: {failure}"));
                self.count("consumers: ended with a failure");
            }
            (who, Ok(())) => self.oracle.fail(13, format!("{who:?} ends without a word")),
        }
    }

    /// What a dialogue has sent has ended.
    pub(crate) fn talk_answered(&mut self, asked: &Asked, outcomes: Option<Outcomes>) {
        let mine = |talk: &Talk| talk.out.is_some_and(|(waker, ..)| waker == asked.waker);
        let Some((at, talk)) = self.talks.iter_mut().find(|(_, talk)| mine(talk)) else { return };
        let (at, (_, place, before)) = (*at, talk.out.take().expect("it is owed"));
        if let Some(mut talk) = self.talks.remove(&at) {
            self.drop_if_lost(&mut talk);
            self.talks.insert(at, talk);
        }
        let Some(outcomes) = outcomes else {
            return self.oracle.fail(1, "a dialogue was woken, and nothing has ended");
        };
        let same = !outcomes.strayed() && before == self.engine.connection_at(place);
        let connection = match self.mutant {
            Some(Mutant::OneConnection) => Some(1),
            _ => before.filter(|_| same),
        };
        self.step_talk(at, Heard::Answer(Answer::new(outcomes.spread(), connection)));
    }

    /// A sleep has ended: gives whether it was a dialogue's.
    pub(crate) fn talk_awake(&mut self, waker: u64) -> bool {
        let mut talks = self.talks.iter_mut();
        let Some((at, talk)) = talks.find(|(_, talk)| talk.asleep == Some(waker)) else {
            return false;
        };
        talk.asleep = None;
        let at = *at;
        self.step_talk(at, Heard::Awake);
        true
    }

    /// Whoever holds a dialogue loses interest.
    pub(crate) fn talk_given_up(&mut self, waker: u64) {
        let mine = |talk: &Talk| {
            talk.asleep == Some(waker) || talk.out.is_some_and(|(out, ..)| out == waker)
        };
        let found = self.talks.iter().find(|(_, talk)| mine(talk)).map(|(at, _)| *at);
        // What it has goes back once what it has sent was given up.
        self.left = found.and_then(|at| self.talks.remove(&at)?.lease);
    }
}

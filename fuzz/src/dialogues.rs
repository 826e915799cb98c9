//! Somebody scans a set that never changes, through everything that happens: whatever a scan comes to, if it
//! ends well it has missed nothing.

use std::collections::BTreeSet;

use unfazed_core::{
    Failure,
    dialogue::{Answer, Converse, Dialogue, Heard, Scan, Scans, Step},
    resp::Reply,
};

use crate::{
    mutants::Mutant,
    server::{MEMBERS_KEY, members},
    workload::{Asked, Shape},
    world::{Action, World},
};

/// One scan under way.
#[derive(Debug)]
pub(crate) struct Talk {
    scan: Scan<String>,
    seen: BTreeSet<String>,
    /// What it waits for, and how many connections there had been when that was sent.
    out: Option<(u64, u64)>,
}

/// Gives dialogues away instead of holding them.
struct Machine;

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

/// How many scans are under way at most.
const TALKS_MAX: usize = 3;

impl World {
    /// Somebody begins to scan.
    pub(crate) fn talker(&mut self, at: u64) {
        if self.over || self.closing_since.is_some() {
            return;
        }
        if self.talks.len() < TALKS_MAX {
            let scan = Machine.sscan::<String>(MEMBERS_KEY);
            self.talks.insert(at, Talk { scan, seen: BTreeSet::new(), out: None });
            self.count("scans");
            self.step_talk(at, Heard::Nothing);
        }
        let delay = self.entropy.millis(20, 400);
        self.at(delay, Action::Talker(at + 1));
    }

    fn step_talk(&mut self, at: u64, heard: Heard) {
        let mut heard = heard;
        let now = self.clock();
        loop {
            let Some(talk) = self.talks.get_mut(&at) else { return };
            heard = match talk.scan.step(heard, now) {
                Step::Send(batch) => {
                    let waker = self.waker();
                    let made = self.engine.connections_made();
                    let Ok((ticket, flush)) = self.engine.submit_batch(&batch, Some(waker), now)
                    else {
                        drop(self.talks.remove(&at));
                        return self.count("scans: refused");
                    };
                    self.talks.get_mut(&at).expect("it is under way").out = Some((waker, made));
                    self.expect(Asked {
                        waker,
                        shape: Shape::Dialogue,
                        commands: Vec::new(),
                        options: unfazed_core::Options::default(),
                        deadline: self.now + self.setup.config.deadline,
                        ticket,
                        submitted: self.seq,
                    });
                    self.flush_for(flush);
                    Heard::Sent
                }
                Step::Yield(member) => {
                    let stranger = !members().contains(&member);
                    self.talks.get_mut(&at).expect("it is under way").seen.insert(member.clone());
                    if stranger {
                        self.oracle.fail(2, format!("a scan gives {member}, which is not there"));
                    }
                    Heard::Nothing
                }
                Step::Wait => return,
                Step::Sleep(_) => return self.oracle.fail(13, "a scan sleeps"),
                Step::Done(result) => return self.talk_over(at, result),
            };
        }
    }

    fn talk_over(&mut self, at: u64, result: Result<(), Failure>) {
        let Some(talk) = self.talks.remove(&at) else { return };
        self.trace(format_args!("   scan {at} has seen {}: {result:?}", talk.seen.len()));
        if talk.scan.restarts() > 0 {
            self.count("scans: begun anew");
        }
        match result {
            Ok(()) => {
                self.count("scans: ended well");
                let missed: Vec<_> = members().difference(&talk.seen).cloned().collect();
                if !missed.is_empty() {
                    self.oracle.fail(2, format!("a scan has missed {missed:?}"));
                }
            }
            Err(failure) => {
                self.oracle.formatted(&format!("{failure} {failure:?}"));
                self.count("scans: failed");
            }
        }
    }

    /// What a scan has sent has ended.
    pub(crate) fn talk_answered(
        &mut self,
        asked: &Asked,
        outcomes: Option<Vec<Result<Reply, Failure>>>,
    ) {
        let mine = |talk: &&Talk| talk.out.is_some_and(|(waker, _)| waker == asked.waker);
        let Some((at, made)) = self
            .talks
            .iter()
            .find(|(_, talk)| mine(talk))
            .and_then(|(at, talk)| Some((*at, talk.out?.1)))
        else {
            return;
        };
        self.talks.get_mut(&at).expect("just found").out = None;
        let Some(outcomes) = outcomes else {
            return self.oracle.fail(1, "a scan was woken, and nothing has ended");
        };
        let same = made == self.engine.connections_made();
        let connection = match self.mutant {
            Some(Mutant::OneConnection) => Some(1),
            _ => Some(made).filter(|_| same),
        };
        self.step_talk(at, Heard::Answer(Answer::new(Ok(outcomes), connection)));
    }

    /// Whoever scans loses interest.
    pub(crate) fn talk_given_up(&mut self, waker: u64) {
        self.talks.retain(|_, talk| talk.out.is_none_or(|(out, _)| out != waker));
    }
}

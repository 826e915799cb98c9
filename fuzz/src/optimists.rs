//! Optimistic transactions: each adds its number to a text that it has read, and others add theirs without
//! reading. No number is lost, and none is there twice.

use std::sync::{Arc, Mutex};

use unfazed_core::{
    Failure, Request,
    dialogue::{Optimistic, Plan},
    engine::Batch,
    failure::Executed,
    resp::{Reply, Value},
};

use crate::{
    server::key_of,
    workload::{Command, Shape, Wish},
    world::{Action, World},
};

/// The texts that are added to.
pub(crate) const TEXTS: [&str; 2] = ["wallet:{a}:opt:0", "wallet:{a}:opt:1"];

/// A key that expires under those who watch it.
const PASSING: &str = "wallet:{a}:opt:x";

/// How many of them there are in one world, so that the texts stay short.
const OPTIMISTS_MAX: u64 = 40;

/// What is to be done in one optimistic transaction.
#[derive(Debug)]
pub(crate) struct Adding {
    text: &'static str,
    holder: u64,
    /// Whether it decides to write nothing.
    shy: bool,
    /// What it has decided, which the oracle is to know before it is sent.
    decided: Arc<Mutex<Vec<Vec<String>>>>,
}

/// One under way.
#[derive(Debug)]
pub(crate) struct Optimist {
    pub(crate) dialogue: Optimistic<Adding>,
    text: &'static str,
    holder: u64,
    decided: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Plan for Adding {
    type Output = Option<usize>;

    fn read(&mut self) -> Batch {
        let mut batch = Batch::new();
        let tag = key_of("wallet", self.holder);
        batch.push(&Request::new("MGET").arg(self.text).arg(PASSING).arg(&tag));
        batch
    }

    fn decide(&mut self, mut read: Vec<Result<Reply, Failure>>) -> Result<Option<Batch>, Failure> {
        let text = match read.swap_remove(0)?.view().to_value() {
            Value::Array(values) => values.into_iter().next(),
            _ => None,
        };
        let text = match text {
            Some(Value::Bulk(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        if self.shy {
            return Ok(None);
        }
        let text = format!("{text}{};", self.holder);
        let tag = key_of("wallet", self.holder);
        let lines = vec![format!("MSET {} {text} {tag} {text}", self.text)];
        self.decided.lock().expect("nobody panics with it").push(lines);
        let mut batch = Batch::new();
        batch.push(&Request::new("MSET").arg(self.text).arg(&text).arg(&tag).arg(&text));
        Ok(Some(batch))
    }

    fn finish(
        &mut self,
        written: Option<Vec<Result<Reply, Failure>>>,
    ) -> Result<Option<usize>, Failure> {
        let Some(written) = written else { return Ok(None) };
        let all: Result<Vec<_>, _> = written.into_iter().collect();
        Ok(Some(all?.len()))
    }
}

impl World {
    /// Somebody begins an optimistic transaction.
    pub(crate) fn optimist(&mut self) {
        if self.over || self.closing_since.is_some() || self.optimists == OPTIMISTS_MAX {
            return;
        }
        self.optimists += 1;
        let holder = self.holders.number(false);
        let text = self.entropy.pick(&TEXTS);
        let decided = Arc::new(Mutex::new(Vec::new()));
        let shy = self.entropy.chance(10);
        let plan = Adding { text, holder, shy, decided: decided.clone() };
        let keys = [text.to_owned(), PASSING.to_owned(), key_of("wallet", holder)];
        let attempts = self.entropy.pick(&[64, 5, 1]);
        let dialogue = Optimistic::new(&keys[..], plan, attempts);
        self.count("optimistic transactions");
        self.begin_optimist(Optimist { dialogue, text, holder, decided });
        let delay = self.entropy.micros(1_000, 4 * self.setup.think_micros);
        self.at(delay, Action::Optimist);
    }

    /// Somebody writes to what others watch.
    pub(crate) fn meddler(&mut self) {
        if self.over {
            return;
        }
        self.ids += 1;
        let text = self.entropy.pick(&TEXTS);
        let command = if self.entropy.chance(50) {
            Command::of(&["SET", PASSING, &format!("{};", self.ids), "PX", "30"], &[PASSING], None)
        } else {
            let more = format!("m{};", self.ids);
            Command::of(&["APPEND", text, &more], &[text], Some(self.ids))
        };
        let options = unfazed_core::Options::default();
        self.wish(&Wish { commands: vec![command], shape: Shape::One, options }, "meddler");
        let delay = self.entropy.micros(1_000, 8 * self.setup.think_micros);
        self.at(delay, Action::Meddler);
    }

    /// What was decided may stand between MULTI and EXEC, and nowhere else.
    pub(crate) fn note_decided(&mut self, optimist: &Optimist) {
        let decided = std::mem::take(&mut *optimist.decided.lock().expect("nobody panics with it"));
        for lines in decided {
            let bytes: usize = lines.iter().map(String::len).sum();
            self.decided_bytes_max = self.decided_bytes_max.max(bytes);
            self.oracle.on_decided(optimist.text, optimist.holder, lines);
        }
    }

    pub(crate) fn optimist_over(
        &mut self,
        optimist: &Optimist,
        result: Result<Option<usize>, &Failure>,
    ) {
        let (text, holder) = (optimist.text, optimist.holder);
        self.trace(format_args!("   optimist {holder} on {text}: {result:?}"));
        match result {
            Ok(Some(_)) => {
                self.count("optimistic transactions: written");
                self.oracle.on_added(text, holder, Some(true));
            }
            Ok(None) => {
                self.count("optimistic transactions: nothing to write");
                self.oracle.on_added(text, holder, Some(false));
            }
            Err(failure) => {
                self.oracle.formatted(&format!("{failure} {failure:?}"));
                self.count(match failure.executed() {
                    Executed::No => "optimistic transactions: no",
                    _ => "optimistic transactions: maybe",
                });
                let known = (failure.executed() == Executed::No).then_some(false);
                self.oracle.on_added(text, holder, known);
            }
        }
    }
}

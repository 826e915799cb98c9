//! Native scripts: functions of the user's that memory runs in a script's stead.
//!
//! The engine is called under a lock, and foreign code is not to run there: it might ask for that very
//! lock. So a run goes out as an [`Output::Run`], and what came of it comes back as an
//! [`Input::Ran`](super::Input::Ran). Until then all that memory is to answer waits, as it does on a
//! server while a script runs; and by then the server may be back, so the command is placed anew, and
//! what was run counts only if memory still is to answer it, and holds what it held.

use std::collections::VecDeque;

use super::{Engine, Output, Parked};
use crate::{
    connection::Op,
    failure::{FailureKind, MEMORY, MemoryRefusal},
    fallback::{NativeDone, NativeRun, misuse},
    reply::ServerError,
    request::split_command,
    resp::{Reply, Source},
};

/// The script that is being run, and what waits behind it.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    runs: u64,
    out: Option<Out>,
    behind: VecDeque<Parked>,
    /// Counts how often it was changed who answers.
    era: u64,
}

#[derive(Debug)]
struct Out {
    /// The number of the run.
    run: u64,
    /// When it began.
    era: (u64, u64),
    /// The command that it is for, unless that was given up.
    parked: Option<Parked>,
}

impl Scripts {
    pub(super) fn len(&self) -> usize {
        let out = self.out.as_ref().is_some_and(|out| out.parked.is_some());
        self.behind.len() + usize::from(out)
    }

    /// Takes those out for which `gone` holds. A run that is out stays out.
    pub(super) fn take(&mut self, gone: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let mut all = Vec::new();
        if let Some(out) = &mut self.out {
            all.extend(out.parked.take_if(|parked| gone(parked)));
        }
        if self.behind.iter().any(&gone) {
            let (taken, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.behind).into_iter().partition(&gone);
            all.extend(taken);
            self.behind = kept.into();
        }
        all
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// Lets a command wait for the script that is out.
    pub(super) fn wait(&mut self, parked: Parked) {
        self.behind.push_back(parked);
    }

    /// It was changed who answers; by the time that memory does so again it may hold something else.
    pub(super) fn stale(&mut self) {
        self.era += 1;
    }

    /// Forgets the run that is out: what comes of it is inert.
    pub(super) fn abandon(&mut self) {
        self.out = None;
    }
}

impl<W> Engine<W> {
    /// Has a native script run, if one stands in for what the command runs, and has the command wait
    /// if one runs already; gives it back otherwise.
    pub(super) fn begin_script(&mut self, parked: Parked) -> Option<Parked> {
        let Parked { op, bytes, .. } = &parked;
        if self.scripts.is_out() {
            self.scripts.wait(parked);
            return None;
        }
        if !op.spec.is_script() {
            return Some(parked);
        }
        let words = split_command(bytes);
        let args = &words[op.spec.words()..];
        let Some(function) = self.config.native_scripts.find(op.spec, args).cloned() else {
            return Some(parked);
        };
        if let Some(error) = misuse(op.spec, args) {
            self.fail_script(&parked.op, &Reply::from(error));
            return None;
        }
        let (seed, now) = (self.rng.next(), self.now);
        let lent = match &self.store {
            Some(store) => Ok(store.lend_to_script(op.spec, args, seed, now)),
            None => self.memory.lend_to_script(op.spec, op.standing, args, seed, now),
        };
        match lent {
            Ok(lent) => {
                self.scripts.runs += 1;
                let run = NativeRun::new(self.scripts.runs, function, op.spec, &words, lent);
                self.outputs.push_back(Output::Run(run));
                self.stirred = true;
                let (run, era) = (self.scripts.runs, self.era_of_memory());
                self.scripts.out = Some(Out { run, era, parked: Some(parked) });
            }
            Err(refusal) => self.refuse_in_memory(&parked.op, refusal),
        }
        None
    }

    /// A script has run.
    pub(super) fn on_ran(&mut self, done: NativeDone) {
        let Some(out) = self.scripts.out.take_if(|out| out.run == done.id) else { return };
        if let Some(parked) = out.parked {
            let current = out.era == self.era_of_memory();
            if !current {
                self.reached(super::trial::Rare::StaleScript);
            }
            self.place_with(parked, current.then_some(done));
        }
        // The first of them may be a script again, for which all that follow wait.
        for parked in std::mem::take(&mut self.scripts.behind) {
            self.place(parked);
        }
        self.announce();
    }

    /// Changes when memory was changed by something else than the commands that it answered.
    fn era_of_memory(&self) -> (u64, u64) {
        (self.scripts.era, self.memory.era())
    }

    /// Ends a script that failed: nothing of it was kept.
    fn fail_script(&mut self, op: &Op, reply: &Reply) {
        let error = reply.error().unwrap_or_else(|| ServerError::new(b"ERR"));
        let failure = self.failure(op, FailureKind::Server(error), op.executed_so_far());
        self.end(op, Err(failure.at(Some(MEMORY.into()))));
    }

    /// Takes over what a script has done, all of it or nothing.
    pub(super) fn end_script(&mut self, parked: Parked, done: NativeDone) {
        let NativeDone { result, store: lent, .. } = done;
        let op = &parked.op;
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => return self.refuse_in_memory(op, refusal),
        };
        if reply.is_error() {
            return self.fail_script(op, &reply);
        }
        let taken = match &self.store {
            Some(own) => match own.take_from_script(&lent, self.now) {
                // Others have it as well, and have changed what the script went by.
                Ok(false) => return self.place_in_store(parked, None),
                Ok(true) => Ok(Source::Store),
                Err(bound) => Err(MemoryRefusal::Full(bound)),
            },
            None => {
                let taken = self.memory.take_from_script(op.standing, &lent, self.now);
                taken.map(|()| lent.source())
            }
        };
        match taken {
            Ok(source) => self.end_from_memory(op, reply.with_source(source)),
            Err(refusal) => self.refuse_in_memory(op, refusal),
        }
        self.tell_of_memory();
    }
}

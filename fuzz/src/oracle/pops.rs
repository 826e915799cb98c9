//! What becomes of elements that were popped by commands that wait: each was given to the caller whose
//! command popped it, or its loss was told as *maybe*.

use unfazed_core::{Executed, Failure, resp::Value};

use super::Oracle;
use crate::{
    server::{Server, is_blocking},
    workload::Command,
};

/// What the caller of one pop knows of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pop {
    /// It may be carried out several times: its caller wants that.
    repeats: bool,
    known: Known,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Known {
    /// It has not ended.
    #[default]
    Open,
    /// It was given this.
    Given(Option<String>),
    /// It was told that nobody knows, or does not want to know.
    Nothing,
    /// It was told that nothing was carried out.
    NotExecuted,
    /// It was given up, and nobody was told that it may have popped something.
    Untold,
}

impl Oracle {
    pub(super) fn on_pop(&mut self, command: &Command, repeats: bool) {
        if is_blocking(command.name()) {
            self.pops.insert(command.line(), Pop { repeats, known: Known::Open });
        }
    }

    pub(super) fn on_popped(&mut self, command: &Command, outcome: Result<&Value, &Failure>) {
        if !is_blocking(command.name()) {
            return;
        }
        let known = match outcome {
            Ok(Value::Null) => Known::Given(None),
            // It was queued by hand: what it pops is in the answer to EXEC.
            Ok(Value::Simple(_)) => Known::Nothing,
            Ok(Value::Array(parts)) => Known::Given(parts.last().and_then(text)),
            Ok(value) => Known::Given(text(value)),
            Err(failure) => match failure.executed() {
                Executed::No => Known::NotExecuted,
                _ => Known::Nothing,
            },
        };
        self.now_known(&command.line(), known);
    }

    /// Nobody is to hear of it, and its caller wants that.
    pub fn on_pop_detached(&mut self, line: &str) {
        self.now_known(line, Known::Nothing);
    }

    /// Its caller lost interest; `told` says whether operators have heard that it may have popped something.
    pub fn on_pop_cancelled(&mut self, line: &str, told: bool) {
        self.now_known(line, if told { Known::Nothing } else { Known::Untold });
    }

    fn now_known(&mut self, line: &str, known: Known) {
        if let Some(pop) = self.pops.get_mut(line) {
            pop.known = known;
        }
    }

    /// Holds what was popped against what callers know.
    pub(super) fn check_pops(&mut self, server: &Server) {
        let mut broken = None;
        for (line, popped) in &server.popped {
            let Some(pop) = self.pops.get(line) else { continue };
            let holds = match &pop.known {
                Known::Open | Known::Nothing => true,
                Known::Given(Some(element)) => {
                    popped.contains(element) && (popped.len() == 1 || pop.repeats)
                }
                Known::Given(None) => popped.is_empty() || pop.repeats,
                Known::NotExecuted | Known::Untold => popped.is_empty(),
            };
            if !holds {
                broken = Some(format!("{line} has popped {popped:?}: {pop:?}"));
            }
        }
        self.popped_held = server.popped.len() as u64;
        if let Some(what) = broken {
            self.fail(6, what);
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

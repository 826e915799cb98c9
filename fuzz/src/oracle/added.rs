//! What optimistic transactions have added to texts that they have read: nothing is lost, and nothing is there
//! twice.

use std::collections::BTreeSet;

use super::Oracle;
use crate::server::{Data, Server};

/// One optimistic transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Addition {
    text: String,
    /// The lines that would have written it, one for each attempt.
    lines: BTreeSet<String>,
    /// Whether it was written, as far as its caller knows.
    known: Option<bool>,
}

impl Oracle {
    /// It has decided to write this.
    pub fn on_decided(&mut self, text: &str, holder: u64, lines: Vec<String>) {
        let addition = self.additions.entry(holder).or_default();
        text.clone_into(&mut addition.text);
        addition.lines.insert(lines[0].clone());
        for line in &lines {
            self.in_wholes.insert(line.clone());
        }
        self.wholes.insert(lines);
    }

    /// It has ended: it was written, was not, or nobody knows.
    pub fn on_added(&mut self, text: &str, holder: u64, known: Option<bool>) {
        let addition = self.additions.entry(holder).or_default();
        text.clone_into(&mut addition.text);
        addition.known = known;
    }

    /// Holds what stands in the texts, as far as that is known, against what was added.
    pub(super) fn check_additions<'d>(
        &mut self,
        server: &Server,
        text_of: impl Fn(&str) -> Option<Option<&'d Data>>,
    ) {
        let mut broken = None;
        for (holder, addition) in &self.additions {
            let Addition { text, lines, known } = addition;
            let ledger = lines.iter().filter_map(|line| server.ledger.get(line));
            let executed: Vec<_> = ledger.filter(|known| known.executed > 0).collect();
            let times: u32 = executed.iter().map(|known| known.executed).sum();
            let last = executed.iter().map(|known| known.last).max().unwrap_or(0);
            if times > 1 {
                broken = Some(format!("{holder} was added to {text} {times} times"));
            }
            match known {
                Some(true) if times == 0 => {
                    broken = Some(format!("{holder} was added to {text}, and was not"));
                }
                Some(false) if times > 0 => {
                    broken = Some(format!("{holder} was not added to {text}, and was"));
                }
                _ => {}
            }
            let holds = match text_of(text) {
                Some(Some(Data::Text(text))) => String::from_utf8_lossy(text).into_owned(),
                Some(_) => String::new(),
                None => continue,
            };
            let found = holds.split_terminator(';').filter(|one| *one == holder.to_string());
            let found = found.count();
            let mut losses = server.wiped_at.iter().chain(self.lost.get(text));
            let wiped = losses.any(|at| *at > last);
            if found > 1 || (found == 0 && times > 0 && !wiped) {
                broken = Some(format!("{holder} is {found} times in {text}: {holds}"));
            }
        }
        self.added_held = self.additions.len() as u64;
        if let Some(what) = broken {
            self.fail(9, what);
        }
    }
}

//! What is read, held against all that was written before.

use unfazed_core::{
    engine::Health,
    fallback::Policy,
    resp::{Source, Value},
};

use super::{Oracle, WriteFact};
use crate::server::Server;

/// What was asked by who reads, and who answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) submitted: u64,
    pub(super) source: Source,
    pub(super) misses: bool,
    pub(super) degrades: bool,
    /// The era in which it was submitted.
    pub(super) era: u64,
    /// It is not known in which stretch it was answered.
    pub(super) vague: bool,
}

impl Oracle {
    /// Holds what was read against all that was written.
    pub(super) fn check_read(&mut self, key: &str, value: &Value, read: Reading, server: &Server) {
        let Reading { submitted, source, misses, degrades, era, vague } = read;
        let from_memory = source != Source::Server;
        if misses && from_memory {
            if *value != Value::Null {
                self.fail(18, format!("{key} is a miss, and reads {value:?}"));
            }
            return;
        }
        let old_master = !from_memory && self.two_masters;
        if self.lost.contains_key(key) || old_master {
            return;
        }
        // In a cluster each shard has its own stretches.
        let vague = vague || self.in_cluster;
        if key.ends_with(":list") || key.contains(":n:") || self.policy.is_none() {
            return;
        }
        let [invalidates, replayed, only_read] = [
            (self.policy == Some(Policy::Invalidate) && key.starts_with("cache"))
                || key.starts_with("miss"),
            key.starts_with("last") || key.starts_with("sum"),
            key.starts_with("old"),
        ];
        if !key.starts_with("cache") && !invalidates && !replayed && !only_read {
            return;
        }
        if only_read && from_memory && *value == Value::Null {
            return self.fail(18, format!("{key} is made up"));
        }
        self.weighed += u64::from(from_memory);
        let facts = self.writes.get(key).map_or(&[][..], Vec::as_slice);
        let text = match value {
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Null => {
                if from_memory && let Some(lost) = self.lost_in_memory(facts, submitted) {
                    self.fail(7, format!("{key} reads nothing, and {lost:?} was acknowledged"));
                }
                return;
            }
            other => return self.fail(2, format!("{key} reads {other:?}")),
        };
        // When the value came to be: carried out by the server or acknowledged in memory, last of all.
        let mut born = 0;
        let mut last = None;
        for piece in text.split_terminator(';') {
            let Some((of, number)) = piece.split_once('=') else {
                return self.fail(2, format!("{key} reads {text:?}"));
            };
            if of != key {
                return self.fail(2, format!("{key} reads what belongs to {of}"));
            }
            if let Some(foreign) = number.strip_prefix('x') {
                (born, last) = (foreign.parse().unwrap_or(0), None);
                continue;
            }
            let id = number.parse().ok();
            let Some(fact) = facts.iter().find(|fact| fact.id.is_some() && fact.id == id) else {
                return self.fail(2, format!("{key} reads {text:?}, which nobody wrote"));
            };
            if fact.failed_no {
                return self.fail(6, format!("{key} reads {text:?}, which was not executed"));
            }
            let at_server = server.ledger.get(&fact.line).filter(|known| known.executed > 0);
            let in_memory = fact.acked.filter(|(_, source)| *source != Source::Server);
            let forgotten = at_server.is_none() && in_memory.is_some() && fact.era < era;
            if from_memory && forgotten && !replayed && !self.in_cluster {
                return self.fail(7, format!("{key} reads {text:?}, forgotten by recovery"));
            }
            born = at_server.map_or(0, |known| known.last);
            born = born.max(fact.acked.map_or(0, |(at, _)| at));
            // Of a command that was split and failed a part may stand in memory, and be replayed from there.
            let in_part = self.in_cluster && fact.maybe && fact.line.contains("MSET");
            if fact.ended.is_none() || (in_part && (from_memory || replayed)) {
                born = u64::MAX;
            }
            last = Some(fact.line.clone());
        }
        let newer = facts.iter().find(|newer| {
            let Some((acked, by)) = newer.acked else { return false };
            if acked > submitted || !newer.sets || last.as_ref() == Some(&newer.line) {
                return false;
            }
            // Beyond an outage only what the client has not said that it gave up.
            let (invalidates, replayed) = (invalidates && !self.gave_up, replayed && !self.gave_up);
            // What memory says of the whole may be of another part: this one was carried out in its place.
            let part_done = newer.part
                && server.ledger.get(&newer.line).is_some_and(|known| known.executed > 0);
            match (by, from_memory) {
                (_, false) if part_done => false,
                (Source::Server, true) => born < newer.submitted,
                (Source::Server, false) => false,
                // Recovery deletes the key after the write was acknowledged, and before the server is
                // asked about it again.
                (_, false) if replayed => degrades && born < newer.submitted,
                (_, false) => degrades && invalidates && born < newer.acked_from,
                (_, true) if vague || newer.vague => false,
                (_, true) if newer.stretch == self.stretch => {
                    !newer.dropped && born < newer.submitted
                }
                // A write that was dropped as a miss shows only once its key has been deleted, if it is.
                (_, true) if newer.dropped => {
                    invalidates && newer.era < era && born < newer.submitted
                }
                (_, true) => (invalidates || replayed) && born < newer.submitted,
            }
        });
        if let Some(newer) = newer {
            let what = format!(
                "{key} reads {text:?} from {source:?} (of {born}), older than {:?} (of {}, \
                 acknowledged {:?}, era {} of {})",
                newer.line, newer.submitted, newer.acked, newer.era, self.era
            );
            return self.fail(7, what);
        }
        if from_memory
            && let Some(last) = last
            && let Some(lost) = self.lost_in_memory(&self.writes[key], submitted)
            && last != lost
        {
            self.fail(7, format!("{key} reads {text:?}, and {lost:?} was acknowledged"));
        }
    }

    /// A plain SET that was acknowledged in memory, in this stretch of degraded mode, and that no other
    /// write came near: it must be what is read.
    fn lost_in_memory(&self, facts: &[WriteFact], submitted: u64) -> Option<String> {
        if self.in_cluster {
            return None;
        }
        let last = facts.iter().max_by_key(|fact| fact.submitted)?;
        let (acked, source) = last.acked?;
        let alone = facts.iter().all(|fact| {
            std::ptr::eq(fact, last) || fact.ended.is_some_and(|ended| ended < last.submitted)
        });
        let stands = last.plain_set
            && !last.dropped
            && !last.vague
            && source != Source::Server
            && acked <= submitted
            && last.stretch == self.stretch
            && self.health == Some(Health::Degraded)
            && alone;
        stands.then(|| last.line.clone())
    }
}

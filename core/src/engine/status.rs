//! What operators see: how the client stands, and who answered how much.

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use super::{Closing, Engine, Health, NodeId};
use crate::{
    config::{Config, Forced},
    failure::{Ago, Cause},
    fallback::Mode,
    request::Effect,
    resp::{Reply, Source, View},
};

/// How the client is doing.
///
/// `Display` says it in a few lines for a log; `Debug` says everything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The node, as `host:port`, a socket's path, or `memory`.
    pub node: Arc<str>,
    /// How it stands; of a cluster, how the shard does that stands worst.
    pub health: Health,
    /// Since when it stands so.
    pub since: Instant,
    /// How long that is, at the time of asking.
    pub lasting: Duration,
    /// Why, where something is the matter; of a cluster, with the shard that stands worst. `None` where
    /// the client is closed.
    pub cause: Option<Cause>,
    /// What an operator has forced upon the client; `None` where health decides.
    pub forced: Option<Forced>,
    /// Since when that is forced.
    pub forced_since: Option<Instant>,
    /// Requests accepted and not ended.
    pub queued_requests: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// How many of these wait for room in the queue.
    pub waiting_requests: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Tickets not yet taken.
    pub tickets: usize,
    /// Sockets open or being opened.
    pub connections: usize,
    /// How many of these belong to requests of their own, in use or not.
    pub leases: usize,
    /// How many of these nobody uses for now.
    pub leases_idle: usize,
    /// Who waits for one, because there are as many as there may be.
    pub leases_waited_for: usize,
    /// Streams of messages that are open.
    pub streams: usize,
    /// Channels and patterns that streams want. One that several want counts for each.
    pub subscriptions: usize,
    /// Channels and patterns that the server has confirmed, each once.
    pub subscriptions_confirmed: usize,
    /// Messages that wait for their readers.
    pub messages_waiting: usize,
    /// Their bytes.
    pub messages_waiting_bytes: usize,
    /// Messages that were dropped because their stream had no room for them.
    pub messages_dropped: u64,
    /// Entries written in memory since the server went down, or the entries of `memory://`.
    pub overlay_entries: usize,
    /// Their bytes.
    pub overlay_bytes: usize,
    /// Remembered values of the server.
    pub shadow_entries: usize,
    /// Their bytes.
    pub shadow_bytes: usize,
    /// Keys that recovery still owes something to.
    pub journal_entries: usize,
    /// The bytes that this takes.
    pub journal_bytes: usize,
    /// The data that the server last said it has; `None` where it has not answered yet, or is not asked,
    /// because there are no fallback rules.
    pub data_set: Option<DataSet>,
    /// Answers by the server.
    pub answers_server: u64,
    /// Answers from what was written in memory, and all answers of `memory://`.
    pub answers_overlay: u64,
    /// Answers from remembered values.
    pub answers_shadow: u64,
    /// Answers about keys of which nothing was known in memory.
    pub answers_unknown: u64,
    /// Each node that serves slots of a cluster, in the order of their first slots; empty where there is no
    /// cluster.
    pub shards: Vec<ShardStatus>,
    /// Each fallback rule in the order of declaration, and then what holds for all other keys. Empty for
    /// `memory://`, where no rule is ever asked.
    pub patterns: Vec<PatternStatus>,
}

/// How the client stands with one shard of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStatus {
    /// The node that serves its slots, as `host:port`; where nobody serves some slots, the last entry
    /// stands for those and has the name of the cluster.
    pub node: Arc<str>,
    /// How many slots.
    pub slots: usize,
    /// How the client stands with it.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Why, where something brought it about.
    pub cause: Option<Cause>,
}

/// How the keys of one pattern fare.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatternStatus {
    /// The glob of the rule; `None` for the keys that no rule matches.
    pub pattern: Option<Arc<str>>,
    /// What its keys do while the server is down.
    pub mode: Mode,
    /// Who would answer a request now; `None` where it would wait, or fail. In a cluster that is a
    /// request for which it stands worst; [`shards`](Self::shards) says how it stands with the others.
    pub answered_by: Option<AnsweredBy>,
    /// At how many shards of a cluster who would answer. Without a cluster there is one.
    pub shards: Answering,
    /// What the server answered.
    ///
    /// This and the counts that follow go back to when the client was made. A command counts for the
    /// pattern of its first key, in a transaction too, and only where that may be answered otherwise
    /// than by waiting for the server: of patterns whose mode is [`Mode::Wait`] nothing is counted here.
    /// Nor is it for those after the 255th. Messages have no key, so that PUBLISH counts for no pattern.
    pub server: Counts,
    /// What was answered from writes in memory.
    pub overlay: Counts,
    /// What was answered from remembered values.
    pub shadow: Counts,
    /// What was answered in memory about keys of which nothing was known.
    pub unknown: Counts,
    /// Reads that memory was asked for and refused.
    pub refused_reads: u64,
    /// Writes that memory was asked for and refused.
    pub refused_writes: u64,
}

impl PatternStatus {
    /// Whether a request would be answered now, be it by the server or from memory; in a cluster, whatever
    /// its key.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.answered_by.is_some()
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnsweredBy {
    /// The server. While it is owed something, keys that are concerned wait for that to be paid, or are
    /// read from memory.
    Server,
    /// Memory, as far as the pattern's mode goes.
    Memory,
}

/// At how many shards of a cluster who answers the keys of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answering {
    /// The server.
    pub server: usize,
    /// Memory, as far as the pattern's mode goes.
    pub memory: usize,
    /// Nobody: requests wait, or fail.
    pub nobody: usize,
}

impl Answering {
    /// Who answers where it stands worst.
    fn at_worst(self) -> Option<AnsweredBy> {
        match self {
            Answering { nobody: 0, memory: 0, server: 1.. } => Some(AnsweredBy::Server),
            Answering { nobody: 0, memory: 1.., .. } => Some(AnsweredBy::Memory),
            _ => None,
        }
    }
}

/// How many answers there were, one for each command. Errors are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Reads that found something.
    pub hits: u64,
    /// Reads that found nothing: nil, nothing but nils, or an empty collection.
    pub misses: u64,
    /// Writes.
    pub writes: u64,
}

/// What tells one set of data from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataSet {
    /// Which process it is: `run_id` of INFO.
    pub run_id: Option<String>,
    /// Which history of writes it goes on from: `master_replid` of INFO.
    pub replication_id: Option<String>,
}

/// A command on its way has one byte for its pattern, of which the last value is none.
const PATTERNS_COUNTED: usize = NO_PATTERN as usize;
pub(super) const NO_PATTERN: u8 = u8::MAX;

/// Counts who answered what, since the client was made.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) server: u64,
    overlay: u64,
    shadow: u64,
    unknown: u64,
    /// One for each rule and one for the default; none where nothing may degrade.
    patterns: Vec<PatternTally>,
}

#[derive(Clone, Debug, Default)]
struct PatternTally {
    server: Counts,
    overlay: Counts,
    shadow: Counts,
    unknown: Counts,
    refused_reads: u64,
    refused_writes: u64,
}

impl Tally {
    pub(super) fn new(config: &Config, degrades: bool) -> Self {
        let patterns = if degrades { config.fallbacks.len() + 1 } else { 0 };
        let patterns = patterns.min(PATTERNS_COUNTED);
        Tally {
            server: 0,
            overlay: 0,
            shadow: 0,
            unknown: 0,
            patterns: vec![PatternTally::default(); patterns],
        }
    }

    /// Counts an answer from memory, which is not an error.
    pub(super) fn by_memory(&mut self, rule: u8, effect: Effect, reply: &Reply) {
        match reply.source() {
            Source::Server => self.server += 1,
            Source::Overlay | Source::Store => self.overlay += 1,
            Source::Shadow => self.shadow += 1,
            Source::Unknown => self.unknown += 1,
        }
        self.by_rule(rule, effect, reply);
    }

    /// Counts an answer, which is not an error, for the pattern that its command is of.
    pub(super) fn by_rule(&mut self, rule: u8, effect: Effect, reply: &Reply) {
        let Some(pattern) = self.patterns.get_mut(usize::from(rule)) else { return };
        let counts = match reply.source() {
            Source::Server => &mut pattern.server,
            Source::Overlay | Source::Store => &mut pattern.overlay,
            Source::Shadow => &mut pattern.shadow,
            Source::Unknown => &mut pattern.unknown,
        };
        match effect {
            Effect::Read if finds_something(reply.view()) => counts.hits += 1,
            Effect::Read => counts.misses += 1,
            _ => counts.writes += 1,
        }
    }

    /// Counts a command that memory refused.
    pub(super) fn refused(&mut self, rule: u8, effect: Effect) {
        let Some(pattern) = self.patterns.get_mut(usize::from(rule)) else { return };
        match effect {
            Effect::Read => pattern.refused_reads += 1,
            _ => pattern.refused_writes += 1,
        }
    }
}

fn finds_something(view: View<'_>) -> bool {
    if view.kind().is_aggregate() {
        view.items().any(|item| !item.is_null())
    } else {
        !view.is_null()
    }
}

impl<W> Engine<W> {
    /// How the client is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (overlay_entries, overlay_bytes) = match &self.store {
            Some(store) => store.size(),
            None => self.memory.overlay_size(),
        };
        let (shadow_entries, shadow_bytes) = self.memory.shadow_size();
        let (journal_entries, journal_bytes) = self.memory.journal_size();
        let home = &self.nodes[self.nodes.home()];
        let since = match (self.closed_since(), &self.cluster) {
            (Some(closed), _) => closed,
            (None, None) => home.phase_since,
            (None, Some(_)) => self.whole_since,
        };
        let pubsub = self.pubsub.size();
        Status {
            node: home.label.clone(),
            health: self.health(),
            since,
            lasting: self.now.instant.saturating_duration_since(since),
            cause: self.cause_of_all(),
            forced: self.forced,
            forced_since: self.forced_since,
            queued_requests: self.queued.requests,
            queued_bytes: self.queued.bytes,
            waiting_requests: self.in_line.requests,
            waiting_bytes: self.in_line.bytes,
            tickets: self.tickets.len(),
            connections: self.connections.len(),
            leases: self.leases.len(),
            leases_idle: self.leases.idle(),
            leases_waited_for: self.leases.waiting(),
            streams: pubsub.streams,
            subscriptions: pubsub.wanted,
            subscriptions_confirmed: pubsub.confirmed,
            messages_waiting: pubsub.waiting,
            messages_waiting_bytes: pubsub.waiting_bytes,
            messages_dropped: pubsub.dropped,
            overlay_entries,
            overlay_bytes,
            shadow_entries,
            shadow_bytes,
            journal_entries,
            journal_bytes,
            data_set: home.heritage.data_set(),
            answers_server: self.tally.server,
            answers_overlay: self.tally.overlay,
            answers_shadow: self.tally.shadow,
            answers_unknown: self.tally.unknown,
            shards: self.shards(),
            patterns: self.patterns(),
        }
    }

    fn shards(&self) -> Vec<ShardStatus> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let home = self.nodes.home();
        let known = cluster.primaries().iter().filter(|id| self.nodes.contains(**id));
        let all = known.copied().chain([home]).map(|id| (id, cluster.slots_of(id)));
        let some = all.filter(|(_, slots)| *slots > 0);
        let shard = |(id, slots)| {
            let node = &self.nodes[id];
            let label = node.label.clone();
            match self.closed_since() {
                Some(since) => {
                    ShardStatus { node: label, slots, health: Health::Closed, since, cause: None }
                }
                None => ShardStatus {
                    node: label,
                    slots,
                    health: node.phase.health(),
                    since: node.phase_since,
                    cause: node.cause.clone(),
                },
            }
        };
        some.map(shard).collect()
    }

    fn patterns(&self) -> Vec<PatternStatus> {
        if self.store.is_some() {
            return Vec::new();
        }
        let rules = self.config.fallbacks.iter();
        let rules = rules.map(|rule| (Some(Arc::from(rule.pattern())), rule.mode()));
        let default = if self.config.fail_fast { Mode::Fail } else { Mode::Wait };
        let none = PatternTally::default();
        let all = rules.chain([(None, default)]).enumerate();
        let of = |(at, (pattern, mode))| {
            let counted = self.tally.patterns.get(at).unwrap_or(&none);
            let shards = self.answering(mode);
            PatternStatus {
                pattern,
                mode,
                answered_by: shards.at_worst(),
                shards,
                server: counted.server,
                overlay: counted.overlay,
                shadow: counted.shadow,
                unknown: counted.unknown,
                refused_reads: counted.refused_reads,
                refused_writes: counted.refused_writes,
            }
        };
        all.map(of).collect()
    }

    /// Who would answer a request for a key of this mode now.
    fn answering(&self, mode: Mode) -> Answering {
        let home = self.nodes.home();
        let nodes: Vec<NodeId> = match &self.cluster {
            None => vec![home],
            Some(cluster) => {
                let nobodys = (cluster.slots_of(home) > 0).then_some(home);
                let known = cluster.primaries().iter().filter(|id| self.nodes.contains(**id));
                known.copied().chain(nobodys).collect()
            }
        };
        let mut answering = Answering::default();
        for node in nodes {
            let by = self.answered_at(node, mode).filter(|_| self.closing == Closing::Open);
            *match by {
                Some(AnsweredBy::Server) => &mut answering.server,
                Some(AnsweredBy::Memory) => &mut answering.memory,
                None => &mut answering.nobody,
            } += 1;
        }
        answering
    }

    fn answered_at(&self, node: NodeId, mode: Mode) -> Option<AnsweredBy> {
        let settles = self.settles(node);
        let node = &self.nodes[node];
        let server = node.conn.map(|_| AnsweredBy::Server);
        let insists = self.forced == Some(Forced::Redis);
        match mode {
            Mode::Fail if node.phase.is_down() && !settles => None,
            Mode::Wait | Mode::Fail => server,
            _ if !node.phase.is_down() || insists || settles => server,
            _ => Some(AnsweredBy::Memory),
        }
    }
}

/// For a log: what stands first is what matters first, and a line begins with what it is about.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { node, health, lasting, .. } = self;
        write!(f, "{node}: {health} for {}", Ago(*lasting))?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        let live = self.shards.iter().filter(|shard| shard.health == Health::Live).count();
        if live < self.shards.len() && *health != Health::Closed {
            write!(f, ", {live} of {} shards live", self.shards.len())?;
        }
        if let Some(forced) = self.forced {
            write!(f, ", forced by an operator: {forced}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "  requests  {} under way, {} of them wait for room; {} sockets",
            self.queued_requests, self.waiting_requests, self.connections
        )?;
        writeln!(
            f,
            "  memory    {} written ({}), {} remembered ({}), {} owed to the server ({})",
            self.overlay_entries,
            Size(self.overlay_bytes),
            self.shadow_entries,
            Size(self.shadow_bytes),
            self.journal_entries,
            Size(self.journal_bytes),
        )?;
        write!(
            f,
            "  answers   {} server, {} written, {} remembered, {} unknown",
            self.answers_server, self.answers_overlay, self.answers_shadow, self.answers_unknown
        )?;
        if let Some(DataSet { run_id, replication_id }) = &self.data_set {
            let said = |id: &Option<String>| id.clone().unwrap_or_else(|| "unknown".into());
            write!(f, "\n  data      run {}, history {}", said(run_id), said(replication_id))?;
        }
        for shard in &self.shards {
            write!(f, "\n  shard     {}: {}, {} slots", shard.node, shard.health, shard.slots)?;
            if let Some(cause) = &shard.cause {
                write!(f, " ({cause})")?;
            }
        }
        let width = self.patterns.iter().map(|pattern| pattern.name().chars().count()).max();
        for pattern in &self.patterns {
            write!(f, "\n  ")?;
            pattern.fmt_aligned(f, width.unwrap_or(0))?;
        }
        Ok(())
    }
}

/// One line.
impl fmt::Display for PatternStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_aligned(f, 0)
    }
}

impl PatternStatus {
    fn name(&self) -> &str {
        self.pattern.as_deref().unwrap_or("(others)")
    }

    fn fmt_aligned(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        write!(f, "{:width$}  {:<12} now: {}", self.name(), self.mode.name(), self.shards)?;
        let sources = [
            ("server", self.server),
            ("written", self.overlay),
            ("remembered", self.shadow),
            ("unknown", self.unknown),
        ];
        for (name, counts) in sources.iter().filter(|(_, counts)| *counts != Counts::default()) {
            write!(f, "; {name} {counts}")?;
        }
        if self.refused_reads + self.refused_writes > 0 {
            let (reads, writes) = (self.refused_reads, self.refused_writes);
            write!(f, "; refused {reads} reads, {writes} writes")?;
        }
        Ok(())
    }
}

/// `server`, or where that differs from shard to shard: `server at 2 shards, nobody at 1`.
impl fmt::Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("server", self.server), ("memory", self.memory), ("nobody", self.nobody)];
        let some: Vec<_> = all.into_iter().filter(|(_, count)| *count > 0).collect();
        match some[..] {
            [] => f.write_str("nobody"),
            [(by, _)] => f.write_str(by),
            [(by, count), ref others @ ..] => {
                write!(f, "{by} at {count} shard{}", if count == 1 { "" } else { "s" })?;
                others.iter().try_for_each(|(by, count)| write!(f, ", {by} at {count}"))
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { hits, misses, writes } = self;
        write!(f, "{hits} hits, {misses} misses, {writes} writes")
    }
}

/// A number of bytes as people read it: `812 B`, `45.2 KiB`.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let (mut size, mut unit) = (self.0 as f64 / 1024.0, 0);
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            (size, unit) = (size / 1024.0, unit + 1);
        }
        write!(f, "{size:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let shown = [0, 1023, 1024, 46_285, 100 << 20, 5 << 40].map(|size| Size(size).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "45.2 KiB", "100.0 MiB", "5.0 TiB"]);
    }
}

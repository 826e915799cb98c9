//! Whether a server that comes back has the data that it had.

use std::time::{Duration, Instant};

use super::{ConnId, DataSet, Engine, Event, NodeId};
use crate::{connection::Own, resp::Reply, slot::slot};

/// How the data of a server that is back relate to those it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lineage {
    /// They are the same: it is the same process, and it has been no other server's replica.
    Same,
    /// They go on from those: another server has them by replication, but for what had not reached
    /// it.
    Continued,
    /// Nobody can tell, also after a plain restart: it may have lost some or all of them, or have
    /// others.
    Unknown,
}

/// What tells one data set from another.
#[derive(Debug, Default)]
pub(super) struct Heritage {
    known: Option<Ids>,
    /// When that was heard.
    known_since: Option<Instant>,
    /// What the server said so far on this connection.
    heard: Ids,
    /// How many of the two answers are owed.
    owed: u8,
    /// How many commands servers had answered when this one was asked, while none has said so yet.
    unheard_since: Option<u64>,
    /// One that answered commands has never said so.
    missed: bool,
    /// The worst that was found since remembered values were last trusted.
    found: Option<Lineage>,
    /// The worst that was found since something was first owed to keys.
    owed_to: Option<Lineage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    run: Option<Vec<u8>>,
    /// The history that it writes now.
    replication: Option<Vec<u8>>,
    /// The history that it goes on from, since it was promoted.
    replication_before: Option<Vec<u8>>,
    uptime: Option<Duration>,
}

impl Heritage {
    /// Whether the server is being asked already.
    pub(super) fn is_asked(&self) -> bool {
        self.owed > 0
    }

    /// Whether what is owed was written while the server had other data, as far as anybody can tell.
    pub(super) fn is_unknown(&self) -> bool {
        self.owed_to == Some(Lineage::Unknown)
    }

    /// What the server last said of its data.
    pub(super) fn data_set(&self) -> Option<DataSet> {
        let text = |id: &Option<Vec<u8>>| Some(String::from_utf8_lossy(id.as_ref()?).into_owned());
        let Ids { run, replication, .. } = self.known.as_ref()?;
        Some(DataSet { run_id: text(run), replication_id: text(replication) })
    }

    /// Everything that was owed is paid.
    pub(super) fn settle(&mut self) {
        self.owed_to = None;
    }

    /// A server is about to say which data it has; so many commands were answered by servers so far.
    fn ask(&mut self, answered: u64) {
        self.heard = Ids::default();
        self.owed = 2;
        if self.known.is_none() {
            self.missed |= self.unheard_since.is_some_and(|since| answered > since);
            self.unheard_since = Some(answered);
        }
    }

    /// Takes in what the server has said, all of it.
    fn hear(&mut self, now: Instant) {
        let heard = std::mem::take(&mut self.heard);
        let known = self.known.replace(heard.clone());
        let since = self.known_since.replace(now);
        let found = match known.zip(since) {
            Some((known, since)) => relation(&known, &heard, now.saturating_duration_since(since)),
            None if self.missed => Lineage::Unknown,
            // The first data set is that of nobody before it.
            None => return,
        };
        self.found = self.found.max(Some(found));
        self.owed_to = self.owed_to.max(Some(found));
    }
}

fn relation(known: &Ids, heard: &Ids, apart: Duration) -> Lineage {
    // What nobody can tell counts as changed.
    let same = |a: &Option<Vec<u8>>, b: &Option<Vec<u8>>| a.is_some() && a == b;
    let unchanged = same(&known.replication, &heard.replication);
    let goes_on = unchanged || same(&known.replication, &heard.replication_before);
    if same(&known.run, &heard.run) {
        // As a replica a process takes over the data of another server, and its history with them.
        // Servers before 4.0 don't tell theirs.
        let tells = known.replication.is_some() || heard.replication.is_some();
        return match goes_on {
            _ if unchanged || !tells => Lineage::Same,
            // It was a replica when it was asked before, and has been promoted since: it may lack what its
            // master had last.
            true => Lineage::Continued,
            false => Lineage::Unknown,
        };
    }
    // A server that was started since may have taken up its old history with older data.
    let restarted = heard.uptime.is_none_or(|uptime| uptime <= apart + UPTIME_SLACK);
    if goes_on && !restarted { Lineage::Continued } else { Lineage::Unknown }
}

/// Servers tell their uptime in whole seconds.
const UPTIME_SLACK: Duration = Duration::from_secs(1);

impl<W> Engine<W> {
    /// Asks which data the server has: when a connection is new, and again before it is trusted.
    pub(super) fn ask_lineage(&mut self, conn: ConnId) {
        let Some(node) = self.node_of(conn) else { return };
        self.nodes[node].heritage.ask(self.tally.server);
        self.ask(conn, Own::Lineage, &[b"INFO", b"server"]);
        self.ask(conn, Own::Lineage, &[b"INFO", b"replication"]);
    }

    pub(super) fn on_lineage(&mut self, conn: ConnId, reply: &Reply) {
        let Some(node) = self.node_of(conn) else { return };
        let now = self.now.instant;
        let heritage = &mut self.nodes[node].heritage;
        let text = reply.view().payload();
        let field = |name: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n');
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            Some(value.trim_ascii_end().to_vec())
        };
        if !reply.is_error() {
            let heard = &mut heritage.heard;
            let seconds = |text: Vec<u8>| String::from_utf8(text).ok()?.parse().ok();
            heard.run = field(b"run_id:").or(heard.run.take());
            heard.uptime = field(b"uptime_in_seconds:")
                .and_then(seconds)
                .map(Duration::from_secs)
                .or(heard.uptime);
            heard.replication = field(b"master_replid:").or(heard.replication.take());
            heard.replication_before =
                field(b"master_replid2:").or(heard.replication_before.take());
        }
        heritage.owed -= 1;
        if heritage.owed > 0 {
            return;
        }
        heritage.hear(now);
        if !self.nodes[node].phase.is_down() {
            self.trust_data_set(node);
            self.nodes[node].heritage.settle();
        }
    }

    /// Forgets the values of another data set. While the server is down they are all there is, so they
    /// are served until it is trusted: it may fall again before.
    pub(super) fn trust_data_set(&mut self, node: NodeId) {
        let Some(lineage) = self.nodes[node].heritage.found.take() else { return };
        if lineage == Lineage::Unknown {
            self.reached(super::trial::Rare::OtherData);
            let Engine { memory, cluster, now, .. } = self;
            match cluster {
                None => memory.drop_shadow(*now, |_| true),
                Some(cluster) => memory.drop_shadow(*now, |key| cluster.owner(slot(key)) == node),
            }
        }
        // Nobody needs to hear that nothing happened.
        if lineage != Lineage::Same || self.nodes[node].phase.is_down() {
            let node = self.nodes[node].label.clone();
            self.event(Event::DataSet { node, lineage });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(run: &str, now: &str, before: &str, uptime: u64) -> Ids {
        Ids {
            run: Some(run.into()),
            replication: Some(now.into()),
            replication_before: Some(before.into()),
            uptime: Some(Duration::from_secs(uptime)),
        }
    }

    #[test]
    fn the_same_process_has_the_same_data() {
        let known = ids("a", "x", "0", 10);
        let heard = ids("a", "x", "0", 20);
        assert_eq!(relation(&known, &heard, Duration::from_secs(10)), Lineage::Same);
    }

    #[test]
    fn a_process_that_was_a_replica_may_lack_what_its_master_had_last() {
        let known = ids("a", "x", "0", 10);
        let heard = ids("a", "y", "x", 20);
        assert_eq!(relation(&known, &heard, Duration::from_secs(10)), Lineage::Continued);
    }

    #[test]
    fn a_process_that_has_taken_over_anothers_data_has_other_data() {
        let known = ids("a", "x", "0", 10);
        let minute = Duration::from_secs(60);
        // It is a replica now, or was one and has been promoted since.
        assert_eq!(relation(&known, &ids("a", "z", "0", 70), minute), Lineage::Unknown);
        assert_eq!(relation(&known, &ids("a", "y", "z", 70), minute), Lineage::Unknown);
        let silent = Ids { run: Some("a".into()), ..Ids::default() };
        assert_eq!(relation(&silent, &silent, minute), Lineage::Same);
    }

    #[test]
    fn a_promoted_replica_goes_on_and_a_server_that_was_started_since_may_not() {
        let known = ids("a", "x", "0", 10);
        let minute = Duration::from_secs(60);
        assert_eq!(relation(&known, &ids("b", "y", "x", 600), minute), Lineage::Continued);
        assert_eq!(relation(&known, &ids("b", "x", "0", 600), minute), Lineage::Continued);
        assert_eq!(relation(&known, &ids("b", "y", "x", 61), minute), Lineage::Unknown);
        assert_eq!(relation(&known, &ids("b", "y", "z", 600), minute), Lineage::Unknown);
    }

    #[test]
    fn what_nobody_says_is_not_the_same() {
        let minute = Duration::from_secs(60);
        assert_eq!(relation(&Ids::default(), &Ids::default(), minute), Lineage::Unknown);
        let known = ids("a", "x", "0", 10);
        assert_eq!(relation(&known, &Ids::default(), minute), Lineage::Unknown);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
    fn a_server_that_was_gone_before_it_said_anything_may_have_had_other_data() {
        let now = Instant::now();
        for (answered, expected) in [(1, Some(Lineage::Unknown)), (0, None)] {
            let mut heritage = Heritage::default();
            heritage.ask(0);
            heritage.ask(answered);
            heritage.heard = ids("b", "b", "0", 0);
            heritage.hear(now);
            assert_eq!(heritage.owed_to, expected, "{answered}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere in time")]
    fn the_worst_that_was_found_counts_until_all_is_paid() {
        let mut heritage = Heritage::default();
        let begin = Instant::now();
        for (run, expected) in
            [("a", None), ("b", Some(Lineage::Unknown)), ("b", Some(Lineage::Unknown))]
        {
            heritage.heard = ids(run, run, "0", 0);
            heritage.hear(begin);
            assert_eq!(heritage.owed_to, expected);
        }
        assert!(heritage.is_unknown());
        heritage.settle();
        heritage.heard = ids("b", "b", "0", 0);
        heritage.hear(begin);
        assert!(!heritage.is_unknown());
    }
}

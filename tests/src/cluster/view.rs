//! What one node of a cluster knows of all.

use std::ops::RangeInclusive;

use super::text;
use crate::Raw;

/// The reply to CLUSTER NODES.
pub(super) struct View {
    pub(super) nodes: Vec<Seen>,
}

/// A node as another one, or itself, sees it.
pub(super) struct Seen {
    pub(super) id: String,
    is_own: bool,
    /// Whom it replicates.
    pub(super) master: Option<String>,
    /// How new its claim to its slots is.
    pub(super) epoch: u64,
    /// Whether there is a connection to it and no suspicion.
    pub(super) is_well: bool,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

/// Who has which slots, who replicates whom, and how new each claim is: what all nodes should say alike.
/// Who goes by an older claim than others votes for nobody, and nobody for him.
pub(super) type Opinion = Vec<(String, Option<String>, u64, Vec<RangeInclusive<u16>>)>;

impl View {
    pub(super) fn of(raw: &mut Raw) -> Self {
        let nodes = text(raw.cmd(&["CLUSTER", "NODES"]));
        View { nodes: nodes.lines().map(Seen::parse).collect() }
    }

    /// What the node says of itself.
    pub(super) fn own(&self) -> &Seen {
        self.nodes.iter().find(|node| node.is_own).expect("each node knows itself")
    }

    pub(super) fn opinion(&self) -> Opinion {
        let opinion =
            |node: &Seen| (node.id.clone(), node.master.clone(), node.epoch, node.slots.clone());
        let mut opinion: Opinion = self.nodes.iter().map(opinion).collect();
        opinion.sort_by(|one, other| one.0.cmp(&other.0));
        opinion
    }
}

impl Seen {
    /// `id address flags master ping-sent pong-received epoch link slot…`
    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let [id, _, flags, master, _, _, epoch, link, slots @ ..] = &words[..] else {
            panic!("not a line of CLUSTER NODES: {line}");
        };
        let has = |wanted: &[&str]| flags.split(',').any(|flag| wanted.contains(&flag));
        let is_own = has(&["myself"]);
        let is_well = !has(&["fail", "fail?", "handshake", "noaddr"]);
        // Slots that are on their way are not counted: `[slot->-id]`, `[slot-<-id]`.
        let slots = slots.iter().filter(|word| !word.starts_with('['));
        Seen {
            id: (*id).to_owned(),
            is_own,
            master: (*master != "-").then(|| (*master).to_owned()),
            epoch: epoch.parse().expect("a number"),
            is_well: is_well && (is_own || *link == "connected"),
            slots: slots.map(|word| range(word)).collect(),
        }
    }

    /// Whether it is a master and has this slot.
    pub(super) fn owns(&self, slot: u16) -> bool {
        self.master.is_none() && self.slots.iter().any(|range| range.contains(&slot))
    }
}

/// `7` or `7-9`
fn range(word: &str) -> RangeInclusive<u16> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let slot = |word: &str| word.parse().expect("the number of a slot");
    slot(first)..=slot(last)
}

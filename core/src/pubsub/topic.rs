//! What can be subscribed to.

use std::{borrow::Borrow, fmt, hash, sync::Arc};

use super::notice::Action;

/// What a name that is subscribed to stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKind {
    /// A channel (SUBSCRIBE, PUBLISH). Since 2.0.
    Channel,
    /// All channels whose names match a glob-style pattern (PSUBSCRIBE, PUBLISH). Since 2.0.
    Pattern,
    /// A shard channel, which lies in a hash slot as a key does (SSUBSCRIBE, SPUBLISH). Since 7.0.
    Shard,
}

impl TopicKind {
    pub(crate) const ALL: [TopicKind; 3] =
        [TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard];

    /// The command that adds or drops topics of this kind.
    pub(crate) const fn command(self, action: Action) -> &'static str {
        match (self, action) {
            (TopicKind::Channel, Action::Subscribe) => "SUBSCRIBE",
            (TopicKind::Pattern, Action::Subscribe) => "PSUBSCRIBE",
            (TopicKind::Shard, Action::Subscribe) => "SSUBSCRIBE",
            (TopicKind::Channel, Action::Unsubscribe) => "UNSUBSCRIBE",
            (TopicKind::Pattern, Action::Unsubscribe) => "PUNSUBSCRIBE",
            (TopicKind::Shard, Action::Unsubscribe) => "SUNSUBSCRIBE",
        }
    }
}

/// One name and what it stands for. Whatever speaks of a topic shares it.
#[derive(PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) kind: TopicKind,
    pub(crate) name: Box<[u8]>,
}

impl Topic {
    pub(crate) fn new(kind: TopicKind, name: &[u8]) -> Arc<Self> {
        Arc::new(Topic { kind, name: name.into() })
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(\"{}\")", self.kind, self.name.escape_ascii())
    }
}

/// A topic as a key of its name, in a map of one kind.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Arc<Topic>);

impl Borrow<[u8]> for ByName {
    fn borrow(&self) -> &[u8] {
        &self.0.name
    }
}

impl hash::Hash for ByName {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

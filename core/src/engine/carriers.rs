//! What carries subscriptions: feeds, and the connections that they ride on.
//!
//! | carrier | what it carries | where |
//! |---|---|---|
//! | general | channels and patterns | with the requests (RESP3), or on a connection of its own (RESP2); in a cluster at one node, and at another once that is gone or serves no slots |
//! | shard | shard channels | on a connection of its own; in a cluster those that nobody serves yet |
//! | of a node | the shard channels whose slots a node of a cluster serves | on a connection of its own to that node |
//! | of a stream | all that one stream wants which may stop reading | on a connection of its own; its shard channels in a cluster on one more for each node |

use std::{collections::BTreeMap, time::Instant};

use super::{ConnId, NodeId, StreamId, Ticket, side::Side};
use crate::{
    pubsub::Feed,
    slab::{Id, Slab},
};

/// One carrier. A stale id is inert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FeedId(Id);

/// All that carries subscriptions.
#[derive(Debug)]
pub(super) struct Carriers {
    all: Slab<Carrier>,
    general: FeedId,
    shard: FeedId,
    /// Those of nodes; with those apart that are for one stream alone.
    of_nodes: BTreeMap<(NodeId, Option<StreamId>), FeedId>,
    seed: u64,
    /// Where carriers begin.
    home: NodeId,
}

/// A feed and what it rides on.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) feed: Feed<StreamId, Ticket>,
    /// The node that it is subscribed to.
    pub(super) node: NodeId,
    /// It is for what that node serves, and goes to no other.
    pub(super) pinned: bool,
    /// The connection, once it is ready.
    pub(super) conn: Option<ConnId>,
    /// How its own connection is made; none where it rides on that of requests.
    pub(super) side: Option<Side>,
    /// The one stream that it is for.
    pub(super) only: Option<StreamId>,
    /// When what was refused is asked for again, and how often it was refused.
    pub(super) retry: Option<Instant>,
    pub(super) refusals: u32,
}

impl Carriers {
    pub(super) fn new(seed: u64, home: NodeId) -> Self {
        let mut all = Slab::new();
        let general = FeedId(all.insert(Carrier::new(seed, home, None)));
        let shard = FeedId(all.insert(Carrier::with_side(seed, home, None)));
        Carriers { all, general, shard, of_nodes: BTreeMap::new(), seed, home }
    }

    /// Forgets all that was carried.
    pub(super) fn clear(&mut self) {
        *self = Carriers::new(self.seed, self.home);
    }

    /// Makes one for a stream alone.
    pub(super) fn open_for(&mut self, stream: StreamId) -> FeedId {
        FeedId(self.all.insert(Carrier::with_side(self.seed, self.home, Some(stream))))
    }

    /// Forgets one that has nothing to carry, if it was there for that only.
    pub(super) fn forget(&mut self, feed: FeedId) {
        if let Some(carrier) = self.all.remove(feed.0)
            && carrier.pinned
        {
            self.of_nodes.remove(&(carrier.node, carrier.only));
        }
    }

    /// The one for channels and patterns.
    pub(super) fn general(&self) -> FeedId {
        self.general
    }

    /// The one for shard channels of a node, which is made if there is none; those that no node serves are
    /// carried with what else `own` carries, where a stream has one for itself.
    pub(super) fn for_shards(&mut self, node: NodeId, own: Option<(StreamId, FeedId)>) -> FeedId {
        let (only, unserved) = match own {
            Some((stream, feed)) => (Some(stream), feed),
            None => (None, self.shard),
        };
        if node == self.home {
            return unserved;
        }
        let Carriers { all, of_nodes, seed, .. } = self;
        *of_nodes.entry((node, only)).or_insert_with(|| {
            let carrier = Carrier { pinned: true, ..Carrier::with_side(*seed, node, only) };
            FeedId(all.insert(carrier))
        })
    }

    /// Whether shard channels whose slot this node serves are carried where they are to be.
    pub(super) fn is_for(&self, carrier: &Carrier, owner: NodeId) -> bool {
        if carrier.pinned { carrier.node == owner } else { owner == self.home }
    }

    pub(super) fn ids(&self) -> Vec<FeedId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FeedId, &Carrier)> {
        self.all.iter().map(|(id, carrier)| (FeedId(id), carrier))
    }

    #[inline]
    pub(super) fn get(&self, feed: FeedId) -> Option<&Carrier> {
        self.all.get(feed.0)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, feed: FeedId) -> Option<&mut Carrier> {
        self.all.get_mut(feed.0)
    }

    /// Those that are for this stream alone.
    pub(super) fn of_stream(&self, stream: StreamId) -> Vec<FeedId> {
        let of_stream = |(_, carrier): &(FeedId, &Carrier)| carrier.only == Some(stream);
        self.iter().filter(of_stream).map(|(id, _)| id).collect()
    }

    /// How many streams have connections of their own.
    pub(super) fn streams(&self) -> usize {
        self.iter().filter(|(_, carrier)| carrier.only.is_some() && !carrier.pinned).count()
    }

    /// Whether one is to be subscribed to this node.
    pub(super) fn lead_to(&self, node: NodeId) -> bool {
        self.iter().any(|(_, carrier)| carrier.node == node)
    }
}

impl Carrier {
    fn new(seed: u64, node: NodeId, only: Option<StreamId>) -> Self {
        Carrier {
            feed: Feed::new(seed),
            node,
            pinned: false,
            conn: None,
            side: None,
            only,
            retry: None,
            refusals: 0,
        }
    }

    fn with_side(seed: u64, node: NodeId, only: Option<StreamId>) -> Self {
        Carrier { side: Some(Side::default()), ..Carrier::new(seed, node, only) }
    }
}

//! What is known of each server, and which of them serves what.
//!
//! A standalone deployment has one node, which serves everything and is there from the beginning to the
//! end: it is *home*. In a cluster home is no server: it stands for whoever will serve what nobody does,
//! because the cluster has not told yet who, or lacks him.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ConnId, Engine, Parked,
    dial::Dial,
    health::{Phase, Window},
    heritage::Heritage,
    recovery::Account,
    sources,
    unready::Unready,
};
use crate::{
    config::{Breaker, Endpoint},
    connection::Op,
    failure::Cause,
    slab::{Id, Slab},
};

/// One server that this client speaks to, or tries to. A stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(Id);

/// All servers that the client knows.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Beside the others, where it is found without looking: every request of a standalone deployment
    /// asks for it.
    home: Node,
    others: Slab<Node>,
    /// How many others there have been.
    count: u32,
}

/// What is known of one server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) label: Arc<str>,
    /// What tells it from all others that were or will be; 0 for home.
    pub(super) number: u32,
    /// Where it is; `None` where there is no server.
    pub(super) endpoint: Option<Endpoint>,
    /// The connection that takes new requests.
    pub(super) conn: Option<ConnId>,
    /// How many connections this client had made when that one became ready, to whichever node.
    pub(super) made: u64,
    /// When it became ready.
    pub(super) ready_at: Option<Instant>,
    pub(super) dial: Dial,
    pub(super) failed_dials: u32,
    /// The server was found to speak only RESP2.
    pub(super) resp2_only: bool,
    /// It was not found but guessed, because the connection ended at HELLO; a server that was dying
    /// looks like this as well. It holds once such a connection is ready, and until one fails.
    pub(super) resp2_guessed: bool,
    /// The server refused the last handshake for good: wrong credentials or configuration.
    pub(super) rejected: Option<Cause>,
    pub(super) phase: Phase,
    pub(super) phase_since: Instant,
    pub(super) cause: Option<Cause>,
    pub(super) window: Window,
    /// When a health phase was last left for `Live` after an outage, and how long probes waited then.
    pub(super) recovered_at: Option<Instant>,
    pub(super) probe_interval: Duration,
    pub(super) heritage: Heritage,
    pub(super) account: Account,
    /// How often what recovery has sent was redirected since any of it was taken.
    pub(super) debts_redirected: u8,
    /// Waits for a connection, in order.
    pub(super) backlog: VecDeque<Parked>,
    /// The cluster does not name it any more, so it goes as soon as nothing is under way to it.
    pub(super) gone: bool,
    /// When a redirect last named it.
    pub(super) named_at: Option<Instant>,
    /// Whether it has refused everything of late, and is asked about it.
    pub(super) unready: Unready,
    /// Which scripts were sent with their source since the present connection was made.
    pub(super) scripts_sent: sources::Sent,
}

impl NodeId {
    pub(super) const HOME: NodeId = NodeId(Id::NONE);
}

impl Node {
    pub(super) fn new(
        label: Arc<str>,
        endpoint: Option<Endpoint>,
        breaker: &Breaker,
        now: Instant,
    ) -> Self {
        Node {
            label,
            number: 0,
            endpoint,
            conn: None,
            made: 0,
            ready_at: None,
            dial: Dial::Idle,
            failed_dials: 0,
            resp2_only: false,
            resp2_guessed: false,
            rejected: None,
            phase: Phase::Starting,
            phase_since: now,
            cause: None,
            window: Window::new(now),
            recovered_at: None,
            probe_interval: breaker.probe_interval,
            heritage: Heritage::default(),
            account: Account::default(),
            debts_redirected: 0,
            backlog: VecDeque::new(),
            gone: false,
            named_at: None,
            unready: Unready::No,
            scripts_sent: sources::Sent::default(),
        }
    }
}

impl Nodes {
    /// One node, which serves all that no other does.
    pub(super) fn new(home: Node) -> Self {
        Nodes { home, others: Slab::new(), count: 0 }
    }

    /// The node that serves all that no other does: of a standalone deployment the only one.
    #[inline]
    pub(super) fn home(&self) -> NodeId {
        NodeId::HOME
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        // After 2³² nodes a failure may name the wrong one.
        self.count = self.count.wrapping_add(1).max(1);
        NodeId(self.others.insert(Node { number: self.count, ..node }))
    }

    /// Forgets a node that nothing names any more.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.others.remove(node.0);
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        node == NodeId::HOME || self.others.get(node.0).is_some()
    }

    /// Whether there is such a node, and a connection to it.
    pub(super) fn is_usable(&self, node: NodeId) -> bool {
        self.contains(node) && !self[node].gone && self[node].conn.is_some()
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let others = self.others.iter().map(|(id, node)| (NodeId(id), node));
        std::iter::once((NodeId::HOME, &self.home)).chain(others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Node)> {
        let others = self.others.iter_mut().map(|(id, node)| (NodeId(id), node));
        std::iter::once((NodeId::HOME, &mut self.home)).chain(others)
    }
}

/// A node is there for as long as anything names it.
impl Index<NodeId> for Nodes {
    type Output = Node;

    #[inline]
    fn index(&self, id: NodeId) -> &Node {
        if id == NodeId::HOME {
            return &self.home;
        }
        self.others.get(id.0).expect("a node is there for as long as anything names it")
    }
}

impl IndexMut<NodeId> for Nodes {
    #[inline]
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        if id == NodeId::HOME {
            return &mut self.home;
        }
        self.others.get_mut(id.0).expect("a node is there for as long as anything names it")
    }
}

impl<W> Engine<W> {
    /// The node that a connection leads to.
    pub(super) fn node_of(&self, conn: ConnId) -> Option<NodeId> {
        self.connections.get(conn.0).map(|connection| connection.node)
    }

    /// The node that a connection leads to, if it is the one that takes its new requests.
    #[inline]
    pub(super) fn served_by(&self, conn: ConnId) -> Option<NodeId> {
        let node = self.node_of(conn)?;
        (self.nodes[node].conn == Some(conn)).then_some(node)
    }

    /// The node that serves a command.
    #[inline]
    pub(super) fn route(&self, op: &Op) -> NodeId {
        match &self.cluster {
            None => NodeId::HOME,
            Some(cluster) => self.route_in(cluster, op),
        }
    }

    /// The node by which it is told how the client stands: in a cluster one that is connected, or one that
    /// says why none is.
    pub(super) fn spokesman(&self) -> &Node {
        let Some(cluster) = &self.cluster else { return &self.nodes.home };
        let known = |id: &&NodeId| self.nodes.contains(**id);
        let mut owners = cluster.primaries().iter().filter(known).map(|id| &self.nodes[*id]);
        let connected = owners.clone().find(|node| node.conn.is_some());
        let home = Some(&self.nodes.home).filter(|home| home.rejected.is_some());
        let refused =
            || self.nodes.iter().map(|(_, node)| node).find(|node| node.rejected.is_some());
        let down = owners.find(|node| node.cause.is_some());
        connected.or(home).or_else(refused).or(down).unwrap_or(&self.nodes.home)
    }

    /// What the node of a cluster is called that has this number, where it is still there.
    pub(crate) fn node_numbered(&self, number: u32) -> Option<Arc<str>> {
        let mut nodes = self.nodes.iter().filter(|_| number > 0);
        nodes.find(|(_, node)| node.number == number).map(|(_, node)| node.label.clone())
    }

    /// What a command's node is called.
    pub(super) fn label_of(&self, op: &Op) -> Arc<str> {
        self.nodes[self.route(op)].label.clone()
    }

    /// What the node is called that a connection leads to.
    pub(super) fn label_at(&self, conn: ConnId) -> Arc<str> {
        let node = self.node_of(conn).unwrap_or(self.nodes.home());
        self.nodes[node].label.clone()
    }
}

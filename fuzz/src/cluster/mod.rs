//! A modelled cluster: several servers, each with its own slots, its own address and its own idea of who
//! serves what.
//!
//! There is one truth about who serves what, and each node learns of a change at its own time: until then
//! it goes on as before, sends clients to whom it takes for the owner, and takes writes that will be lost
//! if it is not master any more.
//!
//! | module | what it is |
//! |---|---|
//! | [`map`] | who serves which slots, as one node sees it |
//! | [`member`] | a server that sends elsewhere what is not its own, and says what it knows |
//! | [`plan`] | what kind of cluster it is |
//! | `changes` | slots and masters change, and nodes learn of it |
//! | `trouble` | what goes wrong in a cluster, and how it is put right |
//! | `wishes` | commands over several slots, and for all nodes |
//! | `bus` | what is published at one node is heard at the others |
//! | `judge` | what must hold in clusters only |
//!
//! A deployment behind sentinels would be a sibling of [`plan::Plan`], with its own answer to the question
//! of who is master; nodes, logs and failovers are the same.

mod bus;
pub(crate) mod changes;
pub(crate) mod judge;
pub mod map;
pub mod member;
pub mod plan;
pub(crate) mod trouble;
pub(crate) mod wishes;

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, rc::Rc, time::Duration};

use unfazed_core::engine::{Lookup, Target};

pub use member::{Hosts, Member, Put, Trick};

use crate::{
    network::{Link, Weather},
    server::Server,
    world::World,
};
use changes::Moving;
use map::Map;

/// The servers of a world and what is to be known of them, where it is a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Each but the one that stands in [`World::server`], which has left its place empty.
    nodes: Vec<Server>,
    /// Which one that is.
    at: usize,
    /// Who serves what, whoever knows it.
    pub(crate) truth: Rc<Map>,
    /// A slot that changes hands key by key.
    pub(crate) moving: Option<Moving>,
    /// Slots that nobody serves for now, and whose they are.
    pub(crate) gap: Option<(u16, u16, usize)>,
    /// Which host is looked up.
    names: Vec<(Lookup, String, u16)>,
    /// When the client was first connected to the shard with which nothing is ever wrong.
    pub(crate) spared_since: Option<Duration>,
    /// When each endpoint was dialled within the last second.
    pub(crate) dials: BTreeMap<u16, Vec<Duration>>,
    /// When the client has asked for the map within the last second.
    pub(crate) refreshes: Vec<Duration>,
    /// When the others hear of what was last published at each node.
    pub(crate) heard_at: BTreeMap<usize, Duration>,
}

impl Cluster {
    /// One in which everybody knows the truth.
    pub(crate) fn new(truth: Map, nodes: Vec<Server>) -> Self {
        Cluster {
            nodes,
            at: 0,
            truth: Rc::new(truth),
            moving: None,
            gap: None,
            names: Vec::new(),
            spared_since: None,
            dials: BTreeMap::new(),
            refreshes: Vec::new(),
            heard_at: BTreeMap::new(),
        }
    }
}

impl Cluster {
    /// Nobody is down.
    pub(crate) fn all_up(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.up = true);
    }

    /// The number of the node that stands in [`World::server`].
    pub(crate) fn here(&self) -> usize {
        self.at
    }

    /// One of those that do not.
    pub(crate) fn other(&self, node: usize) -> &Server {
        &self.nodes[node]
    }

    /// The node that stands in [`World::server`] to begin with.
    pub(crate) fn take_first(&mut self) -> Server {
        std::mem::take(&mut self.nodes[0])
    }
}

impl World {
    /// Whether the server of a connection is still where it was dialled.
    pub(crate) fn still_leads(&self, link: &Link) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        cluster.truth.ports[link.at] == link.port
    }

    /// Has the node of this number stand in `server`, with all the books. In a world of one server that is
    /// always so.
    pub(crate) fn turn_to(&mut self, node: usize) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.at == node {
            return;
        }
        let before = std::mem::replace(&mut cluster.at, node);
        std::mem::swap(&mut self.server, &mut cluster.nodes[before]);
        std::mem::swap(&mut self.server, &mut cluster.nodes[node]);
        cluster.nodes[before].hand_books_to(&mut self.server);
    }

    /// Has the server stand in `server` to which a connection leads.
    pub(crate) fn turn_to_link(&mut self, link: u64) {
        if let Some(link) = self.links.get(&link) {
            self.turn_to(link.at);
        }
    }

    /// The number of the server that stands in `server`.
    pub(crate) fn here(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.at)
    }

    /// How many servers there are.
    pub(crate) fn servers(&self) -> usize {
        self.cluster.as_ref().map_or(1, |cluster| cluster.nodes.len())
    }

    /// A server by its number, wherever it stands.
    pub(crate) fn server_at(&self, node: usize) -> &Server {
        match &self.cluster {
            Some(cluster) if cluster.at != node => &cluster.nodes[node],
            _ => &self.server,
        }
    }

    /// The server that a target leads to, if there is one.
    pub(crate) fn leads_to(&self, target: &Target) -> Option<usize> {
        let Some(cluster) = &self.cluster else { return Some(0) };
        let Target::Tcp(address) = target else { return None };
        cluster.truth.ports.iter().position(|port| *port == address.port())
    }

    /// Whether it is this server that serves a key.
    pub(crate) fn is_served_by(&self, node: usize, key: &str) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        cluster.truth.owner(unfazed_core::slot::slot(key.as_bytes())) == Some(node)
    }

    /// Whether nothing may ever go wrong with a server.
    pub(crate) fn is_spared(&self, node: usize) -> bool {
        let (Some(cluster), Some(plan)) = (&self.cluster, &self.setup.cluster) else {
            return false;
        };
        let Some(spared) = plan.spared else { return false };
        node == spared || cluster.truth.roles[node] == map::Role::Replica(spared)
    }

    /// Whether what goes wrong at the server at hand concerns a connection.
    pub(crate) fn concerns(&self, link: &Link) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.at == link.at)
    }

    /// What is wrong with the network on the way to a server.
    pub(crate) fn weather_at(&self, node: usize) -> Weather {
        match self.weather.only {
            Some(only) if only != node => Weather::default(),
            _ => self.weather,
        }
    }

    /// Notes which name is looked up.
    pub(crate) fn note_lookup(&mut self, lookup: Lookup, host: &str, port: u16) {
        if let Some(cluster) = &mut self.cluster {
            cluster.names.push((lookup, host.to_owned(), port));
        }
    }

    /// What a name of a cluster's node stands for; nothing where there is no cluster.
    pub(crate) fn looked_up(&self, lookup: Lookup) -> Option<SocketAddr> {
        let mut names = self.cluster.as_ref()?.names.iter();
        let (_, host, port) = names.find(|(of, ..)| *of == lookup)?;
        let last = host.trim_start_matches("node").trim_end_matches(".sim").parse().unwrap_or(9);
        Some(SocketAddr::new(IpAddr::from([10, 0, 1, last]), *port))
    }
}

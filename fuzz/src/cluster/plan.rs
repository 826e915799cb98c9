//! What kind of cluster it is.

use std::rc::Rc;

use unfazed_core::{
    Config,
    config::{AddressMap, ClusterMap, Deployment, Endpoint},
    slot::{SLOTS, slot},
};

use super::{
    Cluster, Hosts, Member,
    map::{Map, Role},
};
use crate::{entropy::Entropy, server::Server};

/// Drawn once, at the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many shards have slots in the beginning. Their masters have the first numbers.
    pub shards: usize,
    /// What each node is.
    pub roles: Vec<Role>,
    /// How nodes are called.
    pub hosts: Hosts,
    /// Whether the nodes know no CLUSTER SHARDS.
    pub old: bool,
    /// How far replicas are behind their masters at most.
    pub lag_millis: u64,
    /// The longest before a node learns of a change.
    pub gossip_millis: u64,
    /// What goes wrong with the cluster itself, one bit each.
    pub faults: u64,
    /// How often, in a hundred faults, it is one of the cluster itself.
    pub faults_percent: u64,
    /// The master with which nothing ever goes wrong, if there is one.
    pub spared: Option<usize>,
    /// How many of its nodes the client knows from the beginning.
    pub seeds: usize,
}

/// The port of the first node. Ports are never used again, so each tells which node is meant.
const FIRST_PORT: u16 = 7_001;

/// How far the port of a node that moves is from the one before.
pub(crate) const NEXT_PORT: u16 = 20;

impl Plan {
    /// Draws one.
    pub fn draw(entropy: &mut Entropy) -> Self {
        let shards = entropy.between(2, 4) as usize;
        let mut roles = vec![Role::Master; shards];
        for master in 0..shards {
            if entropy.chance(60) {
                roles.push(Role::Replica(master));
            }
        }
        if entropy.chance(30) {
            // It has no slots yet.
            roles.push(Role::Master);
        }
        Plan {
            shards,
            roles,
            hosts: entropy.pick(&Hosts::ALL),
            old: entropy.chance(15),
            lag_millis: entropy.pick(&[0, 20, 200, 1_000]),
            gossip_millis: entropy.pick(&[1, 10, 100, 1_000]),
            faults: entropy.draw() & if entropy.chance(50) { u64::MAX } else { entropy.draw() },
            faults_percent: entropy.pick(&[0, 30, 50, 80]),
            spared: entropy.chance(30).then(|| entropy.below(shards as u64) as usize),
            seeds: entropy.between(1, shards as u64) as usize,
        }
    }

    /// Has a client enter this cluster.
    #[must_use]
    pub fn apply(&self, config: Config, entropy: &mut Entropy) -> Config {
        let seed = |node: usize| Endpoint::tcp(self.hosts.reached(port(node)), port(node));
        let mut config = config;
        config.deployment = Deployment::Cluster((0..self.seeds).map(seed).collect());
        config.database = 0;
        if entropy.chance(40) {
            config = config.cluster_map(ClusterMap::Slots);
        }
        if self.hosts == Hosts::Mapped {
            config = config.address_map(AddressMap::new().function(|host, port| {
                let last = host.strip_prefix("192.168.0.")?;
                Some((format!("10.0.1.{last}"), port))
            }));
        }
        config
    }

    /// The cluster, with nodes that are like `server`.
    pub(crate) fn build(&self, server: impl Fn() -> Server) -> Cluster {
        let ports = (0..self.roles.len()).map(port).collect();
        let mut truth = Map::new(self.roles.clone(), ports);
        for shard in 0..self.shards {
            let bound = |shard: usize| (usize::from(SLOTS) * shard / self.shards) as u16;
            truth.give(bound(shard), bound(shard + 1) - 1, Some(shard));
        }
        let map = Rc::new(truth.clone());
        let node = |(me, role): (usize, &Role)| {
            let mut server = server();
            let of = if let Role::Replica(master) = role { *master } else { me };
            (server.run, server.history) = (1_000 * me as u64, 1_000 * of as u64);
            // All have been up for long.
            server.promoted = true;
            server.keep_only(|key| truth.owner(slot(key.as_bytes())) == Some(of));
            server.member = Some(Member {
                me,
                map: Rc::clone(&map),
                migrating: std::collections::BTreeMap::new(),
                importing: std::collections::BTreeMap::new(),
                hosts: self.hosts,
                old: self.old,
                down: false,
                trick: None,
                log: Vec::new(),
                asked: 0,
                asked_apart: None,
                redirected: [0; 3],
            });
            server
        };
        let nodes = self.roles.iter().enumerate().map(node).collect();
        Cluster::new(truth, nodes)
    }
}

fn port(node: usize) -> u16 {
    FIRST_PORT + node as u16
}

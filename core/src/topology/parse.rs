//! CLUSTER SHARDS and CLUSTER SLOTS: strict in what counts, indifferent to fields that nobody knows yet.

use super::{Layout, Malformed, Shard};
use crate::{
    config::{AddressMap, Endpoint},
    resp::View,
    slot::SLOTS,
};

/// The node that was asked, and what becomes of the addresses that it names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) at: &'a Endpoint,
    pub(crate) map: &'a AddressMap,
    /// Connections are encrypted, so that ports for that are the ones to go to.
    pub(crate) tls: bool,
}

/// More shards than a cluster can have: each has a slot.
const SHARDS_MAX: usize = SLOTS as usize;

/// Reads CLUSTER SLOTS: `[first, last, [host, port, id, …], replica…]…`. A master may have several ranges.
pub(crate) fn parse_slots(reply: View<'_>, asked: &Asked<'_>) -> Result<Layout, Malformed> {
    if !reply.kind().is_aggregate() {
        return Err(Malformed("no array of ranges"));
    }
    let mut shards: Vec<Shard> = Vec::new();
    let mut unreachable = Vec::new();
    for entry in reply.items() {
        let mut fields = entry.items();
        let first = slot(fields.next())?;
        let last = slot(fields.next())?;
        if first > last {
            return Err(Malformed("a range that ends before it begins"));
        }
        let master = fields.next().ok_or(Malformed("a range without a node"))?;
        let Some(master) = slots_node(master, asked)? else {
            unreachable.push((first, last));
            continue;
        };
        let replicas = fields.map(|node| slots_node(node, asked));
        let replicas: Vec<_> = replicas.collect::<Result<_, _>>()?;
        let replicas = replicas.into_iter().flatten();
        match shards.iter_mut().find(|shard| shard.master.as_ref() == Some(&master)) {
            Some(shard) => {
                shard.ranges.push((first, last));
                shard.replicas.extend(replicas);
            }
            None => shards.push(Shard {
                master: Some(master),
                replicas: replicas.collect(),
                ranges: vec![(first, last)],
            }),
        }
    }
    if !unreachable.is_empty() {
        shards.push(Shard { master: None, replicas: Vec::new(), ranges: unreachable });
    }
    Layout::new(shards)
}

/// Reads CLUSTER SHARDS: for each shard a map (in RESP2 a flat array) of `slots`, which are the first and
/// last of each range one after the other, and `nodes`, each a map again.
pub(crate) fn parse_shards(reply: View<'_>, asked: &Asked<'_>) -> Result<Layout, Malformed> {
    if !reply.kind().is_aggregate() || reply.len() > SHARDS_MAX {
        return Err(Malformed("no array of shards"));
    }
    let mut shards = Vec::new();
    for entry in reply.items() {
        let slots = field(entry, b"slots").ok_or(Malformed("a shard without slots"))?;
        let bounds: Vec<u16> =
            slots.items().map(|bound| slot(Some(bound))).collect::<Result<_, _>>()?;
        if !bounds.len().is_multiple_of(2) {
            return Err(Malformed("half a range of slots"));
        }
        let ranges: Vec<_> = bounds.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        if ranges.iter().any(|(first, last)| first > last) {
            return Err(Malformed("a range that ends before it begins"));
        }
        let nodes = field(entry, b"nodes").ok_or(Malformed("a shard without nodes"))?;
        let mut shard = Shard { master: None, replicas: Vec::new(), ranges };
        let mut failed = None;
        for node in nodes.items() {
            let Some(endpoint) = shards_node(node, asked)? else { continue };
            let role = field(node, b"role").ok_or(Malformed("a node without a role"))?;
            let health = field(node, b"health");
            // Valkey says `fail`, Redis `failed`.
            let is_failed = health.is_some_and(|health| health.payload().starts_with(b"fail"));
            match role.payload() {
                // One that has failed keeps its slots until another is elected.
                b"master" | b"primary" if is_failed => failed = Some(endpoint),
                b"master" | b"primary" if shard.master.is_none() => shard.master = Some(endpoint),
                _ => shard.replicas.push(endpoint),
            }
        }
        match failed {
            Some(failed) if shard.master.is_none() => shard.master = Some(failed),
            failed => shard.replicas.extend(failed),
        }
        shards.push(shard);
    }
    Layout::new(shards)
}

/// A node of CLUSTER SLOTS; `None` where nobody knows how it is reached.
fn slots_node(node: View<'_>, asked: &Asked<'_>) -> Result<Option<Endpoint>, Malformed> {
    let mut fields = node.items();
    let host = fields.next().ok_or(Malformed("a node without a host"))?;
    let port = port(fields.next().ok_or(Malformed("a node without a port"))?)?;
    Ok(endpoint(Some(host), port, asked))
}

/// A node of CLUSTER SHARDS. `endpoint` is the host that is to be preferred, `ip` what is known before
/// Redis 7.
fn shards_node(node: View<'_>, asked: &Asked<'_>) -> Result<Option<Endpoint>, Malformed> {
    let names: [&[u8]; 2] = if asked.tls { [b"tls-port", b"port"] } else { [b"port", b"tls-port"] };
    let found = names.iter().find_map(|name| field(node, name));
    let port = port(found.ok_or(Malformed("a node without a port"))?)?;
    let host = field(node, b"endpoint").or_else(|| field(node, b"ip"));
    Ok(endpoint(host, port, asked))
}

fn endpoint(host: Option<View<'_>>, port: u16, asked: &Asked<'_>) -> Option<Endpoint> {
    match host {
        Some(host) if !host.is_null() => {
            asked.endpoint(Some(std::str::from_utf8(host.payload()).ok()?), port)
        }
        _ => asked.endpoint(None, port),
    }
}

fn slot(bound: Option<View<'_>>) -> Result<u16, Malformed> {
    let number = bound.and_then(integer).and_then(|slot| u16::try_from(slot).ok());
    number.filter(|slot| *slot < SLOTS).ok_or(Malformed("a slot that is none"))
}

fn port(number: View<'_>) -> Result<u16, Malformed> {
    let number = integer(number).and_then(|port| u16::try_from(port).ok());
    number.filter(|port| *port != 0).ok_or(Malformed("a port that is none"))
}

/// A number, also where it came as text, as some proxies send it.
fn integer(number: View<'_>) -> Option<i64> {
    number.integer().or_else(|| std::str::from_utf8(number.payload()).ok()?.parse().ok())
}

fn field<'v>(of: View<'v>, name: &[u8]) -> Option<View<'v>> {
    of.pairs().find_map(|(key, value)| (key.payload() == name).then_some(value))
}

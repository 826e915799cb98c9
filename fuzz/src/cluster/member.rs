//! A server that belongs to a cluster: whom it sends elsewhere, and what it says of the cluster.

use std::{collections::BTreeMap, rc::Rc};

use unfazed_core::{pubsub::TopicKind, resp::Value, slot::slot};

use super::map::{Map, Role};
use crate::server::{Data, Server, Session, When, bulk, is_write};

/// What a server knows as a member of a cluster.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its own number.
    pub me: usize,
    /// The cluster as it sees it, which may be out of date.
    pub map: Rc<Map>,
    /// Slots whose keys go to another node, one by one.
    pub migrating: BTreeMap<u16, usize>,
    /// Slots whose keys come from another node, one by one.
    pub importing: BTreeMap<u16, usize>,
    /// How nodes are called by their host.
    pub hosts: Hosts,
    /// It knows no CLUSTER SHARDS.
    pub old: bool,
    /// It takes the cluster for down.
    pub down: bool,
    /// What is wrong with its redirects, if anything.
    pub trick: Option<Trick>,
    /// What was written since its replica had everything.
    pub log: Vec<Put>,
    /// How often it was asked for its map.
    pub asked: u64,
    /// Something came between ASKING and what it was for.
    pub asked_apart: Option<String>,
    /// How often it has redirected: MOVED, ASK, and how often it answered TRYAGAIN.
    pub redirected: [u64; 3],
}

/// How a cluster tells where its nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// By an address of its own for each.
    Addresses,
    /// By addresses of IPv6.
    Ipv6,
    /// By a name.
    Names,
    /// By addresses that only the client's map makes any use of.
    Mapped,
    /// All are on one host, which is left out.
    Empty,
    /// All are on one host, and there is null in its place.
    Null,
}

/// What is wrong with a node's redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// It sends clients to itself.
    ToItself,
    /// It sends clients to the node of this number, for whatever slot.
    To(usize),
    /// It does not know how the others are reached.
    Nowhere,
    /// It sends clients where nobody is.
    Astray,
    /// Its scripts say that their key has moved, once they are through.
    Forged,
}

/// One key's state after a write, on its way to a replica.
#[derive(Clone, Debug)]
pub struct Put {
    /// Milliseconds since the epoch.
    pub unix: u64,
    /// Which one.
    pub key: String,
    /// What is there, and when it expires; nothing where there is nothing.
    pub state: Option<(Data, Option<u64>)>,
}

/// Where nobody is, and where no client may show its credentials.
pub const STRANGER: u16 = 6_666;

impl Hosts {
    /// All of them.
    pub const ALL: [Hosts; 6] =
        [Hosts::Addresses, Hosts::Ipv6, Hosts::Names, Hosts::Mapped, Hosts::Empty, Hosts::Null];

    /// The host of the node at a port, as nodes tell it.
    #[must_use]
    pub fn of(self, port: u16) -> String {
        match self {
            Hosts::Addresses => format!("10.0.1.{}", port % 100),
            Hosts::Ipv6 => format!("fd00::{}", port % 100),
            Hosts::Names => format!("node{}.sim", port % 100),
            Hosts::Mapped => format!("192.168.0.{}", port % 100),
            Hosts::Empty | Hosts::Null => "10.0.1.1".to_owned(),
        }
    }

    /// The host at which a client that knows its way reaches it.
    #[must_use]
    pub fn reached(self, port: u16) -> String {
        match self {
            Hosts::Mapped => Hosts::Addresses.of(port),
            other => other.of(port),
        }
    }

    fn told(self, port: u16) -> Value {
        match self {
            Hosts::Empty => bulk(""),
            Hosts::Null => Value::Null,
            other => bulk(&other.of(port)),
        }
    }

    fn redirects_to(self, port: u16) -> String {
        match self {
            Hosts::Empty | Hosts::Null => format!(":{port}"),
            other => format!("{}:{port}", other.of(port)),
        }
    }
}

impl Member {
    fn host(&self, node: usize) -> Value {
        let port = self.map.ports[node];
        match self.trick {
            Some(Trick::Nowhere) if node != self.me => bulk("?"),
            _ => self.hosts.told(port),
        }
    }

    fn redirect(&mut self, word: &str, slot: u16, to: usize) -> String {
        let to = match self.trick {
            Some(Trick::ToItself) => self.me,
            Some(Trick::To(other)) => other,
            _ => to,
        };
        self.redirected[usize::from(word == "ASK")] += 1;
        let place = match self.trick {
            Some(Trick::Nowhere) => format!("?:{}", self.map.ports[to]),
            Some(Trick::Astray) => self.hosts.redirects_to(STRANGER),
            _ => self.hosts.redirects_to(self.map.ports[to]),
        };
        format!("{word} {slot} {place}")
    }

    /// CLUSTER SHARDS.
    fn shards(&self) -> Value {
        let map = &self.map;
        let shard = |master: usize| {
            let owned = map.ranges().into_iter().filter(|(.., owner)| *owner == master);
            let bounds = owned.flat_map(|(first, last, _)| [first, last]);
            let slots = bounds.map(|bound| Value::Integer(i64::from(bound))).collect();
            let nodes = [master].into_iter().chain(map.replicas_of(master));
            let node = |node: usize| {
                let role = if node == master { "master" } else { "replica" };
                Value::Map(vec![
                    (bulk("id"), bulk(&format!("node{node}"))),
                    (bulk("port"), Value::Integer(i64::from(map.ports[node]))),
                    (bulk("ip"), self.host(node)),
                    (bulk("endpoint"), self.host(node)),
                    (bulk("role"), bulk(role)),
                    (bulk("replication-offset"), Value::Integer(0)),
                    (bulk("health"), bulk("online")),
                ])
            };
            Value::Map(vec![
                (bulk("slots"), Value::Array(slots)),
                (bulk("nodes"), Value::Array(nodes.map(node).collect())),
            ])
        };
        Value::Array(map.masters().into_iter().map(shard).collect())
    }

    /// CLUSTER NODES: what is known of each node, and of the own slots also where they go to and come from.
    fn nodes(&self) -> Value {
        let map = &self.map;
        let line = |node: usize| {
            let (flags, master, epoch) = match map.roles[node] {
                Role::Replica(master) => ("slave", format!("node{master}"), map.epochs[master]),
                _ => ("master", "-".to_owned(), map.epochs[node]),
            };
            let me = node == self.me;
            let port = map.ports[node];
            let host = self.hosts.of(port);
            let myself = if me { "myself," } else { "" };
            let own = map.ranges().into_iter().filter(|(.., owner)| *owner == node);
            let own = own.map(|(first, last, _)| match first == last {
                true => format!(" {first}"),
                false => format!(" {first}-{last}"),
            });
            let leaving = self.migrating.iter().filter(|_| me);
            let leaving = leaving.map(|(slot, to)| format!(" [{slot}->-node{to}]"));
            let arriving = self.importing.iter().filter(|_| me);
            let arriving = arriving.map(|(slot, from)| format!(" [{slot}-<-node{from}]"));
            let slots: String = own.chain(leaving).chain(arriving).collect();
            format!(
                "node{node} {host}:{port}@1{port} {myself}{flags} {master} 0 0 {epoch} connected{slots}\n"
            )
        };
        let known = (0..map.ports.len()).filter(|node| map.roles[*node] != Role::Stranger);
        bulk(&known.map(line).collect::<String>())
    }

    /// CLUSTER SLOTS.
    fn slots(&self) -> Value {
        let map = &self.map;
        let node = |node: usize| {
            Value::Array(vec![
                self.host(node),
                Value::Integer(i64::from(map.ports[node])),
                bulk(&format!("node{node}")),
                Value::Array(Vec::new()),
            ])
        };
        let range = |(first, last, owner): (u16, u16, usize)| {
            let bounds = [first, last].map(|bound| Value::Integer(i64::from(bound)));
            let nodes = [owner].into_iter().chain(map.replicas_of(owner)).map(node);
            Value::Array(bounds.into_iter().chain(nodes).collect())
        };
        Value::Array(map.ranges().into_iter().map(range).collect())
    }
}

impl Server {
    /// What only a member of a cluster is asked; nothing where it is another command, or where there is no
    /// cluster.
    pub(crate) fn member_command(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[String],
    ) -> Option<Value> {
        if name != "MULTI" && keys_of(words).is_empty() {
            self.note_asked_apart(session, words);
        }
        let member = self.member.as_mut()?;
        match name {
            "ASKING" => {
                session.asking = true;
                Some(Value::OK)
            }
            "CLUSTER" => {
                member.asked += 1;
                Some(match words.get(1).map(String::as_str) {
                    Some("SHARDS") if member.old => Value::error(
                        "ERR Unknown subcommand or wrong number of arguments for 'SHARDS'. Try CLUSTER HELP.",
                    ),
                    Some("SHARDS") => member.shards(),
                    Some("NODES") => member.nodes(),
                    _ => member.slots(),
                })
            }
            _ => None,
        }
    }

    /// Why a command is not this node's to carry out; `several` are those of a transaction.
    pub(crate) fn redirection(
        &mut self,
        several: &[&[String]],
        asking: bool,
        when: When,
    ) -> Option<String> {
        self.member.as_ref()?;
        let keys: Vec<String> = several.iter().flat_map(|words| keys_of(words)).collect();
        let is_there = |key: &String| self.peek(key, when.unix).is_some();
        let present = keys.iter().filter(|key| is_there(key)).count();
        let member = self.member.as_mut()?;
        let Some(first) = keys.first() else {
            let follows = matches!(member.map.roles[member.me], Role::Replica(_));
            let writes = several.iter().any(|words| is_write(&words[0].to_ascii_uppercase()));
            return (follows && writes)
                .then(|| "READONLY You can't write against a read only replica.".to_owned());
        };
        let slot_of = |key: &String| slot(key.as_bytes());
        let slot = slot_of(first);
        if keys.iter().any(|key| slot_of(key) != slot) {
            return Some("CROSSSLOT Keys in request don't hash to the same slot".to_owned());
        }
        if member.down {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let Some(owner) = member.map.owner(slot) else {
            return Some("CLUSTERDOWN Hash slot not served".to_owned());
        };
        if matches!(member.trick, Some(Trick::ToItself | Trick::To(_) | Trick::Astray)) {
            // It sends away even what is its own.
            return Some(member.redirect("MOVED", slot, owner));
        }
        let tries_again = "TRYAGAIN Multiple keys request during rehashing of slot";
        if owner == member.me {
            let to = *member.migrating.get(&slot).filter(|_| present < keys.len())?;
            if present > 0 {
                member.redirected[2] += 1;
                return Some(tries_again.to_owned());
            }
            return Some(member.redirect("ASK", slot, to));
        }
        if member.importing.contains_key(&slot) && asking {
            let some_are_missing = keys.len() > 1 && present < keys.len();
            member.redirected[2] += u64::from(some_are_missing);
            return some_are_missing.then(|| tries_again.to_owned());
        }
        Some(member.redirect("MOVED", slot, owner))
    }

    /// Notes that something came between ASKING and what that was for, if it did.
    pub(crate) fn note_asked_apart(&mut self, session: &Session, words: &[String]) {
        if let Some(member) = &mut self.member
            && session.asking
            && !session.is_in_multi()
        {
            member.asked_apart = Some(words.join(" "));
        }
    }

    /// Whether this node hands out what is published on a channel: all but strangers do, and of shard channels
    /// whoever takes their slot for its own.
    pub(crate) fn hands_out(&self, kind: TopicKind, channel: &str) -> bool {
        let Some(member) = &self.member else { return true };
        match kind {
            TopicKind::Shard => member.map.owner(slot(channel.as_bytes())) == Some(member.me),
            _ => member.map.roles[member.me] != Role::Stranger,
        }
    }

    /// Why shard channels are not this node's to add or to drop. They stay with the owner of their slot while
    /// its keys are on their way, and are served where a node takes the cluster for down
    /// (`cluster-allow-pubsubshard-when-down`).
    pub(crate) fn channels_elsewhere(&mut self, slot: u16, adds: bool) -> Option<String> {
        let member = self.member.as_mut()?;
        let Some(owner) = member.map.owner(slot) else {
            return Some("CLUSTERDOWN Hash slot not served".to_owned());
        };
        // Who sends away what is its own has it all the same, so it has to let go of it.
        let astray = matches!(member.trick, Some(Trick::ToItself | Trick::To(_) | Trick::Astray));
        (owner != member.me || (astray && adds)).then(|| member.redirect("MOVED", slot, owner))
    }

    /// Takes away the shard channels of slots that are not this node's any more. Gives what goes to whom.
    pub(crate) fn drop_channels(&mut self) -> Vec<(u64, Vec<u8>)> {
        let Some(member) = &self.member else { return Vec::new() };
        let (map, me) = (Rc::clone(&member.map), member.me);
        self.take_away(|kind, name| {
            kind == TopicKind::Shard && map.owner(slot(name.as_bytes())) != Some(me)
        })
    }

    /// Why one that waits does so at the wrong node by now; nothing where it does not.
    pub(crate) fn waits_elsewhere(&mut self, words: &[String]) -> Option<String> {
        let member = self.member.as_mut()?;
        if member.down {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let slot = slot(keys_of(words).first()?.as_bytes());
        match member.map.owner(slot) {
            Some(owner) if owner == member.me || member.importing.contains_key(&slot) => None,
            Some(owner) => Some(member.redirect("MOVED", slot, owner)),
            None => Some("CLUSTERDOWN Hash slot not served".to_owned()),
        }
    }

    /// What a script says that would send its callers astray.
    pub(crate) fn forged(&self, name: &str, words: &[String]) -> Option<Value> {
        let member = self.member.as_ref().filter(|member| member.trick == Some(Trick::Forged))?;
        let key = words.get(3).filter(|_| name == "EVAL")?;
        let place = member.hosts.redirects_to(STRANGER);
        Some(Value::error(format!("MOVED {} {place}", slot(key.as_bytes()))))
    }

    /// Notes what a write has left, for the replica.
    pub(crate) fn log_write(&mut self, words: &[String], when: When) {
        if self.member.is_none() || !is_write(&words[0].to_ascii_uppercase()) {
            return;
        }
        for key in keys_of(words) {
            let state = self.entry(&key).cloned();
            self.log_put(Put { unix: when.unix, key, state });
        }
    }

    /// Notes a key's new state, for the replica.
    pub(crate) fn log_put(&mut self, put: Put) {
        if let Some(member) = &mut self.member {
            member.log.push(put);
        }
    }
}

/// The keys of a command, by what it is called.
#[must_use]
pub fn keys_of(words: &[String]) -> Vec<String> {
    let args = &words[1..];
    match words[0].to_ascii_uppercase().as_str() {
        "MGET" | "DEL" | "EXISTS" | "UNLINK" | "TOUCH" | "WATCH" => args.to_vec(),
        "MSET" => args.iter().step_by(2).cloned().collect(),
        "EVAL" => args.iter().skip(2).take(1).cloned().collect(),
        "BLPOP" => args[..args.len().saturating_sub(1)].to_vec(),
        "BLMOVE" => args.iter().take(2).cloned().collect(),
        "SCAN" | "CLUSTER" | "PING" | "DBSIZE" | "FLUSHALL" | "INFO" | "ROLE" | "CLIENT"
        | "SELECT" | "HELLO" | "AUTH" | "MULTI" | "EXEC" | "DISCARD" | "UNWATCH" | "ECHO"
        | "NOSUCH" => Vec::new(),
        _ => args.iter().take(1).cloned().collect(),
    }
}

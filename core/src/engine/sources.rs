//! Scripts are called by their digest; where the server does not know one, it gets the source.
//!
//! ```text
//!  a call alone:           EVALSHA ──NOSCRIPT──▶ EVAL, once
//!  in a pipeline, or one that waited for a connection:
//!      the first one of its script on this connection: EVAL
//!      all others:         EVALSHA ──NOSCRIPT──▶ EVAL, behind what was sent meanwhile
//!  in a transaction:       EVAL for the first one of its script, EVALSHA for all others
//! ```
//!
//! This is done here and not by whoever waits for the reply, because nobody may: a call that is let go
//! runs all the same, and one deadline holds for all of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Engine, NodeId, Parked};
use crate::{
    Cause,
    connection::Op,
    reply::ServerError,
    request::split_command,
    resp::encode,
    script::{Digest, Script},
};

/// How many digests of scripts are remembered as sent. More of them are made by who writes values into
/// the text of a script, and such scripts are not called twice; when it is full, all are forgotten, at
/// the price of sending each once more.
const SENT_MAX: usize = 1_024;

/// The scripts of a request, each with the item that calls it, in order.
pub(super) type Called = Vec<(u32, Script)>;

/// Which scripts were sent with their source since the present connection was made.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeSet<Digest>);

impl Sent {
    /// Notes that this one is sent; gives whether it was not before.
    fn note(&mut self, script: &Script) -> bool {
        if self.0.contains(script.digest()) {
            return false;
        }
        if self.0.len() >= SENT_MAX {
            self.0.clear();
        }
        self.0.insert(*script.digest())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<W> Engine<W> {
    /// The same pipeline, where the first call of each script that the server may not know has its
    /// source; `None` where there is none, or no connection either.
    #[cold]
    pub(super) fn bring_sources(&mut self, node: NodeId, batch: &Batch) -> Option<Batch> {
        let node = &mut self.nodes[node];
        node.conn?;
        let new = batch.scripts.iter().filter(|(_, script)| node.scripts_sent.note(script));
        let new: BTreeMap<u32, &Script> = new.map(|(at, script)| (*at, script)).collect();
        if new.is_empty() { None } else { Some(with_sources(batch, &new)) }
    }

    /// Whether this is a call of a script that the server does not know, and that can be sent again with
    /// its source.
    pub(super) fn lacks_source(&self, op: &Op, error: &ServerError) -> bool {
        error.code() == "NOSCRIPT" && self.script_of(op).is_some()
    }

    /// A command that is to be sent again; with the source of its script where the server lacked it.
    pub(super) fn parked_again(
        &mut self,
        mut op: Op,
        mut bytes: Vec<u8>,
        error: ServerError,
    ) -> Parked {
        if error.code() == "NOSCRIPT"
            && let Some(script) = self.script_of(&op).cloned()
        {
            self.reached(super::trial::Rare::SourceSent);
            // It has lost the others as well, if it ever had them.
            let node = self.route(&op);
            let sent = &mut self.nodes[node].scripts_sent;
            sent.clear();
            sent.note(&script);
            self.give_source(&script, &mut op, &mut bytes);
        }
        Parked { op, bytes, cause: Some(Cause::NotReady(error)) }
    }

    /// A call that goes onto a connection after it has waited: it brings its source if it is the first
    /// of its script there.
    #[cold]
    pub(super) fn bring_source(&mut self, node: NodeId, op: &mut Op, bytes: &mut Vec<u8>) {
        if let Some(script) = self.script_of(op).cloned()
            && self.nodes[node].scripts_sent.note(&script)
        {
            self.give_source(&script, op, bytes);
        }
    }

    fn give_source(&mut self, script: &Script, op: &mut Op, bytes: &mut Vec<u8>) {
        let mut whole = Vec::new();
        with_source(script, bytes, &mut whole);
        let more = u32::try_from(whole.len().saturating_sub(bytes.len())).unwrap_or(u32::MAX);
        let cost = op.cost.saturating_add(more);
        self.queued.bytes += (cost - op.cost) as usize;
        op.cost = cost;
        op.spec = script.by_source();
        *bytes = whole;
    }

    /// The script that is called by its digest; none where its source was sent already.
    fn script_of(&self, op: &Op) -> Option<&Script> {
        let script = self.tickets.script_of(op.ticket, op.item)?;
        (op.spec == script.by_digest()).then_some(script)
    }
}

/// The same transaction, where the first call of each script has its source, whatever the server knows:
/// in the middle of a transaction nothing can be sent again.
#[cold]
pub(super) fn self_contained(batch: &Batch) -> Batch {
    let mut seen = BTreeSet::new();
    let first = batch.scripts.iter().filter(|(_, script)| seen.insert(script.digest()));
    let first: BTreeMap<u32, &Script> = first.map(|(at, script)| (*at, script)).collect();
    with_sources(batch, &first)
}

/// The same commands, where those calls of scripts have their sources.
fn with_sources(batch: &Batch, new: &BTreeMap<u32, &Script>) -> Batch {
    let mut whole = Batch {
        bytes: Vec::with_capacity(batch.bytes.len()),
        items: Vec::with_capacity(batch.items.len()),
        scripts: Vec::new(),
        names: batch.names.clone(),
        ..*batch
    };
    for (at, item) in batch.items.iter().enumerate() {
        let mut item = *item;
        match new.get(&(at as u32)) {
            Some(script) => {
                item.spec = script.by_source();
                with_source(script, batch.bytes_of(at), &mut whole.bytes);
            }
            None => whole.bytes.extend_from_slice(batch.bytes_of(at)),
        }
        item.end = whole.bytes.len();
        whole.items.push(item);
    }
    let known = batch.scripts.iter().filter(|(at, _)| !new.contains_key(at));
    whole.scripts = known.cloned().collect();
    whole
}

/// The call that `bytes` make of a script by its digest, with its source instead.
fn with_source(script: &Script, bytes: &[u8], out: &mut Vec<u8>) {
    let mut words = split_command(bytes);
    words[0] = script.by_source().name().as_bytes();
    words[1] = script.source();
    encode::command(out, words[..1].iter().copied(), &words[1..]);
}

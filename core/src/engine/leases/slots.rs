//! In a cluster a connection of one's own leads to one node, and is for one slot. What asks for more is
//! refused before anything is sent.
//!
//! For one slot, and not for all that happen to be served by the same node: what works would else depend on
//! where slots are today, and each of them may move by itself.

use super::{Engine, Held, Lease};
use crate::{
    commands::{Routing, Spec},
    engine::{Batch, Rejected, Slot},
    request::split_arguments,
    slot::{SLOTS, slot},
};

const ACROSS: &str = "what waits at the server does so on a connection of its own, to the node of one slot: all \
    keys of it, and of the pipeline that it is part of, need a common hash tag, such as {user:7}";
const SEVERAL_NODES: &str = "this command concerns several nodes of the cluster, and a pipeline with a command \
    that waits goes to one: send it by itself";
const ANOTHER_SLOT: &str = "in a cluster a connection of one's own is for one slot, that of its first key or of \
    `dedicated_for`: this key is in another one. Keys that belong together need a common hash tag, such as \
    {user:7}; others need another connection";
const SCANS_ALL: &str = "a scan goes through all nodes of the cluster, and a connection of one's own leads to one: let \
    the client scan, or send SCAN on it by itself";
const NO_KEY_YET: &str = "in a cluster this command has to be said to the node that serves the keys after it, and \
    none was named yet: take the connection with `dedicated_for(key)`, or begin with a command that has a key";
const SAID_ELSEWHERE: &str = "in a cluster a connection of one's own leads to the node of its first key, and what \
    was said on this one before may hold at another: take it with `dedicated_for(key)`";

impl<W> Engine<W> {
    /// The slot of one command that has a lease, or gets one: that of the lease, where it has one.
    pub(super) fn slot_of_leased(
        &self,
        lease: Option<Lease>,
        spec: &Spec,
        bytes: &[u8],
        command: &str,
    ) -> Result<u16, Rejected> {
        if self.cluster.is_none() {
            return Ok(Slot::NONE);
        }
        let common = self.slot_among(lease, self.slot_on(lease), spec, bytes, command)?;
        self.check_slot(lease, common, spec.is_session().then_some(command))
    }

    /// The same for all commands of a pipeline.
    pub(in super::super) fn slot_of_pipeline(
        &self,
        lease: Option<Lease>,
        batch: &Batch,
    ) -> Result<u16, Rejected> {
        if self.cluster.is_none() {
            return Ok(Slot::NONE);
        }
        let (mut common, mut session) = (self.slot_on(lease), None);
        for (at, item) in batch.items.iter().enumerate() {
            let command = batch.name_of(at);
            if batch.beside.is_some() && item.spec.concerns_all_keys() {
                return Err(Rejected::Failed(Self::misuse_of(SCANS_ALL, command)));
            }
            common = self.slot_among(lease, common, item.spec, batch.bytes_of(at), command)?;
            if item.spec.is_session() {
                session = session.or(Some(command));
            }
        }
        self.check_slot(lease, common, session)
    }

    /// The same for a transaction whose keys have this slot in common.
    pub(in super::super) fn slot_of_transaction(
        &self,
        lease: Lease,
        common: u16,
    ) -> Result<u16, Rejected> {
        if self.cluster.is_none() {
            return Ok(Slot::NONE);
        }
        let lease = Some(lease);
        match self.slot_on(lease) {
            bound if bound < SLOTS && common < SLOTS && bound != common => {
                Err(Rejected::Failed(Self::misuse_of(ANOTHER_SLOT, "transaction")))
            }
            bound if bound < SLOTS => Ok(bound),
            _ => self.check_slot(lease, common, None),
        }
    }

    /// A lease has its slot from now on.
    pub(in super::super) fn bind(&mut self, lease: Lease, slot: u16) {
        if let Some(leased) = self.leases.get_mut(lease) {
            leased.slot = slot;
        }
    }

    fn slot_on(&self, lease: Option<Lease>) -> u16 {
        let leased = lease.and_then(|lease| self.leases.get(lease));
        leased.map_or(Slot::NONE, |leased| leased.slot)
    }

    /// The slot of all keys so far, those of this command among them.
    fn slot_among(
        &self,
        lease: Option<Lease>,
        mut common: u16,
        spec: &Spec,
        bytes: &[u8],
        command: &str,
    ) -> Result<u16, Rejected> {
        let refuse = |advice| Err(Rejected::Failed(Self::misuse_of(advice, command)));
        if matches!(spec.routing(), Routing::Fan(..)) {
            // Whoever holds a connection asks its node.
            return if lease.is_some() { Ok(common) } else { refuse(SEVERAL_NODES) };
        }
        let args = split_arguments(spec, bytes);
        let known = spec.keys().of(&args).map(slot);
        // Nobody knows the keys of a module's command; nearly all have them first.
        let guessed = args.first().filter(|_| spec.is_unknown()).map(|key| slot(key));
        for slot in known.chain(guessed) {
            if common >= SLOTS {
                common = slot;
            } else if slot != common {
                return refuse(if lease.is_some() { ANOTHER_SLOT } else { ACROSS });
            }
        }
        Ok(common)
    }

    /// Whether what is said on a lease of this slot is heard by the node that serves it.
    fn check_slot(
        &self,
        lease: Option<Lease>,
        common: u16,
        session: Option<&str>,
    ) -> Result<u16, Rejected> {
        let refuse =
            |advice, command: &str| Err(Rejected::Failed(Self::misuse_of(advice, command)));
        let Some(lease) = lease else { return Ok(common) };
        let Some(leased) = self.leases.get(lease) else { return Ok(common) };
        if common >= SLOTS {
            return match session {
                Some(command) => refuse(NO_KEY_YET, command),
                None => Ok(common),
            };
        }
        let Held::ByUser(session) = &leased.held else { return Ok(common) };
        let unbound = leased.slot >= SLOTS;
        if unbound && session.used && !session.is_clean() {
            return refuse(SAID_ELSEWHERE, "dedicated");
        }
        Ok(common)
    }
}

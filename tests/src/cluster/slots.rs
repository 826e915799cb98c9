//! Slots: which key is in which, and how they move from node to node.

use super::Cluster;
use crate::{Raw, RawReply};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// How many slots are moved at a time, so that not every step of each costs a journey.
const BATCH: usize = 128;
/// How many keys are moved with one command.
const KEYS: usize = 100;
/// How long the receiving node may take for these, in milliseconds.
const MOVE_LIMIT: &str = "20000";

/// The slot of a key: CRC16 (polynomial 0x1021, from 0 on) of what stands between its first `{` and
/// the next `}`, if anything does, or else of all of it; modulo 16,384.
pub fn key_slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|&byte| byte == b'{')? + 1;
        let length = key[open..].iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    let crc = tag().unwrap_or(key).iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// A hash tag for a slot, with its braces: every key that begins with it is in the slot.
///
/// # Panics
///
/// When there is no such slot.
pub fn slot_tag(slot: u16) -> String {
    assert!(slot < SLOTS, "slot {slot}");
    let mut tags = (0..).map(|number: u32| format!("{{{number}}}"));
    tags.find(|tag| key_slot(tag.as_bytes()) == slot).expect("numbers of seven digits reach all")
}

impl Cluster {
    /// Moves a slot with its keys from its owner to another master, step by step as `redis-cli` does it,
    /// while clients go on.
    ///
    /// # Panics
    ///
    /// When a node refuses; also where the receiver is the owner already.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, to: usize) {
        self.move_batch(&[slot], self.owner(slot), to);
    }

    /// Moves all slots of one master to another: the receiver has none less for it, and the giver none.
    ///
    /// # Panics
    ///
    /// Like [`Cluster::move_slot`].
    #[track_caller]
    pub fn move_all_slots(&self, from: usize, to: usize) {
        self.move_slots(&self.slots(from), to);
    }

    /// Moves these slots, all of which one master has.
    ///
    /// # Panics
    ///
    /// Like [`Cluster::move_slot`].
    #[track_caller]
    pub fn move_slots(&self, slots: &[u16], to: usize) {
        for batch in slots.chunks(BATCH) {
            self.move_batch(batch, self.owner(batch[0]), to);
        }
    }

    /// The first step of a move: from now on the owner of a slot sends clients on to the receiver (ASK) for
    /// each key that it does not have. Keys move with [`Cluster::move_keys`].
    ///
    /// # Panics
    ///
    /// Like [`Cluster::move_slot`].
    #[track_caller]
    pub fn begin_move(&self, slot: u16, to: usize) {
        self.open(&[slot], self.owner(slot), to);
    }

    /// The second step: moves up to `count` of the slot's keys. Gives how many there were left to move.
    ///
    /// # Panics
    ///
    /// When a node refuses.
    #[track_caller]
    pub fn move_keys(&self, slot: u16, to: usize, count: usize) -> usize {
        let port = self.port(to).to_string();
        move_keys(&mut self.raw(self.owner(slot)), slot, &port, count)
    }

    /// The last step: the receiver is the owner from now on. The slot must have no keys left with the former
    /// one.
    ///
    /// # Panics
    ///
    /// When it has, or a node refuses.
    #[track_caller]
    pub fn end_move(&self, slot: u16, to: usize) {
        self.close(&[slot], self.owner(slot), to);
    }

    #[track_caller]
    fn move_batch(&self, slots: &[u16], from: usize, to: usize) {
        assert_ne!(from, to, "nothing moves");
        self.open(slots, from, to);
        let (mut raw, port) = (self.raw(from), self.port(to).to_string());
        // What is empty now stays so: the owner creates no more keys where it sends clients on.
        for slot in with_keys(&mut raw, slots) {
            while move_keys(&mut raw, slot, &port, KEYS) > 0 {}
        }
        self.close(slots, from, to);
    }

    /// The receiver first: it must be ready when the owner begins to send clients there.
    #[track_caller]
    fn open(&self, slots: &[u16], from: usize, to: usize) {
        let (giver, receiver) = (self.id(from), self.id(to));
        self.set_slots(to, slots, ["IMPORTING", giver]);
        self.set_slots(from, slots, ["MIGRATING", receiver]);
    }

    /// The receiver first, so that there is an owner at any time. All other masters are told too: they
    /// would hear of it, but later.
    #[track_caller]
    fn close(&self, slots: &[u16], from: usize, to: usize) {
        let others = self.awake().filter(|&node| node != from && node != to);
        let others = others.filter(|&node| self.is_master(node));
        for node in [to, from].into_iter().chain(others) {
            self.set_slots(node, slots, ["NODE", self.id(to)]);
        }
    }

    /// Sends CLUSTER SETSLOT for each slot to a node, in one piece.
    #[track_caller]
    fn set_slots(&self, node: usize, slots: &[u16], [what, whom]: [&str; 2]) {
        let mut raw = self.raw(node);
        for slot in slots {
            let sent = raw.try_send(&["CLUSTER", "SETSLOT", &slot.to_string(), what, whom]);
            sent.unwrap_or_else(|error| panic!("node {node}: {error}"));
        }
        for slot in slots {
            let reply = raw.try_read();
            let done = matches!(&reply, Ok(RawReply::Simple(text)) if text == "OK");
            assert!(done, "node {node}, SETSLOT {slot} {what} {whom}: {reply:?}");
        }
    }
}

/// Those of these slots that have keys.
#[track_caller]
fn with_keys(owner: &mut Raw, slots: &[u16]) -> Vec<u16> {
    for slot in slots {
        let sent = owner.try_send(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
        sent.unwrap_or_else(|error| panic!("COUNTKEYSINSLOT {slot}: {error}"));
    }
    let has_keys = |slot: &u16| match owner.try_read() {
        Ok(RawReply::Int(count)) => count > 0,
        other => panic!("COUNTKEYSINSLOT {slot}: {other:?}"),
    };
    slots.iter().copied().filter(has_keys).collect()
}

/// Gives how many keys there were.
#[track_caller]
fn move_keys(from: &mut Raw, slot: u16, to: &str, count: usize) -> usize {
    let keys = match from.cmd(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count.to_string()])
    {
        RawReply::Array(keys) => keys,
        other => panic!("GETKEYSINSLOT {slot}: {other:?}"),
    };
    if keys.is_empty() {
        return 0;
    }
    let mut command: Vec<Vec<u8>> =
        ["MIGRATE", "127.0.0.1", to, "", "0", MOVE_LIMIT, "KEYS"].map(Vec::from).to_vec();
    command.extend(keys.iter().map(|key| match key {
        RawReply::Bulk(key) => key.clone(),
        other => panic!("not a key: {other:?}"),
    }));
    // They may all have been deleted meanwhile.
    let reply = from.cmd(&command);
    let done = matches!(&reply, RawReply::Simple(text) if text == "OK" || text == "NOKEY");
    assert!(done, "MIGRATE from slot {slot}: {reply:?}");
    keys.len()
}

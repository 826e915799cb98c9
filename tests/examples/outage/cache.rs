//! The load that may degrade: tasks that use `cache:*` as a cache, and hold every answer against what
//! they know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use unfazed_tokio::{Client, prelude::*};

use crate::{
    meter::Meter,
    oracle::{Truth, Verdict},
};

/// Keys of each task. All of them together fit into what a client remembers by default.
const KEYS: u64 = 64;

/// Out of 100 operations so many are reads, so many are deletions; the rest are writes.
const READS: u64 = 90;
const DELETIONS: u64 = 2;

/// One task with its own keys, so that there is one writer a key and "last acknowledged" is exact.
pub(crate) struct Task {
    client: Client,
    meter: Arc<Meter>,
    keys: Vec<Truth>,
    dice: Dice,
}

impl Task {
    pub(crate) fn new(client: Client, meter: Arc<Meter>, number: u64) -> Self {
        let keys = (0..KEYS).map(|key| Truth::new(format!("cache:{number}:{key}"))).collect();
        Task { client, meter, keys, dice: Dice(number) }
    }

    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let key = self.dice.below(KEYS) as usize;
            match self.dice.below(100) {
                roll if roll < READS => self.read(key).await,
                roll if roll < READS + DELETIONS => self.delete(key).await,
                _ => self.write(key).await,
            }
        }
    }

    /// Reads a value, and puts one there if there is none: what every cache does.
    async fn read(&mut self, key: usize) {
        let truth = &self.keys[key];
        let begun = Instant::now();
        let answer = self.client.sourced().get::<String>(truth.key()).await;
        let Some(Sourced { value, source }) = self.meter.cache_read(begun, answer) else { return };
        let verdict = truth.judge(value.as_deref());
        if source != Source::Server {
            self.meter.judged_without_server(&verdict);
        }
        match verdict {
            Verdict::Right => {}
            Verdict::Absent => self.write(key).await,
            Verdict::Missed => {
                self.meter.missed(source);
                self.write(key).await;
            }
            Verdict::Wrong(why) => self.meter.wrong(format!("{why} (source: {source:?})")),
        }
    }

    async fn write(&mut self, key: usize) {
        let truth = &mut self.keys[key];
        let (version, value) = truth.next();
        let begun = Instant::now();
        let outcome = self.client.sourced().set(truth.key(), value).await;
        match self.meter.cache_write(begun, outcome) {
            Executed::Yes => truth.acknowledge(Some(version)),
            Executed::Maybe => truth.doubt(Some(version)),
            Executed::No => {}
        }
    }

    async fn delete(&mut self, key: usize) {
        let truth = &mut self.keys[key];
        let begun = Instant::now();
        let outcome = self.client.sourced().del(truth.key()).await;
        match self.meter.cache_write(begun, outcome) {
            Executed::Yes => truth.acknowledge(None),
            Executed::Maybe => truth.doubt(None),
            Executed::No => {}
        }
    }
}

/// What the probe reads: written once, before everything else.
pub(crate) const PROBE_KEY: &str = "cache:probe";

/// Reads one key as fast as answers come.
pub(crate) struct Probe {
    pub(crate) killed: Arc<AtomicBool>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Probe {
    /// Gives when the first answer came, of the reads begun after the kill or waiting then, that was
    /// not the server's.
    pub(crate) async fn run(self, client: Client, meter: Arc<Meter>) -> Option<Instant> {
        let mut degraded_at = None;
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = client.sourced().get::<String>(PROBE_KEY).await;
            let Some(answer) = meter.cache_read(begun, answer) else { continue };
            if answer.source != Source::Server && self.killed.load(Ordering::Relaxed) {
                degraded_at = degraded_at.or_else(|| Some(Instant::now()));
            }
        }
        degraded_at
    }
}

/// Numbers without order, the same ones in each run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

//! Seeing from outside when a key can be written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Raw, RawReply};

/// How often each node is asked.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long a node may take to answer before it is asked anew.
const LIMIT: Duration = Duration::from_millis(500);

/// Asks every node of a cluster every 10 ms, on connections of its own, to write one key, and notes
/// when one of them did. It follows no redirection: who is asked to write what is another's says so, and
/// that is no success. Dropping it ends it.
#[derive(Debug)]
pub struct Prober {
    successes: Arc<Mutex<Vec<Instant>>>,
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A time in which the key could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last success before it.
    pub from: Instant,
    /// The first success after it.
    pub to: Instant,
}

impl Gap {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.to - self.from
    }
}

impl Prober {
    pub(super) fn start(key: &str, ports: impl Iterator<Item = u16>) -> Self {
        let successes = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::new(AtomicBool::new(false));
        let threads = ports.map(|port| {
            let (key, successes, done) = (key.to_owned(), successes.clone(), done.clone());
            thread::spawn(move || probe(port, &key, &successes, &done))
        });
        Prober { threads: threads.collect(), successes, done }
    }

    /// When the key was written last, if it ever was.
    pub fn last(&self) -> Option<Instant> {
        self.lock().last().copied()
    }

    /// When the key was written first after this moment, if it was.
    pub fn first_after(&self, moment: Instant) -> Option<Instant> {
        self.lock().iter().copied().find(|&success| success > moment)
    }

    /// All times of at least this length in which the key could not be written, between two successes: what
    /// has not ended yet is not among them.
    pub fn gaps(&self, least: Duration) -> Vec<Gap> {
        let successes = self.lock();
        let gaps = successes.windows(2).map(|pair| Gap { from: pair[0], to: pair[1] });
        gaps.filter(|gap| gap.length() >= least).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.successes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

fn probe(port: u16, key: &str, successes: &Mutex<Vec<Instant>>, done: &AtomicBool) {
    let mut raw: Option<Raw> = None;
    while !done.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = match &mut raw {
            Some(raw) => raw.try_cmd(&["SET", key, "probe"]),
            None => Raw::try_connect(port, LIMIT)
                .and_then(|new| raw.insert(new).try_cmd(&["SET", key, "probe"])),
        };
        match answer {
            Ok(RawReply::Simple(text)) if text == "OK" => {
                // Read under the lock, so that the times stand in order.
                let mut successes = successes.lock().unwrap_or_else(PoisonError::into_inner);
                successes.push(Instant::now());
            }
            // MOVED, CLUSTERDOWN and the like.
            Ok(_) => {}
            Err(_) => raw = None,
        }
        thread::sleep(INTERVAL.saturating_sub(started.elapsed()));
    }
}

//! The load that must not degrade: tasks that count in `wallet:*`, and know what they were told.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use unfazed_tests::Raw;
use unfazed_tokio::{Client, prelude::*};

use crate::meter::Meter;

/// A counter on the server, and how often its increments ended how.
#[derive(Debug)]
pub(crate) struct Wallet {
    key: String,
    acknowledged: AtomicU64,
    /// Failed, and the client said that they may have been executed.
    maybe: AtomicU64,
}

/// All wallets against what the server holds.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) acknowledged: u64,
    pub(crate) maybe: u64,
    /// Acknowledged and not on the server.
    pub(crate) lost: u64,
    /// On the server beyond all that was acknowledged or said to be possible.
    pub(crate) untold: u64,
}

impl Wallet {
    pub(crate) fn new(number: usize) -> Self {
        let zero = AtomicU64::default;
        Wallet { key: format!("wallet:{number}"), acknowledged: zero(), maybe: zero() }
    }

    /// Counts until `stop`. Several tasks may do so in one wallet.
    pub(crate) async fn count(
        self: Arc<Self>,
        client: Client,
        meter: Arc<Meter>,
        stop: Arc<AtomicBool>,
    ) {
        let mut last = 0;
        while !stop.load(Ordering::Relaxed) {
            match client.incr(&self.key).await {
                Ok(balance) => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    meter.increment();
                    if balance <= last {
                        meter.wrong(format!("{}: {balance} after {last}", self.key));
                    }
                    last = balance;
                }
                Err(failure) => {
                    if failure.executed() != Executed::No {
                        self.maybe.fetch_add(1, Ordering::Relaxed);
                    }
                    meter.failed(&failure);
                }
            }
        }
    }
}

/// Asks the server, on a connection that has nothing to do with the client.
pub(crate) fn audit(wallets: &[Arc<Wallet>], witness: &mut Raw) -> Audit {
    let mut audit = Audit::default();
    for wallet in wallets {
        let acknowledged = wallet.acknowledged.load(Ordering::Relaxed);
        let maybe = wallet.maybe.load(Ordering::Relaxed);
        let counter = witness.get(&wallet.key).map_or(0, |text| text.parse().expect("a counter"));
        audit.acknowledged += acknowledged;
        audit.maybe += maybe;
        audit.lost += acknowledged.saturating_sub(counter);
        audit.untold += counter.saturating_sub(acknowledged + maybe);
    }
    audit
}

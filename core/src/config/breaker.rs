//! When a server is judged down, and when it is trusted again.

use std::time::Duration;

/// The settings of the circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Breaker {
    /// The delay between two probes of a server that was judged down; default 500 ms, half of the
    /// second within which a recovery should be noticed.
    pub probe_interval: Duration,
    /// What `probe_interval` doubles up to when a server is judged down again and again; default
    /// 30 s.
    pub probe_interval_max: Duration,
    /// How far a probe's delay strays to either side, in percent; default 20.
    pub probe_jitter_percent: u32,
    /// How many probes in a row must succeed before the server is trusted; default 3.
    pub probes: u32,
    /// The delay between those successful probes; default 100 ms. Zero is allowed.
    pub probe_gap: Duration,
    /// A server judged down again within this span after its recovery doubles `probe_interval`;
    /// default 60 s. Zero never doubles it.
    pub retrip_window: Duration,
    /// The span over which outcomes are counted; default 10 s.
    pub fault_window: Duration,
    /// With fewer outcomes than this in `fault_window` their share says nothing; default 20.
    pub fault_outcomes_min: u32,
    /// The share of connection faults among the outcomes at which the server is judged down, in
    /// percent; default 50.
    pub fault_percent: u32,
    /// After a recovery everyone waits a random span up to this before the journal is drained;
    /// default 500 ms, so that many clients do not come back in one moment. Zero is allowed.
    pub barrier_max: Duration,
    /// Down for longer than this is an event of its own, and again at each doubling; default
    /// 5 minutes.
    pub down_event_after: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            probe_interval: Duration::from_millis(500),
            probe_interval_max: Duration::from_secs(30),
            probe_jitter_percent: 20,
            probes: 3,
            probe_gap: Duration::from_millis(100),
            retrip_window: Duration::from_secs(60),
            fault_window: Duration::from_secs(10),
            fault_outcomes_min: 20,
            fault_percent: 50,
            barrier_max: Duration::from_millis(500),
            down_event_after: Duration::from_secs(5 * 60),
        }
    }
}

//! What kind of world it is.

use std::time::Duration;

use unfazed_core::{
    Config,
    config::{Forced, MaybeRetry, PingInterval, ProtocolChoice},
    fallback::{Fallback, Policy, ScriptStore},
    resp::Value,
};

use crate::{
    cluster::{Hosts, plan::Plan},
    entropy::Entropy,
};

/// What no formatted text may contain.
pub const SECRET: &str = "s3cr3t-hunter2";

/// What an operator can force; most often nothing, so that there is time to recover.
pub const FORCED: [Option<Forced>; 6] =
    [None, None, None, Some(Forced::Redis), Some(Forced::Memory), Some(Forced::Isolated)];

/// The one script of this world, which does what APPEND does.
pub const SCRIPT: &str = "append";

fn append(store: &mut ScriptStore, keys: &[&[u8]], args: &[&[u8]]) -> Value {
    let before = match store.execute(&[b"GET", keys[0]]) {
        Value::Bulk(before) => before,
        error @ Value::Error(_) => return error,
        _ => bytes::Bytes::new(),
    };
    let after = [&before[..], args[0]].concat();
    // Its time to live is not the script's to change.
    match store.execute(&[&b"SET"[..], keys[0], &after, b"KEEPTTL"]) {
        Value::Simple(_) => Value::Integer(after.len() as i64),
        error => error,
    }
}

/// How many in a hundred worlds are clusters.
const CLUSTERS_PERCENT: u64 = 33;

/// Drawn once, at the start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The client's configuration.
    pub config: Config,
    /// The policy of `cache:*`; `None` where no pattern may degrade. Where one may, there are patterns
    /// for the other modes and policies as well.
    pub policy: Option<Policy>,
    /// Whether the server's name has to be looked up.
    pub named: bool,
    /// How many callers there are.
    pub callers: u64,
    /// The longest a caller waits before the next request.
    pub think_micros: u64,
    /// Whether somebody scans, now and then.
    pub talks: bool,
    /// How many subscribers there are.
    pub listeners: u64,
    /// How many wait for elements of queues, and how many push some.
    pub poppers: u64,
    /// Whether some hold connections of their own for a while.
    pub holders: bool,
    /// Whether some write by what they have read.
    pub optimists: bool,
    /// How many read a stream together.
    pub eaters: u64,
    /// The longest between two messages.
    pub publish_micros: u64,
    /// How many bytes may wait for a subscriber before the server closes its connection.
    pub output_max: usize,
    /// Which faults come, one bit each.
    pub faults: u64,
    /// The mean span between two faults.
    pub fault_millis: u64,
    /// The mean span between two changes of what an operator forces, where there is an operator.
    pub operator_millis: Option<u64>,
    /// Bytes arrive in small pieces.
    pub choppy: bool,
    /// How late the driver may be at its timer.
    pub late_micros: u64,
    /// When everything is healed.
    pub heal_at: Duration,
    /// When callers ask for nothing more.
    pub over_at: Duration,
    /// When the client is closed, whatever is going on.
    pub close_at: Option<Duration>,
    /// How the world ends.
    pub ending: Ending,
    /// What kind of cluster it is, if it is one.
    pub cluster: Option<Plan>,
}

/// How the world ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it is.
    Nothing,
    /// The client is closed.
    Shutdown,
    /// The runtime is dropped.
    Abandon,
}

impl Setup {
    /// Draws one.
    pub fn draw(entropy: &mut Entropy) -> Self {
        let named = entropy.chance(50);
        let host = if named { "cache.sim" } else { "10.0.0.1" };
        let mut config = Config::standalone(host, 6379);
        config.protocol = [
            ProtocolChoice::Auto,
            ProtocolChoice::Auto,
            ProtocolChoice::Auto,
            ProtocolChoice::Resp3,
            ProtocolChoice::Resp2,
        ][entropy.below(5) as usize];
        config.client_info = entropy.chance(50);
        if entropy.chance(50) {
            config = config.password(SECRET);
            if entropy.chance(30) {
                config = config.username("app");
            }
        }
        config.database = u32::from(entropy.chance(20));
        config.deadline = entropy.millis(300, 5_000);
        config.connect_timeout = entropy.millis(100, 2_000);
        config.leases.leases_max = entropy.between(1, 4) as usize;
        config.leases.idle_after = entropy.millis(10, 5_000);
        config.response_timeout = entropy.millis(100, 2_000);
        // Of scripts.
        config.slow_response_timeout = entropy.millis(100, 4_000);
        if entropy.chance(30) {
            config.ping_interval = match entropy.below(3) {
                0 => PingInterval::Off,
                _ => PingInterval::Every(entropy.millis(50, 1_500)),
            };
        }
        config.retry.maybe = entropy.pick(&[
            MaybeRetry::Repeatable,
            MaybeRetry::Repeatable,
            MaybeRetry::Repeatable,
            MaybeRetry::Never,
            MaybeRetry::Idempotent,
            MaybeRetry::Always,
        ]);
        config.retry.attempts_max = entropy.pick(&[10, 10, 3, 1]);
        Self::breaker(&mut config, entropy);
        if entropy.chance(30) {
            config.queue.requests_max = entropy.between(1, 12) as usize;
        }
        if entropy.chance(10) {
            config.queue.bytes_max = entropy.between(1_024, 2_048) as usize;
        }
        let policy = match entropy.below(5) {
            0 => None,
            1 => Some(Policy::Discard),
            _ => Some(Policy::Invalidate),
        };
        if let Some(policy) = policy {
            config = config
                .fallback(Fallback::memory("cache:*", policy))
                .fallback(Fallback::miss("miss:*"))
                .fallback(Fallback::memory("last:*", Policy::ReplayLastWins))
                .fallback(Fallback::memory("sum:*", Policy::MergeDelta))
                .fallback(Fallback::stale_reads("old:*", entropy.millis(20, 3_000)))
                .fallback(Fallback::fail("fail:*"))
                .native_script(SCRIPT, append);
            if entropy.chance(20) {
                config.memory.entries_max = entropy.between(1, 5) as usize;
            }
            if entropy.chance(20) {
                config.memory.journal_entries_max = entropy.between(1, 5) as usize;
            }
        }
        let operator_millis = entropy.chance(30).then(|| entropy.pick(&[20, 150, 500]));
        if operator_millis.is_some() && entropy.chance(20) {
            config.forced = entropy.pick(&FORCED);
        }
        let heal_at = entropy.millis(500, 3_000);
        let setup = Setup {
            config,
            policy,
            named,
            callers: entropy.between(1, 5),
            talks: entropy.chance(40),
            listeners: if entropy.chance(50) { entropy.between(1, 4) } else { 0 },
            poppers: if entropy.chance(35) { entropy.between(1, 3) } else { 0 },
            holders: entropy.chance(25),
            optimists: entropy.chance(25),
            eaters: if entropy.chance(25) { entropy.between(1, 3) } else { 0 },
            publish_micros: entropy.pick(&[2_000, 10_000, 50_000]),
            output_max: entropy.pick(&[1_000, 10_000, 1 << 20]),
            think_micros: entropy.pick(&[4_000, 20_000, 60_000, 150_000]),
            faults: entropy.draw() & if entropy.chance(50) { u64::MAX } else { entropy.draw() },
            fault_millis: entropy.pick(&[10, 40, 150, 400]),
            operator_millis,
            choppy: entropy.chance(30),
            late_micros: if entropy.chance(25) { entropy.between(100, 40_000) } else { 0 },
            heal_at,
            over_at: heal_at + entropy.millis(300, 1_200),
            close_at: entropy.chance(10).then(|| entropy.millis(300, 2_500)),
            ending: entropy.pick(&[Ending::Nothing, Ending::Shutdown, Ending::Abandon]),
            cluster: None,
        };
        if entropy.chance(CLUSTERS_PERCENT) { setup.in_cluster(entropy) } else { setup }
    }

    /// Makes it a cluster. Who reads streams stays out of it.
    fn in_cluster(mut self, entropy: &mut Entropy) -> Self {
        let plan = Plan::draw(entropy);
        self.config = plan.apply(self.config, entropy);
        self.config.forced = None;
        (self.eaters, self.operator_millis) = (0, None);
        self.named = plan.hosts == Hosts::Names;
        if plan.spared.is_some() {
            // What is everybody's must not run short, nor the client itself be slow.
            self.config.queue = Default::default();
            (self.choppy, self.late_micros) = (false, 0);
        } else if self.fault_millis < 20 {
            // Where slots move all the time the default bound of redirects takes longer than most deadlines.
            self.config.retry.redirects_max = 2;
        }
        self.cluster = Some(plan);
        self
    }

    /// Whether anybody may wait at a server. In some clusters nobody does, so that who dials a node dials it for
    /// everybody.
    pub(crate) fn poppers_wait(&self) -> bool {
        self.cluster.is_none() || self.poppers > 0
    }

    fn breaker(config: &mut Config, entropy: &mut Entropy) {
        let breaker = &mut config.breaker;
        breaker.probe_interval = entropy.millis(20, 400);
        breaker.probe_interval_max = entropy.millis(400, 2_000);
        breaker.probes = entropy.between(1, 3) as u32;
        breaker.probe_gap = entropy.millis(0, 100);
        breaker.barrier_max = entropy.millis(0, 300);
        breaker.down_event_after = entropy.millis(500, 5_000);
        breaker.retrip_window = entropy.millis(0, 3_000);
        breaker.fault_outcomes_min = entropy.between(2, 20) as u32;
        if entropy.chance(30) {
            config.dial.failed_dials_max = Some(entropy.between(0, 4) as u32);
        }
    }
}

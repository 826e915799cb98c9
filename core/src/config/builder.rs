//! One method a knob, for code.

use std::{sync::Arc, time::Duration};

use super::{
    AddressMap, ClusterMap, Config, Forced, MaybeRetry, PingInterval, ProtocolChoice, Publish,
    Schedule, Secret,
};
use crate::{
    fallback::{Fallback, ScriptStore},
    resp::Value,
};

/// # Settings
///
/// Each takes the value and hands the `Config` back; the field it sets says what it means and why
/// its default is what it is. Nothing is checked before [`Config::validate`].
impl Config {
    /// The user to authenticate as; it needs a [`password`](Config::password).
    #[must_use]
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The password to authenticate with. It is never formatted.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The number of the database to select; default 0. In a URL it is the path, or `db`.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// The name that `CLIENT LIST` shows: printable ASCII without spaces.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// The protocol to ask for; default [`ProtocolChoice::Auto`].
    #[must_use]
    pub fn protocol(mut self, choice: ProtocolChoice) -> Self {
        self.protocol = choice;
        self
    }

    /// Whether connections say which library they are (`CLIENT SETINFO`); default true.
    #[must_use]
    pub fn client_info(mut self, enabled: bool) -> Self {
        self.client_info = enabled;
        self
    }

    /// After which silence a connection is sent a PING; default `response_timeout`. A `Duration`, or
    /// `None` for never.
    #[must_use]
    pub fn ping_interval(mut self, interval: impl Into<PingInterval>) -> Self {
        self.ping_interval = interval.into();
        self
    }

    /// The time limit of one request, retries included; default 5 s.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// The time limit of one attempt to connect; default 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a server that owes replies may be silent; default 2 s.
    #[must_use]
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit;
        self
    }

    /// The same for commands that may keep a server busy; default 20 s.
    #[must_use]
    pub fn slow_response_timeout(mut self, limit: Duration) -> Self {
        self.slow_response_timeout = limit;
        self
    }

    /// How often a request is tried at most, the first time included; default 10.
    #[must_use]
    pub fn attempts_max(mut self, count: u32) -> Self {
        self.retry.attempts_max = count;
        self
    }

    /// How a cluster is asked who serves which slots; default [`ClusterMap::Shards`].
    #[must_use]
    pub fn cluster_map(mut self, map: ClusterMap) -> Self {
        self.cluster_map = map;
        self
    }

    /// Where the addresses lead that servers of a cluster name; default: to themselves.
    #[must_use]
    pub fn address_map(mut self, map: AddressMap) -> Self {
        self.address_map = map;
        self
    }

    /// How many redirects one request follows at most; default 16.
    #[must_use]
    pub fn redirects_max(mut self, count: u32) -> Self {
        self.retry.redirects_max = count;
        self
    }

    /// The longest delay before the first retry; default 50 ms. It doubles with each further one.
    #[must_use]
    pub fn retry_backoff_base(mut self, delay: Duration) -> Self {
        self.retry.backoff.base = delay;
        self
    }

    /// What the delay before a retry doubles up to; default 3 s.
    #[must_use]
    pub fn retry_backoff_max(mut self, delay: Duration) -> Self {
        self.retry.backoff.max = delay;
        self
    }

    /// A retry schedule of the caller's own: a pure function from the number of attempts already made
    /// to the delay before the next one. It takes the place of the backoff and its jitter.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use unfazed_core as unfazed_tokio;
    /// use unfazed_tokio::Config;
    ///
    /// let config = Config::default()
    ///     .retry_schedule(|attempts| Duration::from_millis(100) * attempts);
    /// ```
    #[must_use]
    pub fn retry_schedule(
        mut self,
        delay: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.retry.schedule = Some(Schedule::new(delay));
        self
    }

    /// What is sent again by itself although it may already have run; default
    /// [`MaybeRetry::Repeatable`].
    #[must_use]
    pub fn maybe_retry(mut self, choice: MaybeRetry) -> Self {
        self.retry.maybe = choice;
        self
    }

    /// The delay before the second dial of an endpoint; default 50 ms, then doubling.
    #[must_use]
    pub fn dial_backoff_base(mut self, delay: Duration) -> Self {
        self.dial.backoff.base = delay;
        self
    }

    /// What the delay between dials doubles up to; default 500 ms.
    #[must_use]
    pub fn dial_backoff_max(mut self, delay: Duration) -> Self {
        self.dial.backoff.max = delay;
        self
    }

    /// How far the delay between dials strays to either side, in percent; default 20.
    #[must_use]
    pub fn dial_jitter_percent(mut self, percent: u32) -> Self {
        self.dial.jitter_percent = percent;
        self
    }

    /// How many failed dials in a row trip the breaker; default `None`: its other rules decide.
    #[must_use]
    pub fn failed_dials_max(mut self, count: impl Into<Option<u32>>) -> Self {
        self.dial.failed_dials_max = count.into();
        self
    }

    /// The delay between two probes of a server that is down; default 500 ms.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.breaker.probe_interval = interval;
        self
    }

    /// What that delay doubles up to for a server that keeps failing; default 30 s.
    #[must_use]
    pub fn probe_interval_max(mut self, interval: Duration) -> Self {
        self.breaker.probe_interval_max = interval;
        self
    }

    /// How far the delay between probes strays to either side, in percent; default 20.
    #[must_use]
    pub fn probe_jitter_percent(mut self, percent: u32) -> Self {
        self.breaker.probe_jitter_percent = percent;
        self
    }

    /// How many probes in a row must succeed before a server is trusted again; default 3.
    #[must_use]
    pub fn probes(mut self, count: u32) -> Self {
        self.breaker.probes = count;
        self
    }

    /// The delay between those probes; default 100 ms.
    #[must_use]
    pub fn probe_gap(mut self, gap: Duration) -> Self {
        self.breaker.probe_gap = gap;
        self
    }

    /// A server down again within this span doubles the probe interval; default 60 s.
    #[must_use]
    pub fn retrip_window(mut self, window: Duration) -> Self {
        self.breaker.retrip_window = window;
        self
    }

    /// The span over which connection faults are counted; default 10 s.
    #[must_use]
    pub fn fault_window(mut self, window: Duration) -> Self {
        self.breaker.fault_window = window;
        self
    }

    /// With fewer outcomes in that span their share says nothing; default 20.
    #[must_use]
    pub fn fault_outcomes_min(mut self, count: u32) -> Self {
        self.breaker.fault_outcomes_min = count;
        self
    }

    /// The share of faults that trips the breaker, in percent; default 50.
    #[must_use]
    pub fn fault_percent(mut self, percent: u32) -> Self {
        self.breaker.fault_percent = percent;
        self
    }

    /// The longest random wait between a recovery and draining the journal; default 500 ms.
    #[must_use]
    pub fn barrier_max(mut self, wait: Duration) -> Self {
        self.breaker.barrier_max = wait;
        self
    }

    /// A server down for longer is an event of its own; default 5 minutes.
    #[must_use]
    pub fn down_event_after(mut self, span: Duration) -> Self {
        self.breaker.down_event_after = span;
        self
    }

    /// How many requests may be under way or waiting; default 65,536.
    #[must_use]
    pub fn queue_requests_max(mut self, count: usize) -> Self {
        self.queue.requests_max = count;
        self
    }

    /// How many bytes of encoded requests may be kept; default 64 MiB.
    #[must_use]
    pub fn queue_bytes_max(mut self, bytes: usize) -> Self {
        self.queue.bytes_max = bytes;
        self
    }

    /// How many events may wait to be read; default 1,024.
    #[must_use]
    pub fn events_max(mut self, count: usize) -> Self {
        self.queue.events_max = count;
        self
    }

    /// The longest bulk string of a reply, in bytes; default 512 MiB.
    #[must_use]
    pub fn bulk_max(mut self, bytes: usize) -> Self {
        self.replies.bulk_max = bytes;
        self
    }

    /// How deep a reply may be nested; default 128.
    #[must_use]
    pub fn depth_max(mut self, depth: usize) -> Self {
        self.replies.depth_max = depth;
        self
    }

    /// How many elements an aggregate of a reply may have; default 2²⁴.
    #[must_use]
    pub fn elements_max(mut self, count: usize) -> Self {
        self.replies.elements_max = count;
        self
    }

    /// The longest line of a reply, in bytes; default 64 KiB.
    #[must_use]
    pub fn line_max(mut self, bytes: usize) -> Self {
        self.replies.line_max = bytes;
        self
    }

    /// The longest reply in all, in bytes; default 1 GiB − 1, which is also the most.
    #[must_use]
    pub fn reply_max(mut self, bytes: usize) -> Self {
        self.replies.reply_max = bytes;
        self
    }

    /// How many keys the store holds at most; default 10,000.
    #[must_use]
    pub fn memory_entries_max(mut self, count: usize) -> Self {
        self.memory.entries_max = count;
        self
    }

    /// How many bytes the store holds at most; default 100 MiB.
    #[must_use]
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.memory.bytes_max = bytes;
        self
    }

    /// The largest server value that is remembered, in bytes; default 64 KiB.
    #[must_use]
    pub fn shadow_value_max(mut self, bytes: usize) -> Self {
        self.memory.shadow_value_max = bytes;
        self
    }

    /// How many keys may wait to be written to the server; default 10,000.
    #[must_use]
    pub fn journal_entries_max(mut self, count: usize) -> Self {
        self.memory.journal_entries_max = count;
        self
    }

    /// How many bytes those may take; default 16 MiB.
    #[must_use]
    pub fn journal_bytes_max(mut self, bytes: usize) -> Self {
        self.memory.journal_bytes_max = bytes;
        self
    }

    /// How many streams of messages there may be, and how many channels and patterns they may want in
    /// all; default 100,000.
    #[must_use]
    pub fn subscriptions_max(mut self, count: usize) -> Self {
        self.subscriptions.subscriptions_max = count;
        self
    }

    /// How many messages may wait for the reader of one stream; default 65,536.
    #[must_use]
    pub fn subscription_messages_max(mut self, count: usize) -> Self {
        self.subscriptions.messages_max = count;
        self
    }

    /// How many bytes these may have, names and payloads; default 16 MiB.
    #[must_use]
    pub fn subscription_bytes_max(mut self, bytes: usize) -> Self {
        self.subscriptions.bytes_max = bytes;
        self
    }

    /// How many connections requests may have for themselves, beside the one that everybody shares: for
    /// commands that wait at the server, optimistic transactions and whoever asks for one; default 64, in a
    /// cluster to each node. Who needs a further one waits for it within his deadline.
    #[must_use]
    pub fn leases_max(mut self, count: usize) -> Self {
        self.leases.leases_max = count;
        self
    }

    /// How long such a connection is kept while nobody uses it; default 10 s.
    #[must_use]
    pub fn lease_idle_after(mut self, span: Duration) -> Self {
        self.leases.idle_after = span;
        self
    }

    /// Whether requests that no rule matches fail at once while the server is down, instead of
    /// waiting within their deadline; default false.
    #[must_use]
    pub fn fail_fast(mut self, enabled: bool) -> Self {
        self.fail_fast = enabled;
        self
    }

    /// Adds a rule for what may be answered without a server, after those already there: the first
    /// that matches a key wins.
    #[must_use]
    pub fn fallback(mut self, rule: Fallback) -> Self {
        self.fallbacks.push(rule);
        self
    }

    /// Gives a script a function that stands in for it where no server can run it: while the server is
    /// down, for keys that may then be written in memory, and with `memory://`.
    ///
    /// `script` is its source, or its SHA-1 in hexadecimal digits. EVAL, EVALSHA and their `_RO` kinds
    /// then run the function, with the keys and arguments that the script would get, instead of being
    /// refused.
    ///
    /// - It is to be pure: to do what the script does, by the store that it is handed and nothing else.
    ///   It may be run more than once for one call.
    /// - It can touch only the keys that its caller declares; with others it fails, and says so
    ///   ([`MemoryRefusal::Undeclared`](crate::failure::MemoryRefusal::Undeclared)).
    /// - It is all or nothing: where it gives back an error, is refused something, or panics, none of
    ///   its writes are kept, and the call ends as *not executed*.
    /// - No other command that is answered from memory comes between its commands. It runs without any
    ///   lock held; commands that memory is to answer wait until it has ended.
    /// - What it writes is owed to the server as single writes to these keys would be. Where that is
    ///   their net effect (`MergeDelta`), it is refused: a script's writes depend on what it has read.
    ///
    /// It takes time and room for the values at its keys, which are copied.
    ///
    /// ```
    /// # mod unfazed_tokio { pub use unfazed_core as core; }
    /// use unfazed_tokio::core::{config::Config, fallback::ScriptStore, resp::Value};
    ///
    /// const TAKE: &str = "
    ///     local left = tonumber(redis.call('GET', KEYS[1]) or '0')
    ///     if left < tonumber(ARGV[1]) then return 0 end
    ///     redis.call('DECRBY', KEYS[1], ARGV[1])
    ///     return 1";
    ///
    /// fn take(store: &mut ScriptStore, keys: &[&[u8]], args: &[&[u8]]) -> Value {
    ///     let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    ///     let left = match store.execute(&[b"GET", keys[0]]) {
    ///         Value::Bulk(left) => number(&left).unwrap_or(0),
    ///         _ => 0,
    ///     };
    ///     if left < number(args[0]).unwrap_or(i64::MAX) {
    ///         return Value::Integer(0);
    ///     }
    ///     match store.execute(&[b"DECRBY", keys[0], args[0]]) {
    ///         error @ Value::Error(_) => error,
    ///         _ => Value::Integer(1),
    ///     }
    /// }
    ///
    /// let config = Config::default().native_script(TAKE, take);
    /// ```
    #[must_use]
    pub fn native_script(
        mut self,
        script: impl AsRef<[u8]>,
        function: impl Fn(&mut ScriptStore, &[&[u8]], &[&[u8]]) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.native_scripts.add(script.as_ref(), Arc::new(function));
        self
    }

    /// What PUBLISH does while the server is down, there is no connection to it, and some key pattern may
    /// degrade; default [`Publish::Fail`].
    #[must_use]
    pub fn publish_while_down(mut self, choice: Publish) -> Self {
        self.publish_while_down = choice;
        self
    }

    /// Starts as if an operator had forced it so: [`Forced::Isolated`] never even tries to connect.
    /// Default `None`: health decides. While the client runs, its `force` method changes it.
    #[must_use]
    pub fn forced(mut self, forced: impl Into<Option<Forced>>) -> Self {
        self.forced = forced.into();
        self
    }

    /// After which silence the kernel probes a TCP connection, `None` for never; default 60 s.
    #[must_use]
    pub fn tcp_keepalive(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.tcp_keepalive = interval.into();
        self
    }

    /// Whether small packets leave at once (`TCP_NODELAY`); default true.
    #[must_use]
    pub fn tcp_nodelay(mut self, enabled: bool) -> Self {
        self.tcp_nodelay = enabled;
        self
    }
}

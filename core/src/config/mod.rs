//! What a client is told before it starts: where the server is, and every number it goes by.
//!
//! A [`Config`] comes from a URL, from variables or from code, and all three say the same things:
//! each knob has one name, which is its builder method and its URL parameter. Whatever is wrong
//! is a [`ConfigError`], which names the piece, its place, and a correct example.
//!
//! # URLs
//!
//! | URL | what it means |
//! |---|---|
//! | `redis://[user[:password]@]host[:port][/database][?name=value&…]` | one server; port 6379, database 0 unless said otherwise |
//! | `unix:///path`, `redis+unix:///path` | one server behind a Unix domain socket; the database is `?db=2` |
//! | `memory://` | no server: the embedded store |
//! | `rediss://…` | TLS (refused by this version) |
//! | `redis+cluster://host:port,host:port` | a cluster, entered through any of these nodes |
//! | `redis+sentinel://host:port,host:port/service[/database]` | a master that sentinels know (refused by this version) |
//!
//! `valkey` stands for `redis` in each of them. An IPv6 address goes in brackets:
//! `redis://[::1]:6379`. A password without a user is `redis://:password@host`.
//!
//! In user, password, path and values, `%` and two hexadecimal digits stand for a byte; what must
//! be written so: `/` as `%2F`, `?` as `%3F`, `#` as `%23`, `@` as `%40`, `%` as `%25`, `&` as
//! `%26`, a space as `%20`. A `+` is a plus. There are no fragments.
//!
//! # Parameters
//!
//! Each builder method that takes one plain value is a parameter of the same name, except that
//! `database` is called `db`. Durations are whole numbers with a unit (`500ms`, `5s`, `2m`), sizes
//! are bytes or have a unit (`64MiB`), flags are `true` or `false` (or `yes`, `on`,
//! `1` and their opposites), and what can be switched off takes `off`:
//!
//! ```
//! use std::time::Duration;
//! # mod unfazed_tokio { pub use unfazed_core as core; }
//! use unfazed_tokio::core::config::{Config, ProtocolChoice};
//!
//! let config: Config =
//!     "redis://localhost/2?deadline=1500ms&protocol=resp2&queue_bytes_max=16MiB".parse()?;
//! assert_eq!(
//!     config,
//!     Config::standalone("localhost", 6379)
//!         .database(2)
//!         .deadline(Duration::from_millis(1500))
//!         .protocol(ProtocolChoice::Resp2)
//!         .queue_bytes_max(16 << 20),
//! );
//! # Ok::<(), unfazed_core::config::ConfigError>(())
//! ```
//!
//! A retry schedule and a native script are functions, so only [`Config::retry_schedule`] and
//! [`Config::native_script`] set them. Fallback rules say
//! what may be answered without a server, which is for the program that reads the answers to
//! decide and not for whoever writes its URL: only [`Config::fallback`] sets them.
//!
//! Who lives here: `url` and `vars` read and write text, `parameters` is the one table of knobs
//! that both and `validate` go by; `builder` is for code; the rest is what a `Config` is made of.

mod breaker;
mod builder;
mod cluster;
mod endpoint;
mod error;
mod forced;
mod limits;
mod parameters;
mod protocol;
mod publish;
mod retry;
mod secret;
mod units;
mod url;
mod validate;
mod vars;

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use breaker::Breaker;
pub use cluster::{AddressMap, ClusterMap};
pub(crate) use endpoint::check_host;
pub use endpoint::{Deployment, Endpoint, PORT_DEFAULT, SENTINEL_PORT_DEFAULT};
pub use error::{ConfigError, Place};
pub use forced::Forced;
pub use limits::{LeaseLimits, MemoryLimits, QueueLimits, ReplyLimits, SubscriptionLimits};
pub use protocol::{PingInterval, ProtocolChoice};
pub use publish::Publish;
pub use retry::{Backoff, Dial, MaybeRetry, Retry, Schedule};
pub use secret::Secret;

use crate::fallback::{Fallback, NativeScripts, SharedStore as Store};

/// The URL that errors show where any would do.
const URL_EXAMPLE: &str = "redis://localhost:6379";

/// Everything a client needs to know before it starts.
///
/// Made by [`from_url`](Config::from_url), [`from_vars`](Config::from_vars), or a constructor and
/// builder methods; the fields can be read and, in a `mut` binding, set. Conflicts between
/// settings are found by [`validate`](Config::validate), which every client calls before it uses
/// one.
///
/// Formatting a `Config` shows its URL with the password masked.
///
/// ```
/// use std::time::Duration;
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::Config;
///
/// let config = Config::standalone("cache.internal", 6379)
///     .username("app")
///     .password("hunter2")
///     .deadline(Duration::from_secs(1));
/// assert_eq!(config.deadline, Duration::from_secs(1));
/// assert_eq!(config.to_string(), "redis://app:***@cache.internal:6379?deadline=1s");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where the server is.
    pub deployment: Deployment,
    /// How a cluster is asked who serves which slots; of no meaning elsewhere.
    pub cluster_map: ClusterMap,
    /// Where the addresses lead that servers of a cluster name; default: to themselves.
    pub address_map: AddressMap,
    /// Whether connections are encrypted. Not supported by this version; default false.
    pub tls: bool,
    /// The user to authenticate as; default none, which is the server's user `default`.
    pub username: Option<String>,
    /// The password to authenticate with; default none.
    pub password: Option<Secret>,
    /// The number of the database to select; default 0.
    pub database: u32,
    /// The name that `CLIENT LIST` shows for each connection; default none.
    pub client_name: Option<String>,
    /// The protocol to ask for; default RESP3, or RESP2 where the server does not know it.
    pub protocol: ProtocolChoice,
    /// Whether connections say which library they are (`CLIENT SETINFO`); default true.
    pub client_info: bool,
    /// After which silence a connection is sent a PING; default `response_timeout`. See
    /// [`Config::ping_every`].
    pub ping_interval: PingInterval,
    /// The time limit of one request, which covers queueing, connecting, redirects and retries;
    /// default 5 s, which a fail-over fits into.
    pub deadline: Duration,
    /// The time limit of one attempt to connect, over all addresses of a name and up to the end of
    /// the handshake; default 2 s.
    pub connect_timeout: Duration,
    /// Replies are owed and no byte came in for this long: the connection is dead. Default 2 s.
    pub response_timeout: Duration,
    /// The same for commands that may keep a server busy (EVAL, KEYS, FLUSHALL, SORT); default
    /// 20 s. It only ever extends `response_timeout`: the longer of the two counts. A server that
    /// freezes while it owes the answer to one is found dead only when it has passed, so until then
    /// memory answers for none of its keys.
    pub slow_response_timeout: Duration,
    /// When requests are sent again.
    pub retry: Retry,
    /// When connections are dialled again.
    pub dial: Dial,
    /// When a server is judged down, and when it is trusted again.
    pub breaker: Breaker,
    /// What may wait inside the client.
    pub queue: QueueLimits,
    /// What a reply may measure.
    pub replies: ReplyLimits,
    /// What may be kept in memory.
    pub memory: MemoryLimits,
    /// What subscriptions may take.
    pub subscriptions: SubscriptionLimits,
    /// The connections that requests get for themselves.
    pub leases: LeaseLimits,
    /// Whether a request that no fallback rule matches fails at once while the server is down;
    /// default false: it waits within its deadline.
    pub fail_fast: bool,
    /// What may be answered without a server; the first rule that matches a key wins. Default
    /// none.
    pub fallbacks: Vec<Fallback>,
    /// Functions that stand in for scripts where no server can run them; default none.
    pub native_scripts: NativeScripts,
    /// What becomes of messages while the server is down and can't be told; default [`Publish::Fail`].
    pub publish_while_down: Publish,
    /// What operators force upon the client from the start, see [`Forced`]; default none: health
    /// decides.
    pub forced: Option<Forced>,
    /// After which silence the kernel probes a TCP connection, `None` for never; default 60 s.
    /// It keeps idle connections open through a NAT; finding dead ones is `ping_interval`'s task.
    pub tcp_keepalive: Option<Duration>,
    /// Whether small packets leave at once (`TCP_NODELAY`); default true, since requests are
    /// batched before they are written.
    pub tcp_nodelay: bool,
}

impl Config {
    /// One server at `host`, a name or an address (IPv6 with or without brackets), and `port`.
    #[must_use]
    pub fn standalone(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self::new(Deployment::Standalone(Endpoint::tcp(host, port)))
    }

    /// A cluster, entered through any of these nodes; one that can be reached is enough.
    ///
    /// ```
    /// # mod unfazed_tokio { pub use unfazed_core as core; }
    /// use unfazed_tokio::core::config::{Config, Endpoint};
    ///
    /// let config = Config::cluster([Endpoint::tcp("node1", 6379), Endpoint::tcp("node2", 6379)]);
    /// assert_eq!(config.to_url(), "redis+cluster://node1:6379,node2:6379");
    /// ```
    #[must_use]
    pub fn cluster(nodes: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::new(Deployment::Cluster(nodes.into_iter().collect()))
    }

    /// One server behind the Unix domain socket at `path`.
    #[must_use]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self::new(Deployment::Standalone(Endpoint::unix(path)))
    }

    /// No server: the embedded store, private to the client and its clones.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Deployment::Memory)
    }

    /// No server: this embedded store, which its other clients and the program share. What one of them
    /// publishes, all hear.
    ///
    /// The store has its bounds already, so that `memory_entries_max` and `memory_bytes_max` are set to
    /// what they are, and can't be set to anything else.
    #[must_use]
    pub fn in_store<A>(store: &Store<A>) -> Self {
        let (entries_max, bytes_max) = limits::of_store(store);
        let mut config = Self::new(Deployment::Store(store.into()));
        config.memory.entries_max = entries_max;
        config.memory.bytes_max = bytes_max;
        config
    }

    /// All defaults, for this deployment.
    fn new(deployment: Deployment) -> Self {
        Config {
            deployment,
            cluster_map: ClusterMap::default(),
            address_map: AddressMap::default(),
            tls: false,
            username: None,
            password: None,
            database: 0,
            client_name: None,
            protocol: ProtocolChoice::default(),
            client_info: true,
            ping_interval: PingInterval::default(),
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            slow_response_timeout: Duration::from_secs(20),
            retry: Retry::default(),
            dial: Dial::default(),
            breaker: Breaker::default(),
            queue: QueueLimits::default(),
            replies: ReplyLimits::default(),
            memory: MemoryLimits::default(),
            subscriptions: SubscriptionLimits::default(),
            leases: LeaseLimits::default(),
            fail_fast: false,
            fallbacks: Vec::new(),
            native_scripts: NativeScripts::default(),
            publish_while_down: Publish::default(),
            forced: None,
            tcp_keepalive: Some(Duration::from_secs(60)),
            tcp_nodelay: true,
        }
    }

    /// Reads a URL; the [module](self) says which.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the URL, else what [`Config::validate`] finds.
    pub fn from_url(text: &str) -> Result<Self, ConfigError> {
        url::parse(text)?.validated()
    }

    /// Reads variables, such as a process's environment; all others are ignored.
    ///
    /// | variable | what it means | default |
    /// |---|---|---|
    /// | `REDIS_URL` | a URL, as for [`Config::from_url`] | |
    /// | `REDIS_MODE` | `standalone`, `cluster`, `sentinel` or `memory` | `standalone` |
    /// | `REDIS_HOST` | name or address | `localhost` |
    /// | `REDIS_PORT` | from 1 to 65535 | 6379 |
    /// | `REDIS_USERNAME`, `REDIS_PASSWORD` | credentials, as they are: no percent-encoding | none |
    /// | `REDIS_DB` | number of the database | 0 |
    /// | `REDIS_TLS_ENABLED` | `true` or `false` | `false` |
    /// | `REDIS_CLUSTER_NODES` | `host:port,host:port` | |
    /// | `REDIS_CLUSTER_MODE` | `true` or `false` | `false` |
    /// | `REDIS_MAX_RETRIES` | failed dials before the breaker trips, see [`Config::failed_dials_max`] | none |
    /// | `REDIS_CONNECT_TIMEOUT` | milliseconds | 2000 |
    ///
    /// Nothing set at all is `redis://localhost:6379`. `REDIS_URL` comes first: the others fill in
    /// what it leaves open, and what contradicts it is an error that names both. A variable
    /// that is set and empty counts as not set, because that is how most shells and container
    /// files pass an absent one on.
    ///
    /// Other programs have `REDIS_…` variables too, so unknown ones are ignored, with one
    /// exception: a name that is one slip away from one of these (`REDIS_PASWORD`), while that one
    /// is not set, is an error. A `REDIS_PORT` of the form `tcp://…` is not a setting but what
    /// Kubernetes and Docker write for a service called `redis`: ignored as well.
    ///
    /// ```
    /// # use unfazed_core as unfazed_tokio;
    /// use unfazed_tokio::Config;
    ///
    /// let config = Config::from_vars([("REDIS_HOST", "cache"), ("REDIS_DB", "2")])?;
    /// assert_eq!(config.to_url(), "redis://cache:6379/2");
    ///
    /// let error = Config::from_vars([("REDIS_URL", "redis://cache/1"), ("REDIS_DB", "2")]);
    /// assert_eq!(
    ///     error.unwrap_err().to_string(),
    ///     "contradictory database \"2\" in REDIS_DB: REDIS_URL says otherwise; \
    ///      leave one of them out, for example REDIS_URL=redis://localhost:6379/2",
    /// );
    /// # Ok::<(), unfazed_core::config::ConfigError>(())
    /// ```
    ///
    /// Takes text and what the environment itself gives (`std::env::vars_os()`).
    ///
    /// # Errors
    ///
    /// The first variable that is wrong, else what [`Config::validate`] finds.
    pub fn from_vars<I, K, V>(variables: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut known = vars::Variables::default();
        for (name, value) in variables {
            known.add(name.as_ref(), value.as_ref())?;
        }
        known.config()
    }

    /// The URL that says the same, with `***` for the password.
    ///
    /// It names what differs from the defaults. The retry schedule, the native scripts and the fallback
    /// rules are in no URL, nor is a store that others hold as well: the URL has a private one in its
    /// stead.
    #[must_use]
    pub fn to_url(&self) -> String {
        url::show(self, secret::MASK)
    }

    /// The URL that says the same, password included: [`Config::from_url`] makes an equal `Config`
    /// out of it, but for what is in no URL; see [`Config::to_url`].
    ///
    /// ```
    /// # use unfazed_core as unfazed_tokio;
    /// use unfazed_tokio::Config;
    ///
    /// let config = Config::standalone("::1", 6379).password("p@ss");
    /// assert_eq!(config.to_url_with_secrets(), "redis://:p%40ss@[::1]:6379");
    /// assert_eq!(Config::from_url(&config.to_url_with_secrets())?, config);
    /// # Ok::<(), unfazed_core::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn to_url_with_secrets(&self) -> String {
        let password = self.password.as_ref().map_or("", Secret::expose);
        url::show(self, &url::encode(password))
    }

    /// After which silence a connection is sent a PING; `None` for never.
    #[must_use]
    pub fn ping_every(&self) -> Option<Duration> {
        match self.ping_interval {
            PingInterval::ResponseTimeout => Some(self.response_timeout),
            PingInterval::Every(interval) => Some(interval),
            PingInterval::Off => None,
        }
    }

    /// Finds what cannot work: a number out of its range, settings that contradict each other, and
    /// what this version does not support yet.
    ///
    /// # Errors
    ///
    /// The first such setting.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use unfazed_core as unfazed_tokio;
    /// use unfazed_tokio::Config;
    ///
    /// let error = Config::memory().deadline(Duration::ZERO).validate().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid deadline \"0s\" in Config::deadline: \
    ///      expected a duration longer than zero and up to 24h, for example 5s",
    /// );
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        validate::validate(self)
    }
}

impl Default for Config {
    /// One server at `localhost`, port 6379.
    fn default() -> Self {
        Config::standalone("localhost", PORT_DEFAULT)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_url())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Config");
        out.field("url", &self.to_url());
        if let Some(schedule) = &self.retry.schedule {
            out.field("retry_schedule", schedule);
        }
        if !self.address_map.is_empty() {
            out.field("address_map", &self.address_map);
        }
        if self.cluster_map != ClusterMap::default() {
            out.field("cluster_map", &self.cluster_map);
        }
        if !self.fallbacks.is_empty() {
            out.field("fallbacks", &self.fallbacks);
        }
        if !self.native_scripts.is_empty() {
            out.field("native_scripts", &self.native_scripts);
        }
        out.finish()
    }
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        Config::from_url(url)
    }
}

impl TryFrom<&str> for Config {
    type Error = ConfigError;

    fn try_from(url: &str) -> Result<Self, ConfigError> {
        Config::from_url(url)
    }
}

impl TryFrom<String> for Config {
    type Error = ConfigError;

    fn try_from(url: String) -> Result<Self, ConfigError> {
        Config::from_url(&url)
    }
}

impl TryFrom<&String> for Config {
    type Error = ConfigError;

    fn try_from(url: &String) -> Result<Self, ConfigError> {
        Config::from_url(url)
    }
}

impl From<&Config> for Config {
    fn from(config: &Config) -> Self {
        config.clone()
    }
}

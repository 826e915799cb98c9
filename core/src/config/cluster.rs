//! What only clusters need: how their layout is asked for, and where the addresses lead that they name.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// How a cluster is asked who serves which slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterMap {
    /// `CLUSTER SHARDS`, since Redis 7.0; `CLUSTER SLOTS` where a server does not know it. The default: it
    /// names the nodes too that serve no slot yet, which are about to be given some.
    #[default]
    Shards,
    /// `CLUSTER SLOTS`, since Redis 3.0.
    Slots,
}

/// Where the addresses lead that servers of a cluster name: behind NAT, a tunnel or a container's network
/// they are not the ones that clients can reach.
///
/// Every address that is learned from a server goes through it, those of MOVED and ASK included; the
/// addresses that the client was given to begin with do not. The table goes before the function, and what
/// neither names is left as it is.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::config::AddressMap;
///
/// let map = AddressMap::new()
///     .entry("10.0.0.1", 6379, "localhost", 7001)
///     .function(|host, port| Some((format!("{host}.example.org"), port)));
/// assert_eq!(map.apply("10.0.0.1", 6379), Some(("localhost".into(), 7001)));
/// assert_eq!(map.apply("node-b", 6379), Some(("node-b.example.org".into(), 6379)));
/// ```
#[derive(Clone, Default)]
pub struct AddressMap {
    table: BTreeMap<(String, u16), (String, u16)>,
    function: Option<Function>,
}

type Function = Arc<dyn Fn(&str, u16) -> Option<(String, u16)> + Send + Sync>;

impl AddressMap {
    /// An empty one, which leaves every address as it is.
    #[must_use]
    pub fn new() -> Self {
        AddressMap::default()
    }

    /// Has the node that is announced at the first address be reached at the second.
    #[must_use]
    pub fn entry(
        mut self,
        host: impl Into<String>,
        port: u16,
        to_host: impl Into<String>,
        to_port: u16,
    ) -> Self {
        self.table.insert((host.into(), port), (to_host.into(), to_port));
        self
    }

    /// Has `function` say where an address leads; `None` leaves it as it is.
    ///
    /// It must be pure, and quick: it is called while the client is locked, so it must not use the client.
    #[must_use]
    pub fn function(
        mut self,
        function: impl Fn(&str, u16) -> Option<(String, u16)> + Send + Sync + 'static,
    ) -> Self {
        self.function = Some(Arc::new(function));
        self
    }

    /// Where an address leads, if not to itself. O(log entries), and what the function takes.
    #[must_use]
    pub fn apply(&self, host: &str, port: u16) -> Option<(String, u16)> {
        let found = self.table.get(&(host.to_owned(), port)).cloned();
        found.or_else(|| self.function.as_ref()?(host, port))
    }

    /// Whether it leaves every address as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.function.is_none()
    }
}

impl fmt::Debug for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_map();
        out.entries(&self.table);
        if self.function.is_some() {
            out.entry(&"..", &"function");
        }
        out.finish()
    }
}

/// Two functions are equal if they are clones of one another.
impl PartialEq for AddressMap {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.function, &other.function) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same && self.table == other.table
    }
}

impl Eq for AddressMap {}

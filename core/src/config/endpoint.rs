//! Where servers are.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use crate::fallback::SharedStore;

/// The port that servers listen on unless told otherwise.
pub const PORT_DEFAULT: u16 = 6379;

/// The port that sentinels listen on unless told otherwise.
pub const SENTINEL_PORT_DEFAULT: u16 = 26379;

/// What kind of deployment a client speaks to, and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deployment {
    /// One server.
    Standalone(Endpoint),
    /// A cluster, entered through any of these nodes.
    Cluster(Vec<Endpoint>),
    /// A master that sentinels know. Not supported by this version.
    Sentinel {
        /// The sentinels, asked in this order.
        sentinels: Vec<Endpoint>,
        /// The name under which they know the master.
        service: Arc<str>,
    },
    /// No server at all: the embedded store, private to the client and its clones.
    Memory,
    /// No server at all: an embedded store that others hold as well.
    Store(SharedStore),
}

impl Deployment {
    /// Whether there is no server: the embedded store answers everything, and is always there.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self, Deployment::Memory | Deployment::Store(_))
    }
}

/// The address of one server.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::config::Endpoint;
///
/// assert_eq!(Endpoint::tcp("localhost", 6379).to_string(), "localhost:6379");
/// assert_eq!(Endpoint::tcp("::1", 6379).to_string(), "[::1]:6379");
/// assert_eq!(Endpoint::unix("/run/redis.sock").to_string(), "/run/redis.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// A name, or an address; an IPv6 address stands without brackets.
        host: Arc<str>,
        /// From 1 to 65535.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(Arc<Path>),
}

impl Endpoint {
    /// The server at `host`, which is a name or an address; brackets around IPv6 are taken off.
    #[must_use]
    pub fn tcp(host: impl Into<Arc<str>>, port: u16) -> Self {
        let host = host.into();
        match unbracketed(&host) {
            Some(address) => Endpoint::Tcp { host: address.into(), port },
            None => Endpoint::Tcp { host, port },
        }
    }

    /// The server behind the socket at `path`.
    #[must_use]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Endpoint::Unix(path.as_ref().into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What is wrong with a host: the piece of it, as bytes of the text, and what is expected.
pub(crate) struct BadHost {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) advice: &'static str,
}

/// The longest name that the domain name system carries, in bytes.
const HOST_MAX: usize = 253;

/// Checks a name, an IPv4 address, or an IPv6 address without brackets.
pub(crate) fn check_host(host: &str) -> Result<(), BadHost> {
    let bad = |start, end, advice| Err(BadHost { start, end, advice });
    if host.is_empty() {
        return bad(0, 0, "expected a name or an address");
    }
    if host.contains(':') {
        return match is_ipv6(host) {
            true => Ok(()),
            false => bad(0, host.len(), "expected an IPv6 address of eight groups, or with one ::"),
        };
    }
    if let Some((start, c)) = host.char_indices().find(|(_, c)| !is_host_char(*c)) {
        let advice = if c.is_ascii() {
            "expected letters, digits, '-', '_' and '.' only"
        } else {
            "expected ASCII: write an international name in its xn-- form"
        };
        return bad(start, start + c.len_utf8(), advice);
    }
    if host.len() > HOST_MAX {
        return bad(HOST_MAX, host.len(), "expected at most 253 characters");
    }
    Ok(())
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// An IPv6 address, which may name its zone after a `%`.
pub(super) fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "eth0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(is_host_char)
}

/// The address between brackets, if there are brackets.
pub(super) fn unbracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// The longest path that fits into a socket address (`sun_path` without its NUL), in bytes.
const PATH_MAX: usize = 107;

/// Checks the path of a Unix domain socket; the answer is what is expected.
pub(super) fn check_path(path: &Path) -> Result<(), &'static str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes == b"/" {
        Err("expected the path of a socket")
    } else if bytes.contains(&0) {
        Err("expected a path without NUL")
    } else if bytes.len() > PATH_MAX {
        Err("expected at most 107 bytes, which is all that a socket address holds")
    } else {
        Ok(())
    }
}

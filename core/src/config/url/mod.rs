//! URLs: `parse` takes one apart, `show` puts one together, `fault` words what is wrong and keeps
//! passwords out of it. Calls go from `parse` to `fault`.

mod fault;
mod parse;
mod show;

pub(super) use parse::{Parsed, nodes, parse};
pub(super) use show::{encode, show};

/// What a scheme asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Standalone,
    Unix,
    Cluster,
    Sentinel,
    Memory,
}

/// Each scheme, what it asks for, and whether with TLS.
const SCHEMES: &[(&str, Kind, bool)] = &[
    ("redis", Kind::Standalone, false),
    ("rediss", Kind::Standalone, true),
    ("valkey", Kind::Standalone, false),
    ("valkeys", Kind::Standalone, true),
    ("unix", Kind::Unix, false),
    ("redis+unix", Kind::Unix, false),
    ("valkey+unix", Kind::Unix, false),
    ("redis+cluster", Kind::Cluster, false),
    ("rediss+cluster", Kind::Cluster, true),
    ("valkey+cluster", Kind::Cluster, false),
    ("valkeys+cluster", Kind::Cluster, true),
    ("redis+sentinel", Kind::Sentinel, false),
    ("rediss+sentinel", Kind::Sentinel, true),
    ("valkey+sentinel", Kind::Sentinel, false),
    ("valkeys+sentinel", Kind::Sentinel, true),
    ("memory", Kind::Memory, false),
];

impl Kind {
    /// A URL of this kind that is right.
    fn example(self) -> &'static str {
        match self {
            Kind::Standalone => super::URL_EXAMPLE,
            Kind::Unix => "unix:///run/redis.sock",
            Kind::Cluster => "redis+cluster://node1:6379,node2:6379",
            Kind::Sentinel => "redis+sentinel://sentinel1:26379,sentinel2:26379/mymaster",
            Kind::Memory => "memory://",
        }
    }
}

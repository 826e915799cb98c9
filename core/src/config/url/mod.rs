//! URLs: `parse` takes one apart, `show` puts one together, `fault` words what is wrong and keeps
//! passwords out of it. Calls go from `parse` to `fault`.

mod fault;
mod parse;
mod show;

pub(super) use fault::is_address;
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

/// Every scheme that this version can use, as a sentence has them: `redis://, unix:// and memory://`.
pub(super) fn supported_schemes() -> String {
    let supported = SCHEMES.iter().filter(|(_, kind, tls)| !tls && *kind != Kind::Sentinel);
    let names: Vec<_> = supported.map(|(name, ..)| format!("{name}://")).collect();
    let (last, others) = names.split_last().expect("there are several");
    format!("{} and {last}", others.join(", "))
}

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

#[cfg(test)]
mod tests {
    use super::{encode, parse, show};
    use crate::config::{Deployment, Endpoint, Secret};

    #[test]
    fn deployments_that_are_not_supported_yet_are_read_in_full() {
        let tcp = |host: &str, port| Endpoint::tcp(host, port);
        let read = [
            ("rediss://:pw@h:1/2", Deployment::Standalone(tcp("h", 1))),
            (
                "redis+cluster://me:pw@a:1,[::1]:2",
                Deployment::Cluster(vec![tcp("a", 1), tcp("::1", 2)]),
            ),
            (
                "rediss+sentinel://a:26379,b:1/my%20master/3",
                Deployment::Sentinel {
                    sentinels: vec![tcp("a", 26379), tcp("b", 1)],
                    service: "my master".into(),
                },
            ),
        ];
        for (url, deployment) in read {
            let config = parse(url).expect(url).config;
            assert_eq!(config.deployment, deployment);
            assert_eq!(config.tls, url.starts_with("rediss"));
            let password = config.password.as_ref().map_or("", Secret::expose);
            assert_eq!(show(&config, &encode(password)), url);
        }
    }
}

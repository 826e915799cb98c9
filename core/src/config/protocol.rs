//! How a connection speaks, and how it is known to be alive.

use std::time::Duration;

/// Which version of the protocol is asked for when a connection opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolChoice {
    /// `HELLO 3`, and RESP2 where the server does not know it. The default: it works everywhere.
    #[default]
    Auto,
    /// `HELLO 3`, and an error where the server does not know it.
    Resp3,
    /// RESP2 without `HELLO`, for proxies that close the connection on it.
    Resp2,
}

impl ProtocolChoice {
    /// Each choice, and the word for it in a URL.
    pub(super) const WORDS: &[(&str, ProtocolChoice)] = &[
        ("auto", ProtocolChoice::Auto),
        ("resp3", ProtocolChoice::Resp3),
        ("resp2", ProtocolChoice::Resp2),
    ];
}

/// After which silence a connection is sent a PING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PingInterval {
    /// After `response_timeout`, whatever that is: a half-open connection is then found within
    /// twice that span. The default.
    #[default]
    ResponseTimeout,
    /// After this long.
    Every(Duration),
    /// Never: a connection that went silent is found when a request on it times out.
    Off,
}

impl From<Duration> for PingInterval {
    fn from(interval: Duration) -> Self {
        PingInterval::Every(interval)
    }
}

impl From<Option<Duration>> for PingInterval {
    /// `None` is [`PingInterval::Off`].
    fn from(interval: Option<Duration>) -> Self {
        interval.map_or(PingInterval::Off, PingInterval::Every)
    }
}

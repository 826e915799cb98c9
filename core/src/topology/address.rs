//! Addresses that servers name: which node is meant, if any is.

use std::net::IpAddr;

use super::parse::Asked;
use crate::{
    config::{Endpoint, check_host},
    reply::ServerError,
    slot::SLOTS,
};

/// Whether a redirect holds from now on or for one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedirectKind {
    Moved,
    Ask,
}

/// What MOVED or ASK says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) kind: RedirectKind,
    pub(crate) slot: u16,
    /// `None` where the server does not know how the node is reached.
    pub(crate) to: Option<Endpoint>,
}

impl Redirect {
    /// Whether an error is of one of the two kinds, well-formed or not.
    pub(crate) fn is_one(error: &ServerError) -> bool {
        matches!(error.code(), "MOVED" | "ASK")
    }

    /// Reads an error of the node that was asked; `None` where it is no redirect or none that says where
    /// to.
    pub(crate) fn read(error: &ServerError, asked: &Asked<'_>) -> Option<Self> {
        let kind = match error.code() {
            "MOVED" => RedirectKind::Moved,
            "ASK" => RedirectKind::Ask,
            _ => return None,
        };
        let mut words = error.message().split_ascii_whitespace();
        let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        // An IPv6 address has colons and no brackets.
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        Some(Redirect { kind, slot, to: asked.endpoint(Some(host), port) })
    }
}

impl Asked<'_> {
    /// The node at an address that the node which was asked has named. No host, or an empty one, is the
    /// host that was asked; `?` is one that nobody knows.
    pub(super) fn endpoint(&self, host: Option<&str>, port: u16) -> Option<Endpoint> {
        let host = match host.unwrap_or_default() {
            "" => match self.at {
                Endpoint::Tcp { host, .. } => host.to_string(),
                Endpoint::Unix(_) => return None,
            },
            "?" => return None,
            named => normal(named),
        };
        let (host, port) = self.map.apply(&host, port).unwrap_or((host, port));
        let host = normal(&host);
        let sound = port != 0 && check_host(&host).is_ok();
        sound.then(|| Endpoint::tcp(host, port))
    }
}

/// One way to write a host, so that one node is not taken for two.
pub(crate) fn normal(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => bare.to_ascii_lowercase(),
    }
}

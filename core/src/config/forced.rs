//! What an operator can force upon a client.

use std::fmt;

/// Who answers, whatever health says; see [`Engine::force`](crate::Engine::force).
///
/// | forced | keys that may degrade | keys that may not | connections |
/// |---|---|---|---|
/// | `Redis` | wait for the server within their deadline | the same | as ever |
/// | `Memory` | are answered from memory | go to the server | as ever |
/// | `Isolated` | are answered from memory | fail at once | none |
///
/// A pattern that is to [fail](crate::Fallback::fail) while the server is down does so by health under
/// `Redis`, and always under the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forced {
    /// Nothing is answered from memory, not even while the server is down. What memory owes the server
    /// stays owed; a key that is owed something waits until it is paid.
    Redis,
    /// As if the server had been judged down. Connections and probes go on, but nothing recovers.
    Memory,
    /// The same, and no connection is even tried: existing ones are closed, and nothing is looked up,
    /// dialled or pinged.
    Isolated,
}

impl Forced {
    /// Each mode, and the word for it in a URL.
    pub(super) const WORDS: &[(&str, Forced)] =
        &[("redis", Forced::Redis), ("memory", Forced::Memory), ("isolated", Forced::Isolated)];
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forced::Redis => "redis",
            Forced::Memory => "memory",
            Forced::Isolated => "isolated",
        })
    }
}

//! A value that is never formatted.

use std::fmt;
use std::sync::Arc;

/// A password or another secret.
///
/// Formatting it, in whichever way, shows `***`; only the handshake reads what is inside. Clones
/// share the text.
///
/// ```
/// # mod unfazed_tokio { pub use unfazed_core as core; }
/// use unfazed_tokio::core::config::Secret;
///
/// let secret = Secret::from("hunter2");
/// assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// What stands where a secret would stand.
pub(super) const MASK: &str = "***";

impl Secret {
    /// The text itself, for the handshake and for URLs that are asked for with their secrets.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text.into())
    }
}

//! Answers without a server: which keys may have them, the embedded store, and what the client
//! remembers, writes and owes while its server is down.
//!
//! [`policy`] says what is allowed, [`store`] is the embedded Redis. `memory` puts them together for
//! one client: the engine asks it, and it asks nobody.

pub mod glob;
mod journal;
mod keyed;
mod memory;
pub mod policy;
mod script;
mod shadow;
pub mod store;

pub(crate) use memory::{Claim, Memory};
pub(crate) use policy::Standing;
pub use policy::{Fallback, Mode, Policy, Rules};
pub(crate) use script::misuse;
pub use script::{NativeDone, NativeRun, NativeScripts, ScriptStore};
pub use store::{Answer, Bounds, Store};

use crate::config::MemoryLimits;

impl From<&MemoryLimits> for Bounds {
    fn from(limits: &MemoryLimits) -> Self {
        Bounds { entries_max: limits.entries_max, bytes_max: limits.bytes_max }
    }
}

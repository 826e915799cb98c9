//! Answers without a server: which keys may have them, the embedded store, and what the client
//! remembers, writes and owes while its server is down.
//!
//! [`policy`] says what is allowed, [`store`] is the embedded Redis, `shared` hands it to programs.
//! `memory` puts them together for one client: the engine asks it, and it asks nobody.

pub mod glob;
mod journal;
mod keyed;
mod memory;
mod part;
pub mod policy;
mod shadow;
mod shared;
pub mod store;

pub(crate) use memory::{Claim, Memory};
pub(crate) use part::{Part, Stopped, Why};
pub(crate) use policy::Standing;
pub use policy::{Fallback, Mode, Policy, Rules};
pub use shared::{Ambient, Store as SharedStore};
pub use store::{Answer, Bounds, Store};

use crate::config::MemoryLimits;

impl From<&MemoryLimits> for Bounds {
    fn from(limits: &MemoryLimits) -> Self {
        Bounds { entries_max: limits.entries_max, bytes_max: limits.bytes_max }
    }
}

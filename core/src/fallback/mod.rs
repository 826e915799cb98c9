//! Answers without a server: which keys may have them, the embedded store, and what the client
//! remembers, writes and owes while its server is down.
//!
//! [`policy`] says what is allowed, [`store`] is the embedded Redis, `shared` hands it to programs.
//! `memory` puts them together for one client: the engine asks it, and it asks nobody. Under it: `deeds`
//! is what each command has to know and leaves behind, `shadow` is what the server said last, `delta`
//! the net effect of writes on one key, and `journal` what is owed to each key.

mod aged;
mod deeds;
mod delta;
mod engaged;
pub mod glob;
mod hub;
mod journal;
mod memory;
mod part;
pub mod policy;
mod script;
mod shadow;
mod shared;
mod standing;
pub mod store;

pub(crate) use delta::Command;
pub use hub::Nudge;
pub(crate) use hub::{is_about_channels, misuse_of_channels};
pub(crate) use memory::{Answered, Claim, Memory, Refused, Step};
pub(crate) use part::{Part, Stopped, Why};
pub use policy::{Fallback, Mode, Policy, Rules};
pub(crate) use script::misuse;
pub use script::{NativeDone, NativeRun, NativeScripts, ScriptStore};
pub(crate) use shared::Membership;
pub use shared::{Ambient, Store as SharedStore};
pub(crate) use standing::Standing;
pub(crate) use store::Savepoint;
pub use store::{Answer, Bounds, Store};

use crate::{config::MemoryLimits, keyed};

impl From<&MemoryLimits> for Bounds {
    fn from(limits: &MemoryLimits) -> Self {
        Bounds { entries_max: limits.entries_max, bytes_max: limits.bytes_max }
    }
}

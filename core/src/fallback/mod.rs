//! (being written)
pub mod glob;
pub mod policy;
pub mod store;

pub use policy::{Fallback, Mode, Policy, Rules};
pub use store::Store;

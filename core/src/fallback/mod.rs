//! (being written)
pub mod glob;
pub mod policy;

pub use policy::{Fallback, Mode, Policy, Rules};

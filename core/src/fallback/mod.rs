//! (being written)
pub mod policy;

pub use policy::{Fallback, Mode, Policy};

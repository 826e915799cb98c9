//! (being written)
mod value;

pub use value::Value;

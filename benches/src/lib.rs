//! What all measurements share: the data, the frames, the workloads, and the bare loop that they
//! are held against.
//!
//! - `cargo bench -p unfazed-benches` times single steps without a socket: encoding, decoding, hash
//!   slots, the store.
//! - `cargo run --release -p unfazed-benches --bin count` counts instructions and allocations per
//!   operation, which no noise can touch. It needs `valgrind`.
//! - `cargo run --release -p unfazed-benches --bin e2e` times whole clients on a real server, beside
//!   the bare loop.

mod data;
mod flood;
mod making;
mod raw;
mod work;

pub use data::{
    KEYS, LIST, VALUE_BYTES, aggregate_of_bulks, command, deep_map, fill, get_replies, key, value,
};
pub use making::{Encoder, Pipeline};
pub use raw::RawLoop;
pub use work::Work;

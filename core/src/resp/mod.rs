//! The wire: RESP2 and RESP3, bytes to frames and back.
//!
//! - [`Decoder`] finds whole frames at the front of a buffer and is all that ever reads bytes from
//!   a server. It resumes where it stopped and keeps every limit in [`Limits`].
//! - [`Reply`] is one frame: a short payload inline, a longer one as a slice of the read buffer,
//!   an aggregate as its bytes and a tape of tokens. [`View`] reads it in place.
//! - [`encode`] writes commands; [`Value`] is the owned tree for those who make replies.
//!
//! Calls go one way: `decode` uses `scan` (one line, one length) and builds a [`Reply`]; nothing
//! here knows of commands, connections or Rust types beyond bytes and numbers.
//!
//! The rules are those of the [RESP specification](https://redis.io/docs/latest/develop/reference/protocol-spec/),
//! the streamed types included.

mod decode;
pub mod encode;
mod error;
mod limits;
pub(crate) mod number;
mod reply;
mod scan;
mod tape;
mod value;
mod view;

pub use decode::Decoder;
pub(crate) use decode::{ROW_ITEM_BYTES_MAX, Row, Sink};
pub use error::{Fault, ProtocolError, ServerError};
pub use limits::Limits;
pub use reply::{Reply, Source};
pub use tape::Kind;
pub use value::Value;
pub use view::{Items, Pairs, View};

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The protocol of Redis 1.2 to 5, and what every connection speaks before `HELLO 3`.
    Resp2,
    /// Since Redis 6: typed replies, pushes and attributes.
    Resp3,
}

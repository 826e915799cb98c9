//! Publish and subscribe, as far as no connection and no clock is needed for it.
//!
//! A program subscribes to *topics*: channels, patterns of channels, shard channels. What it wants
//! and what a server has are two things, and bringing the second in line with the first is all there
//! is to it.
//!
//! | module | what it knows |
//! |---|---|
//! | `topic` | what can be subscribed to, and by which words |
//! | `notice` | what a frame from the server says: a message, or that a topic was added or dropped |
//! | `feed` | what one connection is to carry and what it carries: the reconciler |
//! | `inbox` | what waits for one reader, within its bounds |
//! | `message` | what the reader gets |
//!
//! Streams, tickets and connections are the engine's to bring together.

mod feed;
mod inbox;
mod message;
mod notice;
mod topic;

pub(crate) use feed::{Feed, Step, TopicId, Unwanted};
pub(crate) use inbox::Inbox;
pub use inbox::{Overflow, StreamOptions};
pub use message::{Incoming, Message, Payload};
pub(crate) use notice::{Action, Delivery, Notice};
pub(crate) use topic::Topic;
pub use topic::TopicKind;

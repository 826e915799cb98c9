//! The world that the scenarios run in: real servers and clusters, a network that fails on demand, peers that
//! say exactly what a test wants said, and a client of its own to see what really happened.
//!
//! Nothing here uses the library under test, so an error there cannot hide itself here. All of it
//! blocks and runs on plain threads; an async test may call it, or move it to a thread.
//!
//! ```
//! use unfazed_tests::{Close, Fault, Proxy, Raw, Server, Way};
//!
//! let server = Server::start();
//! let proxy = Proxy::start(server.port());
//! let mut client = Raw::connect(proxy.port());
//!
//! proxy.set(Fault::Cut { way: Way::Replies, after: 0, how: Close::Reset });
//! assert!(client.try_cmd(&["INCR", "visits"]).is_err(), "the reply never came");
//!
//! let mut witness = Raw::connect(server.port());
//! assert_eq!(witness.get("visits").as_deref(), Some("1"), "but the command was executed");
//! assert_eq!(proxy.requests_seen(b"INCR"), 1);
//! ```
//!
//! # Conventions
//!
//! A harness that fails panics, with all it knows: there is nothing a test could do about it. What
//! a test may want to see fail has a name that begins with `try_` and returns a `Result`. No wait
//! is without a limit. Everything stops and cleans up when dropped.

mod cluster;
mod net;
mod peer;
mod proxy;
mod raw;
mod server;
pub mod table;
mod wait;

pub use cluster::{Announce, Cluster, Failover, Gap, Layout, Prober, SLOTS, key_slot, slot_tag};
pub use net::{Close, free_port};
pub use peer::{Command, Dialogue, Manners, Peer};
pub use proxy::{Fault, Proxy, Way};
pub use raw::{Raw, RawReply};
pub use server::Server;
pub use wait::eventually;

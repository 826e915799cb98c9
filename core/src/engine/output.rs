//! What goes into the engine and what comes out, beyond bytes: ids, inputs, outputs, events.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration, time::Instant};

use super::Lineage;
use crate::{
    config::Forced,
    failure::{Ago, Bound, Cause},
    fallback::{NativeDone, NativeRun, Nudge},
    reply::ServerError,
    resp::Reply,
    slab::Id,
};

/// One connection, or the attempt to make one. A stale id is inert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub(crate) Id);

/// A connection of one's own, or the claim to one. A stale one is inert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease(pub(crate) Id);

/// One submitted request, pipeline, or wait. A stale ticket is inert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(crate) Id);

/// One stream of messages. A stale id is inert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) Id);

/// One name look-up. A stale one is inert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lookup(pub(crate) u64);

impl ConnId {
    /// A small number that no other live connection has, for tables of connections.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index()
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {:?}", self.0)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ticket {:?}", self.0)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {:?}", self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:?}", self.0)
    }
}

/// What an adapter tells the engine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The instant of the last [`Output::Wait`] has come, or some wake-up for no reason at all.
    Timeout,
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// Which look-up.
        lookup: Lookup,
        /// The addresses, in the order in which they are to be tried, or why there are none.
        addresses: Result<&'a [SocketAddr], Cause>,
    },
    /// The socket asked for with [`Output::Open`] is connected.
    Opened {
        /// Which connection.
        conn: ConnId,
    },
    /// A connection ended or was never made. Comes once for each [`Output::Open`], after the last
    /// chunk was handed back through `written`.
    Closed {
        /// Which connection.
        conn: ConnId,
        /// Why.
        cause: Cause,
    },
    /// The answer to [`Output::Run`].
    Ran(NativeDone),
    /// The nudge that was set with [`set_nudge`](super::Engine::set_nudge) was given.
    Nudged,
}

/// What the engine asks of its adapter.
#[derive(Debug)]
#[must_use = "every output is an obligation"]
#[non_exhaustive]
pub enum Output {
    /// Look `host` up and answer with [`Input::Resolved`].
    Resolve {
        /// To be named in the answer.
        lookup: Lookup,
        /// A host name; never an address in digits.
        host: Arc<str>,
        /// The port that goes with it.
        port: u16,
    },
    /// Connect, and answer with [`Input::Opened`] or [`Input::Closed`]. The time limit is the
    /// engine's: it closes what takes too long.
    Open {
        /// To be named in the answer and in all that follows.
        conn: ConnId,
        /// Where to.
        target: Target,
        /// How the socket is to be set up.
        socket: SocketOptions,
    },
    /// Close, or stop trying to connect, hand back the chunk that is out, then answer with
    /// [`Input::Closed`].
    Close {
        /// Which connection.
        conn: ConnId,
        /// What becomes of bytes that are still on their way.
        linger: Linger,
    },
    /// There are bytes to be written on `conn` that no submit announced.
    Flush {
        /// Which connection.
        conn: ConnId,
    },
    /// Run a function of the user's, without any lock held, and answer with [`Input::Ran`]. There is
    /// one at a time.
    Run(NativeRun),
    /// Give this nudge, without any lock held: another client of the same store has messages.
    Nudge(Nudge),
    /// More may be read from `conn`, on which reading was to stop
    /// ([`may_read`](super::Engine::may_read)); what was read before is to be handed in again.
    Read {
        /// Which connection.
        conn: ConnId,
    },
    /// A push frame that answers nothing and belongs to no subscription.
    Push(Reply),
    /// Something that operators want to know.
    Event(Event),
    /// Nothing more to do until this instant (`None`: until an input comes). Always the last one.
    Wait(Option<Instant>),
}

/// What a submit asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "bytes wait until somebody writes them"]
pub enum Flush {
    /// Nothing: somebody will write already, or there is nothing to write.
    Nothing,
    /// Have the connection's driver write once others had their turn to add to it.
    AfterOthers(ConnId),
    /// Much has gathered: write now.
    Now(ConnId),
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(Arc<Path>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How a TCP socket is to be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Send small segments at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Idle time before the kernel probes the peer (SO_KEEPALIVE); `None` for never.
    pub keepalive: Option<Duration>,
}

/// What becomes of bytes that are still on their way when a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// The kernel goes on delivering them.
    Deliver,
    /// They are dropped and the peer gets a reset: SO_LINGER with 0 seconds. This narrows the time
    /// in which an unanswered write may still be executed, and does not close it.
    Reset,
}

/// How the client stands with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The first connection is being made.
    Connecting,
    /// Answers come from the server.
    Live,
    /// Something was lost or is silent, not yet judged; requests wait.
    Suspect,
    /// Judged down: key patterns that may degrade are answered from memory.
    Degraded,
    /// The server is back; what it is owed is being settled, key by key.
    Recovering,
    /// The client was closed.
    Closed,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Connecting => "connecting",
            Health::Live => "live",
            Health::Suspect => "suspect",
            Health::Degraded => "degraded",
            Health::Recovering => "recovering",
            Health::Closed => "closed",
        })
    }
}

/// Something that operators want to know. One event for each change, never one for each failed
/// command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A socket is connected; the handshake follows.
    Connect {
        /// The node.
        node: Arc<str>,
    },
    /// The handshake is done; commands go out.
    Ready {
        /// The node.
        node: Arc<str>,
    },
    /// A connection was lost, or could not be made.
    Error {
        /// The node.
        node: Arc<str>,
        /// Why.
        cause: Cause,
    },
    /// The next attempt to connect comes after `delay`.
    Reconnecting {
        /// The node.
        node: Arc<str>,
        /// The wait before the attempt.
        delay: Duration,
    },
    /// The client's standing with its server changed.
    HealthChanged {
        /// Before.
        from: Health,
        /// Now.
        to: Health,
        /// What brought it about, where something did.
        cause: Option<Cause>,
    },
    /// How the client stands with one node of a cluster has changed.
    NodeHealthChanged {
        /// The node.
        node: Arc<str>,
        /// Before.
        from: Health,
        /// Now.
        to: Health,
        /// What brought it about, where something did.
        cause: Option<Cause>,
    },
    /// The client speaks to another node of its cluster from now on.
    NodeAdded {
        /// The node.
        node: Arc<str>,
    },
    /// The client has no use for a node any more: it serves nothing, or is not of its cluster.
    NodeRemoved {
        /// The node.
        node: Arc<str>,
    },
    /// An operator forced something upon the client, or let it go.
    Forced {
        /// Before.
        from: Option<Forced>,
        /// Now; `None` where health decides.
        to: Option<Forced>,
    },
    /// How the data of a server that is back relate to those it had. Where nobody can tell, what was
    /// remembered of it is dropped.
    ///
    /// Comes whenever the server is trusted again and before anything is written to it, so more than once in an
    /// outage that goes on all the same; and without one where another server answers at the same address.
    DataSet {
        /// The node.
        node: Arc<str>,
        /// How they relate.
        lineage: Lineage,
    },
    /// Writes that were taken in memory could not be carried out on the server, for a reason that
    /// would be the same the next time. They are given up: the keys are as the server has them. Comes
    /// once for each kind of refusal and attempt to recover.
    ReplayRefused {
        /// The node.
        node: Arc<str>,
        /// The command that was refused, or failed.
        command: &'static str,
        /// The first such error.
        error: ServerError,
        /// How many keys it concerns.
        entries: u64,
    },
    /// Under [`MergeDelta`](crate::fallback::Policy::MergeDelta): the server may have other data than
    /// before, and these keys are not among them, so nothing was added to them.
    MergesSkipped {
        /// The node.
        node: Arc<str>,
        /// How many keys.
        entries: u64,
    },
    /// Under [`MergeDelta`](crate::fallback::Policy::MergeDelta): what was to be added to these keys
    /// was sent, and no answer came. It may have been added, and is not sent again.
    MergesUnanswered {
        /// The node.
        node: Arc<str>,
        /// How many keys.
        entries: u64,
    },
    /// The client was closed before the server could be told what was written in memory while it was down.
    /// These writes are lost, although they succeeded: the keys are as the server has them, and where it was
    /// only to be told that what it has is stale, they are stale.
    WritesLost {
        /// How many keys.
        entries: u64,
    },
    /// Something was asked for that is remembered and too old to be served. Comes once an outage.
    TooOld {
        /// The node.
        node: Arc<str>,
    },
    /// The server has been down for this long. Comes once `down_event_after` has passed, and again at
    /// each doubling.
    StillDown {
        /// For how long.
        span: Duration,
    },
    /// A bound was reached and something was refused or forgotten; told once until there is room
    /// again.
    Full {
        /// Which.
        bound: Bound,
    },
    /// A command that waits at the server was given up while it was there, and its connection closed. It
    /// may have been executed, and nobody is left whom its failure could tell so: what it took from a
    /// list or set is lost then, and entries that a group read of a stream stay pending for it. Comes for each
    /// such command that writes.
    GivenUp {
        /// The node.
        node: Arc<str>,
        /// The command.
        command: &'static str,
    },
    /// The client was closed; nothing follows.
    End,
}

impl Event {
    /// What it is called in one word, as operators of other clients know it where they do. Stable, so
    /// that metrics can go by it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Connect { .. } => "connect",
            Event::Ready { .. } => "ready",
            Event::Error { .. } => "error",
            Event::Reconnecting { .. } => "reconnecting",
            Event::HealthChanged { .. } => "health",
            Event::NodeHealthChanged { .. } => "node_health",
            Event::NodeAdded { .. } => "node_added",
            Event::NodeRemoved { .. } => "node_removed",
            Event::Forced { .. } => "forced",
            Event::DataSet { .. } => "data_set",
            Event::ReplayRefused { .. } => "replay_refused",
            Event::MergesSkipped { .. } => "merges_skipped",
            Event::MergesUnanswered { .. } => "merges_unanswered",
            Event::WritesLost { .. } => "writes_lost",
            Event::TooOld { .. } => "too_old",
            Event::StillDown { .. } => "still_down",
            Event::Full { .. } => "full",
            Event::GivenUp { .. } => "given_up",
            Event::End => "end",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connect { node } => write!(f, "connected to {node}"),
            Event::Ready { node } => write!(f, "{node} is ready"),
            Event::Error { node, cause } => write!(f, "{node}: {cause}"),
            Event::Reconnecting { node, delay } => {
                write!(f, "reconnecting to {node} in {}", Ago(*delay))
            }
            Event::HealthChanged { from, to, cause: Some(cause) } => {
                write!(f, "{from} -> {to}: {cause}")
            }
            Event::HealthChanged { from, to, cause: None } => write!(f, "{from} -> {to}"),
            Event::NodeHealthChanged { node, from, to, cause: Some(cause) } => {
                write!(f, "{node}: {from} -> {to}: {cause}")
            }
            Event::NodeHealthChanged { node, from, to, cause: None } => {
                write!(f, "{node}: {from} -> {to}")
            }
            Event::NodeAdded { node } => write!(f, "{node} is a node of the cluster"),
            Event::NodeRemoved { node } => write!(f, "{node} is not needed any more"),
            Event::Forced { to: Some(forced), .. } => write!(f, "forced by an operator: {forced}"),
            Event::Forced { from: Some(from), to: None } => {
                write!(f, "no longer forced: {from}; health decides")
            }
            Event::Forced { from: None, to: None } => f.write_str("health decides"),
            Event::DataSet { node, lineage: Lineage::Same } => {
                write!(f, "{node} is back with the same data")
            }
            Event::DataSet { node, lineage: Lineage::Continued } => {
                write!(f, "{node} is another server that goes on with the same data")
            }
            Event::DataSet { node, lineage: Lineage::Unknown } => {
                write!(f, "{node} may hold another data set; remembered values are dropped")
            }
            Event::ReplayRefused { node, command, error, entries } => {
                write!(f, "{node} refused {command} for {entries} keys written in memory: {error}")
            }
            Event::MergesSkipped { node, entries } => {
                write!(
                    f,
                    "{entries} keys that were added to in memory are not on {node}, which may have \
                     lost its data; nothing was added to them"
                )
            }
            Event::MergesUnanswered { node, entries } => {
                write!(
                    f,
                    "{node} did not answer; what was written in memory to {entries} keys may have \
                     been added, and is not sent again"
                )
            }
            Event::WritesLost { entries } => {
                write!(
                    f,
                    "closed before the server was told what was written in memory: {entries} keys \
                     stay as it has them"
                )
            }
            Event::TooOld { node } => {
                write!(f, "{node} has been down for longer than remembered values may be served")
            }
            Event::StillDown { span } => write!(f, "still down after {}", Ago(*span)),
            Event::Full { bound } => write!(f, "{bound} is reached"),
            Event::GivenUp { node, command } => {
                write!(
                    f,
                    "{command} was given up on {node} while it waited; it may have been executed"
                )
            }
            Event::End => f.write_str("closed"),
        }
    }
}

/// A request that was refused and left no trace.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rejected {
    /// The queue is full. Wait for room, or give up.
    Full,
    /// It can never be accepted.
    Failed(crate::Failure),
}

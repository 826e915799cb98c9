//! What can happen to a request.

use std::{borrow::Cow, fmt};

use super::Cause;
use crate::{
    config::ConfigError,
    reply::{DecodeError, ServerError},
};

/// What happened to a request that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// The server answered with an error.
    Server(ServerError),
    /// The deadline passed.
    DeadlinePassed(Stage),
    /// The connection was lost after the request may have reached the server, or more often than
    /// retries are allowed.
    ConnectionLost(Cause),
    /// The server is judged down, and the request asked not to wait for it.
    Down(Cause),
    /// An operator has isolated the client (see [`Forced::Isolated`](crate::config::Forced::Isolated)), and the
    /// request is one that only the server can answer.
    Isolated,
    /// No node of the cluster serves the slot of its keys, as the cluster itself says. The request does not wait
    /// for its deadline then: what comes next is as likely to be somebody who assigns the slot.
    Uncovered(u16),
    /// The queue is full, and the request asked not to wait for room.
    QueueFull,
    /// The embedded store was to answer and can't.
    Memory(MemoryRefusal),
    /// A transaction was discarded before any of it ran: one of its commands was refused, by the server
    /// while it was queued, or by memory.
    Aborted(Abort),
    /// A transaction was discarded before any of it ran: a key that it watched was changed.
    Conflict,
    /// On a connection of one's own, between MULTI and EXEC: the server has queued the command, and the
    /// caller's type can't hold that. Its answer will be among those of EXEC; until then it is executed
    /// *maybe*. (`transaction` needs no such thing.)
    Queued,
    /// The command can't run on a connection that is shared; the text says what to use.
    Misuse(&'static str),
    /// The client has as many streams or subscriptions as it may have, or as many connections of their
    /// own for them; the text says which.
    SubscriptionsFull(&'static str),
    /// The stream of messages that it was for has ended or was dropped.
    StreamEnded,
    /// The client was closed.
    ClientClosed,
    /// The runtime that drove the client's connections was dropped, or it has no drivers for I/O and time,
    /// so that the task which drove them panicked.
    RuntimeDropped,
    /// The client was used outside a runtime that could drive its connections; the text says which
    /// is needed.
    NoRuntime(&'static str),
    /// The server's answer is not what the caller's type can hold.
    Decode(DecodeError),
    /// The configuration is wrong.
    Config(ConfigError),
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The server's own words are about HELLO, which nobody has called.
            FailureKind::Server(error) if error.code() == "NOAUTH" => {
                write!(f, "{error}; it wants a password, as in redis://:password@host")
            }
            FailureKind::Server(error) => write!(f, "{error}"),
            FailureKind::DeadlinePassed(stage) => {
                write!(f, "deadline passed while waiting for {stage}")
            }
            FailureKind::ConnectionLost(cause) => write!(f, "connection lost: {cause}"),
            FailureKind::Down(cause) => write!(f, "server down: {cause}"),
            FailureKind::Isolated => f.write_str("the client was isolated by an operator"),
            FailureKind::QueueFull => f.write_str("queue full"),
            FailureKind::Memory(refusal) => write!(f, "{refusal}"),
            FailureKind::SubscriptionsFull(what) => write!(f, "no more {what} are allowed"),
            FailureKind::Uncovered(slot) => write!(f, "no node of the cluster serves slot {slot}"),
            FailureKind::StreamEnded => f.write_str("its stream of messages has ended"),
            FailureKind::Aborted(abort) => write!(f, "{abort}"),
            FailureKind::Conflict => f.write_str("a watched key was changed"),
            FailureKind::Queued => {
                f.write_str("queued: it runs with EXEC, and its answer is among those of EXEC")
            }
            FailureKind::ClientClosed => f.write_str("client closed"),
            FailureKind::RuntimeDropped => f.write_str(
                "the runtime that drove it was dropped, or lacks its drivers for I/O and time",
            ),
            FailureKind::Misuse(advice) | FailureKind::NoRuntime(advice) => f.write_str(advice),
            FailureKind::Decode(error) => write!(f, "{error}"),
            FailureKind::Config(error) => write!(f, "{error}"),
        }
    }
}

/// Why a transaction was discarded.
#[derive(Clone, Debug)]
pub struct Abort {
    item: Option<(usize, Cow<'static, str>)>,
    reason: Box<FailureKind>,
}

impl Abort {
    pub(crate) fn new(item: Option<(usize, Cow<'static, str>)>, reason: FailureKind) -> Self {
        Abort { item, reason: Box::new(reason) }
    }

    /// Which of its commands was refused, counted from 0 in the order in which they were recorded;
    /// `None` where the server refused all of it.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        self.item.as_ref().map(|(at, _)| *at)
    }

    /// The name of the command that was refused, such as `INCR`.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.item.as_ref().map(|(_, name)| &**name)
    }

    /// What it was refused with: [`FailureKind::Server`] or [`FailureKind::Memory`].
    #[must_use]
    pub fn reason(&self) -> &FailureKind {
        &self.reason
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            // People count from 1.
            Some((at, name)) => write!(f, "discarded for its command {}, {name}: ", at + 1)?,
            None => f.write_str("discarded: ")?,
        }
        self.reason.fmt(f)
    }
}

/// What a request was waiting for when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// For room in the queue.
    Room,
    /// For a connection to the server.
    Connection,
    /// For its turn to be sent again after the server had refused it for now.
    Retry,
    /// For the server's answer.
    Reply,
    /// For a native script, its own or one before it, to end.
    Script,
    /// For a connection of its own: as many as this bound allows are in use.
    Lease(Bound),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Room => "room in the queue",
            Stage::Connection => "a connection",
            Stage::Retry => "its turn to be sent again",
            Stage::Reply => "the reply",
            Stage::Script => "a native script to end",
            Stage::Lease(bound) => {
                return write!(f, "a connection of its own ({bound} of them are in use)");
            }
        })
    }
}

/// Why memory could not answer in the server's stead. Each says what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryRefusal {
    /// The embedded store does not know this command.
    Unsupported,
    /// The same on `memory://`, where there is no server that could answer it some time; the text says what
    /// is missing, and what to use instead.
    Embedded(&'static str),
    /// The command is never answered from memory, whatever the rules of its keys.
    Never(Never),
    /// The answer depends on a value or time to live that only the server knows: memory has never
    /// seen the key.
    Unseen,
    /// The key may only be read as it is remembered, and nothing is.
    NotRemembered,
    /// The key may only be read as it is remembered, and that is too long ago.
    TooOld,
    /// The key may only be read while the server is down.
    ReadOnly,
    /// Refused because two clients would both succeed while the server is down (SET NX).
    Unsafe,
    /// Under [`MergeDelta`](crate::fallback::Policy::MergeDelta): the command has no net effect that
    /// could be added to the server's value later, and the value was not written in memory.
    Unmergeable,
    /// The command's keys are under policies that can't both be kept.
    Mixed,
    /// A bound is reached: of what may be written in memory, or of what recovery may owe.
    Full(Bound),
    /// A native script touched a key that its caller had not declared as one of the script's keys.
    Undeclared,
    /// A native script panicked. Nothing of it was kept.
    Panicked,
}

impl fmt::Display for MemoryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemoryRefusal::Unsupported => {
                "the embedded store can't answer this command, only a server can"
            }
            MemoryRefusal::Embedded(advice) => advice,
            MemoryRefusal::Never(why) => return why.fmt(f),
            MemoryRefusal::Unseen => {
                "only the server knows this key's value or time to live; try again when it is \
                 back, or replace the value as a whole (SET; DEL, then HSET and the like)"
            }
            MemoryRefusal::NotRemembered => {
                "no value of this key is remembered, and none is made up; try again when the \
                 server is back"
            }
            MemoryRefusal::TooOld => {
                "what is remembered of this key is older than its rule's max_age; try again when \
                 the server is back, or raise max_age"
            }
            MemoryRefusal::ReadOnly => {
                "this key can only be read while the server is down; try again when it is back"
            }
            MemoryRefusal::Unsafe => {
                "not safe in memory: another client could succeed as well; try again when the \
                 server is back, or see Fallback::allow_if_absent"
            }
            MemoryRefusal::Unmergeable => {
                "this command's effect can't be added to the server's value later; replace the \
                 value as a whole, or try again when the server is back"
            }
            MemoryRefusal::Mixed => {
                "the fallback policies of the keys can't both be kept; send a command for each key"
            }
            MemoryRefusal::Full(what) => {
                return write!(
                    f,
                    "{what} is reached; try again when the server is back, or raise it"
                );
            }
            MemoryRefusal::Undeclared => {
                "a native script may touch only the keys that its caller declared; declare all of them"
            }
            MemoryRefusal::Panicked => "the native script panicked; nothing of it was kept",
        })
    }
}

/// Why a command is never answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Never {
    /// A script: only a server can run it.
    Script,
    /// A stream: what consumer groups have been given only the server knows.
    Stream,
    /// It waits for what other clients do.
    Blocking,
    /// It is about the connection to the server.
    Session,
    /// It reaches other clients through the server.
    Publish,
    /// It changes every key there is, those that memory knows nothing of among them.
    EveryKey,
    /// It is about the server itself.
    Administration,
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Never::Script => {
                "scripts run on the server only, but for those that Config::native_script gives a \
                 function"
            }
            Never::Stream => "streams and their consumer groups live on the server only",
            Never::Blocking => "what waits for other clients needs the server",
            Never::Session => "what concerns a connection needs the server",
            Never::Publish => "messages reach other clients through the server only",
            Never::EveryKey => "what changes every key needs the server",
            Never::Administration => "what concerns the server itself needs it",
        };
        write!(f, "{why}; try again when it is back")
    }
}

/// A bound of the client's that was reached. `Display` and [`name`](Bound::name) give the setting that
/// sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// How many requests may be under way or waiting.
    QueueRequests,
    /// How many bytes of requests may be kept.
    QueueBytes,
    /// How many entries memory may hold.
    MemoryEntries,
    /// How many bytes memory may hold.
    MemoryBytes,
    /// How many keys recovery may owe something to.
    JournalEntries,
    /// How many bytes that may take.
    JournalBytes,
    /// How many messages may wait for the reader of one stream.
    SubscriptionMessages,
    /// How many bytes these may have.
    SubscriptionBytes,
    /// How many connections requests may have for themselves.
    Leases,
}

impl Bound {
    /// The name of the setting: the builder method of [`Config`](crate::Config), and the parameter in a
    /// URL. Stable, so that metrics can go by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Bound::QueueRequests => "queue_requests_max",
            Bound::QueueBytes => "queue_bytes_max",
            Bound::MemoryEntries => "memory_entries_max",
            Bound::MemoryBytes => "memory_bytes_max",
            Bound::JournalEntries => "journal_entries_max",
            Bound::JournalBytes => "journal_bytes_max",
            Bound::SubscriptionMessages => "subscription_messages_max",
            Bound::SubscriptionBytes => "subscription_bytes_max",
            Bound::Leases => "leases_max",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! What a reader gets.

use std::{fmt, ops::Deref, str::Utf8Error, sync::Arc};

use bytes::Bytes;

use super::topic::{Topic, TopicKind};
use crate::{
    failure::Cause,
    reply::{DecodeError, FromReply},
    resp::{Kind, Reply, View},
};

/// What a subscription gives: messages, and all that its reader must know to trust them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Incoming<T = Payload> {
    /// A message. Those of one channel come in the order in which the server sent them, each once.
    Message(Message<T>),
    /// A message whose payload is not a `T`. The stream goes on.
    Undecodable {
        /// The message as it came.
        message: Message,
        /// What stood in the way.
        error: Box<DecodeError>,
    },
    /// From here on messages may be missed, on one or more of the stream's channels.
    ///
    /// Until [`Restored`](Incoming::Restored) comes, the client does what it can to subscribe again. A
    /// further `Lost` before that says why it has not been possible so far.
    Lost {
        /// Why.
        cause: Cause,
    },
    /// All of the stream's channels are subscribed to again. What was published in between never comes.
    Restored,
    /// So many messages were dropped at this point, because the stream's buffer was full.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// A message that was published.
#[derive(Clone)]
pub struct Message<T = Payload> {
    topic: Arc<Topic>,
    /// Where it is not the topic itself.
    channel: Option<Box<[u8]>>,
    /// What was published.
    pub payload: T,
}

/// What was published, as it came. A short payload lies in place; a longer one may share memory with
/// what was received together with it.
#[derive(Clone)]
pub struct Payload(Reply);

/// Up to this length a payload is copied out of the buffer that it was received in. A shared one
/// keeps all of that buffer alive, up to 256 KiB, for as long as anybody has it.
const COPY_BYTES_MAX: usize = 4 * 1024;

impl<T> Message<T> {
    /// The channel it was published to.
    #[must_use]
    pub fn channel(&self) -> &[u8] {
        self.channel.as_deref().unwrap_or(&self.topic.name)
    }

    /// The channel as text; what is not UTF-8 in it is replaced.
    #[must_use]
    pub fn channel_name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.channel())
    }

    /// The pattern that matched the channel, where it came by a pattern.
    #[must_use]
    pub fn pattern(&self) -> Option<&[u8]> {
        (self.topic.kind == TopicKind::Pattern).then_some(&*self.topic.name)
    }

    /// What it was subscribed by: a channel, a pattern, a shard channel.
    #[must_use]
    pub fn kind(&self) -> TopicKind {
        self.topic.kind
    }

    /// Whether it is this topic that it came by.
    pub(crate) fn came_by(&self, kind: TopicKind, name: &[u8]) -> bool {
        self.topic.kind == kind && *self.topic.name == *name
    }
}

impl Message {
    pub(crate) fn new(topic: Arc<Topic>, channel: Option<&[u8]>, payload: Payload) -> Self {
        Message { topic, channel: channel.map(Into::into), payload }
    }

    /// How many bytes it has, name and payload.
    pub(super) fn len(&self) -> usize {
        self.payload.len() + self.channel().len()
    }

    /// The same with its payload as a `T`.
    ///
    /// # Errors
    ///
    /// When the payload is not a `T`.
    pub fn decode<T: FromReply>(self) -> Result<Message<T>, (Self, DecodeError)> {
        match T::from_reply(&self.payload.0) {
            Ok(payload) => Ok(Message { topic: self.topic, channel: self.channel, payload }),
            Err(error) => Err((self, error)),
        }
    }
}

impl Incoming {
    /// The same with the payload of a message as a `T`.
    #[must_use]
    pub fn decode<T: FromReply>(self) -> Incoming<T> {
        match self {
            Incoming::Message(message) => match message.decode() {
                Ok(message) => Incoming::Message(message),
                Err((message, error)) => Incoming::Undecodable { message, error: Box::new(error) },
            },
            Incoming::Undecodable { message, error } => Incoming::Undecodable { message, error },
            Incoming::Lost { cause } => Incoming::Lost { cause },
            Incoming::Restored => Incoming::Restored,
            Incoming::Dropped { count } => Incoming::Dropped { count },
        }
    }
}

impl<T> Incoming<T> {
    /// The message, if it is one.
    #[must_use]
    pub fn message(self) -> Option<Message<T>> {
        match self {
            Incoming::Message(message) => Some(message),
            _ => None,
        }
    }
}

impl Payload {
    /// Takes what is to be kept of a message's payload.
    #[inline]
    pub(crate) fn keep(view: View<'_>) -> Self {
        let bytes = view.payload();
        let copied = view.kind() == Kind::Bulk && bytes.len() <= COPY_BYTES_MAX;
        Payload(if copied { Reply::copied(bytes) } else { view.to_reply() })
    }

    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Payload(Reply::copied(bytes))
    }

    /// The bytes, to be kept: shared where that costs nothing, copied where they are few.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.view().to_bytes()
    }

    /// The bytes as text.
    ///
    /// # Errors
    ///
    /// When they are not UTF-8.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self)
    }

    /// The payload as a `T`: text, a number, bytes, or a type of yours.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn decode<T: FromReply>(&self) -> Result<T, DecodeError> {
        T::from_reply(&self.0)
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.view().payload()
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// So that a payload can be asked for as it came.
impl FromReply for Payload {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(Payload(view.to_reply()))
    }

    fn from_reply(reply: &Reply) -> Result<Self, DecodeError> {
        Ok(Payload(reply.clone()))
    }
}

/// Abbreviated, as a reply is.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.view().fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        out.field("channel", &self.channel_name());
        if let Some(pattern) = self.pattern() {
            out.field("pattern", &String::from_utf8_lossy(pattern));
        }
        out.field("payload", &self.payload).finish()
    }
}

// Buffers hold them by the ten thousand.
const _: () = assert!(size_of::<Incoming>() <= 112);

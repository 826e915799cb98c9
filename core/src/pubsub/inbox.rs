//! What waits for one reader, and what becomes of it when there is too much.

use std::collections::VecDeque;

use super::{
    message::{Incoming, Message},
    topic::Topic,
};
use crate::failure::Cause;

/// What becomes of messages for which a stream's buffer has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest are dropped, and the stream says how many: [`Incoming::Dropped`]. The newest one is
    /// always kept.
    #[default]
    DropOldest,
    /// Nothing more is read from the connection until the reader has taken half of what there is. So
    /// the messages wait at the server, which closes the connection when its own limit
    /// (`client-output-buffer-limit pubsub`) is reached; the stream says so: [`Incoming::Lost`].
    ///
    /// A stream of this kind has a connection of its own, so that it holds up nobody else. While it
    /// is full it also can't be subscribed to anything further.
    StopReading,
}

/// What is asked for a stream of messages, where it is to differ from the client's configuration.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How many messages wait for the reader at most; the client's `subscription_messages_max` if
    /// `None`.
    pub messages_max: Option<usize>,
    /// How many bytes these may have, names and payloads; the client's `subscription_bytes_max` if
    /// `None`.
    pub bytes_max: Option<usize>,
    /// What becomes of those for which there is no room.
    pub overflow: Overflow,
}

/// What waits for one reader.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Messages, and notes between them: never more than three in a row.
    items: VecDeque<Incoming>,
    /// How many of them are messages, and the bytes of these.
    messages: usize,
    bytes: usize,
    /// What the reader took and may not have looked at yet: how many messages, and their bytes.
    handed: (usize, usize),
    messages_max: usize,
    bytes_max: usize,
    overflow: Overflow,
    /// What became of those that were dropped; the reader is told before it gets what is left.
    missed: Missed,
}

/// What the reader has to be told of items that were dropped, in this order.
#[derive(Debug, Default)]
struct Missed {
    lost: Option<Cause>,
    messages: u64,
    restored: bool,
}

/// The most items that are handed to a reader at once: enough that the lock they lie under costs little,
/// and few enough to stay in the cache.
const HANDED_MAX: usize = 256;

/// At most this share of what may wait is handed out at once, for what is with the reader can't be
/// dropped any more.
const HANDED_SHARE: usize = 8;

impl Inbox {
    pub(crate) fn new(messages_max: usize, bytes_max: usize, overflow: Overflow) -> Self {
        Inbox {
            items: VecDeque::new(),
            messages: 0,
            bytes: 0,
            handed: (0, 0),
            messages_max: messages_max.max(1),
            bytes_max,
            overflow,
            missed: Missed::default(),
        }
    }

    /// Adds a message. Gives how many others had to go for it.
    #[inline]
    pub(crate) fn push(&mut self, message: Message) -> u64 {
        // What is not read while it is full is no reason to drop anything. But a message may come from
        // this client itself.
        let stops_in_time = self.overflow == Overflow::StopReading && !self.is_full();
        self.messages += 1;
        self.bytes += message.len();
        self.items.push_back(Incoming::Message(message));
        if stops_in_time || !self.is_over() {
            return 0;
        }
        let before = self.missed.messages;
        while self.messages > 1 && self.is_over() {
            self.drop_oldest();
        }
        self.missed.messages - before
    }

    /// The reader may miss messages from here on.
    pub(crate) fn lost(&mut self, cause: Cause) {
        // A server that comes and goes must not fill memory with the news of it: where no message has
        // come in between, one gap after another is one gap, and of many reasons the first and the last
        // are told.
        if matches!(self.items.back(), Some(Incoming::Restored)) {
            self.items.pop_back();
            return;
        }
        let mut latest = self.items.iter().rev();
        let reasons = latest.by_ref().take_while(|item| matches!(item, Incoming::Lost { .. }));
        if reasons.count() > 1 {
            self.items.pop_back();
        }
        self.items.push_back(Incoming::Lost { cause });
    }

    /// The reader misses no more from here on.
    pub(crate) fn restored(&mut self) {
        self.items.push_back(Incoming::Restored);
    }

    fn drop_oldest(&mut self) {
        let missed = &mut self.missed;
        match self.items.pop_front() {
            Some(Incoming::Message(message)) => {
                self.messages -= 1;
                self.bytes -= message.len();
                missed.messages += 1;
            }
            // One gap after another is one gap.
            Some(Incoming::Lost { .. }) if missed.restored => missed.restored = false,
            Some(Incoming::Lost { cause }) => _ = missed.lost.get_or_insert(cause),
            Some(Incoming::Restored) => missed.restored = true,
            Some(Incoming::Dropped { .. } | Incoming::Undecodable { .. }) | None => {}
        }
    }

    fn is_over(&self) -> bool {
        self.messages + self.handed.0 > self.messages_max
            || self.bytes + self.handed.1 > self.bytes_max
    }

    /// Whether no more is to be read for it.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.overflow == Overflow::StopReading
            && (self.messages + self.handed.0 >= self.messages_max
                || self.bytes + self.handed.1 >= self.bytes_max)
    }

    /// Whether half of what may wait does: the reader should have its turn before more is read.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        let half = |max: usize| max.div_ceil(2);
        self.messages + self.handed.0 >= half(self.messages_max)
            || self.bytes + self.handed.1 >= half(self.bytes_max)
    }

    /// Hands the reader what comes next; it has used up what it got before.
    pub(crate) fn hand_out(&mut self, into: &mut VecDeque<Incoming>) {
        let missed = std::mem::take(&mut self.missed);
        into.extend(missed.lost.map(|cause| Incoming::Lost { cause }));
        into.extend((missed.messages > 0).then_some(Incoming::Dropped { count: missed.messages }));
        into.extend(missed.restored.then_some(Incoming::Restored));
        self.handed = (0, 0);
        let count = (self.messages_max / HANDED_SHARE).clamp(1, HANDED_MAX);
        let mut first = true;
        while self.handed.0 < count && self.handed.1 <= self.bytes_max / HANDED_SHARE {
            let Some(item) = self.items.pop_front() else { return };
            let mut bytes = 0;
            let messages = usize::from(matches!(item, Incoming::Message(_)));
            if let Incoming::Message(message) = &item {
                bytes = message.len();
            }
            self.messages -= messages;
            self.bytes -= bytes;
            into.push_back(item);
            // The first one is the reader's at once.
            if !std::mem::take(&mut first) {
                self.handed.0 += messages;
                self.handed.1 += bytes;
            }
        }
    }

    /// Takes out the messages of a topic that the reader no longer wants.
    pub(crate) fn purge(&mut self, topic: &Topic) {
        let (messages, bytes) = (&mut self.messages, &mut self.bytes);
        self.items.retain(|item| match item {
            Incoming::Message(message) if message.came_by(topic.kind, &topic.name) => {
                *messages -= 1;
                *bytes -= message.len();
                false
            }
            _ => true,
        });
    }

    /// How many messages wait, and their bytes; what was handed out counts.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.messages + self.handed.0, self.bytes + self.handed.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{Payload, TopicKind};

    fn inbox(messages_max: usize, bytes_max: usize) -> Inbox {
        Inbox::new(messages_max, bytes_max, Overflow::DropOldest)
    }

    fn message(channel: &str, payload: &str) -> Message {
        let topic = Topic::new(TopicKind::Channel, channel.as_bytes());
        Message::new(topic, None, Payload::of(payload.as_bytes()))
    }

    fn push(inbox: &mut Inbox, numbers: std::ops::Range<u32>) {
        for number in numbers {
            inbox.push(message("c", &number.to_string()));
        }
    }

    fn read(inbox: &mut Inbox) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut some = VecDeque::new();
            inbox.hand_out(&mut some);
            if some.is_empty() {
                return all;
            }
            all.extend(some.into_iter().map(|item| match item {
                Incoming::Message(message) => message.payload.to_str().expect("text").to_owned(),
                Incoming::Dropped { count } => format!("dropped {count}"),
                Incoming::Lost { cause } => format!("lost: {cause}"),
                Incoming::Restored => "restored".into(),
                Incoming::Undecodable { .. } => unreachable!("nothing was decoded"),
            }));
        }
    }

    #[test]
    fn what_is_dropped_is_the_oldest_and_counted_where_it_was() {
        let mut inbox = inbox(3, 1_000);
        push(&mut inbox, 0..10);
        assert_eq!(read(&mut inbox), ["dropped 7", "7", "8", "9"]);
        push(&mut inbox, 10..12);
        assert_eq!(read(&mut inbox), ["10", "11"]);
    }

    #[test]
    fn bytes_are_a_bound_as_well_and_the_newest_is_kept_whatever_its_size() {
        let mut inbox = inbox(1_000, 20);
        for _ in 0..5 {
            inbox.push(message("c", "123456789"));
        }
        assert_eq!(inbox.size(), (2, 20));
        inbox.push(message("c", "more than twenty bytes"));
        assert_eq!(read(&mut inbox), ["dropped 5", "more than twenty bytes"]);
        assert_eq!(inbox.bytes, 0);
    }

    #[test]
    fn a_gap_is_announced_even_if_the_note_of_it_had_to_go() {
        let mut inbox = inbox(2, 1_000);
        push(&mut inbox, 0..1);
        inbox.lost(Cause::Reset);
        inbox.restored();
        push(&mut inbox, 1..4);
        let lost = format!("lost: {}", Cause::Reset);
        assert_eq!(read(&mut inbox), [lost.as_str(), "dropped 2", "restored", "2", "3"]);
        // Lost while it was read, and both ends of the gap are dropped: one gap.
        inbox.lost(Cause::Reset);
        assert_eq!(read(&mut inbox), [lost.as_str()]);
        inbox.restored();
        push(&mut inbox, 3..4);
        inbox.lost(Cause::Silent);
        push(&mut inbox, 4..7);
        assert_eq!(read(&mut inbox), ["dropped 2", "5", "6"]);
        inbox.restored();
        assert_eq!(read(&mut inbox), ["restored"]);
    }

    #[test]
    fn a_server_that_comes_and_goes_fills_no_memory() {
        let mut inbox = inbox(2, 1_000);
        for _ in 0..1_000 {
            inbox.lost(Cause::Reset);
            inbox.lost(Cause::Silent);
            inbox.lost(Cause::Refused);
            inbox.restored();
        }
        let causes = [Cause::Reset, Cause::Refused].map(|cause| format!("lost: {cause}"));
        assert_eq!(read(&mut inbox), [&causes[0], &causes[1], "restored"]);
    }

    #[test]
    fn one_that_stops_reading_drops_nothing_however_often_its_server_goes() {
        let mut inbox = Inbox::new(2, 1_000, Overflow::StopReading);
        push(&mut inbox, 0..1);
        for _ in 0..1_000 {
            inbox.lost(Cause::Reset);
            inbox.restored();
        }
        assert!(!inbox.is_full());
        push(&mut inbox, 1..2);
        assert!(inbox.is_full());
        let lost = format!("lost: {}", Cause::Reset);
        assert_eq!(read(&mut inbox), ["0", &lost, "restored", "1"]);
    }

    #[test]
    fn what_was_handed_out_counts_until_the_reader_comes_back() {
        let mut inbox = inbox(16, 1_000);
        push(&mut inbox, 0..16);
        let mut taken = VecDeque::new();
        inbox.hand_out(&mut taken);
        assert_eq!(taken.len(), 3, "an eighth, and the one that is the reader's at once");
        push(&mut inbox, 16..17);
        assert_eq!(inbox.size().0, 16);
        inbox.hand_out(&mut taken);
        assert_eq!(inbox.missed.messages, 0);
    }

    #[test]
    fn one_that_stops_reading_drops_nothing_and_says_when_it_is_full() {
        let mut inbox = Inbox::new(4, 1_000, Overflow::StopReading);
        push(&mut inbox, 0..3);
        assert!(!inbox.is_full() && inbox.is_crowded());
        push(&mut inbox, 3..4);
        assert!(inbox.is_full());
        assert_eq!(read(&mut inbox), ["0", "1", "2", "3"]);
        assert!(!inbox.is_full() && !inbox.is_crowded());
        // What goes on coming although it is full does not come from a connection.
        push(&mut inbox, 4..10);
        assert_eq!(read(&mut inbox), ["dropped 2", "6", "7", "8", "9"]);
    }

    #[test]
    fn a_topic_that_is_given_up_leaves_nothing() {
        let mut inbox = inbox(10, 1_000);
        for channel in ["a", "b", "a"] {
            inbox.push(message(channel, channel));
        }
        inbox.purge(&Topic::new(TopicKind::Pattern, b"a"));
        inbox.purge(&Topic::new(TopicKind::Channel, b"a"));
        assert_eq!(inbox.size(), (1, 2));
        assert_eq!(read(&mut inbox), ["b"]);
    }
}

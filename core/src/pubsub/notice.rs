//! What a frame says that comes for a subscription.

use super::topic::TopicKind;
use crate::resp::View;

/// A push in RESP3, an array in RESP2.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice<'a> {
    Message(Delivery<'a>),
    /// A topic was added or dropped. No name: nothing was subscribed to.
    Changed {
        kind: TopicKind,
        action: Action,
        name: Option<&'a [u8]>,
    },
}

/// A message on its way to those who want it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) kind: TopicKind,
    /// The channel; the pattern where it was that which matched.
    pub(crate) name: &'a [u8],
    /// The channel, where a pattern matched.
    pub(crate) channel: Option<&'a [u8]>,
    pub(crate) payload: View<'a>,
}

/// What becomes of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Subscribe,
    Unsubscribe,
}

impl<'a> Notice<'a> {
    /// Reads a push or an array; `None` for all that is about something else.
    #[inline]
    pub(crate) fn read(frame: View<'a>) -> Option<Self> {
        let mut items = frame.items();
        let (len, word) = (items.len(), items.next()?.payload());
        let kind = match word.first()? {
            b'p' => TopicKind::Pattern,
            b's' if word != b"subscribe" => TopicKind::Shard,
            _ => TopicKind::Channel,
        };
        let verb = if kind == TopicKind::Channel { word } else { &word[1..] };
        match (verb, len) {
            (b"message", 4) if kind == TopicKind::Pattern => {
                let (name, channel) = (items.next()?.payload(), items.next()?.payload());
                let payload = items.next()?;
                Some(Notice::Message(Delivery { kind, name, channel: Some(channel), payload }))
            }
            (b"message", 3) if kind != TopicKind::Pattern => {
                let name = items.next()?.payload();
                Some(Notice::Message(Delivery {
                    kind,
                    name,
                    channel: None,
                    payload: items.next()?,
                }))
            }
            (b"subscribe", 3) => Self::changed(kind, Action::Subscribe, items.next()?),
            (b"unsubscribe", 3) => Self::changed(kind, Action::Unsubscribe, items.next()?),
            _ => None,
        }
    }

    fn changed(kind: TopicKind, action: Action, name: View<'a>) -> Option<Self> {
        let name = if name.is_null() { None } else { Some(name.payload()) };
        Some(Notice::Changed { kind, action, name })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::resp::{Decoder, Limits};

    fn read(frame: &str) -> String {
        let mut buffer = BytesMut::from(frame);
        let reply = Decoder::new(Limits::default()).decode(&mut buffer);
        let reply = reply.expect("it is RESP").expect("it is whole");
        match Notice::read(reply.view()) {
            None => "nothing".into(),
            Some(Notice::Message(Delivery { kind, name, channel, payload })) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let channel = channel.map(text);
                format!("{kind:?} {} {channel:?} {}", text(name), text(payload.payload()))
            }
            Some(Notice::Changed { kind, action, name }) => {
                format!("{kind:?} {action:?} {:?}", name.map(String::from_utf8_lossy))
            }
        }
    }

    #[test]
    fn each_kind_of_notice_is_told_from_the_others_in_both_protocols() {
        for (array, push) in [("*3", ">3"), ("*3", "|1\r\n+a\r\n:1\r\n>3")] {
            for head in [array, push] {
                let frame = |words: &str| read(&format!("{head}\r\n{words}"));
                let message = "$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
                assert_eq!(frame(message), "Channel a None hi");
                let message = "$8\r\nsmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
                assert_eq!(frame(message), "Shard a None hi");
                let changed = "$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
                assert_eq!(frame(changed), "Channel Subscribe Some(\"a\")");
                let changed = "$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n";
                assert_eq!(frame(changed), "Shard Subscribe Some(\"a\")");
                let changed = "$12\r\npunsubscribe\r\n$1\r\na\r\n:1\r\n";
                assert_eq!(frame(changed), "Pattern Unsubscribe Some(\"a\")");
                let changed = "$11\r\nunsubscribe\r\n_\r\n:0\r\n";
                assert_eq!(frame(changed), "Channel Unsubscribe None");
            }
        }
        let message = ">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n";
        assert_eq!(read(message), "Pattern a* Some(\"ab\") hi");
    }

    #[test]
    fn whatever_else_comes_is_no_notice() {
        for frame in [
            "*2\r\n$4\r\npong\r\n$0\r\n\r\n",
            "*0\r\n",
            ">2\r\n$10\r\ninvalidate\r\n_\r\n",
            ">2\r\n$7\r\nmessage\r\n$1\r\na\r\n",
            ">3\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
            ">4\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
            ">1\r\n$1\r\np\r\n",
            ">1\r\n$1\r\ns\r\n",
            ">1\r\n$0\r\n\r\n",
            "+message\r\n",
        ] {
            assert_eq!(read(frame), "nothing", "{frame:?}");
        }
    }
}

//! What becomes of messages while the server is down.

/// What PUBLISH and SPUBLISH do while the server is judged down and there is no connection to it, in a
/// client of which some key pattern may degrade. Elsewhere they wait for the server as all else does.
///
/// As soon as there is a connection again they go to the server, as commands on keys do that may not degrade:
/// memory holds nothing of messages that would have to be settled before. Where the server then refuses one for
/// now, or an operator has forced [`Memory`](crate::config::Forced::Memory), it is as if there were no
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Publish {
    /// They fail at once, executed *no*: other clients would never get the message, and one that is delivered
    /// late may be worse than one that is not.
    #[default]
    Fail,
    /// They wait for the server within their deadline.
    Wait,
    /// The message reaches this client's own subscribers only, and is not made good later. The answer
    /// is how many these are, and says that it is from memory. What may have reached the server is not delivered
    /// here a second time: it fails, executed *maybe*.
    Local,
}

impl Publish {
    /// Each choice, and the word for it in a URL.
    pub(super) const WORDS: &[(&str, Publish)] =
        &[("fail", Publish::Fail), ("wait", Publish::Wait), ("local", Publish::Local)];
}

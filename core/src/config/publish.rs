//! What becomes of messages while the server is down.

/// What PUBLISH and SPUBLISH do while the server is judged down, in a client of which some key pattern
/// may degrade. Elsewhere they wait for the server as all else does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Publish {
    /// They fail at once: other clients would never get the message, and one that is delivered late may
    /// be worse than one that is not.
    #[default]
    Fail,
    /// They wait for the server within their deadline.
    Wait,
    /// The message reaches this client's own subscribers only, and is not made good later. The answer
    /// is how many these are, and says that it is from memory.
    Local,
}

impl Publish {
    /// Each choice, and the word for it in a URL.
    pub(super) const WORDS: &[(&str, Publish)] =
        &[("fail", Publish::Fail), ("wait", Publish::Wait), ("local", Publish::Local)];
}

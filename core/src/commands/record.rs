//! Replies that name their parts: a map in RESP3, a flat array of names and values in RESP2.

use crate::{
    reply::{DecodeError, FromReply},
    resp::View,
};

/// The parts of a reply by their names. Those that nobody asks for are passed over: newer servers say
/// more.
#[derive(Clone, Copy)]
pub(super) struct Record<'a>(View<'a>);

impl<'a> Record<'a> {
    pub(super) fn of(view: View<'a>) -> Result<Self, DecodeError> {
        if view.kind().is_aggregate() && view.elements().is_multiple_of(2) {
            return Ok(Record(view));
        }
        Err(DecodeError::unexpected("names and values", view))
    }

    /// The part of this name, which must be there.
    pub(super) fn part<T: FromReply>(self, name: &'static str) -> Result<T, DecodeError> {
        match self.find(name) {
            Some(part) => T::from_view(part),
            None => Err(DecodeError::unexpected(format!("a part named \"{name}\""), self.0)),
        }
    }

    /// The part of this name; `None` where it is null, or the server does not say it.
    pub(super) fn maybe<T: FromReply>(self, name: &str) -> Result<Option<T>, DecodeError> {
        self.find(name).map_or(Ok(None), Option::from_view)
    }

    pub(super) fn find(self, name: &str) -> Option<View<'a>> {
        self.0.pairs().find(|(key, _)| key.payload() == name.as_bytes()).map(|(_, value)| value)
    }
}

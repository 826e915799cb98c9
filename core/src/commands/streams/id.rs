//! The ids of entries.

use std::{
    fmt,
    ops::{Bound, RangeBounds},
    str::FromStr,
};

use crate::{
    args::{Arg, ToArg},
    reply::{DecodeError, FromReply},
    resp::View,
};

/// The id of an entry of a stream: when it was added, by the server's clock, and which one in that
/// millisecond. Later entries have greater ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds since 1970.
    pub millis: u64,
    /// Which one in that millisecond.
    pub sequence: u64,
}

impl StreamId {
    /// Before every entry; no entry has it.
    pub const MIN: StreamId = StreamId::new(0, 0);

    /// After every entry.
    pub const MAX: StreamId = StreamId::new(u64::MAX, u64::MAX);

    /// The id `millis-sequence`.
    #[must_use]
    pub const fn new(millis: u64, sequence: u64) -> Self {
        StreamId { millis, sequence }
    }

    /// The id right after this one; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<StreamId> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(StreamId { sequence, ..self }),
            None => self.millis.checked_add(1).map(|millis| StreamId { millis, sequence: 0 }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// A text that is no [`StreamId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseStreamIdError;

impl fmt::Display for ParseStreamIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected the id of a stream's entry, such as 1526919030474-55")
    }
}

impl std::error::Error for ParseStreamIdError {}

/// Reads `millis-sequence`, or `millis` alone, which is the first id of that millisecond.
impl FromStr for StreamId {
    type Err = ParseStreamIdError;

    fn from_str(text: &str) -> Result<Self, ParseStreamIdError> {
        let number = |text: &str| match text.as_bytes().first() {
            Some(b'0'..=b'9') => text.parse().map_err(|_| ParseStreamIdError),
            _ => Err(ParseStreamIdError),
        };
        let (millis, sequence) = text.split_once('-').unwrap_or((text, "0"));
        Ok(StreamId { millis: number(millis)?, sequence: number(sequence)? })
    }
}

impl ToArg for StreamId {
    fn to_arg(&self) -> Arg<'_> {
        Arg::from(self.to_string())
    }
}

impl FromReply for StreamId {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let unexpected = |_| DecodeError::unexpected("the id of a stream's entry", view);
        String::from_view(view)?.parse().map_err(unexpected)
    }
}

/// Both bounds of a range of ids as servers read them: `1-0` is counted in, `(1-0` is not.
pub(super) fn id_bounds(ids: &impl RangeBounds<StreamId>) -> (Arg<'static>, Arg<'static>) {
    let bound = |bound: Bound<&StreamId>, open: &'static str| match bound {
        Bound::Included(id) => Arg::from(id.to_string()),
        Bound::Excluded(id) => Arg::from(format!("({id}")),
        Bound::Unbounded => Arg::from(open),
    };
    (bound(ids.start_bound(), "-"), bound(ids.end_bound(), "+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_they_are_read_and_have_an_order() {
        let id: StreamId = "1526919030474-55".parse().expect("an id");
        assert_eq!(id, StreamId::new(1_526_919_030_474, 55));
        assert_eq!(id.to_string(), "1526919030474-55");
        assert_eq!("7".parse(), Ok(StreamId::new(7, 0)));
        assert!(id < id.next().expect("there is a next one"));
        assert_eq!(StreamId::new(1, u64::MAX).next(), Some(StreamId::new(2, 0)));
        assert_eq!(StreamId::MAX.next(), None);
        for wrong in ["", "-", "1-", "-1", "+1-0", "1-+0", "1-0-0", "x", "18446744073709551616"] {
            assert_eq!(wrong.parse::<StreamId>(), Err(ParseStreamIdError), "{wrong}");
        }
    }
}

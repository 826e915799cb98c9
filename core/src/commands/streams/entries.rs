//! What streams give: entries, and what is known of their delivery.

use std::time::Duration;

use bytes::Bytes;

use super::id::StreamId;
use crate::{
    reply::{DecodeError, FromReply},
    resp::View,
};

/// An entry of a stream. `T` is what its fields become: a map, a `Vec` of pairs, or a type of yours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamEntry<T> {
    /// Its id.
    pub id: StreamId,
    /// Its fields and their values.
    pub fields: T,
}

impl<T> StreamEntry<T> {
    /// An entry with this id.
    #[must_use]
    pub fn new(id: StreamId, fields: T) -> Self {
        StreamEntry { id, fields }
    }
}

impl<T: FromReply> FromReply for StreamEntry<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let mut parts = view.items();
        // Newer servers add how often it was delivered.
        let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
            return Err(DecodeError::unexpected("an id and fields", view));
        };
        Ok(StreamEntry {
            id: StreamId::from_view(id).map_err(|error| error.at_field(0))?,
            fields: T::from_view(fields).map_err(|error| error.at_field(1))?,
        })
    }

    /// In the place of an entry that was deleted, older servers have a null.
    fn many_from_view(view: View<'_>) -> Result<Vec<Self>, DecodeError> {
        if !view.kind().is_aggregate() {
            return Err(DecodeError::unexpected("an array", view));
        }
        let there = view.items().enumerate().filter(|(_, entry)| !entry.is_null());
        there
            .map(|(at, entry)| Self::from_view(entry).map_err(|error| error.at_index(at)))
            .collect()
    }
}

/// What XREAD and XREADGROUP found in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamRead<T> {
    /// The stream's key.
    pub key: Bytes,
    /// Its entries, oldest first.
    pub entries: Vec<StreamEntry<T>>,
}

impl<T: FromReply> FromReply for StreamRead<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (key, entries) = FromReply::from_view(view)?;
        Ok(StreamRead { key, entries })
    }

    /// A map in RESP3, an array of pairs in RESP2, null where there is nothing.
    fn many_from_view(view: View<'_>) -> Result<Vec<Self>, DecodeError> {
        if view.is_null() {
            return Ok(Vec::new());
        }
        let streams: Vec<(Bytes, Vec<StreamEntry<T>>)> = FromReply::from_view(view)?;
        Ok(streams.into_iter().map(|(key, entries)| StreamRead { key, entries }).collect())
    }
}

/// Entries that were claimed from consumers who had them for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claimed<T> {
    /// Where to go on; [`StreamId::MIN`] when all was looked at.
    pub next: StreamId,
    /// The entries, oldest first.
    pub entries: Vec<StreamEntry<T>>,
    /// Those that were pending and are no longer in the stream; they are pending no more. Since 7.0.
    pub deleted: Vec<StreamId>,
}

impl<T: FromReply> FromReply for Claimed<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (next, entries, deleted) = claimed(view)?;
        Ok(Claimed { next, entries, deleted })
    }
}

/// The ids of entries that were claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedIds {
    /// Where to go on; [`StreamId::MIN`] when all was looked at.
    pub next: StreamId,
    /// The ids, lowest first.
    pub ids: Vec<StreamId>,
    /// Those that were pending and are no longer in the stream; they are pending no more. Since 7.0.
    pub deleted: Vec<StreamId>,
}

impl FromReply for ClaimedIds {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (next, ids, deleted) = claimed(view)?;
        Ok(ClaimedIds { next, ids, deleted })
    }
}

fn claimed<C: FromReply>(view: View<'_>) -> Result<(StreamId, C, Vec<StreamId>), DecodeError> {
    if view.len() == 2 {
        let (next, claimed) = FromReply::from_view(view)?;
        return Ok((next, claimed, Vec::new()));
    }
    FromReply::from_view(view)
}

/// What a group has delivered and nobody acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingSummary {
    /// How many entries.
    pub count: u64,
    /// The lowest of their ids.
    pub lowest: Option<StreamId>,
    /// The highest of their ids.
    pub highest: Option<StreamId>,
    /// Who has how many of them; those who have none are left out.
    pub consumers: Vec<(String, u64)>,
}

impl FromReply for PendingSummary {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        type Parts = (u64, Option<StreamId>, Option<StreamId>, Option<Vec<(String, u64)>>);
        let (count, lowest, highest, consumers): Parts = FromReply::from_view(view)?;
        Ok(PendingSummary { count, lowest, highest, consumers: consumers.unwrap_or_default() })
    }
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingEntry {
    /// Its id.
    pub id: StreamId,
    /// Who has it.
    pub consumer: String,
    /// How long ago it was delivered last.
    pub idle: Duration,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl FromReply for PendingEntry {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (id, consumer, idle, deliveries) = FromReply::from_view(view)?;
        Ok(PendingEntry { id, consumer, idle: Duration::from_millis(idle), deliveries })
    }
}

/// What became of an entry that was to be deleted from a stream with groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryDeletion {
    /// It is deleted.
    Done,
    /// There is no such entry.
    NoEntry,
    /// It stays, because some group still needs it.
    Kept,
}

impl FromReply for EntryDeletion {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match i64::from_view(view)? {
            1 => Ok(EntryDeletion::Done),
            -1 => Ok(EntryDeletion::NoEntry),
            2 => Ok(EntryDeletion::Kept),
            _ => Err(DecodeError::unexpected("1, -1 or 2", view)),
        }
    }
}

//! What XINFO tells.

use std::time::{Duration, SystemTime};

use super::{entries::StreamEntry, id::StreamId};
use crate::{
    commands::record::Record,
    reply::{DecodeError, FromReply},
    resp::View,
};

/// A stream, as XINFO STREAM tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo<T> {
    /// How many entries it has.
    pub length: u64,
    /// How many groups read it.
    pub groups: u64,
    /// The id of the last entry that was added, though it may be deleted.
    pub last_generated_id: StreamId,
    /// The first entry.
    pub first_entry: Option<StreamEntry<T>>,
    /// The last entry.
    pub last_entry: Option<StreamEntry<T>>,
    /// The highest id that was deleted from it. Since 7.0.
    pub max_deleted_entry_id: Option<StreamId>,
    /// How many entries were ever added. Since 7.0.
    pub entries_added: Option<u64>,
    /// The lowest id in it. Since 7.0.
    pub recorded_first_entry_id: Option<StreamId>,
    /// How many keys its radix tree has.
    pub radix_tree_keys: u64,
    /// How many nodes its radix tree has.
    pub radix_tree_nodes: u64,
}

impl<T: FromReply> FromReply for StreamInfo<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(StreamInfo {
            length: record.part("length")?,
            groups: record.part("groups")?,
            last_generated_id: record.part("last-generated-id")?,
            first_entry: record.maybe("first-entry")?,
            last_entry: record.maybe("last-entry")?,
            max_deleted_entry_id: record.maybe("max-deleted-entry-id")?,
            entries_added: record.maybe("entries-added")?,
            recorded_first_entry_id: record.maybe("recorded-first-entry-id")?,
            radix_tree_keys: record.part("radix-tree-keys")?,
            radix_tree_nodes: record.part("radix-tree-nodes")?,
        })
    }
}

/// A group of consumers, as XINFO GROUPS tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// How many consumers it has.
    pub consumers: u64,
    /// How many entries are delivered and not acknowledged.
    pub pending: u64,
    /// The id of the last entry that was delivered.
    pub last_delivered_id: StreamId,
    /// How many entries it has read, where that can be told. Since 7.0.
    pub entries_read: Option<u64>,
    /// How many entries are still to be delivered, where that can be told. Since 7.0.
    pub lag: Option<u64>,
}

impl FromReply for GroupInfo {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(GroupInfo {
            name: record.part("name")?,
            consumers: record.part("consumers")?,
            pending: record.part("pending")?,
            last_delivered_id: record.part("last-delivered-id")?,
            entries_read: record.maybe("entries-read")?,
            lag: record.maybe("lag")?,
        })
    }
}

/// A consumer of a group, as XINFO CONSUMERS tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// How many entries it has and did not acknowledge.
    pub pending: u64,
    /// How long ago it last asked for anything.
    pub idle: Duration,
    /// How long ago it last got anything, if it ever did. Since 7.2.
    pub inactive: Option<Duration>,
}

impl FromReply for ConsumerInfo {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        // Before anything was delivered it is -1.
        let inactive: Option<i64> = record.maybe("inactive")?;
        let inactive = inactive.and_then(|millis| u64::try_from(millis).ok());
        Ok(ConsumerInfo {
            name: record.part("name")?,
            pending: record.part("pending")?,
            idle: Duration::from_millis(record.part("idle")?),
            inactive: inactive.map(Duration::from_millis),
        })
    }
}

/// A stream with its entries, groups and consumers, as XINFO STREAM FULL tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamDetails<T> {
    /// How many entries it has.
    pub length: u64,
    /// The id of the last entry that was added, though it may be deleted.
    pub last_generated_id: StreamId,
    /// The first entries, as many as were asked for.
    pub entries: Vec<StreamEntry<T>>,
    /// Its groups.
    pub groups: Vec<GroupDetails>,
}

/// A group of consumers, as XINFO STREAM FULL tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDetails {
    /// Its name.
    pub name: String,
    /// The id of the last entry that was delivered.
    pub last_delivered_id: StreamId,
    /// How many entries it has read, where that can be told. Since 7.0.
    pub entries_read: Option<u64>,
    /// How many entries are still to be delivered, where that can be told. Since 7.0.
    pub lag: Option<u64>,
    /// How many entries are delivered and not acknowledged.
    pub pending_count: u64,
    /// The first of them, as many as were asked for.
    pub pending: Vec<PendingDelivery>,
    /// Its consumers.
    pub consumers: Vec<ConsumerDetails>,
}

/// A consumer, as XINFO STREAM FULL tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerDetails {
    /// Its name.
    pub name: String,
    /// When it last asked for anything.
    pub seen_at: SystemTime,
    /// When it last got anything, if it ever did. Since 7.2.
    pub active_at: Option<SystemTime>,
    /// How many entries it has and did not acknowledge.
    pub pending_count: u64,
    /// The first of them, as many as were asked for.
    pub pending: Vec<PendingDelivery>,
}

/// When and how often an entry was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingDelivery {
    /// The entry's id.
    pub id: StreamId,
    /// Who has it; `None` where that is said around it.
    pub consumer: Option<String>,
    /// When it was delivered last.
    pub delivered_at: SystemTime,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl<T: FromReply> FromReply for StreamDetails<T> {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(StreamDetails {
            length: record.part("length")?,
            last_generated_id: record.part("last-generated-id")?,
            entries: record.part("entries")?,
            groups: record.part("groups")?,
        })
    }
}

impl FromReply for GroupDetails {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        Ok(GroupDetails {
            name: record.part("name")?,
            last_delivered_id: record.part("last-delivered-id")?,
            entries_read: record.maybe("entries-read")?,
            lag: record.maybe("lag")?,
            pending_count: record.part("pel-count")?,
            pending: record.part("pending")?,
            consumers: record.part("consumers")?,
        })
    }
}

impl FromReply for ConsumerDetails {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let record = Record::of(view)?;
        let active_at: Option<i64> = record.maybe("active-time")?;
        let active_at = active_at.and_then(|millis| u64::try_from(millis).ok());
        Ok(ConsumerDetails {
            name: record.part("name")?,
            seen_at: moment(record.part("seen-time")?, view)?,
            active_at: active_at.map(|millis| moment(millis, view)).transpose()?,
            pending_count: record.part("pel-count")?,
            pending: record.part("pending")?,
        })
    }
}

impl FromReply for PendingDelivery {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        let (id, consumer, millis, deliveries) = if view.len() == 3 {
            let (id, millis, deliveries) = FromReply::from_view(view)?;
            (id, None, millis, deliveries)
        } else {
            FromReply::from_view(view)?
        };
        Ok(PendingDelivery { id, consumer, delivered_at: moment(millis, view)?, deliveries })
    }
}

fn moment(millis: u64, view: View<'_>) -> Result<SystemTime, DecodeError> {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    moment.ok_or_else(|| DecodeError::unexpected("a time in milliseconds", view))
}

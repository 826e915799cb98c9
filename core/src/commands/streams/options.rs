//! What the commands on streams can be told.

use std::time::{Duration, SystemTime};

use super::id::StreamId;
use crate::{
    args::{Arg, ToArg},
    request::Request,
};

/// How XADD adds: under which id, whether a stream is made for it, and what is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct XAddOptions {
    id: Option<AddId>,
    no_mkstream: bool,
    trim: Option<Trim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddId {
    Whole(StreamId),
    Millis(u64),
}

impl XAddOptions {
    /// Under the next id, in a new stream if there is none: as plain XADD does.
    pub fn new() -> Self {
        XAddOptions::default()
    }

    /// Under this id, which must be greater than all that were added before.
    pub fn id(self, id: StreamId) -> Self {
        XAddOptions { id: Some(AddId::Whole(id)), ..self }
    }

    /// Under the next id of this millisecond. Since 7.0.
    pub fn millis(self, millis: u64) -> Self {
        XAddOptions { id: Some(AddId::Millis(millis)), ..self }
    }

    /// Only where there is such a stream. Since 6.2.
    pub fn no_mkstream(self) -> Self {
        XAddOptions { no_mkstream: true, ..self }
    }

    /// Trims the stream at the same time.
    pub fn trim(self, trim: Trim) -> Self {
        XAddOptions { trim: Some(trim), ..self }
    }

    pub(super) fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        if self.no_mkstream {
            request = request.arg("NOMKSTREAM");
        }
        if let Some(trim) = &self.trim {
            request = trim.onto(request);
        }
        request.arg(match &self.id {
            None => &AUTO as &dyn ToArg,
            Some(id) => id,
        })
    }
}

/// The next id.
const AUTO: &str = "*";

impl ToArg for AddId {
    fn to_arg(&self) -> Arg<'_> {
        match self {
            AddId::Whole(id) => Arg::from(id.to_string()),
            AddId::Millis(millis) => Arg::from(format!("{millis}-*")),
        }
    }
}

/// Which entries are trimmed from the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct Trim {
    keep: Keep,
    about: bool,
    limit: Option<u64>,
    references: Option<References>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    MaxLen(u64),
    MinId(StreamId),
}

/// What becomes of the references that groups have to entries which are deleted from a stream. Since
/// Redis 8.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// They stay, to entries that are no more: as before 8.2.
    Keep,
    /// They are deleted as well.
    Delete,
    /// Only entries that every group has read and acknowledged are deleted.
    Acked,
}

impl References {
    pub(super) fn word(self) -> &'static str {
        match self {
            References::Keep => "KEEPREF",
            References::Delete => "DELREF",
            References::Acked => "ACKED",
        }
    }
}

impl Trim {
    /// All but the newest `length` entries.
    pub fn max_len(length: u64) -> Self {
        Trim::to(Keep::MaxLen(length))
    }

    /// All that are older than this id. Since 6.2.
    pub fn min_id(id: StreamId) -> Self {
        Trim::to(Keep::MinId(id))
    }

    fn to(keep: Keep) -> Self {
        Trim { keep, about: false, limit: None, references: None }
    }

    /// Some entries more may stay, where the server is faster for it: it then only deletes whole nodes of
    /// its tree, of 100 entries or so.
    pub fn about(self) -> Self {
        Trim { about: true, ..self }
    }

    /// Deletes about so many entries at most; only together with `about`. Since 6.2.
    pub fn limit(self, limit: u64) -> Self {
        Trim { limit: Some(limit), ..self }
    }

    /// What becomes of groups' references. Since Redis 8.2.
    pub fn references(self, references: References) -> Self {
        Trim { references: Some(references), ..self }
    }

    pub(super) fn onto<'r>(&'r self, request: Request<'r>) -> Request<'r> {
        let request = match &self.keep {
            Keep::MaxLen(length) => request.arg("MAXLEN").arg(self.sign()).arg(length),
            Keep::MinId(id) => request.arg("MINID").arg(self.sign()).arg(id),
        };
        let request = match &self.limit {
            Some(limit) => request.arg("LIMIT").arg(limit),
            None => request,
        };
        match self.references {
            Some(references) => request.arg(references.word()),
            None => request,
        }
    }

    fn sign(&self) -> &'static str {
        if self.about { "~" } else { "=" }
    }
}

/// From where XREAD reads a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The entries after this id; all of them after [`StreamId::MIN`].
    After(StreamId),
    /// What is added from now on; of use to those only who wait for it.
    New,
    /// The last entry. Since Redis 7.4.
    Last,
}

impl ToArg for ReadFrom {
    fn to_arg(&self) -> Arg<'_> {
        match self {
            ReadFrom::After(id) => Arg::from(id.to_string()),
            ReadFrom::New => Arg::from("$"),
            ReadFrom::Last => Arg::from("+"),
        }
    }
}

/// What XREADGROUP reads of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRead {
    /// What was delivered to nobody of the group; it becomes pending for this consumer.
    New,
    /// What is pending for this consumer, after this id.
    PendingAfter(StreamId),
}

impl ToArg for GroupRead {
    fn to_arg(&self) -> Arg<'_> {
        match self {
            GroupRead::New => Arg::from(">"),
            GroupRead::PendingAfter(id) => Arg::from(id.to_string()),
        }
    }
}

/// How much XREAD and XREADGROUP give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct ReadOptions {
    count: Option<u64>,
    no_ack: bool,
}

impl ReadOptions {
    /// All there is.
    pub fn new() -> Self {
        ReadOptions::default()
    }

    /// Up to so many entries of each stream.
    pub fn count(self, count: u64) -> Self {
        ReadOptions { count: Some(count), ..self }
    }

    /// Counts what is delivered as acknowledged at once: it never becomes pending. Of XREADGROUP only.
    pub fn no_ack(self) -> Self {
        ReadOptions { no_ack: true, ..self }
    }

    pub(in super::super) fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        if let Some(count) = &self.count {
            request = request.arg("COUNT").arg(count);
        }
        if self.no_ack { request.arg("NOACK") } else { request }
    }
}

/// Where a group begins to read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStart {
    /// With the first entry.
    Beginning,
    /// With what is added from now on.
    End,
    /// With the entry after this one.
    After(StreamId),
}

impl ToArg for GroupStart {
    fn to_arg(&self) -> Arg<'_> {
        match self {
            GroupStart::Beginning => Arg::from("0"),
            GroupStart::End => Arg::from("$"),
            GroupStart::After(id) => Arg::from(id.to_string()),
        }
    }
}

/// How a group is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct GroupOptions {
    mkstream: bool,
    entries_read: Option<u64>,
}

impl GroupOptions {
    /// For a stream that exists.
    pub fn new() -> Self {
        GroupOptions::default()
    }

    /// Makes an empty stream where there is none.
    pub fn mkstream(self) -> Self {
        GroupOptions { mkstream: true, ..self }
    }

    /// How many entries it is to count as read, so that its lag can be told. Since 7.0.
    pub fn entries_read(self, count: u64) -> Self {
        GroupOptions { entries_read: Some(count), ..self }
    }

    pub(super) fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        if self.mkstream {
            request = request.arg("MKSTREAM");
        }
        match &self.entries_read {
            Some(count) => request.arg("ENTRIESREAD").arg(count),
            None => request,
        }
    }
}

/// Which pending entries XPENDING lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct PendingFilter<'a> {
    pub(super) min_idle: Option<Duration>,
    pub(super) consumer: Option<&'a str>,
}

impl<'a> PendingFilter<'a> {
    /// All of them.
    pub fn new() -> Self {
        PendingFilter::default()
    }

    /// Only those that were delivered so long ago or longer. Since 6.2.
    pub fn min_idle(self, span: Duration) -> Self {
        PendingFilter { min_idle: Some(span), ..self }
    }

    /// Only those that this consumer has.
    pub fn consumer(self, consumer: &'a str) -> Self {
        PendingFilter { consumer: Some(consumer), ..self }
    }
}

/// What XCLAIM notes of the entries that it claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing by itself"]
pub struct ClaimOptions {
    delivered: Option<Delivered>,
    deliveries: Option<u64>,
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    Ago(Duration),
    At(SystemTime),
}

impl ClaimOptions {
    /// That they are delivered now, once more.
    pub fn new() -> Self {
        ClaimOptions::default()
    }

    /// That they were delivered so long ago. Replaces `delivered_at`.
    pub fn idle(self, span: Duration) -> Self {
        ClaimOptions { delivered: Some(Delivered::Ago(span)), ..self }
    }

    /// That they were delivered at this moment. Replaces `idle`.
    pub fn delivered_at(self, moment: SystemTime) -> Self {
        ClaimOptions { delivered: Some(Delivered::At(moment)), ..self }
    }

    /// That they were delivered so often.
    pub fn deliveries(self, count: u64) -> Self {
        ClaimOptions { deliveries: Some(count), ..self }
    }

    /// Claims entries of the stream that are pending for nobody as well.
    pub fn force(self) -> Self {
        ClaimOptions { force: true, ..self }
    }

    pub(super) fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        match self.delivered {
            Some(Delivered::Ago(span)) => request = request.arg("IDLE").millis(span),
            Some(Delivered::At(moment)) => request = request.arg("TIME").unix_millis(moment),
            None => {}
        }
        if let Some(count) = &self.deliveries {
            request = request.arg("RETRYCOUNT").arg(count);
        }
        if self.force { request.arg("FORCE") } else { request }
    }
}

//! Fields of hashes that expire by themselves.

use std::time::{Duration, SystemTime};

use super::{ExpireIf, ExpireTime, Expiry, Run, Spec, Ttl};
use crate::{
    args::{ToArg, ToArgs, ToPairs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on fields of a hash that have a time to live of their own. Redis, since 7.4, unless said
/// otherwise; Valkey, since 9.0.
///
/// Spans and moments go out in whole milliseconds, rounded up. What is said of each field comes back in
/// the order of the fields.
pub trait HashExpiry: Run {
    /// Lets fields expire after `ttl`; one of zero deletes them at once. O(fields given).
    fn hexpire(
        &self,
        key: impl ToArg,
        ttl: Duration,
        fields: impl ToArgs,
    ) -> Self::Pending<Vec<FieldExpiry>> {
        let hpexpire = Request::of(const { Spec::of("HPEXPIRE") }).key(&key).millis(ttl);
        self.run(hpexpire.arg("FIELDS").count(&fields).args(&fields))
    }

    /// The same where `condition` is met. O(fields given).
    fn hexpire_if(
        &self,
        key: impl ToArg,
        ttl: Duration,
        condition: ExpireIf,
        fields: impl ToArgs,
    ) -> Self::Pending<Vec<FieldExpiry>> {
        let hpexpire = Request::of(const { Spec::of("HPEXPIRE") }).key(&key).millis(ttl);
        self.run(hpexpire.arg(condition.word()).arg("FIELDS").count(&fields).args(&fields))
    }

    /// Lets fields expire at this moment by the server's clock; one in the past deletes them at once.
    /// O(fields given).
    fn hexpire_at(
        &self,
        key: impl ToArg,
        moment: SystemTime,
        fields: impl ToArgs,
    ) -> Self::Pending<Vec<FieldExpiry>> {
        let hpexpireat = Request::of(const { Spec::of("HPEXPIREAT") }).key(&key);
        let hpexpireat = hpexpireat.unix_millis(moment).arg("FIELDS");
        self.run(hpexpireat.count(&fields).args(&fields))
    }

    /// How long fields have left; [`Ttl::NoKey`] where there is no such field. O(fields given).
    fn httl(&self, key: impl ToArg, fields: impl ToArgs) -> Self::Pending<Vec<Ttl>> {
        let hpttl = Request::of(const { Spec::of("HPTTL") }).key(&key).arg("FIELDS");
        self.run(hpttl.count(&fields).args(&fields))
    }

    /// When fields expire; [`ExpireTime::NoKey`] where there is no such field. O(fields given).
    fn hexpire_time(&self, key: impl ToArg, fields: impl ToArgs) -> Self::Pending<Vec<ExpireTime>> {
        let hpexpiretime = Request::of(const { Spec::of("HPEXPIRETIME") }).key(&key);
        self.run(hpexpiretime.arg("FIELDS").count(&fields).args(&fields))
    }

    /// Lets fields live for as long as their hash. O(fields given).
    fn hpersist(&self, key: impl ToArg, fields: impl ToArgs) -> Self::Pending<Vec<FieldPersisted>> {
        let hpersist = Request::of(const { Spec::of("HPERSIST") }).key(&key).arg("FIELDS");
        self.run(hpersist.count(&fields).args(&fields))
    }

    /// Reads the values of fields and says when these shall expire: `T` is as for
    /// [`hmget`](super::Hashes::hmget). O(fields given). Redis, since 8.0; Valkey, since 9.0.
    fn hgetex<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        expiry: Expiry,
        fields: impl ToArgs,
    ) -> Self::Pending<T> {
        let hgetex = Request::of(const { Spec::of("HGETEX") }).key(&key);
        let hgetex = match expiry {
            Expiry::In(ttl) => hgetex.arg("PX").millis(ttl),
            Expiry::At(moment) => hgetex.arg("PXAT").unix_millis(moment),
            Expiry::Never => hgetex.arg("PERSIST"),
        };
        self.run(hgetex.arg("FIELDS").count(&fields).args(&fields))
    }

    /// Reads the values of fields and deletes these: `T` is as for [`hmget`](super::Hashes::hmget).
    /// O(fields given). Redis, since 8.0.
    fn hgetdel<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        fields: impl ToArgs,
    ) -> Self::Pending<T> {
        let hgetdel = Request::of(const { Spec::of("HGETDEL") }).key(&key).arg("FIELDS");
        self.run(hgetdel.count(&fields).args(&fields))
    }

    /// Writes pairs of field and value as `options` say, all of them or none, and says whether it did.
    /// O(pairs). Redis, since 8.0; Valkey, since 9.0.
    fn hsetex(
        &self,
        key: impl ToArg,
        pairs: impl ToPairs,
        options: HSetExOptions,
    ) -> Self::Pending<bool> {
        let hsetex = options.onto(Request::of(const { Spec::of("HSETEX") }).key(&key));
        self.run(hsetex.arg("FIELDS").arg(&pairs.pair_count()).pairs(&pairs))
    }
}

impl<R: Run + ?Sized> HashExpiry for R {}

/// What came of setting a field's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldExpiry {
    /// It is set.
    Set,
    /// The condition is not met.
    NotMet,
    /// The time is in the past, and the field is deleted.
    Deleted,
    /// There is no such field, or no such key.
    NoField,
}

impl FromReply for FieldExpiry {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match i64::from_view(view)? {
            1 => Ok(FieldExpiry::Set),
            0 => Ok(FieldExpiry::NotMet),
            2 => Ok(FieldExpiry::Deleted),
            -2 => Ok(FieldExpiry::NoField),
            _ => Err(DecodeError::unexpected("1, 0, 2 or -2", view)),
        }
    }
}

/// What came of taking a field's time to live away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPersisted {
    /// It has none any more.
    Done,
    /// It had none.
    Forever,
    /// There is no such field, or no such key.
    NoField,
}

impl FromReply for FieldPersisted {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match i64::from_view(view)? {
            1 => Ok(FieldPersisted::Done),
            -1 => Ok(FieldPersisted::Forever),
            -2 => Ok(FieldPersisted::NoField),
            _ => Err(DecodeError::unexpected("1, -1 or -2", view)),
        }
    }
}

/// How HSETEX writes: on which condition, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HSetExOptions {
    condition: Option<Condition>,
    expiry: Option<HashTtl>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    NoneExists,
    AllExist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HashTtl {
    Kept,
    Span(Duration),
    Until(SystemTime),
}

impl HSetExOptions {
    /// Whatever was there, for as long as the hash lives: as HSET does.
    #[must_use]
    pub fn new() -> Self {
        HSetExOptions::default()
    }

    /// Only where none of the fields exists. Replaces `fxx`.
    #[must_use]
    pub fn fnx(self) -> Self {
        HSetExOptions { condition: Some(Condition::NoneExists), ..self }
    }

    /// Only where all of the fields exist. Replaces `fnx`.
    #[must_use]
    pub fn fxx(self) -> Self {
        HSetExOptions { condition: Some(Condition::AllExist), ..self }
    }

    /// To expire after `ttl`.
    #[must_use]
    pub fn ex(self, ttl: Duration) -> Self {
        HSetExOptions { expiry: Some(HashTtl::Span(ttl)), ..self }
    }

    /// To expire at this moment by the server's clock.
    #[must_use]
    pub fn ex_at(self, moment: SystemTime) -> Self {
        HSetExOptions { expiry: Some(HashTtl::Until(moment)), ..self }
    }

    /// To expire when the values that were there would have.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        HSetExOptions { expiry: Some(HashTtl::Kept), ..self }
    }

    fn onto(self, mut request: Request<'_>) -> Request<'_> {
        if let Some(condition) = self.condition {
            request = request.arg(match condition {
                Condition::NoneExists => "FNX",
                Condition::AllExist => "FXX",
            });
        }
        match self.expiry {
            None => request,
            Some(HashTtl::Kept) => request.arg("KEEPTTL"),
            Some(HashTtl::Span(ttl)) => request.arg("PX").millis(ttl),
            Some(HashTtl::Until(moment)) => request.arg("PXAT").unix_millis(moment),
        }
    }
}

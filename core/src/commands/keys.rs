//! Keys, whatever they hold: deleting, expiring, renaming, finding them.

use std::time::{Duration, SystemTime};

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on keys of any type.
///
/// Spans and moments go out in whole milliseconds, rounded up: `expire` sends PEXPIRE, `ttl` PTTL.
pub trait Keys: Run {
    /// Deletes keys, one or many, and gives how many there were. O(keys), and O(elements) for what
    /// they hold: `unlink` leaves that to a thread of the server. Since 1.0.
    fn del(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("DEL") }).args(&keys))
    }

    /// Deletes keys, one or many, and gives how many there were; their memory is freed in the
    /// background. O(keys). Since 4.0.
    fn unlink(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("UNLINK") }).args(&keys))
    }

    /// Whether there is such a key. O(1). Since 1.0.
    fn exists(&self, key: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("EXISTS") }).key(&key))
    }

    /// How many of these keys there are; one named twice counts twice. O(keys). Since 3.0.3.
    fn exists_count(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("EXISTS") }).args(&keys))
    }

    /// Marks keys, one or many, as used just now, for servers that evict, and gives how many of them
    /// there are. O(keys). Since 3.2.1.
    fn touch(&self, keys: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("TOUCH") }).args(&keys))
    }

    /// Lets a key expire after `ttl`; `false` where there is no such key. A `ttl` of zero deletes it
    /// at once. O(1). Since 2.6.
    ///
    /// Sent again, it counts from a later moment; see `expire_at` for one that does not.
    fn expire(&self, key: impl ToArg, ttl: Duration) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("PEXPIRE") }).key(&key).millis(ttl))
    }

    /// Lets a key expire after `ttl` where `condition` is met; `false` where it is not or there is no
    /// such key. O(1). Since 7.0.
    fn expire_if(
        &self,
        key: impl ToArg,
        ttl: Duration,
        condition: ExpireIf,
    ) -> Self::Pending<bool> {
        let pexpire = Request::of(const { Spec::of("PEXPIRE") });
        self.run(pexpire.key(&key).millis(ttl).arg(condition.word()))
    }

    /// Lets a key expire at this moment by the server's clock; `false` where there is no such key. A
    /// moment in the past deletes it at once. O(1). Since 2.6.
    fn expire_at(&self, key: impl ToArg, moment: SystemTime) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("PEXPIREAT") }).key(&key).unix_millis(moment))
    }

    /// How long a key has left. O(1). Since 2.8 (before, a server did not tell [`Ttl::NoKey`] from
    /// [`Ttl::Forever`]).
    fn ttl(&self, key: impl ToArg) -> Self::Pending<Ttl> {
        self.run(Request::of(const { Spec::of("PTTL") }).key(&key))
    }

    /// When a key expires. O(1). Since 7.0.
    fn expire_time(&self, key: impl ToArg) -> Self::Pending<ExpireTime> {
        self.run(Request::of(const { Spec::of("PEXPIRETIME") }).key(&key))
    }

    /// Lets a key live for ever; `false` where it did already or there is no such key. O(1).
    /// Since 2.2.
    fn persist(&self, key: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("PERSIST") }).key(&key))
    }

    /// What a key holds, in the server's words (`string`, `list`, `set`, `zset`, `hash`, `stream`, or
    /// a module's); `none` where there is no such key. O(1). Since 1.0.
    fn type_of(&self, key: impl ToArg) -> Self::Pending<String> {
        self.run(Request::of(const { Spec::of("TYPE") }).key(&key))
    }

    /// Renames a key, over another one that has the new name; an error where there is no such key.
    /// O(1), and O(elements) of what is overwritten. Since 1.0.
    ///
    /// In a cluster both names must hash to one slot; so for all commands with two keys.
    fn rename(&self, from: impl ToArg, to: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("RENAME") }).key(&from).key(&to))
    }

    /// Renames a key unless another one has the new name, and says whether it did; an error where
    /// there is no such key. O(1). Since 1.0.
    fn renamenx(&self, from: impl ToArg, to: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("RENAMENX") }).key(&from).key(&to))
    }

    /// Copies a key with its time to live; `false` where there is no such key or `to` exists.
    /// O(elements). Since 6.2.
    fn copy(&self, from: impl ToArg, to: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("COPY") }).key(&from).key(&to))
    }

    /// Copies a key with its time to live over whatever is at `to`; `false` where there is no such
    /// key. O(elements). Since 6.2.
    fn copy_over(&self, from: impl ToArg, to: impl ToArg) -> Self::Pending<bool> {
        self.run(Request::of(const { Spec::of("COPY") }).key(&from).key(&to).arg("REPLACE"))
    }

    /// Some key, or `None` where there is none. O(1). Since 1.0.
    fn randomkey<T: FromReply + Send + 'static>(&self) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("RANDOMKEY") }))
    }

    /// All keys that match the glob-style `pattern`, into a `Vec` or a set. O(all keys), while which
    /// the server does nothing else: use `scan_match` where there are many. Since 1.0.
    fn keys<T: FromReply + Send + 'static>(&self, pattern: impl ToArg) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("KEYS") }).arg(&pattern))
    }

    /// One step through all keys: the cursor for the next step (0: that was all) and some keys, maybe
    /// none. Begin with cursor 0. [`Scans`](crate::dialogue::Scans) go all the way. O(1) a step.
    /// Since 2.8.
    ///
    /// A key that is there all the while comes up at least once, and may come up twice. A cursor means
    /// something only to the process that gave it: a server that was restarted takes it and passes keys
    /// over.
    fn scan_page<T: FromReply + Send + 'static>(
        &self,
        cursor: u64,
        options: ScanOptions<'_>,
    ) -> Self::Pending<(u64, T)> {
        self.run(options.onto(Request::of(const { Spec::of("SCAN") }).arg(&cursor)))
    }

    /// What a key holds in the server's own binary form, for `restore`; `None` where there is no such
    /// key. O(elements). Since 2.6.
    fn dump<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("DUMP") }).key(&key))
    }

    /// Makes a key out of what `dump` gave, to expire after `ttl` if there is one; an error where the
    /// key exists (BUSYKEY). O(elements). Since 2.6.
    fn restore(
        &self,
        key: impl ToArg,
        ttl: Option<Duration>,
        dump: impl ToArg,
    ) -> Self::Pending<()> {
        self.run(restore(&key, ttl, &dump))
    }

    /// As `restore`, over whatever is at `key`. O(elements). Since 3.0.
    fn restore_over(
        &self,
        key: impl ToArg,
        ttl: Option<Duration>,
        dump: impl ToArg,
    ) -> Self::Pending<()> {
        self.run(restore(&key, ttl, &dump).arg("REPLACE"))
    }

    /// How the server keeps what a key holds (`embstr`, `listpack`, …), or `None` where there is no
    /// such key. O(1). Since 2.2.3.
    fn object_encoding(&self, key: impl ToArg) -> Self::Pending<Option<String>> {
        self.run(Request::of(const { Spec::of("OBJECT ENCODING") }).key(&key))
    }
}

impl<R: Run + ?Sized> Keys for R {}

fn restore<'a>(key: &'a impl ToArg, ttl: Option<Duration>, dump: &'a impl ToArg) -> Request<'a> {
    // On the wire 0 means for ever.
    let ttl = ttl.map_or(Duration::ZERO, |ttl| ttl.max(Duration::from_millis(1)));
    Request::of(const { Spec::of("RESTORE") }).key(key).millis(ttl).arg(dump)
}

/// When a key shall expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After this span.
    In(Duration),
    /// At this moment by the server's clock.
    At(SystemTime),
    /// Not at all.
    Never,
}

/// Where EXPIRE does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireIf {
    /// Where the key lives for ever.
    Nx,
    /// Where it has a time to live.
    Xx,
    /// Where it would live longer; what lives for ever never would.
    Gt,
    /// Where it would live shorter.
    Lt,
}

impl ExpireIf {
    pub(super) fn word(self) -> &'static str {
        match self {
            ExpireIf::Nx => "NX",
            ExpireIf::Xx => "XX",
            ExpireIf::Gt => "GT",
            ExpireIf::Lt => "LT",
        }
    }
}

/// How long a key has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    NoKey,
    /// It does not expire.
    Forever,
    /// It expires after this span, known to the millisecond.
    Left(Duration),
}

impl FromReply for Ttl {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(match i64::from_view(view)? {
            NO_KEY => Ttl::NoKey,
            FOREVER => Ttl::Forever,
            left => Ttl::Left(millis(left, view)?),
        })
    }
}

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireTime {
    /// There is no such key.
    NoKey,
    /// Never.
    Never,
    /// At this moment by the server's clock, known to the millisecond.
    At(SystemTime),
}

impl FromReply for ExpireTime {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        Ok(match i64::from_view(view)? {
            NO_KEY => ExpireTime::NoKey,
            FOREVER => ExpireTime::Never,
            at => {
                let at = SystemTime::UNIX_EPOCH.checked_add(millis(at, view)?);
                ExpireTime::At(at.ok_or_else(|| unexpected(view))?)
            }
        })
    }
}

/// What TTL and EXPIRETIME answer where there is no such key.
const NO_KEY: i64 = -2;

/// What TTL and EXPIRETIME answer where the key does not expire.
const FOREVER: i64 = -1;

fn millis(count: i64, view: View<'_>) -> Result<Duration, DecodeError> {
    u64::try_from(count).map(Duration::from_millis).map_err(|_| unexpected(view))
}

fn unexpected(view: View<'_>) -> DecodeError {
    DecodeError::unexpected("a time in milliseconds, -1 or -2", view)
}

/// Which keys, fields or members a step of SCAN looks for, and how far it looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    count: Option<u32>,
    kind: Option<&'a str>,
}

impl<'a> ScanOptions<'a> {
    /// All of them, as many at a time as the server likes (10).
    #[must_use]
    pub fn new() -> Self {
        ScanOptions::default()
    }

    /// Only what matches this glob-style pattern. The server looks at all of them all the same, so a
    /// step may find nothing.
    #[must_use]
    pub fn pattern<P: AsRef<[u8]> + ?Sized>(self, pattern: &'a P) -> Self {
        ScanOptions { pattern: Some(pattern.as_ref()), ..self }
    }

    /// About how many a step looks at.
    #[must_use]
    pub fn count(self, count: u32) -> Self {
        ScanOptions { count: Some(count), ..self }
    }

    /// Only keys of this type, in the words of TYPE. Since 6.0, of SCAN only.
    #[must_use]
    pub fn kind(self, kind: &'a str) -> Self {
        ScanOptions { kind: Some(kind), ..self }
    }

    /// The pattern, the count and the type.
    pub(crate) fn parts(self) -> (Option<&'a [u8]>, Option<u32>, Option<&'a str>) {
        (self.pattern, self.count, self.kind)
    }

    pub(crate) fn onto<'r>(self, mut request: Request<'r>) -> Request<'r>
    where
        'a: 'r,
    {
        if let Some(pattern) = self.pattern {
            request = request.arg("MATCH").arg(pattern);
        }
        if let Some(count) = self.count {
            request = request.arg("COUNT").int(count.into());
        }
        if let Some(kind) = self.kind {
            request = request.arg("TYPE").arg(kind);
        }
        request
    }
}

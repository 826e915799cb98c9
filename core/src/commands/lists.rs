//! Lists: elements in an order, with two ends.

use super::{Run, Spec};
use crate::{
    args::{ToArg, ToArgs},
    reply::{DecodeError, FromReply},
    request::Request,
    resp::View,
};

/// Commands on lists.
///
/// A list without elements does not exist; all of them answer with WRONGTYPE where the key holds something
/// else. Positions count from the left, 0 being the first; negative ones from the right, -1 being the last.
pub trait Lists: Run {
    /// Puts elements, one or many, before the first, each before the one named ahead of it, and gives how
    /// many there are now. O(elements given). Since 1.0; many at once since 2.4.
    fn lpush(&self, key: impl ToArg, elements: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("LPUSH") }).key(&key).args(&elements))
    }

    /// Puts elements, one or many, after the last, and gives how many there are now. O(elements given).
    /// Since 1.0; many at once since 2.4.
    fn rpush(&self, key: impl ToArg, elements: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("RPUSH") }).key(&key).args(&elements))
    }

    /// As `lpush`, where there is such a list; 0 where there is none. O(elements given). Since 2.2; many
    /// at once since 4.0.
    fn lpushx(&self, key: impl ToArg, elements: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("LPUSHX") }).key(&key).args(&elements))
    }

    /// As `rpush`, where there is such a list; 0 where there is none. O(elements given). Since 2.2; many
    /// at once since 4.0.
    fn rpushx(&self, key: impl ToArg, elements: impl ToArgs) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("RPUSHX") }).key(&key).args(&elements))
    }

    /// Takes the first element, or `None` where there is none. O(1). Since 1.0.
    fn lpop<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("LPOP") }).key(&key))
    }

    /// Takes up to `count` elements from the left, into a `Vec`; `None` where there is no such list.
    /// O(count). Since 6.2.
    fn lpop_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("LPOP") }).key(&key).arg(&count))
    }

    /// Takes the last element, or `None` where there is none. O(1). Since 1.0.
    fn rpop<T: FromReply + Send + 'static>(&self, key: impl ToArg) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("RPOP") }).key(&key))
    }

    /// Takes up to `count` elements from the right, the last one first, into a `Vec`; `None` where there
    /// is no such list. O(count). Since 6.2.
    fn rpop_count<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("RPOP") }).key(&key).arg(&count))
    }

    /// Takes up to `count` elements from the first of these lists that has any: its key and the elements,
    /// `None` where all are empty. O(keys + count). Since 7.0.
    fn lmpop<K, T>(
        &self,
        keys: impl ToArgs,
        side: Side,
        count: u64,
    ) -> Self::Pending<Option<(K, Vec<T>)>>
    where
        K: FromReply + Send + 'static,
        T: FromReply + Send + 'static,
    {
        let lmpop = Request::of(const { Spec::of("LMPOP") }).count(&keys).args(&keys);
        self.run(lmpop.arg(side.word()).arg("COUNT").arg(&count))
    }

    /// Moves an element from one end of a list to one end of another, or of the same, and gives it; `None`
    /// where there is none. O(1). Since 6.2.
    fn lmove<T: FromReply + Send + 'static>(
        &self,
        from: impl ToArg,
        to: impl ToArg,
        taken: Side,
        put: Side,
    ) -> Self::Pending<Option<T>> {
        let lmove = Request::of(const { Spec::of("LMOVE") }).key(&from).key(&to);
        self.run(lmove.arg(taken.word()).arg(put.word()))
    }

    /// Moves the last element of a list before the first of another, or of the same, and gives it; `None`
    /// where there is none. O(1). Since 1.2.
    fn rpoplpush<T: FromReply + Send + 'static>(
        &self,
        from: impl ToArg,
        to: impl ToArg,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("RPOPLPUSH") }).key(&from).key(&to))
    }

    /// How many elements there are. O(1). Since 1.0.
    fn llen(&self, key: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("LLEN") }).key(&key))
    }

    /// The elements from `start` to `stop`, both counted in, into a `Vec`; empty where there are none.
    /// O(start + elements). Since 1.0.
    fn lrange<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        start: i64,
        stop: i64,
    ) -> Self::Pending<T> {
        self.run(Request::of(const { Spec::of("LRANGE") }).key(&key).int(start).int(stop))
    }

    /// The element at `index`, or `None` where there is none. O(distance from the nearer end). Since 1.0.
    fn lindex<T: FromReply + Send + 'static>(
        &self,
        key: impl ToArg,
        index: i64,
    ) -> Self::Pending<Option<T>> {
        self.run(Request::of(const { Spec::of("LINDEX") }).key(&key).int(index))
    }

    /// Replaces the element at `index`; an error where there is none. O(distance from the nearer end).
    /// Since 1.0.
    fn lset(&self, key: impl ToArg, index: i64, element: impl ToArg) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("LSET") }).key(&key).int(index).arg(&element))
    }

    /// Puts an element before the first one that equals `pivot`. O(elements before it). Since 2.2.
    fn linsert_before(
        &self,
        key: impl ToArg,
        pivot: impl ToArg,
        element: impl ToArg,
    ) -> Self::Pending<Inserted> {
        let linsert = Request::of(const { Spec::of("LINSERT") }).key(&key);
        self.run(linsert.arg("BEFORE").arg(&pivot).arg(&element))
    }

    /// Puts an element after the first one that equals `pivot`. O(elements before it). Since 2.2.
    fn linsert_after(
        &self,
        key: impl ToArg,
        pivot: impl ToArg,
        element: impl ToArg,
    ) -> Self::Pending<Inserted> {
        let linsert = Request::of(const { Spec::of("LINSERT") }).key(&key);
        self.run(linsert.arg("AFTER").arg(&pivot).arg(&element))
    }

    /// Removes elements that equal `element` and gives how many: the first `count` from the left, from the
    /// right where it is negative, all where it is 0. O(elements). Since 1.0.
    fn lrem(&self, key: impl ToArg, count: i64, element: impl ToArg) -> Self::Pending<u64> {
        self.run(Request::of(const { Spec::of("LREM") }).key(&key).int(count).arg(&element))
    }

    /// Removes all elements but those from `start` to `stop`, both counted in. O(elements removed).
    /// Since 1.0.
    fn ltrim(&self, key: impl ToArg, start: i64, stop: i64) -> Self::Pending<()> {
        self.run(Request::of(const { Spec::of("LTRIM") }).key(&key).int(start).int(stop))
    }

    /// The position of the first element that equals `element`, or `None` where there is none.
    /// O(elements). Since 6.0.6.
    fn lpos(&self, key: impl ToArg, element: impl ToArg) -> Self::Pending<Option<u64>> {
        self.run(Request::of(const { Spec::of("LPOS") }).key(&key).arg(&element))
    }

    /// The position of an element that equals `element`, which one and how far to look as `options` say.
    /// O(elements). Since 6.0.6.
    fn lpos_with(
        &self,
        key: impl ToArg,
        element: impl ToArg,
        options: LposOptions,
    ) -> Self::Pending<Option<u64>> {
        let lpos = Request::of(const { Spec::of("LPOS") }).key(&key).arg(&element);
        self.run(options.onto(lpos))
    }

    /// The positions of up to `count` elements that equal `element`, of all of them where it is 0.
    /// O(elements). Since 6.0.6.
    fn lpos_count(
        &self,
        key: impl ToArg,
        element: impl ToArg,
        count: u64,
        options: LposOptions,
    ) -> Self::Pending<Vec<u64>> {
        let lpos = Request::of(const { Spec::of("LPOS") }).key(&key).arg(&element);
        self.run(options.onto(lpos).arg("COUNT").arg(&count))
    }
}

impl<R: Run + ?Sized> Lists for R {}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where the first element is.
    Left,
    /// Where the last element is.
    Right,
}

impl Side {
    pub(super) fn word(self) -> &'static str {
        match self {
            Side::Left => "LEFT",
            Side::Right => "RIGHT",
        }
    }
}

/// What came of LINSERT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The element is in; the list has so many now.
    Done(u64),
    /// No element equals the pivot.
    NoPivot,
    /// There is no such list.
    NoKey,
}

impl FromReply for Inserted {
    fn from_view(view: View<'_>) -> Result<Self, DecodeError> {
        match i64::from_view(view)? {
            -1 => Ok(Inserted::NoPivot),
            0 => Ok(Inserted::NoKey),
            length => match u64::try_from(length) {
                Ok(length) => Ok(Inserted::Done(length)),
                Err(_) => Err(DecodeError::unexpected("a length, 0 or -1", view)),
            },
        }
    }
}

/// Which of several equal elements LPOS finds, and how far it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LposOptions {
    rank: Option<i64>,
    max_len: Option<u64>,
}

impl LposOptions {
    /// The first from the left, however far it is.
    #[must_use]
    pub fn new() -> Self {
        LposOptions::default()
    }

    /// The `rank`-th one, 1 being the first; negative ones count from the right. The server refuses 0.
    #[must_use]
    pub fn rank(self, rank: i64) -> Self {
        LposOptions { rank: Some(rank), ..self }
    }

    /// Looks at so many elements at most; 0 is all.
    #[must_use]
    pub fn max_len(self, max_len: u64) -> Self {
        LposOptions { max_len: Some(max_len), ..self }
    }

    fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        if let Some(rank) = self.rank {
            request = request.arg("RANK").int(rank);
        }
        if let Some(max_len) = &self.max_len {
            request = request.arg("MAXLEN").arg(max_len);
        }
        request
    }
}

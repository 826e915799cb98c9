//! What the commands on sorted sets can be told.

use std::ops::{
    Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

use crate::{
    args::{Arg, ToArg},
    request::Request,
};

/// Which members ZADD touches, and what it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZAddOptions {
    existing: Option<Existing>,
    compare: Option<Compare>,
    changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Only,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Greater,
    Less,
}

impl ZAddOptions {
    /// All of them, counting the new ones: as plain ZADD does.
    #[must_use]
    pub fn new() -> Self {
        ZAddOptions::default()
    }

    /// Only members that are not there yet. Replaces `xx`. Not together with `gt` or `lt`.
    #[must_use]
    pub fn nx(self) -> Self {
        ZAddOptions { existing: Some(Existing::Never), ..self }
    }

    /// Only members that are there already. Replaces `nx`.
    #[must_use]
    pub fn xx(self) -> Self {
        ZAddOptions { existing: Some(Existing::Only), ..self }
    }

    /// Of those that are there, only members whose score would grow. Replaces `lt`. Since 6.2.
    #[must_use]
    pub fn gt(self) -> Self {
        ZAddOptions { compare: Some(Compare::Greater), ..self }
    }

    /// Of those that are there, only members whose score would shrink. Replaces `gt`. Since 6.2.
    #[must_use]
    pub fn lt(self) -> Self {
        ZAddOptions { compare: Some(Compare::Less), ..self }
    }

    /// Counts those with another score as well as the new ones.
    #[must_use]
    pub fn changed(self) -> Self {
        ZAddOptions { changed: true, ..self }
    }

    pub(super) fn onto(self, mut request: Request<'_>) -> Request<'_> {
        if let Some(existing) = self.existing {
            request = request.arg(match existing {
                Existing::Only => "XX",
                Existing::Never => "NX",
            });
        }
        if let Some(compare) = self.compare {
            request = request.arg(match compare {
                Compare::Greater => "GT",
                Compare::Less => "LT",
            });
        }
        if self.changed { request.arg("CH") } else { request }
    }
}

/// An end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreEnd {
    /// Where the lowest scores are.
    Lowest,
    /// Where the highest scores are.
    Highest,
}

impl ScoreEnd {
    pub(in super::super) fn word(self) -> &'static str {
        match self {
            ScoreEnd::Lowest => "MIN",
            ScoreEnd::Highest => "MAX",
        }
    }
}

/// Which members ZRANGE gives: a range of ranks, scores or members, from which end, and how many.
///
/// ```
/// # use unfazed_core as unfazed_tokio;
/// use unfazed_tokio::prelude::*;
///
/// let top_ten = ZRange::ranks(0, 9).rev();
/// let page = ZRange::scores(100.0..).limit(20, 10);
/// let names = ZRange::members("a".."c");
/// # let _ = (top_ten, page, names);
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing by itself"]
pub struct ZRange {
    by: By,
    min: Arg<'static>,
    max: Arg<'static>,
    rev: bool,
    limit: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Rank,
    Score,
    Lex,
}

impl ZRange {
    /// From rank `start` to rank `stop`, both counted in; negative ranks count from the end.
    pub fn ranks(start: i64, stop: i64) -> Self {
        ZRange::new(By::Rank, (Arg::integer(start), Arg::integer(stop)))
    }

    /// All whose scores are in this range.
    pub fn scores(scores: impl RangeBounds<f64>) -> Self {
        ZRange::new(By::Score, score_bounds(&scores))
    }

    /// All that are in this range themselves, where all have the same score.
    #[expect(clippy::needless_pass_by_value, reason = "taken as every method takes arguments")]
    pub fn members(members: impl LexRange) -> Self {
        ZRange::new(By::Lex, lex_bounds(&members))
    }

    fn new(by: By, (min, max): (Arg<'static>, Arg<'static>)) -> Self {
        ZRange { by, min, max, rev: false, limit: None }
    }

    /// From the highest score down; ranks are counted from there as well.
    pub fn rev(self) -> Self {
        ZRange { rev: true, ..self }
    }

    /// Passes over the first `offset` of them and gives up to `count`. Not for ranks: the server refuses
    /// that.
    pub fn limit(self, offset: u64, count: u64) -> Self {
        ZRange { limit: Some((offset, count)), ..self }
    }

    pub(super) fn onto<'r>(&'r self, request: Request<'r>) -> Request<'r> {
        // From the highest down, the server wants the upper bound first.
        let swap = self.rev && !matches!(self.by, By::Rank);
        let (first, last) = if swap { (&self.max, &self.min) } else { (&self.min, &self.max) };
        let mut request = request.arg(first).arg(last);
        match self.by {
            By::Rank => {}
            By::Score => request = request.arg("BYSCORE"),
            By::Lex => request = request.arg("BYLEX"),
        }
        if self.rev {
            request = request.arg("REV");
        }
        match &self.limit {
            Some((offset, count)) => request.arg("LIMIT").arg(offset).arg(count),
            None => request,
        }
    }
}

/// How the scores of a member that is in several sets are put together.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "it does nothing by itself"]
pub struct Combine {
    weights: Vec<f64>,
    aggregate: Option<Aggregate>,
}

/// What becomes of several scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// They are added up.
    Sum,
    /// The lowest counts.
    Min,
    /// The highest counts.
    Max,
}

impl Combine {
    /// Their sum.
    pub fn new() -> Self {
        Combine::default()
    }

    /// Multiplies the scores of each set by a number of its own, in the order of the keys, of which there
    /// must be as many.
    pub fn weights(self, weights: impl IntoIterator<Item = f64>) -> Self {
        Combine { weights: weights.into_iter().collect(), ..self }
    }

    /// Puts them together like this.
    pub fn aggregate(self, aggregate: Aggregate) -> Self {
        Combine { aggregate: Some(aggregate), ..self }
    }

    pub(super) fn onto<'r>(&'r self, mut request: Request<'r>) -> Request<'r> {
        if !self.weights.is_empty() {
            request = request.arg("WEIGHTS").args(&self.weights);
        }
        match self.aggregate {
            None => request,
            Some(Aggregate::Sum) => request.arg("AGGREGATE").arg("SUM"),
            Some(Aggregate::Min) => request.arg("AGGREGATE").arg("MIN"),
            Some(Aggregate::Max) => request.arg("AGGREGATE").arg("MAX"),
        }
    }
}

/// A range of members: any of Rust's ranges of texts or bytes, such as `"a".."c"` and `..`, or a pair of
/// bounds.
///
/// Members are compared byte by byte.
pub trait LexRange {
    /// The lower bound.
    fn lower(&self) -> Bound<Arg<'_>>;

    /// The upper bound.
    fn upper(&self) -> Bound<Arg<'_>>;
}

impl LexRange for RangeFull {
    fn lower(&self) -> Bound<Arg<'_>> {
        Bound::Unbounded
    }

    fn upper(&self) -> Bound<Arg<'_>> {
        Bound::Unbounded
    }
}

/// The ranges that say of what they are.
macro_rules! lex_ranges {
    ($($range:ty),*) => {$(
        impl<T: ToArg> LexRange for $range {
            fn lower(&self) -> Bound<Arg<'_>> {
                RangeBounds::<T>::start_bound(self).map(T::to_arg)
            }

            fn upper(&self) -> Bound<Arg<'_>> {
                RangeBounds::<T>::end_bound(self).map(T::to_arg)
            }
        }
    )*};
}

lex_ranges!(
    Range<T>,
    RangeFrom<T>,
    RangeTo<T>,
    RangeInclusive<T>,
    RangeToInclusive<T>,
    (Bound<T>, Bound<T>)
);

/// Both bounds of a range of scores as servers read them: `1.5` is counted in, `(1.5` is not.
pub(super) fn score_bounds(scores: &impl RangeBounds<f64>) -> (Arg<'static>, Arg<'static>) {
    let bound = |bound: Bound<&f64>, open: &'static str| match bound {
        Bound::Included(score) => owned(b"", &score.to_arg()),
        Bound::Excluded(score) => owned(b"(", &score.to_arg()),
        Bound::Unbounded => Arg::from(open),
    };
    (bound(scores.start_bound(), "-inf"), bound(scores.end_bound(), "+inf"))
}

/// Both bounds of a range of members as servers read them: `[a` is counted in, `(a` is not.
pub(super) fn lex_bounds(members: &impl LexRange) -> (Arg<'static>, Arg<'static>) {
    let bound = |bound: Bound<Arg<'_>>, open: &'static str| match bound {
        Bound::Included(member) => owned(b"[", &member),
        Bound::Excluded(member) => owned(b"(", &member),
        Bound::Unbounded => Arg::from(open),
    };
    (bound(members.lower(), "-"), bound(members.upper(), "+"))
}

fn owned(sign: &[u8], bound: &Arg<'_>) -> Arg<'static> {
    Arg::from([sign, bound.as_bytes()].concat())
}

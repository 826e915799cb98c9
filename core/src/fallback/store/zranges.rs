//! Commands about the members of a sorted set within a range: of ranks, of scores, or of the
//! members themselves.

use std::ops::Range;

use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::sorted_set::SortedSet;
use super::types::Collection;
use super::{Outcome, argument, count, double, zsets};
use crate::Now;
use crate::resp::Value;

pub(super) fn zrange(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], None, false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrevrange(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], Some((By::Rank, true)), false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrangebyscore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], Some((By::Score, false)), false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrevrangebyscore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], Some((By::Score, true)), false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrangebylex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], Some((By::Member, false)), false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrevrangebylex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    Query::parse(&args[1..], Some((By::Member, true)), false)?.fetch(keyspace, now.unix_millis())
}

pub(super) fn zrangestore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let query = Query::parse(&args[2..], None, true)?;
    let hasher = keyspace.hasher();
    let mut result = SortedSet::new(hasher);
    if let Some(set) = keyspace.read::<SortedSet>(query.key, at)? {
        let ranks = query.ranks(set);
        if matches!(query.span, Span::Ranks(..)) {
            // Of ranks a server knows beforehand how many members there are.
            result = SortedSet::expecting(hasher, ranks.len());
        }
        for (member, score) in set.ranks(ranks, query.reverse) {
            result.insert(member, score);
        }
    }
    let length = result.len();
    keyspace.store(args[1], result, at)?;
    Ok(count(length))
}

pub(super) fn zcount(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    count_within(keyspace, args, now, By::Score)
}

pub(super) fn zlexcount(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    count_within(keyspace, args, now, By::Member)
}

fn count_within(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, by: By) -> Outcome {
    let span = by.parse(args[2], args[3])?;
    let set = keyspace.read::<SortedSet>(args[1], now.unix_millis())?;
    Ok(count(set.map_or(0, |set| span.ranks(set, false, 0).len())))
}

pub(super) fn zremrangebyrank(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    remove_within(keyspace, args, now, By::Rank)
}

pub(super) fn zremrangebyscore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    remove_within(keyspace, args, now, By::Score)
}

pub(super) fn zremrangebylex(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    remove_within(keyspace, args, now, By::Member)
}

fn remove_within(keyspace: &mut Keyspace, args: &[&[u8]], now: Now, by: By) -> Outcome {
    let (key, at) = (args[1], now.unix_millis());
    let span = by.parse(args[2], args[3])?;
    let set = keyspace.read::<SortedSet>(key, at)?;
    let ranks = set.map_or(0..0, |set| span.ranks(set, false, 0));
    let removed = ranks.len();
    if removed > 0 {
        keyspace.change(key, 0, at, |set: &mut SortedSet| set.remove_ranks(ranks))?;
    }
    Ok(count(removed))
}

/// What a ZRANGE or one of its older forms asks for.
struct Query<'a> {
    key: &'a [u8],
    span: Span<'a>,
    reverse: bool,
    /// How many members are passed over, and how many are given then; negative ones are all.
    limit: (i64, i64),
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads the key, the two ends and the options. The older forms say by what they go and in
    /// which direction, and take no option for that; where members are stored, scores are no
    /// option.
    fn parse(
        args: &[&'a [u8]],
        form: Option<(By, bool)>,
        store: bool,
    ) -> Result<Query<'a>, Refusal> {
        let &[key, start, end, ref options @ ..] = args else {
            return Err(Refusal::SYNTAX);
        };
        let (mut by, mut reverse) = (form.map(|(by, _)| by), form.map(|(_, reverse)| reverse));
        let (mut limit, mut with_scores) = ((0, -1), false);
        let mut options = options.iter();
        while let Some(&option) = options.next() {
            if !store && argument::is(option, "WITHSCORES") {
                with_scores = true;
            } else if argument::is(option, "LIMIT") && options.len() >= 2 {
                let mut number = || options.next().map_or(Ok(0), |arg| argument::integer(arg));
                limit = (number()?, number()?);
            } else if reverse.is_none() && argument::is(option, "REV") {
                reverse = Some(true);
            } else if by.is_none() && argument::is(option, "BYLEX") {
                by = Some(By::Member);
            } else if by.is_none() && argument::is(option, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if by == By::Rank {
            if limit.1 != -1 {
                return Err(Refusal::new(
                    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE \
                     or BYLEX",
                ));
            }
            // What is to be passed over is overlooked, too.
            limit.0 = 0;
        }
        if with_scores && by == By::Member {
            return Err(Refusal::new(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // Backwards, scores and members come with the greater end first.
        let swapped = reverse && by != By::Rank;
        let (min, max) = if swapped { (end, start) } else { (start, end) };
        Ok(Query { key, span: by.parse(min, max)?, reverse, limit, with_scores })
    }

    fn fetch(&self, keyspace: &mut Keyspace, at: u64) -> Outcome {
        let Some(set) = keyspace.read::<SortedSet>(self.key, at)? else {
            return Ok(Value::Array(Vec::new()));
        };
        let members = set.ranks(self.ranks(set), self.reverse);
        let members = members.map(|(member, score)| (member.clone(), score));
        Ok(zsets::reply(members, self.with_scores))
    }

    /// The ranks that are asked for, counted from the lowest in either direction.
    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let (skip, most) = self.limit;
        let Ok(skip) = usize::try_from(skip) else {
            return 0..0;
        };
        let Range { start, end } = self.span.ranks(set, self.reverse, skip);
        let most = usize::try_from(most).map_or(end - start, |most| most.min(end - start));
        if self.reverse { end - most..end } else { start..start + most }
    }
}

/// What a range goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

impl By {
    /// Reads the two ends of a range.
    fn parse<'a>(self, min: &'a [u8], max: &'a [u8]) -> Result<Span<'a>, Refusal> {
        Ok(match self {
            By::Rank => Span::Ranks(argument::integer(min)?, argument::integer(max)?),
            By::Score => {
                let ends = ScoreEnd::parse(min).zip(ScoreEnd::parse(max));
                let (min, max) = ends.ok_or(Refusal::new("ERR min or max is not a float"))?;
                Span::Scores { min, max }
            }
            By::Member => {
                let ends = MemberEnd::parse(min).zip(MemberEnd::parse(max));
                let error = "ERR min or max not valid string range item";
                let (min, max) = ends.ok_or(Refusal::new(error))?;
                Span::Members { min, max }
            }
        })
    }
}

/// A range of members.
enum Span<'a> {
    /// Two ranks, both included; negative ones count from the end.
    Ranks(i64, i64),
    Scores {
        min: ScoreEnd,
        max: ScoreEnd,
    },
    Members {
        min: MemberEnd<'a>,
        max: MemberEnd<'a>,
    },
}

impl Span<'_> {
    /// The ranks that are in it, without the first so many in the direction in which it is asked
    /// for. Only `Ranks` itself counts from the highest backwards.
    fn ranks(&self, set: &SortedSet, reverse: bool, skip: usize) -> Range<usize> {
        let Range { start, end } = match self {
            Span::Ranks(start, end) => {
                let Range { start, end } = argument::indexes(*start, *end, set.len());
                if reverse { set.len() - end..set.len() - start } else { start..end }
            }
            Span::Scores { min, max } => {
                let start = set.partition_point(|_, score| min.is_above(score));
                let end = set.partition_point(|_, score| !max.is_below(score));
                start..end.max(start)
            }
            Span::Members { min, max } if set.is_packed() => {
                return walk(set, min, max, reverse, skip);
            }
            Span::Members { min, max } => {
                let start = set.partition_point(|member, _| min.is_above(member));
                let end = set.partition_point(|member, _| !max.is_below(member));
                start..end.max(start)
            }
        };
        let skip = skip.min(end - start);
        if reverse { start..end - skip } else { start + skip..end }
    }
}

/// The ranks between two members as a server finds them in a packed list: the first that is in the
/// range, seen from where it starts, so many passed over, and those that follow as long as they are
/// not behind it. Where not all scores are equal Redis calls that unspecified; it is what people
/// see.
fn walk(
    set: &SortedSet,
    min: &MemberEnd,
    max: &MemberEnd,
    reverse: bool,
    skip: usize,
) -> Range<usize> {
    let members: Vec<_> = set.ranks(0..set.len(), false).map(|(member, _)| member).collect();
    let (above_min, below_max) =
        (|at: usize| !min.is_above(members[at]), |at: usize| !max.is_below(members[at]));
    let mut ranks = 0..members.len();
    if ranks.is_empty() || !above_min(ranks.end - 1) || !below_max(0) {
        return 0..0;
    }
    if reverse {
        let end = ranks.rposition(below_max).filter(|&last| above_min(last));
        let end = end.map_or(0, |last| (last + 1).saturating_sub(skip));
        return end - (0..end).rev().take_while(|&at| above_min(at)).count()..end;
    }
    let start = ranks.position(above_min).filter(|&first| below_max(first));
    let start = start.map_or(members.len(), |first| (first + skip).min(members.len()));
    start..start + (start..members.len()).take_while(|&at| below_max(at)).count()
}

/// One end of a range of scores.
struct ScoreEnd {
    score: f64,
    excluded: bool,
}

impl ScoreEnd {
    fn parse(arg: &[u8]) -> Option<Self> {
        let text = argument::until_nul(arg);
        let (excluded, text) = match text {
            [b'(', rest @ ..] => (true, rest),
            text => (false, text),
        };
        Some(ScoreEnd { score: double::parse_leniently(text)?, excluded })
    }

    fn is_above(&self, score: f64) -> bool {
        if self.excluded { score <= self.score } else { score < self.score }
    }

    fn is_below(&self, score: f64) -> bool {
        if self.excluded { score >= self.score } else { score > self.score }
    }
}

/// One end of a range of members.
enum MemberEnd<'a> {
    /// `-`
    Lowest,
    /// `+`
    Highest,
    /// `[member`
    Included(&'a [u8]),
    /// `(member`
    Excluded(&'a [u8]),
}

impl<'a> MemberEnd<'a> {
    fn parse(arg: &'a [u8]) -> Option<Self> {
        match (argument::until_nul(arg), arg) {
            (b"-", _) => Some(MemberEnd::Lowest),
            (b"+", _) => Some(MemberEnd::Highest),
            (_, [b'[', member @ ..]) => Some(MemberEnd::Included(member)),
            (_, [b'(', member @ ..]) => Some(MemberEnd::Excluded(member)),
            _ => None,
        }
    }

    fn is_above(&self, member: &[u8]) -> bool {
        match self {
            MemberEnd::Lowest => false,
            MemberEnd::Highest => true,
            MemberEnd::Included(end) => member < *end,
            MemberEnd::Excluded(end) => member <= *end,
        }
    }

    fn is_below(&self, member: &[u8]) -> bool {
        match self {
            MemberEnd::Lowest => true,
            MemberEnd::Highest => false,
            MemberEnd::Included(end) => member > *end,
            MemberEnd::Excluded(end) => member >= *end,
        }
    }
}

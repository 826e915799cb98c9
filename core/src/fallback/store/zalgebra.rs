//! Commands about several sorted sets: what they are together, what they share, what one has more.
//! Plain sets count as sorted sets whose scores are all 1.

use bytes::Bytes;
use indexmap::IndexMap;

use super::argument::Args;
use super::entry::Data;
use super::keyspace::Keyspace;
use super::refusal::Refusal;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::types::Collection;
use super::{Outcome, argument, count, double, zsets};
use crate::Now;
use crate::fallback::keyed::Keyed;

pub(super) fn zunion(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    fetch(keyspace, args, now.unix_millis(), Operation::Union, "zunion")
}

pub(super) fn zinter(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    fetch(keyspace, args, now.unix_millis(), Operation::Intersection, "zinter")
}

pub(super) fn zdiff(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    fetch(keyspace, args, now.unix_millis(), Operation::Difference, "zdiff")
}

pub(super) fn zunionstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), Operation::Union, "zunionstore")
}

pub(super) fn zinterstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), Operation::Intersection, "zinterstore")
}

pub(super) fn zdiffstore(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    store(keyspace, args, now.unix_millis(), Operation::Difference, "zdiffstore")
}

pub(super) fn zintercard(keyspace: &mut Keyspace, args: &[&[u8]], now: Now) -> Outcome {
    let at = now.unix_millis();
    let (keys, mut rest) = inputs(keyspace, &args[1..], at, "zintercard")?;
    let mut limit = 0;
    while !rest.is_empty() {
        rest = match rest {
            [option, most, rest @ ..] if argument::is(option, "LIMIT") => {
                limit = argument::count_from(0, most, "ERR LIMIT can't be negative")?;
                rest
            }
            _ => return Err(Refusal::SYNTAX),
        };
    }
    let mut sources = Source::all(keyspace, keys, at);
    sources.sort_by_key(Source::len);
    let limit = if limit == 0 { usize::MAX } else { limit };
    Ok(count(shared(&sources).take(limit).count()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

fn fetch(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    at: u64,
    operation: Operation,
    name: &str,
) -> Outcome {
    let (keys, rest) = inputs(keyspace, &args[1..], at, name)?;
    let options = Options::parse(rest, keys.len(), operation, false)?;
    let mut members = combine(keyspace, keys, at, operation, &options);
    // No score is NaN, so any two can be compared.
    members.sort_unstable_by(|(a, a_score), (b, b_score)| {
        a_score.partial_cmp(b_score).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.cmp(b))
    });
    Ok(zsets::reply(members.into_iter(), options.with_scores))
}

/// Writes what comes of the inputs to another key, or one of them, in place of whatever is there.
fn store(
    keyspace: &mut Keyspace,
    args: &[&[u8]],
    at: u64,
    operation: Operation,
    name: &str,
) -> Outcome {
    let (keys, rest) = inputs(keyspace, &args[2..], at, name)?;
    let options = Options::parse(rest, keys.len(), operation, true)?;
    let members = combine(keyspace, keys, at, operation, &options);
    let result = SortedSet::gathered(keyspace.hasher(), &members);
    let length = result.len();
    keyspace.store(args[1], result, at)?;
    Ok(count(length))
}

/// The keys behind their number, each with a sorted set, a set or nothing, and the options behind
/// them. What has expired is taken away.
fn inputs<'a, 'b>(
    keyspace: &mut Keyspace,
    args: Args<'a, 'b>,
    at: u64,
    name: &str,
) -> Result<(Args<'a, 'b>, Args<'a, 'b>), Refusal> {
    let (number, rest) = args.split_first().ok_or(Refusal::SYNTAX)?;
    let number = argument::integer(number)?;
    if number < 1 {
        let text = format!("ERR at least 1 input key is needed for '{name}' command");
        return Err(Refusal::new(text));
    }
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let (keys, rest) = rest.split_at_checked(number).ok_or(Refusal::SYNTAX)?;
    for key in keys {
        match keyspace.get(key, at).map(|entry| &entry.data) {
            None | Some(Data::Set(_) | Data::SortedSet(_)) => {}
            Some(_) => return Err(Refusal::WRONG_TYPE),
        }
    }
    Ok((keys, rest))
}

struct Options {
    /// What the scores of each input are multiplied by.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// What becomes of the scores of a member that several inputs have.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Options {
    fn parse(
        mut args: &[&[u8]],
        inputs: usize,
        operation: Operation,
        store: bool,
    ) -> Result<Self, Refusal> {
        let mut options =
            Options { weights: vec![1.0; inputs], aggregate: Aggregate::Sum, with_scores: false };
        let weighted = operation != Operation::Difference;
        while let [option, rest @ ..] = args {
            args = if weighted && rest.len() >= inputs && argument::is(option, "WEIGHTS") {
                let (weights, rest) = rest.split_at(inputs);
                let weights = weights.iter().map(|weight| double::parse(weight));
                let weights = weights.collect::<Option<_>>();
                let error = Refusal::new("ERR weight value is not a float");
                options.weights = weights.ok_or(error)?;
                rest
            } else if let ([how, rest @ ..], true) =
                (rest, weighted && argument::is(option, "AGGREGATE"))
            {
                options.aggregate = Aggregate::parse(how)?;
                rest
            } else if !store && argument::is(option, "WITHSCORES") {
                options.with_scores = true;
                rest
            } else {
                return Err(Refusal::SYNTAX);
            };
        }
        Ok(options)
    }
}

impl Aggregate {
    fn parse(arg: &[u8]) -> Result<Self, Refusal> {
        [("SUM", Self::Sum), ("MIN", Self::Min), ("MAX", Self::Max)]
            .into_iter()
            .find_map(|(name, aggregate)| argument::is(arg, name).then_some(aggregate))
            .ok_or(Refusal::SYNTAX)
    }

    /// Two scores to one, of which the first is not NaN; nor is what comes of it.
    fn apply(self, before: f64, other: f64) -> f64 {
        match self {
            // Two infinities of different sign have no sum; Redis makes it zero.
            Aggregate::Sum => zero_for_nan(before + other),
            Aggregate::Min => {
                if other < before {
                    other
                } else {
                    before
                }
            }
            Aggregate::Max => {
                if other > before {
                    other
                } else {
                    before
                }
            }
        }
    }
}

/// As Redis has it where an infinity is multiplied by zero.
fn zero_for_nan(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number }
}

/// What stands at a key that is an input.
#[derive(Clone, Copy)]
enum Source<'a> {
    Nothing,
    Set(&'a Set),
    SortedSet(&'a SortedSet),
}

impl<'a> Source<'a> {
    /// What stands at keys from `inputs`.
    fn all(keyspace: &'a Keyspace, keys: &[&[u8]], at: u64) -> Vec<Self> {
        let source = |key: &&[u8]| match keyspace.peek(key, at).map(|entry| &entry.data) {
            Some(Data::Set(set)) => Source::Set(set),
            Some(Data::SortedSet(set)) => Source::SortedSet(set),
            _ => Source::Nothing,
        };
        keys.iter().map(source).collect()
    }

    fn len(&self) -> usize {
        match self {
            Source::Nothing => 0,
            Source::Set(set) => set.len(),
            Source::SortedSet(set) => set.len(),
        }
    }

    /// The member at a place below `len`.
    fn at(self, place: usize) -> Option<(&'a Bytes, f64)> {
        match self {
            Source::Nothing => None,
            Source::Set(set) => set.at(place).map(|member| (member, 1.0)),
            Source::SortedSet(set) => set.at(place),
        }
    }

    fn members(self) -> impl Iterator<Item = (&'a Bytes, f64)> {
        (0..self.len()).filter_map(move |place| self.at(place))
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Nothing => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::SortedSet(set) => set.score(member),
        }
    }
}

/// What comes of the inputs, in no order that matters. Takes time for the members of all inputs; an
/// intersection for those of the smallest and a difference for those of the first, each times the
/// number of inputs.
fn combine(
    keyspace: &Keyspace,
    keys: &[&[u8]],
    at: u64,
    operation: Operation,
    options: &Options,
) -> Vec<(Bytes, f64)> {
    let sources = Source::all(keyspace, keys, at);
    if operation == Operation::Difference {
        return difference(&sources);
    }
    // From the smallest to the largest: sums of doubles depend on their order.
    let mut weighted: Vec<_> = sources.into_iter().zip(options.weights.iter().copied()).collect();
    weighted.sort_by_key(|(source, _)| source.len());
    match operation {
        Operation::Union => union(&weighted, options.aggregate, keyspace.hasher()),
        _ => intersection(&weighted, options.aggregate),
    }
}

fn union(sources: &[(Source, f64)], aggregate: Aggregate, hasher: Keyed) -> Vec<(Bytes, f64)> {
    let mut scores: IndexMap<Bytes, f64, Keyed> = IndexMap::with_hasher(hasher);
    for (source, weight) in sources {
        for (member, score) in source.members() {
            let score = zero_for_nan(score * weight);
            match scores.get_mut(member) {
                Some(before) => *before = aggregate.apply(*before, score),
                None => drop(scores.insert(member.clone(), score)),
            }
        }
    }
    scores.into_iter().collect()
}

fn intersection(sources: &[(Source, f64)], aggregate: Aggregate) -> Vec<(Bytes, f64)> {
    let plain: Vec<_> = sources.iter().map(|&(source, _)| source).collect();
    let weighted = |member: &Bytes| {
        let mut scores = sources
            .iter()
            .map(|(source, weight)| source.score(member).map_or(0.0, |score| score * weight));
        let first = zero_for_nan(scores.next().unwrap_or(0.0));
        scores.fold(first, |before, score| aggregate.apply(before, score))
    };
    shared(&plain).map(|member| (member.clone(), weighted(member))).collect()
}

/// The members of the first source that all others have.
fn shared<'a>(sources: &[Source<'a>]) -> impl Iterator<Item = &'a Bytes> {
    let (first, others) = sources.split_first().unwrap_or((&Source::Nothing, &[]));
    let members = first.members().map(|(member, _)| member);
    members.filter(|member| others.iter().all(|other| other.score(member).is_some()))
}

/// The members of the first source that no other has, with their scores.
fn difference(sources: &[Source]) -> Vec<(Bytes, f64)> {
    let (first, others) = sources.split_first().unwrap_or((&Source::Nothing, &[]));
    let members = first.members();
    let left =
        members.filter(|(member, _)| others.iter().all(|other| other.score(member).is_none()));
    left.map(|(member, score)| (member.clone(), score)).collect()
}

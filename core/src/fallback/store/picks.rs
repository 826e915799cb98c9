//! Members picked at random, for SRANDMEMBER and its like.

use indexmap::IndexSet;

use super::refusal::Refusal;
use crate::fallback::keyed::Keyed;
use crate::rng::Rng;

/// How many members may be asked for with repetition. A server goes on until its output buffer is
/// at its limit; a reply in memory needs a bound of its own, and this one takes some 100 MB.
const REPEATED_MAX: u64 = 1 << 20;

/// Which of `length` places a command picks that asks for `count`: each at most once, or, where
/// `count` is negative, as many as asked and any of them again. Each is as likely as any other.
/// Takes time for what is picked, not for what is there.
pub(super) fn places(random: &mut Rng, length: usize, count: i64) -> Result<Vec<usize>, Refusal> {
    if count < 0 {
        let count = count.unsigned_abs();
        if count > REPEATED_MAX {
            return Err(Refusal::OUT_OF_RANGE);
        }
        return Ok((0..count).filter_map(|_| random.below(length)).collect());
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count >= length {
        return Ok((0..length).collect());
    }
    // Floyd's sample: of those before `end` one is picked, `end` itself where it is in already.
    let mut picked = IndexSet::with_capacity_and_hasher(count, Keyed::new(random.next()));
    for end in length - count..length {
        let place = random.below(end + 1).unwrap_or(end);
        if !picked.insert(place) {
            picked.insert(end);
        }
    }
    Ok(picked.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_picked_once_and_as_often_as_any_other() {
        let mut random = Rng::new(1);
        let mut counts = [0; 7];
        for _ in 0..7_000 {
            let mut picked = places(&mut random, 7, 3).unwrap();
            picked.iter().for_each(|&place| counts[place] += 1);
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), 3);
        }
        assert!(counts.iter().all(|count| (2_800..3_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn who_asks_for_more_than_there_is_gets_all_and_repetition_when_asked_for() {
        let mut random = Rng::new(1);
        assert_eq!(places(&mut random, 3, i64::MAX).unwrap(), [0, 1, 2]);
        assert_eq!(places(&mut random, 3, 0).unwrap(), []);
        assert_eq!(places(&mut random, 0, -5).unwrap(), []);
        let repeated = places(&mut random, 3, -50).unwrap();
        assert!(repeated.len() == 50 && (0..3).all(|place| repeated.contains(&place)));
        assert!(places(&mut random, 3, -i64::MAX).is_err());
    }
}

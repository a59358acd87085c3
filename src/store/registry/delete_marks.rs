//! The mark of a delete: the score that the ids have while it is under way, and from which age it counts as left behind
//! by a delete that broke off.

use std::hash::{BuildHasher, RandomState};

use super::sorted_set::now;

/// Milliseconds from which a mark is one that a delete left behind when it broke off.
const LEFT_BEHIND: i64 = 60_000;
/// Bits of a mark that tell two deletes of one millisecond apart.
const CHANCE_BITS: u32 = 11;

/// Whether a score says that its value has expired, or that a delete of it broke off.
pub(in crate::store) fn is_stale(score: f64) -> bool {
    let now = now();
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds and marks are exact as doubles"
    )]
    let (from, to) = (left_behind(now) as f64, now as f64);
    (from..=to).contains(&score)
}

/// A score that no other delete gives: negative, so that it is no date, and told by its moment.
pub(in crate::store) fn new_mark() -> i64 {
    let chance = RandomState::new().hash_one(std::process::id()) >> (u64::BITS - CHANCE_BITS);
    -((now() << CHANCE_BITS) | i64::try_from(chance).unwrap_or(0))
}

/// The lowest mark that is taken for one left behind: older ones are nearer to zero.
pub(super) fn left_behind(now: i64) -> i64 {
    -((now - LEFT_BEHIND) << CHANCE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::sorted_set::NEVER;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "what is tested")]
    fn marks_differ_are_negative_and_are_stale_only_when_they_are_old() {
        let (one, other) = (new_mark(), new_mark());
        assert!(one < 0 && one != other);
        assert!(!is_stale(one as f64));
        assert!(is_stale((one + ((LEFT_BEHIND + 5) << CHANCE_BITS)) as f64));
        for score in [one, NEVER] {
            assert_eq!((score as f64).to_string(), score.to_string());
        }
    }

    #[test]
    fn a_score_in_the_past_is_stale_and_one_to_come_is_not() {
        #[expect(clippy::cast_precision_loss, reason = "what is tested")]
        let now = now() as f64;
        assert!(is_stale(now - 1.0) && !is_stale(now + 60_000.0) && !is_stale(f64::INFINITY));
    }
}

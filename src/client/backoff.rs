//! The pauses between attempts.

use std::time::Duration;

/// First pause before an attempt is repeated.
const FIRST: Duration = Duration::from_millis(25);
/// Longest such pause.
const LONGEST: Duration = Duration::from_millis(512);

/// Pauses that double up to the longest, each of them jittered.
#[derive(Clone)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first.min(longest),
            longest,
        }
    }

    /// Between the attempts of a call.
    pub(super) fn of_attempts() -> Self {
        Self::new(FIRST, LONGEST)
    }

    /// How long to pause now.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(jitter());
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

/// A factor between 0.5 and 1, so that clients that failed together do not return together.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    0.5 + f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_no_two_clients_make_the_same() {
        let milliseconds = Duration::from_millis;
        let mut backoff = Backoff::new(milliseconds(10), milliseconds(35));
        for full in [10, 20, 35, 35].map(milliseconds) {
            let pause = backoff.pause();
            assert!((full / 2..=full).contains(&pause), "{pause:?} of {full:?}");
        }
        let mut short = Backoff::new(milliseconds(50), milliseconds(8));
        assert!(short.pause() <= milliseconds(8));
        let jitters: Vec<f64> = (0..64).map(|_| jitter()).collect();
        assert!(jitters.iter().all(|jitter| (0.5..=1.0).contains(jitter)));
        assert!(jitters.iter().any(|jitter| *jitter < 0.7));
        assert!(jitters.iter().any(|jitter| *jitter > 0.8));
    }
}

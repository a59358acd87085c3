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

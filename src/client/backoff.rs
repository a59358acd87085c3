//! The pauses between attempts.

use std::time::Duration;

/// First pause before an attempt is repeated; doubled each time, and jittered.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(25);
/// Longest such pause.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_millis(512);

/// A factor between 0.5 and 1, so that clients that failed together do not return together.
pub(super) fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    0.5 + f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX) / 2.0
}

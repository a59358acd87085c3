//! The breaker: when operations keep failing for want of a server, callers fail at once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Counts operations in a row that failed for want of a server; open, it refuses them.
///
/// It never lets a caller probe: one background task does, and closes it. See
/// `Connections::probe_until_back`.
pub(super) struct CircuitBreaker {
    threshold: u32,
    failures: AtomicU32,
    open: AtomicBool,
}

impl CircuitBreaker {
    pub(super) fn new(threshold: u32) -> Self {
        Self {
            threshold,
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// An operation was answered, with a value or with an error.
    pub(super) fn answered(&self) {
        // Loaded first: the line stays shared between cores while all is well.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// An operation failed for want of a server. True for the one that opens the breaker.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures >= self.threshold && !self.open.swap(true, Relaxed)
    }

    /// The server is back.
    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.open.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_once_after_failures_in_a_row_and_closes_when_told() {
        let breaker = CircuitBreaker::new(2);
        assert!(!breaker.failed());
        breaker.answered();
        assert!(
            !breaker.failed(),
            "an answer in between starts the count anew"
        );
        assert!(breaker.failed());
        assert!(!breaker.failed(), "only one caller opens it");
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(!breaker.failed());
    }
}

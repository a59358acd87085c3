//! What a failure means to the caller: raised, or a miss that is counted and logged once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::config::OutagePolicy;
use crate::error::{Error, Kind, Result};

/// The kinds a caller under [`OutagePolicy::Miss`] never sees, in the order they are counted.
const FORGIVEN: [Kind; 7] = [
    Kind::Unavailable,
    Kind::CircuitOpen,
    Kind::Timeout,
    Kind::Operation,
    Kind::Auth,
    Kind::Serialization,
    Kind::Corrupt,
];

/// The policy of one namespace, and what it has forgiven so far.
pub struct Outage {
    policy: OutagePolicy,
    forgiven: [AtomicU64; FORGIVEN.len()],
    failing: AtomicBool,
}

/// A change of state, worth one line in the log.
#[derive(Debug)]
pub enum Change {
    /// The first failure after success; it was forgiven.
    Failing(Error),
    /// The first success after failures.
    Recovered,
}

impl Outage {
    pub(crate) fn new(policy: OutagePolicy) -> Self {
        Self {
            policy,
            forgiven: Default::default(),
            failing: AtomicBool::new(false),
        }
    }

    /// Forgives a failure where the policy says so; an error that is not forgiven comes back.
    ///
    /// Wrong settings and use after close are the caller's mistakes and are never forgiven.
    pub fn forgive(&self, error: Error) -> Result<Option<Change>> {
        let counted = FORGIVEN.iter().position(|kind| *kind == error.kind());
        match (self.policy, counted) {
            (OutagePolicy::Miss, Some(index)) => {
                self.forgiven[index].fetch_add(1, Relaxed);
                let first = !self.failing.swap(true, Relaxed);
                Ok(first.then_some(Change::Failing(error)))
            }
            _ => Err(error),
        }
    }

    /// Notes a success.
    pub fn succeeded(&self) -> Option<Change> {
        // Loaded first: the line stays shared between cores while all is well.
        let recovered = self.failing.load(Relaxed) && self.failing.swap(false, Relaxed);
        recovered.then_some(Change::Recovered)
    }

    /// How many failures of each kind were forgiven.
    pub fn forgiven(&self) -> impl Iterator<Item = (Kind, u64)> {
        FORGIVEN
            .into_iter()
            .zip(self.forgiven.iter().map(|count| count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miss_forgives_every_storage_failure_and_reports_each_change_once() {
        let outage = Outage::new(OutagePolicy::Miss);
        for (index, kind) in FORGIVEN.into_iter().enumerate() {
            let change = outage.forgive(Error::new(kind, "x")).unwrap();
            assert_eq!(change.is_some(), index == 0, "{kind:?}");
        }
        assert!(matches!(outage.succeeded(), Some(Change::Recovered)));
        assert!(outage.succeeded().is_none());
        assert!(outage.forgiven().all(|(_, count)| count == 1));
    }

    #[test]
    fn wrong_settings_and_use_after_close_are_never_forgiven() {
        let outage = Outage::new(OutagePolicy::Miss);
        for kind in [Kind::Config, Kind::Closed] {
            assert_eq!(
                outage.forgive(Error::new(kind, "x")).unwrap_err().kind(),
                kind
            );
        }
        let outage = Outage::new(OutagePolicy::Raise);
        assert!(outage.forgive(Error::new(Kind::Timeout, "x")).is_err());
    }
}

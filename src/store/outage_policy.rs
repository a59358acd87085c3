//! What a failure means to the caller: raised, or a miss that is counted and logged once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::config::OutagePolicy;
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;
use crate::metrics::StoreCounters;

/// The kinds a caller under [`OutagePolicy::Miss`] never sees.
const FORGIVEN: [Kind; 9] = [
    Kind::Unavailable,
    Kind::CircuitOpen,
    Kind::Timeout,
    Kind::Operation,
    Kind::Auth,
    Kind::Serialization,
    Kind::Corrupt,
    Kind::Durability,
    Kind::Memory,
];

/// The policy of one namespace, and what it has forgiven so far.
pub struct Outage {
    policy: OutagePolicy,
    counters: StoreCounters,
    away: AtomicBool,
}

impl Outage {
    /// What it forgives is counted there.
    pub(crate) fn new(policy: OutagePolicy, counters: StoreCounters) -> Self {
        Self {
            policy,
            counters,
            away: AtomicBool::new(false),
        }
    }

    /// Forgives a failure where the policy says so; an error that is not forgiven comes back.
    ///
    /// Wrong settings and use after close are the caller's mistakes and are never forgiven. An
    /// outage gives one line when it begins, any other kind of failure one line ever.
    pub(crate) fn forgive(&self, error: Error) -> Result<Option<(Event, String)>> {
        if self.policy != OutagePolicy::Miss || !FORGIVEN.contains(&error.kind()) {
            return Err(error);
        }
        let before = self.counters.forgave(error.kind());
        if error.found_no_server() {
            let left = !self.away.swap(true, Relaxed);
            return Ok(left.then(|| {
                let line =
                    format!("reads miss and writes are dropped until the server is back: {error}");
                (Event::OutageBegan, line)
            }));
        }
        Ok((before == 0).then(|| {
            let line = format!("taken for a miss, as the outage policy says; more of this kind are only counted: {error}");
            (Event::Forgiven, line)
        }))
    }

    /// Files are read in place of the server; a line if it was there until now.
    pub(crate) fn left(&self, error: &Error) -> Option<String> {
        let left = !self.away.swap(true, Relaxed);
        left.then(|| format!("reads come from the JSON files until the server is back: {error}"))
    }

    /// The server answered; a line if it was away.
    pub(crate) fn answered(&self) -> Option<String> {
        // Loaded first: the line stays shared between cores while all is well.
        let back = self.away.load(Relaxed) && self.away.swap(false, Relaxed);
        back.then(|| "the server is back".to_owned())
    }

    /// How many failures of each kind were forgiven.
    pub fn forgiven(&self) -> impl Iterator<Item = (Kind, u64)> {
        FORGIVEN
            .into_iter()
            .map(|kind| (kind, self.counters.forgiven(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(policy: OutagePolicy) -> Outage {
        Outage::new(policy, StoreCounters::new("docs"))
    }

    #[test]
    fn miss_forgives_every_storage_failure_and_tells_an_outage_once() {
        let outage = under(OutagePolicy::Miss);
        let mut told = Vec::new();
        for kind in FORGIVEN.into_iter().chain(FORGIVEN) {
            told.extend(outage.forgive(Error::new(kind, "x")).unwrap());
        }
        let away = told
            .iter()
            .filter(|(event, _)| *event == Event::OutageBegan);
        assert_eq!((away.count(), told.len()), (1, 7), "{told:?}");
        assert!(outage.answered().is_some());
        assert!(outage.answered().is_none());
        assert!(outage.forgiven().all(|(_, count)| count == 2));
    }

    #[test]
    fn wrong_settings_and_use_after_close_are_never_forgiven() {
        let outage = under(OutagePolicy::Miss);
        for kind in [Kind::Config, Kind::Closed] {
            assert_eq!(
                outage.forgive(Error::new(kind, "x")).unwrap_err().kind(),
                kind
            );
        }
        let outage = under(OutagePolicy::Raise);
        assert!(outage.forgive(Error::new(Kind::Timeout, "x")).is_err());
    }

    #[test]
    fn a_failure_of_a_server_that_answers_is_told_the_first_time() {
        let outage = under(OutagePolicy::Miss);
        for kind in [Kind::Corrupt, Kind::Auth] {
            let forgive = || outage.forgive(Error::new(kind, "sour")).unwrap();
            let (event, line) = forgive().unwrap();
            assert_eq!(event, Event::Forgiven);
            assert!(line.contains("sour"), "{line}");
            assert!(forgive().is_none() && forgive().is_none());
        }
    }

    #[test]
    fn that_files_are_read_is_told_once_until_the_server_is_back() {
        let outage = under(OutagePolicy::Json);
        for _ in 0..2 {
            let line = outage.left(&Error::new(Kind::CircuitOpen, "gone")).unwrap();
            assert!(
                line.contains("JSON files") && line.contains("gone"),
                "{line}"
            );
            assert!(outage.left(&Error::new(Kind::CircuitOpen, "x")).is_none());
            assert!(outage.answered().is_some() && outage.answered().is_none());
        }
    }
}

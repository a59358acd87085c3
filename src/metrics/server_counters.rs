//! What a set of connections counts.

use std::sync::Arc;

use super::Counters;

/// A number that a set of connections counts, as its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCount {
    /// Attempts that were repeated.
    Retries,
    /// Times that the breaker opened.
    BreakerOpened,
    /// Times that it closed again.
    BreakerClosed,
    /// Copies of the near cache that made room for others.
    NearEvictions,
    /// Keys that the server said have changed, and times that it said all have.
    NearInvalidations,
}

impl ServerCount {
    /// Every one, in the order of their places.
    pub const ALL: [Self; 5] = [
        Self::Retries,
        Self::BreakerOpened,
        Self::BreakerClosed,
        Self::NearEvictions,
        Self::NearInvalidations,
    ];

    /// Its name in a snapshot.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retries => "retries",
            Self::BreakerOpened => "breaker_opened",
            Self::BreakerClosed => "breaker_closed",
            Self::NearEvictions => "near_cache_evictions",
            Self::NearInvalidations => "near_cache_invalidations",
        }
    }
}

impl Counters {
    /// Counts for a set of connections.
    pub fn count(&self, what: ServerCount, number: u64) {
        self.add(what as usize, number);
    }

    /// What a set of connections has counted.
    #[must_use]
    pub fn counted(&self, what: ServerCount) -> u64 {
        self.get(what as usize)
    }

    /// Zeros for a set of connections to this server.
    #[must_use]
    pub fn of_server(server: &str) -> Arc<Self> {
        Self::new(server, ServerCount::ALL.len())
    }
}

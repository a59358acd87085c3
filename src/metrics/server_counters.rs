//! What a set of connections counts.

use std::sync::Arc;

use super::Counters;
use crate::enumeration::enumeration;

enumeration! {
    /// A number that a set of connections counts.
    ServerCount {
        /// Attempts that were repeated.
        Retries: "retries",
        /// Times that the breaker opened.
        BreakerOpened: "breaker_opened",
        /// Times that it closed again.
        BreakerClosed: "breaker_closed",
        /// Copies of the near cache that made room for others.
        NearEvictions: "near_cache_evictions",
        /// Keys that the server said have changed, and times that it said all have.
        NearInvalidations: "near_cache_invalidations",
    }
}

impl Counters {
    /// Counts for a set of connections.
    pub fn count(&self, what: ServerCount, number: u64) {
        self.add(what.place(), number);
    }

    /// What a set of connections has counted.
    #[must_use]
    pub fn counted(&self, what: ServerCount) -> u64 {
        self.get(what.place())
    }

    /// Zeros for a set of connections to this server.
    #[must_use]
    pub fn of_server(server: &str) -> Arc<Self> {
        Self::new(server, ServerCount::ALL.len())
    }
}

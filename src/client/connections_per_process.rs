//! One set of connections per process and server, however many stores name it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Backlog, Connections};
use crate::config::ServerConfig;
use crate::local_single_flight::Flights;
use crate::metrics::Metrics;
use crate::mutex::Mutex;

/// The sets in use. A set is closed when its last store lets go of it.
#[derive(Default)]
pub struct SharedConnections {
    sets: Mutex<HashMap<ServerConfig, Weak<Connections>>>,
    metrics: Metrics,
    turn: Arc<tokio::sync::Mutex<()>>,
    flights: Arc<Flights>,
    backlog: Arc<Backlog>,
}

impl SharedConnections {
    /// The set for these settings: the one in use, or a new one that has opened nothing yet.
    pub fn get(&self, config: &ServerConfig) -> Arc<Connections> {
        let mut sets = self.sets.lock();
        if let Some(connections) = sets.get(config).and_then(Weak::upgrade) {
            return connections;
        }
        sets.retain(|_, set| set.strong_count() > 0);
        let connections = Connections::new(config.clone());
        self.metrics.servers.keep(connections.counters());
        sets.insert(config.clone(), Arc::downgrade(&connections));
        connections
    }

    /// The sets that are in use.
    #[must_use]
    pub fn in_use(&self) -> Vec<Arc<Connections>> {
        let sets = self.sets.lock();
        sets.values().filter_map(Weak::upgrade).collect()
    }

    /// Held by the one store of this process that does long work on files.
    #[must_use]
    pub fn turn(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.turn)
    }

    /// Who of this process waits for whose answer.
    #[must_use]
    pub fn flights(&self) -> Arc<Flights> {
        Arc::clone(&self.flights)
    }

    /// What is left to be sent that no caller waits for.
    pub(crate) fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Blocks until all is sent that no caller waited for, for at most so long: the process ends.
    pub fn drain(&self, limit: Duration) {
        self.backlog.drain(limit);
    }

    /// What the stores and sets of this process count and have counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn equal_settings_share_a_set_until_the_last_store_lets_go() {
        let shared = SharedConnections::default();
        let config = ServerConfig::new("redis://localhost").unwrap();
        let first = shared.get(&config);
        assert!(Arc::ptr_eq(&first, &shared.get(&config)));
        let other = ServerConfig {
            max_connections: 7,
            ..config.clone()
        };
        assert!(!Arc::ptr_eq(&first, &shared.get(&other)));
        drop(first);
        assert_eq!(shared.sets.lock()[&config].strong_count(), 0);
    }

    #[test]
    fn a_set_that_no_store_uses_is_kept_in_mind_until_the_next_one_is_made() {
        let shared = SharedConnections::default();
        let of = |database: u8| ServerConfig::new(&format!("redis://localhost/{database}"));
        let kept = shared.get(&of(0).unwrap());
        drop(shared.get(&of(1).unwrap()));
        let next = shared.get(&of(2).unwrap());
        assert_eq!(shared.sets.lock().len(), 2);
        assert_eq!(shared.in_use().len(), 2);
        drop((kept, next));
    }

    #[test]
    fn all_stores_of_a_process_share_its_flights_and_what_is_left_to_be_sent() {
        let shared = SharedConnections::default();
        assert!(Arc::ptr_eq(&shared.flights(), &shared.flights()));
        assert!(Arc::ptr_eq(&shared.backlog(), &shared.backlog()));
        shared.drain(Duration::ZERO);
        assert!(shared.backlog().hurried().now_or_never().is_some());
    }
}

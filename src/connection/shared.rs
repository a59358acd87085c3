//! One set of connections per process and server, however many stores name it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Connections;
use crate::config::ServerConfig;

/// The sets in use. A set is closed when its last store lets go of it.
#[derive(Default)]
pub struct SharedConnections(Mutex<HashMap<ServerConfig, Weak<Connections>>>);

impl SharedConnections {
    /// The set for these settings: the one in use, or a new one that has opened nothing yet.
    pub fn get(&self, config: &ServerConfig) -> Arc<Connections> {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = sets.get(config).and_then(Weak::upgrade) {
            return connections;
        }
        sets.retain(|_, set| set.strong_count() > 0);
        let connections = Connections::new(config.clone());
        sets.insert(config.clone(), Arc::downgrade(&connections));
        connections
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(shared.0.lock().unwrap()[&config].strong_count(), 0);
    }
}

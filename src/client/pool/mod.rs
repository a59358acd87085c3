//! The connections to one server, and how many there may be.

pub(super) mod direct;
pub(super) mod multiplexed;

use std::sync::Arc;

use super::permits::Permits;
use super::transport::auth_limiter::AuthLimiter;
use super::transport::connector::Connector;
use crate::config::ServerConfig;
use direct::DirectConnections;
use multiplexed::MultiplexedConnections;

/// The connections to one server, of both kinds, under one cap.
pub(super) struct Pool {
    pub(super) connector: Arc<Connector>,
    pub(super) permits: Arc<Permits>,
    pub(super) multiplexed: Arc<MultiplexedConnections>,
    pub(super) direct: DirectConnections,
}

impl Pool {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig, auth_limiter: Arc<AuthLimiter>) -> Arc<Self> {
        let permits = Arc::new(Permits::new(config.max_connections));
        let connector = Connector::new(config.clone(), auth_limiter);
        let multiplexed =
            MultiplexedConnections::new(Arc::clone(&connector), config, Arc::clone(&permits));
        Arc::new(Self {
            connector,
            permits,
            multiplexed: Arc::new(multiplexed),
            direct: DirectConnections::default(),
        })
    }
}

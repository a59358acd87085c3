//! The connections to one server, and how many there may be.
//!
//! Direct ones belong to the reactors of callers, and wait here between callers that block. Shared ones are driven by the
//! runtime: for who has no reactor, and for what is too much for one direct connection. They grow under load.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use redis::{ErrorKind, RedisError};

use super::connection::Connection;
use super::connection_permits::{Permit, Permits};
use super::protocol::pipeline::Pipeline;
use super::transport::auth_limiter::AuthLimiter;
use super::transport::connector::Connector;
use super::transport::socket::{Socket, Waiting};
use crate::config::ServerConfig;
use crate::mutex::Mutex;

/// Requests under way on every shared connection before one more is opened. A request is a gathered
/// batch, so a connection at this mark carries about a thousand reads.
const GROW_AT: usize = 16;

/// The connections to one server, under one cap.
pub(super) struct Pool {
    pub(super) connector: Arc<Connector>,
    pub(super) permits: Arc<Permits>,
    known: Mutex<Known>,
    /// Held while a shared connection is opened, so that many callers that wait for a first one open one.
    opening: tokio::sync::Mutex<()>,
    growing: AtomicBool,
}

#[derive(Default)]
struct Known {
    /// All that are open, whoever drives them.
    open: Vec<Weak<Connection>>,
    shared: Vec<Arc<Connection>>,
    /// Direct ones that wait for a thread that blocks.
    idle: Vec<Arc<Connection>>,
}

impl Pool {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig, auth_limiter: Arc<AuthLimiter>) -> Arc<Self> {
        Arc::new(Self {
            connector: Connector::new(config.clone(), auth_limiter),
            permits: Arc::new(Permits::new(config.max_connections)),
            known: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            growing: AtomicBool::new(false),
        })
    }

    /// The least busy shared connection; opens the first one, and has another opened under load.
    pub(super) async fn shared(self: &Arc<Self>) -> Result<Arc<Connection>, RedisError> {
        if let Some(connection) = self.least_busy() {
            return Ok(connection);
        }
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.least_busy() {
            return Ok(connection);
        }
        // In memory of its own, which every call would have to take.
        Box::pin(self.open_shared()).await
    }

    /// The least busy shared connection of those that are open; has one more opened under load.
    pub(super) fn least_busy(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut known = self.known.lock();
        known.shared.retain(|connection| !connection.is_closed());
        let least = known.shared.iter();
        let least = least.min_by_key(|connection| connection.in_flight())?;
        let least = Arc::clone(least);
        drop(known);
        if least.in_flight() >= GROW_AT {
            self.spawn_growth(self.permits.taken() + 1);
        }
        Some(least)
    }

    /// Opens shared connections in the background until `target` connections are open, direct ones included; one
    /// such task at a time.
    pub(super) fn spawn_growth(self: &Arc<Self>, target: usize) {
        if self.growing.swap(true, Relaxed) {
            return;
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // A connection that cannot be opened now is no error of anyone: load asks again.
            loop {
                // Who finds no connection waits for this one, which may have the last permit.
                let _opening = pool.opening.lock().await;
                if pool.permits.taken() >= target || pool.open_shared().await.is_err() {
                    break;
                }
            }
            pool.growing.store(false, Relaxed);
        });
    }

    async fn open_shared(&self) -> Result<Arc<Connection>, RedisError> {
        let Some(permit) = self.permits.take(0) else {
            return Err((ErrorKind::Client, "redis_max_connections are open").into());
        };
        let connection = self.open(Waiting::Runtime, permit).await?;
        self.known.lock().shared.push(Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection that is driven like this.
    pub(super) async fn open(
        &self,
        waiting: Waiting,
        permit: Permit,
    ) -> Result<Arc<Connection>, RedisError> {
        let socket = Socket::new(self.connector.connect().await?, waiting)?;
        let connection = Connection::new(socket, Pipeline::default(), Some(permit));
        let mut known = self.known.lock();
        known.open.retain(|open| open.strong_count() > 0);
        known.open.push(Arc::downgrade(&connection));
        drop(known);
        Ok(connection)
    }

    /// The direct connection given back last: it is the likeliest to be in order.
    pub(super) fn take_idle(&self) -> Option<Arc<Connection>> {
        let mut known = self.known.lock();
        while let Some(connection) = known.idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn give_back(&self, connection: Arc<Connection>) {
        if !connection.is_closed() {
            self.known.lock().idle.push(connection);
        }
    }

    /// Trusts a connection with nothing more, and those that wait neither: what ended one has ended them, as a rule.
    pub(super) fn discard(&self, connection: &Connection) {
        connection.close();
        let idle = std::mem::take(&mut self.known.lock().idle);
        for connection in idle {
            connection.close();
        }
    }

    /// Closes up to `spare` connections that nobody used since the last call, and gives the shared ones that stay.
    pub(super) fn shrink(&self, mut spare: usize) -> Vec<Arc<Connection>> {
        for connection in self.open_connections() {
            if !connection.was_used() && connection.in_flight() == 0 && spare > 0 {
                connection.close();
                spare -= 1;
            }
        }
        let mut known = self.known.lock();
        known.idle.retain(|connection| !connection.is_closed());
        known.shared.retain(|connection| !connection.is_closed());
        known.shared.clone()
    }

    /// Those that are open.
    pub(super) fn open_connections(&self) -> Vec<Arc<Connection>> {
        let known = self.known.lock();
        let open = known.open.iter().filter_map(Weak::upgrade);
        let open: Vec<_> = open.collect();
        drop(known);
        let open = open.into_iter();
        open.filter(|connection| !connection.is_closed()).collect()
    }

    /// Ends all connections; requests under way on them fail.
    pub(super) fn close(&self) {
        for connection in self.open_connections() {
            connection.close();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

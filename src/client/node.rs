//! One server: the connections to it, one attempt over them, and the breaker that spares callers
//! the wait for a server that is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis::{RedisError, Value};
use tokio::time::{Instant, timeout_at};

use super::circuit_breaker::CircuitBreaker;
use super::direct_connections::checkout;
use super::pool::Pool;
use super::protocol::resp_parser::refuses_for_now;
use super::transport::auth_limiter::AuthLimiter;
use super::{Reply, Request};
use crate::config::ServerConfig;
use crate::config::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};

/// One server of a topology. Opens nothing until something is asked of it.
pub(crate) struct Node {
    /// The settings of the set, with this server's endpoint.
    pub(super) config: ServerConfig,
    pub(super) pool: Arc<Pool>,
    pub(super) breaker: CircuitBreaker,
    prewarmed: AtomicBool,
}

/// Why an attempt failed, and whether anything may have reached the server.
pub(super) struct FailedAttempt {
    pub(super) error: RedisError,
    pub(super) sent: bool,
    /// Whether the connection had been lost, perhaps long before this request.
    pub(super) stale: bool,
    /// What was answered all the same: the first commands of the request.
    pub(super) replies: Vec<Reply>,
}

impl FailedAttempt {
    pub(super) fn unsent(error: RedisError) -> Self {
        Self {
            error,
            sent: false,
            stale: false,
            replies: Vec::new(),
        }
    }
}

impl Node {
    pub(super) fn new(config: ServerConfig) -> Arc<Self> {
        Self::with_auth_limiter(config, Arc::default())
    }

    /// One of several for the same server, at which they count their logins together.
    pub(super) fn with_auth_limiter(
        config: ServerConfig,
        auth_limiter: Arc<AuthLimiter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new(&config, auth_limiter),
            breaker: CircuitBreaker::new(config.breaker_failures),
            prewarmed: AtomicBool::new(!config.prewarm),
            config,
        })
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.config.endpoint
    }

    /// Sends a request and waits for its answers, one a command: once, within the socket timeout.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<Reply>, FailedAttempt> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        let not_in_time = || FailedAttempt::unsent(self.pool.connector.not_in_time());
        if Instant::now() >= deadline {
            return Err(not_in_time());
        }
        let connection = timeout_at(deadline, checkout(&self.pool)).await;
        let connection = connection
            .map_err(|_| not_in_time())?
            .map_err(FailedAttempt::unsent)?;
        let limit = deadline.min(Instant::now() + self.config.socket_timeout);
        if !request.resendable {
            // It has one try, so that is not to be wasted on a connection that died while idle.
            let ping = Request::resendable([redis::cmd("PING")]);
            if let Err(partial) = connection.exchange_until(&ping, limit).await {
                self.pool.discard(&connection);
                return Err(FailedAttempt {
                    stale: !partial.error.is_timeout(),
                    ..FailedAttempt::unsent(partial.error)
                });
            }
        }
        let partial = match connection.exchange_until(request, limit).await {
            Ok(values) => match values.first() {
                Some(Reply::Other(Value::ServerError(error))) if refuses_for_now(error.code()) => {
                    return Err(FailedAttempt::unsent(error.clone().into()));
                }
                _ => return Ok(values),
            },
            Err(partial) => partial,
        };
        // A connection that failed or fell silent is not trusted with another request.
        self.pool.discard(&connection);
        let no_memory = Error::from_redis(&partial.error).kind() == Kind::Memory;
        Err(FailedAttempt {
            stale: !partial.error.is_timeout() && !no_memory,
            error: partial.error,
            sent: true,
            replies: partial.replies,
        })
    }

    /// An operation was answered: the first one has the minimum of connections opened.
    pub(super) fn answered(&self) {
        self.breaker.answered();
        if !self.prewarmed.load(Relaxed) && !self.prewarmed.swap(true, Relaxed) {
            self.pool.spawn_growth(self.config.min_connections);
        }
    }

    /// Whether the server answers a PING. An error answered is an answer: the breaker asks for a
    /// server, not for a permission.
    pub(super) async fn answers_ping(self: &Arc<Self>) -> bool {
        let deadline = Instant::now() + self.config.socket_timeout;
        let ping = Request::resendable([redis::cmd("PING")]);
        match self.attempt(&ping, deadline).await {
            Ok(_) => true,
            Err(failed) => !Error::from_redis(&failed.error).is_outage(),
        }
    }

    /// What a call is told while the breaker is open.
    pub(super) fn refused(&self) -> Error {
        let endpoint = &self.config.endpoint;
        let message = format!(
            "{endpoint}: not tried, since the operations before it found no server; check that it runs, calls pass again as soon as it answers"
        );
        Error::new(Kind::CircuitOpen, message)
    }

    /// Closes what was idle since the last call, beyond the minimum, and tries what stays.
    pub(super) async fn maintain(&self) {
        let spare = self.pool.permits.taken();
        let spare = spare.saturating_sub(self.config.min_connections);
        let ping = Request::resendable([redis::cmd("PING")]);
        for connection in self.pool.shrink(spare) {
            if connection
                .ask(&ping, self.config.socket_timeout)
                .await
                .is_err()
            {
                connection.close();
            }
        }
    }

    /// Sockets with a request under way.
    pub(super) fn busy(&self) -> usize {
        let open = self.pool.open_connections().into_iter();
        open.filter(|connection| connection.in_flight() > 0).count()
    }

    /// Ends its connections for good: it is not the server to ask any more.
    pub(super) fn abandon(&self) {
        self.pool.close();
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> usize {
        let open = self.pool.open_connections().into_iter();
        open.map(|connection| connection.in_flight()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_answers_no_ping() {
        let config = ServerConfig::new("unix:///nowhere/socket").unwrap();
        assert!(!Node::new(config).answers_ping().await);
    }
}

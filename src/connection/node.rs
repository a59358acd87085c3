//! One server: the connections to it, one attempt over them, and the breaker that spares callers
//! the wait for a server that is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis::aio::ConnectionLike;
use redis::{RedisError, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::refuses_for_now;
use super::breaker::Breaker;
use super::carrier::Carrier;
use super::dialer::Dialer;
use super::lanes::Lanes;
use super::logins::Logins;
use super::pool::Pool;
use super::quota::Quota;
use super::{Answer, Request};
use crate::config::ServerConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};

/// One server of a topology. Opens nothing until something is asked of it.
pub(crate) struct Node {
    /// The settings of the set, with this server's endpoint.
    pub(super) config: ServerConfig,
    pub(super) dialer: Arc<Dialer>,
    pub(super) quota: Arc<Quota>,
    pub(super) pool: Arc<Pool>,
    pub(super) lanes: Lanes,
    pub(super) breaker: Breaker,
    prewarmed: AtomicBool,
}

/// Why an attempt failed, and whether anything may have reached the server.
pub(super) struct Failed {
    pub(super) error: RedisError,
    pub(super) sent: bool,
    /// Whether it was a lane that had been lost, perhaps long before this request.
    pub(super) stale: bool,
    /// What was answered all the same: the first commands of the request.
    pub(super) answers: Vec<Answer>,
}

impl Failed {
    pub(super) fn unsent(error: RedisError) -> Self {
        Self {
            error,
            sent: false,
            stale: false,
            answers: Vec::new(),
        }
    }
}

impl Node {
    pub(super) fn new(config: ServerConfig) -> Arc<Self> {
        Self::with_logins(config, Arc::default())
    }

    /// One of several for the same server, at which they count their logins together.
    pub(super) fn with_logins(config: ServerConfig, logins: Arc<Logins>) -> Arc<Self> {
        let quota = Arc::new(Quota::new(config.max_connections));
        let dialer = Dialer::new(config.clone(), logins);
        let pool = Pool::new(Arc::clone(&dialer), &config, Arc::clone(&quota));
        Arc::new(Self {
            dialer,
            pool: Arc::new(pool),
            quota,
            lanes: Lanes::default(),
            breaker: Breaker::new(config.breaker_failures),
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
    ) -> Result<Vec<Answer>, Failed> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        let carrier = timeout_at(deadline, Carrier::find(self)).await;
        let carrier = carrier
            .map_err(|_| Failed::unsent(self.dialer.not_in_time()))?
            .map_err(Failed::unsent)?;
        let limit = deadline.min(Instant::now() + self.config.socket_timeout);
        if !request.resendable {
            // It has one try, so that is not to be wasted on a connection that died while idle.
            let ping = Request::resendable([redis::cmd("PING")]);
            if let Err(cut) = carrier.exchange_until(&ping, limit).await {
                carrier.discard(self);
                let stale = carrier.is_lost_lane(&cut.error);
                return Err(Failed {
                    stale,
                    ..Failed::unsent(cut.error)
                });
            }
        }
        let cut = match carrier.exchange_until(request, limit).await {
            Ok(values) => match values.first() {
                Some(Answer::Other(Value::ServerError(error))) if refuses_for_now(error.code()) => {
                    return Err(Failed::unsent(error.clone().into()));
                }
                _ => return Ok(values),
            },
            Err(cut) => cut,
        };
        // A connection that failed or fell silent is not trusted with another request.
        carrier.discard(self);
        Err(Failed {
            stale: carrier.is_lost_lane(&cut.error),
            error: cut.error,
            sent: true,
            answers: cut.answers,
        })
    }

    /// Asks something once that no caller waits for. What becomes of it is no word on the server:
    /// the breaker hears of calls alone.
    pub(crate) async fn look(self: &Arc<Self>, request: &Request) -> Result<Vec<Answer>, Error> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let answers = self.attempt(request, deadline).await;
        answers.map_err(|failed| Error::from_redis(&failed.error))
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
    pub(super) async fn tend(&self) {
        let spare = self.quota.taken();
        let spare = spare.saturating_sub(self.config.min_connections);
        self.lanes.shrink(spare);
        for lease in self.pool.shrink() {
            let mut connection = lease.connection();
            let ping = redis::cmd("PING");
            let answer = connection.req_packed_command(&ping);
            if !matches!(timeout(self.config.socket_timeout, answer).await, Ok(Ok(_))) {
                self.pool.discard(&lease);
            }
        }
    }

    /// Sockets with a request under way.
    pub(super) fn busy(&self) -> usize {
        self.pool.busy() + self.lanes.busy()
    }

    /// Ends its connections for good: it is not the server to ask any more.
    pub(super) fn abandon(&self) {
        self.lanes.close();
        self.pool.close();
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> usize {
        self.pool.in_flight() + self.lanes.in_flight()
    }
}

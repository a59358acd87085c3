//! One handle over the server: pooled connections, deadlines, retries and the breaker.
//!
//! `Connections::send` is the only way out of this process. A request travels over the caller's own
//! [`lane`], which the caller's thread drives, or over the [`pool`], which the runtime's threads do.
//! Topologies other than a standalone server get their place beside `pool`, behind the same handle.

mod answer;
mod backoff;
mod breaker;
mod carrier;
mod driver;
mod input;
mod lane;
mod lanes;
mod login;
mod pool;
mod quota;
mod request;
mod resp;
mod shared;
mod socket;
mod tracking;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{RedisError, Value};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::config::ServerConfig;
use crate::error::{Error, Kind, Result};
use crate::near_cache::{self, NearCache};
use crate::notices::Notices;
use answer::refuses_for_now;
pub(crate) use answer::{Answer, answer};
use backoff::{FIRST_BACKOFF, LONGEST_BACKOFF, jitter};
use breaker::Breaker;
use carrier::Carrier;
pub use driver::{Driven, Driver, Entered};
pub use lane::Lane;
use lanes::Lanes;
use pool::Pool;
use quota::Quota;
pub(crate) use request::{Commands, Request, command};
pub use shared::SharedConnections;
pub use socket::Waiting;
use tracking::Tracking;

/// First pause between two probes of an unreachable server.
const FIRST_PROBE: Duration = Duration::from_millis(20);

/// What [`Connections::load`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub connections: usize,
    /// Requests under way on them.
    pub in_flight: usize,
    /// Attempts repeated since the start.
    pub retries: u64,
    /// Whether the breaker is open.
    pub breaker_open: bool,
}

/// The connections to one server, shared by every store that names it alike.
pub struct Connections {
    config: ServerConfig,
    quota: Arc<Quota>,
    pool: Arc<Pool>,
    lanes: Lanes,
    breaker: Breaker,
    retries: AtomicU64,
    tended: AtomicBool,
    prewarmed: AtomicBool,
    seen: Mutex<HashSet<Vec<u8>>>,
    tracking: Tracking,
}

/// Why an attempt failed, and whether anything may have reached the server.
struct Failed {
    error: RedisError,
    sent: bool,
    /// Whether it was a lane that had been lost, perhaps long before this request.
    stale: bool,
}

impl Connections {
    /// Opens nothing: the first request does.
    #[must_use]
    pub fn new(config: ServerConfig) -> Arc<Self> {
        let quota = Arc::new(Quota::new(config.max_connections));
        Arc::new(Self {
            pool: Arc::new(Pool::new(config.clone(), Arc::clone(&quota))),
            quota,
            lanes: Lanes::default(),
            breaker: Breaker::new(config.breaker_failures),
            retries: AtomicU64::new(0),
            tended: AtomicBool::new(false),
            prewarmed: AtomicBool::new(!config.prewarm),
            seen: Mutex::default(),
            tracking: Tracking::default(),
            config,
        })
    }

    /// Sends a request and waits for its answers, one a command, within the operation's deadline.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Vec<Answer>> {
        if self.breaker.is_open() {
            return Err(self.refused());
        }
        // Loaded first: the line stays shared between cores.
        if !self.tended.load(Relaxed) && !self.tended.swap(true, Relaxed) {
            self.spawn_tending();
        }
        let deadline = Instant::now() + self.config.operation_timeout;
        let mut backoff = FIRST_BACKOFF;
        let mut attempt = 0;
        let mut was_stale = false;
        loop {
            let failed = match self.attempt(request, deadline).await {
                Ok(values) => {
                    self.breaker.answered();
                    if !self.prewarmed.load(Relaxed) && !self.prewarmed.swap(true, Relaxed) {
                        self.pool.spawn_growth(self.config.min_connections);
                    }
                    return Ok(values);
                }
                Err(failed) => failed,
            };
            // A lane that died while idle says nothing about the server: it costs no attempt.
            let may_repeat = request.resendable || !failed.sent;
            if failed.stale && may_repeat && !std::mem::replace(&mut was_stale, true) {
                self.retries.fetch_add(1, Relaxed);
                continue;
            }
            attempt += 1;
            let pause = backoff.mul_f64(jitter());
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            let again = self.may_repeat(request, &failed)
                && attempt <= self.config.max_retries
                && Instant::now() + pause < deadline;
            if !again {
                let lost = failed.sent && !request.resendable;
                return Err(self.give_up(&failed.error, lost, attempt));
            }
            self.retries.fetch_add(1, Relaxed);
            sleep(pause).await;
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Failed> {
        let unsent = |error| Failed {
            error,
            sent: false,
            stale: false,
        };
        let carrier = timeout_at(deadline, Carrier::find(self)).await;
        let carrier = carrier.map_err(|_| unsent(timed_out()))?.map_err(unsent)?;
        let limit = deadline.min(Instant::now() + self.config.socket_timeout);
        if !request.resendable {
            // It has one try, so that is not to be wasted on a connection that died while idle.
            let ping = Request::resendable([redis::cmd("PING")]);
            if let Err(error) = carrier.exchange_until(&ping, limit).await {
                carrier.discard(self);
                let stale = carrier.is_lost_lane(&error);
                return Err(Failed {
                    error,
                    sent: false,
                    stale,
                });
            }
        }
        let (error, stale) = match carrier.exchange_until(request, limit).await {
            Ok(values) => match values.first() {
                Some(Answer::Other(Value::ServerError(error))) if refuses_for_now(error.code()) => {
                    return Err(unsent(error.clone().into()));
                }
                _ => return Ok(values),
            },
            Err(error) => {
                let stale = carrier.is_lost_lane(&error);
                (error, stale)
            }
        };
        // A connection that failed or fell silent is not trusted with another request.
        carrier.discard(self);
        Err(Failed {
            error,
            sent: true,
            stale,
        })
    }

    fn may_repeat(&self, request: &Request, failed: &Failed) -> bool {
        let kind = Error::from_redis(&failed.error).kind();
        match kind {
            Kind::Timeout if !self.config.retry_on_timeout => false,
            Kind::Timeout | Kind::Unavailable => request.resendable || !failed.sent,
            _ => failed.error.code().is_some_and(refuses_for_now),
        }
    }

    fn give_up(self: &Arc<Self>, error: &RedisError, lost: bool, attempts: u32) -> Error {
        let error = Error::from_redis(error);
        if error.is_outage() {
            if self.breaker.failed() {
                tokio::spawn(Self::probe_until_back(Arc::clone(self)));
            }
        } else {
            self.breaker.answered();
        }
        let endpoint = &self.config.endpoint;
        if lost && error.is_outage() {
            let message = format!(
                "{endpoint}: the answer was lost, so whether it was done is unknown and it was not sent again: look whether the id is still there ({error})"
            );
            return Error::new(Kind::Timeout, message);
        }
        let message = format!("{endpoint}: {error} (attempts: {attempts})");
        Error::new(error.kind(), message)
    }

    /// Pings until the server answers, then closes the breaker. Ends when no store is left.
    async fn probe_until_back(connections: Arc<Self>) {
        let recovery = connections.config.breaker_recovery;
        let weak = Arc::downgrade(&connections);
        drop(connections);
        let mut pause = FIRST_PROBE.min(recovery);
        loop {
            sleep(pause.mul_f64(jitter())).await;
            let Some(connections) = weak.upgrade() else {
                return;
            };
            if connections.answers_ping().await {
                connections.breaker.close();
                return;
            }
            pause = (pause * 2).min(recovery);
        }
    }

    async fn answers_ping(self: &Arc<Self>) -> bool {
        let deadline = Instant::now() + self.config.socket_timeout;
        let ping = Request::resendable([redis::cmd("PING")]);
        // An error answered is an answer: the breaker asks for a server, not for a permission.
        match self.attempt(&ping, deadline).await {
            Ok(_) => true,
            Err(failed) => !Error::from_redis(&failed.error).is_outage(),
        }
    }

    /// Looks after idle connections for as long as a store uses them.
    fn spawn_tending(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let (interval, patience) = (
            self.config.health_check_interval,
            self.config.socket_timeout,
        );
        if interval.is_zero() {
            return;
        }
        tokio::spawn(async move {
            loop {
                sleep(interval).await;
                let Some(connections) = weak.upgrade() else {
                    return;
                };
                let spare = connections.quota.taken();
                let spare = spare.saturating_sub(connections.config.min_connections);
                connections.lanes.shrink(spare);
                for lease in connections.pool.shrink() {
                    let mut connection = lease.connection();
                    let ping = redis::cmd("PING");
                    if !matches!(
                        timeout(patience, connection.req_packed_command(&ping)).await,
                        Ok(Ok(_))
                    ) {
                        connections.pool.discard(&lease);
                    }
                }
            }
        });
    }

    /// True the first time it is asked about `mark`: what concerns all stores is done by one.
    pub(crate) fn is_new(&self, mark: &[u8]) -> bool {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(mark.to_vec())
    }

    /// Lets `mark` be asked about again.
    pub(crate) fn forget(&self, mark: &[u8]) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(mark);
    }

    /// The near cache, if any store over these connections has one.
    pub(crate) fn near_cache(&self) -> Option<&Arc<NearCache>> {
        self.tracking.cache()
    }

    /// A namespace's view of the near cache, whose copies may take `budget` bytes in all.
    pub(crate) fn near(&self, prefix: &str, budget: usize) -> near_cache::Namespace {
        let cache = self.tracking.cache_or_new();
        let namespace = near_cache::Namespace::new(cache, prefix.as_bytes(), budget);
        self.tracking.ring();
        namespace
    }

    /// Keeps the near cache right from now on.
    pub(crate) fn track(&self, notices: &Arc<Notices>) {
        self.tracking.begin(&self.config, notices);
    }

    fn refused(&self) -> Error {
        let endpoint = &self.config.endpoint;
        let message = format!(
            "{endpoint}: not tried, since the operations before it found no server; check that it runs, calls pass again as soon as it answers"
        );
        Error::new(Kind::CircuitOpen, message)
    }

    /// How many connections are open and how busy they are.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            connections: self.quota.taken(),
            in_flight: self.pool.in_flight() + self.lanes.in_flight(),
            retries: self.retries.load(Relaxed),
            breaker_open: self.breaker.is_open(),
        }
    }
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

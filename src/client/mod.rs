//! A Redis client for this job. It knows requests and replies as bytes, and no JSON, no host, no Python.
//!
//! `Connections::send` is the only way out of this process. From the top down:
//!
//! - [`topology`]: which server a request goes to: one server, the slots of a cluster, the master that sentinels name
//! - [`retry`], [`backoff`]: what is sent again, how often, after which pause
//! - [`health`], [`circuit_breaker`]: servers that are away, connections that are idle
//! - [`durability`]: the barrier behind `index_done_callback`
//! - [`invalidation`]: what the server says of changed keys, for the near cache
//! - [`keyspace_stats`]: a sample of what each namespace takes, for metrics
//! - [`node`]: one server; [`checkout`]: the connection of one attempt, a direct one if the caller has a [`reactor`]
//! - [`pool`]: the open connections to one server, direct ones and multiplexed ones, within its [`permits`]
//! - [`connection`]: a direct connection: pipelined, and driven by its caller's own thread
//! - [`transport`]: sockets, TLS, the handshake; [`protocol`]: requests, replies and RESP, without I/O

mod backoff;
mod checkout;
mod circuit_breaker;
mod connection;
pub(crate) mod durability;
mod health;
mod invalidation;
mod keyspace_stats;
mod node;
mod permits;
mod pool;
mod protocol;
mod reactor;
mod retry;
mod scan;
mod shared;
mod topology;
mod transport;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redis::RedisError;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::ServerConfig;
use crate::error::{Error, Result};
use crate::log_events::{Event, Notice, Notices};
use crate::metrics::{Counters, ServerCount, StoreCounters};
use crate::near_cache::{self, NearCache};
pub use connection::Connection;
use durability::Barrier;
use invalidation::Invalidation;
pub use keyspace_stats::{KeyspaceStats, NamespaceStats, keep_keyspace_stats};
pub(crate) use node::Node;
pub(crate) use protocol::reply::Reply;
pub(crate) use protocol::request::{Commands, Request, command};
pub use reactor::{DriveOutcome, Entered, Reactor};
use retry::RetryState;
pub use shared::SharedConnections;
use topology::Topology;
pub use transport::socket::Waiting;

/// What [`Connections::load`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub connections: usize,
    /// Those of them on which a request is under way.
    pub busy: usize,
    /// Requests under way on them.
    pub in_flight: usize,
    /// Attempts repeated since the start.
    pub retries: u64,
    /// Whether the breaker is open.
    pub breaker_open: bool,
}

/// The connections to one set of servers, shared by every store that names it alike.
pub struct Connections {
    config: ServerConfig,
    topology: Topology,
    counters: Arc<Counters>,
    /// What concerns all stores: reported by whoever comes by first.
    notices: Notices,
    connected: AtomicBool,
    known: keyspace_stats::KnownNamespaces,
    maintained: AtomicBool,
    /// The task that looks after idle connections, which sleeps for long.
    maintenance: OnceLock<AbortHandle>,
    seen: Mutex<HashSet<Vec<u8>>>,
    invalidation: Invalidation,
    barrier: Barrier,
}

impl Connections {
    /// Opens nothing: the first request does.
    #[must_use]
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            topology: Topology::new(&config),
            counters: Counters::of_server(&config.endpoint.to_string()),
            known: keyspace_stats::KnownNamespaces::default(),
            notices: Notices::default(),
            connected: AtomicBool::new(false),
            maintained: AtomicBool::new(false),
            maintenance: OnceLock::new(),
            seen: Mutex::default(),
            invalidation: Invalidation::default(),
            barrier: Barrier::default(),
            config,
        })
    }

    /// The servers that hold values.
    pub(crate) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        match &self.topology {
            Topology::Cluster(cluster) => cluster.primaries().await,
            Topology::One(_) | Topology::Sentinel(_) => Ok(vec![self.topology.node().await?]),
        }
    }

    /// A key that begins with `beginning` and is kept by this node; None if none is.
    fn key_on(&self, node: &Arc<Node>, beginning: &[u8]) -> Option<Vec<u8>> {
        match &self.topology {
            Topology::Cluster(cluster) => cluster.key_on(node, beginning),
            Topology::One(_) | Topology::Sentinel(_) => Some(beginning.to_owned()),
        }
    }

    /// Sends a request and waits for its answers, one a command, within the operation's deadline.
    ///
    /// A request of no commands asks no server: it is answered at once, even where none is there.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Vec<Reply>> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        // Whoever asks for no retries asks that no write lands after what others have written since, whatever the
        // reason is that it would be sent again for.
        let once = (self.config.max_retries == 0 && request.writes && request.resendable)
            .then(|| request.to_be_sent_once());
        let request = once.as_ref().unwrap_or(request);
        match &self.topology {
            Topology::Cluster(cluster) => {
                self.maintain();
                let answered = cluster.send(self, request).await;
                if answered.is_ok() {
                    self.note_connected(cluster.entry());
                }
                answered
            }
            Topology::One(_) | Topology::Sentinel(_) => self.persist(None, request).await,
        }
    }

    /// The same to one of the servers: what is asked of a server and not of a key.
    pub(crate) async fn send_to(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: &Request,
    ) -> Result<Vec<Reply>> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        self.persist(Some(node), request).await
    }

    /// Sends a request to the node, or to the one that has the values now, until it is answered.
    async fn persist(
        self: &Arc<Self>,
        fixed: Option<&Arc<Node>>,
        request: &Request,
    ) -> Result<Vec<Reply>> {
        self.maintain();
        let mut retry_state = RetryState::new(&self.config);
        let mut kept = Vec::new();
        loop {
            let node = match self.find(fixed, retry_state.deadline).await {
                Ok(node) => node,
                Err(error) => {
                    let Some(pause) = retry_state.pause_after_failure(error.is_outage()) else {
                        self.count_failure(self.topology.entry(), error.is_outage());
                        return unless_done(kept, request, retry_state.ended_by(error));
                    };
                    self.count_retry();
                    sleep(pause).await;
                    continue;
                }
            };
            if retry_state.failed == 0 && node.breaker.is_open() {
                return Err(retry_state.ended_by(node.refused()));
            }
            let sent = Instant::now();
            let mut failed = match node.attempt(request, retry_state.deadline).await {
                Ok(replies) if self.topology.is_demoted(&node, &replies) => {
                    let Some(pause) = retry_state.pause_after_failure(true) else {
                        let replies = replies.into_iter();
                        return Ok(replies
                            .map(|reply| match topology::sentinel::refusal(&node, &reply) {
                                Some(error) => Reply::Lost(retry_state.ended_by(error)),
                                None => reply,
                            })
                            .collect());
                    };
                    self.count_retry();
                    sleep(pause).await;
                    continue;
                }
                Ok(replies) if self.topology.believes(&node, sent).await => {
                    node.answered();
                    self.note_connected(&node);
                    let replies = replies.into_iter();
                    return Ok(replies.map(|reply| retry_state.answered(reply)).collect());
                }
                Ok(_) => topology::sentinel::disowned(),
                Err(failed) => failed,
            };
            self.topology.failed(&node, &failed);
            if failed.replies.len() > kept.len() && self.topology.believes(&node, sent).await {
                kept = std::mem::take(&mut failed.replies);
            }
            let Some(pause) = retry_state.pause_after(request.resendable, &failed) else {
                let error = retry_state.give_up(&node.config, request.resendable, &failed);
                self.count_failure(&node, error.is_outage());
                return unless_done(kept, request, error);
            };
            self.count_retry();
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    /// The node that is asked for, or the one that has the values now.
    async fn find(&self, fixed: Option<&Arc<Node>>, deadline: Instant) -> Result<Arc<Node>> {
        match (fixed, &self.topology) {
            (Some(node), Topology::One(_) | Topology::Cluster(_)) => Ok(Arc::clone(node)),
            // The only one there is, whatever has become of the one that was.
            _ => match timeout_at(deadline, self.topology.node()).await {
                Ok(found) => found,
                Err(_) => Err(Error::from_redis(&timed_out())),
            },
        }
    }

    fn count_retry(&self) {
        self.counters.count(ServerCount::Retries, 1);
    }

    fn note_connected(&self, node: &Node) {
        // Loaded first: the line stays shared between cores.
        if !self.connected.load(Relaxed) && !self.connected.swap(true, Relaxed) {
            let line = format!("{}: connected", node.endpoint());
            self.notices.push(Event::Connected, line);
        }
    }

    /// What concerns all stores and nobody has reported yet.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.take();
        if let Topology::Sentinel(sentinels) = &self.topology {
            notices.append(&mut sentinels.notices.take());
        }
        notices
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
        self.invalidation.cache()
    }

    /// A namespace's view of the near cache, whose copies may take `budget` bytes in all.
    pub(crate) fn near(
        &self,
        prefix: &str,
        budget: usize,
        counters: StoreCounters,
    ) -> near_cache::Namespace {
        let cache = self.invalidation.cache_or_new(&self.counters);
        let namespace = near_cache::Namespace::new(cache, prefix.as_bytes(), budget, counters);
        self.invalidation.notify();
        namespace
    }

    /// Keeps the near cache right from now on.
    pub(crate) fn track(&self, notices: &Arc<Notices>) {
        if !self.invalidation.is_due() {
            return;
        }
        if let Topology::Cluster(cluster) = &self.topology {
            self.invalidation.begin_all(cluster, notices);
        } else if let Some(node) = self.topology.nodes().first() {
            self.invalidation.begin(node, notices);
        }
    }

    /// What the local copies of its values take, if any store over it has some.
    #[must_use]
    pub fn copies(&self) -> Option<near_cache::Held> {
        self.near_cache().map(|cache| cache.held())
    }

    /// What it counts, by the name of its server.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// How many connections are open and how busy they are.
    #[must_use]
    pub fn load(&self) -> Load {
        let nodes = self.topology.nodes();
        Load {
            connections: nodes.iter().map(|node| node.pool.permits.taken()).sum(),
            busy: nodes.iter().map(|node| node.busy()).sum(),
            in_flight: nodes.iter().map(|node| node.in_flight()).sum(),
            retries: self.counters.counted(ServerCount::Retries),
            breaker_open: nodes.iter().any(|node| node.breaker.is_open()),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // It would end by itself after its sleep, and keep the memory of this set until then.
        if let Some(task) = self.maintenance.get() {
            task.abort();
        }
    }
}

/// The error that ended an operation; where the first commands of the request were answered, only
/// for the rest: what was done is not said to be unknown because of what followed it.
fn unless_done(mut kept: Vec<Reply>, request: &Request, error: Error) -> Result<Vec<Reply>> {
    if kept.is_empty() {
        return Err(error);
    }
    kept.resize(request.replies, Reply::Lost(error));
    Ok(kept)
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

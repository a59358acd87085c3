//! A Redis client for this job. It knows requests and replies as bytes, and no JSON, no host, no Python.
//!
//! `Connections::send` is the only way out of this process. In layer order, as in [`crate`]:
//!
//! - [`connections_per_process`]: one set of connections for all stores of the process that name the same servers
//! - [`metrics_samples`]: samples of the servers and of what each namespace takes, for metrics
//! - [`durability`]: the barrier behind `index_done_callback`
//! - [`tracking_connection`]: what the server says of changed keys, for the near cache
//! - [`breaker_and_idle_probes`]: what the breaker counts, the probes of servers that are away, the care of idle connections
//! - [`transaction`]: commands of which all take effect at once, or none
//! - [`retry_loop`]: the loop that sends a request until it is answered, how often
//! - [`topology`]: which server a request goes to: one server, the slots of a cluster, the master that sentinels name
//! - [`node`]: one server, and one attempt at it
//! - [`direct_connections`]: those that a caller's own thread drives
//! - [`pool`]: the connections to one server
//! - [`connection`]: a pipelined connection, and whoever drives it
//! - [`connection_permits`]: how many sockets there may be
//! - [`circuit_breaker`]: callers fail at once while servers are away
//! - [`transport`]: sockets, TLS, the handshake
//! - [`protocol`]: the pipeline, requests, replies and RESP, without I/O
//! - [`deadline`]: until when a call may go on
//! - [`exit_backlog`]: work that no caller waits for and an ending process should not lose
//! - [`backoff`]: the pauses between attempts

mod backoff;
mod breaker_and_idle_probes;
mod circuit_breaker;
mod connection;
mod connection_permits;
mod connections_per_process;
pub(crate) mod deadline;
mod direct_connections;
pub(crate) mod durability;
mod exit_backlog;
mod metrics_samples;
mod node;
mod pool;
mod protocol;
mod retry_loop;
mod topology;
mod tracking_connection;
pub(crate) mod transaction;
mod transport;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use redis::RedisError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

use crate::config::ServerConfig;
use crate::error::Result;
use crate::log_events::{Notice, Notices};
use crate::metrics::{Counters, ServerCount, StoreCounters};
use crate::mutex::Mutex;
use crate::near_cache::{self, NearCache};
pub use connection::Connection;
pub use connections_per_process::SharedConnections;
pub use direct_connections::{DriveOutcome, Entered, Reactor};
use durability::Barrier;
pub(crate) use exit_backlog::Backlog;
pub use metrics_samples::{KeyspaceStats, NamespaceStats, ServerStats, keep_keyspace_stats};
pub(crate) use node::Node;
pub(crate) use protocol::request::{Commands, Request, command};
pub(crate) use protocol::resp_parser::{Reply, info_field, memory_usages};
use topology::Topology;
use tracking_connection::Invalidation;
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
    known: metrics_samples::KnownNamespaces,
    maintained: AtomicBool,
    /// The task that looks after idle connections, which sleeps for long.
    maintenance: OnceLock<AbortHandle>,
    seen: Mutex<HashSet<Vec<u8>>>,
    invalidation: Invalidation,
    barrier: Barrier,
    /// What takes a processor's time for long: no more at once than leave threads of the runtime to others.
    long_work: Semaphore,
}

/// Long work at once: the runtime has some more threads than twice that.
const LONG_WORKS: usize = 2;

impl Connections {
    /// Opens nothing: the first request does.
    #[must_use]
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            topology: Topology::new(&config),
            counters: Counters::of_server(&config.endpoint.to_string()),
            known: metrics_samples::KnownNamespaces::default(),
            notices: Notices::default(),
            connected: AtomicBool::new(false),
            maintained: AtomicBool::new(false),
            maintenance: OnceLock::new(),
            seen: Mutex::default(),
            invalidation: Invalidation::default(),
            barrier: Barrier::default(),
            long_work: Semaphore::new(LONG_WORKS),
            config,
        })
    }

    /// The turn of who is about to keep a thread of the runtime for long, until it is dropped.
    pub(crate) async fn turn_for_long_work(&self) -> Option<SemaphorePermit<'_>> {
        self.long_work.acquire().await.ok()
    }

    /// The servers that hold values.
    pub(crate) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        self.topology.primaries().await
    }

    /// One page of SCAN with these arguments after the cursor, over all keys of all servers; the
    /// number to go on with, 0 at the end, and what the server said.
    pub(crate) async fn scan(
        self: &Arc<Self>,
        place: u128,
        arguments: &[&[u8]],
    ) -> Result<(u128, Vec<Vec<u8>>)> {
        self.topology.scan(self, place, arguments).await
    }

    /// What concerns all stores and nobody has reported yet.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.take();
        notices.append(&mut self.topology.notices());
        notices
    }

    /// True the first time it is asked about `mark`: what concerns all stores is done by one.
    pub(crate) fn is_new(&self, mark: &[u8]) -> bool {
        self.seen.lock().insert(mark.to_vec())
    }

    /// Lets `mark` be asked about again.
    pub(crate) fn forget(&self, mark: &[u8]) {
        self.seen.lock().remove(mark);
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
        if let Some(cluster) = self.topology.cluster() {
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

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connections() -> Arc<Connections> {
        let mut config = ServerConfig::new("redis://localhost").unwrap();
        config.health_check_interval = Duration::from_secs(3_600);
        Connections::new(config)
    }

    #[test]
    fn what_one_has_done_for_all_is_done_again_once_it_is_forgotten() {
        let connections = connections();
        assert!(connections.is_new(b"a") && connections.is_new(b"b"));
        connections.forget(b"a");
        assert!(!connections.is_new(b"b") && connections.is_new(b"a"));
    }

    #[test]
    fn there_are_copies_once_a_store_has_asked_for_some() {
        let connections = connections();
        assert!(connections.near_cache().is_none() && connections.copies().is_none());
        let _namespace = connections.near("p:", 100, StoreCounters::new("docs"));
        assert_eq!(connections.copies().unwrap().budget, 100);
        assert!(connections.near_cache().is_some());
    }

    #[tokio::test]
    async fn idle_connections_are_not_looked_after_once_no_store_is_left() {
        let connections = connections();
        connections.maintain();
        let task = connections.maintenance.get().unwrap().clone();
        assert!(!task.is_finished());
        drop(connections);
        let ended = async {
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        ended.expect("it does not sleep on");
    }
}

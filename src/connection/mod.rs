//! One handle over the servers: pooled connections, deadlines, retries and the breaker.
//!
//! `Connections::send` is the only way out of this process. The [`topology`] says which server a
//! request goes to, a [`node`]. It travels over the caller's own [`lane`], which the caller's thread
//! drives, or over the [`pool`], which the runtime's threads do. A [`dialer`] opens the connections of
//! both: the socket, TLS, the login.

mod answer;
mod attempts;
mod backoff;
mod barrier;
mod breaker;
mod carrier;
mod census;
mod cluster;
mod dialer;
mod driver;
mod input;
mod lane;
mod lanes;
mod login;
mod logins;
mod node;
mod pool;
mod probing;
mod quota;
mod request;
mod resp;
mod scan;
mod sentinel;
mod shared;
mod socket;
mod stream;
mod tls;
mod topology;
mod tracking;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redis::RedisError;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::ServerConfig;
use crate::error::{Error, Result};
use crate::metrics::{Counters, ServerCount, StoreCounters};
use crate::near_cache::{self, NearCache};
use crate::notices::{Event, Notice, Notices};
pub(crate) use answer::Answer;
use attempts::Attempts;
use barrier::Barrier;
pub use census::{Census, Share, keep_census};
pub use driver::{Driven, Driver, Entered};
pub use lane::Lane;
pub(crate) use node::Node;
pub(crate) use request::{Commands, Request, command};
pub use shared::SharedConnections;
pub use socket::Waiting;
use topology::Topology;
use tracking::Tracking;

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
    /// What concerns all stores: whoever comes by first tells it.
    notices: Notices,
    connected: AtomicBool,
    known: census::Known,
    tended: AtomicBool,
    /// The task that looks after idle connections, which sleeps for long.
    tending: OnceLock<AbortHandle>,
    seen: Mutex<HashSet<Vec<u8>>>,
    tracking: Tracking,
    barrier: Barrier,
}

impl Connections {
    /// Opens nothing: the first request does.
    #[must_use]
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            topology: Topology::new(&config),
            counters: Counters::of_server(&config.endpoint.to_string()),
            known: census::Known::default(),
            notices: Notices::default(),
            connected: AtomicBool::new(false),
            tended: AtomicBool::new(false),
            tending: OnceLock::new(),
            seen: Mutex::default(),
            tracking: Tracking::default(),
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
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Vec<Answer>> {
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
                self.tend();
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
    ) -> Result<Vec<Answer>> {
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
    ) -> Result<Vec<Answer>> {
        self.tend();
        let mut attempts = Attempts::new(&self.config);
        let mut kept = Vec::new();
        loop {
            let node = match self.find(fixed, attempts.deadline).await {
                Ok(node) => node,
                Err(error) => {
                    let Some(pause) = attempts.pause_after_failure(error.is_outage()) else {
                        self.count_failure(self.topology.entry(), error.is_outage());
                        return unless_done(kept, request, attempts.ended_by(error));
                    };
                    self.count_retry();
                    sleep(pause).await;
                    continue;
                }
            };
            if attempts.failed == 0 && node.breaker.is_open() {
                return Err(attempts.ended_by(node.refused()));
            }
            let sent = Instant::now();
            let mut failed = match node.attempt(request, attempts.deadline).await {
                Ok(answers) if self.topology.is_demoted(&node, &answers) => {
                    let Some(pause) = attempts.pause_after_failure(true) else {
                        let answers = answers.into_iter();
                        return Ok(answers
                            .map(|answer| match sentinel::refusal(&node, &answer) {
                                Some(error) => Answer::Lost(attempts.ended_by(error)),
                                None => answer,
                            })
                            .collect());
                    };
                    self.count_retry();
                    sleep(pause).await;
                    continue;
                }
                Ok(answers) if self.topology.believes(&node, sent).await => {
                    node.answered();
                    self.note_connected(&node);
                    let answers = answers.into_iter();
                    return Ok(answers.map(|answer| attempts.answered(answer)).collect());
                }
                Ok(_) => sentinel::disowned(),
                Err(failed) => failed,
            };
            self.topology.failed(&node, &failed);
            if failed.answers.len() > kept.len() && self.topology.believes(&node, sent).await {
                kept = std::mem::take(&mut failed.answers);
            }
            let Some(pause) = attempts.pause_after(request.resendable, &failed) else {
                let error = attempts.give_up(&node.config, request.resendable, &failed);
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

    /// What concerns all stores and nobody has been told yet.
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
        self.tracking.cache()
    }

    /// A namespace's view of the near cache, whose copies may take `budget` bytes in all.
    pub(crate) fn near(
        &self,
        prefix: &str,
        budget: usize,
        counters: StoreCounters,
    ) -> near_cache::Namespace {
        let cache = self.tracking.cache_or_new(&self.counters);
        let namespace = near_cache::Namespace::new(cache, prefix.as_bytes(), budget, counters);
        self.tracking.ring();
        namespace
    }

    /// Keeps the near cache right from now on.
    pub(crate) fn track(&self, notices: &Arc<Notices>) {
        if !self.tracking.is_due() {
            return;
        }
        if let Topology::Cluster(cluster) = &self.topology {
            self.tracking.begin_all(cluster, notices);
        } else if let Some(node) = self.topology.nodes().first() {
            self.tracking.begin(node, notices);
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
            connections: nodes.iter().map(|node| node.quota.taken()).sum(),
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
        if let Some(task) = self.tending.get() {
            task.abort();
        }
    }
}

/// The error that ended an operation; where the first commands of the request were answered, only
/// for the rest: what was done is not said to be unknown because of what followed it.
fn unless_done(mut kept: Vec<Answer>, request: &Request, error: Error) -> Result<Vec<Answer>> {
    if kept.is_empty() {
        return Err(error);
    }
    kept.resize(request.answers, Answer::Lost(error));
    Ok(kept)
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

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
mod quota;
mod request;
mod resp;
mod sentinel;
mod shared;
mod socket;
mod stream;
mod tls;
mod topology;
mod tracking;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::RedisError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::ServerConfig;
use crate::error::{Error, Kind, Result};
use crate::metrics::{Counters, ServerCount, StoreCounters};
use crate::near_cache::{self, NearCache};
use crate::notices::{Event, Notice, Notices};
pub(crate) use answer::Answer;
use attempts::Attempts;
use backoff::jitter;
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

/// First pause between two probes of an unreachable server.
const FIRST_PROBE: Duration = Duration::from_millis(20);

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
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Vec<Answer>> {
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
        self.persist(Some(node), request).await
    }

    /// One page of SCAN with these arguments after the cursor, over all keys of all servers; the
    /// number to go on with, 0 at the end, and what the server said.
    pub(crate) async fn scan(
        self: &Arc<Self>,
        place: u128,
        arguments: &[&[u8]],
    ) -> Result<(u128, Vec<Vec<u8>>)> {
        let cluster = match &self.topology {
            Topology::Cluster(cluster) => cluster,
            Topology::One(_) => {
                let cursor = u64::try_from(place).unwrap_or(0);
                let page = self.send(&scan_from(cursor, arguments)).await?;
                return read_page(page).map(|(cursor, keys)| (cursor.into(), keys));
            }
            Topology::Sentinel(sentinels) => loop {
                // A cursor means something to the server that gave it: another is begun with anew.
                let term = sentinels.term();
                let cursor = sentinel::cursor(place, term);
                let page = read_page(self.send(&scan_from(cursor, arguments)).await?)?;
                if sentinels.term() == term {
                    return Ok((sentinel::place(page.0, term), page.1));
                }
            },
        };
        let (place, node) = cluster.place(place).await?;
        let (mut cursor, mut keys) = (0, Vec::new());
        if let Some(node) = node {
            match self
                .send_to(&node, &scan_from(place.cursor, arguments))
                .await
            {
                Ok(page) => (cursor, keys) = read_page(page)?,
                // Who has its slots now is walked over in the next round.
                Err(error) if error.found_no_server() && cluster.has_lost(&node).await? => {}
                Err(error) => return Err(error),
            }
        }
        Ok((cluster.next(place, cursor).await?, keys))
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
                        return Ok(answers); // it refuses, and there is no other
                    };
                    self.count_retry();
                    sleep(pause).await;
                    continue;
                }
                Ok(answers) if self.topology.believes(&node, sent).await => {
                    node.answered();
                    self.note_connected(&node);
                    return Ok(answers);
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

    /// An operation failed; the breaker counts those that found no server.
    fn count_failure(self: &Arc<Self>, node: &Arc<Node>, outage: bool) {
        if !outage {
            node.breaker.answered();
        } else if node.breaker.failed() {
            self.counters.count(ServerCount::BreakerOpened, 1);
            let line = format!(
                "{}: calls fail at once from now on, since several in a row found no server; it is probed, and they pass again as soon as it answers",
                node.endpoint()
            );
            self.notices.push(Event::BreakerOpen, line);
            tokio::spawn(Self::probe_until_back(Arc::clone(self), Arc::clone(node)));
        }
    }

    /// Pings until the server answers, then closes its breaker. Ends when no store is left, or the
    /// server is none of them any more.
    async fn probe_until_back(connections: Arc<Self>, node: Arc<Node>) {
        let recovery = connections.config.breaker_recovery;
        let (connections, node) = (Arc::downgrade(&connections), Arc::downgrade(&node));
        let mut pause = FIRST_PROBE.min(recovery);
        loop {
            sleep(pause.mul_f64(jitter())).await;
            let (Some(connections), Some(node)) = (connections.upgrade(), node.upgrade()) else {
                return;
            };
            if connections.topology.is_back(&node).await {
                node.breaker.close();
                connections.counters.count(ServerCount::BreakerClosed, 1);
                let line = format!("{}: the server answers, calls pass again", node.endpoint());
                connections.notices.push(Event::BreakerClosed, line);
                return;
            }
            pause = (pause * 2).min(recovery);
        }
    }

    /// Looks after idle connections for as long as a store uses them.
    fn tend(self: &Arc<Self>) {
        // Loaded first: the line stays shared between cores.
        if self.tended.load(Relaxed) || self.tended.swap(true, Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        let interval = self.config.health_check_interval;
        if interval.is_zero() {
            return;
        }
        tokio::spawn(async move {
            loop {
                sleep(interval).await;
                let Some(connections) = weak.upgrade() else {
                    return;
                };
                connections.topology.tend().await;
            }
        });
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

/// The error that ended an operation; where the first commands of the request were answered, only
/// for the rest: what was done is not said to be unknown because of what followed it.
fn unless_done(mut kept: Vec<Answer>, request: &Request, error: Error) -> Result<Vec<Answer>> {
    if kept.is_empty() {
        return Err(error);
    }
    kept.resize(request.answers, Answer::Lost(error));
    Ok(kept)
}

fn scan_from(cursor: u64, arguments: &[&[u8]]) -> Request {
    let cursor = cursor.to_string();
    let arguments = std::iter::once(cursor.as_bytes()).chain(arguments.iter().copied());
    Request::resendable([command("SCAN", arguments)])
}

fn read_page(answers: Vec<Answer>) -> Result<(u64, Vec<Vec<u8>>)> {
    let page = answers.into_iter().next().unwrap_or_default().value()?;
    redis::from_redis_value(page).map_err(|_| {
        let message = "the server answered SCAN with another type: is it a Redis server?";
        Error::new(Kind::Operation, message)
    })
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

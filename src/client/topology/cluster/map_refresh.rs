//! The cluster's map, kept up to date: who is asked for it, how often, and how long each is waited for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::hash_slot::slot_of;
use super::scan_cursor;
use super::server_trust::{ServerView, TrustedView};
use super::slot_map::SlotMap;
use crate::client::Reply;
use crate::client::node::Node;
use crate::client::protocol::request::{Request, command};
use crate::client::topology::shared_refresh::Refresh;
use crate::client::transport::auth_limiter::AuthLimiter;
use crate::config::ServerConfig;
use crate::config::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use crate::mutex::Mutex;

/// Least time between two questions for the map that nobody waits for.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one server is waited for before another is asked as well.
const PATIENCE: Duration = Duration::from_millis(250);

/// Keys that are tried to find one of a node: it is found after as many as there are nodes, as a
/// rule, and never where the beginning has a hash tag.
const TRIES: u32 = 16_384;

pub(in crate::client) struct Cluster {
    pub(super) config: ServerConfig,
    pub(super) map: Mutex<Arc<SlotMap>>,
    pub(super) refreshing: Refresh<()>,
    /// When the servers were asked for the map last.
    pub(super) refreshed: Mutex<Option<Instant>>,
    pub(super) scans: scan_cursor::Scans,
    /// At servers that are asked for the map only, from one look to the next.
    pub(super) auth_limiter: Mutex<HashMap<Endpoint, Arc<AuthLimiter>>>,
    /// How the map was known that is in use.
    pub(super) trusted: Mutex<TrustedView>,
    /// Servers that have refused commands since the last check, since for them the cluster is down.
    pub(super) suspected: Mutex<HashSet<Endpoint>>,
    /// Says that the map has changed.
    pub(super) changes: watch::Sender<()>,
    /// Called with the highest number of a server when there is one more, before anybody can ask it.
    pub(super) on_new_server: OnceLock<Box<dyn Fn(u32) + Send + Sync>>,
    /// Stands for the cluster while it has no map: its breaker counts in vain asked seeds.
    pub(super) entry: Arc<Node>,
}

impl Cluster {
    pub(in crate::client) fn new(config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::new(Arc::new(SlotMap::unknown())),
            refreshing: Refresh::default(),
            refreshed: Mutex::default(),
            scans: scan_cursor::Scans::default(),
            auth_limiter: Mutex::default(),
            trusted: Mutex::default(),
            suspected: Mutex::default(),
            changes: watch::Sender::default(),
            on_new_server: OnceLock::new(),
            entry: Node::new(config.clone()),
            config: config.clone(),
        })
    }

    /// The map as it is known, which is asked for at first.
    pub(super) async fn map(self: &Arc<Self>) -> Result<Arc<SlotMap>> {
        let map = self.known();
        if map.version > 0 {
            return Ok(map);
        }
        self.refresh().await?;
        Ok(self.known())
    }

    pub(super) fn known(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.lock())
    }

    /// The servers that are known.
    pub(in crate::client) fn nodes(&self) -> Vec<Arc<Node>> {
        self.known().nodes().to_vec()
    }

    /// Those that have slots.
    pub(in crate::client) async fn primaries(self: &Arc<Self>) -> Result<Vec<Arc<Node>>> {
        Ok(self.map().await?.primaries())
    }

    /// A key that begins so and belongs to a slot of this node; None if there is none.
    pub(in crate::client) fn key_on(&self, node: &Arc<Node>, beginning: &[u8]) -> Option<Vec<u8>> {
        let map = self.known();
        let numbered = |number: u32| [beginning, b":", number.to_string().as_bytes()].concat();
        (0..TRIES).map(numbered).find(|key| {
            let owner = map.owner(slot_of(key));
            owner.is_some_and(|owner| Arc::ptr_eq(owner, node))
        })
    }

    /// What stands for the cluster where no server of it is known.
    pub(in crate::client) fn entry(&self) -> &Arc<Node> {
        &self.entry
    }

    /// Whether calls to this node may pass again.
    pub(in crate::client) async fn has_recovered(self: &Arc<Self>, node: &Arc<Node>) -> bool {
        let refreshed = self.refresh().await.is_ok();
        if Arc::ptr_eq(node, &self.entry) {
            return refreshed;
        }
        node.answers_ping().await
    }

    /// Has the map asked for now, and waits until that is done.
    pub(in crate::client) async fn refresh(self: &Arc<Self>) -> Result<()> {
        let limit = self.config.operation_timeout;
        let asked = self.ask_after(Duration::ZERO);
        self.refreshing.answer(asked, limit).await
    }

    /// Has the map asked for, not too often: many may find that it is old.
    pub(in crate::client) fn refresh_soon(self: &Arc<Self>) {
        self.refreshing.begin(self.ask_after(PAUSE));
    }

    /// Asks for the map, so long after it was asked for last.
    fn ask_after(
        self: &Arc<Self>,
        pause: Duration,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let cluster = Arc::clone(self);
        async move {
            let last = *cluster.refreshed.lock();
            if let Some(last) = last {
                sleep_until(last + pause).await;
            }
            let asked = cluster.query_servers().await;
            *cluster.refreshed.lock() = Some(Instant::now());
            asked
        }
    }

    /// Asks one server after the other, and the next ones too while the first keep silent, until one
    /// gives an answer beyond doubt. Of doubtful answers, those of all servers are compared.
    async fn query_servers(&self) -> Result<()> {
        let trusted = self.trusted.lock().clone();
        let mut candidates = VecDeque::from(self.candidates());
        let mut met: HashSet<_> = candidates
            .iter()
            .map(|node| node.endpoint().clone())
            .collect();
        let mut asked = FuturesUnordered::new();
        let mut best: Option<ServerView> = None;
        let mut failure = Error::new(Kind::Unavailable, "the cluster has no server to ask");
        loop {
            let at_once = if best.is_some() { candidates.len() } else { 1 };
            let next = candidates.drain(..at_once.min(candidates.len()));
            asked.extend(next.map(|node| self.ask(node)));
            let more = !candidates.is_empty();
            let patience = if more || best.is_some() {
                PATIENCE
            } else {
                Duration::MAX
            };
            match timeout(patience, asked.next()).await {
                Ok(Some(Ok(view))) if view.is_certain(&trusted) => {
                    self.learn(view);
                    return Ok(());
                }
                Ok(Some(Ok(view))) => {
                    for endpoint in view.endpoints() {
                        if met.insert(endpoint.clone()) {
                            candidates.push_back(Node::new(self.config.at(endpoint.clone())));
                        }
                    }
                    best = Some(view.or(best, &trusted));
                }
                Ok(Some(Err(error))) => failure = error,
                Ok(None) | Err(_) if !more => break,
                Ok(None) | Err(_) => {}
            }
        }
        let view = best.ok_or(failure)?;
        if !view.is_worse_than(&trusted) {
            self.learn(view);
        }
        Ok(())
    }

    /// Whom to ask: primaries first, of those the ones that were not missed lately.
    fn candidates(&self) -> Vec<Arc<Node>> {
        let map = self.known();
        let mut candidates = map.nodes().to_vec();
        let suspected = self.suspected.lock().clone();
        candidates
            .sort_by_key(|node| (suspected.contains(node.endpoint()), node.breaker.is_open()));
        let others = map.replicas().iter().chain([&self.config.endpoint]);
        let mut before = self.auth_limiter.lock();
        let mut auth_limiter = HashMap::new();
        for endpoint in others.chain(&self.config.seeds) {
            if candidates.iter().all(|node| node.endpoint() != endpoint) {
                let own = before.remove(endpoint).unwrap_or_default();
                auth_limiter.insert(endpoint.clone(), Arc::clone(&own));
                let config = self.config.at(endpoint.clone());
                candidates.push(Node::with_auth_limiter(config, own));
            }
        }
        *before = auth_limiter;
        candidates
    }

    async fn ask(&self, node: Arc<Node>) -> Result<ServerView> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let cluster = |what: &str| command("CLUSTER", [what.as_bytes()]);
        let slots = Request::resendable([cluster("SLOTS"), cluster("INFO")]);
        let refused = |error: &RedisError| {
            let error = Error::from_redis(error);
            Error::new(error.kind(), format!("{}: {error}", node.endpoint()))
        };
        let replies = node.attempt(&slots, deadline).await;
        let replies = replies.map_err(|failed| refused(&failed.error))?;
        let mut replies = replies.into_iter();
        let reply = match replies.next() {
            Some(Reply::Other(Value::ServerError(error))) => {
                if error
                    .details()
                    .is_some_and(|said| said.contains("cluster support disabled"))
                {
                    let message = format!(
                        "{}: redis_cluster is on, and this server is of no cluster",
                        node.endpoint()
                    );
                    return Err(Error::new(Kind::Config, message));
                }
                return Err(refused(&error.into()));
            }
            Some(Reply::Other(value)) => value,
            _ => Value::Nil,
        };
        let info = replies.next().unwrap_or_default().value();
        let info = info.unwrap_or(Value::Nil); // not permitted
        let suspected = self.suspected.lock().contains(node.endpoint());
        let view = ServerView::read(reply, &info, node.endpoint(), suspected);
        view.filter(|view| !view.ranges.is_empty()).ok_or_else(|| {
            refused(&RedisError::from((
                ErrorKind::Parse,
                "a cluster without slots",
            )))
        })
    }

    fn learn(&self, view: ServerView) {
        *self.trusted.lock() = view.trusted();
        self.suspected.lock().clear();
        let ranges = view.ranges;
        let mut map = self.map.lock();
        let next = map.next(&self.config, ranges);
        if !next.changes_nothing() {
            self.install(&mut map, next);
        }
    }

    fn install(&self, map: &mut Arc<SlotMap>, next: SlotMap) {
        if next.last_number() > map.last_number()
            && let Some(callback) = self.on_new_server.get()
        {
            callback(next.last_number());
        }
        *map = Arc::new(next);
        self.changes.send_replace(());
    }

    /// Has this called when there is a server more; once, by who is first.
    pub(in crate::client) fn on_new_server(&self, callback: impl Fn(u32) + Send + Sync + 'static) {
        let _ = self.on_new_server.set(Box::new(callback));
    }

    /// Rings when the map has changed.
    pub(in crate::client) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The servers that are known, each with its number, and the highest number there has been.
    pub(in crate::client) fn servers(&self) -> (u32, Vec<(u32, Arc<Node>)>) {
        let map = self.known();
        let servers = map
            .numbered_nodes()
            .map(|(number, node)| (number, Arc::clone(node)));
        (map.last_number(), servers.collect())
    }

    /// Servers have said where slots are now.
    pub(super) fn moved(self: &Arc<Self>, slots: &[(u16, Endpoint)]) {
        let mut map = self.map.lock();
        let next = map.moved(&self.config, slots);
        self.install(&mut map, next);
        drop(map);
        self.refresh_soon();
    }

    /// The server at a place that another has named.
    pub(super) fn at(&self, endpoint: &Endpoint) -> Arc<Node> {
        let mut map = self.map.lock();
        if let Some(node) = map.at(endpoint) {
            return Arc::clone(node);
        }
        let (next, node) = map.with(&self.config, endpoint);
        self.install(&mut map, next);
        node
    }

    /// For this server the cluster is down: another is to be asked who has its slots.
    pub(super) fn suspect(&self, node: &Node) {
        self.suspected.lock().insert(node.endpoint().clone());
    }
}

#[cfg(test)]
pub(super) mod tests;

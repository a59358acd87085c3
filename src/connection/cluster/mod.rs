//! A Redis Cluster: its map, kept up to date, and the way of each command to the primary of its
//! slot.
//!
//! Nothing here is the redis crate's cluster client: over nodes of our own, lanes, deadlines, what is
//! sent once and whose answers were lost are what they are with one server.

mod map;
mod redirect;
mod route;
mod slot;
mod slot_states;
mod view;
mod walk;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Answer;
use super::logins::Logins;
use super::node::Node;
use super::request::{Request, command};
use crate::config::ServerConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use map::Map;
use slot::slot_of;
use view::{Believed, View};

/// Least time between two questions for the map that nobody waits for.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one server is waited for before another is asked as well.
const PATIENCE: Duration = Duration::from_millis(250);

/// Keys that are tried to find one of a node: it is found after as many as there are nodes, as a
/// rule, and never where the beginning has a hash tag.
const TRIES: u32 = 16_384;

/// What a question for the map has come to; None while it is under way.
type Outcome = Option<Result<(), Error>>;

pub(super) struct Cluster {
    config: ServerConfig,
    map: RwLock<Arc<Map>>,
    looking: Mutex<Looking>,
    walks: walk::Walks,
    /// At servers that are asked for the map only, from one look to the next.
    logins: Mutex<HashMap<Endpoint, Arc<Logins>>>,
    /// How the map was known that is in use.
    believed: Mutex<Believed>,
    /// Servers that have refused commands since the last look, since for them the cluster is down.
    suspected: Mutex<HashSet<Endpoint>>,
    /// Says that the map has changed.
    changes: watch::Sender<()>,
    /// Called with the highest number of a server when there is one more, before anybody can ask it.
    on_new_server: OnceLock<Box<dyn Fn(u32) + Send + Sync>>,
    /// Stands for the cluster while it has no map: its breaker counts in vain asked seeds.
    entry: Arc<Node>,
}

#[derive(Default)]
struct Looking {
    outcome: Option<watch::Receiver<Outcome>>,
    last: Option<Instant>,
}

impl Cluster {
    pub(super) fn new(config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            map: RwLock::new(Arc::new(Map::unknown())),
            looking: Mutex::default(),
            walks: walk::Walks::default(),
            logins: Mutex::default(),
            believed: Mutex::default(),
            suspected: Mutex::default(),
            changes: watch::Sender::default(),
            on_new_server: OnceLock::new(),
            entry: Node::new(config.clone()),
            config: config.clone(),
        })
    }

    /// The map as it is known, which is asked for at first.
    async fn map(self: &Arc<Self>) -> Result<Arc<Map>> {
        let map = self.known();
        if map.version > 0 {
            return Ok(map);
        }
        self.look().await?;
        Ok(self.known())
    }

    fn known(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The servers that are known.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.known().nodes().to_vec()
    }

    /// Those that have slots.
    pub(super) async fn primaries(self: &Arc<Self>) -> Result<Vec<Arc<Node>>> {
        Ok(self.map().await?.primaries())
    }

    /// A key that begins so and belongs to a slot of this node; None if there is none.
    pub(super) fn key_on(&self, node: &Arc<Node>, beginning: &[u8]) -> Option<Vec<u8>> {
        let map = self.known();
        let numbered = |number: u32| [beginning, b":", number.to_string().as_bytes()].concat();
        (0..TRIES).map(numbered).find(|key| {
            let owner = map.owner(slot_of(key));
            owner.is_some_and(|owner| Arc::ptr_eq(owner, node))
        })
    }

    /// What stands for the cluster where no server of it is known.
    pub(super) fn entry(&self) -> &Arc<Node> {
        &self.entry
    }

    /// Whether calls to this node may pass again.
    pub(super) async fn is_back(self: &Arc<Self>, node: &Arc<Node>) -> bool {
        let looked = self.look().await.is_ok();
        if Arc::ptr_eq(node, &self.entry) {
            return looked;
        }
        node.answers_ping().await
    }

    /// Has the map asked for now, and waits until that is done.
    pub(super) async fn look(self: &Arc<Self>) -> Result<()> {
        let mut outcome = self.begin_look(Duration::ZERO);
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::new(
                Kind::Unavailable,
                "the look for the cluster was broken off",
            )),
        }
    }

    /// Has the map asked for, not too often: many may find that it is old.
    pub(super) fn look_soon(self: &Arc<Self>) {
        self.begin_look(PAUSE);
    }

    /// Has the map asked for once, however many want it.
    fn begin_look(self: &Arc<Self>, pause: Duration) -> watch::Receiver<Outcome> {
        let mut looking = self.looking();
        if let Some(outcome) = &looking.outcome {
            return outcome.clone();
        }
        let (done, outcome) = watch::channel(None);
        looking.outcome = Some(outcome.clone());
        let not_before = looking.last.map(|last| last + pause);
        drop(looking);
        let cluster = Arc::clone(self);
        // On the runtime: who wanted it may be cancelled, or its loop kept by other work.
        tokio::spawn(async move {
            if let Some(moment) = not_before {
                sleep_until(moment).await;
            }
            let looked = cluster.ask_around().await;
            let mut looking = cluster.looking();
            looking.last = Some(Instant::now());
            looking.outcome = None;
            drop(looking);
            let _ = done.send(Some(looked)); // nobody may wait
        });
        outcome
    }

    /// Asks one server after the other, and the next ones too while the first keep silent, until one
    /// gives an answer beyond doubt. Of doubtful answers, those of all servers are compared.
    async fn ask_around(&self) -> Result<()> {
        let believed = self.believed().clone();
        let mut candidates = VecDeque::from(self.candidates());
        let mut met: HashSet<_> = candidates
            .iter()
            .map(|node| node.endpoint().clone())
            .collect();
        let mut asked = FuturesUnordered::new();
        let mut best: Option<View> = None;
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
                Ok(Some(Ok(view))) if view.is_certain(&believed) => {
                    self.learn(view);
                    return Ok(());
                }
                Ok(Some(Ok(view))) => {
                    for endpoint in view.endpoints() {
                        if met.insert(endpoint.clone()) {
                            candidates.push_back(Node::new(self.config.at(endpoint.clone())));
                        }
                    }
                    best = Some(view.or(best, &believed));
                }
                Ok(Some(Err(error))) => failure = error,
                Ok(None) | Err(_) if !more => break,
                Ok(None) | Err(_) => {}
            }
        }
        let view = best.ok_or(failure)?;
        if !view.is_worse_than(&believed) {
            self.learn(view);
        }
        Ok(())
    }

    /// Whom to ask: primaries first, of those the ones that were not missed lately.
    fn candidates(&self) -> Vec<Arc<Node>> {
        let map = self.known();
        let mut candidates = map.nodes().to_vec();
        let suspected = self.suspected().clone();
        candidates
            .sort_by_key(|node| (suspected.contains(node.endpoint()), node.breaker.is_open()));
        let others = map.replicas().iter().chain([&self.config.endpoint]);
        let mut before = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut logins = HashMap::new();
        for endpoint in others.chain(&self.config.seeds) {
            if candidates.iter().all(|node| node.endpoint() != endpoint) {
                let own = before.remove(endpoint).unwrap_or_default();
                logins.insert(endpoint.clone(), Arc::clone(&own));
                let config = self.config.at(endpoint.clone());
                candidates.push(Node::with_logins(config, own));
            }
        }
        *before = logins;
        candidates
    }

    async fn ask(&self, node: Arc<Node>) -> Result<View> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let cluster = |what: &str| command("CLUSTER", [what.as_bytes()]);
        let slots = Request::resendable([cluster("SLOTS"), cluster("INFO")]);
        let refused = |error: &RedisError| {
            let error = Error::from_redis(error);
            Error::new(error.kind(), format!("{}: {error}", node.endpoint()))
        };
        let answers = node.attempt(&slots, deadline).await;
        let answers = answers.map_err(|failed| refused(&failed.error))?;
        let mut answers = answers.into_iter();
        let answer = match answers.next() {
            Some(Answer::Other(Value::ServerError(error))) => {
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
            Some(Answer::Other(value)) => value,
            _ => Value::Nil,
        };
        let info = answers.next().unwrap_or_default().value();
        let info = info.unwrap_or(Value::Nil); // not permitted
        let suspected = self.suspected().contains(node.endpoint());
        let view = View::read(answer, &info, node.endpoint(), suspected);
        view.filter(|view| !view.ranges.is_empty()).ok_or_else(|| {
            refused(&RedisError::from((
                ErrorKind::Parse,
                "a cluster without slots",
            )))
        })
    }

    fn learn(&self, view: View) {
        *self.believed() = view.believed();
        self.suspected().clear();
        let ranges = view.ranges;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let next = map.next(&self.config, ranges);
        if !next.changes_nothing() {
            self.install(&mut map, next);
        }
    }

    fn install(&self, map: &mut Arc<Map>, next: Map) {
        if next.last_number() > map.last_number()
            && let Some(told) = self.on_new_server.get()
        {
            told(next.last_number());
        }
        *map = Arc::new(next);
        self.changes.send_replace(());
    }

    /// Has this called when there is a server more; once, by who is first.
    pub(super) fn on_new_server(&self, told: impl Fn(u32) + Send + Sync + 'static) {
        let _ = self.on_new_server.set(Box::new(told));
    }

    /// Rings when the map has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The servers that are known, each with its number, and the highest number there has been.
    pub(super) fn servers(&self) -> (u32, Vec<(u32, Arc<Node>)>) {
        let map = self.known();
        let servers = map
            .numbered_nodes()
            .map(|(number, node)| (number, Arc::clone(node)));
        (map.last_number(), servers.collect())
    }

    /// Servers have said where slots are now.
    fn moved(self: &Arc<Self>, slots: &[(u16, Endpoint)]) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let next = map.moved(&self.config, slots);
        self.install(&mut map, next);
        drop(map);
        self.look_soon();
    }

    /// The server at a place that another has named.
    fn at(&self, endpoint: &Endpoint) -> Arc<Node> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = map.at(endpoint) {
            return Arc::clone(node);
        }
        let (next, node) = map.with(&self.config, endpoint);
        self.install(&mut map, next);
        node
    }

    /// For this server the cluster is down: another is to be asked who has its slots.
    fn suspect(&self, node: &Node) {
        self.suspected().insert(node.endpoint().clone());
    }

    fn suspected(&self) -> MutexGuard<'_, HashSet<Endpoint>> {
        let suspected = self.suspected.lock();
        suspected.unwrap_or_else(PoisonError::into_inner)
    }

    fn believed(&self) -> MutexGuard<'_, Believed> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looking(&self) -> MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

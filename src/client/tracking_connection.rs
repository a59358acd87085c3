//! The tracking connection: the server tells over it which keys have changed.
//!
//! It is a connection of its own, since values travel over several. Broadcasting mode is asked for,
//! so the server remembers prefixes, not the keys each client has read.
//! <https://redis.io/docs/latest/develop/reference/client-side-caching/>

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::select;
use redis::{Cmd, PushKind, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::breaker_and_idle_probes::FIRST_PROBE;
use super::connection::OwnConnection;
use super::node::Node;
use super::protocol::pipeline::Pipeline;
use super::topology::cluster::Cluster;
use super::transport::connector::Connector;
use super::{Reply, Request, command};
use crate::config::ServerConfig;
use crate::error::Error;
use crate::log_events::{Event, Notices};
use crate::metrics::Counters;
use crate::mutex::Mutex;
use crate::near_cache::{NearCache, ONE_SERVER, Prefix};

/// Pause before a server that refused to track is asked again: someone may have allowed it.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Connections in a row that were opened and ended again before it is told that there is no cache.
const HUNG_UP: u32 = 3;

/// Longest pause between two questions to a server of a cluster whether it still has its slots: it
/// may have been cut off from the others.
const CLUSTER_PAUSE: Duration = Duration::from_millis(500);

/// The near cache of a set of connections, and what keeps it right. Costs nothing until a store
/// asks for it.
#[derive(Default)]
pub(super) struct Invalidation {
    cache: OnceLock<Arc<NearCache>>,
    begun: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
    /// Rung when a prefix was added.
    wake: watch::Sender<()>,
}

impl Invalidation {
    pub(super) fn cache(&self) -> Option<&Arc<NearCache>> {
        self.cache.get()
    }

    pub(super) fn cache_or_new(&self, counters: &Arc<Counters>) -> &Arc<NearCache> {
        self.cache
            .get_or_init(|| Arc::new(NearCache::new(Arc::clone(counters))))
    }

    /// Whether it is to begin: true for one caller.
    pub(super) fn is_due(&self) -> bool {
        !self.begun.load(Relaxed) && !self.begun.swap(true, Relaxed)
    }

    /// Tracks what stores have asked for, from now on. What goes wrong is reported once.
    pub(super) fn begin(&self, node: &Node, notices: &Arc<Notices>) {
        if let Some(subscription) = self.subscription(notices) {
            let listener = subscription.listener(ONE_SERVER, node, None);
            self.run(listener.keep_on());
        }
    }

    /// Tracks what stores have asked for on every server of a cluster, as they come and go.
    pub(super) fn begin_all(&self, cluster: &Arc<Cluster>, notices: &Arc<Notices>) {
        if let Some(subscription) = self.subscription(notices) {
            let cache = Arc::clone(&subscription.cache);
            cluster.on_new_server(move |generation| cache.suspend(generation));
            self.run(subscription.follow(Arc::clone(cluster)));
        }
    }

    fn subscription(&self, notices: &Arc<Notices>) -> Option<Subscription> {
        Some(Subscription {
            cache: Arc::clone(self.cache()?),
            wake: self.wake.subscribe(),
            notices: Arc::clone(notices),
            reported: Arc::default(),
        })
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task).abort_handle();
        *self.task.lock() = Some(task);
    }

    /// A prefix may have been added.
    pub(super) fn notify(&self) {
        self.wake.send_replace(());
    }
}

impl Drop for Invalidation {
    fn drop(&mut self) {
        let mut task = self.task.lock();
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

/// What all tracking connections of one set share.
#[derive(Clone)]
struct Subscription {
    cache: Arc<NearCache>,
    wake: watch::Receiver<()>,
    notices: Arc<Notices>,
    /// Whether it was told that a server refuses.
    reported: Arc<AtomicBool>,
}

impl Subscription {
    fn listener(&self, server: u32, node: &Node, member: Option<Member>) -> Listener {
        Listener {
            server,
            config: node.config.clone(),
            connector: Arc::clone(&node.pool.connector),
            shared: self.clone(),
            member,
        }
    }

    /// Listens to every server there is. Ends with the task that runs it.
    async fn follow(self, cluster: Arc<Cluster>) {
        let mut changes = cluster.changes();
        let mut listeners = JoinSet::new();
        let mut listened = HashMap::<u32, AbortHandle>::new();
        loop {
            changes.borrow_and_update();
            let (generation, servers) = cluster.servers();
            listened.retain(|server, task| {
                let stays = servers.iter().any(|(number, _)| number == server);
                if !stays {
                    task.abort();
                }
                stays
            });
            for (server, node) in &servers {
                listened.entry(*server).or_insert_with(|| {
                    let member = Member {
                        cluster: Arc::clone(&cluster),
                        node: Arc::clone(node),
                    };
                    listeners.spawn(self.listener(*server, node, Some(member)).keep_on())
                });
            }
            let numbers = servers.into_iter().map(|(number, _)| number);
            self.cache.expect(generation, numbers.collect());
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The task that owns a connection.
struct Listener {
    server: u32,
    config: ServerConfig,
    connector: Arc<Connector>,
    shared: Subscription,
    /// Where the server is one of a cluster.
    member: Option<Member>,
}

/// A server of a cluster. One that is cut off from the others answers PING, and no command on a key.
struct Member {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
}

impl Member {
    /// A command that is refused by a server that does not serve its slots.
    fn question(&self, prefix: Option<&Arc<Prefix>>) -> Cmd {
        let key = prefix.and_then(|prefix| self.cluster.key_on(&self.node, prefix.text()));
        match key {
            Some(key) => command("EXISTS", [&*key]),
            None => redis::cmd("PING"), // it has no slot
        }
    }
}

/// Marks the connection as lost, however the task that used it came to its end.
struct Session<'tracker> {
    cache: &'tracker NearCache,
    number: u64,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.cache.lost(self.number);
    }
}

impl Listener {
    async fn keep_on(self) {
        let first = || Backoff::new(FIRST_PROBE, self.config.breaker_recovery);
        let (mut backoff, mut hung_up) = (first(), 0);
        loop {
            let began = Instant::now();
            let reached = AtomicBool::new(false);
            let error = self.serve(&reached).await;
            let reason = Error::from_redis(&error);
            if began.elapsed() > self.config.breaker_recovery {
                (backoff, hung_up) = (first(), 0);
            }
            if reason.is_outage() {
                let cut = reached.into_inner() && error.code().is_none();
                hung_up = if cut { hung_up + 1 } else { 0 };
                if hung_up == HUNG_UP {
                    self.report("the connection ends where the cache is asked for, as at a proxy that knows no HELLO or CLIENT TRACKING");
                }
                sleep(backoff.pause()).await;
                continue;
            }
            self.report(&reason.to_string());
            sleep(REFUSED_PAUSE).await;
        }
    }

    /// Says once that there is no near cache, and why.
    fn report(&self, reason: &str) {
        if !self.shared.reported.swap(true, Relaxed) {
            self.shared.notices.push(Event::NearCacheOff, format!(
                "the near cache is off, every read goes to the server: it takes Redis 6 or newer, and a user that may call HELLO and CLIENT TRACKING: {reason}"
            ));
        }
    }

    /// Serves one connection to its end: the error that ended it.
    /// `reached` is set where the server was there and had let us in.
    async fn serve(&self, reached: &AtomicBool) -> RedisError {
        let session = Session {
            cache: &self.shared.cache,
            number: self.shared.cache.tracking().begin(self.server),
        };
        match self.listen(session.number, reached).await {
            Ok(()) => RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            Err(error) => error,
        }
    }

    async fn listen(&self, session: u64, reached: &AtomicBool) -> Result<(), RedisError> {
        let Subscription {
            cache, mut wake, ..
        } = self.shared.clone();
        let gone = Arc::new(Notify::new());
        let lost = Arc::new(AtomicBool::new(false));
        let on_push = {
            let (cache, gone, lost) = (Arc::clone(&cache), Arc::clone(&gone), Arc::clone(&lost));
            // Called by the connection's own task, in the order in which things arrive.
            move |said: Option<(PushKind, Vec<Value>)>| match said {
                Some((PushKind::Invalidate, keys)) => invalidate(&cache, &keys),
                Some(_) => {}
                None => {
                    cache.lost(session);
                    lost.store(true, Relaxed);
                    gone.notify_one();
                }
            }
        };
        let pipeline = Pipeline::with_push(Box::new(on_push));
        let connection = OwnConnection::open(&self.connector, pipeline).await?;
        reached.store(true, Relaxed);
        // Asked twice within the socket timeout: an answer that is late by half of it is too late.
        let half = self.config.socket_timeout / 2;
        let pause = match self.member {
            Some(_) => half.min(CLUSTER_PAUSE),
            None => half,
        };
        ask(&connection, half, command("HELLO", [&b"3"[..]])).await?;
        while !lost.load(Relaxed) {
            wake.borrow_and_update();
            let new = cache.tracking().untracked(session);
            let asked = Instant::now();
            if !new.is_empty() {
                ask(&connection, half, track(&new)).await?;
            }
            if let Err(error) = self.ask_for_life(&connection, half).await {
                if let Some(member) = &self.member {
                    member.cluster.refresh_soon();
                }
                return Err(error);
            }
            // What was heard is true as of when the question left.
            let until = asked + self.config.socket_timeout;
            cache.tracking().renew(session, until);
            cache.tracking().tracks(session, &new);
            let (woken, ended) = (pin!(wake.changed()), pin!(gone.notified()));
            let _ = timeout(pause, select(woken, ended)).await;
        }
        Ok(())
    }

    /// Asks what only a server answers whose word on its keys counts.
    async fn ask_for_life(
        &self,
        connection: &OwnConnection,
        patience: Duration,
    ) -> Result<(), RedisError> {
        let question = match &self.member {
            Some(member) => member.question(self.shared.cache.tracking().any_prefix().as_ref()),
            None => redis::cmd("PING"),
        };
        match ask(connection, patience, question).await {
            // The slot is on its way to another server; as long as it is, this one has it.
            Err(error) if error.code() == Some("ASK") => Ok(()),
            reply => reply,
        }
    }
}

async fn ask(
    connection: &OwnConnection,
    patience: Duration,
    command: Cmd,
) -> Result<(), RedisError> {
    let request = Request::resendable([command]);
    for reply in connection.ask(&request, patience).await? {
        if let Reply::Other(Value::ServerError(error)) = reply {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Prefixes that are tracked already stay so; the server refuses one that is named again.
fn track(prefixes: &[Arc<Prefix>]) -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in prefixes {
        command.arg("PREFIX").arg(prefix.text());
    }
    command
}

fn invalidate(cache: &NearCache, data: &[Value]) {
    match data {
        [Value::Array(keys)] => cache.invalidate(keys.iter().filter_map(|key| match key {
            Value::BulkString(key) => Some(key.as_slice()),
            _ => None,
        })),
        // A flush sends nil. What is not understood may be anything.
        _ => cache.invalidate_all(),
    }
}

#[cfg(test)]
mod tests;

//! How many keys each namespace has and what they take, from a bounded look at each server now and
//! then: the figures of a metric, taken in the background and never while somebody waits for them.
//!
//! SCAN meets keys in the order of their hashes, so the first few pages of it are a random sample of
//! the database; where they are all of it, the counts are exact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use redis::Value;
use tokio::time::{Instant, sleep};

use super::{Connections, Node, Request, SharedConnections, command};
use crate::error::{Error, Kind, Result};

/// COUNT of a SCAN, as where a namespace is walked.
const SCAN_COUNT: &[u8] = b"1000";
/// Pages of SCAN that are looked at; beyond these keys the counts are estimates.
const PAGES: usize = 10;
/// Keys of a namespace whose memory is asked for, on each server.
const MEASURED: usize = 32;
/// How often it is looked for sets of connections that are due.
const TICK: Duration = Duration::from_secs(1);

/// What a sample at all servers of a set has found.
#[derive(Clone, Debug)]
pub struct KeyspaceStats {
    /// When.
    pub taken: SystemTime,
    /// Keys that the servers have evicted since they started; None where INFO is forbidden.
    pub evicted_keys: Option<u64>,
    /// By namespace.
    pub namespaces: BTreeMap<String, NamespaceStats>,
}

/// A namespace's share of the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NamespaceStats {
    /// Its keys; None where a sample cannot tell, because DBSIZE is forbidden.
    pub keys: Option<f64>,
    /// The bytes they take; None too where MEMORY is forbidden.
    pub bytes: Option<f64>,
}

/// The namespaces of a set of connections, and the last check at them.
#[derive(Default)]
pub(super) struct KnownNamespaces(Mutex<State>);

#[derive(Default)]
struct State {
    /// What keys start with, and the namespace.
    prefixes: BTreeMap<Vec<u8>, String>,
    tried: Option<Instant>,
    keyspace_stats: Option<KeyspaceStats>,
}

impl KnownNamespaces {
    pub(super) fn add(&self, prefix: &str, namespace: &str) {
        let mut state = self.lock();
        if !state.prefixes.contains_key(prefix.as_bytes()) {
            state
                .prefixes
                .insert(prefix.as_bytes().to_owned(), namespace.to_owned());
        }
    }

    /// Whether the last check is too long ago; if so, one is taken now.
    fn is_due(&self, every: Duration) -> bool {
        let mut state = self.lock();
        let is_due = state.tried.is_none_or(|tried| tried.elapsed() >= every);
        if is_due {
            state.tried = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves a map that is still a valid map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the servers of every set that is in use, again and again.
/// `every` says how often: never, while it gives nothing.
pub async fn keep_keyspace_stats(shared: &SharedConnections, every: impl Fn() -> Option<Duration>) {
    loop {
        let Some(pause) = every() else {
            sleep(TICK).await;
            continue;
        };
        for connections in shared.in_use() {
            // What opens nothing itself until it is used is not opened by being watched.
            if connections.load().connections > 0 && connections.known.is_due(pause) {
                // One that fails leaves the figures as they were: the calls themselves tell of it.
                let _ = connections.collect_keyspace_stats().await;
            }
        }
        sleep(TICK.min(pause)).await;
    }
}

impl Connections {
    /// A namespace whose keys start so is on these servers.
    pub(crate) fn knows(&self, prefix: &str, namespace: &str) {
        self.known.add(prefix, namespace);
    }

    /// What the last check found.
    #[must_use]
    pub fn keyspace_stats(&self) -> Option<KeyspaceStats> {
        self.known.lock().keyspace_stats.clone()
    }

    async fn collect_keyspace_stats(self: &Arc<Self>) -> Result<()> {
        let prefixes = self.known.lock().prefixes.clone();
        let mut keyspace_stats = KeyspaceStats {
            taken: SystemTime::now(),
            evicted_keys: Some(0),
            namespaces: BTreeMap::new(),
        };
        for namespace in prefixes.values() {
            let nothing = NamespaceStats {
                keys: Some(0.0),
                bytes: Some(0.0),
            };
            keyspace_stats.namespaces.insert(namespace.clone(), nothing);
        }
        for node in self.primaries().await? {
            let evicted = Self::evicted_keys(&node).await?;
            keyspace_stats.evicted_keys = sum(keyspace_stats.evicted_keys, evicted);
            Self::count(&node, &prefixes, &mut keyspace_stats.namespaces).await?;
        }
        self.known.lock().keyspace_stats = Some(keyspace_stats);
        Ok(())
    }

    async fn count(
        node: &Arc<Node>,
        prefixes: &BTreeMap<Vec<u8>, String>,
        namespaces: &mut BTreeMap<String, NamespaceStats>,
    ) -> Result<()> {
        let (keys, complete) = Self::sample(node).await?;
        let seen = keys.len();
        let mut of_prefix: BTreeMap<&Vec<u8>, Vec<&Vec<u8>>> = BTreeMap::new();
        for key in &keys {
            if let Some((prefix, _)) = prefixes.iter().find(|(prefix, _)| key.starts_with(prefix)) {
                of_prefix.entry(prefix).or_default().push(key);
            }
        }
        let total = if complete {
            Some(seen as u64)
        } else {
            Self::number(node, command("DBSIZE", [])).await?
        };
        for (prefix, keys) in of_prefix {
            let Some(share) = namespaces.get_mut(&prefixes[prefix]) else {
                continue;
            };
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let keys_there = total.map(|total| total as f64 * keys.len() as f64 / seen as f64);
            let mean = Self::mean_memory(node, &keys).await?;
            let bytes = keys_there.zip(mean).map(|(keys, mean)| keys * mean);
            share.keys = share.keys.zip(keys_there).map(|(sum, more)| sum + more);
            share.bytes = share.bytes.zip(bytes).map(|(sum, more)| sum + more);
        }
        Ok(())
    }

    /// The keys of the first pages of a SCAN, and whether they are all there are.
    async fn sample(node: &Arc<Node>) -> Result<(Vec<Vec<u8>>, bool)> {
        let (mut cursor, mut keys) = (0_u64, Vec::new());
        for _ in 0..PAGES {
            let at = cursor.to_string();
            let scan = command("SCAN", [at.as_bytes(), b"COUNT", SCAN_COUNT]);
            let page = Self::asked(node, scan).await?;
            let (next, page): (u64, Vec<Vec<u8>>) = redis::from_redis_value(page)
                .map_err(|_| Error::new(Kind::Operation, "the answer to SCAN is no page"))?;
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok((keys, cursor == 0))
    }

    async fn mean_memory(node: &Arc<Node>, keys: &[&Vec<u8>]) -> Result<Option<f64>> {
        let asked = keys.iter().step_by(keys.len().div_ceil(MEASURED));
        let usages = asked.map(|key| command("MEMORY", [b"USAGE", &***key]));
        let replies = node.query_once(&Request::resendable(usages)).await?;
        let (mut bytes, mut measured) = (0.0, 0.0);
        for usage in replies {
            // A key that is gone by now, or a user who may not ask, gives no figure.
            if let Ok(Value::Int(usage)) = usage.value() {
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let usage = usage as f64;
                bytes += usage;
                measured += 1.0;
            }
        }
        Ok((measured > 0.0).then(|| bytes / measured))
    }

    async fn evicted_keys(node: &Arc<Node>) -> Result<Option<u64>> {
        let info = match Self::asked(node, command("INFO", [&b"stats"[..]])).await {
            Ok(info) => info,
            Err(error) if error.kind() == Kind::Operation => return Ok(None),
            Err(error) => return Err(error),
        };
        let text: String = redis::from_redis_value(info).unwrap_or_default();
        let mut lines = text.lines();
        let evicted = lines.find_map(|line| line.strip_prefix("evicted_keys:"));
        Ok(evicted.and_then(|evicted| evicted.trim().parse().ok()))
    }

    async fn number(node: &Arc<Node>, asked: redis::Cmd) -> Result<Option<u64>> {
        match Self::asked(node, asked).await {
            Ok(Value::Int(number)) => Ok(u64::try_from(number).ok()),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::Operation => Ok(None), // forbidden
            Err(error) => Err(error),
        }
    }

    async fn asked(node: &Arc<Node>, asked: redis::Cmd) -> Result<Value> {
        let replies = node.query_once(&Request::resendable([asked])).await?;
        replies.into_iter().next().unwrap_or_default().value()
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one? + other?)
}

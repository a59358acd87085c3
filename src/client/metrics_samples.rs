//! How many keys each namespace has and what they take, how the servers are, and whether they answer:
//! the figures of metrics, sampled in the background and never while a caller waits for them.
//!
//! SCAN meets keys in the order of their hashes, so the first few pages of it are a random sample of
//! the database; where they are all of it, the counts are exact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use super::protocol::resp_parser::{info_field, memory_usages};
use super::{Connections, Node, Request, SharedConnections, command};
use crate::error::{Error, Kind, Result};
use crate::mutex::Mutex;

/// COUNT of a SCAN, as where a namespace is walked.
const SCAN_COUNT: &[u8] = b"1000";
/// Pages of SCAN that are read; beyond these keys the counts are estimates.
const PAGES: usize = 10;
/// Keys of a namespace whose memory is asked for, on each server.
const MEASURED: usize = 32;
/// How often sets of connections are checked for being due.
const TICK: Duration = Duration::from_secs(1);
/// Pause between two pings of a set's servers, for the metric that says whether they answer.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long a ping may take; a server that needs longer counts as down.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What a sample at all servers of a set has found.
#[derive(Clone, Debug)]
pub struct KeyspaceStats {
    /// When.
    pub taken: SystemTime,
    /// What the servers say of themselves; None where INFO is forbidden.
    pub servers: Option<ServerStats>,
    /// By namespace.
    pub namespaces: BTreeMap<String, NamespaceStats>,
}

/// What the servers of a set say of themselves, all primaries together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStats {
    /// Keys that they have evicted since they started.
    pub evicted_keys: u64,
    /// Bytes of memory that they use.
    pub used_memory: u64,
    /// Bytes that they may use; None while one of them has no limit.
    pub max_memory: Option<u64>,
    /// Whether their last snapshot and their last write to the append-only file succeeded.
    pub persistence_ok: bool,
}

impl ServerStats {
    const OF_NONE: Self = Self {
        evicted_keys: 0,
        used_memory: 0,
        max_memory: Some(0),
        persistence_ok: true,
    };

    /// Reads the sections `stats`, `memory` and `persistence` of INFO.
    fn parse(info: &str) -> Self {
        let field = |name| info_field(info, name);
        let number = |name| field(name).and_then(|value| value.parse::<u64>().ok());
        // A field that this version of the server does not have is no failure.
        let succeeded = |name| field(name).is_none_or(|status| status == "ok");
        Self {
            evicted_keys: number("evicted_keys").unwrap_or(0),
            used_memory: number("used_memory").unwrap_or(0),
            max_memory: number("maxmemory").filter(|most| *most > 0),
            persistence_ok: succeeded("rdb_last_bgsave_status")
                && succeeded("aof_last_write_status")
                && succeeded("aof_last_bgrewrite_status"),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            evicted_keys: self.evicted_keys.saturating_add(other.evicted_keys),
            used_memory: self.used_memory.saturating_add(other.used_memory),
            max_memory: self
                .max_memory
                .zip(other.max_memory)
                .map(|(one, more)| one.saturating_add(more)),
            persistence_ok: self.persistence_ok && other.persistence_ok,
        }
    }
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
    sampled: Option<Instant>,
    pinged: Option<Instant>,
    keyspace_stats: Option<KeyspaceStats>,
    up: Option<bool>,
}

impl KnownNamespaces {
    pub(super) fn add(&self, prefix: &str, namespace: &str) {
        let mut state = self.0.lock();
        if !state.prefixes.contains_key(prefix.as_bytes()) {
            state
                .prefixes
                .insert(prefix.as_bytes().to_owned(), namespace.to_owned());
        }
    }

    /// Whether the last sample is too long ago; if so, one is taken now.
    fn is_sample_due(&self, every: Duration) -> bool {
        is_due(&mut self.0.lock().sampled, every)
    }

    fn is_ping_due(&self, every: Duration) -> bool {
        is_due(&mut self.0.lock().pinged, every)
    }
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Pings and samples the servers of every set that is in use, again and again.
/// `every` is the pause between samples: none are taken while it gives nothing.
pub async fn keep_keyspace_stats(shared: &SharedConnections, every: impl Fn() -> Option<Duration>) {
    loop {
        let Some(pause) = every() else {
            sleep(TICK).await;
            continue;
        };
        let in_use = shared.in_use();
        // A set that no call was made to opens no connection for the sake of metrics. One is watched from its
        // first call, even if that found no server.
        let used = in_use.iter().filter(|set| set.maintained.load(Relaxed));
        // All at once: the pings of the others go on while one keeps silent.
        join_all(used.map(|connections| connections.look_after(pause))).await;
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
        self.known.0.lock().keyspace_stats.clone()
    }

    /// Whether all servers answered the last ping; None before the first.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.known.0.lock().up
    }

    /// Pings and samples its servers, if either is due.
    async fn look_after(self: &Arc<Self>, pause: Duration) {
        if self.known.is_ping_due(PING_EVERY.min(pause)) {
            self.ping().await;
        }
        if self.is_up() == Some(true) && self.known.is_sample_due(pause) {
            // A sample that fails leaves the figures as they were, and their time says so.
            let _ = self.collect_keyspace_stats().await;
        }
    }

    async fn ping(self: &Arc<Self>) {
        let answered = async {
            for node in self.primaries().await? {
                // A user who may not PING is refused by a server that is up.
                match Self::asked(&node, command("PING", [])).await {
                    Err(error) if error.kind() != Kind::Operation => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        let up = matches!(timeout(PING_TIMEOUT, answered).await, Ok(Ok(())));
        self.known.0.lock().up = Some(up);
        if !up {
            // While nobody calls, nobody else learns of a failover, and a server that was replaced counts as down.
            self.topology.refresh_soon();
        }
    }

    async fn collect_keyspace_stats(self: &Arc<Self>) -> Result<()> {
        let prefixes = self.known.0.lock().prefixes.clone();
        let mut keyspace_stats = KeyspaceStats {
            taken: SystemTime::now(),
            servers: Some(ServerStats::OF_NONE),
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
            let server = Self::server_stats(&node).await?;
            keyspace_stats.servers = keyspace_stats
                .servers
                .zip(server)
                .map(|(sum, more)| sum.plus(more));
            Self::count(&node, &prefixes, &mut keyspace_stats.namespaces).await?;
        }
        self.known.0.lock().keyspace_stats = Some(keyspace_stats);
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
        let usages = memory_usages(replies);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let mean = usages.iter().sum::<u64>() as f64 / usages.len() as f64;
        Ok((!usages.is_empty()).then_some(mean))
    }

    async fn server_stats(node: &Arc<Node>) -> Result<Option<ServerStats>> {
        let mut text = String::new();
        for section in ["stats", "memory", "persistence"] {
            let info = match Self::asked(node, command("INFO", [section.as_bytes()])).await {
                Ok(info) => info,
                Err(error) if error.kind() == Kind::Operation => return Ok(None),
                Err(error) => return Err(error),
            };
            text.push_str(&redis::from_redis_value::<String>(info).unwrap_or_default());
        }
        Ok(Some(ServerStats::parse(&text)))
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::time::advance;

    use super::*;
    use crate::config::ServerConfig;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let info = "# Stats\r\nevicted_keys:7\r\n# Memory\r\nused_memory:100\r\nused_memory_rss:900\r\nmaxmemory:200\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n";
        let stats = ServerStats::parse(info);
        let expected = ServerStats {
            evicted_keys: 7,
            used_memory: 100,
            max_memory: Some(200),
            persistence_ok: true,
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_failed_snapshot_and_a_server_without_a_limit_count_for_the_whole_set() {
        let failed = ServerStats::parse("rdb_last_bgsave_status:err\r\nmaxmemory:0\r\n");
        let sum = ServerStats::parse("maxmemory:200\r\n").plus(failed);
        assert!(!sum.persistence_ok);
        assert_eq!(sum.max_memory, None);
    }

    #[test]
    fn numbers_that_no_server_counts_up_to_end_no_sample() {
        for (odd, known) in [
            ("18446744073709551615", u64::MAX),
            ("-1", 1),
            ("x", 1),
            ("", 1),
        ] {
            let of = |number: &str| {
                ServerStats::parse(&format!(
                    "evicted_keys:{number}\r\nused_memory:{number}\r\nmaxmemory:{number}\r\n"
                ))
            };
            let sum = of("1").plus(of(odd));
            assert_eq!((sum.evicted_keys, sum.used_memory), (known, known), "{odd}");
            assert_eq!(sum.max_memory, (known > 1).then_some(known), "{odd}");
        }
    }

    #[test]
    fn what_servers_of_a_set_say_is_added_up() {
        let of = |evicted: u64, used: u64, max: u64| ServerStats {
            evicted_keys: evicted,
            used_memory: used,
            max_memory: Some(max),
            persistence_ok: true,
        };
        assert_eq!(of(2, 30, 500).plus(of(5, 40, 900)), of(7, 70, 1_400));
    }

    const EVERY: Duration = Duration::from_secs(10);

    /// Where nobody listens.
    fn nobody() -> Arc<Connections> {
        Connections::new(ServerConfig::new("unix:///nowhere/socket").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_and_a_ping_are_due_each_after_its_own_pause() {
        let known = KnownNamespaces::default();
        assert!(known.is_sample_due(EVERY) && !known.is_sample_due(EVERY));
        advance(EVERY / 2).await;
        assert!(known.is_ping_due(EVERY) && !known.is_ping_due(EVERY));
        advance(EVERY / 2).await;
        assert!(known.is_sample_due(EVERY) && !known.is_ping_due(EVERY));
        assert!(!known.is_sample_due(EVERY));
    }

    #[tokio::test]
    async fn a_sample_is_taken_where_it_is_due_and_the_server_is_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        for (up, sampled, asks) in [
            (Some(true), Some(Instant::now()), false),
            (Some(false), None, false),
            (None, None, false),
            (Some(true), None, true),
        ] {
            let connections = Connections::new(ServerConfig::new(&url).unwrap());
            {
                let mut state = connections.known.0.lock();
                (state.up, state.sampled) = (up, sampled);
                state.pinged = Some(Instant::now());
            }
            let done = connections.look_after(EVERY).now_or_never();
            assert_eq!(done.is_none(), asks, "{up:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_no_server_that_forbids_a_question() {
        let connections = nobody();
        let node = connections.primaries().await.unwrap().remove(0);
        assert!(
            Connections::server_stats(&node)
                .await
                .unwrap_err()
                .is_outage()
        );
        let size = Connections::number(&node, command("DBSIZE", [])).await;
        assert!(size.unwrap_err().is_outage());
        connections.ping().await;
        assert_eq!(connections.is_up(), Some(false));
    }

    #[tokio::test]
    async fn a_cluster_that_is_down_is_asked_again_for_its_servers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let mut config = ServerConfig::new(&url).unwrap();
        config.cluster = true;
        let (asked, mut seen) = watch::channel(0);
        let hangs_up = tokio::spawn(async move {
            loop {
                let asking = listener.accept().await;
                asked.send_modify(|count| *count += 1);
                drop(asking);
            }
        });
        let connections = Connections::new(config);
        connections.ping().await;
        assert_eq!(connections.is_up(), Some(false));
        seen.mark_unchanged();
        let again = timeout(Duration::from_secs(20), seen.changed()).await;
        again
            .expect("nobody calls who would have it asked")
            .unwrap();
        hangs_up.abort();
    }
}

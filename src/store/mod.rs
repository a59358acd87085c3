//! `KvStore`: the storage contract over bytes, one async body per operation.

mod all_keys_scan;
mod ask_servers;
mod batch_sizes;
mod change_stream;
mod counted_call;
mod deferred_drop_replace_all;
mod delete;
mod doctor_questions;
mod drop;
mod dual_write;
mod filter_keys;
mod forbidden_commands;
mod get;
mod get_stats;
mod llm_limits;
mod migrate_writes;
pub mod outage_policy;
mod registry;
mod single_flight_leases;
mod sliding_ttl;
pub(crate) mod startup_checks;
mod upsert;
mod write_tracker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::client::{Connections, SharedConnections};
use crate::config::StoreConfig;
use crate::error::{Error, Result};
use crate::log_events::{Event, Notice, Notices};
use crate::metrics::StoreCounters;
use crate::near_cache::{Change, Namespace, NearCache};
pub use all_keys_scan::Page;
use ask_servers::{batches, first};
use batch_sizes::Largest;
pub use batch_sizes::{
    BATCH_BYTES, BATCH_ITEMS, BatchSizer, EXISTS_BATCH, EXISTS_WINDOW, Fetched, KEY_BATCH, WINDOW,
};
use change_stream::Feed;
pub use change_stream::{Entry, LAST_ENTRIES, Recorded};
pub use counted_call::Call;
pub use deferred_drop_replace_all::Swap;
pub use doctor_questions::Inspected;
use dual_write::DualWrite;
pub use dual_write::DualWriteStats;
pub use dual_write::compaction::{Compacted, compact};
use dual_write::reads_in_outage::FileFallback;
pub use filter_keys::ExistsRequest;
pub use get_stats::{Stats, Written};
pub use migrate_writes::Copied;
use outage_policy::Outage;
use registry::Registry;
pub use registry::adopt_sweep_repair::Repair;
pub use registry::drift::Drift;
use single_flight_leases::SingleFlights;
use sliding_ttl::SlidingTtl;
use startup_checks::StartupChecks;
pub use upsert::Batch;

/// One namespace on one server.
pub struct KvStore {
    config: StoreConfig,
    connections: Arc<Connections>,
    counters: StoreCounters,
    outage: Outage,
    startup_checks: StartupChecks,
    near: Option<Namespace>,
    notices: Arc<Notices>,
    /// Seconds that a value lives, as the wire has them.
    ttl: Option<String>,
    registry: Registry,
    dual_write: Option<DualWrite>,
    file_fallback: Option<FileFallback>,
    single_flight: Option<SingleFlights>,
    feed: Option<Arc<Feed>>,
    sliding_ttl: Option<SlidingTtl>,
    largest: Largest,
    /// How many of the drops that servers lost were reported to whoever uses this store, or came
    /// before it.
    reported_drops: AtomicU64,
    /// Whether it was told that keys of another program lie in the namespace.
    met_foreign: AtomicBool,
}

impl KvStore {
    /// A store over the process's shared connections. Opens nothing.
    #[must_use]
    pub fn new(config: StoreConfig, shared: &SharedConnections) -> Arc<Self> {
        let connections = shared.get(&config.server);
        connections.knows(config.keyspace.prefix(), &config.namespace);
        let counters = StoreCounters::new(&config.namespace);
        shared.metrics().stores.keep(counters.counters());
        Arc::new_cyclic(|me| Self {
            near: (config.near_cache_bytes > 0).then(|| {
                let prefix = config.keyspace.prefix();
                connections.near(prefix, config.near_cache_bytes, counters.clone())
            }),
            reported_drops: connections.drops_lost_so_far().into(),
            connections,
            outage: Outage::new(config.outage_policy, counters.clone()),
            startup_checks: StartupChecks::new(&config),
            notices: Arc::default(),
            ttl: config.ttl.map(|seconds| seconds.to_string()),
            feed: Feed::new(&config, &counters, shared.backlog()),
            counters,
            registry: Registry::new(&config),
            dual_write: DualWrite::new(&config, me, shared.turn()),
            file_fallback: FileFallback::new(&config),
            sliding_ttl: SlidingTtl::new(&config, me),
            single_flight: SingleFlights::new(&config, shared.flights()),
            largest: Largest::default(),
            met_foreign: AtomicBool::new(false),
            config,
        })
    }

    /// Its settings.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Whether values are compressed, so that moving many takes a processor's time.
    pub fn compresses(&self) -> bool {
        self.config.compression.is_on()
    }

    /// What the looks at first use found and nobody has reported yet.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = self.connections.take_notices();
        notices.append(&mut self.notices.take());
        notices
    }

    /// Forgives a failure where the outage policy says so; else the error comes back, and names
    /// the namespace.
    pub fn forgive(&self, error: Error) -> Result<()> {
        if let Some((event, line)) = self
            .outage
            .forgive(error.in_namespace(&self.config.namespace))?
        {
            self.report(event, &line);
        }
        Ok(())
    }

    /// Keeps a line about this namespace for the log.
    fn report(&self, event: Event, line: &str) {
        let namespace = &self.config.namespace;
        self.notices.push(event, format!("{namespace}: {line}"));
    }

    /// What it counts.
    pub fn counters(&self) -> &StoreCounters {
        &self.counters
    }

    /// What its failures have meant to callers.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// The barrier behind the host's `index_done_callback`: returns once every write that was
    /// awaited is as safe as the settings ask. At strength `ack` there is nothing to wait for.
    pub async fn barrier(&self) -> Result<()> {
        let keyspace = &self.config.keyspace;
        let passed = self.connections.barrier(keyspace, &self.reported_drops);
        let passed = passed.await;
        passed.map_err(|error| error.in_namespace(&self.config.namespace))
    }

    /// To be held while these ids are written, until the caller is told the outcome.
    pub(super) fn change<'id>(&self, ids: impl Iterator<Item = &'id str>) -> Option<Change<'_>> {
        let cache = self.copies_of_any()?;
        Some(cache.change(ids.map(|id| self.key(id)).collect()))
    }

    /// Forgets all copies once the namespace was dropped: also of keys that the walk over them did
    /// not meet, because someone else has deleted them and word of it is still on its way.
    pub(super) fn forget_all(&self) {
        if let Some(cache) = self.copies_of_any() {
            cache.empty();
        }
    }

    fn copies_of_any(&self) -> Option<&NearCache> {
        let cache = self.connections.near_cache()?;
        cache.if_any_copies(self.config.keyspace.prefix())
    }

    fn key(&self, id: &str) -> Vec<u8> {
        self.config.keyspace.key(id)
    }

    /// Bytes of the keys of these ids.
    fn key_bytes(&self, ids: &[String]) -> usize {
        let prefix = self.config.keyspace.prefix().len();
        ids.iter().map(|id| prefix + id.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::ServerConfig;
    use crate::near_cache::ONE_SERVER;
    use crate::value::Compression;

    /// Of a namespace whose server is away.
    pub(super) fn settings() -> StoreConfig {
        let mut server = ServerConfig::new("unix:///nowhere/socket").unwrap();
        server.max_retries = 0;
        StoreConfig::new(server, "docs").unwrap()
    }

    pub(super) fn open(settings: StoreConfig) -> Arc<KvStore> {
        KvStore::new(settings, &SharedConnections::default())
    }

    pub(super) fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_store_says_whether_moving_its_values_takes_a_processors_time() {
        for (codec, compresses) in [("none", false), ("zstd", true), ("lz4", true)] {
            let mut settings = settings();
            settings.compression = Compression::new(codec, 0, None).unwrap();
            assert_eq!(open(settings).compresses(), compresses, "{codec}");
        }
    }

    #[test]
    fn whoever_writes_gives_up_the_copies_of_it_before_and_after() {
        let shared = SharedConnections::default();
        let plain = KvStore::new(settings(), &shared);
        let mut settings = settings();
        settings.near_cache_bytes = 1 << 20;
        let store = KvStore::new(settings, &shared);
        let tracking = store.connections.near_cache().unwrap().tracking();
        let session = tracking.begin(ONE_SERVER);
        tracking.renew(session, Instant::now() + Duration::from_secs(60));
        tracking.tracks(session, &tracking.untracked(session));
        let read = |id: &str| {
            let (near, key) = (store.near.as_ref().unwrap(), store.key(id));
            let fetch = near.begin(std::slice::from_ref(&key)).unwrap();
            near.keep(&fetch, 0, &key, b"1", None);
            assert!(store.local(id).is_some());
        };
        // Also one that has no copies itself.
        for writes in [&store, &plain] {
            read("a");
            read("b");
            let change = writes.change(["a"].into_iter());
            assert!(store.local("a").is_none() && store.local("b").is_some());
            read("a");
            drop(change);
            assert!(store.local("a").is_none() && store.local("b").is_some());
            writes.forget_all();
            assert!(store.local("b").is_none());
        }
        let mut settings = store.config.clone();
        settings.keyspace = crate::key_layout::Keyspace::new("nano_graphrag", "", "other").unwrap();
        settings.near_cache_bytes = 0;
        let other = KvStore::new(settings, &shared);
        assert!(other.change(["a"].into_iter()).is_none());
    }
}

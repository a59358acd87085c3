//! `KvStore`: the storage contract over bytes, one async body per operation.

mod all_keys_scan;
mod batch_sizes;
mod change_stream;
mod delete;
mod doctor_questions;
mod drop;
mod dual_write;
mod filter_keys;
mod forbidden_commands;
mod get;
mod get_stats;
mod import_writes;
mod llm_limits;
pub mod outage_policy;
mod registry;
mod single_flight_leases;
mod sliding_ttl;
pub(crate) mod startup_checks;
mod swap_all_values;
mod upsert;
mod write_tracker;

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use futures_util::future::join;
use redis::Value;

use crate::client::{Commands, Connections, Node, Reply, Request, SharedConnections, deadline};
use crate::config::StoreConfig;
use crate::error::{Error, Kind, Result};
use crate::log_events::{Event, Notice, Notices};
use crate::metrics::{Operation, Status, StoreCounters};
use crate::near_cache::{Change, Namespace, NearCache};
pub use all_keys_scan::Page;
use batch_sizes::Largest;
pub use batch_sizes::{BATCH_BYTES, BATCH_ITEMS, BatchSizer, KEY_BATCH, WINDOW};
use change_stream::Feed;
pub use change_stream::{Entry, LAST_ENTRIES, Recorded};
pub use doctor_questions::Inspected;
use dual_write::DualWrite;
pub use dual_write::DualWriteStats;
pub use dual_write::compaction::{Compacted, compact};
use dual_write::reads_in_outage::FileFallback;
pub use filter_keys::ExistsRequest;
pub use get_stats::{Stats, Written};
pub use import_writes::Copied;
use outage_policy::Outage;
use registry::Registry;
pub use registry::drift::Drift;
pub use registry::maintenance::Repair;
use single_flight_leases::SingleFlights;
use sliding_ttl::SlidingTtl;
use startup_checks::StartupChecks;
pub use swap_all_values::Swap;
pub use upsert::Batch;

/// Bytes of the wire around a key: lengths, the command's name.
const GET_FRAME: usize = 48;

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

    /// One command of this name for each id. No command has two keys, which may be of two servers.
    fn commands<'id>(
        &self,
        name: &str,
        ids: impl ExactSizeIterator<Item = &'id str> + Clone,
    ) -> Commands {
        let prefix = self.config.keyspace.prefix();
        let bytes = ids.clone().map(str::len).sum::<usize>();
        let frames = ids.len() * (prefix.len() + GET_FRAME);
        let mut commands = Commands::with_capacity(bytes + frames);
        commands.add_each(name, prefix, ids);
        commands
    }

    /// Whether each server answers, within the operation's deadline.
    pub async fn ping(&self) -> Result<()> {
        let ping = Request::resendable([redis::cmd("PING")]);
        for node in self.primaries().await? {
            self.reply(first(self.send_to(&node, &ping).await?))?;
        }
        Ok(())
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

    /// The near cache if any store over these connections keeps copies of this namespace: a store
    /// that has none itself writes for those that have.
    fn copies_of_any(&self) -> Option<&NearCache> {
        let cache = self.connections.near_cache()?;
        let prefix = self.config.keyspace.prefix().as_bytes();
        cache.tracking().covers(prefix).then_some(cache)
    }

    fn key(&self, id: &str) -> Vec<u8> {
        self.config.keyspace.key(id)
    }

    /// Bytes of the keys of these ids.
    fn key_bytes(&self, ids: &[String]) -> usize {
        let prefix = self.config.keyspace.prefix().len();
        ids.iter().map(|id| prefix + id.len()).sum()
    }

    /// Sends a request and waits for its answers.
    async fn send(&self, request: &Request) -> Result<Vec<Reply>> {
        if request.is_empty() {
            return Ok(Vec::new()); // no server has answered, so that an outage is not over
        }
        self.asked(self.connections.send(request)).await
    }

    /// Sends a request that is no key's to a node, and waits for its answers.
    async fn send_to(&self, node: &Arc<Node>, request: &Request) -> Result<Vec<Reply>> {
        self.asked(self.connections.send_to(node, request)).await
    }

    /// The servers that hold values.
    async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        self.asked(self.connections.primaries()).await
    }

    /// What was asked of the servers, with all that goes along with a question.
    async fn asked<T>(&self, answered: impl Future<Output = Result<T>>) -> Result<T> {
        if self.near.is_some() {
            self.connections.track(&self.notices);
        }
        self.connections.prepare_barriers();
        let reply = if self.startup_checks.is_due() {
            // Beside the question, so that a first call takes no longer than any other; apart from it
            // in memory, which every call would have to take.
            let look = Box::pin(self.startup_checks.run(&self.connections, &self.notices));
            join(answered, look).await.0
        } else {
            answered.await
        };
        let reply = reply.map_err(|error| error.in_namespace(&self.config.namespace))?;
        if let Some(line) = self.outage.answered() {
            self.report(Event::OutageEnded, &line);
        }
        Ok(reply)
    }

    fn reply(&self, reply: Reply) -> Result<Value> {
        reply
            .value()
            .map_err(|error| error.in_namespace(&self.config.namespace))
    }

    fn unexpected(&self, command: &str) -> Error {
        let message =
            format!("the server answered {command} with another type: is it a Redis server?");
        Error::new(Kind::Operation, message).in_namespace(&self.config.namespace)
    }
}

/// A call on a store, which is counted, and its time taken, when it is dropped. Whoever waits for it
/// says how it ended; one that nobody said it of was left by its caller.
pub struct Call {
    store: Arc<KvStore>,
    operation: Operation,
    began: Instant,
    status: Cell<Status>,
    forgiven: Cell<bool>,
}

impl Call {
    /// A call that begins now.
    #[must_use]
    pub fn begin(store: Arc<KvStore>, operation: Operation) -> Self {
        Self {
            store,
            operation,
            began: Instant::now(),
            status: Cell::new(Status::Cancelled),
            forgiven: Cell::new(false),
        }
    }

    /// Applies the outage policy, as [`KvStore::forgive`]: a failure that it forgives is None, and remembered.
    pub fn forgiven<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.store.forgive(error)?;
                self.forgiven.set(true);
                Ok(None)
            }
        }
    }

    /// Says how it ended.
    pub fn end(&self, status: Status) {
        self.status.set(match status {
            Status::Ok if self.forgiven.get() => Status::Forgiven,
            status => status,
        });
    }
}

impl Deref for Call {
    type Target = Arc<KvStore>;

    fn deref(&self) -> &Arc<KvStore> {
        &self.store
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.store
            .counters
            .call(self.operation, self.status.get(), took);
    }
}

/// So many of these as one request takes that moves no values. Each batch has the whole time of a call, since the one
/// before it was answered.
fn batches<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(KEY_BATCH).inspect(|_| deadline::restart())
}

/// The answer of a request of one command.
fn first(replies: Vec<Reply>) -> Reply {
    replies.into_iter().next().unwrap_or_default()
}

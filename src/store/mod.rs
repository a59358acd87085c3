//! `KvStore`: the storage contract over bytes, one async body per operation.

mod batch;
mod call;
mod drift;
mod dual_write;
mod fold;
mod from_files;
mod limits;
mod local;
mod look;
mod pace;
mod probe;
mod proof;
mod registry;
mod rights;
mod roll;
mod sealing;
mod sent;
mod single_flight;
mod survey;
mod swap;
mod transfer;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use futures_util::future::join;
use redis::Value;

use crate::config::StoreConfig;
use crate::connection::{Answer, Commands, Connections, Node, Request, SharedConnections, command};
use crate::durability::Change;
use crate::error::{Error, Kind, Result};
use crate::first_use::FirstUse;
use crate::json_files::log::{Lines, Mark};
use crate::metrics::StoreCounters;
use crate::near_cache::Namespace;
use crate::notices::{Event, Notice, Notices};
use crate::outage::Outage;
pub use batch::Batch;
pub use call::Call;
pub use drift::Drift;
use dual_write::DualWrite;
pub use dual_write::DualWriteStats;
pub use fold::{Folded, fold};
use from_files::FromFiles;
pub use look::Looked;
use pace::Largest;
pub use pace::Pace;
pub use probe::Probe;
use registry::{Registry, new_mark};
use sealing::Sealing;
pub use sealing::Written;
use single_flight::SingleFlights;
pub use survey::{Page, Stats};
pub use swap::Swap;
pub use transfer::Copied;
pub use upkeep::Repair;

/// Ids in one request that moves values. Small enough that others' requests get in between, large enough that
/// the cost of a request is shared.
pub const PIECE_ITEMS: usize = 64;
/// Bytes of values in one write request, beyond which it takes no further item.
pub const PIECE_BYTES: usize = 1 << 20;
/// Ids in one request that moves no values: existence, deletion.
pub const KEY_PIECE: usize = 512;
/// Requests of one batch under way at a time.
pub const WINDOW: usize = 4;
/// Bytes of the wire around a key: lengths, the command's name.
const GET_FRAME: usize = 48;

/// One namespace on one server.
pub struct KvStore {
    config: StoreConfig,
    connections: Arc<Connections>,
    counters: StoreCounters,
    outage: Outage,
    first_use: FirstUse,
    near: Option<Namespace>,
    notices: Arc<Notices>,
    /// Seconds that a value lives, as the wire has them.
    ttl: Option<String>,
    sealing: Sealing,
    registry: Registry,
    dual_write: Option<DualWrite>,
    from_files: Option<FromFiles>,
    single_flight: Option<SingleFlights>,
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
            first_use: FirstUse::new(&config),
            notices: Arc::default(),
            ttl: config.ttl.map(|seconds| seconds.to_string()),
            sealing: Sealing::new(config.compression, counters.clone()),
            counters,
            registry: Registry::new(&config),
            dual_write: DualWrite::new(&config, me, shared.turn()),
            from_files: FromFiles::new(&config),
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

    /// What the looks at first use found and nobody has been told yet.
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
            self.tell(event, &line);
        }
        Ok(())
    }

    /// Has a line about this namespace told.
    fn tell(&self, event: Event, line: &str) {
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

    /// The value of one id, as JSON bytes; None if it is absent.
    pub async fn get(&self, id: &str) -> Result<Option<Bytes>> {
        if let Some(json) = self.local(id) {
            return Ok(Some(Bytes::from_owner(json)));
        }
        let found = self.get_piece(&[id.to_owned()]).await;
        found
            .map_err(|error| error.about(id))?
            .pop()
            .unwrap_or(Ok(None))
    }

    /// The values of up to [`PIECE_ITEMS`] ids, in order, from the server: one bad value fails only
    /// its own id.
    pub async fn get_piece(&self, ids: &[String]) -> Result<Vec<Result<Option<Bytes>>>> {
        let found = match &self.near {
            Some(near) => self.get_and_keep(near, ids).await,
            None => self.fetch(ids).await,
        };
        match found {
            Ok(found) => {
                self.largest.note(&found);
                Ok(found)
            }
            Err(error) => self.read_instead(error, ids).await,
        }
    }

    /// The same, and nothing is kept of it, nor is anybody else asked.
    pub(crate) async fn fetch(&self, ids: &[String]) -> Result<Vec<Result<Option<Bytes>>>> {
        let answers = self
            .send(
                &self
                    .commands("GET", ids.iter().map(String::as_str))
                    .resendable(),
            )
            .await?;
        Ok(ids
            .iter()
            .zip(answers)
            .map(|(id, value)| self.found(id, value))
            .collect())
    }

    /// Writes a batch. Gives its ids back with an outcome for each, or the failure of them all.
    pub async fn put(&self, mut batch: Batch) -> (Vec<String>, Result<Vec<Result<()>>>) {
        if batch.is_empty() {
            return (Vec::new(), Ok(Vec::new())); // there is no ZADD of no members
        }
        let lines = self.lines_of(&batch);
        self.sealing.seal(self, &mut batch);
        let Batch { ids, sets, .. } = batch;
        let outcomes = self.set_and_tell(&ids, sets, lines).await;
        (ids, outcomes)
    }

    async fn set_and_tell(
        &self,
        ids: &[String],
        sets: Commands,
        lines: Option<Lines>,
    ) -> Result<Vec<Result<()>>> {
        self.claim_files().await?;
        let change = self.change(ids.iter().map(String::as_str));
        let sent = self.sent(Mark::SetAsked, ids);
        let digests = self.digests(&sets);
        let (outcomes, registered) = self.set(ids, sets).await;
        drop(change);
        if let Ok(outcomes) = &outcomes {
            self.note_written(ids, outcomes);
        }
        if let Some(mut sent) = sent {
            sent.note(&outcomes, |number| digests.change(number));
            sent.log(&outcomes, lines).await;
        }
        registered.and(outcomes)
    }

    /// What the server said of each id, and whether they were registered.
    async fn set(&self, ids: &[String], sets: Commands) -> (Result<Vec<Result<()>>>, Result<()>) {
        let around = self.registry.around(ids.iter());
        let (mut before, mut after) = (Commands::default(), Commands::default());
        before.extend(&around.before);
        after.extend(&around.after);
        let request = Commands::in_order([before, sets, after]);
        let answers = match self.send(&request).await {
            Ok(answers) => answers,
            Err(error) => return (Err(error), Ok(())),
        };
        let (answers, registered) = self.within(&around, answers);
        if registered.is_ok() {
            let _ = self.sweep_if_due().await; // another write will, if this one cannot
        }
        let outcome = |(id, value): (&String, _)| {
            self.answer(value)
                .map(|_| ())
                .map_err(|error| error.about(id))
        };
        let outcomes = ids.iter().zip(answers).map(outcome).collect();
        (Ok(outcomes), registered)
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

    /// Deletes ids and counts those that were there. Never sent twice: the count would lie.
    pub async fn delete(&self, ids: Vec<String>) -> Result<u64> {
        self.claim_files().await?;
        let mut deleted = 0;
        let mark = new_mark();
        for start in (0..ids.len()).step_by(KEY_PIECE) {
            let piece = &ids[start..ids.len().min(start + KEY_PIECE)];
            let _change = self.change(piece.iter().map(String::as_str));
            let sent = self.sent(Mark::DeleteAsked, piece);
            let outcomes = self.unlink(mark, piece).await;
            if let Some(mut sent) = sent {
                sent.note(&outcomes, |_| Some(Change::Deleted));
                let mut lines = Lines::default();
                for id in piece {
                    lines.mark(Mark::Delete, id);
                }
                sent.log(&outcomes, Some(lines)).await;
            }
            let (mut failed, mut unconfirmed) = (None, Vec::new());
            match outcomes {
                Ok(outcomes) => {
                    for (id, outcome) in piece.iter().zip(outcomes) {
                        match outcome {
                            Ok(count) => deleted += count,
                            Err(error) => {
                                failed.get_or_insert(error);
                                unconfirmed.push(id.clone());
                            }
                        }
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    unconfirmed.extend_from_slice(piece);
                }
            }
            if let Some(error) = failed {
                let error = match &*ids {
                    [id] => error.about(id),
                    _ => error,
                };
                unconfirmed.extend_from_slice(&ids[start + piece.len()..]);
                return Err(error.with_unconfirmed(unconfirmed));
            }
        }
        if !ids.is_empty() {
            // What this leaves behind, if it fails, is swept away later: the ids are gone.
            let _ = self.unregister(mark).await;
        }
        Ok(deleted)
    }

    /// How many there were of each id, which are deleted and marked for the registry.
    async fn unlink(&self, mark: i64, ids: &[String]) -> Result<Vec<Result<u64>>> {
        let marked = self.mark(mark, ids).await;
        marked.map_err(|error| error.after_sending(false))?; // no UNLINK was
        let unlinks = self.commands("UNLINK", ids.iter().map(String::as_str));
        let answers = self.send(&unlinks.once()).await?.into_iter();
        let counts = answers.map(|answer| match self.answer(answer)? {
            Value::Int(count) => Ok(count.unsigned_abs()),
            _ => Err(self.unexpected("UNLINK").after_sending(true)),
        });
        Ok(counts.collect())
    }

    /// The JSON bytes under a key of any namespace.
    pub async fn get_key(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let request = Request::resendable([command("GET", [key])]);
        let answer = self.send(&request).await?.pop();
        self.found(&String::from_utf8_lossy(key), answer.unwrap_or_default())
    }

    /// Whether each server answers, within the operation's deadline.
    pub async fn ping(&self) -> Result<()> {
        let ping = Request::resendable([redis::cmd("PING")]);
        for node in self.primaries().await? {
            self.answer(first(self.send_to(&node, &ping).await?))?;
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

    fn key(&self, id: &str) -> Vec<u8> {
        self.config.keyspace.key(id)
    }

    /// Sends a request and waits for its answers.
    async fn send(&self, request: &Request) -> Result<Vec<Answer>> {
        if request.is_empty() {
            return Ok(Vec::new()); // no server has answered, so that an outage is not over
        }
        self.asked(self.connections.send(request)).await
    }

    /// The same of a node, for what is no key's.
    async fn send_to(&self, node: &Arc<Node>, request: &Request) -> Result<Vec<Answer>> {
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
        let answer = if self.first_use.is_due() {
            // Beside the question, so that a first call takes no longer than any other; apart from it
            // in memory, which every call would have to take.
            let look = Box::pin(self.first_use.look(&self.connections, &self.notices));
            join(answered, look).await.0
        } else {
            answered.await
        };
        let answer = answer.map_err(|error| error.in_namespace(&self.config.namespace))?;
        if let Some(line) = self.outage.answered() {
            self.tell(Event::OutageEnded, &line);
        }
        Ok(answer)
    }

    fn answer(&self, answer: Answer) -> Result<Value> {
        answer
            .value()
            .map_err(|error| error.in_namespace(&self.config.namespace))
    }

    fn found(&self, id: &str, answer: Answer) -> Result<Option<Bytes>> {
        let opened = match answer.checked() {
            Ok(Answer::Text(stored)) => {
                sealing::open(stored, self.config.max_value_bytes, &self.counters).map(Some)
            }
            Ok(Answer::Other(Value::Nil)) => Ok(None),
            Ok(_) => Err(self.unexpected("GET")),
            Err(error) => Err(error),
        };
        opened.map_err(|error| error.about(id).in_namespace(&self.config.namespace))
    }

    fn unexpected(&self, command: &str) -> Error {
        let message =
            format!("the server answered {command} with another type: is it a Redis server?");
        Error::new(Kind::Operation, message).in_namespace(&self.config.namespace)
    }
}

/// The answer of a request of one command.
fn first(answers: Vec<Answer>) -> Answer {
    answers.into_iter().next().unwrap_or_default()
}

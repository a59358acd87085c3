//! The calls of one event loop: who waits, what was batched for them, and the futures they wait for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use super::{Completion, Futures, Job, Tasks, apart, error_of, lost};
use crate::client::deadline;
use crate::error::Result;
use crate::store::{BATCH_BYTES, BATCH_ITEMS, Batch, KvStore};

/// Reads, or writes, batched in one turn of the loop before the first of them leave.
const EARLY: usize = 16;

/// A call whose result the future will hold.
pub(super) struct Call {
    pub(super) future: Py<PyAny>,
    pub(super) job: Box<dyn Job>,
    pub(super) tasks: Tasks,
    /// Whether it waits in a request shared with others, which its caller's leaving cannot end.
    pub(super) batched: bool,
}

#[derive(Default)]
pub(super) struct PendingCalls {
    /// Never used twice, so that a late reply finds nobody rather than somebody else.
    pub(super) last_ticket: u64,
    pub(super) waiting: IntegerMap<u64, Call>,
    pub(super) reads: TurnBatches<String>,
    pub(super) writes: TurnBatches<Batch>,
    pub(super) flush_asked: bool,
    /// Whether the last flush was for a call that was alone on its loop, so that the next one has nobody to wait for.
    /// Of callers that take turns, the first to call again would leave without the others, and these each by itself.
    alone: bool,
    /// How often something left before this turn of the loop was over.
    early: u32,
    /// Jobs that asked for another turn.
    pub(super) again: Vec<u64>,
    pub(super) futures: Futures<Completions>,
}

impl PendingCalls {
    /// Whether what is batched so far, this ticket's call the latest, is to leave now, so that the server has something
    /// to do while the turn goes on: a call that is alone again, a few of many at first, then whole batches.
    pub(super) fn is_early(&mut self, ticket: u64) -> bool {
        let batched = self.reads.len().max(self.writes.len());
        if self.alone && batched == 1 && self.waiting.len() == 1 {
            return self.waiting.contains_key(&ticket);
        }
        let early = batched >= BATCH_ITEMS.min(EARLY << self.early.min(8));
        self.early += u32::from(early);
        early
    }

    /// The turn in which a flush was asked for is over.
    pub(super) fn end_turn(&mut self) {
        self.alone = self.waiting.len() == 1;
        self.flush_asked = false;
        self.early = 0;
    }

    /// Turns what was batched into requests to be polled.
    pub(super) fn send_batches(&mut self, runtime: &'static Runtime) {
        self.reads.take().send(
            runtime,
            &self.futures,
            |_| 0,
            |store, ids| async move {
                let values = store.get_batch(&ids).await;
                each(values, ids.len()).map(Completion::Found).collect()
            },
        );
        self.writes.take().send(
            runtime,
            &self.futures,
            Batch::json_bytes,
            |store, batches| async move {
                let (ids, outcomes) = store.upsert(Batch::join(batches)).await;
                let outcomes = each(outcomes, ids.len());
                ids.into_iter()
                    .zip(outcomes)
                    .map(|(id, outcome)| Completion::Stored(id, outcome))
                    .collect()
            },
        );
    }
}

/// The outcomes of a batch, one for each of its items; a failed batch fails each.
fn each<T>(outcomes: Result<Vec<Result<T>>>, count: usize) -> impl Iterator<Item = Result<T>> {
    let (outcomes, error) = match outcomes {
        Ok(outcomes) => (outcomes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    outcomes
        .into_iter()
        .chain(error.into_iter().cycle().take(count).map(Err))
}

/// Replies, each with the ticket of the job it is for.
pub(super) type Completions = Vec<(u64, Completion)>;

/// Single reads or writes made in one turn of a loop, by the store they are for.
pub(super) struct TurnBatches<T> {
    batches: Vec<StoreBatch<T>>,
    /// Which batch is a store's, by the address of the store that the batch keeps.
    of_store: IntegerMap<usize, usize>,
    items: usize,
}

struct StoreBatch<T> {
    store: Arc<KvStore>,
    tickets: Vec<u64>,
    items: Vec<T>,
}

impl<T> Default for TurnBatches<T> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            of_store: IntegerMap::default(),
            items: 0,
        }
    }
}

impl<T: Send + 'static> TurnBatches<T> {
    /// How many items wait to be sent.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn add(&mut self, ticket: u64, store: &Arc<KvStore>, item: T) {
        let next = self.batches.len();
        let address = Arc::as_ptr(store).addr();
        let index = *self.of_store.entry(address).or_insert(next);
        if index == next {
            self.batches.push(StoreBatch {
                store: Arc::clone(store),
                tickets: Vec::new(),
                items: Vec::new(),
            });
        }
        let batch = &mut self.batches[index];
        batch.tickets.push(ticket);
        batch.items.push(item);
        self.items += 1;
    }

    /// Takes back the item of a call that ended before its batch was sent: one of the latest.
    pub(super) fn remove(&mut self, ticket: u64) {
        for batch in &mut self.batches {
            if let Some(index) = batch.tickets.iter().rposition(|known| *known == ticket) {
                batch.tickets.remove(index);
                batch.items.remove(index);
                self.items -= 1;
                return;
            }
        }
    }

    /// Sends each batch in batches, in the order in which the calls were made. `weigh` gives the bytes
    /// an item sends.
    pub(super) fn send<F>(
        self,
        runtime: &'static Runtime,
        futures: &Futures<Completions>,
        weigh: impl Fn(&T) -> usize,
        call: impl Fn(Arc<KvStore>, Vec<T>) -> F,
    ) where
        F: Future<Output = Vec<Completion>> + Send + 'static,
    {
        for batch in self.batches {
            let mut calls = batch.tickets.into_iter().zip(batch.items).peekable();
            while calls.peek().is_some() {
                let (mut tickets, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
                while chunk.len() < BATCH_ITEMS
                    && bytes < BATCH_BYTES
                    && let Some((ticket, item)) = calls.next()
                {
                    bytes += weigh(&item);
                    tickets.push(ticket);
                    chunk.push(item);
                }
                // As in `Spawner::run_batch`; one value alone takes less than the way there.
                let compressed = batch.store.compresses() && chunk.len() > 1;
                let limit = batch.store.config().server.operation_timeout;
                let answers = deadline::within(limit, call(Arc::clone(&batch.store), chunk));
                futures.push(Box::pin(async move {
                    let answers = AssertUnwindSafe(answers).catch_unwind();
                    let answers = if compressed {
                        apart(runtime, answers).await
                    } else {
                        Some(answers.await)
                    };
                    let error = match answers {
                        Some(Ok(answers)) => return tickets.into_iter().zip(answers).collect(),
                        Some(Err(payload)) => error_of(&*payload),
                        None => lost(),
                    };
                    let all = tickets.into_iter();
                    all.map(|ticket| (ticket, Completion::Lost(error.clone())))
                        .collect()
                }));
            }
        }
    }
}

/// A map whose keys are numbers that no stranger chooses: it needs no hash that resists one.
pub(super) type IntegerMap<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Spreads a number over all bits, of which a map uses the lowest and the highest.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: Knuth, The Art of Computer Programming 3, 6.4.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

//! Single reads and writes made in one turn of a loop, batched into requests.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::integer_map::IntegerMap;
use super::{Completion, Futures, Process};
use crate::store::{BATCH_BYTES, BATCH_ITEMS, KvStore};

/// Replies, each with the ticket of the job it is for.
pub(super) type Completions = Vec<(u64, Completion)>;

/// Items by the store they are for.
pub(super) struct TurnBatches<T> {
    batches: Vec<Batch<T>>,
    /// Which batch is a store's, by the address of the store that the batch keeps.
    of_store: IntegerMap<usize, usize>,
    items: usize,
}

struct Batch<T> {
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
            self.batches.push(Batch {
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
        process: &'static Process,
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
                let apart = batch.store.compresses() && chunk.len() > 1;
                let answers = call(Arc::clone(&batch.store), chunk);
                futures.push(Box::pin(async move {
                    let answers = if apart {
                        process.apart(answers).await
                    } else {
                        AssertUnwindSafe(answers).catch_unwind().await.ok()
                    };
                    let lost = || tickets.iter().map(|_| Completion::Lost).collect();
                    let answers = answers.unwrap_or_else(lost);
                    tickets.into_iter().zip(answers).collect()
                }));
            }
        }
    }
}

//! Single reads and writes made in one turn of a loop, gathered into requests.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::calls::Letters;
use super::{Futures, Process, Reply};
use crate::store::{KvStore, PIECE_BYTES, PIECE_ITEMS};

/// Items by the store they are for. An application has a handful of stores.
pub(super) struct Gathered<T>(Vec<Batch<T>>);

struct Batch<T> {
    store: Arc<KvStore>,
    tickets: Vec<u64>,
    items: Vec<T>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Send + 'static> Gathered<T> {
    /// How many items wait to be sent.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|batch| batch.items.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn add(&mut self, ticket: u64, store: &Arc<KvStore>, item: T) {
        let known = self
            .0
            .iter()
            .position(|batch| Arc::ptr_eq(&batch.store, store));
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Batch {
                store: Arc::clone(store),
                tickets: Vec::new(),
                items: Vec::new(),
            });
        }
        let batch = &mut self.0[index];
        batch.tickets.push(ticket);
        batch.items.push(item);
    }

    /// Takes back the item of a call that ended before its batch was sent.
    pub(super) fn remove(&mut self, ticket: u64) {
        for batch in &mut self.0 {
            if let Some(index) = batch.tickets.iter().position(|known| *known == ticket) {
                batch.tickets.remove(index);
                batch.items.remove(index);
            }
        }
    }

    /// Sends each batch in pieces, in the order in which the calls were made. `weigh` gives the bytes
    /// an item sends.
    pub(super) fn send<F>(
        self,
        process: &'static Process,
        futures: &Futures<Letters>,
        weigh: impl Fn(&T) -> usize,
        call: impl Fn(Arc<KvStore>, Vec<T>) -> F,
    ) where
        F: Future<Output = Vec<Reply>> + Send + 'static,
    {
        for batch in self.0 {
            let mut calls = batch.tickets.into_iter().zip(batch.items).peekable();
            while calls.peek().is_some() {
                let (mut tickets, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
                while piece.len() < PIECE_ITEMS
                    && bytes < PIECE_BYTES
                    && let Some((ticket, item)) = calls.next()
                {
                    bytes += weigh(&item);
                    tickets.push(ticket);
                    piece.push(item);
                }
                // As in `Spawner::run_piece`; one value alone takes less than the way there.
                let apart = batch.store.compresses() && piece.len() > 1;
                let answers = call(Arc::clone(&batch.store), piece);
                futures.push(Box::pin(async move {
                    let answers = if apart {
                        process.apart(answers).await
                    } else {
                        AssertUnwindSafe(answers).catch_unwind().await.ok()
                    };
                    let lost = || tickets.iter().map(|_| Reply::Lost).collect();
                    let answers = answers.unwrap_or_else(lost);
                    tickets.into_iter().zip(answers).collect()
                }));
            }
        }
    }
}

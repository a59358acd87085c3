//! Single reads and writes made in one turn of a loop, gathered into requests.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::Reply;
use super::calls::Letters;
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

    /// The requests of each batch, in pieces, in the order in which the calls were made. `weigh`
    /// gives the bytes an item sends.
    pub(super) fn requests<F>(
        self,
        weigh: impl Fn(&T) -> usize,
        call: impl Fn(Arc<KvStore>, Vec<T>) -> F,
    ) -> Vec<impl Future<Output = Letters> + Send + 'static>
    where
        F: Future<Output = Vec<Reply>> + Send + 'static,
    {
        let mut requests = Vec::new();
        for batch in self.0 {
            let mut calls = batch.tickets.into_iter().zip(batch.items).peekable();
            while calls.peek().is_some() {
                let (mut piece_tickets, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
                while piece.len() < PIECE_ITEMS
                    && bytes < PIECE_BYTES
                    && let Some((ticket, item)) = calls.next()
                {
                    bytes += weigh(&item);
                    piece_tickets.push(ticket);
                    piece.push(item);
                }
                let answers = call(Arc::clone(&batch.store), piece);
                requests.push(async move {
                    let answers = AssertUnwindSafe(answers).catch_unwind().await;
                    let lost = || piece_tickets.iter().map(|_| Reply::Lost).collect();
                    let answers = answers.unwrap_or_else(|_| lost());
                    piece_tickets.into_iter().zip(answers).collect()
                });
            }
        }
        requests
    }
}

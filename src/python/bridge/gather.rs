//! Single reads and writes made in one turn of a loop, gathered into requests.

use std::sync::Arc;

use super::port::Inbox;
use super::{Process, Reply};
use crate::store::{KvStore, READ_PIECE};

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

    /// Sends each batch in pieces, in the order in which the calls were made.
    pub(super) fn send<F>(
        self,
        process: &'static Process,
        inbox: &Arc<Inbox>,
        call: impl Fn(Arc<KvStore>, Vec<T>) -> F,
    ) where
        F: Future<Output = Vec<Reply>> + Send + 'static,
    {
        for batch in self.0 {
            let (mut tickets, mut items) = (batch.tickets.into_iter(), batch.items.into_iter());
            while items.len() > 0 {
                let piece: Vec<T> = items.by_ref().take(READ_PIECE).collect();
                let piece_tickets: Vec<u64> = tickets.by_ref().take(READ_PIECE).collect();
                let (inbox, answers) = (Arc::clone(inbox), call(Arc::clone(&batch.store), piece));
                process.runtime.spawn(async move {
                    inbox.put(piece_tickets.into_iter().zip(answers.await));
                });
            }
        }
    }
}

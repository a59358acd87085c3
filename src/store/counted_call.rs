//! A call on a store: how it ended and how long it took are counted once, for metrics and `get_stats()`.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use super::KvStore;
use crate::error::Result;
use crate::metrics::{Operation, Status};

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

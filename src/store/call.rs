//! A call, from its beginning to its end.

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

    /// Forgives a failure where the outage policy says so, as [`KvStore::forgive`], and remembers it.
    pub fn forgive(&self, error: crate::error::Error) -> Result<()> {
        self.store.forgive(error)?;
        self.forgiven.set(true);
        Ok(())
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

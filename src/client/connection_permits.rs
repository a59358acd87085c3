//! How many sockets one set of connections may hold, whatever they are used for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The cap, and how much of it is taken.
pub(super) struct Permits {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// The right to one socket, given back when dropped.
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permits {
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// A permit, as long as more than `spared` are free.
    pub(super) fn take(&self, spared: usize) -> Option<Permit> {
        let free = |taken| (taken + spared < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Relaxed, Relaxed, free)
            .is_ok()
            .then(|| Permit(Arc::clone(&self.taken)))
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

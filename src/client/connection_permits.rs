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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_had_while_more_are_free_than_are_to_be_spared() {
        let permits = Permits::new(3);
        let held: Vec<_> = (0..2).map(|_| permits.take(1).unwrap()).collect();
        assert!(permits.take(1).is_none());
        let last = permits.take(0).unwrap();
        assert!(permits.take(0).is_none());
        assert_eq!(permits.taken(), 3);
        drop((held, last));
        assert_eq!(permits.taken(), 0);
    }
}

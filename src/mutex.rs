//! A lock that outlives a panic: what this crate keeps under one is valid after every statement.

use std::sync::{self, MutexGuard, PoisonError};

/// A mutex that is never poisoned. It is the standard library's, which a forked child finds free or held
/// as its parent left it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

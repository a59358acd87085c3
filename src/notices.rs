//! Lines for the log, kept until someone who can write one comes by.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What was found and nobody has been told yet.
#[derive(Default)]
pub(crate) struct Notices {
    any: AtomicBool,
    lines: Mutex<Vec<String>>,
}

impl Notices {
    pub(crate) fn push(&self, line: String) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        self.any.store(true, Relaxed);
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        // Loaded first: the line stays shared between cores while there is nothing to tell.
        if !self.any.load(Relaxed) || !self.any.swap(false, Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

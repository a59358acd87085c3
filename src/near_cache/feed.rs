//! What is known of the tracking connection: whether it lives, and which prefixes it covers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What every key of a namespace starts with, and whether the server tells what changes there.
pub(crate) struct Prefix {
    text: Vec<u8>,
    tracked: AtomicBool,
}

impl Prefix {
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

/// The tracking connection, as its copies see it.
pub(crate) struct Feed {
    born: Instant,
    /// Nanoseconds after `born` at which what was heard last is too old to be relied on.
    lease: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections made so far: news of an old one do not concern the present one.
    session: u64,
    alive: bool,
    prefixes: Vec<Arc<Prefix>>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            lease: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// The prefix of a namespace, one for all its stores.
    pub(super) fn prefix(&self, text: &[u8]) -> Arc<Prefix> {
        let mut state = self.lock();
        if let Some(known) = state.prefixes.iter().find(|known| known.text == text) {
            return Arc::clone(known);
        }
        let prefix = Arc::new(Prefix {
            text: text.to_owned(),
            tracked: AtomicBool::new(false),
        });
        state.prefixes.push(Arc::clone(&prefix));
        prefix
    }

    /// Whether any store keeps copies under this prefix.
    pub(crate) fn covers(&self, text: &[u8]) -> bool {
        self.lock().prefixes.iter().any(|known| known.text == text)
    }

    /// Whether copies under this prefix are kept right at `now`.
    pub(super) fn vouches(&self, prefix: &Prefix, now: Instant) -> bool {
        prefix.tracked.load(Relaxed) && self.nanoseconds(now) < self.lease.load(Relaxed)
    }

    /// A connection was made: its number.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.session += 1;
        state.alive = true;
        state.session
    }

    /// The prefixes that the server was not asked to track yet.
    pub(crate) fn untracked(&self) -> Vec<Arc<Prefix>> {
        let state = self.lock();
        let untracked = state
            .prefixes
            .iter()
            .filter(|prefix| !prefix.tracked.load(Relaxed));
        untracked.cloned().collect()
    }

    /// The server tracks these prefixes for the connection of this number.
    pub(crate) fn tracks(&self, session: u64, prefixes: &[Arc<Prefix>]) {
        let state = self.lock();
        if state.alive && state.session == session {
            for prefix in prefixes {
                prefix.tracked.store(true, Relaxed);
            }
        }
    }

    /// The connection of this number was heard of: what it says is relied on until `until`.
    pub(crate) fn renew(&self, session: u64, until: Instant) {
        let state = self.lock();
        if state.alive && state.session == session {
            self.lease.store(self.nanoseconds(until), Relaxed);
        }
    }

    /// The connection of this number is lost. True if it was the present one.
    pub(super) fn end(&self, session: u64) -> bool {
        let mut state = self.lock();
        if !state.alive || state.session != session {
            return false;
        }
        state.alive = false;
        self.lease.store(0, Relaxed);
        for prefix in &state.prefixes {
            prefix.tracked.store(false, Relaxed);
        }
        true
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        // 2^64 nanoseconds are 584 years.
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Which local copies may be served: what the server says of changes, what this process writes, and what happened
//! meanwhile.
//!
//! What keeps a stale value from being served:
//!
//! - A copy is served only while the *lease* runs, which each answered PING of the tracking
//!   connection renews, so that neither a silent connection nor a process that was suspended
//!   serves for longer than that. A connection that is lost takes all copies with it.
//! - A reply becomes a copy only if nothing that may concern it happened between the moment before
//!   it was asked for and now: [`Namespace::begin`] notes the state, [`Namespace::keep`] compares.
//! - Who writes has the copy forgotten before the write leaves, and again when its outcome is
//!   known, for what was read in between: [`Change`].
//! - A copy expires when its key does.
//!
//! Of a cluster each primary is listened to, and each has to be heard: a slot may be anywhere the
//! next moment. A primary that was not known before takes all copies with it, before the first
//! answer of it is read.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory_budget::{Copies, Copy};
use super::tracking_lease::{Prefix, Tracking};
use crate::memory;
use crate::metrics::{Count, Counters, ServerCount, StoreCounters};
use crate::mutex::Mutex;

/// Keys are told apart by their hash modulo this where it is noted that something happened to
/// them. Two that share a number cost a copy that is not made, never one that is wrong.
const STRIPES: usize = 4096;

/// The copies of the values of one server.
pub(crate) struct NearCache {
    state: Mutex<State>,
    stripes: RandomState,
    tracking: Tracking,
    counters: Arc<Counters>,
}

struct State {
    copies: Copies,
    /// How often everything was forgotten.
    epoch: u64,
    /// How often keys of each stripe were forgotten.
    generations: Box<[u32]>,
}

/// What a cache holds and has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearCacheStats {
    /// Whether the server tells what changes, so that copies are kept and served.
    pub tracking: bool,
    /// Bytes the copies may take.
    pub budget: usize,
    /// Bytes they take, with keys and bookkeeping.
    pub bytes: u64,
    /// Copies held.
    pub values: usize,
    /// Reads of the store that were answered locally.
    pub hits: u64,
    /// Reads of the store that were sent to the server.
    pub misses: u64,
    /// Copies that made room for others.
    pub evictions: u64,
    /// Keys that the server said have changed, and times that it said all have.
    pub invalidations: u64,
}

/// What the copies of one server take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes they may take.
    pub budget: usize,
    /// Bytes they take, with keys and bookkeeping.
    pub bytes: u64,
    /// How many they are.
    pub values: usize,
}

impl NearCache {
    /// What happens to its copies is counted there.
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            state: Mutex::new(State {
                copies: Copies::new(0),
                epoch: 0,
                generations: vec![0; STRIPES].into(),
            }),
            stripes: RandomState::new(),
            tracking: Tracking::new(),
            counters,
        }
    }

    /// What the tracking connection keeps up to date.
    pub(crate) fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// Allows at least `budget` bytes: of several stores, the one that asks for most decides.
    pub(crate) fn allow(&self, budget: usize) {
        let mut state = self.state.lock();
        if budget > state.copies.budget() {
            // A cache that was in use starts anew: stores are made first and read from afterwards.
            state.copies = Copies::new(budget);
        }
    }

    /// What the copies take.
    pub(crate) fn held(&self) -> Held {
        let state = self.state.lock();
        Held {
            budget: state.copies.budget(),
            bytes: state.copies.bytes(),
            values: state.copies.count(),
        }
    }

    /// Forgets keys, and what is being read of them.
    pub(crate) fn forget<'key>(&self, keys: impl IntoIterator<Item = &'key [u8]>) {
        for key in keys {
            let stripe = self.stripe(key);
            let mut state = self.state.lock();
            let generation = &mut state.generations[stripe];
            *generation = generation.wrapping_add(1);
            let copy = state.copies.remove(key);
            drop(state);
            drop(copy);
        }
    }

    /// Forgets everything, and all that is being read.
    pub(crate) fn empty(&self) {
        let mut state = self.state.lock();
        state.epoch += 1;
        let copies = state.copies.take();
        drop(state);
        drop(copies);
    }

    /// The server says that these keys have changed.
    pub(crate) fn invalidate<'key>(&self, keys: impl IntoIterator<Item = &'key [u8]>) {
        self.forget(keys.into_iter().inspect(|_| {
            self.counters.count(ServerCount::NearInvalidations, 1);
        }));
    }

    /// The server says that all keys have changed.
    pub(crate) fn invalidate_all(&self) {
        self.counters.count(ServerCount::NearInvalidations, 1);
        self.empty();
    }

    /// The tracking connection of this number is lost: what has changed since will not be told.
    pub(crate) fn lost(&self, session: u64) {
        if self.tracking.end(session) {
            self.empty();
        }
    }

    /// There is a server that is not listened to yet; the highest number that one has.
    pub(crate) fn suspend(&self, generation: u32) {
        self.tracking.suspend(generation);
        self.empty();
    }

    /// Copies are kept as long as each of these servers is heard. Told by who knows of the servers
    /// up to this number.
    pub(crate) fn expect(&self, generation: u32, servers: Vec<u32>) {
        self.tracking.expect(generation, servers);
    }

    /// This cache if any store keeps copies of the namespace of this prefix. Writes to others cost no bookkeeping here;
    /// a store that has no copies itself writes for those that have.
    pub(crate) fn if_any_copies(&self, prefix: &str) -> Option<&Self> {
        self.tracking.covers(prefix.as_bytes()).then_some(self)
    }

    /// To be held while keys are written.
    pub(crate) fn change(&self, keys: Vec<Vec<u8>>) -> Change<'_> {
        self.forget(keys.iter().map(Vec::as_slice));
        Change { cache: self, keys }
    }

    fn stripe(&self, key: &[u8]) -> usize {
        // The remainder is below STRIPES, so it fits.
        usize::try_from(self.stripes.hash_one(key) % STRIPES as u64).unwrap_or(0)
    }
}

/// A write under way: its keys are forgotten when it begins, and when it ends, however it ends.
pub(crate) struct Change<'cache> {
    cache: &'cache NearCache,
    keys: Vec<Vec<u8>>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.cache.forget(self.keys.iter().map(Vec::as_slice));
    }
}

/// A read under way: what was the case before it was sent.
pub(crate) struct Fetch {
    asked: Instant,
    epoch: u64,
    /// Of the keys' stripes, in the order of the keys.
    generations: Vec<(usize, u32)>,
}

/// The cache as one namespace sees it.
pub(crate) struct Namespace {
    cache: Arc<NearCache>,
    prefix: Arc<Prefix>,
    counters: StoreCounters,
}

impl Namespace {
    /// The keys that start with `prefix`, whose copies may take `budget` bytes with all others.
    /// Its reads are counted there.
    pub(crate) fn new(
        cache: &Arc<NearCache>,
        prefix: &[u8],
        budget: usize,
        counters: StoreCounters,
    ) -> Self {
        cache.allow(budget);
        Self {
            cache: Arc::clone(cache),
            prefix: cache.tracking.prefix(prefix),
            counters,
        }
    }

    /// The JSON of a key, where there is a copy that may be served.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        let now = Instant::now();
        if !self.cache.tracking.vouches(&self.prefix, now) {
            return None;
        }
        let mut state = self.cache.state.lock();
        let copy = state.copies.get(key)?;
        if copy.until.is_some_and(|until| until <= now) {
            state.copies.remove(key);
            return None;
        }
        let json = Arc::clone(&copy.json);
        drop(state);
        self.counters.count(Count::NearHits, 1);
        Some(json)
    }

    /// To be called before keys are read; None if nothing that comes back may be kept.
    pub(crate) fn begin(&self, keys: &[Vec<u8>]) -> Option<Fetch> {
        self.counters.count(Count::NearMisses, keys.len() as u64);
        let asked = Instant::now();
        let stripes: Vec<_> = keys.iter().map(|key| self.cache.stripe(key)).collect();
        let state = self.cache.state.lock();
        // Asked with the lock held: a connection that was lost by then has either taken away the
        // assent or will raise the epoch noted here.
        if !self.cache.tracking.vouches(&self.prefix, asked) {
            return None;
        }
        let generations = stripes
            .into_iter()
            .map(|stripe| (stripe, state.generations[stripe]))
            .collect();
        Some(Fetch {
            asked,
            epoch: state.epoch,
            generations,
        })
    }

    /// Keeps what was read of the key with this index, unless something has happened since.
    ///
    /// `ttl` is what the server said remains of its time to live. It is counted from before the
    /// question was sent, so that the copy goes first.
    pub(crate) fn keep(
        &self,
        fetch: &Fetch,
        index: usize,
        key: &[u8],
        json: &[u8],
        ttl: Option<Duration>,
    ) {
        let Some((stripe, generation)) = fetch.generations.get(index) else {
            return;
        };
        let until = ttl.and_then(|ttl| fetch.asked.checked_add(ttl));
        if memory::look_for(json.len()).is_err() {
            return self.cache.forget([key]); // what is kept of it may be older than what was read
        }
        let json: Arc<[u8]> = json.into();
        let mut state = self.cache.state.lock();
        if state.epoch != fetch.epoch || state.generations[*stripe] != *generation {
            return;
        }
        if state
            .copies
            .get(key)
            .is_some_and(|other| other.json != json)
        {
            // Two reads at once saw two values. Which is the newer the server is about to tell;
            // until then no caller is led back from the one to the other.
            drop(state);
            return self.cache.forget([key]);
        }
        let evicted = state.copies.put(key, Copy { json, until });
        drop(state);
        if evicted.count() > 0 {
            let counters = &self.cache.counters;
            counters.count(ServerCount::NearEvictions, evicted.count());
        }
    }

    pub(crate) fn stats(&self) -> NearCacheStats {
        let tracking = self.cache.tracking.vouches(&self.prefix, Instant::now());
        let held = self.cache.held();
        NearCacheStats {
            tracking,
            budget: held.budget,
            bytes: held.bytes,
            values: held.values,
            hits: self.counters.get(Count::NearHits),
            misses: self.counters.get(Count::NearMisses),
            evictions: self.cache.counters.counted(ServerCount::NearEvictions),
            invalidations: self.cache.counters.counted(ServerCount::NearInvalidations),
        }
    }
}

#[cfg(test)]
mod tests;

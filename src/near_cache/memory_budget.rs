//! The copies within their budget of memory: how large one may be, which stay and which make room.

use std::sync::Arc;
use std::time::Instant;

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

/// Bytes a copy takes besides its key and its JSON: the entry, its place in the table, the headers
/// and the rounding of two allocations, its share of the memory of what was evicted.
const BOOKKEEPING: usize = 256;
/// Bytes a value is guessed to take, from which follows how many evicted keys are remembered.
const TYPICAL: usize = 4096;
/// The part of the budget that one value may take: a larger one would push out too many others.
const LARGEST_SHARE: usize = 8;

/// One value as the server had it.
pub(super) struct Copy {
    pub(super) json: Arc<[u8]>,
    /// When the key expires on the server; None is never.
    pub(super) until: Option<Instant>,
}

/// What was pushed out by an insertion: dropped by the caller, once nobody waits for the lock.
#[derive(Default)]
pub(super) struct Evicted(Vec<(Box<[u8]>, Copy)>);

impl Evicted {
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Copy> for Bytes {
    fn weight(&self, key: &Box<[u8]>, copy: &Copy) -> u64 {
        weight(key.len(), copy.json.len()) as u64
    }
}

struct Collect;

impl Lifecycle<Box<[u8]>, Copy> for Collect {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: Box<[u8]>, copy: Copy) {
        evicted.0.push((key, copy));
    }
}

/// Copies by Redis key, up to a budget in bytes.
pub(super) struct Copies {
    cache: Cache<Box<[u8]>, Copy, Bytes, DefaultHashBuilder, Collect>,
    budget: usize,
}

impl Copies {
    pub(super) fn new(budget: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        Self {
            cache: Cache::with(budget / TYPICAL, budget as u64, Bytes, hasher, Collect),
            budget,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Copy> {
        self.cache.get(key)
    }

    /// Keeps a copy where its size allows; what has to go for it comes back.
    pub(super) fn put(&mut self, key: &[u8], copy: Copy) -> Evicted {
        let mut evicted = Evicted::default();
        if weight(key.len(), copy.json.len()) <= self.budget / LARGEST_SHARE {
            self.cache
                .insert_with_lifecycle(key.into(), copy, &mut evicted);
        }
        evicted
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<(Box<[u8]>, Copy)> {
        self.cache.remove(key)
    }

    /// All of them, to be dropped once nobody waits for the lock; none are left.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.budget))
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    pub(super) fn count(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

fn weight(key: usize, json: usize) -> usize {
    key + json + BOOKKEEPING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(copies: &mut Copies, key: &str, bytes: usize) -> Evicted {
        let json = vec![b'1'; bytes].into();
        copies.put(key.as_bytes(), Copy { json, until: None })
    }

    #[test]
    fn the_budget_holds_whatever_comes_and_evictions_are_handed_back() {
        let mut copies = Copies::new(100_000);
        let mut evicted = 0;
        for round in 0..1000_usize {
            evicted += put(&mut copies, &format!("key-{round}"), round * 7 % 5000).count();
            assert!(copies.bytes() <= 100_000);
        }
        assert_eq!(copies.count() as u64 + evicted, 1000);
        assert!(copies.count() > 10);
    }

    #[test]
    fn a_value_over_an_eighth_of_the_budget_is_not_kept_and_pushes_nobody_out() {
        let mut copies = Copies::new(80_000);
        put(&mut copies, "small", 100);
        let fits = 10_000 - BOOKKEEPING - "large".len();
        assert_eq!(put(&mut copies, "large", fits + 1).count(), 0);
        assert!(copies.get(b"large").is_none() && copies.get(b"small").is_some());
        put(&mut copies, "large", fits);
        assert!(copies.get(b"large").is_some());
    }

    #[test]
    fn what_is_read_again_and_again_outlives_a_scan() {
        let mut copies = Copies::new(200_000);
        for key in 0..50 {
            put(&mut copies, &format!("hot-{key}"), 1000);
        }
        for round in 0..2000 {
            for key in 0..50 {
                copies.get(format!("hot-{key}").as_bytes());
            }
            put(&mut copies, &format!("scan-{round}"), 1000);
        }
        let kept = (0..50).filter(|key| copies.get(format!("hot-{key}").as_bytes()).is_some());
        assert!(kept.count() >= 45);
    }
}

//! How many ids one request has; and how many to ask for, by the size of the values that came so far.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::KvStore;
use crate::error::Result;

/// Ids in one request that moves values. Small enough that others' requests get in between, large enough that
/// the cost of a request is shared.
pub const BATCH_ITEMS: usize = 64;
/// Bytes of values in one write request, beyond which it takes no further item.
pub const BATCH_BYTES: usize = 1 << 20;
/// Ids in one request that moves no values.
pub const KEY_BATCH: usize = 512;
/// Requests of one batch under way at a time.
pub const WINDOW: usize = 4;
/// Ids in one request after existence: what the server answers while the next one is made.
pub const EXISTS_BATCH: usize = 256;
/// Requests after existence under way at a time.
pub const EXISTS_WINDOW: usize = 8;

/// Bytes of values under way at a time, as far as the size of those before tells.
const WINDOW_BYTES: usize = WINDOW * BATCH_BYTES;
/// Ids asked for first, when nothing is known of their values.
const FIRST: usize = 16;
/// How many times more to ask for than before at most: the next values may be larger.
const GROWTH: usize = 4;

/// Ids and what was found of each.
pub type Fetched = Vec<(String, Result<Option<Bytes>>)>;

/// Tells how many ids to ask for next.
pub struct BatchSizer {
    ids: usize,
}

impl Default for BatchSizer {
    fn default() -> Self {
        Self { ids: FIRST }
    }
}

/// Bytes of the largest value that was read of a namespace; 0 while none was.
#[derive(Debug, Default)]
pub(super) struct Largest(AtomicUsize);

impl Largest {
    pub(super) fn note(&self, found: &[Result<Option<Bytes>>]) {
        let sizes = found.iter().flatten().flatten().map(Bytes::len);
        let largest = sizes.max().unwrap_or(0);
        // Loaded first: the line stays shared between cores.
        if largest > self.0.load(Relaxed) {
            self.0.fetch_max(largest, Relaxed);
        }
    }
}

impl BatchSizer {
    /// Begins with as many ids as could all hold the largest value that was read of this namespace.
    #[must_use]
    pub fn of(store: &KvStore) -> Self {
        match store.largest.0.load(Relaxed) {
            0 => Self::default(),
            bytes => Self {
                ids: (WINDOW_BYTES / bytes).clamp(1, WINDOW * BATCH_ITEMS),
            },
        }
    }

    /// Ids to ask for at a time.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// Ids to ask for by one of [`WINDOW`] requests under way.
    #[must_use]
    pub fn per_request(&self) -> usize {
        (self.ids / WINDOW).max(1)
    }

    /// Learns of the values that came of so many ids.
    pub fn learn(&mut self, found: &[Result<Option<Bytes>>]) {
        let sizes = found.iter().flatten().flatten().map(Bytes::len);
        let mean = sizes.sum::<usize>() / found.len().max(1);
        let most = (GROWTH * self.ids).min(WINDOW * BATCH_ITEMS);
        self.ids = (WINDOW_BYTES / mean.max(1)).clamp(1, most);
    }

    /// What each of the ids holds, or why it cannot be read.
    pub(crate) async fn fetch(
        &mut self,
        store: &KvStore,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        let chunks = ids.chunks(BATCH_ITEMS).map(|chunk| store.fetch(chunk));
        let found = try_join_all(chunks).await?.into_iter().flatten();
        let found: Vec<_> = found.collect();
        self.learn(&found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, bytes: usize) -> Vec<Result<Option<Bytes>>> {
        let value = Bytes::from(vec![0; bytes]);
        (0..count).map(|_| Ok(Some(value.clone()))).collect()
    }

    #[test]
    fn no_more_than_a_batch_of_large_values_is_under_way() {
        for bytes in [1, 5_000, 20_000, 100_000, 1 << 20, 5 << 20, 50 << 20] {
            let mut batch_sizer = BatchSizer::default();
            for _ in 0..8 {
                batch_sizer.learn(&values(2, bytes));
                let under_way = WINDOW * batch_sizer.per_request();
                assert!(
                    under_way * bytes <= WINDOW_BYTES.max(WINDOW * bytes),
                    "{bytes}"
                );
            }
        }
    }

    #[test]
    fn small_and_absent_values_are_soon_asked_for_in_whole_pieces() {
        for found in [values(4, 5_000), vec![Ok(None); 4]] {
            let mut batch_sizer = BatchSizer::default();
            assert_eq!(WINDOW * batch_sizer.per_request(), FIRST);
            assert_eq!(batch_sizer.ids(), FIRST);
            for _ in 0..2 {
                batch_sizer.learn(&found);
            }
            assert_eq!(batch_sizer.per_request(), BATCH_ITEMS);
        }
    }

    #[test]
    fn as_many_are_asked_for_first_as_could_all_be_the_largest_that_was_read() {
        use crate::store::tests::{open, settings};

        let store = open(settings());
        let first = || BatchSizer::of(&store).ids();
        assert_eq!(first(), FIRST);
        let read = [Ok(None), Err(store.unexpected("GET"))];
        store.largest.note(&read);
        assert_eq!(first(), FIRST);
        for (bytes, ids) in [
            (1, WINDOW * BATCH_ITEMS),
            (WINDOW_BYTES / (WINDOW * BATCH_ITEMS), WINDOW * BATCH_ITEMS),
            (20_000, 209),
            (10_000, 209), // not as large as the one before
            (WINDOW_BYTES / 3, 3),
            (WINDOW_BYTES, 1),
            (WINDOW_BYTES + 1, 1),
        ] {
            store.largest.note(&values(2, bytes));
            assert_eq!(first(), ids, "{bytes}");
        }
    }
}

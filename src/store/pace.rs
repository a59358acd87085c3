//! Values of many ids from the server, as many at a time as their size allows.

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::{KvStore, PIECE_ITEMS, WINDOW};
use crate::error::Result;

/// Bytes of values to be asked for at a time, by the size of those before.
const BATCH_BYTES: usize = 4 << 20;
/// Ids asked for first, when nothing is known of their values.
const FIRST: usize = 16;

/// Tells how many ids to ask for next.
pub(crate) struct Pace {
    ids: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ids: FIRST }
    }
}

impl Pace {
    /// Ids to ask for at a time.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// What each of the ids holds, or why it cannot be read.
    pub(crate) async fn fetch(
        &mut self,
        store: &KvStore,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        let pieces = ids.chunks(PIECE_ITEMS).map(|piece| store.fetch(piece));
        let found = try_join_all(pieces).await?.into_iter().flatten();
        let found: Vec<_> = found.collect();
        let sizes = found.iter().flatten().flatten().map(Bytes::len);
        let mean = sizes.sum::<usize>() / ids.len().max(1);
        // Grown with care: the next values may be larger.
        let wanted = BATCH_BYTES / mean.max(1);
        self.ids = wanted.clamp(1, (2 * self.ids).min(WINDOW * PIECE_ITEMS));
        Ok(found)
    }
}

//! What a barrier will have to prove: every write that was answered, by a digest of what it wrote.

use super::KvStore;
use crate::connection::Commands;
use crate::durability::{Change, digest};
use crate::error::Result;

/// Digests of the values of a batch, where a barrier will want them.
pub(super) struct Digests(Option<Vec<u64>>);

impl KvStore {
    pub(super) fn digests(&self, sets: &Commands) -> Digests {
        let wanted = self.connections.has_barrier();
        Digests(wanted.then(|| sets.arguments(2).map(digest).collect()))
    }

    /// The ids were set, or not; without an outcome it is not known, and nothing can be proved of
    /// what was there before either.
    pub(super) fn note_set(
        &self,
        ids: &[String],
        outcomes: &Result<Vec<Result<()>>>,
        digests: Digests,
    ) {
        let Some(digests) = digests.0 else {
            return;
        };
        let ttl = self.config.ttl.map(std::num::NonZeroU64::get);
        let change = |index: usize| match outcomes {
            Ok(outcomes) if matches!(outcomes.get(index), Some(Ok(()))) => {
                digests.get(index).map(|digest| Change::set(*digest, ttl))
            }
            _ => None,
        };
        let changes = ids.iter().enumerate();
        let changes = changes.map(|(index, id)| (self.key(id), change(index)));
        self.connections.note(changes);
    }

    /// Something was written of these ids of which nothing can be proved.
    pub(super) fn note_unproved<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        if self.connections.has_barrier() {
            self.connections.note(ids.map(|id| (self.key(id), None)));
        }
    }

    /// These ids are gone.
    pub(super) fn note_deleted(&self, ids: &[String]) {
        if self.connections.has_barrier() {
            let gone = ids.iter().map(|id| (self.key(id), Some(Change::Deleted)));
            self.connections.note(gone);
        }
    }

    /// All ids are gone.
    pub(super) fn note_dropped(&self) {
        if self.connections.has_barrier() {
            let prefix = self.config.keyspace.prefix().as_bytes().to_vec();
            self.connections
                .note([(prefix, Some(Change::Dropped))].into_iter());
        }
    }
}

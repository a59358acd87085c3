//! What a barrier will have to prove: every write that was answered, by a digest of what it wrote.

use super::KvStore;
use crate::connection::Commands;
use crate::durability::{Change, digest};
use crate::error::Result;

/// The epoch in which a batch is sent, and digests of its values, where a barrier will want them.
pub(super) struct Proof(Option<(u64, Vec<u64>)>);

impl KvStore {
    /// To be taken before a batch is sent.
    pub(super) fn proof_of(&self, sets: &Commands) -> Proof {
        let epoch = self.epoch();
        Proof(epoch.map(|epoch| (epoch, sets.arguments(2).map(digest).collect())))
    }

    /// To be taken before anything else is sent that changes what is there.
    pub(super) fn epoch(&self) -> Option<u64> {
        let wanted = self.connections.has_barrier();
        wanted.then(|| self.connections.barrier_epoch())
    }

    /// The ids were set, or not; without an outcome it is not known, and nothing can be proved of
    /// what was there before either.
    pub(super) fn note_set(
        &self,
        ids: &[String],
        outcomes: &Result<Vec<Result<()>>>,
        proof: Proof,
    ) {
        let Some((epoch, digests)) = proof.0 else {
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
        self.connections.note(epoch, changes);
    }

    /// Something was written of these ids of which nothing can be proved.
    pub(super) fn note_unproved<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        if self.connections.has_barrier() {
            self.connections.note(0, ids.map(|id| (self.key(id), None)));
        }
    }

    /// These ids are gone.
    pub(super) fn note_deleted(&self, epoch: Option<u64>, ids: &[String]) {
        if let Some(epoch) = epoch {
            let gone = ids.iter().map(|id| (self.key(id), Some(Change::Deleted)));
            self.connections.note(epoch, gone);
        }
    }

    /// All ids are gone.
    pub(super) fn note_dropped(&self, epoch: Option<u64>) {
        if let Some(epoch) = epoch {
            let prefix = self.config.keyspace.prefix().as_bytes().to_vec();
            let dropped = [(prefix, Some(Change::Dropped))];
            self.connections.note(epoch, dropped.into_iter());
        }
    }
}

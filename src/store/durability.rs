//! What a barrier will have to prove: every write that was answered, by a digest of what it wrote.

use super::KvStore;
use crate::client::Commands;
use crate::client::durability::acknowledged::{Change, digest};

/// Digests of the values of a batch, and the seconds that they live. Empty without a barrier.
pub(super) struct Digests(Vec<u64>, Option<u64>);

impl Digests {
    /// What shows that this value of the batch was set.
    pub(super) fn change(&self, number: usize) -> Option<Change> {
        let digest = self.0.get(number)?;
        Some(Change::set(*digest, self.1))
    }
}

impl KvStore {
    /// To be taken before anything is sent that changes what is there.
    pub(super) fn epoch(&self) -> Option<u64> {
        let wanted = self.connections.has_barrier();
        wanted.then(|| self.connections.barrier_epoch())
    }

    pub(super) fn digests(&self, sets: &Commands) -> Digests {
        let digests = if self.connections.has_barrier() {
            sets.arguments(2).map(digest).collect()
        } else {
            Vec::new()
        };
        Digests(digests, self.config.ttl.map(std::num::NonZeroU64::get))
    }

    /// This was done to these ids in this epoch; of None nothing is known, and so nothing can be proved
    /// of what was there before either.
    pub(super) fn note_changes<'a>(
        &self,
        epoch: u64,
        changes: impl Iterator<Item = (&'a String, Option<Change>)>,
    ) {
        let changes = changes.map(|(id, change)| (self.key(id), change));
        self.connections.note(epoch, changes);
        self.connections
            .begin_overdue_barrier(&self.config.keyspace);
    }

    /// A write of these ids is about to be sent.
    pub(super) fn note_sending(&self, ids: &[String]) {
        let prefix = self.config.keyspace.prefix().as_bytes();
        let keys = ids.iter().map(|id| self.key(id));
        self.connections.note_sending(prefix, keys);
    }

    /// All ids are gone.
    pub(super) fn note_dropped(&self, epoch: u64) {
        let prefix = self.config.keyspace.prefix().as_bytes();
        self.connections.note_drop(epoch, prefix);
    }

    /// Some ids may be gone, nobody knows which.
    pub(super) fn note_unproved(&self) {
        let prefix = self.config.keyspace.prefix().as_bytes();
        self.connections.note_unproved(prefix);
    }
}

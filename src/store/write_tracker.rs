//! A change on its way to the server: what came of it goes to the barrier that will have to prove it,
//! and into the log of dual writing.

use std::borrow::Cow;

use super::KvStore;
use super::dual_write::DualWrite;
use crate::client::Commands;
use crate::client::durability::acknowledged_writes::{Change, digest};
use crate::error::Result;
use crate::files::change_log::{Flight, Lines, Mark};

/// Ids that something was sent of. Until it is told what came of it, nothing is known: whoever drops
/// this leaves word of that.
pub(super) struct WriteTracker<'a> {
    store: &'a KvStore,
    mark: Mark,
    ids: Cow<'a, [String]>,
    /// When it was sent, if a barrier wants to know.
    epoch: Option<u64>,
    /// How many drops were logged then, for the log.
    drops: Option<u64>,
    /// Whether the barrier is to be told yet.
    unproved: bool,
    /// Whether the log is.
    unlogged: bool,
}

/// What is known of one of the ids.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Done,
    NotDone,
    Nothing,
}

impl Known {
    fn of<T>(outcomes: &Result<Vec<Result<T>>>, number: usize) -> Self {
        let outcome = outcomes.as_ref().map(|each| each.get(number));
        match outcome {
            Ok(Some(Ok(_))) => Self::Done,
            Ok(Some(Err(error))) | Err(error) if !error.may_be_done() => Self::NotDone,
            Ok(_) | Err(_) => Self::Nothing,
        }
    }
}

impl Drop for WriteTracker<'_> {
    fn drop(&mut self) {
        if self.unproved
            && let Some(epoch) = self.epoch
        {
            match self.mark {
                Mark::Drop => self.store.note_unproved(),
                Mark::Delete | Mark::DeleteAsked | Mark::SetAsked => {
                    let unknown = self.ids.iter().map(|id| (id, None));
                    self.store.note_changes(epoch, unknown);
                }
            }
        }
        if self.unlogged
            && let Some(dual) = &self.store.dual_write
        {
            dual.keep(self.mark, &self.ids);
        }
    }
}

impl WriteTracker<'_> {
    /// Notes what became of each id for the barrier, which has `change` to prove of one that was done.
    pub(super) fn note<T>(
        &mut self,
        outcomes: &Result<Vec<Result<T>>>,
        change: impl Fn(usize) -> Option<Change>,
    ) {
        self.unproved = false;
        let Some(epoch) = self.epoch else { return };
        let ids = self.ids.iter().enumerate();
        let changes = ids.filter_map(|(number, id)| match Known::of(outcomes, number) {
            Known::Done => Some((id, change(number))),
            Known::Nothing => Some((id, None)),
            Known::NotDone => None, // what was there before still is
        });
        self.store.note_changes(epoch, changes);
    }

    /// Logs those of the lines, one for each id, whose id was done.
    pub(super) async fn log<T>(mut self, outcomes: &Result<Vec<Result<T>>>, lines: Option<Lines>) {
        let (Some(dual), Some(lines)) = (&self.store.dual_write, lines) else {
            self.unlogged = false;
            return;
        };
        let known: Vec<_> = (0..self.ids.len())
            .map(|number| Known::of(outcomes, number))
            .collect();
        let of = |wanted| {
            let ids = self.ids.iter().zip(&known);
            let ids = ids.filter(move |(_, known)| **known == wanted);
            ids.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        if known.iter().any(|known| *known != Known::Done) {
            dual.keep(self.mark, &of(Known::Nothing));
            self.ids = Cow::Owned(of(Known::Done));
        }
        let lines = lines.chosen(|number| known[number] == Known::Done);
        self.append(&lines).await;
    }

    /// These ids were deleted, on the way to deleting all.
    pub(super) async fn removed(&self, ids: &[&str]) {
        if self.store.dual_write.is_none() {
            return;
        }
        let mut lines = Lines::default();
        for id in ids {
            lines.mark(Mark::Delete, id);
        }
        // What is not logged now is asked after with the end of the drop.
        self.store.log(&lines, None).await;
    }

    /// All ids are gone.
    pub(super) async fn dropped(mut self) {
        self.unproved = false;
        self.unlogged = true;
        if let Some(epoch) = self.epoch {
            self.store.note_dropped(epoch);
        }
        let mut lines = Lines::default();
        lines.drop_all();
        self.append(&lines).await;
    }

    /// Nothing of it was sent yet, so that there is no word to leave.
    pub(super) fn unsent(&mut self) {
        (self.unproved, self.unlogged) = (false, false);
    }

    /// Something of it is sent now; says whether something was before.
    pub(super) fn begin(&mut self) -> bool {
        let begun = self.unlogged;
        (self.unproved, self.unlogged) = (true, true);
        begun
    }

    async fn append(mut self, lines: &Lines) {
        let flight = (self.mark == Mark::SetAsked).then_some(Flight {
            drops: self.drops,
            ids: &self.ids,
        });
        self.unlogged = !self.store.log(lines, flight).await;
    }
}

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
    /// To be held while something is sent of these ids, or of all; None where nobody wants to know
    /// what comes of it.
    pub(super) fn track_write<'a>(
        &'a self,
        mark: Mark,
        ids: &'a [String],
    ) -> Option<WriteTracker<'a>> {
        let epoch = self.epoch();
        if epoch.is_some() && mark == Mark::SetAsked {
            self.note_sending(ids);
        }
        (epoch.is_some() || self.dual_write.is_some()).then_some(WriteTracker {
            store: self,
            mark,
            ids: Cow::Borrowed(ids),
            epoch,
            drops: self.dual_write.as_ref().and_then(DualWrite::drops),
            unproved: true,
            unlogged: true,
        })
    }

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

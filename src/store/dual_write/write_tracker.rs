//! A change on its way to the server: what came of it goes to the barrier that will have to prove it,
//! and into the log of dual writing.

use std::borrow::Cow;

use super::DualWrite;
use crate::client::durability::acknowledged::Change;
use crate::error::Result;
use crate::files::change_log::{Flight, Lines, Mark};
use crate::store::KvStore;

/// Ids that something was sent of. Until it is told what came of it, nothing is known: whoever drops
/// this leaves word of that.
pub(in crate::store) struct WriteTracker<'a> {
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
    pub(in crate::store) fn note<T>(
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
    pub(in crate::store) async fn log<T>(
        mut self,
        outcomes: &Result<Vec<Result<T>>>,
        lines: Option<Lines>,
    ) {
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
    pub(in crate::store) async fn removed(&self, ids: &[&str]) {
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
    pub(in crate::store) async fn dropped(mut self) {
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
    pub(in crate::store) fn unsent(&mut self) {
        (self.unproved, self.unlogged) = (false, false);
    }

    /// Something of it is sent now; says whether something was before.
    pub(in crate::store) fn begin(&mut self) -> bool {
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

impl KvStore {
    /// To be held while something is sent of these ids, or of all; None where nobody wants to know
    /// what comes of it.
    pub(in crate::store) fn track_write<'a>(
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
}

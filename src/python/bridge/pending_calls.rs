//! The calls of one event loop: who waits, what was batched for them, and the futures they wait for.

use pyo3::prelude::*;

use super::batching::{Completions, TurnBatches};
use super::integer_map::IntegerMap;
use super::{Completion, Futures, Job, Process, Tasks};
use crate::store::{BATCH_ITEMS, Batch};

/// Reads batched in one turn of the loop before the first of them leave.
const EARLY: usize = 16;

/// A call whose result the future will hold.
pub(super) struct Call {
    pub(super) future: Py<PyAny>,
    pub(super) job: Box<dyn Job>,
    pub(super) tasks: Tasks,
    /// Whether it waits in a request shared with others, which its caller's leaving cannot end.
    pub(super) batched: bool,
}

#[derive(Default)]
pub(super) struct PendingCalls {
    /// Never used twice, so that a late reply finds nobody rather than somebody else.
    pub(super) last_ticket: u64,
    pub(super) waiting: IntegerMap<u64, Call>,
    pub(super) reads: TurnBatches<String>,
    pub(super) writes: TurnBatches<Batch>,
    pub(super) flush_asked: bool,
    /// Requests of reads that left before this turn of the loop was over.
    early: u32,
    /// Jobs that asked for another turn.
    pub(super) again: Vec<u64>,
    pub(super) futures: Futures<Completions>,
}

impl PendingCalls {
    /// Whether the reads batched so far are to leave now, so that the server has something to do
    /// while the turn goes on: a few at first, then whole batches.
    pub(super) fn is_early(&mut self) -> bool {
        let early = self.reads.len() >= BATCH_ITEMS.min(EARLY << self.early.min(8));
        self.early += u32::from(early);
        early
    }

    /// The turn in which a flush was asked for is over.
    pub(super) fn end_turn(&mut self) {
        self.flush_asked = false;
        self.early = 0;
    }

    /// Turns what was batched into requests to be polled.
    pub(super) fn send_batches(&mut self, process: &'static Process) {
        self.reads.take().send(
            process,
            &self.futures,
            |_| 0,
            |store, ids| async move {
                let values = store.get_batch(&ids).await;
                each(values, ids.len()).map(Completion::Found).collect()
            },
        );
        self.writes.take().send(
            process,
            &self.futures,
            Batch::json_bytes,
            |store, batches| async move {
                let (ids, outcomes) = store.upsert(Batch::join(batches)).await;
                let outcomes = each(outcomes, ids.len());
                ids.into_iter()
                    .zip(outcomes)
                    .map(|(id, outcome)| Completion::Stored(id, outcome))
                    .collect()
            },
        );
    }
}

/// The outcomes of a batch, one for each of its items; a failed batch fails each.
fn each<T>(
    outcomes: crate::error::Result<Vec<crate::error::Result<T>>>,
    count: usize,
) -> impl Iterator<Item = crate::error::Result<T>> {
    let (outcomes, error) = match outcomes {
        Ok(outcomes) => (outcomes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    outcomes
        .into_iter()
        .chain(error.into_iter().cycle().take(count).map(Err))
}

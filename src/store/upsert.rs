//! `upsert`: values that are set, registered and recorded.

use super::KvStore;
use super::batch::Batch;
use crate::client::Commands;
use crate::error::Result;
use crate::files::change_log::{Lines, Mark};

impl KvStore {
    /// Writes a batch. Gives its ids back with an outcome for each, or the failure of them all.
    pub async fn upsert(&self, mut batch: Batch) -> (Vec<String>, Result<Vec<Result<()>>>) {
        if batch.is_empty() {
            return (Vec::new(), Ok(Vec::new())); // there is no ZADD of no members
        }
        let lines = self.lines_of(&batch);
        self.compressor.compress(self, &mut batch);
        let Batch { ids, sets, .. } = batch;
        let outcomes = self.set_and_record(&ids, sets, lines).await;
        (ids, outcomes)
    }

    async fn set_and_record(
        &self,
        ids: &[String],
        sets: Commands,
        lines: Option<Lines>,
    ) -> Result<Vec<Result<()>>> {
        self.claim_files().await?;
        let change = self.change(ids.iter().map(String::as_str));
        let tracker = self.track_write(Mark::SetAsked, ids);
        let digests = self.digests(&sets);
        let (outcomes, registered) = self.set(ids, sets).await;
        drop(change);
        if let Ok(outcomes) = &outcomes {
            self.note_written(ids, outcomes);
        }
        if let Some(mut tracker) = tracker {
            tracker.note(&outcomes, |number| digests.change(number));
            tracker.log(&outcomes, lines).await;
        }
        registered.and(outcomes)
    }

    /// What the server said of each id, and whether they were registered.
    async fn set(&self, ids: &[String], sets: Commands) -> (Result<Vec<Result<()>>>, Result<()>) {
        let around = self.registry.around(ids.iter());
        let (mut before, mut after) = (Commands::default(), Commands::default());
        before.extend(&around.before);
        after.extend(&around.after);
        let request = Commands::in_order([before, sets, after]);
        let replies = match self.send(&request).await {
            Ok(replies) => replies,
            Err(error) => return (Err(error), Ok(())),
        };
        let (replies, registered) = self.within(&around, replies);
        if registered.is_ok() {
            let _ = self.sweep_if_due().await; // another write will, if this one cannot
        }
        let outcome = |(id, value): (&String, _)| {
            self.reply(value)
                .map(|_| ())
                .map_err(|error| error.about(id))
        };
        let outcomes = ids.iter().zip(replies).map(outcome).collect();
        (Ok(outcomes), registered)
    }
}

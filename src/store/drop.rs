//! `drop`: the end of all ids of a namespace.

use super::KvStore;
use super::dual_write::write_tracker::WriteTracker;
use crate::client::Request;
use crate::error::Result;
use crate::files::change_log::Mark;

impl KvStore {
    /// Deletes every id of the namespace, page by page, so that others are served in between.
    pub async fn drop_all(&self) -> Result<()> {
        self.claim_files().await?;
        let mut tracker = self.track_write(Mark::Drop, &[]);
        tracker.as_mut().map(WriteTracker::unsent);
        let outcome = if self.registry.is_on() {
            self.drop_registered(&mut tracker).await
        } else {
            self.drop_scanned(&mut tracker).await
        };
        self.forget_all();
        if let Some(tracker) = tracker
            && outcome.is_ok()
        {
            tracker.dropped().await;
        }
        if self.config.deferred_drop && outcome.is_ok() {
            return self.clear_swap_mark().await;
        }
        outcome
    }

    /// Deletes some ids, on the way to deleting all.
    pub(super) async fn delete_some(
        &self,
        tracker: &mut Option<WriteTracker<'_>>,
        ids: &[&str],
        request: &Request,
    ) -> Result<()> {
        let begun = tracker.as_mut().is_some_and(WriteTracker::begin);
        let replies = self.send(request).await;
        if let (Some(tracker), Err(error)) = (tracker.as_mut(), &replies)
            && !begun
            && !error.may_be_done()
        {
            tracker.unsent();
        }
        self.all(replies?)?;
        if let Some(tracker) = tracker {
            tracker.removed(ids).await;
        }
        Ok(())
    }

    async fn drop_scanned(&self, tracker: &mut Option<WriteTracker<'_>>) -> Result<()> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.own_page(cursor).await?;
            // Nobody is told a count, so that repeating it tells no lie.
            let ids = self.ids_of(&keys);
            let unlinks = self.commands("UNLINK", ids.iter().copied());
            if !ids.is_empty() {
                self.delete_some(tracker, &ids, &unlinks.resendable())
                    .await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

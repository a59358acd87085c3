//! `drop`: the end of all ids of a namespace.

use super::registry::listing::is_full;
use super::write_tracker::WriteTracker;
use super::{KvStore, Recorded};
use crate::client::Request;
use crate::error::Result;
use crate::files::change_log::Mark;

impl KvStore {
    /// Deletes every id of the namespace, page by page, so that others are served in between.
    pub async fn drop_all(&self) -> Result<()> {
        self.begin_feed();
        self.claim_files().await?;
        let mut recorded = self.record("drop");
        let mut tracker = self.track_write(Mark::Drop, &[]);
        tracker.as_mut().map(WriteTracker::unsent);
        let outcome = if self.registry.is_on() {
            self.drop_registered(&mut tracker, &mut recorded).await
        } else {
            self.drop_scanned(&mut tracker, &mut recorded).await
        };
        self.forget_all();
        if let Some(tracker) = tracker {
            if outcome.is_ok() {
                tracker.dropped().await;
            } else {
                drop(tracker);
                self.log_kept().await;
            }
        }
        if self.config.deferred_drop && outcome.is_ok() {
            return self.clear_swap_mark().await;
        }
        outcome
    }

    /// Deletes some ids, on the way to deleting all; whether a full server did not take their mark.
    pub(super) async fn delete_some(
        &self,
        tracker: &mut Option<WriteTracker<'_>>,
        recorded: &mut Option<Recorded>,
        ids: &[&str],
        request: &Request,
    ) -> Result<bool> {
        let begun = tracker.as_mut().is_some_and(WriteTracker::begin);
        let replies = self.send(request).await;
        if let (Some(tracker), Err(error)) = (tracker.as_mut(), &replies)
            && !begun
            && !error.may_be_done()
        {
            tracker.unsent();
        }
        let (full, replies): (Vec<_>, Vec<_>) = replies?.into_iter().partition(is_full);
        self.all(replies)?;
        if let Some(recorded) = recorded {
            for id in ids {
                recorded.id(id);
            }
        }
        if let Some(tracker) = tracker {
            tracker.removed(ids).await;
        }
        Ok(!full.is_empty())
    }

    pub(super) async fn drop_scanned(
        &self,
        tracker: &mut Option<WriteTracker<'_>>,
        recorded: &mut Option<Recorded>,
    ) -> Result<()> {
        let mut pages = self.own_pages();
        while let Some(keys) = pages.next().await? {
            // Nobody is told a count, so that repeating it tells no lie.
            let ids = self.ids_of(&keys);
            let unlinks = self.commands("UNLINK", ids.iter().copied());
            if !ids.is_empty() {
                self.delete_some(tracker, recorded, &ids, &unlinks.resendable())
                    .await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Paths;
    use crate::store::tests::{open, settings};

    #[tokio::test]
    async fn a_drop_of_which_nothing_was_sent_leaves_no_word_and_one_that_was_begun_does() {
        let directory = tempfile::tempdir().unwrap();
        for begun in [false, true] {
            let mut settings = settings();
            settings.dual_write = Some(Paths::new(directory.path(), "docs").unwrap());
            let store = open(settings);
            let mut tracker = store.track_write(Mark::Drop, &[]);
            tracker.as_mut().map(WriteTracker::unsent);
            if begun {
                tracker.as_mut().map(WriteTracker::begin);
            }
            let unlinks = store.commands("UNLINK", ["a"].into_iter()).resendable();
            let deleted = store
                .delete_some(&mut tracker, &mut None, &["a"], &unlinks)
                .await;
            assert!(!deleted.unwrap_err().may_be_done());
            drop(tracker);
            assert_eq!(store.dual_write().unwrap().late, u64::from(begun));
        }
    }
}

//! `delete_by_id`, `delete_by_ids`: ids that are deleted, and how many there were.

use redis::Value;

use super::registry::new_mark;
use super::{KEY_BATCH, KvStore};
use crate::client::deadline;
use crate::client::durability::acknowledged_writes::Change;
use crate::error::Result;
use crate::files::change_log::{Lines, Mark};
use crate::memory;

impl KvStore {
    /// Deletes ids and counts those that were there. Never sent twice: the count would lie.
    pub async fn delete(&self, ids: Vec<String>) -> Result<u64> {
        self.begin_feed();
        self.claim_files().await?;
        let mut recorded = self.record("delete");
        let mut deleted = 0;
        let mark = new_mark();
        for start in (0..ids.len()).step_by(KEY_BATCH) {
            let chunk = &ids[start..ids.len().min(start + KEY_BATCH)];
            deadline::restart();
            let _change = self.change(chunk.iter().map(String::as_str));
            let tracker = self.track_write(Mark::DeleteAsked, chunk);
            let outcomes = self.delete_batch(mark, chunk).await;
            if let Some(mut tracker) = tracker {
                tracker.note(&outcomes, |_| Some(Change::Deleted));
                let mut lines = Lines::default();
                for id in chunk {
                    lines.mark(Mark::Delete, id);
                }
                tracker.log(&outcomes, Some(lines)).await;
            }
            let (mut failed, mut unconfirmed) = (None, Vec::new());
            match outcomes {
                Ok(outcomes) => {
                    for (id, outcome) in chunk.iter().zip(outcomes) {
                        match outcome {
                            Ok(0) => {}
                            Ok(count) => {
                                deleted += count;
                                if let Some(recorded) = &mut recorded {
                                    recorded.id(id);
                                }
                            }
                            Err(error) => {
                                failed.get_or_insert(error);
                                unconfirmed.push(id.clone());
                            }
                        }
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    unconfirmed.extend_from_slice(chunk);
                }
            }
            if let Some(error) = failed {
                let error = match &*ids {
                    [id] => error.about(id),
                    _ => error,
                };
                let later = &ids[start + chunk.len()..];
                if memory::reserve_texts(&mut unconfirmed, later.len()).is_err() {
                    return Err(error.without_unconfirmed());
                }
                unconfirmed.extend_from_slice(later);
                return Err(error.with_unconfirmed(unconfirmed));
            }
        }
        if !ids.is_empty() {
            // What this leaves behind, if it fails, is swept away later: the ids are gone.
            let _ = self.unregister(mark).await;
        }
        Ok(deleted)
    }

    /// How many there were of each id, which are deleted and marked for the registry.
    async fn delete_batch(&self, mark: i64, ids: &[String]) -> Result<Vec<Result<u64>>> {
        let marked = self.mark(mark, ids).await;
        let marked = marked.map_err(|error| error.after_sending(false))?; // no UNLINK was
        let unlinks = self.commands("UNLINK", ids.iter().map(String::as_str));
        let replies = self.send(&unlinks.once()).await?.into_iter();
        let counts = replies.map(|reply| match self.reply(reply)? {
            Value::Int(count) => Ok(count.unsigned_abs()),
            _ => Err(self.unexpected("UNLINK").after_sending(true)),
        });
        let counts = counts.collect();
        if !marked {
            // There is room now. What is not swept here is swept by the next listing.
            let _ = self.sweep(ids).await;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::KEY_BATCH;
    use crate::store::tests::{open, settings};

    #[tokio::test]
    async fn a_delete_that_fails_names_what_was_not_confirmed_and_its_id_if_it_had_one() {
        let store = open(settings());
        for count in [1, 2, KEY_BATCH, KEY_BATCH + 1, 2 * KEY_BATCH + 7] {
            let ids: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            let error = store.delete(ids.clone()).await.unwrap_err();
            assert_eq!(error.unconfirmed(), Some(&*ids), "{count}");
            assert_eq!(error.id(), (count == 1).then_some("0"));
        }
    }
}

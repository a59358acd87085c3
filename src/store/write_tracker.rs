//! A change on its way to the server: what came of it goes to the barrier that will have to prove it,
//! and into the log of dual writing.

use std::borrow::Cow;

use super::KvStore;
use super::dual_write::DualWrite;
use crate::client::Commands;
use crate::client::durability::UnderWay;
use crate::client::durability::acknowledged_writes::{Change, Sent, Target, digest};
use crate::error::Result;
use crate::files::change_log::{Flight, Lines, Mark};

/// Ids that something was sent of. Until it is told what came of it, nothing is known: whoever drops
/// this leaves word of that.
pub(super) struct WriteTracker<'a> {
    store: &'a KvStore,
    mark: Mark,
    ids: Cow<'a, [String]>,
    /// If a barrier wants to know.
    under_way: Option<UnderWay<'a>>,
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
            && let Some(sent) = self.sent()
        {
            match self.mark {
                Mark::Drop => self.store.note_broken_drop(sent),
                Mark::Delete | Mark::DeleteAsked | Mark::SetAsked => {
                    let unknown = self.ids.iter().map(|id| (id, None));
                    self.store.note_changes(sent, unknown);
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
    fn sent(&self) -> Option<Sent> {
        self.under_way.as_ref().map(|change| change.sent)
    }

    /// Notes what became of each id for the barrier, which has `change` to prove of one that was done.
    pub(super) fn note<T>(
        &mut self,
        outcomes: &Result<Vec<Result<T>>>,
        change: impl Fn(usize) -> Option<Change>,
    ) {
        self.unproved = false;
        let Some(sent) = self.sent() else { return };
        let ids = self.ids.iter().enumerate();
        let changes = ids.filter_map(|(number, id)| match Known::of(outcomes, number) {
            Known::Done => Some((id, change(number))),
            Known::Nothing => Some((id, None)),
            Known::NotDone => None, // what was there before still is
        });
        self.store.note_changes(sent, changes);
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
        if let Some(sent) = self.sent() {
            self.store.note_dropped(sent);
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
        let under_way = self.begin_change(mark, ids);
        if under_way.is_some() && mark == Mark::SetAsked {
            self.note_sending(ids);
        }
        (under_way.is_some() || self.dual_write.is_some()).then_some(WriteTracker {
            store: self,
            mark,
            ids: Cow::Borrowed(ids),
            under_way,
            drops: self.dual_write.as_ref().and_then(DualWrite::drops),
            unproved: true,
            unlogged: true,
        })
    }

    fn begin_change(&self, mark: Mark, ids: &[String]) -> Option<UnderWay<'_>> {
        self.connections.has_barrier().then(|| {
            let target = match mark {
                Mark::Drop => Target::Prefix(self.config.keyspace.prefix().as_bytes().to_vec()),
                _ => Target::Keys(ids.iter().map(|id| self.key(id)).collect()),
            };
            self.connections.begin_change(target)
        })
    }

    pub(super) fn digests(&self, sets: &Commands) -> Digests {
        let digests = if self.connections.has_barrier() {
            sets.arguments(2).map(digest).collect()
        } else {
            Vec::new()
        };
        Digests(digests, self.config.ttl.map(std::num::NonZeroU64::get))
    }

    /// This was done to these ids by a request that was sent then; of None nothing is known, and so nothing can be proved
    /// of what was there before either.
    pub(super) fn note_changes<'a>(
        &self,
        sent: Sent,
        changes: impl Iterator<Item = (&'a String, Option<Change>)>,
    ) {
        let changes = changes.map(|(id, change)| (self.key(id), change));
        self.connections.note(sent, changes);
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
    pub(super) fn note_dropped(&self, sent: Sent) {
        let prefix = self.config.keyspace.prefix().as_bytes();
        self.connections.note_drop(sent, prefix);
    }

    /// Some ids may be gone, nobody knows which.
    pub(super) fn note_broken_drop(&self, sent: Sent) {
        let prefix = self.config.keyspace.prefix().as_bytes();
        self.connections.note_broken_drop(sent, prefix);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::config::durability::Durability;
    use crate::error::{Error, Kind};
    use crate::files::Paths;
    use crate::store::tests::{ids, open, settings};

    /// A store whose log is there.
    async fn logging() -> (TempDir, Arc<KvStore>) {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.dual_write = Some(Paths::new(directory.path(), "docs").unwrap());
        let store = open(settings);
        store.claim_files().await.unwrap();
        (directory, store)
    }

    /// All lines of the log, those that were kept included.
    async fn logged(directory: &TempDir, store: &KvStore) -> String {
        store.keep_up().await.unwrap();
        let log = directory.path().join("kv_store_docs.changes");
        fs::read_to_string(log).unwrap_or_default()
    }

    fn sets(ids: &[String]) -> Lines {
        let mut lines = Lines::default();
        for id in ids {
            lines.set(id, b"1");
        }
        lines
    }

    fn failed(may_be_done: bool) -> Error {
        Error::new(Kind::Timeout, "x").after_sending(may_be_done)
    }

    #[test]
    fn a_change_is_tracked_where_a_barrier_or_a_log_wants_to_know() {
        let a = ids(&["a"]);
        for (durability, wanted) in [("ack", false), ("fsync", true)] {
            let mut settings = settings();
            settings.server.durability = Durability::parse(durability).unwrap();
            let store = open(settings);
            for mark in [Mark::SetAsked, Mark::DeleteAsked, Mark::Drop] {
                assert_eq!(store.track_write(mark, &a).is_some(), wanted);
            }
        }
    }

    #[tokio::test]
    async fn a_change_that_was_given_up_is_logged_as_one_that_may_be_done() {
        let (a, (directory, store)) = (ids(&["a", "b"]), logging().await);
        let mut tracker = store.track_write(Mark::SetAsked, &a).unwrap();
        tracker.unsent();
        drop(tracker);
        assert_eq!(logged(&directory, &store).await, "");
        let mut tracker = store.track_write(Mark::Drop, &[]).unwrap();
        tracker.unsent();
        assert!(!tracker.begin() && tracker.begin());
        drop(tracker);
        drop(store.track_write(Mark::DeleteAsked, &a).unwrap());
        assert_eq!(store.dual_write().unwrap().late, 3);
        assert_eq!(
            logged(&directory, &store).await,
            "[\"drop\"]\n[\"delete?\",\"a\"]\n[\"delete?\",\"b\"]\n"
        );
    }

    #[tokio::test]
    async fn of_each_id_is_logged_what_is_known_of_it() {
        let all = ids(&["done", "refused", "unknown", "unanswered"]);
        let (set, asked) = (r#"["set","done",1]"#, |id| format!("[\"set?\",\"{id}\"]\n"));
        let three: [Result<()>; 3] = [Ok(()), Err(failed(false)), Err(failed(true))];
        for (outcomes, lines) in [
            (
                Ok(three.to_vec()),
                format!("{}{}{set}\n", asked("unknown"), asked("unanswered")),
            ),
            (Err(failed(false)), String::new()),
            (
                Err(failed(true)),
                all.iter().map(|id| asked(id)).collect::<String>(),
            ),
        ] {
            let (directory, store) = logging().await;
            let tracker = store.track_write(Mark::SetAsked, &all).unwrap();
            tracker.log(&outcomes, Some(sets(&all))).await;
            assert_eq!(logged(&directory, &store).await, lines);
        }
    }

    #[tokio::test]
    async fn a_write_that_a_drop_met_on_its_way_is_asked_after() {
        let (a, (directory, store)) = (ids(&["a"]), logging().await);
        let write = store.track_write(Mark::SetAsked, &a).unwrap();
        let delete = store.track_write(Mark::DeleteAsked, &a).unwrap();
        let drop = store.track_write(Mark::Drop, &[]).unwrap();
        drop.removed(&["b"]).await;
        drop.dropped().await;
        let mut lines = Lines::default();
        lines.mark(Mark::Delete, "a");
        delete.log(&Ok(vec![Ok(1)]), Some(lines)).await;
        write.log(&Ok(vec![Ok(())]), Some(sets(&a))).await;
        assert_eq!(
            logged(&directory, &store).await,
            "[\"delete\",\"b\"]\n[\"drop\"]\n[\"delete\",\"a\"]\n[\"set\",\"a\",1]\n[\"delete?\",\"a\"]\n"
        );
        let later = store.track_write(Mark::SetAsked, &a).unwrap();
        later.log(&Ok(vec![Ok(())]), Some(sets(&a))).await;
        let log = logged(&directory, &store).await;
        assert!(
            log.ends_with("[\"delete?\",\"a\"]\n[\"set\",\"a\",1]\n"),
            "{log}"
        );
    }
}

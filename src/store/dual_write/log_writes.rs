//! What the server has confirmed goes into the log; what could not be logged when it was made, and who is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use super::compaction::{COMPACT_DELAY, COMPACT_INTERVAL};
use super::lock_patience::Patience;
use crate::config::StoreConfig;
use crate::error::{Kind, Result};
use crate::files::change_log::{ChangeLog, Flight, Lines, Mark};
use crate::log_events::Event;
use crate::store::{Batch, KvStore};

/// Bytes of a line around an id and a value.
const LINE: usize = 32;

/// The log of one namespace, and when it is to be compacted.
pub(in crate::store) struct DualWrite {
    pub(super) log: ChangeLog,
    pub(super) store: Weak<KvStore>,
    pub(super) patience: Patience,
    /// Time that a call has.
    pub(super) limit: Duration,
    /// Whether the files are known to be ours to write.
    pub(super) claimed: AtomicBool,
    pub(super) scheduled: AtomicBool,
    /// Whether the last attempt to log failed: that is reported once, as is its end.
    pub(super) unlogged: AtomicBool,
    /// Whether the last compaction failed: that is reported once, as is its end.
    pub(super) uncompacted: AtomicBool,
    pub(super) compactions: AtomicU64,
    /// Milliseconds between two compactions.
    pub(super) interval: AtomicU64,
    /// Held by the one of the process's stores that compacts.
    pub(super) turn: Arc<Mutex<()>>,
}

/// What [`KvStore::dual_write`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DualWriteStats {
    /// Changes that this store has logged.
    pub logged: u64,
    /// Changes that could not be logged when they were made, or are not known to have been made.
    pub late: u64,
    /// How often this store has compacted the log into the file.
    pub compactions: u64,
}

impl DualWrite {
    /// None where the settings do not ask for it.
    pub(in crate::store) fn new(
        config: &StoreConfig,
        store: &Weak<KvStore>,
        turn: Arc<Mutex<()>>,
    ) -> Option<Self> {
        let paths = config.dual_write.clone()?;
        Some(Self {
            log: ChangeLog::new(paths, config.keyspace.prefix()),
            store: Weak::clone(store),
            patience: Patience::default(),
            limit: config.server.operation_timeout,
            claimed: AtomicBool::new(false),
            scheduled: AtomicBool::new(false),
            unlogged: AtomicBool::new(false),
            uncompacted: AtomicBool::new(false),
            compactions: AtomicU64::new(0),
            interval: AtomicU64::new(COMPACT_INTERVAL),
            turn,
        })
    }

    /// Notes ids whose change could not be logged, or is not known to have been done.
    pub(in crate::store) fn keep(&self, mark: Mark, ids: &[String]) {
        self.log.keep(mark, ids);
    }

    /// How many drops were logged until now; None where that cannot be said.
    pub(in crate::store) fn drops(&self) -> Option<u64> {
        self.log.drops()
    }

    async fn append(&self, lines: &Lines, flight: Option<Flight<'_>>) -> Result<()> {
        self.locked(|| self.log.try_append(lines, flight)).await
    }

    pub(super) async fn append_kept(&self) -> Result<()> {
        self.locked(|| self.log.try_append_kept()).await
    }

    async fn locked(&self, act: impl Fn() -> Result<bool>) -> Result<()> {
        self.patience.with(self.limit, &self.log, act).await
    }
}

impl KvStore {
    /// An error if the files that are to follow a change are another's: it is not even sent. That they
    /// cannot be written is told when it has been done.
    pub(in crate::store) async fn claim_files(&self) -> Result<()> {
        let Some(dual) = &self.dual_write else {
            return Ok(());
        };
        if dual.claimed.load(Relaxed) {
            return Ok(());
        }
        match dual.locked(|| dual.log.try_claim()).await {
            Ok(()) => dual.claimed.store(true, Relaxed),
            Err(error) if error.kind() == Kind::Config => {
                return Err(error.in_namespace(&self.config.namespace));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// What dual writing has done; None where it is off.
    pub fn dual_write(&self) -> Option<DualWriteStats> {
        let dual = self.dual_write.as_ref()?;
        let (logged, late) = dual.log.counts();
        let compactions = dual.compactions.load(Relaxed);
        Some(DualWriteStats {
            logged,
            late,
            compactions,
        })
    }

    /// The lines that a batch is logged by, once it is confirmed; an error if there is no memory for them.
    pub(in crate::store) fn lines_of(&self, batch: &Batch) -> Result<Option<Lines>> {
        if self.dual_write.is_none() {
            return Ok(None);
        }
        let ids = batch.ids.iter().map(String::len).sum::<usize>();
        let bytes = batch.json_bytes + ids + batch.ids.len() * LINE;
        let mut lines = Lines::with_capacity(bytes)?;
        for (id, json) in batch.ids.iter().zip(batch.sets.arguments(2)) {
            lines.set(id, json);
        }
        Ok(Some(lines))
    }

    /// Logs what is kept, and lines. What cannot be logged is reported once, and asked of the server when
    /// the log is compacted: a write that the server has confirmed does not fail for it. False if it could
    /// not.
    pub(in crate::store) async fn log(&self, lines: &Lines, flight: Option<Flight<'_>>) -> bool {
        let Some(dual) = &self.dual_write else {
            return true;
        };
        if lines.is_empty() && !dual.log.has_kept() {
            return true;
        }
        match dual.append(lines, flight).await {
            Ok(()) => {
                if dual.unlogged.swap(false, Relaxed) {
                    self.note("changes are logged again");
                }
                dual.schedule(COMPACT_DELAY);
                true
            }
            Err(error) => {
                if !dual.unlogged.swap(true, Relaxed) {
                    self.note(&format!("the files fall behind the server: {error}"));
                }
                false
            }
        }
    }

    /// Logs what is kept, if anything is.
    pub(in crate::store) async fn log_kept(&self) {
        self.log(&Lines::default(), None).await;
    }

    pub(super) fn note(&self, line: &str) {
        self.report(Event::DualWrite, line);
    }

    /// Has everything in the log that is to be there, before it is compacted.
    pub async fn keep_up(&self) -> Result<()> {
        match &self.dual_write {
            Some(dual) => dual.append_kept().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SharedConnections;
    use crate::config::ServerConfig;
    use crate::files::Paths;

    fn store() -> (tempfile::TempDir, Paths, Arc<KvStore>) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let server = ServerConfig::new("redis://localhost").unwrap();
        let mut config = StoreConfig::new(server, "docs").unwrap();
        config.dual_write = Some(paths.clone());
        let store = KvStore::new(config, &SharedConnections::default());
        (directory, paths, store)
    }

    fn logged(paths: &Paths) -> String {
        std::fs::read_to_string(&paths.log).unwrap()
    }

    #[tokio::test]
    async fn an_id_of_whose_change_nothing_is_known_is_logged_with_what_comes_next() {
        let (_directory, paths, store) = store();
        let dual = store.dual_write.as_ref().unwrap();
        assert!(store.log(&Lines::default(), None).await);
        assert!(!paths.log.exists(), "there is nothing to log");
        dual.keep(Mark::SetAsked, &["a".to_owned()]);
        assert_eq!(store.dual_write().unwrap().late, 1);
        store.keep_up().await.unwrap();
        assert_eq!(logged(&paths), "[\"set?\",\"a\"]\n");
        dual.keep(Mark::DeleteAsked, &["b".to_owned()]);
        assert!(store.log(&Lines::default(), None).await);
        assert!(logged(&paths).ends_with("[\"delete?\",\"b\"]\n"));
    }

    #[tokio::test]
    async fn drops_are_counted_for_the_writes_that_they_may_overtake() {
        let (_directory, _, store) = store();
        let dual = store.dual_write.as_ref().unwrap();
        store.claim_files().await.unwrap();
        for drops in 0..3 {
            assert_eq!(dual.drops(), Some(drops));
            let mut lines = Lines::default();
            lines.drop_all();
            assert!(store.log(&lines, None).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_of_another_keyspace_end_a_change_and_files_that_are_locked_do_not() {
        let (_directory, paths, store) = store();
        let other = ChangeLog::new(paths.clone(), "another:docs:");
        assert!(other.try_claim().unwrap());
        let error = store.claim_files().await.unwrap_err();
        let told = (error.kind(), error.namespace());
        assert_eq!(told, (Kind::Config, Some("docs")), "{error}");
        std::fs::remove_file(&paths.lock).unwrap();
        let lock = std::fs::File::create(&paths.lock).unwrap();
        lock.lock().unwrap();
        store.claim_files().await.unwrap();
    }

    #[tokio::test]
    async fn that_nothing_can_be_logged_is_told_once_as_is_its_end() {
        let (_directory, paths, store) = store();
        let mut lines = Lines::default();
        lines.set("a", b"1");
        std::fs::create_dir(&paths.log).unwrap();
        for _ in 0..3 {
            assert!(!store.log(&lines, None).await);
        }
        std::fs::remove_dir(&paths.log).unwrap();
        for _ in 0..2 {
            assert!(store.log(&lines, None).await);
        }
        let notices = store.notices();
        let told: Vec<_> = notices.iter().map(|notice| &*notice.line).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("docs: the files fall behind the server: "));
        assert_eq!(told[1], "docs: changes are logged again");
    }
}

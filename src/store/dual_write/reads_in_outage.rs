//! The outage policy `json`: while the breaker is open, reads come from the host's files and the log
//! that dual writing keeps beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::config::{OutagePolicy, StoreConfig};
use crate::error::{Error, Kind, Result};
use crate::files::namespace_lock::check_owner;
use crate::files::{Paths, View};
use crate::log_events::Event;
use crate::memory;
use crate::mutex::Mutex;
use crate::store::KvStore;

/// The files of one namespace, read over when they are first asked for.
pub(in crate::store) struct FileFallback {
    paths: Paths,
    owner: String,
    view: Mutex<Option<Arc<View>>>,
    served: AtomicU64,
}

impl FileFallback {
    /// None where the outage policy is another.
    pub(in crate::store) fn new(config: &StoreConfig) -> Option<Self> {
        let paths = config.dual_write.clone()?;
        (config.outage_policy == OutagePolicy::Json).then(|| Self {
            paths,
            owner: config.keyspace.prefix().to_owned(),
            view: Mutex::default(),
            served: AtomicU64::new(0),
        })
    }

    /// The files as they are now. Reading over a large one takes seconds: a thread is used that no
    /// socket waits for.
    async fn view(&self) -> Result<Option<Arc<View>>> {
        let held = self.held();
        if held.as_ref().is_some_and(|view| view.is_current()) {
            return Ok(held);
        }
        let (paths, owner) = (self.paths.clone(), self.owner.clone());
        let read = memory::beside(move || {
            check_owner(&paths, &owner)?;
            View::of(&paths)
        });
        let read = read.await;
        let lost = || Error::new(Kind::File, "the files could not be read over");
        let view = read.ok_or_else(lost)??.map(Arc::new);
        let mut held = self.view.lock();
        held.clone_from(&view);
        Ok(view)
    }

    fn held(&self) -> Option<Arc<View>> {
        self.view.lock().clone()
    }
}

impl KvStore {
    /// How many calls were answered from files; None where the outage policy is another.
    pub fn served_from_files(&self) -> Option<u64> {
        Some(self.file_fallback.as_ref()?.served.load(Relaxed))
    }

    /// The files, if they are to be read in place of the server; else the error.
    async fn files_instead(&self, error: Error) -> Result<Arc<View>> {
        let Some(files) = &self.file_fallback else {
            return Err(error);
        };
        if error.kind() != Kind::CircuitOpen {
            return Err(error);
        }
        let Some(view) = files.view().await? else {
            return Err(error);
        };
        files.served.fetch_add(1, Relaxed);
        if let Some(line) = self.outage.left(&error) {
            self.report(Event::OutageBegan, &line);
        }
        Ok(view)
    }

    /// What `get_batch` gives, where the server's failure is no end of it.
    pub(in crate::store) async fn read_instead(
        &self,
        error: Error,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        let view = self.files_instead(error).await?;
        let found = ids.iter().map(|id| {
            let json = view
                .get(id)
                .map_err(|error| error.about(id).in_namespace(&self.config.namespace));
            Ok(json?.map(Bytes::from))
        });
        Ok(found.collect())
    }

    /// What `exist` gives.
    pub(in crate::store) async fn exist_instead(
        &self,
        error: Error,
        ids: &[String],
    ) -> Result<Vec<bool>> {
        let view = self.files_instead(error).await?;
        Ok(ids.iter().map(|id| view.contains(id)).collect())
    }

    /// Whether files may answer at all.
    pub(in crate::store) fn reads_files(&self) -> bool {
        self.file_fallback.is_some()
    }

    /// What `ids` gives.
    pub(in crate::store) async fn list_instead(&self, error: Error) -> Result<Vec<String>> {
        let view = self.files_instead(error).await?;
        memory::listed(view.ids().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;

    #[tokio::test]
    async fn files_are_read_over_again_only_once_they_have_changed() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        std::fs::write(&paths.file, "{\"a\": 1}").unwrap();
        let server = ServerConfig::new("redis://localhost").unwrap();
        let mut config = StoreConfig::new(server, "docs").unwrap();
        config.dual_write = Some(paths.clone());
        config.outage_policy = OutagePolicy::Json;
        let files = FileFallback::new(&config).unwrap();
        let read = files.view().await.unwrap().unwrap();
        let again = files.view().await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&read, &again));
        std::fs::write(&paths.file, "{\"a\": 1, \"b\": 2}").unwrap();
        let later = files.view().await.unwrap().unwrap();
        assert_eq!((read.contains("b"), later.contains("b")), (false, true));
    }
}

//! Where the files of one namespace are.

use std::path::{Path, PathBuf};

/// The host's file of a namespace, and what lies beside it while it is kept up with the server.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The host's own: `kv_store_{namespace}.json`.
    pub file: PathBuf,
    /// What has changed since: a line a change.
    pub log: PathBuf,
    /// The log that is being folded into the file. Older than `log`.
    pub folding: PathBuf,
    /// Locked while the log is written or put away. Never replaced.
    pub lock: PathBuf,
}

impl Paths {
    /// Of a namespace whose files are in this directory.
    #[must_use]
    pub fn new(directory: &Path, namespace: &str) -> Self {
        let path = |end: &str| directory.join(format!("kv_store_{namespace}{end}"));
        Self {
            file: path(".json"),
            log: path(".changes"),
            folding: path(".changes.folding"),
            lock: path(".lock"),
        }
    }

    /// Whether there is a log.
    #[must_use]
    pub fn have_changes(&self) -> bool {
        self.log.exists() || self.folding.exists()
    }
}

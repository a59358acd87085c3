//! Where the files of one namespace are.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Bytes that a name in a directory may have.
const LONGEST_NAME: usize = 255;

/// How the longest of the names ends.
const LONGEST_END: &str = ".changes.folding";

/// The host's file of a namespace, and what lies beside it while it is kept up with the server.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The host's own: `kv_store_{namespace}.json`.
    pub file: PathBuf,
    /// What has changed since: a line a change.
    pub log: PathBuf,
    /// The log that is being folded into the file. Older than `log`.
    pub compacting: PathBuf,
    /// Locked while the log is written or put away. Never replaced.
    pub lock: PathBuf,
}

impl Paths {
    /// Of a namespace whose files are in this directory. An error if its name would lead out of it, or
    /// is none that a file can have.
    pub fn new(directory: impl AsRef<Path>, namespace: &str) -> Result<Self> {
        let name = |end: &str| format!("kv_store_{namespace}{end}");
        // On every system alike: what is written here may be read there.
        let parts = namespace.contains(['/', '\\', '\0']);
        if parts || name(LONGEST_END).len() > LONGEST_NAME {
            let shown: String = namespace.chars().take(100).collect();
            let why = if parts {
                "it holds '/', '\\' or NUL"
            } else {
                "it is too long"
            };
            let message = format!(
                "the namespace {shown:?} is no file name ({why}), so that no JSON file can hold it: rename it, or leave it out with --namespace and without redis_dual_write"
            );
            return Err(Error::new(Kind::Config, message));
        }
        let path = |end: &str| directory.as_ref().join(name(end));
        Ok(Self {
            file: path(".json"),
            log: path(".changes"),
            compacting: path(LONGEST_END),
            lock: path(".lock"),
        })
    }

    /// Whether there is a log.
    #[must_use]
    pub fn have_changes(&self) -> bool {
        self.log.exists() || self.compacting.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_leads_out_of_the_directory() {
        let directory = Path::new("/kept");
        for namespace in [
            "full_docs",
            "..",
            ".",
            "a b",
            "\n",
            "\u{e9}",
            &"x".repeat(230),
        ] {
            let paths = Paths::new(directory, namespace).unwrap();
            for path in [paths.file, paths.log, paths.compacting, paths.lock] {
                assert_eq!(path.parent(), Some(directory));
                assert!(path.file_name().unwrap().len() <= LONGEST_NAME);
            }
        }
        for namespace in ["x/../../y", "/", "a\\b", "a\0", &"x".repeat(231)] {
            let error = Paths::new(directory, namespace).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{namespace:?}");
        }
    }
}

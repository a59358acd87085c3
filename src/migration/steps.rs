//! The steps of long work: what each is called, how much of a file one takes, what is done beside it, and a file that
//! changed meanwhile.

use crate::error::{Error, Kind, Result};
use crate::files::JsonFile;
use crate::memory;

/// Bytes of a file that are read over in one step.
pub(super) const STEP_BYTES: u64 = 8 << 20;
/// Ids of one kind that a result lists.
pub(super) const LISTED: usize = 1000;

/// How far the work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How much of it is done.
    pub done: u64,
    /// How much it is; None where nobody knows yet.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file is read over: bytes.
    Check,
    /// Its entries are copied: bytes.
    Copy,
    /// The server's ids are collected: ids.
    List,
    /// A file is written: ids.
    Write,
    /// The file's values are digested: bytes.
    Read,
    /// The server's are: ids.
    Compare,
}

impl Step {
    /// Its name, and that of what it counts.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Check => ("check", "bytes"),
            Self::Copy => ("copy", "bytes"),
            Self::List => ("list", "ids"),
            Self::Write => ("write", "ids"),
            Self::Read => ("read", "bytes"),
            Self::Compare => ("compare", "ids"),
        }
    }
}

/// Does what needs no server on a thread for it, while the caller's thread waits for one.
pub(super) async fn beside<Done: Send + 'static>(
    work: impl FnOnce() -> Result<Done> + Send + 'static,
) -> Result<Done> {
    let with_memory = || memory::look_for_batch().and_then(|()| work());
    memory::beside(with_memory).await.ok_or_else(interrupted)?
}

/// What is left of work whose last step did not come to its end.
pub(super) fn interrupted() -> Error {
    let message = "a step of this work was broken off: begin the work anew";
    Error::new(Kind::Operation, message)
}

/// An error where the file is not as it was when it was opened.
pub(super) fn checked_unchanged(file: &JsonFile) -> Result<()> {
    if file.is_unchanged() {
        return Ok(());
    }
    let message = format!(
        "{} was written while it was read: try again",
        file.path().display()
    );
    Err(Error::new(Kind::File, message))
}

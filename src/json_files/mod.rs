//! The files of the host's `JsonKVStorage`, `kv_store_{namespace}.json`: read and written in a
//! stream, in memory that grows with the largest value and not with the file.

mod reader;
mod scan;
mod sorting;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};
pub use reader::{Entry, JsonFile, Signature};
pub use sorting::{Item, Sorted, Sorter};
pub use writer::FileWriter;

/// The file that the host keeps a namespace in.
#[must_use]
pub fn path_of(directory: &Path, namespace: &str) -> PathBuf {
    directory.join(format!("kv_store_{namespace}.json"))
}

/// A failure of the file system, with what was being done to which file.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Kind::File, format!("{} {}: {error}", doing, path.display()))
}

//! The files of the host's `JsonKVStorage`, `kv_store_{namespace}.json`: read and written in a
//! stream, in memory that grows with the largest value and not with the file.
//!
//! Beside a file that dual writing keeps lies the [`log`] of what has changed since.

pub(crate) mod changes;
pub(crate) mod lock;
pub mod log;
mod paths;
mod reader;
mod scan;
mod sorting;
mod view;
mod writer;

use std::io;
use std::path::Path;

use crate::error::{Error, Kind};
pub use paths::Paths;
pub use reader::{Entry, JsonFile, Signature};
pub use sorting::{Item, Sorted, Sorter};
pub use view::View;
pub(crate) use view::read_at;
pub use writer::FileWriter;
pub(crate) use writer::{LAYOUT, is_at, sync_directory};

/// How a file of ours is opened: never through a link, which may lead anywhere.
fn open_options() -> std::fs::OpenOptions {
    let mut options = std::fs::File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
    options
}

/// A failure of the file system, with what was being done to which file.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Kind::File, format!("{} {}: {error}", doing, path.display()))
}

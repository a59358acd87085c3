//! The files of the host's `JsonKVStorage`, `kv_store_{namespace}.json`: read and written in a
//! stream, in memory that grows with the largest value and not with the file.
//!
//! Beside a file that dual writing keeps lies the [`log`] of what has changed since.

pub mod change_log;
pub(crate) mod change_log_reader;
mod external_sort;
mod file_and_log;
mod json_reader;
mod json_writer;
pub(crate) mod namespace_lock;
mod open_file;
mod paths;

pub use change_log_reader::Skipped;
pub use external_sort::{Item, Sorted, Sorter};
pub use file_and_log::View;
pub(crate) use file_and_log::read_at;
pub use json_reader::{Entry, JsonFile, Signature};
pub use json_writer::FileWriter;
pub(crate) use json_writer::{LAYOUT, is_at, sync_directory};
pub(crate) use open_file::{failed, open_to_read};
pub use paths::Paths;

//! How a file is opened: which links are followed, and what is no file; how a failure is told.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::{Error, Kind};

/// Opens a file of ours: never through a link, which may lead anywhere.
pub(super) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    regular(options.open(path)?)
}

/// If the file at `path` is there, a file that is made is for those alone who may read that one: it holds the same.
pub(super) fn no_more_open_than(path: &Path, options: &mut OpenOptions) {
    #[cfg(unix)]
    if let Ok(file) = std::fs::metadata(path) {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(file.permissions().mode() & 0o777);
    }
    #[cfg(not(unix))]
    let _ = (path, options);
}

/// Opens a file to be read, through links too.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    regular(options.read(true).open(path)?)
}

/// Only a file of bytes is read or written. A pipe, which the flags above keep from being waited for,
/// would never end.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// A failure of the file system, with what was being done to which file.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::OutOfMemory => Kind::Memory,
        _ => Kind::File,
    };
    Error::new(kind, format!("{} {}: {error}", doing, path.display()))
}

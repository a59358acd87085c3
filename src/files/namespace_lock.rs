//! The lock of one namespace's files: one process at a time writes their log or puts it away.
//!
//! What is in the file outlives the lock. Its first line is a JSON string: the key prefix whose changes
//! the files follow. A full stop follows for each drop that was logged, so that the length of the file
//! tells a writer whether a drop has ended while its own write was on the way.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Paths;
use super::open_file::{failed, open_own, open_to_read};
use crate::error::{Error, Kind, Result};
use crate::json::cursor::Cursor;
use crate::json::write_utf8;

/// Bytes of the first line at most: what is longer was not written by us.
const LONGEST: u64 = 4096;

/// The lock, as one process holds it now and then.
pub(super) struct FilesLock {
    paths: Paths,
    /// The first line; None for whoever does not care whose the files are.
    header: Option<Vec<u8>>,
    file: Option<File>,
}

impl FilesLock {
    /// For whoever keeps the keys of this prefix. Opens nothing yet.
    pub(super) fn new(paths: &Paths, owner: Option<&str>) -> Self {
        Self {
            paths: paths.clone(),
            header: owner.map(header),
            file: None,
        }
    }

    /// Does something while no other process does the same; None if one does.
    pub(super) fn hold<T>(
        &mut self,
        act: impl FnOnce(&Held<'_>) -> io::Result<T>,
    ) -> Result<Option<T>> {
        let path = &self.paths.lock;
        let broken = |error: &io::Error| failed("cannot lock", path, error);
        // Not one that was deleted meanwhile: others lock another.
        let file = match self.file.take() {
            Some(file) if super::is_at(&file, path) => file,
            _ => {
                let mut options = File::options();
                options.create(true).truncate(false).read(true).write(true);
                open_own(path, &mut options).map_err(|error| broken(&error))?
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.file = Some(file);
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(broken(&error)),
        }
        let done = match &self.header {
            Some(header) => claim(&file, header, &self.paths),
            None => Ok(()),
        };
        let header = self.header.as_ref().map(|header| header.len() as u64);
        let held = Held {
            file: &file,
            header,
        };
        let done = done.and_then(|()| {
            act(&held).map_err(|error| failed("cannot write", &self.paths.log, &error))
        });
        file.unlock().map_err(|error| broken(&error))?;
        self.file = Some(file);
        done.map(Some)
    }

    /// How many drops were logged; None where that cannot be said.
    pub(super) fn drops(&self) -> Option<u64> {
        let header = self.header.as_ref().map(|header| header.len() as u64);
        let file = self.file.as_ref()?;
        Held { file, header }.drops()
    }
}

/// The lock while it is held.
pub(super) struct Held<'a> {
    file: &'a File,
    /// Bytes of the first line.
    header: Option<u64>,
}

impl Held<'_> {
    /// How many drops were logged; None where that cannot be said.
    pub(super) fn drops(&self) -> Option<u64> {
        self.file.metadata().ok()?.len().checked_sub(self.header?)
    }

    /// Counts one that is logged now.
    pub(super) fn count_drop(&self) -> io::Result<()> {
        let mut file = self.file;
        file.seek(SeekFrom::End(0))?;
        file.write_all(b".")
    }
}

/// An error if the files in this place follow the keys of another prefix than `owner`.
pub(crate) fn check_owner(paths: &Paths, owner: &str) -> Result<()> {
    let mut file = match open_to_read(&paths.lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| failed("cannot open", &paths.lock, &error))?,
    };
    let found =
        first_line(&mut file).map_err(|error| failed("cannot read", &paths.lock, &error))?;
    match found {
        Some(found) if found != header(owner) => Err(foreign(paths, &found, &header(owner))),
        _ => Ok(()),
    }
}

/// Writes the first line if there is none; an error if it is another's.
fn claim(mut file: &File, header: &[u8], paths: &Paths) -> Result<()> {
    let broken = |error: &io::Error| failed("cannot claim", &paths.lock, error);
    if let Some(found) = first_line(&mut file).map_err(|error| broken(&error))? {
        return if found == header {
            Ok(())
        } else {
            Err(foreign(paths, &found, header))
        };
    }
    // Nothing, or what someone left who died while writing it.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(header))
        .map_err(|error| {
            let _ = file.set_len(0);
            broken(&error)
        })
}

fn first_line(file: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut line)?;
    Ok(line.iter().position(|&byte| byte == b'\n').map(|end| {
        line.truncate(end + 1);
        line
    }))
}

fn header(owner: &str) -> Vec<u8> {
    let mut header = Vec::with_capacity(owner.len() + 3);
    write_utf8(owner.as_bytes(), &mut header);
    header.push(b'\n');
    header
}

fn foreign(paths: &Paths, theirs: &[u8], ours: &[u8]) -> Error {
    let shown = |header: &[u8]| {
        let id = Cursor {
            json: header,
            at: 0,
        }
        .id();
        format!("{:?}", id.unwrap_or_else(|_| "?".to_owned()))
    };
    let message = format!(
        "{} follows the keys {} (redis_dual_write), not {}: give each redis_workspace and redis_key_prefix a working_dir of its own. If nobody uses that one any more, delete {} and export the file anew",
        paths.file.display(),
        shown(theirs),
        shown(ours),
        paths.lock.display(),
    );
    Error::new(Kind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(lock: &mut FilesLock) -> Result<Option<()>> {
        lock.hold(|_| Ok(()))
    }

    #[test]
    fn files_have_one_owner_and_count_its_drops() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let mut lock = FilesLock::new(&paths, Some("nano@a\n:docs:"));
        assert_eq!(lock.drops(), None);
        assert_eq!(held(&mut lock).unwrap(), Some(()));
        assert_eq!(lock.drops(), Some(0));
        let count = |held: &Held<'_>| {
            held.count_drop()?;
            Ok(())
        };
        lock.hold(count).unwrap();
        let mut same = FilesLock::new(&paths, Some("nano@a\n:docs:"));
        assert_eq!(held(&mut same).unwrap(), Some(()));
        assert_eq!((lock.drops(), same.drops()), (Some(1), Some(1)));

        let error = held(&mut FilesLock::new(&paths, Some("nano@b:docs:"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        for said in ["\"nano@a\\n:docs:\"", "\"nano@b:docs:\"", "redis_workspace"] {
            assert!(error.to_string().contains(said), "{error}");
        }
        check_owner(&paths, "nano@a\n:docs:").unwrap();
        assert!(check_owner(&paths, "nano@b:docs:").is_err());
        assert_eq!(held(&mut FilesLock::new(&paths, None)).unwrap(), Some(()));
    }

    #[test]
    fn a_first_line_without_an_end_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        std::fs::write(&paths.lock, "\"nano:do").unwrap();
        check_owner(&paths, "nano@b:docs:").unwrap();
        let mut lock = FilesLock::new(&paths, Some("nano@b:docs:"));
        assert_eq!(held(&mut lock).unwrap(), Some(()));
        let text = std::fs::read_to_string(&paths.lock).unwrap();
        assert_eq!(text, "\"nano@b:docs:\"\n");
    }

    #[test]
    fn a_lock_that_was_deleted_is_made_anew_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let mut lock = FilesLock::new(&paths, Some("nano:docs:"));
        assert_eq!(held(&mut lock).unwrap(), Some(()));
        std::fs::remove_file(&paths.lock).unwrap();
        let other = File::create(&paths.lock).unwrap();
        other.lock().unwrap();
        assert_eq!(held(&mut lock).unwrap(), None);
    }
}

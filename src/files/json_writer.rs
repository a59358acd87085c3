//! `FileWriter`: a file in the host's own layout, beside its place until it is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::open_file::{failed, no_more_open_than, open_own};
use crate::error::{Error, Kind, Result};
use crate::json::{Layout, rewrite, write_utf8};
use crate::memory;

/// Bytes written at a time.
const CHUNK: usize = 256 * 1024;

/// How a value is laid out in the host's files: as a member of the one object.
pub(crate) const LAYOUT: Layout = Layout::Indented(1);

/// Writes what `json.dump(..., indent=2, ensure_ascii=False)` writes of a dict, id by id.
pub struct FileWriter {
    file: BufWriter<File>,
    path: PathBuf,
    beside: PathBuf,
    entry: Vec<u8>,
    ids: u64,
    finished: bool,
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Still ours alone, since it is still locked.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

impl FileWriter {
    /// Begins the file that will lie at `path`. One process at a time can: another is refused.
    pub fn begin(path: &Path) -> Result<Self> {
        Self::try_begin(path)?.ok_or_else(|| {
            let message = format!("another process is writing {}", path.display());
            Error::new(Kind::File, message)
        })
    }

    /// Begins the file that will lie at `path`; None if another process is at it.
    pub fn try_begin(path: &Path) -> Result<Option<Self>> {
        let path = behind_links(path)?;
        let beside = beside(&path);
        let Some(file) = locked(&beside, &path)? else {
            return Ok(None);
        };
        file.set_len(0) // of one who broke off
            .map_err(|error| failed("cannot write", &beside, &error))?;
        if let Ok(replaced) = fs::metadata(&path) {
            // Who may read it stays as it was, where we may say so.
            let _ = file.set_permissions(replaced.permissions());
        }
        Ok(Some(Self {
            file: BufWriter::with_capacity(CHUNK, file),
            path,
            beside,
            entry: Vec::new(),
            ids: 0,
            finished: false,
        }))
    }

    /// Bytes that were written of the file that will lie at `path`; None if nobody has begun it.
    pub(crate) fn written(path: &Path) -> Option<u64> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Some(fs::metadata(beside(&path)).ok()?.len())
    }

    /// Writes an id and its value, which is any JSON text.
    pub fn add(&mut self, id: &str, json: &[u8]) -> Result<()> {
        self.open_entry(id);
        let mut entry = std::mem::take(&mut self.entry);
        rewrite(json, LAYOUT, &mut entry).map_err(|fault| Error::from(fault).about(id))?;
        self.entry = entry;
        self.close_entry()
    }

    /// Writes an id and its value, which is in [`LAYOUT`] already.
    pub(crate) fn add_laid_out(&mut self, id: &str, laid_out: &[u8]) -> Result<()> {
        self.open_entry(id);
        memory::reserve(&mut self.entry, laid_out.len())?;
        self.entry.extend_from_slice(laid_out);
        self.close_entry()
    }

    /// Writes an id that no key can hold, as it stands in a file, and its value in [`LAYOUT`].
    pub(crate) fn add_escaped(&mut self, id: &str, laid_out: &[u8]) -> Result<()> {
        self.begin_entry();
        self.entry.push(b'"');
        self.entry.extend_from_slice(id.as_bytes());
        self.entry.extend_from_slice(b"\": ");
        memory::reserve(&mut self.entry, laid_out.len())?;
        self.entry.extend_from_slice(laid_out);
        self.close_entry()
    }

    fn open_entry(&mut self, id: &str) {
        self.begin_entry();
        write_utf8(id.as_bytes(), &mut self.entry);
        self.entry.extend_from_slice(b": ");
    }

    fn begin_entry(&mut self) {
        self.entry.clear();
        let before: &[u8] = if self.ids == 0 { b"{\n  " } else { b",\n  " };
        self.entry.extend_from_slice(before);
    }

    fn close_entry(&mut self) -> Result<()> {
        self.ids += 1;
        self.file
            .write_all(&self.entry)
            .map_err(|error| failed("cannot write", &self.beside, &error))
    }

    /// How many ids were written.
    #[must_use]
    pub fn ids(&self) -> u64 {
        self.ids
    }

    /// Has the file on the disk, and then in its place. Its size in bytes.
    pub fn finish(mut self) -> Result<u64> {
        let end: &[u8] = if self.ids == 0 { b"{}" } else { b"\n}" };
        let written = self.file.write_all(end).and_then(|()| self.file.flush());
        let file = self.file.get_ref();
        let size = written
            .and_then(|()| file.sync_all())
            .and_then(|()| file.metadata())
            .map_err(|error| failed("cannot write", &self.beside, &error))?
            .len();
        fs::rename(&self.beside, &self.path)
            .map_err(|error| failed("cannot replace", &self.path, &error))?;
        self.finished = true;
        sync_directory(&self.path)?;
        Ok(size)
    }
}

/// Has a new name in a directory on the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(|error| failed("cannot sync", directory, &error))?;
    }
    Ok(())
}

/// The file that a name stands for. A link to another name in the directory is followed; one that leads
/// out of it is not: whoever could make it could have any file replaced.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let Ok(named) = fs::symlink_metadata(path) else {
        return Ok(path.to_owned()); // it is made
    };
    if !named.is_symlink() {
        return Ok(path.to_owned());
    }
    let real = fs::canonicalize(path).ok();
    let directory = path.parent().and_then(|parent| {
        fs::canonicalize(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        })
        .ok()
    });
    match real {
        Some(real) if real.parent() == directory.as_deref() => Ok(real),
        _ => {
            let message = format!(
                "{} is a link that leads out of its directory: put the file itself there",
                path.display()
            );
            Err(Error::new(Kind::File, message))
        }
    }
}

/// Where a file is until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    PathBuf::from(beside)
}

/// The file at `beside` that is to replace the one at `path`, made if it is not there, and ours until it is closed; None if it is
/// another's.
fn locked(beside: &Path, path: &Path) -> Result<Option<File>> {
    loop {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        no_more_open_than(path, &mut options);
        let file = open_own(beside, &mut options)
            .map_err(|error| failed("cannot write", beside, &error))?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // Who had it before may have moved it to its place between our two steps.
        if is_at(&file, beside) {
            return Ok(Some(file));
        }
    }
}

/// Whether the open file is the one that has this name now.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let same = |opened: &fs::Metadata, named: &fs::Metadata| {
            (opened.dev(), opened.ino()) == (named.dev(), named.ino())
        };
        matches!((file.metadata(), fs::metadata(path)), (Ok(opened), Ok(named)) if same(&opened, &named))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn no_link_leads_a_writer_out_of_the_directory() {
        use std::os::unix::fs::symlink;
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = directory.path().join("kv_store_docs.json");
        let victim = outside.path().join("victim");
        fs::write(&victim, "theirs").unwrap();
        for (link, to) in [
            (path.clone(), victim.clone()),
            (path.clone(), outside.path().join("not there")),
            (beside(&path), victim.clone()),
            (beside(&path), outside.path().join("not there")),
        ] {
            symlink(to, &link).unwrap();
            assert!(FileWriter::begin(&path).is_err());
            fs::remove_file(link).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        let other = directory.path().join("other");
        fs::write(&other, "old").unwrap();
        symlink("other", &path).unwrap();
        FileWriter::begin(&path).unwrap().finish().unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "{}");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn a_file_is_in_its_place_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kv_store_docs.json");
        fs::write(&path, "old").unwrap();
        let mut writer = FileWriter::begin(&path).unwrap();
        assert!(FileWriter::begin(&path).is_err(), "one at a time");
        writer.add("b\"", b"{\"x\":[1]}").unwrap();
        writer.add("a", b"null").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let size = writer.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = "{\n  \"b\\\"\": {\n    \"x\": [\n      1\n    ]\n  },\n  \"a\": null\n}";
        assert_eq!((text.as_str(), size), (expected, expected.len() as u64));
        FileWriter::begin(&path).unwrap().finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

//! `View`: the values of a namespace by id, from its file and the log beside it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::change_log_reader::{Changes, Fate, Place};
use super::json_reader::Signature;
use super::{JsonFile, Paths, failed, open_to_read};
use crate::error::{Error, Kind, Result};
use crate::json::Layout;
use crate::memory;
use crate::mutex::Mutex;

/// How often the files are read again that changed while they were read.
const ATTEMPTS: usize = 5;

/// Where each value is. Takes memory for the ids, not for the values.
pub struct View {
    places: HashMap<String, Place>,
    /// The host's file, the log that is being folded, the log.
    files: [Option<(Mutex<File>, Signature)>; 3],
    paths: Paths,
}

impl View {
    /// Reads the files over. None if there are none.
    pub fn of(paths: &Paths) -> Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            let view = Self::read(paths)?;
            if view.is_current() {
                let any = view.files.iter().any(Option::is_some);
                return Ok(any.then_some(view));
            }
        }
        // The places of one file are not those of the next.
        let message = format!(
            "{} changes faster than it can be read",
            paths.file.display()
        );
        Err(Error::new(Kind::File, message))
    }

    fn read(paths: &Paths) -> Result<Self> {
        let names = [&paths.file, &paths.compacting, &paths.log];
        let mut files = [None, None, None];
        for (file, name) in files.iter_mut().zip(names) {
            *file = open(name)?;
        }
        let mut places = HashMap::new();
        let mut changes = Changes::default();
        changes.read(&paths.compacting, 1)?;
        changes.read(&paths.log, 2)?;
        if paths.file.exists() {
            let mut file = JsonFile::open(paths.file.clone())?;
            let mut scratch = Vec::new();
            while let Some(entry) = file.next(Layout::Compact, &mut scratch)? {
                scratch.clear();
                if !entry.storable {
                    continue; // nobody can ask for it
                }
                let (at, length) = (entry.at, entry.length);
                memory::grown::<(String, Place)>(places.try_reserve(1), places.len() + 1)?;
                places.insert(
                    entry.id,
                    Place {
                        file: 0,
                        at,
                        length,
                    },
                );
            }
        }
        for (id, change) in changes.ids {
            match change.fate {
                Fate::AsInFile => {}
                Fate::Deleted => {
                    places.remove(&id);
                }
                Fate::Set(place) => {
                    places.insert(id, place);
                }
            }
        }
        Ok(Self {
            places,
            files,
            paths: paths.clone(),
        })
    }

    /// Whether the files are those that were read.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let names = [&self.paths.file, &self.paths.compacting, &self.paths.log];
        self.files.iter().zip(names).all(|(file, name)| {
            let now = fs::metadata(name).ok().map(|found| Signature::of(&found));
            file.as_ref().map(|(_, signature)| signature) == now.as_ref()
        })
    }

    /// The value of an id, as JSON.
    pub fn get(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.places.get(id) else {
            return Ok(None);
        };
        let Some((file, _)) = &self.files[place.file] else {
            return Ok(None);
        };
        let file = file.lock();
        read_at(&file, *place)
            .map(Some)
            .map_err(|error| failed("cannot read", &self.paths.file, &error))
    }

    /// Whether there is such an id.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Every id, in no order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }
}

fn open(path: &Path) -> Result<Option<(Mutex<File>, Signature)>> {
    match open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened
            .and_then(|file| {
                let signature = Signature::of(&file.metadata()?);
                Ok(Some((Mutex::new(file), signature)))
            })
            .map_err(|error| failed("cannot open", path, &error)),
    }
}

/// The bytes at a place of an open file.
pub(crate) fn read_at(mut file: &File, place: Place) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(place.length)?;
    bytes.resize(place.length, 0);
    file.seek(SeekFrom::Start(place.at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::change_log::{ChangeLog, Lines, Mark, PutAway, try_put_away};

    #[test]
    fn the_log_is_laid_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        assert!(View::of(&paths).unwrap().is_none());
        fs::write(&paths.file, r#"{"a": [1], "b": 2, "c": 3}"#).unwrap();
        let log = ChangeLog::new(paths.clone(), "nano:docs:");
        let mut lines = Lines::default();
        lines.set("b", b"\"older\"");
        lines.set("d", b"4");
        assert!(log.try_append(&lines, None).unwrap());
        assert_eq!(try_put_away(&paths, None).unwrap(), Some(PutAway::Now));
        let mut lines = Lines::default();
        lines.set("b", b"\"newer\"");
        lines.mark(Mark::Delete, "c");
        assert!(log.try_append(&lines, None).unwrap());
        let view = View::of(&paths).unwrap().unwrap();
        assert!(view.is_current());
        let found = ["a", "b", "c", "d"].map(|id| view.get(id).unwrap());
        assert_eq!(
            found,
            [
                Some(b"[1]".to_vec()),
                Some(b"\"newer\"".to_vec()),
                None,
                Some(b"4".to_vec())
            ]
        );
        let mut ids: Vec<&str> = view.ids().collect();
        ids.sort_unstable();
        assert_eq!(ids, ["a", "b", "d"]);
        let mut lines = Lines::default();
        for id in ["a", "b"] {
            lines.mark(Mark::Delete, id);
        }
        lines.drop_all();
        assert!(log.try_append(&lines, None).unwrap());
        assert!(!view.is_current());
        // What a drop has not deleted was written beside it.
        let view = View::of(&paths).unwrap().unwrap();
        assert_eq!(view.ids().collect::<Vec<_>>(), ["d"]);
    }
}

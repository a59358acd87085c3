//! `migrate`, from a file to the server. First the file is read over: it is whole, and how many ids it holds. Then what is
//! not there, or differs, is copied.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::steps::{LISTED, Progress, STEP_BYTES, Step, checked_unchanged};
use crate::error::{Error, Kind, Result};
use crate::files::{Item, JsonFile, Signature, Sorter};
use crate::json::Layout;
use crate::store::{BATCH_BYTES, BATCH_ITEMS, Copied, KvStore, WINDOW};

/// What was found in a file that is whole.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the file is known again by.
    signature: Signature,
    /// The entries, counted from 0, whose id occurs again later.
    superseded: HashSet<u64>,
    /// How many ids there are, those that no key can hold included.
    pub ids: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// A file that is being read over.
pub struct Check {
    file: JsonFile,
    entries: u64,
    unstorable: u64,
    sorter: Sorter,
    scratch: Vec<u8>,
    /// What was found, at the end.
    pub checked: Option<Checked>,
}

impl Check {
    /// Opens the file.
    pub fn new(path: PathBuf) -> Result<Self> {
        Ok(Self {
            file: JsonFile::open(path)?,
            entries: 0,
            unstorable: 0,
            sorter: Sorter::default(),
            scratch: Vec::new(),
            checked: None,
        })
    }

    /// Reads on; None at the end.
    pub fn step(&mut self) -> Result<Option<Progress>> {
        if self.checked.is_some() {
            return Ok(None);
        }
        let until = self.file.position() + STEP_BYTES;
        while self.file.position() < until {
            self.scratch.clear();
            let Some(entry) = self.file.next(Layout::Compact, &mut self.scratch)? else {
                self.checked = Some(self.found()?);
                break;
            };
            if entry.storable {
                self.sorter.push(Item {
                    id: entry.id,
                    number: self.entries,
                    digest: 0,
                })?;
            } else {
                self.unstorable += 1;
            }
            self.entries += 1;
        }
        Ok(Some(Progress {
            step: Step::Check,
            done: self.file.position(),
            total: Some(self.file.size()),
        }))
    }

    fn found(&mut self) -> Result<Checked> {
        let mut sorted = std::mem::take(&mut self.sorter).sorted()?;
        let (mut superseded, mut ids) = (HashSet::new(), self.unstorable);
        let mut last: Option<Item> = None;
        while let Some(item) = sorted.next_item()? {
            match last.replace(item) {
                Some(before) if last.as_ref().is_some_and(|item| item.id == before.id) => {
                    superseded.insert(before.number);
                }
                _ => ids += 1,
            }
        }
        checked_unchanged(&self.file)?;
        Ok(Checked {
            signature: self.file.signature().clone(),
            superseded,
            ids,
            size: self.file.size(),
        })
    }
}

/// What became of the ids so far.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// They were not there.
    pub written: u64,
    /// They were there with another value, and kept what was left of their time to live.
    pub replaced: u64,
    /// They were there, and were left alone.
    pub unchanged: u64,
    /// They cannot be stored: how many, and the first of them with the reason.
    pub refused: u64,
    /// See `refused`.
    pub refusals: Vec<(String, String)>,
}

/// A file that is being copied.
pub struct Copying {
    store: Arc<KvStore>,
    file: JsonFile,
    checked: Checked,
    entries: u64,
    dry: bool,
    ended: bool,
    /// What became of the ids so far.
    pub copies: Copies,
}

/// Entries that are sent together.
#[derive(Default)]
struct Chunk {
    ids: Vec<String>,
    values: Vec<Vec<u8>>,
    bytes: usize,
}

impl Copying {
    /// Opens a file that was read over. `dry` writes nothing.
    pub fn new(store: Arc<KvStore>, path: PathBuf, checked: Checked, dry: bool) -> Result<Self> {
        let file = JsonFile::open(path)?;
        if *file.signature() != checked.signature {
            let message = format!(
                "{} is another one than was read over: read it over again",
                file.path().display()
            );
            return Err(Error::new(Kind::File, message));
        }
        Ok(Self {
            store,
            file,
            checked,
            entries: 0,
            dry,
            ended: false,
            copies: Copies::default(),
        })
    }

    /// Copies on; None at the end.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        if self.ended {
            return Ok(None);
        }
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while chunks.len() < WINDOW && bytes < WINDOW * BATCH_BYTES && !self.ended {
            let chunk = self.chunk()?;
            if chunk.ids.is_empty() {
                break; // the file ended where the batch before did
            }
            bytes += chunk.bytes;
            chunks.push(chunk);
        }
        // Values of a file that changes under the reader may be made of old bytes and new ones.
        checked_unchanged(&self.file)?;
        let store = &self.store;
        let copied = chunks
            .iter()
            .map(|chunk| store.copy(&chunk.ids, &chunk.values, self.dry));
        for (chunk, fates) in chunks.iter().zip(try_join_all(copied).await?) {
            for (id, fate) in chunk.ids.iter().zip(fates) {
                self.copies.note(id, &fate);
            }
        }
        Ok(Some(Progress {
            step: Step::Copy,
            done: self.file.position(),
            total: Some(self.file.size()),
        }))
    }

    fn chunk(&mut self) -> Result<Chunk> {
        let mut chunk = Chunk::default();
        while chunk.ids.len() < BATCH_ITEMS && chunk.bytes < BATCH_BYTES {
            let mut json = Vec::new();
            let Some(entry) = self.file.next(Layout::Compact, &mut json)? else {
                self.ended = true;
                break;
            };
            let superseded = self.checked.superseded.contains(&self.entries);
            self.entries += 1;
            if !entry.storable {
                let reason = "the id holds a lone surrogate, which no key can hold";
                let error = Error::new(Kind::Serialization, reason);
                self.copies.note(&entry.id, &Copied::Refused(error));
            } else if !superseded {
                chunk.bytes += json.len();
                chunk.ids.push(entry.id);
                chunk.values.push(json);
            }
        }
        Ok(chunk)
    }
}

impl Copies {
    fn note(&mut self, id: &str, fate: &Copied) {
        match fate {
            Copied::Written => self.written += 1,
            Copied::Replaced => self.replaced += 1,
            Copied::Unchanged => self.unchanged += 1,
            Copied::Refused(error) => {
                self.refused += 1;
                if self.refusals.len() < LISTED {
                    self.refusals.push((id.to_owned(), error.to_string()));
                }
            }
        }
    }
}

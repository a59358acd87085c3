//! `migrate`, from a file to the server. First the file is read over: it is whole, and how many ids it holds. Then what is
//! not there, or differs, is copied.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::steps::{LISTED, Progress, STEP_BYTES, Step, beside, checked_unchanged, interrupted};
use crate::error::{Error, Kind, Result};
use crate::files::{Item, JsonFile, Signature, Sorter};
use crate::json::Layout;
use crate::store::{BATCH_BYTES, BATCH_ITEMS, Copied, KvStore, WINDOW};

/// Requests of small values between two looks at the progress.
const CHUNKS: usize = 8 * WINDOW;

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

/// A file that is being copied: while the server takes some entries, those after them are read.
pub struct Copying {
    store: Arc<KvStore>,
    /// None while it reads, and at the end.
    reading: Option<Reading>,
    next: Window,
    size: u64,
    dry: bool,
    /// What became of the ids so far.
    pub copies: Copies,
}

/// The reader of a file that is being copied.
struct Reading {
    file: JsonFile,
    checked: Checked,
    entries: u64,
    ended: bool,
}

/// Entries that are under way together.
#[derive(Default)]
struct Window {
    chunks: Vec<Chunk>,
    refused: Vec<String>,
    /// Where in the file they end.
    until: u64,
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
            size: file.size(),
            reading: Some(Reading {
                file,
                checked,
                entries: 0,
                ended: false,
            }),
            next: Window::default(),
            dry,
            copies: Copies::default(),
        })
    }

    /// Copies on; None at the end.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        let mut reading = self.reading.take().ok_or_else(interrupted)?;
        let mut window = std::mem::take(&mut self.next);
        if window.is_empty() && !reading.ended {
            window = reading.window()?; // the first one, which nothing is sent beside
        }
        if window.is_empty() {
            self.reading = Some(reading);
            return Ok(None);
        }
        let read = beside(move || {
            let next = reading.window()?;
            Ok((reading, next))
        });
        let (store, dry) = (&self.store, self.dry);
        let chunks = window.chunks.iter();
        let copied: Vec<_> = chunks
            .map(|chunk| store.copy(&chunk.ids, &chunk.values, dry))
            .collect();
        let copied = stream::iter(copied)
            .buffered(WINDOW)
            .try_collect::<Vec<_>>();
        let (read, copied) = join(read, copied).await;
        for (chunk, fates) in window.chunks.iter().zip(copied?) {
            for (id, fate) in chunk.ids.iter().zip(fates) {
                self.copies.note(id, &fate);
            }
        }
        for id in &window.refused {
            let reason = "the id holds a lone surrogate, which no key can hold";
            let error = Error::new(Kind::Serialization, reason);
            self.copies.note(id, &Copied::Refused(error));
        }
        let (reading, next) = read?;
        let done = if next.is_empty() {
            self.size
        } else {
            window.until
        };
        (self.reading, self.next) = (Some(reading), next);
        Ok(Some(Progress {
            step: Step::Copy,
            done,
            total: Some(self.size),
        }))
    }
}

impl Window {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.refused.is_empty()
    }
}

impl Reading {
    fn window(&mut self) -> Result<Window> {
        let (mut window, mut bytes) = (Window::default(), 0);
        while window.chunks.len() < CHUNKS
            && bytes < WINDOW * BATCH_BYTES
            && window.refused.len() < LISTED
            && !self.ended
        {
            let chunk = self.chunk(&mut window.refused)?;
            if !chunk.ids.is_empty() {
                bytes += chunk.bytes;
                window.chunks.push(chunk);
            }
        }
        // Values of a file that changes under the reader may be made of old bytes and new ones.
        checked_unchanged(&self.file)?;
        window.until = self.file.position();
        Ok(window)
    }

    fn chunk(&mut self, refused: &mut Vec<String>) -> Result<Chunk> {
        let mut chunk = Chunk::default();
        while chunk.ids.len() < BATCH_ITEMS && chunk.bytes < BATCH_BYTES && refused.len() < LISTED {
            let mut json = Vec::new();
            let Some(entry) = self.file.next(Layout::Compact, &mut json)? else {
                self.ended = true;
                break;
            };
            let superseded = self.checked.superseded.contains(&self.entries);
            self.entries += 1;
            if !entry.storable {
                refused.push(entry.id);
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

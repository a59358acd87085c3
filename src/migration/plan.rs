//! Reads a file over before anything is done with it: it is whole, and how many ids it holds.

use std::collections::HashSet;
use std::path::PathBuf;

use super::steps::{Progress, STEP_BYTES, Step, checked_unchanged};
use crate::error::Result;
use crate::files::{Item, JsonFile, Signature, Sorter};
use crate::json::Layout;

/// What was found in a file that is whole.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the file is known again by.
    pub(super) signature: Signature,
    /// The entries, counted from 0, whose id occurs again later.
    pub(super) superseded: HashSet<u64>,
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

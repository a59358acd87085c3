//! A file beside the server, id by id.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use super::steps::{LISTED, Progress, STEP_BYTES, Step, checked_unchanged};
use crate::error::{Kind, Result};
use crate::files::{Item, JsonFile, Sorted, Sorter};
use crate::json::{Layout, rewrite};
use crate::store::{BatchSizer, KvStore};

/// Ids of one kind: how many, and the first of them.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// How many.
    pub count: u64,
    /// The first of them, sorted.
    pub listed: Vec<String>,
}

impl Differences {
    fn note(&mut self, id: String) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(id);
        }
    }
}

/// What came of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Ids in the file, and on the server.
    pub ids: [u64; 2],
    /// One digest for all ids and values of each, in the same order.
    pub digests: [u128; 2],
    /// They have another value on the server, or one that cannot be read.
    pub differing: Differences,
    /// Only the file has them.
    pub missing: Differences,
    /// Only the server has them.
    pub extra: Differences,
}

/// A comparison under way.
pub struct Comparison {
    store: Arc<KvStore>,
    file: JsonFile,
    in_file: Option<Sorter>,
    on_server: Sorter,
    /// Ids of the file that no key can hold.
    unstorable: Differences,
    scratch: Vec<u8>,
    entries: u64,
    cursor: Option<u128>,
    batch_sizer: BatchSizer,
    /// What came of it, at the end.
    pub compared: Option<Compared>,
}

impl Comparison {
    /// Opens the file.
    pub fn new(store: Arc<KvStore>, path: PathBuf) -> Result<Self> {
        Ok(Self {
            store,
            file: JsonFile::open(path)?,
            in_file: Some(Sorter::default()),
            on_server: Sorter::default(),
            unstorable: Differences::default(),
            scratch: Vec::new(),
            entries: 0,
            cursor: None,
            batch_sizer: BatchSizer::default(),
            compared: None,
        })
    }

    /// Does the next step; None at the end.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        if self.compared.is_some() {
            return Ok(None);
        }
        let Some(cursor) = self.cursor else {
            return self.read().map(Some);
        };
        let next = self.read_server(cursor).await?;
        self.cursor = Some(next);
        if next == 0 {
            let in_file = self.in_file.take().unwrap_or_default().sorted()?;
            let on_server = std::mem::take(&mut self.on_server).sorted()?;
            let mut compared = merge(in_file, on_server)?;
            let unstorable = std::mem::take(&mut self.unstorable);
            compared.ids[0] += unstorable.count;
            compared.digests[0] ^= u128::from(unstorable.count);
            compared.missing.count += unstorable.count;
            let room = LISTED.saturating_sub(compared.missing.listed.len());
            let listed = unstorable.listed.into_iter().take(room);
            compared.missing.listed.extend(listed);
            self.compared = Some(compared);
        }
        Ok(Some(Progress {
            step: Step::Compare,
            done: self.entries,
            total: None,
        }))
    }

    /// Digests the next values of the file.
    fn read(&mut self) -> Result<Progress> {
        let until = self.file.position() + STEP_BYTES;
        while self.file.position() < until {
            self.scratch.clear();
            let Some(entry) = self.file.next(Layout::Sorted, &mut self.scratch)? else {
                checked_unchanged(&self.file)?;
                self.cursor = Some(0);
                self.entries = 0;
                break;
            };
            self.entries += 1;
            if !entry.storable {
                self.unstorable.note(entry.id);
                continue;
            }
            let item = Item {
                id: entry.id,
                number: self.entries,
                digest: digest(&self.scratch),
            };
            if let Some(sorter) = &mut self.in_file {
                sorter.push(item)?;
            }
        }
        Ok(Progress {
            step: Step::Read,
            done: self.file.position(),
            total: Some(self.file.size()),
        })
    }

    /// Digests a page of the server's values.
    async fn read_server(&mut self, cursor: u128) -> Result<u128> {
        let (next, keys) = self.store.own_page(cursor).await?;
        let ids = self.store.ids_of(&keys).into_iter();
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        while !ids.is_empty() {
            let rest = ids.split_off(self.batch_sizer.ids().min(ids.len()));
            let found = self.batch_sizer.fetch(&self.store, &ids).await?;
            for (id, json) in std::mem::replace(&mut ids, rest).into_iter().zip(found) {
                let digest = match json {
                    Ok(None) => continue, // it has expired, or was deleted
                    Ok(Some(json)) => {
                        self.scratch.clear();
                        rewrite(&json, Layout::Sorted, &mut self.scratch)
                            .map_or(UNREADABLE, |()| digest(&self.scratch))
                    }
                    Err(error) if error.kind() == Kind::Corrupt => UNREADABLE,
                    Err(error) => return Err(error),
                };
                let number = self.entries;
                self.entries += 1;
                self.on_server.push(Item { id, number, digest })?;
            }
        }
        Ok(next)
    }
}

/// Stands for a value that cannot be read, and so is the same as no other.
const UNREADABLE: u128 = 0;

/// Of two documents that differ, equal once in 2^64 times or so. For this run alone: the next
/// version of the standard library may digest otherwise.
fn digest(json: &[u8]) -> u128 {
    let half = |key: u8| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.write(json);
        u128::from(hasher.finish())
    };
    (half(1) << 64 | half(2)).max(UNREADABLE + 1)
}

/// Walks along both, in the order of the ids.
fn merge(mut in_file: Sorted, mut on_server: Sorted) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut digests = [Digest::default(), Digest::default()];
    let (mut ours, mut theirs) = (in_file.next_id()?, on_server.next_id()?);
    loop {
        let order = match (&ours, &theirs) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(ours), Some(theirs)) => ours.id.cmp(&theirs.id),
        };
        let mut file_item = None;
        if order.is_le() {
            file_item = std::mem::replace(&mut ours, in_file.next_id()?);
        }
        let mut server_item = None;
        if order.is_ge() {
            server_item = std::mem::replace(&mut theirs, on_server.next_id()?);
        }
        for (side, item) in [&file_item, &server_item].into_iter().enumerate() {
            if let Some(item) = item {
                compared.ids[side] += 1;
                digests[side].add(item);
            }
        }
        match (file_item, server_item) {
            (Some(one), Some(other)) if one.digest != other.digest => {
                compared.differing.note(one.id);
            }
            (Some(one), None) => compared.missing.note(one.id),
            (None, Some(other)) => compared.extra.note(other.id),
            _ => {}
        }
    }
    compared.digests = digests.map(|digest| digest.finish());
    Ok(compared)
}

/// Of ids and the digests of their values, one after another.
#[derive(Default)]
struct Digest([DefaultHasher; 2]);

impl Digest {
    fn add(&mut self, item: &Item) {
        for (key, hasher) in self.0.iter_mut().enumerate() {
            (key, &item.id, item.digest).hash(hasher);
        }
    }

    fn finish(&self) -> u128 {
        u128::from(self.0[0].finish()) << 64 | u128::from(self.0[1].finish())
    }
}

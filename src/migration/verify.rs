//! A file beside the server, id by id.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::future::join;

use super::steps::{LISTED, Progress, STEP_BYTES, Step, beside, checked_unchanged, interrupted};
use crate::error::{Kind, Result};
use crate::files::{Item, JsonFile, Sorted, Sorter};
use crate::json::{Layout, rewrite};
use crate::store::{BatchSizer, Fetched, KvStore};

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

/// A comparison under way: the file is read while the server answers.
pub struct Comparison {
    store: Arc<KvStore>,
    /// None while it reads.
    in_file: Option<InFile>,
    on_server: OnServer,
    /// What came of it, at the end.
    pub compared: Option<Compared>,
}

/// The file, as far as it was read.
struct InFile {
    file: JsonFile,
    items: Sorter,
    /// Ids that no key can hold.
    unstorable: Differences,
    entries: u64,
    ended: bool,
}

/// The server's values, as far as they were read.
#[derive(Default)]
struct OnServer {
    items: Sorter,
    /// What is to be digested.
    fetched: Fetched,
    entries: u64,
    cursor: u128,
    ended: bool,
    batch_sizer: BatchSizer,
}

impl Comparison {
    /// Opens the file.
    pub fn new(store: Arc<KvStore>, path: PathBuf) -> Result<Self> {
        Ok(Self {
            store,
            in_file: Some(InFile {
                file: JsonFile::open(path)?,
                items: Sorter::default(),
                unstorable: Differences::default(),
                entries: 0,
                ended: false,
            }),
            on_server: OnServer::default(),
            compared: None,
        })
    }

    /// Does the next step; None at the end.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        if self.compared.is_some() {
            return Ok(None);
        }
        let in_file = self.in_file.take().ok_or_else(interrupted)?;
        if !in_file.ended {
            let in_file = self.read_both(in_file).await?;
            let in_file = self.in_file.insert(in_file);
            return Ok(Some(Progress {
                step: Step::Read,
                done: in_file.file.position(),
                total: Some(in_file.file.size()),
            }));
        }
        if !self.on_server.ended {
            self.on_server.read_page(&self.store).await?;
        }
        let entries = self.on_server.entries;
        if self.on_server.ended {
            self.compared = Some(compare(in_file, std::mem::take(&mut self.on_server))?);
        } else {
            self.in_file = Some(in_file);
        }
        Ok(Some(Progress {
            step: Step::Compare,
            done: entries,
            total: None,
        }))
    }

    /// Reads the next part of the file, and as many of the server's pages as come meanwhile.
    async fn read_both(&mut self, mut in_file: InFile) -> Result<InFile> {
        let file_read = AtomicBool::new(false);
        let file = async {
            let read = beside(move || in_file.read().map(|()| in_file)).await;
            file_read.store(true, Relaxed);
            read
        };
        let (store, on_server) = (&self.store, &mut self.on_server);
        let server = async {
            while !on_server.ended && !file_read.load(Relaxed) {
                on_server.read_page(store).await?;
            }
            Ok(())
        };
        let (file, server) = join(file, server).await;
        server.and(file)
    }
}

impl InFile {
    /// Digests the next values.
    fn read(&mut self) -> Result<()> {
        let mut json = Vec::new();
        let until = self.file.position() + STEP_BYTES;
        while self.file.position() < until {
            json.clear();
            let Some(entry) = self.file.next(Layout::Sorted, &mut json)? else {
                self.ended = true;
                return checked_unchanged(&self.file);
            };
            self.entries += 1;
            if entry.storable {
                self.items.push(Item {
                    id: entry.id,
                    number: self.entries,
                    digest: digest(&json),
                })?;
            } else {
                self.unstorable.note(entry.id);
            }
        }
        Ok(())
    }
}

impl OnServer {
    /// Fetches a page of values, and digests those before them meanwhile.
    async fn read_page(&mut self, store: &Arc<KvStore>) -> Result<()> {
        let (next, keys) = store.own_page(self.cursor).await?;
        let ids = store.ids_of(&keys).into_iter();
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        while !ids.is_empty() {
            let rest = ids.split_off(self.batch_sizer.ids().min(ids.len()));
            let before = std::mem::take(&mut self.fetched);
            let digested = beside(move || digests(before));
            let fetching = self.batch_sizer.fetch(store, &ids);
            let (digested, found) = join(digested, fetching).await;
            self.take(digested?)?;
            let ids = std::mem::replace(&mut ids, rest).into_iter();
            self.fetched = ids.zip(found?).collect();
        }
        (self.cursor, self.ended) = (next, next == 0);
        if self.ended {
            let last = std::mem::take(&mut self.fetched);
            self.take(digests(last)?)?;
        }
        Ok(())
    }

    fn take(&mut self, digests: Vec<(String, u128)>) -> Result<()> {
        for (id, digest) in digests {
            let number = self.entries;
            self.entries += 1;
            self.items.push(Item { id, number, digest })?;
        }
        Ok(())
    }
}

/// Of the values that are there; of those that cannot be read, too.
fn digests(fetched: Fetched) -> Result<Vec<(String, u128)>> {
    let mut sorted = Vec::new();
    let mut digests = Vec::with_capacity(fetched.len());
    for (id, json) in fetched {
        let digest = match json {
            Ok(None) => continue, // it has expired, or was deleted
            Ok(Some(json)) => {
                sorted.clear();
                rewrite(&json, Layout::Sorted, &mut sorted).map_or(UNREADABLE, |()| digest(&sorted))
            }
            Err(error) if error.kind() == Kind::Corrupt => UNREADABLE,
            Err(error) => return Err(error),
        };
        digests.push((id, digest));
    }
    Ok(digests)
}

/// What came of both.
fn compare(in_file: InFile, on_server: OnServer) -> Result<Compared> {
    let mut compared = merge(in_file.items.sorted()?, on_server.items.sorted()?)?;
    let unstorable = in_file.unstorable;
    compared.ids[0] += unstorable.count;
    compared.digests[0] ^= u128::from(unstorable.count);
    compared.missing.count += unstorable.count;
    let room = LISTED.saturating_sub(compared.missing.listed.len());
    let listed = unstorable.listed.into_iter().take(room);
    compared.missing.listed.extend(listed);
    Ok(compared)
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

//! Compaction: the log of changes becomes part of the host's file, when that is due.
//!
//! The log says which ids have changed. What they are is asked of the server: two processes that
//! write one id may have logged that in another order than the server did it. Of what the server does
//! not have, or when it is away, the log's own word holds: what has expired there, or was lost with
//! it, stays in the file.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant as StdInstant};

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::DualWrite;
use super::lock_patience::{LOCK_PATIENCE, stopped, with_patience};
use crate::error::{Error, Kind, Result};
use crate::files::change_log::{ChangeLog, PutAway, try_put_away};
use crate::files::change_log_reader::{Change, Changes, Fate, Place};
use crate::files::{
    FileWriter, JsonFile, LAYOUT, Paths, Skipped, failed, is_at, open_to_read, read_at,
    sync_directory,
};
use crate::json::Layout;
use crate::memory;
use crate::store::{BatchSizer, KvStore};

/// Milliseconds between two compactions of one file.
pub(super) const COMPACT_INTERVAL: u64 = 60_000;
/// Time from a change to the compaction, if that is due: others come with it.
pub(super) const COMPACT_DELAY: Duration = Duration::from_secs(1);
/// How many times longer than it takes a file is left alone after it: a large one is compacted less
/// often.
const COMPACT_REST: u64 = 10;
/// Time until it is looked again whether another process is still compaction.
const PAUSE: Duration = Duration::from_millis(20);
/// Time without a byte written after which another process that compacts is taken for one that has
/// stopped. It may be reading a long log, asking the server, or waiting for the disk.
const COMPACT_PATIENCE: Duration = Duration::from_secs(60);
/// The files that values are in: the log, and what the server says otherwise.
const LOG: usize = 0;
const OTHERWISE: usize = 1;

impl DualWrite {
    /// Has the log compacted in a while, unless that is arranged already.
    pub(super) fn schedule(&self, after: Duration) {
        if self.scheduled.load(Relaxed) || self.scheduled.swap(true, Relaxed) {
            return;
        }
        let (store, turn) = (Weak::clone(&self.store), Arc::clone(&self.turn));
        tokio::spawn(async move {
            sleep(after).await;
            // One thread of those few that may block is enough for it.
            let _turn = turn.lock().await;
            // Files are read and written there, which no socket waits for.
            let compacting = tokio::task::spawn_blocking(move || {
                if let Some(store) = store.upgrade() {
                    Handle::current().block_on(store.compact_when_due());
                }
            });
            let _ = compacting.await;
        });
    }
}

impl KvStore {
    /// Compacts the log in its time, unless another process does it; and again when there is more.
    async fn compact_when_due(&self) {
        let Some(dual) = &self.dual_write else { return };
        dual.scheduled.store(false, Relaxed);
        let paths = dual.log.paths();
        let compacted = std::fs::metadata(&paths.file).and_then(|found| found.modified());
        let since = compacted.ok().and_then(|moment| moment.elapsed().ok());
        let interval = Duration::from_millis(dual.interval.load(Relaxed));
        let early = since.map_or(Duration::ZERO, |since| interval.saturating_sub(since));
        if !early.is_zero() {
            return dual.schedule(early);
        }
        let began = StdInstant::now();
        let _ = dual.append_kept().await; // is tried again with the next change
        match compact(self, paths, true, false).await {
            Ok(compacted) => {
                dual.compactions
                    .fetch_add(u64::from(compacted.is_some()), Relaxed);
                let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(COMPACT_INTERVAL);
                let interval = COMPACT_INTERVAL.max(took.saturating_mul(COMPACT_REST));
                dual.interval.store(interval, Relaxed);
                if compacted.is_some() && dual.uncompacted.swap(false, Relaxed) {
                    self.note("the file follows the log of changes again");
                }
                if paths.have_changes() {
                    dual.schedule(Duration::from_millis(interval));
                }
            }
            Err(error) => {
                if !dual.uncompacted.swap(true, Relaxed) {
                    self.note(&format!(
                        "the log of changes grows, the file does not follow: {error}"
                    ));
                }
                dual.schedule(interval);
            }
        }
    }
}

/// A file that was brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Ids that it holds.
    pub ids: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Lines of the log that tell of no change.
    pub skipped: Skipped,
}

/// Compacts what is logged of the store's namespace into its file. None if nothing is, or
/// another process does it: unless it is waited for.
///
/// `ask` is whether the server is asked; else the log's own word holds.
///
/// The new file is written beside the old one and takes its place whole; the log goes after that. So
/// whoever is killed on the way leaves something that can be compacted once more.
pub async fn compact(
    store: &KvStore,
    paths: &Paths,
    ask: bool,
    wait: bool,
) -> Result<Option<Compacted>> {
    let (mut compacted, mut put_away) = (None, false);
    let (mut since, mut written) = (Instant::now(), None);
    while paths.have_changes() {
        if !put_away {
            // What someone left behind comes first, and then what was logged since; more may be on
            // its way, but that is of others.
            match try_put_away(paths, ask.then_some(store.config().keyspace.prefix())) {
                Ok(Some(PutAway::Now)) => put_away = true,
                Ok(Some(PutAway::Before)) => {}
                Ok(Some(PutAway::Nothing)) => return Ok(compacted),
                Ok(None) if since.elapsed() < LOCK_PATIENCE => {
                    sleep(PAUSE).await;
                    continue;
                }
                Ok(None) => return Err(stopped(&paths.log)),
                Err(error) => return Err(error),
            }
        }
        match Turn::take(paths)? {
            Turn::Ours(log, writer) => {
                let asked = ask.then_some(store);
                let mut one = compact_one(asked, paths, log, writer).await?;
                if one.skipped.count > 0 {
                    // The log is gone by now, and nobody else has read it.
                    store.note(&told_of_skipped(paths, &one.skipped));
                }
                if let Some(before) = compacted.take() {
                    let after = std::mem::replace(&mut one.skipped, before.skipped);
                    one.skipped.extend(after);
                }
                compacted = Some(one);
            }
            Turn::Done => {}
            Turn::Others if wait => {
                let now = FileWriter::written(&paths.file);
                if now != written {
                    (since, written) = (Instant::now(), now);
                }
                if since.elapsed() > COMPACT_PATIENCE {
                    return Err(stopped(&paths.compacting));
                }
                sleep(PAUSE).await;
                continue;
            }
            Turn::Others => return Ok(compacted),
        }
        since = Instant::now();
        if put_away || !wait {
            break;
        }
    }
    Ok(compacted)
}

/// Who compacts a log that was put away.
enum Turn {
    /// We do. The log is locked until it is closed, which is after it was removed.
    Ours(File, FileWriter),
    /// Another process does, or writes the file for another reason.
    Others,
    /// Another process has done it.
    Done,
}

impl Turn {
    fn take(paths: &Paths) -> Result<Self> {
        let log = match open_to_read(&paths.compacting) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Done),
            opened => opened.map_err(|error| failed("cannot open", &paths.compacting, &error))?,
        };
        if log.try_lock().is_err() {
            return Ok(Self::Others);
        }
        if !is_at(&log, &paths.compacting) {
            return Ok(Self::Done);
        }
        let writer = FileWriter::try_begin(&paths.file)?;
        Ok(writer.map_or(Self::Others, |writer| Self::Ours(log, writer)))
    }
}

fn told_of_skipped(paths: &Paths, skipped: &Skipped) -> String {
    let (log, file) = (paths.log.display(), paths.file.display());
    format!(
        "{skipped} of {log} told of no whole change and were skipped, as a process leaves one that is killed while it writes; all others are in {file}. Compare the file with verify, and write it anew with export if it differs"
    )
}

async fn compact_one(
    asked: Option<&KvStore>,
    paths: &Paths,
    log: File,
    mut writer: FileWriter,
) -> Result<Compacted> {
    let mut changes = Changes::default();
    changes.read(&paths.compacting, LOG)?;
    let no_temporary = |error| failed("there is no temporary file for", &paths.file, &error);
    let mut values = [log, tempfile::tempfile().map_err(no_temporary)?];
    let base = paths.file.exists();
    if let Some(store) = asked {
        if !base {
            list_all(store, paths, &mut changes).await?;
        } else if changes.dropped {
            take_all(paths, &mut changes)?;
        }
        ask(store, &mut changes, &mut values)
            .await
            .map_err(|error| failed("cannot read", &paths.compacting, &error))?;
    }
    let read = |place: Place| {
        read_at(&values[place.file], place)
            .map_err(|error| failed("cannot read", &paths.compacting, &error))
    };
    if base {
        let mut file = JsonFile::open(paths.file.clone())?;
        let mut value = Vec::new();
        while let Some(entry) = file.next(LAYOUT, &mut value)? {
            if !entry.storable {
                writer.add_escaped(&entry.id, &value)?;
                value.clear();
                continue;
            }
            let mut as_it_was = Fate::AsInFile;
            let change = changes.ids.get_mut(&entry.id);
            let fate = change.map_or(&mut as_it_was, |change| &mut change.fate);
            match *fate {
                Fate::AsInFile => writer.add_laid_out(&entry.id, &value)?,
                Fate::Deleted => {}
                Fate::Set(place) => {
                    writer.add(&entry.id, &read(place)?)?;
                    // It has its old place. Neither is it written once more at the end, nor what
                    // the file says of it further on.
                    *fate = Fate::Deleted;
                }
            }
            value.clear();
        }
    }
    let mut rest: Vec<(&String, &Change)> = memory::listed(changes.ids.iter())?;
    rest.sort_unstable_by_key(|(_, change)| change.order);
    for (id, change) in rest {
        if let Fate::Set(place) = change.fate {
            writer.add(id, &read(place)?)?;
        }
    }
    let ids = writer.ids();
    let size = writer.finish()?;
    // A server that was away is asked again later.
    if let Some(store) = asked
        && !changes.unanswered(&Changes::default()).is_empty()
    {
        let next = ChangeLog::new(paths.clone(), store.config().keyspace.prefix());
        let unanswered = || {
            let mut since = Changes::default();
            since.read(&paths.log, LOG)?;
            Ok(changes.unanswered(&since))
        };
        with_patience(&next, || next.try_append_made(unanswered)).await?;
    }
    fs::remove_file(&paths.compacting)
        .map_err(|error| failed("cannot remove", &paths.compacting, &error))?;
    sync_directory(&paths.compacting)?;
    Ok(Compacted {
        ids,
        size,
        skipped: changes.skipped,
    })
}

/// Takes every id that the server has for one that has changed: a file that nobody has made yet is
/// to hold all there is. A file of the changes alone would be taken for the whole from then on.
async fn list_all(store: &KvStore, paths: &Paths, changes: &mut Changes) -> Result<()> {
    let mut pages = store.own_pages();
    let unknown = |error| {
        let file = paths.file.display();
        let message = format!(
            "{file} is not there, and is made when the server says what is to be in it: {error}"
        );
        Error::new(Kind::File, message)
    };
    while let Some(keys) = pages.next().await.map_err(unknown)? {
        for id in store.ids_of(&keys) {
            changes.change(id.to_owned())?;
        }
    }
    Ok(())
}

/// Takes every id of the file for one that may be gone: all were to be deleted. Others may have been
/// written since, and compacted into this file before the drop was logged.
fn take_all(paths: &Paths, changes: &mut Changes) -> Result<()> {
    let mut file = JsonFile::open(paths.file.clone())?;
    let mut scratch = Vec::new();
    while let Some(entry) = file.next(Layout::Compact, &mut scratch)? {
        scratch.clear();
        if entry.storable {
            changes.change(entry.id)?;
        }
    }
    Ok(())
}

/// Asks the server what the ids are, and sets right what the log says of them.
async fn ask(store: &KvStore, changes: &mut Changes, values: &mut [File; 2]) -> io::Result<()> {
    let ids: Vec<String> = changes.ids.keys().cloned().collect();
    let mut reading = BatchSizer::default();
    let (mut rest, mut end) = (&ids[..], 0);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(reading.ids().min(rest.len()));
        rest = later;
        let Ok(found) = reading.fetch(store, batch).await else {
            return Ok(()); // it is away, or will not say
        };
        for (id, found) in batch.iter().zip(found) {
            let Some(change) = changes.ids.get_mut(id) else {
                continue;
            };
            change.asked = false;
            match found {
                Ok(Some(json)) => {
                    let same = match change.fate {
                        Fate::Set(place) => {
                            place.length == json.len() && read_at(&values[LOG], place)? == json
                        }
                        _ => false,
                    };
                    if !same {
                        values[OTHERWISE].seek(io::SeekFrom::Start(end))?;
                        values[OTHERWISE].write_all(&json)?;
                        change.fate = Fate::Set(Place {
                            file: OTHERWISE,
                            at: end,
                            length: json.len(),
                        });
                        end += json.len() as u64;
                    }
                }
                Ok(None) if change.delete_asked => change.fate = Fate::Deleted,
                Ok(None) | Err(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The log of changes that dual writing keeps beside a host's file: a JSON array a line, appended
//! under a lock that all processes respect.
//!
//! - `["set","id",value]`, `["delete","id"]`: confirmed by the server.
//! - `["set?","id"]`, `["delete?","id"]`: sent, and not confirmed. The server may be asked.
//! - `["drop"]`: all ids were to be deleted. Those that were have a line of their own before it; of the
//!   others, among them what was written meanwhile, only the server can say whether they are gone.
//!
//! A process that dies while it writes leaves a line without an end. The next one begins a new
//! line, and what is no whole array is passed over by whoever reads.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Paths;
use super::json_writer::is_at;
use super::namespace_lock::FilesLock;
use super::open_file::{no_more_open_than, open_own};
use crate::error::Result;
use crate::json::write_utf8;
use crate::memory;
use crate::mutex::Mutex;

/// Bytes of lines that are kept for later when the log cannot be written.
const KEPT_BYTES: usize = 4 << 20;

/// A change whose line holds no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was deleted.
    Delete,
    /// A value was sent, and may have been set.
    SetAsked,
    /// A delete was sent, and may have been done.
    DeleteAsked,
    /// All ids were to be deleted.
    Drop,
}

impl Mark {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::SetAsked => "set?",
            Self::DeleteAsked => "delete?",
            Self::Drop => "drop",
        }
    }

    /// Whether it concerns all ids, so that its line names none.
    pub(super) fn is_of_all(self) -> bool {
        self == Self::Drop
    }
}

/// Lines on their way to the log.
#[derive(Default)]
pub struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether one of them is a drop.
    drop: bool,
}

impl Lines {
    /// For about so many bytes, if there is memory for them.
    pub fn with_capacity(bytes: usize) -> Result<Self> {
        let mut lines = Self::default();
        memory::reserve(&mut lines.bytes, bytes)?;
        Ok(lines)
    }

    /// A value was set. `json` is in one line.
    pub fn set(&mut self, id: &str, json: &[u8]) {
        self.open("set", Some(id));
        memory::claim(&mut self.bytes, json.len() + 3);
        self.bytes.push(b',');
        self.bytes.extend_from_slice(json);
        self.close();
    }

    /// Something else happened to an id.
    pub fn mark(&mut self, mark: Mark, id: &str) {
        self.open(mark.name(), Some(id));
        self.close();
    }

    /// All ids were to be deleted.
    pub fn drop_all(&mut self) {
        self.open(Mark::Drop.name(), None);
        self.close();
        self.drop = true;
    }

    /// Takes those of the lines for whose number `wanted` says so.
    #[must_use]
    pub fn chosen(self, wanted: impl Fn(usize) -> bool) -> Self {
        if (0..self.ends.len()).all(&wanted) {
            return self;
        }
        let mut chosen = Self::default();
        let length = |number: usize| {
            let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
            self.ends[number] - start
        };
        let bytes = (0..self.ends.len())
            .filter(|number| wanted(*number))
            .map(length);
        memory::claim(&mut chosen.bytes, bytes.sum());
        let mut start = 0;
        for (number, &end) in self.ends.iter().enumerate() {
            if wanted(number) {
                chosen.bytes.extend_from_slice(&self.bytes[start..end]);
                chosen.ends.push(chosen.bytes.len());
            }
            start = end;
        }
        chosen
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn open(&mut self, name: &str, id: Option<&str>) {
        self.bytes.extend_from_slice(b"[\"");
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'"');
        if let Some(id) = id {
            self.bytes.push(b',');
            write_utf8(id.as_bytes(), &mut self.bytes);
        }
    }

    fn close(&mut self) {
        self.bytes.extend_from_slice(b"]\n");
        self.ends.push(self.bytes.len());
    }
}

/// A write on its way to the server.
#[derive(Clone, Copy)]
pub struct Flight<'a> {
    /// How many drops were logged when it was sent; None if that is not known.
    pub drops: Option<u64>,
    /// Whose value it sets.
    pub ids: &'a [String],
}

/// The log of one namespace, as one process writes it.
pub struct ChangeLog {
    paths: Paths,
    open: Mutex<Open>,
    /// Changes that were logged.
    appended: AtomicU64,
    /// Changes that could not be logged at their time.
    failed: AtomicU64,
}

struct Open {
    lock: FilesLock,
    log: Option<File>,
    /// Written before what comes next.
    kept: Lines,
}

impl ChangeLog {
    /// Of the keys with this prefix. Opens nothing yet.
    #[must_use]
    pub fn new(paths: Paths, owner: &str) -> Self {
        let open = Open {
            lock: FilesLock::new(&paths, Some(owner)),
            log: None,
            kept: Lines::default(),
        };
        Self {
            paths,
            open: Mutex::new(open),
            appended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// How many changes were logged, and how many were not at their time.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.appended.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Makes sure that the files are of this log's owner, who has them from now on. False if another
    /// process has the lock.
    pub fn try_claim(&self) -> Result<bool> {
        Ok(self.open.lock().lock.hold(|_| Ok(()))?.is_some())
    }

    /// How many drops were logged, by all processes; None where that cannot be said.
    #[must_use]
    pub fn drops(&self) -> Option<u64> {
        self.open.lock().lock.drops()
    }

    /// Appends lines, and those that were kept. False if another process has the lock: it has it
    /// for as long as it takes to write some lines, so try again soon.
    ///
    /// `flight` is of the writes that the lines tell of: if a drop was logged while they were on the
    /// way, it may have deleted what they wrote. Whether it has, the server is asked.
    pub fn try_append(&self, lines: &Lines, flight: Option<Flight<'_>>) -> Result<bool> {
        let mut open = self.open.lock();
        let Open { lock, log, kept } = &mut *open;
        let appended = lock.hold(|held| {
            let mut raced = Lines::default();
            if let Some(flight) = flight
                && (flight.drops.is_none() || flight.drops != held.drops())
            {
                for id in flight.ids {
                    raced.mark(Mark::DeleteAsked, id);
                }
            }
            let file = self.opened(log.take())?;
            write(&file, &[kept, lines, &raced])?;
            if kept.drop || lines.drop {
                held.count_drop()?;
            }
            *log = Some(file);
            Ok(())
        })?;
        if appended.is_some() {
            let count = open.kept.ends.len() + lines.ends.len();
            self.appended.fetch_add(count as u64, Relaxed);
            open.kept = Lines::default();
        }
        Ok(appended.is_some())
    }

    /// Appends lines that are made by what the log says, which nobody else writes to meanwhile. False as of `try_append`.
    pub(crate) fn try_append_made(&self, make: impl FnOnce() -> Result<Lines>) -> Result<bool> {
        let mut open = self.open.lock();
        let Open { lock, log, .. } = &mut *open;
        let appended = lock.hold(|_| {
            let lines = make().map_err(io::Error::other)?;
            if !lines.is_empty() {
                let file = self.opened(log.take())?;
                write(&file, &[&lines])?;
                *log = Some(file);
            }
            Ok(())
        })?;
        Ok(appended.is_some())
    }

    /// The log to append to: not the one that was put away to be folded.
    fn opened(&self, log: Option<File>) -> io::Result<File> {
        if let Some(file) = log.filter(|file| is_at(file, &self.paths.log)) {
            return Ok(file);
        }
        let mut options = File::options();
        options.read(true).append(true).create(true);
        no_more_open_than(&self.paths.file, &mut options);
        open_own(&self.paths.log, &mut options)
    }

    /// Appends what was kept, if anything was.
    pub fn try_append_kept(&self) -> Result<bool> {
        if !self.has_kept() {
            return Ok(true);
        }
        self.try_append(&Lines::default(), None)
    }

    /// Whether anything was kept.
    #[must_use]
    pub fn has_kept(&self) -> bool {
        !self.open.lock().kept.is_empty()
    }

    /// Notes ids whose change could not be logged, or is not known to have been done.
    pub fn keep(&self, mark: Mark, ids: &[String]) {
        let mut open = self.open.lock();
        if mark.is_of_all() {
            self.failed.fetch_add(1, Relaxed);
            open.kept.drop_all();
        }
        for id in ids {
            self.failed.fetch_add(1, Relaxed);
            if open.kept.bytes.len() < KEPT_BYTES {
                open.kept.mark(mark, id);
            }
        }
    }
}

/// Whether there is a log to be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAway {
    /// One that was put away before.
    Before,
    /// One that was put away now.
    Now,
    /// There is none.
    Nothing,
}

/// Puts the log away, so that it may be folded while others go on in a new one; one at a time. None
/// if another process has the lock. An error if the log is not of the keys with the prefix `owner`, if
/// any.
pub fn try_put_away(paths: &Paths, owner: Option<&str>) -> Result<Option<PutAway>> {
    FilesLock::new(paths, owner).hold(|_| {
        if paths.compacting.exists() {
            return Ok(PutAway::Before);
        }
        if !paths.log.exists() {
            return Ok(PutAway::Nothing);
        }
        fs::rename(&paths.log, &paths.compacting)?;
        Ok(PutAway::Now)
    })
}

/// Appends lines, on a line of their own whatever stands before them.
fn write(mut log: &File, several: &[&Lines]) -> io::Result<()> {
    let size = log.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        log.seek(SeekFrom::Start(size - 1))?;
        log.read_exact(&mut last)?;
        if last != *b"\n" {
            log.write_all(b"\n")?; // someone died while writing
        }
    }
    several
        .iter()
        .filter(|lines| !lines.is_empty())
        .try_for_each(|lines| log.write_all(&lines.bytes))
}

//! What a log of changes says in the end: for each id it names, where its value is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::failed;
use super::log::{Lines, Mark};
use crate::error::Result;
use crate::json_text::cursor::Cursor;
use crate::json_text::{Layout, rewrite};

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// Bytes of one of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which file: a number of its reader's own.
    pub(crate) file: usize,
    /// The first byte.
    pub(crate) at: u64,
    /// How many.
    pub(crate) length: usize,
}

/// What became of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// What the file says of it still holds, as far as the log knows.
    AsInFile,
    /// It is gone.
    Deleted,
    /// It has this value.
    Set(Place),
}

/// An id that a log names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// What is known.
    pub(crate) fate: Fate,
    /// Whether a delete was sent last, of it or of all, of which nothing more is known.
    pub(crate) delete_asked: bool,
    /// Whether something was sent last, of it or of all, of which nothing more is known.
    pub(crate) asked: bool,
    /// When it was named first, as a number.
    pub(crate) order: usize,
}

/// All that some logs say.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// By id.
    pub(crate) ids: HashMap<String, Change>,
    /// Whether all ids of the file are gone that are not named here.
    pub(crate) dropped: bool,
    /// Whether some of them may be gone, which only the server can say.
    pub(crate) drop_asked: bool,
    /// Lines that are no whole change: someone died while writing them.
    pub(crate) torn: u64,
}

impl Changes {
    /// Takes what a log says, over what earlier ones said. A log that is not there says nothing.
    pub(crate) fn read(&mut self, path: &Path, file: usize) -> Result<()> {
        let opened = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|error| failed("cannot open", path, &error))?,
        };
        let mut log = BufReader::with_capacity(CHUNK, opened);
        let (mut line, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
        loop {
            line.clear();
            let read = log.read_until(b'\n', &mut line);
            let read = read.map_err(|error| failed("cannot read", path, &error))?;
            if read == 0 {
                return Ok(());
            }
            scratch.clear();
            match parse(&line, &mut scratch) {
                Some(Parsed::OfAll(mark)) => self.mark_all(mark),
                Some(Parsed::Mark(mark, id)) => self.mark(mark, id),
                Some(Parsed::Set(id, start, length)) => {
                    let place = Place {
                        file,
                        at: at + start as u64,
                        length,
                    };
                    let change = self.change(id);
                    change.fate = Fate::Set(place);
                    (change.delete_asked, change.asked) = (false, false);
                }
                None => self.torn += 1,
            }
            at += read as u64;
        }
    }

    /// Lines that say once more what only the server can tell, and has not told.
    pub(crate) fn unanswered(&self) -> Lines {
        let mut lines = Lines::default();
        let asked = self.ids.iter().filter(|(_, change)| change.asked);
        let (deleted, set): (Vec<_>, Vec<_>) = asked.partition(|(_, change)| change.delete_asked);
        if self.drop_asked && !self.dropped && !deleted.is_empty() {
            lines.mark_all(Mark::DropAsked);
        } else {
            for (id, _) in deleted {
                lines.mark(Mark::DeleteAsked, id);
            }
        }
        for (id, _) in set {
            lines.mark(Mark::SetAsked, id);
        }
        lines
    }

    fn mark_all(&mut self, mark: Mark) {
        let done = mark == Mark::Drop;
        self.dropped |= done;
        self.drop_asked = !done;
        // Kept: another process may have set one of them after the drop, and logged it before.
        for change in self.ids.values_mut() {
            (change.delete_asked, change.asked) = (!done, !done);
            if done {
                change.fate = Fate::Deleted;
            }
        }
    }

    fn mark(&mut self, mark: Mark, id: String) {
        let change = self.change(id);
        match mark {
            Mark::Delete => (change.fate, change.asked) = (Fate::Deleted, false),
            Mark::SetAsked => (change.delete_asked, change.asked) = (false, true),
            Mark::DeleteAsked => (change.delete_asked, change.asked) = (true, true),
            Mark::Drop | Mark::DropAsked => self.mark_all(mark),
        }
    }

    /// What is known of an id, which is named now.
    pub(crate) fn change(&mut self, id: String) -> &mut Change {
        let order = self.ids.len();
        let fate = if self.dropped {
            Fate::Deleted
        } else {
            Fate::AsInFile
        };
        self.ids.entry(id).or_insert(Change {
            fate,
            delete_asked: self.drop_asked,
            asked: self.drop_asked,
            order,
        })
    }
}

enum Parsed {
    Set(String, usize, usize),
    Mark(Mark, String),
    OfAll(Mark),
}

/// A line; None if it is not a whole change.
fn parse(line: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
    let line = line.strip_suffix(b"]\n")?;
    let mut cursor = Cursor { json: line, at: 0 };
    cursor.enter(0, b']').ok()?;
    let name = text(&mut cursor)?;
    let of_all = [Mark::Drop, Mark::DropAsked];
    if let Some(mark) = of_all.into_iter().find(|mark| mark.name() == name) {
        return (cursor.at == line.len()).then_some(Parsed::OfAll(mark));
    }
    comma(&mut cursor)?;
    let id = text(&mut cursor)?;
    if name == "set" {
        comma(&mut cursor)?;
        let value = &line[cursor.at..];
        rewrite(value, Layout::Compact, scratch).ok()?;
        return Some(Parsed::Set(id, cursor.at, value.len()));
    }
    let marks = [Mark::Delete, Mark::SetAsked, Mark::DeleteAsked];
    let mark = marks.into_iter().find(|mark| mark.name() == name)?;
    (cursor.at == line.len()).then_some(Parsed::Mark(mark, id))
}

fn comma(cursor: &mut Cursor<'_>) -> Option<()> {
    matches!(cursor.ends(b']'), Ok(false)).then_some(())
}

fn text(cursor: &mut Cursor<'_>) -> Option<String> {
    cursor.opening_quote_of_a_key().ok()?;
    cursor.id().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Paths;
    use super::super::log::{ChangeLog, PutAway, try_put_away};
    use super::*;

    fn log() -> (tempfile::TempDir, ChangeLog) {
        let directory = tempfile::tempdir().unwrap();
        let log = ChangeLog::new(Paths::new(directory.path(), "docs"));
        (directory, log)
    }

    fn read(path: &Path) -> Changes {
        let mut changes = Changes::default();
        changes.read(path, 0).unwrap();
        changes
    }

    fn value(path: &Path, changes: &Changes, id: &str) -> Option<String> {
        let Fate::Set(place) = changes.ids.get(id)?.fate else {
            return None;
        };
        let bytes = std::fs::read(path).unwrap();
        let at = usize::try_from(place.at).unwrap();
        String::from_utf8(bytes[at..at + place.length].to_vec()).ok()
    }

    #[test]
    fn the_last_line_of_an_id_counts() {
        let (_directory, log) = log();
        let mut lines = Lines::default();
        lines.set("a", b"1");
        lines.set("\"é\n", b"{\"x\":[1]}");
        lines.set("a", b"2");
        lines.set("b", b"3");
        lines.mark(Mark::Delete, "b");
        lines.mark(Mark::DeleteAsked, "c");
        assert!(log.try_append(&lines).unwrap());
        let path = &log.paths().log;
        let changes = read(path);
        assert_eq!(value(path, &changes, "a").as_deref(), Some("2"));
        assert_eq!(
            value(path, &changes, "\"é\n").as_deref(),
            Some("{\"x\":[1]}")
        );
        assert_eq!(changes.ids["b"].fate, Fate::Deleted);
        assert_eq!(changes.ids["c"].fate, Fate::AsInFile);
        assert!(changes.ids["c"].delete_asked && !changes.dropped);
        assert_eq!((changes.ids.len(), changes.torn), (4, 0));
    }

    #[test]
    fn a_drop_ends_what_was_before_it() {
        let (_directory, log) = log();
        let mut lines = Lines::default();
        lines.set("a", b"1");
        lines.mark_all(Mark::Drop);
        lines.set("b", b"2");
        assert!(log.try_append(&lines).unwrap());
        let changes = read(&log.paths().log);
        assert!(changes.dropped);
        assert_eq!(changes.ids["a"].fate, Fate::Deleted);
        assert!(matches!(changes.ids["b"].fate, Fate::Set(_)));
    }

    #[test]
    fn a_line_that_was_cut_off_anywhere_takes_no_other_with_it() {
        let mut whole = Lines::default();
        whole.set("a", b"[1,{\"b\":[2]}]");
        let bytes = b"[\"set\",\"a\",[1,{\"b\":[2]}]]\n";
        for length in 1..bytes.len() {
            let (_directory, log) = log();
            std::fs::write(&log.paths().log, &bytes[..length]).unwrap();
            let mut lines = Lines::default();
            lines.set("b", b"2");
            assert!(log.try_append(&lines).unwrap());
            let changes = read(&log.paths().log);
            // Only the end of its line was missing in the last case: it is whole.
            let torn = u64::from(length < bytes.len() - 1);
            assert_eq!(
                (changes.torn, changes.ids.len()),
                (torn, 2 - usize::from(torn > 0))
            );
            assert!(changes.ids.contains_key("b"), "{length}");
        }
    }

    #[test]
    fn what_could_not_be_logged_is_logged_as_asked_with_the_next() {
        let (directory, log) = log();
        log.keep(Mark::SetAsked, &["a".to_owned(), "b".to_owned()]);
        assert_eq!(log.counts(), (0, 2));
        assert!(log.try_append_kept().unwrap());
        assert!(log.try_append_kept().unwrap());
        let changes = read(&log.paths().log);
        assert_eq!(changes.ids.len(), 2);
        assert_eq!(log.counts(), (2, 2));
        drop(directory);
    }

    #[test]
    fn a_log_is_put_away_once_and_the_next_line_begins_another() {
        let (_directory, log) = log();
        let paths = log.paths().clone();
        assert_eq!(try_put_away(&paths).unwrap(), Some(PutAway::Nothing));
        for (id, put_away) in [("a", PutAway::Now), ("b", PutAway::Before)] {
            let mut lines = Lines::default();
            lines.set(id, b"1");
            assert!(log.try_append(&lines).unwrap());
            assert_eq!(try_put_away(&paths).unwrap(), Some(put_away));
            assert_eq!(read(&paths.folding).ids.len(), 1);
        }
        assert!(read(&paths.log).ids.contains_key("b"));
    }

    #[test]
    fn of_two_processes_one_has_the_lock() {
        let (_directory, log) = log();
        let held = File::create(&log.paths().lock).unwrap();
        held.lock().unwrap();
        assert!(!log.try_append(&Lines::default()).unwrap());
        assert_eq!(try_put_away(log.paths()).unwrap(), None);
        held.unlock().unwrap();
        assert!(log.try_append(&Lines::default()).unwrap());
    }
}

//! What a log of changes says in the end: for each id it names, where its value is.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::change_log::{Lines, Mark};
use super::{failed, open_to_read};
use crate::error::Result;
use crate::json::cursor::Cursor;
use crate::json::{Layout, rewrite};
use crate::memory;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// Ids that are taken before memory is looked for again.
const IDS: usize = 4096;

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
    /// Whether ids of the file that are not named here may be gone, which only the server can say.
    pub(crate) dropped: bool,
    /// Lines that are no whole change: someone died while writing them, or another program wrote them.
    pub(crate) skipped: Skipped,
}

/// Lines of a log that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The numbers of the first ones, counted from 1.
    pub lines: Vec<u64>,
}

impl Skipped {
    /// How many numbers are kept.
    const NAMED: usize = 10;

    fn add(&mut self, line: u64) {
        self.count += 1;
        if self.lines.len() < Self::NAMED {
            self.lines.push(line);
        }
    }

    /// Adds those of another log.
    pub(crate) fn extend(&mut self, others: Self) {
        self.count += others.count;
        self.lines.extend(others.lines);
    }
}

/// Says how many, and which: "2 lines (3 and 7)".
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.count == 1 { "line" } else { "lines" };
        write!(f, "{} {unit} (", self.count)?;
        let whole = self.lines.len() as u64 == self.count;
        for (place, line) in self.lines.iter().enumerate() {
            let between = match place {
                0 => "",
                _ if whole && place + 1 == self.lines.len() => " and ",
                _ => ", ",
            };
            write!(f, "{between}{line}")?;
        }
        f.write_str(if whole { ")" } else { ", ...)" })
    }
}

/// Reads to the end of a line, if there is memory for it; how many bytes it took, 0 at the end of the log.
fn read_line(log: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut read = 0;
    loop {
        let ready = match log.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            ready => ready?.len(),
        };
        line.try_reserve(ready)?;
        let taken = log.by_ref().take(ready as u64).read_until(b'\n', line)?;
        read += taken;
        if taken == 0 || line.ends_with(b"\n") {
            return Ok(read);
        }
    }
}

impl Changes {
    /// Takes what a log says, over what earlier ones said. A log that is not there says nothing.
    pub(crate) fn read(&mut self, path: &Path, file: usize) -> Result<()> {
        let opened = match open_to_read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|error| failed("cannot open", path, &error))?,
        };
        let mut log = BufReader::with_capacity(CHUNK, opened);
        let (mut line, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
        for number in 1.. {
            line.clear();
            let read = read_line(&mut log, &mut line);
            let read = read.map_err(|error| failed("cannot read", path, &error))?;
            if read == 0 {
                return Ok(());
            }
            scratch.clear();
            match parse(&line, &mut scratch) {
                Some(Parsed::Drop) => self.drop_all(),
                Some(Parsed::Mark(mark, id)) => self.mark(mark, id)?,
                Some(Parsed::Set(id, start, length)) => {
                    let place = Place {
                        file,
                        at: at + start as u64,
                        length,
                    };
                    let change = self.change(id)?;
                    change.fate = Fate::Set(place);
                    (change.delete_asked, change.asked) = (false, false);
                }
                None if line == b"\n" => {} // it says nothing
                None => self.skipped.add(number),
            }
            at += read as u64;
        }
        Ok(())
    }

    /// Lines that say once more what only the server can tell, and has not told. Those that a drop asks after are named
    /// one by one: by now the file also holds what was set after it. So does the log that they go to, which has `since`
    /// begun: what is known there of an id is newer than the question.
    pub(crate) fn unanswered(&self, since: &Self) -> Lines {
        let mut lines = Lines::default();
        let is_newer =
            |id| matches!(since.ids.get(id), Some(newer) if newer.fate != Fate::AsInFile);
        let asked = self.ids.iter().filter(|(_, change)| change.asked);
        for (id, change) in asked.filter(|(id, _)| !is_newer(*id)) {
            let mark = if change.delete_asked {
                Mark::DeleteAsked
            } else {
                Mark::SetAsked
            };
            lines.mark(mark, id);
        }
        lines
    }

    fn drop_all(&mut self) {
        self.dropped = true;
        // What was deleted was named. The others stay as they are until the server is asked: another
        // process may have set one of them after the drop, and logged it, or folded it, before.
        for change in self.ids.values_mut() {
            (change.delete_asked, change.asked) = (true, true);
        }
    }

    fn mark(&mut self, mark: Mark, id: String) -> Result<()> {
        let change = self.change(id)?;
        match mark {
            Mark::Delete => (change.fate, change.asked) = (Fate::Deleted, false),
            // If it was not done, a delete before it holds.
            Mark::SetAsked => change.asked = true,
            Mark::DeleteAsked => (change.delete_asked, change.asked) = (true, true),
            Mark::Drop => self.drop_all(),
        }
        Ok(())
    }

    /// What is known of an id, which is named now; an error if there is no memory for more ids.
    pub(crate) fn change(&mut self, id: String) -> Result<&mut Change> {
        let order = self.ids.len();
        if order.is_multiple_of(IDS) {
            memory::look_for_batch()?;
        }
        memory::grown::<(String, Change)>(self.ids.try_reserve(1), order + 1)?;
        Ok(self.ids.entry(id).or_insert(Change {
            fate: Fate::AsInFile,
            delete_asked: self.dropped,
            asked: self.dropped,
            order,
        }))
    }
}

enum Parsed {
    Set(String, usize, usize),
    Mark(Mark, String),
    Drop,
}

/// A line; None if it is not a whole change. One that only lacks its end of line is whole: no array begins with another.
fn parse(line: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"]")?;
    let mut cursor = Cursor { json: line, at: 0 };
    cursor.enter(0, b']').ok()?;
    let name = text(&mut cursor)?;
    if name == Mark::Drop.name() {
        return (cursor.at == line.len()).then_some(Parsed::Drop);
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
    use super::*;
    use crate::files::Paths;
    use crate::files::change_log::{ChangeLog, Flight, PutAway, try_put_away};

    fn log() -> (tempfile::TempDir, ChangeLog) {
        let directory = tempfile::tempdir().unwrap();
        let log = ChangeLog::new(Paths::new(directory.path(), "docs").unwrap(), "nano:docs:");
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
        assert!(log.try_append(&lines, None).unwrap());
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
        assert_eq!((changes.ids.len(), changes.skipped.count), (4, 0));
    }

    #[test]
    fn a_drop_deletes_what_it_names_and_has_the_rest_asked_after() {
        let (_directory, log) = log();
        let mut lines = Lines::default();
        lines.set("a", b"1");
        lines.set("meanwhile", b"1");
        lines.mark(Mark::Delete, "a");
        lines.drop_all();
        lines.set("b", b"2");
        assert!(log.try_append(&lines, None).unwrap());
        let mut changes = read(&log.paths().log);
        assert!(changes.dropped);
        assert_eq!(changes.ids["a"].fate, Fate::Deleted);
        for (id, asked) in [("meanwhile", true), ("b", false)] {
            let change = changes.ids[id];
            assert!(matches!(change.fate, Fate::Set(_)));
            assert_eq!((change.asked, change.delete_asked), (asked, asked), "{id}");
        }
        let in_file = *changes.change("in the file".to_owned()).unwrap();
        assert_eq!(in_file.fate, Fate::AsInFile);
        assert!(in_file.delete_asked);
    }

    #[test]
    fn what_nobody_could_be_asked_is_asked_with_the_next_log() {
        let (_directory, log) = log();
        let mut lines = Lines::default();
        lines.set("a", b"1");
        lines.mark(Mark::Delete, "a");
        lines.drop_all();
        lines.mark(Mark::SetAsked, "b");
        lines.set("since", b"2");
        assert!(log.try_append(&lines, None).unwrap());
        let mut changes = read(&log.paths().log);
        changes.change("in the file".to_owned()).unwrap();
        assert!(try_put_away(log.paths(), None).unwrap().is_some());
        assert!(
            log.try_append(&changes.unanswered(&Changes::default()), None)
                .unwrap()
        );
        let mut again = read(&log.paths().log);
        for id in ["a", "b", "in the file"] {
            assert!(again.ids[id].delete_asked, "{id}");
        }
        assert!(!again.change("since".to_owned()).unwrap().delete_asked);
    }

    #[test]
    fn what_was_set_while_a_drop_ended_is_asked_after() {
        let (_directory, log) = log();
        assert!(log.try_claim().unwrap());
        let ids = ["a".to_owned()];
        let flight = |drops| Some(Flight { drops, ids: &ids });
        let before = log.drops();
        let mut set = Lines::default();
        set.set("a", b"1");
        assert!(log.try_append(&set, flight(before)).unwrap());
        assert!(!read(&log.paths().log).ids["a"].asked);
        let mut drop = Lines::default();
        drop.drop_all();
        assert!(log.try_append(&drop, None).unwrap());
        for (drops, asked) in [(before, true), (None, true), (log.drops(), false)] {
            assert!(log.try_append(&set, flight(drops)).unwrap());
            let change = read(&log.paths().log).ids["a"];
            assert!(matches!(change.fate, Fate::Set(_)));
            assert_eq!(
                (change.asked, change.delete_asked),
                (asked, asked),
                "{drops:?}"
            );
        }
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
            assert!(log.try_append(&lines, None).unwrap());
            let changes = read(&log.paths().log);
            // Only the end of its line was missing in the last case: it is whole.
            let torn = u64::from(length < bytes.len() - 1);
            assert_eq!(
                (changes.skipped.count, changes.ids.len()),
                (torn, 2 - usize::from(torn > 0))
            );
            assert!(changes.ids.contains_key("b"), "{length}");
        }
    }

    #[test]
    fn what_is_no_change_is_counted_by_its_line_and_takes_no_other_with_it() {
        let (_directory, log) = log();
        let path = &log.paths().log;
        let garbage: [&[u8]; 6] = [
            b"",
            b"\0\0\0",
            b"\xff\xfe",
            b"{}",
            b"[\"set\",\"x\"]",
            b"[]",
        ];
        let mut bytes = b"[\"set\",\"0\",0]\n".to_vec();
        for (number, each) in garbage.iter().enumerate() {
            bytes.extend_from_slice(each);
            bytes.extend_from_slice(format!("\n[\"set\",\"{}\",0]\n", number + 1).as_bytes());
        }
        bytes.pop(); // the end of the last line, whose change is whole
        std::fs::write(path, &bytes).unwrap();
        let changes = read(path);
        assert_eq!(changes.ids.len(), 7);
        assert_eq!(changes.skipped.lines, [4, 6, 8, 10, 12]);
        let said = changes.skipped.to_string();
        assert_eq!(said, "5 lines (4, 6, 8, 10 and 12)");
        std::fs::write(path, b"x\n").unwrap();
        assert_eq!(read(path).skipped.to_string(), "1 line (1)");
        std::fs::write(path, b"x\n".repeat(12)).unwrap();
        let said = read(path).skipped.to_string();
        assert_eq!(said, "12 lines (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)");
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
        assert_eq!(try_put_away(&paths, None).unwrap(), Some(PutAway::Nothing));
        for (id, put_away) in [("a", PutAway::Now), ("b", PutAway::Before)] {
            let mut lines = Lines::default();
            lines.set(id, b"1");
            assert!(log.try_append(&lines, None).unwrap());
            assert_eq!(try_put_away(&paths, None).unwrap(), Some(put_away));
            assert_eq!(read(&paths.compacting).ids.len(), 1);
        }
        assert!(read(&paths.log).ids.contains_key("b"));
    }

    #[test]
    fn of_two_processes_one_has_the_lock() {
        let (_directory, log) = log();
        let held = std::fs::File::create(&log.paths().lock).unwrap();
        held.lock().unwrap();
        assert!(!log.try_append(&Lines::default(), None).unwrap());
        assert_eq!(try_put_away(log.paths(), None).unwrap(), None);
        held.unlock().unwrap();
        assert!(log.try_append(&Lines::default(), None).unwrap());
    }
}

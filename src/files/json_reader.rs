//! `JsonFile`: the entries of one file, one after another.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{failed, open_to_read};
use crate::error::{Error, Kind, Result};
use crate::json::cursor::{Cursor, Fault};
use crate::json::{Layout, escaped_prefix, rewrite, rewrite_first};
use crate::memory;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// How finely file systems tell two moments of writing apart, with room.
const CLOCK: Duration = Duration::from_millis(20);

/// An id, and where its value stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id; as it stands in the file, with its escapes, if no key can hold it.
    pub id: String,
    /// Whether a key can hold the id: one that has a lone surrogate is no UTF-8.
    pub storable: bool,
    /// The first byte of its value.
    pub at: u64,
    /// Bytes of its value as it stands in the file.
    pub length: usize,
}

/// What a file is known again by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    size: u64,
    modified: Option<SystemTime>,
    inode: Option<u64>,
}

/// A file of the host, read in a stream. An object in which an id occurs twice gives both, in order:
/// for Python the last one counts.
pub struct JsonFile {
    file: File,
    path: PathBuf,
    signature: Signature,
    /// What was read and is not used up: from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Where in the file the buffer begins.
    base: u64,
    place: Place,
    ended: bool,
}

/// What is to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Opening,
    FirstEntry,
    Separator,
    Nothing,
}

impl JsonFile {
    /// Opens a file. It stays the file that was opened, whatever is put in its place.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file = open_to_read(&path).map_err(|error| failed("cannot open", &path, &error))?;
        let metadata = file
            .metadata()
            .map_err(|error| failed("cannot look at", &path, &error))?;
        Ok(Self {
            file,
            path,
            signature: Signature::of(&metadata),
            buffer: Vec::new(),
            start: 0,
            base: 0,
            place: Place::Opening,
            ended: false,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.signature.size
    }

    /// Bytes that were used up.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What it is known again by.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether it is as it was when it was opened. False for a while after it was written, too:
    /// within one tick of the file system's clock a change leaves no trace.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let Ok(metadata) = self.file.metadata() else {
            return false;
        };
        let at_rest = self.signature.modified.is_none_or(|modified| {
            SystemTime::now()
                .duration_since(modified)
                .is_ok_and(|since| since > CLOCK)
        });
        at_rest && Signature::of(&metadata) == self.signature
    }

    /// The next entry; its value is appended to `out` in this layout. None at the end.
    ///
    /// An error names the file and the byte. Whether the file is damaged, or only being written at
    /// this moment, is for [`is_unchanged`](Self::is_unchanged) to tell.
    pub(crate) fn next(&mut self, layout: Layout, out: &mut Vec<u8>) -> Result<Option<Entry>> {
        if !self.at_entry()? {
            return Ok(None);
        }
        let (id, storable) = match self.id()? {
            Ok(id) => (id, true),
            Err(escaped) => (escaped, false),
        };
        match self.token()? {
            Some(b':') => self.start += 1,
            _ => return Err(self.wrong("no ':' after an id")),
        }
        self.token()?;
        let at = self.position();
        // Most values are in the buffer to their end, and are whole.
        let first = rewrite_first(&self.buffer[self.start..], layout, out);
        let length = match first {
            Some(length) => length,
            None => self.rewrite_value(layout, out, &id)?,
        };
        self.start += length;
        self.place = Place::Separator;
        Ok(Some(Entry {
            id,
            storable,
            at,
            length,
        }))
    }

    /// Has the whole value that begins here in the buffer, and appends it in this layout; its length in the file.
    fn rewrite_value(&mut self, layout: Layout, out: &mut Vec<u8>, id: &str) -> Result<usize> {
        let length = self.value()?;
        let value = &self.buffer[self.start..self.start + length];
        if let Err(fault) = rewrite(value, layout, out) {
            self.start += fault.at();
            let what = format!("{} in the value of {id:?}", fault.what());
            return Err(self.wrong(&what));
        }
        Ok(length)
    }

    /// Reads up to the next id. False at the end of the file.
    fn at_entry(&mut self) -> Result<bool> {
        let token = self.token()?;
        match (self.place, token) {
            (Place::Opening, Some(b'{')) => {
                self.start += 1;
                self.place = Place::FirstEntry;
                self.at_entry()
            }
            (Place::Opening, None) if self.size() == 0 => Err(self.wrong("it is empty")),
            (Place::Opening, Some(0xEF)) => {
                Err(self.wrong("a byte order mark, which Python does not read: write it without"))
            }
            (Place::Opening, Some(_)) => {
                if self.is_false()? {
                    self.start = self.buffer.len();
                    self.place = Place::Nothing;
                    return Ok(false);
                }
                Err(self.wrong("no object: the host keeps one in it"))
            }
            (Place::FirstEntry | Place::Separator, Some(b'}')) => {
                self.start += 1;
                self.place = Place::Nothing;
                self.at_entry()
            }
            (Place::FirstEntry, Some(b'"')) => Ok(true),
            (Place::Separator, Some(b',')) => {
                self.start += 1;
                match self.token()? {
                    Some(b'"') => Ok(true),
                    _ => Err(self.wrong("no id after a ','")),
                }
            }
            (Place::Nothing, None) => Ok(false),
            (Place::Nothing, Some(_)) => Err(self.wrong("more text after the object")),
            (_, None) => Err(self.wrong("it ends early")),
            (_, Some(_)) => Err(self.wrong("no ',' or '}' after a value")),
        }
    }

    /// Whether the rest of the file is a value that is false to Python, `null` or `[]` say: the host
    /// takes it for no ids. It is no longer than what is read at a time.
    fn is_false(&mut self) -> Result<bool> {
        while self.buffer.len() - self.start < CHUNK && self.fill()? {}
        let mut value = Vec::new();
        if !self.ended || rewrite(&self.buffer[self.start..], Layout::Compact, &mut value).is_err()
        {
            return Ok(false);
        }
        let zero = || {
            let number = std::str::from_utf8(&value).ok()?.parse::<f64>().ok()?;
            Some(number == 0.0)
        };
        Ok(matches!(&value[..], b"null" | b"[]" | b"false" | b"\"\"") || zero() == Some(true))
    }

    /// Reads an id, whose opening quote is next; with its escapes, if it holds a lone surrogate.
    fn id(&mut self) -> Result<std::result::Result<String, String>> {
        let length = self.value()?;
        let json = &self.buffer[self.start..self.start + length];
        let id = match (Cursor { json, at: 0 }).text() {
            Ok(id) => id,
            Err(fault) => return Err(self.fault(&fault)),
        };
        self.start += length;
        Ok(id)
    }

    /// Has the whole of the value that begins here in the buffer; its length.
    fn value(&mut self) -> Result<usize> {
        let mut scan = Scan::default();
        loop {
            if let Some(length) = scan.end(&self.buffer[self.start..]) {
                return Ok(length);
            }
            if !self.fill()? {
                self.start = self.buffer.len();
                return Err(self.wrong("it ends early"));
            }
        }
    }

    /// The next byte that is not white space, which stays to be read; None at the end.
    fn token(&mut self) -> Result<Option<u8>> {
        loop {
            while let Some(&byte) = self.buffer.get(self.start) {
                if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                    return Ok(Some(byte));
                }
                self.start += 1;
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on. False at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        // What was used up makes room; of a value that is longer than the buffer this moves nothing.
        self.buffer.drain(..self.start);
        self.base += self.start as u64;
        self.start = 0;
        let before = self.buffer.len();
        memory::look_for(8 * CHUNK)?; // the ids in it, and what is noted of each
        memory::reserve(&mut self.buffer, CHUNK)?;
        self.buffer.resize(before + CHUNK, 0);
        let read = loop {
            match self.file.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map_err(|error| failed("cannot read", &self.path, &error));
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(!self.ended)
    }

    fn fault(&mut self, fault: &Fault) -> Error {
        self.start += fault.at();
        self.wrong(fault.what())
    }

    fn wrong(&self, what: &str) -> Error {
        let (path, at) = (self.path.display(), self.position());
        let message = if self.is_unchanged() {
            format!("{path}, byte {at}: {what}; the host cannot read the file either")
        } else {
            format!("{path}, byte {at}: {what}; the file is being written, try again")
        };
        Error::new(Kind::File, message)
    }
}

impl Signature {
    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = Some(std::os::unix::fs::MetadataExt::ino(metadata));
        #[cfg(not(unix))]
        let inode = None;
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }
}

/// How far into a value the text seen so far goes. It trusts the text: what is wrong inside a value is found by who reads
/// the value.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    in_word: bool,
    escaped: bool,
    /// Bytes of the value that were looked at.
    seen: usize,
}

impl Scan {
    /// Looks at what came since the last call. `value` is the text from the value's first byte on;
    /// the length of the value once it is known.
    fn end(&mut self, value: &[u8]) -> Option<usize> {
        while let Some(&byte) = value.get(self.seen) {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    self.seen += 1;
                    continue;
                }
                self.seen += escaped_prefix(&value[self.seen..], |_| true);
                let special = *value.get(self.seen)?;
                self.seen += 1;
                self.escaped = special == b'\\';
                self.in_string = special != b'"';
                if !self.in_string && self.depth == 0 {
                    return Some(self.seen);
                }
                continue;
            }
            match byte {
                b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' if self.in_word => {
                    self.in_word = false;
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                    continue;
                }
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.seen + 1);
                    }
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => self.in_word = true,
            }
            self.seen += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &[u8]) -> Result<Vec<(String, String)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut reader = JsonFile::open(file.path().to_owned())?;
        let mut entries = Vec::new();
        loop {
            let mut value = Vec::new();
            let Some(entry) = reader.next(Layout::Compact, &mut value)? else {
                return Ok(entries);
            };
            let from = usize::try_from(entry.at).unwrap();
            let mut again = Vec::new();
            rewrite(
                &text[from..from + entry.length],
                Layout::Compact,
                &mut again,
            )
            .unwrap();
            assert_eq!(value, again);
            entries.push((entry.id, String::from_utf8(value).unwrap()));
        }
    }

    #[test]
    fn entries_come_in_order_whatever_the_layout() {
        let expected = [
            ("a".to_owned(), "{\"x\":[1,2]}".to_owned()),
            ("é\n".to_owned(), "null".to_owned()),
        ];
        for text in [
            "{\n  \"a\": {\n    \"x\": [\n      1,\n      2\n    ]\n  },\n  \"é\\n\": null\n}",
            r#"{"a":{"x":[1,2]},"\u00e9\n":null}"#,
            "\r\n{ \"a\" : {\"x\" : [1 , 2]} ,\t\"é\\n\":null } \n",
        ] {
            assert_eq!(entries(text.as_bytes()).unwrap(), expected);
        }
        for text in ["{}", "null", " [ ]\n", "false", "\"\"", "0", "-0.0", "0e5"] {
            assert_eq!(entries(text.as_bytes()).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn an_id_that_no_key_can_hold_comes_with_its_escapes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"a\ud800\n": 1, "b\n": 2}"#).unwrap();
        let mut reader = JsonFile::open(file.path().to_owned()).unwrap();
        let mut next = || {
            reader
                .next(Layout::Compact, &mut Vec::new())
                .unwrap()
                .unwrap()
        };
        let (first, second) = (next(), next());
        assert_eq!((first.id.as_str(), first.storable), ("a\\ud800\\n", false));
        assert_eq!((second.id.as_str(), second.storable), ("b\n", true));
    }

    #[test]
    fn values_longer_than_what_is_read_at_a_time_come_whole() {
        let long = "é\\\\".repeat(CHUNK / 4 + 1);
        let text = format!("{{\"a\": \"{long}\", \"b\": [\"{long}\"]}}");
        let found = entries(text.as_bytes()).unwrap();
        assert_eq!(found[1], ("b".to_owned(), format!("[\"{long}\"]")));
    }

    #[test]
    fn what_is_no_file_of_the_host_is_refused_with_its_place() {
        for (text, said) in [
            (&b""[..], "byte 0: it is empty"),
            (b"[1]", "byte 0: no object"),
            (b"\xef\xbb\xbf{}", "byte 0: a byte order mark"),
            (b"{\"a\": 1", "byte 7: it ends early"),
            (b"{\"a\": 1,}", "byte 8: no id"),
            (b"{\"a\" 1}", "byte 5: no ':'"),
            (b"{\"a\": 1} x", "byte 9: more text"),
            (b"{\"a\": [1,]}", "byte 9: no value in the value of \"a\""),
            (b"{\"a\": \"\xff\"}", "byte 7: bytes that are no UTF-8"),
            (b"[] 1", "byte 0: no object"),
            (b"nul", "byte 0: no object"),
            (b"1", "byte 0: no object"),
        ] {
            let error = entries(text).unwrap_err();
            assert_eq!(error.kind(), Kind::File);
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_file_that_was_written_after_it_was_opened_is_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        std::thread::sleep(2 * CLOCK);
        let reader = JsonFile::open(file.path().to_owned()).unwrap();
        assert!(reader.is_unchanged());
        std::fs::write(file.path(), "{ }").unwrap();
        assert!(!reader.is_unchanged());
    }

    #[test]
    fn a_value_ends_where_it_ends_however_it_arrives() {
        for (text, length) in [
            (r#"{"a": "}\"]", "b": [1, {}]}, "next""#, 27),
            (r#""\\", 1"#, 4),
            ("-12.5e3\n}", 7),
            ("null,", 4),
            ("[]}", 2),
        ] {
            let text = text.as_bytes();
            assert_eq!(Scan::default().end(text), Some(length));
            let mut scan = Scan::default();
            let ends: Vec<usize> = (0..=text.len())
                .filter_map(|to| scan.end(&text[..to]))
                .collect();
            assert_eq!(ends.first(), Some(&length));
        }
    }
}

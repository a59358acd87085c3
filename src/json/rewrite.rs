//! A JSON document written anew: what `json.dumps(json.loads(text), ensure_ascii=False)` gives,
//! without making anything of it in between.

use std::collections::HashMap;

use super::cursor::{Cursor, Number, Result, Text};
use super::{write_float, write_utf8};
use crate::memory;

/// Bytes that are kept free for what is short: brackets, a float, a word.
pub(crate) const SLACK: usize = 64;
/// Bytes that putting an object's members in order takes of each.
const OF_A_MEMBER: usize = 128;

/// Digits that an integer may have before Python refuses to read it.
const MAX_INT_DIGITS: usize = 4300;
/// Members of an object up to which each key is compared with each.
const FEW_MEMBERS: usize = 12;

/// How a document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As it is stored: no white space.
    Compact,
    /// As the host writes its files: indented by two spaces, from so many levels on.
    Indented(usize),
    /// Without white space, the keys of every object sorted: two documents that `json.loads` finds
    /// equal, types included, are the same bytes.
    Sorted,
}

/// Appends the document that a text begins with in this layout; its length in the text. It must end where it says so
/// itself: an array, an object or a string. None, and nothing appended, where it does not end in the text, or is none.
pub(crate) fn rewrite_first(json: &[u8], layout: Layout, out: &mut Vec<u8>) -> Option<usize> {
    if !matches!(json, [b'{' | b'[' | b'"', ..]) {
        return None;
    }
    let before = out.len();
    let mut writer = Writer::new(Cursor { json, at: 0 }, layout, out);
    let written = writer.value(0);
    let length = writer.cursor.at;
    if written.is_ok() && std::str::from_utf8(&json[..length]).is_ok() {
        return Some(length);
    }
    out.truncate(before);
    None
}

/// Appends a document in this layout, as Python would write what it reads of it.
pub(crate) fn rewrite(json: &[u8], layout: Layout, out: &mut Vec<u8>) -> Result<()> {
    let mut cursor = Cursor { json, at: 0 };
    if let Err(error) = std::str::from_utf8(json) {
        cursor.at = error.valid_up_to();
        return cursor.corrupt("bytes that are no UTF-8");
    }
    memory::claim(out, json.len() + SLACK);
    let mut writer = Writer::new(cursor, layout, out);
    writer.value(0)?;
    writer.cursor.end()
}

/// Where a member of an object stands in what was written.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

struct Writer<'json, 'out> {
    cursor: Cursor<'json>,
    layout: Layout,
    base: usize,
    out: &'out mut Vec<u8>,
    /// Reused from one escaped string to the next.
    unescaped: Vec<u8>,
    /// Those of the objects that are being written, of the innermost one last.
    members: Vec<Member>,
}

impl<'json, 'out> Writer<'json, 'out> {
    fn new(cursor: Cursor<'json>, layout: Layout, out: &'out mut Vec<u8>) -> Self {
        Self {
            cursor,
            layout,
            base: match layout {
                Layout::Indented(base) => base,
                Layout::Compact | Layout::Sorted => 0,
            },
            out,
            unescaped: Vec::new(),
            members: Vec::new(),
        }
    }
}

impl Writer<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<()> {
        memory::claim(self.out, SLACK);
        match self.cursor.next_token() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'N') => self.word("NaN"),
            Some(b'I') => self.word("Infinity"),
            _ => self.cursor.no_value(),
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        self.cursor.word(word.as_bytes())?;
        self.out.extend_from_slice(word.as_bytes());
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        match self.cursor.number()? {
            Number::NegativeInfinity => self.out.extend_from_slice(b"-Infinity"),
            Number::Float(text) => match text.parse() {
                Ok(number) => write_float(number, self.out),
                Err(_) => return self.cursor.corrupt("no number"),
            },
            Number::Int(_, digits) if digits > MAX_INT_DIGITS => {
                return self
                    .cursor
                    .corrupt("an integer of more digits than Python reads");
            }
            Number::Int(b"-0", _) => self.out.push(b'0'),
            Number::Int(text, _) => {
                memory::claim(self.out, text.len() + SLACK);
                self.out.extend_from_slice(text);
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        if let Some(text) = self.cursor.string_as_written() {
            self.quoted(text);
            return Ok(());
        }
        let Self {
            cursor, unescaped, ..
        } = self;
        unescaped.clear();
        match cursor.string(unescaped)? {
            Text::Plain(text) => self.quoted(text),
            Text::Unescaped if std::str::from_utf8(&self.unescaped).is_ok() => {
                write_utf8(&self.unescaped, self.out);
            }
            Text::Unescaped => return self.cursor.corrupt("bytes that are no UTF-8"),
            Text::LoneSurrogate(json) => write_with_surrogates(json, self.out),
        }
        Ok(())
    }

    /// Writes what is between quotes as it is.
    fn quoted(&mut self, text: &[u8]) {
        memory::claim(self.out, text.len() + SLACK);
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
    }

    fn array(&mut self, depth: usize) -> Result<()> {
        let (inner, mut ended) = self.cursor.enter(depth, b']')?;
        self.out.push(b'[');
        let mut separator = Separator::first(ended);
        while !ended {
            self.separate(separator, inner);
            separator = Separator::Comma;
            self.value(inner)?;
            ended = self.cursor.ends(b']')?;
        }
        self.close(separator, depth, b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<()> {
        let (inner, mut ended) = self.cursor.enter(depth, b'}')?;
        self.out.push(b'{');
        let start = self.out.len();
        let first = self.members.len();
        let mut separator = Separator::first(ended);
        while !ended {
            self.separate(separator, inner);
            separator = Separator::Comma;
            self.member(inner)?;
            ended = self.cursor.ends(b'}')?;
        }
        // What follows is in proportion to the members, of which each takes several bytes of text.
        if memory::look_for((self.members.len() - first) * OF_A_MEMBER).is_err() {
            memory::unwind();
        }
        let written = self.members.split_off(first);
        if let Some(order) = self.order(&written) {
            let mut before = Vec::new();
            memory::claim(&mut before, self.out.len() - start);
            before.extend_from_slice(&self.out[start..]);
            self.out.truncate(start);
            let mut separator = Separator::None;
            for member in order {
                separator = separator.next();
                self.separate(separator, inner);
                let bytes = &before[member.start - start..member.end - start];
                memory::claim(self.out, bytes.len() + SLACK);
                self.out.extend_from_slice(bytes);
            }
        }
        self.close(separator, depth, b'}');
        Ok(())
    }

    fn member(&mut self, inner: usize) -> Result<()> {
        let start = self.out.len();
        self.cursor.opening_quote_of_a_key()?;
        self.string()?;
        let key_end = self.out.len();
        self.cursor.colon()?;
        self.out.push(b':');
        if self.is_indented() {
            self.out.push(b' ');
        }
        self.value(inner)?;
        memory::claim(&mut self.members, 1);
        self.members.push(Member {
            start,
            key_end,
            end: self.out.len(),
        });
        Ok(())
    }

    /// The members as they belong, where that is not how they were written: a key that occurs twice
    /// has its first place and its last value; sorted, if that is asked for.
    fn order(&self, written: &[Member]) -> Option<Vec<Member>> {
        let key = |member: &Member| &self.out[member.start..member.key_end];
        if self.layout == Layout::Sorted {
            if written.is_sorted_by(|one, next| key(one) < key(next)) {
                return None;
            }
            let mut sorted = written.to_vec();
            sorted.sort_by(|one, other| key(one).cmp(key(other))); // stable: the last stays last
            let mut kept: Vec<Member> = Vec::with_capacity(sorted.len());
            for member in sorted {
                match kept.last_mut() {
                    Some(last) if key(last) == key(&member) => *last = member,
                    _ => kept.push(member),
                }
            }
            return Some(kept);
        }
        let few = written.len() <= FEW_MEMBERS;
        let distinct = few
            && written.iter().enumerate().all(|(index, member)| {
                written[..index]
                    .iter()
                    .all(|other| key(other) != key(member))
            });
        if distinct {
            return None;
        }
        let mut places = HashMap::with_capacity(written.len());
        let mut kept = Vec::with_capacity(written.len());
        for member in written {
            let place = *places.entry(key(member)).or_insert(kept.len());
            match kept.get_mut(place) {
                Some(kept) => *kept = *member,
                None => kept.push(*member),
            }
        }
        (kept.len() < written.len()).then_some(kept)
    }

    fn is_indented(&self) -> bool {
        matches!(self.layout, Layout::Indented(_))
    }

    fn separate(&mut self, separator: Separator, depth: usize) {
        if separator == Separator::Comma {
            self.out.push(b',');
        }
        self.line(depth);
    }

    fn close(&mut self, separator: Separator, depth: usize, bracket: u8) {
        if separator != Separator::None {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if self.is_indented() {
            let spaces = 2 * (self.base + depth);
            memory::claim(self.out, spaces + SLACK);
            self.out.push(b'\n');
            self.out.resize(self.out.len() + spaces, b' ');
        }
    }
}

/// What stands before an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// There is no item.
    None,
    /// It is the first.
    Opening,
    Comma,
}

impl Separator {
    fn first(ended: bool) -> Self {
        if ended { Self::None } else { Self::Opening }
    }

    fn next(self) -> Self {
        if self == Self::None {
            Self::Opening
        } else {
            Self::Comma
        }
    }
}

/// Appends a string that holds lone surrogates, which stay escapes: UTF-8 has no bytes for them.
/// `json` is its text with the quotes, known to be a JSON string.
fn write_with_surrogates(json: &[u8], out: &mut Vec<u8>) {
    memory::claim(out, 2 * json.len() + SLACK);
    out.push(b'"');
    let mut at = 1;
    while at + 1 < json.len() {
        let escape = &json[at..json.len() - 1];
        let Some((code, length)) = surrogate(escape) else {
            // Any other character, by itself, as `rewrite` would write it.
            let length = length_of_character(escape);
            let alone = [b"\"", &escape[..length], b"\""].concat();
            let mut written = Vec::with_capacity(8);
            if rewrite(&alone, Layout::Compact, &mut written).is_ok() {
                out.extend_from_slice(&written[1..written.len() - 1]);
            }
            at += length;
            continue;
        };
        out.extend_from_slice(format!("\\u{code:04x}").as_bytes());
        at += length;
    }
    out.push(b'"');
}

/// The lone surrogate that an escape at the start of the text stands for, and the escape's length.
fn surrogate(text: &[u8]) -> Option<(u32, usize)> {
    let code = code_of(text)?;
    let low = code_of(&text[6..]);
    match code {
        0xD800..0xDC00 if low.is_some_and(|low| (0xDC00..0xE000).contains(&low)) => None,
        0xD800..0xE000 => Some((code, 6)),
        _ => None,
    }
}

fn code_of(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Bytes of the first character of the text of a string, escapes and surrogate pairs included.
fn length_of_character(text: &[u8]) -> usize {
    let length = match text {
        [b'\\', b'u', ..] => match code_of(text) {
            Some(0xD800..0xDC00) => 12,
            _ => 6,
        },
        [b'\\', ..] => 2,
        _ => {
            1 + text[1..]
                .iter()
                .take_while(|byte| (0x80..0xC0).contains(*byte))
                .count()
        }
    };
    length.min(text.len())
}

#[cfg(test)]
mod tests;

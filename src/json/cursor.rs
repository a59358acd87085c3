//! A place in JSON text, and the grammar of what can stand there; it makes no Python objects.

use super::{copy_plain, escaped_prefix, plain_prefix};
use crate::error::{Error, Kind};
use crate::memory;
use crate::stack;

/// Bytes of a text that room is made for at a time.
const PIECE: usize = 4096;

/// Deeper than what this library writes: others may have written up to `json`'s own limit.
const MAX_READ_DEPTH: usize = 1000;

/// What is wrong with a text, and where: it is no JSON.
#[derive(Debug)]
pub(crate) struct Fault(Box<Details>);

#[derive(Debug)]
struct Details {
    what: String,
    at: usize,
    /// The text may well be JSON: the thread that reads it has too small a stack.
    is_of_the_thread: bool,
}

impl Fault {
    /// What is wrong.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    /// The byte at which it was noticed.
    pub(crate) fn at(&self) -> usize {
        self.0.at
    }
}

/// Of a stored value.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let message = if fault.0.is_of_the_thread {
            format!("the stored value cannot be read: {}", fault.what())
        } else {
            format!(
                "the stored value is not JSON: {} at byte {}; write it again",
                fault.what(),
                fault.at()
            )
        };
        Self::new(Kind::Corrupt, message)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

pub(crate) struct Cursor<'json> {
    pub(crate) json: &'json [u8],
    pub(crate) at: usize,
}

pub(crate) enum Number<'json> {
    Float(&'json str),
    /// The text of an integer, and how many of its bytes are digits.
    Int(&'json [u8], usize),
    NegativeInfinity,
}

/// Where the text of a string with escapes goes.
pub(crate) trait Unescaped {
    /// Adds the bytes up to the next special one; gives how many.
    fn add_plain(&mut self, bytes: &[u8]) -> usize;
    fn add(&mut self, bytes: &[u8]);
}

impl Unescaped for Vec<u8> {
    fn add_plain(&mut self, bytes: &[u8]) -> usize {
        let mut added = 0;
        for piece in bytes.chunks(PIECE) {
            memory::claim(self, piece.len());
            let plain = copy_plain(piece, self);
            added += plain;
            if plain < piece.len() {
                break;
            }
        }
        added
    }

    fn add(&mut self, bytes: &[u8]) {
        memory::claim(self, bytes.len());
        self.extend_from_slice(bytes);
    }
}

/// What escapes of two characters stand for, by the second one; 0 is none.
const SHORT_ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes[b'/' as usize] = b'/';
    escapes[b'b' as usize] = 0x08;
    escapes[b'f' as usize] = 0x0c;
    escapes[b'n' as usize] = b'\n';
    escapes[b'r' as usize] = b'\r';
    escapes[b't' as usize] = b'\t';
    escapes
};

/// What an escape of two characters stands for, by the second one.
#[cfg(any(strings_in_place, test))]
pub(super) fn short_escape(escape: u8) -> Option<u8> {
    match SHORT_ESCAPES[usize::from(escape)] {
        0 => None,
        short => Some(short),
    }
}

/// Whether Python writes an escape of two characters with this second one: of all [`SHORT_ESCAPES`] but the
/// slash, which it writes as it is.
fn is_written(escape: u8) -> bool {
    matches!(escape, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')
}

/// What a string was written as.
#[derive(Clone, Copy)]
pub(crate) enum Text<'json> {
    Plain(&'json [u8]),
    Unescaped,
    /// It holds a lone surrogate, which UTF-8 cannot hold but a Python string can. This is the
    /// text with its quotes.
    LoneSurrogate(&'json [u8]),
}

impl<'json> Cursor<'json> {
    pub(crate) fn corrupt<T>(&self, what: &str) -> Result<T> {
        self.fault(what.to_owned(), false)
    }

    fn fault<T>(&self, what: String, is_of_the_thread: bool) -> Result<T> {
        Err(Fault(Box::new(Details {
            what,
            at: self.at,
            is_of_the_thread,
        })))
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// The next byte that is not white space, which stays to be read.
    pub(crate) fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    /// Nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.next_token() {
            None => Ok(()),
            Some(_) => self.corrupt("more text after the value"),
        }
    }

    pub(crate) fn no_value<T>(&self) -> Result<T> {
        self.corrupt(if self.at < self.json.len() {
            "no value"
        } else {
            "it ends early"
        })
    }

    pub(crate) fn word(&mut self, word: &[u8]) -> Result<()> {
        if !self.json[self.at..].starts_with(word) {
            return self.corrupt("no value");
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads the opening bracket; the depth of what is in it. True if there is nothing in it.
    pub(crate) fn enter(&mut self, depth: usize, closing: u8) -> Result<(usize, bool)> {
        if depth == MAX_READ_DEPTH {
            return self.corrupt("it nests too deep");
        }
        if stack::is_low() {
            let what = format!(
                "it nests deeper than {depth} levels, which is all that this thread's stack has room \
                 for: use a thread with a larger one (threading.stack_size)"
            );
            return self.fault(what, true);
        }
        self.at += 1;
        let empty = self.next_token() == Some(closing);
        self.at += usize::from(empty);
        Ok((depth + 1, empty))
    }

    /// Reads the ',' or the closing bracket after an item; true for the latter.
    pub(crate) fn ends(&mut self, closing: u8) -> Result<bool> {
        match self.next_token() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == closing => {
                self.at += 1;
                return Ok(true);
            }
            _ => return self.corrupt("no ',' or closing bracket"),
        }
        Ok(false)
    }

    pub(crate) fn opening_quote_of_a_key(&mut self) -> Result<()> {
        match self.next_token() {
            Some(b'"') => Ok(()),
            _ => self.corrupt("no key"),
        }
    }

    pub(crate) fn colon(&mut self) -> Result<()> {
        if self.next_token() != Some(b':') {
            return self.corrupt("no ':' after a key");
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string from its opening quote on. What it says goes to `out`, unless it has no
    /// escapes.
    pub(crate) fn string(&mut self, out: &mut impl Unescaped) -> Result<Text<'json>> {
        let start = self.at + 1;
        let length = plain_prefix(&self.json[start..]);
        self.at = start + length;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Text::Plain(&self.json[start..start + length]));
        }
        out.add(&self.json[start..start + length]);
        Ok(if self.unescape(out)? {
            Text::Unescaped
        } else {
            Text::LoneSurrogate(&self.json[start - 1..self.at])
        })
    }

    /// Reads a string without escapes, from its opening quote on; what is between its quotes. Else nothing is read.
    #[cfg(feature = "python")]
    pub(crate) fn plain_string(&mut self) -> Option<&'json [u8]> {
        let start = self.at + 1;
        let text = &self.json[start..];
        let length = plain_prefix(text);
        if text.get(length) != Some(&b'"') {
            return None;
        }
        self.at = start + length + 1;
        Some(&text[..length])
    }

    /// Reads a string from its opening quote on, if Python would write what it says with the same escapes; what is
    /// between its quotes. Else nothing is read, and [`string`](Self::string) tells what it is.
    pub(crate) fn string_as_written(&mut self) -> Option<&'json [u8]> {
        let start = self.at + 1;
        let text = &self.json[start..];
        let length = escaped_prefix(text, is_written);
        if text.get(length) != Some(&b'"') {
            return None;
        }
        self.at = start + length + 1;
        Some(&text[..length])
    }

    /// Reads a string that is an id, from its opening quote on.
    pub(crate) fn id(&mut self) -> Result<String> {
        let start = self.at;
        self.text()?.or_else(|_| {
            self.at = start;
            self.corrupt("an id with a lone surrogate, which no key can hold")
        })
    }

    /// Reads a string from its opening quote on; what is between its quotes, if it holds a lone
    /// surrogate.
    pub(crate) fn text(&mut self) -> Result<std::result::Result<String, String>> {
        let start = self.at;
        let mut unescaped = Vec::new();
        let (text, whole) = match self.string(&mut unescaped)? {
            Text::Plain(text) => (text.to_vec(), true),
            Text::Unescaped => (unescaped, true),
            Text::LoneSurrogate(json) => (json[1..json.len() - 1].to_vec(), false),
        };
        match String::from_utf8(text) {
            Ok(text) if whole => Ok(Ok(text)),
            Ok(text) => Ok(Err(text)),
            Err(_) => {
                self.at = start;
                self.corrupt("an id that is no UTF-8")
            }
        }
    }

    /// Reads from an escape up to the closing quote. False if there was a lone surrogate.
    pub(super) fn unescape(&mut self, out: &mut impl Unescaped) -> Result<bool> {
        let mut whole = true;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(whole);
                }
                Some(b'\\') => self.at += 1,
                Some(_) => return self.corrupt("a control character in a string"),
                None => return self.corrupt("it ends early"),
            }
            let escape = self.peek().unwrap_or_default();
            self.at += 1;
            // Looked up: which one comes next nobody can foretell.
            let short = SHORT_ESCAPES[usize::from(escape)];
            if short != 0 {
                out.add(&[short]);
            } else if escape == b'u' {
                match self.unicode_escape()? {
                    Some(character) => out.add(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => whole = false,
                }
            } else {
                return self.corrupt("an unknown escape");
            }
            self.at += out.add_plain(&self.json[self.at..]);
        }
    }

    /// Reads what stands behind the `\u` of an escape, and the other half of a pair. Nothing if that is not there.
    pub(super) fn unicode_escape(&mut self) -> Result<Option<char>> {
        let mut code = self.hex4()?;
        if (0xD800..0xDC00).contains(&code) && self.json[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xDC00..0xE000).contains(&low) {
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            } else {
                self.at = before;
            }
        }
        Ok(char::from_u32(code))
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.corrupt("a \\u escape without four hexadecimal digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    pub(crate) fn number(&mut self) -> Result<Number<'json>> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        if negative && self.peek() == Some(b'I') {
            self.word(b"Infinity")?;
            return Ok(Number::NegativeInfinity);
        }
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.json[self.at - digits] == b'0') {
            return self.corrupt("no number");
        }
        let mut is_float = false;
        if self.peek() == Some(b'.') && self.json.get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            self.digits();
            is_float = true;
        }
        if let Some(b'e' | b'E') = self.peek() {
            let sign = usize::from(matches!(self.json.get(self.at + 1), Some(b'+' | b'-')));
            if self
                .json
                .get(self.at + 1 + sign)
                .is_some_and(u8::is_ascii_digit)
            {
                self.at += 1 + sign;
                self.digits();
                is_float = true;
            }
        }
        let text = &self.json[start..self.at];
        if !is_float {
            return Ok(Number::Int(text, digits));
        }
        // Digits, signs and points are UTF-8 always.
        std::str::from_utf8(text).map_or_else(
            |_| self.corrupt("no number"),
            |text| Ok(Number::Float(text)),
        )
    }

    fn digits(&mut self) -> usize {
        let rest = &self.json[self.at..];
        let count = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += count;
        count
    }
}

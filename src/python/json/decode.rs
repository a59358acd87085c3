//! JSON bytes -> Python value, with the meaning of `json.loads`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use super::{Failure, Result, keys};
use crate::error::{Error, Kind};
use crate::json_text::plain_prefix;

/// Deeper than what this library writes: others may have written up to `json`'s own limit.
const MAX_READ_DEPTH: usize = 1000;
/// Digits that fit an `i64` whatever they are.
const SMALL_INT_DIGITS: usize = 18;

/// The Python value of one JSON document.
pub(crate) fn decode<'py>(py: Python<'py>, json: &[u8]) -> Result<Bound<'py, PyAny>> {
    let mut parser = Parser {
        py,
        json,
        at: 0,
        unescaped: Vec::new(),
    };
    let value = parser.value(0)?;
    if parser.next_token().is_some() {
        return parser.corrupt("more text after the value");
    }
    Ok(value)
}

struct Parser<'py, 'json> {
    py: Python<'py>,
    json: &'json [u8],
    at: usize,
    /// Reused from one escaped string to the next.
    unescaped: Vec<u8>,
}

impl<'py> Parser<'py, '_> {
    fn corrupt<T>(&self, what: &str) -> Result<T> {
        let message = format!(
            "the stored value is not JSON: {what} at byte {}; write it again",
            self.at
        );
        Err(Error::new(Kind::Corrupt, message).into())
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// The next byte that is not white space, which stays to be read.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn value(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        match self.next_token() {
            Some(b'"') => Ok(self.string()?.into_any()),
            Some(b'{') => self.dict(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", PyBool::new(self.py, true).to_owned().into_any()),
            Some(b'f') => self.word(b"false", PyBool::new(self.py, false).to_owned().into_any()),
            Some(b'n') => self.word(b"null", self.py.None().into_bound(self.py)),
            Some(b'N') => self.float_word(b"NaN", f64::NAN),
            Some(b'I') => self.float_word(b"Infinity", f64::INFINITY),
            Some(_) => self.corrupt("no value"),
            None => self.corrupt("it ends early"),
        }
    }

    fn word(&mut self, word: &[u8], value: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        if !self.json[self.at..].starts_with(word) {
            return self.corrupt("no value");
        }
        self.at += word.len();
        Ok(value)
    }

    fn float_word(&mut self, word: &[u8], number: f64) -> Result<Bound<'py, PyAny>> {
        self.word(word, PyFloat::new(self.py, number).into_any())
    }

    fn list(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        let depth = self.enter(depth)?;
        let mut items = Vec::new();
        if self.next_token() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                items.push(self.value(depth)?);
                if self.ends(b']')? {
                    break;
                }
            }
        }
        self.made(PyList::new(self.py, items).map(Bound::into_any))
    }

    fn dict(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        let depth = self.enter(depth)?;
        let dict = PyDict::new(self.py);
        if self.next_token() == Some(b'}') {
            self.at += 1;
            return Ok(dict.into_any());
        }
        loop {
            if self.next_token() != Some(b'"') {
                return self.corrupt("no key");
            }
            let key = self.key()?;
            if self.next_token() != Some(b':') {
                return self.corrupt("no ':' after a key");
            }
            self.at += 1;
            let value = self.value(depth)?;
            self.made(dict.set_item(key, value))?;
            if self.ends(b'}')? {
                return Ok(dict.into_any());
            }
        }
    }

    fn enter(&mut self, depth: usize) -> Result<usize> {
        if depth == MAX_READ_DEPTH {
            return self.corrupt("it nests too deep");
        }
        self.at += 1;
        Ok(depth + 1)
    }

    /// Reads the ',' or the closing bracket after an item; true for the latter.
    fn ends(&mut self, closing: u8) -> Result<bool> {
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

    fn key(&mut self) -> Result<Bound<'py, PyString>> {
        let start = self.at + 1;
        let length = plain_prefix(&self.json[start..]);
        if self.json.get(start + length) != Some(&b'"') {
            return self.string();
        }
        self.at = start + length + 1;
        self.made(keys::key(self.py, &self.json[start..start + length]))
    }

    fn string(&mut self) -> Result<Bound<'py, PyString>> {
        let start = self.at + 1;
        let length = plain_prefix(&self.json[start..]);
        if self.json.get(start + length) == Some(&b'"') {
            self.at = start + length + 1;
            return self.made(PyString::from_bytes(
                self.py,
                &self.json[start..start + length],
            ));
        }
        let mut unescaped = std::mem::take(&mut self.unescaped);
        unescaped.clear();
        self.at = start;
        let whole = self.unescape(&mut unescaped)?;
        let text = if whole {
            self.made(PyString::from_bytes(self.py, &unescaped))
        } else {
            self.made(loads(self.py, &self.json[start - 1..self.at]))
        };
        self.unescaped = unescaped;
        text
    }

    /// Reads up to the closing quote. False for a string with a lone surrogate, which UTF-8
    /// cannot hold but a Python string can.
    fn unescape(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let mut whole = true;
        loop {
            let plain = plain_prefix(&self.json[self.at..]);
            out.extend_from_slice(&self.json[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(whole);
                }
                Some(b'\\') => self.at += 1,
                Some(_) => return self.corrupt("a control character in a string"),
                None => return self.corrupt("it ends early"),
            }
            let escape = self.peek();
            self.at += 1;
            match escape {
                Some(byte @ (b'"' | b'\\' | b'/')) => out.push(byte),
                Some(b'b') => out.push(0x08),
                Some(b'f') => out.push(0x0c),
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'u') => whole &= self.unicode_escape(out)?,
                _ => return self.corrupt("an unknown escape"),
            }
        }
    }

    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Result<bool> {
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
        let Some(character) = char::from_u32(code) else {
            return Ok(false);
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(true)
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

    fn number(&mut self) -> Result<Bound<'py, PyAny>> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        if negative && self.peek() == Some(b'I') {
            return self.float_word(b"Infinity", f64::NEG_INFINITY);
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
        if is_float {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok());
            return match number {
                Some(number) => Ok(PyFloat::new(self.py, number).into_any()),
                None => self.corrupt("no number"),
            };
        }
        if digits > SMALL_INT_DIGITS {
            return self.made(loads(self.py, text));
        }
        let magnitude = text[usize::from(negative)..]
            .iter()
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Ok(PyInt::new(self.py, if negative { -magnitude } else { magnitude }).into_any())
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

    /// Text that Python finds fault with, bytes that are no UTF-8 say, makes the value corrupt.
    fn made<T>(&self, result: PyResult<T>) -> Result<T> {
        result.or_else(|error| {
            if error.is_instance_of::<PyValueError>(self.py) {
                return self.corrupt(&error.to_string());
            }
            Err(Failure::Raised(error))
        })
    }
}

/// `json.loads`, for the rare things that only Python's own objects hold: integers of any size,
/// lone surrogates.
fn loads<'py, T>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, T>>
where
    T: pyo3::PyTypeCheck,
{
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.import(py, "json", "loads")?;
    Ok(loads
        .call1((PyString::from_bytes(py, json)?,))?
        .cast_into::<T>()?)
}

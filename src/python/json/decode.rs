//! JSON bytes -> Python value, with the meaning of `json.loads`.

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use super::failure::{Failure, Result};
use super::loads::loads;
use super::python_str::StringReader;
use crate::json::cursor::{Cursor, Number, Unescaped};
use crate::json::plain_prefix;
use crate::memory;
use crate::mutex::Mutex;

/// Digits that fit an `i64` whatever they are.
const SMALL_INT_DIGITS: usize = 18;

/// Keys longer than this are not worth a place.
const MAX_SHARED: usize = 64;
/// Places; a power of two. A new key takes the place of the one it collides with.
const PLACES: usize = 1024;

/// Where the text of a string goes that is read over.
struct Nowhere;

impl Unescaped for Nowhere {
    fn add_plain(&mut self, bytes: &[u8]) -> usize {
        plain_prefix(bytes)
    }

    fn add(&mut self, _bytes: &[u8]) {}
}

/// The Python value of one JSON document.
pub(crate) fn decode<'py>(py: Python<'py>, json: &[u8]) -> Result<Bound<'py, PyAny>> {
    memory::look_for(json.len())?; // about what the value takes
    let mut parser = Parser::new(py, json);
    let value = parser.value(0)?;
    parser.cursor.end()?;
    Ok(value)
}

pub(super) struct Parser<'py, 'json> {
    pub(super) py: Python<'py>,
    pub(super) cursor: Cursor<'json>,
    strings: StringReader,
    /// The items of the lists that are being read, those of the innermost one last.
    items: Vec<Bound<'py, PyAny>>,
}

impl<'py, 'json> Parser<'py, 'json> {
    pub(super) fn new(py: Python<'py>, json: &'json [u8]) -> Self {
        Self {
            py,
            cursor: Cursor { json, at: 0 },
            strings: StringReader::new(),
            items: Vec::new(),
        }
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        match self.cursor.next_token() {
            Some(b'"') => Ok(self.string()?.into_any()),
            Some(b'{') => self.dict(depth),
            Some(b'[') => self.list(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", PyBool::new(self.py, true).to_owned().into_any()),
            Some(b'f') => self.word(b"false", PyBool::new(self.py, false).to_owned().into_any()),
            Some(b'n') => self.word(b"null", self.py.None().into_bound(self.py)),
            Some(b'N') => self.word(b"NaN", self.float(f64::NAN)),
            Some(b'I') => self.word(b"Infinity", self.float(f64::INFINITY)),
            _ => Ok(self.cursor.no_value()?),
        }
    }

    fn skip_string(&mut self) -> Result<()> {
        if self.cursor.string_as_written().is_none() {
            self.cursor.string(&mut Nowhere)?;
        }
        Ok(())
    }

    /// Reads over a value and makes nothing of it. What [`value`](Self::value) refuses is refused.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        match self.cursor.next_token() {
            Some(b'"') => self.skip_string()?,
            Some(b'{') => {
                let (depth, mut ended) = self.cursor.enter(depth, b'}')?;
                while !ended {
                    self.cursor.opening_quote_of_a_key()?;
                    self.skip_string()?;
                    self.cursor.colon()?;
                    self.skip(depth)?;
                    ended = self.cursor.ends(b'}')?;
                }
            }
            Some(b'[') => {
                let (depth, mut ended) = self.cursor.enter(depth, b']')?;
                while !ended {
                    self.skip(depth)?;
                    ended = self.cursor.ends(b']')?;
                }
            }
            Some(b'-' | b'0'..=b'9') => {
                // How many digits are too many, Python alone knows.
                if let Number::Int(text, digits) = self.cursor.number()?
                    && digits > SMALL_INT_DIGITS
                {
                    self.made(loads::<PyInt>(self.py, text))?;
                }
            }
            Some(b't') => self.cursor.word(b"true")?,
            Some(b'f') => self.cursor.word(b"false")?,
            Some(b'n') => self.cursor.word(b"null")?,
            Some(b'N') => self.cursor.word(b"NaN")?,
            Some(b'I') => self.cursor.word(b"Infinity")?,
            _ => self.cursor.no_value()?,
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8], value: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        self.cursor.word(word)?;
        Ok(value)
    }

    fn float(&self, number: f64) -> Bound<'py, PyAny> {
        PyFloat::new(self.py, number).into_any()
    }

    fn list(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        let (depth, mut ended) = self.cursor.enter(depth, b']')?;
        let first = self.items.len();
        while !ended {
            let item = self.value(depth)?;
            memory::claim(&mut self.items, 1);
            self.items.push(item);
            ended = self.cursor.ends(b']')?;
        }
        let list = PyList::new(self.py, self.items.drain(first..));
        self.made(list.map(Bound::into_any))
    }

    fn dict(&mut self, depth: usize) -> Result<Bound<'py, PyAny>> {
        let (depth, mut ended) = self.cursor.enter(depth, b'}')?;
        let dict = PyDict::new(self.py);
        while !ended {
            let key = self.key()?;
            let value = self.value(depth)?;
            self.made(dict.set_item(key, value))?;
            ended = self.cursor.ends(b'}')?;
        }
        Ok(dict.into_any())
    }

    /// Reads a key and its colon.
    pub(super) fn key(&mut self) -> Result<Bound<'py, PyString>> {
        self.cursor.opening_quote_of_a_key()?;
        let key = match self.cursor.plain_string() {
            Some(bytes) => self.made(shared_key(self.py, bytes))?,
            None => self.string()?,
        };
        self.cursor.colon()?;
        Ok(key)
    }

    fn string(&mut self) -> Result<Bound<'py, PyString>> {
        let read = self.strings.read(self.py, &mut self.cursor)?;
        self.made(read)
    }

    fn number(&mut self) -> Result<Bound<'py, PyAny>> {
        match self.cursor.number()? {
            Number::NegativeInfinity => Ok(self.float(f64::NEG_INFINITY)),
            Number::Float(text) => match text.parse() {
                Ok(number) => Ok(self.float(number)),
                Err(_) => Ok(self.cursor.corrupt("no number")?),
            },
            Number::Int(text, digits) if digits > SMALL_INT_DIGITS => {
                self.made(loads(self.py, text).map(Bound::<PyInt>::into_any))
            }
            Number::Int(text, digits) => {
                let negative = text.len() > digits;
                let magnitude = text[usize::from(negative)..]
                    .iter()
                    .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
                let number = if negative { -magnitude } else { magnitude };
                Ok(PyInt::new(self.py, number).into_any())
            }
        }
    }

    /// Text that Python finds fault with, bytes that are no UTF-8 say, makes the value corrupt. For what there is no
    /// memory, the value is refused.
    fn made<T>(&self, result: PyResult<T>) -> Result<T> {
        result.or_else(|error| {
            if error.is_instance_of::<PyValueError>(self.py) {
                return Ok(self.cursor.corrupt(&error.to_string())?);
            }
            if error.is_instance_of::<PyMemoryError>(self.py) {
                return Err(memory::refused(self.cursor.json.len()).into());
            }
            Err(Failure::Raised(error))
        })
    }
}

type Place = Option<(Box<[u8]>, Py<PyString>)>;

static KEYS: PyOnceLock<Mutex<Box<[Place]>>> = PyOnceLock::new();

/// The Python string of a dict key, whose bytes hold no escape. Keys repeat from value to value: each is made once.
fn shared_key<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if bytes.len() > MAX_SHARED {
        return PyString::from_bytes(py, bytes);
    }
    let keys = KEYS.get_or_init(py, || Mutex::new((0..PLACES).map(|_| None).collect()));
    // No Python code runs while it is held, so the thread that holds it never waits for another.
    let mut places = keys.lock();
    let place = &mut places[hash(bytes) & (PLACES - 1)];
    if let Some((known, text)) = place
        && **known == *bytes
    {
        return Ok(text.bind(py).clone());
    }
    let text = PyString::from_bytes(py, bytes)?;
    *place = Some((bytes.into(), text.clone().unbind()));
    Ok(text)
}

/// FNV-1a, taken eight bytes at a time: keys are short, and a collision only costs a new string.
fn hash(bytes: &[u8]) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}

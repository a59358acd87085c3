//! Python strings, read and made: where the core is built for one version of CPython, in their own
//! memory; elsewhere, as over the stable ABI, which does not show it, by way of Python's UTF-8.
//! `build.rs` knows which.

use pyo3::PyErr;

/// Why a string could not be written.
pub(super) enum Unwritten {
    /// It holds half a pair.
    LoneSurrogate,
    /// Python raised this.
    Raised(PyErr),
}

#[cfg(strings_in_place)]
pub(super) use in_place::{StringReader, write};
#[cfg(not(strings_in_place))]
pub(super) use through_utf8::{StringReader, write};

/// The only `unsafe` of the core: the memory of a string, which is Python's.
#[cfg(strings_in_place)]
#[allow(unsafe_code)]
mod in_place {
    use std::mem::MaybeUninit;
    use std::slice;

    use pyo3::exceptions::PyValueError;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyString;
    use pyo3::types::string::PyStringData;

    use super::super::loads::loads;
    use super::Unwritten;
    use crate::json::cursor::{Cursor, Fault};
    use crate::json::{LoneSurrogate, Measure, Unit, Width, write_code_points, write_string};

    /// Bytes: Python has shorter strings ready.
    const READY: usize = 2;

    impl From<LoneSurrogate> for Unwritten {
        fn from(_: LoneSurrogate) -> Self {
            Self::LoneSurrogate
        }
    }

    /// Appends the JSON of a string to `out`.
    pub(in crate::python::json) fn write(
        text: &Bound<'_, PyString>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritten> {
        // SAFETY: `text` holds a reference and is attached to Python, so the string outlives the
        // slice, which borrows `text`. A string does not change, nor is it resized in place, while
        // anybody but its maker has a reference; what 3.10 and 3.11 may still have to bring into its
        // final form, `data` brings into it first. The slice is only read, and no Python code runs
        // before it is gone: `write_string` knows no Python. The width is told by a bit field, whose
        // place C leaves to the compiler: pyo3 reads it as compilers for little-endian machines lay
        // it out, and the tests read strings of each width with a build for each version.
        let data = unsafe { text.data() }.map_err(Unwritten::Raised)?;
        match data {
            PyStringData::Ucs1(units) => write_string::<u8>(units, out)?,
            PyStringData::Ucs2(units) => write_string::<u16>(units, out)?,
            PyStringData::Ucs4(units) => write_string::<u32>(units, out)?,
        }
        Ok(())
    }

    /// Reads JSON strings straight into those of Python.
    pub(in crate::python::json) struct StringReader;

    impl StringReader {
        pub(in crate::python::json) fn new() -> Self {
            Self
        }

        /// Reads a string from its opening quote on. What Python raises is one of `PyResult`.
        #[expect(
            clippy::unused_self,
            reason = "the reader below keeps its room from string to string"
        )]
        pub(in crate::python::json) fn read<'py>(
            &mut self,
            py: Python<'py>,
            cursor: &mut Cursor<'_>,
        ) -> Result<PyResult<Bound<'py, PyString>>, Fault> {
            let start = cursor.at;
            let mut measure = Measure::default();
            let whole = measure.add_string(cursor)?;
            let (text, after) = (&cursor.json[start + 1..], cursor.at);
            let length = after - start - 2;
            Ok(match (measure.width(), measure.count) {
                _ if !whole => loads(py, &cursor.json[start..after]),
                _ if length < READY => PyString::from_bytes(py, &text[..length]),
                (Width::Ascii, count) => filled::<u8>(py, text, length, count, 0x7f),
                (Width::Latin1, count) => filled::<u8>(py, text, length, count, 0xff),
                (Width::Bmp, count) => filled::<u16>(py, text, length, count, 0xffff),
                (Width::Any, count) => filled::<u32>(py, text, length, count, 0x10_ffff),
            })
        }
    }

    /// The string of the JSON text of so many bytes and characters, of which none is above the highest. Python keeps
    /// them in bytes up to 0xff, in pairs up to 0xffff, else in fours: units of that size have to be asked for.
    fn filled<'py, U: Unit>(
        py: Python<'py>,
        json: &[u8],
        length: usize,
        count: usize,
        highest: u32,
    ) -> PyResult<Bound<'py, PyString>> {
        let size = isize::try_from(count)?;
        // SAFETY: Python is attached. `PyUnicode_New` gives a string or an error that is raised, and nobody
        // else has a reference to the string before this returns it, so nobody else reads or writes its
        // characters. There is room for `count` of them, of the size and alignment that go with `highest`,
        // which is held against that of a unit. What is in it yet may be anything, as in `MaybeUninit`;
        // `write_code_points` knows no Python and writes all of it. A string without characters is one
        // that others have, too: there is nothing to write.
        let (made, read) = unsafe {
            let made = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(size, highest))?;
            assert_eq!(ffi::PyUnicode_KIND(made.as_ptr()) as usize, size_of::<U>());
            let room = ffi::PyUnicode_DATA(made.as_ptr()).cast::<MaybeUninit<U>>();
            let read = write_code_points(json, slice::from_raw_parts_mut(room, count));
            (made.cast_into_unchecked(), read)
        };
        if read == Some(length) {
            return Ok(made);
        }
        PyString::from_bytes(py, &json[..length])?; // raises what is wrong
        Err(PyValueError::new_err("a string that is no UTF-8"))
    }
}

#[cfg(not(strings_in_place))]
mod through_utf8 {
    use pyo3::exceptions::PyUnicodeEncodeError;
    use pyo3::intern;
    use pyo3::prelude::*;
    use pyo3::types::{PyString, PyType};

    use super::super::loads::loads;
    use super::super::scratch_buffer;
    use super::Unwritten;
    use crate::json::cursor::{Cursor, Fault, Text};
    use crate::json::write_utf8;

    /// Strings up to this many characters keep a cached UTF-8 form in the Python object; a longer
    /// one would double its memory for as long as the caller holds it.
    const CACHED_UTF8_CHARS: usize = 64;

    /// Appends the JSON of a string to `out`.
    pub(in crate::python::json) fn write(
        text: &Bound<'_, PyString>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritten> {
        let because = |error: PyErr| {
            if error.is_instance_of::<PyUnicodeEncodeError>(text.py()) {
                Unwritten::LoneSurrogate
            } else {
                Unwritten::Raised(error)
            }
        };
        if text.code_point_len().unwrap_or(0) <= CACHED_UTF8_CHARS || is_ascii(text) {
            write_utf8(text.to_str().map_err(because)?.as_bytes(), out);
        } else {
            write_utf8(text.encode_utf8().map_err(because)?.as_bytes(), out);
        }
        Ok(())
    }

    /// Reads JSON strings by way of their UTF-8.
    pub(in crate::python::json) struct StringReader {
        /// Reused from one escaped string to the next, and from one value to the next.
        unescaped: Vec<u8>,
    }

    impl StringReader {
        pub(in crate::python::json) fn new() -> Self {
            Self {
                unescaped: scratch_buffer::take(),
            }
        }

        /// Reads a string from its opening quote on. What Python raises is one of `PyResult`.
        pub(in crate::python::json) fn read<'py>(
            &mut self,
            py: Python<'py>,
            cursor: &mut Cursor<'_>,
        ) -> Result<PyResult<Bound<'py, PyString>>, Fault> {
            self.unescaped.clear();
            Ok(match cursor.string(&mut self.unescaped)? {
                Text::Plain(bytes) => PyString::from_bytes(py, bytes),
                Text::Unescaped => PyString::from_bytes(py, &self.unescaped),
                Text::LoneSurrogate(json) => loads(py, json),
            })
        }
    }

    impl Drop for StringReader {
        fn drop(&mut self) {
            scratch_buffer::leave(std::mem::take(&mut self.unescaped));
        }
    }

    /// `str.isascii`: the object knows it without looking at its characters.
    fn is_ascii(text: &Bound<'_, PyString>) -> bool {
        let py = text.py();
        let asked = if text.is_exact_instance_of::<PyString>() {
            text.call_method0(intern!(py, "isascii"))
        } else {
            // A subclass may have put its own in its place.
            PyType::new::<PyString>(py).call_method1(intern!(py, "isascii"), (text,))
        };
        asked.is_ok_and(|answer| answer.is_truthy().unwrap_or(false))
    }
}

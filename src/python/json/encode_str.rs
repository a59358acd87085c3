//! A Python string -> a JSON string: where the core is built for one version of CPython, from the
//! string's own characters; elsewhere, as over the stable ABI, which does not show them, from its
//! UTF-8. `build.rs` knows which.

use pyo3::PyErr;

/// Why a string could not be written.
pub(super) enum Unwritten {
    /// It holds half a pair.
    LoneSurrogate,
    /// Python raised this.
    Raised(PyErr),
}

#[cfg(not(strings_in_place))]
pub(super) use encoded::write;
#[cfg(strings_in_place)]
pub(super) use in_place::write;

#[cfg(strings_in_place)]
mod in_place {
    use pyo3::prelude::*;
    use pyo3::types::PyString;
    use pyo3::types::string::PyStringData;

    use super::Unwritten;
    use crate::json::{LoneSurrogate, write_string};

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
        #[allow(unsafe_code)]
        let data = unsafe { text.data() }.map_err(Unwritten::Raised)?;
        match data {
            PyStringData::Ucs1(units) => write_string::<u8>(units, out)?,
            PyStringData::Ucs2(units) => write_string::<u16>(units, out)?,
            PyStringData::Ucs4(units) => write_string::<u32>(units, out)?,
        }
        Ok(())
    }
}

#[cfg(not(strings_in_place))]
mod encoded {
    use pyo3::exceptions::PyUnicodeEncodeError;
    use pyo3::intern;
    use pyo3::prelude::*;
    use pyo3::types::{PyString, PyType};

    use super::Unwritten;
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

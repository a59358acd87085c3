//! Ids as Python hands them over: any `str` that UTF-8 can hold.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyString};

use crate::error::{Error, Kind, Result};
use crate::memory;

/// Ids, or items, that are read when a call begins, and in each later turn of the loop: about a
/// millisecond. A count and no time: how much of the caller's container is copied at once has to
/// be the same on every machine.
pub(super) const AT_ONCE: usize = 8192;

/// One id, or why it cannot be one. What is no `str` at all is a `TypeError` before that.
pub(super) struct Id(pub(super) Result<String>);

impl<'py> FromPyObject<'_, 'py> for Id {
    type Error = PyErr;

    fn extract(id: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text = str_of(&id)?;
        Ok(Self(utf8_of(text)?.map(str::to_owned)))
    }
}

/// Any iterable of ids but a lone `str`, which would be taken for its characters. They stay the
/// objects they are. The first [`AT_ONCE`] are read at once, the others by [`Self::read`].
pub(super) struct Ids {
    given: Vec<Py<PyString>>,
    /// Why one of them cannot be an id.
    refused: Option<Error>,
    rest: Option<Py<PyIterator>>,
    /// How many there have to be in the end: how long a list was at first.
    expected: Option<usize>,
}

impl<'py> FromPyObject<'_, 'py> for Ids {
    type Error = PyErr;

    fn extract(ids: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if ids.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "ids must be an iterable of str, not one str",
            ));
        }
        let mut read = Self {
            given: Vec::new(),
            refused: None,
            rest: Some(ids.try_iter()?.unbind()),
            expected: ids.cast::<PyList>().ok().map(|list| list.len()),
        };
        read.read(ids.py())?;
        Ok(read)
    }
}

impl Ids {
    /// Reads on. True once that was all.
    pub(super) fn read(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(rest) = &self.rest else {
            return Ok(true);
        };
        let mut rest = rest.bind(py).clone();
        for _ in 0..AT_ONCE {
            let Some(id) = rest.next() else {
                self.rest = None;
                return self.complete().map(|()| true);
            };
            let id = id?;
            let text = str_of(&id)?;
            if let Err(error) = utf8_of(text)? {
                self.refused.get_or_insert(error);
            }
            memory::reserve(&mut self.given, 1)?;
            self.given.push(text.clone().unbind());
        }
        Ok(false)
    }

    /// A dict and a set say by themselves that they were changed; a list does not.
    fn complete(&self) -> PyResult<()> {
        match self.expected {
            Some(expected) if expected != self.given.len() => Err(PyRuntimeError::new_err(
                "the list of ids changed size while it was read: leave it alone until the call is done",
            )),
            _ => Ok(()),
        }
    }

    /// How many were read.
    pub(super) fn len(&self) -> usize {
        self.given.len()
    }

    /// All that was read, and why one of them cannot be an id.
    pub(super) fn take(&mut self) -> (Vec<Py<PyString>>, Option<Error>) {
        (std::mem::take(&mut self.given), self.refused.take())
    }
}

/// Ids that were seen to be good, as texts of the core's own.
pub(super) fn owned(py: Python<'_>, ids: &[Py<PyString>]) -> PyResult<Vec<String>> {
    let texts = ids.iter().map(|id| id.to_str(py).map(str::to_owned));
    texts.collect()
}

/// Lets go of some of many ids, which frees those that nobody else holds. True once none is left.
pub(super) fn shed(ids: &mut Vec<Py<PyString>>) -> bool {
    ids.truncate(ids.len().saturating_sub(AT_ONCE));
    ids.is_empty()
}

/// One id, still the object it is, or why it cannot be one.
pub(super) fn checked<'a, 'py>(
    id: &'a Bound<'py, PyAny>,
) -> PyResult<Result<&'a Bound<'py, PyString>>> {
    let text = str_of(id)?;
    Ok(utf8_of(text)?.map(|_| text))
}

fn str_of<'a, 'py>(id: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    if let Ok(text) = id.cast::<PyString>() {
        return Ok(text);
    }
    let found = id.get_type().name()?.to_string();
    Err(PyTypeError::new_err(format!(
        "an id must be str, not {found}"
    )))
}

fn utf8_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Result<&'a str>> {
    if let Ok(text) = text.to_str() {
        return Ok(Ok(text));
    }
    let message = format!(
        "the id {} holds a lone surrogate, which UTF-8 cannot hold",
        text.repr()?
    );
    Ok(Err(Error::new(Kind::Serialization, message)))
}

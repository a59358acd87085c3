//! Ids as Python hands them over: any `str` that UTF-8 can hold.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::{Error, Kind, Result};

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
/// objects they are.
pub(super) enum Ids {
    Good(Vec<Py<PyString>>),
    /// Why one of them cannot be an id, and all of them.
    Refused(Error, Vec<Py<PyString>>),
}

impl<'py> FromPyObject<'_, 'py> for Ids {
    type Error = PyErr;

    fn extract(ids: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if ids.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "ids must be an iterable of str, not one str",
            ));
        }
        let (mut given, mut refused) = (Vec::new(), None);
        for id in ids.try_iter()? {
            let id = id?;
            let text = str_of(&id)?;
            if let Err(error) = utf8_of(text)? {
                refused.get_or_insert(error);
            }
            given.push(text.clone().unbind());
        }
        Ok(match refused {
            None => Self::Good(given),
            Some(error) => Self::Refused(error, given),
        })
    }
}

/// Ids that were seen to be good, as texts of the core's own.
pub(super) fn owned(py: Python<'_>, ids: &[Py<PyString>]) -> PyResult<Vec<String>> {
    let texts = ids.iter().map(|id| id.to_str(py).map(str::to_owned));
    texts.collect()
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

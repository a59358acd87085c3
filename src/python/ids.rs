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
        let Ok(text) = id.cast::<PyString>() else {
            let found = id.get_type().name()?.to_string();
            return Err(PyTypeError::new_err(format!(
                "an id must be str, not {found}"
            )));
        };
        if let Ok(text) = text.to_str() {
            return Ok(Self(Ok(text.to_owned())));
        }
        let message = format!(
            "the id {} holds a lone surrogate, which UTF-8 cannot hold",
            text.repr()?
        );
        Ok(Self(Err(Error::new(Kind::Serialization, message))))
    }
}

/// Any iterable of ids but a lone `str`, which would be taken for its characters.
pub(super) enum Ids {
    Good(Vec<String>),
    /// Why one of them cannot be an id, and all of them as they were given.
    Refused(Error, Vec<Py<PyAny>>),
}

impl<'py> FromPyObject<'_, 'py> for Ids {
    type Error = PyErr;

    fn extract(ids: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if ids.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "ids must be an iterable of str, not one str",
            ));
        }
        let given = ids.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let read = given
            .iter()
            .map(|id| Ok(id.extract::<Id>()?.0))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(match read.into_iter().collect::<Result<Vec<_>>>() {
            Ok(ids) => Self::Good(ids),
            Err(error) => Self::Refused(error, given.into_iter().map(Bound::unbind).collect()),
        })
    }
}

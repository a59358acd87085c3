//! Why a value could not be read or written.

use pyo3::prelude::*;

use crate::error::Error;
use crate::json::cursor::Fault;

/// Why a value could not be read or written.
pub(in crate::python) enum Failure {
    /// The value or its bytes are to blame.
    Refused(Error),
    /// Python raised something that has to do with neither: an interrupt, no memory.
    Raised(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault.into())
    }
}

impl Failure {
    /// Names what an error is about; what Python raised is passed on as it is.
    pub(in crate::python) fn map(self, about: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(about(error)),
            raised @ Self::Raised(_) => raised,
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

//! Python values <-> JSON bytes, straight: no tree of values in between.
//!
//! What is accepted and what comes back is what Python's `json` module accepts and gives, with one
//! limit of our own: [`MAX_DEPTH`].

#[cfg(feature = "bench")]
pub mod codec;
mod decode;
mod encode;
mod fields;
mod key_cache;
mod scratch_buffer;
mod strings;

use pyo3::prelude::*;

use crate::error::Error;
use crate::json::cursor::Fault;
pub(super) use decode::decode;
pub(super) use encode::encoded;
pub(super) use fields::{Projected, decode_fields};

/// Why a value could not be read or written.
pub(super) enum Failure {
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
    pub(super) fn map(self, about: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(about(error)),
            raised @ Self::Raised(_) => raised,
        }
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Levels of nesting a value may have: what `json` itself survives on every Python.
const MAX_DEPTH: usize = 900;

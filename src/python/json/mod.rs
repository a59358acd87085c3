//! Python values <-> JSON bytes, straight: no tree of values in between.
//!
//! What is accepted and what comes back is what Python's `json` module accepts and gives, with one
//! limit of our own: [`MAX_DEPTH`].

#[cfg(feature = "bench")]
pub mod codec;
mod decode;
mod encode;
mod fields;
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

/// Room that a thread keeps from one value to the next: none grows its own.
mod scratch {
    use std::cell::Cell;

    /// Bytes that are kept at most.
    const KEPT: usize = 1 << 20;

    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }

    /// An empty room. A value whose own code meets another value meanwhile leaves that one to find a
    /// room.
    pub(super) fn take() -> Vec<u8> {
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Leaves the room to the next value.
    pub(super) fn leave(buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT {
            // None is kept on a thread that is ending.
            let _ = BUFFER.try_with(|kept| kept.set(buffer));
        }
    }
}

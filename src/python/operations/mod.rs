//! The calls, each as the steps it takes: one body for the awaiting and the blocking entry.

mod all_keys;
mod filter_keys;
mod get;
mod single_step;
mod time_slice;
mod upsert;

use pyo3::prelude::*;

use crate::error::{Error, Kind};

pub(super) use all_keys::AllKeys;
pub(super) use filter_keys::FilterKeys;
pub(super) use get::{Fields, GetMany, GetOne};
pub(super) use single_step::{Once, OnceWithIds};
pub(super) use upsert::{Items, Upsert};

/// A reply that the job did not ask for: a bug, to be seen and not waited with.
fn unasked() -> PyErr {
    let message =
        "a reply of the wrong kind came, which is a bug of this library: please report it";
    Error::new(Kind::Operation, message).into()
}

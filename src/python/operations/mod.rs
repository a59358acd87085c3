//! The calls, each as the steps it takes: one body for the awaiting and the blocking entry.

mod filter_keys;
mod get;
mod keys;
mod single_step;
mod turn;
mod upsert;

use pyo3::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::store::{Call, KvStore};

pub(super) use filter_keys::FilterKeys;
pub(super) use get::{Fields, GetMany, GetOne};
pub(super) use keys::{AllKeys, OnceWithIds};
pub(super) use single_step::Once;
pub(super) use upsert::{Items, Upsert};

/// Applies the namespace's outage policy: a forgiven failure becomes None.
fn forgiven<T>(call: &Call, outcome: Result<T>) -> PyResult<Option<T>> {
    Ok(match outcome {
        Ok(value) => Some(value),
        Err(error) => call.forgive(error).map(|()| None)?,
    })
}

/// The same of ids or values that the caller was wrong to give: nothing was sent.
fn refused(call: &Call, error: Error) -> PyResult<()> {
    let error = error.in_namespace(&call.config().namespace);
    forgiven(call, Err::<(), _>(error)).map(drop)
}

/// A reply that the job did not ask for: a bug, to be seen and not waited with.
fn unasked() -> PyErr {
    let message =
        "a reply of the wrong kind came, which is a bug of this library: please report it";
    Error::new(Kind::Operation, message).into()
}

/// An error of this store.
fn about(store: &KvStore, id: &str, error: Error) -> Error {
    error.in_namespace(&store.config().namespace).about(id)
}

//! The calls, each as the steps it takes: one body for the awaiting and the blocking entry.

mod once;
mod read;
mod write;

use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::outage::Change;
use crate::store::KvStore;

pub(super) use once::Once;
pub(super) use read::{Fields, GetMany, GetOne};
pub(super) use write::upsert;

/// Applies the namespace's outage policy: a forgiven failure becomes None and is logged once.
fn forgiven<T>(py: Python<'_>, store: &KvStore, outcome: Result<T>) -> PyResult<Option<T>> {
    let (value, change) = match outcome {
        Ok(value) => (Some(value), store.outage().succeeded()),
        Err(error) => (
            None,
            store
                .outage()
                .forgive(error.in_namespace(&store.config().namespace))?,
        ),
    };
    if let Some(change) = change {
        log(py, &told(store, &change))?;
    }
    for notice in store.notices() {
        log(py, &notice)?;
    }
    Ok(value)
}

fn told(store: &KvStore, change: &Change) -> String {
    let namespace = &store.config().namespace;
    match change {
        Change::Failing(error) => format!(
            "{namespace}: reads miss and writes are dropped until the server answers again: {error}"
        ),
        Change::Recovered => format!("{namespace}: the server answers again"),
    }
}

fn log(py: Python<'_>, message: &str) -> PyResult<()> {
    let logger = py
        .import("logging")?
        .call_method1("getLogger", ("nano_graphrag_redis",))?;
    logger.call_method1("warning", ("%s", message))?;
    Ok(())
}

/// An error of this store.
fn about(store: &KvStore, id: &str, error: Error) -> Error {
    error.in_namespace(&store.config().namespace).about(id)
}

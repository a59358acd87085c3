//! The one table: kinds of errors -> exception classes of `nano_graphrag_redis.exceptions`.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::error::{Error, Kind};
use crate::metrics::Status;

pub(super) const MODULE: &str = "nano_graphrag_redis.exceptions";

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| raised(py, &error).unwrap_or_else(|failure| failure))
    }
}

fn class_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unavailable => "StorageUnavailableError",
        Kind::CircuitOpen => "CircuitOpenError",
        Kind::Timeout => "StorageTimeoutError",
        Kind::Operation => "StorageOperationError",
        Kind::Auth => "StorageAuthError",
        Kind::Serialization => "StorageSerializationError",
        Kind::Corrupt => "CorruptValueError",
        Kind::File => "JsonFileError",
        Kind::Config => "StorageConfigError",
        Kind::Closed => "StorageClosedError",
        Kind::Durability => "DurabilityError",
        Kind::Memory => "StorageMemoryError",
    }
}

/// How a call ended that raised this: the table read backwards.
pub(super) fn status_of(py: Python<'_>, raised: &PyErr) -> Status {
    if !raised.is_instance_of::<PyException>(py) {
        return Status::Cancelled; // an interrupt
    }
    let class = raised.get_type(py);
    let is_ours = class.module().is_ok_and(|module| module == MODULE);
    let name = class.name().ok().filter(|_| is_ours);
    let kind = name.and_then(|name| {
        let mut kinds = Kind::ALL.iter().copied();
        kinds.find(|kind| name == class_name(*kind))
    });
    kind.map_or(Status::Raised, Status::Failed)
}

/// The module of the exceptions; imported at first use.
pub(super) fn classes(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASSES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || {
        py.import(MODULE).map(|module| module.into_any().unbind())
    })?;
    Ok(classes.bind(py))
}

fn raised(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = classes(py)?
        .getattr(class_name(error.kind()))?
        .cast_into::<PyType>()?;
    let details = PyDict::new(py);
    details.set_item("namespace", error.namespace())?;
    details.set_item("id", error.id())?;
    if let Some(ids) = error.unconfirmed() {
        details.set_item("unconfirmed_ids", ids)?;
    }
    if let Some((wanted, achieved)) = error.levels() {
        details.set_item("wanted", wanted)?;
        details.set_item("achieved", achieved)?;
    }
    Ok(PyErr::from_value(
        class.call((error.to_string(),), Some(&details))?,
    ))
}

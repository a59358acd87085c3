//! `json.loads`, for the rare things that only Python's own objects hold: integers of any size, lone surrogates.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// What `json.loads` makes of a text.
pub(super) fn loads<'py, T>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, T>>
where
    T: pyo3::PyTypeCheck,
{
    Ok(function(py)?
        .call1((PyString::from_bytes(py, json)?,))?
        .cast_into::<T>()?)
}

/// The function; imported at first use.
pub(in crate::python) fn function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "json", "loads")
}

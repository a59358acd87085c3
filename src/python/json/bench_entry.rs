//! The codec's door for `benches/codec.rs`; only the feature `bench` opens it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Failure, Projected};

/// Appends the JSON of `value` to `out`.
pub fn encode(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    super::encoded(value, usize::MAX, |json| {
        out.extend_from_slice(json);
        Ok(())
    })
    .map_err(raised)
}

/// The Python value of one JSON document.
pub fn decode<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    super::decode(py, json).map_err(raised)
}

/// The top-level fields of these names.
pub fn decode_fields<'py>(
    py: Python<'py>,
    json: &[u8],
    names: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match super::decode_fields(py, json, |name| names.contains(name)) {
        Ok(Projected::Chosen(chosen)) => Ok(chosen.into_any()),
        Ok(Projected::Other(value)) => Ok(value),
        Err(failure) => Err(raised(failure)),
    }
}

fn raised(failure: Failure) -> PyErr {
    match failure {
        Failure::Refused(error) => PyValueError::new_err(error.to_string()),
        Failure::Raised(error) => error,
    }
}

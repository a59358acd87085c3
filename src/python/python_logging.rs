//! Events -> records of Python's `logging`, with their `extra` fields: the one place that writes to it.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::printable::printable;
use crate::store::KvStore;

const LOGGER: &str = "nano_graphrag_redis";

/// Logs what has been found since the last call: what it is about, and where, as `extra`.
pub(super) fn report(py: Python<'_>, store: &KvStore) -> PyResult<()> {
    for notice in store.notices() {
        let extra = PyDict::new(py);
        extra.set_item("event", notice.event.name())?;
        extra.set_item("namespace", printable(&store.config().namespace))?;
        extra.set_item("endpoint", store.config().server.endpoint.to_string())?;
        let options = PyDict::new(py);
        options.set_item("extra", extra)?;
        let logger = py.import("logging")?.call_method1("getLogger", (LOGGER,))?;
        let level = if notice.event.is_warning() {
            "warning"
        } else {
            "info"
        };
        let line = printable(&notice.line);
        logger.call_method(level, ("%s", line), Some(&options))?;
    }
    Ok(())
}

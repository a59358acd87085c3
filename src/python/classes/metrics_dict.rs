//! What this process counts, as a dict; see `_core.pyi` for what stands where.

use std::time::{Duration, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::client::{Connections, KeyspaceStats};
use crate::error::Kind;
use crate::metrics::{BUCKETS, Count, Operation, ServerCount, Status, StoreTotals};
use crate::python::bridge::Process;

const NANOSECONDS: f64 = 1e9;

/// A snapshot of all counters of the process; `sample_every` are seconds.
#[pyfunction]
#[pyo3(signature = (*, sample_every=None))]
pub(in crate::python) fn metrics(
    py: Python<'_>,
    sample_every: Option<f64>,
) -> PyResult<Bound<'_, PyDict>> {
    let process = Process::current(py);
    if let Some(seconds) = sample_every {
        let every = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("sample_every must be seconds, not below 0"))?;
        process.keep_keyspace_stats(py, every)?;
    }
    let shared = &process.connections;
    let namespaces = PyDict::new(py);
    for (namespace, totals) in shared.metrics().stores.totals() {
        namespaces.set_item(namespace, of_namespace(py, &StoreTotals(&totals))?)?;
    }
    let servers = PyDict::new(py);
    for (server, totals) in shared.metrics().servers.totals() {
        let counts = PyDict::new(py);
        for count in ServerCount::ALL {
            counts.set_item(count.name(), totals.get(count.place()))?;
        }
        let dict = PyDict::new(py);
        dict.set_item("counts", counts)?;
        dict.set_item("sets", PyList::empty(py))?;
        servers.set_item(server, dict)?;
    }
    for connections in shared.in_use() {
        let server = connections.config().endpoint.to_string();
        // One that was made since the counters were added up is told of next time.
        if let Some(dict) = servers.get_item(server)? {
            let sets = dict.get_item("sets")?;
            sets.call_method1("append", (of_set(py, &connections)?,))?;
        }
    }
    let snapshot = PyDict::new(py);
    #[expect(clippy::cast_precision_loss, reason = "the bounds are round")]
    let bounds: Vec<f64> = BUCKETS
        .iter()
        .map(|bound| *bound as f64 / NANOSECONDS)
        .collect();
    snapshot.set_item("bounds", bounds)?;
    snapshot.set_item("namespaces", namespaces)?;
    snapshot.set_item("servers", servers)?;
    Ok(snapshot)
}

fn of_namespace<'py>(py: Python<'py>, totals: &StoreTotals<'_>) -> PyResult<Bound<'py, PyDict>> {
    let operations = PyDict::new(py);
    for operation in Operation::ALL {
        let statuses = PyDict::new(py);
        for status in Status::all() {
            let calls = totals.calls(*operation, status);
            if calls > 0 {
                statuses.set_item(status.name(), calls)?;
            }
        }
        if !statuses.is_empty() {
            let dict = PyDict::new(py);
            dict.set_item("statuses", statuses)?;
            dict.set_item("histogram", totals.histogram(*operation))?;
            dict.set_item("seconds", totals.took(*operation).as_secs_f64())?;
            operations.set_item(operation.name(), dict)?;
        }
    }
    let counts = PyDict::new(py);
    for count in Count::ALL {
        counts.set_item(count.name(), totals.get(*count))?;
    }
    let forgiven = PyDict::new(py);
    for kind in Kind::ALL {
        let failures = totals.forgiven(*kind);
        if failures > 0 {
            forgiven.set_item(kind.name(), failures)?;
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("operations", operations)?;
    dict.set_item("counts", counts)?;
    dict.set_item("forgiven", forgiven)?;
    Ok(dict)
}

fn of_set<'py>(py: Python<'py>, connections: &Connections) -> PyResult<Bound<'py, PyDict>> {
    let load = connections.load();
    let dict = PyDict::new(py);
    dict.set_item("connections", load.connections)?;
    dict.set_item("busy_connections", load.busy.min(load.connections))?;
    dict.set_item("max_connections", connections.config().max_connections)?;
    dict.set_item("requests_in_flight", load.in_flight)?;
    dict.set_item("breaker_open", load.breaker_open)?;
    if let Some(held) = connections.copies() {
        let copies = PyDict::new(py);
        copies.set_item("max_bytes", held.budget)?;
        copies.set_item("bytes", held.bytes)?;
        copies.set_item("values", held.values)?;
        dict.set_item("near_cache", copies)?;
    }
    if let Some(up) = connections.is_up() {
        dict.set_item("up", up)?;
    }
    if let Some(sample) = connections.keyspace_stats() {
        dict.set_item("sample", of_keyspace_stats(py, &sample)?)?;
    }
    Ok(dict)
}

fn of_keyspace_stats<'py>(py: Python<'py>, sample: &KeyspaceStats) -> PyResult<Bound<'py, PyDict>> {
    let namespaces = PyDict::new(py);
    for (namespace, share) in &sample.namespaces {
        namespaces.set_item(namespace, (share.keys, share.bytes))?;
    }
    let taken = sample.taken.duration_since(SystemTime::UNIX_EPOCH);
    let dict = PyDict::new(py);
    dict.set_item("taken", taken.map_or(0.0, |since| since.as_secs_f64()))?;
    if let Some(servers) = sample.servers {
        dict.set_item("evicted_keys", servers.evicted_keys)?;
        dict.set_item("used_memory", servers.used_memory)?;
        dict.set_item("max_memory", servers.max_memory)?;
        dict.set_item("persistence_ok", servers.persistence_ok)?;
    }
    dict.set_item("namespaces", namespaces)?;
    Ok(dict)
}

//! What this process counts, as a dict; see `_core.pyi` for what stands where.

use std::time::{Duration, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::bridge::Process;
use crate::connection::{Census, Connections};
use crate::error::Kind;
use crate::metrics::{BUCKETS, Count, Operation, ServerCount, Status, StoreTotals};

const NANOSECONDS: f64 = 1e9;

/// A snapshot of all counters of the process; `census_every` are seconds.
#[pyfunction]
#[pyo3(signature = (*, census_every=None))]
pub(super) fn metrics(py: Python<'_>, census_every: Option<f64>) -> PyResult<Bound<'_, PyDict>> {
    let process = Process::current(py)?;
    if let Some(seconds) = census_every {
        let every = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("census_every must be seconds, not below 0"))?;
        process.keep_census(every);
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
            counts.set_item(count.name(), totals.get(count as usize))?;
        }
        let told = PyDict::new(py);
        told.set_item("counts", counts)?;
        told.set_item("sets", PyList::empty(py))?;
        servers.set_item(server, told)?;
    }
    for connections in shared.in_use() {
        let server = connections.config().endpoint.to_string();
        // One that was made since the counters were added up is told of next time.
        if let Some(told) = servers.get_item(server)? {
            let sets = told.get_item("sets")?;
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
            let told = PyDict::new(py);
            told.set_item("statuses", statuses)?;
            told.set_item("histogram", totals.histogram(*operation))?;
            told.set_item("seconds", totals.took(*operation).as_secs_f64())?;
            operations.set_item(operation.name(), told)?;
        }
    }
    let counts = PyDict::new(py);
    for count in Count::ALL {
        counts.set_item(count.name(), totals.get(*count))?;
    }
    let forgiven = PyDict::new(py);
    for kind in Kind::ALL {
        let failures = totals.forgiven(kind);
        if failures > 0 {
            forgiven.set_item(kind.name(), failures)?;
        }
    }
    let told = PyDict::new(py);
    told.set_item("operations", operations)?;
    told.set_item("counts", counts)?;
    told.set_item("forgiven", forgiven)?;
    Ok(told)
}

fn of_set<'py>(py: Python<'py>, connections: &Connections) -> PyResult<Bound<'py, PyDict>> {
    let load = connections.load();
    let told = PyDict::new(py);
    told.set_item("connections", load.connections)?;
    told.set_item("busy_connections", load.busy.min(load.connections))?;
    told.set_item("max_connections", connections.config().max_connections)?;
    told.set_item("requests_in_flight", load.in_flight)?;
    told.set_item("breaker_open", load.breaker_open)?;
    if let Some(held) = connections.copies() {
        let copies = PyDict::new(py);
        copies.set_item("max_bytes", held.budget)?;
        copies.set_item("bytes", held.bytes)?;
        copies.set_item("values", held.values)?;
        told.set_item("near_cache", copies)?;
    }
    if let Some(census) = connections.census() {
        told.set_item("census", of_census(py, &census)?)?;
    }
    Ok(told)
}

fn of_census<'py>(py: Python<'py>, census: &Census) -> PyResult<Bound<'py, PyDict>> {
    let namespaces = PyDict::new(py);
    for (namespace, share) in &census.namespaces {
        namespaces.set_item(namespace, (share.keys, share.bytes))?;
    }
    let taken = census.taken.duration_since(SystemTime::UNIX_EPOCH);
    let told = PyDict::new(py);
    told.set_item("taken", taken.map_or(0.0, |since| since.as_secs_f64()))?;
    told.set_item("evicted_keys", census.evicted_keys)?;
    told.set_item("namespaces", namespaces)?;
    Ok(told)
}

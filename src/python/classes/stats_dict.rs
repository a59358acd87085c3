//! The dict that `get_stats` returns.

use std::num::NonZeroU64;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::metrics::Count;
use crate::store::{KvStore, Stats};

/// Statistics of a store, with what its settings and its outages add.
pub(in crate::python) struct StatsDict {
    pub(in crate::python) stats: Stats,
    pub(in crate::python) core: Arc<KvStore>,
}

impl<'py> IntoPyObject<'py> for StatsDict {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let (stats, config) = (self.stats, self.core.config());
        let outage = PyDict::new(py);
        for (kind, count) in self.core.outage().forgiven() {
            outage.set_item(kind.name(), count)?;
        }
        let dict = PyDict::new(py);
        dict.set_item("namespace", &config.namespace)?;
        dict.set_item("key_count", stats.key_count)?;
        dict.set_item("ttl_seconds", config.ttl.map_or(0, NonZeroU64::get))?;
        dict.set_item("sample_memory_usage", stats.sample_memory_usage)?;
        dict.set_item("total_redis_memory", stats.total_redis_memory)?;
        dict.set_item("json_bytes_written", stats.written.json_bytes)?;
        dict.set_item("stored_bytes_written", stats.written.stored_bytes)?;
        dict.set_item("connections", stats.load.connections)?;
        dict.set_item("requests_in_flight", stats.load.in_flight)?;
        dict.set_item("retries", stats.load.retries)?;
        dict.set_item("breaker_open", stats.load.breaker_open)?;
        dict.set_item("forgiven", outage)?;
        dict.set_item("served_from_files", self.core.served_from_files())?;
        dict.set_item("dual_write", dual_write(py, &self.core)?)?;
        dict.set_item("near_cache", near_cache(py, &self.core)?)?;
        dict.set_item("single_flight", single_flight(py, &self.core)?)?;
        let renewals = self.core.counters().get(Count::TtlRenewals);
        dict.set_item("ttl_renewals", renewals)?;
        dict.set_item("deferred_drop", deferred_drop(py, &self.core)?)?;
        Ok(dict)
    }
}

fn single_flight<'py>(py: Python<'py>, core: &KvStore) -> PyResult<Option<Bound<'py, PyDict>>> {
    if !core.has_single_flight() {
        return Ok(None);
    }
    let counters = core.counters();
    let dict = PyDict::new(py);
    dict.set_item("leases", counters.get(Count::Leases))?;
    dict.set_item("waits", counters.get(Count::Waits))?;
    dict.set_item("saved", counters.get(Count::Saved))?;
    dict.set_item("promoted", counters.get(Count::Promoted))?;
    dict.set_item("timed_out", counters.get(Count::TimedOut))?;
    dict.set_item("would_wait", counters.get(Count::WouldWait))?;
    Ok(Some(dict))
}

fn near_cache<'py>(py: Python<'py>, core: &KvStore) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(stats) = core.near_cache() else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    dict.set_item("tracking", stats.tracking)?;
    dict.set_item("max_bytes", stats.budget)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("values", stats.values)?;
    dict.set_item("hits", stats.hits)?;
    dict.set_item("misses", stats.misses)?;
    dict.set_item("evictions", stats.evictions)?;
    dict.set_item("invalidations", stats.invalidations)?;
    Ok(Some(dict))
}

fn deferred_drop<'py>(py: Python<'py>, core: &KvStore) -> PyResult<Option<Bound<'py, PyDict>>> {
    if !core.config().deferred_drop {
        return Ok(None);
    }
    let dict = PyDict::new(py);
    dict.set_item("swaps", core.counters().get(Count::Swaps))?;
    dict.set_item("kept", core.counters().get(Count::DropsKept))?;
    Ok(Some(dict))
}

fn dual_write<'py>(py: Python<'py>, core: &KvStore) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(stats) = core.dual_write() else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    dict.set_item("logged", stats.logged)?;
    dict.set_item("late", stats.late)?;
    dict.set_item("folds", stats.compactions)?;
    Ok(Some(dict))
}

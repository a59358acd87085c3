//! `KvStore` and `BlockingKvStore`: the same calls, one line each, awaited or blocking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::settings_dict::Settings;
use super::stats_dict::StatsDict;
use crate::config::StoreConfig;
use crate::error::{Error, Kind, Result};
use crate::metrics::{Count, Operation};
use crate::mutex::Mutex;
use crate::python::bridge::{Convert, Job, Owned, Process, awaitable, block};
use crate::python::id_arguments::{Id, Ids};
use crate::python::operations::{
    AllKeys, Fields, FilterKeys, GetMany, GetOne, Items, Once, OnceWithIds, Upsert,
};
use crate::python::single_flight_task::Asker;
use crate::stack;
use crate::store::{Call, KvStore as Core};

type Value<'py> = PyResult<Bound<'py, PyAny>>;

/// The settings of a store, and the store of the process that uses them.
struct Handle {
    config: StoreConfig,
    /// Made at first use, and again in a forked child.
    core: Mutex<Option<Owned<Arc<Core>>>>,
    closed: AtomicBool,
}

impl Handle {
    fn core(&self, py: Python<'_>) -> Result<Arc<Core>> {
        if self.closed.load(Relaxed) {
            let error = Error::new(Kind::Closed, "this storage was closed: make a new one");
            return Err(error.in_namespace(&self.config.namespace));
        }
        let process = Process::current(py);
        let mut held = self.core.lock();
        if let Some(core) = held.as_ref().and_then(Owned::get) {
            return Ok(Arc::clone(core));
        }
        let core = stack::on_large_stack(|| Core::new(self.config.clone(), &process.connections));
        *held = Some(Owned::new(Arc::clone(&core)));
        Ok(core)
    }

    /// A call that begins now.
    fn call(&self, py: Python<'_>, operation: Operation) -> Result<Call> {
        Ok(Call::begin(self.core(py)?, operation))
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
        let core = self.core.lock().take();
        drop(core);
    }

    /// A job that fails with this error, or gives `otherwise` where the outage policy forgives it.
    fn refused(call: Call, error: Error, otherwise: Option<Convert>) -> Box<dyn Job> {
        let error = error.in_namespace(&call.config().namespace);
        Box::new(Once::failed(call, error, otherwise))
    }

    /// `asks` says who waits for others that make the value.
    fn get_by_id(
        &self,
        py: Python<'_>,
        id: Id,
        asks: fn(Python<'_>) -> Option<Asker>,
    ) -> Result<Box<dyn Job>> {
        let store = self.call(py, Operation::GetById)?;
        Ok(match id.0 {
            Ok(id) => {
                let asker = if store.has_single_flight() {
                    asks(py)
                } else {
                    None
                };
                Box::new(GetOne { store, id, asker })
            }
            Err(error) => Self::refused(store, error, Some(Box::new(|py| Ok(py.None())))),
        })
    }

    fn get_by_ids(
        &self,
        py: Python<'_>,
        ids: Ids,
        fields: Option<Py<PyAny>>,
        usable: Option<Py<PyAny>>,
    ) -> Result<Box<dyn Job>> {
        let call = self.call(py, Operation::GetByIds)?;
        Ok(Box::new(GetMany::new(
            call,
            ids,
            fields.map(Fields),
            usable,
        )))
    }

    fn filter_keys(&self, py: Python<'_>, ids: Ids) -> Result<Box<dyn Job>> {
        let call = self.call(py, Operation::FilterKeys)?;
        Ok(Box::new(FilterKeys::new(call, ids)))
    }

    fn upsert(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Box<dyn Job>> {
        let items = Items::of(data)?;
        let call = self.call(py, Operation::Upsert)?;
        Ok(Box::new(Upsert::new(call, items)))
    }

    fn replace(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Box<dyn Job>> {
        let items = Items::of(data)?;
        let call = self.call(py, Operation::Upsert)?;
        Ok(Box::new(Upsert::in_place_of_all(call, items)))
    }

    fn delete_by_id(&self, py: Python<'_>, id: Id) -> Result<Box<dyn Job>> {
        let call = self.call(py, Operation::DeleteById)?;
        Ok(match id.0 {
            Ok(id) => Box::new(Once::new(call, |core| async move {
                Ok(core.delete(vec![id]).await? > 0)
            })),
            Err(error) => Self::refused(call, error, None),
        })
    }

    fn delete_by_ids(&self, py: Python<'_>, ids: Ids) -> Result<Box<dyn Job>> {
        self.once_with_ids(py, Operation::DeleteByIds, ids, |core, ids| async move {
            core.delete(ids).await
        })
    }

    fn clear(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        self.walk(
            py,
            Operation::Drop,
            |core| async move { core.drop_all().await },
        )
    }

    fn all_keys(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        Ok(Box::new(AllKeys::new(self.call(py, Operation::AllKeys)?)))
    }

    fn index_done(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        let call = self.call(py, Operation::IndexDone)?;
        let barrier = Once::new(call, |core| async move { core.barrier().await });
        Ok(Box::new(barrier.or(())))
    }

    fn ping(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        self.once(py, Operation::CheckHealth, |core| async move {
            core.ping().await.map(|()| true)
        })
    }

    fn stats(&self, py: Python<'_>, light: bool) -> Result<Box<dyn Job>> {
        self.walk(py, Operation::GetStats, move |core| async move {
            Ok(StatsDict {
                stats: core.stats(light).await?,
                core,
            })
        })
    }

    fn repair(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        self.walk(py, Operation::RepairRegistry, |core| async move {
            let repair = core.repair_registry().await?;
            Ok((repair.added, repair.removed))
        })
    }

    fn scan(
        &self,
        py: Python<'_>,
        cursor: u128,
        pattern: Vec<u8>,
        count: usize,
    ) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Scan, move |core| async move {
            let (next, keys) = core.scan(cursor, &pattern, count).await?;
            Ok((next, keys.into_iter().map(Raw).collect::<Vec<_>>()))
        })
    }

    fn get_key(&self, py: Python<'_>, key: Vec<u8>) -> Result<Box<dyn Job>> {
        self.once(py, Operation::GetKey, move |core| async move {
            Ok(core.get_key(&key).await?.map(Raw))
        })
    }

    fn info(&self, py: Python<'_>, section: String) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Info, |core| async move {
            core.info(&section).await
        })
    }

    fn memory(&self, py: Python<'_>, ids: Ids) -> Result<Box<dyn Job>> {
        self.once_with_ids(py, Operation::Memory, ids, |core, ids| async move {
            core.mean_memory(&ids).await
        })
    }

    fn look(&self, py: Python<'_>, keys: Vec<Vec<u8>>) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Look, |core| async move {
            let looked = core.inspect(keys).await?.into_iter();
            Ok(looked.map(|key| (key.kind, key.ttl)).collect::<Vec<_>>())
        })
    }

    fn persist(&self, py: Python<'_>, ids: Ids) -> Result<Box<dyn Job>> {
        self.once_with_ids(py, Operation::Persist, ids, |core, ids| async move {
            core.persist(ids).await
        })
    }

    fn forbidden(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Forbidden, |core| async move {
            core.forbidden().await
        })
    }

    fn limit(&self, py: Python<'_>, name: String, words: Vec<String>) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Limit, move |core| async move {
            core.limit(&name, &words).await
        })
    }

    fn changes(&self, py: Python<'_>, after: Option<String>, count: usize) -> Result<Box<dyn Job>> {
        self.once(py, Operation::Changes, move |core| async move {
            let entries = core.changes(after.as_deref(), count).await?.into_iter();
            let raw = |(name, value)| (Raw(name), Raw(value));
            Ok(entries
                .map(|entry| {
                    let fields = entry.fields.into_iter().map(raw);
                    (entry.id, fields.collect::<Vec<_>>())
                })
                .collect::<Vec<_>>())
        })
    }

    /// Counts what is decided in Python.
    fn count(&self, py: Python<'_>, what: &str, number: u64) -> PyResult<()> {
        let count = Count::ALL.iter().find(|count| count.name() == what);
        let count = count.ok_or_else(|| PyKeyError::new_err(what.to_owned()))?;
        self.core(py)?.counters().count(*count, number);
        Ok(())
    }

    fn registry_drift(&self, py: Python<'_>) -> Result<Box<dyn Job>> {
        self.walk(py, Operation::RegistryDrift, |core| async move {
            let drift = core.registry_drift().await?;
            Ok(drift.map(|drift| (drift.unregistered, drift.without_value)))
        })
    }

    /// A call of one step, whose failure is raised whatever the outage policy.
    fn once<T, F>(
        &self,
        py: Python<'_>,
        operation: Operation,
        body: impl FnOnce(Arc<Core>) -> F,
    ) -> Result<Box<dyn Job>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Ok(Box::new(Once::new(self.call(py, operation)?, body)))
    }

    /// A call of one step through the whole namespace, which takes a processor's time.
    fn walk<T, F>(
        &self,
        py: Python<'_>,
        operation: Operation,
        body: impl FnOnce(Arc<Core>) -> F,
    ) -> Result<Box<dyn Job>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Ok(Box::new(Once::new(self.call(py, operation)?, body).long()))
    }

    /// A call of one step on ids, unless one of them is none.
    fn once_with_ids<T, F>(
        &self,
        py: Python<'_>,
        operation: Operation,
        ids: Ids,
        body: impl FnOnce(Arc<Core>, Vec<String>) -> F + Send + 'static,
    ) -> Result<Box<dyn Job>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let call = self.call(py, operation)?;
        Ok(Box::new(OnceWithIds::new(call, ids, body)))
    }
}

/// Bytes that become `bytes`, where pyo3 would make a list of numbers.
struct Raw<T>(T);

impl<'py, T: AsRef<[u8]>> IntoPyObject<'py> for Raw<T> {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = std::convert::Infallible;

    fn into_pyobject(self, py: Python<'py>) -> std::result::Result<Self::Output, Self::Error> {
        Ok(PyBytes::new(py, self.0.as_ref()))
    }
}

/// One pyclass over a [`Handle`]: `$run` is how its calls are waited for, `$asks` says by whom.
macro_rules! entries {
    ($(#[$documentation:meta])* $class:ident, $run:ident, $asks:path) => {
        $(#[$documentation])*
        #[pyclass(frozen, module = "nano_graphrag_redis._core")]
        pub(in crate::python) struct $class(Arc<Handle>);

        #[pymethods]
        impl $class {
            #[new]
            fn new(settings: Settings) -> PyResult<Self> {
                let config = StoreConfig::try_from(settings)?;
                Ok(Self(Arc::new(Handle { config, core: Mutex::new(None), closed: AtomicBool::new(false) })))
            }

            #[getter]
            fn prefix(&self) -> &str {
                self.0.config.keyspace.prefix()
            }

            #[getter]
            fn blocking(&self) -> BlockingKvStore {
                BlockingKvStore(Arc::clone(&self.0))
            }

            #[getter]
            fn closed(&self) -> bool {
                self.0.closed.load(Relaxed)
            }

            fn close(&self) {
                self.0.close();
            }

            fn get_by_id<'py>(&self, py: Python<'py>, id: Id) -> Value<'py> {
                $run(py, || self.0.get_by_id(py, id, $asks))
            }

            #[pyo3(signature = (ids, fields=None, usable=None))]
            fn get_by_ids<'py>(
                &self,
                py: Python<'py>,
                ids: Ids,
                fields: Option<Py<PyAny>>,
                usable: Option<Py<PyAny>>,
            ) -> Value<'py> {
                $run(py, || self.0.get_by_ids(py, ids, fields, usable))
            }

            fn filter_keys<'py>(&self, py: Python<'py>, ids: Ids) -> Value<'py> {
                $run(py, || self.0.filter_keys(py, ids))
            }

            fn upsert<'py>(&self, data: &Bound<'py, PyAny>) -> Value<'py> {
                $run(data.py(), || self.0.upsert(data.py(), data))
            }

            fn replace<'py>(&self, data: &Bound<'py, PyAny>) -> Value<'py> {
                $run(data.py(), || self.0.replace(data.py(), data))
            }

            fn note_kept(&self, py: Python<'_>) -> PyResult<()> {
                self.0.core(py)?.counters().count(Count::DropsKept, 1);
                Ok(())
            }

            fn delete_by_id<'py>(&self, py: Python<'py>, id: Id) -> Value<'py> {
                $run(py, || self.0.delete_by_id(py, id))
            }

            fn delete_by_ids<'py>(&self, py: Python<'py>, ids: Ids) -> Value<'py> {
                $run(py, || self.0.delete_by_ids(py, ids))
            }

            fn drop<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.clear(py))
            }

            fn all_keys<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.all_keys(py))
            }

            fn index_done<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.index_done(py))
            }

            fn ping<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.ping(py))
            }

            #[pyo3(signature = (light=false))]
            fn stats<'py>(&self, py: Python<'py>, light: bool) -> Value<'py> {
                $run(py, || self.0.stats(py, light))
            }

            fn repair<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.repair(py))
            }

            fn scan<'py>(&self, py: Python<'py>, cursor: u128, pattern: Vec<u8>, count: usize) -> Value<'py> {
                $run(py, || self.0.scan(py, cursor, pattern, count))
            }

            fn get_key<'py>(&self, py: Python<'py>, key: Vec<u8>) -> Value<'py> {
                $run(py, || self.0.get_key(py, key))
            }

            fn info<'py>(&self, py: Python<'py>, section: String) -> Value<'py> {
                $run(py, || self.0.info(py, section))
            }

            fn memory<'py>(&self, py: Python<'py>, ids: Ids) -> Value<'py> {
                $run(py, || self.0.memory(py, ids))
            }

            fn look<'py>(&self, py: Python<'py>, keys: Vec<Vec<u8>>) -> Value<'py> {
                $run(py, || self.0.look(py, keys))
            }

            fn persist<'py>(&self, py: Python<'py>, ids: Ids) -> Value<'py> {
                $run(py, || self.0.persist(py, ids))
            }

            fn forbidden<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.forbidden(py))
            }

            fn limit<'py>(&self, py: Python<'py>, name: String, words: Vec<String>) -> Value<'py> {
                $run(py, || self.0.limit(py, name, words))
            }

            #[pyo3(signature = (after=None, count=100))]
            fn changes<'py>(&self, py: Python<'py>, after: Option<String>, count: usize) -> Value<'py> {
                $run(py, || self.0.changes(py, after, count))
            }

            fn count(&self, py: Python<'_>, what: &str, number: u64) -> PyResult<()> {
                self.0.count(py, what, number)
            }

            fn give_up(&self, py: Python<'_>) -> PyResult<()> {
                let core = self.0.core(py)?;
                if let Some(asker) = $asks(py) {
                    core.gives_up(asker.number);
                }
                Ok(())
            }

            fn registry_drift<'py>(&self, py: Python<'py>) -> Value<'py> {
                $run(py, || self.0.registry_drift(py))
            }
        }
    };
}

entries! {
    /// One namespace; every call returns a future of the running event loop.
    KvStore, awaitable, Asker::current
}
entries! {
    /// One namespace; every call blocks its thread, and Ctrl-C interrupts it.
    BlockingKvStore, block, Asker::nobody
}

impl BlockingKvStore {
    /// The store, for work of several calls.
    pub(in crate::python) fn core(&self, py: Python<'_>) -> Result<Arc<Core>> {
        self.0.core(py)
    }
}

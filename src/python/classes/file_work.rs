//! `JsonFile`: the entries of a host's file. `FileWork`: work between files and the server, by steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokio::time::{Instant, timeout_at};

use super::kv_store::BlockingKvStore;
use crate::error::{Error, Kind};
use crate::files::{self, Paths};
use crate::json::Layout;
use crate::metrics::Operation;
use crate::migration::{Check, Comparison, Copying, Differences, Export, Progress};
use crate::mutex::Mutex;
use crate::python::bridge::{block, caught};
use crate::python::operations::Once;
use crate::stack;
use crate::store::{Call, Compacted, KvStore, compact};

/// The file that the host keeps a namespace in.
#[pyfunction]
pub(in crate::python) fn file_of(directory: PathBuf, namespace: &str) -> PyResult<PathBuf> {
    Ok(Paths::new(directory, namespace)?.file)
}

/// The entries of one file, in its order.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct JsonFile(Mutex<files::JsonFile>);

#[pymethods]
impl JsonFile {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        Ok(Self(Mutex::new(files::JsonFile::open(path)?)))
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(String, Bound<'py, PyBytes>)>> {
        let read = || {
            let mut file = self.0.lock();
            let mut json = Vec::new();
            let entry = stack::on_large_stack(|| file.next(Layout::Compact, &mut json))?;
            Ok::<_, Error>(entry.map(|entry| (entry.id, json)))
        };
        let next = caught(|| Ok(py.detach(read)?))?;
        let Some((id, json)) = next else {
            return Ok(None);
        };
        let json = PyBytes::new_with(py, json.len(), |bytes| {
            bytes.copy_from_slice(&json);
            Ok(())
        })?;
        Ok(Some((id, json)))
    }
}

/// Work that is done in steps.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct FileWork {
    /// None where no server is asked.
    store: Option<Arc<KvStore>>,
    /// Never locked by two: a step that is under way is one that its caller waits for.
    task: Arc<tokio::sync::Mutex<Task>>,
}

enum Task {
    Check(Box<Check>),
    Copy(Box<Copying>),
    Export(Box<Export>),
    Compare(Box<Comparison>),
    Fold {
        paths: Paths,
        ask: bool,
        /// When the server and other processes are waited for no longer.
        deadline: Option<Instant>,
        folded: Option<Compacted>,
    },
}

type ProgressReport = Option<(&'static str, u64, Option<u64>, &'static str)>;

impl FileWork {
    fn new(store: Option<Arc<KvStore>>, task: Task) -> Self {
        let task = Arc::new(tokio::sync::Mutex::new(task));
        Self { store, task }
    }
}

#[pymethods]
impl FileWork {
    #[staticmethod]
    fn check(path: PathBuf) -> PyResult<Self> {
        Ok(Self::new(None, Task::Check(Box::new(Check::new(path)?))))
    }

    #[staticmethod]
    fn copy(
        py: Python<'_>,
        store: &BlockingKvStore,
        path: PathBuf,
        checked: &Self,
        dry_run: bool,
    ) -> PyResult<Self> {
        let found = match &*checked.task.try_lock().map_err(|_| at_once())? {
            Task::Check(check) => check.checked.clone().ok_or_else(unfinished)?,
            _ => return Err(unfinished().into()),
        };
        let store = store.core(py)?;
        let copying = Copying::new(Arc::clone(&store), path, found, dry_run)?;
        Ok(Self::new(Some(store), Task::Copy(Box::new(copying))))
    }

    #[staticmethod]
    fn export(
        py: Python<'_>,
        store: &BlockingKvStore,
        directory: PathBuf,
        dry_run: bool,
    ) -> PyResult<Self> {
        let store = store.core(py)?;
        let paths = Paths::new(directory, &store.config().namespace)?;
        let export = Export::new(Arc::clone(&store), paths, dry_run)?;
        Ok(Self::new(Some(store), Task::Export(Box::new(export))))
    }

    #[staticmethod]
    fn compare(py: Python<'_>, store: &BlockingKvStore, path: PathBuf) -> PyResult<Self> {
        let store = store.core(py)?;
        let comparison = Comparison::new(Arc::clone(&store), path)?;
        Ok(Self::new(Some(store), Task::Compare(Box::new(comparison))))
    }

    /// `within` is in seconds, counted from now.
    #[staticmethod]
    #[pyo3(signature = (store, directory, ask, within=None))]
    fn fold(
        py: Python<'_>,
        store: &BlockingKvStore,
        directory: PathBuf,
        ask: bool,
        within: Option<f64>,
    ) -> PyResult<Self> {
        let store = store.core(py)?;
        let within = within.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let fold = Task::Fold {
            paths: Paths::new(directory, &store.config().namespace)?,
            ask,
            deadline: within.and_then(|within| Instant::now().checked_add(within)),
            folded: None,
        };
        Ok(Self::new(Some(store), fold))
    }

    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let task = Arc::clone(&self.task);
        let Some(store) = &self.store else {
            let check = || match &mut *task.try_lock().map_err(|_| at_once())? {
                Task::Check(check) => check.step().map(report),
                _ => Err(unfinished()),
            };
            let report = caught(|| Ok(py.detach(|| stack::on_large_stack(check))?))?;
            return Ok(report.into_py_any(py)?.into_bound(py));
        };
        let step = |store: Arc<KvStore>| async move {
            let mut task = task.try_lock().map_err(|_| at_once())?;
            let progress = match &mut *task {
                Task::Check(check) => check.step()?,
                Task::Copy(copying) => copying.step().await?,
                Task::Export(export) => export.step().await?,
                Task::Compare(comparison) => comparison.step().await?,
                Task::Fold {
                    paths,
                    ask,
                    deadline,
                    folded,
                } => {
                    // Tried even when it is late: what is not in the log is forgotten.
                    in_time(*deadline, store.keep_up()).await?;
                    if paths.have_changes() && deadline.is_some_and(|end| end <= Instant::now()) {
                        return Err(late());
                    }
                    // Dropped on the way, it leaves a log that can be folded once more.
                    *folded = in_time(*deadline, compact(&store, paths, *ask, true)).await?;
                    None
                }
            };
            Ok(report(progress))
        };
        let call = Call::begin(Arc::clone(store), Operation::MigrationStep);
        block(py, || Ok::<_, PyErr>(Box::new(Once::new(call, step))))
    }

    #[getter]
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        match &*self.task.try_lock().map_err(|_| at_once())? {
            Task::Check(check) => {
                let checked = check.checked.as_ref().ok_or_else(unfinished)?;
                dict.set_item("ids", checked.ids)?;
                dict.set_item("size", checked.size)?;
            }
            Task::Copy(copying) => {
                let copies = &copying.copies;
                dict.set_item("written", copies.written)?;
                dict.set_item("replaced", copies.replaced)?;
                dict.set_item("unchanged", copies.unchanged)?;
                dict.set_item("refused_count", copies.refused)?;
                dict.set_item("refused", &copies.refusals)?;
            }
            Task::Fold { folded, .. } => {
                let folded = folded.as_ref();
                dict.set_item("ids", folded.map(|folded| folded.ids))?;
                dict.set_item("size", folded.map(|folded| folded.size))?;
                let skipped = folded.map(|folded| folded.skipped.clone());
                let skipped = skipped.unwrap_or_default();
                dict.set_item("skipped_count", skipped.count)?;
                dict.set_item("skipped_lines", skipped.lines)?;
            }
            Task::Export(export) => {
                let exported = export.exported.ok_or_else(unfinished)?;
                dict.set_item("ids", exported.ids)?;
                dict.set_item("size", exported.size)?;
            }
            Task::Compare(comparison) => {
                let compared = comparison.compared.as_ref().ok_or_else(unfinished)?;
                dict.set_item("ids_in_file", compared.ids[0])?;
                dict.set_item("ids_on_server", compared.ids[1])?;
                let [file, server] = compared.digests.map(|digest| format!("{digest:032x}"));
                dict.set_item("file_digest", file)?;
                dict.set_item("server_digest", server)?;
                list(&dict, "differing", &compared.differing)?;
                list(&dict, "missing", &compared.missing)?;
                list(&dict, "extra", &compared.extra)?;
            }
        }
        Ok(dict)
    }
}

fn list(dict: &Bound<'_, PyDict>, name: &str, differences: &Differences) -> PyResult<()> {
    dict.set_item(name, &differences.listed)?;
    dict.set_item(format!("{name}_count"), differences.count)
}

fn report(progress: Option<Progress>) -> ProgressReport {
    let progress = progress?;
    let (step, unit) = progress.step.names();
    Some((step, progress.done, progress.total, unit))
}

/// The outcome of work that is dropped where it still waits when its time is up.
async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work)
            .await
            .unwrap_or_else(|_| Err(late())),
        None => work.await,
    }
}

fn late() -> Error {
    Error::new(Kind::File, "the time for it is over: it is folded later")
}

fn at_once() -> Error {
    Error::new(Kind::Operation, "one thread at a time may do this work")
}

fn unfinished() -> Error {
    Error::new(Kind::Operation, "the work was not done to its end")
}

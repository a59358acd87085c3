//! Which asyncio task asks, and word of its end: what it holds goes to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::bridge::{Owned, observe_process};
use crate::local_single_flight::{Flights, Lease};

/// The task that awaits a call.
pub(super) struct Asker {
    task: Py<PyAny>,
    /// What Python's `id` gives: no other task has it before this one is gone.
    pub(super) number: u64,
}

impl Asker {
    /// The task that runs; None where a callback runs, or no loop.
    pub(super) fn current(py: Python<'_>) -> Option<Self> {
        let asked = || -> PyResult<Option<Self>> {
            let (current_task, id) = functions(py)?;
            let task = current_task.call0()?;
            if task.is_none() {
                return Ok(None);
            }
            let number = id.call1((&task,))?;
            let number = number.extract()?;
            let task = task.unbind();
            Ok(Some(Self { task, number }))
        };
        asked().unwrap_or(None)
    }

    /// Nobody: a thread that blocks is known to no loop, and waits for nobody.
    pub(super) fn nobody(_py: Python<'_>) -> Option<Self> {
        None
    }

    /// Has the task keep a lease, until it gives it up or ends.
    pub(super) fn keep(&self, py: Python<'_>, lease: Lease) {
        let flights = lease.flights();
        if !lease.keep(self.number) {
            return;
        }
        let end = TaskEnd(Owned::new(Farewell {
            flights,
            task: self.number,
            said: AtomicBool::new(false),
        }));
        // One that cannot be added is dropped, and says that the task has left.
        if let Ok(end) = Bound::new(py, end) {
            let added = self
                .task
                .bind(py)
                .call_method1(intern!(py, "add_done_callback"), (end,));
            drop(added);
        }
    }
}

/// `asyncio.current_task` and `id`; found at first use.
pub(super) fn functions(py: Python<'_>) -> PyResult<(&Bound<'_, PyAny>, &Bound<'_, PyAny>)> {
    static CURRENT_TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static ID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current_task = CURRENT_TASK.import(py, "asyncio", "current_task")?;
    Ok((current_task, ID.import(py, "builtins", "id")?))
}

/// Says once that a task has left.
struct Farewell {
    flights: Arc<Flights>,
    task: u64,
    said: AtomicBool,
}

impl Farewell {
    fn say(&self) {
        if !self.said.swap(true, Relaxed) {
            self.flights.left(self.task);
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.say();
    }
}

/// The callback of a task that has held a lease. A task that is destroyed while it is pending takes
/// its callbacks along, which says the same. In a forked child it says nothing.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
struct TaskEnd(Owned<Farewell>);

#[pymethods]
impl TaskEnd {
    fn __call__(&self, _task: &Bound<'_, PyAny>) {
        observe_process();
        if let Some(farewell) = self.0.get() {
            farewell.say();
        }
    }
}

//! From the running event loop to its loop driver.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::event_loop::running_loop;
use super::integer_map::IntegerMap;
use super::loop_driver::{LoopDriver, Started};
use super::{Job, Process, caught, exit_gate};

/// The loop drivers of this process, by the address of their loop.
#[derive(Default)]
pub(super) struct LoopDrivers(Mutex<IntegerMap<usize, Entry>>);

struct Entry {
    /// An address may be used again once its loop is gone, so it proves nothing by itself.
    event_loop: Py<PyWeakrefReference>,
    driver: Py<LoopDriver>,
}

/// Runs a job on the running loop; the future that comes back holds its result.
pub(in crate::python) fn awaitable<E: Into<PyErr>>(
    py: Python<'_>,
    job: impl FnOnce() -> Result<Box<dyn Job>, E>,
) -> PyResult<Bound<'_, PyAny>> {
    caught(|| start(py, job().map_err(E::into)?))
}

fn start(py: Python<'_>, job: Box<dyn Job>) -> PyResult<Bound<'_, PyAny>> {
    let _pass = exit_gate::hold(py)?;
    let event_loop = running_loop(py)?;
    let driver = LoopDrivers::current(Process::observed(py)?).of(&event_loop)?;
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    match LoopDriver::start(&driver, &future, job)? {
        Started::Flush(ticket) => {
            let flush = driver.getattr(intern!(py, "flush"))?;
            if let Err(error) = event_loop.call_method1(intern!(py, "call_soon"), (flush,)) {
                driver.get().take_back(ticket);
                return Err(error);
            }
        }
        Started::Alone(ticket) => LoopDriver::await_leave(&driver, ticket, &future)?,
        Started::Enough => {}
    }
    Ok(future)
}

/// Locked only while attached to the interpreter and never across Python code, so it is free at every
/// `fork`.
static CURRENT: Mutex<Option<(&Process, &LoopDrivers)>> = Mutex::new(None);

impl LoopDrivers {
    /// Those of this process; a forked child has none of its parent's.
    fn current(process: &'static Process) -> &'static Self {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, drivers)) = *current
            && std::ptr::eq(known, process)
        {
            return drivers;
        }
        let drivers: &'static Self = Box::leak(Box::default());
        *current = Some((process, drivers));
        drivers
    }

    fn of<'py>(&'static self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, LoopDriver>> {
        let py = event_loop.py();
        let address = event_loop.as_ptr() as usize;
        let known = {
            let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entries
                .get(&address)
                .map(|entry| (entry.event_loop.clone_ref(py), entry.driver.clone_ref(py)))
        };
        if let Some((known_loop, driver)) = known
            && known_loop
                .bind(py)
                .upgrade()
                .is_some_and(|known_loop| known_loop.is(event_loop))
        {
            return Ok(driver.into_bound(py));
        }
        self.sweep(py);
        let driver = LoopDriver::new(event_loop, Process::observed(py)?)?;
        let entry = Entry {
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            driver: driver.clone().unbind(),
        };
        let replaced = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address, entry);
        drop(replaced);
        Ok(driver)
    }

    /// Lets go of the loop drivers of loops that are closed or gone, so that descriptors do not pile up.
    fn sweep(&self, py: Python<'_>) {
        // Asked with the list unlocked: `is_closed` is Python code, and other threads run with it.
        let known: Vec<_> = {
            let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = entries
                .iter()
                .map(|(address, entry)| (*address, entry.event_loop.clone_ref(py)));
            known.collect()
        };
        for (address, event_loop) in known {
            let serves = event_loop.bind(py).upgrade().is_some_and(|event_loop| {
                let closed = event_loop.call_method0(intern!(py, "is_closed"));
                !closed
                    .and_then(|closed| closed.is_truthy())
                    .unwrap_or(false)
            });
            if serves {
                continue;
            }
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let same = entries
                .get(&address)
                .is_some_and(|entry| entry.event_loop.is(&event_loop));
            let swept = if same { entries.remove(&address) } else { None };
            drop(entries);
            if let Some(entry) = swept {
                entry.driver.get().retire();
            }
        }
    }
}

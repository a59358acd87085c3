//! From the running event loop to its port.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::numbers::ByNumber;
use super::port::{Port, Started};
use super::{Job, Process, caught, gate};

/// The ports of this process, by the address of their loop.
#[derive(Default)]
pub(super) struct Ports(Mutex<ByNumber<usize, Entry>>);

struct Entry {
    /// An address may be used again once its loop is gone, so it proves nothing by itself.
    event_loop: Py<PyWeakrefReference>,
    port: Py<Port>,
}

/// Runs a job on the running loop; the future that comes back holds its result.
pub(in crate::python) fn awaitable<E: Into<PyErr>>(
    py: Python<'_>,
    job: impl FnOnce() -> Result<Box<dyn Job>, E>,
) -> PyResult<Bound<'_, PyAny>> {
    caught(|| start(py, job().map_err(E::into)?))
}

fn start(py: Python<'_>, job: Box<dyn Job>) -> PyResult<Bound<'_, PyAny>> {
    let _pass = gate::hold(py)?;
    let event_loop = running_loop(py)?;
    let port = Process::seen(py)?.ports.of(&event_loop)?;
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    match Port::start(&port, &future, job)? {
        Started::Flush(ticket) => {
            let flush = port.getattr(intern!(py, "flush"))?;
            if let Err(error) = event_loop.call_method1(intern!(py, "call_soon"), (flush,)) {
                port.get().take_back(ticket);
                return Err(error);
            }
        }
        Started::Alone(ticket) => Port::await_leave(&port, ticket, &future)?,
        Started::Enough => {}
    }
    Ok(future)
}

pub(super) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET_RUNNING_LOOP
        .import(py, "asyncio", "get_running_loop")?
        .call0()
}

impl Ports {
    fn of<'py>(&'static self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Port>> {
        let py = event_loop.py();
        let address = event_loop.as_ptr() as usize;
        let known = {
            let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entries
                .get(&address)
                .map(|entry| (entry.event_loop.clone_ref(py), entry.port.clone_ref(py)))
        };
        if let Some((known_loop, port)) = known
            && known_loop
                .bind(py)
                .upgrade()
                .is_some_and(|known_loop| known_loop.is(event_loop))
        {
            return Ok(port.into_bound(py));
        }
        self.sweep(py);
        let port = Port::new(event_loop, Process::seen(py)?)?;
        let entry = Entry {
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            port: port.clone().unbind(),
        };
        let replaced = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address, entry);
        drop(replaced);
        Ok(port)
    }

    /// Lets go of the ports of loops that are closed or gone, so that descriptors do not pile up.
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
                entry.port.get().retire();
            }
        }
    }
}

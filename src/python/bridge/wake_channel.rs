//! How the runtime wakes an event loop: a byte on a socket pair, or a thread-safe callback.

#[cfg(unix)]
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::{fd::AsRawFd, unix::net::UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyNotImplementedError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Process, exit_gate};

/// The bell of one loop. Rung from any thread, answered on the loop's.
pub(super) enum WakeChannel {
    /// The loop watches one end of a socket pair (`add_reader`); ringing takes no lock of Python's.
    #[cfg(unix)]
    Socket { ear: UnixStream, button: UnixStream },
    /// The loop watches no sockets of others, as Windows' Proactor does not: a thread takes the
    /// interpreter's lock and schedules a callback.
    Callback(Mutex<Option<Arc<Callback>>>),
}

pub(super) struct Callback {
    call_soon_threadsafe: Py<PyAny>,
    deliver: Py<PyAny>,
}

impl WakeChannel {
    /// A bell that the loop can hear, without who answers it.
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        #[cfg(unix)]
        if watches_sockets(event_loop)? {
            let (ear, button) = UnixStream::pair()?;
            ear.set_nonblocking(true)?;
            button.set_nonblocking(true)?;
            return Ok(Self::Socket { ear, button });
        }
        let _ = event_loop;
        Ok(Self::Callback(Mutex::new(None)))
    }

    /// Whether it is heard without the interpreter's lock.
    pub(super) fn is_socket(&self) -> bool {
        !matches!(self, Self::Callback(_))
    }

    /// From now on ringing has the loop call `deliver`.
    pub(super) fn attach(
        &self,
        event_loop: &Bound<'_, PyAny>,
        deliver: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        match self {
            #[cfg(unix)]
            Self::Socket { ear, .. } => {
                event_loop.call_method1(intern!(py, "add_reader"), (ear.as_raw_fd(), deliver))?;
            }
            Self::Callback(callback) => {
                let call_soon_threadsafe = event_loop
                    .getattr(intern!(py, "call_soon_threadsafe"))?
                    .unbind();
                let made = Callback {
                    call_soon_threadsafe,
                    deliver: deliver.unbind(),
                };
                *callback.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(made));
            }
        }
        Ok(())
    }

    /// Lets go of the loop, which is closed.
    pub(super) fn detach(&self) {
        if let Self::Callback(callback) = self {
            let made = callback
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(made);
        }
    }

    pub(super) fn signal(&self, process: &'static Process) {
        match self {
            #[cfg(unix)]
            Self::Socket { button, .. } => {
                // A full socket has bytes that still wake the loop, and one that fails has no loop.
                let _ = (&*button).write(&[1]);
            }
            Self::Callback(callback) => {
                let made = callback
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                if let Some(made) = made {
                    process.runtime.spawn_blocking(move || made.schedule());
                }
            }
        }
    }

    /// Takes the bytes that rang. Called on the loop's thread, before it looks what they rang for.
    pub(super) fn drain(&self) {
        #[cfg(unix)]
        if let Self::Socket { ear, .. } = self {
            let mut bytes = [0; 64];
            while matches!((&*ear).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        }
    }
}

impl Callback {
    fn schedule(self: Arc<Self>) {
        let Some(pass) = exit_gate::enter() else {
            // The interpreter is exiting: its objects are not to be touched, nor let go of.
            std::mem::forget(self);
            return;
        };
        Python::try_attach(move |py| {
            // A loop that was closed meanwhile has no one who waits.
            let _ = self.call_soon_threadsafe.call1(py, (&self.deliver,));
            // Held until here: the call writes to a socket, and attaches again after it.
            drop((self, pass));
        });
    }
}

/// Whether the loop has an `add_reader` that works: base classes have one that only raises.
#[cfg(unix)]
fn watches_sockets(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    let (_probe, other) = UnixStream::pair()?;
    let watched = event_loop.call_method1(
        intern!(py, "add_reader"),
        (other.as_raw_fd(), py.get_type::<pyo3::types::PyTuple>()),
    );
    match watched {
        Ok(_) => {
            event_loop.call_method1(intern!(py, "remove_reader"), (other.as_raw_fd(),))?;
            Ok(true)
        }
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => Ok(false),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(false),
        Err(error) => Err(error),
    }
}

//! What wakes an event loop: a socket that the loop watches, and word from other threads that a future can go on.

#[cfg(unix)]
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::{fd::AsRawFd, unix::net::UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};

use pyo3::exceptions::{PyAttributeError, PyNotImplementedError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::runtime_threads::Ringer;
use super::{Process, exit_gate, running_loop};
use crate::client::{Connection, Entered, Reactor, Waiting};
use crate::mutex::Mutex;

/// The direct connections of one event loop, and what the loop watches for them.
pub(super) struct SocketWatcher {
    pub(super) reactor: Arc<Reactor>,
    /// Whether the loop can watch sockets at all: without it there are no direct connections.
    watches: bool,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    connection: Arc<Connection>,
    /// Whether the loop also tells when the socket takes more.
    writing: bool,
}

impl SocketWatcher {
    pub(super) fn new(wake_channel: &WakeChannel) -> Self {
        Self {
            reactor: Reactor::new(Waiting::Never),
            watches: wake_channel.is_socket(),
            watched: Mutex::default(),
        }
    }

    /// The loop's futures send over its direct connections while the guard lives.
    pub(super) fn enter(&self) -> Option<Entered> {
        self.watches.then(|| self.reactor.enter())
    }

    /// Has the loop watch what is open now, and nothing else.
    #[cfg(unix)]
    pub(super) fn follow(&self, driver: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = driver.py();
        if self.reactor.has_changed() {
            let open = self.reactor.open_connections();
            let known = std::mem::take(&mut *self.watched.lock());
            let event_loop = running_loop(py)?;
            let (mut watched, gone): (Vec<_>, Vec<_>) = known
                .into_iter()
                .partition(|watched| !watched.connection.is_closed());
            let mut outcome = Ok(());
            let mut call = |name, arguments: Bound<'_, PyTuple>| {
                let called = event_loop.call_method1(name, arguments);
                let succeeded = called.is_ok();
                // What is left to watch, or not to watch any more, is seen to all the same.
                if let Err(error) = called
                    && outcome.is_ok()
                {
                    outcome = Err(error);
                }
                succeeded
            };
            for Watched {
                connection,
                writing,
            } in gone
            {
                // Before the descriptor is closed, and its number another socket's.
                let descriptor = (connection.descriptor(),).into_pyobject(py)?;
                call(intern!(py, "remove_reader"), descriptor.clone());
                if writing {
                    call(intern!(py, "remove_writer"), descriptor);
                }
            }
            let drive = driver.getattr(intern!(py, "drive"))?;
            for connection in open {
                if watched
                    .iter()
                    .any(|known| Arc::ptr_eq(&known.connection, &connection))
                {
                    continue;
                }
                let reader = (connection.descriptor(), &drive).into_pyobject(py)?;
                if call(intern!(py, "add_reader"), reader) {
                    let writing = false;
                    watched.push(Watched {
                        connection,
                        writing,
                    });
                } else {
                    connection.close(); // nobody would read from it
                }
            }
            *self.watched.lock() = watched;
            outcome?;
        }
        self.follow_writing(driver)
    }

    #[cfg(unix)]
    fn follow_writing(&self, driver: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = driver.py();
        let mut changes = Vec::new();
        for watched in &mut *self.watched.lock() {
            let writing = watched.connection.has_more_to_send();
            if writing != watched.writing {
                watched.writing = writing;
                changes.push((watched.connection.descriptor(), writing));
            }
        }
        for (descriptor, writing) in changes {
            let event_loop = running_loop(py)?;
            if writing {
                let drive = driver.getattr(intern!(py, "drive"))?;
                event_loop.call_method1(intern!(py, "add_writer"), (descriptor, drive))?;
            } else {
                event_loop.call_method1(intern!(py, "remove_writer"), (descriptor,))?;
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    pub(super) fn follow(&self, _port: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }
}

/// The waker of an event loop's futures: wakes the loop, unless its thread is looking anyway.
pub(super) struct LoopWaker {
    pub(super) wake_channel: WakeChannel,
    /// Whether the loop's thread went to sleep, or does something else.
    asleep: AtomicBool,
    /// Whether a future was woken since the thread last looked.
    woken: AtomicBool,
}

impl LoopWaker {
    pub(super) fn new(wake_channel: WakeChannel) -> Arc<Self> {
        Arc::new(Self {
            wake_channel,
            asleep: AtomicBool::new(true),
            woken: AtomicBool::new(false),
        })
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// The loop's thread looks at its futures: no one needs to wake it.
    pub(super) fn awake(&self) {
        self.asleep.store(false, SeqCst);
        self.woken.store(false, SeqCst);
    }

    /// The loop's thread is about to stop looking. False if it has to look once more.
    pub(super) fn sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        // Whoever woke a future in between has seen one of the two: it woke the loop, or this thread goes on.
        !(self.woken.swap(false, SeqCst) && self.asleep.swap(false, SeqCst))
    }

    /// Has the loop look again, after others had their turn.
    pub(super) fn signal(&self) {
        self.wake_channel.signal();
    }
}

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst) {
            self.signal();
        }
    }
}

/// How one loop is woken from any thread: a byte on a socket pair, or a thread-safe callback.
pub(super) enum WakeChannel {
    /// The loop watches one end of a socket pair (`add_reader`); ringing takes no lock of Python's.
    #[cfg(unix)]
    Socket { ear: UnixStream, button: UnixStream },
    /// The loop watches no sockets of others, as Windows' Proactor does not: a thread takes the
    /// interpreter's lock and schedules a callback.
    Callback {
        ringer: &'static Ringer,
        callback: Mutex<Option<Arc<Callback>>>,
    },
}

pub(super) struct Callback {
    call_soon_threadsafe: Py<PyAny>,
    deliver: Py<PyAny>,
}

impl WakeChannel {
    /// A way to wake the loop, which nobody answers yet: see [`Self::attach`].
    pub(super) fn new(event_loop: &Bound<'_, PyAny>, process: &'static Process) -> PyResult<Self> {
        #[cfg(unix)]
        if watches_sockets(event_loop)? {
            let (ear, button) = UnixStream::pair()?;
            ear.set_nonblocking(true)?;
            button.set_nonblocking(true)?;
            return Ok(Self::Socket { ear, button });
        }
        Ok(Self::Callback {
            ringer: process.ringer(event_loop.py())?,
            callback: Mutex::new(None),
        })
    }

    /// Whether it is heard without the interpreter's lock.
    pub(super) fn is_socket(&self) -> bool {
        !matches!(self, Self::Callback { .. })
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
            Self::Callback { callback, .. } => {
                let call_soon_threadsafe = event_loop
                    .getattr(intern!(py, "call_soon_threadsafe"))?
                    .unbind();
                let made = Callback {
                    call_soon_threadsafe,
                    deliver: deliver.unbind(),
                };
                *callback.lock() = Some(Arc::new(made));
            }
        }
        Ok(())
    }

    /// Lets go of the loop, which is closed.
    pub(super) fn detach(&self) {
        if let Self::Callback { callback, .. } = self {
            let made = callback.lock().take();
            drop(made);
        }
    }

    pub(super) fn signal(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket { button, .. } => {
                // A full socket has bytes that still wake the loop, and one that fails has no loop.
                let _ = (&*button).write(&[1]);
            }
            Self::Callback { ringer, callback } => {
                let made = callback.lock().clone();
                if let Some(made) = made {
                    ringer.run(move || made.schedule());
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
        (other.as_raw_fd(), py.get_type::<PyTuple>()),
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

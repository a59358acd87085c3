//! The direct connections of one event loop, and what the loop watches for them.

use std::sync::{Arc, Mutex};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::event_loop::running_loop;
use super::locked;
use super::wake_channel::WakeChannel;
use crate::client::{Connection, Entered, Reactor, Waiting};

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
            let known = std::mem::take(&mut *locked(&self.watched));
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
            *locked(&self.watched) = watched;
            outcome?;
        }
        self.follow_writing(driver)
    }

    #[cfg(unix)]
    fn follow_writing(&self, driver: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = driver.py();
        let mut changes = Vec::new();
        for watched in &mut *locked(&self.watched) {
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

    /// Ends the direct connections: their loop is closed.
    pub(super) fn close(&self) {
        let watched = std::mem::take(&mut *locked(&self.watched));
        for connection in self.reactor.connections() {
            connection.close();
        }
        drop((watched, self.reactor.open_connections()));
    }
}

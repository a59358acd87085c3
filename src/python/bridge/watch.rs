//! The lanes of one event loop, and what the loop watches for them.

use std::sync::{Arc, Mutex};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::doorbell::Doorbell;
use super::locked;
use super::port::Port;
use super::ports::running_loop;
use crate::connection::{Driver, Entered, Lane, Waiting};

pub(super) struct Watch {
    pub(super) driver: Arc<Driver>,
    /// Whether the loop can watch sockets at all: without it there are no lanes.
    watches: bool,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    lane: Arc<Lane>,
    /// Whether the loop also tells when the socket takes more.
    writing: bool,
}

impl Watch {
    pub(super) fn new(doorbell: &Doorbell) -> Self {
        Self {
            driver: Driver::new(Waiting::Never),
            watches: doorbell.is_socket(),
            watched: Mutex::default(),
        }
    }

    /// The loop's futures send over its lanes while the guard lives.
    pub(super) fn enter(&self) -> Option<Entered> {
        self.watches.then(|| self.driver.enter())
    }

    /// Has the loop watch what is open now, and nothing else.
    #[cfg(unix)]
    pub(super) fn follow(&self, port: &Bound<'_, Port>) -> PyResult<()> {
        let py = port.py();
        if self.driver.has_changed() {
            let open = self.driver.open_lanes();
            let known = std::mem::take(&mut *locked(&self.watched));
            let event_loop = running_loop(py)?;
            let (mut watched, gone): (Vec<_>, Vec<_>) = known
                .into_iter()
                .partition(|watched| !watched.lane.is_closed());
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
            for Watched { lane, writing } in gone {
                // Before the descriptor is closed, and its number another socket's.
                let descriptor = (lane.descriptor(),).into_pyobject(py)?;
                call(intern!(py, "remove_reader"), descriptor.clone());
                if writing {
                    call(intern!(py, "remove_writer"), descriptor);
                }
            }
            let drive = port.getattr(intern!(py, "drive"))?;
            for lane in open {
                if watched.iter().any(|known| Arc::ptr_eq(&known.lane, &lane)) {
                    continue;
                }
                let reader = (lane.descriptor(), &drive).into_pyobject(py)?;
                if call(intern!(py, "add_reader"), reader) {
                    let writing = false;
                    watched.push(Watched { lane, writing });
                } else {
                    lane.close(); // nobody would read from it
                }
            }
            *locked(&self.watched) = watched;
            outcome?;
        }
        self.follow_writing(port)
    }

    #[cfg(unix)]
    fn follow_writing(&self, port: &Bound<'_, Port>) -> PyResult<()> {
        let py = port.py();
        let mut changes = Vec::new();
        for watched in &mut *locked(&self.watched) {
            let writing = watched.lane.has_more_to_send();
            if writing != watched.writing {
                watched.writing = writing;
                changes.push((watched.lane.descriptor(), writing));
            }
        }
        for (descriptor, writing) in changes {
            let event_loop = running_loop(py)?;
            if writing {
                let drive = port.getattr(intern!(py, "drive"))?;
                event_loop.call_method1(intern!(py, "add_writer"), (descriptor, drive))?;
            } else {
                event_loop.call_method1(intern!(py, "remove_writer"), (descriptor,))?;
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    pub(super) fn follow(&self, _port: &Bound<'_, Port>) -> PyResult<()> {
        Ok(())
    }

    /// Ends the lanes: their loop is closed.
    pub(super) fn close(&self) {
        let watched = std::mem::take(&mut *locked(&self.watched));
        for lane in self.driver.lanes() {
            lane.close();
        }
        drop((watched, self.driver.open_lanes()));
    }
}

//! What belongs to one process: the runtime, the connections, the loop drivers of its event loops.
//!
//! A forked child has the memory of its parent but not its threads: a runtime without workers,
//! locks that nobody will release, sockets that are the parent's. So the child makes everything
//! anew and never touches, or drops, what it inherited.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::runtime_threads::{Ringer, runtime};
use crate::client::{SharedConnections, keep_keyspace_stats};
use crate::error::Error;
use crate::mutex::Mutex;
use crate::stack;

/// The state of this process. Leaked: it ends with the process, and a child's copy is inert.
pub(in crate::python) struct Process {
    id: ProcessId,
    /// Made by the first call for which the system gives the threads.
    runtime: OnceLock<Runtime>,
    /// Made for the first loop that needs it.
    ringer: OnceLock<Ringer>,
    pub(in crate::python) connections: SharedConnections,
    /// Milliseconds between two checks at what lies on the servers; 0 while nobody wants any.
    sample_every: AtomicU64,
    stats_begun: AtomicBool,
}

/// What tells a process from those that it was forked from: its number, and how many forks of Python's it is away
/// from the first. A child in another PID namespace may have its parent's number, and one that C code has forked was
/// not announced.
type ProcessId = u64;

static FORKS: AtomicU32 = AtomicU32::new(0);

fn process_id() -> ProcessId {
    u64::from(FORKS.load(Relaxed)) << 32 | u64::from(std::process::id())
}

/// This process when Python last called. To ask the system takes a few hundred nanoseconds, so it is asked once a
/// call.
static HERE: AtomicU64 = AtomicU64::new(0);

/// Asks which process this is, as everyone does who was just called by Python: it may have forked.
pub(in crate::python) fn observe_process() {
    HERE.store(process_id(), Relaxed);
}

/// This process is a child that Python has just forked; registered with `os.register_at_fork`.
#[pyfunction]
pub(in crate::python) fn note_fork() {
    FORKS.fetch_add(1, Relaxed);
}

/// Locked only while attached to the interpreter and never across Python code, so it is free at
/// every `fork`, which Python does attached too.
static CURRENT: Mutex<Option<&'static Process>> = Mutex::new(None);

impl Process {
    /// This process's state, made at first use and again in a forked child.
    pub(in crate::python) fn current(attached: Python<'_>) -> &'static Self {
        observe_process();
        Self::observed(attached)
    }

    /// This process's state, for who comes after [`observe_process`].
    pub(super) fn observed(_attached: Python<'_>) -> &'static Self {
        let mut current = CURRENT.lock();
        if let Some(process) = *current
            && process.is_current()
        {
            return process;
        }
        let process = stack::on_large_stack(Self::new);
        *current = Some(process);
        process
    }

    /// What its calls need.
    pub(super) fn runtime(&'static self, _attached: Python<'_>) -> Result<&'static Runtime, Error> {
        made_once(&self.runtime, || stack::on_large_stack(runtime))
    }

    /// What rings loops that watch no sockets.
    pub(super) fn ringer(&'static self, _attached: Python<'_>) -> io::Result<&'static Ringer> {
        made_once(&self.ringer, Ringer::start)
    }

    /// This process's state, if it was made.
    pub(super) fn made(_attached: Python<'_>) -> Option<&'static Self> {
        observe_process();
        let current = CURRENT.lock();
        current.filter(|process| process.is_current())
    }

    fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            id: HERE.load(Relaxed),
            runtime: OnceLock::new(),
            ringer: OnceLock::new(),
            connections: SharedConnections::default(),
            sample_every: AtomicU64::new(0),
            stats_begun: AtomicBool::new(false),
        }))
    }

    /// Has the servers looked at so often, in the background, from now on; zero is never.
    pub(in crate::python) fn keep_keyspace_stats(
        &'static self,
        attached: Python<'_>,
        every: Duration,
    ) -> Result<(), Error> {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        self.sample_every.store(every, Relaxed);
        if every == 0 {
            return Ok(());
        }
        let runtime = self.runtime(attached)?;
        if !self.stats_begun.swap(true, Relaxed) {
            let every = || match self.sample_every.load(Relaxed) {
                0 => None,
                milliseconds => Some(Duration::from_millis(milliseconds)),
            };
            stack::on_large_stack(|| runtime.spawn(keep_keyspace_stats(&self.connections, every)));
        }
        Ok(())
    }

    /// False in a forked child, for what it inherited.
    pub(super) fn is_current(&self) -> bool {
        self.id == HERE.load(Relaxed)
    }
}

/// What `make` gives, kept from the first time that it succeeds.
fn made_once<T, E>(
    kept: &'static OnceLock<T>,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<&'static T, E> {
    if let Some(made) = kept.get() {
        return Ok(made);
    }
    let _alone = CURRENT.lock();
    if let Some(made) = kept.get() {
        return Ok(made);
    }
    let new = make()?;
    Ok(kept.get_or_init(|| new))
}

/// Runs a future on the runtime's threads; None if it panicked. It ends with who waits for it.
pub(super) async fn apart<T: Send + 'static>(
    runtime: &'static Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    struct Ended<T>(JoinHandle<T>);
    impl<T> Drop for Ended<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = Ended(runtime.spawn(future));
    (&mut task.0).await.ok()
}

/// Something that only the process that made it may use or drop.
pub(in crate::python) struct Owned<T> {
    process: ProcessId,
    value: Option<T>,
}

impl<T> Owned<T> {
    pub(in crate::python) fn new(value: T) -> Self {
        Self {
            process: process_id(),
            value: Some(value),
        }
    }

    /// The value, or None in a forked child.
    pub(in crate::python) fn get(&self) -> Option<&T> {
        self.value
            .as_ref()
            .filter(|_| self.process == HERE.load(Relaxed))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process != process_id() {
            // Dropping it would wake tasks of a runtime that has no threads here.
            std::mem::forget(self.value.take());
        }
    }
}

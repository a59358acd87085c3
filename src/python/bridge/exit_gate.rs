//! The end of a process: what is still sent, and the moment after which no thread comes back to Python from a wait.
//!
//! A thread that attaches to an interpreter being finalized is ended by Python in the middle of
//! its Rust frames, which aborts the process. So everyone who is about to attach passes the gate,
//! and the `atexit` hook closes it and waits until those who passed are through.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::forkable_process::Process;
use crate::error::{Error, Kind};
use crate::store::LAST_ENTRIES;

static CLOSED: AtomicBool = AtomicBool::new(false);
static PASSING: AtomicUsize = AtomicUsize::new(0);

/// How long the exit waits for threads that are attaching: each needs the lock once.
const PATIENCE: Duration = Duration::from_millis(500);

/// The right to attach to the interpreter, to be held until attached.
pub(super) struct Pass(());

impl Drop for Pass {
    fn drop(&mut self) {
        PASSING.fetch_sub(1, SeqCst);
    }
}

/// A pass, unless the interpreter is exiting.
pub(super) fn enter() -> Option<Pass> {
    // Counted before the gate is looked at: the hook looks the other way round.
    PASSING.fetch_add(1, SeqCst);
    let pass = Pass(());
    (!is_closed()).then_some(pass)
}

/// A pass for a thread that is attached and will run Python code from Rust: switching threads
/// there is a way back into the interpreter too.
///
/// Too late, the main thread gets an error; any other stays where it is, as Python has it for
/// daemon threads.
pub(super) fn hold(py: Python<'_>) -> PyResult<Pass> {
    if let Some(pass) = enter() {
        return Ok(pass);
    }
    let threading = py.import("threading")?;
    let this = threading.call_method0("current_thread")?;
    if this.is(&threading.call_method0("main_thread")?) {
        let message = "the interpreter is exiting: no call can be made any more; an exit handler that makes one has to be registered after nano_graphrag_redis was imported";
        return Err(Error::new(Kind::Closed, message).into());
    }
    py.detach(|| park_for_ever())
}

fn is_closed() -> bool {
    CLOSED.load(SeqCst)
}

/// Lets no thread back into Python any more; registered with `atexit`.
#[pyfunction]
pub(in crate::python) fn close_at_exit(py: Python<'_>) {
    let process = Process::made(py);
    py.detach(|| {
        if let Some(process) = process {
            process.connections.drain(LAST_ENTRIES);
        }
        close();
    });
}

/// Closes the gate. To be called while detached, or the threads that passed cannot attach.
fn close() {
    CLOSED.store(true, SeqCst);
    let deadline = Instant::now() + PATIENCE;
    while PASSING.load(SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where a thread stays that came too late: the process is about to end.
pub(super) fn park_for_ever() -> ! {
    loop {
        thread::park();
    }
}

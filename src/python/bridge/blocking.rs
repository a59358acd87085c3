//! Blocking calls: the caller's thread waits, detached from Python, and stays interruptible.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::prelude::*;

use super::gate::{self, Pass};
use super::{Job, Process, Reply, Spawner, Step, Tasks, To, lost};

/// How often a waiting thread looks for signals: well under what a person notices after Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a job to its end on this thread. Works inside a running event loop too: the loop waits
/// with it, the runtime does not.
pub(in crate::python) fn block(
    py: Python<'_>,
    mut job: Box<dyn Job>,
) -> PyResult<Bound<'_, PyAny>> {
    let _pass = gate::hold(py)?;
    let (replies, mut inbox) = channel();
    let process = Process::current(py)?;
    // Dropped on the way out: a caller that was interrupted leaves nothing running behind.
    let spawner = Spawner::new(To::Caller { process, replies }, Tasks::default());
    let mut step = job.start(py, &spawner)?;
    loop {
        let reply = match step {
            Step::Done(value) => return Ok(value.into_bound(py)),
            Step::Again => Reply::Turn,
            Step::Wait => {
                let (reply, back) = wait(py, inbox)?;
                inbox = back;
                reply
            }
        };
        py.check_signals()?;
        if matches!(reply, Reply::Lost) {
            return Err(lost().into());
        }
        step = job.resume(py, &spawner, reply)?;
    }
}

/// The next reply, and the receiver back: it travels with the thread while that is detached.
fn wait(py: Python<'_>, mut replies: Receiver<Reply>) -> PyResult<(Reply, Receiver<Reply>)> {
    loop {
        // The pass is held until this thread is attached again.
        let (received, back, _pass) = py.detach(move || receive(replies));
        replies = back;
        match received {
            Ok(reply) => return Ok((reply, replies)),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(lost().into()),
        }
    }
}

fn receive(replies: Receiver<Reply>) -> (Result<Reply, RecvTimeoutError>, Receiver<Reply>, Pass) {
    let received = replies.recv_timeout(SIGNAL_INTERVAL);
    match gate::enter() {
        Some(pass) => (received, replies, pass),
        None => gate::park_for_ever(),
    }
}

//! Blocking calls: the caller's thread drives its own socket, detached from Python, and stays
//! interruptible.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use super::exit_gate::{self, Pass};
use super::{
    Completion, Futures, Job, Process, Spawner, Step, Tasks, To, advance, caught, fail, lost,
    unpanicked,
};
use crate::client::{DriveOutcome, Reactor, Waiting};
use crate::stack;

/// How often a waiting thread looks for signals: well under what a person notices after Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a read of the socket waits: a deadline is overshot by no more.
const READ_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a job to its end on this thread. Works inside a running event loop too: the loop waits
/// with it, the runtime does not.
pub(in crate::python) fn block<E: Into<PyErr>>(
    py: Python<'_>,
    job: impl FnOnce() -> Result<Box<dyn Job>, E>,
) -> PyResult<Bound<'_, PyAny>> {
    caught(|| run(py, job().map_err(E::into)?))
}

pub(super) fn run(py: Python<'_>, mut job: Box<dyn Job>) -> PyResult<Bound<'_, PyAny>> {
    let _pass = exit_gate::hold(py)?;
    let runtime = match Process::current(py).runtime(py) {
        Ok(runtime) => runtime,
        Err(error) => return Ok(fail(py, job.as_mut(), error)?.into_bound(py)),
    };
    let waiter = Waiter {
        runtime,
        reactor: Reactor::new(Waiting::AtMost(READ_INTERVAL)),
        waker: Waker::from(Arc::new(Unpark(thread::current()))),
    };
    let spawner = Spawner::new(
        To::Caller(RefCell::default()),
        job.as_ref(),
        Tasks::default(),
    );
    let mut step = advance(py, job.as_mut(), &spawner, None)?;
    loop {
        let completion = match step {
            Step::Done(value) => return Ok(value.into_bound(py)),
            Step::Again => Completion::Turn,
            Step::Wait => match unpanicked(|| waiter.wait(py, &spawner)) {
                Ok(completion) => completion?,
                Err(error) => Completion::Lost(error),
            },
        };
        py.check_signals()?;
        step = advance(py, job.as_mut(), &spawner, Some(completion))?;
    }
}

/// Wakes a thread that parks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A thread that blocks. A caller that is interrupted drops it, and what it waited for.
struct Waiter {
    runtime: &'static Runtime,
    reactor: Arc<Reactor>,
    waker: Waker,
}

impl Waiter {
    /// The next reply of the futures that were spawned.
    fn wait(&self, py: Python<'_>, spawner: &Spawner<'_>) -> PyResult<Completion> {
        let To::Caller(held) = &spawner.to else {
            return Err(lost().into());
        };
        // Taken out, since they travel with the thread while that is detached.
        let mut futures = held.take();
        loop {
            let (completion, back, _pass) =
                py.detach(move || stack::on_large_stack(|| self.receive(futures)));
            futures = back;
            match completion {
                Poll::Ready(completion) => {
                    *held.borrow_mut() = futures;
                    return completion.ok_or_else(|| lost().into());
                }
                Poll::Pending => py.check_signals()?,
            }
        }
    }

    /// Polls until there is a reply, or it is time to look for signals. The pass is to be held
    /// until this thread is attached again.
    fn receive(
        &self,
        mut futures: Futures<Completion>,
    ) -> (Poll<Option<Completion>>, Futures<Completion>, Pass) {
        let until = Instant::now() + SIGNAL_INTERVAL;
        let completion = loop {
            let polled = self.poll(&mut futures);
            if polled.is_ready() {
                break polled;
            }
            if self.reactor.drive() == DriveOutcome::NoConnections {
                thread::park_timeout(until.saturating_duration_since(Instant::now()));
            }
            if Instant::now() >= until {
                break self.poll(&mut futures);
            }
        };
        match exit_gate::enter() {
            Some(pass) => (completion, futures, pass),
            None => exit_gate::park_for_ever(),
        }
    }

    fn poll(&self, futures: &mut Futures<Completion>) -> Poll<Option<Completion>> {
        let _runtime = self.runtime.enter();
        let _driver = self.reactor.enter();
        futures.poll_next_unpin(&mut Context::from_waker(&self.waker))
    }
}

//! Rust futures -> Python awaitables and blocking calls. Nobody else knows runtimes, event loops,
//! the interpreter's lock, signals and fork.
//!
//! A [`Job`] is one call. It runs attached to Python, spawns futures, and is resumed with the
//! [`Completion`] of each. Futures are polled on the thread of their caller, who drives the sockets they
//! use: the event loop's own thread ([`loop_driver`]), or the thread that blocks ([`blocking`]). The
//! runtime keeps the time and the connections that are shared; its threads own no Python object
//! and never take the interpreter's lock: a thread of its own does, for loops that cannot watch a socket.

mod blocking;
mod exit_gate;
mod forkable_process;
mod loop_driver;
mod loop_wakeup;
mod pending_calls;
mod runtime_threads;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::exceptions::status_of;
use super::packed_strings::Packed;
use super::python_logging::report;
use crate::client::deadline;
use crate::error::{Error, Kind, Result};
use crate::local_single_flight::Landing;
use crate::metrics::Status;
use crate::panics;
use crate::stack::{self, NoStack};
use crate::store::{Batch, Call, KvStore, Swap};
pub(super) use blocking::block;
pub(super) use exit_gate::close_at_exit;
use forkable_process::apart;
pub(super) use forkable_process::{Owned, Process, note_fork, observe_process};
pub(super) use loop_driver::awaitable;

/// What came of a future that a job spawned.
pub(super) enum Completion {
    /// The value of one id.
    Found(Result<Option<Bytes>>),
    /// What became of waiting for the value of one id.
    Landed(Landing),
    /// The values of the batch of ids that starts at this index.
    FoundBatch(usize, Result<Vec<Result<Option<Bytes>>>>),
    /// Whether each id exists of the batch that starts at this index.
    Exists(usize, Result<Vec<bool>>),
    /// The outcome of the write of this id.
    Stored(String, Result<()>),
    /// The outcomes of the writes of these ids.
    StoredBatch(Vec<String>, Result<Vec<Result<()>>>),
    /// Every id.
    Ids(Result<Packed>),
    /// The right to replace all values.
    Swapping(Result<Swap>),
    /// The outcome of having replaced them.
    Swapped(Result<()>),
    /// The outcome of any other call.
    Done(Result<Convert>),
    /// Another turn was asked for.
    Turn,
    /// The future panicked.
    Lost(Error),
}

/// Makes the Python value of an outcome.
pub(super) type Convert = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What a job waits for.
pub(super) enum Step {
    /// The replies of what it spawned.
    Wait,
    /// Another turn, after others had theirs.
    Again,
    /// Nothing: this is the call's result.
    Done(Py<PyAny>),
}

/// One call, as the steps it takes on its caller's thread.
pub(super) trait Job: Send {
    /// What is counted of it.
    fn call(&self) -> &Call;
    /// The first step.
    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step>;
    /// The step after a reply.
    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step>;
    /// What the caller gets for a failure that ends the call, whatever it waits for: the error, unless the outage
    /// policy forgives it.
    fn fail(&mut self, _py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        Err(error.into())
    }
}

/// Takes a job a step on, the first one without a reply.
fn advance(
    py: Python<'_>,
    job: &mut dyn Job,
    spawn: &Spawner<'_>,
    completion: Option<Completion>,
) -> PyResult<Step> {
    let step = unpanicked(|| match completion {
        Some(Completion::Lost(error)) => Err(error),
        Some(completion) => Ok(job.resume(py, spawn, completion)),
        None => Ok(job.start(py, spawn)),
    });
    let step = match step.flatten() {
        Ok(step) => step,
        Err(error) => return fail(py, job, error).map(Step::Done),
    };
    match &step {
        Ok(Step::Wait | Step::Again) => {}
        Ok(Step::Done(_)) => end(py, job, Status::Ok),
        Err(error) => end(py, job, status_of(py, error)),
    }
    step
}

/// Ends a job that cannot go on.
fn fail(py: Python<'_>, job: &mut dyn Job, error: Error) -> PyResult<Py<PyAny>> {
    let error = error.in_namespace(&job.call().config().namespace);
    let given = job.fail(py, error);
    let status = given.as_ref().err().map(|error| status_of(py, error));
    end(py, job, status.unwrap_or(Status::Ok));
    given
}

/// The one place where a call is seen to end.
fn end(py: Python<'_>, job: &dyn Job, status: Status) {
    job.call().end(status);
    // A handler of the application that raises does not change what has come of the call.
    if let Err(error) = report(py, job.call()) {
        error.write_unraisable(py, None);
    }
}

/// Where a job's futures run and where their replies go.
pub(super) struct Spawner<'a> {
    to: To<'a>,
    /// How long each step of the job may take.
    limit: Duration,
    tasks: RefCell<Tasks>,
    batched: Cell<bool>,
}

enum To<'a> {
    /// The job of this ticket on an event loop.
    Loop {
        driver: &'a loop_driver::LoopDriver,
        ticket: u64,
    },
    /// The thread that blocks.
    Caller(RefCell<Futures<Completion>>),
}

/// Futures that one thread polls.
type Futures<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The futures of one job, ended with it: for a caller that is gone nothing more is sent.
#[derive(Default)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl<'a> Spawner<'a> {
    fn new(to: To<'a>, job: &dyn Job, tasks: Tasks) -> Self {
        Self {
            to,
            limit: job.call().config().server.operation_timeout,
            tasks: RefCell::new(tasks),
            batched: Cell::new(false),
        }
    }

    /// Whether nobody else of the caller's thread goes on meanwhile.
    pub(super) fn blocks(&self) -> bool {
        matches!(self.to, To::Caller(_))
    }

    /// Has a future polled; its reply resumes the job. It is made here, where there is stack for it:
    /// a future takes tens of kilobytes wherever it is moved through.
    pub(super) fn run<F>(&self, make: impl FnOnce() -> F)
    where
        F: Future<Output = Completion> + Send + 'static,
    {
        stack::on_large_stack(|| match &self.to {
            To::Loop { driver, ticket } => {
                let (task, registration) = AbortHandle::new_pair();
                driver.run(*ticket, Abortable::new(self.kept(make()), registration));
                self.tasks.borrow_mut().0.push(task);
            }
            // Dropped with its caller's call.
            To::Caller(futures) => futures.borrow_mut().push(Box::pin(self.kept(make()))),
        });
    }

    /// Has a future polled that moves many values. Where they are compressed, which takes longer than
    /// an event loop may be kept waiting, the runtime's threads poll it.
    pub(super) fn run_batch<F>(&self, store: &Arc<KvStore>, make: impl FnOnce() -> F)
    where
        F: Future<Output = Completion> + Send + 'static,
    {
        if store.compresses() {
            self.run_apart(make);
        } else {
            self.run(make);
        }
    }

    /// Has a future polled that takes a processor's time: by the runtime's threads, if it is a loop
    /// that would have to wait.
    pub(super) fn run_apart<F>(&self, make: impl FnOnce() -> F)
    where
        F: Future<Output = Completion> + Send + 'static,
    {
        match &self.to {
            To::Loop { driver, .. } => self.run(|| {
                let apart = apart(driver.runtime(), self.kept(make()));
                async { apart.await.unwrap_or_else(|| Completion::Lost(lost())) }
            }),
            To::Caller(_) => self.run(make),
        }
    }

    /// The future's reply, within the deadline; one that panics must not leave its caller waiting.
    fn kept<F>(&self, future: F) -> impl Future<Output = Completion> + Send + use<F>
    where
        F: Future<Output = Completion> + Send,
    {
        let reply = AssertUnwindSafe(deadline::within(self.limit, future)).catch_unwind();
        reply.map(|reply| reply.unwrap_or_else(|payload| Completion::Lost(error_of(&*payload))))
    }

    /// Drops what may take long to free: memory that the runtime's threads have allocated.
    pub(super) fn drop_apart<T: Send + 'static>(&self, value: T) {
        if let To::Loop { driver, .. } = &self.to {
            driver.runtime().spawn(async move { drop(value) });
        }
    }

    /// Reads one id; a loop gathers the reads of one turn.
    pub(super) fn read(&self, store: &Arc<KvStore>, id: String) {
        match &self.to {
            To::Loop { driver, ticket } => {
                self.batched.set(true);
                driver.batch_read(*ticket, store, id);
            }
            To::Caller(_) => {
                let store = Arc::clone(store);
                self.run(move || async move { Completion::Found(store.get(&id).await) });
            }
        }
    }

    /// Writes a batch of one id; a loop gathers the writes of one turn.
    pub(super) fn write(&self, store: &Arc<KvStore>, only: Batch) {
        match &self.to {
            To::Loop { driver, ticket } => {
                self.batched.set(true);
                driver.batch_write(*ticket, store, only);
            }
            To::Caller(_) => {
                let store = Arc::clone(store);
                self.run(move || async move {
                    let (ids, outcomes) = store.upsert(only).await;
                    Completion::StoredBatch(ids, outcomes)
                });
            }
        }
    }
}

/// Runs what Python has called. To Python a panic is an error like any other, not an exception that
/// passes every `except Exception`.
pub(super) fn caught<T>(call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    unpanicked(call)?
}

/// What the call gives, or the error of its panic.
fn unpanicked<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| error_of(&*payload))
}

fn error_of(payload: &(dyn Any + Send)) -> Error {
    if payload.is::<NoStack>() {
        NoStack::error()
    } else {
        panics::no_memory(payload).unwrap_or_else(lost)
    }
}

/// The event loop that runs on this thread.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    get_running_loop(py)?.call0()
}

/// The function that tells; found at first use.
pub(super) fn get_running_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET_RUNNING_LOOP.import(py, "asyncio", "get_running_loop")
}

fn lost() -> Error {
    let message = "the call ended in a panic, which is a bug of this library: please report it";
    Error::new(Kind::Operation, message)
}

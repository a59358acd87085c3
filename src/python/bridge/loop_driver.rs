//! One loop driver per event loop: calls made together leave together, and the loop's own thread polls what
//! they wait for, drives the sockets it comes over, and delivers it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use futures_util::future::Abortable;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::batching::Completions;
use super::loop_waker::LoopWaker;
use super::pending_calls::{Call, PendingCalls};
use super::socket_watcher::SocketWatcher;
use super::wake_channel::WakeChannel;
use super::{
    Completion, Job, Owned, Process, Spawner, Step, Tasks, To, advance, caught, exit_gate, locked,
    lost, process,
};
use crate::client::DriveOutcome;
use crate::stack;
use crate::store::{Batch, KvStore};

/// How often at most it is read to catch up with what came while the loop did other work.
const CATCH_UP: usize = 64;
/// How often a direct connection is read, a buffer at a time, before the loop goes on to others.
const READS: usize = 4;

/// What is left to do for a call that was started.
pub(super) enum Started {
    /// The loop driver is to be flushed at the end of this turn, for this job and those that follow.
    Flush(u64),
    /// The job has futures of its own, to be ended should its caller leave.
    Alone(u64),
    /// Nothing.
    Enough,
}

/// The end of the bridge that belongs to one event loop.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct LoopDriver {
    process: &'static Process,
    loop_waker: Arc<LoopWaker>,
    waker: Waker,
    watcher: Owned<SocketWatcher>,
    /// Locked on the loop's thread only, and never across Python code.
    state: Owned<Mutex<PendingCalls>>,
}

#[pymethods]
impl LoopDriver {
    /// Delivers what others have woken it for. Called by the loop when its wake channel is readable.
    fn deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::observe_process();
            let driver = slf.get();
            let Some(state) = driver.state.get() else {
                return Ok(()); // a forked child that runs its parent's loop: the completions are not its own
            };
            let _pass = exit_gate::hold(slf.py())?;
            driver.loop_waker.wake_channel.drain();
            if let Some(watcher) = driver.watcher.get() {
                // A deadline that passed while the loop did other work is met by what has come since.
                for _ in 0..CATCH_UP {
                    if stack::on_large_stack(|| watcher.reactor.drive()) != DriveOutcome::MoreToRead
                    {
                        break;
                    }
                }
            }
            let again = std::mem::take(&mut locked(state).again);
            let completions = again.into_iter().map(|ticket| (ticket, Completion::Turn));
            driver.turn(slf, completions.collect())
        })
    }

    /// Moves bytes, and delivers what they bring. Called by the loop when a direct connection is ready.
    fn drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::observe_process();
            let driver = slf.get();
            let Some(watcher) = driver.watcher.get() else {
                return Ok(());
            };
            let _pass = exit_gate::hold(slf.py())?;
            for _ in 0..READS {
                let outcome = stack::on_large_stack(|| watcher.reactor.drive());
                driver.turn(slf, Vec::new())?;
                if outcome != DriveOutcome::MoreToRead {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Sends what was batched in this turn. Called by the loop.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::observe_process();
            let driver = slf.get();
            if driver.state.get().is_none() {
                return Ok(());
            }
            let _pass = exit_gate::hold(slf.py())?;
            driver.with_state(PendingCalls::end_turn);
            driver.turn(slf, Vec::new())
        })
    }

    /// Ends the job of a future that is done. Called by the loop, and for most of them too late.
    #[pyo3(signature = (ticket, _future))]
    fn leave(&self, ticket: u64, _future: &Bound<'_, PyAny>) {
        process::observe_process();
        let call = self
            .state
            .get()
            .and_then(|state| locked(state).waiting.remove(&ticket));
        drop(call);
    }
}

impl LoopDriver {
    /// A loop driver for this loop, which calls it back from now on.
    pub(super) fn new<'py>(
        event_loop: &Bound<'py, PyAny>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let loop_waker = LoopWaker::new(process, WakeChannel::new(event_loop)?);
        let driver = Self {
            process,
            waker: loop_waker.waker(),
            watcher: Owned::new(SocketWatcher::new(&loop_waker.wake_channel)),
            loop_waker,
            state: Owned::new(Mutex::default()),
        };
        let driver = Bound::new(py, driver)?;
        let deliver = driver.getattr(intern!(py, "deliver"))?;
        driver
            .get()
            .loop_waker
            .wake_channel
            .attach(event_loop, deliver)?;
        Ok(driver)
    }

    /// Starts a job whose result `future` will hold.
    pub(super) fn start(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, PyAny>,
        job: Box<dyn Job>,
    ) -> PyResult<Started> {
        let driver = slf.get();
        let state = driver.state()?;
        let ticket = {
            let mut state = locked(state);
            state.last_ticket += 1;
            state.last_ticket
        };
        driver.step(
            slf,
            ticket,
            Call {
                future: future.clone().unbind(),
                job,
                tasks: Tasks::default(),
                batched: false,
            },
            None,
        )?;
        let mut held = locked(state);
        if held.is_early() {
            drop(held);
            driver.turn(slf, Vec::new())?;
            return Ok(Started::Enough);
        }
        let batched = !(held.reads.is_empty() && held.writes.is_empty());
        if batched && !std::mem::replace(&mut held.flush_asked, true) {
            return Ok(Started::Flush(ticket));
        }
        let alone = held.waiting.get(&ticket).is_some_and(|call| !call.batched);
        drop(held);
        if !alone {
            return Ok(Started::Enough);
        }
        // Polled at once: what needs no waiting is done, and the rest is on its way.
        driver.turn(slf, Vec::new())?;
        Ok(Started::Alone(ticket))
    }

    /// Has the job of this ticket end once `future` is done, should its caller leave.
    pub(super) fn await_leave(
        slf: &Bound<'_, Self>,
        ticket: u64,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        static PARTIAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let leave = slf.getattr(intern!(py, "leave"))?;
        let leave = PARTIAL
            .import(py, "functools", "partial")?
            .call1((leave, ticket))?;
        future.call_method1(intern!(py, "add_done_callback"), (leave,))?;
        Ok(())
    }

    /// Takes back a call whose flush could not be scheduled: the next one asks for it again.
    pub(super) fn take_back(&self, ticket: u64) {
        let Some(state) = self.state.get() else {
            return;
        };
        let mut state = locked(state);
        state.flush_asked = false;
        state.reads.remove(ticket);
        state.writes.remove(ticket);
        let call = state.waiting.remove(&ticket);
        drop(state);
        drop(call);
    }

    fn state(&self) -> PyResult<&Mutex<PendingCalls>> {
        self.state.get().ok_or_else(|| lost().into())
    }

    /// Delivers these completions, and goes on until nothing more can be done without waiting.
    fn turn(&self, this: &Bound<'_, Self>, mut completions: Completions) -> PyResult<()> {
        let py = this.py();
        let state = self.state()?;
        // Others' results wait in the same batch: they get theirs before it goes on its way.
        let mut interrupt = None;
        loop {
            for (ticket, completion) in completions {
                let call = locked(state).waiting.remove(&ticket);
                // A lease is not given to a caller that has gone: dropped, it goes to the next.
                if let Some(call) = call
                    && !(matches!(completion, Completion::Landed(_)) && is_done(py, &call.future))
                    && let Err(error) = self.step(this, ticket, call, Some(completion))
                {
                    interrupt.get_or_insert(error);
                }
            }
            self.loop_waker.awake();
            completions = stack::on_large_stack(|| {
                locked(state).send_batches(self.process);
                self.poll(state)
            });
            if completions.is_empty() && self.loop_waker.sleep() {
                break;
            }
        }
        if let Some(watcher) = self.watcher.get() {
            watcher.follow(this.as_any())?;
        }
        interrupt.map_or(Ok(()), Err)
    }

    /// What the futures have brought. They run no Python code, so they are polled with the list
    /// locked.
    fn poll(&self, state: &Mutex<PendingCalls>) -> Completions {
        let _runtime = self.process.runtime.enter();
        let reactor = self.watcher.get().and_then(SocketWatcher::enter);
        let mut completions = Vec::new();
        let mut held = locked(state);
        let context = &mut Context::from_waker(&self.waker);
        while let Poll::Ready(Some(arrived)) = held.futures.poll_next_unpin(context) {
            completions.extend(arrived);
        }
        drop(held);
        drop(reactor);
        if let Some(watcher) = self.watcher.get() {
            watcher.reactor.send();
        }
        completions
    }

    fn step(
        &self,
        this: &Bound<'_, Self>,
        ticket: u64,
        mut call: Call,
        completion: Option<Completion>,
    ) -> PyResult<()> {
        let py = this.py();
        let tasks = std::mem::take(&mut call.tasks);
        let spawner = Spawner::new(
            To::Loop {
                driver: self,
                ticket,
            },
            tasks,
        );
        let job = &mut call.job;
        // A panic is one call's, not that of those whose completions came with it.
        let step = caught(|| advance(py, job.as_mut(), &spawner, completion));
        call.batched |= spawner.batched.get();
        call.tasks = spawner.tasks.into_inner();
        let result = match step {
            Ok(Step::Done(value)) => Ok(value),
            Err(error) => Err(error),
            Ok(waits) => {
                if call.batched && !call.tasks.0.is_empty() {
                    // It was batched with others, and goes on alone.
                    call.batched = false;
                    Self::await_leave(this, ticket, call.future.bind(py))?;
                }
                let mut state = locked(self.state()?);
                state.waiting.insert(ticket, call);
                if matches!(waits, Step::Again) {
                    state.again.push(ticket);
                    drop(state);
                    self.loop_waker.signal();
                }
                return Ok(());
            }
        };
        settle(py, &call.future, &result)
    }

    pub(super) fn batch_read(&self, ticket: u64, store: &Arc<KvStore>, id: String) {
        self.with_state(|state| state.reads.add(ticket, store, id));
    }

    pub(super) fn batch_write(&self, ticket: u64, store: &Arc<KvStore>, only: Batch) {
        self.with_state(|state| state.writes.add(ticket, store, only));
    }

    pub(super) fn process(&self) -> &'static Process {
        self.process
    }

    /// Has a future polled for the job of this ticket.
    pub(super) fn run<F>(&self, ticket: u64, future: Abortable<F>)
    where
        F: Future<Output = Completion> + Send + 'static,
    {
        let completions = async move {
            let completion = future.await.ok();
            completion
                .map(|completion| (ticket, completion))
                .into_iter()
                .collect()
        };
        self.with_state(|state| state.futures.push(Box::pin(completions)));
    }

    fn with_state(&self, change: impl FnOnce(&mut PendingCalls)) {
        if let Some(state) = self.state.get() {
            change(&mut locked(state));
        }
    }

    /// Lets go of the loop, which is closed.
    pub(super) fn retire(&self) {
        self.loop_waker.wake_channel.detach();
        if let Some(watcher) = self.watcher.get() {
            watcher.close();
        }
        self.with_state(|calls| calls.futures.clear());
    }
}

/// Whether a future needs no result any more.
fn is_done(py: Python<'_>, future: &Py<PyAny>) -> bool {
    let done = future.bind(py).call_method0(intern!(py, "done"));
    done.and_then(|done| done.is_truthy()).unwrap_or(false)
}

/// Gives the future its result, unless its caller has gone away. An interrupt that comes in
/// between is handed back once the result is given.
fn settle(py: Python<'_>, future: &Py<PyAny>, result: &PyResult<Py<PyAny>>) -> PyResult<()> {
    let future = future.bind(py);
    let give = || -> PyResult<()> {
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match result {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.value(py),))?,
        };
        Ok(())
    };
    match give() {
        Ok(()) => Ok(()),
        Err(error) if error.is_instance_of::<PyException>(py) => {
            error.write_unraisable(py, Some(future));
            Ok(())
        }
        Err(interrupt) => give().and(Err(interrupt)),
    }
}

//! One port per event loop: calls made together leave together, and the loop's own thread polls what
//! they wait for, drives the sockets it comes over, and delivers it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use futures_util::future::Abortable;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::bell::Bell;
use super::calls::{Call, Calls, Letters};
use super::doorbell::Doorbell;
use super::watch::Watch;
use super::{
    Job, Owned, Process, Reply, Spawner, Step, Tasks, To, advance, caught, gate, locked, lost,
    process,
};
use crate::connection::Driven;
use crate::stack;
use crate::store::{Batch, KvStore};

/// How often at most it is read to catch up with what came while the loop did other work.
const CATCH_UP: usize = 64;
/// How often a lane is read, a buffer at a time, before the loop goes on to others.
const READS: usize = 4;

/// What is left to do for a call that was started.
pub(super) enum Started {
    /// The port is to be flushed at the end of this turn, for this job and those that follow.
    Flush(u64),
    /// The job has futures of its own, to be ended should its caller leave.
    Alone(u64),
    /// Nothing.
    Enough,
}

/// The end of the bridge that belongs to one event loop.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct Port {
    process: &'static Process,
    bell: Arc<Bell>,
    waker: Waker,
    watch: Owned<Watch>,
    /// Locked on the loop's thread only, and never across Python code.
    state: Owned<Mutex<Calls>>,
}

#[pymethods]
impl Port {
    /// Delivers what others have woken it for. Called by the loop when the bell rang.
    fn deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::look();
            let port = slf.get();
            let Some(state) = port.state.get() else {
                return Ok(()); // a forked child that runs its parent's loop: the letters are not its own
            };
            let _pass = gate::hold(slf.py())?;
            port.bell.doorbell.silence();
            if let Some(watch) = port.watch.get() {
                // A deadline that passed while the loop did other work is met by what has come since.
                for _ in 0..CATCH_UP {
                    if stack::roomy(|| watch.driver.drive()) != Driven::Partly {
                        break;
                    }
                }
            }
            let again = std::mem::take(&mut locked(state).again);
            let letters = again.into_iter().map(|ticket| (ticket, Reply::Turn));
            port.turn(slf, letters.collect())
        })
    }

    /// Moves bytes, and delivers what they bring. Called by the loop when a lane is ready.
    fn drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::look();
            let port = slf.get();
            let Some(watch) = port.watch.get() else {
                return Ok(());
            };
            let _pass = gate::hold(slf.py())?;
            for _ in 0..READS {
                let driven = stack::roomy(|| watch.driver.drive());
                port.turn(slf, Vec::new())?;
                if driven != Driven::Partly {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Sends what was gathered in this turn. Called by the loop.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            process::look();
            let port = slf.get();
            if port.state.get().is_none() {
                return Ok(());
            }
            let _pass = gate::hold(slf.py())?;
            port.with_state(Calls::end_turn);
            port.turn(slf, Vec::new())
        })
    }

    /// Ends the job of a future that is done. Called by the loop, and for most of them too late.
    #[pyo3(signature = (ticket, _future))]
    fn leave(&self, ticket: u64, _future: &Bound<'_, PyAny>) {
        process::look();
        let call = self
            .state
            .get()
            .and_then(|state| locked(state).waiting.remove(&ticket));
        drop(call);
    }
}

impl Port {
    /// A port for this loop, which calls it back from now on.
    pub(super) fn new<'py>(
        event_loop: &Bound<'py, PyAny>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let bell = Bell::new(process, Doorbell::new(event_loop)?);
        let port = Self {
            process,
            waker: bell.waker(),
            watch: Owned::new(Watch::new(&bell.doorbell)),
            bell,
            state: Owned::new(Mutex::default()),
        };
        let port = Bound::new(py, port)?;
        let deliver = port.getattr(intern!(py, "deliver"))?;
        port.get().bell.doorbell.hang(event_loop, deliver)?;
        Ok(port)
    }

    /// Starts a job whose result `future` will hold.
    pub(super) fn start(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, PyAny>,
        job: Box<dyn Job>,
    ) -> PyResult<Started> {
        let port = slf.get();
        let state = port.state()?;
        let ticket = {
            let mut state = locked(state);
            state.last_ticket += 1;
            state.last_ticket
        };
        port.step(
            slf,
            ticket,
            Call {
                future: future.clone().unbind(),
                job,
                tasks: Tasks::default(),
                gathered: false,
            },
            None,
        )?;
        let mut held = locked(state);
        if held.is_early() {
            drop(held);
            port.turn(slf, Vec::new())?;
            return Ok(Started::Enough);
        }
        let gathered = !(held.reads.is_empty() && held.writes.is_empty());
        if gathered && !std::mem::replace(&mut held.flush_asked, true) {
            return Ok(Started::Flush(ticket));
        }
        let alone = held.waiting.get(&ticket).is_some_and(|call| !call.gathered);
        drop(held);
        if !alone {
            return Ok(Started::Enough);
        }
        // Polled at once: what needs no waiting is done, and the rest is on its way.
        port.turn(slf, Vec::new())?;
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

    fn state(&self) -> PyResult<&Mutex<Calls>> {
        self.state.get().ok_or_else(|| lost().into())
    }

    /// Delivers these letters, and goes on until nothing more can be done without waiting.
    fn turn(&self, this: &Bound<'_, Self>, mut letters: Letters) -> PyResult<()> {
        let py = this.py();
        let state = self.state()?;
        // Others' results wait in the same batch: they get theirs before it goes on its way.
        let mut interrupt = None;
        loop {
            for (ticket, reply) in letters {
                let call = locked(state).waiting.remove(&ticket);
                // A lease is not given to a caller that has gone: dropped, it goes to the next.
                if let Some(call) = call
                    && !(matches!(reply, Reply::Landed(_)) && is_done(py, &call.future))
                    && let Err(error) = self.step(this, ticket, call, Some(reply))
                {
                    interrupt.get_or_insert(error);
                }
            }
            self.bell.awake();
            letters = stack::roomy(|| {
                locked(state).send_gathered(self.process);
                self.poll(state)
            });
            if letters.is_empty() && self.bell.sleep() {
                break;
            }
        }
        if let Some(watch) = self.watch.get() {
            watch.follow(this)?;
        }
        interrupt.map_or(Ok(()), Err)
    }

    /// What the futures have brought. They run no Python code, so they are polled with the list
    /// locked.
    fn poll(&self, state: &Mutex<Calls>) -> Letters {
        let _runtime = self.process.runtime.enter();
        let driver = self.watch.get().and_then(Watch::enter);
        let mut letters = Vec::new();
        let mut held = locked(state);
        let context = &mut Context::from_waker(&self.waker);
        while let Poll::Ready(Some(arrived)) = held.futures.poll_next_unpin(context) {
            letters.extend(arrived);
        }
        drop(held);
        drop(driver);
        if let Some(watch) = self.watch.get() {
            watch.driver.send();
        }
        letters
    }

    fn step(
        &self,
        this: &Bound<'_, Self>,
        ticket: u64,
        mut call: Call,
        reply: Option<Reply>,
    ) -> PyResult<()> {
        let py = this.py();
        let tasks = std::mem::take(&mut call.tasks);
        let spawner = Spawner::new(To::Loop { port: self, ticket }, tasks);
        let job = &mut call.job;
        // A panic is one call's, not that of those whose letters came with it.
        let step = caught(|| advance(py, job.as_mut(), &spawner, reply));
        call.gathered |= spawner.gathered.get();
        call.tasks = spawner.tasks.into_inner();
        let result = match step {
            Ok(Step::Done(value)) => Ok(value),
            Err(error) => Err(error),
            Ok(waits) => {
                if call.gathered && !call.tasks.0.is_empty() {
                    // It was gathered with others, and goes on alone.
                    call.gathered = false;
                    Self::await_leave(this, ticket, call.future.bind(py))?;
                }
                let mut state = locked(self.state()?);
                state.waiting.insert(ticket, call);
                if matches!(waits, Step::Again) {
                    state.again.push(ticket);
                    drop(state);
                    self.bell.ring();
                }
                return Ok(());
            }
        };
        settle(py, &call.future, &result)
    }

    pub(super) fn gather_read(&self, ticket: u64, store: &Arc<KvStore>, id: String) {
        self.with_state(|state| state.reads.add(ticket, store, id));
    }

    pub(super) fn gather_write(&self, ticket: u64, store: &Arc<KvStore>, only: Batch) {
        self.with_state(|state| state.writes.add(ticket, store, only));
    }

    pub(super) fn process(&self) -> &'static Process {
        self.process
    }

    /// Has a future polled for the job of this ticket.
    pub(super) fn run<F>(&self, ticket: u64, future: Abortable<F>)
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let letters = async move {
            let reply = future.await.ok();
            reply.map(|reply| (ticket, reply)).into_iter().collect()
        };
        self.with_state(|state| state.futures.push(Box::pin(letters)));
    }

    fn with_state(&self, change: impl FnOnce(&mut Calls)) {
        if let Some(state) = self.state.get() {
            change(&mut locked(state));
        }
    }

    /// Lets go of the loop, which is closed.
    pub(super) fn retire(&self) {
        self.bell.doorbell.take_down();
        if let Some(watch) = self.watch.get() {
            watch.close();
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

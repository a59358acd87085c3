//! One loop driver per event loop: calls made together leave together, and the loop's own thread polls what
//! they wait for, drives the sockets it comes over, and delivers it.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use futures_util::future::Abortable;
use pyo3::exceptions::{PyException, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use tokio::runtime::Runtime;

use super::loop_wakeup::{LoopWaker, SocketWatcher, WakeChannel};
use super::pending_calls::{Call, Completions, IntegerMap, PendingCalls};
use super::{
    Completion, Job, Owned, Process, Spawner, Step, Tasks, To, advance, blocking, caught,
    exit_gate, fail, lost, observe_process, running_loop, unpanicked,
};
use crate::client::DriveOutcome;
use crate::mutex::Mutex;
use crate::stack;
use crate::store::{Batch, KvStore};

/// How often at most it is read to catch up with what came while the loop did other work.
const CATCH_UP: usize = 64;
/// How often a direct connection is read, a buffer at a time, before the loop goes on to others.
const READS: usize = 4;

/// Runs a job on the running loop; the future that comes back holds its result.
pub(in crate::python) fn awaitable<E: Into<PyErr>>(
    py: Python<'_>,
    job: impl FnOnce() -> Result<Box<dyn Job>, E>,
) -> PyResult<Bound<'_, PyAny>> {
    caught(|| start(py, job().map_err(E::into)?))
}

fn start(py: Python<'_>, job: Box<dyn Job>) -> PyResult<Bound<'_, PyAny>> {
    let _pass = exit_gate::hold(py)?;
    let event_loop = running_loop(py)?;
    let driver = LoopDrivers::current(Process::observed(py)).of(&event_loop);
    let future = event_loop.call_method0(intern!(py, "create_future"))?;
    match driver {
        Ok(driver) => LoopDriver::start(&driver, &event_loop, &future, job)?,
        // At the limit of descriptors or threads. The loop waits with the call, which fails as a rule, as its outage
        // policy has it.
        Err(error) if error.is_instance_of::<PyOSError>(py) => {
            let (method, outcome) = match blocking::run(py, job) {
                Ok(value) => (intern!(py, "set_result"), value),
                Err(error) => {
                    let error = error.into_value(py).into_bound(py);
                    (intern!(py, "set_exception"), error.into_any())
                }
            };
            future.call_method1(method, (outcome,))?;
        }
        Err(error) => return Err(error),
    }
    Ok(future)
}

/// The end of the bridge that belongs to one event loop. The callbacks that the loop holds own it, so that
/// a loop that is closed lets go of it, of the calls left in it and of their connections.
#[pyclass(frozen, weakref, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct LoopDriver {
    runtime: &'static Runtime,
    loop_waker: Arc<LoopWaker>,
    waker: Waker,
    watcher: Owned<SocketWatcher>,
    state: State,
}

/// Locked on the loop's thread only, and never across Python code.
type State = Arc<Owned<Mutex<PendingCalls>>>;

/// Ends the job of a future that is done. Called by the loop, and for most of them too late. Keeps no
/// driver: the driver keeps the future that keeps this.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
struct Leave {
    state: Weak<Owned<Mutex<PendingCalls>>>,
    ticket: u64,
}

#[pymethods]
impl Leave {
    #[pyo3(signature = (_future))]
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        observe_process();
        if let Some(state) = self.state.upgrade() {
            let calls = state.get();
            let call = calls.and_then(|calls| calls.lock().waiting.remove(&self.ticket));
            drop(call);
        }
    }
}

#[pymethods]
impl LoopDriver {
    /// Delivers what others have woken it for. Called by the loop when its wake channel is readable.
    fn deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            observe_process();
            let driver = slf.get();
            let Some(state) = driver.state.get() else {
                return Ok(()); // a forked child that runs its parent's loop: the completions are not its own
            };
            let _pass = exit_gate::hold(slf.py())?;
            driver.loop_waker.wake_channel.drain();
            driver.loop_waker.awake();
            if let Some(watcher) = driver.watcher.get() {
                // A deadline that passed while the loop did other work is met by what has come since.
                for _ in 0..CATCH_UP {
                    let outcome = driver.with_stack(slf.py(), || watcher.reactor.drive());
                    if outcome != Some(DriveOutcome::MoreToRead) {
                        break;
                    }
                }
            }
            let again = std::mem::take(&mut state.lock().again);
            let completions = again.into_iter().map(|ticket| (ticket, Completion::Turn));
            driver.turn(slf, completions.collect())
        })
    }

    /// Moves bytes, and delivers what they bring. Called by the loop when a direct connection is ready.
    fn drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            observe_process();
            let driver = slf.get();
            let Some(watcher) = driver.watcher.get() else {
                return Ok(());
            };
            let _pass = exit_gate::hold(slf.py())?;
            for _ in 0..READS {
                // What the answers wake is polled by the turn: the loop is not to be rung for it.
                driver.loop_waker.awake();
                let outcome = driver.with_stack(slf.py(), || watcher.reactor.drive());
                driver.turn(slf, Vec::new())?;
                if outcome != Some(DriveOutcome::MoreToRead) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Sends what was batched in this turn. Called by the loop.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        caught(|| {
            observe_process();
            let driver = slf.get();
            if driver.state.get().is_none() {
                return Ok(());
            }
            let _pass = exit_gate::hold(slf.py())?;
            driver.with_state(PendingCalls::end_turn);
            driver.turn(slf, Vec::new())
        })
    }
}

impl LoopDriver {
    /// A loop driver for this loop, which calls it back from now on.
    fn new<'py>(
        event_loop: &Bound<'py, PyAny>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let runtime = process.runtime(py)?;
        let loop_waker = LoopWaker::new(WakeChannel::new(event_loop, process)?);
        let driver = Self {
            runtime,
            waker: loop_waker.waker(),
            watcher: Owned::new(SocketWatcher::new(&loop_waker.wake_channel)),
            loop_waker,
            state: Arc::new(Owned::new(Mutex::default())),
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
    fn start(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, PyAny>,
        future: &Bound<'_, PyAny>,
        job: Box<dyn Job>,
    ) -> PyResult<()> {
        let driver = slf.get();
        let state = driver.state()?;
        let ticket = {
            let mut state = state.lock();
            state.last_ticket += 1;
            state.last_ticket
        };
        let call = Call {
            future: future.clone().unbind(),
            job,
            tasks: Tasks::default(),
            batched: false,
        };
        driver.step(slf, ticket, call, None)?;
        let mut held = state.lock();
        // One that is alone on its loop, as the one before it was, leaves at once: a pass of the loop before the flush.
        if held.is_early(ticket) {
            drop(held);
            return driver.turn(slf, Vec::new());
        }
        let batched = !(held.reads.is_empty() && held.writes.is_empty());
        if batched && !std::mem::replace(&mut held.flush_asked, true) {
            drop(held);
            let flush = slf.getattr(intern!(slf.py(), "flush"))?;
            let asked = event_loop.call_method1(intern!(slf.py(), "call_soon"), (flush,));
            if asked.is_err() {
                driver.take_back(ticket);
            }
            return asked.map(drop);
        }
        let alone = held.waiting.get(&ticket).is_some_and(|call| !call.batched);
        drop(held);
        if alone {
            // Polled at once: what needs no waiting is done, and the rest is on its way.
            driver.turn(slf, Vec::new())?;
            driver.await_leave(ticket, future)?;
        }
        Ok(())
    }

    /// Has the job of this ticket end once `future` is done, should its caller leave.
    fn await_leave(&self, ticket: u64, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = Arc::downgrade(&self.state);
        let leave = Leave { state, ticket };
        future.call_method1(intern!(future.py(), "add_done_callback"), (leave,))?;
        Ok(())
    }

    /// Takes back a call whose flush could not be scheduled: the next one asks for it again.
    fn take_back(&self, ticket: u64) {
        let Some(state) = self.state.get() else {
            return;
        };
        let mut state = state.lock();
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
                let call = state.lock().waiting.remove(&ticket);
                // A lease is not given to a caller that has gone: dropped, it goes to the next.
                if let Some(call) = call
                    && !(matches!(completion, Completion::Landed(_)) && is_done(py, &call.future))
                    && let Err(error) = self.step(this, ticket, call, Some(completion))
                {
                    interrupt.get_or_insert(error);
                }
            }
            self.loop_waker.awake();
            let polled = self.with_stack(py, || {
                state.lock().send_batches(self.runtime);
                self.poll(state)
            });
            completions = polled.unwrap_or_default();
            if completions.is_empty() && self.loop_waker.sleep() {
                break;
            }
        }
        if let Some(watcher) = self.watcher.get() {
            watcher.follow(this.as_any())?;
        }
        interrupt.map_or(Ok(()), Err)
    }

    /// Does work that needs a large stack. Where there is none, everybody who waits is told: nobody
    /// would wake them.
    fn with_stack<T>(&self, py: Python<'_>, work: impl FnOnce() -> T) -> Option<T> {
        let error = match unpanicked(|| stack::on_large_stack(work)) {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        let mut waiting = Vec::new();
        self.with_state(|state| waiting.extend(state.waiting.drain()));
        for (_, mut call) in waiting {
            let result = caught(|| fail(py, call.job.as_mut(), error.clone()));
            // An interrupt that comes meanwhile is another call's to raise.
            let _ = settle(py, &call.future, &result);
        }
        None
    }

    /// What the futures have brought. They run no Python code, so they are polled with the list
    /// locked.
    fn poll(&self, state: &Mutex<PendingCalls>) -> Completions {
        let _runtime = self.runtime.enter();
        let reactor = self.watcher.get().and_then(SocketWatcher::enter);
        let mut completions = Vec::new();
        let mut held = state.lock();
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
            call.job.as_ref(),
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
                    self.await_leave(ticket, call.future.bind(py))?;
                }
                let mut state = self.state()?.lock();
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

    pub(super) fn runtime(&self) -> &'static Runtime {
        self.runtime
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
            change(&mut state.lock());
        }
    }

    /// Lets go of a loop that is closed and holds no callback of this driver.
    fn retire(&self) {
        self.loop_waker.wake_channel.detach();
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

/// The loop drivers of this process, by the address of their loop.
#[derive(Default)]
struct LoopDrivers(Mutex<IntegerMap<usize, Entry>>);

struct Entry {
    /// An address may be used again once its loop is gone, so it proves nothing by itself.
    event_loop: Py<PyWeakrefReference>,
    /// The loop owns its driver, by the callbacks that it holds.
    driver: Py<PyWeakrefReference>,
}

/// Locked only while attached to the interpreter and never across Python code, so it is free at every
/// `fork`.
static CURRENT: Mutex<Option<(&Process, &LoopDrivers)>> = Mutex::new(None);

impl LoopDrivers {
    /// Those of this process; a forked child has none of its parent's.
    fn current(process: &'static Process) -> &'static Self {
        let mut current = CURRENT.lock();
        if let Some((known, drivers)) = *current
            && std::ptr::eq(known, process)
        {
            return drivers;
        }
        let drivers: &'static Self = Box::leak(Box::default());
        *current = Some((process, drivers));
        drivers
    }

    fn of<'py>(&'static self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, LoopDriver>> {
        let py = event_loop.py();
        let address = event_loop.as_ptr() as usize;
        let known = self
            .0
            .lock()
            .get(&address)
            .map(|entry| (entry.event_loop.clone_ref(py), entry.driver.clone_ref(py)));
        if let Some((known_loop, driver)) = known
            && let Some(known_loop) = known_loop.bind(py).upgrade()
            && known_loop.is(event_loop)
            && let Some(driver) = driver.bind(py).upgrade_as()?
        {
            return Ok(driver);
        }
        self.sweep(py);
        let driver = LoopDriver::new(event_loop, Process::observed(py))?;
        let entry = Entry {
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            driver: PyWeakrefReference::new(driver.as_any())?.unbind(),
        };
        let replaced = self.0.lock().insert(address, entry);
        drop(replaced);
        Ok(driver)
    }

    /// Forgets the drivers of loops that are closed or gone. One that its loop holds by no callback lets go
    /// of what it has only here.
    fn sweep(&self, py: Python<'_>) {
        // Asked with the list unlocked: `is_closed` is Python code, and other threads run with it.
        let known: Vec<_> = {
            let entries = self.0.lock();
            let known = entries
                .iter()
                .map(|(address, entry)| (*address, entry.event_loop.clone_ref(py)));
            known.collect()
        };
        for (address, event_loop) in known {
            let serves = event_loop.bind(py).upgrade().is_some_and(|event_loop| {
                let closed = event_loop.call_method0(intern!(py, "is_closed"));
                !closed
                    .and_then(|closed| closed.is_truthy())
                    .unwrap_or(false)
            });
            if serves {
                continue;
            }
            let mut entries = self.0.lock();
            let same = entries
                .get(&address)
                .is_some_and(|entry| entry.event_loop.is(&event_loop));
            let swept = if same { entries.remove(&address) } else { None };
            drop(entries);
            let driver = swept.and_then(|entry| entry.driver(py));
            if let Some(driver) = driver {
                driver.get().retire();
            }
        }
    }
}

impl Entry {
    fn driver<'py>(&self, py: Python<'py>) -> Option<Bound<'py, LoopDriver>> {
        self.driver.bind(py).upgrade_as().ok().flatten()
    }
}

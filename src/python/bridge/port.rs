//! One port per event loop: calls made together leave together, and what comes back is delivered
//! in batches on the loop's own thread.
//!
//! The runtime's threads put letters into the [`Inbox`] and ring once for as many as arrive until
//! the loop's thread empties it: one wake-up, one callback, any number of results.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use super::doorbell::Doorbell;
use super::gather::Gathered;
use super::inbox::{Inbox, locked};
use super::{Job, Process, Reply, Spawner, Step, Tasks, To, gate, lost, or_lost};
use crate::store::KvStore;

/// A call whose result the future will hold.
struct Waiting {
    future: Py<PyAny>,
    job: Box<dyn Job>,
    tasks: Tasks,
    /// Whether it waits in a request shared with others, which its caller's leaving cannot end.
    gathered: bool,
}

/// What is left to do for a call that was started.
pub(super) enum Started {
    /// The port is to be flushed at the end of this turn, for this job and those that follow.
    Flush(u64),
    /// The job has futures of its own, to be ended should its caller leave.
    Alone(u64),
    /// Nothing.
    Enough,
}

#[derive(Default)]
struct State {
    /// Never used twice, so that a late reply finds nobody rather than somebody else.
    last_ticket: u64,
    waiting: HashMap<u64, Waiting>,
    reads: Gathered<String>,
    writes: Gathered<(String, Vec<u8>)>,
    flush_asked: bool,
}

/// The end of the bridge that belongs to one event loop.
#[pyclass(frozen, module = "nano_graphrag_redis._core")]
pub(in crate::python) struct Port {
    process: &'static Process,
    inbox: Arc<Inbox>,
    /// Locked on the loop's thread only, and never across Python code.
    state: Mutex<State>,
}

#[pymethods]
impl Port {
    /// Delivers what has arrived. Called by the loop.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        if !self.process.is_current() {
            return Ok(()); // a forked child that runs its parent's loop: the letters are not its own
        }
        let _pass = gate::hold(py)?;
        // Others' results wait in the same batch: they get theirs before it goes on its way.
        let mut interrupt = None;
        for (ticket, reply) in self.inbox.take() {
            let waiting = locked(&self.state).waiting.remove(&ticket);
            if let Some(waiting) = waiting
                && let Err(error) = self.step(py, ticket, waiting, Some(reply))
            {
                interrupt.get_or_insert(error);
            }
        }
        self.flush();
        interrupt.map_or(Ok(()), Err)
    }

    /// Ends the job of a future that is done. Called by the loop, and for most of them too late.
    #[pyo3(signature = (ticket, _future))]
    fn leave(&self, ticket: u64, _future: &Bound<'_, PyAny>) {
        let waiting = locked(&self.state).waiting.remove(&ticket);
        drop(waiting);
    }

    /// Sends what was gathered in this turn. Called by the loop.
    fn flush(&self) {
        let mut state = locked(&self.state);
        state.flush_asked = false;
        let (reads, writes) = (state.reads.take(), state.writes.take());
        drop(state);
        reads.send(
            self.process,
            &self.inbox,
            |_| 0,
            |store, ids| async move {
                let values = store.get_piece(&ids).await;
                each(values, ids.len())
                    .map(Reply::Found)
                    .collect::<Vec<_>>()
            },
        );
        writes.send(
            self.process,
            &self.inbox,
            |(_, json)| json.len(),
            |store, items| async move {
                let outcomes = store.put_piece(&items).await;
                each(outcomes, items.len())
                    .map(Reply::Stored)
                    .collect::<Vec<_>>()
            },
        );
    }
}

impl Port {
    /// A port for this loop, which calls it back from now on.
    pub(super) fn new<'py>(
        event_loop: &Bound<'py, PyAny>,
        process: &'static Process,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let inbox = Inbox::new(process, Doorbell::new(event_loop)?);
        let port = Self {
            process,
            inbox: Arc::new(inbox),
            state: Mutex::default(),
        };
        let port = Bound::new(py, port)?;
        let deliver = port.getattr(intern!(py, "deliver"))?;
        port.get().inbox.doorbell().hang(event_loop, deliver)?;
        Ok(port)
    }

    /// Starts a job whose result `future` will hold.
    pub(super) fn start(
        &self,
        py: Python<'_>,
        future: &Bound<'_, PyAny>,
        job: Box<dyn Job>,
    ) -> PyResult<Started> {
        let ticket = {
            let mut state = locked(&self.state);
            state.last_ticket += 1;
            state.last_ticket
        };
        self.step(
            py,
            ticket,
            Waiting {
                future: future.clone().unbind(),
                job,
                tasks: Tasks::default(),
                gathered: false,
            },
            None,
        )?;
        let mut state = locked(&self.state);
        let gathered = !(state.reads.is_empty() && state.writes.is_empty());
        if gathered && !std::mem::replace(&mut state.flush_asked, true) {
            return Ok(Started::Flush(ticket));
        }
        Ok(match state.waiting.get(&ticket) {
            Some(waiting) if !waiting.gathered => Started::Alone(ticket),
            _ => Started::Enough,
        })
    }

    /// Takes back a call whose flush could not be scheduled: the next one asks for it again.
    pub(super) fn take_back(&self, ticket: u64) {
        let mut state = locked(&self.state);
        state.flush_asked = false;
        state.reads.remove(ticket);
        state.writes.remove(ticket);
        let waiting = state.waiting.remove(&ticket);
        drop(state);
        drop(waiting);
    }

    fn step(
        &self,
        py: Python<'_>,
        ticket: u64,
        mut waiting: Waiting,
        reply: Option<Reply>,
    ) -> PyResult<()> {
        let tasks = std::mem::take(&mut waiting.tasks);
        let spawner = Spawner::new(To::Loop { port: self, ticket }, tasks);
        let job = &mut waiting.job;
        // A panic is one call's, not that of those whose letters came with it.
        let step = catch_unwind(AssertUnwindSafe(|| match reply {
            Some(Reply::Lost) => Err(lost().into()),
            Some(reply) => job.resume(py, &spawner, reply),
            None => job.start(py, &spawner),
        }));
        waiting.gathered |= spawner.gathered.get();
        waiting.tasks = spawner.tasks.into_inner();
        let result = match step.unwrap_or_else(|_| Err(lost().into())) {
            Ok(Step::Done(value)) => Ok(value),
            Err(error) => Err(error),
            Ok(waits) => {
                locked(&self.state).waiting.insert(ticket, waiting);
                if matches!(waits, Step::Again) {
                    self.inbox.put([(ticket, Reply::Turn)]);
                }
                return Ok(());
            }
        };
        settle(py, &waiting.future, &result)
    }

    pub(super) fn gather_read(&self, ticket: u64, store: &Arc<KvStore>, id: String) {
        locked(&self.state).reads.add(ticket, store, id);
    }

    pub(super) fn gather_write(&self, ticket: u64, store: &Arc<KvStore>, item: (String, Vec<u8>)) {
        locked(&self.state).writes.add(ticket, store, item);
    }

    pub(super) fn run(
        &self,
        ticket: u64,
        future: impl Future<Output = Reply> + Send + 'static,
    ) -> AbortHandle {
        let inbox = Arc::clone(&self.inbox);
        let answer = async move { inbox.put([(ticket, or_lost(future).await)]) };
        self.process.runtime.spawn(answer).abort_handle()
    }

    /// Lets go of the loop, which is closed.
    pub(super) fn retire(&self) {
        self.inbox.doorbell().take_down();
    }
}

/// The outcomes of a piece, one for each of its items; a failed piece fails each.
pub(super) fn each<T>(
    outcomes: crate::error::Result<Vec<crate::error::Result<T>>>,
    count: usize,
) -> impl Iterator<Item = crate::error::Result<T>> {
    let (outcomes, error) = match outcomes {
        Ok(outcomes) => (outcomes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    outcomes
        .into_iter()
        .chain(error.into_iter().cycle().take(count).map(Err))
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

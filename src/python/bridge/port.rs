//! One port per event loop: calls made together leave together, and what comes back is delivered
//! in batches on the loop's own thread.
//!
//! The runtime's threads put letters into the [`Inbox`] and ring once for as many as arrive until
//! the loop's thread empties it: one wake-up, one callback, any number of results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use super::doorbell::Doorbell;
use super::gather::Gathered;
use super::{Job, Process, Reply, Spawner, Step, Tasks, To, gate, lost, or_lost};
use crate::store::KvStore;

/// A reply, and the ticket of the job it is for.
pub(super) type Letter = (u64, Reply);

/// The letters that wait for the loop's thread.
pub(super) struct Inbox {
    process: &'static Process,
    letters: Mutex<Vec<Letter>>,
    doorbell: Doorbell,
}

impl Inbox {
    pub(super) fn put(&self, new: impl IntoIterator<Item = Letter>) {
        let mut letters = locked(&self.letters);
        let was_empty = letters.is_empty();
        letters.extend(new);
        drop(letters);
        if was_empty {
            self.doorbell.ring(self.process);
        }
    }
}

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
    /// The port is to be flushed at the end of this turn.
    Flush,
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
        self.inbox.doorbell.silence();
        let letters = std::mem::take(&mut *locked(&self.inbox.letters));
        for (ticket, reply) in letters {
            let waiting = locked(&self.state).waiting.remove(&ticket);
            if let Some(waiting) = waiting {
                self.step(py, ticket, waiting, Some(reply));
            }
        }
        self.flush();
        Ok(())
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
        let inbox = Inbox {
            process,
            letters: Mutex::default(),
            doorbell: Doorbell::new(event_loop)?,
        };
        let port = Self {
            process,
            inbox: Arc::new(inbox),
            state: Mutex::default(),
        };
        let port = Bound::new(py, port)?;
        let deliver = port.getattr(intern!(py, "deliver"))?;
        port.get().inbox.doorbell.hang(event_loop, deliver)?;
        Ok(port)
    }

    /// Starts a job whose result `future` will hold.
    pub(super) fn start(
        &self,
        py: Python<'_>,
        future: &Bound<'_, PyAny>,
        job: Box<dyn Job>,
    ) -> Started {
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
        );
        let mut state = locked(&self.state);
        let gathered = !(state.reads.is_empty() && state.writes.is_empty());
        if gathered && !std::mem::replace(&mut state.flush_asked, true) {
            return Started::Flush;
        }
        match state.waiting.get(&ticket) {
            Some(waiting) if !waiting.gathered => Started::Alone(ticket),
            _ => Started::Enough,
        }
    }

    fn step(&self, py: Python<'_>, ticket: u64, mut waiting: Waiting, reply: Option<Reply>) {
        let tasks = std::mem::take(&mut waiting.tasks);
        let spawner = Spawner::new(To::Loop { port: self, ticket }, tasks);
        let step = match reply {
            Some(Reply::Lost) => Err(lost().into()),
            Some(reply) => waiting.job.resume(py, &spawner, reply),
            None => waiting.job.start(py, &spawner),
        };
        waiting.gathered |= spawner.gathered.get();
        waiting.tasks = spawner.tasks.into_inner();
        match step {
            Ok(Step::Done(value)) => settle(py, &waiting.future, Ok(value)),
            Err(error) => settle(py, &waiting.future, Err(error)),
            Ok(Step::Again) => {
                locked(&self.state).waiting.insert(ticket, waiting);
                self.inbox.put([(ticket, Reply::Turn)]);
            }
            Ok(Step::Wait) => {
                locked(&self.state).waiting.insert(ticket, waiting);
            }
        }
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
        self.inbox.doorbell.take_down();
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

/// Gives the future its result, unless its caller has gone away.
fn settle(py: Python<'_>, future: &Py<PyAny>, result: PyResult<Py<PyAny>>) {
    let future = future.bind(py);
    let settled = future
        .call_method0(intern!(py, "done"))
        .and_then(|done| match result {
            _ if done.is_truthy()? => Ok(()),
            Ok(value) => future
                .call_method1(intern!(py, "set_result"), (value,))
                .map(drop),
            Err(error) => future
                .call_method1(intern!(py, "set_exception"), (error.into_value(py),))
                .map(drop),
        });
    if let Err(error) = settled {
        // Others' results wait in the same batch: this one is reported and they go on.
        error.write_unraisable(py, Some(future));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

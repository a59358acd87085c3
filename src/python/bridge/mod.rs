//! Rust futures -> Python awaitables and blocking calls. Nobody else knows runtimes, event loops,
//! the interpreter's lock, signals and fork.
//!
//! A [`Job`] is one call. It runs attached to Python, spawns futures onto the runtime, and is
//! resumed with the [`Reply`] of each on the thread of its caller: the event loop's own thread
//! ([`port`]), or the thread that blocks ([`blocking`]). The runtime's threads own no Python
//! object and, but for loops that cannot watch a socket, never take the interpreter's lock.

mod blocking;
mod doorbell;
mod gate;
mod gather;
mod port;
mod ports;
mod process;

use std::sync::Arc;
use std::sync::mpsc::Sender;

use pyo3::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::store::KvStore;
pub(super) use blocking::block;
pub(super) use ports::awaitable;
pub(super) use process::{Owned, Process};

/// What came of a future that a job spawned.
pub(super) enum Reply {
    /// The value of one id.
    Found(Result<Option<Vec<u8>>>),
    /// The values of the piece of ids that starts at this index.
    FoundPiece(usize, Result<Vec<Result<Option<Vec<u8>>>>>),
    /// The outcome of one write.
    Stored(Result<()>),
    /// The outcomes of the writes of these ids.
    StoredPiece(Vec<String>, Result<Vec<Result<()>>>),
    /// The outcome of any other call.
    Done(Result<Convert>),
    /// Another turn was asked for.
    Turn,
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
    /// The first step.
    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step>;
    /// The step after a reply.
    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step>;
}

/// Where a job's futures run and where their replies go.
pub(super) enum Spawner<'a> {
    /// To the job of this ticket on an event loop.
    Loop { port: &'a port::Port, ticket: u64 },
    /// To the thread that blocks.
    Caller {
        process: &'static Process,
        replies: Sender<Reply>,
    },
}

impl Spawner<'_> {
    /// Runs a future on the runtime; its reply resumes the job.
    pub(super) fn run(&self, future: impl Future<Output = Reply> + Send + 'static) {
        match self {
            Self::Loop { port, ticket } => port.run(*ticket, future),
            Self::Caller { process, replies } => {
                let replies = replies.clone();
                // A caller that was interrupted is not there to hear it.
                process
                    .runtime
                    .spawn(async move { drop(replies.send(future.await)) });
            }
        }
    }

    /// Reads one id; a loop gathers the reads of one turn.
    pub(super) fn read(&self, store: &Arc<KvStore>, id: String) {
        match self {
            Self::Loop { port, ticket } => port.gather_read(*ticket, store, id),
            Self::Caller { .. } => {
                let store = Arc::clone(store);
                self.run(async move { Reply::Found(store.get(&id).await) });
            }
        }
    }

    /// Writes one id; a loop gathers the writes of one turn.
    pub(super) fn write(&self, store: &Arc<KvStore>, item: (String, Vec<u8>)) {
        match self {
            Self::Loop { port, ticket } => port.gather_write(*ticket, store, item),
            Self::Caller { .. } => {
                let store = Arc::clone(store);
                self.run(async move {
                    let outcome = store.put_piece(&[item]).await;
                    Reply::Stored(outcome.and_then(|each| each.into_iter().collect()))
                });
            }
        }
    }
}

fn exiting() -> Error {
    Error::new(
        Kind::Closed,
        "the interpreter is exiting: no call can be made any more",
    )
}

/// Lets no thread back into Python any more; registered with `atexit`.
#[pyfunction]
pub(super) fn close_at_exit(py: Python<'_>) {
    py.detach(gate::close);
}

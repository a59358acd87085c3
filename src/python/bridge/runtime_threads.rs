//! The runtime and its threads: how many there are, and what is done where the system gives fewer.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Kind, Result};
use crate::mutex::Mutex;
use crate::panics;

const NAME: &str = "nano-graphrag-redis";
/// Threads that drive sockets. One Redis connection fills about one core.
const MAX_WORKERS: usize = 2;
/// Threads for host name look-ups and for files. They are made when they are needed. A name whose server is silent keeps
/// two for as long as the system asks: others still have one.
const BLOCKING_THREADS: usize = 6;
/// How long the system may count a thread that has ended.
const LEAVING: Duration = Duration::from_millis(5);

/// One with as many threads as the cores can use and the system gives.
pub(super) fn runtime() -> Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let given = threads_given(cores.min(MAX_WORKERS) + 1);
    let made = if given < 2 {
        Err(format!("{given} of the 2 that calls need"))
    } else {
        started(given - 1).or_else(|_| {
            thread::sleep(LEAVING);
            started(1)
        })
    };
    made.map_err(|why| {
        let message = format!(
            "too few threads could be started ({why}): raise the limit of processes (ulimit -u, the container's pids limit) or of memory"
        );
        Error::new(Kind::Unavailable, message)
    })
}

/// A thread that rings loops. It waits for the interpreter's lock, as none of the runtime's may, and not in line with
/// what reads files and looks up names, which may be stuck.
pub(super) struct Ringer(Sender<Box<dyn FnOnce() + Send>>);

impl Ringer {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, asked) = channel::<Box<dyn FnOnce() + Send>>();
        let serve = move || {
            for ring in asked {
                let _ = catch_unwind(AssertUnwindSafe(ring));
            }
        };
        let thread = thread::Builder::new().name(NAME.to_owned());
        thread.spawn(serve)?;
        Ok(Self(sender))
    }

    pub(super) fn run(&self, ring: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Box::new(ring));
    }
}

/// How many of so many threads the system gives this process at once. Tokio cannot be asked: where it
/// gets too few, those that it has started stay.
fn threads_given(wanted: usize) -> usize {
    let gate = Mutex::new(());
    let given = thread::scope(|scope| {
        let held = gate.lock();
        let start = |_| {
            thread::Builder::new()
                .spawn_scoped(scope, || drop(gate.lock()))
                .ok()
        };
        let threads: Vec<_> = (0..wanted).map_while(start).collect();
        drop(held);
        let given = threads.len();
        for thread in threads {
            let _ = thread.join();
        }
        given
    });
    if given < wanted {
        thread::sleep(LEAVING);
    }
    given
}

/// A runtime whose every thread that it cannot do without runs. Where the system gives too few, as in
/// a container at its limit of processes, tokio panics.
fn started(workers: usize) -> Result<Runtime, String> {
    // Another process may take a thread since they were counted. While it unwinds, tokio would wait for
    // the workers that it has started, which nobody has told to end; inside another runtime it never waits.
    let outer = Builder::new_current_thread().build();
    let outer = outer.map_err(|error| error.to_string())?;
    let built = panics::expected(|| {
        outer.block_on(async {
            Builder::new_multi_thread()
                .worker_threads(workers)
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_keep_alive(Duration::MAX)
                .thread_name(NAME)
                .enable_io()
                .enable_time()
                .build()
        })
    });
    let runtime = match built {
        Ok(Ok(runtime)) => runtime,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(refused) => return Err(refused),
    };
    // One that may block is started now and kept: while there is one, work for which no other can be
    // started waits its turn. Without it `spawn_blocking` panics, and `block_in_place` loses its worker.
    match panics::expected(|| runtime.spawn_blocking(|| ())) {
        Ok(_) => Ok(runtime),
        Err(refused) => {
            runtime.shutdown_timeout(Duration::from_secs(1));
            Err(refused)
        }
    }
}

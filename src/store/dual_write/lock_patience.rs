//! The lock of the change log: whoever holds it is waited for, and not for ever.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::deadline;
use crate::error::{Error, Kind, Result};
use crate::files::change_log::ChangeLog;

/// Time until the log's lock is asked for again. Whoever has it writes some lines.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Time after which whoever has the lock is taken for one that has stopped.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Time that is left to others while one is known to have stopped: whoever goes on is done in less.
const LOCK_GLANCE: Duration = Duration::from_millis(20);

/// How long a call waits for the lock.
#[derive(Default)]
pub(super) struct Patience {
    /// Whether somebody was waited for in vain: no later call is to wait for them as long.
    lost: AtomicBool,
}

impl Patience {
    /// Tries until nobody else has the lock, within the time of a call of at most `limit`.
    pub(super) async fn with(
        &self,
        limit: Duration,
        log: &ChangeLog,
        act: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let patience = if self.lost.load(Relaxed) {
            LOCK_GLANCE
        } else {
            LOCK_PATIENCE.min(limit / 2) // a call has more to do than this
        };
        let left = deadline::current(limit).saturating_duration_since(Instant::now());
        let done = tried(patience.min(left), act).await?;
        self.lost.store(!done, Relaxed);
        if done {
            Ok(())
        } else {
            Err(stopped(&log.paths().log))
        }
    }
}

/// Tries until nobody else has the lock.
pub(super) async fn with_patience(log: &ChangeLog, act: impl Fn() -> Result<bool>) -> Result<()> {
    if tried(LOCK_PATIENCE, act).await? {
        return Ok(());
    }
    Err(stopped(&log.paths().log))
}

/// False if somebody had the lock all the time. The thread is not kept from its other work.
async fn tried(patience: Duration, act: impl Fn() -> Result<bool>) -> Result<bool> {
    let since = Instant::now();
    while !act()? {
        if since.elapsed() >= patience {
            return Ok(false);
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(true)
}

/// Another process has a file to itself, and has not gone on for long.
pub(super) fn stopped(path: &Path) -> Error {
    let path = path.display();
    let message = format!("{path} is locked by a process that does not go on");
    Error::new(Kind::File, message)
}

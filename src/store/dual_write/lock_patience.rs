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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::files::Paths;

    fn log() -> (tempfile::TempDir, ChangeLog) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        (directory, ChangeLog::new(paths, "nano:docs:"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_half_its_time_and_after_one_that_did_in_vain_for_a_glance() {
        let (_directory, log) = log();
        let patience = Patience::default();
        let never = u32::MAX;
        for (limit, held_for, free, waited) in [
            (4_000, never, false, 2_000),
            (4_000, never, false, 20),
            (4_000, 3, true, 3),
            (60_000, never, false, 5_000),
            (60_000, never, false, 20),
        ] {
            let (since, left) = (Instant::now(), Cell::new(held_for));
            let act = || Ok(left.replace(left.get().saturating_sub(1)) == 0);
            let limit = Duration::from_millis(limit);
            let done = patience.with(limit, &log, act).await;
            assert_eq!(done.is_ok(), free, "{done:?}");
            let (took, waited) = (since.elapsed(), Duration::from_millis(waited));
            assert!(
                (waited..=waited + LOCK_GLANCE / 4).contains(&took),
                "{took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_asked_for_until_it_is_free_or_its_holder_is_taken_for_stopped() {
        let (_directory, log) = log();
        let tries = Cell::new(0);
        let third = || Ok(tries.replace(tries.get() + 1) == 2);
        with_patience(&log, third).await.unwrap();
        assert_eq!(tries.get(), 3);
        let error = with_patience(&log, || Ok(false)).await.unwrap_err();
        assert!(error.to_string().contains("does not go on"), "{error}");
        let failed = || Err(Error::new(Kind::File, "no disk"));
        let error = with_patience(&log, failed).await.unwrap_err();
        assert!(error.to_string().contains("no disk"), "{error}");
    }
}

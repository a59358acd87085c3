//! The lock of the change log: whoever holds it is waited for, and not for ever.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::error::{Error, Kind, Result};
use crate::files::change_log::ChangeLog;

/// Time until the log's lock is asked for again. Whoever has it writes some lines.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Time after which whoever has the lock is taken for one that has stopped.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Tries until nobody else has the lock. The thread is not kept from its other work.
pub(super) async fn with_patience(log: &ChangeLog, act: impl Fn() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !act()? {
        if since.elapsed() > LOCK_PATIENCE {
            return Err(stopped(&log.paths().log));
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Another process has a file to itself, and has not gone on for long.
pub(super) fn stopped(path: &Path) -> Error {
    let path = path.display();
    let message = format!("{path} is locked by a process that does not go on");
    Error::new(Kind::File, message)
}

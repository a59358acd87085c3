//! How long a job may keep an event loop before others have their turn.

use std::time::{Duration, Instant};

/// What a job does in one turn of the loop; other calls may do as much in the same turn.
const TURN: Duration = Duration::from_millis(2);
/// Work between two readings of the clock, in bytes of JSON.
const UNWATCHED: usize = 32 * 1024;
/// What an item costs besides its bytes.
const ITEM: usize = 256;

/// A turn of the loop, which begins when it is made.
pub(super) struct Turn {
    began: Instant,
    work: usize,
}

impl Turn {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            work: 0,
        }
    }

    /// Adds an item of so many bytes. True if what is left has to wait for the next turn.
    pub(super) fn is_over_after(&mut self, bytes: usize) -> bool {
        self.work += ITEM + bytes;
        if self.work < UNWATCHED {
            return false;
        }
        self.work = 0;
        self.began.elapsed() >= TURN
    }
}

//! Where the runtime's threads leave what an event loop's thread takes out in one go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::doorbell::Doorbell;
use super::{Process, Reply};

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

    pub(super) fn new(process: &'static Process, doorbell: Doorbell) -> Self {
        Self {
            process,
            letters: Mutex::default(),
            doorbell,
        }
    }

    pub(super) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// All letters there are. The bell is silenced first: one that rings after is heard again.
    pub(super) fn take(&self) -> Vec<Letter> {
        self.doorbell.silence();
        std::mem::take(&mut *locked(&self.letters))
    }
}

/// A panic while one was held leaves a list that is still a valid list.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

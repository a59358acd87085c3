//! Work that no caller waits for and that a process should not end without: how much of it is left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often an ending process looks whether anything is left.
const LOOK: Duration = Duration::from_millis(1);

/// A count that an ending process waits for, within limits.
#[derive(Default)]
pub(crate) struct Backlog {
    left: AtomicUsize,
    is_hurried: AtomicBool,
    hurry: Notify,
}

impl Backlog {
    pub(crate) fn add(&self, number: usize) {
        self.left.fetch_add(number, SeqCst);
    }

    pub(crate) fn remove(&self, number: usize) {
        self.left.fetch_sub(number, SeqCst);
    }

    /// Returns once the process is ending, so that nothing has to wait for more to come.
    pub(crate) async fn hurried(&self) {
        let hurry = self.hurry.notified();
        if !self.is_hurried.load(SeqCst) {
            hurry.await;
        }
    }

    /// Blocks until nothing is left, for at most so long.
    pub(crate) fn drain(&self, limit: Duration) {
        self.is_hurried.store(true, SeqCst);
        self.hurry.notify_waiters();
        let until = Instant::now() + limit;
        while self.left.load(SeqCst) > 0 && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;

    #[test]
    fn whoever_drains_waits_for_the_last_and_for_no_longer_than_the_limit() {
        let backlog = Arc::new(Backlog::default());
        backlog.add(2);
        let began = Instant::now();
        backlog.drain(Duration::from_millis(10));
        assert!(began.elapsed() >= Duration::from_millis(10));
        assert_eq!(backlog.left.load(SeqCst), 2);
        let other = Arc::clone(&backlog);
        let worker = thread::spawn(move || other.remove(2));
        backlog.drain(Duration::from_secs(60));
        worker.join().unwrap();
        assert_eq!(backlog.left.load(SeqCst), 0);
    }

    #[test]
    fn whoever_waits_for_more_to_come_is_told_that_the_process_ends() {
        let backlog = Backlog::default();
        let mut waiting = Box::pin(backlog.hurried());
        assert!(waiting.as_mut().now_or_never().is_none());
        backlog.drain(Duration::ZERO);
        assert!(waiting.now_or_never().is_some());
        assert!(backlog.hurried().now_or_never().is_some());
    }
}

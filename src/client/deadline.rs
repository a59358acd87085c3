//! When a call has to be over. It is set once, where the call enters, and every request, retry, pause and wait for a
//! connection of that call keeps to it.
//!
//! Work on many ids is a call of many steps: each batch or page that follows an answered one restarts the deadline, so
//! that such a call lasts as long as it proceeds. Work that no caller waits for has a deadline for each request.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::lazy;
use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Deadline;
}

struct Deadline {
    limit: Duration,
    until: Cell<Instant>,
}

/// Polls a call that has so much time, from when it is polled first. It takes the memory of the call once, where an
/// `async fn` would keep what it was given beside what it awaits.
pub(crate) fn within<T>(limit: Duration, call: impl Future<Output = T>) -> impl Future<Output = T> {
    lazy(move |_| {
        let until = Cell::new(Instant::now() + limit);
        DEADLINE.scope(Deadline { limit, until }, call)
    })
    .flatten()
}

/// Gives what follows the whole time again: the next step of a call that proceeds.
pub(crate) fn restart() {
    let _ = DEADLINE.try_with(|deadline| deadline.until.set(Instant::now() + deadline.limit));
}

/// Does not count the time in which the caller's thread did other work while the answer was there.
pub(super) fn postpone(late: Duration) {
    let _ = DEADLINE.try_with(|deadline| deadline.until.set(deadline.until.get() + late));
}

/// The deadline of the call that is being polled; outside of one, that of a request that begins now.
pub(crate) fn current(limit: Duration) -> Instant {
    let until = DEADLINE.try_with(|deadline| deadline.until.get());
    until.unwrap_or_else(|_| Instant::now() + limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_step_has_the_whole_time_again_and_time_in_which_nobody_looked_does_not_count() {
        let left = || current(Duration::ZERO).duration_since(Instant::now());
        within(LIMIT, async {
            tokio::time::advance(4 * LATE).await;
            assert_eq!(left(), 6 * LATE);
            postpone(LATE);
            assert_eq!(left(), 7 * LATE);
            restart();
            assert_eq!(left(), LIMIT);
        })
        .await;
        restart();
        postpone(LATE);
        assert_eq!(left(), Duration::ZERO, "outside of a call there is none");
    }
}

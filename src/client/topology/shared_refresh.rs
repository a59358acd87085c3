//! Which servers there are, asked anew: one question at a time, whose answer all who want it share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::client::{deadline, timed_out};
use crate::error::{Error, Kind, Result};
use crate::mutex::Mutex;

/// The answer; None while it is asked for.
type Outcome<T> = Option<Result<T>>;

/// The question under way.
pub(super) struct Refresh<T>(Arc<Mutex<Option<watch::Receiver<Outcome<T>>>>>);

impl<T> Default for Refresh<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Refresh<T> {
    /// Has it asked, unless it is under way. On the runtime: who wanted it may be cancelled, or its loop kept by
    /// other work.
    pub(super) fn begin(
        &self,
        ask: impl Future<Output = Result<T>> + Send + 'static,
    ) -> watch::Receiver<Outcome<T>> {
        let mut under_way = self.0.lock();
        // One that ended without an answer, as a panic ends it, is not waited for: nobody would ask again.
        if let Some(outcome) = &*under_way
            && outcome.has_changed().is_ok()
        {
            return outcome.clone();
        }
        let (done, outcome) = watch::channel(None);
        *under_way = Some(outcome.clone());
        drop(under_way);
        let own = Arc::clone(&self.0);
        tokio::spawn(async move {
            let answer = ask.await;
            *own.lock() = None;
            let _ = done.send(Some(answer)); // nobody may wait
        });
        outcome
    }

    /// Has it asked at once; the answer, which is waited for as long as the call may take, or else for `limit`. The
    /// wait is in memory of its own, which every call would have to take.
    pub(super) fn answer(
        &self,
        ask: impl Future<Output = Result<T>> + Send + 'static,
        limit: Duration,
    ) -> BoxFuture<'static, Result<T>> {
        let (mut outcome, until) = (self.begin(ask), deadline::current(limit));
        async move {
            let broken_off = || {
                let message = "the question who serves now was broken off";
                Error::new(Kind::Unavailable, message)
            };
            match timeout_at(until, outcome.wait_for(Option::is_some)).await {
                Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(broken_off())),
                Ok(Err(_)) => Err(broken_off()),
                Err(_) => Err(Error::from_redis(&timed_out())),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_question_that_ended_without_an_answer_is_asked_again() {
        let refresh = Refresh::<u8>::default();
        let first = refresh.answer(async { resume_unwind(Box::new(())) }, LIMIT);
        assert_eq!(first.await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(refresh.answer(async { Ok(1) }, LIMIT).await.unwrap(), 1);
        assert_eq!(refresh.answer(async { Ok(2) }, LIMIT).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn one_question_is_under_way_at_a_time() {
        let refresh = Refresh::<u8>::default();
        let first = refresh.answer(async { Ok(1) }, LIMIT);
        let second = refresh.answer(async { Ok(2) }, LIMIT);
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first.unwrap(), second.unwrap()), (1, 1));
    }
}

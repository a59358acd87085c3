//! How often a server may refuse us before we leave it in peace for a while.
//!
//! Many callers open connections at the same moment. When a password has changed, all of them are
//! refused: without a bound that is a storm of logins, for which some servers lock a user out.

use std::collections::VecDeque;
use std::time::Duration;

use redis::RedisError;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::mutex::Mutex;

/// Logins that were refused within [`WITHIN`], those under way included, at most.
const MOST: usize = 3;
/// A second, and something for what happens between us and the server.
const WITHIN: Duration = Duration::from_millis(1050);

/// The logins at one server.
#[derive(Default)]
pub(in crate::client) struct AuthLimiter {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// When the last ones were refused.
    refused: VecDeque<Instant>,
    last: Option<Refused>,
}

struct Refused {
    secret: Option<Vec<u8>>,
    error: RedisError,
}

/// A login under way.
pub(in crate::client) struct AuthAttempt<'a>(&'a AuthLimiter);

impl AuthLimiter {
    /// Lets a login with this secret begin, now or when it may. While none may, what was refused
    /// with the same secret is refused again without asking the server.
    pub(in crate::client) async fn begin(
        &self,
        secret: Option<&[u8]>,
    ) -> Result<AuthAttempt<'_>, RedisError> {
        loop {
            let ended = self.ended.notified();
            let again = {
                let mut state = self.state.lock();
                let now = Instant::now();
                state.refused.retain(|at| now < *at + WITHIN);
                if state.under_way + state.refused.len() < MOST {
                    state.under_way += 1;
                    return Ok(AuthAttempt(self));
                }
                let oldest = state.refused.front().copied();
                if let (Some(_), Some(last)) = (oldest, &state.last)
                    && last.secret.as_deref() == secret
                {
                    return Err(last.error.clone());
                }
                oldest.map(|at| at + WITHIN)
            };
            match again {
                Some(again) => drop(timeout_at(again, ended).await),
                None => ended.await,
            }
        }
    }
}

impl AuthAttempt<'_> {
    /// The server let us in.
    pub(in crate::client) fn accepted(self) {
        let mut state = self.0.state.lock();
        state.refused.clear();
        state.last = None;
    }

    /// It did not.
    pub(in crate::client) fn refused(self, secret: Option<&[u8]>, error: &RedisError) {
        let mut state = self.0.state.lock();
        state.refused.push_back(Instant::now());
        state.last = Some(Refused {
            secret: secret.map(<[u8]>::to_vec),
            error: error.clone(),
        });
    }
}

impl Drop for AuthAttempt<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
        // All look again: one of them may begin, and each may find that it is refused.
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_is_refused_three_times_in_a_second_is_not_tried_again() {
        let auth_limiter = AuthLimiter::default();
        let refusal = RedisError::from(Error::new(Kind::Auth, "wrong"));
        let began = Instant::now();
        for _ in 0..MOST {
            let auth_attempt = auth_limiter.begin(Some(b"old")).await.unwrap();
            auth_attempt.refused(Some(b"old"), &refusal);
        }
        assert!(auth_limiter.begin(Some(b"old")).await.is_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Another one waits for its turn, and is not told of the first one's refusal.
        auth_limiter.begin(Some(b"new")).await.unwrap().accepted();
        assert_eq!(began.elapsed(), WITHIN);
        assert!(auth_limiter.begin(Some(b"old")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn logins_that_succeed_wait_for_each_other_only() {
        let auth_limiter = AuthLimiter::default();
        for _ in 0..50 {
            auth_limiter.begin(None).await.unwrap().accepted();
        }
        let mut three = Vec::new();
        for _ in 0..MOST {
            three.push(auth_limiter.begin(None).await.unwrap());
        }
        let mut fourth = std::pin::pin!(auth_limiter.begin(None));
        assert!(tokio::time::timeout(WITHIN, &mut fourth).await.is_err());
        three.pop().unwrap().accepted();
        assert!(fourth.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_succeeds_makes_good_for_those_refused_before() {
        let auth_limiter = AuthLimiter::default();
        let refusal = RedisError::from(Error::new(Kind::Auth, "wrong"));
        let began = Instant::now();
        for _ in 0..3 {
            for _ in 1..MOST {
                let auth_attempt = auth_limiter.begin(Some(b"old")).await.unwrap();
                auth_attempt.refused(Some(b"old"), &refusal);
            }
            auth_limiter.begin(Some(b"new")).await.unwrap().accepted();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

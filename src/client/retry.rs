//! The attempts of one operation: how many, until when, and the pauses between them.

use std::time::Duration;

use redis::{RedisError, Value};
use tokio::time::Instant;

use super::Reply;
use super::backoff::{FIRST_BACKOFF, LONGEST_BACKOFF, jitter};
use super::node::FailedAttempt;
use super::protocol::reply::refuses_for_now;
use crate::config::ServerConfig;
use crate::error::{Error, Kind};

/// Redirections that are followed at once.
const REDIRECTS: u32 = 3;

#[derive(Clone)]
pub(super) struct RetryState<'config> {
    config: &'config ServerConfig,
    /// When the operation ends, whatever its attempts have come to.
    pub(super) deadline: Instant,
    /// Attempts that have failed and count.
    pub(super) failed: u32,
    /// Whether any of them may have reached a server.
    sent: bool,
    backoff: Duration,
    was_stale: bool,
    redirects: u32,
}

impl<'config> RetryState<'config> {
    /// Of an operation that begins now.
    pub(super) fn new(config: &'config ServerConfig) -> Self {
        Self {
            config,
            deadline: Instant::now() + config.operation_timeout,
            failed: 0,
            sent: false,
            backoff: FIRST_BACKOFF,
            was_stale: false,
            redirects: 0,
        }
    }

    /// How long to wait before a request whose attempt failed is sent again; None if it is not.
    pub(super) fn pause_after(
        &mut self,
        resendable: bool,
        failed: &FailedAttempt,
    ) -> Option<Duration> {
        self.sent |= failed.sent;
        // A direct connection that died while idle says nothing about the server: it costs no attempt.
        let harmless = resendable || !failed.sent;
        if failed.stale && harmless && !std::mem::replace(&mut self.was_stale, true) {
            return Some(Duration::ZERO);
        }
        self.pause_after_failure(self.may_repeat(failed, harmless))
    }

    /// The same where nothing was sent, for want of somebody to send it to.
    pub(super) fn pause_after_failure(&mut self, may_repeat: bool) -> Option<Duration> {
        self.failed += 1;
        let pause = self.pause_unless_over()?;
        (may_repeat && self.failed <= self.config.max_retries).then_some(pause)
    }

    /// How long to wait where a server has refused to do it for now; that is no failure. None when
    /// there is no time left.
    pub(super) fn pause_unless_over(&mut self) -> Option<Duration> {
        let pause = self.backoff.mul_f64(jitter());
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        (Instant::now() + pause < self.deadline).then_some(pause)
    }

    /// The same where a server has named another: no time, unless they send us to and fro.
    pub(super) fn pause_after_redirect(&mut self) -> Option<Duration> {
        self.redirects += 1;
        if self.redirects > REDIRECTS {
            return self.pause_unless_over();
        }
        (Instant::now() < self.deadline).then_some(Duration::ZERO)
    }

    fn may_repeat(&self, failed: &FailedAttempt, harmless: bool) -> bool {
        match Error::from_redis(&failed.error).kind() {
            Kind::Timeout if !self.config.retry_on_timeout => false,
            Kind::Timeout | Kind::Unavailable => harmless,
            _ => failed.error.code().is_some_and(refuses_for_now),
        }
    }

    /// The error of a request that is not sent again.
    pub(super) fn give_up(
        &self,
        config: &ServerConfig,
        resendable: bool,
        failed: &FailedAttempt,
    ) -> Error {
        let error = Error::from_redis(&failed.error);
        let endpoint = &config.endpoint;
        if failed.sent && !resendable && error.is_outage() {
            let message = format!(
                "{endpoint}: the answer was lost, so whether it was done is unknown and it was not sent again: look whether the id is still there ({error})"
            );
            return self.ended_by(Error::new(Kind::Timeout, message));
        }
        let before = if self.sent && !failed.sent {
            "; what was sent before that may have been applied"
        } else {
            ""
        };
        let message = format!("{endpoint}: {error}{before} (attempts: {})", self.failed);
        self.ended_by(Error::new(error.kind(), message))
    }

    /// What a server answered at last. That it refuses undoes nothing: an attempt before this one, whose
    /// answer was lost, may have been done.
    pub(super) fn answered(&self, reply: Reply) -> Reply {
        match reply {
            Reply::Other(Value::ServerError(error)) if self.sent => {
                let error = Error::from_redis(&RedisError::from(error));
                Reply::Lost(error.after_sending(true))
            }
            reply => reply,
        }
    }

    /// The error that ends the operation; it says whether an attempt before it may have been done.
    pub(super) fn ended_by(&self, error: Error) -> Error {
        error.after_sending(self.sent)
    }
}

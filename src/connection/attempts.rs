//! The attempts of one operation: how many, until when, and the pauses between them.

use std::time::Duration;

use tokio::time::Instant;

use super::Request;
use super::answer::refuses_for_now;
use super::backoff::{FIRST_BACKOFF, LONGEST_BACKOFF, jitter};
use super::node::Failed;
use crate::config::ServerConfig;
use crate::error::{Error, Kind};

pub(super) struct Attempts<'config> {
    config: &'config ServerConfig,
    /// When the operation ends, whatever its attempts have come to.
    pub(super) deadline: Instant,
    /// Attempts that have failed and count.
    pub(super) failed: u32,
    backoff: Duration,
    was_stale: bool,
}

impl<'config> Attempts<'config> {
    /// Of an operation that begins now.
    pub(super) fn new(config: &'config ServerConfig) -> Self {
        Self {
            config,
            deadline: Instant::now() + config.operation_timeout,
            failed: 0,
            backoff: FIRST_BACKOFF,
            was_stale: false,
        }
    }

    /// How long to wait before a request whose attempt failed is sent again; None if it is not.
    pub(super) fn pause_after(&mut self, request: &Request, failed: &Failed) -> Option<Duration> {
        // A lane that died while idle says nothing about the server: it costs no attempt.
        let harmless = request.resendable || !failed.sent;
        if failed.stale && harmless && !std::mem::replace(&mut self.was_stale, true) {
            return Some(Duration::ZERO);
        }
        self.failed += 1;
        let pause = self.backoff.mul_f64(jitter());
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        let again = self.may_repeat(failed, harmless)
            && self.failed <= self.config.max_retries
            && Instant::now() + pause < self.deadline;
        again.then_some(pause)
    }

    fn may_repeat(&self, failed: &Failed, harmless: bool) -> bool {
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
        request: &Request,
        failed: &Failed,
    ) -> Error {
        let error = Error::from_redis(&failed.error);
        let endpoint = &config.endpoint;
        if failed.sent && !request.resendable && error.is_outage() {
            let message = format!(
                "{endpoint}: the answer was lost, so whether it was done is unknown and it was not sent again: look whether the id is still there ({error})"
            );
            return Error::new(Kind::Timeout, message);
        }
        let message = format!("{endpoint}: {error} (attempts: {})", self.failed);
        Error::new(error.kind(), message)
    }
}

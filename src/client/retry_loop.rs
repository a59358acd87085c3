//! A request on its way, from its first attempt to its replies: the one loop that sends anything again.
//!
//! The topology says which node has a command and what a reply means; the [`RetryState`] counts attempts.
//! Commands for one node travel as a group. Where they have to part, each group goes on by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use redis::{RedisError, Value};
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::node::{FailedAttempt, Node};
use super::protocol::request::Request;
use super::protocol::resp_parser::refuses_for_now;
use super::topology::{Meaning, Part, Route, sentinel};
use super::{Connections, Reply, deadline};
use crate::config::ServerConfig;
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;
use crate::metrics::ServerCount;

/// Redirections that are followed at once.
const REDIRECTS: u32 = 3;

/// Commands of a part of a request, by their places in it, and how they have fared so far.
struct Group<'config> {
    commands: Vec<usize>,
    /// What attempts before were answered; empty while there was nothing.
    kept: Vec<Option<Reply>>,
    retry_state: RetryState<'config>,
    /// Where a server has sent them, for this once.
    asked: Option<Arc<Node>>,
    pause: Duration,
}

/// A group and where its commands stand in the one it was taken from.
struct Branch<'config> {
    places: Vec<usize>,
    group: Group<'config>,
}

impl<'config> Group<'config> {
    fn branch(&self, places: Vec<usize>, retry_state: &RetryState<'config>) -> Branch<'config> {
        let kept = |place: &usize| self.kept.get(*place).cloned().flatten();
        let group = Self {
            commands: places.iter().map(|place| self.commands[*place]).collect(),
            kept: places.iter().map(kept).collect(),
            retry_state: retry_state.clone(),
            asked: None,
            pause: Duration::ZERO,
        };
        Branch { places, group }
    }

    /// Its commands are not sent again. What an earlier attempt was told is done stays so.
    fn lost(mut self, error: Error) -> Vec<Reply> {
        let error = self.retry_state.ended_by(error);
        self.kept.resize(self.commands.len(), None);
        let kept = self.kept.into_iter();
        kept.map(|reply| reply.unwrap_or_else(|| Reply::Lost(error.clone())))
            .collect()
    }

    /// Notes what an attempt was answered before it failed.
    fn keep(&mut self, replies: Vec<Reply>, not_executed: &[(Meaning, Vec<usize>)]) {
        self.kept.resize(self.commands.len(), None);
        for kept in &mut self.kept {
            // What was refused before may have been done by this attempt.
            kept.take_if(|kept| {
                matches!(kept, Reply::Lost(_) | Reply::Other(Value::ServerError(_)))
            });
        }
        for (kept, reply) in self.kept.iter_mut().zip(replies) {
            *kept = Some(self.retry_state.answered(reply));
        }
        for place in not_executed.iter().flat_map(|(_, places)| places) {
            self.kept[*place] = None;
        }
    }
}

impl Connections {
    /// Sends a request and waits for its answers, one a command, within the call's [`deadline`].
    ///
    /// A request of no commands asks no server: it is answered at once, even where none is there.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Vec<Reply>> {
        // Whoever asks for no retries asks that no write lands after what others have written since, whatever the
        // reason is that it would be sent again for.
        let once = (self.config.max_retries == 0 && request.writes && request.resendable)
            .then(|| request.to_be_sent_once());
        let request = once.as_ref().unwrap_or(request);
        self.deliver(None, request).await
    }

    /// Sends a request to one of the servers: what is asked of a server and not of a key.
    pub(crate) async fn send_to(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: &Request,
    ) -> Result<Vec<Reply>> {
        self.deliver(Some(node), request).await
    }

    pub(super) fn count_retry(&self) {
        self.counters.count(ServerCount::Retries, 1);
    }

    fn note_connected(&self, node: &Node) {
        // Loaded first: the line stays shared between cores.
        if !self.connected.load(Relaxed) && !self.connected.swap(true, Relaxed) {
            let line = format!("{}: connected", node.endpoint());
            self.notices.push(Event::Connected, line);
        }
    }

    /// Sends a request until it is answered, to `fixed` where it is no matter of keys. A part of it leaves when the
    /// one before it was answered.
    async fn deliver(
        self: &Arc<Self>,
        fixed: Option<&Arc<Node>>,
        request: &Request,
    ) -> Result<Vec<Reply>> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        self.maintain();
        let retry_state = RetryState::new(&self.config);
        let mut replies = Vec::with_capacity(request.replies);
        for part in self.topology.parts(fixed, request) {
            let all = Group {
                commands: (0..part.replies).collect(),
                kept: Vec::new(),
                retry_state: retry_state.clone(),
                asked: None,
                pause: Duration::ZERO,
            };
            // In memory of its own: every call's future holds this one, and is moved about.
            let answered = Box::pin(self.send_group(&part, all)).await;
            let lost = all_lost(&answered).cloned();
            replies.extend(answered);
            if let Some(error) = lost {
                // What has to come after this part does not come.
                replies.resize(request.replies, Reply::Lost(error));
                break;
            }
        }
        match all_lost(&replies) {
            Some(error) => Err(error.clone()),
            None => Ok(replies),
        }
    }

    /// The replies to the commands of a group, in their order.
    async fn send_group<'a>(
        self: &'a Arc<Self>,
        part: &'a Part<'a>,
        mut group: Group<'a>,
    ) -> Vec<Reply> {
        loop {
            if !group.pause.is_zero() {
                self.count_retry();
                sleep(std::mem::take(&mut group.pause)).await;
            }
            let route = match group.asked.take() {
                Some(node) => Ok(Route::Asking(node)),
                None => self.topology.route(part, &group.commands).await,
            };
            let (node, asking) = match route {
                Ok(Route::To(node)) => (node, false),
                Ok(Route::Asking(node)) => (node, true),
                Ok(Route::Split(places)) => {
                    let branches = places.into_iter();
                    let branches = branches.map(|places| group.branch(places, &group.retry_state));
                    let (count, branches) = (group.commands.len(), branches.collect());
                    return self.send_branches(part, vec![None; count], branches).await;
                }
                Ok(Route::Nowhere(error)) => match group.retry_state.pause_unless_over() {
                    Some(pause) => {
                        group.pause = pause;
                        continue;
                    }
                    None => return group.lost(error),
                },
                Err(error) if error.kind() == Kind::CircuitOpen => return group.lost(error),
                Err(error) => {
                    if let Some(pause) = group.retry_state.pause_after_failure(error.is_outage()) {
                        group.pause = pause;
                        continue;
                    }
                    self.count_failure(self.topology.entry(), error.is_outage());
                    return group.lost(error);
                }
            };
            if group.retry_state.failed == 0 && node.breaker.is_open() {
                return group.lost(node.refused());
            }
            let sent = Instant::now();
            let request = part.request(&group.commands, asking);
            let outcome = node.attempt(&request, group.retry_state.deadline).await;
            let mut failed = match outcome {
                Ok(replies) if self.topology.believes(&node, sent).await => {
                    return self
                        .settle(part, &node, group, without_asking(replies, asking))
                        .await;
                }
                Ok(_) => sentinel::disowned(),
                Err(failed) => failed,
            };
            self.topology.failed(&node, failed.stale);
            let replies = without_asking(std::mem::take(&mut failed.replies), asking);
            if failed.sent && self.topology.believes(&node, sent).await {
                let not_executed = self.topology.meanings(&node, &replies);
                group.keep(replies, &not_executed);
            }
            match group.retry_state.pause_after(part.resendable, &failed) {
                Some(pause) if pause.is_zero() => self.count_retry(),
                Some(pause) => group.pause = pause,
                None => return self.give_up(part, &node, group, &failed),
            }
        }
    }

    fn give_up(
        self: &Arc<Self>,
        part: &Part<'_>,
        node: &Arc<Node>,
        group: Group<'_>,
        failed: &FailedAttempt,
    ) -> Vec<Reply> {
        let state = &group.retry_state;
        let error = state.give_up(&node.config, part.resendable, failed);
        self.count_failure(node, error.is_outage());
        group.lost(error)
    }

    /// The replies of a node; the commands that it did not execute go on their way again.
    async fn settle<'a>(
        self: &'a Arc<Self>,
        part: &'a Part<'a>,
        node: &Arc<Node>,
        group: Group<'a>,
        received: Vec<Reply>,
    ) -> Vec<Reply> {
        node.answered();
        self.note_connected(self.topology.face(node));
        let meanings = self.topology.meanings(node, &received);
        let state = &group.retry_state;
        if meanings.is_empty() {
            let replies = received.into_iter();
            return replies.map(|reply| state.answered(reply)).collect();
        }
        let mut replies: Vec<_> = received.into_iter().map(Some).collect();
        let mut branches = Vec::with_capacity(meanings.len());
        for (meaning, places) in meanings {
            let mut branch = group.branch(places, state);
            let state = &mut branch.group.retry_state;
            let (pause, error) = match meaning {
                Meaning::Elsewhere(node, disagreed) => {
                    let pause = state.pause_after_redirect();
                    branch.group.asked = node;
                    (pause, Some(disagreed))
                }
                // Without time left, what the server said is the reply.
                Meaning::Later => (state.pause_unless_over(), None),
                Meaning::Refused(error) => (state.pause_after_failure(true), Some(error)),
            };
            match (pause, error) {
                (Some(pause), _) => {
                    branch.group.pause = pause;
                    if pause.is_zero() {
                        self.count_retry();
                    }
                    branches.push(branch);
                }
                (None, Some(error)) => put(&mut replies, &branch.places, branch.group.lost(error)),
                (None, None) => {}
            }
        }
        for branch in &branches {
            for place in &branch.places {
                replies[*place] = None;
            }
        }
        let replies = replies.into_iter();
        let replies = replies.map(|reply| reply.map(|reply| state.answered(reply)));
        self.send_branches(part, replies.collect(), branches).await
    }

    /// Sends each of the branches on, all at once, and puts their replies where they belong.
    fn send_branches<'a>(
        self: &'a Arc<Self>,
        part: &'a Part<'a>,
        mut replies: Vec<Option<Reply>>,
        branches: Vec<Branch<'a>>,
    ) -> BoxFuture<'a, Vec<Reply>> {
        let sent = branches
            .into_iter()
            .map(|branch| async { (branch.places, self.send_group(part, branch.group).await) });
        let sent = join_all(sent);
        async move {
            for (places, answered) in sent.await {
                put(&mut replies, &places, answered);
            }
            replies.into_iter().map(Option::unwrap_or_default).collect()
        }
        .boxed()
    }
}

/// The replies to a group's commands, without those to the ASKING before each.
fn without_asking(replies: Vec<Reply>, asking: bool) -> Vec<Reply> {
    if asking {
        return replies.into_iter().skip(1).step_by(2).collect();
    }
    replies
}

fn put(replies: &mut [Option<Reply>], places: &[usize], answered: Vec<Reply>) {
    for (place, reply) in places.iter().zip(answered) {
        replies[*place] = Some(reply);
    }
}

/// Why the first reply was not received, if none was.
fn all_lost(replies: &[Reply]) -> Option<&Error> {
    let mut errors = replies.iter().map(|reply| match reply {
        Reply::Lost(error) => Some(error),
        _ => None,
    });
    let first = errors.next()??;
    errors.all(|error| error.is_some()).then_some(first)
}

/// The attempts of one request: how many, until when, and the pauses between them.
#[derive(Clone)]
pub(super) struct RetryState<'config> {
    config: &'config ServerConfig,
    /// When the call ends, whatever its attempts have come to.
    pub(super) deadline: Instant,
    /// Attempts that have failed and count.
    pub(super) failed: u32,
    /// Whether any of them may have reached a server.
    sent: bool,
    backoff: Backoff,
    was_stale: bool,
    redirects: u32,
}

impl<'config> RetryState<'config> {
    /// Of a request that begins now.
    pub(super) fn new(config: &'config ServerConfig) -> Self {
        Self {
            config,
            deadline: deadline::current(config.operation_timeout),
            failed: 0,
            sent: false,
            backoff: Backoff::of_attempts(),
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

    /// How long to wait after an attempt that counts as failed, whether it was sent or found nobody to send it to.
    pub(super) fn pause_after_failure(&mut self, may_repeat: bool) -> Option<Duration> {
        self.failed += 1;
        let pause = self.pause_unless_over()?;
        (may_repeat && self.failed <= self.config.max_retries).then_some(pause)
    }

    /// How long to wait where a server has refused to do it for now; that is no failure. None when
    /// there is no time left.
    pub(super) fn pause_unless_over(&mut self) -> Option<Duration> {
        let pause = self.backoff.pause();
        (Instant::now() + pause < self.deadline).then_some(pause)
    }

    /// How long to wait where a server has named another: no time, unless they send us to and fro.
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

#[cfg(test)]
mod tests;

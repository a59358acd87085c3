//! The barrier behind `index_done_callback`: one at a time, shared by all who arrive while another
//! is under way, since what they wait for came before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use futures_util::future::{BoxFuture, FutureExt, Shared, join_all};
use redis::Value;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout_at};

use super::acknowledged_writes::{AcknowledgedWrites, Change, Doubtful, Sent, Target, digest};
use super::barrier_connections::BarrierSessions;
use super::wait::AttemptError;
use crate::client::backoff::Backoff;
use crate::client::{Connections, Reply, Request, command, deadline, timed_out};
use crate::config::durability::Durability;
use crate::error::{Error, Kind, Result};
use crate::key_layout::{Keyspace, pattern_of};
use crate::mutex::Mutex;

/// Keys in one request of those that are looked at again.
const RECHECK_BATCH: usize = 64;
/// COUNT of a SCAN for what was dropped.
const SCAN_COUNT: &[u8] = b"1000";

type Round = Shared<BoxFuture<'static, Result<()>>>;

/// What one set of connections has done, how much of it is proved, and the barrier to come.
#[derive(Default)]
pub(in crate::client) struct Barrier {
    pub(super) state: Mutex<State>,
    /// Whether the first lines were opened, or are being.
    pub(super) prepared: AtomicBool,
    /// Held by the barrier that is under way.
    pub(super) sessions: tokio::sync::Mutex<BarrierSessions>,
}

/// A change from before its first request leaves until it is noted.
pub(crate) struct UnderWay<'a> {
    connections: &'a Connections,
    target: Target,
    /// When it began.
    pub(crate) sent: Sent,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.connections.barrier.state.lock();
        state.acknowledged.end(&self.target);
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) acknowledged: AcknowledgedWrites,
    /// Requests that a barrier has passed for.
    passed: u64,
    /// Whether some server may not be asked who it is.
    unidentified: bool,
    /// The barriers that wait for the one under way, by their markers: one, or one more for
    /// namespaces outside the workspace.
    next: HashMap<Vec<u8>, Round>,
}

impl Connections {
    /// Whether a barrier will want to know what was written.
    pub(crate) fn has_barrier(&self) -> bool {
        self.config.durability != Durability::Ack
    }

    /// A change is about to be sent, which is to be noted before this is dropped.
    pub(crate) fn begin_change(&self, target: Target) -> UnderWay<'_> {
        let mut state = self.barrier.state.lock();
        state.acknowledged.begin(&target);
        UnderWay {
            connections: self,
            target,
            sent: state.acknowledged.now(),
        }
    }

    /// A request that was sent then was answered, and did this.
    pub(crate) fn note(
        &self,
        sent: Sent,
        changes: impl Iterator<Item = (Vec<u8>, Option<Change>)>,
    ) {
        self.barrier.state.lock().acknowledged.note(sent, changes);
    }

    /// All keys under this prefix were deleted by requests of which the first was sent then.
    pub(crate) fn note_drop(&self, sent: Sent, prefix: &[u8]) {
        self.barrier
            .state
            .lock()
            .acknowledged
            .note_drop(sent, prefix);
    }

    /// Some keys under this prefix may be gone by such requests, nobody knows which.
    pub(crate) fn note_broken_drop(&self, sent: Sent, prefix: &[u8]) {
        self.barrier
            .state
            .lock()
            .acknowledged
            .note_broken_drop(sent, prefix);
    }

    /// A write of these keys, which are under this prefix, is about to be sent.
    pub(crate) fn note_sending(&self, prefix: &[u8], keys: impl Iterator<Item = Vec<u8>>) {
        self.barrier
            .state
            .lock()
            .acknowledged
            .note_sending(prefix, keys);
    }

    /// How many drops servers have lost so far.
    pub(crate) fn drops_lost_so_far(&self) -> u64 {
        self.barrier.state.lock().acknowledged.drops_lost_so_far()
    }

    /// Returns once all that was answered before is as safe as the settings ask. Costs nothing if
    /// nothing was written since the last time. What was lost is of this keyspace alone; of drops,
    /// those beyond the number `reported`.
    pub(crate) async fn barrier(
        self: &Arc<Self>,
        keyspace: &Keyspace,
        reported: &AtomicU64,
    ) -> Result<()> {
        let Some(round) = self.join_barrier(keyspace, reported) else {
            return Ok(());
        };
        round.await?;
        let prefix = keyspace.prefix().as_bytes();
        let (ids, drop, unidentified) = {
            let state = self.barrier.state.lock();
            let drop = state.acknowledged.lost_drop(prefix, reported.load(Relaxed));
            let drop = drop.cloned();
            let lost = state.acknowledged.lost(prefix);
            (lost, drop, state.unidentified)
        };
        let lost = (!ids.is_empty()).then(|| {
            format!(
                "does not show {} writes of this process: they are lost, unless others have changed the ids since; look at them, and write or delete them again where that is right; this is said until they change",
                ids.len()
            )
        });
        let kept = drop.map(|drop| {
            reported.fetch_max(drop.number, Relaxed);
            format!(
                "holds ids that this process has dropped, unless another has written them since (one is {:?}): drop them again; this is said once",
                drop.remaining
            )
        });
        let found: Vec<_> = lost.into_iter().chain(kept).collect();
        if found.is_empty() {
            return Ok(());
        }
        let what = if unidentified {
            "may have been restarted or replaced, which INFO would tell,"
        } else {
            "was restarted or replaced,"
        };
        let why = format!("the server {what} and {}", found.join("; it "));
        let error = self.config.durability.unmet(Durability::Ack, why);
        Err(error.with_unconfirmed(ids))
    }

    /// Begins a barrier that nobody waits for, once much was written that nobody asked one for: what
    /// is remembered of it takes memory. What it comes to is reported by the next one.
    pub(crate) fn begin_overdue_barrier(self: &Arc<Self>, keyspace: &Keyspace) {
        // A write is noted where it is given up, too, which may be anywhere.
        if self.barrier.state.lock().acknowledged.is_much() && Handle::try_current().is_ok() {
            drop(self.join_barrier(keyspace, &AtomicU64::new(u64::MAX)));
        }
    }

    /// The barrier that covers all that was answered so far; None if there is nothing to wait for.
    fn join_barrier(self: &Arc<Self>, keyspace: &Keyspace, reported: &AtomicU64) -> Option<Round> {
        if !self.has_barrier() {
            return None;
        }
        let mut state = self.barrier.state.lock();
        let prefix = keyspace.prefix().as_bytes();
        let nothing_lost = state.acknowledged.lost(prefix).is_empty()
            && state
                .acknowledged
                .lost_drop(prefix, reported.load(Relaxed))
                .is_none();
        if state.passed == state.acknowledged.requests() && nothing_lost {
            return None;
        }
        let marker = keyspace.key_beside("durability");
        if let Some(next) = state.next.get(&marker) {
            return Some(next.clone());
        }
        // On its own: who leaves harms nobody else, and nobody finds half an answer on the session.
        let task = tokio::spawn(Arc::clone(self).pass_barrier(marker.clone()));
        let ended = async {
            task.await
                .unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the barrier broke off")))
        };
        let round = ended.boxed().shared();
        state.next.insert(marker, round.clone());
        Some(round)
    }

    async fn pass_barrier(self: Arc<Self>, marker: Vec<u8>) -> Result<()> {
        let mut sessions = self.barrier.sessions.lock().await;
        let covered = {
            let mut state = self.barrier.state.lock();
            // Who comes from now on may have written after what this one covers.
            state.next.remove(&marker);
            state.acknowledged.requests()
        };
        let limit = self.config.operation_timeout + self.config.durability_timeout;
        deadline::within(limit, self.repeat_barrier(&mut sessions, &marker, covered)).await
    }

    /// Attempts a barrier until one passes, or until the deadline of the round.
    async fn repeat_barrier(
        self: &Arc<Self>,
        sessions: &mut BarrierSessions,
        marker: &[u8],
        covered: u64,
    ) -> Result<()> {
        let mut backoff = Backoff::of_attempts();
        for attempt in 0.. {
            let error = match self.try_barrier(sessions, marker).await {
                Ok(everywhere) => {
                    if everywhere {
                        self.forget_passed(covered).await;
                    }
                    return Ok(());
                }
                Err(AttemptError::Refused(error)) => return Err(error),
                Err(AttemptError::Lost(error)) => Error::from_redis(&error),
            };
            let pause = backoff.pause();
            if attempt == self.config.max_retries || Instant::now() + pause > self.deadline() {
                let message = format!("{}: {error}", self.config.endpoint);
                return Err(Error::new(error.kind(), message));
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Forgets what is proved, in turns: callers wait for as long as one takes.
    async fn forget_passed(&self, covered: u64) {
        let mut page: Vec<Vec<u8>> = Vec::new();
        loop {
            let after = page.pop().unwrap_or_default();
            page = {
                let mut state = self.barrier.state.lock();
                state.passed = state.passed.max(covered);
                state.acknowledged.passed(covered, &after)
            };
            if page.is_empty() {
                return;
            }
            yield_now().await;
        }
    }

    fn deadline(&self) -> Instant {
        deadline::current(self.config.operation_timeout)
    }

    /// One attempt, from the beginning: a marker that left on a connection that is gone says
    /// nothing, so that another follows on the next. False if some server can have no such marker,
    /// nor any key of that workspace: a cluster keeps what has one hash tag together.
    async fn try_barrier(
        self: &Arc<Self>,
        sessions: &mut BarrierSessions,
        marker: &[u8],
    ) -> Result<bool, AttemptError> {
        let nodes = self.primaries().await.map_err(AttemptError::Refused)?;
        let opened = timeout_at(self.deadline(), self.open_sessions(sessions, &nodes));
        opened.await.map_err(|_| timed_out())??;
        let epoch = sessions.servers.values().map(|server| server.epoch).max();
        self.barrier.state.lock().unidentified = !sessions.are_identified();
        self.recheck(epoch.unwrap_or(0)).await?;
        let sessions = &mut sessions.open;
        let confirmed = nodes.iter().map(|node| {
            let session = sessions.remove(node.endpoint());
            let marker = self.topology.key_on(node, marker);
            async move {
                let mut session = session?;
                let outcome = match marker {
                    Some(marker) => session.confirm(&node.config, &marker).await.map(|()| true),
                    None => Ok(false),
                };
                Some((node, session, outcome))
            }
        });
        let mut outcome = Ok(true);
        let confirmed = timeout_at(self.deadline(), join_all(confirmed)).await;
        let confirmed = confirmed.map_err(|_| timed_out())?;
        for (node, session, confirmed) in confirmed.into_iter().flatten() {
            match confirmed {
                Err(error @ AttemptError::Lost(_)) => outcome = Err(self.lost(node, error)),
                confirmed => {
                    sessions.insert(node.endpoint().clone(), session);
                    outcome = outcome.and_then(|all| confirmed.map(|marked| all && marked));
                }
            }
        }
        outcome
    }

    /// Reads what was written before the session was open: it is there, or it was lost.
    async fn recheck(self: &Arc<Self>, epoch: u64) -> Result<(), AttemptError> {
        let mut after = Vec::new();
        loop {
            let (doubtful, last) = {
                let state = self.barrier.state.lock();
                state.acknowledged.doubtful(epoch, &after)
            };
            for piece in doubtful.chunks(RECHECK_BATCH) {
                self.look_at(epoch, piece).await?;
            }
            let Some(last) = last else { break };
            after = last;
            yield_now().await;
        }
        let drops = self.barrier.state.lock().acknowledged.doubtful_drops(epoch);
        for (prefix, number) in drops {
            let remaining = self.remaining(&prefix, number).await?;
            let mut state = self.barrier.state.lock();
            state
                .acknowledged
                .rechecked_drop(epoch, &prefix, number, remaining);
        }
        Ok(())
    }

    /// Reads what these keys hold now.
    async fn look_at(
        self: &Arc<Self>,
        epoch: u64,
        doubtful: &[Doubtful],
    ) -> Result<(), AttemptError> {
        deadline::restart();
        let gets = doubtful.iter().map(|of| command("GET", [&*of.key]));
        let replies = self.send(&Request::resendable(gets)).await;
        let replies = replies.map_err(AttemptError::Refused)?;
        for (looked_at, reply) in doubtful.iter().zip(replies) {
            let found = match reply {
                Reply::Text(bytes) => Some(digest(&bytes)),
                Reply::Other(Value::Nil) => None,
                Reply::Other(_) => Some(digest(b"")), // which is no value that is ever written
                Reply::Lost(error) => return Err(AttemptError::Refused(error)),
            };
            let mut state = self.barrier.state.lock();
            state.acknowledged.rechecked(epoch, looked_at, found);
        }
        Ok(())
    }

    /// An id that is there although all under its prefix were dropped; None if there is none.
    async fn remaining(
        self: &Arc<Self>,
        prefix: &[u8],
        number: u64,
    ) -> Result<Option<String>, AttemptError> {
        let pattern = pattern_of(&String::from_utf8_lossy(prefix));
        let arguments: [&[u8]; 4] = [b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_COUNT];
        let mut place = 0;
        loop {
            deadline::restart();
            let page = self.scan(place, &arguments).await;
            let (next, keys) = page.map_err(AttemptError::Refused)?;
            for key in keys {
                let id = key.strip_prefix(prefix).map(std::str::from_utf8);
                let Some(Ok(id)) = id else { continue };
                let state = self.barrier.state.lock();
                if state.acknowledged.contradicts_drop(prefix, number, &key) {
                    return Ok(Some(id.to_owned()));
                }
            }
            if next == 0 {
                return Ok(None);
            }
            place = next;
        }
    }
}

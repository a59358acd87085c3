//! The barrier behind `index_done_callback`: one at a time, shared by all who arrive while another
//! is under way, since what they wait for came before it.

mod fsync;
mod line;
mod snapshot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, Shared, join_all};
use redis::Value;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::backoff::{FIRST_BACKOFF, LONGEST_BACKOFF, jitter};
use super::node::{Failed, Node};
use super::{Answer, Connections, Request, command};
use crate::durability::{Change, Durability, Unproved};
use crate::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use crate::keyspace::Keyspace;
use line::{Line, Trouble};

/// Keys in one request of those that are looked at again.
const PIECE: usize = 64;

type Round = Shared<BoxFuture<'static, Result<()>>>;

/// What one set of connections has done, how much of it is proved, and the barrier to come.
#[derive(Default)]
pub(super) struct Barrier {
    state: Mutex<State>,
    /// Held by the barrier that is under way.
    lines: tokio::sync::Mutex<HashMap<Endpoint, Line>>,
}

#[derive(Default)]
struct State {
    unproved: Unproved,
    /// Requests that a barrier has passed for.
    passed: u64,
    /// The barriers that wait for the one under way, by their markers: one, or one more for
    /// namespaces outside the workspace.
    next: HashMap<Vec<u8>, Round>,
}

impl Barrier {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves counts and a map that are still valid ones.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// Whether a barrier will want to know what was written.
    pub(crate) fn has_barrier(&self) -> bool {
        self.config.durability != Durability::Ack
    }

    /// To be taken before a request is sent that will be noted.
    pub(crate) fn barrier_epoch(&self) -> u64 {
        self.barrier.lock().unproved.epoch()
    }

    /// A request that was sent in this epoch was answered, and did this.
    pub(crate) fn note(
        &self,
        epoch: u64,
        changes: impl Iterator<Item = (Vec<u8>, Option<Change>)>,
    ) {
        self.barrier.lock().unproved.note(epoch, changes);
    }

    /// What is under this prefix changed, and nobody knows what or how.
    pub(crate) fn note_unproved(&self, prefix: &[u8]) {
        self.barrier.lock().unproved.forget(prefix);
    }

    /// Returns once all that was answered before is as safe as the settings ask. Costs nothing if
    /// nothing was written since the last time. What was lost is of this keyspace alone.
    pub(crate) async fn barrier(self: &Arc<Self>, keyspace: &Keyspace) -> Result<()> {
        let Some(round) = self.join_barrier(keyspace) else {
            return Ok(());
        };
        round.await?;
        let prefix = keyspace.prefix().as_bytes();
        let (ids, dropped) = self.barrier.lock().unproved.lost(prefix);
        if ids.is_empty() && !dropped {
            return Ok(());
        }
        let what = if dropped { "a drop, and " } else { "" };
        let why = format!(
            "the server was restarted or replaced, and has lost {what}{} writes: write these ids again, or delete them; this is said until then",
            ids.len()
        );
        let error = self.config.durability.unmet(Durability::Ack, why);
        Err(error.with_unconfirmed(ids))
    }

    /// Begins a barrier that nobody waits for, once much was written that nobody asked one for: what
    /// is remembered of it takes memory. What it comes to is told by the next one.
    pub(crate) fn begin_overdue_barrier(self: &Arc<Self>, keyspace: &Keyspace) {
        // A write is noted where it is given up, too, which may be anywhere.
        if self.barrier.lock().unproved.is_much() && Handle::try_current().is_ok() {
            drop(self.join_barrier(keyspace));
        }
    }

    /// The barrier that covers all that was answered so far; None if there is nothing to wait for.
    fn join_barrier(self: &Arc<Self>, keyspace: &Keyspace) -> Option<Round> {
        if !self.has_barrier() {
            return None;
        }
        let mut state = self.barrier.lock();
        let (ids, dropped) = state.unproved.lost(keyspace.prefix().as_bytes());
        if state.passed == state.unproved.requests() && ids.is_empty() && !dropped {
            return None;
        }
        let marker = keyspace.key_beside("durability");
        if let Some(next) = state.next.get(&marker) {
            return Some(next.clone());
        }
        // On its own: who leaves harms nobody else, and nobody finds half an answer on the line.
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
        let mut lines = self.barrier.lines.lock().await;
        let covered = {
            let mut state = self.barrier.lock();
            // Who comes from now on may have written after what this one covers.
            state.next.remove(&marker);
            state.unproved.requests()
        };
        let limit = self.config.operation_timeout + self.config.durability_timeout;
        let deadline = Instant::now() + limit;
        let mut backoff = FIRST_BACKOFF;
        for attempt in 0.. {
            let error = match self.try_barrier(&mut lines, &marker).await {
                Ok(everywhere) => {
                    if everywhere {
                        let mut state = self.barrier.lock();
                        state.passed = state.passed.max(covered);
                        state.unproved.passed(covered);
                    }
                    return Ok(());
                }
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Lost(error)) => Error::from_redis(&error),
            };
            let pause = backoff.mul_f64(jitter());
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            if attempt == self.config.max_retries || Instant::now() + pause > deadline {
                let message = format!("{}: {error}", self.config.endpoint);
                return Err(Error::new(error.kind(), message));
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// One attempt, from the beginning: a marker that left on a connection that is gone says
    /// nothing, so that another follows on the next. False if some server can have no such marker,
    /// nor any key of that workspace: a cluster keeps what has one hash tag together.
    async fn try_barrier(
        self: &Arc<Self>,
        lines: &mut HashMap<Endpoint, Line>,
        marker: &[u8],
    ) -> Result<bool, Trouble> {
        let nodes = self.primaries().await.map_err(Trouble::Refused)?;
        lines.retain(|known, _| nodes.iter().any(|node| node.endpoint() == known));
        for node in &nodes {
            if node.breaker.is_open() {
                return Err(Trouble::Refused(node.refused()));
            }
            if !lines.contains_key(node.endpoint()) {
                let opened = Line::open(&node.dialer).await;
                let mut line = opened.map_err(|error| self.lost(node, error.into()))?;
                // Now that it is open: what is sent from here on is answered by the same server, or
                // the line will have broken.
                line.epoch = self.barrier.lock().unproved.begin_epoch();
                lines.insert(node.endpoint().clone(), line);
            }
        }
        let epoch = lines.values().map(|line| line.epoch).max();
        self.look_again(epoch.unwrap_or(0)).await?;
        let confirmed = nodes.iter().map(|node| {
            let line = lines.remove(node.endpoint());
            let marker = self.key_on(node, marker);
            async move {
                let mut line = line?;
                let outcome = match marker {
                    Some(marker) => line.confirm(&node.config, &marker).await.map(|()| true),
                    None => Ok(false),
                };
                Some((node, line, outcome))
            }
        });
        let mut outcome = Ok(true);
        for (node, line, confirmed) in join_all(confirmed).await.into_iter().flatten() {
            match confirmed {
                Err(trouble @ Trouble::Lost(_)) => outcome = Err(self.lost(node, trouble)),
                confirmed => {
                    lines.insert(node.endpoint().clone(), line);
                    outcome = outcome.and_then(|all| confirmed.map(|marked| all && marked));
                }
            }
        }
        outcome
    }

    /// A server is not to be had now; the topology is told.
    fn lost(&self, node: &Arc<Node>, trouble: Trouble) -> Trouble {
        if let Trouble::Lost(error) = &trouble {
            let failed = Failed {
                sent: true,
                ..Failed::unsent(error.clone())
            };
            self.topology.failed(node, &failed);
        }
        trouble
    }

    /// Reads what was written before the line was open: it is there, or it was lost.
    async fn look_again(self: &Arc<Self>, epoch: u64) -> Result<(), Trouble> {
        let doubtful = self.barrier.lock().unproved.doubtful(epoch);
        for piece in doubtful.chunks(PIECE) {
            let gets = piece.iter().map(|(key, _)| command("GET", [&**key]));
            let answers = self.send(&Request::resendable(gets)).await;
            let answers = answers.map_err(Trouble::Refused)?;
            for ((key, change), answer) in piece.iter().zip(answers) {
                let shown = match answer {
                    Answer::Text(bytes) => change.is_shown_by(Some(&bytes)),
                    Answer::Other(Value::Nil) => change.is_shown_by(None),
                    Answer::Other(_) => false,
                    Answer::Lost(error) => return Err(Trouble::Refused(error)),
                };
                let mut state = self.barrier.lock();
                state.unproved.looked_at(epoch, key, *change, shown);
            }
        }
        Ok(())
    }
}

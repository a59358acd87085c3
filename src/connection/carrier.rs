//! What carries one attempt: the caller's own lane, or a connection of the pool.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::ConnectionLike;
use tokio::time::{Instant, timeout_at};

use super::Answer;
use super::driver::Driver;
use super::lane::{Cut, Lane};
use super::node::Node;
use super::pool::Lease;
use super::request::Request;
use super::timed_out;

/// How late a deadline is looked at by a thread that does nothing else.
const LATE: Duration = Duration::from_millis(30);
/// How often a late look is forgiven: a thread that is always late would wait for ever.
const FORGIVEN: usize = 3;

pub(super) enum Carrier {
    Lane(Arc<Lane>),
    Pooled(Lease),
}

impl Carrier {
    /// The lane of this thread's driver; without one, the pool's least busy connection.
    pub(super) async fn find(node: &Arc<Node>) -> Result<Self, RedisError> {
        if let Some(driver) = Driver::current() {
            match driver.lane(node).await {
                Ok(Some(lane)) => return Ok(Self::Lane(lane)),
                Ok(None) => {}
                // A server that takes no more clients still serves those it has.
                Err(error) => {
                    let open = node.pool.open_lease();
                    return open.map(Self::Pooled).ok_or(error);
                }
            }
        }
        node.pool.lease().await.map(Self::Pooled)
    }

    /// Sends the commands, and waits for the answer of each, but not beyond `limit`.
    pub(super) async fn exchange_until(
        &self,
        request: &Request,
        mut limit: Instant,
    ) -> Result<Vec<Answer>, Cut> {
        let mut answers = pin!(self.exchange(request));
        let mut forgiven = 0;
        loop {
            if let Ok(answers) = timeout_at(limit, &mut answers).await {
                return answers;
            }
            // The thread that drives a lane may have been kept from it by work of its own, with the
            // answers waiting in the socket: time in which it did not look does not count.
            let late = limit.elapsed();
            if late < LATE || forgiven == FORGIVEN || matches!(self, Self::Pooled(_)) {
                break;
            }
            limit = Instant::now() + late / 2;
            forgiven += 1;
        }
        let Self::Lane(lane) = self else {
            return Err(timed_out().into());
        };
        // Who waits on a lane that ends is told at once, and what has come of the answers.
        lane.close();
        answers.await.map_err(|cut| Cut {
            error: timed_out(),
            ..cut
        })
    }

    async fn exchange(&self, request: &Request) -> Result<Vec<Answer>, Cut> {
        match self {
            Self::Lane(lane) => {
                let answers = lane.exchange(request).await;
                answers.unwrap_or_else(|_| {
                    let aborted = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
                    Err(RedisError::from(aborted).into())
                })
            }
            Self::Pooled(lease) => {
                let mut connection = lease.connection();
                let pipeline = request.pipeline();
                let answers = connection.req_packed_commands(&pipeline, 0, request.answers);
                Ok(answers.await?.into_iter().map(Answer::from).collect())
            }
        }
    }

    /// Whether this error means that a lane was lost, perhaps while nobody used it.
    pub(super) fn is_lost_lane(&self, error: &RedisError) -> bool {
        matches!(self, Self::Lane(_)) && !error.is_timeout()
    }

    /// Trusts it with nothing more.
    pub(super) fn discard(&self, node: &Node) {
        match self {
            Self::Lane(lane) => {
                lane.close();
                // What ended one has ended those that wait, as a rule.
                node.lanes.drop_spare();
            }
            Self::Pooled(lease) => node.pool.discard(lease),
        }
    }
}

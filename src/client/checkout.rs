//! What carries one attempt: the caller's own connection, or a connection of the pool.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::ConnectionLike;
use tokio::time::{Instant, timeout_at};

use super::Reply;
use super::connection::{Connection, PartialReply};
use super::pool::Pool;
use super::pool::multiplexed::Lease;
use super::protocol::request::Request;
use super::reactor::Reactor;
use super::timed_out;

/// How late a deadline is looked at by a thread that does nothing else.
const LATE: Duration = Duration::from_millis(30);
/// How often a late look is forgiven: a thread that is always late would wait for ever.
const FORGIVEN: usize = 3;

pub(super) enum Checkout {
    Direct(Arc<Connection>),
    Multiplexed(Lease),
}

impl Checkout {
    /// The direct connection of this thread's reactor; without one, the pool's least busy connection.
    pub(super) async fn acquire(pool: &Arc<Pool>) -> Result<Self, RedisError> {
        if let Some(reactor) = Reactor::current() {
            match reactor.connection(pool).await {
                Ok(Some(connection)) => return Ok(Self::Direct(connection)),
                Ok(None) => {}
                // A server that takes no more clients still serves those it has.
                Err(error) => {
                    let open = pool.multiplexed.open_lease();
                    return open.map(Self::Multiplexed).ok_or(error);
                }
            }
        }
        pool.multiplexed.lease().await.map(Self::Multiplexed)
    }

    /// Sends the commands, and waits for the answer of each, but not beyond `limit`.
    pub(super) async fn exchange_until(
        &self,
        request: &Request,
        mut limit: Instant,
    ) -> Result<Vec<Reply>, PartialReply> {
        let mut replies = pin!(self.exchange(request));
        let mut forgiven = 0;
        loop {
            if let Ok(replies) = timeout_at(limit, &mut replies).await {
                return replies;
            }
            // The thread that drives a direct connection may have been kept from it by work of its own, with the
            // answers waiting in the socket: time in which it did not look does not count.
            let late = limit.elapsed();
            if late < LATE || forgiven == FORGIVEN || matches!(self, Self::Multiplexed(_)) {
                break;
            }
            limit = Instant::now() + late / 2;
            forgiven += 1;
        }
        let Self::Direct(connection) = self else {
            return Err(timed_out().into());
        };
        // Who waits on a direct connection that ends learns it at once, and what has come of the answers.
        connection.close();
        replies.await.map_err(|partial| PartialReply {
            error: timed_out(),
            ..partial
        })
    }

    async fn exchange(&self, request: &Request) -> Result<Vec<Reply>, PartialReply> {
        match self {
            Self::Direct(connection) => {
                let replies = connection.exchange(request).await;
                replies.unwrap_or_else(|_| {
                    let aborted = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
                    Err(RedisError::from(aborted).into())
                })
            }
            Self::Multiplexed(lease) => {
                let mut connection = lease.connection();
                let pipeline = request.pipeline();
                let replies = connection.req_packed_commands(&pipeline, 0, request.replies);
                Ok(replies.await?.into_iter().map(Reply::from).collect())
            }
        }
    }

    /// Whether this error means that a direct connection was lost, perhaps while nobody used it.
    pub(super) fn is_lost_connection(&self, error: &RedisError) -> bool {
        matches!(self, Self::Direct(_)) && !error.is_timeout()
    }

    /// Trusts it with nothing more.
    pub(super) fn discard(&self, pool: &Pool) {
        match self {
            Self::Direct(connection) => {
                connection.close();
                // What ended one has ended those that wait, as a rule.
                pool.direct.close_idle();
            }
            Self::Multiplexed(lease) => pool.multiplexed.discard(lease),
        }
    }
}

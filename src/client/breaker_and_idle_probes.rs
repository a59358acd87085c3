//! What the breaker counts, which is calls and no questions beside them; the probes of a server that is away; the care
//! of idle connections.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::backoff::Backoff;
use super::node::Node;
use super::{Connections, Reply, Request, deadline};
use crate::error::Error;
use crate::log_events::Event;
use crate::metrics::ServerCount;

/// First pause between two probes of an unreachable server.
pub(super) const FIRST_PROBE: Duration = Duration::from_millis(20);

impl Node {
    /// Asks something once that no caller waits for. What becomes of it is no word on the server:
    /// the breaker hears of calls alone.
    pub(crate) async fn query_once(
        self: &Arc<Self>,
        request: &Request,
    ) -> Result<Vec<Reply>, Error> {
        let deadline = deadline::current(self.config.operation_timeout);
        let replies = self.attempt(request, deadline).await;
        replies.map_err(|failed| Error::from_redis(&failed.error))
    }
}

impl Connections {
    /// An operation failed; the breaker counts those that found no server.
    pub(super) fn count_failure(self: &Arc<Self>, node: &Arc<Node>, outage: bool) {
        if !outage {
            node.breaker.answered();
        } else if node.breaker.failed() {
            self.counters.count(ServerCount::BreakerOpened, 1);
            let line = format!(
                "{}: calls fail at once from now on, since several in a row found no server; it is probed, and they pass again as soon as it answers",
                node.endpoint()
            );
            self.notices.push(Event::BreakerOpen, line);
            let (connections, node) = (Arc::downgrade(self), Arc::downgrade(node));
            tokio::spawn(Self::probe_until_back(
                connections,
                node,
                self.config.breaker_recovery,
            ));
        }
    }

    /// Pings until the server answers, then closes its breaker. Ends when no store is left, or the
    /// server is none of them any more.
    async fn probe_until_back(connections: Weak<Self>, node: Weak<Node>, recovery: Duration) {
        let mut backoff = Backoff::new(FIRST_PROBE, recovery);
        loop {
            sleep(backoff.pause()).await;
            let (Some(connections), Some(node)) = (connections.upgrade(), node.upgrade()) else {
                return;
            };
            if connections.topology.has_recovered(&node).await {
                node.breaker.close();
                connections.counters.count(ServerCount::BreakerClosed, 1);
                let line = format!("{}: the server answers, calls pass again", node.endpoint());
                connections.notices.push(Event::BreakerClosed, line);
                return;
            }
        }
    }

    /// Looks after idle connections for as long as a store uses them.
    pub(super) fn maintain(self: &Arc<Self>) {
        // Loaded first: the line stays shared between cores.
        if self.maintained.load(Relaxed) || self.maintained.swap(true, Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        let interval = self.config.health_check_interval;
        if interval.is_zero() {
            return;
        }
        let task = tokio::spawn(async move {
            loop {
                sleep(interval).await;
                let Some(connections) = weak.upgrade() else {
                    return;
                };
                connections.topology.maintain().await;
            }
        });
        let _ = self.maintenance.set(task.abort_handle()); // only one caller comes here
    }
}

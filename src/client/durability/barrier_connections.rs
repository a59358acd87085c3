//! The barrier's connections, one to each primary: opened in the background with the first call, again where one was
//! lost, and who answers on each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;

use super::wait::{AttemptError, BarrierSession, Incarnation};
use crate::client::Connections;
use crate::client::node::Node;
use crate::config::endpoint::Endpoint;

/// The barrier's connections, one to each primary.
#[derive(Default)]
pub(super) struct BarrierSessions {
    pub(super) open: HashMap<Endpoint, BarrierSession>,
    /// The servers that were reached last, whether or not the session to them is still open.
    pub(super) servers: HashMap<Endpoint, Server>,
}

impl BarrierSessions {
    /// Whether all servers say who they are.
    pub(super) fn are_identified(&self) -> bool {
        let mut servers = self.servers.values();
        servers.all(|server| server.incarnation.is_some())
    }
}

pub(super) struct Server {
    /// None where this user may not ask for it.
    incarnation: Option<Incarnation>,
    /// It has answered what was sent, or looked at, in this epoch and later.
    pub(super) epoch: u64,
}

impl Connections {
    /// Opens the barrier's sessions with the first request, so that what is written from soon after it
    /// is known to have gone to the server that a barrier finds. Nobody waits for it.
    pub(crate) fn prepare_barriers(self: &Arc<Self>) {
        if !self.has_barrier()
            || self.barrier.prepared.load(Relaxed)
            || Handle::try_current().is_err()
            || self.barrier.prepared.swap(true, Relaxed)
        {
            return;
        }
        let connections = Arc::clone(self);
        tokio::spawn(async move {
            let mut sessions = connections.barrier.sessions.lock().await;
            if let Ok(nodes) = connections.primaries().await {
                // What fails here fails for the barrier too, which says so.
                let _ = connections.open_sessions(&mut sessions, &nodes).await;
            }
        });
    }

    /// Opens the lines that are missing, and asks who answers on each: one that is not the server
    /// it was, or may be another, vouches only for what is sent from now on.
    pub(super) async fn open_sessions(
        &self,
        sessions: &mut BarrierSessions,
        nodes: &[Arc<Node>],
    ) -> Result<(), AttemptError> {
        let is_primary = |known: &Endpoint| nodes.iter().any(|node| node.endpoint() == known);
        sessions.open.retain(|known, _| is_primary(known));
        sessions.servers.retain(|known, _| is_primary(known));
        for node in nodes {
            if node.breaker.is_open() {
                return Err(AttemptError::Refused(node.refused()));
            }
            let endpoint = node.endpoint();
            let mut found = None;
            if let Some(mut session) = sessions.open.remove(endpoint) {
                // One that broke while nobody used it costs no attempt.
                found = match session.incarnation(&node.config).await {
                    Ok(incarnation) => Some((session, incarnation, true)),
                    Err(AttemptError::Lost(_)) => None,
                    Err(refused) => return Err(refused),
                };
            }
            let (session, incarnation, was_open) = if let Some(found) = found {
                found
            } else {
                let opened = Self::open_session(node).await;
                let (session, incarnation) = opened.map_err(|error| self.lost(node, error))?;
                (session, incarnation, false)
            };
            let is_the_same = sessions.servers.get(endpoint).is_some_and(|server| {
                server.incarnation == incarnation && (was_open || incarnation.is_some())
            });
            if !is_the_same {
                // Now that it is open: what is sent from here on is answered by this server, or by
                // one that is found to be another the next time.
                let epoch = self.barrier.state.lock().acknowledged.begin_epoch();
                let server = Server { incarnation, epoch };
                sessions.servers.insert(endpoint.clone(), server);
            }
            sessions.open.insert(endpoint.clone(), session);
        }
        Ok(())
    }

    async fn open_session(
        node: &Node,
    ) -> Result<(BarrierSession, Option<Incarnation>), AttemptError> {
        let mut session = BarrierSession::open(&node.pool.connector).await?;
        let incarnation = session.incarnation(&node.config).await?;
        Ok((session, incarnation))
    }

    /// A server is not to be had now; the topology is notified.
    pub(super) fn lost(&self, node: &Arc<Node>, error: AttemptError) -> AttemptError {
        if matches!(error, AttemptError::Lost(_)) {
            self.topology.failed(node, false);
        }
        error
    }
}

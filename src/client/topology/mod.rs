//! Which servers there are, and which of them a request goes to.

pub(super) mod cluster;
pub(super) mod sentinel;

use std::sync::Arc;

use tokio::time::Instant;

use super::Reply;
use super::node::{FailedAttempt, Node};
use crate::config::ServerConfig;
use crate::error::Result;
use cluster::Cluster;
use sentinel::Sentinels;

/// The servers behind one handle. A server may be replaced by another at any time, so a node is
/// asked for anew at each attempt.
pub(super) enum Topology {
    /// One server, for ever.
    One(Arc<Node>),
    /// Many, each with some of the keys.
    Cluster(Arc<Cluster>),
    /// One at a time, of which sentinels say which.
    Sentinel(Arc<Sentinels>),
}

impl Topology {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig) -> Self {
        if config.cluster {
            return Self::Cluster(Cluster::new(config));
        }
        if let Some(sentinel) = &config.sentinel {
            return Self::Sentinel(Sentinels::new(config, sentinel));
        }
        Self::One(Node::new(config.clone()))
    }

    /// The server that a request goes to now, whatever its keys are.
    pub(super) async fn node(&self) -> Result<Arc<Node>> {
        match self {
            Self::One(node) => Ok(Arc::clone(node)),
            Self::Cluster(cluster) => {
                let primaries = cluster.primaries().await?;
                let first = primaries.into_iter().next();
                Ok(first.unwrap_or_else(|| Arc::clone(cluster.entry())))
            }
            Self::Sentinel(sentinels) => sentinels.node().await,
        }
    }

    /// An attempt at this node failed: it may not be the one to ask any more.
    pub(super) fn failed(&self, node: &Arc<Node>, failed: &FailedAttempt) {
        match self {
            Self::Cluster(cluster) => cluster.refresh_soon(),
            // A connection that was lost while idle says nothing of the server.
            Self::Sentinel(sentinels) if !failed.stale => sentinels.suspect(node),
            Self::One(_) | Self::Sentinel(_) => {}
        }
    }

    /// Whether a server has refused, having done nothing, for want of being the master.
    pub(super) fn is_demoted(&self, node: &Arc<Node>, replies: &[Reply]) -> bool {
        match self {
            Self::One(_) | Self::Cluster(_) => false,
            Self::Sentinel(sentinels) => sentinels.is_demoted(node, replies),
        }
    }

    /// Whether an answer to what was sent then comes from who may give one.
    pub(super) async fn believes(&self, node: &Arc<Node>, sent: Instant) -> bool {
        match self {
            Self::One(_) | Self::Cluster(_) => true,
            Self::Sentinel(sentinels) => sentinels.believes(node, sent).await,
        }
    }

    /// Whether calls that were refused on account of this node may pass again.
    pub(super) async fn has_recovered(&self, node: &Arc<Node>) -> bool {
        match self {
            Self::One(_) => node.answers_ping().await,
            Self::Cluster(cluster) => cluster.has_recovered(node).await,
            Self::Sentinel(sentinels) => sentinels.has_recovered(node).await,
        }
    }

    /// Looks after what is idle.
    pub(super) async fn maintain(&self) {
        match self {
            Self::One(_) => {}
            Self::Cluster(cluster) => cluster.refresh_soon(),
            Self::Sentinel(sentinels) => sentinels.refresh_soon(),
        }
        for node in self.nodes() {
            node.maintain().await;
        }
    }

    /// The servers that are in use now.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::One(node) => vec![Arc::clone(node)],
            Self::Cluster(cluster) => cluster.nodes(),
            Self::Sentinel(sentinels) => sentinels.master().into_iter().collect(),
        }
    }

    /// What stands for the servers where none of them is known.
    pub(super) fn entry(&self) -> &Arc<Node> {
        match self {
            Self::One(node) => node,
            Self::Cluster(cluster) => cluster.entry(),
            Self::Sentinel(sentinels) => sentinels.entry(),
        }
    }
}

//! Which servers there are, and which of them a request goes to.

use std::sync::Arc;

use super::cluster::Cluster;
use super::node::{Failed, Node};
use crate::config::ServerConfig;
use crate::error::Result;

/// The servers behind one handle. A server may be replaced by another at any time, so a node is
/// asked for anew at each attempt.
pub(super) enum Topology {
    /// One server, for ever.
    One(Arc<Node>),
    /// Many, each with some of the keys.
    Cluster(Arc<Cluster>),
}

impl Topology {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig) -> Self {
        if config.cluster {
            return Self::Cluster(Cluster::new(config));
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
        }
    }

    /// An attempt at this node failed: it may not be the one to ask any more.
    pub(super) fn failed(&self, _node: &Arc<Node>, _failed: &Failed) {
        match self {
            Self::One(_) => {}
            Self::Cluster(cluster) => cluster.look_soon(),
        }
    }

    /// Whether calls that were refused on account of this node may pass again.
    pub(super) async fn is_back(&self, node: &Arc<Node>) -> bool {
        match self {
            Self::One(_) => node.answers_ping().await,
            Self::Cluster(cluster) => cluster.is_back(node).await,
        }
    }

    /// Looks after what is idle.
    pub(super) async fn tend(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.look_soon();
        }
        for node in self.nodes() {
            node.tend().await;
        }
    }

    /// The servers that are in use now.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::One(node) => vec![Arc::clone(node)],
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }
}

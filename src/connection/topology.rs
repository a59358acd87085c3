//! Which servers there are, and which of them a request goes to.

use std::sync::Arc;

use super::node::{Failed, Node};
use crate::config::ServerConfig;
use crate::error::Result;

/// The servers behind one handle. A server may be replaced by another at any time, so a node is
/// asked for anew at each attempt.
pub(super) enum Topology {
    /// One server, for ever.
    One(Arc<Node>),
}

impl Topology {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self::One(Node::new(config.clone()))
    }

    /// The server that a request goes to now.
    #[expect(clippy::unused_async, reason = "others have to ask where it is")]
    pub(super) async fn node(&self) -> Result<Arc<Node>> {
        match self {
            Self::One(node) => Ok(Arc::clone(node)),
        }
    }

    /// An attempt at this node failed: it may not be the one to ask any more.
    pub(super) fn failed(&self, _node: &Arc<Node>, _failed: &Failed) {
        match self {
            Self::One(_) => {}
        }
    }

    /// The servers that are in use now.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::One(node) => vec![Arc::clone(node)],
        }
    }
}

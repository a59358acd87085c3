//! Whether the keyspace is filled from this working directory, or another graph's.

use std::sync::Arc;

use crate::client::{Connections, Reply, Request, command};
use crate::error::Result;

/// Which working directory fills a keyspace, noted under a key that is of no namespace.
pub(super) struct Origin {
    key: Vec<u8>,
    working_dir: String,
}

impl Origin {
    pub(super) fn new(key: Vec<u8>, working_dir: String) -> Self {
        Self { key, working_dir }
    }

    /// The name of this look: a process may fill one keyspace from two directories.
    pub(super) fn name(&self) -> Vec<u8> {
        [&*self.key, b":", self.working_dir.as_bytes()].concat()
    }

    /// Notes the working directory if none is noted yet, and compares it with the one that is.
    pub(super) async fn compare(&self, connections: &Arc<Connections>) -> Result<Option<String>> {
        let ours = self.working_dir.as_bytes();
        let note = command("SET", [&*self.key, ours, b"NX"]);
        let noted = command("GET", [&*self.key]);
        let replies = connections
            .send(&Request::resendable([note, noted]))
            .await?;
        let noted = replies.into_iter().nth(1).map(Reply::checked).transpose()?;
        Ok(match noted {
            Some(Reply::Text(theirs)) if theirs != ours => {
                self.leave_trace(connections).await?;
                Some(format!(
                    "this keyspace was filled from the working directory {:?}, and this process works in {:?}: two graphs that share one keyspace mix their documents and reports; give each a redis_workspace",
                    String::from_utf8_lossy(&theirs),
                    self.working_dir,
                ))
            }
            _ => None,
        })
    }

    /// Notes a second working directory beside the first, for a diagnosis that knows neither.
    async fn leave_trace(&self, connections: &Arc<Connections>) -> Result<()> {
        let trace = command("SET", [&*self.name(), b""]);
        connections.send(&Request::resendable([trace])).await?;
        Ok(())
    }
}

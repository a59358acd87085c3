//! What is looked at once, at the first use of a keyspace, and told in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::connection::{Answer, Connections, Request, command};
use crate::error::Result;
use crate::notices::Notices;

/// Which working directory fills a keyspace, noted under a key that is of no namespace.
pub(crate) struct Origin {
    key: Vec<u8>,
    working_dir: String,
    begun: AtomicBool,
}

impl Origin {
    pub(crate) fn new(key: Vec<u8>, working_dir: String) -> Self {
        Self {
            key,
            working_dir,
            begun: AtomicBool::new(false),
        }
    }

    /// Whether there is something to look at: not once a store over these connections did.
    pub(crate) fn is_due(&self, connections: &Connections) -> bool {
        !self.begun.load(Relaxed)
            && !self.begun.swap(true, Relaxed)
            && connections.is_new(&self.key)
    }

    /// Looks; what fails, or is given up with its caller, is looked at again.
    pub(crate) async fn look(&self, connections: &Arc<Connections>, notices: &Notices) {
        let again = Again {
            origin: self,
            connections,
        };
        if let Ok(notice) = self.compare(connections).await {
            std::mem::forget(again);
            if let Some(notice) = notice {
                notices.push(notice);
            }
        }
    }

    /// Notes the working directory if none is noted yet, and compares it with the one that is.
    async fn compare(&self, connections: &Arc<Connections>) -> Result<Option<String>> {
        let ours = self.working_dir.as_bytes();
        let note = command("SET", [&*self.key, ours, b"NX"]);
        let noted = command("GET", [&*self.key]);
        let answers = connections
            .send(&Request::resendable([note, noted]))
            .await?;
        let noted = answers
            .into_iter()
            .nth(1)
            .map(Answer::checked)
            .transpose()?;
        Ok(match noted {
            Some(Answer::Text(theirs)) if theirs != ours => {
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
        let key = [&*self.key, b":", self.working_dir.as_bytes()].concat();
        let trace = command("SET", [&*key, b""]);
        connections.send(&Request::resendable([trace])).await?;
        Ok(())
    }
}

/// Lets the look be taken again, when dropped.
struct Again<'a> {
    origin: &'a Origin,
    connections: &'a Connections,
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.connections.forget(&self.origin.key);
        self.origin.begun.store(false, Relaxed);
    }
}

//! What is looked at once, at the first use of a keyspace, and told in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis::Value;

use crate::connection::{Connections, Request, answer, command};
use crate::error::Result;
use crate::notices::Notices;

/// Which working directory fills a keyspace, noted under a key that is of no namespace.
#[derive(Clone)]
pub(crate) struct Origin {
    key: Vec<u8>,
    working_dir: String,
    begun: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn new(key: Vec<u8>, working_dir: String) -> Self {
        Self {
            key,
            working_dir,
            begun: Arc::default(),
        }
    }

    /// Looks in the background, once for all stores over these connections; again if it failed.
    pub(crate) fn look(&self, connections: &Arc<Connections>, notices: &Arc<Notices>) {
        if self.begun.load(Relaxed) || self.begun.swap(true, Relaxed) {
            return;
        }
        if !connections.is_new(&self.key) {
            return;
        }
        let (origin, connections, notices) =
            (self.clone(), Arc::clone(connections), Arc::clone(notices));
        tokio::spawn(async move {
            match origin.compare(&connections).await {
                Ok(Some(notice)) => notices.push(notice),
                Ok(None) => {}
                Err(_) => {
                    connections.forget(&origin.key);
                    origin.begun.store(false, Relaxed);
                }
            }
        });
    }

    /// Notes the working directory if none is noted yet, and compares it with the one that is.
    async fn compare(&self, connections: &Arc<Connections>) -> Result<Option<String>> {
        let ours = self.working_dir.as_bytes();
        let note = command("SET", [&*self.key, ours, b"NX"]);
        let noted = command("GET", [&*self.key]);
        let answers = connections
            .send(&Request::resendable([note, noted]))
            .await?;
        let noted = answers.into_iter().nth(1).map(answer).transpose()?;
        Ok(match noted {
            Some(Value::BulkString(theirs)) if theirs != ours => Some(format!(
                "this keyspace was filled from the working directory {:?}, and this process works in {:?}: two graphs that share one keyspace mix their documents and reports; give each a redis_workspace",
                String::from_utf8_lossy(&theirs),
                self.working_dir,
            )),
            _ => None,
        })
    }
}

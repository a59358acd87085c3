//! What is looked at once, at the first use of a keyspace, and told in the log.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use redis::Value;

use crate::connection::{Connections, Request, answer, command};
use crate::error::Result;

/// The looks of one store, and what they have found.
#[derive(Default)]
pub(crate) struct FirstUse {
    begun: AtomicBool,
    found: AtomicBool,
    notices: Mutex<Vec<String>>,
}

impl FirstUse {
    /// Looks in the background, the first time it is called. A look that fails finds nothing: the
    /// call that follows meets the same failure and tells it.
    pub(crate) fn begin(self: &Arc<Self>, connections: &Arc<Connections>, origin: Option<&Origin>) {
        if self.begun.load(Relaxed) || self.begun.swap(true, Relaxed) {
            return;
        }
        let Some(origin) = origin
            .filter(|origin| connections.is_new(&origin.key))
            .cloned()
        else {
            return;
        };
        let (looks, connections) = (Arc::clone(self), Arc::clone(connections));
        tokio::spawn(async move {
            if let Ok(Some(notice)) = origin.compare(&connections).await {
                looks
                    .notices
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(notice);
                looks.found.store(true, Relaxed);
            }
        });
    }

    /// What was found since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        if !self.found.load(Relaxed) || !self.found.swap(false, Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which working directory fills a keyspace, noted under a key that is of no namespace.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(crate) key: Vec<u8>,
    pub(crate) working_dir: String,
}

impl Origin {
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

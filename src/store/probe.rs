//! Whether ids exist.

use redis::Value;

use super::KvStore;
use crate::connection::{Answer, Request};
use crate::error::Result;

/// A question after the existence of some ids, as the bytes of the wire.
pub struct Probe {
    request: Request,
    /// Kept only where files may have to answer.
    ids: Option<Vec<String>>,
}

impl KvStore {
    /// Asks after these ids, no more than [`KEY_PIECE`](super::KEY_PIECE).
    #[must_use]
    pub fn probe(&self, ids: &[&str]) -> Probe {
        let owned = || ids.iter().map(|&id| id.to_owned()).collect();
        Probe {
            request: self.commands("EXISTS", ids.iter().copied()).resendable(),
            ids: self.reads_files().then(owned),
        }
    }

    /// Whether each of the ids exists, in their order.
    pub async fn exist(&self, probe: Probe) -> Result<Vec<bool>> {
        let answers = match (self.send(&probe.request).await, probe.ids) {
            (Err(error), Some(ids)) => return self.exist_instead(error, &ids).await,
            (answers, _) => answers?,
        };
        let exist = answers.into_iter().map(|answer| match answer.checked() {
            Ok(Answer::Other(Value::Int(count))) => Ok(count > 0),
            Ok(_) => Err(self.unexpected("EXISTS")),
            Err(error) => Err(error.in_namespace(&self.config.namespace)),
        });
        exist.collect()
    }
}

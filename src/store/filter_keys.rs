//! Whether ids exist.

use redis::Value;

use super::KvStore;
use crate::client::{Reply, Request};
use crate::error::Result;

/// A question after the existence of some ids, as the bytes of the wire.
pub struct ExistsRequest {
    request: Request,
    /// Kept only where files may have to answer.
    ids: Option<Vec<String>>,
}

impl KvStore {
    /// Asks after these ids, no more than [`EXISTS_BATCH`](super::EXISTS_BATCH).
    #[must_use]
    pub fn exists_request(&self, ids: &[&str]) -> ExistsRequest {
        let owned = || ids.iter().map(|&id| id.to_owned()).collect();
        ExistsRequest {
            request: self.commands("EXISTS", ids.iter().copied()).resendable(),
            ids: self.reads_files().then(owned),
        }
    }

    /// Whether each of the ids exists, in their order.
    pub async fn exists(&self, exists_request: ExistsRequest) -> Result<Vec<bool>> {
        let replies = match (self.send(&exists_request.request).await, exists_request.ids) {
            (Err(error), Some(ids)) => return self.exist_instead(error, &ids).await,
            (replies, _) => replies?,
        };
        let exist = replies.into_iter().map(|reply| match reply.checked() {
            Ok(Reply::Other(Value::Int(count))) => Ok(count > 0),
            Ok(_) => Err(self.unexpected("EXISTS")),
            Err(error) => Err(error.in_namespace(&self.config.namespace)),
        });
        exist.collect()
    }
}

//! Whether ids exist.

use redis::Value;

use super::KvStore;
use crate::connection::{Answer, Request};
use crate::error::Result;

/// A question after the existence of some ids, as the bytes of the wire.
pub struct Probe(Request);

impl KvStore {
    /// Asks after these ids, no more than [`KEY_PIECE`](super::KEY_PIECE). They are not kept.
    #[must_use]
    pub fn probe(&self, ids: &[&str]) -> Probe {
        Probe(self.commands("EXISTS", ids.iter().copied()).resendable())
    }

    /// Whether each of the ids exists, in their order.
    pub async fn exist(&self, probe: Probe) -> Result<Vec<bool>> {
        let answers = self.send(&probe.0).await?;
        let exist = answers.into_iter().map(|answer| match answer.checked() {
            Ok(Answer::Other(Value::Int(count))) => Ok(count > 0),
            Ok(_) => Err(self.unexpected("EXISTS")),
            Err(error) => Err(error.in_namespace(&self.config.namespace)),
        });
        exist.collect()
    }
}

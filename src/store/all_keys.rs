//! `all_keys`: every id of a namespace.

use super::KvStore;
use crate::error::Result;

impl KvStore {
    /// Every id, each once, in no order.
    pub async fn all_keys(&self) -> Result<Vec<String>> {
        match self.ids_on_server().await {
            Err(error) => self.list_instead(error).await,
            ids => ids,
        }
    }
}

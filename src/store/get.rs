//! `get_by_id`, `get_by_ids`: the values of ids, as JSON bytes.

use bytes::Bytes;
use redis::Value;

use super::{KvStore, compression};
use crate::client::{Reply, Request, command};
use crate::error::Result;

impl KvStore {
    /// The value of one id, as JSON bytes; None if it is absent.
    pub async fn get(&self, id: &str) -> Result<Option<Bytes>> {
        if let Some(json) = self.local(id) {
            return Ok(Some(Bytes::from_owner(json)));
        }
        let found = self.get_batch(&[id.to_owned()]).await;
        found
            .map_err(|error| error.about(id))?
            .pop()
            .unwrap_or(Ok(None))
    }

    /// The values of up to [`BATCH_ITEMS`] ids, in order, from the server: one bad value fails only
    /// its own id.
    pub async fn get_batch(&self, ids: &[String]) -> Result<Vec<Result<Option<Bytes>>>> {
        let found = match &self.near {
            Some(near) => self.get_and_keep(near, ids).await,
            None => self.fetch(ids).await,
        };
        match found {
            Ok(found) => {
                self.largest.note(&found);
                Ok(found)
            }
            Err(error) => self.read_instead(error, ids).await,
        }
    }

    /// The same, and nothing is kept of it, nor is anybody else asked.
    pub(crate) async fn fetch(&self, ids: &[String]) -> Result<Vec<Result<Option<Bytes>>>> {
        let replies = self
            .send(
                &self
                    .commands("GET", ids.iter().map(String::as_str))
                    .resendable(),
            )
            .await?;
        Ok(ids
            .iter()
            .zip(replies)
            .map(|(id, value)| self.found(id, value))
            .collect())
    }

    /// The JSON bytes under a key of any namespace.
    pub async fn get_key(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let request = Request::resendable([command("GET", [key])]);
        let reply = self.send(&request).await?.pop();
        self.found(&String::from_utf8_lossy(key), reply.unwrap_or_default())
    }

    pub(super) fn found(&self, id: &str, reply: Reply) -> Result<Option<Bytes>> {
        let opened = match reply.checked() {
            Ok(Reply::Text(stored)) => {
                compression::open(stored, self.config.max_value_bytes, &self.counters).map(Some)
            }
            Ok(Reply::Other(Value::Nil)) => Ok(None),
            Ok(_) => Err(self.unexpected("GET")),
            Err(error) => Err(error),
        };
        opened.map_err(|error| error.about(id).in_namespace(&self.config.namespace))
    }
}

//! `get_by_id`, `get_by_ids`: the values of ids, as JSON bytes, from the near cache or the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::KvStore;
use super::ask_servers::GET_FRAME;
use crate::client::{Commands, Reply, Request, command};
use crate::error::Result;
use crate::metrics::Direction;
use crate::near_cache::Namespace;
use crate::value;

impl KvStore {
    /// The JSON of an id where a local copy may be served. Waits for nobody.
    pub fn local(&self, id: &str) -> Option<Arc<[u8]>> {
        let copy = self.near.as_ref()?.get(&self.key(id))?;
        if let Some(sliding) = &self.sliding_ttl {
            sliding.read_copy(id);
        }
        Some(copy)
    }

    /// Whether `local` may ever find something.
    pub fn has_copies(&self) -> bool {
        self.near.is_some()
    }

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
                if let Some(sliding) = &self.sliding_ttl {
                    let read = ids.iter().zip(&found);
                    let read = read.filter(|(_, found)| matches!(found, Ok(Some(_))));
                    sliding.read(read.map(|(id, _)| id.as_str()));
                }
                Ok(found)
            }
            Err(error) => self.read_instead(error, ids).await,
        }
    }

    /// Reads ids and keeps copies of what was found.
    async fn get_and_keep(
        &self,
        near: &Namespace,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| self.key(id)).collect();
        let Some(fetch) = near.begin(&keys) else {
            return self.fetch(ids).await;
        };
        // Anybody may give a key a time to live, so it is asked of each.
        let prefix = self.config.keyspace.prefix();
        let bytes = keys.iter().map(Vec::len).sum::<usize>();
        let mut asked = Commands::with_capacity(2 * (bytes + keys.len() * GET_FRAME));
        for id in ids {
            asked.add("GET", (prefix, id), &[]);
            asked.add("PTTL", (prefix, id), &[]);
        }
        let replies = self.send(&asked.resendable()).await?;
        let mut replies = replies.into_iter();
        let mut values = Vec::with_capacity(ids.len());
        for (index, (id, key)) in ids.iter().zip(&keys).enumerate() {
            let (Some(value), Some(ttl)) = (replies.next(), replies.next()) else {
                break;
            };
            let found = self.found(id, value);
            if let (Ok(Some(json)), Some(ttl)) = (&found, Ttl::read(&ttl)) {
                near.keep(&fetch, index, key, json, ttl.0);
            }
            values.push(found);
        }
        Ok(values)
    }

    /// The values of these ids by the server alone: no near cache, no files.
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
                let stored_bytes = stored.len();
                let opened = value::open(stored, self.config.max_value_bytes);
                let json_bytes = opened.as_ref().map_or(0, Bytes::len);
                self.counters
                    .moved(Direction::Read, json_bytes, stored_bytes);
                opened.map(Some)
            }
            Ok(Reply::Other(Value::Nil)) => Ok(None),
            Ok(_) => Err(self.unexpected("GET")),
            Err(error) => Err(error),
        };
        opened.map_err(|error| error.about(id).in_namespace(&self.config.namespace))
    }
}

/// How long a key still lives; None is for ever.
struct Ttl(Option<Duration>);

impl Ttl {
    /// None if the key is gone, or the server did not say.
    fn read(pttl: &Reply) -> Option<Self> {
        match *pttl {
            Reply::Other(Value::Int(-1)) => Some(Self(None)),
            Reply::Other(Value::Int(milliseconds @ 1..)) => {
                let milliseconds = Duration::from_millis(milliseconds.unsigned_abs());
                Some(Self(Some(milliseconds)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lives_as_long_as_its_key_and_not_where_the_server_does_not_say() {
        let read = |pttl| Ttl::read(&Reply::Other(pttl)).map(|ttl| ttl.0);
        assert_eq!(read(Value::Int(-1)), Some(None));
        for milliseconds in [1_i64, 1_500] {
            let left = Duration::from_millis(milliseconds.unsigned_abs());
            assert_eq!(read(Value::Int(milliseconds)), Some(Some(left)));
        }
        for gone in [Value::Int(-2), Value::Int(0), Value::Nil] {
            assert_eq!(read(gone), None);
        }
    }
}

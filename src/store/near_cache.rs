//! What the near cache adds to reads and writes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::{GET_FRAME, KvStore};
use crate::client::{Commands, Reply};
use crate::error::Result;
use crate::near_cache::{Change, Namespace, NearCache, NearCacheStats};

impl KvStore {
    /// The JSON of an id where a local copy may be served. Waits for nobody.
    pub fn local(&self, id: &str) -> Option<Arc<[u8]>> {
        self.near.as_ref()?.get(&self.key(id))
    }

    /// Whether `local` may ever find something.
    pub fn has_copies(&self) -> bool {
        self.near.is_some()
    }

    /// What the near cache holds and has seen; None where this store has none.
    pub fn near_cache(&self) -> Option<NearCacheStats> {
        self.near.as_ref().map(Namespace::stats)
    }

    /// To be held while these ids are written, until the caller is told the outcome.
    pub(super) fn change<'id>(&self, ids: impl Iterator<Item = &'id str>) -> Option<Change<'_>> {
        let cache = self.copies_of_any()?;
        Some(cache.change(ids.map(|id| self.key(id)).collect()))
    }

    /// Forgets all copies once the namespace was dropped: also of keys that the walk over them did
    /// not meet, because someone else has deleted them and word of it is still on its way.
    pub(super) fn forget_all(&self) {
        if let Some(cache) = self.copies_of_any() {
            cache.empty();
        }
    }

    /// The near cache if any store over these connections keeps copies of this namespace: a store
    /// that has none itself writes for those that have.
    fn copies_of_any(&self) -> Option<&NearCache> {
        let cache = self.connections.near_cache()?;
        let prefix = self.config.keyspace.prefix().as_bytes();
        cache.tracking().covers(prefix).then_some(cache)
    }

    /// Reads ids and keeps copies of what was found.
    pub(super) async fn get_and_keep(
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
        let bytes = keys.iter().map(|key| key.len() + GET_FRAME).sum::<usize>();
        let mut asked = Commands::with_capacity(2 * bytes);
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

//! How the registry of a namespace differs from the values there are. Looks, and changes nothing.

use redis::Value;

use super::delete_marks::is_stale;
use super::sorted_set::is_id;
use crate::client::{Request, command};
use crate::error::Result;
use crate::store::{KvStore, batches, first};

/// What [`KvStore::registry_drift`] finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Ids that have a value and are not registered, though all are said to be.
    pub unregistered: u64,
    /// Ids that are registered and have no value, and not because it has expired.
    pub without_value: u64,
}

impl KvStore {
    /// How the registry differs from what is there, whether this store keeps one or not. None
    /// where nobody says that it holds all: the next reader would make it right.
    pub async fn registry_drift(&self) -> Result<Option<Drift>> {
        if self.tokens().await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Drift {
            unregistered: self.unregistered().await?,
            without_value: self.without_value().await?,
        }))
    }

    async fn unregistered(&self) -> Result<u64> {
        let (mut count, mut pages) = (0, self.own_pages());
        while let Some(keys) = pages.next().await? {
            for chunk in batches(&keys) {
                let ids = self.ids_of(chunk).into_iter();
                let scores = ids.map(|id| self.registry.score(id.as_bytes()));
                for score in self.send(&Request::resendable(scores)).await? {
                    count += u64::from(self.reply(score)? == Value::Nil);
                }
            }
        }
        Ok(count)
    }

    async fn without_value(&self) -> Result<u64> {
        let (mut count, mut cursor) = (0, 0);
        loop {
            let page = Request::resendable([self.registry.page(cursor)]);
            let page = self.reply(first(self.send(&page).await?))?;
            let (next, members): (u64, Vec<(Vec<u8>, f64)>) =
                redis::from_redis_value(page).map_err(|_| self.unexpected("ZSCAN"))?;
            let due = |(member, score): &(Vec<u8>, f64)| {
                // A mark is a delete under way, a date in the past a value that has expired: both
                // are swept in time.
                is_id(member) && *score > 0.0 && !is_stale(*score)
            };
            let due: Vec<_> = members.into_iter().filter(due).collect();
            for chunk in batches(&due) {
                let keys = chunk
                    .iter()
                    .map(|(id, _)| [self.config.keyspace.prefix().as_bytes(), id].concat());
                let exist = keys.map(|key| command("EXISTS", [&*key]));
                for reply in self.send(&Request::resendable(exist)).await? {
                    count += u64::from(self.reply(reply)? == Value::Int(0));
                }
            }
            if next == 0 {
                return Ok(count);
            }
            cursor = next;
        }
    }
}

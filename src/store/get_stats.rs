//! `get_stats`: what a namespace holds and takes.

use super::KvStore;
use crate::client::{Load, Request, info_field, memory_usages};
use crate::error::Result;
use crate::metrics::Count;
use crate::near_cache::{Namespace, NearCacheStats};

/// What [`KvStore::stats`] tells.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Ids in the namespace; with a registry, those registered that have not expired.
    pub key_count: u64,
    /// Mean bytes the server spends on a key, over a sample; None in light statistics, of an empty
    /// namespace, or where MEMORY is forbidden.
    pub sample_memory_usage: Option<u64>,
    /// Bytes the servers use in all; None in light statistics, or where INFO is forbidden.
    pub total_redis_memory: Option<u64>,
    /// What this store has written.
    pub written: Written,
    /// The connections, shared with the other namespaces.
    pub load: Load,
}

/// Bytes of the values that a store has sent since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// As JSON.
    pub json_bytes: u64,
    /// As they lie on the server: less where values were compressed.
    pub stored_bytes: u64,
}

/// Keys whose memory is sampled for the statistics.
const SAMPLE: usize = 16;

impl KvStore {
    /// Counts and sizes. `light` leaves out what samples values or asks INFO.
    pub async fn stats(&self, light: bool) -> Result<Stats> {
        let (key_count, ids) = if self.registry.is_on() {
            self.registered_count(SAMPLE).await?
        } else {
            let ids = self.all_keys().await?;
            (ids.len() as u64, ids)
        };
        let mut stats = Stats {
            key_count,
            sample_memory_usage: None,
            total_redis_memory: None,
            written: Written {
                json_bytes: self.counters.get(Count::JsonWritten),
                stored_bytes: self.counters.get(Count::StoredWritten),
            },
            load: self.connections.load(),
        };
        if !light {
            stats.sample_memory_usage = self.mean_memory(&ids).await?;
            stats.total_redis_memory = self.used_memory().await?;
        }
        Ok(stats)
    }

    /// What the near cache holds and has seen; None where this store has none.
    pub fn near_cache(&self) -> Option<NearCacheStats> {
        self.near.as_ref().map(Namespace::stats)
    }

    /// Mean bytes that the server spends on a key, over the first few of these ids; None of none, or
    /// where MEMORY is forbidden.
    pub async fn mean_memory(&self, ids: &[String]) -> Result<Option<u64>> {
        let usages = ids.iter().take(SAMPLE).map(|id| {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(self.key(id));
            usage
        });
        let sizes = memory_usages(self.send(&Request::resendable(usages)).await?);
        Ok(sizes.iter().sum::<u64>().checked_div(sizes.len() as u64))
    }

    async fn used_memory(&self) -> Result<Option<u64>> {
        let sections = match self.info("memory").await {
            Ok(sections) => sections,
            Err(error) if error.is_outage() => return Err(error),
            Err(_) => return Ok(None), // a user who may not ask INFO still may have the rest
        };
        let mut used = sections
            .iter()
            .map(|(_, text)| info_field(text, "used_memory")?.parse::<u64>().ok());
        Ok(used.try_fold(0, |sum: u64, bytes| Some(sum.saturating_add(bytes?))))
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::store::tests::{open, settings};

    #[tokio::test]
    async fn memory_is_no_secret_of_a_server_that_is_away() {
        let error = open(settings()).used_memory().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }
}

//! `get_stats`: what a namespace holds and takes.

use redis::Value;

use super::{KvStore, Written};
use crate::client::{Load, Request};
use crate::error::Result;

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
            written: self.compressor.written(),
            load: self.connections.load(),
        };
        if !light {
            stats.sample_memory_usage = self.mean_memory(&ids).await?;
            stats.total_redis_memory = self.used_memory().await?;
        }
        Ok(stats)
    }

    /// Mean bytes that the server spends on a key, over the first few of these ids; None of none, or
    /// where MEMORY is forbidden.
    pub async fn mean_memory(&self, ids: &[String]) -> Result<Option<u64>> {
        let usages = ids.iter().take(SAMPLE).map(|id| {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(self.key(id));
            usage
        });
        let mut sizes = Vec::new();
        for value in self.send(&Request::resendable(usages)).await? {
            if let Ok(Value::Int(bytes)) = self.reply(value) {
                sizes.push(bytes.unsigned_abs());
            }
        }
        Ok(sizes.iter().sum::<u64>().checked_div(sizes.len() as u64))
    }

    async fn used_memory(&self) -> Result<Option<u64>> {
        let sections = match self.info("memory").await {
            Ok(sections) => sections,
            Err(error) if error.is_outage() => return Err(error),
            Err(_) => return Ok(None), // a user who may not ask INFO still may have the rest
        };
        let used = sections.iter().map(|(_, text)| {
            let mut lines = text.lines();
            let used = lines.find_map(|line| line.strip_prefix("used_memory:"));
            used.and_then(|used| used.trim().parse::<u64>().ok())
        });
        Ok(used.sum())
    }
}

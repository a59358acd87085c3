//! What walks the namespace: its ids, its end, its figures.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use redis::Value;

use super::sent::Sent;
use super::{KvStore, Written};
use crate::connection::{Load, Request};
use crate::error::Result;
use crate::json_files::log::Mark;
use crate::notices::Event;

/// COUNT of a SCAN: the server is busy for about 0.7 ms a call, and more would save little.
const SCAN_COUNT: usize = 1000;
/// Keys whose memory is sampled for the statistics.
const SAMPLE: usize = 16;

/// One page of a SCAN: the cursor to go on with (0 at the end), and the keys. On a cluster the cursor
/// says which server the walk is at, too.
pub type Page = (u128, Vec<Vec<u8>>);

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

impl KvStore {
    /// Deletes every id of the namespace, page by page, so that others are served in between.
    pub async fn clear(&self) -> Result<()> {
        self.claim_files().await?;
        let mut sent = self.sent(Mark::Drop, &[]);
        sent.as_mut().map(Sent::unsent);
        let outcome = if self.registry.is_on() {
            self.clear_registered(&mut sent).await
        } else {
            self.clear_scanned(&mut sent).await
        };
        self.forget_all();
        if let Some(sent) = sent
            && outcome.is_ok()
        {
            sent.dropped().await;
        }
        if self.config.deferred_drop && outcome.is_ok() {
            return self.clear_swap_mark().await;
        }
        outcome
    }

    /// Deletes some ids, on the way to deleting all.
    pub(super) async fn unlink_some(
        &self,
        sent: &mut Option<Sent<'_>>,
        ids: &[&str],
        request: &Request,
    ) -> Result<()> {
        let begun = sent.as_mut().is_some_and(Sent::begin);
        let answers = self.send(request).await;
        if let (Some(sent), Err(error)) = (sent.as_mut(), &answers)
            && !begun
            && !error.may_be_done()
        {
            sent.unsent();
        }
        self.all(answers?)?;
        if let Some(sent) = sent {
            sent.removed(ids).await;
        }
        Ok(())
    }

    async fn clear_scanned(&self, sent: &mut Option<Sent<'_>>) -> Result<()> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.own_page(cursor).await?;
            // Nobody is told a count, so that repeating it tells no lie.
            let ids = self.ids_of(&keys);
            let unlinks = self.commands("UNLINK", ids.iter().copied());
            if !ids.is_empty() {
                self.unlink_some(sent, &ids, &unlinks.resendable()).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Every id, each once, in no order.
    pub async fn ids(&self) -> Result<Vec<String>> {
        match self.ids_on_server().await {
            Err(error) => self.list_instead(error).await,
            ids => ids,
        }
    }

    /// The same, and nobody else is asked.
    pub(super) async fn ids_on_server(&self) -> Result<Vec<String>> {
        if self.registry.is_on() {
            self.registered_ids().await
        } else {
            self.scanned_ids().await
        }
    }

    async fn scanned_ids(&self) -> Result<Vec<String>> {
        let mut ids = HashSet::new();
        let mut cursor = 0;
        loop {
            let (next, keys) = self.own_page(cursor).await?;
            ids.extend(self.ids_of(&keys).into_iter().map(str::to_owned));
            if next == 0 {
                return Ok(ids.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// The ids of keys. The pattern of a SCAN is escaped; the prefix is checked again all the same
    /// before anything is deleted.
    pub(crate) fn ids_of<'key>(&self, keys: &'key [Vec<u8>]) -> Vec<&'key str> {
        let ids = keys.iter().map(|key| self.config.keyspace.id_of(key));
        let ids: Vec<_> = ids.flatten().collect();
        if ids.len() < keys.len() {
            self.tell_of_foreign(keys);
        }
        ids
    }

    /// Has it told, once, that keys of the namespace are passed over: no id is spelled so.
    fn tell_of_foreign(&self, keys: &[Vec<u8>]) {
        let keyspace = &self.config.keyspace;
        let foreign = keys.iter().find(|key| {
            key.starts_with(keyspace.prefix().as_bytes()) && keyspace.id_of(key).is_none()
        });
        if let Some(key) = foreign
            && !self.met_foreign.swap(true, Relaxed)
        {
            self.tell(
                Event::ForeignKeys,
                &format!(
                    "keys that are no UTF-8, such as '{}', are no ids and are skipped: another program writes under this redis_key_prefix",
                    key.escape_ascii()
                ),
            );
        }
    }

    /// One page of a SCAN, of the keys of this namespace and what else its pattern matches.
    pub(crate) async fn own_page(&self, cursor: u128) -> Result<Page> {
        self.scan(
            cursor,
            self.config.keyspace.pattern().as_bytes(),
            SCAN_COUNT,
        )
        .await
    }

    /// One page of a SCAN with any pattern, over every key of the database.
    pub async fn scan(&self, cursor: u128, pattern: &[u8], count: usize) -> Result<Page> {
        let count = count.to_string();
        let arguments: [&[u8]; 4] = [b"MATCH", pattern, b"COUNT", count.as_bytes()];
        self.asked(self.connections.scan(cursor, &arguments)).await
    }

    /// Counts and sizes. `light` leaves out what samples values or asks INFO.
    pub async fn stats(&self, light: bool) -> Result<Stats> {
        let (key_count, ids) = if self.registry.is_on() {
            self.registered_count(SAMPLE).await?
        } else {
            let ids = self.ids().await?;
            (ids.len() as u64, ids)
        };
        let mut stats = Stats {
            key_count,
            sample_memory_usage: None,
            total_redis_memory: None,
            written: self.sealing.written(),
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
            if let Ok(Value::Int(bytes)) = self.answer(value) {
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

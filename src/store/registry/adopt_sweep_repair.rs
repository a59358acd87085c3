//! The upkeep of the registry: values that were there before it are adopted, what has expired is swept, `doctor`
//! repairs what went unseen.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::{Cmd, Value};

use super::delete_marks::{is_stale, left_behind, new_mark};
use super::listing::{LOSSES, Listing};
use super::sorted_set::{PAGE, Registry, new_token, now, score_of};
use crate::client::{Request, command, deadline};
use crate::error::{Error, Kind, Result};
use crate::store::{KvStore, batches, first};

/// Milliseconds between two sweeps of what has expired.
const SWEEP_INTERVAL: u64 = 60_000;

/// What [`KvStore::repair_registry`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Ids that had a value and were not registered.
    pub added: u64,
    /// Ids that were registered and had no value.
    pub removed: u64,
}

impl Registry {
    /// Whether it is time to sweep what has expired; true for one of the callers.
    pub(super) fn is_due(&self) -> bool {
        if !self.on || self.ttl.is_none() {
            return false;
        }
        let (now, swept) = (now().unsigned_abs(), self.swept.load(Relaxed));
        let due = now.saturating_sub(swept) > SWEEP_INTERVAL;
        due && self
            .swept
            .compare_exchange(swept, now, Relaxed, Relaxed)
            .is_ok()
    }

    /// Up to [`PAGE`] ids that are stale, as [`is_stale`] has it.
    fn stale(&self) -> Cmd {
        let now = now();
        let mut stale = self.command("ZRANGEBYSCORE");
        stale.arg(left_behind(now)).arg(now);
        stale.arg("LIMIT").arg(0).arg(PAGE);
        stale
    }
}

impl KvStore {
    /// Registers every value there is and removes every id that has none, whatever was written,
    /// deleted or evicted without the registry's knowledge. Refused where this store keeps none.
    pub async fn repair_registry(&self) -> Result<Repair> {
        if !self.registry.is_on() {
            let message = "redis_registry is off, so there is no registry to repair";
            return Err(Error::new(Kind::Config, message).in_namespace(&self.config.namespace));
        }
        let mut repair = Repair {
            added: self.adopt().await?,
            removed: 0,
        };
        let mut listing = Listing::default();
        while let Some(page) = self.next_members(&mut listing).await? {
            let (_, suspects) = self.checked_members(page).await?;
            repair.removed += self.sweep(&suspects).await?;
        }
        Ok(repair)
    }

    /// Registers the values that are there, and then says so. It may break off, or run twice at
    /// once: what is registered already stays as it is. Where the registry was lost meanwhile, it begins anew.
    pub(in crate::store) async fn adopt(&self) -> Result<u64> {
        let mut added = 0;
        for _ in 0..LOSSES {
            let complete = self.tokens().await?.pop();
            let token = complete.clone().unwrap_or_else(new_token);
            if complete.is_none() {
                let begin = self.registry.begin_adoption(&token);
                self.counted("ZADD", begin).await?;
            }
            added += self.register_all().await?;
            let end = complete
                .is_none()
                .then(|| self.registry.end_adoption(&token));
            // A token tells that it was done, also where the answer was lost and it was sent again; or that another
            // who adopted was done first, and removed ours.
            let asked = end.into_iter().chain([self.registry.tokens()]);
            let mut replies = self.send(&Request::resendable(asked)).await?;
            let tokens = self.reply(replies.pop().unwrap_or_default())?;
            self.all(replies)?;
            if !self.read_tokens(tokens)?.is_empty() {
                self.counted("ZREMRANGEBYSCORE", self.registry.forget_adoptions())
                    .await?;
                return Ok(added);
            }
        }
        Err(self.lost_too_often())
    }

    /// Registers the values that are there; counts those that were not.
    async fn register_all(&self) -> Result<u64> {
        let (mut added, mut pages) = (0, self.own_pages());
        while let Some(keys) = pages.next().await? {
            for chunk in batches(&keys) {
                let scored = self.scored(self.ids_of(chunk).into_iter()).await?;
                added += self.zadd(&["NX"], &scored).await?;
            }
        }
        Ok(added)
    }

    /// Has the runtime look for what has expired, where and when that is due: no write waits for it, nor can its caller
    /// end it. What it cannot do, the sweep after it will.
    pub(in crate::store) fn begin_sweep_if_due(self: &Arc<Self>) {
        if !self.registry.is_due() {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(store) = weak.upgrade() {
                let limit = store.config.server.operation_timeout;
                let swept = deadline::within(limit, store.sweep_expired()).await;
                if !matches!(swept, Ok(1..)) {
                    return;
                }
            }
        });
    }

    /// Looks into a page of what has expired; counts what was removed.
    async fn sweep_expired(&self) -> Result<u64> {
        let stale = Request::resendable([self.registry.stale()]);
        let stale = self.reply(first(self.send(&stale).await?))?;
        let stale: Vec<Vec<u8>> =
            redis::from_redis_value(stale).map_err(|_| self.unexpected("ZRANGEBYSCORE"))?;
        // Another program may have added what is no id.
        let stale = stale.into_iter().map(String::from_utf8);
        let stale: Vec<String> = stale.filter_map(Result::ok).collect();
        self.sweep(&stale).await
    }

    /// Removes those of the ids that have no value, and gives the others their score; counts the
    /// removed. It goes about it as a delete does: mark, look, and remove what has the mark.
    pub(in crate::store) async fn sweep(&self, suspects: &[String]) -> Result<u64> {
        let mut removed = 0;
        for chunk in batches(suspects) {
            let mark = new_mark();
            if !self.mark(mark, chunk).await? {
                break; // a later sweep finds them
            }
            let alive = self.scored(chunk.iter().map(String::as_str)).await?;
            self.zadd(&["XX"], &alive).await?;
            removed += self.unregister(mark).await?;
        }
        Ok(removed)
    }

    /// Those of the members that have a value, and those whose entry is to be looked into.
    pub(in crate::store) async fn checked_members(
        &self,
        members: Vec<(String, f64)>,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let (mut alive, mut suspects) = (Vec::new(), Vec::new());
        for chunk in batches(&members) {
            let exist = chunk
                .iter()
                .map(|(id, _)| command("EXISTS", [&*self.key(id)]));
            let replies = self.send(&Request::resendable(exist)).await?;
            for ((id, score), reply) in chunk.iter().zip(replies) {
                let exists = self.reply(reply)? != Value::Int(0);
                if exists {
                    alive.push(id.clone());
                }
                if !exists || is_stale(*score) {
                    suspects.push(id.clone());
                }
            }
        }
        Ok((alive, suspects))
    }

    /// Gives ids that are registered the score that their value's time to live asks for.
    pub(in crate::store) async fn score_anew(&self, ids: impl Iterator<Item = &str>) -> Result<()> {
        if self.registry.is_on() {
            let alive = self.scored(ids).await?;
            self.zadd(&["XX"], &alive).await?;
        }
        Ok(())
    }

    /// The scores of those of the ids that have a value.
    async fn scored<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<(i64, &'a str)>> {
        let ids: Vec<_> = ids.collect();
        let asked = ids.iter().map(|id| command("PTTL", [&*self.key(id)]));
        let replies = self.send(&Request::resendable(asked)).await?;
        let mut scored = Vec::new();
        for (id, reply) in ids.into_iter().zip(replies) {
            let Value::Int(left) = self.reply(reply)? else {
                return Err(self.unexpected("PTTL"));
            };
            scored.extend(score_of(left).map(|score| (score, id)));
        }
        Ok(scored)
    }

    async fn zadd(&self, flags: &[&str], members: &[(i64, &str)]) -> Result<u64> {
        if members.is_empty() {
            return Ok(0);
        }
        let zadd = self.registry.register(flags, members.iter().copied());
        self.counted("ZADD", zadd).await
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::config::{ServerConfig, StoreConfig};

    #[test]
    fn what_has_expired_is_swept_once_in_a_minute_and_where_anything_can_expire() {
        let minute = SWEEP_INTERVAL;
        for (on, ttl, ago, due) in [
            (true, 5, 10 * minute, true),
            (true, 5, minute + 1, true),
            (true, 5, minute - 10_000, false),
            (true, 5, 0, false),
            (false, 5, 10 * minute, false),
            (true, 0, 10 * minute, false),
            (false, 0, 10 * minute, false),
        ] {
            let server = ServerConfig::new("redis://localhost").unwrap();
            let mut config = StoreConfig::new(server, "docs").unwrap();
            (config.registry, config.ttl) = (on, NonZeroU64::new(ttl));
            let registry = Registry::new(&config);
            let swept = now().unsigned_abs() - ago;
            registry.swept.store(swept, Relaxed);
            assert_eq!(registry.is_due(), due, "{on} {ttl} {ago}");
            assert_ne!(registry.swept.load(Relaxed) == swept, due);
            assert!(!registry.is_due(), "somebody does it");
        }
    }
}

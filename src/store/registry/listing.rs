//! What goes through the registry: the ids of a namespace, without a look at others' keys.

use std::collections::HashSet;

use redis::Value;

use super::delete_marks::new_mark;
use super::sorted_set::{Around, is_id};
use crate::client::{Commands, Reply, Request, deadline};
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;
use crate::memory;
use crate::store::write_tracker::WriteTracker;
use crate::store::{KvStore, Recorded, batches, first};

/// How often a registry may be lost under a listing or an adoption before that is given up.
pub(in crate::store) const LOSSES: u32 = 8;

/// Whether the server refused a command because its memory is full; then it did nothing of it.
pub(in crate::store) fn is_full(reply: &Reply) -> bool {
    matches!(reply, Reply::Other(Value::ServerError(error)) if error.code() == "OOM")
}

/// A listing of the registry, under way.
pub(in crate::store) struct Listing {
    /// What said that the registry holds all when the listing began; None before that.
    token: Option<Vec<u8>>,
    /// To go on with; None after the last page.
    cursor: Option<u64>,
    begun: u32,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            token: None,
            cursor: Some(0),
            begun: 0,
        }
    }
}

impl KvStore {
    /// Deletes every registered id.
    pub(in crate::store) async fn drop_registered(
        &self,
        tracker: &mut Option<WriteTracker<'_>>,
        recorded: &mut Option<Recorded>,
    ) -> Result<()> {
        let mark = new_mark();
        let (mut listing, mut full) = (Listing::default(), false);
        listing.token = match self.adopted_token().await {
            Err(error) if error.refuses_writes() => {
                self.report_refused(&error);
                // Nothing is marked, so what is registered is swept by the next listing.
                return self.drop_scanned(tracker, recorded).await;
            }
            token => Some(token?),
        };
        while let Some(page) = self.next_members(&mut listing).await? {
            for chunk in batches(&page) {
                let ids: Vec<&str> = chunk.iter().map(|(id, _)| id.as_str()).collect();
                let mut marked = Commands::default();
                marked.extend([&self.registry.mark(mark, ids.iter().copied())]);
                let unlinks = self.commands("UNLINK", ids.iter().copied());
                // Nobody is told a count, so that repeating it tells no lie.
                let request = Commands::in_order([marked, unlinks]);
                full |= self.delete_some(tracker, recorded, &ids, &request).await?;
            }
        }
        self.unregister(mark).await?;
        if full {
            // There is room now. What is not swept here is swept by the next listing.
            let _ = self.registered_ids().await;
        }
        Ok(())
    }

    /// Every id that has a value, each once. Sweeps away what it finds to have none. Walks over all keys where the server
    /// takes no write that this needs.
    pub(in crate::store) async fn registered_ids(&self) -> Result<Vec<String>> {
        match self.listed_ids().await {
            Err(error) if error.refuses_writes() => {
                self.report_refused(&error);
                self.scanned_ids().await
            }
            ids => ids,
        }
    }

    async fn listed_ids(&self) -> Result<Vec<String>> {
        let mut found = HashSet::new();
        let mut listing = Listing::default();
        while let Some(page) = self.next_members(&mut listing).await? {
            let (alive, suspects) = self.checked_members(page).await?;
            memory::grown::<String>(found.try_reserve(alive.len()), found.len() + alive.len())?;
            found.extend(alive);
            match self.sweep(&suspects).await {
                Err(error) if error.refuses_writes() => {} // a later listing finds them
                swept => {
                    swept?;
                }
            }
        }
        memory::listed(found.into_iter())
    }

    /// Says once that a walk over all keys stands in for the registry.
    fn report_refused(&self, error: &Error) {
        if self.registry.is_newly_refused() {
            let key = String::from_utf8_lossy(&self.registry.key).into_owned();
            self.report(
                Event::RegistryRefused,
                &format!("the server does not let the registry (the key {key:?}) be written, so that all keys of the database are walked over in its place: {error}"),
            );
        }
    }

    /// How many ids have not expired, and a few of them.
    pub(in crate::store) async fn registered_count(
        &self,
        sample: usize,
    ) -> Result<(u64, Vec<String>)> {
        let registry = &self.registry;
        for _ in 0..LOSSES {
            let asked = [
                registry.tokens(),
                registry.count(),
                registry.sample(sample),
                registry.tokens(),
            ];
            let replies = self.send(&Request::resendable(asked)).await?;
            let mut replies = replies.into_iter().map(|reply| self.reply(reply));
            let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
            let (before, count, few, after) = (next()?, next()?, next()?, next()?);
            let (before, after) = (self.read_tokens(before)?, self.read_tokens(after)?);
            if !before.iter().any(|token| after.contains(token)) {
                match self.adopt().await {
                    Err(error) if error.refuses_writes() => {
                        self.report_refused(&error);
                        let ids = self.scanned_ids().await?;
                        return Ok((ids.len() as u64, ids));
                    }
                    adopted => {
                        adopted?;
                    }
                }
                continue;
            }
            let count = redis::from_redis_value(count).map_err(|_| self.unexpected("ZCOUNT"))?;
            let few: Vec<Vec<u8>> =
                redis::from_redis_value(few).map_err(|_| self.unexpected("ZRANGEBYSCORE"))?;
            // Another program may have added what is no id.
            let few = few.into_iter().map(String::from_utf8);
            return Ok((count, few.filter_map(Result::ok).collect()));
        }
        Err(self.lost_too_often())
    }

    /// The next page of the registry, which first adopts what was there before it; None after the last. Pages come again
    /// from the first one where the registry was lost in between.
    pub(in crate::store) async fn next_members(
        &self,
        listing: &mut Listing,
    ) -> Result<Option<Vec<(String, f64)>>> {
        while let Some(cursor) = listing.cursor {
            let Some(token) = &listing.token else {
                if listing.begun == LOSSES {
                    return Err(self.lost_too_often());
                }
                listing.begun += 1;
                listing.token = Some(self.adopted_token().await?);
                listing.cursor = Some(0);
                continue;
            };
            deadline::restart();
            // The tokens are asked for last: one that is still there was there when the page was read.
            let asked = [self.registry.page(cursor), self.registry.tokens()];
            let mut replies = self.send(&Request::resendable(asked)).await?.into_iter();
            let page = self.reply(replies.next().unwrap_or_default())?;
            let tokens = self.read_tokens(self.reply(replies.next().unwrap_or_default())?)?;
            if !tokens.contains(token) {
                listing.token = None;
                continue;
            }
            let (next, members): (u64, Vec<(Vec<u8>, f64)>) =
                redis::from_redis_value(page).map_err(|_| self.unexpected("ZSCAN"))?;
            listing.cursor = (next != 0).then_some(next);
            let ids = members.into_iter().filter(|(member, _)| is_id(member));
            let ids = ids.filter_map(|(id, score)| Some((String::from_utf8(id).ok()?, score)));
            return Ok(Some(ids.collect()));
        }
        Ok(None)
    }

    /// A token that says that the registry holds all, once it does.
    async fn adopted_token(&self) -> Result<Vec<u8>> {
        for _ in 0..LOSSES {
            if let Some(token) = self.tokens().await?.pop() {
                return Ok(token);
            }
            self.adopt().await?;
        }
        Err(self.lost_too_often())
    }

    /// The tokens that say that the registry holds all.
    pub(in crate::store) async fn tokens(&self) -> Result<Vec<Vec<u8>>> {
        let replies = self
            .send(&Request::resendable([self.registry.tokens()]))
            .await?;
        self.read_tokens(self.reply(first(replies))?)
    }

    pub(in crate::store) fn read_tokens(&self, reply: Value) -> Result<Vec<Vec<u8>>> {
        redis::from_redis_value(reply).map_err(|_| self.unexpected("ZRANGEBYSCORE"))
    }

    pub(in crate::store) fn lost_too_often(&self) -> Error {
        let message = format!(
            "the registry (the key {:?}) was lost {LOSSES} times while it was made or read: does the server evict it, or does somebody delete it? See maxmemory-policy, or turn redis_registry off",
            String::from_utf8_lossy(&self.registry.key)
        );
        Error::new(Kind::Operation, message).in_namespace(&self.config.namespace)
    }

    /// Marks ids that are about to be deleted, where there is a registry. Never sent twice: the
    /// second could arrive after a later write, and have that unregistered.
    ///
    /// False where the server is full: it takes no mark then, and a delete makes room. What is deleted without one
    /// stays registered until it is swept.
    pub(in crate::store) async fn mark(&self, mark: i64, ids: &[String]) -> Result<bool> {
        if self.registry.is_on() && !ids.is_empty() {
            let marked = self.registry.mark(mark, ids.iter().map(String::as_str));
            let replies = self.send(&Request::once(&marked)).await?;
            if replies.iter().any(is_full) {
                return Ok(false);
            }
            self.all(replies)?;
        }
        Ok(true)
    }

    /// Removes the ids that still have the mark: their values are gone.
    pub(in crate::store) async fn unregister(&self, mark: i64) -> Result<u64> {
        if self.registry.is_on() {
            let unregister = self.registry.unregister(mark);
            return self.counted("ZREMRANGEBYSCORE", unregister).await;
        }
        Ok(0)
    }

    /// The answer to a command of this name, which is a number.
    pub(in crate::store) async fn counted(&self, name: &str, command: redis::Cmd) -> Result<u64> {
        let replies = self.send(&Request::resendable([command])).await?;
        match self.reply(first(replies))? {
            Value::Int(count) => Ok(count.unsigned_abs()),
            _ => Err(self.unexpected(name)),
        }
    }

    /// The first error among the answers, if any.
    pub(in crate::store) fn all(&self, replies: Vec<Reply>) -> Result<()> {
        replies
            .into_iter()
            .try_for_each(|reply| self.reply(reply).map(|_| ()))
    }

    /// Takes the registry's answers from around those of a write, and says whether they are as they
    /// should be. Without a registry, warns if someone else keeps one.
    pub(in crate::store) fn within(
        &self,
        around: &Around,
        mut replies: Vec<Reply>,
    ) -> (Vec<Reply>, Result<()>) {
        let mut registered = Ok(());
        let last = around.after.as_ref().and_then(|_| replies.pop());
        if around.before.is_some() {
            let first = replies.len().min(1);
            registered = self.all(replies.drain(..first).chain(last).collect());
        } else if matches!(last, Some(Reply::Other(Value::Int(1..))))
            && self.connections.is_new(&self.registry.key)
        {
            self.notices.push(Event::RegistryUnknown, format!(
                "{}: this keyspace has a registry (the key {:?}), which this process does not keep: others' drop() and all_keys() may miss what it writes. Set redis_registry in every process or in none, and delete that key if in none",
                self.config.namespace,
                String::from_utf8_lossy(&self.registry.key),
            ));
        }
        (replies, registered)
    }
}

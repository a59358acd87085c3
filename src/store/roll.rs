//! What goes through the registry: the ids of a namespace, without a look at others' keys.

use std::collections::HashSet;

use redis::Value;

use super::registry::{ADOPTED, Around, new_mark};
use super::sent::Sent;
use super::{KEY_PIECE, KvStore, first};
use crate::connection::{Answer, Commands, Request};
use crate::error::Result;
use crate::notices::Event;

/// One page of a listing: the cursor to go on with (0 at the end), and the registered ids.
pub(super) struct Members {
    pub(super) next: u64,
    pub(super) ids: Vec<(String, f64)>,
}

impl KvStore {
    /// Deletes every registered id.
    pub(super) async fn clear_registered(&self, sent: &mut Option<Sent<'_>>) -> Result<()> {
        let mark = new_mark();
        let mut cursor = 0;
        loop {
            let page = self.members(cursor).await?;
            for piece in page.ids.chunks(KEY_PIECE) {
                let ids = || piece.iter().map(|(id, _)| id.as_str());
                let mut marked = Commands::default();
                marked.extend([&self.registry.mark(mark, ids())]);
                let unlinks = self.commands("UNLINK", ids());
                // Nobody is told a count, so that repeating it tells no lie.
                let request = Commands::in_order([marked, unlinks]);
                self.unlink_some(sent, &request).await?;
            }
            if page.next == 0 {
                return self.unregister(mark).await.map(|_| ());
            }
            cursor = page.next;
        }
    }

    /// Every id that has a value, each once. Sweeps away what it finds to have none.
    pub(super) async fn registered_ids(&self) -> Result<Vec<String>> {
        let mut found = HashSet::new();
        let mut cursor = 0;
        loop {
            let page = self.members(cursor).await?;
            let (alive, suspects) = self.looked_at(page.ids).await?;
            found.extend(alive);
            self.sweep(&suspects).await?;
            if page.next == 0 {
                return Ok(found.into_iter().collect());
            }
            cursor = page.next;
        }
    }

    /// How many ids have not expired, and a few of them.
    pub(super) async fn registered_count(&self, sample: usize) -> Result<(u64, Vec<String>)> {
        let registry = &self.registry;
        loop {
            let asked = [
                registry.is_adopted(),
                registry.count(),
                registry.sample(sample),
            ];
            let mut answers = self.send(&Request::resendable(asked)).await?.into_iter();
            if self.answer(answers.next().unwrap_or_default())? == Value::Nil {
                self.adopt().await?;
                continue;
            }
            let count = self.answer(answers.next().unwrap_or_default())?;
            let count = redis::from_redis_value(count).map_err(|_| self.unexpected("ZCOUNT"))?;
            let few = self.answer(answers.next().unwrap_or_default())?;
            let few = redis::from_redis_value(few).map_err(|_| self.unexpected("ZRANGEBYSCORE"))?;
            return Ok((count, few));
        }
    }

    /// One page of the registry, which first adopts what was there before it.
    pub(super) async fn members(&self, cursor: u64) -> Result<Members> {
        loop {
            let asked = [self.registry.is_adopted(), self.registry.page(cursor)];
            let mut answers = self.send(&Request::resendable(asked)).await?.into_iter();
            let adopted = self.answer(answers.next().unwrap_or_default())?;
            let page = self.answer(answers.next().unwrap_or_default())?;
            if adopted == Value::Nil {
                self.adopt().await?;
                continue;
            }
            let (next, members): (u64, Vec<(Vec<u8>, f64)>) =
                redis::from_redis_value(page).map_err(|_| self.unexpected("ZSCAN"))?;
            let ids = members.into_iter().filter(|(member, _)| member != ADOPTED);
            let ids = ids.filter_map(|(id, score)| Some((String::from_utf8(id).ok()?, score)));
            return Ok(Members {
                next,
                ids: ids.collect(),
            });
        }
    }

    /// Marks ids that are about to be deleted, where there is a registry. Never sent twice: the
    /// second could arrive after a later write, and have that unregistered.
    pub(super) async fn mark(&self, mark: i64, ids: &[String]) -> Result<()> {
        if self.registry.is_on() && !ids.is_empty() {
            let marked = self.registry.mark(mark, ids.iter().map(String::as_str));
            self.all(self.send(&Request::once(&marked)).await?)?;
        }
        Ok(())
    }

    /// Removes the ids that still have the mark: their values are gone.
    pub(super) async fn unregister(&self, mark: i64) -> Result<u64> {
        if self.registry.is_on() {
            let unregister = self.registry.unregister(mark);
            return self.counted("ZREMRANGEBYSCORE", unregister).await;
        }
        Ok(0)
    }

    /// The answer to a command of this name, which is a number.
    pub(super) async fn counted(&self, name: &str, command: redis::Cmd) -> Result<u64> {
        let answers = self.send(&Request::resendable([command])).await?;
        match self.answer(first(answers))? {
            Value::Int(count) => Ok(count.unsigned_abs()),
            _ => Err(self.unexpected(name)),
        }
    }

    /// The first error among the answers, if any.
    pub(super) fn all(&self, answers: Vec<Answer>) -> Result<()> {
        answers
            .into_iter()
            .try_for_each(|answer| self.answer(answer).map(|_| ()))
    }

    /// Takes the registry's answers from around those of a write, and says whether they are as they
    /// should be. Without a registry, warns if someone else keeps one.
    pub(super) fn within(
        &self,
        around: &Around,
        mut answers: Vec<Answer>,
    ) -> (Vec<Answer>, Result<()>) {
        let mut registered = Ok(());
        let last = around.after.as_ref().and_then(|_| answers.pop());
        if around.before.is_some() {
            let first = answers.len().min(1);
            registered = self.all(answers.drain(..first).chain(last).collect());
        } else if matches!(last, Some(Answer::Other(Value::Int(1))))
            && self.connections.is_new(&self.registry.key)
        {
            self.notices.push(Event::RegistryUnknown, format!(
                "{}: this keyspace has a registry (the key {:?}), which this process does not keep: others' drop() and all_keys() may miss what it writes. Set redis_registry in every process or in none, and delete that key if in none",
                self.config.namespace,
                String::from_utf8_lossy(&self.registry.key),
            ));
        }
        (answers, registered)
    }
}

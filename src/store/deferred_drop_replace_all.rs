//! `redis_deferred_drop`: replacing all values of a namespace while others read them.
//!
//! On one server, a set of up to [`WHOLE`] is replaced in one transaction: readers find the old one or the new one. What
//! is larger, or on a cluster, is written over the old set, and what only the old one held is deleted after that: at no
//! moment is a value missing that is in both.
//!
//! Writers take turns by a lease: a key beside the namespace with a time to live, which the holder prolongs while it
//! works. Whoever dies lets it run out. Who has the turn also writes the fence of its transaction, so that one whose
//! lease ran out meanwhile cannot replace what came after it. A third key marks the namespace as half replaced, where
//! there is no transaction: from before the first write until after the last delete, for the diagnosis.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::registry::{Around, new_mark};
use super::write_tracker::Digests;
use super::{Batch, KEY_BATCH, KvStore, first};
use crate::client::durability::acknowledged_writes::Change;
use crate::client::transaction::{Begun, Executed, Fence, Transaction};
use crate::client::{Commands, Reply, Request, command, deadline};
use crate::error::{Error, Kind, Result};
use crate::files::change_log::{Lines, Mark};
use crate::log_events::Event;
use crate::metrics::Count;
use crate::mutex::Mutex;
use crate::printable::printable;

/// Bytes of JSON and of keys, those of what is deleted among them, up to which a set is replaced in one transaction. The
/// server does nothing else meanwhile.
const WHOLE: usize = 8 << 20;
/// Time to live of the lease: others wait so long for a holder that was killed.
const LEASE: Duration = Duration::from_secs(10);
/// Time between two prolongations.
const RENEWAL: Duration = Duration::from_secs(3);
/// Time after which a holder prolongs its lease no more.
const LONGEST: Duration = Duration::from_secs(180);
/// Time that is waited for the lease: longer than one holder may have it.
const PATIENCE: Duration = Duration::from_secs(200);
/// Time until the lease is asked for again.
const PAUSE: Duration = Duration::from_millis(50);
/// Attempts at the deletes; they may be repeated, since nobody is told a count.
const ATTEMPTS: u32 = 3;

/// The right to replace a namespace, and how long it is certain.
struct Lease {
    key: Vec<u8>,
    token: String,
    /// By our own clock, counted from before the request that took or prolonged it.
    sure_until: Mutex<Instant>,
}

impl Lease {
    fn sure_until(&self) -> Instant {
        *self.sure_until.lock()
    }

    fn set_sure_until(&self, until: Instant) {
        *self.sure_until.lock() = until;
    }

    fn is_ours(&self, found: &Value) -> bool {
        matches!(found, Value::BulkString(found) if found == self.token.as_bytes())
    }

    /// Why whoever has waited so long, and found this in place of its own lease, is to wait no more.
    fn why_no_longer(&self, found: &Value, waited: Duration) -> Option<Error> {
        let key = || printable(&String::from_utf8_lossy(&self.key)).into_owned();
        if is_of_others(found) {
            let message = format!(
                "the key {} holds no lease of a process that replaces values: nothing was written; delete it if no other program needs it",
                key()
            );
            return Some(Error::new(Kind::Operation, message));
        }
        (waited > PATIENCE).then(|| {
            let message = format!(
                "another process has been replacing the values for {} s, by its lease in the key {}: nothing was written; delete the key if there is no such process",
                waited.as_secs(),
                key()
            );
            Error::new(Kind::Timeout, message)
        })
    }

    /// Prolongs whoever's lease it is, and tells whose: another's that lives longer does no harm.
    fn prolong(&self) -> Cmd {
        let mut prolong = command("GETEX", [&*self.key]);
        prolong.arg("PX").arg(LEASE.as_millis());
        prolong
    }
}

/// A replacement under way. Who drops it before its end leaves the mark, if there is one, and the lease to run out.
pub struct Swap {
    store: Arc<KvStore>,
    lease: Arc<Lease>,
    renewal: AbortHandle,
    /// What was there before and is not written anew.
    stale: Vec<String>,
    /// None if the values are written one by one.
    whole: Option<Whole>,
}

/// What replaces the set at once.
struct Whole {
    fence: Fence,
    transaction: Transaction,
}

/// A batch that is written by a transaction.
struct Part {
    ids: Vec<String>,
    lines: Option<Lines>,
    digests: Digests,
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Swap {
    /// Whether the set is to be given to [`replace`](Self::replace), and not to be written batch by batch.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// An error if another writer may have begun: this process did not run for a while, or has lost its server.
    pub fn check(&self) -> Result<()> {
        if self.whole.is_some() || Instant::now() < self.lease.sure_until() {
            return Ok(()); // a transaction has its fence
        }
        let message = format!(
            "replacing the values was held up for longer than its lease of {} s, so that another process may have begun: the old and the new values may be mixed; insert again",
            LEASE.as_secs()
        );
        Err(Error::new(Kind::Timeout, message).in_namespace(&self.store.config.namespace))
    }

    /// Puts these values in the place of all others, at once. Gives their ids back with an outcome for each, or the
    /// failure of them all, in which case the old set stays unless the error says otherwise.
    pub async fn replace(mut self, batches: Vec<Batch>) -> (Vec<String>, Result<Vec<Result<()>>>) {
        let (store, stale) = (Arc::clone(&self.store), std::mem::take(&mut self.stale));
        let (mut parts, mut sets, mut ready) = (Vec::new(), Vec::new(), Ok(()));
        for mut batch in batches {
            let lines = store.prepare(&mut batch).unwrap_or_else(|error| {
                ready = Err(error);
                None
            });
            parts.push(Part {
                digests: store.digests(&batch.sets),
                ids: batch.ids,
                lines,
            });
            sets.push(batch.sets);
        }
        let outcomes = match (ready, self.whole.take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(whole)) => {
                store
                    .replace_and_record(whole, &mut parts, sets, &stale)
                    .await
            }
            (Ok(()), None) => Err(store.unexpected("MULTI")),
        };
        if outcomes.is_ok() {
            store.begin_feed();
            if let Some(mut recorded) = store.record("delete") {
                for id in &stale {
                    recorded.id(id);
                }
            }
            store.counters.count(Count::Swaps, 1);
            store.begin_sweep_if_due();
        }
        // However it ended: the fence keeps what may still be under way from what others write next.
        self.release().await;
        let ids = parts.into_iter().flat_map(|part| part.ids).collect();
        (ids, outcomes)
    }

    /// Deletes what was there before and was not written anew, and lets others have their turn.
    pub async fn end(self) -> Result<()> {
        self.check()?;
        let mut attempt = 1;
        while let Err(error) = self.store.delete(self.stale.clone()).await {
            if attempt == ATTEMPTS || !error.is_outage() {
                return Err(error);
            }
            attempt += 1;
            self.check()?;
        }
        self.store.clear_swap_mark().await?;
        self.store.counters.count(Count::Swaps, 1);
        self.release().await;
        Ok(())
    }

    /// Gives the lease back; if it cannot, it runs out. There is no command that compares and deletes, so it is left
    /// alone where it might run out, and be another's, before the delete arrives.
    async fn release(&self) {
        if self.lease.sure_until() < Instant::now() + LEASE / 2 {
            return;
        }
        let look = Request::resendable([command("GET", [&*self.lease.key])]);
        let Ok(replies) = self.store.send(&look).await else {
            return;
        };
        let found = self.store.reply(first(replies));
        if found.is_ok_and(|found| self.lease.is_ours(&found)) {
            let release = Request::once(&command("UNLINK", [&*self.lease.key]));
            let _ = self.store.send(&release).await;
        }
    }
}

impl KvStore {
    /// Waits for its turn to replace all values by those of the ids `written`, of which so many `bytes` are to be
    /// written if they are all at hand.
    pub async fn begin_swap(
        self: &Arc<Self>,
        written: HashSet<String>,
        bytes: Option<usize>,
    ) -> Result<Swap> {
        let lease = Arc::new(self.take_swap_lease().await?);
        let renewal = tokio::spawn(Arc::clone(self).keep_lease(Arc::clone(&lease)));
        let mut swap = Swap {
            store: Arc::clone(self),
            lease,
            renewal: renewal.abort_handle(),
            stale: Vec::new(),
            whole: None,
        };
        let token = &swap.lease.token;
        let fence = Fence::new(self.swap_key(":turn"), token);
        let has_one_server = self.connections.has_one_server();
        if has_one_server {
            // Whatever comes after: no transaction of who had the turn before is done from here on.
            self.all(self.send(&fence.take()).await?)?;
        }
        swap.stale = self.ids_on_server().await?;
        swap.stale.retain(|id| !written.contains(id));
        let bytes = bytes.map(|bytes| bytes + self.key_bytes(&swap.stale));
        if has_one_server && bytes.is_some_and(|bytes| bytes <= WHOLE) {
            swap.whole = self.begin_whole(fence).await?;
        }
        if swap.whole.is_none() {
            // Only now: a mark says that something may have been written.
            let mark = command("SET", [&*self.swap_key(""), token.as_bytes()]);
            self.all(self.send(&Request::resendable([mark])).await?)?;
        }
        Ok(swap)
    }

    /// None where this user may have no transaction.
    async fn begin_whole(self: &Arc<Self>, fence: Fence) -> Result<Option<Whole>> {
        match self
            .asked(self.connections.begin_transaction(&fence))
            .await?
        {
            Begun::Ready(transaction) => Ok(Some(Whole { fence, transaction })),
            Begun::Done | Begun::Overtaken => Err(self.overtaken()),
            Begun::Forbidden(error) => {
                if self.connections.is_new(b"transactions") {
                    self.report(Event::PermissionMissing, &format!(
                        "redis_deferred_drop replaces values one by one, not at once, without WATCH, MULTI and EXEC: {error}"
                    ));
                }
                Ok(None)
            }
        }
    }

    fn overtaken(&self) -> Error {
        let message = format!(
            "replacing the values was held up for longer than its lease of {} s, and another process has begun: nothing was written; insert again",
            LEASE.as_secs()
        );
        Error::new(Kind::Timeout, message).in_namespace(&self.config.namespace)
    }

    async fn replace_and_record(
        self: &Arc<Self>,
        whole: Whole,
        parts: &mut [Part],
        sets: Vec<Commands>,
        stale: &[String],
    ) -> Result<Vec<Result<()>>> {
        self.claim_files().await?;
        let mut lines: Vec<_> = parts.iter_mut().map(|part| part.lines.take()).collect();
        let ids: Vec<&String> = parts.iter().flat_map(|part| &part.ids).collect();
        let all = ids.iter().copied().chain(stale);
        let change = self.change(all.map(String::as_str));
        let written = parts.iter();
        let written: Vec<_> = written
            .map(|part| self.track_write(Mark::SetAsked, &part.ids))
            .collect();
        let deleted = stale.chunks(KEY_BATCH);
        let deleted: Vec<_> = deleted
            .map(|ids| (ids, self.track_write(Mark::DeleteAsked, ids)))
            .collect();
        let (outcomes, registered) = self.replace_all(whole, &ids, sets, stale).await;
        drop(change);
        let mut from = 0;
        for ((part, tracker), lines) in parts.iter().zip(written).zip(&mut lines) {
            let range = from..from + part.ids.len();
            from = range.end;
            let outcomes = match &outcomes {
                Ok(outcomes) => Ok(outcomes.get(range).unwrap_or_default().to_vec()),
                Err(error) => Err(error.clone()),
            };
            if let Ok(outcomes) = &outcomes {
                self.note_written(&part.ids, outcomes);
            }
            if let Some(mut tracker) = tracker {
                tracker.note(&outcomes, |number| part.digests.change(number));
                tracker.log(&outcomes, lines.take()).await;
            }
        }
        for (ids, tracker) in deleted {
            let outcomes = match &outcomes {
                Ok(_) => Ok(vec![Ok(()); ids.len()]),
                Err(error) => Err(error.clone()),
            };
            if let Some(mut tracker) = tracker {
                tracker.note(&outcomes, |_| Some(Change::Deleted));
                let mut lines = Lines::default();
                for id in ids {
                    lines.mark(Mark::Delete, id);
                }
                tracker.log(&outcomes, Some(lines)).await;
            }
        }
        registered.and(outcomes)
    }

    /// What the server said of each id, and whether they were registered.
    async fn replace_all(
        self: &Arc<Self>,
        whole: Whole,
        ids: &[&String],
        sets: Vec<Commands>,
        stale: &[String],
    ) -> (Result<Vec<Result<()>>>, Result<()>) {
        let around = if ids.is_empty() {
            Around::nothing() // there is no ZADD of no members
        } else {
            self.registry.around(ids.iter().copied()).once()
        };
        let (mut before, mut after) = (Commands::default(), Commands::default());
        before.extend(&around.before);
        after.extend(&around.after);
        if !stale.is_empty() {
            let (mark, stale) = (new_mark(), || stale.iter().map(String::as_str));
            if self.registry.is_on() {
                after.extend(&[self.registry.mark(mark, stale())]);
            }
            after.add_each("UNLINK", self.config.keyspace.prefix(), stale());
            if self.registry.is_on() {
                after.extend(&[self.registry.unregister(mark)]);
            }
        }
        // What another one has left half replaced, if any, is whole with this.
        after.extend(&[command("UNLINK", [&*self.swap_key("")])]);
        let groups = std::iter::once(before).chain(sets).chain([after]).collect();
        let Whole { fence, transaction } = whole;
        let executed = self.connections.execute(transaction, &fence, groups);
        let replies = match self.asked(executed).await {
            Ok(Executed::Done(Some(replies))) => replies,
            Ok(Executed::Done(None)) => vec![Reply::Other(Value::Okay); around.count() + ids.len()],
            Ok(Executed::Overtaken) => return (Err(self.overtaken()), Ok(())),
            Err(error) => return (Err(error), Ok(())),
        };
        let written = replies.into_iter().take(around.count() + ids.len());
        let (replies, registered) = self.within(&around, written.collect());
        let outcomes = ids.iter().zip(replies).map(|(id, reply)| {
            let outcome = self.reply(reply).map(|_| ());
            outcome.map_err(|error| error.about(id))
        });
        (Ok(outcomes.collect()), registered)
    }

    /// The namespace is whole, or empty.
    pub(super) async fn clear_swap_mark(&self) -> Result<()> {
        let clear = Request::resendable([command("UNLINK", [&*self.swap_key("")])]);
        self.all(self.send(&clear).await?)
    }

    fn swap_key(&self, suffix: &str) -> Vec<u8> {
        let config = &self.config;
        let name = format!("swap:{}{suffix}", config.namespace);
        config.keyspace.key_beside(&name)
    }

    async fn take_swap_lease(&self) -> Result<Lease> {
        let lease = Lease {
            key: self.swap_key(":lease"),
            token: new_token(),
            sure_until: Mutex::new(Instant::now()),
        };
        let since = Instant::now();
        loop {
            deadline::restart();
            let asked = Instant::now();
            let mut take = command("SET", [&*lease.key, lease.token.as_bytes()]);
            take.arg("NX").arg("PX").arg(LEASE.as_millis());
            // One that was sent again may have been done before: the value tells.
            let look = command("GET", [&*lease.key]);
            let mut replies = self.send(&Request::resendable([take, look])).await?;
            let found = self.reply(replies.pop().unwrap_or_default())?;
            self.all(replies)?;
            if lease.is_ours(&found) {
                lease.set_sure_until(asked + LEASE);
                return Ok(lease);
            }
            if let Some(refused) = lease.why_no_longer(&found, since.elapsed()) {
                return Err(refused.in_namespace(&self.config.namespace));
            }
            sleep(PAUSE).await;
        }
    }

    async fn keep_lease(self: Arc<Self>, lease: Arc<Lease>) {
        let since = Instant::now();
        while since.elapsed() < LONGEST {
            sleep(RENEWAL).await;
            let asked = Instant::now();
            let replies = self.send(&Request::resendable([lease.prolong()])).await;
            match replies.and_then(|replies| self.reply(first(replies))) {
                Ok(found) if lease.is_ours(&found) => lease.set_sure_until(asked + LEASE),
                Ok(_) => return lease.set_sure_until(asked), // it ran out, or was lost with its server
                Err(_) => {}                                 // what was certain before still is
            }
        }
    }
}

/// Whether this is no token, so that it is nobody's lease and runs out at no time.
fn is_of_others(found: &Value) -> bool {
    matches!(found, Value::BulkString(text) if text.len() != 16 || !text.iter().all(u8::is_ascii_hexdigit))
}

/// A value that no other holder's lease has.
fn new_token() -> String {
    let chance = RandomState::new();
    let moment = std::time::SystemTime::now();
    format!("{:016x}", chance.hash_one((std::process::id(), moment)))
}

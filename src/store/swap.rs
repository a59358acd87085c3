//! Replacing all values of a namespace while others read them: the new set is written over the old one, and what only
//! the old one held is deleted after that. At no moment is a value missing that is in both.
//!
//! Writers take turns by a lease: a key beside the namespace with a time to live, which the holder prolongs while it
//! works. Whoever dies lets it run out. A second key marks the namespace as half replaced, from before the first write
//! until after the last delete, for the diagnosis.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{KvStore, first};
use crate::client::{Request, command};
use crate::error::{Error, Kind, Result};
use crate::metrics::Count;

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
        *self
            .sure_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_sure_until(&self, until: Instant) {
        *self
            .sure_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn is_ours(&self, found: &Value) -> bool {
        matches!(found, Value::BulkString(found) if found == self.token.as_bytes())
    }

    /// Prolongs whoever's lease it is, and tells whose: another's that lives longer does no harm.
    fn prolong(&self) -> Cmd {
        let mut prolong = command("GETEX", [&*self.key]);
        prolong.arg("PX").arg(LEASE.as_millis());
        prolong
    }
}

/// A replacement under way. Who drops it before its end leaves the mark, and the lease to run out.
pub struct Swap {
    store: Arc<KvStore>,
    lease: Arc<Lease>,
    renewal: AbortHandle,
    before: Vec<String>,
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Swap {
    /// An error if another writer may have begun: this process did not run for a while, or has lost its server.
    pub fn check(&self) -> Result<()> {
        if Instant::now() < self.lease.sure_until() {
            return Ok(());
        }
        let message = format!(
            "replacing the values was held up for longer than its lease of {} s, so that another process may have begun: the old and the new values may be mixed; insert again",
            LEASE.as_secs()
        );
        Err(Error::new(Kind::Timeout, message).in_namespace(&self.store.config.namespace))
    }

    /// Deletes what was there before and was not written anew, and lets others have their turn.
    pub async fn end(self, written: &HashSet<String>) -> Result<()> {
        self.check()?;
        let stale = self.before.iter().filter(|id| !written.contains(*id));
        let stale: Vec<String> = stale.cloned().collect();
        let mut attempt = 1;
        while let Err(error) = self.store.delete(stale.clone()).await {
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
    /// Waits for its turn to replace all values; what is written then, by the ordinary way, is the new set.
    pub async fn begin_swap(self: &Arc<Self>) -> Result<Swap> {
        let lease = Arc::new(self.take_swap_lease().await?);
        let renewal = tokio::spawn(Arc::clone(self).keep_lease(Arc::clone(&lease)));
        let mut swap = Swap {
            store: Arc::clone(self),
            lease,
            renewal: renewal.abort_handle(),
            before: Vec::new(),
        };
        swap.before = self.ids_on_server().await?;
        // Only now: a mark says that something may have been written.
        let token = swap.lease.token.as_bytes();
        let mark = command("SET", [&*self.swap_key(""), token]);
        self.all(self.send(&Request::resendable([mark])).await?)?;
        Ok(swap)
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
            if since.elapsed() > PATIENCE {
                let message = format!(
                    "another process has been replacing the values for {} s: nothing was written",
                    since.elapsed().as_secs()
                );
                return Err(Error::new(Kind::Timeout, message).in_namespace(&self.config.namespace));
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

/// A value that no other holder's lease has.
fn new_token() -> String {
    let chance = RandomState::new();
    let moment = std::time::SystemTime::now();
    format!("{:016x}", chance.hash_one((std::process::id(), moment)))
}

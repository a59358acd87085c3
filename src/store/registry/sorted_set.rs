//! The registry of a namespace: a sorted set of its ids, kept beside it, so that listing, counting
//! and dropping them costs nothing for the keys of others.
//!
//! An id's score is the moment its value expires, in milliseconds since 1970, or [`NEVER`].
//! Whoever writes registers before *and* after the value is set. Whoever deletes gives the ids a
//! mark of its own as score, deletes the values, sees that done, and removes what still has the
//! mark. So the registry holds every id that has a value, whatever races: if a value outlives a
//! delete then it was set after it, its writer registers once more after that, and either this
//! comes after the removal or it has replaced the mark. No command needs two keys, none a script.
//!
//! Members that no id can be, tokens, say that what was there before the registry is in it too. Whoever adopts that
//! puts a token of its own into the set before it looks at the first key, with the score [`PENDING`], and after the last
//! gives it the score that says so, *if it is still there*. It is gone if the set was lost meanwhile, by FLUSHDB,
//! DEL or eviction, whatever has been put into a new one by then; so a set that lacks ids never says that it holds all.
//! A listing is begun anew where the token is gone that was there when it began. A server that takes no writes takes no
//! adoption; what is there is then found by a walk.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use redis::Cmd;

use crate::config::StoreConfig;

/// The score of an id whose value does not expire: beyond any date, exact as a double.
pub(super) const NEVER: i64 = 9_000_000_000_000_000;
/// The score of a token while its owner adopts; one that says that all is adopted has `+inf`.
const PENDING: i64 = 10_000_000_000_000_000;
/// What tokens begin with, and no id: ids are UTF-8.
const TOKEN: u8 = 0xff;
/// Members in one page of a listing.
pub(super) const PAGE: usize = 1000;
/// The registry's key, and whether this store keeps it.
pub(in crate::store) struct Registry {
    pub(in crate::store) key: Vec<u8>,
    pub(super) on: bool,
    pub(super) ttl: Option<NonZeroU64>,
    pub(super) looked: AtomicBool,
    pub(super) swept: AtomicU64,
    pub(super) refused: AtomicBool,
}

/// The commands before and after those that write values.
pub(in crate::store) struct Around {
    pub(in crate::store) before: Option<Cmd>,
    pub(in crate::store) after: Option<Cmd>,
}

impl Around {
    pub(in crate::store) fn nothing() -> Self {
        Self {
            before: None,
            after: None,
        }
    }

    /// For a transaction, in which nothing comes between the two.
    pub(in crate::store) fn once(self) -> Self {
        let after = self.after.filter(|_| self.before.is_none());
        Self { after, ..self }
    }

    /// How many commands they are.
    pub(in crate::store) fn count(&self) -> usize {
        usize::from(self.before.is_some()) + usize::from(self.after.is_some())
    }
}

impl Registry {
    pub(in crate::store) fn new(config: &StoreConfig) -> Self {
        Self {
            // Beside the namespaces, and of this one alone: a namespace holds no ':'.
            key: config
                .keyspace
                .key_beside(&format!("registry:{}", config.namespace)),
            on: config.registry,
            ttl: config.ttl,
            looked: AtomicBool::new(false),
            swept: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    pub(in crate::store) fn is_on(&self) -> bool {
        self.on
    }

    /// Whether this is the first time that the server refuses to keep it.
    pub(in crate::store) fn is_newly_refused(&self) -> bool {
        !self.refused.swap(true, Relaxed)
    }

    /// What goes with a write of these ids: their registration, twice. Without a registry, once a
    /// store, a word that there are values now which are not in it, if someone else keeps one.
    pub(in crate::store) fn around<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Around {
        if self.on {
            let score = self.ttl.map_or(NEVER, |ttl| expiry(ttl.get()));
            let register = self.register(&[], ids.map(|id| (score, id.as_str())));
            return Around {
                before: Some(register.clone()),
                after: Some(register),
            };
        }
        let look = !self.looked.load(Relaxed) && !self.looked.swap(true, Relaxed);
        Around {
            before: None,
            after: look.then(|| self.not_adopted()),
        }
    }

    /// ZADD with these flags.
    pub(in crate::store) fn register<'a>(
        &self,
        flags: &[&str],
        members: impl Iterator<Item = (i64, &'a str)>,
    ) -> Cmd {
        let mut zadd = self.command("ZADD");
        for flag in flags {
            zadd.arg(flag);
        }
        for (score, id) in members {
            zadd.arg(score).arg(id);
        }
        zadd
    }

    /// Gives those of the ids that are registered the mark.
    pub(in crate::store) fn mark<'a>(&self, mark: i64, ids: impl Iterator<Item = &'a str>) -> Cmd {
        self.register(&["XX"], ids.map(|id| (mark, id)))
    }

    /// Removes what still has the mark, and counts it.
    pub(in crate::store) fn unregister(&self, mark: i64) -> Cmd {
        let mut remove = self.command("ZREMRANGEBYSCORE");
        remove.arg(mark).arg(mark);
        remove
    }

    /// Says that the owner of this token is adopting.
    pub(in crate::store) fn begin_adoption(&self, token: &[u8]) -> Cmd {
        let mut zadd = self.command("ZADD");
        zadd.arg(PENDING).arg(token);
        zadd
    }

    /// Says that every value is registered, if the token has been there since the adoption began.
    pub(in crate::store) fn end_adoption(&self, token: &[u8]) -> Cmd {
        let mut zadd = self.command("ZADD");
        zadd.arg("XX").arg("+inf").arg(token);
        zadd
    }

    /// Removes the tokens of adoptions that need not be ended, or broke off.
    pub(in crate::store) fn forget_adoptions(&self) -> Cmd {
        let mut remove = self.command("ZREMRANGEBYSCORE");
        remove.arg(PENDING).arg(PENDING);
        remove
    }

    /// Says that some values are not registered, nor will be when an adoption ends that is under way; counts the tokens.
    fn not_adopted(&self) -> Cmd {
        let mut remove = self.command("ZREMRANGEBYSCORE");
        remove.arg(format!("({NEVER}")).arg("+inf");
        remove
    }

    /// The tokens that say that every value is registered; none until one does.
    pub(in crate::store) fn tokens(&self) -> Cmd {
        let mut tokens = self.command("ZRANGEBYSCORE");
        tokens.arg("+inf").arg("+inf");
        tokens
    }

    /// The score of a member; nil for one that is not registered.
    pub(in crate::store) fn score(&self, member: &[u8]) -> Cmd {
        let mut score = self.command("ZSCORE");
        score.arg(member);
        score
    }

    /// One page of members and scores. A listing finds what is there from its start to its end.
    pub(in crate::store) fn page(&self, cursor: u64) -> Cmd {
        let mut scan = self.command("ZSCAN");
        scan.arg(cursor).arg("COUNT").arg(PAGE);
        scan
    }

    /// How many ids have a value that has not expired.
    pub(in crate::store) fn count(&self) -> Cmd {
        let mut count = self.command("ZCOUNT");
        count.arg(format!("({}", now())).arg(NEVER);
        count
    }

    /// A few of them.
    pub(in crate::store) fn sample(&self, size: usize) -> Cmd {
        let mut sample = self.command("ZRANGEBYSCORE");
        let unexpired = format!("({}", now());
        sample
            .arg(unexpired)
            .arg(NEVER)
            .arg("LIMIT")
            .arg(0)
            .arg(size);
        sample
    }

    pub(super) fn command(&self, name: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&*self.key);
        command
    }
}

/// A token that no other adoption has.
pub(in crate::store) fn new_token() -> Vec<u8> {
    let chance = RandomState::new().hash_one((std::process::id(), now()));
    [&[TOKEN][..], format!("{chance:016x}").as_bytes()].concat()
}

/// Whether a member is an id.
pub(in crate::store) fn is_id(member: &[u8]) -> bool {
    member.first() != Some(&TOKEN)
}

/// The score of a value of which PTTL says this; None if there is none.
pub(in crate::store) fn score_of(pttl: i64) -> Option<i64> {
    match pttl {
        -2 => None,
        -1 => Some(NEVER),
        left => Some(now().saturating_add(left).min(NEVER)),
    }
}

fn expiry(seconds: u64) -> i64 {
    let milliseconds = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(NEVER);
    now().saturating_add(milliseconds).min(NEVER)
}

/// Milliseconds since 1970 by this machine's clock, which decides what is counted as expired, and
/// never alone what is removed.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::delete_marks::is_stale;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "what is tested")]
    fn tokens_differ_are_no_ids_and_their_scores_are_no_dates() {
        let (one, other) = (new_token(), new_token());
        assert!(one != other && !is_id(&one) && is_id(b"") && is_id("\u{ff}".as_bytes()));
        assert!(PENDING as f64 > NEVER as f64 && !is_stale(PENDING as f64));
        assert_eq!((PENDING as f64).to_string(), PENDING.to_string());
    }

    #[test]
    fn what_does_not_expire_has_the_highest_score() {
        assert_eq!((score_of(-2), score_of(-1)), (None, Some(NEVER)));
        assert_eq!(expiry(u64::MAX), NEVER);
    }

    fn registry() -> Registry {
        let server = crate::config::ServerConfig::new("redis://localhost").unwrap();
        Registry::new(&StoreConfig::new(server, "docs").unwrap())
    }

    #[test]
    fn that_the_registry_is_refused_is_news_once() {
        let registry = registry();
        let told = [(); 3].map(|()| registry.is_newly_refused());
        assert_eq!(told, [true, false, false]);
    }

    #[test]
    fn whoever_keeps_no_registry_looks_for_anothers_at_its_first_write_alone() {
        let (registry, ids) = (registry(), ["a".to_owned()]);
        let looked = [(); 3].map(|()| registry.around(ids.iter()));
        assert!(looked.iter().all(|around| around.before.is_none()));
        let looked = looked.map(|around| around.after.is_some());
        assert_eq!(looked, [true, false, false]);
    }
}

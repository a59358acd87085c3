//! `redis_ttl_sliding`: a value that is read in the second half of its life is given its time to live anew, but none
//! lives longer than `redis_ttl_max_age` after it was written.
//!
//! Reads notice ids; a task of the runtime asks for the time that they have left, and nobody waits for it. An id is
//! asked after once in half a life, by each process. When a value is renewed first, what is left says when it was
//! written: that is kept as the time to live of a key beside the namespace, which ends [`GRACE`] after the value has
//! to. Where the server loses that key, as it may when it evicts, the value is taken for a new one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use redis::Value;
use tokio::runtime::Handle;

use super::registry::score_of;
use super::{BATCH_ITEMS, KvStore};
use crate::client::{Commands, Reply, Request, command, deadline};
use crate::config::StoreConfig;
use crate::error::Result;
use crate::metrics::Count;
use crate::mutex::Mutex;

/// Ids of which it is known when to ask again. Beyond that, all are asked after again.
const REMEMBERED: usize = 65_536;
/// Ids that wait to be asked after; what is read beyond that is asked after at a later read.
const WAITING: usize = 4_096;

/// Milliseconds by which the key beside a renewed value outlives it: longer than a renewal takes, so that no value
/// that it has limited is met without it, and taken for a new one. `prune` knows it too.
const GRACE: i64 = 60_000;

pub(super) struct SlidingTtl {
    store: Weak<KvStore>,
    /// Milliseconds that a value is given.
    ttl: i64,
    /// Milliseconds that it lives at most.
    max_age: i64,
    hasher: RandomState,
    looks: Mutex<Looks>,
    /// Whether the server is Redis 6.2, whose PEXPIRE has no GT.
    lacks_gt: AtomicBool,
}

#[derive(Default)]
struct Looks {
    /// By the hash of an id: when it is to be asked after again.
    next: HashMap<u64, Instant>,
    waiting: Vec<String>,
    running: bool,
    /// Where a read went to the server last: a copy is read outside of any runtime.
    runtime: Option<Handle>,
}

/// What is to be done about a value, and when to ask again.
struct Renewal {
    /// Milliseconds to give it; None leaves it as it is.
    give: Option<i64>,
    /// Milliseconds that the key beside it is to live, where it has none yet, or one of an older value.
    born: Option<i64>,
    again: i64,
}

impl SlidingTtl {
    /// None where the settings do not ask for it.
    pub(super) fn new(config: &StoreConfig, store: &Weak<KvStore>) -> Option<Self> {
        let milliseconds =
            |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX / 4);
        Some(Self {
            store: Weak::clone(store),
            ttl: milliseconds(config.ttl?.get()),
            max_age: milliseconds(config.ttl_max_age?.get()),
            hasher: RandomState::new(),
            looks: Mutex::default(),
            lacks_gt: AtomicBool::new(false),
        })
    }

    /// These ids were read from the server.
    pub(super) fn read<'id>(&self, ids: impl Iterator<Item = &'id str>) {
        if let Ok(runtime) = Handle::try_current() {
            self.looks.lock().runtime = Some(runtime);
        }
        for id in ids {
            self.read_copy(id);
        }
    }

    /// This id was read, perhaps from a copy.
    pub(super) fn read_copy(&self, id: &str) {
        let (hash, now) = (self.hasher.hash_one(id), Instant::now());
        let mut looks = self.looks.lock();
        if looks.next.get(&hash).is_some_and(|next| *next > now) || looks.waiting.len() >= WAITING {
            return;
        }
        let Some(runtime) = looks.runtime.clone() else {
            return;
        };
        if looks.next.len() >= REMEMBERED {
            looks.next.clear();
        }
        // Until it is known better; also where the server does not answer.
        looks.next.insert(hash, now + millis(self.ttl / 4));
        looks.waiting.push(id.to_owned());
        if !std::mem::replace(&mut looks.running, true) {
            let store = Weak::clone(&self.store);
            drop(looks);
            runtime.spawn(async move {
                while let Some(store) = store.upgrade() {
                    let limit = store.config.server.operation_timeout;
                    let renewed = deadline::within(limit, store.renew_waiting());
                    // A panic, for want of memory say, costs these ids their renewal, and not all later ones.
                    let renewed = AssertUnwindSafe(renewed).catch_unwind().await;
                    if !renewed.unwrap_or(true) {
                        return;
                    }
                }
            });
        }
    }

    fn next(&self) -> Vec<String> {
        let mut looks = self.looks.lock();
        let count = looks.waiting.len().min(BATCH_ITEMS);
        looks.running = count > 0;
        looks.waiting.drain(..count).collect()
    }

    /// Of the milliseconds that a value and the key beside it have left.
    fn renewal(&self, left: i64, born: Option<i64>) -> Renewal {
        let (bound, is_new) = match born {
            Some(born) if left <= born => (born - GRACE, false),
            // Nobody has renewed it yet, or it was written anew since, as it outlives that key. So it was written
            // when it had its whole time.
            _ => (self.max_age - (self.ttl - left).max(0), true),
        };
        let half = self.ttl / 2;
        // One that may not be given more is asked after again at its end: it may have been written anew.
        let until_half = |left: i64| if left > half { left - half } else { left };
        let give = Some(self.ttl.min(bound)).filter(|give| left <= half && *give > left);
        Renewal {
            give,
            born: is_new.then(|| bound.saturating_add(GRACE)),
            again: until_half(give.unwrap_or(left)),
        }
    }
}

impl KvStore {
    /// False once none waits.
    async fn renew_waiting(self: &Arc<Self>) -> bool {
        let Some(sliding) = &self.sliding_ttl else {
            return false;
        };
        let ids = sliding.next();
        if ids.is_empty() {
            return false;
        }
        // What fails is tried again at a later read: nobody has asked for it.
        if let Ok(renewed) = self.renew(sliding, &ids).await {
            self.counters.count(Count::TtlRenewals, renewed);
        }
        true
    }

    /// Renews those that are due; counts them.
    async fn renew(&self, sliding: &SlidingTtl, ids: &[String]) -> Result<u64> {
        let looks = ids.iter().flat_map(|id| {
            let (key, born) = (self.key(id), self.born_key(id));
            [command("PTTL", [&*key]), command("PTTL", [&*born])]
        });
        let replies = self.send(&Request::resendable(looks)).await?;
        let (mut before, mut due) = (Commands::default(), Vec::new());
        for (id, replies) in ids.iter().zip(replies.chunks(2)) {
            let [Some(left), born_left] = [0, 1].map(|at| replies.get(at).and_then(left)) else {
                continue; // it is gone, or lives for ever
            };
            let renewal = sliding.renewal(left, born_left);
            let again = Instant::now() + millis(renewal.again);
            let hash = sliding.hasher.hash_one(id.as_str());
            sliding.looks.lock().next.insert(hash, again);
            let Some(give) = renewal.give else { continue };
            if let Some(born) = renewal.born {
                let (key, born) = (self.born_key(id), born.to_string());
                before.extend(&[command("SET", [&*key, b"", b"PX", born.as_bytes()])]);
            }
            due.push((id.as_str(), give));
        }
        if due.is_empty() {
            return Ok(0);
        }
        if self.registry.is_on() {
            let scores = due
                .iter()
                .filter_map(|(id, give)| Some((score_of(*give)?, *id)));
            before.extend(&[self.registry.register(&["XX"], scores)]);
        }
        // First how long it may live: a value that lives longer would be taken for a new one. And whoever lists the
        // registry takes an id whose time is over for gone.
        let replies = self.send(&before.resendable()).await?;
        self.all(replies)?;
        let replies = self.send(&self.expiries(sliding, &due)).await?;
        let replies = if replies.iter().any(takes_no_option) {
            sliding.lacks_gt.store(true, Ordering::Relaxed);
            self.send(&self.expiries(sliding, &due)).await?
        } else {
            replies
        };
        let renewed = |reply: &Reply| matches!(reply, Reply::Other(Value::Int(1)));
        let count = replies.iter().filter(|reply| renewed(reply)).count();
        self.all(replies)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// With GT, a value that was written in the meantime, and lives longer, keeps its time.
    fn expiries(&self, sliding: &SlidingTtl, due: &[(&str, i64)]) -> Request {
        let greater: &[&[u8]] = if sliding.lacks_gt.load(Ordering::Relaxed) {
            &[]
        } else {
            &[b"GT"]
        };
        let mut expiries = Commands::default();
        for (id, give) in due {
            let (key, give) = (self.key(id), give.to_string());
            let arguments = [&[&*key, give.as_bytes()], greater].concat();
            expiries.extend(&[command("PEXPIRE", arguments)]);
        }
        expiries.resendable()
    }

    /// The key whose time to live is that which a renewed value has left in all.
    fn born_key(&self, id: &str) -> Vec<u8> {
        let config = &self.config;
        let name = format!("born:{}:{id}", config.namespace);
        config.keyspace.key_beside(&name)
    }
}

/// Milliseconds that a key has left; None if it is gone, or has no time to live.
fn left(pttl: &Reply) -> Option<i64> {
    match pttl {
        Reply::Other(Value::Int(left @ 1..)) => Some(*left),
        _ => None,
    }
}

/// Whether this PEXPIRE was refused for its GT.
fn takes_no_option(reply: &Reply) -> bool {
    match reply {
        Reply::Other(Value::ServerError(error)) => error
            .details()
            .is_some_and(|details| details.starts_with("wrong number of arguments")),
        _ => false,
    }
}

fn millis(milliseconds: i64) -> Duration {
    Duration::from_millis(milliseconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::client::SharedConnections;
    use crate::config::ServerConfig;

    const SECOND: i64 = 1_000;

    fn config(url: &str) -> StoreConfig {
        let mut config = StoreConfig::new(ServerConfig::new(url).unwrap(), "t").unwrap();
        config.ttl = NonZeroU64::new(1_000);
        config.ttl_max_age = NonZeroU64::new(1_500);
        config
    }

    fn sliding() -> SlidingTtl {
        SlidingTtl::new(&config("redis://localhost"), &Weak::new()).unwrap()
    }

    fn renewal(left: i64, born: Option<i64>) -> (Option<i64>, Option<i64>, i64) {
        let sliding = sliding();
        let born = born.map(|born| born * SECOND + GRACE);
        let told = sliding.renewal(left * SECOND, born);
        let seconds = |millis: i64| millis / SECOND;
        let born = told.born.map(|born| seconds(born - GRACE));
        (told.give.map(seconds), born, seconds(told.again))
    }

    #[test]
    fn the_first_renewal_notes_how_long_a_value_may_live() {
        assert_eq!(renewal(499, None), (Some(999), Some(999), 499));
        assert_eq!(renewal(100, None), (Some(600), Some(600), 100));
        assert_eq!(renewal(500, None), (Some(1_000), Some(1_000), 500));
        assert_eq!(renewal(501, None), (None, Some(1_001), 1));
        assert_eq!(renewal(900, None), (None, Some(1_400), 400));
    }

    #[test]
    fn none_is_asked_after_at_its_end_that_could_be_given_more() {
        for left in 1..=1_000 {
            for born in [None, Some(300), Some(500), Some(800), Some(1_200)] {
                let (give, noted, again) = renewal(left, born);
                let end = noted.or(born).unwrap();
                let lives = give.unwrap_or(left);
                assert!(again < lives || lives >= end, "{left} {born:?}: {again}");
            }
        }
    }

    #[test]
    fn a_value_that_was_renewed_keeps_to_what_it_was_told() {
        assert_eq!(renewal(100, Some(1_200)), (Some(1_000), None, 500));
        assert_eq!(renewal(100, Some(300)), (Some(300), None, 300));
        assert_eq!(renewal(100, Some(100)), (None, None, 100));
        // The key beside it is kept for longer than the value may live.
        assert_eq!(renewal(10, Some(-5)), (None, None, 10));
    }

    #[test]
    fn a_value_that_was_written_anew_is_as_old_as_that() {
        assert_eq!(renewal(490, Some(400)), (Some(990), Some(990), 490));
    }

    #[test]
    fn a_value_in_the_middle_of_its_life_that_may_have_no_more_is_asked_after_at_its_end() {
        assert_eq!(renewal(500, Some(500)), (None, None, 500));
        assert_eq!(renewal(501, Some(501)), (None, None, 1));
    }

    #[tokio::test]
    async fn an_id_is_asked_after_once_in_a_quarter_of_its_life() {
        let (sliding, before) = (sliding(), Instant::now());
        let waiting = || sliding.looks.lock().waiting.clone();
        sliding.read(["a", "b", "a"].into_iter());
        assert_eq!(waiting(), ["a", "b"]);
        let quarter = Duration::from_secs(250);
        let mut looks = sliding.looks.lock();
        assert_eq!(looks.next.len(), 2);
        for next in looks.next.values_mut() {
            assert!((before + quarter..=Instant::now() + quarter).contains(next));
            *next = before; // it has passed
        }
        drop(looks);
        sliding.read_copy("b");
        assert_eq!(waiting(), ["a", "b", "b"]);
    }

    #[tokio::test]
    async fn what_is_read_while_too_many_wait_is_asked_after_at_a_later_read() {
        let sliding = sliding();
        let many: Vec<String> = (0..WAITING).map(|number| number.to_string()).collect();
        sliding.read(many.iter().map(String::as_str));
        sliding.read_copy("late");
        assert_eq!(sliding.looks.lock().waiting, many);
        assert_eq!(sliding.next(), many[..BATCH_ITEMS]);
        sliding.read_copy("late");
        assert_eq!(sliding.looks.lock().waiting.last().unwrap(), "late");
    }

    #[tokio::test]
    async fn whoever_finds_none_waiting_is_done_until_something_is_read() {
        let sliding = sliding();
        sliding.read(["a"].into_iter());
        assert_eq!(sliding.next(), ["a"]);
        assert!(sliding.looks.lock().running);
        assert!(sliding.next().is_empty());
        assert!(!sliding.looks.lock().running);
    }

    #[tokio::test]
    async fn each_read_has_what_waits_asked_after_also_where_no_server_answers() {
        let mut config = config("unix:///nowhere/socket");
        config.server.max_retries = 0;
        let store = KvStore::new(config, &SharedConnections::default());
        let sliding = store.sliding_ttl.as_ref().unwrap();
        for id in ["a", "b"] {
            sliding.read([id].into_iter());
            let done = async {
                let waits = |looks: &Looks| looks.running || !looks.waiting.is_empty();
                while waits(&sliding.looks.lock()) {
                    tokio::task::yield_now().await;
                }
            };
            let limit = Duration::from_secs(20);
            tokio::time::timeout(limit, done).await.unwrap();
        }
    }

    #[test]
    fn how_long_a_value_may_live_is_noted_beside_its_namespace() {
        let store = KvStore::new(config("redis://localhost"), &SharedConnections::default());
        let key = String::from_utf8(store.born_key("a:é")).unwrap();
        assert_eq!(key, "nano_graphrag:@born:t:a:é");
    }

    #[test]
    fn a_server_that_refuses_the_option_is_told_from_one_that_refuses_the_rest() {
        for (said, takes_none) in [
            (
                "-ERR wrong number of arguments for 'pexpire' command\r\n",
                true,
            ),
            ("-ERR value is not an integer or out of range\r\n", false),
            ("-NOPERM this user may not\r\n", false),
            ("+wrong number of arguments\r\n", false),
            (":1\r\n", false),
        ] {
            let reply = Reply::from(redis::parse_redis_value(said.as_bytes()).unwrap());
            assert_eq!(takes_no_option(&reply), takes_none, "{said}");
        }
    }
}

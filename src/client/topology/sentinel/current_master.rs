//! Sentinels: they say which server is the master, and this keeps to it.
//!
//! A server that was stalled, and was replaced meanwhile, wakes up as a master: it answers what lay in
//! its socket, and what it acknowledges is lost when it learns better. So the sentinels are asked
//! twice a second while there are calls, their newest word counts, whoever is waited for at the old
//! master is told that it has gone, and an answer that took its time is believed only if the
//! sentinels still name the server that gave it. What a master that wakes acknowledges within
//! moments of a failover it must refuse by itself: `min-replicas-to-write 1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};

use crate::client::Reply;
use crate::client::node::{FailedAttempt, Node};
use crate::client::topology::Meaning;
use crate::client::topology::shared_refresh::Refresh;
use crate::config::{Sentinel, ServerConfig};
use crate::error::{Error, Kind, Result};
use crate::log_events::Notices;
use crate::mutex::Mutex;

/// Between two questions while there are calls.
const WATCH: Duration = Duration::from_millis(500);
/// How old what the sentinels said may be where a call relies on it.
const FRESH: Duration = Duration::from_millis(1500);
/// How long an answer may take that is believed as it is. No failover is as quick, if
/// `down-after-milliseconds` is 500 or more.
const PROMPT: Duration = Duration::from_millis(300);

pub(in crate::client) struct Sentinels {
    /// Told by whoever comes by first.
    pub(in crate::client) notices: Notices,
    pub(super) config: ServerConfig,
    pub(super) master: String,
    pub(super) asked: Vec<Arc<Node>>,
    pub(super) known: Mutex<Known>,
    pub(super) refreshing: Refresh<Arc<Node>>,
    /// Whether a call asked for the master since the last check of the watch.
    pub(super) used: AtomicBool,
    /// Stands for the master while none is known: its breaker counts looks that found none.
    pub(super) entry: Arc<Node>,
}

#[derive(Default)]
pub(super) struct Known {
    pub(super) master: Option<Arc<Node>>,
    pub(super) epoch: u64,
    pub(super) term: u64,
    /// When the sentinels that said so were asked, and when any were last.
    pub(super) refreshed: Option<Instant>,
    pub(super) tried: Option<Instant>,
    pub(super) suspect: bool,
    /// Whom the sentinels name, and who has not said so itself.
    pub(super) candidate: Option<Arc<Node>>,
}

impl Sentinels {
    /// Opens nothing.
    pub(in crate::client) fn new(config: &ServerConfig, sentinel: &Sentinel) -> Arc<Self> {
        let endpoints = std::iter::once(&config.endpoint).chain(&config.seeds);
        let sentinels = endpoints.map(|endpoint| {
            let mut own = config.at(endpoint.clone());
            own.endpoint.database = 0;
            own.credentials.clone_from(&sentinel.credentials);
            own.min_connections = 0;
            Node::new(own)
        });
        Arc::new(Self {
            asked: sentinels.collect(),
            master: sentinel.master.clone(),
            notices: Notices::default(),
            known: Mutex::default(),
            refreshing: Refresh::default(),
            used: AtomicBool::new(false),
            entry: Node::new(config.clone()),
            config: config.clone(),
        })
    }

    /// The master, as the sentinels said a moment ago; else they are asked.
    pub(in crate::client) async fn node(self: &Arc<Self>) -> Result<Arc<Node>> {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        if let Some(master) = self.fresh() {
            return Ok(master);
        }
        let before = self.master();
        if before.is_none() && self.entry.breaker.is_open() {
            return Err(self.entry.refused());
        }
        match (self.refresh().await, before) {
            // No sentinel is there to ask, which says nothing of the master.
            (Err(error), Some(master)) if error.is_outage() => Ok(master),
            (refreshed, _) => refreshed,
        }
    }

    fn fresh(&self) -> Option<Arc<Node>> {
        let known = self.known.lock();
        let fresh = !known.suspect && known.tried.is_some_and(|at| at.elapsed() < FRESH);
        known.master.as_ref().filter(|_| fresh).map(Arc::clone)
    }

    /// The master that is known, however long.
    pub(in crate::client) fn master(&self) -> Option<Arc<Node>> {
        self.known.lock().master.clone()
    }

    fn is_master(&self, node: &Arc<Node>) -> bool {
        let known = self.known.lock();
        known
            .master
            .as_ref()
            .is_some_and(|master| Arc::ptr_eq(master, node))
    }

    /// What stands for the master where none is known.
    pub(in crate::client) fn entry(&self) -> &Arc<Node> {
        &self.entry
    }

    /// Something went wrong there: the sentinels are asked before anything else is.
    pub(in crate::client) fn suspect(&self, node: &Arc<Node>) {
        if self.is_master(node) {
            self.known.lock().suspect = true;
        }
    }

    /// The commands that a server refuses, since it is no master or has lost its replicas.
    pub(in crate::client) fn meanings(
        &self,
        node: &Arc<Node>,
        replies: &[Reply],
    ) -> Vec<(Meaning, Vec<usize>)> {
        let refused = replies.iter().enumerate();
        let mut refused = refused.filter_map(|(place, reply)| Some((place, refusal(node, reply)?)));
        let Some((first, error)) = refused.next() else {
            return Vec::new();
        };
        self.suspect(node);
        let places = std::iter::once(first).chain(refused.map(|(place, _)| place));
        vec![(Meaning::Refused(error), places.collect())]
    }

    /// Whether an answer of this server to what was sent then is one of the master.
    pub(in crate::client) async fn believes(
        self: &Arc<Self>,
        node: &Arc<Node>,
        sent: Instant,
    ) -> bool {
        let answered = Instant::now();
        if !self.is_master(node) {
            return false;
        }
        if answered - sent < PROMPT {
            return true;
        }
        loop {
            match self.refresh().await {
                Ok(master) if Arc::ptr_eq(&master, node) => {}
                _ => return false,
            }
            // One that was under way already may have asked before that.
            if self.known.lock().refreshed.is_some_and(|at| at >= answered) {
                return true;
            }
        }
    }

    /// Counts the masters that there have been.
    pub(in crate::client) fn term(&self) -> u64 {
        self.known.lock().term
    }

    /// Has the sentinels asked, though nobody waits for what they say.
    pub(in crate::client) fn refresh_soon(self: &Arc<Self>) {
        self.refreshing.begin(self.ask());
    }

    /// Whether calls to this node may pass again, or go to another by now.
    pub(in crate::client) async fn has_recovered(self: &Arc<Self>, node: &Arc<Node>) -> bool {
        match self.refresh().await {
            Ok(master) if Arc::ptr_eq(&master, node) => node.answers_ping().await,
            refreshed => refreshed.is_ok(),
        }
    }

    /// Asks the sentinels now, and waits for what comes of it.
    async fn refresh(self: &Arc<Self>) -> Result<Arc<Node>> {
        let limit = self.config.operation_timeout;
        self.refreshing.answer(self.ask(), limit).await
    }

    fn ask(self: &Arc<Self>) -> impl Future<Output = Result<Arc<Node>>> + Send + use<> {
        let own = Arc::clone(self);
        async move {
            let found = own.find().await;
            own.known.lock().tried = Some(Instant::now());
            found
        }
    }

    /// Asks now and then, as long as there are calls: a master that is stalled ends no connection.
    pub(super) fn watch(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(WATCH).await;
                let Some(own) = weak.upgrade() else {
                    return;
                };
                let waited_for = own.master().is_some_and(|master| master.in_flight() != 0);
                if own.used.swap(false, Relaxed) || waited_for {
                    let _ = own.refresh().await; // who calls next is told
                }
            }
        });
    }
}

/// The error of a command that a server did not run because it is no master, or has lost its
/// replicas. During a failover that passes, so it is an outage and not a mistake of the caller.
fn refusal(node: &Node, reply: &Reply) -> Option<Error> {
    let Reply::Other(Value::ServerError(error)) = reply else {
        return None;
    };
    if !matches!(error.code(), "READONLY" | "NOREPLICAS" | "MASTERDOWN") {
        return None;
    }
    let said = Error::from_redis(&error.clone().into());
    let message = format!(
        "{}: {said}; the sentinels name no other master yet, so try again",
        node.endpoint()
    );
    Some(Error::new(Kind::Unavailable, message))
}

/// An answer came so late that another server is the master by now.
pub(in crate::client) fn disowned() -> FailedAttempt {
    let message = "the server that answered has been replaced as the master meanwhile";
    FailedAttempt {
        error: Error::new(Kind::Unavailable, message).into(),
        sent: true,
        stale: false,
        replies: Vec::new(),
    }
}

/// Bits of a place for the term of the master whose cursor it is.
const TERM_BITS: u32 = 63;

/// Where a walk over all keys is, told by one number: 0 at the end.
pub(in crate::client) fn place(cursor: u64, term: u64) -> u128 {
    match cursor {
        0 => 0,
        cursor => u128::from(term) << (128 - TERM_BITS) | u128::from(cursor),
    }
}

/// The cursor of a place, to be given to the master of this term: 0 where it is another's.
pub(in crate::client) fn cursor(place: u128, term: u64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let cursor = place as u64;
    if place >> (128 - TERM_BITS) == u128::from(term) {
        cursor
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::client::topology::Topology;
    use crate::config::Credentials;

    /// Sentinels at a place where nobody is.
    fn sentinels() -> Arc<Sentinels> {
        let config = ServerConfig::new("unix:///nobody/sentinel").unwrap();
        let sentinel = Sentinel {
            master: "main".to_owned(),
            credentials: Credentials::default(),
        };
        Sentinels::new(&config, &sentinel)
    }

    fn node() -> Arc<Node> {
        Node::new(ServerConfig::new("unix:///nobody/server").unwrap())
    }

    /// Sentinels that have named a master just now.
    fn asked_just_now() -> (Arc<Sentinels>, Arc<Node>) {
        let (sentinels, master) = (sentinels(), node());
        *sentinels.known.lock() = Known {
            master: Some(Arc::clone(&master)),
            tried: Some(Instant::now()),
            ..Known::default()
        };
        (sentinels, master)
    }

    fn failed(kind: Kind) -> Result<Arc<Node>> {
        Err(Error::new(kind, "as they say"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_sentinels_said_is_relied_on_while_it_is_fresh_and_its_master_not_suspected() {
        let (sentinels, master) = asked_just_now();
        let is_fresh = || {
            sentinels
                .fresh()
                .is_some_and(|node| Arc::ptr_eq(&node, &master))
        };
        assert!(is_fresh());
        sentinels.suspect(&node());
        assert!(is_fresh());
        assert!(Arc::ptr_eq(&sentinels.node().await.unwrap(), &master));
        assert!(sentinels.used.load(Relaxed));
        sentinels.suspect(&master);
        assert!(!is_fresh());
        sentinels.known.lock().suspect = false;
        advance(FRESH).await;
        assert!(!is_fresh());
        assert!(Arc::ptr_eq(&sentinels.master().unwrap(), &master));
        sentinels.known.lock().tried = None;
        assert!(!is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn the_known_master_outlives_sentinels_that_are_away_and_none_that_refuse_us() {
        for (kind, outlives) in [
            (Kind::Unavailable, true),
            (Kind::Timeout, true),
            (Kind::Auth, false),
        ] {
            let (sentinels, master) = asked_just_now();
            advance(FRESH).await;
            sentinels.refreshing.begin(async move { failed(kind) });
            match sentinels.node().await {
                Ok(found) => assert!(outlives && Arc::ptr_eq(&found, &master)),
                Err(error) => assert!(!outlives && error.kind() == kind, "{error}"),
            }
        }
        let other = node();
        let (sentinels, _) = asked_just_now();
        advance(FRESH).await;
        let named = Arc::clone(&other);
        sentinels.refreshing.begin(async { Ok(named) });
        assert!(Arc::ptr_eq(&sentinels.node().await.unwrap(), &other));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_if_it_is_prompt_or_the_sentinels_name_its_server_after_it() {
        let (sentinels, master) = asked_just_now();
        let sent = Instant::now();
        assert!(!sentinels.believes(&node(), sent).await);
        advance(PROMPT.saturating_sub(Duration::from_millis(1))).await;
        assert!(sentinels.believes(&master, sent).await);
        advance(Duration::from_millis(1)).await;
        assert!(!sentinels.believes(&master, sent).await);
        for (named, refreshed, believed) in [
            (&master, Instant::now(), true),
            (&master, sent, false),
            (&node(), Instant::now(), false),
        ] {
            sentinels.known.lock().refreshed = Some(refreshed);
            let named = Arc::clone(named);
            sentinels.refreshing.begin(async { Ok(named) });
            assert_eq!(sentinels.believes(&master, sent).await, believed);
        }
    }

    #[tokio::test]
    async fn calls_pass_again_where_the_master_answers_or_another_was_named() {
        let (sentinels, master) = asked_just_now();
        for (named, passes) in [
            (failed(Kind::Unavailable), false),
            (Ok(Arc::clone(&master)), false),
            (Ok(node()), true),
        ] {
            sentinels.refreshing.begin(async { named });
            assert_eq!(sentinels.has_recovered(&master).await, passes);
        }
    }

    #[tokio::test]
    async fn sentinels_are_asked_though_nobody_waits_for_their_answer() {
        let sentinels = sentinels();
        sentinels.refresh_soon();
        let shared = sentinels.refreshing.answer(async { Ok(node()) }, WATCH);
        assert!(shared.await.is_err());
        assert!(sentinels.known.lock().tried.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn sentinels_are_asked_now_and_then_while_there_are_calls_and_else_never() {
        let (sentinels, _) = asked_just_now();
        let began = Instant::now();
        let last = || sentinels.known.lock().tried.unwrap();
        sentinels.watch();
        sleep(4 * WATCH).await;
        assert_eq!(last(), began);
        for _ in 0..3 {
            let called = Instant::now();
            sentinels.used.store(true, Relaxed);
            sleep(2 * WATCH).await;
            assert!(last() >= called);
            assert!(!sentinels.used.load(Relaxed));
        }
    }

    #[test]
    fn a_server_that_is_no_master_any_more_or_has_lost_its_replicas_is_suspected() {
        let said = |text: &str| {
            let value = redis::parse_redis_value(format!("{text}\r\n").as_bytes());
            Reply::from(value.unwrap())
        };
        let (sentinels, master) = asked_just_now();
        let others = ["+OK", "-WRONGTYPE no", "-ERR no", "$-1"].map(said);
        assert!(sentinels.meanings(&master, &others).is_empty());
        assert!(!sentinels.known.lock().suspect);
        for code in ["READONLY", "NOREPLICAS", "MASTERDOWN"] {
            let refused = format!("-{code} no");
            let replies = ["+OK", &refused, "-ERR no", &refused].map(said);
            let (sentinels, master) = asked_just_now();
            let mut meanings = sentinels.meanings(&master, &replies);
            let Some((Meaning::Refused(error), places)) = meanings.pop() else {
                panic!("{code} is no answer");
            };
            assert!(meanings.is_empty() && places == [1, 3], "{places:?}");
            assert!(
                error.is_outage() && error.to_string().contains(code),
                "{error}"
            );
            assert!(sentinels.known.lock().suspect);
        }
    }

    #[test]
    fn a_master_is_suspected_where_a_call_failed_unless_its_connection_had_been_lost_before() {
        let (sentinels, master) = asked_just_now();
        let topology = Topology::Sentinel(Arc::clone(&sentinels));
        for (node, was_stale, suspect) in [
            (&node(), false, false),
            (&master, true, false),
            (&master, false, true),
        ] {
            topology.failed(node, was_stale);
            assert_eq!(sentinels.known.lock().suspect, suspect);
        }
    }

    #[test]
    fn a_place_is_the_cursor_of_one_master_and_the_beginning_at_any_other() {
        let sentinels = sentinels();
        for term in [1, 2, 3, 1 << 40] {
            sentinels.known.lock().term = term;
            for own in [1, 2, 1 << 63, u64::MAX] {
                let told = place(own, sentinels.term());
                assert_eq!(cursor(told, term), own);
                for another in [0, term - 1, term + 1, term * 2] {
                    assert_eq!(cursor(told, another), 0, "{another} {term}");
                }
            }
            assert_eq!((place(0, term), cursor(0, term)), (0, 0));
        }
    }
}

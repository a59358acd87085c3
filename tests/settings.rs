//! What settings turn on, on real servers and without Python: replacing, single flight, changes, copies, files.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nano_graphrag_redis::config::{Changes, OutagePolicy, SingleFlight};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::files::Paths;
use nano_graphrag_redis::local_single_flight::Landing;
use nano_graphrag_redis::log_events::Notice;
use nano_graphrag_redis::metrics::Count;
use nano_graphrag_redis::store::{KvStore, compact};
use support::{
    PATIENCE, Server, batch, binaries, config, get, ids, listed, many, open, put, runtime, wait_for,
};

#[test]
fn a_set_is_replaced_at_once_by_one_after_another() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let mut config = config(server.config());
        config.registry = registry;
        config.deferred_drop = true;
        let store = open(config);
        runtime().block_on(async {
            put(&store, &[("old", "1"), ("both", "2")]).await;
            let written = || HashSet::from_iter(ids(&["both", "new"]));
            let swap = store.begin_swap(written(), Some(20)).await.unwrap();
            assert!(swap.is_whole());
            swap.check().unwrap();
            let lease = "EXISTS nano_graphrag:@swap:docs:lease";
            let other = tokio::spawn({
                let (store, written) = (Arc::clone(&store), written());
                async move { store.begin_swap(written, None).await }
            });
            let parts = vec![
                batch(&store, &[("both", "3")]),
                batch(&store, &[("new", "4")]),
            ];
            assert_eq!(get(&store, "old").await.unwrap(), "1");
            let (replaced, outcomes) = swap.replace(parts).await;
            assert_eq!(replaced, ids(&["both", "new"]));
            assert!(outcomes.unwrap().iter().all(Result::is_ok));
            assert_eq!(listed(&store).await, ids(&["both", "new"]));
            assert_eq!(get(&store, "both").await.unwrap(), "3");
            assert_eq!(store.counters().get(Count::Swaps), 1);
            // Whoever waited has its turn now, and writes value by value under a mark.
            let swap = other.await.unwrap().unwrap();
            assert!(!swap.is_whole());
            assert_eq!(server.say(lease), ":1\r\n");
            put(&store, &[("both", "5")]).await;
            swap.end().await.unwrap();
            assert_eq!(server.say(lease), ":0\r\n");
            assert_eq!(store.counters().get(Count::Swaps), 2);
            assert_eq!(listed(&store).await, ids(&["both", "new"]));
            // Somebody else has taken over meanwhile: nothing is written.
            let swap = store.begin_swap(written(), Some(20)).await.unwrap();
            server.say("SET nano_graphrag:@swap:docs:turn another");
            let (_, outcomes) = swap.replace(vec![batch(&store, &[("both", "6")])]).await;
            assert_eq!(outcomes.unwrap_err().kind(), Kind::Timeout);
            assert_eq!(get(&store, "both").await.unwrap(), "5");
            store.drop_all().await.unwrap();
        });
    }
}

#[test]
fn a_replacement_whose_server_is_gone_is_an_outage_once_its_attempts_are_used_up() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        assert!(swap.is_whole());
        drop(server);
        let replaced = swap.replace(vec![batch(&store, &[("new", "2")])]);
        let (_, outcomes) = tokio::time::timeout(PATIENCE, replaced).await.unwrap();
        assert!(outcomes.unwrap_err().is_outage());
    });
}

#[test]
fn a_lease_is_renewed_as_long_as_the_value_is_being_made() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    settings.server.operation_timeout = Duration::from_millis(300);
    let store = open(settings);
    let left = || {
        let keys = server.say("KEYS *lease*");
        let said = server.say(&format!("PTTL {}", keys.lines().nth(2).unwrap_or("none")));
        said.trim_matches([':', '\r', '\n']).parse::<i64>().unwrap()
    };
    runtime().block_on(async {
        let Landing::Lead(lease) = store.join_flight("a", 1).await else {
            panic!("it leads");
        };
        let began = Instant::now();
        let (mut before, mut renewals) = (left(), 0);
        wait_for("it is renewed", async || {
            let now = left();
            renewals += u32::from(now > before);
            before = now;
            renewals > 8
        })
        .await;
        // At least two thirds of a third of the time that a call may take lie between two.
        let said = server.say("INFO commandstats");
        let calls = said.split_once("cmdstat_set:calls=").unwrap().1;
        let calls: u128 = calls.split(',').next().unwrap().parse().unwrap();
        assert!(calls < 2 + began.elapsed().as_millis() / 60, "{calls}");
        drop(lease);
    });
}

#[test]
fn one_of_those_who_miss_the_same_makes_it_and_the_others_get_it() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    let stores = [open(settings.clone()), open(settings.clone())];
    settings.single_flight = SingleFlight::Observe;
    let observer = open(settings);
    runtime().block_on(async {
        let Landing::Lead(lease) = stores[0].join_flight("a", 1).await else {
            panic!("the first one leads");
        };
        assert!(stores[0].has_single_flight());
        let waiting = [(0, 2), (1, 3)].map(|(at, task)| {
            let store = Arc::clone(&stores[at]);
            tokio::spawn(async move { store.join_flight("a", task).await })
        });
        wait_for("both wait", async || {
            let waits = stores.each_ref().map(|s| s.counters().get(Count::Waits));
            waits == [1, 1]
        })
        .await;
        assert!(matches!(observer.join_flight("a", 9).await, Landing::Alone));
        put(&stores[0], &[("a", "1")]).await;
        for waiting in waiting {
            let landing = tokio::time::timeout(PATIENCE, waiting).await;
            let Landing::Value(value) = landing.unwrap().unwrap() else {
                panic!("the value was made");
            };
            assert_eq!(value, &b"1"[..]);
        }
        drop(lease);
        // Whoever lands does not wait until that is counted.
        wait_for("all is counted", async || {
            let of = |store: &KvStore, what| store.counters().get(what);
            let counted = [&stores[0], &stores[1]]
                .map(|store| (of(store, Count::Leases), of(store, Count::Saved)));
            counted == [(1, 1), (0, 1)] && of(&observer, Count::WouldWait) == 1
        })
        .await;
        wait_for("the lease is given back", async || {
            server.say("KEYS *lease*") == "*0\r\n"
        })
        .await;
        let said = server.say("INFO commandstats");
        assert!(said.contains("cmdstat_unlink"), "it ran out: {said}");
        // Who gives up lets the next one lead.
        let Landing::Lead(lease) = stores[0].join_flight("b", 4).await else {
            panic!("the first one leads");
        };
        let next = tokio::spawn({
            let store = Arc::clone(&stores[1]);
            async move { store.join_flight("b", 5).await }
        });
        wait_for("it waits", async || {
            stores[1].counters().get(Count::Waits) == 2
        })
        .await;
        drop(lease);
        let next = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
        assert!(matches!(next, Landing::Lead(_)));
    });
}

#[test]
fn changes_are_recorded_one_entry_a_call() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.changes = Some(Changes {
        host: "here".to_owned(),
        name: "worker".to_owned(),
    });
    let store = open(settings);
    let put = async |items: &[(&str, &str)]| {
        put(&store, items).await;
        let mut recorded = store.record("upsert").unwrap();
        recorded.own(items[0].0.to_owned());
        items[1..].iter().for_each(|(id, _)| recorded.id(id));
    };
    runtime().block_on(async {
        put(&[("a\"", "1"), ("b", "2")]).await;
        store.delete(ids(&["b", "none"])).await.unwrap();
        let all = many(150);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&items).await;
        store.drop_all().await.unwrap();
        wait_for("all were sent", async || {
            store.counters().get(Count::ChangesRecorded) == 4
        })
        .await;
        assert_eq!(store.counters().get(Count::ChangesLost), 0);
        let entries = store.changes(Some("0"), 10).await.unwrap();
        let field = |at: usize, name: &str| {
            let fields = &entries[at].fields;
            let found = fields.iter().find(|(field, _)| field == name.as_bytes());
            String::from_utf8(found.unwrap().1.clone()).unwrap()
        };
        let said = |name: &str| [0, 1, 2, 3].map(|at| field(at, name));
        assert_eq!(said("op"), ["upsert", "delete", "upsert", "drop"]);
        assert_eq!(said("count"), ["2", "1", "150", "151"]);
        assert_eq!(said("name"), ["worker"; 4]);
        let who = format!("here:{}", std::process::id());
        assert_eq!(said("who"), [&*who; 4]);
        assert_eq!(field(0, "ids"), r#"["a\"","b"]"#);
        assert_eq!(field(1, "ids"), r#"["b"]"#);
        assert_eq!(field(2, "ids").matches("id-").count(), 100);
        let last = store.changes(None, 1).await.unwrap();
        assert_eq!(last[0], entries[3]);
        let later = store.changes(Some(&entries[1].id), 1).await.unwrap();
        assert_eq!(later[0], entries[2]);
        assert_eq!(server.say("SET nano_graphrag:@changes:docs x"), "+OK\r\n");
        put(&[("a", "1")]).await;
        wait_for("it is refused", async || {
            store.counters().get(Count::ChangesLost) == 1
        })
        .await;
        let notices = store.notices();
        let told = |notice: &&Notice| format!("{notice:?}").contains("changes are not recorded");
        assert_eq!(notices.iter().filter(told).count(), 1);
    });
}

#[test]
fn a_value_that_is_read_lives_longer_and_no_longer_than_it_may() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let mut settings = config(server.config());
        (settings.ttl, settings.ttl_max_age) = (NonZeroU64::new(1_000), NonZeroU64::new(1_500));
        settings.registry = registry;
        let store = open(settings);
        runtime().block_on(async {
            put(&store, &[("old", "1"), ("new", "2")]).await;
            assert_eq!(server.say("EXPIRE nano_graphrag:docs:old 200"), ":1\r\n");
            get(&store, "new").await.unwrap();
            get(&store, "old").await.unwrap();
            let left = |id: &str| -> u64 {
                let said = server.say(&format!("TTL nano_graphrag:docs:{id}"));
                said[1..].trim().parse().unwrap()
            };
            // It was written 800 seconds ago.
            wait_for("it is renewed", async || left("old") > 200).await;
            assert!((690..=700).contains(&left("old")));
            assert!((990..=1_000).contains(&left("new")));
            assert_eq!(listed(&store).await, ids(&["new", "old"]));
            store.drop_all().await.unwrap();
            server.say("FLUSHALL");
        });
    }
}

#[test]
fn a_limit_answers_numbers_from_a_server_that_forgets_its_scripts() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        for _ in 0..2 {
            let error = store.limit("x", &ids(&["nonsense"])).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Operation, "{error}");
            assert!(!error.to_string().contains("NOSCRIPT"), "{error}");
            assert_eq!(server.say("SCRIPT FLUSH"), "+OK\r\n");
        }
    });
}

#[test]
fn copies_are_served_until_the_server_says_that_they_changed() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.near_cache_bytes = 1 << 20;
    let (store, plain) = (open(settings), open(config(server.config())));
    runtime().block_on(async {
        put(&plain, &[("a", "1")]).await;
        assert!(store.has_copies() && !plain.has_copies());
        wait_for("a copy is kept", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        put(&plain, &[("a", "2")]).await;
        wait_for("the copy is given up", async || store.local("a").is_none()).await;
        assert_eq!(get(&store, "a").await.unwrap(), "2");
        put(&store, &[("a", "3")]).await;
        assert_eq!(get(&store, "a").await.unwrap(), "3");
        wait_for("a copy is kept again", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        store.drop_all().await.unwrap();
        assert!(store.local("a").is_none());
        assert!(store.near_cache().is_some() && plain.near_cache().is_none());
    });
}

#[test]
fn files_follow_what_is_written_and_answer_while_the_breaker_is_open() {
    let server = Server::start(&binaries()[0]);
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path(), "docs").unwrap();
    let mut settings = config(server.config());
    settings.dual_write = Some(paths.clone());
    settings.outage_policy = OutagePolicy::Json;
    settings.server.max_retries = 0;
    settings.server.breaker_failures = 1;
    settings.server.breaker_recovery = PATIENCE;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
        assert_eq!(store.delete(ids(&["b"])).await.unwrap(), 1);
        store.keep_up().await.unwrap();
        assert!(paths.have_changes());
        assert_eq!(store.dual_write().unwrap().late, 0);
        let compacted = compact(&store, &paths, true, true).await.unwrap().unwrap();
        assert_eq!(compacted.ids, 2);
        assert!(!paths.have_changes());
        put(&store, &[("d", "4")]).await;
        store.keep_up().await.unwrap();
        drop(server);
        let _ = store.get("a").await;
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        assert_eq!(get(&store, "b").await, None);
        assert_eq!(get(&store, "d").await.unwrap(), "4");
        let there = store.exists(store.exists_request(&["a", "b"])).await;
        assert_eq!(there.unwrap(), [true, false]);
        assert_eq!(listed(&store).await, ids(&["a", "c", "d"]));
        assert!(store.served_from_files().unwrap() >= 4);
    });
}

#[test]
fn a_registry_of_many_pages_is_listed_counted_checked_and_dropped() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.registry = true;
    let store = open(settings);
    runtime().block_on(async {
        assert_eq!(store.registry_drift().await.unwrap(), None);
        let all = many(2_500);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        assert_eq!(listed(&store).await, all);
        assert_eq!(store.stats(true).await.unwrap().key_count, 2_500);
        server.say("DEL nano_graphrag:docs:id-0001 nano_graphrag:docs:id-0002");
        server.say("SET nano_graphrag:docs:other 1");
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (1, 2));
        // Who lists sweeps what has no value.
        assert_eq!(store.all_keys().await.unwrap().len(), 2_498);
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (1, 0));
        // A registry that was lost is made anew.
        server.say("DEL nano_graphrag:@registry:docs");
        assert_eq!(store.all_keys().await.unwrap().len(), 2_499);
        let looked = store.inspect(vec![
            b"nano_graphrag:docs:other".to_vec(),
            b"nano_graphrag:@registry:docs".to_vec(),
            b"none".to_vec(),
        ]);
        let kinds = looked.await.unwrap().into_iter().map(|said| said.kind);
        assert_eq!(kinds.collect::<Vec<_>>(), ["string", "zset", "none"]);
        server.say("EXPIRE nano_graphrag:docs:other 1000");
        assert_eq!(store.persist(ids(&["other", "id-0005"])).await.unwrap(), 1);
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
    });
}

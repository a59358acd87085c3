//! What settings turn on, on real servers and without Python: replacing, single flight, changes, copies, files.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::config::{Changes, OutagePolicy, ServerConfig, SingleFlight, StoreConfig};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::files::Paths;
use nano_graphrag_redis::local_single_flight::Landing;
use nano_graphrag_redis::log_events::{Event, Notice};
use nano_graphrag_redis::metrics::Count;
use nano_graphrag_redis::store::{KvStore, compact};
use support::{
    PATIENCE, Server, batch, binaries, calls, config, free_port, get, ids, listed, many,
    on_a_still_clock, open, pass, put, runtime, wait_for, wait_still,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

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
            let error = outcomes.unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            assert!(error.to_string().contains("nothing was written"), "{error}");
            assert!(!error.may_be_done());
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
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        for renewals in 1..9 {
            // At least two thirds of a third of the time that a call may take lie between two.
            pass(Duration::from_millis(69)).await;
            get(&store, "none").await;
            assert_eq!(calls(&server, "set"), renewals);
            server.say(&format!("PEXPIRE {LEASE} 5000"));
            pass(Duration::from_millis(32)).await;
            wait_still("it is renewed", || {
                let said = server.say(&format!("PTTL {LEASE}"));
                said[1..].trim().parse::<i64>().unwrap() > 5_000
            })
            .await;
        }
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
fn a_replacement_ends_at_once_where_calls_have_found_no_server() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.server.breaker_failures = 1;
    settings.server.breaker_recovery = PATIENCE;
    settings.server.max_retries = 1;
    let store = open(settings);
    runtime().block_on(async {
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        drop(server);
        assert!(store.get("a").await.unwrap_err().is_outage());
        let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
        assert_eq!(outcomes.unwrap_err().kind(), Kind::CircuitOpen);
    });
}

#[test]
fn without_transactions_values_are_replaced_one_by_one_and_the_user_is_told() {
    for words in [&[][..], &["--rename-command", "MULTI", ""]] {
        let server = Server::start_with(&binaries()[0], words);
        let mut settings = config(server.config());
        if words.is_empty() {
            server.say("ACL SETUSER writer on nopass ~* +@all -multi -exec");
            settings.server.credentials.username = Some("writer".to_owned());
            settings.server.credentials.password = Some("any".to_owned());
        }
        settings.deferred_drop = true;
        let store = open(settings);
        runtime().block_on(async {
            let swap = store.begin_swap(HashSet::new(), Some(20)).await.unwrap();
            assert!(!swap.is_whole());
            swap.end().await.unwrap();
            let told = store.notices();
            let told = told.iter().filter(|said| said.line.contains("MULTI"));
            assert_eq!(told.count(), 1);
            let forbidden = store.forbidden().await.unwrap();
            assert!(forbidden.contains(&"multi") && !forbidden.contains(&"watch"));
        });
    }
}

#[test]
fn a_replacement_that_the_server_has_no_memory_for_says_so_and_changes_nothing() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        server.say("CONFIG SET maxmemory 1");
        let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
        let error = outcomes.unwrap_err();
        assert!(error.to_string().contains("OOM"), "{error}");
        assert!(!error.is_outage() && !error.may_be_done(), "{error}");
        server.say("CONFIG SET maxmemory 0");
        assert_eq!(listed(&store).await, ids(&["old"]));
    });
}

/// What is lost of a transaction on its way.
#[derive(Clone, Copy)]
enum Lost {
    Request,
    Answer,
    /// The request, and somebody else takes over before it is sent again.
    Turn,
}

/// A port that leads to the server, and over which so much is lost.
async fn losing(server: u16, losses: Vec<Lost>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let losses = Arc::new(Mutex::new(losses));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&losses)));
        }
    });
    port
}

async fn carry(mut client: TcpStream, mut server: TcpStream, losses: Arc<Mutex<Vec<Lost>>>) {
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            asking = client.read(&mut asked) => {
                let Ok(count @ 1..) = asking else { return };
                let asked = &asked[..count];
                let executes = asked.windows(4).any(|word| word == b"EXEC");
                let lost = executes.then(|| losses.lock().unwrap().pop()).flatten();
                match lost {
                    Some(Lost::Request) => return,
                    Some(Lost::Turn) => {
                        let mut other = TcpStream::connect(server.peer_addr().unwrap()).await.unwrap();
                        let taken = b"SET nano_graphrag:@swap:docs:turn another\r\n";
                        other.write_all(taken).await.unwrap();
                        assert_eq!(other.read(&mut answered).await.unwrap(), 5);
                        return;
                    }
                    Some(Lost::Answer) | None => server.write_all(asked).await.unwrap(),
                }
                if lost.is_some() {
                    assert_ne!(server.read(&mut answered).await.unwrap(), 0);
                    return;
                }
            }
            answering = server.read(&mut answered) => {
                let Ok(count @ 1..) = answering else { return };
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn what_became_of_a_replacement_whose_answer_was_lost_is_looked_up() {
    let server = Server::start(&binaries()[0]);
    for (max_retries, losses, done, retries) in [
        (0, &[][..], Some(true), 0),
        (3, &[], Some(true), 0),
        // One look is no retry: it sends nothing again.
        (0, &[Lost::Answer], Some(true), 0),
        (3, &[Lost::Answer], Some(true), 1),
        (0, &[Lost::Request], None, 0),
        (3, &[Lost::Request], Some(true), 1),
        (3, &[Lost::Answer, Lost::Request], Some(true), 2),
        (0, &[Lost::Turn], None, 0),
        (3, &[Lost::Turn], None, 1),
    ] {
        runtime().block_on(async {
            let mut settings = config(server.config());
            settings.server.max_retries = max_retries;
            let port = losing(server.port(), losses.to_vec()).await;
            let url = format!("redis://127.0.0.1:{port}");
            settings.server.endpoint = Endpoint::parse(&url).unwrap();
            let (shared, plain) = (SharedConnections::default(), server.store("docs"));
            plain.drop_all().await.unwrap();
            put(&plain, &[("old", "1")]).await;
            let store = KvStore::new(settings, &shared);
            let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
            let swap = swap.await.unwrap();
            let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
            let what = format!("{max_retries} {} {outcomes:?}", losses.len());
            match &outcomes {
                Ok(_) => assert_eq!(done, Some(true), "{what}"),
                Err(error) => {
                    assert!(done.is_none() && error.may_be_done(), "{what}");
                    assert!(error.to_string().contains("is unknown"), "{what}");
                }
            }
            let there = if done.is_some() { "new" } else { "old" };
            assert_eq!(listed(&plain).await, ids(&[there]), "{what}");
            assert_eq!(shared.in_use()[0].load().retries, retries, "{what}");
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
fn one_connection_hears_of_changes_for_all_stores_and_ends_with_the_last() {
    let server = Server::start(&binaries()[0]);
    let mut of_server = server.config();
    of_server.socket_timeout = 4 * PATIENCE; // it looks at its server by itself, but not so soon
    let shared = SharedConnections::default();
    let open = |namespace| {
        let mut settings = StoreConfig::new(of_server.clone(), namespace).unwrap();
        settings.near_cache_bytes = 1 << 20;
        KvStore::new(settings, &shared)
    };
    let tracking = |count: u32| {
        let said = server.say("INFO clients");
        said.contains(&format!("tracking_clients:{count}\r\n"))
    };
    runtime().block_on(async {
        let store = open("docs");
        assert_eq!(store.get("a").await.unwrap(), None);
        wait_for("it is begun with the first call", async || tracking(1)).await;
        let other = open("other");
        put(&other, &[("a", "1")]).await;
        wait_for("a namespace that came later has copies", async || {
            get(&other, "a").await.unwrap();
            other.local("a").is_some()
        })
        .await;
        assert!(tracking(1));
        drop((store, other));
        wait_for("nobody listens any more", async || tracking(0)).await;
    });
}

#[test]
fn no_copy_is_served_while_the_server_is_silent() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.near_cache_bytes = 1 << 20;
    settings.server.socket_timeout = Duration::from_millis(100);
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        wait_for("a copy is kept", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        server.say("CLIENT PAUSE 20000 ALL");
        wait_for("it is not served", async || store.local("a").is_none()).await;
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

/// The settings of a store that replaces its values.
fn replacing(server: &Server) -> StoreConfig {
    let mut config = config(server.config());
    config.deferred_drop = true;
    config
}

const TURN: &str = "nano_graphrag:@swap:docs:lease";

#[test]
fn a_turn_to_replace_is_kept_while_its_holder_works_and_is_over_when_another_has_it() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        for _ in 0..5 {
            server.say(&format!("PEXPIRE {TURN} 5000"));
            pass(Duration::from_secs(3)).await;
            wait_still("it is prolonged", || {
                let said = server.say(&format!("PTTL {TURN}"));
                said[1..].trim().parse::<i64>().unwrap() > 5_000
            })
            .await;
        }
        swap.check().unwrap();
        server.say(&format!("SET {TURN} another"));
        pass(Duration::from_secs(3)).await;
        wait_still("another has it", || swap.check().is_err()).await;
        let error = swap.end().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(error.to_string().contains("its lease of 10 s"), "{error}");
        assert_eq!(get(&store, "old").await.unwrap(), "1");
        // Whoever has given up prolongs nothing.
        server.say(&format!("DEL {TURN}"));
        drop(store.begin_swap(HashSet::new(), None).await.unwrap());
        wait_still("nobody is at work", || Arc::strong_count(&store) == 1).await;
    });
}

#[test]
fn a_turn_is_given_back_unless_it_may_be_anothers_before_that_arrives() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    server.say("ACL SETUSER default -getex"); // it is not prolonged
    on_a_still_clock(async || {
        for (seconds, left) in [(6, ":1\r\n"), (5, ":0\r\n"), (4, ":0\r\n")] {
            put(&store, &[("old", "1")]).await;
            let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
            assert_eq!(server.say("EXISTS nano_graphrag:@swap:docs"), ":1\r\n");
            pass(Duration::from_secs(seconds)).await;
            swap.end().await.unwrap();
            assert_eq!(server.say(&format!("EXISTS {TURN}")), left, "{seconds}");
            assert_eq!(server.say("EXISTS nano_graphrag:@swap:docs"), ":0\r\n");
            assert!(listed(&store).await.is_empty());
            server.say(&format!("DEL {TURN}"));
        }
    });
}

#[test]
fn a_turn_is_not_kept_for_longer_than_replacing_may_take() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        for prolonged in 1..=60 {
            pass(Duration::from_secs(3)).await;
            wait_still("it is prolonged", || calls(&server, "getex") == prolonged).await;
        }
        wait_still("it is over", || Arc::strong_count(&store) == 2).await;
        drop(swap);
        assert_eq!(calls(&server, "getex"), 60);
    });
}

#[test]
fn whoever_finds_another_replacing_gives_up_after_longer_than_a_turn_may_last() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        server.say(&format!("SET {TURN} another"));
        let waiting = Arc::clone(&store);
        let waiting = tokio::spawn(async move { waiting.begin_swap(HashSet::new(), None).await });
        let mut passed = Duration::ZERO;
        while !waiting.is_finished() {
            let step = Duration::from_secs(1);
            pass(step).await;
            passed += step;
            assert!(passed < Duration::from_secs(210), "it waits for ever");
            get(&store, "none").await; // it has asked again by now
        }
        assert!(passed > Duration::from_secs(200), "{passed:?}");
        let error = waiting.await.unwrap().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        let told = "another process has been replacing the values for 20";
        assert!(error.to_string().contains(told), "{error}");
    });
}

#[test]
fn what_is_replaced_is_deleted_in_three_attempts_and_one_where_that_is_forbidden() {
    let server = Server::start(&binaries()[0]);
    let mut settings = replacing(&server);
    settings.server.max_retries = 0;
    settings.server.breaker_failures = 3;
    settings.server.breaker_recovery = PATIENCE;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        server.say("ACL SETUSER default -unlink");
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        assert!(!swap.end().await.unwrap_err().is_outage());
        let said = server.say("INFO commandstats");
        let refused = said.split_once("cmdstat_unlink:").unwrap().1;
        let refused = refused.lines().next().unwrap();
        assert!(refused.contains("rejected_calls=1,"), "{refused}");
        server.say(&format!("DEL {TURN}"));
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        drop(server);
        assert!(swap.end().await.unwrap_err().is_outage());
        let error = store.get("old").await.unwrap_err();
        assert_eq!(error.kind(), Kind::CircuitOpen, "{error}");
    });
}

#[test]
fn a_set_is_replaced_at_once_up_to_a_size_with_the_keys_that_are_deleted() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let most = (8 << 20) - "nano_graphrag:docs:old".len();
        for (bytes, at_once) in [(4 << 20, true), (most, true), (most + 1, false)] {
            let swap = store.begin_swap(HashSet::new(), Some(bytes)).await.unwrap();
            assert_eq!(swap.is_whole(), at_once, "{bytes}");
            server.say(&format!("DEL {TURN}"));
        }
    });
}

#[test]
fn each_value_of_a_replacement_has_an_outcome_and_a_line_in_the_log() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let mut settings = replacing(&server);
        settings.registry = registry;
        settings.dual_write = Some(paths.clone());
        let store = open(settings);
        on_a_still_clock(async || {
            assert_eq!(server.say("SET nano_graphrag:docs:old 1"), "+OK\r\n");
            let written = HashSet::from_iter(ids(&["a", "b", "c"]));
            let swap = store.begin_swap(written, Some(20)).await.unwrap();
            let parts = vec![
                batch(&store, &[("a", "1"), ("b", "2")]),
                batch(&store, &[("c", "3")]),
            ];
            let (_, outcomes) = swap.replace(parts).await;
            let outcomes = outcomes.unwrap();
            assert_eq!(outcomes.len(), 3);
            assert!(outcomes.iter().all(Result::is_ok));
            let log = std::fs::read_to_string(&paths.log).unwrap();
            let lines = [
                r#"["set","a",1]"#,
                r#"["set","b",2]"#,
                r#"["set","c",3]"#,
                r#"["delete","old"]"#,
            ];
            assert_eq!(log.lines().collect::<Vec<_>>(), lines);
            assert_eq!(store.dual_write().unwrap().late, 0);
            assert_eq!(listed(&store).await, ids(&["a", "b", "c"]));
        });
        server.say("FLUSHALL");
    }
}

/// Two settings over one server: with single flight, and without.
fn flying(server: &Server) -> (Arc<KvStore>, Arc<KvStore>) {
    let mut settings = config(server.config());
    let plain = open(settings.clone());
    settings.single_flight = SingleFlight::On(PATIENCE);
    (open(settings), plain)
}

/// A task of this number misses the id, and holds the lease of it.
async fn lead(store: &Arc<KvStore>, id: &str, task: u64) {
    let Landing::Lead(lease) = store.join_flight(id, task).await else {
        panic!("it leads");
    };
    let _ = lease.keep(task);
}

/// A task of this number misses the id, and waits for another that makes the value.
async fn wait(store: &Arc<KvStore>, id: &'static str, task: u64) -> JoinHandle<Landing> {
    let (waits, store) = (store.counters().get(Count::Waits), Arc::clone(store));
    let counters = store.counters().clone();
    let waiting = tokio::spawn(async move { store.join_flight(id, task).await });
    wait_still("it waits", || counters.get(Count::Waits) > waits).await;
    waiting
}

async fn value(waiting: JoinHandle<Landing>) -> String {
    wait_still("it lands", || waiting.is_finished()).await;
    let Landing::Value(value) = waiting.await.unwrap() else {
        panic!("there is a value");
    };
    String::from_utf8(value.to_vec()).unwrap()
}

const LEASE: &str = "nano_graphrag:@lease:{nano_graphrag:docs:a}";

#[test]
fn a_value_lands_when_it_is_written_and_is_asked_for_only_where_somebody_waits() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        for (waits, asked) in [(true, 3), (false, 2)] {
            let (sets, gets) = (calls(&server, "set"), calls(&server, "get"));
            lead(&store, "a", 1).await;
            let waiting = if waits {
                Some(wait(&store, "a", 2).await)
            } else {
                None
            };
            for _ in 0..5 {
                plain.ping().await.unwrap();
            }
            put(&store, &[("a", "1")]).await;
            if let Some(waiting) = waiting {
                assert_eq!(value(waiting).await, "1");
            }
            let given_back = || server.say(&format!("EXISTS {LEASE}")) == ":0\r\n";
            wait_still("it is given back", given_back).await;
            // The lease was taken, and the value set.
            assert_eq!(calls(&server, "set") - sets, 2);
            assert_eq!(calls(&server, "get") - gets, asked);
            assert_eq!(plain.delete(ids(&["a"])).await.unwrap(), 1);
        }
    });
}

#[test]
fn a_value_that_another_process_writes_lands_when_the_lease_is_renewed() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let renewed = async |gets: u64| {
            let (sets, before) = (calls(&server, "set"), calls(&server, "get"));
            pass(Duration::from_secs(4)).await;
            wait_still("it is renewed", || calls(&server, "set") > sets).await;
            get(&plain, "none").await;
            assert_eq!(calls(&server, "get") - before, gets + 1);
        };
        renewed(1).await; // nobody wants the value
        let waiting = wait(&store, "a", 2).await;
        renewed(2).await;
        assert!(!waiting.is_finished());
        put(&plain, &[("a", "1")]).await;
        renewed(2).await;
        assert_eq!(value(waiting).await, "1");
    });
}

#[test]
fn a_value_that_was_written_between_the_miss_and_the_lease_lands_and_ends_it() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        put(&plain, &[("a", "1")]).await;
        let Landing::Value(value) = store.join_flight("a", 1).await else {
            panic!("there is a value");
        };
        assert_eq!(value, &b"1"[..]);
        let given_back = || calls(&server, "unlink") == 1;
        wait_still("it is given back", given_back).await;
    });
}

#[test]
fn whoever_waits_for_another_process_asks_now_and_then() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        server.say(&format!("SET {LEASE} another"));
        let waiting = wait(&store, "a", 1).await;
        for asked in 2..5 {
            for _ in 0..5 {
                plain.ping().await.unwrap();
            }
            assert_eq!(calls(&server, "set"), asked);
            pass(Duration::from_millis(501)).await;
            wait_still("it asks", || calls(&server, "set") > asked).await;
        }
        put(&plain, &[("a", "1")]).await;
        pass(Duration::from_millis(501)).await;
        assert_eq!(value(waiting).await, "1");
    });
}

#[test]
fn a_process_that_stood_still_for_nearly_as_long_as_a_lease_lasts_has_lost_it() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let next = wait(&store, "a", 2).await;
        pass(Duration::from_secs(9)).await;
        wait_still("the next one leads", || next.is_finished()).await;
        let Landing::Lead(lease) = next.await.unwrap() else {
            panic!("it leads");
        };
        // Nor is it given back: by the time that this arrives, it may be another's.
        drop(lease);
        tokio::time::advance(Duration::from_secs(9)).await;
        for _ in 0..5 {
            get(&store, "none").await;
            get(&plain, "none").await;
        }
        assert_eq!(server.say(&format!("EXISTS {LEASE}")), ":1\r\n");
    });
}

#[test]
fn a_server_that_does_not_answer_a_renewal_is_waited_for_as_long_as_a_call_may_take() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    settings.server.operation_timeout = Duration::from_millis(300);
    let store = open(settings);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let waiting = wait(&store, "a", 2).await;
        assert_eq!(server.say("CLIENT PAUSE 60000"), "+OK\r\n");
        pass(Duration::from_millis(101)).await; // it is renewed
        pass(Duration::from_millis(186)).await;
        wait_still("it goes on alone", || waiting.is_finished()).await;
        assert!(matches!(waiting.await.unwrap(), Landing::Alone));
    });
}

#[test]
fn a_task_that_asks_for_another_id_has_given_up_the_first() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    assert!(store.has_single_flight() && !plain.has_single_flight());
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let next = wait(&store, "a", 2).await;
        store.asks(1, "a"); // it tries again
        plain.asks(1, "b");
        for _ in 0..5 {
            get(&store, "none").await;
        }
        assert!(!next.is_finished());
        store.asks(1, "b");
        wait_still("the next one leads", || next.is_finished()).await;
        assert!(matches!(next.await.unwrap(), Landing::Lead(_)));
    });
}

#[test]
fn a_value_that_was_renewed_is_not_asked_after_again_before_that_can_be_of_use() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    (settings.ttl, settings.ttl_max_age) = (NonZeroU64::new(1_000), NonZeroU64::new(5_000));
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("old", "1"), ("new", "2")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:docs:old 200"), ":1\r\n");
        for (id, renewals) in [("old", 1), ("old", 1), ("old", 1), ("new", 1)] {
            get(&store, id).await.unwrap();
            wait_for("it is renewed", async || {
                store.counters().get(Count::TtlRenewals) == renewals
            })
            .await;
        }
        wait_for("the other one is asked after", async || {
            calls(&server, "pttl") >= 4
        })
        .await;
        assert_eq!(calls(&server, "pttl"), 4);
    });
}

/// Of a store that keeps files, and of one that does not.
fn filing(server: &Server) -> (tempfile::TempDir, Paths, Arc<KvStore>, Arc<KvStore>) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path(), "docs").unwrap();
    let mut settings = config(server.config());
    let plain = open(settings.clone());
    settings.dual_write = Some(paths.clone());
    (directory, paths, open(settings), plain)
}

/// What the host's file holds once it follows the log, without its spaces.
async fn followed(store: &KvStore, paths: &Paths, log: &str) -> String {
    std::fs::write(&paths.log, log).unwrap();
    compact(store, paths, true, true).await.unwrap().unwrap();
    assert!(!paths.have_changes());
    let text = std::fs::read_to_string(&paths.file).unwrap();
    text.split_whitespace().collect()
}

#[test]
fn a_file_that_is_made_holds_all_there_is_and_after_a_drop_what_there_still_is() {
    let server = Server::start(&binaries()[0]);
    let (_directory, paths, store, plain) = filing(&server);
    runtime().block_on(async {
        put(&plain, &[("a", "1"), ("b", "2")]).await;
        let log = "[\"set\",\"b\",2]\n";
        let file = followed(&store, &paths, log).await;
        assert_eq!(file, r#"{"b":2,"a":1}"#);
        assert_eq!(plain.delete(ids(&["b"])).await.unwrap(), 1);
        assert_eq!(followed(&store, &paths, "[\"drop\"]\n").await, r#"{"a":1}"#);
    });
}

#[test]
fn what_the_server_has_counts_for_more_than_the_log_and_what_it_lacks_does_not() {
    let server = Server::start(&binaries()[0]);
    let (_directory, paths, store, plain) = filing(&server);
    runtime().block_on(async {
        let there = [
            ("same", "1"),
            ("other", "2"),
            ("longer", "333"),
            ("sent", "4"),
        ];
        put(&plain, &there).await;
        let file = r#"{"deleted": 5, "sent": 6, "lost": 7, "kept": 8}"#;
        std::fs::write(&paths.file, file).unwrap();
        let log = r#"["set","same",1]
["set","other",1]
["set","longer",1]
["set?","sent"]
["set?","lost"]
["set","expired",9]
["delete?","deleted"]
"#;
        let file = followed(&store, &paths, log).await;
        let whole = r#"{"sent":4,"lost":7,"kept":8,"same":1,"other":2,"longer":333,"expired":9}"#;
        assert_eq!(file, whole);
    });
}

#[test]
fn what_may_lose_documents_is_told_once_a_server_answers() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let mut settings = config(ServerConfig::new(&url).unwrap());
    settings.server.max_retries = 0;
    let store = open(settings);
    runtime().block_on(async {
        assert!(store.get("a").await.unwrap_err().is_outage());
        let server = Server::start_at(&binaries()[0], port, &[]);
        let told = |event| {
            let notices = store.notices().into_iter();
            let of = notices.filter(|notice| notice.event == event);
            of.map(|notice| notice.line).collect::<Vec<_>>()
        };
        let at_risk = {
            let mut at_risk = Vec::new();
            wait_for("it is looked at", async || {
                let _ = store.get("a").await;
                at_risk = told(Event::ServerAtRisk);
                !at_risk.is_empty()
            })
            .await;
            at_risk
        };
        assert_eq!(at_risk.len(), 1, "{at_risk:?}");
        let line = format!("{url}/0: the append-only file is off");
        assert!(at_risk[0].starts_with(&line), "{at_risk:?}");
        get(&store, "a").await;
        assert!(told(Event::ServerAtRisk).is_empty());
        drop(server);
    });
}

#[test]
fn a_second_working_directory_is_told_of_and_leaves_a_trace() {
    let server = Server::start(&binaries()[0]);
    for (directory, differs) in [("/one", false), ("/one", false), ("/two", true)] {
        let mut settings = config(server.config());
        settings.working_dir = Some(directory.to_owned());
        let store = open(settings);
        runtime().block_on(get(&store, "a"));
        let mut notices = store.notices();
        notices.retain(|notice| notice.event == Event::Origin);
        let told = notices
            .iter()
            .any(|notice| notice.line.contains(r#""/one""#));
        assert_eq!((notices.len(), told), (usize::from(differs), differs));
        let trace = server.say(&format!("EXISTS nano_graphrag:@working_dir:{directory}"));
        assert_eq!(trace, format!(":{}\r\n", u8::from(differs)));
    }
    assert_eq!(
        server.say("GET nano_graphrag:@working_dir"),
        "$4\r\n/one\r\n"
    );
}

//! The storage contract of the core, on real servers, without Python.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

#[allow(dead_code, reason = "tests/settings.rs uses the rest")]
mod support;

use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::StoreConfig;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::log_events::Event;
use nano_graphrag_redis::store::{Batch, KvStore};
use nano_graphrag_redis::value::Compression;
use support::{Server, binaries, calls, drive, reactor, wait_for};
use tokio::runtime::{Builder, Runtime};

/// Runs the test on each server, over the connections of the pool and over a direct connection.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a closure reads better at its place"
)]
fn on_each_server(test: impl AsyncFn(&Server)) {
    for binary in binaries() {
        let runtime = runtime();
        runtime.block_on(test(&Server::start(&binary)));
        drive(&runtime, &reactor(), test(&Server::start(&binary)));
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

async fn put(store: &Arc<KvStore>, items: &[(&str, &str)]) {
    let mut batch = Batch::new(0);
    for (id, json) in items {
        let added = batch.add(store, (*id).to_owned(), json.as_bytes());
        added.unwrap();
    }
    let (written, outcomes) = store.upsert(batch).await;
    assert_eq!(written.len(), items.len());
    for outcome in outcomes.unwrap() {
        outcome.unwrap();
    }
}

#[test]
fn values_come_back_in_the_order_of_the_ids_with_repeats_and_gaps() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let found = store
            .get_batch(&ids(&["b", "none", "a", "b"]))
            .await
            .unwrap();
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        let expected = [Some("2"), None, Some("1"), Some("2")];
        assert_eq!(
            found,
            expected.map(|json| json.map(|json| Bytes::from_static(json.as_bytes())))
        );
        let exists_request = store.exists_request(&["a", "none", "a"]);
        assert_eq!(
            store.exists(exists_request).await.unwrap(),
            [true, false, true]
        );
    });
}

#[test]
fn a_key_of_another_type_fails_its_own_id_alone_and_is_never_absent() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("good", "1")]).await;
        assert_eq!(server.say("LPUSH nano_graphrag:docs:list x"), ":1\r\n");
        let found = store
            .get_batch(&ids(&["good", "list", "none"]))
            .await
            .unwrap();
        assert_eq!(found[0].as_ref().unwrap().as_deref(), Some(&b"1"[..]));
        let error = found[1].as_ref().unwrap_err();
        assert_eq!(
            (error.kind(), error.id(), error.namespace()),
            (Kind::Operation, Some("list"), Some("docs"))
        );
        assert_eq!(found[2].as_ref().unwrap(), &None);
        assert_eq!(store.get("list").await.unwrap_err().kind(), Kind::Operation);
    });
}

#[test]
fn clearing_a_namespace_leaves_those_that_look_alike() {
    on_each_server(async |server| {
        let (glob, plain) = (server.store("t*"), server.store("t"));
        put(&glob, &[("x", "1")]).await;
        put(&plain, &[("x", "2"), ("*", "3")]).await;
        glob.drop_all().await.unwrap();
        assert!(glob.all_keys().await.unwrap().is_empty());
        let mut left = plain.all_keys().await.unwrap();
        left.sort();
        assert_eq!(left, ids(&["*", "x"]));
    });
}

#[test]
fn a_time_to_live_starts_anew_with_each_write() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "cache").unwrap();
        config.ttl = NonZeroU64::new(43_200);
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:cache:a 7"), ":1\r\n");
        put(&store, &[("a", "2")]).await;
        assert_eq!(server.say("TTL nano_graphrag:cache:a"), ":43200\r\n");
    });
}

#[test]
fn deletes_count_what_was_there() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        assert_eq!(store.delete(ids(&["a", "none"])).await.unwrap(), 1);
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 0);
        assert_eq!(store.all_keys().await.unwrap(), ids(&["b"]));
    });
}

#[test]
fn an_unreachable_server_is_an_outage_that_opens_the_breaker_and_names_the_endpoint() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.server.max_retries = 0;
        config.server.breaker_failures = 2;
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        config.server.endpoint = Endpoint::parse(&format!("redis://127.0.0.1:{free}")).unwrap();
        let store = KvStore::new(config, &SharedConnections::default());
        let error = store.get("a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(
            error
                .to_string()
                .contains(&format!("redis://127.0.0.1:{free}/0")),
            "{error}"
        );
        assert_eq!(store.get("a").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.get("a").await.unwrap_err().kind(), Kind::CircuitOpen);
    });
}

// A server says nothing to nothing, and who waits for that is in the way of all who come after.
#[test]
fn nothing_is_asked_for_at_once_with_and_without_a_server() {
    on_each_server(async |server| {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let nowhere = format!("redis://127.0.0.1:{free}");
        for (is_there, registry) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut config = StoreConfig::new(server.config(), "docs").unwrap();
            config.registry = registry;
            if !is_there {
                config.server.endpoint = Endpoint::parse(&nowhere).unwrap();
            }
            let store = KvStore::new(config, &SharedConnections::default());
            let nothing = async {
                assert!(store.get_batch(&[]).await.unwrap().is_empty());
                assert!(
                    store
                        .exists(store.exists_request(&[]))
                        .await
                        .unwrap()
                        .is_empty()
                );
                put(&store, &[]).await;
                assert_eq!(store.delete(Vec::new()).await.unwrap(), 0);
                assert!(store.inspect(Vec::new()).await.unwrap().is_empty());
                assert_eq!(store.persist(Vec::new()).await.unwrap(), 0);
                assert_eq!(store.mean_memory(&[]).await.unwrap(), None);
            };
            let waited = tokio::time::timeout(Duration::from_secs(5), nothing).await;
            waited.expect("nobody waits for nothing");
            if is_there {
                put(&store, &[("a", "1")]).await;
                assert_eq!(store.get("a").await.unwrap().unwrap(), &b"1"[..]);
                assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
            }
        }
    });
}

#[test]
fn a_value_over_the_cap_is_corrupt_when_read_and_a_page_of_scan_ends_at_zero() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.max_value_bytes = 3;
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("fits", "123"), ("over", "1234")]).await;
        assert_eq!(store.get("fits").await.unwrap().unwrap(), &b"123"[..]);
        assert_eq!(store.get("over").await.unwrap_err().kind(), Kind::Corrupt);
        let (mut cursor, mut keys) = (0, Vec::new());
        loop {
            let (next, page) = store
                .scan(cursor, b"nano_graphrag:docs:*", 1)
                .await
                .unwrap();
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(keys.len(), 2);
    });
}

#[test]
fn statistics_count_keys_and_memory_and_light_ones_sample_nothing() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let stats = store.stats(false).await.unwrap();
        assert_eq!((stats.key_count, stats.load.connections), (2, 1));
        assert!(stats.sample_memory_usage.unwrap() > 0);
        assert!(stats.total_redis_memory.unwrap() > 100_000);
        let light = store.stats(true).await.unwrap();
        assert_eq!(
            (
                light.key_count,
                light.sample_memory_usage,
                light.total_redis_memory
            ),
            (2, None, None)
        );
    });
}

#[test]
fn a_thread_that_drives_keeps_one_connection_and_hands_it_on_when_it_is_done() {
    let server = Server::start(&binaries()[0]);
    let (runtime, store) = (runtime(), server.store("docs"));
    for _ in 0..3 {
        let reactor = reactor();
        drive(&runtime, &reactor, async {
            put(&store, &[("a", "1")]).await;
            assert_eq!(store.get("a").await.unwrap().unwrap(), &b"1"[..]);
        });
        assert_eq!(reactor.connections().len(), 1);
        drop(reactor);
        let stats = runtime.block_on(store.stats(true)).unwrap();
        assert_eq!(
            stats.load.connections, 2,
            "the direct connection, and the pool's for the statistics"
        );
    }
}

#[test]
fn a_cap_of_one_connection_leaves_it_to_the_pool() {
    let server = Server::start(&binaries()[0]);
    let mut config = server.config();
    config.max_connections = 1;
    let config = StoreConfig::new(config, "docs").unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    let reactor = reactor();
    drive(&runtime(), &reactor, put(&store, &[("a", "1")]));
    assert!(reactor.connections().is_empty());
}

#[test]
fn a_repaired_registry_holds_exactly_what_has_a_value() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.registry = true;
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1"), ("gone", "2")]).await;
        assert_eq!(store.stats(true).await.unwrap().key_count, 2);
        assert_eq!(server.say("SET nano_graphrag:docs:foreign 3"), "+OK\r\n");
        assert_eq!(server.say("DEL nano_graphrag:docs:gone"), ":1\r\n");
        let repair = store.repair_registry().await.unwrap();
        assert_eq!((repair.added, repair.removed), (1, 1));
        let mut left = store.all_keys().await.unwrap();
        left.sort();
        assert_eq!(left, ids(&["a", "foreign"]));
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
        assert_eq!(server.say("ZCARD nano_graphrag:@registry:docs"), ":1\r\n");
    });
}

#[test]
fn what_is_written_by_who_keeps_no_registry_is_listed_by_who_does() {
    on_each_server(async |server| {
        let of = |registry| {
            let mut config = StoreConfig::new(server.config(), "docs").unwrap();
            config.registry = registry;
            KvStore::new(config, &SharedConnections::default())
        };
        let (keeps, keeps_none) = (of(true), of(false));
        put(&keeps, &[("a", "1")]).await;
        assert_eq!(keeps.all_keys().await.unwrap(), ids(&["a"]));
        put(&keeps_none, &[("b", "2")]).await;
        // Another run, which trusts no more than what it finds.
        let mut listed = of(true).all_keys().await.unwrap();
        listed.sort();
        assert_eq!(listed, ids(&["a", "b"]));
    });
}

#[test]
fn compressing_a_large_value_leaves_other_calls_their_turn() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.compression = Compression::new("zstd", 0, Some(19)).unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    let text = (0..30_000).map(|n| n.to_string()).collect::<Vec<_>>();
    let text = text.join(" ghosts, ");
    // With one thread, whatever keeps it from the sockets keeps everyone waiting.
    let runtime = runtime();
    let large = Arc::clone(&store);
    let write = runtime.spawn(async move { put(&large, &[("large", &text)]).await });
    let reads = runtime.spawn(async move {
        for _ in 0..10 {
            store.get("small").await.unwrap();
        }
        write.is_finished()
    });
    assert!(!runtime.block_on(reads).unwrap());
}

/// A store over this server that keeps a registry.
fn registering(server: &Server) -> Arc<KvStore> {
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.registry = true;
    KvStore::new(config, &SharedConnections::default())
}

const REGISTRY: &str = "nano_graphrag:@registry:docs";

/// What it has told of this.
fn told(store: &KvStore, event: Event) -> usize {
    let notices = store.notices();
    let told = notices.iter().filter(|notice| notice.event == event);
    told.count()
}

#[test]
fn what_has_expired_is_swept_page_by_page_after_a_write() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    (config.registry, config.ttl) = (true, NonZeroU64::new(1_000));
    let store = KvStore::new(config, &SharedConnections::default());
    let expired: Vec<_> = (0..2_500).map(|number| format!("1000 {number}")).collect();
    let zadd = format!("ZADD {REGISTRY} {}", expired.join(" "));
    assert_eq!(server.say(&zadd), ":2500\r\n");
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let swept = async || server.say(&format!("ZCARD {REGISTRY}")) == ":1\r\n";
        wait_for("all are swept", swept).await;
    });
}

#[test]
fn a_registry_in_order_has_no_drift_and_one_of_many_pages_is_looked_at_to_its_end() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    runtime().block_on(async {
        put(&store, &[("a", "1"), ("b", "2")]).await;
        store.all_keys().await.unwrap();
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (0, 0));
        let gone: Vec<_> = (0..9_000).map(|number| format!("9e15 {number}")).collect();
        for gone in gone.chunks(3_000) {
            let zadd = format!("ZADD {REGISTRY} {}", gone.join(" "));
            assert_eq!(server.say(&zadd), ":3000\r\n");
        }
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (0, 9_000));
    });
}

#[test]
fn a_full_server_deletes_and_drops_what_is_registered_and_has_it_swept_after_that() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    let fill = || {
        let said = server.say("INFO memory");
        let used = said.split_once("used_memory:").unwrap().1;
        let used: u64 = used.lines().next().unwrap().parse().unwrap();
        let full = used - (1 << 20);
        let said = server.say(&format!("CONFIG SET maxmemory {full}"));
        assert_eq!(said, "+OK\r\n");
        assert!(server.say("SET x 1").starts_with("-OOM"));
    };
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    let members = || server.say(&format!("ZCARD {REGISTRY}"));
    runtime().block_on(async {
        put(&store, &[("a", &large), ("b", &large), ("c", &large)]).await;
        assert_eq!(store.all_keys().await.unwrap().len(), 3);
        fill();
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(members(), ":3\r\n", "b, c and the token");
        fill();
        store.drop_all().await.unwrap();
        assert_eq!(members(), ":1\r\n", "the token");
    });
}

#[test]
fn whoever_may_not_write_the_registry_walks_over_the_keys_and_says_so_once() {
    let server = Server::start(&binaries()[0]);
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1"), ("b", "2")]).await;
        server.say("ACL SETUSER default -zadd");
        let store = registering(&server);
        for _ in 0..2 {
            let mut listed = store.all_keys().await.unwrap();
            listed.sort();
            assert_eq!(listed, ids(&["a", "b"]));
            assert_eq!(store.stats(true).await.unwrap().key_count, 2);
        }
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":0\r\n");
        assert_eq!(told(&store, Event::RegistryRefused), 1);
        // One that is there is read all the same, and swept by a later listing.
        server.say("ACL SETUSER default +zadd");
        let store = registering(&server);
        put(&store, &[("a", "1"), ("gone", "2")]).await;
        assert_eq!(store.all_keys().await.unwrap().len(), 2);
        server.say("DEL nano_graphrag:docs:gone");
        server.say("ACL SETUSER default -zadd");
        assert_eq!(store.all_keys().await.unwrap(), ids(&["a"]));
        assert_eq!(told(&store, Event::RegistryRefused), 0);
        server.say("ACL SETUSER default +zadd");
        assert_eq!(store.all_keys().await.unwrap(), ids(&["a"]));
        assert_eq!(server.say(&format!("ZCARD {REGISTRY}")), ":2\r\n");
    });
}

#[test]
fn a_registry_that_fails_for_another_reason_is_an_error_and_no_walk() {
    let words = ["--rename-command", "ZADD", "zadd_by_another_name"];
    let server = Server::start_with(&binaries()[0], &words);
    let store = registering(&server);
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1")]).await;
        for adopted in [false, true] {
            if adopted {
                // Said to hold all, and holding what is gone.
                let add = format!("zadd_by_another_name {REGISTRY} +inf \"\\xff0\" 9e15 gone");
                assert_eq!(server.say(&add), ":2\r\n");
            } else {
                assert!(store.stats(true).await.is_err());
                assert!(store.drop_all().await.is_err());
            }
            let error = store.all_keys().await.unwrap_err();
            assert!(error.to_string().contains("ZADD"), "{error}");
        }
        assert_eq!(told(&store, Event::RegistryRefused), 0);
    });
}

#[test]
fn a_value_that_is_set_and_not_registered_is_a_failure() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    assert_eq!(server.say(&format!("SET {REGISTRY} x")), "+OK\r\n");
    runtime().block_on(async {
        let mut batch = Batch::new(0);
        batch.add(&store, "a".to_owned(), b"1").unwrap();
        let error = store.upsert(batch).await.1.unwrap_err();
        assert_eq!(error.kind(), Kind::Operation, "{error}");
    });
}

#[test]
fn whoever_keeps_no_registry_leaves_anothers_alone_and_tells_of_it_if_there_is_one() {
    let server = Server::start(&binaries()[0]);
    runtime().block_on(async {
        let plain = server.store("docs");
        put(&plain, &[("a", "1")]).await;
        assert_eq!(told(&plain, Event::RegistryUnknown), 0);
        let keeps = registering(&server);
        assert_eq!(keeps.all_keys().await.unwrap(), ids(&["a"]));
        let plain = server.store("docs");
        let score = format!("ZSCORE {REGISTRY} a");
        let registered = server.say(&score);
        put(&plain, &[("b", "2")]).await;
        assert_eq!(told(&plain, Event::RegistryUnknown), 1);
        assert_eq!(plain.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(server.say(&score), registered);
    });
}

/// The settings of a store whose user may do all but these commands.
fn user_without(server: &Server, denied: &str) -> StoreConfig {
    let said = server.say(&format!("ACL SETUSER worker on >x ~* &* +@all {denied}"));
    assert_eq!(said, "+OK\r\n");
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.server.credentials.username = Some("worker".to_owned());
    config.server.credentials.password = Some("x".to_owned());
    config
}

#[test]
fn a_key_of_any_namespace_is_read_and_an_absent_one_is_none() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&server.store("other"), &[("a", "1")]).await;
        let read = async |key: &[u8]| store.get_key(key).await.unwrap();
        assert_eq!(read(b"nano_graphrag:other:a").await.unwrap(), &b"1"[..]);
        assert_eq!(read(b"nano_graphrag:docs:a").await, None);
        server.say("SADD set 1");
        let error = store.get_key(b"set").await.unwrap_err();
        assert_eq!((error.kind(), error.id()), (Kind::Operation, Some("set")));
    });
}

#[test]
fn what_a_user_may_not_do_is_found_out_and_leaves_nothing() {
    on_each_server(async |server| {
        let open = |config| KvStore::new(config, &SharedConnections::default());
        let all = open(user_without(server, ""));
        assert_eq!(all.forbidden().await.unwrap(), [] as [&str; 0]);
        let less = open(user_without(server, "-get -memory -xadd -exec"));
        let forbidden = less.forbidden().await.unwrap();
        assert_eq!(forbidden, ["get", "memory|usage", "xadd", "exec"]);
        assert_eq!(server.say("DBSIZE"), ":0\r\n");
    });
}

#[test]
fn who_may_not_ask_for_the_memory_still_is_told_the_rest() {
    on_each_server(async |server| {
        let config = user_without(server, "-info -memory");
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let stats = store.stats(false).await.unwrap();
        assert_eq!(stats.key_count, 2);
        assert_eq!(stats.total_redis_memory, None);
        assert_eq!(stats.sample_memory_usage, None);
    });
}

#[test]
fn a_drop_that_is_refused_fails_though_the_mark_of_a_replacement_can_be_taken_away() {
    on_each_server(async |server| {
        for deferred_drop in [false, true] {
            let mut config = user_without(server, "-scan");
            config.deferred_drop = deferred_drop;
            let store = KvStore::new(config, &SharedConnections::default());
            put(&store, &[("a", "1")]).await;
            server.say("SET nano_graphrag:@swap:docs x");
            assert_eq!(store.drop_all().await.unwrap_err().kind(), Kind::Operation);
            server.say("ACL SETUSER worker +scan");
            store.drop_all().await.unwrap();
            let left = server.say("EXISTS nano_graphrag:@swap:docs");
            assert_eq!(left, format!(":{}\r\n", u8::from(!deferred_drop)));
        }
    });
}

#[test]
fn a_limit_counts_each_call_once_and_sends_its_script_where_it_is_not_known() {
    on_each_server(async |server| {
        let store = server.store("docs");
        // A second between two, one at once; no tokens, no slots, a worker, and any wait.
        let words = "reserve 1000000 1 0 0 0 0 slot 1000000 worker 60000000 0";
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        let mut starts = Vec::new();
        for _ in 0..3 {
            let told = store.limit("x", &words).await.unwrap();
            let [status, _, start, workers] = *told else {
                panic!("{told:?}");
            };
            assert_eq!((status, workers), (1, 1));
            starts.push(start);
        }
        assert!(starts.windows(2).all(|two| two[1] - two[0] == 1_000_000));
        let said = server.say("INFO commandstats");
        assert!(said.contains("cmdstat_eval:calls=1,"), "{said}");
        assert!(said.contains("cmdstat_evalsha:calls=3,"), "{said}");
    });
}

#[test]
fn those_are_counted_whose_time_to_live_is_taken_from_them() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
        server.say("EXPIRE nano_graphrag:docs:a 1000");
        server.say("EXPIRE nano_graphrag:docs:b 1000");
        let all = ids(&["a", "b", "c", "none"]);
        for count in [2, 0] {
            assert_eq!(store.persist(all.clone()).await.unwrap(), count);
        }
    });
}

#[test]
fn a_registry_of_a_full_server_forgets_what_is_deleted_without_a_mark() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.registry = true;
        let store = KvStore::new(config, &SharedConnections::default());
        let registered = || server.say("ZCARD nano_graphrag:@registry:docs");
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        put(&store, &[("a", "1"), ("b", &large), ("c", &large)]).await;
        assert_eq!(store.stats(true).await.unwrap().key_count, 3);
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(registered(), ":3\r\n"); // with what says that it is whole
        let fill = || {
            let said = server.say("INFO memory");
            let used = said
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"));
            let used: usize = used.unwrap().parse().unwrap();
            server.say(&format!("CONFIG SET maxmemory {}", used - large.len() / 2))
        };
        assert_eq!(fill(), "+OK\r\n");
        assert_eq!(store.delete(ids(&["b"])).await.unwrap(), 1);
        assert_eq!(registered(), ":2\r\n");
        assert_eq!(fill(), "+OK\r\n");
        store.drop_all().await.unwrap();
        assert_eq!(registered(), ":1\r\n");
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
    });
}

/// A port that leads to the server, which loses its registry whenever a page of that is asked for.
fn losing_its_registry(server: &Server) -> u16 {
    let (listener, at) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), connected(at));
            let (mut back, mut there) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut there));
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut asked) {
                    let asked = &asked[..length];
                    if asked.windows(5).any(|word| word == b"ZSCAN") {
                        let mut other = connected(at);
                        write!(other, "DEL {REGISTRY}\r\n").unwrap();
                        assert_eq!(other.read(&mut [0; 4]).unwrap(), 4);
                    }
                    server.write_all(asked).unwrap();
                }
            });
        }
    });
    port
}

fn connected(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

#[test]
fn a_registry_that_is_lost_whenever_it_is_read_is_given_up_after_eight_times() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.registry = true;
    let url = format!("redis://127.0.0.1:{}", losing_its_registry(&server));
    config.server.endpoint = Endpoint::parse(&url).unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1")]).await;
        let listed = tokio::time::timeout(Duration::from_secs(20), store.all_keys());
        let error = listed.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("was lost 8 times"), "{error}");
        assert_eq!(calls(&server, "zscan"), 8);
    });
}
